//! What the graph keeps of each thing.

use std::net::IpAddr;

use roaring::RoaringBitmap;
use smallvec::SmallVec;

use super::ids::Id;
use super::intern::shrink_list;
use super::{
    DecisionId, GroupId, LabelsId, NamespaceId, NodeId, PeerSetId, PodId, PolicyId, PortsId, ScopeId, SelectorId, Symbol,
    TemplateId, TermId,
};
use crate::model::{Direction, IpBlock, Origin};
use crate::sets::{AddressSet, Transport};

/// A named container port over symbols.
pub(crate) type PortRecord = (Symbol, Transport, u16);

/// A namespace that exists, or that something refers to. Interned by its name; uses are its object, pods, groups, policies and
/// terms.
pub(crate) struct NamespaceRecord {
    /// Whether there is a Namespace object.
    pub is_declared: bool,
    pub labels: LabelsId,
    /// Groups of pods that are in it.
    pub groups: SmallVec<[GroupId; 4]>,
    /// The label keys that terms over this namespace alone ask for.
    pub asked: AskedKeys,
    /// Terms over this namespace alone.
    pub terms: TermIndex,
    /// Namespace selectors that match it.
    pub scopes: SmallVec<[ScopeId; 2]>,
}

/// Label keys that the pod selectors of policies ask for.
///
/// Shape: sorted by key.
#[derive(Default)]
pub(crate) struct AskedKeys(SmallVec<[AskedKey; 1]>);

struct AskedKey {
    key: Symbol,
    /// Terms that policies use.
    terms: u32,
    /// Policies whose target asks for it.
    targets: u32,
}

impl AskedKeys {
    fn at(&self, key: Symbol) -> Result<usize, usize> {
        self.0.binary_search_by_key(&key, |asked| asked.key)
    }

    /// Whether this key distinguishes groups.
    pub(crate) fn contains(&self, key: Symbol) -> bool {
        self.at(key).is_ok()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = Symbol> {
        self.0.iter().map(|asked| asked.key)
    }

    /// The keys that targets of policies ask for.
    pub(crate) fn targets(&self) -> impl Iterator<Item = Symbol> {
        self.0.iter().filter(|asked| asked.targets > 0).map(|asked| asked.key)
    }

    /// One more term asks for the key. Whether it was not there.
    pub(crate) fn add(&mut self, key: Symbol) -> bool {
        let at = self.at(key);
        if let Err(at) = at {
            self.0.insert(at, AskedKey { key, terms: 0, targets: 0 });
        }
        if let Some(asked) = self.0.get_mut(at.unwrap_or_else(|at| at)) {
            asked.terms += 1;
        }
        at.is_err()
    }

    /// One term less. Whether none is left; the key stays until [`AskedKeys::forget`].
    pub(crate) fn subtract(&mut self, key: Symbol) -> bool {
        let Some(asked) = self.at(key).ok().and_then(|at| self.0.get_mut(at)) else { return false };
        asked.terms = asked.terms.saturating_sub(1);
        asked.terms == 0
    }

    /// One more target, or one less. Whether that makes a difference.
    pub(crate) fn count_target(&mut self, key: Symbol, by: i32) -> bool {
        let Some(asked) = self.at(key).ok().and_then(|at| self.0.get_mut(at)) else { return false };
        let before = asked.targets;
        asked.targets = before.saturating_add_signed(by);
        (before == 0) != (asked.targets == 0)
    }

    /// Drops a key that no term asks for. Whether it was there.
    pub(crate) fn forget(&mut self, key: Symbol) -> bool {
        let Some(at) = self.at(key).ok().filter(|at| self.0.get(*at).is_some_and(|asked| asked.terms == 0)) else { return false };
        self.0.remove(at);
        shrink_list(&mut self.0);
        true
    }
}

/// The terms over one namespace, by a label pair that their pods must have; by none when their selector asks for no certain value.
/// Sorted, because there are many namespaces with few terms.
#[derive(Default)]
pub(crate) struct TermIndex(SmallVec<[TermEntry; 2]>);

type TermEntry = (Option<(Symbol, Symbol)>, TermId);

impl TermIndex {
    /// What a term is found under; `pairs` are those of its selector's anchor.
    fn keys(pairs: &[(Symbol, Symbol)]) -> impl Iterator<Item = Option<(Symbol, Symbol)>> {
        pairs.iter().copied().map(Some).chain(pairs.is_empty().then_some(None))
    }

    pub(crate) fn insert(&mut self, pairs: &[(Symbol, Symbol)], term: TermId) {
        for key in Self::keys(pairs) {
            let at = self.0.partition_point(|entry| *entry < (key, term));
            self.0.insert(at, (key, term));
        }
    }

    pub(crate) fn remove(&mut self, pairs: &[(Symbol, Symbol)], term: TermId) {
        for key in Self::keys(pairs) {
            if let Ok(at) = self.0.binary_search(&(key, term)) {
                self.0.remove(at);
            }
        }
        shrink_list(&mut self.0);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The terms that pods with these labels can match.
    pub(crate) fn candidates<'a>(&'a self, pairs: &'a [(Symbol, Symbol)]) -> impl Iterator<Item = TermId> + 'a {
        pairs.iter().copied().map(Some).chain([None]).flat_map(|key| {
            let from = self.0.partition_point(|(k, _)| *k < key);
            self.0.iter().skip(from).take_while(move |(k, _)| *k == key).map(|(_, term)| *term)
        })
    }
}

/// A set that is usually small.
#[derive(Debug)]
pub(crate) enum IdSet<I> {
    Few(SmallVec<[I; 4]>),
    Many(Box<RoaringBitmap>),
}

/// A set of groups that is usually small.
pub(crate) type GroupSet = IdSet<GroupId>;

impl<I> Default for IdSet<I> {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl<I: Id> IdSet<I> {
    /// More than this are a bitmap.
    const FEW: usize = 16;

    pub(crate) fn contains(&self, id: I) -> bool {
        match self {
            Self::Few(ids) => ids.contains(&id),
            Self::Many(ids) => ids.contains(id.index()),
        }
    }

    pub(crate) fn insert(&mut self, id: I) {
        match self {
            Self::Few(ids) if ids.contains(&id) => {}
            Self::Few(ids) if ids.len() < Self::FEW => ids.push(id),
            Self::Few(ids) => {
                let mut many: RoaringBitmap = ids.iter().map(|g| g.index()).collect();
                many.insert(id.index());
                *self = Self::Many(Box::new(many));
            }
            Self::Many(ids) => {
                ids.insert(id.index());
            }
        }
    }

    pub(crate) fn remove(&mut self, id: I) {
        match self {
            Self::Few(ids) => ids.retain(|g| *g != id),
            Self::Many(ids) => {
                ids.remove(id.index());
                if ids.len() <= Self::FEW as u64 / 4 {
                    *self = Self::Few(ids.iter().map(I::from_index).collect());
                }
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(ids) => ids.len(),
            Self::Many(ids) => usize::try_from(ids.len()).unwrap_or(usize::MAX),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        // INVARIANT: a bitmap is never empty, because it becomes a list first.
        matches!(self, Self::Few(ids) if ids.is_empty())
    }

    pub(crate) fn to_vec(&self) -> Vec<I> {
        match self {
            Self::Few(ids) => ids.to_vec(),
            Self::Many(ids) => ids.iter().map(I::from_index).collect(),
        }
    }
}

/// A node that exists, or that a pod names. Interned by its name; uses are its object and pods.
#[derive(Default)]
pub(crate) struct NodeRecord {
    /// Whether there is a Node object.
    pub is_declared: bool,
    /// Addresses of the Node object.
    pub addresses: Vec<IpAddr>,
}

/// A pod, endpoint or not.
pub(crate) struct PodRecord {
    pub namespace: NamespaceId,
    pub name: Box<str>,
    /// The template, when the pod is an endpoint.
    pub template: Option<TemplateId>,
    /// Its place in the template's list.
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

/// What pods of a template have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct TemplateKey {
    pub namespace: NamespaceId,
    pub labels: LabelsId,
    pub ports: PortsId,
}

/// Pods that were made alike. Its use count is the number of its pods.
pub(crate) struct Template {
    pub group: GroupId,
    /// Its place in the group's list.
    pub position: u32,
    /// Pods within the compiler's scope.
    pub in_scope: u32,
    pub pods: SmallVec<[PodId; 2]>,
}

/// What pods of a group have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct GroupKey {
    pub namespace: NamespaceId,
    /// Those of their labels that a selector over pods of their namespace asks for.
    pub labels: LabelsId,
    pub ports: PortsId,
}

/// Pods that behave alike. Its use count is the number of its templates.
#[derive(Default)]
pub(crate) struct Group {
    pub templates: SmallVec<[TemplateId; 2]>,
    /// Its place in the namespace's list.
    pub position: u32,
    /// Pods within the compiler's scope.
    pub in_scope: u32,
    /// Terms that match the group, sorted.
    pub terms: SmallVec<[TermId; 4]>,
    /// By [`Direction`]; `None` until compiled, and out of scope.
    pub decisions: [Option<DecisionId>; 2],
}

/// A namespace selector's matches. Interned by its selector.
#[derive(Default)]
pub(crate) struct ScopeState {
    pub namespaces: RoaringBitmap,
    /// The label keys that terms with this scope ask for.
    pub asked: AskedKeys,
    /// Terms with this scope.
    pub terms: SmallVec<[TermId; 2]>,
    /// Those of them whose pod selector asks for no certain value.
    pub rest: SmallVec<[TermId; 2]>,
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
    /// The pods of these groups; counted for one node.
    pub pods: u32,
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

    /// Its terms and address ranges.
    pub(crate) fn size(&self) -> usize {
        self.terms.len() + self.blocks.v4().iter().len() + self.blocks.v6().iter().len()
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

impl Decision {
    /// Every peer set that the decision refers to, one entry per reference.
    pub(crate) fn peer_sets(&self) -> Vec<PeerSetId> {
        match self {
            Self::Open => Vec::new(),
            Self::Isolated { any, atoms, named } => {
                let mut out = vec![*any];
                out.extend(atoms.iter().map(|a| a.peers));
                out.extend(named.iter().map(|n| n.peers));
                out
            }
        }
    }
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
    pub origin: Option<Box<Origin>>,
    pub target: TermId,
    pub isolates_egress: bool,
    pub isolates_ingress: bool,
    /// Whether an ingress rule names a port.
    pub names_ports: bool,
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
    /// `None` for every peer.
    pub peers: Option<Box<[PeerRecord]>>,
    pub ports: crate::model::Ports,
}

/// A peer of a rule.
pub(crate) enum PeerRecord {
    Pods(TermId),
    Block(Box<IpBlock>),
    Unreadable,
}
