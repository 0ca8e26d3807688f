//! Autoscalers of StatefulSets, whose pods differ by their ordinals: a HorizontalPodAutoscaler, a ScaledObject of KEDA, and objects of any
//! other kind with `scaleTargetRef` and the greatest number of replicas.

use serde::Deserialize;

use crate::manifest::load::Reader;
use crate::manifest::snapshot::Autoscaler;
use crate::manifest::tree::NodeId;
use crate::manifest::wire::ObjectMeta;

/// What KEDA scales to where nothing is written.
const KEDA_MOST: i64 = 100;

/// An autoscaler.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct ScaledObject {
    metadata: ObjectMeta,
    spec: ScaledObjectSpec,
}

/// Its `spec`, with the fields of HorizontalPodAutoscaler and of ScaledObject.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
struct ScaledObjectSpec {
    scale_target_ref: ScaleTargetRef,
    max_replicas: Option<i64>,
    max_replica_count: Option<i64>,
}

/// `CrossVersionObjectReference`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct ScaleTargetRef {
    kind: String,
    name: String,
}

/// Reads an object of a kind that is in no table, if it scales a StatefulSet. Returns whether it does. The pods of other workloads do not
/// differ, however many there are.
pub(super) fn read(reader: &mut Reader<'_, '_, '_>, node: NodeId) -> bool {
    let tree = reader.tree;
    if !tree.has_field(node, &["spec", "scaleTargetRef"]) {
        return false;
    }
    let (wire, _) = reader.decode::<ScaledObject>(node);
    let ScaledObjectSpec { scale_target_ref: target, max_replicas, max_replica_count } = wire.spec;
    if target.kind != "StatefulSet" {
        return false;
    }
    let namespace = reader.key(&wire.metadata, node).namespace;
    let most = max_replicas.or(max_replica_count).unwrap_or(KEDA_MOST);
    reader.assembly().autoscalers.push(Autoscaler { namespace, target: target.name, most });
    true
}
