//! `netpol validate`: every error in the input, with file and line.

use std::collections::BTreeMap;

use anyhow::Result;
use policy_core::compile::{Compiler, Options};
use policy_core::diagnostic::Diagnostic;
use serde::Serialize;

use crate::Outcome;
use crate::args::{AnswerFormat, FailOn, ValidateArgs};
use crate::input::{self, empty};
use crate::output::diagnostics::json::Finding;
use crate::output::diagnostics::text;
use crate::output::{GREEN, RED, is_quiet, json, json_lines, print_findings, yaml};

/// The findings, as `-o json` prints them. Fields are added, never renamed or removed.
#[derive(Serialize)]
struct Findings<'a> {
    valid: bool,
    errors: usize,
    warnings: usize,
    diagnostics: Vec<Finding<'a>>,
    /// Objects that were read, by kind.
    read: BTreeMap<&'static str, usize>,
    /// Objects that do not affect connections, by kind.
    skipped: &'a BTreeMap<String, usize>,
    /// Policies of other engines and tiers, which are not evaluated.
    not_evaluated: Vec<String>,
}

pub(crate) fn run(args: &ValidateArgs) -> Result<Outcome> {
    let mut input = input::read(&args.input, args.stored.as_deref())?;
    text::print_notes(&input.notes);
    let snapshot = &input.snapshot;
    empty::require_objects(snapshot, input.files, &args.input)?;
    let mut compiler = Compiler::new(Options::default());
    snapshot.changes().for_each(|change| compiler.apply(change));
    let of_graph = policy_lint::check_graph(compiler.graph(), snapshot);
    input.excerpts.complete(&of_graph);
    let all: Vec<&Diagnostic> = snapshot.diagnostics.iter().chain(&of_graph).collect();
    let errors = all.iter().filter(|d| d.is_error()).count();
    let findings = Findings {
        valid: errors == 0,
        errors,
        warnings: all.len() - errors,
        read: BTreeMap::from([
            ("namespaces", snapshot.namespaces.len()),
            ("networkpolicies", snapshot.policies.len()),
            ("nodes", snapshot.nodes.len()),
            ("workloads", snapshot.workloads.len()),
        ]),
        skipped: &snapshot.skipped,
        not_evaluated: snapshot
            .foreign
            .iter()
            .map(|f| {
                format!(
                    "{} {} ({})",
                    f.kind,
                    f.namespace.as_ref().map_or(f.name.clone(), |ns| format!("{ns}/{}", f.name)),
                    f.origin
                )
            })
            .collect(),
        diagnostics: all.iter().map(|found| Finding::from(*found)).collect(),
    };
    match args.output {
        AnswerFormat::Json => json(&findings)?,
        AnswerFormat::Jsonl => json_lines(&findings.diagnostics)?,
        AnswerFormat::Yaml => yaml::print(&findings)?,
        AnswerFormat::Text => {
            let found = text::text(all.iter().copied(), &input.excerpts);
            let summary =
                if is_quiet() { String::new() } else { summary(&findings, &read_from(input.files, args.input.cluster.live)) };
            print_findings(&(found + &summary))?;
        }
    }
    Ok(outcome(&all, args.fail_on))
}

/// Rules about input that is not what was asked for: a file that cannot be read, and the answer of a server in place of objects. Everything
/// else is a finding about what was read.
const UNREAD: [&str; 3] = ["unreadable-file", "html-page", "error-answer"];

fn outcome(findings: &[&Diagnostic], fail_on: FailOn) -> Outcome {
    if findings.iter().any(|found| found.is_error() && UNREAD.contains(&found.rule.name)) {
        Outcome::BadInput
    } else if findings.iter().any(|found| fail_on == FailOn::Warning || found.is_error()) {
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

fn summary(findings: &Findings<'_>, read_from: &str) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let read = |kind: &str| findings.read.get(kind).copied().unwrap_or(0);
    let (style, word) = if findings.valid { (GREEN, "valid") } else { (RED, "not valid") };
    let mut out = format!(
        "{style}{word}{style:#}: {}, {} in {read_from}\n",
        count(findings.errors, "error"),
        count(findings.warnings, "warning"),
    );
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
    out
}
