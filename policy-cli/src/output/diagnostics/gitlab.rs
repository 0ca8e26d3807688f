//! Findings as a report of code quality for GitLab, which shows what a merge request adds and corrects.
//!
//! Source: *Code Quality report format* of the documentation of GitLab. Each finding needs a path, a line, and a fingerprint that no other one
//! of the report has.

use std::collections::BTreeSet;

use policy_core::diagnostic::Severity;
use serde_json::{Value, json};

use super::fingerprint;
use super::report::{Found, Report};

/// The report.
pub(crate) fn issues(report: &Report<'_>) -> Value {
    let mut taken = BTreeSet::new();
    report.findings().map(|found| issue(report, found, &mut taken)).collect()
}

fn issue(report: &Report<'_>, found: Found<'_>, taken: &mut BTreeSet<String>) -> Value {
    let diagnostic = found.diagnostic;
    let (path, line) = match report.anchor(found) {
        Some((file, position)) => (file.path.as_str(), position.map_or(1, |at| at.line)),
        None => (diagnostic.file(), diagnostic.position().map_or(1, |at| at.line)),
    };
    let path = if path.is_empty() { "-" } else { path };
    let identity = fingerprint::of(diagnostic);
    let deployment = found.part.deployment.unwrap_or_default();
    // A finding can be in a file more than once.
    let mut number = 0;
    let fingerprint = loop {
        let print = fingerprint::hash(&[&identity, path, deployment, &number.to_string()]);
        if taken.insert(print.clone()) {
            break print;
        }
        number += 1;
    };
    let deployment = found.part.deployment.map(|name| format!("deployment: {name}"));
    let description: Vec<String> = report.lines(found).into_iter().chain(deployment).collect();
    json!({
        "description": description.join("; "),
        "check_name": diagnostic.rule.name,
        "fingerprint": fingerprint,
        "severity": match diagnostic.severity {
            Severity::Error => "major",
            Severity::Warning => "minor",
            Severity::Info => "info",
        },
        "location": {"path": path, "lines": {"begin": line}},
    })
}
