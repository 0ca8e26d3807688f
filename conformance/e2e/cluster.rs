//! Control plane, nodes, and what is installed in them.

use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use conformance::lab::{self, ControlPlane, Fabric, Namespace, Network, User};

use crate::Result;
use crate::images;
use crate::node::Node;
use crate::programs::{Programs, VERSION, run, wait_for};
use crate::settings::{Settings, Wanted};

/// A node of the cluster: its name, its addresses, and the blocks of its pods' addresses, of both families.
pub(crate) struct Place {
    pub name: &'static str,
    pub addresses: [&'static str; 2],
    pub pods: [&'static str; 2],
}

/// The nodes.
pub(crate) const NODES: [Place; 2] = [
    Place { name: "n1", addresses: ["192.0.2.1", "2001:db8:2::11"], pods: ["10.244.1.0/24", "fd00:10:244:1::/64"] },
    Place { name: "n2", addresses: ["192.0.2.2", "2001:db8:2::12"], pods: ["10.244.2.0/24", "fd00:10:244:2::/64"] },
];
/// The blocks of Services' addresses.
const SERVICES: &str = "10.96.0.0/16,fd00:10:96::/112";
/// The users of the control plane itself.
const USERS: [User<'static>; 4] = [
    User { file: "admin", name: "admin", group: "system:masters" },
    User { file: "manager", name: "system:kube-controller-manager", group: "" },
    User { file: "scheduler", name: "system:kube-scheduler", group: "" },
    User { file: "proxy", name: "system:kube-proxy", group: "" },
];
/// The chart, as users install it.
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policy-agent/deploy/chart");
/// Everything starts within half a minute where nothing else runs.
const PATIENCE: Duration = Duration::from_secs(240);

/// A cluster that runs.
pub(crate) struct Cluster {
    pub programs: Programs,
    /// What it is called in reports: the mode of its kube-proxy, or where it is.
    pub name: String,
    /// The folder for logs and reports.
    pub folder: PathBuf,
    kubeconfig: PathBuf,
    /// Its parts; `None` if it was there before.
    lab: Option<Lab>,
}

/// A cluster on this machine.
struct Lab {
    plane: ControlPlane,
    network: Network,
    nodes: Vec<(Node, Child)>,
}

impl Cluster {
    /// Starts a cluster with this mode of kube-proxy, and netpol in it, unless the control is wanted.
    pub(crate) fn start(settings: &Settings, proxy: &str) -> Result<Self> {
        let start = Instant::now();
        let programs = Programs::built();
        let folder = empty_folder(settings, proxy)?;
        let images = settings.folder.join("run/images");
        images::pack(&programs, &images)?;
        std::fs::copy(&settings.image, images.join("netpol.tar"))
            .map_err(|error| format!("{}: {error}", settings.image.display()))?;
        println!("Starting Kubernetes {VERSION} with {} nodes, kube-proxy in mode {proxy}.", NODES.len());
        let network = network()?;
        let plane = control_plane(&programs, &network);
        let kubeconfig = plane.admin();
        let lab = Lab { plane, network, nodes: Vec::new() };
        let mut cluster = Self { programs, name: format!("kube-proxy {proxy}"), folder, kubeconfig, lab: Some(lab) };
        for Place { name, addresses, pods } in NODES {
            let node = Node {
                name: name.to_owned(),
                addresses: addresses.map(str::to_owned),
                pods: pods.map(str::to_owned),
                proxy: proxy.to_owned(),
                programs: cluster.programs.cluster.clone(),
                images: images.clone(),
                kubeconfig: cluster.lab()?.plane.kubeconfig(name),
                proxy_kubeconfig: cluster.lab()?.plane.kubeconfig("proxy"),
                folder: settings.folder.join("run").join(proxy).join(name),
                logs: cluster.folder.join(name),
            };
            let process = cluster.start_node(&node)?;
            cluster.lab_mut()?.nodes.push((node, process));
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

    /// A cluster that is there, with whatever enforces policies in it.
    pub(crate) fn of_kubeconfig(settings: &Settings, kubeconfig: &Path) -> Result<Self> {
        let folder = empty_folder(settings, "cluster")?;
        let name = kubeconfig.display().to_string();
        Ok(Self { programs: Programs::built(), name, folder, kubeconfig: kubeconfig.to_owned(), lab: None })
    }

    fn lab(&self) -> Result<&Lab> {
        self.lab.as_ref().ok_or_else(|| "the cluster is not on this machine".into())
    }

    fn lab_mut(&mut self) -> Result<&mut Lab> {
        self.lab.as_mut().ok_or_else(|| "the cluster is not on this machine".into())
    }

    /// Does something beside the API server.
    fn beside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match &self.lab {
            Some(lab) => lab.network.outside().run(work),
            None => work(),
        }
    }

    fn start_node(&self, node: &Node) -> Result<Child> {
        std::fs::create_dir_all(&node.folder)?;
        std::fs::create_dir_all(&node.logs)?;
        let log = std::fs::File::options().create(true).append(true).open(node.logs.join("node.log"))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation=private", "--pid", "--ipc", "--uts", "--fork"]);
        command
            .args(["--kill-child", "--mount-proc"])
            .arg(std::env::current_exe()?)
            .args(["node", &serde_json::to_string(&node.json())?]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let namespace = self.network(&node.name)?;
        Ok(namespace.run(move || command.spawn())?)
    }

    /// A node loses its power and boots again: its processes, its interfaces, its rules and its connections are gone, its disk is not.
    pub(crate) fn boot(&mut self, name: &str) -> Result<()> {
        let nodes = &mut self.lab_mut()?.nodes;
        let place = nodes.iter().position(|(node, _)| node.name == name).ok_or_else(|| format!("there is no node {name}"))?;
        let (node, mut process) = nodes.swap_remove(place);
        process.kill()?;
        process.wait()?;
        let namespace = self.network(name)?;
        namespace.command("nft", &["flush", "ruleset"]);
        namespace.command("conntrack", &["-F"]);
        let process = self.start_node(&node)?;
        self.lab_mut()?.nodes.push((node, process));
        // The API server keeps a node for ready until it misses its reports.
        let pods = ["get", "pods", "-n", "netpol", "-o", "name", "--field-selector", &format!("spec.nodeName={name}")];
        let started = |cluster: &Self| {
            let agent = cluster.kubectl(&[&pods[..], &["-l", "app.kubernetes.io/component=agent"]].concat())?;
            cluster.kubectl(&["logs", "-n", "netpol", agent.trim(), "--since=30s", "--tail=1"]).map(|text| !text.is_empty())
        };
        wait_for(&format!("the agent of {name} runs again"), PATIENCE, &self.folder, || started(self).unwrap_or_default())
    }

    fn wait_for_nodes(&self) -> Result<()> {
        let count = |text: String| text.split_whitespace().filter(|word| *word == "True").count();
        let path = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
        let ready = || self.kubectl(&["get", "nodes", "-o", path]).is_ok_and(|text| count(text) == NODES.len());
        wait_for("the nodes are ready", PATIENCE, &self.folder, ready)
    }

    /// As a user does: the chart, with its defaults.
    fn install_netpol(&self) -> Result<()> {
        self.helm(&["install", "netpol", CHART, "--namespace", "netpol", "--create-namespace"])?;
        self.rollout("netpol", "daemonset/netpol")?;
        self.rollout("netpol", "deployment/netpol-reporter")
    }

    /// Changes values of the chart, and waits.
    pub(crate) fn upgrade_netpol(&self, values: &[&str]) -> Result<()> {
        let words = ["upgrade", "netpol", CHART, "--namespace", "netpol", "--reset-then-reuse-values", "--wait"];
        self.helm(&[&words, values].concat())
    }

    /// Runs helm.
    pub(crate) fn helm(&self, arguments: &[&str]) -> Result<()> {
        let mut helm = self.command(&self.programs.helm.join("helm"));
        helm.args(arguments);
        self.run(helm).map(drop)
    }

    /// The network of a node.
    pub(crate) fn network(&self, node: &str) -> Result<&Namespace> {
        Ok(self.lab()?.network.node(node))
    }

    /// The network of everybody outside, the API server included.
    pub(crate) fn outside(&self) -> Result<&Namespace> {
        Ok(self.lab()?.network.outside())
    }

    /// Gives addresses to somebody outside of the cluster.
    pub(crate) fn add_outside(&mut self, addresses: &[IpAddr]) -> Result<()> {
        let places = addresses.iter().map(|address| (*address, lab::Place::Outside)).collect();
        self.lab_mut()?.network.settle(&places);
        Ok(())
    }

    /// Waits for the pods of an object.
    pub(crate) fn rollout(&self, namespace: &str, object: &str) -> Result<()> {
        let patience = format!("{}s", PATIENCE.as_secs());
        let waited = self.kubectl(&["rollout", "status", object, "-n", namespace, "--timeout", &patience]);
        waited.map(drop).map_err(|error| {
            let pods = self.kubectl(&["get", "pods", "-A", "-o", "wide"]).unwrap_or_default();
            format!("{error}\n{pods}\nthe logs are in {}", self.folder.display()).into()
        })
    }

    /// Applies manifests.
    pub(crate) fn apply(&self, manifests: &str) -> Result<()> {
        let file = self.folder.join("applied.yaml");
        std::fs::write(&file, manifests)?;
        self.kubectl(&["apply", "-f", &file.to_string_lossy()]).map(drop)
    }

    /// A command beside the API server, with the rights of an administrator.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("KUBECONFIG", &self.kubeconfig).env("PATH", self.path()).env("HOME", &self.folder);
        command
    }

    /// Where commands are looked for.
    pub(crate) fn path(&self) -> String {
        let path = std::env::var("PATH").unwrap_or_default();
        let own = [&self.programs.cluster, &self.programs.helm].map(|folder| format!("{}:", folder.display()));
        own.concat() + &path
    }

    /// Runs a command there, and returns what it prints.
    pub(crate) fn run(&self, mut command: Command) -> Result<String> {
        let ran = self.beside(move || run(&mut command).map_err(|error| error.to_string()));
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
        let mut child = self.beside(move || command.spawn())?;
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
        self.beside(move || command.status())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(lab) = &mut self.lab else { return };
        for (_, process) in &mut lab.nodes {
            let _ = process.kill();
            let _ = process.wait();
        }
        let files = std::fs::read_dir(lab.plane.logs()).into_iter().flatten().flatten().map(|entry| entry.path());
        for log in files.filter(|path| path.extension().is_some_and(|ending| ending == "log")) {
            let _ = log.file_name().map(|name| std::fs::copy(&log, self.folder.join(name)));
        }
    }
}

fn empty_folder(settings: &Settings, name: &str) -> Result<PathBuf> {
    let folder = settings.folder.join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The network of the nodes; the outside has the API server.
fn network() -> Result<Network> {
    let parse = |place: &Place| -> Result<[IpAddr; 2]> {
        let [v4, v6] = place.addresses;
        Ok([v4.parse()?, v6.parse()?])
    };
    let addresses: Vec<[IpAddr; 2]> = NODES.iter().map(parse).collect::<Result<_>>()?;
    let nodes: Vec<(&str, &[IpAddr])> = NODES.iter().zip(&addresses).map(|(place, own)| (place.name, own.as_slice())).collect();
    let network = Network::new(&nodes, Fabric::Routed);
    for Place { name, pods, .. } in NODES {
        pods.iter().for_each(|block| network.route(block, name));
    }
    Ok(network)
}

fn control_plane(programs: &Programs, network: &Network) -> ControlPlane {
    let names: Vec<String> = NODES.iter().map(|node| format!("system:node:{}", node.name)).collect();
    let nodes = NODES.iter().zip(&names).map(|(node, name)| User { file: node.name, name, group: "system:nodes" });
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
