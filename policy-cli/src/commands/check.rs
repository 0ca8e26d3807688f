//! What `netpol validate` and `netpol lint` have in common: the findings about each input, with file and line.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use policy_core::compile::{Compiler, Options};
use policy_core::diagnostic::{Diagnostic, Edit, Position, Severity};
use policy_core::manifest::Snapshot;
use policy_core::model::{Direction, ObjectKey};
use serde::Serialize;

use super::lint::Rules;
use crate::Outcome;
use crate::args::{FailOn, FindingsFormat, InputArgs};
use crate::input::config::{self, Selected};
use crate::input::left_out::{self, LeftOut};
use crate::input::pipes::NotRendered;
use crate::input::{self, Counted, Input, edits, empty};
use crate::output::diagnostics::json::Finding;
use crate::output::diagnostics::report::{Part, Report};
use crate::output::diagnostics::{github, gitlab, junit, sarif, text};
use crate::output::{BOLD, GREEN, RED, YELLOW, is_quiet, json, json_lines, message, print_findings, raw, yaml};
use crate::questions::representation;

/// The findings, as `-o json` prints them. Fields are added, never renamed or removed.
#[derive(Serialize, Default)]
struct Findings<'a> {
    valid: bool,
    errors: usize,
    warnings: usize,
    infos: usize,
    diagnostics: Vec<OfDeployment<'a>>,
    /// Objects that were read, by kind.
    read: BTreeMap<&'static str, usize>,
    /// Objects that do not affect connections, by kind.
    skipped: BTreeMap<&'a str, usize>,
    /// Policies of other engines and tiers, which are not evaluated.
    not_evaluated: Vec<String>,
    /// What was not read, and could hold objects.
    left_out: Vec<&'a LeftOut>,
    /// Objects whose pods a controller makes in a way that is not known.
    unknown_pods: Vec<String>,
    /// The deployments of `netpol.toml`, if all of them were checked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deployments: Vec<Checked<'a>>,
    #[serde(skip)]
    files: usize,
}

/// A finding, and the deployment that it is about.
#[derive(Serialize)]
struct OfDeployment<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment: Option<&'a str>,
    #[serde(flatten)]
    finding: Finding<'a>,
}

/// The outcome for one deployment.
#[derive(Serialize)]
struct Checked<'a> {
    name: &'a str,
    valid: bool,
    errors: usize,
    warnings: usize,
    infos: usize,
    /// Why it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The same in one line, and what to do.
    #[serde(skip)]
    why: String,
}

/// What is checked, and how it is told.
pub(super) struct Checks<'a> {
    pub input: &'a InputArgs,
    pub fail_on: Option<FailOn>,
    /// A file with the policies that the files update.
    pub stored: Option<&'a Path>,
    /// The rules beside those of `validate`; `None` for `validate`.
    pub lints: Option<Rules>,
    pub output: FindingsFormat,
}

pub(super) fn run(args: &Checks<'_>) -> Result<Outcome> {
    let selected = config::each(args.input)?;
    let fail_on = match args.fail_on {
        Some(fail_on) => fail_on,
        None => config::fail_on()?,
    };
    let mut all = Findings { valid: true, ..Findings::default() };
    let mut read = Vec::new();
    for Selected { deployment: name, args: input } in &selected {
        let loaded = match load(input, args) {
            Err(error) if name.is_none() => return Err(error),
            loaded => loaded,
        };
        if args.output == FindingsFormat::Text {
            if let Some((name, what)) = name {
                let gap = if read.is_empty() { "" } else { "\n" };
                print_findings(&format!("{gap}{BOLD}{name}{BOLD:#} ({what})\n"))?;
            }
            show(&loaded, input.cluster.live, args.lints.is_some())?;
        } else {
            match &loaded {
                Ok((input, _)) => {
                    text::print_notes(&input.notes);
                    text::print_notes(&input.missing);
                }
                // JSON and YAML have a field for it.
                Err(_) if matches!(args.output, FindingsFormat::Json | FindingsFormat::Yaml) => {}
                Err(error) => message(&format!("{RED}error{RED:#}: {error:#}")),
            }
        }
        read.push((name.as_ref().map(|(name, _)| name.as_str()), loaded));
    }
    let mut worst = Outcome::Yes;
    for (name, loaded) in &read {
        let of_one = loaded.as_ref().map_or(Outcome::BadInput, |(input, of_graph)| outcome(input, of_graph, fail_on));
        worst = worst.max(of_one);
        all.add(*name, loaded.as_ref().map(|(input, of_graph)| findings(*name, input, of_graph)));
    }
    let report = || Report::new(args.command(), read.iter().map(part).collect(), fail_on);
    match args.output {
        FindingsFormat::Text if !is_quiet() => print_findings(&of_deployments(&all.deployments))?,
        FindingsFormat::Text => {}
        FindingsFormat::Json => json(&all)?,
        FindingsFormat::Jsonl => json_lines(&all.diagnostics)?,
        FindingsFormat::Yaml => yaml::print(&all)?,
        FindingsFormat::Sarif => json(&sarif::log(&report()?))?,
        FindingsFormat::Github => raw(github::commands(&report()?).as_bytes())?,
        FindingsFormat::Gitlab => json(&gitlab::issues(&report()?))?,
        FindingsFormat::Junit => raw(junit::xml(&report()?).as_bytes())?,
    }
    Ok(worst)
}

impl Checks<'_> {
    fn command(&self) -> &'static str {
        if self.lints.is_some() { "netpol lint" } else { "netpol validate" }
    }
}

/// An input as services show it.
fn part<'a>((deployment, loaded): &'a (Option<&'a str>, Read)) -> Part<'a> {
    let deployment = *deployment;
    match loaded {
        Ok((input, of_graph)) => Part {
            deployment,
            read_from: &input.read_from,
            found: input.snapshot.diagnostics.iter().chain(of_graph).collect(),
            gaps: [&input.notes[..], &input.missing, &left_out::sentences(&input.left_out)].concat(),
            error: None,
        },
        Err(error) => Part { deployment, read_from: &[], found: Vec::new(), gaps: Vec::new(), error: Some(format!("{error:#}")) },
    }
}

/// The input of a deployment with the findings about its graph, or why there is none.
type Read = Result<(Input, Vec<Diagnostic>)>;

/// How many deployments are valid, and which ones could not be checked and what to do; nothing about a single one that was.
fn of_deployments(checked: &[Checked<'_>]) -> String {
    let valid = checked.iter().filter(|one| one.valid).count();
    let missing: Vec<&Checked<'_>> = checked.iter().filter(|one| one.error.is_some()).collect();
    if checked.len() + missing.len() < 2 {
        return String::new();
    }
    let style = if valid == checked.len() { GREEN } else { RED };
    let mut out = format!("\n{style}{valid} of {} deployments{style:#} valid", checked.len());
    for (count, what) in [(checked.len() - missing.len() - valid, "not valid"), (missing.len(), "not checked")] {
        if count > 0 {
            out.push_str(&format!(", {count} {what}"));
        }
    }
    out.push('\n');
    for Checked { name, why, .. } in missing {
        out.push_str(&format!("{YELLOW}not checked{YELLOW:#}: {name}: {why}\n"));
    }
    out
}

/// The input, and the findings about its graph.
fn load(args: &InputArgs, checks: &Checks<'_>) -> Read {
    let mut input = input::read(args, checks.stored, Counted::Expected)?;
    empty::require_objects(&input, args)?;
    let mut compiler = Compiler::new(Options::default());
    input.snapshot.changes().for_each(|change| compiler.apply(change));
    compiler.flush();
    let mut of_graph = policy_lint::check_graph(compiler.graph(), &input.snapshot);
    if let Some(rules) = &checks.lints {
        let linted = policy_lint::lint(compiler.graph(), &input.snapshot, |rule| rules.contain(rule));
        input.notes.extend(linted.gaps);
        let mut all = std::mem::take(&mut input.snapshot.diagnostics);
        all.extend(of_graph);
        all.extend(linted.findings);
        policy_lint::suppression::suppress(&mut all, &input.snapshot, &input.comments, |rule| rules.contain(rule));
        edits::complete(&mut all, |file| input.excerpts.text(file));
        of_graph = all;
    }
    input.places.apply_to(&mut of_graph);
    at_rules(&mut of_graph, &input.snapshot);
    if let Some(rules) = &checks.lints {
        rules.apply(&mut of_graph);
    }
    input.excerpts.complete(&of_graph);
    Ok((input, of_graph))
}

/// Points at the rules of policies whose files are known by their objects alone: those that kustomizations and charts come from.
fn at_rules(findings: &mut [Diagnostic], snapshot: &Snapshot) {
    for found in findings {
        let Some(place) = &mut found.place else { continue };
        let Some(object) = found.object.as_ref().filter(|object| object.kind == "NetworkPolicy") else { continue };
        let Some((namespace, name)) = object.namespace.as_ref().zip(object.name.as_ref()) else { continue };
        let Some(policy) = snapshot.policies.get(&ObjectKey::new(namespace, name)) else { continue };
        let is_whole = place.position.as_ref().is_some_and(|at| at.bytes == (0, 0));
        let line = Direction::ALL.into_iter().find_map(|direction| {
            let rest = found.path.strip_prefix(&format!("spec.{direction}["))?;
            let index: usize = rest.split(']').next()?.parse().ok()?;
            policy.rules(direction)?.get(index).map(|rule| rule.line)
        });
        if let (true, Some(line)) = (is_whole, line.filter(|line| *line > 0)) {
            place.position = Some(Position { line, column: 1, bytes: (0, 0) });
        }
    }
}

/// Prints the findings about one input, and their summary.
fn show(loaded: &Read, is_live: bool, is_lint: bool) -> Result<()> {
    let (input, of_graph) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            message(&format!("{RED}error{RED:#}: {error:#}"));
            return Ok(());
        }
    };
    text::print_notes(&input.notes);
    text::print_notes(&input.missing);
    let found = text::text(input.snapshot.diagnostics.iter().chain(of_graph), &input.excerpts);
    let files = read_from(input.files, is_live);
    let findings = findings(None, input, of_graph);
    let summary = match (is_quiet(), is_lint) {
        (true, _) => String::new(),
        (false, false) => summary(&findings, &verdict(&findings, &files), &input.left_out),
        (false, true) => summary(&findings, &counted(&findings, &files), &input.left_out),
    };
    print_findings(&(found + &summary))
}

fn findings<'a>(deployment: Option<&'a str>, input: &'a Input, of_graph: &'a [Diagnostic]) -> Findings<'a> {
    let snapshot = &input.snapshot;
    let all: Vec<&Diagnostic> = snapshot.diagnostics.iter().chain(of_graph).collect();
    let errors = all.iter().filter(|d| d.is_error()).count();
    let not_evaluated = snapshot.foreign.iter().map(|foreign| {
        let name = foreign.namespace.as_ref().map_or(foreign.name.clone(), |ns| format!("{ns}/{}", foreign.name));
        format!("{} {name} ({})", foreign.kind, foreign.origin)
    });
    Findings {
        valid: errors == 0,
        errors,
        warnings: all.iter().filter(|found| found.severity == Severity::Warning).count(),
        infos: all.iter().filter(|found| found.severity == Severity::Info).count(),
        read: BTreeMap::from([
            ("namespaces", snapshot.namespaces.len()),
            ("networkpolicies", snapshot.policies.len()),
            ("nodes", snapshot.nodes.len()),
            ("workloads", snapshot.workloads.len()),
        ]),
        skipped: snapshot.skipped.iter().map(|(kind, count)| (kind.as_str(), *count)).collect(),
        not_evaluated: not_evaluated.collect(),
        unknown_pods: snapshot.unknown_pods().map(representation::named).collect(),
        left_out: input.left_out.iter().collect(),
        diagnostics: all.into_iter().map(|found| OfDeployment { deployment, finding: Finding::from(found) }).collect(),
        deployments: Vec::new(),
        files: input.files,
    }
}

impl<'a> Findings<'a> {
    /// Adds what was found in one input.
    fn add(&mut self, deployment: Option<&'a str>, found: Result<Self, &anyhow::Error>) {
        let counts = |found: &Self| (found.valid, found.errors, found.warnings, found.infos);
        let (valid, errors, warnings, infos) = found.as_ref().map_or((false, 0, 0, 0), counts);
        self.valid &= valid;
        self.errors += errors;
        self.warnings += warnings;
        self.infos += infos;
        if let Some(name) = deployment {
            let error = found.as_ref().err().map(|error| format!("{error:#}"));
            let not_rendered = found.as_ref().err().and_then(|error| error.downcast_ref()).map(NotRendered::in_one_line);
            let why = not_rendered.or_else(|| Some(error.as_ref()?.lines().next()?.to_owned())).unwrap_or_default();
            self.deployments.push(Checked { name, valid, errors, warnings, infos, error, why });
        }
        let Ok(found) = found else { return };
        found.read.into_iter().for_each(|(kind, count)| *self.read.entry(kind).or_default() += count);
        found.skipped.into_iter().for_each(|(kind, count)| *self.skipped.entry(kind).or_default() += count);
        self.diagnostics.extend(found.diagnostics);
        self.not_evaluated.extend(found.not_evaluated);
        self.unknown_pods.extend(found.unknown_pods);
        self.left_out.extend(found.left_out);
        self.files += found.files;
    }
}

/// Rules about input that is not what was asked for: a file that cannot be read, and the answer of a server in place of objects. Everything
/// else is a finding about what was read.
const UNREAD: [&str; 3] = ["unreadable-file", "html-page", "error-answer"];

/// The outcome for one input.
fn outcome(input: &Input, of_graph: &[Diagnostic], fail_on: FailOn) -> Outcome {
    let findings = || input.snapshot.diagnostics.iter().chain(of_graph);
    if findings().any(|found| found.is_error() && UNREAD.contains(&found.rule.name)) {
        Outcome::BadInput
    } else if findings().any(|found| fail_on.includes(found.severity)) {
        Outcome::No
    } else {
        Outcome::Yes
    }
}

/// What was read, as `2 files` or `the live cluster and 1 file`.
fn read_from(files: usize, is_live: bool) -> String {
    let files_text = format!("{files} file{}", if files == 1 { "" } else { "s" });
    match (is_live, files) {
        (true, 0) => "the live cluster".to_owned(),
        (true, _) => format!("the live cluster and {files_text}"),
        (false, _) => files_text,
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Whether the input is valid.
fn verdict(findings: &Findings<'_>, read_from: &str) -> String {
    let (style, word) = if findings.valid { (GREEN, "valid") } else { (RED, "not valid") };
    let (errors, warnings) = (count(findings.errors, "error"), count(findings.warnings, "warning"));
    format!("{style}{word}{style:#}: {errors}, {warnings} in {read_from}\n")
}

/// How much was found.
fn counted(findings: &Findings<'_>, read_from: &str) -> String {
    let Findings { errors, warnings, infos, .. } = findings;
    let counts = [(*errors, RED, "error"), (*warnings, YELLOW, "warning"), (*infos, BOLD, "info")];
    let counts = counts.into_iter().filter(|(n, ..)| *n > 0);
    let counts: Vec<String> = counts.map(|(n, style, what)| format!("{style}{}{style:#}", count(n, what))).collect();
    match counts.as_slice() {
        [] => format!("{GREEN}nothing found{GREEN:#} in {read_from}\n"),
        counts => format!("{} in {read_from}\n", counts.join(", ")),
    }
}

/// The result, and what it rests on.
fn summary(findings: &Findings<'_>, result: &str, left_out: &[LeftOut]) -> String {
    let read = |kind: &str| findings.read.get(kind).copied().unwrap_or(0);
    let mut out = result.to_owned();
    let policies = read("networkpolicies");
    let policies = format!("{policies} NetworkPolic{}", if policies == 1 { "y" } else { "ies" });
    out.push_str(&format!(
        "read {policies}, {}, {}\n",
        count(read("workloads"), "workload"),
        count(read("namespaces"), "namespace")
    ));
    if !findings.skipped.is_empty() {
        let list: Vec<String> = findings.skipped.iter().map(|(kind, n)| format!("{n} × {kind}")).collect();
        out.push_str(&format!("ignored: {}\n", list.join(", ")));
    }
    if !findings.not_evaluated.is_empty() {
        out.push_str(&format!("not evaluated: {}\n", findings.not_evaluated.join(", ")));
    }
    if !findings.unknown_pods.is_empty() {
        out.push_str(&format!("not evaluated: what controllers make of {}\n", findings.unknown_pods.join(", ")));
    }
    for sentence in left_out::sentences(left_out) {
        out.push_str(&format!("{YELLOW}not read{YELLOW:#}: {sentence}\n"));
    }
    if let Some(sentence) = left_out::excluded(left_out) {
        out.push_str(&format!("excluded: {sentence}\n"));
    }
    out
}

/// The edits of the findings about each input, by file.
pub(super) fn fixes(args: &Checks<'_>) -> Result<BTreeMap<String, Vec<Edit>>> {
    let mut all = Vec::new();
    for Selected { args: input, .. } in config::each(args.input)? {
        let (input, of_graph) = load(&input, args)?;
        all.extend(input.snapshot.diagnostics);
        all.extend(of_graph);
    }
    Ok(edits::by_file(&all))
}
