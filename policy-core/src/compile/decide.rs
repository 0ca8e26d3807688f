//! One decision per group and direction.
//!
//! This is the only place where a decision is put together: rules of one tier go in, and what comes out knows nothing of
//! policies any more. The Admin and Baseline tiers (S4) join here, before and after the rules of NetworkPolicies.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::Compiler;
use crate::graph::{Atom, Decision, DecisionId, GroupId, NamedAtom, PeerSetId, PolicyId, PortsId, Symbol};
use crate::model::{Direction, MOST_PEERS, PortEntry, Ports};
use crate::sets::Transport;

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

/// Results that groups share within one flush.
#[derive(Default)]
struct Memo {
    decisions: FxHashMap<(Vec<PolicyId>, Direction, PortsId), (DecisionId, bool)>,
    unions: FxHashMap<Vec<PeerSetId>, PeerSetId>,
}

/// Policies allow more than [`MOST_PEERS`].
struct TooLarge;

impl Compiler {
    pub(super) fn decide_dirty(&mut self) {
        let mut groups: Vec<GroupId> = std::mem::take(&mut self.dirty).into_iter().collect();
        groups.sort_unstable();
        let mut memo = Memo::default();
        for group in groups {
            let is_needed = self.graph.groups.data(group).in_scope > 0;
            self.delta.is_structural |= is_needed;
            for direction in Direction::ALL {
                let decision = is_needed.then(|| self.decide(group, direction, &mut memo));
                self.set_decision(group, direction, decision.map(|(decision, _)| decision));
                if decision.is_some_and(|(_, is_too_large)| is_too_large) {
                    self.graph.too_large.insert((group, direction));
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

    /// One more use of the decision of a group, and whether it denies everything because its policies are too large.
    fn decide(&mut self, group: GroupId, direction: Direction, memo: &mut Memo) -> (DecisionId, bool) {
        let mut policies: Vec<PolicyId> = self
            .graph
            .groups
            .data(group)
            .terms
            .iter()
            .flat_map(|term| self.graph.terms.data(*term).policies.iter().copied())
            .filter(|policy| self.graph.policies.get(*policy).isolates(direction))
            .collect();
        policies.sort_unstable();
        // Named ports of an ingress rule are the target's own (S1.53), so groups with other ports decide for themselves.
        let ports = self.graph.groups.key(group).ports;
        let key = (policies, direction, ports);
        if let Some((decision, is_too_large)) = memo.decisions.get(&key) {
            self.graph.decisions.retain(*decision);
            return (*decision, *is_too_large);
        }
        let mut is_too_large = false;
        let decision = if key.0.is_empty() {
            self.graph.decisions.acquire(Decision::Open).0
        } else {
            let allowances = self.allowances(&key.0, direction, ports);
            self.flatten(allowances, memo).unwrap_or_else(|TooLarge| {
                is_too_large = true;
                let any = self.acquire_union(Vec::new(), &mut memo.unions);
                self.acquire_isolated(any, Vec::new(), Vec::new())
            })
        };
        self.graph.decisions.retain(decision);
        memo.decisions.insert(key, (decision, is_too_large));
        (decision, is_too_large)
    }

    fn allowances(&self, policies: &[PolicyId], direction: Direction, ports: PortsId) -> Allowances {
        let mut out = Allowances::default();
        for policy in policies {
            for rule in self.graph.policies.get(*policy).rules(direction) {
                let Ports::Listed(entries) = &rule.ports else {
                    out.any.push(rule.peer_set);
                    continue;
                };
                for entry in entries {
                    match entry {
                        PortEntry::Range { protocol, low, high } => out.ranges.push((*protocol, *low, *high, rule.peer_set)),
                        PortEntry::Named { protocol, name } => {
                            self.name(*protocol, name, rule.peer_set, direction, ports, &mut out)
                        }
                        PortEntry::Unreadable => {}
                    }
                }
            }
        }
        out
    }

    fn name(
        &self,
        protocol: Transport,
        name: &str,
        peers: PeerSetId,
        direction: Direction,
        ports: PortsId,
        out: &mut Allowances,
    ) {
        // A name that no pod ever had was never interned, and matches nothing until a pod has it; policies intern theirs.
        let Some(name) = self.graph.strings.find(name) else { return };
        match direction {
            Direction::Egress => out.named.push((name, protocol, peers)),
            Direction::Ingress => {
                let own = self.graph.ports.key(ports).iter().filter(|(n, t, _)| *n == name && *t == protocol);
                out.ranges.extend(own.map(|(_, _, number)| (protocol, *number, *number, peers)));
            }
        }
    }

    /// One more use of the decision that these allowances make.
    fn flatten(&mut self, allowances: Allowances, memo: &mut Memo) -> Result<DecisionId, TooLarge> {
        let any = self.acquire_union(allowances.any, &mut memo.unions);
        let atoms = match self.atoms(any, &allowances.ranges, memo) {
            Ok(atoms) => atoms,
            Err(error) => {
                self.graph.peer_sets.release(any);
                return Err(error);
            }
        };
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
        Ok(self.acquire_isolated(any, atoms, named))
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
    fn atoms(
        &mut self,
        any: PeerSetId,
        ranges: &[(Transport, u16, u16, PeerSetId)],
        memo: &mut Memo,
    ) -> Result<Vec<Atom>, TooLarge> {
        let mut out: Vec<Atom> = Vec::new();
        let (mut size, mut known) = (0, memo.unions.len());
        for transport in Transport::ALL {
            // (first port at which something changes, peers, +1 or -1)
            let mut events: Vec<(u32, PeerSetId, i32)> = Vec::new();
            for (t, low, high, peers) in ranges {
                if *t == transport && *peers != self.nobody {
                    events.push((u32::from(*low), *peers, 1));
                    events.push((u32::from(*high) + 1, *peers, -1));
                }
            }
            events.sort_unstable();
            let mut active: BTreeMap<PeerSetId, i32> = BTreeMap::new();
            let mut events = events.into_iter().peekable();
            while let Some((port, peers, change)) = events.next() {
                let count = active.entry(peers).or_default();
                *count += change;
                if *count == 0 {
                    active.remove(&peers);
                }
                let Some((next, ..)) = events.peek().copied() else { break };
                if next == port || active.is_empty() {
                    continue;
                }
                let sets: Vec<PeerSetId> = active.keys().copied().chain([any]).collect();
                size += sets.len();
                let peers = self.acquire_union(sets, &mut memo.unions);
                if memo.unions.len() > known {
                    known = memo.unions.len();
                    size += self.graph.peer_sets.key(peers).size();
                }
                if size > MOST_PEERS {
                    out.iter().map(|atom| atom.peers).chain([peers]).for_each(|set| self.graph.peer_sets.release(set));
                    return Err(TooLarge);
                }
                // INVARIANT: `next` is at most 65536, the port after the last one.
                let (Ok(low), Ok(high)) = (u16::try_from(port), u16::try_from(next - 1)) else { continue };
                self.push_atom(&mut out, any, Atom { transport, low, high, peers });
            }
        }
        Ok(out)
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
