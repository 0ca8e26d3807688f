//! A container runtime's part: sandboxes, and the chain of CNI plugins that is run for each.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Namespace, binary};

/// Where Debian's package containernetworking-plugins puts the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";

/// Makes sandboxes on a node.
pub struct Runtime<'n> {
    node: &'n Namespace,
    chain: Vec<Value>,
    own: PathBuf,
    made: u32,
    /// netpol's plugin is killed this long after it was started to add a sandbox.
    pub kill_after: Option<Duration>,
}

/// What a plugin says when it refuses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PluginError {
    /// The plugin.
    pub plugin: String,
    /// Its code.
    pub code: u64,
    /// In words.
    pub text: String,
}

/// A sandbox: a network namespace with an interface that the chain has made.
pub struct Sandbox {
    /// Where the containers' processes run.
    pub namespace: Namespace,
    /// The addresses of the pod.
    pub addresses: Vec<IpAddr>,
    id: String,
    arguments: String,
    result: Value,
}

impl<'n> Runtime<'n> {
    /// A runtime on a node whose chain is point-to-point links with addresses of `subnet`, then netpol with this socket. What the
    /// plugins keep is in `folder`.
    #[must_use]
    pub fn new(node: &'n Namespace, subnet: &str, socket: &Path, folder: &Path) -> Self {
        let ipam = json!({"type": "host-local", "dataDir": folder.join("ipam"), "ranges": [[{"subnet": subnet}]],
            "routes": [{"dst": "0.0.0.0/0"}]});
        let chain = vec![json!({"type": "ptp", "ipam": ipam}), json!({"type": "netpol-cni", "socket": socket})];
        Self { node, chain, own: binary("netpol-cni"), made: 0, kill_after: None }
    }

    fn plugin(&self, number: usize, command: &str, sandbox: &Sandbox, previous: &Value) -> Result<Value, PluginError> {
        let mut configuration = self.chain[number].clone();
        let name = configuration["type"].as_str().unwrap_or_default().to_owned();
        configuration["cniVersion"] = json!("1.0.0");
        configuration["name"] = json!("lab");
        if !previous.is_null() {
            configuration["prevResult"] = previous.clone();
        }
        let program = if name == "netpol-cni" { self.own.clone() } else { Path::new(REFERENCE).join(&name) };
        let mut process = Command::new(program);
        let namespace = format!("/proc/{}/task/{}/ns/net", std::process::id(), sandbox.namespace.id());
        process.env("CNI_COMMAND", command).env("CNI_CONTAINERID", &sandbox.id).env("CNI_NETNS", namespace);
        process.env("CNI_IFNAME", "eth0").env("CNI_PATH", REFERENCE).env("CNI_ARGS", &sandbox.arguments);
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let kill_after = self.kill_after.filter(|_| command == "ADD" && name == "netpol-cni");
        let output = self.node.run(move || {
            let mut child = process.spawn().expect("the plugin starts");
            child.stdin.take().expect("piped").write_all(configuration.to_string().as_bytes()).expect("the plugin reads");
            if let Some(time) = kill_after {
                std::thread::sleep(time);
                child.kill().expect("it can be killed");
            }
            child.wait_with_output().expect("it ends")
        });
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if output.status.success() {
            return Ok(said);
        }
        if output.status.code().is_none() {
            return Err(PluginError { plugin: name, code: 0, text: "killed".to_owned() });
        }
        let text = format!("{} {}", said["msg"], said["details"]);
        Err(PluginError { plugin: name, code: said["code"].as_u64().unwrap_or_default(), text })
    }

    /// Makes a sandbox for a pod, as for `RunPodSandbox`: containers may start when this returns it.
    ///
    /// # Errors
    /// When a plugin refuses; then the sandbox is torn down again.
    pub fn add(&mut self, namespace: &str, name: &str, uid: &str) -> Result<Sandbox, PluginError> {
        self.made += 1;
        let id = format!("sandbox-{}", self.made);
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID={uid}"
        );
        let mut sandbox = Sandbox { namespace: Namespace::new(&id), addresses: Vec::new(), id, arguments, result: Value::Null };
        for number in 0..self.chain.len() {
            match self.plugin(number, "ADD", &sandbox, &sandbox.result) {
                Ok(result) => sandbox.result = result,
                Err(error) => {
                    self.remove(&sandbox)?;
                    return Err(error);
                }
            }
        }
        let ips = sandbox.result["ips"].as_array().into_iter().flatten();
        let addresses = ips.filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok());
        sandbox.addresses = addresses.collect();
        Ok(sandbox)
    }

    /// Tears a sandbox down.
    ///
    /// # Errors
    /// When a plugin refuses.
    pub fn remove(&self, sandbox: &Sandbox) -> Result<(), PluginError> {
        for number in (0..self.chain.len()).rev() {
            self.plugin(number, "DEL", sandbox, &sandbox.result)?;
        }
        Ok(())
    }

    /// Asks netpol's plugin whether the sandbox is as it should be.
    ///
    /// # Errors
    /// When it says that it is not.
    pub fn check(&self, sandbox: &Sandbox) -> Result<(), PluginError> {
        self.plugin(self.chain.len() - 1, "CHECK", sandbox, &sandbox.result).map(drop)
    }
}
