//! Rows of ends that behave alike, as one row.
//!
//! Two workloads behave alike if exchanging them leaves the list as it is: both have the same connections with every other end, and
//! between them the same in both directions. This is an equivalence, so every end is in one group.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::rows::{Peer, Row};

/// The ends of rows in groups, and one row for each pair of groups.
pub(crate) struct Merged<'r> {
    /// Sorted by the first member, and the members by name.
    pub groups: Vec<Vec<&'r Peer>>,
    /// Sorted by source, then destination.
    pub rows: Vec<MergedRow<'r>>,
}

/// All rows from the members of one group to those of another.
pub(crate) struct MergedRow<'r> {
    pub source: usize,
    pub destination: usize,
    pub within: Within,
    /// One of them.
    pub row: &'r Row,
}

/// Which members of the two groups are connected.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Within {
    /// Each of one group with each of another.
    Groups,
    /// Each with each other one of the same group.
    EachOther,
    /// Each with itself, which are its replicas.
    Themselves,
    /// Each with each one of the same group, itself included.
    Everyone,
}

/// The number of a distinct pair of port sets.
type PortsId = usize;

/// Two independent hashes.
type Signature = (u64, u64);

impl<'r> Merged<'r> {
    /// Merges rows. Cost: linear in the rows, times the logarithm of their number.
    pub(crate) fn new(rows: &'r [Row]) -> Self {
        let Ends { ends, pairs } = Ends::of(rows);
        let groups = Table::new(rows, &pairs, ends.len()).groups(&ends);
        let mut group_of = vec![0; ends.len()];
        for (number, members) in groups.iter().enumerate() {
            for member in members {
                if let Some(group) = group_of.get_mut(*member) {
                    *group = number;
                }
            }
        }
        let group_of = |end: usize| group_of.get(end).copied().unwrap_or_default();
        let mut merged: BTreeMap<(usize, usize, Within), &Row> = BTreeMap::new();
        for (row, (source, destination)) in rows.iter().zip(&pairs) {
            let key = (group_of(*source), group_of(*destination));
            let within = match key.0 == key.1 {
                false => Within::Groups,
                true if source == destination => Within::Themselves,
                true => Within::EachOther,
            };
            merged.entry((key.0, key.1, within)).or_insert(row);
        }
        let is_everyone = |key: &(usize, usize, Within), row: &Row| {
            let other = merged.get(&(key.0, key.1, Within::Themselves));
            other.is_some_and(|other| (&other.allowed, &other.partly) == (&row.allowed, &row.partly))
        };
        let everyone: BTreeSet<usize> = merged
            .iter()
            .filter(|(key, row)| key.2 == Within::EachOther && is_everyone(key, row))
            .map(|((group, ..), _)| *group)
            .collect();
        let rows = merged
            .into_iter()
            .filter(|((group, _, within), _)| !(*within == Within::Themselves && everyone.contains(group)))
            .map(|((source, destination, within), row)| {
                let is_everyone = within == Within::EachOther && everyone.contains(&source);
                MergedRow { source, destination, within: if is_everyone { Within::Everyone } else { within }, row }
            })
            .collect();
        let groups = groups.into_iter().map(|members| members.into_iter().filter_map(|m| ends.get(m).copied()).collect());
        Self { groups: groups.collect(), rows }
    }

    /// Every end as a group of its own.
    pub(crate) fn apart(rows: &'r [Row]) -> Self {
        let Ends { ends, pairs } = Ends::of(rows);
        let within = |pair: &(usize, usize)| if pair.0 == pair.1 { Within::Themselves } else { Within::Groups };
        let row = |(row, pair): (&'r Row, &(usize, usize))| MergedRow {
            source: pair.0,
            destination: pair.1,
            within: within(pair),
            row,
        };
        let rows = rows.iter().zip(&pairs).map(row).collect();
        Self { groups: ends.into_iter().map(|end| vec![end]).collect(), rows }
    }
}

/// The ends of rows, sorted, and the places of both ends of each row.
struct Ends<'r> {
    ends: Vec<&'r Peer>,
    pairs: Vec<(usize, usize)>,
}

impl<'r> Ends<'r> {
    fn of(rows: &'r [Row]) -> Self {
        let mut numbers: HashMap<&Peer, usize> = HashMap::new();
        let mut ends: Vec<(&Peer, usize)> = Vec::new();
        let mut number = |peer: &'r Peer| {
            *numbers.entry(peer).or_insert_with(|| {
                ends.push((peer, ends.len()));
                ends.len() - 1
            })
        };
        let mut pairs: Vec<(usize, usize)> = rows.iter().map(|row| (number(&row.src), number(&row.dst))).collect();
        ends.sort_by_key(|(peer, _)| peer.order());
        let mut places = vec![0; ends.len()];
        for (place, (_, number)) in ends.iter().enumerate() {
            if let Some(at) = places.get_mut(*number) {
                *at = place;
            }
        }
        let place = |number: usize| places.get(number).copied().unwrap_or_default();
        for pair in &mut pairs {
            *pair = (place(pair.0), place(pair.1));
        }
        Self { ends: ends.into_iter().map(|(peer, _)| peer).collect(), pairs }
    }
}

/// The rows as numbers.
struct Table {
    /// What each end has in common with all others, as sums over its rows; rows with itself apart.
    sums: Vec<Signature>,
    own: Vec<Option<PortsId>>,
    /// Port sets that an end has with some other end in both directions.
    mutual: BTreeSet<(usize, PortsId)>,
}

impl Table {
    fn new(rows: &[Row], places: &[(usize, usize)], ends: usize) -> Self {
        let mut ports = HashMap::new();
        let mut table = Self { sums: vec![(0, 0); ends], own: vec![None; ends], mutual: BTreeSet::new() };
        let mut pairs: HashMap<(usize, usize), PortsId> = HashMap::with_capacity(rows.len());
        for (row, (source, destination)) in rows.iter().zip(places.iter().copied()) {
            let next = ports.len();
            let id = *ports.entry((&row.allowed, &row.partly)).or_insert(next);
            if source == destination {
                if let Some(own) = table.own.get_mut(source) {
                    *own = Some(id);
                }
                continue;
            }
            pairs.insert((source, destination), id);
            if pairs.get(&(destination, source)) == Some(&id) {
                table.mutual.extend([(source, id), (destination, id)]);
            }
            table.add(source, term(destination, id, Side::Source));
            table.add(destination, term(source, id, Side::Destination));
        }
        table
    }

    fn add(&mut self, end: usize, term: Signature) {
        if let Some(sum) = self.sums.get_mut(end) {
            *sum = plus(*sum, term);
        }
    }

    /// Groups of places, sorted.
    fn groups(&self, ends: &[&Peer]) -> Vec<Vec<usize>> {
        let mut alike: BTreeMap<(Signature, Option<PortsId>, Option<PortsId>), Vec<usize>> = BTreeMap::new();
        let of = |end: usize| (self.sums.get(end).copied().unwrap_or_default(), self.own.get(end).copied().flatten());
        let is_workload = |end: &usize| matches!(ends.get(*end), Some(Peer::Workload { .. }));
        for end in (0..ends.len()).filter(is_workload) {
            let (sum, own) = of(end);
            alike.entry((sum, None, own)).or_default().push(end);
        }
        for (end, id) in self.mutual.iter().filter(|(end, _)| is_workload(end)) {
            let (sum, own) = of(*end);
            // With its own connections, an end has the same sum as those that it is connected with in the same way.
            let whole = plus(plus(sum, term(*end, *id, Side::Source)), term(*end, *id, Side::Destination));
            alike.entry((whole, Some(*id), own)).or_default().push(*end);
        }
        let mut groups: Vec<Vec<usize>> = alike.into_values().filter(|members| members.len() > 1).collect();
        let taken: BTreeSet<usize> = groups.iter().flatten().copied().collect();
        groups.extend((0..ends.len()).filter(|end| !taken.contains(end)).map(|end| vec![end]));
        groups.sort();
        groups
    }
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

/// The part of a sum that one row is. Sums do not depend on the order of rows.
fn term(other: usize, ports: PortsId, side: Side) -> Signature {
    let value = (other as u64) << 32 ^ (ports as u64) << 1 ^ matches!(side, Side::Source) as u64;
    (mixed(value), mixed(value ^ 0x5851_f42d_4c95_7f2d))
}

fn plus(a: Signature, b: Signature) -> Signature {
    (a.0.wrapping_add(b.0), a.1.wrapping_add(b.1))
}

/// SplitMix64.
fn mixed(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use policy_core::sets::{PortSet, Transport};

    use super::*;

    fn peer(name: &str) -> Peer {
        Peer::Workload { kind: "Deployment".to_owned(), namespace: "x".to_owned(), name: name.to_owned() }
    }

    fn row(src: &str, dst: &str, port: u16) -> Row {
        let allowed = PortSet::range(Transport::Tcp, port, port);
        Row { src: peer(src), dst: peer(dst), allowed, partly: PortSet::none() }
    }

    /// Groups as names, and rows as `group>group`.
    fn shown(rows: &[Row]) -> (Vec<String>, Vec<(usize, usize, Within)>) {
        let merged = Merged::new(rows);
        let name = |peer: &&Peer| match peer {
            Peer::Workload { name, .. } => name.clone(),
            Peer::External { .. } => "external".to_owned(),
        };
        let groups = merged.groups.iter().map(|group| group.iter().map(name).collect::<Vec<_>>().join(" "));
        (groups.collect(), merged.rows.iter().map(|row| (row.source, row.destination, row.within)).collect())
    }

    #[test]
    fn ends_with_equal_connections_are_one_group() {
        let rows = [row("a", "z", 80), row("b", "z", 80), row("c", "z", 81)];
        assert_eq!(
            shown(&rows),
            (vec!["a b".into(), "c".into(), "z".into()], vec![(0, 2, Within::Groups), (1, 2, Within::Groups)])
        );
    }

    #[test]
    fn ends_that_are_connected_alike_are_one_group() {
        let mut rows = Vec::new();
        for (src, dst) in [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b")] {
            rows.push(row(src, dst, 80));
        }
        assert_eq!(shown(&rows), (vec!["a b c".into()], vec![(0, 0, Within::EachOther)]));
        rows.extend(["a", "b", "c"].map(|name| row(name, name, 80)));
        assert_eq!(shown(&rows), (vec!["a b c".into()], vec![(0, 0, Within::Everyone)]));
        // One direction on another port: c is different.
        rows.retain(|row| row.src != peer("c") || row.dst != peer("a"));
        rows.push(row("c", "a", 81));
        let (groups, _) = shown(&rows);
        assert_eq!(groups, ["a", "b", "c"], "exchanging b and c would change what a takes");
    }

    #[test]
    fn a_row_with_itself_does_not_join_others() {
        let rows = [row("a", "a", 80), row("b", "b", 80), row("c", "d", 80)];
        let (groups, merged) = shown(&rows);
        assert_eq!(groups, ["a b", "c", "d"]);
        assert_eq!(merged, [(0, 0, Within::Themselves), (1, 2, Within::Groups)]);
    }

    #[test]
    fn direction_matters() {
        // a and b have the same other ends, in opposite directions.
        let (groups, _) = shown(&[row("a", "z", 80), row("z", "b", 80)]);
        assert_eq!(groups, ["a", "b", "z"]);
    }
}
