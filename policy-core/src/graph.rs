//! The allow graph: groups of pods, what each may do, and the sets of peers that decisions refer to.
//!
//! The graph is filled by `compile` and read by `verdict`. It holds pods by *template* (one namespace, equal labels, equal named
//! ports) and templates as members of *groups* (equal in the labels that selectors ask for), peers as *terms* (namespaces and pod
//! selector) and *peer sets* (canonical unions of terms and address blocks), and one interned [`Decision`] per group and direction.
//! Everything in it is canonical: the same objects give the same text (`AllowGraph::canonical`), whatever the order they came in.
//!
//! - `endpoint`: who an address is.
//! - `membership`: which ends a peer set holds, and what a port name means at an end.
//! - `addresses`: who has an address.
//! - `ids`, `intern`, `labels`, `records`: how the graph is stored.
//! - `canonical`: what only tests ask.

mod addresses;
#[cfg(any(test, feature = "testing"))]
mod canonical;
mod endpoint;
mod ids;
mod intern;
mod labels;
mod membership;
mod records;

pub(crate) use addresses::AddressIndex;
pub use endpoint::Endpoint;
pub use ids::{DecisionId, GroupId, NamespaceId, NodeId, PeerSetId, PodId, PolicyId, TermId};
pub(crate) use ids::{Id, LabelsId, PortsId, ScopeId, SelectorId, Symbol, TemplateId, id_at, index_of};
pub(crate) use intern::{Interner, Store, Strings, hash_name, shrink_list, shrink_map, shrink_table};
pub(crate) use labels::{CompiledSelector, LabelSet};
pub(crate) use membership::{BlockBorders, BlockMiss};
pub(crate) use records::{
    AskedKeys, Group, GroupKey, IdSet, NamedState, NamespaceRecord, NodeRecord, PeerRecord, PeerSetContent, PeerSetState,
    PodRecord, PolicyRecord, PortRecord, RuleRecord, Scope, ScopeState, Template, TemplateKey, TermIndex, TermKey, TermState,
};
pub use records::{Atom, Decision, NamedAtom};

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use smallvec::SmallVec;

use crate::model::{Direction, MOST_PEERS};
use crate::sets::{AddressSet, Transport};

/// The per-pod L3/L4 allow graph of a snapshot.
///
/// Methods that decide about traffic are in [`verdict`](crate::verdict), and what one node must do is in [`plan`](crate::plan).
///
/// Cost: pods cost their name and addresses; everything else is per group, term, peer set and policy.
pub struct AllowGraph {
    pub(crate) strings: Strings,
    pub(crate) labels: Interner<LabelsId, LabelSet>,
    pub(crate) ports: Interner<PortsId, Box<[PortRecord]>>,
    pub(crate) selectors: Interner<SelectorId, CompiledSelector>,
    pub(crate) scopes: Interner<ScopeId, SelectorId, ScopeState>,
    pub(crate) terms: Interner<TermId, TermKey, TermState>,
    pub(crate) peer_sets: Interner<PeerSetId, PeerSetContent, PeerSetState>,
    pub(crate) decisions: Interner<DecisionId, Decision>,
    /// The named ports of destinations that decisions have, live or live after the last flush.
    pub(crate) named: BTreeMap<NamedAtom, NamedState>,
    pub(crate) namespaces: Interner<NamespaceId, Box<str>, NamespaceRecord>,
    pub(crate) nodes: Interner<NodeId, Box<str>, NodeRecord>,
    pub(crate) pods: Store<PodId, PodRecord>,
    pub(crate) pod_names: hashbrown::HashTable<PodId>,
    pub(crate) templates: Interner<TemplateId, TemplateKey, Template>,
    pub(crate) groups: Interner<GroupId, GroupKey, Group>,
    pub(crate) policies: Store<PolicyId, PolicyRecord>,
    pub(crate) policy_names: hashbrown::HashTable<PolicyId>,
    pub(crate) addresses: AddressIndex,
    /// Groups whose policies are not compiled, so that everything is denied.
    pub(crate) too_large: BTreeMap<(GroupId, Direction), TooLarge>,
    pub(crate) own_node_egress: OwnNodeEgress,
    /// The node for whose pods the graph decides; `None` for every pod.
    pub(crate) only_node: Option<NodeId>,
    /// Addresses of which it is not known whose they are, by what has them (S3.11).
    pub(crate) quarantine: BTreeMap<String, Vec<IpAddr>>,
}

/// Whether egress rules apply to traffic from a pod to its own node. The Kubernetes documentation is ambiguous (S2.13).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OwnNodeEgress {
    /// They apply: the node is an address like any other.
    #[default]
    Enforce,
    /// A pod always reaches its own node.
    Allow,
}

/// Why the policies of a group are not compiled.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TooLarge {
    /// They make too many pairs of ports and peers.
    Pod,
    /// Those of all pods of the node do, and its namespace makes most of them.
    Node,
}

impl fmt::Display for TooLarge {
    /// What is wrong, and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod => write!(
                f,
                "the policies of the pod have more than {MOST_PEERS} pairs of ports and peers, including selectors and blocks; use port \
                 ranges that do not overlap, or fewer rules"
            ),
            Self::Node => f.write_str(
                "the policies of the pods on this node have too many pairs of ports and peers, or select too many pods in total, and those \
                 of this namespace have the most; use fewer rules, or the same policies for more pods",
            ),
        }
    }
}

impl AllowGraph {
    /// The pods that claim an address; more than one is S2.5, none makes it a node's or an external address.
    #[must_use]
    pub fn claimants(&self, address: IpAddr) -> SmallVec<[PodId; 1]> {
        self.addresses.claimants(address)
    }

    /// The nodes that have this address.
    #[must_use]
    pub fn nodes_at(&self, address: IpAddr) -> SmallVec<[NodeId; 1]> {
        self.addresses.nodes(address)
    }

    /// Addresses that more than one endpoint claims, with the claimants (S2.5); sorted.
    #[must_use]
    pub fn ambiguous_addresses(&self) -> Vec<(IpAddr, Vec<PodId>)> {
        self.addresses.ambiguous()
    }

    /// The decision of a group for one direction; `None` when the compiler's scope does not include the group.
    #[must_use]
    pub fn decision(&self, group: GroupId, direction: Direction) -> Option<&Decision> {
        let id = self.groups.data(group).decisions.get(direction as usize).copied().flatten();
        id.map(|id| self.decisions.key(id))
    }

    /// The decisions of every pod that claims an address, by [`Direction`]; sorted. As long as these stay the same from one flush to
    /// the next, only changes of members of peer sets and of quarantine can have changed what the pods of the address may do.
    #[must_use]
    pub fn decisions_at(&self, address: IpAddr) -> Vec<[Option<DecisionId>; 2]> {
        let groups = self.claimants(address).into_iter().filter_map(|pod| self.group_of(pod));
        let mut out: Vec<[Option<DecisionId>; 2]> = groups.map(|group| self.groups.data(group).decisions).collect();
        out.sort_unstable();
        out
    }

    pub(crate) fn namespace(&self, name: &str) -> Option<NamespaceId> {
        self.namespaces.find(name)
    }

    /// The pod of this name.
    #[must_use]
    pub fn pod(&self, namespace: &str, name: &str) -> Option<PodId> {
        let namespace = self.namespace(namespace)?;
        self.pod_names.find(intern::hash_name(namespace, name), |id| self.pods.get(*id).is(namespace, name)).copied()
    }

    /// The namespace and the name of a pod.
    #[must_use]
    pub fn pod_name(&self, pod: PodId) -> (&str, &str) {
        let record = self.pods.get(pod);
        (self.namespaces.key(record.namespace), &record.name)
    }

    /// The labels of a pod; none when it is no endpoint.
    #[must_use]
    pub fn pod_labels(&self, pod: PodId) -> crate::model::Labels {
        let template = self.pods.get(pod).template.map(|template| self.templates.key(template));
        template.map(|template| self.labels.key(template.labels).to_labels(&self.strings)).unwrap_or_default()
    }

    /// The addresses of a pod; none if it represents pods that do not exist yet.
    #[must_use]
    pub fn pod_addresses(&self, pod: PodId) -> &[IpAddr] {
        &self.pods.get(pod).addresses
    }

    /// The group of a pod; `None` when it is no endpoint.
    #[must_use]
    pub fn group_of(&self, pod: PodId) -> Option<GroupId> {
        self.pods.get(pod).template.map(|template| self.templates.data(template).group)
    }

    /// The pods of a group, in no particular order.
    pub fn pods_of(&self, group: GroupId) -> impl Iterator<Item = PodId> {
        let templates = self.groups.data(group).templates.iter();
        templates.flat_map(|template| self.templates.data(*template).pods.iter().copied())
    }

    /// Groups whose policies allow more than is compiled, and that get no traffic in this direction for it. Sorted.
    pub fn too_large(&self) -> impl Iterator<Item = (GroupId, Direction, TooLarge)> + '_ {
        self.too_large.iter().map(|((group, direction), why)| (*group, *direction, *why))
    }

    /// The policies that isolate a group for a direction, sorted by namespace and name.
    #[must_use]
    pub fn isolating(&self, group: GroupId, direction: Direction) -> Vec<PolicyId> {
        let terms = &self.groups.data(group).terms;
        let mut policies: Vec<PolicyId> = terms
            .iter()
            .flat_map(|t| self.terms.data(*t).policies.iter().copied())
            .filter(|p| self.policies.get(*p).isolates(direction))
            .collect();
        policies.sort_by_key(|p| self.policy_name(*p));
        policies
    }

    /// The namespace and the name of a policy.
    #[must_use]
    pub fn policy_name(&self, policy: PolicyId) -> (&str, &str) {
        let record = self.policies.get(policy);
        (self.namespaces.key(record.namespace), &record.name)
    }

    /// Every group, sorted by id.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.groups.iter().map(|(id, ..)| id).collect()
    }

    /// The name and the protocol of a named port.
    #[must_use]
    pub fn named_port(&self, atom: &NamedAtom) -> (&str, Transport) {
        (self.strings.text(atom.name), atom.transport)
    }

    /// Whether the graph decides for a pod: always, unless the compiler is for one node.
    #[must_use]
    pub fn is_in_scope(&self, pod: PodId) -> bool {
        self.only_node.is_none() || self.pods.get(pod).is_in_scope
    }

    /// The address blocks of a peer set, exceptions taken out.
    #[must_use]
    pub fn blocks(&self, set: PeerSetId) -> &AddressSet {
        &self.peer_sets.key(set).blocks
    }

    /// How much there is of everything.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            namespaces: self.namespaces.len(),
            pods: self.pods.len(),
            groups: self.groups.len(),
            policies: self.policies.len(),
            terms: self.terms.len(),
            peer_sets: self.peer_sets.len(),
            decisions: self.decisions.len(),
        }
    }
}

/// Sizes of a graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub namespaces: usize,
    pub pods: usize,
    pub groups: usize,
    pub policies: usize,
    pub terms: usize,
    pub peer_sets: usize,
    pub decisions: usize,
}
