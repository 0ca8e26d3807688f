//! Pods by the ports that they get: one set for many pairs of ports and peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_core::compile::GraphDelta;
use policy_core::graph::{AllowGraph, Atom, NamedAtom, PeerSetId};
use policy_core::sets::{Family, Transport};

use crate::ruleset::Element;

/// Where the elements of a set of addresses and ports come from.
///
/// Shape: an element for each port of each peer set and each of its pod addresses. Members of `any` are left out, because a rule
/// for every port allows them: a peer set of an atom holds them too, and they would be repeated for each port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortPeers {
    any: PeerSetId,
    ports: BTreeMap<PeerSetId, Vec<(Transport, u16, u16)>>,
    named: BTreeSet<NamedAtom>,
}

/// What one address is a member of.
#[derive(Clone, Default)]
struct Memberships {
    sets: BTreeSet<PeerSetId>,
    named: BTreeSet<(NamedAtom, u16)>,
}

impl PortPeers {
    pub(crate) fn new(any: PeerSetId, atoms: &[&Atom], named: &[NamedAtom]) -> Self {
        let mut ports: BTreeMap<PeerSetId, Vec<_>> = BTreeMap::new();
        for atom in atoms {
            ports.entry(atom.peers).or_default().push((atom.transport, atom.low, atom.high));
        }
        Self { any, ports, named: named.iter().copied().collect() }
    }

    /// Every element of one family; sorted.
    pub(crate) fn elements(&self, family: Family, graph: &AllowGraph) -> Vec<Element> {
        let mut out = Vec::new();
        for (set, ports) in &self.ports {
            let members = graph.members_beyond(*set, self.any);
            for address in members.into_iter().filter(|a| Family::of(*a) == family) {
                out.extend(elements_of(address, ports));
            }
        }
        for atom in &self.named {
            let members = graph.named_members(atom).into_iter().filter(|(a, _)| Family::of(*a) == family);
            out.extend(members.map(|(address, port)| Element::Port(address, atom.transport(), port)));
        }
        out.sort_unstable();
        // Two names may lead to one port.
        out.dedup();
        out
    }

    /// The elements that joined or left. An address is looked at as a whole, because one element may have several reasons.
    ///
    /// Cost: proportional to the elements of the addresses that changed.
    pub(crate) fn changes(&self, family: Family, delta: &GraphDelta, graph: &AllowGraph) -> Vec<(Element, bool)> {
        let mut flips: BTreeMap<IpAddr, Memberships> = BTreeMap::new();
        for change in delta.members.iter().filter(|c| Family::of(c.address) == family && self.uses(c.peer_set)) {
            flips.entry(change.address).or_default().sets.insert(change.peer_set);
        }
        let named = delta.named_members.iter().filter(|c| Family::of(c.address) == family && self.named.contains(&c.atom));
        for change in named {
            flips.entry(change.address).or_default().named.insert((change.atom, change.number));
        }
        let mut out = Vec::new();
        for (address, Memberships { sets, named }) in flips {
            let after = self.memberships(address, graph);
            let mut before = after.clone();
            sets.into_iter().for_each(|set| flip(&mut before.sets, set));
            named.into_iter().for_each(|port| flip(&mut before.named, port));
            let (before, after) = (self.elements_at(address, &before), self.elements_at(address, &after));
            out.extend(before.difference(&after).map(|element| (*element, false)));
            out.extend(after.difference(&before).map(|element| (*element, true)));
        }
        out
    }

    fn uses(&self, set: PeerSetId) -> bool {
        set == self.any || self.ports.contains_key(&set)
    }

    fn memberships(&self, address: IpAddr, graph: &AllowGraph) -> Memberships {
        let sets = graph.peer_sets_at(address).into_iter().filter(|set| self.uses(*set));
        let named = graph.named_ports_at(address).into_iter().filter(|(atom, _)| self.named.contains(atom));
        Memberships { sets: sets.collect(), named: named.collect() }
    }

    fn elements_at(&self, address: IpAddr, memberships: &Memberships) -> BTreeSet<Element> {
        let named = memberships.named.iter().map(|(atom, number)| Element::Port(address, atom.transport(), *number));
        let mut out: BTreeSet<Element> = named.collect();
        if !memberships.sets.contains(&self.any) {
            let ports = memberships.sets.iter().filter_map(|set| self.ports.get(set));
            out.extend(ports.flat_map(|ports| elements_of(address, ports)));
        }
        out
    }
}

fn elements_of(address: IpAddr, ports: &[(Transport, u16, u16)]) -> impl Iterator<Item = Element> + '_ {
    let port = move |transport| move |port| Element::Port(address, transport, port);
    ports.iter().flat_map(move |(transport, low, high)| (*low..=*high).map(port(*transport)))
}

fn flip<T: Ord>(set: &mut BTreeSet<T>, value: T) {
    if !set.remove(&value) {
        set.insert(value);
    }
}
