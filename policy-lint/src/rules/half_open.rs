//! A peer whose other side denies what a rule allows.

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::Direction;
use policy_core::model::ObjectKey;
use policy_core::proof::HalfOpen;

use crate::context::{Context, list};

/// The other side denies everything that a peer gets.
pub static HALF_OPEN: Rule = Rule {
    id: "NP109",
    name: "half-open",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S3.4",
    event_reason: None,
    summary: "a rule allows connections that the policies of the other side deny",
    documentation: Documentation {
        what: "A peer of a rule, to which or from which the rule allows connections, while the policies of its pods deny all of them in their direction.",
        why: "A connection needs both sides. The rule looks as if they could connect, and they cannot.",
        example: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api, namespace: shop}\nspec:\n  selector: {matchLabels: {app: api}}\n  template:\n    metadata: {labels: {app: api}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - podSelector: {matchLabels: {app: api}}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: api, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: api}}\n  policyTypes: [Egress]\n",
        ),
        fix: "Allow the connections on the other side, or remove the peer.",
        corrected: None,
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let finding = |found: &HalfOpen| {
        let (namespace, name) = context.graph.policy_name(found.rule.policy);
        let (subject, end) = (context.pod_text(found.witness.0), context.pod_text(found.witness.1));
        let denied_by: Vec<String> = found.denied_by.iter().map(|policy| context.policy_text(*policy)).collect();
        let (from, to, other) = match found.rule.direction {
            Direction::Ingress => (&end, &subject, Direction::Egress),
            Direction::Egress => (&subject, &end, Direction::Ingress),
        };
        let path = format!("spec.{}[{}].{}[{}]", found.rule.direction, found.rule.index, list(found.rule.direction), found.peer);
        let message = format!(
            "this peer gets nothing: {from} → {to} is denied on {}, because the {other} rules of {} do not allow it",
            found.ports,
            denied_by.join(", ")
        );
        let help = format!("allow {other} on the other side, or remove the peer; `netpol can {from} {to}` explains it");
        context.finding(&HALF_OPEN, &ObjectKey::new(namespace, name), &path, message).help(help)
    };
    context.half_open().iter().map(finding).collect()
}
