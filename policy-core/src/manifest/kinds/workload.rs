//! Workloads, which stand for their pods until these are there: those of Kubernetes, and objects of any other kind that hold the
//! template of their pods. Their lowering is in `lower::workload`.

use serde::Deserialize;

use super::autoscaler::{self, Scales};
use super::namespace::MetadataOnly;
use super::pod::PodSpec;
use super::{Kind, Role, group_of, named};
use crate::diagnostic::ObjectRef;
use crate::manifest::decode::Faults;
use crate::manifest::foreign::is_upstream;
use crate::manifest::generators;
use crate::manifest::load::Reader;
use crate::manifest::lower::{self, OwnerName, Report, Template};
use crate::manifest::makers::{self, Makes, PodMaker, Templates};
use crate::manifest::snapshot::{Borrower, Replicas, WorkloadObject};
use crate::manifest::tree::NodeId;
use crate::manifest::wire::ObjectMeta;
use crate::model::{ObjectKey, WorkloadKey};

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
    pub ordinals: Ordinals,
    pub parallelism: Option<i64>,
    pub completions: Option<i64>,
    pub completion_mode: String,
    pub manual_selector: bool,
    pub concurrency_policy: String,
    pub template: PodTemplateSpec,
    pub job_template: JobTemplateSpec,
}

/// `StatefulSetOrdinals`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Ordinals {
    pub start: i64,
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
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct JobSpec {
    pub parallelism: Option<i64>,
    pub completions: Option<i64>,
    pub completion_mode: String,
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

/// An object of any other kind that holds the template of its pods.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct TemplateOwner {
    metadata: ObjectMeta,
    spec: TemplateOwnerSpec,
}

/// The `spec` of such an object. Its other fields are its own.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct TemplateOwnerSpec {
    template: PodTemplateSpec,
}

fn read(reader: &mut Reader<'_, '_, '_>, node: NodeId, kind: &'static Kind) {
    read_as(reader, node, kind.name);
}

fn read_as(reader: &mut Reader<'_, '_, '_>, node: NodeId, kind: &str) {
    let (wire, mut unread) = reader.decode::<Workload>(node);
    reader.check_workload(node, &wire, &mut unread);
    reader.check_selector(node, kind, &wire, &mut unread);
    let key = check(reader, node, kind, &wire.metadata, unread);
    let (template, replicas) = lower::lower_workload(kind, &wire, &key);
    let counts = (wire.spec.replicas, wire.spec.parallelism);
    add(reader, node, kind, key, &wire.metadata, counts, (template, replicas));
}

/// Reads an object of a kind that is in no table, if it makes pods: as a workload where its pods are those of its template, and
/// otherwise by its name. Returns whether it does.
pub(in crate::manifest) fn read_other(reader: &mut Reader<'_, '_, '_>, node: NodeId, api_version: &str, kind: &str) -> bool {
    let group = group_of(api_version);
    let is_misplaced = is_upstream(group) && named(kind).is_some();
    if is_misplaced || !reader.assembly().expects_pods {
        return false;
    }
    match autoscaler::read(reader, node, group, kind) {
        Scales::Nothing => {}
        Scales::Known => return true,
        Scales::Unknown => {
            read_maker(reader, node, api_version, kind, Makes::Replicas);
            return true;
        }
    }
    if generators::generates(reader.tree, node, api_version, kind) {
        read_maker(reader, node, api_version, kind, Makes::Objects);
        return true;
    }
    if (group, kind) == ("argoproj.io", "Rollout") && borrow(reader, node, api_version) {
        return true;
    }
    let templates =
        if makers::is_known(api_version, kind) { Templates::Nested } else { makers::templates(reader.tree, node, group) };
    match templates {
        Templates::None => return false,
        Templates::Nested => read_maker(reader, node, api_version, kind, Makes::Pods),
        // OpenKruise: its fields, labels and names are those of Kubernetes.
        Templates::Own if group == "apps.kruise.io" && ["StatefulSet", "DaemonSet"].contains(&kind) => {
            read_as(reader, node, kind)
        }
        Templates::Own => {
            let (wire, unread) = reader.decode::<TemplateOwner>(node);
            let key = check(reader, node, kind, &wire.metadata, unread);
            let template = lower::lower_template(kind, &wire.spec.template, &key);
            note_labels(reader, node, api_version, kind);
            add(reader, node, kind, key, &wire.metadata, (None, None), (template, Replicas::Several));
        }
    }
    true
}

/// Reads a Rollout that takes the template of another workload. Returns whether it is one.
fn borrow(reader: &mut Reader<'_, '_, '_>, node: NodeId, api_version: &str) -> bool {
    let spec = reader.tree.field(node, "spec");
    let Some(target) = spec.and_then(|spec| reader.tree.field(spec, "workloadRef")) else { return false };
    let text = |name| reader.tree.text(target, name).unwrap_or_default().to_owned();
    // Its controller takes templates of Kubernetes' own kinds alone.
    let is_lender = is_upstream(group_of(&text("apiVersion")));
    let target = WorkloadKey { kind: if is_lender { text("kind") } else { String::new() }, name: text("name") };
    let (maker, controller) = describe(reader, node, api_version, "Rollout", Makes::Pods);
    let object = ObjectRef::namespaced("Rollout", &maker.namespace, &maker.name);
    let content = reader.tree.digest_without(node, &["apiVersion", "kind", "metadata", "status"]);
    if reader.counts_as_written(&object, node, &content, &content) {
        note_labels(reader, node, api_version, "Rollout");
        let is_it = |workload: &WorkloadObject| {
            workload.kind == "Rollout" && workload.key == ObjectKey::new(&*maker.namespace, &*maker.name)
        };
        reader.assembly().workloads.retain(|workload| !is_it(workload));
        reader.assembly().borrowers.push(Borrower { maker, controller, target });
    }
    true
}

/// Remembers a Rollout that gives some of its pods more labels: those that are stable, or under test.
fn note_labels(reader: &mut Reader<'_, '_, '_>, node: NodeId, api_version: &str, kind: &str) {
    const METADATA: [&str; 4] = ["activeMetadata", "canaryMetadata", "previewMetadata", "stableMetadata"];
    let tree = reader.tree;
    let strategy = tree.field(node, "spec").and_then(|spec| tree.field(spec, "strategy"));
    let has_labels = |node: NodeId| {
        let own = METADATA.iter().filter_map(|name| tree.field(node, name));
        own.into_iter().any(|metadata| tree.field(metadata, "labels").is_some_and(|labels| !tree.entries(labels).is_empty()))
    };
    if kind == "Rollout" && strategy.is_some_and(|strategy| tree.descendants([strategy]).any(has_labels)) {
        let maker = describe(reader, node, api_version, kind, Makes::Labels);
        reader.assembly().makers.push(maker);
    }
}

/// Remembers an object whose pods are not known.
fn read_maker(reader: &mut Reader<'_, '_, '_>, node: NodeId, api_version: &str, kind: &str, makes: Makes) {
    if let Some(maker) = maker(reader, node, api_version, kind, makes) {
        reader.assembly().makers.push(maker);
    }
}

/// The same, and what controls it; `None` if another one of its name counts.
fn maker(
    reader: &mut Reader<'_, '_, '_>,
    node: NodeId,
    api_version: &str,
    kind: &str,
    makes: Makes,
) -> Option<(PodMaker, Option<OwnerName>)> {
    let (maker, controller) = describe(reader, node, api_version, kind, makes);
    let own = (!maker.namespace.is_empty()).then_some(maker.namespace.as_str());
    reader.counts_by_text(node, api_version, kind, own, &maker.name).then_some((maker, controller))
}

/// What is remembered of it. Nothing but its names is read, so nothing else can be wrong.
fn describe(
    reader: &mut Reader<'_, '_, '_>,
    node: NodeId,
    api_version: &str,
    kind: &str,
    makes: Makes,
) -> (PodMaker, Option<OwnerName>) {
    let (wire, _) = reader.decode::<MetadataOnly>(node);
    let ObjectKey { namespace, name } = reader.key(&wire.metadata, node);
    // Many of these kinds are in no namespace.
    let namespace = if makes == Makes::Objects { wire.metadata.namespace.clone() } else { namespace };
    let maker = PodMaker {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace,
        name,
        origin: reader.origin(node),
        makes,
        workloads: Vec::new(),
    };
    (maker, lower::controller(&wire.metadata))
}

/// Reports what is wrong with an object, and returns its key.
pub(super) fn check(
    reader: &mut Reader<'_, '_, '_>,
    node: NodeId,
    kind: &str,
    metadata: &ObjectMeta,
    unread: Faults,
) -> ObjectKey {
    let key = reader.key(metadata, node);
    let mut report = Report::new(&unread);
    lower::check_metadata(metadata, &mut report);
    let errors = report.errors;
    reader.tell(node, &ObjectRef::namespaced(kind, &key.namespace, &key.name), unread, errors, Vec::new());
    key
}

fn add(
    reader: &mut Reader<'_, '_, '_>,
    node: NodeId,
    kind: &str,
    key: ObjectKey,
    metadata: &ObjectMeta,
    counts: (Option<i64>, Option<i64>),
    (template, replicas): (Template, Replicas),
) {
    let object = ObjectRef::namespaced(kind, &key.namespace, &key.name);
    // API servers fill in how many there are, and autoscalers change it.
    if !reader.counts_as_written(&object, node, &(&template, counts, replicas), &template) {
        return;
    }
    if kind == "Rollout" {
        reader
            .assembly()
            .borrowers
            .retain(|Borrower { maker, .. }| (&maker.namespace, &maker.name) != (&key.namespace, &key.name));
    }
    reader.assembly().workloads.push(WorkloadObject {
        kind: kind.to_owned(),
        key,
        controller: lower::controller(metadata),
        own_labels: lower::labels_of_object_alone(&metadata.labels, &template),
        template,
        replicas,
    });
}
