//! An agent for each node: the loop that the binary runs, fed by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use policy_agent::admin::metrics::Metrics;
use policy_agent::admin::status::Status;
use policy_agent::agent::{Agent, Event, Mailbox, Parts, Published, Question, queue};
use policy_agent::connections::{self, Conntrack};
use policy_agent::enforcer::Enforcer;
use policy_agent::interfaces::Watch;
use policy_agent::kernel::RealKernel;
use policy_agent::kernel::applier::{ApplierKind, NetlinkApplier};
use policy_agent::kernel::monitor::Monitor;
use policy_agent::kernel::reader::Reader;
use policy_agent::sandboxes::Sandboxes;
use policy_agent::source::{Source, SourceUpdate, SyncState};
use policy_core::compile;
use policy_core::manifest::Snapshot;
use policy_core::model::Change;
use policy_ruleset::{DenyLog, Options};

use super::Network;

/// Agents, one for each node of a network.
pub struct Agents {
    by_node: BTreeMap<String, Handle>,
    snapshot: Snapshot,
    told: u64,
}

struct Handle {
    news: Sender<SourceUpdate>,
    events: Mailbox,
    metrics: Metrics,
}

/// What a test says.
struct Told(Receiver<SourceUpdate>);

impl Source for Told {
    fn describe(&self) -> String {
        "a test".to_owned()
    }

    fn run(self: Box<Self>, tell: &mut dyn FnMut(SourceUpdate) -> bool) {
        for news in self.0 {
            if !tell(news) {
                return;
            }
        }
    }
}

fn start(node: &str) -> Handle {
    let (news, told) = channel();
    let (mailbox, inbox) = queue();
    let touched = mailbox.clone();
    let touch = move |generation| {
        let _ = touched.send(Event::Touched(generation));
    };
    let monitor = Monitor::start(touch).expect("root may listen");
    let seen = mailbox.clone();
    let see = move |list| {
        let _ = seen.send(Event::Interfaces(list));
    };
    Watch::start(see).expect("anyone may read links and routes");
    let applier = Box::new(NetlinkApplier::open().expect("netlink"));
    let scope = compile::Options { node: Some(node.to_owned()), ..compile::Options::default() };
    let options = Options { deny_log: Some(DenyLog::DEFAULT), ..Options::default() };
    let kernel = Box::new(RealKernel::new(Reader::open().expect("netlink"), monitor));
    let enforcer = Enforcer::new(scope, options, applier, kernel);
    let metrics = Metrics::new().expect("valid names");
    let (orders, ordered) = channel();
    let conntrack = Conntrack::open().expect("netlink");
    connections::start(conntrack, ordered, mailbox.clone(), metrics.clone()).expect("a thread");
    let parts = Parts {
        enforcer,
        orders,
        metrics: metrics.clone(),
        published: Arc::new(Published::default()),
        node: node.to_owned(),
        applier: ApplierKind::Netlink,
        sandboxes: Sandboxes::new(node.to_owned(), None),
        clock: Box::new(Instant::now),
    };
    let agent = Agent::new(parts, inbox);
    let events = mailbox.clone();
    std::thread::Builder::new()
        .name(format!("agent {node}"))
        .spawn(move || agent.run(Box::new(Told(told)), mailbox).expect("threads are there"))
        .expect("a thread");
    Handle { news, events, metrics }
}

impl Agents {
    /// Starts an agent in the namespace of each node. None has heard anything yet.
    #[must_use]
    pub fn start(network: &Network) -> Self {
        let handle = |node: &str| {
            let name = node.to_owned();
            (node.to_owned(), network.node(node).run(move || start(&name)))
        };
        Self { by_node: network.nodes().map(handle).collect(), snapshot: Snapshot::default(), told: 0 }
    }

    /// Tells every agent what the cluster is now, and waits until each has it in force.
    ///
    /// # Panics
    /// When one of them does not get there.
    pub fn tell(&mut self, snapshot: Snapshot) {
        for handle in self.by_node.values() {
            let news = SourceUpdate {
                changes: self.snapshot.difference(&snapshot),
                extent: SyncState::Synced,
                ..SourceUpdate::default()
            };
            handle.news.send(news).expect("the agent runs");
        }
        self.snapshot = snapshot;
        self.wait();
    }

    /// Tells every agent of changes that no snapshot has, and waits likewise.
    ///
    /// # Panics
    /// When one of them does not get there.
    pub fn change(&mut self, changes: &[Change]) {
        for handle in self.by_node.values() {
            let news = SourceUpdate { changes: changes.to_vec(), extent: SyncState::Synced, ..SourceUpdate::default() };
            handle.news.send(news).expect("the agent runs");
        }
        self.wait();
    }

    fn wait(&mut self) {
        self.told += 1;
        for node in self.by_node.keys() {
            let deadline = Instant::now() + Duration::from_secs(20);
            loop {
                let status = self.status(node);
                if status.is_in_sync && status.news_in_force == self.told {
                    break;
                }
                assert!(Instant::now() < deadline, "{node} does not get in sync: {status:?}");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// What the agent of a node has counted.
    #[must_use]
    pub fn metrics(&self, node: &str) -> &Metrics {
        &self.by_node[node].metrics
    }

    /// The status of the agent of a node.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn status(&self, node: &str) -> Status {
        let (tell, told) = channel();
        self.by_node[node].events.send(Event::Ask(Question::Status(tell))).expect("the agent runs");
        told.recv().expect("the agent answers")
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        for handle in self.by_node.values() {
            let _ = handle.events.send(Event::Stop);
        }
    }
}
