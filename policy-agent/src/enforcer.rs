//! Keeps the table in the kernel true to the graph.
//!
//! One thread owns it: the compiler, what was put in force, and the way into the kernel. Whatever is doubtful ends in the same
//! step, which is always right: the whole table is written again, and no packet passes meanwhile.
//!
//! - `earlier`: the state of an earlier agent in the kernel or on disk, until the sources have listed everything.
//! - `cut`: what the kernel remembers of connections that were cut.
//! - `saved`: the last ruleset on disk, for an agent that finds the table gone.
//! - `saving`: when what is in force is kept on disk.

mod cut;
mod earlier;
pub mod saved;
mod saving;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use policy_core::compile::{self, Compiler, GraphDelta};
use policy_core::graph::AllowGraph;
use policy_core::model::Change;
use policy_core::plan::InterfaceName;
use policy_ruleset::netlink::Messages;
use policy_ruleset::{Options, Ruleset, Transaction, render};

pub use self::earlier::Held;
use crate::connections::{Order, Scope};
use crate::enforcer::saved::Saver;
use crate::interfaces::{Interface, Interfaces};
use crate::kernel::Kernel;
use crate::kernel::applier::{Applier, ApplyError, Target};
use crate::kernel::monitor::Between;
use saving::{SAVE_LATER, SAVE_SOON};

/// The weight of a transaction that is put in force in parts. The kernel takes no other transaction of anybody meanwhile.
const BIG: usize = 10_000;
/// The weight of a part: a few milliseconds.
const PART: usize = 5_000;
/// How often a transaction is tried again because others change other tables meanwhile.
const TRIES: usize = 20;

/// Why the table is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// The difference to what was in force.
    Update,
    /// Everything, because nothing was in force yet.
    Start,
    /// Everything, because another program changed the table.
    Repair,
    /// Everything, because the kernel refused an update or did not answer.
    Recovery,
}

impl Kind {
    /// The word in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Start => "start",
            Self::Repair => "repair",
            Self::Recovery => "recovery",
        }
    }
}

/// What was put in force.
#[derive(Clone, Debug)]
pub struct Done {
    /// Why.
    pub kind: Kind,
    /// Steps of the transaction.
    pub steps: usize,
    /// Set elements added and deleted.
    pub elements: usize,
    /// How long compiling and rendering took.
    pub compile: Duration,
    /// How long it took to put in force.
    pub apply: Duration,
    /// What became different; for an update only.
    pub delta: GraphDelta,
    /// Whose connections may have lost access.
    pub lost: Scope,
}

pub use cut::Judged;

impl Done {
    /// What to look at; `None` for nothing.
    #[must_use]
    pub fn order(&self) -> Option<Order> {
        let has_gains = self.kind != Kind::Update || cut::has_gains(&self.delta);
        let order = Order { scope: self.lost.clone(), token: None, has_gains };
        (has_gains || !order.scope.is_empty()).then_some(order)
    }
}

/// The one owner of the table.
pub struct Enforcer {
    compiler: Compiler,
    compile_options: compile::Options,
    options: Options,
    applier: Box<dyn Applier>,
    kernel: Box<dyn Kernel>,
    /// What is in force, sets of pods without their elements.
    ruleset: Ruleset,
    /// The generation after our last transaction; `None` when it is not known that `ruleset` is in force.
    generation: Option<u32>,
    /// Our own recent generations.
    own: std::collections::VecDeque<u32>,
    /// The generation in which the table was last replaced.
    replaced: Option<u32>,
    /// Addresses of pods on this node.
    local_addresses: usize,
    /// Which interfaces lead to pods.
    interfaces: Interfaces,
    /// Whether that has changed since the last flush.
    has_new_interfaces: bool,
    /// Why the table will be replaced, when it is next.
    next_kind: Kind,
    /// To whom the addresses on this node belong.
    claims: cut::Claims,
    /// Whether the table is owned by our applier: then no other program can change it, whatever is announced.
    is_owned: bool,
    /// Whether the guard is in the kernel, or may be.
    has_guard: bool,
    /// Whether another program changed the table of an earlier agent.
    is_disturbed: bool,
    /// Whether an earlier agent's rules are in force, as it left or saved them.
    holds_earlier: bool,
    /// Whether chains that packets enter close sandboxes beside the rules of an earlier agent.
    has_closing: bool,
    saver: Option<Saver>,
    /// When what is in force is saved next.
    save_at: Option<Instant>,
    /// Not before this time.
    save_after: Option<Instant>,
}

impl Enforcer {
    /// An enforcer that has put nothing in force.
    #[must_use]
    pub fn new(compiler: compile::Options, options: Options, applier: Box<dyn Applier>, kernel: Box<dyn Kernel>) -> Self {
        Self {
            compiler: Compiler::new(compiler.clone()),
            compile_options: compiler,
            options,
            applier,
            kernel,
            ruleset: Ruleset::default(),
            generation: None,
            own: std::collections::VecDeque::new(),
            replaced: None,
            local_addresses: 0,
            interfaces: Interfaces::default(),
            has_new_interfaces: false,
            next_kind: Kind::Start,
            claims: cut::Claims::default(),
            is_owned: false,
            has_guard: false,
            is_disturbed: false,
            holds_earlier: false,
            has_closing: false,
            saver: None,
            save_at: None,
            save_after: None,
        }
    }

    /// The same, with what is in force kept on disk, and read from there.
    #[must_use]
    pub fn with_saver(mut self, saver: Saver) -> Self {
        self.saver = Some(saver);
        self
    }

    /// The graph after the last flush.
    #[must_use]
    pub fn graph(&self) -> &AllowGraph {
        self.compiler.graph()
    }

    /// What is in force, or what should be.
    #[must_use]
    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// The generation of our last transaction, if the table has not been changed since.
    #[must_use]
    pub fn generation(&self) -> Option<u32> {
        self.generation
    }

    /// How many addresses the pods of this node have.
    #[must_use]
    pub fn local_addresses(&self) -> usize {
        self.local_addresses
    }

    /// Queries about the state of the kernel.
    pub fn kernel(&mut self) -> &mut dyn Kernel {
        self.kernel.as_mut()
    }

    /// Takes changes; they are in force after [`Enforcer::flush`].
    pub fn take(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.compiler.apply(change);
        }
    }

    /// Takes what was read of the node's interfaces; whether a flush is needed.
    pub fn see_interfaces(&mut self, seen: Vec<Interface>) -> bool {
        self.has_new_interfaces |= self.interfaces.see(seen);
        self.has_new_interfaces
    }

    /// Takes the interfaces that the CNI plugin reported; in force after [`Enforcer::flush`].
    pub fn hear_of_interfaces(&mut self, told: BTreeMap<InterfaceName, BTreeSet<IpAddr>>) {
        self.has_new_interfaces |= self.interfaces.hear(told);
    }

    /// How many pods of this node have sources that cannot be checked (S2.20).
    #[must_use]
    pub fn unchecked_pods(&self) -> usize {
        self.interfaces.unchecked()
    }

    /// Says that the table may be different from what was put there. The next flush replaces it.
    pub fn invalidate(&mut self) {
        if self.generation.take().is_some() {
            self.next_kind = Kind::Repair;
        }
    }

    /// Whether nothing is to be done about a generation that touched the table: we made it, or we have replaced the table
    /// since.
    #[must_use]
    pub fn is_settled(&self, generation: u32) -> bool {
        // Generations are numbers that wrap around.
        let is_before = |other: u32| other.wrapping_sub(generation) < u32::MAX / 2;
        self.own.contains(&generation) || (self.generation.is_some() && self.replaced.is_some_and(is_before))
    }

    /// Takes note that a generation touched the table, or that announcements were lost (`None`). Whether something is to be done:
    /// if so, the next flush writes the table again.
    pub fn touched(&mut self, generation: Option<u32>) -> bool {
        // What nobody else can change is as it was left, whatever is announced or not.
        let is_settled = self.is_owned || generation.is_some_and(|generation| self.is_settled(generation));
        if !is_settled {
            self.is_disturbed = true;
            self.invalidate();
        }
        !is_settled
    }

    /// Puts in force what was taken; `None` when there is nothing to do.
    ///
    /// # Errors
    /// When the kernel refuses even a table from scratch. What was in force before still is, and the next flush tries again.
    pub fn flush(&mut self) -> Result<Option<Done>, ApplyError> {
        let start = Instant::now();
        let delta = self.compiler.flush();
        let must_render = std::mem::take(&mut self.has_new_interfaces) || delta.is_structural;
        let before = must_render.then(|| std::mem::take(&mut self.claims));
        let next = must_render.then(|| self.render());
        let lost = before.map_or_else(|| cut::left(&delta).collect(), |before| self.claims.lost(&before, &delta));
        let Some(generation) = self.generation else {
            // Without a ruleset in force there may be none rendered yet, either.
            self.ruleset = match next {
                Some(next) => next,
                None => self.render(),
            };
            return self.replace(self.next_kind, start).map(Some);
        };
        let graph = self.compiler.graph();
        let transaction = Transaction::update(&self.ruleset, next.as_ref().unwrap_or(&self.ruleset), &delta, graph);
        if let Some(next) = next {
            self.ruleset = next;
        }
        if transaction.is_empty() {
            return Ok(None);
        }
        let compile = start.elapsed();
        match self.apply_in_parts(&transaction, generation) {
            Ok(()) => {
                self.must_save(if delta.is_structural { SAVE_SOON } else { SAVE_LATER });
                Ok(Some(Done { delta, lost: Scope::Addresses(lost), ..self.done(Kind::Update, &transaction, compile, start) }))
            }
            Err(Failure::Touched) => self.replace(Kind::Repair, start).map(Some),
            Err(Failure::Refused(error)) => {
                tracing::warn!(%error, "update refused; replacing the whole table");
                self.replace(Kind::Recovery, start).map(Some)
            }
        }
    }

    fn render(&mut self) -> Ruleset {
        let mut plan = self.compiler.graph().node_plan();
        plan.interfaces = self.interfaces.of_pods(&plan);
        self.local_addresses = plan.addresses.len();
        self.claims = cut::Claims::of(&plan, self.compiler.graph());
        render(&plan, &self.options)
    }

    fn done(&self, kind: Kind, transaction: &Transaction, compile: Duration, start: Instant) -> Done {
        let (steps, elements) = (transaction.ops.len(), transaction.elements());
        let apply = start.elapsed().saturating_sub(compile);
        // Connections may be older than the agent, and than what somebody else did to the table.
        Done { kind, steps, elements, compile, apply, delta: GraphDelta::default(), lost: Scope::All }
    }

    /// Writes the whole table, whatever is in it.
    fn replace(&mut self, kind: Kind, start: Instant) -> Result<Done, ApplyError> {
        self.generation = None;
        self.next_kind = kind;
        for _ in 0..TRIES {
            let compile = start.elapsed();
            match self.rewrite() {
                Ok(transaction) => {
                    self.replaced = self.generation;
                    (self.holds_earlier, self.has_closing) = (false, false);
                    self.must_save(SAVE_SOON);
                    return Ok(self.done(kind, &transaction, compile, start));
                }
                Err(Failure::Touched) => {}
                // Others changed their tables all the time while ours was listed.
                Err(Failure::Refused(ApplyError::Unknown(error))) if error.kind() == std::io::ErrorKind::Interrupted => {}
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
    fn drop_guard(&mut self) -> Result<(), Failure> {
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
    fn apply_in_parts(&mut self, transaction: &Transaction, generation: u32) -> Result<(), Failure> {
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
    fn apply(&mut self, transaction: &Transaction, generation: u32) -> Result<(), Failure> {
        self.apply_step(&Step::Table(transaction), generation).map(drop)
    }

    /// Takes a step from the ruleset of `generation`, and returns the generation that it made. Others may change other tables
    /// meanwhile.
    fn apply_step(&mut self, step: &Step<'_>, generation: u32) -> Result<u32, Failure> {
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
enum Step<'a> {
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
enum Failure {
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
