//! Destination ports per IP protocol.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::RangeSet;

/// A protocol whose ports a NetworkPolicy can name.
///
/// Source: `NetworkPolicyPort.protocol` of <https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/>.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// Transmission Control Protocol, IP protocol 6.
    Tcp,
    /// User Datagram Protocol, IP protocol 17.
    Udp,
    /// Stream Control Transmission Protocol, IP protocol 132.
    Sctp,
}

impl Transport {
    /// All of them, in the order in which they are printed.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The spelling of the Kubernetes API: `TCP`, `UDP`, `SCTP`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// The protocol with exactly this API spelling.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a flow carries: a transport with a destination port, or any other IP protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Protocol {
    /// TCP, UDP or SCTP to this destination port.
    Port(Transport, u16),
    /// ICMP, ICMPv6, GRE, ESP or any other protocol without ports that a policy can name.
    Other,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(transport, port) => write!(f, "{transport}/{port}"),
            Self::Other => f.write_str("other protocols"),
        }
    }
}

/// A set of (protocol, destination port).
///
/// Shape: canonical port ranges (1 to 65535, inclusive) for each of TCP, UDP and SCTP, and one bit for all other protocols
/// together, because no policy can distinguish those.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct PortSet {
    tcp: RangeSet<u16>,
    udp: RangeSet<u16>,
    sctp: RangeSet<u16>,
    other: bool,
}

impl PortSet {
    /// The lowest port that traffic can have.
    pub const FIRST: u16 = 1;
    /// The highest port that traffic can have.
    pub const LAST: u16 = u16::MAX;

    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Every protocol and every port.
    #[must_use]
    pub fn all() -> Self {
        let ports = RangeSet::range(Self::FIRST, Self::LAST);
        Self { tcp: ports.clone(), udp: ports.clone(), sctp: ports, other: true }
    }

    /// The ports `low` to `high` of one transport, both included.
    #[must_use]
    pub fn range(transport: Transport, low: u16, high: u16) -> Self {
        let mut set = Self::none();
        *set.ports_mut(transport) = RangeSet::range(low.max(Self::FIRST), high);
        set
    }

    /// The union of port ranges.
    pub(crate) fn from_ranges(ranges: &[(Transport, u16, u16)]) -> Self {
        let mut set = Self::none();
        for transport in Transport::ALL {
            let own = ranges.iter().filter(|(t, ..)| *t == transport).map(|(_, low, high)| (*low, *high));
            *set.ports_mut(transport) = RangeSet::from_ranges(own);
        }
        set
    }

    /// One port of one transport, or all protocols without ports.
    #[must_use]
    pub fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Port(transport, port) => Self::range(transport, port, port),
            Protocol::Other => Self { other: true, ..Self::default() },
        }
    }

    /// The ports of one transport.
    #[must_use]
    pub fn ports(&self, transport: Transport) -> &RangeSet<u16> {
        match transport {
            Transport::Tcp => &self.tcp,
            Transport::Udp => &self.udp,
            Transport::Sctp => &self.sctp,
        }
    }

    fn ports_mut(&mut self, transport: Transport) -> &mut RangeSet<u16> {
        match transport {
            Transport::Tcp => &mut self.tcp,
            Transport::Udp => &mut self.udp,
            Transport::Sctp => &mut self.sctp,
        }
    }

    /// Whether protocols other than TCP, UDP and SCTP are in the set.
    #[must_use]
    pub fn has_other_protocols(&self) -> bool {
        self.other
    }

    /// Whether the set has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.other && Transport::ALL.iter().all(|t| self.ports(*t).is_empty())
    }

    /// Whether the set is everything.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::all()
    }

    /// Whether one protocol and port is in the set.
    #[must_use]
    pub fn contains(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Port(transport, port) => self.ports(transport).contains(port),
            Protocol::Other => self.other,
        }
    }

    fn zip(
        &self,
        other: &Self,
        ranges: fn(&RangeSet<u16>, &RangeSet<u16>) -> RangeSet<u16>,
        bit: fn(bool, bool) -> bool,
    ) -> Self {
        Self {
            tcp: ranges(&self.tcp, &other.tcp),
            udp: ranges(&self.udp, &other.udp),
            sctp: ranges(&self.sctp, &other.sctp),
            other: bit(self.other, other.other),
        }
    }

    /// What is in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.zip(other, RangeSet::union, |a, b| a | b)
    }

    /// What is in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.zip(other, RangeSet::intersection, |a, b| a & b)
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.zip(other, RangeSet::difference, |a, b| a & !b)
    }

    /// The set per protocol as users read it, TCP first, other protocols last.
    #[must_use]
    pub fn by_protocol(&self) -> Vec<ProtocolPorts> {
        let mut out: Vec<ProtocolPorts> = Transport::ALL
            .into_iter()
            .filter(|t| !self.ports(*t).is_empty())
            .map(|t| ProtocolPorts {
                protocol: t.name().to_owned(),
                ports: self.ports(t).iter().map(|(low, high)| range_text(low, high)).collect(),
            })
            .collect();
        if self.other {
            out.push(ProtocolPorts { protocol: "other".to_owned(), ports: Vec::new() });
        }
        out
    }
}

fn range_text(low: u16, high: u16) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}

/// The ports of one protocol in text, the unit of every report.
///
/// Shape: `protocol` is `TCP`, `UDP`, `SCTP` or `other`; `ports` holds `"80"` or `"8000-9000"`, `"1-65535"` for all, and is
/// left out of JSON for `other`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ProtocolPorts {
    /// `TCP`, `UDP`, `SCTP`, or `other` for every other IP protocol.
    pub protocol: String,
    /// Ports and ranges, ascending, both ends included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
}

impl fmt::Display for PortSet {
    /// `all`, `none`, or `TCP 80,443; UDP 53; other protocols`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("all");
        }
        if self.is_empty() {
            return f.write_str("none");
        }
        for (i, part) in self.by_protocol().iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            match part.protocol.as_str() {
                "other" => f.write_str("other protocols")?,
                name => write!(f, "{name} {}", part.ports.join(","))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_users_read() {
        assert_eq!(PortSet::all().to_string(), "all");
        assert_eq!(PortSet::none().to_string(), "none");
        let set = PortSet::range(Transport::Tcp, 80, 80)
            .union(&PortSet::range(Transport::Tcp, 8000, 9000))
            .union(&PortSet::range(Transport::Udp, 53, 53))
            .union(&PortSet::of(Protocol::Other));
        assert_eq!(set.to_string(), "TCP 80,8000-9000; UDP 53; other protocols");
    }

    #[test]
    fn all_ports_of_every_protocol_is_not_all_without_the_others() {
        let ports = Transport::ALL.into_iter().fold(PortSet::none(), |set, t| set.union(&PortSet::range(t, 1, 65535)));
        assert!(!ports.is_all());
        assert!(ports.union(&PortSet::of(Protocol::Other)).is_all());
    }
}
