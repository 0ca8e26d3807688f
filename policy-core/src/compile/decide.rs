//! One decision per group and direction.
//!
//! This is the only place where a decision is put together: rules of one tier go in, and what comes out knows nothing of
//! policies any more. The Admin and Baseline tiers (S4) join here, before and after the rules of NetworkPolicies.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use rustc_hash::FxHashMap;

use super::Compiler;
use super::budget::{self, Cost, SharedSet, Side};
use crate::graph::{
    AllowGraph, Atom, Decision, DecisionId, GroupId, NamedAtom, PeerSetId, PolicyId, PortRecord, PortsId, Symbol, TermId,
    TooLarge,
};
use crate::model::{Direction, MOST_PEERS, PortEntry, Ports};
use crate::sets::{Transport, pairs};

/// What all selecting policies allow in one direction, rule by rule (S3.2, S3.3).
#[derive(Default)]
struct Allowances {
    /// Peers of rules without ports.
    any: Vec<PeerSetId>,
    /// Peers by port range.
    ranges: Vec<(Transport, u16, u16, PeerSetId)>,
    /// Peers by port name, which each destination resolves (S1.54).
    named: Vec<(Symbol, Transport, PeerSetId)>,
}

impl Allowances {
    /// The peers of each.
    fn all(&self) -> impl Iterator<Item = PeerSetId> + '_ {
        let ranges = self.ranges.iter().map(|(.., peers)| *peers);
        self.any.iter().copied().chain(ranges).chain(self.named.iter().map(|(.., peers)| *peers))
    }

    /// The sets of pods that these make, or `None` if they are more than `few`.
    fn shared_sets(&self, everyone: PeerSetId, few: usize) -> Option<BTreeSet<SharedSet>> {
        let mut any = self.any.clone();
        any.sort_unstable();
        any.dedup();
        let mut named: BTreeMap<(Symbol, Transport), Vec<PeerSetId>> = BTreeMap::new();
        for (name, transport, peers) in &self.named {
            named.entry((*name, *transport)).or_default().push(*peers);
        }
        let named = named.into_iter().map(|(name, mut peers)| {
            peers.sort_unstable();
            peers.dedup();
            (Some(name), peers)
        });
        let mut out: BTreeSet<SharedSet> = named.take(few + 1).collect();
        if !any.contains(&everyone) {
            let visited = disjoint(&self.ranges, |_, _, _, peers| {
                let mut peers: Vec<PeerSetId> = peers.iter().copied().chain(any.iter().copied()).collect();
                peers.sort_unstable();
                peers.dedup();
                if !peers.contains(&everyone) {
                    out.insert((None, peers));
                }
                if out.len() > few { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if visited.is_continue() && !any.is_empty() {
                out.insert((None, any));
            }
        }
        (out.len() <= few).then_some(out)
    }
}

/// Cuts overlapping ranges into disjoint ones, and visits each, in order, with its peers.
fn disjoint(
    ranges: &[(Transport, u16, u16, PeerSetId)],
    mut visit: impl FnMut(Transport, u16, u16, &BTreeSet<PeerSetId>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for transport in Transport::ALL {
        // (first port at which something changes, peers, +1 or -1)
        let mut events: Vec<(u32, PeerSetId, i32)> = Vec::new();
        for (t, low, high, peers) in ranges {
            if *t == transport {
                events.push((u32::from(*low), *peers, 1));
                events.push((u32::from(*high) + 1, *peers, -1));
            }
        }
        events.sort_unstable();
        let mut uses: BTreeMap<PeerSetId, i32> = BTreeMap::new();
        let mut active: BTreeSet<PeerSetId> = BTreeSet::new();
        let mut events = events.into_iter().peekable();
        while let Some((port, peers, change)) = events.next() {
            let count = uses.entry(peers).or_default();
            *count += change;
            if *count == 0 {
                uses.remove(&peers);
                active.remove(&peers);
            } else {
                active.insert(peers);
            }
            let Some((next, ..)) = events.peek().copied() else { break };
            if next == port || active.is_empty() {
                continue;
            }
            // INVARIANT: `next` is at most 65536, the port after the last one.
            let (Ok(low), Ok(high)) = (u16::try_from(port), u16::try_from(next - 1)) else { continue };
            visit(transport, low, high, &active)?;
        }
    }
    ControlFlow::Continue(())
}

/// Results that groups share within one flush.
#[derive(Default)]
struct Memo {
    decisions: FxHashMap<Side, (DecisionId, Option<TooLarge>)>,
    unions: FxHashMap<Vec<PeerSetId>, PeerSetId>,
}

impl Compiler {
    #[expect(clippy::iter_over_hash_type, reason = "uses are counted, in any order")]
    pub(super) fn decide_dirty(&mut self) {
        let mut groups: Vec<GroupId> = std::mem::take(&mut self.dirty).into_iter().collect();
        if self.graph.only_node.is_some() {
            groups.extend(self.spend(&groups));
        }
        groups.sort_unstable();
        groups.dedup();
        let mut memo = Memo::default();
        for group in groups {
            let is_needed = self.graph.groups.data(group).in_scope > 0;
            self.delta.is_structural |= is_needed;
            for direction in Direction::ALL {
                let decision = is_needed.then(|| self.decide(group, direction, &mut memo));
                self.set_decision(group, direction, decision.map(|(decision, _)| decision));
                if let Some((_, Some(too_large))) = decision {
                    self.graph.too_large.insert((group, direction), too_large);
                }
            }
        }
        // The memo holds one use of each of its values.
        for (_, (decision, _)) in memo.decisions {
            self.graph.decisions.release(decision);
        }
        for (_, set) in memo.unions {
            self.graph.peer_sets.release(set);
        }
    }

    /// Counts what the sides of these groups cost now, and returns other groups that are to be decided again for it.
    fn spend(&mut self, groups: &[GroupId]) -> Vec<GroupId> {
        let mut known: FxHashMap<Side, Cost> = FxHashMap::default();
        let groups = self.budget.recount(groups, |group| self.graph.groups.data(group).in_scope > 0);
        for (group, direction) in groups.iter().flat_map(|group| Direction::ALL.map(|direction| (*group, direction))) {
            let side = self.side(group, direction);
            if side.0.is_empty() {
                continue;
            }
            let cost = known.get(&side).cloned().unwrap_or_else(|| self.cost(&side));
            let namespace = self.graph.namespaces.key(self.graph.groups.key(group).namespace);
            self.budget.add(group, &side, &cost, namespace, || side_names(&self.graph, &side));
            known.insert(side, cost);
        }
        self.budget.choose()
    }

    /// What a side costs, before it is compiled.
    fn cost(&self, side: &Side) -> Cost {
        let allowances = self.allowances(side);
        let limits = self.budget.limits;
        let terms = |set: PeerSetId| self.graph.peer_sets.key(set).terms.iter().copied();
        let crowd = |term: TermId| limits.crowd(self.graph.terms.data(term).pods);
        let pods = |set: PeerSetId| terms(set).map(crowd).sum::<usize>();
        let is_crowd = allowances.all().any(|set| pods(set) > 0);
        let (listed, sets) = match is_crowd.then(|| allowances.shared_sets(self.everyone, limits.few_peers)) {
            None => (0, Vec::new()),
            Some(None) => (budget::listed(&allowances.ranges, pods), Vec::new()),
            Some(Some(sets)) => {
                let cost = |set: &SharedSet| {
                    let terms: BTreeSet<TermId> = set.1.iter().flat_map(|set| terms(*set)).collect();
                    budget::set(terms.into_iter().map(crowd).sum())
                };
                (0, sets.into_iter().map(|set| (cost(&set), set)).map(|(cost, set)| (set, cost)).collect())
            }
        };
        let ports = budget::ports(&allowances.ranges) + listed;
        let pairs = self.pairs(&allowances, limits.small.saturating_sub(ports));
        // What is too large by itself is not compiled, and costs nothing.
        if pairs > MOST_PEERS { Cost::default() } else { Cost { own: pairs + ports, sets } }
    }

    /// Gives the group its decision; the use of `decision` goes over to the group.
    pub(super) fn set_decision(&mut self, group: GroupId, direction: Direction, decision: Option<DecisionId>) {
        self.graph.too_large.remove(&(group, direction));
        let slot = self.graph.groups.data_mut(group).decisions.get_mut(direction as usize);
        let before = slot.and_then(|slot| std::mem::replace(slot, decision));
        if before != decision {
            self.delta.decisions.push((group, direction));
            if let Some(new) = decision {
                self.count_decision(new, 1);
            }
            if let Some(old) = before {
                self.count_decision(old, -1);
            }
        }
        if let Some(old) = before {
            self.graph.decisions.release(old);
        }
    }

    fn count_decision(&mut self, decision: DecisionId, by: i32) {
        let named = match self.graph.decisions.key(decision) {
            Decision::Isolated { named, .. } => named.to_vec(),
            Decision::Open => Vec::new(),
        };
        for atom in named {
            let state = self.graph.named.entry(atom).or_default();
            state.decisions = state.decisions.saturating_add_signed(by);
            self.maybe_changed_named.insert(atom);
        }
        for set in self.graph.decisions.key(decision).peer_sets() {
            let state = self.graph.peer_sets.data_mut(set);
            state.decisions = state.decisions.saturating_add_signed(by);
            self.maybe_changed_sets.insert(set);
        }
    }

    /// The policies that isolate a group, and what else distinguishes decisions.
    fn side(&self, group: GroupId, direction: Direction) -> Side {
        let terms = &self.graph.groups.data(group).terms;
        let policies = terms.iter().flat_map(|term| self.graph.terms.data(*term).policies.iter().copied());
        let mut policies: Vec<PolicyId> =
            policies.filter(|policy| self.graph.policies.get(*policy).isolates(direction)).collect();
        policies.sort_unstable();
        // Named ports of an ingress rule are the target's own (S1.53), so groups with other ports decide for themselves.
        let names_ports =
            direction == Direction::Ingress && policies.iter().any(|policy| self.graph.policies.get(*policy).names_ports);
        (policies, direction, names_ports.then(|| self.graph.groups.key(group).ports))
    }

    /// One more use of the decision of a group, and why it denies everything, if it is because of the size of its policies.
    fn decide(&mut self, group: GroupId, direction: Direction, memo: &mut Memo) -> (DecisionId, Option<TooLarge>) {
        let side = self.side(group, direction);
        if let Some((decision, too_large)) = memo.decisions.get(&side) {
            self.graph.decisions.retain(*decision);
            return (*decision, *too_large);
        }
        let mut too_large = None;
        let decision = if side.0.is_empty() {
            self.graph.decisions.acquire(Decision::Open).0
        } else {
            let allowances = self.allowances(&side);
            too_large = if self.budget.is_closed(&side) {
                Some(TooLarge::Node)
            } else {
                (self.pairs(&allowances, MOST_PEERS) > MOST_PEERS).then_some(TooLarge::Pod)
            };
            if too_large.is_some() {
                let any = self.acquire_union(Vec::new(), &mut memo.unions);
                self.acquire_isolated(any, Vec::new(), Vec::new())
            } else {
                self.flatten(allowances, memo)
            }
        };
        self.graph.decisions.retain(decision);
        memo.decisions.insert(side, (decision, too_large));
        (decision, too_large)
    }

    /// Pairs of ports and peers that allowances make, and what the sets of such peers hold; or what is no less, if that is no more
    /// than `enough`.
    fn pairs(&self, allowances: &Allowances, enough: usize) -> usize {
        // Who is everyone leaves nothing to others.
        if allowances.any.contains(&self.everyone) {
            return 1;
        }
        let size = |set: PeerSetId| self.graph.peer_sets.key(set).size();
        let any: BTreeSet<PeerSetId> = allowances.any.iter().copied().collect();
        let any: usize = any.into_iter().map(size).sum();
        let named: BTreeSet<_> = allowances.named.iter().collect();
        let named: usize = named.into_iter().map(|(.., set)| 1 + size(*set)).sum();
        let held: usize = allowances.ranges.iter().map(|(.., set)| size(*set)).sum();
        let ranges = allowances.ranges.len();
        let most = 2 * ranges * (ranges + held + any) + any + named;
        if most <= enough { most } else { pairs(&allowances.ranges, size, any) + any + named }
    }

    fn allowances(&self, (policies, direction, ports): &Side) -> Allowances {
        let mut out = Allowances::default();
        for policy in policies {
            for rule in self.graph.policies.get(*policy).rules(*direction) {
                let Ports::Listed(entries) = &rule.ports else {
                    out.any.push(rule.peer_set);
                    continue;
                };
                for entry in entries {
                    match entry {
                        PortEntry::Range { protocol, low, high } => out.ranges.push((*protocol, *low, *high, rule.peer_set)),
                        PortEntry::Named { protocol, name } => {
                            self.name(*protocol, name, rule.peer_set, *direction, *ports, &mut out)
                        }
                        PortEntry::Unreadable => {}
                    }
                }
            }
        }
        out.ranges.retain(|(.., peers)| *peers != self.nobody);
        out
    }

    fn name(
        &self,
        protocol: Transport,
        name: &str,
        peers: PeerSetId,
        direction: Direction,
        ports: Option<PortsId>,
        out: &mut Allowances,
    ) {
        // A name that no pod ever had was never interned, and matches nothing until a pod has it; policies intern theirs.
        let Some(name) = self.graph.strings.find(name) else { return };
        match direction {
            Direction::Egress => out.named.push((name, protocol, peers)),
            Direction::Ingress => {
                let own = ports.into_iter().flat_map(|ports| self.graph.own_numbers(ports, name, protocol));
                out.ranges.extend(own.map(|number| (protocol, number, number, peers)));
            }
        }
    }

    /// One more use of the decision that these allowances make.
    fn flatten(&mut self, allowances: Allowances, memo: &mut Memo) -> DecisionId {
        let any = self.acquire_union(allowances.any, &mut memo.unions);
        // Everyone gets every port, so no range of ports has peers of its own, however many ranges overlap.
        let atoms = if any == self.everyone { Vec::new() } else { self.atoms(any, &allowances.ranges, memo) };
        let mut by_name: BTreeMap<(Symbol, Transport), Vec<PeerSetId>> = BTreeMap::new();
        for (name, transport, peers) in allowances.named {
            by_name.entry((name, transport)).or_default().push(peers);
        }
        let mut named = Vec::with_capacity(by_name.len());
        for ((name, transport), sets) in by_name {
            let peers = self.acquire_union(sets, &mut memo.unions);
            if peers == self.nobody {
                self.graph.peer_sets.release(peers);
            } else {
                named.push(NamedAtom { name, transport, peers });
            }
        }
        self.acquire_isolated(any, atoms, named)
    }

    /// One more use of a decision; the uses of these sets go over to it.
    fn acquire_isolated(&mut self, any: PeerSetId, atoms: Vec<Atom>, named: Vec<NamedAtom>) -> DecisionId {
        let names: Vec<Symbol> = named.iter().map(|atom| atom.name).collect();
        let (decision, is_new) =
            self.graph.decisions.acquire(Decision::Isolated { any, atoms: atoms.into(), named: named.into() });
        if is_new {
            names.into_iter().for_each(|name| self.graph.strings.retain(name));
        } else {
            // The decision that was there has its own uses of these sets.
            for set in self.graph.decisions.key(decision).peer_sets() {
                self.graph.peer_sets.release(set);
            }
        }
        decision
    }

    /// Cuts overlapping ranges into disjoint ones, each with the union of their peers and of `any`.
    fn atoms(&mut self, any: PeerSetId, ranges: &[(Transport, u16, u16, PeerSetId)], memo: &mut Memo) -> Vec<Atom> {
        let mut out: Vec<Atom> = Vec::new();
        let _ = disjoint(ranges, |transport, low, high, peers| {
            let sets: Vec<PeerSetId> = peers.iter().copied().chain([any]).collect();
            let peers = self.acquire_union(sets, &mut memo.unions);
            self.push_atom(&mut out, any, Atom { transport, low, high, peers });
            ControlFlow::Continue(())
        });
        out
    }

    fn push_atom(&mut self, out: &mut Vec<Atom>, any: PeerSetId, atom: Atom) {
        if atom.peers == any {
            self.graph.peer_sets.release(atom.peers);
            return;
        }
        match out.last_mut() {
            Some(last)
                if last.transport == atom.transport && last.peers == atom.peers && last.high.checked_add(1) == Some(atom.low) =>
            {
                last.high = atom.high;
                self.graph.peer_sets.release(atom.peers);
            }
            _ => out.push(atom),
        }
    }
}

/// The policies and ports of a side by name; sorted.
fn side_names(graph: &AllowGraph, (policies, _, ports): &Side) -> Vec<Box<str>> {
    let mut out: Vec<Box<str>> = policies.iter().map(|policy| graph.policy_name(*policy).1.into()).collect();
    let ports = ports.map(|ports| &**graph.ports.key(ports)).unwrap_or_default();
    let text = |(name, transport, number): &PortRecord| format!("{} {transport} {number}", graph.strings.text(*name));
    out.extend(ports.iter().map(|port| text(port).into_boxed_str()));
    out.sort_unstable();
    out
}
