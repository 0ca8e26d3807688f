//! The values of the chart: every setting of the agent, the directories of distributions, names, and the schema.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use conformance::case::to_json;
use conformance::lab::{self, binary};
use serde_json::Value;

use super::{TOOLS, documents, helm_fails, object, read, root, template, template_with};

/// Variables of the agent that a value sets: the variable, a setting, and what the variable then is.
const AGENT: [(&str, &str, &str); 10] = [
    ("NETPOL_PROTECT_TABLE", "agent.protectTable=off", "off"),
    ("NETPOL_OWN_NODE_EGRESS", "agent.ownNodeEgress=allow", "allow"),
    ("NETPOL_DENY_LOG", "agent.denyLog=off", "off"),
    ("NETPOL_DENY_LOG_RATE", "agent.denyLogRate=1000000", "1000000"),
    ("NETPOL_DENY_LOG_LINES", "agent.denyLogLines=7", "7"),
    ("NETPOL_DENY_LOG_GROUP", "agent.denyLogGroup=65535", "65535"),
    ("NETPOL_LISTEN", "agent.port=9999", "127.0.0.1:9999"),
    ("NETPOL_METRICS_TOKEN_FILE", "metrics.access=token", "/etc/netpol/metrics/token"),
    ("NETPOL_LOG", "agent.log=debug", "debug"),
    ("NETPOL_LOG_FORMAT", "agent.logFormat=text", "text"),
];
/// Variables of the reporter that a value sets.
const REPORTER: [(&str, &str, &str); 2] =
    [("NETPOL_LOG", "reporter.log=debug", "debug"), ("NETPOL_LOG_FORMAT", "reporter.logFormat=text", "text")];
/// Variables without a value, and why.
const FIXED: [(&str, &str); 12] = [
    ("NETPOL_CONFIG", "every setting has a value"),
    ("NETPOL_NODE", "the node of the pod"),
    ("NETPOL_POD", "the pod"),
    ("POD_NAME", "the pod"),
    ("NETPOL_MANIFESTS", "the chart enforces the objects of its cluster"),
    ("NETPOL_KUBECONFIG", "the service account of the pod; KUBERNETES_SERVICE_HOST in extraEnv changes the address"),
    ("NETPOL_CONTEXT", "the service account of the pod"),
    ("NETPOL_APPLIER", "the image has no nft"),
    ("NETPOL_SOCKET", "agents, the CNI plugin and commands of the container agree on the default"),
    ("NETPOL_CNI_CONF_DIR", "where the directory of cni.preset or cni.confDir is mounted"),
    ("NETPOL_CNI_BIN_DIR", "where the directory of cni.preset or cni.binDir is mounted"),
    ("NETPOL_CNI_PLUGIN", "the image has the plugin beside the agent"),
];
/// Where each distribution keeps CNI configurations and plugins, from its documentation.
const DISTRIBUTIONS: [(&str, &str, &str); 8] = [
    ("standard", "/etc/cni/net.d", "/opt/cni/bin"),
    ("k3s", "/var/lib/rancher/k3s/agent/etc/cni/net.d", "/var/lib/rancher/k3s/data/cni"),
    ("k3d", "/var/lib/rancher/k3s/agent/etc/cni/net.d", "/bin"),
    ("rke2", "/etc/cni/net.d", "/opt/cni/bin"),
    ("microk8s", "/var/snap/microk8s/current/args/cni-network", "/var/snap/microk8s/current/opt/cni/bin"),
    ("gke", "/etc/cni/net.d", "/home/kubernetes/bin"),
    ("eks", "/etc/cni/net.d", "/opt/cni/bin"),
    ("openshift", "/etc/kubernetes/cni/net.d", "/var/lib/cni/bin"),
];

/// The variables that a command of the agent reads.
fn variables(command: &[&str]) -> BTreeSet<String> {
    let output = Command::new(binary("policy-agent")).args(command).arg("--help").output().expect("it runs");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = help.split("[env: ").skip(1).filter_map(|rest| rest.split('=').next());
    names.map(str::to_owned).collect()
}

/// A variable of the first container of a pod template.
fn variable(pods: &Value, name: &str) -> Option<String> {
    let variables = pods["spec"]["template"]["spec"]["containers"][0]["env"].as_array().expect("variables");
    let found: Vec<&Value> = variables.iter().filter(|variable| variable["name"] == name).collect();
    assert!(found.len() < 2, "{name} is set twice");
    found.first().and_then(|variable| variable["value"].as_str()).map(str::to_owned)
}

fn host_path(daemonset: &Value, volume: &str) -> String {
    let volumes = daemonset["spec"]["template"]["spec"]["volumes"].as_array().expect("volumes");
    let volume = volumes.iter().find(|found| found["name"] == volume).expect("the volume");
    volume["hostPath"]["path"].as_str().expect("a path").to_owned()
}

#[test]
fn every_setting_of_the_agent_has_a_value_or_a_reason() {
    type Setting = (&'static str, &'static str, &'static str);
    if !lab::is_available(&TOOLS) {
        return;
    }
    let fixed: BTreeSet<&str> = FIXED.iter().map(|(name, _)| *name).collect();
    let parts: [(&[&str], &str, &str, &[Setting]); 3] = [
        (&[], "DaemonSet", "netpol", &AGENT),
        (&["report"], "Deployment", "netpol-reporter", &REPORTER),
        (&["install-cni"], "DaemonSet", "netpol", &[]),
    ];
    for (command, kind, name, values) in parts {
        let known = variables(command);
        assert!(known.len() > 3, "{known:?}");
        let reachable: BTreeSet<&str> = values.iter().map(|(variable, ..)| *variable).collect();
        for variable in &known {
            let is_one = reachable.contains(variable.as_str()) != fixed.contains(variable.as_str());
            assert!(is_one, "{variable} of policy-agent {command:?} needs a value in the chart, or a reason why it has none");
        }
        for (variable_name, setting, expected) in values {
            assert!(known.contains(*variable_name), "there is no {variable_name}");
            let pods = object(&template(&[setting]), kind, name);
            assert_eq!(variable(&pods, variable_name).as_deref(), Some(*expected), "{setting}");
        }
    }
    // The reporter logs as the agents do, unless it is set.
    let reporter = object(&template(&["agent.log=debug,agent.logFormat=text"]), "Deployment", "netpol-reporter");
    assert_eq!(variable(&reporter, "NETPOL_LOG").as_deref(), Some("debug"));
    assert_eq!(variable(&reporter, "NETPOL_LOG_FORMAT").as_deref(), Some("text"));
}

#[test]
fn presets_are_the_directories_of_distributions_and_are_documented() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let schema: Value = serde_json::from_str(&read("policy-agent/deploy/chart/values.schema.json")).expect("JSON");
    let presets: BTreeSet<&str> = DISTRIBUTIONS.iter().map(|(name, ..)| *name).collect();
    let known = schema["properties"]["cni"]["properties"]["preset"]["enum"].as_array().expect("a list");
    assert_eq!(known.iter().filter_map(Value::as_str).collect::<BTreeSet<_>>(), presets);
    let page = read("docs/src/how-to/enforce.md");
    for (preset, conf, bin) in DISTRIBUTIONS {
        let setting = format!("cni.preset={preset}");
        let made = object(&template(&[&setting]), "DaemonSet", "netpol");
        assert_eq!((host_path(&made, "cni-conf"), host_path(&made, "cni-bin")), (conf.to_owned(), bin.to_owned()), "{preset}");
        let over = format!("{setting},cni.confDir=/a,cni.binDir=/b");
        let made = object(&template(&[&over]), "DaemonSet", "netpol");
        assert_eq!((host_path(&made, "cni-conf"), host_path(&made, "cni-bin")), ("/a".to_owned(), "/b".to_owned()), "{preset}");
        let gone = object(&template(&[&format!("{setting},uninstall=true")]), "DaemonSet", "netpol");
        assert_eq!(host_path(&gone, "cni-conf"), conf, "the plugin is removed where it was added");
        let row = page.lines().find(|line| line.starts_with(&format!("| `{preset}` |")));
        let row = row.unwrap_or_else(|| panic!("{preset} is not documented"));
        assert!(row.contains(&format!("`{conf}`")) && row.contains(&format!("`{bin}`")), "{row}");
    }
    // GKE admits pods of critical priority outside of kube-system only with a quota for them.
    let quota = object(&template(&["cni.preset=gke"]), "ResourceQuota", "netpol-priority");
    let scope = &quota["spec"]["scopeSelector"]["matchExpressions"][0];
    assert_eq!((&scope["scopeName"], &scope["values"][0]), (&"PriorityClass".into(), &"system-node-critical".into()));
    assert!(!template(&[]).contains("ResourceQuota"));
    assert!(!template(&["cni.preset=gke,agent.priorityClassName="]).contains("ResourceQuota"));
    assert!(template(&["agent.priorityQuota=true"]).contains("ResourceQuota"));
}

/// Every name, label and namespace in an object: strings, also where they look like numbers.
fn check_names(value: &Value, key: &str, file: &str) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let is_name = ["name", "namespace", "serviceAccountName", "secretName"].contains(&key.as_str());
                assert!(!is_name || value.is_string(), "{file}: {key}: {value}");
                check_names(value, key, file);
            }
            let are_labels = ["labels", "matchLabels", "selector"].contains(&key);
            let strings = || map.values().all(|value| value.is_string() || value.is_object());
            assert!(!are_labels || strings(), "{file}: {key}: {map:?}");
        }
        Value::Array(items) => items.iter().for_each(|item| check_names(item, key, file)),
        _ => {}
    }
}

const EVERYTHING: &str = "monitoring.serviceMonitor=true,monitoring.prometheusRule=true,monitoring.dashboard=true,createNamespace=true,\
    agent.priorityQuota=true";

#[test]
fn a_release_may_have_a_number_as_its_name() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    for variant in [EVERYTHING, "uninstall=true,createNamespace=true"] {
        let objects = documents(&template_with("123", "456", &[variant]));
        assert!(objects.len() > 8, "{}", objects.len());
        for object in &objects {
            check_names(object, "", &object["kind"].to_string());
            let namespace = &object["metadata"]["namespace"];
            assert!(namespace.is_null() || namespace == "456", "{object}");
        }
        let daemonset = objects.iter().find(|object| object["kind"] == "DaemonSet").expect("it is there");
        assert_eq!(daemonset["metadata"]["labels"]["app.kubernetes.io/instance"], "123");
    }
}

#[test]
fn another_name_is_the_name_of_everything() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let settings = format!("{EVERYTHING},fullnameOverride=firewall,nameOverride=wall");
    let objects = documents(&template(&[&settings]));
    let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for object in objects.iter().filter(|object| object["kind"] != "Namespace") {
        let (kind, name) = (object["kind"].as_str().expect("a kind"), object["metadata"]["name"].as_str().expect("a name"));
        assert!(name.starts_with("firewall"), "{kind} {name}");
        names.entry(kind).or_default().insert(name);
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/name"], "wall", "{kind} {name}");
    }
    // What refers to another object refers to one that is there.
    for binding in objects.iter().filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("Binding"))) {
        let (role, subject) = (&binding["roleRef"], &binding["subjects"][0]);
        let (kind, name) = (role["kind"].as_str().expect("a kind"), role["name"].as_str().expect("a name"));
        assert!(names[kind].contains(name), "{binding}");
        assert!(names["ServiceAccount"].contains(subject["name"].as_str().expect("a name")), "{binding}");
    }
    for (kind, name) in [("DaemonSet", "firewall"), ("Deployment", "firewall-reporter")] {
        let pods =
            objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name).expect("it is there");
        assert_eq!(pods["spec"]["template"]["spec"]["serviceAccountName"], name);
        let labels = &pods["spec"]["template"]["metadata"]["labels"];
        let selector = pods["spec"]["selector"]["matchLabels"].as_object().expect("labels");
        assert!(selector.len() == 3 && selector.iter().all(|(key, value)| labels[key] == *value), "{selector:?}");
    }
    let role = objects.iter().find(|object| object["kind"] == "Role").expect("it is there");
    assert_eq!(role["rules"][0]["resourceNames"][0], "firewall", "the agent watches its own DaemonSet");
    assert!(!template(&[&settings]).contains("job=\"netpol\""), "alerts are about the Service of the release");
}

#[test]
fn images_are_named_by_tag_or_digest() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let version = env!("CARGO_PKG_VERSION");
    for (settings, expected) in [
        (String::new(), format!("netpol/policy-agent:{version}")),
        ("image.repository=r:5000/a,image.tag=v1".to_owned(), "r:5000/a:v1".to_owned()),
        (format!("image.digest={digest}"), format!("netpol/policy-agent@{digest}")),
        (format!("image.tag=v1,image.digest={digest}"), format!("netpol/policy-agent:v1@{digest}")),
    ] {
        for variant in ["uninstall=false", "uninstall=true"] {
            let made = template(&[variant, &settings]);
            let images: Vec<&str> = made.lines().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
            assert!(images.len() >= 3, "{images:?}");
            assert!(images.iter().all(|image| image.trim_matches('"') == expected), "{settings}: {images:?}");
        }
    }
}

/// A value for everything that is passed on to pods as it is.
const PODS: &str = "
image: {pullSecrets: [{name: key}]}
agent: &pods
  podLabels: {team: edge, app.kubernetes.io/component: other}
  podAnnotations: {note: '1'}
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
  extraEnv: [{name: KUBERNETES_SERVICE_HOST, value: 192.0.2.1}]
  nodeSelector: {pool: a}
  tolerations: [{key: a, operator: Exists}]
  priorityClassName: high
  resources: {limits: {memory: 2Gi}}
reporter: *pods
";

#[test]
fn what_pods_can_have_is_passed_on() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("values.yaml");
    std::fs::write(&path, PODS).expect("writable");
    let more = ["agent.initResources.limits.memory=1Mi", "agent.podSecurityContext.seLinuxOptions.type=spc_t"].join(",");
    let mut arguments = vec!["template", "netpol", "policy-agent/deploy/chart", "--namespace", "netpol"];
    arguments.extend(["--values", path.to_str().expect("UTF-8"), "--set", &more]);
    let made = super::helm(&arguments);
    for (kind, name, component) in [("DaemonSet", "netpol", "agent"), ("Deployment", "netpol-reporter", "reporter")] {
        let pods = &object(&made, kind, name)["spec"]["template"];
        let (labels, spec) = (&pods["metadata"]["labels"], &pods["spec"]);
        assert_eq!((&labels["team"], &labels["app.kubernetes.io/component"]), (&"edge".into(), &component.into()));
        assert_eq!(pods["metadata"]["annotations"]["note"], "1");
        assert_eq!(spec["affinity"]["nodeAffinity"].as_object().map(serde_json::Map::len), Some(1), "{spec}");
        assert_eq!((&spec["nodeSelector"]["pool"], &spec["tolerations"][0]["key"]), (&"a".into(), &"a".into()));
        assert_eq!((&spec["priorityClassName"], &spec["imagePullSecrets"][0]["name"]), (&"high".into(), &"key".into()));
        assert_eq!(spec["containers"][0]["resources"]["limits"]["memory"], "2Gi");
        assert_eq!(variable(&object(&made, kind, name), "KUBERNETES_SERVICE_HOST").as_deref(), Some("192.0.2.1"));
    }
    let spec = &object(&made, "DaemonSet", "netpol")["spec"]["template"]["spec"];
    assert_eq!(spec["initContainers"][0]["resources"]["limits"]["memory"], "1Mi");
    assert_eq!(spec["securityContext"]["seLinuxOptions"]["type"], "spc_t");
}

/// The properties of a schema that describe a part of the values, and the same of the values.
fn compare(path: &str, values: &Value, schema: &Value) -> usize {
    let Some(properties) = schema["properties"].as_object() else { return 0 };
    assert_eq!(schema["additionalProperties"], false, "{path}: the schema accepts anything");
    let known: BTreeSet<&String> = properties.keys().filter(|key| !(path.is_empty() && *key == "global")).collect();
    let there: BTreeSet<&String> = values.as_object().expect("a map").keys().collect();
    assert_eq!(there, known, "values in {path:?}, and those in the schema");
    known.iter().map(|key| 1 + compare(&format!("{path}.{key}"), &values[key.as_str()], &properties[key.as_str()])).sum()
}

#[test]
fn the_schema_knows_the_values_that_there_are() {
    let values = to_json(&read("policy-agent/deploy/chart/values.yaml")).remove(0);
    let schema: Value = serde_json::from_str(&read("policy-agent/deploy/chart/values.schema.json")).expect("JSON");
    assert!(compare("", &values, &schema) > 60);
    assert!(root().join("policy-agent/deploy/chart/README.md").is_file());
}

#[test]
fn the_chart_refuses_settings_that_it_does_not_know() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    for (setting, told) in [
        ("cni.enable=false", "enable"),
        ("cni.preset=k4s", "preset"),
        ("cni.confDir=etc/cni", "confDir"),
        ("agent.ownNodeEgress=deny", "ownNodeEgress"),
        ("agent.port=70000", "port"),
        ("agent.denyLogGroup=70000", "denyLogGroup"),
        ("agent.maxUnavailable=some", "maxUnavailable"),
        ("image.digest=latest", "digest"),
        ("fullnameOverride=My_Firewall", "fullnameOverride"),
        ("metrics.access=pods", "access"),
        ("monitoring.serviceMonitor=true,metrics.access=node", "requires metrics.access token or all"),
        ("monitoring.alerts.NetpolSlow.threshold=soon", "threshold"),
        ("monitoring.alerts.NetpolAgentDown.threshold=1", "threshold"),
        ("monitoring.alerts.NetpolSlw.enabled=false", "NetpolSlw"),
        ("reporter.apiServerPorts={}", "apiServerPorts"),
        ("uninstall=later", "uninstall"),
    ] {
        let text = helm_fails(&["template", "netpol", "policy-agent/deploy/chart", "--set", setting]);
        assert!(text.contains(told), "{setting}: {text}");
    }
}
