//! A policy that denies everything, beside one that allows everything.

use std::collections::BTreeSet;

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::model::{Direction, Policy};
use policy_core::sets::Family;

use crate::context::Context;
use crate::openings::{Opening, PolicySet};

/// A policy opens to everyone what another one closes.
pub static ISOLATION_UNDONE: Rule = Rule {
    id: "NP206",
    name: "isolation-undone",
    severity: Severity::Warning,
    group: Group::Security,
    kind: Kind::NoEffect,
    section: "S3.3",
    event_reason: None,
    summary: "a policy opens to everyone what another one closes",
    documentation: Documentation {
        what: "A policy that isolates pods for a direction and allows nothing, and another one that allows every port of the same pods to everyone in this direction.",
        why: "Rules only add: the pods are open as if neither policy were there. Sandboxes for programs that nobody trusts often leak like this.",
        example: Some(shop!(
            deployment!("web"),
            policy!("closed", "  podSelector: {}\n  policyTypes: [Ingress]\n---\n"),
            policy!("open", "  podSelector: {matchLabels: {app: web}}\n  ingress: [{}]\n")
        )),
        fix: "List the peers and the ports that are meant, or remove the policy that closes.",
        corrected: None,
    },
};

/// What undoes an isolation.
pub(super) struct Undone<'o, 'a> {
    /// The rule for everyone.
    pub(super) opening: &'o Opening<'a>,
    closing: &'a Policy,
    set: &'o PolicySet<'a>,
}

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let finding = |found: Undone<'_, '_>| {
        let Undone { opening, closing, set } = found;
        let pods =
            context.example_of(&set.groups).map_or_else(|| "the same pods".to_owned(), |pod| format!("pods such as {pod}"));
        let who = match (opening.addresses.covers(Family::V4), opening.addresses.covers(Family::V6)) {
            (true, true) => "every address",
            (true, false) => "every IPv4 address",
            (false, _) => "every IPv6 address",
        };
        let message = format!(
            "this rule opens {pods} to {who} on every port for {}, and {} closes them: they are open",
            opening.direction, closing.key
        );
        let related = vec![context.related(&closing.key, "metadata.name", "closes them")];
        let finding = context.finding(&ISOLATION_UNDONE, &opening.policy.key, &opening.path(), message);
        Diagnostic { related, ..finding.help("list the peers and the ports that are meant") }
    };
    found(context).into_iter().map(finding).collect()
}

/// The rules for everyone on every port, of policies that apply to the pods of others that allow nothing; one for each policy.
pub(super) fn found<'c, 'a>(context: &'c Context<'a>) -> Vec<Undone<'c, 'a>> {
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for direction in Direction::ALL {
        for set in context.policy_sets(direction) {
            let is_closing = |policy: &&&'a Policy| policy.rules(direction).is_some_and(<[_]>::is_empty);
            let Some(closing) = set.policies.iter().find(is_closing) else { continue };
            for opening in context.openings(set, direction) {
                let is_whole = opening.addresses.covers(Family::V4) || opening.addresses.covers(Family::V6);
                if is_whole && opening.ports.is_all() && seen.insert((&opening.policy.key, direction)) {
                    out.push(Undone { opening, closing, set });
                }
            }
        }
    }
    out
}
