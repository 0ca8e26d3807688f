//! How to reach an API server, and which parts of its objects decide about network traffic. The command line and the agent use
//! the same.
//!
//! - [`Access`]: from a kubeconfig, or the service account of a pod.
//! - [`Shape`]: reading JSON by halves.
//! - [`read`]: everything that an answer needs, once.

mod access;
pub mod read;
mod shape;

pub use access::Access;
pub use shape::Shape;
