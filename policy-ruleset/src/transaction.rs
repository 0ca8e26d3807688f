//! What to change in the kernel, as data.

use std::collections::BTreeSet;

use policy_core::compile::GraphDelta;
use policy_core::graph::AllowGraph;
use policy_core::sets::Family;

use crate::rule::{Rule, Statement};
use crate::ruleset::{Chain, Contents, Element, Hook, Ruleset, Set, SetKind};

/// One step of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are what the names say")]
pub enum Op {
    /// Makes the table, or leaves it as it is.
    AddTable,
    /// Takes over an existing table without another owner, with everything in it.
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
    /// Adds a rule after the others of a chain.
    AddRule {
        chain: String,
        rule: Rule,
    },
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
    /// the new chain while it has no rules yet, and then the old chain when it has none any more. Sets are made anew under their
    /// names, because those that are there may be of another kind; rules of before keep the sets of before until they are gone.
    #[must_use]
    pub fn rebuild(ruleset: &Ruleset, graph: &AllowGraph, chains: &BTreeSet<String>, sets: &BTreeSet<String>) -> Self {
        let mut out = Self { ops: vec![Op::KeepTable] };
        let (kept, fresh): (Vec<_>, Vec<_>) = ruleset.sets.iter().partition(|(name, _)| sets.contains(*name));
        fresh.into_iter().for_each(|(name, set)| out.add_set(name, set, graph));
        // Refused if packets enter it elsewhere.
        out.ops.extend(ruleset.chains.iter().map(|(name, chain)| Op::AddChain { name: name.clone(), hook: chain.hook }));
        out.ops.extend(chains.iter().map(|name| Op::FlushChain { name: name.clone() }));
        // What was cut by an agent before this one stays cut. nft 1.0.6 cannot name a set that is dynamic already.
        for (name, set) in kept.into_iter().filter(|(_, set)| !set.kind.is_dynamic()) {
            out.ops.push(Op::DeleteSet { name: name.clone() });
            out.add_set(name, set, graph);
        }
        out.ops.extend(ruleset.chains.iter().flat_map(add_rules));
        let gone = chains.iter().filter(|name| !ruleset.chains.contains_key(*name));
        out.ops.extend(gone.map(|name| Op::DeleteChain { name: name.clone() }));
        let gone = sets.iter().filter(|name| !ruleset.sets.contains_key(*name));
        out.ops.extend(gone.map(|name| Op::DeleteSet { name: name.clone() }));
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
        let other_kind = |(name, set): (&String, &Set)| before.sets.get(name).is_some_and(|old| old.kind != set.kind);
        if after.sets.iter().any(other_kind) {
            let chains = before.chains.keys().cloned().collect();
            return Self::rebuild(after, graph, &chains, &before.sets.keys().cloned().collect());
        }
        let mut out = Self::default();
        let (dynamic, plain): (Vec<_>, Vec<_>) =
            after.sets.iter().filter(|(name, _)| !before.sets.contains_key(*name)).partition(|(_, set)| set.kind.is_dynamic());
        plain.into_iter().for_each(|(name, set)| out.add_set(name, set, graph));
        let is_fresh = |name: &String, chain: &Chain| chain.hook.is_none() && !before.chains.contains_key(name);
        let fresh = || after.chains.iter().filter(|(name, chain)| is_fresh(name, chain));
        out.ops.extend(fresh().map(|(name, _)| Op::AddChain { name: name.clone(), hook: None }));
        let rules_of = |does_update: bool| fresh().filter(move |(_, chain)| updates_a_set(chain) == does_update);
        out.ops.extend(rules_of(false).flat_map(add_rules));
        // Dynamic sets come last of what is new, and with the rules that make them so: these are part of the switch.
        dynamic.into_iter().for_each(|(name, set)| out.add_set(name, set, graph));
        out.ops.extend(rules_of(true).flat_map(add_rules));

        out.change_sets(before, after, delta, graph);
        let is_changed = |name: &String, chain: &Chain| !is_fresh(name, chain) && before.chains.get(name) != Some(chain);
        let changed = || after.chains.iter().filter(|(name, chain)| is_changed(name, chain));
        out.ops.extend(changed().map(|(name, chain)| match before.chains.contains_key(name) {
            true => Op::FlushChain { name: name.clone() },
            false => Op::AddChain { name: name.clone(), hook: chain.hook },
        }));
        out.ops.extend(changed().flat_map(add_rules));

        let gone = || before.chains.keys().filter(|name| !after.chains.contains_key(*name));
        out.ops.extend(gone().map(|name| Op::FlushChain { name: name.clone() }));
        out.ops.extend(gone().map(|name| Op::DeleteChain { name: name.clone() }));
        let gone = before.sets.keys().filter(|name| !after.sets.contains_key(*name));
        out.ops.extend(gone.map(|name| Op::DeleteSet { name: name.clone() }));
        out
    }

    /// Cuts it into parts that the kernel takes one after the other, each about as heavy as `most` [elements](Transaction::weight),
    /// but for one: the switch, which changes what packets meet, at once. Before the switch comes what only makes and fills sets and
    /// chains that nothing refers to yet; after it what only removes sets and chains that nothing refers to any more.
    #[must_use]
    pub fn into_parts(mut self, most: usize) -> Vec<Self> {
        let cleanup = self.ops.split_off(self.cleanup());
        let switch = self.ops.split_off(self.preparation());
        let mut parts = chunks(self.ops, most);
        parts.extend((!switch.is_empty()).then_some(Self { ops: switch }));
        parts.extend(chunks(cleanup, most));
        parts
    }

    /// Where what only makes new things ends.
    fn preparation(&self) -> usize {
        let (mut sets, mut chains) = (BTreeSet::new(), BTreeSet::new());
        let is_other = |op: &Op| match op {
            Op::AddTable | Op::KeepTable => false,
            // nft 1.0.6 makes a set dynamic only beside a rule that updates it.
            Op::AddSet { kind, .. } if kind.is_dynamic() => true,
            Op::AddSet { name, .. } => !sets.insert(name.clone()),
            Op::AddElements { set, .. } => !sets.contains(set),
            // INVARIANT: the rules of chains that were there before are flushed before others are added.
            Op::AddChain { name, hook } => hook.is_some() || !chains.insert(name.clone()),
            Op::AddRule { chain, .. } => !chains.contains(chain),
            _ => true,
        };
        self.ops.iter().position(is_other).unwrap_or(self.ops.len())
    }

    /// Where what only removes things begins.
    fn cleanup(&self) -> usize {
        let mut gone = BTreeSet::new();
        let is_other = |op: &Op| match op {
            Op::DeleteSet { .. } => false,
            Op::DeleteChain { name } => {
                gone.insert(name.clone());
                false
            }
            Op::FlushChain { name } => !gone.contains(name),
            _ => true,
        };
        self.ops.iter().rposition(is_other).map_or(0, |last| last + 1)
    }

    /// How long the kernel needs for it, roughly, in elements of plain sets (1–2 µs).
    #[must_use]
    pub fn weight(&self) -> usize {
        self.ops.iter().map(weight).sum()
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

    fn add_set(&mut self, name: &str, set: &Set, graph: &AllowGraph) {
        self.ops.push(Op::AddSet { name: name.to_owned(), kind: set.kind });
        self.add_elements(name, set.kind, set.elements(graph));
    }

    /// The elements of sets that stay. Elements leave before others come: ranges may not overlap at any moment.
    fn change_sets(&mut self, before: &Ruleset, after: &Ruleset, delta: &GraphDelta, graph: &AllowGraph) {
        let is_news = delta.members.is_empty() && delta.named_members.is_empty();
        for (name, set) in &after.sets {
            let Some(old) = before.sets.get(name) else { continue };
            let (mut left, mut joined) = (Vec::new(), Vec::new());
            match (&old.contents, &set.contents) {
                // Nothing was rendered.
                (Contents::Fixed(old), Contents::Fixed(new)) if std::ptr::eq(old, new) => continue,
                (Contents::Fixed(old), Contents::Fixed(new)) => {
                    left.extend(old.difference(new).copied());
                    joined.extend(new.difference(old).copied());
                }
                // Equal names stand for equal peers, under other ids. Only sets of what is allowed are filled from the graph.
                _ if !is_same_source(old, set) => {
                    self.ops.push(Op::FlushSet { name: name.clone() });
                    joined = set.elements(graph);
                }
                _ if is_news => continue,
                (_, contents) => {
                    for (element, is_member) in changes(contents, set.kind.family(), delta, graph) {
                        if is_member { joined.push(element) } else { left.push(element) }
                    }
                }
            }
            self.delete_elements(name, set.kind, left);
            self.add_elements(name, set.kind, joined);
        }
    }
}

/// The steps that add the rules of a chain.
fn add_rules<'c>((name, chain): (&'c String, &'c Chain)) -> impl Iterator<Item = Op> + 'c {
    chain.rules.iter().map(move |rule| Op::AddRule { chain: name.clone(), rule: rule.clone() })
}

/// Whether packets that meet its rules change a set.
fn updates_a_set(chain: &Chain) -> bool {
    chain.rules.iter().flat_map(|rule| &rule.statements).any(|statement| matches!(statement, Statement::Update { .. }))
}

fn weight(op: &Op) -> usize {
    match op {
        Op::AddElements { elements, .. } | Op::DeleteElements { elements, .. } => 1 + elements.len(),
        Op::AddRule { rule, .. } => 4 + rule.statements.iter().map(entries).sum::<usize>(),
        _ => 4,
    }
}

/// Elements of a map within a rule.
fn entries(statement: &Statement) -> usize {
    match statement {
        Statement::VerdictMap(map) => map.size(),
        _ => 0,
    }
}

/// Steps in parts of this weight; long lists of elements are cut.
fn chunks(ops: Vec<Op>, most: usize) -> Vec<Transaction> {
    let mut out: Vec<Transaction> = Vec::new();
    let mut room = 0;
    for op in ops {
        for op in cut(op, most) {
            let weight = weight(&op);
            match out.last_mut() {
                Some(part) if weight <= room => part.ops.push(op),
                _ => {
                    room = most;
                    out.push(Transaction { ops: vec![op] });
                }
            }
            room = room.saturating_sub(weight);
        }
    }
    out
}

fn cut(op: Op, most: usize) -> Vec<Op> {
    match op {
        Op::AddElements { set, kind, elements } if elements.len() > most => {
            let part = |elements: &[Element]| Op::AddElements { set: set.clone(), kind, elements: elements.to_vec() };
            elements.chunks(most.max(1)).map(part).collect()
        }
        op => vec![op],
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
fn changes(contents: &Contents, family: Option<Family>, delta: &GraphDelta, graph: &AllowGraph) -> Vec<(Element, bool)> {
    match contents {
        Contents::Fixed(_) | Contents::Dynamic => Vec::new(),
        Contents::Members(id) => {
            let start = delta.members.partition_point(|change| change.peer_set < *id);
            let own = delta.members.iter().skip(start).take_while(|change| change.peer_set == *id);
            own.filter(|c| Some(Family::of(c.address)) == family).map(|c| (Element::Address(c.address), c.is_member)).collect()
        }
        Contents::Named(atom) => {
            let own = delta.named_members.iter().filter(|c| c.atom == *atom && Some(Family::of(c.address)) == family);
            own.map(|c| (Element::Port(c.address, atom.transport(), c.number), c.is_member)).collect()
        }
        Contents::PortPeers(source) => family.map_or_else(Vec::new, |family| source.changes(family, delta, graph)),
    }
}
