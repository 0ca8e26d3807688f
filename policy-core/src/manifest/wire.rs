//! Kubernetes objects as they stand in files and in the API, cut down to what is read.
//!
//! Source: k8s.io/api. Everything is optional, as in the wire format; enumerations stay text, so that an unknown word is met
//! by validation and not by decoding. List elements are optional: an element that could not be read keeps its place.
//! Acronym fields are named by hand. The structs of each kind are in its file below `kinds`; here is what they share.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, IgnoredAny, Visitor};

pub use super::kinds::namespace::MetadataOnly;
pub use super::kinds::network_policy::{
    EgressRule, IPBlock, IngressRule, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
pub use super::kinds::node::{Node, NodeAddress, NodeStatus};
pub use super::kinds::pod::{Container, ContainerPort, Pod, PodIP, PodSpec, PodStatus};
pub use super::kinds::service::{LoadBalancerIngress, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus};
pub use super::kinds::workload::{JobSpec, JobTemplateSpec, Ordinals, PodTemplateSpec, Workload, WorkloadSpec};

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
    pub annotations: Annotations,
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

/// Annotations, of which nothing is kept: their values must be strings, and decide nothing.
#[derive(Default, Debug)]
pub struct Annotations;

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Annotations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
                while map.next_entry::<IgnoredAny, Text>()?.is_some() {}
                Ok(Annotations)
            }
        }
        deserializer.deserialize_map(Strings)
    }
}

/// A string that is not kept.
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Str;
        impl Visitor<'_> for Str {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, _: &str) -> Result<Text, E> {
                Ok(Text)
            }

            // Plain JSON has `null` here.
            fn visit_unit<E: de::Error>(self) -> Result<Text, E> {
                Ok(Text)
            }
        }
        deserializer.deserialize_any(Str)
    }
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
