//! A rule that names a port that no container has (S1.53, S1.54).

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, ObjectRef, Rule, Severity};
use policy_core::model::{Direction, NamedPort, Pod, Policy};
use policy_core::sets::Transport;

use super::named_port_protocol::NAMED_PORT_PROTOCOL;
use crate::effect::{Effects, Knowledge};
use crate::named_ports::NamedEntry;

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
    for entry in NamedEntry::of(policy, Direction::Ingress).filter(|_| !selected.is_empty()) {
        out.extend(finding(entry, is_declared, "S1.53", "no pod that the policy selects"));
    }
    for entry in NamedEntry::of(policy, Direction::Egress).filter(|_| effects.knowledge() == Knowledge::Whole) {
        let is_declared = |protocol, name: &str| effects.has_port(protocol, name);
        out.extend(finding(entry, is_declared, "S1.54", "no pod"));
    }
    out
}

/// The finding about a name that nobody gives to a port of its protocol: of another rule if somebody does to one of another protocol.
fn finding(
    entry: NamedEntry<'_>,
    is_declared: impl Fn(Transport, &str) -> bool,
    section: &'static str,
    who: &str,
) -> Option<Diagnostic> {
    let NamedEntry { policy, transport, name, .. } = entry;
    if is_declared(transport, name) {
        return None;
    }
    let others: Vec<Transport> = Transport::ALL.into_iter().filter(|other| is_declared(*other, name)).collect();
    let nothing = format!("{who} has a {transport} port named `{name}`, so this entry allows nothing");
    let (rule, message, help) = match others.as_slice() {
        [] => (&NAMED_PORT_NOT_FOUND, nothing, "use the name of a port that containers declare, or its number".to_owned()),
        [first, ..] => {
            let names: Vec<&str> = others.iter().map(|other| other.name()).collect();
            let message = format!("{nothing}; `{name}` is a {} port", names.join(" and a "));
            (&NAMED_PORT_PROTOCOL, message, format!("add `protocol: {first}` to the entry, or correct the container"))
        }
    };
    let diagnostic = Diagnostic::new(rule, message)
        .about(ObjectRef::namespaced("NetworkPolicy", &policy.key.namespace, &policy.key.name))
        .at(entry.path())
        .help(help);
    Some(Diagnostic { section, ..diagnostic })
}
