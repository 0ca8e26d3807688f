//! The suite of Kubernetes, unmodified.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{ChildStdout, Stdio};

use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::Result;
use crate::cluster::Cluster;
use crate::report::{Outcome, Run, Spec};
use crate::settings::{Settings, Wanted};

/// The specs about NetworkPolicies; this is in all their names.
const FOCUS: &str = "Netpol";
/// Specs that connections must be denied for: without enforcement, each of them fails. Few, because each waits for a minute.
const CONTROL: &str = "Netpol NetworkPolicy between server and client should (support a 'default-deny-all' policy|enforce policy based on Ports|deny egress from all pods in a namespace|enforce updated policy)";
/// The specs that listen on SCTP.
const SCTP: &str = "SCTPConnectivity";

/// Runs the specs that are asked for.
pub(crate) fn run(settings: &Settings, cluster: &Cluster) -> Result<Run> {
    let reports = cluster.folder.join("report");
    std::fs::create_dir_all(&reports)?;
    let default = if settings.wanted == Wanted::Control { CONTROL } else { FOCUS };
    let focus = settings.focus.as_deref().unwrap_or(default);
    let mut ginkgo = cluster.command(&cluster.programs.cluster.join("ginkgo"));
    ginkgo.args(["run", "--no-color", "--silence-skips", "--timeout=60m", &format!("--procs={}", settings.procs)]);
    ginkgo.args(["--focus", focus]);
    let impossible = if has_sctp() { None } else { Some("this kernel has no SCTP sockets, and pods must listen on one") };
    if impossible.is_some() {
        ginkgo.args(["--skip", SCTP]);
    }
    ginkgo.args(["--json-report=suite.json", "--junit-report=junit.xml"]).arg(format!("--output-dir={}", reports.display()));
    ginkgo.arg(cluster.programs.cluster.join("e2e.test")).args(["--", "--provider=skeleton", "--dump-logs-on-failure=false"]);
    ginkgo.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let log = cluster.folder.join("suite.log");
    cluster.watch(ginkgo, &log, &show_progress)?;
    let text = std::fs::read_to_string(reports.join("suite.json"))
        .map_err(|_| format!("the suite has made no report; see {}", log.display()))?;
    let specs = specs(&serde_json::from_str(&text)?, impossible);
    Ok(Run { cluster: cluster.name.clone(), specs, report: reports.join("junit.xml") })
}

/// Writes what the suite prints to its log, and a dot to the terminal for each spec that has ended.
fn show_progress(mut from: ChildStdout, log: &Path) -> std::io::Result<()> {
    let (mut log, mut buffer) = (std::fs::File::create(log)?, [0; 4096]);
    loop {
        let count = from.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        log.write_all(bytes)?;
        // The suite marks them with a bullet, which has three bytes; the first one is in no other character that it prints.
        let ended = bytes.iter().filter(|byte| **byte == 0xe2).count();
        print!("{}", ".".repeat(ended));
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}

/// Whether pods can listen on SCTP.
fn has_sctp() -> bool {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(132))).is_ok()
}

/// The specs of a report of ginkgo that ran, and those that cannot run here.
fn specs(report: &Value, impossible: Option<&'static str>) -> Vec<Spec> {
    let suites = report.as_array().into_iter().flatten();
    let reports = suites.flat_map(|suite| suite.get("SpecReports").and_then(Value::as_array).into_iter().flatten());
    reports.filter_map(|report| spec(report, impossible)).collect()
}

fn spec(report: &Value, impossible: Option<&'static str>) -> Option<Spec> {
    let text = |key: &str| report.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("LeafNodeType") != "It" {
        return None;
    }
    let containers = report.get("ContainerHierarchyTexts").and_then(Value::as_array).into_iter().flatten();
    let name = containers.filter_map(Value::as_str).chain([text("LeafNodeText")]).collect::<Vec<_>>().join(" ");
    let message = report.get("Failure").and_then(|failure| failure.get("Message")).and_then(Value::as_str);
    let outcome = match text("State") {
        "passed" => Outcome::Passed,
        "skipped" | "pending" if name.contains(FOCUS) && name.contains(SCTP) => Outcome::Impossible(impossible?.to_owned()),
        "skipped" | "pending" => return None,
        state => Outcome::Failed(format!("{state}: {}", message.unwrap_or_default().lines().next().unwrap_or_default())),
    };
    Some(Spec { name, outcome })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn specs_are_passed_failed_or_impossible() {
        let spec = |name: &str, state: &str| json!({"LeafNodeType": "It", "ContainerHierarchyTexts": ["[sig-network] Netpol", "a"], "LeafNodeText": name, "State": state, "Failure": {"Message": "two\nlines"}});
        let report = json!([{"SpecReports": [
            spec("allows", "passed"), spec("denies", "failed"), spec("listens [Feature:SCTPConnectivity]", "skipped"), spec("other", "skipped"),
            {"LeafNodeType": "BeforeSuite", "State": "passed"},
        ]}]);
        let found = specs(&report, Some("no sockets"));
        let outcomes: Vec<&Outcome> = found.iter().map(|spec| &spec.outcome).collect();
        assert_eq!(
            outcomes,
            [&Outcome::Passed, &Outcome::Failed("failed: two".to_owned()), &Outcome::Impossible("no sockets".to_owned())]
        );
        assert_eq!(found[0].name, "[sig-network] Netpol a allows");
    }
}
