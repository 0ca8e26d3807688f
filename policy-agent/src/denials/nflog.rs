//! Why packets were denied: samples that the kernel copies over NFLOG, read back as flows.
//!
//! The kernel samples at a bounded rate for each direction of each group of pods; here, a second bound holds for all of them
//! together. Whatever comes in a flood, nothing more is done per packet.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_netfilter::nflog::{ConfigCmd, ConfigMode, PacketNla, ULogMessage};
use netlink_packet_netfilter::{NetfilterMessageInner, NetfilterProtoFamily};
use policy_core::sets::{Protocol, Transport};
use policy_core::verdict::Flow;
use policy_ruleset::DenyLog;

use crate::kernel::netlink::Netlink;

/// A packet that was denied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// The chain that denied it.
    pub chain: String,
    /// The flow that it would have opened.
    pub flow: Flow,
}

/// Starts a thread that reads samples in the network namespace of the caller, and hands over at most `rate` of them a second.
///
/// # Errors
/// When NFLOG cannot be bound: without right, or when another program has the group.
pub fn start(group: u16, rate: u32, mut take: impl FnMut(Sample) + Send + 'static) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let bind = ULogMessage::Config(vec![ConfigCmd::Bind.into(), ConfigMode::new_packet(DenyLog::SNAPLEN).into()]);
    netlink.request_of_group(NetfilterProtoFamily::Unspec, group, bind)?;
    netlink.wait_for(Duration::from_secs(3600))?;
    std::thread::Builder::new().name("denied".to_owned()).spawn(move || {
        let mut bucket = Bucket::new(rate);
        loop {
            let messages = match netlink.receive() {
                Ok(messages) => messages,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                // Samples that did not fit, or a signal.
                Err(error) if is_passing(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "cannot explain denied packets: cannot read samples");
                    std::thread::sleep(Duration::from_secs(10));
                    continue;
                }
            };
            for message in messages.into_iter().flatten() {
                if let NetlinkPayload::InnerMessage(inner) = message.payload
                    && let NetfilterMessageInner::ULog(ULogMessage::Packet(attributes)) = inner.inner
                    && let Some(sample) = sample(&attributes)
                    && bucket.take(Instant::now())
                {
                    take(sample);
                }
            }
        }
    })?;
    Ok(())
}

fn is_passing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted || error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32)
}

/// Allows so many events a second, and as many at once.
struct Bucket {
    rate: f64,
    held: f64,
    since: Instant,
}

impl Bucket {
    fn new(rate: u32) -> Self {
        Self { rate: f64::from(rate), held: f64::from(rate), since: Instant::now() }
    }

    fn take(&mut self, now: Instant) -> bool {
        self.held = (self.held + now.duration_since(self.since).as_secs_f64() * self.rate).min(self.rate);
        self.since = now;
        let is_allowed = self.held >= 1.0;
        if is_allowed {
            self.held -= 1.0;
        }
        is_allowed
    }
}

fn sample(attributes: &[PacketNla]) -> Option<Sample> {
    let chain = attributes.iter().find_map(|a| match a {
        PacketNla::Prefix(text) => Some(text.to_string_lossy().into_owned()),
        _ => None,
    })?;
    let packet = attributes.iter().find_map(|a| match a {
        PacketNla::Payload(bytes) => Some(bytes),
        _ => None,
    })?;
    Some(Sample { chain, flow: flow(packet)? })
}

/// The flow that a packet belongs to, from its headers.
///
/// Source: RFC 791, RFC 8200; ports stand first in TCP, UDP and SCTP.
fn flow(packet: &[u8]) -> Option<Flow> {
    let byte = |at: usize| packet.get(at).copied();
    let (source, destination, protocol, ports) = match byte(0)? >> 4 {
        4 => {
            let address = |at: usize| packet.get(at..at + 4)?.try_into().ok().map(|b: [u8; 4]| IpAddr::V4(Ipv4Addr::from(b)));
            let is_first = u16::from_be_bytes([byte(6)?, byte(7)?]) & 0x1fff == 0;
            (address(12)?, address(16)?, byte(9)?, is_first.then_some(usize::from(byte(0)? & 15) * 4))
        }
        6 => {
            let address = |at: usize| packet.get(at..at + 16)?.try_into().ok().map(|b: [u8; 16]| IpAddr::V6(Ipv6Addr::from(b)));
            let (protocol, at) = skip_extensions(packet)?;
            (address(8)?, address(24)?, protocol, at)
        }
        _ => return None,
    };
    let transport = match protocol {
        6 => Some(Transport::Tcp),
        17 => Some(Transport::Udp),
        132 => Some(Transport::Sctp),
        _ => None,
    };
    let port = || ports.and_then(|at| Some(u16::from_be_bytes([byte(at + 2)?, byte(at + 3)?])));
    let protocol = match transport {
        Some(transport) => Protocol::Port(transport, port()?),
        None => Protocol::Other,
    };
    Some(Flow { source, destination, protocol })
}

/// The protocol after IPv6 extension headers, and where it starts; it starts elsewhere in fragments but the first.
fn skip_extensions(packet: &[u8]) -> Option<(u8, Option<usize>)> {
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    let (mut next, mut at) = (packet.get(6).copied()?, 40);
    let mut is_first = true;
    // Hop-by-hop options, routing, fragment, authentication, destination options.
    while [0, 43, FRAGMENT, AUTHENTICATION, 60].contains(&next) {
        let length = usize::from(packet.get(at + 1).copied()?);
        let length = match next {
            FRAGMENT => {
                is_first &= u16::from_be_bytes([packet.get(at + 2).copied()?, packet.get(at + 3).copied()?]) & !7 == 0;
                8
            }
            AUTHENTICATION => (length + 2) * 4,
            _ => (length + 1) * 8,
        };
        next = packet.get(at).copied()?;
        at += length;
    }
    Some((next, is_first.then_some(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_read_from_headers() {
        let mut v4 = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        v4.extend([0x9c, 0x40, 0x1f, 0x90, 0, 0]);
        let flow_of = |packet: &[u8]| flow(packet).map(|f| (f.source.to_string(), f.destination.to_string(), f.protocol));
        let tcp = Protocol::Port(Transport::Tcp, 8080);
        assert_eq!(flow_of(&v4), Some(("10.0.0.1".to_owned(), "10.0.0.2".to_owned(), tcp)));
        // Hop-by-hop options before UDP.
        let mut v6 = vec![0x60, 0, 0, 0, 0, 16, 0, 64];
        v6.extend(Ipv6Addr::LOCALHOST.octets());
        v6.extend(Ipv6Addr::UNSPECIFIED.octets());
        v6.extend([17, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 53, 0, 8, 0, 0]);
        assert_eq!(flow_of(&v6), Some(("::1".to_owned(), "::".to_owned(), Protocol::Port(Transport::Udp, 53))));
        // An authentication header before TCP.
        let with = |next: u8, rest: &[u8]| {
            let mut packet = v6[..40].to_vec();
            packet[6] = next;
            packet.extend(rest);
            flow_of(&packet).map(|(.., protocol)| protocol)
        };
        let authenticated = [[6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 9, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(with(51, &authenticated), Some(Protocol::Port(Transport::Tcp, 80)));
        // Ports stand in the first fragment only.
        let fragment = |offset: u8| [17, 0, 0, offset, 0, 0, 0, 0, 0, 9, 0, 53, 0, 8, 0, 0];
        assert_eq!(with(44, &fragment(1)), Some(Protocol::Port(Transport::Udp, 53)));
        assert_eq!(with(44, &fragment(9)), None);
        for length in 0..v6.len() {
            let _ = flow(&v6[..length]);
        }
    }

    #[test]
    fn a_bucket_holds_a_second() {
        let mut bucket = Bucket::new(3);
        let now = bucket.since;
        assert_eq!((0..10).filter(|_| bucket.take(now)).count(), 3);
        assert!(bucket.take(now + Duration::from_millis(400)));
        assert!(!bucket.take(now + Duration::from_millis(500)));
    }
}
