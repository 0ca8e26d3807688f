//! Rules and policies without which the graph is the same.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::{FxHashMap, FxHashSet};

use super::coverage::{Allowed, always, now};
use super::{RuleAt, Scope};
use crate::graph::{AllowGraph, CompiledSelector, GroupId, NamespaceId, PolicyId, PortsId, Symbol};
use crate::model::Direction;

/// A rule or a policy that could be removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redundant<T> {
    /// What could be removed.
    pub it: T,
    /// What this holds for.
    pub scope: Scope,
    /// What allows, or isolates, the same. Never something else that is named as redundant.
    pub by: Vec<T>,
}

/// What could be removed, all of it together: no proof rests on anything that is listed before it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Redundancies {
    /// Policies, sorted by namespace and name.
    pub policies: Vec<Redundant<PolicyId>>,
    /// Rules of the other policies, in the same order.
    pub rules: Vec<Redundant<RuleAt>>,
}

/// Everything that could be removed together. Of several that are equal, the first one stays, by namespace, name and place. What selects
/// no pod or allows nothing is not redundant but dead, and is not listed.
///
/// Cost: for each rule, the rules of the policies that select the same pods, until one proves that it is needed.
#[must_use]
pub fn redundancies(graph: &AllowGraph) -> Redundancies {
    let mut search = Search::new(graph);
    let mut found = Redundancies::default();
    for scope in [Scope::Always, Scope::Now] {
        // An address of several pods is in a set only if all of them are (S2.5), which unions of rules do not show.
        if scope == Scope::Now && !graph.ambiguous_addresses().is_empty() {
            continue;
        }
        for policy in search.order.clone().into_iter().rev() {
            search.policy(policy, scope, &mut found);
        }
        for policy in search.order.clone().into_iter().rev() {
            search.rules(policy, scope, &mut found);
        }
    }
    let place = |policy: PolicyId| graph.policy_name(policy);
    found.policies.sort_by_key(|one| place(one.it));
    found.rules.sort_by_key(|one| (place(one.it.policy), one.it.direction, one.it.index));
    found
}

/// A search, with what was found to be redundant so far.
struct Search<'g> {
    graph: &'g AllowGraph,
    /// Sorted by namespace and name.
    order: Vec<PolicyId>,
    rules: FxHashMap<PolicyId, Vec<Allowed<'g>>>,
    /// Policies that may select all that another one does, by a label that they ask for.
    wider: FxHashMap<NamespaceId, Wider>,
    gone: FxHashSet<PolicyId>,
    gone_rules: FxHashSet<RuleAt>,
}

/// The policies of a namespace, by a label pair that their pods have; without one, in `rest`.
#[derive(Default)]
struct Wider {
    by_pair: FxHashMap<(Symbol, Symbol), Vec<PolicyId>>,
    rest: Vec<PolicyId>,
}

impl<'g> Search<'g> {
    fn new(graph: &'g AllowGraph) -> Self {
        let mut order: Vec<PolicyId> = graph.policies.iter().map(|(id, _)| id).collect();
        order.sort_by_key(|policy| graph.policy_name(*policy));
        let mut rules = FxHashMap::default();
        let mut wider: FxHashMap<NamespaceId, Wider> = FxHashMap::default();
        for policy in &order {
            let record = graph.policies.get(*policy);
            let allowed = record.rules.iter().map(|rule| {
                let index = usize::try_from(rule.index).unwrap_or(usize::MAX);
                Allowed::of(graph, RuleAt { policy: *policy, direction: rule.direction, index }, rule)
            });
            rules.insert(*policy, allowed.collect());
            let own = wider.entry(record.namespace).or_default();
            match target(graph, *policy).anchor() {
                None => own.rest.push(*policy),
                Some((key, values)) => {
                    for value in values {
                        own.by_pair.entry((key, *value)).or_default().push(*policy);
                    }
                }
            }
        }
        Self { graph, order, rules, wider, gone: FxHashSet::default(), gone_rules: FxHashSet::default() }
    }

    /// The policies that select every pod that could exist and that this one selects; itself among them.
    fn wider(&self, policy: PolicyId) -> Vec<PolicyId> {
        let own = target(self.graph, policy);
        let namespace = self.graph.policies.get(policy).namespace;
        let Some(index) = self.wider.get(&namespace) else { return Vec::new() };
        // All values of a label that this policy asks for are values that a wider one asks for.
        let pairs = own.first_pairs();
        let found = pairs.iter().filter_map(|pair| index.by_pair.get(pair)).flatten().chain(&index.rest);
        let is_wider = |other: &PolicyId| !self.gone.contains(other) && own.implies(target(self.graph, *other));
        found.copied().filter(is_wider).collect()
    }

    /// The rules of these policies that are still there.
    fn rules_of(&self, policies: &[PolicyId], direction: Direction) -> Vec<&Allowed<'g>> {
        let all = policies.iter().filter_map(|policy| self.rules.get(policy)).flatten();
        all.filter(|rule| rule.at.direction == direction && !self.gone_rules.contains(&rule.at)).collect()
    }

    /// The groups that a policy selects, one for each set of policies that selects them, with these policies.
    fn sides(&self, policy: PolicyId, direction: Direction) -> Vec<(GroupId, Vec<PolicyId>)> {
        let graph = self.graph;
        let target = graph.policies.get(policy).target;
        let mut seen: FxHashSet<(Vec<PolicyId>, PortsId)> = FxHashSet::default();
        let mut sides = Vec::new();
        for group in graph.terms.data(target).groups.to_vec() {
            if graph.pods_of(group).next().is_none() {
                continue;
            }
            let mut policies = graph.isolating(group, direction);
            policies.retain(|other| !self.gone.contains(other));
            if seen.insert((policies.clone(), graph.groups.key(group).ports)) {
                sides.push((group, policies));
            }
        }
        sides
    }

    /// What else isolates the pods of a policy, for a direction. A policy that only denies says so for those that are to come, whatever
    /// the others allow, so only others that deny alone make it superfluous.
    fn isolating(&self, policy: PolicyId, direction: Direction, scope: Scope) -> Option<BTreeSet<PolicyId>> {
        let denies_alone = |policy: PolicyId| self.graph.policies.get(policy).rules.is_empty();
        let isolates = |other: &&PolicyId| {
            let is_statement = denies_alone(policy) && !denies_alone(**other);
            **other != policy && !is_statement && self.graph.policies.get(**other).isolates(direction)
        };
        match scope {
            Scope::Always => self.wider(policy).iter().find(isolates).map(|other| BTreeSet::from([*other])),
            Scope::Now => {
                let sides = self.sides(policy, direction);
                sides.iter().map(|(_, policies)| policies.iter().find(isolates).copied()).collect()
            }
        }
    }

    /// The other rules that allow what a rule does; `without` is a policy whose rules do not count.
    fn covering(&self, rule: &Allowed<'g>, without: Option<PolicyId>, scope: Scope) -> Option<BTreeSet<RuleAt>> {
        let policy = rule.at.policy;
        let others = |policies: &[PolicyId]| -> Vec<&Allowed<'g>> {
            let mut rules = self.rules_of(policies, rule.at.direction);
            rules.retain(|other| other.at != rule.at && Some(other.at.policy) != without);
            rules
        };
        match scope {
            Scope::Always => always(self.graph, rule, &others(&self.wider(policy))),
            Scope::Now => {
                let mut used = BTreeSet::new();
                for (group, policies) in self.sides(policy, rule.at.direction) {
                    used.extend(now(self.graph, group, rule, &others(&policies))?);
                }
                Some(used)
            }
        }
    }

    fn is_dead(&self, policy: PolicyId) -> bool {
        self.graph.terms.data(self.graph.policies.get(policy).target).groups.is_empty()
    }

    fn policy(&mut self, policy: PolicyId, scope: Scope, found: &mut Redundancies) {
        if self.gone.contains(&policy) || (scope == Scope::Now && self.is_dead(policy)) {
            return;
        }
        let record = self.graph.policies.get(policy);
        let mut by = BTreeSet::new();
        for direction in Direction::ALL.into_iter().filter(|direction| record.isolates(*direction)) {
            let Some(others) = self.isolating(policy, direction, scope) else { return };
            by.extend(others);
        }
        for rule in self.rules.get(&policy).into_iter().flatten().filter(|rule| !self.gone_rules.contains(&rule.at)) {
            // Whom it is for may be there tomorrow.
            if scope == Scope::Now && !rule.is_nothing() && !self.has_peers(rule) {
                return;
            }
            let Some(others) = self.covering(rule, Some(policy), scope) else { return };
            by.extend(others.into_iter().map(|rule| rule.policy));
        }
        self.gone.insert(policy);
        found.policies.push(Redundant { it: policy, scope, by: self.sorted(by) });
    }

    fn sorted(&self, policies: BTreeSet<PolicyId>) -> Vec<PolicyId> {
        let named: BTreeMap<(&str, &str), PolicyId> =
            policies.into_iter().map(|policy| (self.graph.policy_name(policy), policy)).collect();
        named.into_values().collect()
    }

    fn rules(&mut self, policy: PolicyId, scope: Scope, found: &mut Redundancies) {
        if self.gone.contains(&policy) || (scope == Scope::Now && self.is_dead(policy)) {
            return;
        }
        let places: Vec<RuleAt> = self.rules.get(&policy).into_iter().flatten().map(|rule| rule.at).collect();
        for at in places.into_iter().rev().filter(|at| !self.gone_rules.contains(at)).collect::<Vec<_>>() {
            let Some(rule) = self.rules.get(&policy).into_iter().flatten().find(|rule| rule.at == at) else { continue };
            if rule.is_nothing() || (scope == Scope::Now && !self.has_peers(rule)) {
                continue;
            }
            if let Some(by) = self.covering(rule, None, scope).filter(|by| !by.is_empty()) {
                self.gone_rules.insert(at);
                let mut by: Vec<RuleAt> = by.into_iter().collect();
                by.sort_by_key(|rule| (self.graph.policy_name(rule.policy), rule.index));
                found.rules.push(Redundant { it: at, scope, by });
            }
        }
    }

    /// Whether a rule names an end that is there.
    fn has_peers(&self, rule: &Allowed<'_>) -> bool {
        !rule.blocks.is_empty() || rule.terms.iter().any(|term| !self.graph.terms.data(*term).groups.is_empty())
    }
}

fn target(graph: &AllowGraph, policy: PolicyId) -> &CompiledSelector {
    graph.selectors.key(graph.terms.key(graph.policies.get(policy).target).pods)
}
