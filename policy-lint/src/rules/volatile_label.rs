//! A label that changes with every revision.

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};

use policy_core::model::Operator;

use crate::context::{Context, SelectorAt, selectors};

/// A selector asks for a label that changes with every revision.
pub static VOLATILE_LABEL: Rule = Rule {
    id: "NP303",
    name: "volatile-label",
    severity: Severity::Warning,
    group: Group::Hygiene,
    kind: Kind::NoEffect,
    section: "S2.24",
    event_reason: None,
    summary: "a selector asks for a label that a controller changes",
    documentation: Documentation {
        what: "A selector that asks for the value of a label that controllers give to each revision or run: `pod-template-hash`, `controller-revision-hash`, `controller-uid`, `batch.kubernetes.io/controller-uid`.",
        why: "After the next rollout or run the selector matches nothing.",
        example: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web, pod-template-hash: 6b7f9}}\n  ingress: []\n",
        ),
        fix: "Select by a label of the template.",
        corrected: None,
    },
};

/// Labels whose values differ between revisions and runs.
const VOLATILE: [&str; 4] =
    ["pod-template-hash", "controller-revision-hash", "controller-uid", "batch.kubernetes.io/controller-uid"];

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for SelectorAt { policy, selector, path, .. } in selectors(context).into_iter().filter(|at| !at.is_of_namespaces) {
        for requirement in selector.requirements() {
            let asks_value = matches!(&requirement.operator, Operator::In(_) | Operator::NotIn(_));
            if asks_value && VOLATILE.contains(&requirement.key.as_str()) {
                let message = format!("the value of the label `{}` changes with every revision of a workload", requirement.key);
                out.push(context.finding(&VOLATILE_LABEL, &policy.key, &path, message).help("select by a label of the template"));
            }
        }
    }
    out
}
