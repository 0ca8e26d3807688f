//! What was cut stays cut, whatever the protocol and whoever sends next (S3.9); and the kernel lists only the connections that
//! somebody asks for.

#![expect(clippy::expect_used, clippy::panic, reason = "a failing check panics")]

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use conformance::engine;
use conformance::lab::packets::{Payload, packet};
use conformance::lab::{self, Agents, Ears, Fabric, Namespace, Network, fixture, send};
use policy_agent::connections::{Connections, Conntrack, Scope};
use policy_core::manifest::Syntax;

const TOOLS: [&str; 3] = ["ip", "nft", "sysctl"];
/// What is allowed comes within this time, on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than the connection tracker remembers a conversation in these tests, several times.
const LONG: Duration = Duration::from_secs(4);
/// How often each end sends.
const PERIOD: Duration = Duration::from_millis(20);

const PORT: u16 = 5353;

// x/a may be reached from y; x/b may reach y.
const A_FROM_Y: &str =
    "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}";
const B_TO_Y: &str = "{podSelector: {matchLabels: {pod: b}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}";
const A_CLOSED: &str = "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress]}";
const B_CLOSED: &str = "{podSelector: {matchLabels: {pod: b}}, policyTypes: [Egress]}";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

struct Cluster {
    network: Network,
    agents: Agents,
}

impl Cluster {
    fn new() -> Self {
        let network = fixture::network(Fabric::Routed);
        let agents = Agents::start(&network);
        let cluster = Self { network, agents };
        // The connection tracker forgets within a second.
        for timeout in ["udp_timeout", "udp_timeout_stream", "generic_timeout", "sctp_timeout_cookie_wait"] {
            cluster.network.node("n1").command("sysctl", &["-qw", &format!("net.netfilter.nf_conntrack_{timeout}=1")]);
        }
        cluster
    }

    /// Makes these the policies of namespace x.
    fn policies(&mut self, specs: &[&str]) {
        let mut text = fixture::manifests();
        for (number, spec) in specs.iter().enumerate() {
            text += &format!(
                "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p{number}, namespace: x}}\nspec: {spec}\n"
            );
        }
        let snapshot = engine::load_text(&text, Syntax::Strict);
        assert!(!snapshot.has_errors(), "{:?}", snapshot.diagnostics);
        self.agents.tell(snapshot);
    }

    /// The same nodes with other agents, which find the tables of those before.
    fn restart(self) -> Self {
        let Self { network, agents } = self;
        drop(agents);
        Self { agents: Agents::start(&network), network }
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.agents.metrics("n1").text().expect("valid metrics");
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{name} is not measured"))
    }

    fn start(&self, opener: &str, other: &str, payload: Payload, mark: u32) -> Conversation {
        let at = |address: &str| self.network.at(ip(address)).expect("placed");
        Conversation::start((at(opener), ip(opener)), (at(other), ip(other)), payload, mark)
    }
}

/// Two ends that send all the time, whatever comes.
struct Conversation {
    what: String,
    stop: Arc<AtomicBool>,
    ends: [(Arc<AtomicUsize>, JoinHandle<()>); 2],
}

impl Conversation {
    /// Starts one; the other end sends from when the opener's packets come.
    fn start(opener: (&Namespace, IpAddr), other: (&Namespace, IpAddr), payload: Payload, mark: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let source_port = 20_000 + u16::try_from(mark).expect("few conversations");
        let back = match payload {
            Payload::Udp(_) => Payload::Udp(source_port),
            Payload::Sctp(_) => Payload::Sctp(source_port),
            payload => payload,
        };
        let open = packet(opener.1, source_port, other.1, payload, 2 * mark);
        let answer = packet(other.1, PORT, opener.1, back, 2 * mark + 1);
        let ends = [
            end(opener, source_port, (other.1, open), 2 * mark + 1, true, &stop),
            end(other, PORT, (opener.1, answer), 2 * mark, false, &stop),
        ];
        Self { what: format!("{} -> {} {payload:?}", opener.1, other.1), stop, ends }
    }

    /// Packets that have come to either end.
    fn heard(&self) -> [usize; 2] {
        self.ends.each_ref().map(|(heard, _)| heard.load(Ordering::Relaxed))
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn end(
    (namespace, address): (&Namespace, IpAddr),
    port: u16,
    message: (IpAddr, Vec<u8>),
    expected: u32,
    is_opener: bool,
    stop: &Arc<AtomicBool>,
) -> (Arc<AtomicUsize>, JoinHandle<()>) {
    let heard = Arc::new(AtomicUsize::new(0));
    let (count, stop) = (heard.clone(), stop.clone());
    let thread = namespace.spawn(move || {
        // Somebody is there, so that no error comes back. Several conversations share the port of the other end.
        let _socket = UdpSocket::bind((address, port));
        let mut ears = Ears::open();
        while !stop.load(Ordering::Relaxed) {
            if ears.hear().contains(&expected) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            if is_opener || count.load(Ordering::Relaxed) > 0 {
                send(vec![message.clone()]);
            }
            std::thread::sleep(PERIOD);
        }
    });
    (heard, thread)
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(PERIOD);
    }
}

/// Waits until packets come at both ends of each.
fn wait_until_all_talk(conversations: &[Conversation]) {
    let before: Vec<_> = conversations.iter().map(Conversation::heard).collect();
    for (conversation, before) in conversations.iter().zip(before) {
        wait(&format!("{} does not flow both ways", conversation.what), || {
            conversation.heard().iter().zip(before).all(|(now, before)| *now > before + 2)
        });
    }
}

/// Whether nothing comes at any end for a long time.
fn assert_silence(conversations: &[Conversation], when: &str) {
    let before: Vec<_> = conversations.iter().map(Conversation::heard).collect();
    std::thread::sleep(LONG);
    let talking: Vec<String> = conversations
        .iter()
        .zip(before)
        .filter(|(conversation, before)| conversation.heard() != *before)
        .map(|(conversation, before)| format!("{}: {before:?} -> {:?}", conversation.what, conversation.heard()))
        .collect();
    assert!(talking.is_empty(), "{when}, packets of what was cut still arrive:\n{}", talking.join("\n"));
}

/// C152, C154 and C155 for protocols without an opening: both ends go on sending, ingress denied or egress denied, in both
/// families, longer than the connection tracker remembers, and through another agent; and it works again when policy allows it.
#[test]
fn conversations_that_were_cut_stay_cut_while_both_ends_send() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::new();
    cluster.policies(&[A_FROM_Y, B_TO_Y]);
    let mut conversations = Vec::new();
    let ends = [
        ("10.244.2.1", "10.244.1.1"),
        ("fd00:244:2::1", "fd00:244:1::1"),
        ("10.244.1.2", "10.244.2.2"),
        ("fd00:244:1::2", "fd00:244:2::2"),
    ];
    for (opener, other) in ends {
        for payload in [Payload::Udp(PORT), Payload::Sctp(PORT), Payload::Unknown] {
            let mark = u32::try_from(conversations.len()).expect("few") + 1;
            conversations.push(cluster.start(opener, other, payload, mark));
        }
    }
    wait_until_all_talk(&conversations);

    let cut = cluster.metric("netpol_connections_cut_total");
    cluster.policies(&[A_CLOSED, B_CLOSED]);
    wait("not everything is cut", || cluster.metric("netpol_connections_cut_total") >= cut + 12.0);
    std::thread::sleep(5 * PERIOD);
    assert_silence(&conversations, "after the cut");

    let mut cluster = cluster.restart();
    cluster.policies(&[A_CLOSED, B_CLOSED]);
    assert_silence(&conversations, "after another agent started");

    cluster.policies(&[A_FROM_Y, B_TO_Y]);
    wait_until_all_talk(&conversations);
    wait("what is allowed again is still held", || {
        let listed = cluster.network.node("n1").command("nft", &["list", "table", "inet", "netpol"]);
        !listed.contains("expires")
    });
}

/// The other end's own connections are not touched: only the tuple that was cut is.
#[test]
fn other_connections_of_the_same_ends_are_opened_as_ever() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut cluster = Cluster::new();
    cluster.policies(&[A_FROM_Y]);
    let conversation = [cluster.start("10.244.2.1", "10.244.1.1", Payload::Udp(PORT), 1)];
    wait_until_all_talk(&conversation);
    cluster.policies(&[A_CLOSED]);
    wait("it is not cut", || cluster.metric("netpol_connections_cut_total") >= 1.0);
    let other = [cluster.start("10.244.1.1", "10.244.2.1", Payload::Udp(PORT), 2)];
    wait_until_all_talk(&other);
    std::thread::sleep(5 * PERIOD);
    assert_silence(&conversation, "beside another connection of the same ends");

    // A known-bad control: without an agent and without the rules about what was cut, it comes back at once.
    let Cluster { network, agents } = cluster;
    drop(agents);
    let before = conversation.each_ref().map(Conversation::heard);
    wait("without the rules, nothing comes back: these tests show nothing", || {
        network.node("n1").command("nft", &["flush", "chain", "inet", "netpol", "was-cut"]);
        let now = conversation.each_ref().map(Conversation::heard);
        now.iter().flatten().zip(before.iter().flatten()).all(|(now, before)| now > before)
    });
}

/// A scoped listing is filtered by the kernel: it returns the entries of the scope, while thousands of others exist.
#[test]
fn the_kernel_lists_only_what_is_asked_for() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    const MANY: u16 = 3000;
    let namespace = Namespace::new("conntrack");
    namespace.command_with(
        "nft",
        &["-f", "-"],
        "add table inet track\nadd chain inet track c { type filter hook output priority 0; }\nadd rule inet track c ct state new accept\n",
    );
    namespace.run(|| {
        let (v4, v6) = (UdpSocket::bind("127.0.0.1:0").expect("a port"), UdpSocket::bind("[::1]:0").expect("a port"));
        for port in 1..=MANY {
            // Nobody answers, and errors come back.
            let _ = v4.send_to(b"x", ("127.0.0.2", 20_000 + port));
            let _ = v6.send_to(b"x", ("::1", 20_000 + port));
        }
        for port in 1..=3 {
            let _ = v4.send_to(b"x", ("127.0.0.77", 30_000 + port));
        }
    });
    let list = move |scope: Scope| {
        namespace.run(move || {
            let mut found = BTreeSet::new();
            let mut conntrack = Conntrack::open().expect("netlink");
            let start = Instant::now();
            let listed = conntrack
                .list(&scope, &mut |entry| {
                    found.insert(entry.tuple);
                })
                .expect("listed");
            println!("{} entries in {:?}", listed, start.elapsed());
            (listed, found)
        })
    };
    let (listed, found) = list(Scope::All);
    assert!(listed >= 2 * usize::from(MANY) && found.len() >= 2 * usize::from(MANY), "{listed} entries");
    let (listed, found) = list(Scope::Addresses([ip("127.0.0.77")].into()));
    assert_eq!((listed, found.len()), (3, 3), "entries of other addresses were listed");
    // More addresses than are worth a walk each are listed at once, and chosen here.
    let several = (70..=90).map(|last| IpAddr::from([127, 0, 0, last])).collect();
    let (listed, found) = list(Scope::Addresses(several));
    assert!(listed >= usize::from(MANY));
    assert_eq!(found.len(), 3);
    let (listed, found) = list(Scope::Addresses([ip("10.9.9.9")].into()));
    assert_eq!((listed, found.len()), (0, 0));
}
