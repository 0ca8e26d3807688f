//! Reads a cluster once: every object that can change an answer, and of each only what can.
//!
//! What is read holds no Secrets, and nothing of what pods run: no images, commands, environment, volumes, annotations.

use http::Request;
use kube::Client;
use serde::de::DeserializeSeed;
use serde_json::Value;

use super::{FieldMask, full_text};

/// Objects asked for at once, as kubectl does.
const PAGE: usize = 500;
/// The reason of a list that took too long: what comes next is forgotten.
const EXPIRED: u16 = 410;
const FORBIDDEN: u16 = 403;
const NOT_FOUND: u16 = 404;

/// A kind of objects, as it is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Resource {
    api_version: String,
    kind: String,
    plural: String,
}

/// What becomes of a kind that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Need {
    /// There is no answer.
    Must,
    /// The answer is incomplete, and states it.
    Should,
}

const METADATA: FieldMask<'_> = FieldMask::Fields(&[
    ("name", FieldMask::Whole),
    ("namespace", FieldMask::Whole),
    ("uid", FieldMask::Whole),
    ("labels", FieldMask::Whole),
    ("ownerReferences", FieldMask::Whole),
    ("deletionTimestamp", FieldMask::Whole),
    (
        "annotations",
        FieldMask::Fields(&[
            ("kubernetes.io/config.mirror", FieldMask::Whole),
            ("service.kubernetes.io/topology-mode", FieldMask::Whole),
        ]),
    ),
]);
const CONTAINER: FieldMask<'_> =
    FieldMask::Fields(&[("name", FieldMask::Whole), ("ports", FieldMask::Whole), ("restartPolicy", FieldMask::Whole)]);
const POD_SPEC: FieldMask<'_> = FieldMask::Fields(&[
    ("nodeName", FieldMask::Whole),
    ("hostNetwork", FieldMask::Whole),
    ("containers", FieldMask::Elements(&CONTAINER)),
    ("initContainers", FieldMask::Elements(&CONTAINER)),
]);
const POD_STATUS: FieldMask<'_> = FieldMask::Fields(&[
    ("phase", FieldMask::Whole),
    ("podIP", FieldMask::Whole),
    ("podIPs", FieldMask::Whole),
    ("conditions", FieldMask::Elements(&FieldMask::Fields(&[("type", FieldMask::Whole), ("status", FieldMask::Whole)]))),
]);
const TEMPLATE: FieldMask<'_> = FieldMask::Fields(&[("metadata", METADATA), ("spec", POD_SPEC)]);
const WORKLOAD_SPEC: FieldMask<'_> = FieldMask::Fields(&[
    ("replicas", FieldMask::Whole),
    ("parallelism", FieldMask::Whole),
    ("selector", FieldMask::Whole),
    ("template", TEMPLATE),
    (
        "jobTemplate",
        FieldMask::Fields(&[("spec", FieldMask::Fields(&[("parallelism", FieldMask::Whole), ("template", TEMPLATE)]))]),
    ),
]);
const POD: FieldMask<'_> = FieldMask::Fields(&[("metadata", METADATA), ("spec", POD_SPEC), ("status", POD_STATUS)]);
const NAMESPACE: FieldMask<'_> = FieldMask::Fields(&[("metadata", METADATA)]);
const NODE: FieldMask<'_> =
    FieldMask::Fields(&[("metadata", METADATA), ("status", FieldMask::Fields(&[("addresses", FieldMask::Whole)]))]);
const WORKLOAD: FieldMask<'_> = FieldMask::Fields(&[("metadata", METADATA), ("spec", WORKLOAD_SPEC)]);
const SPECIFIED: FieldMask<'_> = FieldMask::Fields(&[("metadata", METADATA), ("spec", FieldMask::Whole)]);
const SLICE: FieldMask<'_> = FieldMask::Fields(&[
    ("metadata", METADATA),
    ("addressType", FieldMask::Whole),
    ("endpoints", FieldMask::Whole),
    ("ports", FieldMask::Whole),
]);
const SERVICE: FieldMask<'_> =
    FieldMask::Fields(&[("metadata", METADATA), ("spec", FieldMask::Whole), ("status", FieldMask::Whole)]);

/// What is read of every cluster, in the order in which it is written.
const KINDS: [(&str, &str, &str, FieldMask<'_>, Need); 14] = [
    ("v1", "Namespace", "namespaces", NAMESPACE, Need::Must),
    ("v1", "Node", "nodes", NODE, Need::Should),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", SPECIFIED, Need::Must),
    ("v1", "Pod", "pods", POD, Need::Must),
    ("apps/v1", "Deployment", "deployments", WORKLOAD, Need::Should),
    ("apps/v1", "ReplicaSet", "replicasets", WORKLOAD, Need::Should),
    ("apps/v1", "StatefulSet", "statefulsets", WORKLOAD, Need::Should),
    ("apps/v1", "DaemonSet", "daemonsets", WORKLOAD, Need::Should),
    ("batch/v1", "Job", "jobs", WORKLOAD, Need::Should),
    ("batch/v1", "CronJob", "cronjobs", WORKLOAD, Need::Should),
    ("v1", "ReplicationController", "replicationcontrollers", WORKLOAD, Need::Should),
    ("v1", "Service", "services", SERVICE, Need::Should),
    ("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", SLICE, Need::Should),
    ("networking.k8s.io/v1", "Ingress", "ingresses", SPECIFIED, Need::Should),
];

/// What a cluster holds.
#[derive(Debug, Default)]
pub struct Objects {
    /// Whole objects with apiVersion and kind, cut down; by kind, and then in the order of the API server.
    pub objects: Vec<Value>,
    /// What could not be read, and why.
    pub left_out: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Whoever asks may not see what decides.
    #[error("may not list {kinds} of all namespaces: {message}")]
    Forbidden {
        /// The kind, in the plural.
        kinds: String,
        /// The error of the API server.
        message: String,
    },
    /// The API server does not answer, or not as it should.
    #[error("cannot list {kinds}")]
    Failed {
        /// The kind, in the plural.
        kinds: String,
        /// Why.
        source: Box<kube::Error>,
    },
}

impl Resource {
    fn new(api_version: &str, kind: &str, plural: &str) -> Self {
        Self { api_version: api_version.to_owned(), kind: kind.to_owned(), plural: plural.to_owned() }
    }

    fn path(&self) -> String {
        // The group of the first kinds has no name, and a place of its own.
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        format!("/{root}/{}/{}", self.api_version, self.plural)
    }
}

/// Reads everything. `is_foreign` decides whether a kind of this apiVersion holds policies of another engine, and is asked
/// about the group with an empty kind first.
///
/// Kinds are listed one after the other, so a change meanwhile may be seen in part.
///
/// # Errors
/// When namespaces, pods or policies cannot be listed.
pub async fn read(client: &Client, is_foreign: &dyn Fn(&str, &str) -> bool) -> Result<Objects, ReadError> {
    let mut out = Objects::default();
    for (api_version, kind, plural, shape, need) in KINDS {
        let resource = Resource::new(api_version, kind, plural);
        match list(client, &resource, shape).await {
            Ok(objects) => out.objects.extend(objects),
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND && need == Need::Should => {}
            Err(error) if need == Need::Should => out.left_out.push(format!("{plural}: {}", full_text(&error))),
            Err(kube::Error::Api(status)) if status.code == FORBIDDEN => {
                return Err(ReadError::Forbidden { kinds: plural.to_owned(), message: status.message.clone() });
            }
            Err(source) => return Err(ReadError::Failed { kinds: plural.to_owned(), source: Box::new(source) }),
        }
    }
    match foreign(client, is_foreign).await {
        Ok(kinds) => {
            for resource in kinds {
                match list(client, &resource, SPECIFIED).await {
                    Ok(objects) => out.objects.extend(objects),
                    Err(error) => out.left_out.push(format!("{}: {}", resource.plural, full_text(&error))),
                }
            }
        }
        Err(error) => out.left_out.push(format!("policies of other engines: {}", full_text(&error))),
    }
    Ok(out)
}

async fn get(client: &Client, path: &str) -> Result<Value, kube::Error> {
    parse(&text(client, path).await?, FieldMask::Whole)
}

async fn text(client: &Client, path: &str) -> Result<String, kube::Error> {
    let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request_text(request).await
}

fn parse(text: &str, shape: FieldMask<'_>) -> Result<Value, kube::Error> {
    shape.deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(kube::Error::SerdeError)
}

/// All objects of a kind, page by page.
async fn list(client: &Client, resource: &Resource, shape: FieldMask<'_>) -> Result<Vec<Value>, kube::Error> {
    let page_of = FieldMask::Fields(&[
        ("metadata", FieldMask::Fields(&[("continue", FieldMask::Whole)])),
        ("items", FieldMask::Elements(&shape)),
    ]);
    let path = resource.path();
    let mut objects = Vec::new();
    let mut query = format!("?limit={PAGE}");
    loop {
        let answer = match text(client, &format!("{path}{query}")).await {
            Err(kube::Error::Api(status)) if status.code == EXPIRED && !objects.is_empty() => {
                // The rest is not what it was when the list began: all of it at once, then.
                objects.clear();
                text(client, &path).await?
            }
            answer => answer?,
        };
        let mut page = parse(&answer, page_of)?;
        for mut object in page.pointer_mut("/items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default() {
            if let Some(fields) = object.as_object_mut() {
                fields.insert("apiVersion".to_owned(), resource.api_version.as_str().into());
                fields.insert("kind".to_owned(), resource.kind.as_str().into());
            }
            objects.push(object);
        }
        match page.pointer("/metadata/continue").and_then(Value::as_str).filter(|token| !token.is_empty()) {
            // The token is of the letters that may stand in a query.
            Some(token) => query = format!("?limit={PAGE}&continue={token}"),
            None => return Ok(objects),
        }
    }
}

fn elements<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// The kinds of policies of other engines that this API server has.
async fn foreign(client: &Client, is_foreign: &dyn Fn(&str, &str) -> bool) -> Result<Vec<Resource>, kube::Error> {
    let mut out = Vec::new();
    let groups = get(client, "/apis").await?;
    for group in elements(&groups, "groups") {
        let Some(version) =
            group.pointer("/preferredVersion/groupVersion").and_then(Value::as_str).filter(|version| is_foreign(version, ""))
        else {
            continue;
        };
        let resources = get(client, &format!("/apis/{version}")).await?;
        for resource in elements(&resources, "resources") {
            let word = |field: &str| resource.get(field).and_then(Value::as_str);
            if let (Some(kind), Some(plural)) = (word("kind"), word("name"))
                && !plural.contains('/')
                && is_foreign(version, kind)
            {
                out.push(Resource::new(version, kind, plural));
            }
        }
    }
    Ok(out)
}
