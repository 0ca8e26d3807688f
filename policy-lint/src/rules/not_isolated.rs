//! Pods that no policy isolates (S3.1).

use std::collections::{BTreeMap, BTreeSet};

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, ObjectRef, Rule, Severity};
use policy_core::graph::Decision;
use policy_core::manifest::Workload;
use policy_core::model::{Direction, WorkloadKey};

use crate::context::{Context, named};

/// No policy isolates some pods of a namespace for a direction.
pub static NOT_ISOLATED: Rule = Rule {
    id: "NP205",
    name: "not-isolated",
    severity: Severity::Info,
    group: Group::Security,
    kind: Kind::NoEffect,
    section: "S3.1",
    event_reason: None,
    summary: "no policy isolates some pods of a namespace",
    documentation: Documentation {
        what: "Workloads with pods that no policy isolates for ingress or for egress; one finding for each namespace and direction. Namespaces of Kubernetes itself, whose names begin with `kube-`, are left out.",
        why: "Without a policy that isolates it, a pod accepts connections from everyone, or can connect to everyone.",
        example: Some(shop!(
            deployment!("web"),
            deployment!("db"),
            policy!("db", "  podSelector: {matchLabels: {app: db}}\n  policyTypes: [Ingress, Egress]\n")
        )),
        fix: "Add a policy with `podSelector: {}` and `policyTypes: [Ingress, Egress]` to the namespace, and rules for what is needed.",
        corrected: Some(shop!(
            deployment!("web"),
            deployment!("db"),
            policy!("all", "  podSelector: {}\n  policyTypes: [Ingress, Egress]\n")
        )),
    },
};

/// The workloads of a namespace, and those of them that are open, by [`Direction`].
#[derive(Default)]
struct Open<'a> {
    count: usize,
    egress: BTreeSet<&'a WorkloadKey>,
    ingress: BTreeSet<&'a WorkloadKey>,
}

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut namespaces: BTreeMap<&str, Open<'_>> = BTreeMap::new();
    for ((namespace, key), workload) in &context.snapshot.workloads {
        let (egress, ingress) = (is_open(context, workload, Direction::Egress), is_open(context, workload, Direction::Ingress));
        let (Some(egress), Some(ingress)) = (egress, ingress) else { continue };
        let open = namespaces.entry(namespace).or_default();
        open.count += 1;
        open.egress.extend(egress.then_some(key));
        open.ingress.extend(ingress.then_some(key));
    }
    namespaces.retain(|name, _| !name.starts_with("kube-"));
    let mut out = Vec::new();
    for (namespace, Open { count, egress, ingress }) in namespaces {
        let is_open = !egress.is_empty() || !ingress.is_empty();
        if !is_open || !context.knows_policies_of(namespace) {
            continue;
        }
        if egress == ingress {
            out.push(finding(context, namespace, &egress, count, "ingress or egress"));
        } else {
            let of_direction = [(&egress, "egress"), (&ingress, "ingress")].into_iter().filter(|(open, _)| !open.is_empty());
            out.extend(of_direction.map(|(open, direction)| finding(context, namespace, open, count, direction)));
        }
    }
    out
}

/// Whether no policy isolates a pod of a workload; `None` if none of its pods is an endpoint.
fn is_open(context: &Context<'_>, workload: &Workload, direction: Direction) -> Option<bool> {
    let mut result = None;
    for key in &workload.pods {
        let group = context.graph.pod(&key.namespace, &key.name).and_then(|pod| context.graph.group_of(pod));
        let decision = group.and_then(|group| context.graph.decision(group, direction));
        match decision {
            Some(Decision::Open) => return Some(true),
            Some(Decision::Isolated { .. }) => result = Some(false),
            None => {}
        }
    }
    result
}

fn finding(context: &Context<'_>, namespace: &str, open: &BTreeSet<&WorkloadKey>, count: usize, direction: &str) -> Diagnostic {
    let names: Vec<String> = open.iter().map(|workload| format!("{} {}", workload.kind, workload.name)).collect();
    let all = if open.len() == count { "any pod of the namespace" } else { "the pods of some workloads" };
    let message = format!("no policy isolates {all} for {direction}: {}", named(&names, 5));
    let object = ObjectRef::global("Namespace", namespace);
    let first = open.first().map(|workload| ObjectRef::namespaced(&workload.kind, namespace, &workload.name));
    let places = &context.snapshot.places;
    let place = places.nearest(&object, "metadata.name").or_else(|| places.nearest(&first?, "metadata.name"));
    let finding = Diagnostic::new(&NOT_ISOLATED, message).about(object).at("metadata.name");
    Diagnostic { place, ..finding.help("add a policy with `podSelector: {}` that isolates them, and rules for what is needed") }
}
