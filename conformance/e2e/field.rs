//! What the suites do not try: probes of isolated pods, ports of nodes, balancers, traffic while agents change, are gone or come back, a node
//! that boots again, `kubectl netpol`, and the removal.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use crate::Result;
use crate::cluster::{Cluster, NODES};
use crate::images;
use crate::knock::{self, Tally};
use crate::programs::{run as run_program, wait_for};
use crate::report::{Outcome, Run, Spec};
use crate::settings::Settings;

/// An address outside that policy `open` allows, and one that it does not.
const ALLOWED: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 8));
/// The Services with a balancer, and the addresses that these say they have.
const BALANCED: [(&str, IpAddr); 2] =
    [("web", IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10))), ("local", IpAddr::V4(Ipv4Addr::new(203, 0, 113, 11)))];
/// The port of the pods.
const PORT: u16 = 8080;
/// The pods, the node of each, and the port of the node that leads to it.
const PODS: [(&str, &str, u16); 4] = [("web", "n1", 8888), ("open", "n1", 8889), ("good", "n2", 8890), ("bad", "n2", 8891)];
/// Seconds of one try.
const TRY: u64 = 1;
const PATIENCE: Duration = Duration::from_secs(120);

/// Where a connection comes from.
#[derive(Clone, Copy)]
enum From {
    Pod(&'static str),
    Node(&'static str),
    Outside(IpAddr),
}

/// The cluster, and what was found in it.
struct Field<'c> {
    cluster: &'c mut Cluster,
    image: String,
    specs: Vec<Spec>,
}

/// Runs everything, one after the other.
pub(crate) fn run(settings: &Settings, cluster: &mut Cluster) -> Result<Run> {
    let image = images::agnhost(&cluster.programs)?;
    let mut field = Field { cluster, image, specs: Vec::new() };
    field.deploy()?;
    field.services()?;
    field.rollout()?;
    field.agents_gone()?;
    field.boot("n1")?;
    field.drain("n2")?;
    field.command_line(settings)?;
    field.removal()?;
    let report = field.cluster.folder.join("report");
    Ok(Run { cluster: field.cluster.name.clone(), specs: field.specs, report })
}

impl Field<'_> {
    fn note(&mut self, name: &str, expected: &str, found: &str) {
        let outcome = match found == expected {
            true => Outcome::Passed,
            false => Outcome::Failed(format!("expected {expected}, found {found}")),
        };
        println!("{} {name}", if outcome == Outcome::Passed { "passed" } else { "failed" });
        self.specs.push(Spec { name: name.to_owned(), outcome });
    }

    fn kubectl(&self, words: &str) -> Result<String> {
        self.cluster.kubectl(&words.split_whitespace().collect::<Vec<_>>())
    }

    fn deploy(&mut self) -> Result<()> {
        self.cluster.add_outside(&[ALLOWED, OTHER])?;
        let pods = PODS.iter().map(|(name, node, port)| self.deployment(name, node, *port));
        let manifests = format!("{}{}", include_str!("field.yaml"), pods.collect::<String>());
        self.cluster.apply(&manifests)?;
        for (name, ..) in PODS {
            self.cluster.rollout("shop", &format!("deployment/{name}"))?;
        }
        // Each probe fails after two seconds without an answer.
        std::thread::sleep(Duration::from_secs(8));
        let path =
            "-o jsonpath={.items[*].status.containerStatuses[*].restartCount}{.items[*].status.containerStatuses[*].ready}";
        let found = self.kubectl(&format!("get pods -n shop {path}"))?;
        self.note("probes of the kubelet reach pods that are isolated", "0 0 0 0true true true true", &found);
        Ok(())
    }

    fn deployment(&self, name: &str, node: &str, port: u16) -> String {
        let probe = format!("{{httpGet: {{path: /hostname, port: {PORT}}}, periodSeconds: 1, failureThreshold: 2}}");
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  \
             strategy: {{type: Recreate}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      nodeSelector: {{kubernetes.io/hostname: {node}}}\n      \
             terminationGracePeriodSeconds: 0\n      containers:\n      - name: c\n        image: {}\n        args: [netexec, --http-port={PORT}]\n        \
             readinessProbe: {probe}\n        livenessProbe: {probe}\n        ports: [{{containerPort: {PORT}, name: web, hostPort: {port}}}]\n",
            self.image
        )
    }

    fn services(&mut self) -> Result<()> {
        for (name, address) in BALANCED {
            let status = serde_json::json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}).to_string();
            self.cluster.kubectl(&[
                "patch",
                "service",
                name,
                "-n",
                "shop",
                "--subresource=status",
                "--type=merge",
                "-p",
                &status,
            ])?;
        }
        let [(_, balancer), (_, local)] = BALANCED;
        let (web, open) = (self.pod("web")?, self.pod("open")?);
        let service: IpAddr = self.kubectl("get service web -n shop -o jsonpath={.spec.clusterIP}")?.parse()?;
        let nodes = NODES.map(|node| node.addresses[0].parse::<IpAddr>());
        let [Ok(n1), Ok(n2)] = nodes else { return Err("the nodes have no addresses".into()) };
        let (good, bad) = (From::Pod("good"), From::Pod("bad"));
        let (allowed, other) = (From::Outside(ALLOWED), From::Outside(OTHER));
        for (name, from, address, port, expected) in [
            ("an allowed pod reaches the pod", good, web, PORT, "allowed"),
            ("another pod does not", bad, web, PORT, "denied"),
            ("an allowed pod reaches the Service", good, service, 80, "allowed"),
            ("another pod does not reach the Service", bad, service, 80, "denied"),
            // Its node's address arrives (S5.12).
            ("an allowed pod does not reach the balancer's address", good, balancer, 80, "denied"),
            ("nor does another pod", bad, balancer, 80, "denied"),
            ("an allowed pod reaches the balancer's address under the policy Local", good, local, 80, "allowed"),
            ("another pod does not reach it", bad, local, 80, "denied"),
            ("outside does not reach the node port, on the pod's node", other, n1, 30080, "denied"),
            ("outside does not reach the node port, on another node", other, n2, 30080, "denied"),
            ("outside does not reach the host port", other, n1, 8888, "denied"),
            ("an allowed address reaches the pod", allowed, open, PORT, "allowed"),
            ("another address does not", other, open, PORT, "denied"),
            ("an allowed address reaches the local node port", allowed, n1, 30081, "allowed"),
            ("another address does not reach the local node port", other, n1, 30081, "denied"),
            ("an allowed address reaches the host port", allowed, n1, 8889, "allowed"),
            ("another address does not reach the host port", other, n1, 8889, "denied"),
            ("the node of a pod reaches it", From::Node("n1"), web, PORT, "allowed"),
            ("another node does not", From::Node("n2"), web, PORT, "denied"),
        ] {
            self.expect(name, from, SocketAddr::new(address, port), expected)?;
        }
        Ok(())
    }

    /// The address of the pod of a workload.
    fn pod(&self, name: &str) -> Result<IpAddr> {
        let path = "jsonpath={.items[*].status.podIP}";
        let found = self.kubectl(&format!("get pods -n shop -l app={name} --field-selector=status.phase=Running -o {path}"))?;
        found.parse().map_err(|_| format!("{name} has the addresses `{found}`").into())
    }

    /// Starts to connect.
    fn start(&self, from: From, target: SocketAddr, seconds: u64) -> Result<Child> {
        let (namespace, prefix, source) = match from {
            From::Pod(name) => (self.cluster.outside()?, vec![format!("--net=/proc/{}/ns/net", self.process_of(name)?)], None),
            From::Node(name) => (self.cluster.network(name)?, Vec::new(), None),
            From::Outside(source) => (self.cluster.outside()?, Vec::new(), Some(source)),
        };
        let prefix: Vec<String> = match prefix.is_empty() {
            true => Vec::new(),
            false => [vec!["nsenter".to_owned()], prefix].concat(),
        };
        let mut command = knock::command(&prefix, seconds, target, source)?;
        Ok(namespace.run(move || command.spawn())?)
    }

    fn try_it(&self, from: From, target: SocketAddr) -> Result<Tally> {
        knock::tally(self.start(from, target, TRY)?)
    }

    /// A server in a pod, by its number.
    fn process_of(&self, name: &str) -> Result<u32> {
        let wanted = format!(" {}/", self.pod(name)?);
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            if std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == "agnhost") {
                let show = [
                    "--net=/proc/ID/ns/net".replace("ID", &id.to_string()),
                    "ip".into(),
                    "-4".into(),
                    "-o".into(),
                    "address".into(),
                ];
                if run_program(Command::new("nsenter").args(show)).is_ok_and(|text| text.contains(&wanted)) {
                    return Ok(id);
                }
            }
        }
        Err(format!("no process of {name} is found").into())
    }

    fn expect(&mut self, name: &str, from: From, target: SocketAddr, expected: &str) -> Result<()> {
        // What is allowed may need a moment after a change; what is denied must be so at once.
        let mut found = self.try_it(from, target)?;
        for _ in 0..10 {
            if expected == "denied" || found.verdict() == expected {
                break;
            }
            found = self.try_it(from, target)?;
        }
        self.note(name, expected, found.verdict());
        Ok(())
    }

    /// Traffic while something happens: what is allowed goes on, and what is not never passes.
    fn under_traffic(&mut self, what: &str, seconds: u64, happen: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let target = SocketAddr::new(self.pod("web")?, PORT);
        let clients = [self.start(From::Pod("good"), target, seconds)?, self.start(From::Pod("bad"), target, seconds)?];
        std::thread::sleep(Duration::from_secs(2));
        happen(self)?;
        let [good, bad] = clients.map(knock::tally);
        self.note(&format!("{what}: what is allowed goes on"), "allowed", good?.verdict());
        self.note(&format!("{what}: what is not allowed does not pass"), "denied", bad?.verdict());
        Ok(())
    }

    fn rollout(&mut self) -> Result<()> {
        self.under_traffic("a rollout of the agents", 40, |field| {
            field.kubectl("rollout restart -n netpol daemonset/netpol")?;
            field.cluster.rollout("netpol", "daemonset/netpol")
        })
    }

    /// The DaemonSet stays, and selects no node.
    fn agents_gone(&mut self) -> Result<()> {
        let select = |field: &Self, value: &str| {
            let patch = format!("{{\"spec\":{{\"template\":{{\"spec\":{{\"nodeSelector\":{{\"gone\":{value}}}}}}}}}}}");
            field.cluster.kubectl(&["patch", "daemonset", "netpol", "-n", "netpol", "--type=merge", "-p", &patch]).map(drop)
        };
        let agents = "get pods -n netpol -l app.kubernetes.io/component=agent -o name";
        let is_late = |field: &Self, phase: &str| -> Result<bool> {
            Ok(field.kubectl("get pods -n shop -l app=late -o jsonpath={.items[*].status.phase}")? == phase)
        };
        self.under_traffic("without agents", 40, |field| {
            select(field, "\"yes\"")?;
            let logs = field.cluster.folder.clone();
            wait_for("the agents are gone", PATIENCE, &logs, || field.kubectl(agents).is_ok_and(|names| names.is_empty()))?;
            let late = field.deployment("late", "n1", 8892);
            field.cluster.apply(&late)?;
            std::thread::sleep(Duration::from_secs(12));
            let waits = is_late(field, "Pending")?;
            let events = field.kubectl("get events -n shop -o jsonpath={.items[*].message}")?;
            let says = events.contains("the pod cannot be isolated yet");
            field.note("without agents a new pod waits, and its Events say why", "true true", &format!("{waits} {says}"));
            select(field, "null")?;
            field.cluster.rollout("netpol", "daemonset/netpol")
        })?;
        self.cluster.rollout("shop", "deployment/late")?;
        let late = SocketAddr::new(self.pod("late")?, PORT);
        self.expect("a pod that waited is isolated", From::Pod("bad"), late, "denied")
    }

    /// A node that crashes and boots again, with what its disk has.
    fn boot(&mut self, node: &'static str) -> Result<()> {
        let target = SocketAddr::new(self.pod("web")?, PORT);
        let before = self.start(From::Pod("bad"), target, 30)?;
        self.cluster.boot(node)?;
        self.note(&format!("while {node} boots, nothing opens"), "denied", knock::tally(before)?.verdict());
        self.again(&format!("after {node} has booted"))
    }

    fn drain(&mut self, node: &'static str) -> Result<()> {
        self.kubectl(&format!("drain {node} --ignore-daemonsets --delete-emptydir-data --force --timeout=120s"))?;
        self.cluster.boot(node)?;
        self.kubectl(&format!("uncordon {node}"))?;
        self.again(&format!("after {node} was drained and has booted"))
    }

    /// The verdicts as before, on pods that may have started again.
    fn again(&mut self, when: &str) -> Result<()> {
        let logs = self.cluster.folder.clone();
        let is_ready = || PODS.iter().all(|(name, ..)| self.process_of(name).is_ok());
        wait_for(&format!("the pods run {when}"), PATIENCE, &logs, is_ready)?;
        self.cluster.rollout("netpol", "daemonset/netpol")?;
        for (name, ..) in PODS {
            self.cluster.rollout("shop", &format!("deployment/{name}"))?;
        }
        let web = SocketAddr::new(self.pod("web")?, PORT);
        self.expect(&format!("{when}, an allowed pod reaches the pod"), From::Pod("good"), web, "allowed")?;
        self.expect(&format!("{when}, another pod does not"), From::Pod("bad"), web, "denied")
    }

    fn command_line(&mut self, settings: &Settings) -> Result<()> {
        let Some(netpol) = settings.netpol.as_ref().filter(|path| path.is_file()) else {
            let outcome = Outcome::Impossible("`netpol` has not been built with `--features cluster`".to_owned());
            self.specs.push(Spec { name: "kubectl netpol gives the verdicts".to_owned(), outcome });
            return Ok(());
        };
        let folder = self.cluster.folder.join("bin");
        std::fs::create_dir_all(&folder)?;
        let plugin = folder.join("kubectl-netpol");
        let _ = std::fs::remove_file(&plugin);
        std::os::unix::fs::symlink(netpol, &plugin)?;
        for (from, expected) in [("good", "allowed"), ("bad", "denied")] {
            let path = format!("{}:{}", folder.display(), self.cluster.path());
            let mut command = self.cluster.command(Path::new("kubectl"));
            command.env("PATH", path).args(["netpol", "can", &format!("shop/{from}"), "shop/web", "-p", &PORT.to_string(), "-q"]);
            let output = self.cluster.outside()?.run(move || command.output())?;
            let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            let verdict = text.split_whitespace().next().unwrap_or_default().to_owned();
            self.note(&format!("kubectl netpol can shop/{from} shop/web says so"), expected, &verdict);
        }
        Ok(())
    }

    /// In two steps, as the manual says.
    fn removal(&mut self) -> Result<()> {
        self.cluster.upgrade_netpol(&["--set", "uninstall=true"])?;
        self.cluster.rollout("netpol", "daemonset/netpol")?;
        self.cluster.helm(&["uninstall", "netpol", "-n", "netpol", "--wait"])?;
        let web = SocketAddr::new(self.pod("web")?, PORT);
        self.expect("after the removal nothing is isolated", From::Pod("bad"), web, "allowed")?;
        let mut tables = String::new();
        for node in NODES {
            tables += &self.cluster.network(node.name)?.command("nft", &["list", "tables"]);
        }
        self.note("after the removal no table is left", "false", &tables.contains("netpol").to_string());
        let later = self.deployment("later", "n1", 8893);
        self.cluster.apply(&later)?;
        let found = if self.cluster.rollout("shop", "deployment/later").is_ok() { "started" } else { "not started" };
        self.note("after the removal pods start", "started", found);
        Ok(())
    }
}
