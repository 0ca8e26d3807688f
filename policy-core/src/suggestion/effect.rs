//! What an edit opens and closes besides what was asked.
//!
//! Pods that no policy tells apart, before the edit and after it, behave alike: one of each such class is asked about.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Missing, Other};
use crate::graph::{AllowGraph, BlockBorders, Endpoint, GroupId, PodId};
use crate::manifest::{Replicas, Snapshot};
use crate::model::{Direction, ObjectKey, Policy};
use crate::sets::{AddressSet, Family, PortSet};

/// A change of what the policies of some pods allow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effect {
    /// The pods whose policies allow more or less.
    pub subjects: Vec<ObjectKey>,
    /// The direction, seen from them.
    pub direction: Direction,
    /// The other end.
    pub other: Party,
    /// What is opened or closed.
    pub ports: PortSet,
}

/// The other end of an effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Party {
    /// Pods.
    Pods(Vec<ObjectKey>),
    /// Processes of a node.
    Node(String),
    /// Addresses that are no pod's and no node's.
    Outside(AddressSet),
}

impl Effect {
    /// How many pairs it is about. Opening to the outside counts as much as opening to many pods.
    pub(super) fn extent(&self) -> usize {
        let others = match &self.other {
            Party::Pods(pods) => pods.len(),
            Party::Node(_) => 1,
            Party::Outside(_) => 1000,
        };
        self.subjects.len() * others
    }
}

/// What tells pods apart.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Before the edit and after it.
    groups: [Option<GroupId>; 2],
    /// Where its addresses lie among the address blocks of all policies.
    places: Vec<(Family, usize)>,
    /// A pod that shares an address with others.
    alone: Option<PodId>,
}

/// Pods that behave alike before and after an edit, or a node.
struct Class {
    pods: Vec<PodId>,
    node: Option<String>,
    /// Whether its only pod is the only one of a workload that can have several.
    has_replicas: bool,
    /// Whether the edited policy selects them, before or after.
    is_target: bool,
}

/// What the policies of one class allow with another class, or with the outside.
type Allowed = BTreeMap<(usize, Direction, Option<usize>), Seen>;

enum Seen {
    Ports(PortSet),
    Outside(Vec<(AddressSet, PortSet)>),
}

/// What an edited graph allows.
pub(super) struct Measured {
    classes: Vec<Class>,
    directions: Vec<Direction>,
    allowed: Allowed,
}

/// The graph before any edit, and the question.
pub(super) struct Comparison<'a> {
    snapshot: &'a Snapshot,
    missing: &'a Missing<'a>,
    /// The pods with their groups before the edit.
    pods: Vec<(PodId, Option<GroupId>)>,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, graph: &AllowGraph, missing: &'a Missing<'a>) -> Self {
        let ids = snapshot.pods.keys().filter_map(|key| graph.pod(&key.namespace, &key.name));
        Self { snapshot, missing, pods: ids.map(|pod| (pod, graph.group_of(pod))).collect() }
    }

    /// Whether the side that denied allows what was missing.
    pub(super) fn allows(&self, graph: &AllowGraph) -> bool {
        let key = &self.missing.subject.key;
        let Some(subject) = graph.pod(&key.namespace, &key.name) else { return false };
        let direction = self.missing.direction;
        let is_allowed = |ports: &PortSet| self.missing.ports.difference(ports).is_empty();
        let ends = graph.endpoints_of(subject);
        match &self.missing.other {
            Other::Pod(pod) => {
                let Some(other) = graph.pod(&pod.key.namespace, &pod.key.name) else { return false };
                let others = graph.endpoints_of(other);
                let mut pairs = ends.iter().flat_map(|end| others.iter().map(move |other| (end, other)));
                pairs.any(|(end, other)| is_allowed(&side(graph, end, direction, other)))
            }
            Other::Addresses(nets) => nets.iter().all(|net| {
                let family = Family::of(net.addr());
                let asked = AddressSet::block(*net);
                let known = (net.prefix_len() == net.max_prefix_len()).then(|| graph.endpoint(net.addr()));
                let known = known.filter(|other| !other.is_external());
                ends.iter().any(|end| match &known {
                    Some(other) => is_allowed(&side(graph, end, direction, other)),
                    None => {
                        let parts = graph.outside(&end.clone().in_family(family), direction, family);
                        parts.iter().all(|(part, ports)| part.intersection(&asked).is_empty() || is_allowed(ports))
                    }
                })
            }),
        }
    }

    /// The addresses that the question is about.
    fn asked_addresses(&self) -> AddressSet {
        match &self.missing.other {
            Other::Addresses(nets) => AddressSet::union_of(nets.iter().map(|net| AddressSet::block(*net))),
            Other::Pod(_) => AddressSet::none(),
        }
    }

    /// Whether the question is about every address of a node, by which it can be reached.
    fn is_asked_node(&self, name: &str) -> bool {
        let Other::Addresses(nets) = &self.missing.other else { return false };
        let (asked, node) = (self.asked_addresses(), self.snapshot.nodes.get(name));
        let is_asked_family = |address: &IpAddr| nets.iter().any(|net| Family::of(net.addr()) == Family::of(*address));
        let mut addresses = node.into_iter().flat_map(|node| &node.addresses).filter(|address| is_asked_family(address));
        addresses.all(|address| asked.contains(*address))
    }

    /// What the edited graph allows, where the edit may have changed it.
    pub(super) fn measure(&self, graph: &AllowGraph, before: Option<&Policy>, after: &Policy) -> Measured {
        let is_selected = |pod: PodId| {
            let (namespace, name) = graph.pod_name(pod);
            let model = self.snapshot.pods.get(&ObjectKey::new(namespace, name));
            namespace == after.key.namespace
                && model.is_some_and(|pod| {
                    after.target.matches(&pod.labels) || before.is_some_and(|policy| policy.target.matches(&pod.labels))
                })
        };
        // The policies of all pods that claim an address apply to it.
        let is_target = |pod: PodId| {
            let addresses = graph.pod_addresses(pod).iter();
            is_selected(pod) || addresses.flat_map(|address| graph.claimants(*address)).any(&is_selected)
        };
        let borders = BlockBorders::of(graph);
        let mut classes: BTreeMap<Key, Class> = BTreeMap::new();
        for (pod, group) in &self.pods {
            let addresses = graph.pod_addresses(*pod);
            let is_shared = addresses.iter().any(|address| graph.claimants(*address).len() > 1);
            let key = Key {
                groups: [*group, graph.group_of(*pod)],
                places: addresses.iter().map(|address| (Family::of(*address), borders.stretch(*address))).collect(),
                alone: is_shared.then_some(*pod),
            };
            let class = classes.entry(key);
            let new = || Class {
                pods: Vec::new(),
                node: None,
                has_replicas: self.has_replicas(graph, *pod),
                is_target: is_target(*pod),
            };
            class.or_insert_with(new).pods.push(*pod);
        }
        // Another target changes whom the policy isolates, in both directions.
        let is_same_target = before.is_none_or(|before| before.target == after.target);
        let directions = if is_same_target { vec![self.missing.direction] } else { Direction::ALL.to_vec() };
        let nodes = self.snapshot.nodes.keys().map(|name| Class {
            pods: Vec::new(),
            node: Some(name.clone()),
            has_replicas: false,
            is_target: false,
        });
        let classes: Vec<Class> = classes.into_values().chain(nodes).collect();
        let allowed = self.allowed(graph, &classes, &directions);
        Measured { classes, directions, allowed }
    }

    /// What the edit opened and closed, compared with the graph as it is without the edit.
    pub(super) fn differences(&self, graph: &AllowGraph, after: Measured) -> (Vec<Effect>, Vec<Effect>) {
        let Measured { classes, directions, allowed: seen } = after;
        let mut before = self.allowed(graph, &classes, &directions);
        let (mut opens, mut closes) = (Vec::new(), Vec::new());
        for (at, now) in seen {
            let Some(then) = before.remove(&at) else { continue };
            match (now, then) {
                (Seen::Ports(now), Seen::Ports(then)) => {
                    self.pods_effect(graph, &classes, at, now.difference(&then), &mut opens);
                    self.pods_effect(graph, &classes, at, then.difference(&now), &mut closes);
                }
                (Seen::Outside(now), Seen::Outside(then)) => {
                    self.outside_effect(graph, &classes, at, &now, &then, &mut opens);
                    self.outside_effect(graph, &classes, at, &then, &now, &mut closes);
                }
                _ => {}
            }
        }
        (opens, closes)
    }

    fn has_replicas(&self, graph: &AllowGraph, pod: PodId) -> bool {
        let (namespace, name) = graph.pod_name(pod);
        let owner = self.snapshot.pods.get(&ObjectKey::new(namespace, name)).and_then(|pod| pod.owner.clone());
        let workload = owner.and_then(|owner| self.snapshot.workloads.get(&(namespace.to_owned(), owner)));
        workload.is_some_and(|workload| workload.replicas == Replicas::Several && workload.pods.len() == 1)
    }

    /// The endpoints of a class that a pod can have as its other end.
    fn others(&self, graph: &AllowGraph, class: &Class, first: PodId) -> Vec<Endpoint> {
        if let Some(name) = &class.node {
            let addresses = self.snapshot.nodes.get(name).map(|node| node.addresses.clone()).unwrap_or_default();
            return addresses.into_iter().map(|address| graph.node_endpoint(name, Some(address))).collect();
        }
        match class.pods.iter().find(|pod| **pod != first) {
            Some(other) => graph.endpoints_of(*other),
            None if class.has_replicas => graph.endpoints_of(first).iter().map(Endpoint::replica).collect(),
            // A pod reaches itself whatever its policies say.
            None => Vec::new(),
        }
    }

    /// What classes of pods that the edited policy selects allow, with every class and with the outside.
    fn allowed(&self, graph: &AllowGraph, classes: &[Class], directions: &[Direction]) -> Allowed {
        let mut out = Allowed::new();
        for (at, target) in classes.iter().enumerate().filter(|(_, class)| class.is_target) {
            let Some(first) = target.pods.first().copied() else { continue };
            let ends = graph.endpoints_of(first);
            for direction in directions {
                for (place, class) in classes.iter().enumerate() {
                    let others = self.others(graph, class, first);
                    let pairs = ends.iter().flat_map(|end| others.iter().map(move |other| (end, other)));
                    let ports = pairs.map(|(end, other)| side(graph, end, *direction, other));
                    let ports = ports.fold(PortSet::none(), |all, ports| all.union(&ports));
                    out.insert((at, *direction, Some(place)), Seen::Ports(ports));
                }
                let outside = ends.iter().flat_map(|end| {
                    let families = match end.address() {
                        Some(_) => vec![end.family()],
                        None => vec![Family::V4, Family::V6],
                    };
                    families.into_iter().flat_map(|family| graph.outside(&end.clone().in_family(family), *direction, family))
                });
                out.insert((at, *direction, None), Seen::Outside(outside.collect()));
            }
        }
        out
    }

    fn pods_effect(
        &self,
        graph: &AllowGraph,
        classes: &[Class],
        (target, direction, other): (usize, Direction, Option<usize>),
        ports: PortSet,
        out: &mut Vec<Effect>,
    ) {
        if ports.is_empty() {
            return;
        }
        let (subjects, other) = (keys(graph, classes.get(target)), other.and_then(|at| classes.get(at)));
        let is_asked_direction = direction == self.missing.direction;
        let (asked, rest): (Vec<ObjectKey>, Vec<ObjectKey>) =
            subjects.into_iter().partition(|key| is_asked_direction && self.missing.subjects.contains(key));
        let beyond = ports.difference(self.missing.ports);
        if let Some(name) = other.and_then(|class| class.node.clone()) {
            let of_asked = if self.is_asked_node(&name) { &beyond } else { &ports };
            for (subjects, ports) in [(rest, &ports), (asked, of_asked)] {
                if !subjects.is_empty() && !ports.is_empty() {
                    out.push(Effect { subjects, direction, other: Party::Node(name.clone()), ports: ports.clone() });
                }
            }
            return;
        }
        let others = keys(graph, other);
        let (asked_others, other_others): (Vec<ObjectKey>, Vec<ObjectKey>) =
            others.iter().cloned().partition(|key| self.missing.others.contains(key));
        for (subjects, others, ports) in
            [(rest, others, &ports), (asked.clone(), other_others, &ports), (asked, asked_others, &beyond)]
        {
            if !subjects.is_empty() && !others.is_empty() && !ports.is_empty() {
                out.push(Effect { subjects, direction, other: Party::Pods(others), ports: ports.clone() });
            }
        }
    }

    fn outside_effect(
        &self,
        graph: &AllowGraph,
        classes: &[Class],
        (target, direction, _): (usize, Direction, Option<usize>),
        more: &[(AddressSet, PortSet)],
        less: &[(AddressSet, PortSet)],
        out: &mut Vec<Effect>,
    ) {
        let asked_addresses = self.asked_addresses();
        let mut push = |subjects: Vec<ObjectKey>, addresses: AddressSet, ports: PortSet| {
            if !subjects.is_empty() && !addresses.is_empty() && !ports.is_empty() {
                out.push(Effect { subjects, direction, other: Party::Outside(addresses), ports });
            }
        };
        for (addresses, ports) in more {
            for (others, before) in less {
                let (both, opened) = (addresses.intersection(others), ports.difference(before));
                if both.is_empty() || opened.is_empty() {
                    continue;
                }
                let (asked, rest): (Vec<ObjectKey>, Vec<ObjectKey>) = keys(graph, classes.get(target))
                    .into_iter()
                    .partition(|key| direction == self.missing.direction && self.missing.subjects.contains(key));
                let within = both.intersection(&asked_addresses);
                push(rest, both.clone(), opened.clone());
                push(asked.clone(), both.difference(&asked_addresses), opened.clone());
                push(asked, within, opened.difference(self.missing.ports));
            }
        }
    }
}

fn side(graph: &AllowGraph, subject: &Endpoint, direction: Direction, other: &Endpoint) -> PortSet {
    let subject = subject.clone().in_family(other.family());
    let other = other.clone().in_family(subject.family());
    if subject.family() == other.family() { graph.side_ports(&subject, direction, &other) } else { PortSet::none() }
}

fn keys(graph: &AllowGraph, class: Option<&Class>) -> Vec<ObjectKey> {
    let pods = class.map(|class| class.pods.as_slice()).unwrap_or_default();
    let mut keys: Vec<ObjectKey> = pods
        .iter()
        .map(|pod| {
            let (namespace, name) = graph.pod_name(*pod);
            ObjectKey::new(namespace, name)
        })
        .collect();
    keys.sort();
    keys
}
