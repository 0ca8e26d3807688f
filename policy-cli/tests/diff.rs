//! `netpol diff`: what two inputs allow differently, and what is the cause.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a failing check panics")]

#[path = "common/folders.rs"]
mod folders;

use std::path::Path;
use std::process::{Command, Output};

use folders::{ends_with, fakes, json, text, tree, with};
use serde_json::Value;

/// Workloads of a namespace, each with its label `app`.
fn workloads(namespace: &str, names: &[&str]) -> String {
    let one = |name: &&str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec: {{containers: [{{name: c, image: i}}]}}\n---\n"
        )
    };
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n---\n");
    namespace + &names.iter().map(one).collect::<String>()
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n---\n"
    )
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let path = std::env::var("PATH").unwrap_or_default();
    with(Path::new(&path), folder, &[&["diff"], arguments].concat())
}

/// What changes, as `+ source destination ports`; workloads by name.
fn changes(output: &Output) -> Vec<String> {
    let all = json(output);
    let end = |end: &Value| match &end["name"] {
        Value::String(name) => name.clone(),
        _ => end["cidrs"]
            .as_array()
            .expect("blocks")
            .iter()
            .map(|cidr| cidr.as_str().expect("a block"))
            .collect::<Vec<_>>()
            .join(" "),
    };
    let ports = |ports: &Value| -> String {
        let list = ports.as_array().map(Vec::as_slice).unwrap_or_default();
        let one = |entry: &Value| {
            format!(
                "{}{}",
                entry["protocol"].as_str().unwrap_or_default(),
                entry["ports"].as_str().map_or_else(|| entry["ports"].to_string(), str::to_owned)
            )
        };
        list.iter().map(one).collect::<Vec<_>>().join(" ")
    };
    let line = |change: &Value| {
        let sign = if change["change"] == "added" { '+' } else { '-' };
        let partly = ports(&change["partly"]);
        let partly = if partly.is_empty() { String::new() } else { format!(" ({partly})") };
        format!("{sign} {} {} {}{partly}", end(&change["src"]), end(&change["dst"]), ports(&change["allowed"]))
    };
    all["changes"].as_array().expect("a list").iter().map(line).collect()
}

#[test]
fn changes_have_their_causes() {
    let base = workloads("shop", &["api", "db", "web"]);
    let before = base.clone()
        + &policy(
            "db",
            "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 5432}]}]}",
        );
    let after = before.replace("app: api}}}]", "app: web}}}]").replace("5432", "5433");
    let tree = tree(&[("a/in.yaml", &before), ("b/in.yaml", &after)]);
    let output = run(tree.path(), &["a", "b"]);
    ends_with(
        &output,
        1,
        &[
            "allowed now\n  NetworkPolicy shop/db (b/in.yaml:",
            "ingress[0] changed",
            "+ shop/web (Deployment) → shop/db (Deployment)  TCP 5433",
            "- shop/api (Deployment) → shop/db (Deployment)  TCP 5432",
            "1 connection added, 1 removed",
        ],
    );
    for (fail_on, swapped, code) in [("added", 1, 1), ("removed", 1, 1), ("any", 1, 1), ("none", 0, 0)] {
        assert_eq!(run(tree.path(), &["a", "b", "--fail-on", fail_on]).status.code(), Some(code), "{fail_on}");
        assert_eq!(run(tree.path(), &["b", "a", "--fail-on", fail_on]).status.code(), Some(swapped), "{fail_on}");
        assert_eq!(run(tree.path(), &["a", "a", "--fail-on", fail_on]).status.code(), Some(0), "{fail_on}");
    }
    let markdown = text(&run(tree.path(), &["a", "b", "-o", "markdown"]));
    assert!(markdown.contains("| ➕ | shop/web (Deployment) | shop/db (Deployment) | TCP 5433 |"), "{markdown}");
    let all = json(&run(tree.path(), &["a", "b", "-o", "json"]));
    assert_eq!(
        (&all["added"], &all["removed"], &all["edits"][0]["what"][0]),
        (&1.into(), &1.into(), &"ingress[0] changed".into()),
        "{all}"
    );
}

#[test]
fn rewritten_policies_change_nothing() {
    let base = workloads("shop", &["api", "db"]);
    let rule = |name: &str| format!("{{from: [{{podSelector: {{matchLabels: {{app: {name}}}}}}}], ports: [{{port: 1}}]}}");
    let before = base.clone()
        + &policy("db", &format!("{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{}, {}]}}", rule("api"), rule("db")));
    let after = base
        + &policy("two", "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {}}], ports: [{port: 1}]}]}");
    let tree = tree(&[("a.yaml", &before), ("b.yaml", &after)]);
    ends_with(&run(tree.path(), &["a.yaml", "b.yaml"]), 0, &["no connection changes: 2 policies were rewritten"]);
}

#[test]
fn outside_is_compared_on_common_ranges() {
    let base = workloads("shop", &["web"]);
    let with = |blocks: &str| {
        base.clone() + &policy("web", &format!("{{podSelector: {{}}, ingress: [{{from: [{blocks}], ports: [{{port: 80}}]}}]}}"))
    };
    let before = with("{ipBlock: {cidr: 192.0.2.0/24}}, {ipBlock: {cidr: 198.51.100.0/25}}");
    let after = with("{ipBlock: {cidr: 192.0.2.0/25}}, {ipBlock: {cidr: 198.51.100.0/24}}");
    let tree = tree(&[("a.yaml", &before), ("b.yaml", &after)]);
    let found = changes(&run(tree.path(), &["a.yaml", "b.yaml", "-o", "json"]));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("+ 198.51.100.128/25 web TCP") && found[1].starts_with("- 192.0.2.128/25 web TCP"), "{found:?}");
}

#[test]
fn workloads_that_come_and_go_are_told_apart() {
    let tree = tree(&[("a.yaml", &workloads("shop", &["old", "web"])), ("b.yaml", &workloads("shop", &["new", "web"]))]);
    let output = run(tree.path(), &["a.yaml", "b.yaml"]);
    ends_with(
        &output,
        1,
        &[
            "allowed for workloads that were added",
            "no longer allowed, because workloads were removed",
            "workloads added: shop/new (Deployment)",
            "1 workload added, 1 workload removed",
        ],
    );
    assert!(!text(&output).contains("allowed now"), "{}", text(&output));
    let relabelled = workloads("shop", &["old", "web"]).replace("app: old", "app: other");
    std::fs::write(tree.path().join("b.yaml"), relabelled + &policy("deny", "{podSelector: {matchLabels: {app: other}}}"))
        .expect("written");
    let all = json(&run(tree.path(), &["a.yaml", "b.yaml", "-o", "json"]));
    let edits = all["edits"].to_string();
    assert!(edits.contains("label app: old → other") && edits.contains("NetworkPolicy shop/deny"), "{edits}");
}

#[test]
fn revisions_leave_the_checkout_alone() {
    let before = workloads("shop", &["api", "db"]);
    let tree = tree(&[("k8s/in.yaml", &before), ("other.txt", "1")]);
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=n", "-c", "user.email=e@example.com"]).args(arguments).current_dir(tree.path());
        let output = command.output().expect("git runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    // What an archive leaves out is compared too.
    std::fs::write(tree.path().join(".gitattributes"), "k8s export-ignore\n").expect("written");
    std::fs::write(tree.path().join("k8s/deny.yaml"), policy("deny", "{podSelector: {matchLabels: {app: db}}}"))
        .expect("written");
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "two"]);
    std::fs::write(tree.path().join("other.txt"), "staged").expect("written");
    git(&["add", "."]);
    let status = git(&["status", "--porcelain"]);
    let denied =
        ["denied now", "NetworkPolicy shop/deny (k8s/deny.yaml:1): added", "shop/api (Deployment) → shop/db (Deployment)"];
    ends_with(&run(tree.path(), &["--git", "HEAD~1..HEAD", "k8s"]), 1, &denied);
    ends_with(&run(&tree.path().join("k8s"), &["--git", "HEAD~1", "."]), 1, &["NetworkPolicy shop/deny (deny.yaml:1): added"]);
    ends_with(&run(tree.path(), &["--git", "HEAD~1..", "-f", "k8s/deny.yaml"]), 0, &["`k8s/deny.yaml` is not in HEAD~1"]);
    ends_with(&run(tree.path(), &["--git", "nothing..HEAD", "k8s"]), 2, &["there is no revision `nothing`"]);
    assert_eq!(git(&["status", "--porcelain"]), status);
    let none = fakes(&[]);
    ends_with(&with(none.path(), tree.path(), &["diff", "--git", "HEAD"]), 2, &["cannot run git"]);
    ends_with(&run(tree.path(), &["k8s"]), 2, &["name two inputs"]);
}
