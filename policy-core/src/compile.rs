//! Keeps an [`AllowGraph`] true to a stream of changes.
//!
//! [`Compiler::apply`] brings objects, groups and terms up to date and marks what depends on them; [`Compiler::flush`]
//! decides again what was marked, and says what became different. Compiling from scratch is applying everything and flushing
//! once, so there is no second path.
//!
//! - `pods`: pods, nodes, and the groups that pods form.
//! - `terms`: which terms match which groups; the indexes that keep this proportional to the change.
//! - `policies`: policies and their rules.
//! - `decide`: one decision per group and direction. Tiers other than NetworkPolicy come in there.

mod decide;
mod delta;
mod peers;
mod pods;
mod policies;
mod terms;

use delta::Memberships;
pub use delta::{GraphDelta, MemberChange, NamedMemberChange};

use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::graph::{
    AddressIndex, AllowGraph, GroupId, Interner, LabelSet, NamedAtom, NamespaceId, NamespaceRecord, OwnNodeEgress,
    PeerSetContent, PeerSetId, ScopeId, Store, Strings, Symbol, TermId, hash_of,
};
use crate::model::{Change, Namespace};

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
    /// For addresses whose owner or owner's labels changed: what they were members of after the last flush.
    touched: FxHashMap<IpAddr, Memberships>,
    live_peer_sets: usize,
    maybe_changed_sets: FxHashSet<PeerSetId>,
    maybe_changed_named: FxHashSet<NamedAtom>,
    delta: GraphDelta,
}

/// Indexes from labels to what can match them.
#[derive(Default)]
struct Indexes {
    /// Terms with a matching scope, by a label pair that their pods must have.
    terms: FxHashMap<(Symbol, Symbol), Vec<TermId>>,
    /// Namespace selectors by a label pair that their namespaces must have.
    scopes: FxHashMap<(Symbol, Symbol), Vec<ScopeId>>,
    other_scopes: Vec<ScopeId>,
    /// Groups and namespaces by label pair, for the keys that selectors ask for.
    groups: FxHashMap<(Symbol, Symbol), SmallVec<[GroupId; 2]>>,
    group_keys: FxHashSet<Symbol>,
    namespaces: FxHashMap<(Symbol, Symbol), SmallVec<[NamespaceId; 2]>>,
    namespace_keys: FxHashSet<Symbol>,
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
            namespaces: Store::new(),
            namespace_names: hashbrown::HashTable::new(),
            nodes: Store::new(),
            node_names: FxHashMap::default(),
            pods: Store::new(),
            pod_names: hashbrown::HashTable::new(),
            groups: Interner::new(),
            policies: Store::new(),
            policy_names: hashbrown::HashTable::new(),
            addresses: AddressIndex::default(),
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
            touched: FxHashMap::default(),
            live_peer_sets: 0,
            maybe_changed_sets: FxHashSet::default(),
            maybe_changed_named: FxHashSet::default(),
            delta: GraphDelta::default(),
        };
        compiler.graph.only_node = options.node.map(|name| compiler.node_id(&name));
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
            // What is left is what S1.36 assumes.
            Change::NamespaceRemoved(name) => self.apply_namespace(&Namespace::assumed(name)),
            Change::Node(node) => self.apply_node(&node),
            Change::NodeRemoved(name) => self.remove_node(&name),
            Change::Pod(pod) => self.apply_pod(&pod),
            Change::PodRemoved(key) => self.remove_pod(&key),
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

    fn apply_namespace(&mut self, namespace: &Namespace) {
        let id = self.namespace_id(&namespace.name);
        let labels = LabelSet::new(&namespace.labels, &mut self.graph.strings);
        self.relabel_namespace(id, labels);
    }

    /// The namespace of this name, made with the labels of S1.36 when it is new.
    fn namespace_id(&mut self, name: &str) -> NamespaceId {
        if let Some(id) = self.graph.namespace(name) {
            return id;
        }
        let labels = LabelSet::new(&Namespace::assumed(name.to_owned()).labels, &mut self.graph.strings);
        let (none, _) = self.graph.labels.acquire(LabelSet::default());
        let id = self.graph.namespaces.insert(NamespaceRecord {
            name: name.into(),
            labels: none,
            groups: SmallVec::new(),
            terms: crate::graph::TermIndex::default(),
            scopes: SmallVec::new(),
        });
        let namespaces = &self.graph.namespaces;
        self.graph.namespace_names.insert_unique(hash_of(name), id, |id| hash_of(&*namespaces.get(*id).name));
        self.enter_namespace(id);
        self.relabel_namespace(id, labels);
        id
    }
}
