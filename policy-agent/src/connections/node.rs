//! The addresses of the node itself.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

/// The addresses of this network namespace.
///
/// # Errors
/// When the system does not list them, for example because no file descriptor is left.
pub fn addresses() -> io::Result<BTreeSet<IpAddr>> {
    let interfaces = nix::ifaddrs::getifaddrs()?;
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    });
    Ok(addresses.collect())
}

/// Lists the addresses of the node.
type Lister = Box<dyn FnMut() -> io::Result<BTreeSet<IpAddr>> + Send>;

/// The addresses of the node as far as they were ever listed.
pub struct KnownAddresses {
    list: Lister,
    known: Option<BTreeSet<IpAddr>>,
}

impl KnownAddresses {
    /// Addresses that `list` lists.
    pub fn new(list: impl FnMut() -> io::Result<BTreeSet<IpAddr>> + Send + 'static) -> Self {
        Self { list: Box::new(list), known: None }
    }

    /// The addresses; those of before when they cannot be listed.
    ///
    /// # Errors
    /// When they could never be listed: then every connection may be the node's own.
    pub fn current(&mut self) -> io::Result<BTreeSet<IpAddr>> {
        match ((self.list)(), &self.known) {
            // A namespace has at least its loopback address.
            (Ok(addresses), _) if !addresses.is_empty() => {
                self.known = Some(addresses.clone());
                Ok(addresses)
            }
            (_, Some(known)) => Ok(known.clone()),
            (Err(error), None) => Err(error),
            (Ok(_), None) => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }
}
