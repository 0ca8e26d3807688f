//! Established connections: those that lost their verdict are terminated, and stay so (S3.9).
//!
//! Each tracked connection is judged as the flow that opened it: source as it came, destination after translation. One that
//! is not allowed any more is deleted from the kernel's table; the ruleset does the rest, because what comes next of it opens
//! no connection. All of it happens in a thread of its own: the enforcement thread only answers which connections are not
//! allowed, a few thousand at a time, and puts what keeps them cut into the kernel before it answers.
//!
//! - `schedule`: what to look at, and when.
//! - `terminator`: the thread.
//! - `conntrack`: the kernel's table of connections.
//! - `node`: the addresses of the node itself, whose connections are left alone.
//! - `records`: a bounded number of lines about what was terminated.

mod conntrack;
mod node;
mod records;
mod schedule;
mod terminator;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use netlink_packet_core::DefaultNla;
use policy_core::graph::AllowGraph;
use policy_core::sets::{Protocol, Transport};
use policy_core::verdict::{Flow, Verdict};
use policy_ruleset::Element;

use crate::admin::metrics::Metrics;
use crate::agent::{Event, Mailbox};

pub use conntrack::Conntrack;
pub use node::{KnownAddresses, addresses};
pub use terminator::Terminator;

/// Connections that are judged at once.
pub const BATCH: usize = 4096;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

/// Which connections to look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// All of them.
    All,
    /// Those from or to these addresses.
    Addresses(BTreeSet<IpAddr>),
}

/// More addresses than this are everything.
const MOST_ADDRESSES: usize = 1 << 16;

impl Scope {
    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::Addresses(BTreeSet::new())
    }

    /// Whether there is nothing to look at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::none()
    }

    /// Both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        match (self, other) {
            (Self::Addresses(mut a), Self::Addresses(mut b)) => {
                if a.len() < b.len() {
                    std::mem::swap(&mut a, &mut b);
                }
                a.extend(b);
                if a.len() > MOST_ADDRESSES { Self::All } else { Self::Addresses(a) }
            }
            _ => Self::All,
        }
    }

    /// Whether this address is in it.
    #[must_use]
    pub fn has(&self, address: &IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Addresses(addresses) => addresses.contains(address),
        }
    }
}

/// A connection as the end sees it that opened it, after translation of the destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tuple {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it leads.
    pub destination: IpAddr,
    /// The number of its IP protocol.
    pub protocol: u8,
    /// Source and destination port; `None` where the kernel tracks none.
    pub ports: Option<(u16, u16)>,
    /// Whether its destination was translated: only then can it be a pod and itself (S2.15).
    pub is_translated: bool,
}

impl Tuple {
    /// Its verdict in the graph.
    #[must_use]
    pub fn verdict(&self, graph: &AllowGraph) -> Verdict {
        if self.is_translated { graph.verdict(&self.flow()) } else { graph.verdict_untranslated(&self.flow()) }
    }

    /// What is judged.
    #[must_use]
    pub fn flow(&self) -> Flow {
        let transport = match self.protocol {
            TCP => Some(Transport::Tcp),
            UDP => Some(Transport::Udp),
            SCTP => Some(Transport::Sctp),
            _ => None,
        };
        let protocol = match (transport, self.ports) {
            (Some(transport), Some((_, port))) => Protocol::Port(transport, port),
            _ => Protocol::Other,
        };
        Flow { source: self.source, destination: self.destination, protocol }
    }

    /// What must not open a connection when this one was cut: packets of the other end. `None` where no packet in the middle of
    /// a connection opens another: a TCP connection starts with a SYN, and an ICMP reply without its request is invalid.
    #[must_use]
    pub fn reverse(&self) -> Option<Element> {
        let (source, destination) = (self.destination, self.source);
        match (self.protocol, self.ports) {
            (TCP | ICMP | ICMPV6, _) => None,
            (protocol @ (UDP | DCCP | SCTP | UDPLITE), Some((destination_port, source_port))) => {
                Some(Element::CutFlow { source, destination, protocol, source_port, destination_port })
            }
            (protocol, _) => Some(Element::CutPair(source, destination, protocol)),
        }
    }

    /// The connection that an element keeps cut; `None` if that could be several.
    #[must_use]
    pub fn kept_cut_by(element: &Element) -> Option<Self> {
        match *element {
            Element::CutFlow { source, destination, protocol, source_port, destination_port } => {
                let ports = Some((destination_port, source_port));
                Some(Self { source: destination, destination: source, protocol, ports, is_translated: false })
            }
            Element::CutPair(_, _, UDP | DCCP | SCTP | UDPLITE) => None,
            Element::CutPair(source, destination, protocol) => {
                Some(Self { source: destination, destination: source, protocol, ports: None, is_translated: false })
            }
            _ => None,
        }
    }
}

/// The verdict on a tracked connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// It is allowed.
    Allowed,
    /// It is not allowed any more.
    Denied {
        /// Whether source and destination are addresses that no pod and no node has.
        is_unclaimed: [bool; 2],
    },
}

impl Judgement {
    /// Whether the connection is terminated.
    #[must_use]
    pub fn is_denied(self) -> bool {
        self != Self::Allowed
    }
}

/// One tracked connection.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it is.
    pub tuple: Tuple,
    /// Whether both ends have closed it, so that the kernel only waits before it forgets it.
    pub is_closed: bool,
    /// What the kernel needs to find it again.
    pub identity: Vec<DefaultNla>,
}

/// The kernel's connections, and what keeps those cut that it has no more.
pub trait Connections: Send {
    /// Hands the tracked connections in a scope to `take`, some of them maybe twice. Returns how many the kernel listed for that.
    ///
    /// # Errors
    /// When the kernel does not list them all.
    fn list(&mut self, scope: &Scope, take: &mut dyn FnMut(Entry)) -> io::Result<usize>;

    /// Deletes a connection; whether it was still there.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn delete(&mut self, entry: &Entry) -> io::Result<bool>;

    /// What keeps connections cut.
    ///
    /// # Errors
    /// When the kernel does not list it.
    fn held(&mut self) -> io::Result<Vec<Element>>;
}

/// What the thread for connections needs from the one that owns graph and table. `None` means not now: that thread ends, or
/// its table is not in force.
pub trait Enforcement: Send {
    /// The judgement on each of these connections, [`BATCH`] at most. What keeps those cut that are denied is in the kernel then.
    fn judge(&mut self, tuples: &[Tuple]) -> Option<Vec<Judgement>>;

    /// Removes those of these elements whose connection is allowed again; returns whether all of them are gone.
    fn release(&mut self, held: &[Element]) -> Option<bool>;

    /// Removes these elements: their address belongs to another pod.
    fn forget(&mut self, held: &[Element]) -> Option<()>;

    /// Reports the look for a token.
    fn looked(&mut self, token: u64, result: LookResult);
}

/// Why connections may outlive a policy.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// What the node itself opened cannot be told from the rest.
    #[error("cannot list the addresses of this node: {0}")]
    NodeAddresses(#[source] io::Error),
    /// The kernel does not list connections.
    #[error("cannot list established connections: {0}")]
    List(#[source] io::Error),
    /// The enforcement thread gives no verdicts now.
    #[error("established connections cannot be evaluated while the rules are not in force")]
    Judge,
    /// The kernel does not delete a connection.
    #[error("cannot delete an established connection: {0}")]
    Delete(#[source] io::Error),
    /// The kernel does not list what keeps connections cut.
    #[error("cannot list terminated connections: {0}")]
    Held(#[source] io::Error),
    /// The enforcement thread does not forget now what was cut at the addresses of an earlier owner.
    #[error("the rules are not in force")]
    Forget,
}

/// What a look came to, for everyone who waits for it.
pub type LookResult = Result<(), Arc<LookError>>;

/// The time.
pub trait Clock: Send {
    /// This moment.
    fn now(&self) -> Instant;
}

/// The clock of the system.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// The enforcement thread behind its queue.
struct Queue(Mailbox);

impl Queue {
    fn ask<T>(&self, event: impl FnOnce(SyncSender<T>) -> Event) -> Option<T> {
        let (answer, answered) = sync_channel(1);
        self.0.send(event(answer)).ok()?;
        answered.recv().ok()
    }
}

impl Enforcement for Queue {
    fn judge(&mut self, tuples: &[Tuple]) -> Option<Vec<Judgement>> {
        self.ask(|answer| Event::Judge(tuples.to_vec(), answer))
    }

    fn release(&mut self, held: &[Element]) -> Option<bool> {
        self.ask(|answer| Event::Release(held.to_vec(), answer))
    }

    fn forget(&mut self, held: &[Element]) -> Option<()> {
        self.ask(|answer| Event::Forget(held.to_vec(), answer))
    }

    fn looked(&mut self, token: u64, result: LookResult) {
        // Without a loop, nothing waits for it.
        let _ = self.0.send(Event::Looked { token, result });
    }
}

/// Starts the thread that looks at connections, as it is ordered.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(conntrack: Conntrack, orders: Receiver<Order>, mailbox: Mailbox, metrics: Metrics) -> io::Result<()> {
    let node = KnownAddresses::new(addresses);
    let terminator = Terminator::new(conntrack, Queue(mailbox), SystemClock, node, metrics);
    std::thread::Builder::new().name("connections".to_owned()).spawn(move || terminator.run(&orders))?;
    Ok(())
}

/// Something to look at: at once, and again a little later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Which connections.
    pub scope: Scope,
    /// A CNI ADD that waits for the look. The addresses in scope have a new owner then.
    pub token: Option<u64>,
    /// Whether something may be allowed that was not before.
    pub has_gains: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(protocol: u8, ports: Option<(u16, u16)>) -> Tuple {
        let ip = |text: &str| text.parse().unwrap();
        Tuple { source: ip("10.0.0.1"), destination: ip("10.0.0.2"), protocol, ports, is_translated: false }
    }

    #[test]
    fn what_keeps_a_connection_cut_leads_back_to_it() {
        for protocol in [UDP, SCTP, UDPLITE, DCCP] {
            let tuple = tuple(protocol, Some((1000, 53)));
            let element = tuple.reverse().unwrap();
            let Element::CutFlow { source, destination, source_port, destination_port, .. } = element else { panic!() };
            assert_eq!((source, source_port), (tuple.destination, 53));
            assert_eq!((destination, destination_port), (tuple.source, 1000));
            assert_eq!(Tuple::kept_cut_by(&element), Some(tuple));
        }
        for protocol in [47, 50, 253] {
            // The kernel shows ports of 0 for GRE; its packets have none.
            assert_eq!(tuple(protocol, Some((0, 0))).reverse(), tuple(protocol, None).reverse());
            let tuple = tuple(protocol, None);
            assert_eq!(Tuple::kept_cut_by(&tuple.reverse().unwrap()), Some(tuple));
        }
    }

    #[test]
    fn what_has_an_opening_needs_nothing() {
        for protocol in [TCP, ICMP, ICMPV6] {
            assert_eq!(tuple(protocol, Some((1, 2))).reverse(), None);
        }
    }

    #[test]
    fn scopes_are_bounded() {
        let addresses = |from: u32, to: u32| Scope::Addresses((from..to).map(|bits| IpAddr::V4(bits.into())).collect());
        assert_eq!(addresses(0, 10).union(addresses(5, 20)), addresses(0, 20));
        assert_eq!(addresses(0, 40_000).union(addresses(40_000, 80_000)), Scope::All);
        assert_eq!(Scope::none().union(Scope::All), Scope::All);
    }
}
