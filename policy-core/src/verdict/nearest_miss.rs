//! The nearest miss: the smallest edit to a rule that would allow what is denied, as far as one rule shows. What else an edit opens is known
//! after it was compiled ([`suggestion`](crate::suggestion)). Labels of pods are never edited.

use serde::Serialize;

use super::question::Question;
use super::reference::{NamespaceFailure, RuleRef, TermFailure, mistyped};
use crate::graph::{PeerRecord, PolicyId, RuleRecord};
use crate::model::{Direction, Operator, Requirement, UNKNOWN_VALUE};
use crate::sets::PortSet;

/// An edit that would allow what one side denies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NearMiss {
    /// The policy that is closest.
    pub policy: String,
    /// The rule to edit; `None` when the policy has no rule in this direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleRef>,
    /// The edit, as an instruction.
    pub edit: String,
}

/// How much an edit changes; smaller is nearer. A corrected typo, an added port, an added label, a peer copied for another
/// namespace, a new peer, a new rule.
const TYPO: u32 = 5;
const PORT: u32 = 10;
const LABEL: u32 = 12;
const NAMESPACE: u32 = 25;
const PEER: u32 = 30;
const RULE: u32 = 100;
/// An edit that also opens what was not asked: a rule of its own is nearer.
const WIDER: u32 = 110;

/// The nearest miss of one side; `missing` is what it does not allow.
pub(crate) fn nearest_miss(question: &Question<'_>, policies: &[PolicyId], missing: &PortSet) -> Option<NearMiss> {
    let mut best: Option<(u32, NearMiss)> = None;
    let mut offer = |cost: u32, miss: NearMiss| {
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, miss));
        }
    };
    for policy in policies {
        let record = question.graph.policies.get(*policy);
        for rule in record.rules(question.direction) {
            if let Some((cost, edit)) = rule_edit(question, rule, missing) {
                let rule = question.graph.rule_ref(*policy, rule);
                offer(cost, NearMiss { policy: rule.policy.clone(), rule: Some(rule), edit });
            }
        }
        let (namespace, name) = question.graph.policy_name(*policy);
        let (list, end) = ends(question.direction);
        let edit = format!("add a rule to `{list}` with {} in {end}{}", question.name, ports_text(missing));
        offer(RULE, NearMiss { policy: format!("{namespace}/{name}"), rule: None, edit });
    }
    best.map(|(_, miss)| miss)
}

fn ends(direction: Direction) -> (&'static str, &'static str) {
    match direction {
        Direction::Ingress => ("ingress", "`from`"),
        Direction::Egress => ("egress", "`to`"),
    }
}

fn ports_text(missing: &PortSet) -> String {
    if missing.is_all() { " that allows all ports".to_owned() } else { format!(" and {missing} in `ports`") }
}

fn rule_edit(question: &Question<'_>, rule: &RuleRecord, missing: &PortSet) -> Option<(u32, String)> {
    let port = port_edit(question, rule, missing);
    let has_peer = question.has_peer(rule);
    let peer = if has_peer { None } else { Some(peer_edit(question, rule)?) };
    let is_shared = rule.peers.as_ref().is_none_or(|peers| peers.len() > 1);
    let widens = |cost: u32, is_widened: bool| if is_widened { cost.max(WIDER) } else { cost };
    match (peer, port) {
        // Ports for one peer are ports for all peers of the rule. A corrected value takes the place of one that matched nothing.
        (Some((a, peer)), Some((b, port))) => Some((widens(a + b, is_shared || a > TYPO), format!("{peer}, and {port}"))),
        (Some((cost, edit)), None) => {
            let has_more = !question.asked.is_all() && !question.rule_ports(rule).difference(missing).is_empty();
            Some((widens(cost, has_more && cost > TYPO), edit))
        }
        (None, Some((cost, edit))) => Some((widens(cost, is_shared), edit)),
        (None, None) => None,
    }
}

fn port_edit(question: &Question<'_>, rule: &RuleRecord, missing: &PortSet) -> Option<(u32, String)> {
    let ports = question.rule_ports(rule);
    let lacking = missing.difference(&ports);
    // A question without ports needs no more than the ports that the rule has.
    if lacking.is_empty() || (question.asked.is_all() && !ports.is_empty()) {
        return None;
    }
    if lacking.has_other_protocols() {
        return Some((PORT, "remove `ports`: only a rule without `ports` allows every protocol".to_owned()));
    }
    Some((PORT, format!("add {lacking} to `ports`")))
}

/// The smallest edit after which a peer of the rule matches the other end.
fn peer_edit(question: &Question<'_>, rule: &RuleRecord) -> Option<(u32, String)> {
    let peers = rule.peers.as_ref()?;
    let (_, end) = ends(question.direction);
    let listed = peers.iter().enumerate().filter_map(|(i, peer)| match peer {
        PeerRecord::Pods(term) => {
            let pod = *question.other.pods().first()?;
            term_edit(question, i, question.graph.term_failure(*term, pod))
        }
        PeerRecord::Block(_) | PeerRecord::Unreadable => None,
    });
    let added = match (question.other.pods().first(), question.other.address()) {
        (None, Some(address)) if question.address_name(address) == address.to_string() => {
            format!("add the `ipBlock` {address}/{} to {end}", if address.is_ipv4() { 32 } else { 128 })
        }
        _ if question.other.is_node() => format!("add `ipBlock` peers with the addresses of the node to {end}"),
        _ => format!("add a peer that matches {} to {end}", question.name),
    };
    listed.chain([(PEER, added)]).min_by_key(|(cost, _)| *cost)
}

fn term_edit(question: &Question<'_>, index: usize, failure: TermFailure) -> Option<(u32, String)> {
    let list = if question.direction == Direction::Ingress { "from" } else { "to" };
    let mut cost = 0;
    let mut edits = Vec::new();
    match failure.namespace {
        NamespaceFailure::None => {}
        NamespaceFailure::Other(_) => {
            let namespace = question.graph.pod_name(*question.other.pods().first()?).0;
            cost += NAMESPACE;
            edits.push(format!(
                "add a peer with the `podSelector` of {list}[{index}] and the `namespaceSelector` `kubernetes.io/metadata.name: {namespace}`"
            ));
        }
        NamespaceFailure::Labels(failed) => {
            for (requirement, value) in failed {
                cost += label_edit(&requirement, value.as_deref(), "namespaceSelector", list, index, &mut edits);
            }
        }
    }
    for (requirement, value) in failure.pods {
        cost += label_edit(&requirement, value.as_deref(), "podSelector", list, index, &mut edits);
    }
    (!edits.is_empty()).then(|| (cost, edits.join(", and ")))
}

fn label_edit(
    requirement: &Requirement,
    value: Option<&str>,
    selector: &str,
    list: &str,
    index: usize,
    edits: &mut Vec<String>,
) -> u32 {
    let key = &requirement.key;
    let place = format!("{list}[{index}].{selector}");
    if let (Some(wanted), Some(value)) = (mistyped(requirement, value), value) {
        edits.push(format!("change `{key}: {wanted}` to `{key}: {value}` in {place}"));
        return TYPO;
    }
    match (&requirement.operator, value) {
        (Operator::In(wanted), Some(value)) if !wanted.is_empty() && value != UNKNOWN_VALUE => {
            edits.push(format!("also match `{key}={value}` in {place}"));
            LABEL
        }
        _ => {
            edits.push(format!("remove `{requirement}` from {place}"));
            WIDER
        }
    }
}
