//! What operators and monitoring see: HTTP, the socket of the node, metrics, status.
//!
//! - `counters`: the kernel's counters, read on a timer.
//! - `http`: `/metrics`, `/healthz`, `/readyz`. A client can cost the agent a bounded share of a core, and nothing else.
//! - `metrics`: the registry of metrics.
//! - `socket`: questions of operators, and the CNI plugin's requests.
//! - `status`: the report of `policy-agent status`.
//! - `tokens`: who can read `/metrics`.
//! - `warnings`: what about the node keeps policies from being enforced.

pub mod counters;
pub mod http;
pub mod metrics;
pub mod socket;
pub mod status;
pub mod tokens;
pub mod warnings;
