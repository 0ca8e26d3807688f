//! A peer of `hostNetwork` pods (S2.9).

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::{Direction, Peer, Pod};

use crate::context::{Context, pods_text};

/// All pods that a peer matches use the host network.
pub static HOST_NETWORK_PEER: Rule = Rule {
    id: "NP115",
    name: "host-network-peer",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S2.9",
    event_reason: None,
    summary: "all pods that a peer matches use the host network",
    documentation: Documentation {
        what: "A peer with selectors that match pods, all of which use the host network.",
        why: "The traffic of these pods has the addresses of their nodes, which no selector matches. The peer allows nothing.",
        example: Some(shop!(
            deployment!("web"),
            "apiVersion: v1\nkind: Pod\nmetadata: {name: exporter, namespace: shop, labels: {app: exporter}}\nspec: {hostNetwork: true, containers: [{name: c}]}\n---\n",
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - podSelector: {matchLabels: {app: exporter}}\n"
            )
        )),
        fix: "Name the addresses of the nodes with `ipBlock`. Connections from a pod's own node are always allowed.",
        corrected: None,
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for at in context.peers() {
        let Peer::Pods { namespaces, pods } = at.peer else { continue };
        if context.selects(&at) != Some(false) {
            continue;
        }
        let Some(namespaces) = context.namespaces(at.policy, namespaces) else { continue };
        let in_scope = namespaces.iter().flat_map(|name| context.pods_in(name)).copied();
        let matched: Vec<&Pod> = in_scope.filter(|pod| pods.matches(&pod.labels)).collect();
        let is_broken = !matched.is_empty() && matched.iter().all(|pod| pod.is_host_network);
        if !is_broken || !namespaces.iter().all(|name| context.knows_pods_of(name)) {
            continue;
        }
        let verb = match at.direction {
            Direction::Ingress => "their connections come from",
            Direction::Egress => "connections to them go to",
        };
        let message = format!(
            "this peer allows nothing: it matches only hostNetwork pods, such as {}, and {verb} the addresses of nodes",
            pods_text(&matched, 3)
        );
        let help = "name the addresses of the nodes with `ipBlock`";
        out.push(context.finding(&HOST_NETWORK_PEER, &at.policy.key, &at.path(), message).help(help));
    }
    out
}
