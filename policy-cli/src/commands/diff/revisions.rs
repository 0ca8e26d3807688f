//! The files of Git revisions, written to a temporary folder. The checkout and its index stay as they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::args::InputArgs;
use crate::output::diagnostics::text::print_notes;

/// A repository, and the place of the current directory in it.
pub(super) struct Revisions {
    current: PathBuf,
    top: PathBuf,
    prefix: PathBuf,
}

impl Revisions {
    /// The repository that the current directory is in.
    pub(super) fn new() -> Result<Self> {
        let current = std::env::current_dir().context("cannot read the current directory")?;
        let asked = |what: &str| git(&current, &["rev-parse", what], None);
        let (top, prefix) = (asked("--show-toplevel")?, asked("--show-prefix")?);
        Ok(Self { current, top: top.into(), prefix: prefix.into() })
    }

    /// Works in a folder with the files of a revision, at the same place in it. Of paths that the revision does not have, nothing is read.
    pub(super) fn within<T>(&self, revision: &str, input: &InputArgs, work: impl FnOnce(&InputArgs) -> Result<T>) -> Result<T> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let commit =
            git(&self.top, &["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{revision}^{{commit}}")], None)
                .with_context(|| format!("there is no revision `{revision}`"))?;
        let index = folder.path().join("index");
        let files = folder.path().join("files");
        let target = format!("--prefix={}/", files.display());
        git(&self.top, &["read-tree", &commit], Some(&index))?;
        git(&self.top, &["checkout-index", "--all", "--force", &target], Some(&index))?;
        let at = files.join(&self.prefix);
        std::fs::create_dir_all(&at).context("cannot make a temporary folder")?;
        // netpol.toml is searched up to the top of a repository.
        std::fs::create_dir_all(files.join(".git")).context("cannot make a temporary folder")?;
        std::env::set_current_dir(&at).context("cannot enter a temporary folder")?;
        let result = missing(revision, input).and_then(|input| work(&input));
        std::env::set_current_dir(&self.current).context("cannot return to the current directory")?;
        result
    }
}

/// The input without the paths that are not there.
fn missing(revision: &str, input: &InputArgs) -> Result<InputArgs> {
    let mut input = input.clone();
    for paths in [&mut input.paths, &mut input.kustomizations] {
        paths.retain(|path| {
            let is_there = path.as_os_str() == "-" || path.exists();
            if !is_there {
                print_notes(&[format!("`{}` is not in {revision}", path.display())]);
            }
            is_there
        });
    }
    let is_nothing =
        input.paths.is_empty() && input.kustomizations.is_empty() && input.chart.is_none() && input.deployments.is_empty();
    if is_nothing && !input.is_default {
        std::fs::write("empty.yaml", "").context("cannot write to a temporary folder")?;
        input.paths.push(PathBuf::from("empty.yaml"));
        input.allow_empty = true;
    }
    Ok(input)
}

/// What Git prints, without the end of the line.
fn git(folder: &Path, arguments: &[&str], index: Option<&Path>) -> Result<String> {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(folder);
    if let Some(index) = index {
        command.env("GIT_INDEX_FILE", index);
    }
    let output = command.output().context("cannot run git")?;
    if !output.status.success() {
        bail!("git {}: {}", arguments.first().copied().unwrap_or_default(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches(['\n', '\r']).to_owned())
}
