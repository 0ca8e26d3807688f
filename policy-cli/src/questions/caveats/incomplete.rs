//! Caveats about input that may be only a part of what the cluster has: no NetworkPolicy, or no Namespace objects.

use std::collections::BTreeSet;

use policy_core::graph::Endpoint;
use policy_core::model::{Direction, NAME_LABEL, NamespaceScope, ObjectKey, Peer, Peers, Policy};
use policy_core::verdict::{Cause, Reason, SideExplanation};

use crate::output::names::listed;
use crate::questions::evaluation::Evaluation;

/// The caveats of an answer about one connection, of which both sides are explained.
pub(crate) fn of_answer(evaluation: &Evaluation, ends: [&Endpoint; 2], sides: &[SideExplanation]) -> Vec<Reason> {
    let mut out = Vec::new();
    if sides.iter().any(|side| side.cause == Cause::NotIsolated) {
        out.extend(no_policy(evaluation));
        out.extend(policies_without_pods(evaluation));
    }
    for side in sides.iter().filter(|side| matches!(side.cause, Cause::Denied | Cause::Allowed)) {
        let other = if side.direction == Direction::Egress { ends[1] } else { ends[0] };
        let namespaces = other.pods().iter().map(|pod| evaluation.graph.pod_name(*pod).0);
        let undeclared: BTreeSet<&str> = namespaces.filter(|name| evaluation.undeclared.contains(*name)).collect();
        let keys = side.policies.iter().map(|policy| ObjectKey::new(&policy.namespace, &policy.name));
        let policies = keys.filter_map(|key| evaluation.snapshot.policies.get(&key));
        out.extend(unknown_labels(&undeclared, policies.filter(|policy| asks_for_labels(policy, side.direction))));
    }
    out.dedup();
    out
}

/// The caveats of a list.
pub(crate) fn of_list(evaluation: &Evaluation) -> Vec<Reason> {
    let mut out: Vec<Reason> = Vec::new();
    if evaluation.snapshot.workloads.is_empty() {
        out.push("the input has no pods and no workloads".to_owned().into());
    }
    out.extend(no_policy(evaluation));
    out.extend(policies_without_pods(evaluation));
    let undeclared: BTreeSet<&str> = evaluation.undeclared.iter().map(String::as_str).collect();
    let asks = |policy: &&Policy| Direction::ALL.iter().any(|direction| asks_for_labels(policy, *direction));
    out.extend(unknown_labels(&undeclared, evaluation.snapshot.policies.values().filter(asks)));
    out
}

/// Policies in namespaces of which the input has no pod: perhaps their namespace was left out or mistyped, or the pods are in other files.
fn policies_without_pods(evaluation: &Evaluation) -> Option<Reason> {
    let snapshot = &evaluation.snapshot;
    if snapshot.workloads.is_empty() || evaluation.is_live {
        return None;
    }
    let inhabited: BTreeSet<&str> = snapshot.workloads.keys().map(|(namespace, _)| namespace.as_str()).collect();
    let alone = snapshot.policies.keys().filter(|key| !inhabited.contains(key.namespace.as_str())).map(ToString::to_string);
    let alone: Vec<String> = alone.collect();
    let (verb, isolate) = if alone.len() == 1 { ("is", "isolates") } else { ("are", "isolate") };
    (!alone.is_empty())
        .then(|| format!("{} {verb} in a namespace without pods in the input, and so {isolate} nothing", listed(&alone)).into())
}

/// A live cluster says that it has none; files may have been exported without them.
fn no_policy(evaluation: &Evaluation) -> Option<Reason> {
    (evaluation.snapshot.policies.is_empty() && !evaluation.is_live).then(|| {
        "the input has no NetworkPolicy, so nothing is isolated; if the cluster has some, add them (`kubectl get netpol -A -o yaml`)"
            .to_owned()
            .into()
    })
}

/// Whether a rule of the policy selects namespaces by a label that an assumed namespace may lack.
fn asks_for_labels(policy: &Policy, direction: Direction) -> bool {
    policy.rules(direction).unwrap_or_default().iter().any(|rule| match &rule.peers {
        Peers::Everyone => false,
        Peers::Listed(peers) => peers.iter().any(|peer| match peer {
            Peer::Pods { namespaces: NamespaceScope::Matching(selector), .. } => {
                selector.requirements().iter().any(|requirement| requirement.key != NAME_LABEL)
            }
            _ => false,
        }),
    })
}

fn unknown_labels<'p>(undeclared: &BTreeSet<&str>, policies: impl Iterator<Item = &'p Policy>) -> Option<Reason> {
    let policies: Vec<String> = policies.map(|policy| policy.key.to_string()).collect();
    if undeclared.is_empty() || policies.is_empty() {
        return None;
    }
    let namespaces: Vec<String> = undeclared.iter().map(|name| format!("`{name}`")).collect();
    let (noun, verb, its) = if namespaces.len() == 1 { ("Namespace", "is", "its") } else { ("Namespaces", "are", "their") };
    let text = format!(
        "the {noun} {} {verb} not in the input, so {its} labels are unknown; policies that select namespaces by label: {}",
        listed(&namespaces),
        listed(&policies)
    );
    Some(Reason::with_section(text, "S1.36"))
}
