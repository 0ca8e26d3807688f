//! Rules about pods and their addresses.

use super::super::{Documentation, Group, Kind, Rule, Severity};

/// A pod address that cannot be read.
pub static INVALID_ADDRESS: Rule = Rule {
    id: "NP030",
    name: "invalid-address",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Invalid,
    section: "S2.2",
    event_reason: None,
    summary: "the address of a pod is not an IP address",
    documentation: Documentation {
        what: "An entry of `status.podIPs`, or a `status.podIP`, that is not an IP address.",
        why: "Policies are enforced by address. A pod whose addresses are unknown matches no selector.",
        example: Some(pod!("status: {phase: Running, podIP: 10.0.0}\n")),
        fix: "Correct the address, or take a new snapshot or dump.",
        corrected: None,
    },
};

/// A pod address that is written in an old form.
pub static NONCANONICAL_ADDRESS: Rule = Rule {
    id: "NP031",
    name: "noncanonical-address",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Invalid,
    section: "S2.2",
    event_reason: None,
    summary: "the address of a pod has leading zeros or is IPv4-mapped",
    documentation: Documentation {
        what: "A pod address with leading zeros, or an IPv4-mapped IPv6 address. It is a warning where legacy syntax is accepted.",
        why: "Programs differ in how they read such addresses: as decimal or as octal, as IPv4 or as IPv6.",
        example: Some(pod!("status: {phase: Running, podIP: 10.0.0.01}\n")),
        fix: "Write the address in its canonical form.",
        corrected: None,
    },
};

/// A pod with more than one address of a family.
pub static TOO_MANY_ADDRESSES: Rule = Rule {
    id: "NP032",
    name: "too-many-addresses",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Invalid,
    section: "S2.2",
    event_reason: None,
    summary: "a pod has more than one address of a family",
    documentation: Documentation {
        what: "A pod whose `status.podIPs` has more than one IPv4 address or more than one IPv6 address.",
        why: "Kubernetes gives a pod at most one address of each family, so the input does not come from an API server.",
        example: Some(pod!("status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.2}]}\n")),
        fix: "Remove the addresses that the pod does not have.",
        corrected: None,
    },
};

/// A pod that has an address and no node.
pub static ADDRESS_WITHOUT_NODE: Rule = Rule {
    id: "NP033",
    name: "address-without-node",
    severity: Severity::Warning,
    group: Group::Input,
    kind: Kind::NoEffect,
    section: "S2.1",
    event_reason: None,
    summary: "a pod has an address and no nodeName",
    documentation: Documentation {
        what: "A pod with an address in its status and without `spec.nodeName`.",
        why: "The pod counts as not scheduled, so no policy applies to it.",
        example: Some(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nstatus: {phase: Running, podIP: 10.0.0.1}\n",
        ),
        fix: "Add `spec.nodeName`.",
        corrected: None,
    },
};

/// A pod or a template without containers.
pub static MISSING_CONTAINERS: Rule = Rule {
    id: "NP034",
    name: "missing-containers",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Required,
    section: "S1.1",
    event_reason: None,
    summary: "a pod or the template of a workload has no containers",
    documentation: Documentation {
        what: "A Pod without `spec.containers`, or a workload without containers in its template. Pods with a status are not checked: an API server has \
               accepted them.",
        why: "The API server refuses it. A workload without them is probably a patch: then it does not replace the object that it changes.",
        example: Some("apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\n"),
        fix: "Add the containers. Build a patch together with its base, for example with `kubectl kustomize`.",
        corrected: None,
    },
};

/// A container port that the API server refuses.
pub static INVALID_CONTAINER_PORT: Rule = Rule {
    id: "NP035",
    name: "invalid-container-port",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Invalid,
    section: "S1.55",
    event_reason: None,
    summary: "a container port has no number, or one or a name that cannot exist",
    documentation: Documentation {
        what: "An entry of the `ports` of a container without `containerPort`, with a number outside 1 to 65535, with a name that is not a port name, \
               or with another protocol than TCP, UDP or SCTP.",
        why: "The API server refuses the object. A policy that allows a port by its name allows nothing where no container has the port.",
        example: Some(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec:\n  containers:\n  - name: web\n    ports: [{name: http, containerport: 8080}]\n",
        ),
        fix: "Write `containerPort` with a number from 1 to 65535.",
        corrected: None,
    },
};
