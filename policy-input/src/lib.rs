//! Where objects come from. The command line and the agent read the same files and clusters in the same way.
//!
//! Nothing is decided here: files are bytes and objects of clusters are JSON until `policy-core` reads them.
//!
//! - [`files`]: which files below a directory are manifests, and their bytes.
//! - [`health`]: how current what a source has read is.
//! - `cluster`: how to reach an API server, and which parts of its objects decide. It is behind the feature of that name, because
//!   the API client takes minutes to build.
//! - `sources`: what a folder of a repository is, and what kustomize and helm print for it. It is behind the feature of that name,
//!   because only the command line needs it.

#[cfg(feature = "cluster")]
pub mod cluster;
pub mod files;
pub mod health;
#[cfg(feature = "sources")]
pub mod sources;
