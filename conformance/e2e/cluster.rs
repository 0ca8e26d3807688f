//! Control plane, nodes, and what is installed in them.

use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use conformance::lab::{ControlPlane, Fabric, Network, User};

use crate::Result;
use crate::images;
use crate::node::Node;
use crate::programs::{Programs, VERSION, run, wait_for};
use crate::settings::{Settings, Wanted};

/// The nodes: name, address, and the block of their pods' addresses.
const NODES: [(&str, &str, &str); 2] = [("n1", "192.0.2.1", "10.244.1.0/24"), ("n2", "192.0.2.2", "10.244.2.0/24")];
/// The block of Services' addresses.
const SERVICES: &str = "10.96.0.0/16";
/// The users of the control plane itself.
const USERS: [User<'static>; 4] = [
    User { file: "admin", name: "admin", group: "system:masters" },
    User { file: "manager", name: "system:kube-controller-manager", group: "" },
    User { file: "scheduler", name: "system:kube-scheduler", group: "" },
    User { file: "proxy", name: "system:kube-proxy", group: "" },
];
/// Everything starts within half a minute where nothing else runs.
const PATIENCE: Duration = Duration::from_secs(240);

/// A cluster that runs.
pub(crate) struct Cluster {
    pub programs: Programs,
    /// The mode of kube-proxy.
    pub proxy: String,
    /// The folder for logs and reports.
    pub folder: PathBuf,
    plane: ControlPlane,
    network: Network,
    nodes: Vec<Child>,
}

impl Cluster {
    /// Starts a cluster with this mode of kube-proxy, and netpol in it, unless the control is wanted.
    pub(crate) fn start(settings: &Settings, proxy: &str) -> Result<Self> {
        let start = Instant::now();
        let programs = Programs::built();
        let folder = settings.folder.join(proxy);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        let images = settings.folder.join("run/images");
        images::pack(&programs, &images)?;
        std::fs::copy(&settings.image, images.join("netpol.tar"))
            .map_err(|error| format!("{}: {error}", settings.image.display()))?;
        println!("Starting Kubernetes {VERSION} with {} nodes, kube-proxy in mode {proxy}.", NODES.len());
        let network = network()?;
        let plane = control_plane(&programs, &network);
        let mut cluster = Self { programs, proxy: proxy.to_owned(), folder, plane, network, nodes: Vec::new() };
        for (name, address, pods) in NODES {
            let node = Node {
                name: name.to_owned(),
                address: address.to_owned(),
                pods: pods.to_owned(),
                proxy: proxy.to_owned(),
                programs: cluster.programs.cluster.clone(),
                images: images.clone(),
                kubeconfig: cluster.plane.kubeconfig(name),
                proxy_kubeconfig: cluster.plane.kubeconfig("proxy"),
                folder: settings.folder.join("run").join(proxy).join(name),
                logs: cluster.folder.join(name),
            };
            cluster.start_node(&node)?;
        }
        cluster.wait_for_nodes()?;
        cluster.apply(include_str!("coredns.yaml"))?;
        if settings.wanted != Wanted::Control {
            cluster.install_netpol()?;
        }
        cluster.rollout("kube-system", "deployment/coredns")?;
        println!("The cluster is ready after {} s.", start.elapsed().as_secs());
        Ok(cluster)
    }

    fn start_node(&mut self, node: &Node) -> Result<()> {
        std::fs::create_dir_all(&node.folder)?;
        std::fs::create_dir_all(&node.logs)?;
        let log = std::fs::File::create(node.logs.join("node.log"))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation=private", "--pid", "--ipc", "--uts", "--fork"]);
        command
            .args(["--kill-child", "--mount-proc"])
            .arg(std::env::current_exe()?)
            .args(["node", &serde_json::to_string(&node.json())?]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let namespace = self.network.node(&node.name);
        self.nodes.push(namespace.run(move || command.spawn())?);
        Ok(())
    }

    fn wait_for_nodes(&self) -> Result<()> {
        let count = |text: String| text.split_whitespace().filter(|word| *word == "True").count();
        let path = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
        let ready = || self.kubectl(&["get", "nodes", "-o", path]).is_ok_and(|text| count(text) == NODES.len());
        wait_for("the nodes are ready", PATIENCE, &self.folder, ready)
    }

    /// As a user does: the chart, with its defaults.
    fn install_netpol(&self) -> Result<()> {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy-agent/deploy/chart");
        let mut helm = self.command(&self.programs.helm.join("helm"));
        helm.args(["install", "netpol"]).arg(chart).args(["--namespace", "netpol", "--create-namespace"]);
        self.run(helm)?;
        self.rollout("netpol", "daemonset/netpol")?;
        self.rollout("netpol", "deployment/netpol-reporter")
    }

    fn rollout(&self, namespace: &str, object: &str) -> Result<()> {
        let patience = format!("{}s", PATIENCE.as_secs());
        let waited = self.kubectl(&["rollout", "status", object, "-n", namespace, "--timeout", &patience]);
        waited.map(drop).map_err(|error| {
            let pods = self.kubectl(&["get", "pods", "-A", "-o", "wide"]).unwrap_or_default();
            format!("{error}\n{pods}\nthe logs are in {}", self.folder.display()).into()
        })
    }

    fn apply(&self, manifests: &str) -> Result<()> {
        let file = self.folder.join("applied.yaml");
        std::fs::write(&file, manifests)?;
        self.kubectl(&["apply", "-f", &file.to_string_lossy()]).map(drop)
    }

    /// A command beside the API server, with the rights of an administrator.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = [&self.programs.cluster, &self.programs.helm]
            .into_iter()
            .map(|folder| format!("{}:", folder.display()))
            .chain([path]);
        let mut command = Command::new(program);
        command.env("KUBECONFIG", self.plane.admin()).env("PATH", path.collect::<String>()).env("HOME", &self.folder);
        command
    }

    /// Runs a command there, and returns what it prints.
    pub(crate) fn run(&self, mut command: Command) -> Result<String> {
        let ran = self.network.outside().run(move || run(&mut command).map_err(|error| error.to_string()));
        Ok(ran?)
    }

    /// Runs kubectl.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(Path::new("kubectl"));
        command.args(arguments);
        self.run(command)
    }

    /// Runs a command there, and gives what it prints to a reader, with the path of the log.
    pub(crate) fn watch(
        &self,
        mut command: Command,
        log: &Path,
        reader: &dyn Fn(ChildStdout, &Path) -> std::io::Result<()>,
    ) -> Result<()> {
        let mut child = self.network.outside().run(move || command.spawn())?;
        if let Some(output) = child.stdout.take() {
            reader(output, log)?;
        }
        child.wait()?;
        Ok(())
    }

    /// A shell beside the API server, until it ends.
    pub(crate) fn shell(&self) -> Result<ExitCode> {
        println!("KUBECONFIG, kubectl and helm are those of the cluster, which ends with this shell.");
        let shell = std::env::var("SHELL").unwrap_or_else(|_| "bash".to_owned());
        let mut command = self.command(Path::new(&shell));
        self.network.outside().run(move || command.status())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
        let files = std::fs::read_dir(self.plane.logs()).into_iter().flatten().flatten().map(|entry| entry.path());
        for log in files.filter(|path| path.extension().is_some_and(|ending| ending == "log")) {
            let _ = log.file_name().map(|name| std::fs::copy(&log, self.folder.join(name)));
        }
    }
}

/// The network of the nodes; the outside has the API server.
fn network() -> Result<Network> {
    let addresses: Vec<(&str, [IpAddr; 1])> =
        NODES.iter().map(|(name, address, _)| Ok((*name, [address.parse()?]))).collect::<Result<_>>()?;
    let nodes: Vec<(&str, &[IpAddr])> = addresses.iter().map(|(name, addresses)| (*name, addresses.as_slice())).collect();
    let network = Network::new(&nodes, Fabric::Routed);
    for (name, _, pods) in NODES {
        network.route(pods, name);
    }
    Ok(network)
}

fn control_plane(programs: &Programs, network: &Network) -> ControlPlane {
    let names: Vec<String> = NODES.iter().map(|(name, ..)| format!("system:node:{name}")).collect();
    let nodes = NODES.iter().zip(&names).map(|((file, ..), name)| User { file, name, group: "system:nodes" });
    let users: Vec<User<'_>> = USERS.into_iter().chain(nodes).collect();
    let services = format!("--service-cluster-ip-range={SERVICES}");
    let arguments = [
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--kubelet-preferred-address-types=InternalIP",
        "--profiling=false",
        &services,
    ];
    let mut plane = ControlPlane::with(programs.cluster.clone(), &users, &arguments, network.outside());
    let common =
        |user: &str| vec![format!("--kubeconfig={}", plane.kubeconfig(user).display()), "--leader-elect=false".to_owned()];
    let mut manager = common("manager");
    manager.extend([
        format!("--service-account-private-key-file={}", plane.signing_key().display()),
        format!("--root-ca-file={}", plane.certificate().display()),
        format!("--flex-volume-plugin-dir={}", plane.logs().join("volume").display()),
        "--use-service-account-credentials".to_owned(),
        // A certificate that signs itself is no bundle of trust.
        "--controllers=*,-kube-apiserver-serving-clustertrustbundle-publisher-controller".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
    ]);
    let mut scheduler = common("scheduler");
    scheduler.push("--bind-address=127.0.0.1".to_owned());
    plane.start_program(network.outside(), "kube-controller-manager", &manager);
    plane.start_program(network.outside(), "kube-scheduler", &scheduler);
    plane
}
