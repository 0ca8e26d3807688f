//! Kinds that are not read, and which of them matter all the same: answers must say that policies of other engines were not
//! evaluated.

/// Other kinds of the groups that are read, so that they are not taken for mistyped ones.
pub(super) const NEIGHBOURS: [&str; 17] = [
    "Ingress",
    "IngressClass",
    "IPAddress",
    "ServiceCIDR",
    "Service",
    "Endpoints",
    "Event",
    "Secret",
    "ConfigMap",
    "ControllerRevision",
    "PodTemplate",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Binding",
    "LimitRange",
    "ResourceQuota",
    "PersistentVolume",
];

/// How far policies of a kind that is not evaluated reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// The namespace that they are in.
    Namespace,
    /// Every namespace.
    Cluster,
}

/// Policies of other engines and of tiers that are not evaluated: the group's suffix, the kinds, and how far they reach.
const FOREIGN: [(&str, &[&str], Reach); 14] = [
    ("projectcalico.org", &["NetworkPolicy"], Reach::Namespace),
    ("projectcalico.org", &["GlobalNetworkPolicy"], Reach::Cluster),
    ("cilium.io", &["CiliumNetworkPolicy"], Reach::Namespace),
    ("cilium.io", &["CiliumClusterwideNetworkPolicy"], Reach::Cluster),
    ("security.istio.io", &["AuthorizationPolicy", "PeerAuthentication"], Reach::Namespace),
    ("networking.istio.io", &["Sidecar"], Reach::Namespace),
    ("k8s.cni.cncf.io", &["MultiNetworkPolicy"], Reach::Namespace),
    ("policy.networking.k8s.io", &["ClusterNetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"], Reach::Cluster),
    ("antrea.io", &["NetworkPolicy"], Reach::Namespace),
    ("antrea.io", &["ClusterNetworkPolicy"], Reach::Cluster),
    ("k8s.ovn.org", &["EgressFirewall"], Reach::Namespace),
    ("linkerd.io", &["AuthorizationPolicy", "Server", "ServerAuthorization"], Reach::Namespace),
    ("networking.gke.io", &["FQDNNetworkPolicy"], Reach::Namespace),
    ("kuma.io", &["MeshTrafficPermission"], Reach::Cluster),
];

/// Whether a group is this one, or below it.
pub(super) fn is_in_group(group: &str, suffix: &str) -> bool {
    group == suffix || group.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
}

/// How far policies of this group and kind reach; `None` when the kind holds no policies that are known.
pub(super) fn reach(group: &str, kind: &str) -> Option<Reach> {
    FOREIGN.iter().find(|(suffix, kinds, _)| is_in_group(group, suffix) && kinds.contains(&kind)).map(|(_, _, reach)| *reach)
}

/// Whether objects of this apiVersion and kind are policies that are not evaluated, but make answers uncertain. An empty kind asks
/// whether any kind of the group is.
#[must_use]
pub fn is_foreign_policy(api_version: &str, kind: &str) -> bool {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    FOREIGN.iter().any(|(suffix, kinds, _)| is_in_group(group, suffix) && (kind.is_empty() || kinds.contains(&kind)))
}
