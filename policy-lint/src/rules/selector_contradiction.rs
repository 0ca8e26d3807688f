//! A selector that nothing can match.

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};

use crate::context::{Context, SelectorAt, selectors};

/// A selector asks for what no object can have.
pub static SELECTOR_CONTRADICTION: Rule = Rule {
    id: "NP108",
    name: "selector-contradiction",
    severity: Severity::Error,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S1.31",
    event_reason: None,
    summary: "a selector asks for what no object can have",
    documentation: Documentation {
        what: "A selector whose requirements on one label exclude each other.",
        why: "Nothing can match it, whatever is deployed. A policy with such a selector isolates nothing, and a peer allows nothing.",
        example: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector:\n    matchLabels: {app: web}\n    matchExpressions: [{key: app, operator: NotIn, values: [web]}]\n",
        ),
        fix: "Remove one of the requirements.",
        corrected: None,
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for SelectorAt { policy, selector, path, .. } in selectors(context) {
        let Some(key) = selector.contradiction() else { continue };
        let message = format!("no object can match {selector}: what it asks of the label `{key}` excludes itself");
        out.push(context.finding(&SELECTOR_CONTRADICTION, &policy.key, &path, message).help("remove one of the requirements"));
    }
    out
}
