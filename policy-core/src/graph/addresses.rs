//! Who has an address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::FxHashMap;
use smallvec::{SmallVec, smallvec};

use super::{NodeId, PodId, shrink_map};

/// Addresses of endpoints and of nodes.
///
/// Shape: one small map per family for the normal case of one claimant, one map for shared addresses.
#[derive(Default)]
pub(crate) struct AddressIndex {
    v4: FxHashMap<u32, PodId>,
    v6: FxHashMap<u128, PodId>,
    shared: BTreeMap<IpAddr, Vec<PodId>>,
    nodes: FxHashMap<IpAddr, SmallVec<[(NodeId, u32); 1]>>,
}

impl AddressIndex {
    fn single(&self, address: IpAddr) -> Option<PodId> {
        match address {
            IpAddr::V4(a) => self.v4.get(&a.to_bits()).copied(),
            IpAddr::V6(a) => self.v6.get(&a.to_bits()).copied(),
        }
    }

    fn set_single(&mut self, address: IpAddr, pod: Option<PodId>) {
        match (address, pod) {
            (IpAddr::V4(a), Some(pod)) => drop(self.v4.insert(a.to_bits(), pod)),
            (IpAddr::V6(a), Some(pod)) => drop(self.v6.insert(a.to_bits(), pod)),
            (IpAddr::V4(a), None) => {
                self.v4.remove(&a.to_bits());
                shrink_map(&mut self.v4);
            }
            (IpAddr::V6(a), None) => {
                self.v6.remove(&a.to_bits());
                shrink_map(&mut self.v6);
            }
        }
    }

    pub(crate) fn claim(&mut self, address: IpAddr, pod: PodId) {
        if let Some(pods) = self.shared.get_mut(&address) {
            if !pods.contains(&pod) {
                pods.push(pod);
            }
        } else if let Some(other) = self.single(address).filter(|other| *other != pod) {
            self.set_single(address, None);
            self.shared.insert(address, vec![other, pod]);
        } else {
            self.set_single(address, Some(pod));
        }
    }

    pub(crate) fn release(&mut self, address: IpAddr, pod: PodId) {
        if let Some(pods) = self.shared.get_mut(&address) {
            pods.retain(|p| *p != pod);
            if let [last] = pods.as_slice() {
                let last = *last;
                self.shared.remove(&address);
                self.set_single(address, Some(last));
            }
        } else if self.single(address) == Some(pod) {
            self.set_single(address, None);
        }
    }

    pub(crate) fn claimants(&self, address: IpAddr) -> SmallVec<[PodId; 1]> {
        if let Some(pod) = self.single(address) {
            return smallvec![pod];
        }
        if self.shared.is_empty() {
            return SmallVec::new();
        }
        self.shared.get(&address).map(|pods| pods.iter().copied().collect()).unwrap_or_default()
    }

    pub(crate) fn ambiguous(&self) -> Vec<(IpAddr, Vec<PodId>)> {
        self.shared.iter().map(|(address, pods)| (*address, pods.clone())).collect()
    }

    pub(crate) fn claim_node(&mut self, address: IpAddr, node: NodeId) {
        let nodes = self.nodes.entry(address).or_default();
        match nodes.iter_mut().find(|(n, _)| *n == node) {
            Some((_, uses)) => *uses += 1,
            None => nodes.push((node, 1)),
        }
    }

    pub(crate) fn release_node(&mut self, address: IpAddr, node: NodeId) {
        if let Some(nodes) = self.nodes.get_mut(&address) {
            if let Some((_, uses)) = nodes.iter_mut().find(|(n, _)| *n == node) {
                *uses = uses.saturating_sub(1);
            }
            nodes.retain(|(_, uses)| *uses > 0);
            if nodes.is_empty() {
                self.nodes.remove(&address);
                shrink_map(&mut self.nodes);
            }
        }
    }

    /// How many addresses there is memory for.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.v4.capacity().max(self.v6.capacity()).max(self.nodes.capacity())
    }

    /// Addresses of each kind, and claims of nodes.
    #[cfg(test)]
    #[expect(clippy::disallowed_methods, reason = "a sum has no order")]
    pub(crate) fn sizes(&self) -> [usize; 6] {
        let Self { v4, v6, shared, nodes } = self;
        let claimants = shared.values().map(Vec::len).sum();
        let uses: u32 = nodes.values().flatten().map(|(_, uses)| *uses).sum();
        [v4.len(), v6.len(), shared.len(), claimants, nodes.len(), uses as usize]
    }

    pub(crate) fn nodes(&self, address: IpAddr) -> SmallVec<[NodeId; 1]> {
        self.nodes.get(&address).map(|nodes| nodes.iter().map(|(n, _)| *n).collect()).unwrap_or_default()
    }
}
