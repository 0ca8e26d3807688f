//! The loop in process: a fake kernel, a clock that is set by hand, and events from the test.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::sync::{Mutex, PoisonError};

use netpol_cni::protocol::{Answer, Task};
use netpol_cni::protocol::{Attachment, PodName, Sandbox};
use policy_core::compile;
use policy_core::manifest::{Loader, Snapshot, Syntax};
use policy_core::model::Direction;
use policy_core::sets::{Protocol, Transport};
use policy_core::verdict::Flow;
use policy_ruleset::{DenyLog, Options};

use super::*;
use crate::admin::status::Status;
use crate::connections::{Judgement, LookError, Scope, Tuple};
use crate::denials::nflog::Sample;
use crate::kernel::fake::{FakeKernel, Trouble};

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME, namespace: x, uid: NAME, labels: {app: NAME}}\n\
    spec: {nodeName: n1, containers: [{name: c, image: i}]}\nstatus: {phase: Running, podIP: ADDRESS, podIPs: [{ip: ADDRESS}]}\n---\n";
const POLICY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: NAME, namespace: x}\n\
    spec: {podSelector: {matchLabels: {app: NAME}}, policyTypes: [Ingress]}\n---\n";
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n---\n";

fn pod(name: &str, address: &str) -> String {
    POD.replace("NAME", name).replace("ADDRESS", address)
}

fn deny(name: &str) -> String {
    POLICY.replace("NAME", name)
}

fn snapshot(text: &str) -> Snapshot {
    let mut loader = Loader::new(Syntax::Legacy);
    loader.read("test.yaml", text.as_bytes());
    assert!(loader.diagnostics().is_empty(), "{:?}", loader.diagnostics());
    loader.finish()
}

/// An agent that is driven by hand. Each look at the clock takes `step`.
struct Bench {
    agent: Agent,
    kernel: FakeKernel,
    mailbox: Mailbox,
    orders: Receiver<Order>,
    now: Arc<Mutex<Instant>>,
    before: Snapshot,
}

impl Bench {
    fn new() -> Self {
        Self::with_step(Duration::ZERO)
    }

    fn with_step(step: Duration) -> Self {
        Self::on(FakeKernel::new(), step)
    }

    /// An agent on a kernel in which something may be already.
    fn on(kernel: FakeKernel, step: Duration) -> Self {
        let scope = compile::Options { node: Some("n1".to_owned()), ..compile::Options::default() };
        let options = Options { deny_log: Some(DenyLog::DEFAULT), ..Options::default() };
        let now = Arc::new(Mutex::new(Instant::now()));
        let time = now.clone();
        let (sender, orders) = channel();
        let parts = Parts {
            enforcer: Enforcer::new(scope, options, Box::new(kernel.clone()), Box::new(kernel.clone())),
            orders: sender,
            metrics: Metrics::new().unwrap(),
            published: Arc::new(Published::default()),
            node: "n1".to_owned(),
            applier: ApplierKind::Netlink,
            sandboxes: Sandboxes::new("n1".to_owned(), None),
            clock: Box::new(move || {
                let mut now = time.lock().unwrap_or_else(PoisonError::into_inner);
                *now += step;
                *now
            }),
        };
        let (mailbox, inbox) = queue();
        Self { agent: Agent::new(parts, inbox), kernel, mailbox, orders, now, before: Snapshot::default() }
    }

    /// An agent with a pod that nobody isolates, in force.
    fn in_force(step: Duration) -> Self {
        let mut bench = Self::with_step(step);
        bench.tell(&format!("{NAMESPACE}{}{}", pod("a", "10.0.0.1"), deny("other")));
        assert!(bench.agent.round());
        assert!(bench.agent.is_in_force);
        bench.orders.try_iter().count();
        bench
    }

    fn pass(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }

    /// The cluster is this now.
    fn tell(&mut self, text: &str) {
        let after = snapshot(text);
        let changes = self.before.difference(&after);
        self.before = after;
        self.mailbox
            .send(Event::SourceUpdate(SourceUpdate { changes, extent: SyncState::Synced, ..SourceUpdate::default() }))
            .unwrap();
    }

    fn is_isolated(&self, address: &str) -> bool {
        let address: IpAddr = address.parse().unwrap();
        let table = self.kernel.table().unwrap();
        table.sets.get("isolated-ingress4").is_some_and(|set| set.contains(&policy_ruleset::Element::Address(address)))
    }

    fn add(&self, name: &str, address: &str) -> Receiver<Answer> {
        self.add_of(name, address, || true)
    }

    fn add_of(&self, name: &str, address: &str, is_there: impl Fn() -> bool + Send + 'static) -> Receiver<Answer> {
        let (answer, answered) = channel();
        let sandbox = Sandbox {
            attachment: Attachment::new(name, "eth0").unwrap(),
            pod: Some(PodName { namespace: "x".to_owned(), name: name.to_owned(), uid: None }),
            addresses: vec![address.parse().unwrap()].try_into().unwrap(),
            host_interface: None,
        };
        self.mailbox.send(Event::Sandbox(Task::Add(sandbox), Asker::new(answer, is_there))).unwrap();
        answered
    }

    fn status(&mut self) -> Status {
        let (answer, answered) = channel();
        self.mailbox.send(Event::Ask(Question::Status(answer))).unwrap();
        assert!(self.agent.round());
        answered.try_recv().unwrap()
    }
}

#[test]
fn a_change_is_in_force_however_many_events_come() {
    // Every look at the clock takes a millisecond, so that taking events costs time.
    let mut bench = Bench::in_force(Duration::from_millis(1));
    let text = format!("{NAMESPACE}{}{}{}", pod("a", "10.0.0.1"), deny("other"), deny("a"));
    bench.tell(&text);
    // A source that goes on for ever: a thousand pieces of news wait at any time.
    for _ in 0..1000 {
        bench.tell(&text);
    }
    assert!(bench.agent.round());
    assert!(bench.is_isolated("10.0.0.1"), "after one round, with most of the news still waiting");
    assert!(bench.agent.inbox.take().is_some());
    assert!(bench.status().news_taken < 1000);
}

#[test]
fn questions_and_samples_lose_against_changes() {
    let mut bench = Bench::in_force(Duration::ZERO);
    let (answer, answered) = channel();
    let flow = Flow {
        source: "10.0.0.9".parse().unwrap(),
        destination: "10.0.0.1".parse().unwrap(),
        protocol: Protocol::Port(Transport::Tcp, 80),
    };
    for _ in 0..1000 {
        let _ = bench.mailbox.send(Event::Ask(Question::Status(answer.clone())));
        let _ = bench.mailbox.send(Event::Denied(Sample { chain: "in-x/a".to_owned(), flow }));
    }
    bench.tell(&format!("{NAMESPACE}{}{}", pod("a", "10.0.0.1"), deny("a")));
    assert!(bench.agent.round());
    assert!(bench.is_isolated("10.0.0.1"));
    assert_eq!(answered.try_iter().count(), 1, "one question a round");
    assert!(bench.agent.metrics.deny_log_lost.get() > 900);
}

#[test]
fn an_edit_that_was_superseded_is_not_applied() {
    let mut bench = Bench::in_force(Duration::ZERO);
    let before = bench.kernel.applied();
    for name in ["a", "b", "c", "a"] {
        bench.tell(&format!("{NAMESPACE}{}{}", pod("a", "10.0.0.1"), deny(name)));
    }
    assert!(bench.agent.round());
    assert_eq!(bench.kernel.applied(), before + 1);
    assert!(bench.is_isolated("10.0.0.1"));
}

#[test]
fn news_is_in_force_only_when_all_before_it_is() {
    let mut bench = Bench::in_force(Duration::ZERO);
    bench.kernel.expect(Trouble::Refuse);
    bench.kernel.expect(Trouble::Refuse);
    bench.kernel.expect(Trouble::Refuse);
    bench.tell(&format!("{NAMESPACE}{}{}", pod("a", "10.0.0.1"), deny("a")));
    // SourceUpdate without changes right behind it.
    bench.mailbox.send(Event::SourceUpdate(SourceUpdate { extent: SyncState::Synced, ..SourceUpdate::default() })).unwrap();
    assert!(bench.agent.round());
    let status = bench.status();
    assert_eq!((status.news_taken, status.news_in_force), (3, 1));
    assert!(!status.is_in_sync && !bench.is_isolated("10.0.0.1"));
    // It is tried again, and by the clock alone.
    assert!(bench.agent.until_next() <= RETRY);
    bench.pass(RETRY);
    assert!(bench.agent.round());
    let status = bench.status();
    assert_eq!((status.news_taken, status.news_in_force, status.is_in_sync), (3, 3, true));
    assert!(bench.is_isolated("10.0.0.1"));
}

/// The runtime kills a plugin, and removes its sandbox: the two requests come in any order.
#[test]
fn an_add_whose_plugin_is_gone_comes_to_nothing() {
    let mut bench = Bench::in_force(Duration::ZERO);
    let is_there = Arc::new(AtomicBool::new(true));
    let asked = || {
        let is_there = is_there.clone();
        move || is_there.load(Ordering::Relaxed)
    };
    let answered = bench.add_of("killed", "10.0.0.9", asked());
    is_there.store(false, Ordering::Relaxed);
    assert!(bench.agent.round());
    assert_eq!(bench.agent.sandboxes.counts(), (0, 0));
    assert!(answered.recv().is_err(), "nobody waits for an answer");
    is_there.store(true, Ordering::Relaxed);
    let _answered = bench.add_of("waiting", "10.0.0.9", asked());
    assert!(bench.agent.round());
    assert_eq!(bench.agent.sandboxes.counts(), (1, 1));
}

#[test]
fn an_add_is_answered_when_the_rules_are_in_force_and_old_connections_gone() {
    let mut bench = Bench::in_force(Duration::ZERO);
    let answered = bench.add("new", "10.0.0.7");
    assert!(bench.agent.round());
    assert!(answered.try_recv().is_err(), "the connections of its address have not been looked at");
    let table = bench.kernel.table().unwrap();
    assert!(table.sets["quarantine4"].contains(&policy_ruleset::Element::Address("10.0.0.7".parse().unwrap())));
    let tokens: Vec<u64> = bench.orders.try_iter().filter_map(|order| order.token).collect();
    let [token] = tokens.as_slice() else { panic!("{tokens:?}") };
    bench.mailbox.send(Event::Looked { token: token + 1, result: Ok(()) }).unwrap();
    assert!(bench.agent.round());
    assert!(answered.try_recv().is_err(), "that was another order");
    bench.mailbox.send(Event::Looked { token: *token, result: Ok(()) }).unwrap();
    assert!(bench.agent.round());
    assert_eq!(answered.try_recv().unwrap(), Answer::done());
}

#[test]
fn an_add_that_cannot_be_closed_in_time_is_refused() {
    let mut bench = Bench::in_force(Duration::ZERO);
    // The kernel refuses.
    for _ in 0..3 {
        bench.kernel.expect(Trouble::Refuse);
    }
    let refused = bench.add("one", "10.0.0.7");
    assert!(bench.agent.round());
    assert!(refused.try_recv().unwrap().refusal().is_some());
    bench.pass(RETRY);
    assert!(bench.agent.round());
    // The connections cannot be checked.
    let failed = bench.add("two", "10.0.0.8");
    assert!(bench.agent.round());
    let token = bench.orders.try_iter().find_map(|order| order.token).unwrap();
    bench
        .mailbox
        .send(Event::Looked { token, result: Err(Arc::new(LookError::Delete(std::io::Error::other("no memory")))) })
        .unwrap();
    assert!(bench.agent.round());
    let failed = failed.try_recv().unwrap();
    let refusal = failed.refusal();
    assert!(format!("{refusal:?}").contains("no memory"), "{refusal:?}");
    // Nothing is heard of them.
    let late = bench.add("three", "10.0.0.9");
    assert!(bench.agent.round());
    assert!(late.try_recv().is_err());
    bench.pass(Duration::from_secs(9));
    assert!(bench.agent.round());
    assert!(late.try_recv().unwrap().refusal().is_some(), "before the plugin gives up");
}

#[test]
fn connections_are_judged_by_what_is_in_force() {
    let mut bench = Bench::in_force(Duration::ZERO);
    bench.tell(&format!("{NAMESPACE}{}{}", pod("a", "10.0.0.1"), deny("a")));
    let tuple = |destination: &str| Tuple {
        source: "192.0.2.9".parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol: 17,
        ports: Some((1000, 80)),
        is_translated: false,
    };
    let tuples = vec![tuple("10.0.0.1"), tuple("10.0.0.2")];
    let (answer, answered) = sync_channel(1);
    bench.mailbox.send(Event::Judge(tuples, answer)).unwrap();
    assert!(bench.agent.round());
    let denied = Judgement::Denied { is_unclaimed: [true, false] };
    assert_eq!(answered.try_recv().unwrap(), [denied, Judgement::Allowed], "the policy came with it");
    let held = || bench.kernel.table().unwrap().sets["was-cut4"].clone();
    let element = tuple("10.0.0.1").reverse().unwrap();
    assert_eq!(held(), [element].into(), "what keeps it cut is in the kernel before the answer");
    let scopes: Vec<Scope> = bench.orders.try_iter().map(|order| order.scope).collect();
    assert_eq!(scopes, [Scope::Addresses(["10.0.0.1".parse().unwrap()].into())], "only the pod that lost access");

    // Policy allows it again, and still isolates the pod.
    bench.tell(&format!("{NAMESPACE}{}{}", pod("a", "10.0.0.1"), deny("a").replace("policyTypes", "ingress: [{}], policyTypes")));
    let (answer, answered) = sync_channel(1);
    bench.mailbox.send(Event::Release(vec![element], answer)).unwrap();
    assert!(bench.agent.round());
    assert!(answered.try_recv().unwrap());
    assert!(bench.kernel.table().unwrap().sets["was-cut4"].is_empty());
    assert!(bench.orders.try_iter().any(|order| order.has_gains));
}

#[test]
fn only_a_translated_connection_is_a_pod_and_itself() {
    let mut bench = Bench::in_force(Duration::ZERO);
    bench.tell(&format!("{NAMESPACE}{}{}", pod("a", "10.0.0.1"), deny("a")));
    let own = "10.0.0.1".parse().unwrap();
    let tuple = Tuple { source: own, destination: own, protocol: 17, ports: Some((1000, 80)), is_translated: false };
    let tuples = [true, false].map(|is_translated| Tuple { is_translated, ..tuple }).to_vec();
    let (answer, answered) = sync_channel(1);
    bench.mailbox.send(Event::Judge(tuples, answer)).unwrap();
    assert!(bench.agent.round());
    assert_eq!(answered.try_recv().unwrap(), [Judgement::Allowed, Judgement::Denied { is_unclaimed: [false; 2] }], "S2.15");
}

#[test]
fn interfaces_of_pods_are_known_in_the_transaction_that_isolates_the_pod() {
    let mut bench = Bench::in_force(Duration::ZERO);
    let sources = |bench: &Bench| {
        let set = bench.agent.enforcer.ruleset().sets.get("pod-sources4");
        set.map(|set| set.elements(bench.agent.enforcer.graph())).unwrap_or_default()
    };
    assert!(sources(&bench).is_empty());
    let name = policy_core::plan::InterfaceName::new("va").unwrap();
    let address: IpAddr = "10.0.0.1".parse().unwrap();
    let seen = crate::interfaces::Interface { index: 2, name, addresses: [address].into(), leads_elsewhere: false };
    let expected = [policy_ruleset::Element::Source(name, address)];
    // What is seen is taken before what is told, whatever came first.
    let text = format!("{NAMESPACE}{}{}", pod("a", "10.0.0.1"), deny("a"));
    bench.mailbox.send(Event::Interfaces(vec![seen.clone()])).unwrap();
    bench.tell(&text);
    assert!(bench.agent.round());
    assert_eq!(sources(&bench), expected);
    // The pod is gone from the API; its interface is still there.
    bench.tell(NAMESPACE);
    assert!(bench.agent.round());
    assert_eq!(sources(&bench), expected);
    // An interface alone makes a flush necessary, too.
    bench.mailbox.send(Event::Interfaces(Vec::new())).unwrap();
    assert!(bench.agent.round());
    assert!(sources(&bench).is_empty());
}

#[test]
fn a_packet_of_a_chain_that_has_been_replaced_is_reported_with_its_policies() {
    let mut bench = Bench::in_force(Duration::ZERO);
    bench.tell(&format!("{NAMESPACE}{}{}", pod("a", "10.0.0.1"), deny("a")));
    assert!(bench.agent.round());
    let is_of_pod = |name: &&String| name.starts_with("in-x/a") && !name.ends_with(".deny") && !name.contains(".e");
    let chain = bench.agent.enforcer.ruleset().chains.keys().find(is_of_pod).unwrap().clone();
    let flow = Flow {
        source: "192.0.2.9".parse().unwrap(),
        destination: "10.0.0.1".parse().unwrap(),
        protocol: Protocol::Port(Transport::Tcp, 80),
    };
    // The packet waits in a queue while the policy goes.
    bench.tell(&format!("{NAMESPACE}{}", pod("a", "10.0.0.1")));
    assert!(bench.agent.round());
    let explain = |bench: &mut Bench| {
        let clock: Clock = Box::new({
            let now = *bench.now.lock().unwrap();
            move || now
        });
        bench.agent.explanations.add(Sample { chain: chain.clone(), flow }, clock());
        bench.agent.explanations.next(bench.agent.enforcer.graph(), bench.agent.enforcer.ruleset(), &clock).unwrap()
    };
    let denial = explain(&mut bench);
    assert_eq!((denial.direction, &*denial.policies, denial.note), (Some(Direction::Ingress), "x/a", explain::REPLACED));
    // Not for ever.
    bench.pass(Duration::from_secs(60));
    bench.tell(&format!("{NAMESPACE}{}{}{}", pod("a", "10.0.0.1"), pod("c", "10.0.0.3"), deny("c")));
    assert!(bench.agent.round());
    assert_eq!(explain(&mut bench).policies, "");
}

#[test]
fn explanations_have_a_budget() {
    // An explanation takes three looks at the clock, and so at least thirty milliseconds.
    let mut bench = Bench::in_force(Duration::from_millis(10));
    bench.tell(&format!("{NAMESPACE}{}{}", pod("a", "10.0.0.1"), deny("a")));
    assert!(bench.agent.round());
    let start = *bench.now.lock().unwrap();
    let reported = Cell::new(0);
    let sample = |port| Sample {
        chain: "in-x/a".to_owned(),
        flow: Flow {
            source: "192.0.2.9".parse().unwrap(),
            destination: "10.0.0.1".parse().unwrap(),
            protocol: Protocol::Port(Transport::Tcp, port),
        },
    };
    for port in 1..=10 {
        bench.mailbox.send(Event::Denied(sample(port))).unwrap();
    }
    assert!(bench.agent.round());
    reported.set(bench.agent.metrics.deny_log_lines.get());
    assert!((1..=4).contains(&reported.get()), "{}", reported.get());
    assert!(*bench.now.lock().unwrap() - start < Duration::from_millis(300), "the round went on");
    // The others are reported all the same when they have waited for a second, and briefly.
    bench.pass(Duration::from_secs(1));
    assert!(bench.agent.round());
    assert_eq!(bench.agent.metrics.deny_log_lines.get(), 10);
}

#[test]
fn what_another_program_changed_is_repaired() {
    let mut bench = Bench::in_force(Duration::ZERO);
    bench.kernel.meddle(|table| *table = None);
    bench.mailbox.send(Event::Touched(None)).unwrap();
    assert!(bench.agent.round());
    assert!(bench.kernel.table().is_some());
    assert_eq!(bench.status().drift_repairs, 1);
    // Unannounced, it is found by the clock.
    bench.kernel.meddle(|table| *table = Some(crate::kernel::fake::Table::default()));
    bench.pass(CHECK);
    assert!(bench.agent.round());
    assert!(!bench.kernel.table().unwrap().chains.is_empty());
}

#[test]
fn rules_of_an_earlier_run_are_worth_more_than_a_part_and_less_than_all() {
    let earlier = Bench::in_force(Duration::ZERO).kernel;
    let right = earlier.table();
    let mut bench = Bench::on(earlier, Duration::ZERO);
    bench.agent.adopt().unwrap();
    assert!(bench.status().held.unwrap().contains("an earlier run"));
    let part = |extent| Event::SourceUpdate(SourceUpdate { extent, ..SourceUpdate::default() });
    bench.mailbox.send(part(SyncState::Partial)).unwrap();
    assert!(bench.agent.round());
    assert_eq!((bench.agent.is_in_force, bench.kernel.table()), (false, right));
    // Lost, and nothing was saved: that is said, and what can be read is better than nothing.
    bench.kernel.meddle(|table| *table = None);
    bench.mailbox.send(Event::Touched(None)).unwrap();
    let status = bench.status();
    assert!(status.held.unwrap().contains("no table") && !status.is_in_sync);
    bench.mailbox.send(part(SyncState::Listing)).unwrap();
    assert!(bench.agent.round());
    assert!(!bench.agent.is_in_force);
    bench.mailbox.send(part(SyncState::Partial)).unwrap();
    assert!(bench.agent.round());
    assert!(bench.agent.is_in_force && bench.status().held.is_none());
}

#[test]
fn the_heartbeat_follows_the_rounds() {
    let mut bench = Bench::new();
    assert!(bench.agent.until_next() <= REPORT, "it beats while nothing happens");
    assert!(bench.agent.round());
    let now = *bench.now.lock().unwrap();
    let published = bench.agent.published.clone();
    assert!(published.silence(now) < Duration::from_secs(1));
    assert!(published.silence(now + 2 * SILENCE) > SILENCE);
    assert!(published.readiness().is_err());
    bench.tell(NAMESPACE);
    assert!(bench.agent.round());
    assert!(published.readiness().is_ok(), "seen at once");
    bench.mailbox.send(Event::Stop).unwrap();
    assert!(!bench.agent.round());
}

#[test]
fn policies_that_are_too_large_together_are_shown_with_the_pods_that_they_block() {
    // Rules whose ranges are nested make as many pairs as the square of their number. Either policy alone is compiled.
    let nested = |name: &str, first: u32| {
        let rule = |n: u32| {
            format!(
                "{{from: [{{ipBlock: {{cidr: 11.{first}.{}.{}/32}}}}], ports: [{{port: 1, endPort: {}}}]}}",
                n / 100,
                2 * (n % 100),
                n + 1
            )
        };
        let rules: Vec<String> = (0..450).map(rule).collect();
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: x}}\n\
             spec: {{podSelector: {{}}, policyTypes: [Ingress], ingress: [{}]}}\n",
            rules.join(", ")
        )
    };
    let mut bench = Bench::new();
    let published = bench.agent.published.clone();
    let one = format!("{NAMESPACE}{}{}", pod("a", "10.0.0.1"), nested("one", 1));
    let mut told = |text: &str| {
        bench.tell(text);
        assert!(bench.agent.round());
        bench.pass(REPORT * 2);
        assert!(bench.agent.round());
        bench.agent.metrics.oversized_groups.get()
    };
    assert_eq!(told(&one), 0);
    assert_eq!(told(&format!("{one}{}", nested("two", 2))), 1);
    let notes = published.oversized();
    assert_eq!(notes.keys().map(ToString::to_string).collect::<Vec<_>>(), ["x/one", "x/two"]);
    assert!(notes.values().all(|note| note.starts_with("on node n1, ingress traffic of the pods a is blocked: ")), "{notes:?}");
    assert_eq!(told(&one), 0);
    assert!(published.oversized().is_empty());
}
