//! What the arguments name: files, what is in folders, and what kustomize and helm print.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use policy_input::sources::folder::{Contents, Top, beside, contents};
use policy_input::sources::helm::{Release, template};
use policy_input::sources::ignores::{Globs, Ignores};
use policy_input::sources::kustomize::build;
use policy_input::sources::other::{Other, other};
use policy_input::sources::rendered::Rendered;
use policy_input::sources::{Limits, built_by, is_chart_file, is_kustomization};

use super::config::{self, Config, Part};
use super::left_out::{self, Kind, LeftOut};
use super::search::{Search, is_chart_archive, stand_in};
use super::{ReadFrom, pipes, shown};
use crate::args::InputArgs;

/// How long kustomize and helm may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something to read.
pub(super) enum Piece {
    /// The live cluster.
    Live,
    /// A file that the user named, `-` for standard input. It can be a pipe.
    Named(PathBuf),
    /// A file of a folder.
    Found(PathBuf),
    /// What a program printed.
    Rendered {
        /// The name to read it under.
        name: String,
        /// The file of the kustomization or the chart.
        made_from: Option<PathBuf>,
        rendered: Rendered,
    },
}

impl Piece {
    /// The name that places in it have.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Live => super::cluster::PLACE.to_owned(),
            Self::Named(path) | Self::Found(path) => shown(path),
            Self::Rendered { name, .. } => name.clone(),
        }
    }

    /// Where its objects come from.
    pub(super) fn read_from(&self) -> Vec<ReadFrom> {
        let of_path = |path: &Path| ReadFrom { name: shown(path), file: Some(path.to_owned()), is_rendered: false };
        match self {
            Self::Named(path) if path != Path::new("-") => vec![of_path(path)],
            Self::Found(path) => vec![of_path(path)],
            Self::Live | Self::Named(_) => vec![ReadFrom { name: self.name(), file: None, is_rendered: false }],
            Self::Rendered { name, made_from, rendered } => {
                let whole = ReadFrom { name: name.clone(), file: made_from.clone(), is_rendered: true };
                rendered.files().into_iter().map(of_path).chain([whole]).collect()
            }
        }
    }
}

/// Everything to read, in the order named; the files of folders in the order of their paths.
#[derive(Default)]
pub(super) struct Sources {
    pub pieces: Vec<Piece>,
    /// The namespaces of the objects without one, piece by piece.
    pub namespaces: Vec<Option<String>>,
    pub left_out: Vec<LeftOut>,
    pub notes: Vec<String>,
    /// What charts ask a cluster, in sentences.
    pub missing: Vec<String>,
    /// The kustomizations that were built, by their canonical folders, and those that each of them contains.
    built: Vec<(PathBuf, BTreeSet<PathBuf>)>,
    /// The globs of `netpol.toml`, once they are read.
    of_config: Option<Vec<Globs>>,
}

/// What the arguments name, part by part.
pub(super) fn sources(parts: &[Part]) -> Result<Sources> {
    let mut found = Sources::default();
    if parts.iter().any(|part| part.args.cluster.live) {
        found.pieces.push(Piece::Live);
        found.namespaces.push(None);
    }
    for Part { deployment, args } in parts {
        let before = found.pieces.len();
        found.part(args)?;
        found.namespaces.resize(found.pieces.len(), args.namespace.clone());
        found.tell_apart(before, deployment.as_deref());
    }
    found.take_back(parts);
    Ok(found)
}

/// What a file stands for that is no manifest. Alone, a kustomization or a `Chart.yaml` would be read as nothing.
fn part(path: &Path) -> Option<LeftOut> {
    if is_kustomization(path) {
        Some(LeftOut::new(Kind::Kustomization, folder_of(path)))
    } else if is_chart_file(path) {
        Some(LeftOut::new(Kind::Chart, folder_of(path)))
    } else {
        is_chart_archive(path).then(|| LeftOut::new(Kind::Chart, path))
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
    /// What the arguments of one part name.
    fn part(&mut self, args: &InputArgs) -> Result<()> {
        for path in &args.paths {
            if path == Path::new("-") {
                self.pieces.push(Piece::Named(path.clone()));
            } else if path.is_dir() {
                self.folder(path, args)?;
            } else if path.exists() {
                match part(path) {
                    Some(left_out) => self.left_out.push(left_out),
                    None => self.pieces.push(Piece::Named(path.clone())),
                }
            } else {
                let live = if path == Path::new("cluster") { "; `--live` reads the live cluster" } else { "" };
                bail!("`{}` does not exist; specify a file, a directory, or `-` for standard input{live}", path.display());
            }
        }
        for folder in &args.kustomizations {
            self.kustomization(folder, args)?;
        }
        if let Some(chart) = &args.chart {
            self.chart(chart, args)?;
        }
        Ok(())
    }

    /// Gives what two deployments render from one chart names of their own.
    fn tell_apart(&mut self, before: usize, deployment: Option<&str>) {
        let Some(deployment) = deployment else { return };
        let (earlier, own) = self.pieces.split_at_mut(before);
        for piece in own {
            let is_taken = earlier.iter().any(|other| other.name() == piece.name());
            if let (Piece::Rendered { name, .. }, true) = (&mut *piece, is_taken) {
                *name = format!("{name}, deployment {deployment}");
            }
        }
    }

    fn folder(&mut self, path: &Path, args: &InputArgs) -> Result<()> {
        let mut ignores = self.ignores(path, args)?;
        let contents = contents(path, &mut ignores)?;
        self.notes.extend(ignores.troubles.iter().map(|text| format!("a line of an ignore file cannot be read: {text}")));
        let name = shown(path);
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
                bail!("`{name}` is a Helm chart and has a kustomization; read one of them with --chart {name} or -k {name}")
            }
        }
        self.left_out.extend(LeftOut::of(&contents));
        let before = self.left_out.len();
        // What is beside a kustomization has been found where it was built.
        if contents.top != Top::Kustomization {
            self.passed_over(&contents, args);
        }
        if contents.is_empty() && self.left_out.iter().skip(before).any(|entry| entry.kind == Kind::Ignored) {
            bail!(
                "`{name}` has no manifests but those that .gitignore excludes; take them back in with a .netpolignore, such as `!*`"
            );
        }
        if contents.top == Top::Plain {
            self.pieces.extend(contents.files.into_iter().map(Piece::Found));
        }
        Ok(())
    }

    /// What is left out below a folder.
    fn ignores(&mut self, path: &Path, args: &InputArgs) -> Result<Ignores> {
        let of_config = match &self.of_config {
            Some(globs) => globs,
            None => self.of_config.insert(Config::find()?.map(|config| config.globs()).into_iter().collect()),
        };
        let own = [Path::new("."), path].map(|folder| Globs { folder: folder.to_owned(), globs: args.exclude.clone() });
        let globs: Vec<Globs> = of_config.iter().cloned().chain(own).collect();
        Ignores::new(path, &globs).map_err(|text| anyhow!(text))
    }

    /// Names what is in a folder, is not read, and may hold objects.
    fn passed_over(&mut self, contents: &Contents, args: &InputArgs) {
        let mut search = Search::new(limits(args).size);
        let beside: &[PathBuf] = if contents.top == Top::Plain { &[] } else { &contents.files };
        let lists = [
            (Kind::File, beside),
            (Kind::Other, &contents.others),
            (Kind::Hidden, &contents.hidden),
            (Kind::Ignored, &contents.ignored),
            (Kind::Excluded, &contents.excluded),
        ];
        for (kind, paths) in lists {
            for path in paths {
                if search.finds(path) {
                    self.left_out.push(LeftOut::new(special(path).filter(|_| kind == Kind::Other).unwrap_or(kind), path));
                }
            }
        }
    }

    fn kustomization(&mut self, folder: &Path, args: &InputArgs) -> Result<()> {
        // The file stands for its folder.
        let folder = if is_kustomization(folder) { folder_of(folder) } else { folder };
        let name = shown(folder);
        if !folder.is_dir() {
            bail!("`{name}` is not a directory; -k requires a directory with a kustomization");
        }
        let rendered =
            build(folder, limits(args)).map_err(|failure| pipes::of_kustomization(&name, args.namespace.as_deref(), &failure))?;
        let at = folder.canonicalize()?;
        let parts = built_by(folder);
        for (other, of_other) in self.built.iter().filter(|(other, _)| *other != at) {
            let (outer, inner) = if parts.contains(other) { (folder, other.as_path()) } else { (other.as_path(), folder) };
            if parts.contains(other) || of_other.contains(&at) {
                bail!("the kustomization `{}` contains `{}`; build one of them", relative(outer), relative(inner));
            }
        }
        self.unused(folder, &parts, args)?;
        self.built.push((at, parts));
        let made_from =
            std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).find(|path| is_kustomization(path));
        self.pieces.push(Piece::Rendered { name: format!("{name} (kustomize build)"), made_from, rendered });
        Ok(())
    }

    /// Names what is in the folders of a kustomization, and in those of its bases and components, and is not used by it.
    fn unused(&mut self, folder: &Path, parts: &BTreeSet<PathBuf>, args: &InputArgs) -> Result<()> {
        let is_outermost = |part: &&PathBuf| !parts.iter().any(|other| *part != other && part.starts_with(other));
        for part in parts.iter().filter(is_outermost) {
            let part = PathBuf::from(relative(part));
            let mut ignores = self.ignores(&part, args)?;
            match beside(&part, folder, &mut ignores) {
                Ok(contents) => self.passed_over(&contents, args),
                Err(error) => self.notes.push(format!("files that the kustomization does not use are not named: {error}")),
            }
        }
        Ok(())
    }

    fn chart(&mut self, chart: &Path, args: &InputArgs) -> Result<()> {
        let chart = if is_chart_file(chart) { folder_of(chart) } else { chart };
        let name = shown(chart);
        let release = Release {
            chart: chart.to_owned(),
            values: args.values.clone(),
            set: args.set.clone(),
            api_versions: args.api_versions.clone(),
            name: args.release.clone(),
            namespace: args.namespace.clone(),
        };
        let rendered = template(&release, limits(args)).map_err(|failure| pipes::of_chart(&name, &release, &failure))?;
        self.missing.extend(pipes::without_cluster(&name, &release, limits(args).size));
        let made_from = Some(if chart.is_dir() { chart.join("Chart.yaml") } else { chart.to_owned() });
        self.pieces.push(Piece::Rendered { name: format!("{name} (helm template)"), made_from, rendered });
        Ok(())
    }

    /// What one argument leaves out and another one reads is not left out.
    fn take_back(&mut self, parts: &[Part]) {
        if self.left_out.is_empty() {
            return;
        }
        let folders = |args: &InputArgs| args.paths.clone().into_iter().filter(|path| path.is_dir()).chain(args.chart.clone());
        let named = parts.iter().flat_map(|part| folders(&part.args)).filter_map(|path| path.canonicalize().ok());
        let built = self.built.iter().flat_map(|(_, parts)| parts).cloned();
        let read: BTreeSet<PathBuf> = built.chain(named).collect();
        let files: BTreeSet<String> = self.pieces.iter().map(Piece::name).collect();
        let mut seen = BTreeSet::new();
        self.left_out.retain(|entry| {
            let at = Path::new(&entry.path).canonicalize();
            let is_file = |at: &Path| files.contains(&relative(at)) || files.contains(&at.display().to_string());
            let is_read = at.is_ok_and(|at| read.contains(&at) || is_file(&at));
            !is_read && seen.insert((entry.kind, entry.path.clone()))
        });
    }

    /// How many files are read.
    pub(super) fn count(&self) -> usize {
        let files = self.pieces.iter().map(|piece| match piece {
            Piece::Rendered { rendered, .. } => rendered.files().len().max(1),
            Piece::Live | Piece::Named(_) | Piece::Found(_) => 1,
        });
        files.sum()
    }

    /// Why nothing can be answered although there is input: all of it belongs to kustomizations and charts.
    pub(super) fn refusal(&self, parts: &[Part]) -> Option<String> {
        let mut sentences = left_out::sentences(&self.left_out);
        sentences.extend(parts.iter().flat_map(|part| &part.args.paths).filter_map(|path| config::advice(path)));
        let is_asked = self.left_out.iter().any(|entry| matches!(entry.kind, Kind::Kustomization | Kind::Chart | Kind::Helmfile));
        is_asked.then(|| format!("no plain manifest has a workload or a policy; {}", sentences.join("; ")))
    }
}

fn limits(args: &InputArgs) -> Limits {
    Limits { time: PATIENCE, size: args.max_size.saturating_mul(1 << 20) }
}

/// What a file with another ending is for itself.
fn special(path: &Path) -> Option<Kind> {
    stand_in(path).or_else(|| match other(path) {
        Some(Other::Helmfile) => Some(Kind::Helmfile),
        Some(Other::Encrypted) => Some(Kind::Encrypted),
        Some(Other::Archive) => is_chart_archive(path).then_some(Kind::Chart),
        _ => None,
    })
}
