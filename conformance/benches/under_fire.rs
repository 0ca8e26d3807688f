//! A policy change while everybody scrapes, connections are many, and pods come and go. Prints a Markdown table.
//!
//! The agent is the binary; a stand-in sends it what an API server would, so that what is measured is the agent. The end of a
//! change is the kernel's announcement of an address that only this change brings. `NETPOL_SPAN` sets another number of seconds
//! for each state, `NETPOL_TRACKED` of connections. Load and agent share the machine's cores.

#![expect(clippy::expect_used, reason = "a measurement that fails says where")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use conformance::lab::packets::{Payload, packet};
use conformance::lab::{
    self, AgentProcess, Announcements, Clients, Fabric, FakeApi, Manner, Network, Place, Tally, binary, send,
};
use conformance::measure::percentile;
use serde_json::{Value, json};

const NODE: &str = "n1";
/// The node's own address, where every pod reaches the agent.
const LISTEN: &str = "192.0.2.1:9180";
/// Pods that scrape, of which the first sends, too; and where it sends to.
const PODS: u32 = 8;
const POD: &str = "10.244.1.1";
const OUTSIDE: &str = "203.0.113.9";
/// Pods of the node with a policy each.
const LOCAL: u32 = 110;
/// Pods in all.
const ALL: u32 = 10_000;
/// Clients of each pod that scrapes.
const EACH: usize = 8;
/// Pods and policies that change in a second.
const POD_RATE: u32 = 100;
const POLICY_RATE: u32 = 10;

fn number(variable: &str, otherwise: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn pod(i: u32, team: &str) -> Value {
    let (node, address) = if i < LOCAL { (NODE, local(i)) } else { ("elsewhere", remote(i)) };
    let labels = json!({"app": format!("app{i}"), "team": team});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{i}"), "namespace": "x", "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "c"}]}, "status": {"phase": "Running", "podIP": address}})
}

fn local(i: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0af4_0101 + i)
}

fn remote(i: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0b00_0000 + i)
}

/// Of 100.64.0.0/10: an address that this change brings, and no other.
fn brought(change: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x6440_0000 + change)
}

/// Lets team red into a pod of the node, and one address more.
fn policy(i: u32, change: u32) -> Value {
    let red = json!({"podSelector": {"matchLabels": {"team": "red"}}});
    let block = json!({"ipBlock": {"cidr": format!("{}/32", brought(change))}});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": format!("np{i}"), "namespace": "x"},
        "spec": {"podSelector": {"matchLabels": {"app": format!("app{i}")}}, "ingress": [{"from": [red, block], "ports": [{"port": 8080}]}]}})
}

/// Makes the node track so many flows, each from a port of its own to one outside, and keep them.
fn track(network: &Network, count: usize) -> usize {
    let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let (from, to) = (ip(POD), ip(OUTSIDE));
    network.node(NODE).run(|| {
        std::fs::write("/proc/sys/net/netfilter/nf_conntrack_udp_timeout", "3600").expect("connections are tracked");
    });
    network.at(from).expect("placed").run(move || {
        let flows = (1000..60_000_u16).flat_map(|port| (1024..=u16::MAX).map(move |source| (source, port)));
        let mut flows = flows.take(count).peekable();
        while flows.peek().is_some() {
            let packets = flows.by_ref().take(1024).map(|(source, port)| (to, packet(from, source, to, Payload::Udp(port), 0)));
            send(packets.collect());
        }
    });
    let text = network.node(NODE).run(|| std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count"));
    text.ok().and_then(|text| text.trim().parse().ok()).expect("a number")
}

/// Changes of a kind that are made at a steady rate.
struct Pace {
    start: Instant,
    rate: u32,
    made: u32,
}

impl Pace {
    fn new(rate: u32) -> Self {
        Self { start: Instant::now(), rate, made: 0 }
    }

    fn next(&self) -> Instant {
        self.start + Duration::from_secs(1) / self.rate * self.made
    }
}

/// What is changed, and what there is to see of it.
struct Bench<'a> {
    api: &'a FakeApi,
    kernel: &'a Announcements,
    /// Changes of policies so far.
    changes: u32,
}

impl Bench<'_> {
    /// Changes policies, and pods if there is to be fire, and prints how long policies took.
    fn row(&mut self, what: &str, span: Duration, has_churn: bool) {
        let _ = self.kernel.times();
        let (mut policies, mut pods, before) = (Pace::new(POLICY_RATE), Pace::new(POD_RATE), self.changes);
        while policies.start.elapsed() < span {
            let next = if has_churn { policies.next().min(pods.next()) } else { policies.next() };
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            if Instant::now() >= policies.next() {
                policies.made += 1;
                self.changes += 1;
                self.kernel.expect(brought(self.changes));
                self.api.set(policy(self.changes % LOCAL, self.changes));
            }
            if has_churn && Instant::now() >= pods.next() {
                let turn = pods.made / (ALL - LOCAL);
                let team = if turn.is_multiple_of(2) { "red" } else { "blue" };
                self.api.set(pod(LOCAL + pods.made * 7919 % (ALL - LOCAL), team));
                pods.made += 1;
            }
        }
        std::thread::sleep(Duration::from_secs(2));
        let (times, made) = (self.kernel.times(), self.changes - before);
        let rate = f64::from(pods.made) / span.as_secs_f64();
        println!(
            "| {what}, {rate:.0} pod changes a second | {} of {made} | {:.1} ms | {:.1} ms | {:.1} ms |",
            times.len(),
            percentile(&times, 0.5),
            percentile(&times, 0.99),
            percentile(&times, 1.0)
        );
    }
}

fn main() {
    // Cargo runs benches in tests, too, and asks them for lists.
    if !std::env::args().any(|argument| argument == "--bench") || !lab::is_available(&["ip", "nft", "conntrack", "prlimit"]) {
        return;
    }
    let span = Duration::from_secs(number("NETPOL_SPAN", 30).into());
    let address: IpAddr = "192.0.2.1".parse().expect("an address");
    let mut network = Network::new(&[(NODE, &[address])], Fabric::Routed);
    let place = |text: &str, place| (text.parse::<IpAddr>().expect("an address"), place);
    let mut places: BTreeMap<IpAddr, Place> = (0..PODS).map(|i| (local(i).into(), Place::Pod(NODE.to_owned()))).collect();
    places.extend([place(OUTSIDE, Place::Outside)]);
    network.settle(&places);
    let folder = tempfile::tempdir().expect("a folder");
    let api = FakeApi::start(network.node(NODE), folder.path());
    let name = json!({"name": "x", "labels": {"kubernetes.io/metadata.name": "x"}});
    api.set(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": name}));
    let addresses = json!([{"type": "InternalIP", "address": address}]);
    api.set(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}, "status": {"addresses": addresses}}));
    (0..ALL).for_each(|i| api.set(pod(i, "blue")));
    (0..LOCAL).for_each(|i| api.set(policy(i, 0)));
    let arguments = ["--kubeconfig", api.kubeconfig(), "--listen", LISTEN];
    let agent = AgentProcess::start_with(&binary("policy-agent"), network.node(NODE), folder.path(), &arguments);
    agent.wait_for(Duration::from_secs(60), |status| status["is_in_sync"] == true);

    let kernel = Announcements::start(network.node(NODE));
    let mut bench = Bench { api: &api, kernel: &kernel, changes: 0 };
    println!(
        "| {ALL} pods, {LOCAL} pods and policies of the node: policy change sent → in the kernel | seen | p50 | p99 | longest |"
    );
    println!("|---|---|---|---|---|");
    bench.row("nobody scrapes", span, false);
    let tracked = track(&network, usize::try_from(number("NETPOL_TRACKED", 200_000)).expect("few enough"));
    bench.row(&format!("{tracked} connections"), span, true);
    let listen = LISTEN.parse().expect("an address and a port");
    let scrape = |i: u32| {
        let pod = network.at(local(i).into()).expect("placed");
        Clients::start(pod, listen, "/metrics", EACH, Manner::Busy(1))
    };
    let scrapers: Vec<Clients> = (0..PODS).map(scrape).collect();
    let start = Instant::now();
    bench.row(&format!("{tracked} connections, {} clients scrape as fast as they can", PODS as usize * EACH), span, true);
    let tallies: Vec<_> = scrapers.iter().map(Clients::tally).collect();
    let rate = |count: fn(&Tally) -> usize| tallies.iter().map(count).sum::<usize>() as f64 / start.elapsed().as_secs_f64();
    println!(
        "\nThey had {:.0} answers a second, {:.0} refusals, and {:.0} connections that were closed.",
        rate(|tally| tally.good),
        rate(|tally| tally.other),
        rate(|tally| tally.closed)
    );
}
