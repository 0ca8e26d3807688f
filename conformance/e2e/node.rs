//! One node: containerd, kubelet and kube-proxy, in namespaces of its own. When it ends, everything on it ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sys::wait::{WaitStatus, waitpid};
use serde_json::{Value, json};

use crate::Result;
use crate::images::PAUSE;
use crate::programs::{run as run_program, wait_for};
use crate::sandbox::{CGROUP, hierarchies};

/// The folders that programs of a node write to, whatever they are told; they are covered, so that nothing reaches the machine's.
const COVERED: [&str; 4] = ["etc", "opt", "var", "usr/libexec"];
/// Settings of the whole machine that the kubelet wants so. It gets files that say it.
const SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];
/// The reference plugins that are used.
const PLUGINS: [&str; 4] = ["ptp", "host-local", "loopback", "portmap"];
const PATIENCE: Duration = Duration::from_secs(60);

/// What a node is.
pub(crate) struct Node {
    pub name: String,
    /// Its addresses, of both families.
    pub addresses: [String; 2],
    /// The blocks of its pods' addresses.
    pub pods: [String; 2],
    /// The mode of kube-proxy.
    pub proxy: String,
    pub programs: PathBuf,
    /// The folder of the archives of images.
    pub images: PathBuf,
    pub kubeconfig: PathBuf,
    pub proxy_kubeconfig: PathBuf,
    /// The folder of what it keeps.
    pub folder: PathBuf,
    pub logs: PathBuf,
}

impl Node {
    /// For the command line of its process.
    pub(crate) fn json(&self) -> Value {
        json!({"name": self.name, "addresses": self.addresses, "pods": self.pods, "proxy": self.proxy, "programs": self.programs,
            "images": self.images, "kubeconfig": self.kubeconfig, "proxyKubeconfig": self.proxy_kubeconfig, "folder": self.folder,
            "logs": self.logs})
    }

    fn of_json(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("no {key}"));
        let path = |key: &str| text(key).map(PathBuf::from);
        let pair =
            |key: &str| -> Result<[String; 2]> { Ok(serde_json::from_value(value.get(key).cloned().unwrap_or_default())?) };
        Ok(Self {
            name: text("name")?,
            addresses: pair("addresses")?,
            pods: pair("pods")?,
            proxy: text("proxy")?,
            programs: path("programs")?,
            images: path("images")?,
            kubeconfig: path("kubeconfig")?,
            proxy_kubeconfig: path("proxyKubeconfig")?,
            folder: path("folder")?,
            logs: path("logs")?,
        })
    }

    /// Covers the machine's folders, so that containers see what the node mounts, and nobody outside does.
    fn cover(&self) -> Result<()> {
        let mount = |arguments: &[&str]| run_program(Command::new("mount").args(arguments)).map(drop);
        let shown = |path: &Path| path.display().to_string();
        mount(&["--make-rshared", "/"])?;
        for folder in COVERED {
            let (over, work) = (self.folder.join("over").join(folder), self.folder.join("work").join(folder));
            std::fs::create_dir_all(&over)?;
            std::fs::create_dir_all(&work)?;
            let at = format!("/{folder}");
            let layers = format!("lowerdir={at},upperdir={},workdir={}", shown(&over), shown(&work));
            mount(&["-t", "overlay", "-o", &layers, "overlay", &at])?;
        }
        // Layers of images cannot be above such a folder.
        for folder in ["kubelet", "containerd"] {
            let (own, at) = (self.folder.join(folder), Path::new("/var/lib").join(folder));
            std::fs::create_dir_all(&own)?;
            std::fs::create_dir_all(&at)?;
            mount(&["--bind", &shown(&own), &shown(&at)])?;
        }
        mount(&["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])?;
        mount(&["--make-rshared", "/"])?;
        for folder in ["/run/lock", "/opt/cni/bin", "/etc/cni/net.d"] {
            std::fs::create_dir_all(folder)?;
        }
        for (name, value) in SETTINGS {
            let file = self.folder.join(name.replace('/', "."));
            std::fs::write(&file, format!("{value}\n"))?;
            mount(&["--bind", &shown(&file), &format!("/proc/sys/{name}")])?;
        }
        Ok(())
    }

    /// Makes the cgroups of this node, in every hierarchy.
    fn make_cgroups(&self) -> Result<()> {
        for hierarchy in hierarchies() {
            let top = hierarchy.join(CGROUP);
            let own = top.join(self.cgroup());
            std::fs::create_dir_all(&own)?;
            for (above, folder) in [(&hierarchy, &top), (&top, &own)] {
                // A cpuset of version 1 has no processor and no memory at first.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let is_empty = std::fs::read_to_string(folder.join(file)).is_ok_and(|text| text.trim().is_empty());
                    if is_empty && let Ok(text) = std::fs::read_to_string(above.join(file)) {
                        let _ = std::fs::write(folder.join(file), text);
                    }
                }
                // Version 2 hands controllers down one by one.
                let controllers = std::fs::read_to_string(above.join("cgroup.controllers")).unwrap_or_default();
                for controller in controllers.split_whitespace() {
                    let _ = std::fs::write(above.join("cgroup.subtree_control"), format!("+{controller}"));
                }
            }
        }
        Ok(())
    }

    /// Nodes of one cluster after another do not share them.
    fn cgroup(&self) -> String {
        format!("{}-{}", self.proxy, self.name)
    }

    fn install_plugins(&self) -> Result<()> {
        for plugin in PLUGINS {
            std::fs::copy(Path::new("/usr/lib/cni").join(plugin), Path::new("/opt/cni/bin").join(plugin))?;
        }
        let ranges: Vec<Value> = self.pods.iter().map(|block| json!([{"subnet": block}])).collect();
        let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
        let ptp = json!({"type": "ptp", "ipam": {"type": "host-local", "ranges": ranges, "routes": routes}});
        let ports = json!({"type": "portmap", "capabilities": {"portMappings": true}});
        let list = json!({"cniVersion": "1.0.0", "name": "lab", "plugins": [ptp, ports]});
        std::fs::write("/etc/cni/net.d/10-lab.conflist", list.to_string())?;
        Ok(())
    }

    fn start_containerd(&self) -> Result<Child> {
        let file = self.folder.join("containerd.toml");
        let text = format!(
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n\
             sandbox_image = \"{PAUSE}\"\ndisable_apparmor = true\n\
             # Some machines let nobody lower the score of a process, not even root.\n\
             restrict_oom_score_adj = true\n"
        );
        std::fs::write(&file, text)?;
        let child = self.start(Path::new("containerd"), &["--config", &file.display().to_string()])?;
        let is_up = || run_program(Command::new("ctr").arg("version")).is_ok();
        wait_for("containerd answers", PATIENCE, &self.logs, is_up)?;
        let ctr = |arguments: &[&str]| run_program(Command::new("ctr").args(["-n", "k8s.io", "images"]).args(arguments));
        for archive in std::fs::read_dir(&self.images)? {
            ctr(&["import", &archive?.path().display().to_string()])?;
        }
        // The kubelet asks for images by their long names.
        for name in ctr(&["list", "-q"])?.lines() {
            let is_short = name.split('/').next().is_some_and(|first| !first.contains('.') && first != "localhost");
            if is_short && !name.starts_with("sha256:") {
                ctr(&["tag", "--force", name, &format!("docker.io/{name}")])?;
            }
        }
        Ok(child)
    }

    fn start_kubelet(&self) -> Result<Child> {
        let resolver = self.folder.join("resolv.conf");
        std::fs::write(&resolver, "nameserver 192.0.2.53\n")?;
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "failCgroupV1": false, "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{CGROUP}/{}", self.cgroup()),
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
            "authorization": {"mode": "AlwaysAllow"},
            "clusterDNS": ["10.96.0.10"], "clusterDomain": "cluster.local", "resolvConf": resolver,
            "failSwapOn": false, "registerNode": true,
            // What is deleted cannot be pulled again.
            "imageMaximumGCAge": "0s", "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
        });
        let file = self.folder.join("kubelet.yaml");
        std::fs::write(&file, config.to_string())?;
        let arguments = [
            format!("--config={}", file.display()),
            format!("--kubeconfig={}", self.kubeconfig.display()),
            format!("--hostname-override={}", self.name),
            format!("--node-ip={}", self.addresses.join(",")),
        ];
        self.start(&self.programs.join("kubelet"), &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn start_proxy(&self) -> Result<Child> {
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
            "mode": self.proxy, "clientConnection": {"kubeconfig": self.proxy_kubeconfig}, "hostnameOverride": self.name,
            "clusterCIDR": "10.244.0.0/16,fd00:10:244::/56", "conntrack": {"maxPerCore": 0, "min": 0},
        });
        let file = self.folder.join("proxy.yaml");
        std::fs::write(&file, config.to_string())?;
        self.start(&self.programs.join("kube-proxy"), &["--config", &file.display().to_string()])
    }

    /// Starts a program that runs until the node ends.
    fn start(&self, program: &Path, arguments: &[&str]) -> Result<Child> {
        let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let log = std::fs::File::options().create(true).append(true).open(self.logs.join(format!("{name}.log")))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().map_err(|error| format!("cannot start {name}: {error}").into())
    }
}

/// Runs the node that the text describes, until one of its programs ends.
pub(crate) fn run(text: &str) -> Result<ExitCode> {
    let node = Node::of_json(text)?;
    run_program(Command::new("hostname").arg(&node.name))?;
    node.cover()?;
    node.make_cgroups()?;
    node.install_plugins()?;
    let programs =
        [("containerd", node.start_containerd()?), ("kubelet", node.start_kubelet()?), ("kube-proxy", node.start_proxy()?)];
    // It is the first process of its namespace, and so the parent of everything that loses its own.
    loop {
        let ended = match waitpid(None, None)? {
            WaitStatus::Exited(id, _) | WaitStatus::Signaled(id, ..) => id.as_raw().unsigned_abs(),
            _ => continue,
        };
        if let Some((name, _)) = programs.iter().find(|(_, child)| child.id() == ended) {
            return Err(format!("{name} of {} has ended; its log is in {}", node.name, node.logs.display()).into());
        }
    }
}
