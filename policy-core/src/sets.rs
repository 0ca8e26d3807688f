//! Canonical sets of ports and addresses with full algebra.
//!
//! Everything here is a value: equal sets compare equal, and every operation returns a canonical result. Nothing in this
//! module knows about Kubernetes.

mod addresses;
mod overlap;
mod ports;
mod ranges;

pub use addresses::{AddressSet, Family, block_of};
pub(crate) use overlap::pairs;
pub use ports::{PortSet, Protocol, ProtocolPorts, Transport};
pub use ranges::{Bound, RangeSet};
