//! Whether other rules allow what a rule allows.

use std::collections::BTreeSet;

use super::RuleAt;
use crate::graph::{self, AllowGraph, GroupId, PeerRecord, RuleRecord, TermId};
use crate::model::{Direction, Ports};
use crate::sets::{AddressSet, PortSet, Transport};

/// What a rule allows, in one form for all rules.
pub(super) struct Allowed<'g> {
    pub at: RuleAt,
    pub terms: Vec<TermId>,
    /// Every address of both families if the rule names no peers.
    pub blocks: AddressSet,
    pub ports: PortsOf<'g>,
}

/// The ports of a rule.
#[derive(Clone, Debug)]
pub(super) struct PortsOf<'g> {
    pub numbers: PortSet,
    pub names: BTreeSet<(Transport, &'g str)>,
}

impl<'g> PortsOf<'g> {
    fn of(ports: &'g Ports) -> Self {
        Self { numbers: ports.numbers(), names: ports.names().collect() }
    }

    /// The same with the numbers that the containers of a group give the names.
    pub(super) fn resolved(&self, graph: &AllowGraph, group: GroupId) -> PortSet {
        let ports = graph.groups.key(group).ports;
        let mut ranges = Vec::new();
        for (transport, name) in &self.names {
            let symbol = graph.strings.find(*name);
            let numbers = symbol.into_iter().flat_map(|name| graph.own_numbers(ports, name, *transport));
            ranges.extend(numbers.map(|number| (*transport, number, number)));
        }
        self.numbers.union(&PortSet::from_ranges(&ranges))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.names.is_empty()
    }

    /// What is left without these others.
    fn without(&self, other: &Self) -> Self {
        let is_whole = |transport: Transport| {
            let all = PortSet::all();
            other.numbers.ports(transport) == all.ports(transport)
        };
        let names = self.names.iter().filter(|name| !other.names.contains(name) && !is_whole(name.0));
        Self { numbers: self.numbers.difference(&other.numbers), names: names.copied().collect() }
    }

    /// What both have. A name is in what has every port of its protocol.
    fn within(&self, other: &Self) -> Self {
        let rest = self.without(other);
        Self { numbers: self.numbers.difference(&rest.numbers), names: self.names.difference(&rest.names).copied().collect() }
    }
}

impl<'g> Allowed<'g> {
    pub(super) fn of(graph: &'g AllowGraph, at: RuleAt, rule: &'g RuleRecord) -> Self {
        let terms = Self::selectors(rule).map(|(_, term)| term).collect();
        let blocks = if rule.peers.is_none() { AddressSet::all() } else { graph.blocks(rule.peer_set).clone() };
        Self { at, terms, blocks, ports: PortsOf::of(&rule.ports) }
    }

    /// The selectors among its peers, with their places.
    pub(super) fn selectors(rule: &RuleRecord) -> impl Iterator<Item = (usize, TermId)> {
        rule.peers.iter().flatten().enumerate().filter_map(|(place, peer)| match peer {
            PeerRecord::Pods(term) => Some((place, *term)),
            PeerRecord::Block(_) | PeerRecord::Unreadable => None,
        })
    }

    fn is_everyone(&self) -> bool {
        self.blocks.covers(crate::sets::Family::V4) && self.blocks.covers(crate::sets::Family::V6)
    }

    /// Whether it allows nothing at all.
    pub(super) fn is_nothing(&self) -> bool {
        self.ports.is_empty() || (self.terms.is_empty() && self.blocks.is_empty())
    }
}

/// Whether `others` allow everything that `rule` does, whatever pods there are. Returns those of them that it takes.
pub(super) fn always<'g>(graph: &AllowGraph, rule: &Allowed<'g>, others: &[&Allowed<'g>]) -> Option<BTreeSet<RuleAt>> {
    let mut used = BTreeSet::new();
    for term in &rule.terms {
        let holds = |other: &Allowed<'_>| other.is_everyone() || other.terms.iter().any(|wider| graph.implies(*term, *wider));
        take(&rule.ports, others.iter().copied().filter(|other| holds(other)), &mut used)?;
    }
    let left = blocks_left(rule, others, &mut used);
    left.is_empty().then_some(used)
}

/// Whether `others` allow everything that `rule` does to or from the pods of one group, for the pods of the graph.
pub(super) fn now<'g>(
    graph: &AllowGraph,
    group: GroupId,
    rule: &Allowed<'g>,
    others: &[&Allowed<'g>],
) -> Option<BTreeSet<RuleAt>> {
    let mut used = BTreeSet::new();
    // A port name is one of the destination.
    let resolved = |rule: &Allowed<'_>, peer: GroupId| {
        let destination = if rule.at.direction == Direction::Ingress { group } else { peer };
        rule.ports.resolved(graph, destination)
    };
    let peers: BTreeSet<GroupId> = rule.terms.iter().flat_map(|term| graph.terms.data(*term).groups.to_vec()).collect();
    for peer in peers.into_iter().filter(|peer| graph.pods_of(*peer).next().is_some()) {
        let mut left = resolved(rule, peer);
        for other in others {
            if left.is_empty() {
                break;
            }
            let rest = left.difference(&resolved(other, peer));
            if rest != left && is_held(graph, peer, other) {
                used.insert(other.at);
                left = rest;
            }
        }
        if !left.is_empty() {
            return None;
        }
    }
    let left = blocks_left(rule, others, &mut used);
    for (ports, addresses) in left {
        // What selectors of the others match of it are the addresses of pods.
        let pods = graph.known_addresses(&addresses);
        let known = AddressSet::union_of(pods.iter().map(|address| AddressSet::single(*address)));
        if !addresses.difference(&known).is_empty() {
            return None;
        }
        for address in pods {
            let claimants = graph.claimants(address);
            let peer = claimants.first().and_then(|pod| graph.group_of(*pod)).filter(|_| claimants.len() == 1)?;
            let mut rest = ports.resolved(graph, if rule.at.direction == Direction::Ingress { group } else { peer });
            for other in others.iter().filter(|other| is_held(graph, peer, other)) {
                let without = rest.difference(&resolved(other, peer));
                if without != rest {
                    used.insert(other.at);
                    rest = without;
                }
            }
            if !rest.is_empty() {
                return None;
            }
        }
    }
    Some(used)
}

/// Whether a rule names every pod of a group, by label or by address.
fn is_held(graph: &AllowGraph, group: GroupId, rule: &Allowed<'_>) -> bool {
    let is_selected = || rule.terms.iter().any(|term| graph.terms.data(*term).groups.contains(group));
    let is_in_blocks = || {
        let mut addresses = graph.pods_of(group).map(|pod| graph.pod_addresses(pod));
        addresses.all(|own| !own.is_empty() && own.iter().all(|address| rule.blocks.contains(*address)))
    };
    rule.is_everyone() || is_selected() || (!rule.blocks.is_empty() && is_in_blocks())
}

/// Takes the ports of `others` away from `ports`; `None` if some are left.
fn take<'r, 'g: 'r>(
    ports: &PortsOf<'_>,
    others: impl Iterator<Item = &'r Allowed<'g>>,
    used: &mut BTreeSet<RuleAt>,
) -> Option<()> {
    let mut left = ports.clone();
    for other in others {
        if left.is_empty() {
            break;
        }
        let rest = left.without(&other.ports);
        if (&rest.numbers, &rest.names) != (&left.numbers, &left.names) {
            used.insert(other.at);
            left = PortsOf {
                numbers: rest.numbers,
                names: left.names.into_iter().filter(|name| rest.names.contains(name)).collect(),
            };
        }
    }
    left.is_empty().then_some(())
}

/// The addresses of a rule's blocks that no block of others allows, with the ports.
fn blocks_left<'g>(rule: &Allowed<'g>, others: &[&Allowed<'g>], used: &mut BTreeSet<RuleAt>) -> Vec<(PortsOf<'g>, AddressSet)> {
    let mut left = if rule.blocks.is_empty() { Vec::new() } else { vec![(rule.ports.clone(), rule.blocks.clone())] };
    for other in others.iter().filter(|other| !other.blocks.is_empty()) {
        let mut next = Vec::with_capacity(left.len());
        for (ports, addresses) in left {
            let shared = ports.within(&other.ports);
            let rest = addresses.difference(&other.blocks);
            if shared.is_empty() || rest == addresses {
                next.push((ports, addresses));
                continue;
            }
            used.insert(other.at);
            let alone = ports.without(&other.ports);
            next.extend((!alone.is_empty()).then_some((alone, addresses)));
            next.extend((!rest.is_empty()).then_some((shared, rest)));
        }
        left = next;
        if left.is_empty() {
            break;
        }
    }
    left
}

impl AllowGraph {
    /// Whether every pod that could exist and that the first term matches is one that the second one matches.
    fn implies(&self, narrow: TermId, wide: TermId) -> bool {
        if narrow == wide {
            return true;
        }
        let (narrow, wide) = (self.terms.key(narrow), self.terms.key(wide));
        let selector = |scope| self.selectors.key(*self.scopes.key(scope));
        let is_in_scope = match (narrow.scope, wide.scope) {
            (graph::Scope::Namespace(one), graph::Scope::Namespace(other)) => one == other,
            (graph::Scope::Namespace(_), graph::Scope::Matching(wide)) => selector(wide).is_everything(),
            (graph::Scope::Matching(_), graph::Scope::Namespace(_)) => false,
            (graph::Scope::Matching(narrow), graph::Scope::Matching(wide)) => selector(narrow).implies(selector(wide)),
        };
        is_in_scope && self.selectors.key(narrow.pods).implies(self.selectors.key(wide.pods))
    }
}
