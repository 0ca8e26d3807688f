//! How much ranges of ports with peers of their own come to where they overlap.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

use rustc_hash::{FxHashMap, FxHashSet};

use super::Transport;

/// The peers of every port count this part in each set that is made with them.
const SHARED: usize = 16;

/// Pairs of ports and peers that these ranges make, and what the sets of such peers hold: `size` of each, and of `any` of the peers
/// that get every port. Equal sets count once.
///
/// Cost: linear in the ranges, times the logarithm of their number.
pub(crate) fn pairs<K: Copy + Eq + Hash + Ord>(
    ranges: &[(Transport, u16, u16, K)],
    size: impl Fn(K) -> usize,
    any: usize,
) -> usize {
    // (protocol, first port at which something changes, peers, whether they begin)
    let mut events: Vec<(Transport, u32, K, bool)> = Vec::with_capacity(2 * ranges.len());
    for (transport, low, high, peers) in ranges {
        events.push((*transport, u32::from(*low), *peers, true));
        events.push((*transport, u32::from(*high) + 1, *peers, false));
    }
    events.sort_unstable();
    let mut active: FxHashMap<K, u32> = FxHashMap::default();
    let mut seen: FxHashSet<u64> = FxHashSet::default();
    // Sums of simple hashes would be the same for different peers.
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    // Of the active peers: the sum of their hashes, by which equal sets are known, and what they hold.
    let (mut identity, mut held, mut total) = (0u64, 0, 0);
    let mut events = events.into_iter().peekable();
    while let Some((transport, port, peers, begins)) = events.next() {
        let uses = active.entry(peers).or_default();
        let hash = hasher.hash_one(peers);
        if begins {
            *uses += 1;
            if *uses == 1 {
                identity = identity.wrapping_add(hash);
                held += size(peers);
            }
        } else {
            *uses = uses.saturating_sub(1);
            if *uses == 0 {
                active.remove(&peers);
                identity = identity.wrapping_sub(hash);
                held = held.saturating_sub(size(peers));
            }
        }
        let is_last_here = events.peek().is_none_or(|(next, at, ..)| (*next, *at) != (transport, port));
        if is_last_here && !active.is_empty() {
            total += active.len();
            total += if seen.insert(identity) { held + any / SHARED } else { 0 };
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: Transport = Transport::Tcp;

    #[test]
    fn pairs_are_counted_as_ports_and_peers_overlap() {
        let count = |ranges: &[(Transport, u16, u16, u32)]| pairs(ranges, |_| 0, 0);
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[(TCP, 80, 80, 1), (TCP, 443, 443, 1)]), 2);
        // 1–2 has both, 3–4 has one; ranges that touch are two; the last port there is has an end.
        assert_eq!(count(&[(TCP, 1, 2, 1), (TCP, 1, 4, 2)]), 3);
        assert_eq!(count(&[(TCP, 1, 2, 1), (TCP, 3, 65535, 2)]), 2);
        assert_eq!(count(&[(TCP, 1, 9, 1), (Transport::Udp, 1, 9, 1)]), 2);
        // The same peers twice are one.
        assert_eq!(count(&[(TCP, 1, 9, 1), (TCP, 5, 9, 1)]), 2);
    }

    #[test]
    fn what_peers_hold_counts_once_for_equal_sets() {
        let count = |ranges: &[(Transport, u16, u16, usize)], any| pairs(ranges, |peers| 100 * peers, any);
        assert_eq!(count(&[(TCP, 80, 80, 1), (TCP, 443, 443, 1)], 0), 2 + 100);
        assert_eq!(count(&[(TCP, 80, 80, 1), (TCP, 443, 443, 2)], 160), 2 + 110 + 210);
        assert_eq!(count(&[(TCP, 1, 2, 1), (TCP, 1, 4, 2), (TCP, 9, 9, 2)], 0), 4 + 300 + 200);
    }
}
