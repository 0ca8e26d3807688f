//! One agent in a big cluster: a real kube-apiserver with 30,000 pods and 30,000 policies. Prints a Markdown table.
//!
//! `NETPOL_PODS` sets another number of both. API server, etcd, the load and the agent share the machine's cores, so times include
//! waiting for each other.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a measurement that fails says where")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use conformance::lab::{self, AgentProcess, Announcements, Api, ControlPlane, Fabric, VERSIONS, binary, fixture};
use conformance::measure::percentile;
use http::Method;
use serde_json::{Value, json};

const NODE: &str = "n1";
/// Pods of the node.
const LOCAL: usize = 110;
/// Pods of a namespace, and policies.
const EACH: usize = 30;
/// How long each state is watched.
const SPAN: Duration = Duration::from_secs(60);
/// Pods that change in a second.
const RATE: u32 = 100;

fn address(i: usize) -> Ipv4Addr {
    Ipv4Addr::from((10 << 24 | 1 << 20) + u32::try_from(i).expect("few pods"))
}

fn pod_place(i: usize) -> (String, String) {
    (format!("ns{}", i / EACH), format!("p{i}"))
}

/// Namespaces with pods and policies. Every pod of the node gets in whoever is of the team `red`.
fn objects(count: usize) -> Vec<Value> {
    let mut out: Vec<Value> = (0..count / EACH)
        .map(|i| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("ns{i}"), "labels": {"tier": format!("t{}", i % 7)}}}))
        .collect();
    for i in 0..count {
        let (namespace, name) = pod_place(i);
        let app = format!("app{}", i % 10);
        let on = if i < LOCAL { NODE.to_owned() } else { format!("node-{}", i % 300) };
        out.push(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": app, "team": "blue", "pod-template-hash": format!("h{}", i % 300)}},
            "spec": {"nodeName": on, "containers": [{"ports": [{"name": "http", "containerPort": 8080}], "env": [{"name": "A", "value": "B".repeat(500)}]}]},
            "status": {"phase": "Running", "podIP": address(i).to_string()}}));
        let near = json!({"podSelector": {"matchLabels": {"app": format!("app{}", (i + 1) % 10)}}});
        let tier = json!({"namespaceSelector": {"matchLabels": {"tier": format!("t{}", i % 7)}}, "podSelector": {"matchLabels": {"app": app}}});
        let red = json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"team": "red"}}});
        out.push(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": format!("np{i}"), "namespace": namespace},
            "spec": {"podSelector": {"matchLabels": {"app": app}}, "ingress": [{"from": [near, tier, red], "ports": [{"port": 8080}]}]}}));
    }
    out
}

/// Seconds of CPU that a process has used.
fn cpu(process: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().expect("a number") + fields[12].parse::<f64>().expect("a number");
    ticks / 100.0
}

/// Megabytes of memory: `VmRSS` now, `VmHWM` at most so far.
fn resident(process: u32, what: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let kib = text.lines().find_map(|l| l.strip_prefix(what)?.strip_prefix(':')?.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// Moves pods from one team to the other and back, [`RATE`] a second, and returns how many.
fn churn(api: &Api, count: usize, kernel: &Announcements) -> u32 {
    let start = Instant::now();
    let mut made = 0;
    while start.elapsed() < SPAN {
        let i = LOCAL + (made as usize * 7919) % (count - LOCAL);
        let team = if (made as usize / (count - LOCAL)).is_multiple_of(2) { "red" } else { "blue" };
        let (namespace, name) = pod_place(i);
        let body = json!({"metadata": {"labels": {"team": team}}});
        // The event cannot be earlier than the request, nor later than the answer.
        kernel.expect(address(i));
        api.request(Method::PATCH, &format!("/api/v1/namespaces/{namespace}/pods/{name}"), body)
            .expect("the API server takes it");
        made += 1;
        std::thread::sleep((start + Duration::from_secs(1) / RATE * made).saturating_duration_since(Instant::now()));
    }
    made
}

fn main() {
    // Cargo runs benches in tests, too, and asks them for lists.
    if !std::env::args().any(|argument| argument == "--bench")
        || !lab::is_available(&["ip", "bridge", "nft", "conntrack", "openssl"])
    {
        return;
    }
    let count = std::env::var("NETPOL_PODS").ok().and_then(|text| text.parse().ok()).unwrap_or(30_000);
    let network = fixture::nodes(Fabric::Routed);
    let plane = ControlPlane::start(VERSIONS[0], network.outside(), &[]);
    plane
        .kubectl(network.outside(), &["apply", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/../policy-agent/deploy/netpol.yaml")]);
    let mut api = Api::new(network.outside(), plane.admin());
    let start = Instant::now();
    let refused = api.hold(&objects(count));
    assert!(refused.is_empty(), "{:?}", refused.first());
    eprintln!("loaded in {:.0} s", start.elapsed().as_secs_f64());

    let folder = tempfile::tempdir().expect("a folder");
    let config = plane.agent().to_str().expect("UTF-8").to_owned();
    let start = Instant::now();
    let agent = AgentProcess::start_with(&binary("policy-agent"), network.node(NODE), folder.path(), &["--kubeconfig", &config]);
    agent.wait_for(Duration::from_secs(300), |status| status["is_in_sync"] == true);
    let ready = start.elapsed().as_secs_f64();
    let used = cpu(agent.id());
    println!("| what | {count} pods, {count} policies, {LOCAL} pods on the node |\n|---|---|");
    println!("| start → first ruleset in force | {ready:.1} s, {used:.1} s of CPU |");
    println!(
        "| resident memory then, and at most | {:.0} MB, {:.0} MB |",
        resident(agent.id(), "VmRSS"),
        resident(agent.id(), "VmHWM")
    );
    let before = cpu(agent.id());
    std::thread::sleep(SPAN);
    println!("| CPU while nothing changes | {:.4} cores |", (cpu(agent.id()) - before) / SPAN.as_secs_f64());

    let kernel = Announcements::start(network.node(NODE));
    let (before, start) = (cpu(agent.id()), Instant::now());
    let made = churn(&api, count, &kernel);
    let span = start.elapsed().as_secs_f64();
    let used = (cpu(agent.id()) - before) / span;
    std::thread::sleep(Duration::from_secs(2));
    let times = kernel.times();
    println!("| CPU with {:.0} pod changes a second | {used:.3} cores |", f64::from(made) / span);
    println!(
        "| change sent to the API server → in the kernel's set ({} of {made}) | p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms |",
        times.len(),
        percentile(&times, 0.5),
        percentile(&times, 0.99),
        percentile(&times, 1.0)
    );
    println!(
        "| resident memory at the end, and at most | {:.0} MB, {:.0} MB |",
        resident(agent.id(), "VmRSS"),
        resident(agent.id(), "VmHWM")
    );
}
