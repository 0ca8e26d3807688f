//! The kinds of objects that are read from clusters, in one table: where each is served, which of its fields decide about traffic, and
//! what follows when it cannot be read.
//!
//! Reading once ([`read`](super::read)) and watching ([`watch`](super::watch)) go by the same rows. A new kind is a row in [`KINDS`];
//! what its objects mean is up to `policy-core`.

use std::cmp::Ordering;
use std::fmt;

use super::FieldMask;
use super::watch::Start;

/// A kind of objects, as an API server serves it.
pub struct Kind {
    /// Its API group; the core group has the empty name.
    pub group: &'static str,
    /// The version that is asked for.
    pub version: &'static str,
    /// As in `kind`.
    pub name: &'static str,
    /// As in paths of the API.
    pub plural: &'static str,
    /// Whether its objects are in namespaces.
    pub is_namespaced: bool,
    /// What follows when it cannot be read for an answer.
    pub read: Need,
    /// How it is watched; `None` for kinds that decide nothing about traffic.
    pub watch: Option<Watched>,
    /// What is kept of its objects.
    pub fields: FieldMask<'static>,
}

/// What follows when a kind cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// There is no answer, and no ruleset.
    Required,
    /// The answer is incomplete, and states it. Watches of other kinds go on, and a kind that the API server does not serve, such as a
    /// custom resource that is not installed, has no objects.
    Optional,
}

/// How a kind is watched.
#[derive(Clone, Copy)]
pub struct Watched {
    /// What follows when it cannot be watched.
    pub need: Need,
    /// Starts the watch. The API client parses by type, and this function has the type of the kind.
    pub(super) start: Start,
}

impl Kind {
    /// Its apiVersion.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The path of all its objects, in all namespaces.
    #[must_use]
    pub fn path(&self) -> String {
        path(&self.api_version(), self.plural)
    }

    /// As `kubectl` names the resource: `pods`, `networkpolicies.networking.k8s.io`.
    #[must_use]
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        (self.group, self.plural) == (other.group, other.plural)
    }
}

impl Eq for Kind {}

impl Ord for Kind {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.group, self.plural).cmp(&(other.group, other.plural))
    }
}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource())
    }
}

/// The path of all objects of a kind.
pub(super) fn path(api_version: &str, plural: &str) -> String {
    // The core group has a root of its own.
    let root = if api_version.contains('/') { "apis" } else { "api" };
    format!("/{root}/{api_version}/{plural}")
}

/// Every kind that is read, in the order in which it is read: an object comes after those that it refers to, so namespaces and policies
/// come before pods.
pub static KINDS: [&Kind; 15] = [
    &NAMESPACE,
    &NODE,
    &NETWORK_POLICY,
    &POD,
    &DEPLOYMENT,
    &REPLICA_SET,
    &STATEFUL_SET,
    &DAEMON_SET,
    &JOB,
    &CRON_JOB,
    &REPLICATION_CONTROLLER,
    &HORIZONTAL_POD_AUTOSCALER,
    &SERVICE,
    &ENDPOINT_SLICE,
    &INGRESS,
];

/// The kinds that decide about traffic, which are watched.
pub fn watched() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().copied().filter(|kind| kind.watch.is_some())
}

/// The annotation of a mirror pod: the kubelet's UID of the static pod behind it (S6.5).
pub const MIRROR: &str = "kubernetes.io/config.mirror";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";

const SHOWN: FieldMask<'_> = FieldMask::Described(&FieldMask::Whole);
const SHOWN_ANNOTATIONS: FieldMask<'_> =
    FieldMask::Described(&FieldMask::Fields(&[(MIRROR, FieldMask::Whole), (TOPOLOGY_MODE, FieldMask::Whole)]));

/// Metadata of which only the names decide. The resourceVersion is needed to watch, and is not kept.
const NAMES: FieldMask<'_> = FieldMask::Fields(&[
    ("name", FieldMask::Whole),
    ("namespace", FieldMask::Whole),
    ("resourceVersion", FieldMask::Whole),
    ("uid", SHOWN),
    ("labels", SHOWN),
    ("ownerReferences", SHOWN),
    ("deletionTimestamp", SHOWN),
    ("annotations", SHOWN_ANNOTATIONS),
]);
/// Metadata of which labels decide too.
const LABELS: FieldMask<'_> = FieldMask::Fields(&[
    ("name", FieldMask::Whole),
    ("namespace", FieldMask::Whole),
    ("resourceVersion", FieldMask::Whole),
    ("labels", FieldMask::Whole),
    ("uid", SHOWN),
    ("ownerReferences", SHOWN),
    ("deletionTimestamp", SHOWN),
    ("annotations", SHOWN_ANNOTATIONS),
]);
/// Metadata of pods: which sandbox is whose is decided by the UID.
const POD_METADATA: FieldMask<'_> = FieldMask::Fields(&[
    ("name", FieldMask::Whole),
    ("namespace", FieldMask::Whole),
    ("resourceVersion", FieldMask::Whole),
    ("labels", FieldMask::Whole),
    ("uid", FieldMask::Whole),
    ("ownerReferences", SHOWN),
    ("deletionTimestamp", SHOWN),
    ("annotations", FieldMask::Fields(&[(MIRROR, FieldMask::Whole), (TOPOLOGY_MODE, SHOWN)])),
]);

const PORT: FieldMask<'_> = FieldMask::Fields(&[
    ("name", FieldMask::Whole),
    ("containerPort", FieldMask::Whole),
    ("protocol", FieldMask::Whole),
    ("hostPort", SHOWN),
    ("hostIP", SHOWN),
]);
const CONTAINER: FieldMask<'_> =
    FieldMask::Fields(&[("name", SHOWN), ("ports", FieldMask::Elements(&PORT)), ("restartPolicy", FieldMask::Whole)]);
const POD_SPEC: FieldMask<'_> = FieldMask::Fields(&[
    ("nodeName", FieldMask::Whole),
    ("hostNetwork", FieldMask::Whole),
    ("containers", FieldMask::Elements(&CONTAINER)),
    ("initContainers", FieldMask::Elements(&CONTAINER)),
]);
const CONDITIONS: FieldMask<'_> =
    FieldMask::Elements(&FieldMask::Fields(&[("type", FieldMask::Whole), ("status", FieldMask::Whole)]));
const POD_STATUS: FieldMask<'_> = FieldMask::Fields(&[
    ("phase", FieldMask::Whole),
    ("podIP", FieldMask::Whole),
    ("podIPs", FieldMask::Whole),
    ("conditions", FieldMask::Described(&CONDITIONS)),
]);
const TEMPLATE: FieldMask<'_> = FieldMask::Fields(&[("metadata", POD_METADATA), ("spec", POD_SPEC)]);
const WORKLOAD_SPEC: FieldMask<'_> = FieldMask::Fields(&[
    ("replicas", FieldMask::Whole),
    ("ordinals", FieldMask::Whole),
    ("parallelism", FieldMask::Whole),
    ("completions", FieldMask::Whole),
    ("completionMode", FieldMask::Whole),
    ("manualSelector", FieldMask::Whole),
    ("concurrencyPolicy", FieldMask::Whole),
    ("selector", FieldMask::Whole),
    ("template", TEMPLATE),
    ("jobTemplate", FieldMask::Fields(&[("spec", JOB_SPEC)])),
]);
const JOB_SPEC: FieldMask<'_> = FieldMask::Fields(&[
    ("parallelism", FieldMask::Whole),
    ("completions", FieldMask::Whole),
    ("completionMode", FieldMask::Whole),
    ("template", TEMPLATE),
]);
const AUTOSCALER_SPEC: FieldMask<'_> =
    FieldMask::Fields(&[("scaleTargetRef", FieldMask::Whole), ("maxReplicas", FieldMask::Whole)]);
/// Objects of which the whole `spec` decides, such as policies.
pub(super) const SPECIFIED: FieldMask<'_> = FieldMask::Fields(&[("metadata", NAMES), ("spec", FieldMask::Whole)]);

/// Namespaces: their labels are what namespace selectors match.
pub static NAMESPACE: Kind = Kind {
    group: "",
    version: "v1",
    name: "Namespace",
    plural: "namespaces",
    is_namespaced: false,
    read: Need::Required,
    watch: Some(Watched::of::<typed::Namespace>(Need::Required)),
    fields: FieldMask::Fields(&[("metadata", LABELS)]),
};

/// Nodes: their addresses may always reach their own pods (S2.11).
pub static NODE: Kind = Kind {
    group: "",
    version: "v1",
    name: "Node",
    plural: "nodes",
    is_namespaced: false,
    read: Need::Optional,
    watch: Some(Watched::of::<typed::Node>(Need::Required)),
    fields: FieldMask::Fields(&[("metadata", NAMES), ("status", FieldMask::Fields(&[("addresses", FieldMask::Whole)]))]),
};

/// Policies.
pub static NETWORK_POLICY: Kind = Kind {
    group: "networking.k8s.io",
    version: "v1",
    name: "NetworkPolicy",
    plural: "networkpolicies",
    is_namespaced: true,
    read: Need::Required,
    watch: Some(Watched::of::<typed::NetworkPolicy>(Need::Required)),
    fields: SPECIFIED,
};

/// Pods.
pub static POD: Kind = Kind {
    group: "",
    version: "v1",
    name: "Pod",
    plural: "pods",
    is_namespaced: true,
    read: Need::Required,
    watch: Some(Watched::of::<typed::Pod>(Need::Required)),
    fields: FieldMask::Fields(&[("metadata", POD_METADATA), ("spec", POD_SPEC), ("status", POD_STATUS)]),
};

static DEPLOYMENT: Kind = described("apps", "Deployment", "deployments", &[("metadata", LABELS), ("spec", WORKLOAD_SPEC)]);
static REPLICA_SET: Kind = described("apps", "ReplicaSet", "replicasets", &[("metadata", LABELS), ("spec", WORKLOAD_SPEC)]);
static STATEFUL_SET: Kind = described("apps", "StatefulSet", "statefulsets", &[("metadata", LABELS), ("spec", WORKLOAD_SPEC)]);
static DAEMON_SET: Kind = described("apps", "DaemonSet", "daemonsets", &[("metadata", LABELS), ("spec", WORKLOAD_SPEC)]);
static JOB: Kind = described("batch", "Job", "jobs", &[("metadata", LABELS), ("spec", WORKLOAD_SPEC)]);
static CRON_JOB: Kind = described("batch", "CronJob", "cronjobs", &[("metadata", LABELS), ("spec", WORKLOAD_SPEC)]);
static REPLICATION_CONTROLLER: Kind =
    described("", "ReplicationController", "replicationcontrollers", &[("metadata", LABELS), ("spec", WORKLOAD_SPEC)]);
/// Autoscalers: how many ordinals a StatefulSet can have (S2.24).
static HORIZONTAL_POD_AUTOSCALER: Kind = Kind {
    version: "v2",
    ..described(
        "autoscaling",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        &[("metadata", NAMES), ("spec", AUTOSCALER_SPEC)],
    )
};
static SERVICE: Kind =
    described("", "Service", "services", &[("metadata", LABELS), ("spec", FieldMask::Whole), ("status", FieldMask::Whole)]);
static ENDPOINT_SLICE: Kind = described(
    "discovery.k8s.io",
    "EndpointSlice",
    "endpointslices",
    &[("metadata", LABELS), ("addressType", FieldMask::Whole), ("endpoints", FieldMask::Whole), ("ports", FieldMask::Whole)],
);
static INGRESS: Kind =
    described("networking.k8s.io", "Ingress", "ingresses", &[("metadata", LABELS), ("spec", FieldMask::Whole)]);

/// A kind of objects in namespaces that answers show, and that decides nothing about traffic.
const fn described(
    group: &'static str,
    name: &'static str,
    plural: &'static str,
    fields: &'static [(&'static str, FieldMask<'static>)],
) -> Kind {
    let fields = FieldMask::Fields(fields);
    Kind { group, version: "v1", name, plural, is_namespaced: true, read: Need::Optional, watch: None, fields }
}

/// A type for each kind that is watched, because the API client parses by type.
pub mod typed {
    use super::super::watch::Typed;
    use super::Kind;

    macro_rules! typed {
        ($($name:ident: $kind:ident),*) => {
            $(
                /// The type of this kind.
                #[derive(Clone, Debug)]
                pub struct $name;
                impl Typed for $name {
                    const KIND: &'static Kind = &super::$kind;
                }
            )*
        };
    }
    typed!(Namespace: NAMESPACE, Node: NODE, NetworkPolicy: NETWORK_POLICY, Pod: POD);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::de::DeserializeSeed;

    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(POD.path(), "/api/v1/pods");
        assert_eq!(NETWORK_POLICY.path(), "/apis/networking.k8s.io/v1/networkpolicies");
        assert_eq!((POD.resource(), ENDPOINT_SLICE.resource()), ("pods".into(), "endpointslices.discovery.k8s.io".into()));
    }

    #[test]
    fn autoscalers_are_read_for_answers_and_not_watched() {
        let kind = KINDS.into_iter().find(|kind| kind.name == "HorizontalPodAutoscaler").unwrap();
        assert_eq!(kind.path(), "/apis/autoscaling/v2/horizontalpodautoscalers");
        assert_eq!((kind.read, kind.watch.is_none()), (Need::Optional, true));
        let text = r#"{"metadata": {"name": "db", "namespace": "a"}, "spec": {"scaleTargetRef": {"kind": "StatefulSet", "name": "db"},
            "minReplicas": 1, "maxReplicas": 4, "metrics": []}}"#;
        let parser = kind.fields.parser(crate::cluster::Purpose::Answer);
        let kept: serde_json::Value = parser.deserialize(&mut serde_json::Deserializer::from_str(text)).unwrap();
        let spec = serde_json::json!({"scaleTargetRef": {"kind": "StatefulSet", "name": "db"}, "maxReplicas": 4});
        assert_eq!(kept, serde_json::json!({"metadata": {"name": "db", "namespace": "a"}, "spec": spec}));
    }

    #[test]
    fn each_kind_is_there_once_and_pods_come_last_of_what_is_watched() {
        let paths: BTreeSet<String> = KINDS.iter().map(|kind| kind.path()).collect();
        assert_eq!(paths.len(), KINDS.len());
        let watched: Vec<&str> = watched().map(|kind| kind.name).collect();
        assert_eq!(watched, ["Namespace", "Node", "NetworkPolicy", "Pod"]);
    }
}
