//! What the verdicts say about every pair of addresses, beside what happens to packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_core::graph::AllowGraph;
use policy_core::manifest::Snapshot;
use policy_core::model::{Addresses, ObjectKey, Placement, Pod};

use super::packets::{Payload, SYN};
use super::{Network, Place, Probe, arrived};
use crate::engine;
use crate::oracle::{Oracle, Protocol};

/// Where the addresses of pods are that cannot be read (S2.25). One whose node cannot be read is on some node.
fn held(snapshot: &Snapshot) -> BTreeMap<IpAddr, Place> {
    let some = snapshot.nodes.keys().next().cloned().unwrap_or_default();
    let place = |placement: &Placement| match placement {
        Placement::Node(node) => Place::Pod(node.clone()),
        Placement::Unscheduled | Placement::Somewhere => Place::Pod(some.clone()),
    };
    let of = |pod: &Pod| pod.held_addresses().iter().map(|address| (*address, place(&pod.placement))).collect::<Vec<_>>();
    snapshot.pods.values().flat_map(of).collect()
}

/// Where the addresses of a snapshot are: pods on their nodes, everything else outside.
///
/// # Panics
/// When a pod is on no node.
#[must_use]
pub fn places(snapshot: &Snapshot, graph: &AllowGraph, addresses: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Place> {
    let nodes: BTreeMap<IpAddr, &str> =
        snapshot.nodes.values().flat_map(|node| node.addresses.iter().map(|a| (*a, node.name.as_str()))).collect();
    let held = held(snapshot);
    let place = |address: &IpAddr| {
        if let Some(node) = nodes.get(address) {
            return Place::Node((*node).to_owned());
        }
        // Of several claimants one gets the packets; which one decides nothing (S2.5).
        let claims = graph.claimants(*address).first().map(|pod| {
            let (namespace, name) = graph.pod_name(*pod);
            let key = ObjectKey::new(namespace, name);
            match &snapshot.pods[&key].placement {
                Placement::Node(node) => Place::Pod(node.clone()),
                other => panic!("{key} is an endpoint and {other:?}"),
            }
        });
        claims.or_else(|| held.get(address).cloned()).unwrap_or(Place::Outside)
    };
    addresses.iter().map(|address| (*address, place(address))).collect()
}

fn payload(protocol: Protocol) -> Vec<Payload> {
    match protocol {
        Protocol::Port("TCP", port) => vec![Payload::Tcp { port, flags: SYN }],
        Protocol::Port("UDP", port) => vec![Payload::Udp(port)],
        Protocol::Port(_, port) => vec![Payload::Sctp(port)],
        Protocol::Other => vec![Payload::Ping, Payload::Unknown],
    }
}

/// Whether the verdict on a pair shows in packets: one end is a pod, and the packets pass a node.
fn is_visible(from: &Place, to: &Place, source: IpAddr, destination: IpAddr) -> bool {
    let has_pod = matches!(from, Place::Pod(_)) || matches!(to, Place::Pod(_));
    // What is not unicast is sent to no one namespace, and what is link-local stays on its link.
    let is_unicast =
        !destination.is_multicast() && !source.is_multicast() && !source.is_unspecified() && !destination.is_unspecified();
    source != destination
        && source.is_ipv4() == destination.is_ipv4()
        && has_pod
        && is_unicast
        && !is_link_local(source)
        && !is_link_local(destination)
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.is_unicast_link_local())
}

/// Verdicts and facts.
pub struct Comparison {
    /// What the engine says of each packet.
    pub verdicts: BTreeMap<Probe, bool>,
    /// The packets that arrived.
    pub arrived: BTreeSet<Probe>,
    places: BTreeMap<IpAddr, Place>,
    protocols: BTreeMap<Probe, Protocol>,
}

impl Comparison {
    /// The packets to which something else happened than the verdict says.
    pub fn differences(&self) -> impl Iterator<Item = &Probe> {
        self.verdicts.iter().filter(|(probe, is_allowed)| self.arrived.contains(probe) != **is_allowed).map(|(probe, _)| probe)
    }

    /// Whether engine, oracle and kernel agree on everything.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn check(&self, oracle: &Oracle) -> Result<(), String> {
        let word = |is_allowed| if is_allowed { "allowed" } else { "denied" };
        for (probe, verdict) in &self.verdicts {
            let Probe { source, destination, .. } = *probe;
            let by_oracle = oracle.is_allowed(source, destination, self.protocols[probe]);
            let in_kernel = self.arrived.contains(probe);
            if by_oracle != *verdict || in_kernel != *verdict {
                let ends = (&self.places[&source], &self.places[&destination]);
                let words = [*verdict, by_oracle, in_kernel].map(word);
                return Err(format!("{probe:?} {ends:?}: engine {}, oracle {}, kernel {}", words[0], words[1], words[2]));
            }
        }
        Ok(())
    }
}

/// Sends a first packet of each protocol between every two addresses, after they have been put in their places.
#[must_use]
pub fn measure(
    network: &mut Network,
    snapshot: &Snapshot,
    addresses: &BTreeSet<IpAddr>,
    protocols: &[Protocol],
    round: &mut u16,
) -> Comparison {
    let graph = engine::compile(snapshot.changes());
    let places = places(snapshot, &graph, addresses);
    network.settle(&places);
    let held = held(snapshot);
    let mut comparison = Comparison { verdicts: BTreeMap::new(), arrived: BTreeSet::new(), places, protocols: BTreeMap::new() };
    for (source, destination) in addresses.iter().flat_map(|a| addresses.iter().map(move |b| (*a, *b))) {
        let (from, to) = (&comparison.places[&source], &comparison.places[&destination]);
        // Whose own node it is cannot be told when pods of several nodes claim the other address.
        let has_node = matches!(from, Place::Node(_)) || matches!(to, Place::Node(_));
        // And a graph of all nodes exempts none of them in front of what is in quarantine (S3.11).
        let is_shared = [source, destination].iter().any(|a| graph.claimants(*a).len() > 1 || held.contains_key(a));
        // What a pod sends to itself does not leave it.
        let is_same = graph.endpoint(source).is_same_endpoint(&graph.endpoint(destination));
        if !is_visible(from, to, source, destination) || is_same || (has_node && is_shared) {
            continue;
        }
        for protocol in protocols {
            let verdict = engine::is_allowed(&graph, source, destination, *protocol);
            for payload in payload(*protocol) {
                let probe = Probe { source, destination, payload };
                comparison.verdicts.insert(probe, verdict);
                comparison.protocols.insert(probe, *protocol);
            }
        }
    }
    // A protocol without ports has no other connection between two addresses than the one, so a packet of the opposite
    // direction would be a reply. Such packets are sent one direction after the other.
    let is_second = |probe: &Probe| probe.payload == Payload::Unknown && probe.source > probe.destination;
    let (second, first): (Vec<Probe>, Vec<Probe>) = comparison.verdicts.keys().copied().partition(is_second);
    for probes in [first, second] {
        network.forget_connections();
        comparison.arrived.extend(arrived(network, &probes, round, |probe| comparison.verdicts[probe]));
    }
    // What comes next begins with no connection: one that the next policies cut would stay cut in the other direction, too (S3.9).
    network.forget_connections();
    comparison
}

/// The addresses of pods and nodes, and others.
#[must_use]
pub fn addresses(snapshot: &Snapshot, others: &[IpAddr]) -> BTreeSet<IpAddr> {
    let pods = snapshot.pods.values().filter(|pod| !pod.is_host_network).flat_map(|pod| match &pod.addresses {
        Addresses::Known(list) => list.clone(),
        Addresses::Unknown => Vec::new(),
    });
    let nodes = snapshot.nodes.values().flat_map(|node| node.addresses.iter().copied());
    pods.chain(nodes).chain(others.iter().copied()).collect()
}
