//! Which address blocks of a crowded side are in the set of boxes.
//!
//! A box is a range of addresses, a protocol and a range of ports. The kernel splits each range into blocks of a power of two, and
//! has a bit for each of these in each part of the key, in tables that a packet is compared with. An address that is in many boxes
//! costs a step for each, with every packet and with every box that is added. So all three are bounded: the boxes of a peer set, the
//! splinters of a side, and how many boxes an address is in. What is beyond these bounds is compared in chains.

use std::collections::BTreeMap;
use std::net::IpAddr;

use policy_core::sets::AddressSet;

/// Boxes of one peer set.
const FEW_BOXES: usize = 16;
/// Splinters of one side: with this many, a packet is compared for some microseconds.
const MOST: usize = 1 << 16;
/// Boxes that one address is in.
const DEEPEST: usize = 64;

/// The addresses of each peer set that are in the set of boxes: each pair of a peer set and ports comes with the addresses of the
/// peer set. What is chosen depends on addresses and ports alone.
pub(crate) fn choose<'a, K: Ord + Copy>(pairs: impl Iterator<Item = (K, (u16, u16), &'a AddressSet)>) -> BTreeMap<K, AddressSet> {
    let mut all: BTreeMap<K, Candidate<'a>> = BTreeMap::new();
    for (peers, ports, addresses) in pairs {
        all.entry(peers).or_insert_with(|| Candidate { addresses, ports: Vec::new() }).ports.push(ports);
    }
    all.retain(|_, candidate| candidate.addresses.ranges().count() * candidate.ports.len() <= FEW_BOXES);
    let deep = deep(all.values());
    let shallow = |(peers, candidate): (K, Candidate<'a>)| {
        let addresses = candidate.addresses.difference(&deep);
        let cidrs = addresses.to_cidrs().len();
        let splinters: usize = candidate.ports.iter().map(|ports| cidrs.max(port_blocks(*ports))).sum();
        (splinters, candidate.ports, addresses, peers)
    };
    let mut shallow: Vec<_> = all.into_iter().map(shallow).filter(|(.., addresses, _)| !addresses.is_empty()).collect();
    shallow.sort_unstable();
    let mut room = MOST;
    let fits = |(splinters, ..): &(usize, Vec<(u16, u16)>, AddressSet, K)| {
        room = room.saturating_sub(*splinters);
        room > 0
    };
    shallow.into_iter().take_while(fits).map(|(.., addresses, peers)| (peers, addresses)).collect()
}

struct Candidate<'a> {
    addresses: &'a AddressSet,
    ports: Vec<(u16, u16)>,
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

/// The addresses that are in too many boxes.
fn deep<'a>(candidates: impl Iterator<Item = &'a Candidate<'a>>) -> AddressSet {
    // At one address, what begins comes before what ends, since both ends are included.
    let mut edges: Vec<(IpAddr, bool, usize)> = Vec::new();
    for candidate in candidates {
        for (low, high) in candidate.addresses.ranges() {
            edges.extend([(low, false, candidate.ports.len()), (high, true, candidate.ports.len())]);
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
    AddressSet::of_ranges(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(texts: &[&str]) -> AddressSet {
        AddressSet::union_of(texts.iter().map(|text| AddressSet::block(text.parse().unwrap())))
    }

    /// The part of each of these that is in the set of boxes: addresses, with the ports that they get.
    fn chosen(peers: &[(AddressSet, Vec<(u16, u16)>)]) -> Vec<AddressSet> {
        let pairs = peers.iter().enumerate().flat_map(|(i, (addresses, ports))| ports.iter().map(move |p| (i, *p, addresses)));
        let mut chosen = choose(pairs);
        (0..peers.len()).map(|i| chosen.remove(&i).unwrap_or_default()).collect()
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
            (eight.clone(), vec![(80, 80), (90, 90)]),
            (eight.clone(), vec![(80, 80), (90, 90), (100, 100)]),
        ];
        assert_eq!(chosen(&peers), [one, AddressSet::none(), eight, AddressSet::none()]);
    }

    #[test]
    fn an_address_is_in_few_boxes() {
        let own = |i: u16| format!("192.0.{}.{}/32", i / 100, i % 100 * 2);
        let peers = |count: u16| {
            let nested = (0..count).map(|i| (blocks(&["10.0.0.0/8", own(i).as_str()]), vec![(10 * i, 10 * i)]));
            let apart = [("11.0.0.0/8", 60_000), ("10.255.0.0/16", 60_001), ("9.255.255.255/32", 60_002)];
            nested.chain(apart.map(|(block, port)| (blocks(&[block]), vec![(port, port)]))).collect::<Vec<_>>()
        };
        let whole = |count| peers(count).into_iter().map(|(addresses, _)| addresses).collect::<Vec<_>>();
        assert_eq!(chosen(&peers(63)), whole(63));
        // One more: 10.255.0.0/16 is in too many.
        let deep = blocks(&["10.255.0.0/16"]);
        assert_eq!(chosen(&peers(64)), whole(64).iter().map(|set| set.difference(&deep)).collect::<Vec<_>>());
    }

    #[test]
    fn a_side_has_a_bound_and_small_peers_come_first() {
        let split = |i: u32| {
            let block = |first: u32| format!("{first}.{}.{}.0/32", i / 256, i % 256);
            blocks(&[block(10).as_str(), block(11).as_str()])
        };
        let mut peers: Vec<_> = (0..40_000).map(|i| (split(i), vec![(80, 80)])).collect();
        // All but one address of the block: 32 splinters, and one box on each side of it.
        peers.push((AddressSet::block_except("128.0.0.0/0".parse().unwrap(), &["12.0.0.1/32".parse().unwrap()]), vec![(81, 81)]));
        peers.push((blocks(&["13.0.0.0/8"]), vec![(82, 82)]));
        let all = chosen(&peers);
        let taken = all.iter().filter(|addresses| !addresses.is_empty()).count();
        assert_eq!((taken, all.last().map(AddressSet::is_empty)), (1 + (MOST - 2) / 2, Some(false)));
        assert_eq!(all.get(40_000), Some(&AddressSet::none()));
    }
}
