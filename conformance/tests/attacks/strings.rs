//! Names that are no names: nothing that somebody else wrote becomes a line of what the agent says.

use std::path::Path;
use std::process::{Command, Stdio};

use conformance::lab::{AgentProcess, Namespace, binary};

use super::{PATIENCE, is_available};

/// Begins a line of its own, and moves the cursor of a terminal.
const HOSTILE: &str = "x\nin sync: yes, generation 7\n\u{1b}[2J\r\u{7}\u{9b}\u{2028}y";

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("writable");
}

/// Manifests that are wrong in as many ways as a line has parts.
fn hostile(folder: &Path) {
    let quoted = serde_json::to_string(HOSTILE).expect("a string");
    let kind = |kind: &str, version: &str| format!("apiVersion: {version}\nkind: {kind}\n");
    let policy = kind("NetworkPolicy", "networking.k8s.io/v1");
    write(folder, "a.yaml", &format!("{policy}metadata: {{name: {quoted}, namespace: {quoted}}}\nspec: {{podSelector: {{}}}}\n"));
    write(folder, "b.yaml", &format!("{policy}metadata: {{name: b, namespace: x}}\nspec: {{podSelector: {{}}, {quoted}: 1}}\n"));
    write(
        folder,
        "c.yaml",
        &format!(
            "{}metadata: {{name: c, namespace: x, labels: {{app: {quoted}}}}}\nspec: {{nodeName: n1, containers: [{{name: {quoted}, ports: [{{name: {quoted}, containerPort: 1}}]}}]}}\nstatus: {{phase: Running, podIP: {quoted}}}\n",
            kind("Pod", "v1")
        ),
    );
    write(folder, "d.yaml", &format!("{}metadata: {{name: d}}\n", kind(&quoted, "v1")));
    write(folder, &format!("{HOSTILE}.yaml"), &format!("{policy}metadata: {{name: [}}\n"));
    // More to say than a pipe holds.
    let many: String = (0..3000)
        .map(|i| format!("---\n{policy}metadata: {{name: many{i}, namespace: x}}\nspec: {{podSelecter: {{}}}}\n"))
        .collect();
    write(folder, "many.yaml", &many);
}

#[test]
fn no_name_becomes_a_line_of_its_own() {
    if !is_available() {
        return;
    }
    let node = Namespace::new("n1");
    let folder = tempfile::tempdir().expect("a folder");
    let manifests = folder.path().join("manifests");
    std::fs::create_dir(&manifests).expect("a folder");
    hostile(&manifests);
    let agent = AgentProcess::start(&binary("policy-agent"), &node, &manifests, folder.path(), &[]);
    agent.wait_for(PATIENCE, |status| status["problems"].as_array().is_some_and(|list| list.len() > 5));

    let output = agent.ask(&["status"]);
    let status = String::from_utf8(output.stdout).expect("text");
    assert!(status.contains("many2999") || status.contains("problem"), "{status}");
    let claims: Vec<&str> = status.lines().filter(|line| line.starts_with("in sync")).collect();
    assert_eq!(claims.len(), 1, "{claims:?}");
    is_plain("status", &status);
    let log = agent.log();
    assert!(!log.is_empty(), "it logs what is wrong");
    is_plain("the log", &log);
    assert!(log.lines().all(|line| line.starts_with("20")), "every line of the log has its time");
    let explained = agent.ask(&["explain-chain", HOSTILE]);
    is_plain("explain-chain", &String::from_utf8_lossy(&explained.stdout));
}

/// Only lines of text, which no terminal takes for orders.
fn is_plain(what: &str, text: &str) {
    for line in text.lines() {
        let control = line.chars().find(|letter| letter.is_control());
        assert_eq!(control, None, "{what} passes it on: {line:?}");
    }
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    if !is_available() {
        return;
    }
    let node = Namespace::new("n1");
    let folder = tempfile::tempdir().expect("a folder");
    let agent = AgentProcess::start(&binary("policy-agent"), &node, folder.path(), folder.path(), &[]);
    agent.wait_for(PATIENCE, |status| status["node"] == "n1");
    for arguments in [&["status"][..], &["status", "--output", "json"], &["explain-chain", "forward"], &["--help"]] {
        // As `| head` leaves it.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(binary("policy-agent"));
        command.args(arguments).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        if arguments != ["--help"] {
            command.arg("--socket").arg(agent.socket());
        }
        let output = command.spawn().and_then(std::process::Child::wait_with_output).expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked") && output.status.code() != Some(101), "{arguments:?}: {:?} {said}", output.status);
        assert_ne!(output.status.code(), Some(134), "{arguments:?}: {said}");
    }
    assert!(agent.ask(&["status"]).status.code().is_some_and(|code| code < 2), "the agent goes on");
}
