//! Every command over every input of the examples and of the field, also over trees that nobody has rendered: no command fails in another way than
//! its documentation says, and they agree with each other.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

mod programs;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Pairs of each list that `can` is asked about.
const ASKED: usize = 8;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// The folders and files below a folder, as far as somebody would name them as input.
fn inputs_below(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let is_input = |path: &PathBuf| {
        path.is_dir()
            || path.extension().is_some_and(|ending| ["yaml", "yml", "json"].contains(&ending.to_string_lossy().as_ref()))
    };
    let below = |path: PathBuf| if path.is_dir() { inputs_below(&path) } else { Vec::new() };
    paths.into_iter().filter(is_input).flat_map(|path| [vec![path.clone()], below(path)].concat()).collect()
}

/// Runs a command on an input; it ends as documented, and what is not answered is said.
fn run(input: &Path, folders: &[PathBuf], arguments: &[&str]) -> Output {
    let path =
        std::env::join_paths(folders.iter().cloned().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())));
    let mut command = Command::new(env!("CARGO_BIN_EXE_netpol"));
    command.args(arguments).arg("-f").arg(input).env("PATH", path.expect("a path")).current_dir(root());
    let output = command.output().expect("netpol runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let shown = format!("{} {arguments:?}: {output:?}", input.display());
    assert!(!said.contains("panicked"), "{shown}");
    match output.status.code() {
        Some(0 | 1) => {}
        Some(2) => assert!(said.contains("error") || arguments[0] == "validate", "{shown}"),
        _ => panic!("{shown}"),
    }
    output
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The name of a workload of a list, as a question takes it.
fn name(peer: &Value) -> Option<String> {
    let text = |key: &str| peer[key].as_str();
    Some(format!("{}/{}/{}", text("namespace")?, text("kind")?.to_lowercase(), text("name")?))
}

/// One port that a row allows, as an argument.
fn port(row: &Value) -> Option<String> {
    let entry = row["allowed"].as_array()?.first()?;
    let first = entry["ports"].as_array()?.first()?.as_str()?;
    let number = first.split('-').next()?;
    Some(format!("{number}/{}", entry["protocol"].as_str()?))
}

#[test]
fn every_command_answers_on_every_input() {
    let Some(folders) = programs::folders() else { return };
    let tops = [root().join("examples"), root().join("policy-cli/tests/field")];
    let inputs: Vec<PathBuf> = tops.iter().flat_map(|top| [vec![top.clone()], inputs_below(top)].concat()).collect();
    let (mut answered, mut asked) = (0, 0);
    for input in &inputs {
        let of_validate = run(input, &folders, &["validate", "-o", "json"]);
        run(input, &folders, &["render", "--node", "n1"]);
        let listed = run(input, &folders, &["list", "-o", "json"]);
        for format in ["text", "dot", "mermaid", "matrix", "csv", "yaml", "jsonl"] {
            let output = run(input, &folders, &["list", "-o", format]);
            // Only a picture can be too large to draw.
            let is_picture = ["dot", "mermaid"].contains(&format);
            assert!(is_picture || output.status.code() == listed.status.code(), "{} {format}: {output:?}", input.display());
        }
        if listed.status.code() == Some(2) {
            continue;
        }
        answered += 1;
        // What can be listed can be checked.
        json(&of_validate);
        let list = json(&listed);
        let rows = list["connections"].as_array().expect("rows");
        let between = rows.iter().filter_map(|row| Some((name(&row["src"])?, name(&row["dst"])?, port(row)?)));
        for (from, to, port) in between.take(ASKED) {
            asked += 1;
            let can = run(input, &folders, &["can", &from, &to, "-p", &port, "-o", "json"]);
            let verdict = json(&can)["verdict"].as_str().unwrap_or_default().to_owned();
            assert!(
                ["allowed", "partly allowed", "partial"].contains(&verdict.as_str()),
                "{}: {from} {to} {port}: {verdict}",
                input.display()
            );
            for arguments in [["who", to.as_str(), "-o", "json"], ["reach", from.as_str(), "-o", "json"]] {
                let found = json(&run(input, &folders, &arguments));
                let has = |row: &Value| name(&row["src"]).as_ref() == Some(&from) && name(&row["dst"]).as_ref() == Some(&to);
                assert!(
                    found["connections"].as_array().is_some_and(|rows| rows.iter().any(has)),
                    "{}: {arguments:?}",
                    input.display()
                );
            }
        }
    }
    assert!(answered >= 50 && asked >= 150, "{answered} of {} inputs were answered, and {asked} pairs asked", inputs.len());
}
