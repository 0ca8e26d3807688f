//! `netpol.toml`: the deployments of a repository.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use policy_core::manifest::nearest;
use policy_input::sources::ignores::Globs;
use serde::Deserialize;
use toml::Spanned;

use crate::args::{FailOn, InputArgs};

/// The name of the file.
pub(crate) const NAME: &str = "netpol.toml";

/// The file. Every key is described in `docs/src/reference/netpol-toml.md`.
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    fail_on: FailOn,
    ignore: Vec<String>,
    lint: Lint,
    deployments: BTreeMap<String, Spanned<Deployment>>,
}

/// What `netpol lint` checks.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Lint {
    /// Rules and groups; all but portability if there are none.
    pub select: Vec<String>,
    pub ignore: Vec<String>,
    pub severity: BTreeMap<String, LintSeverity>,
    pub overrides: Vec<Override>,
}

/// How bad findings of a rule are.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LintSeverity {
    Error,
    Warning,
    Info,
}

/// Rules that do not apply to some files.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Override {
    /// Globs in the syntax of `.gitignore`, relative to the file.
    pub paths: Vec<String>,
    pub ignore: Vec<String>,
}

/// Objects that are deployed together: one of `kustomize`, `chart` and `files`.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Deployment {
    pub kustomize: Option<PathBuf>,
    pub chart: Option<PathBuf>,
    pub values: Vec<PathBuf>,
    pub set: Vec<String>,
    pub api_versions: Vec<String>,
    pub release: Option<String>,
    pub files: Vec<PathBuf>,
    /// Files with assertions.
    pub tests: Vec<PathBuf>,
    pub namespace: Option<String>,
}

/// The file, and where it is.
#[derive(Debug)]
pub(crate) struct Config {
    /// Its path, relative to the current directory.
    pub path: PathBuf,
    pub fail_on: FailOn,
    ignore: Vec<String>,
    pub lint: Lint,
    pub deployments: BTreeMap<String, Deployment>,
}

impl Config {
    /// The file of the current directory, or else of the next directory above it that has one, within one Git repository.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn find() -> Result<Option<Self>> {
        let current = std::env::current_dir().context("cannot read the current directory")?;
        let mut above = PathBuf::new();
        for folder in current.ancestors() {
            let path = above.join(NAME);
            if path.is_file() {
                return Self::read(path).map(Some);
            }
            if folder.join(".git").exists() {
                break;
            }
            above.push("..");
        }
        Ok(None)
    }

    /// Reads a file.
    pub(crate) fn read(path: PathBuf) -> Result<Self> {
        let shown = super::shown(&path);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{shown}`"))?;
        let place = |at: usize| {
            let before = text.get(..at.min(text.len())).unwrap_or_default();
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            format!("{shown}:{}:{column}", before.matches('\n').count() + 1)
        };
        let file: File = toml::from_str(&text).map_err(|error| {
            let at = error.span().map_or_else(|| shown.clone(), |span| place(span.start));
            anyhow!("{at}: {}", explained(error.message()))
        })?;
        let mut deployments = BTreeMap::new();
        for (name, deployment) in file.deployments {
            let at = deployment.span().start;
            let deployment = deployment.into_inner();
            deployment.check().map_err(|text| anyhow!("{}: deployment `{name}`: {text}", place(at)))?;
            deployments.insert(name, deployment);
        }
        Ok(Self { path, fail_on: file.fail_on, ignore: file.ignore, lint: file.lint, deployments })
    }

    /// The folder of the file; empty for the current directory.
    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or_else(|| Path::new(""))
    }

    /// What is left out of folders.
    pub(crate) fn globs(&self) -> Globs {
        self.globs_of(&self.ignore)
    }

    /// Globs that are relative to the file.
    pub(crate) fn globs_of(&self, globs: &[String]) -> Globs {
        let folder = if self.folder() == Path::new("") { Path::new(".") } else { self.folder() };
        Globs { folder: folder.to_owned(), globs: globs.to_vec() }
    }

    /// The arguments that read a deployment, with the others as they are. Those for charts come after those of the file.
    pub(crate) fn arguments(&self, deployment: &Deployment, args: &InputArgs) -> Result<InputArgs> {
        if let (Some(option), None) = (chart_option(args), &deployment.chart) {
            bail!("`{option}` is for charts, and the deployment is the {}", deployment.describe());
        }
        let at = |path: &PathBuf| {
            let path = self.folder().join(path);
            // Words for other input than files are names here.
            let is_word = ["-", ""].iter().any(|word| path == Path::new(word));
            if is_word { Path::new(".").join(path) } else { path }
        };
        let values = deployment.values.iter().map(at).chain(args.values.iter().cloned());
        Ok(InputArgs {
            paths: deployment.files.iter().map(at).collect(),
            kustomizations: deployment.kustomize.iter().map(at).collect(),
            chart: deployment.chart.as_ref().map(at),
            values: values.collect(),
            set: [&deployment.set[..], &args.set].concat(),
            api_versions: [&deployment.api_versions[..], &args.api_versions].concat(),
            release: args.release.clone().or_else(|| deployment.release.clone()),
            deployments: Vec::new(),
            is_default: false,
            namespace: args.namespace.clone().or_else(|| deployment.namespace.clone()),
            ..args.clone()
        })
    }

    fn names(&self) -> String {
        self.deployments.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// The deployment of a name.
    fn named(&self, name: &str) -> Result<&Deployment> {
        self.deployments.get(name).ok_or_else(|| {
            let shown = super::shown(&self.path);
            if self.deployments.is_empty() {
                return anyhow!("`{shown}` has no deployments");
            }
            let near = nearest(name, self.deployments.keys().map(String::as_str));
            let help = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            anyhow!("`{shown}` has no deployment `{name}`; it has {}{help}", self.names())
        })
    }
}

impl Deployment {
    fn check(&self) -> Result<(), String> {
        let sources = [self.kustomize.is_some(), self.chart.is_some(), !self.files.is_empty()];
        match sources.into_iter().filter(|is_set| *is_set).count() {
            1 => {}
            0 => return Err("it has none of `kustomize`, `chart` and `files`".to_owned()),
            _ => return Err("it has more than one of `kustomize`, `chart` and `files`".to_owned()),
        }
        let of_chart = [
            ("values", !self.values.is_empty()),
            ("set", !self.set.is_empty()),
            ("api-versions", !self.api_versions.is_empty()),
            ("release", self.release.is_some()),
        ];
        match of_chart.into_iter().find(|(_, is_set)| *is_set && self.chart.is_none()) {
            Some((key, _)) => Err(format!("`{key}` requires `chart`")),
            None => Ok(()),
        }
    }

    /// What it is, in a few words.
    pub(crate) fn describe(&self) -> String {
        let paths = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        match (&self.kustomize, &self.chart) {
            (Some(path), _) => format!("kustomization {}", path.display()),
            (None, Some(path)) => format!("chart {}", path.display()),
            (None, None) => format!("files {}", paths(&self.files)),
        }
    }
}

/// The message about a key or a value that does not exist, with the one that is probably meant.
fn explained(message: &str) -> String {
    let message = message.trim().replace('\n', ": ");
    let words: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let near = words.split_first().and_then(|(wrong, known)| nearest(wrong, known.iter().copied()));
    match near.filter(|_| message.starts_with("unknown ")) {
        Some(near) => format!("{message}; did you mean `{near}`?"),
        None => message,
    }
}

/// A part of an input: a deployment, or what the other arguments select.
pub(crate) struct Part {
    /// The name of the deployment.
    pub deployment: Option<String>,
    pub args: InputArgs,
}

/// The parts of an input: the deployments that are named, or the only one, and what else is. Objects and names without a namespace are in
/// that of the deployments, if it is one.
pub(crate) fn parts(args: &InputArgs) -> Result<(Vec<Part>, Option<String>)> {
    let alone = |args| Ok((vec![Part { deployment: None, args }], None));
    let Some(config) = wanted(args)? else { return alone(args.clone()) };
    let part = |name: &str, deployment: &Deployment| -> Result<Part> {
        Ok(Part { deployment: Some(name.to_owned()), args: config.arguments(deployment, args)? })
    };
    if args.deployments.is_empty() {
        return match config.deployments.iter().collect::<Vec<_>>().as_slice() {
            [] => alone(args.clone()),
            [(name, deployment)] => {
                let note = format!("using deployment `{name}` of {}", super::shown(&config.path));
                Ok((vec![part(name, deployment)?], Some(note)))
            }
            _ => bail!("`{}` has several deployments; select with -d: {}", super::shown(&config.path), config.names()),
        };
    }
    let names: BTreeSet<&String> = args.deployments.iter().collect();
    if let (Some(option), true) = (chart_option(args), names.len() > 1) {
        bail!("`{option}` is for one chart; select one deployment, or write it into {NAME}");
    }
    let mut parts = Vec::new();
    for name in names {
        parts.push(part(name, config.named(name)?)?);
    }
    if !args.paths.is_empty() || !args.kustomizations.is_empty() {
        parts.push(Part { deployment: None, args: InputArgs { namespace: namespace(args, &parts), ..args.clone() } });
    }
    Ok((parts, None))
}

/// The namespace of names: the one that the arguments give, or that of all deployments.
pub(crate) fn namespace(args: &InputArgs, parts: &[Part]) -> Option<String> {
    let of_parts = parts.iter().map(|part| &part.args.namespace);
    let [first, others @ ..] = &of_parts.collect::<Vec<_>>()[..] else { return args.namespace.clone() };
    args.namespace.clone().or_else(|| (*first).clone().filter(|_| others.iter().all(|other| other == first)))
}

/// An option for charts that is set.
fn chart_option(args: &InputArgs) -> Option<&'static str> {
    let of_chart = [
        ("--values", !args.values.is_empty()),
        ("--set", !args.set.is_empty()),
        ("--api-versions", !args.api_versions.is_empty()),
        ("--release", args.release.is_some()),
    ];
    of_chart.into_iter().find_map(|(option, is_set)| is_set.then_some(option))
}

/// An input to check by itself.
pub(crate) struct Selected {
    /// The name of the deployment and what it is, if it is one of several.
    pub deployment: Option<(String, String)>,
    pub args: InputArgs,
}

/// The inputs of a command that checks: each deployment, all of them if none is named, or what the arguments select.
pub(crate) fn each(args: &InputArgs) -> Result<Vec<Selected>> {
    let Some(config) = wanted(args)?.filter(|config| !config.deployments.is_empty() || !args.deployments.is_empty()) else {
        return Ok(vec![Selected { deployment: None, args: args.clone() }]);
    };
    let names: BTreeSet<&String> =
        if args.deployments.is_empty() { config.deployments.keys().collect() } else { args.deployments.iter().collect() };
    let is_one = args.deployments.len() == 1;
    let paths = if args.is_default { Vec::new() } else { args.paths.clone() };
    let one = |name: &String| {
        let what = config.named(name)?.describe();
        let args = InputArgs { deployments: vec![name.clone()], is_default: false, paths: paths.clone(), ..args.clone() };
        // Of options that it does not take, before anything is read.
        parts(&args)?;
        Ok(Selected { deployment: (!is_one).then(|| (name.clone(), what)), args })
    };
    names.into_iter().map(one).collect()
}

/// The files with assertions that the deployments of an input name.
pub(crate) fn tests(args: &InputArgs) -> Result<Vec<PathBuf>> {
    let Some(config) = wanted(args)? else { return Ok(Vec::new()) };
    let of = |deployment: &Deployment| deployment.tests.iter().map(|path| config.folder().join(path)).collect::<Vec<_>>();
    match args.deployments.as_slice() {
        [] if config.deployments.len() == 1 => Ok(config.deployments.values().flat_map(of).collect()),
        names => Ok(names.iter().map(|name| Ok(of(config.named(name)?))).collect::<Result<Vec<_>>>()?.concat()),
    }
}

/// How to read the deployments that the file in a directory names, if it has one.
pub(crate) fn advice(folder: &Path) -> Option<String> {
    let path = folder.join(NAME);
    let config = path.is_file().then(|| Config::read(path).ok()).flatten().filter(|config| !config.deployments.is_empty())?;
    let current = std::env::current_dir().and_then(|current| current.canonicalize());
    let is_current = matches!((current, folder.canonicalize()), (Ok(current), Ok(folder)) if current == folder);
    let how =
        if is_current { "select a deployment".to_owned() } else { format!("run the command in `{}`", super::shown(folder)) };
    Some(format!("or {how} with -d: {}", config.names()))
}

/// The findings that fail a check.
pub(crate) fn fail_on() -> Result<FailOn> {
    Ok(Config::find()?.map(|config| config.fail_on).unwrap_or_default())
}

/// The file, if the arguments ask for a deployment or for nothing.
fn wanted(args: &InputArgs) -> Result<Option<Config>> {
    if args.deployments.is_empty() && !args.is_default {
        return Ok(None);
    }
    let config = Config::find()?;
    if config.is_none() && !args.deployments.is_empty() {
        bail!("there is no {NAME} in this directory, nor in one above it; `netpol init` writes one");
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        std::fs::write(&path, text).unwrap();
        Config::read(path)
    }

    #[test]
    fn every_key_is_read() {
        let text = "fail-on = \"warning\"\nignore = [\"tests/**\"]\n[deployments.prod]\nkustomize = \"overlays/prod\"\nnamespace = \"shop\"\n[deployments.dev]\nchart = \"charts/shop\"\nvalues = [\"v.yaml\"]\nset = [\"a=1\"]\nrelease = \"r\"\n[deployments.plain]\nfiles = [\"manifests\"]\n";
        let config = read(text).unwrap();
        assert_eq!(config.fail_on, FailOn::Warning);
        assert_eq!(config.globs().globs, ["tests/**"]);
        let lint = "[lint]\nselect = [\"all\"]\nignore = [\"NP301\"]\nseverity = {half-open = \"error\"}\n[[lint.overrides]]\npaths = [\"tests/**\"]\nignore = [\"security\"]\n";
        let lint = read(lint).unwrap().lint;
        assert_eq!(
            (lint.select, lint.ignore, lint.severity["half-open"]),
            (vec!["all".to_owned()], vec!["NP301".to_owned()], LintSeverity::Error)
        );
        assert_eq!(lint.overrides, [Override { paths: vec!["tests/**".to_owned()], ignore: vec!["security".to_owned()] }]);
        assert_eq!(config.names(), "dev, plain, prod");
        let prod =
            Deployment { kustomize: Some("overlays/prod".into()), namespace: Some("shop".to_owned()), ..Deployment::default() };
        assert_eq!(config.named("prod").unwrap(), &prod);
        let dev = config.named("dev").unwrap();
        assert_eq!((dev.values.len(), dev.set.len(), dev.release.as_deref()), (1, 1, Some("r")));
        let error = config.named("prd").unwrap_err().to_string();
        assert!(error.ends_with("has no deployment `prd`; it has dev, plain, prod; did you mean `prod`?"), "{error}");
    }

    #[test]
    fn a_mistake_has_a_place_and_a_suggestion() {
        for (text, place, parts) in [
            ("ignored = []\n", "netpol.toml:1:1: ", &["unknown field `ignored`", "did you mean `ignore`?"][..]),
            ("\n[deployments.a]\nkustomise = \"x\"\n", "netpol.toml:3:1: ", &["did you mean `kustomize`?"]),
            ("fail-on = \"warnings\"\n", "netpol.toml:1:11: ", &["did you mean `warning`?"]),
            ("[deployments.a]\nkustomize = 1\n", "netpol.toml:2:13: ", &["integer `1`", "string"]),
            ("[deployments.a\n", "netpol.toml:1:", &[]),
            ("\n[deployments.a]\nnamespace = \"x\"\n", "netpol.toml:2:1: ", &["none of `kustomize`, `chart` and `files`"]),
            ("[deployments.a]\nchart = \"x\"\nfiles = [\"y\"]\n", "netpol.toml:1:1: ", &["more than one of"]),
            ("[deployments.a]\nkustomize = \"x\"\nset = [\"y=1\"]\n", "netpol.toml:1:1: ", &["`set` requires `chart`"]),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(place), "{text}: {error}");
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
    }
}
