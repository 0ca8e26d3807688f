//! Lists as text, tables and pictures.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use policy_core::sets::PortSet;

use super::{BOLD, DIM, YELLOW, json, print, raw};
use crate::args::ListFormat;
use crate::questions::caveats::input_caveats;
use crate::questions::evaluation::Evaluation;
use crate::questions::rows::{Peer, Row};

/// `TCP 80; UDP 53`, with the ports of only some pods in parentheses.
fn ports(row: &Row) -> String {
    let partly = if row.partly.is_empty() { String::new() } else { format!("some pods: {}", row.partly) };
    match (row.allowed.is_empty(), partly.is_empty()) {
        (false, true) => row.allowed.to_string(),
        (false, false) => format!("{} ({partly})", row.allowed),
        (true, _) => format!("({partly})"),
    }
}

pub(super) fn text(rows: &[Row]) -> String {
    let mut out = String::new();
    let width = rows.iter().map(|r| r.dst.to_string().chars().count()).max().unwrap_or(0).min(60);
    let mut before: Option<&Peer> = None;
    for row in rows {
        if before != Some(&row.src) {
            let gap = if before.is_some() { "\n" } else { "" };
            let _ = writeln!(out, "{gap}{BOLD}{}{BOLD:#}", row.src);
            before = Some(&row.src);
        }
        let _ = writeln!(out, "  → {:<width$}  {}", row.dst.to_string(), ports(row));
    }
    let plural = if rows.len() == 1 { "" } else { "s" };
    let _ = writeln!(out, "{}{DIM}{} allowed connection{plural}{DIM:#}", if rows.is_empty() { "" } else { "\n" }, rows.len());
    out
}

/// One record for each protocol of each row, so that a spreadsheet can filter.
pub(super) fn csv(rows: &[Row]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "src_kind",
        "src_namespace",
        "src_name",
        "src_cidrs",
        "dst_kind",
        "dst_namespace",
        "dst_name",
        "dst_cidrs",
        "protocol",
        "ports",
        "for",
    ])?;
    for row in rows {
        for (set, extent) in [(&row.allowed, "all pods"), (&row.partly, "some pods")] {
            for part in set.by_protocol() {
                let ports = part.ports.join(" ");
                let fields = peer_fields(&row.src).into_iter().chain(peer_fields(&row.dst));
                writer.write_record(fields.chain([part.protocol, ports, extent.to_owned()]))?;
            }
        }
    }
    Ok(writer.into_inner()?)
}

fn peer_fields(peer: &Peer) -> [String; 4] {
    match peer {
        Peer::Workload { kind, namespace, name } => [kind.clone(), namespace.clone(), name.clone(), String::new()],
        Peer::External { kind, cidrs } => [(*kind).to_owned(), String::new(), String::new(), cidrs.join(" ")],
    }
}

pub(super) fn markdown(rows: &[Row]) -> String {
    let mut out = String::from("| Source | Destination | Allowed |\n| --- | --- | --- |\n");
    for row in rows {
        let _ = writeln!(out, "| {} | {} | {} |", row.src, row.dst, ports(row));
    }
    out
}

/// Every end of the rows with a short id, in order of appearance.
fn ids(rows: &[Row]) -> Vec<(&Peer, String)> {
    let mut out: BTreeMap<&Peer, usize> = BTreeMap::new();
    for row in rows {
        for peer in [&row.src, &row.dst] {
            let next = out.len();
            out.entry(peer).or_insert(next);
        }
    }
    let mut list: Vec<(&Peer, usize)> = out.into_iter().collect();
    list.sort_by_key(|(_, id)| *id);
    list.into_iter().map(|(peer, id)| (peer, format!("n{id}"))).collect()
}

/// Ends by namespace; those without one under the empty name.
fn by_namespace<'a>(ids: &'a [(&'a Peer, String)]) -> BTreeMap<&'a str, Vec<&'a (&'a Peer, String)>> {
    let mut out: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for entry in ids {
        let namespace = match entry.0 {
            Peer::Workload { namespace, .. } => namespace.as_str(),
            Peer::External { .. } => "",
        };
        out.entry(namespace).or_default().push(entry);
    }
    out
}

fn short(peer: &Peer) -> String {
    match peer {
        Peer::Workload { kind, name, .. } => format!("{name}\n{kind}"),
        Peer::External { .. } => peer.to_string().replace(", ", "\n"),
    }
}

fn edge(row: &Row) -> String {
    let label = ports(row);
    if row.allowed == PortSet::all() { String::new() } else { label }
}

pub(super) fn dot(rows: &[Row]) -> String {
    let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
    let mut out = String::from(
        "digraph netpol {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", fontsize=10];\n",
    );
    let ids = ids(rows);
    for (i, (namespace, members)) in by_namespace(&ids).into_iter().enumerate() {
        let indent = if namespace.is_empty() { "  " } else { "    " };
        if !namespace.is_empty() {
            let _ = writeln!(out, "  subgraph cluster_{i} {{\n    label={};", quote(namespace));
        }
        for (peer, id) in members {
            let shape = if matches!(peer, Peer::External { .. }) { ", shape=ellipse" } else { "" };
            let _ = writeln!(out, "{indent}{id} [label={}{shape}];", quote(&short(peer)));
        }
        if !namespace.is_empty() {
            out.push_str("  }\n");
        }
    }
    for (row, source, destination) in edges(rows, &ids) {
        let _ = writeln!(out, "  {source} -> {destination} [label={}];", quote(&edge(row)));
    }
    out.push_str("}\n");
    out
}

pub(super) fn mermaid(rows: &[Row]) -> String {
    let quote = |text: &str| format!("\"{}\"", text.replace('"', "#quot;").replace('\n', "<br/>"));
    let mut out = String::from("flowchart LR\n");
    let ids = ids(rows);
    for (i, (namespace, members)) in by_namespace(&ids).into_iter().enumerate() {
        let indent = if namespace.is_empty() { "  " } else { "    " };
        if !namespace.is_empty() {
            let _ = writeln!(out, "  subgraph ns{i}[{}]", quote(namespace));
        }
        for (peer, id) in members {
            let label = quote(&short(peer));
            let shaped = if matches!(peer, Peer::External { .. }) { format!("([{label}])") } else { format!("[{label}]") };
            let _ = writeln!(out, "{indent}{id}{shaped}");
        }
        if !namespace.is_empty() {
            out.push_str("  end\n");
        }
    }
    for (row, source, destination) in edges(rows, &ids) {
        let label = edge(row);
        let arrow = if label.is_empty() { "-->".to_owned() } else { format!("-->|{}|", quote(&label)) };
        let _ = writeln!(out, "  {source} {arrow} {destination}");
    }
    out
}

fn edges<'a>(rows: &'a [Row], ids: &'a [(&'a Peer, String)]) -> impl Iterator<Item = (&'a Row, &'a str, &'a str)> {
    let index: BTreeMap<&Peer, &str> = ids.iter().map(|(peer, id)| (*peer, id.as_str())).collect();
    rows.iter().filter_map(move |row| Some((row, *index.get(&row.src)?, *index.get(&row.dst)?)))
}

/// Prints what could change a list, on standard error.
pub(crate) fn caveats(evaluation: &Evaluation) {
    let namespaces: Vec<Option<&str>> = evaluation.snapshot.namespaces.keys().map(|n| Some(n.as_str())).collect();
    for caveat in input_caveats(evaluation, &namespaces) {
        anstream::eprintln!("{YELLOW}caveat{YELLOW:#}: {caveat}");
    }
}

/// Prints rows in a format, and their caveats on standard error.
pub(crate) fn show(evaluation: &Evaluation, rows: &[Row], format: ListFormat) -> Result<()> {
    caveats(evaluation);
    match format {
        ListFormat::Text => print(&text(rows)),
        ListFormat::Json => json(rows),
        ListFormat::Csv => raw(&csv(rows)?),
        ListFormat::Md => raw(markdown(rows).as_bytes()),
        ListFormat::Dot => raw(dot(rows).as_bytes()),
        ListFormat::Mermaid => raw(mermaid(rows).as_bytes()),
    }
}
