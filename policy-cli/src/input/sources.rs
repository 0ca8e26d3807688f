//! What the arguments name: files, what is in folders, and what kustomize and helm print.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use policy_core::manifest::{Loader, Syntax};
use policy_input::files::regular_content;
use policy_input::sources::folder::{Contents, Top, contents};
use policy_input::sources::helm::{Release, template};
use policy_input::sources::ignores::{Globs, Ignores};
use policy_input::sources::kustomize::build;
use policy_input::sources::rendered::Rendered;
use policy_input::sources::{Failure, Limits, built_by, is_chart_file, is_kustomization};

use super::config::Config;
use super::left_out::{self, LeftOut};
use super::{shown, unreadable};
use crate::args::InputArgs;

/// How long kustomize and helm may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Names that a note lists; the others are counted.
const MOST_NAMES: usize = 5;

/// Something to read.
pub(super) enum Piece {
    /// The live cluster.
    Live,
    /// A file that the user named, `-` for standard input. It can be a pipe.
    Named(PathBuf),
    /// A file of a folder.
    Found(PathBuf),
    /// What a program printed, and the name to read it under.
    Rendered(String, Rendered),
}

impl Piece {
    /// The name that places in it have.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Live => super::cluster::PLACE.to_owned(),
            Self::Named(path) | Self::Found(path) => shown(path),
            Self::Rendered(name, _) => name.clone(),
        }
    }
}

/// Everything to read, in the order named; the files of folders in the order of their paths.
#[derive(Default)]
pub(super) struct Sources {
    pub pieces: Vec<Piece>,
    pub left_out: Vec<LeftOut>,
    pub notes: Vec<String>,
    /// The kustomizations that were built, by their canonical folders, and those that each of them contains.
    built: Vec<(PathBuf, BTreeSet<PathBuf>)>,
}

/// What the arguments name.
pub(super) fn sources(args: &InputArgs) -> Result<Sources> {
    let mut found = Sources::default();
    let mut config: Option<Vec<Globs>> = None;
    if args.cluster.live {
        found.pieces.push(Piece::Live);
    }
    for path in &args.paths {
        if path == Path::new("-") {
            found.pieces.push(Piece::Named(path.clone()));
        } else if path.is_dir() {
            let globs = match &config {
                Some(globs) => globs,
                None => config.insert(Config::find()?.map(|config| config.globs()).into_iter().collect()),
            };
            found.folder(path, args, globs)?;
        } else if path.exists() {
            match part(path) {
                Some(left_out) => found.left_out.push(left_out),
                None => found.pieces.push(Piece::Named(path.clone())),
            }
        } else {
            let live = if path == Path::new("cluster") { "; `--live` reads the live cluster" } else { "" };
            bail!("`{}` does not exist; specify a file, a directory, or `-` for standard input{live}", path.display());
        }
    }
    for folder in &args.kustomizations {
        found.kustomization(folder, args)?;
    }
    if let Some(chart) = &args.chart {
        found.chart(chart, args)?;
    }
    found.take_back(args);
    Ok(found)
}

/// What a file stands for that is no manifest. Alone, a kustomization or a `Chart.yaml` would be read as nothing.
fn part(path: &Path) -> Option<LeftOut> {
    if is_kustomization(path) {
        Some(LeftOut::kustomization(folder_of(path)))
    } else {
        is_chart_file(path).then(|| LeftOut::chart(folder_of(path)))
    }
}

/// A canonical path as users write it.
fn relative(path: &Path) -> String {
    let current = std::env::current_dir().and_then(|current| current.canonicalize()).unwrap_or_default();
    let below = path.strip_prefix(current).unwrap_or(path);
    shown(if below == Path::new("") { Path::new(".") } else { below })
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

impl Sources {
    fn folder(&mut self, path: &Path, args: &InputArgs, of_config: &[Globs]) -> Result<()> {
        let own = [Path::new("."), path].map(|folder| Globs { folder: folder.to_owned(), globs: args.exclude.clone() });
        let globs: Vec<Globs> = of_config.iter().cloned().chain(own).collect();
        let mut ignores = Ignores::new(path, &globs).map_err(|text| anyhow!(text))?;
        let contents = contents(path, &mut ignores)?;
        self.notes.extend(ignored(path, &ignores.ignored));
        self.notes.extend(ignores.troubles.iter().map(|text| format!("a line of an ignore file cannot be read: {text}")));
        let name = shown(path);
        if contents.is_empty() && !ignores.ignored.is_empty() {
            bail!(
                "`{name}` has no manifests but those that .gitignore excludes; take them back in with a .netpolignore, such as `!*`"
            );
        }
        match contents.top {
            Top::Plain => {}
            Top::Kustomization => {
                self.notes.push(format!("`{name}` has a kustomization, and is built as with -k"));
                self.kustomization(path, args)?;
            }
            Top::Chart => {
                self.notes.push(format!("`{name}` is a Helm chart, and is rendered as with --chart"));
                self.chart(path, args)?;
            }
            Top::Both => {
                bail!("`{name}` is a Helm chart and has a kustomization; ask for one with --chart {name} or -k {name}")
            }
        }
        self.left_out.extend(LeftOut::of(&contents));
        let Contents { top, files, .. } = contents;
        if top == Top::Plain {
            self.pieces.extend(files.into_iter().map(Piece::Found));
        } else {
            self.left_out
                .extend(files.iter().filter(|file| could_decide(file, limits(args).size)).map(|file| LeftOut::file(file)));
        }
        Ok(())
    }

    fn kustomization(&mut self, folder: &Path, args: &InputArgs) -> Result<()> {
        // The file stands for its folder.
        let folder = if is_kustomization(folder) { folder_of(folder) } else { folder };
        let name = shown(folder);
        if !folder.is_dir() {
            bail!("`{name}` is not a directory; -k requires a directory with a kustomization");
        }
        let rendered = build(folder, limits(args)).map_err(|failure| {
            let piped = |command: &str| format!("{command} {} | netpol … -f -", quoted(&name));
            let help = match &failure {
                Failure::Failed(_, text) if text.contains("enable-helm") => {
                    format!("; netpol runs no plugins, so pipe it: {}", piped("kustomize build --enable-helm"))
                }
                Failure::Missing(_) => format!("; build it elsewhere, and pipe it: {}", piped("kubectl kustomize")),
                Failure::Remote(..) => {
                    format!("; build it where the network is, and pipe it: {}", piped("kubectl kustomize"))
                }
                _ => String::new(),
            };
            anyhow!("cannot build the kustomization `{name}`: {failure}{help}")
        })?;
        let at = folder.canonicalize()?;
        let parts = built_by(folder);
        for (other, of_other) in self.built.iter().filter(|(other, _)| *other != at) {
            let (outer, inner) = if parts.contains(other) { (folder, other.as_path()) } else { (other.as_path(), folder) };
            if parts.contains(other) || of_other.contains(&at) {
                bail!("the kustomization `{}` contains `{}`; ask for one of them", relative(outer), relative(inner));
            }
        }
        self.built.push((at, parts));
        self.pieces.push(Piece::Rendered(format!("{name} (kustomize build)"), rendered));
        Ok(())
    }

    fn chart(&mut self, chart: &Path, args: &InputArgs) -> Result<()> {
        let chart = if is_chart_file(chart) { folder_of(chart) } else { chart };
        let name = shown(chart);
        let release = Release {
            chart: chart.to_owned(),
            values: args.values.clone(),
            set: args.set.clone(),
            name: args.release.clone(),
            namespace: args.namespace.clone(),
        };
        let rendered = template(&release, limits(args)).map_err(|failure| {
            let help = match &failure {
                Failure::Failed(_, text) if text.contains("missing in charts/") => {
                    format!("; run `helm dependency build {}` first", quoted(&name))
                }
                Failure::Missing(_) => {
                    format!("; render it elsewhere, and pipe it: helm template {} | netpol … -f -", quoted(&name))
                }
                _ => String::new(),
            };
            anyhow!("cannot render the Helm chart `{name}`: {failure}{help}")
        })?;
        self.pieces.push(Piece::Rendered(format!("{name} (helm template)"), rendered));
        Ok(())
    }

    /// What one argument leaves out and another one reads is not left out.
    fn take_back(&mut self, args: &InputArgs) {
        let built: BTreeSet<&PathBuf> = self.built.iter().flat_map(|(_, parts)| parts).collect();
        let chart = args.chart.as_ref().and_then(|chart| chart.canonicalize().ok());
        self.left_out.retain(|entry| {
            let at = Path::new(&entry.path).canonicalize();
            at.map_or(true, |at| !(built.contains(&at) || chart.as_ref() == Some(&at)))
        });
    }

    /// How many files are read.
    pub(super) fn count(&self) -> usize {
        let files = self.pieces.iter().map(|piece| match piece {
            Piece::Rendered(_, rendered) => rendered.files().len().max(1),
            Piece::Live | Piece::Named(_) | Piece::Found(_) => 1,
        });
        files.sum()
    }

    /// Why nothing can be answered although there is input: all of it belongs to kustomizations and charts.
    pub(super) fn refusal(&self) -> Option<String> {
        let sentences = left_out::sentences(&self.left_out);
        let is_asked =
            self.left_out.iter().any(|entry| matches!(entry.kind, left_out::Kind::Kustomization | left_out::Kind::Chart));
        is_asked.then(|| format!("no plain manifest has a workload or a policy; {}", sentences.join("; ")))
    }
}

fn limits(args: &InputArgs) -> Limits {
    Limits { time: PATIENCE, size: args.max_size.saturating_mul(1 << 20) }
}

/// Whether a file has objects that decide, or may have.
pub(super) fn could_decide(file: &Path, limit: u64) -> bool {
    let Ok(bytes) = regular_content(file, limit) else { return true };
    if unreadable::why_no_manifest(&bytes).is_some() {
        return false;
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
    !is_empty || (found.has_errors() && !unreadable::holds_no_object(&bytes))
}

/// What Git ignores below a folder.
fn ignored(folder: &Path, paths: &[PathBuf]) -> Option<String> {
    if paths.is_empty() {
        return None;
    }
    let mut names: Vec<String> = paths.iter().map(|path| shown(path)).collect();
    names.sort();
    let more = names.len().saturating_sub(MOST_NAMES);
    names.truncate(MOST_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!(".gitignore leaves out of `{}`: {}{more}", shown(folder), names.join(", ")))
}

/// A path as a word of a shell.
fn quoted(path: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@%:,=".contains(c);
    if path.chars().all(is_plain) && !path.starts_with('-') {
        return path.to_owned();
    }
    let path = if path.starts_with('-') { format!("./{path}") } else { path.to_owned() };
    format!("'{}'", path.replace('\'', "'\\''"))
}
