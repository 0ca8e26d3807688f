//! Ranges of ports, which some engines do not know or limit (S1.52).

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::{Direction, PortEntry, Ports};

use crate::context::Context;

/// A rule has a range of ports.
pub static END_PORT_PORTABILITY: Rule = Rule {
    id: "NP403",
    name: "end-port-portability",
    severity: Severity::Info,
    group: Group::Portability,
    kind: Kind::NoEffect,
    section: "S1.52",
    event_reason: None,
    summary: "a rule has an `endPort`, and some engines ignore it",
    documentation: Documentation {
        what: "A range of ports: `endPort` greater than `port`.",
        why: "Engines that do not know the field allow the first port alone: Cilium before 1.16 (cilium/cilium#28684, #16622), Azure Network Policy Manager in 2022 (Azure/AKS#2857), Cisco ACI before 2026 (noironetworks/aci-containers#1653). Amazon EKS takes at most 24 combinations of ports and protocols for each address block.",
        example: Some(shop!(
            deployment!("web"),
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{podSelector: {}}]\n    ports: [{port: 8080, endPort: 8089}]\n"
            )
        )),
        fix: "List the ports one by one, if the policy is for such an engine.",
        corrected: None,
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for policy in context.policies() {
        for direction in Direction::ALL {
            for (rule, of_rule) in policy.rules(direction).unwrap_or_default().iter().enumerate() {
                let entries = if let Ports::Listed(entries) = &of_rule.ports { entries.as_slice() } else { &[] };
                for (at, entry) in entries.iter().enumerate() {
                    let PortEntry::Range { low, high, .. } = entry else { continue };
                    // An entry without a port is every port, and has no `endPort`.
                    if low == high || (*low, *high) == (1, u16::MAX) {
                        continue;
                    }
                    let path = format!("spec.{direction}[{rule}].ports[{at}].endPort");
                    let message = format!("engines that do not know `endPort` allow {low} alone: Cilium before 1.16 does");
                    let help = "list the ports one by one, if the policy is for such an engine";
                    out.push(context.finding(&END_PORT_PORTABILITY, &policy.key, &path, message).help(help));
                }
            }
        }
    }
    out
}
