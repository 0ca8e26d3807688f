//! Pods that reach the metadata service of a cloud.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::{Direction, ObjectKey};
use policy_core::sets::{AddressSet, Protocol, Transport};

use super::isolation_undone;
use crate::context::Context;
use crate::openings::Opening;

/// Egress rules allow the metadata service of clouds.
pub static METADATA_REACHABLE: Rule = Rule {
    id: "NP204",
    name: "metadata-reachable",
    severity: Severity::Warning,
    group: Group::Security,
    kind: Kind::NoEffect,
    section: "S1.40",
    event_reason: None,
    summary: "egress rules allow the metadata service of clouds",
    documentation: Documentation {
        what: "Egress rules that allow TCP port 80 of `169.254.169.254` or `fd00:ec2::254`, without naming the address. A rule for this address alone is taken as meant.",
        why: "In most clouds, the metadata service gives the credentials of the node to whoever asks. A pod that can be made to send a request can get them.",
        example: Some(shop!(
            deployment!("web"),
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  policyTypes: [Egress]\n  egress:\n  - to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]\n"
            )
        )),
        fix: "Except the address: `except: [169.254.169.254/32]`.",
        corrected: Some(shop!(
            deployment!("web"),
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  policyTypes: [Egress]\n  egress:\n  - to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 169.254.169.254/32]}}]\n"
            )
        )),
    },
};

const ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254))];
const HTTP: Protocol = Protocol::Port(Transport::Tcp, 80);

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let undone: Vec<&ObjectKey> = isolation_undone::found(context)
        .into_iter()
        .filter(|undone| undone.opening.direction == Direction::Egress)
        .map(|undone| &undone.opening.policy.key)
        .collect();
    // By policy: the first rule, the addresses, and a pod.
    let mut found: BTreeMap<&ObjectKey, (&Opening<'_>, Vec<IpAddr>, Option<String>)> = BTreeMap::new();
    for set in context.policy_sets(Direction::Egress) {
        let mut openings = context.openings(set, Direction::Egress);
        // Another rule is about these.
        openings.retain(|opening| !opening.is_by_omission(context));
        let on_http = || openings.iter().copied().filter(|opening| opening.ports.contains(HTTP));
        for address in ADDRESSES {
            // Another rule is about exceptions that do not hold.
            if on_http().any(|opening| is_named(opening, address) || is_excepted(opening, address)) {
                continue;
            }
            for opening in on_http().filter(|opening| opening.addresses.contains(address)) {
                let key = &opening.policy.key;
                if undone.contains(&key) {
                    continue;
                }
                let of_policy = found.entry(key).or_insert_with(|| (opening, Vec::new(), context.example_of(&set.groups)));
                if !of_policy.1.contains(&address) {
                    of_policy.1.push(address);
                }
            }
        }
    }
    let finding = |(policy, (opening, addresses, pod)): (&ObjectKey, (&Opening<'_>, Vec<IpAddr>, Option<String>))| {
        let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        let pods = pod.map_or_else(|| "the pods of the policy".to_owned(), |pod| format!("pods such as {pod}"));
        let message = format!("{pods} can reach the metadata service of clouds ({}, TCP port 80)", addresses.join(", "));
        let help = if opening.block.is_some() { "except the address from the block" } else { "list the peers that are meant" };
        context.finding(&METADATA_REACHABLE, policy, &opening.path(), message).help(help)
    };
    found.into_iter().map(finding).collect()
}

/// Whether a rule names this address alone.
fn is_named(opening: &Opening<'_>, address: IpAddr) -> bool {
    opening.addresses == AddressSet::single(address)
}

fn is_excepted(opening: &Opening<'_>, address: IpAddr) -> bool {
    opening.block.is_some_and(|(_, block)| block.except.iter().any(|exception| exception.contains(&address)))
}
