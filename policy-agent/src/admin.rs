//! What operators and monitoring see: HTTP, the socket of the node, counters.
//!
//! - `http`: `/metrics`, `/healthz`, `/readyz`. Whoever reaches it can cost the agent a bounded share of a core, and nothing else.
//! - `socket`: questions of operators, and the CNI plugin's requests.
//! - `counters`: the kernel's counters, read on a timer.

pub mod counters;
pub mod http;
pub mod socket;
