//! `netpol lint` and `netpol validate` in the formats of services: SARIF, GitHub, GitLab and JUnit.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

#[path = "common/folders.rs"]
mod folders;
#[path = "common/piped.rs"]
mod piped;
mod programs;
#[path = "common/rendered.rs"]
mod rendered;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use roxmltree::{Document, Node};
use serde_json::{Value, json};
use tempfile::TempDir;

use folders::{ends_with, fakes, json, text, tree, with};
use piped::piped;
use rendered::{DENY, WEB, real};

/// An unknown field in line 6, with an edit, in a namespace that no file declares.
const WRONG: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {}\n  ingres: []\n";
/// An exception within another one, which is no more than an info.
const NESTED: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: nested, namespace: shop}\nspec:\n  podSelector: {}\n  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.1.1.0/24]}\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// Runs netpol in a folder, without kustomize and helm.
fn netpol(folder: &Path, arguments: &[&str]) -> Output {
    with(Path::new("/nowhere"), folder, arguments)
}

fn lint(folder: &Path, format: &str, arguments: &[&str]) -> Output {
    netpol(folder, &[&["lint", "-o", format], arguments].concat())
}

fn results(log: &Value) -> &Vec<Value> {
    log["runs"][0]["results"].as_array().expect("results")
}

fn uri(location: &Value) -> &str {
    location["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap_or_default()
}

/// The results of a rule.
fn of<'l>(log: &'l Value, rule: &str) -> Vec<&'l Value> {
    results(log).iter().filter(|result| result["ruleId"] == rule).collect()
}

fn xml(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// What a schema cannot say: numbers of rules are right, and paths are those of a repository.
fn check_results(log: &Value) {
    let rules = &log["runs"][0]["tool"]["driver"]["rules"];
    for result in results(log) {
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().expect("a number")).expect("a number")];
        assert_eq!(rule["id"], result["ruleId"]);
        for location in result["locations"].as_array().into_iter().flatten() {
            let uri = uri(location);
            assert!(uri.is_ascii() && !uri.contains([' ', '\\']), "{uri}");
        }
    }
    let used: BTreeSet<String> = results(log).iter().map(|result| result["ruleId"].to_string()).collect();
    assert_eq!(rules.as_array().map(Vec::len), Some(used.len()), "rules without a result");
}

/// Inputs of every kind: what others wrote, standard input, several deployments, one that cannot be read, and none.
fn logs() -> Vec<Value> {
    let root = root();
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(root.join("policy-cli/tests/field")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            logs.push(json(&lint(&root, "sarif", &["--select", "all", "--", &path.to_string_lossy()])));
        }
    }
    logs.push(json(&netpol(&root, &["validate", "-o", "sarif", "policy-cli/tests/field", "examples"])));
    logs.push(json(&piped(["lint", "-o", "sarif", "-f", "-"].as_slice(), WRONG)));
    let deployments = "[deployments.a]\nfiles = [\"a.yaml\"]\n\n[deployments.b]\nfiles = [\"gone.yaml\"]\n";
    logs.push(json(&lint(tree(&[("a.yaml", WRONG), ("netpol.toml", deployments)]).path(), "sarif", &[])));
    let empty = tree(&[("a.yaml", "")]);
    logs.push(json(&lint(empty.path(), "sarif", &["--allow-empty", "--ignore", "all"])));
    logs
}

#[test]
fn sarif_follows_its_schema() {
    let logs = logs();
    logs.iter().for_each(check_results);
    assert!(logs.iter().map(|log| results(log).len()).sum::<usize>() > 80);
    let output = Command::new(root().join(".ci/tool")).arg("sarif-check").output().expect("bash runs");
    let program = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if !output.status.success() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs sarif-check: {}", text(&output));
        return println!("skipped: the schema of SARIF cannot be installed: {}", text(&output));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let written = |name: String, log: &Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, log.to_string()).expect("written");
        path
    };
    let files: Vec<PathBuf> = logs.iter().enumerate().map(|(number, log)| written(number.to_string(), log)).collect();
    let checked = Command::new(&program).args(&files).output().expect("it runs");
    assert!(checked.status.success(), "{}", text(&checked));
    // The check can fail.
    let mut wrong = logs[0].clone();
    wrong["runs"][0]["tool"]["driver"]["undescribed"] = 1.into();
    let checked = Command::new(&program).arg(written("wrong".to_owned(), &wrong)).output().expect("it runs");
    assert!(text(&checked).contains("undescribed"), "{}", text(&checked));
}

#[test]
fn sarif_has_rules_with_their_manual() {
    let folder = tree(&[("a.yaml", WRONG)]);
    let log = json(&lint(folder.path(), "sarif", &["a.yaml"]));
    let driver = &log["runs"][0]["tool"]["driver"];
    let chart = std::fs::read_to_string(root().join("policy-agent/deploy/chart/Chart.yaml")).expect("a chart");
    let home = driver["informationUri"].as_str().expect("a home page");
    assert!(chart.contains(&format!("\nhome: {home}\n")), "{home}");
    assert_eq!((&driver["name"], &log["runs"][0]["columnKind"]), (&"netpol".into(), &"unicodeCodePoints".into()));
    let rule = &driver["rules"][0];
    assert_eq!((&rule["id"], &rule["name"]), (&"NP011".into(), &"unknown-field".into()));
    assert_eq!(rule["shortDescription"]["text"], "a field does not exist");
    assert_eq!((&rule["defaultConfiguration"]["level"], &rule["properties"]["tags"]), (&"error".into(), &json!(["input"])));
    let markdown = rule["help"]["markdown"].as_str().expect("Markdown");
    assert!(markdown.contains("\n\n### Example\n\n```yaml\napiVersion: "), "{markdown}");
    assert!(rule["help"]["text"].as_str().is_some_and(|text| text.contains("\n\nWhat to do:\n")));
    let result = &of(&log, "NP011")[0];
    assert_eq!(
        result["message"]["text"],
        "NetworkPolicy shop/web: spec.ingres: unknown field `ingres`\nhelp: did you mean `ingress`?"
    );
    let logical = &result["locations"][0]["logicalLocations"][0];
    let names = json!(["NetworkPolicy shop/web", "NetworkPolicy shop/web: spec.ingres"]);
    assert_eq!(json!([logical["name"], logical["fullyQualifiedName"]]), names);
}

/// The text of a file after the fixes of a log.
fn fixed(log: &Value, before: &str) -> String {
    let mut out = before.to_owned();
    let mut edits: Vec<(usize, usize, String)> = Vec::new();
    for fix in results(log).iter().filter_map(|result| result["fixes"].as_array()).flatten() {
        let replacement = &fix["artifactChanges"][0]["replacements"][0];
        let number = |key: &str| usize::try_from(replacement["deletedRegion"][key].as_u64().expect("a number")).expect("small");
        let text = replacement["insertedContent"]["text"].as_str().expect("text").to_owned();
        edits.push((number("byteOffset"), number("byteLength"), text));
    }
    edits.sort();
    for (start, length, text) in edits.into_iter().rev() {
        out.replace_range(start..start + length, &text);
    }
    out
}

#[test]
fn edits_are_fixes_and_columns_count_characters() {
    let policy = WRONG.replace("metadata: {name: web,", "metadata: {annotations: {ä: \"日本\"}, lables: {}, name: web,");
    let folder = tree(&[("a.yaml", &policy)]);
    let log = json(&lint(folder.path(), "sarif", &["a.yaml"]));
    let expected = policy.replace("lables", "labels").replace("ingres:", "ingress:");
    assert_eq!(fixed(&log, &policy), expected);
    // `lables` follows 35 characters, of which `ä` has two bytes, and `日` and `本` have three.
    let region = &of(&log, "NP011")[0]["locations"][0]["physicalLocation"]["region"];
    let start = policy.find("lables").expect("it is there");
    let expected =
        json!({"startLine": 3, "startColumn": 36, "endLine": 3, "endColumn": 42, "byteOffset": start, "byteLength": 6});
    assert_eq!(region, &expected);
    let shown = text(&lint(folder.path(), "github", &["a.yaml"]));
    assert!(shown.contains("::error file=a.yaml,line=3,col=36,title=NP011 unknown-field::NetworkPolicy shop/web: "), "{shown}");
}

#[test]
fn bytes_are_those_of_the_file_or_not_given() {
    let folder = tree(&[]);
    let marked = format!("\u{feff}{WRONG}");
    let wide: Vec<u8> = marked.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    zipped.write_all(WRONG.as_bytes()).expect("written");
    let files =
        [("marked.yaml", marked.clone().into_bytes()), ("wide.yaml", wide), ("a.yaml.gz", zipped.finish().expect("gzip"))];
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).expect("written");
        let log = json(&lint(folder.path(), "sarif", &[name]));
        let result = of(&log, "NP011")[0];
        let region = &result["locations"][0]["physicalLocation"]["region"];
        assert_eq!((&region["startLine"], &region["startColumn"]), (&6.into(), &3.into()), "{name}");
        if name == "marked.yaml" {
            assert_eq!(fixed(&log, &marked), marked.replace("ingres:", "ingress:"));
        } else {
            assert_eq!((&region["byteOffset"], &result["fixes"]), (&Value::Null, &Value::Null), "{name}");
        }
    }
}

/// The fingerprints of a report, sorted.
fn fingerprints(output: &Output) -> Vec<String> {
    let report = json(output);
    let issues = if report.is_array() { report.as_array().expect("a list") } else { results(&report) };
    let print = |issue: &Value| {
        let print = issue["fingerprint"].as_str().or_else(|| issue["partialFingerprints"]["netpolFinding/v1"].as_str());
        print.unwrap_or_else(|| panic!("{issue}")).to_owned()
    };
    let mut prints: Vec<String> = issues.iter().map(print).collect();
    prints.sort();
    prints
}

/// Every file that others wrote, once as it is and once with all lines moved.
#[test]
fn fingerprints_stay_when_lines_move() {
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("policy-cli/tests/field")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let Some(text) = path.is_file().then(|| std::fs::read_to_string(&path).ok()).flatten() else { continue };
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let folder = tree(&[(&name, &text)]);
        for format in ["sarif", "gitlab"] {
            let run = || fingerprints(&lint(folder.path(), format, &["--select", "all", "--", &name]));
            std::fs::write(folder.path().join(&name), &text).expect("written");
            let before = run();
            std::fs::write(folder.path().join(&name), format!("\n\n\n{text}")).expect("written");
            assert_eq!(before, run(), "{name} {format}");
            count += before.len();
        }
    }
    assert!(count > 60, "{count}");
}

#[test]
fn fingerprints_differ_between_findings() {
    let other = WRONG.replace("name: web", "name: db");
    let both = WRONG.replace("  ingres: []\n", "  ingres: []\n  egres: []\n");
    let folder = tree(&[("a.yaml", &format!("{both}---\n{other}"))]);
    let prints: BTreeSet<String> =
        fingerprints(&lint(folder.path(), "sarif", &["--select", "unknown-field", "a.yaml"])).into_iter().collect();
    assert_eq!(prints.len(), 3);
    // GitLab needs one for each finding, though two of them are the same one twice.
    let twice = tree(&[("a.yaml", "a: [\n---\na: [\n")]);
    let prints = fingerprints(&lint(twice.path(), "gitlab", &["--select", "invalid-syntax", "a.yaml"]));
    assert_eq!((prints.len(), prints.iter().collect::<BTreeSet<_>>().len()), (2, 2));
}

/// A repository, with files in a folder and above it.
fn repository() -> TempDir {
    let folder = tree(&[("top.yaml", WRONG), ("sub/ä b,c:d%.yaml", &WRONG.replace("web", "db"))]);
    std::fs::create_dir(folder.path().join(".git")).expect("a folder");
    folder
}

#[test]
fn paths_are_those_of_the_repository() {
    let repository = repository();
    let sub = repository.path().join("sub");
    let arguments = ["--select", "unknown-field", "../top.yaml", "."];
    let log = json(&lint(&sub, "sarif", &arguments));
    let locations: Vec<&Value> = results(&log).iter().map(|result| &result["locations"][0]).collect();
    let uris: Vec<&str> = locations.iter().map(|location| uri(location)).collect();
    assert_eq!(uris, ["top.yaml", "sub/%C3%A4%20b%2Cc%3Ad%25.yaml"]);
    assert_eq!(locations[0]["physicalLocation"]["artifactLocation"]["uriBaseId"], "%SRCROOT%");
    let fix = &results(&log)[0]["fixes"][0]["artifactChanges"][0]["artifactLocation"];
    assert_eq!(fix["uri"], "top.yaml");
    let shown = text(&lint(&sub, "github", &arguments));
    for part in ["::error file=top.yaml,line=6,", "::error file=sub/ä b%2Cc%3Ad%25.yaml,line=6,"] {
        assert!(shown.contains(part), "{shown}");
    }
    let issues = json(&lint(&sub, "gitlab", &arguments));
    assert_eq!(issues[0]["location"], json!({"path": "top.yaml", "lines": {"begin": 6}}));
    assert_eq!(issues[1]["location"]["path"], "sub/ä b,c:d%.yaml");
    let tests = xml(&lint(&sub, "junit", &arguments));
    let tests = Document::parse(&tests).expect("XML");
    let names: Vec<_> =
        tests.descendants().filter(|node| node.has_tag_name("testsuite")).map(|suite| suite.attribute("name")).collect();
    assert_eq!(names, [Some("sub/ä b,c:d%.yaml"), Some("top.yaml")]);
}

#[test]
fn paths_outside_of_the_repository_are_absolute() {
    let (repository, other) = (repository(), tree(&[("a b.yaml", WRONG)]));
    let path = other.path().canonicalize().expect("a folder").join("a b.yaml");
    let arguments = ["--select", "unknown-field", &path.to_string_lossy()];
    let log = json(&lint(repository.path(), "sarif", &arguments));
    let location = &results(&log)[0]["locations"][0];
    assert_eq!(uri(location), format!("file://{}", path.display()).replace(' ', "%20"));
    assert!(location["physicalLocation"]["artifactLocation"].get("uriBaseId").is_none());
    // Outside of any repository, the current directory is the root.
    assert_eq!(uri(&results(&json(&lint(other.path(), "sarif", &["a b.yaml"])))[0]["locations"][0]), "a%20b.yaml");
    let link = repository.path().join("link.yaml");
    std::os::unix::fs::symlink(&path, link).expect("a link");
    let log = json(&lint(repository.path(), "sarif", &["--select", "unknown-field", "link.yaml"]));
    assert_eq!(uri(&results(&log)[0]["locations"][0]), "link.yaml");
}

#[test]
fn findings_without_a_file_are_shown_all_the_same() {
    let run = |format: &str| piped(["lint", "-o", format, "-f", "-"].as_slice(), WRONG);
    let log: Value = serde_json::from_slice(&run("sarif").stdout).expect("JSON");
    check_results(&log);
    let location = &of(&log, "NP011")[0]["locations"][0];
    assert!(location.get("physicalLocation").is_none() && location["logicalLocations"].is_array(), "{location}");
    assert!(of(&log, "NP011")[0].get("fixes").is_none());
    let shown = text(&run("github"));
    let line =
        "::error title=NP011 unknown-field::NetworkPolicy shop/web: spec.ingres: unknown field `ingres`%0Aplace: -:6:3%0Ahelp: ";
    assert!(shown.contains(line), "{shown}");
    let issues: Value = serde_json::from_slice(&run("gitlab").stdout).expect("JSON");
    assert_eq!(issues[0]["location"], json!({"path": "-", "lines": {"begin": 6}}));
    Document::parse(&xml(&run("junit"))).expect("XML");
    // GitHub refuses a log file with a result without a file, so one about a namespace is shown at the first file.
    let folder = tree(&[("a.yaml", WRONG)]);
    let log = json(&lint(folder.path(), "sarif", &["a.yaml"]));
    let location = &of(&log, "NP029")[0]["locations"][0];
    assert_eq!((uri(location), &location["physicalLocation"]["region"]), ("a.yaml", &json!({"startLine": 1})));
    let shown = text(&lint(folder.path(), "github", &["a.yaml"]));
    assert!(shown.contains("\n::warning title=NP029 undeclared-namespace::Namespace shop: "), "{shown}");
}

#[test]
fn what_was_rendered_is_shown_at_what_it_is_made_from() {
    let folder = tree(&[("k/kustomization.yaml", "resources: []\n")]);
    let kustomize = fakes(&[("kustomize", &format!("printf '{}'", WRONG.replace('\n', "\\n")))]);
    let run = |format| with(kustomize.path(), folder.path(), &["lint", "-o", format, "--select", "unknown-field", "-k", "k"]);
    let log = json(&run("sarif"));
    let result = &results(&log)[0];
    let physical = &result["locations"][0]["physicalLocation"];
    assert_eq!(physical["artifactLocation"]["uri"], "k/kustomization.yaml");
    assert_eq!((&physical["region"], &result["fixes"]), (&json!({"startLine": 1}), &Value::Null));
    assert!(text(&run("github")).starts_with("::error file=k/kustomization.yaml,title="));
}

#[test]
fn what_was_rendered_is_shown_at_its_source_if_that_is_known() {
    let Some(folders) = programs::folders() else { return };
    let nested = NESTED.replace("namespace: shop", "labels: {}");
    let folder = tree(&[
        ("a/kustomization.yaml", "resources: [../base]\n"),
        ("base/kustomization.yaml", "resources: [web.yaml, nested.yaml]\n"),
        ("base/web.yaml", WEB),
        ("base/nested.yaml", &format!("# a comment\n---\n{nested}")),
        ("chart/Chart.yaml", "apiVersion: v2\nname: chart\nversion: 0.1.0\n"),
        ("chart/templates/nested.yaml", &nested),
        ("chart/templates/deny.yaml", DENY),
    ]);
    for (arguments, path, line) in
        [(["-k", "a"], "base/nested.yaml", 9), (["--chart", "chart"], "chart/templates/nested.yaml", 1)]
    {
        let output =
            real(&folders, folder.path(), &[&["lint", "-o", "sarif", "--select", "except-nested"], &arguments[..]].concat());
        ends_with(&output, 0, &[]);
        let log = json(&output);
        let physical = &results(&log)[0]["locations"][0]["physicalLocation"];
        assert_eq!(physical["artifactLocation"]["uri"], path, "{log}");
        assert_eq!(physical["region"]["startLine"], line, "{log}");
    }
}

#[test]
fn severities_are_those_of_the_format() {
    let folder = tree(&[("a.yaml", &format!("{WRONG}---\n{NESTED}"))]);
    let log = json(&lint(folder.path(), "sarif", &["a.yaml"]));
    let levels: BTreeSet<&str> = results(&log).iter().filter_map(|result| result["level"].as_str()).collect();
    assert_eq!(levels, BTreeSet::from(["error", "note", "warning"]));
    // The worst come first.
    let shown = String::from_utf8(lint(folder.path(), "github", &["a.yaml"]).stdout).expect("UTF-8");
    let commands: Vec<&str> = shown.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert_eq!((commands.first(), commands.last()), (Some(&"::error"), Some(&"::notice")));
    assert!(commands.is_sorted_by_key(|command| ["::error", "::warning", "::notice"].iter().position(|name| name == command)));
    let issues = json(&lint(folder.path(), "gitlab", &["a.yaml"]));
    let severities: BTreeSet<&str> =
        issues.as_array().into_iter().flatten().filter_map(|issue| issue["severity"].as_str()).collect();
    assert_eq!(severities, BTreeSet::from(["info", "major", "minor"]));
    // What fails is a test; what does not is output.
    for (fail_on, failures, code) in [("error", 1, 1), ("info", results(&log).len(), 1), ("never", 0, 0)] {
        let output = lint(folder.path(), "junit", &["--fail-on", fail_on, "a.yaml"]);
        assert_eq!(output.status.code(), Some(code), "{fail_on}");
        let tests = xml(&output);
        let tests = Document::parse(&tests).expect("XML");
        let total = tests.root_element().attribute("failures").map(str::to_owned);
        assert_eq!(total, Some(failures.to_string()), "{fail_on}");
        assert_eq!(tests.descendants().filter(|node| node.has_tag_name("failure")).count(), failures, "{fail_on}");
        assert_eq!(tests.descendants().any(|node| node.has_tag_name("system-out")), fail_on != "info");
    }
}

#[test]
fn files_without_findings_are_tests_that_pass() {
    let valid = WRONG.replace("  ingres: []\n", "");
    let folder = tree(&[("a.yaml", &valid), ("b.yaml", &WRONG.replace("web", "db"))]);
    let shown = xml(&lint(folder.path(), "junit", &["."]));
    let tests = Document::parse(&shown).expect("XML");
    let suites: Vec<Node<'_, '_>> = tests.descendants().filter(|node| node.has_tag_name("testsuite")).collect();
    let counts = |suite: &Node<'_, '_>| ["name", "tests", "failures"].map(|name| suite.attribute(name).map(str::to_owned));
    let owned = |values: [&str; 3]| values.map(|value| Some(value.to_owned()));
    let expected = [["netpol lint", "1", "0"], ["a.yaml", "1", "0"], ["b.yaml", "1", "1"]].map(owned);
    assert_eq!(suites.iter().map(counts).collect::<Vec<_>>(), expected);
    let test = suites[2].children().find(|node| node.has_tag_name("testcase")).expect("a test");
    assert_eq!(
        (test.attribute("file"), test.attribute("line"), test.attribute("classname")),
        (Some("b.yaml"), Some("6"), Some("b.yaml"))
    );
    let failure = test.first_element_child().expect("a failure");
    assert_eq!(failure.attribute("type"), Some("unknown-field"));
    assert!(failure.text().is_some_and(|text| text.ends_with("\nhelp: did you mean `ingress`?")));
}

#[test]
fn every_text_can_be_written() {
    let nasty = "\\e[1m<&>\\\"'\\0]]>\\r\\n::error::x%\\u2028\\uFFFE";
    let policy = WRONG.replace("ingres:", &format!("\"{nasty}\":"));
    let folder = tree(&[("a.yaml", &policy)]);
    let arguments = ["--select", "unknown-field", "a.yaml"];
    check_results(&json(&lint(folder.path(), "sarif", &arguments)));
    json(&lint(folder.path(), "gitlab", &arguments));
    let commands = String::from_utf8(lint(folder.path(), "github", &arguments).stdout).expect("UTF-8");
    assert_eq!(commands.lines().count(), 1, "{commands:?}");
    assert!(commands.starts_with("::error file=a.yaml,"), "{commands:?}");
    let tests = xml(&lint(folder.path(), "junit", &arguments));
    assert!(!tests.contains(|c: char| c.is_control() && c != '\n'), "{tests:?}");
    let tests = Document::parse(&tests).expect("XML");
    let message = tests.descendants().find_map(|node| node.attribute("message")).expect("a message");
    assert!(message.contains("\u{fffd}[1m<&>\"'") && message.contains("]]>"), "{message:?}");
}

#[test]
fn deployments_are_named() {
    let config = "[deployments.dev]\nfiles = [\"base.yaml\"]\n\n[deployments.gone]\nfiles = [\"gone.yaml\"]\n\n[deployments.prod]\nfiles = [\"base.yaml\"]\n";
    let folder = tree(&[("base.yaml", WRONG), ("netpol.toml", config)]);
    let run = |format| lint(folder.path(), format, &["--select", "unknown-field"]);
    let output = run("sarif");
    ends_with(&output, 2, &["`gone.yaml` does not exist"]);
    let log = json(&output);
    let named: Vec<&Value> = results(&log).iter().map(|result| &result["properties"]["deployment"]).collect();
    assert_eq!(named, ["dev", "prod"]);
    let prints: Vec<&Value> = results(&log).iter().map(|result| &result["partialFingerprints"]).collect();
    assert_eq!(prints[0], prints[1], "it is one finding, at one place");
    let invocation = &log["runs"][0]["invocations"][0];
    let notice = &invocation["toolExecutionNotifications"][0];
    assert_eq!((&invocation["executionSuccessful"], &notice["level"]), (&false.into(), &"error".into()));
    assert_eq!(notice["properties"]["deployment"], "gone");
    let commands = String::from_utf8(run("github").stdout).expect("UTF-8");
    assert!(commands.starts_with("::error title=gone::`gone.yaml` does not exist"), "{commands}");
    assert!(commands.ends_with("%0Adeployment: prod\n"), "{commands}");
    let prints = fingerprints(&run("gitlab"));
    assert_eq!((prints.len(), prints.iter().collect::<BTreeSet<_>>().len()), (2, 2));
    let tests = xml(&run("junit"));
    let tests = Document::parse(&tests).expect("XML");
    let names: Vec<_> =
        tests.descendants().filter(|node| node.has_tag_name("testsuite")).map(|suite| suite.attribute("name")).collect();
    assert_eq!(names, [Some("dev: base.yaml"), Some("gone"), Some("prod: base.yaml")]);
    assert_eq!(tests.root_element().attribute("errors"), Some("1"));
}

#[test]
fn the_option_has_two_names() {
    let folder = tree(&[("a.yaml", WRONG)]);
    for command in ["lint", "validate"] {
        let output = netpol(folder.path(), &[command, "--format", "github", "a.yaml"]);
        assert!(output.stdout.starts_with(b"::error file=a.yaml,line=6,col=3,"), "{}", text(&output));
    }
}
