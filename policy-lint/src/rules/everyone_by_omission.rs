//! A list of peers that is written and empty.

use crate::context::{Context, list};
use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::{Direction, Peers};

/// An empty list of peers allows everyone.
pub static EVERYONE_BY_OMISSION: Rule = Rule {
    id: "NP201",
    name: "everyone-by-omission",
    severity: Severity::Warning,
    group: Group::Security,
    kind: Kind::NoEffect,
    section: "S3.2",
    event_reason: None,
    summary: "an empty list of peers allows everyone",
    documentation: Documentation {
        what: "A rule with `from` or `to` that is written and empty: `from: []`, or `from:` with nothing after it.",
        why: "It reads as nobody and means everyone, in the cluster and outside of it.",
        example: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: []\n    ports: [{port: 8080}]\n",
        ),
        fix: "List the peers; for nobody, remove the rule; for everyone, leave the field out.",
        corrected: None,
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for policy in context.policies() {
        for direction in Direction::ALL {
            for (at, rule) in policy.rules(direction).unwrap_or_default().iter().enumerate() {
                let path = format!("spec.{direction}[{at}].{}", list(direction));
                if rule.peers == Peers::Everyone && context.is_written(&policy.key, &path) {
                    let message = format!("an empty `{}` allows everyone, not nobody", list(direction));
                    let help = "list the peers; for nobody, remove the rule; for everyone, leave the field out";
                    out.push(context.finding(&EVERYONE_BY_OMISSION, &policy.key, &path, message).help(help));
                }
            }
        }
    }
    out
}
