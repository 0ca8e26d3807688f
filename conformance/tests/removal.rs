//! Removing the agent from a cluster: the CNI plugin leaves the node's chain when the agent is removed for good, and never when
//! the agent is only killed. The API server is real, and the agent has the rights of the chart; the tests do what kubelets and
//! controllers would.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use conformance::lab::{self, AgentProcess, Api, ControlPlane, Fabric, Network, Runtime, VERSIONS, binary, fixture, tool};
use http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const TOOLS: [&str; 6] = ["ip", "bridge", "nft", "openssl", "curl", "python3"];
const DAEMONSET: &str = "/apis/apps/v1/namespaces/netpol/daemonsets/netpol";
const POD: &str = "/api/v1/namespaces/netpol/pods/netpol-n1";

fn deploy(file: &str) -> String {
    format!("{}/../policy-agent/deploy/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// A node in a cluster to which netpol is deployed and from which it is removed.
struct Cluster {
    network: Network,
    plane: ControlPlane,
    api: Api,
    folder: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Self {
        let network = fixture::network(Fabric::Routed);
        let plane = ControlPlane::start(VERSIONS[0], network.outside(), &[]);
        let api = Api::new(network.outside(), plane.admin());
        Self { network, plane, api, folder: tempfile::tempdir().expect("a folder") }
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.plane.kubectl(self.network.outside(), arguments)
    }

    fn helm(&self, arguments: &[&str]) {
        let mut command = Command::new(tool("helm").join("helm"));
        command.args(arguments).args(["--namespace", "netpol", "--kubeconfig"]).arg(self.plane.admin());
        command.env("HOME", self.folder.path());
        let output = self.network.outside().run(move || command.output().expect("helm runs"));
        assert!(output.status.success(), "helm {arguments:?}: {output:?}");
    }

    fn request(&self, method: Method, path: &str, body: Value) -> Value {
        self.api.request(method, path, body).expect("the API server does it")
    }

    /// What the DaemonSet controller does for the node.
    fn make_pod(&self) {
        let daemonset = self.request(Method::GET, DAEMONSET, Value::Null);
        let owner = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "netpol", "controller": true,
            "blockOwnerDeletion": true, "uid": daemonset["metadata"]["uid"]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "netpol-n1", "ownerReferences": [owner]},
            "spec": {"nodeName": "n1", "containers": [{"name": "agent", "image": "none"}]}});
        self.request(Method::POST, "/api/v1/namespaces/netpol/pods", pod);
    }

    /// What the garbage collector does, when the DaemonSet is gone or lets go of its pods.
    fn remove_pod(&self) {
        self.request(Method::DELETE, &format!("{POD}?gracePeriodSeconds=0"), Value::Null);
    }

    /// The agent of that pod, with a chain of its own in a folder of this name. It has begun to watch its DaemonSet when `is_watched`.
    fn node(&self, name: &str, is_watched: bool) -> Node<'_> {
        let folder = self.folder.path().join(name);
        let runtime = Runtime::new(self.network.node("n1"), "10.77.1.0/24", &folder);
        let configurations = runtime.configurations();
        let config = self.plane.agent();
        let arguments = ["--kubeconfig", text(&config), "--deny-log", "off", "--pod", "netpol/netpol-n1", "--cni-conf-dir"];
        let arguments: Vec<&str> = arguments.into_iter().chain([text(&configurations)]).collect();
        let agent = AgentProcess::start_with(&binary("policy-agent"), self.network.node("n1"), &folder, &arguments);
        runtime.install(agent.socket());
        agent.wait_for(PATIENCE, |status| status["is_in_sync"] == true);
        let node = Node { runtime, agent };
        wait("the DaemonSet to be watched", &node, || !is_watched || node.agent.log().contains("watching the DaemonSet"));
        assert!(node.is_chained());
        node
    }
}

/// A busy machine makes the tests slow and not wrong.
const PATIENCE: Duration = Duration::from_secs(90);

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn wait(what: &str, node: &Node<'_>, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited for {what}: {}", node.agent.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct Node<'c> {
    runtime: Runtime<'c>,
    agent: AgentProcess,
}

impl Node<'_> {
    fn is_chained(&self) -> bool {
        let path: PathBuf = self.runtime.configurations().join("10-lab.conflist");
        std::fs::read_to_string(path).expect("a configuration").contains("netpol-cni")
    }

    /// Ends the agent; the plugin must stay, and no pod may start.
    fn ends_and_stays(mut self, signal: Signal, what: &str) {
        self.agent.stop(signal);
        assert!(self.is_chained(), "{what}: the plugin left the chain: {}", self.agent.log());
        let Err(error) = self.runtime.add("x", "new", "0") else { panic!("{what}: a pod started without its rules") };
        assert_eq!((error.plugin.as_str(), error.code), ("netpol-cni", 11), "{what}: {error:?}");
    }

    /// The plugin has left; pods start with the agent and without it.
    fn starts_pods(mut self, what: &str) {
        wait(what, &self, || !self.is_chained());
        for _ in 0..2 {
            let sandbox = self.runtime.add("x", "new", "0").unwrap_or_else(|error| panic!("{what}: {error:?}"));
            self.runtime.remove(&sandbox).expect("it is torn down");
            self.agent.stop(Signal::SIGTERM);
            assert!(!self.is_chained(), "{what}: the plugin is back: {}", self.agent.log());
        }
    }
}

#[test]
fn killing_the_agent_never_takes_the_plugin_out() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl(&["apply", "-f", &deploy("netpol.yaml")]);
    cluster.make_pod();
    cluster.node("terminated", true).ends_and_stays(Signal::SIGTERM, "terminated");
    cluster.node("killed", true).ends_and_stays(Signal::SIGKILL, "killed");

    // An upgrade changes the DaemonSet, and deletes the pod.
    let node = cluster.node("upgraded", true);
    cluster.kubectl(&["-n", "netpol", "set", "image", "daemonset/netpol", "agent=netpol/policy-agent:next"]);
    cluster.request(Method::DELETE, &format!("{POD}?gracePeriodSeconds=600"), Value::Null);
    node.ends_and_stays(Signal::SIGTERM, "upgraded");
    cluster.remove_pod();
    cluster.make_pod();

    // Deleted and made again under the same name, as deployments do with what cannot be changed.
    let node = cluster.node("replaced", true);
    let mut again = cluster.request(Method::GET, DAEMONSET, Value::Null);
    again["metadata"] = json!({"name": "netpol", "labels": again["metadata"]["labels"]});
    cluster.request(Method::DELETE, DAEMONSET, json!({"propagationPolicy": "Background"}));
    cluster.request(Method::POST, "/apis/apps/v1/namespaces/netpol/daemonsets", again);
    node.ends_and_stays(Signal::SIGTERM, "replaced");
    cluster.remove_pod();
    cluster.make_pod();

    // Deleted without its pods: first it waits for the garbage collector to release them, then it is gone.
    let node = cluster.node("orphaned", true);
    cluster.request(Method::DELETE, DAEMONSET, json!({"propagationPolicy": "Orphan"}));
    node.ends_and_stays(Signal::SIGTERM, "about to be orphaned");
    let node = cluster.node("released", true);
    cluster.request(Method::PATCH, POD, json!({"metadata": {"ownerReferences": null}}));
    cluster.request(Method::PATCH, DAEMONSET, json!({"metadata": {"finalizers": null}}));
    node.ends_and_stays(Signal::SIGTERM, "orphaned");
    cluster.node("adopted by nobody", false).ends_and_stays(Signal::SIGTERM, "without an owner");
    cluster.remove_pod();
    cluster.kubectl(&["apply", "-f", &deploy("netpol.yaml")]);
    cluster.make_pod();

    // Whoever may not ask, or gets no answer, knows nothing.
    let node = cluster.node("without rights", true);
    cluster.kubectl(&["-n", "netpol", "delete", "role", "netpol"]);
    node.ends_and_stays(Signal::SIGTERM, "without rights");
    cluster.kubectl(&["apply", "-f", &deploy("netpol.yaml")]);
    let node = cluster.node("alone", true);
    let cut = "add table inet cut\nadd chain inet cut out { type filter hook output priority 0; }\nadd rule inet cut out tcp dport 6443 drop\n";
    cluster.network.node("n1").command_with("nft", &["-f", "-"], cut);
    node.ends_and_stays(Signal::SIGTERM, "cut off from the API server");
}

#[test]
fn pods_start_after_netpol_was_removed() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let cluster = Cluster::start();
    // Helm deletes the DaemonSet first, and the agent's rights right after it.
    cluster.helm(&["install", "netpol", &deploy("chart"), "--create-namespace"]);
    cluster.make_pod();
    let node = cluster.node("helm", true);
    cluster.helm(&["uninstall", "netpol"]);
    node.starts_pods("helm uninstall");
    cluster.remove_pod();

    // The agent is told to stop at once, and can still ask.
    cluster.kubectl(&["apply", "-f", &deploy("netpol.yaml")]);
    cluster.make_pod();
    let mut node = cluster.node("at once", false);
    cluster.request(Method::DELETE, DAEMONSET, json!({"propagationPolicy": "Background"}));
    node.agent.stop(Signal::SIGTERM);
    assert!(!node.is_chained(), "{}", node.agent.log());
    node.starts_pods("deleted and told to stop");
    cluster.remove_pod();

    // In the foreground, as Argo CD prunes: the DaemonSet waits for its pods.
    cluster.kubectl(&["apply", "-f", &deploy("netpol.yaml")]);
    cluster.make_pod();
    let node = cluster.node("foreground", true);
    cluster.request(Method::DELETE, DAEMONSET, json!({"propagationPolicy": "Foreground"}));
    node.starts_pods("deleted in the foreground");
    cluster.remove_pod();
    cluster.request(Method::PATCH, DAEMONSET, json!({"metadata": {"finalizers": null}}));

    // In the order of the file: rights first, the DaemonSet last.
    cluster.kubectl(&["apply", "-f", &deploy("netpol.yaml")]);
    cluster.make_pod();
    let node = cluster.node("kubectl", true);
    cluster.kubectl(&["delete", "--wait=false", "-f", &deploy("netpol.yaml")]);
    node.starts_pods("kubectl delete");
}
