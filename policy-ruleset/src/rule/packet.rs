//! The parts of a packet that rules refer to.
//!
//! What has both a name and a number has them here, once; where a field is in a header, the netlink printer knows.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use policy_core::sets::{Family, Transport, block_of};

/// An end of a packet's way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// `saddr`, `sport`.
    Source,
    /// `daddr`, `dport`.
    Destination,
}

impl Side {
    /// The opposite end.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

/// An address of a packet: `ip saddr`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressField {
    /// Its family: packets of the other one do not have it.
    pub family: Family,
    /// Whose it is.
    pub side: Side,
}

/// A part of a [`Key`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// `ip saddr`.
    Address(AddressField),
    /// `ip saddr & 255.255.255.0`: the address without what follows a prefix of this length.
    Network(AddressField, u8),
    /// `iifname`.
    Interface,
    /// `meta l4proto`.
    Protocol,
    /// `th dport`.
    Port(Side),
}

/// What of a packet is looked up in a set; each kind of set has its kinds of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// `iifname`.
    Interface,
    /// `ip saddr`.
    Address(AddressField),
    /// `ip saddr . ip daddr`.
    Pair(Family),
    /// `iifname . ip saddr`.
    Source(Family),
    /// `ip saddr . meta l4proto . th dport`.
    Port(AddressField),
    /// `ip saddr & 255.255.255.0 . meta l4proto . th dport`, with a prefix of this length.
    NetworkPort(AddressField, u8),
    /// `ip saddr . ip daddr . meta l4proto . th sport . th dport`.
    CutFlow {
        /// The family of both addresses.
        family: Family,
        /// The end that comes first.
        first: Side,
    },
    /// `ip saddr . ip daddr . meta l4proto`.
    CutPair {
        /// The family of both addresses.
        family: Family,
        /// The end that comes first.
        first: Side,
    },
}

impl Key {
    /// Its parts, in order. There is at least one.
    #[must_use]
    pub fn fields(self) -> Vec<Field> {
        let address = |family, side| Field::Address(AddressField { family, side });
        match self {
            Self::Interface => vec![Field::Interface],
            Self::Address(field) => vec![Field::Address(field)],
            Self::Pair(family) => vec![address(family, Side::Source), address(family, Side::Destination)],
            Self::Source(family) => vec![Field::Interface, address(family, Side::Source)],
            Self::Port(field) => vec![Field::Address(field), Field::Protocol, Field::Port(Side::Destination)],
            Self::NetworkPort(field, length) => {
                vec![Field::Network(field, length), Field::Protocol, Field::Port(Side::Destination)]
            }
            Self::CutPair { family, first } => vec![address(family, first), address(family, first.other()), Field::Protocol],
            Self::CutFlow { family, first } => vec![
                address(family, first),
                address(family, first.other()),
                Field::Protocol,
                Field::Port(first),
                Field::Port(first.other()),
            ],
        }
    }
}

/// The mask of a prefix.
#[must_use]
pub fn netmask(family: Family, length: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(u32::MAX.checked_shl(32u32.saturating_sub(length.into())).unwrap_or_default()).into(),
        Family::V6 => Ipv6Addr::from_bits(u128::MAX.checked_shl(128u32.saturating_sub(length.into())).unwrap_or_default()).into(),
    }
}

/// Addresses from the first to the last, written as briefly as they can be: as one, as a block, or by both ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressRange {
    /// `10.0.0.1`.
    One(IpAddr),
    /// `10.0.0.0/8`.
    Block(IpNet),
    /// `10.0.0.1-10.0.0.5`.
    Between(IpAddr, IpAddr),
}

impl AddressRange {
    /// The addresses between these two, which are of one family, and both included.
    #[must_use]
    pub fn new(first: IpAddr, last: IpAddr) -> Self {
        if first == last {
            return Self::One(first);
        }
        block_of(first, last).map_or(Self::Between(first, last), Self::Block)
    }

    /// The family of its addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::One(address) | Self::Between(address, _) => Family::of(*address),
            Self::Block(block) => Family::of(block.addr()),
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(address) => write!(f, "{address}"),
            Self::Block(block) => write!(f, "{block}"),
            Self::Between(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortRange {
    /// The first.
    pub low: u16,
    /// The last.
    pub high: u16,
}

impl fmt::Display for PortRange {
    /// `80`, `8000-9000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.low)?;
        if self.low != self.high {
            write!(f, "-{}", self.high)?;
        }
        Ok(())
    }
}

/// A protocol over IP, with its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of the protocols")]
pub enum IpProtocol {
    Icmp = 1,
    Tcp = 6,
    Udp = 17,
    Icmpv6 = 58,
    Sctp = 132,
}

impl IpProtocol {
    /// nft's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmpv6 => "ipv6-icmp",
            Self::Sctp => "sctp",
        }
    }

    /// IANA's number.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl From<Transport> for IpProtocol {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::Tcp,
            Transport::Udp => Self::Udp,
            Transport::Sctp => Self::Sctp,
        }
    }
}

/// What connection tracking says about a packet, with the bit that stands for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum ConnectionState {
    /// Part of no connection, or not readable.
    Invalid = 1,
    /// Part of a connection that is known.
    Established = 2,
    /// An error about a known connection, or what a helper expects.
    Related = 4,
}

impl ConnectionState {
    /// nft's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Established => "established",
            Self::Related => "related",
        }
    }

    /// `NF_CT_STATE_BIT`.
    #[must_use]
    pub fn bit(self) -> u32 {
        self as u32
    }
}

/// A header or an option that a packet may have, with its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Header {
    /// The routing header of IPv6: `exthdr rt`.
    Routing = 43,
    /// An option of IPv4: `ip option lsrr`.
    LooseSourceRoute = 131,
    /// An option of IPv4: `ip option ssrr`.
    StrictSourceRoute = 137,
}

impl Header {
    /// The options of IPv4.
    pub const IPV4_OPTIONS: [Self; 2] = [Self::LooseSourceRoute, Self::StrictSourceRoute];

    /// nft's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Routing => "rt",
            Self::LooseSourceRoute => "lsrr",
            Self::StrictSourceRoute => "ssrr",
        }
    }

    /// The number of the extension header or of the option.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The family of the packets that may have it.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::Routing => Family::V6,
            Self::LooseSourceRoute | Self::StrictSourceRoute => Family::V4,
        }
    }
}

/// A type of ICMPv6 messages, with its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of nft")]
pub enum Icmpv6Type {
    MldListenerQuery = 130,
    MldListenerReport = 131,
    MldListenerDone = 132,
    NdRouterSolicit = 133,
    NdRouterAdvert = 134,
    NdNeighborSolicit = 135,
    NdNeighborAdvert = 136,
    NdRedirect = 137,
    Mld2ListenerReport = 143,
}

impl Icmpv6Type {
    /// nft's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MldListenerQuery => "mld-listener-query",
            Self::MldListenerReport => "mld-listener-report",
            Self::MldListenerDone => "mld-listener-done",
            Self::NdRouterSolicit => "nd-router-solicit",
            Self::NdRouterAdvert => "nd-router-advert",
            Self::NdNeighborSolicit => "nd-neighbor-solicit",
            Self::NdNeighborAdvert => "nd-neighbor-advert",
            Self::NdRedirect => "nd-redirect",
            Self::Mld2ListenerReport => "mld2-listener-report",
        }
    }

    /// IANA's number.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn masks_keep_the_prefix() {
        let masks = [(0, "0.0.0.0"), (1, "128.0.0.0"), (24, "255.255.255.0"), (32, "255.255.255.255")];
        masks.iter().for_each(|(length, mask)| assert_eq!(netmask(Family::V4, *length), ip(mask)));
        let masks = [(0, "::"), (64, "ffff:ffff:ffff:ffff::"), (128, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")];
        masks.iter().for_each(|(length, mask)| assert_eq!(netmask(Family::V6, *length), ip(mask)));
    }

    #[test]
    fn ranges_are_written_briefly() {
        let text = |first, last| AddressRange::new(ip(first), ip(last)).to_string();
        assert_eq!(text("10.0.0.1", "10.0.0.1"), "10.0.0.1");
        assert_eq!(text("10.0.0.0", "10.255.255.255"), "10.0.0.0/8");
        assert_eq!(text("10.0.0.1", "10.0.0.5"), "10.0.0.1-10.0.0.5");
        assert_eq!(text("fd00::", "fd00::ffff"), "fd00::/112");
        assert_eq!(PortRange { low: 80, high: 80 }.to_string(), "80");
        assert_eq!(PortRange { low: 80, high: 90 }.to_string(), "80-90");
    }
}
