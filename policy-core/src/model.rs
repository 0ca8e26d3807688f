//! The objects that decisions are made of, after decoding, defaulting and validation.
//!
//! A model value has one meaning and no optional spelling left: `manifest` lowers wire objects into these types, the agent
//! will do the same with what it watches, and `compile` reads nothing else. Whatever could not be read is already in its
//! fail-closed form (S1.20).

mod change;
mod keys;
mod node;
mod pod;
mod policy;
mod selector;
mod service;

pub use change::{Change, NAME_LABEL, Namespace, Quarantine};
pub use keys::{ObjectKey, Origin, WorkloadKey};
pub use node::Node;
pub use pod::{Addresses, NamedPort, Phase, Placement, Pod};
pub use policy::{Direction, IpBlock, MOST_PEERS, NamespaceScope, Peer, Peers, Policy, PortEntry, Ports, Rule};
pub(crate) use selector::{Asked, Left};
pub use selector::{Labels, Operator, Requirement, Selector, UNKNOWN_VALUE};
pub use service::{Service, ServicePort, ServiceType, TargetPort};
