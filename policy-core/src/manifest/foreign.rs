//! Kinds that are not read, and which of them matter all the same: answers must say that policies of other engines were not
//! evaluated.

use super::scalar::Scalar;
use super::tree::{NodeId, Tree, Value};

/// Other kinds of the groups that are read, so that they are not taken for mistyped ones.
pub(super) const NEIGHBOURS: [&str; 16] = [
    "Ingress",
    "IngressClass",
    "IPAddress",
    "ServiceCIDR",
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
    /// The namespace that they are in, or every namespace if they are in none.
    Unknown,
    /// The namespace of their name.
    Named,
}

/// Policies of other engines and of tiers that are not evaluated: the group's suffix, the kinds, and how far they reach. Listed is what
/// refuses connections or requests; what only redirects, measures or observes them is not. Kinds of any group whose names end in
/// [`ENDINGS`] need no row unless their reach is known.
const FOREIGN: [(&str, &[&str], Reach); 29] = [
    ("projectcalico.org", &["NetworkPolicy"], Reach::Namespace),
    ("projectcalico.org", &["GlobalNetworkPolicy", "HostEndpoint"], Reach::Cluster),
    ("cilium.io", &["CiliumNetworkPolicy"], Reach::Namespace),
    ("cilium.io", &["CiliumClusterwideNetworkPolicy"], Reach::Cluster),
    ("security.istio.io", &["AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"], Reach::Namespace),
    ("networking.istio.io", &["Sidecar"], Reach::Namespace),
    ("k8s.cni.cncf.io", &["MultiNetworkPolicy"], Reach::Namespace),
    ("policy.networking.k8s.io", &["ClusterNetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"], Reach::Cluster),
    ("antrea.io", &["NetworkPolicy"], Reach::Namespace),
    ("antrea.io", &["ClusterNetworkPolicy"], Reach::Cluster),
    ("antrea.tanzu.vmware.com", &["ClusterNetworkPolicy"], Reach::Cluster),
    ("k8s.ovn.org", &["EgressFirewall", "UserDefinedNetwork"], Reach::Namespace),
    ("k8s.ovn.org", &["ClusterUserDefinedNetwork"], Reach::Cluster),
    ("network.openshift.io", &["EgressNetworkPolicy"], Reach::Namespace),
    // Namespaces are isolated from each other by their network IDs in the multitenant mode.
    ("network.openshift.io", &["NetNamespace"], Reach::Named),
    ("policy.linkerd.io", &["AuthorizationPolicy", "Server", "ServerAuthorization"], Reach::Namespace),
    ("policy.linkerd.io", &["EgressNetwork"], Reach::Cluster),
    ("networking.gke.io", &["FQDNNetworkPolicy"], Reach::Namespace),
    ("vpcresources.k8s.aws", &["SecurityGroupPolicy"], Reach::Namespace),
    ("networking.k8s.aws", &["ApplicationNetworkPolicy", "PolicyEndpoint"], Reach::Namespace),
    ("networking.k8s.aws", &["ClusterNetworkPolicy", "ClusterPolicyEndpoint"], Reach::Cluster),
    ("kuma.io", &["MeshTrafficPermission", "TrafficPermission"], Reach::Cluster),
    ("consul.hashicorp.com", &["ServiceIntentions"], Reach::Cluster),
    ("access.smi-spec.io", &["TrafficTarget"], Reach::Namespace),
    ("nsx.vmware.com", &["SecurityPolicy"], Reach::Namespace),
    ("neuvector.com", &["NvSecurityRule"], Reach::Namespace),
    ("neuvector.com", &["NvClusterSecurityRule"], Reach::Cluster),
    ("kubeovn.io", &["SecurityGroup"], Reach::Cluster),
    ("kubeovn.io", &["Subnet"], Reach::Cluster),
];

/// How names of kinds end whose objects are policies in every group.
const ENDINGS: [&str; 2] = ["NetworkPolicy", "Firewall"];
/// Policies that are only previewed.
const STAGED: &str = "Staged";
/// Groups whose objects are derived from policies that have objects of their own.
const DERIVED: [&str; 2] = ["controlplane.antrea.io", "stats.antrea.io"];

/// Whether a group is this one, or below it.
pub(super) fn is_in_group(group: &str, suffix: &str) -> bool {
    group == suffix || group.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
}

/// Whether API servers serve the group without custom resources: a group of such a resource has a dot, and `k8s.io` is reserved.
pub(super) fn is_upstream(group: &str) -> bool {
    !group.contains('.') || is_in_group(group, "k8s.io")
}

/// How far policies of this group and kind reach; `None` when the kind holds no policies.
pub(super) fn reach(group: &str, kind: &str) -> Option<Reach> {
    if DERIVED.contains(&group) {
        return None;
    }
    let listed = FOREIGN.iter().find(|(suffix, kinds, _)| is_in_group(group, suffix) && kinds.contains(&kind));
    match listed {
        Some((_, _, reach)) => Some(*reach),
        // A NetworkPolicy of Kubernetes itself is read, or has an apiVersion that no server serves.
        None if kind == "NetworkPolicy" && is_upstream(group) => None,
        None => ends_as_policy(kind).then_some(Reach::Unknown),
    }
}

fn ends_as_policy(kind: &str) -> bool {
    ENDINGS.iter().any(|ending| kind.ends_with(ending)) && !kind.starts_with(STAGED)
}

/// Whether an object of a kind that [`reach`] knows refuses traffic: subnets of Kube-OVN do with some fields only.
///
/// Source: <https://kubeovn.github.io/docs/stable/en/guide/subnet/>.
pub(super) fn filters(tree: &Tree<'_>, object: NodeId, group: &str, kind: &str) -> bool {
    if group != "kubeovn.io" || kind != "Subnet" {
        return true;
    }
    let says_nothing = |value: NodeId| match tree.value(value) {
        Value::Sequence(items) => items.is_empty(),
        _ => matches!(tree.scalar(value), Some(Scalar::Null | Scalar::Bool(false))),
    };
    let field = |name| tree.field(object, "spec").and_then(|spec| tree.field(spec, name));
    ["private", "allowSubnets", "acls"].into_iter().filter_map(field).any(|value| !says_nothing(value))
}

/// Whether a kind of this name holds policies in some group.
pub(super) fn is_policy_name(kind: &str) -> bool {
    ends_as_policy(kind) || FOREIGN.iter().any(|(_, kinds, _)| kinds.contains(&kind))
}

/// Whether objects of this apiVersion and kind are policies that are not evaluated, but make answers uncertain. An empty kind asks
/// whether any kind of the group may be: that is so for every group of custom resources, because kinds are recognized by their names.
#[must_use]
pub fn is_foreign_policy(api_version: &str, kind: &str) -> bool {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    if kind.is_empty() {
        return !is_upstream(group) || FOREIGN.iter().any(|(suffix, ..)| is_in_group(group, suffix));
    }
    reach(group, kind).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_filters_traffic_is_a_policy_and_nothing_else() {
        let policies = [
            ("projectcalico.org/v3", "NetworkPolicy", Reach::Namespace),
            ("crd.projectcalico.org/v1", "GlobalNetworkPolicy", Reach::Cluster),
            ("cilium.io/v2", "CiliumClusterwideNetworkPolicy", Reach::Cluster),
            ("crd.antrea.io/v1beta1", "NetworkPolicy", Reach::Namespace),
            ("network.openshift.io/v1", "EgressNetworkPolicy", Reach::Namespace),
            ("k8s.ovn.org/v1", "EgressFirewall", Reach::Namespace),
            ("network.openshift.io/v1", "NetNamespace", Reach::Named),
            ("vpcresources.k8s.aws/v1beta1", "SecurityGroupPolicy", Reach::Namespace),
            ("networking.k8s.aws/v1alpha1", "ApplicationNetworkPolicy", Reach::Namespace),
            ("networking.k8s.aws/v1alpha1", "ClusterPolicyEndpoint", Reach::Cluster),
            ("k8s.cni.cncf.io/v1beta1", "MultiNetworkPolicy", Reach::Namespace),
            ("security.istio.io/v1", "RequestAuthentication", Reach::Namespace),
            ("policy.linkerd.io/v1alpha1", "EgressNetwork", Reach::Cluster),
            ("consul.hashicorp.com/v1alpha1", "ServiceIntentions", Reach::Cluster),
            ("vendor.example/v1", "ClusterwideNetworkPolicy", Reach::Unknown),
            ("vendor.example/v1", "Firewall", Reach::Unknown),
        ];
        for (version, kind, expected) in policies {
            let group = version.split('/').next().unwrap();
            assert_eq!(reach(group, kind), Some(expected), "{version} {kind}");
            assert!(
                is_foreign_policy(version, kind) && is_foreign_policy(version, "") && is_policy_name(kind),
                "{version} {kind}"
            );
        }
        for (version, kind) in [
            ("projectcalico.org/v3", "StagedNetworkPolicy"),
            ("projectcalico.org/v3", "StagedGlobalNetworkPolicy"),
            ("projectcalico.org/v3", "Tier"),
            ("controlplane.antrea.io/v1beta2", "NetworkPolicy"),
            ("networking.k8s.io/v1", "NetworkPolicy"),
            ("networking.k8s.io/v1", "Ingress"),
            ("extensions/v1beta1", "NetworkPolicy"),
            ("example.com/v1", "AuthorizationPolicy"),
            ("cert-manager.io/v1", "Certificate"),
        ] {
            assert!(!is_foreign_policy(version, kind), "{version} {kind}");
        }
        for version in ["v1", "apps/v1", "networking.k8s.io/v1", "gateway.networking.k8s.io/v1"] {
            assert!(!is_foreign_policy(version, ""), "{version}");
        }
    }
}
