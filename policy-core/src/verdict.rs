//! Allow or deny, and why. Nothing else in the project decides about traffic. Whether a peer set holds an end, and what a port name
//! means there, is answered by [`graph`](crate::graph).
//!
//! - `evaluate`: one flow, and all ports of a pair (S3.15).
//! - `explain`: the same with reasons: which policies isolate, which rule allows, why the others do not.
//! - `nearest_miss`: the smallest edit that would allow what is denied.
//! - `question`: what a rule means for a question.
//! - `reason`: a reason in words.
//! - `reference`: policies, rules and requirements as explanations name them.
//! - `matrix`: every connection between workloads, and with the address space outside.
//! - `connections`: the matrix as a petgraph, for paths.

mod connections;
mod evaluate;
mod explain;
mod matrix;
mod nearest_miss;
mod question;
mod reason;
mod reference;

pub use connections::Connections;
pub use evaluate::{Cause, Flow, Verdict};
pub use explain::{RuleExplanation, SideExplanation};
pub use matrix::{ConnectivityMatrix, ExternalPorts, PairPorts, WorkloadPods};
pub use nearest_miss::NearMiss;
pub use reason::Reason;
pub(crate) use reference::mistyped;
pub use reference::{PolicyRef, RuleRef};
