//! Other programs that use nf_tables, agents that are killed, and a second agent.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use conformance::lab::flood::{self, under_flood};
use conformance::lab::{self, AgentProcess, FakeApi, Namespace, Trickle, binary};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{Cluster, NODE, OUTSIDE, PATIENCE, QUIET, alone, becomes, ip, is_available, policy, start};

/// Another program, which commits to a table of its own all the time.
struct Stranger {
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Stranger {
    /// What others make and delete: some in one transaction each.
    const WORK: [&str; 10] = [
        "add counter inet other c",
        "add set inet other s { type ipv4_addr; }",
        "add element inet other s { 10.9.8.7 }",
        "delete element inet other s { 10.9.8.7 }",
        "add chain inet other n",
        "add rule inet other n counter drop",
        "flush chain inet other n",
        "delete chain inet other n",
        "delete set inet other s",
        "delete counter inet other c",
    ];

    fn start(cluster: &Cluster) -> Self {
        let mut command = Command::new("nft");
        command.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child: Child = cluster.node().run(move || command.spawn().expect("nft runs"));
        let (stop, commits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (over, made) = (stop.clone(), commits.clone());
        let thread = std::thread::spawn(move || {
            let mut input = child.stdin.take().expect("piped");
            let mut work = ["add table inet other", "add flowtable inet other f { hook ingress priority 0; devices = { lo }; }"]
                .into_iter()
                .chain(Self::WORK.into_iter().cycle());
            while !over.load(Ordering::Relaxed) && work.next().is_some_and(|line| writeln!(input, "{line}").is_ok()) {
                made.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(3));
            }
            drop(input);
            let _ = child.wait();
        });
        Self { stop, commits, thread: Some(thread) }
    }

    fn commits(&self) -> usize {
        self.commits.load(Ordering::Relaxed)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn what_others_commit_to_their_own_tables_is_no_change_of_ours() {
    if !is_available() {
        return;
    }
    let _alone = alone();
    // Unprotected, so that the flags of the table cannot be what keeps it from being repaired.
    let cluster = Cluster::start(&["--protect-table", "off"]);
    cluster.crowd(100);
    let before = cluster.status()["drift_repairs"].as_u64();
    let stranger = Stranger::start(&cluster);
    assert!(becomes(PATIENCE, || stranger.commits() > 300), "others commit");
    assert!(cluster.node().command("nft", &["list", "tables"]).contains("inet other"), "their table is there");
    cluster.works("b", "others commit all the time");
    assert!(becomes(PATIENCE, || stranger.commits() > 900), "others commit");
    let status = cluster.status();
    assert_eq!(
        status["drift_repairs"].as_u64(),
        before,
        "after {} commits of others\n{}",
        stranger.commits(),
        cluster.end_of_log()
    );
    drop(stranger);
    // What does touch our table is repaired, and counted.
    cluster.node().command("nft", &["add", "set", "inet", "netpol", "stranger", "{ type ipv4_addr; }"]);
    cluster.agent.wait_for(PATIENCE, |status| status["drift_repairs"].as_u64() > before && status["is_in_sync"] == true);
}

/// Allows pod `b` to reach pod `a`, and more or less else.
fn guard(api: &FakeApi, version: u16) {
    let rules = json!([{"from": [{"podSelector": {"matchLabels": {"app": "b"}}}]},
        {"from": [{"podSelector": {"matchLabels": {"app": format!("d{}", version % 3)}}}], "ports": [{"port": 1000 + version}]}]);
    let target = json!({"matchLabels": {"app": "a"}});
    api.set(policy("guard", json!({"podSelector": target, "policyTypes": ["Ingress"], "ingress": rules})));
    let target = json!({"matchLabels": {"app": if version.is_multiple_of(2) { "c" } else { "d" }}});
    api.set(policy("other", json!({"podSelector": target, "policyTypes": ["Ingress", "Egress"]})));
}

/// Pod `a`; who may not reach it; who may.
const WHO: [&str; 3] = ["10.244.1.1", OUTSIDE, "10.244.1.2"];

/// What `systemctl restart nftables` begins with. Where a table is another program's, the kernel leaves that table out.
fn flush(node: &Namespace) {
    node.run(|| Command::new("nft").args(["flush", "ruleset"]).stderr(Stdio::null()).status().expect("nft runs"));
}

fn signal(agent: &AgentProcess, signal: Signal) {
    let process = i32::try_from(agent.id()).expect("a process id");
    kill(Pid::from_raw(process), signal).expect("it runs");
}

/// A cluster in which pod `a` is guarded, as packets say.
fn guarded(arguments: &[&str]) -> Cluster {
    let cluster = Cluster::start(arguments);
    let [victim, forbidden, _] = WHO.map(ip);
    let trickle = Trickle::start(&cluster.network, forbidden, victim, 80);
    assert!(trickle.arrives(PATIENCE), "nothing reaches a pod without policies");
    guard(&cluster.api, 0);
    assert!(trickle.ends(QUIET, PATIENCE).is_some(), "{victim} is not closed\n{}", cluster.end_of_log());
    cluster
}

#[test]
fn no_packet_passes_through_kills_churn_and_flushes() {
    if !is_available() || !lab::is_parallel() {
        return;
    }
    let _alone = alone();
    // The detector: without protection, a flush opens the pod until it is repaired.
    let unprotected = guarded(&["--protect-table", "off"]);
    let is_seen = (0..10).any(|_| {
        let heard = under_flood(&unprotected.network, WHO, || {
            for _ in 0..10 {
                flush(unprotected.node());
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        unprotected.agent.wait_for(PATIENCE, |status| status["is_in_sync"] == true);
        heard.contains(&flood::FORBIDDEN)
    });
    assert!(is_seen, "an open pod would not be seen");
    drop(unprotected);

    let mut cluster = guarded(&[]);
    let mut version = 0;
    let Cluster { agent, api, network, folder, config } = &mut cluster;
    let node = network.node(NODE);
    let heard = under_flood(network, WHO, || {
        for round in 0..6u64 {
            for _ in 0..10 {
                version += 1;
                guard(api, version);
                std::thread::sleep(Duration::from_millis(5));
            }
            signal(agent, Signal::SIGSTOP);
            flush(node);
            signal(agent, Signal::SIGCONT);
            for _ in 0..4 {
                flush(node);
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(Duration::from_millis(7 * round));
            agent.stop(Signal::SIGKILL);
            version += 1;
            guard(api, version);
            *agent = start(node, config, folder.path(), &[]);
            // Nobody can keep others from a table while nobody owns it.
            agent.wait_for(PATIENCE, |status| status["is_in_sync"] == true);
        }
    });
    assert!(heard.contains(&flood::ALLOWED), "nothing passed at all");
    assert!(!heard.contains(&flood::FORBIDDEN), "a forbidden packet passed\n{}", cluster.end_of_log());
}

#[test]
fn a_second_agent_refuses_to_start_and_harms_nothing() {
    if !is_available() {
        return;
    }
    let cluster = guarded(&[]);
    // Without counters and times.
    let before = cluster.node().command("nft", &["-s", "list", "table", "inet", "netpol"]);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let sockets = [elsewhere.path().join("second.sock"), cluster.agent.socket().to_owned()];
    for socket in sockets {
        let mut command = Command::new(binary("policy-agent"));
        command.args(["--node", NODE, "--kubeconfig", &cluster.config, "--listen", "off", "--socket"]).arg(&socket);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut second = cluster.node().run(move || command.spawn().expect("it starts"));
        let has_ended = becomes(PATIENCE, || second.try_wait().expect("it is a child").is_some());
        if !has_ended {
            let _ = second.kill();
        }
        let output = second.wait_with_output().expect("it has ended");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(has_ended && !output.status.success(), "{}: a second agent runs: {said}", socket.display());
        assert!(said.contains("another program") || said.contains("cannot listen"), "{}: {said}", socket.display());
        assert_eq!(cluster.node().command("nft", &["-s", "list", "table", "inet", "netpol"]), before);
    }
    // The first one is there, answers, and enforces.
    cluster.works("e", "after a second agent");
}

#[test]
fn a_list_that_the_api_server_never_ends_holds_up_no_start() {
    if !is_available() {
        return;
    }
    let mut cluster = guarded(&[]);
    cluster.agent.stop(Signal::SIGKILL);
    cluster.api.never_streams("Pod");
    let node = cluster.network.node(NODE);
    cluster.agent = start(node, &cluster.config, cluster.folder.path(), &[]);
    cluster.agent.wait_for(3 * PATIENCE, |status| status["is_in_sync"] == true && status["objects"]["pods"].as_u64() >= Some(8));
    let said = cluster.end_of_log();
    assert!(said.contains("does not complete a streaming list"), "{said}");
    cluster.works("e", "after a list that never ended");
}
