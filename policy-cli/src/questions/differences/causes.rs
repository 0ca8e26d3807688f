//! The edits between two inputs, and what each of them can change.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use policy_core::graph::GroupId;
use policy_core::model::{Direction, Labels, ObjectKey, Peer, Peers, Policy, Ports, Rule, WorkloadKey};
use serde::Serialize;

use crate::questions::evaluation::Evaluation;

type Name = (String, WorkloadKey);

/// An object that the two inputs have differently.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Edit {
    /// The object, such as `NetworkPolicy shop/db`.
    pub object: String,
    /// What is different, in a few words each.
    pub what: Vec<String>,
    /// Where the second input has it, or else the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// All of them, and which workloads they concern.
pub(super) struct Edits {
    pub list: Vec<Edit>,
    /// Policies whose edits are about rules with selectors.
    pub selecting: Vec<String>,
    /// By workload: edits of policies that select it, for each direction, in one input or the other.
    policies: BTreeMap<Name, [BTreeSet<usize>; 2]>,
    /// By workload: edits of its own labels, and by namespace: edits of those.
    workloads: BTreeMap<Name, usize>,
    namespaces: BTreeMap<String, usize>,
}

impl Edits {
    pub(super) fn between(old: &Evaluation, new: &Evaluation) -> Self {
        let mut edits = Self {
            list: Vec::new(),
            selecting: Vec::new(),
            policies: BTreeMap::new(),
            workloads: BTreeMap::new(),
            namespaces: BTreeMap::new(),
        };
        let policies = edits.policies(old, new);
        edits.namespaces(old, new);
        for evaluation in [old, new] {
            let mut by_group: HashMap<GroupId, [Vec<usize>; 2]> = HashMap::new();
            for (name, unit) in evaluation.units() {
                let groups: BTreeSet<GroupId> = unit.pods.iter().filter_map(|pod| evaluation.graph.group_of(*pod)).collect();
                for group in groups {
                    let of_group = by_group
                        .entry(group)
                        .or_insert_with(|| Direction::ALL.map(|direction| isolating(evaluation, group, direction, &policies)));
                    let own = edits.policies.entry(name.clone()).or_default();
                    own.iter_mut().zip(of_group).for_each(|(own, of_group)| own.extend(of_group.iter().copied()));
                }
            }
        }
        edits.workloads(old, new);
        edits
    }

    /// Whether labels or named ports of a workload, or labels of its namespace, differ.
    pub(super) fn is_relabelled(&self, name: &Name) -> bool {
        self.workloads.contains_key(name) || self.namespaces.contains_key(&name.0)
    }

    /// Whether policies differ that isolate a workload for a direction, in one input or the other.
    pub(super) fn has_policies(&self, name: &Name, direction: Direction) -> bool {
        self.policies.get(name).and_then(|own| own.get(direction as usize)).is_some_and(|own| !own.is_empty())
    }

    /// What can change the connections of a workload in one direction.
    pub(super) fn of_side(&self, name: &Name, direction: Direction) -> Vec<usize> {
        self.side(name, direction).into_iter().collect()
    }

    /// What can change the connections from one workload to another.
    pub(super) fn between_units(&self, source: &Name, destination: &Name) -> Vec<usize> {
        let mut all = self.side(source, Direction::Egress);
        all.extend(self.side(destination, Direction::Ingress));
        all.into_iter().collect()
    }

    fn side(&self, name: &Name, direction: Direction) -> BTreeSet<usize> {
        let of_policies = self.policies.get(name).and_then(|own| own.get(direction as usize)).into_iter().flatten();
        of_policies.chain(self.workloads.get(name)).chain(self.namespaces.get(&name.0)).copied().collect()
    }

    fn add(&mut self, edit: Edit) -> usize {
        self.list.push(edit);
        self.list.len() - 1
    }

    fn policies(&mut self, old: &Evaluation, new: &Evaluation) -> BTreeMap<ObjectKey, (usize, [bool; 2])> {
        let (before, after) = (&old.snapshot.policies, &new.snapshot.policies);
        let mut out = BTreeMap::new();
        for key in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
            let (one, other) = (before.get(key), after.get(key));
            let what = match (one, other) {
                (Some(one), Some(other)) => of_policy(one, other),
                (None, _) => vec!["added".to_owned()],
                (_, None) => vec!["removed".to_owned()],
            };
            if !what.is_empty() {
                let origin = other.or(one).and_then(|policy| policy.origin.as_ref());
                let object = format!("NetworkPolicy {}/{}", key.namespace, key.name);
                let directions = Direction::ALL.map(|direction| match (one, other) {
                    (Some(one), Some(other)) => one.target != other.target || differ(one, other, direction),
                    _ => true,
                });
                if selects(one) != selects(other) {
                    self.selecting.push(format!("{}/{}", key.namespace, key.name));
                }
                let number = self.add(Edit { object, what, place: origin.map(ToString::to_string) });
                if selects(one) != selects(other) {
                    self.selecting.push(format!("{}/{}", key.namespace, key.name));
                }
                out.insert(key.clone(), (number, directions));
            }
        }
        out
    }

    fn namespaces(&mut self, old: &Evaluation, new: &Evaluation) {
        for (name, namespace) in &new.snapshot.namespaces {
            let Some(before) = old.snapshot.namespaces.get(name) else { continue };
            let what = of_labels(&before.labels, &namespace.labels);
            if !what.is_empty() {
                let number = self.add(Edit { object: format!("Namespace {name}"), what, place: None });
                self.namespaces.insert(name.clone(), number);
            }
        }
    }

    fn workloads(&mut self, old: &Evaluation, new: &Evaluation) {
        let labels = |evaluation: &Evaluation, pods: &[ObjectKey]| -> BTreeSet<Labels> {
            pods.iter().filter_map(|pod| evaluation.snapshot.pods.get(pod)).map(|pod| pod.labels.clone()).collect()
        };
        let ports = |evaluation: &Evaluation, pods: &[ObjectKey]| -> BTreeSet<String> {
            let ports = pods.iter().filter_map(|pod| evaluation.snapshot.pods.get(pod)).flat_map(|pod| &pod.ports);
            ports.map(|port| format!("{} {}", port.name, port.number)).collect()
        };
        for (name, workload) in &new.snapshot.workloads {
            let Some(before) = old.snapshot.workloads.get(name) else { continue };
            let mut what = match (
                &*labels(old, &before.pods).into_iter().collect::<Vec<_>>(),
                &*labels(new, &workload.pods).into_iter().collect::<Vec<_>>(),
            ) {
                ([one], [other]) => of_labels(one, other),
                (some, others) if some != others => vec!["the labels of its pods changed".to_owned()],
                _ => Vec::new(),
            };
            if ports(old, &before.pods) != ports(new, &workload.pods) {
                what.push("the named ports of its pods changed".to_owned());
            }
            if !what.is_empty() {
                let object = format!("{} {}/{}", name.1.kind, name.0, name.1.name);
                let number = self.add(Edit { object, what, place: None });
                self.workloads.insert(name.clone(), number);
            }
        }
    }
}

/// The edits of policies that isolate a group.
fn isolating(
    evaluation: &Evaluation,
    group: GroupId,
    direction: Direction,
    edits: &BTreeMap<ObjectKey, (usize, [bool; 2])>,
) -> Vec<usize> {
    let policies = evaluation.graph.isolating(group, direction).into_iter();
    let edit = |policy| {
        let (namespace, name) = evaluation.graph.policy_name(policy);
        let (number, directions) = edits.get(&ObjectKey::new(namespace, name))?;
        directions.get(direction as usize).copied().unwrap_or(true).then_some(*number)
    };
    policies.filter_map(edit).collect()
}

/// Whether two policies allow something else in one direction, or isolate for it alone.
fn differ(one: &Policy, other: &Policy, direction: Direction) -> bool {
    let rules = |policy: &Policy| policy.rules(direction).map(<[Rule]>::len);
    let of_rules = match (one.rules(direction), other.rules(direction)) {
        (Some(before), Some(after)) => of_rules(direction, before, after),
        _ => Vec::new(),
    };
    rules(one).is_some() != rules(other).is_some() || !of_rules.is_empty()
}

/// The rules of a policy that are about selectors, in the order of their peers' text.
fn selects(policy: Option<&Policy>) -> Vec<(Direction, &Peers, &Ports)> {
    let rules = |direction: Direction| policy.and_then(|policy| policy.rules(direction)).unwrap_or_default();
    let is_about = |rule: &Rule| match &rule.peers {
        Peers::Everyone => true,
        Peers::Listed(peers) => peers.iter().any(|peer| matches!(peer, Peer::Pods { .. })),
    };
    let of =
        |direction| rules(direction).iter().filter(|rule| is_about(rule)).map(move |rule| (direction, &rule.peers, &rule.ports));
    Direction::ALL.into_iter().flat_map(of).collect()
}

/// What differs in a policy of both inputs.
fn of_policy(one: &Policy, other: &Policy) -> Vec<String> {
    let mut out = Vec::new();
    if one.target != other.target {
        out.push(format!("podSelector: {} → {}", one.target, other.target));
    }
    for direction in Direction::ALL {
        match (one.rules(direction), other.rules(direction)) {
            (None, None) => {}
            (None, Some(_)) => out.push(format!("isolates for {direction} now")),
            (Some(_), None) => out.push(format!("isolates for {direction} no longer")),
            (Some(before), Some(after)) => out.extend(of_rules(direction, before, after)),
        }
    }
    out
}

/// Rules are compared by what they allow, and not by their place.
fn of_rules(direction: Direction, before: &[Rule], after: &[Rule]) -> Vec<String> {
    let same = |one: &Rule, other: &Rule| (&one.peers, &one.ports) == (&other.peers, &other.ports);
    let mut left: Vec<(usize, &Rule)> = before.iter().enumerate().collect();
    let mut new: Vec<usize> = Vec::new();
    for (at, rule) in after.iter().enumerate() {
        match left.iter().position(|(_, other)| same(rule, other)) {
            Some(found) => {
                left.remove(found);
            }
            None => new.push(at),
        }
    }
    let mut out = Vec::new();
    // A rule that is there in both, at the same place, was edited.
    new.retain(|at| match left.iter().position(|(other, _)| other == at) {
        Some(found) => {
            left.remove(found);
            out.push(format!("{direction}[{at}] changed"));
            false
        }
        None => true,
    });
    out.extend(new.iter().map(|at| format!("{direction}[{at}] added")));
    out.extend(left.iter().map(|(at, _)| format!("{direction}[{at}] removed")));
    out
}

fn of_labels(one: &Labels, other: &Labels) -> Vec<String> {
    let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let differs = keys.into_iter().filter(|key| one.get(*key) != other.get(*key));
    let text = |key: &String| match (one.get(key), other.get(key)) {
        (Some(before), Some(after)) => format!("label {key}: {before} → {after}"),
        (None, Some(after)) => format!("label {key}={after} added"),
        (Some(before), None) => format!("label {key}={before} removed"),
        (None, None) => String::new(),
    };
    differs.map(text).collect()
}
