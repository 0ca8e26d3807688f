//! The state and the contents of one file.

use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::LazyLock;

use policy_core::diagnostic::Diagnostic;
use policy_core::diagnostic::rules::objects::WRONG_NAME_LABEL;

use super::stamp::Stamp;
use super::{describe, read_alone};

/// A file that is empty on purpose.
pub(super) const NOTHING: &str = "`{apiVersion: v1, kind: List, items: []}`";

/// Errors that come back as long as the file stays the same: reading a large one again and again would only cost time.
const FINAL: [ErrorKind; 5] =
    [ErrorKind::FileTooLarge, ErrorKind::InvalidData, ErrorKind::InvalidInput, ErrorKind::UnexpectedEof, ErrorKind::Unsupported];

/// Only contents of one run are compared, and nobody can search for a collision.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What was found where a file is.
pub(super) enum Content {
    /// Its bytes and their hash.
    Bytes(Vec<u8>, u64),
    /// Why there are none, and whether that is as long as the file stays the same.
    Nothing { why: String, is_final: bool },
    /// Its contents never settle.
    Moving,
}

impl Content {
    pub(super) fn of(path: &Path, limit: u64) -> Self {
        match policy_input::files::regular_content(path, limit) {
            Ok(bytes) => {
                let hash = HASHER.hash_one(&bytes);
                Self::Bytes(bytes, hash)
            }
            Err(error) => {
                let what = match error.kind() {
                    ErrorKind::FileTooLarge => "split it",
                    ErrorKind::Unsupported => "remove or rename it",
                    _ => "fix or remove it",
                };
                let is_final = FINAL.contains(&error.kind());
                Self::Nothing { why: format!("cannot read the file: {error}; {what}"), is_final }
            }
        }
    }

    pub(super) fn moving() -> Self {
        Self::Moving
    }

    pub(super) fn hash(&self) -> Option<u64> {
        match self {
            Self::Bytes(_, hash) => Some(*hash),
            Self::Nothing { .. } | Self::Moving => None,
        }
    }
}

/// What is known of one file.
#[derive(Default)]
pub(super) struct File {
    /// What it looked like when it was read.
    pub(super) stamp: Stamp,
    /// The hash of what was read; `None` when nothing was.
    hash: Option<u64>,
    /// The look in which it is to be read again, though it looks the same.
    again: Option<u32>,
    /// Its last good contents, or its current contents if it never was good.
    bytes: Vec<u8>,
    /// How many objects stand in these bytes.
    objects: usize,
    /// Why its contents are not used.
    problems: Vec<String>,
    /// Whether it never was good, and has contents that cannot be read as an object.
    is_lost: bool,
    moves: bool,
}

impl File {
    /// What is known after reading, and whether that is new.
    pub(super) fn take(known: Option<Self>, path: &Path, content: Content, stamp: Stamp, again: u32) -> (Self, bool) {
        if let Some(same) = known.as_ref().filter(|file| content.hash().is_some() && file.hash == content.hash() && !file.moves) {
            // One that was read again, and is what it was, has settled.
            let is_settled = same.stamp == stamp;
            return (Self { stamp, again: (!is_settled).then_some(again), ..known.unwrap_or_default() }, false);
        }
        let is_final = matches!(content, Content::Nothing { is_final: true, .. });
        let is_over = is_final && known.as_ref().is_some_and(|file| file.stamp == stamp);
        let before = known.as_ref().map(|file| (file.hash, file.problems.clone()));
        let kept = known.filter(|file| !file.is_lost);
        let mut file = Self { stamp, hash: content.hash(), again: (!is_over).then_some(again), ..Self::default() };
        match content {
            Content::Bytes(bytes, _) => file.read(path, bytes, kept.as_ref().map_or(0, |file| file.objects)),
            Content::Nothing { why, .. } => file.set_aside(path, &why),
            Content::Moving => {
                file.moves = true;
                file.set_aside(path, "it changes all the time");
            }
        }
        if !file.problems.is_empty()
            && let Some(kept) = kept
        {
            (file.bytes, file.objects, file.is_lost) = (kept.bytes, kept.objects, false);
        }
        let is_news = before.is_none_or(|(hash, problems)| (hash, &problems) != (file.hash, &file.problems));
        (file, is_news)
    }

    fn read(&mut self, path: &Path, bytes: Vec<u8>, objects_before: usize) {
        let snapshot = read_alone(path, &bytes);
        let errors: Vec<&Diagnostic> = snapshot.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).collect();
        self.problems = errors.iter().map(|error| describe(error)).collect();
        self.is_lost = errors.iter().any(|error| hides_an_object(error));
        self.objects = snapshot.objects;
        self.bytes = bytes;
        if snapshot.is_blank() {
            self.set_aside(path, &format!("it is empty; if this is intended, delete it, or write {NOTHING}"));
        } else if self.objects == 0 && objects_before > 0 && errors.is_empty() {
            self.set_aside(
                path,
                &format!("it no longer holds a Kubernetes object; if this is intended, delete it, or write {NOTHING}"),
            );
        }
    }

    fn set_aside(&mut self, path: &Path, why: &str) {
        self.problems.push(format!("{}: {why}; the last good contents stay in force", path.display()));
        self.is_lost = true;
    }

    /// Whether it is to be read again in this look.
    pub(super) fn is_due(&self, look: u32) -> bool {
        self.again.is_some_and(|again| look >= again)
    }

    /// Whether it was abandoned because its contents never settle.
    pub(super) fn moves(&self) -> bool {
        self.moves
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }
}

/// Whether what is wrong leaves it open what was meant, so that it may be what was in force. An object that is known by its name is used
/// as far as it can be read, and what cannot fails closed (S1.20, S2.25).
fn hides_an_object(error: &Diagnostic) -> bool {
    let Some(object) = error.object.as_ref().filter(|object| object.name.is_some()) else { return true };
    let kind = object.kind.as_str();
    let is_elsewhere = ["", "metadata", "metadata.namespace"].contains(&error.path.as_str());
    // Selectors of namespaces may match by labels that are absent.
    let is_anything = kind == "Namespace" && error.path.starts_with("metadata.labels") && error.rule != &WRONG_NAME_LABEL;
    (is_elsewhere && kind != "Pod") || is_anything
}
