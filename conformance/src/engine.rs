//! The engine behind the same questions as the oracle.

use std::net::IpAddr;

use policy_core::compile::{Compiler, Options};
use policy_core::graph::AllowGraph;
use policy_core::manifest::{Loader, Snapshot, Syntax};
use policy_core::model::Change;
use policy_core::sets::{Protocol, Transport};
use policy_core::verdict::Flow;
use serde_json::Value;

use crate::oracle;

/// Reads objects through the loader, as one JSON list.
#[must_use]
pub fn load(objects: &[Value], syntax: Syntax) -> Snapshot {
    let text = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    load_text(&text, syntax)
}

/// Reads manifests through the loader.
#[must_use]
pub fn load_text(text: &str, syntax: Syntax) -> Snapshot {
    let mut loader = Loader::new(syntax);
    loader.read("case.yaml", text.as_bytes());
    loader.finish()
}

/// Compiles changes from scratch.
#[must_use]
pub fn compile(changes: impl IntoIterator<Item = Change>) -> AllowGraph {
    let mut compiler = Compiler::new(Options::default());
    for change in changes {
        compiler.apply(change);
    }
    compiler.flush();
    compiler.into_graph()
}

/// The oracle's protocol in the engine's terms.
#[must_use]
pub fn protocol(protocol: oracle::Protocol) -> Protocol {
    match protocol {
        oracle::Protocol::Other => Protocol::Other,
        oracle::Protocol::Port(name, port) => Transport::from_name(name).map_or(Protocol::Other, |t| Protocol::Port(t, port)),
    }
}

/// The engine's verdict on a flow.
#[must_use]
pub fn is_allowed(graph: &AllowGraph, source: IpAddr, destination: IpAddr, question: oracle::Protocol) -> bool {
    graph.verdict(&Flow { source, destination, protocol: protocol(question) }).is_allowed()
}
