//! Pods that may connect to others and cannot look up their names.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::graph::GroupId;
use policy_core::model::{Direction, Labels, NAME_LABEL, NamespaceScope, ObjectKey, Peer, Peers, Pod, Policy, Ports, Selector};
use policy_core::proof::RuleAt;
use policy_core::sets::{Protocol, Transport};

use crate::context::Context;
use crate::openings::PolicySet;

/// Pods may connect to others, and to no DNS server.
pub static DNS_BLOCKED: Rule = Rule {
    id: "NP120",
    name: "dns-blocked",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S3.3",
    event_reason: None,
    summary: "pods may connect to others, and not to a DNS server",
    documentation: Documentation {
        what: "Pods that policies isolate for egress and allow some connections, but no connection to UDP port 53 of a DNS server. Connections to single addresses do not count. Where the input has the DNS pods of the cluster, the port is theirs: 5353 in OpenShift. A rule to address blocks with port 53 counts as one to a DNS server.",
        why: "Programs connect to names. Without DNS, no connection to a name works, and it looks as if the other rules did not.",
        example: Some(shop!(
            deployment!("web"),
            deployment!("db"),
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  policyTypes: [Egress]\n  egress:\n  - to: [{podSelector: {matchLabels: {app: db}}}]\n    ports: [{port: 5432}]\n"
            )
        )),
        fix: "Allow UDP and TCP port 53 to the DNS servers of the cluster. If the pods need no names, ignore the finding.",
        corrected: Some(shop!(
            deployment!("web"),
            deployment!("db"),
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  policyTypes: [Egress]\n  egress:\n  - to: [{podSelector: {matchLabels: {app: db}}}]\n    ports: [{port: 5432}]\n  - to:\n    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}\n      podSelector: {matchLabels: {k8s-app: kube-dns}}\n    ports: [{port: 53, protocol: UDP}, {port: 53}]\n"
            )
        )),
    },
};

/// The labels of DNS pods in clusters of the usual kinds, and the namespaces that they are in.
const DNS_LABELS: [(&str, &str); 5] = [
    ("k8s-app", "kube-dns"),
    ("k8s-app", "coredns"),
    ("app", "coredns"),
    ("app.kubernetes.io/name", "coredns"),
    (OPENSHIFT_DNS, "default"),
];
const DNS_NAMESPACES: [&str; 2] = ["kube-system", "openshift-dns"];
const OPENSHIFT_DNS: &str = "dns.operator.openshift.io/daemonset-dns";

const DNS: Protocol = Protocol::Port(Transport::Udp, 53);

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let servers = Servers::of(context);
    let mut found: BTreeMap<&ObjectKey, Diagnostic> = BTreeMap::new();
    for set in context.policy_sets(Direction::Egress).iter().filter(|set| !set.groups.is_empty()) {
        let rules = || set.policies.iter().flat_map(|policy| rules_of(policy));
        let Some(first) = rules().find(|at| at.leads_somewhere(context)) else { continue };
        let is_of_servers = || set.groups.iter().all(|group| servers.ports.contains_key(group));
        if found.contains_key(&first.policy.key) || rules().any(|at| servers.are_allowed_by(context, &at)) || is_of_servers() {
            continue;
        }
        if context.knows_policies_of(&first.policy.key.namespace) {
            found.insert(&first.policy.key, finding(context, set, first.policy, &servers));
        }
    }
    found.into_values().collect()
}

fn finding(context: &Context<'_>, set: &PolicySet<'_>, policy: &Policy, servers: &Servers) -> Diagnostic {
    let pods = context.example_of(&set.groups).unwrap_or_default();
    let ports: BTreeSet<u16> = servers.ports.values().flatten().copied().collect();
    let ports: Vec<String> = if ports.is_empty() { vec!["53".to_owned()] } else { ports.iter().map(u16::to_string).collect() };
    let ports = ports.join(" or ");
    let message = format!("pods such as {pods} may connect to others, but not to UDP port {ports} of a DNS server");
    let help = format!("allow UDP and TCP port {ports} to the DNS servers, if the pods connect to names");
    context.finding(&DNS_BLOCKED, &policy.key, "spec.egress", message).help(help)
}

/// An egress rule.
struct EgressRule<'a> {
    policy: &'a Policy,
    index: usize,
    peers: &'a Peers,
    ports: &'a Ports,
}

fn rules_of(policy: &Policy) -> impl Iterator<Item = EgressRule<'_>> {
    let rules = policy.rules(Direction::Egress).unwrap_or_default().iter().enumerate();
    rules.map(move |(index, rule)| EgressRule { policy, index, peers: &rule.peers, ports: &rule.ports })
}

impl EgressRule<'_> {
    /// The groups that a peer selects.
    fn selected(&self, context: &Context<'_>, peer: usize) -> Vec<GroupId> {
        let Some(policy) = context.id(self.policy) else { return Vec::new() };
        let rule = RuleAt { policy, direction: Direction::Egress, index: self.index };
        context.graph.selected_by_peer(rule, peer).unwrap_or_default()
    }

    /// Whether it allows a connection to somebody that has a name. Who connects to a single address knows it.
    fn leads_somewhere(&self, context: &Context<'_>) -> bool {
        let Peers::Listed(peers) = self.peers else { return true };
        peers.iter().enumerate().any(|(at, peer)| match peer {
            Peer::Block(block) => block.addresses().ranges().any(|(low, high)| low != high),
            Peer::Pods { .. } => !self.selected(context, at).is_empty(),
            Peer::Unreadable => false,
        })
    }

    /// Whether it lists the port of DNS, or a UDP port by a name that may be it.
    fn lists_dns(&self) -> bool {
        matches!(self.ports, Ports::Listed(_)) && self.allows_dns()
    }

    fn allows_dns(&self) -> bool {
        self.ports.numbers().contains(DNS) || self.ports.names().any(|(transport, _)| transport == Transport::Udp)
    }
}

/// The DNS pods of the input.
struct Servers {
    /// The UDP ports of each group of them.
    ports: BTreeMap<GroupId, BTreeSet<u16>>,
}

impl Servers {
    fn of(context: &Context<'_>) -> Self {
        let is_server = |pod: &&Pod| DNS_LABELS.iter().any(|(key, value)| pod.labels.get(*key).is_some_and(|own| own == value));
        let mut ports: BTreeMap<GroupId, BTreeSet<u16>> = BTreeMap::new();
        for pod in context.snapshot.pods.values().filter(is_server) {
            let Some(group) = context.group_of(pod) else { continue };
            let named = pod.ports.iter().filter(|port| port.protocol == Transport::Udp && port.name.starts_with("dns"));
            let of_group = ports.entry(group).or_default();
            of_group.extend(named.map(|port| port.number));
            if of_group.is_empty() {
                of_group.insert(if pod.labels.contains_key(OPENSHIFT_DNS) { 5353 } else { 53 });
            }
        }
        Self { ports }
    }

    /// Whether a rule may lead to a DNS server.
    fn are_allowed_by(&self, context: &Context<'_>, rule: &EgressRule<'_>) -> bool {
        let Peers::Listed(peers) = rule.peers else {
            let mut groups = self.ports.keys();
            return if self.ports.is_empty() {
                rule.allows_dns()
            } else {
                groups.any(|group| self.is_port_allowed(*group, rule))
            };
        };
        peers.iter().enumerate().any(|(at, peer)| match peer {
            Peer::Block(block) => {
                let allows_any = self.ports.keys().any(|group| self.is_port_allowed(*group, rule));
                !block.addresses().is_empty() && (allows_any || rule.allows_dns())
            }
            Peer::Pods { namespaces, pods } => {
                let selected = rule.selected(context, at);
                let mut servers = selected.iter().filter(|group| self.ports.contains_key(group)).peekable();
                if servers.peek().is_some() {
                    servers.any(|group| self.is_port_allowed(*group, rule))
                } else {
                    let may_be = || self.ports.is_empty() && may_be_dns(context, rule.policy, namespaces, pods);
                    rule.lists_dns() || (rule.allows_dns() && may_be())
                }
            }
            Peer::Unreadable => false,
        })
    }

    /// Whether a rule allows the port of a group of DNS pods, if its peers are these.
    fn is_port_allowed(&self, group: GroupId, rule: &EgressRule<'_>) -> bool {
        let numbers = rule.ports.numbers();
        let mut own = self.ports.get(&group).into_iter().flatten();
        own.any(|port| numbers.contains(Protocol::Port(Transport::Udp, *port)))
            || rule.ports.names().any(|(transport, name)| transport == Transport::Udp && name.starts_with("dns"))
    }
}

/// Whether selectors may match DNS pods that are not in the input.
fn may_be_dns(context: &Context<'_>, policy: &Policy, scope: &NamespaceScope, pods: &Selector) -> bool {
    let is_in_scope = |name: &str| match scope {
        NamespaceScope::Own => policy.key.namespace == name,
        NamespaceScope::Matching(selector) => match context.snapshot.namespaces.get(name) {
            Some(namespace) if context.knows_namespaces() => selector.matches(&namespace.labels),
            // It has its name as a label, and may have any other.
            _ => selector.requirements().iter().all(|asked| asked.key != NAME_LABEL || asked.holds(Some(name))),
        },
    };
    let labels = |(key, value): (&str, &str)| Labels::from([(key.to_owned(), value.to_owned())]);
    DNS_NAMESPACES.iter().any(|name| is_in_scope(name)) && DNS_LABELS.iter().any(|pair| pods.matches(&labels(*pair)))
}
