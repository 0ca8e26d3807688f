//! What a workload will make: the pod of its template, and the labels that controllers add to it (S2.22, S2.24).

use super::pod::{named_ports, sidecar_ports};
use crate::manifest::snapshot::Replicas;
use crate::manifest::wire::{JobSpec, PodTemplateSpec, Workload, WorkloadSpec};
use crate::model::{Addresses, Labels, ObjectKey, Phase, Placement, Pod, WorkloadKey};

/// The number of a pod of a StatefulSet, as a label.
pub(crate) const POD_INDEX: &str = "apps.kubernetes.io/pod-index";
/// The name of a pod of a StatefulSet, as a label.
pub(crate) const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// The number of a pod of an Indexed Job, as a label.
pub(crate) const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The name of the Job of a pod, under both keys.
pub(crate) const JOB_NAMES: &[&str] = &["batch.kubernetes.io/job-name", "job-name"];
const JOB_UIDS: &[&str] = &["batch.kubernetes.io/controller-uid", "controller-uid"];
const REVISION: &[&str] = &["controller-revision-hash"];
const GENERATION: &[&str] = &["pod-template-generation"];
const TEMPLATE_HASH: &[&str] = &["pod-template-hash"];
const ROLLOUT_HASH: &[&str] = &["rollouts-pod-template-hash"];
const DEPLOYMENT_OF_CONFIG: &[&str] = &["deployment"];
const CLONE: &[&str] = &["apps.kruise.io/cloneset-instance-id"];

/// Whether controllers choose the values of a label (S2.24).
#[must_use]
pub fn is_generated(key: &str) -> bool {
    let unknown = [JOB_NAMES, JOB_UIDS, REVISION, GENERATION, TEMPLATE_HASH, ROLLOUT_HASH, DEPLOYMENT_OF_CONFIG, CLONE];
    [POD_INDEX, POD_NAME, COMPLETION_INDEX].contains(&key) || unknown.iter().any(|keys| keys.contains(&key))
}

/// The template of a workload.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Template {
    /// The pod that it makes, with the labels whose values are known, named as a stand-in.
    pub pod: Pod,
    /// Labels that every pod gets, with values that are not known. The keys of an entry have one value in common.
    pub unknown: Vec<&'static [&'static str]>,
    /// The numbers that its pods get.
    pub numbers: Option<Numbers>,
    /// Whether it makes pods: old ReplicaSets of a Deployment do not.
    pub is_active: bool,
}

/// The numbers of the pods of a workload: `count` of them, `first` the lowest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Numbers {
    pub first: i64,
    pub count: i64,
    pub sort: Sort,
}

impl Numbers {
    /// The greatest number.
    pub(crate) fn last(&self) -> i64 {
        self.first.saturating_add(self.count - 1)
    }

    /// A number in the form that controllers write; `None` if no pod has it.
    pub(crate) fn read(&self, text: &str) -> Option<i64> {
        text.parse::<i64>().ok().filter(|number| number.to_string() == text && (self.first..=self.last()).contains(number))
    }
}

/// What the numbers are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Sort {
    /// The ordinals of a StatefulSet, which are in the names of its pods.
    Ordinal,
    /// The indexes of an Indexed Job.
    CompletionIndex,
}

/// The name of what stands for the pods of a template. A slash is in no real name, so it never takes a real pod's place.
fn stand_in(kind: &str, name: &str) -> String {
    format!("{kind}/{name}")
}

/// The template of a workload of Kubernetes, and how many pods it can have.
pub(crate) fn lower_workload(kind: &str, wire: &Workload, key: &ObjectKey) -> (Template, Replicas) {
    let spec = &wire.spec;
    match kind {
        "CronJob" => {
            let JobSpec { parallelism, completions, completion_mode, template } = &spec.job_template.spec;
            let (template, replicas) =
                job(kind, &JobShape { parallelism: *parallelism, completions: *completions, completion_mode, template }, key);
            // Two runs overlap, unless the policy forbids it. The default is `Allow`.
            let is_alone = ["Forbid", "Replace"].contains(&spec.concurrency_policy.as_str());
            let replicas = if is_alone { replicas } else { Replicas::Several };
            (Template { unknown: vec![JOB_NAMES, JOB_UIDS], ..template }, replicas)
        }
        "Job" => lower_job(wire, key),
        "StatefulSet" => {
            let first = spec.ordinals.start.max(0);
            let numbers = Numbers { first, count: spec.replicas.unwrap_or(1).max(1), sort: Sort::Ordinal };
            (Template { unknown: vec![REVISION], numbers: Some(numbers), ..scaled(kind, spec, key) }, Replicas::Numbered)
        }
        "DaemonSet" => (Template { unknown: vec![REVISION, GENERATION], ..scaled(kind, spec, key) }, Replicas::Several),
        "Deployment" => (Template { unknown: vec![TEMPLATE_HASH], ..scaled(kind, spec, key) }, Replicas::Several),
        _ => (scaled(kind, spec, key), Replicas::Several),
    }
}

/// The template of an object that is no workload of Kubernetes and has `spec.template`.
pub(crate) fn lower_template(kind: &str, template: &PodTemplateSpec, key: &ObjectKey) -> Template {
    let mut lowered = plain(kind, template, key);
    match kind {
        "Rollout" => lowered.unknown.push(ROLLOUT_HASH),
        "CloneSet" => lowered.unknown.extend([REVISION, CLONE]),
        "DeploymentConfig" => {
            lowered.pod.labels.insert("deploymentconfig".to_owned(), key.name.clone());
            lowered.unknown.push(DEPLOYMENT_OF_CONFIG);
        }
        _ => {}
    }
    lowered
}

fn lower_job(wire: &Workload, key: &ObjectKey) -> (Template, Replicas) {
    let spec = &wire.spec;
    let WorkloadSpec { parallelism, completions, completion_mode, template, .. } = spec;
    let shape = JobShape { parallelism: *parallelism, completions: *completions, completion_mode, template };
    let (mut template, replicas) = job("Job", &shape, key);
    let labels = &mut template.pod.labels;
    // The API server labels the template itself: it has done so, or it will, unless the author has taken the selector over.
    let is_stored = JOB_UIDS.iter().any(|uid| labels.contains_key(*uid));
    if is_stored || spec.manual_selector {
        return (template, replicas);
    }
    if wire.metadata.name.is_empty() {
        template.unknown.push(JOB_NAMES);
    } else {
        labels.extend(JOB_NAMES.iter().map(|label| ((*label).to_owned(), key.name.clone())));
    }
    template.unknown.push(JOB_UIDS);
    (template, replicas)
}

/// The fields of a Job, which a CronJob has in its `jobTemplate`.
struct JobShape<'a> {
    parallelism: Option<i64>,
    completions: Option<i64>,
    completion_mode: &'a str,
    template: &'a PodTemplateSpec,
}

fn job(kind: &str, spec: &JobShape<'_>, key: &ObjectKey) -> (Template, Replicas) {
    let parallelism = spec.parallelism.unwrap_or(1);
    let template = plain(kind, spec.template, key);
    let count = spec.completions.unwrap_or(parallelism).max(1);
    let numbers = (spec.completion_mode == "Indexed").then_some(Numbers { first: 0, count, sort: Sort::CompletionIndex });
    (Template { numbers, ..template }, if parallelism > 1 { Replicas::Several } else { Replicas::One })
}

fn scaled(kind: &str, spec: &WorkloadSpec, key: &ObjectKey) -> Template {
    Template { is_active: spec.replicas != Some(0), ..plain(kind, &spec.template, key) }
}

fn plain(kind: &str, template: &PodTemplateSpec, key: &ObjectKey) -> Template {
    let pod = Pod {
        uid: None,
        key: ObjectKey::new(&key.namespace, stand_in(kind, &key.name)),
        labels: template.metadata.labels.clone(),
        placement: match template.spec.node_name.as_str() {
            "" => Placement::Somewhere,
            node => Placement::Node(node.to_owned()),
        },
        phase: Phase::Live,
        is_host_network: template.spec.host_network,
        addresses: Addresses::Unknown,
        ports: named_ports(&template.spec),
        sidecar_ports: sidecar_ports(&template.spec),
        owner: Some(WorkloadKey { kind: kind.to_owned(), name: key.name.clone() }),
        is_unknown: false,
    };
    Template { pod, unknown: Vec::new(), numbers: None, is_active: true }
}

/// The template of a Job as that of the workload above it, whose next Job has another name and UID.
pub(crate) fn as_next_job(template: Template) -> Template {
    let mut template = template;
    template.pod.labels.retain(|key, _| !JOB_NAMES.contains(&key.as_str()) && !JOB_UIDS.contains(&key.as_str()));
    Template { unknown: vec![JOB_NAMES, JOB_UIDS], ..template }
}

/// The template of another workload as that of a Rollout.
pub(crate) fn as_rollout(template: Template, kind: &str, key: &ObjectKey) -> Template {
    let pod = Pod {
        key: ObjectKey::new(&key.namespace, stand_in(kind, &key.name)),
        owner: Some(WorkloadKey { kind: kind.to_owned(), name: key.name.clone() }),
        ..template.pod
    };
    Template { pod, unknown: vec![ROLLOUT_HASH], numbers: None, is_active: true }
}

/// The labels of an object that its template lacks.
pub(crate) fn labels_of_object_alone(object: &Labels, template: &Template) -> Labels {
    object.iter().filter(|(key, _)| !template.pod.labels.contains_key(*key)).map(|(k, v)| (k.clone(), v.clone())).collect()
}
