//! What sides cost before they are compiled, and which sides of one node are closed because all of them cost too much.
//!
//! A *side* is one direction of the groups that the same policies isolate. Few rules can stand for very many peers, and one
//! namespace can hold very many policies. What one node compiles is bounded, so that it costs its owner's pods their traffic, and
//! not the node its memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rustc_hash::FxHashMap;

use crate::graph::{GroupId, PeerSetId, PolicyId, PortsId, Symbol};
use crate::model::{Direction, Peers, PortEntry, Ports, Rule};
use crate::sets::{Transport, pairs};

/// What the sides of one node may cost together: 600 MB of the agent's memory at the worst, where each pair is a rule of its own.
const MOST_OF_NODE: usize = 500_000;
/// Sides that cost no more than this are not counted, and never closed for what others cost: a node has hundreds of pods at most.
const SMALL: usize = 64;
/// What a range of ports costs beside its peers, and as many of its ports as cost one more. Ports are listed one by one up to the
/// longest.
const RANGE: usize = 2;
const PORTS: usize = 8;
const LONGEST: usize = 64;
/// With more distinct peers than this, a pod is listed with each of its ports; with so many of a range at most. With fewer, the pods
/// of each are a set, which sides share. So many elements cost as much as a pair. Terms that select few pods are not counted.
const FEW_PEERS: usize = 16;
const LISTED: usize = 16;
const ELEMENTS: usize = 8;
const FEW_PODS: u32 = 64;

/// What distinguishes sides: the policies that isolate, sorted, and, where they name ports, the ports that names are looked up in.
pub(super) type Side = (Vec<PolicyId>, Direction, Option<PortsId>);

/// Pairs of ports and peers that the rules of one policy and direction make by themselves.
///
/// Other policies for the same pods come on top, and so does what the peers select. A policy that makes more than
/// [`MOST_PEERS`](crate::model::MOST_PEERS) alone is therefore not compiled, whatever the pods are, and its pods get no traffic; one that
/// makes fewer may not be.
///
/// Cost: linear in the port ranges of the rules, times the logarithm of their number.
#[must_use]
pub fn pairs_of_rules(rules: &[Rule]) -> usize {
    let mut known: HashMap<&Peers, usize> = HashMap::new();
    let mut ranges: Vec<(Transport, u16, u16, usize)> = Vec::new();
    for rule in rules {
        let Ports::Listed(entries) = &rule.ports else { continue };
        let next = known.len();
        let peers = *known.entry(&rule.peers).or_insert(next);
        ranges.extend(entries.iter().filter_map(|entry| match entry {
            PortEntry::Range { protocol, low, high } => Some((*protocol, *low, *high, peers)),
            PortEntry::Named { .. } | PortEntry::Unreadable => None,
        }));
    }
    pairs(&ranges, |_| 0, 0)
}

/// A set of pods that sides share: those of these peers, or the destinations among them that have a port of this name.
pub(super) type SharedSet = (Option<(Symbol, Transport)>, Vec<PeerSetId>);

/// What a side costs.
#[derive(Clone, Default)]
pub(super) struct Cost {
    /// Whoever else has what.
    pub own: usize,
    /// The sets that it shares, and what each costs.
    pub sets: Vec<(SharedSet, usize)>,
}

impl Cost {
    /// If it shared nothing.
    fn alone(&self) -> usize {
        self.own + self.sets.iter().map(|(_, cost)| cost).sum::<usize>()
    }
}

/// A side that is not small.
struct Large {
    /// In the words of the policies, so that the choice does not depend on the order in which objects came.
    namespace: Box<str>,
    names: Vec<Box<str>>,
    cost: Cost,
    groups: BTreeSet<GroupId>,
}

/// What sides cost together. A set that several of them share costs once.
#[derive(Default)]
struct Sum<'a> {
    cost: usize,
    uses: BTreeMap<&'a SharedSet, usize>,
}

impl<'a> Sum<'a> {
    fn add(&mut self, side: &'a Large) {
        self.cost += side.cost.own;
        for (set, cost) in &side.cost.sets {
            let uses = self.uses.entry(set).or_default();
            self.cost += if *uses == 0 { *cost } else { 0 };
            *uses += 1;
        }
    }

    fn subtract(&mut self, side: &'a Large) {
        self.cost -= side.cost.own;
        for (set, cost) in &side.cost.sets {
            let Some(uses) = self.uses.get_mut(set) else { continue };
            *uses -= 1;
            self.cost -= if *uses == 0 { *cost } else { 0 };
        }
    }
}

/// What a namespace has.
#[derive(Default)]
struct Tenant<'a> {
    sum: Sum<'a>,
    sides: Vec<(&'a Large, &'a Side)>,
}

/// What the sides of one node cost.
pub(super) struct Budget {
    /// What they may cost together, and what is not counted.
    pub(super) limits: Limits,
    large: BTreeMap<Side, Large>,
    /// What all large sides would cost together if they shared nothing: no less than what they do cost.
    most: usize,
    /// The side of each group that has a large one.
    of: FxHashMap<(GroupId, Direction), Side>,
    /// Sides that are not compiled, with the groups that had them when they were chosen.
    closed: BTreeMap<Side, BTreeSet<GroupId>>,
    /// All groups that have been counted.
    counted: BTreeSet<GroupId>,
    /// Whether terms select so many more pods, or less, that all sides are to be counted again.
    is_stale: bool,
}

const LIMITS: Limits = Limits { most: MOST_OF_NODE, small: SMALL, few_peers: FEW_PEERS, few_pods: FEW_PODS };

/// See the constants of these names.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub most: usize,
    pub small: usize,
    pub few_peers: usize,
    pub few_pods: u32,
}

impl Limits {
    /// The pods of a term as they are counted: in powers of two, so that few changes count, and none if they are few.
    pub(super) fn crowd(self, pods: u32) -> usize {
        if pods <= self.few_pods { 0 } else { pods.next_power_of_two() as usize }
    }
}

/// What pods cost in a set.
pub(super) fn set(pods: usize) -> usize {
    pods / ELEMENTS
}

/// What the pods cost that these ranges' peers select, `pods` of each, where each pod is listed with its ports.
pub(super) fn listed<K: Copy>(ranges: &[(Transport, u16, u16, K)], pods: impl Fn(K) -> usize) -> usize {
    ranges.iter().map(|(_, low, high, peers)| set(length(*low, *high).min(LISTED) * pods(*peers))).sum()
}

impl Default for Budget {
    fn default() -> Self {
        let limits = LIMITS;
        Self {
            limits,
            large: BTreeMap::new(),
            most: 0,
            of: FxHashMap::default(),
            closed: BTreeMap::new(),
            counted: BTreeSet::new(),
            is_stale: false,
        }
    }
}

/// What ranges of ports cost beside the pairs that they make.
pub(super) fn ports<K>(ranges: &[(Transport, u16, u16, K)]) -> usize {
    ranges.iter().map(|(_, low, high, _)| RANGE + length(*low, *high).min(LONGEST) / PORTS).sum()
}

fn length(low: u16, high: u16) -> usize {
    usize::from(high.saturating_sub(low)) + 1
}

impl Budget {
    /// Whether a side is closed for what the node's sides cost together.
    pub(super) fn is_closed(&self, side: &Side) -> bool {
        self.closed.contains_key(side)
    }

    /// A term selects more pods, or less.
    pub(super) fn count(&mut self, pods: &mut u32, by: i32) {
        let before = self.limits.crowd(*pods);
        *pods = pods.saturating_add_signed(by);
        self.is_stale |= before != self.limits.crowd(*pods);
    }

    /// The groups to count again when these changed. They are counted after that, if they are `needed`.
    pub(super) fn recount(&mut self, changed: &[GroupId], needed: impl Fn(GroupId) -> bool) -> Vec<GroupId> {
        for (group, direction) in changed.iter().flat_map(|group| Direction::ALL.map(|direction| (*group, direction))) {
            self.forget(group, direction);
        }
        for group in changed {
            if needed(*group) {
                self.counted.insert(*group)
            } else {
                self.counted.remove(group)
            };
        }
        if std::mem::take(&mut self.is_stale) {
            (self.large, self.most, self.of) = Default::default();
            return self.counted.iter().copied().collect();
        }
        changed.iter().copied().filter(|group| self.counted.contains(group)).collect()
    }

    /// A group is gone.
    pub(super) fn remove(&mut self, group: GroupId) {
        Direction::ALL.into_iter().for_each(|direction| self.forget(group, direction));
        self.counted.remove(&group);
    }

    /// The group has this side, whose policies and ports have these names.
    pub(super) fn add(
        &mut self,
        group: GroupId,
        side: &Side,
        cost: &Cost,
        namespace: &str,
        names: impl FnOnce() -> Vec<Box<str>>,
    ) {
        if cost.alone() <= self.limits.small {
            return;
        }
        self.of.insert((group, side.1), side.clone());
        let most = &mut self.most;
        let new = || {
            *most += cost.alone();
            Large { namespace: namespace.into(), names: names(), cost: cost.clone(), groups: BTreeSet::new() }
        };
        self.large.entry(side.clone()).or_insert_with(new).groups.insert(group);
    }

    /// The group has no large side in this direction any more.
    fn forget(&mut self, group: GroupId, direction: Direction) {
        let Some(side) = self.of.remove(&(group, direction)) else { return };
        if let Some(large) = self.large.get_mut(&side) {
            large.groups.remove(&group);
            if large.groups.is_empty() {
                self.most -= large.cost.alone();
                self.large.remove(&side);
            }
        }
    }

    /// Chooses the sides to close. Groups of which a side is closed, or is not any more, since the last choice.
    pub(super) fn choose(&mut self) -> Vec<GroupId> {
        let closed = self.too_much(self.limits.most).into_iter();
        let closed: BTreeMap<Side, BTreeSet<GroupId>> =
            closed.filter_map(|side| Some((side.clone(), self.large.get(&side)?.groups.clone()))).collect();
        let opened = self.closed.iter().filter(|(side, _)| !closed.contains_key(*side));
        let newly = closed.iter().filter(|(side, _)| !self.closed.contains_key(*side));
        let groups = opened.chain(newly).flat_map(|(_, groups)| groups.iter().copied());
        // Those that are gone meanwhile need no decision.
        let groups = groups.filter(|group| self.counted.contains(group)).collect();
        self.closed = closed;
        groups
    }

    /// As long as all cost more than `most`: the largest side of the namespace that costs most.
    fn too_much(&self, most: usize) -> BTreeSet<Side> {
        let mut out = BTreeSet::new();
        if self.most <= most {
            return out;
        }
        let mut all = Sum::default();
        let mut namespaces: BTreeMap<&str, Tenant<'_>> = BTreeMap::new();
        for (side, large) in &self.large {
            let tenant = namespaces.entry(&large.namespace).or_default();
            all.add(large);
            tenant.sum.add(large);
            tenant.sides.push((large, side));
        }
        for tenant in namespaces.values_mut() {
            tenant.sides.sort_by_key(|(large, side)| (large.cost.alone(), &large.names, side.1));
        }
        while all.cost > most {
            let Some(tenant) = namespaces.values_mut().max_by_key(|tenant| tenant.sum.cost) else { break };
            let Some((large, side)) = tenant.sides.pop() else { break };
            all.subtract(large);
            tenant.sum.subtract(large);
            out.insert(side.clone());
        }
        out
    }

    /// What it holds.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 5] {
        let Self { limits: _, large, most, of, closed, counted, is_stale: _ } = self;
        assert_eq!(*most, large.values().map(|large| large.cost.alone()).sum::<usize>());
        [large.len(), large.values().map(|large| large.groups.len()).sum(), of.len(), closed.len(), counted.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Id;

    const TCP: Transport = Transport::Tcp;

    #[test]
    fn long_ranges_cost_more_up_to_a_bound() {
        let costs = [(80, 80), (80, 87), (80, 143), (1, 65535)].map(|(low, high)| ports(&[(TCP, low, high, 0)]));
        assert_eq!(costs, [2, 3, 10, 10]);
    }

    #[test]
    fn pods_cost_where_they_are_listed_with_their_ports() {
        let cost =
            |peers: u32, low, high| listed(&(0..peers).map(|n| (TCP, low, high, n)).collect::<Vec<_>>(), |_| LIMITS.crowd(1000));
        assert_eq!(cost(17, 80, 80), 17 * 1024 / 8);
        assert_eq!(cost(17, 80, 89), 17 * 10 * 1024 / 8);
        assert_eq!(cost(17, 1, 65535), 17 * 16 * 1024 / 8);
        assert_eq!([0, 64, 65, 128, 129].map(|pods| LIMITS.crowd(pods)), [0, 0, 128, 128, 256]);
    }

    #[test]
    fn the_namespace_that_costs_most_loses_its_largest_sides() {
        let mut budget = Budget::default();
        let ids = |n: u32| (GroupId::from_index(n), (vec![PolicyId::from_index(n)], Direction::Ingress, None));
        let sides = [("a", 500), ("b", 300), ("b", 290), ("b", 200), ("c", 400)];
        for (n, (namespace, cost)) in (0..).zip(sides) {
            let (group, side) = ids(n);
            let cost = Cost { own: cost, sets: Vec::new() };
            budget.add(group, &side, &cost, namespace, || vec![n.to_string().into()]);
        }
        let closed = |budget: &Budget, most| budget.too_much(most).into_iter().map(|side| side.0).collect::<Vec<_>>();
        let policy = |n: u32| vec![PolicyId::from_index(n)];
        assert_eq!(closed(&budget, 1690), Vec::<Vec<PolicyId>>::new());
        assert_eq!(closed(&budget, 1689), [policy(1)]);
        // Then `a` costs most, as much as ever; then `b` again.
        assert_eq!(closed(&budget, 1389), [policy(0), policy(1)]);
        assert_eq!(closed(&budget, 889), [policy(0), policy(1), policy(2)]);
        assert_eq!(closed(&budget, 0).len(), 5);
        for n in 0..5 {
            budget.remove(ids(n).0);
        }
        assert_eq!(budget.sizes(), [0; 5]);
    }

    #[test]
    fn a_set_that_sides_share_costs_once() {
        let mut budget = Budget::default();
        let peers = |n: u32| (None, vec![PeerSetId::from_index(n)]);
        let ids = |n: u32| (GroupId::from_index(n), (vec![PolicyId::from_index(n)], Direction::Ingress, None));
        // Everybody allows one large selector; `b` has two that nobody else has.
        let sides = [("a", vec![0]), ("a", vec![0]), ("b", vec![0, 1]), ("b", vec![0, 2]), ("c", vec![0])];
        for (n, (namespace, sets)) in (0..).zip(sides) {
            let (group, side) = ids(n);
            let cost = Cost { own: 1, sets: sets.into_iter().map(|n| (peers(n), 1000)).collect() };
            budget.add(group, &side, &cost, namespace, || vec![n.to_string().into()]);
        }
        let closed = |most| budget.too_much(most).into_iter().map(|side| side.0).collect::<Vec<_>>();
        let policies = |ids: &[u32]| ids.iter().map(|n| vec![PolicyId::from_index(*n)]).collect::<Vec<_>>();
        assert_eq!(closed(3005), policies(&[]));
        assert_eq!(closed(3004), policies(&[3]));
        assert_eq!(closed(2003), policies(&[2, 3]));
        assert_eq!(closed(1002), policies(&[1, 2, 3]));
        for n in 0..5 {
            budget.remove(ids(n).0);
        }
        assert_eq!(budget.sizes(), [0; 5]);
    }
}
