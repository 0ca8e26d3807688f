//! Kubernetes objects as they stand in files and in the API, cut down to what is read.
//!
//! Source: k8s.io/api. Everything is optional, as in the wire format; enumerations stay text, so that an unknown word is met
//! by validation and not by decoding. List elements are optional: an element that could not be read keeps its place.
//! Acronym fields are named by hand.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, IgnoredAny, Visitor};

/// A list whose elements keep their places when they cannot be read.
pub type List<T> = Vec<Option<T>>;

/// `metav1.ObjectMeta`, with every field, because a mistyped `labels` must not pass.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct ObjectMeta {
    pub name: String,
    pub generate_name: String,
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
    pub owner_references: List<OwnerReference>,
    pub annotations: IgnoredAny,
    pub self_link: IgnoredAny,
    pub uid: IgnoredAny,
    pub resource_version: IgnoredAny,
    pub generation: IgnoredAny,
    pub creation_timestamp: IgnoredAny,
    pub deletion_timestamp: IgnoredAny,
    pub deletion_grace_period_seconds: IgnoredAny,
    pub finalizers: IgnoredAny,
    pub cluster_name: IgnoredAny,
    pub managed_fields: IgnoredAny,
}

/// `metav1.OwnerReference`.
#[derive(Deserialize, Default, Debug, Clone)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct OwnerReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub controller: bool,
    pub uid: IgnoredAny,
    pub block_owner_deletion: IgnoredAny,
}

/// `networking.k8s.io/v1 NetworkPolicy`.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NetworkPolicy {
    pub api_version: IgnoredAny,
    pub kind: IgnoredAny,
    pub metadata: ObjectMeta,
    pub spec: NetworkPolicySpec,
    /// Removed from the API; old dumps still hold it.
    pub status: IgnoredAny,
}

/// `NetworkPolicySpec`.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NetworkPolicySpec {
    pub pod_selector: LabelSelector,
    pub policy_types: List<String>,
    pub ingress: List<IngressRule>,
    pub egress: List<EgressRule>,
}

/// `NetworkPolicyIngressRule`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct IngressRule {
    pub from: List<NetworkPolicyPeer>,
    pub ports: List<NetworkPolicyPort>,
}

/// `NetworkPolicyEgressRule`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct EgressRule {
    pub to: List<NetworkPolicyPeer>,
    pub ports: List<NetworkPolicyPort>,
}

/// `NetworkPolicyPort`.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NetworkPolicyPort {
    pub protocol: Option<String>,
    pub port: Option<IntOrString>,
    pub end_port: Option<i64>,
}

/// `NetworkPolicyPeer`.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NetworkPolicyPeer {
    pub pod_selector: Option<LabelSelector>,
    pub namespace_selector: Option<LabelSelector>,
    pub ip_block: Option<IPBlock>,
}

/// `IPBlock`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct IPBlock {
    pub cidr: String,
    pub except: List<String>,
}

/// `metav1.LabelSelector`.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct LabelSelector {
    pub match_labels: BTreeMap<String, String>,
    pub match_expressions: List<LabelSelectorRequirement>,
}

/// `metav1.LabelSelectorRequirement`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct LabelSelectorRequirement {
    pub key: String,
    pub operator: String,
    pub values: List<String>,
}

/// `intstr.IntOrString`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum IntOrString {
    Int(i64),
    String(String),
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = IntOrString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a name")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<IntOrString, E> {
                Ok(IntOrString::Int(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<IntOrString, E> {
                Ok(IntOrString::Int(i64::try_from(value).unwrap_or(i64::MAX)))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<IntOrString, E> {
                Ok(IntOrString::String(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// An object of which only the metadata is read (Namespace).
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct MetadataOnly {
    pub metadata: ObjectMeta,
}

/// `v1 Node`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Node {
    pub metadata: ObjectMeta,
    pub status: NodeStatus,
}

/// `NodeStatus`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NodeStatus {
    pub addresses: List<NodeAddress>,
}

/// `NodeAddress`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NodeAddress {
    pub address: String,
}

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
