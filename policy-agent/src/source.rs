//! Where objects come from. The rest of the agent sees a source only through its updates.
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

pub use policy_input::health::KindHealth;
pub use problems::{Problems, ProblemsDelta};

use std::collections::BTreeMap;

use policy_core::diagnostic::Diagnostic;
use policy_core::model::{Change, ObjectKey};

/// An update from a source to the agent.
#[derive(Debug, Default)]
pub struct SourceUpdate {
    /// What became different.
    pub changes: Vec<Change>,
    /// How what is wrong with objects and files became different.
    pub problems: ProblemsDelta,
    /// What is wrong with each policy of which that became different; nothing, when it was solved.
    pub faulty: BTreeMap<ObjectKey, Vec<String>>,
    /// How much has been sent, including this.
    pub extent: SyncState,
}

/// How much of the existing objects has been sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum SyncState {
    /// The source is still reading: its objects are not applied yet.
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
