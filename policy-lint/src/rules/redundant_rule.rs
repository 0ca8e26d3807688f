//! A rule that other rules make superfluous.

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::ObjectKey;
use policy_core::proof::{Redundant, RuleAt, Scope};

use crate::context::Context;

/// Other rules allow everything that a rule allows.
pub static REDUNDANT_RULE: Rule = Rule {
    id: "NP301",
    name: "redundant-rule",
    severity: Severity::Info,
    group: Group::Hygiene,
    kind: Kind::NoEffect,
    section: "S3.3",
    event_reason: None,
    summary: "other rules allow everything that a rule allows",
    documentation: Documentation {
        what: "A rule without which the same connections are allowed: for all pods that could exist, or for the pods of the input.",
        why: "It can be removed. Who later removes the other rule may not expect that this one keeps the connections open.",
        example: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api, namespace: shop}\nspec:\n  selector: {matchLabels: {app: api}}\n  template:\n    metadata: {labels: {app: api}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{podSelector: {}}]\n  - from: [{podSelector: {matchLabels: {app: api}}}]\n    ports: [{port: 8080}]\n",
        ),
        fix: "Remove the rule, or the one that allows more.",
        corrected: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api, namespace: shop}\nspec:\n  selector: {matchLabels: {app: api}}\n  template:\n    metadata: {labels: {app: api}}\n    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{podSelector: {}}]\n",
        ),
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    // What holds for the pods of the input says nothing while others are missing.
    let is_known = |found: &&Redundant<RuleAt>| {
        let (namespace, name) = context.graph.policy_name(found.it.policy);
        found.scope == Scope::Always || context.knows_peers_of(&ObjectKey::new(namespace, name))
    };
    let finding = |found: &Redundant<RuleAt>| {
        let (namespace, name) = context.graph.policy_name(found.it.policy);
        let key = ObjectKey::new(namespace, name);
        let path = format!("spec.{}[{}]", found.it.direction, found.it.index);
        let by: Vec<String> = found.by.iter().map(|rule| text(context, rule, found.it)).collect();
        let message =
            format!("{} {} everything that this rule allows{}", by.join(" and "), verb(by.len()), whenever(found.scope));
        // A policy without rules may be one of other types, and what holds today may not hold tomorrow.
        let gone = context
            .redundancies()
            .rules
            .iter()
            .filter(|other| (other.it.policy, other.it.direction) == (found.it.policy, found.it.direction));
        let rules = context.snapshot.policies.get(&key).and_then(|policy| policy.rules(found.it.direction));
        let is_certain = found.scope == Scope::Always && rules.is_some_and(|rules| rules.len() > gone.count());
        let edit = is_certain.then(|| context.replacement(&key, &path, "")).flatten();
        let finding = context.finding(&REDUNDANT_RULE, &key, &path, message).help("remove the rule, or the one that allows more");
        Diagnostic { edit, ..finding }
    };
    context.redundancies().rules.iter().filter(is_known).map(finding).collect()
}

fn text(context: &Context<'_>, rule: &RuleAt, of: RuleAt) -> String {
    let place = format!("{}[{}]", rule.direction, rule.index);
    if rule.policy == of.policy { place } else { format!("{place} of {}", context.policy_text(rule.policy)) }
}

fn verb(count: usize) -> &'static str {
    if count == 1 { "allows" } else { "allow" }
}

/// What a proof holds for, in words.
pub(super) fn whenever(scope: Scope) -> &'static str {
    match scope {
        Scope::Always => ", whatever pods there are",
        Scope::Now => " for the pods of the input",
    }
}
