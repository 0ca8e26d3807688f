//! A peer that matches no pod.

use super::label_near_miss::{SelectorIn, near};
use super::missing_namespace_selector::elsewhere;
use super::peers_joined_by_or::joined;
use crate::context::{Context, PeerAt};
use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::{Peer, Pod};

/// A peer of a rule matches no pod.
pub static PEER_MATCHES_NOTHING: Rule = Rule {
    id: "NP106",
    name: "peer-matches-nothing",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S1.33",
    event_reason: None,
    summary: "a peer of a rule matches no pod",
    documentation: Documentation {
        what: "A peer whose selectors match no pod, while the namespaces that it means have workloads and all of them are known.",
        why: "The peer allows nothing. What was meant to connect cannot, or nobody does any more.",
        example: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - podSelector: {matchLabels: {app: api}}\n",
        ),
        fix: "Correct the labels of the selector, or remove the peer. If it is the only one of its rule, remove the rule: a rule without peers allows everyone.",
        corrected: None,
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for at in context.peers() {
        let Some(namespaces) = matches_nothing(context, &at) else { continue };
        let Peer::Pods { pods, .. } = at.peer else { continue };
        let selector = SelectorIn { namespaces: &namespaces, selector: pods };
        let has_other_finding = pods.contradiction().is_some()
            || near(context, &selector).is_some()
            || elsewhere(context, &at).is_some()
            || joined(context, &at).is_some();
        if has_other_finding {
            continue;
        }
        let place = match namespaces.as_slice() {
            [one] => format!("namespace `{one}`"),
            many => format!("these namespaces ({})", many.join(", ")),
        };
        let message = format!("no pod of {place} has the labels {pods}, so this peer allows nothing");
        out.push(
            context
                .finding(&PEER_MATCHES_NOTHING, &at.policy.key, &at.path(), message)
                .help("correct the labels, or remove the peer"),
        );
    }
    out
}

/// The namespaces that a peer means, if it certainly matches no pod of them. Pods of the host network count: another rule is about them.
pub(super) fn matches_nothing<'a>(context: &Context<'a>, at: &PeerAt<'a>) -> Option<Vec<&'a str>> {
    let Peer::Pods { namespaces, pods } = at.peer else { return None };
    if context.selects(at) != Some(false) {
        return None;
    }
    let namespaces = context.namespaces(at.policy, namespaces)?;
    let is_matched = |pod: &&&Pod| pods.matches(&pod.labels);
    let is_known = !namespaces.is_empty() && namespaces.iter().all(|namespace| context.knows_pods_of(namespace));
    let is_empty = || !namespaces.iter().any(|namespace| context.pods_in(namespace).iter().any(|pod| is_matched(&pod)));
    (is_known && is_empty()).then_some(namespaces)
}
