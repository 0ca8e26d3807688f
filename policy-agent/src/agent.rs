//! The agent's loop: one thread that owns the enforcer, and a queue of what happens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use netpol_cni::protocol::{Answer, Task, code};
use policy_core::compile::GraphDelta;
use policy_core::verdict::Flow;

use crate::conntrack::{Conntrack, Scope};
use crate::denied::Sample;
use crate::enforcer::{Done, Enforcer, Kind};
use crate::explain;
use crate::metrics::{Metrics, seconds};
use crate::sandboxes::Sandboxes;
use crate::source::{Extent, Freshness, News, Pulse, Source};
use crate::status::{self, Status};

/// After a failure, the table is tried again this often.
const RETRY: Duration = Duration::from_secs(1);
/// Packets that were under way when the ruleset changed may enter connections a moment later; then they are looked at again.
const SECOND_LOOK: Duration = Duration::from_millis(400);
/// How often the table is looked at even though nobody announced a change.
const CHECK: Duration = Duration::from_secs(15);
/// How often the kernel's counters are read.
const COUNT: Duration = Duration::from_secs(5);
/// Errors that status shows.
const ERRORS_KEPT: usize = 10;

/// What happens to an agent.
pub enum Event {
    /// A source has news.
    News(News),
    /// A generation touched our table; `None` when announcements were lost.
    Touched(Option<u32>),
    /// A packet was denied.
    Denied(Sample),
    /// Somebody wants to know something.
    Ask(Question, Sender<String>),
    /// The CNI plugin has something to be done.
    Sandbox(Task, Sender<Answer>),
    /// The CNI plugin is in the node's chain, or why it is not.
    Chain(Option<String>),
    /// Stop. The table stays in force (S3.12).
    Stop,
}

/// What somebody may want to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// How the agent is, for people.
    Status,
    /// The same as JSON.
    StatusJson,
    /// What a chain or set of the table stands for.
    Explain(String),
    /// Metrics.
    Metrics,
    /// Whether a ruleset is in force: `ready`, or why not.
    Ready,
}

/// The agent.
pub struct Agent {
    enforcer: Enforcer,
    conntrack: Conntrack,
    metrics: Metrics,
    node: String,
    applier: &'static str,
    source: String,
    pulse: Pulse,
    sandboxes: Sandboxes,
    /// Plugins that wait until the kernel has what they told.
    waiting: Vec<Sender<Answer>>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    /// Whether the source has told everything once.
    has_all: bool,
    is_in_force: bool,
    news_taken: u64,
    news_in_force: u64,
    problems: Vec<String>,
    /// Why the CNI plugin is not in the node's chain.
    unchained: Option<String>,
    errors: VecDeque<(SystemTime, String)>,
    to_cut: Scope,
    cut_at: Option<Instant>,
    again: Option<(Instant, Scope)>,
    retry_at: Option<Instant>,
    check_at: Instant,
    count_at: Instant,
    counted: BTreeMap<String, u64>,
    started: SystemTime,
}

impl Agent {
    /// An agent that has put nothing in force. Its parts work in the network namespace of the calling thread.
    #[must_use]
    pub fn new(
        enforcer: Enforcer,
        conntrack: Conntrack,
        metrics: Metrics,
        (node, applier): (String, &'static str),
        (sender, events): (Sender<Event>, Receiver<Event>),
    ) -> Self {
        let now = Instant::now();
        Self {
            enforcer,
            conntrack,
            metrics,
            sandboxes: Sandboxes::new(node.clone(), None),
            waiting: Vec::new(),
            node,
            applier,
            source: String::new(),
            pulse: Box::new(Vec::new),
            events,
            sender,
            has_all: false,
            is_in_force: false,
            news_taken: 0,
            news_in_force: 0,
            problems: Vec::new(),
            unchained: None,
            errors: VecDeque::new(),
            to_cut: Scope::none(),
            cut_at: None,
            again: None,
            retry_at: None,
            check_at: now + CHECK,
            count_at: now,
            counted: BTreeMap::new(),
            started: SystemTime::now(),
        }
    }

    /// The same agent, with what an earlier one was told of sandboxes.
    #[must_use]
    pub fn with_sandboxes(mut self, sandboxes: Sandboxes) -> Self {
        self.sandboxes = sandboxes;
        self
    }

    /// The queue of an agent that is yet to be made.
    #[must_use]
    pub fn queue() -> (Sender<Event>, Receiver<Event>) {
        channel()
    }

    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// When the thread for the source cannot be started, or what was told of sandboxes cannot be read.
    pub fn run(mut self, source: Box<dyn Source>) -> std::io::Result<()> {
        self.source = source.describe();
        self.pulse = source.pulse();
        let held = self.sandboxes.load()?;
        self.enforcer.take(held);
        let sender = self.sender.clone();
        std::thread::Builder::new()
            .name("source".to_owned())
            .spawn(move || source.run(&mut |news| sender.send(Event::News(news)).is_ok()))?;
        loop {
            let event = match self.events.recv_timeout(self.until_next()) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let start = Instant::now();
            let mut must_flush = false;
            // What has come meanwhile goes into the same transaction.
            let mut next = event;
            while let Some(event) = next {
                if matches!(event, Event::Stop) {
                    tracing::info!("stopping; the rules stay in force");
                    return Ok(());
                }
                must_flush |= self.handle(event);
                next = self.events.try_recv().ok();
            }
            must_flush |= self.is_due(start);
            if must_flush && self.has_all {
                self.flush(start);
            }
            self.answer_plugins();
            self.cut_due();
        }
    }

    fn until_next(&self) -> Duration {
        let times =
            [self.cut_at, self.again.as_ref().map(|(at, _)| *at), self.retry_at, Some(self.check_at), Some(self.count_at)];
        let next = times.into_iter().flatten().min();
        next.map_or(CHECK, |at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether the event makes a flush necessary.
    fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::News(news) => {
                // Rules of an earlier run are worth more than a part of what should be; a part is worth more than none.
                self.has_all = self.has_all
                    || match news.extent {
                        Extent::Growing => false,
                        Extent::Readable => !self.enforcer.kernel().is_present().unwrap_or(true),
                        Extent::All => true,
                    };
                self.news_taken += 1;
                if let Some(problems) = news.problems {
                    self.take_problems(problems);
                }
                let is_first = !self.is_in_force;
                let has_changes = !news.changes.is_empty();
                let changes = self.sandboxes.take(news.changes);
                self.enforcer.take(changes);
                if !has_changes && !is_first && self.enforcer.generation().is_some() {
                    self.news_in_force = self.news_taken;
                }
                return has_changes || is_first;
            }
            Event::Touched(Some(generation)) if self.enforcer.is_settled(generation) => {}
            Event::Touched(generation) => {
                let what = generation.map_or("announcements of changes were lost".to_owned(), |g| format!("generation {g}"));
                tracing::warn!(what, "somebody else changed the table; it is replaced");
                self.enforcer.doubt();
                return true;
            }
            Event::Denied(sample) => self.log_denied(&sample),
            Event::Ask(question, answer) => {
                let text = self.answer(&question);
                // Whoever asked may have gone.
                let _ = answer.send(text);
            }
            Event::Sandbox(task, answer) => return self.handle_sandbox(task, answer),
            Event::Chain(trouble) => {
                if let Some(trouble) = &trouble {
                    tracing::warn!(trouble, "pods start without being isolated first");
                }
                self.metrics.cni_unchained.set(i64::from(trouble.is_some()));
                self.unchained = trouble;
            }
            Event::Stop => {}
        }
        false
    }

    /// Does what the plugin asks; whether that makes a flush necessary.
    fn handle_sandbox(&mut self, task: Task, answer: Sender<Answer>) -> bool {
        let is_ready = self.is_in_force && self.enforcer.generation().is_some();
        let (reply, changes) = match task {
            // Nothing is known yet, or nothing can be put in force: the runtime tries again.
            Task::Add(_) if !is_ready => (Some(Answer::refused(code::TRY_AGAIN, self.not_ready())), Vec::new()),
            Task::Add(sandbox) => match self.sandboxes.add(sandbox) {
                Ok(changes) => (None, changes),
                Err(error) => (Some(Answer::refused(code::TRY_AGAIN, format!("cannot keep a record: {error}"))), Vec::new()),
            },
            Task::Del(attachment) => (Some(Answer::done()), self.sandboxes.remove(&attachment)),
            Task::Gc(listed) => (Some(Answer::done()), self.sandboxes.keep(&listed)),
            Task::Check(attachment) if is_ready && self.sandboxes.contains(&attachment) => (Some(Answer::done()), Vec::new()),
            Task::Check(attachment) => {
                let what = format!("interface {} of {} has no rules", attachment.interface, attachment.container);
                (Some(Answer::refused(code::RULES_MISSING, what)), Vec::new())
            }
            Task::Status if is_ready => (Some(Answer::done()), Vec::new()),
            Task::Status => (Some(Answer::refused(code::NOT_AVAILABLE, self.not_ready())), Vec::new()),
        };
        match reply {
            // Whoever asked may have gone.
            Some(reply) => drop(answer.send(reply)),
            None => self.waiting.push(answer),
        }
        let must_flush = !changes.is_empty();
        self.enforcer.take(changes);
        must_flush
    }

    fn not_ready(&self) -> String {
        if self.has_all { "the rules of this node are not in force".to_owned() } else { self.untold() }
    }

    /// Answers plugins when the kernel has what they told, or could not take it.
    fn answer_plugins(&mut self) {
        let is_in_force = self.enforcer.generation().is_some();
        for answer in std::mem::take(&mut self.waiting) {
            let why = || self.errors.back().map_or("the kernel does not have the rules", |(_, error)| error.as_str());
            let reply = if is_in_force { Answer::done() } else { Answer::refused(code::TRY_AGAIN, why()) };
            // Whoever asked may have gone.
            let _ = answer.send(reply);
        }
    }

    fn take_problems(&mut self, problems: Vec<String>) {
        for problem in problems.iter().filter(|p| !self.problems.contains(p)) {
            tracing::error!(problem, "an object cannot be used as it is");
        }
        for solved in self.problems.iter().filter(|p| !problems.contains(p)) {
            tracing::info!(problem = solved, "solved");
        }
        self.metrics.source_problems.set(i64::try_from(problems.len()).unwrap_or(i64::MAX));
        self.problems = problems;
    }

    /// What the clock asks for; whether that is a flush.
    fn is_due(&mut self, now: Instant) -> bool {
        if now >= self.count_at {
            self.count_at = now + COUNT;
            self.count();
        }
        if now >= self.check_at {
            self.check_at = now + CHECK;
            // Read-back only finds out that something is wrong; what is right comes from the graph alone.
            if self.is_in_force && !self.is_as_left() {
                tracing::warn!("the table is not as it was left; it is replaced");
                self.enforcer.doubt();
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
        match self.enforcer.flush() {
            Ok(None) => self.news_in_force = self.news_taken,
            Ok(Some(done)) => {
                self.news_in_force = self.news_taken;
                self.done(&done, start);
            }
            Err(error) => {
                self.metrics.transactions.with_label_values(&["replace", "refused"]).inc();
                self.complain(error.to_string());
                self.retry_at = Some(Instant::now() + RETRY);
            }
        }
        self.gauge();
    }

    fn done(&mut self, done: &Done, start: Instant) {
        if !self.is_in_force {
            tracing::info!(steps = done.steps, elements = done.elements, "the first ruleset is in force");
            if self.enforcer.local_addresses() == 0 {
                tracing::warn!(node = self.node, "no pod of this node is known; is the name as in `spec.nodeName`?");
            }
        }
        self.is_in_force = true;
        self.retry_at = None;
        self.metrics.transactions.with_label_values(&[done.kind.name(), "applied"]).inc();
        self.metrics.elements_changed.inc_by(done.elements as u64);
        self.metrics.compile.observe(seconds(done.compile));
        self.metrics.change_to_kernel.observe(seconds(start.elapsed()));
        if done.kind == Kind::Repair {
            self.metrics.drift_repairs.inc();
        }
        tracing::debug!(kind = done.kind.name(), steps = done.steps, elements = done.elements, apply = ?done.apply, "in force");
        let scope = lost_access(done);
        if !scope.is_empty() {
            self.to_cut = std::mem::replace(&mut self.to_cut, Scope::none()).union(scope);
            self.cut_at.get_or_insert(start);
        }
    }

    /// Looks at established connections when it is time to.
    fn cut_due(&mut self) {
        let now = Instant::now();
        if self.cut_at.is_some_and(|at| now >= at) {
            self.cut_at = None;
            let scope = std::mem::replace(&mut self.to_cut, Scope::none());
            self.cut(&scope);
            let again = self.again.take().map_or(Scope::none(), |(_, scope)| scope).union(scope);
            self.again = Some((Instant::now() + SECOND_LOOK, again));
        }
        if self.again.as_ref().is_some_and(|(at, _)| now >= *at)
            && let Some((_, scope)) = self.again.take()
        {
            self.cut(&scope);
        }
    }

    fn cut(&mut self, scope: &Scope) {
        let start = Instant::now();
        let node = node_addresses();
        match self.conntrack.cut(self.enforcer.graph(), scope, &node) {
            Ok(cut) => {
                self.metrics.connections_cut.inc_by(cut.len() as u64);
                for flow in &cut {
                    let Flow { source, destination, protocol } = flow;
                    tracing::info!(%source, %destination, %protocol, "an established connection lost its verdict, and was cut");
                }
            }
            Err(error) => {
                self.complain(format!("cannot cut established connections: {error}"));
                // They must be cut within ten seconds (S3.9), so it is tried until it works.
                self.to_cut = std::mem::replace(&mut self.to_cut, Scope::none()).union(scope.clone());
                self.cut_at = Some(Instant::now() + RETRY);
            }
        }
        self.metrics.cut_seconds.observe(seconds(start.elapsed()));
    }

    fn log_denied(&mut self, sample: &Sample) {
        self.metrics.deny_log_lines.inc();
        let about = self.enforcer.ruleset().about.get(&sample.chain);
        explain::denied(self.enforcer.graph(), about, sample).log();
    }

    /// Reads the kernel's counters. Those of packets start again when a chain is replaced, so what is shown is the sum of what was seen.
    fn count(&mut self) {
        if let Ok(Some(elements)) = self.enforcer.kernel().elements() {
            self.metrics.set_elements.set(i64::try_from(elements).unwrap_or(i64::MAX));
        }
        let Ok(packets) = self.enforcer.kernel().packets() else { return };
        let about = &self.enforcer.ruleset().about;
        for (chain, packets) in packets {
            let before = self.counted.insert(chain.clone(), packets).unwrap_or(0);
            let more = if packets >= before { packets - before } else { packets };
            let (direction, group) = match about.get(&chain).and_then(|about| about.group.as_ref()) {
                Some(group) => (group.direction.to_string(), group.name.as_str()),
                None => ("any".to_owned(), "no connection"),
            };
            if more > 0 {
                self.metrics.denied_packets.with_label_values(&[direction.as_str(), group]).inc_by(more);
            }
        }
    }

    fn gauge(&mut self) {
        let size = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let ruleset = self.enforcer.ruleset();
        self.metrics.sets.set(size(ruleset.sets.len()));
        self.metrics.chains.set(size(ruleset.chains.len()));
        self.metrics.rules.set(size(ruleset.chains.values().map(|chain| chain.rules.len()).sum()));
        for (kind, count) in self.objects() {
            self.metrics.objects.with_label_values(&[kind]).set(size(count));
        }
        for Freshness { kind, stale_for, .. } in (self.pulse)() {
            self.metrics.source_stale.with_label_values(&[kind]).set(seconds(stale_for.unwrap_or_default()));
        }
        let (all, quarantined) = self.sandboxes.counts();
        for (state, count) in [("known", all - quarantined), ("quarantine", quarantined)] {
            self.metrics.sandboxes.with_label_values(&[state]).set(size(count));
        }
        let is_in_sync = self.enforcer.generation().is_some();
        self.metrics.in_sync.set(i64::from(is_in_sync));
        if is_in_sync {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.metrics.last_success.set(seconds(now));
        }
    }

    fn objects(&self) -> [(&'static str, usize); 4] {
        let counts = self.enforcer.graph().counts();
        [("namespaces", counts.namespaces), ("pods", counts.pods), ("policies", counts.policies), ("groups", counts.groups)]
    }

    fn answer(&mut self, question: &Question) -> String {
        match question {
            Question::Status => self.status().to_string(),
            Question::StatusJson => serde_json::to_string_pretty(&self.status()).unwrap_or_default(),
            Question::Explain(name) => explain::chain(self.enforcer.ruleset(), name),
            Question::Metrics => {
                self.count();
                self.gauge();
                self.metrics.text().unwrap_or_else(|error| format!("# {error}\n"))
            }
            Question::Ready if self.is_in_force => self.ready(),
            Question::Ready if !self.has_all => self.untold(),
            Question::Ready => self.errors.back().map_or("no ruleset is in force yet".to_owned(), |(_, error)| error.clone()),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let mut out = status::warnings();
        out.extend(self.stale());
        out.extend(self.unchained.as_ref().map(|trouble| format!("pods start without being isolated first: {trouble}")));
        if self.is_in_force && self.enforcer.local_addresses() == 0 {
            let node = &self.node;
            out.push(format!("no pod of node `{node}` is known, so nothing is enforced; is the name as in `spec.nodeName`?"));
        }
        out
    }

    /// `ready`, and what is not as fresh as it should be. Enforcement goes on with what is known, so that is no reason not to be
    /// ready.
    fn ready(&self) -> String {
        let mut text = "ready".to_owned();
        for line in self.stale() {
            text.push('\n');
            text.push_str(&line);
        }
        text
    }

    /// What may have changed unseen.
    fn stale(&self) -> Vec<String> {
        let line = |fresh: Freshness| {
            let age = fresh.stale_for?.as_secs();
            let why = fresh.trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
            Some(format!("stale: nothing was heard of {} for {age} s; what was known before stays in force{why}", fresh.kind))
        };
        (self.pulse)().into_iter().filter_map(line).collect()
    }

    /// Why nothing is put in force yet.
    fn untold(&self) -> String {
        match self.problems.first() {
            Some(problem) => format!("the rules of an earlier run stay until everything can be read: {problem}"),
            None => match (self.pulse)().into_iter().find_map(|fresh| fresh.trouble) {
                Some(trouble) => format!("the source has not told everything yet: {trouble}"),
                None => "the source has not told everything yet".to_owned(),
            },
        }
    }

    fn status(&self) -> Status {
        let ruleset = self.enforcer.ruleset();
        let why_not = if !self.has_all {
            Some(self.untold())
        } else if self.enforcer.generation().is_none() {
            Some(self.errors.back().map_or("the table is about to be replaced".to_owned(), |(_, error)| error.clone()))
        } else {
            None
        };
        Status {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            applier: self.applier.to_owned(),
            source: self.source.clone(),
            is_in_sync: why_not.is_none(),
            why_not,
            is_in_force: self.is_in_force,
            generation: self.enforcer.generation(),
            news_taken: self.news_taken,
            news_in_force: self.news_in_force,
            uptime_seconds: self.started.elapsed().unwrap_or_default().as_secs(),
            objects: self.objects().into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
            sets: ruleset.sets.len(),
            chains: ruleset.chains.len(),
            rules: ruleset.chains.values().map(|chain| chain.rules.len()).sum(),
            drift_repairs: self.metrics.drift_repairs.get(),
            connections_cut: self.metrics.connections_cut.get(),
            local_addresses: self.enforcer.local_addresses(),
            warnings: self.warnings(),
            problems: self.problems.clone(),
            errors: self.errors.iter().map(|(at, error)| status::StampedError::new(*at, error)).collect(),
        }
    }
}

/// The connections that may have lost access by what was put in force.
fn lost_access(done: &Done) -> Scope {
    let GraphDelta { members, named_members, is_structural, .. } = &done.delta;
    // Connections may be older than the agent, and than what somebody else did to the table.
    if done.kind != Kind::Update || *is_structural {
        return Scope::All;
    }
    let left = members.iter().filter(|c| !c.is_member).map(|c| c.address);
    Scope::Addresses(left.chain(named_members.iter().filter(|c| !c.is_member).map(|c| c.address)).collect())
}

/// The addresses of this network namespace.
fn node_addresses() -> BTreeSet<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return BTreeSet::new() };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect()
}
