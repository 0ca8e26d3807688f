//! Finds and reads files, and the live cluster.
//!
//! Nothing is printed here but progress: what is found is returned.
//!
//! - `cluster`: the live cluster.
//! - `empty`: input without a single object.
//! - `excerpts`: the lines that findings point at.

pub(crate) mod cluster;
pub(crate) mod empty;
pub(crate) mod excerpts;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use policy_core::diagnostic::Diagnostic;
use policy_core::diagnostic::rules::files::UNREADABLE_FILE;
use policy_core::manifest::{Loader, Snapshot, Syntax};
use policy_input::files::{content, manifests_below, regular_content};

use crate::args::InputArgs;
use crate::output::progress::progress;

use excerpts::Excerpts;

/// The objects of all files, and the findings about them.
pub(crate) struct Input {
    pub snapshot: Snapshot,
    pub excerpts: Excerpts,
    /// What could not be read of a live cluster.
    pub notes: Vec<String>,
    pub files: usize,
    /// The namespace of a live cluster's context.
    pub namespace: Option<String>,
}

/// Reads everything that the arguments name, in the order named; folders in the order of their paths.
pub(crate) fn read(args: &InputArgs, stored: Option<&Path>) -> Result<Input> {
    let mut files = Vec::new();
    // A named path can be a pipe; a pipe that is merely in a directory is not read.
    let mut in_folders = BTreeSet::new();
    for path in &args.paths {
        if path == Path::new("-") {
            files.push(path.clone());
        } else if path.is_dir() {
            let found = manifests_below(path)?;
            in_folders.extend(found.iter().cloned());
            files.extend(found);
        } else if path.exists() {
            files.push(path.clone());
        } else {
            let live = if path == Path::new("cluster") { "; `--live` reads the live cluster" } else { "" };
            bail!("`{}` does not exist; specify a file, a directory, or `-` for standard input{live}", path.display());
        }
    }
    let syntax = if args.legacy_cidrs { Syntax::Legacy } else { Syntax::Strict };
    let mut loader = Loader::new(syntax).with_places();
    if let Some(namespace) = &args.namespace {
        loader = loader.with_namespace(namespace);
    }
    let limit = args.max_size.saturating_mul(1 << 20);
    if let Some(path) = stored {
        loader.read_stored(&content(path, limit).with_context(|| format!("cannot read `{}`", path.display()))?);
    }
    let mut excerpts = Excerpts::default();
    let (mut namespace, mut notes) = (None, Vec::new());
    let progress = progress(files.len());
    if args.cluster.live {
        progress.set_message("the cluster");
        let live = cluster::read(&args.cluster)?;
        notes.extend(live.notes());
        // The API server accepted the objects of a cluster, possibly under older rules.
        loader.read_live(Syntax::Legacy, cluster::PLACE, &live.text);
        if args.namespace.is_none() {
            loader = loader.with_namespace(&live.namespace);
        }
        namespace = Some(live.namespace);
    }
    for file in &files {
        let name = shown(file);
        progress.set_message(name.clone());
        let read = if in_folders.contains(file) { regular_content(file, limit) } else { content(file, limit) };
        match read {
            Ok(bytes) => {
                let before = loader.diagnostics().len();
                loader.read(&name, &bytes);
                excerpts.take(&name, bytes, loader.diagnostics().get(before..).unwrap_or_default());
            }
            Err(error) => loader.report(unreadable(&name, &error)),
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    let mut snapshot = loader.finish();
    policy_lint::check(&mut snapshot);
    forget_lines(&mut snapshot);
    excerpts.complete(&snapshot.diagnostics);
    Ok(Input { snapshot, excerpts, notes, files: files.len(), namespace })
}

fn unreadable(file: &str, error: &std::io::Error) -> Diagnostic {
    let diagnostic = Diagnostic::new(&UNREADABLE_FILE, format!("cannot read the file: {error}")).in_file(file, None);
    if error.kind() == ErrorKind::FileTooLarge { diagnostic.help("use `--max-size` to raise the limit") } else { diagnostic }
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
}

fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    text.strip_prefix("./").map(str::to_owned).unwrap_or(text)
}
