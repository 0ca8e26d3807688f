//! NetworkPolicy after lowering.

use std::fmt;

use ipnet::IpNet;
use serde::Serialize;

use super::{ObjectKey, Origin, Selector};
use crate::sets::{AddressSet, PortSet, Transport};

/// Pairs of ports and peers that one decision may have, together with the selectors and address ranges of its peer sets. Rules with
/// ranges of ports that overlap make a peer set for each port at which one begins or ends, so few rules can make very many: twelve
/// thousand rules, which one policy can have, 72 million. A pod with more than this gets no traffic.
pub const MOST_PEERS: usize = 250_000;

/// The direction of a rule or of isolation, seen from the pod that the policy selects.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Away from the selected pod.
    Egress,
    /// Towards the selected pod.
    Ingress,
}

impl Direction {
    /// Both, in the order in which a flow meets them.
    pub const ALL: [Self; 2] = [Self::Egress, Self::Ingress];
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        })
    }
}

/// A NetworkPolicy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Where it is written, when it came from a file.
    pub origin: Option<Origin>,
    /// `spec.podSelector`, over pods of the policy's namespace. One that could not be read is `Selector::everything()`.
    pub target: Selector,
    /// The ingress rules; `None` when the policy does not isolate for ingress.
    pub ingress: Option<Vec<Rule>>,
    /// The egress rules; `None` when the policy does not isolate for egress.
    pub egress: Option<Vec<Rule>>,
}

impl Policy {
    /// The rules of one direction; `None` when the policy does not isolate for it.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Egress => self.egress.as_deref(),
            Direction::Ingress => self.ingress.as_deref(),
        }
    }

    /// Every selector over pods: that of the policy, then those of the peers of its rules.
    pub fn pod_selectors(&self) -> impl Iterator<Item = &Selector> {
        let rules = self.ingress.iter().chain(&self.egress).flatten();
        let peers = rules.flat_map(|rule| match &rule.peers {
            Peers::Listed(peers) => peers.as_slice(),
            Peers::Everyone => &[],
        });
        let of_peers = peers.filter_map(|peer| match peer {
            Peer::Pods { pods, .. } => Some(pods),
            Peer::Block(_) | Peer::Unreadable => None,
        });
        std::iter::once(&self.target).chain(of_peers)
    }
}

/// One rule: peers AND ports (S3.2).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rule {
    /// Line in the policy's file, 1-based; 0 when unknown.
    pub line: u32,
    /// The other ends.
    pub peers: Peers,
    /// The protocols and ports.
    pub ports: Ports,
}

/// The other ends that a rule names.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Peers {
    /// `from` or `to` is absent or empty: every address, in the cluster or not.
    Everyone,
    /// At least one of these.
    Listed(Vec<Peer>),
}

/// One entry of `from` or `to`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Peer {
    /// Endpoints by label (S1.33).
    Pods {
        /// Whose pods.
        namespaces: NamespaceScope,
        /// Which of them.
        pods: Selector,
    },
    /// Addresses by number.
    Block(IpBlock),
    /// An entry that could not be read, and so matches nothing (S1.20).
    Unreadable,
}

/// The namespaces that a peer's pods are in.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum NamespaceScope {
    /// The policy's own.
    Own,
    /// Those with matching labels.
    Matching(Selector),
}

/// `ipBlock`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct IpBlock {
    /// `cidr`, host bits cleared.
    pub cidr: IpNet,
    /// `except`, host bits cleared.
    pub except: Vec<IpNet>,
}

impl IpBlock {
    /// The addresses in `cidr` and in none of its exceptions. An exception narrows only its own block (S1.43).
    #[must_use]
    pub fn addresses(&self) -> AddressSet {
        AddressSet::block_except(self.cidr, &self.except)
    }
}

impl fmt::Display for IpBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cidr)?;
        for (i, net) in self.except.iter().enumerate() {
            write!(f, "{}{net}", if i == 0 { " except " } else { ", " })?;
        }
        Ok(())
    }
}

/// The protocols and ports that a rule names.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Ports {
    /// `ports` is absent or empty: every IP protocol (S1.60).
    All,
    /// At least one of these.
    Listed(Vec<PortEntry>),
}

impl Ports {
    /// What is named by number; every protocol and port if nothing is listed.
    #[must_use]
    pub fn numbers(&self) -> PortSet {
        let Self::Listed(entries) = self else { return PortSet::all() };
        let ranges: Vec<(Transport, u16, u16)> = entries
            .iter()
            .filter_map(|entry| match entry {
                PortEntry::Range { protocol, low, high } => Some((*protocol, *low, *high)),
                PortEntry::Named { .. } | PortEntry::Unreadable => None,
            })
            .collect();
        PortSet::from_ranges(&ranges)
    }

    /// What is named by name, in the order of the list.
    pub fn names(&self) -> impl Iterator<Item = (Transport, &str)> {
        let entries = if let Self::Listed(entries) = self { entries.as_slice() } else { &[] };
        entries.iter().filter_map(|entry| match entry {
            PortEntry::Named { protocol, name } => Some((*protocol, name.as_str())),
            PortEntry::Range { .. } | PortEntry::Unreadable => None,
        })
    }
}

/// One entry of `ports`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PortEntry {
    /// Ports by number, both ends included; 1 to 65535 for "every port".
    Range {
        /// The protocol.
        protocol: Transport,
        /// The first port.
        low: u16,
        /// The last port.
        high: u16,
    },
    /// A port by the name that the destination's containers give it (S1.53, S1.54).
    Named {
        /// The protocol that the container port must have.
        protocol: Transport,
        /// The name.
        name: String,
    },
    /// An entry that could not be read, and so matches nothing (S1.20).
    Unreadable,
}

impl fmt::Display for PortEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { protocol, low: 1, high: u16::MAX } => write!(f, "{protocol}"),
            Self::Range { protocol, low, high } if low == high => write!(f, "{protocol}/{low}"),
            Self::Range { protocol, low, high } => write!(f, "{protocol}/{low}-{high}"),
            Self::Named { protocol, name } => write!(f, "{protocol}/{name}"),
            Self::Unreadable => f.write_str("an unreadable entry"),
        }
    }
}
