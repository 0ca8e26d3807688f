//! The fixture of the specification (S7.1) as a network: three nodes with three pods each, in both families.

use std::collections::BTreeMap;
use std::net::IpAddr;

use policy_core::manifest::Syntax;
use policy_core::model::{Addresses, Placement};

use super::{Fabric, Network, Place};
use crate::case::folder;
use crate::engine;

/// Its nodes and their addresses.
const NODES: [(&str, &str); 3] = [("n1", "192.0.2.1"), ("n2", "192.0.2.2"), ("n3", "192.0.2.3")];

/// Its manifests.
///
/// # Panics
/// When they cannot be read.
#[must_use]
pub fn manifests() -> String {
    std::fs::read_to_string(folder().join("fixture.yaml")).expect("the fixture")
}

/// Its nodes, without pods.
///
/// # Panics
/// Without root.
#[must_use]
pub fn nodes(fabric: Fabric) -> Network {
    let nodes = NODES.map(|(name, address)| (name, [address.parse().expect("an address")]));
    let nodes: Vec<(&str, &[IpAddr])> = nodes.iter().map(|(name, list)| (*name, list.as_slice())).collect();
    Network::new(&nodes, fabric)
}

/// Its nodes and pods, and somebody outside at 203.0.113.9.
///
/// # Panics
/// Without root.
#[must_use]
pub fn network(fabric: Fabric) -> Network {
    let mut network = nodes(fabric);
    let snapshot = engine::load_text(&manifests(), Syntax::Strict);
    let pods = snapshot.pods.values().filter(|pod| pod.is_endpoint()).flat_map(|pod| match (&pod.addresses, &pod.placement) {
        (Addresses::Known(list), Placement::Node(node)) => list.iter().map(|a| (*a, Place::Pod(node.clone()))).collect(),
        _ => Vec::new(),
    });
    let mut places: BTreeMap<IpAddr, Place> = pods.collect();
    places.insert("203.0.113.9".parse().expect("an address"), Place::Outside);
    network.settle(&places);
    network
}
