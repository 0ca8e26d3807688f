//! Who can read the metrics, and what the reporter can reach.

use std::process::Command;

use conformance::lab::{self, ControlPlane, Fabric, VERSIONS, fixture, tool};
use serde_json::Value;

use super::{TOOLS, documents, object, root, template};

/// Where the agent listens, and the host of each of its probes.
fn listening(made: &str) -> (String, Vec<Value>) {
    let agent = &object(made, "DaemonSet", "netpol")["spec"]["template"]["spec"]["containers"][0];
    let variables = agent["env"].as_array().expect("variables");
    let listen = variables.iter().find(|variable| variable["name"] == "NETPOL_LISTEN").expect("it is set");
    let host = |probe: &str| agent[probe]["httpGet"]["host"].clone();
    (listen["value"].as_str().expect("an address").to_owned(), vec![host("livenessProbe"), host("readinessProbe")])
}

#[test]
fn by_default_only_the_node_reaches_the_metrics() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    for settings in ["metrics.access=", "metrics.access=node", "monitoring.prometheusRule=true,monitoring.dashboard=true"] {
        let made = template(&[settings]);
        let (listen, probes) = listening(&made);
        // The kubelet connects from the network of the node, which is the agent's.
        assert_eq!((listen.as_str(), probes), ("127.0.0.1:9180", vec!["127.0.0.1".into(), "127.0.0.1".into()]), "{settings}");
        assert!(!made.contains("kind: Secret") && !made.contains("TOKEN"), "{settings}");
    }
}

#[test]
fn a_prometheus_that_scrapes_sends_a_token() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let made = template(&["monitoring.serviceMonitor=true"]);
    let (listen, probes) = listening(&made);
    assert_eq!((listen.as_str(), probes), ("[$(HOST_IP)]:9180", vec![Value::Null, Value::Null]));
    let endpoint = &object(&made, "ServiceMonitor", "netpol")["spec"]["endpoints"][0];
    let credentials = &endpoint["authorization"]["credentials"];
    assert_eq!((&credentials["name"], &credentials["key"]), (&"netpol-metrics".into(), &"token".into()));
    let token = object(&made, "Secret", "netpol-metrics")["data"]["token"].as_str().expect("a token").to_owned();
    assert_eq!(token.len(), 64, "48 characters, in base64");
    let other = template(&["monitoring.serviceMonitor=true"]);
    assert_ne!(object(&other, "Secret", "netpol-metrics")["data"]["token"], token, "it is random");
    let pods = &object(&made, "DaemonSet", "netpol")["spec"]["template"]["spec"];
    let volumes = pods["volumes"].as_array().expect("volumes");
    let volume = volumes.iter().find(|volume| volume["name"] == "metrics-token").expect("the token is mounted");
    assert_eq!(volume["secret"]["optional"], true, "enforcement does not wait for a Secret");

    // Somebody else makes the Secret.
    let made = template(&["monitoring.serviceMonitor=true,metrics.tokenSecret=own,metrics.tokenKey=k"]);
    assert!(documents(&made).iter().all(|object| object["kind"] != "Secret"));
    let credentials = &object(&made, "ServiceMonitor", "netpol")["spec"]["endpoints"][0]["authorization"]["credentials"];
    assert_eq!((&credentials["name"], &credentials["key"]), (&"own".into(), &"k".into()));

    // Open to everybody, which somebody has to ask for.
    let made = template(&["monitoring.serviceMonitor=true,metrics.access=all"]);
    assert_eq!(listening(&made).0, "[$(HOST_IP)]:9180");
    assert!(object(&made, "ServiceMonitor", "netpol")["spec"]["endpoints"][0]["authorization"].is_null());
    assert!(!made.contains("TOKEN"));
}

/// An upgrade that made another token would lock Prometheus out until both have the new one.
#[test]
fn an_upgrade_keeps_the_token() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let network = fixture::nodes(Fabric::Routed);
    let plane = ControlPlane::start(VERSIONS[0], network.outside(), &[]);
    let home = tempfile::tempdir().expect("a folder");
    let token = |action: &str| {
        let mut command = Command::new(tool("helm").join("helm"));
        command.current_dir(root()).env("HOME", home.path()).args([action, "netpol", "policy-agent/deploy/chart"]);
        command.args(["--namespace", "netpol", "--set", "metrics.access=token", "--kubeconfig"]).arg(plane.admin());
        if action == "install" {
            command.arg("--create-namespace");
        }
        let output = network.outside().run(move || command.output().expect("helm runs"));
        assert!(output.status.success(), "helm {action}: {output:?}");
        plane.kubectl(network.outside(), &["-n", "netpol", "get", "secret", "netpol-metrics", "-o", "jsonpath={.data.token}"])
    };
    let made = token("install");
    assert_eq!(made.len(), 64, "{made}");
    assert_eq!(token("upgrade"), made);
}

#[test]
fn the_reporter_reaches_the_api_server_and_nobody_reaches_it() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let made = template(&["reporter.apiServerPorts={443,6443}"]);
    let policy = &object(&made, "NetworkPolicy", "netpol-reporter")["spec"];
    let types = policy["policyTypes"].as_array().expect("both");
    assert!(types.contains(&"Ingress".into()) && types.contains(&"Egress".into()), "{policy}");
    assert!(policy["ingress"].is_null(), "{policy}");
    let ports = serde_json::json!([{"ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 6443}]}]);
    assert_eq!(policy["egress"], ports);
    let labels = &object(&made, "Deployment", "netpol-reporter")["spec"]["template"]["metadata"]["labels"];
    let selector = policy["podSelector"]["matchLabels"].as_object().expect("labels");
    assert!(selector.iter().all(|(key, value)| labels[key] == *value), "{selector:?}");
    assert_eq!(selector["app.kubernetes.io/component"], "reporter", "agents use the network of their nodes");
    for off in ["reporter.networkPolicy=false", "reporter.enabled=false", "uninstall=true"] {
        assert!(!template(&[off]).contains("kind: NetworkPolicy"), "{off}");
    }
}
