//! A policy that selects no pod.

use super::label_near_miss::{SelectorIn, near};
use crate::context::Context;
use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::Policy;

/// A policy selects no pod.
pub static SELECTS_NOTHING: Rule = Rule {
    id: "NP105",
    name: "selects-nothing",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S1.31",
    event_reason: None,
    summary: "a policy selects no pod",
    documentation: Documentation {
        what: "A policy whose `podSelector` matches no pod, while its namespace has workloads and all of them are known.",
        why: "The policy isolates nothing and allows nothing. The pods that it was written for are open, or closed by others.",
        example: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: db, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: db}}\n  ingress: []\n",
        ),
        fix: "Correct the labels of the selector, or remove the policy.",
        corrected: None,
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let dead = context.policies().filter(|policy| selects_nothing(context, policy));
    let without_other = dead.filter(|policy| {
        let selector = SelectorIn { namespaces: &[&policy.key.namespace], selector: &policy.target };
        policy.target.contradiction().is_none() && near(context, &selector).is_none()
    });
    let finding = |policy: &Policy| {
        let message = format!("no pod of namespace `{}` has the labels {}", policy.key.namespace, policy.target);
        context
            .finding(&SELECTS_NOTHING, &policy.key, "spec.podSelector", message)
            .help("correct the labels, or remove the policy")
    };
    without_other.map(finding).collect()
}

/// Whether a policy selects no pod of any kind, and that is certain.
pub(super) fn selects_nothing(context: &Context<'_>, policy: &Policy) -> bool {
    let is_empty = context.id(policy).is_some_and(|id| context.graph.selected_by_policy(id).is_empty());
    is_empty
        && context.knows_pods_of(&policy.key.namespace)
        && !context.pods_in(&policy.key.namespace).iter().any(|pod| policy.target.matches(&pod.labels))
}
