//! Keeps the table in the kernel true to the graph.
//!
//! One thread owns it: the compiler, what was put in force, and the way into the kernel. Whatever is doubtful ends in the same
//! step, which is always right: the whole table is replaced in one transaction.

mod cut;

use std::time::{Duration, Instant};

use policy_core::compile::{self, Compiler, GraphDelta};
use policy_core::graph::AllowGraph;
use policy_core::model::Change;
use policy_ruleset::{Options, Ruleset, Transaction, render};

use crate::connections::{Order, Scope};
use crate::kernel::Kernel;
use crate::kernel::doors::{ApplyError, Door};
use crate::kernel::monitor::Between;

/// Elements of new sets that are worth a transaction of their own.
const BIG_FILL: usize = 10_000;
/// How often a transaction is tried again because others change other tables meanwhile.
const TRIES: usize = 20;

/// Why the table is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// The difference to what was in force.
    Update,
    /// Everything, because nothing was in force yet.
    Start,
    /// Everything, because somebody else changed the table.
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
    options: Options,
    door: Box<dyn Door>,
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
    /// Why the table will be replaced, when it is next.
    next_kind: Kind,
    /// To whom the addresses on this node belong.
    claims: cut::Claims,
}

impl Enforcer {
    /// An enforcer that has put nothing in force.
    #[must_use]
    pub fn new(compiler: compile::Options, options: Options, door: Box<dyn Door>, kernel: Box<dyn Kernel>) -> Self {
        Self {
            compiler: Compiler::new(compiler),
            options,
            door,
            kernel,
            ruleset: Ruleset::default(),
            generation: None,
            own: std::collections::VecDeque::new(),
            replaced: None,
            local_addresses: 0,
            next_kind: Kind::Start,
            claims: cut::Claims::default(),
        }
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

    /// The generation of our last transaction, while nobody has changed the table since.
    #[must_use]
    pub fn generation(&self) -> Option<u32> {
        self.generation
    }

    /// How many addresses the pods of this node have.
    #[must_use]
    pub fn local_addresses(&self) -> usize {
        self.local_addresses
    }

    /// What the kernel tells about itself.
    pub fn kernel(&mut self) -> &mut dyn Kernel {
        self.kernel.as_mut()
    }

    /// Takes changes; they are in force after [`Enforcer::flush`].
    pub fn take(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.compiler.apply(change);
        }
    }

    /// Says that the table may be different from what was put there. The next flush replaces it.
    pub fn doubt(&mut self) {
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

    /// Puts in force what was taken; `None` when there is nothing to do.
    ///
    /// # Errors
    /// When the kernel refuses even a table from scratch. What was in force before still is, and the next flush tries again.
    pub fn flush(&mut self) -> Result<Option<Done>, ApplyError> {
        let start = Instant::now();
        let delta = self.compiler.flush();
        let before = delta.is_structural.then(|| std::mem::take(&mut self.claims));
        let next = delta.is_structural.then(|| self.render());
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
                Ok(Some(Done { delta, lost: Scope::Addresses(lost), ..self.done(Kind::Update, &transaction, compile, start) }))
            }
            Err(Failure::Touched) => self.replace(Kind::Repair, start).map(Some),
            Err(Failure::Refused(error)) => {
                tracing::warn!(%error, "an update was refused; the whole table is replaced");
                self.replace(Kind::Recovery, start).map(Some)
            }
        }
    }

    fn render(&mut self) -> Ruleset {
        let plan = self.compiler.graph().node_plan();
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

    /// Replaces the table, whatever is in it.
    fn replace(&mut self, kind: Kind, start: Instant) -> Result<Done, ApplyError> {
        self.generation = None;
        self.next_kind = kind;
        let mut can_be_kept = true;
        // A table from scratch is right whatever happened since.
        for _ in 0..TRIES {
            let generation = self.kernel.generation().map_err(ApplyError::Unknown)?;
            let is_present = self.kernel.is_present().map_err(ApplyError::Unknown)?;
            let is_kept = can_be_kept && is_present;
            let transaction = if is_kept {
                let chains = self.kernel.chains().map_err(ApplyError::Unknown)?.into_iter().collect();
                let sets = self.kernel.sets().map_err(ApplyError::Unknown)?.into_iter().collect();
                Transaction::rebuild(&self.ruleset, self.compiler.graph(), &chains, &sets)
            } else {
                Transaction::restart(&self.ruleset, self.compiler.graph(), is_present)
            };
            let compile = start.elapsed();
            match self.apply_in_parts(&transaction, generation) {
                Ok(()) => {
                    self.replaced = self.generation;
                    return Ok(self.done(kind, &transaction, compile, start));
                }
                Err(Failure::Touched) => {}
                // It may hold what cannot become ours: then it goes as a whole. Without an answer, it is tried again as it is.
                Err(Failure::Refused(error)) if is_kept && !matches!(error, ApplyError::Unknown(_)) => {
                    tracing::warn!(error = error.to_string(), "the table cannot be mended as it is; it is made anew");
                    can_be_kept = false;
                }
                Err(Failure::Refused(error)) => return Err(error),
            }
        }
        self.generation = None;
        Err(ApplyError::Contended)
    }

    /// Applies a transaction; big fills of sets that nothing refers to yet go first, so that the switch itself is short.
    fn apply_in_parts(&mut self, transaction: &Transaction, generation: u32) -> Result<(), Failure> {
        if transaction.elements() < BIG_FILL {
            return self.apply(transaction, generation);
        }
        let (fills, switch) = transaction.clone().split_fills(BIG_FILL);
        let generation = match fills {
            None => generation,
            Some(fills) => {
                self.apply(&fills, generation)?;
                // Until the switch is through, what is in force is not what `ruleset` says.
                self.generation.take().unwrap_or(generation)
            }
        };
        self.apply(&switch, generation)
    }

    /// Applies a transaction to the table of `generation`. Others may change other tables meanwhile.
    fn apply(&mut self, transaction: &Transaction, generation: u32) -> Result<(), Failure> {
        let mut current = generation;
        for _ in 0..TRIES {
            match self.door.apply(transaction, Some(current)) {
                Ok(()) => return self.applied(current),
                Err(ApplyError::GenerationMoved(_)) => {
                    let now = self.kernel.generation().map_err(|e| Failure::Refused(ApplyError::Unknown(e)))?;
                    match self.kernel.between(current, now) {
                        Between::Touched(by) if by.is_empty() => current = now,
                        _ => return Err(Failure::Touched),
                    }
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
    fn applied(&mut self, before: u32) -> Result<(), Failure> {
        let after = before.wrapping_add(1).max(1);
        let own = if self.door.is_bound_to_generation() {
            after
        } else {
            let now = self.kernel.generation().map_err(|e| Failure::Refused(ApplyError::Unknown(e)))?;
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
        self.generation = Some(own);
        Ok(())
    }
}

/// Why a transaction is not in force.
enum Failure {
    /// Somebody else changed the table.
    Touched,
    /// The kernel refused it.
    Refused(ApplyError),
}
