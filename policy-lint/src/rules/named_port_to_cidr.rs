//! A port name for addresses outside of the cluster (S1.54).

use std::collections::BTreeMap;

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::{Addresses, Direction, Peer, Peers, Phase, Pod};
use policy_core::sets::Transport;

use crate::context::Context;
use crate::named_ports::NamedEntry;

/// An egress rule with address blocks alone names a port.
pub static NAMED_PORT_TO_CIDR: Rule = Rule {
    id: "NP119",
    name: "named-port-to-cidr",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S1.54",
    event_reason: None,
    summary: "an egress rule to address blocks names a port",
    documentation: Documentation {
        what: "An egress rule whose peers are address blocks and that names a port, while no known pod in these blocks has a port of that name.",
        why: "Containers give ports their names. Addresses outside of the cluster have none, so the entry allows nothing there. Names such as `https` are not looked up in a list of services.",
        example: Some(shop!(
            deployment!("web"),
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  policyTypes: [Egress]\n  egress:\n  - to: [{ipBlock: {cidr: 192.0.2.0/24}}]\n    ports: [{port: https}, {port: 53, protocol: UDP}]\n"
            )
        )),
        fix: "Use the number of the port.",
        corrected: None,
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut by_name: Option<BTreeMap<(Transport, &str), Vec<&Pod>>> = None;
    let mut out = Vec::new();
    for entry in NamedEntry::all(context).filter(|entry| entry.direction == Direction::Egress) {
        let Some(Peers::Listed(peers)) = entry.peers() else { continue };
        let blocks = peers.iter().filter_map(|peer| if let Peer::Block(block) = peer { Some(block.addresses()) } else { None });
        let blocks: Vec<_> = blocks.collect();
        if blocks.len() != peers.len() {
            continue;
        }
        let by_name = by_name.get_or_insert_with(|| pods_by_port_name(context));
        let may_match = |pod: &&Pod| match &pod.addresses {
            Addresses::Known(known) => known.iter().any(|address| blocks.iter().any(|block| block.contains(*address))),
            Addresses::Unknown => true,
        };
        if by_name.get(&(entry.transport, entry.name)).is_some_and(|pods| pods.iter().any(may_match)) {
            continue;
        }
        let message = format!("addresses outside of the cluster have no port names, so `{}` allows nothing there", entry.name);
        let help = "use the number of the port";
        out.push(context.finding(&NAMED_PORT_TO_CIDR, &entry.policy.key, &entry.path(), message).help(help));
    }
    out
}

fn pods_by_port_name<'a>(context: &Context<'a>) -> BTreeMap<(Transport, &'a str), Vec<&'a Pod>> {
    let mut out: BTreeMap<(Transport, &str), Vec<&Pod>> = BTreeMap::new();
    for pod in context.snapshot.pods.values().filter(|pod| pod.phase == Phase::Live && !pod.is_host_network) {
        for port in &pod.ports {
            out.entry((port.protocol, port.name.as_str())).or_default().push(pod);
        }
    }
    out
}
