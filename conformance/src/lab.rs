//! A laboratory of network namespaces.
//!
//! Namespaces have no names: each belongs to a thread, and goes when the thread goes, also when a test panics or is killed.
//!
//! - `namespace`: one network namespace, and work to be done in it.
//! - `network`: nodes, pods behind them, and the world outside.
//! - `fixture`: the network of the specification's fixture.
//! - `packets`: packets, byte by byte.
//! - `probe`: sends first packets and sees which arrive.
//! - `agents`: an agent for each node, as threads of the test.
//! - `control_plane`: a real kube-apiserver with its etcd, outside of the nodes.
//! - `api`: makes the cluster in it hold what a test wants, as a kubelet and controllers would.
//! - `fire`: packets all the time, while something is disturbed.
//! - `process`: the agent's binary, run on a node.
//! - `runtime`: sandboxes, and the chain of CNI plugins.
//! - `truth`: verdicts beside what happens to packets.

mod agents;
mod api;
mod control_plane;
pub mod fire;
pub mod fixture;
mod namespace;
mod network;
pub mod packets;
mod probe;
mod process;
mod runtime;
pub mod truth;

pub use agents::Agents;
pub use api::{Api, Refusal};
pub use control_plane::{ADDRESS, ControlPlane, VERSIONS, tool};
pub use namespace::Namespace;
pub use network::{Fabric, Network, Place};
pub use probe::{Ears, Packets, Probe, arrived, send};
pub use process::{AgentProcess, binary};
pub use runtime::{PluginError, Runtime, Sandbox};

/// Whether this machine can run the tests that need a kernel of their own. Says why not, and fails where that is no excuse.
///
/// # Panics
/// Under `CI=true`, when something is missing.
#[must_use]
pub fn is_available(tools: &[&str]) -> bool {
    let mut missing: Vec<String> = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        missing.push("root".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &str| std::env::split_paths(&path).any(|folder| folder.join(tool).exists());
    missing.extend(tools.iter().filter(|tool| !is_there(tool)).map(|tool| (*tool).to_owned()));
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "a kernel test cannot run, which CI does not excuse: no {missing}");
    println!("skipped: needs network namespaces, and there is no {missing}");
    false
}
