//! The way of a transaction into the kernel: in parts, bound to a generation, in place or behind the guard.

use std::io::ErrorKind;
use std::time::Instant;

use policy_ruleset::Transaction;
use policy_ruleset::netlink::Messages;

use super::autosave::SAVE_SOON;
use super::{Done, Enforcer, Kind};
use crate::kernel::applier::{ApplyError, Target};
use crate::kernel::monitor::Between;

/// The weight of a transaction that is put in force in parts. The kernel takes no other transaction of anybody meanwhile.
const BIG: usize = 10_000;
/// The weight of a part: a few milliseconds.
const PART: usize = 5_000;
/// How often a transaction is tried again because others change other tables meanwhile.
const TRIES: usize = 20;

impl Enforcer {
    /// Writes the whole table, whatever is in it.
    pub(super) fn replace(&mut self, kind: Kind, start: Instant) -> Result<Done, ApplyError> {
        self.generation = None;
        self.next_kind = kind;
        let (transaction, compile) = self.retry(|enforcer| {
            let compile = start.elapsed();
            Ok((enforcer.rewrite()?, compile))
        })?;
        self.replaced = self.generation;
        (self.holds_earlier, self.has_closing) = (false, false);
        self.must_save(SAVE_SOON);
        Ok(self.done(kind, &transaction, compile, start))
    }

    /// Repeats an attempt while others change other tables meanwhile.
    pub(super) fn retry<T>(&mut self, mut attempt: impl FnMut(&mut Self) -> Result<T, Failure>) -> Result<T, ApplyError> {
        for _ in 0..TRIES {
            match attempt(self) {
                Ok(done) => return Ok(done),
                Err(Failure::Touched) => {}
                // Others changed their tables all the time while ours was listed.
                Err(Failure::Refused(ApplyError::Unknown(error))) if error.kind() == ErrorKind::Interrupted => {}
                Err(Failure::Refused(error)) => {
                    self.generation = None;
                    return Err(error);
                }
            }
        }
        self.generation = None;
        Err(ApplyError::Contended)
    }

    /// Writes the whole table once. What is right does not depend on what was there.
    fn rewrite(&mut self) -> Result<Transaction, Failure> {
        let generation = self.kernel.generation()?;
        let is_present = self.kernel.is_present()?;
        let has_guard = self.kernel.is_guard_present()?;
        self.has_guard |= has_guard;
        if !is_present {
            let transaction = Transaction::restart(&self.ruleset, self.compiler.graph(), false);
            self.apply_in_parts(&transaction, generation)?;
            self.drop_guard()?;
            return Ok(transaction);
        }
        // Others can put into our table what we never list; it goes with the table. And a chain that packets enter cannot go in place
        // when what takes over its work is in another one: a packet could have passed that one already.
        let is_plain = !self.has_closing && (self.is_owned || !self.kernel.has_strangers().unwrap_or(false));
        if is_plain {
            let chains = self.kernel.chains()?.into_iter().collect();
            let sets = self.kernel.sets()?.into_iter().collect();
            let transaction = Transaction::rebuild(&self.ruleset, self.compiler.graph(), &chains, &sets);
            match self.apply_in_parts(&transaction, generation) {
                Ok(()) => {
                    self.drop_guard()?;
                    return Ok(transaction);
                }
                // Without an answer, it is tried again as it is; and what belongs to another program is left alone.
                Err(Failure::Refused(error)) if !matches!(error, ApplyError::Unknown(_)) && !is_foreign(&error) => {
                    tracing::info!(%error, "cannot change the table in place; replacing it behind a guard table");
                }
                Err(other) => return Err(other),
            }
        }
        // Parts of the attempt in place may be in the kernel; what is right does not depend on them.
        let generation = self.kernel.generation()?;
        let result = self.remake(generation, has_guard);
        if result.is_err() {
            // The table is as it was, and filters alone again. If this fails too, the next try removes the guard.
            let _ = self.drop_guard();
            self.generation = None;
        }
        result
    }

    /// Makes the table anew while a guard with the same rules filters: each packet meets one of the two at least.
    fn remake(&mut self, generation: u32, has_guard: bool) -> Result<Transaction, Failure> {
        let guard = Transaction::restart(&self.ruleset, self.compiler.graph(), has_guard);
        self.has_guard = true;
        let generation = self.apply_step(&Step::Guard(&guard), generation)?;
        let table = Transaction::restart(&self.ruleset, self.compiler.graph(), true);
        self.apply_step(&Step::Table(&table), generation)?;
        self.drop_guard()?;
        Ok(table)
    }

    /// Removes the guard, when packets that have met an unfinished table have met the guard too.
    pub(super) fn drop_guard(&mut self) -> Result<(), Failure> {
        if self.has_guard {
            self.kernel.let_packets_leave();
            let generation = match self.generation {
                Some(generation) => generation,
                None => self.kernel.generation()?,
            };
            if self.kernel.is_guard_present()? {
                self.apply_step(&Step::Guard(&Transaction::remove()), generation)?;
            }
            self.has_guard = false;
        }
        Ok(())
    }

    /// Applies a transaction. A big one goes in parts, so that others' transactions wait for milliseconds: what makes things that
    /// nothing refers to yet, then the switch, then what removes the things of before.
    pub(super) fn apply_in_parts(&mut self, transaction: &Transaction, generation: u32) -> Result<(), Failure> {
        if transaction.weight() < BIG {
            return self.apply(transaction, generation);
        }
        let mut generation = generation;
        for part in transaction.clone().into_parts(PART) {
            self.apply(&part, generation)?;
            // Until the last part is through, what is in the kernel is not what `ruleset` says.
            generation = self.generation.take().unwrap_or(generation);
        }
        self.generation = Some(generation);
        Ok(())
    }

    /// Applies a transaction to the table of `generation`.
    pub(super) fn apply(&mut self, transaction: &Transaction, generation: u32) -> Result<(), Failure> {
        self.apply_step(&Step::Table(transaction), generation).map(drop)
    }

    /// Takes a step from the ruleset of `generation`, and returns the generation that it made. Others may change other tables
    /// meanwhile.
    pub(super) fn apply_step(&mut self, step: &Step<'_>, generation: u32) -> Result<u32, Failure> {
        let mut current = generation;
        for tried in 1..=TRIES {
            // What nobody else can change needs no proof that it was not changed, if others are faster than we are.
            let bound = (tried < TRIES || !self.is_owned).then_some(current);
            let result = match step {
                Step::Table(transaction) => self.applier.apply(transaction, bound),
                Step::Guard(transaction) => self.applier.apply_to_guard(transaction, bound),
                Step::Fill(to, is_present, contents) => self.applier.fill(*to, *is_present, contents, bound),
            };
            match result {
                Ok(()) if bound.is_none() => {
                    let now = self.kernel.generation()?;
                    self.generation = Some(now);
                    return Ok(now);
                }
                Ok(()) => return self.applied(current, step.target()),
                Err(ApplyError::GenerationMoved(_)) => {
                    let now = self.kernel.generation()?;
                    let is_untouched = self.is_owned || self.kernel.between(current, now) == Between::Touched(Vec::new());
                    if !is_untouched {
                        return Err(Failure::Touched);
                    }
                    current = now;
                }
                Err(error) => {
                    self.generation = None;
                    return Err(Failure::Refused(error));
                }
            }
        }
        Err(Failure::Touched)
    }

    /// Finds out which generation ours is.
    fn applied(&mut self, before: u32, target: Target) -> Result<u32, Failure> {
        let after = before.wrapping_add(1).max(1);
        let own = if self.applier.is_bound_to_generation() {
            after
        } else {
            let now = self.kernel.generation()?;
            match self.kernel.between(before, now) {
                Between::Touched(by) => match by.as_slice() {
                    [one] => *one,
                    _ => return Err(Failure::Touched),
                },
                Between::Unknown => return Err(Failure::Touched),
            }
        };
        self.own.push_back(own);
        if self.own.len() > 1024 {
            self.own.pop_front();
        }
        self.is_owned |= target == Target::Table && self.applier.is_protecting();
        self.generation = Some(own);
        Ok(own)
    }
}

/// Whether a table has another owner.
fn is_foreign(error: &ApplyError) -> bool {
    matches!(error, ApplyError::Refused { source, .. } if source.raw_os_error() == Some(nix::errno::Errno::EPERM as i32))
}

/// One change of the kernel's ruleset.
pub(super) enum Step<'a> {
    /// A transaction for the table.
    Table(&'a Transaction),
    /// A transaction for the guard.
    Guard(&'a Transaction),
    /// Messages for a table; whether the table is there, and to be made anew.
    Fill(Target, bool, &'a Messages),
}

impl Step<'_> {
    fn target(&self) -> Target {
        match self {
            Self::Table(_) => Target::Table,
            Self::Guard(_) => Target::Guard,
            Self::Fill(target, ..) => *target,
        }
    }
}

/// Why a transaction is not in force.
pub(super) enum Failure {
    /// Somebody else changed the table.
    Touched,
    /// The kernel refused it.
    Refused(ApplyError),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Refused(ApplyError::Unknown(error))
    }
}
