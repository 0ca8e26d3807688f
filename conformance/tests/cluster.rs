//! The agent's binary against a real API server: the corpus, changes, and every kind of trouble.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use conformance::case::{folder, is_verdicts, latest, manifests, read_all, to_json};
use conformance::engine;
use conformance::lab::flood::{self, under_flood};
use conformance::lab::packets::{Payload, SYN, packet};
use conformance::lab::{
    self, AgentProcess, Api, ControlPlane, Fabric, Network, Runtime, Sandbox, VERSIONS, binary, comparison, fixture, send,
};
use conformance::oracle::{Oracle, Protocol};
use http::Method;
use nix::sys::signal::Signal;
use policy_core::manifest::Syntax;
use serde_json::{Value, json};

const TOOLS: [&str; 6] = ["ip", "bridge", "conntrack", "openssl", "curl", "python3"];

/// An agent on every node, with the API server as source.
fn agents(network: &Network, plane: &ControlPlane, folder: &Path, arguments: &[&str]) -> Vec<AgentProcess> {
    let agent = binary("policy-agent");
    let config = plane.agent();
    let config = config.to_str().expect("a path in UTF-8");
    let arguments: Vec<&str> = ["--deny-log", "off", "--kubeconfig", config].iter().chain(arguments).copied().collect();
    network.nodes().map(|node| AgentProcess::start_with(&agent, network.node(node), folder, &arguments)).collect()
}

/// Measures until engine, oracle and kernel agree; the cluster converges, but not at once (S3.10).
fn agree(
    network: &mut Network,
    objects: &str,
    protocols: &[Protocol],
    extra: &[IpAddr],
    round: &mut u16,
) -> Result<usize, String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let snapshot = engine::load_text(objects, Syntax::Legacy);
    let addresses = comparison::addresses(&snapshot, extra);
    loop {
        let comparison = comparison::measure(network, &snapshot, &addresses, protocols, round);
        match comparison.check(&Oracle::new(latest(to_json(objects)))) {
            Ok(()) => return Ok(comparison.verdicts.len()),
            Err(difference) if Instant::now() > deadline => return Err(difference),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn corpus(version: &str, extra: &[&str], is_wanted: impl Fn(usize) -> bool, least: usize) {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut network = fixture::nodes(Fabric::Routed);
    let plane = ControlPlane::start(version, network.outside(), extra);
    plane.kubectl(network.outside(), &["apply", "-f", DEPLOYED]);
    let mut api = Api::new(network.outside(), plane.admin());
    let folder_of_agents = tempfile::tempdir().expect("a folder");
    let agents = agents(&network, &plane, folder_of_agents.path(), &[]);
    agents.iter().for_each(AgentProcess::wait_in_sync);
    let (mut sections, mut packets, mut left_out, mut round) = (0, 0, 0, 0);
    for (number, case) in read_all(&folder()).iter().enumerate() {
        for section in case.sections.iter().filter(|section| is_verdicts(section) && is_wanted(number)) {
            let text = manifests(section);
            let place = format!("{} [{}]", case.path.display(), section.name);
            // What is faulty can only be in a cluster since earlier times, and a namespace that is not there holds nothing; the
            // other tests have them.
            let strict = engine::load_text(&text, Syntax::Strict);
            if strict.diagnostics.iter().any(|d| d.is_error() || d.section == "S1.36") {
                left_out += 1;
                continue;
            }
            let refusals = api.hold(&latest(to_json(&text)));
            assert!(refusals.is_empty(), "{place}: good for us, and refused by the API server: {refusals:?}");
            let rows = section.table.iter().skip(1);
            let asked: Vec<&str> = rows.clone().flat_map(|row| [row[0].as_str(), row[1].as_str()]).collect();
            let literal = asked.into_iter().filter_map(|text| text.parse::<IpAddr>().ok()).filter(|a| !a.is_loopback());
            let mut extra: Vec<IpAddr> = literal.collect();
            extra.push("203.0.113.9".parse().expect("an address"));
            let mut ports: BTreeSet<(&'static str, u16)> = [("TCP", 80), ("UDP", 80)].into();
            for row in rows {
                if let Some((name, port)) = row[2].split_once('/') {
                    let name = ["TCP", "UDP", "SCTP"].into_iter().find(|t| *t == name).expect("a transport");
                    ports.insert((name, port.parse().expect("a port")));
                }
            }
            let protocols: Vec<Protocol> = ports.into_iter().map(|(name, port)| Protocol::Port(name, port)).collect();
            packets += agree(&mut network, &text, &protocols, &extra, &mut round).unwrap_or_else(|difference| {
                let logs: String = agents.iter().map(AgentProcess::log).collect();
                panic!("{place}: {difference}\n{logs}")
            });
            sections += 1;
        }
    }
    println!("{sections} sections, {packets} packets, {left_out} left out");
    assert!(sections >= least, "{sections} sections");
}

const DEPLOYED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policy-agent/deploy/netpol.yaml");
/// The policies in it: that of the reporter.
const DEPLOYED_POLICIES: usize = 1;

#[test]
fn the_corpus_is_true_through_the_newest_api_server() {
    corpus(VERSIONS[0], &[], |_| true, 150);
}

#[test]
fn the_corpus_is_true_through_an_older_api_server_that_cannot_list_by_watching() {
    corpus(VERSIONS[1], &["--feature-gates=WatchList=false"], |number| number % 5 == 0, 20);
}

/// The fixture as objects.
fn fixture_objects() -> Vec<Value> {
    latest(to_json(&fixture::manifests()))
}

/// A policy for `x/a` that allows ingress from these pods of namespace y, and one that is always there.
fn guards(from: &[&str]) -> Vec<Value> {
    let peer =
        |pod: &&str| json!({"namespaceSelector": {"matchLabels": {"ns": "y"}}, "podSelector": {"matchLabels": {"pod": pod}}});
    let policy = |name: &str, spec: Value| json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "x"}, "spec": spec});
    let from: Vec<Value> = from.iter().map(peer).collect();
    let ingress = if from.is_empty() { json!([]) } else { json!([{"from": from}]) };
    vec![
        policy("guard", json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": ingress})),
        policy("silence", json!({"podSelector": {"matchLabels": {"pod": "c"}}, "policyTypes": ["Egress"]})),
    ]
}

fn list(objects: &[Value]) -> String {
    objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

/// The fixture under a control plane, with agents that are in sync.
struct Cluster {
    network: Network,
    plane: ControlPlane,
    api: Api,
    agents: Vec<AgentProcess>,
    folder: tempfile::TempDir,
    round: u16,
}

const PROTOCOLS: [Protocol; 2] = [Protocol::Port("TCP", 80), Protocol::Port("UDP", 80)];
/// `x/a`; `y/a`, which may never reach it; `y/b`, which may now and then.
const WHO: [&str; 3] = ["10.244.1.1", "10.244.2.1", "10.244.2.2"];

impl Cluster {
    fn start(version: &str) -> Self {
        let network = fixture::network(Fabric::Routed);
        let plane = ControlPlane::start(version, network.outside(), &[]);
        plane.kubectl(network.outside(), &["apply", "-f", DEPLOYED]);
        let mut api = Api::new(network.outside(), plane.admin());
        let folder = tempfile::tempdir().expect("a folder");
        assert!(api.hold(&[fixture_objects(), guards(&["b"])].concat()).is_empty());
        let agents = agents(&network, &plane, folder.path(), &[]);
        agents.iter().for_each(AgentProcess::wait_in_sync);
        Self { network, plane, api, agents, folder, round: 0 }
    }

    /// Checks that the kernel does what these objects say.
    fn agree(&mut self, objects: &[Value]) {
        let result = agree(&mut self.network, &list(objects), &PROTOCOLS, &[], &mut self.round);
        result.unwrap_or_else(|difference| panic!("{difference}\n{}", self.logs()));
    }

    fn logs(&self) -> String {
        self.agents.iter().map(AgentProcess::log).collect()
    }

    fn hold(&mut self, objects: &[Value]) {
        let refused = self.api.hold(objects);
        assert!(refused.is_empty(), "{refused:?}");
    }

    fn restart_apiserver(&mut self) {
        self.plane.start_apiserver(self.network.outside());
        self.plane.wait_ready(self.network.outside());
    }
}

#[test]
fn without_the_api_server_enforcement_goes_on() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::start(VERSIONS[0]);
    let before = [fixture_objects(), guards(&["b"])].concat();
    cluster.agree(&before);
    for agent in &cluster.agents {
        agent.wait(|status| status["warnings"].as_array().is_some_and(Vec::is_empty));
    }

    // The API server is killed: what was known stays in force, and everybody is told how old it is.
    cluster.plane.kill_apiserver();
    for agent in &cluster.agents {
        agent.wait(|status| status["is_in_sync"] == true && status["warnings"].to_string().contains("stale: no data about pods"));
    }
    cluster.agree(&before);
    cluster.restart_apiserver();
    for agent in &cluster.agents {
        agent.wait_for(Duration::from_secs(60), |status| !status["warnings"].to_string().contains("stale"));
    }
    let after = [fixture_objects(), guards(&["c"])].concat();
    cluster.hold(&after);
    cluster.agree(&after);

    // A node is cut off. Policies, pods and namespaces come and go meanwhile, and history is forgotten: when the node is back, it
    // must list again, and find out what it never saw go.
    let node = cluster.network.node("n1");
    let cut = "add table inet cut\nadd chain inet cut out { type filter hook output priority 0; }\nadd rule inet cut out tcp dport 6443 drop\n";
    node.command_with("nft", &["-f", "-"], cut);
    let mut objects = fixture_objects();
    objects.retain(|object| {
        !(object["kind"] == "Pod" && object["metadata"]["namespace"] == "y" && object["metadata"]["name"] == "c")
    });
    for object in &mut objects {
        if object["kind"] == "Namespace" && object["metadata"]["name"] == "z" {
            object["metadata"]["labels"]["ns"] = json!("y");
        }
    }
    // The egress policy is gone as well.
    objects.push(guards(&["a", "b"]).remove(0));
    cluster.hold(&objects);
    cluster.plane.compact(cluster.network.outside());
    cluster.plane.kill_apiserver();
    cluster.restart_apiserver();
    cluster.network.node("n1").command("nft", &["delete", "table", "inet", "cut"]);
    cluster.agree(&objects);
    let log = cluster.agents.first().expect("three agents").log();
    assert!(log.contains("too old resource version"), "history was not forgotten: {log}");
}

#[test]
fn killed_in_any_order_nothing_is_lost_and_nothing_opens() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::start(VERSIONS[0]);
    let objects = |round: usize| {
        let from: &[&str] = if round.is_multiple_of(2) { &["b", "c"] } else { &["b"] };
        [fixture_objects(), guards(from)].concat()
    };
    cluster.agree(&[fixture_objects(), guards(&["b"])].concat());
    let agent = binary("policy-agent");
    let config = cluster.plane.agent().to_str().expect("a path in UTF-8").to_owned();
    let sandboxes = cluster.folder.path().join("runtime");
    for round in 0..10 {
        let Cluster { network, plane, api, agents, folder, .. } = &mut cluster;
        let mut runtime = Runtime::new(network.node("n1"), "10.77.1.0/24", &sandboxes);
        runtime.install(agents[0].socket());
        let heard = under_flood(network, WHO, || {
            // Three things in one of six orders, and a plugin at one of four moments; what was killed comes back at once or after
            // the others.
            let mut order = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][round % 6].to_vec();
            order.insert(round % 4, 3);
            for what in order {
                match what {
                    0 => agents.iter_mut().for_each(|agent| agent.stop(Signal::SIGKILL)),
                    1 => plane.kill_apiserver(),
                    2 => plane.kill_etcd(),
                    _ => {
                        runtime.kill_after = Some(Duration::from_millis(round as u64 / 4));
                        // It may be too late to kill it, and without an agent it fails by itself.
                        if let Ok(sandbox) = runtime.add("x", "unknown", "0") {
                            runtime.remove(&sandbox).expect("DEL succeeds");
                        }
                        runtime.kill_after = None;
                    }
                }
                std::thread::sleep(Duration::from_millis(17 * round as u64));
            }
            let start =
                |node: &str| AgentProcess::start_with(&agent, network.node(node), folder.path(), &["--kubeconfig", &config]);
            if round.is_multiple_of(3) {
                *agents = network.nodes().map(start).collect();
            }
            plane.start_etcd(network.outside());
            plane.start_apiserver(network.outside());
            if round % 3 == 1 {
                *agents = network.nodes().map(start).collect();
            }
            plane.wait_ready(network.outside());
            let refused = api.hold(&objects(round));
            assert!(refused.is_empty(), "{refused:?}");
            if round % 3 == 2 {
                *agents = network.nodes().map(start).collect();
            }
        });
        assert!(!heard.contains(&flood::FORBIDDEN), "round {round}: a forbidden packet passed");
        assert!(heard.contains(&flood::ALLOWED), "round {round}: nothing passed at all");
        agents[0].wait_for(Duration::from_secs(60), |status| status["is_in_sync"] == true);
        let sandbox = runtime.add("x", "unknown", "0").expect("pods start again");
        runtime.remove(&sandbox).expect("DEL succeeds");
        cluster.agree(&objects(round));
    }
}

/// Pods in namespaces of their own, most of them on a node that is far away, with policies; and policies for `x/a` that let some
/// of them in.
const NEAR: usize = 20;

fn crowd(pods: usize, policies: usize, turn: usize) -> Vec<Value> {
    const NAMESPACES: usize = 50;
    let namespace = |i: usize| format!("crowd-{}", i % NAMESPACES);
    let mut out: Vec<Value> = (0..NAMESPACES)
        .map(|i| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace(i), "labels": {"crowd": (i % 5).to_string()}}}))
        .collect();
    out.extend((0..pods).map(|i| {
        let node = if i >= NEAR { "far" } else if i.is_multiple_of(2) { "n2" } else { "n3" };
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("p{i}"), "namespace": namespace(i), "labels": {"app": format!("a{}", (i + turn) % 40), "node": node}},
            "spec": {"nodeName": node, "containers": [{}]},
            "status": {"phase": "Running", "podIP": format!("10.{}.{}.{}", 100 + i / 40_000, (i / 200) % 200, 1 + i % 200)}})
    }));
    out.extend((0..policies).map(|i| {
        let far = !i.is_multiple_of(20);
        let (name, home) = (format!("np{i}"), if far { namespace(i) } else { "x".to_owned() });
        let pods = if far { json!({"app": format!("a{}", i % 40), "node": "far"}) } else { json!({"pod": "a"}) };
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": home},
            "spec": {"podSelector": {"matchLabels": pods}, "ingress": [{
                "from": [{"namespaceSelector": {"matchLabels": {"crowd": ((i + turn) % 5).to_string()}},
                          "podSelector": {"matchLabels": {"app": format!("a{}", (i / 20 + turn) % 40)}}}],
                "ports": [{"port": 1000 + i}]}]}})
    }));
    out
}

#[test]
fn thousands_of_objects_come_change_and_go_under_fire() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::start(VERSIONS[0]);
    let calm = [fixture_objects(), guards(&["b"])].concat();
    let stages: Vec<Vec<Value>> =
        vec![[calm.clone(), crowd(5000, 2000, 0)].concat(), [calm.clone(), crowd(5000, 2000, 1)].concat(), calm.clone()];
    for stage in stages {
        let Cluster { network, api, .. } = &mut cluster;
        let heard = under_flood(network, WHO, || {
            let refused = api.hold(&stage);
            assert!(refused.is_empty(), "{refused:?}");
        });
        assert!(!heard.contains(&flood::FORBIDDEN), "a forbidden packet passed");
        assert!(heard.contains(&flood::ALLOWED), "nothing passed at all");
        cluster.agents.iter().for_each(AgentProcess::wait_in_sync);
        let count = |kind: &str| stage.iter().filter(|object| object["kind"] == kind).count();
        for agent in &cluster.agents {
            agent.wait(|status| {
                status["objects"]["pods"] == count("Pod")
                    && status["objects"]["policies"] == count("NetworkPolicy") + DEPLOYED_POLICIES
            });
        }
        // The crowd's own policies are for those far away.
        let objects: Vec<Value> = stage
            .iter()
            .filter(|o| {
                let is_crowd = o["metadata"]["namespace"].as_str().is_some_and(|name| name.starts_with("crowd-"));
                !is_crowd || (o["kind"] == "Pod" && o["spec"]["nodeName"] != "far")
            })
            .cloned()
            .collect();
        let ports = [1000, 1020, 2980].map(|port| Protocol::Port("TCP", port));
        let result = agree(&mut cluster.network, &list(&objects), &ports, &[], &mut cluster.round);
        println!("{} objects: {} packets", stage.len(), result.unwrap_or_else(|difference| panic!("{difference}")));
    }
}

/// How many pods are started in the race.
const STARTS: usize = 1000;

/// A pod's first process sends at once. Pods come through the API, most of them under a name that another had a moment before.
#[test]
fn no_pod_sends_a_forbidden_packet_from_its_first_instruction() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::start(VERSIONS[0]);
    let only_to_b = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "new", "namespace": "x"},
        "spec": {"podSelector": {"matchLabels": {"pod": "new"}}, "policyTypes": ["Egress"], "egress": [{"to": [
            {"namespaceSelector": {"matchLabels": {"ns": "y"}}, "podSelector": {"matchLabels": {"pod": "b"}}}]}]}});
    cluster.hold(&[fixture_objects(), vec![only_to_b]].concat());
    let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let (closed, open) = (ip("10.244.2.1"), ip("10.244.2.2"));
    let Cluster { network, api, agents, folder, .. } = &mut cluster;
    agents[0].wait(|status| status["objects"]["policies"] == 1 + DEPLOYED_POLICIES);
    network.route("10.77.1.0/24", "n1");
    let socket = agents[0].socket().to_owned();
    let mut runtime = Runtime::new(network.node("n1"), "10.77.1.0/24", &folder.path().join("runtime"));
    runtime.install(&socket);
    let stop = Arc::new(AtomicBool::new(false));
    let listeners = [flood::listen(network, closed, &stop), flood::listen(network, open, &stop)];
    let mut alive: VecDeque<(String, Sandbox)> = VecDeque::new();
    let mut killed = 0;
    for start in 0..STARTS {
        let name = format!("new-{}", start % 7);
        let path = format!("/api/v1/namespaces/x/pods/{name}?gracePeriodSeconds=0");
        if alive.len() == 5 {
            // Whether the object or the sandbox goes first is chance.
            let (path, sandbox) = alive.pop_front().expect("five");
            if start % 3 == 0 {
                runtime.remove(&sandbox).expect("DEL succeeds");
            }
            api.request(Method::DELETE, &path, Value::Null).expect("it is there");
            if start % 3 != 0 {
                runtime.remove(&sandbox).expect("DEL succeeds");
            }
        }
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "x", "labels": {"pod": "new"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "none"}]}});
        let made = api.request(Method::POST, "/api/v1/namespaces/x/pods", pod).expect("a pod");
        let uid = made["metadata"]["uid"].as_str().expect("a UID");
        // Some plugins are killed while they are at it; the sandbox is torn down then, and the kubelet tries again.
        runtime.kill_after = (start % 8 == 1).then(|| Duration::from_micros(start as u64 * 37 % 20_000));
        let first_try = runtime.add("x", &name, uid);
        runtime.kill_after = None;
        killed += usize::from(first_try.is_err());
        let sandbox = first_try.or_else(|_| runtime.add("x", &name, uid)).expect("the agent is there");
        let own = sandbox.addresses[0];
        let port = 1024 + u16::try_from(start % 60_000).expect("small");
        let first = [(closed, flood::FORBIDDEN), (open, flood::ALLOWED)].map(|(to, mark)| {
            let payload = if start % 2 == 0 { Payload::Udp(80) } else { Payload::Tcp { port: 80, flags: SYN } };
            (to, packet(own, port, to, payload, mark))
        });
        sandbox.namespace.run(move || send(first.to_vec()));
        if start % 100 == 0 {
            runtime.check(&sandbox).expect("its rules are there");
        }
        alive.push_back((path, sandbox));
    }
    std::thread::sleep(Duration::from_millis(100));
    stop.store(true, Ordering::Relaxed);
    let [at_closed, at_open] = listeners.map(|listener| listener.join().expect("it ends"));
    assert!(!at_closed.contains(&flood::FORBIDDEN), "a pod sent a packet that its policy forbids");
    assert!(at_open.contains(&flood::ALLOWED), "no pod sent what its policy allows");

    assert!(killed > 0, "no plugin was killed in time");
    let records = socket.with_file_name("sandboxes");
    let known = || std::fs::read_dir(&records).expect("the agent's records").count();
    assert_eq!(known(), alive.len(), "the agent knows of others");
    let (_, any) = alive.front().expect("five");
    runtime.status(any).expect("it is ready");
    runtime.collect(alive.iter().map(|(_, sandbox)| sandbox).take(2), any).expect("GC succeeds");
    assert_eq!(known(), 2, "GC keeps what it is told to");

    // Without the agent no pod starts, and the runtime is told to try again; tearing down works all the same.
    agents[0].stop(Signal::SIGKILL);
    let Err(error) = runtime.add("x", "late", "0") else { panic!("a pod started without its rules") };
    assert_eq!((error.plugin.as_str(), error.code), ("netpol-cni", 11), "{error:?}");
    let not_ready = runtime.status(&alive[0].1).expect_err("it cannot add a sandbox");
    assert_eq!(not_ready.code, 50, "{not_ready:?}");
    for (_, sandbox) in alive.drain(..).skip(2) {
        runtime.remove(&sandbox).expect("DEL succeeds");
    }
}

/// Runs `netpol` where the API server can be reached, with one of its kubeconfigs.
fn netpol(cluster: &Cluster, config: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(binary("netpol"));
    command.arg("--kubeconfig").arg(config).args(arguments).env("HOME", cluster.folder.path());
    cluster.network.outside().run(move || command.output().expect("netpol runs"))
}

#[test]
fn the_command_line_answers_about_a_live_cluster() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::start(VERSIONS[0]);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "x"}, "stringData": {"k": "hidden-in-a-secret"}});
    cluster.api.request(Method::POST, "/api/v1/namespaces/x/secrets", secret).expect("a secret");
    let container = json!({"name": "c", "image": "hidden-in-an-image", "args": ["hidden-in-an-argument"],
        "env": [{"name": "E", "value": "hidden-in-a-variable"}]});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "x"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {"containers": [container]},
            "metadata": {"labels": {"app": "web"}, "annotations": {"a": "hidden-in-an-annotation"}}}}});
    cluster.api.request(Method::POST, "/apis/apps/v1/namespaces/x/deployments", deployment).expect("a deployment");
    let objects = [fixture_objects(), guards(&["b"]), crowd(1200, 0, 0)].concat();
    cluster.hold(&objects);

    // More pods than fit on a page are saved, and nothing that should stay where it is.
    let admin = cluster.plane.admin();
    let saved = netpol(&cluster, &admin, &["snapshot"]);
    assert!(saved.status.success() && String::from_utf8_lossy(&saved.stderr).contains("Secrets are not included"), "{saved:?}");
    let file = cluster.folder.path().join("cluster.yaml.gz");
    std::fs::write(&file, &saved.stdout).expect("writable");
    let text = String::from_utf8(policy_input::files::content(&file, 1 << 30).expect("gzip")).expect("UTF-8");
    assert!(!text.contains("hidden-in"));
    assert!(text.contains(r#""kind":"Deployment""#) && text.matches(r#""kind":"Pod""#).count() >= 1200);

    // Live and from the file, as the oracle says.
    let file = file.to_str().expect("UTF-8");
    let oracle = Oracle::new(latest(to_json(&list(&objects))));
    let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let pods = [("x/pod/a", "10.244.1.1"), ("y/pod/a", "10.244.2.1"), ("y/pod/b", "10.244.2.2"), ("x/pod/c", "10.244.1.3")];
    for (from, source) in pods {
        for (to, destination) in pods.into_iter().filter(|(to, _)| *to != from) {
            let wanted = oracle.is_allowed(ip(source), ip(destination), Protocol::Port("TCP", 80));
            let live = netpol(&cluster, &admin, &["can", from, to, "-p", "80"]);
            let mut offline = std::process::Command::new(binary("netpol"));
            let offline = offline.args(["can", "-f", file, from, to, "-p", "80"]).output().expect("netpol runs");
            assert_eq!(live.status.code(), Some(i32::from(!wanted)), "{from} → {to}: {live:?}");
            assert_eq!(offline.status.code(), live.status.code(), "{from} → {to}: {offline:?}");
            assert!(
                !String::from_utf8_lossy(&live.stdout).contains("cluster:")
                    && !String::from_utf8_lossy(&live.stdout).contains("(the live"),
                "no policy stands in a file: {live:?}"
            );
        }
    }
    // What would a policy do that is not there yet? The cluster and a file together.
    let new = cluster.folder.path().join("new.yaml");
    let deny =
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: new, namespace: 'y'}, spec: {podSelector: {}}}";
    std::fs::write(&new, deny).expect("writable");
    let new = new.to_str().expect("UTF-8");
    assert!(netpol(&cluster, &admin, &["can", "x/pod/a", "y/pod/b", "-p", "80"]).status.success());
    let with = netpol(&cluster, &admin, &["can", "--live", "-f", new, "x/pod/a", "y/pod/b", "-p", "80"]);
    assert_eq!(with.status.code(), Some(1), "{with:?}");

    // As kubectl's plugin, a live cluster is meant.
    std::os::unix::fs::symlink(binary("netpol"), cluster.folder.path().join("kubectl-netpol")).expect("a link");
    let mut command = std::process::Command::new(cluster.plane.programs().join("kubectl"));
    let path = format!("{}:{}", cluster.folder.path().display(), std::env::var("PATH").unwrap_or_default());
    command.args(["netpol", "can", "y/pod/b", "x/pod/a", "-p", "80"]).env("KUBECONFIG", &admin).env("PATH", path);
    let asked = cluster.network.outside().run(move || command.output().expect("kubectl runs"));
    assert!(asked.status.success(), "{asked:?}");

    // It says what it cannot see.
    let nobody = cluster.plane.nobody();
    let refused = netpol(&cluster, &nobody, &["can", "x/a", "x/b"]);
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(why.contains("may not list namespaces of all namespaces") && why.contains("nobody"), "{why}");
    assert_eq!(refused.status.code(), Some(2), "{why}");
    let agent = cluster.plane.agent();
    let partly = netpol(&cluster, &agent, &["can", "y/pod/b", "x/pod/a", "-p", "80"]);
    let answer = String::from_utf8_lossy(&partly.stdout);
    assert!(
        partly.status.success() && answer.contains("caveat: cannot read deployments: deployments.apps is forbidden"),
        "{partly:?}"
    );
    assert!(!answer.contains("Status {"), "{partly:?}");
    let missing = netpol(&cluster, Path::new("/nowhere"), &["can", "x/a", "x/b"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("--kubeconfig"), "{missing:?}");
    cluster.plane.kill_apiserver();
    let gone = netpol(&cluster, &admin, &["snapshot"]);
    assert!(gone.stdout.is_empty() && gone.status.code() == Some(2), "{gone:?}");
    assert!(String::from_utf8_lossy(&gone.stderr).contains("cannot read the cluster at https://"), "{gone:?}");
    // What is behind it is said once.
    assert_eq!(String::from_utf8_lossy(&gone.stderr).matches("refused").count(), 1, "{gone:?}");
}

/// The reporter, running as nobody.
struct ReporterProcess(std::process::Child);

impl ReporterProcess {
    /// `folder` is one that everybody may read.
    fn start(cluster: &Cluster, folder: &Path) -> Self {
        let copy = |from: &Path, name: &str| std::fs::copy(from, folder.join(name)).expect("a copy");
        let config = std::fs::read_to_string(cluster.plane.reporter()).expect("a kubeconfig");
        let certificate = config.split('\'').find(|part| part.ends_with(".crt")).expect("a certificate");
        copy(Path::new(certificate), "ca.crt");
        let config = config.replace(certificate, folder.join("ca.crt").to_str().expect("UTF-8"));
        std::fs::write(folder.join("config"), config).expect("writable");
        if !folder.join("policy-agent").exists() {
            copy(&binary("policy-agent"), "policy-agent");
        }
        let mut command = std::process::Command::new("setpriv");
        command.args([
            "--reuid=65532",
            "--regid=65532",
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
            "--no-new-privs",
        ]);
        command
            .arg(folder.join("policy-agent"))
            .args(["report", "--instance", "test", "--kubeconfig"])
            .arg(folder.join("config"));
        Self(cluster.network.outside().run(move || command.spawn().expect("it starts")))
    }
}

impl Drop for ReporterProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The Events of the reporter: policy, reason and note; sorted.
fn reported(cluster: &Cluster) -> Vec<[String; 3]> {
    let path = "/apis/events.k8s.io/v1/events?fieldSelector=reportingController%3Dnetpol";
    let list = cluster.api.request(Method::GET, path, Value::Null).expect("events");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = list["items"].as_array().into_iter().flatten();
    let mut all: Vec<_> = all.map(|e| [text(&e["regarding"]["name"]), text(&e["reason"]), text(&e["note"])]).collect();
    all.sort();
    all
}

#[test]
fn one_event_for_each_policy_that_cannot_be_enforced_as_written() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::start(VERSIONS[0]);
    let policy = |name: &str, spec: Value| json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "z"}, "spec": spec});
    let port = |name: &str| json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"ports": [{"port": name}]}]});
    let host = policy("host", json!({"podSelector": {"matchLabels": {"pod": "h"}}}));
    // Of a time when API servers took it: it isolates, allows what can be read of it, and is reported.
    let rule = |namespace: &str, protocol: &str| json!({"from": [{"namespaceSelector": {"matchLabels": {"ns": namespace}}}], "ports": [{"protocol": protocol, "port": 80}]});
    let rules = [rule("x", "ICMP"), rule("y", "TCP")];
    let mut old =
        policy("old", json!({"podSelector": {"matchLabels": {"pod": "c"}}, "policyTypes": ["Ingress"], "ingress": rules}));
    old["metadata"]["uid"] = json!("5e1f0b6e-0000-4000-8000-000000000000");
    old["metadata"]["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
    let objects =
        [fixture_objects(), vec![host, policy("name", port("serve-80-tpc")), policy("good", port("serve-80-tcp"))]].concat();
    cluster.hold(&objects);
    cluster.plane.store(cluster.network.outside(), "/registry/networkpolicies/z/old", &old);
    cluster.agree(&[objects.clone(), vec![old]].concat());
    for agent in &cluster.agents {
        agent.wait(|status| status["problems"].to_string().contains("NetworkPolicy z/old: spec.ingress[0].ports[0].protocol"));
    }
    let wait = |cluster: &Cluster, count: usize| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while reported(cluster).len() < count {
            assert!(Instant::now() < deadline, "{:?}", reported(cluster));
            std::thread::sleep(Duration::from_millis(200));
        }
        reported(cluster)
    };
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let reporter = ReporterProcess::start(&cluster, folder.path());
    let said = wait(&cluster, 3);
    let reasons: Vec<[&str; 2]> = said.iter().map(|[name, reason, _]| [name.as_str(), reason.as_str()]).collect();
    assert_eq!(reasons, [["host", "OnlyHostNetworkPods"], ["name", "NamedPortNotFound"], ["old", "InvalidPolicy"]]);
    assert!(said[1][2].contains("`serve-80-tpc`"), "{said:?}");
    let shown = cluster.plane.kubectl(cluster.network.outside(), &["events", "-n", "z", "--for", "networkpolicy/name"]);
    assert!(shown.contains("NamedPortNotFound"), "kubectl does not show it: {shown}");
    // Another reporter takes over, and says nothing twice.
    drop(reporter);
    let _reporter = ReporterProcess::start(&cluster, folder.path());
    let egress = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "nobody-has-it"}]}]});
    cluster.hold(&[objects, vec![policy("later", egress)]].concat());
    let mut later = wait(&cluster, 4);
    later.retain(|[name, ..]| name != "later");
    assert_eq!(later, said);
}

#[test]
fn an_event_for_each_policy_that_is_too_large_for_a_node() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::start(VERSIONS[0]);
    // Rules whose ranges are nested make as many pairs as the square of their number. Either policy alone is compiled.
    let nested = |name: &str, first: u32| {
        let block = |n: u32| format!("11.{first}.{}.{}/32", n / 100, 2 * (n % 100));
        let rule = |n: u32| json!({"from": [{"ipBlock": {"cidr": block(n)}}], "ports": [{"port": 1, "endPort": n + 1}]});
        let rules: Vec<Value> = (0..450).map(rule).collect();
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "z"},
            "spec": {"podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes": ["Ingress"], "ingress": rules}})
    };
    cluster.hold(&[fixture_objects(), vec![nested("one", 1), nested("two", 2)]].concat());
    let deadline = Instant::now() + Duration::from_secs(60);
    while reported(&cluster).len() < 2 {
        assert!(Instant::now() < deadline, "{:?}", reported(&cluster));
        std::thread::sleep(Duration::from_millis(200));
    }
    let said = reported(&cluster);
    let reasons: Vec<[&str; 2]> = said.iter().map(|[name, reason, _]| [name.as_str(), reason.as_str()]).collect();
    assert_eq!(reasons, [["one", "TooManyPeersOnNode"], ["two", "TooManyPeersOnNode"]]);
    assert!(said.iter().all(|[.., note]| note.contains("ingress traffic of the pods a is blocked")), "{said:?}");
}
