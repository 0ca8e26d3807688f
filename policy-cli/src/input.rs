//! Finds and reads files, what kustomize and helm print, and the live cluster.
//!
//! Nothing is printed here but progress: what is found is returned.
//!
//! - `cluster`: the live cluster.
//! - `config`: `netpol.toml`.
//! - `edits`: the edits of findings, applied to files.
//! - `empty`: input without a single object.
//! - `excerpts`: the lines that findings point at.
//! - `left_out`: what was not read, and could hold objects.
//! - `pipes`: what to install or to pipe where a source cannot be rendered.
//! - `places`: where the objects of rendered input come from.
//! - `search`: whether what is not read holds objects.
//! - `sources`: what the arguments name.
//! - `unreadable`: files that cannot be read.

pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod edits;
pub(crate) mod empty;
pub(crate) mod excerpts;
pub(crate) mod left_out;
pub(crate) mod pipes;
pub(crate) mod places;
mod search;
mod sources;
mod unreadable;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use policy_core::diagnostic::Severity;
use policy_core::manifest::{Loader, Snapshot, Syntax};
use policy_input::files::{content, regular_content};
use policy_lint::suppression::{Comment, comments};

use crate::args::InputArgs;
use crate::output::progress::progress;

use config::Part;
use excerpts::Excerpts;
use left_out::{Kind, LeftOut};
use places::Places;
use sources::{Piece, Sources, sources};
use unreadable::Content;

/// The objects of all files, and the findings about them.
pub(crate) struct Input {
    pub snapshot: Snapshot,
    pub excerpts: Excerpts,
    /// Where objects of rendered input come from.
    pub places: Places,
    /// What there is to say about the sources: what could not be read of a live cluster, and what was built.
    pub notes: Vec<String>,
    /// What was not read, and could change answers.
    pub left_out: Vec<LeftOut>,
    /// What could not be read of a live cluster, and what charts ask one, in sentences.
    pub missing: Vec<String>,
    pub files: usize,
    /// Comments that accept findings.
    pub comments: Vec<Comment>,
    /// Where the objects come from, in the order in which they were read.
    pub read_from: Vec<ReadFrom>,
    /// The namespace of the deployment, or of a live cluster's context.
    pub namespace: Option<String>,
}

/// Where objects come from.
pub(crate) struct ReadFrom {
    /// The name that places in it have.
    pub name: String,
    /// The file; `None` for standard input and a live cluster. What was rendered has that of the kustomization or the chart.
    pub file: Option<PathBuf>,
    /// Whether places in it are those of rendered text, and not of the file.
    pub is_rendered: bool,
}

/// The pods that count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Those that an agent would see.
    Real,
    /// Those that the input is certain to lead to as well (S2.22, S2.23).
    Expected,
}

/// Reads everything that the arguments name, in the order named; folders in the order of their paths.
pub(crate) fn read(args: &InputArgs, stored: Option<&Path>, counted: Counted) -> Result<Input> {
    let (parts, note) = config::parts(args)?;
    let mut sources = sources(&parts)?;
    sources.notes.splice(0..0, note);
    let files = sources.count();
    let read_from = sources.pieces.iter().flat_map(Piece::read_from).collect();
    let pieces = std::mem::take(&mut sources.pieces);
    let namespaces = std::mem::take(&mut sources.namespaces);
    let mut reading = Reading::new(args, &parts, counted, sources);
    if let Some(path) = stored {
        reading.stored(path)?;
    }
    let progress = progress(pieces.len());
    for (piece, namespace) in pieces.into_iter().zip(namespaces) {
        progress.set_message(piece.name());
        reading.piece(piece, namespace)?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    reading.finish(files, read_from)
}

/// What has been read so far.
struct Reading<'a> {
    args: &'a InputArgs,
    parts: &'a [Part],
    loader: Loader,
    /// The largest size of a file.
    limit: u64,
    found: Sources,
    excerpts: Excerpts,
    places: Places,
    /// What could not be read of a live cluster, and what charts ask one.
    missing: Vec<String>,
    namespace: Option<String>,
    /// Files without an object, whatever else is wrong with them.
    without_objects: BTreeSet<String>,
    /// Comments that accept findings.
    comments: Vec<Comment>,
}

impl<'a> Reading<'a> {
    fn new(args: &'a InputArgs, parts: &'a [Part], counted: Counted, mut found: Sources) -> Self {
        let missing = std::mem::take(&mut found.missing);
        let loader = Loader::new(syntax(args)).with_places();
        Self {
            args,
            parts,
            loader: if counted == Counted::Expected { loader.with_expected_pods() } else { loader },
            limit: args.max_size.saturating_mul(1 << 20),
            found,
            excerpts: Excerpts::default(),
            places: Places::default(),
            missing,
            namespace: config::namespace(args, parts),
            without_objects: BTreeSet::new(),
            comments: Vec::new(),
        }
    }

    fn stored(&mut self, path: &Path) -> Result<()> {
        let bytes = content(path, self.limit).with_context(|| format!("cannot read `{}`", path.display()))?;
        self.loader.read_stored(&bytes);
        Ok(())
    }

    /// Reads one piece; `namespace` is that of its objects without one.
    fn piece(&mut self, piece: Piece, namespace: Option<String>) -> Result<()> {
        let name = piece.name();
        let namespace = namespace.or_else(|| self.namespace.clone());
        self.loader.set_namespace(namespace.as_deref());
        match piece {
            Piece::Live => {
                let live = cluster::read(&self.args.cluster)?;
                self.missing.extend(live.notes());
                // The API server accepted the objects of a cluster, possibly under older rules.
                self.loader.read_live(Syntax::Legacy, cluster::PLACE, &live.text);
                self.namespace.get_or_insert(live.namespace);
            }
            Piece::Named(path) => self.file(&name, content(&path, self.limit)),
            Piece::Found(path) => match regular_content(&path, self.limit) {
                Err(error) if error.kind() == ErrorKind::NotFound && path.is_symlink() => {
                    self.found.left_out.push(LeftOut::new(Kind::Link, &path));
                }
                read => self.file(&name, read),
            },
            Piece::Rendered { rendered, .. } => {
                let text = self.places.take(&name, rendered);
                self.text(&name, text);
            }
        }
        Ok(())
    }

    fn file(&mut self, name: &str, read: std::io::Result<Vec<u8>>) {
        match read {
            Err(error) => self.loader.report(unreadable::unopened(name, &error)),
            Ok(bytes) => match unreadable::content(&bytes) {
                Content::Text => self.text(name, bytes),
                content => self.no_text(name, content),
            },
        }
    }

    fn no_text(&mut self, name: &str, content: Content) {
        let kind = match content {
            Content::Encrypted(_) => Some(Kind::Encrypted),
            Content::Pointer => Some(Kind::Pointer),
            Content::Empty => Some(Kind::Empty),
            Content::Binary | Content::Text => None,
        };
        self.found.left_out.extend(kind.map(|kind| LeftOut::new(kind, Path::new(name))));
        self.without_objects.insert(name.to_owned());
        if let Some(finding) = unreadable::no_manifest(name, content) {
            self.loader.report(finding);
        }
    }

    fn text(&mut self, name: &str, bytes: Vec<u8>) {
        let before = self.loader.diagnostics().len();
        self.loader.read(name, &bytes);
        if let Some(encrypted) = unreadable::encrypted(name, &bytes) {
            self.loader.report(encrypted);
        }
        let found = self.loader.diagnostics().get(before..).unwrap_or_default();
        let mut errors = found.iter().filter(|found| found.is_error()).peekable();
        if errors.peek().is_some() && errors.all(unreadable::is_about_text) && unreadable::holds_no_object(&bytes) {
            self.without_objects.insert(name.to_owned());
        }
        self.comments.extend(std::str::from_utf8(&bytes).iter().flat_map(|text| comments(name, text)));
        self.excerpts.take(name, bytes, found);
    }

    fn finish(self, files: usize, read_from: Vec<ReadFrom>) -> Result<Input> {
        let Self { args, parts, loader, found, mut excerpts, places, missing, namespace, without_objects, comments, .. } = self;
        let mut snapshot = loader.finish();
        snapshot.unread.retain(|unread| !without_objects.contains(&unread.file));
        let is_empty = snapshot.workloads.is_empty()
            && snapshot.policies.is_empty()
            && snapshot.foreign.is_empty()
            && snapshot.makers.is_empty();
        if let Some(refusal) = found.refusal(parts).filter(|_| is_empty && !snapshot.has_errors()) {
            bail!("{refusal}");
        }
        // Of files alone that cannot be read, nothing is known.
        let is_forgiven = |file: &str| without_objects.contains(file);
        let severity = if snapshot.objects > 0 { Severity::Warning } else { Severity::Error };
        unreadable::judge(&mut snapshot.diagnostics, severity, is_forgiven);
        policy_lint::check(&mut snapshot);
        forget_lines(&mut snapshot);
        places.apply(&mut snapshot, syntax(args));
        excerpts.complete(&snapshot.diagnostics);
        let Sources { mut left_out, notes, .. } = found;
        left_out.sort_by(|a, b| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
        Ok(Input { snapshot, excerpts, places, notes, left_out, missing, files, read_from, comments, namespace })
    }
}

/// Whether a file has objects that decide, or may have, and can be read.
pub(crate) fn holds_objects(file: &Path) -> bool {
    let is_text = |bytes: Vec<u8>| unreadable::content(&bytes) == Content::Text;
    regular_content(file, u64::MAX).map_or(true, is_text) && search::could_decide(file, u64::MAX)
}

fn syntax(args: &InputArgs) -> Syntax {
    if args.legacy_cidrs { Syntax::Legacy } else { Syntax::Strict }
}

/// Objects of a live cluster have no file and no line.
fn forget_lines(snapshot: &mut Snapshot) {
    let is_live = |file: &str| file == cluster::PLACE;
    for policy in snapshot.policies.values_mut() {
        policy.origin.take_if(|origin| is_live(&origin.file));
    }
    for diagnostic in &mut snapshot.diagnostics {
        let related = diagnostic.related.iter_mut().filter_map(|related| related.place.as_mut());
        for place in diagnostic.place.iter_mut().chain(related).filter(|place| is_live(&place.file)) {
            place.position = None;
        }
        diagnostic.edit.take_if(|edit| is_live(&edit.file));
    }
    for foreign in snapshot.foreign.iter_mut().filter(|foreign| is_live(&foreign.origin.file)) {
        foreign.origin.line = 0;
    }
    for unread in snapshot.unread.iter_mut().filter(|unread| is_live(&unread.file)) {
        unread.line = 0;
    }
    for maker in snapshot.makers.iter_mut().filter(|maker| is_live(&maker.origin.file)) {
        maker.origin.line = 0;
    }
}

fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    text.strip_prefix("./").map(str::to_owned).unwrap_or(text)
}
