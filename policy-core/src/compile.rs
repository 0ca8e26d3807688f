//! Keeps an [`AllowGraph`] true to a stream of changes.
//!
//! [`Compiler::apply`] brings objects, groups and terms up to date and marks what depends on them; [`Compiler::flush`]
//! decides again what was marked, and returns what changed. Compiling from scratch is applying everything and flushing
//! once, so there is no second path.
//!
//! - `namespaces`: namespaces, and which namespace selectors match them.
//! - `pods`: pods and nodes.
//! - `groups`: templates and groups, by the labels that selectors ask for.
//! - `terms`: which terms match which groups; the indexes that keep this proportional to the change.
//! - `policies`: policies and their rules.
//! - `values`: what holds strings: labels, selectors and named ports.
//! - `index`: things by label.
//! - `budget`: what sides cost before they are compiled, and which are closed for it.
//! - `decide`: one decision per group and direction. Tiers other than NetworkPolicy come in there.

mod budget;
#[cfg(test)]
mod churn;
mod decide;
mod delta;
mod groups;
mod index;
mod namespaces;
mod peers;
mod pods;
mod policies;
mod terms;
mod values;

use budget::Budget;
pub use budget::pairs_of_rules;
use delta::Memberships;
pub use delta::{GraphDelta, MemberChange, NamedMemberChange};
use index::LabelIndex;

use std::collections::BTreeSet;
use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::graph::{
    AddressIndex, AllowGraph, GroupId, IdSet, Interner, NamedAtom, NamespaceId, OwnNodeEgress, PeerSetContent, PeerSetId, Scope,
    ScopeId, Store, Strings, Symbol, TemplateId, TermId,
};
use crate::model::{Change, ObjectKey};

/// What a compiler is for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Decide only for pods of this node; `None` decides for every pod. Peers are known cluster-wide either way (S2.7).
    pub node: Option<String>,
    /// Whether egress rules apply to traffic from a pod to its own node.
    pub own_node_egress: OwnNodeEgress,
}

/// Compiles changes into an [`AllowGraph`].
pub struct Compiler {
    graph: AllowGraph,
    indexes: Indexes,
    nobody: PeerSetId,
    everyone: PeerSetId,
    dirty: FxHashSet<GroupId>,
    budget: Budget,
    /// For addresses whose owner or owner's labels changed: what they were members of after the last flush.
    touched: FxHashMap<IpAddr, Memberships>,
    /// Pods that could not be read, and whose addresses are in quarantine (S2.25).
    unknown: BTreeSet<ObjectKey>,
    live_peer_sets: usize,
    maybe_changed_sets: FxHashSet<PeerSetId>,
    maybe_changed_named: FxHashSet<NamedAtom>,
    /// Label keys that no policy asks for since the last flush.
    unasked: Vec<(Scope, Symbol)>,
    delta: GraphDelta,
}

/// Values by a label pair.
type PairIndex<T> = FxHashMap<(Symbol, Symbol), SmallVec<[T; 2]>>;

/// Indexes from labels to what can match them.
#[derive(Default)]
struct Indexes {
    /// Terms with a matching scope, by a label pair that their pods must have.
    terms: PairIndex<TermId>,
    /// Namespace selectors by a label pair that their namespaces must have.
    scopes: PairIndex<ScopeId>,
    other_scopes: SmallVec<[ScopeId; 2]>,
    /// Groups and namespaces, for the keys that those pairs have.
    groups: LabelIndex<GroupId>,
    namespaces: LabelIndex<NamespaceId>,
    /// Templates by label key, whether or not a selector asks for it.
    templates: FxHashMap<Symbol, IdSet<TemplateId>>,
}

impl Compiler {
    /// A compiler that has seen nothing.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mut graph = AllowGraph {
            strings: Strings::new(),
            labels: Interner::new(),
            ports: Interner::new(),
            selectors: Interner::new(),
            scopes: Interner::new(),
            terms: Interner::new(),
            peer_sets: Interner::new(),
            decisions: Interner::new(),
            named: std::collections::BTreeMap::new(),
            namespaces: Interner::new(),
            nodes: Interner::new(),
            templates: Interner::new(),
            pods: Store::new(),
            pod_names: hashbrown::HashTable::new(),
            groups: Interner::new(),
            policies: Store::new(),
            policy_names: hashbrown::HashTable::new(),
            addresses: AddressIndex::default(),
            too_large: std::collections::BTreeMap::new(),
            own_node_egress: options.own_node_egress,
            only_node: None,
            quarantine: std::collections::BTreeMap::new(),
        };
        // INVARIANT: these two uses are never released, so both sets always exist.
        let (nobody, _) = graph.peer_sets.acquire(PeerSetContent::default());
        let (everyone, _) = graph.peer_sets.acquire(PeerSetContent::everyone());
        let mut compiler = Self {
            graph,
            indexes: Indexes::default(),
            nobody,
            everyone,
            dirty: FxHashSet::default(),
            budget: Budget::default(),
            touched: FxHashMap::default(),
            unknown: BTreeSet::new(),
            live_peer_sets: 0,
            maybe_changed_sets: FxHashSet::default(),
            maybe_changed_named: FxHashSet::default(),
            unasked: Vec::new(),
            delta: GraphDelta::default(),
        };
        compiler.graph.only_node = options.node.map(|name| compiler.acquire_node(&name));
        compiler
    }

    /// The graph after the last flush. Between [`Compiler::apply`] and [`Compiler::flush`] it is not consistent.
    #[must_use]
    pub fn graph(&self) -> &AllowGraph {
        &self.graph
    }

    /// The graph alone, when no more changes will come.
    #[must_use]
    pub fn into_graph(self) -> AllowGraph {
        self.graph
    }

    /// Takes one change. Cost: proportional to what the change can match, not to what exists.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Namespace(namespace) => self.apply_namespace(&namespace),
            Change::NamespaceRemoved(name) => self.remove_namespace(&name),
            Change::Node(node) => self.apply_node(&node),
            Change::NodeRemoved(name) => self.remove_node(&name),
            Change::Pod(pod) => self.apply_pod(&pod),
            Change::PodRemoved(key) => {
                self.hold_unknown(&key, &[]);
                self.remove_pod(&key);
            }
            Change::Policy(policy) => self.apply_policy(&policy),
            Change::PolicyRemoved(key) => self.remove_policy(&key),
            Change::Quarantine(quarantine) => self.set_quarantine(quarantine.holder, quarantine.addresses),
            Change::QuarantineRemoved(holder) => self.set_quarantine(holder, Vec::new()),
        }
    }

    fn set_quarantine(&mut self, holder: String, addresses: Vec<IpAddr>) {
        let before = if addresses.is_empty() {
            self.graph.quarantine.remove(&holder)
        } else {
            self.graph.quarantine.insert(holder.clone(), addresses)
        };
        self.delta.is_structural |= before.as_ref() != self.graph.quarantine.get(&holder);
    }
}
