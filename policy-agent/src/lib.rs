//! Enforces the allow graph on one node.
//!
//! - `admin`: what operators and monitoring see: HTTP, the socket, metrics, status.
//! - `agent`: the main loop.
//! - `chain`: the CNI plugin in the node's chain.
//! - `connections`: established connections that policy allows no longer.
//! - `denials`: samples of denied packets, and why they were denied.
//! - `enforcer`: the compiler, what is in force, and the step from one to the other.
//! - `interfaces`: which interfaces of the node lead to pods.
//! - `kernel`: the table in the kernel, and the ways to change it.
//! - `report`: Events on policies that cannot be enforced as written.
//! - `sandboxes`: pods of this node between the moment they have addresses and the moment the API shows these.
//! - `small_file`: reading a small regular file, and nothing else in its place.
//! - `source`: where objects come from.

pub mod admin;
pub mod agent;
pub mod chain;
pub mod connections;
pub mod denials;
pub mod enforcer;
pub mod interfaces;
pub mod kernel;
#[cfg(feature = "kubernetes")]
pub mod report;
pub mod sandboxes;
mod small_file;
pub mod source;
