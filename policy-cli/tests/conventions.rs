//! How the command line behaves: exit codes, streams, empty input, namespaces, and what messages suggest.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

#[path = "common/piped.rs"]
mod piped;

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use piped::piped;

/// Two Deployments in `shop`, with a policy that lets `db` take TCP 5432 from `api` only, and one in `tools`.
const SHOP: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: red}}
---
apiVersion: v1
kind: Namespace
metadata: {name: tools}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, tier: front}}
    spec: {containers: [{name: c, image: x, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api, tier: back}}
    spec: {containers: [{name: c, image: x}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db, tier: back}}
    spec: {containers: [{name: c, image: x, ports: [{name: postgres, containerPort: 5432}, {name: dns, protocol: UDP, containerPort: 5353}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: probe, namespace: tools}
spec:
  selector: {matchLabels: {app: probe}}
  template: {metadata: {labels: {app: probe}}, spec: {containers: [{name: c, image: x}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 5432}]}]
";

const TYPO: &str =
    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: np}\nspec: {podSelector: {}, ingres: []}\n";

fn netpol(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netpol"));
    for variable in ["NO_COLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "KUBECONFIG"] {
        command.env_remove(variable);
    }
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A file in a folder of its own.
fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("written");
    (folder, path.display().to_string())
}

/// The exit code of a command whose reader closes the pipe after `bytes` bytes.
fn code_of_cut_pipe(arguments: &[&str], input: &str, bytes: usize) -> Option<i32> {
    let mut child = netpol(arguments).spawn().expect("netpol starts");
    let mut out = child.stdout.take().expect("a pipe");
    let error = child.stderr.take().expect("a pipe");
    if bytes == 0 {
        drop(out);
        drop(error);
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        return child.wait().expect("netpol ends").code();
    }
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    out.read_exact(&mut vec![0; bytes]).expect("output");
    drop(out);
    child.wait().expect("netpol ends").code()
}

#[test]
fn the_exit_code_survives_a_closed_pipe() {
    // More policies than a pipe holds of an answer about them.
    let mut many = SHOP.to_owned();
    for n in 0..600 {
        many += &format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: deny-{n}, namespace: shop}}\nspec: {{podSelector: {{}}, policyTypes: [Ingress], ingress: [{{from: [{{podSelector: {{matchLabels: {{app: nobody-{n}}}}}}}]}}]}}\n"
        );
    }
    let denied: [&[&str]; 3] = [
        &["can", "-f", "-", "shop/web", "shop/db", "-p", "80"],
        &["can", "-f", "-", "shop/web", "shop/db", "-p", "80", "-v"],
        &["can", "-f", "-", "shop/web", "shop/db", "-p", "80", "-o", "json"],
    ];
    for _ in 0..5 {
        for question in denied {
            assert_eq!(code_of_cut_pipe(question, &many, 0), Some(1), "{question:?}");
            assert_eq!(code_of_cut_pipe(question, &many, 8), Some(1), "{question:?}");
        }
        assert_eq!(code_of_cut_pipe(&["can", "-f", "-", "shop/web", "tools/probe"], SHOP, 0), Some(0));
        assert_eq!(code_of_cut_pipe(&["validate", "-f", "-"], TYPO, 0), Some(1));
        assert_eq!(code_of_cut_pipe(&["validate", "-f", "-", "-o", "json"], TYPO, 0), Some(1));
        assert_eq!(code_of_cut_pipe(&["list", "-f", "-"], SHOP, 0), Some(0));
        assert_eq!(code_of_cut_pipe(&["who", "-f", "-", "shop/nothing"], SHOP, 0), Some(2));
        let faulty = format!("{SHOP}---\n{TYPO}");
        assert_eq!(code_of_cut_pipe(&["list", "-f", "-", "--keep-going"], &faulty, 0), Some(2));
    }
}

#[test]
fn findings_are_1_and_no_answer_is_2() {
    let warning = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: undeclared}\nspec: {containers: [{name: c}]}\n";
    let cases: [(&[&str], &str, i32); 9] = [
        (&["validate", "-f", "-"], SHOP, 0),
        (&["validate", "-f", "-"], TYPO, 1),
        (&["validate", "-f", "-"], "a: [", 1),
        (&["validate", "-f", "-"], warning, 0),
        (&["validate", "-f", "-", "--fail-on", "warning"], warning, 1),
        (&["validate", "-f", "-", "--fail-on", "warning"], SHOP, 0),
        (&["validate", "-f", "/nonexistent"], "", 2),
        (&["validate", "--no-such-option"], "", 2),
        (&["can", "-f", "-", "shop/api", "shop/db", "-p", "5432", "--keep-going"], &format!("{SHOP}---\n{TYPO}"), 2),
    ];
    for (arguments, input, code) in cases {
        let output = piped(arguments, input);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    }
}

#[test]
fn files_that_cannot_be_read_are_2() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("good.yaml"), SHOP).expect("written");
    std::os::unix::net::UnixListener::bind(folder.path().join("bad.yaml")).expect("a socket");
    let path = folder.path().display().to_string();
    let output = piped(&["validate", &path], "");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stdout(&output).contains("error[unreadable-file]"), "{output:?}");
}

#[test]
fn findings_are_printed_to_standard_output() {
    let output = piped(&["validate", "-f", "-"], TYPO);
    assert!(stdout(&output).contains("error[unknown-field]") && stdout(&output).contains("not valid: 1 error"), "{output:?}");
    assert_eq!(stderr(&output), "");
    let output = piped(&["validate", "-f", "-", "-o", "json"], TYPO);
    assert_eq!(json(&output)["diagnostics"].as_array().map(Vec::len), Some(2), "the field, and the assumed namespace");
    assert_eq!(stderr(&output), "");
    // An answer is not mixed with findings about the input.
    let output = piped(&["list", "-f", "-", "-o", "json", "--keep-going"], format!("{SHOP}---\n{TYPO}"));
    assert!(json(&output)["connections"].is_array() && stderr(&output).contains("error[unknown-field]"), "{output:?}");
}

#[test]
fn validate_takes_files_as_arguments() {
    let (_good_folder, good) = file("good.yaml", SHOP);
    let (_bad_folder, bad) = file("bad.yaml", TYPO);
    assert_eq!(piped(&["validate", &good], "").status.code(), Some(0));
    let output = piped(&["validate", &good, &bad], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("in 2 files"), "{output:?}");
    assert_eq!(piped(&["validate", "-f", &good, &bad], "").status.code(), Some(1));
    assert_eq!(piped(&["validate", "-"], SHOP).status.code(), Some(0));
}

#[test]
fn input_without_an_object_is_no_answer() {
    let empty = tempfile::tempdir().expect("a folder");
    let (text_folder, _) = file("notes.txt", "not a manifest");
    let (_folder, comments) = file("comments.yaml", "# nothing\n---\n# but comments\n");
    let folder = |folder: &tempfile::TempDir| folder.path().display().to_string();
    let inputs: [(String, &str, &str); 6] = [
        ("-".to_owned(), "", "standard input: it is empty"),
        ("-".to_owned(), "login: please\n", "one document, which is not a Kubernetes object"),
        ("/etc/passwd".to_owned(), "", "not a Kubernetes object"),
        (folder(&empty), "", "no file"),
        (folder(&text_folder), "", "no file"),
        (comments, "", "no document"),
    ];
    for (path, input, read) in &inputs {
        for command in [&["validate"][..], &["list"], &["can", "a/b", "a/c"], &["who", "a/b"], &["render", "--node", "n"]] {
            let arguments = [command, &["-f", path]].concat();
            let output = piped(&arguments, input);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
            let shown = stderr(&output);
            for part in ["no Kubernetes object in ", path, read, "--allow-empty"] {
                assert!(shown.contains(part), "{arguments:?}: {part}: {shown}");
            }
        }
        let output = piped(&["validate", "-f", path, "--allow-empty"], input);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    // An empty list is an object: a cluster can be without policies.
    let list = "apiVersion: v1\nkind: List\nitems: []\n";
    assert_eq!(piped(&["validate", "-f", "-"], list).status.code(), Some(0));
}

/// Two pods in namespaces without Namespace objects.
fn pods() -> String {
    let pod = |namespace: &str, name: &str, address: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{nodeName: n1}}\nstatus: {{phase: Running, podIP: {address}}}\n"
        )
    };
    pod("a", "x", "10.1.0.1") + &pod("b", "srv", "10.1.0.2")
}

fn caveats(output: &Output) -> Vec<String> {
    json(output)["caveats"].as_array().expect("a list").iter().map(|c| c.as_str().expect("text").to_owned()).collect()
}

#[test]
fn input_without_policies_is_a_caveat() {
    let output = piped(&["can", "-f", "-", "a/x", "b/srv", "-p", "80", "-o", "json"], pods());
    assert_eq!(output.status.code(), Some(0));
    assert!(caveats(&output).iter().any(|caveat| caveat.contains("no NetworkPolicy")), "{output:?}");
    let output = piped(&["list", "-f", "-"], pods());
    assert!(stderr(&output).contains("caveat: the input has no NetworkPolicy"), "{output:?}");
    // With a policy, or between nodes, nothing rests on it.
    let output = piped(&["can", "-f", "-", "shop/web", "tools/probe", "-o", "json"], SHOP);
    assert_eq!(caveats(&output), Vec::<String>::new());
    let output = piped(&["can", "-f", "-", "node/n1", "external", "-o", "json"], pods());
    assert_eq!(caveats(&output), Vec::<String>::new());
}

#[test]
fn labels_of_undeclared_namespaces_are_a_caveat() {
    let policy = |selector: &str| {
        format!(
            "{}---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: b}}\nspec: {{podSelector: {{}}, ingress: [{{from: [{{namespaceSelector: {selector}}}]}}]}}\n",
            pods()
        )
    };
    let ask = |input: &str| piped(&["can", "-f", "-", "a/x", "b/srv", "-p", "80", "-o", "json"], input);
    let by_label = policy("{matchLabels: {env: prod}}");
    let output = ask(&by_label);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        caveats(&output),
        [
            "the Namespace `a` is not in the input, so its labels are unknown; policies that select namespaces by label: b/p (S1.36)"
        ]
    );
    let output = piped(&["list", "-f", "-"], &by_label);
    assert!(stderr(&output).contains("the Namespaces `a`, `b` are not in the input"), "{output:?}");
    // The name is known, and so is a Namespace of the input.
    let by_name = policy("{matchLabels: {kubernetes.io/metadata.name: a}}");
    assert_eq!((ask(&by_name).status.code(), caveats(&ask(&by_name))), (Some(0), vec![]));
    let declared = format!("{by_label}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: a}}\n");
    assert_eq!((ask(&declared).status.code(), caveats(&ask(&declared))), (Some(1), vec![]));
    // The policy of `b` does not apply to what `b` sends.
    let output = piped(&["can", "-f", "-", "b/srv", "a/x", "-p", "80", "-o", "json"], &by_label);
    assert_eq!((output.status.code(), caveats(&output)), (Some(0), vec![]));
}

#[test]
fn the_namespace_is_that_of_names_and_of_objects_without_one() {
    let chart = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: x}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: db}
spec: {selector: {matchLabels: {app: db}}, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: x}]}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db}
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: prod}}, podSelector: {matchLabels: {app: api}}}]}]}
";
    let output = piped(&["can", "-f", "-", "-n", "prod", "web", "db", "-p", "5432"], chart);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stdout(&output).starts_with("denied  prod/web → prod/db  TCP 5432\n"), "{output:?}");
    let output = piped(&["can", "-f", "-", "web", "db", "-p", "5432"], chart);
    assert!(stdout(&output).starts_with("denied  default/web → default/db"), "{output:?}");
    // So are policies that are not evaluated.
    let foreign = "---\napiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: calico}\nspec: {}\n";
    let output = piped(&["can", "-f", "-", "-n", "prod", "web", "db", "-p", "5432", "-o", "json"], format!("{chart}{foreign}"));
    assert!(caveats(&output).iter().any(|caveat| caveat.contains("prod/calico")), "{output:?}");
    // Objects with a namespace stay where they are.
    let output = piped(&["can", "-f", "-", "-n", "tools", "probe", "shop/web"], SHOP);
    assert!(stdout(&output).starts_with("allowed  tools/probe → shop/web"), "{output:?}");
}

/// The rows of a list as (source, destination).
fn rows(arguments: &[&str]) -> Vec<(String, String)> {
    let output = piped(&[arguments, &["-f", "-", "-o", "json"]].concat(), SHOP);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let name = |peer: &Value| match peer["name"].as_str() {
        Some(name) => format!("{}/{name}", peer["namespace"].as_str().unwrap_or_default()),
        None => "external".to_owned(),
    };
    json(&output)["connections"].as_array().expect("rows").iter().map(|row| (name(&row["src"]), name(&row["dst"]))).collect()
}

#[test]
fn lists_show_the_namespace_and_labels_that_are_asked_for() {
    let all = rows(&["list"]);
    let touches = |row: &&(String, String), end: &str| row.0.starts_with(end) || row.1.starts_with(end);
    let kept = |keep: &dyn Fn(&&(String, String)) -> bool| all.iter().filter(keep).cloned().collect::<Vec<_>>();
    assert_eq!(rows(&["list", "-n", "tools"]), kept(&|row| touches(row, "tools/")));
    assert_eq!(rows(&["list", "-n", "tools", "-A"]), all);
    assert_eq!(rows(&["list", "-l", "tier=back"]), kept(&|row| touches(row, "shop/api") || touches(row, "shop/db")));
    assert_eq!(rows(&["list", "-n", "tools", "-l", "tier=back"]), []);
    assert_eq!(rows(&["who", "shop/web", "-n", "tools"]), [("tools/probe".to_owned(), "shop/web".to_owned())]);
    let reached = kept(&|row| row.0 == "tools/probe");
    assert_eq!(rows(&["reach", "probe", "-n", "tools"]), reached, "the source is in the namespace");
    let output = piped(&["list", "-f", "-", "-n", "shpo"], SHOP);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("there is no namespace `shpo` in the input; did you mean `shop`?"), "{output:?}");
}

#[test]
fn ends_can_be_patterns() {
    let from = |pattern: &str| {
        let mut names: Vec<String> = rows(&["list", "--from", pattern]).into_iter().map(|row| row.0).collect();
        names.dedup();
        names
    };
    assert_eq!(from("shop/*"), ["shop/api", "shop/db", "shop/web"]);
    assert_eq!(from("ns/shop"), ["shop/api", "shop/db", "shop/web"]);
    assert_eq!(from("shop/deploy/*"), ["shop/api", "shop/web"]);
    assert_eq!(from("*/?r*"), ["tools/probe"]);
    assert_eq!(from("shop/tier=back"), ["shop/api", "shop/db"]);
    assert_eq!(from("*/app in (web,probe)"), ["shop/web", "tools/probe"]);
    assert_eq!(from("shop/deployment.apps/web"), ["shop/web"]);

    // Only api may reach db.
    let ask = |from: &str, more: &[&str]| piped(&[&["can", "-f", "-", from, "shop/db", "-p", "postgres"], more].concat(), SHOP);
    let output = ask("shop/deploy/*", &[]);
    assert_eq!(output.status.code(), Some(1), "the worst answer decides");
    let shown = stdout(&output);
    for line in ["allowed  shop/api → shop/db  TCP 5432\n", "denied  shop/web → shop/db  TCP 5432\n", "allowed for 1 of 2 pairs"]
    {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert_eq!(ask("shop/app=api", &[]).status.code(), Some(0));
    let one = json(&ask("shop/app=api", &["-o", "json"]));
    assert_eq!(one.as_array().map(Vec::len), Some(1), "a pattern has a list of answers, whatever it selects");
    assert!(json(&ask("shop/api", &["-o", "json"])).is_object());
    for (pattern, message) in [
        ("shop/x*", "`shop/x*` selects no workload in namespace `shop`"),
        ("shpo/*", "no namespace with workloads is named `shpo`; did you mean `shop`?"),
        ("ns/shpo", "did you mean `shop`?"),
        ("shop/app=nobody", "selects no workload"),
        ("shop/app=a b", "cannot read `app=a b` as a label selector"),
    ] {
        let output = ask(pattern, &[]);
        assert_eq!(output.status.code(), Some(2), "{pattern}");
        assert!(stderr(&output).contains(message), "{pattern}: {message}: {output:?}");
    }
}

#[test]
fn lists_can_be_narrowed_to_ports() {
    let rows = rows(&["list", "-p", "22"]);
    assert!(!rows.is_empty() && rows.iter().all(|(_, to)| to != "shop/db"), "db takes TCP 5432 only: {rows:?}");
}

#[test]
fn a_folder_named_cluster_is_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| netpol(arguments).current_dir(folder.path()).output().expect("netpol runs");
    let output = run(&["list", "-f", "cluster"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`cluster` does not exist") && stderr(&output).contains("`--live`"), "{output:?}");
    std::fs::create_dir(folder.path().join("cluster")).expect("a folder");
    std::fs::write(folder.path().join("cluster/all.yaml"), SHOP).expect("written");
    assert_eq!(run(&["can", "-f", "cluster", "shop/api", "shop/db", "-p", "5432"]).status.code(), Some(0));
}

#[test]
fn messages_say_what_was_probably_meant() {
    let ends = [
        ("shop/db:5432", "write `shop/db -p 5432` instead of `shop/db:5432`"),
        ("10.0.0.1:80", "write `10.0.0.1 -p 80`"),
        ("[fd00::1]:80", "write `fd00::1 -p 80`"),
        ("internet", "did you mean `external`"),
        ("world", "did you mean `external`"),
        ("any", "did you mean `external`"),
        ("External", "did you mean `external`"),
        ("10.0.0.300", "`10.0.0.300` is not a valid IP address"),
        ("10.0.0", "`10.0.0` is not a valid IP address"),
        ("10.0.0.0/33", "`10.0.0.0/33` is not a valid CIDR"),
        ("fd00:::1", "`fd00:::1` is not a valid IP address"),
        ("google.com", "host names such as `google.com` are not resolved"),
        ("https://shop.example.com/cart", "host names such as `shop.example.com` are not resolved"),
        ("svc/web", "the input has no Service default/web; Services are not supported as ends yet: ask for the pods behind it"),
        ("shop/svc/web", "the input has no Service shop/web"),
        ("shop/service/db", "the input has no Service shop/db"),
        ("web.shop.svc", "the input has no Service shop/web"),
        ("web.shop.svc.cluster.local", "the input has no Service shop/web"),
        ("db-0.db.shop.svc.cluster.local", "the input has no Service shop/db"),
        ("web.shop", "did you mean `shop/web`?"),
        ("shop.web", "did you mean `shop/web`?"),
        ("deploy", "`deploy` is a kind without a name"),
        ("shop/", "`shop/*` selects every workload of the namespace"),
        ("shop//web", "has an empty part"),
        ("shop/node/n1", "nodes have no namespace: write `node/n1`"),
        ("shop/depoly/web", "`depoly` in `shop/depoly/web` is not a workload kind"),
        ("shop/wbe", "did you mean `shop/web`?"),
        ("shpo/web", "did you mean `shop/web`?"),
        ("web", "did you mean `shop/web`?"),
    ];
    for (end, message) in ends {
        let output = piped(&["can", "-f", "-", end, "shop/db"], SHOP);
        assert_eq!(output.status.code(), Some(2), "{end}: {output:?}");
        assert!(stderr(&output).contains(message), "{end}: {message}: {}", stderr(&output));
    }
    let ports = [
        ("tcp/80", "`80/TCP` instead of `tcp/80`"),
        ("udp:53", "write `53/UDP` instead of `udp:53`"),
        ("53:udp", "write `53/UDP` instead of `53:udp`"),
        ("tcp", "write `1-65535/TCP` for every port"),
        ("any", "leave out `-p`"),
        ("dns", "did you mean `dns/UDP`?"),
        ("postgress", "did you mean `postgres`?"),
        ("https", "did you mean the port number 443?"),
        ("metrics", "the port names are dns, postgres"),
        ("90-80", "write `80-90`"),
        ("0", "from 1 to 65535"),
        ("65536", "from 1 to 65535"),
        ("80/http", "`http` in `80/http` is not a protocol with ports"),
    ];
    for (port, message) in ports {
        let output = piped(&["can", "-f", "-", "shop/web", "shop/db", "-p", port], SHOP);
        assert_eq!(output.status.code(), Some(2), "{port}: {output:?}");
        assert!(stderr(&output).contains(message), "{port}: {message}: {}", stderr(&output));
    }
    let output = piped(&["reach", "-f", "-", "shop/web", "-p", "http"], SHOP);
    assert!(stderr(&output).contains("can be another number at each destination; specify a number, such as 80"), "{output:?}");
}

#[test]
fn names_that_kubectl_prints_are_ends() {
    for end in ["deployment.apps/api", "deployments.v1.apps/api", "deploy/api", "Deployment/api"] {
        let output = piped(&["can", "-f", "-", "-n", "shop", end, "statefulset.apps/db", "-p", "5432"], SHOP);
        assert_eq!(output.status.code(), Some(0), "{end}: {output:?}");
    }
}

/// `netpol` under another name, as kubectl runs plugins.
fn named(name: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_netpol"), &path).expect("a link");
    Command::new(path).args(arguments).env_remove("KUBECONFIG").env("HOME", folder.path()).output().expect("netpol runs")
}

#[test]
fn usage_shows_the_name_of_the_plugin() {
    let help = stdout(&named("kubectl-netpol", &["can", "--help"]));
    assert!(help.contains("Usage: kubectl netpol can"), "{help}");
    assert!(stdout(&named("netpol", &["can", "--help"])).contains("Usage: netpol can"));
}

#[test]
fn options_of_a_command_follow_it() {
    let output = piped(&["-f", "x", "can", "a", "b"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("options of a command follow it: netpol can -f"), "{output:?}");
    // Elsewhere, the advice would be wrong.
    let output = piped(&["can", "--nonsense", "a", "b"], "");
    assert!(!stderr(&output).contains("follow it"), "{output:?}");
    // Options of the whole program may stand anywhere.
    for arguments in [
        &["--color", "never", "can", "-f", "-", "shop/api", "tools/probe"][..],
        &["can", "--color", "never", "-f", "-", "shop/api", "tools/probe"],
    ] {
        assert_eq!(piped(arguments, SHOP).status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn kubectl_completes_commands_options_and_names() {
    let (_folder, path) = file("shop.yaml", SHOP);
    let complete = |words: &[&str]| {
        let output = named("kubectl_complete-netpol", words);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        stdout(&output).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["re"]), ["reach", "render", ":4"]);
    assert_eq!(complete(&["can", "--out"]), ["--output", ":4"]);
    assert_eq!(complete(&["can", "-o", "j"]), ["json", "jsonl", ":4"]);
    assert_eq!(complete(&["can", "-f", ""]), [":0"]);
    assert_eq!(complete(&["can", "-f", &path, "shop/"]), ["shop/api", "shop/db", "shop/web", ":4"]);
    assert_eq!(complete(&["list", "-f", &path, "--from", "ex"]), ["external", ":4"]);
    assert_eq!(complete(&["who", ""]), ["external", ":4"], "a live cluster is not read");
}
