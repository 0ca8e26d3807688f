//! The differences between two inputs, in each format.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::rows::{destination, is_unrestricted, label, ports};
use super::{BOLD, DIM, GREEN, RED};
use crate::questions::differences::{Change, Differences, Edit, Kind};
use crate::questions::merged::{Merged, MergedRow};
use crate::questions::rows::{Peer, Row};

/// The differences, as `-o json` and `-o yaml` print them. Fields are added, never renamed or removed.
#[derive(Serialize)]
pub(crate) struct Document<'a> {
    /// What could make the cluster behave differently.
    caveats: &'a [String],
    added: usize,
    removed: usize,
    changes: &'a [Change],
    edits: &'a [Edit],
    workloads_added: &'a [Peer],
    workloads_removed: &'a [Peer],
}

impl<'a> Document<'a> {
    pub(crate) fn new(found: &'a Differences, caveats: &'a [String]) -> Self {
        let Differences { changes, edits, went, came, .. } = found;
        let count = |kind: Kind| changes.iter().filter(|change| change.kind == kind).count();
        Self {
            caveats,
            added: count(Kind::Added),
            removed: count(Kind::Removed),
            changes,
            edits,
            workloads_added: came,
            workloads_removed: went,
        }
    }
}

/// Changes with the same causes.
struct Section<'f> {
    kind: Kind,
    with_new_or_gone: bool,
    causes: Vec<&'f Edit>,
    rows: Vec<Row>,
}

impl Section<'_> {
    fn title(&self) -> &'static str {
        match (self.kind, self.with_new_or_gone) {
            (Kind::Added, false) => "allowed now",
            (Kind::Removed, false) => "denied now",
            (Kind::Added, true) => "allowed for workloads that were added",
            (Kind::Removed, true) => "no longer allowed, because workloads were removed",
        }
    }
}

fn sections(found: &Differences) -> Vec<Section<'_>> {
    let mut by_cause: BTreeMap<(bool, Kind, &[usize]), Vec<Row>> = BTreeMap::new();
    for change in &found.changes {
        let causes: &[usize] = if change.with_new_or_gone { &[] } else { &change.causes };
        by_cause.entry((change.with_new_or_gone, change.kind, causes)).or_default().push(change.row.clone());
    }
    let section = |((with_new_or_gone, kind, causes), rows): ((bool, Kind, &[usize]), Vec<Row>)| Section {
        kind,
        with_new_or_gone,
        causes: causes.iter().filter_map(|place| found.edits.get(*place)).collect(),
        rows,
    };
    by_cause.into_iter().map(section).collect()
}

fn cause(edit: &Edit) -> String {
    let place = edit.place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
    format!("{}{place}: {}", edit.object, edit.what.join("; "))
}

/// How much differs, in one line.
fn summary(found: &Differences) -> String {
    let Document { added, removed, .. } = Document::new(found, &[]);
    let workloads = |list: &[Peer], what: &str| match list.len() {
        0 => String::new(),
        1 => format!(", 1 workload {what}"),
        n => format!(", {n} workloads {what}"),
    };
    let connections = match (added, removed) {
        (0, 0) => "no connection changes".to_owned(),
        _ => {
            let plural = if added == 1 { "" } else { "s" };
            format!("{added} connection{plural} added, {removed} removed")
        }
    };
    let policies = found.edits.iter().filter(|edit| edit.object.starts_with("NetworkPolicy ")).count();
    let rewritten = match (added + removed, policies) {
        (0, 1) => ": 1 policy was rewritten".to_owned(),
        (0, n) if n > 0 => format!(": {n} policies were rewritten"),
        _ => String::new(),
    };
    format!("{connections}{rewritten}{}{}", workloads(&found.came, "added"), workloads(&found.went, "removed"))
}

/// Text for people.
pub(crate) fn text(found: &Differences, is_quiet: bool) -> String {
    let mut out = String::new();
    for section in sections(found) {
        let (style, sign) = match section.kind {
            Kind::Added => (GREEN, '+'),
            Kind::Removed => (RED, '-'),
        };
        let _ = writeln!(out, "{BOLD}{}{BOLD:#}", section.title());
        for edit in &section.causes {
            let _ = writeln!(out, "  {DIM}{}{DIM:#}", cause(edit));
        }
        let merged = Merged::new(&section.rows);
        for row in &merged.rows {
            let _ = writeln!(
                out,
                "  {style}{sign} {} → {}{style:#}  {}",
                source(&merged, row),
                destination(&merged, row),
                ports(row.row)
            );
        }
        out.push('\n');
    }
    for (list, sign, what) in [(&found.came, '+', "workloads added"), (&found.went, '-', "workloads removed")] {
        if !list.is_empty() {
            let names: Vec<&Peer> = list.iter().collect();
            let _ = writeln!(out, "{sign} {what}: {}\n", label(&names));
        }
    }
    if !is_quiet {
        let _ = writeln!(out, "{DIM}{}{DIM:#}", summary(found));
    }
    out
}

fn source(merged: &Merged<'_>, row: &MergedRow<'_>) -> String {
    label(merged.groups.get(row.source).map(Vec::as_slice).unwrap_or_default())
}

/// Markdown for a comment on a pull request.
pub(crate) fn markdown(found: &Differences, caveats: &[String]) -> String {
    let mut out = format!("### Network policy: {}\n", summary(found));
    for section in sections(found) {
        let _ = writeln!(out, "\n**{}**\n", capitalised(section.title()));
        for edit in &section.causes {
            let _ = writeln!(out, "- {}", escaped(&cause(edit)));
        }
        if !section.causes.is_empty() {
            out.push('\n');
        }
        out.push_str("| | source | destination | ports |\n| --- | --- | --- | --- |\n");
        let merged = Merged::new(&section.rows);
        for row in &merged.rows {
            let sign = if section.kind == Kind::Added { "➕" } else { "➖" };
            let ports = if is_unrestricted(row.row) { format!("**{}**", ports(row.row)) } else { ports(row.row) };
            let cells = [source(&merged, row), destination(&merged, row), ports].map(|cell| escaped(&cell));
            let _ = writeln!(out, "| {sign} | {} |", cells.join(" | "));
        }
    }
    for (list, what) in [(&found.came, "Workloads added"), (&found.went, "Workloads removed")] {
        if !list.is_empty() {
            let names: Vec<&Peer> = list.iter().collect();
            let _ = writeln!(out, "\n{what}: {}", escaped(&label(&names)));
        }
    }
    for caveat in caveats {
        let _ = writeln!(out, "\n> {}", escaped(caveat));
    }
    out
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Text as a cell of a table.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ").replace('<', "&lt;")
}
