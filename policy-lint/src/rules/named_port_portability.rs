//! Port names, which some engines do not look up (S1.53).

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};

use crate::context::Context;
use crate::named_ports::NamedEntry;

/// A rule names a port.
pub static NAMED_PORT_PORTABILITY: Rule = Rule {
    id: "NP401",
    name: "named-port-portability",
    severity: Severity::Warning,
    group: Group::Portability,
    kind: Kind::NoEffect,
    section: "S1.53",
    event_reason: None,
    summary: "a rule names a port, and some engines do not look up names",
    documentation: Documentation {
        what: "A port that is given by name.",
        why: "OVN-Kubernetes, which OpenShift uses, does not look up names: the entry allows every port of its protocol (ovn-kubernetes/ovn-kubernetes#2117; so in the code of 2025, and named in the tests of OpenShift of July 2026). The policy controller of Amazon EKS leaves out ingress rules with a name whose peers are address blocks (aws/amazon-network-policy-controller-k8s#81, open in March 2024).",
        example: Some(shop!(
            deployment!("web", "name: c, ports: [{name: http, containerPort: 8080}]"),
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{podSelector: {}}]\n    ports: [{port: http}]\n"
            )
        )),
        fix: "Use the number of the port, if the policy is for such an engine.",
        corrected: Some(shop!(
            deployment!("web", "name: c, ports: [{name: http, containerPort: 8080}]"),
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{podSelector: {}}]\n    ports: [{port: 8080}]\n"
            )
        )),
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let finding = |entry: NamedEntry<'_>| {
        let NamedEntry { policy, transport, name, .. } = entry;
        let message =
            format!("OVN-Kubernetes does not look up the port name `{name}`: there, this entry allows every {transport} port");
        context.finding(&NAMED_PORT_PORTABILITY, &policy.key, &entry.path(), message).help("use the number of the port")
    };
    NamedEntry::all(context).map(finding).collect()
}
