//! A peer that means pods of another namespace.

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::NAME_LABEL;
use policy_core::model::{NamespaceScope, Peer};

use super::peer_matches_nothing::matches_nothing;
use super::peers_joined_by_or::joined;
use crate::context::{Context, PeerAt};

/// A peer without `namespaceSelector` matches pods of another namespace only.
pub static MISSING_NAMESPACE_SELECTOR: Rule = Rule {
    id: "NP110",
    name: "missing-namespace-selector",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S1.33",
    event_reason: None,
    summary: "a peer without `namespaceSelector` matches pods of another namespace only",
    documentation: Documentation {
        what: "A peer with a `podSelector` alone that matches no pod of the policy's own namespace, and matches pods of another one.",
        why: "A peer without `namespaceSelector` means pods of the policy's own namespace. The pods of the other namespace are not allowed.",
        example: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: monitoring}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: prometheus, namespace: monitoring}\nspec:\n  selector: {matchLabels: {app: prometheus}}\n  template:\n    metadata: {labels: {app: prometheus}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - podSelector: {matchLabels: {app: prometheus}}\n",
        ),
        fix: "Add the `namespaceSelector` of the other namespace to the same peer.",
        corrected: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: monitoring}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: prometheus, namespace: monitoring}\nspec:\n  selector: {matchLabels: {app: prometheus}}\n  template:\n    metadata: {labels: {app: prometheus}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - podSelector: {matchLabels: {app: prometheus}}\n      namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}\n",
        ),
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for at in context.peers() {
        let (Peer::Pods { pods, .. }, Some(namespace)) = (at.peer, elsewhere(context, &at)) else { continue };
        if joined(context, &at).is_some() {
            continue;
        }
        let own = &at.policy.key.namespace;
        let message = format!("no pod of namespace `{own}` has the labels {pods}; pods of namespace `{namespace}` have them");
        let help = format!("add `namespaceSelector: {{matchLabels: {{{NAME_LABEL}: {namespace}}}}}` to this peer");
        out.push(context.finding(&MISSING_NAMESPACE_SELECTOR, &at.policy.key, &at.path(), message).help(help));
    }
    out
}

/// The only other namespace with pods that a peer would match there, if it matches none of its own.
pub(super) fn elsewhere<'a>(context: &Context<'a>, at: &PeerAt<'a>) -> Option<&'a str> {
    let Peer::Pods { namespaces: NamespaceScope::Own, pods } = at.peer else { return None };
    if pods.is_everything() || matches_nothing(context, at).is_none() {
        return None;
    }
    let others = context.snapshot.namespaces.keys().filter(|name| **name != at.policy.key.namespace);
    let mut found = others.filter(|name| context.pods_in(name).iter().any(|pod| pods.matches(&pod.labels)));
    let first = found.next()?;
    found.next().is_none().then_some(first.as_str())
}
