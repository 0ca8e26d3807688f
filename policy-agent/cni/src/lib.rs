//! The CNI plugin, and its protocol with the agent.
//!
//! The plugin is at the end of the chain that a container runtime runs for each pod, before the pod's containers start. It
//! reports the addresses of the pod to the agent, and returns when the kernel has the pod's rules, or has the addresses in
//! quarantine because the pod is not known yet (S3.11). It never lets a pod start otherwise.
//!
//! - [`protocol`]: a question and an answer, each one line of JSON.
//! - [`plugin`]: what the specification asks of a plugin (S6.5 to S6.9), as a function of its input.
//! - [`client`]: the way to the agent.

pub mod client;
pub mod plugin;
pub mod protocol;
