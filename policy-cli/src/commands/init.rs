//! `netpol init`: writes `netpol.toml` with what is below the current directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use policy_input::sources::folder::{Contents, Top, contents};
use policy_input::sources::ignores::Ignores;

use crate::Outcome;
use crate::args::InitArgs;
use crate::input::config::{Config, Deployment, NAME};
use crate::input::holds_objects;
use crate::output::{print, raw};

pub(crate) fn run(args: &InitArgs) -> Result<Outcome> {
    let known = if Path::new(NAME).is_file() { Some(Config::read(NAME.into())?) } else { None };
    let globs: Vec<_> = known.iter().map(Config::globs).collect();
    let mut ignores = Ignores::new(Path::new("."), &globs).map_err(|text| anyhow!(text))?;
    let found = deployments(&contents(Path::new("."), &mut ignores)?);
    if found.is_empty() {
        bail!("there is no kustomization, no Helm chart and no manifest with a workload or a policy below this directory");
    }
    if args.stdout {
        raw(text(&found).as_bytes())?;
        return Ok(Outcome::Yes);
    }
    if let Some(config) = known {
        return compare(&config, &found);
    }
    write(&text(&found))?;
    let mut out = format!("wrote {NAME} with {}\n", count(found.len(), "deployment"));
    for (name, deployment) in &found {
        let _ = writeln!(out, "  {name}: {}", deployment.describe());
    }
    out.push_str("next: netpol validate\n");
    print(&out)?;
    Ok(Outcome::Yes)
}

/// Writes the file, unless there is one.
fn write(text: &str) -> Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(NAME);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => anyhow!("`{NAME}` exists, and is not a file that can be read"),
            _ => anyhow!(error),
        })
        .with_context(|| format!("cannot write {NAME}"))
}

/// Names what a file that is there does not name, and leaves it as it is.
fn compare(config: &Config, found: &BTreeMap<String, Deployment>) -> Result<Outcome> {
    let is_named = |deployment: &Deployment| config.deployments.values().any(|known| covers(known, deployment));
    let missing: BTreeMap<String, Deployment> =
        found.iter().filter(|(_, deployment)| !is_named(deployment)).map(|(name, d)| (name.clone(), d.clone())).collect();
    let names = config.deployments.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    if missing.is_empty() {
        print(&format!("{NAME} names everything that was found, and is not changed: {names}\n"))?;
        return Ok(Outcome::Yes);
    }
    let plural = count(missing.len(), "deployment");
    print(&format!(
        "{NAME} is not changed; it does not name {plural} that {} found:\n\n",
        if missing.len() == 1 { "was" } else { "were" }
    ))?;
    raw(deployments_text(&missing).as_bytes())?;
    Ok(Outcome::No)
}

/// Whether a deployment reads what another one reads.
fn covers(known: &Deployment, found: &Deployment) -> bool {
    let clean = |path: &PathBuf| -> PathBuf { path.components().filter(|part| part.as_os_str() != ".").collect() };
    let is_same = |a: &Option<PathBuf>, b: &Option<PathBuf>| a.as_ref().map(clean) == b.as_ref().map(clean);
    let reads = |file: &PathBuf| known.files.iter().any(|above| clean(file).starts_with(clean(above)));
    is_same(&known.kustomize, &found.kustomize) && is_same(&known.chart, &found.chart) && found.files.iter().all(reads)
}

/// The kustomizations, charts and plain manifests of the current directory, by a name for each.
fn deployments(contents: &Contents) -> BTreeMap<String, Deployment> {
    let top = PathBuf::from(".");
    let mut found: Vec<(PathBuf, Deployment)> = Vec::new();
    let kustomize = |path: &PathBuf| Deployment { kustomize: Some(below(path)), ..Deployment::default() };
    let chart = |path: &PathBuf| Deployment { chart: Some(below(path)), ..Deployment::default() };
    if matches!(contents.top, Top::Kustomization | Top::Both) {
        found.push((top.clone(), kustomize(&top)));
    }
    if matches!(contents.top, Top::Chart | Top::Both) {
        found.push((top.clone(), chart(&top)));
    }
    found.extend(contents.roots.iter().map(|path| (path.clone(), kustomize(path))));
    let charts = contents.charts.iter().filter(|chart| chart.is_application).map(|chart| &chart.folder);
    found.extend(charts.map(|path| (path.clone(), chart(path))));
    // Beside a kustomization or a chart at the top, a file may be anything.
    if contents.top == Top::Plain {
        let others: Vec<&PathBuf> =
            contents.kustomizations.iter().chain(contents.charts.iter().map(|chart| &chart.folder)).collect();
        for (folder, files) in plain(&contents.files, &others) {
            let deployment = Deployment { files, ..Deployment::default() };
            found.push((folder, deployment));
        }
    }
    named(found)
}

/// The plain manifests that hold objects: whole folders that hold nothing else, and files of folders that do.
fn plain(files: &[PathBuf], others: &[&PathBuf]) -> BTreeMap<PathBuf, Vec<PathBuf>> {
    let mut out: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    let is_mixed = |folder: &Path| folder == Path::new(".") || others.iter().any(|other| other.starts_with(folder));
    for file in files.iter().filter(|file| holds_objects(file)) {
        let above: Vec<&Path> = file.ancestors().skip(1).filter(|above| *above != Path::new("")).collect();
        // From the top down, the first folder that holds plain manifests alone.
        match above.iter().rev().find(|folder| !is_mixed(folder)) {
            Some(folder) => drop(out.entry((*folder).to_owned()).or_default().insert(below(folder))),
            None => {
                let folder = above.first().copied().unwrap_or(Path::new("."));
                out.entry(folder.to_owned()).or_default().insert(below(file));
            }
        }
    }
    out.into_iter().map(|(folder, files)| (folder, files.into_iter().collect())).collect()
}

/// A path without `./` at its beginning.
fn below(path: &Path) -> PathBuf {
    match path.strip_prefix(".") {
        Ok(path) if path != Path::new("") => path.to_owned(),
        _ => path.to_owned(),
    }
}

/// A name for each: that of its folder, with as many of the folders above it as make it unique.
fn named(found: Vec<(PathBuf, Deployment)>) -> BTreeMap<String, Deployment> {
    let current = std::env::current_dir().unwrap_or_default();
    let name = |path: &Path, parts: usize| {
        let whole = current.join(below(path));
        let below = path.components().filter(|part| part.as_os_str() != ".").count().max(1);
        let parts: Vec<String> = whole
            .components()
            .filter(|part| part.as_os_str() != ".")
            .rev()
            .take(parts.min(below))
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect();
        parts.into_iter().rev().collect::<Vec<_>>().join("-")
    };
    let mut out = BTreeMap::new();
    for (number, (path, deployment)) in found.iter().enumerate() {
        let is_unique = |parts: &usize| {
            let wanted = name(path, *parts);
            found.iter().enumerate().all(|(other, (path, _))| other == number || name(path, *parts) != wanted)
        };
        let parts = (1..=path.components().count().max(1)).find(is_unique).unwrap_or(1);
        let wanted = name(path, parts);
        let mut free = (1..).map(|n| if n == 1 { wanted.clone() } else { format!("{wanted}-{n}") });
        if let Some(free) = free.find(|name| !out.contains_key(name)) {
            out.insert(free, deployment.clone());
        }
    }
    out
}

fn text(found: &BTreeMap<String, Deployment>) -> String {
    format!(
        "# The deployments of this repository, as `netpol` reads them. Each has one of `kustomize`, `chart` and `files`, and may have\n\
         # a `namespace`; a chart may have `values`, `set` and a `release`.\n\n{}",
        deployments_text(found)
    )
}

fn deployments_text(found: &BTreeMap<String, Deployment>) -> String {
    let mut out = String::new();
    for (name, deployment) in found {
        let gap = if out.is_empty() { "" } else { "\n" };
        let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let name = if is_bare { name.clone() } else { quoted(name) };
        let _ = writeln!(out, "{gap}[deployments.{name}]");
        let path = |path: &PathBuf| quoted(&path.display().to_string());
        if let Some(folder) = &deployment.kustomize {
            let _ = writeln!(out, "kustomize = {}", path(folder));
        }
        if let Some(folder) = &deployment.chart {
            let _ = writeln!(out, "chart = {}", path(folder));
        }
        if !deployment.files.is_empty() {
            let files: Vec<String> = deployment.files.iter().map(path).collect();
            let _ = writeln!(out, "files = [{}]", files.join(", "));
        }
    }
    out
}

/// A text as a string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
