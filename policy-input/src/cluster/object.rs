//! Objects as the API client parses them: reduced to what is kept of their kind.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::ClusterResourceScope;
use serde::de::{Deserialize, DeserializeSeed, Deserializer};
use serde_json::Value;

use super::Purpose;
use super::kinds::Kind;

/// A kind as a type.
pub trait Typed: Clone + fmt::Debug + Send + 'static {
    /// The kind.
    const KIND: &'static Kind;
}

/// An object of one kind.
#[derive(Clone, Debug)]
pub(super) struct Object<K> {
    metadata: ObjectMeta,
    /// What is kept of it, without its resourceVersion.
    pub value: Value,
    kind: PhantomData<K>,
}

/// Adds to an object what elements of lists do not have, and removes its resourceVersion, which changes with every update.
pub(super) fn complete(object: &mut Value, api_version: &str, kind: &str) -> Option<String> {
    let fields = object.as_object_mut()?;
    fields.insert("apiVersion".to_owned(), api_version.into());
    fields.insert("kind".to_owned(), kind.into());
    let version = fields.get_mut("metadata")?.as_object_mut()?.remove("resourceVersion")?;
    version.as_str().map(str::to_owned)
}

impl<'de, K: Typed> Deserialize<'de> for Object<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = K::KIND.fields.parser(Purpose::Enforce).deserialize(deserializer)?;
        let resource_version = complete(&mut value, &K::KIND.api_version(), K::KIND.name);
        let text = |field: &str| value.get("metadata")?.get(field)?.as_str().map(str::to_owned);
        let metadata = ObjectMeta { name: text("name"), namespace: text("namespace"), resource_version, ..ObjectMeta::default() };
        Ok(Self { metadata, value, kind: PhantomData })
    }
}

impl<K: Typed> Resource for Object<K> {
    type DynamicType = ();
    /// Of both scopes, all objects are asked for in the same way.
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::KIND.name.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        K::KIND.group.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        K::KIND.version.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::KIND.plural.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// `namespace/name`, or `name` where there is no namespace.
pub(super) fn key_of(metadata: &ObjectMeta) -> String {
    let name = metadata.name.as_deref().unwrap_or_default();
    metadata.namespace.as_deref().map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::super::kinds::typed::{NetworkPolicy, Pod};
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
