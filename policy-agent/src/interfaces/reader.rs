//! Links and routes, by rtnetlink.
//!
//! Source: include/uapi/linux/rtnetlink.h, if_link.h.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NlaBuffer, NlasIterator};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use policy_core::plan::InterfaceName;

use super::Interface;

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_ROUTE`, `RTNLGRP_IPV6_ROUTE`.
const GROUPS: [u32; 3] = [1, 7, 11];

const HEADER: usize = 16;
/// `sizeof(struct ifinfomsg)`, `sizeof(struct rtmsg)`.
const LINK_HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;

// Attributes of links and routes.
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_VIA: u16 = 18;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `RTN_UNICAST`.
const UNICAST: u8 = 1;
/// Origins of routes (`rtm_protocol`): redirects, the kernel itself, and advertisements of routers.
const REDIRECT: u8 = 1;
const KERNEL: u8 = 2;
const ROUTER_ADVERTISEMENT: u8 = 9;
/// `RTM_F_CLONED`: a route that only caches another one.
const CLONED: u32 = 0x200;

/// Kinds of links that are one end of a pair; the other end may be in a pod.
const PAIRS: [&[u8]; 2] = [b"veth", b"netkit"];

/// Bytes read at once; the kernel's messages are smaller.
const READ: usize = 1 << 18;
const PATIENCE: Duration = Duration::from_secs(10);
/// A dump that is interrupted by changes is made again this often.
const TRIES: usize = 10;
/// Links and routes are read this often even without notifications.
const RELOOK: Duration = Duration::from_secs(60);

/// A socket of rtnetlink.
pub(super) struct Reader {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A route, as far as it matters.
struct Route {
    /// The interfaces that it leads through.
    through: Vec<u32>,
    /// The one address that it leads to directly.
    address: Option<IpAddr>,
}

impl Reader {
    /// Opens a socket in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        let reader = Self { socket, sequence: 0, buffer: Vec::with_capacity(READ) };
        reader.wait_at_most(PATIENCE)?;
        Ok(reader)
    }

    /// The same, for announcements of changes.
    pub(super) fn listening() -> io::Result<Self> {
        let reader = Self::open()?;
        for group in GROUPS {
            reader.socket.add_membership(group)?;
        }
        Ok(reader)
    }

    fn wait_at_most(&self, patience: Duration) -> io::Result<()> {
        let patience = TimeVal::milliseconds(i64::try_from(patience.as_millis()).unwrap_or(i64::MAX).max(1));
        Ok(setsockopt(&self.socket, sockopt::ReceiveTimeout, &patience)?)
    }

    fn receive(&mut self) -> io::Result<()> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, MsgFlags::MSG_TRUNC.bits()) {
                Ok(length) if length > self.buffer.len() => return Err(io::ErrorKind::InvalidData.into()),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns a moment after something has changed, or after a while.
    pub(super) fn wait_for_change(&mut self, quiet: Duration, latest: Duration) {
        if self.wait_at_most(RELOOK).and_then(|()| self.receive()).is_err_and(|e| !is_lost(&e) && !is_timeout(&e)) {
            // Nothing will be announced here; it must not spin.
            std::thread::sleep(RELOOK.min(Duration::from_secs(5)));
        }
        let end = Instant::now() + latest;
        let _ = self.wait_at_most(quiet);
        while Instant::now() < end && self.receive().map_or_else(|error| is_lost(&error), |()| true) {}
    }

    /// The ends of pairs in this network namespace, with what is routed through them; sorted by number.
    pub(super) fn interfaces(&mut self) -> io::Result<Vec<Interface>> {
        let mut found: BTreeMap<u32, Interface> = BTreeMap::new();
        self.dump(GET_LINK, 0, LINK_HEADER, |kind, body| {
            if kind == NEW_LINK
                && let Some(interface) = link(body)
            {
                found.insert(interface.index, interface);
            }
        })?;
        for family in [AF_INET, AF_INET6] {
            self.dump(GET_ROUTE, family, ROUTE_HEADER, |kind, body| {
                let Some(route) = route(body).filter(|_| kind == NEW_ROUTE) else { return };
                for index in route.through {
                    if let Some(interface) = found.get_mut(&index) {
                        match route.address {
                            Some(address) => drop(interface.addresses.insert(address)),
                            None => interface.leads_elsewhere = true,
                        }
                    }
                }
            })?;
        }
        Ok(found.into_values().collect())
    }

    fn dump(&mut self, kind: u16, family: u8, header: usize, mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
        for _ in 0..TRIES {
            // What an interrupted dump gave is given again by the next: nothing of it is lost, and what was too much is looked at
            // again after the announcement of its change.
            if self.dump_once(kind, family, header, &mut take)? {
                return Ok(());
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    /// Whether the answer is consistent.
    fn dump_once(&mut self, kind: u16, family: u8, header: usize, take: &mut impl FnMut(u16, &[u8])) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let sequence = self.sequence;
        let length = u32::try_from(HEADER + header).unwrap_or(u32::MAX);
        let mut request = length.to_ne_bytes().to_vec();
        request.extend(kind.to_ne_bytes());
        request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        request.extend(sequence.to_ne_bytes());
        request.extend([0; 4]);
        request.push(family);
        request.resize(HEADER + header, 0);
        self.socket.send(&request, 0)?;
        let mut is_consistent = true;
        loop {
            self.receive()?;
            let mut rest = self.buffer.as_slice();
            while let (Some(length), Some(kind), Some(flags), Some(number)) =
                (u32_at(rest, 0), u16_at(rest, 4), u16_at(rest, 6), u32_at(rest, 8))
            {
                let Some(body) = rest.get(HEADER..length as usize) else { break };
                if number == sequence {
                    is_consistent &= flags & NLM_F_DUMP_INTR == 0;
                    match kind {
                        DONE => return Ok(is_consistent),
                        ERROR => return Err(error_of(body)),
                        _ => take(kind, body),
                    }
                }
                rest = rest.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

fn is_lost(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

fn is_timeout(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn error_of(body: &[u8]) -> io::Error {
    match u32_at(body, 0) {
        Some(code) => io::Error::from_raw_os_error((code as i32).wrapping_neg()),
        None => io::ErrorKind::InvalidData.into(),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn attributes(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

/// One end of a pair that is no part of another device.
fn link(body: &[u8]) -> Option<Interface> {
    let index = u32_at(body, 4)?;
    let (mut name, mut is_pair) = (None, false);
    for attribute in attributes(body.get(LINK_HEADER..)?) {
        match attribute.kind() {
            IFLA_IFNAME => name = std::str::from_utf8(until_nul(attribute.value())).ok().and_then(InterfaceName::new),
            IFLA_MASTER => return None,
            IFLA_LINKINFO => {
                let mut kinds = attributes(attribute.value()).filter(|inner| inner.kind() == IFLA_INFO_KIND);
                is_pair = kinds.any(|kind| PAIRS.contains(&until_nul(kind.value())));
            }
            _ => {}
        }
    }
    let new = |name| Interface { index, name, addresses: BTreeSet::new(), leads_elsewhere: false };
    name.filter(|_| is_pair).map(new)
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A route to what is not on this node; `None` for others, and for those to addresses of the link.
fn route(body: &[u8]) -> Option<Route> {
    let (family, length, origin, kind) = (*body.first()?, *body.get(1)?, *body.get(5)?, *body.get(7)?);
    if kind != UNICAST || u32_at(body, 8)? & CLONED != 0 {
        return None;
    }
    let (mut destination, mut through, mut has_router) = (None, Vec::new(), false);
    for attribute in attributes(body.get(ROUTE_HEADER..)?) {
        let value = attribute.value();
        match attribute.kind() {
            RTA_DST => destination = address(family, value),
            RTA_OIF => through.extend(u32_at(value, 0)),
            RTA_GATEWAY | RTA_VIA => has_router = true,
            RTA_MULTIPATH => {
                has_router = true;
                through.extend(next_hops(value));
            }
            _ => {}
        }
    }
    // Old kernels have a unicast route to all multicast addresses on each link.
    let is_of_link = matches!(destination, Some(IpAddr::V6(a)) if a.is_unicast_link_local() || a.is_multicast());
    if is_of_link {
        return None;
    }
    let is_single = length == if family == AF_INET { 32 } else { 128 };
    // A pod can advertise itself as a router and advertise prefixes, and redirect to itself: what the kernel makes of that says nothing
    // about the pod's interface.
    let is_prefix = family == AF_INET6 && origin == KERNEL && !is_single;
    if [REDIRECT, ROUTER_ADVERTISEMENT].contains(&origin) || is_prefix {
        return None;
    }
    Some(Route { through, address: destination.filter(|_| is_single && !has_router) })
}

/// The interfaces of several next hops: `struct rtnexthop` and its attributes, one after the other.
fn next_hops(mut bytes: &[u8]) -> Vec<u32> {
    let mut out = Vec::new();
    while let (Some(length), Some(index)) = (u16_at(bytes, 0), u32_at(bytes, 4)) {
        out.push(index);
        match bytes.get(usize::from(length).next_multiple_of(4)..) {
            Some(rest) if length > 0 => bytes = rest,
            _ => break,
        }
    }
    out
}

fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    if family == AF_INET {
        <[u8; 4]>::try_from(bytes).ok().map(|octets| Ipv4Addr::from(octets).into())
    } else {
        <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn route_of(length: u8, kind: u8, attributes: &[Vec<u8>]) -> Option<(Vec<u32>, Option<IpAddr>)> {
        let header = vec![AF_INET, length, 0, 0, 254, 3, 253, kind, 0, 0, 0, 0];
        route(&[header, attributes.concat()].concat()).map(|route| (route.through, route.address))
    }

    #[test]
    fn only_a_route_to_one_address_leads_nowhere_else() {
        let to = attribute(RTA_DST, &[10, 0, 0, 1]);
        let through = attribute(RTA_OIF, &7u32.to_ne_bytes());
        let address = Some("10.0.0.1".parse().unwrap());
        assert_eq!(route_of(32, UNICAST, &[to.clone(), through.clone()]), Some((vec![7], address)));
        assert_eq!(route_of(31, UNICAST, &[to.clone(), through.clone()]), Some((vec![7], None)));
        let router = attribute(RTA_GATEWAY, &[10, 0, 0, 9]);
        assert_eq!(route_of(32, UNICAST, &[to.clone(), through.clone(), router]), Some((vec![7], None)));
        assert_eq!(route_of(0, UNICAST, std::slice::from_ref(&through)), Some((vec![7], None)));
        assert_eq!(route_of(32, 2, &[to.clone(), through]), None, "the node's own");
        let hops: Vec<u8> = [8u16, 0, 5, 0, 8, 0, 6, 0].iter().flat_map(|n| n.to_ne_bytes()).collect();
        assert_eq!(route_of(32, UNICAST, &[to, attribute(RTA_MULTIPATH, &hops)]), Some((vec![5, 6], None)));
    }

    #[test]
    fn what_a_pod_advertises_says_nothing_about_its_interface() {
        let from = |origin: u8, length: u8| {
            let header = [AF_INET6, length, 0, 0, 254, origin, 0, UNICAST, 0, 0, 0, 0];
            let to = attribute(RTA_DST, &"fd00:bad::".parse::<std::net::Ipv6Addr>().unwrap().octets());
            let through = attribute(RTA_OIF, &7u32.to_ne_bytes());
            route(&[header.to_vec(), to, through].concat()).map(|route| route.address.is_some())
        };
        for length in [0, 64, 128] {
            assert_eq!(from(ROUTER_ADVERTISEMENT, length), None);
            assert_eq!(from(REDIRECT, length), None);
        }
        assert_eq!(from(KERNEL, 64), None, "the prefix of an advertisement");
        assert_eq!(from(KERNEL, 128), Some(true), "the other end of an address of the node");
        assert_eq!(from(3, 64), Some(false), "a route that the node's administrator made");
    }

    #[test]
    fn only_a_free_end_of_a_pair_can_be_a_pod_s() {
        let header = [&[0; 4][..], &7u32.to_ne_bytes(), &[0; 8]].concat();
        let name = attribute(IFLA_IFNAME, b"va\0");
        let kind = |text: &[u8]| attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, text));
        let found = |parts: &[Vec<u8>]| link(&[header.clone(), parts.concat()].concat()).map(|l| (l.index, l.name.to_string()));
        assert_eq!(found(&[name.clone(), kind(b"veth\0")]), Some((7, "va".to_owned())));
        assert_eq!(found(&[name.clone(), kind(b"netkit")]), Some((7, "va".to_owned())));
        assert_eq!(found(&[name.clone(), kind(b"bridge\0")]), None);
        assert_eq!(found(&[name.clone(), attribute(IFLA_MASTER, &3u32.to_ne_bytes()), kind(b"veth\0")]), None);
        assert_eq!(found(&[name]), None, "a device of the machine");
    }
}
