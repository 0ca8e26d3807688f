//! The chains and sets of a crowded side: one that has very many peers.
//!
//! First come the peers of every port; then one look-up of address, protocol and port among the pods, and one among the address
//! blocks of peers that have few; then the port leads to a chain that compares the blocks of the other peers. The names of all of
//! these cover what they hold, so that a change of many blocks makes new sets and chains, which can be in the kernel before
//! anything refers to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nftables::expr::MetaKey;
use nftables::schema::Rule;
use nftables::stmt::Statement;
use policy_core::graph::{Atom, PeerSetId};
use policy_core::model::Direction;
use policy_core::plan::{Isolation, NodePlan};
use policy_core::sets::{AddressSet, Family};

use super::Node;
use super::group::{Builder, ports_text};
use super::layout::{Layout, Share};
use super::sets::{self, digit};
use crate::json::element;
use crate::names;
use crate::port_peers::PortPeers;
use crate::rule::{concat, equal, goto, meta, payload, rule, text};
use crate::ruleset::{About, Contents, Element, Ruleset, Set, SetKind};

/// Ports that the text of a chain names.
const PORTS_NAMED: usize = 10;

/// A chain that compares what some peers have beyond the sets of the side.
struct Tail<'a> {
    name: String,
    /// The first of these peers.
    peers: PeerSetId,
    share: Option<&'a Share>,
    atoms: Vec<&'a Atom>,
}

/// A leader: the direction, and the place of its group in the plan.
type Leader = (Direction, usize);

/// What a crowded side needs a name for, by what stands for it: a text, or the hash of it.
#[derive(Default)]
pub(crate) struct Parts {
    /// The set of pods with their ports.
    port_peers: Option<String>,
    /// The set of address blocks with their ports.
    port_ranges: Option<String>,
    /// Chains that compare address blocks.
    tails: BTreeMap<PeerSetId, String>,
}

/// Texts from which names are made: equal contents have equal texts.
#[derive(Default)]
pub(crate) struct Texts {
    /// Of address blocks that have a set of their own.
    pub blocks: BTreeSet<String>,
    sides: BTreeMap<Leader, Parts>,
}

impl Texts {
    /// The texts of everything that crowded sides need a name for.
    pub(crate) fn new(plan: &NodePlan, layout: &Layout) -> Self {
        let mut out = Self::default();
        for (place, group) in plan.groups.iter().enumerate() {
            for direction in Direction::ALL.into_iter().filter(|direction| layout.leader(*direction, place) == Some(place)) {
                let Some(side) = group.side(direction) else { continue };
                let leader = (direction, place);
                let mut parts = Parts {
                    port_peers: port_peers_text(plan, layout, side),
                    port_ranges: port_ranges_text(layout, leader, side),
                    tails: BTreeMap::new(),
                };
                for (peers, share) in tails(layout, leader, side) {
                    parts.tails.insert(peers, tail_text(plan, layout, peers, share));
                    let is_set = |family| share.is_some_and(|share| layout.is_set(count(&share.tail, family)));
                    if [Family::V4, Family::V6].into_iter().any(is_set) {
                        out.blocks.extend(share.map(|share| share.text.clone()));
                    }
                }
                out.sides.insert(leader, parts);
            }
        }
        out
    }

    /// The hashes of all but the blocks.
    pub(crate) fn names(&self) -> BTreeMap<Leader, Parts> {
        let all = self.sides.values().flat_map(|s| s.tails.values().chain(&s.port_peers).chain(&s.port_ranges));
        let hashes = names::hashes(all.map(String::as_str));
        let hash = |text: &String| hashes.get(text.as_str()).cloned().unwrap_or_default();
        let named = |side: &Parts| Parts {
            port_peers: side.port_peers.as_ref().map(hash),
            port_ranges: side.port_ranges.as_ref().map(hash),
            tails: side.tails.iter().map(|(peers, text)| (*peers, hash(text))).collect(),
        };
        self.sides.iter().map(|(leader, side)| (*leader, named(side))).collect()
    }
}

impl Parts {
    fn port_peers_name(&self, family: Family) -> Option<String> {
        self.port_peers.as_ref().map(|hash| format!("pp-{hash}-{}", digit(family)))
    }

    fn port_ranges_name(&self, family: Family) -> Option<String> {
        self.port_ranges.as_ref().map(|hash| format!("pc-{hash}-{}", digit(family)))
    }
}

/// Adds the sets of one family.
pub(crate) fn add_sets(node: &Node<'_>, leader: Leader, side: &Isolation, family: Family, out: &mut Ruleset) {
    let Some(parts) = node.names.crowded(leader.0, leader.1) else { return };
    if let Some(name) = parts.port_peers_name(family) {
        let about = format!("pods with the ports that they get, {family}");
        let source = PortPeers::new(side.any, &listed(node.layout, side), &side.named);
        insert(out, name, SetKind::Ports(family), Contents::PortPeers(Arc::new(source)), about);
    }
    if let Some(name) = parts.port_ranges_name(family) {
        let about = format!("address blocks with the ports that they get, {family}");
        let contents = Contents::Fixed(boxes(node.layout, leader, side, family));
        insert(out, name, SetKind::PortRanges(family), contents, about);
    }
    for (peers, share) in tails(node.layout, leader, side) {
        if node.layout.has_own_pods(peers) {
            sets::add_pods(node, peers, family, out);
        }
        if let Some(share) = share.filter(|share| node.layout.is_set(count(&share.tail, family))) {
            let contents = Contents::Fixed(sets::ranges(&share.tail, family));
            let name = sets::blocks_name(node.names.blocks(&share.text), family);
            insert(out, name, SetKind::Ranges(family), contents, sets::blocks_text(&share.tail, family));
        }
    }
}

fn insert(out: &mut Ruleset, name: String, kind: SetKind, contents: Contents, about: String) {
    out.about.insert(name.clone(), About::text(about));
    out.sets.insert(name, Set { kind, contents });
}

fn count(blocks: &AddressSet, family: Family) -> usize {
    match family {
        Family::V4 => blocks.v4().iter().len(),
        Family::V6 => blocks.v6().iter().len(),
    }
}

fn share(layout: &Layout, (direction, place): Leader, peers: PeerSetId) -> Option<&Share> {
    layout.shares(direction, place)?.get(&peers)
}

/// The peer sets that need a chain, each once, with the address blocks that are compared there.
fn tails<'a>(layout: &'a Layout, leader: Leader, side: &Isolation) -> BTreeMap<PeerSetId, Option<&'a Share>> {
    let blocks = |peers| share(layout, leader, peers).filter(|share| !share.tail.is_empty());
    let needs_chain = |(peers, share): &(PeerSetId, Option<&Share>)| {
        let has_pods = || layout.beyond(*peers, side.any).is_some_and(|beyond| beyond.has_pods);
        share.is_some() || (layout.has_own_pods(*peers) && has_pods())
    };
    side.atoms.iter().map(|atom| (atom.peers, blocks(atom.peers))).filter(needs_chain).collect()
}

fn tail_text(plan: &NodePlan, layout: &Layout, peers: PeerSetId, share: Option<&Share>) -> String {
    let pods = plan.peers.get(&peers).filter(|_| layout.has_own_pods(peers)).map(|peers| peers.pods.join("; "));
    format!("{}\n{}", pods.unwrap_or_default(), share.map_or("", |share| &share.text))
}

fn listed<'s>(layout: &Layout, side: &'s Isolation) -> Vec<&'s Atom> {
    let has_pods = |atom: &&Atom| layout.beyond(atom.peers, side.any).is_some_and(|beyond| beyond.has_pods);
    side.atoms.iter().filter(has_pods).filter(|atom| !layout.has_own_pods(atom.peers)).collect()
}

/// `None` for a side without any pods that are listed with their ports.
fn port_peers_text(plan: &NodePlan, layout: &Layout, side: &Isolation) -> Option<String> {
    let atoms = listed(layout, side);
    if atoms.is_empty() && side.named.is_empty() {
        return None;
    }
    let pods = |peers| plan.peers.get(&peers).map(|peers| peers.pods.join("; ")).unwrap_or_default();
    let mut out = format!("without {}\n", pods(side.any));
    for atom in atoms {
        out.push_str(&format!("{} {}\n", ports_text(atom), pods(atom.peers)));
    }
    for named in side.named.iter().filter_map(|atom| plan.named.get(atom)) {
        out.push_str(&format!("{} {} {}\n", named.transport, named.name, named.peers));
    }
    Some(out)
}

/// The atoms that have address blocks in the set of boxes, with these blocks.
fn boxed<'a>(layout: &'a Layout, leader: Leader, side: &'a Isolation) -> impl Iterator<Item = (&'a Atom, &'a AddressSet)> {
    let boxed = move |atom: &'a Atom| Some((atom, &share(layout, leader, atom.peers)?.boxed));
    side.atoms.iter().filter_map(boxed).filter(|(_, addresses)| !addresses.is_empty())
}

/// `None` for a side without any.
fn port_ranges_text(layout: &Layout, leader: Leader, side: &Isolation) -> Option<String> {
    let line = |(atom, addresses): (&Atom, &AddressSet)| format!("{} {}", ports_text(atom), addresses.to_texts().join("; "));
    let lines: Vec<String> = boxed(layout, leader, side).map(line).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// INVARIANT: boxes are disjoint, because the ports of atoms are, and the ranges of a set of addresses.
fn boxes(layout: &Layout, leader: Leader, side: &Isolation, family: Family) -> BTreeSet<Element> {
    let of_atom = |(atom, addresses): (&Atom, &'_ AddressSet)| {
        let ranges = addresses.ranges().filter(move |(low, _)| Family::of(*low) == family);
        let (transport, ports) = (atom.transport, (atom.low, atom.high));
        ranges.map(move |range| Element::PortRange(range, transport, ports)).collect::<Vec<_>>()
    };
    boxed(layout, leader, side).flat_map(of_atom).collect()
}

impl Builder<'_> {
    /// The chains of a side that is crowded.
    pub(super) fn add_crowded(&self, deny: &str, out: &mut Ruleset) {
        let (node, leader) = (self.node, (self.direction, self.place));
        let Some(parts) = node.names.crowded(leader.0, leader.1) else { return };
        let mut rules = self.peer_rules(&self.chain, self.side.any);
        for family in &self.group.families {
            let mut look_up = |set: Option<String>, comment: &str| {
                // nft: ip saddr . meta l4proto . th dport @pp-…-4 return
                let key = concat([self.peer_address(*family), meta(MetaKey::L4proto), payload("th", "dport")]);
                let found = |set| vec![equal(key, text(format!("@{set}"))), Statement::Return(None)];
                rules.extend(set.map(|set| rule(&self.chain, found(set), comment)));
            };
            look_up(parts.port_peers_name(*family), "pods and their ports");
            look_up(parts.port_ranges_name(*family), "address blocks and their ports");
        }
        let tails = tails(node.layout, leader, self.side);
        // Peers with equal tails share a chain, named after the first port.
        let mut chains: BTreeMap<&str, Tail<'_>> = BTreeMap::new();
        for atom in &self.side.atoms {
            let (Some(share), Some(hash)) = (tails.get(&atom.peers), parts.tails.get(&atom.peers)) else { continue };
            let name = || format!("{}.{}.{hash}", self.chain, ports_text(atom).to_lowercase().replace('/', "-"));
            let tail = || Tail { name: name(), peers: atom.peers, share: *share, atoms: Vec::new() };
            chains.entry(hash).or_insert_with(tail).atoms.push(atom);
        }
        let of_atom: BTreeMap<&Atom, &str> =
            chains.values().flat_map(|tail| tail.atoms.iter().map(|atom| (*atom, tail.name.as_str()))).collect();
        rules.extend(self.port_rules(&of_atom.into_iter().collect::<Vec<_>>()));
        rules.push(rule(&self.chain, vec![goto(deny)], ""));
        self.insert(self.chain.clone(), rules, self.headline.clone(), out);
        for tail in chains.values() {
            let mut rules = self.tail_rules(tail);
            rules.push(rule(&tail.name, vec![goto(deny)], ""));
            let mut ports: Vec<String> = tail.atoms.iter().take(PORTS_NAMED).map(|atom| ports_text(atom)).collect();
            ports.extend((tail.atoms.len() > PORTS_NAMED).then(|| format!("and {} more", tail.atoms.len() - PORTS_NAMED)));
            self.insert(tail.name.clone(), rules, format!("{} of {}", ports.join(", "), self.headline), out);
        }
    }

    /// Returns what comes from, or goes to, the peers that a port has beyond those of every port.
    fn tail_rules(&self, tail: &Tail<'_>) -> Vec<Rule<'static>> {
        let (node, chain) = (self.node, tail.name.as_str());
        let mut out = Vec::new();
        for family in &self.group.families {
            let found = |value| vec![equal(self.peer_address(*family), value), Statement::Return(None)];
            if node.layout.has_own_pods(tail.peers) {
                let set = sets::pods_name(node.names.peers(tail.peers), *family);
                out.push(rule(chain, found(text(format!("@{set}"))), "pods"));
            }
            let Some(Share { tail: blocks, text: name, .. }) = tail.share else { continue };
            let ranges = count(blocks, *family);
            if blocks.covers(*family) {
                out.push(self.whole_family(chain, *family));
            } else if node.layout.is_set(ranges) {
                let set = sets::blocks_name(node.names.blocks(name), *family);
                out.push(rule(chain, found(text(format!("@{set}"))), &sets::blocks_text(blocks, *family)));
            } else {
                // nft: ip saddr 10.0.0.0/8 return
                out.extend(sets::ranges(blocks, *family).iter().map(|range| rule(chain, found(element(range)), "")));
            }
        }
        out
    }
}
