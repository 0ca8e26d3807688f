//! Kustomizations, charts, and folders of both: the answer of the build, or an error that says what to do, and never another answer.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a failing check panics")]

#[path = "common/folders.rs"]
mod folders;
mod programs;
#[path = "common/rendered.rs"]
mod rendered;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use folders::{ends_with, fakes, json, text, tree, with};
use rendered::{DENY, WEB, real};

/// Only port 80.
const HTTP: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: http}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - ports: [{port: 80}]\n";

fn db() -> String {
    WEB.replace("web", "db").replace("http", "sql")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The connections of `kubectl kustomize FOLDER | netpol list -f - -o json`.
fn built(folders: &[PathBuf], top: &Path, folder: &str) -> Value {
    let kubectl = folders[0].join("kubectl");
    let build = Command::new(kubectl).args(["kustomize", folder]).current_dir(top).output().expect("kubectl runs");
    assert!(build.status.success(), "{folder}: {}", text(&build));
    let mut child = Command::new(env!("CARGO_BIN_EXE_netpol"))
        .args(["list", "-f", "-", "-o", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("netpol starts");
    child.stdin.take().expect("a pipe").write_all(&build.stdout).expect("written");
    let output = child.wait_with_output().expect("netpol ends");
    let connections = json(&output)["connections"].clone();
    assert!(output.status.success() && connections.as_array().is_some_and(|rows| !rows.is_empty()), "{folder}");
    connections
}

/// What it shows, the folder to build, and the files.
type Shape = (&'static str, &'static str, Vec<(&'static str, String)>);

/// Kustomizations of every shape.
fn shapes(db: &str) -> Vec<Shape> {
    let base = |path: &'static str| {
        vec![
            (path, "resources: [web.yaml, db.yaml, http.yaml]\n".to_owned()),
            ("base/web.yaml", WEB.to_owned()),
            ("base/db.yaml", db.to_owned()),
            ("base/http.yaml", HTTP.to_owned()),
        ]
    };
    let over = |name: &'static str, top: &'static str, more: &[(&'static str, &str)]| {
        let mut files = base("base/kustomization.yaml");
        files.extend(more.iter().map(|(path, text)| (*path, (*text).to_owned())));
        (name, top, files)
    };
    let deny = ("top/deny.yaml", DENY);
    vec![
        over("a base and an overlay", "top", &[("top/kustomization.yaml", "resources: [../base, deny.yaml]\n"), deny]),
        over(
            "overlays of overlays",
            "top",
            &[
                ("top/kustomization.yml", "resources: [../middle]\nnameSuffix: -b\n"),
                ("middle/Kustomization", "resources: [../base]\nnamePrefix: a-\n"),
            ],
        ),
        over(
            "a component",
            "top",
            &[
                ("top/kustomization.yaml", "resources: [../base]\ncomponents: [../deny]\n"),
                (
                    "deny/kustomization.yaml",
                    "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [deny.yaml]\n",
                ),
                ("deny/deny.yaml", DENY),
            ],
        ),
        over(
            "namespace, prefix and labels",
            "top",
            &[(
                "top/kustomization.yaml",
                "namespace: shop\nnamePrefix: dev-\nlabels: [{pairs: {env: dev}, includeSelectors: true}]\nresources: [../base]\n",
            )],
        ),
        over(
            "patches inline and in files",
            "top",
            &[
                (
                    "top/kustomization.yaml",
                    "resources: [../base]\npatches:\n- path: patches/http.yaml\n- target: {kind: Deployment, name: web}\n  patch: |-\n    - {op: add, path: /spec/template/metadata/labels/app, value: other}\n    - {op: add, path: /spec/selector/matchLabels/app, value: other}\n",
                ),
                (
                    "top/patches/http.yaml",
                    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: http}\nspec: {ingress: [{ports: [{port: 443}]}]}\n",
                ),
            ],
        ),
        over(
            "a patch that deletes",
            "top",
            &[
                ("top/kustomization.yaml", "resources: [../base, deny.yaml]\npatches: [{path: gone.yaml}]\n"),
                (
                    "top/gone.yaml",
                    "$patch: delete\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: http}\n",
                ),
                deny,
            ],
        ),
        over(
            "replacements",
            "top",
            &[(
                "top/kustomization.yaml",
                "resources: [../base]\nreplacements:\n- source: {kind: Deployment, name: db, fieldPath: metadata.name}\n  targets: [{select: {kind: NetworkPolicy, name: http}, fieldPaths: [spec.podSelector.matchLabels.app]}]\n",
            )],
        ),
        over(
            "generators",
            "top",
            &[
                (
                    "top/kustomization.yaml",
                    "resources: [../base, deny.yaml]\nconfigMapGenerator: [{name: c, files: [policy.yaml]}]\n",
                ),
                ("top/policy.yaml", HTTP),
                deny,
            ],
        ),
        over(
            "a file of another folder that is no kustomization",
            "top",
            &[("top/kustomization.yaml", "resources: [../base, more/deny.yaml]\n"), ("top/more/deny.yaml", DENY)],
        ),
        over(
            "the base below the overlay, with a file that nothing uses",
            ".",
            &[("kustomization.yaml", "namespace: shop\nresources: [base]\n"), ("left.yaml", DENY)],
        ),
    ]
}

#[test]
fn a_folder_with_a_kustomization_is_its_build() {
    let Some(folders) = programs::folders() else { return };
    let db = db();
    for (name, top, files) in shapes(&db) {
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let tree = tree(&files);
        let expected = built(&folders, tree.path(), top);
        for option in ["-k", "-f"] {
            let output = real(&folders, tree.path(), &["list", option, top, "-o", "json"]);
            assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output));
            assert!(json(&output)["connections"] == expected, "{name}: {option}");
        }
        let said = stderr(&real(&folders, tree.path(), &["list", "-f", top]));
        assert!(said.contains(&format!("note: `{top}` has a kustomization, and is built as with -k")), "{name}: {said}");
        // From above there is nothing plain, or what is plain is answered with a caveat.
        if top != "." {
            ends_with(&real(&folders, tree.path(), &["list", "-f", "."]), 2, &["build it with -k: top"]);
        } else {
            assert!(said.contains("left out 1 file that the kustomization or chart does not use"), "{said}");
            assert!(said.contains("left.yaml"), "{said}");
        }
    }
}

#[test]
fn two_roots_and_their_base_are_no_soup() {
    let db = db();
    let tree = tree(&[
        ("plain/db.yaml", &db),
        ("base/kustomization.yaml", "resources: [web.yaml]\n"),
        ("base/web.yaml", WEB),
        ("snippets/patch.yaml", DENY),
        (
            "overlays/prod/kustomization.yaml",
            "namespace: prod\nresources: [../../base]\npatches: [{path: ../../snippets/patch.yaml}]\n",
        ),
        ("overlays/dev/kustomization.yaml", "namespace: dev\nresources: [../../base]\n"),
    ]);
    let none = fakes(&[]);
    let run = |arguments: &[&str]| with(none.path(), tree.path(), arguments);
    let sentence =
        "left out 3 kustomizations, of which 2 are not part of another; build one with -k: overlays/dev, overlays/prod";
    // The policy that denies is a patch, so nothing isolates the database.
    ends_with(&run(&["can", "-f", ".", "external", "default/db", "-p", "80"]), 0, &["caveat", sentence]);
    // A name may be one of what was left out.
    ends_with(&run(&["can", "-f", ".", "external", "prod/web"]), 2, &["there is no pod or workload `web`", sentence]);
    let answer = json(&run(&["can", "-f", ".", "external", "default/db", "-p", "80", "-o", "json"]));
    assert!(answer["caveats"].to_string().contains(sentence), "{answer}");
    for command in [&["list"][..], &["who", "default/db"], &["reach", "default/db"], &["reach", "--hops", "default/db"]] {
        let output = run(&[command, &["-f", "."]].concat());
        assert!(output.status.success() && stderr(&output).contains(sentence), "{command:?}: {}", text(&output));
    }
    ends_with(&run(&["render", "--node", "n1", "-f", "."]), 2, &[sentence]);
    ends_with(&run(&["validate", "-f", "."]), 0, &[&format!("not read: {sentence}")]);
    let findings = json(&run(&["validate", "-f", ".", "-o", "json"]));
    let entry = |path: &str, ask: bool| match ask {
        true => serde_json::json!({"kind": "kustomization", "path": path, "ask": format!("-k {path}")}),
        false => serde_json::json!({"kind": "kustomization", "path": path}),
    };
    let expected = [entry("base", false), entry("overlays/dev", true), entry("overlays/prod", true)];
    assert_eq!(findings["left_out"], Value::from(expected.to_vec()));
    assert_eq!(findings["read"]["workloads"], 1);
    // What is asked for is not left out.
    let build = fakes(&[("kubectl", "echo '{apiVersion: v1, kind: Namespace, metadata: {name: prod}}'")]);
    let asked = with(build.path(), tree.path(), &["list", "-f", ".", "-k", "overlays/prod"]);
    ends_with(&asked, 0, &["left out 1 kustomization; build it with -k: overlays/dev\n"]);
    // Without the plain manifest there is nothing to answer from.
    std::fs::remove_dir_all(tree.path().join("plain")).expect("removed");
    for command in [&["list"][..], &["can", "external", "default/web"], &["validate"]] {
        ends_with(&run(&[command, &["-f", "."]].concat()), 2, &["no plain manifest has a workload or a policy", sentence]);
    }
}

#[test]
fn the_kustomization_of_the_field_is_its_build() {
    let Some(folders) = programs::folders() else { return };
    let field = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/field/kustomize-namespace");
    // `deny` closes the namespace that the overlay gives to the workloads.
    let ask = |option: &str, path: &str| real(&folders, &field, &["can", option, path, "prod/web", "prod/db", "-p", "80"]);
    for option in ["-k", "-f"] {
        ends_with(&ask(option, "overlays/prod"), 1, &["denied", "prod/deny"]);
    }
    ends_with(&ask("-f", "."), 2, &["of which 1 is not part of another; build it with -k: overlays/prod"]);
    // The overlay has the objects of its base already, under other names.
    let both = real(&folders, &field, &["list", "-f", "base", "-k", "overlays/prod"]);
    ends_with(&both, 2, &["the kustomization `overlays/prod` contains `base`; build one of them"]);
}

#[test]
fn places_are_those_of_the_files() {
    let Some(folders) = programs::folders() else { return };
    let sql = HTTP.replace("http", "sql").replace("app: web", "app: db");
    let db = db();
    let tree = tree(&[
        ("top/kustomization.yaml", "namePrefix: a-\nresources: [../base, deny.yaml]\npatches: [{path: patch.yaml}]\n"),
        ("top/deny.yaml", &format!("# Nothing comes in.\n{DENY}")),
        (
            "top/patch.yaml",
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: sql}\nspec: {ingress: [{ports: [{port: 5432}]}]}\n",
        ),
        ("base/kustomization.yaml", "resources: [all.yaml]\n"),
        ("base/all.yaml", &[WEB, &db, HTTP, &sql].join("---\n")),
    ]);
    let answer = |to: &str| json(&real(&folders, tree.path(), &["can", "-k", "top", "external", to, "-p", "80", "-o", "json"]));
    let line = |text: &str, of: &str| text.lines().position(|line| line.contains(of)).expect("a line") + 1;
    let all = std::fs::read_to_string(tree.path().join("base/all.yaml")).expect("readable");
    let web = answer("default/a-web");
    assert_eq!(
        (&web["ingress"]["rule"]["file"], &web["ingress"]["rule"]["line"]),
        (&Value::from("base/all.yaml"), &Value::from(line(&all, "- ports: [{port: 80}]")))
    );
    let deny = serde_json::json!({"namespace": "default", "name": "a-deny", "origin": {"file": "top/deny.yaml", "line": 2}});
    assert_eq!(web["ingress"]["isolated_by"][0], deny);
    // A patched rule is written in no line; the object is.
    let db = answer("default/a-db");
    let start = line(&all, "name: sql}") - 2;
    assert_eq!(
        (&db["ingress"]["rules"][0]["file"], &db["ingress"]["rules"][0]["line"]),
        (&Value::from("base/all.yaml"), &Value::from(start))
    );

    let wrong = HTTP.replace("ports:", "port:");
    std::fs::write(tree.path().join("base/all.yaml"), wrong).expect("written");
    std::fs::write(tree.path().join("top/kustomization.yaml"), "resources: [../base]\n").expect("written");
    let findings = json(&real(&folders, tree.path(), &["validate", "-k", "top", "-o", "json"]));
    let finding = &findings["diagnostics"][0];
    assert_eq!(
        (&finding["code"], &finding["file"], &finding["line"]),
        (&"unknown-field".into(), &"base/all.yaml".into(), &1.into()),
        "{findings}"
    );
}

#[test]
fn a_missing_program_is_an_error_with_the_line_to_pipe() {
    let tree = tree(&[("a b/kustomization.yaml", "resources: []\n"), ("chart/Chart.yaml", "name: a\nversion: 1.0.0\n")]);
    let none = fakes(&[]);
    let expected = "`kustomize` and `kubectl` are not installed; install one of them, or build it elsewhere, and pipe it: kubectl kustomize 'a b' | netpol … -f -";
    ends_with(&with(none.path(), tree.path(), &["list", "-k", "a b"]), 2, &["cannot build the kustomization `a b`", expected]);
    ends_with(&with(none.path(), tree.path(), &["list", "-f", "a b"]), 2, &[expected]);
    let expected =
        "`helm` is not installed; install it, or render the chart elsewhere, and pipe it: helm template chart | netpol … -f -";
    for option in ["--chart", "-f"] {
        ends_with(&with(none.path(), tree.path(), &["list", option, "chart"]), 2, &[expected]);
    }
}

#[test]
fn paths_are_arguments_and_nothing_else() {
    let tree = tree(&[
        ("-x;touch y/kustomization.yaml", "resources: []\n"),
        ("--post-renderer/Chart.yaml", "name: a\n"),
        ("web.yaml", WEB),
    ]);
    let web = tree.path().join("web.yaml").display().to_string();
    let log = tree.path().join("log").display().to_string();
    let script = format!("printf '%s\\n' \"$@\" >> '{log}'\nwhile IFS= read -r line; do echo \"$line\"; done < '{web}'");
    let programs = fakes(&[("kubectl", &script), ("helm", &script)]);
    let run = |arguments: &[&str]| {
        std::fs::write(&log, "").expect("written");
        let output = with(programs.path(), tree.path(), arguments);
        (output, std::fs::read_to_string(&log).expect("readable"))
    };
    let top = tree.path().canonicalize().expect("a folder");
    let (output, arguments) = run(&["list", "--kustomize=-x;touch y"]);
    ends_with(&output, 0, &["default/web"]);
    assert!(arguments.contains(&format!("kustomize\n--\n{}/-x;touch y\n", top.display())), "{arguments}");
    assert!(!tree.path().join("y").exists());
    let values = ["--values", "web.yaml", "--set", "a=$(touch y)", "--release", "r", "-n", "z"];
    let (output, arguments) = run(&[&["list", "--chart=--post-renderer"][..], &values].concat());
    ends_with(&output, 0, &["web"]);
    let (served, other): (Vec<&str>, Vec<&str>) = arguments.lines().partition(|line| line.starts_with("--api-versions="));
    let expected = ["template", "--namespace=z", "--values=web.yaml", "--set=a=$(touch y)", "--", "r", "./--post-renderer"];
    assert_eq!((served.len(), other.as_slice()), (1, expected.as_slice()));
    // `kustomize` comes before `kubectl`.
    let both = fakes(&[("kustomize", &script), ("kubectl", "exit 9")]);
    ends_with(&with(both.path(), tree.path(), &["list", "--kustomize=-x;touch y"]), 0, &["default/web"]);
}

#[test]
fn a_failure_is_reported_with_what_the_program_says() {
    let tree = tree(&[
        ("k/kustomization.yaml", "resources: [none.yaml]\n"),
        ("remote/kustomization.yaml", "resources: [../far]\n"),
        ("far/kustomization.yaml", "resources: ['https://example.com/base?ref=v1']\n"),
        ("chart/Chart.yaml", "name: a\n"),
        ("empty/a.txt", ""),
    ]);
    let programs = fakes(&[
        ("kubectl", "echo 'no none.yaml' >&2; exit 1"),
        ("helm", "echo 'found in Chart.yaml, but missing in charts/ directory: redis' >&2; exit 1"),
    ]);
    let run = |arguments: &[&str]| with(programs.path(), tree.path(), arguments);
    ends_with(&run(&["list", "-k", "k"]), 2, &["cannot build the kustomization `k`: `kubectl` failed: no none.yaml"]);
    let remote = [
        "`far/kustomization.yaml` refers to `https://example.com/base?ref=v1`",
        "not fetched",
        "kubectl kustomize remote | netpol",
    ];
    ends_with(&run(&["list", "-k", "remote"]), 2, &remote);
    ends_with(
        &run(&["list", "--chart", "chart"]),
        2,
        &["missing in charts/ directory: redis", "run `helm dependency build chart` first"],
    );
    ends_with(&run(&["list", "-k", "empty"]), 2, &["`empty`: it has no `kustomization.yaml`"]);
    ends_with(&run(&["list", "--chart", "empty"]), 2, &["`empty`: it has no `Chart.yaml`"]);
    ends_with(&run(&["list", "-k", "none"]), 2, &["`none` is not a directory"]);
    ends_with(&run(&["list", "--chart", "chart", "--values", "none.yaml"]), 2, &["the values file `none.yaml` does not exist"]);
    ends_with(&run(&["list", "-f", "k/kustomization.yaml"]), 2, &["left out 1 kustomization; build it with -k: k\n"]);
    ends_with(&run(&["list", "-f", "chart/Chart.yaml"]), 2, &["left out 1 Helm chart; render it with --chart: chart\n"]);
    ends_with(&run(&["list", "--set", "a=b"]), 2, &["--chart"]);
}

#[test]
fn a_chart_is_what_helm_renders() {
    let Some(folders) = programs::folders() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").join("examples/gitops");
    let options = ["--chart", "charts/mail", "-n", "mail", "--release", "mail", "--values", "charts/mail/values-dev.yaml"];
    let asked = ["can", "external", "mail/mail", "-p", "25", "-o", "json"];
    let answer = json(&real(&folders, &root, &[&asked[..], &options].concat()));
    let file = &answer["ingress"]["isolated_by"][0]["origin"]["file"];
    assert_eq!((&answer["verdict"], file), (&"denied".into(), &"charts/mail/templates/policy.yaml".into()), "{answer}");
    let answer = real(&folders, &root, &[&["can", "external", "mail/mail", "-p", "25"][..], &options].concat());
    ends_with(&answer, 1, &["(charts/mail/templates/policy.yaml)\n"]);
    let piped =
        Command::new(folders[1].join("helm")).args(["template", "charts/mail"]).current_dir(&root).output().expect("helm runs");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), piped.stdout).expect("written");
    let expected = real(&folders, &root, &["list", "-f", &file.path().display().to_string(), "-o", "json"]);
    let found = real(&folders, &root, &["list", "-f", "charts/mail", "-o", "json"]);
    assert!(
        found.status.success() && json(&found)["connections"] == json(&expected)["connections"] && found.stdout.len() > 50,
        "{}",
        text(&found)
    );
}

/// What `helm install` takes from the cluster is what every cluster serves, and the rest is a caveat.
#[test]
fn a_chart_that_asks_the_cluster_has_what_every_cluster_serves() {
    let Some(folders) = programs::folders() else { return };
    let helper = "{{- define \"v\" -}}\n{{- if .Capabilities.APIVersions.Has \"networking.k8s.io/v1/NetworkPolicy\" -}}\nnetworking.k8s.io/v1\n{{- else -}}\nextensions/v1beta1\n{{- end }}\n{{- end }}\n";
    let deny = DENY.replace("networking.k8s.io/v1", "{{ include \"v\" . }}");
    let if_served = |what: &str| format!("{{{{ if .Capabilities.APIVersions.Has \"{what}\" }}}}\n{deny}{{{{ end }}}}\n");
    let (common, cilium) = (if_served("networking.k8s.io/v1/NetworkPolicy"), if_served("cilium.io/v2"));
    let sub = "{{ if lookup \"v1\" \"ConfigMap\" \"a\" \"b\" }}\nkind: {{ .Values.kind }}\n{{ end }}";
    let tree = tree(&[
        ("common/Chart.yaml", "apiVersion: v2\nname: a\nversion: 1.0.0\n"),
        ("common/templates/_v.tpl", helper),
        ("common/templates/web.yaml", WEB),
        ("common/templates/deny.yaml", &common),
        ("asks/Chart.yaml", "apiVersion: v2\nname: asks\nversion: 1.0.0\n"),
        ("asks/templates/_v.tpl", helper),
        ("asks/templates/web.yaml", WEB),
        ("asks/templates/deny.yaml", &cilium),
        ("asks/charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 1.0.0\n"),
        ("asks/charts/sub/templates/a.yaml", sub),
    ]);
    let asked = ["can", "external", "web", "-p", "80", "--chart"];
    let ask = |more: &[&str]| real(&folders, tree.path(), &[&asked[..], more].concat());
    let output = ask(&["common"]);
    ends_with(&output, 1, &["(common/templates/deny.yaml)"]);
    assert!(!text(&output).contains("without a cluster"), "{}", text(&output));
    let caveat = |chart: &str| format!("the chart `{chart}` was rendered without a cluster, and what it makes depends on one");
    let packed = Command::new("tar").args(["-czf", "asks.tgz", "asks"]).current_dir(tree.path()).status();
    assert!(packed.expect("tar runs").success());
    for chart in ["asks", "asks.tgz"] {
        let files =
            "--api-versions states what it serves: charts/sub/templates/a.yaml (`lookup`), templates/deny.yaml (cilium.io/v2)";
        ends_with(&ask(&[chart]), 0, &[&caveat(chart), files]);
        ends_with(&real(&folders, tree.path(), &["list", "--chart", chart]), 0, &[&caveat(chart)]);
        let output = ask(&[chart, "--api-versions", "cilium.io/v2"]);
        ends_with(&output, 1, &[&format!("{}: charts/sub/templates/a.yaml (`lookup`)\n", caveat(chart))]);
    }
}

#[test]
fn the_archive_of_a_chart_is_the_chart() {
    let Some(folders) = programs::folders() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").join("examples/gitops/charts");
    let tree = tree(&[]);
    let packed = Command::new("tar").arg("-czf").arg(tree.path().join("mail.tgz")).arg("mail").current_dir(&root).status();
    assert!(packed.expect("tar runs").success());
    let list = |chart: &str, folder: &Path| real(&folders, folder, &["list", "--chart", chart, "-o", "json"]);
    let (found, expected) = (list("mail.tgz", tree.path()), list("mail", &root));
    assert!(found.status.success() && found.stdout == expected.stdout && found.stdout.len() > 10, "{}", text(&found));
    // By itself it is no manifest.
    ends_with(&real(&folders, tree.path(), &["list", "-f", "mail.tgz"]), 2, &["render it with --chart: mail.tgz"]);
}

#[test]
fn charts_of_a_folder_are_named_once() {
    let tree = tree(&[
        ("web.yaml", WEB),
        ("charts/shop/Chart.yaml", "name: shop\n"),
        ("charts/shop/values.yaml", "a: [1\n"),
        ("charts/shop/templates/a.yaml", "kind: {{ .Values.kind }}\nmetadata: {{\n"),
        ("charts/shop/templates/b.yaml", "{{ if }}kind: [\n"),
        ("charts/lib/Chart.yaml", "name: lib\ntype: library\n"),
    ]);
    let none = fakes(&[]);
    let output = with(none.path(), tree.path(), &["list", "-f", "."]);
    ends_with(&output, 0, &["left out 2 Helm charts, of which 1 is not a library; render it with --chart: charts/shop\n"]);
    assert_eq!(stderr(&output).matches("left out").count(), 1, "{}", text(&output));
}

#[test]
fn ignored_files_are_left_out() {
    let db = db();
    let tree = tree(&[
        ("web.yaml", WEB),
        ("build/db.yaml", &db),
        ("tests/db.yaml", &db),
        ("old/db.yaml", &db),
        (".gitignore", "build/\n"),
        (".netpolignore", "tests\n"),
    ]);
    let none = fakes(&[]);
    let run = |arguments: &[&str]| with(none.path(), tree.path(), &[&["list"][..], arguments].concat());
    let output = run(&["-f", ".", "--exclude", "old/**"]);
    let ignored = "left out 1 entry that .gitignore excludes and that may hold objects; read it with -f: build\n";
    let excluded = "left out 2 entries that .netpolignore, `ignore` or --exclude excludes: old/db.yaml, tests\n";
    ends_with(&output, 0, &["default/web", ignored, excluded]);
    assert!(!text(&output).contains("default/db"), "{}", text(&output));
    ends_with(&run(&["-f", "build"]), 0, &["default/db"]);
    // Generated folders often ignore themselves: what is named is read, or the reason is an error.
    std::fs::write(tree.path().join("build/.gitignore"), "*\n").expect("written");
    ends_with(&run(&["-f", "build"]), 2, &["`build` has no manifests but those that .gitignore excludes"]);
    std::fs::write(tree.path().join("build/.netpolignore"), "!*\n").expect("written");
    ends_with(&run(&["-f", "build"]), 0, &["default/db"]);
    ends_with(&run(&["-f", ".", "--exclude", "[z-a]"]), 2, &["`[z-a]` is not a glob"]);
    std::fs::write(tree.path().join("netpol.toml"), "ignore = [\"old\"]\n").expect("written");
    assert!(!text(&run(&["-f", "."])).contains("default/db"));
    assert!(!text(&run(&[])).contains("default/db"));
}

#[test]
fn files_that_hold_nothing_are_warnings() {
    let field = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/field/git-crypt-secret.yaml");
    let tree =
        tree(&[("web.yaml", WEB), ("note.yaml", "a: [1\n"), ("binary.json", "\u{7f}ELF\u{0}\u{1}\u{2}\u{3}\u{0}\u{0}\u{0}")]);
    std::fs::copy(&field, tree.path().join("secret.yaml")).expect("copied");
    let none = fakes(&[]);
    let run = |arguments: &[&str]| with(none.path(), tree.path(), arguments);
    ends_with(&run(&["validate", "-f", "."]), 0, &["encrypted with git-crypt", "the file is binary", "0 errors", "4 warnings"]);
    ends_with(&run(&["can", "-f", ".", "external", "default/web"]), 0, &["allowed"]);
    // Alone it is no input, and what could hold an object is an error.
    ends_with(&run(&["validate", "-f", "secret.yaml"]), 2, &["encrypted with git-crypt"]);
    std::fs::write(tree.path().join("note.yaml"), "kind: [\n").expect("written");
    ends_with(&run(&["list", "-f", "."]), 2, &["invalid-syntax"]);
    std::fs::write(tree.path().join("note.yaml"), "apiVersion: ENC[AES256_GCM,data:a]\nkind: ENC[AES256_GCM,data:b]\nsops: {}\n")
        .expect("written");
    ends_with(&run(&["list", "-f", "."]), 2, &["SOPS has encrypted the kind"]);
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: 'ENC[AES256_GCM,data:a]'}\nsops: {mac: 'ENC[x]'}\n";
    std::fs::write(tree.path().join("note.yaml"), secret).expect("written");
    ends_with(&run(&["list", "-f", "."]), 0, &["default/web"]);
}

#[test]
fn links_that_lead_nowhere_are_caveats() {
    let tree = tree(&[("web.yaml", WEB)]);
    for name in ["policies.yaml", "team", "notes.txt"] {
        std::os::unix::fs::symlink("/nowhere/at/all", tree.path().join(name)).expect("a link");
    }
    let none = fakes(&[]);
    let output = with(none.path(), tree.path(), &["can", "-f", ".", "external", "default/web"]);
    ends_with(&output, 0, &["caveat", "left out 2 links that lead nowhere: policies.yaml, team"]);
}
