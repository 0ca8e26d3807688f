//! Which address blocks of a crowded side are looked up by the length of their prefix.
//!
//! For each length there is a hash set of masked address, protocol and port: an element for each block of that length and each port
//! that it gets. A packet costs a look-up for each length, however many blocks there are and however they overlap. What would be
//! very many elements, or one more length, is compared in chains.
//!
//! One set of ranges of addresses and ports would do the same in one look-up. But kernels without the fixes of 2025 look such sets up wrongly
//! (CVE-2024-57947, CVE-2025-38120, and the fifth octet of IPv6 addresses), and boxes that overlap cost the square of their number.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use policy_core::sets::{AddressSet, Family, Transport};

/// Elements of one peer set. Beyond that, a chain costs less.
const FEW: usize = 64;
/// Elements of one side.
const MOST: usize = 1 << 18;

/// What a pair of a peer set and ports gets.
pub(crate) type Ports = (Transport, u16, u16);

/// The address blocks of each peer set that are looked up by the length of their prefix. Each pair of a peer set and ports comes
/// with the addresses of the peer set; `lengths` is the bound for the number of different lengths, of both families together. What
/// is chosen depends on addresses and ports alone.
pub(crate) fn choose<'a, K: Ord + Copy>(
    pairs: impl Iterator<Item = (K, Ports, &'a AddressSet)>,
    lengths: usize,
) -> BTreeMap<K, Vec<IpNet>> {
    let mut all: BTreeMap<K, (&'a AddressSet, Vec<Ports>)> = BTreeMap::new();
    for (peers, ports, addresses) in pairs {
        all.entry(peers).or_insert((addresses, Vec::new())).1.push(ports);
    }
    let cost = |blocks: usize, ports: &[Ports]| -> usize {
        ports.iter().map(|(_, low, high)| usize::from(high - low) + 1).sum::<usize>() * blocks
    };
    all.retain(|_, (addresses, ports)| cost(addresses.ranges().count(), ports) <= FEW);
    let candidate = |(peers, (addresses, ports)): (K, (&AddressSet, Vec<Ports>))| {
        let blocks = addresses.to_cidrs();
        (cost(blocks.len(), &ports), blocks, ports, peers)
    };
    let mut all: Vec<_> = all.into_iter().map(candidate).filter(|(cost, ..)| *cost <= FEW).collect();
    let common = common_lengths(all.iter().flat_map(|(_, blocks, ..)| blocks), lengths);
    all.retain(|(_, blocks, ..)| blocks.iter().all(|block| common.contains(&length(block))));
    // The smallest first.
    all.sort_unstable();
    let mut room = MOST;
    let fits = |(cost, ..): &(usize, Vec<IpNet>, Vec<Ports>, K)| {
        let does_fit = *cost <= room;
        room = room.saturating_sub(*cost);
        does_fit
    };
    all.into_iter().take_while(fits).map(|(_, blocks, _, peers)| (peers, blocks)).collect()
}

/// The family of a block, and the length of its prefix.
pub(crate) fn length(block: &IpNet) -> (Family, u8) {
    (Family::of(block.network()), block.prefix_len())
}

/// The length of a prefix that is a whole address.
pub(crate) fn longest(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

/// The lengths that most blocks have.
fn common_lengths<'a>(blocks: impl Iterator<Item = &'a IpNet>, most: usize) -> BTreeSet<(Family, u8)> {
    let mut counts: BTreeMap<(Family, u8), usize> = BTreeMap::new();
    for block in blocks {
        *counts.entry(length(block)).or_default() += 1;
    }
    let mut all: Vec<_> = counts.into_iter().map(|(length, count)| (std::cmp::Reverse(count), length)).collect();
    all.sort_unstable();
    all.into_iter().take(most).map(|(_, length)| length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: Transport = Transport::Tcp;

    fn blocks(texts: &[&str]) -> AddressSet {
        AddressSet::union_of(texts.iter().map(|text| AddressSet::block(text.parse().unwrap())))
    }

    /// Whether each of these is looked up by length: addresses, with the ports that they get.
    fn chosen(peers: &[(AddressSet, Vec<Ports>)], lengths: usize) -> Vec<bool> {
        let pairs = peers.iter().enumerate().flat_map(|(i, (addresses, ports))| ports.iter().map(move |p| (i, *p, addresses)));
        let chosen = choose(pairs, lengths);
        for (i, blocks) in &chosen {
            assert_eq!(AddressSet::union_of(blocks.iter().copied().map(AddressSet::block)), peers[*i].0, "all or nothing");
        }
        (0..peers.len()).map(|i| chosen.contains_key(&i)).collect()
    }

    #[test]
    fn peers_with_many_blocks_or_ports_have_a_chain() {
        let one = blocks(&["10.0.0.0/8"]);
        let eight: Vec<String> = (0..8).map(|i| format!("192.0.2.{}/32", 2 * i)).collect();
        let eight = blocks(&eight.iter().map(String::as_str).collect::<Vec<_>>());
        let holed = |hole: &str| AddressSet::block_except("0.0.0.0/0".parse().unwrap(), &[hole.parse().unwrap()]);
        let peers = [
            (one.clone(), vec![(TCP, 80, 80), (Transport::Udp, 53, 53)]),
            (one.clone(), vec![(TCP, 1000, 1063)]),
            (one, vec![(TCP, 2000, 2063), (TCP, 2100, 2100)]),
            (eight.clone(), vec![(TCP, 3000, 3007)]),
            (eight, vec![(TCP, 4000, 4008)]),
            // 32 blocks.
            (holed("192.0.2.1/32"), vec![(TCP, 81, 82)]),
            (holed("192.0.2.3/32"), vec![(TCP, 83, 85)]),
            (AddressSet::none(), vec![(TCP, 86, 86)]),
        ];
        assert_eq!(chosen(&peers, 32), [true, true, false, true, false, true, false, true]);
    }

    #[test]
    fn lengths_are_bounded_and_the_common_ones_stay() {
        let peers: Vec<_> = ["10.1.0.0/16", "10.2.0.0/16", "fd00::/64", "fd01::/64", "10.3.0.0/24", "10.4.4.4/30"]
            .iter()
            .zip(1..)
            .map(|(block, port)| (blocks(&[block]), vec![(TCP, port, port)]))
            .collect();
        assert_eq!(chosen(&peers, 4), [true; 6]);
        assert_eq!(chosen(&peers, 2), [true, true, true, true, false, false]);
        assert_eq!(chosen(&peers, 0), [false; 6]);
    }

    #[test]
    fn elements_are_bounded_and_the_smallest_come_first() {
        let block = |i: usize| blocks(&[&format!("10.{}.{}.1/32", i / 256, i % 256)]);
        let mut peers: Vec<_> = (0..MOST / FEW + 1).map(|i| (block(i), vec![(TCP, 1000, 1063)])).collect();
        peers.push((blocks(&["11.0.0.0/8"]), vec![(TCP, 80, 80)]));
        let all = chosen(&peers, 32);
        assert_eq!((all.iter().filter(|is_chosen| **is_chosen).count(), all.last()), (MOST / FEW, Some(&true)));
    }
}
