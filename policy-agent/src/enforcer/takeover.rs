//! The state of an earlier agent, in the kernel or on disk, until the sources have listed everything.
//!
//! An existing table becomes ours as it is, so that no other program can remove it while the sources have not answered. When it is gone, the
//! last ruleset is put back from disk, and the sandboxes that it does not know are closed. Without a ruleset, all sandboxes are.

use std::fmt;
use std::time::{Duration, SystemTime};

use policy_core::compile::Compiler;
use policy_core::model::{Change, Quarantine};
use policy_ruleset::netlink::Messages;
use policy_ruleset::{Op, Ruleset, Transaction, render};

use super::apply::{Failure, Step};
use super::{ApplyError, Enforcer};
use crate::enforcer::ruleset_file::{Saved, Saver};
use crate::kernel::applier::Target;

/// What the kernel answers to flags that a table cannot get any more.
const UNPROTECTED: i32 = nix::errno::Errno::EOPNOTSUPP as i32;
/// The prefix of base chains that are beside those of a saved ruleset.
const BESIDE: &str = "unknown-";

/// What is in force before the sources have listed everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Held {
    /// The table that was there.
    Kept {
        /// Whether other programs cannot change it.
        is_protected: bool,
    },
    /// There was no table, and what was saved is in force.
    Restored {
        /// How long ago it was saved.
        age: Duration,
        /// Sandboxes that it did not know, and that are closed.
        closed: usize,
    },
    /// There was no table, and nothing that could be restored: sandboxes are closed.
    Closed {
        /// How many.
        closed: usize,
        /// Why nothing could be restored.
        why: String,
    },
    /// There was no table, nothing that could be restored, and no record of a sandbox.
    Nothing {
        /// Why nothing could be restored.
        why: String,
    },
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept { is_protected: true } => write!(f, "the rules of an earlier run"),
            Self::Kept { is_protected: false } => write!(f, "the rules of an earlier run, which other programs can change"),
            Self::Restored { age, closed } => {
                write!(f, "the table was lost; restored the rules that were saved {} s ago", age.as_secs())?;
                if *closed > 0 { write!(f, ", {closed} later sandboxes are in quarantine") } else { Ok(()) }
            }
            Self::Closed { closed, why } => {
                write!(f, "the table was lost and cannot be restored ({why}); {closed} sandboxes are in quarantine")
            }
            Self::Nothing { why } => write!(f, "nothing: there is no table, and it cannot be restored ({why})"),
        }
    }
}

/// What is put in force when the table is gone.
struct Remedy {
    contents: Option<(Messages, Duration)>,
    /// Rules for the sandboxes that the contents do not know.
    closing: Option<Transaction>,
    closed: usize,
    why: String,
}

impl Remedy {
    fn held(&self) -> Held {
        let (closed, why) = (self.closed, self.why.clone());
        match &self.contents {
            Some((_, age)) => Held::Restored { age: *age, closed },
            None if closed > 0 => Held::Closed { closed, why },
            None => Held::Nothing { why },
        }
    }
}

impl Enforcer {
    /// Whether an earlier agent's rules are in force, as it left or saved them. They are worth more than rules made from a part of
    /// what there is.
    #[must_use]
    pub fn holds_earlier(&self) -> bool {
        self.holds_earlier
    }

    /// Keeps in force what an earlier agent left, or puts it back, before anything is known from the sources. `sandboxes` are those
    /// that there are records of. Nothing else about the table is changed.
    ///
    /// To be called at the start, and until the first flush whenever [`Enforcer::touched`] reports that there is work.
    ///
    /// # Errors
    /// When the kernel refuses, or does not answer. Then it is to be tried again.
    pub fn hold(&mut self, sandboxes: &[Quarantine]) -> Result<Held, ApplyError> {
        let mut remedy = None;
        let held = self.retry(|enforcer| enforcer.hold_once(sandboxes, &mut remedy))?;
        self.is_disturbed = false;
        self.holds_earlier = matches!(held, Held::Kept { .. } | Held::Restored { .. });
        // What the table says is not the ruleset of this agent.
        self.generation = None;
        Ok(held)
    }

    fn hold_once(&mut self, sandboxes: &[Quarantine], remedy: &mut Option<Remedy>) -> Result<Held, Failure> {
        let generation = self.kernel.generation()?;
        let is_present = self.kernel.is_present()?;
        let has_guard = self.kernel.is_guard_present()?;
        self.has_guard |= has_guard;
        // Chains without rules, as `nft flush table` leaves them, filter nothing.
        if is_present && !self.is_disturbed && self.kernel.has_rules()? {
            return self.keep(generation);
        }
        let remedy = remedy.get_or_insert_with(|| self.remedy(sandboxes));
        if remedy.contents.is_none() && remedy.closing.is_none() {
            // Better what somebody changed than nothing.
            return if is_present { self.keep(generation) } else { Ok(remedy.held()) };
        }
        if !is_present {
            self.put(Target::Table, false, remedy, generation)?;
        } else {
            // Somebody changed the table, and it may be everything that filters: it is never without one or the other.
            self.has_guard = true;
            let generation = self.put(Target::Guard, has_guard, remedy, generation)?;
            self.put(Target::Table, true, remedy, generation)?;
        }
        self.drop_guard()?;
        Ok(remedy.held())
    }

    /// Takes the table as it is.
    fn keep(&mut self, generation: u32) -> Result<Held, Failure> {
        if self.applier.is_protecting() && !self.is_owned {
            match self.apply_step(&Step::Table(&Transaction { ops: vec![Op::KeepTable] }), generation) {
                Ok(_) => {}
                // It was made without protection. The first ruleset of this agent changes that.
                Err(Failure::Refused(ApplyError::Refused { source, .. })) if source.raw_os_error() == Some(UNPROTECTED) => {
                    tracing::warn!(%source, "cannot protect the table of an earlier run from other programs yet");
                }
                Err(other) => return Err(other),
            }
        }
        Ok(Held::Kept { is_protected: self.is_owned })
    }

    /// Fills a table. What closes sandboxes comes first, and what was saved joins it.
    fn put(&mut self, to: Target, mut is_present: bool, remedy: &Remedy, mut generation: u32) -> Result<u32, Failure> {
        let mut steps = Vec::new();
        let closing = remedy.closing.as_ref().map(|closing| with_table(closing, is_present));
        if let Some(closing) = &closing {
            self.has_closing = true;
            steps.push(if to == Target::Table { Step::Table(closing) } else { Step::Guard(closing) });
            is_present = false;
        }
        if let Some((contents, _)) = &remedy.contents {
            steps.push(Step::Fill(to, is_present, contents));
        }
        for step in &steps {
            generation = self.apply_step(step, generation)?;
        }
        Ok(generation)
    }

    /// What there is to be put in force.
    fn remedy(&self, sandboxes: &[Quarantine]) -> Remedy {
        let (saved, why) = match self.saver.as_ref().map(Saver::store).map(|store| store.read(SystemTime::now())) {
            Some(Ok(Some(saved))) => (Some(saved), String::new()),
            Some(Ok(None)) => (None, "no ruleset was saved".to_owned()),
            None => (None, "rulesets are not saved".to_owned()),
            Some(Err(error)) => {
                tracing::error!(%error, "cannot use the saved ruleset");
                (None, error.to_string())
            }
        };
        let is_known = |sandbox: &Quarantine| saved.as_ref().is_some_and(|saved: &Saved| saved.known.contains(sandbox));
        let unknown: Vec<&Quarantine> = sandboxes.iter().filter(|sandbox| !is_known(sandbox)).collect();
        let closed = unknown.len();
        let closing = (closed > 0).then(|| self.closing(unknown));
        Remedy { contents: saved.map(|saved| (saved.contents, saved.age)), closing, closed, why }
    }

    /// The rules that close sandboxes, in base chains of their own, so that they can be in one table with other rules.
    fn closing(&self, sandboxes: Vec<&Quarantine>) -> Transaction {
        let mut compiler = Compiler::new(self.compile_options.clone());
        sandboxes.into_iter().for_each(|sandbox| compiler.apply(Change::Quarantine(sandbox.clone())));
        compiler.flush();
        let ruleset = beside(render(&compiler.graph().node_plan(), &self.options));
        Transaction::restart(&ruleset, compiler.graph(), false)
    }
}

/// The same rules, with other names for the chains that packets enter.
fn beside(ruleset: Ruleset) -> Ruleset {
    let rename = |(name, chain): (String, policy_ruleset::Chain)| match chain.hook {
        Some(_) => (format!("{BESIDE}{name}"), chain),
        None => (name, chain),
    };
    Ruleset { chains: ruleset.chains.into_iter().map(rename).collect(), ..ruleset }
}

/// A transaction that makes everything from nothing, for a table that is there and goes first.
fn with_table(transaction: &Transaction, is_present: bool) -> Transaction {
    let mut ops = if is_present { vec![Op::DeleteTable] } else { Vec::new() };
    ops.extend(transaction.ops.iter().cloned());
    Transaction { ops }
}
