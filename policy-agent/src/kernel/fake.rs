//! A kernel for tests, with nf_tables' own rules about references.
//!
//! It takes transactions as a [`Door`] and tells about itself as a [`Kernel`], so that the enforcer cannot tell it from the
//! real one. It can be told to refuse, to lose its answer, and to let somebody else change things meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nftables::expr::{Expression, NamedExpression, SetItem, Verdict};
use nftables::schema::Rule;
use nftables::stmt::Statement;
use nix::errno::Errno;
use policy_ruleset::{Element, Hook, Op, Transaction, cut};

use super::Kernel;
use super::doors::{ApplyError, Door};
use super::monitor::Between;

/// What is in the fake's table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    /// Elements of sets, by name.
    pub sets: BTreeMap<String, BTreeSet<Element>>,
    /// Rules of chains, by name.
    pub chains: BTreeMap<String, (Option<Hook>, Vec<Rule<'static>>)>,
}

/// Something that goes wrong with the next transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// It is refused.
    Refuse,
    /// It takes effect, and the answer is lost.
    LoseAnswer,
    /// It does not take effect, and the answer is lost.
    LoseRequest,
    /// Somebody changes another table just before.
    OtherTable,
    /// Somebody deletes our table just before.
    OurTable,
    /// Somebody flushes the chains of our table just before.
    OurChains,
}

#[derive(Default)]
struct State {
    table: Option<Table>,
    generation: u32,
    touched: Vec<u32>,
    troubles: VecDeque<Trouble>,
    /// Transactions that took effect.
    applied: usize,
}

/// The fake. Clones are the same kernel.
#[derive(Clone, Default)]
pub struct FakeKernel {
    state: Arc<Mutex<State>>,
    is_unbound: bool,
}

impl FakeKernel {
    /// A kernel without a table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same kernel through a door that cannot ask for a generation, as that of `nft`.
    #[must_use]
    pub fn unbound(&self) -> Self {
        Self { state: self.state.clone(), is_unbound: true }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in the table; `None` when there is none.
    #[must_use]
    pub fn table(&self) -> Option<Table> {
        self.lock().table.clone()
    }

    /// How many transactions took effect.
    #[must_use]
    pub fn applied(&self) -> usize {
        self.lock().applied
    }

    /// Makes this happen with the next transaction that nothing else happens to.
    pub fn expect(&self, trouble: Trouble) {
        self.lock().troubles.push_back(trouble);
    }

    /// Somebody else changes the table.
    pub fn meddle(&self, change: impl FnOnce(&mut Option<Table>)) {
        let mut state = self.lock();
        change(&mut state.table);
        state.touch();
    }
}

impl State {
    fn touch(&mut self) {
        self.generation += 1;
        self.touched.push(self.generation);
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), ApplyError> {
        let mut table = self.table.clone();
        for op in &transaction.ops {
            step(&mut table, op).map_err(|error| ApplyError::Refused {
                step: format!("{op:?}"),
                source: error.into(),
                is_table: matches!(op, Op::AddTable | Op::KeepTable),
            })?;
        }
        self.table = table;
        self.applied += 1;
        self.touch();
        Ok(())
    }
}

impl Door for FakeKernel {
    fn apply(&mut self, transaction: &Transaction, generation: Option<u32>) -> Result<(), ApplyError> {
        let mut state = self.lock();
        let lost = || ApplyError::Unknown(io::ErrorKind::TimedOut.into());
        match state.troubles.pop_front() {
            Some(Trouble::Refuse) => {
                let source = Errno::ENOMEM.into();
                return Err(ApplyError::Refused { step: "do anything".to_owned(), source, is_table: false });
            }
            Some(Trouble::LoseAnswer) => {
                state.commit(transaction)?;
                return Err(lost());
            }
            Some(Trouble::LoseRequest) => return Err(lost()),
            Some(Trouble::OtherTable) => state.generation += 1,
            Some(Trouble::OurTable) => {
                state.table = None;
                state.touch();
            }
            Some(Trouble::OurChains) => {
                state.table.iter_mut().flat_map(|table| table.chains.values_mut()).for_each(|(_, rules)| rules.clear());
                state.touch();
            }
            None => {}
        }
        match generation {
            Some(wanted) if !self.is_unbound && wanted != state.generation => Err(ApplyError::GenerationMoved(wanted)),
            _ => state.commit(transaction),
        }
    }

    fn is_bound_to_generation(&self) -> bool {
        !self.is_unbound
    }
}

impl Kernel for FakeKernel {
    fn generation(&mut self) -> io::Result<u32> {
        Ok(self.lock().generation)
    }

    fn is_present(&mut self) -> io::Result<bool> {
        Ok(self.lock().table.is_some())
    }

    fn chains(&mut self) -> io::Result<Vec<String>> {
        Ok(self.lock().table.iter().flat_map(|table| table.chains.keys().cloned()).collect())
    }

    fn sets(&mut self) -> io::Result<Vec<String>> {
        Ok(self.lock().table.iter().flat_map(|table| table.sets.keys().cloned()).collect())
    }

    fn packets(&mut self) -> io::Result<BTreeMap<String, u64>> {
        Ok(BTreeMap::new())
    }

    fn elements(&mut self) -> io::Result<Option<u64>> {
        Ok(self.lock().table.as_ref().map(|table| table.sets.values().map(|set| set.len() as u64).sum()))
    }

    fn between(&mut self, from: u32, to: u32) -> Between {
        Between::Touched(self.lock().touched.iter().copied().filter(|g| *g > from && *g <= to).collect())
    }
}

/// One step, with the errors that nf_tables gives.
fn step(place: &mut Option<Table>, op: &Op) -> Result<(), Errno> {
    match op {
        Op::AddTable => {
            place.get_or_insert_default();
            return Ok(());
        }
        Op::KeepTable => return place.as_ref().map(|_| ()).ok_or(Errno::ENOENT),
        Op::DeleteTable => return place.take().map(drop).ok_or(Errno::ENOENT),
        _ => {}
    }
    let table = place.as_mut().ok_or(Errno::ENOENT)?;
    match op {
        Op::AddTable | Op::KeepTable | Op::DeleteTable => {}
        Op::AddSet { name, .. } => {
            table.sets.entry(name.clone()).or_default();
        }
        Op::FlushSet { name } => table.sets.get_mut(name).ok_or(Errno::ENOENT)?.clear(),
        Op::DeleteSet { name } => {
            if table.rules().any(|rule| refers(rule).sets.contains(name)) {
                return Err(Errno::EBUSY);
            }
            table.sets.remove(name).ok_or(Errno::ENOENT)?;
        }
        Op::AddElements { set, elements, .. } => {
            let set = table.sets.get_mut(set).ok_or(Errno::ENOENT)?;
            for element in elements {
                // What was cut may be added again: that only makes it stay longer.
                if cut::ends(element).is_some() {
                    if !set.contains(element) && set.len() >= cut::SIZE as usize {
                        return Err(Errno::ENFILE);
                    }
                    set.insert(*element);
                    continue;
                }
                let overlaps = |other: &Element| overlap(element, other);
                if set.iter().any(overlaps) {
                    return Err(Errno::EEXIST);
                }
                set.insert(*element);
            }
        }
        Op::DeleteElements { set, elements, .. } => {
            let set = table.sets.get_mut(set).ok_or(Errno::ENOENT)?;
            if !elements.iter().all(|element| set.remove(element)) {
                return Err(Errno::ENOENT);
            }
        }
        Op::AddChain { name, hook } => {
            let (is, _) = table.chains.entry(name.clone()).or_insert_with(|| (*hook, Vec::new()));
            if hook.is_some() && is != hook {
                return Err(Errno::EEXIST);
            }
        }
        Op::FlushChain { name } => table.chains.get_mut(name).ok_or(Errno::ENOENT)?.1.clear(),
        Op::DeleteChain { name } => {
            if table.rules().any(|rule| refers(rule).chains.contains(name)) {
                return Err(Errno::EBUSY);
            }
            table.chains.remove(name).ok_or(Errno::ENOENT)?;
        }
        Op::AddRule(rule) => {
            let refers = refers(rule);
            let is_there = refers.chains.iter().all(|c| table.chains.contains_key(c))
                && refers.sets.iter().all(|s| table.sets.contains_key(s));
            let chain = table.chains.get_mut(rule.chain.as_ref()).ok_or(Errno::ENOENT)?;
            if !is_there {
                return Err(Errno::ENOENT);
            }
            chain.1.push(rule.clone());
            if table.has_loop(rule.chain.as_ref(), &mut BTreeSet::new()) {
                return Err(Errno::ELOOP);
            }
        }
    }
    Ok(())
}

/// Whether the kernel would refuse two elements in one set.
fn overlap(a: &Element, b: &Element) -> bool {
    match (a, b) {
        (Element::Range(low, high), Element::Range(from, to)) => low <= to && from <= high,
        _ => a == b,
    }
}

impl Table {
    fn rules(&self) -> impl Iterator<Item = &Rule<'static>> {
        self.chains.values().flat_map(|(_, rules)| rules)
    }

    fn has_loop(&self, chain: &str, above: &mut BTreeSet<String>) -> bool {
        if !above.insert(chain.to_owned()) {
            return true;
        }
        let rules = self.chains.get(chain).map(|(_, rules)| rules.as_slice()).unwrap_or_default();
        let found = rules.iter().flat_map(|rule| refers(rule).chains).any(|next| self.has_loop(&next, above));
        above.remove(chain);
        found
    }
}

/// What a rule refers to.
#[derive(Default)]
struct Refers {
    chains: BTreeSet<String>,
    sets: BTreeSet<String>,
}

fn refers(rule: &Rule<'_>) -> Refers {
    let mut out = Refers::default();
    for statement in rule.expr.iter() {
        match statement {
            Statement::Jump(to) | Statement::Goto(to) => drop(out.chains.insert(to.target.to_string())),
            Statement::Match(m) => {
                if let Expression::String(word) = &m.right
                    && let Some(set) = word.strip_prefix('@')
                {
                    out.sets.insert(set.to_owned());
                }
            }
            Statement::Set(set) => drop(out.sets.insert(set.set.trim_start_matches('@').to_owned())),
            Statement::VerdictMap(map) => {
                let Expression::Named(NamedExpression::Set(items)) = &map.data else { continue };
                out.chains.extend(items.iter().filter_map(|item| match item {
                    SetItem::Mapping(_, Expression::Verdict(Verdict::Jump(to) | Verdict::Goto(to))) => {
                        Some(to.target.to_string())
                    }
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    out
}
