//! Ids of things in one graph. They mean nothing outside of it, and never reach output.

use std::num::NonZeroU32;

/// An id that indexes a store. It is one more than its index, so that no id takes no room.
pub(crate) trait Id: Copy + Eq {
    fn from_index(index: u32) -> Self;
    fn index(self) -> u32;
}

macro_rules! ids {
    ($($(#[$doc:meta])* $vis:vis $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        $vis struct $name(NonZeroU32);
        impl Id for $name {
            fn from_index(index: u32) -> Self { Self(NonZeroU32::MIN.saturating_add(index)) }
            fn index(self) -> u32 { self.0.get() - 1 }
        }
    )*};
}

ids! {
    /// A namespace that exists or is named.
    pub NamespaceId;
    /// A node that exists or is named.
    pub NodeId;
    /// A pod.
    pub PodId;
    /// Pods that were made alike.
    pub(crate) TemplateId;
    /// Pods that behave alike.
    pub GroupId;
    /// A NetworkPolicy.
    pub PolicyId;
    /// Namespaces and a pod selector.
    pub TermId;
    /// A canonical set of peers.
    pub PeerSetId;
    /// What a group may do in one direction.
    pub DecisionId;
    /// An interned string.
    pub(crate) Symbol;
    /// An interned set of labels.
    pub(crate) LabelsId;
    /// An interned list of named ports.
    pub(crate) PortsId;
    /// An interned selector.
    pub(crate) SelectorId;
    /// A namespace selector and the namespaces that it matches.
    pub(crate) ScopeId;
}

impl PeerSetId {
    /// The least id.
    pub(crate) const FIRST: Self = Self(NonZeroU32::MIN);
    /// The set without anybody: the compiler makes it first, and keeps it.
    pub(crate) const NOBODY: Self = Self(NonZeroU32::MIN);
}

/// The number of a namespace in bitmaps.
pub(crate) fn index_of(id: NamespaceId) -> u32 {
    id.index()
}

/// The namespace of a number from a bitmap.
pub(crate) fn id_at(index: u32) -> NamespaceId {
    NamespaceId::from_index(index)
}
