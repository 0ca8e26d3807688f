//! `netpol validate`: every error in the input, with file and line.

use std::collections::BTreeMap;

use anyhow::Result;
use policy_core::compile::{Compiler, Options};
use policy_core::diagnostic::Diagnostic;
use serde::Serialize;

use crate::Outcome;
use crate::args::{AnswerFormat, ValidateArgs};
use crate::input::{self, Counted};
use crate::output::diagnostics::json::Finding;
use crate::output::diagnostics::text;
use crate::output::{GREEN, RED, json, print};
use crate::questions::representation;

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
    /// Objects whose pods a controller makes in a way that is not known.
    unknown_pods: Vec<String>,
}

pub(crate) fn run(args: &ValidateArgs) -> Result<Outcome> {
    let mut input = input::read(&args.input, args.stored.as_deref(), Counted::Expected)?;
    let snapshot = &input.snapshot;
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
        unknown_pods: snapshot.unknown_pods().map(representation::named).collect(),
        diagnostics: all.iter().map(|found| Finding::from(*found)).collect(),
    };
    text::print_notes(&input.notes);
    match args.output {
        AnswerFormat::Json => json(&findings)?,
        AnswerFormat::Text => {
            text::print(all, &input.excerpts);
            print(&summary(&findings, input.files))?;
        }
    }
    Ok(if errors == 0 { Outcome::Yes } else { Outcome::BadInput })
}

fn summary(findings: &Findings<'_>, files: usize) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let read = |kind: &str| findings.read.get(kind).copied().unwrap_or(0);
    let (style, word) = if findings.valid { (GREEN, "valid") } else { (RED, "not valid") };
    let mut out = format!(
        "{style}{word}{style:#}: {}, {} in {}\n",
        count(findings.errors, "error"),
        count(findings.warnings, "warning"),
        count(files, "file")
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
    if !findings.unknown_pods.is_empty() {
        out.push_str(&format!(
            "not evaluated: the pods of {}, which controllers make that netpol does not know\n",
            findings.unknown_pods.join(", ")
        ));
    }
    out
}
