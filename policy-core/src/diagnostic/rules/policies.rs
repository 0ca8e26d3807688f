//! Rules about the fields of a `NetworkPolicy`.

use super::super::{Documentation, Group, Kind, Rule, Severity};

/// A label key or value that cannot exist.
pub static INVALID_LABEL: Rule = Rule {
    id: "NP036",
    name: "invalid-label",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Invalid,
    section: "S1.12",
    event_reason: None,
    summary: "a selector or an object has a key or value that is not a label",
    documentation: Documentation {
        what: "A key of a selector, of a pod, of a pod template or of a Namespace that is not a label key, or a value that is not a label value.",
        why: "The API server refuses the object. No object can have such a label.",
        example: Some(policy!("  podSelector:\n    matchLabels: {app: \"web server\"}\n")),
        fix: "Correct the label. In a selector, write it as the pods or namespaces have it.",
        corrected: None,
    },
};

/// An operator that does not exist.
pub static UNKNOWN_OPERATOR: Rule = Rule {
    id: "NP037",
    name: "unknown-operator",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Invalid,
    section: "S1.12",
    event_reason: None,
    summary: "the operator of a selector does not exist",
    documentation: Documentation {
        what: "An operator of `matchExpressions` other than `In`, `NotIn`, `Exists` and `DoesNotExist`.",
        why: "The API server refuses the policy.",
        example: Some(policy!("  podSelector:\n    matchExpressions: [{key: app, operator: Exist}]\n")),
        fix: "Use one of the four operators. Case matters.",
        corrected: None,
    },
};

/// `In` or `NotIn` without values.
pub static MISSING_VALUES: Rule = Rule {
    id: "NP038",
    name: "missing-values",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Required,
    section: "S1.12",
    event_reason: None,
    summary: "In or NotIn has no values",
    documentation: Documentation {
        what: "An expression with the operator `In` or `NotIn` and without `values`.",
        why: "The API server refuses the policy.",
        example: Some(policy!("  podSelector:\n    matchExpressions: [{key: app, operator: In}]\n")),
        fix: "Add at least one value, or use `Exists` or `DoesNotExist`.",
        corrected: None,
    },
};

/// `Exists` or `DoesNotExist` with values.
pub static UNEXPECTED_VALUES: Rule = Rule {
    id: "NP039",
    name: "unexpected-values",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Forbidden,
    section: "S1.12",
    event_reason: None,
    summary: "Exists or DoesNotExist has values",
    documentation: Documentation {
        what: "An expression with the operator `Exists` or `DoesNotExist` and with `values`.",
        why: "The API server refuses the policy.",
        example: Some(policy!("  podSelector:\n    matchExpressions: [{key: app, operator: Exists, values: [web]}]\n")),
        fix: "Remove the values, or use `In` or `NotIn`.",
        corrected: None,
    },
};

/// Rules of a direction that `policyTypes` omits.
pub static RULES_WITHOUT_TYPE: Rule = Rule {
    id: "NP040",
    name: "rules-without-type",
    severity: Severity::Warning,
    group: Group::Input,
    kind: Kind::NoEffect,
    section: "S1.6",
    event_reason: None,
    summary: "rules have no effect because policyTypes does not list their direction",
    documentation: Documentation {
        what: "A policy with rules of a direction that its `policyTypes` does not list.",
        why: "The rules have no effect, and the policy does not isolate pods in that direction.",
        example: Some(policy!("  podSelector: {}\n  policyTypes: [Ingress]\n  egress: [{ports: [{port: 53}]}]\n")),
        fix: "Add the direction to `policyTypes`, or remove the rules.",
        corrected: None,
    },
};

/// More than two policy types.
pub static TOO_MANY_POLICY_TYPES: Rule = Rule {
    id: "NP041",
    name: "too-many-policy-types",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Invalid,
    section: "S1.17",
    event_reason: None,
    summary: "policyTypes has more than two entries",
    documentation: Documentation {
        what: "A `policyTypes` of more than two entries.",
        why: "The API server refuses the policy.",
        example: Some(policy!("  podSelector: {}\n  policyTypes: [Ingress, Egress, Ingress]\n")),
        fix: "List `Ingress` and `Egress` at most once each.",
        corrected: None,
    },
};

/// A policy type that does not exist.
pub static UNKNOWN_POLICY_TYPE: Rule = Rule {
    id: "NP042",
    name: "unknown-policy-type",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::NotSupported,
    section: "S1.17",
    event_reason: None,
    summary: "a policy type is neither Ingress nor Egress",
    documentation: Documentation {
        what: "An entry of `policyTypes` other than `Ingress` and `Egress`.",
        why: "The API server refuses the policy.",
        example: Some(policy!("  podSelector: {}\n  policyTypes: [ingress]\n")),
        fix: "Write `Ingress` or `Egress`. Case matters.",
        corrected: None,
    },
};

/// A peer without fields.
pub static EMPTY_PEER: Rule = Rule {
    id: "NP043",
    name: "empty-peer",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Required,
    section: "S1.16",
    event_reason: None,
    summary: "a peer has no field",
    documentation: Documentation {
        what: "A peer without `podSelector`, `namespaceSelector` and `ipBlock`.",
        why: "The API server refuses the policy. An empty peer does not mean all peers.",
        example: Some(policy!("  podSelector: {}\n  ingress: [{from: [{}]}]\n")),
        fix: "Add a selector or an `ipBlock`. To allow all peers, remove the whole list.",
        corrected: None,
    },
};

/// A peer with a selector and a block.
pub static MIXED_PEER: Rule = Rule {
    id: "NP044",
    name: "mixed-peer",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Forbidden,
    section: "S1.16",
    event_reason: None,
    summary: "a peer has an ipBlock together with a selector",
    documentation: Documentation {
        what: "A peer with `ipBlock` and a `podSelector` or `namespaceSelector`.",
        why: "The API server refuses the policy.",
        example: Some(policy!("  podSelector: {}\n  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]\n")),
        fix: "Write two peers: one with the `ipBlock`, one with the selectors.",
        corrected: None,
    },
};

/// A block without a CIDR.
pub static MISSING_CIDR: Rule = Rule {
    id: "NP045",
    name: "missing-cidr",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Required,
    section: "S1.18",
    event_reason: None,
    summary: "an ipBlock has no CIDR",
    documentation: Documentation {
        what: "An `ipBlock` without `cidr`.",
        why: "The API server refuses the policy.",
        example: Some(policy!("  podSelector: {}\n  ingress: [{from: [{ipBlock: {except: [10.0.0.0/8]}}]}]\n")),
        fix: "Add `cidr`, for example `0.0.0.0/0` for all IPv4 addresses.",
        corrected: None,
    },
};

/// Text that is not a CIDR.
pub static INVALID_CIDR: Rule = Rule {
    id: "NP046",
    name: "invalid-cidr",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Invalid,
    section: "S1.18",
    event_reason: None,
    summary: "a value is not a CIDR",
    documentation: Documentation {
        what: "A `cidr`, or an entry of `except`, that is not a CIDR.",
        why: "The API server refuses the policy.",
        example: Some(policy!("  podSelector: {}\n  ingress: [{from: [{ipBlock: {cidr: 10.0.0.1}}]}]\n")),
        fix: "Write an address and a prefix length, such as `10.0.0.0/8` or `fd00::/64`.",
        corrected: None,
    },
};

/// A CIDR that strict validation refuses.
pub static AMBIGUOUS_CIDR: Rule = Rule {
    id: "NP047",
    name: "ambiguous-cidr",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Invalid,
    section: "S1.19",
    event_reason: None,
    summary: "a CIDR has leading zeros, is IPv4-mapped, or has bits set beyond its prefix",
    documentation: Documentation {
        what: "A CIDR that API servers with strict CIDR validation refuse: one with leading zeros, of an IPv4-mapped IPv6 address, or \
               with bits set beyond the prefix.",
        why: "Programs interpret such a CIDR differently, and the block may not be the intended one.",
        example: Some(policy!("  podSelector: {}\n  ingress: [{from: [{ipBlock: {cidr: 10.0.0.1/8}}]}]\n")),
        fix: "Write the canonical CIDR. `--legacy-cidrs` accepts the old form.",
        corrected: None,
    },
};

/// A CIDR that strict validation refuses, where legacy syntax is accepted.
pub static LEGACY_CIDR: Rule = Rule {
    id: "NP048",
    name: "legacy-cidr",
    severity: Severity::Warning,
    group: Group::Input,
    kind: Kind::NonCanonical,
    section: "S1.19",
    event_reason: None,
    summary: "a CIDR has a form that newer API servers refuse",
    documentation: Documentation {
        what: "The CIDRs of `ambiguous-cidr`, where they are accepted: with `--legacy-cidrs`, in a live cluster, and in a policy that is \
               already stored with the same CIDR.",
        why: "Newer API servers refuse new policies with such a CIDR.",
        example: Some(policy!("  podSelector: {}\n  ingress: [{from: [{ipBlock: {cidr: 10.0.0.1/8}}]}]\n")),
        fix: "Write the canonical CIDR.",
        corrected: None,
    },
};

/// An IPv6 CIDR in an unusual form.
pub static NONCANONICAL_CIDR: Rule = Rule {
    id: "NP049",
    name: "noncanonical-cidr",
    severity: Severity::Warning,
    group: Group::Input,
    kind: Kind::NonCanonical,
    section: "S1.18",
    event_reason: None,
    summary: "a CIDR is not in its canonical form",
    documentation: Documentation {
        what: "An IPv6 CIDR that is unambiguous and not in its canonical form.",
        why: "API servers accept it with a warning.",
        example: Some(policy!("  podSelector: {}\n  ingress: [{from: [{ipBlock: {cidr: \"FD00::/8\"}}]}]\n")),
        fix: "Write the canonical CIDR.",
        corrected: None,
    },
};

/// An exception that is not inside its block.
pub static EXCEPT_OUTSIDE_CIDR: Rule = Rule {
    id: "NP050",
    name: "except-outside-cidr",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Invalid,
    section: "S1.18",
    event_reason: None,
    summary: "an exception is not inside its block",
    documentation: Documentation {
        what: "An entry of `except` that is not inside `cidr`, or not smaller than it.",
        why: "The API server refuses the policy.",
        example: Some(policy!(
            "  podSelector: {}\n  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [192.0.2.0/24]}}]}]\n"
        )),
        fix: "Correct the exception or the block, or remove the exception.",
        corrected: None,
    },
};

/// A protocol that a policy cannot name.
pub static UNSUPPORTED_PROTOCOL: Rule = Rule {
    id: "NP051",
    name: "unsupported-protocol",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::NotSupported,
    section: "S1.14",
    event_reason: None,
    summary: "a protocol is not TCP, UDP or SCTP",
    documentation: Documentation {
        what: "A `protocol` other than `TCP`, `UDP` and `SCTP`.",
        why: "The API server refuses the policy.",
        example: Some(policy!("  podSelector: {}\n  ingress: [{ports: [{protocol: tcp, port: 80}]}]\n")),
        fix: "Write `TCP`, `UDP` or `SCTP`. Case matters. A rule without `ports` allows every protocol.",
        corrected: None,
    },
};

/// A port that cannot exist.
pub static INVALID_PORT: Rule = Rule {
    id: "NP052",
    name: "invalid-port",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Invalid,
    section: "S1.15",
    event_reason: None,
    summary: "a port is neither a port number nor a port name",
    documentation: Documentation {
        what: "A `port` that is not a number from 1 to 65535 and not the name of a port. A quoted number is a name.",
        why: "The API server refuses the policy.",
        example: Some(policy!("  podSelector: {}\n  ingress: [{ports: [{port: \"80\"}]}]\n")),
        fix: "Write a number without quotes, or a name of at most 15 lower-case letters, digits and `-`.",
        corrected: None,
    },
};

/// A range that does not end after its start.
pub static INVALID_END_PORT: Rule = Rule {
    id: "NP053",
    name: "invalid-end-port",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Invalid,
    section: "S1.15",
    event_reason: None,
    summary: "an endPort does not end a range of ports",
    documentation: Documentation {
        what: "An `endPort` above 65535 or below `port`, without `port`, or with the name of a port.",
        why: "The API server refuses the policy.",
        example: Some(policy!("  podSelector: {}\n  ingress: [{ports: [{port: 8000, endPort: 80}]}]\n")),
        fix: "Write the first port of the range as `port`, and the last as `endPort`.",
        corrected: None,
    },
};
