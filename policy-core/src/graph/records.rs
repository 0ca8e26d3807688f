//! What the graph keeps of each thing.

use std::net::IpAddr;
use std::sync::Arc;

use roaring::RoaringBitmap;
use smallvec::SmallVec;

use super::ids::Id;
use super::{
    DecisionId, GroupId, LabelsId, NamespaceId, NodeId, PeerSetId, PodId, PolicyId, PortsId, ScopeId, SelectorId, Symbol, TermId,
};
use crate::model::{Direction, IpBlock};
use crate::sets::{AddressSet, Transport};

/// A named container port over symbols.
pub(crate) type PortRecord = (Symbol, Transport, u16);

/// A namespace that exists, or that something refers to.
pub(crate) struct NamespaceRecord {
    pub name: Box<str>,
    pub labels: LabelsId,
    /// Groups of pods that are in it.
    pub groups: SmallVec<[GroupId; 2]>,
    /// Terms over this namespace alone.
    pub terms: TermIndex,
    /// Namespace selectors that match it.
    pub scopes: SmallVec<[ScopeId; 2]>,
}

/// The terms over one namespace, by a label pair that their pods must have. Sorted, because there are many namespaces with
/// few terms.
#[derive(Default)]
pub(crate) struct TermIndex {
    by_pair: Vec<((Symbol, Symbol), TermId)>,
    /// Terms whose selector asks for no certain value.
    rest: Vec<TermId>,
}

impl TermIndex {
    /// `pairs` are those of the selector's anchor; none puts the term into the rest.
    pub(crate) fn insert(&mut self, pairs: &[(Symbol, Symbol)], term: TermId) {
        if pairs.is_empty() {
            self.rest.push(term);
        }
        for pair in pairs {
            let at = self.by_pair.partition_point(|entry| *entry < (*pair, term));
            self.by_pair.insert(at, (*pair, term));
        }
    }

    pub(crate) fn remove(&mut self, pairs: &[(Symbol, Symbol)], term: TermId) {
        if pairs.is_empty() {
            self.rest.retain(|t| *t != term);
        }
        for pair in pairs {
            if let Ok(at) = self.by_pair.binary_search(&(*pair, term)) {
                self.by_pair.remove(at);
            }
        }
    }

    /// The terms that pods with these labels can match.
    pub(crate) fn candidates<'a>(&'a self, pairs: &'a [(Symbol, Symbol)]) -> impl Iterator<Item = TermId> + 'a {
        let wanted = pairs.iter().flat_map(|pair| {
            let from = self.by_pair.partition_point(|(p, _)| p < pair);
            self.by_pair.iter().skip(from).take_while(move |(p, _)| p == pair).map(|(_, term)| *term)
        });
        wanted.chain(self.rest.iter().copied())
    }
}

/// A set of groups that is usually small.
#[derive(Debug)]
pub(crate) enum GroupSet {
    Few(SmallVec<[GroupId; 4]>),
    Many(Box<RoaringBitmap>),
}

impl Default for GroupSet {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl GroupSet {
    /// More groups than this are a bitmap.
    const FEW: usize = 16;

    pub(crate) fn contains(&self, group: GroupId) -> bool {
        match self {
            Self::Few(groups) => groups.contains(&group),
            Self::Many(groups) => groups.contains(group.index()),
        }
    }

    pub(crate) fn insert(&mut self, group: GroupId) {
        match self {
            Self::Few(groups) if groups.contains(&group) => {}
            Self::Few(groups) if groups.len() < Self::FEW => groups.push(group),
            Self::Few(groups) => {
                let mut many: RoaringBitmap = groups.iter().map(|g| g.index()).collect();
                many.insert(group.index());
                *self = Self::Many(Box::new(many));
            }
            Self::Many(groups) => {
                groups.insert(group.index());
            }
        }
    }

    pub(crate) fn remove(&mut self, group: GroupId) {
        match self {
            Self::Few(groups) => groups.retain(|g| *g != group),
            Self::Many(groups) => {
                groups.remove(group.index());
            }
        }
    }

    pub(crate) fn to_vec(&self) -> Vec<GroupId> {
        match self {
            Self::Few(groups) => groups.to_vec(),
            Self::Many(groups) => groups.iter().map(Id::from_index).collect(),
        }
    }
}

/// A node that exists, or that a pod names.
pub(crate) struct NodeRecord {
    pub name: Box<str>,
    /// Addresses of the Node object.
    pub addresses: Vec<IpAddr>,
}

/// A pod, endpoint or not.
pub(crate) struct PodRecord {
    pub namespace: NamespaceId,
    pub name: Box<str>,
    /// The group, when the pod is an endpoint.
    pub group: Option<GroupId>,
    /// Its place in the group's list.
    pub position: u32,
    pub node: Option<NodeId>,
    pub is_host_network: bool,
    /// Whether the compiler decides for it: it runs on the compiler's node, or claims the address of a pod that does.
    pub is_in_scope: bool,
    /// Addresses that it claims, for itself or, on the host network, for its node.
    pub addresses: SmallVec<[IpAddr; 1]>,
}

impl PodRecord {
    pub(crate) fn is(&self, namespace: NamespaceId, name: &str) -> bool {
        self.namespace == namespace && *self.name == *name
    }
}

/// What pods of a group have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct GroupKey {
    pub namespace: NamespaceId,
    pub labels: LabelsId,
    pub ports: PortsId,
}

/// Pods that behave alike. Its use count is the number of its pods.
#[derive(Default)]
pub(crate) struct Group {
    pub pods: SmallVec<[PodId; 2]>,
    /// Pods within the compiler's scope.
    pub in_scope: u32,
    /// Terms that match the group, sorted.
    pub terms: Vec<TermId>,
    /// By [`Direction`]; `None` until compiled, and out of scope.
    pub decisions: [Option<DecisionId>; 2],
}

/// A namespace selector's matches. Interned by its selector.
#[derive(Default)]
pub(crate) struct ScopeState {
    pub namespaces: RoaringBitmap,
    /// Terms with this scope.
    pub terms: Vec<TermId>,
    /// Those of them whose pod selector asks for no certain value.
    pub rest: Vec<TermId>,
}

/// The namespaces of a term.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Scope {
    /// This one.
    Namespace(NamespaceId),
    /// Those with matching labels.
    Matching(ScopeId),
}

/// Pods by selector in namespaces by scope: the unit of peers, and of what policies select.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct TermKey {
    pub scope: Scope,
    pub pods: SelectorId,
}

/// A term's matches and users.
#[derive(Default)]
pub(crate) struct TermState {
    /// The groups that match.
    pub groups: GroupSet,
    /// Policies whose target it is.
    pub policies: SmallVec<[PolicyId; 2]>,
    /// Peer sets that hold it.
    pub peer_sets: SmallVec<[PeerSetId; 2]>,
}

/// A canonical set of peers: terms and addresses.
///
/// Shape: terms sorted, none implied by a wider one with the same scope; every address of both families is the one value
/// [`PeerSetContent::everyone`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct PeerSetContent {
    pub terms: Box<[TermId]>,
    pub blocks: AddressSet,
}

impl PeerSetContent {
    pub(crate) fn everyone() -> Self {
        Self { terms: Box::default(), blocks: AddressSet::all() }
    }
}

/// Who uses a peer set.
#[derive(Default)]
pub(crate) struct PeerSetState {
    /// Decisions that refer to it. Rules refer to peer sets too, and those do not count here.
    pub decisions: u32,
    /// Whether a decision referred to it after the last flush.
    pub was_live: bool,
}

/// What a group may do in one direction. Interned.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Decision {
    /// No policy isolates the group: everything is allowed.
    Open,
    /// Isolated: what is not listed is denied.
    Isolated {
        /// The peers that get every protocol and port.
        any: PeerSetId,
        /// Port ranges whose peers are more than `any`. Sorted, disjoint, maximal; peers include those of `any`.
        atoms: Box<[Atom]>,
        /// Ports by the name that the destination gives them (egress only). Sorted.
        named: Box<[NamedAtom]>,
    },
}

/// A range of ports and who may use it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Atom {
    /// The protocol.
    pub transport: Transport,
    /// The first port.
    pub low: u16,
    /// The last port.
    pub high: u16,
    /// The peers.
    pub peers: PeerSetId,
}

/// A named port of each destination and who may use it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NamedAtom {
    pub(crate) name: Symbol,
    pub(crate) transport: Transport,
    pub(crate) peers: PeerSetId,
}

/// Who uses a named port of destinations.
#[derive(Default)]
pub(crate) struct NamedState {
    /// Groups, counted once per direction, whose decision has it.
    pub decisions: u32,
    /// Whether a decision had it after the last flush.
    pub was_live: bool,
}

impl NamedAtom {
    /// The protocol of the port.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }
}

/// A policy.
pub(crate) struct PolicyRecord {
    pub namespace: NamespaceId,
    pub name: Box<str>,
    /// File and line.
    pub origin: Option<(Arc<str>, u32)>,
    pub target: TermId,
    pub isolates_egress: bool,
    pub isolates_ingress: bool,
    pub rules: Box<[RuleRecord]>,
}

impl PolicyRecord {
    pub(crate) fn isolates(&self, direction: Direction) -> bool {
        match direction {
            Direction::Egress => self.isolates_egress,
            Direction::Ingress => self.isolates_ingress,
        }
    }

    pub(crate) fn rules(&self, direction: Direction) -> impl Iterator<Item = &RuleRecord> {
        self.rules.iter().filter(move |r| r.direction == direction)
    }
}

/// A rule of a policy.
pub(crate) struct RuleRecord {
    pub direction: Direction,
    /// Its place in the policy's list.
    pub index: u32,
    pub line: u32,
    /// The union of `peers`.
    pub peer_set: PeerSetId,
    /// `None` for everyone.
    pub peers: Option<Box<[PeerRecord]>>,
    pub ports: crate::model::Ports,
}

/// A peer of a rule.
pub(crate) enum PeerRecord {
    Pods(TermId),
    Block(Box<IpBlock>),
    Unreadable,
}
