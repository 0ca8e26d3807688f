//! Two entries of a list that were meant as one.

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::{NamespaceScope, Peer, Peers, Pod};

use super::peer_matches_nothing::matches_nothing;
use crate::context::{Context, PeerAt, list, pods_text};

/// A selector of namespaces and one of pods are two peers, and were probably meant as one.
pub static PEERS_JOINED_BY_OR: Rule = Rule {
    id: "NP114",
    name: "peers-joined-by-or",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S1.33",
    event_reason: None,
    summary: "a `namespaceSelector` and a `podSelector` are two peers, and were probably meant as one",
    documentation: Documentation {
        what: "Two entries of a list next to each other, one with a `namespaceSelector` alone and one with a `podSelector` alone. The `podSelector` matches no pod of the policy's own namespace, and matches some of the pods of the other namespaces, but not all.",
        why: "Entries of a list are joined by OR: the first one allows every pod of these namespaces, and the second one nobody. One `-` too many does that.",
        example: Some(shop!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: mesh}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: gateway, namespace: mesh, labels: {app: gateway}}\nspec: {containers: [{name: c}]}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: debug, namespace: mesh, labels: {app: debug}}\nspec: {containers: [{name: c}]}\n---\n",
            deployment!("web"),
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: mesh}}\n    - podSelector: {matchLabels: {app: gateway}}\n"
            )
        )),
        fix: "Write one entry with both selectors: remove the second `-`.",
        corrected: Some(shop!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: mesh}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: gateway, namespace: mesh, labels: {app: gateway}}\nspec: {containers: [{name: c}]}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: debug, namespace: mesh, labels: {app: debug}}\nspec: {containers: [{name: c}]}\n---\n",
            deployment!("web"),
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: mesh}}\n      podSelector: {matchLabels: {app: gateway}}\n"
            )
        )),
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for at in context.peers() {
        let (Peer::Pods { pods, .. }, Some(found)) = (at.peer, joined(context, &at)) else { continue };
        let message = format!(
            "this entry and {}[{}] are joined by OR: no pod of namespace `{}` has the labels {pods}, and all pods of {} are allowed, such as {}",
            list(at.direction),
            found.namespaces.at,
            at.policy.key.namespace,
            found.names.join(", "),
            pods_text(&found.surplus, 3)
        );
        let help = format!("if only {} is meant, write one entry with both selectors", pods_text(&found.both, 3));
        let related = vec![context.related(&at.policy.key, &found.namespaces.path(), "the other entry")];
        let finding = context.finding(&PEERS_JOINED_BY_OR, &at.policy.key, &at.path(), message);
        out.push(Diagnostic { related, ..finding.help(help) });
    }
    out
}

/// The entry beside a peer that it belongs to.
pub(super) struct Joined<'a> {
    namespaces: PeerAt<'a>,
    names: Vec<&'a str>,
    /// The pods that both selectors match.
    both: Vec<&'a Pod>,
    /// The pods that the selector of namespaces allows beyond these.
    surplus: Vec<&'a Pod>,
}

/// The `namespaceSelector` beside a `podSelector` that was probably meant to be in the same entry.
pub(super) fn joined<'a>(context: &Context<'a>, at: &PeerAt<'a>) -> Option<Joined<'a>> {
    let Peer::Pods { namespaces: NamespaceScope::Own, pods } = at.peer else { return None };
    matches_nothing(context, at)?;
    let rule = at.policy.rules(at.direction)?.get(at.rule)?;
    let Peers::Listed(peers) = &rule.peers else { return None };
    let places = [at.at.checked_sub(1), at.at.checked_add(1)];
    places.into_iter().flatten().find_map(|place| {
        let namespaces = PeerAt { at: place, peer: peers.get(place)?, ..*at };
        let Peer::Pods { namespaces: scope @ NamespaceScope::Matching(_), pods: all } = namespaces.peer else { return None };
        let has_pods = !all.is_everything() || context.is_written(&at.policy.key, &format!("{}.podSelector", namespaces.path()));
        if has_pods {
            return None;
        }
        let names = context.namespaces(at.policy, scope)?;
        let in_scope = names.iter().flat_map(|name| context.pods_in(name)).copied();
        let (both, surplus): (Vec<&Pod>, Vec<&Pod>) = in_scope.partition(|pod| pods.matches(&pod.labels));
        (!both.is_empty() && !surplus.is_empty()).then_some(Joined { namespaces, names, both, surplus })
    })
}
