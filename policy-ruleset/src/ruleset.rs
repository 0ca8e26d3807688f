//! Sets, chains and rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use policy_core::graph::{AllowGraph, NamedAtom, PeerSetId};
use policy_core::model::{Direction, ObjectKey};
use policy_core::plan::InterfaceName;
use policy_core::sets::{Family, Transport};

use crate::port_peers::PortPeers;
use crate::rule::Rule;

/// Everything in the table, by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ruleset {
    /// Named sets.
    pub sets: BTreeMap<String, Set>,
    /// Chains with their rules.
    pub chains: BTreeMap<String, Chain>,
    /// The description of each of them.
    pub descriptions: BTreeMap<String, Description>,
}

/// The description of a set or a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// In words.
    pub text: String,
    /// For chains of a group: the group. Its chains share it.
    pub group: Option<Arc<GroupDescription>>,
}

/// What the chains of a group and direction stand for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDescription {
    /// The direction.
    pub direction: Direction,
    /// The group, as `namespace/app`.
    pub name: String,
    /// Its pods on this node, as `namespace/name`.
    pub pods: Vec<String>,
    /// The policies that isolate it.
    pub policies: Vec<ObjectKey>,
}

impl Description {
    /// A description without pods.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), group: None }
    }
}

/// A chain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Chain {
    /// Where packets enter it; `None` for chains that others jump to.
    pub hook: Option<Hook>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// Where packets enter a chain. Both are of type filter, at priority filter, and accept what no rule drops.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Hook {
    /// Packets to this node.
    Input,
    /// Packets that this node passes on.
    Forward,
}

/// A named set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Set {
    /// What its elements are.
    pub kind: SetKind,
    /// Its elements, or where they come from.
    pub contents: Contents,
}

/// What the elements of a set are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SetKind {
    /// Addresses: `type ipv4_addr`.
    Addresses(Family),
    /// Disjoint ranges of addresses: `type ipv4_addr; flags interval`.
    Ranges(Family),
    /// Source and destination: `type ipv4_addr . ipv4_addr`.
    Pairs(Family),
    /// Address, protocol and port: `type ipv4_addr . inet_proto . inet_service`.
    Ports(Family),
    /// What is left of connections that were cut: source, destination, protocol, source port and destination port, for some
    /// time: `type ipv4_addr . ipv4_addr . inet_proto . inet_service . inet_service; flags dynamic,timeout`.
    CutFlows(Family),
    /// The same for protocols without ports: `type ipv4_addr . ipv4_addr . inet_proto; flags dynamic,timeout`.
    CutPairs(Family),
    /// Interfaces by name: `type ifname`.
    Interfaces,
    /// Interface and source address: `type ifname . ipv4_addr`.
    Sources(Family),
}

/// The elements of a set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Contents {
    /// These.
    Fixed(BTreeSet<Element>),
    /// The pod addresses of a peer set: they change all the time, so the graph keeps them.
    Members(PeerSetId),
    /// Where a named port leads.
    Named(NamedAtom),
    /// What only the kernel knows: elements that come and go while packets pass.
    Dynamic,
    /// The pod addresses of many peer sets, with the ports that they get.
    PortPeers(Arc<PortPeers>),
}

/// An element of a set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Element {
    /// An address.
    Address(IpAddr),
    /// The first and the last address of a range.
    Range(IpAddr, IpAddr),
    /// A source and a destination.
    Pair(IpAddr, IpAddr),
    /// An address, a protocol and a port.
    Port(IpAddr, Transport, u16),
    /// Packets of a connection that was cut, as the end sends them that did not open it.
    CutFlow {
        /// Their source.
        source: IpAddr,
        /// Their destination.
        destination: IpAddr,
        /// The number of their IP protocol.
        protocol: u8,
        /// Their source port.
        source_port: u16,
        /// Their destination port.
        destination_port: u16,
    },
    /// The same without ports: source, destination and the number of the protocol.
    CutPair(IpAddr, IpAddr, u8),
    /// An interface.
    Interface(InterfaceName),
    /// An interface and a source address.
    Source(InterfaceName, IpAddr),
}

impl SetKind {
    /// The family of its addresses, if it holds any.
    #[must_use]
    pub fn family(self) -> Option<Family> {
        match self {
            Self::Addresses(family)
            | Self::Ranges(family)
            | Self::Pairs(family)
            | Self::Ports(family)
            | Self::CutFlows(family)
            | Self::CutPairs(family)
            | Self::Sources(family) => Some(family),
            Self::Interfaces => None,
        }
    }

    /// Whether its elements come and go while packets pass.
    #[must_use]
    pub fn is_dynamic(self) -> bool {
        matches!(self, Self::CutFlows(_) | Self::CutPairs(_))
    }

    /// Whether its elements have several parts.
    #[must_use]
    pub fn is_concatenation(self) -> bool {
        !matches!(self, Self::Addresses(_) | Self::Ranges(_) | Self::Interfaces)
    }
}

impl Set {
    /// Its elements; sorted.
    #[must_use]
    pub fn elements(&self, graph: &AllowGraph) -> Vec<Element> {
        let family = self.kind.family();
        match &self.contents {
            Contents::Fixed(elements) => elements.iter().copied().collect(),
            Contents::Members(set) => {
                graph.members(*set).into_iter().filter(|a| Some(Family::of(*a)) == family).map(Element::Address).collect()
            }
            Contents::Named(atom) => {
                let (_, transport) = graph.named_port(atom);
                let members = graph.named_members(atom).into_iter().filter(|(a, _)| Some(Family::of(*a)) == family);
                members.map(|(address, port)| Element::Port(address, transport, port)).collect()
            }
            Contents::Dynamic => Vec::new(),
            Contents::PortPeers(source) => family.map_or_else(Vec::new, |family| source.elements(family, graph)),
        }
    }
}

impl Ruleset {
    pub(crate) fn add_set(&mut self, name: String, kind: SetKind, contents: Contents, description: impl Into<String>) {
        self.descriptions.insert(name.clone(), Description::text(description));
        self.sets.insert(name, Set { kind, contents });
    }

    pub(crate) fn add_chain(&mut self, name: impl Into<String>, chain: Chain, description: Description) {
        let name = name.into();
        self.descriptions.insert(name.clone(), description);
        self.chains.insert(name, chain);
    }

    /// The same with every element in it.
    #[must_use]
    pub fn filled(&self, graph: &AllowGraph) -> Self {
        let fill = |set: &Set| Set { kind: set.kind, contents: Contents::Fixed(set.elements(graph).into_iter().collect()) };
        let sets = self.sets.iter().map(|(name, set)| (name.clone(), fill(set))).collect();
        Self { sets, chains: self.chains.clone(), descriptions: self.descriptions.clone() }
    }
}
