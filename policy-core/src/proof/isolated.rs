//! Which policies isolate the same pods: what is allowed to a pod is what all of them allow together.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::graph::{AllowGraph, GroupId, PolicyId, TermId};
use crate::model::Direction;

/// Pods that the same policies isolate for a direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Isolated {
    /// The policies, sorted by name. Never empty, and all of one namespace.
    pub policies: Vec<PolicyId>,
    /// The groups of the pods, sorted. Each has a pod.
    pub groups: Vec<GroupId>,
}

/// All pods that are isolated for a direction, by the policies that do it. Sorted by the names of the policies.
///
/// Cost: for each group, the selectors of policies that match it.
#[must_use]
pub fn isolated(graph: &AllowGraph, direction: Direction) -> Vec<Isolated> {
    let mut isolates: FxHashMap<TermId, bool> = FxHashMap::default();
    // Every policy has one target, so the same targets are the same policies.
    let mut by_targets: BTreeMap<Vec<TermId>, Vec<GroupId>> = BTreeMap::new();
    for group in graph.groups() {
        if graph.pods_of(group).next().is_none() {
            continue;
        }
        let mut targets: Vec<TermId> = graph.groups.data(group).terms.to_vec();
        targets.retain(|term| {
            let is_isolating = || {
                let mut policies = graph.terms.data(*term).policies.iter();
                policies.any(|policy| graph.policies.get(*policy).isolates(direction))
            };
            *isolates.entry(*term).or_insert_with(is_isolating)
        });
        if !targets.is_empty() {
            by_targets.entry(targets).or_default().push(group);
        }
    }
    let found = by_targets.into_values().filter_map(|groups| {
        let policies = graph.isolating(*groups.first()?, direction);
        Some(Isolated { policies, groups })
    });
    let mut found: Vec<Isolated> = found.collect();
    found.sort_by_cached_key(|one| one.policies.iter().map(|policy| graph.policy_name(*policy)).collect::<Vec<_>>());
    found
}
