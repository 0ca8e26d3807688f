//! What a flush made different.

use std::net::IpAddr;

use super::Compiler;
use crate::graph::{AllowGraph, GroupId, PeerSetId};
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

impl GraphDelta {
    /// Whether nothing became different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The peer sets with a decision that hold `address` because of the pods that claim it. Sorted.
fn memberships(graph: &AllowGraph, address: IpAddr, is_counted: impl Fn(PeerSetId) -> bool) -> Vec<PeerSetId> {
    let claimants = graph.claimants(address);
    let Some(first) = claimants.first().and_then(|pod| graph.group_of(*pod)) else { return Vec::new() };
    let mut out: Vec<PeerSetId> = graph
        .groups
        .data(first)
        .terms
        .iter()
        // S2.5: a selector matches a shared address only if every claimant does.
        .filter(|term| {
            claimants.iter().all(|pod| graph.group_of(*pod).is_some_and(|g| graph.terms.data(**term).groups.contains(g)))
        })
        .flat_map(|term| graph.terms.data(*term).peer_sets.iter().copied())
        .filter(|set| is_counted(*set))
        .collect();
    out.sort_unstable();
    out.dedup();
    out
}

impl Compiler {
    /// Must be called before anything about the owners of `address` changes.
    pub(super) fn touch(&mut self, address: IpAddr) {
        if self.live_peer_sets == 0 || self.touched.contains_key(&address) {
            return;
        }
        let graph = &self.graph;
        let before = memberships(graph, address, |set| graph.peer_sets.data(set).was_live);
        self.touched.insert(address, before);
    }

    /// Must be called before what matches the group changes.
    pub(super) fn touch_group(&mut self, group: GroupId) {
        if self.live_peer_sets == 0 {
            return;
        }
        for pod in self.graph.pods_of(group).to_vec() {
            for address in self.graph.pods.get(pod).addresses.clone() {
                self.touch(address);
            }
        }
    }

    /// Decides again what was marked, and returns what became different.
    ///
    /// Cost: proportional to the marked groups and touched addresses.
    pub fn flush(&mut self) -> GraphDelta {
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
        self.collect_members();
        for set in &self.delta.peer_sets_added {
            self.graph.peer_sets.data_mut(*set).was_live = true;
        }
        for set in &self.delta.peer_sets_removed {
            self.graph.peer_sets.data_mut(*set).was_live = false;
        }
        self.live_peer_sets += self.delta.peer_sets_added.len();
        self.live_peer_sets -= self.delta.peer_sets_removed.len();
        self.sweep();
        let mut delta = std::mem::take(&mut self.delta);
        delta.decisions.sort_unstable();
        delta.decisions.dedup();
        delta.groups_removed.sort_unstable();
        delta.peer_sets_added.sort_unstable();
        delta.peer_sets_removed.sort_unstable();
        delta.members.sort_unstable();
        delta
    }

    fn collect_members(&mut self) {
        let graph = &self.graph;
        let stays = |set: PeerSetId| {
            let state = graph.peer_sets.data(set);
            state.was_live && state.decisions > 0
        };
        for (address, before) in std::mem::take(&mut self.touched) {
            let after = memberships(graph, address, stays);
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
            for set in decision.peer_sets() {
                self.graph.peer_sets.release(set);
            }
        }
        for set in self.graph.peer_sets.unused() {
            if let Some((content, _)) = self.graph.peer_sets.forget(set) {
                for term in content.terms {
                    self.graph.terms.data_mut(term).peer_sets.retain(|s| *s != set);
                    self.graph.terms.release(term);
                }
            }
        }
        self.sweep_terms();
        self.graph.ports.sweep();
        self.graph.labels.sweep();
        self.graph.selectors.sweep();
    }
}
