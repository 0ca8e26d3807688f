//! The workload or pod of a name.

use std::collections::BTreeSet;

use anyhow::{Error, Result, anyhow, bail};
use policy_core::manifest::{Extent, Makes, PodMaker, nearest};
use policy_core::model::{ObjectKey, WorkloadKey};

use super::{End, hints};
use crate::input::left_out::{self, Kind, LeftOut};
use crate::questions::evaluation::Evaluation;

/// The workload or pod of a name in a namespace. `text` is what was written.
pub(super) fn find(evaluation: &Evaluation, text: &str, namespace: &str, kind: Option<&str>, name: &str) -> Result<End> {
    let is_wanted = |k: &str| kind.is_none_or(|kind| kind == k);
    let mut found: Vec<End> = evaluation
        .snapshot
        .workloads
        .keys()
        .filter(|(ns, owner)| ns == namespace && owner.name == name && is_wanted(&owner.kind))
        .map(|(ns, owner)| End::Workload { namespace: ns.clone(), owner: owner.clone() })
        .collect();
    let key = ObjectKey::new(namespace, name);
    let is_own_workload = found.iter().any(|end| matches!(end, End::Workload { owner, .. } if owner.kind == "Pod"));
    if is_wanted("Pod") && !is_own_workload && evaluation.snapshot.pods.contains_key(&key) {
        found.push(End::Pod(key));
    }
    if found.is_empty() {
        found = generated(evaluation, namespace, kind, name);
        if let [_, _, ..] = found.as_slice() {
            let names: Vec<String> = found.iter().map(|end| format!("`{}`", end.name())).collect();
            bail!("`{namespace}/{name}` is the generateName of several objects; specify one of {}", names.join(", "));
        }
    }
    if found.is_empty() {
        found = made_by(evaluation, namespace, kind, name)?;
    }
    match found.as_slice() {
        [] => Err(hints::maybe_a_name(text, evaluation).unwrap_or_else(|| unknown(evaluation, namespace, kind, name))),
        [end] => ends_somewhere(evaluation, end).map(|()| end.clone()),
        several => {
            let kinds: Vec<String> = several
                .iter()
                .map(|end| match end {
                    End::Workload { owner, .. } => format!("{namespace}/{}/{}", owner.kind.to_lowercase(), owner.name),
                    _ => format!("{namespace}/pod/{name}"),
                })
                .collect();
            bail!("`{namespace}/{name}` is ambiguous; specify one of {}", kinds.join(", "))
        }
    }
}

/// The workloads whose names an API server makes of this `generateName`. Their names are not known, and they are listed with their places.
fn generated(evaluation: &Evaluation, namespace: &str, kind: Option<&str>, name: &str) -> Vec<End> {
    let start = format!("{name}(");
    let is_one = |(ns, owner): &&(String, WorkloadKey)| {
        ns == namespace && owner.name.starts_with(&start) && kind.is_none_or(|kind| kind == owner.kind)
    };
    let found = evaluation.snapshot.workloads.keys().filter(is_one);
    found.map(|(namespace, owner)| End::Workload { namespace: namespace.clone(), owner: owner.clone() }).collect()
}

/// The workloads that the controller of an object has made; none when there is no such object.
///
/// # Errors
/// If there is one, and the input has no pods of it.
fn made_by(evaluation: &Evaluation, namespace: &str, kind: Option<&str>, name: &str) -> Result<Vec<End>> {
    let is_meant = |maker: &&PodMaker| {
        has_name(maker) && maker.namespace == namespace && maker.name == name && kind.is_none_or(|kind| kind == maker.kind)
    };
    let makers: Vec<&PodMaker> = evaluation.snapshot.makers.iter().filter(is_meant).collect();
    let owners: BTreeSet<&WorkloadKey> = makers.iter().flat_map(|maker| &maker.workloads).collect();
    let Some(maker) = makers.first().filter(|_| owners.is_empty()) else {
        let end = |owner: &WorkloadKey| End::Workload { namespace: namespace.to_owned(), owner: owner.clone() };
        return Ok(owners.into_iter().map(end).collect());
    };
    let title = maker.title();
    let article = if title.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    bail!(
        "{namespace}/{name} is {article} {title} ({}): its pods are made by a controller that is not known; use a dump with the pods",
        maker.api_version
    )
}

/// Whether an end has an endpoint.
pub(super) fn has_traffic(evaluation: &Evaluation, end: &End) -> bool {
    end.unit(evaluation).is_none_or(|unit| unit.pods.iter().any(|pod| !evaluation.graph.endpoints_of(*pod).is_empty()))
}

/// A workload without a single endpoint cannot be an end of a connection.
fn ends_somewhere(evaluation: &Evaluation, end: &End) -> Result<()> {
    if has_traffic(evaluation, end) {
        return Ok(());
    }
    let pod = end.pods(evaluation).first().and_then(|key| evaluation.snapshot.pods.get(key));
    let reason = pod.and_then(|pod| pod.not_endpoint_because());
    Err(anyhow!("`{}` has no traffic: its pod {}", end.name(), reason.unwrap_or("does not exist")))
}

/// The error for a name that nothing has. What was left out may have it.
fn unknown(evaluation: &Evaluation, namespace: &str, kind: Option<&str>, name: &str) -> Error {
    let error = not_there(evaluation, namespace, kind, name);
    let is_deployable = |entry: &&LeftOut| matches!(entry.kind, Kind::Kustomization | Kind::Chart | Kind::Helmfile);
    let left_out: Vec<LeftOut> = evaluation.left_out.iter().filter(is_deployable).cloned().collect();
    match left_out::sentences(&left_out).as_slice() {
        [] => error,
        sentences => anyhow!("{error}; {}", sentences.join("; ")),
    }
}

fn not_there(evaluation: &Evaluation, namespace: &str, kind: Option<&str>, name: &str) -> Error {
    let what = match kind {
        Some(kind) => format!("{kind} `{name}` in namespace `{namespace}`"),
        None => format!("pod or workload `{name}` in namespace `{namespace}`"),
    };
    let mut names: BTreeSet<(&str, &str)> =
        evaluation.snapshot.workloads.keys().map(|(ns, o)| (ns.as_str(), o.name.as_str())).collect();
    names.extend(
        evaluation.snapshot.pods.keys().filter(|k| !k.name.contains('/')).map(|k| (k.namespace.as_str(), k.name.as_str())),
    );
    let makers = evaluation.snapshot.makers.iter().filter(|maker| has_name(maker));
    names.extend(makers.map(|maker| (maker.namespace.as_str(), maker.name.as_str())));
    if let Some((set, count)) = numbered(evaluation, namespace, name) {
        return anyhow!(
            "`{namespace}/{name}` is none of the pods of StatefulSet `{set}` that policies name, and {count} pods are too many to list; \
             ask for `{namespace}/statefulset/{set}`"
        );
    }
    let elsewhere: Vec<String> = names.iter().filter(|(_, n)| *n == name).map(|(ns, n)| format!("`{ns}/{n}`")).collect();
    if !elsewhere.is_empty() {
        return anyhow!("there is no {what}; did you mean {}?", elsewhere.join(" or "));
    }
    if !names.iter().any(|(ns, _)| *ns == namespace) {
        return anyhow!("there is no {what}; {}", other_namespaces(&names, namespace, name));
    }
    let own: Vec<&str> = names.iter().filter(|(ns, _)| *ns == namespace).map(|(_, n)| *n).collect();
    match nearest(name, own.iter().copied()) {
        Some(near) => anyhow!("there is no {what}; did you mean `{namespace}/{near}`?"),
        None => {
            let shown: Vec<&str> = own.iter().take(12).copied().collect();
            let more = if own.len() > shown.len() { ", …" } else { "" };
            anyhow!("there is no {what}; the namespace has {}{more}", shown.join(", "))
        }
    }
}

/// A hint for a name in a namespace without pods.
fn other_namespaces(names: &BTreeSet<(&str, &str)>, namespace: &str, name: &str) -> String {
    let known: BTreeSet<&str> = names.iter().map(|(ns, _)| *ns).collect();
    if known.is_empty() {
        return "the input has no pods and no workloads".to_owned();
    }
    match nearest(namespace, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}/{name}`?"),
        None => format!("the namespaces with pods are {}", known.iter().copied().collect::<Vec<_>>().join(", ")),
    }
}

/// The StatefulSet with too many pods to list them that a pod of this name would belong to, and their number.
fn numbered<'n>(evaluation: &Evaluation, namespace: &str, name: &'n str) -> Option<(&'n str, i64)> {
    let (set, number) = name.rsplit_once('-')?;
    number.parse::<u32>().ok()?;
    let owner = WorkloadKey { kind: "StatefulSet".to_owned(), name: set.to_owned() };
    match evaluation.snapshot.workloads.get(&(namespace.to_owned(), owner))?.extent {
        Extent::Named { count } => Some((set, count)),
        Extent::Whole | Extent::Cut => None,
    }
}

/// Whether users can mean the pods of an object by its name. Autoscalers and labels are about pods of others.
fn has_name(maker: &PodMaker) -> bool {
    matches!(maker.makes, Makes::Pods | Makes::Objects)
}
