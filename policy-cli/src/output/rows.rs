//! Lists as text, and the choice of a format.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::Result;
use policy_core::sets::PortSet;
use serde::Serialize;

use super::{BOLD, DIM, RED, YELLOW, graphs, is_quiet, json, json_lines, message, print, print_wrapped, raw, tables, yaml};
use crate::args::{ListFormat, ListOutputArgs};
use crate::questions::caveats;
use crate::questions::caveats::lists::Listing;
use crate::questions::evaluation::Evaluation;
use crate::questions::folded::by_namespace;
use crate::questions::merged::{Merged, MergedRow, Within};
use crate::questions::rows::{Peer, Question, Row};
use crate::questions::scope::Scope;

/// Ends of a group that are named; larger groups are counted.
const MOST_NAMES: usize = 3;
/// Columns to which names are filled.
const WIDEST_NAME: usize = 60;

/// A list, as `-o json` and `-o yaml` print it. Fields are added, never renamed or removed.
#[derive(Serialize, Debug)]
struct Document<'a> {
    /// What could make the cluster behave differently.
    caveats: &'a [String],
    connections: &'a [Row],
}

/// Prints the caveats of a list on standard error, unless the format has a field for them.
pub(crate) fn print_caveats(caveats: &[String], format: ListFormat) {
    if matches!(format, ListFormat::Json | ListFormat::Yaml) {
        return;
    }
    for caveat in caveats {
        message(&format!("{YELLOW}caveat{YELLOW:#}: {caveat}"));
    }
}

/// Prints rows in a format, with their caveats.
pub(crate) fn show(
    evaluation: &Evaluation,
    question: &Question<'_>,
    asked: Option<&PortSet>,
    rows: &[Row],
    args: &ListOutputArgs,
) -> Result<()> {
    let caveats = caveats::of_lists(evaluation, &Listing::new(evaluation, question, asked, Some(rows)));
    print_caveats(&caveats, args.format);
    let folded;
    let rows = match args.by {
        Some(_) => {
            folded = by_namespace(evaluation, question, rows);
            folded.as_slice()
        }
        None => rows,
    };
    let merged = || if args.verbose || args.by.is_some() { Merged::apart(rows) } else { Merged::new(rows) };
    match args.format {
        ListFormat::Text => print_wrapped(&text(&merged(), rows, question.scope)),
        ListFormat::Json => json(&Document { caveats: &caveats, connections: rows }),
        ListFormat::Jsonl => json_lines(rows),
        ListFormat::Yaml => yaml::print(&Document { caveats: &caveats, connections: rows }),
        ListFormat::Csv => raw(&tables::csv(rows)?),
        ListFormat::Md => raw(tables::markdown(&merged()).as_bytes()),
        ListFormat::Matrix => print(&tables::matrix(&merged())),
        ListFormat::Dot => raw(graphs::dot(&merged())?.as_bytes()),
        ListFormat::Mermaid => raw(graphs::mermaid(&merged())?.as_bytes()),
    }
}

/// `TCP 80; UDP 53`, with the ports of only some pods in parentheses.
pub(super) fn ports(row: &Row) -> String {
    let one = |ports: &PortSet| if ports.is_all() { "every protocol and port".to_owned() } else { ports.to_string() };
    let partly = if row.partly.is_empty() { String::new() } else { format!("some pods: {}", one(&row.partly)) };
    match (row.allowed.is_empty(), partly.is_empty()) {
        (false, true) => one(&row.allowed),
        (false, false) => format!("{} ({partly})", one(&row.allowed)),
        (true, _) => format!("({partly})"),
    }
}

/// Whether nothing restricts the connection.
pub(super) fn is_unrestricted(row: &Row) -> bool {
    row.allowed.is_all() || row.partly.is_all()
}

/// The name of a group: its members, or how many there are, and of which namespaces.
pub(super) fn label(group: &[&Peer]) -> String {
    if let [one] = group {
        return one.to_string();
    }
    let workloads: Vec<(&str, &str, &str)> = group
        .iter()
        .filter_map(|peer| match peer {
            Peer::Workload { kind, namespace, name } => Some((kind.as_str(), namespace.as_str(), name.as_str())),
            Peer::External { .. } => None,
        })
        .collect();
    if workloads.len() <= MOST_NAMES {
        let kinds: BTreeSet<&str> = workloads.iter().map(|(kind, ..)| *kind).collect();
        return match kinds.len() {
            1 => {
                let names: Vec<String> = workloads.iter().map(|(_, namespace, name)| format!("{namespace}/{name}")).collect();
                format!("{} ({})", names.join(", "), kinds.into_iter().collect::<String>())
            }
            _ => group.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        };
    }
    let namespaces: BTreeSet<&str> = workloads.iter().map(|(_, namespace, _)| *namespace).collect();
    let list: Vec<&str> = namespaces.iter().copied().take(MOST_NAMES).collect();
    let of = match namespaces.len() {
        n if n > MOST_NAMES => format!("{n} namespaces"),
        _ => list.join(", "),
    };
    format!("{} workloads of {of}", workloads.len())
}

/// The destination of a merged row, or how the members of its group are connected.
pub(super) fn destination(merged: &Merged<'_>, row: &MergedRow<'_>) -> String {
    let group = merged.groups.get(row.destination).map(Vec::as_slice).unwrap_or_default();
    match row.within {
        Within::Groups => label(group),
        Within::Themselves if group.len() == 1 => label(group),
        Within::Themselves => "each with its own replicas".to_owned(),
        Within::EachOther => "each other".to_owned(),
        Within::Everyone => "each other and themselves".to_owned(),
    }
}

fn text(merged: &Merged<'_>, rows: &[Row], scope: &Scope) -> String {
    let mut out = String::new();
    let is_one_destination =
        merged.rows.iter().all(|row| Some(row.destination) == merged.rows.first().map(|row| row.destination));
    if is_one_destination && merged.rows.len() > 1 {
        by_destination(merged, &mut out);
    } else {
        by_source(merged, &mut out);
    }
    if is_quiet() {
        return out;
    }
    let plural = if rows.len() == 1 { "" } else { "s" };
    let mut summary = format!("{} allowed connection{plural}", rows.len());
    if let Some(namespace) = &scope.namespace {
        let _ = write!(summary, " with an end in namespace {namespace}");
    }
    let unrestricted = rows.iter().filter(|row| is_unrestricted(row)).count();
    let _ = write!(out, "{}{DIM}{summary}{DIM:#}", if rows.is_empty() { "" } else { "\n" });
    if unrestricted > 0 {
        let _ = write!(out, "{DIM},{DIM:#} {RED}{unrestricted} on every protocol and port{RED:#}");
    }
    out.push('\n');
    out
}

fn shown_ports(row: &Row) -> String {
    if is_unrestricted(row) { format!("{RED}{}{RED:#}", ports(row)) } else { ports(row) }
}

/// The sources, each with its destinations.
fn by_source(merged: &Merged<'_>, out: &mut String) {
    let mut by_source: BTreeMap<usize, Vec<&MergedRow<'_>>> = BTreeMap::new();
    for row in &merged.rows {
        by_source.entry(row.source).or_default().push(row);
    }
    let labels: Vec<String> = merged.rows.iter().map(|row| destination(merged, row)).collect();
    let width = width(labels.iter());
    let mut is_first = true;
    for (source, rows) in by_source {
        let gap = if is_first { "" } else { "\n" };
        is_first = false;
        let group = merged.groups.get(source).map(Vec::as_slice).unwrap_or_default();
        let _ = writeln!(out, "{gap}{BOLD}{}{BOLD:#}", label(group));
        for row in rows {
            let _ = writeln!(out, "  → {:<width$}  {}", destination(merged, row), shown_ports(row.row));
        }
    }
}

/// The only destination, with its sources.
fn by_destination(merged: &Merged<'_>, out: &mut String) {
    let Some(first) = merged.rows.first() else { return };
    let group = |place: usize| merged.groups.get(place).map(Vec::as_slice).unwrap_or_default();
    let source = |row: &MergedRow<'_>| match row.within {
        Within::Groups => label(group(row.source)),
        _ => destination(merged, row),
    };
    let width = width(merged.rows.iter().map(source));
    let _ = writeln!(out, "{BOLD}{}{BOLD:#}", label(group(first.destination)));
    for row in &merged.rows {
        let _ = writeln!(out, "  ← {:<width$}  {}", source(row), shown_ports(row.row));
    }
}

fn width<S: AsRef<str>>(texts: impl Iterator<Item = S>) -> usize {
    texts.map(|text| text.as_ref().chars().count()).max().unwrap_or(0).min(WIDEST_NAME)
}
