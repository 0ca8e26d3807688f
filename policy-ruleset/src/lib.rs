//! The nftables ruleset of one node, as data.
//!
//! [`render()`] turns a [`NodePlan`](policy_core::plan::NodePlan) into a [`Ruleset`], and [`Transaction`] is the difference of
//! two of them. Nothing here talks to a kernel: the agent applies transactions, `netpol render` prints them.
//!
//! - `ruleset`: sets and chains.
//! - [`rule`]: what rules are made of.
//! - `render`: the layout, destination → port → source.
//! - `identity`: what sets and chains stand for, as bytes.
//! - `names`: names that describe their contents, and are stable.
//! - `port_peers`: the elements of a set that serves many pairs of ports and peers.
//! - `transaction`: what to change, in an order that the kernel accepts.
//! - `terminated`: what keeps connections cut.
//!
//! Three printers write the same rules, and nothing that they write is read back:
//!
//! - `text`: in the language of nft, for `nft -f` and readers.
//! - `json`: for `nft -j -f -`, through the objects of the `nftables` crate.
//! - `netlink`: for the kernel, as batches of netlink messages. It is behind the feature of that name.

mod identity;
mod json;
mod names;
#[cfg(feature = "netlink")]
pub mod netlink;
mod port_peers;
mod render;
pub mod rule;
mod ruleset;
pub mod terminated;
mod text;
mod transaction;

pub use names::workload_name;
pub use port_peers::PortPeers;
pub use render::{DenyLog, Options, render};
pub use rule::Rule;
pub use ruleset::{Chain, Contents, Description, Element, GroupDescription, Hook, Ruleset, Set, SetKind};
pub use transaction::{Op, Transaction};

/// The one table that netpol owns (S6.2).
pub const TABLE: &str = "netpol";

/// A chain that every ruleset of netpol has, and no other program would create: it identifies our table.
pub const MARKER: &str = "first-packets";
