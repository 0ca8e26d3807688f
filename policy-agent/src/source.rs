//! Where objects come from. What a source says is all that the rest of the agent knows of it.

pub mod manifests;

use policy_core::model::Change;

/// What a source tells the agent.
#[derive(Debug)]
pub struct News {
    /// What became different.
    pub changes: Vec<Change>,
    /// What is wrong with the objects at the moment; all of it, each time.
    pub problems: Vec<String>,
    /// Whether everything could be read that was never read before. If not, objects may be missing of which nothing is known,
    /// and what is in force from an earlier run is kept until they are there.
    pub is_complete: bool,
}

/// A place where objects come from.
pub trait Source: Send {
    /// A word and a place, for logs and status.
    fn describe(&self) -> String;

    /// Tells everything there is, then what changes, until `tell` returns false. The first news holds everything: nothing
    /// reaches the kernel before it.
    fn run(self: Box<Self>, tell: &mut dyn FnMut(News) -> bool);
}
