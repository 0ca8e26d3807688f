//! `netpol diff`: what two inputs allow differently.
//!
//! - `revisions`: the files of a Git revision.

mod revisions;

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::evaluation;
use crate::Outcome;
use crate::args::{ChangeKind, DiffArgs, DiffFormat, InputArgs};
use crate::output::differences::{Document, markdown, text};
use crate::output::names::listed;
use crate::output::{YELLOW, is_quiet, json, message, print_wrapped, raw, yaml};
use crate::questions::caveats;
use crate::questions::differences::{Differences, Kind, differences};
use crate::questions::evaluation::Evaluation;
use revisions::Revisions;

pub(crate) fn run(args: &DiffArgs) -> Result<Outcome> {
    let Some((old, new)) = both(args)? else { return Ok(Outcome::BadInput) };
    let found = differences(&old, &new);
    let mut caveats = caveats_of(&old, &new);
    if !found.selecting.is_empty() {
        caveats.push(format!(
            "pods and namespaces that are not in the input are not compared; these edits are about selectors that may match some: {}",
            listed(&found.selecting)
        ));
    }
    match args.output {
        DiffFormat::Text => {
            print_wrapped(&text(&found, is_quiet()))?;
            caveats.iter().for_each(|caveat| message(&format!("{YELLOW}caveat{YELLOW:#}: {caveat}")));
        }
        DiffFormat::Json => json(&Document::new(&found, &caveats))?,
        DiffFormat::Yaml => yaml::print(&Document::new(&found, &caveats))?,
        DiffFormat::Markdown => raw(markdown(&found, &caveats).as_bytes())?,
    }
    if old.has_errors || new.has_errors {
        return Ok(Outcome::BadInput);
    }
    Ok(if is_failure(args.fail_on, &found) { Outcome::No } else { Outcome::Yes })
}

/// What could make the cluster behave differently: with both inputs, or with one of them.
fn caveats_of(old: &Evaluation, new: &Evaluation) -> Vec<String> {
    let [before, after] = [old, new].map(caveats::of_everything);
    let alone = |name: &'static str, own: &[String], other: &[String]| -> Vec<String> {
        own.iter().filter(|text| !other.contains(text)).map(|text| format!("{name}: {text}")).collect()
    };
    let both = before.iter().filter(|text| after.contains(text)).cloned();
    both.chain(alone("before", &before, &after)).chain(alone("after", &after, &before)).collect()
}

fn is_failure(fail_on: ChangeKind, found: &Differences) -> bool {
    let has = |kind: Kind| found.changes.iter().any(|change| change.kind == kind);
    match fail_on {
        ChangeKind::Added => has(Kind::Added),
        ChangeKind::Removed => has(Kind::Removed),
        ChangeKind::Any => !found.changes.is_empty(),
        ChangeKind::None => false,
    }
}

/// Both inputs, compiled; `None` if one has errors.
fn both(args: &DiffArgs) -> Result<Option<(Evaluation, Evaluation)>> {
    let DiffArgs { inputs: paths, git, input, .. } = args;
    if let Some(range) = git {
        return of_revisions(range, paths, input);
    }
    let (old, new) = match (paths.as_slice(), input.deployments.as_slice(), input.cluster.live) {
        ([old, new], [], false) => (with_paths(input, vec![old.clone()]), with_paths(input, vec![new.clone()])),
        ([], [old, new], false) => (with_deployment(input, old), with_deployment(input, new)),
        (paths, _, true)
            if !paths.is_empty() || !input.paths.is_empty() || !input.kustomizations.is_empty() || input.chart.is_some() =>
        {
            let mut live = with_paths(input, Vec::new());
            live.kustomizations.clear();
            live.chart = None;
            let mut files = input.clone();
            files.cluster.live = false;
            files.paths.extend(paths.iter().cloned());
            (live, files)
        }
        _ => bail!(
            "name two inputs: OLD and NEW, two deployments with -d, files beside --live, or --git A..B with the input to read in both revisions"
        ),
    };
    pair(&old, &new)
}

fn pair(old: &InputArgs, new: &InputArgs) -> Result<Option<(Evaluation, Evaluation)>> {
    let (old, new) = (evaluation(old)?, evaluation(new)?);
    Ok(old.zip(new))
}

fn with_paths(input: &InputArgs, paths: Vec<PathBuf>) -> InputArgs {
    InputArgs { paths, is_default: false, ..input.clone() }
}

fn with_deployment(input: &InputArgs, name: &str) -> InputArgs {
    InputArgs { deployments: vec![name.to_owned()], is_default: false, paths: Vec::new(), ..input.clone() }
}

/// The same input in two revisions. The second one is what the working tree has, if the range names one alone.
fn of_revisions(range: &str, paths: &[PathBuf], input: &InputArgs) -> Result<Option<(Evaluation, Evaluation)>> {
    if input.cluster.live {
        bail!("`--git` and `--live` are two ways to name what is compared; use one of them");
    }
    let mut input = input.clone();
    if !paths.is_empty() {
        input.is_default = false;
        input.paths.retain(|path| path.as_os_str() != ".");
        input.paths.extend(paths.iter().cloned());
    }
    let revisions = Revisions::new()?;
    let (first, second) = range.split_once("..").map_or((range, None), |(first, second)| (first, Some(second)));
    let head = |name: &str| if name.is_empty() { "HEAD".to_owned() } else { name.trim_start_matches('.').to_owned() };
    let old = revisions.within(&head(first), &input, evaluation)?;
    let new = match second {
        Some(second) => revisions.within(&head(second), &input, evaluation)?,
        None => evaluation(&input)?,
    };
    Ok(old.zip(new))
}
