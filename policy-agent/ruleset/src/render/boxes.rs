//! Which address blocks of a crowded side are in the set of boxes.
//!
//! A box is a range of addresses, a protocol and a range of ports. The kernel splits each range into blocks of a power of two, and
//! has a bit for each of these in each part of the key, in tables that a packet is compared with. An address that is in many boxes
//! costs a step for each, with every packet and with every box that is added. So all three are bounded: the splinters of a peer
//! set, those of a side, and how many boxes an address is in. Peers beyond these bounds have a chain.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_core::sets::AddressSet;

/// Splinters of one peer set.
const FEW: usize = 16;
/// Splinters of one side: with this many, a packet is compared for a few microseconds.
const MOST: usize = 1 << 15;
/// Boxes that one address is in.
const DEEPEST: usize = 64;

/// The peer sets whose blocks are in the set of boxes, of all that have blocks: each pair of a peer set and ports comes with the
/// blocks of the peer set. What is chosen depends on blocks and ports alone.
pub(crate) fn choose<'a, K: Ord + Copy>(pairs: impl Iterator<Item = (K, (u16, u16), &'a AddressSet)>) -> BTreeSet<K> {
    let mut all: BTreeMap<K, Candidate<'a>> = BTreeMap::new();
    for (peers, ports, blocks) in pairs {
        let candidate = all.entry(peers).or_insert_with(|| Candidate { blocks, pairs: 0, splinters: 0 });
        candidate.pairs += 1;
        if candidate.splinters <= FEW {
            candidate.splinters += blocks.to_cidrs().len().max(port_blocks(ports));
        }
    }
    all.retain(|_, candidate| candidate.splinters <= FEW);
    let deep = deep(all.values());
    all.retain(|_, candidate| !candidate.blocks.ranges().any(|range| is_in(&deep, range)));
    let mut few = FEW;
    while all.values().map(|candidate| candidate.splinters).filter(|splinters| *splinters <= few).sum::<usize>() > MOST {
        few /= 2;
    }
    all.into_iter().filter(|(_, candidate)| candidate.splinters <= few).map(|(peers, _)| peers).collect()
}

struct Candidate<'a> {
    blocks: &'a AddressSet,
    pairs: usize,
    splinters: usize,
}

/// How many blocks of a power of two a range of ports is made of.
fn port_blocks((low, high): (u16, u16)) -> usize {
    let (mut from, end) = (u32::from(low), u32::from(high) + 1);
    let mut count = 0;
    while from < end {
        let aligned = if from == 0 { 1 << 16 } else { 1 << from.trailing_zeros() };
        let fitting = 1 << (end - from).ilog2();
        from += aligned.min(fitting);
        count += 1;
    }
    count
}

/// The ranges of addresses that are in too many boxes; sorted and disjoint.
fn deep<'a>(candidates: impl Iterator<Item = &'a Candidate<'a>>) -> Vec<(IpAddr, IpAddr)> {
    // At one address, what begins comes before what ends, since both ends are included.
    let mut edges: Vec<(IpAddr, bool, usize)> = Vec::new();
    for candidate in candidates {
        for (low, high) in candidate.blocks.ranges() {
            edges.extend([(low, false, candidate.pairs), (high, true, candidate.pairs)]);
        }
    }
    edges.sort_unstable();
    let (mut out, mut depth, mut start) = (Vec::new(), 0, None);
    for (at, is_end, pairs) in edges {
        depth = if is_end { depth - pairs } else { depth + pairs };
        if depth > DEEPEST {
            start.get_or_insert(at);
        } else if let Some(start) = start.take() {
            out.push((start, at));
        }
    }
    out
}

fn is_in(ranges: &[(IpAddr, IpAddr)], (low, high): (IpAddr, IpAddr)) -> bool {
    let next = ranges.partition_point(|(_, end)| *end < low);
    ranges.get(next).is_some_and(|(start, _)| *start <= high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(texts: &[&str]) -> AddressSet {
        AddressSet::union_of(texts.iter().map(|text| AddressSet::block(text.parse().unwrap())))
    }

    /// Whether each of these is in the set of boxes: blocks, with the ports that they get.
    fn chosen(peers: &[(AddressSet, Vec<(u16, u16)>)]) -> Vec<bool> {
        let pairs = peers.iter().enumerate().flat_map(|(i, (blocks, ports))| ports.iter().map(move |ports| (i, *ports, blocks)));
        let chosen = choose(pairs);
        (0..peers.len()).map(|i| chosen.contains(&i)).collect()
    }

    #[test]
    fn a_range_of_ports_is_made_of_blocks() {
        let blocks = [(80, 80), (0, u16::MAX), (1, u16::MAX), (8, 15), (8, 16), (1001, 1004), (u16::MAX, u16::MAX)];
        assert_eq!(blocks.map(port_blocks), [1, 1, 16, 1, 2, 3, 1]);
    }

    #[test]
    fn peers_with_many_blocks_or_ports_have_a_chain() {
        let one = blocks(&["10.0.0.0/8"]);
        let eight: Vec<String> = (0..8).map(|i| format!("192.0.2.{}/32", 2 * i)).collect();
        let eight = blocks(&eight.iter().map(String::as_str).collect::<Vec<_>>());
        let peers = [
            (one.clone(), vec![(80, 80)]),
            (one.clone(), (0..17).map(|i| (i * 10, i * 10)).collect()),
            (one.clone(), vec![(1, 65_534)]),
            (eight.clone(), vec![(80, 80), (90, 90)]),
            (eight, vec![(80, 80), (90, 90), (100, 100)]),
            // All but one address: 128 blocks.
            (AddressSet::block_except("::/0".parse().unwrap(), &["fd00::1/128".parse().unwrap()]), vec![(443, 443)]),
        ];
        assert_eq!(chosen(&peers), [true, false, false, true, false, false]);
    }

    #[test]
    fn an_address_is_in_few_boxes() {
        let own = |i: u16| format!("192.0.{}.{}/32", i / 100, i % 100 * 2);
        let peers = |count: u16| {
            let nested = (0..count).map(|i| (blocks(&["10.0.0.0/8", own(i).as_str()]), vec![(10 * i, 10 * i)]));
            let apart = [("11.0.0.0/8", 60_000), ("10.255.0.0/16", 60_001), ("9.255.255.255/32", 60_002)];
            nested.chain(apart.map(|(block, port)| (blocks(&[block]), vec![(port, port)]))).collect::<Vec<_>>()
        };
        assert_eq!(chosen(&peers(63)), vec![true; 66]);
        let all = chosen(&peers(64));
        // One address more is in too many: with 10.255.0.0/16 go all that it is in.
        assert_eq!(all.iter().filter(|is_chosen| **is_chosen).count(), 2);
        assert_eq!(all.last_chunk::<3>(), Some(&[true, false, true]));
    }

    #[test]
    fn a_side_has_a_bound_and_small_peers_come_first() {
        let two = |i: usize| {
            blocks(&[format!("10.{}.{}.0/32", i / 256, i % 256).as_str(), format!("11.{}.{}.0/32", i / 256, i % 256).as_str()])
        };
        let mut peers: Vec<_> = (0..MOST / 2).map(|i| (two(i), vec![(80, 80)])).collect();
        assert!(chosen(&peers).iter().all(|is_chosen| *is_chosen));
        peers.push((blocks(&["12.0.0.0/8"]), vec![(81, 81)]));
        let all = chosen(&peers);
        assert_eq!((all.iter().filter(|is_chosen| **is_chosen).count(), all.last()), (1, Some(&true)));
    }
}
