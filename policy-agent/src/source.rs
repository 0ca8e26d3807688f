//! Where objects come from. What a source says is all that the rest of the agent knows of it.
//!
//! - `kubernetes`: the API.
//! - `manifests`: a folder of files.
//! - `problems`: what is wrong with objects and files, in differences.
//! - `heartbeat`: the heartbeat of a source that looks by itself.

mod heartbeat;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod manifests;
mod problems;

pub use policy_input::cluster::health::KindHealth;
pub use problems::{Problems, ProblemsDelta};

use std::collections::BTreeMap;

use policy_core::diagnostic::Diagnostic;
use policy_core::model::{Change, ObjectKey};

/// What a source tells the agent.
#[derive(Debug, Default)]
pub struct SourceUpdate {
    /// What became different.
    pub changes: Vec<Change>,
    /// How what is wrong with objects and files became different.
    pub problems: ProblemsDelta,
    /// What is wrong with each policy of which that became different; nothing, when it was solved.
    pub faulty: BTreeMap<ObjectKey, Vec<String>>,
    /// How much has been told, with this.
    pub extent: SyncState,
}

/// How much of what there is has been told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum SyncState {
    /// The source is still reading: what was told is not to be put in force.
    #[default]
    Listing,
    /// Everything that can be read. Objects may be missing of which nothing is known, and what is in force from an earlier run
    /// is kept until they are there.
    Partial,
    /// Everything.
    Synced,
}

/// Asks a source, which runs elsewhere, how fresh its knowledge is.
pub type HealthCheck = Box<dyn Fn() -> Vec<KindHealth> + Send>;

/// A place where objects come from.
pub trait Source: Send {
    /// A word and a place, for logs and status.
    fn describe(&self) -> String;

    /// How to ask how fresh its knowledge is while it runs.
    fn pulse(&self) -> HealthCheck {
        Box::new(Vec::new)
    }

    /// Tells everything there is, then what changes, until `tell` returns false. Nothing reaches the kernel before the first
    /// news that is not [`SyncState::Listing`].
    fn run(self: Box<Self>, tell: &mut dyn FnMut(SourceUpdate) -> bool);
}

/// `file:line:column: object: path: message [rule]`
fn describe(diagnostic: &Diagnostic) -> String {
    let place = diagnostic.place.as_ref().filter(|place| !place.file.is_empty());
    let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
    format!("{place}{} [{}]", diagnostic.title(), diagnostic.rule.name)
}
