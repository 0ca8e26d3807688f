//! `netpol.toml`: deployments by name, each checked by itself, and what `netpol init` finds.

#![expect(clippy::expect_used, clippy::panic, reason = "a failing check panics")]

#[path = "common/folders.rs"]
mod folders;
mod programs;
#[path = "common/rendered.rs"]
mod rendered;

use std::path::Path;
use std::process::Command;

use folders::{ends_with, fakes, json, text, tree, with};
use rendered::{DENY, WEB, real};

const TWO: &str = "[deployments.dev]\nfiles = [\"dev.yaml\"]\nnamespace = \"x\"\n\n[deployments.prod]\nfiles = [\"prod.yaml\"]\n";

#[test]
fn deployments_are_selected_by_name() {
    let web = WEB.replace("name: web,", "name: web, namespace: x,");
    let tree = tree(&[("dev.yaml", &web), ("prod.yaml", WEB), ("netpol.toml", TWO), ("sub/a.txt", "")]);
    let none = fakes(&[]);
    let run = |arguments: &[&str]| with(none.path(), tree.path(), arguments);
    ends_with(&run(&["can", "-d", "dev", "external", "web"]), 0, &["allowed", "x/web"]);
    ends_with(&run(&["can", "-d", "prod", "external", "web"]), 0, &["default/web"]);
    ends_with(&run(&["list"]), 2, &["`netpol.toml` has several deployments; select with -d: dev, prod"]);
    ends_with(&run(&["list", "-d", "prd"]), 2, &["has no deployment `prd`; it has dev, prod; did you mean `prod`?"]);
    ends_with(&run(&["list", "-d", "dev", "--chart", "."]), 2, &["cannot be used with"]);
    ends_with(&run(&["list", "-f", "prod.yaml"]), 0, &["default/web"]);
    // From a folder below, and not beyond the repository.
    let below = tree.path().join("sub");
    ends_with(&with(none.path(), &below, &["list", "-d", "dev"]), 0, &["x/web"]);
    std::fs::create_dir(below.join(".git")).expect("a folder");
    ends_with(&with(none.path(), &below, &["list", "-d", "dev"]), 2, &["there is no netpol.toml"]);
    // The only one needs no name.
    std::fs::write(tree.path().join("netpol.toml"), "[deployments.dev]\nfiles = [\"dev.yaml\"]\n").expect("written");
    ends_with(&run(&["list"]), 0, &["note: using deployment `dev` of netpol.toml", "x/web"]);
    std::fs::write(tree.path().join("netpol.toml"), "[deployments.dev]\nfile = [\"dev.yaml\"]\n").expect("written");
    ends_with(&run(&["list"]), 2, &["netpol.toml:2:1: unknown field `file`", "did you mean `files`?"]);
}

/// Several deployments make one cluster, and files are added to it. Each has its namespace.
#[test]
fn deployments_are_read_together() {
    let file = "[deployments.dev]\nfiles = [\"dev.yaml\"]\nnamespace = \"x\"\n\n[deployments.prod]\nkustomize = \"prod\"\nnamespace = \"y\"\n";
    let tree = tree(&[
        ("dev.yaml", WEB),
        ("prod/kustomization.yaml", "resources: []\n"),
        ("deny.yaml", DENY),
        ("web.yaml", &WEB.replace("app: web", "app: other")),
        ("netpol.toml", file),
    ]);
    let kustomize = fakes(&[("kustomize", &format!("printf '{}'", WEB.replace('\n', "\\n")))]);
    let run = |arguments: &[&str]| with(kustomize.path(), tree.path(), arguments);
    for order in [["-d", "dev", "-d", "prod"], ["-d", "prod", "-d", "dev"]] {
        ends_with(&run(&[&["can", "x/web", "y/web"], &order[..]].concat()), 0, &["allowed"]);
        // Of two namespaces, none is that of names.
        ends_with(
            &run(&[&["can", "x/web", "web"], &order[..]].concat()),
            2,
            &["no pod or workload `web` in namespace `default`"],
        );
        ends_with(&run(&[&["can", "x/web", "web", "-n", "x"], &order[..]].concat()), 0, &["x/web → x/web"]);
    }
    // What a file adds to a deployment is in its namespace.
    ends_with(&run(&["can", "-d", "dev", "external", "web"]), 0, &["x/web"]);
    ends_with(&run(&["can", "-d", "dev", "-f", "deny.yaml", "external", "web"]), 1, &["denied", "x/deny"]);
    ends_with(&run(&["can", "-d", "dev", "-f", "web.yaml", "external", "web"]), 2, &["duplicate-object"]);
    let checked = run(&["validate", "-d", "dev", "-d", "prod", "-f", "deny.yaml"]);
    ends_with(&checked, 0, &["dev (files dev.yaml)", "prod (kustomization prod)", "2 of 2 deployments"]);
}

/// One chart can be deployed twice.
#[test]
fn deployments_of_one_chart_are_told_apart() {
    let config = "[deployments.a]\nchart = \"api\"\nnamespace = \"x\"\n\n[deployments.b]\nchart = \"api\"\nnamespace = \"y\"\n";
    let tree = tree(&[("netpol.toml", config), ("api/Chart.yaml", "name: api\n")]);
    let helm = fakes(&[("helm", &format!("printf '{}'", format!("{WEB}---\n{DENY}").replace('\n', "\\n")))]);
    let run = |arguments: &[&str]| with(helm.path(), tree.path(), arguments);
    let both = ["can", "-d", "a", "-d", "b", "x/web", "y/web"];
    ends_with(&run(&both), 1, &["denied", "deployment b"]);
    ends_with(&run(&[&both[..], &["--set", "a=1"]].concat()), 2, &["`--set` is for one chart"]);
}

/// Options for charts count with a deployment too, after those of the file.
#[test]
fn options_for_charts_are_those_of_the_file_and_of_the_command_line() {
    let config = "[deployments.api]\nchart = \"api\"\nvalues = [\"dev.yaml\"]\nset = [\"a=1\"]\nrelease = \"file\"\n\n[deployments.plain]\nfiles = [\"web.yaml\"]\n";
    let tree = tree(&[
        ("netpol.toml", config),
        ("api/Chart.yaml", "name: api\n"),
        ("dev.yaml", "{}\n"),
        ("prod.yaml", "{}\n"),
        ("web.yaml", WEB),
    ]);
    // It notes its arguments.
    let manifest = WEB.replace('\n', "\\n");
    let helm = fakes(&[("helm", &format!("printf '%s\\n' \"$@\" > \"$0.arguments\"\nprintf '{manifest}'"))]);
    let asked = ["list", "-d", "api", "--values", "prod.yaml", "--set", "a=2", "--release", "line"];
    ends_with(&with(helm.path(), tree.path(), &asked), 0, &["default/web"]);
    let given = std::fs::read_to_string(helm.path().join("helm.arguments")).expect("noted");
    let given: Vec<&str> = given.lines().filter(|word| !word.starts_with("--api-versions")).collect();
    let shown = |path: &str| given.iter().position(|word| word.ends_with(path));
    let order = ["dev.yaml", "prod.yaml", "--set=a=1", "--set=a=2", "line"].map(shown);
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{given:?}");
    assert!(!given.contains(&"file"), "{given:?}");
    for option in [["--values", "prod.yaml"], ["--set", "a=2"], ["--release", "x"], ["--api-versions", "a/v1"]] {
        let output = with(helm.path(), tree.path(), &[&["list", "-d", "plain"], &option[..]].concat());
        ends_with(&output, 2, &[option[0], "is for charts, and the deployment is the files web.yaml"]);
    }
}

#[test]
fn validate_checks_every_deployment_by_itself() {
    // Together, they would be one workload written twice.
    let tree = tree(&[("dev.yaml", WEB), ("prod.yaml", &WEB.replace("app: web", "app: other")), ("netpol.toml", TWO)]);
    let none = fakes(&[]);
    let run = |arguments: &[&str]| with(none.path(), tree.path(), arguments);
    ends_with(&run(&["validate"]), 0, &["dev (files dev.yaml)\n", "\nprod (files prod.yaml)\n"]);
    let all = json(&run(&["validate", "-o", "json"]));
    assert_eq!(
        (&all["valid"], &all["deployments"][1]["name"], &all["read"]["workloads"]),
        (&true.into(), &"prod".into(), &2.into())
    );
    // Each assumes its namespace.
    assert_eq!((&all["warnings"], &all["diagnostics"][1]["deployment"]), (&2.into(), &"prod".into()), "{all}");
    std::fs::write(tree.path().join("netpol.toml"), format!("fail-on = \"warning\"\n{TWO}")).expect("written");
    assert_ne!(run(&["validate"]).status.code(), Some(0));
    std::fs::write(tree.path().join("netpol.toml"), TWO).expect("written");
    std::fs::write(tree.path().join("dev.yaml"), format!("{WEB}---\n{}", DENY.replace("spec:", "spce:"))).expect("written");
    let output = run(&["validate"]);
    ends_with(&output, 1, &["unknown field `spce`", "prod (files prod.yaml)\n"]);
    std::fs::remove_file(tree.path().join("dev.yaml")).expect("removed");
    ends_with(&run(&["validate"]), 2, &["`dev.yaml` does not exist", "prod (files prod.yaml)\n"]);
    let all = json(&run(&["validate", "-o", "json"]));
    assert_eq!((&all["valid"], &all["deployments"][1]["valid"]), (&false.into(), &true.into()));
    assert!(all["deployments"][0]["error"].to_string().contains("does not exist"), "{all}");
}

#[test]
fn init_finds_what_can_be_deployed() {
    let tree = tree(&[
        ("base/kustomization.yaml", "resources: [web.yaml]\n"),
        ("base/web.yaml", WEB),
        ("team-a/overlays/prod/kustomization.yaml", "resources: [../../../base]\n"),
        ("team-b/overlays/prod/kustomization.yaml", "resources: [../../../base]\n"),
        ("charts/shop/Chart.yaml", "name: shop\n"),
        ("manifests/sub/web.yaml", WEB),
        ("team-a/plain/deny.yaml", DENY),
        ("top.yaml", WEB),
        ("team-a/plain/secret.yaml", "$ANSIBLE_VAULT;1.1;AES256\n3661\n"),
        ("encrypted/secret.yaml", "$ANSIBLE_VAULT;1.1;AES256\n3661\n"),
        ("mkdocs.yaml", "site_name: x\n"),
        ("ci/pipeline.yaml", "jobs: []\n"),
    ]);
    let none = fakes(&[]);
    let run = |arguments: &[&str]| with(none.path(), tree.path(), arguments);
    let top = tree.path().canonicalize().expect("a folder");
    let name = top.file_name().expect("a name").to_string_lossy().into_owned();
    let printed = run(&["init", "--stdout"]);
    let found: toml::Table = String::from_utf8_lossy(&printed.stdout).parse().expect("TOML");
    let mut expected: toml::Table = "[deployments]
shop = {chart = \"charts/shop\"}
manifests = {files = [\"manifests\"]}
plain = {files = [\"team-a/plain\"]}
team-a-overlays-prod = {kustomize = \"team-a/overlays/prod\"}
team-b-overlays-prod = {kustomize = \"team-b/overlays/prod\"}
"
    .parse()
    .expect("TOML");
    let files = toml::Table::from_iter([("files".to_owned(), vec!["top.yaml"].into())]);
    expected["deployments"].as_table_mut().expect("a table").insert(name, files.into());
    assert_eq!(found, expected);
    assert!(!tree.path().join("netpol.toml").exists());
    ends_with(&run(&["init"]), 0, &["wrote netpol.toml with 6 deployments", "shop: chart charts/shop"]);
    let written = std::fs::read(tree.path().join("netpol.toml")).expect("readable");
    assert_eq!(written, printed.stdout);
    ends_with(&run(&["init"]), 0, &["is not changed"]);
    std::fs::write(tree.path().join("netpol.toml"), "[deployments.all]\nfiles = [\"manifests\", \"top.yaml\"]\n")
        .expect("written");
    ends_with(&run(&["init"]), 1, &["does not name 4 deployments", "[deployments.plain]\nfiles = [\"team-a/plain\"]\n"]);
    let empty = fakes(&[]);
    ends_with(&with(none.path(), empty.path(), &["init"]), 2, &["there is no kustomization, no Helm chart and no manifest"]);
}

#[test]
fn the_example_is_initialised_and_valid() {
    let Some(folders) = programs::folders() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let example = root.join("examples/gitops");
    ends_with(&real(&folders, &example, &["init"]), 0, &["netpol.toml names everything that was found", "dev, mail, prod"]);
    let checked = real(&folders, &example, &["validate"]);
    ends_with(
        &checked,
        0,
        &["dev (kustomization overlays/dev)", "mail (chart charts/mail)", "prod (kustomization overlays/prod)"],
    );
    let asked = ["can", "-k", "examples/gitops/overlays/prod", "shop/web", "shop/db", "-p", "5432"];
    ends_with(&real(&folders, root, &asked), 0, &["allowed", "examples/gitops/base/policies.yaml:"]);
    ends_with(
        &real(&folders, root, &["list", "-f", "examples/gitops"]),
        2,
        &[
            "left out 3 kustomizations, of which 2 are not part of another; build one with -k: \
             examples/gitops/overlays/dev, examples/gitops/overlays/prod",
            "left out 1 Helm chart; render it with --chart: examples/gitops/charts/mail",
            "; or run the command in `examples/gitops` with -d: dev, mail, prod\n",
        ],
    );
    let within = real(&folders, &example, &["list", "-f", "."]);
    ends_with(&within, 2, &["; or select a deployment with -d: dev, mail, prod\n"]);
    // What it would write is what is there.
    let copy = tempfile::tempdir().expect("a folder");
    let copied = Command::new("cp").arg("-r").arg(&example).arg(copy.path()).status().expect("cp runs");
    assert!(copied.success());
    let copy = copy.path().join("gitops");
    std::fs::remove_file(copy.join("netpol.toml")).expect("removed");
    ends_with(&real(&folders, &copy, &["init"]), 0, &["wrote netpol.toml with 3 deployments"]);
    ends_with(&real(&folders, &copy, &["validate"]), 0, &["prod (kustomization overlays/prod)", "3 of 3 deployments valid\n"]);
    // Without helm, the others are checked.
    let kubectl = fakes(&[]);
    std::os::unix::fs::symlink(folders[0].join("kubectl"), kubectl.path().join("kubectl")).expect("a link");
    let pipe = "helm template mail charts/mail -n mail | netpol … -n mail -f -\n";
    ends_with(&with(kubectl.path(), &example, &["validate"]), 2, &["2 of 3 deployments valid, 1 not checked\n", pipe]);
}

/// The keys that a table may have, as the message about a wrong one lists them.
fn keys(toml: &str) -> Vec<String> {
    let tree = tree(&[("netpol.toml", toml)]);
    let shown = text(&with(tree.path(), tree.path(), &["list"]));
    let known = shown.split("expected one of ").nth(1).unwrap_or_else(|| panic!("{shown}"));
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_key_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let page = std::fs::read_to_string(root.join("docs/src/reference/netpol-toml.md")).expect("a page");
    let rows: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |").map(|(key, _)| key)).collect();
    let mut known = keys("zzzzzzzz = 1\n");
    known.extend(keys("[deployments.a]\nzzzzzzzz = 1\n"));
    known.extend(keys("[lint]\nzzzzzzzz = 1\n"));
    // Those of an override: one has the name of another key.
    known.push("paths".to_owned());
    assert_eq!(known.len(), 18, "{known:?}");
    for key in &known {
        assert!(rows.contains(&key.as_str()), "{key} is not in the page");
    }
    let documented: Vec<&&str> = rows.iter().filter(|row| !row.starts_with("netpol ")).collect();
    // Two tables have a key `ignore`.
    assert_eq!(documented.len(), known.len(), "{documented:?}");
    // Its example is read.
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let tree = tree(&[("netpol.toml", example)]);
    ends_with(&with(tree.path(), tree.path(), &["list"]), 2, &["select with -d: dev, plain, prod"]);
}
