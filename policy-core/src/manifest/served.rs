//! Which apiVersions API servers serve the kinds under that are read, and which they served before.

use super::foreign::is_upstream;
use super::kinds::group_of;

/// What an API server says about an apiVersion of a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It serves it.
    Served,
    /// It served it in earlier versions of Kubernetes, and serves this one.
    Removed(&'static str),
    /// No version of Kubernetes ever served it; this one is served.
    Never(&'static str),
    /// The kind is another one, of a custom resource.
    Custom,
}

/// Kinds with the apiVersion that is served, and those that were.
///
/// Source: the deprecated API migration guide, <https://kubernetes.io/docs/reference/using-api/deprecation-guide/>.
const KINDS: [(&str, &str, &[&str]); 12] = [
    ("Namespace", "v1", &[]),
    ("Node", "v1", &[]),
    ("Pod", "v1", &[]),
    ("Service", "v1", &[]),
    ("ReplicationController", "v1", &[]),
    ("NetworkPolicy", "networking.k8s.io/v1", &["extensions/v1beta1"]),
    ("Deployment", "apps/v1", &["apps/v1beta2", "apps/v1beta1", "extensions/v1beta1"]),
    ("ReplicaSet", "apps/v1", &["apps/v1beta2", "extensions/v1beta1"]),
    ("DaemonSet", "apps/v1", &["apps/v1beta2", "extensions/v1beta1"]),
    ("StatefulSet", "apps/v1", &["apps/v1beta2", "apps/v1beta1"]),
    ("Job", "batch/v1", &[]),
    ("CronJob", "batch/v1", &["batch/v1beta1", "batch/v2alpha1"]),
];

/// What an API server says about a kind; `None` for kinds that are not read.
pub(super) fn standing(api_version: &str, kind: &str) -> Option<Standing> {
    let (_, current, removed) = KINDS.iter().find(|(name, ..)| *name == kind)?;
    Some(if api_version == *current {
        Standing::Served
    } else if removed.contains(&api_version) {
        Standing::Removed(current)
    } else if is_upstream(group_of(api_version)) {
        Standing::Never(current)
    } else {
        Standing::Custom
    })
}

#[cfg(test)]
mod tests {
    use super::super::kinds;
    use super::*;

    #[test]
    fn kinds_are_served_under_one_api_version() {
        for (version, kind, expected) in [
            ("v1", "Pod", Standing::Served),
            ("apps/v1", "Pod", Standing::Never("v1")),
            ("v1", "Deployment", Standing::Never("apps/v1")),
            ("apps", "Deployment", Standing::Never("apps/v1")),
            ("apps/v7", "Deployment", Standing::Never("apps/v1")),
            ("batch/v1", "Deployment", Standing::Never("apps/v1")),
            ("extensions/v1beta1", "StatefulSet", Standing::Never("apps/v1")),
            ("extensions/v1beta1", "Deployment", Standing::Removed("apps/v1")),
            ("batch/v1beta1", "CronJob", Standing::Removed("batch/v1")),
            ("batch/v1beta1", "Job", Standing::Never("batch/v1")),
            ("extensions/v1beta1", "NetworkPolicy", Standing::Removed("networking.k8s.io/v1")),
            ("networking.k8s.io/v1beta1", "NetworkPolicy", Standing::Never("networking.k8s.io/v1")),
            ("apps.k8s.io/v1", "Deployment", Standing::Never("apps/v1")),
            ("serving.knative.dev/v1", "Service", Standing::Custom),
            ("projectcalico.org/v3", "NetworkPolicy", Standing::Custom),
            ("batch.volcano.sh/v1alpha1", "Job", Standing::Custom),
            ("cluster.x-k8s.io/v1beta1", "Node", Standing::Custom),
        ] {
            assert_eq!(standing(version, kind), Some(expected), "{version} {kind}");
        }
        assert_eq!(standing("v1", "ConfigMap"), None);
    }

    #[test]
    fn every_kind_that_is_read_has_a_row() {
        for kind in kinds::all() {
            let (_, current, removed) =
                KINDS.iter().find(|(name, ..)| *name == kind.name).unwrap_or_else(|| panic!("{}", kind.name));
            let groups = [current].into_iter().chain(removed.iter()).map(|version| group_of(version));
            assert_eq!(kind.groups.first(), Some(&group_of(current)), "{}", kind.name);
            assert!(groups.into_iter().all(|group| kind.groups.contains(&group) || kind.is_policy()), "{}", kind.name);
        }
    }
}
