//! A port name that only a sidecar gives (S1.55).

use std::collections::BTreeMap;

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::graph::GroupId;
use policy_core::model::Pod;

use crate::context::{Context, pods_text};
use crate::named_ports::NamedEntry;

/// Only a sidecar declares a port name.
pub static NAMED_PORT_SIDECAR_ONLY: Rule = Rule {
    id: "NP117",
    name: "named-port-sidecar-only",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S1.55",
    event_reason: None,
    summary: "a rule names a port that only a sidecar declares",
    documentation: Documentation {
        what: "A port name that no container of a pod declares, only a sidecar: an init container with `restartPolicy: Always`.",
        why: "netpol looks at sidecars, as Services do since Kubernetes 1.32. Other engines did not, and some do not: Calico until 2024 (projectcalico/calico#8885), Kube-OVN until 2025 (kubeovn/kube-ovn#4994). There the entry allows nothing.",
        example: Some(shop!(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: web}}\nspec:\n  containers: [{name: web}]\n  initContainers: [{name: proxy, restartPolicy: Always, ports: [{name: metrics, containerPort: 9090}]}]\n---\n",
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{podSelector: {}}]\n    ports: [{port: metrics}]\n"
            )
        )),
        fix: "Use the number of the port.",
        corrected: Some(shop!(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: web}}\nspec:\n  containers: [{name: web}]\n  initContainers: [{name: proxy, restartPolicy: Always, ports: [{name: metrics, containerPort: 9090}]}]\n---\n",
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{podSelector: {}}]\n    ports: [{port: 9090}]\n"
            )
        )),
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let mut with_sidecars: BTreeMap<GroupId, Vec<&Pod>> = BTreeMap::new();
    for pod in context.snapshot.pods.values().filter(|pod| !pod.sidecar_ports.is_empty()) {
        if let Some(group) = context.group_of(pod) {
            with_sidecars.entry(group).or_default().push(pod);
        }
    }
    if with_sidecars.is_empty() {
        return Vec::new();
    }
    let finding = |entry: NamedEntry<'_>| {
        let groups = entry.destinations(context);
        let pods = groups.iter().filter_map(|group| with_sidecars.get(group)).flatten();
        let of_name = |pod: &Pod| {
            let mut ports = pod.sidecar_ports.iter();
            ports.find(|port| (port.protocol, port.name.as_str()) == (entry.transport, entry.name)).map(|port| port.number)
        };
        let mut pods: Vec<&Pod> = pods.copied().filter(|pod| of_name(pod).is_some()).collect();
        pods.sort_by_key(|pod| &pod.key);
        let number = pods.first().and_then(|pod| of_name(pod))?;
        let message = format!(
            "in {} only a sidecar has a port named `{}`, which other engines may not look at",
            pods_text(&pods, 3),
            entry.name
        );
        let help = format!("use the number {number}");
        Some(context.finding(&NAMED_PORT_SIDECAR_ONLY, &entry.policy.key, &entry.path(), message).help(help))
    };
    NamedEntry::all(context).filter_map(finding).collect()
}
