//! A policy whose port ranges overlap so much that it is not compiled.

use policy_core::compile::pairs_of_rules;
use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, ObjectRef, Rule, Severity};
use policy_core::model::{Direction, MOST_PEERS, Policy};

/// Port ranges of the policy overlap so much that it is not compiled, and its pods get no traffic.
pub static TOO_MANY_PEERS: Rule = Rule {
    id: "NP102",
    name: "too-many-peers",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S0.6",
    event_reason: Some("TooManyPeers"),
    summary: "the rules of a policy make more pairs of ports and peers than are compiled",
    documentation: Documentation {
        what: "A policy with hundreds of rules whose port ranges overlap. Every port at which a range begins or ends has peers of its own.",
        why: "Such a policy would need hundreds of megabytes in the kernel of every node. It is not compiled, and the pods that it \
              selects get no traffic in this direction.",
        example: None,
        fix: "Use port ranges that do not overlap, or fewer of them.",
        corrected: None,
    },
};

/// The finding for one direction. Policies for the same pods add to each other, so this finds some of what is not compiled.
pub(crate) fn finding(policy: &Policy, direction: Direction) -> Option<Diagnostic> {
    let rules = policy.rules(direction)?;
    (pairs_of_rules(rules) > MOST_PEERS).then(|| {
        let message = format!(
            "the port ranges of its {} rules overlap and make more than {MOST_PEERS} pairs of ports and peers, so the pods that it selects \
             get no {direction} traffic",
            rules.len()
        );
        Diagnostic::new(&TOO_MANY_PEERS, message)
            .about(ObjectRef::namespaced("NetworkPolicy", &policy.key.namespace, &policy.key.name))
            .at(format!("spec.{direction}"))
            .help("use port ranges that do not overlap, or fewer of them")
    })
}
