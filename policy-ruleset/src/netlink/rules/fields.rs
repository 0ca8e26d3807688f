//! Where the fields of a packet are, and what must hold for them to be there.

use policy_core::sets::{Family, Transport};

use crate::rule::{AddressField, Field, IpProtocol, Side};

// Keys of meta, bases of payload.
pub(super) const META_IIFNAME: u32 = 6;
pub(super) const META_NFPROTO: u32 = 15;
pub(super) const META_L4PROTO: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// What must hold for a field to be there: meta keys and their values.
pub(super) type Needs = &'static [(u32, u8)];

const NOTHING: Needs = &[];
const IPV4: Needs = &[(META_NFPROTO, NFPROTO_IPV4)];
const IPV6: Needs = &[(META_NFPROTO, NFPROTO_IPV6)];
const ICMPV6: Needs = &[(META_NFPROTO, NFPROTO_IPV6), (META_L4PROTO, IpProtocol::Icmpv6 as u8)];
const TCP: Needs = &[(META_L4PROTO, IpProtocol::Tcp as u8)];
const UDP: Needs = &[(META_L4PROTO, IpProtocol::Udp as u8)];
const SCTP: Needs = &[(META_L4PROTO, IpProtocol::Sctp as u8)];

/// A field of a header.
pub(super) struct Place {
    pub needs: Needs,
    pub base: u32,
    /// In bytes.
    pub offset: u32,
    /// In bytes.
    pub length: u32,
}

pub(super) const IPV4_HEADER_LENGTH: Place = Place { needs: IPV4, base: NETWORK_HEADER, offset: 0, length: 1 };
pub(super) const HOP_LIMIT: Place = Place { needs: IPV6, base: NETWORK_HEADER, offset: 7, length: 1 };
pub(super) const ICMPV6_TYPE: Place = Place { needs: ICMPV6, base: TRANSPORT_HEADER, offset: 0, length: 1 };
pub(super) const TCP_FLAGS: Place = Place { needs: TCP, base: TRANSPORT_HEADER, offset: 13, length: 1 };

pub(super) fn address(AddressField { family, side }: AddressField) -> Place {
    let (offset, length) = match (family, side) {
        (Family::V4, Side::Source) => (12, 4),
        (Family::V4, Side::Destination) => (16, 4),
        (Family::V6, Side::Source) => (8, 16),
        (Family::V6, Side::Destination) => (24, 16),
    };
    Place { needs: of_family(family), base: NETWORK_HEADER, offset, length }
}

/// `th sport`: of whatever protocol.
pub(super) fn port(side: Side) -> Place {
    let offset = match side {
        Side::Source => 0,
        Side::Destination => 2,
    };
    Place { needs: NOTHING, base: TRANSPORT_HEADER, offset, length: 2 }
}

/// `tcp dport`.
pub(super) fn destination_port(transport: Transport) -> Place {
    let needs = match transport {
        Transport::Tcp => TCP,
        Transport::Udp => UDP,
        Transport::Sctp => SCTP,
    };
    Place { needs, ..port(Side::Destination) }
}

/// What must hold for a part of a key to be there.
pub(super) fn needs(field: Field) -> Needs {
    match field {
        Field::Address(address) | Field::Network(address, _) => of_family(address.family),
        Field::Interface | Field::Protocol | Field::Port(_) => NOTHING,
    }
}

/// That a packet is of a family.
pub(super) fn of_family(family: Family) -> Needs {
    match family {
        Family::V4 => IPV4,
        Family::V6 => IPV6,
    }
}

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
pub(super) fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    }
}
