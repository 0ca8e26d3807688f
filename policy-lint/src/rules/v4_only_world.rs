//! Everyone over IPv4, and nobody over IPv6.

use std::collections::BTreeSet;

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::graph::GroupId;
use policy_core::model::{Addresses, Direction, Pod};
use policy_core::sets::{Family, PortSet};

use crate::context::Context;

/// A rule for the IPv4 world, of pods that have IPv6 addresses too.
pub static V4_ONLY_WORLD: Rule = Rule {
    id: "NP203",
    name: "v4-only-world",
    severity: Severity::Info,
    group: Group::Security,
    kind: Kind::NoEffect,
    section: "S1.42",
    event_reason: None,
    summary: "a rule for `0.0.0.0/0` allows nobody over IPv6",
    documentation: Documentation {
        what: "A block `0.0.0.0/0`, with or without exceptions, for pods that have addresses of both families, while no rule allows any IPv6 address on its ports.",
        why: "The families are separate. Over IPv6 the same connections are denied, and programs may try IPv6 first.",
        example: Some(shop!(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: web}}\nspec: {nodeName: n1, containers: [{name: c}]}\nstatus: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}\n---\n",
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]\n    ports: [{port: 8080}]\n"
            )
        )),
        fix: "Add a block `::/0` with the exceptions that are meant. If nobody is meant to connect over IPv6, ignore the finding.",
        corrected: Some(shop!(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: web}}\nspec: {nodeName: n1, containers: [{name: c}]}\nstatus: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}\n---\n",
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}, {ipBlock: {cidr: '::/0', except: ['fd00::/8']}}]\n    ports: [{port: 8080}]\n"
            )
        )),
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let dual_stack: BTreeSet<GroupId> =
        context.snapshot.pods.values().filter(|pod| is_dual_stack(pod)).filter_map(|pod| context.group_of(pod)).collect();
    if dual_stack.is_empty() {
        return Vec::new();
    }
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for direction in Direction::ALL {
        for set in context.policy_sets(direction) {
            if !set.groups.iter().any(|group| dual_stack.contains(group)) {
                continue;
            }
            let openings = context.openings(set, direction);
            let over_v6 = openings.iter().filter(|opening| opening.addresses.touches(Family::V6));
            let over_v6 = over_v6.fold(PortSet::none(), |all, opening| all.union(&opening.ports));
            let is_world = |block: &policy_core::model::IpBlock| block.cidr.prefix_len() == 0 && block.cidr.addr().is_ipv4();
            for opening in openings.iter().filter(|opening| opening.block.is_some_and(|(_, block)| is_world(block))) {
                let missing = opening.ports.difference(&over_v6);
                if !missing.is_empty() && seen.insert((&opening.policy.key, opening.path())) {
                    let message = format!(
                        "this block is IPv4 alone: no IPv6 address is allowed on {}, and the pods have IPv6 addresses too",
                        if missing.is_all() { "any port".to_owned() } else { missing.to_string() }
                    );
                    let path = format!("{}.cidr", opening.path());
                    let finding = context.finding(&V4_ONLY_WORLD, &opening.policy.key, &path, message);
                    out.push(finding.help("add a block `::/0` with the exceptions that are meant"));
                }
            }
        }
    }
    out
}

fn is_dual_stack(pod: &Pod) -> bool {
    let Addresses::Known(known) = &pod.addresses else { return false };
    known.iter().any(|address| address.is_ipv4()) && known.iter().any(|address| address.is_ipv6())
}
