//! Packets, byte by byte: the first of a connection, with a mark by which it is known again.

use std::net::IpAddr;

/// What a packet carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Payload {
    /// A TCP segment with these flags.
    Tcp {
        /// Destination port.
        port: u16,
        /// `SYN` is 2.
        flags: u8,
    },
    /// A UDP datagram to this port.
    Udp(u16),
    /// An SCTP INIT to this port.
    Sctp(u16),
    /// An echo request.
    Ping,
    /// A neighbour solicitation (IPv6 only).
    Neighbour,
    /// A protocol that nobody knows (253, RFC 3692).
    Unknown,
}

impl Payload {
    /// The destination port, if the protocol has ports.
    #[must_use]
    pub fn port(self) -> Option<u16> {
        match self {
            Self::Tcp { port, .. } | Self::Udp(port) | Self::Sctp(port) => Some(port),
            Self::Ping | Self::Neighbour | Self::Unknown => None,
        }
    }
}

/// TCP flag SYN.
pub const SYN: u8 = 0x02;
/// TCP flag ACK.
pub const ACK: u8 = 0x10;

/// What tells our packets from others.
const MAGIC: [u8; 4] = *b"npol";

/// IP protocol numbers that are probed.
pub const PROTOCOLS_V4: [u8; 5] = [6, 17, 132, 1, 253];
/// The same for IPv6.
pub const PROTOCOLS_V6: [u8; 5] = [6, 17, 132, 58, 253];

/// A whole IP packet from `source` and its port to `destination`, with `mark` in it.
///
/// # Panics
/// When the addresses are of two families.
#[must_use]
pub fn packet(source: IpAddr, source_port: u16, destination: IpAddr, payload: Payload, mark: u32) -> Vec<u8> {
    let data = [MAGIC, mark.to_be_bytes()].concat();
    let (protocol, body) = body(source, source_port, destination, payload, &data);
    whole(source, destination, (protocol, 64), &body)
}

/// A packet with this protocol and hop limit.
fn whole(source: IpAddr, destination: IpAddr, (protocol, hop_limit): (u8, u8), body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a short packet");
    match (source, destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0];
            header.extend((length + 20).to_be_bytes());
            header.extend([0, 0, 0x40, 0, hop_limit, protocol, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            [&header, body].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(length.to_be_bytes());
            header.extend([protocol, hop_limit]);
            header.extend(from.octets());
            header.extend(to.octets());
            [&header, body].concat()
        }
        _ => panic!("{source} and {destination} are of two families"),
    }
}

/// An ICMPv6 message of this type and hop limit, with `mark` in it.
///
/// # Panics
/// When an address is of IPv4.
#[must_use]
pub fn icmpv6(source: IpAddr, destination: IpAddr, (kind, hop_limit): (u8, u8), mark: u32) -> Vec<u8> {
    let mut body = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &[0; 16], &MAGIC, &mark.to_be_bytes()].concat();
    let sum = checksum(&[pseudo_header(source, destination, 58, body.len()), body.clone()].concat());
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    whole(source, destination, (58, hop_limit), &body)
}

/// An ICMP error, "port unreachable", about a packet; it carries what that does.
///
/// # Panics
/// When the addresses are of two families.
#[must_use]
pub fn error(source: IpAddr, destination: IpAddr, about: &[u8]) -> Vec<u8> {
    let is_v4 = source.is_ipv4();
    let mut body = [if is_v4 { &[3, 3][..] } else { &[1, 4] }, &[0; 6], about].concat();
    let pseudo = if is_v4 { Vec::new() } else { pseudo_header(source, destination, 58, body.len()) };
    let sum = checksum(&[pseudo, body.clone()].concat());
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    whole(source, destination, (if is_v4 { 1 } else { 58 }, 64), &body)
}

/// A packet of a protocol that nobody knows, by a route of its own: for IPv4 a loose source route that goes on to `next` (RFC 791), for
/// IPv6 a routing header that has arrived at its last address (RFC 2460).
///
/// # Panics
/// When the addresses are of two families.
#[must_use]
pub fn source_routed(source: IpAddr, destination: IpAddr, next: IpAddr, mark: u32) -> Vec<u8> {
    let data = [MAGIC, mark.to_be_bytes()].concat();
    match next {
        IpAddr::V4(next) => {
            let plain = whole(source, destination, (253, 64), &[&[0; 8][..], &data].concat());
            let mut header = plain[..20].to_vec();
            header[0] = 0x47;
            header[10..12].fill(0);
            header.extend([131, 7, 4]);
            header.extend(next.octets());
            header.push(0);
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            [header, data].concat()
        }
        IpAddr::V6(next) => {
            let routing = [&[253, 2, 0, 0, 0, 0, 0, 0][..], &next.octets(), &data].concat();
            whole(source, destination, (43, 64), &routing)
        }
    }
}

fn body(source: IpAddr, source_port: u16, destination: IpAddr, payload: Payload, data: &[u8]) -> (u8, Vec<u8>) {
    let ports = |port: u16| [source_port.to_be_bytes(), port.to_be_bytes()].concat();
    let seal = |protocol: u8, mut bytes: Vec<u8>, at: usize| {
        let sum = checksum(&[pseudo_header(source, destination, protocol, bytes.len()), bytes.clone()].concat());
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        (protocol, bytes)
    };
    match payload {
        Payload::Tcp { port, flags } => {
            let mut bytes = ports(port);
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            bytes.extend(data);
            seal(6, bytes, 16)
        }
        Payload::Udp(port) => {
            let mut bytes = ports(port);
            bytes.extend(u16::try_from(8 + data.len()).expect("short").to_be_bytes());
            bytes.extend([0, 0]);
            bytes.extend(data);
            seal(17, bytes, 6)
        }
        Payload::Sctp(port) => {
            let mut bytes = ports(port);
            // No verification tag and a checksum to come, then INIT: tag, window, streams, first TSN, and our mark as a parameter.
            bytes.extend([0; 8]);
            let parameter = [&[0xc0, 0x01][..], &u16::try_from(4 + data.len()).expect("short").to_be_bytes(), data].concat();
            let init = [&[0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1][..], &parameter].concat();
            bytes.extend([1, 0]);
            bytes.extend(u16::try_from(4 + init.len()).expect("short").to_be_bytes());
            bytes.extend(init);
            let sum = crc32c(&bytes);
            bytes[8..12].copy_from_slice(&sum.to_le_bytes());
            (132, bytes)
        }
        Payload::Ping => {
            let kind = if source.is_ipv4() { 8 } else { 128 };
            let mut bytes = vec![kind, 0, 0, 0];
            bytes.extend(source_port.to_be_bytes());
            bytes.extend([0, 1]);
            bytes.extend(data);
            if source.is_ipv4() {
                let sum = checksum(&bytes);
                bytes[2..4].copy_from_slice(&sum.to_be_bytes());
                (1, bytes)
            } else {
                seal(58, bytes, 2)
            }
        }
        Payload::Neighbour => seal(58, [&[135, 0, 0, 0, 0, 0, 0, 0][..], data].concat(), 2),
        Payload::Unknown => (253, data.to_vec()),
    }
}

fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let length = u32::try_from(length).expect("short").to_be_bytes();
    match (source, destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [&from.octets()[..], &to.octets(), &[0, protocol], &length[2..]].concat(),
        (IpAddr::V6(from), IpAddr::V6(to)) => [&from.octets()[..], &to.octets(), &length, &[0, 0, 0, protocol]].concat(),
        _ => panic!("two families"),
    }
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

/// CRC32c (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// The mark in a packet; `None` when it is not one of ours.
#[must_use]
pub fn mark(packet: &[u8]) -> Option<u32> {
    let at = packet.windows(MAGIC.len()).position(|window| window == MAGIC)? + MAGIC.len();
    Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standards() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0x220d);
    }

    #[test]
    fn marks_are_found_again() {
        let ends = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")];
        for (from, to) in ends {
            for payload in
                [Payload::Tcp { port: 80, flags: SYN }, Payload::Udp(53), Payload::Sctp(9), Payload::Ping, Payload::Unknown]
            {
                let bytes = packet(from.parse().unwrap(), 40000, to.parse().unwrap(), payload, 0xdead_beef);
                assert_eq!(mark(&bytes), Some(0xdead_beef), "{payload:?}");
            }
        }
    }
}
