//! The CNI plugin, and what it says to the agent.
//!
//! The plugin stands at the end of the chain that a container runtime runs for each pod, before the pod's containers start. It
//! tells the agent which addresses the pod has, and returns when the kernel has the pod's rules, or holds the addresses in
//! quarantine because nobody knows the pod yet (S3.11). It never lets a pod start otherwise.
//!
//! - [`protocol`]: a question and an answer, each one line of JSON.
//! - [`plugin`]: what the specification asks of a plugin (S6.5 to S6.9), as a function of its input.
//! - [`client`]: the way to the agent.

pub mod client;
pub mod plugin;
pub mod protocol;
