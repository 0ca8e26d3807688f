//! Lists as pictures: Graphviz and Mermaid.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Result, bail};

use super::rows::{is_unrestricted, label, ports};
use crate::questions::merged::{Merged, MergedRow};
use crate::questions::rows::Peer;

/// Mermaid's defaults for `maxEdges` and `maxTextSize`, which GitHub and GitLab keep.
const MERMAID_EDGES: usize = 500;
const MERMAID_TEXT: usize = 50_000;
/// Graphviz needs minutes for more.
const DOT_EDGES: usize = 5_000;

/// What shows fewer connections.
const ADVICE: &str = "use `--by namespace`, `-n NAMESPACE`, `--from`, `--to` or `-p` to show fewer connections, or `-o matrix`";

/// Groups by namespace; those without one, or of several, under the empty name.
fn by_namespace<'m>(merged: &'m Merged<'_>) -> BTreeMap<&'m str, Vec<usize>> {
    let mut out: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, group) in merged.groups.iter().enumerate() {
        let mut namespaces = group.iter().map(|peer| match peer {
            Peer::Workload { namespace, .. } => namespace.as_str(),
            Peer::External { .. } => "",
        });
        let first = namespaces.next().unwrap_or_default();
        let namespace = if namespaces.all(|namespace| namespace == first) { first } else { "" };
        out.entry(namespace).or_default().push(place);
    }
    out
}

/// The text of a node, in lines.
fn lines(group: &[&Peer]) -> String {
    match group {
        [Peer::Workload { kind, name, .. }] => format!("{name}\n{kind}"),
        [external] => external.to_string().replace(", ", "\n"),
        several => {
            let text = label(several);
            match several.first() {
                // The namespace is around the node.
                Some(Peer::Workload { namespace, .. }) => text
                    .replace(&format!("{namespace}/"), "")
                    .replace(&format!(" of {namespace}"), "")
                    .replace(", ", "\n")
                    .replace(" (", "\n("),
                _ => text,
            }
        }
    }
}

fn is_external(group: &[&Peer]) -> bool {
    matches!(group, [Peer::External { .. }])
}

fn edge(row: &MergedRow<'_>) -> String {
    if is_unrestricted(row.row) && row.row.partly.is_empty() { "all ports".to_owned() } else { ports(row.row) }
}

pub(super) fn dot(merged: &Merged<'_>) -> Result<String> {
    if merged.rows.len() > DOT_EDGES {
        bail!(
            "the graph would have {} edges, and Graphviz draws at most {DOT_EDGES} in reasonable time; {ADVICE}",
            merged.rows.len()
        );
    }
    let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
    let mut out = String::from(
        "digraph netpol {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", fontsize=10];\n",
    );
    for (i, (namespace, members)) in by_namespace(merged).into_iter().enumerate() {
        let indent = if namespace.is_empty() { "  " } else { "    " };
        if !namespace.is_empty() {
            let _ = writeln!(out, "  subgraph cluster_{i} {{\n    label={};", quote(namespace));
        }
        for place in members {
            let group = merged.groups.get(place).map(Vec::as_slice).unwrap_or_default();
            let shape = if is_external(group) { ", shape=ellipse" } else { "" };
            let _ = writeln!(out, "{indent}n{place} [label={}{shape}];", quote(&lines(group)));
        }
        if !namespace.is_empty() {
            out.push_str("  }\n");
        }
    }
    for row in &merged.rows {
        let colour = if is_unrestricted(row.row) { ", color=red, fontcolor=red" } else { "" };
        let _ = writeln!(out, "  n{} -> n{} [label={}{colour}];", row.source, row.destination, quote(&edge(row)));
    }
    out.push_str("}\n");
    Ok(out)
}

pub(super) fn mermaid(merged: &Merged<'_>) -> Result<String> {
    let quote = |text: &str| format!("\"{}\"", text.replace('"', "#quot;").replace('\n', "<br/>"));
    let mut out = String::from("flowchart LR\n");
    for (i, (namespace, members)) in by_namespace(merged).into_iter().enumerate() {
        let indent = if namespace.is_empty() { "  " } else { "    " };
        if !namespace.is_empty() {
            let _ = writeln!(out, "  subgraph ns{i}[{}]", quote(namespace));
        }
        for place in members {
            let group = merged.groups.get(place).map(Vec::as_slice).unwrap_or_default();
            let text = quote(&lines(group));
            let shaped = if is_external(group) { format!("([{text}])") } else { format!("[{text}]") };
            let _ = writeln!(out, "{indent}n{place}{shaped}");
        }
        if !namespace.is_empty() {
            out.push_str("  end\n");
        }
    }
    for row in &merged.rows {
        let _ = writeln!(out, "  n{} -->|{}| n{}", row.source, quote(&edge(row)), row.destination);
    }
    let unrestricted = merged.rows.iter().enumerate().filter(|(_, row)| is_unrestricted(row.row));
    let unrestricted: Vec<String> = unrestricted.map(|(number, _)| number.to_string()).collect();
    if !unrestricted.is_empty() {
        let _ = writeln!(out, "  linkStyle {} stroke:red,color:red", unrestricted.join(","));
    }
    if merged.rows.len() > MERMAID_EDGES {
        bail!("the diagram would have {} edges, and Mermaid draws at most {MERMAID_EDGES}; {ADVICE}", merged.rows.len());
    }
    if out.chars().count() > MERMAID_TEXT {
        bail!("the diagram would have {} characters, and Mermaid draws at most {MERMAID_TEXT}; {ADVICE}", out.chars().count());
    }
    Ok(out)
}
