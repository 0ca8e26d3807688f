//! An exception inside another one.

use crate::context::Context;
use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::Peer;

/// An exception of a block is inside another one.
pub static EXCEPT_NESTED: Rule = Rule {
    id: "NP304",
    name: "except-nested",
    severity: Severity::Info,
    group: Group::Hygiene,
    kind: Kind::NoEffect,
    section: "S1.43",
    event_reason: None,
    summary: "an exception of an address block is inside another one",
    documentation: Documentation {
        what: "An entry of `except` that another entry of the same block contains.",
        why: "It changes nothing, and suggests that it does.",
        example: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 10.1.0.0/16]}\n",
        ),
        fix: "Remove the inner exception.",
        corrected: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}\n",
        ),
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for at in context.peers() {
        let Peer::Block(block) = at.peer else { continue };
        for (place, inner) in block.except.iter().enumerate() {
            let outer = block
                .except
                .iter()
                .enumerate()
                .find(|(other, outer)| *other != place && outer.contains(inner) && (*outer != inner || *other < place));
            let Some((_, outer)) = outer else { continue };
            let path = format!("{}.ipBlock.except[{place}]", at.path());
            let message = format!("the exception {inner} is inside {outer}, which is excepted too");
            out.push(context.finding(&EXCEPT_NESTED, &at.policy.key, &path, message).help("remove it"));
        }
    }
    out
}
