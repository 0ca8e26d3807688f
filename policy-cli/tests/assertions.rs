//! `netpol test`: assertions, their counter-examples, and what has none.

#[path = "common/folders.rs"]
mod folders;

use std::path::Path;
use std::process::Output;

use folders::{ends_with, fakes, json, text, tree, with};

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: i, ports: [{name: http, containerPort: 80}]}]}
";
const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: api}}}, {ipBlock: {cidr: 192.0.2.0/24}}]
    ports: [{port: 80}]
";

fn shop() -> String {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
    let [api, job] = ["api", "job"]
        .map(|name| WEB.replace("name: web", &format!("name: {name}")).replace("app: web", &format!("app: {name}")));
    [namespace, WEB, &api, &job, POLICY].join("---\n")
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let none = fakes(&[]);
    with(none.path(), folder, &[&["test"], arguments].concat())
}

#[test]
fn assertions_hold_or_have_counter_examples() {
    let tree = tree(&[("k8s/in.yaml", &shop())]);
    let file = tree.path().join("k8s/netpol-test.yaml");
    for (assertion, code, parts) in [
        ("{from: shop/api, to: shop/web, ports: 80, expect: allowed}", 0, &["1 passed, 0 failed"][..]),
        ("{from: [shop/api, 192.0.2.1], to: shop/web, ports: [http], expect: allowed}", 0, &["1 passed"]),
        ("{from: shop/api, to: shop/web, expect: partial}", 0, &["1 passed"]),
        ("{from: shop/job, to: shop/web, expect: denied}", 0, &["1 passed"]),
        (
            "{from: 'shop/*', to: shop/web, ports: [80], expect: allowed}",
            1,
            &["expected allowed, but:", "denied  shop/job → shop/web", "suggested fix"],
        ),
        (
            "{to: shop/web, only-from: [shop/api, 192.0.2.0/24]}",
            1,
            &["expected allowed, but:\n  partly allowed  shop/api → shop/web"],
        ),
        ("{to: shop/web, only-from: [shop/api, 192.0.2.0/24], ports: [80]}", 0, &["1 passed"]),
        ("{to: shop/web, only-from: [shop/api], ports: [80]}", 1, &["expected denied, but:\n  allowed  192.0.2.0 → shop/web"]),
        ("{to: shop/web, only-from: [192.0.2.0/24], ports: [80]}", 1, &["expected denied, but:\n  allowed  shop/api → shop/web"]),
        ("{to: shop/web, only-from: [], ports: [443]}", 0, &["nothing reaches shop/web on 443"]),
        ("{from: shop/job, only-to: [shop/api], ports: [80]}", 1, &["expected denied, but:"]),
        ("{name: both, from: shop/job, to: shop/web, expect: allowed}", 1, &["failed  both  k8s/netpol-test.yaml:2"]),
        // What cannot be checked is no success.
        ("{from: shop/jbo, to: shop/web, expect: denied}", 2, &["did you mean `shop/job`?"]),
        ("{from: shop/job, to: shop/web}", 2, &["it has no `expect`"]),
        ("{from: shop/job, to: shop/web, expect: deny}", 2, &["`expect` is `deny`; expected allowed, denied or partial"]),
        ("{from: shop/job, only-from: [shop/api]}", 2, &["`only-from` goes with `to` alone"]),
        (
            "{form: shop/job, to: shop/web, expect: denied}",
            2,
            &["k8s/netpol-test.yaml:2:4", "unknown field `form`", "did you mean `from`?"],
        ),
        ("{from: {a: b}, to: shop/web, expect: denied}", 2, &["k8s/netpol-test.yaml:2:"]),
        ("null", 2, &["it needs `from` and `to`"]),
        (
            "{from: shop/job, to: shop/web, expect: denied, from: shop/api}",
            2,
            &["k8s/netpol-test.yaml:2:", "duplicate key `from`"],
        ),
    ] {
        std::fs::write(&file, format!("tests:\n- {assertion}\n")).expect("written");
        let output = run(tree.path(), &["-f", "k8s"]);
        ends_with(&output, code, parts);
    }
    // Objects in such a file are not passed over without a word.
    std::fs::write(&file, POLICY).expect("written");
    let none = fakes(&[]);
    let listed = text(&with(none.path(), tree.path(), &["can", "-f", "k8s", "shop/api", "shop/web"]));
    assert!(listed.contains("netpol-test.yaml"), "{listed}");
    std::fs::write(&file, "tests: [\n").expect("written");
    ends_with(&run(tree.path(), &["-f", "k8s"]), 2, &["not valid YAML"]);
    std::fs::write(&file, "").expect("written");
    ends_with(&run(tree.path(), &["-f", "k8s"]), 2, &["no assertion was found"]);
}

#[test]
fn a_first_file_asserts_what_is_allowed_today() {
    let tree = tree(&[("k8s/in.yaml", &shop())]);
    ends_with(&run(tree.path(), &["--init", "-f", "k8s"]), 0, &["wrote 1 assertion to k8s/netpol-test.yaml"]);
    let written = std::fs::read_to_string(tree.path().join("k8s/netpol-test.yaml")).expect("a file");
    assert!(written.contains("- {to: shop/web, only-from: [\"192.0.2.0/24\", shop/api], ports: 80/TCP}\n"), "{written}");
    ends_with(&run(tree.path(), &["-f", "k8s"]), 0, &["1 passed, 0 failed"]);
    ends_with(&run(tree.path(), &["--init", "-f", "k8s"]), 2, &["is there already"]);
}

#[test]
fn coverage_names_what_no_assertion_rests_on() {
    let other = POLICY.replace("name: web,", "name: other,").replace("app: web", "app: job");
    let assertion = "tests:\n- {from: shop/job, to: shop/web, expect: denied}\n";
    let tree = tree(&[("in.yaml", &(shop() + "---\n" + &other)), ("a.netpol-test.yaml", assertion)]);
    let output = run(tree.path(), &["--coverage", "-f", "."]);
    ends_with(
        &output,
        0,
        &[
            "policies that no assertion rests on: shop/other (in.yaml:",
            "rules that no assertion rests on: shop/web ingress[0] (in.yaml:",
            "workloads that no assertion rests on: shop/api",
        ],
    );
    let all = json(&run(tree.path(), &["--coverage", "-f", ".", "-o", "json"]));
    assert_eq!((&all["passed"], &all["coverage"]["workloads"][0]), (&1.into(), &"shop/api".into()), "{all}");
}

#[test]
fn each_deployment_has_its_assertions() {
    let config = "[deployments.a]\nfiles = [\"in.yaml\"]\ntests = [\"a.yaml\"]\n\n[deployments.b]\nfiles = [\"in.yaml\"]\ntests = [\"b.yaml\"]\n";
    let assertion = |expect: &str| format!("tests:\n- {{from: shop/job, to: shop/web, expect: {expect}}}\n");
    let tree = tree(&[
        ("in.yaml", &shop()),
        ("netpol.toml", config),
        ("a.yaml", &assertion("denied")),
        ("b.yaml", &assertion("allowed")),
    ]);
    ends_with(
        &run(tree.path(), &[]),
        1,
        &["a: shop/job → shop/web: denied", "b: shop/job → shop/web: allowed", "1 passed, 1 failed"],
    );
    ends_with(&run(tree.path(), &["-d", "a"]), 0, &["1 passed, 0 failed"]);
}
