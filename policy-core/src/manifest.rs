//! From the text of manifests to model values: syntax, decoding, defaults, validation, and what a file stands for.
//!
//! - [`utf8`], `documents`, `tree`, `scalar`: YAML and JSON with positions, read as kubectl reads them.
//! - `decode`, [`wire`]: the fields of Kubernetes objects, all faults collected.
//! - `lower`: Kubernetes defaults and validation. Nowhere else.
//! - `fault`: what is wrong with an object, and the diagnostic that it becomes.
//! - `kinds`: one table of the kinds that are read; a file for each, or for each family.
//! - `load`: dispatch by apiVersion and kind, over that table.
//! - `served`: the apiVersions of these kinds that API servers have.
//! - `foreign`: kinds that are not read.
//! - `hooks`: objects that a cluster has only for a moment.
//! - `claims`, `apply`: which of several objects of one name counts.
//! - `digest`: whether two objects say the same.
//! - [`Unread`]: what could not be read, and may be a policy.
//! - [`Places`]: where the parts of objects are written, for findings that come later.
//! - `makers`: objects whose pods are not known.
//! - `snapshot`: everything that was read, put together.
//! - `workloads`: which pods an input stands for.
//!
//! A bad document is a diagnostic and never hides the next one. What could not be read of a policy is in its fail-closed form
//! in the snapshot; whether to answer from such a snapshot is for the caller to decide ([`Snapshot::has_errors`]).

mod apply;
mod cidr;
mod claims;
mod decode;
mod digest;
mod documents;
mod encoding;
mod fault;
mod foreign;
mod generators;
mod hooks;
mod kinds;
mod load;
mod lower;
mod makers;
mod names;
mod own_files;
mod places;
mod scalar;
mod served;
mod snapshot;
mod tree;
mod unread;
pub mod wire;
mod workloads;

pub use encoding::utf8;
pub use foreign::is_foreign_policy;
pub use kinds::network_policy::IGNORE;
pub use kinds::{removal, unreadable};
pub use load::{Loader, NOT_READ};
pub use lower::{Syntax, is_generated};
pub use makers::{Makes, PodMaker};
pub use names::nearest;
pub use own_files::{OwnFile, own_file, scalar_spans};
pub use places::Places;
pub use snapshot::{Basis, Extent, Foreign, Replicas, Snapshot, Workload};
pub use unread::Unread;
