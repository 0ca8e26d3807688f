//! Objects of the API, cut down to what the compiler reads.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::ClusterResourceScope;
use policy_input::cluster::FieldMask;
use serde::de::{Deserialize, DeserializeSeed, Deserializer};
use serde_json::Value;

/// The kinds that are watched, in the order in which they must be there: a pod without its namespace is unknown (S1.36).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Kind {
    Namespace,
    Node,
    NetworkPolicy,
    Pod,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Namespace, Self::Node, Self::NetworkPolicy, Self::Pod];

    /// As in `kind`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Pod => "Pod",
        }
    }

    /// As in paths of the API.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::Node => "nodes",
            Self::NetworkPolicy => "networkpolicies",
            Self::Pod => "pods",
        }
    }

    /// The kind that is watched when this one is there.
    pub(crate) fn next(self) -> Option<Self> {
        Self::ALL.get(self as usize + 1).copied()
    }

    /// The kind whose plural this is.
    pub(crate) fn of_plural(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.plural() == plural)
    }

    fn group(self) -> &'static str {
        if self == Self::NetworkPolicy { "networking.k8s.io" } else { "" }
    }

    fn api_version(self) -> &'static str {
        if self == Self::NetworkPolicy { "networking.k8s.io/v1" } else { "v1" }
    }

    fn shape(self) -> FieldMask<'static> {
        match self {
            Self::Namespace => FieldMask::Fields(&[("metadata", METADATA)]),
            Self::Node => FieldMask::Fields(&[("metadata", NAMES), ("status", NODE_STATUS)]),
            Self::NetworkPolicy => FieldMask::Fields(&[("metadata", NAMES), ("spec", FieldMask::Whole)]),
            Self::Pod => FieldMask::Fields(&[("metadata", POD_METADATA), ("spec", POD_SPEC), ("status", POD_STATUS)]),
        }
    }
}

const NAMES: FieldMask<'_> =
    FieldMask::Fields(&[("name", FieldMask::Whole), ("namespace", FieldMask::Whole), ("resourceVersion", FieldMask::Whole)]);
const METADATA: FieldMask<'_> = FieldMask::Fields(&[
    ("name", FieldMask::Whole),
    ("namespace", FieldMask::Whole),
    ("resourceVersion", FieldMask::Whole),
    ("labels", FieldMask::Whole),
]);
const POD_METADATA: FieldMask<'_> = FieldMask::Fields(&[
    ("name", FieldMask::Whole),
    ("namespace", FieldMask::Whole),
    ("resourceVersion", FieldMask::Whole),
    ("labels", FieldMask::Whole),
    ("uid", FieldMask::Whole),
    ("annotations", FieldMask::Fields(&[(MIRROR, FieldMask::Whole)])),
]);
const NODE_STATUS: FieldMask<'_> = FieldMask::Fields(&[("addresses", FieldMask::Whole)]);
const POD_STATUS: FieldMask<'_> =
    FieldMask::Fields(&[("phase", FieldMask::Whole), ("podIP", FieldMask::Whole), ("podIPs", FieldMask::Whole)]);
const PORT: FieldMask<'_> =
    FieldMask::Fields(&[("name", FieldMask::Whole), ("containerPort", FieldMask::Whole), ("protocol", FieldMask::Whole)]);
const CONTAINER: FieldMask<'_> = FieldMask::Fields(&[("ports", FieldMask::Elements(&PORT)), ("restartPolicy", FieldMask::Whole)]);
const POD_SPEC: FieldMask<'_> = FieldMask::Fields(&[
    ("nodeName", FieldMask::Whole),
    ("hostNetwork", FieldMask::Whole),
    ("containers", FieldMask::Elements(&CONTAINER)),
    ("initContainers", FieldMask::Elements(&CONTAINER)),
]);

/// The annotation of a mirror pod: the kubelet's UID of the static pod behind it (S6.5).
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

/// A type for each kind, for the API client.
pub(crate) trait Watched: Clone + fmt::Debug + Send + 'static {
    const KIND: Kind;
}

/// An object of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Object<K> {
    metadata: ObjectMeta,
    /// What is kept of it, without its resourceVersion.
    pub value: Value,
    kind: PhantomData<K>,
}

impl<'de, K: Watched> Deserialize<'de> for Object<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = K::KIND.shape().deserialize(deserializer)?;
        let mut take = |field: &str, is_kept: bool| {
            let metadata = value.get_mut("metadata")?.as_object_mut()?;
            let found = if is_kept { metadata.get(field).cloned() } else { metadata.remove(field) };
            found.and_then(|v| v.as_str().map(str::to_owned))
        };
        let metadata = ObjectMeta {
            name: take("name", true),
            namespace: take("namespace", true),
            resource_version: take("resourceVersion", false),
            ..ObjectMeta::default()
        };
        if let Some(object) = value.as_object_mut() {
            object.insert("apiVersion".to_owned(), K::KIND.api_version().into());
            object.insert("kind".to_owned(), K::KIND.name().into());
        }
        Ok(Self { metadata, value, kind: PhantomData })
    }
}

impl<K: Watched> Resource for Object<K> {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::KIND.name().into()
    }

    fn group((): &()) -> Cow<'_, str> {
        K::KIND.group().into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::KIND.plural().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// `namespace/name`, or `name` where there is no namespace.
pub(crate) fn key_of(metadata: &ObjectMeta) -> String {
    let name = metadata.name.as_deref().unwrap_or_default();
    metadata.namespace.as_deref().map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

/// Makes a type for a kind.
macro_rules! watched {
    ($($name:ident),*) => {
        $(
            #[derive(Clone, Debug)]
            pub(crate) struct $name;
            impl Watched for $name {
                const KIND: Kind = Kind::$name;
            }
        )*
    };
}
watched!(Namespace, Node, NetworkPolicy, Pod);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_cut_down_and_nothing_that_matters_is_lost() {
        let text = r#"{"metadata":{"name":"a","namespace":"x","resourceVersion":"7","uid":"u","managedFields":[{"f":{}}],
            "labels":{"pod":"a"},"annotations":{"other":"1","kubernetes.io/config.mirror":"h"}},
            "spec":{"nodeName":"n1","volumes":[1],"containers":[{"name":"c","image":"i","ports":[{"name":"web","containerPort":80,"hostPort":1}]}]},
            "status":{"phase":"Running","podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"}],"conditions":[{}]}}"#;
        let pod: Object<Pod> = serde_json::from_str(text).unwrap();
        assert_eq!((key_of(pod.meta()), pod.meta().resource_version.as_deref()), ("x/a".to_owned(), Some("7")));
        let expected = serde_json::json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "x", "uid": "u", "labels": {"pod": "a"}, "annotations": {"kubernetes.io/config.mirror": "h"}},
            "spec": {"nodeName": "n1", "containers": [{"ports": [{"name": "web", "containerPort": 80}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}});
        assert_eq!(pod.value, expected);
    }

    #[test]
    fn a_policy_of_the_wrong_types_is_still_an_object() {
        let policy: Object<NetworkPolicy> =
            serde_json::from_str(r#"{"metadata":{"name":"p","namespace":"x"},"spec":{"podSelector":7,"surprise":{}}}"#).unwrap();
        assert_eq!(policy.value["spec"], serde_json::json!({"podSelector": 7, "surprise": {}}));
    }
}
