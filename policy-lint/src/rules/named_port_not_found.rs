//! A rule that names a port that no container has (S1.53, S1.54).

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, ObjectRef, Rule, Severity};
use policy_core::model::{Direction, NamedPort, Pod, Policy, PortEntry, Ports};
use policy_core::sets::Transport;

use crate::effect::{Effects, Knowledge};

/// A rule names a port that no container of any pod concerned has.
pub static NAMED_PORT_NOT_FOUND: Rule = Rule {
    id: "NP103",
    name: "named-port-not-found",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S1.53",
    event_reason: Some("NamedPortNotFound"),
    summary: "a rule names a port that no container has",
    documentation: Documentation {
        what: "A port name that no container of the selected pods declares (ingress), or that no container of any pod declares (egress), \
               with the protocol of the entry.",
        why: "The entry allows nothing.",
        example: Some(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\n\
             spec: {containers: [{name: web, ports: [{name: http, containerPort: 80}]}]}\n---\n\
             apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\n\
             spec: {podSelector: {}, ingress: [{ports: [{port: https}]}]}\n",
        ),
        fix: "Use the name of a port that the containers declare, or its number.",
        corrected: None,
    },
};

/// The findings of one policy. A port name of an ingress rule is looked up on the pods that the policy selects, and one of an egress rule
/// on all pods that traffic can go to.
pub(crate) fn findings(policy: &Policy, selected: &[&Pod], effects: &Effects<'_>) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    let is_declared = |protocol: Transport, name: &str| {
        let is_it = |port: &NamedPort| port.name == name && port.protocol == protocol;
        selected.iter().any(|pod| pod.ports.iter().any(is_it))
    };
    // A policy that selects no pod yet may select pods with that port.
    for (path, protocol, name) in named(policy, Direction::Ingress).filter(|_| !selected.is_empty()) {
        if !is_declared(protocol, name) {
            let message =
                format!("no pod that the policy selects has a {protocol} port named `{name}`, so this entry allows nothing");
            out.push(finding(policy, "S1.53", path, message));
        }
    }
    for (path, protocol, name) in named(policy, Direction::Egress).filter(|_| effects.knowledge() == Knowledge::Whole) {
        if !effects.has_port(protocol, name) {
            let message = format!("no pod has a {protocol} port named `{name}`, so this entry allows nothing");
            out.push(finding(policy, "S1.54", path, message));
        }
    }
    out
}

fn finding(policy: &Policy, section: &'static str, path: String, message: String) -> Diagnostic {
    let diagnostic = Diagnostic::new(&NAMED_PORT_NOT_FOUND, message)
        .about(ObjectRef::namespaced("NetworkPolicy", &policy.key.namespace, &policy.key.name))
        .at(path)
        .help("use the name of a port that containers declare, or its number");
    Diagnostic { section, ..diagnostic }
}

/// The port names of one direction, with their paths.
fn named(policy: &Policy, direction: Direction) -> impl Iterator<Item = (String, Transport, &str)> {
    let rules = policy.rules(direction).unwrap_or_default().iter().enumerate();
    rules.flat_map(move |(at, rule)| {
        let entries = if let Ports::Listed(entries) = &rule.ports { entries.as_slice() } else { &[] };
        entries.iter().enumerate().filter_map(move |(number, entry)| match entry {
            PortEntry::Named { protocol, name } => {
                Some((format!("spec.{direction}[{at}].ports[{number}].port"), *protocol, name.as_str()))
            }
            PortEntry::Range { .. } | PortEntry::Unreadable => None,
        })
    })
}
