//! The agent's binary on a node: how it starts, how it is operated, and that nothing ever opens a pod.

#![expect(clippy::expect_used, reason = "a failing check panics")]

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use conformance::lab::flood::{self, under_flood};
use conformance::lab::{self, AgentProcess, Fabric, Namespace, binary, fixture};
use nix::sys::signal::Signal;

const TOOLS: [&str; 3] = ["ip", "nft", "conntrack"];

/// A policy for `x/a` that allows ingress from these pods of namespace y.
fn allowing(pods: &[&str]) -> String {
    let from: String = pods
        .iter()
        .map(|pod| {
            format!("    - {{namespaceSelector: {{matchLabels: {{ns: 'y'}}}}, podSelector: {{matchLabels: {{pod: {pod}}}}}}}\n")
        })
        .collect();
    let ingress = if pods.is_empty() { "  ingress: []\n".to_owned() } else { format!("  ingress:\n  - from:\n{from}") };
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: guard, namespace: x}}\nspec:\n  podSelector: {{matchLabels: {{pod: a}}}}\n{ingress}"
    )
}

/// Writes a file as a whole, so that nobody reads half of it.
fn write(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).expect("writable");
    std::fs::rename(&beside, path).expect("the same folder");
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn table(node: &Namespace) -> String {
    node.command("nft", &["list", "table", "inet", "netpol"])
}

/// A folder of its own for an agent, with manifests in it.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    /// The fixture, and another file.
    fn new(name: &str, text: &str) -> Self {
        let files = Self { folder: tempfile::tempdir().expect("a folder") };
        std::fs::create_dir(files.manifests()).expect("a folder");
        files.write("fixture.yaml", &fixture::manifests());
        files.write(name, text);
        files
    }

    fn manifests(&self) -> PathBuf {
        self.folder.path().join("manifests")
    }

    fn write(&self, name: &str, text: &str) {
        write(&self.manifests().join(name), text);
    }

    fn start(&self, node: &Namespace, arguments: &[&str]) -> AgentProcess {
        let agent_binary = binary("policy-agent");
        AgentProcess::start(&agent_binary, node, &self.manifests(), self.folder.path(), arguments)
    }
}

#[test]
fn it_is_operated_as_documented() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let node = Namespace::new("n1");
    let files = Files::new("guard.yaml", &allowing(&["b"]));
    let mut agent = files.start(&node, &["--log-format", "json"]);
    agent.wait_in_sync();
    let before = table(&node);
    assert!(before.contains("isolated by x/guard"), "{before}");

    // A manifest that breaks changes nothing, and is told about.
    files.write("guard.yaml", &allowing(&[]).replace("podSelector: {", "podSelector: {{"));
    agent.wait(|status| status["problems"].as_array().is_some_and(|p| !p.is_empty()));
    let status = text(&agent.ask(&["status"]));
    assert!(status.starts_with("in sync: yes"), "{status}");
    assert!(status.contains("problem: ") && status.contains("guard.yaml:6"), "{status}");
    assert_eq!(table(&node), before);
    assert!(agent.log().contains("guard.yaml:6"), "{}", agent.log());
    for line in agent.log().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    }

    // Started again, the agent does not know what the broken file said, so the rules that are there stay.
    agent.stop(Signal::SIGKILL);
    agent = files.start(&node, &["--log-format", "json"]);
    agent.wait(|status| status["problems"].as_array().is_some_and(|p| !p.is_empty()));
    let status = agent.ask(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(text(&status).contains("the rules of an earlier run stay"), "{}", text(&status));
    let body = |listing: &str| listing.lines().skip_while(|l| !l.contains("set ")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(body(&table(&node)), body(&before));

    // Mended, it is in force again.
    files.write("guard.yaml", &allowing(&["c"]));
    agent.wait(|status| status["problems"].as_array().is_some_and(Vec::is_empty));
    agent.wait(|_| body(&table(&node)) != body(&before));

    assert!(text(&agent.ask(&["status"])).contains("local:   6 pod addresses"), "{}", text(&agent.ask(&["status"])));

    // Kernel objects are explained.
    let chain = table(&node).lines().find_map(|l| l.trim().strip_prefix("chain in-")?.strip_suffix(" {").map(str::to_owned));
    let name = format!("in-{}", chain.expect("a chain"));
    let explained = agent.ask(&["explain-chain", &name]);
    assert!(explained.status.success() && text(&explained).contains("policy x/guard"), "{}", text(&explained));
    let unknown = agent.ask(&["explain-chain", "in-x"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown).contains(&name), "{}", text(&unknown));

    // An agent for a node that nobody knows says so.
    let elsewhere = Namespace::new("n9");
    let lost = files.start(&elsewhere, &[]);
    lost.wait_in_sync();
    assert!(text(&lost.ask(&["status"])).contains("no Node and no pod is named `n9`"), "{}", text(&lost.ask(&["status"])));

    // Stopped, it leaves the rules; cleanup removes them.
    let left = table(&node);
    agent.stop(Signal::SIGTERM);
    assert!(agent.log().contains("the rules stay in force"), "{}", agent.log());
    assert_eq!(body(&table(&node)), body(&left));
    let gone = agent.ask(&["status"]);
    assert_eq!(gone.status.code(), Some(2));
    assert!(text(&gone).contains("no agent answers"), "{}", text(&gone));
    let cleanup = binary("policy-agent");
    let cleaned = node.run(move || Command::new(cleanup).arg("cleanup").output().expect("it runs"));
    assert!(cleaned.status.success(), "{}", text(&cleaned));
    assert_eq!(node.command("nft", &["list", "tables"]), "");
}

/// The token with which metrics can be read.
const TOKEN: &str = "Authorization: Bearer lab\r\n";

/// What the agent says on HTTP. `more` are further headers.
fn get(node: &Namespace, path: &str, more: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n");
    node.run(move || {
        use std::io::{Read, Write};
        // It may be in sync before it listens.
        let connect = || std::net::TcpStream::connect("127.0.0.1:9180").ok();
        let later = || {
            std::thread::sleep(Duration::from_millis(100));
            connect()
        };
        let mut stream = connect().or_else(|| (0..100).find_map(|_| later())).expect("the agent listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    })
}

#[test]
fn metrics_are_those_of_the_documentation() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let node = Namespace::new("n1");
    let files = Files::new("guard.yaml", &allowing(&["b"]));
    let (folder, manifests) = (files.folder.path(), files.manifests());
    let agent_binary = binary("policy-agent");
    let config = folder.join("agent.toml");
    let socket = folder.join("n1.sock");
    let tokens = folder.join("tokens");
    std::fs::write(&tokens, "lab\n").expect("writable");
    let settings = format!("node = \"n1\"\nmanifests = {manifests:?}\nlisten = \"127.0.0.1:9180\"\nsocket = {socket:?}\n");
    let settings = format!("{settings}metrics_token_file = {tokens:?}\n");
    std::fs::write(&config, settings).expect("writable");
    let (program, file) = (agent_binary.clone(), config.clone());
    let mut child = node.run(move || {
        Command::new(program).arg("--config").arg(file).stderr(std::process::Stdio::null()).spawn().expect("it starts")
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::os::unix::net::UnixStream::connect(&socket).is_err() || !get(&node, "/readyz", "").starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < deadline, "the agent does not get ready");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(get(&node, "/healthz", "").starts_with("HTTP/1.1 200"));
    assert!(get(&node, "/metrics", "").starts_with("HTTP/1.1 401"), "the metrics require a token");
    // The kernel's counters are read every few seconds.
    let deadline = Instant::now() + Duration::from_secs(60);
    let metrics = loop {
        let metrics = get(&node, "/metrics", TOKEN);
        let elements = metrics.lines().find_map(|l| l.strip_prefix("netpol_set_elements ")?.parse::<u64>().ok());
        if elements.is_some_and(|n| n > 0) {
            break metrics;
        }
        assert!(Instant::now() < deadline, "{elements:?} elements");
        std::thread::sleep(Duration::from_millis(200));
    };
    let _ = child.kill();
    let _ = child.wait();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let page = std::fs::read_to_string(root.join("docs/src/reference/metrics.md")).expect("the page of metrics");
    let documented: Vec<&str> = page.lines().filter_map(|l| l.strip_prefix("| `netpol_")?.split('`').next()).collect();
    assert!(documented.len() > 10, "{documented:?}");
    let measured: Vec<&str> = metrics.lines().filter_map(|l| l.strip_prefix("# TYPE netpol_")?.split(' ').next()).collect();
    for name in &documented {
        // Those with labels appear with their first event; files are never stale.
        let is_there = measured.contains(name) || ["denied_packets_total", "source_stale_seconds"].contains(name);
        assert!(is_there, "netpol_{name} is documented, and not there: {measured:?}");
    }
    for name in &measured {
        assert!(documented.contains(name), "netpol_{name} is not documented");
    }
}

#[test]
fn bad_starts_say_why_and_touch_nothing() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let agent_binary = binary("policy-agent");
    let node = Namespace::new("n1");
    let folder = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str], change: fn(&mut Command)| {
        let mut command = Command::new(&agent_binary);
        command.args(arguments).args(["--listen", "off", "--socket", "off"]);
        change(&mut command);
        let output = node.run(move || command.output().expect("it runs"));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output));
        text(&output)
    };
    let manifests = folder.path().to_str().expect("UTF-8").to_owned();
    let good = ["--node", "n1", "--manifests", &manifests];

    assert!(run(&["--manifests", &manifests], |_| {}).contains("--node"));
    assert!(run(&["--node", "n1"], |_| {}).contains("--manifests"));
    assert!(run(&["--node", "n1", "--manifests", "/nowhere"], |_| {}).contains("`/nowhere` is not a directory"));
    assert!(run(&[&good[..], &["--log", "=="]].concat(), |_| {}).contains("log filter"));
    assert!(
        run(&["--node", "n1", "--manifests", "/"], |c| {
            c.uid(65534);
        })
        .contains("CAP_NET_ADMIN")
    );
    assert!(
        run(&[&good[..], &["--applier", "nft"]].concat(), |c| {
            c.env("PATH", "/nowhere");
        })
        .contains("install nftables")
    );

    node.command("nft", &["add", "table", "inet", "netpol"]);
    node.command("nft", &["add", "chain", "inet", "netpol", "somebody-elses"]);
    let before = table(&node);
    let error = run(&good, |_| {});
    assert!(error.contains("did not create") && error.contains("nft delete table inet netpol"), "{error}");
    assert_eq!(table(&node), before);
    node.command("nft", &["delete", "table", "inet", "netpol"]);

    let first = AgentProcess::start(&agent_binary, &node, folder.path(), folder.path(), &[]);
    first.wait_in_sync();
    let error = run(&good, |_| {});
    assert!(error.contains("belongs to another program"), "{error}");
}

/// Who is fired at, from where in vain, and from where not.
const WHO: [&str; 3] = ["10.244.1.1", "10.244.2.1", "10.244.2.2"];

/// Ways to start an agent; each takes over the table of any other.
const WAYS: [&[&str]; 3] = [&[], &["--protect-table", "off"], &["--applier", "nft"]];

#[test]
fn nothing_ever_opens_a_pod() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let network = fixture::network(Fabric::Routed);
    let files = Files::new("guard.yaml", &allowing(&["b"]));
    let start = || files.start(network.node("n1"), &[]);
    let mut agent = start();
    agent.wait_in_sync();

    // C160: a policy is replaced in place by one that allows others; what neither allows never passes.
    let heard = under_flood(&network, WHO, || {
        for i in 0..8u64 {
            files.write("guard.yaml", &allowing(if i % 2 == 0 { &["c"] } else { &["b"] }));
            agent.wait(|status| status["news_in_force"].as_u64() >= Some(i + 2));
        }
    });
    assert!(!heard.contains(&flood::FORBIDDEN), "a forbidden packet passed while a policy was replaced");
    assert!(heard.contains(&flood::ALLOWED), "nothing passed at all");

    // C159: killed at any moment, and started again while policies change.
    let heard = under_flood(&network, WHO, || {
        for i in 0..6u64 {
            files.write("guard.yaml", &allowing(if i % 2 == 0 { &["c"] } else { &["b", "c"] }));
            std::thread::sleep(Duration::from_millis(37 * i));
            agent.stop(Signal::SIGKILL);
            agent = files.start(network.node("n1"), WAYS[i as usize % WAYS.len()]);
            if i % 2 == 0 {
                agent.wait_in_sync();
            }
        }
        agent.stop(Signal::SIGKILL);
        agent = start();
        agent.wait_in_sync();
    });
    assert!(!heard.contains(&flood::FORBIDDEN), "a forbidden packet passed while the agent was killed and started");
    // A table that was made without protection is made anew behind a guard, and only such a one.
    let tables = network.node("n1").command("nft", &["list", "tables"]);
    assert_eq!(tables.trim(), "table inet netpol");

    // Somebody flushes everything, and somebody deletes a chain.
    let heard = under_flood(&network, WHO, || {
        for _ in 0..10 {
            network.node("n1").command("nft", &["flush", "ruleset"]);
            std::thread::sleep(Duration::from_millis(30));
        }
    });
    assert!(!heard.contains(&flood::FORBIDDEN), "a forbidden packet passed after `nft flush ruleset`");
}

/// The sets and chains of a listing. In which order they stand depends on when they were made.
fn parts(listing: &str) -> BTreeSet<String> {
    let inner = listing.lines().filter(|line| line.starts_with('\t') || line.is_empty()).collect::<Vec<_>>().join("\n");
    inner.split("\n\n").map(|part| part.trim_end().to_owned()).collect()
}

#[test]
fn what_others_do_is_repaired() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    for applier in ["netlink", "nft"] {
        let node = Namespace::new("n1");
        let files = Files::new("guard.yaml", &allowing(&["b"]));
        let agent = files.start(&node, &["--applier", applier, "--protect-table", "off"]);
        agent.wait_in_sync();
        let right = table(&node);
        let chain = right.lines().find_map(|l| l.trim().strip_prefix("chain ")?.strip_suffix(".deny {").map(str::to_owned));
        let deny = format!("{}.deny", chain.expect("a chain"));
        let damages: [&[&str]; 6] = [
            &["flush", "ruleset"],
            &["delete", "table", "inet", "netpol"],
            &["flush", "chain", "inet", "netpol", "forward"],
            &["add", "element", "inet", "netpol", "isolated4", "{ 9.9.9.9 }"],
            &["delete", "element", "inet", "netpol", "isolated4", "{ 10.244.1.1 }"],
            &["insert", "rule", "inet", "netpol", &deny, "return"],
        ];
        for (repairs, damage) in damages.iter().enumerate() {
            node.command("nft", damage);
            agent.wait(|status| status["drift_repairs"].as_u64() > Some(repairs as u64) && status["is_in_sync"] == true);
            assert_eq!(parts(&table(&node)), parts(&right), "{applier}: after {damage:?}");
        }
        // What others do elsewhere is none of our business.
        for name in ["a", "b", "c"] {
            node.command("nft", &["add", "table", "inet", name]);
        }
        files.write("guard.yaml", &allowing(&["c"]));
        agent.wait(|status| status["news_in_force"] == 2);
        agent.wait(|status| status["drift_repairs"] == damages.len() as u64 && status["is_in_sync"] == true);
    }
}

#[test]
fn denials_are_explained_at_a_bounded_rate() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let network = fixture::network(Fabric::Routed);
    let files = Files::new("guard.yaml", &allowing(&["bb"]));
    let arguments = ["--log-format", "json", "--deny-log-rate", "50", "--deny-log-lines", "3"];
    let mut agent = files.start(network.node("n1"), &arguments);
    agent.wait_in_sync();
    let start = Instant::now();
    let heard = under_flood(&network, WHO, || std::thread::sleep(Duration::from_millis(1200)));
    assert!(heard.is_empty(), "x/a is closed to both");
    // Whatever is still on its way has come when the agent answers.
    let _ = agent.ask(&["status"]);
    let seconds = start.elapsed().as_secs() + 1;
    let log = agent.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .filter(|l: &serde_json::Value| l["message"] == "denied")
        .collect();
    assert!(!lines.is_empty(), "nothing was explained: {log}");
    assert!(lines.len() as u64 <= 3 * (seconds + 1), "{} lines in {seconds} s", lines.len());
    for line in &lines {
        assert_eq!(line["direction"], "ingress");
        assert_eq!(line["destination_pod"], "x/a");
        assert_eq!(line["policies"], "x/guard");
        assert_eq!((&line["source_workload"], &line["destination_workload"]), (&"y".into(), &"x".into()));
        let source = line["source_pod"].as_str().expect("a pod");
        assert!(["y/a", "y/b"].contains(&source), "{line}");
        assert!(["TCP/80", "UDP/80"].contains(&line["port"].as_str().expect("a port")), "{line}");
        assert!(line["nearest_miss"].as_str().is_some_and(|miss| miss.contains("x/guard")), "{line}");
    }
    agent.stop(Signal::SIGTERM);

    // Off means that the kernel copies nothing.
    let quiet = files.start(network.node("n1"), &["--deny-log", "off"]);
    quiet.wait_in_sync();
    assert!(!table(network.node("n1")).contains(" log "));
}

#[test]
fn settings_come_from_the_environment_too() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let agent_binary = binary("policy-agent");
    let node = Namespace::new("n1");
    let run = |variable: &'static str, value: &'static str, flags: &'static [&'static str]| {
        let mut command = Command::new(&agent_binary);
        command.env("NETPOL_NODE", "n1").env("NETPOL_MANIFESTS", "/nowhere").env(variable, value).args(flags);
        text(&node.run(move || command.output().expect("it runs")))
    };
    assert!(run("NETPOL_LISTEN", "off", &[]).contains("`/nowhere` is not a directory"));
    assert!(run("NETPOL_APPLIER", "iptables", &[]).contains("iptables"));
    assert!(run("NETPOL_MANIFESTS", "/a", &["--manifests", "/b"]).contains("`/b` is not a directory"), "flags come first");
}
