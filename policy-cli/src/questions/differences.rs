//! What two inputs allow differently.
//!
//! A pair of workloads can differ only if something about one of them does: its pods, the labels of its namespace, or the policies that
//! select it. All other pairs are not looked at, so the cost follows what changed.
//!
//! - `causes`: the edits between two inputs, and what each of them can change.

mod causes;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use policy_core::model::{Addresses, Direction, Labels, NamedPort, ObjectKey, Placement, WorkloadKey};
use policy_core::sets::{AddressSet, PortSet};
use policy_core::verdict::{ConnectivityMatrix, ExternalPorts, PairPorts, WorkloadPods};
use serde::Serialize;

use super::evaluation::Evaluation;
use super::rows::{Peer, Row};
pub(crate) use causes::Edit;
use causes::Edits;

/// A workload by namespace, kind and name.
type Name = (String, WorkloadKey);

/// What differs from one input to another.
pub(crate) struct Differences {
    /// Sorted by kind, then by source and destination.
    pub changes: Vec<Change>,
    /// What is different in the objects, in the order of their names.
    pub edits: Vec<Edit>,
    /// Policies whose edits are about rules with selectors, which may match pods that neither input has.
    pub selecting: Vec<String>,
    /// Workloads that only the first input has.
    pub went: Vec<Peer>,
    /// Workloads that only the second input has.
    pub came: Vec<Peer>,
}

/// What becomes of a connection.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// It is allowed, and was not.
    Added,
    /// It was allowed, and is not.
    Removed,
}

/// Connections of one pair that become allowed, or denied.
#[derive(Serialize, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    #[serde(rename = "change")]
    pub kind: Kind,
    /// Whether one of the workloads is in one input alone.
    pub with_new_or_gone: bool,
    #[serde(flatten)]
    pub row: Row,
    /// The edits that can be the cause, by their places in the list.
    pub causes: Vec<usize>,
}

/// A workload of the second input, of the first, or of both.
struct Unit {
    name: Name,
    /// Its places in the two matrices.
    places: [Option<usize>; 2],
    /// Whether it is another one for its peers: its pods, or the labels of its namespace.
    is_other: bool,
    /// Whether policies that select it differ, by direction.
    sides: [bool; 2],
}

impl Unit {
    /// Whether connections that it opens, or that are opened to it, can differ because of it.
    fn is_changed(&self, direction: Direction) -> bool {
        self.is_other || self.sides.get(direction as usize).copied().unwrap_or(true)
    }
}

/// The first input and the second one.
struct Both<'e> {
    evaluations: [&'e Evaluation; 2],
    matrices: [ConnectivityMatrix<'e>; 2],
    units: Vec<Unit>,
    edits: Edits,
}

/// Everything that two inputs allow differently.
pub(crate) fn differences(old: &Evaluation, new: &Evaluation) -> Differences {
    let both = Both::new(old, new);
    let mut changes = Vec::new();
    for (from, source) in both.units.iter().enumerate() {
        for (to, destination) in both.units.iter().enumerate() {
            if source.is_changed(Direction::Egress) || destination.is_changed(Direction::Ingress) {
                both.pair((from, source), (to, destination), &mut changes);
            }
        }
        for direction in Direction::ALL.into_iter().filter(|direction| source.is_changed(*direction)) {
            both.outside(source, direction, &mut changes);
        }
    }
    let order = |change: &Change| (change.kind, change.with_new_or_gone);
    changes
        .sort_by(|a, b| (order(a), a.row.src.order(), a.row.dst.order()).cmp(&(order(b), b.row.src.order(), b.row.dst.order())));
    let alone = |place: usize| {
        let is_alone = |unit: &&Unit| unit.places.get(1 - place).is_some_and(Option::is_none);
        both.units.iter().filter(is_alone).map(|unit| Peer::workload(&unit.name.0, &unit.name.1)).collect()
    };
    let (went, came) = (alone(0), alone(1));
    Differences { changes, went, came, selecting: both.edits.selecting, edits: both.edits.list }
}

impl<'e> Both<'e> {
    fn new(old: &'e Evaluation, new: &'e Evaluation) -> Self {
        let edits = Edits::between(old, new);
        let [first, second] = [old, new].map(Evaluation::units);
        let names: BTreeSet<&Name> = first.keys().chain(second.keys()).collect();
        let mut pods: [Vec<WorkloadPods>; 2] = [Vec::new(), Vec::new()];
        // Who has an address decides too.
        let is_all = addresses(old) != addresses(new)
            || [old, new].iter().any(|evaluation| !evaluation.graph.ambiguous_addresses().is_empty());
        let mut units = Vec::new();
        for name in names {
            let mut places = [None, None];
            for ((own, units), place) in [&first, &second].into_iter().zip(&mut pods).zip(&mut places) {
                if let Some(unit) = own.get(name) {
                    *place = Some(units.len());
                    units.push(unit.clone());
                }
            }
            let is_other = match (first.get(name), second.get(name)) {
                (Some(one), Some(other)) => {
                    is_all
                        || one.has_replicas != other.has_replicas
                        || edits.is_relabelled(name)
                        || kinds_of_pods(old, one) != kinds_of_pods(new, other)
                }
                _ => true,
            };
            let sides = Direction::ALL.map(|direction| edits.has_policies(name, direction));
            units.push(Unit { name: name.clone(), places, is_other, sides });
        }
        let [first, second] = pods;
        let matrices = [ConnectivityMatrix::new(&old.graph, first), ConnectivityMatrix::new(&new.graph, second)];
        Self { evaluations: [old, new], matrices, units, edits }
    }

    /// What changes from one workload to another.
    fn pair(&self, (_, source): (usize, &Unit), (_, destination): (usize, &Unit), out: &mut Vec<Change>) {
        let ports = |place: usize| {
            let (from, to) = (source.places.get(place).copied()??, destination.places.get(place).copied()??);
            self.matrices.get(place)?.shared_pair(from, to)
        };
        let (before, after) = (ports(0), ports(1));
        let none = PairPorts { all: PortSet::none(), some: PortSet::none() };
        let [before, after] = [&before, &after].map(|ports| ports.as_deref().unwrap_or(&none));
        if before == after {
            return;
        }
        let peer = |unit: &Unit| Peer::workload(&unit.name.0, &unit.name.1);
        let is_alone = [source, destination].iter().any(|unit| unit.places.contains(&None));
        let causes = || self.edits.between_units(&source.name, &destination.name);
        out.extend(changes(before, after, is_alone, &causes, &|| (peer(source), peer(destination))));
    }

    /// What changes between a workload and the addresses that are no pod's and no node's.
    fn outside(&self, unit: &Unit, direction: Direction, out: &mut Vec<Change>) {
        let parts = |place: usize| -> Vec<ExternalPorts> {
            let at = unit.places.get(place).copied().flatten();
            at.zip(self.matrices.get(place)).map(|(at, matrix)| matrix.external(at, direction)).unwrap_or_default()
        };
        let mut merged: Vec<(PairPorts, PairPorts, AddressSet)> = Vec::new();
        for (before, after, addresses) in partition(&parts(0), &parts(1)) {
            match merged.iter_mut().find(|(b, a, _)| (b, a) == (&before, &after)) {
                Some((.., same)) => *same = same.union(&addresses),
                None => merged.push((before, after, addresses)),
            }
        }
        for (before, after, addresses) in merged {
            // Pods and nodes have places of their own in a comparison.
            let Some(addresses) = self.evaluations.iter().rev().find_map(|one| one.external(addresses.clone())) else {
                continue;
            };
            let causes = || self.edits.of_side(&unit.name, direction);
            let peers = || {
                let (own, other) = (Peer::workload(&unit.name.0, &unit.name.1), Peer::outside(&addresses));
                if direction == Direction::Egress { (own, other) } else { (other, own) }
            };
            out.extend(changes(&before, &after, unit.places.contains(&None), &causes, &peers));
        }
    }
}

/// What becomes allowed, and what becomes denied.
fn changes(
    before: &PairPorts,
    after: &PairPorts,
    with_new_or_gone: bool,
    causes: &dyn Fn() -> Vec<usize>,
    peers: &dyn Fn() -> (Peer, Peer),
) -> Vec<Change> {
    let row = |allowed: PortSet, partly: &PortSet| {
        let (src, dst) = peers();
        Row::new(src, dst, allowed.clone(), &allowed.union(partly))
    };
    let newly_partly = after.some.difference(&after.all).difference(&before.some);
    let added = row(after.all.difference(&before.all), &newly_partly);
    // What only some pods lose is partly removed.
    let gone = before.some.difference(&after.some);
    let less = before.all.difference(&after.all).intersection(&after.some);
    let removed = row(gone, &less);
    let change = |kind: Kind| move |row: Row| (kind, row);
    let both = added.map(change(Kind::Added)).into_iter().chain(removed.map(change(Kind::Removed)));
    both.map(|(kind, row)| Change { kind, with_new_or_gone, row, causes: causes() }).collect()
}

/// The common parts of two partitions of addresses, with what both allow; what only one of them has is denied in the other.
fn partition(before: &[ExternalPorts], after: &[ExternalPorts]) -> Vec<(PairPorts, PairPorts, AddressSet)> {
    let none = || PairPorts { all: PortSet::none(), some: PortSet::none() };
    let ports = |part: &ExternalPorts| PairPorts { all: part.all.clone(), some: part.some.clone() };
    let whole = |parts: &[ExternalPorts]| AddressSet::union_of(parts.iter().map(|part| part.addresses.clone()));
    let (all_before, all_after) = (whole(before), whole(after));
    let mut out = Vec::new();
    let mut add = |before: PairPorts, after: PairPorts, addresses: AddressSet| {
        if before != after && !addresses.is_empty() {
            out.push((before, after, addresses));
        }
    };
    for one in before {
        for other in after {
            add(ports(one), ports(other), one.addresses.intersection(&other.addresses));
        }
        add(ports(one), none(), one.addresses.difference(&all_after));
    }
    for other in after {
        add(none(), ports(other), other.addresses.difference(&all_before));
    }
    out
}

/// What decides about the pods of a unit, in no order.
fn kinds_of_pods<'e>(evaluation: &'e Evaluation, unit: &WorkloadPods) -> HashSet<Pod<'e>> {
    let pods = unit.pods.iter().filter_map(|pod| {
        let (namespace, name) = evaluation.graph.pod_name(*pod);
        evaluation.snapshot.pods.get(&ObjectKey::new(namespace, name))
    });
    pods.map(|pod| (&pod.labels, pod.ports.as_slice(), &pod.addresses, &pod.placement, pod.is_host_network)).collect()
}

/// What decides about a pod.
type Pod<'e> = (&'e Labels, &'e [NamedPort], &'e Addresses, &'e Placement, bool);

/// The addresses of nodes.
fn addresses(evaluation: &Evaluation) -> BTreeMap<&str, &[std::net::IpAddr]> {
    evaluation.snapshot.nodes.iter().map(|(name, node)| (name.as_str(), node.addresses.as_slice())).collect()
}
