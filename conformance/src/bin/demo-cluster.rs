//! The shop of `examples/shop` in a real cluster: kube-apiserver, etcd, and three nodes.
//!
//! Nodes and pods are network namespaces, and this program plays the kubelets: it runs the CNI chain for each pod and posts its
//! status. Everything else is what users do, with kubectl and netpol. Everything goes when this program does.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a demonstration that fails says where")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use conformance::lab::{self, AgentProcess, Api, ControlPlane, Fabric, Network, Runtime, Sandbox, VERSIONS, binary};
use conformance::shop::{self, cell, paint};
use http::Method;
use serde_json::{Value, json};

const NODES: [(&str, &str); 3] = [("node-a", "192.0.2.1"), ("node-b", "192.0.2.2"), ("node-c", "192.0.2.3")];
/// An answer takes less; a packet that is dropped gets none.
const PATIENCE: Duration = Duration::from_millis(400);

/// A pod that runs.
struct Running {
    sandbox: Sandbox,
    /// TCP ports that it listens on.
    ports: Vec<u16>,
    _servers: Vec<TcpListener>,
}

fn heading(text: &str) {
    println!("\n{}\n", paint(text, "1"));
}

fn indented(text: &str) {
    for line in text.trim_end().lines() {
        println!("  {line}");
    }
}

/// Somebody at a terminal that reaches the API server.
struct Terminal<'a> {
    network: &'a Network,
    plane: &'a ControlPlane,
    /// Its folder has `kubectl-netpol`.
    folder: &'a Path,
}

impl Terminal<'_> {
    /// Runs `kubectl …`, shows it as it would be typed, and what it prints.
    fn kubectl(&self, arguments: &str) -> bool {
        println!("  {}", paint(&format!("$ kubectl {arguments}"), "36"));
        let output = self.run(arguments);
        indented(&String::from_utf8_lossy(&output.stdout));
        indented(&String::from_utf8_lossy(&output.stderr));
        println!();
        output.status.success()
    }

    fn run(&self, arguments: &str) -> std::process::Output {
        let mut command = Command::new(self.plane.programs().join("kubectl"));
        let path = format!("{}:{}", self.folder.display(), std::env::var("PATH").unwrap_or_default());
        command.args(arguments.split(' ')).env("PATH", path).env("KUBECONFIG", self.plane.admin()).env("HOME", self.folder);
        command.current_dir(shop::folder());
        self.network.outside().run(move || command.output().expect("kubectl runs"))
    }
}

/// Starts a pod as its kubelet would: sandbox, containers, status.
fn start(api: &Api, runtime: &mut Runtime<'_>, pod: &Value) -> Running {
    let (namespace, name) =
        (pod["metadata"]["namespace"].as_str().expect("a namespace"), pod["metadata"]["name"].as_str().expect("a name"));
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let made = api.request(Method::POST, &path, pod.clone()).expect("the API server takes it");
    let sandbox = runtime.add(namespace, name, made["metadata"]["uid"].as_str().expect("a UID")).expect("the chain works");
    let ports: Vec<u16> = pod["spec"]["containers"][0]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|port| port["protocol"] == "TCP")
        .map(|port| u16::try_from(port["containerPort"].as_u64().expect("a number")).expect("a port"))
        .collect();
    let wanted = ports.clone();
    let servers = sandbox
        .namespace
        .run(move || wanted.iter().map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).expect("a free port")).collect());
    let ips: Vec<Value> = sandbox.addresses.iter().map(|address| json!({"ip": address})).collect();
    let status = json!({"status": {"phase": "Running", "podIP": sandbox.addresses[0], "podIPs": ips,
        "conditions": [{"type": "Ready", "status": "True"}]}});
    api.request(Method::PATCH, &format!("{path}/{name}/status"), status).expect("the API server takes it");
    Running { sandbox, ports, _servers: servers }
}

/// Tries every TCP port of every pod from every pod, and prints it beside what netpol says of the cluster's snapshot. Returns in how
/// many they differ.
fn compare(terminal: &Terminal<'_>, pods: &BTreeMap<String, Running>) -> usize {
    let snapshot = terminal.folder.join("cluster.yaml.gz");
    std::fs::write(&snapshot, terminal.run("netpol snapshot").stdout).expect("writable");
    let services: Vec<(String, IpAddr, u16)> = pods
        .iter()
        .flat_map(|(name, pod)| pod.ports.iter().map(|port| (name.clone(), pod.sandbox.addresses[0], *port)))
        .collect();
    let letters: String = (0..services.len()).map(|n| format!("{} ", char::from(b'a' + n as u8))).collect();
    println!("  {:24}{:width$}   measured", "", "netpol can", width = letters.len());
    println!("  {:24}{letters}   {letters}", "");
    let mut differences = 0;
    for (from, pod) in pods {
        let tries = services.clone();
        let measured: Vec<bool> = pod.sandbox.namespace.run(move || {
            let connect = |(_, address, port): (String, IpAddr, u16)| {
                // A socket is of the namespace of the thread that makes it, and a new thread is where its maker is.
                std::thread::spawn(move || TcpStream::connect_timeout(&(address, port).into(), PATIENCE).is_ok())
            };
            let threads: Vec<_> = tries.into_iter().map(connect).collect();
            threads.into_iter().map(|thread| thread.join().expect("it ends")).collect()
        });
        let can = |(to, _, port): &(String, IpAddr, u16)| {
            let mut command = Command::new(binary_of(terminal));
            let name = |pod: &str| pod.replace('/', "/pod/");
            command.args(["can", &name(from), &name(to), "-p", &port.to_string(), "-f"]).arg(&snapshot);
            command.output().expect("netpol runs").status.success()
        };
        let predicted: Vec<bool> = services.iter().map(can).collect();
        differences += predicted.iter().zip(&measured).filter(|(a, b)| a != b).count();
        let row = |list: &[bool]| list.iter().map(|is_open| cell(usize::from(*is_open), 1)).collect::<String>();
        println!("  {from:24}{}   {}", row(&predicted), row(&measured));
    }
    for (n, (name, _, port)) in services.iter().enumerate() {
        print!("  {} {:31}", char::from(b'a' + n as u8), format!("{name} TCP {port}"));
        if n % 3 == 2 {
            println!();
        }
    }
    let all = pods.len() * services.len();
    let verdict = format!("{all} connections tried, {differences} differences between netpol and the network");
    println!("\n\n{}", paint(&verdict, if differences == 0 { "32;1" } else { "31;1" }));
    differences
}

fn binary_of(terminal: &Terminal<'_>) -> std::path::PathBuf {
    terminal.folder.join("kubectl-netpol")
}

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        eprintln!(
            "the demo creates network namespaces and changes nftables inside them, so it requires root: sudo make demo-cluster"
        );
        return ExitCode::from(2);
    }
    if !lab::is_available(&["ip", "bridge", "nft", "conntrack", "openssl", "curl", "python3"]) {
        return ExitCode::from(2);
    }
    let agent_binary = binary("policy-agent");
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(binary("netpol"), folder.path().join("kubectl-netpol")).expect("a link");

    heading("1. A cluster: kube-apiserver, etcd and three nodes, as network namespaces");
    let addresses: Vec<(&str, [IpAddr; 1])> = NODES.iter().map(|(n, a)| (*n, [a.parse().expect("an address")])).collect();
    let nodes: Vec<(&str, &[IpAddr])> = addresses.iter().map(|(name, list)| (*name, list.as_slice())).collect();
    let network = Network::new(&nodes, Fabric::Routed);
    for (number, (name, _)) in NODES.iter().enumerate() {
        network.route(&format!("10.244.{number}.0/24"), name);
    }
    let plane = ControlPlane::start(VERSIONS[0], network.outside(), &[]);
    let mut api = Api::new(network.outside(), plane.admin());
    let node = |(name, address)| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
               "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
    };
    let refused = api.hold(&NODES.map(node));
    assert!(refused.is_empty(), "{refused:?}");
    let terminal = Terminal { network: &network, plane: &plane, folder: folder.path() };
    assert!(terminal.kubectl("get nodes"));

    heading("2. netpol is installed; this program runs its agents, because there are no kubelets");
    assert!(terminal.kubectl("apply -f ../../policy-agent/deploy/netpol.yaml"));
    let config = plane.agent().to_str().expect("UTF-8").to_owned();
    let mut agents = Vec::new();
    let mut runtimes = Vec::new();
    for (number, (name, _)) in NODES.iter().enumerate() {
        let runtime = Runtime::new(network.node(name), &format!("10.244.{number}.0/24"), &folder.path().join(name));
        let chain = runtime.configurations().to_str().expect("UTF-8").to_owned();
        let arguments = ["--kubeconfig", &config, "--cni-conf-dir", &chain];
        let agent = AgentProcess::start_with(&agent_binary, network.node(name), folder.path(), &arguments);
        runtime.install(agent.socket());
        agent.wait_in_sync();
        println!("  {name}: agent in sync, netpol-cni chained");
        agents.push(agent);
        runtimes.push(runtime);
    }

    heading("3. The shop is deployed, without policies");
    assert!(terminal.kubectl("apply --server-side -f namespaces.yaml"));
    let mut pods = BTreeMap::new();
    let shop_pods = shop::pods(1).into_iter().filter(|pod| pod["spec"]["hostNetwork"] != true);
    for (number, mut pod) in shop_pods.enumerate() {
        let at = number % NODES.len();
        pod["spec"]["nodeName"] = json!(NODES[at].0);
        pod["spec"]["containers"][0]["image"] = json!("shop");
        pod["spec"]["terminationGracePeriodSeconds"] = json!(0);
        let name = format!(
            "{}/{}",
            pod["metadata"]["namespace"].as_str().unwrap_or_default(),
            pod["metadata"]["name"].as_str().unwrap_or_default()
        );
        pods.insert(name, start(&api, &mut runtimes[at], &pod));
    }
    assert!(terminal.kubectl("get pods -A -o wide"));
    let mut differences = compare(&terminal, &pods);

    heading("4. Policies are applied with kubectl");
    let web = &pods["shop/web-0"].sandbox.namespace;
    let db: IpAddr = pods["shop/db-0"].sandbox.addresses[0];
    let is_open = move || TcpStream::connect_timeout(&(db, 5432).into(), Duration::from_millis(50)).is_ok();
    assert!(web.run(is_open), "everything is open without policies");
    assert!(terminal.kubectl("apply -f policies.yaml"));
    let applied = Instant::now();
    while web.run(is_open) {
        assert!(applied.elapsed() < Duration::from_secs(10), "the policies are not enforced");
    }
    println!("  shop/web can no longer reach shop/db, {} ms after kubectl returned\n", applied.elapsed().as_millis());
    for agent in &agents {
        agent.wait(|status| status["objects"]["policies"] == shop::read("policies.yaml").matches("kind: NetworkPolicy").count());
    }
    differences += compare(&terminal, &pods);

    heading("5. Why? netpol asks the live cluster");
    assert!(!terminal.kubectl("netpol can shop/web-0 shop/db-0 -p 5432"));
    assert!(terminal.kubectl("netpol who shop/db-0 -p 5432"));

    heading("6. A new pod is isolated before its first instruction");
    let mut late = shop::pods(2).into_iter().find(|pod| pod["metadata"]["name"] == "web-1").expect("the shop has two");
    late["spec"]["nodeName"] = json!(NODES[0].0);
    late["spec"]["containers"][0]["image"] = json!("shop");
    let running = start(&api, &mut runtimes[0], &late);
    assert!(!running.sandbox.namespace.run(is_open), "a pod was open when it started");
    println!("  shop/web-1 started on {}, and its first connection to shop/db was denied\n", NODES[0].0);
    assert!(terminal.kubectl("delete -f policies.yaml"));
    let deleted = Instant::now();
    while !web.run(is_open) {
        assert!(deleted.elapsed() < Duration::from_secs(10), "the policies are still enforced");
    }
    println!(
        "  without policies, all connections are allowed again, {} ms after kubectl returned",
        deleted.elapsed().as_millis()
    );

    if std::env::var_os("WAIT").is_some() {
        let id = agents[0].id();
        println!("\nThe cluster stays until you press Enter. From another terminal, as root:\n");
        println!(
            "  nsenter --net --target {id} env KUBECONFIG={} PATH={}:{}:$PATH bash",
            plane.admin().display(),
            plane.programs().display(),
            folder.path().display()
        );
        println!("  kubectl get networkpolicies -A; kubectl netpol list; nft list table inet netpol    # on {}", NODES[0].0);
        // At the end of standard input there is nobody to wait for.
        let _ = std::io::stdin().read_line(&mut String::new());
    }
    println!("\nThe network namespaces are removed.");
    ExitCode::from(u8::from(differences > 0))
}
