//! A policy that selects only `hostNetwork` pods (S2.8).

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, ObjectRef, Rule, Severity};
use policy_core::model::{Pod, Policy};

/// The policy selects `hostNetwork` pods only.
pub static ONLY_HOST_NETWORK_PODS: Rule = Rule {
    id: "NP101",
    name: "only-host-network-pods",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S2.8",
    event_reason: Some("OnlyHostNetworkPods"),
    summary: "a policy selects only hostNetwork pods",
    documentation: Documentation {
        what: "A policy that selects pods, all of which use the host network.",
        why: "The traffic of these pods is the traffic of their node, to which policies do not apply. The policy has no effect.",
        example: Some(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: exporter, namespace: shop, labels: {app: exporter}}\n\
             spec: {hostNetwork: true, containers: [{name: exporter}]}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {name: exporter, namespace: shop}\nspec:\n  podSelector:\n    matchLabels: {app: exporter}\n",
        ),
        fix: "Restrict the traffic of nodes by other means, or run the pods without `hostNetwork`.",
        corrected: None,
    },
};

/// The finding, if the policy selects some of the `hostNetwork` pods and none of the others.
pub(crate) fn finding(policy: &Policy, selected: &[&Pod]) -> Option<Diagnostic> {
    let is_broken = !selected.is_empty() && selected.iter().all(|pod| pod.is_host_network);
    is_broken.then(|| {
        let message = "the policy selects only hostNetwork pods, whose traffic is the traffic of their node, so it has no effect";
        Diagnostic::new(&ONLY_HOST_NETWORK_PODS, message)
            .about(ObjectRef::namespaced("NetworkPolicy", &policy.key.namespace, &policy.key.name))
            .at("spec.podSelector")
    })
}
