//! `v1 Node`: the addresses that are the node's own (S4.7).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::{Changes, Compiled, Kind, Role};
use crate::diagnostic::ObjectRef;
use crate::manifest::cidr::parse_address;
use crate::manifest::load::Reader;
use crate::manifest::snapshot::Snapshot;
use crate::manifest::tree::NodeId;
use crate::manifest::wire::{List, ObjectMeta};
use crate::model::{Change, Node as NodeObject, ObjectKey};

pub(super) static KINDS: [Kind; 1] =
    [Kind { name: "Node", groups: &[""], role: Role::Subject, strict: &[], read, changes: Some(Changes::of::<Nodes>()) }];

/// `v1 Node`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Node {
    pub metadata: ObjectMeta,
    pub status: NodeStatus,
}

/// `NodeStatus`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NodeStatus {
    pub addresses: List<NodeAddress>,
}

/// `NodeAddress`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NodeAddress {
    pub address: String,
}

fn read(reader: &mut Reader<'_, '_, '_>, node: NodeId, _: &'static Kind) {
    let (wire, unread) = reader.decode::<Node>(node);
    let lowered = lower_node(&wire);
    let object = ObjectRef::global("Node", &lowered.name);
    reader.tell(node, &object, unread, Vec::new(), Vec::new());
    if !lowered.name.is_empty() && reader.counts(&object, node, &lowered) {
        reader.assembly().nodes.insert(lowered.name.clone(), lowered);
    }
}

/// A Node. Addresses that are names are left out (S4.7).
fn lower_node(wire: &Node) -> NodeObject {
    let mut addresses: Vec<IpAddr> =
        wire.status.addresses.iter().flatten().filter_map(|a| Some(parse_address(&a.address)?.0)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    NodeObject { name: wire.metadata.name.clone(), addresses }
}

struct Nodes;

impl Compiled for Nodes {
    type Key = String;
    type Object = NodeObject;

    fn objects(snapshot: &Snapshot) -> &BTreeMap<String, NodeObject> {
        &snapshot.nodes
    }

    fn into_objects(snapshot: Snapshot) -> BTreeMap<String, NodeObject> {
        snapshot.nodes
    }

    fn key(key: ObjectKey) -> String {
        key.name
    }

    fn present(object: NodeObject) -> Change {
        Change::Node(object)
    }

    fn removed(key: String) -> Change {
        Change::NodeRemoved(key)
    }
}
