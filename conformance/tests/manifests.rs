//! A folder of manifests as the agent's source: whatever becomes of it, no pod opens because something disappeared, and the rest goes on.

#![expect(clippy::expect_used, reason = "a failing check panics")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::lab::{self, AgentProcess, Namespace, binary, fixture};
use nix::sys::signal::Signal;
use serde_json::Value;

const TOOLS: [&str; 3] = ["ip", "nft", "mkfifo"];
const GUARD: &str = "guard.yaml";

/// A policy that isolates one pod of namespace x.
fn isolating(name: &str, pod: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: x}}\nspec: {{podSelector: {{matchLabels: {{pod: {pod}}}}}}}\n"
    )
}

/// A node with an agent, and the folder that it reads.
struct Lab {
    folder: tempfile::TempDir,
    node: Namespace,
    agent: AgentProcess,
}

impl Lab {
    /// The fixture, and a policy that isolates x/a, in force.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests).expect("a folder");
        std::fs::write(manifests.join("fixture.yaml"), fixture::manifests()).expect("writable");
        std::fs::write(manifests.join(GUARD), isolating("guard", "a")).expect("writable");
        let node = Namespace::new("n1");
        let agent = AgentProcess::start(&binary("policy-agent"), &node, &manifests, folder.path(), &[]);
        agent.wait_in_sync();
        let lab = Self { folder, node, agent };
        assert!(lab.table().contains("isolated by x/guard"), "{}", lab.table());
        lab
    }

    fn manifests(&self) -> PathBuf {
        self.folder.path().join("manifests")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.manifests().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.at(name), text).expect("writable");
    }

    fn table(&self) -> String {
        self.node.command("nft", &["list", "table", "inet", "netpol"])
    }

    /// A problem is named, and the table is what it was.
    fn keeps(&self, how: &str, table: &str) {
        self.agent.wait(has_problems);
        assert_eq!(self.table(), table, "{how}");
    }

    fn is_mended(&self) {
        self.agent.wait(|status| !has_problems(status));
    }
}

fn has_problems(status: &Value) -> bool {
    status["problems_total"].as_u64().is_some_and(|problems| problems > 0)
}

/// What becomes of a file that isolates a pod.
type Loss = (&'static str, fn(&Path));

const LOSSES: [Loss; 10] = [
    ("cut off at nothing", |file| std::fs::write(file, "").expect("writable")),
    ("comments alone", |file| std::fs::write(file, "# nothing\n").expect("writable")),
    ("cut in the middle", |file| cut(file, 70)),
    ("zeros", |file| std::fs::write(file, [0; 300]).expect("writable")),
    ("another kind", |file| replace(file, "kind: NetworkPolicy", "kind: NetworkPolicyy")),
    ("another version", |file| replace(file, "io/v1", "io/v2")),
    ("bytes that are no text", |file| {
        let mut bytes = std::fs::read(file).expect("readable");
        bytes.extend([0xff, 0xfe]);
        std::fs::write(file, bytes).expect("writable");
    }),
    ("a named pipe", |file| {
        std::fs::remove_file(file).expect("it was there");
        make_pipe(file);
    }),
    ("a link to a device", |file| {
        std::fs::remove_file(file).expect("it was there");
        symlink("/dev/zero", file).expect("a link");
    }),
    ("a link to nowhere", |file| {
        std::fs::remove_file(file).expect("it was there");
        symlink("nowhere", file).expect("a link");
    }),
];

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("it runs").success());
}

fn cut(file: &Path, length: u64) {
    std::fs::File::options().write(true).open(file).and_then(|file| file.set_len(length)).expect("writable");
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).expect("readable");
    std::fs::write(file, text.replace(from, to)).expect("writable");
}

#[test]
fn what_disappears_opens_no_pod() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let lab = Lab::new();
    let table = lab.table();
    for (how, lose) in LOSSES {
        lose(&lab.at(GUARD));
        lab.keeps(how, &table);
        std::fs::remove_file(lab.at(GUARD)).expect("it was there");
        lab.write(GUARD, &isolating("guard", "a"));
        lab.is_mended();
    }
    lab.write("fixture.yaml", "");
    lab.keeps("the pods are gone", &table);
    lab.write("fixture.yaml", &fixture::manifests());
    lab.is_mended();

    let (manifests, away) = (lab.manifests(), lab.folder.path().join("away"));
    std::fs::rename(&manifests, &away).expect("the same folder");
    lab.keeps("the folder is moved away", &table);
    std::fs::create_dir(&manifests).expect("a folder");
    lab.agent.wait(|status| status["problems"][0].as_str().is_some_and(|problem| problem.contains("no longer has manifests")));
    lab.keeps("an empty folder is in its place", &table);
    std::fs::remove_dir(&manifests).expect("it is empty");
    std::fs::rename(&away, &manifests).expect("the same folder");
    lab.is_mended();
    assert_eq!(lab.table(), table, "nothing happened in all that");

    // What is meant is done: a file that goes alone, and one that says that there is nothing.
    lab.write("other.yaml", &isolating("other", "b"));
    lab.agent.wait(|_| lab.table().contains("isolated by x/other"));
    std::fs::rename(lab.at("other.yaml"), lab.at("other.yaml.bak")).expect("the same folder");
    lab.agent.wait(|_| !lab.table().contains("isolated by x/other"));
    lab.write(GUARD, "{apiVersion: v1, kind: List, items: []}\n");
    lab.agent.wait(|_| !lab.table().contains("isolated by x/guard"));
}

#[test]
fn equal_size_and_time_hide_no_change() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let lab = Lab::new();
    let time = std::fs::metadata(lab.at(GUARD)).and_then(|metadata| metadata.modified()).expect("a time");
    lab.write(GUARD, &isolating("guarb", "b"));
    let file = std::fs::File::options().write(true).open(lab.at(GUARD)).expect("writable");
    file.set_modified(time).expect("a time");
    lab.agent.wait(|_| lab.table().contains("isolated by x/guarb"));
    assert!(!lab.table().contains("x/guard"), "{}", lab.table());
}

#[test]
fn a_named_pipe_holds_up_nothing() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let mut lab = Lab::new();
    make_pipe(&lab.at("x.yaml"));
    lab.agent.wait(|status| status["problems"][0].as_str().is_some_and(|problem| problem.contains("a named pipe")));
    lab.write("other.yaml", &isolating("other", "b"));
    lab.agent.wait(|_| lab.table().contains("isolated by x/other"));

    // A new agent on a node without rules starts with all that can be read.
    lab.agent.stop(Signal::SIGKILL);
    lab.node.command("nft", &["delete", "table", "inet", "netpol"]);
    lab.agent = AgentProcess::start(&binary("policy-agent"), &lab.node, &lab.manifests(), lab.folder.path(), &[]);
    lab.agent.wait(|status| status["is_in_force"] == true);
    assert!(lab.table().contains("isolated by x/other") && lab.table().contains("isolated by x/guard"), "{}", lab.table());
}
