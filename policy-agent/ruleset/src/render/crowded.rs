//! The chains and sets of a crowded side: one that has very many peers.
//!
//! First come the peers of every port; then one look-up of address, protocol and port among the pods; then the port leads to a
//! chain that compares address blocks. The name of that chain covers what it compares, so that a change of many blocks makes new
//! chains, which can be in the kernel before anything refers to them.

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
use super::layout::{Beyond, Layout};
use super::sets::{self, digit};
use crate::json::element;
use crate::port_peers::PortPeers;
use crate::rule::{concat, equal, goto, meta, payload, rule, text};
use crate::ruleset::{About, Contents, Ruleset, Set, SetKind};

/// Texts from which names are made.
#[derive(Default)]
pub(crate) struct Texts {
    /// Of address blocks that have a set.
    pub blocks: BTreeSet<String>,
    /// Of chains, and of sets of pods with their ports.
    pub others: BTreeSet<String>,
}

/// The texts of everything that crowded sides need a name for.
pub(crate) fn texts(plan: &NodePlan, layout: &Layout) -> Texts {
    let mut out = Texts::default();
    for (place, group) in plan.groups.iter().enumerate() {
        for direction in Direction::ALL.into_iter().filter(|direction| layout.leader(*direction, place) == Some(place)) {
            let Some(side) = group.side(direction) else { continue };
            out.others.extend(port_peers_text(plan, layout, side));
            for (peers, beyond) in tails(layout, side) {
                out.others.insert(tail_text(plan, layout, peers, beyond));
                if [Family::V4, Family::V6].into_iter().any(|family| layout.is_set(count(&beyond.blocks, family))) {
                    out.blocks.insert(beyond.text.clone());
                }
            }
        }
    }
    out
}

/// Adds the sets of one family.
pub(crate) fn add_sets(node: &Node<'_>, side: &Isolation, family: Family, out: &mut Ruleset) {
    if let Some(of_port) = port_peers(node.layout, side) {
        let about = format!("pods with the ports that they get, {family}");
        let contents = Contents::PortPeers(Arc::new(of_port));
        insert(out, port_peers_name(node, side, family), SetKind::Ports(family), contents, about);
    }
    for (peers, beyond) in tails(node.layout, side) {
        if node.layout.has_own_pods(peers) {
            sets::add_pods(node, peers, family, out);
        }
        if node.layout.is_set(count(&beyond.blocks, family)) {
            let contents = Contents::Fixed(sets::ranges(&beyond.blocks, family));
            let name = sets::blocks_name(node.names.blocks(&beyond.text), family);
            insert(out, name, SetKind::Ranges(family), contents, sets::blocks_text(&beyond.blocks, family));
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

/// The peer sets that need a chain, each once.
fn tails<'a>(layout: &'a Layout, side: &Isolation) -> BTreeMap<PeerSetId, &'a Beyond> {
    let beyond = |atom: &Atom| Some((atom.peers, layout.beyond(atom.peers, side.any)?));
    let needs_chain = |(peers, beyond): &(PeerSetId, &Beyond)| !beyond.blocks.is_empty() || layout.has_own_pods(*peers);
    side.atoms.iter().filter_map(beyond).filter(needs_chain).collect()
}

fn tail_text(plan: &NodePlan, layout: &Layout, peers: PeerSetId, beyond: &Beyond) -> String {
    let pods = plan.peers.get(&peers).filter(|_| layout.has_own_pods(peers)).map(|peers| peers.pods.join("; "));
    format!("{}\n{}", pods.unwrap_or_default(), beyond.text)
}

/// The ports and pods that one set holds; `None` for a side without any.
fn port_peers(layout: &Layout, side: &Isolation) -> Option<PortPeers> {
    let atoms = listed(layout, side);
    (!atoms.is_empty() || !side.named.is_empty()).then(|| PortPeers::new(side.any, &atoms, &side.named))
}

fn listed<'s>(layout: &Layout, side: &'s Isolation) -> Vec<&'s Atom> {
    let has_pods = |atom: &&Atom| layout.beyond(atom.peers, side.any).is_some_and(|beyond| beyond.has_pods);
    side.atoms.iter().filter(has_pods).filter(|atom| !layout.has_own_pods(atom.peers)).collect()
}

/// One text per source of elements: equal sources have equal texts.
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

fn port_peers_name(node: &Node<'_>, side: &Isolation, family: Family) -> String {
    let text = port_peers_text(node.plan, node.layout, side).unwrap_or_default();
    format!("pp-{}-{}", node.names.crowded(&text), digit(family))
}

impl Builder<'_> {
    /// The chains of a side that is crowded.
    pub(super) fn add_crowded(&self, deny: &str, out: &mut Ruleset) {
        let node = self.node;
        let mut rules = self.peer_rules(&self.chain, self.side.any);
        if port_peers(node.layout, self.side).is_some() {
            for family in &self.group.families {
                // nft: ip saddr . meta l4proto . th dport @pp-…-4 return
                let set = format!("@{}", port_peers_name(&node, self.side, *family));
                let key = concat([self.peer_address(*family), meta(MetaKey::L4proto), payload("th", "dport")]);
                rules.push(rule(&self.chain, vec![equal(key, text(set)), Statement::Return(None)], "pods and their ports"));
            }
        }
        let tails = tails(node.layout, self.side);
        let mut chains: BTreeMap<PeerSetId, (String, Vec<&Atom>)> = BTreeMap::new();
        for atom in &self.side.atoms {
            let Some(beyond) = tails.get(&atom.peers) else { continue };
            let name = || {
                let hash = node.names.crowded(&tail_text(node.plan, node.layout, atom.peers, beyond));
                format!("{}.{}.{hash}", self.chain, ports_text(atom).to_lowercase().replace('/', "-"))
            };
            chains.entry(atom.peers).or_insert_with(|| (name(), Vec::new())).1.push(atom);
        }
        let atoms = self.side.atoms.iter();
        let entries: Vec<_> = atoms.filter_map(|atom| Some((atom, chains.get(&atom.peers)?.0.as_str()))).collect();
        rules.extend(self.port_rules(&entries));
        rules.push(rule(&self.chain, vec![goto(deny)], ""));
        self.insert(self.chain.clone(), rules, self.headline.clone(), out);
        for (peers, (name, atoms)) in &chains {
            let Some(beyond) = tails.get(peers) else { continue };
            let mut rules = self.tail_rules(name, *peers, beyond);
            rules.push(rule(name, vec![goto(deny)], ""));
            let ports: Vec<String> = atoms.iter().map(|atom| ports_text(atom)).collect();
            self.insert(name.clone(), rules, format!("{} of {}", ports.join(", "), self.headline), out);
        }
    }

    /// Returns what comes from, or goes to, the peers that a port has beyond those of every port.
    fn tail_rules(&self, chain: &str, peers: PeerSetId, beyond: &Beyond) -> Vec<Rule<'static>> {
        let node = self.node;
        let mut out = Vec::new();
        for family in &self.group.families {
            let found = |value| vec![equal(self.peer_address(*family), value), Statement::Return(None)];
            if node.layout.has_own_pods(peers) {
                let set = sets::pods_name(node.names.peers(peers), *family);
                out.push(rule(chain, found(text(format!("@{set}"))), "pods"));
            }
            let ranges = count(&beyond.blocks, *family);
            if beyond.blocks.covers(*family) {
                out.push(self.whole_family(chain, *family));
            } else if node.layout.is_set(ranges) {
                let set = sets::blocks_name(node.names.blocks(&beyond.text), *family);
                out.push(rule(chain, found(text(format!("@{set}"))), &sets::blocks_text(&beyond.blocks, *family)));
            } else {
                // nft: ip saddr 10.0.0.0/8 return
                out.extend(sets::ranges(&beyond.blocks, *family).iter().map(|range| rule(chain, found(element(range)), "")));
            }
        }
        out
    }
}
