//! Policies that are expensive, and explanations of them; metric series.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use conformance::lab::packets::{Payload, packet};
use conformance::lab::{Trickle, send};
use serde_json::{Value, json};

use super::{Cluster, PATIENCE, address, alone, becomes, deny, ip, is_available, pod, policy};

/// A policy for some pods with so many pairs of a port and a block, close to the largest that an API server takes.
fn pairs(apps: &[&str], count: usize, version: usize) -> Value {
    let block = |i: usize| format!("{}.{}.{}.{}/32", 11 + i / 16_384, i / 64 % 256, i % 64 * 4, version % 200);
    let rules: Vec<Value> =
        (0..count).map(|i| json!({"from": [{"ipBlock": {"cidr": block(i)}}], "ports": [{"port": i % 60_000 + 1}]})).collect();
    let selector = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": apps}]});
    policy("big", json!({"podSelector": selector, "policyTypes": ["Ingress"], "ingress": rules}))
}

#[test]
fn a_big_policy_that_is_edited_all_the_time_delays_nobody_else() {
    if !is_available() {
        return;
    }
    let _alone = alone();
    let cluster = Cluster::start(&[]);
    let (stop, edits) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                cluster.api.set(pairs(&["c"], 6000, edits.fetch_add(1, Ordering::Relaxed)));
                std::thread::sleep(Duration::from_millis(250));
            }
        });
        // Denied all the time, and so explained.
        let denied = Trickle::start(&cluster.network, address("a"), address("c"), 9);
        assert!(denied.ends(super::QUIET, 3 * PATIENCE).is_some(), "the big policy is in force");
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            cluster.works("b", "a big policy is edited");
            cluster.starts_pods("a big policy is edited again");
        }));
        stop.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    println!("{} edits", edits.load(Ordering::Relaxed));
}

#[test]
fn explaining_denied_packets_delays_nobody() {
    if !is_available() {
        return;
    }
    let _alone = alone();
    let cluster = Cluster::start(&[]);
    let victims = ["c", "e", "f", "g"];
    // Peers that explanations must look through, pod by pod and block by block.
    let peer = |i: usize| {
        json!({"from": [{"podSelector": {"matchLabels": {"k": format!("v{i}")}}},
        {"ipBlock": {"cidr": format!("{}.{}.{}.1/32", 11 + i / 16_384, i / 64 % 256, i % 64 * 4)}}], "ports": [{"port": 80}]})
    };
    let selector = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": victims}]});
    let rules: Vec<Value> = (0..11_000).map(peer).collect();
    cluster.api.set(policy("big", json!({"podSelector": selector, "policyTypes": ["Ingress"], "ingress": rules})));
    let denied = victims.map(|victim| Trickle::start(&cluster.network, address("a"), address(victim), 80));
    assert!(denied[3].ends(super::QUIET, 3 * PATIENCE).is_some(), "the big policy is in force");
    let explained = || cluster.agent.log().matches("denied").count();
    assert!(becomes(PATIENCE, || explained() > 0), "denied packets are explained");
    cluster.works("b", "big policies are explained");
    // Explanations may lose, but not all of them.
    let before = explained();
    assert!(becomes(3 * PATIENCE, || explained() > before), "denied packets are explained no more");
}

/// Series of denied packets.
fn series(cluster: &Cluster) -> Option<usize> {
    let text = cluster.get("/metrics")?;
    Some(text.lines().filter(|line| line.starts_with("netpol_denied_packets_total{")).count())
}

#[test]
fn metric_series_go_with_the_pods_that_they_are_about() {
    const JOBS: usize = 300;
    if !is_available() {
        return;
    }
    let _alone = alone();
    let cluster = Cluster::start(&[]);
    // Denied packets never get as far as this link.
    let link = conformance::lab::link_name(address("h"));
    cluster.node().command("ip", &["route", "add", "10.244.8.0/22", "dev", &link]);
    for round in 0..2 {
        let name = |i: usize| format!("job-{round}-{i}");
        let place = |i: usize| ip(&format!("10.244.{}.{}", 8 + i / 250, i % 250 + 1));
        for i in 0..JOBS {
            cluster.api.set(pod(&name(i), &name(i), place(i)));
            cluster.api.set(deny(&name(i)));
        }
        cluster.agent.wait_for(PATIENCE, |status| status["objects"]["policies"] == JOBS && status["is_in_sync"] == true);
        let from = address("a");
        let fire = || {
            let packets = (0..JOBS).map(|i| (place(i), packet(from, 2000, place(i), Payload::Udp(9), 0))).collect();
            cluster.at("a").run(move || send(packets));
            std::thread::sleep(Duration::from_millis(200));
            series(&cluster).is_some_and(|count| count > 0)
        };
        assert!(becomes(PATIENCE, fire), "denied packets are counted");
        for i in 0..JOBS {
            cluster.api.delete("Pod", "x", &name(i));
            cluster.api.delete("NetworkPolicy", "x", &format!("deny-{}", name(i)));
        }
        cluster.agent.wait_for(PATIENCE, |status| status["local_addresses"] == 8);
        let is_gone = becomes(PATIENCE, || series(&cluster) == Some(0));
        assert!(is_gone, "{:?} series are left of pods that are gone", series(&cluster));
    }
}
