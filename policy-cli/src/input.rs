//! Finds and reads files.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use policy_core::diagnostic::{Diagnostic, Kind, Severity};
use policy_core::manifest::{Loader, Snapshot, Syntax};

use crate::args::InputArgs;
use crate::report::Excerpts;

/// What is read from folders. A file that is named is read whatever its name.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The start of a gzip stream (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What the files said.
pub(crate) struct Input {
    pub snapshot: Snapshot,
    pub excerpts: Excerpts,
    pub files: usize,
}

/// Reads everything that the arguments name, in the order named; folders in the order of their paths.
pub(crate) fn read(args: &InputArgs, stored: Option<&Path>) -> Result<Input> {
    let mut files = Vec::new();
    for path in &args.paths {
        if path == Path::new("-") {
            files.push(path.clone());
        } else if path.is_dir() {
            let mut visited = BTreeSet::new();
            walk(path, &mut visited, &mut files)?;
        } else if path.exists() {
            files.push(path.clone());
        } else {
            bail!("`{}` does not exist; name a file, a folder, or `-` for standard input", path.display());
        }
    }
    let syntax = if args.legacy_cidrs { Syntax::Legacy } else { Syntax::Strict };
    let mut loader = Loader::new(syntax);
    let limit = args.max_size.saturating_mul(1 << 20);
    if let Some(path) = stored {
        loader.read_stored(&content(path, limit).with_context(|| format!("cannot read `{}`", path.display()))?);
    }
    let mut excerpts = Excerpts::default();
    let progress = progress(files.len());
    for file in &files {
        let name = shown(file);
        progress.set_message(name.clone());
        match content(file, limit) {
            Ok(bytes) => {
                let before = loader.diagnostics().len();
                loader.read(&name, &bytes);
                excerpts.take(&bytes, loader.diagnostics().get(before..).unwrap_or_default());
            }
            Err(error) => loader.report(Diagnostic {
                severity: Severity::Error,
                kind: Kind::TooLarge,
                rule: "S1.7",
                file: name,
                position: None,
                object: String::new(),
                path: String::new(),
                message: format!("cannot read the file: {error:#}"),
                help: None,
            }),
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(Input { snapshot: loader.finish(), excerpts, files: files.len() })
}

fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    text.strip_prefix("./").map(str::to_owned).unwrap_or(text)
}

/// A bar that appears after a second, on a terminal only.
fn progress(files: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(files as u64), ProgressDrawTarget::hidden());
    if !std::io::stderr().is_terminal() {
        return bar;
    }
    if let Ok(style) = ProgressStyle::with_template("reading {pos}/{len} files {wide_msg}") {
        bar.set_style(style);
    }
    let late = bar.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        if !late.is_finished() {
            late.set_draw_target(ProgressDrawTarget::stderr());
            late.enable_steady_tick(Duration::from_millis(250));
        }
    });
    bar
}

/// Collects the manifests below a folder. Hidden entries are left out; a folder is visited once, whatever links lead to it.
fn walk(folder: &Path, visited: &mut BTreeSet<PathBuf>, files: &mut Vec<PathBuf>) -> Result<()> {
    let real = folder.canonicalize().with_context(|| format!("cannot open the folder `{}`", folder.display()))?;
    if !visited.insert(real) {
        return Ok(());
    }
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list the folder `{}`", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list the folder `{}`", folder.display()))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            walk(&path, visited, files)?;
        } else if is_manifest(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    let extension = |p: &Path| p.extension().map(|e| e.to_string_lossy().to_lowercase());
    match extension(path).as_deref() {
        Some("gz") => path.file_stem().is_some_and(|stem| is_manifest(Path::new(stem))),
        Some(other) => EXTENSIONS.contains(&other),
        None => false,
    }
}

/// The bytes of a file, decompressed, and never more than `limit` of them.
fn content(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let raw = if path == Path::new("-") {
        bounded(std::io::stdin().lock(), limit)?
    } else {
        bounded(std::fs::File::open(path)?, limit)?
    };
    if raw.starts_with(&GZIP_MAGIC) { bounded(MultiGzDecoder::new(raw.as_slice()), limit) } else { Ok(raw) }
}

fn bounded(source: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = source.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if read as u64 > limit {
        bail!("it is larger than {} MiB; `--max-size` raises the limit", limit >> 20);
    }
    Ok(bytes)
}
