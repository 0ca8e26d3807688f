//! A port name with another protocol. What is found is found by `named_port_not_found`.

use policy_core::diagnostic::{Documentation, Group, Kind, Rule, Severity};

/// The pods give the name to a port of another protocol.
pub static NAMED_PORT_PROTOCOL: Rule = Rule {
    id: "NP116",
    name: "named-port-protocol",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S1.53",
    event_reason: Some("NamedPortNotFound"),
    summary: "a rule names a port of another protocol",
    documentation: Documentation {
        what: "A port name that containers declare, but not with the protocol of the entry.",
        why: "The protocol of an entry is TCP if none is written. The entry allows nothing.",
        example: Some(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: resolver, namespace: shop}\n\
             spec: {containers: [{name: c, ports: [{name: dns, containerPort: 53, protocol: UDP}]}]}\n---\n\
             apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: resolver, namespace: shop}\n\
             spec: {podSelector: {}, ingress: [{ports: [{port: dns}]}]}\n",
        ),
        fix: "Write the protocol of the container's port.",
        corrected: Some(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: resolver, namespace: shop}\n\
             spec: {containers: [{name: c, ports: [{name: dns, containerPort: 53, protocol: UDP}]}]}\n---\n\
             apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: resolver, namespace: shop}\n\
             spec: {podSelector: {}, ingress: [{ports: [{port: dns, protocol: UDP}]}]}\n",
        ),
    },
};
