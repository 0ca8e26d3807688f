//! One flow, and all ports of a pair.

use std::net::IpAddr;

use crate::graph::{AllowGraph, Decision, Endpoint, GroupId, OwnNodeEgress, PodId};
use crate::model::Direction;
use crate::sets::{PortSet, Protocol, Transport};

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
    /// The verdict on one flow. Cost: two address look-ups and one search per side; no allocation.
    #[must_use]
    pub fn verdict(&self, flow: &Flow) -> Verdict {
        let (source, destination) = (self.endpoint(flow.source), self.endpoint(flow.destination));
        let is_same = source.is_same_endpoint(&destination);
        self.evaluate(&source, &destination, is_same, flow.protocol)
    }

    /// The verdict on a flow whose destination was not translated. A pod's packets to itself only leave it on the way through a
    /// Service; others that claim to be such are not the pod's own, and are judged like those between any two ends (S2.15).
    #[must_use]
    pub fn verdict_untranslated(&self, flow: &Flow) -> Verdict {
        self.evaluate(&self.endpoint(flow.source), &self.endpoint(flow.destination), false, flow.protocol)
    }

    /// The verdict between two ends. `is_same` is whether both are one pod; two replicas of one workload are not.
    #[must_use]
    pub fn evaluate(&self, source: &Endpoint, destination: &Endpoint, is_same: bool, protocol: Protocol) -> Verdict {
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
                        n.transport == transport
                            && self.is_named(other.pods(), &(n.name, transport, port))
                            && self.holds(n.peers, other)
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
                for atom in named.iter().filter(|n| !other.pods().is_empty() && self.holds(n.peers, other)) {
                    let numbers = self.numbers(other.pods(), atom.name, atom.transport);
                    ranges.extend(numbers.map(|number| (atom.transport, number, number)));
                }
                PortSet::from_ranges(&ranges)
            }
        }
    }
}
