//! `netpol lint`: which rules are checked, what is accepted, what fails, and what is corrected.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a failing check panics")]

#[path = "common/folders.rs"]
mod folders;

use std::path::Path;

use folders::{ends_with, fakes, json, tree, with};

/// Three workloads, and a policy with two mistakes and a rule that is superfluous.
const SHOP: &str = "apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: i}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec: {containers: [{name: c, image: i}]}
---
# Who may reach the web.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web
  namespace: shop
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from:
    - podSelector:
        matchLabels:
          app: apy  # a mistake
  # Everything of this namespace.
  - from: [{podSelector: {}}]
  - from: []  # everyone
    ports: [{port: 80}]
  - from: [{podSelector: {matchLabels: {app: api}}}]
    ports: [{port: 80}]
";

fn run(folder: &Path, arguments: &[&str]) -> std::process::Output {
    let none = fakes(&[]);
    with(none.path(), folder, &[&["lint"], arguments, &["--ignore", "world-open,not-isolated"]].concat())
}

/// The names of the rules of all findings.
fn found(folder: &Path, arguments: &[&str]) -> Vec<String> {
    let all = json(&run(folder, &[arguments, &["-o", "json"]].concat()));
    let found = all["diagnostics"].as_array().expect("a list");
    found.iter().map(|found| found["code"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn mistakes_are_found_with_places_and_advice() {
    let tree = tree(&[("shop.yaml", SHOP)]);
    let output = run(tree.path(), &["shop.yaml"]);
    ends_with(
        &output,
        0,
        &["shop.yaml:35:16", "no pod has the label `app=apy`", "use `app: api`", "2 warnings, 2 infos in 1 file"],
    );
    assert_eq!(
        found(tree.path(), &["-f", "shop.yaml"]),
        ["redundant-rule", "label-near-miss", "everyone-by-omission", "redundant-rule"]
    );
    for (fail_on, code) in [("error", 0), ("warning", 1), ("info", 1), ("never", 0)] {
        assert_eq!(run(tree.path(), &["shop.yaml", "--fail-on", fail_on]).status.code(), Some(code), "{fail_on}");
    }
    std::fs::write(tree.path().join("shop.yaml"), SHOP.replace("podSelector: {matchLabels: {app: web}}", "podSelecter: {}"))
        .expect("written");
    ends_with(&run(tree.path(), &["shop.yaml", "--select", "NP301"]), 1, &["unknown field `podSelecter`"]);
    ends_with(&run(tree.path(), &["shop.yaml", "--fail-on", "never"]), 0, &["unknown field `podSelecter`"]);
}

#[test]
fn rules_are_selected_by_id_name_and_group() {
    let tree = tree(&[("shop.yaml", SHOP)]);
    for (arguments, expected) in [
        (&["--select", "NP107"][..], &["label-near-miss"][..]),
        (&["--select", "np107,security"], &["label-near-miss", "everyone-by-omission"]),
        (&["--select", "all", "--ignore", "hygiene", "--ignore", "label-near-miss,input"], &["everyone-by-omission"]),
    ] {
        assert_eq!(found(tree.path(), &[&["shop.yaml"], arguments].concat()), expected, "{arguments:?}");
    }
    ends_with(&run(tree.path(), &["--select", "half-opne"]), 2, &["no rule or group `half-opne`; did you mean `half-open`?"]);
    let lint = |text: &str| std::fs::write(tree.path().join("netpol.toml"), text).expect("written");
    lint("[lint]\nselect = [\"security\", \"label-near-miss\"]\nseverity = {NP107 = \"error\"}\n");
    ends_with(&run(tree.path(), &["shop.yaml"]), 1, &["error[label-near-miss]", "1 error, 1 warning"]);
    assert_eq!(found(tree.path(), &["shop.yaml", "--select", "hygiene"]), ["redundant-rule", "redundant-rule"]);
    lint("[lint]\nignore = [\"hygiene\"]\n[[lint.overrides]]\npaths = [\"sub/**\"]\nignore = [\"security\"]\n");
    std::fs::create_dir(tree.path().join("sub")).expect("a folder");
    std::fs::rename(tree.path().join("shop.yaml"), tree.path().join("sub/shop.yaml")).expect("renamed");
    assert_eq!(found(tree.path(), &["sub"]), ["label-near-miss"]);
    assert_eq!(found(&tree.path().join("sub"), &["shop.yaml"]), ["label-near-miss"]);
    lint("[lint]\nignore = [\"hygeine\"]\n");
    ends_with(&run(tree.path(), &["sub"]), 2, &["netpol.toml: there is no rule or group `hygeine`; did you mean `hygiene`?"]);
}

#[test]
fn findings_are_accepted_with_a_comment_or_an_annotation() {
    let text = SHOP.replace("# everyone", "# netpol:ignore NP201 a public site").replace(
        "  namespace: shop\nspec",
        "  namespace: shop\n  annotations:\n    netpol.io/ignore: label-near-miss,redundant-rule they come next week\nspec",
    );
    let tree = tree(&[("shop.yaml", &text)]);
    ends_with(&run(tree.path(), &["shop.yaml", "--fail-on", "info"]), 0, &["nothing found in 1 file"]);
    std::fs::write(tree.path().join("shop.yaml"), text.replace("app: apy", "app: api").replace("NP201", "NP108"))
        .expect("written");
    ends_with(
        &run(tree.path(), &["shop.yaml"]),
        0,
        &["warning[stale-suppression]", "`label-near-miss` finds nothing here", "`NP108` finds nothing here"],
    );
}

#[test]
fn what_cannot_be_known_is_said_once_and_is_no_finding() {
    let policies = SHOP.split("---\n").last().expect("the policy");
    let tree = tree(&[("a.yaml", policies)]);
    ends_with(&run(tree.path(), &["a.yaml"]), 0, &["note: the input has no workloads in namespace `shop`"]);
    assert_eq!(
        found(tree.path(), &["a.yaml", "--ignore", "input"]),
        ["redundant-rule", "everyone-by-omission", "redundant-rule"]
    );
}

#[test]
fn fixes_keep_comments_and_leave_nothing_to_fix() {
    let tree = tree(&[("shop.yaml", SHOP)]);
    let difference = run(tree.path(), &["shop.yaml", "--fix", "--diff"]);
    ends_with(
        &difference,
        1,
        &["--- a/shop.yaml\n+++ b/shop.yaml\n", "-          app: apy  # a mistake\n+          app: api  # a mistake\n"],
    );
    assert_eq!(std::fs::read_to_string(tree.path().join("shop.yaml")).expect("read"), SHOP);
    ends_with(&run(tree.path(), &["shop.yaml", "--fix"]), 0, &["in shop.yaml"]);
    let fixed = std::fs::read_to_string(tree.path().join("shop.yaml")).expect("read");
    // The rule that all others are within is left.
    let (before, rules) = SHOP.split_once("  - from:\n").expect("rules");
    assert!(
        fixed.starts_with(before) && fixed.contains("# Everything of this namespace.\n  - from: [{podSelector: {}}]\n"),
        "{fixed}"
    );
    assert!(rules.contains("# everyone") && fixed.contains("  - from: []  # everyone\n    ports: [{port: 80}]\n"), "{fixed}");
    assert!(!fixed.contains("app: api}}}]") && !fixed.contains("apy"), "{fixed}");
    assert_eq!(found(tree.path(), &["shop.yaml"]), ["everyone-by-omission"]);
    ends_with(&run(tree.path(), &["shop.yaml", "--diff"]), 0, &[]);
}

#[test]
fn rules_have_a_manual() {
    let none = fakes(&[]);
    let page = |arguments: &[&str]| with(none.path(), none.path(), &[&["rule"], arguments].concat());
    ends_with(&page(&[]), 0, &["NP107  warning  label-near-miss", "hygiene"]);
    ends_with(&page(&["np107"]), 0, &["NP107 label-near-miss (warning, correctness)", "Example", "app: apy", "Corrected"]);
    ends_with(&page(&["label-near-mistake"]), 2, &["did you mean `label-near-miss`?"]);
}
