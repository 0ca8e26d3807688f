//! Autoscalers of StatefulSets, whose pods differ by their ordinals: a HorizontalPodAutoscaler, a ScaledObject of KEDA, and objects of any
//! other kind with `scaleTargetRef`, or an autoscaler's `targetRef`, and the greatest number of replicas.

use serde::Deserialize;

use super::workload::check;
use crate::diagnostic::ObjectRef;
use crate::manifest::load::Reader;
use crate::manifest::snapshot::Autoscaler;
use crate::manifest::tree::NodeId;
use crate::manifest::wire::ObjectMeta;

/// The group of HorizontalPodAutoscaler.
const KUBERNETES: &str = "autoscaling";
/// The group of ScaledObject.
const KEDA: &str = "keda.sh";
/// What KEDA scales to where nothing is written.
const KEDA_MOST: i64 = 100;

/// An autoscaler.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct ScaledObject {
    metadata: ObjectMeta,
    spec: ScaledObjectSpec,
}

/// Its `spec`, with the fields of HorizontalPodAutoscaler, of ScaledObject and of DatadogPodAutoscaler.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
struct ScaledObjectSpec {
    #[serde(alias = "targetRef")]
    scale_target_ref: ScaleTargetRef,
    constraints: Constraints,
    max_replicas: Option<i64>,
    max_replica_count: Option<i64>,
}

/// What DatadogPodAutoscaler bounds its numbers by.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
struct Constraints {
    max_replicas: Option<i64>,
}

/// `CrossVersionObjectReference`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct ScaleTargetRef {
    kind: String,
    name: String,
}

/// What an object scales.
pub(super) enum Scales {
    /// No StatefulSet. The pods of other workloads do not differ, however many there are.
    Nothing,
    /// A StatefulSet, up to a number that is known.
    Known,
    /// A StatefulSet, or what may be one, up to a number that is not known.
    Unknown,
}

/// Reads an object of a kind that is in no table, if it scales a StatefulSet.
pub(super) fn read(reader: &mut Reader<'_, '_, '_>, node: NodeId, group: &str, kind: &str) -> Scales {
    let reference = match ["scaleTargetRef", "targetRef"].into_iter().find(|name| reader.tree.has_field(node, &["spec", name])) {
        Some("targetRef") if !kind.ends_with("Autoscaler") || kind.starts_with("Vertical") => return Scales::Nothing,
        Some(reference) => reference,
        None => return Scales::Nothing,
    };
    let (wire, unread) = reader.decode::<ScaledObject>(node);
    let ScaledObjectSpec { scale_target_ref: target, constraints, max_replicas, max_replica_count } = wire.spec;
    let is_target_lost = unread.touch(&format!("spec.{reference}"));
    let is_most_lost = unread.touch(&"spec.maxReplicas") || unread.touch(&"spec.maxReplicaCount");
    let by_default = (group == KEDA && !is_most_lost).then_some(KEDA_MOST);
    let most = max_replicas.or(max_replica_count).or(constraints.max_replicas).or(by_default);
    // The schemas of other groups are not known.
    let is_known = [KUBERNETES, KEDA].contains(&group);
    let is_scaled = target.kind == "StatefulSet";
    let decides = is_scaled || is_target_lost;
    let key =
        if is_known && decides { check(reader, node, kind, &wire.metadata, unread) } else { reader.key(&wire.metadata, node) };
    let most = match most.filter(|_| !is_target_lost) {
        None if is_scaled || is_target_lost => return Scales::Unknown,
        Some(most) if is_scaled => most,
        _ if is_known => 0,
        _ => return Scales::Nothing,
    };
    let object = ObjectRef::namespaced(&format!("{kind}.{group}"), &key.namespace, &key.name);
    // API servers fill in fields of autoscalers, and only these are read from them. Those of other workloads are alike.
    let written = if is_scaled { (&*target.name, most) } else { ("", 0) };
    let content = is_scaled.then(|| reader.tree.digest_without(node, &["apiVersion", "kind", "metadata", "status"]));
    if reader.counts_as_written(&object, node, &content, &written) {
        reader.assembly().autoscalers.push(Autoscaler { object, namespace: key.namespace, target: target.name, most });
    }
    if is_scaled { Scales::Known } else { Scales::Nothing }
}
