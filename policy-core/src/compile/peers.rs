//! Canonical peer sets and their unions.

use rustc_hash::FxHashMap;

use super::Compiler;
use crate::graph::{AllowGraph, PeerSetContent, PeerSetId, TermId};
use crate::sets::{AddressSet, Family};

/// The canonical form of a union of terms and blocks.
fn canonical(graph: &AllowGraph, mut terms: Vec<TermId>, blocks: AddressSet) -> PeerSetContent {
    if blocks.covers(Family::V4) && blocks.covers(Family::V6) {
        return PeerSetContent::everyone();
    }
    terms.sort_unstable();
    terms.dedup();
    // A term over all pods of a scope makes the others with that scope say nothing more.
    let is_whole = |t: &TermId| graph.selectors.key(graph.terms.key(*t).pods).is_everything();
    let whole: Vec<_> = terms.iter().filter(|t| is_whole(t)).map(|t| graph.terms.key(*t).scope).collect();
    if !whole.is_empty() {
        terms.retain(|t| is_whole(t) || !whole.contains(&graph.terms.key(*t).scope));
    }
    PeerSetContent { terms: terms.into(), blocks }
}

impl Compiler {
    /// One more use of the set of these peers. The terms must be in use already.
    pub(super) fn acquire_peer_set(&mut self, terms: Vec<TermId>, blocks: AddressSet) -> PeerSetId {
        let content = canonical(&self.graph, terms, blocks);
        if let Some(set) = self.graph.peer_sets.find(&content) {
            self.graph.peer_sets.retain(set);
            return set;
        }
        let terms = content.terms.clone();
        let (set, _) = self.graph.peer_sets.acquire(content);
        for term in terms {
            self.graph.terms.retain(term);
            self.graph.terms.data_mut(term).peer_sets.push(set);
        }
        set
    }

    /// One more use of the union of these sets.
    pub(super) fn acquire_union(
        &mut self,
        mut sets: Vec<PeerSetId>,
        seen: &mut FxHashMap<Vec<PeerSetId>, PeerSetId>,
    ) -> PeerSetId {
        sets.sort_unstable();
        sets.dedup();
        sets.retain(|set| *set != self.nobody);
        let single = match sets.as_slice() {
            [] => Some(self.nobody),
            [one] => Some(*one),
            many if many.contains(&self.everyone) => Some(self.everyone),
            // INVARIANT: `seen` has a use of each of its sets, so none of them is gone.
            many => seen.get(many).copied(),
        };
        if let Some(set) = single {
            self.graph.peer_sets.retain(set);
            return set;
        }
        let mut terms = Vec::new();
        let mut blocks = Vec::new();
        for set in &sets {
            let content = self.graph.peer_sets.key(*set);
            terms.extend_from_slice(&content.terms);
            blocks.extend((!content.blocks.is_empty()).then(|| content.blocks.clone()));
        }
        let set = self.acquire_peer_set(terms, AddressSet::union_of(blocks));
        self.graph.peer_sets.retain(set);
        seen.insert(sets, set);
        set
    }
}
