//! Rules with types: what they ask of a packet, and what happens to it.
//!
//! A [`Statement`] is what netpol renders and nothing else, so each of the three printers (`text`, `json`, `netlink`) has a form
//! for every rule that can be made. The documentation of each variant is the form in nft's language.
//!
//! - `packet`: the parts of a packet that statements refer to.

mod packet;

pub use packet::{
    AddressField, AddressRange, ConnectionState, Field, Header, Icmpv6Type, IpProtocol, Key, PortRange, Side, netmask,
};

use std::net::IpAddr;

use policy_core::sets::{Family, Transport};

/// Bytes of a comment: nft refuses more than 127.
const LONGEST_COMMENT: usize = 120;

/// A rule of a chain: its statements take effect from the first to the last, until one does not match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What it asks, and what it does.
    pub statements: Vec<Statement>,
    /// Why it is there, for people.
    pub comment: Comment,
}

impl Rule {
    /// A rule; an empty comment is none.
    #[must_use]
    pub fn new(statements: impl Into<Vec<Statement>>, comment: &str) -> Self {
        Self { statements: statements.into(), comment: Comment::new(comment) }
    }
}

/// A comment that nft accepts.
///
/// Shape: printable ASCII without quotes and backslashes, at most 120 bytes; empty for none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Comment(String);

impl Comment {
    /// A comment with this text: other characters become `?`, and what is too long is cut.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let plain: String = text.chars().map(|c| if matches!(c, ' '..='~') && c != '"' && c != '\\' { c } else { '?' }).collect();
        if plain.len() <= LONGEST_COMMENT {
            return Self(plain);
        }
        let kept: String = plain.chars().take(LONGEST_COMMENT - 3).collect();
        Self(format!("{kept}..."))
    }

    /// The text; `None` without one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0.as_str())
    }
}

/// A part of a rule: a condition, something that is noted about the packet, or its verdict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Statement {
    /// `ip saddr @SET`.
    InSet {
        /// What is looked up.
        key: Key,
        /// The name of the set.
        set: String,
    },
    /// `ip saddr 10.0.0.0/8`.
    InRange {
        /// Whose address is compared.
        side: Side,
        /// The addresses; they say of which family.
        range: AddressRange,
    },
    /// `udp dport 67`.
    ToPort(Transport, u16),
    /// `meta nfproto ipv4`.
    OfFamily(Family),
    /// `meta l4proto tcp`.
    OfProtocol(IpProtocol),
    /// `ct state established`.
    InState(ConnectionState),
    /// `ct status dnat`: the destination was translated.
    IsTranslated,
    /// `tcp flags & (fin | syn | rst | ack) != syn`.
    OpensNoConnection,
    /// `ip hdrlength != 5`.
    HasIpv4Options,
    /// `exthdr rt exists`.
    HasHeader(Header),
    /// `icmpv6 type { nd-router-solicit, … }`.
    OfIcmpv6Types(&'static [Icmpv6Type]),
    /// `ip6 hoplimit 255`.
    HopLimit(u8),
    /// `ip saddr vmap { 10.0.0.1 : goto CHAIN, … }`.
    VerdictMap(VerdictMap),
    /// `counter`.
    Counter,
    /// `limit rate RATE/second burst BURST packets`.
    Limit {
        /// Packets per second.
        rate: u32,
        /// Packets beyond the rate that match at once.
        burst: u32,
    },
    /// `log prefix "PREFIX" group GROUP snaplen SNAPLEN`.
    Log {
        /// What user space knows the rule by: the name of its chain.
        prefix: String,
        /// The NFLOG group.
        group: u16,
        /// Bytes of the packet that user space sees.
        snaplen: u32,
    },
    /// `update @SET { KEY }`.
    Update {
        /// The name of the set.
        set: String,
        /// The element.
        key: Key,
    },
    /// `jump CHAIN`.
    Jump(String),
    /// `goto CHAIN`.
    Goto(String),
    /// `return`.
    Return,
    /// `accept`.
    Accept,
    /// `drop`.
    Drop,
}

impl Statement {
    pub(crate) fn in_set(key: Key, set: impl Into<String>) -> Self {
        Self::InSet { key, set: set.into() }
    }

    pub(crate) fn jump(chain: impl Into<String>) -> Self {
        Self::Jump(chain.into())
    }

    pub(crate) fn goto(chain: impl Into<String>) -> Self {
        Self::Goto(chain.into())
    }
}

/// A map that belongs to one rule: what it finds goes to a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VerdictMap {
    /// `ip saddr vmap { 10.0.0.1 : goto CHAIN, … }`.
    Addresses {
        /// What is looked up.
        field: AddressField,
        /// Addresses of that family, with their chains. Sorted.
        chains: Vec<(IpAddr, String)>,
    },
    /// `meta l4proto . th dport vmap { tcp . 80 : goto CHAIN, … }`.
    Ports(Vec<(Transport, u16, String)>),
    /// `tcp dport vmap { 80-90 : goto CHAIN, … }`.
    PortRanges {
        /// The protocol.
        transport: Transport,
        /// Disjoint ranges with their chains. Sorted.
        chains: Vec<(PortRange, String)>,
    },
}

impl VerdictMap {
    /// The chains that it leads to, one for each element.
    pub fn chains(&self) -> impl Iterator<Item = &String> {
        let (addresses, ports, ranges) = match self {
            Self::Addresses { chains, .. } => (chains.as_slice(), [].as_slice(), [].as_slice()),
            Self::Ports(chains) => ([].as_slice(), chains.as_slice(), [].as_slice()),
            Self::PortRanges { chains, .. } => ([].as_slice(), [].as_slice(), chains.as_slice()),
        };
        let addresses = addresses.iter().map(|(_, chain)| chain);
        addresses.chain(ports.iter().map(|(.., chain)| chain)).chain(ranges.iter().map(|(_, chain)| chain))
    }

    /// How many elements it has.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Addresses { chains, .. } => chains.len(),
            Self::Ports(chains) => chains.len(),
            Self::PortRanges { chains, .. } => chains.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_what_nft_accepts() {
        let text = |comment: &str| Comment::new(comment).text().map(str::to_owned);
        assert_eq!(text(""), None);
        assert_eq!(text("a \"b\" \\ é\n"), Some("a ?b? ? ??".to_owned()));
        assert_eq!(text(&"x".repeat(120)), Some("x".repeat(120)));
        assert_eq!(text(&"x".repeat(121)), Some("x".repeat(117) + "..."));
    }
}
