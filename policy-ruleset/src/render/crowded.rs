//! The chains and sets of a crowded side: one that has very many peers.
//!
//! First come the peers of every port; then a look-up of address, protocol and port among the pods, and one for each length of
//! prefix among the address blocks; then the port leads to a chain that compares other blocks. The names of sets and chains of
//! blocks cover what they hold, so that a change of many blocks makes new ones, which can be in the kernel before anything refers
//! to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use policy_core::graph::{Atom, PeerSetId};
use policy_core::model::Direction;
use policy_core::plan::{Isolation, NodePlan, PodSelection};
use policy_core::sets::{AddressSet, Family};

use super::Node;
use super::group::{Builder, port_range, ports_text, whole_family};
use super::layout::{Beyond, Layout};
use super::prefixes;
use super::sets::{self, digit};
use crate::identity::{self, Ports};
use crate::names::ShortHashes;
use crate::port_peers::PortPeers;
use crate::rule::Statement::{InRange, Return};
use crate::rule::{AddressRange, Key, Rule, Statement};
use crate::ruleset::{Contents, Element, Ruleset, SetKind};

/// Ports that the text of a chain names.
const PORTS_NAMED: usize = 10;

/// A chain that compares what some peers have beyond the sets of the side.
struct Tail<'a> {
    name: String,
    /// The first of these peers.
    peers: PeerSetId,
    beyond: &'a Beyond,
    atoms: Vec<&'a Atom>,
}

/// The family of a block, and the length of its prefix.
type Length = (Family, u8);

/// A leader: the direction, and the place of its group in the plan.
type Leader = (Direction, usize);

/// What a crowded side needs names for: hashes of what these hold.
#[derive(Default)]
pub(crate) struct Parts {
    /// The set of pods with their ports.
    port_peers: Option<String>,
    /// The sets of address blocks with their ports, by the length of the prefix.
    port_blocks: BTreeMap<Length, String>,
    /// Chains that compare address blocks.
    tails: BTreeMap<PeerSetId, String>,
}

/// What names are made of: equal contents have equal hashes.
#[derive(Default)]
pub(crate) struct CrowdedSets {
    /// Address blocks that have a set of their own.
    pub blocks: BTreeSet<AddressSet>,
    /// The hashes of everything else, in full length.
    sides: BTreeMap<Leader, Parts>,
}

impl CrowdedSets {
    pub(crate) fn new(plan: &NodePlan, layout: &Layout) -> Self {
        let mut out = Self::default();
        for (place, group) in plan.groups.iter().enumerate() {
            for direction in Direction::ALL.into_iter().filter(|direction| layout.leader(*direction, place) == Some(place)) {
                let Some(side) = group.side(direction) else { continue };
                let leader = (direction, place);
                let mut parts = Parts {
                    port_peers: port_peers_hash(plan, layout, side),
                    port_blocks: port_blocks_hashes(layout, leader, side),
                    tails: BTreeMap::new(),
                };
                for (peers, beyond) in tails(layout, leader, side) {
                    let own_pods = if layout.has_own_pods(peers) { pods(plan, peers) } else { &[] };
                    parts.tails.insert(peers, identity::of_tail(own_pods, &beyond.blocks));
                    if [Family::V4, Family::V6].into_iter().any(|family| layout.is_set(count(&beyond.blocks, family))) {
                        out.blocks.insert(beyond.blocks.clone());
                    }
                }
                out.sides.insert(leader, parts);
            }
        }
        out
    }

    /// Short hashes of everything but the blocks.
    pub(crate) fn names(&self) -> BTreeMap<Leader, Parts> {
        let all = self.sides.values().flat_map(|s| s.tails.values().chain(&s.port_peers).chain(s.port_blocks.values()));
        let short = ShortHashes::new(all);
        let cut = |full: &String| short.of(full);
        let named = |side: &Parts| Parts {
            port_peers: side.port_peers.as_ref().map(cut),
            port_blocks: side.port_blocks.iter().map(|(length, full)| (*length, cut(full))).collect(),
            tails: side.tails.iter().map(|(peers, full)| (*peers, cut(full))).collect(),
        };
        self.sides.iter().map(|(leader, side)| (*leader, named(side))).collect()
    }
}

impl Parts {
    fn port_peers_name(&self, family: Family) -> Option<String> {
        self.port_peers.as_ref().map(|hash| format!("pp-{hash}-{}", digit(family)))
    }

    /// The lengths that are looked up in one family, with the names of their sets.
    fn port_blocks_names(&self, family: Family) -> impl Iterator<Item = (u8, String)> + '_ {
        let own = self.port_blocks.iter().filter(move |((of, _), _)| *of == family);
        own.map(move |((_, length), hash)| (*length, format!("pc-{hash}-{length}-{}", digit(family))))
    }
}

/// Adds the sets of one family.
pub(crate) fn add_sets(node: &Node<'_>, leader: Leader, side: &Isolation, family: Family, out: &mut Ruleset) {
    let Some(parts) = node.names.crowded(leader.0, leader.1) else { return };
    if let Some(name) = parts.port_peers_name(family) {
        let description = format!("{family} pods with their allowed ports");
        let source = PortPeers::new(side.any, &listed(node.layout, side), &side.named);
        out.add_set(name, SetKind::Ports(family), Contents::PortPeers(Arc::new(source)), description);
    }
    let mut port_blocks = port_blocks(node.layout, leader, side, family);
    for (length, name) in parts.port_blocks_names(family) {
        let description = format!("{family} blocks of length {length} with their allowed ports");
        let elements = port_blocks.remove(&length).unwrap_or_default();
        out.add_set(name, SetKind::Ports(family), Contents::Fixed(elements), description);
    }
    for (peers, beyond) in tails(node.layout, leader, side) {
        if node.layout.has_own_pods(peers) {
            sets::add_pods(node, peers, family, out);
        }
        if node.layout.is_set(count(&beyond.blocks, family)) {
            let contents = Contents::Fixed(sets::ranges(&beyond.blocks, family));
            let name = sets::blocks_name(node.names.blocks(&beyond.blocks), family);
            out.add_set(name, SetKind::Ranges(family), contents, sets::blocks_text(&beyond.blocks, family));
        }
    }
}

fn count(blocks: &AddressSet, family: Family) -> usize {
    match family {
        Family::V4 => blocks.v4().iter().len(),
        Family::V6 => blocks.v6().iter().len(),
    }
}

/// The peer sets that need a chain, each once, with what is compared there.
fn tails<'a>(layout: &'a Layout, (direction, place): Leader, side: &Isolation) -> BTreeMap<PeerSetId, &'a Beyond> {
    let is_looked_up = |peers: &PeerSetId| layout.looked_up(direction, place).is_some_and(|own| own.contains_key(peers));
    let beyond = |atom: &Atom| Some((atom.peers, layout.beyond(atom.peers, side.any)?));
    let needs_chain = |(peers, beyond): &(PeerSetId, &Beyond)| {
        layout.has_own_pods(*peers) || (!beyond.blocks.is_empty() && !is_looked_up(peers))
    };
    side.atoms.iter().filter_map(beyond).filter(needs_chain).collect()
}

/// The pods that a peer set selects.
fn pods(plan: &NodePlan, peers: PeerSetId) -> &[PodSelection] {
    plan.peers.get(&peers).map_or(&[], |peers| &peers.pods)
}

fn listed<'s>(layout: &Layout, side: &'s Isolation) -> Vec<&'s Atom> {
    let has_pods = |atom: &&Atom| layout.beyond(atom.peers, side.any).is_some_and(|beyond| beyond.has_pods);
    side.atoms.iter().filter(has_pods).filter(|atom| !layout.has_own_pods(atom.peers)).collect()
}

fn ports(atom: &Atom) -> Ports {
    (atom.transport, port_range(atom))
}

/// `None` for a side without any pods that are listed with their ports.
fn port_peers_hash(plan: &NodePlan, layout: &Layout, side: &Isolation) -> Option<String> {
    let atoms = listed(layout, side);
    if atoms.is_empty() && side.named.is_empty() {
        return None;
    }
    let atoms: Vec<(Ports, &[PodSelection])> = atoms.into_iter().map(|atom| (ports(atom), pods(plan, atom.peers))).collect();
    let named: Vec<_> = side.named.iter().filter_map(|atom| plan.named.get(atom)).collect();
    Some(identity::of_port_peers(pods(plan, side.any), &atoms, &named))
}

/// The atoms whose address blocks are looked up by the length of their prefix, with these blocks.
fn looked_up<'a>(
    layout: &'a Layout,
    (direction, place): Leader,
    side: &'a Isolation,
) -> impl Iterator<Item = (&'a Atom, &'a Vec<IpNet>)> {
    let own = layout.looked_up(direction, place);
    side.atoms.iter().filter_map(move |atom| Some((atom, own?.get(&atom.peers)?)))
}

fn port_blocks_hashes(layout: &Layout, leader: Leader, side: &Isolation) -> BTreeMap<Length, String> {
    let mut out: BTreeMap<Length, Vec<(Ports, IpNet)>> = BTreeMap::new();
    for (atom, blocks) in looked_up(layout, leader, side) {
        for block in blocks {
            out.entry(prefixes::length(block)).or_default().push((ports(atom), *block));
        }
    }
    out.into_iter().map(|(length, blocks)| (length, identity::of_port_blocks(&blocks))).collect()
}

/// The elements for each length of prefix.
fn port_blocks(layout: &Layout, leader: Leader, side: &Isolation, family: Family) -> BTreeMap<u8, BTreeSet<Element>> {
    let mut out: BTreeMap<u8, BTreeSet<Element>> = BTreeMap::new();
    for (atom, blocks) in looked_up(layout, leader, side) {
        for block in blocks.iter().filter(|block| Family::of(block.network()) == family) {
            let port = |port| Element::Port(block.network(), atom.transport, port);
            out.entry(block.prefix_len()).or_default().extend((atom.low..=atom.high).map(port));
        }
    }
    out
}

impl Builder<'_> {
    /// The chains of a side that is crowded.
    pub(super) fn add_crowded(&self, deny: &str, out: &mut Ruleset) {
        let (node, leader) = (self.node, (self.direction, self.place));
        let Some(parts) = node.names.crowded(leader.0, leader.1) else { return };
        let mut rules = self.peer_rules(self.side.any);
        for family in &self.group.families {
            let mut look_up = |set: String, key: Key, comment: &str| {
                // nft: ip saddr . meta l4proto . th dport @pp-…-4 return, ip saddr & 255.255.255.0 . … @pc-…-24-4 return
                rules.push(Rule::new([Statement::in_set(key, set), Return], comment));
            };
            let address = self.peer_address(*family);
            if let Some(set) = parts.port_peers_name(*family) {
                look_up(set, Key::Port(address), "pods and their ports");
            }
            for (length, set) in parts.port_blocks_names(*family) {
                let is_whole = length == prefixes::longest(*family);
                let key = if is_whole { Key::Port(address) } else { Key::NetworkPort(address, length) };
                look_up(set, key, "address blocks and their ports");
            }
        }
        let tails = tails(node.layout, leader, self.side);
        // Peers with equal tails share a chain, named after the first port.
        let mut chains: BTreeMap<&str, Tail<'_>> = BTreeMap::new();
        for atom in &self.side.atoms {
            let (Some(beyond), Some(hash)) = (tails.get(&atom.peers), parts.tails.get(&atom.peers)) else { continue };
            let name = || format!("{}.{}.{hash}", self.chain, ports_text(atom).to_lowercase().replace('/', "-"));
            let tail = || Tail { name: name(), peers: atom.peers, beyond, atoms: Vec::new() };
            chains.entry(hash).or_insert_with(tail).atoms.push(atom);
        }
        let of_atom: BTreeMap<&Atom, &str> =
            chains.values().flat_map(|tail| tail.atoms.iter().map(|atom| (*atom, tail.name.as_str()))).collect();
        rules.extend(self.port_rules(&of_atom.into_iter().collect::<Vec<_>>()));
        rules.push(Rule::new([Statement::goto(deny)], ""));
        self.insert(self.chain.clone(), rules, self.headline.clone(), out);
        for tail in chains.values() {
            let mut rules = self.tail_rules(tail);
            rules.push(Rule::new([Statement::goto(deny)], ""));
            let mut ports: Vec<String> = tail.atoms.iter().take(PORTS_NAMED).map(|atom| ports_text(atom)).collect();
            ports.extend((tail.atoms.len() > PORTS_NAMED).then(|| format!("and {} more", tail.atoms.len() - PORTS_NAMED)));
            self.insert(tail.name.clone(), rules, format!("{} of {}", ports.join(", "), self.headline), out);
        }
    }

    /// Returns what comes from, or goes to, the peers that a port has beyond those of every port.
    fn tail_rules(&self, tail: &Tail<'_>) -> Vec<Rule> {
        let node = self.node;
        let mut out = Vec::new();
        for family in &self.group.families {
            let address = self.peer_address(*family);
            let in_set = |set| Statement::in_set(Key::Address(address), set);
            if node.layout.has_own_pods(tail.peers) {
                let set = sets::pods_name(node.names.peers(tail.peers), *family);
                out.push(Rule::new([in_set(set), Return], "pods"));
            }
            let blocks = &tail.beyond.blocks;
            let ranges = count(blocks, *family);
            if blocks.covers(*family) {
                out.push(whole_family(*family));
            } else if node.layout.is_set(ranges) {
                let set = sets::blocks_name(node.names.blocks(blocks), *family);
                out.push(Rule::new([in_set(set), Return], &sets::blocks_text(blocks, *family)));
            } else {
                // nft: ip saddr 10.0.0.0/8 return
                let own = blocks.ranges().filter(|(low, _)| Family::of(*low) == *family);
                let in_range = |(low, high)| InRange { side: address.side, range: AddressRange::new(low, high) };
                out.extend(own.map(|range| Rule::new([in_range(range), Return], "")));
            }
        }
        out
    }
}
