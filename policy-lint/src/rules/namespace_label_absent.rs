//! A label that no namespace has.

use crate::context::{Context, SelectorAt, selectors};
use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::{NAME_LABEL, Operator};

/// A selector of namespaces asks for a label that no namespace has.
pub static NAMESPACE_LABEL_ABSENT: Rule = Rule {
    id: "NP111",
    name: "namespace-label-absent",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S1.35",
    event_reason: None,
    summary: "a `namespaceSelector` asks for a label that no namespace has",
    documentation: Documentation {
        what: "A `namespaceSelector` that requires a label which no Namespace of the input has.",
        why: "The peer matches no namespace, so it allows nothing. Namespaces have the label `kubernetes.io/metadata.name` with their name, and no label `name` of themselves.",
        example: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: monitoring}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: prometheus, namespace: monitoring}\nspec:\n  selector: {matchLabels: {app: prometheus}}\n  template:\n    metadata: {labels: {app: prometheus}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - namespaceSelector: {matchLabels: {name: monitoring}}\n",
        ),
        fix: "Select the namespace by `kubernetes.io/metadata.name`, or add the label to the Namespace.",
        corrected: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: monitoring}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: prometheus, namespace: monitoring}\nspec:\n  selector: {matchLabels: {app: prometheus}}\n  template:\n    metadata: {labels: {app: prometheus}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}\n",
        ),
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    // One namespace says nothing of others.
    if !context.knows_namespaces() || context.snapshot.namespaces.len() < 2 {
        return Vec::new();
    }
    let mut out = Vec::new();
    for SelectorAt { policy, selector, path, .. } in selectors(context).into_iter().filter(|at| at.is_of_namespaces) {
        for requirement in selector.requirements() {
            let key = &requirement.key;
            let values = match &requirement.operator {
                Operator::In(values) => values.iter().cloned().collect(),
                Operator::Exists => Vec::new(),
                Operator::NotIn(_) | Operator::DoesNotExist => continue,
            };
            if context.snapshot.namespaces.values().any(|namespace| namespace.labels.contains_key(key)) {
                continue;
            }
            let named = values.iter().find(|value| context.snapshot.namespaces.contains_key(*value));
            let help = match named {
                Some(name) => format!("use `{NAME_LABEL}: {name}`, which every namespace has"),
                None => format!("add the label to a Namespace, or select by `{NAME_LABEL}`"),
            };
            let message = format!("no Namespace has the label `{key}`, so this peer matches no namespace");
            out.push(context.finding(&NAMESPACE_LABEL_ABSENT, &policy.key, &path, message).help(help));
        }
    }
    out
}
