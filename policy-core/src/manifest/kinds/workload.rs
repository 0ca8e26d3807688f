//! Workloads, which stand for their pods until these are there. Their lowering is in `lower::pod`.

use serde::Deserialize;

use super::pod::PodSpec;
use super::{Kind, Role};
use crate::diagnostic::ObjectRef;
use crate::manifest::load::Reader;
use crate::manifest::lower::{self, Report};
use crate::manifest::snapshot::WorkloadObject;
use crate::manifest::tree::NodeId;
use crate::manifest::wire::ObjectMeta;

pub(super) static KINDS: [Kind; 7] = [
    workload("ReplicationController", &[""]),
    workload("Deployment", &["apps", "extensions"]),
    workload("ReplicaSet", &["apps", "extensions"]),
    workload("StatefulSet", &["apps"]),
    workload("DaemonSet", &["apps", "extensions"]),
    workload("Job", &["batch"]),
    workload("CronJob", &["batch"]),
];

/// The compiler takes the pods of a workload, and not the workload.
const fn workload(name: &'static str, groups: &'static [&'static str]) -> Kind {
    Kind { name, groups, role: Role::Subject, strict: &[], read, changes: None }
}

/// Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob and ReplicationController.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Workload {
    pub metadata: ObjectMeta,
    pub spec: WorkloadSpec,
}

/// The `spec` of any workload.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct WorkloadSpec {
    pub replicas: Option<i64>,
    pub parallelism: Option<i64>,
    pub template: PodTemplateSpec,
    pub job_template: JobTemplateSpec,
}

/// `JobTemplateSpec`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct JobTemplateSpec {
    pub spec: JobSpec,
}

/// `JobSpec`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct JobSpec {
    pub parallelism: Option<i64>,
    pub template: PodTemplateSpec,
}

/// `PodTemplateSpec`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct PodTemplateSpec {
    pub metadata: ObjectMeta,
    pub spec: PodSpec,
}

fn read(reader: &mut Reader<'_, '_, '_>, node: NodeId, kind: &'static Kind) {
    let kind = kind.name;
    let (wire, mut unread) = reader.decode::<Workload>(node);
    reader.check_workload(node, &wire, &mut unread);
    let key = reader.key(&wire.metadata, node);
    let mut report = Report::new(&unread);
    lower::check_metadata(&wire.metadata, &mut report);
    let errors = report.errors;
    let object = ObjectRef::namespaced(kind, &key.namespace, &key.name);
    reader.tell(node, &object, unread, errors, Vec::new());
    let (pods, replicas) = lower::lower_workload(kind, &wire, &key.namespace);
    if !reader.counts(&object, node, &(&pods, replicas)) {
        return;
    }
    reader.assembly().workloads.push(WorkloadObject {
        kind: kind.to_owned(),
        key,
        controller: lower::controller(&wire.metadata),
        pods,
        replicas,
    });
}
