//! Pods that a rule names by address (S1.40).

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::graph::GroupId;
use policy_core::model::{Direction, Peers};
use policy_core::proof::RuleAt;

use crate::context::Context;
use crate::openings::{Opening, PolicySet};

/// Rules allow a pod by its address alone.
pub static POD_BY_IP_BLOCK: Rule = Rule {
    id: "NP402",
    name: "pod-by-ip-block",
    severity: Severity::Warning,
    group: Group::Portability,
    kind: Kind::NoEffect,
    section: "S1.40",
    event_reason: None,
    summary: "rules allow a pod by its address alone, which some engines do not",
    documentation: Documentation {
        what: "An `ipBlock` with the address of a pod of the input that no selector of the same policies matches.",
        why: "Cilium compares blocks with addresses outside of the cluster only, and with those of nodes where `policyCIDRMatchMode` says so (cilium/cilium#9209, listed as a missing feature in its documentation of 2024): there, the connection is denied. On Amazon EKS, a block allows the pod, and not the Service in front of it (aws/amazon-network-policy-controller-k8s#81, March 2024). Kubernetes says that blocks are for addresses outside of the cluster, because those of pods change.",
        example: Some(shop!(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: web}}\nspec: {nodeName: n1, containers: [{name: c}]}\nstatus: {phase: Running, podIP: 10.0.0.1}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: api, namespace: shop, labels: {app: api}}\nspec: {nodeName: n1, containers: [{name: c}]}\nstatus: {phase: Running, podIP: 10.0.0.2}\n---\n",
            policy!("web", "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{ipBlock: {cidr: 10.0.0.2/32}}]\n")
        )),
        fix: "Add the pods that are meant by label.",
        corrected: Some(shop!(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: web}}\nspec: {nodeName: n1, containers: [{name: c}]}\nstatus: {phase: Running, podIP: 10.0.0.1}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: api, namespace: shop, labels: {app: api}}\nspec: {nodeName: n1, containers: [{name: c}]}\nstatus: {phase: Running, podIP: 10.0.0.2}\n---\n",
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{podSelector: {matchLabels: {app: api}}}]\n"
            )
        )),
    },
};

/// Pods in a block that are looked at, in the order of their addresses.
const MOST: usize = 1000;

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut pods: Vec<(IpAddr, GroupId)> = Vec::new();
    for group in context.graph.groups() {
        let addresses = context.graph.pods_of(group).flat_map(|pod| context.graph.pod_addresses(pod));
        pods.extend(addresses.map(|address| (*address, group)));
    }
    pods.sort_unstable();
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for direction in Direction::ALL {
        for set in context.policy_sets(direction) {
            let openings = context.openings(set, direction);
            if openings.is_empty() || openings.iter().any(|opening| opening.block.is_none() && opening.ports.is_all()) {
                continue;
            }
            let by_label = selected(context, set, direction);
            // A pod is no peer of itself.
            let mut own = set.groups.iter().flat_map(|group| context.graph.pods_of(*group).map(move |_| *group));
            let only = own.next().filter(|_| own.next().is_none());
            for opening in openings.into_iter().filter(|opening| opening.block.is_some()) {
                let Some(address) = by_address_alone(opening, &pods, |group| by_label.contains(&group) || only == Some(group))
                else {
                    continue;
                };
                if seen.insert((&opening.policy.key, opening.path())) {
                    out.push(finding(context, opening, address));
                }
            }
        }
    }
    out
}

fn finding(context: &Context<'_>, opening: &Opening<'_>, address: IpAddr) -> Diagnostic {
    let pod = context.graph.claimants(address).first().map(|pod| context.pod_text(*pod)).unwrap_or_default();
    let message = format!("only this block allows {pod} ({address}), and Cilium does not match pods by their addresses");
    context.finding(&POD_BY_IP_BLOCK, &opening.policy.key, &opening.path(), message).help("add the pods that are meant by label")
}

/// The first address of a pod in a block that no selector matches. `pods` are sorted.
fn by_address_alone(opening: &Opening<'_>, pods: &[(IpAddr, GroupId)], is_named: impl Fn(GroupId) -> bool) -> Option<IpAddr> {
    opening.addresses.ranges().find_map(|(low, high)| {
        let from = pods.partition_point(|(address, _)| *address < low);
        let mut within = pods.iter().skip(from).take_while(|(address, _)| *address <= high).take(MOST);
        within.find(|(_, group)| !is_named(*group)).map(|(address, _)| *address)
    })
}

/// The groups that selectors of the rules of a set match.
fn selected(context: &Context<'_>, set: &PolicySet<'_>, direction: Direction) -> BTreeSet<GroupId> {
    let mut out = BTreeSet::new();
    for policy in &set.policies {
        let Some(id) = context.id(policy) else { continue };
        for (index, rule) in policy.rules(direction).unwrap_or_default().iter().enumerate() {
            let Peers::Listed(peers) = &rule.peers else { continue };
            let rule = RuleAt { policy: id, direction, index };
            out.extend((0..peers.len()).filter_map(|peer| context.graph.selected_by_peer(rule, peer)).flatten());
        }
    }
    out
}
