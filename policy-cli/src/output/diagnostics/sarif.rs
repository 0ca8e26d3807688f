//! Findings as SARIF 2.1.0, which GitHub, GitLab, editors and dashboards read.
//!
//! - `rules`: the rules, with their documentation.
//!
//! Source: *Static Analysis Results Interchange Format (SARIF) Version 2.1.0 plus Errata 01*, OASIS.

mod rules;

use std::collections::BTreeMap;

use policy_core::diagnostic::{Edit, Position, Rule, Severity};
use serde_json::{Value, json};

use super::files::{File, Region};
use super::fingerprint;
use super::report::{Found, Part, Report, about};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// The home page of the project, as in the chart.
const HOME: &str = "https://netpol.example";

/// The log file: one run, with the results of all inputs.
pub(crate) fn log(report: &Report<'_>) -> Value {
    let used: BTreeMap<&str, &'static Rule> =
        report.findings().map(|found| (found.diagnostic.rule.id, found.diagnostic.rule)).collect();
    let numbers: BTreeMap<&str, usize> = used.keys().enumerate().map(|(number, id)| (*id, number)).collect();
    let results = report.findings().map(|found| result(report, found, numbers.get(found.diagnostic.rule.id)));
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "netpol",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": HOME,
                "rules": used.values().map(|rule| rules::descriptor(rule)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "invocations": [{
                "executionSuccessful": report.parts.iter().all(|part| part.error.is_none()),
                "toolExecutionNotifications": report.parts.iter().flat_map(notifications).collect::<Vec<_>>(),
            }],
            "results": results.collect::<Vec<_>>(),
        }],
    })
}

/// An object of the fields that have a value.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect::<serde_json::Map<_, _>>().into()
}

/// A list, if it has a value.
fn list(values: Vec<Value>) -> Option<Value> {
    Some(Value::from(values)).filter(|values| *values != json!([]))
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

fn properties(part: &Part<'_>) -> Option<Value> {
    part.deployment.map(|name| json!({"deployment": name}))
}

/// What could not be read, and what was left out.
fn notifications(part: &Part<'_>) -> Vec<Value> {
    let gaps = part.gaps.iter().map(|text| ("note", text));
    let all = part.error.iter().map(|text| ("error", text)).chain(gaps);
    let notification = |(level, text): (&str, &String)| {
        object([("level", Some(level.into())), ("message", Some(json!({"text": text}))), ("properties", properties(part))])
    };
    all.map(notification).collect()
}

fn result(report: &Report<'_>, found: Found<'_>, number: Option<&usize>) -> Value {
    let diagnostic = found.diagnostic;
    // GitHub refuses a whole log file for one result without a file.
    let physical = report.anchor(found).map(|(file, at)| physical(file, at));
    let logical = diagnostic.object.as_ref().map(|object| {
        let path = Some(&diagnostic.path).filter(|path| !path.is_empty());
        let full = [Some(object.to_string()), path.cloned()].into_iter().flatten().collect::<Vec<_>>().join(": ");
        json!([{"name": object.to_string(), "fullyQualifiedName": full, "kind": "resource"}])
    });
    let location = object([("physicalLocation", physical), ("logicalLocations", logical)]);
    let fix = diagnostic.edit.as_ref().and_then(|edit| fix(report, edit, diagnostic.help.as_deref()));
    object([
        ("ruleId", Some(diagnostic.rule.id.into())),
        ("ruleIndex", number.map(|number| (*number).into())),
        ("level", Some(level(diagnostic.severity).into())),
        ("message", Some(json!({"text": report.lines(found).join("\n")}))),
        ("locations", list([location].into_iter().filter(|location| *location != json!({})).collect())),
        ("relatedLocations", list(related(report, found))),
        ("fixes", list(fix.into_iter().collect())),
        ("partialFingerprints", Some(json!({"netpolFinding/v1": fingerprint::of(diagnostic)}))),
        ("properties", properties(found.part)),
    ])
}

fn related(report: &Report<'_>, found: Found<'_>) -> Vec<Value> {
    let location = |(number, related): (usize, &policy_core::diagnostic::Related)| {
        let place = related.place.as_ref().and_then(|place| report.files.at(place)).map(|(file, at)| physical(file, at));
        let logical = related.object.as_ref().map(|object| json!([{"name": object.to_string(), "kind": "resource"}]));
        object([
            ("id", Some(number.into())),
            ("message", Some(json!({"text": about(related)}))),
            ("physicalLocation", place),
            ("logicalLocations", logical),
        ])
    };
    found.diagnostic.related.iter().enumerate().map(location).collect()
}

fn artifact(file: &File) -> Value {
    let base = file.is_below_root.then(|| "%SRCROOT%".into());
    object([("uri", Some(file.uri().into())), ("uriBaseId", base)])
}

/// A place in a file. GitHub refuses one without a line.
fn physical(file: &File, at: Option<&Position>) -> Value {
    let region = at.map_or_else(|| json!({"startLine": 1}), |at| region(&file.region(at)));
    json!({"artifactLocation": artifact(file), "region": region})
}

fn region(region: &Region) -> Value {
    let end = region.end.as_ref();
    object([
        ("startLine", Some(region.line.into())),
        ("startColumn", Some(region.column.into())),
        ("endLine", end.map(|end| end.line.into())),
        ("endColumn", end.map(|end| end.column.into())),
        ("byteOffset", end.map(|end| end.bytes.0.into())),
        ("byteLength", end.map(|end| (end.bytes.1 - end.bytes.0).into())),
    ])
}

/// The edit of a finding; `None` if bytes are not those of the file.
fn fix(report: &Report<'_>, edit: &Edit, help: Option<&str>) -> Option<Value> {
    let file = report.files.get(&edit.file)?;
    let deleted = region(&file.region_of_bytes(edit.bytes)?);
    let replacement = json!({"deletedRegion": deleted, "insertedContent": {"text": edit.text}});
    Some(object([
        ("description", help.map(|help| json!({"text": help}))),
        ("artifactChanges", Some(json!([{"artifactLocation": artifact(file), "replacements": [replacement]}]))),
    ]))
}
