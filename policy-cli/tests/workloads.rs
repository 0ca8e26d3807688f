//! Which pods an input stands for: questions about manifests and dumps as people have them, with the answers that the cluster would
//! give. Each file of `field/` has its questions in its first lines.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

#[path = "common/piped.rs"]
mod piped;

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use piped::piped;

/// Runs netpol on a file of `field/`.
fn on_file(file: &str, arguments: &[&str]) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/field").join(file);
    netpol(arguments, path.to_str().expect("a path of text"), "")
}

/// Runs netpol on manifests.
fn on_text(input: &str, arguments: &[&str]) -> Output {
    netpol(arguments, "-", input)
}

fn netpol(arguments: &[&str], file: &str, input: &str) -> Output {
    let (command, rest) = arguments.split_first().expect("a command");
    piped(&[&[*command, "-f", file], rest].concat(), input)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The answer of `can`: its verdict, and its caveats in one text.
#[derive(Debug)]
struct Answer {
    verdict: String,
    caveats: String,
}

impl Answer {
    fn of(output: &Output) -> Self {
        let all: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        let caveats = all["caveats"].as_array().expect("caveats").iter().filter_map(Value::as_str).collect::<Vec<_>>();
        Self { verdict: all["verdict"].as_str().unwrap_or_default().to_owned(), caveats: caveats.join("\n") }
    }

    /// Asserts the verdict, and what the caveats say.
    fn is(&self, verdict: &str, caveats: &[&str]) {
        assert_eq!(self.verdict, verdict, "{self:?}");
        for part in caveats {
            assert!(self.caveats.contains(part), "{part}: {self:?}");
        }
        if caveats.is_empty() {
            assert_eq!(self.caveats, "", "{self:?}");
        }
    }
}

fn can(file: &str, from: &str, to: &str, port: &str) -> Answer {
    Answer::of(&on_file(file, &["can", from, to, "-p", port, "-o", "json"]))
}

fn can_in(input: &str, from: &str, to: &str, port: &str) -> Answer {
    Answer::of(&on_text(input, &["can", from, to, "-p", port, "-o", "json"]))
}

/// The pairs of a list, as `source destination`, with the ports that all and that some pods may use; addresses left out.
fn pairs(output: &Output) -> Vec<(String, String)> {
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let name = |peer: &Value| Some(format!("{}/{}", peer["namespace"].as_str()?, peer["name"].as_str()?));
    let rows = rows["connections"].as_array().expect("rows").iter();
    rows.filter_map(|row| Some((name(&row["src"])?, name(&row["dst"])?))).collect()
}

fn pair(from: &str, to: &str) -> (String, String) {
    (from.to_owned(), to.to_owned())
}

// ---- the files of field/

#[test]
fn ordinals_count_from_their_start() {
    let file = "statefulset-ordinals-start.yaml";
    can(file, "data/sts/shard", "data/deploy/reader", "9000").is("partial", &[]);
    can(file, "data/shard-3", "data/reader", "9000").is("allowed", &[]);
    can(file, "data/shard-4", "data/reader", "9000").is("denied", &[]);
    for missing in ["data/shard-0", "data/shard-5"] {
        let output = on_file(file, &["can", missing, "data/reader", "-p", "9000"]);
        assert!(output.status.code() == Some(2) && text(&output).contains("no pod or workload"), "{}", text(&output));
    }
}

#[test]
fn pods_of_jobs_have_the_name_of_their_job() {
    let file = "cronjob-job-name-exists.yaml";
    can(file, "ops/cronjob/nightly", "ops/sts/pg", "5432").is("allowed", &[]);
    can(file, "ops/job/once", "ops/sts/pg", "5432").is("allowed", &[]);
}

#[test]
fn labels_of_a_job_are_not_those_of_its_pods() {
    let answer = can("labels-of-the-job-alone.yaml", "glpi/job/db-init", "glpi/sts/mariadb", "3306");
    answer.is("denied", &["the Job glpi/db-init has the label `app.kubernetes.io/component=job`, and its pods do not"]);
}

#[test]
fn a_knative_service_is_no_core_service_and_no_workload() {
    let file = "knative-service.yaml";
    for name in ["apps/hello", "apps/service/hello", "apps/ksvc/hello", "apps/services.serving.knative.dev/hello"] {
        let output = on_file(file, &["can", "other/curl", name, "-p", "8080"]);
        let expected =
            "apps/hello is a Knative Service (serving.knative.dev/v1): its pods are made by a controller that is not known";
        assert!(output.status.code() == Some(2) && text(&output).contains(expected), "{name}: {}", text(&output));
    }
    for command in [&["who", "apps/hello"][..], &["reach", "apps/hello"]] {
        let output = on_file(file, command);
        assert!(output.status.code() == Some(2) && text(&output).contains("Knative Service"), "{}", text(&output));
    }
    let output = on_file(file, &["validate", "-o", "json"]);
    let findings: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let named = findings["unknown_pods"][0].as_str().unwrap_or_default();
    assert!(named.starts_with("Knative Service apps/hello (") && named.contains("knative-service.yaml:"), "{findings}");
    assert_eq!(findings["skipped"], serde_json::json!({}), "it matters");
    assert!(text(&on_file(file, &["validate"])).contains("Knative Service apps/hello"));
}

#[test]
fn any_kind_with_a_pod_template_is_a_workload() {
    let file = "rollout-and-deploymentconfig.yaml";
    for web in ["shop/web", "shop/rollout/web", "shop/Rollout/web", "shop/rollouts.argoproj.io/web"] {
        can(file, "shop/client", web, "80").is("denied", &[]);
    }
    can(file, "shop/client", "shop/dc/db", "5432").is("denied", &[]);
    can(file, "shop/web", "shop/db", "5432").is("allowed", &[]);
    let output = on_file(file, &["who", "shop/db", "-o", "json"]);
    assert_eq!(pairs(&output), [pair("shop/web", "shop/db")]);
    let output = on_file(file, &["list", "-o", "json"]);
    assert!(
        pairs(&output).contains(&pair("shop/web", "shop/db")) && text(&output).contains("\"caveats\": []"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_pending_pod_is_what_it_will_be() {
    let file = "pending-pod-in-dump.yaml";
    let expected = "a/web has no address yet; evaluated as the pod that it will be";
    can(file, "a/web", "a/db", "5432").is("denied", &[expected]);
    let output = on_file(file, &["who", "a/db", "-o", "json"]);
    assert!(pairs(&output).is_empty() && text(&output).contains(expected), "{}", text(&output));
    // Nothing isolates it, so the other direction is allowed as soon as it runs.
    can(file, "a/db", "a/web", "80").is("allowed", &[expected]);
}

#[test]
fn the_host_network_of_an_unknown_node_is_named() {
    let answer = can("host-network-of-an-unknown-node.yaml", "ingress-nginx/ds/controller", "frontend/web", "8080");
    answer.is("denied", &["ingress-nginx/controller uses the host network", "a node can always reach its own pods"]);
}

#[test]
fn pods_of_jobs_are_not_without_the_name_of_a_job() {
    let file = "not-a-job.yaml";
    can(file, "ops/cronjob/nightly", "ops/sts/pg", "5432").is("denied", &[]);
    // The index 0 is allowed port 7000, and the others are not.
    can(file, "ops/job/indexed", "ops/pg", "5432").is("denied", &[]);
    can(file, "ops/job/indexed", "ops/pg", "7000").is("partial", &[]);
}

#[test]
fn a_workload_and_itself_are_two_replicas() {
    let file = "replicas-by-hpa.yaml";
    can(file, "a/web", "a/web", "7800").is("denied", &[]);
    assert!(!pairs(&on_file(file, &["list", "-o", "json"])).contains(&pair("a/web", "a/web")));
}

#[test]
fn a_cronjob_between_two_runs_is_its_template() {
    let file = "cronjob-with-finished-pods.yaml";
    can(file, "ops/cronjob/nightly", "ops/pg", "5432")
        .is("allowed", &["ops/nightly has no running pod; evaluated as its template"]);
    can(file, "ops/cronjob/weekly", "ops/pg", "5432").is("denied", &["ops/weekly has no running pod; evaluated as its template"]);
    for command in [&["who", "ops/pg", "-o", "json"][..], &["list", "--to", "ops/pg", "-o", "json"]] {
        let output = on_file(file, command);
        assert!(pairs(&output).contains(&pair("ops/nightly", "ops/pg")), "{}", text(&output));
        assert!(!pairs(&output).contains(&pair("ops/weekly", "ops/pg")), "{}", text(&output));
        assert!(text(&output).contains("ops/nightly, ops/weekly have no running pod"), "{}", text(&output));
    }
    let output = on_file(file, &["reach", "ops/cronjob/nightly", "-o", "json"]);
    assert!(pairs(&output).contains(&pair("ops/nightly", "ops/pg")), "{}", text(&output));
}

#[test]
fn pods_of_other_controllers_are_named_where_they_could_be_meant() {
    let file = "pods-of-custom-resources.yaml";
    let parts = ["Prometheus (monitoring.coreos.com/v1): mon/main (", "Knative Service (serving.knative.dev/v1): mon/fn ("];
    let patterns: [&[&str]; 2] = [&["can", "mon/*", "mon/web"], &["can", "external", "mon/web"]];
    let lists: [&[&str]; 4] = [&["list"], &["who", "mon/web"], &["reach", "mon/old"], &["reach", "mon/old", "--hops"]];
    for command in lists.into_iter().chain(patterns) {
        let shown = text(&on_file(file, command));
        assert!(parts.iter().all(|part| shown.contains(part)), "{command:?}: {shown}");
    }
    // Policy web isolates the Rollout's pods for ingress, and the pods of the DeploymentConfig are open.
    can(file, "mon/old", "mon/rollout/web", "80")
        .is("denied", &["the suggested fix may also open pods that are not known: Prometheus mon/main ("]);
    can(file, "mon/web", "mon/deploymentconfig/old", "80").is("allowed", &[]);
    let shown = text(&on_file(file, &["can", "mon/main", "mon/web"]));
    assert!(shown.contains("mon/main is a Prometheus (monitoring.coreos.com/v1)"), "{shown}");
}

// ---- the kinds behind them

/// A pod of namespace `a`, as a cluster reports it.
fn pod(name: &str, owner: &str, label: &str, status: &str) -> String {
    let owner = match owner.split_once('/') {
        Some((kind, name)) => format!(", ownerReferences: [{{kind: {kind}, name: {name}, controller: true}}]"),
        None => String::new(),
    };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: a, labels: {{{label}}}{owner}}}\nspec: {{nodeName: n1}}\nstatus: \
         {{{status}}}\n---\n"
    )
}

/// A policy for the pods with a label, with its ingress rules.
fn ingress(target: &str, rules: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: np, namespace: a}}\nspec: {{podSelector: {{matchLabels: \
         {{{target}}}}}, ingress: [{rules}]}}\n---\n"
    )
}

/// A workload of namespace `a` with a pod template of one label.
fn workload(api_version: &str, kind: &str, name: &str, fields: &str) -> String {
    let selector = if api_version == "apps/v1" { format!("selector: {{matchLabels: {{app: {name}}}}}, ") } else { String::new() };
    format!(
        "apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: a}}\nspec: {{{selector}{fields}template: {{metadata: {{labels: \
         {{app: {name}}}}}, spec: {{containers: [{{name: c}}]}}}}}}\n---\n"
    )
}

#[test]
fn the_only_pod_of_a_workload_has_replicas_whose_address_is_not_known() {
    let web = pod("web-5-a", "ReplicaSet/web-5", "app: web, pod-template-hash: '5'", "phase: Running, podIP: 10.0.0.1");
    // The pod itself is in the block, and nobody knows whether its next replica is.
    let block = ingress("app: web", "{from: [{ipBlock: {cidr: 10.0.0.1/32}}]}");
    can_in(&format!("{web}{block}"), "a/web", "a/web", "80").is("partial", &["address"]);
    let label = ingress("app: web", "{from: [{podSelector: {matchLabels: {app: web}}}]}");
    can_in(&format!("{web}{label}"), "a/web", "a/web", "80").is("allowed", &[]);
    can_in(&format!("{web}{}", ingress("app: web", "")), "a/web", "a/web", "80").is("denied", &[]);
    // A pod and itself are one pod.
    let closed = format!("{web}{}", ingress("app: web", ""));
    can_in(&closed, "a/web-5-a", "a/web-5-a", "80").is("allowed", &[]);
    let output = on_text(&format!("{web}{label}"), &["list", "-o", "json"]);
    assert_eq!(pairs(&output), [pair("a/web", "a/web")]);
}

#[test]
fn two_pods_of_a_workload_are_its_replicas() {
    let two: String = [1, 2]
        .iter()
        .map(|n| {
            let status = format!("phase: Running, podIP: 10.0.0.{n}");
            pod(&format!("web-5-{n}"), "ReplicaSet/web-5", "app: web, pod-template-hash: '5'", &status)
        })
        .collect();
    let block = ingress("app: web", "{from: [{ipBlock: {cidr: 10.0.0.0/30}}]}");
    can_in(&format!("{two}{block}"), "a/web", "a/web", "80").is("allowed", &["an ipBlock that holds the address of a/web"]);
    let one = ingress("app: web", "{from: [{ipBlock: {cidr: 10.0.0.1/32}}]}");
    can_in(&format!("{two}{one}"), "a/web", "a/web", "80").is("partial", &[]);
}

#[test]
fn what_never_has_two_pods_reaches_itself() {
    for (kind, fields, verdict) in [
        ("Job", "", "allowed"),
        ("Job", "parallelism: 2, ", "denied"),
        ("Deployment", "", "denied"),
        ("Deployment", "replicas: 1, ", "denied"),
        ("StatefulSet", "replicas: 1, ", "denied"),
        ("StatefulSet", "replicas: 2, ", "denied"),
        ("DaemonSet", "", "denied"),
    ] {
        let api_version = if kind == "Job" { "batch/v1" } else { "apps/v1" };
        let input = format!("{}{}", workload(api_version, kind, "w", fields), ingress("app: w", ""));
        can_in(&input, "a/w", "a/w", "80").is(verdict, &[]);
    }
}

#[test]
fn a_label_whose_value_is_not_known_makes_the_answer_partial() {
    let web = workload("apps/v1", "Deployment", "web", "");
    let db = workload("apps/v1", "Deployment", "db", "");
    let hash = ingress("app: db", "{from: [{podSelector: {matchLabels: {pod-template-hash: 7d9c5b6f4}}}]}");
    let input = format!("{web}{db}{hash}");
    can_in(&input, "a/web", "a/db", "80").is("partial", &["the label `pod-template-hash` of a/web, whose value is not known"]);
    let shown = text(&on_text(&input, &["who", "a/db"]));
    assert!(shown.contains("`pod-template-hash`") && shown.contains("some pods"), "{shown}");
    // No edit sets a hash.
    let shown = text(&on_text(&input, &["can", "a/web", "a/db", "-p", "80"]));
    assert!(shown.contains("suggested fix") && !shown.contains("also match `pod-template-hash"), "{shown}");
    // Where the value decides nothing, nothing is said of it.
    can_in(&input, "a/db", "a/web", "80").is("allowed", &[]);
    let exists = ingress("app: db", "{from: [{podSelector: {matchExpressions: [{key: pod-template-hash, operator: Exists}]}}]}");
    can_in(&format!("{web}{db}{exists}"), "a/web", "a/db", "80").is("allowed", &[]);
    let absent =
        ingress("app: db", "{from: [{podSelector: {matchExpressions: [{key: pod-template-hash, operator: DoesNotExist}]}}]}");
    can_in(&format!("{web}{db}{absent}"), "a/web", "a/db", "80").is("denied", &[]);
    let not = ingress(
        "app: db",
        "{from: [{podSelector: {matchExpressions: [{key: pod-template-hash, operator: NotIn, values: [x]}]}}]}",
    );
    can_in(&format!("{web}{db}{not}"), "a/web", "a/db", "80").is("partial", &["pod-template-hash"]);
}

#[test]
fn workloads_whose_pods_do_not_run_are_named_in_dumps() {
    let db = pod("db", "", "app: db", "phase: Running, podIP: 10.0.0.2");
    let idle = workload("apps/v1", "Deployment", "idle", "replicas: 0, ");
    let expected = "a/idle has no running pod; evaluated as its template";
    let db = db + &ingress("app: db", "{}");
    can_in(&format!("{db}{idle}"), "a/idle", "a/db", "80").is("allowed", &[expected]);
    for command in [&["list"][..], &["who", "a/db"], &["reach", "a/idle"], &["reach", "a/idle", "--hops"]] {
        let shown = text(&on_text(&format!("{db}{idle}"), command));
        assert!(shown.contains(expected), "{command:?}: {shown}");
    }
    // Manifests that no cluster has seen describe pods that do not run yet, all of them.
    let manifest = workload("apps/v1", "Deployment", "db", "") + &ingress("app: db", "{}");
    can_in(&format!("{manifest}{idle}"), "a/idle", "a/db", "80").is("allowed", &[]);
}

#[test]
fn ordinals_that_are_too_many_to_list_are_named() {
    let db = workload("apps/v1", "StatefulSet", "db", "replicas: 5000, ");
    let web = workload("apps/v1", "Deployment", "web", "");
    let one = ingress("app: web", "{from: [{podSelector: {matchLabels: {statefulset.kubernetes.io/pod-name: db-4000}}}]}");
    let input = format!("{db}{web}{one}");
    can_in(&input, "a/db", "a/web", "80")
        .is("partial", &["a/db has 5000 pods; evaluated as those that policies name, and one for all others"]);
    can_in(&input, "a/db-4000", "a/web", "80").is("allowed", &["5000"]);
    let shown = text(&on_text(&input, &["can", "a/db-4999", "a/web"]));
    assert!(shown.contains("ask for `a/statefulset/db`"), "{shown}");
}

#[test]
fn a_namespace_may_be_called_like_a_kind() {
    let kafka = "apiVersion: kafka.strimzi.io/v1beta2\nkind: Kafka\nmetadata: {name: main, namespace: kafka}\nspec: {}\n---\n";
    let rollout = workload("argoproj.io/v1alpha1", "Rollout", "web", "");
    let input = format!("{kafka}{rollout}");
    for name in ["kafka/main", "kafka/kafka/main"] {
        let shown = text(&on_text(&input, &["can", name, "a/web"]));
        assert!(shown.contains("kafka/main is a Strimzi Kafka (kafka.strimzi.io/v1beta2)"), "{shown}");
    }
    let output = on_text(&input, &["can", "rollout/web", "rollout/web", "-n", "a"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn a_maker_whose_pods_are_there_is_its_pods() {
    let maker = "apiVersion: monitoring.coreos.com/v1\nkind: Prometheus\nmetadata: {name: main, namespace: a}\nspec: {replicas: 1}\n---\n";
    let set = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: prometheus-main, namespace: a, ownerReferences: [{kind: Prometheus, name: main, controller: true}]}\nspec: {selector: {matchLabels: {app: p}}, template: {metadata: {labels: {app: p}}, spec: {containers: [{name: c}]}}}\n---\n";
    let live = pod("prometheus-main-0", "StatefulSet/prometheus-main", "app: p", "phase: Running, podIP: 10.0.0.7");
    let db = pod("db", "", "app: db", "phase: Running, podIP: 10.0.0.2");
    let input = format!("{maker}{set}{live}{db}{}", ingress("app: db", "{from: [{podSelector: {matchLabels: {app: p}}}]}"));
    for name in ["a/main", "a/prometheus/main", "a/sts/prometheus-main", "a/prometheus-main", "a/prometheus-main-0"] {
        can_in(&input, name, "a/db", "9090").is("allowed", &[]);
    }
}

/// batch/v1: `concurrencyPolicy` is Allow by default, and lets a run start while the one before it runs.
#[test]
fn two_runs_of_a_cronjob_overlap_unless_they_must_not() {
    for (fields, verdict) in [
        ("", "denied"),
        ("concurrencyPolicy: Allow, ", "denied"),
        ("concurrencyPolicy: Forbid, ", "allowed"),
        ("concurrencyPolicy: Replace, ", "allowed"),
    ] {
        let cron = format!(
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: w, namespace: a}}\nspec: {{schedule: '@daily', {fields}jobTemplate: {{spec: {{template: \
             {{metadata: {{labels: {{app: w}}}}, spec: {{restartPolicy: Never, containers: [{{name: c}}]}}}}}}}}}}\n---\n"
        );
        let input = format!("{cron}{}", ingress("app: w", ""));
        can_in(&input, "a/w", "a/w", "80").is(verdict, &[]);
    }
}

/// An autoscaler of the StatefulSet `a/db`.
fn autoscaler(api_version: &str, kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: db, namespace: a}}\nspec: {{scaleTargetRef: {{apiVersion: apps/v1, kind: StatefulSet, name: db}}{spec}}}\n---\n"
    )
}

#[test]
fn an_autoscaler_makes_pods_of_higher_ordinals() {
    let web = workload("apps/v1", "Deployment", "web", "");
    let db = workload("apps/v1", "StatefulSet", "db", "");
    let fourth = ingress("app: web", "{from: [{podSelector: {matchLabels: {apps.kubernetes.io/pod-index: '3'}}}]}");
    let input = format!("{web}{db}{fourth}");
    can_in(&input, "a/db", "a/web", "80").is("denied", &[]);
    for (api_version, kind, most) in [
        ("autoscaling/v2", "HorizontalPodAutoscaler", ", minReplicas: 2, maxReplicas: 4"),
        ("autoscaling/v1", "HorizontalPodAutoscaler", ", maxReplicas: 4"),
        ("keda.sh/v1alpha1", "ScaledObject", ", maxReplicaCount: 4"),
        // KEDA: 100 by default.
        ("keda.sh/v1alpha1", "ScaledObject", ""),
    ] {
        let scaled = format!("{input}{}", autoscaler(api_version, kind, most));
        can_in(&scaled, "a/db", "a/web", "80").is("partial", &[]);
        can_in(&scaled, "a/db-3", "a/web", "80").is("allowed", &[]);
        can_in(&scaled, "a/db-2", "a/web", "80").is("denied", &[]);
    }
    let few = format!("{input}{}", autoscaler("autoscaling/v2", "HorizontalPodAutoscaler", ", maxReplicas: 3"));
    can_in(&few, "a/db", "a/web", "80").is("denied", &[]);
    let many = format!("{input}{}", autoscaler("autoscaling/v2", "HorizontalPodAutoscaler", ", maxReplicas: 2000"));
    can_in(&many, "a/db", "a/web", "80").is("partial", &["a/db has 2000 pods"]);
    // Of another namespace, and of another workload.
    let other = autoscaler("autoscaling/v2", "HorizontalPodAutoscaler", ", maxReplicas: 9");
    for scaler in [other.replace("namespace: a", "namespace: b"), other.replace("kind: StatefulSet", "kind: Deployment")] {
        can_in(&format!("{input}{scaler}"), "a/db", "a/web", "80").is("denied", &[]);
    }
}

#[test]
fn ordinals_that_do_not_run_are_named_beside_those_that_do() {
    let web = pod("web", "", "app: web", "phase: Running, podIP: 10.0.0.1");
    let first = pod("db-0", "StatefulSet/db", "app: db, apps.kubernetes.io/pod-index: '0'", "phase: Running, podIP: 10.0.0.2");
    let db = workload("apps/v1", "StatefulSet", "db", "replicas: 1, ")
        + &autoscaler("autoscaling/v2", "HorizontalPodAutoscaler", ", maxReplicas: 4");
    let fourth = ingress("app: web", "{from: [{podSelector: {matchLabels: {apps.kubernetes.io/pod-index: '3'}}}]}");
    let input = format!("{web}{first}{db}{fourth}");
    can_in(&input, "a/db", "a/web", "80")
        .is("denied", &["policies name pods of a/db that do not run and are not evaluated: db-3"]);
    let shown = text(&on_text(&input, &["who", "a/web"]));
    assert!(shown.contains("policies name pods that do not run and are not evaluated: a/db-3"), "{shown}");
}

#[test]
fn a_template_that_running_pods_hide_is_named() {
    let live = |labels: &str| {
        pod("web-5-a", "ReplicaSet/web-5", &format!("{labels}, pod-template-hash: '5'"), "phase: Running, podIP: 10.0.0.1")
    };
    let db = pod("db", "", "app: db", "phase: Running, podIP: 10.0.0.2");
    let new = workload("apps/v1", "Deployment", "web", "paused: true, ")
        .replace("{labels: {app: web}}", "{labels: {app: web, role: client}}");
    let by_role = ingress("app: db", "{from: [{podSelector: {matchLabels: {role: client}}}]}");
    let expected = "the template of a/web differs from its running pods, which are evaluated, in the label `role`";
    can_in(&format!("{}{db}{new}{by_role}", live("app: web")), "a/web", "a/db", "80").is("denied", &[expected]);
    let shown = text(&on_text(&format!("{}{db}{new}{by_role}", live("app: web")), &["who", "a/db"]));
    assert!(shown.contains("differ from the templates of a/web"), "{shown}");
    // A pod of the template runs; and labels that no policy asks for, such as those that webhooks add, decide nothing.
    can_in(&format!("{}{db}{new}{by_role}", live("app: web, role: client")), "a/web", "a/db", "80").is("allowed", &[]);
    let by_app = ingress("app: db", "{from: [{podSelector: {matchLabels: {app: web}}}]}");
    can_in(&format!("{}{db}{new}{by_app}", live("app: web")), "a/web", "a/db", "80").is("allowed", &[]);
}

#[test]
fn what_makes_objects_is_named_once_in_every_answer() {
    let web = workload("apps/v1", "Deployment", "web", "");
    let object = |api_version: &str, kind: &str, name: &str, spec: &str| {
        format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: argocd}}\nspec: {spec}\n---\n")
    };
    let input = web
        + &object("argoproj.io/v1alpha1", "Application", "shop", "{destination: {namespace: a}}")
        + &object("helm.toolkit.fluxcd.io/v2", "HelmRelease", "web", "{}")
        + &object("work.open-cluster-management.io/v1", "ManifestWork", "work", "{}")
        + "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: deny}\nspec: {rules: [{name: r, generate: {kind: NetworkPolicy}}]}\n---\n"
        + &object("kyverno.io/v1", "Policy", "names", "{rules: [{name: r, validate: {pattern: {metadata: {name: '?*'}}}}]}");
    let expected = "objects that these make or change may be missing from the input: Argo CD Application argocd/shop (";
    let answer = can_in(&format!("{input}{}", ingress("app: web", "{}")), "a/web", "a/web", "80");
    answer.is(
        "allowed",
        &[expected, "Flux HelmRelease argocd/web (", "ManifestWork argocd/work (", "Kyverno ClusterPolicy deny ("],
    );
    assert!(!answer.caveats.contains("names"), "{answer:?}");
    let shown = text(&on_text(&input, &["list"]));
    assert_eq!(shown.matches(expected).count(), 1, "{shown}");
}

/// `kubectl apply` puts an object without a namespace into that of `-n` or of the context.
#[test]
fn a_policy_without_a_namespace_may_be_meant_for_any() {
    let web = workload("apps/v1", "Deployment", "web", "") + &ingress("app: web", "{}");
    let policy = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: c}\nspec: {}\n---\n";
    let input = format!("{web}{policy}");
    can_in(&input, "a/web", "a/web", "80").is("allowed", &["CiliumNetworkPolicy (cilium.io/v2): c ("]);
    let named =
        |namespace: &str| Answer::of(&on_text(&input, &["can", "-n", namespace, "a/web", "a/web", "-p", "80", "-o", "json"]));
    named("a").is("allowed", &["CiliumNetworkPolicy (cilium.io/v2): a/c ("]);
    named("b").is("allowed", &[]);
    // The name of a NetNamespace is that of its namespace.
    for (name, caveats) in [("a", &["NetNamespace"][..]), ("b", &[])] {
        let net = format!("{web}apiVersion: network.openshift.io/v1\nkind: NetNamespace\nmetadata: {{name: {name}}}\nnetid: 7\n");
        can_in(&net, "a/web", "a/web", "80").is("allowed", caveats);
    }
}
