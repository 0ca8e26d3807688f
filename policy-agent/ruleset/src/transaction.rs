//! What to change in the kernel, as data.

use std::collections::{BTreeMap, BTreeSet};

use nftables::schema::Rule;
use policy_core::compile::GraphDelta;
use policy_core::graph::AllowGraph;
use policy_core::sets::Family;

use crate::ruleset::{Chain, Contents, Element, Hook, Ruleset, Set, SetKind};

/// One step of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are what the names say")]
pub enum Op {
    /// Makes the table, or leaves it as it is.
    AddTable,
    /// Takes a table that is there, ours or nobody's, with everything in it.
    KeepTable,
    /// Removes the table with everything in it.
    DeleteTable,
    AddSet {
        name: String,
        kind: SetKind,
    },
    /// Removes the elements of a set.
    FlushSet {
        name: String,
    },
    DeleteSet {
        name: String,
    },
    AddElements {
        set: String,
        kind: SetKind,
        elements: Vec<Element>,
    },
    DeleteElements {
        set: String,
        kind: SetKind,
        elements: Vec<Element>,
    },
    AddChain {
        name: String,
        hook: Option<Hook>,
    },
    /// Removes the rules of a chain.
    FlushChain {
        name: String,
    },
    DeleteChain {
        name: String,
    },
    AddRule(Rule<'static>),
}

/// Changes that the kernel makes all together or not at all.
///
/// Shape: in an order that nf_tables accepts. Things are there before something refers to them, and nothing refers to them
/// any more when they go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transaction {
    /// The steps.
    pub ops: Vec<Op>,
}

impl Transaction {
    /// Replaces whatever is in the table by `ruleset`; the table need not be there before.
    #[must_use]
    pub fn replace(ruleset: &Ruleset, graph: &AllowGraph) -> Self {
        // Deleting needs a table that is there, so it is added first.
        let mut out = Self { ops: vec![Op::AddTable, Op::DeleteTable, Op::AddTable] };
        out.extend(Self::update(&Ruleset::default(), ruleset, &GraphDelta::default(), graph));
        out
    }

    /// Turns whatever is in a table that is there into `ruleset`, when it is known what its chains and named sets are called.
    ///
    /// The chains that packets enter stay, and only their rules change: a packet sees the rules of before or those of after. Were
    /// the table deleted and made anew, as [`Transaction::restart`] does, a packet that is being looked at on another CPU could see
    /// the new chain while it has no rules yet, and then the old chain when it has none any more.
    #[must_use]
    pub fn rebuild(ruleset: &Ruleset, graph: &AllowGraph, chains: &BTreeSet<String>, sets: &BTreeSet<String>) -> Self {
        let mut out = Self { ops: vec![Op::KeepTable] };
        let (kept, fresh): (Vec<_>, Vec<_>) = ruleset.sets.iter().partition(|(name, _)| sets.contains(*name));
        for (name, set) in fresh {
            out.ops.push(Op::AddSet { name: name.clone(), kind: set.kind });
            out.add_elements(name, set.kind, set.elements(graph));
        }
        for (name, set) in kept {
            // What was cut by an agent before this one stays cut. nft 1.0.6 cannot name a set that is dynamic already.
            if set.kind.is_dynamic() {
                continue;
            }
            // Refused if it is of another kind.
            out.ops.push(Op::AddSet { name: name.clone(), kind: set.kind });
            out.ops.push(Op::FlushSet { name: name.clone() });
            out.add_elements(name, set.kind, set.elements(graph));
        }
        // Refused if packets enter it elsewhere.
        out.ops.extend(ruleset.chains.iter().map(|(name, chain)| Op::AddChain { name: name.clone(), hook: chain.hook }));
        out.ops.extend(chains.iter().map(|name| Op::FlushChain { name: name.clone() }));
        out.ops.extend(ruleset.chains.values().flat_map(|chain| &chain.rules).cloned().map(Op::AddRule));
        let gone = sets.iter().filter(|name| !ruleset.sets.contains_key(*name));
        out.ops.extend(gone.map(|name| Op::DeleteSet { name: name.clone() }));
        let gone = chains.iter().filter(|name| !ruleset.chains.contains_key(*name));
        out.ops.extend(gone.map(|name| Op::DeleteChain { name: name.clone() }));
        out
    }

    /// Replaces the table by `ruleset`, when it is known whether it is there.
    #[must_use]
    pub fn restart(ruleset: &Ruleset, graph: &AllowGraph, is_present: bool) -> Self {
        let mut out = Self { ops: if is_present { vec![Op::DeleteTable, Op::AddTable] } else { vec![Op::AddTable] } };
        out.extend(Self::update(&Ruleset::default(), ruleset, &GraphDelta::default(), graph));
        out
    }

    /// Removes the table, which must be there.
    #[must_use]
    pub fn remove() -> Self {
        Self { ops: vec![Op::DeleteTable] }
    }

    /// Turns `before`, which is in the kernel with the elements that the graph had before `delta`, into `after`.
    ///
    /// Cost: proportional to what is different.
    #[must_use]
    pub fn update(before: &Ruleset, after: &Ruleset, delta: &GraphDelta, graph: &AllowGraph) -> Self {
        let mut out = Self::default();
        let is_kept = |name: &str, set: &Set| before.sets.get(name).is_some_and(|b| is_same_source(b, set));
        let new_sets = after.sets.iter().filter(|(name, set)| !is_kept(name, set));
        let old_sets: Vec<&String> = before
            .sets
            .iter()
            .filter(|(name, set)| !after.sets.get(*name).is_some_and(|a| is_same_source(a, set)))
            .map(|(n, _)| n)
            .collect();

        // A set whose elements come from elsewhere than before keeps its name only in theory; such a change starts over.
        if new_sets.clone().any(|(name, _)| before.sets.contains_key(name)) {
            return Self::replace(after, graph);
        }
        for (name, set) in new_sets {
            out.ops.push(Op::AddSet { name: name.clone(), kind: set.kind });
            out.add_elements(name, set.kind, set.elements(graph));
        }
        out.change_members(before, after, delta);
        let changed: BTreeMap<&String, &Chain> =
            after.chains.iter().filter(|(name, chain)| before.chains.get(*name) != Some(chain)).collect();
        out.change_chains(before, after, &changed);
        out.ops.extend(old_sets.into_iter().map(|name| Op::DeleteSet { name: name.clone() }));
        out
    }

    /// Takes off the front what only makes new sets and fills them, if that is `many` elements or more. Nothing refers to such
    /// sets yet, so they may be in the kernel before the rest is, and the rest is small.
    #[must_use]
    pub fn split_fills(mut self, many: usize) -> (Option<Self>, Self) {
        let mut fresh = BTreeSet::new();
        let length = self.ops.iter().position(|op| match op {
            Op::AddTable | Op::KeepTable => false,
            // nft 1.0.6 makes a set dynamic only beside a rule that updates it.
            Op::AddSet { kind, .. } if kind.is_dynamic() => true,
            Op::AddSet { name, .. } => !fresh.insert(name.clone()),
            Op::AddElements { set, .. } => !fresh.contains(set),
            _ => true,
        });
        let rest = self.ops.split_off(length.unwrap_or(self.ops.len()));
        if rest.is_empty() || self.elements() < many {
            self.ops.extend(rest);
            return (None, self);
        }
        (Some(self), Self { ops: rest })
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Elements added and deleted.
    #[must_use]
    pub fn elements(&self) -> usize {
        let count = |op: &Op| match op {
            Op::AddElements { elements, .. } | Op::DeleteElements { elements, .. } => elements.len(),
            _ => 0,
        };
        self.ops.iter().map(count).sum()
    }

    fn extend(&mut self, other: Self) {
        self.ops.extend(other.ops);
    }

    fn add_elements(&mut self, set: &str, kind: SetKind, elements: Vec<Element>) {
        if !elements.is_empty() {
            self.ops.push(Op::AddElements { set: set.to_owned(), kind, elements });
        }
    }

    fn delete_elements(&mut self, set: &str, kind: SetKind, elements: Vec<Element>) {
        if !elements.is_empty() {
            self.ops.push(Op::DeleteElements { set: set.to_owned(), kind, elements });
        }
    }

    /// The elements of sets that stay. Elements leave before others come: ranges may not overlap at any moment.
    fn change_members(&mut self, before: &Ruleset, after: &Ruleset, delta: &GraphDelta) {
        let is_news = delta.members.is_empty() && delta.named_members.is_empty();
        for (name, set) in &after.sets {
            let Some(old) = before.sets.get(name) else { continue };
            let (mut left, mut joined) = (Vec::new(), Vec::new());
            match (&old.contents, &set.contents) {
                (Contents::Fixed(old), Contents::Fixed(new)) => {
                    left.extend(old.difference(new).copied());
                    joined.extend(new.difference(old).copied());
                }
                _ if is_news => continue,
                (_, contents) => {
                    for (element, is_member) in changes(contents, set.kind.family(), delta) {
                        if is_member { joined.push(element) } else { left.push(element) }
                    }
                }
            }
            self.delete_elements(name, set.kind, left);
            self.add_elements(name, set.kind, joined);
        }
    }

    fn change_chains(&mut self, before: &Ruleset, after: &Ruleset, changed: &BTreeMap<&String, &Chain>) {
        for (name, chain) in changed {
            match before.chains.contains_key(*name) {
                true => self.ops.push(Op::FlushChain { name: (*name).clone() }),
                false => self.ops.push(Op::AddChain { name: (*name).clone(), hook: chain.hook }),
            }
        }
        let gone = || before.chains.keys().filter(|name| !after.chains.contains_key(*name));
        self.ops.extend(gone().map(|name| Op::FlushChain { name: name.clone() }));
        for chain in changed.values() {
            self.ops.extend(chain.rules.iter().cloned().map(Op::AddRule));
        }
        self.ops.extend(gone().map(|name| Op::DeleteChain { name: name.clone() }));
    }
}

/// Whether the elements of two sets come from the same place.
fn is_same_source(a: &Set, b: &Set) -> bool {
    let is_same = match (&a.contents, &b.contents) {
        (Contents::Fixed(_), Contents::Fixed(_)) => true,
        (a, b) => a == b,
    };
    a.kind == b.kind && is_same
}

/// The elements that joined or left a set.
fn changes(contents: &Contents, family: Family, delta: &GraphDelta) -> Vec<(Element, bool)> {
    match contents {
        Contents::Fixed(_) | Contents::Dynamic => Vec::new(),
        Contents::Members(id) => {
            let start = delta.members.partition_point(|change| change.peer_set < *id);
            let own = delta.members.iter().skip(start).take_while(|change| change.peer_set == *id);
            own.filter(|c| Family::of(c.address) == family).map(|c| (Element::Address(c.address), c.is_member)).collect()
        }
        Contents::Named(atom) => {
            let own = delta.named_members.iter().filter(|c| c.atom == *atom && Family::of(c.address) == family);
            own.map(|c| (Element::Port(c.address, atom.transport(), c.number), c.is_member)).collect()
        }
    }
}
