//! One flow, and all ports of a pair.

use std::net::IpAddr;

use smallvec::{SmallVec, smallvec};

use crate::graph::{AllowGraph, Decision, GroupId, NodeId, OwnNodeEgress, PeerSetId, PodId};
use crate::model::Direction;
use crate::sets::{AddressSet, Family, PortSet, Protocol, RangeSet, Transport};

/// The first packet of a connection, after destination translation (S0.4).
///
/// A source address that is a node's is taken for a process of that node: forwarded traffic that only carries a node's
/// address gets no privilege from S2.11 in the kernel, and cannot be distinguished here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Flow {
    /// The source address.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
    /// IP protocol, and destination port where the protocol has ports.
    pub protocol: Protocol,
}

/// One end of a flow, identified by S2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// The endpoints that claim the address; several are S2.5.
    pub(crate) pods: SmallVec<[PodId; 1]>,
    /// The address; `None` for a pod that a manifest will make.
    pub(crate) address: Option<IpAddr>,
    pub(crate) family: Family,
    /// The nodes whose processes send from here; only without endpoints.
    pub(crate) nodes: SmallVec<[NodeId; 1]>,
    /// Whether it is a process of a node, of which the name may be unknown.
    pub(crate) is_node: bool,
}

impl Endpoint {
    /// Somebody who is no pod and no node, at this address.
    #[must_use]
    pub fn outside(address: IpAddr) -> Self {
        Self {
            pods: SmallVec::new(),
            address: Some(address),
            family: Family::of(address),
            nodes: SmallVec::new(),
            is_node: false,
        }
    }

    /// The same end in a flow of another family, when its address is not known.
    #[must_use]
    pub fn in_family(mut self, family: Family) -> Self {
        if self.address.is_none() {
            self.family = family;
        }
        self
    }

    /// The address, when it is known.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The address family of the flow.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The endpoints that claim the address.
    #[must_use]
    pub fn pods(&self) -> &[PodId] {
        &self.pods
    }

    /// Whether no endpoint and no node has the address.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.pods.is_empty() && !self.is_node
    }

    /// Whether it is a process of a node.
    #[must_use]
    pub fn is_node(&self) -> bool {
        self.is_node
    }

    /// Whether both are the same endpoint (S2.14).
    #[must_use]
    pub fn is_same_endpoint(&self, other: &Self) -> bool {
        let is_same_address = self.address.is_some() && self.address == other.address;
        !self.pods.is_empty() && (is_same_address || (self.pods.len() == 1 && self.pods == other.pods))
    }
}

/// Why one side of a flow is as it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cause {
    /// The end is not an endpoint, so no policy applies to it (S3.4).
    NotAnEndpoint,
    /// A pod and itself (S2.14).
    SamePod,
    /// The pod's own node: always towards the pod (S2.11), and away from it where S2.13 is read so.
    OwnNode,
    /// The graph is for one node, and the endpoint is on another, which judges this side itself (S2.7).
    OtherNode,
    /// No policy isolates the endpoint in this direction (S3.1).
    NotIsolated,
    /// A rule allows it (S3.3).
    Allowed,
    /// Isolated, and no rule allows it (S3.3).
    Denied,
    /// It is not known whose address it is (S3.11).
    Quarantined,
}

impl Cause {
    /// Whether this side lets the flow pass.
    #[must_use]
    pub fn is_allowed(self) -> bool {
        !matches!(self, Self::Denied | Self::Quarantined)
    }

    /// The rule of the semantics behind it.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::NotAnEndpoint => "S3.4",
            Self::SamePod => "S2.14",
            Self::OwnNode => "S2.11",
            Self::OtherNode => "S2.7",
            Self::NotIsolated => "S3.1",
            Self::Allowed | Self::Denied => "S3.3",
            Self::Quarantined => "S3.11",
        }
    }
}

/// The verdict on one flow: both sides must allow it (S3.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Verdict {
    /// The verdict of the policies of the source.
    pub egress: Cause,
    /// The verdict of the policies of the destination.
    pub ingress: Cause,
}

impl Verdict {
    /// Whether the connection can be opened.
    #[must_use]
    pub fn is_allowed(self) -> bool {
        self.egress.is_allowed() && self.ingress.is_allowed()
    }
}

impl AllowGraph {
    /// Who an address is (S2).
    #[must_use]
    pub fn endpoint(&self, address: IpAddr) -> Endpoint {
        let pods = self.claimants(address);
        let nodes = if pods.is_empty() { self.nodes_at(address) } else { SmallVec::new() };
        Endpoint { pods, address: Some(address), family: Family::of(address), is_node: !nodes.is_empty(), nodes }
    }

    /// A process of this node, at one of its addresses; `None` as address when it is not known.
    #[must_use]
    pub fn node_endpoint(&self, node: &str, address: Option<IpAddr>) -> Endpoint {
        let nodes = self.nodes.find(node).into_iter().collect();
        Endpoint { pods: SmallVec::new(), address, family: address.map_or(Family::V4, Family::of), nodes, is_node: true }
    }

    /// Every address of a block that an endpoint or a node has; sorted.
    #[must_use]
    pub fn known_addresses(&self, within: &AddressSet) -> Vec<IpAddr> {
        let pods = self.pods.iter().flat_map(|(_, pod)| pod.addresses.iter().copied());
        let nodes = self.nodes.iter().flat_map(|(.., node)| node.addresses.iter().copied());
        let mut out: Vec<IpAddr> = pods.chain(nodes).filter(|address| within.contains(*address)).collect();
        out.sort_unstable();
        out.dedup();
        out
    }

    /// The endpoint at a pod's address. A hostNetwork pod is its node, also where an endpoint claims the same address.
    fn party_at(&self, pod: PodId, address: IpAddr) -> Endpoint {
        let record = self.pods.get(pod);
        if record.template.is_some() {
            return self.endpoint(address);
        }
        Endpoint {
            pods: SmallVec::new(),
            address: Some(address),
            family: Family::of(address),
            nodes: record.node.into_iter().collect(),
            is_node: true,
        }
    }

    /// A pod as an end of a flow, once for each of its addresses. A pod that a manifest will make is one IPv4 end without a
    /// known address. Empty when the pod is neither an endpoint nor on the host network.
    #[must_use]
    pub fn endpoints_of(&self, pod: PodId) -> Vec<Endpoint> {
        let record = self.pods.get(pod);
        if !record.addresses.is_empty() {
            return record.addresses.iter().map(|address| self.party_at(pod, *address)).collect();
        }
        if record.template.is_some() {
            return vec![Endpoint {
                pods: smallvec![pod],
                address: None,
                family: Family::V4,
                nodes: SmallVec::new(),
                is_node: false,
            }];
        }
        if record.is_host_network {
            return vec![Endpoint {
                pods: SmallVec::new(),
                address: None,
                family: Family::V4,
                nodes: record.node.into_iter().collect(),
                is_node: true,
            }];
        }
        Vec::new()
    }

    /// The verdict on one flow. Cost: two address look-ups and one search per side; no allocation.
    #[must_use]
    pub fn verdict(&self, flow: &Flow) -> Verdict {
        let (source, destination) = (self.endpoint(flow.source), self.endpoint(flow.destination));
        let is_same = source.is_same_endpoint(&destination);
        self.judge(&source, &destination, is_same, flow.protocol)
    }

    /// The verdict on a flow whose destination was not translated. A pod's packets to itself only leave it on the way through a
    /// Service; others that claim to be such are not the pod's own, and are judged like those between any two ends (S2.15).
    #[must_use]
    pub fn verdict_untranslated(&self, flow: &Flow) -> Verdict {
        self.judge(&self.endpoint(flow.source), &self.endpoint(flow.destination), false, flow.protocol)
    }

    /// The verdict between two ends. `is_same` is whether both are one pod; two replicas of one workload are not.
    #[must_use]
    pub fn judge(&self, source: &Endpoint, destination: &Endpoint, is_same: bool, protocol: Protocol) -> Verdict {
        if is_same {
            return Verdict { egress: Cause::SamePod, ingress: Cause::SamePod };
        }
        Verdict {
            egress: self.side(source, Direction::Egress, destination, protocol),
            ingress: self.side(destination, Direction::Ingress, source, protocol),
        }
    }

    fn side(&self, subject: &Endpoint, direction: Direction, other: &Endpoint, protocol: Protocol) -> Cause {
        if let Some(cause) = self.quarantine_side(subject, direction, other) {
            return cause;
        }
        let mut cause = Cause::NotAnEndpoint;
        // S2.5: the policies of every claimant apply, so each of them must let the flow pass.
        for pod in &subject.pods {
            cause = self.pod_side(*pod, direction, other, protocol);
            if !cause.is_allowed() {
                break;
            }
        }
        cause
    }

    fn pod_side(&self, subject: PodId, direction: Direction, other: &Endpoint, protocol: Protocol) -> Cause {
        if self.is_exempt(subject, direction, other) {
            return Cause::OwnNode;
        }
        if !self.is_in_scope(subject) {
            return Cause::OtherNode;
        }
        let Some(decision) = self.group_of(subject).and_then(|group| self.decision(group, direction)) else {
            // Not compiled: nothing is known, so nothing is allowed.
            return Cause::Denied;
        };
        match decision {
            Decision::Open => Cause::NotIsolated,
            Decision::Isolated { any, .. } if self.holds(*any, other) => Cause::Allowed,
            Decision::Isolated { atoms, named, .. } => {
                let Protocol::Port(transport, port) = protocol else { return Cause::Denied };
                let at = atoms.partition_point(|atom| (atom.transport, atom.high) < (transport, port));
                let is_listed = atoms
                    .get(at)
                    .is_some_and(|atom| atom.transport == transport && atom.low <= port && self.holds(atom.peers, other));
                let is_named = || {
                    named.iter().any(|n| {
                        n.transport == transport && self.has_port(other, (n.name, transport, port)) && self.holds(n.peers, other)
                    })
                };
                if is_listed || is_named() { Cause::Allowed } else { Cause::Denied }
            }
        }
    }

    /// What becomes of an end of which it is not known whose address it is (S3.11); `None` for all others.
    pub(crate) fn quarantine_side(&self, subject: &Endpoint, direction: Direction, other: &Endpoint) -> Option<Cause> {
        let is_held = subject.address.is_some_and(|address| self.quarantine.values().any(|held| held.contains(&address)));
        let is_own_node = self.only_node.is_some_and(|node| other.nodes.contains(&node));
        let is_exempt = is_own_node && direction == Direction::Ingress;
        is_held.then_some(if is_exempt { Cause::OwnNode } else { Cause::Quarantined })
    }

    /// Whether the other end is the subject's own node, and policies do not apply to it (S2.11, S2.13).
    pub(crate) fn is_exempt(&self, subject: PodId, direction: Direction, other: &Endpoint) -> bool {
        let is_exempt = direction == Direction::Ingress || self.own_node_egress == OwnNodeEgress::Allow;
        is_exempt && self.pods.get(subject).node.is_some_and(|node| other.nodes.contains(&node))
    }

    /// Whether every claimant of the other end names this port so (S1.54, S2.5).
    fn has_port(&self, other: &Endpoint, port: (crate::graph::Symbol, Transport, u16)) -> bool {
        !other.pods.is_empty()
            && other.pods.iter().all(|pod| {
                self.group_of(*pod).is_some_and(|group| self.ports.key(self.groups.key(group).ports).binary_search(&port).is_ok())
            })
    }

    /// Whether a peer set holds an end.
    pub(crate) fn holds(&self, set: PeerSetId, endpoint: &Endpoint) -> bool {
        let content = self.peer_sets.key(set);
        is_in_blocks(&content.blocks, endpoint) || self.is_in_terms(&content.terms, endpoint)
    }

    fn is_in_terms(&self, terms: &[crate::graph::TermId], endpoint: &Endpoint) -> bool {
        let Some(first) = endpoint.pods.first().and_then(|pod| self.group_of(*pod)) else { return false };
        if terms.is_empty() {
            return false;
        }
        let all_in = |term: crate::graph::TermId| {
            let groups = &self.terms.data(term).groups;
            endpoint.pods.iter().all(|pod| self.group_of(*pod).is_some_and(|group| groups.contains(group)))
        };
        let own = &self.groups.data(first).terms;
        if own.len() < terms.len() {
            own.iter().any(|term| terms.binary_search(term).is_ok() && all_in(*term))
        } else {
            terms.iter().any(|term| all_in(*term))
        }
    }

    /// What policies of the source, and policies of the destination, let through between two ends.
    #[must_use]
    pub fn ports_between(&self, source: &Endpoint, destination: &Endpoint, is_same: bool) -> (PortSet, PortSet) {
        if is_same {
            return (PortSet::all(), PortSet::all());
        }
        (self.side_ports(source, Direction::Egress, destination), self.side_ports(destination, Direction::Ingress, source))
    }

    pub(crate) fn side_ports(&self, subject: &Endpoint, direction: Direction, other: &Endpoint) -> PortSet {
        match self.quarantine_side(subject, direction, other) {
            Some(Cause::Quarantined) => return PortSet::none(),
            Some(_) => return PortSet::all(),
            None => {}
        }
        let mut ports: Option<PortSet> = None;
        for pod in &subject.pods {
            let of_pod = self.pod_ports(*pod, direction, other);
            ports = Some(ports.map_or_else(|| of_pod.clone(), |p| p.intersection(&of_pod)));
        }
        ports.unwrap_or_else(PortSet::all)
    }

    fn pod_ports(&self, subject: PodId, direction: Direction, other: &Endpoint) -> PortSet {
        if self.is_exempt(subject, direction, other) || !self.is_in_scope(subject) {
            return PortSet::all();
        }
        self.group_of(subject).map_or_else(PortSet::none, |group| self.group_ports(group, direction, other))
    }

    pub(crate) fn group_ports(&self, group: GroupId, direction: Direction, other: &Endpoint) -> PortSet {
        match self.decision(group, direction) {
            None => PortSet::none(),
            Some(Decision::Open) => PortSet::all(),
            Some(Decision::Isolated { any, .. }) if self.holds(*any, other) => PortSet::all(),
            Some(Decision::Isolated { atoms, named, .. }) => {
                let mut ranges: Vec<(Transport, u16, u16)> =
                    atoms.iter().filter(|a| self.holds(a.peers, other)).map(|a| (a.transport, a.low, a.high)).collect();
                if let Some(first) = other.pods.first().and_then(|pod| self.group_of(*pod)) {
                    for atom in named.iter().filter(|n| self.holds(n.peers, other)) {
                        for port in self.ports.key(self.groups.key(first).ports) {
                            if port.0 == atom.name && port.1 == atom.transport && self.has_port(other, *port) {
                                ranges.push((port.1, port.2, port.2));
                            }
                        }
                    }
                }
                PortSet::from_ranges(&ranges)
            }
        }
    }
}

/// An unknown address is in a block only if the block is the whole family.
pub(crate) fn is_in_blocks(blocks: &AddressSet, endpoint: &Endpoint) -> bool {
    match endpoint.address {
        Some(address) => blocks.contains(address),
        None => blocks.covers(endpoint.family),
    }
}

impl PortSet {
    /// The union of port ranges.
    pub(crate) fn from_ranges(ranges: &[(Transport, u16, u16)]) -> Self {
        Transport::ALL.into_iter().fold(Self::none(), |set, transport| {
            let own = RangeSet::from_ranges(ranges.iter().filter(|(t, ..)| *t == transport).map(|(_, low, high)| (*low, *high)));
            set.with(transport, own)
        })
    }
}
