//! What can happen to the snapshot.

use std::net::IpAddr;

use super::{Labels, Node, ObjectKey, Pod, Policy};

/// The label that the API server gives every namespace: its name (S1.35).
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A Namespace: a name and the labels that namespace selectors look at (S1.34).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Namespace {
    /// `metadata.name`.
    pub name: String,
    /// Labels, `kubernetes.io/metadata.name` included (S1.35).
    pub labels: Labels,
}

impl Namespace {
    /// A namespace that no object declares: it has the label of S1.35 and no other (S1.36).
    #[must_use]
    pub fn assumed(name: String) -> Self {
        Self { labels: Labels::from([(NAME_LABEL.to_owned(), name.clone())]), name }
    }
}

/// Addresses on the compiler's node that are in use, but whose pod is not known (S3.11): all their traffic is
/// denied, except what their own node opens towards them (S2.11).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quarantine {
    /// What has the addresses. A holder has one quarantine at a time; a later one takes its place.
    pub holder: String,
    /// The addresses; possibly none.
    pub addresses: Vec<IpAddr>,
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
    /// Addresses are in quarantine, whatever claims them.
    Quarantine(Quarantine),
    /// What this holder has is no longer in quarantine.
    QuarantineRemoved(String),
}
