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
//! - `fake_api`: what an agent needs of an API server, from memory.
//! - `clients`: many HTTP clients at once.
//! - `trickle`: first packets, by which is seen since when a pod is closed.
//! - `announcements`: when the kernel announces a change.
//! - `flood`: packets all the time, while something is disturbed.
//! - `process`: the agent's binary, run on a node.
//! - `runtime`: sandboxes, and the chain of CNI plugins.
//! - `comparison`: verdicts beside what happens to packets.

mod agents;
mod announcements;
#[cfg(feature = "cluster")]
mod api;
mod clients;
pub mod comparison;
mod control_plane;
mod fake_api;
pub mod fixture;
pub mod flood;
mod namespace;
mod network;
pub mod packets;
mod probe;
mod process;
mod runtime;
mod trickle;

pub use agents::Agents;
pub use announcements::Announcements;
#[cfg(feature = "cluster")]
pub use api::{Api, Refusal};
pub use clients::{Clients, Manner, Tally};
pub use control_plane::{ADDRESS, ControlPlane, User, VERSIONS, tool};
pub use fake_api::FakeApi;
pub use namespace::Namespace;
pub use network::{Fabric, Network, Place, link_name};
pub use probe::{Ears, Packets, Probe, arrived, send};
pub use process::{AgentProcess, binary};
pub use runtime::{PluginError, Runtime, Sandbox};
pub use trickle::Trickle;

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
    skipped(&format!("needs network namespaces, and there is no {missing}"));
    false
}

/// Whether packets pass while something else happens at the same time. On one CPU nothing is ever seen half done, so that a test
/// for it would say nothing. Says so, and fails where that is no excuse.
///
/// # Panics
/// Under `CI=true`, when there is one CPU.
#[must_use]
pub fn is_parallel() -> bool {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    if count > 1 {
        return true;
    }
    skipped("on one CPU no packet meets a change that is half done, so this would prove nothing");
    false
}

/// Says why a test did not run.
///
/// # Panics
/// Under `CI=true`, where every test must.
fn skipped(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "a kernel test cannot run, which CI does not excuse: {why}");
    println!("skipped: {why}");
}
