//! The plugin's binary and the agent's: what no pod may start with, and what anybody who may write to the socket cannot do.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a failing check panics")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use conformance::lab::{self, AgentProcess, Fabric, Namespace, binary, fixture};
use serde_json::{Value, json};

const TOOLS: [&str; 2] = ["ip", "nft"];
/// An address that no pod of the fixture has.
const NEW: &str = "10.244.1.77";

/// An agent of node n1 that enforces the fixture, with its files in a folder.
fn start(node: &Namespace, folder: &Path) -> AgentProcess {
    let manifests = folder.join("manifests");
    std::fs::create_dir(&manifests).expect("a folder");
    std::fs::write(manifests.join("fixture.yaml"), fixture::manifests()).expect("writable");
    let agent = AgentProcess::start(&binary("policy-agent"), node, &manifests, folder, &[]);
    agent.wait_in_sync();
    agent
}

/// Runs the plugin as a runtime would; its code, or `None` if it is content.
fn plugin(program: &Path, node: &Namespace, socket: &Path, command: &str, previous: &str) -> Option<u64> {
    let input = format!(
        r#"{{"cniVersion":"1.0.0","name":"n","type":"netpol-cni","socket":"{}","prevResult":{previous}}}"#,
        socket.display()
    );
    let mut process = Command::new(program);
    process.env_clear().env("CNI_COMMAND", command).env("CNI_CONTAINERID", "c1").env("CNI_NETNS", "/x").env("CNI_IFNAME", "eth0");
    process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let output = node.run(move || {
        let mut child = process.spawn().expect("the plugin starts");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("the plugin reads");
        child.wait_with_output().expect("it ends")
    });
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let code = said["code"].as_u64();
    assert_eq!(code.is_none(), output.status.success(), "{previous}: {output:?}");
    code
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// S6.6: what is not known to be an address of the pod's own cannot be isolated.
#[test]
fn no_pod_starts_without_an_address_of_its_own() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let network = fixture::network(Fabric::Routed);
    let folder = tempfile::tempdir().expect("a folder");
    let node = network.node("n1");
    let agent = start(node, folder.path());
    let program = binary("netpol-cni");
    let of = |address: &str| format!(r#"{{"ips":[{{"address":"{address}"}}]}}"#);
    let records = folder.path().join("sandboxes");
    let refused = [
        (6, "[]".to_owned()),
        (7, "{}".to_owned()),
        (7, r#"{"ips":[]}"#.to_owned()),
        (7, r#"{"ip4":{"ip":"10.244.1.77/32"}}"#.to_owned()),
        (7, r#"{"interfaces":[{"name":"v"}],"ips":[{"address":"10.244.1.77/32","interface":0}]}"#.to_owned()),
        (7, r#"{"interfaces":[{"name":"v"}],"ips":[{"address":"10.244.1.77/32","interface":99}]}"#.to_owned()),
        (6, r#"{"ips":[{"address":"10.244.1.77/32","interface":-1}]}"#.to_owned()),
        (6, of("10.244.1.77/99;x")),
        (6, of("")),
        (6, of("fe80::1%eth0/64")),
        (7, of("::ffff:10.244.1.77/128")),
        (7, of("0.0.0.0/0")),
        // The node's own.
        (7, of("192.0.2.1/24")),
    ];
    for (code, previous) in refused {
        assert_eq!(plugin(&program, node, agent.socket(), "ADD", &previous), Some(code), "{previous}");
        assert!(names(&records).is_empty(), "{previous}: {:?}", names(&records));
    }
    // One that is good, to see that it is not refused for another reason.
    assert_eq!(plugin(&program, node, agent.socket(), "ADD", &of(&format!("{NEW}/32"))), None);
    assert_eq!(names(&records), BTreeSet::from(["c1:eth0.json".to_owned()]));
    let table = node.command("nft", &["list", "table", "inet", "netpol"]);
    assert!(table.contains(NEW), "it is not in quarantine: {table}");
    assert_eq!(plugin(&program, node, agent.socket(), "DEL", "{}"), None);
    assert!(names(&records).is_empty());
}

/// Every process of root may write to the socket.
#[test]
fn the_agent_checks_what_it_reads_from_its_socket() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let network = fixture::network(Fabric::Routed);
    let folder = tempfile::tempdir().expect("a folder");
    let agent = start(network.node("n1"), folder.path());
    let before = names(folder.path());
    let ask = |question: Value| -> Value {
        let mut stream = UnixStream::connect(agent.socket()).expect("it listens");
        stream.write_all(format!("{question}\n").as_bytes()).expect("it reads");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).expect("JSON")
    };
    let victim = folder.path().join("victim:eth0.json");
    std::fs::write(&victim, "something").expect("writable");
    let attachment = json!({"container": "../victim", "interface": "eth0"});
    let add = json!({"attachment": attachment, "pod": null, "addresses": [NEW]});
    for version in [1, 2] {
        for task in [json!({"add": add}), json!({"del": attachment}), json!({"check": attachment}), json!({"gc": [attachment]})] {
            let answer = ask(json!({"version": version, "task": task}));
            let refusal = if version == 1 { &answer["refusal"] } else { &answer["result"]["refused"] };
            assert_eq!(refusal["code"], 6, "{task}: {answer}");
        }
    }
    assert_eq!(std::fs::read_to_string(&victim).expect("it is there"), "something");
    std::fs::remove_file(&victim).expect("it is there");
    assert_eq!(names(folder.path()), before);
    assert_eq!(names(&folder.path().join("sandboxes")), BTreeSet::new());
}

/// What is in the folder of records is not always a record.
#[test]
fn the_agent_starts_whatever_is_in_its_folder() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let network = fixture::network(Fabric::Routed);
    let folder = tempfile::tempdir().expect("a folder");
    let records: PathBuf = folder.path().join("sandboxes");
    std::fs::create_dir_all(records.join("folder:eth0.json")).expect("a folder");
    let made = Command::new("mkfifo").arg(records.join("fifo:eth0.json")).status().expect("mkfifo runs");
    assert!(made.success());
    std::os::unix::fs::symlink("/dev/zero", records.join("zero:eth0.json")).expect("a link");
    std::fs::write(records.join("torn:eth0.json"), "{\"attachment\":{\"contai").expect("writable");
    std::fs::write(records.join(".x.new"), "{").expect("writable");
    let node = network.node("n1");
    let program = binary("netpol-cni");
    let agent = start(node, folder.path());
    assert!(!names(&records).contains(".x.new"));
    let previous = format!(r#"{{"ips":[{{"address":"{NEW}/32"}}]}}"#);
    assert_eq!(plugin(&program, node, agent.socket(), "ADD", &previous), None);
}
