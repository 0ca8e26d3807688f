//! A kernel for tests, with nf_tables' own rules about references.
//!
//! It takes transactions as a [`Applier`] and tells about itself as a [`Kernel`], so that the enforcer cannot tell it from the
//! real one. It can be told to refuse, to lose its answer, to interrupt listings, to drop announcements with and without a word, and
//! to let somebody else change things meanwhile. Appliers belong to sockets: a table with an owner is nobody else's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use policy_ruleset::netlink::Messages;
use policy_ruleset::rule::Statement;
use policy_ruleset::{Element, Hook, Op, Rule, Transaction, terminated};

use super::Kernel;
use super::applier::{Applier, ApplyError, Target};
use super::monitor::Between;
use super::monitor::announcements::Announcements;

/// What is in the fake's table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    /// Elements of sets, by name.
    pub sets: BTreeMap<String, BTreeSet<Element>>,
    /// Rules of chains, by name.
    pub chains: BTreeMap<String, (Option<Hook>, Vec<Rule>)>,
    /// How many things there are that netpol does not make.
    pub strangers: usize,
}

/// The owner of a table, according to its flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Owner {
    /// It was made without protection, and cannot be protected any more.
    #[default]
    Anybody,
    /// It was protected by an applier that is closed.
    Orphan,
    /// An applier.
    Applier(usize),
}

/// Something that goes wrong with the next transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Nothing does.
    Nothing,
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
    /// Somebody flushes the chains of our table just before, or changes another one if ours has an owner. The announcement is
    /// dropped, and the kernel says so (ENOBUFS).
    Overflow,
    /// The same, and the kernel does not say so.
    Gap,
}

#[derive(Default)]
struct State {
    table: Option<Table>,
    guard: Option<Table>,
    owners: (Owner, Owner),
    generation: u32,
    announcements: Announcements,
    /// What a monitor would have reported.
    reports: Vec<Option<u32>>,
    troubles: VecDeque<Trouble>,
    /// How many of the next listings are interrupted.
    interruptions: usize,
    /// What contents stand for.
    known: Vec<(Messages, Transaction)>,
    /// Whether there was a moment without a table after there had been one.
    was_open: bool,
    /// Transactions that took effect.
    applied: usize,
    appliers: usize,
}

/// The fake. Clones are the same kernel through the same applier.
#[derive(Clone, Default)]
pub struct FakeKernel {
    state: Arc<Mutex<State>>,
    is_unbound: bool,
    /// The number of an applier that protects its tables.
    applier: Option<usize>,
}

impl FakeKernel {
    /// A kernel without a table, through an applier that does not protect.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same kernel through an applier that cannot ask for a generation, as that of `nft`.
    #[must_use]
    pub fn unbound(&self) -> Self {
        Self { state: self.state.clone(), is_unbound: true, applier: None }
    }

    /// The same kernel through a new applier that makes its tables its own.
    #[must_use]
    pub fn protecting(&self) -> Self {
        let mut state = self.lock();
        state.appliers += 1;
        Self { state: self.state.clone(), is_unbound: false, applier: Some(state.appliers) }
    }

    /// Closes all appliers: their tables stay, without an owner.
    pub fn close(&self) {
        let mut state = self.lock();
        let orphaned = |owner| if owner == Owner::Anybody { owner } else { Owner::Orphan };
        state.owners = (orphaned(state.owners.0), orphaned(state.owners.1));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in the table; `None` when there is none.
    #[must_use]
    pub fn table(&self) -> Option<Table> {
        self.lock().table.clone()
    }

    /// What is in the guard; `None` when there is none.
    #[must_use]
    pub fn guard(&self) -> Option<Table> {
        self.lock().guard.clone()
    }

    /// Whether the table belongs to an applier.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        matches!(self.lock().owners.0, Owner::Applier(_))
    }

    /// Whether there was a moment without table and guard after there had been one of them.
    #[must_use]
    pub fn was_open(&self) -> bool {
        self.lock().was_open
    }

    /// What a monitor has reported since this was last asked.
    #[must_use]
    pub fn reports(&self) -> Vec<Option<u32>> {
        std::mem::take(&mut self.lock().reports)
    }

    /// Interrupts so many of the next listings.
    pub fn interrupt(&self, count: usize) {
        self.lock().interruptions = count;
    }

    /// Lets contents stand for the transaction that they were made from.
    pub fn learn(&self, contents: Messages, transaction: Transaction) {
        self.lock().known.push((contents, transaction));
    }

    /// Somebody changes another table.
    pub fn change_elsewhere(&self) {
        self.lock().announce(false);
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

    /// Another program changes the table, which must not have an owner.
    ///
    /// # Panics
    /// When an applier owns the table.
    pub fn meddle(&self, change: impl FnOnce(&mut Option<Table>)) {
        assert!(!self.is_owned(), "nf_tables refuses this to everybody but the owner");
        let mut state = self.lock();
        change(&mut state.table);
        state.announce(true);
    }

    /// As [`Applier::apply`], for a table.
    fn take(&mut self, target: Target, ops: &[Op], generation: Option<u32>) -> Result<(), ApplyError> {
        let mut state = self.lock();
        let lost = || ApplyError::Unknown(io::ErrorKind::TimedOut.into());
        let is_owned = matches!(state.owners.0, Owner::Applier(_));
        match state.troubles.pop_front() {
            Some(Trouble::Refuse) => {
                let source = Errno::ENOMEM.into();
                return Err(ApplyError::Refused { step: "do anything".to_owned(), source, is_table: false });
            }
            Some(Trouble::LoseAnswer) => {
                state.commit(target, ops, self.applier)?;
                return Err(lost());
            }
            Some(Trouble::LoseRequest) => return Err(lost()),
            Some(Trouble::OtherTable) => state.announce(false),
            Some(Trouble::OurTable) if !is_owned => {
                state.table = None;
                state.announce(true);
            }
            Some(Trouble::OurChains) if !is_owned => {
                state.flush_chains(is_owned);
                state.announce(true);
            }
            Some(Trouble::Overflow) => {
                state.flush_chains(is_owned);
                state.next_generation();
                state.listen(|announcements, report| {
                    announcements.overflow(report);
                    announcements.emptied(report);
                });
            }
            Some(Trouble::Gap) => {
                state.flush_chains(is_owned);
                state.next_generation();
            }
            Some(Trouble::Nothing | Trouble::OurTable | Trouble::OurChains) | None => {}
        }
        match generation {
            Some(wanted) if !self.is_unbound && wanted != state.generation => Err(ApplyError::GenerationMoved(wanted)),
            _ => state.commit(target, ops, self.applier),
        }
    }
}

impl State {
    fn next_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1).max(1);
    }

    /// Somebody flushes the chains of our table, unless it has an owner.
    fn flush_chains(&mut self, is_owned: bool) {
        let tables = self.table.iter_mut().filter(|_| !is_owned);
        tables.flat_map(|table| table.chains.values_mut()).for_each(|(_, rules)| rules.clear());
    }

    fn listen(&mut self, hear: impl FnOnce(&mut Announcements, &mut dyn FnMut(Option<u32>))) {
        let reports = &mut self.reports;
        hear(&mut self.announcements, &mut |report| reports.push(report));
    }

    /// Makes a generation, and announces it.
    fn announce(&mut self, is_ours: bool) {
        self.next_generation();
        let generation = self.generation;
        self.listen(|announcements, mut report| {
            if is_ours {
                announcements.touch();
            }
            announcements.generation(generation, &mut report);
        });
    }

    fn commit(&mut self, target: Target, ops: &[Op], applier: Option<usize>) -> Result<(), ApplyError> {
        let (place, owner) = match target {
            Target::Table => (&self.table, self.owners.0),
            Target::Guard => (&self.guard, self.owners.1),
        };
        let (mut table, mut owner) = (place.clone(), owner);
        for op in ops {
            own(&table, &mut owner, op, applier).and_then(|()| step(&mut table, op)).map_err(|error| ApplyError::Refused {
                step: format!("{op:?}"),
                source: error.into(),
                is_table: matches!(op, Op::AddTable | Op::KeepTable),
            })?;
        }
        let had_one = self.table.is_some() || self.guard.is_some();
        match target {
            Target::Table => (self.table, self.owners.0) = (table, owner),
            Target::Guard => (self.guard, self.owners.1) = (table, owner),
        }
        // While a table is deleted and made anew, packets pass, if nothing else filters.
        let is_anew = ops.contains(&Op::DeleteTable);
        let other = if target == Target::Table { &self.guard } else { &self.table };
        self.was_open |= had_one && is_anew && other.is_none();
        self.applied += 1;
        self.announce(true);
        Ok(())
    }
}

/// What the flags of a table allow an applier to do.
fn own(table: &Option<Table>, owner: &mut Owner, op: &Op, applier: Option<usize>) -> Result<(), Errno> {
    match (table.is_some(), *owner, applier) {
        (true, Owner::Applier(own), applier) if applier != Some(own) => return Err(Errno::EPERM),
        (true, Owner::Anybody, Some(_)) if matches!(op, Op::AddTable | Op::KeepTable) => return Err(Errno::EOPNOTSUPP),
        (false, _, applier) if *op == Op::AddTable => *owner = applier.map_or(Owner::Anybody, Owner::Applier),
        (true, Owner::Orphan, Some(applier)) if matches!(op, Op::AddTable | Op::KeepTable) => *owner = Owner::Applier(applier),
        _ => {}
    }
    Ok(())
}

impl Applier for FakeKernel {
    fn apply(&mut self, transaction: &Transaction, generation: Option<u32>) -> Result<(), ApplyError> {
        self.take(Target::Table, &transaction.ops, generation)
    }

    fn is_bound_to_generation(&self) -> bool {
        !self.is_unbound
    }

    fn is_protecting(&self) -> bool {
        self.applier.is_some()
    }

    fn apply_to_guard(&mut self, transaction: &Transaction, generation: Option<u32>) -> Result<(), ApplyError> {
        self.take(Target::Guard, &transaction.ops, generation)
    }

    fn fill(&mut self, to: Target, is_present: bool, contents: &Messages, generation: Option<u32>) -> Result<(), ApplyError> {
        let known = self.lock().known.iter().find(|(known, _)| known == contents).map(|(_, transaction)| transaction.clone());
        let Some(transaction) = known else { return Err(ApplyError::Unknown(io::ErrorKind::InvalidData.into())) };
        let delete = is_present.then_some(Op::DeleteTable);
        let ops: Vec<Op> = delete.into_iter().chain(transaction.ops).collect();
        self.take(to, &ops, generation)
    }
}

impl FakeKernel {
    /// The state, for a listing.
    fn listed(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        if state.interruptions > 0 {
            state.interruptions -= 1;
            return Err(Errno::EINTR.into());
        }
        Ok(state)
    }
}

impl Kernel for FakeKernel {
    fn generation(&mut self) -> io::Result<u32> {
        Ok(self.lock().generation)
    }

    fn is_present(&mut self) -> io::Result<bool> {
        Ok(self.listed()?.table.is_some())
    }

    fn is_guard_present(&mut self) -> io::Result<bool> {
        Ok(self.listed()?.guard.is_some())
    }

    fn has_rules(&mut self) -> io::Result<bool> {
        Ok(self.listed()?.table.iter().flat_map(Table::rules).next().is_some())
    }

    fn has_strangers(&mut self) -> io::Result<bool> {
        Ok(self.listed()?.table.as_ref().is_some_and(|table| table.strangers > 0))
    }

    fn chains(&mut self) -> io::Result<Vec<String>> {
        Ok(self.listed()?.table.iter().flat_map(|table| table.chains.keys().cloned()).collect())
    }

    fn sets(&mut self) -> io::Result<Vec<String>> {
        Ok(self.listed()?.table.iter().flat_map(|table| table.sets.keys().cloned()).collect())
    }

    fn between(&mut self, from: u32, to: u32) -> Between {
        // What was not announced does not come.
        self.lock().announcements.between(from, to).unwrap_or(Between::Unknown)
    }

    fn let_packets_leave(&mut self) {}
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
                if terminated::ends(element).is_some() {
                    if !set.contains(element) && set.len() >= terminated::SIZE as usize {
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
        Op::AddRule { chain, rule } => {
            let refers = refers(rule);
            let is_there = refers.chains.iter().all(|c| table.chains.contains_key(c))
                && refers.sets.iter().all(|s| table.sets.contains_key(s));
            let (_, rules) = table.chains.get_mut(chain).ok_or(Errno::ENOENT)?;
            if !is_there {
                return Err(Errno::ENOENT);
            }
            rules.push(rule.clone());
            if table.has_loop(chain, &mut BTreeSet::new()) {
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
    fn rules(&self) -> impl Iterator<Item = &Rule> {
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

fn refers(rule: &Rule) -> Refers {
    let mut out = Refers::default();
    for statement in &rule.statements {
        match statement {
            Statement::Jump(chain) | Statement::Goto(chain) => drop(out.chains.insert(chain.clone())),
            Statement::VerdictMap(map) => out.chains.extend(map.chains().cloned()),
            Statement::InSet { set, .. } | Statement::Update { set, .. } => drop(out.sets.insert(set.clone())),
            _ => {}
        }
    }
    out
}
