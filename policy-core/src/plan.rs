//! What one node must enforce, in terms of pods, ports and peers: everything that a packet filter needs, and no word of one.
//!
//! [`AllowGraph::node_plan`] gathers the pods in scope with their decisions, and what those decisions refer to. The pod addresses
//! of peers are not in the plan: they change all the time, so [`AllowGraph::members`] and [`AllowGraph::named_members`] list
//! them, and a `GraphDelta` describes their changes.

mod interface;

pub use interface::InterfaceName;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::graph::{AllowGraph, Atom, Decision, GroupId, NamedAtom, PeerSetId, PodId, Scope, TermId};
use crate::model::{Direction, Labels, NamedPort, ObjectKey, Selector};
use crate::sets::{AddressSet, Family, Transport};

/// Pairs are made of this many of a pod's addresses at most. A valid pod has two, one of each family (S2.2), and pairs grow with
/// the square.
const MOST_PAIRED: usize = 8;

/// What one node must enforce.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodePlan {
    /// The addresses of the pods in scope, each with the groups (by place in `groups`) of the pods that claim it. The policies
    /// of every claimant apply (S2.5). Groups of one address are sorted.
    pub addresses: BTreeMap<IpAddr, Vec<usize>>,
    /// The addresses of each pod on the node.
    pub pods: BTreeSet<BTreeSet<IpAddr>>,
    /// The node's ends of pods' links, each with the addresses that may send through it (S2.20). The graph knows of none: where
    /// the node sees its pods is for the agent to add.
    pub interfaces: BTreeMap<InterfaceName, BTreeSet<IpAddr>>,
    /// Source and destination of flows of an isolated pod to itself (S2.15).
    pub self_pairs: BTreeSet<(IpAddr, IpAddr)>,
    /// Groups of pods in scope. Sorted by namespace, labels and ports.
    pub groups: Vec<GroupPlan>,
    /// Addresses whose traffic is denied until it is known whose they are (S3.11).
    pub quarantined: BTreeSet<IpAddr>,
    /// The peers that the groups' sides refer to.
    pub peers: BTreeMap<PeerSetId, PeersPlan>,
    /// The named ports of destinations that they refer to.
    pub named: BTreeMap<NamedAtom, NamedPlan>,
}

/// Pods that the policies of their namespace do not distinguish. The graph may distinguish them as peers of others, which is
/// nothing to this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupPlan {
    /// The namespace of its pods.
    pub namespace: String,
    /// Those of their labels that policies of the namespace select pods by.
    pub labels: Labels,
    /// Their named ports.
    pub ports: Vec<NamedPort>,
    /// The names of those in scope, sorted.
    pub pods: Vec<String>,
    /// The address families of those in scope.
    pub families: BTreeSet<Family>,
    /// Isolation by [`Direction`]; `None` where no policy isolates.
    pub sides: [Option<Isolation>; 2],
}

/// Isolation in one direction: what is not listed is denied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Isolation {
    /// The policies that isolate, sorted.
    pub policies: Vec<ObjectKey>,
    /// The peers that get every protocol and port.
    pub any: PeerSetId,
    /// Port ranges with the peers that get them, those of `any` included. Sorted, disjoint.
    pub atoms: Vec<Atom>,
    /// Ports by the name that the destination gives them. Sorted by name, protocol and peers.
    pub named: Vec<NamedAtom>,
}

/// Who a set of peers is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeersPlan {
    /// Which pods are selected by label. In the order of their words, each once.
    pub pods: Vec<PodSelection>,
    /// Address blocks, exceptions taken out.
    pub blocks: AddressSet,
}

/// Pods that are selected by label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PodSelection {
    /// Which pods of these namespaces.
    pub pods: Selector,
    /// The namespaces.
    pub namespaces: NamespaceSelection,
}

/// The namespaces of selected pods.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NamespaceSelection {
    /// The one of this name.
    Named(String),
    /// Those with matching labels.
    Matching(Selector),
}

/// A named port of destinations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedPlan {
    /// The name.
    pub name: String,
    /// The protocol.
    pub transport: Transport,
    /// Who the destinations are.
    pub peers: PeersPlan,
}

impl fmt::Display for PodSelection {
    /// `pods app=web in shop`, `pods in namespaces team=a`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pods")?;
        if !self.pods.is_everything() {
            write!(f, " {}", self.pods)?;
        }
        match &self.namespaces {
            NamespaceSelection::Named(name) => write!(f, " in {name}"),
            NamespaceSelection::Matching(all) if all.is_everything() => f.write_str(" in every namespace"),
            NamespaceSelection::Matching(some) => write!(f, " in namespaces {some}"),
        }
    }
}

impl PeersPlan {
    /// The selected pods in words: equal selections have equal words, in whatever order their objects came.
    #[must_use]
    pub fn pods_text(&self) -> String {
        self.pods.iter().map(PodSelection::to_string).collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for PeersPlan {
    /// For people. Names are made of the contents, not of these words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.blocks == AddressSet::all() {
            return f.write_str("any peer");
        }
        let mut parts: Vec<String> = self.pods.iter().map(PodSelection::to_string).collect();
        parts.extend(self.blocks.to_texts());
        if parts.is_empty() { f.write_str("no peer") } else { f.write_str(&parts.join("; ")) }
    }
}

impl GroupPlan {
    /// Its isolation in one direction.
    #[must_use]
    pub fn side(&self, direction: Direction) -> Option<&Isolation> {
        self.sides.get(direction as usize).and_then(Option::as_ref)
    }

    /// Whether a policy isolates it in any direction.
    #[must_use]
    pub fn is_isolated(&self) -> bool {
        self.sides.iter().any(Option::is_some)
    }
}

impl AllowGraph {
    /// What the node of the compiler's scope must enforce, or one node that ran every pod.
    ///
    /// Cost: proportional to the pods in scope and to what their decisions refer to, not to the cluster.
    #[must_use]
    pub fn node_plan(&self) -> NodePlan {
        let mut plan = NodePlan::default();
        let mut addresses: BTreeMap<IpAddr, BTreeSet<GroupId>> = BTreeMap::new();
        let mut groups: BTreeSet<GroupId> = BTreeSet::new();
        for pod in self.pods_in_scope() {
            let Some(group) = self.group_of(pod) else { continue };
            groups.insert(group);
            for address in self.pod_addresses(pod) {
                let claimants = self.claimants(*address);
                if claimants.iter().any(|pod| self.is_on_node(*pod)) {
                    addresses.entry(*address).or_default().insert(group);
                }
            }
            if self.is_on_node(pod) {
                plan.pods.insert(self.pod_addresses(pod).iter().copied().collect());
            }
            self.add_self_pairs(pod, group, &mut plan.self_pairs);
        }
        let mut alike: BTreeMap<(String, Labels, Vec<NamedPort>), Vec<GroupId>> = BTreeMap::new();
        for group in groups {
            alike.entry(self.plan_key(group)).or_default().push(group);
        }
        let mut places: BTreeMap<GroupId, usize> = BTreeMap::new();
        for (key, groups) in alike {
            places.extend(groups.iter().map(|group| (*group, plan.groups.len())));
            plan.groups.extend(self.group_plan(key, &groups));
        }
        for (address, groups) in addresses {
            let own: BTreeSet<usize> = groups.iter().filter_map(|group| places.get(group).copied()).collect();
            plan.addresses.insert(address, own.into_iter().collect());
        }
        self.add_references(&mut plan);
        plan.quarantined = self.quarantine.values().flatten().copied().collect();
        plan
    }

    fn pods_in_scope(&self) -> Vec<PodId> {
        let groups = self.groups.iter().filter(|(.., group)| group.in_scope > 0);
        let templates = groups.flat_map(|(.., group)| &group.templates).map(|template| self.templates.data(*template));
        let templates = templates.filter(|template| template.in_scope > 0);
        templates.flat_map(|template| template.pods.iter().copied()).filter(|pod| self.is_in_scope(*pod)).collect()
    }

    fn is_on_node(&self, pod: PodId) -> bool {
        self.only_node.is_none() || self.pods.get(pod).node == self.only_node
    }

    fn add_self_pairs(&self, pod: PodId, group: GroupId, out: &mut BTreeSet<(IpAddr, IpAddr)>) {
        let is_isolated = |direction| matches!(self.decision(group, direction), Some(Decision::Isolated { .. }));
        if !self.is_on_node(pod) || !Direction::ALL.into_iter().any(is_isolated) {
            return;
        }
        let addresses = self.pod_addresses(pod);
        out.extend(addresses.iter().map(|address| (*address, *address)));
        let is_own = |address: &&IpAddr| self.claimants(**address).as_slice() == [pod];
        let paired: Vec<IpAddr> = addresses.iter().take(MOST_PAIRED).filter(is_own).copied().collect();
        for a in &paired {
            out.extend(paired.iter().filter(|b| a.is_ipv4() == b.is_ipv4()).map(|b| (*a, *b)));
        }
    }

    /// What makes the policies of the namespace treat a group as they do: groups with equal keys have equal decisions.
    fn plan_key(&self, group: GroupId) -> (String, Labels, Vec<NamedPort>) {
        let key = *self.groups.key(group);
        let labels = self.labels.key(key.labels);
        let text = |symbol| self.strings.text(symbol).to_owned();
        let asked = self.namespaces.data(key.namespace).asked.targets();
        let selected = asked.filter_map(|asked| Some((text(asked), text(labels.value(asked)?))));
        let ports = self.ports.key(key.ports).iter();
        let mut ports: Vec<NamedPort> =
            ports.map(|(name, protocol, number)| NamedPort { name: text(*name), protocol: *protocol, number: *number }).collect();
        ports.sort_unstable();
        (self.namespaces.key(key.namespace).to_string(), selected.collect(), ports)
    }

    /// The plan of groups with one key; `None` without any.
    fn group_plan(&self, key: (String, Labels, Vec<NamedPort>), groups: &[GroupId]) -> Option<GroupPlan> {
        let first = *groups.first()?;
        let (namespace, labels, ports) = key;
        let all = groups.iter().flat_map(|group| self.pods_of(*group));
        let in_scope: Vec<PodId> = all.filter(|pod| self.is_in_scope(*pod)).collect();
        let mut pods: Vec<String> = in_scope.iter().map(|pod| self.pod_name(*pod).1.to_owned()).collect();
        pods.sort_unstable();
        Some(GroupPlan {
            namespace,
            labels,
            ports,
            pods,
            families: in_scope.iter().flat_map(|pod| self.pod_addresses(*pod)).map(|a| Family::of(*a)).collect(),
            sides: Direction::ALL.map(|direction| self.isolation(first, direction)),
        })
    }

    fn isolation(&self, group: GroupId, direction: Direction) -> Option<Isolation> {
        let policies = || {
            let names = self.isolating(group, direction).into_iter().map(|policy| self.policy_name(policy));
            names.map(|(namespace, name)| ObjectKey::new(namespace, name)).collect()
        };
        match self.decision(group, direction) {
            Some(Decision::Open) => None,
            Some(Decision::Isolated { any, atoms, named }) => {
                // Symbols and sets are numbered in the order of arrival, which must not show.
                let mut named = named.to_vec();
                named.sort_by_cached_key(|atom| {
                    let (name, transport) = self.named_port(atom);
                    (name.to_owned(), transport, self.peers_plan(atom.peers).to_string())
                });
                Some(Isolation { policies: policies(), any: *any, atoms: atoms.to_vec(), named })
            }
            // Not compiled: nothing is known, so nothing is allowed.
            None => Some(Isolation { policies: policies(), any: PeerSetId::NOBODY, atoms: Vec::new(), named: Vec::new() }),
        }
    }

    fn add_references(&self, plan: &mut NodePlan) {
        let sides = plan.groups.iter().flat_map(|group| group.sides.iter().flatten());
        for side in sides {
            for set in side.atoms.iter().map(|atom| atom.peers).chain([side.any]) {
                plan.peers.entry(set).or_insert_with(|| self.peers_plan(set));
            }
            for atom in &side.named {
                let name = self.named_port(atom);
                plan.named.entry(*atom).or_insert_with(|| NamedPlan {
                    name: name.0.to_owned(),
                    transport: name.1,
                    peers: self.peers_plan(atom.peers),
                });
            }
        }
    }

    fn peers_plan(&self, set: PeerSetId) -> PeersPlan {
        let content = self.peer_sets.key(set);
        let mut pods: Vec<PodSelection> = content.terms.iter().map(|term| self.pod_selection(*term)).collect();
        pods.sort_by_cached_key(PodSelection::to_string);
        PeersPlan { pods, blocks: content.blocks.clone() }
    }

    fn pod_selection(&self, term: TermId) -> PodSelection {
        let key = self.terms.key(term);
        let selector = |id| self.selectors.key(id).to_selector(&self.strings);
        let namespaces = match key.scope {
            Scope::Namespace(namespace) => NamespaceSelection::Named(self.namespaces.key(namespace).to_string()),
            Scope::Matching(scope) => NamespaceSelection::Matching(selector(*self.scopes.key(scope))),
        };
        PodSelection { pods: selector(key.pods), namespaces }
    }
}
