//! The rules of this crate, one file for each. File, constant and name agree.

pub mod ambiguous_address;
pub mod named_port_not_found;
pub mod only_host_network_pods;
pub mod too_many_peers;

use policy_core::diagnostic::Rule;

/// Every rule of this crate.
pub static RULES: &[&Rule] = &[
    &only_host_network_pods::ONLY_HOST_NETWORK_PODS,
    &too_many_peers::TOO_MANY_PEERS,
    &named_port_not_found::NAMED_PORT_NOT_FOUND,
    &ambiguous_address::AMBIGUOUS_ADDRESS,
];
