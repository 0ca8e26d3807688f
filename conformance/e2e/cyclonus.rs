//! The generated cases of cyclonus.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdout, Stdio};

use serde_json::Value;

use crate::Result;
use crate::cluster::Cluster;
use crate::report::{Outcome, Run, Spec};
use crate::settings::Settings;

/// What is connected to, and over which family of addresses.
const WAYS: [[&str; 2]; 4] = [["pod-ip", "ipv4"], ["service-ip", "ipv4"], ["pod-ip", "ipv6"], ["service-ip", "ipv6"]];
/// The namespaces that cyclonus makes. Those of one way are not those of another.
const NAMESPACES: [&str; 3] = ["x", "y", "z"];

/// Runs all cases, or those whose numbers are asked for, in every way.
pub(crate) fn run(settings: &Settings, cluster: &Cluster) -> Result<Vec<Run>> {
    WAYS.into_iter().map(|way| run_in(settings, cluster, way)).collect()
}

fn run_in(settings: &Settings, cluster: &Cluster, [mode, family]: [&str; 2]) -> Result<Run> {
    let reports = cluster.folder.join("report");
    std::fs::create_dir_all(&reports)?;
    let name = format!("cyclonus-{mode}-{family}");
    println!("cyclonus, {mode}, {family}");
    cluster.kubectl(&[&["delete", "namespace", "--ignore-not-found", "--wait"], &NAMESPACES[..]].concat())?;
    let mut command = cluster.command(&cluster.programs.cyclonus.join("cyclonus"));
    command.args(["-mode", mode, "-family", family]);
    if let Some(numbers) = &settings.focus {
        command.args(["-only", numbers]);
    }
    let log = File::create(cluster.folder.join(format!("{name}.log")))?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let lines = reports.join(format!("{name}.jsonl"));
    cluster.watch(command, &lines, &show_progress)?;
    let text = std::fs::read_to_string(&lines)?;
    let specs: Vec<Spec> = text.lines().map(|line| Ok(spec(&serde_json::from_str(line)?))).collect::<Result<_>>()?;
    if specs.is_empty() {
        return Err(format!("cyclonus has run no case; see {}", cluster.folder.join(format!("{name}.log")).display()).into());
    }
    Ok(Run { cluster: format!("{}, {mode}, {family}", cluster.name), specs, report: lines })
}

/// Keeps the lines, and prints a dot for each.
fn show_progress(from: ChildStdout, log: &Path) -> std::io::Result<()> {
    let mut log = File::create(log)?;
    for line in BufReader::new(from).lines() {
        writeln!(log, "{}", line?)?;
        print!(".");
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}

fn spec(case: &Value) -> Spec {
    let text = |key: &str| case.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = case.get("number").and_then(Value::as_u64).unwrap_or_default();
    let is_passed = case.get("passed").and_then(Value::as_bool).unwrap_or_default();
    let outcome = match text("impossible") {
        why if !why.is_empty() => Outcome::Impossible(why),
        _ if is_passed => Outcome::Passed,
        _ => Outcome::Failed(text("message")),
    };
    Spec { name: format!("case {number}: {}", text("name")), outcome }
}
