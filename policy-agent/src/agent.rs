//! The agent's loop: the one thread that owns what is enforced.
//!
//! A round takes what has come, for a bounded time, puts it in force in one transaction, and then gives everything else a bounded
//! share: answers to the CNI plugin, tracked connections to judge, one question, and explanations of denied packets within a
//! budget. Whatever floods the agent, the next round comes, and with it the next change.
//!
//! - `takeover`: the rules of an earlier agent, until the source has listed everything.
//! - `queue`: what comes in, with a bound for each kind.
//! - `plugins`: requests of the CNI plugin, and those that wait for the kernel.
//! - `published`: what is shown without asking the loop: heartbeat, readiness, names of groups.
//! - `health`: status, readiness and gauges.

mod explanations;
mod health;
mod plugins;
mod published;
mod queue;
mod takeover;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime};

use policy_core::model::Quarantine;

use crate::admin::metrics::{Metrics, seconds};
use crate::chain::Unchained;
use crate::connections::Order;
use crate::denials::explain;
use crate::enforcer::{Done, Enforcer, Held, Kind};
use crate::kernel::applier::ApplierKind;
use crate::sandboxes::Sandboxes;
use crate::source::{HealthCheck, Problems, Source, SourceUpdate, SyncState};

use explanations::Explanations;
use plugins::Plugins;
pub use published::{Groups, NotReady, Published, Ready, SILENCE};
use queue::Batch;
pub use queue::{Asker, Event, Inbox, Mailbox, Question, Refused, queue};

/// After a failure, the table is tried again this often.
const RETRY: Duration = Duration::from_secs(1);
/// How often the table is looked at even though no change was announced.
const CHECK: Duration = Duration::from_secs(15);
/// How often gauges and readiness are brought up to date, and the heartbeat at least beats.
const REPORT: Duration = Duration::from_secs(1);
/// Errors that status shows.
const ERRORS_KEPT: usize = 10;
/// Events that a round takes at the most before it puts them in force.
const MOST_EVENTS: usize = 1024;
/// How long a round takes events at the most: or as long as the last transaction took, so that neither starves the other.
const DRAIN: Duration = Duration::from_millis(10);
/// Clients no longer wait for the answer to a query older than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time, as the loop sees it.
pub type Clock = Box<dyn Fn() -> Instant + Send>;

/// What an agent is made of. Its parts work in the network namespace of the thread that made them.
pub struct Parts {
    /// The owner of the table.
    pub enforcer: Enforcer,
    /// Where orders to look at connections go.
    pub orders: Sender<Order>,
    /// What is counted.
    pub metrics: Metrics,
    /// What others read without asking the loop.
    pub published: Arc<Published>,
    /// The node's name.
    pub node: String,
    /// How transactions are put in force.
    pub applier: ApplierKind,
    /// Addresses that were reported to an earlier agent.
    pub sandboxes: Sandboxes,
    /// The time.
    pub clock: Clock,
}

/// The agent.
pub struct Agent {
    enforcer: Enforcer,
    orders: Sender<Order>,
    metrics: Metrics,
    published: Arc<Published>,
    node: String,
    applier: ApplierKind,
    clock: Clock,
    source: String,
    pulse: HealthCheck,
    sandboxes: Sandboxes,
    plugins: Plugins,
    explanations: Explanations,
    inbox: Inbox,
    /// Sandboxes that were reported to an earlier agent; `None` before they are read.
    records: Option<Vec<Quarantine>>,
    /// What is in force until the source has listed everything.
    held: Option<Held>,
    /// Whether it must be looked whether that is still in force.
    must_hold: bool,
    /// When what is in force is saved next.
    save_at: Option<Instant>,
    /// Whether the source has listed everything once.
    has_all: bool,
    is_in_force: bool,
    news_taken: u64,
    news_in_force: u64,
    /// Whether something was taken that is not in force.
    is_behind: bool,
    problems: Problems,
    /// Why the CNI plugin is not in the node's chain.
    unchained: Option<Unchained>,
    errors: VecDeque<(SystemTime, String)>,
    last_flush: Duration,
    retry_at: Option<Instant>,
    check_at: Instant,
    report_at: Instant,
    started: SystemTime,
}

impl Agent {
    /// An agent that has put nothing in force.
    #[must_use]
    pub fn new(parts: Parts, inbox: Inbox) -> Self {
        let Parts { enforcer, orders, metrics, published, node, applier, sandboxes, clock } = parts;
        let now = clock();
        Self {
            enforcer,
            orders,
            metrics,
            published,
            node,
            applier,
            clock,
            source: String::new(),
            pulse: Box::new(Vec::new),
            sandboxes,
            plugins: Plugins::default(),
            explanations: Explanations::new(now),
            inbox,
            records: None,
            held: None,
            must_hold: false,
            save_at: None,
            has_all: false,
            is_in_force: false,
            news_taken: 0,
            news_in_force: 0,
            is_behind: false,
            problems: Problems::default(),
            unchained: None,
            errors: VecDeque::new(),
            last_flush: Duration::ZERO,
            retry_at: None,
            check_at: now + CHECK,
            report_at: now,
            started: SystemTime::now(),
        }
    }

    /// Runs until it is stopped. `mailbox` receives the updates of the source.
    ///
    /// # Errors
    /// When the thread for the source cannot be started, or the records of sandboxes cannot be read.
    pub fn run(mut self, source: Box<dyn Source>, mailbox: Mailbox) -> std::io::Result<()> {
        self.start(source.as_ref())?;
        std::thread::Builder::new()
            .name("source".to_owned())
            .spawn(move || source.run(&mut |news| mailbox.send(Event::SourceUpdate(news)).is_ok()))?;
        loop {
            self.inbox.wait(self.until_next());
            if !self.round() {
                tracing::info!("stopping; the rules stay in force");
                return Ok(());
            }
        }
    }

    /// Learns what there is to know of the source, and does what [`Agent::adopt`] does if that is not done yet.
    ///
    /// # Errors
    /// When the records of sandboxes cannot be read.
    pub fn start(&mut self, source: &dyn Source) -> std::io::Result<()> {
        self.source = source.describe();
        self.pulse = source.pulse();
        if self.records.is_none() { self.adopt() } else { Ok(()) }
    }

    /// Takes what has come, puts it in force, and gives everything else its share. False when it is to stop.
    ///
    /// Cost: bounded by what changed, and by the bounds above for everything else.
    pub fn round(&mut self) -> bool {
        let start = (self.clock)();
        self.published.beat(start);
        let mut must_flush = false;
        // What has come meanwhile goes into the same transaction; what comes while that is made, into the next.
        let budget = self.last_flush.max(DRAIN);
        for _ in 0..MOST_EVENTS {
            match self.inbox.take() {
                None => break,
                Some(Event::Stop) => return false,
                Some(event) => must_flush |= self.handle(event),
            }
            if (self.clock)().saturating_duration_since(start) >= budget {
                break;
            }
        }
        must_flush |= self.is_due(start);
        if must_flush && self.has_all {
            self.flush(start);
        } else if self.must_hold && self.retry_at.is_none() {
            self.hold();
        }
        if !self.is_behind && self.is_in_force && self.enforcer.generation().is_some() {
            self.news_in_force = self.news_taken;
        }
        self.answer_plugins();
        if let Some(batch) = self.inbox.batch() {
            self.serve(batch);
        }
        self.answer_question();
        self.explain_denials();
        let now = (self.clock)();
        if now >= self.report_at {
            self.report_at = now + REPORT;
            self.gauge();
        }
        if self.is_in_force && !self.is_behind {
            self.save_at = self.enforcer.save_due(now, || self.sandboxes.known());
        }
        self.published.beat(now);
        true
    }

    /// How long nothing but an event is to be waited for.
    #[must_use]
    pub fn until_next(&self) -> Duration {
        let explanation = self.explanations.next_at().filter(|_| self.is_in_force && !self.is_behind);
        let save = self.save_at.filter(|_| !self.is_behind);
        let times = [self.retry_at, self.plugins.next_deadline(), explanation, save, Some(self.check_at), Some(self.report_at)];
        let next = times.into_iter().flatten().min();
        next.map_or(REPORT, |at| at.saturating_duration_since((self.clock)()))
    }

    /// Whether the event makes a flush necessary.
    fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::SourceUpdate(news) => return self.take_news(news),
            Event::Touched(generation) => {
                if !self.enforcer.touched(generation) {
                    return false;
                }
                let what = generation.map_or("announcements of changes were lost".to_owned(), |g| format!("generation {g}"));
                tracing::warn!(change = what, "another program changed the table; replacing it");
                self.must_hold = !self.has_all;
                return true;
            }
            Event::Sandbox(task, asker) => return self.handle_sandbox(task, asker),
            Event::Looked { token, result } => self.plugins.looked(token, result),
            Event::Interfaces(seen) => {
                let must_flush = self.enforcer.see_interfaces(seen);
                self.is_behind |= must_flush;
                return must_flush;
            }
            Event::Chain(state) => {
                self.unchained = state.err();
                if let Some(trouble) = &self.unchained {
                    tracing::warn!(error = %trouble, "pods start without isolation");
                }
                self.metrics.cni_unchained.set(i64::from(self.unchained.is_some()));
            }
            // These are not taken here, because the graph is not consistent before the flush.
            Event::Denied(_) | Event::Ask(..) | Event::Judge(..) | Event::Release(..) | Event::Forget(..) | Event::Stop => {}
        }
        false
    }

    fn take_news(&mut self, news: SourceUpdate) -> bool {
        // Rules of an earlier run are worth more than a part of what should be; a part is worth more than none.
        self.has_all = self.has_all
            || match news.extent {
                SyncState::Listing => false,
                SyncState::Partial => !self.enforcer.holds_earlier(),
                SyncState::Synced => true,
            };
        self.news_taken += 1;
        self.problems.take(news.problems);
        self.metrics.source_problems.set(i64::try_from(self.problems.len()).unwrap_or(i64::MAX));
        let is_first = !self.is_in_force;
        let has_changes = !news.changes.is_empty();
        let changes = self.sandboxes.take(news.changes);
        self.enforcer.take(changes);
        self.is_behind |= has_changes || is_first;
        has_changes || is_first
    }

    /// What the clock asks for; whether that is a flush.
    fn is_due(&mut self, now: Instant) -> bool {
        if now >= self.check_at {
            self.check_at = now + CHECK;
            // Reading back only finds out that something is wrong; what is right comes from the graph alone.
            self.must_hold |= !self.has_all;
            if self.is_in_force && !self.is_as_left() {
                tracing::warn!("the table does not match the last transaction; replacing it");
                self.enforcer.invalidate();
                return true;
            }
        }
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            return true;
        }
        false
    }

    fn is_as_left(&mut self) -> bool {
        let expected: BTreeSet<String> = self.enforcer.ruleset().chains.keys().cloned().collect();
        match self.enforcer.kernel().chains() {
            Ok(chains) => chains.into_iter().collect::<BTreeSet<String>>() == expected,
            Err(error) => {
                self.complain(format!("cannot read the table: {error}"));
                true
            }
        }
    }

    fn complain(&mut self, error: String) {
        tracing::error!(error);
        self.errors.push_back((SystemTime::now(), error));
        while self.errors.len() > ERRORS_KEPT {
            self.errors.pop_front();
        }
    }

    fn flush(&mut self, start: Instant) {
        let begin = (self.clock)();
        match self.enforcer.flush() {
            Ok(None) => self.is_behind = false,
            Ok(Some(done)) => {
                self.is_behind = false;
                self.done(&done, start);
            }
            Err(error) => {
                self.metrics.transactions.with_label_values(&["replace", "refused"]).inc();
                self.complain(error.to_string());
                self.retry_at = Some((self.clock)() + RETRY);
            }
        }
        self.explanations.forget();
        self.last_flush = (self.clock)().saturating_duration_since(begin);
    }

    fn done(&mut self, done: &Done, start: Instant) {
        if !self.is_in_force {
            tracing::info!(steps = done.steps, elements = done.elements, "first ruleset in force");
            if let Some(warning) = self.unknown_node() {
                tracing::warn!("{warning}");
            }
            // Readiness is seen at once.
            self.report_at = start;
        }
        self.is_in_force = true;
        self.retry_at = None;
        self.metrics.transactions.with_label_values(&[done.kind.name(), "applied"]).inc();
        self.metrics.elements_changed.inc_by(done.elements as u64);
        self.metrics.compile.observe(seconds(done.compile));
        self.metrics.change_to_kernel.observe(seconds((self.clock)().saturating_duration_since(start)));
        if done.kind == Kind::Repair {
            self.metrics.drift_repairs.inc();
        }
        tracing::debug!(kind = done.kind.name(), steps = done.steps, elements = done.elements, apply = ?done.apply, "in force");
        if done.kind != Kind::Update || done.delta.is_structural {
            self.published.show_groups(self.enforcer.ruleset());
            self.explanations.see(self.enforcer.ruleset(), start);
        }
        if let Some(order) = done.order() {
            // The thread for connections lives as long as this one.
            let _ = self.orders.send(order);
        }
    }

    /// Does what the thread for connections asks. Without an answer, it asks again later.
    fn serve(&mut self, batch: Batch) {
        // The graph may be in the middle of a change, and the rules that keep connections cut may not be in force.
        if self.is_behind || self.enforcer.generation().is_none() {
            return;
        }
        // A thread that is gone needs no answer.
        let result = match batch {
            Batch::Judge(tuples, answer) => self.enforcer.judge_and_hold(&tuples).map(|judged| {
                self.metrics.connections_cut_coarsely.inc_by(judged.coarse as u64);
                self.metrics.connections_not_held.inc_by(judged.unheld as u64);
                let _ = answer.send(judged.judgements);
                judged.unheld
            }),
            Batch::Release(held, answer) => self.enforcer.release(&held).map(|left| {
                let _ = answer.send(left == 0);
                0
            }),
            Batch::Forget(held, answer) => self.enforcer.forget(&held).map(|_| {
                let _ = answer.send(());
                0
            }),
        };
        match result {
            Ok(0) => {}
            Ok(unheld) => self.complain(format!(
                "{unheld} terminated connections can resume while their ends keep sending: there is no space to block them"
            )),
            Err(error) => {
                self.complain(format!("cannot block terminated connections: {error}"));
                self.retry_at.get_or_insert((self.clock)() + RETRY);
            }
        }
    }

    /// Reports denied packets, while the budget for explanations lasts.
    fn explain_denials(&mut self) {
        let mut lost = self.inbox.lost_samples();
        while let Some(sample) = self.inbox.sample() {
            lost += u64::from(!self.explanations.add(sample, (self.clock)()));
        }
        self.metrics.deny_log_lost.inc_by(lost);
        // Before there is a ruleset, and after a refusal, the graph may be in the middle of a change.
        if !self.is_in_force || self.is_behind {
            return;
        }
        while let Some(denial) = self.explanations.next(self.enforcer.graph(), self.enforcer.ruleset(), &self.clock) {
            self.metrics.deny_log_lines.inc();
            denial.log();
        }
    }

    fn answer_question(&mut self) {
        let Some(asked) = self.inbox.question() else { return };
        // Whoever asked does not wait any longer than this.
        if asked.at.elapsed() >= PATIENCE {
            return;
        }
        match asked.question {
            Question::Status(answer) => {
                let _ = answer.send(self.status());
            }
            Question::Explain(name, answer) => {
                let _ = answer.send(explain::chain(self.enforcer.ruleset(), &name));
            }
        }
    }
}
