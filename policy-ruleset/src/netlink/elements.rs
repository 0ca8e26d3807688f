//! Elements of sets and maps.

use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, Emitable, Nla};
use netlink_packet_netfilter::nftables::{SetElementList, SetElementMessage};
use policy_core::sets::Family;

use super::attributes::{be32, nested, raw};
use crate::rule::IpProtocol;
use crate::{Element, SetKind, TABLE};

/// Attribute lengths are 16 bit; a message holds at most this many bytes of elements.
const MOST_BYTES: usize = 48 << 10;

/// Ids of named sets and of anonymous ones are apart.
pub(super) const NAMED_SET_IDS: u32 = 1 << 30;

// nft's numbers for the types of keys, six bits each in a concatenation.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_INET_PROTO: u32 = 12;
const TYPE_INET_SERVICE: u32 = 13;
const TYPE_IFNAME: u32 = 41;

/// `NFTA_LIST_ELEM`.
const LIST_ELEMENT: u16 = 1;
/// `NFTA_SET_ELEM_LIST_ELEMENTS`.
const ELEMENTS: u16 = 3;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_FLAGS: u16 = 3;
const ELEMENT_USERDATA: u16 = 6;
/// `NFTA_DATA_VALUE`.
const DATA_VALUE: u16 = 1;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;
/// `NFTNL_UDATA_SET_ELEM_FLAGS` with `INTERVAL_OPEN`: how nft marks a range that ends with the address space.
const OPEN_RANGE: [u8; 6] = [1, 4, 1, 0, 0, 0];

/// The type of a set's keys as nft numbers it, and their length in bytes.
pub(super) fn key_type(kind: SetKind) -> (u32, u32) {
    let (address, length) = match kind.family() {
        Some(Family::V6) => (TYPE_IPV6, 16),
        _ => (TYPE_IPV4, 4),
    };
    match kind {
        SetKind::Addresses(_) | SetKind::Ranges(_) => (address, length),
        SetKind::Pairs(_) => ((address << 6) | address, 2 * length),
        SetKind::Ports(_) => ((((address << 6) | TYPE_INET_PROTO) << 6) | TYPE_INET_SERVICE, length + 8),
        SetKind::CutPairs(_) => (concatenated(&[address, address, TYPE_INET_PROTO]), 2 * length + 4),
        SetKind::CutFlows(_) => {
            (concatenated(&[address, address, TYPE_INET_PROTO, TYPE_INET_SERVICE, TYPE_INET_SERVICE]), 2 * length + 12)
        }
        SetKind::Interfaces => (TYPE_IFNAME, 16),
        SetKind::Sources(_) => ((TYPE_IFNAME << 6) | address, 16 + length),
    }
}

/// nft's number for a concatenation of types.
fn concatenated(types: &[u32]) -> u32 {
    types.iter().fold(0, |all, one| (all << 6) | one)
}

/// The type and the length of `meta l4proto . th dport`.
pub(super) const PORT_KEY: (u32, u32) = ((TYPE_INET_PROTO << 6) | TYPE_INET_SERVICE, 8);

/// The type and the length of `tcp dport`.
pub(super) const SERVICE_KEY: (u32, u32) = (TYPE_INET_SERVICE, 2);

/// What nft notes about a set: its keys are big endian, or, in a concatenation, of no one order.
pub(super) fn set_userdata(is_concatenation: bool) -> Vec<u8> {
    vec![0, 4, if is_concatenation { 0 } else { 2 }, 0, 0, 0]
}

/// The same for a named set. The names of interfaces are in the order of the host.
pub(super) fn named_set_userdata(kind: SetKind) -> Vec<u8> {
    match kind {
        SetKind::Interfaces => vec![0, 4, 1, 0, 0, 0],
        kind => set_userdata(kind.is_concatenation()),
    }
}

/// The bytes of an address, in network order.
pub(super) fn address(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// A protocol and a port, each padded to four bytes.
pub(super) fn port_key(protocol: u8, port: u16) -> [u8; 8] {
    let [high, low] = port.to_be_bytes();
    [protocol, 0, 0, 0, high, low, 0, 0]
}

/// `{ NFTA_SET_ELEM_KEY: { NFTA_DATA_VALUE: key } }`
pub(super) fn key(bytes: Vec<u8>) -> DefaultNla {
    nested(ELEMENT_KEY, &[raw(DATA_VALUE, bytes)])
}

/// The address after this one, unless it is the last.
fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(a) => a.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(a) => a.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

fn push(element: &Element, out: &mut Vec<DefaultNla>) {
    match element {
        Element::Address(a) => out.push(nested(LIST_ELEMENT, &[key(address(*a))])),
        Element::Pair(a, b) => out.push(nested(LIST_ELEMENT, &[key([address(*a), address(*b)].concat())])),
        Element::Port(a, transport, port) => {
            let bytes = [address(*a), port_key(IpProtocol::from(*transport).number(), *port).to_vec()].concat();
            out.push(nested(LIST_ELEMENT, &[key(bytes)]));
        }
        Element::CutFlow { source, destination, protocol, source_port, destination_port } => {
            let [high, low] = destination_port.to_be_bytes();
            let ports = port_key(*protocol, *source_port);
            let bytes = [&address(*source)[..], &address(*destination), &ports, &[high, low, 0, 0]].concat();
            out.push(nested(LIST_ELEMENT, &[key(bytes)]));
        }
        Element::CutPair(source, destination, protocol) => {
            let bytes = [&address(*source)[..], &address(*destination), &[*protocol, 0, 0, 0]].concat();
            out.push(nested(LIST_ELEMENT, &[key(bytes)]));
        }
        Element::Interface(name) => out.push(nested(LIST_ELEMENT, &[key(name.bytes().to_vec())])),
        Element::Source(name, a) => out.push(nested(LIST_ELEMENT, &[key([name.bytes().to_vec(), address(*a)].concat())])),
        // A range is its first address, and an end mark at the first address after it.
        Element::Range(low, high) => match next(*high) {
            Some(end) => {
                out.push(nested(LIST_ELEMENT, &[key(address(*low))]));
                out.push(nested(LIST_ELEMENT, &[be32(ELEMENT_FLAGS, INTERVAL_END), key(address(end))]));
            }
            None => out.push(nested(LIST_ELEMENT, &[key(address(*low)), raw(ELEMENT_USERDATA, OPEN_RANGE)])),
        },
    }
}

/// The elements of an interval map of ports. Ranges must come in order.
///
/// What ends where the next range begins has no end mark, as nft does it: kernels that look intervals up in a tree may find the mark
/// first, and take the first port of the next range for one outside.
pub(super) fn port_ranges(ranges: Vec<(u16, u16, DefaultNla)>) -> Vec<DefaultNla> {
    let key_of = |port: u16| key(port.to_be_bytes().to_vec());
    let end_at = |port| nested(LIST_ELEMENT, &[be32(ELEMENT_FLAGS, INTERVAL_END), key_of(port)]);
    let mut out = Vec::new();
    // Where what is outside begins.
    let mut outside = Some(0);
    for (low, high, data) in ranges {
        out.extend(outside.filter(|start| *start < low).map(end_at));
        outside = high.checked_add(1);
        let open = outside.is_none().then(|| raw(ELEMENT_USERDATA, OPEN_RANGE));
        out.push(nested(LIST_ELEMENT, &[vec![key_of(low), data], open.into_iter().collect()].concat()));
    }
    out.extend(outside.map(end_at));
    out
}

/// Cuts elements into messages of a size that netlink takes.
pub(super) fn split(elements: Vec<DefaultNla>, attributes: &[SetElementList]) -> Vec<SetElementMessage> {
    let mut out = Vec::new();
    let mut bytes = Vec::new();
    let mut finish = |bytes: &mut Vec<u8>| {
        let mut attributes = attributes.to_vec();
        attributes.push(SetElementList::Other(raw(ELEMENTS | netlink_packet_core::NLA_F_NESTED, std::mem::take(bytes))));
        out.push(SetElementMessage { attributes });
    };
    for element in elements {
        if bytes.len() + element.value_len() > MOST_BYTES {
            finish(&mut bytes);
        }
        let start = bytes.len();
        bytes.resize(start + element.buffer_len(), 0);
        if let Some(place) = bytes.get_mut(start..) {
            element.emit(place);
        }
    }
    if !bytes.is_empty() {
        finish(&mut bytes);
    }
    out
}

/// The messages that add elements to a named set, or delete them from it.
pub(super) fn messages(set: &str, kind: SetKind, list: &[Element]) -> Vec<SetElementMessage> {
    let mut elements = Vec::with_capacity(list.len());
    if let (SetKind::Ranges(_), Some(Element::Range(first, _))) = (kind, list.first())
        && !first.is_unspecified()
    {
        // nft marks what comes before the first range as outside.
        let zero = if first.is_ipv4() { vec![0; 4] } else { vec![0; 16] };
        elements.push(nested(LIST_ELEMENT, &[be32(ELEMENT_FLAGS, INTERVAL_END), key(zero)]));
    }
    for element in list {
        push(element, &mut elements);
    }
    split(elements, &[SetElementList::Table(TABLE.to_owned()), SetElementList::Set(set.to_owned())])
}

/// All elements of a set, to be removed.
pub(super) fn all(set: &str) -> SetElementMessage {
    SetElementMessage { attributes: vec![SetElementList::Table(TABLE.to_owned()), SetElementList::Set(set.to_owned())] }
}

/// An element of an anonymous set or map, from its parts.
pub(super) fn element(parts: &[DefaultNla]) -> DefaultNla {
    nested(LIST_ELEMENT, parts)
}
