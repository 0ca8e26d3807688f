//! Sends first packets, and sees which arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::packets::{PROTOCOLS_V4, PROTOCOLS_V6, Payload, mark, packet};
use super::{Namespace, Network};

/// One packet to be sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Probe {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// What it carries.
    pub payload: Payload,
}

/// Nothing came for this long: nothing more will come.
const QUIET: Duration = Duration::from_millis(30);
/// What should have come and did not gets this many further chances: the machine may be busy.
const CHANCES: usize = 6;
/// Bytes of packets that wait to be read.
const BUFFER: usize = 64 << 20;

/// Sockets that receive every packet of the probed protocols in a namespace.
pub struct Ears(Vec<(u8, Socket)>);

impl Ears {
    /// Opens them in the network namespace of the calling thread.
    ///
    /// # Panics
    /// Without root.
    #[must_use]
    pub fn open() -> Self {
        let open = |domain, number: u8| {
            let socket =
                Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(number)))).expect("root may open raw sockets");
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &BUFFER).expect("root may set buffers");
            socket.set_nonblocking(true).expect("any socket can");
            (number, socket)
        };
        let v4 = PROTOCOLS_V4.map(|number| open(Domain::IPV4, number));
        let v6 = PROTOCOLS_V6.map(|number| open(Domain::IPV6, number));
        Self(v4.into_iter().chain(v6).collect())
    }

    /// Whether anything at all has come, ours or not, but for ICMP.
    pub fn hears_anything(&mut self) -> bool {
        let mut buffer = [0; 2048];
        let others = self.0.iter_mut().filter(|(protocol, _)| ![1, 58].contains(protocol));
        others.fold(false, |any, (_, socket)| socket.read(&mut buffer).is_ok() || any)
    }

    /// Waits until something comes, but not for long.
    pub fn wait(&self) {
        let mut sources: Vec<PollFd<'_>> =
            self.0.iter().map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
        // Interrupted, or nothing came: the next look will tell.
        let _ = poll(&mut sources, PollTimeout::from(10_u8));
    }

    /// The marks of what has come.
    pub fn hear(&mut self) -> BTreeSet<u32> {
        let mut marks = BTreeSet::new();
        let mut buffer = [0; 2048];
        for (protocol, socket) in &mut self.0 {
            while let Ok(length) = socket.read(&mut buffer) {
                let packet = &buffer[..length];
                if !is_answer(*protocol, packet) {
                    marks.extend(mark(packet));
                }
            }
        }
        marks
    }
}

/// Packets with their destinations.
pub type Packets = Vec<(IpAddr, Vec<u8>)>;

/// Whether an ICMP packet quotes one of ours: echo replies and errors do.
fn is_answer(protocol: u8, packet: &[u8]) -> bool {
    match protocol {
        // Raw sockets show the IP header for IPv4 only.
        1 => packet.get(usize::from(packet[0] & 15) * 4) != Some(&8),
        58 => !matches!(packet.first(), Some(&128 | &135)),
        _ => false,
    }
}

/// Sends packets from the network namespace of the calling thread.
///
/// # Panics
/// Without root.
pub fn send(packets: Packets) {
    let open = |domain| {
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(255))).expect("root may open raw sockets");
        if domain == Domain::IPV4 {
            socket.set_header_included_v4(true).expect("raw sockets can");
        } else {
            socket.set_header_included_v6(true).expect("raw sockets can");
        }
        socket
    };
    let (v4, v6) = (open(Domain::IPV4), open(Domain::IPV6));
    for (to, bytes) in packets {
        let socket = if to.is_ipv4() { &v4 } else { &v6 };
        // An error here is a packet that is not sent, and so does not arrive.
        let _ = socket.send_to(&bytes, &SockAddr::from(SocketAddr::new(to, 0)));
    }
}

/// Sends each probe from the namespace that has its source address, and returns those that arrived at their destination.
///
/// `expected` only says which are worth further chances when they do not arrive; it never makes one arrive. Each round uses a
/// source port of its own, so that no packet belongs to a connection of an earlier round. It is none of the destination ports: a packet of
/// the opposite direction would be a reply.
#[must_use]
pub fn arrived(network: &Network, probes: &[Probe], round: &mut u16, expected: impl Fn(&Probe) -> bool) -> BTreeSet<Probe> {
    let mut found = BTreeSet::new();
    let mut pending: Vec<(usize, Probe)> = probes.iter().copied().enumerate().collect();
    let taken: BTreeSet<u16> = probes.iter().filter_map(|probe| probe.payload.port()).collect();
    for chance in 0..=CHANCES {
        let source_port = loop {
            *round = round.wrapping_add(1);
            let port = 20_000 + *round % 40_000;
            if !taken.contains(&port) {
                break port;
            }
        };
        found.extend(once(network, &pending, source_port, QUIET * u32::try_from(chance + 1).unwrap_or(1)));
        pending.retain(|(_, probe)| expected(probe) && !found.contains(probe));
        if pending.is_empty() {
            break;
        }
    }
    found
}

fn once(network: &Network, probes: &[(usize, Probe)], source_port: u16, quiet: Duration) -> BTreeSet<Probe> {
    let mut ears: BTreeMap<&str, (&Namespace, Ears)> = BTreeMap::new();
    let mut packets: BTreeMap<&str, (&Namespace, Packets)> = BTreeMap::new();
    for (id, probe) in probes {
        let (Some(from), Some(to)) = (network.at(probe.source), network.at(probe.destination)) else {
            panic!("{probe:?} has an end that is nowhere")
        };
        ears.entry(to.name()).or_insert_with(|| (to, to.run(Ears::open)));
        let id = u32::try_from(*id).expect("few probes");
        let bytes = packet(probe.source, source_port, probe.destination, probe.payload, id);
        packets.entry(from.name()).or_insert_with(|| (from, Vec::new())).1.push((probe.destination, bytes));
    }
    for (namespace, packets) in packets.into_values() {
        namespace.run(move || send(packets));
    }
    let by_id: BTreeMap<u32, Probe> =
        probes.iter().map(|(id, probe)| (u32::try_from(*id).expect("few probes"), *probe)).collect();
    let mut found = BTreeSet::new();
    let mut last = Instant::now();
    while last.elapsed() < quiet && found.len() < probes.len() {
        for (name, (_, ears)) in &mut ears {
            let marks = ears.hear();
            if !marks.is_empty() {
                last = Instant::now();
            }
            let is_here = |probe: &Probe| network.at(probe.destination).is_some_and(|namespace| namespace.name() == *name);
            found.extend(marks.into_iter().filter_map(|id| by_id.get(&id).copied()).filter(is_here));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    found
}
