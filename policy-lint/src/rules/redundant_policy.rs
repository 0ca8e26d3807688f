//! A policy that others make superfluous.

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::graph::PolicyId;
use policy_core::model::ObjectKey;
use policy_core::proof::{Redundant, Scope};

use super::redundant_rule::whenever;
use crate::context::Context;

/// Other policies isolate and allow the same.
pub static REDUNDANT_POLICY: Rule = Rule {
    id: "NP302",
    name: "redundant-policy",
    severity: Severity::Info,
    group: Group::Hygiene,
    kind: Kind::NoEffect,
    section: "S3.3",
    event_reason: None,
    summary: "other policies isolate the same pods and allow the same",
    documentation: Documentation {
        what: "A policy without which the same pods are isolated and the same connections allowed: for all pods that could exist, or for the pods of the input.",
        why: "It can be removed. Two policies that say the same will differ one day.",
        example: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny, namespace: shop}\nspec:\n  podSelector: {}\n  policyTypes: [Ingress]\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny-web, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  policyTypes: [Ingress]\n",
        ),
        fix: "Remove the policy, or the others.",
        corrected: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny, namespace: shop}\nspec:\n  podSelector: {}\n  policyTypes: [Ingress]\n",
        ),
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    // What holds for the pods of the input says nothing while others are missing.
    let is_known = |found: &&Redundant<PolicyId>| {
        let (namespace, name) = context.graph.policy_name(found.it);
        found.scope == Scope::Always || context.knows_peers_of(&ObjectKey::new(namespace, name))
    };
    let finding = |found: &Redundant<PolicyId>| {
        let (namespace, name) = context.graph.policy_name(found.it);
        let by: Vec<String> = found.by.iter().map(|policy| context.policy_text(*policy)).collect();
        let verbs = if by.len() == 1 { "isolates the same pods and allows" } else { "isolate the same pods and allow" };
        let message = format!("{} {verbs} everything that this policy does{}", by.join(" and "), whenever(found.scope));
        context
            .finding(&REDUNDANT_POLICY, &ObjectKey::new(namespace, name), "metadata.name", message)
            .help("remove the policy, or the others")
    };
    context.redundancies().policies.iter().filter(is_known).map(finding).collect()
}
