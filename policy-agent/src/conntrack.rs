//! Cuts established connections that lost their verdict (S3.9).
//!
//! Each tracked connection is judged as the flow that opened it: source as it came, destination after translation. One that
//! is not allowed any more is deleted from the kernel's table; the ruleset does the rest, because what comes next of it opens
//! no connection.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use netlink_packet_core::DefaultNla;
use netlink_packet_core::{Emitable, NLA_F_NESTED, Nla};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol as Number, Tuple as Part,
};
use netlink_packet_netfilter::{NetfilterMessageInner, NetfilterProtoFamily};
use nix::errno::Errno;
use policy_core::sets::{Protocol, Transport};
use policy_core::verdict::Flow;

use crate::agent::{Event, Mailbox};
use crate::kernel::netlink::Netlink;
use crate::metrics::{Metrics, seconds};

// Attributes that tell one entry from another with an equal tuple.
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
// A dump of only the entries whose tuples have this source address.
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const FILTER_SOURCE_ADDRESS: u32 = 1;

/// Which connections to judge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// All of them.
    All,
    /// Those from or to these addresses.
    Addresses(BTreeSet<IpAddr>),
}

/// A tracked connection, as far as it is judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tuple {
    /// The flow that opened it: source as it came, destination after translation.
    pub flow: Flow,
}

/// What is to be looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// The connections that may have lost access.
    pub scope: Scope,
    /// An ADD that waits until these connections have been looked at.
    pub token: Option<u64>,
}

/// Packets that were under way when the ruleset changed may enter connections a moment later; then they are looked at again.
const SECOND_LOOK: Duration = Duration::from_millis(400);
/// Connections that are judged at once.
const MOST_JUDGED: usize = 4096;

/// More addresses than this are looked for in one dump of everything.
const MOST_ADDRESSES: usize = 16;

impl Scope {
    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::Addresses(BTreeSet::new())
    }

    /// Whether there is nothing to judge.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::none()
    }

    /// Both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        match (self, other) {
            (Self::Addresses(mut a), Self::Addresses(b)) => {
                a.extend(b);
                Self::Addresses(a)
            }
            _ => Self::All,
        }
    }
}

/// The kernel's table of connections.
pub struct Conntrack {
    netlink: Netlink,
}

/// One tracked connection.
struct Entry {
    flow: Flow,
    /// What the kernel needs to find it again.
    identity: Vec<ConntrackAttribute>,
    family: NetfilterProtoFamily,
}

impl Conntrack {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When there is no netfilter netlink.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()? })
    }

    /// Deletes the connections in `scope` that the graph does not allow any more, and returns how many.
    fn cut(&mut self, mailbox: &Mailbox, scope: &Scope) -> io::Result<u64> {
        let node = node_addresses()?;
        let mut entries: Vec<Entry> = Vec::new();
        self.entries(scope, |entry| {
            if !node.contains(&entry.flow.source) {
                entries.push(entry);
            }
        })?;
        let mut cut = 0;
        for batch in entries.chunks(MOST_JUDGED) {
            let tuples = batch.iter().map(|entry| Tuple { flow: entry.flow }).collect();
            let (answer, answered) = sync_channel(1);
            let is_sent = mailbox.send(Event::Judge(tuples, answer)).is_ok();
            let Some(doomed) = is_sent.then(|| answered.recv().ok()).flatten() else {
                return Err(io::ErrorKind::NotConnected.into());
            };
            for (entry, _) in batch.iter().zip(doomed).filter(|(_, is_doomed)| *is_doomed) {
                match self.netlink.request(entry.family, ConntrackMessage::Delete(entry.identity.clone())) {
                    Ok(()) => cut += 1,
                    // It ended meanwhile.
                    Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(cut)
    }

    fn entries(&mut self, scope: &Scope, mut take: impl FnMut(Entry)) -> io::Result<()> {
        match scope {
            Scope::Addresses(addresses) if addresses.len() <= MOST_ADDRESSES => {
                for address in addresses {
                    for is_reply in [false, true] {
                        let family = family_of(*address);
                        match self.dump(family, filter(*address, is_reply), &mut take) {
                            // A kernel that cannot filter (before 5.8) lists everything.
                            Err(error) if is_unsupported(&error) => return self.everything(&mut take),
                            other => other?,
                        }
                    }
                }
                Ok(())
            }
            _ => self.everything(&mut take),
        }
    }

    fn everything(&mut self, take: &mut impl FnMut(Entry)) -> io::Result<()> {
        for family in [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6] {
            self.dump(family, Vec::new(), take)?;
        }
        Ok(())
    }

    fn dump(
        &mut self,
        family: NetfilterProtoFamily,
        attributes: Vec<ConntrackAttribute>,
        take: &mut impl FnMut(Entry),
    ) -> io::Result<()> {
        let result = self.netlink.dump(family, ConntrackMessage::Get(attributes), |message| {
            if let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message.inner
                && let Some(entry) = entry(family, attributes)
            {
                take(entry);
            }
        });
        match result {
            // Connections come and go while they are listed. What was missed is met by the next look.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            other => other,
        }
    }
}

/// Starts the thread that looks at connections, as it is ordered.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(mut conntrack: Conntrack, orders: Receiver<Order>, mailbox: Mailbox, metrics: Metrics) -> io::Result<()> {
    std::thread::Builder::new().name("connections".to_owned()).spawn(move || {
        let mut again: Option<(Instant, Scope)> = None;
        loop {
            let patience =
                again.as_ref().map_or(Duration::from_secs(3600), |(at, _)| at.saturating_duration_since(Instant::now()));
            let (scope, token) = match orders.recv_timeout(patience) {
                Ok(Order { scope, token }) => (scope, token),
                Err(RecvTimeoutError::Timeout) => (again.take().map_or(Scope::none(), |(_, scope)| scope), None),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let start = Instant::now();
            let result = conntrack.cut(&mailbox, &scope);
            metrics.cut_seconds.observe(seconds(start.elapsed()));
            if let Ok(cut) = &result {
                metrics.connections_cut.inc_by(*cut);
            }
            if patience > Duration::ZERO || result.is_err() {
                again = Some(match again {
                    Some((at, before)) => (at, before.union(scope)),
                    None => (Instant::now() + SECOND_LOOK, scope),
                });
            }
            if let Some(token) = token {
                let _ = mailbox.send(Event::Looked { token, result: result.map(drop).map_err(|error| error.to_string()) });
            }
        }
    })?;
    Ok(())
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EOPNOTSUPP | Errno::EINVAL))
}

fn family_of(address: IpAddr) -> NetfilterProtoFamily {
    if address.is_ipv4() { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 }
}

/// Asks for the entries whose original, or whose reply, source is this address.
fn filter(address: IpAddr, is_reply: bool) -> Vec<ConntrackAttribute> {
    let tuple = vec![Part::Ip(vec![IPTuple::SourceAddress(address)])];
    let flags =
        |kind, is_used: bool| DefaultNla::new(kind, if is_used { FILTER_SOURCE_ADDRESS } else { 0 }.to_ne_bytes().to_vec());
    let flags = [flags(CTA_FILTER_ORIG_FLAGS, !is_reply), flags(CTA_FILTER_REPLY_FLAGS, is_reply)];
    let mut bytes = vec![0; flags.as_slice().buffer_len()];
    flags.as_slice().emit(&mut bytes);
    let filter = ConntrackAttribute::Other(DefaultNla::new(CTA_FILTER | NLA_F_NESTED, bytes));
    let tuple = if is_reply { ConntrackAttribute::CtaTupleReply(tuple) } else { ConntrackAttribute::CtaTupleOrig(tuple) };
    vec![tuple, filter]
}

/// Addresses and ports of a tuple.
#[derive(Default)]
struct Ends {
    source: Option<IpAddr>,
    source_port: Option<u16>,
    protocol: Option<Number>,
}

fn ends(tuple: &[Part]) -> Ends {
    let mut out = Ends::default();
    for part in tuple {
        match part {
            Part::Ip(addresses) => {
                out.source = addresses.iter().find_map(|a| match a {
                    IPTuple::SourceAddress(address) => Some(*address),
                    _ => None,
                });
            }
            Part::Proto(parts) => {
                for part in parts {
                    match part {
                        ProtoTuple::Protocol(number) => out.protocol = Some(*number),
                        ProtoTuple::SourcePort(port) => out.source_port = Some(*port),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    out
}

fn entry(family: NetfilterProtoFamily, attributes: Vec<ConntrackAttribute>) -> Option<Entry> {
    let tuple = |is_reply: bool| {
        attributes.iter().find_map(move |a| match a {
            ConntrackAttribute::CtaTupleOrig(tuple) if !is_reply => Some(ends(tuple)),
            ConntrackAttribute::CtaTupleReply(tuple) if is_reply => Some(ends(tuple)),
            _ => None,
        })
    };
    // What replies come from is the destination after translation (S5.1).
    let (original, reply) = (tuple(false)?, tuple(true)?);
    let transport = match original.protocol? {
        Number::Tcp => Some(Transport::Tcp),
        Number::Udp => Some(Transport::Udp),
        Number::Sctp => Some(Transport::Sctp),
        _ => None,
    };
    let protocol = match transport {
        Some(transport) => Protocol::Port(transport, reply.source_port?),
        None => Protocol::Other,
    };
    let flow = Flow { source: original.source?, destination: reply.source?, protocol };
    let is_identity = |attribute: &ConntrackAttribute| match attribute {
        ConntrackAttribute::CtaTupleOrig(_) => true,
        ConntrackAttribute::Other(nla) => [CTA_ID, CTA_ZONE].contains(&nla.kind()),
        _ => false,
    };
    Some(Entry { flow, identity: attributes.into_iter().filter(is_identity).collect(), family })
}

/// The addresses of this network namespace.
fn node_addresses() -> io::Result<BTreeSet<IpAddr>> {
    let interfaces = nix::ifaddrs::getifaddrs()?;
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    };
    Ok(interfaces.filter_map(address).collect())
}
