//! The commands of the agent in READMEs and in the manual do what the text describes, and the documented commands and settings are
//! those of the program.

#![expect(clippy::expect_used, clippy::panic, reason = "a failing check panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use conformance::lab::{self, FakeApi, Namespace, binary};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn help() -> String {
    text(&Command::new(binary("policy-agent")).arg("--help").output().expect("it runs"))
}

/// The Markdown files of a folder and of those in it.
fn pages_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let below = |path: PathBuf| if path.is_dir() { pages_below(&path) } else { vec![path] };
    paths.into_iter().flat_map(below).filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// Every command about the agent in the blocks of READMEs and of the book, and in the examples of `--help`, without their comments.
fn commands(help: &str) -> BTreeSet<String> {
    let blocks = |text: String| -> Vec<String> {
        text.split("\n```").skip(1).step_by(2).flat_map(str::lines).map(|l| l.trim_start_matches("$ ").to_owned()).collect()
    };
    let mut lines = blocks(read("policy-agent/README.md"));
    lines.extend(blocks(read("README.md")));
    let pages = pages_below(&root().join("docs/src"));
    assert!(pages.len() > 10, "{pages:?}");
    lines.extend(pages.iter().flat_map(|page| blocks(std::fs::read_to_string(page).expect("readable"))));
    let examples = help.split("Examples:\n").nth(1).expect("examples").lines();
    lines.extend(examples.take_while(|line| line.starts_with("  ")).map(|line| line.trim().to_owned()));
    let end = |line: &str| line.split("  ").next().unwrap_or_default().trim().to_owned();
    lines.iter().filter(|l| l.starts_with("policy-agent") || l.starts_with("nft ")).map(|l| end(l)).collect()
}

/// A machine that a reader might have: `/etc`, `/run` and `/opt` are its own, as the network is.
struct Machine {
    node: Namespace,
    keeper: Child,
    path: String,
}

/// What is in its folders at the beginning.
const FILES: &str = "set -e
[ ! -d /etc/ssl ] || cp -a /etc/ssl \"$3/ssl\"
for folder in /run /etc /opt; do mount -t tmpfs none $folder; done
mkdir -p /run/netpol /etc/netpol /etc/cni/net.d /opt/cni/bin
echo '{\"cniVersion\": \"1.0.0\", \"name\": \"lab\", \"plugins\": [{\"type\": \"ptp\"}]}' > /etc/cni/net.d/10-lab.conflist
[ ! -d \"$3/ssl\" ] || cp -a \"$3/ssl\" /etc/
cp \"$1\" /etc/netpol/; cp \"$2\" /etc/k8s.conf
echo ready; exec sleep infinity";

/// A pod of the node and a policy about it.
fn objects() -> [serde_json::Value; 3] {
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0", "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}, "status": {"phase": "Running", "podIP": "10.244.1.1"}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": [{"port": 80}]}]}}),
    ]
}

impl Machine {
    fn new(folder: &Path) -> (Self, FakeApi) {
        let node = Namespace::new("n1");
        let api = FakeApi::start(&node, folder);
        let manifests = folder.join("shop.json");
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects()});
        std::fs::write(&manifests, list.to_string()).expect("writable");
        objects().into_iter().for_each(|object| api.set(object));
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "sh", "-c", FILES, "sh"]);
        command.arg(&manifests).arg(api.kubeconfig()).arg(folder).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut keeper = node.run(move || command.spawn().expect("unshare runs"));
        let mut ready = [0; 5];
        std::io::Read::read_exact(keeper.stdout.as_mut().expect("piped"), &mut ready).expect("its folders are made");
        let programs = binary("policy-agent").parent().expect("a folder").to_owned();
        let path = format!("{}:/usr/sbin:/sbin:/usr/bin:/bin", programs.display());
        (Self { node, keeper, path }, api)
    }

    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("setpriv");
        let keeper = self.keeper.id().to_string();
        command.args([
            "--pdeathsig",
            "KILL",
            "nsenter",
            "--target",
            &keeper,
            "--mount",
            "--",
            "sh",
            "-c",
            &format!("exec {line}"),
        ]);
        command.env("PATH", &self.path).env("KUBECONFIG", "/etc/k8s.conf").stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Output {
        let mut command = self.shell(line);
        self.node.run(move || command.output().expect("a shell"))
    }

    /// The output of a command that does what was asked.
    fn good(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", text(&output));
        text(&output)
    }

    /// Something that runs until it is stopped.
    fn start(&self, line: &str) -> Running {
        let mut command = self.shell(line);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Running(self.node.run(move || command.spawn().expect("a shell")))
    }

    /// Waits until the agent says that it is in sync.
    fn wait_in_sync(&self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.run("policy-agent status").status.success() {
            let status = text(&self.run("policy-agent status"));
            assert!(Instant::now() < deadline, "{line}: {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

struct Running(Child);

impl Running {
    /// Whether it goes on.
    fn is_there(&mut self) -> bool {
        self.0.try_wait().expect("a child").is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_is_shown_can_be_done() {
    if !lab::is_available(&["ip", "nft", "nsenter", "unshare", "setpriv"]) {
        return;
    }
    let mut lines = commands(&help());
    assert!(lines.len() > 7, "{lines:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let (machine, _api) = Machine::new(folder.path());

    // Each way to start it, and last the one that stays.
    let starts: Vec<String> = lines.iter().filter(|line| line.starts_with("policy-agent --")).cloned().collect();
    let mut agent = None;
    assert!(starts.iter().any(|line| line.contains("--manifests")), "{starts:?}");
    for line in &starts {
        drop(agent.take());
        let mut running = machine.start(line);
        machine.wait_in_sync(line);
        assert!(running.is_there(), "{line}");
        agent = Some(running);
        lines.remove(line);
    }

    let mut take = |line: &str| assert!(lines.remove(line), "`{line}` is shown nowhere: {lines:?}");
    take("policy-agent status");
    assert!(machine.good("policy-agent status").starts_with("in sync: yes"));
    take("nft list table inet netpol");
    let table = machine.good("nft list table inet netpol");
    assert!(table.contains("comment"), "{table}");
    let chain = table.lines().find_map(|line| line.trim().strip_prefix("chain in-shop/web")?.strip_suffix(" {"));
    let chain = chain.unwrap_or_else(|| panic!("no chain is named as shown: {table}"));
    take("policy-agent explain-chain in-shop/web-k3j2h1g4f5d6");
    let explained = machine.good(&format!("policy-agent explain-chain in-shop/web{chain}"));
    assert!(explained.contains("shop/web"), "{explained}");
    let configuration = || machine.good("cat /etc/cni/net.d/10-lab.conflist");
    let before = configuration();
    take("policy-agent install-cni");
    machine.good("policy-agent install-cni");
    assert!(configuration().contains("netpol-cni"), "{}", configuration());
    take("policy-agent uninstall-cni");
    machine.good("policy-agent uninstall-cni");
    assert_eq!(configuration(), before);
    take("policy-agent report");
    let mut reporter = machine.start("policy-agent report");
    let mut said = String::new();
    let mut log = std::io::BufReader::new(reporter.0.stderr.take().expect("piped"));
    std::io::BufRead::read_line(&mut log, &mut said).expect("it logs");
    assert!(said.contains("reporting") && reporter.is_there(), "{said}");

    drop(agent);
    take("policy-agent cleanup");
    let removed = machine.good("policy-agent cleanup");
    assert!(removed.contains("removed"), "{removed}");
    assert_eq!(machine.good("nft list tables"), "");
    assert!(lines.is_empty(), "nobody tries {lines:?}");
}

/// Flags of `--help` with their variables and their descriptions.
fn settings(help: &str) -> BTreeMap<String, (String, String)> {
    let options = help.split("\nOptions:\n").nth(1).expect("options").split("\nExamples:").next().expect("a part");
    let entries = options.split("\n      --").filter_map(|entry| entry.trim_start_matches([' ', '-']).split_once(' '));
    let setting = |(flag, rest): (&str, &str)| {
        let variable = rest.split("[env: ").nth(1)?.split('=').next()?;
        let words = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        Some((format!("--{flag}"), (variable.to_owned(), words)))
    };
    entries.filter_map(setting).collect()
}

#[test]
fn settings_are_those_of_the_documentation() {
    let settings = settings(&help());
    let page = read("docs/src/reference/settings.md");
    let mut documented = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with("| `--")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [flag, variable, default] = cells[..] else { panic!("{line}") };
        let (flag, variable) = (flag.trim_matches('`'), variable.trim_matches('`'));
        let Some((known, words)) = settings.get(flag) else { panic!("there is no {flag}") };
        assert_eq!(variable, known, "{flag}");
        // A value, not a description.
        let value = default.strip_prefix('`').and_then(|rest| rest.split('`').next());
        let value = value.or_else(|| default.split(' ').next().filter(|word| word.parse::<u32>().is_ok()));
        let value = value.map(|value| format!("[default: {value}]"));
        assert!(value.as_ref().is_none_or(|value| words.contains(value)), "{flag}: {default}, and `--help` says: {words}");
        documented.insert(flag.to_owned());
    }
    assert!(documented.len() > 10, "{documented:?}");
    assert_eq!(documented, settings.into_keys().collect(), "settings that are documented, and those that there are");
}

/// The page of the manual with the help of every command.
const REFERENCE: &str = "docs/src/reference/policy-agent.md";

/// The help of the agent, or of one of its commands, as it is without settings in the environment.
fn help_of(command: &str) -> String {
    let mut run = Command::new(binary("policy-agent"));
    run.args(command.split_whitespace()).arg("--help");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NETPOL_")) {
        run.env_remove(name);
    }
    let output = run.env_remove("POD_NAME").output().expect("it runs");
    let lines: Vec<String> = text(&output).lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n").trim().to_owned()
}

/// The names in the list of commands.
fn subcommands(help: &str) -> Vec<String> {
    let list = help.split("\nCommands:\n").nth(1).expect("commands").lines().take_while(|line| !line.is_empty());
    let named = list.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    named.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

/// `WRITE_REFERENCE=1` writes the page (`make reference`).
#[test]
fn the_reference_is_the_help_of_every_command() {
    let main = help_of("");
    let names = subcommands(&main);
    assert!(names.len() >= 6, "{names:?}: {main}");
    let mut page = format!("<!-- Generated by `make reference`. Do not edit. -->\n\n# policy-agent\n\n```text\n{main}\n```\n");
    for name in names {
        page += &format!("\n## policy-agent {name}\n\n```text\n{}\n```\n", help_of(&name));
    }
    if std::env::var_os("WRITE_REFERENCE").is_some() {
        std::fs::write(root().join(REFERENCE), &page).expect("writable");
    }
    assert!(read(REFERENCE) == page, "{REFERENCE} is out of date; run `make reference`");
}
