//! A block of which nothing is left.

use crate::context::Context;
use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::Peer;

/// The exceptions of a block are all of it.
pub static EXCEPT_COVERS_ALL: Rule = Rule {
    id: "NP112",
    name: "except-covers-all",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S1.43",
    event_reason: None,
    summary: "the exceptions of an address block are all of it",
    documentation: Documentation {
        what: "An `ipBlock` whose `except` leaves no address.",
        why: "The peer allows nothing.",
        example: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.0/25, 192.0.2.128/25]}\n",
        ),
        fix: "Remove the peer, or the exceptions that are not meant.",
        corrected: None,
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for at in context.peers() {
        let Peer::Block(block) = at.peer else { continue };
        if block.addresses().is_empty() {
            let message = format!("nothing is left of {}: the exceptions are all of it, so this peer allows nothing", block.cidr);
            out.push(context.finding(&EXCEPT_COVERS_ALL, &at.policy.key, &format!("{}.ipBlock", at.path()), message));
        }
    }
    out
}
