//! The edits that are tried: to rules, to the pods that a policy selects, and a policy of its own.

use std::collections::BTreeSet;

use super::patch::{self, Operation, Patch, Value};
use super::{Missing, Other};
use crate::manifest::{Snapshot, is_generated};
use crate::model::{
    Direction, IpBlock, Labels, NAME_LABEL, NamespaceScope, ObjectKey, Operator, Peer, Peers, Pod, Policy, PortEntry, Ports,
    Requirement, Rule, Selector, UNKNOWN_VALUE,
};
use crate::sets::{AddressSet, PortSet, Transport};

/// How much an edit changes; smaller is preferred among edits that open the same. A corrected typo, an added port, a changed
/// requirement, an added peer, an added rule, an added policy.
const TYPO: u32 = 5;
const PORT: u32 = 10;
const REQUIREMENT: u32 = 12;
const PEER: u32 = 30;
const RULE: u32 = 100;
const POLICY: u32 = 200;

/// Labels by which people tell workloads apart, in the order in which they are tried.
const NAMES: [&[&str]; 4] =
    [&["app.kubernetes.io/name"], &["app"], &["k8s-app"], &["app.kubernetes.io/name", "app.kubernetes.io/component"]];
/// The name of a pod's Job, in every version of Kubernetes.
const JOB_NAME: &str = "job-name";

/// An edit that may allow what is missing.
pub(super) struct Candidate {
    pub cost: u32,
    /// The policy after the edit.
    pub after: Policy,
    /// The rule that is edited.
    pub rule: Option<(Direction, usize)>,
    pub edit: String,
    pub patch: Patch,
}

/// Every candidate, in the order of the policies' names.
pub(super) fn candidates(snapshot: &Snapshot, missing: &Missing<'_>) -> Vec<Candidate> {
    let namespace = &missing.subject.key.namespace;
    let builder = Builder { snapshot, missing, peers: peers(snapshot, missing), ports: entries(missing.ports) };
    let mut out = Vec::new();
    for policy in snapshot.policies.values().filter(|policy| policy.key.namespace == *namespace) {
        let Some(rules) = policy.rules(missing.direction) else { continue };
        if policy.target.matches(&missing.subject.labels) {
            for (index, rule) in rules.iter().enumerate() {
                builder.edit_rule(policy, index, rule, &mut out);
            }
            builder.add_rule(policy, rules, &mut out);
        } else if rules.iter().any(|rule| builder.has_peer(rule)) {
            builder.edit_target(policy, &mut out);
        }
    }
    builder.add_policy(&mut out);
    out
}

/// What every edit is made of.
struct Builder<'a> {
    snapshot: &'a Snapshot,
    missing: &'a Missing<'a>,
    /// Peers that hold the other end and little else.
    peers: Vec<Peer>,
    /// What is missing; `None` for every protocol.
    ports: Option<Vec<PortEntry>>,
}

impl Builder<'_> {
    fn list(&self) -> (&'static str, &'static str) {
        match self.missing.direction {
            Direction::Ingress => ("ingress", "from"),
            Direction::Egress => ("egress", "to"),
        }
    }

    /// The rule that allows what is missing, and nothing else.
    fn rule(&self) -> Rule {
        let ports = self.ports.clone().map_or(Ports::All, Ports::Listed);
        Rule { line: 0, peers: Peers::Listed(self.peers.clone()), ports }
    }

    fn ports_text(&self) -> String {
        match &self.ports {
            None => " that allows all ports".to_owned(),
            Some(_) => format!(" and {} in `ports`", self.missing.ports),
        }
    }

    fn peers_text(&self) -> String {
        let texts: Vec<String> = self.peers.iter().map(peer_text).collect();
        format!("{} in `{}`", texts.join(" and "), self.list().1)
    }

    /// Whether a peer of the rule holds the other end, as far as labels and numbers say.
    fn has_peer(&self, rule: &Rule) -> bool {
        let Peers::Listed(peers) = &rule.peers else { return true };
        match &self.missing.other {
            Other::Pod(other) => peers.iter().any(|peer| self.is_peer(peer, other)),
            Other::Addresses(nets) => {
                let blocks = peers.iter().filter_map(|peer| if let Peer::Block(block) = peer { Some(block) } else { None });
                let held = AddressSet::union_of(blocks.map(IpBlock::addresses));
                let asked = AddressSet::union_of(nets.iter().map(|net| AddressSet::block(*net)));
                asked.difference(&held).is_empty()
            }
        }
    }

    fn is_peer(&self, peer: &Peer, other: &Pod) -> bool {
        let Peer::Pods { namespaces, pods } = peer else { return false };
        self.failing_namespace(namespaces, other).is_empty() && self.is_near(namespaces, other) && pods.matches(&other.labels)
    }

    /// Whether a peer of the policy's own namespace can hold the pod.
    fn is_near(&self, namespaces: &NamespaceScope, other: &Pod) -> bool {
        *namespaces != NamespaceScope::Own || other.key.namespace == self.missing.subject.key.namespace
    }

    fn failing_namespace(&self, namespaces: &NamespaceScope, other: &Pod) -> Vec<(Requirement, Option<String>)> {
        let NamespaceScope::Matching(selector) = namespaces else { return Vec::new() };
        let labels = self.snapshot.namespaces.get(&other.key.namespace).map(|namespace| namespace.labels.clone());
        failing(selector, &labels.unwrap_or_default())
    }

    /// Edits to one rule: its ports, one of its selectors, or another peer.
    fn edit_rule(&self, policy: &Policy, index: usize, rule: &Rule, out: &mut Vec<Candidate>) {
        let at = format!("/spec/{}/{index}", self.list().0);
        let added = self.added_ports(rule);
        if self.has_peer(rule) {
            if let Added::Entries(ports, values) = added {
                let edit = format!("add {} to `ports`", self.missing.ports);
                let operations = values.into_iter().map(|value| add(format!("{at}/ports/-"), Value::Port(value))).collect();
                let after = Rule { ports, ..rule.clone() };
                out.push(self.edited(policy, index, after, PORT, edit, operations));
            }
            return;
        }
        let Peers::Listed(peers) = &rule.peers else { return };
        // Another port for one rule opens it to all its peers, so only a rule of one peer gets both.
        let (ports, more, also) = match added {
            Added::Nothing => (rule.ports.clone(), Vec::new(), String::new()),
            Added::Entries(ports, values) if peers.len() == 1 => {
                (ports, values, format!(", and add {} to `ports`", self.missing.ports))
            }
            Added::Entries(..) | Added::EveryProtocol => return,
        };
        let cost = if more.is_empty() { 0 } else { PORT };
        let ports_operations = || more.iter().map(|value| add(format!("{at}/ports/-"), Value::Port(value.clone())));
        for (place, peer) in peers.iter().enumerate() {
            for change in self.peer_changes(peer, place) {
                let mut list = peers.clone();
                if let Some(slot) = list.get_mut(place) {
                    *slot = change.after;
                }
                let operations =
                    std::iter::once(Operation { op: "replace", path: format!("{at}{}", change.path), value: change.value });
                let after = Rule { peers: Peers::Listed(list), ports: ports.clone(), ..*rule };
                let edit = format!("{}{also}", change.edit);
                out.push(self.edited(
                    policy,
                    index,
                    after,
                    change.cost + cost,
                    edit,
                    operations.chain(ports_operations()).collect(),
                ));
            }
        }
        if more.is_empty() {
            let list = peers.iter().chain(&self.peers).cloned().collect();
            let value = |peer| add(format!("{at}/{}/-", self.list().1), Value::Peer(patch::peer(peer)));
            let operations = self.peers.iter().map(value).collect();
            let edit = format!("add {}", self.peers_text().replace(" in `", " to `"));
            let after = Rule { peers: Peers::Listed(list), ..rule.clone() };
            out.push(self.edited(policy, index, after, PEER, edit, operations));
        }
    }

    /// The ports that the rule lacks.
    fn added_ports(&self, rule: &Rule) -> Added {
        let Ports::Listed(entries) = &rule.ports else { return Added::Nothing };
        let numbers: Vec<(Transport, u16, u16)> = entries.iter().filter_map(|entry| self.numbers(entry)).flatten().collect();
        if self.missing.ports.difference(&PortSet::from_ranges(&numbers)).is_empty() {
            return Added::Nothing;
        }
        let Some(more) = self.ports.clone() else { return Added::EveryProtocol };
        let values = more.iter().filter_map(patch::port).collect();
        Added::Entries(Ports::Listed(entries.iter().cloned().chain(more).collect()), values)
    }

    /// The ports of an entry, by number at the destination.
    fn numbers(&self, entry: &PortEntry) -> Option<Vec<(Transport, u16, u16)>> {
        let destination = match (self.missing.direction, &self.missing.other) {
            (Direction::Ingress, _) => self.missing.subject,
            (Direction::Egress, Other::Pod(other)) => *other,
            (Direction::Egress, Other::Addresses(_)) => return None,
        };
        match entry {
            PortEntry::Range { protocol, low, high } => Some(vec![(*protocol, *low, *high)]),
            PortEntry::Named { protocol, name } => {
                let named = destination.ports.iter().filter(|port| port.protocol == *protocol && port.name == *name);
                Some(named.map(|port| (*protocol, port.number, port.number)).collect())
            }
            PortEntry::Unreadable => None,
        }
    }

    /// Changes of a peer after which it holds the other end: of one selector, in one or two requirements.
    fn peer_changes(&self, peer: &Peer, place: usize) -> Vec<PeerChange> {
        let (Peer::Pods { namespaces, pods }, Other::Pod(other)) = (peer, &self.missing.other) else { return Vec::new() };
        if !self.is_near(namespaces, other) {
            return Vec::new();
        }
        let list = self.list().1;
        let (of_namespace, of_pod) = (self.failing_namespace(namespaces, other), failing(pods, &other.labels));
        let (field, selector, failed) = match (of_namespace.as_slice(), of_pod.as_slice(), namespaces) {
            ([], failed, _) => ("podSelector", pods, failed),
            (failed, [], NamespaceScope::Matching(selector)) => ("namespaceSelector", selector, failed),
            _ => return Vec::new(),
        };
        let found = corrected(selector, failed, &format!("{list}[{place}].{field}"));
        let made = found.into_iter().map(|(cost, selector, edit)| {
            let value = Value::Selector(patch::selector(&selector));
            let after = match field {
                "podSelector" => Peer::Pods { namespaces: namespaces.clone(), pods: selector },
                _ => Peer::Pods { namespaces: NamespaceScope::Matching(selector), pods: pods.clone() },
            };
            PeerChange { cost, after, path: format!("/{list}/{place}/{field}"), value, edit }
        });
        made.collect()
    }

    fn edited(
        &self,
        policy: &Policy,
        index: usize,
        rule: Rule,
        cost: u32,
        edit: String,
        operations: Vec<Operation>,
    ) -> Candidate {
        let mut after = policy.clone();
        let rules = match self.missing.direction {
            Direction::Ingress => after.ingress.as_mut(),
            Direction::Egress => after.egress.as_mut(),
        };
        if let Some(slot) = rules.and_then(|rules| rules.get_mut(index)) {
            *slot = rule;
        }
        Candidate { cost, after, rule: Some((self.missing.direction, index)), edit, patch: Patch::Edit(operations) }
    }

    fn add_rule(&self, policy: &Policy, rules: &[Rule], out: &mut Vec<Candidate>) {
        let direction = self.missing.direction;
        let (rule, list) = (self.rule(), self.list().0);
        let value = patch::rule(&rule, direction);
        let operation = match rules {
            [] => add(format!("/spec/{list}"), Value::Rules(vec![value])),
            _ => add(format!("/spec/{list}/-"), Value::Rule(value)),
        };
        let mut after = policy.clone();
        let all = rules.iter().cloned().chain([rule]).collect();
        match direction {
            Direction::Ingress => after.ingress = Some(all),
            Direction::Egress => after.egress = Some(all),
        }
        let edit = format!("add a rule to `{list}` with {}{}", self.peers_text(), self.ports_text());
        out.push(Candidate { cost: RULE, after, rule: None, edit, patch: Patch::Edit(vec![operation]) });
    }

    /// A policy that is one or two requirements short of selecting the subject.
    fn edit_target(&self, policy: &Policy, out: &mut Vec<Candidate>) {
        let failed = failing(&policy.target, &self.missing.subject.labels);
        if let Some((cost, target, edit)) = corrected(&policy.target, &failed, "`podSelector`") {
            let value = Value::Selector(patch::selector(&target));
            let operation = Operation { op: "replace", path: "/spec/podSelector".to_owned(), value };
            let edit = edit.replace("`podSelector`", "the `podSelector` of the policy");
            let after = Policy { target, ..policy.clone() };
            out.push(Candidate { cost, after, rule: None, edit, patch: Patch::Edit(vec![operation]) });
        }
    }

    fn add_policy(&self, out: &mut Vec<Candidate>) {
        let subject = self.missing.subject;
        let direction = self.missing.direction;
        let other = match &self.missing.other {
            Other::Pod(pod) if pod.key.namespace == subject.key.namespace => own_name(pod),
            Other::Pod(pod) => format!("{}-{}", pod.key.namespace, own_name(pod)),
            Other::Addresses(_) => "outside".to_owned(),
        };
        let word = if direction == Direction::Ingress { "from" } else { "to" };
        let base = object_name(&format!("{}-{word}-{other}", own_name(subject)));
        let is_free = |name: &String| !self.snapshot.policies.contains_key(&ObjectKey::new(&subject.key.namespace, name));
        let numbered = (2..100).map(|number| format!("{base}-{number}"));
        let Some(name) = std::iter::once(base.clone()).chain(numbered).find(is_free) else { return };
        let target = exact_selector(subject, self.snapshot);
        let (rule, key) = (self.rule(), ObjectKey::new(&subject.key.namespace, name));
        let object = patch::object(&key, &target, &rule, direction);
        let rules = Some(vec![rule]);
        let (ingress, egress) = if direction == Direction::Ingress { (rules, None) } else { (None, rules) };
        let edit = format!(
            "add a policy with {} and a rule in `{}` with {}{}",
            selector_text("podSelector", &target),
            self.list().0,
            self.peers_text(),
            self.ports_text()
        );
        let after = Policy { key, origin: None, target, ingress, egress };
        out.push(Candidate { cost: POLICY, after, rule: None, edit, patch: Patch::Add(Box::new(object)) });
    }
}

/// The ports that a rule lacks.
enum Added {
    Nothing,
    /// The ports of the rule with these entries, and the entries.
    Entries(Ports, Vec<patch::NetworkPolicyPort>),
    /// Those of every protocol, which only a rule without `ports` allows.
    EveryProtocol,
}

struct PeerChange {
    cost: u32,
    after: Peer,
    path: String,
    value: Value,
    edit: String,
}

fn add(path: String, value: Value) -> Operation {
    Operation { op: "add", path, value }
}

/// The requirements of a selector that an object does not meet, with the object's value.
fn failing(selector: &Selector, labels: &Labels) -> Vec<(Requirement, Option<String>)> {
    let values = selector.requirements().iter().map(|r| (r.clone(), labels.get(&r.key).cloned()));
    values.filter(|(requirement, value)| !requirement.holds(value.as_deref())).collect()
}

/// The selector with its one or two failing requirements changed, so that they hold.
fn corrected(selector: &Selector, failed: &[(Requirement, Option<String>)], place: &str) -> Option<(u32, Selector, String)> {
    if failed.is_empty() || failed.len() > 2 {
        return None;
    }
    let (mut cost, mut edits) = (0, Vec::new());
    let mut requirements: Vec<Requirement> = selector.requirements().to_vec();
    for (requirement, value) in failed {
        let key = &requirement.key;
        let mut replacement = None;
        match (&requirement.operator, value) {
            (Operator::In(wanted), Some(value)) if value != UNKNOWN_VALUE => {
                let typo = crate::verdict::mistyped(requirement, Some(value));
                let mut values: BTreeSet<String> = wanted.clone();
                match typo {
                    Some(typo) => {
                        cost += TYPO;
                        values.remove(&typo);
                        edits.push(format!("change `{key}: {typo}` to `{key}: {value}` in {place}"));
                    }
                    None => {
                        cost += REQUIREMENT;
                        edits.push(format!("also match `{key}={value}` in {place}"));
                    }
                }
                values.insert(value.clone());
                replacement = Some(Requirement { key: key.clone(), operator: Operator::In(values) });
            }
            _ => {
                cost += REQUIREMENT;
                edits.push(format!("remove `{requirement}` from {place}"));
            }
        }
        requirements.retain(|kept| kept != requirement);
        requirements.extend(replacement);
    }
    Some((cost, Selector::new(requirements), edits.join(", and ")))
}

/// Entries for these ports; `None` for a set that takes a rule without ports.
fn entries(ports: &PortSet) -> Option<Vec<PortEntry>> {
    if ports.has_other_protocols() {
        return None;
    }
    let of = |protocol| ports.ports(protocol).iter().map(move |(low, high)| PortEntry::Range { protocol, low, high });
    Some(Transport::ALL.into_iter().flat_map(of).collect())
}

/// Peers that hold the other end and as little else as labels can say.
fn peers(snapshot: &Snapshot, missing: &Missing<'_>) -> Vec<Peer> {
    match &missing.other {
        Other::Pod(pod) => {
            let namespaces = if pod.key.namespace == missing.subject.key.namespace {
                NamespaceScope::Own
            } else {
                NamespaceScope::Matching(Selector::new([equals(NAME_LABEL, &pod.key.namespace)]))
            };
            vec![Peer::Pods { namespaces, pods: exact_selector(pod, snapshot) }]
        }
        Other::Addresses(nets) => nets.iter().map(|net| Peer::Block(IpBlock { cidr: *net, except: Vec::new() })).collect(),
    }
}

fn equals(key: &str, value: &str) -> Requirement {
    Requirement { key: key.to_owned(), operator: Operator::In(BTreeSet::from([value.to_owned()])) }
}

/// The fewest labels that select the pod, and no pod of another workload of its namespace where labels can tell them apart.
fn exact_selector(pod: &Pod, snapshot: &Snapshot) -> Selector {
    let neighbours: Vec<&Pod> = snapshot
        .pods
        .range(ObjectKey::new(&pod.key.namespace, String::new())..)
        .take_while(|(key, _)| key.namespace == pod.key.namespace)
        .map(|(_, other)| other)
        .filter(|other| other.owner != pod.owner || other.key == pod.key)
        .collect();
    let lasting = || pod.labels.iter().filter(|(key, value)| !is_generated(key) && *value != UNKNOWN_VALUE);
    let named = NAMES.into_iter().filter_map(|keys| {
        let values = keys.iter().map(|key| pod.labels.get(*key).map(|value| equals(key, value)));
        values.collect::<Option<Vec<_>>>().map(Selector::new)
    });
    let single = lasting().map(|(key, value)| Selector::new([equals(key, value)]));
    let all = Selector::new(lasting().map(|(key, value)| equals(key, value)));
    let is_exact = |selector: &Selector| neighbours.iter().all(|other| other.key == pod.key || !selector.matches(&other.labels));
    let is_of_job = of_job(pod);
    let of_job = is_of_job.iter().map(|requirement| Selector::new([requirement.clone()]));
    let both = Selector::new(all.requirements().iter().cloned().chain(is_of_job.clone()));
    let found = named.chain(single).chain([all].into_iter().filter(|all| !all.is_everything())).chain(of_job).find(is_exact);
    found.unwrap_or(both)
}

/// What distinguishes the pods of a Job or CronJob where their own labels do not: the name of their Job. That of a CronJob's Job is another
/// one at each run.
fn of_job(pod: &Pod) -> Option<Requirement> {
    let value = pod.labels.get(JOB_NAME).filter(|value| *value != UNKNOWN_VALUE);
    let is_job = pod.owner.as_ref().is_some_and(|owner| owner.kind == "Job");
    match value.filter(|_| is_job) {
        Some(value) => Some(equals(JOB_NAME, value)),
        None => pod.labels.contains_key(JOB_NAME).then(|| Requirement { key: JOB_NAME.to_owned(), operator: Operator::Exists }),
    }
}

/// The longest name of an object.
const LONGEST_NAME: usize = 253;

/// A text as a name that API servers accept.
fn object_name(text: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let name: String = text.chars().map(|c| if is_allowed(c) { c } else { '-' }).take(LONGEST_NAME - 3).collect();
    name.trim_matches(['-', '.']).to_owned()
}

/// What the pod's workload is called.
fn own_name(pod: &Pod) -> String {
    pod.owner.as_ref().map_or_else(|| pod.key.name.clone(), |owner| owner.name.clone())
}

fn selector_text(field: &str, selector: &Selector) -> String {
    if selector.is_everything() { format!("an empty `{field}`") } else { format!("the `{field}` `{selector}`") }
}

fn peer_text(peer: &Peer) -> String {
    match peer {
        Peer::Pods { namespaces: NamespaceScope::Own, pods } => selector_text("podSelector", pods),
        Peer::Pods { namespaces: NamespaceScope::Matching(namespaces), pods } => {
            format!("{} with {}", selector_text("namespaceSelector", namespaces), selector_text("podSelector", pods))
        }
        Peer::Block(block) => format!("the `ipBlock` {block}"),
        Peer::Unreadable => "a peer".to_owned(),
    }
}
