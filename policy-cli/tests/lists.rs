//! Lists in every format: what is merged, what is marked, and what a format cannot draw.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

#[path = "common/piped.rs"]
mod piped;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use piped::piped;

fn netpol(arguments: &[&str], input: &str) -> Output {
    piped(arguments, input)
}

fn shown(arguments: &[&str], input: &str) -> String {
    let output = netpol(&[arguments, &["-f", "-"]].concat(), input);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn json(arguments: &[&str], input: &str) -> Value {
    serde_json::from_str(&shown(arguments, input)).expect("JSON")
}

fn deployment(namespace: &str, name: &str) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  replicas: 2\n  selector: {{matchLabels: {{app: {name}}}}}\n  template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: [{{name: c, image: x}}]}}}}\n"
    )
}

fn policy(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

/// `count` Deployments in each of some namespaces.
fn cluster(namespaces: &[&str], count: usize) -> String {
    let mut out = String::new();
    for namespace in namespaces {
        let _ = write!(out, "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n");
        for number in 0..count {
            out += &deployment(namespace, &format!("app-{number:03}"));
        }
    }
    out
}

#[test]
fn workloads_that_behave_alike_are_one_row() {
    let input = cluster(&["a"], 100);
    assert_eq!(
        shown(&["list"], &input),
        "\
100 workloads of a
  → each other and themselves  every protocol and port
  → external 0.0.0.0/0, ::/0   every protocol and port

external 0.0.0.0/0, ::/0
  → 100 workloads of a         every protocol and port

10200 allowed connections, 10200 on every protocol and port
"
    );
    // JSON has a row for each pair, and so has `-v`.
    assert_eq!(json(&["list", "-o", "json"], &input)["connections"].as_array().map(Vec::len), Some(10_200));
    assert!(shown(&["list", "-v"], &input).lines().count() > 10_200);
    assert_eq!(shown(&["list", "-o", "jsonl"], &input).lines().count(), 10_200);
}

/// `web` and `api` may reach `db`, and nothing else may.
fn shop() -> String {
    let mut input = String::from("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
    for name in ["web", "api", "db", "report"] {
        input += &deployment("shop", name);
    }
    let peers = "[{podSelector: {matchLabels: {app: web}}}, {podSelector: {matchLabels: {app: api}}}]";
    input += &policy("shop", "deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}");
    input += &policy(
        "shop",
        "db",
        &format!("{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{{from: {peers}, ports: [{{port: 5432}}]}}]}}"),
    );
    for name in ["web", "api"] {
        input += &policy(
            "shop",
            name,
            &format!(
                "{{podSelector: {{matchLabels: {{app: {name}}}}}, policyTypes: [Egress], egress: [{{to: [{{podSelector: {{matchLabels: {{app: db}}}}}}], ports: [{{port: 5432}}]}}]}}"
            ),
        );
    }
    input
}

#[test]
fn small_groups_are_named() {
    assert_eq!(
        shown(&["list"], &shop()),
        "shop/api, shop/web (Deployment)\n  → shop/db (Deployment)  TCP 5432\n\n2 allowed connections\n"
    );
    let table = shown(&["list", "-o", "md"], &shop());
    assert!(table.ends_with("| shop/api, shop/web (Deployment) | shop/db (Deployment) | TCP 5432 |\n"), "{table}");
    assert_eq!(
        shown(&["who", "shop/db", "-v"], &shop()),
        "shop/db (Deployment)\n  ← shop/api (Deployment)  TCP 5432\n  ← shop/web (Deployment)  TCP 5432\n\n2 allowed connections\n"
    );
}

#[test]
fn rows_are_sorted_by_name_and_not_by_kind() {
    let job = deployment("a", "b").replace("apps/v1", "batch/v1").replace("kind: Deployment", "kind: Job");
    let job = job.replace("  replicas: 2\n", "").replace("  selector: {matchLabels: {app: b}}\n", "");
    let job = job.replace("spec: {containers", "spec: {restartPolicy: Never, containers");
    let input = deployment("a", "c") + &job + &deployment("a", "a");
    let rows = json(&["list", "--to", "external", "-o", "json"], &input);
    let names: Vec<&str> =
        rows["connections"].as_array().expect("rows").iter().filter_map(|row| row["src"]["name"].as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn blocks_are_shown_with_their_exceptions() {
    let spec = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: 443}]}]}";
    let input = cluster(&["a"], 1) + &policy("a", "p", spec);
    let text = shown(&["reach", "a/app-000"], &input);
    assert!(text.contains("  → external 10.0.0.0/8 except 10.1.0.0/16  TCP 443\n"), "{text}");
    let rows = json(&["reach", "a/app-000", "-o", "json"], &input);
    let blocks = [
        "10.0.0.0/16",
        "10.2.0.0/15",
        "10.4.0.0/14",
        "10.8.0.0/13",
        "10.16.0.0/12",
        "10.32.0.0/11",
        "10.64.0.0/10",
        "10.128.0.0/9",
    ];
    let found = rows["connections"].as_array().expect("rows").iter().find(|row| row["dst"]["kind"] == "External").expect("a row");
    assert_eq!(found["dst"]["cidrs"], Value::from(blocks.to_vec()));
}

#[test]
fn namespaces_are_folded() {
    // Within `a` everything is allowed; `b` takes TCP 80 from `a`, but its first workload takes nothing.
    let input = cluster(&["a", "b"], 3)
        + &policy("a", "own", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}")
        + &policy(
            "b",
            "from-a",
            "{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [app-000]}]}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: a}}}], ports: [{port: 80}]}]}",
        )
        + &policy("b", "first", "{podSelector: {matchLabels: {app: app-000}}}");
    let rows = json(&["list", "--by", "namespace", "-o", "json"], &input);
    let row = |src: &str, dst: &str| {
        let list = rows["connections"].as_array().expect("rows");
        let found = list.iter().find(|row| row["src"]["name"] == src && row["dst"]["name"] == dst);
        found.map(|row| (row["allowed"].clone(), row["partly"].clone()))
    };
    let everything = serde_json::json!([
        {"protocol": "TCP", "ports": ["1-65535"]}, {"protocol": "UDP", "ports": ["1-65535"]},
        {"protocol": "SCTP", "ports": ["1-65535"]}, {"protocol": "other"}]);
    let http = serde_json::json!([{"protocol": "TCP", "ports": ["80"]}]);
    assert_eq!(row("a", "a"), Some((everything, Value::Null)));
    assert_eq!(row("a", "b"), Some((serde_json::json!([]), http.clone())), "one workload of b takes nothing");
    assert_eq!(row("b", "b"), None);
    assert_eq!(row("b", "a"), None);
    // Of the others alone, all take it.
    let rows = json(&["list", "--to", "b/app!=app-000", "--by", "namespace", "-o", "json"], &input);
    let found =
        rows["connections"].as_array().expect("rows").iter().find(|row| row["src"]["name"] == "a").expect("a row").clone();
    assert_eq!((&found["allowed"], found.get("partly")), (&http, None));
    assert_eq!(found["src"], serde_json::json!({"kind": "Namespace", "name": "a"}));
    let text = shown(&["list", "--by", "namespace", "--from", "ns/a", "--to", "ns/b"], &input);
    assert_eq!(text, "a (Namespace)\n  → b (Namespace)  (some pods: TCP 80)\n\n1 allowed connection\n");
}

#[test]
fn a_matrix_has_a_mark_for_each_pair() {
    let matrix = shown(&["list", "-o", "matrix"], &shop());
    let expected = "\
from \\ to                       a
shop/api, shop/web (Deployment) ●

a shop/db (Deployment)

■ every protocol and port   ● some ports   ◐ only between some of the pods   · nothing
";
    assert_eq!(matrix, expected);
    let open = shown(&["list", "-v", "-o", "matrix", "--from", "a/*", "--to", "a/*"], &cluster(&["a"], 2));
    assert!(open.contains("\na/app-000 (Deployment) ■ ■\n") && open.contains("\na/app-001 (Deployment) ■ ■\n"), "{open}");
}

#[test]
fn pictures_merge_workloads_and_mark_what_is_unrestricted() {
    let dot = shown(&["list", "-o", "dot"], &cluster(&["a"], 100));
    assert!(dot.contains("[label=\"100 workloads\"]"), "{dot}");
    assert!(dot.contains("n0 -> n0 [label=\"all ports\", color=red, fontcolor=red];"), "{dot}");
    assert_eq!(dot.matches(" -> ").count(), 3, "{dot}");
    let mermaid = shown(&["list", "-o", "mermaid"], &cluster(&["a"], 100));
    assert!(mermaid.contains("n0 -->|\"all ports\"| n0\n") && mermaid.contains("linkStyle 0,1,2 stroke:red"), "{mermaid}");
    let restricted = shown(&["list", "-o", "mermaid"], &shop());
    assert!(restricted.contains("n0 -->|\"TCP 5432\"| n1\n") && !restricted.contains("linkStyle"), "{restricted}");
}

#[test]
fn pictures_that_a_format_cannot_draw_are_refused() {
    let input = cluster(&["a"], 30);
    // 30 × 30 pairs, and the outside in both directions.
    let output = netpol(&["list", "-v", "-o", "mermaid", "-f", "-"], &input);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{output:?}");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in ["would have 960 edges", "at most 500", "--by namespace", "-o matrix"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(shown(&["list", "-v", "-o", "dot"], &input).contains("digraph"));
    // Few edges, and long names.
    let long = |n: usize| format!("{:a<200}-{n:03}", "w");
    let names: String = (0..300).map(|n| deployment("a", &long(n)).replace(&format!("app: {}", long(n)), "app: w")).collect();
    let output = netpol(&["list", "-v", "--to", &format!("a/{}", long(0)), "-o", "mermaid", "-f", "-"], &names);
    assert!(String::from_utf8_lossy(&output.stderr).contains("characters, and Mermaid draws at most 50000"), "{output:?}");
}

#[test]
fn quiet_output_is_the_answer_alone() {
    let output = netpol(&["can", "-q", "-f", "-", "shop/report", "shop/db", "-p", "5432"], &shop());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "denied  shop/report → shop/db  TCP 5432\n");
    let listed = netpol(&["list", "-q", "-f", "-"], &shop());
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "shop/api, shop/web (Deployment)\n  → shop/db (Deployment)  TCP 5432\n");
    let valid = netpol(&["validate", "-q", "-f", "-"], &shop());
    assert_eq!((valid.status.code(), valid.stdout.len(), valid.stderr.len()), (Some(0), 0, 0), "{valid:?}");
}

#[test]
fn colours_can_be_forced_and_forbidden() {
    let is_coloured = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netpol"));
        for variable in ["NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"] {
            command.env_remove(variable);
        }
        command.args(["can", "-f", "-", "shop/web", "shop/db", "-p", "5432"]).args(arguments).envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("netpol starts");
        let _ = child.stdin.take().expect("a pipe").write_all(shop().as_bytes());
        child.wait_with_output().expect("netpol ends").stdout.contains(&0x1b)
    };
    for (arguments, variables, expected) in [
        (&[][..], &[][..], false),
        (&["--color", "always"], &[], true),
        (&["--color", "always"], &[("NO_COLOR", "1")], true),
        (&["--color", "never"], &[("FORCE_COLOR", "1")], false),
        (&[], &[("FORCE_COLOR", "1")], true),
        (&[], &[("FORCE_COLOR", "0")], false),
        (&[], &[("FORCE_COLOR", "1"), ("NO_COLOR", "1")], false),
    ] {
        assert_eq!(is_coloured(arguments, variables), expected, "{arguments:?} {variables:?}");
    }
}

/// Holds a value to a schema: what the schema says is true, and everything in the value is described.
fn check(value: &Value, schema: &Value, root: &Value, path: &str) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let target = &root["$defs"][name.strip_prefix("#/$defs/").expect("a definition")];
        assert!(target.is_object(), "{name} is not defined");
        return check(value, target, root, path);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let tried: Vec<_> = choices.iter().map(|choice| check(value, choice, root, path)).collect();
        let fitting = tried.iter().filter(|result| result.is_ok()).count();
        return if fitting == 1 { Ok(()) } else { Err(format!("{path}: {fitting} of the choices fit: {tried:?}")) };
    }
    if let Some(constant) = schema.get("const") {
        return if value == constant { Ok(()) } else { Err(format!("{path}: {value} is not {constant}")) };
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        return Err(format!("{path}: {value} is none of {values:?}"));
    }
    if let Some(types) = schema["type"].as_array() {
        let is_one = types.iter().any(|one| (one == "array" && value.is_array()) || (one == "object" && value.is_object()));
        return if is_one { Ok(()) } else { Err(format!("{path}: {value} is none of {types:?}")) };
    }
    let is_right = match schema["type"].as_str().unwrap_or_else(|| panic!("{path} has no type: {schema}")) {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() && value.as_u64() >= schema["minimum"].as_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other} is not a type"),
    };
    if !is_right {
        return Err(format!("{path}: {value} is not {}", schema["type"]));
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        if value.get(required.as_str().expect("a name")).is_none() {
            return Err(format!("{path}: {required} is missing"));
        }
    }
    for (key, field) in value.as_object().into_iter().flatten() {
        let below = format!("{path}.{key}");
        match (schema["properties"].get(key), schema.get("additionalProperties")) {
            (Some(schema), _) | (None, Some(schema)) => check(field, schema, root, &below)?,
            (None, None) if schema["properties"].is_object() => return Err(format!("{below} is not described")),
            (None, None) => {}
        }
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        check(item, &schema["items"], root, &format!("{path}[{number}]"))?;
    }
    Ok(())
}

#[test]
fn output_follows_the_published_schemas() {
    let shop = shop();
    let fault =
        shop.clone() + &policy("nowhere", "p", "{podSelector: {}, ingres: []}") + &policy("shop", "db", "{podSelector: {}}");
    let foreign = format!(
        "{shop}---\napiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{name: c, namespace: shop}}\nspec: {{}}\n"
    );
    let nested = policy(
        "shop",
        "n",
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.1.1.0/24]}}]}]}",
    );
    let outputs: [(&str, &[&str], &str); 14] = [
        ("can", &["can", "shop/report", "shop/db", "-p", "5432"], &shop),
        ("can", &["can", "shop/web", "shop/db"], &shop),
        ("can", &["can", "shop/*", "shop/db", "-p", "5432"], &shop),
        ("can", &["can", "external", "shop/db"], &foreign),
        ("can", &["can", "10.0.0.0/8", "a/app-000"], &cluster(&["a"], 1)),
        ("list", &["list"], &shop),
        ("list", &["list"], &cluster(&["a", "b"], 2)),
        ("list", &["list", "--by", "namespace"], &cluster(&["a", "b"], 2)),
        ("who", &["who", "shop/db"], &shop),
        ("reach", &["reach", "shop/web"], &shop),
        ("reach", &["reach", "shop/web", "--hops"], &shop),
        ("validate", &["validate"], &fault),
        ("lint", &["lint"], &fault),
        ("lint", &["lint", "--select", "all"], &nested),
    ];
    for (command, arguments, input) in outputs {
        let schema = netpol(&["schema", command], "");
        let schema: Value = serde_json::from_slice(&schema.stdout).expect("a schema");
        let output = netpol(&[arguments, &["-f", "-", "-o", "json"]].concat(), input);
        let value: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"));
        if let Err(error) = check(&value, &schema, &schema, command) {
            panic!("{arguments:?}: {error}");
        }
        // The check can fail.
        let mut wrong = value.clone();
        let object = if wrong.is_array() { &mut wrong[0] } else { &mut wrong };
        object["undescribed"] = Value::from(1);
        assert!(check(&wrong, &schema, &schema, command).is_err(), "{arguments:?}");
    }
}

#[test]
fn yaml_has_the_fields_of_json() {
    let text = shown(&["list", "-o", "yaml"], &shop());
    let expected = "\
caveats: []
connections:
- allowed:
  - ports:
    - \"5432\"
    protocol: TCP
  dst:
    kind: Deployment
    name: db
    namespace: shop
  src:
    kind: Deployment
    name: api
    namespace: shop
";
    assert!(text.starts_with(expected), "{text}");
    assert!(shown(&["can", "shop/web", "shop/db", "-p", "5432", "-o", "yaml"], &shop()).contains("\nverdict: allowed\n"));
}

/// Holds each pair of a list to the answer of `can`.
fn agrees_with_can(input: &str, names: &[&str]) {
    let rows = json(&["list", "-o", "json"], input);
    for from in names {
        for to in names.iter().filter(|to| *to != from) {
            let name = |peer: &Value| {
                format!("{}/{}", peer["namespace"].as_str().unwrap_or_default(), peer["name"].as_str().unwrap_or_default())
            };
            let row = rows["connections"]
                .as_array()
                .expect("rows")
                .iter()
                .find(|row| name(&row["src"]) == *from && name(&row["dst"]) == *to);
            let output = netpol(&["can", from, to, "-f", "-", "-o", "json"], input);
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
            let listed = row.map_or_else(|| serde_json::json!([]), |row| row["allowed"].clone());
            assert_eq!(listed, answer["allowed"], "{from} → {to}");
        }
    }
}

#[test]
fn workloads_that_are_alike_are_listed_as_they_are_answered() {
    // In each namespace, app-000 and app-001 are alike, and app-002 is not.
    let own = "{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [app-002]}]}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}, {from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: app-002}}}]}]}";
    let input = cluster(&["a", "b"], 3) + &policy("a", "own", own) + &policy("b", "own", own);
    agrees_with_can(&input, &["a/app-000", "a/app-001", "a/app-002", "b/app-000", "b/app-001", "b/app-002"]);

    // Equal labels, and addresses that a block distinguishes.
    let pod = |name: &str, label: &str, address: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: x, labels: {{app: {label}}}}}\nspec: {{nodeName: n1}}\nstatus: {{phase: Running, podIP: {address}}}\n"
        )
    };
    let spec =
        "{podSelector: {matchLabels: {app: server}}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/24}}], ports: [{port: 80}]}]}";
    let input = pod("a", "client", "10.0.0.1")
        + &pod("b", "client", "10.0.0.2")
        + &pod("c", "client", "10.0.1.1")
        + &pod("d", "client", "10.0.1.2")
        + &pod("s", "server", "10.0.2.1")
        + &policy("x", "s", spec);
    agrees_with_can(&input, &["x/a", "x/b", "x/c", "x/d", "x/s"]);
    let text = shown(&["who", "x/s"], &input);
    assert!(text.contains("← x/a, x/b (Pod)") && !text.contains("x/c"), "{text}");
}

/// S0.5: what a pod or a node has is not external, also where a block of a policy contains it.
#[test]
fn addresses_of_pods_and_nodes_are_not_external() {
    let pod = |name: &str, address: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: x, labels: {{app: {name}}}}}\nspec: {{nodeName: n1}}\nstatus: {{phase: Running, podIP: {address}}}\n"
        )
    };
    let pods = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.1}]}\n"
        .to_owned()
        + &pod("web", "10.0.0.6") + &pod("db", "10.0.0.9");
    let from = |block: &str| {
        let rules =
            format!("{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{{from: [{{ipBlock: {{cidr: {block}}}}}]}}]}}");
        let closed = "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]}";
        pods.clone() + &policy("x", "db", &rules) + &policy("x", "web", closed)
    };
    let verdict = |block: &str| {
        let output = netpol(&["can", "-f", "-", "external", "x/db", "-p", "80", "-o", "json"], &from(block));
        let answer: Value = serde_json::from_slice(&output.stdout).expect("an answer");
        answer["verdict"].as_str().expect("a verdict").to_owned()
    };
    for block in ["10.0.0.6/32", "192.0.2.1/32"] {
        let who = json(&["who", "x/db", "-o", "json"], &from(block));
        assert_eq!(who["connections"], serde_json::json!([]), "{block}");
        assert_eq!(verdict(block), "denied", "{block}");
    }
    // A block with other addresses is shown as it is written.
    let who = json(&["who", "x/db", "-o", "json"], &from("10.0.0.0/24"));
    assert_eq!(who["connections"][0]["src"]["cidrs"], serde_json::json!(["10.0.0.0/24"]));
    assert_eq!(verdict("10.0.0.0/24"), "partial");
}
