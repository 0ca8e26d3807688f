//! The shop of `examples/shop` as a cluster of three nodes, enforced on real packets.
//!
//! Nodes and pods are network namespaces; each node runs the agent's binary. What the verdicts predict stands beside what
//! happens to packets. Everything goes when this program does.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a demonstration that fails says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use conformance::lab::packets::Payload;
use conformance::lab::{self, AgentProcess, Fabric, Network, Probe, binary, comparison};
use conformance::oracle::Protocol;
use conformance::shop::{self, cell, paint, read};
use policy_core::manifest::{Snapshot, Syntax};
use policy_core::sets::Transport;
use serde_json::{Value, json};

const NODES: [(&str, &str); 3] = [("node-a", "192.0.2.1"), ("node-b", "192.0.2.2"), ("node-c", "192.0.2.3")];
/// Somebody on the internet, and the payment provider.
const OUTSIDE: [&str; 2] = ["203.0.113.9", "198.51.100.7"];

/// Nodes, and the pods of the shop with addresses, spread over the nodes.
fn cluster() -> Vec<Value> {
    let node = |(name, address): &(&str, &str)| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
               "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
    };
    let mut objects: Vec<Value> = NODES.iter().map(node).collect();
    for (number, mut pod) in shop::pods(2).into_iter().enumerate() {
        let (node, host) = NODES[number % NODES.len()];
        let is_host = pod["spec"]["hostNetwork"] == true;
        let address = if is_host { host.to_owned() } else { format!("10.244.{}.{}", (number + 1) % 3, number + 1) };
        pod["spec"]["nodeName"] = json!(node);
        pod["status"] = json!({"phase": "Running", "podIP": address});
        objects.push(pod);
    }
    objects
}

/// A window on the cluster: who has which address, and which ports anybody listens on.
struct View {
    snapshot: Snapshot,
    /// Workloads and others by name, each with its addresses.
    ends: BTreeMap<String, Vec<IpAddr>>,
    /// Workload, protocol and port.
    services: Vec<(String, Transport, u16)>,
}

fn view(folder: &Path) -> View {
    let mut loader = policy_core::manifest::Loader::new(Syntax::Strict);
    for path in policy_input::files::manifests_below(folder).expect("the folder is there") {
        loader.read(&path.display().to_string(), &std::fs::read(&path).expect("readable"));
    }
    let snapshot = loader.finish();
    assert!(!snapshot.has_errors(), "{:?}", snapshot.diagnostics);
    let mut ends: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    let mut services = BTreeSet::new();
    for pod in snapshot.pods.values().filter(|pod| pod.is_endpoint()) {
        let name = format!("{}/{}", pod.key.namespace, pod.key.name.rsplit_once('-').map_or("", |(workload, _)| workload));
        if let policy_core::model::Addresses::Known(list) = &pod.addresses {
            ends.entry(name.clone()).or_default().extend(list);
        }
        services.extend(pod.ports.iter().map(|port| (name.clone(), port.protocol, port.number)));
    }
    ends.insert("internet".to_owned(), vec![OUTSIDE[0].parse().expect("an address")]);
    View { snapshot, ends, services: services.into_iter().collect() }
}

/// Prints who reaches what, predicted and measured, and returns in how many packets that differs from the prediction.
fn show(view: &View, comparison: &comparison::Comparison) -> usize {
    let letter = |n: usize| char::from(b'a' + u8::try_from(n).expect("few services"));
    let letters: String = (0..view.services.len()).map(|n| format!("{} ", letter(n))).collect();
    println!("  {:24}{:width$}   measured", "", "predicted", width = letters.len());
    println!("  {:24}{letters}   {letters}", "");
    for (name, addresses) in &view.ends {
        let mut lines = [String::new(), String::new()];
        for (to, transport, port) in &view.services {
            let payload = match transport {
                Transport::Tcp => Payload::Tcp { port: *port, flags: lab::packets::SYN },
                Transport::Udp => Payload::Udp(*port),
                Transport::Sctp => Payload::Sctp(*port),
            };
            let pairs = addresses.iter().flat_map(|a| view.ends[to].iter().map(move |b| (*a, *b)));
            let probes: Vec<Probe> = pairs
                .map(|(source, destination)| Probe { source, destination, payload })
                .filter(|p| comparison.verdicts.contains_key(p))
                .collect();
            let predicted = probes.iter().filter(|p| comparison.verdicts[p]).count();
            let measured = probes.iter().filter(|p| comparison.arrived.contains(p)).count();
            let is_wrong = probes.iter().any(|p| comparison.arrived.contains(p) != comparison.verdicts[p]);
            lines[0] += &cell(predicted, probes.len());
            lines[1] += &if is_wrong { paint("! ", "31;1") } else { cell(measured, probes.len()) };
        }
        println!("  {name:24}{}   {}", lines[0], lines[1]);
    }
    for (n, (name, transport, port)) in view.services.iter().enumerate() {
        print!("  {} {:31}", letter(n), format!("{name} {transport} {port}"));
        if n % 3 == 2 {
            println!();
        }
    }
    println!("\n  ● allowed   ◐ only between some of the pods   · denied   ! not as predicted\n");
    let differences = comparison.differences().count();
    let verdict = format!("{} packets sent, {differences} differences between predicted and measured", comparison.verdicts.len());
    println!("{}\n", paint(&verdict, if differences == 0 { "32;1" } else { "31;1" }));
    differences
}

fn measure(network: &mut Network, view: &View, round: &mut u16) -> comparison::Comparison {
    let outside: Vec<IpAddr> = OUTSIDE.iter().map(|a| a.parse().expect("an address")).collect();
    let addresses = comparison::addresses(&view.snapshot, &outside);
    let ports: BTreeSet<(Transport, u16)> = view.services.iter().map(|(_, transport, port)| (*transport, *port)).collect();
    let mut protocols: Vec<Protocol> = ports.iter().map(|(transport, port)| Protocol::Port(transport.name(), *port)).collect();
    protocols.extend([Protocol::Port("TCP", 22), Protocol::Other]);
    comparison::measure(network, &view.snapshot, &addresses, &protocols, round)
}

fn main() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("the demo creates network namespaces and changes nftables inside them, so it requires root: sudo make demo");
        std::process::exit(2);
    }
    if !lab::is_available(&["ip", "bridge", "nft", "conntrack"]) {
        std::process::exit(2);
    }
    let agent_binary = binary("policy-agent");
    let folder = tempfile::tempdir().expect("a folder for manifests");
    let manifests = folder.path().join("manifests");
    std::fs::create_dir(&manifests).expect("a folder");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": cluster()});
    std::fs::write(manifests.join("cluster.json"), list.to_string()).expect("writable");
    for file in ["namespaces.yaml", "policies.yaml"] {
        std::fs::write(manifests.join(file), read(file)).expect("writable");
    }

    println!("{}\n", paint("1. The shop as a cluster: three nodes and their pods, as network namespaces", "1"));
    let addresses: Vec<(&str, [IpAddr; 1])> = NODES.iter().map(|(n, a)| (*n, [a.parse().expect("an address")])).collect();
    let nodes: Vec<(&str, &[IpAddr])> = addresses.iter().map(|(name, list)| (*name, list.as_slice())).collect();
    let mut network = Network::new(&nodes, Fabric::Routed);
    let seen = view(&manifests);
    let start = |name: &str| AgentProcess::start(&agent_binary, network.node(name), &manifests, folder.path(), &[]);
    let agents: Vec<AgentProcess> = NODES.iter().map(|(name, _)| start(name)).collect();
    for (agent, (name, _)) in agents.iter().zip(NODES) {
        agent.wait_in_sync();
        let status = String::from_utf8_lossy(&agent.ask(&["status"]).stdout).into_owned();
        let table = status.lines().find(|line| line.starts_with("table:")).unwrap_or_default();
        println!("  {name}: agent in sync, {}", table.trim_start_matches("table:").trim());
    }

    println!("\n{}\n", paint("2. Connections, measured with real packets", "1"));
    let mut round = 0;
    let comparison = measure(&mut network, &seen, &mut round);
    let mut differences = show(&seen, &comparison);

    println!("{}\n", paint("3. The nightly report cannot reach the database. The log of the agent explains why:", "1"));
    let (report, db) = (seen.ends["shop/report"][0], seen.ends["shop/db"][0]);
    let server = network.at(db).expect("placed").run(move || TcpListener::bind((db, 5432)).expect("a free port"));
    let try_once = |patience: Duration| {
        let pod = network.at(report).expect("placed");
        pod.run(move || TcpStream::connect_timeout(&(db, 5432).into(), patience).is_ok())
    };
    assert!(!try_once(Duration::from_millis(300)), "the example has a mistake in it");
    let deadline = Instant::now() + Duration::from_secs(5);
    let line = loop {
        let logs: String = agents.iter().map(AgentProcess::log).collect();
        // The flood of probes took most of the samples; a connection that is tried again gets one of its own.
        let wanted = |l: &&str| {
            l.contains("source_pod=\"shop/report-0\"") && l.contains("TCP/5432") && l.contains("direction=\"ingress\"")
        };
        if let Some(line) = logs.lines().rfind(wanted) {
            break line.to_owned();
        }
        assert!(Instant::now() < deadline, "no sample was logged");
        let _ = try_once(Duration::from_millis(200));
    };
    println!("  {}\n", line.split_once("denied ").map_or(line.as_str(), |(_, rest)| rest).replace("\" ", "\"\n  "));

    println!("{}\n", paint("4. The policy is fixed live", "1"));
    let policies = read("policies.yaml");
    let mended = policies.replace("app: reports", "app: report");
    assert_ne!(policies, mended, "the example has the mistake that is mended here");
    let start = Instant::now();
    std::fs::write(manifests.join("policies.new"), mended).expect("writable");
    std::fs::rename(manifests.join("policies.new"), manifests.join("policies.yaml")).expect("the same folder");
    while !try_once(Duration::from_millis(20)) {
        assert!(start.elapsed() < Duration::from_secs(10), "the policy does not take effect");
    }
    println!("  `app: reports` → `app: report`: connected {} ms after the file changed\n", start.elapsed().as_millis());
    drop(server);
    for agent in &agents {
        agent.wait(|status| status["news_in_force"] == 2);
    }
    let seen = view(&manifests);
    let comparison = measure(&mut network, &seen, &mut round);
    differences += show(&seen, &comparison);

    println!("{}\n", paint("5. The rules for the database on its node: nft list table inet netpol", "1"));
    let node = seen.snapshot.pods.iter().find(|(key, _)| key.name == "db-0").map(|(_, pod)| pod.placement.clone());
    let Some(policy_core::model::Placement::Node(node)) = node else { panic!("the database runs somewhere") };
    let listing = network.node(&node).command("nft", &["list", "table", "inet", "netpol"]);
    let chains = listing.split("\n\n").filter(|block| block.trim_start().starts_with("chain in-shop/db"));
    for chain in chains.take(3) {
        println!("{}\n", chain.trim_end_matches("}\n}"));
    }
    if std::env::var_os("WAIT").is_some() {
        println!("The nodes stay until you press Enter. From another terminal, as root:\n");
        for (agent, (name, _)) in agents.iter().zip(NODES) {
            println!("  nsenter --net --target {} nft list table inet netpol    # {name}", agent.id());
        }
        // At the end of standard input there is nobody to wait for.
        let _ = std::io::stdin().read_line(&mut String::new());
    }
    drop(agents);
    println!("The network namespaces are removed.");
    std::process::exit(i32::from(differences > 0));
}
