//! What answers and lists state about what they cannot show: Services, address blocks, addresses that are not known, nodes, and labels.

#![expect(clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

#[path = "common/piped.rs"]
mod piped;

use std::process::Output;

use serde_json::Value;

use piped::piped;

fn netpol(arguments: &[&str], input: &str) -> Output {
    piped(&[arguments, &["-f", "-"]].concat(), input)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The caveats of a question or of a list.
fn caveats(arguments: &[&str], input: &str) -> Vec<String> {
    let answer = json(&netpol(&[arguments, &["-o", "json"]].concat(), input));
    let list = answer["caveats"].as_array().unwrap_or_else(|| panic!("{answer}"));
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Asserts that exactly one caveat contains a text.
fn says(arguments: &[&str], input: &str, part: &str) {
    let found = caveats(arguments, input);
    assert_eq!(found.iter().filter(|caveat| caveat.contains(part)).count(), 1, "{arguments:?}: {part}: {found:#?}");
}

fn is_silent(arguments: &[&str], input: &str) {
    assert_eq!(caveats(arguments, input), Vec::<String>::new(), "{arguments:?}");
}

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n";

fn pod(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: a, labels: {{app: {name}}}}}\nspec: {{nodeName: n1, containers: [{{name: c, ports: [{{name: http, containerPort: 8080}}]}}]}}\nstatus: {{phase: Running, podIP: {address}}}\n---\n"
    )
}

fn deployment(name: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: a}}\nspec: {{selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: [{{name: c}}]}}}}}}\n---\n"
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: a}}\nspec: {{{spec}}}\n---\n"
    )
}

fn egress(app: &str, cidr: &str) -> String {
    policy(
        app,
        &format!(
            "podSelector: {{matchLabels: {{app: {app}}}}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: {cidr}}}}}]}}]"
        ),
    )
}

fn service(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: db, namespace: a}}\nspec: {{selector: {{app: db}}, {spec}}}\n---\n")
}

fn pods() -> String {
    NAMESPACE.to_owned() + &pod("web", "10.0.0.1") + &pod("db", "10.0.0.2")
}

/// S5.1: policies see the pods behind a Service, and not its address.
#[test]
fn blocks_of_service_addresses_are_named_in_lists() {
    let input = pods() + &service("clusterIP: 10.96.0.10, ports: [{port: 80}]") + &egress("web", "10.96.0.0/12");
    let part = "have no effect on connections to them, because policies are evaluated for the pods behind a Service: a/web egress[0] (Service a/db)";
    for command in [&["list"][..], &["who", "a/db"], &["reach", "a/web"], &["reach", "a/web", "--hops"]] {
        says(command, &input, part);
    }
    // The destination has no say in its egress.
    let found = caveats(&["reach", "a/db"], &input);
    assert!(!found.iter().any(|caveat| caveat.contains("virtual addresses")), "{found:?}");
    // The whole family, and a block of pods, are not there for Services.
    for cidr in ["0.0.0.0/0", "10.0.0.0/8"] {
        let input = pods() + &service("clusterIP: 10.96.0.10, ports: [{port: 80}]") + &egress("web", cidr);
        let found = caveats(&["list"], &input);
        assert!(!found.iter().any(|caveat| caveat.contains("virtual addresses")), "{cidr}: {found:?}");
    }
}

/// S1.40: plugins differ in whether ipBlock applies to pods.
#[test]
fn blocks_that_match_pods_are_named_in_lists() {
    let input = pods() + &egress("web", "10.0.0.0/24");
    let part = "some network plugins, such as Cilium, do not apply ipBlock to pods: a/web egress[0]";
    for command in [&["list"][..], &["who", "a/db"], &["reach", "a/web"]] {
        says(command, &input, part);
    }
    is_silent(&["list"], &(pods() + &egress("web", "192.0.2.0/24")));
    // A peer of the same rule selects the pod too.
    let both = "podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/24}}, {podSelector: {}}]}]";
    is_silent(&["list"], &(pods() + &policy("both", both)));
}

/// S2.22: a block that is not the whole family is assumed not to match a pod whose address is not known.
#[test]
fn addresses_that_are_not_known_are_named_in_lists() {
    let input = NAMESPACE.to_owned() + &deployment("web") + &deployment("db") + &egress("web", "10.0.0.0/8");
    let part =
        "the addresses of pods are not known until they run, so ipBlock rules are assumed not to match them: a/web egress[0]";
    for command in [&["list"][..], &["who", "a/db"], &["reach", "a/web"]] {
        says(command, &input, part);
    }
    // What another rule allows does not depend on the address.
    let rule =
        "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}], ports: [{port: 80}]}]";
    let allowed = input + &policy("pods", rule);
    is_silent(&["who", "a/db", "-p", "80"], &allowed);
    says(&["who", "a/db", "-p", "81"], &allowed, part);
    let found =
        caveats(&["list"], &(NAMESPACE.to_owned() + &deployment("web") + &deployment("db") + &egress("web", "0.0.0.0/0")));
    assert!(!found.iter().any(|caveat| caveat.contains("not known")), "{found:?}");
}

#[test]
fn many_rules_are_one_caveat() {
    let mut input = NAMESPACE.to_owned() + &deployment("db");
    for number in 0..9 {
        input += &deployment(&format!("web-{number}"));
        input += &egress(&format!("web-{number}"), "10.0.0.0/8");
    }
    says(
        &["list"],
        &input,
        "a/web-0 egress[0], a/web-1 egress[0], a/web-2 egress[0], a/web-3 egress[0], a/web-4 egress[0] and 4 more",
    );
}

#[test]
fn ports_and_sources_of_services_are_named_in_lists() {
    let open = policy("web", "podSelector: {matchLabels: {app: web}}");
    let ports = "ports: [{port: 80, targetPort: http, nodePort: 30080}]";
    let input = pods() + &service(&format!("type: NodePort, clusterIP: 10.96.0.10, {ports}")) + &open;
    says(
        &["who", "a/db", "-p", "80"],
        &input,
        "Services map asked ports to other ports of the pods, and policies are evaluated for those: a/db TCP 80 → 8080",
    );
    says(&["list"], &input, "connections from outside through node ports have the address of a node as their source");
    // Nobody asks for connections from outside.
    is_silent(&["list", "--from", "a/web", "--to", "a/db"], &input);
    let local =
        pods() + &service(&format!("type: NodePort, externalTrafficPolicy: Local, clusterIP: 10.96.0.10, {ports}")) + &open;
    is_silent(&["list"], &local);
    says(&["list", "--from", "a/web", "--to", "10.96.0.10"], &input, "10.96.0.10 is the cluster IP of Service a/db");
}

#[test]
fn nodes_are_not_listed_and_named() {
    let node =
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.1}]}\n---\n";
    let input = pods() + node + &policy("web", "podSelector: {matchLabels: {app: web}}");
    for command in [&["list"][..], &["who", "a/db"], &["reach", "a/web"]] {
        says(command, &input, "connections of nodes are not listed: n1; ask for `node/NAME`");
    }
    is_silent(&["list", "--from", "node/n1", "--to", "a/db"], &input);
    let agent = pod("agent", "192.0.2.1").replace("nodeName: n1", "nodeName: n1, hostNetwork: true");
    says(&["list"], &(input + &agent), "pods on the host network, whose traffic policies treat as that of their nodes: a/agent");
}

#[test]
fn caveats_of_lists_are_in_json_and_else_on_standard_error() {
    let input = pods() + &egress("web", "10.0.0.0/24");
    let part = "do not apply ipBlock to pods";
    for format in ["json", "yaml"] {
        let output = netpol(&["list", "-o", format], &input);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(out.contains(part) && err.is_empty(), "{format}: {output:?}");
    }
    for format in ["text", "jsonl", "csv", "md", "matrix", "dot", "mermaid"] {
        let output = netpol(&["list", "-o", format], &input);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!out.contains(part) && err.contains(part), "{format}: {output:?}");
    }
    let lines = netpol(&["list", "-o", "jsonl"], &input);
    let first = String::from_utf8_lossy(&lines.stdout).lines().next().map(str::to_owned).expect("a line");
    let row: Value = serde_json::from_str(&first).expect("JSON");
    assert!(row["src"].is_object() && row["dst"].is_object(), "{row}");
}

/// S2.14: packets of a pod to a loopback address never leave it.
#[test]
fn a_loopback_address_is_the_pod_itself() {
    let input = pods() + &policy("deny", "podSelector: {}, policyTypes: [Ingress, Egress]");
    for (from, to) in
        [("a/web", "127.0.0.1"), ("a/web", "127.8.0.1"), ("127.0.0.1", "a/web"), ("a/web", "::1"), ("a/web", "127.0.0.0/8")]
    {
        let output = netpol(&["can", from, to, "-p", "80"], &input);
        assert_eq!(output.status.code(), Some(0), "{from} {to}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("a pod can always reach itself"), "{output:?}");
    }
    for arguments in
        [&["can", "external", "127.0.0.1"][..], &["who", "127.0.0.1"], &["reach", "127.0.0.1"], &["list", "--to", "::1"]]
    {
        let output = netpol(arguments, &input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains("is a loopback address"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_service_can_be_written_after_its_namespace() {
    let input = pods() + &service("clusterIP: 10.96.0.10, ports: [{port: 80}]") + &policy("web", "podSelector: {}");
    for name in ["a/db.svc", "a/db.svc.cluster.local", "a/db.a.svc", "db.a.svc"] {
        let output = netpol(&["can", "a/web", name], &input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains("is the Service a/db"), "{name}: {said}");
    }
}

#[test]
fn ports_that_another_entry_allows_are_not_listed() {
    let ports = "[{protocol: TCP, port: 443}, {protocol: TCP}, {protocol: TCP, port: http}, {protocol: UDP, port: 53}, {protocol: UDP, port: 53}]";
    let rule = format!("podSelector: {{matchLabels: {{app: db}}}}, ingress: [{{ports: {ports}}}]");
    let output = netpol(&["can", "a/web", "a/db", "-p", "80/SCTP"], &(pods() + &policy("db", &rule)));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("ports: allows only TCP, UDP 53\n"), "{text}");
}

/// The label of a workload object matters where a selector that decides about the ends would select its pods by it.
#[test]
fn labels_of_a_workload_are_named_where_they_would_decide() {
    let web = deployment("web").replace("{name: web, namespace: a}", "{name: web, namespace: a, labels: {tier: front}}");
    let all = NAMESPACE.to_owned() + &web + &deployment("db") + &deployment("cache");
    let from = |app: &str| {
        policy(
            app,
            &format!(
                "podSelector: {{matchLabels: {{app: {app}}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{tier: front}}}}}}]}}]"
            ),
        )
    };
    let part = "the Deployment a/web has the label `tier=front`, and its pods do not";
    says(&["can", "a/web", "a/db", "-p", "80"], &(all.clone() + &from("db")), part);
    // The policy of another workload decides nothing here.
    let other = all + &from("cache") + &policy("db", "podSelector: {matchLabels: {app: db}}");
    is_silent(&["can", "a/web", "a/db", "-p", "80"], &other);
}

/// A policy that is a hook counts as long as a cluster keeps it.
#[test]
fn hooks_that_a_cluster_has_only_for_a_moment_are_named_and_not_evaluated() {
    let hook = |annotations: &str| {
        policy("open", "podSelector: {}, ingress: [{}]")
            .replace("{name: open, namespace: a}", &format!("{{name: open, namespace: a, annotations: {{{annotations}}}}}"))
    };
    let input = NAMESPACE.to_owned() + &deployment("web") + &deployment("db") + &policy("deny", "podSelector: {}");
    let question = ["can", "a/web", "a/db", "-p", "80"];
    let part = "hooks that a cluster has only for a moment are not evaluated: NetworkPolicy a/open (";
    for annotations in
        ["helm.sh/hook: test", "argocd.argoproj.io/hook: PreSync, argocd.argoproj.io/hook-delete-policy: HookSucceeded"]
    {
        let input = format!("{input}{}", hook(annotations));
        says(&question, &input, part);
        assert_eq!(netpol(&question, &input).status.code(), Some(1), "{annotations}");
        says(&["list"], &input, part);
    }
    let kept = format!("{input}{}", hook("helm.sh/hook: post-install"));
    is_silent(&question, &kept);
    assert_eq!(netpol(&question, &kept).status.code(), Some(0));
}

/// How many pods an autoscaler can make is not known, and neither is which pods of a Rollout have which labels.
#[test]
fn pods_beyond_the_template_are_named() {
    let policy = policy("db", "podSelector: {matchLabels: {app: db}}");
    let set = deployment("db").replace("kind: Deployment", "kind: StatefulSet");
    let scaler = "---\napiVersion: autoscaling.alibabacloud.com/v1beta1\nkind: CronHorizontalPodAutoscaler\nmetadata: {name: c, namespace: a}\n\
        spec: {scaleTargetRef: {kind: StatefulSet, name: db}, jobs: [{targetSize: 5}]}\n";
    let input = format!("{NAMESPACE}{}{set}{policy}{scaler}", deployment("web"));
    let question = ["can", "a/web", "a/db", "-p", "80"];
    says(&question, &input, "how many pods of a StatefulSet these make is not known: CronHorizontalPodAutoscaler a/c");
    says(&["list"], &input, "how many pods of a StatefulSet these make is not known: CronHorizontalPodAutoscaler a/c");
    let rollout = deployment("db")
        .replace("apiVersion: apps/v1", "apiVersion: argoproj.io/v1alpha1")
        .replace("kind: Deployment", "kind: Rollout")
        .replace("template:", "strategy: {canary: {stableMetadata: {labels: {role: stable}}}}, template:");
    assert!(rollout.contains("stableMetadata"), "{rollout}");
    let input =
        format!("{NAMESPACE}{}{rollout}{}", deployment("web"), self::policy("web", "podSelector: {matchLabels: {app: web}}"));
    says(&question, &input, "labels that these give to some of their pods only are not evaluated: Rollout a/db");
    is_silent(&question, &input.replace("stableMetadata", "noMetadata"));
}

/// A suggested fix is a rule for pods, and an operator's pods may be among them. A name can be that of an operator's object too.
#[test]
fn pods_of_operators_are_named_with_fixes_and_with_their_own_name() {
    let operator = |name: &str| {
        format!(
            "---\napiVersion: postgresql.cnpg.io/v1\nkind: Cluster\nmetadata: {{name: {name}, namespace: a}}\nspec: {{instances: 3}}\n"
        )
    };
    let of_web = policy("web", "podSelector: {matchLabels: {app: web}}");
    let input = format!("{NAMESPACE}{}{}{of_web}", deployment("web"), deployment("db"));
    let question = ["can", "a/web", "a/db", "-p", "80"];
    is_silent(&question, &format!("{input}{}", operator("pg")));
    let denied = format!("{input}{}{}", policy("db", "podSelector: {matchLabels: {app: db}}"), operator("pg"));
    says(&question, &denied, "the suggested fix may also open pods that are not known: CloudNativePG Cluster a/pg");
    says(&question, &format!("{input}{}", operator("db")), "pods made by controllers that are not known are not evaluated");
}

#[test]
fn a_node_port_is_named_where_the_address_may_be_that_of_a_node() {
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: a, labels: {app: web}}\nspec: {nodeName: n1, containers: [{name: c, image: i}]}\n\
        status: {phase: Running, hostIP: 192.168.0.1, podIP: 10.0.0.1}\n---\n";
    let input = format!("{NAMESPACE}{pod}{}", service("type: NodePort, ports: [{port: 80, nodePort: 30080}]"));
    says(
        &["can", "a/web", "192.168.0.1", "-p", "30080"],
        &input,
        "if 192.168.0.1 is a node, the port is a NodePort of Service a/db",
    );
}
