//! What API servers serve without custom resources, as charts ask for it.
//!
//! `helm install` takes it from the cluster, as `group/version` and `group/version/Kind`. `helm template` has only the former, and
//! that of earlier versions of Kubernetes too.

/// The kinds that every supported version of Kubernetes serves, by their apiVersion.
///
/// Source: <https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.35/>.
const KINDS: [(&str, &[&str]); 21] = [
    (
        "v1",
        &[
            "Binding",
            "ComponentStatus",
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "Namespace",
            "Node",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
    ),
    (
        "admissionregistration.k8s.io/v1",
        &[
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
    ),
    ("apiextensions.k8s.io/v1", &["CustomResourceDefinition"]),
    ("apiregistration.k8s.io/v1", &["APIService"]),
    ("apps/v1", &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("authentication.k8s.io/v1", &["SelfSubjectReview", "TokenReview"]),
    (
        "authorization.k8s.io/v1",
        &["LocalSubjectAccessReview", "SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"],
    ),
    ("autoscaling/v1", &["HorizontalPodAutoscaler", "Scale"]),
    ("autoscaling/v2", &["HorizontalPodAutoscaler"]),
    ("batch/v1", &["CronJob", "Job"]),
    ("certificates.k8s.io/v1", &["CertificateSigningRequest"]),
    ("coordination.k8s.io/v1", &["Lease"]),
    ("discovery.k8s.io/v1", &["EndpointSlice"]),
    ("events.k8s.io/v1", &["Event"]),
    ("flowcontrol.apiserver.k8s.io/v1", &["FlowSchema", "PriorityLevelConfiguration"]),
    ("networking.k8s.io/v1", &["IPAddress", "Ingress", "IngressClass", "NetworkPolicy", "ServiceCIDR"]),
    ("node.k8s.io/v1", &["RuntimeClass"]),
    ("policy/v1", &["Eviction", "PodDisruptionBudget"]),
    ("rbac.authorization.k8s.io/v1", &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]),
    ("scheduling.k8s.io/v1", &["PriorityClass"]),
    ("storage.k8s.io/v1", &["CSIDriver", "CSINode", "CSIStorageCapacity", "StorageClass", "VolumeAttachment"]),
];

/// ApiVersions that no supported version of Kubernetes serves, with a kind where it serves another one.
///
/// Source: the deprecated API migration guide, <https://kubernetes.io/docs/reference/using-api/deprecation-guide/>.
const REMOVED: [&str; 19] = [
    "admissionregistration.k8s.io/v1beta1/MutatingWebhookConfiguration",
    "admissionregistration.k8s.io/v1beta1/ValidatingWebhookConfiguration",
    "apiextensions.k8s.io/v1beta1",
    "apps/v1beta1",
    "apps/v1beta2",
    "autoscaling/v2beta1",
    "autoscaling/v2beta2",
    "batch/v1beta1",
    "batch/v2alpha1",
    "discovery.k8s.io/v1beta1",
    "events.k8s.io/v1beta1",
    "extensions/v1beta1",
    "networking.k8s.io/v1beta1/Ingress",
    "networking.k8s.io/v1beta1/IngressClass",
    "node.k8s.io/v1beta1",
    "policy/v1beta1",
    "rbac.authorization.k8s.io/v1alpha1",
    "rbac.authorization.k8s.io/v1beta1",
    "scheduling.k8s.io/v1beta1",
];

/// What every API server serves: each apiVersion, and each kind below it.
pub(super) fn api_versions() -> impl Iterator<Item = String> {
    KINDS.iter().flat_map(|(version, kinds)| {
        let kinds = kinds.iter().map(move |kind| format!("{version}/{kind}"));
        std::iter::once((*version).to_owned()).chain(kinds)
    })
}

/// Whether the answer of `helm template` about an apiVersion, with or without a kind, is that of every cluster.
pub(super) fn is_the_same_everywhere(asked: &str) -> bool {
    // helm takes removed apiVersions for served ones, but knows no kinds of them.
    let is_removed = || {
        let version = asked.rsplit_once('/').map_or("", |(version, _)| version);
        REMOVED.contains(&asked) && asked.matches('/').count() == 2 || REMOVED.contains(&version)
    };
    api_versions().any(|served| served == asked) || is_removed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depends_on_the_cluster_is_not_built_in() {
        for same in [
            "v1",
            "v1/Pod",
            "networking.k8s.io/v1/NetworkPolicy",
            "policy/v1",
            "policy/v1beta1/PodDisruptionBudget",
            "networking.k8s.io/v1beta1/Ingress",
        ] {
            assert!(is_the_same_everywhere(same), "{same}");
        }
        // helm says that the removed ones without a kind are served.
        for other in [
            "",
            "cilium.io/v2",
            "cilium.io/v2/CiliumNetworkPolicy",
            "extensions/v1beta1",
            "policy/v1beta1",
            "networking.k8s.io/v1beta1",
            "networking.k8s.io/v1beta1/ServiceCIDR",
            "networking.k8s.io/v1/Other",
            "resource.k8s.io/v1alpha3",
        ] {
            assert!(!is_the_same_everywhere(other), "{other}");
        }
    }
}
