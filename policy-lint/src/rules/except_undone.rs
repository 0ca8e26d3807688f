//! An exception that another rule undoes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::Direction;
use policy_core::sets::{AddressSet, PortSet, Transport};

use crate::context::Context;
use crate::openings::{Opening, PolicySet, ports_text};

/// Another rule allows what is excepted from a block.
pub static EXCEPT_UNDONE: Rule = Rule {
    id: "NP113",
    name: "except-undone",
    severity: Severity::Error,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S1.43",
    event_reason: None,
    summary: "a rule allows what another one excepts from its address block",
    documentation: Documentation {
        what: "An entry of `except`, of which another rule for the same pods and ports allows some addresses: it allows everyone, or a block that is larger than the exception. A block inside the exception is taken as meant.",
        why: "An exception narrows its own block and nothing else. Rules only add, so the addresses are allowed.",
        example: Some(shop!(
            deployment!("web"),
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}\n  - from:\n    - ipBlock: {cidr: 10.0.0.0/15}\n"
            )
        )),
        fix: "Add the exception to the other block too, or remove it from this one.",
        corrected: Some(shop!(
            deployment!("web"),
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}\n"
            )
        )),
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut found = BTreeMap::new();
    for direction in Direction::ALL {
        for set in context.policy_sets(direction) {
            let openings = context.openings(set, direction);
            for excepting in &openings {
                let exceptions = excepting.block.map_or(0, |(_, block)| block.except.len());
                for at in 0..exceptions {
                    let place = (&excepting.policy.key, format!("{}.except[{at}]", excepting.path()));
                    if found.contains_key(&place) {
                        continue;
                    }
                    let undone = openings.iter().find_map(|other| Undone::by(excepting, at, other));
                    if let Some(undone) = undone {
                        let diagnostic = finding(context, set, excepting, &place.1, &undone);
                        found.insert(place, diagnostic);
                    }
                }
            }
        }
    }
    found.into_values().collect()
}

/// What another rule allows of an exception.
struct Undone<'o, 'a> {
    by: &'o Opening<'a>,
    witness: IpAddr,
    ports: PortSet,
    names: Vec<(Transport, &'a str)>,
}

impl<'o, 'a> Undone<'o, 'a> {
    fn by(excepting: &Opening<'a>, at: usize, other: &'o Opening<'a>) -> Option<Self> {
        let exception = excepting.block?.1.except.get(at)?;
        // A block does not hold its own exceptions, so it undoes none of them.
        let is_larger = other.block.is_none_or(|(_, block)| block.cidr != *exception && block.cidr.contains(exception));
        if !is_larger {
            return None;
        }
        let witness = other.addresses.intersection(&AddressSet::block(*exception)).first()?;
        let is_shared =
            |name: &(Transport, &str)| other.names.contains(name) || *other.ports.ports(name.0) == *PortSet::all().ports(name.0);
        // A port name of an egress rule means nothing at an address that is not a pod's.
        let names = excepting.names.iter().filter(|name| excepting.direction == Direction::Ingress && is_shared(name));
        let (ports, names) = (excepting.ports.intersection(&other.ports), names.copied().collect::<Vec<_>>());
        (!ports.is_empty() || !names.is_empty()).then_some(Self { by: other, witness, ports, names })
    }
}

fn finding(
    context: &Context<'_>,
    set: &PolicySet<'_>,
    excepting: &Opening<'_>,
    path: &str,
    undone: &Undone<'_, '_>,
) -> Diagnostic {
    let Undone { by, witness, ports, names } = undone;
    let is_other_policy = by.policy.key != excepting.policy.key;
    let pods = context.example_of(&set.groups).filter(|_| is_other_policy);
    let pods = pods.map_or_else(String::new, |pod| format!(", for pods such as {pod}"));
    let message = format!(
        "the exception has no effect on {}: {witness} is allowed by {}{pods}",
        ports_text(ports, names),
        by.text(excepting.policy)
    );
    let finding = context.finding(&EXCEPT_UNDONE, &excepting.policy.key, path, message);
    let related = vec![context.related(&by.policy.key, &by.path(), "allows it")];
    Diagnostic { related, ..finding.help("add the exception to the other rule too, or remove it here") }
}
