//! From plan to ruleset: destination → port → source.
//!
//! A packet that opens a connection meets, in the forward hook, one look-up of its source among the local pods and one of its
//! destination; then one look-up of its port; then at most two look-ups of the other end. How many policies there are shows
//! nowhere on that path, and remote pods are elements of plain sets, which come and go without the kernel validating anything.
//!
//! What leaves a chain by `return` was allowed by that side; what is not allowed goes to the side's `.deny` chain, which counts
//! and drops, and stays as it is when policies change, so its counter does too.

mod base;
mod crowded;
mod errors;
mod group;
mod layout;
mod prefixes;
mod sets;
mod sources;
mod terminated;

pub(crate) use sets::isolated_name;

use std::collections::BTreeMap;

use policy_core::graph::{NamedAtom, OwnNodeEgress, PeerSetId};
use policy_core::model::Direction;
use policy_core::plan::NodePlan;
use policy_core::sets::AddressSet;

use crate::identity;
use crate::names::{self, ShortHashes};
use crate::ruleset::Ruleset;
use crowded::CrowdedSets;
use layout::Layout;

/// What a ruleset depends on besides the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Whether egress rules apply to traffic from a pod to its own node (S2.13).
    pub own_node_egress: OwnNodeEgress,
    /// How denied packets are sampled; `None` for not at all.
    pub deny_log: Option<DenyLog>,
}

/// How denied packets are sampled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DenyLog {
    /// The NFLOG group.
    pub group: u16,
    /// Packets per second, for each direction of each group of pods.
    pub rate: u32,
}

impl DenyLog {
    /// The defaults of the agent.
    pub const DEFAULT: Self = Self { group: 1717, rate: 5 };
    /// Bytes of a denied packet that user space sees: headers, and nothing of what follows them.
    pub const SNAPLEN: u32 = 128;
}

/// What everything is rendered from.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    plan: &'a NodePlan,
    layout: &'a Layout,
    names: &'a Names,
    options: &'a Options,
}

/// The names under which things of the plan are known.
pub(crate) struct Names {
    /// By place in the plan: `shop/web` and a hash.
    groups: Vec<(String, String)>,
    peers: BTreeMap<PeerSetId, String>,
    /// Of address blocks of crowded sides.
    blocks: BTreeMap<AddressSet, String>,
    named: BTreeMap<NamedAtom, String>,
    /// Of what only crowded sides have, by direction and leader.
    crowded: BTreeMap<(Direction, usize), crowded::Parts>,
}

impl Names {
    fn new(plan: &NodePlan, layout: &Layout) -> Self {
        let hashes: Vec<String> = plan.groups.iter().map(identity::of_group).collect();
        let short = ShortHashes::new(&hashes);
        let groups = plan.groups.iter().map(names::group_name).zip(hashes.iter().map(|hash| short.of(hash))).collect();

        let crowded = CrowdedSets::new(plan, layout);
        let hashes: BTreeMap<PeerSetId, String> = plan.peers.iter().map(|(id, peers)| (*id, identity::of_peers(peers))).collect();
        // Sets of equal blocks are one set, so all of these have names of one kind.
        let blocks: BTreeMap<AddressSet, String> =
            crowded.blocks.iter().map(|blocks| (blocks.clone(), identity::of_blocks(blocks))).collect();
        let short = ShortHashes::new(hashes.values().chain(blocks.values()));
        let peers = hashes.iter().map(|(id, hash)| (*id, short.of(hash))).collect();
        let blocks = blocks.into_iter().map(|(blocks, hash)| (blocks, short.of(&hash))).collect();

        let hashes: BTreeMap<NamedAtom, String> = plan.named.iter().map(|(atom, n)| (*atom, identity::of_named(n))).collect();
        let short = ShortHashes::new(hashes.values());
        let named = hashes.iter().map(|(atom, hash)| (*atom, short.of(hash))).collect();
        Self { groups, peers, blocks, named, crowded: crowded.names() }
    }

    pub(crate) fn group(&self, place: usize) -> (&str, &str) {
        self.groups.get(place).map_or(("", ""), |(slug, hash)| (slug.as_str(), hash.as_str()))
    }

    pub(crate) fn peers(&self, set: PeerSetId) -> &str {
        self.peers.get(&set).map_or("", String::as_str)
    }

    pub(crate) fn blocks(&self, blocks: &AddressSet) -> &str {
        self.blocks.get(blocks).map_or("", String::as_str)
    }

    /// The hashes of what the side of a leader has.
    pub(crate) fn crowded(&self, direction: Direction, leader: usize) -> Option<&crowded::Parts> {
        self.crowded.get(&(direction, leader))
    }

    pub(crate) fn named(&self, atom: &NamedAtom) -> &str {
        self.named.get(atom).map_or("", String::as_str)
    }
}

/// The ruleset of a node. Sets of pods hold no elements, but name their source; [`Ruleset::filled`] puts them in.
///
/// Equal plans give equal rulesets. Cost: proportional to the plan, with up to 64 elements for a peer.
#[must_use]
pub fn render(plan: &NodePlan, options: &Options) -> Ruleset {
    let layout = Layout::new(plan);
    let node = Node { plan, layout: &layout, names: &Names::new(plan, &layout), options };
    let mut out = Ruleset::default();
    sets::add(&node, &mut out);
    for (place, group) in plan.groups.iter().enumerate() {
        group::add(&node, (place, group), &mut out);
    }
    sources::add(plan, options, &mut out);
    terminated::add(&mut out);
    base::add(&node, &mut out);
    out
}
