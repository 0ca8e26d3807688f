//! A full connection table, and addresses that are used again.

use std::time::Duration;

use conformance::lab::packets::{Payload, packet};
use conformance::lab::{Trickle, send};
use conformance::measure::median;
use serde_json::json;

use super::{Cluster, OUTSIDE, PATIENCE, address, alone, becomes, ip, is_available, policy};

/// Makes the node track so many datagrams from pod `a` to the outside, each a flow of its own.
fn fill(cluster: &Cluster, count: usize) {
    let (from, to) = (address("a"), ip(OUTSIDE));
    cluster.at("a").run(move || {
        let mut made = 0;
        for port in 1000..u16::MAX {
            let sources = (1024..=u16::MAX).take(count - made);
            let packets: Vec<_> = sources.map(|source| (to, packet(from, source, to, Payload::Udp(port), 0))).collect();
            made += packets.len();
            packets.chunks(1024).for_each(|part| send(part.to_vec()));
            if made >= count {
                return;
            }
        }
    });
    let tracked = tracked(cluster);
    assert!(tracked * 10 > count * 9, "{tracked} connections are tracked");
}

fn tracked(cluster: &Cluster) -> usize {
    let text = cluster.node().run(|| std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count"));
    text.ok().and_then(|text| text.trim().parse().ok()).expect("connections are tracked")
}

#[test]
fn nothing_of_a_predecessor_reaches_an_address_after_add() {
    if !is_available() {
        return;
    }
    let _alone = alone();
    let cluster = Cluster::start(&[]);
    let isolated = json!({"podSelector": {"matchLabels": {"app": "successor"}}, "policyTypes": ["Ingress", "Egress"]});
    cluster.api.set(policy("isolated", isolated));
    assert_eq!(cluster.plugin("ADD", "b", "10.244.1.2").0, Ok(()));
    fill(&cluster, 50_000);

    // A flow in both directions, which the outside goes on with whoever has the address.
    let (pod, outside) = (address("b"), ip(OUTSIDE));
    let flow = Trickle::of_one_flow(&cluster.network, (outside, 5353), pod, 5353);
    assert!(flow.arrives(PATIENCE), "nobody is isolated yet");
    cluster.at("b").run(move || send(vec![(outside, packet(pod, 5353, outside, Payload::Udp(5353), 0))]));
    assert!(flow.arrives(PATIENCE), "it goes on");

    assert_eq!(cluster.plugin("DEL", "b", "10.244.1.2").0, Ok(()));
    cluster.api.delete("Pod", "x", "b");
    let mut successor = super::pod("successor", "successor", pod);
    successor["status"] = json!({"phase": "Pending"});
    cluster.api.set(successor);
    assert!(becomes(PATIENCE, || cluster.status()["news_in_force"] == cluster.status()["news_taken"]), "{}", cluster.status());
    assert!(flow.arrives(PATIENCE), "until the address has a pod again, nothing is in its way");

    // A runtime tries again what is refused; containers start after what is not.
    let mut refusals = 0;
    let is_added = becomes(3 * PATIENCE, || {
        let is_added = cluster.plugin("ADD", "successor", "10.244.1.2").0.is_ok();
        refusals += u32::from(!is_added);
        is_added
    });
    let answered = flow.now();
    assert!(is_added, "{refusals} refusals\n{}", cluster.end_of_log());
    let last = flow.ends(Duration::from_secs(1), PATIENCE).expect("the successor is isolated");
    assert!(last <= answered, "a packet arrived that was sent {:?} after ADD was answered", last.saturating_sub(answered));
    println!("{} tracked, {refusals} refusals of ADD", tracked(&cluster));
}

/// How long it takes to start each of some pods while a tenant edits a policy ten times a second.
fn starts_under_churn(cluster: &Cluster, round: u8) -> Vec<f64> {
    let edit = |port: usize| {
        let ingress = json!([{"ports": [{"port": port}]}]);
        let spec = json!({"podSelector": {"matchLabels": {"app": "c"}}, "policyTypes": ["Ingress"], "ingress": ingress});
        cluster.api.set(policy("churn", spec));
    };
    std::thread::scope(|scope| {
        let starts = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(500));
            let start = |i: u8| {
                std::thread::sleep(Duration::from_millis(100));
                let (answer, took) = cluster.plugin("ADD", &format!("new-{round}-{i}"), &format!("10.244.9.{}", 20 * round + i));
                answer.map(|()| took.as_secs_f64())
            };
            (1..8).map(start).collect::<Result<Vec<f64>, String>>()
        });
        let mut port = 1000;
        while !starts.is_finished() {
            port += 1;
            edit(port);
            std::thread::sleep(Duration::from_millis(100));
        }
        let times = starts.join().expect("it ends");
        times.unwrap_or_else(|refusal| panic!("a pod does not start: {refusal}\n{}", cluster.end_of_log()))
    })
}

#[test]
fn a_full_connection_table_and_policy_churn_keep_no_pod_from_starting() {
    if !is_available() {
        return;
    }
    let _alone = alone();
    let cluster = Cluster::start(&[]);
    let alone = median(&starts_under_churn(&cluster, 1));
    fill(&cluster, 120_000);
    let times = starts_under_churn(&cluster, 2);
    println!("ADD took {alone:.3} s, and with {} tracked connections {times:.3?} s", tracked(&cluster));
    // Looking for the connections of an address costs something; looking at all of them after every edit costs seconds.
    assert!(median(&times) < 5.0 * alone + 0.5, "ADD took {times:.3?} s, and {alone:.3} s without so many connections");
}
