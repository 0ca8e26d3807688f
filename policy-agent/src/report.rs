//! Writes Events on NetworkPolicies that cannot be enforced as written. For what the policies say by themselves, one reporter for a
//! cluster is enough; which of them are too large for a node, its agent reports.
//!
//! A notice is not repeated while it stays true, except after an hour, when Events are deleted. New findings wait
//! until they have been true for a moment, and Events are written at a bounded rate; what has to wait is not lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::runtime::events::{Event, EventType, Recorder, Reporter as Controller};
use kube::{Api, Client, Resource};
use policy_core::model::{Change, ObjectKey, Pod, Policy};
use policy_lint::effect::{Effects, Knowledge};

use crate::agent::Published;
use crate::source::{Source, SourceUpdate, SyncState};

/// A finding must have been true for this long: pods and policies of one rollout come one after the other.
const SETTLE: Duration = Duration::from_secs(10);
/// All policies are looked at no more often than this, whatever changes.
const APART: Duration = Duration::from_secs(10);
/// API servers delete Events after an hour.
const AGAIN: Duration = Duration::from_secs(3600);
/// Events that may be written at once, and how long it takes until one more may.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(2);
/// The longest note that the API takes.
const LONGEST: usize = 1024;
/// The reporting controller.
const CONTROLLER: &str = "netpol";
/// The reason of Events of agents.
const TOO_LARGE_FOR_NODE: &str = "TooManyPeersOnNode";
/// The interval of checks for due notices.
const LOOK: Duration = Duration::from_secs(1);

/// A notice about a policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// The policy.
    pub policy: ObjectKey,
    /// In one word, as Events have it.
    pub reason: &'static str,
    /// In a sentence.
    pub note: String,
}

/// What was found about a policy, for one reason.
struct Known {
    note: String,
    since: Instant,
    said: Option<Instant>,
}

/// Notices by policy and reason.
type Notes = BTreeMap<(ObjectKey, &'static str), String>;

/// Which notices have been written, and which are due.
struct Schedule {
    known: BTreeMap<(ObjectKey, &'static str), Known>,
    /// Notices of an earlier reporter, and when they were written.
    before: BTreeMap<(ObjectKey, String), (String, Instant)>,
    /// Events that may be written now, and when that was counted.
    allowance: (u32, Instant),
}

impl Schedule {
    fn new(now: Instant) -> Self {
        Self { known: BTreeMap::new(), before: BTreeMap::new(), allowance: (BURST, now) }
    }

    /// What is true now.
    fn set(&mut self, mut current: Notes, now: Instant) {
        self.known.retain(|key, known| current.get(key) == Some(&known.note));
        current.retain(|key, _| !self.known.contains_key(key));
        for ((policy, reason), note) in current {
            let before = self.before.remove(&(policy.clone(), reason.to_owned()));
            let said = before.filter(|(before, _)| *before == shortened(&note)).map(|(_, at)| at);
            self.known.insert((policy, reason), Known { note, since: now, said });
        }
    }

    fn due(&mut self, now: Instant) -> Vec<Notice> {
        self.refill(now);
        let mut out = Vec::new();
        for ((policy, reason), known) in &mut self.known {
            let is_due = match known.said {
                Some(said) => now.saturating_duration_since(said) >= AGAIN,
                None => now.saturating_duration_since(known.since) >= SETTLE,
            };
            if !is_due {
                continue;
            }
            let Some(rest) = self.allowance.0.checked_sub(1) else { break };
            self.allowance.0 = rest;
            known.said = Some(now);
            out.push(Notice { policy: policy.clone(), reason, note: shortened(&known.note) });
        }
        out
    }

    fn refill(&mut self, now: Instant) {
        let (count, since) = self.allowance;
        let more = u32::try_from(now.saturating_duration_since(since).as_nanos() / REFILL.as_nanos()).unwrap_or(u32::MAX);
        if more > 0 {
            let is_full = count.saturating_add(more) >= BURST;
            self.allowance = (BURST.min(count.saturating_add(more)), if is_full { now } else { since + REFILL * more });
        }
    }

    /// A due notice could not be written at this time; it is due again.
    fn failed(&mut self, notice: &Notice, now: Instant) {
        if let Some(known) = self.known.get_mut(&(notice.policy.clone(), notice.reason)) {
            (known.since, known.said) = (now, None);
        }
    }
}

/// The notices about the policies of a cluster, and when they are due.
pub struct Findings {
    policies: BTreeMap<ObjectKey, Policy>,
    pods: BTreeMap<ObjectKey, Pod>,
    faulty: BTreeMap<ObjectKey, Vec<String>>,
    schedule: Schedule,
    is_complete: bool,
    has_changed: bool,
    /// When all policies were looked at.
    looked: Option<Instant>,
}

impl Findings {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            policies: BTreeMap::new(),
            pods: BTreeMap::new(),
            faulty: BTreeMap::new(),
            schedule: Schedule::new(now),
            is_complete: false,
            has_changed: false,
            looked: None,
        }
    }

    /// An earlier reporter wrote this notice.
    pub fn remember(&mut self, policy: ObjectKey, reason: String, note: String, at: Instant) {
        self.schedule.before.insert((policy, reason), (note, at));
    }

    /// Takes an update of a source.
    pub fn take(&mut self, news: SourceUpdate) {
        for change in news.changes {
            match change {
                Change::Policy(policy) => drop(self.policies.insert(policy.key.clone(), policy)),
                Change::PolicyRemoved(key) => drop(self.policies.remove(&key)),
                Change::Pod(pod) => drop(self.pods.insert(pod.key.clone(), pod)),
                Change::PodRemoved(key) => drop(self.pods.remove(&key)),
                _ => continue,
            }
            self.has_changed = true;
        }
        for (policy, faults) in news.faulty {
            if faults.is_empty() {
                self.faulty.remove(&policy);
            } else {
                self.faulty.insert(policy, faults);
            }
            self.has_changed = true;
        }
        self.is_complete |= news.extent == SyncState::Synced;
    }

    /// The findings about the objects as they are now.
    fn current(&self) -> Notes {
        let effects = Effects::new(self.pods.values(), Knowledge::Whole);
        let mut notes = Notes::new();
        let mut add = |policy: &ObjectKey, reason: &'static str, note: String| {
            let all = notes.entry((policy.clone(), reason)).or_default();
            if !all.is_empty() {
                all.push_str("; ");
            }
            all.push_str(&note);
        };
        for (policy, faults) in &self.faulty {
            for fault in faults {
                let fault = fault.strip_prefix(&format!("NetworkPolicy {policy}: ")).unwrap_or(fault);
                add(policy, "InvalidPolicy", format!("{fault}; entries that cannot be read allow nothing"));
            }
        }
        for policy in self.policies.values() {
            for finding in effects.findings(policy) {
                if let Some(reason) = finding.rule.event_reason {
                    add(&policy.key, reason, format!("{}: {}", finding.path, finding.message));
                }
            }
        }
        notes
    }

    /// The notices that are due.
    pub fn due(&mut self, now: Instant) -> Vec<Notice> {
        if !self.is_complete {
            return Vec::new();
        }
        if self.has_changed && self.looked.is_none_or(|at| now.saturating_duration_since(at) >= APART) {
            self.has_changed = false;
            self.looked = Some(now);
            self.schedule.set(self.current(), now);
        }
        self.schedule.due(now)
    }

    /// A due notice could not be written at this time; it is due again.
    pub fn failed(&mut self, notice: &Notice, now: Instant) {
        self.schedule.failed(notice, now);
    }
}

fn shortened(note: &str) -> String {
    if note.len() <= LONGEST {
        return note.to_owned();
    }
    let mut end = LONGEST - "…".len();
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", note.get(..end).unwrap_or_default())
}

/// Writes Events until the source ends. `instance` is the reporting instance.
pub async fn run(source: Box<dyn Source>, client: Client, instance: Option<String>) {
    let (tell, told) = channel();
    let reading =
        std::thread::Builder::new().name("source".to_owned()).spawn(move || source.run(&mut |news| tell.send(news).is_ok()));
    if let Err(error) = reading {
        tracing::error!(%error, "cannot start watching");
        return;
    }
    let recorder = Recorder::new(client.clone(), Controller { controller: CONTROLLER.to_owned(), instance });
    let mut findings = Findings::new(Instant::now());
    if let Err(error) = remember(&client, &mut findings).await {
        tracing::warn!(%error, "cannot list earlier Events; findings may be reported again");
    }
    while hear(&told, &mut findings) {
        for notice in findings.due(Instant::now()) {
            if !is_written(&client, &recorder, &notice).await {
                findings.failed(&notice, Instant::now());
            }
        }
    }
}

/// Writes Events on policies that are too large for the node of an agent, for as long as it runs.
pub async fn run_on_node(published: Arc<Published>, client: Client, node: String) {
    let recorder = Recorder::new(client.clone(), Controller { controller: CONTROLLER.to_owned(), instance: Some(node) });
    let mut schedule = Schedule::new(Instant::now());
    loop {
        tokio::time::sleep(LOOK).await;
        let notes = published.oversized().into_iter().map(|(policy, note)| ((policy, TOO_LARGE_FOR_NODE), note));
        schedule.set(notes.collect(), Instant::now());
        for notice in schedule.due(Instant::now()) {
            if !is_written(&client, &recorder, &notice).await {
                schedule.failed(&notice, Instant::now());
            }
        }
    }
}

/// Whether the notice has been written.
async fn is_written(client: &Client, recorder: &Recorder, notice: &Notice) -> bool {
    let result = say(client, recorder, notice).await;
    match &result {
        Ok(()) => tracing::info!(policy = %notice.policy, reason = notice.reason, note = notice.note, "reported"),
        Err(error) => tracing::warn!(policy = %notice.policy, reason = notice.reason, %error, "cannot write an Event"),
    }
    result.is_ok()
}

/// Asks, once, which Events of ours there are.
async fn remember(client: &Client, findings: &mut Findings) -> Result<(), kube::Error> {
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::all(client.clone());
    let ours = ListParams::default().fields(&format!("reportingController={CONTROLLER}"));
    for event in events.list(&ours).await? {
        let Some(regarding) = &event.regarding else { continue };
        let (Some(namespace), Some(name)) = (&regarding.namespace, &regarding.name) else { continue };
        let (Some(reason), Some(note)) = (event.reason, event.note) else { continue };
        let written = event.metadata.creation_timestamp.map(|at| SystemTime::from(at.0));
        let age = written.and_then(|at| at.elapsed().ok()).unwrap_or_default();
        let at = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
        findings.remember(ObjectKey::new(namespace.as_str(), name.as_str()), reason, note, at);
    }
    Ok(())
}

/// Takes the updates of a short interval; false when the source has ended.
fn hear(told: &Receiver<SourceUpdate>, findings: &mut Findings) -> bool {
    let deadline = Instant::now() + LOOK;
    loop {
        match told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(news) => findings.take(news),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

async fn say(client: &Client, recorder: &Recorder, notice: &Notice) -> Result<(), kube::Error> {
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), &notice.policy.namespace);
    // An Event names the object by its UID.
    let Some(policy) = policies.get_opt(&notice.policy.name).await? else { return Ok(()) };
    let event = Event {
        type_: EventType::Warning,
        reason: notice.reason.to_owned(),
        note: Some(notice.note.clone()),
        action: "Enforce".to_owned(),
        secondary: None,
    };
    recorder.publish(&event, &policy.object_ref(&())).await
}

#[cfg(test)]
mod tests {
    use policy_core::manifest::{Loader, Syntax};

    use super::*;

    fn policy(name: &str, port: &str) -> Change {
        let text = format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}, namespace: x}}, \
             spec: {{podSelector: {{}}, egress: [{{ports: [{{port: {port}}}]}}]}}}}"
        );
        let mut loader = Loader::new(Syntax::Legacy);
        loader.read("", text.as_bytes());
        Change::Policy(loader.finish().policies.into_values().next().unwrap())
    }

    fn told(findings: &mut Findings, changes: Vec<Change>) {
        findings.take(SourceUpdate { changes, extent: SyncState::Synced, ..SourceUpdate::default() });
    }

    fn reasons(notices: &[Notice]) -> Vec<(String, &'static str)> {
        notices.iter().map(|notice| (notice.policy.name.clone(), notice.reason)).collect()
    }

    #[test]
    fn what_stays_true_is_said_once_an_hour() {
        let start = Instant::now();
        let mut findings = Findings::new(start);
        findings.take(SourceUpdate { changes: vec![policy("a", "web")], ..SourceUpdate::default() });
        assert!(findings.due(start + SETTLE * 2).is_empty(), "not everything is known");
        told(&mut findings, vec![policy("b", "80")]);
        let begin = start + SETTLE * 2;
        assert!(findings.due(begin).is_empty(), "it may be over in a moment");
        let said = findings.due(begin + SETTLE);
        assert_eq!(reasons(&said), [("a".to_owned(), "NamedPortNotFound")]);
        assert!(said[0].note.contains("spec.egress[0].ports[0].port") && said[0].note.contains("`web`"), "{said:?}");
        told(&mut findings, vec![policy("a", "web")]);
        assert!(findings.due(begin + SETTLE * 2).is_empty(), "it was said");
        assert_eq!(findings.due(begin + SETTLE + AGAIN).len(), 1);
        told(&mut findings, vec![policy("a", "other")]);
        assert!(findings.due(begin + SETTLE + AGAIN).is_empty());
        assert_eq!(findings.due(begin + SETTLE * 2 + AGAIN).len(), 1, "it is something else");
        told(&mut findings, vec![Change::PolicyRemoved(ObjectKey::new("x", "a"))]);
        assert!(findings.due(begin + AGAIN * 3).is_empty());
    }

    #[test]
    fn many_findings_are_said_at_a_bounded_rate_and_none_is_lost() {
        let start = Instant::now();
        let mut findings = Findings::new(start);
        told(&mut findings, (0..100).map(|i| policy(&format!("p{i:02}"), "web")).collect());
        findings.due(start);
        let mut now = start + SETTLE;
        let mut said = findings.due(now);
        assert_eq!(said.len(), BURST as usize);
        assert!(findings.due(now).is_empty());
        while said.len() < 100 {
            now += REFILL;
            let more = findings.due(now);
            assert_eq!(more.len(), 1);
            said.extend(more);
        }
        let names: std::collections::BTreeSet<&str> = said.iter().map(|notice| notice.policy.name.as_str()).collect();
        assert_eq!(names.len(), 100);
        // The API server did not take one.
        findings.failed(&said[5], now);
        assert_eq!(findings.due(now + REFILL), []);
        assert_eq!(findings.due(now + SETTLE), [said[5].clone()]);
    }

    #[test]
    fn what_was_said_before_a_restart_is_not_said_again() {
        let start = Instant::now() + AGAIN;
        let mut first = Findings::new(start);
        told(&mut first, vec![policy("a", "web"), policy("b", "web")]);
        first.due(start);
        let said = first.due(start + SETTLE);
        assert_eq!(said.len(), 2);
        let mut second = Findings::new(start);
        for Notice { policy, reason, note } in said {
            second.remember(policy, reason.to_owned(), note, start + SETTLE);
        }
        // What was said of b is not what is to be said of it.
        told(&mut second, vec![policy("a", "web"), policy("b", "other")]);
        second.due(start + SETTLE);
        assert_eq!(reasons(&second.due(start + SETTLE * 2)), [("b".to_owned(), "NamedPortNotFound")]);
        assert_eq!(second.due(start + SETTLE + AGAIN).len(), 1, "Events are forgotten after an hour");
    }

    #[test]
    fn a_policy_that_cannot_be_read_is_told_so() {
        let start = Instant::now();
        let mut findings = Findings::new(start);
        let fault = "NetworkPolicy x/p: spec.podSelector: found 7, expected an object [wrong-type]".to_owned();
        let faulty = BTreeMap::from([(ObjectKey::new("x", "p"), vec![fault])]);
        findings.take(SourceUpdate { faulty, extent: SyncState::Synced, ..SourceUpdate::default() });
        findings.due(start);
        let said = findings.due(start + SETTLE);
        assert_eq!(reasons(&said), [("p".to_owned(), "InvalidPolicy")]);
        assert!(said[0].note.starts_with("spec.podSelector: found 7"), "{said:?}");
        assert_eq!(shortened(&"é".repeat(2000)).len(), LONGEST - 1);
    }
}
