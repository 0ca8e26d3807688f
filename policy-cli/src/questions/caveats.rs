//! What could make an answer differ from what the cluster does.

use std::collections::BTreeMap;

use policy_core::model::Direction;
use policy_core::sets::{Family, PortSet};

use super::connections::Connection;
use super::ends::End;
use super::evaluation::Evaluation;

/// What could make the answer differ from what the cluster does.
pub(crate) fn caveats(
    evaluation: &Evaluation,
    ends: [&End; 2],
    found: &[Connection],
    shown: &Connection,
    asked: &PortSet,
) -> Vec<String> {
    let mut out = foreign_caveats(evaluation, &ends.map(End::namespace));
    let sides = [(&shown.source, Direction::Egress, &shown.destination), (&shown.destination, Direction::Ingress, &shown.source)];
    for ((subject, direction, other), end) in sides.into_iter().zip([ends[1], ends[0]]) {
        let ports = if direction == Direction::Egress { &shown.egress } else { &shown.ingress };
        let is_denied = !asked.difference(ports).is_empty();
        if is_denied && evaluation.graph.depends_on_unknown_address(subject, direction, other) {
            let name = end.name();
            out.push(format!(
                "the address of {name} is not known before it runs, so ipBlock rules for {direction} are taken not to match it"
            ));
        }
    }
    for (end, endpoint) in ends.into_iter().zip([&shown.source, &shown.destination]) {
        if endpoint.is_node() && end.namespace().is_some() {
            out.push(format!("{} uses the host network: policies see it as its node, never as a pod (S2.8, S2.9)", end.name()));
        }
    }
    let by_family = |family: Family| -> Option<PortSet> {
        let ports = found.iter().filter(|c| c.source.family() == family).map(|c| c.ports().intersection(asked));
        ports.reduce(|a, b| a.intersection(&b))
    };
    if let (Some(v4), Some(v6)) = (by_family(Family::V4), by_family(Family::V6))
        && v4 != v6
        && found.iter().all(|c| c.outside.is_none())
    {
        out.push(format!("the address families differ: over IPv4 {v4} is allowed, over IPv6 {v6} (S2.2)"));
    }
    if evaluation.has_errors {
        out.push("the input has errors; what could not be read allows nothing here".to_owned());
    }
    out
}

/// Policies that were not evaluated and could concern these namespaces; `None` is an end outside of all of them.
pub(crate) fn foreign_caveats(evaluation: &Evaluation, namespaces: &[Option<&str>]) -> Vec<String> {
    let mut by_kind: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for foreign in &evaluation.snapshot.foreign {
        let concerns = match &foreign.namespace {
            None => true,
            Some(own) => namespaces.iter().flatten().any(|n| n == own),
        };
        if concerns {
            let name = match &foreign.namespace {
                Some(namespace) => format!("{namespace}/{} ({})", foreign.name, foreign.origin),
                None => format!("{} ({})", foreign.name, foreign.origin),
            };
            by_kind.entry((&foreign.kind, &foreign.api_version)).or_default().push(name);
        }
    }
    by_kind
        .into_iter()
        .map(|((kind, version), names)| {
            let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            let more = if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
            format!("not evaluated, and could change this answer: {kind} of {version}: {shown}{more}")
        })
        .collect()
}
