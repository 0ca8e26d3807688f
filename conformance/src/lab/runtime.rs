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
    folder: PathBuf,
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
    /// A runtime on a node. Its network plugin makes point-to-point links with addresses of `subnet`. Its configuration, and what
    /// the plugins keep, are in `folder`.
    ///
    /// # Panics
    /// When the folder cannot be written.
    #[must_use]
    pub fn new(node: &'n Namespace, subnet: &str, folder: &Path) -> Self {
        let runtime = Self { node, folder: folder.to_owned(), made: 0, kill_after: None };
        let ipam = json!({"type": "host-local", "dataDir": folder.join("ipam"), "ranges": [[{"subnet": subnet}]],
            "routes": [{"dst": "0.0.0.0/0"}]});
        let list = json!({"cniVersion": "1.0.0", "name": "lab", "plugins": [{"type": "ptp", "ipam": ipam}]});
        std::fs::create_dir_all(runtime.configurations()).expect("a folder");
        std::fs::write(runtime.configurations().join("10-lab.conflist"), list.to_string()).expect("writable");
        runtime
    }

    /// The folder of CNI configurations.
    #[must_use]
    pub fn configurations(&self) -> PathBuf {
        self.folder.join("net.d")
    }

    /// The folder of plugins that come beside the reference plugins.
    #[must_use]
    pub fn plugins(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// Chains netpol's plugin, as the deployment's first step does it; it will ask the agent at this socket.
    ///
    /// # Panics
    /// When that fails.
    pub fn install(&self, socket: &Path) {
        let mut command = Command::new(binary("policy-agent"));
        command.arg("install-cni").arg("--conf-dir").arg(self.configurations()).arg("--bin-dir").arg(self.plugins());
        let output = command.arg("--socket").arg(socket).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
    }

    /// The chain of the first configuration by name, as runtimes read it.
    fn chain(&self) -> Vec<Value> {
        let entries = std::fs::read_dir(self.configurations()).expect("the folder");
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.retain(|path| path.extension().is_some_and(|ending| ending == "conflist"));
        let text = std::fs::read(files.iter().min().expect("a configuration")).expect("readable");
        let list: Value = serde_json::from_slice(&text).expect("JSON");
        let common = |mut plugin: Value| {
            plugin["cniVersion"] = list["cniVersion"].clone();
            plugin["name"] = list["name"].clone();
            plugin
        };
        list["plugins"].as_array().expect("a list").iter().cloned().map(common).collect()
    }

    fn plugin(&self, mut configuration: Value, command: &str, sandbox: &Sandbox, previous: &Value) -> Result<Value, PluginError> {
        let name = configuration["type"].as_str().unwrap_or_default().to_owned();
        if !previous.is_null() {
            configuration["prevResult"] = previous.clone();
        }
        let own = self.plugins().join(&name);
        let program = if own.exists() { own } else { Path::new(REFERENCE).join(&name) };
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
        for configuration in self.chain() {
            match self.plugin(configuration, "ADD", &sandbox, &sandbox.result) {
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
        for configuration in self.chain().into_iter().rev() {
            self.plugin(configuration, "DEL", sandbox, &sandbox.result)?;
        }
        Ok(())
    }

    /// Asks netpol's plugin whether the sandbox is as it should be.
    ///
    /// # Errors
    /// When it says that it is not.
    pub fn check(&self, sandbox: &Sandbox) -> Result<(), PluginError> {
        self.plugin(self.own(), "CHECK", sandbox, &sandbox.result).map(drop)
    }

    /// Asks netpol's plugin whether it could add a sandbox; for the question any sandbox will do.
    ///
    /// # Errors
    /// When it says that it could not.
    pub fn status(&self, any: &Sandbox) -> Result<(), PluginError> {
        self.plugin(self.own(), "STATUS", any, &Value::Null).map(drop)
    }

    /// Tells netpol's plugin that only these sandboxes are there.
    ///
    /// # Errors
    /// When it refuses.
    pub fn collect<'s>(&self, kept: impl IntoIterator<Item = &'s Sandbox>, any: &Sandbox) -> Result<(), PluginError> {
        let valid: Vec<Value> = kept.into_iter().map(|s| json!({"containerID": s.id, "ifname": "eth0"})).collect();
        let mut own = self.own();
        own["cni.dev/valid-attachments"] = json!(valid);
        self.plugin(own, "GC", any, &Value::Null).map(drop)
    }

    fn own(&self) -> Value {
        self.chain().into_iter().find(|configuration| configuration["type"] == "netpol-cni").expect("it is chained")
    }
}
