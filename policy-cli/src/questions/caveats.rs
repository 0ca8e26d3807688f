//! Caveats: what could make the cluster behave differently from an answer.
//!
//! - `blocks`: address blocks that match pods.
//! - `incomplete`: input that may be only a part of what the cluster has.
//! - `lists`: the caveats of a list.
//! - `services`: what Services of the input change.

mod blocks;
pub(crate) mod incomplete;
pub(crate) mod lists;
mod services;

use std::collections::{BTreeMap, BTreeSet};

use policy_core::manifest::Unread;
use policy_core::model::Direction;
use policy_core::sets::{Family, PortSet};
use policy_core::verdict::{Reason, SideExplanation};

use super::connections::Connection;
use super::ends::End;
use super::evaluation::Evaluation;
use super::representation;
use super::rows::Question;
use super::scope::Scope;
use crate::input::left_out;
use crate::output::names::listed;
use lists::Listing;

/// The caveats of an answer.
pub(crate) fn caveats(
    evaluation: &Evaluation,
    ends: [&End; 2],
    found: &[Connection],
    shown: &Connection,
    asked: &PortSet,
    explained: [&SideExplanation; 2],
) -> Vec<Reason> {
    let pods = found.iter().flat_map(|c| c.source.pods().iter().chain(c.destination.pods()));
    let of_pods: BTreeSet<&str> = pods.map(|pod| evaluation.graph.pod_name(*pod).0).collect();
    let namespaces: Vec<Option<&str>> = ends.map(End::namespace).into_iter().chain(of_pods.into_iter().map(Some)).collect();
    let of_input = input_caveats(evaluation, &namespaces);
    let mut out: Vec<Reason> = of_input.into_iter().map(Reason::from).collect();
    let sides = [(&shown.source, Direction::Egress, &shown.destination), (&shown.destination, Direction::Ingress, &shown.source)];
    for ((subject, direction, other), end) in sides.into_iter().zip([ends[1], ends[0]]) {
        let ports = if direction == Direction::Egress { &shown.egress } else { &shown.ingress };
        let is_denied = !asked.difference(ports).is_empty();
        if is_denied && evaluation.graph.depends_on_unknown_address(subject, direction, other) {
            let name = end.name();
            let text = format!(
                "the address of {name} is not known until it runs, so ipBlock rules for {direction} are assumed not to match it"
            );
            out.push(text.into());
        }
    }
    for (end, endpoint) in ends.into_iter().zip([&shown.source, &shown.destination]) {
        if endpoint.is_node() && end.namespace().is_some() {
            let text = format!("{} uses the host network: policies treat its traffic as that of its node", end.name());
            out.push(Reason::with_section(text, "S2.8, S2.9"));
        }
    }
    out.extend(services::caveats(evaluation, ends, shown, asked));
    out.extend(blocks::caveats(evaluation, shown, explained));
    out.extend(representation::of_ends(evaluation, ends, found, shown, asked));
    let by_family = |family: Family| -> Option<PortSet> {
        let ports = found.iter().filter(|c| c.source.family() == family).map(|c| c.ports().intersection(asked));
        ports.reduce(|a, b| a.intersection(&b))
    };
    if let (Some(v4), Some(v6)) = (by_family(Family::V4), by_family(Family::V6))
        && v4 != v6
        && found.iter().all(|c| c.outside.is_none())
    {
        let text = format!("the address families differ: {v4} is allowed over IPv4, {v6} over IPv6");
        out.push(Reason::with_section(text, "S2.2"));
    }
    out
}

/// The caveats of a list.
pub(crate) fn of_lists(evaluation: &Evaluation, list: &Listing<'_>) -> Vec<String> {
    let mut out = input_caveats(evaluation, &list.namespaces());
    out.extend(representation::of_lists(evaluation, list));
    out.extend(lists::of_ends(evaluation, list));
    out.extend(incomplete::of_list(evaluation).iter().map(ToString::to_string));
    out
}

/// What could make a cluster allow something else than all answers about the input say.
pub(crate) fn of_everything(evaluation: &Evaluation) -> Vec<String> {
    let question = Question { from: None, to: None, scope: &Scope::all() };
    of_lists(evaluation, &Listing::new(evaluation, &question, None, None))
}

/// What could change answers about these namespaces and is not evaluated, or was not read; `None` is an end without a namespace.
fn input_caveats(evaluation: &Evaluation, namespaces: &[Option<&str>]) -> Vec<String> {
    let not_read = left_out::sentences(&evaluation.left_out);
    let not_read = not_read.into_iter().map(|sentence| format!("not read, but could change this answer: {sentence}"));
    let mut out: Vec<String> = foreign_caveats(evaluation, namespaces).into_iter().chain(not_read).collect();
    out.extend(evaluation.missing.iter().chain(&evaluation.snapshot.not_read).cloned());
    out.extend(unread(evaluation));
    out.extend(contradictions(evaluation));
    out.extend(no_objects(evaluation));
    out.extend(partial_lists(evaluation));
    out.extend(replaced(evaluation));
    out
}

/// What could not be read: a policy among it may deny what is allowed here.
fn unread(evaluation: &Evaluation) -> Option<String> {
    let only_contradictions = evaluation.snapshot.unread.is_empty() && evaluation.errors == evaluation.contradictions.len();
    if !evaluation.has_errors || only_contradictions {
        return None;
    }
    let place = |unread: &Unread| match unread.line {
        0 => unread.file.clone(),
        line => format!("{}:{line}", unread.file),
    };
    let policies: Vec<String> = evaluation.snapshot.unread.iter().filter(|unread| unread.may_be_policy()).map(place).collect();
    Some(match policies.as_slice() {
        [] => "the input has errors; objects that cannot be read allow nothing".to_owned(),
        _ => format!("the input has errors: {} may be a policy that denies what is allowed here", listed(&policies)),
    })
}

/// Objects that files define more than once, each time with another content.
fn contradictions(evaluation: &Evaluation) -> Option<String> {
    let names: Vec<String> = evaluation.contradictions.iter().map(ToString::to_string).collect();
    (!names.is_empty())
        .then(|| format!("the input has errors: of several objects of one name, only the last one counts: {}", listed(&names)))
}

/// Lists of which the other pages are missing.
fn partial_lists(evaluation: &Evaluation) -> Option<String> {
    let places: Vec<String> = evaluation.snapshot.partial_lists.iter().map(ToString::to_string).collect();
    let verb = if places.len() == 1 { "is one page of a list" } else { "are single pages of lists" };
    (!places.is_empty()).then(|| format!("{} {verb}, and the objects of the other pages were not read", listed(&places)))
}

/// Documents that are not Kubernetes objects: an error message in a dump, or a policy in another wrapping, is among them.
fn no_objects(evaluation: &Evaluation) -> Option<String> {
    let places: Vec<String> = evaluation.snapshot.no_objects.iter().map(ToString::to_string).collect();
    let verb = if places.len() == 1 { "is not a Kubernetes object, and was" } else { "are not Kubernetes objects, and were" };
    (!places.is_empty()).then(|| format!("{} {verb} not read", listed(&places)))
}

/// Objects of the live cluster in whose place the answer takes those of files.
fn replaced(evaluation: &Evaluation) -> Option<String> {
    let names: Vec<String> = evaluation.snapshot.replaced.iter().map(ToString::to_string).collect();
    (!names.is_empty())
        .then(|| format!("the answer is for the cluster after the files are applied, which replace {}", listed(&names)))
}

/// Policies that are not evaluated and could apply to these namespaces.
fn foreign_caveats(evaluation: &Evaluation, namespaces: &[Option<&str>]) -> Vec<String> {
    let mut by_kind: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    let mut hooks = Vec::new();
    for foreign in &evaluation.snapshot.foreign {
        let concerns = match &foreign.namespace {
            None => true,
            Some(own) => namespaces.iter().flatten().any(|n| n == own),
        };
        if concerns {
            let name = match &foreign.namespace {
                Some(namespace) => format!("{namespace}/{} ({})", foreign.name, foreign.origin),
                None => format!("{} ({})", foreign.name, foreign.origin),
            };
            match foreign.is_hook {
                true => hooks.push(format!("{} {name}", foreign.kind)),
                false => by_kind.entry((&foreign.kind, &foreign.api_version)).or_default().push(name),
            }
        }
    }
    let text = |((kind, version), names): ((&str, &str), Vec<String>)| {
        format!("not evaluated, but could change this answer: {kind} ({version}): {}", listed(&names))
    };
    let of_hooks =
        (!hooks.is_empty()).then(|| format!("hooks that a cluster has only for a moment are not evaluated: {}", listed(&hooks)));
    by_kind.into_iter().map(text).chain(of_hooks).collect()
}
