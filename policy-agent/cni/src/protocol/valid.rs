//! What an attachment and the addresses of a pod may look like.
//!
//! They are checked when they are made and whenever they are read from text, so the plugin and the agent refuse the same: every
//! process of root on the node may write to the agent's socket.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// A record's name must fit into 255 bytes, with the interface and a suffix.
const LONGEST_CONTAINER: usize = 200;
/// `IFNAMSIZ` without the zero at the end.
const LONGEST_INTERFACE: usize = 15;
/// A pod has at most one address of each family in Kubernetes; network plugins may give it a few more.
const MOST_ADDRESSES: usize = 16;

/// Why an attachment or an address cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Invalid {
    /// A container's name.
    #[error(
        "invalid container ID `{}`: expected a letter or digit, then letters, digits, `_`, `.`, `-`, {LONGEST_CONTAINER} at most",
        .0.escape_debug()
    )]
    Container(String),
    /// An interface's name.
    #[error(
        "invalid interface name `{}`: expected 1 to {LONGEST_INTERFACE} printable ASCII characters without `/` and `:`",
        .0.escape_debug()
    )]
    Interface(String),
    /// There is no address.
    #[error("no address of the pod; a plugin earlier in the chain must assign one")]
    NoAddress,
    /// There are more addresses than a pod has.
    #[error("the pod has {0} addresses; the limit is {MOST_ADDRESSES}")]
    TooManyAddresses(usize),
    /// No packet of a pod has this address.
    #[error("`{address}` is a {kind} address; expected a unicast address of the pod")]
    Address {
        /// What kind of address it is.
        kind: &'static str,
        /// The address.
        address: IpAddr,
    },
}

/// A container's interface, as a runtime names it. Both names are safe as a part of a file's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Attachment {
    container: String,
    interface: String,
}

#[derive(Deserialize)]
struct Unchecked {
    container: String,
    interface: String,
}

impl TryFrom<Unchecked> for Attachment {
    type Error = Invalid;

    fn try_from(Unchecked { container, interface }: Unchecked) -> Result<Self, Invalid> {
        Self::new(container, interface)
    }
}

impl Attachment {
    /// The interface of a container, from `CNI_CONTAINERID` and `CNI_IFNAME`.
    ///
    /// # Errors
    /// When a name is not one that the CNI specification and Linux allow.
    pub fn new(container: impl Into<String>, interface: impl Into<String>) -> Result<Self, Invalid> {
        let (container, interface) = (container.into(), interface.into());
        let is_container = container.len() <= LONGEST_CONTAINER
            && container.starts_with(|c: char| c.is_ascii_alphanumeric())
            && container.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if !is_container {
            return Err(Invalid::Container(container));
        }
        let is_interface = (1..=LONGEST_INTERFACE).contains(&interface.len())
            && !matches!(interface.as_str(), "." | "..")
            && interface.chars().all(|c| c.is_ascii_graphic() && !"/:".contains(c));
        if !is_interface {
            return Err(Invalid::Interface(interface));
        }
        Ok(Self { container, interface })
    }

    /// `CNI_CONTAINERID`.
    #[must_use]
    pub fn container(&self) -> &str {
        &self.container
    }

    /// `CNI_IFNAME`.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The name of the file in which the agent keeps the sandbox: one name for each attachment, in the folder of records.
    #[must_use]
    pub fn record_name(&self) -> String {
        format!("{}:{}.json", self.container, self.interface)
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interface {} of {}", self.interface, self.container)
    }
}

/// The addresses of a pod: at least one, each a unicast address, none twice.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<IpAddr>")]
pub struct PodAddresses(Vec<IpAddr>);

impl TryFrom<Vec<IpAddr>> for PodAddresses {
    type Error = Invalid;

    fn try_from(addresses: Vec<IpAddr>) -> Result<Self, Invalid> {
        let mut checked = Vec::new();
        for address in addresses {
            if let Some(kind) = unusable(address) {
                return Err(Invalid::Address { kind, address });
            }
            if !checked.contains(&address) {
                checked.push(address);
            }
            if checked.len() > MOST_ADDRESSES {
                return Err(Invalid::TooManyAddresses(checked.len()));
            }
        }
        if checked.is_empty() { Err(Invalid::NoAddress) } else { Ok(Self(checked)) }
    }
}

impl Deref for PodAddresses {
    type Target = [IpAddr];

    fn deref(&self) -> &[IpAddr] {
        &self.0
    }
}

/// Why no packet of a pod can have this address as its own.
///
/// An IPv4-mapped address is refused and not read as IPv4: programs differ in which of the two families they mean by it, and
/// whichever were isolated, the pod might own the other.
fn unusable(address: IpAddr) -> Option<&'static str> {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let is_mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    [
        (address.is_unspecified(), "unspecified"),
        (address.is_loopback(), "loopback"),
        (address.is_multicast(), "multicast"),
        (is_broadcast, "broadcast"),
        (is_mapped, "IPv4-mapped"),
    ]
    .into_iter()
    .find_map(|(is_so, kind)| is_so.then_some(kind))
}
