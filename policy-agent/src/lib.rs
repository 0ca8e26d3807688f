//! Keeps the kernel of one node true to the allow graph.
//!
//! - `admin`: HTTP, the socket of the node, counters.
//! - `agent`: the loop that brings all of this together.
//! - `connections`: established connections that lost their verdict.
//! - `denied`: samples of what was denied.
//! - `enforcer`: the compiler, what is in force, and the step from one to the other.
//! - `explain`: kernel objects and denials in the words of Kubernetes.
//! - `install`: the CNI plugin in the node's chain.
//! - `interfaces`: which interfaces of the node lead to pods.
//! - `kernel`: the table in the kernel, and the ways to change it.
//! - `metrics`: what Prometheus sees.
//! - `removal`: the CNI plugin taken out of the chain when the agent is removed for good.
//! - `reporter`: Events on policies that cannot be fully honoured.
//! - `sandboxes`: pods of this node between the moment they have addresses and the moment the API says so.
//! - `saved`: the last ruleset on disk, for an agent that finds the table gone.
//! - `small_file`: reading a small regular file, whatever stands in its place.
//! - `source`: where objects come from.
//! - `status`: how the agent is.
//! - `warnings`: what about the node keeps policies from being enforced.

pub mod admin;
pub mod agent;
pub mod connections;
pub mod denied;
pub mod enforcer;
pub mod explain;
pub mod install;
pub mod interfaces;
pub mod kernel;
pub mod metrics;
pub mod removal;
pub mod reporter;
pub mod sandboxes;
pub mod saved;
mod small_file;
pub mod source;
pub mod status;
pub mod warnings;
