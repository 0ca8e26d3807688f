//! The ends of flows: who an address is, and which addresses a pod has (S2).

use std::net::IpAddr;

use smallvec::{SmallVec, smallvec};

use super::{AllowGraph, NodeId, PodId};
use crate::sets::{AddressSet, Family};

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

    /// A pod like this one, at an address and on a node that are not known.
    pub(crate) fn replica(&self) -> Self {
        Self { address: None, nodes: SmallVec::new(), ..self.clone() }
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
    fn endpoint_at(&self, pod: PodId, address: IpAddr) -> Endpoint {
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
            return record.addresses.iter().map(|address| self.endpoint_at(pod, *address)).collect();
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
}
