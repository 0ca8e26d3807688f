//! Policies that are valid and do not have the effect that they seem to have.
//!
//! Nothing is decided here: these are findings for whoever wrote the policy.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::compile::pairs_of_rules;
use policy_core::diagnostic::{Diagnostic, Kind, Position, Severity};
use policy_core::model::{Direction, MOST_PEERS, NamedPort, ObjectKey, Origin, Phase, Pod, Policy, PortEntry, Ports};
use policy_core::sets::Transport;

/// What is the matter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// The policy selects hostNetwork pods only (S2.8).
    OnlyHostNetwork,
    /// A rule names a port that no container of any pod concerned has (S1.53, S1.54).
    NamedPortNotFound,
    /// Port ranges of the policy overlap so much that it is not compiled, and its pods get no traffic.
    TooManyPeers,
}

/// A finding about one policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The policy.
    pub policy: ObjectKey,
    /// What is the matter.
    pub reason: Reason,
    /// The rule of the semantics behind it.
    pub rule: &'static str,
    /// The field path.
    pub path: String,
    /// What was found, in one line.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Finding {
    /// The finding as a warning about a policy that is written there.
    #[must_use]
    pub fn diagnostic(self, origin: Option<&Origin>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Warning,
            kind: Kind::NoEffect,
            rule: self.rule,
            file: origin.map(|origin| origin.file.clone()).unwrap_or_default(),
            position: origin.map(|origin| Position { line: origin.line, column: 1, bytes: (0, 0) }),
            object: format!("NetworkPolicy {}", self.policy),
            path: self.path,
            message: self.message,
            help: self.help,
        }
    }
}

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

    /// What is to be said about a policy. Silent where the pods cannot tell.
    ///
    /// Cost: linear in the pods of the policy's namespace.
    #[must_use]
    pub fn findings(&self, policy: &Policy) -> Vec<Finding> {
        let pods = self.by_namespace.get(policy.key.namespace.as_str()).map(Vec::as_slice).unwrap_or_default();
        let targets = pods.iter().filter(|pod| policy.target.matches(&pod.labels));
        let (host, own): (Vec<&Pod>, Vec<&Pod>) = targets.copied().partition(|pod| pod.is_host_network);
        if own.is_empty() && !host.is_empty() {
            return vec![Finding {
                policy: policy.key.clone(),
                reason: Reason::OnlyHostNetwork,
                rule: "S2.8",
                path: "spec.podSelector".to_owned(),
                message: "the policy selects only hostNetwork pods, whose traffic is their node's, so it has no effect"
                    .to_owned(),
                help: None,
            }];
        }
        let mut out: Vec<Finding> =
            Direction::ALL.into_iter().filter_map(|direction| too_many_peers(policy, direction)).collect();
        if !own.is_empty() {
            self.ingress(policy, &own, &mut out);
        }
        if self.knowledge == Knowledge::Whole {
            self.egress(policy, &mut out);
        }
        out
    }

    /// An ingress rule's port name is looked up on the pods that the policy selects.
    fn ingress(&self, policy: &Policy, targets: &[&Pod], out: &mut Vec<Finding>) {
        let is_there = |protocol: Transport, name: &str| {
            let is_it = |port: &NamedPort| port.name == name && port.protocol == protocol;
            targets.iter().any(|pod| pod.ports.iter().any(is_it))
        };
        for (path, protocol, name) in named(policy, Direction::Ingress) {
            if !is_there(protocol, name) {
                let message = format!(
                    "no pod that the policy selects has a container port named `{name}` for {protocol}, so this entry allows nothing"
                );
                out.push(missing(policy, "S1.53", path, message));
            }
        }
    }

    /// An egress rule's port name is looked up on whatever pods the traffic goes to.
    fn egress(&self, policy: &Policy, out: &mut Vec<Finding>) {
        for (path, protocol, name) in named(policy, Direction::Egress) {
            if !self.ports.contains(&(name, protocol)) {
                let message =
                    format!("no pod at all has a container port named `{name}` for {protocol}, so this entry allows nothing");
                out.push(missing(policy, "S1.54", path, message));
            }
        }
    }
}

/// Rules whose port ranges overlap make a set of peers for each port at which one of them begins or ends. Those of other policies for the
/// same pods come on top, so this finds some of what is not compiled.
fn too_many_peers(policy: &Policy, direction: Direction) -> Option<Finding> {
    let rules = policy.rules(direction)?;
    (pairs_of_rules(rules) > MOST_PEERS).then(|| Finding {
        policy: policy.key.clone(),
        reason: Reason::TooManyPeers,
        rule: "S0.6",
        path: format!("spec.{direction}"),
        message: format!(
            "the port ranges of its {} rules overlap so that they make more than {MOST_PEERS} pairs of ports and peers, so the pods that it \
             selects get no {direction} traffic",
            rules.len()
        ),
        help: Some("use port ranges that do not overlap, or fewer of them".to_owned()),
    })
}

fn missing(policy: &Policy, rule: &'static str, path: String, message: String) -> Finding {
    let help = Some("name a port that containers declare, or use its number".to_owned());
    Finding { policy: policy.key.clone(), reason: Reason::NamedPortNotFound, rule, path, message, help }
}

/// The port names of one direction, with their paths.
fn named(policy: &Policy, direction: Direction) -> impl Iterator<Item = (String, Transport, &str)> {
    let rules = policy.rules(direction).unwrap_or_default().iter().enumerate();
    rules.flat_map(move |(at, rule)| {
        let entries = if let Ports::Listed(entries) = &rule.ports { entries.as_slice() } else { &[] };
        entries.iter().enumerate().filter_map(move |(number, entry)| match entry {
            PortEntry::Named { protocol, name } => {
                Some((format!("spec.{direction}[{at}].ports[{number}].port"), *protocol, name.as_str()))
            }
            PortEntry::Range { .. } | PortEntry::Unreadable => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use policy_core::manifest::{Loader, Syntax};

    use super::*;

    const PODS: &str = r#"
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: x, labels: {app: web}}, spec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: host, namespace: x, labels: {app: host}}, spec: {nodeName: n1, hostNetwork: true, containers: [{name: c, ports: [{name: node-port, containerPort: 80}]}]}, status: {podIP: 192.0.2.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: done, namespace: x, labels: {app: done}}, spec: {nodeName: n1, hostNetwork: true}, status: {phase: Succeeded, podIP: 192.0.2.1}}
"#;

    fn found(spec: &str, knowledge: Knowledge) -> Vec<(Reason, String)> {
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
        findings.map(|finding| (finding.reason, finding.path)).collect()
    }

    #[test]
    fn a_policy_for_host_pods_alone_has_no_effect() {
        let host = [(Reason::OnlyHostNetwork, "spec.podSelector".to_owned())];
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
        assert_eq!(
            rules(1500, true),
            [(Reason::TooManyPeers, "spec.ingress".to_owned())],
            "1,500 × 1,500 / 2 below each end, twice"
        );
        assert_eq!(rules(100, true), []);
        assert_eq!(rules(1500, false), []);
    }

    #[test]
    fn a_port_name_that_nobody_has_allows_nothing() {
        let ingress = |port: &str| {
            format!("{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{{}}, {{ports: [{{port: 1}}, {port}]}}]}}")
        };
        let missing = |path: &str| vec![(Reason::NamedPortNotFound, path.to_owned())];
        assert_eq!(found(&ingress("{port: http}"), Knowledge::Part), []);
        assert_eq!(found(&ingress("{port: https}"), Knowledge::Part), missing("spec.ingress[1].ports[1].port"));
        assert_eq!(found(&ingress("{port: http, protocol: UDP}"), Knowledge::Part), missing("spec.ingress[1].ports[1].port"));
        // Nobody is selected, so nobody can lack it.
        assert_eq!(found("{podSelector: {matchLabels: {app: b}}, ingress: [{ports: [{port: https}]}]}", Knowledge::Whole), []);
        let egress = |name: &str| format!("{{podSelector: {{}}, egress: [{{ports: [{{port: {name}}}]}}]}}");
        assert_eq!(found(&egress("http"), Knowledge::Whole), []);
        assert_eq!(found(&egress("https"), Knowledge::Whole), missing("spec.egress[0].ports[0].port"));
        assert_eq!(found(&egress("node-port"), Knowledge::Whole), missing("spec.egress[0].ports[0].port"));
        assert_eq!(found(&egress("https"), Knowledge::Part), [], "a pod that is not in these files may have it");
    }
}
