//! The named sets.

use std::collections::BTreeSet;

use policy_core::graph::PeerSetId;
use policy_core::model::Direction;
use policy_core::plan::{GroupPlan, Isolation, NodePlan};
use policy_core::sets::{AddressSet, Family};

use super::{Node, crowded};
use crate::ruleset::{Contents, Element, Ruleset, SetKind};

/// `4` or `6`, as names end.
pub(crate) fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}

/// The set of pod addresses that a peer set selects by label.
pub(crate) fn pods_name(hash: &str, family: Family) -> String {
    format!("p-{hash}-{}", digit(family))
}

/// The set of a peer set's address blocks.
pub(crate) fn blocks_name(hash: &str, family: Family) -> String {
    format!("c-{hash}-{}", digit(family))
}

/// The set of addresses and ports that a port name leads to.
pub(crate) fn named_name(hash: &str, family: Family) -> String {
    format!("n-{hash}-{}", digit(family))
}

/// Pods that a policy isolates in any direction.
pub(crate) fn isolated_name(family: Family) -> String {
    format!("isolated{}", digit(family))
}

/// Pods that a policy isolates in one direction: `isolated-ingress4`.
pub(crate) fn side_name(direction: Direction, family: Family) -> String {
    format!("isolated-{direction}{}", digit(family))
}

/// Addresses of which it is not known whose they are.
pub(crate) fn quarantine_name(family: Family) -> String {
    format!("quarantine{}", digit(family))
}

/// Pods and themselves.
pub(crate) fn self_name(family: Family) -> String {
    format!("self{}", digit(family))
}

pub(crate) fn add(node: &Node<'_>, out: &mut Ruleset) {
    for family in [Family::V4, Family::V6] {
        add_quarantined(node.plan, family, out);
        add_isolated(node.plan, family, out);
        for (place, group) in node.plan.groups.iter().enumerate().filter(|(_, group)| group.families.contains(&family)) {
            for direction in Direction::ALL {
                let Some(side) = group.side(direction) else { continue };
                match node.layout.leader(direction, place) {
                    None => add_peers(node, side, family, out),
                    Some(leader) if leader == place => {
                        add_peer_set(node, side.any, family, out);
                        crowded::add_sets(node, (direction, place), side, family, out);
                    }
                    Some(_) => {}
                }
            }
        }
    }
}

fn add_quarantined(plan: &NodePlan, family: Family, out: &mut Ruleset) {
    let addresses = plan.quarantined.iter().filter(|a| Family::of(**a) == family).map(|a| Element::Address(*a));
    let addresses: BTreeSet<Element> = addresses.collect();
    if !addresses.is_empty() {
        let name = quarantine_name(family);
        let description = "local addresses in quarantine";
        out.add_set(name, SetKind::Addresses(family), Contents::Fixed(addresses), description);
    }
}

fn add_isolated(plan: &NodePlan, family: Family, out: &mut Ruleset) {
    let mut add = |name: String, description: String, is_isolated: &dyn Fn(&GroupPlan) -> bool| {
        let is_in = |groups: &[usize]| groups.iter().any(|g| plan.groups.get(*g).is_some_and(is_isolated));
        let addresses = plan.addresses.iter().filter(|(a, groups)| Family::of(**a) == family && is_in(groups));
        let mut elements: BTreeSet<Element> = addresses.map(|(address, _)| Element::Address(*address)).collect();
        let is_used = !elements.is_empty();
        if is_used {
            // An isolated address that comes into quarantine stays here: a packet that was looked up among those in quarantine before the
            // change, and is looked up here after it, must be found.
            let held = plan.quarantined.iter().filter(|address| Family::of(**address) == family);
            elements.extend(held.map(|address| Element::Address(*address)));
            out.add_set(name, SetKind::Addresses(family), Contents::Fixed(elements), description);
        }
        is_used
    };
    let text = "local pods that a policy isolates in any direction, and addresses in quarantine".to_owned();
    if !add(isolated_name(family), text, &GroupPlan::is_isolated) {
        return;
    }
    for direction in Direction::ALL {
        let text = format!("local pods that a policy isolates for {direction}, and addresses in quarantine");
        add(side_name(direction, family), text, &|group| group.side(direction).is_some());
    }
    let pairs = plan.self_pairs.iter().filter(|(a, _)| Family::of(*a) == family).map(|(a, b)| Element::Pair(*a, *b));
    let description = "pairs of an isolated pod with itself, for its own Services";
    out.add_set(self_name(family), SetKind::Pairs(family), Contents::Fixed(pairs.collect()), description);
}

fn add_peers(node: &Node<'_>, side: &Isolation, family: Family, out: &mut Ruleset) {
    for id in side.atoms.iter().map(|atom| atom.peers).chain([side.any]) {
        add_peer_set(node, id, family, out);
    }
    for atom in &side.named {
        let Some(named) = node.plan.named.get(atom) else { continue };
        let name = named_name(node.names.named(atom), family);
        let text = format!("destinations of port name {} ({}) at {}, {family}", named.name, named.transport, named.peers);
        out.add_set(name, SetKind::Ports(family), Contents::Named(*atom), text);
    }
}

fn add_peer_set(node: &Node<'_>, id: PeerSetId, family: Family, out: &mut Ruleset) {
    let Some(peers) = node.plan.peers.get(&id).filter(|peers| !peers.blocks.covers(family)) else { return };
    add_pods(node, id, family, out);
    if peers.blocks.touches(family) {
        let name = blocks_name(node.names.peers(id), family);
        let elements = ranges(&peers.blocks, family);
        out.add_set(name, SetKind::Ranges(family), Contents::Fixed(elements), blocks_text(&peers.blocks, family));
    }
}

/// Adds the set of the pods that a peer set selects, if it selects any.
pub(crate) fn add_pods(node: &Node<'_>, id: PeerSetId, family: Family, out: &mut Ruleset) {
    let Some(peers) = node.plan.peers.get(&id).filter(|peers| !peers.pods.is_empty()) else { return };
    let name = pods_name(node.names.peers(id), family);
    out.add_set(name, SetKind::Addresses(family), Contents::Members(id), format!("{family}: {}", peers.pods_text()));
}

pub(crate) fn ranges(blocks: &AddressSet, family: Family) -> BTreeSet<Element> {
    blocks.ranges().filter(|(low, _)| Family::of(*low) == family).map(|(low, high)| Element::Range(low, high)).collect()
}

/// The blocks of one family, in words.
pub(crate) fn blocks_text(blocks: &AddressSet, family: Family) -> String {
    blocks.intersection(&AddressSet::family(family)).to_texts().join(", ")
}
