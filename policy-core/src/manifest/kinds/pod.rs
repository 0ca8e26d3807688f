//! `v1 Pod`. Its lowering is in `lower::pod`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Changes, Compiled, Kind, Role};
use crate::diagnostic::ObjectRef;
use crate::manifest::load::Reader;
use crate::manifest::lower::{self, Report};
use crate::manifest::snapshot::Snapshot;
use crate::manifest::tree::NodeId;
use crate::manifest::wire::{List, ObjectMeta};
use crate::model::{Change, ObjectKey, Pod as PodObject};

pub(super) static KINDS: [Kind; 1] =
    [Kind { name: "Pod", groups: &[""], role: Role::Subject, strict: &[], read, changes: Some(Changes::of::<Pods>()) }];

/// `v1 Pod`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Pod {
    pub metadata: ObjectMeta,
    pub spec: PodSpec,
    pub status: PodStatus,
}

/// `PodSpec`.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct PodSpec {
    pub node_name: String,
    pub host_network: bool,
    pub containers: List<Container>,
    pub init_containers: List<Container>,
}

/// `Container`.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Container {
    pub ports: List<ContainerPort>,
    pub restart_policy: String,
}

/// `ContainerPort`.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct ContainerPort {
    pub name: String,
    pub container_port: i64,
    pub protocol: String,
}

/// `PodStatus`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct PodStatus {
    pub phase: String,
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    #[serde(rename = "podIPs")]
    pub pod_ips: List<PodIP>,
}

/// `PodIP`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct PodIP {
    pub ip: String,
}

fn read(reader: &mut Reader<'_, '_, '_>, node: NodeId, _: &'static Kind) {
    let (wire, mut unread) = reader.decode::<Pod>(node);
    reader.check_pod(node, &wire.metadata, &wire.spec, &mut unread);
    let key = reader.key(&wire.metadata, node);
    let mut report = Report::new(&unread);
    lower::check_metadata(&wire.metadata, &mut report);
    let pod = lower::lower_pod(&wire, key.clone(), reader.loader.syntax, &mut report);
    let (errors, warnings) = (report.errors, report.warnings);
    let object = ObjectRef::namespaced("Pod", &key.namespace, &key.name);
    reader.tell(node, &object, unread, errors, warnings);
    let controller = lower::controller(&wire.metadata);
    if reader.counts(&object, node, &(&pod, &controller)) {
        let origin = reader.origin(node);
        reader.assembly().pods.push((pod, controller, origin));
    }
}

struct Pods;

impl Compiled for Pods {
    type Key = ObjectKey;
    type Object = PodObject;

    fn objects(snapshot: &Snapshot) -> &BTreeMap<ObjectKey, PodObject> {
        &snapshot.pods
    }

    fn into_objects(snapshot: Snapshot) -> BTreeMap<ObjectKey, PodObject> {
        snapshot.pods
    }

    fn key(key: ObjectKey) -> ObjectKey {
        key
    }

    fn present(object: PodObject) -> Change {
        Change::Pod(object)
    }

    fn removed(key: ObjectKey) -> Change {
        Change::PodRemoved(key)
    }
}
