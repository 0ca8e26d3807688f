//! What a pod, a tenant, a scraper or another program on a node does to keep the agent from its work, or to get past it.
//!
//! Bounds are generous: they tell an agent that is kept from its work from one that is not, on a machine that is busy. Each test
//! sees first that its attack, or its detector, works.
//!
//! - `http`: scrapers, and descriptors that run out.
//! - `tenants`: policies that are expensive, and explanations of them; metric series.
//! - `connections`: a full connection table, and addresses that are used again.
//! - `node`: other programs that use nf_tables, agents that are killed, and a second agent.
//! - `strings`: names that are no names.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

mod connections;
mod http;
mod node;
mod strings;
mod tenants;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use conformance::lab::{self, AgentProcess, Fabric, FakeApi, Namespace, Network, Place, Trickle, binary, link_name};
use serde_json::{Value, json};

const TOOLS: [&str; 4] = ["ip", "nft", "conntrack", "prlimit"];
const NODE: &str = "n1";
/// Where the agent serves metrics, as the chart does with `metrics.access=all`: every pod reaches it.
const LISTEN: &str = "192.0.2.1:9180";
/// Somebody outside.
const OUTSIDE: &str = "203.0.113.9";
/// What works at all works within this time, on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Under attack, a change is in force and a pod is started within this time.
const BOUND: Duration = Duration::from_secs(5);
/// So long nothing arrives at a pod that is closed.
const QUIET: Duration = Duration::from_millis(300);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The address of a pod that is there: `a` to `h`.
fn address(pod: &str) -> IpAddr {
    let letter = pod.bytes().next().expect("a name");
    ip(&format!("10.244.1.{}", letter - b'a' + 1))
}

/// Attacks take what the machine has, so they come one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pod of namespace x on the node.
fn pod(name: &str, app: &str, address: IpAddr) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "x", "uid": format!("uid-{name}"), "labels": {"app": app}},
        "spec": {"nodeName": NODE, "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}})
}

fn policy(name: &str, spec: Value) -> Value {
    let metadata = json!({"name": name, "namespace": "x"});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
}

/// Lets nobody reach the pods with this app label.
fn deny(app: &str) -> Value {
    policy(&format!("deny-{app}"), json!({"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Ingress"]}))
}

/// Starts the agent's binary on the node, with these arguments more.
fn start(node: &Namespace, config: &str, folder: &Path, arguments: &[&str]) -> AgentProcess {
    let arguments: Vec<&str> = ["--kubeconfig", config, "--listen", LISTEN].iter().chain(arguments).copied().collect();
    AgentProcess::start_with(&binary("policy-agent"), node, folder, &arguments)
}

/// A node with pods `a` to `h`, somebody outside, a stand-in for the API server, and the agent's binary.
struct Cluster {
    agent: AgentProcess,
    api: FakeApi,
    network: Network,
    folder: tempfile::TempDir,
    config: String,
}

impl Cluster {
    /// Pods and their namespace, and no policy. `arguments` are more arguments for the agent.
    fn start(arguments: &[&str]) -> Self {
        let nodes = [(NODE, [ip("192.0.2.1")])];
        let nodes: Vec<(&str, &[IpAddr])> = nodes.iter().map(|(name, list)| (*name, list.as_slice())).collect();
        let mut network = Network::new(&nodes, Fabric::Routed);
        let pods = || ('a'..='h').map(|letter| letter.to_string());
        let mut places: BTreeMap<IpAddr, Place> = pods().map(|name| (address(&name), Place::Pod(NODE.to_owned()))).collect();
        places.insert(ip(OUTSIDE), Place::Outside);
        network.settle(&places);
        let folder = tempfile::tempdir().expect("a folder");
        let api = FakeApi::start(network.node(NODE), folder.path());
        api.set(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "labels": {"kubernetes.io/metadata.name": "x"}}}));
        api.set(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}));
        for name in pods() {
            api.set(pod(&name, &name, address(&name)));
        }
        let config = api.kubeconfig().to_owned();
        let agent = start(network.node(NODE), &config, folder.path(), arguments);
        let cluster = Self { agent, api, network, folder, config };
        cluster.agent.wait_for(PATIENCE, |status| status["is_in_sync"] == true);
        cluster
    }

    fn node(&self) -> &Namespace {
        self.network.node(NODE)
    }

    fn at(&self, pod: &str) -> &Namespace {
        self.network.at(address(pod)).expect("placed")
    }

    /// More pods of the node, each isolated by a policy of its own, that are nowhere in the network.
    fn crowd(&self, count: u8) {
        for i in 0..count {
            let name = format!("crowd{i}");
            self.api.set(pod(&name, &name, ip(&format!("10.244.7.{i}"))));
            self.api.set(deny(&name));
        }
        let is_there = |status: &Value| status["objects"]["policies"].as_u64() >= Some(count.into());
        self.agent.wait_for(PATIENCE, |status| is_there(status) && status["is_in_sync"] == true);
    }

    /// Isolates a pod under the eyes of somebody outside, and returns how long packets were still let through.
    fn isolate(&self, pod: &str) -> Duration {
        let trickle = Trickle::start(&self.network, ip(OUTSIDE), address(pod), 80);
        assert!(trickle.arrives(PATIENCE), "nothing reaches a pod without policies");
        let start = trickle.now();
        self.api.set(deny(pod));
        match trickle.ends(QUIET, PATIENCE) {
            Some(last) => last.saturating_sub(start),
            None => panic!("{pod} is open {PATIENCE:?} after it was isolated\n{}", self.end_of_log()),
        }
    }

    /// Isolates a pod, starts another, and asks whether pods can be started: all of it in time.
    fn works(&self, pod: &str, when: &str) {
        let took = self.isolate(pod);
        assert!(took < BOUND, "{when}: a policy is in force after {took:?}\n{}", self.end_of_log());
        let (answer, took) = self.plugin("STATUS", pod, "");
        assert_eq!(answer, Ok(()), "{when}: STATUS after {took:?}");
        self.starts_pods(when);
    }

    /// A pod that nobody knows yet is started: it is in quarantine in time.
    fn starts_pods(&self, when: &str) {
        let (answer, took) = self.plugin("ADD", &format!("new-{}", when.len()), "10.244.9.9");
        assert_eq!(answer, Ok(()), "{when}: ADD after {took:?}\n{}", self.end_of_log());
        assert!(took < BOUND, "{when}: ADD took {took:?}");
        println!("{when}: ADD took {took:?}");
    }

    /// Runs the CNI plugin for a pod of namespace x, and returns what it says, and after which time.
    fn plugin(&self, command: &str, pod: &str, address: &str) -> (Result<(), String>, Duration) {
        let start = Instant::now();
        let namespace = format!("/proc/{}/task/{}/ns/net", std::process::id(), self.at("h").id());
        let link = address.parse().map(link_name).unwrap_or_default();
        let result = json!({"cniVersion": "1.1.0", "interfaces": [{"name": link}, {"name": "eth0", "sandbox": namespace}],
            "ips": [{"address": format!("{address}/32"), "interface": 1}]});
        let mut configuration =
            json!({"cniVersion": "1.1.0", "name": "lab", "type": "netpol-cni", "socket": self.agent.socket()});
        if ["ADD", "DEL", "CHECK"].contains(&command) {
            configuration["prevResult"] = result;
        }
        let mut process = Command::new(binary("netpol-cni"));
        process.env("CNI_COMMAND", command).env("CNI_CONTAINERID", format!("sandbox-{pod}")).env("CNI_NETNS", namespace);
        process.env("CNI_IFNAME", "eth0").env("CNI_PATH", "/usr/lib/cni");
        process.env("CNI_ARGS", format!("K8S_POD_NAMESPACE=x;K8S_POD_NAME={pod};K8S_POD_UID=uid-{pod}"));
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let output = self.node().run(move || {
            let mut child = process.spawn().expect("the plugin starts");
            child.stdin.take().expect("piped").write_all(configuration.to_string().as_bytes()).expect("it reads");
            child.wait_with_output().expect("it ends")
        });
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (if output.status.success() { Ok(()) } else { Err(said) }, start.elapsed())
    }

    /// What the agent answers to its node on HTTP; `None` when it does not.
    fn get(&self, path: &str) -> Option<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        self.node().run(move || {
            let mut stream = TcpStream::connect(LISTEN).ok()?;
            stream.set_read_timeout(Some(BOUND)).ok()?;
            stream.write_all(request.as_bytes()).ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.starts_with("HTTP/1.1 200").then_some(answer)
        })
    }

    /// What the agent says of itself.
    fn status(&self) -> Value {
        serde_json::from_slice(&self.agent.ask(&["status", "--output", "json"]).stdout).unwrap_or_default()
    }

    /// File descriptors that the agent has open.
    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.agent.id())).map_or(0, Iterator::count)
    }

    fn end_of_log(&self) -> String {
        let log = self.agent.log();
        log.lines().rev().take(8).map(|line| line.chars().take(300).collect::<String>() + "\n").collect()
    }
}

/// Waits until something is so; whether it came to that.
fn becomes(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Whether this machine can run these tests.
fn is_available() -> bool {
    lab::is_available(&TOOLS)
}
