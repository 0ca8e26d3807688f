//! Modules import in one direction only, and so do the crates of the workspace. That pure crates are pure is checked by clippy, with
//! `clippy.toml`, and here for what they depend on.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a failing check panics")]
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the crate is pure, its tests read files")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each module and the modules that it may import.
const LAYERS: [(&str, &[&str]); 10] = [
    ("sets", &[]),
    ("diagnostic", &[]),
    ("model", &["sets", "diagnostic"]),
    ("manifest", &["model", "sets", "diagnostic"]),
    ("graph", &["model", "sets", "diagnostic"]),
    ("compile", &["graph", "model", "sets", "diagnostic"]),
    ("verdict", &["graph", "model", "sets", "diagnostic"]),
    ("plan", &["graph", "model", "sets", "diagnostic"]),
    ("proof", &["verdict", "graph", "model", "sets", "diagnostic"]),
    ("suggestion", &["verdict", "compile", "graph", "manifest", "model", "sets", "diagnostic"]),
];

/// Each crate of the workspace and the ones that it may use. Nothing may use `conformance`, and the command line and the agent may
/// not use each other.
const CRATES: [(&str, &[&str]); 8] = [
    ("policy-core", &[]),
    ("policy-lint", &["policy-core"]),
    ("policy-ruleset", &["policy-core"]),
    ("policy-input", &["policy-core"]),
    ("netpol-cni", &[]),
    ("policy-agent", &["policy-core", "policy-lint", "policy-ruleset", "policy-input", "netpol-cni"]),
    ("policy-cli", &["policy-core", "policy-lint", "policy-ruleset", "policy-input"]),
    ("conformance", &["policy-core", "policy-lint", "policy-ruleset", "policy-input", "policy-agent"]),
];

/// What the pure crates use of others. Each is pure itself: it computes, and neither reads nor waits.
const PURE: [(&str, &[&str]); 3] = [
    (
        "policy-core",
        &["granit-parser", "hashbrown", "ipnet", "petgraph", "roaring", "rustc-hash", "serde", "smallvec", "strsim", "thiserror"],
    ),
    ("policy-lint", &[]),
    (
        "policy-ruleset",
        &["ipnet", "netlink-packet-core", "netlink-packet-netfilter", "nftables", "serde_json", "sha2", "thiserror"],
    ),
];

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// What stands before the name of a file that only tests need.
const TEST_FILE: &str = "#[cfg(test)]\nmod ";

/// The files that only tests need, as other files declare them.
fn test_files(files: &[PathBuf]) -> Vec<PathBuf> {
    let declared = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("readable");
        let names = text.split(TEST_FILE).skip(1).filter_map(|rest| rest.lines().next()?.strip_suffix(';').map(str::to_owned));
        names.map(|name| path.with_extension("").join(name).with_extension("rs")).collect::<Vec<_>>()
    };
    files.iter().flat_map(declared).collect()
}

/// The code of a file without comments, and without its unit tests.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("readable");
    // A file of tests may be declared anywhere; unit tests stand last.
    let is_inline = |(at, _): &(usize, &str)| {
        let rest = text.get(at + TEST_FILE.len()..).unwrap_or_default();
        !rest.lines().next().is_some_and(|line| line.ends_with(';'))
    };
    let end = text.match_indices(TEST_FILE).find(is_inline).map_or(text.len(), |(at, _)| at);
    let text = text.get(..end).unwrap_or_default();
    text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn checked() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let tests = test_files(&files);
    assert!(!tests.is_empty() && tests.iter().all(|path| files.contains(path)), "{tests:?}");
    files.retain(|path| !tests.contains(path));
    let module = |path: &Path| {
        let first = path.strip_prefix(&root).expect("below").components().next().expect("a name");
        first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
    };
    files.into_iter().map(|path| (module(&path), path.clone(), code(&path))).collect()
}

#[test]
fn imports_go_one_way() {
    for (module, path, code) in checked() {
        if module == "lib" {
            continue;
        }
        let (_, allowed) = LAYERS.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("{module} has no layer"));
        for import in code.split("crate::").skip(1) {
            let name: String = import.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            assert!(name == module || allowed.contains(&name.as_str()), "{}: {module} imports {name}", path.display());
        }
    }
}

/// The packages of the workspace, as cargo reads their manifests.
fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]);
    let output = command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

/// The dependencies of a package: those of the workspace of every kind, and what its library uses of others.
fn dependencies(package: &Value) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let list = package["dependencies"].as_array().expect("dependencies");
    let names = |wanted: &dyn Fn(&Value) -> bool| {
        list.iter().filter(|d| wanted(d)).map(|d| d["name"].as_str().expect("a name")).collect()
    };
    (names(&|d| d["path"].is_string()), names(&|d| !d["path"].is_string() && d["kind"] != "dev"))
}

#[test]
fn crates_depend_one_way() {
    let packages = packages();
    let names: BTreeSet<&str> = packages.iter().map(|p| p["name"].as_str().expect("a name")).collect();
    assert_eq!(names, CRATES.iter().map(|(name, _)| *name).collect());
    for package in &packages {
        let name = package["name"].as_str().expect("a name");
        let (_, allowed) = CRATES.iter().find(|(of, _)| *of == name).expect("listed");
        let (own, _) = dependencies(package);
        let wrong: Vec<_> = own.iter().filter(|used| !allowed.contains(used)).collect();
        assert!(wrong.is_empty(), "{name} depends on {wrong:?}");
    }
}

#[test]
fn pure_crates_depend_on_pure_crates() {
    let packages = packages();
    for (name, allowed) in PURE {
        let package = packages.iter().find(|p| p["name"] == name).expect("a package");
        let (_, others) = dependencies(package);
        let wrong: Vec<_> = others.iter().filter(|used| !allowed.contains(used)).collect();
        assert!(wrong.is_empty(), "{name} depends on {wrong:?}; add it here if it only computes");
        // Clippy checks the code against this file.
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let read = |name: &str| std::fs::read_to_string(root.join(name).join("clippy.toml")).expect("a file");
        assert_eq!(read(name), read("policy-core"), "clippy.toml of {name}");
    }
}
