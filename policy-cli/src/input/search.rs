//! Whether files and folders that are not read hold objects that decide, or may.
//!
//! - Manifests are read.
//! - Archives and files with other endings are searched for the words of objects.
//! - Pointers and encrypted files may hold anything.
//! - Folders are searched up to a limit; beyond it they may hold anything.

use std::path::{Path, PathBuf};

use policy_core::manifest::{Loader, Syntax};
use policy_input::files::{beginning, is_manifest, regular_content};
use policy_input::sources::other::{Other, other};

use super::left_out::Kind;
use super::unreadable::{Content, content, holds_no_object};

/// Bytes of a file that is no manifest that are searched.
const SEARCHED: u64 = 16 << 20;
/// Bytes that show whether a file is binary, as in Git.
const HEAD: u64 = 8000;
/// Entries of all folders that are searched.
const MOST_ENTRIES: usize = 50_000;
/// Folders that are not searched: what Git keeps, and packages of JavaScript, which are no part of a deployment.
const NOT_SEARCHED: [&str; 2] = [".git", "node_modules"];

/// A search through files and folders.
pub(super) struct Search {
    /// The largest size of a manifest.
    limit: u64,
    /// How many more entries are looked at.
    entries: usize,
}

impl Search {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, entries: MOST_ENTRIES }
    }

    /// Whether a file, or a file in a folder, may hold or make an object that decides.
    pub(super) fn finds(&mut self, path: &Path) -> bool {
        let mut todo: Vec<PathBuf> = vec![path.to_owned()];
        while let Some(path) = todo.pop() {
            if NOT_SEARCHED.iter().any(|name| path.file_name().is_some_and(|own| own == *name)) {
                continue;
            }
            if !path.is_dir() {
                if may_decide(&path, self.limit) {
                    return true;
                }
                continue;
            }
            let Ok(entries) = std::fs::read_dir(&path) else { return true };
            // A link to a folder could lead anywhere, and back.
            let below = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| !(path.is_symlink() && path.is_dir()));
            let known = todo.len();
            todo.extend(below.take(self.entries + 1));
            let Some(rest) = self.entries.checked_sub(todo.len() - known) else { return true };
            self.entries = rest;
        }
        false
    }
}

/// Whether an archive is that of a Helm chart.
pub(super) fn is_chart_archive(path: &Path) -> bool {
    other(path) == Some(Other::Archive) && regular_content(path, SEARCHED).is_ok_and(|bytes| contains(&bytes, b"/Chart.yaml"))
}

/// What a file is whose content cannot be seen in it, whatever its name is: a pointer, or encrypted.
pub(super) fn stand_in(path: &Path) -> Option<Kind> {
    let kind = |limit: u64| match content(&beginning(path, limit).unwrap_or_default()) {
        Content::Pointer => Ok(Kind::Pointer),
        Content::Encrypted(_) => Ok(Kind::Encrypted),
        other => Err(other),
    };
    match kind(HEAD) {
        Ok(kind) => Some(kind),
        // What SOPS adds is at the end.
        Err(Content::Text) => kind(SEARCHED).ok(),
        Err(_) => None,
    }
}

/// Whether a file may hold or make an object that decides.
fn may_decide(path: &Path, limit: u64) -> bool {
    match other(path) {
        None => false,
        Some(Other::Helmfile | Other::Encrypted) => true,
        Some(_) if stand_in(path).is_some() => true,
        Some(_) if is_manifest(path) => could_decide(path, limit),
        Some(Other::Archive) => archive_decides(path),
        Some(Other::Template) => could_decide(path, limit) || includes(path),
        Some(Other::Language) => beginning(path, SEARCHED).is_ok_and(|text| makes_objects(&text)),
        Some(Other::Text) => has_objects(path) && could_decide(path, limit),
    }
}

/// Whether a file has objects that decide, or may have. What cannot be read may.
pub(super) fn could_decide(file: &Path, limit: u64) -> bool {
    let Ok(bytes) = regular_content(file, limit) else { return true };
    match content(&bytes) {
        Content::Encrypted(_) | Content::Pointer => return true,
        Content::Binary | Content::Empty => return false,
        Content::Text if holds_no_object(&bytes) => return false,
        Content::Text => {}
    }
    let mut loader = Loader::new(Syntax::Legacy).with_expected_pods();
    loader.read("", &bytes);
    let found = loader.finish();
    let is_empty = found.policies.is_empty()
        && found.workloads.is_empty()
        && found.namespaces.is_empty()
        && found.nodes.is_empty()
        && found.services.is_empty()
        && found.makers.is_empty()
        && found.foreign.is_empty();
    !is_empty || found.has_errors()
}

/// Whether a file has the words of objects. Binary files are not read further than that shows.
fn has_objects(path: &Path) -> bool {
    let is_compressed = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    if is_compressed {
        return regular_content(path, SEARCHED).is_ok_and(|bytes| says_what_it_is(&bytes));
    }
    let is_binary = |head: Vec<u8>| matches!(content(&head), Content::Binary);
    beginning(path, HEAD).is_ok_and(|head| !is_binary(head)) && beginning(path, SEARCHED).is_ok_and(|text| says_what_it_is(&text))
}

/// Whether an archive may hold manifests. Names are readable in a `.zip`, and everything is in a `.tar`.
fn archive_decides(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    match ending.as_str() {
        "tar" | "tgz" | "gz" => {
            regular_content(path, SEARCHED).map_or(true, |bytes| says_what_it_is(&bytes) || contains(&bytes, b"/Chart.yaml"))
        }
        "zip" => {
            let names: [&[u8]; 3] = [b".yaml", b".yml", b".json"];
            beginning(path, SEARCHED).is_ok_and(|bytes| names.iter().any(|name| contains(&bytes, name)))
        }
        "tbz" | "txz" => true,
        _ => {
            path.file_stem().map(Path::new).is_some_and(|stem| is_manifest(stem) || stem.extension().is_some_and(|e| e == "tar"))
        }
    }
}

/// Whether a template can take objects from other files.
fn includes(path: &Path) -> bool {
    regular_content(path, SEARCHED).is_ok_and(|text| [&b"{{"[..], b"{%", b"<%"].iter().any(|start| contains(&text, start)))
}

/// Whether a text has the fields that every object has.
fn says_what_it_is(text: &[u8]) -> bool {
    contains(text, b"apiVersion") && contains(text, b"kind")
}

/// Whether a text in another language makes objects, or policies by the name that a library has for them.
fn makes_objects(text: &[u8]) -> bool {
    let lower = text.to_ascii_lowercase();
    says_what_it_is(text) || [&b"networkpolicy"[..], b"network_policy"].iter().any(|name| contains(&lower, name))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
