//! What the network model promises, and what borders on it, on real packets: neighbour discovery, a pod and itself, errors, source
//! addresses and source routes.
//!
//! Every check is made twice: without rules, where the detector must see each packet, and with them.

#![expect(clippy::expect_used, reason = "a failing check panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use conformance::engine;
use conformance::lab::packets::{self, Payload, mark};
use conformance::lab::{self, Agents, Ears, Fabric, Namespace, Network, Packets, fixture, send};
use policy_agent::kernel::applier::{Applier, NetlinkApplier};
use policy_core::compile::{Compiler, Options};
use policy_core::manifest::Syntax;
use policy_ruleset::{DenyLog, Transaction, render};
use socket2::{Domain, Protocol, Socket, Type};

const TOOLS: [&str; 3] = ["ip", "nft", "conntrack"];
/// What is allowed comes within this time, on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// Packets of another processor may come this much later.
const REST: Duration = Duration::from_millis(50);
/// Every packet that is sent after the others has this mark, and goes to this port, which policies here allow.
const LAST: u32 = u32::MAX;
const OPEN: u16 = 9;
/// `ETH_P_ALL`.
const EVERYTHING: u16 = 3;

/// Allows the port that shows that everything has been sent, and nothing else.
const A_CLOSED: &str = "{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{protocol: UDP, port: 9}]}], egress: [{ports: [{protocol: UDP, port: 9}]}], policyTypes: [Ingress, Egress]}";
const B_FROM_C: &str = "{podSelector: {matchLabels: {pod: b}}, ingress: [{from: [{podSelector: {matchLabels: {pod: c}}}]}, {ports: [{protocol: UDP, port: 9}]}]}";

const OUTSIDE: [&str; 2] = ["203.0.113.9", "2001:db8::9"];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Sees every packet that comes to a namespace, whatever its stack does with it.
struct Tap(Socket);

impl Tap {
    fn open(namespace: &Namespace) -> Self {
        Self(namespace.run(|| {
            let protocol = Protocol::from(i32::from(EVERYTHING.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)).expect("root may listen");
            socket.set_recv_buffer_size(8 << 20).expect("any socket can");
            socket.set_nonblocking(true).expect("any socket can");
            socket
        }))
    }

    fn hear(&mut self, seen: &mut BTreeMap<u32, usize>) {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.0.read(&mut buffer) {
            if let Some(mark) = buffer.get(..length).and_then(mark) {
                *seen.entry(mark).or_default() += 1;
            }
        }
    }
}

/// The nodes and pods of the fixture.
struct Lab {
    network: Network,
    agents: Option<Agents>,
}

impl Lab {
    fn new() -> Self {
        let mut network = fixture::network(Fabric::Routed);
        network.settle(&OUTSIDE.map(|address| (ip(address), lab::Place::Outside)).into());
        Self { network, agents: None }
    }

    /// Starts the agents, and makes these the policies of namespace x.
    fn enforce(&mut self, specs: &[&str]) {
        let mut text = fixture::manifests();
        for (number, spec) in specs.iter().enumerate() {
            text += &format!(
                "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p{number}, namespace: x}}\nspec: {spec}\n"
            );
        }
        let snapshot = engine::load_text(&text, Syntax::Strict);
        assert!(!snapshot.has_errors(), "{:?}", snapshot.diagnostics);
        let agents = self.agents.get_or_insert_with(|| Agents::start(&self.network));
        agents.tell(snapshot);
        self.network.forget_connections();
    }

    fn at(&self, address: &str) -> &Namespace {
        self.network.at(ip(address)).expect("placed")
    }

    /// Sends packets from where `from` is, and returns how many of each mark come by where `to` is.
    fn crossing(&self, from: &str, to: &str, packets: Packets) -> BTreeMap<u32, usize> {
        let mut tap = Tap::open(self.at(to));
        let last = packets::packet(ip(from), 999, ip(to), Payload::Udp(OPEN), LAST);
        let last = vec![(ip(to), last)];
        let mut seen = BTreeMap::new();
        self.at(from).run(move || send(packets));
        let deadline = Instant::now() + PATIENCE;
        while !seen.contains_key(&LAST) {
            assert!(Instant::now() < deadline, "nothing at all comes from {from} to {to}");
            let last = last.clone();
            self.at(from).run(move || send(last));
            std::thread::sleep(REST);
            tap.hear(&mut seen);
        }
        std::thread::sleep(REST);
        tap.hear(&mut seen);
        seen.remove(&LAST);
        seen
    }
}

fn marks(seen: &BTreeMap<u32, usize>) -> BTreeSet<u32> {
    seen.keys().copied().collect()
}

/// C116: types, hop limits and directions. What neighbours and listeners say is never filtered, and what only looks like it is.
#[test]
fn icmpv6_of_neighbours_is_no_channel_between_isolated_pods() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut lab = Lab::new();
    let (a, b, outside) = ("fd00:244:1::1", "fd00:244:1::2", OUTSIDE[1]);
    let ways = [(a, outside), (outside, a), (a, b), (b, a)];
    let types = [130, 131, 132, 133, 134, 135, 136, 137, 143];
    let all = |from: &str, to: &str| -> Packets {
        let kinds = types.into_iter().flat_map(|kind| [1, 2, 3, 64, 254, 255].map(|hops| (kind, hops)));
        let packet = |(kind, hops): (u8, u8)| {
            (ip(to), packets::icmpv6(ip(from), ip(to), (kind, hops), u32::from(kind) << 8 | u32::from(hops)))
        };
        kinds.map(packet).collect()
    };
    for (from, to) in ways {
        let seen = marks(&lab.crossing(from, to, all(from, to)));
        // Between pods there is one router, to the outside there are two.
        let routers = if from == outside || to == outside { 2 } else { 1 };
        let expected = types.into_iter().flat_map(|kind| [1, 2, 3, 64, 254, 255].map(|hops| (kind, hops)));
        let expected =
            expected.filter(|(_, hops)| *hops > routers).map(|(kind, hops): (u8, u8)| u32::from(kind) << 8 | u32::from(hops));
        assert_eq!(seen, expected.collect(), "without rules, {from} to {to}");
    }
    lab.enforce(&[A_CLOSED]);
    for (from, to) in ways {
        assert_eq!(lab.crossing(from, to, all(from, to)), BTreeMap::new(), "{from} to {to}");
    }
    // From an isolated pod to its own node: what a neighbour may say arrives, the same with another hop limit does not.
    let node = "2001:db8:2::1";
    for (source, hops, expected) in
        [(a, 255, true), ("::", 255, true), ("fe80::a", 255, true), (a, 64, false), ("fe80::a", 64, false)]
    {
        let solicit = |hops| packets::icmpv6(ip(source), ip(node), (135, hops), u32::from(hops));
        let is_heard = is_heard_at(lab.network.node("n1"), lab.at(a), (ip(node), solicit(hops)), expected);
        assert_eq!(is_heard, expected, "{source} to {node}, hop limit {hops}");
    }
}

/// Whether a packet comes through the rules of a node to the node itself.
fn is_heard_at(node: &Namespace, from: &Namespace, packet: (IpAddr, Vec<u8>), is_expected: bool) -> bool {
    let mut ears = node.run(Ears::open);
    let deadline = Instant::now() + if is_expected { PATIENCE } else { 4 * REST };
    while Instant::now() < deadline {
        let packet = packet.clone();
        from.run(move || send(vec![packet]));
        std::thread::sleep(Duration::from_millis(10));
        if !ears.hear().is_empty() {
            return true;
        }
    }
    false
}

/// C116 where pods share a bridge: neighbour discovery passes the forward hook there, and is not counted down before.
#[test]
fn neighbours_on_one_bridge_find_each_other() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let setting = "/proc/sys/net/bridge/bridge-nf-call-ip6tables";
    if !std::path::Path::new(setting).exists() {
        println!("skipped: no br_netfilter");
        return;
    }
    let node = Namespace::new("bridged");
    let addresses = ["fd00:244:1::1", "fd00:244:1::2"];
    node.command("ip", &["link", "add", "br0", "type", "bridge"]);
    node.command("ip", &["link", "set", "br0", "up"]);
    let pods: Vec<Namespace> = addresses
        .iter()
        .enumerate()
        .map(|(number, address)| {
            let pod = Namespace::new(address);
            let (link, id) = (format!("v{number}"), pod.id().to_string());
            node.command("ip", &["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &id]);
            node.command("ip", &["link", "set", &link, "master", "br0", "up"]);
            pod.command("ip", &["address", "add", &format!("{address}/64"), "dev", "eth0", "nodad"]);
            pod.command("ip", &["link", "set", "eth0", "up"]);
            pod
        })
        .collect();
    let [one, other] = pods.as_slice() else { panic!("two pods") };
    node.run(move || std::fs::write(setting, "1").expect("root may set it"));
    let text = fixture::manifests()
        + "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec: {podSelector: {}, policyTypes: [Ingress, Egress]}\n";
    let snapshot = engine::load_text(&text, Syntax::Strict);
    let mut compiler = Compiler::new(Options { node: Some("n1".to_owned()), ..Options::default() });
    snapshot.changes().for_each(|change| compiler.apply(change));
    compiler.flush();
    let ruleset = render(&compiler.graph().node_plan(), &policy_ruleset::Options::default());
    let all = Transaction::replace(&ruleset, compiler.graph());
    let heard = |kind: (u8, u8), is_expected: bool| {
        let packet = packets::icmpv6(ip(addresses[0]), ip(addresses[1]), kind, 7);
        // The first packet makes the stack look for its neighbour, which is what this is about.
        is_heard_at(other, one, (ip(addresses[1]), packet), is_expected)
    };
    assert!(heard((135, 64), true), "without rules");
    node.run(move || {
        NetlinkApplier::open().expect("a socket").apply(&all, None).map_err(|e| e.to_string()).expect("it is taken")
    });
    for pod in [one, other] {
        pod.command("ip", &["neighbour", "flush", "dev", "eth0"]);
    }
    assert!(heard((135, 255), true), "neighbours do not find each other");
    assert!(!heard((135, 64), false), "what no neighbour says passes");
}

/// C135: only what was translated on its way is a pod and itself.
#[test]
fn what_only_claims_to_be_a_pod_and_itself_is_ordinary_traffic() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut lab = Lab::new();
    let ways = [("10.244.1.1", "10.244.1.2", OUTSIDE[0]), ("fd00:244:1::1", "fd00:244:1::2", OUTSIDE[1])];
    let spoofed = |victim: &str| -> Packets {
        let payloads = [Payload::Udp(80), Payload::Tcp { port: 80, flags: packets::SYN }, Payload::Unknown];
        let packet = |(number, payload)| {
            (ip(victim), packets::packet(ip(victim), 7, ip(victim), payload, u32::try_from(number).expect("few")))
        };
        payloads.into_iter().enumerate().map(packet).collect()
    };
    for (victim, pod, outside) in ways {
        for from in [pod, outside] {
            assert_eq!(lab.crossing(from, victim, spoofed(victim)).len(), 3, "without rules, {from} to {victim}");
        }
    }
    lab.enforce(&[A_CLOSED]);
    for (victim, pod, outside) in ways {
        for from in [pod, outside] {
            assert_eq!(lab.crossing(from, victim, spoofed(victim)), BTreeMap::new(), "{from} to {victim}");
        }
    }
    // What is translated passes, whatever policies say.
    let node = lab.network.node("n1");
    let nat = "table inet nat {\n chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.7 dnat ip to 10.244.1.1; ip6 daddr fd00:96::7 dnat ip6 to fd00:244:1::1; }\n chain post { type nat hook postrouting priority srcnat; ip saddr 10.244.1.1 ip daddr 10.244.1.1 masquerade; ip6 saddr fd00:244:1::1 ip6 daddr fd00:244:1::1 masquerade; }\n}\n";
    node.command_with("nft", &["-f", "-"], nat);
    for (pod, service) in [("10.244.1.1", "10.96.0.7:80"), ("fd00:244:1::1", "[fd00:96::7]:80")] {
        let (address, service) = (ip(pod), service.to_owned());
        let is_answered = lab.at(pod).run(move || {
            let server = UdpSocket::bind((address, 80)).expect("a free port");
            let client = UdpSocket::bind((address, 0)).expect("a free port");
            for socket in [&server, &client] {
                socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            }
            client.send_to(b"myself", service).expect("sent");
            let mut buffer = [0; 16];
            let Ok((length, back)) = server.recv_from(&mut buffer) else { return false };
            server.send_to(buffer.get(..length).unwrap_or_default(), back).is_ok() && client.recv_from(&mut buffer).is_ok()
        });
        assert!(is_answered, "{pod} does not reach itself through a Service");
    }
}

/// C115: errors about an allowed connection pass, but not as many as a stranger likes.
#[test]
fn errors_are_bounded_for_each_workload() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    const MANY: u32 = 2000;
    let mut lab = Lab::new();
    let ways = [("10.244.1.1", "10.244.1.2", OUTSIDE[0]), ("fd00:244:1::1", "fd00:244:1::2", OUTSIDE[1])];
    // The victim talks to the outside; a pod that it never talks to sends errors about that.
    let talk = |lab: &Lab, pod: &str, outside: &str| {
        let first = packets::packet(ip(pod), 4444, ip(outside), Payload::Udp(OPEN), 1);
        let packets = vec![(ip(outside), first)];
        assert_eq!(marks(&lab.crossing(pod, outside, packets)), BTreeSet::from([1]), "{pod} to {outside}");
    };
    let error = |victim: &str, from: &str, outside: &str, mark: u32| {
        let about = packets::packet(ip(victim), 4444, ip(outside), Payload::Udp(OPEN), mark);
        (ip(victim), packets::error(ip(from), ip(victim), &about))
    };
    let flood = |victim: &str, from: &str, outside: &str| (0..MANY).map(|mark| error(victim, from, outside, mark)).collect();
    for (victim, stranger, outside) in ways {
        talk(&lab, victim, outside);
        let seen = lab.crossing(stranger, victim, flood(victim, stranger, outside)).len();
        assert!(seen > MANY as usize / 2, "without rules, {seen} errors for {victim}");
    }
    // The stranger is isolated too, and for egress it has a bound of its own, so here it is left open.
    let closed_c = A_CLOSED.replace("pod: a", "pod: c");
    lab.enforce(&[A_CLOSED, &closed_c]);
    for (victim, stranger, outside) in ways {
        let third = victim.replace("::1", "::3").replace("1.1", "1.3");
        talk(&lab, victim, outside);
        talk(&lab, &third, outside);
        let start = Instant::now();
        let seen = lab.crossing(stranger, victim, flood(victim, stranger, outside)).len();
        // A hundred at once, and a hundred in each second since.
        let most = 100 + 100 * (usize::try_from(start.elapsed().as_secs()).expect("short") + 1);
        assert!(seen > 0 && seen <= most, "{seen} errors for {victim} in {:?}", start.elapsed());
        // It costs another workload none of its own.
        let one = lab.crossing(stranger, &third, vec![error(&third, stranger, outside, 77)]);
        assert_eq!(marks(&one), BTreeSet::from([77]), "an error that {third} needs");
        // About no connection: none passes.
        let about = packets::packet(ip(victim), 1, ip(outside), Payload::Udp(2), 78);
        let stray = vec![(ip(victim), packets::error(ip(stranger), ip(victim), &about))];
        assert_eq!(lab.crossing(stranger, victim, stray), BTreeMap::new());
    }
}

/// C148: what leaves a pod's interface has the pod's address, or does not pass.
#[test]
fn pods_send_from_their_own_addresses_only() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut lab = Lab::new();
    let families = [
        ("10.244.1.1", "10.244.1.2", "10.244.1.3", OUTSIDE[0], "192.0.2.1", ["10.244.1.200", "198.51.100.7", "192.0.2.1"]),
        (
            "fd00:244:1::1",
            "fd00:244:1::2",
            "fd00:244:1::3",
            OUTSIDE[1],
            "2001:db8:2::1",
            ["fd00:244:1::99", "fd00:99::7", "2001:db8:2::1"],
        ),
    ];
    let spoofed = |sources: &[&str], to: &str| -> Packets {
        let packet = |(number, source): (usize, &&str)| {
            (ip(to), packets::packet(ip(source), 7, ip(to), Payload::Udp(53), u32::try_from(number).expect("few")))
        };
        sources.iter().enumerate().map(packet).collect()
    };
    for (a, b, c, outside, _, [unused, foreign, node]) in families {
        let sources = [a, c, unused, foreign, node];
        for to in [outside, b] {
            // The node's own address is refused by routing, where the packet comes from another interface, in IPv4.
            let seen = lab.crossing(a, to, spoofed(&sources, to)).len();
            assert!(seen >= 4, "without rules, {a} to {to}: {seen}");
        }
    }
    lab.enforce(&[A_CLOSED, B_FROM_C]);
    for (a, b, c, outside, own_node, [unused, foreign, node]) in families {
        let sources = [a, c, unused, foreign, node];
        for to in [outside, b] {
            assert_eq!(lab.crossing(a, to, spoofed(&sources, to)), BTreeMap::new(), "isolated {a} to {to}");
        }
        for source in sources {
            let packet = packets::packet(ip(source), 7, ip(own_node), Payload::Udp(53), 9);
            let is_heard = is_heard_at(lab.network.node("n1"), lab.at(a), (ip(own_node), packet), false);
            assert!(!is_heard, "isolated {a} as {source} to its own node");
        }
        // A connection of another is not to be ridden on.
        let flow = |mark| vec![(ip(outside), packets::packet(ip(c), 4444, ip(outside), Payload::Udp(OPEN), mark))];
        assert_eq!(marks(&lab.crossing(c, outside, flow(1))), BTreeSet::from([1]));
        let reply = packets::packet(ip(outside), OPEN, ip(c), Payload::Udp(4444), 2);
        assert_eq!(marks(&lab.crossing(outside, c, vec![(ip(c), reply)])), BTreeSet::from([2]));
        assert_eq!(lab.crossing(a, outside, flow(3)), BTreeMap::new(), "{a} in a connection of {c}");
        // A pod without policies is checked too, and its own address passes: to others, and to its node.
        assert_eq!(marks(&lab.crossing(c, outside, spoofed(&[c, a, unused], outside))), BTreeSet::from([0]), "{c}");
        let packet = packets::packet(ip(c), 7, ip(own_node), Payload::Udp(53), 9);
        assert!(is_heard_at(lab.network.node("n1"), lab.at(c), (ip(own_node), packet), true), "{c} to its own node");
    }
    // Addresses of the link: for a pod that may send to its node whatever it wants.
    for (pod, expected) in [("fd00:244:1::1", false), ("fd00:244:1::3", true)] {
        let packet = packets::packet(ip("fe80::77"), 7, ip("2001:db8:2::1"), Payload::Udp(53), 9);
        let is_heard = is_heard_at(lab.network.node("n1"), lab.at(pod), (ip("2001:db8:2::1"), packet), expected);
        assert_eq!(is_heard, expected, "{pod} by an address of the link");
    }
    // An interface that gets another name is known by it.
    let node = lab.network.node("n1");
    node.command("ip", &["link", "set", "p0af40101", "name", "renamed"]);
    let deadline = Instant::now() + PATIENCE;
    while !node.command("nft", &["list", "set", "inet", "netpol", "pod-interfaces"]).contains("renamed") {
        assert!(Instant::now() < deadline, "the new name is not known");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (a, outside) = ("10.244.1.1", OUTSIDE[0]);
    assert_eq!(lab.crossing(a, outside, spoofed(&["10.244.1.3", "198.51.100.7"], outside)), BTreeMap::new());
    // One that leads to more than the pod is not the pod's alone.
    node.command("ip", &["route", "add", "198.51.100.0/24", "dev", "renamed"]);
    let deadline = Instant::now() + PATIENCE;
    while node.command("nft", &["list", "set", "inet", "netpol", "pod-interfaces"]).contains("renamed") {
        assert!(Instant::now() < deadline, "an interface that leads elsewhere is still taken for a pod's");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A packet that says by itself which way it takes is not let through to an isolated pod, whatever it says.
#[test]
fn source_routes_do_not_lead_around_isolation() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut lab = Lab::new();
    for name in ["all", "eth0"] {
        let path = format!("/proc/sys/net/ipv4/conf/{name}/accept_source_route");
        lab.network.node("n1").run(move || std::fs::write(path, "1").expect("root may set it"));
    }
    // From another node: to this node, and on to the pod.
    let routed = |mark| vec![(ip("192.0.2.1"), packets::source_routed(ip("192.0.2.2"), ip("192.0.2.1"), ip("10.244.1.1"), mark))];
    let header = |mark| {
        vec![(ip("fd00:244:1::1"), packets::source_routed(ip(OUTSIDE[1]), ip("fd00:244:1::1"), ip("fd00:244:1::1"), mark))]
    };
    assert_eq!(marks(&lab.crossing("192.0.2.2", "10.244.1.1", routed(1))), BTreeSet::from([1]), "without rules");
    assert_eq!(marks(&lab.crossing(OUTSIDE[1], "fd00:244:1::1", header(2))), BTreeSet::from([2]), "without rules");
    // Everything else is allowed to it.
    lab.enforce(&["{podSelector: {matchLabels: {pod: a}}, ingress: [{}]}"]);
    assert_eq!(lab.crossing("192.0.2.2", "10.244.1.1", routed(3)), BTreeMap::new());
    assert_eq!(lab.crossing(OUTSIDE[1], "fd00:244:1::1", header(4)), BTreeMap::new());
    let plain = packets::packet(ip("192.0.2.2"), 7, ip("10.244.1.1"), Payload::Unknown, 5);
    assert_eq!(marks(&lab.crossing("192.0.2.2", "10.244.1.1", vec![(ip("10.244.1.1"), plain)])), BTreeSet::from([5]));
}

/// The rules of sources are the same through both ways into the kernel.
#[test]
fn sources_are_written_as_nft_writes_them() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    use policy_agent::kernel::applier::NftApplier;
    use policy_core::plan::InterfaceName;
    let snapshot = engine::load_text(
        &(fixture::manifests()
            + "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress, Egress]}\n"),
        Syntax::Strict,
    );
    let mut compiler = Compiler::new(Options { node: Some("n1".to_owned()), ..Options::default() });
    snapshot.changes().for_each(|change| compiler.apply(change));
    compiler.flush();
    let mut plan = compiler.graph().node_plan();
    let options = policy_ruleset::Options { deny_log: Some(DenyLog::DEFAULT), ..policy_ruleset::Options::default() };
    let without = render(&plan, &options);
    for (number, pod) in plan.pods.clone().into_iter().enumerate() {
        plan.interfaces.insert(InterfaceName::new(&format!("v{number}@x-_.+")).expect("a name"), pod);
    }
    let with = render(&plan, &options);
    let graph = compiler.graph();
    let steps = [
        Transaction::replace(&without, graph),
        Transaction::update(&without, &with, &policy_core::compile::GraphDelta::default(), graph),
        Transaction::update(&with, &without, &policy_core::compile::GraphDelta::default(), graph),
        Transaction::update(&without, &with, &policy_core::compile::GraphDelta::default(), graph),
    ];
    let namespaces = [Namespace::new("netlink"), Namespace::new("nft")];
    for step in steps {
        let (one, other) = (step.clone(), step);
        namespaces[0]
            .run(move || NetlinkApplier::open().expect("a socket").apply(&one, None).map_err(|e| e.to_string()).expect("taken"));
        namespaces[1].run(move || NftApplier.apply(&other, None).map_err(|e| e.to_string()).expect("taken"));
        let [netlink, nft] = [0, 1].map(|n: usize| namespaces[n].command("nft", &["list", "table", "inet", "netpol"]));
        assert_eq!(netlink, nft);
    }
    let listed = namespaces[1].command("nft", &["list", "table", "inet", "netpol"]);
    for rule in [
        "iifname @pod-interfaces jump sources",
        "iifname . ip6 saddr @pod-sources6 return",
        "ip hdrlength != 5 jump source-routes",
        "ip option lsrr exists",
        "exthdr rt exists jump source-routes",
        "ct status dnat accept",
        "ip6 hoplimit 255 accept",
        "ip6 hoplimit 1 ip6 daddr ff00::/8 accept",
        "ip6 saddr fe80::/64 udp dport 547 accept",
        "limit rate 100/second burst 100 packets return",
    ] {
        assert!(listed.contains(rule), "no `{rule}` in\n{listed}");
    }
    namespaces[1].command_with("nft", &["-f", "-"], &with.filled(graph).to_text());
    let loaded = namespaces[1].command("nft", &["list", "table", "inet", "netpol"]);
    let blocks = |text: &str| -> BTreeSet<String> {
        text.split("\n\n").map(|b| b.trim_matches(['{', '}', '\n', '\t', ' ']).replace("table inet netpol {\n\t", "")).collect()
    };
    assert_eq!(blocks(&loaded), blocks(&listed), "what is printed for people loads as the same");
}
