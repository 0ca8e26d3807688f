//! Pods, and the owners of objects.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::cidr::parse_address;
use super::super::fault::{Correction, Fault};
use super::super::names::nearest;
use super::super::wire::{self, Container, List, ObjectMeta, PodSpec};
use super::{Path, Report, Syntax};
use crate::diagnostic::rules::{files, pods};
use crate::model::{Addresses, NamedPort, ObjectKey, Phase, Placement, Pod};
use crate::sets::Transport;

/// The fields that decide whom policies select and match; with any of them unreadable, the pod is unknown (S2.25). Ports are not
/// among them: a port that could not be read is one that no rule allows.
const DECIDING: [(&str, &str); 7] = [
    ("metadata", "labels"),
    ("metadata", "namespace"),
    ("spec", "nodeName"),
    ("spec", "hostNetwork"),
    ("status", "phase"),
    ("status", "podIP"),
    ("status", "podIPs"),
];

/// A pod from a file or an API server.
pub(crate) fn lower_pod(wire: &wire::Pod, key: ObjectKey, syntax: Syntax, report: &mut Report<'_>) -> Pod {
    let status = &wire.status;
    let (read, are_readable) = addresses(status, syntax, report);
    let is_unknown = !are_readable || is_unreadable(report);
    // A manifest, not a dump: the pod is yet to be made.
    let is_manifest = status.phase.is_empty() && status.pod_ip.is_empty() && status.pod_ips.is_empty() && !is_unknown;
    let addresses = if is_manifest { Addresses::Unknown } else { Addresses::Known(read) };
    let spec = Path::Root("spec");
    let placement = match wire.spec.node_name.as_str() {
        // On any node: each must take it for one of its own.
        "" if is_manifest || report.unread.touch(&spec.field("nodeName")) => Placement::Somewhere,
        "" => Placement::Unscheduled,
        node => Placement::Node(node.to_owned()),
    };
    if placement == Placement::Unscheduled && addresses != Addresses::Known(Vec::new()) {
        let message = "the pod has an address and no `nodeName`, so it counts as not scheduled and no policy applies to it";
        let fault = Fault::new(&pods::ADDRESS_WITHOUT_NODE, &spec.field("nodeName"), message);
        report.warn(fault.help("add `spec.nodeName`"));
    }
    let phase = match status.phase.as_str() {
        "Succeeded" | "Failed" => Phase::Finished,
        _ => Phase::Live,
    };
    Pod {
        uid: None,
        key,
        labels: wire.metadata.labels.clone(),
        placement,
        phase,
        is_host_network: wire.spec.host_network,
        addresses,
        ports: named_ports(&wire.spec),
        sidecar_ports: sidecar_ports(&wire.spec),
        owner: None,
        is_unknown,
    }
}

/// Whether a field that decides could not be read, or may be a mistyped one.
fn is_unreadable(report: &Report<'_>) -> bool {
    let is_touched = |(root, field): &(&'static str, &'static str)| report.unread.touch(&Path::Root(root).field(field));
    let is_mistyped = |fault: &Fault| {
        let unknown = fault.path.strip_prefix("metadata.").filter(|_| fault.rule == &files::UNKNOWN_FIELD);
        unknown.is_some_and(|name| nearest(name, ["labels", "namespace"]).is_some())
    };
    DECIDING.iter().any(is_touched) || report.unread.0.iter().any(is_mistyped)
}

/// `status.podIPs`, else `status.podIP` (S2.2), and whether all of them could be read.
fn addresses(status: &wire::PodStatus, syntax: Syntax, report: &mut Report<'_>) -> (Vec<IpAddr>, bool) {
    let root = Path::Root("status");
    let (list, single) = (root.field("podIPs"), root.field("podIP"));
    let mut texts: Vec<(&str, Path<'_>)> = Vec::new();
    for (i, entry) in status.pod_ips.iter().enumerate() {
        if let Some(entry) = entry {
            texts.push((&entry.ip, list.index(i)));
        }
    }
    let is_single = texts.is_empty();
    if is_single && !status.pod_ip.is_empty() {
        texts.push((&status.pod_ip, single));
    }
    let (mut out, mut seen, mut are_readable) = (Vec::with_capacity(texts.len()), BTreeSet::new(), true);
    for (text, path) in texts {
        let Some((address, refused)) = parse_address(text) else {
            report.error(Fault::new(&pods::INVALID_ADDRESS, &path, format!("found `{text}`, expected an IP address")));
            are_readable = false;
            continue;
        };
        if let Some(why) = refused {
            let message = format!("found `{text}` with {why}, expected `{address}`");
            // The path of an entry leads to its mapping, and the correction is for the text in it.
            let fault = Fault::new(&pods::NONCANONICAL_ADDRESS, &path, message);
            let fault = if is_single { fault.correction(Correction::Value(address.to_string())) } else { fault };
            match syntax {
                Syntax::Strict => report.error(fault),
                Syntax::Legacy => report.warn(fault),
            }
        }
        if seen.insert(address) {
            out.push(address);
        }
    }
    let v4 = out.iter().filter(|address: &&IpAddr| address.is_ipv4()).count();
    if v4 > 1 || out.len() - v4 > 1 {
        let message = format!("found {} addresses, expected at most one of each family", out.len());
        report.error(Fault::new(&pods::TOO_MANY_ADDRESSES, &list, message));
    }
    (out, are_readable)
}

/// The named ports of containers and of sidecars, which are init containers that always restart (S1.55).
pub(super) fn named_ports(spec: &PodSpec) -> Vec<NamedPort> {
    ports_of(spec.containers.iter().flatten().chain(sidecars(spec)))
}

/// The names of ports that sidecars give and containers do not, with their ports.
pub(super) fn sidecar_ports(spec: &PodSpec) -> Vec<NamedPort> {
    let of_containers = ports_of(spec.containers.iter().flatten());
    let mut ports = ports_of(sidecars(spec));
    ports.retain(|port| !of_containers.iter().any(|other| (&other.name, other.protocol) == (&port.name, port.protocol)));
    ports
}

fn sidecars(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().filter(|container| container.restart_policy == "Always")
}

/// The named ports of some containers, sorted, without repeats.
fn ports_of<'s>(containers: impl Iterator<Item = &'s Container>) -> Vec<NamedPort> {
    let mut ports: Vec<NamedPort> = containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter(|port| !port.name.is_empty())
        .filter_map(|port| {
            let protocol = if port.protocol.is_empty() { Transport::Tcp } else { Transport::from_name(&port.protocol)? };
            let number = u16::try_from(port.container_port).ok().filter(|n| *n >= 1)?;
            Some(NamedPort { name: port.name.clone(), protocol, number })
        })
        .collect();
    ports.sort();
    ports.dedup();
    ports
}

/// The kind and name of an owner.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct OwnerName {
    pub kind: String,
    pub name: String,
}

/// The controller among the owners.
pub(crate) fn controller(metadata: &ObjectMeta) -> Option<OwnerName> {
    let owners: &List<wire::OwnerReference> = &metadata.owner_references;
    owners.iter().flatten().find(|o| o.controller).map(|o| OwnerName { kind: o.kind.clone(), name: o.name.clone() })
}
