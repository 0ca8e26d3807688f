//! The kinds of workloads in names: `deploy`, `deployments`, `deployment.apps`, as kubectl accepts and prints them.

use std::collections::BTreeSet;

use crate::questions::evaluation::Evaluation;

/// Short names and plurals.
fn known(word: &str) -> Option<&'static str> {
    Some(match word {
        "po" | "pod" | "pods" => "Pod",
        "deploy" | "deployment" | "deployments" => "Deployment",
        "sts" | "statefulset" | "statefulsets" => "StatefulSet",
        "ds" | "daemonset" | "daemonsets" => "DaemonSet",
        "job" | "jobs" => "Job",
        "cj" | "cronjob" | "cronjobs" => "CronJob",
        "rs" | "replicaset" | "replicasets" => "ReplicaSet",
        "rc" | "replicationcontroller" | "replicationcontrollers" => "ReplicationController",
        "no" | "node" | "nodes" => "Node",
        _ => return None,
    })
}

/// Short names of kinds that are not those of Kubernetes itself.
const SHORT_NAMES: [(&str, &str); 6] = [
    ("dc", "DeploymentConfig"),
    ("ksvc", "Service"),
    ("prom", "Prometheus"),
    ("ro", "Rollout"),
    ("svc", "Service"),
    ("vm", "VirtualMachine"),
];

/// The kinds of what makes pods in the input.
fn of_input(evaluation: &Evaluation) -> BTreeSet<&str> {
    let workloads = evaluation.snapshot.workloads.keys().map(|(_, owner)| owner.kind.as_str());
    workloads.chain(evaluation.snapshot.makers.iter().map(|maker| maker.kind.as_str())).collect()
}

/// Words for Services.
pub(super) fn is_service(word: &str) -> bool {
    ["svc", "service", "services"].contains(&word.to_ascii_lowercase().as_str())
}

/// Words for namespaces.
pub(super) fn is_namespace(word: &str) -> bool {
    ["ns", "namespace", "namespaces"].contains(&word.to_ascii_lowercase().as_str())
}

/// The kind of a word before a slash where a namespace could stand: without a group, the name of a namespace comes first.
pub(super) fn kind_or_namespace(word: &str, evaluation: &Evaluation) -> Option<String> {
    let snapshot = &evaluation.snapshot;
    let is_namespace = || snapshot.namespaces.contains_key(word) || snapshot.makers.iter().any(|maker| maker.namespace == word);
    if known(&word.to_ascii_lowercase()).is_none() && !word.contains('.') && is_namespace() {
        return None;
    }
    kind(word, evaluation)
}

/// The kind of a word before a slash. A group after it (`deployment.apps`) is accepted, and kinds of workloads of the input
/// (`rollout.argoproj.io`).
pub(super) fn kind(word: &str, evaluation: &Evaluation) -> Option<String> {
    let lower = word.to_ascii_lowercase();
    let (singular, group) = lower.split_once('.').map_or((lower.as_str(), ""), |(word, group)| (word, group));
    if let Some(kind) = known(singular) {
        let group = group.rsplit_once('.').map_or(group, |(version, rest)| if version.starts_with('v') { rest } else { group });
        return (group.is_empty() || ["apps", "batch", "v1"].contains(&group)).then(|| kind.to_owned());
    }
    let is_meant = |kind: &&str| {
        let own = kind.to_ascii_lowercase();
        let stem = own.strip_suffix('y').map(|stem| format!("{stem}ies"));
        let forms = [Some(format!("{own}s")), Some(format!("{own}es")), stem, Some(own)];
        forms.iter().flatten().any(|form| form == singular) || SHORT_NAMES.contains(&(singular, kind))
    };
    of_input(evaluation).into_iter().find(is_meant).map(str::to_owned)
}

/// The words for kinds that a message lists.
pub(super) fn expected(evaluation: &Evaluation) -> String {
    let kinds: BTreeSet<String> = of_input(evaluation).into_iter().map(str::to_ascii_lowercase).collect();
    let others: String = kinds.iter().filter(|kind| known(kind).is_none()).map(|kind| format!(", {kind}")).collect();
    format!("pod, deploy, sts, ds, job, cronjob, rs or rc{others}")
}

/// Whether a word is a kind, without a name after it.
pub(super) fn is_kind(word: &str) -> bool {
    known(&word.to_ascii_lowercase()).is_some()
}
