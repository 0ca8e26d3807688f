//! Cuts established connections that lost their verdict (S3.9).
//!
//! Each tracked connection is judged as the flow that opened it: source as it came, destination after translation. One that
//! is not allowed any more is deleted from the kernel's table; the ruleset does the rest, because what comes next of it opens
//! no connection.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::DefaultNla;
use netlink_packet_core::{Emitable, NLA_F_NESTED, Nla};
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol as Number, Tuple};
use netlink_packet_netfilter::{NetfilterMessageInner, NetfilterProtoFamily};
use nix::errno::Errno;
use policy_core::graph::AllowGraph;
use policy_core::sets::{Protocol, Transport};
use policy_core::verdict::Flow;

use crate::kernel::netlink::Netlink;

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

    /// Deletes the connections in `scope` that the graph does not allow any more, and returns them.
    ///
    /// What the node itself opened is left alone, whatever its source address (S2.11): `node` are the node's own addresses.
    ///
    /// # Errors
    /// When the kernel does not list or delete them. Some may be deleted then.
    pub fn cut(&mut self, graph: &AllowGraph, scope: &Scope, node: &BTreeSet<IpAddr>) -> io::Result<Vec<Flow>> {
        let mut doomed: Vec<Entry> = Vec::new();
        let judge = |entry: Entry| {
            if !node.contains(&entry.flow.source) && !graph.verdict(&entry.flow).is_allowed() {
                doomed.push(entry);
            }
        };
        self.entries(scope, judge)?;
        let mut cut = Vec::with_capacity(doomed.len());
        for entry in doomed {
            match self.netlink.request(entry.family, ConntrackMessage::Delete(entry.identity)) {
                Ok(()) => cut.push(entry.flow),
                // It ended meanwhile.
                Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
                Err(error) => return Err(error),
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

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EOPNOTSUPP | Errno::EINVAL))
}

fn family_of(address: IpAddr) -> NetfilterProtoFamily {
    if address.is_ipv4() { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 }
}

/// Asks for the entries whose original, or whose reply, source is this address.
fn filter(address: IpAddr, is_reply: bool) -> Vec<ConntrackAttribute> {
    let tuple = vec![Tuple::Ip(vec![IPTuple::SourceAddress(address)])];
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

fn ends(tuple: &[Tuple]) -> Ends {
    let mut out = Ends::default();
    for part in tuple {
        match part {
            Tuple::Ip(addresses) => {
                out.source = addresses.iter().find_map(|a| match a {
                    IPTuple::SourceAddress(address) => Some(*address),
                    _ => None,
                });
            }
            Tuple::Proto(parts) => {
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
