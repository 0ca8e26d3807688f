//! Address blocks that match pods: network plugins differ in whether they apply (S1.40).

use policy_core::model::{Direction, NamespaceScope, ObjectKey, Peer, Peers, Pod, Rule};
use policy_core::verdict::{Reason, SideExplanation};

use crate::questions::connections::Connection;
use crate::questions::evaluation::Evaluation;

/// A side that is allowed only because a block holds the address of a pod.
pub(super) fn caveats(evaluation: &Evaluation, shown: &Connection, sides: [&SideExplanation; 2]) -> Vec<Reason> {
    let mut out = Vec::new();
    for side in sides {
        let (subject, other) = match side.direction {
            Direction::Egress => (&shown.source, &shown.destination),
            Direction::Ingress => (&shown.destination, &shown.source),
        };
        let (Some(subject), Some(other)) = (evaluation.pod_of(subject), evaluation.pod_of(other)) else { continue };
        let allowing: Vec<_> = side.rules.iter().filter(|rule| !rule.allows.is_empty()).collect();
        let is_by_block = |rule: &&policy_core::verdict::RuleExplanation| {
            let model = model_of(evaluation, &rule.rule.policy, side.direction, rule.rule.index);
            model.is_some_and(|rule| is_only_by_block(evaluation, rule, subject, other))
        };
        if let Some(first) = allowing.first()
            && allowing.iter().all(is_by_block)
        {
            let text = format!(
                "rule {} allows it by an ipBlock that holds the address of {}; some network plugins, such as Cilium, do not apply ipBlock \
                 to pods",
                first.rule,
                workload_of(other)
            );
            out.push(Reason::with_section(text, "S1.40"));
        }
    }
    out
}

/// The name of the pod's workload.
fn workload_of(pod: &Pod) -> String {
    pod.owner.as_ref().map_or_else(|| pod.key.to_string(), |owner| format!("{}/{}", pod.key.namespace, owner.name))
}

fn model_of<'e>(evaluation: &'e Evaluation, policy: &str, direction: Direction, index: u32) -> Option<&'e Rule> {
    let (namespace, name) = policy.split_once('/')?;
    let policy = evaluation.snapshot.policies.get(&ObjectKey::new(namespace, name))?;
    policy.rules(direction)?.get(index as usize)
}

/// Whether the rule lists peers, and none of those that select pods selects this one.
pub(super) fn is_only_by_block(evaluation: &Evaluation, rule: &Rule, subject: &Pod, other: &Pod) -> bool {
    let Peers::Listed(peers) = &rule.peers else { return false };
    let namespace = evaluation.snapshot.namespaces.get(&other.key.namespace);
    !peers.iter().any(|peer| match peer {
        Peer::Pods { namespaces, pods } => {
            let is_there = match namespaces {
                NamespaceScope::Own => subject.key.namespace == other.key.namespace,
                NamespaceScope::Matching(selector) => namespace.is_some_and(|namespace| selector.matches(&namespace.labels)),
            };
            is_there && pods.matches(&other.labels)
        }
        Peer::Block(_) | Peer::Unreadable => false,
    })
}
