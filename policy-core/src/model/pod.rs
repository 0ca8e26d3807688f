//! Pods, as far as traffic has to do with them.

use std::net::IpAddr;

use super::{Labels, ObjectKey, WorkloadKey};
use crate::sets::Transport;

/// A Pod.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pod {
    /// What distinguishes it from its predecessors of the same name, where that is known. Nothing is decided by it.
    pub uid: Option<String>,
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.labels`.
    pub labels: Labels,
    /// Where it runs.
    pub placement: Placement,
    /// `status.phase`.
    pub phase: Phase,
    /// `spec.hostNetwork`.
    pub is_host_network: bool,
    /// `status.podIPs`, else `status.podIP` (S2.2).
    pub addresses: Addresses,
    /// The named ports of containers and sidecars (S1.55). Sorted, without repeats.
    pub ports: Vec<NamedPort>,
    /// Those of them that sidecars have and no container does. Nothing is decided by it.
    pub sidecar_ports: Vec<NamedPort>,
    /// The controller it belongs to.
    pub owner: Option<WorkloadKey>,
    /// Whether something that decides who it is could not be read: its labels, an address, its node, its phase or its network
    /// (S2.25). It matches no selector, and its addresses are in quarantine on its node.
    pub is_unknown: bool,
}

impl Pod {
    /// Whether policies can select it and match it: scheduled, on the pod network, not finished, with an address.
    ///
    /// Source: S2.1.
    #[must_use]
    pub fn is_endpoint(&self) -> bool {
        self.not_endpoint_because().is_none()
    }

    /// The addresses to be held in quarantine, wherever the pod runs: those of a pod that cannot be read, and that may be an
    /// endpoint (S2.25).
    #[must_use]
    pub fn held_addresses(&self) -> &[IpAddr] {
        match &self.addresses {
            Addresses::Known(addresses) if self.is_unknown && self.may_be_endpoint() => addresses,
            _ => &[],
        }
    }

    /// Whether all that could be read leaves it possible that it is an endpoint.
    fn may_be_endpoint(&self) -> bool {
        !self.is_host_network && self.phase == Phase::Live && self.placement != Placement::Unscheduled
    }

    /// Why it is no endpoint, in words that follow "it"; `None` for an endpoint.
    #[must_use]
    pub fn not_endpoint_because(&self) -> Option<&'static str> {
        if self.is_host_network {
            Some("uses the host network, so its traffic is that of its node")
        } else if self.phase == Phase::Finished {
            Some("is finished (phase Succeeded or Failed)")
        } else if self.placement == Placement::Unscheduled {
            Some("is not scheduled (no `spec.nodeName`)")
        } else if self.is_unknown {
            Some("cannot be read: a label, an address, `spec.nodeName`, `status.phase` or `spec.hostNetwork` is invalid")
        } else if self.addresses == Addresses::Known(Vec::new()) {
            Some("has no address yet (no `status.podIP`)")
        } else {
            None
        }
    }
}

/// Where a pod runs.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Placement {
    /// `spec.nodeName` is empty.
    Unscheduled,
    /// On this node.
    Node(String),
    /// On some node: the pod represents those that a manifest would create.
    Somewhere,
}

/// The addresses of a pod.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Addresses {
    /// Those of its status; possibly none.
    Known(Vec<IpAddr>),
    /// It will have one that is not known from a manifest. It is assumed to be IPv4, and in a block only if the block is all of
    /// IPv4.
    Unknown,
}

/// The phase of a pod, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Pending, Running, Unknown or not given.
    Live,
    /// Succeeded or Failed: identity has ended (S2.3).
    Finished,
}

/// A named container port.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NamedPort {
    /// `ports[].name`.
    pub name: String,
    /// `ports[].protocol`, TCP when absent.
    pub protocol: Transport,
    /// `ports[].containerPort`.
    pub number: u16,
}
