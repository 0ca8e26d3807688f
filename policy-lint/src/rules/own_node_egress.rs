//! Connections of pods to their own node (S2.13).

use std::collections::BTreeMap;
use std::net::IpAddr;

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::{Direction, Policy};
use policy_core::sets::{Family, PortSet};

use crate::context::Context;
use crate::openings::ports_for_family;

/// Egress rules deny connections to the own node, which some engines allow.
pub static OWN_NODE_EGRESS: Rule = Rule {
    id: "NP404",
    name: "own-node-egress",
    severity: Severity::Info,
    group: Group::Portability,
    kind: Kind::NoEffect,
    section: "S2.13",
    event_reason: None,
    summary: "egress rules deny connections of pods to their own node, which some engines allow",
    documentation: Documentation {
        what: "Pods that policies isolate for egress, and whose rules do not allow the addresses of nodes; one finding for each namespace. Where the input has no addresses of nodes, rules that do not allow every address.",
        why: "Kubernetes says in one place that a pod's own node is always reachable, and in another that only connections from it are. netpol applies egress rules to it. Other engines always allow it: the policy agent of Amazon EKS since September 2023 (aws/aws-network-policy-agent#65), kube-network-policies in December 2025 (kubernetes-sigs/kube-network-policies#283). There, pods reach what listens on their node.",
        example: Some(shop!(
            deployment!("web"),
            policy!("web", "  podSelector: {matchLabels: {app: web}}\n  policyTypes: [Egress]\n")
        )),
        fix: "Do not rely on policies to keep pods away from services of their node.",
        corrected: None,
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let nodes: Vec<IpAddr> = context.snapshot.nodes.values().flat_map(|node| node.addresses.iter().copied()).collect();
    let mut found: BTreeMap<&str, &Policy> = BTreeMap::new();
    for set in context.policy_sets(Direction::Egress) {
        let Some(first) = set.policies.first() else { continue };
        if found.contains_key(first.key.namespace.as_str()) {
            continue;
        }
        let openings = context.openings(set, Direction::Egress);
        let ports_to = |address: &IpAddr| {
            let to_it = openings.iter().filter(|opening| opening.addresses.contains(*address));
            to_it.fold(PortSet::none(), |all, opening| all.union(&opening.ports))
        };
        let allows_all = if nodes.is_empty() {
            ports_for_family(&openings, Family::V4).is_all()
        } else {
            nodes.iter().all(|address| ports_to(address).is_all())
        };
        if !allows_all {
            found.insert(&first.key.namespace, first);
        }
    }
    let finding = |policy: &&Policy| {
        let namespace = &policy.key.namespace;
        let message = format!(
            "pods of namespace `{namespace}` cannot reach their own node here, and always can with some engines, such as that of Amazon EKS"
        );
        let help = "do not rely on policies to keep pods away from services of their node";
        context.finding(&OWN_NODE_EGRESS, &policy.key, "spec.policyTypes", message).help(help)
    };
    found.values().map(finding).collect()
}
