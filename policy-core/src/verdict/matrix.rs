//! Every connection between workloads, and with the address space outside of the cluster.
//!
//! Pods of one workload that no policy can distinguish are one *class*: one template, and addresses that lie in the same address
//! blocks of all policies. All-pairs work is classes squared, and each (decision, class) is evaluated once. Units of equal classes are
//! *alike*: what is allowed between two of them is evaluated once for all that are like them.
//!
//! - `memo`: what was evaluated already.

mod memo;

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use self::memo::{ALL, MOST_SIDES, Memo, NONE, Selected, SetId};
use crate::graph::{AllowGraph, BlockBorders, Decision, DecisionId, Endpoint, GroupId, NodeId, PeerSetId, PodId, TemplateId};
use crate::model::Direction;
use crate::sets::{AddressSet, Family, PortSet};

/// One row or column of a survey: the pods of a workload.
#[derive(Clone, Debug)]
pub struct WorkloadPods {
    /// Its pods.
    pub pods: Vec<PodId>,
    /// Whether there can be two of them at one time, so that each has peers of its own kind. A replica of a pod with a known address is
    /// another of the pods, or, where it is the only one, a pod like it at an address that is not known.
    pub has_replicas: bool,
}

/// What is allowed from one unit to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PairPorts {
    /// Allowed from every pod to every pod, over every address family that both have.
    pub all: PortSet,
    /// Allowed from some pod to some pod.
    pub some: PortSet,
}

/// What is allowed between a unit and part of the outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExternalPorts {
    /// The addresses.
    pub addresses: AddressSet,
    /// Allowed for every pod of the unit.
    pub all: PortSet,
    /// Allowed for some pod of the unit.
    pub some: PortSet,
}

/// Pods of a unit that behave alike.
#[derive(Clone, Debug)]
struct EquivalenceClass {
    endpoint: Endpoint,
    /// One of its pods.
    pod: PodId,
    /// The group, when exactly one endpoint has the address.
    group: Option<GroupId>,
    count: usize,
    has_known_address: bool,
    /// The place of its addresses among the borders of all blocks; `None` without known addresses.
    stretch: Option<usize>,
}

/// A class with the places of its unit and of itself.
type ClassAt<'a> = (usize, usize, &'a EquivalenceClass);

/// How the pods of two classes relate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// They are two pods.
    Two,
    /// They are one pod.
    Same,
    /// They are the only pod that is known, and a replica of it.
    Replica,
}

#[derive(PartialEq, Eq, Hash)]
struct ClassKey {
    /// Not the group: explanations show labels that no policy asks for.
    template: Option<TemplateId>,
    family: Family,
    /// The place of the address among the borders of all blocks; the address itself where that is not enough.
    class: Result<usize, Option<IpAddr>>,
    node: Option<NodeId>,
}

/// A view of a graph for all-pairs questions.
pub struct ConnectivityMatrix<'g> {
    graph: &'g AllowGraph,
    classes: Vec<Vec<EquivalenceClass>>,
    /// Cells that are also distinguished by node, for traffic from nodes (S2.11).
    classes_by_node: Vec<Vec<EquivalenceClass>>,
    units: Vec<WorkloadPods>,
    /// The kind of each unit: equal for units that no policy distinguishes; `None` for units that are compared by themselves.
    kinds: Vec<Option<u32>>,
    /// How many units are of each kind.
    sizes: Vec<u32>,
    memo: RefCell<Memo>,
}

impl<'g> ConnectivityMatrix<'g> {
    /// Prepares the units. Cost: linear in their pods.
    #[must_use]
    pub fn new(graph: &'g AllowGraph, units: Vec<WorkloadPods>) -> Self {
        let borders = BlockBorders::of(graph);
        let all = |by_node| -> Vec<Vec<_>> { units.iter().map(|unit| classes(graph, unit, &borders, by_node)).collect() };
        let (classes, classes_by_node) = (all(false), all(true));
        let (kinds, sizes) = kinds(&classes, &units);
        Self { graph, classes, classes_by_node, units, kinds, sizes, memo: RefCell::new(Memo::new()) }
    }

    /// The number of units.
    #[must_use]
    pub fn len(&self) -> usize {
        self.units.len()
    }

    /// Whether there is no unit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// The units.
    #[must_use]
    pub fn units(&self) -> &[WorkloadPods] {
        &self.units
    }

    /// Pairs of ends that stand for every pair of pods of two units, with whether both ends are one pod. Ends of different
    /// families are not paired.
    #[must_use]
    pub fn ends(&self, from: usize, to: usize) -> Vec<(Endpoint, Endpoint, bool)> {
        let mut out = Vec::new();
        for (source, destination, relation) in self.cell_pairs(from, to) {
            let Some((source, destination)) = in_one_family(&source.2.endpoint, &destination.2.endpoint) else { continue };
            let (source, destination) = (source.into_owned(), destination.into_owned());
            if relation == Relation::Replica {
                out.extend(with_replica(&source, &destination).map(|(a, b)| (a, b, false)));
            } else {
                out.push((source, destination, relation == Relation::Same));
            }
        }
        out
    }

    /// Whether a pod of a unit is the only one of two units.
    fn is_only_pod(&self, units: [usize; 2], pod: PodId) -> bool {
        let mut classes = units.into_iter().flat_map(|unit| classes_of(&self.classes, unit));
        classes.all(|class| class.pod == pod && class.count == 1)
    }

    fn cell_pairs(&self, from: usize, to: usize) -> SmallVec<[(ClassAt<'_>, ClassAt<'_>, Relation); 1]> {
        let has_replicas = |unit: usize| self.units.get(unit).is_some_and(|u| u.has_replicas);
        let is_alone = !has_replicas(from) && !has_replicas(to);
        let relation = |source: &EquivalenceClass, destination: &EquivalenceClass| {
            if source.pod != destination.pod || source.count > 1 || destination.count > 1 {
                Relation::Two
            } else if is_alone {
                Relation::Same
            } else if !source.has_known_address {
                // It stands for all its replicas.
                Relation::Two
            } else if self.is_only_pod([from, to], source.pod) {
                Relation::Replica
            } else {
                Relation::Same
            }
        };
        let mut out = SmallVec::new();
        for (i, source) in classes_of(&self.classes, from).iter().enumerate() {
            let destinations = classes_of(if source.endpoint.is_node() { &self.classes_by_node } else { &self.classes }, to);
            for (j, destination) in destinations.iter().enumerate() {
                out.push(((from, i, source), (to, j, destination), relation(source, destination)));
            }
        }
        out
    }

    /// What is allowed from unit `from` to unit `to`; `None` when there are no two pods to connect, because a unit has no
    /// endpoints, or they share no family, or both are one single pod.
    #[must_use]
    pub fn pair(&self, from: usize, to: usize) -> Option<PairPorts> {
        self.shared_pair(from, to).map(|ports| PairPorts::clone(&ports))
    }

    /// The same as [`Self::pair`], without a copy for each pair of units that are alike.
    #[must_use]
    pub fn shared_pair(&self, from: usize, to: usize) -> Option<Rc<PairPorts>> {
        let Some(kinds) = self.kinds_of_pair(from, to) else { return self.evaluated_pair(from, to) };
        if let Some(found) = self.memo.borrow().pairs.get(&kinds) {
            return found.clone();
        }
        let found = self.evaluated_pair(from, to);
        let mut memo = self.memo.borrow_mut();
        if memo.pairs.len() >= MOST_SIDES {
            memo.pairs.clear();
        }
        memo.pairs.insert(kinds, found.clone());
        found
    }

    /// The kinds of two units, if other pairs have the same. A unit and itself, or one that shares a pod, is no such pair.
    fn kinds_of_pair(&self, from: usize, to: usize) -> Option<(u32, u32)> {
        let kind = |unit: usize| self.kinds.get(unit).copied().flatten();
        let size = |kind: u32| self.sizes.get(kind as usize).copied().unwrap_or_default();
        let (source, destination) = (kind(from)?, kind(to)?);
        let is_shared = size(source) > 1 || size(destination) > 1;
        let classes = |unit: usize| classes_of(&self.classes, unit);
        let has_pod = |pod: PodId| classes(to).iter().any(|class| class.pod == pod);
        (is_shared && from != to && !classes(from).iter().any(|class| has_pod(class.pod))).then_some((source, destination))
    }

    fn evaluated_pair(&self, from: usize, to: usize) -> Option<Rc<PairPorts>> {
        let mut found: SmallVec<[Rc<PortSet>; 2]> = SmallVec::new();
        let mut add = |ports: Rc<PortSet>| {
            if !found.contains(&ports) {
                found.push(ports);
            }
        };
        for (source, destination, relation) in self.cell_pairs(from, to) {
            match relation {
                Relation::Two => self.cell_pair(source, destination).into_iter().for_each(&mut add),
                Relation::Same => {}
                Relation::Replica => self.replica_ports(source, destination).into_iter().for_each(&mut add),
            }
        }
        let (first, rest) = found.split_first()?;
        if rest.is_empty() {
            return Some(self.memo.borrow_mut().uniform(first));
        }
        let all = rest.iter().fold(PortSet::clone(first), |all, ports| all.intersection(ports));
        let some = rest.iter().fold(PortSet::clone(first), |some, ports| some.union(ports));
        Some(Rc::new(PairPorts { all, some }))
    }

    /// What the only pod of a unit and a replica of it may use, in both directions.
    fn replica_ports(&self, from: ClassAt<'_>, to: ClassAt<'_>) -> Vec<Rc<PortSet>> {
        let Some((source, destination)) = in_one_family(&from.2.endpoint, &to.2.endpoint) else { return Vec::new() };
        let between = |(source, destination): (Endpoint, Endpoint)| {
            let (egress, ingress) = self.graph.ports_between(&source, &destination, false);
            Rc::new(egress.intersection(&ingress))
        };
        with_replica(&source, &destination).map(between).into()
    }

    fn cell_pair(&self, from: ClassAt<'_>, to: ClassAt<'_>) -> Option<Rc<PortSet>> {
        let (source, destination) = in_one_family(&from.2.endpoint, &to.2.endpoint)?;
        let (source, destination) = (source.as_ref(), destination.as_ref());
        let is_plain =
            from.2.endpoint.address.is_some() == to.2.endpoint.address.is_some() && !source.is_node() && !destination.is_node();
        let (Some(source_group), Some(destination_group), true) = (from.2.group, to.2.group, is_plain) else {
            let (egress, ingress) = self.graph.ports_between(source, destination, false);
            return Some(Rc::new(egress.intersection(&ingress)));
        };
        let egress = self.side(source_group, Direction::Egress, destination, (to.0, to.1), destination_group);
        if egress == NONE {
            return Some(self.memo.borrow().set(NONE));
        }
        let ingress = self.side(destination_group, Direction::Ingress, source, (from.0, from.1), source_group);
        Some(self.memo.borrow_mut().both(egress, ingress))
    }

    /// What a group may use with another end, of which the only pod is in a group too.
    fn side(&self, group: GroupId, direction: Direction, other: &Endpoint, class: (usize, usize), other_group: GroupId) -> SetId {
        let decision = self.graph.groups.data(group).decisions.get(direction as usize).copied().flatten();
        let Some(decision) = decision else { return NONE };
        if *self.graph.decisions.key(decision) == Decision::Open {
            return ALL;
        }
        if !self.may_select(decision, other_group) {
            return NONE;
        }
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let key = (decision, small(class.0), small(class.1));
        if let Some(id) = self.memo.borrow().sides.get(&key) {
            return *id;
        }
        let ports = self.graph.group_ports(group, direction, other);
        let mut memo = self.memo.borrow_mut();
        let id = memo.id(ports);
        if memo.sides.len() >= MOST_SIDES {
            memo.sides.clear();
        }
        memo.sides.insert(key, id);
        id
    }

    /// Whether a decision may let through an end of which the only pod is in a group.
    fn may_select(&self, decision: DecisionId, group: GroupId) -> bool {
        let is_selected = |selected: &Selected| selected.has_blocks || selected.groups.contains(&group);
        if let Some(selected) = self.memo.borrow().selected.get(&decision) {
            return is_selected(selected);
        }
        let sets = self.graph.decisions.key(decision).peer_sets();
        let contents = || sets.iter().map(|set| self.graph.peer_sets.key(*set));
        let terms = contents().flat_map(|content| content.terms.iter());
        let groups = terms.flat_map(|term| self.graph.terms.data(*term).groups.to_vec()).collect();
        let has_blocks = contents().any(|content| !content.blocks.is_empty());
        let selected = Selected { groups, has_blocks };
        let answer = is_selected(&selected);
        self.memo.borrow_mut().selected.insert(decision, selected);
        answer
    }

    /// What is allowed between a unit and addresses that are no pod's and no node's, split into the ranges that its policies
    /// distinguish. `direction` is seen from the unit. Only families that the unit has, as far as its addresses are known.
    /// Empty when the unit has no endpoints and no hostNetwork pods.
    #[must_use]
    pub fn external(&self, unit: usize, direction: Direction) -> Vec<ExternalPorts> {
        let classes = self.classes.get(unit).map(Vec::as_slice).unwrap_or_default();
        let mut out: Vec<ExternalPorts> = Vec::new();
        for family in [Family::V4, Family::V6] {
            let mut parts: Option<Vec<ExternalPorts>> = None;
            for class in classes.iter().filter(|c| !c.has_known_address || c.endpoint.family == family) {
                let classes = self.graph.outside(&class.endpoint, direction, family);
                parts = Some(match parts {
                    None => classes
                        .into_iter()
                        .map(|(addresses, ports)| ExternalPorts { addresses, all: ports.clone(), some: ports })
                        .collect(),
                    Some(parts) => cross(&parts, &classes),
                });
            }
            for part in parts.unwrap_or_default() {
                match out.iter_mut().find(|o| o.all == part.all && o.some == part.some) {
                    Some(same) => same.addresses = same.addresses.union(&part.addresses),
                    None => out.push(part),
                }
            }
        }
        out
    }
}

/// The kind of each unit, and how many units are of each kind. Units with ends on nodes, or with addresses that several pods claim, have
/// none.
fn kinds(classes: &[Vec<EquivalenceClass>], units: &[WorkloadPods]) -> (Vec<Option<u32>>, Vec<u32>) {
    type Key = (Vec<(GroupId, Family, Option<usize>)>, bool);
    let mut numbers: FxHashMap<Key, u32> = FxHashMap::default();
    let mut sizes: Vec<u32> = Vec::new();
    let kinds = classes.iter().zip(units).map(|(classes, unit)| {
        let known = classes.iter().map(|class| {
            let group = class.group.filter(|_| !class.endpoint.is_node())?;
            Some((group, class.endpoint.family, class.stretch))
        });
        let mut known = known.collect::<Option<Vec<_>>>()?;
        known.sort_unstable();
        known.dedup();
        let next = u32::try_from(sizes.len()).unwrap_or(u32::MAX);
        let number = *numbers.entry((known, unit.has_replicas)).or_insert(next);
        if number == next {
            sizes.push(0);
        }
        if let Some(size) = sizes.get_mut(number as usize) {
            *size += 1;
        }
        Some(number)
    });
    (kinds.collect(), sizes)
}

fn classes_of(list: &[Vec<EquivalenceClass>], unit: usize) -> &[EquivalenceClass] {
    list.get(unit).map(Vec::as_slice).unwrap_or_default()
}

/// A pod and a replica of it, each as the source.
fn with_replica(source: &Endpoint, destination: &Endpoint) -> [(Endpoint, Endpoint); 2] {
    [(source.clone(), destination.replica()), (source.replica(), destination.clone())]
}

/// The ends as those of one flow; `None` when they share no family.
fn in_one_family<'p>(source: &'p Endpoint, destination: &'p Endpoint) -> Option<(Cow<'p, Endpoint>, Cow<'p, Endpoint>)> {
    fn adapt<'p>(end: &'p Endpoint, other: &Endpoint) -> Cow<'p, Endpoint> {
        match (end.address, other.address) {
            (None, Some(_)) => Cow::Owned(end.clone().in_family(other.family)),
            _ => Cow::Borrowed(end),
        }
    }
    (source.family == destination.family || source.address.is_none() || destination.address.is_none())
        .then(|| (adapt(source, destination), adapt(destination, source)))
}

impl AllowGraph {
    /// The addresses of one family that are no pod's and no node's, cut where what policies of `subject` let through changes.
    #[must_use]
    pub fn outside(&self, subject: &Endpoint, direction: Direction, family: Family) -> Vec<(AddressSet, PortSet)> {
        let whole = AddressSet::family(family);
        let mut classes = vec![(whole.clone(), PortSet::all())];
        for pod in &subject.pods {
            let Some(decision) = self.group_of(*pod).map(|group| self.decision(group, direction)) else { continue };
            let own = match decision {
                Some(Decision::Open) => continue,
                None => vec![(whole.clone(), PortSet::none())],
                Some(Decision::Isolated { any, atoms, .. }) => {
                    let held = |set: PeerSetId| self.held_without_pods(set, &whole);
                    let mut own = vec![(whole.clone(), PortSet::none())];
                    refine(&mut own, &held(*any), &PortSet::all());
                    for atom in atoms {
                        refine(&mut own, &held(atom.peers), &PortSet::range(atom.transport, atom.low, atom.high));
                    }
                    own
                }
            };
            classes = classes
                .iter()
                .flat_map(|(a, p)| own.iter().map(move |(b, q)| (a.intersection(b), p.intersection(q))))
                .filter(|(addresses, _)| !addresses.is_empty())
                .collect();
        }
        classes
    }
}

/// Adds `ports` for `addresses`; classes with equal ports stay one class.
fn refine(classes: &mut Vec<(AddressSet, PortSet)>, addresses: &AddressSet, ports: &PortSet) {
    if addresses.is_empty() {
        return;
    }
    let mut out: Vec<(AddressSet, PortSet)> = Vec::with_capacity(classes.len() + 1);
    let mut add = |addresses: AddressSet, ports: PortSet| {
        if addresses.is_empty() {
            return;
        }
        match out.iter_mut().find(|(_, p)| *p == ports) {
            Some((same, _)) => *same = same.union(&addresses),
            None => out.push((addresses, ports)),
        }
    };
    for (class, have) in classes.drain(..) {
        add(class.intersection(addresses), have.union(ports));
        add(class.difference(addresses), have);
    }
    *classes = out;
}

fn cross(parts: &[ExternalPorts], classes: &[(AddressSet, PortSet)]) -> Vec<ExternalPorts> {
    let mut out: Vec<ExternalPorts> = Vec::new();
    for part in parts {
        for (addresses, ports) in classes {
            let addresses = part.addresses.intersection(addresses);
            if addresses.is_empty() {
                continue;
            }
            let (all, some) = (part.all.intersection(ports), part.some.union(ports));
            match out.iter_mut().find(|o| o.all == all && o.some == some) {
                Some(same) => same.addresses = same.addresses.union(&addresses),
                None => out.push(ExternalPorts { addresses, all, some }),
            }
        }
    }
    out
}

fn classes(graph: &AllowGraph, unit: &WorkloadPods, borders: &BlockBorders, by_node: bool) -> Vec<EquivalenceClass> {
    let mut out: Vec<EquivalenceClass> = Vec::new();
    let mut places: FxHashMap<ClassKey, usize> = FxHashMap::default();
    for pod in &unit.pods {
        for endpoint in graph.endpoints_of(*pod) {
            let template = match endpoint.pods.as_slice() {
                [one] => graph.pods.get(*one).template,
                _ => None,
            };
            let group = template.map(|template| graph.templates.data(template).group);
            let class = match endpoint.address {
                Some(address) if group.is_some() => Ok(borders.stretch(address)),
                address => Err(address),
            };
            let node = graph.pods.get(*pod).node.filter(|_| by_node || endpoint.is_node());
            let key = ClassKey { template, family: endpoint.family, class, node };
            match places.get(&key).and_then(|place| out.get_mut(*place)) {
                Some(class) => class.count += 1,
                None => {
                    places.insert(key, out.len());
                    out.push(EquivalenceClass {
                        pod: *pod,
                        group,
                        count: 1,
                        has_known_address: endpoint.address.is_some(),
                        stretch: class.ok(),
                        endpoint,
                    });
                }
            }
        }
    }
    out
}
