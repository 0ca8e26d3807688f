//! What can happen to the snapshot.

use super::{Labels, Node, ObjectKey, Pod, Policy};

/// A Namespace: a name and the labels that namespace selectors look at (S1.34).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Namespace {
    /// `metadata.name`.
    pub name: String,
    /// Labels, `kubernetes.io/metadata.name` included (S1.35).
    pub labels: Labels,
}

/// One change of the snapshot. An object that is there already is replaced as a whole; removing one that is not there
/// changes nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A Namespace is there.
    Namespace(Namespace),
    /// The Namespace object is gone; its pods and policies, if any, have changes of their own.
    NamespaceRemoved(String),
    /// A Node is there.
    Node(Node),
    /// A Node is gone.
    NodeRemoved(String),
    /// A Pod is there.
    Pod(Pod),
    /// A Pod is gone.
    PodRemoved(ObjectKey),
    /// A NetworkPolicy is there.
    Policy(Policy),
    /// A NetworkPolicy is gone.
    PolicyRemoved(ObjectKey),
}
