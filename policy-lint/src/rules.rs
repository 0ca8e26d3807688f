//! The rules of this crate, one file for each. File, constant and name agree.

/// A Deployment of the namespace `shop` with this name as its label `app`, and one container with these fields.
macro_rules! deployment {
    ($name:literal) => {
        deployment!($name, "name: c, ports: [{containerPort: 8080}]")
    };
    ($name:literal, $container:literal) => {
        concat!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: ",
            $name,
            ", namespace: shop}\nspec:\n  selector: {matchLabels: {app: ",
            $name,
            "}}\n  template:\n    metadata: {labels: {app: ",
            $name,
            "}}\n    spec: {containers: [{",
            $container,
            "}]}\n---\n"
        )
    };
}

/// A policy of the namespace `shop` with this text as the fields of its `spec`.
macro_rules! policy {
    ($name:literal, $spec:expr) => {
        concat!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: ",
            $name,
            ", namespace: shop}\nspec:\n",
            $spec
        )
    };
}

/// The namespace `shop` with these objects.
macro_rules! shop {
    ($($object:expr),+) => {
        concat!("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n", $($object),+)
    };
}

pub mod ambiguous_address;
pub mod dns_blocked;
pub mod empty_egress_without_types;
pub mod end_port_portability;
pub mod everyone_by_omission;
pub mod except_covers_all;
pub mod except_nested;
pub mod except_undone;
pub mod half_open;
pub mod host_network_peer;
pub mod isolation_undone;
pub mod label_near_miss;
pub mod metadata_reachable;
pub mod missing_namespace_selector;
pub mod named_port_divergent;
pub mod named_port_not_found;
pub mod named_port_portability;
pub mod named_port_protocol;
pub mod named_port_sidecar_only;
pub mod named_port_to_cidr;
pub mod namespace_label_absent;
pub mod not_isolated;
pub mod only_host_network_pods;
pub mod own_node_egress;
pub mod peer_matches_nothing;
pub mod peers_joined_by_or;
pub mod pod_by_ip_block;
pub mod redundant_policy;
pub mod redundant_rule;
pub mod sctp_portability;
pub mod selector_contradiction;
pub mod selector_tautology;
pub mod selects_nothing;
pub mod too_many_peers;
pub mod v4_only_world;
pub mod volatile_label;
pub mod world_open;

use policy_core::diagnostic::{Diagnostic, Rule};

use crate::context::Context;

/// The rules of this crate that `netpol validate` and the agent report too.
pub static RULES: &[&Rule] = &[
    &only_host_network_pods::ONLY_HOST_NETWORK_PODS,
    &too_many_peers::TOO_MANY_PEERS,
    &named_port_not_found::NAMED_PORT_NOT_FOUND,
    &named_port_protocol::NAMED_PORT_PROTOCOL,
    &ambiguous_address::AMBIGUOUS_ADDRESS,
];

/// A rule that `netpol lint` checks.
pub struct Check {
    /// The rule.
    pub rule: &'static Rule,
    /// What is found, in any order.
    pub run: fn(&Context<'_>) -> Vec<Diagnostic>,
}

/// Every check, in the order of the ids of their rules.
pub static CHECKS: &[Check] = &[
    Check { rule: &selects_nothing::SELECTS_NOTHING, run: selects_nothing::check },
    Check { rule: &peer_matches_nothing::PEER_MATCHES_NOTHING, run: peer_matches_nothing::check },
    Check { rule: &label_near_miss::LABEL_NEAR_MISS, run: label_near_miss::check },
    Check { rule: &selector_contradiction::SELECTOR_CONTRADICTION, run: selector_contradiction::check },
    Check { rule: &half_open::HALF_OPEN, run: half_open::check },
    Check { rule: &missing_namespace_selector::MISSING_NAMESPACE_SELECTOR, run: missing_namespace_selector::check },
    Check { rule: &namespace_label_absent::NAMESPACE_LABEL_ABSENT, run: namespace_label_absent::check },
    Check { rule: &except_covers_all::EXCEPT_COVERS_ALL, run: except_covers_all::check },
    Check { rule: &except_undone::EXCEPT_UNDONE, run: except_undone::check },
    Check { rule: &peers_joined_by_or::PEERS_JOINED_BY_OR, run: peers_joined_by_or::check },
    Check { rule: &host_network_peer::HOST_NETWORK_PEER, run: host_network_peer::check },
    Check { rule: &named_port_sidecar_only::NAMED_PORT_SIDECAR_ONLY, run: named_port_sidecar_only::check },
    Check { rule: &named_port_divergent::NAMED_PORT_DIVERGENT, run: named_port_divergent::check },
    Check { rule: &named_port_to_cidr::NAMED_PORT_TO_CIDR, run: named_port_to_cidr::check },
    Check { rule: &dns_blocked::DNS_BLOCKED, run: dns_blocked::check },
    Check { rule: &empty_egress_without_types::EMPTY_EGRESS_WITHOUT_TYPES, run: empty_egress_without_types::check },
    Check { rule: &everyone_by_omission::EVERYONE_BY_OMISSION, run: everyone_by_omission::check },
    Check { rule: &world_open::WORLD_OPEN, run: world_open::check },
    Check { rule: &v4_only_world::V4_ONLY_WORLD, run: v4_only_world::check },
    Check { rule: &metadata_reachable::METADATA_REACHABLE, run: metadata_reachable::check },
    Check { rule: &not_isolated::NOT_ISOLATED, run: not_isolated::check },
    Check { rule: &isolation_undone::ISOLATION_UNDONE, run: isolation_undone::check },
    Check { rule: &redundant_rule::REDUNDANT_RULE, run: redundant_rule::check },
    Check { rule: &redundant_policy::REDUNDANT_POLICY, run: redundant_policy::check },
    Check { rule: &volatile_label::VOLATILE_LABEL, run: volatile_label::check },
    Check { rule: &except_nested::EXCEPT_NESTED, run: except_nested::check },
    Check { rule: &selector_tautology::SELECTOR_TAUTOLOGY, run: selector_tautology::check },
    Check { rule: &named_port_portability::NAMED_PORT_PORTABILITY, run: named_port_portability::check },
    Check { rule: &pod_by_ip_block::POD_BY_IP_BLOCK, run: pod_by_ip_block::check },
    Check { rule: &end_port_portability::END_PORT_PORTABILITY, run: end_port_portability::check },
    Check { rule: &own_node_egress::OWN_NODE_EGRESS, run: own_node_egress::check },
    Check { rule: &sctp_portability::SCTP_PORTABILITY, run: sctp_portability::check },
];
