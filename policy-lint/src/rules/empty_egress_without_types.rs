//! An empty `egress` that isolates nothing (S1.4).

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::{Direction, Policy};

use crate::context::Context;

/// An empty `egress` without `policyTypes` does not isolate.
pub static EMPTY_EGRESS_WITHOUT_TYPES: Rule = Rule {
    id: "NP121",
    name: "empty-egress-without-types",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S1.4",
    event_reason: None,
    summary: "an empty `egress` without `policyTypes` does not isolate",
    documentation: Documentation {
        what: "A policy with `egress: []`, or `egress:` with nothing after it, and no `policyTypes`.",
        why: "Without `policyTypes`, a policy isolates for egress only if it has an egress rule. This one leaves egress open, although it reads as if it allowed nothing.",
        example: Some(shop!(
            deployment!("web"),
            policy!("web", "  podSelector: {matchLabels: {app: web}}\n  ingress: []\n  egress: []\n")
        )),
        fix: "Write `policyTypes: [Ingress, Egress]` to deny all egress, or remove `egress`.",
        corrected: Some(shop!(
            deployment!("web"),
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  policyTypes: [Ingress, Egress]\n  ingress: []\n  egress: []\n"
            )
        )),
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let is_broken = |key| {
        let is_typed = context.is_written(key, "spec.policyTypes[0]");
        context.is_written(key, "spec.egress") && !context.is_written(key, "spec.egress[0]") && !is_typed
    };
    let open = context.policies().filter(|policy| policy.rules(Direction::Egress).is_none() && is_broken(&policy.key));
    let finding = |policy: &Policy| {
        let message = "an empty `egress` without `policyTypes` isolates nothing: all egress stays open";
        context
            .finding(&EMPTY_EGRESS_WITHOUT_TYPES, &policy.key, "spec.egress", message.to_owned())
            .help("write `policyTypes: [Ingress, Egress]` to deny all egress, or remove `egress`")
    };
    open.map(finding).collect()
}
