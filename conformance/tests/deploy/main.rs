//! What is deployed: the chart, the plain manifests made from it, and what an API server says of them.
//!
//! - `settings`: the values of the chart, its schema, names, and the directories of distributions.
//! - `metrics`: who can read the metrics, and what the reporter can reach.
//! - `alerts`, `dashboard`: what Prometheus and Grafana get.
//! - `queries`: which metrics and labels queries name.
//! - `reference`: the README of the chart.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

mod alerts;
mod dashboard;
mod metrics;
mod queries;
mod reference;
mod settings;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use conformance::case::to_json;
use conformance::lab::{self, ControlPlane, Fabric, VERSIONS, fixture, tool};
use serde_json::Value;

const TOOLS: [&str; 4] = ["ip", "openssl", "curl", "python3"];
const MONITORED: &str = "monitoring.serviceMonitor=true,monitoring.prometheusRule=true,monitoring.dashboard=true";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn run_helm(arguments: &[&str]) -> Output {
    Command::new(tool("helm").join("helm")).args(arguments).current_dir(root()).output().expect("helm runs")
}

fn helm(arguments: &[&str]) -> String {
    let output = run_helm(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "helm {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// What helm says of something that it refuses.
fn helm_fails(arguments: &[&str]) -> String {
    let output = run_helm(arguments);
    assert!(!output.status.success(), "helm accepts {arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn template(settings: &[&str]) -> String {
    template_with("netpol", "netpol", settings)
}

fn template_with(release: &str, namespace: &str, settings: &[&str]) -> String {
    let mut arguments = vec!["template", release, "policy-agent/deploy/chart", "--namespace", namespace];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    helm(&arguments)
}

fn documents(made: &str) -> Vec<Value> {
    to_json(made).into_iter().filter(Value::is_object).collect()
}

/// One of the objects.
fn object(made: &str, kind: &str, name: &str) -> Value {
    let mut found = documents(made).into_iter().filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.next().unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

#[test]
fn the_chart_is_clean_and_the_plain_manifests_are_made_from_it() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    helm(&["lint", "--strict", "policy-agent/deploy/chart"]);
    for (file, settings) in [
        ("netpol.yaml", "createNamespace=true,uninstall=false"),
        ("netpol-uninstall.yaml", "createNamespace=true,uninstall=true"),
    ] {
        let path = format!("policy-agent/deploy/{file}");
        let (_, stored) =
            read(&path).split_once("---\n").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a head and the rest");
        let made = template(&[settings]);
        assert!(made == format!("---\n{stored}"), "{path} is not what the chart makes; run `make manifests`");
    }
}

/// Whole objects of every variant, as an API server would take them, and the rights that they need.
#[test]
fn api_servers_accept_every_variant() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let network = fixture::nodes(Fabric::Routed);
    let crds = tool("prometheus-operator").join("example/prometheus-operator-crd");
    for version in VERSIONS {
        let plane = ControlPlane::start(version, network.outside(), &[]);
        let kubectl = |arguments: &[&str]| plane.kubectl(network.outside(), arguments);
        for kind in ["servicemonitors", "prometheusrules"] {
            let path = crds.join(format!("monitoring.coreos.com_{kind}.yaml"));
            kubectl(&["create", "-f", path.to_str().expect("UTF-8")]);
            kubectl(&["wait", "--for=condition=Established", &format!("crd/{kind}.monitoring.coreos.com")]);
        }
        kubectl(&["create", "namespace", "netpol"]);
        let folder = tempfile::tempdir().expect("a folder");
        let variants = [
            "createNamespace=true",
            MONITORED,
            "uninstall=true",
            "cni.enabled=false,reporter.enabled=false",
            "image.pullSecrets[0].name=key,agent.podAnnotations.a=b,agent.podLabels.a=b,agent.port=9999,metrics.access=token",
            "cni.preset=gke,agent.extraEnv[0].name=A,agent.extraEnv[0].value=b,agent.podSecurityContext.seLinuxOptions.type=spc_t",
            "fullnameOverride=firewall,monitoring.serviceMonitor=true,metrics.access=all,monitoring.alerts.NetpolSlow.threshold=0.5",
        ];
        for (number, settings) in variants.into_iter().enumerate() {
            let path = folder.path().join(format!("{number}.yaml"));
            std::fs::write(&path, template(&[settings])).expect("writable");
            let path = path.to_str().expect("UTF-8");
            // Strict: a field that the server does not know is an error.
            let told = kubectl(&["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", path]);
            let (count, wanted) = (told.lines().count(), template(&[settings]).matches("\nkind: ").count());
            assert!(count >= wanted, "{settings}: {told}");
        }
        kubectl(&["apply", "-f", root().join("policy-agent/deploy/netpol.yaml").to_str().expect("UTF-8")]);
        let may_in = |namespace: &str, who: &str| {
            let user = format!("--as=system:serviceaccount:netpol:{who}");
            let list = kubectl(&["auth", "can-i", "--list", "--no-headers", "--namespace", namespace, &user]);
            // What everybody may do is not ours.
            let is_ours = |line: &&str| !["selfsubject", "clustertrustbundles", "/"].iter().any(|other| line.contains(other));
            let rights = list.lines().filter(is_ours).filter(|line| !line.trim().is_empty());
            // Those of several roles are in the order of the roles.
            let sorted = |line: &str| {
                let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
                let (what, verbs) = line.rsplit_once('[').expect("verbs");
                let mut verbs: Vec<&str> = verbs.trim_end_matches(']').split(' ').collect();
                verbs.sort_unstable();
                format!("{what}[{}]", verbs.join(" "))
            };
            rights.map(sorted).collect::<BTreeSet<_>>()
        };
        let may = |who: &str| may_in("default", who);
        let reads = ["namespaces", "networkpolicies.networking.k8s.io", "nodes", "pods"]
            .map(|kind| format!("{kind} [] [] [get list watch]"));
        // Events are all that an agent writes. It reads none.
        let mut agent = BTreeSet::from(reads.clone());
        agent.insert("events.events.k8s.io [] [] [create patch]".to_owned());
        assert_eq!(may("netpol"), agent);
        let mut at_home = agent;
        at_home.insert("daemonsets.apps [] [netpol] [get watch]".to_owned());
        assert_eq!(may_in("netpol", "netpol"), at_home);
        let mut reporter = BTreeSet::from(reads);
        reporter.insert("events.events.k8s.io [] [] [create list patch]".to_owned());
        assert_eq!(may("netpol-reporter"), reporter);
    }
}

/// A place has one version: the chart's is the workspace's.
#[test]
fn the_chart_has_the_version_of_the_agent() {
    let chart = read("policy-agent/deploy/chart/Chart.yaml");
    for field in ["version", "appVersion"] {
        assert!(chart.contains(&format!("\n{field}: {}\n", env!("CARGO_PKG_VERSION"))), "{chart}");
    }
}
