//! What users write for the ports of a question.

use std::collections::BTreeSet;

use anyhow::{Error, Result, anyhow, bail};
use policy_core::manifest::nearest;
use policy_core::model::NamedPort;
use policy_core::sets::{PortSet, Protocol, Transport};

use super::ends::End;
use super::evaluation::Evaluation;

const EXPECTED: &str = "expected a port such as 80, 53/UDP, 8000-9000/TCP, a port name, `icmp` or `other`";

/// Numbers of names that people expect to be known.
const WELL_KNOWN: [(&str, &str); 12] = [
    ("dns", "53/UDP"),
    ("domain", "53/UDP"),
    ("grpc", "50051"),
    ("http", "80"),
    ("https", "443"),
    ("kafka", "9092"),
    ("ldap", "389"),
    ("mysql", "3306"),
    ("postgres", "5432"),
    ("postgresql", "5432"),
    ("redis", "6379"),
    ("ssh", "22"),
];

/// Reads the ports of a question; `None` when no port was given. Names are looked up at the destinations; `None` stands for
/// destinations that differ.
pub(crate) fn ports(texts: &[String], destinations: Option<&[End]>, evaluation: &Evaluation) -> Result<Option<PortSet>> {
    if texts.is_empty() {
        return Ok(None);
    }
    let mut out = PortSet::none();
    for text in texts {
        out = out.union(&port(text, destinations, evaluation)?);
    }
    Ok(Some(out))
}

fn port(text: &str, destinations: Option<&[End]>, evaluation: &Evaluation) -> Result<PortSet> {
    let (port, given) = match text.split_once('/') {
        Some((port, protocol)) => (port, Some(transport(text, port, protocol)?)),
        None => (text, None),
    };
    let protocol = given.unwrap_or(Transport::Tcp);
    if ["icmp", "icmpv6", "other"].contains(&port.to_ascii_lowercase().as_str()) && given.is_none() {
        return Ok(PortSet::of(Protocol::Other));
    }
    let number = |text: &str| text.parse::<u16>().ok().filter(|n| *n >= 1);
    let (low, high) = port.split_once('-').unwrap_or((port, port));
    if let (Some(low), Some(high)) = (number(low), number(high)) {
        if low > high {
            bail!("the range `{text}` ends before it starts; write `{high}-{low}`");
        }
        return Ok(PortSet::range(protocol, low, high));
    }
    if let Some(error) = not_a_name(text, port) {
        return Err(error);
    }
    let Some(destinations) = destinations else {
        let known = well_known(port, protocol).map(|known| format!(", such as {known}")).unwrap_or_default();
        bail!("`{text}` is a port name, which can be another number at each destination; specify a number{known}");
    };
    let named: Vec<&NamedPort> = destinations
        .iter()
        .flat_map(|end| end.pods(evaluation))
        .filter_map(|key| evaluation.snapshot.pods.get(key))
        .flat_map(|pod| &pod.ports)
        .collect();
    let found = named
        .iter()
        .filter(|named| named.name == port && named.protocol == protocol)
        .fold(PortSet::none(), |set, named| set.union(&PortSet::range(protocol, named.number, named.number)));
    if found.is_empty() {
        return Err(unknown(port, protocol, destinations, &named));
    }
    Ok(found)
}

/// The protocol after the slash.
fn transport(text: &str, port: &str, protocol: &str) -> Result<Transport> {
    if let Some(transport) = Transport::from_name(&protocol.to_ascii_uppercase()) {
        return Ok(transport);
    }
    Err(match Transport::from_name(&port.to_ascii_uppercase()) {
        Some(first) => anyhow!("write the port before the protocol: `{protocol}/{first}` instead of `{text}`"),
        None => anyhow!("`{protocol}` in `{text}` is not a protocol with ports; expected TCP, UDP or SCTP"),
    })
}

/// The error for text that cannot be the name of a port.
fn not_a_name(text: &str, port: &str) -> Option<Error> {
    if let Some(transport) = Transport::from_name(&port.to_ascii_uppercase()) {
        return Some(anyhow!("`{text}` is a protocol without a port; write `1-65535/{transport}` for every port"));
    }
    if ["*", "any", "all"].contains(&port.to_ascii_lowercase().as_str()) {
        return Some(anyhow!("`{text}` is not a port; leave out `-p` to ask about every protocol and port"));
    }
    if let Some((a, b)) = port.split_once(':') {
        let is_number = |text: &str| text.parse::<u16>().is_ok();
        return Some(match (Transport::from_name(&a.to_ascii_uppercase()), Transport::from_name(&b.to_ascii_uppercase())) {
            (Some(protocol), None) if is_number(b) => anyhow!("write `{b}/{protocol}` instead of `{text}`"),
            (None, Some(protocol)) if is_number(a) => anyhow!("write `{a}/{protocol}` instead of `{text}`"),
            _ => anyhow!("`{text}` is not a port; {EXPECTED}"),
        });
    }
    if port.is_empty() || port.chars().all(|c| c.is_ascii_digit() || c == '-') {
        return Some(anyhow!("`{text}` is not a port; {EXPECTED}, from 1 to 65535"));
    }
    None
}

fn well_known(name: &str, protocol: Transport) -> Option<String> {
    let (_, number) = WELL_KNOWN.iter().find(|(known, _)| *known == name)?;
    Some(match protocol {
        Transport::Tcp => (*number).to_owned(),
        other => format!("{}/{other}", number.split('/').next().unwrap_or(number)),
    })
}

/// The error for a name that no port of the destinations has.
fn unknown(name: &str, protocol: Transport, destinations: &[End], named: &[&NamedPort]) -> Error {
    let end = match destinations {
        [end] => end.name(),
        several => format!("the {} destinations", several.len()),
    };
    let what = format!("no container port of {end} is named `{name}` with protocol {protocol}");
    let others: BTreeSet<&str> =
        named.iter().filter(|port| port.name == name && port.protocol != protocol).map(|port| port.protocol.name()).collect();
    if !others.is_empty() {
        let list: Vec<String> = others.iter().map(|other| format!("`{name}/{other}`")).collect();
        return anyhow!("{what}; did you mean {}?", list.join(" or "));
    }
    let names: BTreeSet<&str> = named.iter().map(|port| port.name.as_str()).filter(|name| !name.is_empty()).collect();
    if let Some(near) = nearest(name, names.iter().copied()) {
        let suffix = if protocol == Transport::Tcp { String::new() } else { format!("/{protocol}") };
        return anyhow!("{what}; did you mean `{near}{suffix}`?");
    }
    if let Some(number) = well_known(name, protocol) {
        return anyhow!("{what}; did you mean the port number {number}?");
    }
    let list = names.iter().copied().collect::<Vec<_>>().join(", ");
    if names.is_empty() { anyhow!("{what}; {EXPECTED}") } else { anyhow!("{what}; the port names are {list}") }
}
