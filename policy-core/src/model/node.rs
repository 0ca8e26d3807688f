//! Nodes, as far as traffic has to do with them.

use std::net::IpAddr;

/// A Node. Its processes and its hostNetwork pods share its addresses.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    /// `metadata.name`.
    pub name: String,
    /// Every entry of `status.addresses` that parses as an IP address (S4.7).
    pub addresses: Vec<IpAddr>,
}
