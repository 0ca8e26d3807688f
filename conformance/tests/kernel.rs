//! Engine, oracle and real kernel agree: on the whole truth table of the corpus, and of random clusters.
//!
//! `NETPOL_CLUSTERS` multiplies how many random clusters are tried; with 1 there are 100.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use conformance::case::{folder, is_verdicts, latest, manifests, read_all, to_json};
use conformance::engine;
use conformance::generate::cluster;
use conformance::lab::packets::{Payload, SYN};
use conformance::lab::{self, Agents, Fabric, Network, Place, Probe, arrived};
use conformance::oracle::{Oracle, Protocol};
use policy_core::graph::AllowGraph;
use policy_core::manifest::{Snapshot, Syntax};
use policy_core::model::{Addresses, Placement};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

const TOOLS: [&str; 3] = ["ip", "bridge", "conntrack"];

/// Where the addresses of a snapshot are: pods on their nodes, everything else outside.
fn places(snapshot: &Snapshot, graph: &AllowGraph, addresses: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Place> {
    let nodes: BTreeMap<IpAddr, &str> =
        snapshot.nodes.values().flat_map(|node| node.addresses.iter().map(|a| (*a, node.name.as_str()))).collect();
    let place = |address: &IpAddr| {
        if let Some(node) = nodes.get(address) {
            return Place::Node((*node).to_owned());
        }
        // Of several claimants one gets the packets; which one decides nothing (S2.5).
        let claims = graph.claimants(*address).first().map(|pod| {
            let (namespace, name) = graph.pod_name(*pod);
            let key = policy_core::model::ObjectKey::new(namespace, name);
            match &snapshot.pods[&key].placement {
                Placement::Node(node) => Place::Pod(node.clone()),
                other => panic!("{key} is an endpoint and {other:?}"),
            }
        });
        claims.unwrap_or(Place::Outside)
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

/// Compares every verdict of a cluster with what happens to packets. Returns how many were compared.
fn compare(
    network: &mut Network,
    (snapshot, objects): (&Snapshot, &[Value]),
    addresses: &BTreeSet<IpAddr>,
    protocols: &[Protocol],
    round: &mut u16,
) -> Result<usize, String> {
    let graph = engine::compile(snapshot.changes());
    let oracle = Oracle::new(objects.to_vec());
    let places = places(snapshot, &graph, addresses);
    network.settle(&places);
    let mut probes = Vec::new();
    let mut expected = BTreeMap::new();
    for (source, destination) in addresses.iter().flat_map(|a| addresses.iter().map(move |b| (*a, *b))) {
        if !is_visible(&places[&source], &places[&destination], source, destination) {
            continue;
        }
        // Whose own node it is cannot be told when pods of several nodes claim the other address.
        let has_node = matches!(places[&source], Place::Node(_)) || matches!(places[&destination], Place::Node(_));
        if has_node && [source, destination].iter().any(|a| graph.claimants(*a).len() > 1) {
            continue;
        }
        for protocol in protocols {
            let by_oracle = oracle.is_allowed(source, destination, *protocol);
            let by_engine = engine::is_allowed(&graph, source, destination, *protocol);
            if by_engine != by_oracle {
                return Err(format!("engine and oracle differ: {source} -> {destination} {protocol:?}"));
            }
            for payload in payload(*protocol) {
                let probe = Probe { source, destination, payload };
                expected.insert(probe, by_oracle);
                probes.push(probe);
            }
        }
    }
    // A protocol without ports has no other connection between two addresses than the one, so a packet of the opposite
    // direction would be a reply. Such packets are sent one direction after the other.
    let is_second = |probe: &&Probe| probe.payload == Payload::Unknown && probe.source > probe.destination;
    let (second, first): (Vec<Probe>, Vec<Probe>) = probes.iter().partition(is_second);
    let mut fact = BTreeSet::new();
    for probes in [first, second] {
        network.forget_connections();
        fact.extend(arrived(network, &probes, round, |probe| expected[probe]));
    }
    for probe in &probes {
        let (verdict, fact) = (expected[probe], fact.contains(probe));
        if verdict != fact {
            let word = |is_allowed| if is_allowed { "allowed" } else { "denied" };
            let ends = (&places[&probe.source], &places[&probe.destination]);
            return Err(format!("{probe:?} {ends:?}: verdict {}, in the kernel {}", word(verdict), word(fact)));
        }
    }
    Ok(probes.len())
}

/// Addresses that the cases ask about besides those of pods and nodes.
fn addresses(snapshot: &Snapshot, extra: &[&str]) -> BTreeSet<IpAddr> {
    let pods = snapshot.pods.values().filter(|pod| !pod.is_host_network).flat_map(|pod| match &pod.addresses {
        Addresses::Known(list) => list.clone(),
        Addresses::Unknown => Vec::new(),
    });
    let nodes = snapshot.nodes.values().flat_map(|node| node.addresses.iter().copied());
    pods.chain(nodes).chain(extra.iter().map(|a| a.parse().expect("an address"))).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn corpus(fabric: Fabric, is_wanted: impl Fn(usize) -> bool) {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let nodes = [("n1", [ip("192.0.2.1")]), ("n2", [ip("192.0.2.2")]), ("n3", [ip("192.0.2.3")])];
    let nodes: Vec<(&str, &[IpAddr])> = nodes.iter().map(|(name, list)| (*name, list.as_slice())).collect();
    let mut network = Network::new(&nodes, fabric);
    let mut agents = Agents::start(&network);
    let (mut sections, mut packets, mut round) = (0, 0, 0);
    for (number, case) in read_all(&folder()).iter().enumerate() {
        for section in case.sections.iter().filter(|section| is_verdicts(section)) {
            if !is_wanted(number) {
                continue;
            }
            let text = manifests(section);
            let snapshot = engine::load_text(&text, Syntax::Legacy);
            let objects = latest(to_json(&text));
            let rows = section.table.iter().skip(1);
            let asked: Vec<&str> = rows.clone().flat_map(|row| [row[0].as_str(), row[1].as_str()]).collect();
            let literal = asked.into_iter().filter(|text| text.parse::<IpAddr>().is_ok_and(|a| !a.is_loopback()));
            let mut extra: Vec<&str> = literal.collect();
            extra.extend(["203.0.113.9", "2001:db8::9"]);
            let addresses = addresses(&snapshot, &extra);
            let mut ports: BTreeSet<(&'static str, u16)> = [("TCP", 80), ("TCP", 81), ("UDP", 80), ("SCTP", 81)].into();
            for row in rows {
                if let Some((name, port)) = row[2].split_once('/') {
                    let name = ["TCP", "UDP", "SCTP"].into_iter().find(|t| *t == name).expect("a transport");
                    ports.insert((name, port.parse().expect("a port")));
                }
            }
            let mut protocols: Vec<Protocol> = ports.into_iter().map(|(name, port)| Protocol::Port(name, port)).collect();
            protocols.push(Protocol::Other);
            agents.tell(engine::load_text(&text, Syntax::Legacy));
            let place = format!("{} [{}]", case.path.display(), section.name);
            packets += compare(&mut network, (&snapshot, &objects), &addresses, &protocols, &mut round)
                .unwrap_or_else(|difference| panic!("{place}: {difference}"));
            sections += 1;
        }
    }
    println!("{sections} sections, {packets} packets");
    assert!(sections > 15 && packets > 10_000, "{sections} sections, {packets} packets");
}

#[test]
fn corpus_first_half_is_true_in_the_kernel() {
    corpus(Fabric::Routed, |number| number % 2 == 0);
}

#[test]
fn corpus_second_half_is_true_in_the_kernel() {
    corpus(Fabric::Routed, |number| number % 2 == 1);
}

#[test]
fn corpus_is_true_over_vxlan() {
    corpus(Fabric::Vxlan, |number| number % 6 == 0);
}

#[test]
fn random_clusters_are_true_in_the_kernel() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let nodes = [("n1", [ip("192.0.2.1")]), ("n2", [ip("192.0.2.2")])];
    let nodes: Vec<(&str, &[IpAddr])> = nodes.iter().map(|(name, list)| (*name, list.as_slice())).collect();
    let lab = Network::new(&nodes, Fabric::Routed);
    let agents = Agents::start(&lab);
    let state = std::cell::RefCell::new((lab, agents, 0, 0));
    let factor: u32 = std::env::var("NETPOL_CLUSTERS").ok().and_then(|v| v.parse().ok()).unwrap_or(1);
    let config = Config { cases: 100 * factor, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let result = TestRunner::new(config).run(&cluster(), |cluster| {
        let (network, agents, round, packets) = &mut *state.borrow_mut();
        let snapshot = engine::load(&cluster.objects, Syntax::Legacy);
        agents.tell(engine::load(&cluster.objects, Syntax::Legacy));
        let addresses = cluster.addresses().into_iter().collect();
        let compared = compare(network, (&snapshot, &cluster.objects), &addresses, &cluster.protocols(), round);
        match compared {
            Ok(count) => *packets += count,
            Err(difference) => prop_assert!(false, "{}", difference),
        }
        Ok(())
    });
    println!("{} packets", state.borrow().3);
    result.unwrap_or_else(|e| panic!("{e}"));
}
