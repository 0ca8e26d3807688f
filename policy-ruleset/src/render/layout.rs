//! Which named sets a node gets, and which chains serve several groups.
//!
//! The kernel finds a named set by walking the list of all sets of the table, for each set that it makes and for each rule that
//! refers to one: n sets cost n². So their number is bounded. A side with few distinct peers has a set for each, shared with every
//! other side that has the same peers. A *crowded* side has many: there, one set holds the pods of all its peers, each with its
//! ports, a few sets hold most of their address blocks, with their ports (see [`prefixes`]), and other blocks are compared in
//! chains. Equal crowded sides share the chains of the first of them, the leader.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use policy_core::graph::{Atom, NamedAtom, PeerSetId};
use policy_core::model::{Direction, ObjectKey};
use policy_core::plan::{Isolation, NodePlan, PodSelection};
use policy_core::sets::{AddressSet, Family};

use super::prefixes;

/// A side with more distinct peers than this is crowded.
const FEW_PEERS: usize = 16;
/// Named sets of each sort on one node. With this many, the walk costs tens of milliseconds for a table from scratch.
const MOST_SETS: usize = 1024;
/// In a crowded side, ports of a range that are listed one by one for each pod.
const FEW_PORTS: usize = 16;
/// In a crowded side, address ranges that are compared one by one.
const FEW_RANGES: usize = 64;

/// In a crowded side, lengths of prefixes that are looked up: each has a set.
const MOST_LENGTHS: usize = 32;

/// The layout of one node.
#[derive(Default)]
pub(crate) struct Layout {
    leaders: BTreeMap<(Direction, usize), usize>,
    beyond: BTreeMap<(PeerSetId, PeerSetId), Beyond>,
    own_pods: BTreeSet<PeerSetId>,
    looked_up: BTreeMap<(Direction, usize), BTreeMap<PeerSetId, Vec<IpNet>>>,
    few_ranges: usize,
}

/// What a peer set holds beyond the peers that get every port.
#[derive(Default)]
pub(crate) struct Beyond {
    /// Whether it selects more pods.
    pub has_pods: bool,
    /// More addresses.
    pub blocks: AddressSet,
}

/// What makes two sides alike.
type Likeness<'p> = (Direction, &'p BTreeSet<Family>, &'p [ObjectKey], PeerSetId, &'p [Atom], &'p [NamedAtom]);

impl Layout {
    pub(crate) fn new(plan: &NodePlan) -> Self {
        let few_peers = few_peers(plan);
        let mut first: BTreeMap<Likeness<'_>, usize> = BTreeMap::new();
        let mut out = Self { few_ranges: FEW_RANGES, ..Self::default() };
        for (direction, place, families, side) in sides(plan).filter(|(.., side)| references(side).len() > few_peers) {
            let likeness = (direction, families, &*side.policies, side.any, &*side.atoms, &*side.named);
            let leader = *first.entry(likeness).or_insert(place);
            out.leaders.insert((direction, place), leader);
            if leader == place {
                out.add_beyond(plan, side);
            }
        }
        out.choose_own_pods(plan);
        out.choose_looked_up(plan);
        let ranges = |beyond: &Beyond, family| match family {
            Family::V4 => beyond.blocks.v4().iter().len(),
            Family::V6 => beyond.blocks.v6().iter().len(),
        };
        let both = || out.beyond.values().flat_map(|b| [Family::V4, Family::V6].map(|family| ranges(b, family)));
        let mut few_ranges = FEW_RANGES;
        while both().filter(|count| *count > few_ranges).count() > MOST_SETS {
            few_ranges *= 2;
        }
        out.few_ranges = few_ranges;
        out
    }

    /// The group whose chains serve this one; `None` for a side that is not crowded.
    pub(crate) fn leader(&self, direction: Direction, place: usize) -> Option<usize> {
        self.leaders.get(&(direction, place)).copied()
    }

    /// The groups that the chains of a leader serve; sorted.
    pub(crate) fn led(&self, direction: Direction, leader: usize) -> impl Iterator<Item = usize> + '_ {
        let own = self.leaders.iter().filter(move |((d, _), of)| *d == direction && **of == leader);
        own.map(|((_, place), _)| *place)
    }

    /// What the peers of an atom are beyond those of every port. Known for crowded sides.
    pub(crate) fn beyond(&self, peers: PeerSetId, any: PeerSetId) -> Option<&Beyond> {
        self.beyond.get(&(peers, any))
    }

    /// Whether, in crowded sides, the pods of a peer set have a set of their own.
    pub(crate) fn has_own_pods(&self, peers: PeerSetId) -> bool {
        self.own_pods.contains(&peers)
    }

    /// The peers of a leader whose address blocks are looked up by the length of their prefix, with these blocks.
    pub(crate) fn looked_up(&self, direction: Direction, leader: usize) -> Option<&BTreeMap<PeerSetId, Vec<IpNet>>> {
        self.looked_up.get(&(direction, leader))
    }

    /// Whether, in crowded sides, these ranges of one family are a set.
    pub(crate) fn is_set(&self, ranges: usize) -> bool {
        ranges > self.few_ranges
    }

    fn add_beyond(&mut self, plan: &NodePlan, side: &Isolation) {
        let Some(any) = plan.peers.get(&side.any) else { return };
        let of_any: BTreeSet<&PodSelection> = any.pods.iter().collect();
        for atom in &side.atoms {
            let Some(peers) = plan.peers.get(&atom.peers) else { continue };
            self.beyond.entry((atom.peers, side.any)).or_insert_with(|| {
                let blocks = peers.blocks.difference(&any.blocks);
                Beyond { has_pods: peers.pods.iter().any(|pods| !of_any.contains(pods)), blocks }
            });
        }
    }

    /// Pods with long ranges of ports have sets of their own. How long, depends on how many such ranges there are.
    fn choose_own_pods(&mut self, plan: &NodePlan) {
        let mut longest: BTreeMap<PeerSetId, usize> = BTreeMap::new();
        for (.., side) in sides(plan).filter(|(direction, place, ..)| self.leader(*direction, *place) == Some(*place)) {
            let has_pods = |atom: &&Atom| self.beyond(atom.peers, side.any).is_some_and(|beyond| beyond.has_pods);
            for atom in side.atoms.iter().filter(has_pods) {
                let length = usize::from(atom.high - atom.low) + 1;
                let longest = longest.entry(atom.peers).or_default();
                *longest = length.max(*longest);
            }
        }
        let mut few_ports = FEW_PORTS;
        while longest.values().filter(|length| **length > few_ports).count() > MOST_SETS {
            few_ports *= 2;
        }
        self.own_pods = longest.into_iter().filter(|(_, length)| *length > few_ports).map(|(peers, _)| peers).collect();
    }
}

impl Layout {
    /// Peers with few blocks and few ports have their blocks in sets by the length of the prefix.
    fn choose_looked_up(&mut self, plan: &NodePlan) {
        let leaders: BTreeSet<(Direction, usize)> = self.leaders.iter().map(|((d, _), leader)| (*d, *leader)).collect();
        // In steps, so that one more side does not lay out all others anew.
        let lengths = (MOST_SETS / leaders.len().next_power_of_two()).clamp(1, MOST_LENGTHS);
        for (direction, place, _, side) in sides(plan).filter(|(direction, place, ..)| leaders.contains(&(*direction, *place))) {
            let pair = |atom: &Atom| {
                let blocks = &self.beyond(atom.peers, side.any)?.blocks;
                // Those that need a chain anyway have their blocks there.
                let is_whole = [Family::V4, Family::V6].into_iter().any(|family| blocks.covers(family));
                let has_chain = blocks.is_empty() || is_whole || self.has_own_pods(atom.peers);
                (!has_chain).then_some((atom.peers, (atom.transport, atom.low, atom.high), blocks))
            };
            let chosen = prefixes::choose(side.atoms.iter().filter_map(pair), lengths);
            self.looked_up.insert((direction, place), chosen);
        }
    }
}

fn sides(plan: &NodePlan) -> impl Iterator<Item = (Direction, usize, &BTreeSet<Family>, &Isolation)> {
    plan.groups.iter().enumerate().flat_map(|(place, group)| {
        let side = move |direction| group.side(direction).map(|side| (direction, place, &group.families, side));
        Direction::ALL.into_iter().filter_map(side)
    })
}

/// What needs a set of its own.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Reference {
    Peers(PeerSetId),
    Named(NamedAtom),
}

fn references(side: &Isolation) -> BTreeSet<Reference> {
    let peers = side.atoms.iter().map(|atom| Reference::Peers(atom.peers));
    peers.chain(side.named.iter().copied().map(Reference::Named)).collect()
}

/// How many distinct peers a side may have that is not crowded, so that all such sides together have not too many.
fn few_peers(plan: &NodePlan) -> usize {
    let all: Vec<BTreeSet<Reference>> = sides(plan).map(|(.., side)| references(side)).collect();
    let mut few = FEW_PEERS;
    while few > 0 && all.iter().filter(|own| own.len() <= few).flatten().collect::<BTreeSet<_>>().len() > MOST_SETS {
        few /= 2;
    }
    few
}
