//! Policies that are valid and do not have the effect that they seem to have, judged by the pods that are known.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::diagnostic::Diagnostic;
use policy_core::model::{Direction, Phase, Pod, Policy};
use policy_core::sets::Transport;

use crate::rules::{named_port_not_found, only_host_network_pods, too_many_peers};

/// Whether the pods given are all there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Knowledge {
    /// There are no others.
    Whole,
    /// There may be others; only what holds all the same is found.
    Part,
}

/// Pods that have been looked at, for the question what policies have no effect on them.
pub struct Effects<'a> {
    by_namespace: BTreeMap<&'a str, Vec<&'a Pod>>,
    /// Every named port of the cluster.
    ports: BTreeSet<(&'a str, Transport)>,
    knowledge: Knowledge,
}

impl<'a> Effects<'a> {
    /// Looks at pods; finished ones do not count.
    pub fn new(pods: impl IntoIterator<Item = &'a Pod>, knowledge: Knowledge) -> Self {
        let mut effects = Self { by_namespace: BTreeMap::new(), ports: BTreeSet::new(), knowledge };
        for pod in pods.into_iter().filter(|pod| pod.phase == Phase::Live) {
            effects.by_namespace.entry(&pod.key.namespace).or_default().push(pod);
            if !pod.is_host_network {
                effects.ports.extend(pod.ports.iter().map(|port| (port.name.as_str(), port.protocol)));
            }
        }
        effects
    }

    /// Whether the pods are all there are.
    pub(crate) fn knowledge(&self) -> Knowledge {
        self.knowledge
    }

    /// Whether any pod has this port.
    pub(crate) fn has_port(&self, protocol: Transport, name: &str) -> bool {
        self.ports.contains(&(name, protocol))
    }

    /// What is found about a policy, without places. Nothing where the pods do not prove it.
    ///
    /// Cost: linear in the pods of the policy's namespace.
    #[must_use]
    pub fn findings(&self, policy: &Policy) -> Vec<Diagnostic> {
        let pods = self.by_namespace.get(policy.key.namespace.as_str()).map(Vec::as_slice).unwrap_or_default();
        let selected: Vec<&Pod> = pods.iter().filter(|pod| policy.target.matches(&pod.labels)).copied().collect();
        if let Some(finding) = only_host_network_pods::finding(policy, &selected) {
            return vec![finding];
        }
        let own: Vec<&Pod> = selected.into_iter().filter(|pod| !pod.is_host_network).collect();
        let mut out: Vec<Diagnostic> =
            Direction::ALL.into_iter().filter_map(|direction| too_many_peers::finding(policy, direction)).collect();
        out.extend(named_port_not_found::findings(policy, &own, self));
        out
    }
}

#[cfg(test)]
mod tests {
    use policy_core::manifest::{Loader, Syntax};

    use super::*;

    const HOST: &str = "only-host-network-pods";
    const PORT: &str = "named-port-not-found";
    const PEERS: &str = "too-many-peers";

    const PODS: &str = r#"
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: x, labels: {app: web}}, spec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: host, namespace: x, labels: {app: host}}, spec: {nodeName: n1, hostNetwork: true, containers: [{name: c, ports: [{name: node-port, containerPort: 80}]}]}, status: {podIP: 192.0.2.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: done, namespace: x, labels: {app: done}}, spec: {nodeName: n1, hostNetwork: true}, status: {phase: Succeeded, podIP: 192.0.2.1}}
"#;

    fn found(spec: &str, knowledge: Knowledge) -> Vec<(&'static str, String)> {
        let mut loader = Loader::new(Syntax::Strict);
        loader.read("", PODS.as_bytes());
        let policy = format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, namespace: x}}, spec: {spec}}}"
        );
        loader.read("", policy.as_bytes());
        let snapshot = loader.finish();
        assert!(!snapshot.has_errors(), "{:?}", snapshot.diagnostics);
        let effects = Effects::new(snapshot.pods.values(), knowledge);
        let findings = snapshot.policies.values().flat_map(|policy| effects.findings(policy));
        findings.map(|finding| (finding.rule.name, finding.path)).collect()
    }

    #[test]
    fn a_policy_for_host_pods_alone_has_no_effect() {
        let host = [(HOST, "spec.podSelector".to_owned())];
        assert_eq!(found("{podSelector: {matchLabels: {app: host}}}", Knowledge::Part), host);
        assert_eq!(found("{podSelector: {}}", Knowledge::Part), []);
        // It may select pods that are not there yet.
        assert_eq!(found("{podSelector: {matchLabels: {app: done}}}", Knowledge::Whole), []);
    }

    #[test]
    fn rules_that_multiply_are_named() {
        let rules = |number: u16, is_nested: bool| {
            let rule = |n: u16| {
                let (low, high) = if is_nested { (1 + n, 60_000 - n) } else { (1 + 2 * n, 2 + 2 * n) };
                format!(
                    "{{from: [{{ipBlock: {{cidr: 10.{}.{}.0/24}}}}], ports: [{{port: {low}, endPort: {high}}}]}}",
                    n / 256,
                    n % 256
                )
            };
            let rules: Vec<String> = (0..number).map(rule).collect();
            found(&format!("{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{}]}}", rules.join(", ")), Knowledge::Whole)
        };
        assert_eq!(rules(1500, true), [(PEERS, "spec.ingress".to_owned())], "1,500 × 1,500 / 2 below each end, twice");
        assert_eq!(rules(100, true), []);
        assert_eq!(rules(1500, false), []);
    }

    #[test]
    fn a_port_name_that_nobody_has_allows_nothing() {
        let ingress = |port: &str| {
            format!("{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{{}}, {{ports: [{{port: 1}}, {port}]}}]}}")
        };
        let missing = |path: &str| vec![(PORT, path.to_owned())];
        assert_eq!(found(&ingress("{port: http}"), Knowledge::Part), []);
        assert_eq!(found(&ingress("{port: https}"), Knowledge::Part), missing("spec.ingress[1].ports[1].port"));
        let udp = [("named-port-protocol", "spec.ingress[1].ports[1].port".to_owned())];
        assert_eq!(found(&ingress("{port: http, protocol: UDP}"), Knowledge::Part), udp);
        // Nobody is selected, so nobody can lack it.
        assert_eq!(found("{podSelector: {matchLabels: {app: b}}, ingress: [{ports: [{port: https}]}]}", Knowledge::Whole), []);
        let egress = |name: &str| format!("{{podSelector: {{}}, egress: [{{ports: [{{port: {name}}}]}}]}}");
        assert_eq!(found(&egress("http"), Knowledge::Whole), []);
        assert_eq!(found(&egress("https"), Knowledge::Whole), missing("spec.egress[0].ports[0].port"));
        assert_eq!(found(&egress("node-port"), Knowledge::Whole), missing("spec.egress[0].ports[0].port"));
        assert_eq!(found(&egress("https"), Knowledge::Part), [], "a pod that is not in these files may have it");
    }
}
