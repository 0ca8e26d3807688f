//! CIDR text as the API server reads it.
//!
//! Source: `ParseCIDRSloppy` and `IsValidCIDR` of k8s.io/apimachinery, KEP-4858 for what strict validation refuses; S1.18
//! and S1.19.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A CIDR that can be read, and what is to be said of its spelling.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cidr {
    /// The block, host bits cleared, IPv4-mapped blocks as IPv4.
    pub net: IpNet,
    /// Why strict validation refuses the spelling.
    pub refused: Option<&'static str>,
    /// Whether newer servers warn about the spelling.
    pub is_noncanonical: bool,
}

fn decimal(text: &str, highest: u16) -> Option<(u16, bool)> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = text.trim_start_matches('0');
    let value = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let has_leading_zero = text.len() > 1 && text.starts_with('0');
    (value <= highest).then_some((value, has_leading_zero))
}

fn ipv4(text: &str) -> Option<(Ipv4Addr, bool)> {
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    let mut has_leading_zero = false;
    for octet in &mut octets {
        let (value, zero) = decimal(parts.next()?, 255)?;
        *octet = u8::try_from(value).ok()?;
        has_leading_zero |= zero;
    }
    parts.next().is_none().then_some((Ipv4Addr::from(octets), has_leading_zero))
}

fn address(text: &str) -> Option<(IpAddr, bool)> {
    if !text.contains(':') {
        return ipv4(text).map(|(a, zero)| (IpAddr::V4(a), zero));
    }
    // An IPv6 address may end in dotted IPv4, where leading zeros are read as decimal too.
    if let Some((head, tail)) = text.rsplit_once(':')
        && tail.contains('.')
    {
        let (v4, zero) = ipv4(tail)?;
        return format!("{head}:{v4}").parse::<Ipv6Addr>().ok().map(|a| (IpAddr::V6(a), zero));
    }
    text.parse::<Ipv6Addr>().ok().map(|a| (IpAddr::V6(a), false))
}

/// Reads an address in the sloppy way of the API server: leading zeros mean nothing, and an IPv4-mapped address is the IPv4
/// address. With the address comes why strict validation refuses the spelling.
pub(crate) fn parse_address(text: &str) -> Option<(IpAddr, Option<&'static str>)> {
    let (address, has_leading_zero) = address(text)?;
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some((v6.to_canonical(), Some("an IPv4-mapped IPv6 address"))),
        _ => Some((address, has_leading_zero.then_some("leading zeros"))),
    }
}

/// Reads a CIDR in the sloppy way of the API server; `None` when not even that can read it.
pub(crate) fn parse(text: &str) -> Option<Cidr> {
    let (address_text, prefix_text) = text.split_once('/')?;
    let (address, mut has_leading_zero) = address(address_text)?;
    let (prefix, zero) = decimal(prefix_text, 128)?;
    has_leading_zero |= zero;
    let mapped = match address {
        IpAddr::V6(a) => a.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    };
    let prefix = u8::try_from(prefix).ok()?;
    let net = match mapped {
        Some(v4) => IpNet::new(IpAddr::V4(v4), prefix.checked_sub(96)?).ok()?,
        None => IpNet::new(address, prefix).ok()?,
    };
    let refused = if mapped.is_some() {
        Some("an IPv4-mapped IPv6 address")
    } else if has_leading_zero {
        Some("leading zeros")
    } else if net.addr() != net.network() {
        Some("bits set beyond the prefix")
    } else {
        None
    };
    let is_noncanonical = refused.is_none() && address.to_string() != address_text;
    Some(Cidr { net: net.trunc(), refused, is_noncanonical })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, bool, bool)> {
        parse(text).map(|c| (c.net.to_string(), c.refused.is_some(), c.is_noncanonical))
    }

    #[test]
    fn strict_and_legacy_spellings() {
        let row = |net: &str, refused, noncanonical| Some((net.to_owned(), refused, noncanonical));
        assert_eq!(read("10.0.0.0/8"), row("10.0.0.0/8", false, false));
        assert_eq!(read("10.0.0.1/24"), row("10.0.0.0/24", true, false));
        assert_eq!(read("010.0.0.0/8"), row("10.0.0.0/8", true, false));
        assert_eq!(read("10.0.0.0/08"), row("10.0.0.0/8", true, false));
        assert_eq!(read("::ffff:10.0.0.0/104"), row("10.0.0.0/8", true, false));
        assert_eq!(read("FD00:0:0::/16"), row("fd00::/16", false, true));
        assert_eq!(read("::/0"), row("::/0", false, false));
        assert_eq!(read("0.0.0.0/0"), row("0.0.0.0/0", false, false));
    }

    #[test]
    fn addresses_are_read_as_the_api_server_reads_them() {
        let read = |text| parse_address(text).map(|(address, refused)| (address.to_string(), refused.is_some()));
        let row = |address: &str, is_refused| Some((address.to_owned(), is_refused));
        assert_eq!(read("10.244.1.2"), row("10.244.1.2", false));
        assert_eq!(read("010.244.001.002"), row("10.244.1.2", true));
        assert_eq!(read("::ffff:10.244.1.2"), row("10.244.1.2", true));
        assert_eq!(read("::ffff:0af4:0102"), row("10.244.1.2", true));
        assert_eq!(read("FD00::2"), row("fd00::2", false));
        for bad in ["", "10.244.1", "10.244.1.256", "10.244.1.2/32", " 10.244.1.2", "0x0a.244.1.2", "fe80::1%eth0", "a"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn unreadable_text_is_none() {
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/8/8",
            "::/129",
            "::ffff:10.0.0.0/95",
            "10.0.0.256/32",
            "a/8",
            "fe80::1%eth0/64",
            "10.0.0.0/+8",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
