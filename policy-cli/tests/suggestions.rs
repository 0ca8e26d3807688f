//! Suggested fixes: the smallest edit that opens what was asked, and everything else that it opens.

#![expect(clippy::panic, reason = "a failing check panics")]

#[path = "common/piped.rs"]
mod piped;

use serde_json::{Value, json};

use piped::piped;

fn netpol(arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let output = piped(arguments, input);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn can(input: &str, from: &str, to: &str, port: &str) -> Value {
    let (_, text) = netpol(&["can", "-f", "-", from, to, "-p", port, "-o", "json"], input);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn pod(namespace: &str, name: &str, labels: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\nspec: {{nodeName: n1}}\nstatus: {{phase: Running, podIP: {address}}}\n"
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: x}}\nspec: {{{spec}}}\n"
    )
}

fn namespaces() -> String {
    ["x", "other"].map(|name| format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")).concat()
}

/// Rules that are wrong in one way each. An edit of the rule is proposed where it opens nothing else, else a rule of its own.
#[test]
fn the_edit_opens_what_was_asked_and_nothing_else() {
    let pods = pod("x", "web", "app: frontend", "10.0.0.1")
        + &pod("x", "db", "app: db", "10.0.0.2")
        + &pod("other", "web", "app: frontend", "10.0.0.3")
        + &pod("x", "api", "app: api, tier: front", "10.0.0.4");
    let own = "add a rule to `ingress` with the `podSelector` `app=frontend` in `from` and TCP 5432 in `ports`";
    for (rule, from, expected) in [
        ("{from: [{podSelector: {matchLabels: {app: frontend}}}], ports: [{port: 80}]}", "x/web", "add TCP 5432 to `ports`"),
        // The port would be open to the api too.
        (
            "{from: [{podSelector: {matchLabels: {app: frontend}}}, {podSelector: {matchLabels: {app: api}}}], ports: [{port: 80}]}",
            "x/web",
            own,
        ),
        (
            "{from: [{podSelector: {matchLabels: {app: frontends}}}], ports: [{port: 5432}]}",
            "x/web",
            "change `app: frontends` to `app: frontend` in from[0].podSelector",
        ),
        (
            "{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 5432}]}",
            "x/web",
            "also match `app=frontend` in from[0].podSelector",
        ),
        // Every port of the rule would be open.
        ("{from: [{podSelector: {matchLabels: {app: api}}}]}", "x/web", own),
        ("{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 80}]}", "x/web", own),
        // Without the requirement, every pod of the namespace would match.
        ("{from: [{podSelector: {matchLabels: {tier: back}}}], ports: [{port: 80}]}", "x/web", own),
        (
            "{from: [{podSelector: {matchLabels: {app: frontend}}}]}",
            "other/web",
            "add a rule to `ingress` with the `namespaceSelector` `kubernetes.io/metadata.name=other` with the `podSelector` `app=frontend` in `from` and TCP 5432 in `ports`",
        ),
        (
            "{from: [{ipBlock: {cidr: 10.9.0.0/16}}], ports: [{port: 5432}]}",
            "203.0.113.9",
            "add the `ipBlock` 203.0.113.9/32 to `from`",
        ),
        (
            "{from: [{ipBlock: {cidr: 10.9.0.0/16}}]}",
            "203.0.113.9",
            "add a rule to `ingress` with the `ipBlock` 203.0.113.9/32 in `from` and TCP 5432 in `ports`",
        ),
        ("{ports: [{port: postgres}]}", "x/web", own),
    ] {
        let input =
            namespaces() + &policy("np", &format!("podSelector: {{matchLabels: {{app: db}}}}, ingress: [{rule}]")) + &pods;
        let answer = can(&input, from, "x/db", "5432");
        let fix = &answer["ingress"]["nearest_miss"];
        assert_eq!(fix["edit"], expected, "{rule}");
        assert_eq!(fix["also_opens"], json!([]), "{rule}");
        let is_of_a_rule = !expected.starts_with("add a rule");
        assert_eq!(fix["rule"]["index"], if is_of_a_rule { json!(0) } else { Value::Null }, "{rule}");
    }
}

/// One label short: the policy that was meant for the target is edited, and not the default deny.
#[test]
fn a_policy_that_nearly_selects_the_target_comes_before_a_default_deny() {
    let input = namespaces()
        + &pod("x", "app", "app: keycloak", "10.0.0.1")
        + &pod("x", "mysql", "tier: mysql", "10.0.0.2")
        + &policy("default-deny", "podSelector: {}")
        + &policy(
            "mysql",
            "podSelector: {matchLabels: {app: mysql, tier: mysql}}, ingress: [{from: [{podSelector: {matchLabels: {app: keycloak}}}], ports: [{port: 3306}]}]",
        );
    let fix = &can(&input, "x/app", "x/mysql", "3306")["ingress"]["nearest_miss"];
    assert_eq!(fix["policy"], "x/mysql");
    assert_eq!(fix["edit"], "remove `app=mysql` from the `podSelector` of the policy");
    assert_eq!(
        fix["patch"],
        json!([{"op": "replace", "path": "/spec/podSelector", "value": {"matchLabels": {"tier": "mysql"}}}])
    );
    assert_eq!((&fix["also_opens"], &fix["also_closes"]), (&json!([]), &json!([])));
}

/// A rule in a default deny would open every pod of the namespace.
#[test]
fn beside_a_default_deny_a_policy_of_its_own_is_proposed() {
    let input = namespaces()
        + &pod("x", "web", "app: web", "10.0.0.1")
        + &pod("x", "db", "app: db", "10.0.0.2")
        + &pod("x", "cache", "app: cache", "10.0.0.3")
        + &policy("default-deny", "podSelector: {}");
    let fix = &can(&input, "x/web", "x/db", "5432")["ingress"]["nearest_miss"];
    assert_eq!(fix["policy"], "x/db-from-web");
    assert_eq!(
        fix["patch"],
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "db-from-web", "namespace": "x"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "db"}},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"protocol": "TCP", "port": 5432}]}],
            },
        })
    );
    assert_eq!(fix["also_opens"], json!([]));
}

/// Where labels cannot tell pods apart, the answer says what else is opened.
#[test]
fn what_else_is_opened_is_named() {
    let input = namespaces()
        + &pod("x", "web", "app: web", "10.0.0.1")
        + &pod("x", "twin", "app: web", "10.0.0.4")
        + &pod("x", "db", "app: db", "10.0.0.2")
        + &policy("np", "podSelector: {matchLabels: {app: db}}");
    let fix = &can(&input, "x/web", "x/db", "5432")["ingress"]["nearest_miss"];
    let ports = json!([{"protocol": "TCP", "ports": ["5432"]}]);
    assert_eq!(fix["also_opens"], json!([{"from": "x/twin", "to": "x/db", "ports": ports}]));
    let (code, text) = netpol(&["can", "-f", "-", "x/web", "x/db", "-p", "5432"], &input);
    assert_eq!(code, Some(1));
    assert!(text.contains("\n    also opens: x/twin → x/db TCP 5432\n"), "{text}");
}

/// A label of a pod decides about Services and other policies: it is never edited.
#[test]
fn labels_of_pods_are_never_edited() {
    let pods = pod("x", "web", "app: web", "10.0.0.1") + &pod("x", "db", "app: db", "10.0.0.2");
    for peer in [
        "matchLabels: {role: client}",
        "matchExpressions: [{key: role, operator: Exists}]",
        "matchExpressions: [{key: app, operator: DoesNotExist}]",
    ] {
        let rule = format!(
            "podSelector: {{matchLabels: {{app: db}}}}, ingress: [{{from: [{{podSelector: {{{peer}}}}}], ports: [{{port: 5432}}]}}]"
        );
        let fix = can(&(namespaces() + &policy("np", &rule) + &pods), "x/web", "x/db", "5432");
        let edit = fix["ingress"]["nearest_miss"]["edit"].as_str().expect("an edit").to_owned();
        assert!(!edit.contains("label"), "{edit}");
    }
}

/// What `-o patch` prints: the command in the first line of each document, and the document.
fn patches(text: &str) -> Vec<(String, String)> {
    let documents = text.split("---\n").map(|document| {
        let is_comment = |line: &&str| line.starts_with("# kubectl");
        let command = document.lines().find(is_comment).unwrap_or_default().to_owned();
        (command, document.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n"))
    });
    documents.collect()
}

/// RFC 6902: `add` to a member that exists replaces it. The first rule of a policy is added once, and the others to its list.
#[test]
fn patches_of_several_pairs_are_one_patch_of_each_policy() {
    let pods = pod("x", "web", "app: web", "10.0.0.1")
        + &pod("x", "api", "app: api", "10.0.0.4")
        + &pod("x", "db", "app: db", "10.0.0.2")
        + &pod("x", "cache", "app: cache", "10.0.0.3");
    let input = namespaces() + &pods + &policy("db", "podSelector: {matchLabels: {app: db}}");
    let ask = |from: &str| netpol(&["can", "-f", "-", from, "x/db", "-p", "5432", "-o", "patch"], &input);
    let (code, text) = ask("x/app in (web,api)");
    assert_eq!(code, Some(1));
    let documents = patches(&text);
    let [(command, patch)] = documents.as_slice() else { panic!("one document: {text}") };
    assert_eq!(command, "# kubectl patch networkpolicy db -n x --type=json --patch-file FILE");
    assert_eq!(patch.matches("path: \"/spec/ingress\"\n").count(), 1, "{text}");
    assert!(patch.contains("web") && patch.contains("api"), "{text}");
    // What is allowed after the first of them needs no edit.
    let (_, one) = ask("x/web");
    assert!(patches(&one).len() == 1 && !one.contains("api\n"), "{one}");
}

#[test]
fn new_policies_have_different_names() {
    let pods = pod("x", "web", "app: web", "10.0.0.1") + &pod("other", "web", "app: web", "10.0.0.3");
    let pods = pods + &pod("x", "db", "app: db", "10.0.0.2") + &pod("x", "cache", "app: cache", "10.0.0.4");
    let input = namespaces() + &pods + &policy("default-deny", "podSelector: {}");
    let name = |from: &str| can(&input, from, "x/db", "5432")["ingress"]["nearest_miss"]["policy"].clone();
    assert_eq!((name("x/web"), name("other/web")), (json!("x/db-from-web"), json!("x/db-from-other-web")));
    let (_, text) = netpol(&["can", "-f", "-", "*/app=web", "x/db", "-p", "5432", "-o", "patch"], &input);
    let documents = patches(&text);
    let added = documents.iter().filter(|(command, _)| command.starts_with("# kubectl apply")).map(|(_, object)| object);
    let names: Vec<&str> = added.filter_map(|object| object.lines().find(|line| line.starts_with("  name:"))).collect();
    let distinct: std::collections::BTreeSet<&&str> = names.iter().collect();
    assert!(!names.is_empty() && distinct.len() == names.len(), "{text}");
}

/// Connections of a node can come from each of its addresses.
#[test]
fn a_node_is_opened_with_all_its_addresses() {
    let node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n2}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.2}, {type: ExternalIP, address: 198.51.100.2}, {type: InternalIP, address: 'fd00::2'}]}\n";
    let db = pod("x", "db", "app: db", "10.0.0.2");
    let input = namespaces() + node + &db + &policy("np", "podSelector: {matchLabels: {app: db}}");
    let fix = &can(&input, "node/n2", "x/db", "5432")["ingress"]["nearest_miss"];
    let peers = json!([{"ipBlock": {"cidr": "192.0.2.2/32"}}, {"ipBlock": {"cidr": "198.51.100.2/32"}}]);
    assert_eq!(fix["patch"][0]["value"][0]["from"], peers, "the pod has no IPv6 address: {fix}");
    assert_eq!(fix["also_opens"], json!([]), "{fix}");
}

/// A rule without `ports` allows every protocol and port, and nothing less is what was asked.
#[test]
fn a_question_without_ports_gets_a_rule_without_ports() {
    let pods = pod("x", "web", "app: web", "10.0.0.1")
        + &pod("x", "api", "app: api", "10.0.0.4")
        + &pod("x", "db", "app: db", "10.0.0.2");
    let rule = "podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 5432}]}]";
    let input = namespaces() + &pods + &policy("np", rule);
    let (_, text) = netpol(&["can", "-f", "-", "x/web", "x/db", "-o", "json"], &input);
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let fix = &answer["ingress"]["nearest_miss"];
    assert_eq!(fix["edit"], "add a rule to `ingress` with the `podSelector` `app=web` in `from` that allows all ports");
    let rule = json!({"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]});
    assert_eq!(fix["patch"], json!([{"op": "add", "path": "/spec/ingress/-", "value": rule}]));
    assert_eq!(fix["also_opens"], json!([]));
}

/// The Job controller labels every pod of a Job with the name of the Job.
#[test]
fn pods_of_jobs_without_labels_are_selected_by_the_name_of_their_job() {
    let spec = "template: {spec: {restartPolicy: Never, containers: [{name: c}]}}";
    let cron = format!(
        "---\napiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: nightly, namespace: x}}\nspec: {{schedule: '@daily', jobTemplate: {{spec: {{{spec}}}}}}}\n"
    );
    let job = format!("---\napiVersion: batch/v1\nkind: Job\nmetadata: {{name: once, namespace: x}}\nspec: {{{spec}}}\n");
    let db = pod("x", "db", "app: db", "10.0.0.2") + &policy("np", "podSelector: {matchLabels: {app: db}}");
    let peer = |input: &str, from: &str| {
        let fix = can(input, from, "x/db", "5432")["ingress"]["nearest_miss"].clone();
        (fix["patch"][0]["value"][0]["from"][0]["podSelector"].clone(), fix["also_opens"].clone())
    };
    let exists = json!({"matchExpressions": [{"key": "job-name", "operator": "Exists"}]});
    assert_eq!(peer(&(namespaces() + &cron + &db), "x/nightly"), (exists.clone(), json!([])));
    let named = json!({"matchLabels": {"job-name": "once"}});
    assert_eq!(peer(&(namespaces() + &job + &db), "x/once"), (named, json!([])));
    // Both have the label: what else the selector opens is named.
    let ports = json!([{"protocol": "TCP", "ports": ["5432"]}]);
    let (selector, opens) = peer(&(namespaces() + &cron + &job + &db), "x/nightly");
    assert_eq!((selector, opens), (exists, json!([{"from": "x/once", "to": "x/db", "ports": ports}])));
}

/// Each edit is evaluated anew, so their number is bounded; what is left out is stated.
#[test]
fn patches_that_do_not_allow_all_say_so() {
    let mut input = namespaces() + &pod("x", "web", "app: web", "10.0.0.1");
    for number in 0..70 {
        input += &pod("x", &format!("db-{number}"), &format!("app: db, n: '{number}'"), &format!("10.0.1.{number}"));
        input += &policy(&format!("p{number}"), &format!("podSelector: {{matchLabels: {{n: '{number}'}}}}"));
    }
    let patch = |to: &str| netpol(&["can", "-f", "-", "x/web", to, "-p", "80", "-o", "patch"], &input).1;
    assert!(patch("x/db-*").contains("# caveat: these edits do not allow all of it"), "70 policies need an edit each");
    assert!(!patch("x/db-1").contains("do not allow all of it"));
}
