//! Why a verdict is as it is, rule by rule.

use super::evaluate::Cause;
use super::nearest_miss::{NearMiss, nearest_miss};
use super::question::Question;
use super::reason::Reason;
use super::reference::{NamespaceFailure, PolicyRef, RuleRef, TermFailure, mistyped};
use crate::graph::{AllowGraph, BlockMiss, Endpoint, PeerRecord, PodId, PolicyId, RuleRecord, TermId};
use crate::model::{Direction, PortEntry, Ports, Requirement};
use crate::sets::PortSet;

/// The effect of one rule on one question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleExplanation {
    /// The rule.
    pub rule: RuleRef,
    /// What it allows of what was asked.
    pub allows: PortSet,
    /// Why it does not allow everything that was asked; empty when it does.
    pub misses: Vec<Reason>,
}

/// The answer of one side to a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SideExplanation {
    /// The direction.
    pub direction: Direction,
    /// What this side allows of what was asked.
    pub allows: PortSet,
    /// Why; [`Cause::Allowed`] as soon as something is allowed by rules.
    pub cause: Cause,
    /// Whether a policy isolates the endpoint in this direction.
    pub is_isolated: bool,
    /// The policies that isolate it, sorted by namespace and name.
    pub policies: Vec<PolicyRef>,
    /// Every rule of those policies in this direction, in order.
    pub rules: Vec<RuleExplanation>,
    /// The smallest edit that would allow what is missing.
    pub nearest_miss: Option<NearMiss>,
}

impl AllowGraph {
    /// Explains both sides of a connection. `names` are what the ends are called in the text, source first.
    ///
    /// Cost: linear in the rules of the policies that select the ends.
    #[must_use]
    pub fn explain(
        &self,
        source: &Endpoint,
        destination: &Endpoint,
        is_same: bool,
        asked: &PortSet,
        names: [&str; 2],
    ) -> [SideExplanation; 2] {
        let [from, to] = names;
        [
            self.explain_side(source, Direction::Egress, destination, is_same, asked, to),
            self.explain_side(destination, Direction::Ingress, source, is_same, asked, from),
        ]
    }

    fn explain_side(
        &self,
        subject: &Endpoint,
        direction: Direction,
        other: &Endpoint,
        is_same: bool,
        asked: &PortSet,
        name: &str,
    ) -> SideExplanation {
        let allows = if is_same { asked.clone() } else { self.side_ports(subject, direction, other).intersection(asked) };
        let mut side = SideExplanation {
            direction,
            cause: Cause::NotAnEndpoint,
            is_isolated: false,
            policies: Vec::new(),
            rules: Vec::new(),
            nearest_miss: None,
            allows,
        };
        if is_same {
            side.cause = Cause::SamePod;
            return side;
        }
        if let Some(cause) = self.quarantine_side(subject, direction, other) {
            side.cause = cause;
            return side;
        }
        // With several claimants, the one that denies is the one to explain.
        let denies = |pod: &&PodId| {
            let alone = Endpoint { pods: [**pod].into_iter().collect(), ..subject.clone() };
            self.side_ports(&alone, direction, other).intersection(asked) != *asked
        };
        let Some(pod) = subject.pods().iter().find(denies).or(subject.pods().first()).copied() else { return side };
        let Some(group) = self.group_of(pod) else { return side };
        let policies = self.isolating(group, direction);
        side.is_isolated = !policies.is_empty();
        side.policies = policies.iter().map(|p| self.policy_ref(*p)).collect();
        side.cause = if self.is_exempt(pod, direction, other) {
            Cause::OwnNode
        } else if !self.is_in_scope(pod) {
            Cause::OtherNode
        } else if !side.is_isolated {
            Cause::NotIsolated
        } else if side.allows.is_empty() {
            Cause::Denied
        } else {
            Cause::Allowed
        };
        let question = Question { graph: self, group, direction, other, asked, name };
        side.rules = policies.iter().flat_map(|policy| question.rules(*policy)).collect();
        if let Some(why) = self.too_large.get(&(group, direction)) {
            for rule in &mut side.rules {
                rule.allows = PortSet::default();
                rule.misses = vec![format!("no rule of this direction is applied: {why}").into()];
            }
            return side;
        }
        // A question without ports that is partly allowed has no suggestion for the rest.
        let is_missed = side.allows != *asked && (side.allows.is_empty() || !asked.is_all());
        if matches!(side.cause, Cause::Allowed | Cause::Denied) && is_missed {
            side.nearest_miss = nearest_miss(&question, &policies, &asked.difference(&side.allows));
        }
        side
    }

    /// The policies of the subject's namespace that do not isolate it in this direction, and why. Sorted by name.
    ///
    /// Cost: linear in all policies.
    #[must_use]
    pub fn not_isolating(&self, subject: &Endpoint, direction: Direction, name: &str) -> Vec<(PolicyRef, String)> {
        let Some((pod, group)) = subject.pods().first().and_then(|pod| Some((*pod, self.group_of(*pod)?))) else {
            return Vec::new();
        };
        let namespace = self.groups.key(group).namespace;
        let own = self.policies.iter().filter(|(_, policy)| policy.namespace == namespace);
        let mut out: Vec<(PolicyRef, String)> = own
            .filter_map(|(id, policy)| {
                let is_selected = self.terms.data(policy.target).groups.contains(group);
                let reason = if !is_selected {
                    let failed = self.term_failure(policy.target, pod).pods;
                    let failed = failed.iter().map(|(requirement, value)| mismatch("pod", requirement, value.as_deref(), name));
                    format!("does not select it: {}", failed.collect::<Vec<_>>().join("; "))
                } else if !policy.isolates(direction) {
                    format!("selects it, but does not apply to {direction}")
                } else {
                    return None;
                };
                Some((self.policy_ref(id), reason))
            })
            .collect();
        out.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        out
    }

    /// Whether the verdict depends on an address that is not known: some block of the side's rules holds part of the
    /// family of an end without a known address, and nothing else allows the asked ports.
    #[must_use]
    pub fn depends_on_unknown_address(&self, subject: &Endpoint, direction: Direction, other: &Endpoint) -> bool {
        other.address().is_none()
            && subject.pods().iter().filter_map(|pod| self.group_of(*pod)).any(|group| {
                self.isolating(group, direction)
                    .iter()
                    .any(|policy| self.policies.get(*policy).rules(direction).any(|rule| self.may_hold(rule.peer_set, other)))
            })
    }
}

impl Question<'_> {
    fn rules(&self, policy: PolicyId) -> Vec<RuleExplanation> {
        let record = self.graph.policies.get(policy);
        record.rules(self.direction).map(|rule| self.rule(policy, rule)).collect()
    }

    fn rule(&self, policy: PolicyId, rule: &RuleRecord) -> RuleExplanation {
        let ports = self.rule_ports(rule).intersection(self.asked);
        let mut misses = self.peer_misses(rule);
        let allows = if misses.is_empty() { ports.clone() } else { PortSet::none() };
        if ports != *self.asked {
            misses.push(self.port_miss(rule));
        }
        RuleExplanation { rule: self.graph.rule_ref(policy, rule), allows, misses }
    }

    /// Why no peer of the rule matches the other end; empty if one does.
    fn peer_misses(&self, rule: &RuleRecord) -> Vec<Reason> {
        let Some(peers) = &rule.peers else { return Vec::new() };
        if self.has_peer(rule) {
            return Vec::new();
        }
        let list = match self.direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        let miss = |(index, peer)| {
            let miss = self.peer_miss(peer);
            Reason { text: format!("{list}[{index}]: {}", miss.text), ..miss }
        };
        peers.iter().enumerate().map(miss).collect()
    }

    fn peer_miss(&self, peer: &PeerRecord) -> Reason {
        let other = self.name;
        match peer {
            PeerRecord::Unreadable => Reason::with_section("cannot be read, so it matches nothing", "S1.20"),
            PeerRecord::Block(block) => Reason::from(match BlockMiss::of(block, self.other) {
                BlockMiss::UnknownAddress => {
                    format!("ipBlock {block}: the address of {other} is not known until it runs")
                }
                BlockMiss::Outside(address) => format!("ipBlock {} does not contain {}", block.cidr, self.address_name(address)),
                BlockMiss::Excepted(address, except) => {
                    format!("ipBlock {} excludes {} (except {except})", block.cidr, self.address_name(address))
                }
            }),
            PeerRecord::Pods(term) => match self.other.pods().first() {
                None => {
                    let what = if self.other.is_node() { "is a node" } else { "is not a pod" };
                    Reason::with_section(format!("selects pods, but {other} {what}"), "S1.41")
                }
                Some(pod) => self.term_miss(*term, *pod),
            },
        }
    }

    /// The requirements of a term that a pod does not meet.
    fn term_miss(&self, term: TermId, pod: PodId) -> Reason {
        let other = self.name;
        let TermFailure { namespace, pods } = self.graph.term_failure(term, pod);
        let mut out = Vec::new();
        match namespace {
            NamespaceFailure::None => {}
            NamespaceFailure::Other(name) => out.push(format!("selects only pods in namespace {name}")),
            NamespaceFailure::Labels(failed) => {
                let namespace = format!("namespace {}", self.graph.pod_name(pod).0);
                let failed = failed.iter();
                out.extend(failed.map(|(requirement, value)| mismatch("namespace", requirement, value.as_deref(), &namespace)));
            }
        }
        out.extend(pods.iter().map(|(requirement, value)| mismatch("pod", requirement, value.as_deref(), other)));
        if out.is_empty() {
            // It matches this pod, but not another one with the same address.
            return Reason::with_section(format!("does not match every pod that has the address of {other}"), "S2.5");
        }
        out.join("; ").into()
    }

    fn port_miss(&self, rule: &RuleRecord) -> Reason {
        let Ports::Listed(entries) = &rule.ports else { return String::new().into() };
        let is_shown = |(at, entry): &(usize, &PortEntry)| !is_covered(entries, *at, entry);
        let list: Vec<String> = entries
            .iter()
            .enumerate()
            .filter(is_shown)
            .map(|(_, entry)| match entry {
                PortEntry::Named { protocol, name } => {
                    let numbers: Vec<String> =
                        self.numbers(name).iter().filter(|(t, _)| t == protocol).map(|(_, number)| number.to_string()).collect();
                    let meaning = if numbers.is_empty() {
                        format!("the destination has no {protocol} port with this name")
                    } else {
                        numbers.join(", ")
                    };
                    format!("{protocol} {name} ({meaning})")
                }
                // `TCP 80`, as in the rest of the answer.
                other => other.to_string().replacen('/', " ", 1),
            })
            .collect();
        format!("ports: allows only {}", list.join(", ")).into()
    }
}

/// Whether another entry of the list allows all that this one does.
fn is_covered(entries: &[PortEntry], at: usize, entry: &PortEntry) -> bool {
    let is_in = |other: &PortEntry| match (other, entry) {
        (PortEntry::Range { protocol, low, high }, PortEntry::Range { protocol: own, low: first, high: last }) => {
            protocol == own && low <= first && last <= high
        }
        (PortEntry::Range { protocol, low: 1, high: u16::MAX }, PortEntry::Named { protocol: own, .. }) => protocol == own,
        _ => false,
    };
    // Of two equal entries, the first is shown.
    entries.iter().enumerate().any(|(place, other)| place != at && is_in(other) && (other != entry || place < at))
}

/// A requirement on a label of a pod or namespace that the object does not meet, and the label that it has.
fn mismatch(kind: &str, requirement: &Requirement, value: Option<&str>, object: &str) -> String {
    let found = match value {
        None => format!("{object} has no label `{}`", requirement.key),
        Some(value) => format!("{object} has `{}={value}`", requirement.key),
    };
    let hint = match (mistyped(requirement, value), value) {
        (Some(_), Some(value)) => format!(" (did you mean `{value}`?)"),
        _ => String::new(),
    };
    format!("requires {kind} label `{requirement}`, but {found}{hint}")
}
