//! The kernel's table of connections, and its sets of what was cut.
//!
//! Messages are written and read attribute by attribute: for requests, because the types of netlink-packet-netfilter 0.4 drop the
//! flag that marks a filter as nested, and the kernel refuses it then; for answers, because most of a hundred thousand of them are
//! looked at only for their addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Once;

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NlaBuffer, NlasIterator};
use netlink_packet_netfilter::{NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem};
use nix::errno::Errno;
use policy_ruleset::{Element, SetKind, TABLE, terminated};

use super::{Connections, Entry, Scope, Tuple};
use crate::kernel::netlink::Netlink;

// Messages: IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE, NFT_MSG_GETSETELEM.
const GET: u8 = 1;
const DELETE: u8 = 2;
const GET_ELEMENTS: u8 = 13;

// Attributes of a connection. ID and zone tell one from another with an equal tuple.
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
// A listing of only the entries whose tuples have this source address.
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
// The state of a TCP connection, and those in which it is over: TCP_CONNTRACK_TIME_WAIT, TCP_CONNTRACK_CLOSE.
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
const CLOSED: [u8; 2] = [7, 8];
/// `IPS_DST_NAT`.
const STATUS_DNAT: u32 = 1 << 5;
const FILTER_SOURCE_ADDRESS: u32 = 1;
// Attributes of a tuple.
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
// Attributes of elements: table, set, elements; the key of one, and its value.
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS_LIST: u16 = 3;
const ELEMENT_KEY: u16 = 1;
const DATA_VALUE: u16 = 1;

/// Each address is looked for twice, as the source of either direction, and each time the kernel walks its whole table; for more
/// addresses than these, it is cheaper to list everything once.
const MOST_FILTERED: usize = 3;
/// How often a list of elements is read again that changed meanwhile.
const TRIES: usize = 3;

/// The kernel's tables of connections and of what was cut.
pub struct Conntrack {
    netlink: Netlink,
    can_filter: bool,
}

impl Conntrack {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When there is no netfilter netlink.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()?, can_filter: true })
    }

    fn everything(&mut self, scope: &Scope, take: &mut dyn FnMut(Entry)) -> io::Result<usize> {
        // Both families in one walk.
        self.dump(NetfilterProtoFamily::Unspec, Vec::new(), scope, take)
    }

    fn dump(
        &mut self,
        family: NetfilterProtoFamily,
        attributes: Vec<DefaultNla>,
        scope: &Scope,
        take: &mut dyn FnMut(Entry),
    ) -> io::Result<usize> {
        let mut listed = 0;
        let result = self.netlink.dump_raw(family, conntrack(GET, attributes), |answer| {
            listed += 1;
            if let Some(entry) = entry(answer, scope) {
                take(entry);
            }
        });
        match result {
            // Connections come and go while they are listed. What was missed is met by the next look.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(listed),
            other => other.map(|()| listed),
        }
    }

    fn elements(&mut self, set: &str, kind: SetKind) -> io::Result<Vec<Element>> {
        let text = |attribute, text: &str| DefaultNla::new(attribute, [text.as_bytes(), &[0]].concat());
        let mut out = Vec::new();
        for _ in 0..TRIES {
            out.clear();
            let request = NetfilterMessageInner::Other {
                subsys: NetfilterSubsystem::NfTables,
                message_type: GET_ELEMENTS,
                attributes: vec![text(ELEMENTS_TABLE, TABLE), text(ELEMENTS_SET, set)],
            };
            let result = self.netlink.dump_raw(NetfilterProtoFamily::Inet, request, |answer| {
                for item in find(answer, ELEMENTS_LIST).into_iter().flat_map(NlasIterator::new).flatten() {
                    let value = find(item.value(), ELEMENT_KEY).and_then(|key| find(key, DATA_VALUE));
                    out.extend(value.and_then(|value| element(kind, value)));
                }
            });
            match result {
                Ok(()) => return Ok(out),
                // Nobody is isolated.
                Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => return Ok(Vec::new()),
                // The ruleset changed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // What was listed may not be all.
        Err(io::ErrorKind::Interrupted.into())
    }
}

impl Connections for Conntrack {
    fn list(&mut self, scope: &Scope, take: &mut dyn FnMut(Entry)) -> io::Result<usize> {
        let Scope::Addresses(addresses) = scope else { return self.everything(scope, take) };
        if addresses.len() > MOST_FILTERED || !self.can_filter {
            return self.everything(scope, take);
        }
        let mut listed = 0;
        for address in addresses {
            for is_reply in [false, true] {
                match self.dump(family_of(*address), filter(*address, is_reply), scope, take) {
                    Ok(more) => listed += more,
                    Err(error) if is_unsupported(&error) => {
                        self.can_filter = false;
                        return self.everything(scope, take);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(listed)
    }

    fn delete(&mut self, entry: &Entry) -> io::Result<bool> {
        let family = family_of(entry.tuple.source);
        match self.netlink.request(family, conntrack(DELETE, entry.identity.clone())) {
            Ok(()) => Ok(true),
            // It ended meanwhile.
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn held(&mut self) -> io::Result<Vec<Element>> {
        let mut out = Vec::new();
        for (set, kind) in terminated::sets() {
            out.extend(self.elements(&set, kind)?);
        }
        Ok(out)
    }
}

/// Whether the kernel cannot filter (before Linux 5.8). If it finds fault with the request, everything is listed just as well, but
/// that is a defect.
fn is_unsupported(error: &io::Error) -> bool {
    static WARNED: Once = Once::new();
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EOPNOTSUPP) => true,
        Some(Errno::EINVAL) => {
            WARNED.call_once(|| {
                tracing::warn!(%error, "the kernel cannot filter connections by address; listing all of them each time");
            });
            true
        }
        _ => false,
    }
}

fn family_of(address: IpAddr) -> NetfilterProtoFamily {
    if address.is_ipv4() { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 }
}

fn conntrack(message_type: u8, attributes: Vec<DefaultNla>) -> NetfilterMessageInner {
    NetfilterMessageInner::Other { subsys: NetfilterSubsystem::Conntrack, message_type, attributes }
}

fn nested(kind: u16, inner: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; inner.buffer_len()];
    inner.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}

/// Asks for the entries whose original, or whose reply, source is this address.
fn filter(address: IpAddr, is_reply: bool) -> Vec<DefaultNla> {
    let source = match address {
        IpAddr::V4(a) => DefaultNla::new(CTA_IP_V4_SRC, a.octets().to_vec()),
        IpAddr::V6(a) => DefaultNla::new(CTA_IP_V6_SRC, a.octets().to_vec()),
    };
    let tuple = if is_reply { CTA_TUPLE_REPLY } else { CTA_TUPLE_ORIG };
    let flags = |kind, is_used: bool| {
        let flags: u32 = if is_used { FILTER_SOURCE_ADDRESS } else { 0 };
        DefaultNla::new(kind, flags.to_ne_bytes().to_vec())
    };
    let flags = [flags(CTA_FILTER_ORIG_FLAGS, !is_reply), flags(CTA_FILTER_REPLY_FLAGS, is_reply)];
    vec![nested(tuple, &[nested(CTA_TUPLE_IP, &[source])]), nested(CTA_FILTER, &flags)]
}

/// The value of an attribute among others.
fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    NlasIterator::new(bytes).flatten().find(|nla| nla.kind() == kind).map(value)
}

fn value(nla: NlaBuffer<&[u8]>) -> &[u8] {
    nla.into_inner().get(4..usize::from(nla.length())).unwrap_or_default()
}

/// Addresses of a tuple: its source, in either family.
fn source(tuple: &[u8]) -> Option<IpAddr> {
    NlasIterator::new(find(tuple, CTA_TUPLE_IP)?).flatten().find_map(|nla| match nla.kind() {
        CTA_IP_V4_SRC => Some(IpAddr::V4(Ipv4Addr::from(*value(nla).first_chunk()?))),
        CTA_IP_V6_SRC => Some(IpAddr::V6(Ipv6Addr::from(*value(nla).first_chunk()?))),
        _ => None,
    })
}

fn source_port(protocol: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*find(protocol, CTA_PROTO_SRC_PORT)?.first_chunk()?))
}

/// A connection of the scope, read from an answer.
fn entry(answer: &[u8], scope: &Scope) -> Option<Entry> {
    // What replies come from is the destination after translation (S5.1).
    let (original, reply) = (find(answer, CTA_TUPLE_ORIG)?, find(answer, CTA_TUPLE_REPLY)?);
    let (from, to) = (source(original)?, source(reply)?);
    if !scope.has(&from) && !scope.has(&to) {
        return None;
    }
    let (forth, back) = (find(original, CTA_TUPLE_PROTO)?, find(reply, CTA_TUPLE_PROTO)?);
    let protocol = *find(forth, CTA_PROTO_NUM)?.first()?;
    let ports = source_port(forth).zip(source_port(back));
    let is_identity = |nla: &NlaBuffer<&[u8]>| [CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE].contains(&nla.kind());
    let copy = |nla: NlaBuffer<&[u8]>| {
        let flag = if nla.nested_flag() { NLA_F_NESTED } else { 0 };
        DefaultNla::new(nla.kind() | flag, value(nla).to_vec())
    };
    let identity = NlasIterator::new(answer).flatten().filter(is_identity).map(copy).collect();
    let status = find(answer, CTA_STATUS).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes));
    let is_translated = status & STATUS_DNAT != 0;
    let state =
        find(answer, CTA_PROTOINFO).and_then(|info| find(find(info, CTA_PROTOINFO_TCP)?, CTA_PROTOINFO_TCP_STATE)?.first());
    let is_closed = state.is_some_and(|state| CLOSED.contains(state));
    Some(Entry { tuple: Tuple { source: from, destination: to, protocol, ports, is_translated }, is_closed, identity })
}

/// An element of a set of what was cut, read from its key.
fn element(kind: SetKind, key: &[u8]) -> Option<Element> {
    let (source, destination, rest) = match kind.family()? {
        policy_core::sets::Family::V4 => {
            let (source, rest) = key.split_first_chunk::<4>()?;
            let (destination, rest) = rest.split_first_chunk::<4>()?;
            (IpAddr::V4(Ipv4Addr::from(*source)), IpAddr::V4(Ipv4Addr::from_octets(*destination)), rest)
        }
        policy_core::sets::Family::V6 => {
            let (source, rest) = key.split_first_chunk::<16>()?;
            let (destination, rest) = rest.split_first_chunk::<16>()?;
            (IpAddr::V6(Ipv6Addr::from(*source)), IpAddr::V6(Ipv6Addr::from_octets(*destination)), rest)
        }
    };
    // Each part has four bytes.
    match (kind, rest) {
        (SetKind::CutFlows(_), [protocol, _, _, _, a, b, _, _, c, d, ..]) => Some(Element::CutFlow {
            source,
            destination,
            protocol: *protocol,
            source_port: u16::from_be_bytes([*a, *b]),
            destination_port: u16::from_be_bytes([*c, *d]),
        }),
        (SetKind::CutPairs(_), [protocol, ..]) => Some(Element::CutPair(source, destination, *protocol)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// struct nlattr: length, type; a nested attribute has bit 15 of the type, and the kernel refuses it without.
    #[test]
    fn filters_are_marked_as_nested() {
        let attributes = filter("10.0.0.1".parse().unwrap(), false);
        let mut bytes = vec![0; attributes.as_slice().buffer_len()];
        attributes.as_slice().emit(&mut bytes);
        assert_eq!(bytes[..16], [16, 0, 1, 0x80, 12, 0, 1, 0x80, 8, 0, 1, 0, 10, 0, 0, 1]);
        assert_eq!(bytes[16..20], [20, 0, 25, 0x80]);
        // Flags are of the machine's byte order.
        assert_eq!(bytes[20..24], [8, 0, 1, 0]);
        assert_eq!(bytes[24..28], 1u32.to_ne_bytes());
        assert_eq!(bytes[28..], [8, 0, 2, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn keys_of_elements_are_read() {
        let family = policy_core::sets::Family::V4;
        let key = [10, 0, 0, 1, 10, 0, 0, 2, 17, 0, 0, 0, 0, 53, 0, 0, 4, 210, 0, 0];
        let (source, destination) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let flow = Element::CutFlow { source, destination, protocol: 17, source_port: 53, destination_port: 1234 };
        assert_eq!(element(SetKind::CutFlows(family), &key), Some(flow));
        assert_eq!(element(SetKind::CutPairs(family), &key[..12]), Some(Element::CutPair(source, destination, 17)));
        assert_eq!(element(SetKind::CutFlows(family), &key[..12]), None);
    }
}
