//! A selector that one edit would make match.

use super::peer_matches_nothing::matches_nothing;
use super::peers_joined_by_or::joined;
use super::selects_nothing::selects_nothing;
use crate::context::Context;
use policy_core::diagnostic::Edit;
use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::manifest::nearest;
use policy_core::model::{Operator, Peer, Pod, Policy, Requirement, Selector};

/// A selector matches nothing, and would with one edit.
pub static LABEL_NEAR_MISS: Rule = Rule {
    id: "NP107",
    name: "label-near-miss",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S1.31",
    event_reason: None,
    summary: "a selector matches nothing, and would with another spelling of one label",
    documentation: Documentation {
        what: "A selector that matches no pod, and that would match some if one value were spelled a little differently, or if the same value were asked of another label.",
        why: "The policy or the peer has no effect, and the reason is most likely a mistake in writing.",
        example: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api, namespace: shop}\nspec:\n  selector: {matchLabels: {app: api}}\n  template:\n    metadata: {labels: {app: api}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - podSelector: {matchLabels: {app: apy}}\n",
        ),
        fix: "Use the label that the pods have.",
        corrected: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api, namespace: shop}\nspec:\n  selector: {matchLabels: {app: api}}\n  template:\n    metadata: {labels: {app: api}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - podSelector: {matchLabels: {app: api}}\n",
        ),
    },
};

/// A selector of pods in these namespaces.
pub(super) struct SelectorIn<'s> {
    pub namespaces: &'s [&'s str],
    pub selector: &'s Selector,
}

/// What a selector would have to ask for.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Near {
    /// The label that it asks for, and its value.
    asked: (String, String),
    /// The label that pods have, and its value.
    present: (String, String),
}

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for policy in context.policies().filter(|policy| selects_nothing(context, policy)) {
        let selector = SelectorIn { namespaces: &[&policy.key.namespace], selector: &policy.target };
        out.extend(near(context, &selector).map(|near| finding(context, policy, "spec.podSelector", &near)));
    }
    for at in context.peers() {
        let Some(namespaces) = matches_nothing(context, &at).filter(|_| joined(context, &at).is_none()) else { continue };
        let Peer::Pods { pods, .. } = at.peer else { continue };
        let selector = SelectorIn { namespaces: &namespaces, selector: pods };
        let path = format!("{}.podSelector", at.path());
        out.extend(near(context, &selector).map(|near| finding(context, at.policy, &path, &near)));
    }
    out
}

fn finding(context: &Context<'_>, policy: &Policy, path: &str, near: &Near) -> Diagnostic {
    let Near { asked: (key, value), present: (other_key, other_value) } = near;
    let message = format!("no pod has the label `{key}={value}`; there are pods with `{other_key}={other_value}`");
    let path = format!("{path}.matchLabels.{key}");
    // Where only the value differs, its text is replaced.
    let edit: Option<Edit> = (key == other_key).then(|| context.replacement(&policy.key, &path, other_value)).flatten();
    let help = format!("use `{other_key}: {other_value}`");
    Diagnostic { edit, ..context.finding(&LABEL_NEAR_MISS, &policy.key, &path, message).help(help) }
}

/// The only edit of one label that makes a selector match pods; `None` if there are several, or none.
pub(super) fn near(context: &Context<'_>, at: &SelectorIn<'_>) -> Option<Near> {
    let wanted = |requirement: &Requirement| match &requirement.operator {
        Operator::In(values) if values.len() == 1 => values.first().cloned().map(|value| (requirement.key.clone(), value)),
        _ => None,
    };
    let pods = || at.namespaces.iter().flat_map(|namespace| context.pods_in(namespace)).copied();
    let mut found: Option<Near> = None;
    for (place, requirement) in at.selector.requirements().iter().enumerate() {
        let Some((key, value)) = wanted(requirement) else { continue };
        let others =
            || at.selector.requirements().iter().enumerate().filter(|(other, _)| *other != place).map(|(_, other)| other);
        let would_match = |pod: &&Pod| others().all(|other| other.holds(pod.labels.get(&other.key).map(String::as_str)));
        for pod in pods().filter(would_match) {
            let same_key = pod.labels.get(&key).filter(|other| nearest(&value, [other.as_str()]).is_some());
            let same_value = pod.labels.iter().filter(|(other, own)| **own == value && is_alias(&key, other));
            let own = same_key.map(|other| (key.clone(), other.clone()));
            for present in own.into_iter().chain(same_value.map(|(key, value)| (key.clone(), value.clone()))) {
                let near = Near { asked: (key.clone(), value.clone()), present };
                match &found {
                    Some(other) if *other != near => return None,
                    _ => found = Some(near),
                }
            }
        }
    }
    found
}

/// Whether two labels usually name the same: `app` and `app.kubernetes.io/name`.
fn is_alias(one: &str, other: &str) -> bool {
    const NAMES: [&str; 5] = ["app", "name", "k8s-app", "app.kubernetes.io/name", "app.kubernetes.io/instance"];
    const PARTS: [&str; 4] = ["component", "tier", "role", "app.kubernetes.io/component"];
    let last = |key: &str| key.rsplit('/').next().unwrap_or(key).to_owned();
    one != other
        && (last(one) == last(other) || [&NAMES[..], &PARTS[..]].iter().any(|keys| keys.contains(&one) && keys.contains(&other)))
}
