//! What the pods of an answer stand for, as caveats of it: templates, pods that do not run yet, labels that are not known, and pods
//! that nothing in the input describes.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::graph::PodId;
use policy_core::manifest::{Basis, Extent, PodMaker, Workload};
use policy_core::model::{ObjectKey, Operator, Placement, Policy, Requirement, Selector, WorkloadKey};
use policy_core::sets::PortSet;
use policy_core::verdict::Reason;

use super::connections::Connection;
use super::ends::End;
use super::evaluation::Evaluation;
use crate::output::names::{self, listed};

/// The caveats of an answer about two ends.
pub(super) fn of_ends(
    evaluation: &Evaluation,
    ends: [&End; 2],
    found: &[Connection],
    shown: &Connection,
    asked: &PortSet,
) -> Vec<Reason> {
    let mut out: Vec<Reason> = Vec::new();
    for (end, other, is_source) in [(ends[0], ends[1], true), (ends[1], ends[0], false)] {
        for pod in pending_of(evaluation, end) {
            let name = if pod == end.name() { pod } else { format!("{pod}, a pod of {},", end.name()) };
            out.push(Reason::with_section(format!("{name} has no address yet; evaluated as the pod that it will be"), "S2.22"));
        }
        let Some(workload) = workload_of(evaluation, end) else { continue };
        if workload.basis == Basis::Template && evaluation.snapshot.has_reported_pods {
            out.push(Reason::with_section(format!("{} has no running pod; evaluated as its template", end.name()), "S2.23"));
        }
        if !workload.unknown_labels.is_empty() && differs_by_pod(found, asked, is_source) {
            let text = format!(
                "the answer depends on {} of {}, whose {} not known before its pods run",
                labels(&workload.unknown_labels),
                end.name(),
                values(&workload.unknown_labels)
            );
            out.push(Reason::with_section(text, "S2.24"));
        }
        out.extend(extent(&end.name(), workload).map(|text| Reason::with_section(text, "S2.24")));
        let is_denied = found.iter().any(|connection| !asked.difference(&connection.ports()).is_empty());
        if is_denied {
            let owner = owner_of(end);
            out.extend(labels_of_object_alone(evaluation, &owner, workload, [end, other]));
        }
    }
    out.extend(own_node(evaluation, ends, shown, asked));
    let namespaces: BTreeSet<&str> = ends.iter().filter_map(|end| end.namespace()).collect();
    let is_near = |maker: &&PodMaker| ends.iter().any(|end| end.namespace().is_none()) || namespaces.contains(&*maker.namespace);
    out.extend(unknown_pods(evaluation.snapshot.unknown_pods().filter(is_near)).into_iter().map(Reason::from));
    let mut seen = BTreeSet::new();
    out.retain(|reason| seen.insert(reason.text.clone()));
    out
}

/// The caveats of a list over all workloads.
pub(super) fn of_lists(evaluation: &Evaluation) -> Vec<String> {
    let snapshot = &evaluation.snapshot;
    let of = |is_meant: &dyn Fn(&Workload) -> bool| -> Vec<String> {
        let meant = snapshot.workloads.iter().filter(|(_, workload)| is_meant(workload));
        meant.map(|((namespace, owner), _)| format!("{namespace}/{}", owner.name)).collect()
    };
    let mut out = Vec::new();
    let is_template = |workload: &Workload| workload.basis == Basis::Template && snapshot.has_reported_pods;
    match of(&is_template).as_slice() {
        [] => {}
        [one] => out.push(format!("{one} has no running pod; evaluated as its template")),
        several => out.push(format!("{} have no running pod; evaluated as their templates", listed(several))),
    }
    let is_pending = |pod: &&ObjectKey| {
        let owner = snapshot.pods.get(*pod).and_then(|found| found.owner.clone());
        let workload = owner.and_then(|owner| snapshot.workloads.get(&(pod.namespace.clone(), owner)));
        workload.is_some_and(|workload| workload.pods.binary_search(pod).is_ok())
    };
    let pending: Vec<String> = snapshot.pending.iter().filter(is_pending).map(ToString::to_string).collect();
    match pending.as_slice() {
        [] => {}
        [one] => out.push(format!("{one} has no address yet; evaluated as the pod that it will be")),
        several => out.push(format!("{} have no address yet; evaluated as the pods that they will be", listed(several))),
    }
    let mut by_labels: BTreeMap<&BTreeSet<String>, Vec<String>> = BTreeMap::new();
    for ((namespace, owner), workload) in &snapshot.workloads {
        let name = format!("{namespace}/{}", owner.name);
        out.extend(extent(&name, workload));
        by_labels.entry(&workload.unknown_labels).or_default().push(name);
    }
    by_labels.remove(&BTreeSet::new());
    for (keys, names) in by_labels {
        let (labels, values, names) = (labels(keys), values(keys), listed(&names));
        out.push(format!(
            "what is allowed for only some pods of {names} may depend on {labels}, whose {values} not known before the pods run"
        ));
    }
    out.extend(unknown_pods(snapshot.unknown_pods()));
    out
}

/// An object whose pods are not known, with its place.
pub(crate) fn named(maker: &PodMaker) -> String {
    format!("{} {}/{} ({})", maker.title(), maker.namespace, maker.name, maker.origin)
}

fn unknown_pods<'m>(makers: impl Iterator<Item = &'m PodMaker>) -> Vec<String> {
    let mut by_kind: BTreeMap<(String, &str), Vec<String>> = BTreeMap::new();
    for maker in makers {
        let name = format!("{}/{} ({})", maker.namespace, maker.name, maker.origin);
        by_kind.entry((maker.title(), &maker.api_version)).or_default().push(name);
    }
    let text = |((title, version), names): ((String, &str), Vec<String>)| {
        format!("pods made by controllers that are not known are not evaluated: {title} ({version}): {}", listed(&names))
    };
    by_kind.into_iter().map(text).collect()
}

fn labels(keys: &BTreeSet<String>) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    format!("the label{} {}", if keys.len() == 1 { "" } else { "s" }, keys.join(" and "))
}

fn values(keys: &BTreeSet<String>) -> &'static str {
    if keys.len() == 1 { "value is" } else { "values are" }
}

fn extent(name: &str, workload: &Workload) -> Option<String> {
    match workload.extent {
        Extent::Whole => None,
        Extent::Named { count } => {
            Some(format!("{name} has {count} pods; evaluated as those that policies name, and one for all others"))
        }
        Extent::Cut => {
            Some(format!("policies distinguish more than {} pods of {name}; some of them are not evaluated", workload.pods.len()))
        }
    }
}

fn workload_of<'e>(evaluation: &'e Evaluation, end: &End) -> Option<&'e Workload> {
    let (namespace, owner) = match end {
        End::Workload { namespace, owner } => (namespace, owner.clone()),
        End::Pod(key) => (&key.namespace, evaluation.snapshot.pods.get(key)?.owner.clone()?),
        _ => return None,
    };
    evaluation.snapshot.workloads.get(&(namespace.clone(), owner))
}

fn owner_of(end: &End) -> WorkloadKey {
    match end {
        End::Workload { owner, .. } => owner.clone(),
        _ => WorkloadKey { kind: "Pod".to_owned(), name: end.name() },
    }
}

/// The pods of an end that have no address yet.
fn pending_of(evaluation: &Evaluation, end: &End) -> Vec<String> {
    let pending = &evaluation.snapshot.pending;
    match end {
        End::Pod(key) => pending.get(key).map(ToString::to_string).into_iter().collect(),
        End::Workload { .. } => {
            let workload = workload_of(evaluation, end);
            let pods = workload.into_iter().flat_map(|workload| &workload.pods).filter(|pod| pending.contains(*pod));
            pods.take(names::MOST).map(ToString::to_string).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether the pods of one end are answered differently.
fn differs_by_pod(found: &[Connection], asked: &PortSet, is_source: bool) -> bool {
    let mut by_pod: BTreeMap<Vec<PodId>, (PortSet, PortSet)> = BTreeMap::new();
    for connection in found {
        let end = if is_source { &connection.source } else { &connection.destination };
        let ports = connection.ports().intersection(asked);
        let (all, some) = by_pod.entry(end.pods().to_vec()).or_insert_with(|| (ports.clone(), ports.clone()));
        (*all, *some) = (all.intersection(&ports), some.union(&ports));
    }
    let mut answers = by_pod.values();
    answers.next().is_some_and(|first| answers.any(|other| other != first))
}

/// Labels that stand on a workload and not on its pods, and that selectors which could apply to its pods ask for. The usual mistake.
fn labels_of_object_alone(evaluation: &Evaluation, owner: &WorkloadKey, workload: &Workload, ends: [&End; 2]) -> Vec<Reason> {
    let namespaces: BTreeSet<&str> = ends.iter().filter_map(|end| end.namespace()).collect();
    let policies = evaluation.snapshot.policies.values().filter(|policy| namespaces.contains(&*policy.key.namespace));
    let selectors: Vec<&Selector> = policies.flat_map(Policy::pod_selectors).collect();
    let is_asked = |(key, value): &(&String, &String)| {
        let is_meant = |requirement: &Requirement| {
            requirement.key == **key
                && matches!(requirement.operator, Operator::In(_) | Operator::Exists)
                && requirement.holds(Some(value))
        };
        selectors.iter().any(|selector| selector.requirements().iter().any(is_meant))
    };
    let name = ends.first().map(|end| end.name()).unwrap_or_default();
    let text = |(key, value): (&String, &String)| {
        Reason::with_section(
            format!(
                "the {} {name} has the label `{key}={value}`, and its pods do not: selectors match the labels in the pod template",
                owner.kind
            ),
            "S1.30",
        )
    };
    workload.own_labels.iter().filter(is_asked).map(text).collect()
}

/// What is denied from the host network of another node, and allowed from the pod's own, where it is not known which node that is.
fn own_node(evaluation: &Evaluation, ends: [&End; 2], shown: &Connection, asked: &PortSet) -> Option<Reason> {
    let is_denied = !asked.difference(&shown.ingress).is_empty();
    if !is_denied || !shown.source.is_node() || shown.destination.pods().is_empty() || ends[0].namespace().is_none() {
        return None;
    }
    let is_somewhere = |end: &End| {
        let of_workload = workload_of(evaluation, end).map(|workload| workload.pods.as_slice()).unwrap_or_default();
        let keys = match end {
            End::Pod(key) => std::slice::from_ref(key),
            _ => of_workload,
        };
        let mut pods = keys.iter().filter_map(|key| evaluation.snapshot.pods.get(key));
        pods.any(|pod| pod.placement == Placement::Somewhere)
    };
    let text = format!(
        "a node can always reach its own pods: where a pod of {} runs on the node of a pod of {}, the connection is allowed",
        ends[0].name(),
        ends[1].name()
    );
    ends.into_iter().any(is_somewhere).then(|| Reason::with_section(text, "S2.11"))
}
