//! An edit as `kubectl patch --type=json` and `kubectl apply` take it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{
    Direction, NamespaceScope, ObjectKey, Operator, Peer, Peers, PortEntry, Ports, Rule, Selector as ModelSelector,
};

/// An edit to the objects of a cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum Patch {
    /// A JSON patch (RFC 6902) of a policy.
    Edit(Vec<Operation>),
    /// A new policy.
    Add(Box<Object>),
}

/// One operation of a JSON patch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Operation {
    /// `add` or `replace`.
    pub op: &'static str,
    /// Where, as a JSON pointer.
    pub path: String,
    /// What.
    pub value: Value,
}

/// The value of an operation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A selector.
    Selector(LabelSelector),
    /// A peer.
    Peer(NetworkPolicyPeer),
    /// A port.
    Port(NetworkPolicyPort),
    /// A rule.
    Rule(NetworkPolicyRule),
    /// All rules of a direction.
    Rules(Vec<NetworkPolicyRule>),
}

/// A policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Object {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub metadata: Metadata,
    pub spec: Spec,
}

/// The name of a policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Metadata {
    pub name: String,
    pub namespace: String,
}

/// `NetworkPolicySpec`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Spec {
    pub pod_selector: LabelSelector,
    pub policy_types: [&'static str; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<NetworkPolicyRule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<NetworkPolicyRule>,
}

/// `LabelSelector`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct LabelSelector {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Expression>,
}

/// `LabelSelectorRequirement`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Expression {
    pub key: String,
    pub operator: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// `NetworkPolicyPeer`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NetworkPolicyPeer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<Block>,
}

/// `IPBlock`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Block {
    pub cidr: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

/// `NetworkPolicyPort`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NetworkPolicyPort {
    pub protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_port: Option<u16>,
}

/// A port by number or by name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "a number is a number, and a name a name")]
pub enum Port {
    Number(u16),
    Name(String),
}

/// A rule of either direction.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NetworkPolicyRule {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<NetworkPolicyPeer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<NetworkPolicyPeer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<NetworkPolicyPort>,
}

/// A selector as the API has it.
pub(super) fn selector(selector: &ModelSelector) -> LabelSelector {
    let mut out = LabelSelector::default();
    for requirement in selector.requirements() {
        let (key, list) =
            (requirement.key.clone(), |values: &std::collections::BTreeSet<String>| values.iter().cloned().collect());
        let (operator, values) = match &requirement.operator {
            Operator::In(values) => match values.first() {
                Some(value) if values.len() == 1 => {
                    out.match_labels.insert(key, value.clone());
                    continue;
                }
                _ => ("In", list(values)),
            },
            Operator::NotIn(values) => ("NotIn", list(values)),
            Operator::Exists => ("Exists", Vec::new()),
            Operator::DoesNotExist => ("DoesNotExist", Vec::new()),
        };
        out.match_expressions.push(Expression { key, operator, values });
    }
    out
}

/// A peer as the API has it.
pub(super) fn peer(peer: &Peer) -> NetworkPolicyPeer {
    match peer {
        Peer::Pods { namespaces, pods } => NetworkPolicyPeer {
            namespace_selector: match namespaces {
                NamespaceScope::Own => None,
                NamespaceScope::Matching(labels) => Some(selector(labels)),
            },
            pod_selector: Some(selector(pods)),
            ip_block: None,
        },
        Peer::Block(block) => {
            let except = block.except.iter().map(ToString::to_string).collect();
            NetworkPolicyPeer { ip_block: Some(Block { cidr: block.cidr.to_string(), except }), ..NetworkPolicyPeer::default() }
        }
        Peer::Unreadable => NetworkPolicyPeer::default(),
    }
}

/// A port as the API has it; `None` for one that could not be read.
pub(super) fn port(entry: &PortEntry) -> Option<NetworkPolicyPort> {
    Some(match entry {
        PortEntry::Range { protocol, low: 1, high: u16::MAX } => {
            NetworkPolicyPort { protocol: protocol.name(), port: None, end_port: None }
        }
        PortEntry::Range { protocol, low, high } => NetworkPolicyPort {
            protocol: protocol.name(),
            port: Some(Port::Number(*low)),
            end_port: (low != high).then_some(*high),
        },
        PortEntry::Named { protocol, name } => {
            NetworkPolicyPort { protocol: protocol.name(), port: Some(Port::Name(name.clone())), end_port: None }
        }
        PortEntry::Unreadable => return None,
    })
}

/// A rule as the API has it.
pub(super) fn rule(rule: &Rule, direction: Direction) -> NetworkPolicyRule {
    let peers = match &rule.peers {
        Peers::Everyone => Vec::new(),
        Peers::Listed(list) => list.iter().map(peer).collect(),
    };
    let ports = match &rule.ports {
        Ports::All => Vec::new(),
        Ports::Listed(list) => list.iter().filter_map(port).collect(),
    };
    let (from, to) = match direction {
        Direction::Ingress => (peers, Vec::new()),
        Direction::Egress => (Vec::new(), peers),
    };
    NetworkPolicyRule { from, to, ports }
}

/// A policy with one rule.
pub(super) fn object(key: &ObjectKey, target: &ModelSelector, only: &Rule, direction: Direction) -> Object {
    let rules = vec![rule(only, direction)];
    let (policy_types, ingress, egress) = match direction {
        Direction::Ingress => (["Ingress"], rules, Vec::new()),
        Direction::Egress => (["Egress"], Vec::new(), rules),
    };
    Object {
        api_version: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        metadata: Metadata { name: key.name.clone(), namespace: key.namespace.clone() },
        spec: Spec { pod_selector: selector(target), policy_types, ingress, egress },
    }
}
