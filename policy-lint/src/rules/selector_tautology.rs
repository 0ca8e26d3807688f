//! A requirement that everything meets.

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::{NAME_LABEL, Operator, Requirement, Selector};

use crate::context::{Context, SelectorAt, selectors};

/// A requirement of a selector is met by everything that could exist.
pub static SELECTOR_TAUTOLOGY: Rule = Rule {
    id: "NP305",
    name: "selector-tautology",
    severity: Severity::Info,
    group: Group::Hygiene,
    kind: Kind::NoEffect,
    section: "S1.31",
    event_reason: None,
    summary: "a selector has a requirement that changes nothing",
    documentation: Documentation {
        what: "A requirement that every object meets, such as one of namespaces to have the label `kubernetes.io/metadata.name`, or that every object meets which meets the others, such as `NotIn` beside `In` of other values.",
        why: "It can be removed. It suggests that the selector selects less than it does.",
        example: Some(shop!(
            deployment!("web"),
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - namespaceSelector:\n        matchExpressions: [{key: kubernetes.io/metadata.name, operator: Exists}]\n"
            )
        )),
        fix: "Remove the requirement.",
        corrected: Some(shop!(
            deployment!("web"),
            policy!("web", "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - namespaceSelector: {}\n")
        )),
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for SelectorAt { policy, selector, path, is_of_namespaces } in selectors(context) {
        for requirement in selector.requirements() {
            let Some(why) = why_always(selector, requirement, is_of_namespaces) else { continue };
            let path = format!("{path}.matchExpressions");
            let message = format!("`{requirement}` changes nothing: {why}");
            out.push(context.finding(&SELECTOR_TAUTOLOGY, &policy.key, &path, message).help("remove it"));
        }
    }
    out
}

/// Why everything meets a requirement that meets the others, in words; `None` if something does not.
fn why_always(selector: &Selector, requirement: &Requirement, is_of_namespaces: bool) -> Option<String> {
    let key = &requirement.key;
    match &requirement.operator {
        Operator::Exists => (is_of_namespaces && key == NAME_LABEL).then(|| format!("every namespace has the label `{key}`")),
        Operator::NotIn(values) => {
            let mut others = selector.requirements().iter().filter(|other| other.key == *key && *other != requirement);
            let other = others.find(|other| match &other.operator {
                Operator::In(wanted) => !wanted.is_empty() && wanted.is_disjoint(values),
                Operator::DoesNotExist => true,
                Operator::NotIn(_) | Operator::Exists => false,
            })?;
            Some(format!("`{other}` already says so"))
        }
        Operator::In(_) | Operator::DoesNotExist => None,
    }
}
