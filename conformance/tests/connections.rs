//! What only connections can prove: replies, errors, Services, and what becomes of a connection when policies change.

#![expect(clippy::expect_used, clippy::panic, reason = "a failing check panics")]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use conformance::engine;
use conformance::lab::packets::{self, Payload};
use conformance::lab::{self, Agents, Ears, Fabric, Namespace, Network, Probe, arrived, fixture, send};
use policy_core::compile::{Compiler, Options};
use policy_core::manifest::Syntax;
use policy_core::model::{Change, Quarantine};
use policy_core::sets::{Protocol, Transport};
use policy_core::verdict::Flow;

const TOOLS: [&str; 3] = ["ip", "nft", "conntrack"];
/// What is allowed comes within this time, on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is denied has not come after this time.
const SILENCE: Duration = Duration::from_millis(300);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The nodes and pods of the fixture, with an agent on each node.
struct Cluster {
    network: Network,
    agents: Agents,
    fixture: String,
}

impl Cluster {
    fn new() -> Self {
        let (network, fixture) = (fixture::network(Fabric::Routed), fixture::manifests());
        let agents = Agents::start(&network);
        Self { network, agents, fixture }
    }

    /// Makes these the policies of the cluster; each is the `spec` of one in namespace x, or in the namespace before `|`.
    fn policies(&mut self, specs: &[&str]) {
        let mut text = self.fixture.clone();
        for (number, spec) in specs.iter().enumerate() {
            let (namespace, spec) = spec.split_once('|').unwrap_or(("x", spec));
            text += &format!(
                "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p{number}, namespace: '{namespace}'}}\nspec: {spec}\n"
            );
        }
        let snapshot = engine::load_text(&text, Syntax::Strict);
        assert!(!snapshot.has_errors(), "{:?}", snapshot.diagnostics);
        self.agents.tell(snapshot);
    }

    fn at(&self, address: &str) -> &Namespace {
        self.network.at(ip(address)).expect("placed")
    }

    fn connect(&self, from: &str, to: &str) -> std::io::Result<TcpStream> {
        let to: SocketAddr = to.parse().expect("an address and a port");
        self.at(from).run(move || TcpStream::connect_timeout(&to, PATIENCE))
    }

    /// Whether a connection can be opened. A denial is silent: the client just waits (S3.14).
    fn can_connect(&self, from: &str, to: &str) -> bool {
        let to: SocketAddr = to.parse().expect("an address and a port");
        match self.at(from).run(move || TcpStream::connect_timeout(&to, SILENCE)) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::TimedOut => false,
            Err(error) => panic!("{from} -> {to}: {error}, which is not silent"),
        }
    }

    fn metric(&self, node: &str, name: &str) -> f64 {
        let text = self.agents.metrics(node).text().expect("valid metrics");
        let line = text.lines().find(|l| l.starts_with(&format!("{name} ")) || l.starts_with(&format!("{name}{{")));
        line.and_then(|l| l.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{name} is not measured"))
    }
}

/// Echoes what comes to a port.
fn serve(namespace: &Namespace, address: &str) {
    let address: SocketAddr = address.parse().expect("an address and a port");
    let listener = namespace.run(move || TcpListener::bind(address).expect("a free port"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = stream.try_clone().expect("a stream");
                let mut writer = stream;
                let mut buffer = [0; 256];
                while let Ok(length) = reader.read(&mut buffer) {
                    if length == 0 || writer.write_all(buffer.get(..length).unwrap_or_default()).is_err() {
                        break;
                    }
                }
            });
        }
    });
}

/// Sends something every few milliseconds to whoever connects.
fn tick(namespace: &Namespace, address: &str) {
    let address: SocketAddr = address.parse().expect("an address and a port");
    let listener = namespace.run(move || TcpListener::bind(address).expect("a free port"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                while stream.write_all(b"tick").is_ok() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
    });
}

/// Whether what is sent is echoed.
fn is_alive(stream: &mut TcpStream, patience: Duration) -> bool {
    let mut buffer = [0; 16];
    stream.set_read_timeout(Some(patience)).expect("a stream");
    stream.write_all(b"still there?").is_ok() && stream.read_exact(buffer.get_mut(..12).unwrap_or_default()).is_ok()
}

/// Bytes that come until nothing comes for a while.
fn drain(stream: &mut TcpStream, patience: Duration) -> usize {
    stream.set_read_timeout(Some(patience)).expect("a stream");
    let mut buffer = [0; 4096];
    let mut total = 0;
    let end = Instant::now() + 4 * patience;
    while Instant::now() < end {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => total += length,
        }
    }
    total
}

const A_FROM_B: &str = "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}, podSelector: {matchLabels: {pod: b}}}]}]}";
const A_FROM_Y: &str =
    "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}";
const A_CLOSED: &str = "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress, Egress]}";
const A_NO_EGRESS: &str = "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress]}";

/// C130, C150, C151, C161.
#[test]
fn replies_pass_and_denials_are_silent() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::new();
    for address in ["10.244.1.1:80", "[fd00:244:1::1]:80", "10.244.2.1:80"] {
        let place: SocketAddr = address.parse().expect("an address");
        serve(cluster.at(&place.ip().to_string()), address);
    }
    cluster.policies(&[A_NO_EGRESS]);
    for (from, to) in [("10.244.2.1", "10.244.1.1:80"), ("fd00:244:2::1", "[fd00:244:1::1]:80")] {
        let mut stream = cluster.connect(from, to).expect("no policy is against it");
        assert!(is_alive(&mut stream, PATIENCE), "replies of {to} do not come to {from}");
    }
    assert!(!cluster.can_connect("10.244.1.1", "10.244.2.1:80"), "an allowed direction allows the other");

    // The own node reaches the pod whatever policies say, and its connection is not cut when they change.
    cluster.policies(&[]);
    tick(cluster.at("10.244.1.1"), "10.244.1.1:81");
    tick(cluster.at("fd00:244:1::1"), "[fd00:244:1::1]:81");
    let mut own = cluster.connect("192.0.2.1", "10.244.1.1:81").expect("no policy");
    // From an address that the Node object does not list, too: what counts is where it starts.
    let mut unlisted = cluster.connect("192.0.2.1", "[fd00:244:1::1]:81").expect("no policy");
    let source = unlisted.local_addr().expect("an address").ip();
    assert!(!cluster.fixture.contains(&source.to_string()), "{source} is listed");
    let mut other = cluster.connect("192.0.2.2", "10.244.1.1:80").expect("no policy");
    cluster.policies(&[A_CLOSED]);
    std::thread::sleep(2 * SILENCE);
    for stream in [&mut own, &mut unlisted] {
        // What was on its way has come; what comes from now on was sent after the second look.
        let _ = drain(stream, Duration::from_millis(20));
        assert!(drain(stream, SILENCE) > 0, "the own node is cut off");
    }
    assert!(cluster.can_connect("192.0.2.1", "10.244.1.1:80"), "the own node is kept out");
    assert!(!is_alive(&mut other, SILENCE), "another node's connection goes on");
    assert!(!cluster.can_connect("192.0.2.2", "10.244.1.1:80"), "another node is let in");
}

/// C152, C153, C154.
#[test]
fn connections_that_lose_their_verdict_are_cut() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::new();
    serve(cluster.at("10.244.1.1"), "10.244.1.1:80");
    tick(cluster.at("10.244.1.1"), "10.244.1.1:81");
    cluster.policies(&[A_FROM_Y]);
    let mut lost = cluster.connect("10.244.2.1", "10.244.1.1:80").expect("allowed");
    let mut kept = cluster.connect("10.244.2.2", "10.244.1.1:80").expect("allowed");
    let mut ticks = cluster.connect("10.244.2.1", "10.244.1.1:81").expect("allowed");
    assert!(is_alive(&mut lost, PATIENCE) && is_alive(&mut kept, PATIENCE) && drain(&mut ticks, SILENCE) > 0);

    cluster.policies(&[A_FROM_B]);
    let deadline = Instant::now() + PATIENCE;
    while cluster.metric("n1", "netpol_connections_cut_total") < 2.0 {
        assert!(Instant::now() < deadline, "nothing is cut");
        std::thread::sleep(Duration::from_millis(5));
    }
    // What was on its way has come; x/a goes on sending, and may open connections to y/a, but this one does not come back.
    let _ = drain(&mut ticks, SILENCE);
    assert_eq!(drain(&mut ticks, SILENCE), 0, "a cut connection came back as the opposite direction");
    assert!(!is_alive(&mut lost, SILENCE), "a connection goes on that is not allowed any more");
    assert!(is_alive(&mut kept, PATIENCE), "a connection that is still allowed was cut");
    // Nor do its segments when they are sent again, after the second look.
    std::thread::sleep(2 * SILENCE);
    assert!(!is_alive(&mut lost, SILENCE), "a cut connection came back");
    let cut = cluster.metric("n1", "netpol_connections_cut_total");
    assert!((cut - 2.0).abs() < 0.5, "{cut} connections were cut");
}

/// A peer that goes takes its connections along: its address left a set, and nothing else changed.
#[test]
fn a_peer_that_leaves_a_set_is_cut() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::new();
    serve(cluster.at("10.244.1.1"), "10.244.1.1:80");
    cluster.policies(&[A_FROM_Y]);
    let mut lost = cluster.connect("10.244.2.1", "10.244.1.1:80").expect("allowed");
    let mut kept = cluster.connect("10.244.2.2", "10.244.1.1:80").expect("allowed");
    assert!(is_alive(&mut lost, PATIENCE) && is_alive(&mut kept, PATIENCE));
    // The look at all connections that follows a start is over.
    std::thread::sleep(2 * SILENCE);
    let moved = cluster.fixture.replace("  name: a\n  namespace: 'y'", "  name: a\n  namespace: z-elsewhere");
    assert_ne!(moved, cluster.fixture, "the fixture has y/a");
    cluster.fixture = moved;
    cluster.policies(&[A_FROM_Y]);
    let deadline = Instant::now() + PATIENCE;
    while cluster.metric("n1", "netpol_connections_cut_total") < 1.0 {
        assert!(Instant::now() < deadline, "nothing is cut");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!is_alive(&mut lost, SILENCE) && is_alive(&mut kept, PATIENCE));
}

/// C155.
#[test]
fn datagrams_after_a_change_are_new() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::new();
    cluster.policies(&[A_FROM_Y]);
    let server = cluster.at("10.244.1.1").run(|| UdpSocket::bind("10.244.1.1:53").expect("a free port"));
    let client = cluster.at("10.244.2.1").run(|| UdpSocket::bind("10.244.2.1:0").expect("a free port"));
    server.set_read_timeout(Some(PATIENCE)).expect("a socket");
    client.send_to(b"one", "10.244.1.1:53").expect("sent");
    let mut buffer = [0; 16];
    assert_eq!(server.recv(&mut buffer).expect("allowed"), 3);
    cluster.policies(&[A_FROM_B]);
    let deadline = Instant::now() + PATIENCE;
    while cluster.metric("n1", "netpol_connections_cut_total") < 1.0 {
        assert!(Instant::now() < deadline, "nothing is cut");
        std::thread::sleep(Duration::from_millis(5));
    }
    server.set_read_timeout(Some(SILENCE)).expect("a socket");
    client.send_to(b"two", "10.244.1.1:53").expect("sent");
    assert!(server.recv(&mut buffer).is_err(), "a datagram came in a connection that is over");
}

/// C115, C116.
#[test]
fn errors_pass_and_neighbours_that_were_routed_do_not() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::new();
    // x/a may be reached from y and may open nothing; its answer to a closed port is an error about an allowed flow.
    cluster.policies(&[A_FROM_Y, A_NO_EGRESS]);
    for (from, to) in [("10.244.2.1:0", "10.244.1.1:9"), ("[fd00:244:2::1]:0", "[fd00:244:1::1]:9")] {
        let place: SocketAddr = from.parse().expect("an address");
        let from = place;
        let to: SocketAddr = to.parse().expect("an address");
        let error = cluster.at(&place.ip().to_string()).run(move || {
            let socket = UdpSocket::bind(from).expect("a free port");
            socket.connect(to).expect("a route");
            socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                let _ = socket.send(b"anybody?");
                if let Err(error) = socket.recv(&mut [0; 16])
                    && error.kind() == ErrorKind::ConnectionRefused
                {
                    return Some(error);
                }
            }
            None
        });
        assert!(error.is_some(), "the error of {to} does not come back");
    }

    cluster.policies(&["{podSelector: {}, policyTypes: [Ingress, Egress]}"]);
    let probe = |payload| Probe { source: ip("fd00:244:2::1"), destination: ip("fd00:244:1::1"), payload };
    let probes = [probe(Payload::Neighbour), probe(Payload::Ping)];
    let arrived = arrived(&cluster.network, &probes, &mut 0, |_| false);
    assert!(arrived.is_empty(), "isolated in both directions, and reached by {arrived:?}");
}

/// C117: nothing here loads the module; headers are all that is looked at.
#[test]
fn sctp_is_not_loaded() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let is_loaded = || std::fs::read_to_string("/proc/modules").unwrap_or_default().lines().any(|l| l.starts_with("sctp "));
    let before = is_loaded();
    let mut cluster = Cluster::new();
    cluster.policies(&["{podSelector: {}, ingress: [{ports: [{protocol: SCTP, port: 80}]}]}"]);
    assert_eq!(is_loaded(), before);
}

/// What kube-proxy does for a Service with one port: `address:80` to each backend, and masquerade for hairpins.
fn service(node: &Namespace, address: &str, backend: &str, extra: &str) {
    let pod = backend.split(':').next().expect("an address");
    let text = format!(
        "table ip proxy {{\n\
         chain services {{ ip daddr {address} tcp dport 80 dnat to {backend}; }}\n\
         chain prerouting {{ type nat hook prerouting priority dstnat; jump services; {extra} }}\n\
         chain output {{ type nat hook output priority -100; jump services; }}\n\
         chain postrouting {{ type nat hook postrouting priority srcnat; ip saddr {pod} ip daddr {pod} masquerade; meta mark & 0x4000 == 0x4000 masquerade; }}\n}}\n"
    );
    node.command_with("nft", &["-f", "-"], &format!("table ip proxy\ndelete table ip proxy\n{text}"));
}

/// C135, C196, C197.
#[test]
fn services_are_judged_after_translation() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::new();
    serve(cluster.at("10.244.1.1"), "10.244.1.1:8080");
    serve(cluster.at("10.244.1.2"), "10.244.1.2:8080");
    let vip = "10.96.0.10";
    for node in ["n1", "n2", "n3"] {
        service(cluster.network.node(node), vip, "10.244.1.1:8080", "");
    }
    let to = format!("{vip}:80");
    let port = |port: u16| format!("{{podSelector: {{matchLabels: {{pod: a}}}}, ingress: [{{ports: [{{port: {port}}}]}}]}}");
    cluster.policies(&[&port(8080)]);
    let mut stream = cluster.connect("10.244.2.1", &to).expect("the target's port is allowed");
    assert!(is_alive(&mut stream, PATIENCE));
    // A change that leaves the connection allowed leaves it alone, although its address was translated.
    cluster.policies(&[&port(8080), "{podSelector: {matchLabels: {pod: b}}, ingress: []}"]);
    std::thread::sleep(2 * SILENCE);
    assert!(is_alive(&mut stream, PATIENCE), "a translated connection was cut");
    cluster.policies(&[&port(80)]);
    assert!(!cluster.can_connect("10.244.2.1", &to), "the Service's port is not what policies see");
    let deadline = Instant::now() + PATIENCE;
    while is_alive(&mut stream, SILENCE) {
        assert!(Instant::now() < deadline, "a translated connection goes on");
    }

    // The Service's address is nobody's: blocks that name it allow nothing (C197).
    cluster.policies(&["y|{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.96.0.0/12}}]}]}"]);
    assert!(!cluster.can_connect("10.244.2.1", &to));

    // A pod reaches itself through a Service whatever policies say, and no other pod that way (C135).
    cluster.policies(&["{podSelector: {}, policyTypes: [Ingress, Egress]}"]);
    let mut hairpin = cluster.connect("10.244.1.1", &to).expect("a pod cannot block itself");
    assert!(is_alive(&mut hairpin, PATIENCE));
    service(cluster.network.node("n1"), vip, "10.244.1.2:8080", "");
    assert!(!cluster.can_connect("10.244.1.1", &to), "another pod is not the pod itself");
}

/// C209, C210: under externalTrafficPolicy Cluster the entry node's address is what another node sees.
#[test]
fn node_ports_show_the_entry_node() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::new();
    serve(cluster.at("10.244.2.1"), "10.244.2.1:8080");
    for (node, address) in [("n1", "192.0.2.1"), ("n2", "192.0.2.2")] {
        let extra = format!("ip daddr {address} tcp dport 30080 meta mark set mark or 0x4000 dnat to 10.244.2.1:8080;");
        service(cluster.network.node(node), "10.96.0.10", "10.244.2.1:8080", &extra);
    }
    let from_client = "y|{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]}";
    let from_entry = "y|{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.1/32}}]}]}";
    let client = |cluster: &Cluster, to: &str| {
        let to: SocketAddr = to.parse().expect("an address");
        cluster.at("203.0.113.9").run(move || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
            socket.bind(&SocketAddr::from(([203, 0, 113, 9], 0)).into()).expect("an address of its own");
            socket.connect_timeout(&to.into(), SILENCE).is_ok()
        })
    };
    cluster.policies(&[from_client]);
    assert!(!client(&cluster, "192.0.2.1:30080"), "n2 sees n1, not the client");
    assert!(client(&cluster, "192.0.2.2:30080"), "the backend's node sees the client");
    cluster.policies(&[from_entry]);
    assert!(client(&cluster, "192.0.2.1:30080"));
    assert!(!client(&cluster, "192.0.2.2:30080"));
}

/// S3.9: a TCP flow of an isolated pod opens with a SYN or not at all. S1.65: what cannot be read is denied, and fragments
/// follow their datagram. S6.1: nothing of this concerns pods that no policy isolates.
#[test]
fn odd_packets_do_not_get_around_a_policy() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::new();
    let any_from_y = "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}], ports: [{port: 80}, {port: 80, protocol: UDP}]}]}";
    cluster.policies(&[any_from_y]);
    let tcp = |source: &str, destination: &str, flags| Probe {
        source: ip(source),
        destination: ip(destination),
        payload: Payload::Tcp { port: 80, flags },
    };
    let (y_a, x_a, x_b) = ("10.244.2.1", "10.244.1.1", "10.244.1.2");
    let mut expected = BTreeMap::from([
        (tcp(y_a, x_a, packets::SYN), true),
        // x/b is not isolated, so nobody asks how its connections start.
        (tcp(y_a, x_b, packets::ACK), true),
    ]);
    for flags in [0, packets::ACK, packets::SYN | packets::ACK, 0x01, 0x04, 0x29] {
        expected.insert(tcp(y_a, x_a, flags), false);
        // Its own packets neither, although nothing isolates it for egress.
        expected.insert(tcp(x_a, y_a, flags), false);
    }
    cluster.network.forget_connections();
    let probes: Vec<Probe> = expected.keys().copied().collect();
    // Each on its own: a segment after a SYN would belong to its connection.
    for probe in &probes {
        cluster.network.forget_connections();
        let came =
            !arrived(&cluster.network, std::slice::from_ref(probe), &mut 0, |_| expected.get(probe) == Some(&true)).is_empty();
        assert_eq!(Some(&came), expected.get(probe), "{probe:?}");
    }

    // A TCP header that ends before the flags, and one that ends before the port.
    for length in [20 + 3, 20 + 12] {
        let mut ears = cluster.at(x_a).run(Ears::open);
        let (from, to) = (ip(y_a), ip(x_a));
        cluster.at(y_a).run(move || {
            let mut short = packets::packet(from, 40_000, to, Payload::Tcp { port: 80, flags: packets::SYN }, 7);
            short.truncate(length);
            send(vec![(to, short)]);
        });
        std::thread::sleep(SILENCE);
        assert!(!ears.hears_anything(), "{length} bytes of a packet passed");
    }

    // Datagrams in fragments, to a port that is allowed and to one that is not.
    for (port, is_allowed) in [(80, true), (81, false)] {
        let server = cluster.at(x_a).run(move || UdpSocket::bind((ip("10.244.1.1"), port)).expect("a free port"));
        let client = cluster.at(y_a).run(|| UdpSocket::bind("10.244.2.1:0").expect("a free port"));
        server.set_read_timeout(Some(if is_allowed { PATIENCE } else { SILENCE })).expect("a socket");
        client.send_to(&[7; 5000], (ip(x_a), port)).expect("sent");
        let came = server.recv(&mut [0; 6000]).ok();
        assert_eq!(came, is_allowed.then_some(5000), "port {port}");
    }
}

/// C158: a sandbox is there, and nobody knows yet which pod it is. No policy exists.
#[test]
fn an_address_of_nobody_knows_whom_is_in_quarantine() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::new();
    cluster.policies(&[]);
    let families = [
        ("10.244.1.1", "10.244.2.1", "10.244.1.1:80", "10.244.2.1:80"),
        ("fd00:244:1::1", "fd00:244:2::1", "[fd00:244:1::1]:80", "[fd00:244:2::1]:80"),
    ];
    for (_, _, to_held, to_other) in families {
        for listener in [to_held, to_other] {
            let address: SocketAddr = listener.parse().expect("an address");
            serve(cluster.at(&address.ip().to_string()), listener);
        }
    }
    serve(cluster.at("192.0.2.1"), "192.0.2.1:80");
    let held: Vec<IpAddr> = families.iter().map(|(held, ..)| ip(held)).collect();
    let mut streams: Vec<TcpStream> =
        families.iter().map(|(_, other, to, _)| cluster.connect(other, to).expect("open")).collect();
    assert!(streams.iter_mut().all(|stream| is_alive(stream, PATIENCE)));

    let quarantine = |addresses| [Change::Quarantine(Quarantine { holder: "sandbox".to_owned(), addresses })];
    cluster.agents.change(&quarantine(held.clone()));
    for (held, other, to_held, to_other) in families {
        assert!(!cluster.can_connect(other, to_held), "{other} -> {to_held}");
        assert!(!cluster.can_connect(held, to_other), "{held} -> {to_other}");
    }
    assert!(!cluster.can_connect("10.244.1.1", "192.0.2.1:80"), "not even its own node");
    assert!(cluster.can_connect("192.0.2.1", "10.244.1.1:80"), "its own node reaches it");
    assert!(streams.iter_mut().all(|stream| !is_alive(stream, SILENCE)), "what was open is cut");
    assert!(cluster.can_connect("10.244.1.2", "10.244.2.1:80"), "others do not notice");

    // The engine says the same.
    let mut compiler = Compiler::new(Options { node: Some("n1".to_owned()), ..Options::default() });
    for change in engine::load_text(&cluster.fixture, Syntax::Strict).changes().chain(quarantine(held)) {
        compiler.apply(change);
    }
    compiler.flush();
    let flows = [
        ("10.244.2.1", "10.244.1.1", false),
        ("10.244.1.1", "10.244.2.1", false),
        ("10.244.1.1", "192.0.2.1", false),
        ("192.0.2.1", "10.244.1.1", true),
        ("192.0.2.2", "10.244.1.1", false),
        ("10.244.1.1", "10.244.1.1", true),
        ("10.244.1.2", "10.244.2.1", true),
    ];
    for (source, destination, is_allowed) in flows {
        let flow = Flow { source: ip(source), destination: ip(destination), protocol: Protocol::Port(Transport::Tcp, 80) };
        let verdict = compiler.graph().verdict(&flow);
        assert_eq!(verdict.is_allowed(), is_allowed, "{source} -> {destination}: {verdict:?}");
        let ports = |address| compiler.graph().endpoint(ip(address));
        let (egress, ingress) = compiler.graph().ports_between(&ports(source), &ports(destination), source == destination);
        assert_eq!(!egress.intersection(&ingress).is_empty(), is_allowed, "{source} -> {destination}");
    }
    assert!(!cluster.can_connect("192.0.2.2", "10.244.1.1:80"), "another node is nobody special");

    cluster.agents.change(&[Change::QuarantineRemoved("sandbox".to_owned())]);
    for (held, other, to_held, to_other) in families {
        assert!(cluster.can_connect(other, to_held) && cluster.can_connect(held, to_other), "{held}");
    }
}
