//! Never open between two agents: an agent takes over, or restores, what an earlier one left before any source has answered; and
//! what other programs do elsewhere in nftables costs nothing.

#![expect(clippy::expect_used, reason = "a failing check panics")]

use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use conformance::engine;
use conformance::lab::flood::{self, under_flood};
use conformance::lab::{self, AgentProcess, Fabric, Namespace, Network, binary, fixture};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use policy_agent::enforcer::{Enforcer, Kind};
use policy_agent::kernel::RealKernel;
use policy_agent::kernel::applier::NetlinkApplier;
use policy_agent::kernel::monitor::Monitor;
use policy_agent::kernel::reader::Reader;
use policy_core::compile;
use policy_core::manifest::Syntax;
use policy_ruleset::Options;

const TOOLS: [&str; 3] = ["ip", "nft", "setpriv"];
/// Who is fired at, from where in vain, and from where not.
const WHO: [&str; 3] = ["10.244.1.1", "10.244.2.1", "10.244.2.2"];
/// x/a is isolated, and only y/b may reach it.
const GUARD: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: guard, namespace: x}\nspec:\n  \
    podSelector: {matchLabels: {pod: a}}\n  ingress:\n  - from: [{namespaceSelector: {matchLabels: {ns: 'y'}}, \
    podSelector: {matchLabels: {pod: b}}}]\n";

/// A node with an agent's files.
struct Bench {
    network: Network,
    folder: tempfile::TempDir,
    agent: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests).expect("a folder");
        std::fs::write(manifests.join("all.yaml"), format!("{}---\n{GUARD}", fixture::manifests())).expect("writable");
        let network = fixture::network(Fabric::Routed);
        // An API server that accepts connections and never answers.
        let port = network.node("n1").run(|| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = listener.local_addr().expect("a port").port();
            std::thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    std::thread::spawn(move || {
                        let mut bytes = [0; 1024];
                        while stream.read(&mut bytes).is_ok_and(|length| length > 0) {}
                    });
                }
            });
            port
        });
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{}}}}]\ncurrent-context: c\n"
        );
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig).expect("writable");
        Self { network, folder, agent: binary("policy-agent") }
    }

    fn node(&self) -> &Namespace {
        self.network.node("n1")
    }

    fn start(&self, arguments: &[&str]) -> AgentProcess {
        AgentProcess::start(&self.agent, self.node(), &self.folder.path().join("manifests"), self.folder.path(), arguments)
    }

    /// An agent whose API server does not answer.
    fn start_in_silence(&self, arguments: &[&str]) -> AgentProcess {
        let kubeconfig = self.folder.path().join("kubeconfig");
        let kubeconfig = kubeconfig.to_str().expect("a path in UTF-8");
        let arguments: Vec<&str> = ["--kubeconfig", kubeconfig].iter().chain(arguments).copied().collect();
        AgentProcess::start_with(&self.agent, self.node(), self.folder.path(), &arguments)
    }

    fn saved(&self) -> PathBuf {
        self.folder.path().join("last-ruleset")
    }

    /// An agent that has put its rules in force, saved them, and is gone.
    fn leave_behind(&self, arguments: &[&str]) {
        let mut agent = self.start(arguments);
        agent.wait_in_sync();
        let saved = self.saved();
        wait(|| saved.exists());
        agent.stop(Signal::SIGKILL);
    }

    fn flush_ruleset(&self) {
        self.node().command("nft", &["flush", "ruleset"]);
    }
}

/// Waits with patience until something is so.
fn wait(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until an agent says that this is in force, without a ruleset of its own.
fn wait_held(agent: &AgentProcess, text: &str) {
    agent.wait(|status| status["is_in_force"] == false && status["held"].as_str().is_some_and(|held| held.contains(text)));
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn a_table_belongs_to_the_agent_before_its_source_has_answered() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let bench = Bench::new();
    bench.leave_behind(&[]);
    let agent = bench.start_in_silence(&[]);
    wait_held(&agent, "the rules of an earlier run");
    let heard = under_flood(&bench.network, WHO, || {
        for _ in 0..5 {
            bench.flush_ruleset();
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    assert!(!heard.contains(&flood::FORBIDDEN), "a forbidden packet passed after `nft flush ruleset`");
    assert!(heard.contains(&flood::ALLOWED), "nothing passed at all");
}

#[test]
fn a_table_that_was_lost_is_restored_before_the_source_has_answered() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let bench = Bench::new();
    bench.leave_behind(&[]);
    assert_eq!(mode(&bench.saved()), 0o600);
    // While no agent runs, the table is anybody's: the detector of this test sees what passes then.
    let heard = under_flood(&bench.network, WHO, || {
        bench.flush_ruleset();
        std::thread::sleep(Duration::from_millis(200));
    });
    assert!(heard.contains(&flood::FORBIDDEN), "nothing was open, so this test would notice nothing");
    for arguments in [&[][..], &["--protect-table", "off"]] {
        bench.node().command("nft", &["flush", "ruleset"]);
        let mut agent = bench.start_in_silence(arguments);
        wait_held(&agent, "restored");
        assert!(agent.log().contains("the table was lost"), "{}", agent.log());
        let heard = under_flood(&bench.network, WHO, || std::thread::sleep(Duration::from_millis(300)));
        assert!(!heard.contains(&flood::FORBIDDEN), "a forbidden packet passed after the rules were restored");
        assert!(heard.contains(&flood::ALLOWED), "nothing passed at all");
        if !arguments.is_empty() {
            // Without protection, it is lost again, or emptied, while the source is silent.
            // The log is that of all agents of this node.
            let restored = || agent.log().matches("restored the rules").count();
            for damage in ["ruleset", "table inet netpol"] {
                let before = restored();
                bench.node().command("nft", &[&["flush"], damage.split(' ').collect::<Vec<_>>().as_slice()].concat());
                wait(|| restored() > before);
            }
            let heard = under_flood(&bench.network, WHO, || std::thread::sleep(Duration::from_millis(300)));
            assert!(!heard.contains(&flood::FORBIDDEN), "a forbidden packet passed after the rules were restored again");
        }
        agent.stop(Signal::SIGKILL);
    }
    // With the API server back, or here: with manifests, the agent's own rules take their place, and no packet passes.
    let heard = under_flood(&bench.network, WHO, || {
        let agent = bench.start(&[]);
        agent.wait_in_sync();
    });
    assert!(!heard.contains(&flood::FORBIDDEN), "a forbidden packet passed while restored rules were replaced");
    let tables = bench.node().command("nft", &["list", "tables"]);
    assert!(!tables.contains("netpol-guard"), "{tables}");
}

#[test]
fn an_unprotected_table_becomes_protected_under_fire() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let bench = Bench::new();
    bench.leave_behind(&["--protect-table", "off"]);
    let heard = under_flood(&bench.network, WHO, || {
        let agent = bench.start(&[]);
        agent.wait_in_sync();
        bench.flush_ruleset();
        std::thread::sleep(Duration::from_millis(100));
    });
    assert!(!heard.contains(&flood::FORBIDDEN), "a forbidden packet passed");
    assert!(heard.contains(&flood::ALLOWED), "nothing passed at all");
}

/// An enforcer on a node, with x/a isolated. Anybody may change its table.
fn enforcer(node: &Namespace) -> Enforcer {
    node.run(|| {
        let monitor = Monitor::start(|_| {}).expect("root may listen");
        let kernel = Box::new(RealKernel::new(Reader::open().expect("netlink"), monitor));
        let scope = compile::Options { node: Some("n1".to_owned()), ..compile::Options::default() };
        let applier = Box::new(NetlinkApplier::open().expect("netlink"));
        let mut enforcer = Enforcer::new(scope, Options::default(), applier, kernel);
        let snapshot = engine::load_text(&format!("{}---\n{GUARD}", fixture::manifests()), Syntax::Strict);
        enforcer.take(snapshot.changes().collect());
        enforcer.flush().expect("in force");
        enforcer
    })
}

#[test]
fn no_packet_passes_while_a_table_is_made_anew_behind_a_guard() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let network = fixture::network(Fabric::Routed);
    let node = network.node("n1");
    let mut enforcer = enforcer(node);
    let heard = under_flood(&network, WHO, || {
        for _ in 0..150 {
            // What netpol does not make cannot be listed and deleted one by one: the table goes as a whole.
            node.command("nft", &["add", "counter", "inet", "netpol", "foreign"]);
            enforcer.invalidate();
            assert_eq!(enforcer.flush().expect("in force").map(|done| done.kind), Some(Kind::Repair));
        }
    });
    let listing = node.command("nft", &["list", "ruleset"]);
    assert!(!listing.contains("foreign") && !listing.contains("netpol-guard"), "{listing}");
    assert!(!heard.contains(&flood::FORBIDDEN), "a forbidden packet passed while the table was made anew");
    assert!(heard.contains(&flood::ALLOWED), "nothing passed at all");
}

#[test]
fn signals_and_what_others_do_elsewhere_are_no_changes_of_ours() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let bench = Bench::new();
    for applier in ["netlink", "nft"] {
        let agent = bench.start(&["--protect-table", "off", "--applier", applier]);
        agent.wait_in_sync();
        // A socket with a time-out is interrupted when its process is stopped and goes on.
        let id = Pid::from_raw(i32::try_from(agent.id()).expect("a process id"));
        for _ in 0..5 {
            kill(id, Signal::SIGSTOP).expect("it runs");
            std::thread::sleep(Duration::from_millis(20));
            kill(id, Signal::SIGCONT).expect("it is stopped");
            std::thread::sleep(Duration::from_millis(20));
        }
        // Everything that can be in a table of somebody else, of our family and of another, some of it named like ours.
        for round in 0..20 {
            for family in ["inet", "ip"] {
                let name = if family == "ip" { "netpol".to_owned() } else { format!("other{round}") };
                let text = format!(
                    "add table {family} {name}\nadd counter {family} {name} forward\nadd quota {family} {name} q {{ over 1 mbytes }}\n\
                     add set {family} {name} isolated4 {{ type ipv4_addr; }}\nadd element {family} {name} isolated4 {{ 10.244.1.1 }}\n\
                     add chain {family} {name} forward {{ type filter hook forward priority 10; }}\n\
                     add rule {family} {name} forward ip saddr @isolated4 counter name forward accept\n\
                     delete table {family} {name}\n"
                );
                for transaction in [text.rsplit_once("delete").expect("a last line").0, &format!("delete table {family} {name}")]
                {
                    bench.node().command_with("nft", &["-f", "-"], transaction);
                }
            }
        }
        // What comes after them is seen after them.
        let repairs = |status: &serde_json::Value| status["drift_repairs"].as_u64();
        agent.wait(|status| repairs(status) == Some(0) && status["is_in_sync"] == true);
        bench.node().command("nft", &["flush", "ruleset"]);
        agent.wait(|status| repairs(status).is_some_and(|repairs| repairs >= 1) && status["is_in_sync"] == true);
        agent.wait(|status| repairs(status) == Some(1));
    }
}
