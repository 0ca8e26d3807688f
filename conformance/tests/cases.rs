//! Every case of `cases/`: engine, oracle and command line give the verdicts that the files say.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use conformance::case::{Case, Section, folder, is_questions, is_verdicts, latest, manifests, read_all, to_json};
use conformance::engine;
use conformance::lab::binary;
use conformance::oracle::{Oracle, Protocol};
use policy_core::compile::{Compiler, Options};
use policy_core::diagnostic::Kind;
use policy_core::graph::AllowGraph;
use policy_core::manifest::{Loader, Snapshot, Syntax};
use policy_core::model::Change;
use policy_core::sets::PortSet;
use policy_core::verdict::{Cause, Flow};
use serde_json::Value;

/// Rows of the specification that cannot be judged from manifests, and the test that judges them; or why none does.
const ELSEWHERE: [(&str, &str); 16] = [
    ("C115", "network_model.rs"),
    ("C116", "network_model.rs"),
    ("C117", "connections.rs"),
    ("C136", "no ClusterNetworkPolicy is read"),
    ("C148", "network_model.rs"),
    ("C150", "connections.rs"),
    ("C152", "connections.rs"),
    ("C153", "connections.rs"),
    ("C154", "connections.rs"),
    ("C155", "connections.rs"),
    ("C156", "pods that start need the CNI plugin"),
    ("C157", "pods that start need the CNI plugin"),
    ("C158", "pods that start need the CNI plugin"),
    ("C159", "agent.rs"),
    ("C160", "agent.rs"),
    ("C161", "connections.rs"),
];

fn place(case: &Case, section: &Section, row: &[String]) -> String {
    format!("{} [{}] {}", case.path.file_name().unwrap_or_default().to_string_lossy(), section.name, row.join(" "))
}

#[test]
fn every_row_has_a_case() {
    let covered: BTreeSet<String> = read_all(&folder()).into_iter().flat_map(|c| c.rows).collect();
    // The later rows that can be judged from manifests.
    for n in (1..=162).chain([260]).chain(305..=308) {
        let row = format!("C{n}");
        let elsewhere = ELSEWHERE.iter().any(|(r, _)| *r == row);
        assert_ne!(covered.contains(&row), elsewhere, "{row} must be either a case or judged elsewhere");
    }
    for (row, judge) in ELSEWHERE.iter().filter(|(_, judge)| judge.ends_with(".rs")) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(judge);
        let text = std::fs::read_to_string(&file).expect("the test is there");
        assert!(text.contains(row), "{judge} does not name {row}");
    }
}

#[test]
fn faults_are_those_of_the_table() {
    let mut count = 0;
    for case in read_all(&folder()) {
        for section in case.sections.iter().filter(|s| !is_verdicts(s) && !is_questions(s)) {
            let syntax = if section.options.contains("legacy") { Syntax::Legacy } else { Syntax::Strict };
            let mut loader = Loader::new(syntax);
            let (stored, text) = match section.yaml.split_once("---\n") {
                Some(parts) if section.options.contains("update") => parts,
                _ => ("", section.yaml.as_str()),
            };
            loader.read_stored(stored.as_bytes());
            loader.read("case.yaml", text.as_bytes());
            let mut snapshot = loader.finish();
            policy_lint::check(&mut snapshot);
            let found: Vec<Vec<String>> = snapshot
                .diagnostics
                .iter()
                .filter(|d| d.kind() != Kind::Assumed)
                .map(|d| vec![d.severity.to_string(), d.kind().to_string(), d.path.clone()])
                .collect();
            assert_eq!(found, section.table[1..], "{} [{}]", case.path.display(), section.name);
            for diagnostic in snapshot.diagnostics.iter().filter(|d| d.kind() != Kind::Assumed) {
                let at = diagnostic.position().expect("faults have places");
                assert!(at.line >= 1 && at.column >= 1 && section.yaml.lines().count() >= at.line as usize);
            }
            count += 1;
        }
    }
    assert!(count > 40, "only {count} sections with faults were found");
}

fn load(case: &Case, section: &Section) -> Snapshot {
    let is_invalid = section.options.contains("invalid");
    let syntax = if section.options.contains("legacy") { Syntax::Legacy } else { Syntax::Strict };
    let snapshot = engine::load_text(&manifests(section), syntax);
    assert_eq!(snapshot.has_errors(), is_invalid, "{} [{}]: {:?}", case.path.display(), section.name, snapshot.diagnostics);
    snapshot
}

/// `x/a` is the IPv4 address of that pod, `x/a@6` the IPv6 one, anything else is an address.
fn address(objects: &[Value], text: &str) -> IpAddr {
    if let Ok(address) = text.parse() {
        return address;
    }
    let (name, is_v6) = text.strip_suffix("@6").map_or((text, false), |name| (name, true));
    let (namespace, name) = name.split_once('/').unwrap_or_else(|| panic!("{text} is neither a pod nor an address"));
    let is_it = |o: &&Value| o["kind"] == "Pod" && o["metadata"]["namespace"] == namespace && o["metadata"]["name"] == name;
    let pod = objects.iter().find(is_it).unwrap_or_else(|| panic!("there is no pod {text}"));
    let many = pod["status"]["podIPs"].as_array().into_iter().flatten().filter_map(|ip| ip["ip"].as_str());
    let all = many.chain(pod["status"]["podIP"].as_str());
    all.filter_map(|a| a.parse::<IpAddr>().ok())
        .find(|a| a.is_ipv6() == is_v6)
        .unwrap_or_else(|| panic!("{text} has no such address"))
}

fn protocol(text: &str) -> Protocol {
    match text.split_once('/') {
        None => Protocol::Other,
        Some((name, port)) => {
            let name = ["TCP", "UDP", "SCTP"].into_iter().find(|t| *t == name).expect("a transport");
            Protocol::Port(name, port.parse().expect("a port"))
        }
    }
}

/// Checks one row of a table of verdicts against engine and oracle.
fn check(graph: &AllowGraph, oracle: &Oracle, objects: &[Value], row: &[String], place: &str) {
    let [from, to, port, verdict, why, policy] = row else { panic!("{place}: six cells") };
    let (source, destination) = (address(objects, from), address(objects, to));
    let question = protocol(port);
    let expected = match verdict.as_str() {
        "allow" => true,
        "deny" => false,
        other => panic!("{place}: {other} is no verdict"),
    };
    assert_eq!(oracle.is_allowed(source, destination, question), expected, "{place}: oracle");
    let flow = Flow { source, destination, protocol: engine::protocol(question) };
    let found = graph.verdict(&flow);
    assert_eq!(found.is_allowed(), expected, "{place}: engine {found:?}");

    let (a, b) = (graph.endpoint(source), graph.endpoint(destination));
    let asked = PortSet::of(engine::protocol(question));
    let [egress, ingress] = graph.explain(&a, &b, a.is_same_endpoint(&b), &asked, [from, to]);
    match why.as_str() {
        "not isolated" => {
            assert!(![found.egress, found.ingress].contains(&Cause::Allowed), "{place}: a rule was needed");
            assert_eq!(policy, "", "{place}: no policy decides");
        }
        "rule" => {
            let rules = egress.rules.iter().chain(&ingress.rules);
            let allowing: Vec<&str> = rules.filter(|r| !r.allows.is_empty()).map(|r| r.rule.policy.as_str()).collect();
            assert!(allowing.contains(&policy.as_str()), "{place}: allowed by {allowing:?}");
        }
        "quarantine" => {
            assert!([found.egress, found.ingress].contains(&Cause::Quarantined), "{place}: {found:?}");
            assert_eq!(policy, "", "{place}: no policy decides");
        }
        "egress" | "ingress" => {
            let (side, cause) = if why == "egress" { (&egress, found.egress) } else { (&ingress, found.ingress) };
            assert_eq!(cause, Cause::Denied, "{place}");
            let isolating: Vec<String> = side.policies.iter().map(|p| format!("{}/{}", p.namespace, p.name)).collect();
            assert!(isolating.contains(policy), "{place}: isolated by {isolating:?}");
            assert!(side.nearest_miss.is_some(), "{place}: a denial comes with an edit");
        }
        other => panic!("{place}: {other} is no reason"),
    }
}

#[test]
fn verdicts_are_those_of_the_table() {
    let mut count = 0;
    for case in read_all(&folder()) {
        // The sections are states of one cluster: what came before must leave nothing behind.
        let mut incremental = Compiler::new(Options::default());
        let mut before = Snapshot::default();
        for section in case.sections.iter().filter(|s| is_verdicts(s)) {
            let snapshot = load(&case, section);
            let objects = latest(to_json(&manifests(section)));
            let oracle = Oracle::new(objects.clone());
            let scratch = engine::compile(snapshot.changes());
            move_on(&mut incremental, &before, &snapshot);
            assert_eq!(incremental.graph().canonical(), scratch.canonical(), "{} [{}]", case.path.display(), section.name);
            for row in &section.table[1..] {
                check(&scratch, &oracle, &objects, row, &place(&case, section, row));
                count += 1;
            }
            before = snapshot;
        }
    }
    assert!(count > 500, "only {count} verdicts were found");
}

fn move_on(compiler: &mut Compiler, before: &Snapshot, after: &Snapshot) {
    for key in before.policies.keys().filter(|k| !after.policies.contains_key(*k)) {
        compiler.apply(Change::PolicyRemoved(key.clone()));
    }
    for key in before.pods.keys().filter(|k| !after.pods.contains_key(*k)) {
        compiler.apply(Change::PodRemoved(key.clone()));
    }
    for name in before.namespaces.keys().filter(|k| !after.namespaces.contains_key(*k)) {
        compiler.apply(Change::NamespaceRemoved(name.clone()));
    }
    after.changes().for_each(|change| compiler.apply(change));
    compiler.flush();
}

#[test]
fn command_line_agrees() {
    let netpol = binary("netpol");
    let folder_of_run = tempfile::tempdir().expect("a folder");
    for case in read_all(&folder()) {
        for section in case.sections.iter().filter(|s| is_verdicts(s)) {
            let manifest = folder_of_run.path().join("case.yaml");
            let text = manifests(section);
            std::fs::write(&manifest, &text).expect("written");
            let objects = latest(to_json(&text));
            for row in &section.table[1..] {
                let place = place(&case, section, row);
                let port = match row[2].split_once('/') {
                    Some((transport, port)) => format!("{port}/{transport}"),
                    None => "other".to_owned(),
                };
                let mut command = Command::new(&netpol);
                command.args(["can", "-o", "json", "-p", &port, "-f"]).arg(&manifest);
                command.arg(address(&objects, &row[0]).to_string()).arg(address(&objects, &row[1]).to_string());
                for (option, flag) in [("legacy", "--legacy-cidrs"), ("invalid", "--keep-going")] {
                    if section.options.contains(option) {
                        command.arg(flag);
                    }
                }
                let output = command.output().expect("netpol runs");
                let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{place}: {e}: {output:?}"));
                let (verdict, code) = if row[3] == "allow" { ("allowed", 0) } else { ("denied", 1) };
                assert_eq!(answer["verdict"], verdict, "{place}");
                let code = if section.options.contains("invalid") { 2 } else { code };
                assert_eq!(output.status.code(), Some(code), "{place}");
            }
        }
    }
}

/// Pods that are yet to be made have no address, so these questions name them.
#[test]
fn questions_by_name_are_answered_as_the_table_says() {
    let netpol = binary("netpol");
    let folder_of_run = tempfile::tempdir().expect("a folder");
    let mut count = 0;
    for case in read_all(&folder()) {
        for section in case.sections.iter().filter(|s| is_questions(s)) {
            let manifest = folder_of_run.path().join("case.yaml");
            std::fs::write(&manifest, manifests(section)).expect("written");
            for row in &section.table[1..] {
                let place = place(&case, section, row);
                let [question, verdict, caveat] = row.as_slice() else { panic!("{place}: three cells") };
                let words: Vec<&str> = question.split_whitespace().collect();
                let [from, to, port] = words[..] else { panic!("{place}: two ends and a port") };
                let mut command = Command::new(&netpol);
                let output = command.args(["can", "-o", "json", "-p", port, from, to, "-f"]).arg(&manifest).output();
                let output = output.expect("netpol runs");
                let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{place}: {e}: {output:?}"));
                assert_eq!(answer["verdict"], verdict.as_str(), "{place}");
                let caveats: Vec<&str> =
                    answer["caveats"].as_array().expect("caveats").iter().filter_map(Value::as_str).collect();
                let is_said = if caveat.is_empty() { caveats.is_empty() } else { caveats.iter().any(|c| c.contains(caveat)) };
                assert!(is_said, "{place}: {caveats:?}");
                count += 1;
            }
        }
    }
    assert!(count > 1, "only {count} questions were found");
}
