//! The rules of this crate, one file for each. File, constant and name agree.

pub mod ambiguous_address;
pub mod everyone_by_omission;
pub mod except_covers_all;
pub mod except_nested;
pub mod half_open;
pub mod label_near_miss;
pub mod missing_namespace_selector;
pub mod named_port_not_found;
pub mod namespace_label_absent;
pub mod only_host_network_pods;
pub mod peer_matches_nothing;
pub mod redundant_policy;
pub mod redundant_rule;
pub mod selector_contradiction;
pub mod selects_nothing;
pub mod too_many_peers;
pub mod volatile_label;

use policy_core::diagnostic::{Diagnostic, Rule};

use crate::context::Context;

/// The rules of this crate that `netpol validate` and the agent report too.
pub static RULES: &[&Rule] = &[
    &only_host_network_pods::ONLY_HOST_NETWORK_PODS,
    &too_many_peers::TOO_MANY_PEERS,
    &named_port_not_found::NAMED_PORT_NOT_FOUND,
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
    Check { rule: &everyone_by_omission::EVERYONE_BY_OMISSION, run: everyone_by_omission::check },
    Check { rule: &redundant_rule::REDUNDANT_RULE, run: redundant_rule::check },
    Check { rule: &redundant_policy::REDUNDANT_POLICY, run: redundant_policy::check },
    Check { rule: &volatile_label::VOLATILE_LABEL, run: volatile_label::check },
    Check { rule: &except_nested::EXCEPT_NESTED, run: except_nested::check },
];
