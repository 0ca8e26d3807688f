//! What is in a directory is read, or is named in every answer that it could change: files with other endings, hidden, ignored, encrypted and
//! empty files, and those that a kustomization does not use.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

const WEB: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: web}}\nspec: {containers: [{name: c, image: i}]}\n";
const DENY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny}\nspec: {podSelector: {}, policyTypes: [Ingress]}\n";
/// The same policy in one line.
const LINE: &str = "{\"apiVersion\":\"networking.k8s.io/v1\",\"kind\":\"NetworkPolicy\",\"metadata\":{\"name\":\"deny\"},\"spec\":{\"podSelector\":{},\"policyTypes\":[\"Ingress\"]}}\n";
/// An object in one line that does not decide.
const OTHER: &str = "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"c\"}}\n";
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 123\n";

fn write(folder: &Path, path: &str, text: impl AsRef<[u8]>) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).expect("written");
}

fn tree(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    files.iter().for_each(|(path, text)| write(folder.path(), path, text));
    folder
}

/// Runs netpol in a folder. The only program is a `kubectl` that builds every kustomization to the same pod.
fn run(folder: &Path, arguments: &[&str]) -> Output {
    let programs = tempfile::tempdir().expect("a folder");
    let kubectl = programs.path().join("kubectl");
    std::fs::write(&kubectl, format!("#!/bin/sh\nprintf '{}'\n", WEB.replace('\n', "\\n"))).expect("written");
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_netpol"));
    command.args(arguments).current_dir(folder).env("PATH", programs.path()).stdin(Stdio::null());
    command.output().expect("netpol runs")
}

#[track_caller]
fn ends_with(output: &Output, code: i32, parts: &[&str]) {
    let shown = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{shown}");
    for part in parts {
        assert!(shown.contains(part), "{part} is not in: {shown}");
    }
}

#[track_caller]
fn parsed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

const ASK: [&str; 6] = ["external", "default/web", "-p", "80", "-o", "json"];

/// The verdict on traffic to the pod, and the caveats that name what was left out.
#[track_caller]
fn answer(folder: &Path, source: [&str; 2]) -> (String, Vec<String>) {
    let answer = parsed(&run(folder, &[&["can"][..], &source, &ASK].concat()));
    let caveats = answer["caveats"].as_array().expect("caveats").iter().filter_map(Value::as_str);
    let named = caveats.filter(|caveat| caveat.contains("left out")).map(str::to_owned).collect();
    (answer["verdict"].as_str().expect("a verdict").to_owned(), named)
}

#[track_caller]
fn left_out(folder: &Path, source: [&str; 2]) -> Value {
    parsed(&run(folder, &[&["validate"][..], &source, &["-o", "json"]].concat()))["left_out"].clone()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

/// An archive with one file, as far as it matters: a name, zeros, and the content.
fn archive(name: &str, text: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(512, 0);
    bytes.extend(text.as_bytes());
    bytes
}

#[test]
fn lines_of_json_are_read() {
    for name in ["deny.jsonl", "deny.ndjson", "deny.jsonl.gz"] {
        let tree = tree(&[("web.yaml", WEB)]);
        let lines = format!("{OTHER}{LINE}");
        write(tree.path(), name, if name.ends_with("gz") { gzip(lines.as_bytes()) } else { lines.into_bytes() });
        assert_eq!(answer(tree.path(), ["-f", "."]), ("denied".to_owned(), Vec::new()), "{name}");
    }
}

/// The paths of a policy in a form that is not read, and the entry that names it.
fn unread_forms() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let guarded = format!("{{% if closed %}}\n{DENY}{{% endif %}}\n");
    let branch = format!("{{{{- if .closed }}}}\n{DENY}{{{{- end }}}}\n");
    let sops = "{\n\t\"data\": \"ENC[AES256_GCM,data:aa,type:str]\",\n\t\"sops\": {\"version\": \"3.9.0\"}\n}\n";
    let mut rows = Vec::new();
    for path in ["np.txt", "np", "np.conf", "np.manifest", "np.k8s", "np.json5", "np.yaml.disabled", "np.yaml.sample"] {
        rows.push((path, text(DENY), "other", path));
    }
    for path in ["np.yml.j2", "np.yaml.jinja", "np.yaml.erb"] {
        rows.push((path, text(&guarded), "other", path));
    }
    for path in ["np.yaml.tpl", "np.yaml.gotmpl", "np.yaml.tmpl", "np.yaml.template", "np.tpl"] {
        rows.push((path, text(&branch), "other", path));
    }
    rows.extend([
        ("np.yaml.tpl", text("{{ include \"policy\" . }}\n"), "other", "np.yaml.tpl"),
        ("np.yaml.enc", vec![0, 159, 146, 150], "encrypted", "np.yaml.enc"),
        ("netpol.yaml.gpg", vec![0x85, 1, 0x0c, 3], "encrypted", "netpol.yaml.gpg"),
        ("np.json.sops", text(sops), "encrypted", "np.json.sops"),
        ("np.txt.gz", gzip(DENY.as_bytes()), "other", "np.txt.gz"),
        ("np.tar", archive("np.yaml", DENY), "other", "np.tar"),
        ("np.tar.gz", gzip(&archive("np.yaml", DENY)), "other", "np.tar.gz"),
        ("np.tgz", gzip(&archive("np.yaml", DENY)), "other", "np.tgz"),
        ("np.zip", archive("PK\u{3}\u{4}np.yaml", "compressed"), "other", "np.zip"),
        ("np.yaml.zst", vec![0x28, 0xb5, 0x2f, 0xfd], "other", "np.yaml.zst"),
        ("np.jsonnet", text("{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' }\n"), "other", "np.jsonnet"),
        ("np.libsonnet", text("k.networking.v1.networkPolicy.new('deny')\n"), "other", "np.libsonnet"),
        ("np.tf", text("resource \"kubernetes_network_policy\" \"deny\" {}\n"), "other", "np.tf"),
        ("mail.tgz", gzip(&archive("mail/Chart.yaml", "name: mail\n")), "chart", "mail.tgz"),
        ("helmfile.yaml", text("releases: []\n"), "helmfile", "helmfile.yaml"),
        ("helmfile.yaml.gotmpl", text("releases: []\n"), "helmfile", "helmfile.yaml.gotmpl"),
        (".np.yaml", text(DENY), "hidden", ".np.yaml"),
        (".np.txt", text(DENY), "hidden", ".np.txt"),
        (".old/sub/np.yaml", text(DENY), "hidden", ".old"),
        (".github/np.yaml", text(DENY), "hidden", ".github"),
        ("np.yaml", text(POINTER), "pointer", "np.yaml"),
        ("np.yaml", text("/annex/objects/SHA256E-s10--aa.yaml\n"), "pointer", "np.yaml"),
        ("app-1.0.0.tgz", text(POINTER), "pointer", "app-1.0.0.tgz"),
        ("app.tar.gz", text(POINTER), "pointer", "app.tar.gz"),
        ("np.zip", text("/annex/objects/SHA256E-s10--aa.zip\n"), "pointer", "np.zip"),
        ("policies.txt", text(POINTER), "pointer", "policies.txt"),
        ("policies.txt.gz", text(POINTER), "pointer", "policies.txt.gz"),
        ("policies", text(POINTER), "pointer", "policies"),
        ("np.yaml.j2", text(POINTER), "pointer", "np.yaml.j2"),
        ("np.yaml.gpg", text(POINTER), "pointer", "np.yaml.gpg"),
        ("np.jsonnet", text(POINTER), "pointer", "np.jsonnet"),
        ("helmfile.yaml", text(POINTER), "pointer", "helmfile.yaml"),
        (".np.txt", text(POINTER), "hidden", ".np.txt"),
        ("policies.txt", text("$ANSIBLE_VAULT;1.1;AES256\n3661\n"), "encrypted", "policies.txt"),
        ("policies.txt", text(sops), "encrypted", "policies.txt"),
        ("app.tgz", text("\0GITCRYPT\0aaaa"), "encrypted", "app.tgz"),
        ("np.yaml", text("$ANSIBLE_VAULT;1.1;AES256\n3661\n"), "encrypted", "np.yaml"),
        ("np.yaml", text("-----BEGIN PGP MESSAGE-----\n\nhQEM\n-----END PGP MESSAGE-----\n"), "encrypted", "np.yaml"),
        ("np.yaml", text("\0GITCRYPT\0aaaa"), "encrypted", "np.yaml"),
        ("np.json", text(sops), "encrypted", "np.json"),
        ("np.yaml", Vec::new(), "empty", "np.yaml"),
    ]);
    rows
}

#[test]
fn a_policy_in_another_form_is_named_in_the_answer() {
    for (path, content, kind, named) in unread_forms() {
        let tree = tree(&[("web.yaml", WEB)]);
        write(tree.path(), path, content);
        let (verdict, caveats) = answer(tree.path(), ["-f", "."]);
        assert_eq!(verdict, "allowed", "{path}");
        assert!(matches!(caveats.as_slice(), [caveat] if caveat.ends_with(&format!(": {named}"))), "{path}: {caveats:?}");
        let found = left_out(tree.path(), ["-f", "."]);
        assert_eq!((found[0]["kind"].as_str(), found[0]["path"].as_str()), (Some(kind), Some(named)), "{path}: {found}");
        // The summary names it, and it alone is no finding that fails.
        ends_with(&run(tree.path(), &["validate", "-f", "."]), 0, &["not read", named]);
        ends_with(&run(tree.path(), &["list", "-f", "."]), 0, &["left out 1 ", named]);
    }
}

#[test]
fn a_sentence_names_the_first_of_many() {
    let tree = tree(&[("web.yaml", WEB)]);
    (10..35).for_each(|number| write(tree.path(), &format!("np{number}.txt"), DENY));
    let (_, caveats) = answer(tree.path(), ["-f", "."]);
    assert_eq!(caveats.len(), 1);
    assert!(
        caveats.iter().all(|caveat| caveat.contains("left out 25 files") && caveat.ends_with("np19.txt and 15 more")),
        "{caveats:?}"
    );
}

#[test]
fn what_holds_no_objects_is_not_named() {
    let quoted = format!("# How\n\n```yaml\n{DENY}```\n");
    let tree = tree(&[
        ("web.yaml", WEB),
        ("README.md", &quoted),
        ("LICENSE", "Apache License\nof any kind\n"),
        ("Makefile", "apply:\n\tkubectl apply -f .\n"),
        ("main.go", "package main // apiVersion kind NetworkPolicy\n"),
        ("deploy.sh", &format!("kubectl apply -f - <<E\n{DENY}E\n")),
        ("notes.txt", "the kind of notes\n"),
        ("config.txt", OTHER),
        ("logo.png", POINTER),
        ("manual.pdf", POINTER),
        ("web.yaml~", DENY),
        ("web.yaml.bak", DENY),
        ("nginx.conf.j2", "listen {{ port }};\n"),
        ("main.tf", "resource \"azurerm_storage_account\" \"a\" { kind = \"StorageV2\" }\n"),
        ("text.tar", &String::from_utf8_lossy(&archive("README", "text"))),
        (".github/workflows/ci.yaml", "on: push\njobs: {a: {runs-on: x, steps: [{run: \"${{ github.sha }}\"}]}}\n"),
        (".gitlab-ci.yml", "a:\n  script: !reference [.b, script]\n"),
        (".helmignore", "*.md\n"),
        (".gitignore", "node_modules\nout\n"),
        (".git/np.yaml", DENY),
        ("node_modules/a/np.yaml", DENY),
        ("out/report.json", "{\"kind\": \"report\"}\n"),
        ("..2026/np.yaml", DENY),
    ]);
    std::os::unix::fs::symlink("web.yaml", tree.path().join(".current.yaml")).expect("a link");
    assert_eq!(answer(tree.path(), ["-f", "."]), ("allowed".to_owned(), Vec::new()));
    assert_eq!(left_out(tree.path(), ["-f", "."]), json!([]));
}

#[test]
fn what_git_ignores_is_a_caveat_and_what_the_user_excludes_is_not() {
    let tree = tree(&[("web.yaml", WEB), ("build/np.yaml", DENY), ("cache/a.json", "{}\n"), (".gitignore", "build\ncache\n")]);
    let (verdict, caveats) = answer(tree.path(), ["-f", "."]);
    assert_eq!((verdict.as_str(), caveats.len()), ("allowed", 1));
    assert!(caveats.iter().all(|caveat| caveat.contains(".gitignore excludes") && caveat.ends_with(": build")), "{caveats:?}");
    let entry = |kind: &str, path: &str| json!({"kind": kind, "path": path, "ask": format!("-f {path}")});
    assert_eq!(left_out(tree.path(), ["-f", "."]), json!([entry("ignored", "build")]));

    write(tree.path(), ".netpolignore", "build\n");
    write(tree.path(), "old/np.yaml", DENY);
    write(tree.path(), "tests/np.yaml", DENY);
    write(tree.path(), "netpol.toml", "ignore = [\"old\"]\n");
    let ask = [&["can", "-f", ".", "--exclude", "tests/*"][..], &ASK].concat();
    let output = run(tree.path(), &ask);
    let sentence = "left out 3 entries that .netpolignore, `ignore` or --exclude excludes: build, old, tests/np.yaml";
    ends_with(&output, 0, &[&format!("note: {sentence}")]);
    assert!(!parsed(&output)["caveats"].to_string().contains("left out"), "{output:?}");
    let arguments = ["validate", "-f", ".", "--exclude", "tests/*"];
    ends_with(&run(tree.path(), &arguments), 0, &[&format!("excluded: {sentence}")]);
    let found = parsed(&run(tree.path(), &[&arguments[..], &["-o", "json"]].concat()));
    assert_eq!(found["left_out"], json!(["build", "old", "tests/np.yaml"].map(|path| entry("excluded", path))));
}

#[test]
fn a_deployment_of_files_is_read_as_its_directory() {
    let tree = tree(&[
        ("netpol.toml", "[deployments.a]\nfiles = [\"manifests\"]\n"),
        (".netpolignore", "manifests/drafts\n"),
        ("manifests/web.yaml", WEB),
        ("manifests/drafts/np.yaml", DENY),
        ("manifests/np.txt", DENY),
    ]);
    let below = tree.path().join("manifests");
    for (folder, source, prefix) in [
        (tree.path(), ["-f", "manifests"], "manifests/"),
        (tree.path(), ["-d", "a"], "manifests/"),
        (below.as_path(), ["-f", "."], ""),
    ] {
        let (verdict, caveats) = answer(folder, source);
        assert_eq!((verdict.as_str(), caveats.len()), ("allowed", 1), "{source:?}: {caveats:?}");
        assert!(caveats.iter().all(|caveat| caveat.ends_with(&format!(": {prefix}np.txt"))), "{caveats:?}");
        let found = left_out(folder, source);
        assert_eq!((&found[1]["kind"], &found[1]["path"]), (&json!("excluded"), &json!(format!("{prefix}drafts"))), "{source:?}");
    }
    // What is named is read.
    assert_eq!(parsed(&run(tree.path(), &["validate", "-f", "manifests/drafts", "-o", "json"]))["read"]["networkpolicies"], 1);
}

#[test]
fn what_a_kustomization_does_not_use_is_named() {
    let tree = tree(&[
        ("overlays/prod/kustomization.yaml", "resources: [../../base]\npatches: [{path: ../../base/patch.yaml}]\n"),
        ("overlays/prod/np.yaml.j2", DENY),
        ("overlays/prod/values.yaml", "a: 1\n"),
        ("base/kustomization.yaml", "resources: [web.yaml, .hidden.yaml]\nconfigMapGenerator: [{name: c, files: [np.txt]}]\n"),
        ("base/web.yaml", WEB),
        ("base/patch.yaml", DENY),
        ("base/.hidden.yaml", DENY),
        ("base/np.txt", DENY),
        ("base/forgotten.yaml", DENY),
        ("base/drafts/np.yaml", DENY),
        ("other/np.yaml", DENY),
    ]);
    let entry = |kind: &str, path: &str| json!({"kind": kind, "path": path, "ask": format!("-f {path}")});
    let files = [entry("file", "base/drafts/np.yaml"), entry("file", "base/forgotten.yaml")];
    let template = json!({"kind": "other", "path": "overlays/prod/np.yaml.j2"});
    let expected = json!([files[0], files[1], template]);
    for option in ["-k", "-f"] {
        assert_eq!(left_out(tree.path(), [option, "overlays/prod"]), expected, "{option}");
        let (_, caveats) = answer(tree.path(), [option, "overlays/prod"]);
        assert!(
            matches!(caveats.as_slice(), [a, b] if a.ends_with(": base/drafts/np.yaml, base/forgotten.yaml") && b.contains(".j2"))
        );
    }
    // The user decides.
    write(tree.path(), ".netpolignore", "drafts\nforgotten.yaml\n*.j2\n");
    assert_eq!(answer(tree.path(), ["-k", "overlays/prod"]).1, Vec::<String>::new());
    // What another argument reads is not left out.
    std::fs::remove_file(tree.path().join(".netpolignore")).expect("removed");
    let both = parsed(&run(tree.path(), &["validate", "-k", "overlays/prod", "-f", "base/forgotten.yaml", "-o", "json"]));
    assert_eq!(both["left_out"], json!([files[0], template]));
}

#[test]
fn a_directory_without_manifests_names_what_it_has() {
    for (path, text, what) in [
        ("np.yaml.j2", DENY, "left out 1 file that may hold or make objects"),
        ("helmfile.yaml", "releases: []\n", "left out 1 helmfile; pipe what `helmfile template` prints: helmfile.yaml"),
        (".np.yaml", DENY, "left out 1 hidden entry that may hold objects; read it with -f: .np.yaml"),
    ] {
        let tree = tree(&[(path, text)]);
        for command in [&["list", "-f", "."][..], &["validate", "."]] {
            ends_with(&run(tree.path(), command), 2, &[what]);
        }
    }
}

#[test]
fn a_deployment_that_cannot_be_rendered_is_named_with_what_to_do() {
    let toml = "[deployments.mail]\nchart = \"charts/mail\"\nvalues = [\"v.yaml\"]\nset = [\"a=b c\"]\nrelease = \"mail\"\nnamespace = \"x\"\n\n[deployments.prod]\nkustomize = \"prod\"\n";
    let tree = tree(&[
        ("netpol.toml", toml),
        ("charts/mail/Chart.yaml", "name: mail\n"),
        ("v.yaml", "a: 1\n"),
        ("prod/kustomization.yaml", "resources: []\n"),
    ]);
    let line = "helm template mail charts/mail -n x --values v.yaml --set 'a=b c' | netpol … -n x -f -";
    let summary = [
        "1 of 2 deployments valid, 1 not checked",
        &format!("not checked: mail: `helm` is not installed; install it, or render the chart elsewhere, and pipe it: {line}"),
        "prod (kustomization prod)\n",
    ];
    ends_with(&run(tree.path(), &["validate"]), 2, &summary);
    let found = parsed(&run(tree.path(), &["validate", "-o", "json"]));
    assert!(found["deployments"][0]["error"].as_str().is_some_and(|error| error.ends_with(line)), "{found}");
    assert_eq!(found["deployments"][1]["valid"], true);
    // One that is wrong is counted, and does not hide the others.
    write(tree.path(), "netpol.toml", "[deployments.a]\nfiles = [\"a.yaml\"]\n\n[deployments.b]\nfiles = [\"b.yaml\"]\n");
    write(tree.path(), "a.yaml", DENY.replace("spec:", "spce:"));
    write(tree.path(), "b.yaml", WEB);
    ends_with(&run(tree.path(), &["validate"]), 1, &["1 of 2 deployments valid, 1 not valid\n"]);
    write(tree.path(), "a.yaml", DENY);
    ends_with(&run(tree.path(), &["validate"]), 0, &["2 of 2 deployments valid\n"]);
}

#[test]
fn empty_input_is_named_once() {
    let tree = tree(&[("empty.yaml", ""), ("spaces.yaml", "\n"), ("comment.yaml", "# nothing\n"), ("sub/empty.yaml", "")]);
    let expected = "; expected manifests";
    for (arguments, said) in [
        (&["-f", "-"][..], "no Kubernetes object in standard input: it is empty"),
        (&["-f", "empty.yaml"], "no Kubernetes object in `empty.yaml`: it is empty"),
        (&["-f", "./empty.yaml", "-f", "spaces.yaml"], "no Kubernetes object in `./empty.yaml`, `spaces.yaml`: they are empty"),
        (&["-f", "comment.yaml"], "no Kubernetes object in `comment.yaml`: it holds no document"),
        (&["-f", "sub"], "no Kubernetes object in `sub`: it holds no document; left out 1 empty file: sub/empty.yaml"),
    ] {
        for command in ["validate", "list"] {
            let output = run(tree.path(), &[&[command][..], arguments].concat());
            ends_with(&output, 2, &[&format!("{said}{expected}")]);
        }
    }
}

/// A repository has files of many tools. What may hold an object in another wrapping is named, and so is what may be an error.
#[test]
fn files_of_other_tools_are_not_named() {
    let others = [
        (
            "docker-compose.yaml",
            "services:\n  web:\n    image: nginx\n    ports: ['80:80']\n    networks: [front]\nnetworks: {front: {}}\n",
        ),
        (
            "package.json",
            "{\"name\": \"shop\", \"version\": \"1.0.0\", \"scripts\": {\"test\": \"jest\"}, \"dependencies\": {\"express\": \"^4\"}}",
        ),
        ("mkdocs.yml", "site_name: Shop\nnav:\n- Home: index.md\ntheme: {name: material}\n"),
        ("dashboard.json", "{\"title\": \"Shop\", \"panels\": [{\"type\": \"graph\", \"targets\": [{\"expr\": \"up\"}]}]}"),
        ("rules.yaml", "groups:\n- name: shop\n  rules:\n  - alert: Down\n    expr: up == 0\n    labels: {severity: page}\n"),
        ("users.yaml", "- name: a\n- name: b\n"),
    ];
    let folder = tree(&[&[("web.yaml", WEB)][..], &others].concat());
    let named = |output: &Output| {
        let answer = parsed(output);
        let caveats = answer["caveats"].as_array().expect("caveats").iter().filter_map(Value::as_str).map(str::to_owned);
        caveats.filter(|caveat| caveat.contains("Kubernetes object")).collect::<Vec<_>>()
    };
    let ask = || run(folder.path(), &[&["can", "-f", "."][..], &ASK].concat());
    assert_eq!(named(&ask()), Vec::<String>::new());
    for text in [
        "networkPolicy: {enabled: true}\n",
        "manifests: ['apiVersion: networking.k8s.io/v1']\n",
        "policies: [{podSelector: {}}]\n",
        "helm: {repo: https://example.com, chart: db}\n",
        "message: forbidden\n",
        "error: {a: b}\n",
        "forbidden\n",
    ] {
        write(folder.path(), "other.yaml", text);
        assert_eq!(named(&ask()).len(), 1, "{text}");
    }
}
