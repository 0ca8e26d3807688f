//! The shop of `examples/shop`, for demonstrations.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use policy_core::manifest::{Replicas, Syntax};
use policy_core::model::{Labels, UNKNOWN_VALUE};
use serde_json::{Value, json};

use crate::engine;

/// Its folder.
///
/// # Panics
/// When this is not run in the repository.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("examples/shop")
}

/// One of its files.
///
/// # Panics
/// When there is none of this name.
#[must_use]
pub fn read(file: &str) -> String {
    std::fs::read_to_string(folder().join(file)).expect("the example is there")
}

/// The pods that its workloads would make, where a workload may have several as many as `copies` of each; without nodes and
/// addresses.
#[must_use]
pub fn pods(copies: usize) -> Vec<Value> {
    let text = ["namespaces.yaml", "workloads.yaml"].map(read).join("\n---\n");
    let snapshot = engine::load_text(&text, Syntax::Strict);
    let mut out = Vec::new();
    for ((namespace, workload), unit) in &snapshot.workloads {
        let mut number = 0;
        for key in &unit.pods {
            let pod = &snapshot.pods[key];
            // A hash as controllers make it.
            let known = |value: &str| if value == UNKNOWN_VALUE { "6d4cf56db6" } else { value }.to_owned();
            let labels: Labels = pod.labels.iter().map(|(key, value)| (key.clone(), known(value))).collect();
            let port = |p: &policy_core::model::NamedPort| json!({"name": p.name, "containerPort": p.number, "protocol": p.protocol.name()});
            let ports: Vec<Value> = pod.ports.iter().map(port).collect();
            for _ in 0..if unit.replicas == Replicas::Several { copies } else { 1 } {
                out.push(json!({
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": {"namespace": namespace, "name": format!("{}-{number}", workload.name), "labels": labels},
                    "spec": {"hostNetwork": pod.is_host_network, "containers": [{"name": "c", "ports": ports}]},
                }));
                number += 1;
            }
        }
    }
    out
}

/// Text in a colour, on a terminal only.
#[must_use]
pub fn paint(text: &str, colour: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// One cell of a table: how many of some packets pass.
#[must_use]
pub fn cell(open: usize, all: usize) -> String {
    match open {
        _ if all == 0 => "  ".to_owned(),
        0 => paint("· ", "2"),
        n if n == all => paint("● ", "32"),
        _ => paint("◐ ", "33"),
    }
}
