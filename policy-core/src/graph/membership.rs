//! Membership: which ends a peer set holds, and what a port name means at an end.
//!
//! Verdicts, explanations, deltas and surveys ask here, so that they cannot differ:
//! - A selector matches an address only if it matches every pod that claims the address (S2.5).
//! - A port name means the numbers that the destination's container ports give it (S1.53, S1.54), and of an address with several
//!   claimants only those that every one of them gives it.
//! - An address block holds an end by its address alone (S1.41). An end whose address is not known is in a block only if the block
//!   is the whole family.
//!
//! Which pods a selector matches is the work of `compile`; what membership means for traffic is the work of `verdict`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::{AllowGraph, Endpoint, NamedAtom, PeerSetId, PodId, PortRecord, PortsId, Symbol, TermId};
use crate::model::IpBlock;
use crate::sets::{AddressSet, Transport};

impl AllowGraph {
    /// Whether a term matches every one of these claimants; false without any.
    fn matches_all(&self, term: TermId, claimants: &[PodId]) -> bool {
        let groups = &self.terms.data(term).groups;
        let is_matched = |pod: &PodId| self.group_of(*pod).is_some_and(|group| groups.contains(group));
        !claimants.is_empty() && claimants.iter().all(is_matched)
    }

    /// Whether one of these terms matches every claimant. The terms are sorted.
    ///
    /// Cost: no allocation; the shorter of the terms and those of the first claimant's group is walked.
    fn is_selected(&self, terms: &[TermId], claimants: &[PodId]) -> bool {
        let Some(first) = claimants.first().and_then(|pod| self.group_of(*pod)) else { return false };
        if terms.is_empty() {
            return false;
        }
        let own = &self.groups.data(first).terms;
        if own.len() < terms.len() {
            own.iter().any(|term| terms.binary_search(term).is_ok() && self.matches_all(*term, claimants))
        } else {
            terms.iter().any(|term| self.matches_all(*term, claimants))
        }
    }

    /// Whether a peer set holds an end. Cost: no allocation.
    pub(crate) fn holds(&self, set: PeerSetId, endpoint: &Endpoint) -> bool {
        let content = self.peer_sets.key(set);
        is_in_blocks(&content.blocks, endpoint) || self.is_selected(&content.terms, endpoint.pods())
    }

    /// Whether a peer set that does not hold an end may do so once the end has an address.
    pub(crate) fn may_hold(&self, set: PeerSetId, endpoint: &Endpoint) -> bool {
        endpoint.address().is_none() && self.blocks(set).touches(endpoint.family()) && !self.holds(set, endpoint)
    }

    /// What a peer set holds of addresses that are no pod's: selectors match none of them.
    pub(crate) fn held_without_pods(&self, set: PeerSetId, addresses: &AddressSet) -> AddressSet {
        self.blocks(set).intersection(addresses)
    }

    /// The addresses of the pods that a peer set selects by label; sorted. Of an address with several claimants, every
    /// claimant must match one of the set's terms (S2.5).
    #[must_use]
    pub fn members(&self, set: PeerSetId) -> Vec<IpAddr> {
        self.selected(set, &[])
    }

    /// The [members](AllowGraph::members) of a set that are not members of `base`.
    ///
    /// Cost: what the two sets have in common by selector costs nothing.
    #[must_use]
    pub fn members_beyond(&self, set: PeerSetId, base: PeerSetId) -> Vec<IpAddr> {
        let terms = &self.peer_sets.key(base).terms;
        let mut out = self.selected(set, terms);
        if !terms.is_empty() && !out.is_empty() {
            out.retain(|address| !self.is_selected(terms, &self.claimants(*address)));
        }
        out
    }

    /// What the terms of a set select, without these terms, which are sorted.
    fn selected(&self, set: PeerSetId, without: &[TermId]) -> Vec<IpAddr> {
        let mut out = Vec::new();
        for term in self.peer_sets.key(set).terms.iter().filter(|term| without.binary_search(term).is_err()) {
            let groups = self.terms.data(*term).groups.to_vec();
            for pod in groups.into_iter().flat_map(|group| self.pods_of(group)) {
                let addresses = self.pod_addresses(pod).iter().copied();
                out.extend(addresses.filter(|address| self.matches_all(*term, &self.claimants(*address))));
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }

    /// The peer sets that select, by label, every pod that claims `address`. Sorted.
    #[must_use]
    pub fn peer_sets_at(&self, address: IpAddr) -> Vec<PeerSetId> {
        self.peer_sets_among(address, |_| true)
    }

    /// The same, of the sets that count.
    pub(crate) fn peer_sets_among(&self, address: IpAddr, is_counted: impl Fn(PeerSetId) -> bool) -> Vec<PeerSetId> {
        let claimants = self.claimants(address);
        let Some(first) = claimants.first().and_then(|pod| self.group_of(*pod)) else { return Vec::new() };
        let terms = self.groups.data(first).terms.iter().filter(|term| self.matches_all(**term, &claimants));
        let sets = terms.flat_map(|term| self.terms.data(*term).peer_sets.iter().copied());
        let mut out: Vec<PeerSetId> = sets.filter(|set| is_counted(*set)).collect();
        out.sort_unstable();
        out.dedup();
        out
    }

    /// Whether every claimant gives a port this name; false without any. Cost: no allocation.
    pub(crate) fn is_named(&self, claimants: &[PodId], port: &PortRecord) -> bool {
        !claimants.is_empty() && claimants.iter().all(|pod| self.gives_name(*pod, port))
    }

    /// Whether a pod gives a port this name.
    fn gives_name(&self, pod: PodId, port: &PortRecord) -> bool {
        // INVARIANT: the ports of a group are sorted.
        self.group_of(pod).is_some_and(|group| self.ports.key(self.groups.key(group).ports).binary_search(port).is_ok())
    }

    /// The numbers that every claimant gives a port name. Sorted.
    pub(crate) fn numbers<'g>(
        &'g self,
        claimants: &'g [PodId],
        name: Symbol,
        transport: Transport,
    ) -> impl Iterator<Item = u16> + 'g {
        let (first, rest) = claimants.split_first().map_or((None, claimants), |(first, rest)| (Some(*first), rest));
        let ports = first.and_then(|pod| self.group_of(pod)).map(|group| self.groups.key(group).ports);
        let own = ports.into_iter().flat_map(move |ports| self.own_numbers(ports, name, transport));
        own.filter(move |number| rest.iter().all(|pod| self.gives_name(*pod, &(name, transport, *number))))
    }

    /// The numbers that a pod's own container ports give a name. Sorted.
    pub(crate) fn own_numbers(&self, ports: PortsId, name: Symbol, transport: Transport) -> impl Iterator<Item = u16> {
        let own = self.ports.key(ports).iter().filter(move |port| (port.0, port.1) == (name, transport));
        own.map(|port| port.2)
    }

    /// Where a named port leads: every pod address that the atom's peers hold, with each number that the pod gives the name.
    /// Sorted. Of an address with several claimants, every claimant must give the name that number (S1.54, S2.5).
    ///
    /// Cost: linear in pods.
    #[must_use]
    pub fn named_members(&self, atom: &NamedAtom) -> Vec<(IpAddr, u16)> {
        let mut out = Vec::new();
        for (group, key, _) in self.groups.iter() {
            if self.own_numbers(key.ports, atom.name, atom.transport).next().is_none() {
                continue;
            }
            for address in self.pods_of(group).flat_map(|pod| self.pod_addresses(pod)) {
                out.extend(self.numbers_at(atom, *address).into_iter().map(|number| (*address, number)));
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }

    /// The numbers of a named port at one address; none when the address is not among the atom's peers.
    fn numbers_at(&self, atom: &NamedAtom, address: IpAddr) -> SmallVec<[u16; 1]> {
        let claimants = self.claimants(address);
        let numbers: SmallVec<[u16; 1]> = self.numbers(&claimants, atom.name, atom.transport).collect();
        let peers = self.peer_sets.key(atom.peers);
        let is_peer = || peers.blocks.contains(address) || self.is_selected(&peers.terms, &claimants);
        if !numbers.is_empty() && is_peer() { numbers } else { SmallVec::new() }
    }

    /// The named ports of decisions that lead to `address`, with its numbers. Sorted.
    #[must_use]
    pub fn named_ports_at(&self, address: IpAddr) -> Vec<(NamedAtom, u16)> {
        self.named_ports_among(address, |atom| self.named.get(atom).is_some_and(|state| state.decisions > 0))
    }

    /// The same, of the named ports that count.
    pub(crate) fn named_ports_among(&self, address: IpAddr, is_counted: impl Fn(&NamedAtom) -> bool) -> Vec<(NamedAtom, u16)> {
        let claimants = self.claimants(address);
        let Some(first) = claimants.first().and_then(|pod| self.group_of(*pod)) else { return Vec::new() };
        let ports = self.ports.key(self.groups.key(first).ports).iter();
        let mut atoms: Vec<NamedAtom> =
            ports.flat_map(|(name, transport, _)| self.named_like(*name, *transport)).filter(is_counted).collect();
        atoms.sort_unstable();
        atoms.dedup();
        let numbers = |atom| self.numbers_at(&atom, address).into_iter().map(move |number| (atom, number));
        atoms.into_iter().flat_map(numbers).collect()
    }

    /// The named ports of this name and protocol that decisions refer to.
    fn named_like(&self, name: Symbol, transport: Transport) -> impl Iterator<Item = NamedAtom> + '_ {
        let first = NamedAtom { name, transport, peers: PeerSetId::FIRST };
        self.named.range(first..).map(|(atom, _)| *atom).take_while(move |atom| (atom.name, atom.transport) == (name, transport))
    }
}

fn is_in_blocks(blocks: &AddressSet, endpoint: &Endpoint) -> bool {
    match endpoint.address() {
        Some(address) => blocks.contains(address),
        None => blocks.covers(endpoint.family()),
    }
}

/// Why an address block does not hold an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BlockMiss {
    /// The address of the end is not known.
    UnknownAddress,
    /// `cidr` does not hold this address.
    Outside(IpAddr),
    /// `cidr` holds this address, and the exception takes it out.
    Excepted(IpAddr, IpNet),
}

impl BlockMiss {
    /// Why a block does not hold an end, which it does not.
    pub(crate) fn of(block: &IpBlock, endpoint: &Endpoint) -> Self {
        let Some(address) = endpoint.address() else { return Self::UnknownAddress };
        let exception = block.except.iter().find(|net| net.contains(&address));
        match exception.filter(|_| block.cidr.contains(&address)) {
            Some(net) => Self::Excepted(address, *net),
            None => Self::Outside(address),
        }
    }
}

/// Where membership in some address block of some decision changes. Addresses of one family between two borders are in the same
/// blocks.
///
/// Shape: the first address of each stretch, sorted.
pub(crate) struct BlockBorders {
    v4: Vec<u32>,
    v6: Vec<u128>,
}

impl BlockBorders {
    /// The borders of a graph. Cost: linear in the blocks of its decisions.
    pub(crate) fn of(graph: &AllowGraph) -> Self {
        let (mut v4, mut v6) = (BTreeSet::new(), BTreeSet::new());
        for (_, content, _) in graph.peer_sets.iter().filter(|(.., state)| state.decisions > 0) {
            for (low, high) in content.blocks.v4().iter() {
                v4.extend([Some(low), high.checked_add(1)].into_iter().flatten());
            }
            for (low, high) in content.blocks.v6().iter() {
                v6.extend([Some(low), high.checked_add(1)].into_iter().flatten());
            }
        }
        Self { v4: v4.into_iter().collect(), v6: v6.into_iter().collect() }
    }

    /// The number of the stretch that an address lies in, within its family.
    pub(crate) fn stretch(&self, address: IpAddr) -> usize {
        match address {
            IpAddr::V4(a) => self.v4.partition_point(|border| *border <= a.to_bits()),
            IpAddr::V6(a) => self.v6.partition_point(|border| *border <= a.to_bits()),
        }
    }
}
