//! What the pods of an answer stand for, as caveats of it: templates, pods that do not run yet, labels that are not known, and pods
//! that nothing in the input describes.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::graph::PodId;
use policy_core::manifest::{Basis, Extent, Makes, PodMaker, Workload, is_generated};
use policy_core::model::{Labels, ObjectKey, Operator, Placement, Pod, Requirement, Selector, UNKNOWN_VALUE, WorkloadKey};
use policy_core::sets::PortSet;
use policy_core::verdict::Reason;

use super::caveats::lists::Listing;
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
        let deciding = deciding_labels(evaluation, workload, found, asked, is_source);
        if !deciding.is_empty() {
            let text = format!(
                "the answer depends on {} of {}, whose {} not known before its pods run",
                labels(&deciding),
                end.name(),
                values(&deciding)
            );
            out.push(Reason::with_section(text, "S2.24"));
        }
        out.extend(extent(&end.name(), workload).map(|text| Reason::with_section(text, "S2.24")));
        if matches!(end, End::Workload { .. }) {
            out.extend(beside_pods(&end.name(), workload));
        }
        let is_denied = found.iter().any(|connection| !asked.difference(&connection.ports()).is_empty());
        if is_denied {
            let owner = owner_of(end);
            out.extend(labels_of_object_alone(evaluation, &owner, workload, [end, other]));
        }
    }
    out.extend(own_node(evaluation, ends, shown, asked));
    // Pods that are not known change nothing between others. An address may be theirs, and so may a name that they share.
    let may_be_theirs = ends.iter().any(|end| matches!(end, End::Address(_) | End::Block(_) | End::External));
    let namespaces: BTreeSet<&str> = ends.iter().filter_map(|end| end.namespace()).collect();
    let names: BTreeSet<String> = ends.iter().map(|end| end.name()).collect();
    let is_near = |maker: &&PodMaker| match maker.makes {
        Makes::Objects => true,
        Makes::Pods => may_be_theirs || names.contains(&maker.full_name()),
        Makes::Replicas | Makes::Labels => may_be_theirs || namespaces.contains(&*maker.namespace),
    };
    out.extend(unknown_pods(evaluation.snapshot.unknown_pods().filter(is_near)).into_iter().map(Reason::from));
    let mut seen = BTreeSet::new();
    out.retain(|reason| seen.insert(reason.text.clone()));
    out
}

/// The caveat of answers about the workloads that patterns select: pods that are not known may be among them.
pub(crate) fn of_patterns(evaluation: &Evaluation) -> Vec<Reason> {
    let makers = evaluation.snapshot.unknown_pods().filter(|maker| maker.makes != Makes::Objects);
    unknown_pods(makers).into_iter().map(Reason::from).collect()
}

/// The caveat of suggested fixes: a rule for pods may select others that are not known.
pub(super) fn of_fixes(evaluation: &Evaluation, ends: [&End; 2]) -> Option<Reason> {
    let namespaces: BTreeSet<&str> = ends.iter().filter_map(|end| end.namespace()).collect();
    let is_near = |maker: &&PodMaker| maker.makes == Makes::Pods && namespaces.contains(&*maker.namespace);
    let makers: Vec<String> = evaluation.snapshot.unknown_pods().filter(is_near).map(named).collect();
    (!makers.is_empty()).then(|| format!("the suggested fix may also open pods that are not known: {}", listed(&makers)).into())
}

/// The caveats of a list about its workloads.
pub(super) fn of_lists(evaluation: &Evaluation, list: &Listing<'_>) -> Vec<String> {
    let snapshot = &evaluation.snapshot;
    let is_end = |namespace: &str, owner: &WorkloadKey| list.has_workload(namespace, owner);
    let of = |is_meant: &dyn Fn(&Workload) -> bool| -> Vec<String> {
        let meant = snapshot.workloads.iter().filter(|((ns, owner), workload)| is_meant(workload) && is_end(ns, owner));
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
        let owner = owner.filter(|owner| is_end(&pod.namespace, owner));
        let workload = owner.and_then(|owner| snapshot.workloads.get(&(pod.namespace.clone(), owner)));
        workload.is_some_and(|workload| workload.pods.binary_search(pod).is_ok())
    };
    let pending: Vec<String> = snapshot.pending.iter().filter(is_pending).map(ToString::to_string).collect();
    match pending.as_slice() {
        [] => {}
        [one] => out.push(format!("{one} has no address yet; evaluated as the pod that it will be")),
        several => out.push(format!("{} have no address yet; evaluated as the pods that they will be", listed(several))),
    }
    let (mut large, mut cut, mut templates, mut absent) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut by_labels: BTreeMap<&BTreeSet<String>, Vec<String>> = BTreeMap::new();
    for ((namespace, owner), workload) in snapshot.workloads.iter().filter(|((ns, owner), _)| is_end(ns, owner)) {
        let name = format!("{namespace}/{}", owner.name);
        match workload.extent {
            Extent::Whole => {}
            Extent::Named { .. } => large.push(name.clone()),
            Extent::Cut => cut.push(name.clone()),
        }
        absent.extend(workload.absent.iter().map(|pod| format!("{namespace}/{pod}")));
        if !workload.outdated.is_empty() {
            templates.push(name.clone());
        }
        if !workload.unknown_labels.is_empty() && list.is_partial(namespace, owner) {
            by_labels.entry(&workload.unknown_labels).or_default().push(name);
        }
    }
    if !large.is_empty() {
        let names = listed(&large);
        out.push(format!(
            "of workloads with very many pods, those that policies name are evaluated, and one for all others: {names}"
        ));
    }
    if !cut.is_empty() {
        out.push(format!("policies distinguish so many pods that some of them are not evaluated: {}", listed(&cut)));
    }
    if !templates.is_empty() {
        let names = listed(&templates);
        out.push(format!("running pods, which are evaluated, differ from the templates of {names} in what policies ask for"));
    }
    if !absent.is_empty() {
        out.push(format!("policies name pods that do not run and are not evaluated: {}", listed(&absent)));
    }
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
    format!("{} {} ({})", maker.title(), maker.full_name(), maker.origin)
}

fn unknown_pods<'m>(makers: impl Iterator<Item = &'m PodMaker>) -> Vec<String> {
    let mut by_kind: BTreeMap<(String, &str), Vec<String>> = BTreeMap::new();
    let (mut generators, mut scalers, mut labelling) = (Vec::new(), Vec::new(), Vec::new());
    for maker in makers {
        match maker.makes {
            Makes::Pods => {}
            Makes::Objects => generators.push(named(maker)),
            Makes::Replicas => scalers.push(named(maker)),
            Makes::Labels => labelling.push(named(maker)),
        }
        if maker.makes != Makes::Pods {
            continue;
        }
        let name = format!("{} ({})", maker.full_name(), maker.origin);
        by_kind.entry((maker.title(), &maker.api_version)).or_default().push(name);
    }
    let text = |((title, version), names): ((String, &str), Vec<String>)| {
        format!("pods made by controllers that are not known are not evaluated: {title} ({version}): {}", listed(&names))
    };
    let others = [
        (generators, "objects that these make or change may be missing from the input"),
        (scalers, "how many pods of a StatefulSet these make is not known"),
        (labelling, "labels that these give to some of their pods only are not evaluated"),
    ];
    let others = others.into_iter().filter(|(names, _)| !names.is_empty());
    by_kind.into_iter().map(text).chain(others.map(|(names, text)| format!("{text}: {}", listed(&names)))).collect()
}

/// What running pods of a workload leave out of it.
fn beside_pods(name: &str, workload: &Workload) -> Vec<Reason> {
    let mut out = Vec::new();
    if !workload.outdated.is_empty() {
        let parts = workload.outdated.iter().map(String::as_str).collect::<Vec<_>>().join(" and ");
        let text = format!("the template of {name} differs from its running pods, which are evaluated, in {parts}");
        out.push(Reason::with_section(text, "S2.23"));
    }
    if !workload.absent.is_empty() {
        let text = format!("policies name pods of {name} that do not run and are not evaluated: {}", listed(&workload.absent));
        out.push(Reason::with_section(text, "S2.24"));
    }
    out
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

/// The labels of unknown value by which pods of one end, alike in all other labels, are answered differently.
fn deciding_labels(
    evaluation: &Evaluation,
    workload: &Workload,
    found: &[Connection],
    asked: &PortSet,
    is_source: bool,
) -> BTreeSet<String> {
    if workload.unknown_labels.is_empty() {
        return BTreeSet::new();
    }
    let by_pod = answers_by_pod(found, asked, is_source);
    let decides = |key: &&String| {
        let mut answers: BTreeMap<Labels, &Answers> = BTreeMap::new();
        by_pod.iter().filter_map(|(pod, answer)| Some((pod.first()?, answer))).any(|(pod, answer)| {
            let (namespace, name) = evaluation.graph.pod_name(*pod);
            let model = evaluation.snapshot.pods.get(&ObjectKey::new(namespace, name));
            let labels = model.map(|pod| without(&pod.labels, key)).unwrap_or_default();
            *answers.entry(labels).or_insert(answer) != answer
        })
    };
    workload.unknown_labels.iter().filter(decides).cloned().collect()
}

/// The labels of a pod that do not follow from one of them: controllers give several labels one value.
fn without(labels: &Labels, key: &str) -> Labels {
    let value = labels.get(key);
    let follows = |(key, other): &(&String, &String)| is_generated(key) && (*other == UNKNOWN_VALUE || Some(*other) == value);
    labels.iter().filter(|label| !follows(label)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// What all and what some connections of a pod may use.
type Answers = (PortSet, PortSet);

/// The answers for the pods of one end.
fn answers_by_pod(found: &[Connection], asked: &PortSet, is_source: bool) -> BTreeMap<Vec<PodId>, Answers> {
    let mut by_pod: BTreeMap<Vec<PodId>, Answers> = BTreeMap::new();
    for connection in found {
        let end = if is_source { &connection.source } else { &connection.destination };
        let ports = connection.ports().intersection(asked);
        let (all, some) = by_pod.entry(end.pods().to_vec()).or_insert_with(|| (ports.clone(), ports.clone()));
        (*all, *some) = (all.intersection(&ports), some.union(&ports));
    }
    by_pod
}

/// Labels that stand on a workload and not on its pods, and with which a selector that decides about the two ends would select the pods.
/// The usual mistake.
fn labels_of_object_alone(evaluation: &Evaluation, owner: &WorkloadKey, workload: &Workload, ends: [&End; 2]) -> Vec<Reason> {
    let [end, other] = ends;
    let model =
        |end: &End| -> Vec<&Pod> { end.pods(evaluation).iter().filter_map(|key| evaluation.snapshot.pods.get(key)).collect() };
    let (own, others) = (model(end), model(other));
    let own: BTreeSet<&Labels> = own.into_iter().map(|pod| &pod.labels).collect();
    let policies = || evaluation.snapshot.policies.values();
    // The policies of the pods themselves, and the peers of those that apply to the other end.
    let targets = policies().filter(|policy| Some(policy.key.namespace.as_str()) == end.namespace()).map(|policy| &policy.target);
    let of_other = policies().filter(|policy| {
        let is_target = |pod: &&Pod| pod.key.namespace == policy.key.namespace && policy.target.matches(&pod.labels);
        others.iter().any(is_target)
    });
    let selectors: Vec<&Selector> = targets.chain(of_other.flat_map(|policy| policy.pod_selectors().skip(1))).collect();
    let is_asked = |(key, value): &(&String, &String)| {
        let is_meant = |requirement: &Requirement| {
            requirement.key == **key
                && matches!(requirement.operator, Operator::In(_) | Operator::Exists)
                && requirement.holds(Some(value))
        };
        let would_select = |selector: &&Selector| {
            let has = |labels: &&Labels| !selector.matches(labels) && selector.matches(&with(labels, &workload.own_labels));
            selector.requirements().iter().any(is_meant) && own.iter().any(has)
        };
        selectors.iter().any(would_select)
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

/// Labels with others added.
fn with(labels: &Labels, more: &Labels) -> Labels {
    more.iter().chain(labels).map(|(key, value)| (key.clone(), value.clone())).collect()
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
