//! Which pods an input stands for (S2.22 to S2.24).

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a failing check panics")]

use std::collections::BTreeSet;

use policy_core::manifest::{Basis, Extent, Loader, Replicas, Snapshot, Syntax, Workload};
use policy_core::model::{Addresses, ObjectKey, Placement, Pod, WorkloadKey};

/// What questions are asked about.
fn expected(text: &str) -> Snapshot {
    let mut loader = Loader::new(Syntax::Strict).with_expected_pods();
    loader.read("in.yaml", text.as_bytes());
    let snapshot = loader.finish();
    assert!(!snapshot.has_errors(), "{:?}", snapshot.diagnostics);
    snapshot
}

/// What an agent counts.
fn real(text: &str) -> Snapshot {
    let mut loader = Loader::new(Syntax::Legacy);
    loader.read("in.yaml", text.as_bytes());
    loader.finish()
}

fn workload<'s>(snapshot: &'s Snapshot, kind: &str, name: &str) -> &'s Workload {
    let key = ("x".to_owned(), WorkloadKey { kind: kind.to_owned(), name: name.to_owned() });
    snapshot.workloads.get(&key).unwrap_or_else(|| panic!("no {kind} {name} in {:?}", snapshot.workloads.keys()))
}

fn pods<'s>(snapshot: &'s Snapshot, kind: &str, name: &str) -> Vec<&'s Pod> {
    workload(snapshot, kind, name).pods.iter().map(|key| &snapshot.pods[key]).collect()
}

/// The values of a label of the pods of a workload.
fn values<'s>(snapshot: &'s Snapshot, kind: &str, name: &str, label: &str) -> BTreeSet<Option<&'s str>> {
    pods(snapshot, kind, name).into_iter().map(|pod| pod.labels.get(label).map(String::as_str)).collect()
}

/// An object with a pod template of one label.
fn templated(kind: &str, api_version: &str, name: &str, fields: &str) -> String {
    format!(
        "apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: x}}\nspec:\n  {fields}\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: \
         {{labels: {{app: {name}}}}}\n    spec: {{containers: [{{name: c}}]}}\n---\n"
    )
}

/// A pod of a controller, with fields of its labels and a status.
fn pod(name: &str, owner: &str, labels: &str, status: &str) -> String {
    let (kind, controller) = owner.split_once('/').unwrap();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: x\n  labels: {{{labels}}}\n  ownerReferences: [{{kind: {kind}, \
         name: {controller}, controller: true}}]\nspec: {{nodeName: n1, containers: [{{name: c}}]}}\nstatus: {{{status}}}\n---\n"
    )
}

/// A policy whose peers are the pods of this selector.
fn peer(selector: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: x}}\nspec:\n  podSelector: {{}}\n  \
         ingress: [{{from: [{{podSelector: {{{selector}}}}}]}}]\n---\n"
    )
}

const RUNNING: &str = "phase: Running, podIP: 10.0.0.1";
const PENDING: &str = "phase: Pending";
const FAILED: &str = "phase: Failed, reason: Evicted, podIP: 10.0.0.9";

#[test]
fn live_pods_stand_for_their_workload() {
    let web = templated("Deployment", "apps/v1", "web", "replicas: 3");
    let live = pod("web-5-a", "ReplicaSet/web-5", "app: web, pod-template-hash: '5'", RUNNING);
    let snapshot = expected(&format!("{web}{live}"));
    let found = workload(&snapshot, "Deployment", "web");
    assert_eq!((found.basis, found.replicas), (Basis::Pods, Replicas::Several));
    assert_eq!(found.pods, [ObjectKey::new("x", "web-5-a")]);
    assert!(snapshot.has_reported_pods);
}

#[test]
fn a_workload_without_a_live_pod_is_its_template() {
    for status in [FAILED, "phase: Succeeded, podIP: 10.0.0.9", PENDING] {
        let web = templated("Deployment", "apps/v1", "web", "replicas: 1");
        let dead = pod("web-5-a", "ReplicaSet/web-5", "app: web, pod-template-hash: '5'", status);
        let snapshot = expected(&format!("{web}{dead}"));
        assert_eq!(workload(&snapshot, "Deployment", "web").basis, Basis::Template, "{status}");
        let found = pods(&snapshot, "Deployment", "web");
        assert!(found.iter().any(|pod| pod.addresses == Addresses::Unknown && pod.is_endpoint()), "{status}");
        // The agent counts the pod that is there, and nothing else.
        let counted = real(&format!("{web}{dead}"));
        assert_eq!(workload(&counted, "Deployment", "web").pods, [ObjectKey::new("x", "web-5-a")], "{status}");
        assert!(counted.pods.values().all(|pod| !pod.is_endpoint()), "{status}");
    }
}

#[test]
fn scaled_to_zero_is_one_pod_of_the_template() {
    let snapshot = expected(&templated("Deployment", "apps/v1", "web", "replicas: 0"));
    let found = workload(&snapshot, "Deployment", "web");
    assert_eq!((found.pods.len(), found.replicas), (1, Replicas::Several));
    let snapshot = expected(&templated("StatefulSet", "apps/v1", "db", "replicas: 0"));
    assert_eq!(workload(&snapshot, "StatefulSet", "db").pods, [ObjectKey::new("x", "db-0")]);
}

#[test]
fn a_pending_pod_is_what_it_will_be_and_only_in_questions() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: x}\nspec: {containers: [{name: c}]}\nstatus: {phase: Pending}\n";
    let key = ObjectKey::new("x", "a");
    let snapshot = expected(text);
    let found = &snapshot.pods[&key];
    assert_eq!((&found.addresses, &found.placement), (&Addresses::Unknown, &Placement::Somewhere));
    assert!(snapshot.pending.contains(&key) && workload(&snapshot, "Pod", "a").basis == Basis::Pods);
    let counted = real(text);
    assert!(!counted.pods[&key].is_endpoint() && counted.pending.is_empty());
}

#[test]
fn a_pending_pod_counts_beside_live_ones_where_policies_tell_them_apart() {
    let live = pod("web-5-a", "ReplicaSet/web-5", "app: web, pod-template-hash: '5'", RUNNING);
    let alike = pod("web-6-b", "ReplicaSet/web-6", "app: web, pod-template-hash: '6'", PENDING);
    let other = pod("web-7-c", "ReplicaSet/web-7", "app: web, version: new, pod-template-hash: '7'", PENDING);
    let snapshot = expected(&format!("{live}{alike}{other}"));
    let names: Vec<&str> = pods(&snapshot, "Deployment", "web").iter().map(|pod| pod.key.name.as_str()).collect();
    assert_eq!(names, ["web-5-a", "web-7-c"]);
    let asked = expected(&format!("{live}{alike}{}", peer("matchLabels: {pod-template-hash: '6'}")));
    assert_eq!(workload(&asked, "Deployment", "web").pods.len(), 2);
}

#[test]
fn a_rollout_in_the_middle_is_one_workload() {
    let old = pod("web-5-a", "ReplicaSet/web-5", "app: web, pod-template-hash: '5'", RUNNING);
    let new = pod("web-6-b", "ReplicaSet/web-6", "app: web, pod-template-hash: '6'", "phase: Running, podIP: 10.0.0.2");
    let sets: String = ["web-5", "web-6"]
        .iter()
        .map(|name| {
            format!(
                "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {{name: {name}, namespace: x, ownerReferences: [{{kind: Deployment, name: \
                 web, controller: true}}]}}\nspec: {{replicas: 1, selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web, set: {name}}}}}, spec: {{containers: [{{name: c}}]}}}}}}\n---\n"
            )
        })
        .collect();
    for text in [format!("{old}{new}"), format!("{sets}{old}{new}")] {
        let snapshot = expected(&text);
        assert_eq!((snapshot.workloads.len(), workload(&snapshot, "Deployment", "web").pods.len()), (1, 2));
    }
    // Without pods, both ReplicaSets make some, also when the Deployment itself is not in the input.
    let deployment = templated("Deployment", "apps/v1", "web", "replicas: 2");
    for (text, sets) in [
        (sets.clone(), ["web-5", "web-6"].map(Some).to_vec()),
        (format!("{deployment}{sets}"), vec![None, Some("web-5"), Some("web-6")]),
    ] {
        let snapshot = expected(&text);
        assert_eq!(snapshot.workloads.len(), 1);
        assert_eq!(values(&snapshot, "Deployment", "web", "set"), sets.into_iter().collect());
    }
    // An old ReplicaSet makes none.
    let idle = sets.replacen("replicas: 1", "replicas: 0", 1);
    assert_eq!(values(&expected(&idle), "Deployment", "web", "set"), BTreeSet::from([Some("web-6")]));
}

#[test]
fn pods_of_a_rollout_belong_to_it_by_their_label() {
    let live = pod("web-5-a", "ReplicaSet/web-5", "app: web, rollouts-pod-template-hash: '5'", RUNNING);
    let snapshot = expected(&format!("{}{live}", templated("Rollout", "argoproj.io/v1alpha1", "web", "replicas: 2")));
    assert_eq!(snapshot.workloads.len(), 1);
    assert_eq!(workload(&snapshot, "Rollout", "web").basis, Basis::Pods);
}

#[test]
fn a_pod_of_a_job_that_is_not_there_belongs_to_the_cronjob_of_its_name() {
    let cron = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: nightly, namespace: x}\nspec: {jobTemplate: {spec: {template: {metadata: {labels: {role: dump}}, spec: {containers: [{name: c}]}}}}}\n---\n";
    let live = pod("nightly-29000000-x", "Job/nightly-29000000", "role: dump", RUNNING);
    let snapshot = expected(&format!("{cron}{live}"));
    assert_eq!(workload(&snapshot, "CronJob", "nightly").basis, Basis::Pods);
    assert_eq!(expected(&live).workloads.keys().next().unwrap().1.kind, "Job");
}

#[test]
fn jobs_and_cronjobs_have_the_labels_of_their_controllers() {
    let job = templated("Job", "batch/v1", "once", "backoffLimit: 1");
    let snapshot = expected(&job);
    for label in ["job-name", "batch.kubernetes.io/job-name"] {
        assert_eq!(values(&snapshot, "Job", "once", label), BTreeSet::from([Some("once")]));
    }
    for label in ["controller-uid", "batch.kubernetes.io/controller-uid"] {
        let found = values(&snapshot, "Job", "once", label);
        assert!(found.len() == 1 && !found.contains(&None), "{label}: {found:?}");
    }
    // Who takes the selector over gets no labels.
    let manual = expected(&templated("Job", "batch/v1", "once", "manualSelector: true"));
    assert_eq!(values(&manual, "Job", "once", "job-name"), BTreeSet::from([None]));
    let cron = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: nightly, namespace: x}\nspec: {jobTemplate: {spec: {template: {spec: {containers: [{name: c}]}}}}}\n---\n";
    let snapshot = expected(cron);
    let found = values(&snapshot, "CronJob", "nightly", "job-name");
    assert!(found.len() == 1 && !found.contains(&None), "{found:?}");
    assert!(workload(&snapshot, "CronJob", "nightly").unknown_labels.is_empty(), "no selector asks");
}

#[test]
fn a_named_value_that_is_not_known_has_a_pod_of_its_own() {
    let web = templated("Deployment", "apps/v1", "web", "replicas: 2");
    let policy = peer("matchExpressions: [{key: pod-template-hash, operator: NotIn, values: [abc, def]}]");
    let snapshot = expected(&format!("{web}{policy}"));
    let found = values(&snapshot, "Deployment", "web", "pod-template-hash");
    assert!(found.len() == 3 && found.contains(&Some("abc")) && found.contains(&Some("def")), "{found:?}");
    assert_eq!(workload(&snapshot, "Deployment", "web").unknown_labels, BTreeSet::from(["pod-template-hash".to_owned()]));
    // Exists needs no value.
    let exists = expected(&format!("{web}{}", peer("matchExpressions: [{key: pod-template-hash, operator: Exists}]")));
    assert_eq!(workload(&exists, "Deployment", "web").pods.len(), 1);
}

#[test]
fn the_name_of_another_job_is_no_name_of_a_cronjobs_job() {
    let cron = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: nightly, namespace: x}\nspec: {jobTemplate: {spec: {template: {spec: {containers: [{name: c}]}}}}}\n---\n";
    let job = templated("Job", "batch/v1", "once", "backoffLimit: 1");
    let policy = peer("matchLabels: {job-name: once}");
    assert_eq!(workload(&expected(&format!("{cron}{job}{policy}")), "CronJob", "nightly").pods.len(), 1);
    assert_eq!(workload(&expected(&format!("{cron}{policy}")), "CronJob", "nightly").pods.len(), 2);
}

#[test]
fn indexes_of_a_job_are_distinguished_where_selectors_do() {
    let job = templated("Job", "batch/v1", "ml", "completionMode: Indexed\n  completions: 1000000\n  parallelism: 4");
    let label = "batch.kubernetes.io/job-completion-index";
    assert_eq!(values(&expected(&job), "Job", "ml", label), BTreeSet::from([Some("0")]));
    let policy = peer(&format!("matchExpressions: [{{key: {label}, operator: In, values: ['0', '7', '1000000', '007']}}]"));
    let snapshot = expected(&format!("{job}{policy}"));
    assert_eq!(values(&snapshot, "Job", "ml", label), BTreeSet::from([Some("0"), Some("1"), Some("7")]));
    assert_eq!(workload(&snapshot, "Job", "ml").replicas, Replicas::Several);
}

#[test]
fn ordinals_are_listed_up_to_a_thousand_and_above_that_by_name() {
    let set =
        |replicas: u32| templated("StatefulSet", "apps/v1", "db", &format!("replicas: {replicas}\n  ordinals: {{start: 5}}"));
    let thousand = expected(&set(1000));
    let found = workload(&thousand, "StatefulSet", "db");
    assert_eq!((found.pods.len(), found.extent), (1000, Extent::Whole));
    assert!(
        thousand.pods.contains_key(&ObjectKey::new("x", "db-5")) && !thousand.pods.contains_key(&ObjectKey::new("x", "db-0"))
    );
    assert!(thousand.pods.contains_key(&ObjectKey::new("x", "db-1004")));
    let policy =
        peer("matchExpressions: [{key: statefulset.kubernetes.io/pod-name, operator: In, values: [db-0, db-5, db-4000]}]");
    let many = expected(&format!("{}{policy}", set(5000)));
    let found = workload(&many, "StatefulSet", "db");
    assert_eq!(found.extent, Extent::Named { count: 5000 });
    let names: Vec<&str> = found.pods.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["db-4000", "db-5", "db-6"]);
}

#[test]
fn a_pod_of_a_statefulset_that_is_over_is_made_again_under_its_name() {
    let set = templated("StatefulSet", "apps/v1", "db", "replicas: 1");
    let dead = pod("db-0", "StatefulSet/db", "app: db", FAILED);
    let snapshot = expected(&format!("{set}{dead}"));
    assert_eq!(workload(&snapshot, "StatefulSet", "db").pods.len(), 1);
    assert!(snapshot.pods[&ObjectKey::new("x", "db-0")].is_endpoint());
}

#[test]
fn only_what_never_has_two_pods_is_one() {
    for (kind, api_version, fields, replicas) in [
        ("Deployment", "apps/v1", "replicas: 1", Replicas::Several),
        ("DaemonSet", "apps/v1", "minReadySeconds: 1", Replicas::Several),
        ("StatefulSet", "apps/v1", "replicas: 1", Replicas::Numbered),
        ("Job", "batch/v1", "parallelism: 1", Replicas::One),
        ("Job", "batch/v1", "parallelism: 2", Replicas::Several),
        ("CloneSet", "apps.kruise.io/v1alpha1", "replicas: 1", Replicas::Several),
    ] {
        assert_eq!(
            workload(&expected(&templated(kind, api_version, "w", fields)), kind, "w").replicas,
            replicas,
            "{kind} {fields}"
        );
    }
}

#[test]
fn any_kind_with_a_template_is_a_workload_and_an_agent_counts_none_of_them() {
    let vendor = templated("Widget", "vendor.example/v1", "w", "size: large");
    let snapshot = expected(&vendor);
    assert_eq!(pods(&snapshot, "Widget", "w")[0].labels.get("app").map(String::as_str), Some("w"));
    assert!(snapshot.skipped.is_empty());
    let counted = real(&vendor);
    assert!(counted.pods.is_empty() && counted.skipped.len() == 1);
    // A kind of Kubernetes in a group that has none is an error, and not taken for another kind.
    let misplaced = real(&templated("Deployment", "apps.k8s.io/v1", "w", "replicas: 1"));
    assert!(misplaced.workloads.is_empty() && misplaced.has_errors());
}

#[test]
fn a_maker_is_remembered_until_its_pods_are_there() {
    let maker =
        "apiVersion: postgresql.cnpg.io/v1\nkind: Cluster\nmetadata: {name: pg, namespace: x}\nspec: {instances: 3}\n---\n";
    let alone = expected(maker);
    let named: Vec<String> = alone.unknown_pods().map(|maker| format!("{} {}", maker.title(), maker.name)).collect();
    assert_eq!(named, ["CloudNativePG Cluster pg"]);
    assert!(alone.skipped.is_empty() && alone.workloads.is_empty());
    let live = pod("pg-1", "Cluster/pg", "role: primary", RUNNING);
    let dump = expected(&format!("{maker}{live}"));
    assert_eq!(dump.unknown_pods().count(), 0);
    assert_eq!(dump.makers[0].workloads, [WorkloadKey { kind: "Cluster".to_owned(), name: "pg".to_owned() }]);
    let finished = expected(&format!("{maker}{}", pod("pg-1", "Cluster/pg", "role: primary", FAILED)));
    assert_eq!(finished.unknown_pods().count(), 1);
}

#[test]
fn makers_lead_to_their_workloads_through_others() {
    let service = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: hello, namespace: x}\nspec: {template: {spec: {containers: [{image: i}]}}}\n---\n";
    let of = |kind: &str, name: &str, owner: &str| {
        let (above, above_name) = owner.split_once('/').unwrap();
        format!(
            "apiVersion: serving.knative.dev/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: x, ownerReferences: [{{kind: {above}, name: \
             {above_name}, controller: true}}]}}\n---\n"
        )
    };
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: hello-1-deployment, namespace: x, ownerReferences: [{kind: Revision, name: hello-1, controller: true}]}\nspec: {replicas: 0, selector: {matchLabels: {app: hello-1}}, template: {metadata: {labels: {app: hello-1}}, spec: {containers: [{name: c}]}}}\n---\n";
    let (configuration, revision) =
        (of("Configuration", "hello", "Service/hello"), of("Revision", "hello-1", "Configuration/hello"));
    let snapshot = expected(&format!("{service}{configuration}{revision}{deployment}"));
    assert_eq!(snapshot.unknown_pods().count(), 0);
    let names: BTreeSet<&str> = snapshot.makers.iter().flat_map(|maker| &maker.workloads).map(|key| key.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["hello-1-deployment"]));
    // Or by the label of the pods.
    let live = pod("hello-1-x", "ReplicaSet/hello-1-5", "serving.knative.dev/service: hello", RUNNING);
    assert_eq!(expected(&format!("{service}{live}")).unknown_pods().count(), 0);
}

#[test]
fn nested_templates_make_pods_that_are_not_known() {
    let text = "apiVersion: vendor.example/v1\nkind: Pipeline\nmetadata: {name: p, namespace: x}\nspec: {steps: [{podTemplate: {spec: {containers: [{image: i}]}}}]}\n";
    assert_eq!(expected(text).unknown_pods().count(), 1);
    let policy = text.replace("vendor.example/v1", "kyverno.io/v1");
    let snapshot = expected(&policy);
    assert!(snapshot.makers.is_empty() && snapshot.skipped.len() == 1);
}

#[test]
fn a_rollout_can_take_the_template_of_a_deployment() {
    let rollout = "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: r, namespace: x}\nspec: {workloadRef: {apiVersion: apps/v1, kind: Deployment, name: w}}\n---\n";
    for replicas in [0, 2] {
        let deployment = templated("Deployment", "apps/v1", "w", &format!("replicas: {replicas}"));
        for text in [format!("{rollout}{deployment}"), format!("{deployment}---\n{rollout}")] {
            let snapshot = expected(&text);
            assert_eq!(pods(&snapshot, "Rollout", "r")[0].labels.get("app").map(String::as_str), Some("w"), "{replicas}");
            let labels = &workload(&snapshot, "Rollout", "r").unknown_labels;
            assert!(labels.is_empty(), "no policy asks for them: {labels:?}");
            assert_eq!((snapshot.unknown_pods().count(), snapshot.has_errors()), (0, false), "{:?}", snapshot.diagnostics);
        }
    }
    // Two of one name, one of which has a template, are two objects of one name.
    let own = templated("Rollout", "argoproj.io/v1alpha1", "r", "replicas: 1");
    let mut loader = Loader::new(Syntax::Strict).with_expected_pods();
    loader.read("in.yaml", format!("{own}{rollout}").as_bytes());
    let twice = loader.finish();
    assert!(
        twice.diagnostics.iter().any(|found| found.is_error() && found.rule.name == "duplicate-object"),
        "{:?}",
        twice.diagnostics
    );
    // What it refers to is not there, or is of another group than what is there.
    let deployment = templated("Deployment", "apps/v1", "w", "replicas: 1");
    let of_other_group = rollout.replace("apps/v1", "example.com/v1");
    for (text, workloads) in [(rollout.to_owned(), 0), (format!("{of_other_group}{deployment}"), 1)] {
        let alone = expected(&text);
        assert_eq!((alone.unknown_pods().count(), alone.workloads.len()), (1, workloads), "{text}");
    }
}

#[test]
fn labels_of_the_workload_alone_are_kept() {
    let text = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j, namespace: x, labels: {role: db, app: j}}\nspec: {template: {metadata: {labels: {app: k}}, spec: {containers: [{name: c}]}}}\n";
    let snapshot = expected(text);
    let own: Vec<&str> = workload(&snapshot, "Job", "j").own_labels.keys().map(String::as_str).collect();
    assert_eq!(own, ["role"]);
}
