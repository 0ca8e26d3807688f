//! Allow or deny, and why. Nothing else in the project decides about traffic.
//!
//! - `judge`: who an address is, one flow, and all ports of a pair (S3.15).
//! - `explain`: the same with reasons: which policies isolate, which rule allows, why the others do not, and the nearest miss.
//! - `reason`: a reason in words.
//! - `survey`: every connection between workloads, and with the address space outside.
//! - `connections`: the survey as a petgraph, for paths.

mod connections;
mod explain;
mod judge;
mod matrix;
mod miss;
mod reason;

pub use connections::Connections;
pub use explain::{PolicyRef, RuleExplanation, RuleRef, SideExplanation};
pub use judge::{Cause, Endpoint, Flow, Verdict};
pub use matrix::{ConnectivityMatrix, ExternalPorts, PairPorts, WorkloadPods};
pub use miss::NearMiss;
pub use reason::Reason;
