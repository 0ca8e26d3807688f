//! `make e2e`: suites that others wrote, in a Kubernetes cluster of real parts on this machine.
//!
//! The cluster is etcd, kube-apiserver, kube-controller-manager and kube-scheduler, and two nodes with containerd, kubelet, kube-proxy and the
//! reference CNI plugins. netpol is installed as users install it. All of it runs in namespaces that end with this program.
//!
//! - `settings`: what the environment asks for.
//! - `sandbox`: the namespaces around everything, and the removal of what is left.
//! - `cluster`: control plane, nodes, and what is installed in them.
//! - `node`: one node.
//! - `images`: container images without a registry.
//! - `programs`: what is built for the cluster, and how programs are run.
//! - `suite`: the suite of Kubernetes.
//! - `cyclonus`: the cases of cyclonus.
//! - `report`: the table of results.

mod cluster;
mod cyclonus;
mod images;
mod node;
mod programs;
mod report;
mod sandbox;
mod settings;
mod suite;

use std::process::ExitCode;

use cluster::Cluster;
use report::Report;
use settings::{Settings, Wanted};

/// What can go wrong is said in a sentence.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => sandbox::enter(),
        ["inside"] => inside(),
        ["clean", folder] => sandbox::clean_after(folder.as_ref()),
        ["node", json] => node::run(json),
        _ => Err("e2e takes no arguments; `make help` lists what the environment can ask for".into()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("e2e: {error}");
        ExitCode::from(2)
    })
}

/// What is done in the namespaces.
fn inside() -> Result<ExitCode> {
    let settings = Settings::of_environment()?;
    let mut report = Report::default();
    for proxy in settings.proxies() {
        let cluster = Cluster::start(&settings, proxy)?;
        match settings.wanted {
            Wanted::Shell => return cluster.shell(),
            Wanted::Suite | Wanted::Control => report.add(suite::run(&settings, &cluster)?),
            Wanted::Cyclonus => report.add(cyclonus::run(&settings, &cluster)?),
        }
    }
    report.show(&settings)
}
