//! What a flush made different.

use std::net::IpAddr;

use super::Compiler;
use crate::graph::{Decision, GroupId, NamedAtom, PeerSetId, shrink_list};
use crate::model::Direction;

/// The difference between two flushes, in the terms of the graph after the second one.
///
/// Ids of removed things are valid in the graph before; they may be used again afterwards. Every list is sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphDelta {
    /// Groups that have a decision in one direction that they had not before.
    pub decisions: Vec<(GroupId, Direction)>,
    /// Groups that are gone.
    pub groups_removed: Vec<GroupId>,
    /// Peer sets that decisions refer to, and did not before.
    pub peer_sets_added: Vec<PeerSetId>,
    /// Peer sets that no decision refers to any more.
    pub peer_sets_removed: Vec<PeerSetId>,
    /// Pod addresses that joined or left peer sets that are in neither list.
    pub members: Vec<MemberChange>,
    /// Named ports that decisions refer to, and did not before.
    pub named_added: Vec<NamedAtom>,
    /// Named ports that no decision refers to any more.
    pub named_removed: Vec<NamedAtom>,
    /// Pod addresses and numbers that named ports in neither list lead to, or led to.
    pub named_members: Vec<NamedMemberChange>,
    /// Whether anything else that a node plan shows may be different: pods in scope, their decisions or their policies. If
    /// not, the lists of members are complete.
    pub is_structural: bool,
}

/// One address that joined or left one peer set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberChange {
    /// The set.
    pub peer_set: PeerSetId,
    /// The pod address.
    pub address: IpAddr,
    /// Whether the address is in the set after the flush.
    pub is_member: bool,
}

/// One address and number that a named port leads to, or led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedMemberChange {
    /// The named port.
    pub atom: NamedAtom,
    /// The pod address.
    pub address: IpAddr,
    /// The number that the pod gives to the name.
    pub number: u16,
    /// Whether the port leads there after the flush.
    pub is_member: bool,
}

/// What one address is a member of. Sorted.
#[derive(Default)]
pub(super) struct Memberships {
    sets: Vec<PeerSetId>,
    named: Vec<(NamedAtom, u16)>,
}

impl GraphDelta {
    /// Whether nothing became different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Compiler {
    /// Must be called before anything about the owners of `address` changes.
    pub(super) fn touch(&mut self, address: IpAddr) {
        if self.live_peer_sets == 0 || self.touched.contains_key(&address) {
            return;
        }
        let graph = &self.graph;
        let sets = graph.peer_sets_among(address, |set| graph.peer_sets.data(set).was_live);
        let named = graph.named_ports_among(address, |atom| graph.named.get(atom).is_some_and(|state| state.was_live));
        self.touched.insert(address, Memberships { sets, named });
    }

    /// Must be called before what matches the group changes.
    pub(super) fn touch_group(&mut self, group: GroupId) {
        if self.live_peer_sets == 0 {
            return;
        }
        for pod in self.graph.pods_of(group).collect::<Vec<_>>() {
            for address in self.graph.pods.get(pod).addresses.clone() {
                self.touch(address);
            }
        }
    }

    /// Decides again what was marked, and returns what became different.
    ///
    /// Cost: proportional to the marked groups and touched addresses.
    #[expect(clippy::disallowed_methods, clippy::iter_over_hash_type, reason = "the delta is sorted at the end")]
    pub fn flush(&mut self) -> GraphDelta {
        self.forget_unasked();
        self.decide_dirty();
        for set in std::mem::take(&mut self.maybe_changed_sets) {
            let state = self.graph.peer_sets.data_mut(set);
            let is_live = state.decisions > 0;
            match (state.was_live, is_live) {
                (false, true) => self.delta.peer_sets_added.push(set),
                (true, false) => self.delta.peer_sets_removed.push(set),
                _ => {}
            }
        }
        for atom in self.maybe_changed_named.iter().copied() {
            let Some(state) = self.graph.named.get(&atom) else { continue };
            match (state.was_live, state.decisions > 0) {
                (false, true) => self.delta.named_added.push(atom),
                (true, false) => self.delta.named_removed.push(atom),
                _ => {}
            }
        }
        self.collect_members();
        for atom in &self.delta.named_added {
            self.graph.named.entry(*atom).or_default().was_live = true;
        }
        for atom in std::mem::take(&mut self.maybe_changed_named) {
            if self.graph.named.get(&atom).is_some_and(|state| state.decisions == 0) {
                self.graph.named.remove(&atom);
            }
        }
        for set in &self.delta.peer_sets_added {
            self.graph.peer_sets.data_mut(*set).was_live = true;
        }
        for set in &self.delta.peer_sets_removed {
            self.graph.peer_sets.data_mut(*set).was_live = false;
        }
        self.live_peer_sets += self.delta.peer_sets_added.len();
        self.live_peer_sets = self.live_peer_sets.saturating_sub(self.delta.peer_sets_removed.len());
        self.sweep();
        let mut delta = std::mem::take(&mut self.delta);
        delta.decisions.sort_unstable();
        delta.decisions.dedup();
        delta.groups_removed.sort_unstable();
        delta.peer_sets_added.sort_unstable();
        delta.peer_sets_removed.sort_unstable();
        delta.members.sort_unstable();
        delta.named_added.sort_unstable();
        delta.named_removed.sort_unstable();
        delta.named_members.sort_unstable();
        delta
    }

    #[expect(clippy::iter_over_hash_type, reason = "`flush` sorts the delta")]
    fn collect_members(&mut self) {
        let graph = &self.graph;
        let stays = |set: PeerSetId| {
            let state = graph.peer_sets.data(set);
            state.was_live && state.decisions > 0
        };
        for (address, before) in std::mem::take(&mut self.touched) {
            let after = graph.peer_sets_among(address, stays);
            let named_stays = |atom: &NamedAtom| graph.named.get(atom).is_some_and(|s| s.was_live && s.decisions > 0);
            let named_after = graph.named_ports_among(address, named_stays);
            let Memberships { sets: before, named: named_before } = before;
            let left = named_before.iter().filter(|n| named_stays(&n.0) && named_after.binary_search(n).is_err());
            let joined = named_after.iter().filter(|n| named_before.binary_search(n).is_err());
            let changes = left.map(|n| (n, false)).chain(joined.map(|n| (n, true)));
            self.delta.named_members.extend(changes.map(|((atom, number), is_member)| NamedMemberChange {
                atom: *atom,
                address,
                number: *number,
                is_member,
            }));
            let left = before.iter().filter(|set| stays(**set) && after.binary_search(set).is_err()).map(|set| (*set, false));
            let joined = after.iter().filter(|set| before.binary_search(set).is_err()).map(|set| (*set, true));
            self.delta.members.extend(left.chain(joined).map(|(peer_set, is_member)| MemberChange {
                peer_set,
                address,
                is_member,
            }));
        }
    }

    /// Frees what nothing uses any more, users first.
    fn sweep(&mut self) {
        for (_, decision, ()) in self.graph.decisions.sweep() {
            if let Decision::Isolated { named, .. } = &decision {
                named.iter().for_each(|atom| self.graph.strings.release(atom.name));
            }
            for set in decision.peer_sets() {
                self.graph.peer_sets.release(set);
            }
        }
        for set in self.graph.peer_sets.unused() {
            if let Some((content, _)) = self.graph.peer_sets.forget(set) {
                for term in content.terms {
                    let peer_sets = &mut self.graph.terms.data_mut(term).peer_sets;
                    peer_sets.retain(|s| *s != set);
                    shrink_list(peer_sets);
                    self.graph.terms.release(term);
                }
            }
        }
        self.sweep_terms();
        self.sweep_namespaces();
        self.graph.nodes.sweep();
        self.sweep_values();
    }
}
