//! The dataplane rows of the design, on a real kernel in network namespaces. Prints Markdown tables.
//!
//! Figures are ratios within one run wherever possible: what is compared runs in turns, and medians are taken, because the
//! machine may be shared.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a measurement that fails says where")]

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use conformance::engine;
use conformance::lab::packets::{Payload, packet};
use conformance::lab::{self, AgentProcess, Agents, Fabric, Namespace, Network, Packets, Place, binary, send};
use conformance::measure::{Ratios, median, percentile, spread};
use policy_agent::enforcer::Enforcer;
use policy_agent::kernel::RealKernel;
use policy_agent::kernel::applier::{Applier, NetlinkApplier, NftApplier};
use policy_agent::kernel::monitor::Monitor;
use policy_agent::kernel::reader::Reader;
use policy_core::compile;
use policy_core::manifest::Syntax;
use policy_core::model::{
    Addresses, Change, Labels, Namespace as KubeNamespace, NamespaceScope, ObjectKey, Operator, Peer, Peers, Phase, Placement,
    Pod, Policy, PortEntry, Ports, Requirement, Rule, Selector,
};
use policy_core::sets::{Family, Transport};
use policy_ruleset::{DenyLog, Element, Op, Options, SetKind, Transaction, render};

const SERVER: &str = "10.244.1.1";
const CLIENT: &str = "10.244.1.2";
const NODE: &str = "n1";
/// How long one measurement takes.
const SPAN: Duration = Duration::from_millis(400);
/// How often other times are measured.
const TURNS: usize = 5;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn selector(key: &str, value: &str) -> Selector {
    Selector::new([Requirement { key: key.to_owned(), operator: Operator::In([value.to_owned()].into()) }])
}

fn pod(name: &str, app: &str, node: &str, address: IpAddr) -> Change {
    Change::Pod(Pod {
        uid: None,
        key: ObjectKey::new("x", name),
        labels: labels(&[("app", app)]),
        placement: Placement::Node(node.to_owned()),
        phase: Phase::Live,
        is_host_network: false,
        addresses: Addresses::Known(vec![address]),
        ports: Vec::new(),
        sidecar_ports: Vec::new(),
        owner: None,
        is_unknown: false,
    })
}

/// A policy on `app=server` that lets `app=<peer>` in on one TCP port.
fn policy(name: &str, peer: &str, port: u16) -> Change {
    let peers = Peers::Listed(vec![Peer::Pods { namespaces: NamespaceScope::Own, pods: selector("app", peer) }]);
    let ports = Ports::Listed(vec![PortEntry::Range { protocol: Transport::Tcp, low: port, high: port }]);
    Change::Policy(Policy {
        key: ObjectKey::new("x", name),
        origin: None,
        target: selector("app", "server"),
        ingress: Some(vec![Rule { line: 0, peers, ports }]),
        egress: None,
    })
}

fn namespace() -> Change {
    Change::Namespace(KubeNamespace { name: "x".to_owned(), labels: labels(&[("kubernetes.io/metadata.name", "x")]) })
}

/// The ruleset for a server with so many policies; one of them lets the client in.
fn with_policies(count: usize) -> Transaction {
    let mut compiler = compile::Compiler::new(compile::Options { node: Some(NODE.to_owned()), ..compile::Options::default() });
    compiler.apply(namespace());
    compiler.apply(pod("server", "server", NODE, ip(SERVER)));
    compiler.apply(pod("client", "client", NODE, ip(CLIENT)));
    for i in 0..count {
        let port = 1000 + u16::try_from(i % 60_000).unwrap_or(0);
        compiler.apply(if i + 1 == count {
            policy("last", "client", 80)
        } else {
            policy(&format!("p{i}"), &format!("peer{i}"), port)
        });
    }
    compiler.flush();
    let options = Options { deny_log: Some(DenyLog::DEFAULT), ..Options::default() };
    Transaction::replace(&render(&compiler.graph().node_plan(), &options), compiler.graph())
}

/// The usual layout: the pod's chain jumps to a chain for each policy, in turn.
fn chain_per_policy(count: usize) -> String {
    let mut text = String::from("table inet usual\ndelete table inet usual\ntable inet usual {\n");
    for i in 0..count {
        let address = if i + 1 == count { ip(CLIENT) } else { IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + i as u32)) };
        let port = if i + 1 == count { 80 } else { 1000 + i % 60_000 };
        text += &format!(
            "set s{i} {{\ntype ipv4_addr\nelements = {{ {address} }}\n}}\nchain p{i} {{\nip saddr @s{i} tcp dport {port} accept\n}}\n"
        );
    }
    text += "chain pod {\n";
    for i in 0..count {
        text += &format!("jump p{i};\n");
    }
    text += "drop\n}\n";
    text + &format!(
        "chain forward {{ type filter hook forward priority filter; ct state established,related accept; ip daddr vmap {{ {SERVER} : jump pod }}\n}}\n}}\n"
    )
}

const CONNTRACK_ALONE: &str = "table inet usual\ndelete table inet usual\ntable inet usual { chain forward { type filter hook forward priority filter; ct state established,related accept; }\n}\n";

/// New TCP connections a second from client to server.
fn connections(network: &Network) -> f64 {
    let to: SocketAddr = (ip(SERVER), 80).into();
    network.at(ip(CLIENT)).expect("placed").run(move || {
        let start = Instant::now();
        let mut count = 0.0;
        while start.elapsed() < SPAN {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
            // A reset at the end, so that ports do not run out.
            socket.set_linger(Some(Duration::ZERO)).expect("a socket");
            socket.connect_timeout(&to.into(), Duration::from_secs(2)).expect("allowed");
            count += 1.0;
        }
        count / start.elapsed().as_secs_f64()
    })
}

/// Datagrams a second to a port that nobody may reach; with nothing in force, to one where nobody listens.
fn datagrams(network: &Network) -> f64 {
    let (from, to) = (ip(CLIENT), ip(SERVER));
    let packets: Packets = (0..2000u16).map(|i| (to, packet(from, 2000 + i, to, Payload::Udp(9), 0))).collect();
    network.at(from).expect("placed").run(move || {
        let start = Instant::now();
        let mut count = 0.0;
        while start.elapsed() < SPAN {
            send(packets.clone());
            count += packets.len() as f64;
        }
        count / start.elapsed().as_secs_f64()
    })
}

/// New connections and denied packets a second.
type Rates = [f64; 2];

/// Client and server on a node that forgets connections soon after they end: a table that is full of them is slow, and would be
/// what is measured.
struct Path {
    network: Network,
}

impl Path {
    fn new() -> Self {
        let nodes = [(NODE, [ip("192.0.2.1")])];
        let nodes: Vec<(&str, &[IpAddr])> = nodes.iter().map(|(n, l)| (*n, l.as_slice())).collect();
        let mut network = Network::new(&nodes, Fabric::Routed);
        let on_node = |address| (ip(address), Place::Pod(NODE.to_owned()));
        network.settle(&BTreeMap::from([on_node(SERVER), on_node(CLIENT)]));
        let listener = network.at(ip(SERVER)).expect("placed").run(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
            socket.bind(&SocketAddr::from((ip(SERVER), 80)).into()).expect("a free port");
            // A server that was not scheduled for a moment must not make clients wait a second until they ask again.
            socket.listen(4096).expect("it is bound");
            TcpListener::from(socket)
        });
        std::thread::spawn(move || listener.incoming().for_each(drop));
        network.node(NODE).run(|| {
            for state in ["close", "close_wait", "fin_wait", "last_ack", "time_wait"] {
                let path = format!("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_{state}");
                std::fs::write(path, "1").expect("root may say how soon connections are forgotten");
            }
        });
        Self { network }
    }

    /// Puts a ruleset in force, and measures.
    fn rates(&self, ruleset: impl FnOnce(&Namespace)) -> Rates {
        let node = self.network.node(NODE);
        node.command("nft", &["flush", "ruleset"]);
        ruleset(node);
        self.network.forget_connections();
        // The kernel frees what has gone afterwards, on the cores that are measured.
        std::thread::sleep(Duration::from_secs(1));
        let connections = connections(&self.network);
        self.network.forget_connections();
        let packets = datagrams(&self.network);
        self.network.forget_connections();
        [connections, packets]
    }

    fn alone(&self) -> Rates {
        self.rates(|node| drop(node.command_with("nft", &["-f", "-"], CONNTRACK_ALONE)))
    }

    fn ours(&self, count: usize) -> Rates {
        let transaction = with_policies(count);
        self.rates(|node| node.run(move || NetlinkApplier::open().expect("netlink").apply(&transaction, None).expect("applied")))
    }

    fn usual(&self, count: usize) -> Rates {
        self.rates(|node| drop(node.command_with("nft", &["-f", "-"], &chain_per_policy(count))))
    }
}

/// Measures the layouts in turns, each between two measurements of the base, until there is enough to compare.
fn row(path: &Path, count: usize, bases: &mut Vec<Rates>) -> [String; 4] {
    // Ten thousand chains in turn take nft half a minute, and a packet a millisecond.
    let layouts: &[fn(&Path, usize) -> Rates] = if count <= 1000 { &[Path::ours, Path::usual] } else { &[Path::ours] };
    let mut ratios: [[Ratios; 2]; 2] = Default::default();
    let is_done = |ratios: &[Ratios; 2]| ratios.iter().all(Ratios::is_done);
    let mut before = path.alone();
    while !layouts.iter().zip(&ratios).all(|(_, ratios)| is_done(ratios)) {
        for (layout, ratios) in layouts.iter().zip(&mut ratios) {
            if is_done(ratios) {
                continue;
            }
            let rates = layout(path, count);
            let after = path.alone();
            for (kind, ratio) in ratios.iter_mut().enumerate() {
                ratio.take(before[kind], rates[kind], after[kind]);
            }
            bases.push(after);
            before = after;
        }
    }
    let cell =
        |layout: usize, kind: usize| if layout < layouts.len() { ratios[layout][kind].to_string() } else { "–".to_owned() };
    [cell(0, 0), cell(1, 0), cell(0, 1), cell(1, 1)]
}

fn forwarding() {
    let path = Path::new();
    let sizes = std::env::var("NETPOL_POLICIES").unwrap_or_else(|_| "1,10,100,1000,10000".to_owned());
    let mut bases = Vec::new();
    println!("| policies on the pod | netpol: new connections | chain per policy | netpol: denied packets | chain per policy |");
    println!("|---|---|---|---|---|");
    for count in sizes.split(',').map(|size| size.parse().expect("`NETPOL_POLICIES` are numbers")) {
        let [connections, usual_connections, packets, usual_packets] = row(&path, count, &mut bases);
        println!("| {count} | {connections} | {usual_connections} | {packets} | {usual_packets} |");
    }
    let base = |kind: usize| {
        let values: Vec<f64> = bases.iter().map(|rates| rates[kind]).collect();
        let (least, greatest) = spread(&values);
        format!("{:.0} ({least:.0}–{greatest:.0})", median(&values))
    };
    println!(
        "\nMedian (least–greatest). 1.00 is conntrack alone before and after, in the same run: {} connections and {} packets a",
        base(0),
        base(1)
    );
    println!("second. A turn in which it moved by more than a tenth is made again; *not stable*: it hardly ever held still.\n");
}

fn address(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + u32::try_from(number).expect("few pods")))
}

/// An enforcer with so many remote peers of one local pod, and 110 local pods besides.
fn enforcer(peers: usize) -> Enforcer {
    let monitor = Monitor::start(|_| {}).expect("root may listen");
    let kernel = RealKernel::new(Reader::open().expect("netlink"), monitor);
    let applier = NetlinkApplier::open().expect("netlink");
    let scope = compile::Options { node: Some(NODE.to_owned()), ..compile::Options::default() };
    let options = Options { deny_log: Some(DenyLog::DEFAULT), ..Options::default() };
    let mut enforcer = Enforcer::new(scope, options, Box::new(applier), Box::new(kernel));
    let mut changes = vec![namespace(), policy("p", "peer", 80)];
    changes.extend((0..110).map(|i| pod(&format!("s{i}"), "server", NODE, IpAddr::V4(Ipv4Addr::new(10, 244, 1, i)))));
    changes.extend((0..peers).map(|i| pod(&format!("r{i}"), "peer", "n2", address(i))));
    enforcer.take(changes);
    enforcer
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn latency() {
    println!(
        "| remote pods | initial load | resync | one pod added: p50 | p99 | bare netlink transaction: p50 | with `nft`: p50 |"
    );
    println!("|---|---|---|---|---|---|---|");
    for peers in [1_000, 10_000, 100_000] {
        let node = Namespace::new(NODE);
        let row = node.run(move || {
            let mut enforcer = enforcer(peers);
            let start = Instant::now();
            enforcer.flush().expect("applied");
            let load = start.elapsed();
            enforcer.invalidate();
            let start = Instant::now();
            enforcer.flush().expect("applied");
            let resync = start.elapsed();

            let set = enforcer.ruleset().sets.keys().find(|name| name.starts_with("p-")).expect("a set of peers").clone();
            let element = |i: usize, is_new: bool| {
                let elements = vec![Element::Address(IpAddr::V4(Ipv4Addr::from_bits(0x0c00_0000 + i as u32)))];
                let (set, kind) = (set.clone(), SetKind::Addresses(Family::V4));
                let op =
                    if is_new { Op::AddElements { set, kind, elements } } else { Op::DeleteElements { set, kind, elements } };
                Transaction { ops: vec![op] }
            };
            let (mut ours, mut bare, mut nft) = (Vec::new(), Vec::new(), Vec::new());
            let mut applier = NetlinkApplier::open().expect("netlink");
            for i in 0..1000 {
                let change = pod(&format!("new{i}"), "peer", "n2", address(peers + i));
                let start = Instant::now();
                enforcer.take(vec![change]);
                let done = enforcer.flush().expect("applied").expect("one element");
                ours.push(micros(start.elapsed()));
                assert_eq!(done.elements, 1);
            }
            for i in 0..1000 {
                let transaction = element(i, true);
                let start = Instant::now();
                applier.apply(&transaction, None).expect("applied");
                bare.push(micros(start.elapsed()));
            }
            for i in 0..9 {
                let transaction = element(i, false);
                let start = Instant::now();
                NftApplier.apply(&transaction, None).expect("applied");
                nft.push(micros(start.elapsed()));
            }
            let p50 = percentile(&ours, 0.5);
            let p99 = percentile(&ours, 0.99);
            (load, resync, p50, p99, median(&bare), median(&nft))
        });
        let (load, resync, p50, p99, bare, nft) = row;
        println!(
            "| {peers} | {:.0} ms | {:.0} ms | {p50:.0} µs | {p99:.0} µs | {bare:.0} µs ({:.1} ×) | {:.1} ms ({:.0} ×) |",
            micros(load) / 1e3,
            micros(resync) / 1e3,
            p50 / bare,
            nft / 1e3,
            nft / p50
        );
    }
    println!();
}

/// Access is taken away from a connection that receives something every millisecond: when does the last byte come?
fn cutting() -> Vec<f64> {
    let nodes = [(NODE, [ip("192.0.2.1")])];
    let nodes: Vec<(&str, &[IpAddr])> = nodes.iter().map(|(n, l)| (*n, l.as_slice())).collect();
    let mut network = Network::new(&nodes, Fabric::Routed);
    let on_node = |address| (ip(address), Place::Pod(NODE.to_owned()));
    network.settle(&BTreeMap::from([on_node(SERVER), on_node(CLIENT)]));
    let mut agents = Agents::start(&network);
    let pods = format!(
        r#"{{"apiVersion":"v1","kind":"List","items":[{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"x"}}}},{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"server","namespace":"x","labels":{{"app":"server"}}}},"spec":{{"nodeName":"{NODE}","containers":[]}},"status":{{"podIP":"{SERVER}","phase":"Running"}}}}]}}"#
    );
    let deny = r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"deny","namespace":"x"},"spec":{"podSelector":{}}}"#;
    let listener = network.at(ip(SERVER)).expect("placed").run(|| TcpListener::bind((ip(SERVER), 80)).expect("a free port"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                while std::io::Write::write_all(&mut stream, b".").is_ok() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
    });
    let mut times = Vec::new();
    for _ in 0..TURNS {
        agents.tell(engine::load_text(&pods, Syntax::Strict));
        let mut stream = network
            .at(ip(CLIENT))
            .expect("placed")
            .run(|| TcpStream::connect((ip(SERVER), 80)).expect("no policy is against it"));
        stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a stream");
        let last = Arc::new(AtomicU64::new(0));
        let (seen, is_over) = (last.clone(), Arc::new(AtomicBool::new(false)));
        let zero = Instant::now();
        let over = is_over.clone();
        let reader = std::thread::spawn(move || {
            while stream.read(&mut [0; 64]).is_ok_and(|n| n > 0) && !over.load(Ordering::Relaxed) {
                seen.store(u64::try_from(zero.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        std::thread::sleep(Duration::from_millis(50));
        let start = zero.elapsed();
        agents.tell(engine::load_text(&format!("{pods}\n{deny}"), Syntax::Strict));
        reader.join().expect("it ends");
        is_over.store(true, Ordering::Relaxed);
        times.push(last.load(Ordering::Relaxed) as f64 / 1e3 - start.as_secs_f64() * 1e3);
    }
    times
}

/// The table is deleted by somebody else: when is it back?
fn repairing() -> Vec<f64> {
    let node = Namespace::new(NODE);
    let folder = tempfile::tempdir().expect("a folder");
    let text = r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"deny","namespace":"x"},"spec":{"podSelector":{}}}"#;
    std::fs::create_dir(folder.path().join("m")).expect("a folder");
    std::fs::write(folder.path().join("m/p.json"), text).expect("writable");
    let agent_binary = binary("policy-agent");
    let agent = AgentProcess::start(&agent_binary, &node, &folder.path().join("m"), folder.path(), &["--protect-table", "off"]);
    agent.wait_in_sync();
    let mut times = Vec::new();
    for _ in 0..TURNS {
        times.push(node.run(|| {
            let mut reader = Reader::open().expect("netlink");
            // The table is there again within microseconds; its generation tells when.
            let before = reader.generation().expect("netlink");
            let start = Instant::now();
            NetlinkApplier::open().expect("netlink").apply(&Transaction::remove(), None).expect("deleted");
            while reader.generation().expect("netlink") < before + 2 || !reader.is_present().expect("netlink") {
                std::thread::yield_now();
            }
            micros(start.elapsed()) / 1e3
        }));
    }
    times
}

/// The resident memory of an agent with so many pods and policies, in MB.
fn memory(count: usize) -> (f64, f64) {
    let node = Namespace::new(NODE);
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("m")).expect("a folder");
    let mut items = Vec::new();
    for i in 0..count {
        let namespace = format!("ns{}", i % (count / 30));
        let app = format!("app{}", i % 300);
        let on = if i < 110 { NODE.to_owned() } else { format!("n{}", 2 + i % 300) };
        items.push(serde_json::json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("p{i}"), "namespace": namespace, "labels": {"app": app, "pod-template-hash": format!("h{}", i % 300)}},
            "spec": {"nodeName": on, "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIP": address(i).to_string()}}));
        items.push(serde_json::json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": format!("np{i}"), "namespace": namespace},
            "spec": {"podSelector": {"matchLabels": {"app": app}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": format!("app{}", (i + 1) % 300)}}},
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": format!("ns{}", (i + 7) % (count / 30))}}}], "ports": [{"port": 8080}]}]}}));
    }
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
    std::fs::write(folder.path().join("m/all.json"), list.to_string()).expect("writable");
    let agent_binary = binary("policy-agent");
    let start = Instant::now();
    let agent = AgentProcess::start(&agent_binary, &node, &folder.path().join("m"), folder.path(), &[]);
    agent.wait_in_sync();
    let ready = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.id())).expect("it runs");
    let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok());
    (resident.unwrap_or(f64::NAN) / 1024.0, ready)
}

/// A median with the least and the greatest.
fn millis(times: &[f64]) -> String {
    let (least, greatest) = spread(times);
    format!("{:.1} ms ({least:.1}–{greatest:.1})", median(times))
}

fn others() {
    println!("| what | time |\n|---|---|");
    println!("| access revoked → last byte of the established connection | {} |", millis(&cutting()));
    println!("| table deleted by somebody else → back | {} |", millis(&repairing()));
    let (resident, ready) = memory(30_000);
    println!("| 30,000 pods and 30,000 policies from manifests: start → in force | {ready:.1} s, {resident:.0} MB resident |");
}

/// Names of sections as arguments leave out the others.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo runs benches in tests, too, and asks them for lists.
    if !arguments.iter().any(|argument| argument == "--bench") || !lab::is_available(&["ip", "bridge", "nft", "conntrack"]) {
        return;
    }
    let is_wanted =
        |name: &str| arguments.iter().all(|argument| argument.starts_with("--")) || arguments.iter().any(|a| a == name);
    let sections: [(&str, &str, fn()); 3] =
        [("forwarding", "Forwarding", forwarding), ("changes", "Changes", latency), ("others", "Other times", others)];
    for (_, title, measure) in sections.iter().filter(|(name, ..)| is_wanted(name)) {
        println!("## {title}\n");
        measure();
    }
}
