//! Rows of workloads as rows of namespaces.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::sets::PortSet;

use super::ends::End;
use super::evaluation::Evaluation;
use super::rows::{Peer, Question, Row};

/// The connections of namespaces: what each workload of one may use towards each of another is allowed, and what only some may is
/// partly allowed. The outside stays as it is.
pub(crate) fn by_namespace(evaluation: &Evaluation, question: &Question<'_>, rows: &[Row]) -> Vec<Row> {
    let mut folded: BTreeMap<(Peer, Peer), Folded> = BTreeMap::new();
    for row in rows {
        folded.entry((namespace(&row.src), namespace(&row.dst))).or_default().add(row);
    }
    let (sources, destinations) = (question.sources(evaluation), question.destinations(evaluation));
    let (from, to) = (Count::all(&sources), Count::all(&destinations));
    let names: BTreeSet<String> = sources.iter().filter(|(_, is_shown)| *is_shown).map(|(end, _)| end.name()).collect();
    let mut own: BTreeMap<&str, usize> = BTreeMap::new();
    for (end, _) in destinations.iter().filter(|(end, is_shown)| *is_shown && names.contains(&end.name())) {
        *own.entry(end.namespace().unwrap_or_default()).or_default() += 1;
    }
    let mut out: Vec<Row> = folded
        .into_iter()
        .filter_map(|((src, dst), folded)| {
            let count = |counts: &BTreeMap<&str, Count>, peer: &Peer| match peer {
                Peer::Workload { name, .. } => counts.get(name.as_str()).copied().unwrap_or_default(),
                Peer::External { .. } => counts.get("").copied().unwrap_or_default(),
            };
            let (a, b) = (count(&from, &src), count(&to, &dst));
            let pairs = a.shown * b.all + a.all * b.shown - a.shown * b.shown;
            let with_itself = match &src {
                Peer::Workload { name, .. } if src == dst => own.get(name.as_str()).copied().unwrap_or_default(),
                _ => 0,
            };
            folded.row(src, dst, pairs.saturating_sub(with_itself))
        })
        .collect();
    out.sort_by(|a, b| (a.src.order(), a.dst.order()).cmp(&(b.src.order(), b.dst.order())));
    out
}

/// The namespace of an end. Nodes and the outside have none.
fn namespace(peer: &Peer) -> Peer {
    match peer {
        Peer::Workload { namespace, .. } if !namespace.is_empty() => {
            Peer::Workload { kind: "Namespace".to_owned(), namespace: String::new(), name: namespace.clone() }
        }
        other => other.clone(),
    }
}

/// Ends of a namespace.
#[derive(Clone, Copy, Default)]
struct Count {
    all: usize,
    /// Those whose connections are shown whatever the other end.
    shown: usize,
}

impl Count {
    fn all(ends: &[(End, bool)]) -> BTreeMap<&str, Self> {
        let mut out: BTreeMap<&str, Self> = BTreeMap::new();
        for (end, is_shown) in ends {
            let count = out.entry(end.namespace().unwrap_or_default()).or_default();
            count.all += 1;
            count.shown += usize::from(*is_shown);
        }
        out
    }
}

/// The rows between two namespaces.
#[derive(Default)]
struct Folded {
    all: Option<PortSet>,
    some: PortSet,
    /// Rows of two different ends.
    pairs: usize,
}

impl Folded {
    fn add(&mut self, row: &Row) {
        self.all = Some(self.all.take().map_or_else(|| row.allowed.clone(), |all| all.intersection(&row.allowed)));
        self.some = self.some.union(&row.some());
        self.pairs += usize::from(row.src != row.dst);
    }

    /// The row, of which `expected` is the number of pairs of different ends.
    fn row(self, src: Peer, dst: Peer, expected: usize) -> Option<Row> {
        let all = self.all.filter(|_| self.pairs >= expected).unwrap_or_default();
        Row::new(src, dst, all, &self.some)
    }
}
