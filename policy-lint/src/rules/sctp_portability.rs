//! SCTP, which some engines do not filter (S1.50).

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::{Direction, PortEntry, Ports};
use policy_core::sets::Transport;

use crate::context::Context;

/// A rule is for SCTP.
pub static SCTP_PORTABILITY: Rule = Rule {
    id: "NP405",
    name: "sctp-portability",
    severity: Severity::Info,
    group: Group::Portability,
    kind: Kind::NoEffect,
    section: "S1.50",
    event_reason: None,
    summary: "a rule is for SCTP, which some engines do not support",
    documentation: Documentation {
        what: "A port entry with `protocol: SCTP`.",
        why: "Cilium supports SCTP only where `sctp.enabled` is set, as a beta feature, and not through Services that change the port (documentation of Cilium, 2025). GKE has it in Dataplane V2 since 1.32.2 on Ubuntu nodes. kube-router has an open issue about it since 2021 (cloudnativelabs/kube-router#1019).",
        example: Some(shop!(
            deployment!("web"),
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{podSelector: {}}]\n    ports: [{port: 36412, protocol: SCTP}]\n"
            )
        )),
        fix: "Make sure that the engine supports SCTP, and test a connection that is to be denied.",
        corrected: None,
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for policy in context.policies() {
        for direction in Direction::ALL {
            for (rule, of_rule) in policy.rules(direction).unwrap_or_default().iter().enumerate() {
                let entries = if let Ports::Listed(entries) = &of_rule.ports { entries.as_slice() } else { &[] };
                let is_sctp = |entry: &PortEntry| match entry {
                    PortEntry::Range { protocol, .. } | PortEntry::Named { protocol, .. } => *protocol == Transport::Sctp,
                    PortEntry::Unreadable => false,
                };
                for at in entries.iter().enumerate().filter(|(_, entry)| is_sctp(entry)).map(|(at, _)| at) {
                    let path = format!("spec.{direction}[{rule}].ports[{at}].protocol");
                    let message = "some engines do not support SCTP, or only where it is enabled, such as Cilium".to_owned();
                    let help = "make sure that the engine supports it, and test a connection that is to be denied";
                    out.push(context.finding(&SCTP_PORTABILITY, &policy.key, &path, message).help(help));
                }
            }
        }
    }
    out
}
