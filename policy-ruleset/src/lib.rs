//! The nftables ruleset of one node, as data.
//!
//! [`render()`] turns a [`NodePlan`](policy_core::plan::NodePlan) into a [`Ruleset`], and [`Transaction`] is the difference of
//! two of them. Nothing here talks to a kernel: the agent applies transactions, `netpol render` prints them.
//!
//! - `ruleset`: sets, chains and rules; rules are objects of the `nftables` crate.
//! - `render`: the layout, destination → port → source.
//! - `names`: names that describe their contents, and are stable.
//! - `rule`: short spellings for the objects that rules are made of.
//! - `port_peers`: the elements of a set that serves many pairs of ports and peers.
//! - `transaction`: what to change, in an order that the kernel accepts.
//! - `cut`: what keeps connections cut.
//! - `json` and `text`: for `nft -j -f -`, and for `nft -f` and readers.
//! - [`netlink`]: for the kernel, as batches of netlink messages.

pub mod cut;
mod json;
mod names;
pub mod netlink;
mod port_peers;
mod render;
mod rule;
mod ruleset;
mod text;
mod transaction;

pub use names::workload_name;
pub use port_peers::PortPeers;
pub use render::{DenyLog, Options, render};
pub use ruleset::{Chain, Contents, Description, Element, GroupDescription, Hook, Ruleset, Set, SetKind};
pub use transaction::{Op, Transaction};

/// The one table that netpol owns (S6.2).
pub const TABLE: &str = "netpol";

/// A chain that every ruleset of netpol has, and no other program would create: it identifies our table.
pub const MARKER: &str = "first-packets";
