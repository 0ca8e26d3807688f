//! `make e2e`: suites that others wrote, in a Kubernetes cluster of real parts on this machine.
//!
//! The cluster is etcd, kube-apiserver, kube-controller-manager and kube-scheduler, and two nodes with containerd, kubelet, kube-proxy and the
//! reference CNI plugins. netpol is installed as users install it. All of it runs in namespaces that end with this program. With E2E_KUBECONFIG the
//! suites run in a cluster that is there.
//!
//! - `settings`: what the environment asks for.
//! - `sandbox`: the namespaces around everything, and the removal of what is left.
//! - `cluster`: control plane, nodes, and what is installed in them.
//! - `node`: one node.
//! - `images`: container images without a registry.
//! - `programs`: what is built for the cluster, and how programs are run.
//! - `suite`: the suite of Kubernetes.
//! - `cyclonus`: the cases of cyclonus.
//! - `field`: what the suites do not try; `knock`: its client.
//! - `report`: the table of results.

mod cluster;
mod cyclonus;
mod field;
mod images;
mod knock;
mod node;
mod programs;
mod report;
mod sandbox;
mod settings;
mod suite;

use std::process::ExitCode;

use cluster::Cluster;
use programs::Programs;
use report::Report;
use settings::{Settings, Wanted};

/// What can go wrong is said in a sentence.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        // A cluster that is there needs no namespaces.
        [] if Settings::of_environment().is_ok_and(|settings| settings.kubeconfig.is_some()) => inside(),
        [] => {
            // The namespaces have no way to what is downloaded.
            Programs::built();
            sandbox::enter()
        }
        ["inside"] => inside(),
        ["clean", folder] => sandbox::clean_after(folder.as_ref()),
        ["node", json] => node::run(json),
        ["knock", seconds, target, source] => knock::knock([seconds, target, source]),
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
    if let Some(kubeconfig) = &settings.kubeconfig {
        let cluster = Cluster::of_kubeconfig(&settings, kubeconfig)?;
        report.add(match settings.wanted {
            Wanted::Cyclonus => cyclonus::run(&settings, &cluster)?,
            _ => vec![suite::run(&settings, &cluster)?],
        });
        return report.show(&settings);
    }
    for proxy in settings.proxies() {
        let mut cluster = Cluster::start(&settings, proxy)?;
        match settings.wanted {
            Wanted::Shell => return cluster.shell(),
            Wanted::Suite | Wanted::Control => report.add([suite::run(&settings, &cluster)?]),
            Wanted::Cyclonus => report.add(cyclonus::run(&settings, &cluster)?),
            Wanted::Field => report.add([field::run(&settings, &mut cluster)?]),
        }
    }
    report.show(&settings)
}
