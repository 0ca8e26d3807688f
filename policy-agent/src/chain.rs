//! The CNI plugin in the chain that the node's container runtime runs.
//!
//! - `conflist`: the text of a CNI configuration, with the plugin and without.
//! - `install`: puts the plugin into the chain, and keeps it there.
//! - `removal`: takes the plugin out when the agent is removed for good.
//! - `replace`: a file replaced in one step, and only what was read of it.

pub mod conflist;
pub mod install;
#[cfg(feature = "kubernetes")]
pub mod removal;
mod replace;

/// Why the CNI plugin is not in the node's chain.
#[derive(Debug, thiserror::Error)]
pub enum Unchained {
    /// It cannot be put there.
    #[error(transparent)]
    Install(#[from] install::InstallError),
    /// The agent is removed for good.
    #[error("the agent's DaemonSet is deleted, and the CNI plugin was taken out of the chain")]
    Removed,
}
