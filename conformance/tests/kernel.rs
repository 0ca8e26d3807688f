//! Engine, oracle and real kernel agree: on the whole truth table of the corpus, and of random clusters.
//!
//! `NETPOL_CLUSTERS` multiplies how many random clusters are tried; with 1 there are 100.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use conformance::case::{folder, is_verdicts, latest, manifests, read_all, to_json};
use conformance::engine;
use conformance::generate::cluster;
use conformance::lab::{self, Agents, Fabric, Network, comparison, fixture};
use conformance::oracle::{Oracle, Protocol};
use policy_core::manifest::Syntax;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const TOOLS: [&str; 3] = ["ip", "bridge", "conntrack"];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn corpus(fabric: Fabric, is_wanted: impl Fn(usize) -> bool) {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut network = fixture::nodes(fabric);
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
            let extra: Vec<IpAddr> = extra.iter().map(|a| a.parse().expect("an address")).collect();
            let addresses = comparison::addresses(&snapshot, &extra);
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
            let comparison = comparison::measure(&mut network, &snapshot, &addresses, &protocols, &mut round);
            comparison.check(&Oracle::new(objects)).unwrap_or_else(|difference| panic!("{place}: {difference}"));
            packets += comparison.verdicts.len();
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
        let comparison = comparison::measure(network, &snapshot, &addresses, &cluster.protocols(), round);
        if let Err(difference) = comparison.check(&Oracle::new(cluster.objects)) {
            prop_assert!(false, "{}", difference);
        }
        *packets += comparison.verdicts.len();
        Ok(())
    });
    println!("{} packets", state.borrow().3);
    result.unwrap_or_else(|e| panic!("{e}"));
}
