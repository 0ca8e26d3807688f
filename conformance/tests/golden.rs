//! The rulesets of the examples stand beside them, those of sides with many peers and of quarantine in `golden/`, so that a review shows
//! what a change does to the kernel's rules.
//!
//! `UPDATE_GOLDEN=1 cargo test -p conformance --test golden` writes them anew.

#![expect(clippy::expect_used, reason = "a failing check panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use conformance::engine;
use policy_core::compile::{Compiler, Options};
use policy_core::manifest::{Snapshot, Syntax};
use policy_core::model::{Addresses, Change, Placement, Quarantine};
use policy_core::plan::InterfaceName;
use policy_ruleset::{DenyLog, render};

/// Where the pods of an example run. Manifests do not say, and neither which addresses they get.
const NODES: [&str; 2] = ["node-a", "node-b"];

/// Rulesets that no example has.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("examples")
}

/// The manifests in a folder, sorted.
fn manifests(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).expect("an example").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    files.sort();
    files
}

/// The documents of these files.
fn text(files: &[PathBuf]) -> String {
    let texts: Vec<String> = files.iter().map(|file| std::fs::read_to_string(file).expect("readable")).collect();
    texts.join("\n---\n")
}

/// What is in this text, with the pods on some nodes in turn, each with an address of both families.
fn placed(text: &str, nodes: &[&str]) -> Snapshot {
    let mut snapshot = engine::load_text(text, Syntax::Strict);
    assert!(!snapshot.has_errors(), "{text}: {:?}", snapshot.diagnostics);
    let pods = snapshot.pods.values_mut().filter(|pod| !pod.is_host_network);
    for ((number, pod), (node, name)) in pods.enumerate().zip(nodes.iter().enumerate().cycle()) {
        let host = number + 2;
        let addresses = [format!("10.244.{node}.{host}"), format!("fd00:244:0:{node}::{host:x}")];
        pod.addresses = Addresses::Known(addresses.iter().map(|address| address.parse().expect("an address")).collect());
        pod.placement = Placement::Node((*name).to_owned());
    }
    snapshot
}

/// The ruleset that the agent of a node puts in force unless it is configured, with an interface for each pod.
fn rendered(snapshot: &Snapshot, quarantine: Option<Quarantine>, node: &str) -> String {
    let mut compiler = Compiler::new(Options { node: Some(node.to_owned()), ..Options::default() });
    snapshot.changes().chain(quarantine.map(Change::Quarantine)).for_each(|change| compiler.apply(change));
    compiler.flush();
    let graph = compiler.graph();
    let mut plan = graph.node_plan();
    for (number, addresses) in plan.pods.iter().enumerate() {
        let name = InterfaceName::new(&format!("veth{number}")).expect("a name");
        plan.interfaces.insert(name, addresses.clone());
    }
    let options = policy_ruleset::Options { deny_log: Some(DenyLog::DEFAULT), ..policy_ruleset::Options::default() };
    render(&plan, &options).filled(graph).to_text()
}

/// Every golden ruleset: its file, and what it has to hold.
fn all() -> BTreeMap<PathBuf, String> {
    let mut out = BTreeMap::new();
    for name in ["shop", "shop-next", "tenants"] {
        let folder = examples().join(name);
        let snapshot = placed(&text(&manifests(&folder)), &NODES);
        out.extend(NODES.map(|node| (folder.join(format!("ruleset/{node}.nft")), rendered(&snapshot, None, node))));
    }
    let folder = examples().join("recipes");
    for file in manifests(&folder) {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let snapshot = placed(&text(&[file]), &NODES[..1]);
        out.insert(folder.join(format!("ruleset/{name}.nft")), rendered(&snapshot, None, NODES[0]));
    }
    let name = golden().join("many-peers-and-quarantine.nft");
    out.insert(name, rendered(&many_peers(), Some(quarantine()), NODES[0]));
    out
}

/// A policy with more peers than get a set each: pods by label and by name of the port, single addresses, blocks, a range of ports.
fn many_peers() -> Snapshot {
    let pod = |name: &str, labels: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: x, labels: {{{labels}}}}}, \
             spec: {{containers: [{{name: c, image: i, ports: [{{name: web, containerPort: 8080}}]}}]}}, status: {{phase: Running}}}}"
        )
    };
    let mut rules: Vec<String> = (0..18)
        .map(|number| {
            format!("{{from: [{{podSelector: {{matchLabels: {{app: a{number}}}}}}}], ports: [{{port: {}}}]}}", 9000 + number)
        })
        .collect();
    rules.push("{from: [{ipBlock: {cidr: 198.51.100.0/24, except: [198.51.100.7/32]}}], ports: [{port: 443}]}".to_owned());
    rules.push("{from: [{ipBlock: {cidr: 2001:db8::/32}}], ports: [{port: 30000, endPort: 32767, protocol: UDP}]}".to_owned());
    rules.push("{from: [{podSelector: {matchLabels: {app: a1}}}], ports: [{port: web}]}".to_owned());
    let policy = format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: many, namespace: x}}, \
         spec: {{podSelector: {{matchLabels: {{role: server}}}}, ingress: [{}]}}}}",
        rules.join(", ")
    );
    let mut objects =
        vec!["{apiVersion: v1, kind: Namespace, metadata: {name: x}}".to_owned(), policy, pod("server", "role: server")];
    objects.extend((0..4).map(|number| pod(&format!("client-{number}"), &format!("app: a{number}"))));
    placed(&objects.join("\n---\n"), &NODES)
}

/// A sandbox whose pod is not known.
fn quarantine() -> Quarantine {
    let addresses = ["10.244.0.99", "fd00:244::99"].map(|address| address.parse().expect("an address"));
    Quarantine { holder: "sandbox".to_owned(), addresses: addresses.to_vec() }
}

/// The first lines that are not the same.
fn difference(expected: &str, found: &str) -> String {
    let mut lines = expected.lines().map(Some).chain([None]).zip(found.lines().map(Some).chain([None])).enumerate();
    let first = lines.find(|(_, (expected, found))| expected != found);
    first.map_or_else(String::new, |(number, (expected, found))| format!("line {}: {expected:?} is now {found:?}", number + 1))
}

#[test]
fn rulesets_of_the_examples_are_as_committed() {
    let all = all();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        for (file, text) in &all {
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            std::fs::write(file, text).expect("written");
        }
    }
    for (file, found) in &all {
        let expected = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            expected == *found,
            "{}: {}\nrun it with UPDATE_GOLDEN=1 to write the file anew, and review the difference",
            file.display(),
            difference(&expected, found)
        );
    }
    // An example of kustomizations and charts has no plain manifests; the tests of the command line ask about it.
    let folders = std::fs::read_dir(examples()).expect("examples").map(|entry| entry.expect("an entry").path());
    for folder in folders.filter(|folder| !manifests(folder).is_empty()) {
        let files = std::fs::read_dir(folder.join("ruleset")).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let files: BTreeSet<PathBuf> = files.map(|entry| entry.expect("an entry").path()).collect();
        let stale: Vec<&PathBuf> = files.iter().filter(|file| !all.contains_key(*file)).collect();
        assert!(stale.is_empty(), "nothing renders {stale:?}");
    }
}
