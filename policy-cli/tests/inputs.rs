//! Broken, hostile and unusual input: a clear error or a right reading, never a wrong answer.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

#[path = "common/piped.rs"]
mod piped;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use piped::piped;

const POLICY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: np, namespace: x}\n";

fn netpol() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netpol"));
    command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// The findings of `validate` without the namespaces that are assumed: (line, column, kind, path).
fn findings(input: &[u8]) -> Vec<(u64, u64, String, String)> {
    let output = piped(&["validate", "-f", "-", "-o", "json"], input);
    let value = json(&output);
    assert_eq!(output.status.code(), Some(if value["valid"] == true { 0 } else { 1 }));
    let list = value["diagnostics"].as_array().expect("a list").iter().filter(|d| d["kind"] != "Assumed");
    list.map(|d| {
        let word = |name: &str| d[name].as_str().unwrap_or_default().to_owned();
        (d["line"].as_u64().unwrap_or(0), d["column"].as_u64().unwrap_or(0), word("kind"), word("path"))
    })
    .collect()
}

fn finding(line: u64, column: u64, kind: &str, path: &str) -> (u64, u64, String, String) {
    (line, column, kind.to_owned(), path.to_owned())
}

fn pod(namespace: &str, name: &str, label: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {label}}}}}\nspec: {{nodeName: n1}}\nstatus: {{phase: Running, podIP: {address}}}\n"
    )
}

#[test]
fn a_mistyped_field_has_a_place_and_a_suggestion() {
    let input = format!("{POLICY}spec:\n  podSelector: {{}}\n  ingres:\n  - from: [{{podSelector: {{}}}}]\n");
    assert_eq!(findings(input.as_bytes()), [finding(6, 3, "UnknownField", "spec.ingres")]);
    let output = piped(&["validate", "-f", "-"], input.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    for expected in ["unknown field `ingres`", "-:6:3", "did you mean `ingress`?"] {
        assert!(text(&output).contains(expected), "{expected}: {}", text(&output));
    }
}

/// The finding of one rule.
fn found(input: &[u8], code: &str) -> Value {
    let value = json(&piped(&["validate", "-f", "-", "-o", "json"], input));
    let list = value["diagnostics"].as_array().expect("a list");
    list.iter().find(|d| d["code"] == code).unwrap_or_else(|| panic!("{code}: {value}")).clone()
}

#[test]
fn findings_have_a_code_a_section_and_an_edit() {
    let input = format!("{POLICY}spec:\n  podSelector: {{}}\n  ingres: []\n");
    assert_eq!(
        found(input.as_bytes(), "unknown-field"),
        serde_json::json!({
            "severity": "error", "kind": "UnknownField", "code": "unknown-field", "section": "S1.7",
            "file": "-", "line": 6, "column": 3, "object": "NetworkPolicy x/np", "path": "spec.ingres",
            "message": "unknown field `ingres`", "help": "did you mean `ingress`?",
            "edit": {"file": "-", "start": 114, "end": 120, "text": "ingress"},
        })
    );
    assert_eq!(input.get(114..120), Some("ingres"));
    let shown = text(&piped(&["validate", "-f", "-"], input.as_bytes()));
    assert!(shown.contains("error[unknown-field]: NetworkPolicy x/np: spec.ingres: unknown field"), "{shown}");
}

#[test]
fn findings_about_the_whole_input_point_at_fields() {
    let first = pod("x", "a", "a", "10.0.0.1");
    let second = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: b, namespace: x}\nspec: {nodeName: n1}\nstatus:\n  podIPs:\n  - ip: 10.0.0.1\n";
    let input = format!("{second}{first}");
    let finding = found(input.as_bytes(), "ambiguous-address");
    assert_eq!((&finding["line"], &finding["column"]), (&Value::from(14), &Value::from(33)), "{finding}");
    assert_eq!((&finding["object"], &finding["path"]), (&Value::from("Pod x/a"), &Value::from("status.podIP")));
    let other = serde_json::json!({"file": "-", "line": 8, "column": 9, "object": "Pod x/b", "message": "has the same address"});
    assert_eq!(finding["related"], Value::from(vec![other]));
    let shown = text(&piped(&["validate", "-f", "-"], input.as_bytes()));
    for part in [
        "warning[ambiguous-address]",
        " --> -:14:33",
        "14 | status:",
        "::: -:8:9",
        " 8 |   - ip: 10.0.0.1",
        "Pod x/b has the same address",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn every_fault_of_every_document_is_found() {
    let input = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, label: {}}\nspec: {containers: [{name: c}]}\n---\nfoo: [1\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: W}\nspec:\n  podSelector: app=x\n  policyTypes: Ingress\n  egress:\n  - to: {podSelector: {}}\n    ports: [80]\n";
    assert_eq!(
        findings(input.as_bytes()),
        [
            finding(3, 21, "UnknownField", "metadata.label"),
            finding(6, 6, "Syntax", ""),
            finding(12, 16, "WrongType", "spec.podSelector"),
            finding(13, 16, "WrongType", "spec.policyTypes"),
            finding(15, 9, "WrongType", "spec.egress[0].to"),
            finding(16, 13, "WrongType", "spec.egress[0].ports[0]"),
            finding(10, 18, "Invalid", "metadata.name"),
        ]
    );
}

#[test]
fn duplicate_keys_are_errors() {
    let input = format!("{POLICY}spec:\n  podSelector: {{}}\n  ingress:\n  - {{}}\n  ingress: []\n");
    assert_eq!(findings(input.as_bytes()), [finding(8, 3, "DuplicateKey", "spec.ingress")]);
}

#[test]
fn yaml_1_1_booleans_are_not_strings() {
    let input = b"apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: yes, v: 1, quoted: 'yes', on: fine}}\nspec: {containers: [{name: c}]}\n";
    assert_eq!(
        findings(input),
        [finding(3, 35, "WrongType", "metadata.labels.app"), finding(3, 43, "WrongType", "metadata.labels.v")]
    );
}

#[test]
fn old_octal_ports_are_read_as_kubectl_reads_them() {
    let input = format!(
        "{POLICY}spec:\n  podSelector: {{}}\n  ingress: [{{ports: [{{port: 0o120}}]}}]\n{}",
        pod("x", "a", "a", "10.0.0.1")
    );
    let output = piped(&["can", "-f", "-", "203.0.113.9", "x/a", "-p", "80"], input.as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn hostile_documents_end_in_an_error() {
    let mut bomb = String::from("a0: &a0 [{podSelector: {}}]\n");
    for i in 1..12 {
        let before = format!("*a{}", i - 1);
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![before; 10].join(", ")));
    }
    bomb.push_str(POLICY);
    bomb.push_str("spec: {podSelector: {}, ingress: [{from: *a11}]}\n");
    let deep = format!("{POLICY}spec: {}", "[".repeat(100_000));
    let itself = "apiVersion: v1\nkind: List\nitems: &x\n- {apiVersion: v1, kind: List, items: *x}\n";
    for input in
        [bomb.as_bytes(), deep.as_bytes(), itself.as_bytes(), b"kind: \xff\xfe\n", b"a: *b\n", b"\x00\x01\x02", b"\xff\xfea"]
    {
        let output = piped(&["validate", "-f", "-"], input);
        // What is no text is not read at all.
        let code = if text(&output).contains("error[unreadable-file]") { 2 } else { 1 };
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        assert_eq!(code == 2, input == b"\x00\x01\x02", "{}", text(&output));
        assert!(text(&output).contains("error"), "{}", text(&output));
    }
}

#[test]
fn syntax_errors_say_what_is_wrong() {
    for (input, place, expected) in [
        ("a: [1\n", "-:1:4", "unclosed bracket"),
        ("a:\n  b: 1\n c: 2\n", "-:3:2", "did not find expected key"),
        ("a:\n\tb: 1\n", "-:2:1", "tab"),
        ("a: *nowhere\n", "-:1:4", "anchor"),
    ] {
        let output = piped(&["validate", "-f", "-"], input.as_bytes());
        let shown = text(&output);
        assert!(shown.contains(place) && shown.contains(expected), "{place} {expected}: {shown}");
    }
}

#[test]
fn documents_may_be_marked_in_every_way_of_yaml() {
    let input = "\u{feff}--- # comment\napiVersion: v1\r\nkind: Namespace\r\nmetadata: {name: a}\r\n...\n---\n---\n# nothing\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n";
    let output = piped(&["validate", "-f", "-", "-o", "json"], input.as_bytes());
    assert_eq!((output.status.code(), &json(&output)["read"]["namespaces"]), (Some(0), &Value::from(2)));
}

#[test]
fn size_is_bounded_before_and_after_decompression() {
    let mut gzip = flate2_of(&vec![b'#'; 3 << 20]);
    let output = piped(&["validate", "-f", "-", "--max-size", "2"], &gzip);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("larger than 2 MiB"), "{}", text(&output));
    gzip.truncate(gzip.len() / 2);
    assert_eq!(piped(&["validate", "-f", "-"], &gzip).status.code(), Some(2), "a cut gzip stream");
}

/// Stored blocks are a valid gzip stream; no compressor is needed to make one.
fn flate2_of(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = bytes.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).expect("a block");
        out.push(u8::from(blocks.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    let crc = bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    });
    out.extend((!crc).to_le_bytes());
    out.extend(u32::try_from(bytes.len()).expect("small").to_le_bytes());
    out
}

#[test]
fn utf16_is_read_and_findings_show_its_lines() {
    let text = format!("# é\n{POLICY}spec:\n  podSelector: {{}}\n  ingres: []\n");
    let encoded: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let shown = String::from_utf8(piped(&["validate", "-f", "-"], &encoded).stdout).expect("UTF-8");
    for part in ["-:7:3", "7 |   ingres: []", "  ^^^^^^"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let edit = &found(&encoded, "unknown-field")["edit"];
    let at = |name: &str| usize::try_from(edit[name].as_u64().expect("a number")).expect("small");
    assert_eq!(text.get(at("start")..at("end")), Some("ingres"), "in the converted text");
}

#[test]
fn folders_gzip_json_and_lists_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, bytes).expect("written");
    };
    write("a/pods.yaml", (pod("x", "a", "a", "10.0.0.1") + &pod("x", "b", "b", "10.0.0.2")).as_bytes());
    let list = r#"{"kind":"NetworkPolicyList","apiVersion":"networking.k8s.io/v1","items":[{"metadata":{"name":"deny","namespace":"x","annotations":{"smile":"\ud83d\ude00"}},"spec":{"podSelector":{"matchLabels":{"app":"a"}}}}]}"#;
    write("b/list.json", list.as_bytes());
    write("b/more.yaml.gz", &flate2_of(format!("{POLICY}spec: {{podSelector: {{matchLabels: {{app: b}}}}}}\n").as_bytes()));
    write("b/notes.txt", b"not: [a manifest");
    write(".hidden/broken.yaml", b"a: [");
    let ask = |from: &str, to: &str| {
        netpol().args(["can", from, to, "-p", "80", "-f"]).arg(folder.path()).output().expect("netpol runs").status.code()
    };
    assert_eq!(ask("x/b", "x/a"), Some(1));
    assert_eq!(ask("x/a", "x/b"), Some(1));
    assert_eq!(ask("x/a", "external"), Some(0));
}

#[test]
fn policies_of_other_engines_are_a_caveat() {
    let input = format!(
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{name: c, namespace: x}}\nspec: {{selector: all()}}\n---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: elsewhere, namespace: other}}\n---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: cnp}}\n{}{}",
        pod("x", "a", "a", "10.0.0.1"),
        pod("x", "b", "b", "10.0.0.2")
    );
    let output = piped(&["can", "-f", "-", "x/a", "x/b", "-p", "80", "-o", "json"], input.as_bytes());
    let answer = json(&output);
    assert_eq!(answer["verdict"], "allowed");
    let caveats = answer["caveats"].to_string();
    assert!(caveats.contains("x/c") && caveats.contains("cnp") && !caveats.contains("elsewhere"), "{caveats}");
}

#[test]
fn a_policy_is_never_left_out_in_silence() {
    for (input, expected) in [
        (POLICY.replace("networking.k8s.io/v1", "networking.k8s.io/v1beta1"), "expected `networking.k8s.io/v1`"),
        (POLICY.replace("networking.k8s.io/v1", "extensions/v1beta1"), "expected `networking.k8s.io/v1`"),
        (POLICY.replace("apiVersion: networking.k8s.io/v1\n", ""), "add `apiVersion: networking.k8s.io/v1`"),
        (POLICY.replace("NetworkPolicy", "NetworkPolcy"), "did you mean `NetworkPolicy`?"),
        (POLICY.replace("NetworkPolicy", "networkpolicy"), "did you mean `NetworkPolicy`?"),
        (POLICY.replace("kind: NetworkPolicy\n", ""), "has no `kind`"),
    ] {
        let output = piped(&["validate", "-f", "-"], input.as_bytes());
        assert_eq!(output.status.code(), Some(1), "{input}");
        assert!(text(&output).contains(expected), "{expected}: {}", text(&output));
        let pods = format!("{input}{}", pod("x", "a", "a", "10.0.0.1"));
        let output = piped(&["can", "-f", "-", "10.9.9.9", "x/a"], pods.as_bytes());
        assert_eq!(output.status.code(), Some(2), "no answer from a folder with a policy that cannot be read");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn two_policies_of_one_name_are_an_error_unless_equal() {
    let deny = format!("{POLICY}spec: {{podSelector: {{}}}}\n");
    let allow = format!("{POLICY}spec: {{podSelector: {{}}, ingress: [{{}}]}}\n");
    assert_eq!(findings(format!("{deny}---\n{allow}").as_bytes())[0].2, "DuplicateObject");
    let same = piped(&["validate", "-f", "-"], format!("{deny}---\n{deny}").as_bytes());
    assert_eq!(same.status.code(), Some(0), "{}", text(&same));
}

#[test]
fn dumps_name_pods_by_their_workloads() {
    let owned = |name: &str, kind: &str, owner: &str, address: &str| {
        pod("x", name, "web", address).replace(
            &format!("{{name: {name},"),
            &format!(
                "{{name: {name}, ownerReferences: [{{apiVersion: apps/v1, kind: {kind}, name: {owner}, controller: true}}],"
            ),
        )
    };
    let hash =
        owned("web-5d4-1", "ReplicaSet", "web-5d4", "10.0.0.1").replace("{app: web}", "{app: web, pod-template-hash: 5d4}");
    let deployment = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: x}\nspec: {replicas: 1, selector: {matchLabels: {app: other}}, template: {metadata: {labels: {app: other}}, spec: {containers: [{name: c}]}}}\n";
    let job = "---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: nightly-1, namespace: x, ownerReferences: [{kind: CronJob, name: nightly, controller: true}]}\nspec: {template: {spec: {containers: [{name: c}]}}}\n";
    let input = hash + deployment + job + &owned("nightly-1-z", "Job", "nightly-1", "10.0.0.2");
    let output = piped(&["list", "-f", "-", "-o", "json"], input.as_bytes());
    let rows = json(&output);
    let pair = |row: &Value| (row["src"]["kind"].as_str().map(str::to_owned), row["dst"]["kind"].as_str().map(str::to_owned));
    let pairs: Vec<_> = rows["connections"].as_array().expect("a list").iter().map(pair).collect();
    let named = |a: &str, b: &str| (Some(a.to_owned()), Some(b.to_owned()));
    assert_eq!(
        pairs,
        [
            // Its `concurrencyPolicy` is not known, and Allow by default.
            named("CronJob", "CronJob"),
            named("CronJob", "Deployment"),
            named("CronJob", "External"),
            named("Deployment", "CronJob"),
            named("Deployment", "Deployment"),
            named("Deployment", "External"),
            named("External", "CronJob"),
            named("External", "Deployment"),
        ]
    );
    assert_eq!(rows["connections"][0]["src"], serde_json::json!({"kind": "CronJob", "namespace": "x", "name": "nightly"}));
    // Pods that run have one IPv4 address, so there is no IPv6 outside.
    assert_eq!(rows["connections"][2]["dst"], serde_json::json!({"kind": "External", "cidrs": ["0.0.0.0/0"]}));
    assert_eq!(rows["connections"][2]["allowed"][0], serde_json::json!({"protocol": "TCP", "ports": ["1-65535"]}));
    assert_eq!(rows["connections"][2]["allowed"][3], serde_json::json!({"protocol": "other"}));
}

#[test]
fn names_that_do_not_exist_are_bad_input() {
    let input = pod("shop", "web", "web", "10.0.0.1") + &pod("shop", "db", "db", "10.0.0.2");
    for (from, to, expected) in [
        ("shop/wbe", "shop/db", "did you mean `shop/web`?"),
        ("default/web", "shop/db", "did you mean `shop/web`?"),
        ("shpo/web", "shop/db", "did you mean `shop/web`?"),
        ("shop/sts/web", "shop/db", "there is no StatefulSet `web`"),
        ("shop/foo/web", "shop/db", "not a workload kind"),
        ("node/n7", "shop/db", "there is no node `n7`"),
        ("a/b/c/d", "shop/db", "expected ns/name"),
    ] {
        let output = piped(&["can", "-f", "-", from, to], input.as_bytes());
        assert_eq!(output.status.code(), Some(2), "{from} {to}");
        assert!(text(&output).contains(expected), "{expected}: {}", text(&output));
        assert!(output.stdout.is_empty());
    }
    for port in ["0", "65536", "80-70", "80/ICMP", "-", "nosuchname"] {
        let port = format!("--port={port}");
        let output = piped(&["can", "-f", "-", "shop/web", "shop/db", &port], input.as_bytes());
        assert_eq!(output.status.code(), Some(2), "{port}: {}", text(&output));
    }
}

#[test]
fn pods_without_traffic_are_bad_input() {
    let finished = pod("x", "a", "a", "10.0.0.1").replace("Running", "Succeeded");
    let unscheduled = pod("x", "b", "b", "10.0.0.2").replace("{nodeName: n1}", "{}");
    let input = finished + &unscheduled + &pod("x", "c", "c", "10.0.0.3");
    for (end, expected) in [("x/a", "is finished"), ("x/b", "is not scheduled")] {
        let output = piped(&["can", "-f", "-", end, "x/c"], input.as_bytes());
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output).contains(expected), "{}", text(&output));
    }
}

#[test]
fn families_that_differ_are_a_partial_answer() {
    let dual = |name: &str, n: u8| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: x}}\nspec: {{nodeName: n1}}\nstatus: {{phase: Running, podIP: 10.0.0.{n}, podIPs: [{{ip: 10.0.0.{n}}}, {{ip: 'fd00::{n}'}}]}}\n"
        )
    };
    let input = format!(
        "{POLICY}spec: {{podSelector: {{}}, ingress: [{{from: [{{ipBlock: {{cidr: 10.0.0.0/8}}}}]}}]}}\n{}{}",
        dual("a", 1),
        dual("b", 2)
    );
    let output = piped(&["can", "-f", "-", "x/a", "x/b", "-p", "80", "-o", "json"], input.as_bytes());
    assert_eq!((output.status.code(), &json(&output)["verdict"]), (Some(1), &Value::from("partial")));
    assert!(json(&output)["caveats"].to_string().contains("TCP 80 is allowed over IPv4, none over IPv6"));
    for (from, to, code) in [("10.0.0.1", "10.0.0.2", 0), ("fd00::1", "fd00::2", 1)] {
        assert_eq!(piped(&["can", "-f", "-", from, to, "-p", "80"], input.as_bytes()).status.code(), Some(code));
    }
}

#[test]
fn unknown_addresses_match_only_whole_families() {
    let workload = |name: &str| {
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: x}}\nspec: {{selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: [{{name: c}}]}}}}}}\n"
        )
    };
    let policy = |cidr: &str| {
        format!(
            "{POLICY}spec: {{podSelector: {{matchLabels: {{app: b}}}}, ingress: [{{from: [{{ipBlock: {{cidr: {cidr}}}}}]}}]}}\n{}{}",
            workload("a"),
            workload("b")
        )
    };
    let ask = |input: String| piped(&["can", "-f", "-", "x/a", "x/b", "-p", "80", "-o", "json"], input.as_bytes());
    let whole = json(&ask(policy("0.0.0.0/0")));
    assert_eq!(whole["verdict"], "allowed");
    let caveats = whole["caveats"].as_array().expect("a list");
    let is_about_blocks =
        |caveat: &Value| caveat.as_str().is_some_and(|text| text.contains("an ipBlock that holds the address of x/a"));
    assert!(caveats.len() == 1 && caveats.iter().all(is_about_blocks), "{whole}");
    let part = json(&ask(policy("10.0.0.0/8")));
    assert_eq!(part["verdict"], "denied");
    assert!(part["caveats"].to_string().contains("address of x/a is not known"), "{part}");
    // Two replicas.
    let itself = json(&piped(&["can", "-f", "-", "x/b", "x/b", "-o", "json"], policy("10.0.0.0/8").as_bytes()));
    assert_eq!(itself["verdict"], "denied");
    assert!(itself["caveats"].to_string().contains("address of x/b is not known"), "{itself}");
}

#[test]
fn colours_are_for_terminals() {
    let input = pod("x", "a", "a", "10.0.0.1");
    let output = piped(&["can", "-f", "-", "x/a", "external"], input.as_bytes());
    assert!(!text(&output).contains('\u{1b}'));
}

#[test]
fn sections_of_the_semantics_are_shown_with_v_and_in_json() {
    let deny = format!("{POLICY}spec: {{podSelector: {{}}}}\n");
    let input = format!("{deny}{}{}", pod("x", "a", "a", "10.0.0.1"), pod("x", "b", "b", "10.0.0.2"));
    let ask = |more: &str| piped(&["can", "-f", "-", "x/a", "x/b", "-p", "80", more], input.as_bytes());
    assert!(!text(&ask("--keep-going")).contains("S3."), "{}", text(&ask("--keep-going")));
    assert!(text(&ask("-v")).contains("no rule allows it (S3.3)"), "{}", text(&ask("-v")));
    let answer = json(&ask("-ojson"));
    assert_eq!((&answer["ingress"]["section"], &answer["egress"]["section"]), (&Value::from("S3.3"), &Value::from("S3.1")));
    assert_eq!(answer["ingress"]["section_link"], "conformance/SEMANTICS.md#S3.3");
}

#[test]
fn nothing_to_read_is_reported() {
    let missing = netpol().args(["validate", "-f", "/nonexistent/path"]).output().expect("netpol runs");
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing).contains("does not exist"));
    let folder = tempfile::tempdir().expect("a folder");
    let empty = netpol().args(["can", "a", "b", "-f"]).arg(folder.path() as &Path).output().expect("netpol runs");
    assert_eq!(empty.status.code(), Some(2));
    assert!(text(&empty).contains("no Kubernetes object in "), "{}", text(&empty));
}

#[test]
fn a_policy_for_host_network_pods_only_is_warned_about() {
    let host = pod("x", "h", "h", "192.0.2.1").replace("{nodeName: n1}", "{nodeName: n1, hostNetwork: true}");
    let policy = |label: &str| {
        format!("{POLICY}spec: {{podSelector: {{matchLabels: {{app: {label}}}}}}}\n{host}{}", pod("x", "c", "c", "10.0.0.3"))
    };
    assert_eq!(findings(policy("h").as_bytes()), [finding(4, 21, "NoEffect", "spec.podSelector")]);
    assert_eq!(findings(policy("c").as_bytes()), []);
}

#[test]
fn the_own_node_has_two_readings() {
    let node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.1}]}\n---\napiVersion: v1\nkind: Node\nmetadata: {name: n2}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.2}]}\n";
    let input =
        format!("{POLICY}spec: {{podSelector: {{}}, policyTypes: [Ingress, Egress]}}\n{node}{}", pod("x", "a", "a", "10.0.0.1"));
    let ask = |from: &str, to: &str, reading: &str| {
        piped(&["can", "-f", "-", from, to, "-p", "53/UDP", "--own-node-egress", reading], input.as_bytes()).status.code()
    };
    assert_eq!(ask("x/a", "node/n1", "enforce"), Some(1));
    assert_eq!(ask("x/a", "192.0.2.1", "allow"), Some(0));
    assert_eq!(ask("x/a", "node/n1", "allow"), Some(0));
    assert_eq!(ask("x/a", "node/n2", "allow"), Some(1));
    // Towards the pod it is always allowed from its own node.
    assert_eq!(ask("node/n1", "x/a", "enforce"), Some(0));
    assert_eq!(ask("node/n2", "x/a", "enforce"), Some(1));
}

#[test]
fn files_of_other_tools_are_skipped() {
    let chart =
        b"apiVersion: v1\nname: shop\nversion: 1.0.0\n---\nkind: Deployment\nreplicas: 2\n---\n- a\n- b\n---\njust text\n";
    let namespace = b"---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
    assert_eq!(findings(&[&chart[..], namespace].concat()), []);
}

/// Messages refer to rules of the semantics; each of them stands there.
#[test]
fn rules_that_messages_cite_exist() {
    fn sources(folder: &Path, out: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.extension().and_then(|e| e.to_str()) {
                _ if path.is_dir() => sources(&path, out),
                Some("rs" | "md") => out.push(std::fs::read_to_string(path).expect("readable")),
                _ => {}
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let semantics = std::fs::read_to_string(root.join("conformance/SEMANTICS.md")).expect("the semantics");
    let mut texts = Vec::new();
    for folder in ["policy-core/src", "policy-lint/src", "policy-cli/src", "conformance/src", "conformance/cases"] {
        sources(&root.join(folder), &mut texts);
    }
    let mut count = 0;
    for text in texts {
        for (at, _) in text.match_indices('S') {
            let rest = &text.as_bytes()[at + 1..];
            let length = rest.iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
            let number = String::from_utf8_lossy(&rest[..length]).trim_end_matches('.').to_owned();
            if number.contains('.') && !number.starts_with('.') {
                assert!(semantics.contains(&format!("**S{number}**")), "S{number} is cited and does not exist");
                count += 1;
            }
        }
    }
    assert!(count > 200, "only {count} citations were found");
}

#[test]
fn replicas_of_a_workload_are_other_pods() {
    let set = |replicas: u8| {
        format!(
            "{POLICY}spec: {{podSelector: {{}}}}\n---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: db, namespace: x}}\nspec: {{replicas: {replicas}, selector: {{matchLabels: {{app: db}}}}, template: {{metadata: {{labels: {{app: db}}}}, spec: {{containers: [{{name: c}}]}}}}}}\n"
        )
    };
    let ask = |replicas: u8, from: &str, to: &str| {
        piped(&["can", "-f", "-", from, to, "-p", "80", "-o", "json"], set(replicas).as_bytes())
    };
    let verdict = |output: Output| json(&output)["verdict"].as_str().map(str::to_owned);
    assert_eq!(verdict(ask(2, "x/db", "x/db")).as_deref(), Some("denied"));
    assert_eq!(verdict(ask(2, "x/db-0", "x/db-0")).as_deref(), Some("allowed"));
    assert_eq!(verdict(ask(1, "x/db", "x/db")).as_deref(), Some("denied"));
    assert_eq!(verdict(ask(1, "x/db-0", "x/db-0")).as_deref(), Some("allowed"));
    let rows = |replicas| json(&piped(&["list", "-f", "-", "-o", "json"], set(replicas).as_bytes())).to_string();
    assert!(!rows(2).contains("\"dst\":{\"kind\":\"StatefulSet\""));
}

#[test]
fn verbose_names_the_policies_that_do_not_apply() {
    let deny = format!("{POLICY}spec: {{podSelector: {{matchLabels: {{app: webb}}}}}}\n");
    let input = format!("{deny}{}{}", pod("x", "a", "client", "10.0.0.1"), pod("x", "b", "webs", "10.0.0.2"));
    let output = piped(&["can", "-f", "-", "x/a", "x/b", "-p", "80", "-v"], input.as_bytes());
    assert_eq!(output.status.code(), Some(0));
    let expected = "x/np: does not select it: requires pod label `app=webb`, but x/b has `app=webs` (did you mean `webs`?)";
    assert!(text(&output).contains(expected), "{}", text(&output));
}

#[test]
fn old_replica_sets_and_static_pods_are_no_workloads() {
    let old = "---\napiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: web-1, namespace: x, ownerReferences: [{kind: Deployment, name: web, controller: true}]}\nspec: {replicas: 0, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c}]}}}\n";
    let mirror = |name: &str, address: &str| {
        pod("x", name, "static", address)
            .replace("labels:", "ownerReferences: [{kind: Node, name: n1, controller: true}], labels:")
    };
    let input = format!("{old}{}{}", mirror("etcd-n1", "10.0.0.1"), mirror("api-n1", "10.0.0.2"));
    let rows = json(&piped(&["list", "-f", "-", "-o", "json", "--to", "x/api-n1"], input.as_bytes()));
    assert_eq!(rows["connections"][0]["src"], serde_json::json!({"kind": "Pod", "namespace": "x", "name": "etcd-n1"}));
    assert_eq!(rows["connections"].as_array().map(Vec::len), Some(2), "{rows}");
}

#[test]
fn the_outside_is_split_where_policies_distinguish_it() {
    let rules = "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/9]}}], ports: [{port: 80}]}, {from: [{ipBlock: {cidr: 10.192.0.0/10}}], ports: [{port: 81}]}]";
    let input = format!("{POLICY}spec: {{podSelector: {{}}, {rules}}}\n{}", pod("x", "a", "a", "10.0.0.1"));
    let output = piped(&["list", "-f", "-", "-o", "json"], input.as_bytes());
    let end = serde_json::json!({"kind": "Pod", "namespace": "x", "name": "a"});
    let outside = |cidrs: &[&str]| serde_json::json!({"kind": "External", "cidrs": cidrs});
    let tcp = |ports: &[&str]| serde_json::json!([{"protocol": "TCP", "ports": ports}]);
    let every = ["TCP", "UDP", "SCTP"].map(|p| serde_json::json!({"protocol": p, "ports": ["1-65535"]}));
    let everything: Vec<Value> = every.into_iter().chain([serde_json::json!({"protocol": "other"})]).collect();
    let rows = json(&output);
    let mut rows: Vec<Value> = rows["connections"].as_array().expect("a list").clone();
    rows.sort_by_key(ToString::to_string);
    let mut expected = vec![
        serde_json::json!({"src": end, "dst": outside(&["0.0.0.0/0"]), "allowed": everything}),
        serde_json::json!({"src": outside(&["10.128.0.0/10"]), "dst": end, "allowed": tcp(&["80"])}),
        serde_json::json!({"src": outside(&["10.192.0.0/10"]), "dst": end, "allowed": tcp(&["80-81"])}),
    ];
    expected.sort_by_key(ToString::to_string);
    assert_eq!(rows, expected);

    let answer = json(&piped(&["can", "-f", "-", "10.128.0.0/9", "x/a", "-p", "81", "-o", "json"], input.as_bytes()));
    assert_eq!(answer["verdict"], "partial");
    assert_eq!(answer["outside"][0], serde_json::json!({"cidrs": ["10.192.0.0/10"], "allowed": tcp(&["81"])}));
    assert_eq!(answer["outside"][1], serde_json::json!({"cidrs": ["10.128.0.0/10"], "allowed": []}));
    assert_eq!(answer["ingress"]["rule"]["index"], 1);
}

#[test]
fn rulesets_are_the_same_whatever_the_order_of_the_input() {
    let rules =
        "ingress: [{from: [{podSelector: {matchLabels: {app: b}}}, {ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 80}]}]";
    let egress = "egress: [{ports: [{port: http}, {port: dns, protocol: UDP}]}]";
    let policy = format!("{POLICY}spec: {{podSelector: {{matchLabels: {{app: a}}}}, {rules}, {egress}}}\n");
    let (a, b) = (pod("x", "a", "a", "10.0.0.1"), pod("x", "b", "b", "10.0.0.2"));
    let orders = [format!("{policy}{a}{b}"), format!("{b}{a}---\n{policy}")];
    for format in ["nft", "json"] {
        let [one, other] =
            orders.each_ref().map(|input| piped(&["render", "--node", "n1", "-f", "-", "-o", format], input.as_bytes()));
        assert!(one.status.success(), "{}", text(&one));
        assert_eq!(one.stdout, other.stdout, "{format}");
    }
    let rendered = text(&piped(&["render", "--node", "n1", "-f", "-"], orders[0].as_bytes()));
    for expected in ["pods app=b in x", "192.0.2.0/24", "isolated by x/np", "tcp . 80 : goto in-x/a-", "elements = { 10.0.0.2 }"]
    {
        assert!(rendered.contains(expected), "{expected} is not in\n{rendered}");
    }

    // A mistyped node is reported with the nodes of the input, and invalid input gives no ruleset.
    let unknown = piped(&["render", "--node", "n2", "-f", "-"], orders[0].as_bytes());
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown).contains("no node `n2`") && text(&unknown).contains("the nodes are n1"), "{}", text(&unknown));
    let faulty = piped(&["render", "--node", "n1", "-f", "-"], orders[0].replace("port: 80", "port: 0").as_bytes());
    assert_eq!((faulty.status.code(), faulty.stdout.len()), (Some(2), 0));
}
