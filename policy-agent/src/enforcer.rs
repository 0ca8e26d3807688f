//! Keeps the table in the kernel true to the graph.
//!
//! One thread owns it: the compiler, what was put in force, and the way into the kernel. Whatever is doubtful ends in the same
//! step, which is always right: the whole table is written again, and no packet passes meanwhile.
//!
//! - `apply`: the way of a transaction into the kernel.
//! - `takeover`: the state of an earlier agent in the kernel or on disk, until the sources have listed everything.
//! - `terminated`: what the kernel remembers of connections that were cut.
//! - `ruleset_file`: the last ruleset on disk, for an agent that finds the table gone.
//! - `autosave`: when what is in force is kept on disk.

mod apply;
mod autosave;
pub mod ruleset_file;
mod takeover;
mod terminated;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use policy_core::compile::{self, Compiler, GraphDelta};
use policy_core::graph::AllowGraph;
use policy_core::model::{Change, Placement, Pod};
use policy_core::plan::InterfaceName;
use policy_ruleset::{Options, Ruleset, Transaction, render};

pub use self::takeover::Held;
use crate::connections::{Order, Scope};
use crate::enforcer::ruleset_file::Saver;
use crate::interfaces::{Interface, Interfaces};
use crate::kernel::Kernel;
use crate::kernel::applier::{Applier, ApplyError};
use apply::Failure;
use autosave::{SAVE_LATER, SAVE_SOON};

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

pub use terminated::Judged;

impl Done {
    /// What to look at; `None` for nothing.
    #[must_use]
    pub fn order(&self) -> Option<Order> {
        let has_gains = self.kind != Kind::Update || terminated::has_gains(&self.delta);
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
    /// Whether a Node or a pod has named the node.
    is_node_known: bool,
    /// Which interfaces lead to pods.
    interfaces: Interfaces,
    /// Whether that has changed since the last flush.
    has_new_interfaces: bool,
    /// Why the table will be replaced, when it is next.
    next_kind: Kind,
    /// To whom the addresses on this node belong.
    claims: terminated::Claims,
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
            is_node_known: false,
            interfaces: Interfaces::default(),
            has_new_interfaces: false,
            next_kind: Kind::Start,
            claims: terminated::Claims::default(),
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

    /// Whether an object has named the node: its Node, or a pod on it, whatever network the pod uses.
    #[must_use]
    pub fn is_node_known(&self) -> bool {
        self.is_node_known
    }

    /// Queries about the state of the kernel.
    pub fn kernel(&mut self) -> &mut dyn Kernel {
        self.kernel.as_mut()
    }

    /// Takes changes; they are in force after [`Enforcer::flush`].
    pub fn take(&mut self, changes: Vec<Change>) {
        for change in changes {
            let named = match &change {
                Change::Node(node) => Some(&node.name),
                Change::Pod(Pod { placement: Placement::Node(node), .. }) => Some(node),
                _ => None,
            };
            self.is_node_known |= named.is_some() && named == self.compile_options.node.as_ref();
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
        let lost = before.map_or_else(|| terminated::left(&delta).collect(), |before| self.claims.lost(&before, &delta));
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
        self.claims = terminated::Claims::of(&plan, self.compiler.graph());
        render(&plan, &self.options)
    }

    fn done(&self, kind: Kind, transaction: &Transaction, compile: Duration, start: Instant) -> Done {
        let (steps, elements) = (transaction.ops.len(), transaction.elements());
        let apply = start.elapsed().saturating_sub(compile);
        // Connections may be older than the agent, and than what somebody else did to the table.
        Done { kind, steps, elements, compile, apply, delta: GraphDelta::default(), lost: Scope::All }
    }
}
