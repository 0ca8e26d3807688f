//! An object has one meaning: of several of one name in files that differ, each is reported; patches are no objects; files are applied to
//! live clusters.

use policy_core::diagnostic::{Diagnostic, Kind};
use policy_core::manifest::{Loader, Replicas, Snapshot, Syntax};
use policy_core::model::{ObjectKey, WorkloadKey};

fn files(texts: &[&str]) -> Snapshot {
    let mut loader = Loader::new(Syntax::Strict);
    for (number, text) in texts.iter().enumerate() {
        loader.read(&format!("{number}.yaml"), text.as_bytes());
    }
    loader.finish()
}

fn found(snapshot: &Snapshot) -> Vec<&Diagnostic> {
    snapshot.diagnostics.iter().filter(|found| found.kind() != Kind::Assumed).collect()
}

fn object(version: &str, kind: &str, rest: &str) -> String {
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a, namespace: x}}\n{rest}\n")
}

fn deployment(label: &str, replicas: u8) -> String {
    let template = format!("{{metadata: {{labels: {{app: {label}}}}}, spec: {{containers: [{{name: c}}]}}}}");
    object(
        "apps/v1",
        "Deployment",
        &format!("spec: {{replicas: {replicas}, selector: {{matchLabels: {{app: {label}}}}}, template: {template}}}"),
    )
}

fn labels(snapshot: &Snapshot) -> Vec<String> {
    snapshot.pods.values().map(|pod| pod.labels.get("app").cloned().unwrap_or_default()).collect()
}

#[test]
fn a_second_object_of_a_name_is_an_error_unless_equal() {
    let namespace = |label: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: a, labels: {{team: {label}}}}}\n");
    let node = |address: &str| {
        format!("apiVersion: v1\nkind: Node\nmetadata: {{name: a}}\nstatus: {{addresses: [{{address: {address}}}]}}\n")
    };
    let pod = |phase: &str| object("v1", "Pod", &format!("spec: {{nodeName: n1}}\nstatus: {{phase: {phase}, podIP: 10.0.0.1}}"));
    let service = |address: &str| object("v1", "Service", &format!("spec: {{clusterIP: {address}}}"));
    let policy =
        |rules: &str| object("networking.k8s.io/v1", "NetworkPolicy", &format!("spec: {{podSelector: {{}}, ingress: {rules}}}"));
    let job = |label: &str| {
        object(
            "batch/v1",
            "Job",
            &format!("spec: {{template: {{metadata: {{labels: {{app: {label}}}}}, spec: {{containers: [{{name: c}}]}}}}}}"),
        )
    };
    for (first, second, rule) in [
        (namespace("b"), namespace("c"), "duplicate-object"),
        (node("10.0.0.1"), node("10.0.0.2"), "duplicate-object"),
        (pod("Running"), pod("Failed"), "duplicate-object"),
        (service("10.0.0.1"), service("10.0.0.2"), "duplicate-object"),
        (deployment("b", 1), deployment("c", 1), "duplicate-object"),
        (deployment("b", 1), deployment("b", 2), "duplicate-object"),
        (job("b"), job("c"), "duplicate-object"),
        (policy("[]"), policy("[{}]"), "duplicate-policy"),
    ] {
        for (a, b) in [(&first, &second), (&second, &first)] {
            let snapshot = files(&[a, b]);
            let [found] = found(&snapshot)[..] else { panic!("{a}: {:?}", snapshot.diagnostics) };
            assert!(found.is_error() && found.rule.name == rule, "{a}: {found:?}");
            let other = found.related[0].place.as_ref().unwrap();
            assert_eq!((found.file(), found.position().unwrap().line), ("1.yaml", 3), "{a}");
            assert_eq!((other.file.as_str(), other.position.as_ref().unwrap().line), ("0.yaml", 3), "{a}");
        }
        let twice = files(&[&first, &format!("# the same\n{first}")]);
        let found = found(&twice);
        assert!(found.len() == 1 && !found[0].is_error() && found[0].rule.name == rule, "{first}: {found:?}");
    }
    let other = |namespace: &str| deployment("b", 1).replace("namespace: x", &format!("namespace: {namespace}"));
    let custom = object("vendor.example/v1", "Service", "spec: {}");
    assert_eq!(
        found(&files(&[&other("x"), &other("z"), &pod("Running"), &service("10.0.0.1"), &custom])),
        [] as [&Diagnostic; 0]
    );
}

#[test]
fn the_last_of_several_counts_whole() {
    let set = |replicas: u8| deployment("b", replicas).replace("Deployment", "StatefulSet");
    let snapshot = files(&[&set(3), &set(1)]);
    assert_eq!(snapshot.pods.keys().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["a-0"]);
}

#[test]
fn patches_are_errors_and_never_replace_anything() {
    let base = deployment("b", 1);
    for (patch, rule) in [
        (object("apps/v1", "Deployment", "spec: {replicas: 3}"), "missing-selector"),
        (object("apps/v1", "Deployment", "spec: {replicas: 3, selector: {matchLabels: {app: b}}}"), "missing-containers"),
        (
            object(
                "apps/v1",
                "Deployment",
                "spec: {selector: {matchLabels: {app: b}}, template: {metadata: {labels: {app: c}}}}",
            ),
            "missing-containers",
        ),
        (object("apps/v1", "Deployment", "spec: {template: {metadata: {labels: {app: c}}}}"), "missing-selector"),
        (object("apps/v1", "Deployment", "spec: {selector: {}, template: {spec: {hostNetwork: true}}}"), "missing-selector"),
        (object("apps/v1", "Deployment", "$patch: delete"), "patch-as-object"),
        (
            object("apps/v1", "Deployment", "spec: {selector: {matchLabels: {app: c}}, template: {spec: {$retainKeys: [a]}}}"),
            "patch-as-object",
        ),
        (
            object(
                "apps/v1",
                "Deployment",
                "spec: {template: {spec: {$setElementOrder/containers: [{name: a}], containers: [{name: a}]}}}",
            ),
            "patch-as-object",
        ),
        (
            object("apps/v1", "Deployment", "spec: {template: {spec: {containers: [{name: a, $patch: delete}]}}}"),
            "patch-as-object",
        ),
    ] {
        for texts in [[&base, &patch], [&patch, &base]] {
            let snapshot = files(&texts.map(String::as_str));
            let found = found(&snapshot);
            assert!(found.len() == 1 && found[0].is_error() && found[0].rule.name == rule, "{patch}: {found:?}");
            assert!(found[0].help.as_deref().unwrap().contains("kustomize"), "{patch}: {found:?}");
            assert_eq!((labels(&snapshot), snapshot.workloads.len()), (vec!["b".to_owned()], 1), "{patch}");
        }
    }
    let policy = object("networking.k8s.io/v1", "NetworkPolicy", "$patch: delete");
    let snapshot = files(&[&policy]);
    assert_eq!(found(&snapshot).iter().map(|found| found.rule.name).collect::<Vec<_>>(), ["patch-as-object"]);
    assert!(snapshot.policies.is_empty() && snapshot.unread[0].may_be_policy());
    // API servers set the selectors of these.
    for (version, kind) in [("v1", "ReplicationController"), ("batch/v1", "Job")] {
        let template = "spec: {template: {metadata: {labels: {app: b}}, spec: {containers: [{name: c}]}}}";
        assert_eq!(found(&files(&[&object(version, kind, template)])), [] as [&Diagnostic; 0], "{kind}");
    }
    // It decides nothing.
    assert_eq!(found(&files(&[&object("v1", "ConfigMap", "$patch: delete")])), [] as [&Diagnostic; 0]);
}

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n";

/// A cluster with a Deployment of two pods, a pod, a policy and a Service.
fn cluster() -> String {
    let owned = |kind: &str, owner: &str| format!("ownerReferences: [{{kind: {kind}, name: {owner}, controller: true}}]");
    let pod = |name: &str, owner: &str, address: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: x, labels: {{app: old}}, {owner}}}\nspec: {{nodeName: n1}}\nstatus: {{phase: Running, podIP: {address}}}\n"
        )
    };
    let set = object(
        "apps/v1",
        "ReplicaSet",
        "spec: {replicas: 2, selector: {matchLabels: {app: old}}, template: {metadata: {labels: {app: old}}}}",
    )
    .replace("name: a,", &format!("name: a-5d4, {},", owned("Deployment", "a")));
    let by_set = owned("ReplicaSet", "a-5d4");
    [
        NAMESPACE.to_owned(),
        deployment("old", 2),
        set,
        pod("a-5d4-1", &by_set, "10.0.0.1"),
        pod("a-5d4-2", &by_set, "10.0.0.2"),
        pod("other", "uid: u", "10.0.0.3"),
        object("networking.k8s.io/v1", "NetworkPolicy", "spec: {podSelector: {}}"),
        object("v1", "Service", "spec: {clusterIP: 10.1.0.1}"),
    ]
    .join("---\n")
}

/// The snapshot of a cluster with files applied to it, which the order of reading does not change.
fn applied(file: &str) -> Snapshot {
    let read = |is_live_first: bool| {
        let mut loader = Loader::new(Syntax::Strict);
        let live = cluster();
        if is_live_first {
            loader.read_live(Syntax::Legacy, "live", live.as_bytes());
        }
        loader.read("new.yaml", file.as_bytes());
        if !is_live_first {
            loader.read_live(Syntax::Legacy, "live", live.as_bytes());
        }
        loader.finish()
    };
    let (one, other) = (read(true), read(false));
    assert_eq!((&one.pods, &one.policies, &one.workloads), (&other.pods, &other.policies, &other.workloads), "{file}");
    assert_eq!((&one.replaced, &one.services), (&other.replaced, &other.services), "{file}");
    assert_eq!(found(&one), [] as [&Diagnostic; 0], "{file}");
    one
}

fn replaced(snapshot: &Snapshot) -> Vec<String> {
    snapshot.replaced.iter().map(ToString::to_string).collect()
}

#[test]
fn files_replace_what_a_cluster_has() {
    let names = |snapshot: &Snapshot| snapshot.pods.keys().map(|key| key.name.clone()).collect::<Vec<_>>();
    let alone = applied("");
    assert_eq!((names(&alone), replaced(&alone).len()), (vec!["a-5d4-1".into(), "a-5d4-2".into(), "other".into()], 0));

    let policy = applied(&object("networking.k8s.io/v1", "NetworkPolicy", "spec: {podSelector: {}, ingress: [{}]}"));
    assert_eq!(policy.policies[&ObjectKey::new("x", "a")].ingress.as_ref().unwrap().len(), 1);
    assert_eq!(replaced(&policy), ["NetworkPolicy x/a"]);

    // The API server keeps the address of a Service that is applied without one.
    let addresses = ["10.1.0.1".parse::<std::net::IpAddr>().unwrap()];
    for (spec, names) in [("spec: {selector: {app: new}}", &["Service x/a"][..]), ("spec: {}", &[])] {
        let service = applied(&object("v1", "Service", spec));
        assert_eq!(replaced(&service), names, "{spec}");
        assert_eq!(service.services[&ObjectKey::new("x", "a")].cluster_ips, addresses, "{spec}");
    }

    let namespace = applied("apiVersion: v1\nkind: Namespace\nmetadata: {name: x, labels: {team: b}}\n");
    assert_eq!(replaced(&namespace), ["Namespace x"]);
    assert_eq!(namespace.namespaces["x"].labels.get("team").map(String::as_str), Some("b"));
}

#[test]
fn a_changed_workload_is_judged_by_its_new_template() {
    let key = ("x".to_owned(), WorkloadKey { kind: "Deployment".to_owned(), name: "a".to_owned() });
    let changed = applied(&deployment("new", 2));
    assert_eq!(replaced(&changed), ["Deployment x/a"]);
    assert_eq!(labels(&changed), ["new", "old"], "the pod of its own stays");
    assert_eq!(changed.workloads[&key].replicas, Replicas::Several);
    // Pods that run are known better than those of a template that says the same.
    // How many there are is filled in by the API server, and changed by autoscalers.
    for same in [
        applied(&deployment("old", 2)),
        applied(&deployment("old", 5)),
        applied(&deployment("old", 2).replace("replicas: 2, ", "")),
    ] {
        assert_eq!((replaced(&same).len(), same.pods.len()), (0, 3));
        assert_eq!(same.workloads[&key].pods.len(), 2);
    }
    // A new workload replaces nothing.
    let new = applied(&deployment("new", 1).replace("name: a,", "name: b,"));
    assert_eq!((replaced(&new).len(), new.pods.len()), (0, 4));
}

#[test]
fn rollouts_of_files_and_of_a_live_cluster_are_one() {
    let metadata = "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: r, namespace: x}\n";
    let borrowing = format!("{metadata}spec: {{workloadRef: {{apiVersion: apps/v1, kind: Deployment, name: a}}}}\n");
    let own =
        format!("{metadata}spec: {{template: {{metadata: {{labels: {{app: own}}}}, spec: {{containers: [{{name: c}}]}}}}}}\n");
    let changed = deployment("changed", 1);
    let owner = "{apiVersion: argoproj.io/v1alpha1, kind: Rollout, name: r, controller: true}";
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: r-6b, namespace: x, labels: {{app: old}}, ownerReferences: [{owner}]}}\nspec: {{nodeName: n1}}\nstatus: {{podIP: 10.0.0.9, phase: Running}}\n"
    );
    for (live, file, expected) in [
        (&borrowing, &own, "own"),
        (&own, &borrowing, "a"),
        // The template of the Deployment that lends it.
        (&borrowing, &changed, "changed"),
    ] {
        let mut loader = Loader::new(Syntax::Strict).with_expected_pods();
        loader.read_live(Syntax::Legacy, "live", format!("{live}---\n{}---\n{}", deployment("a", 1), pod).as_bytes());
        loader.read("file.yaml", file.as_bytes());
        let snapshot = loader.finish();
        let key = WorkloadKey { kind: "Rollout".to_owned(), name: "r".to_owned() };
        let pods = &snapshot.workloads[&("x".to_owned(), key)].pods;
        let labels: Vec<&str> = pods.iter().map(|pod| &*snapshot.pods[pod].labels["app"]).collect();
        assert!(!labels.is_empty() && labels.iter().all(|app| *app == expected), "{expected}: {labels:?}");
        assert!(!snapshot.has_errors(), "{:?}", snapshot.diagnostics);
    }
}

#[test]
fn files_that_disagree_stay_an_error_beside_a_cluster() {
    let mut loader = Loader::new(Syntax::Strict);
    loader.read_live(Syntax::Legacy, "live", cluster().as_bytes());
    loader.read("1.yaml", deployment("b", 1).as_bytes());
    loader.read("2.yaml", deployment("c", 1).as_bytes());
    let snapshot = loader.finish();
    let [found] = found(&snapshot)[..] else { panic!("{:?}", snapshot.diagnostics) };
    assert!(found.is_error() && found.rule.name == "duplicate-object", "{found:?}");
    assert_eq!(found.related[0].place.as_ref().unwrap().file, "1.yaml");
}

#[test]
fn objects_of_which_little_is_read_are_objects_too() {
    let deny = |spec: &str| object("cilium.io/v2", "CiliumNetworkPolicy", spec);
    let kafka = |spec: &str| object("kafka.strimzi.io/v1beta2", "Kafka", spec);
    for (first, same, other) in [
        (deny("spec: {a: [b], c: d}"), deny("spec: {c: d, a: [b]}\nstatus: {a: b}"), deny("spec: {a: [c]}")),
        (kafka("spec: {replicas: 3}"), kafka("status: {a: b}\nspec: {replicas: 3}"), kafka("spec: {replicas: 4}")),
    ] {
        let read = |texts: &[&str]| {
            let mut loader = Loader::new(Syntax::Strict).with_expected_pods();
            for (number, text) in texts.iter().enumerate() {
                loader.read(&format!("{number}.yaml"), text.as_bytes());
            }
            loader.finish()
        };
        let lines = |snapshot: &Snapshot| -> Vec<String> {
            let makers = snapshot.makers.iter().map(|maker| maker.origin.file.clone());
            snapshot.foreign.iter().map(|foreign| foreign.origin.file.clone()).chain(makers).collect()
        };
        let twice = read(&[&first, &same]);
        let shown: Vec<_> = found(&twice).iter().map(|found| (found.is_error(), found.rule.name)).collect();
        assert_eq!((shown, lines(&twice)), (vec![(false, "duplicate-object")], vec!["0.yaml".to_owned()]), "{first}");
        let both = read(&[&first, &other]);
        let shown: Vec<_> = found(&both).iter().map(|found| (found.is_error(), found.rule.name)).collect();
        assert_eq!((shown, lines(&both)), (vec![(true, "duplicate-object")], vec!["1.yaml".to_owned()]), "{first}");
        let elsewhere = first.replace("namespace: x", "namespace: y");
        let named = object("networking.k8s.io/v1", "NetworkPolicy", "spec: {podSelector: {}}");
        let many = read(&[&first, &elsewhere, &named, &first.replace("name: a,", "generateName: a-,")]);
        assert_eq!((found(&many), lines(&many).len()), (vec![], 3), "{first}");
    }
    // A file is applied to the cluster.
    for (file, names) in [(deny("spec: {a: c}"), &["CiliumNetworkPolicy.cilium.io x/a"][..]), (deny("spec: {a: b}"), &[])] {
        for is_live_first in [true, false] {
            let mut loader = Loader::new(Syntax::Strict);
            let live = |loader: &mut Loader| loader.read_live(Syntax::Legacy, "live", deny("spec: {a: b}").as_bytes());
            if is_live_first {
                live(&mut loader);
            }
            loader.read("new.yaml", file.as_bytes());
            if !is_live_first {
                live(&mut loader);
            }
            let snapshot = loader.finish();
            assert_eq!(
                (replaced(&snapshot).as_slice(), snapshot.foreign.len()),
                (&names.iter().map(ToString::to_string).collect::<Vec<_>>()[..], 1)
            );
        }
    }
    let twice = files(&[&deny("spec: {a: b}\nspec: {a: c}")]);
    assert_eq!(found(&twice).iter().map(|found| found.rule.name).collect::<Vec<_>>(), ["duplicate-key"]);
}

/// An autoscaler of the StatefulSet `x/a`, and the StatefulSet with one replica.
fn autoscaler(version: &str, kind: &str, most: &str) -> String {
    object(version, kind, &format!("spec: {{scaleTargetRef: {{kind: StatefulSet, name: a}}, {most}}}"))
}

fn stateful_set() -> String {
    deployment("a", 1).replace("kind: Deployment", "kind: StatefulSet")
}

/// The numbers of pods that are asked for and that are there, when policies ask for the ordinals 0 to 9.
fn ordinals(loader: Loader) -> (Snapshot, usize) {
    let mut loader = loader;
    let numbers: Vec<String> = (0..10).map(|number| format!("'{number}'")).collect();
    let asked = format!(
        "spec: {{podSelector: {{matchExpressions: [{{key: apps.kubernetes.io/pod-index, operator: In, values: [{}]}}]}}}}",
        numbers.join(", ")
    );
    loader.read("asked.yaml", object("networking.k8s.io/v1", "NetworkPolicy", &asked).as_bytes());
    let snapshot = loader.finish();
    let pods = snapshot.pods.len();
    (snapshot, pods)
}

#[test]
fn faults_and_contradictions_of_autoscalers_are_errors() {
    let (hpa, keda) = (("autoscaling/v2", "HorizontalPodAutoscaler"), ("keda.sh/v1alpha1", "ScaledObject"));
    for ((version, kind), most, rule, unknown) in [
        (hpa, "maxReplicas: x", Some("wrong-type"), 1),
        (keda, "maxReplicaCount: x", Some("wrong-type"), 1),
        (keda, "", None, 0),
        // Their numbers are not known.
        (hpa, "", None, 1),
        (("example.com/v1", "Scaler"), "", None, 1),
        (("example.com/v1", "Scaler"), "maxReplicas: 3", None, 0),
        (("datadoghq.com/v1alpha2", "DatadogPodAutoscaler"), "constraints: {maxReplicas: 3}", None, 0),
        (("datadoghq.com/v1alpha2", "DatadogPodAutoscaler"), "", None, 1),
        (("autoscaling.gke.io/v1beta1", "MultidimPodAutoscaler"), "constraints: {global: {maxReplicas: 3}}", None, 1),
        // It changes what pods ask for, and not how many there are.
        (("autoscaling.k8s.io/v1", "VerticalPodAutoscaler"), "", None, 0),
    ] {
        let mut loader = Loader::new(Syntax::Strict).with_expected_pods();
        let mut text = autoscaler(version, kind, most);
        if ["DatadogPodAutoscaler", "VerticalPodAutoscaler"].contains(&kind) {
            text = text.replace("scaleTargetRef", "targetRef");
        }
        loader.read("a.yaml", format!("{}---\n{text}", stateful_set()).as_bytes());
        let snapshot = loader.finish();
        assert_eq!(found(&snapshot).first().map(|found| found.rule.name), rule, "{kind} {most}");
        assert_eq!(snapshot.unknown_pods().count(), unknown, "{kind} {most}");
    }
    let scaler = |most: u8| autoscaler(hpa.0, hpa.1, &format!("maxReplicas: {most}"));
    let of_deployment = |most: u8| scaler(most).replace("kind: StatefulSet", "kind: Deployment");
    for (first, second) in [(scaler(2), scaler(3)), (scaler(2), of_deployment(2))] {
        let mut loader = Loader::new(Syntax::Strict).with_expected_pods();
        loader.read("a.yaml", format!("{first}---\n{second}").as_bytes());
        let snapshot = loader.finish();
        let [found] = found(&snapshot)[..] else { panic!("{:?}", snapshot.diagnostics) };
        assert!(found.is_error() && found.rule.name == "duplicate-object", "{found:?}");
    }
    // How many pods a Deployment has decides nothing.
    for text in [
        format!("{}---\n{}", of_deployment(2), of_deployment(3)),
        of_deployment(2).replace("maxReplicas: 2", "maxReplicas: \"${MAX}\""),
    ] {
        let mut loader = Loader::new(Syntax::Strict).with_expected_pods();
        loader.read("a.yaml", text.as_bytes());
        let snapshot = loader.finish();
        assert!(!snapshot.has_errors() && snapshot.unknown_pods().count() == 0, "{text}: {:?}", snapshot.diagnostics);
    }
}

#[test]
fn autoscalers_of_files_are_applied_to_a_live_cluster() {
    let scaler = |most: &str| autoscaler("autoscaling/v2", "HorizontalPodAutoscaler", most);
    let live = format!("{}---\n{}", stateful_set(), scaler("maxReplicas: 4"));
    for (file, replaced, expected) in [
        (None, 0, 4),
        (Some(scaler("maxReplicas: 4, minReplicas: 2, metrics: []")), 0, 4),
        (Some(scaler("maxReplicas: 3")), 1, 3),
        (Some(scaler("maxReplicas: 6")), 1, 6),
    ] {
        for is_live_first in [true, false] {
            let mut loader = Loader::new(Syntax::Strict).with_expected_pods();
            if is_live_first {
                loader.read_live(Syntax::Legacy, "live", live.as_bytes());
            }
            if let Some(file) = &file {
                loader.read("new.yaml", file.as_bytes());
            }
            if !is_live_first {
                loader.read_live(Syntax::Legacy, "live", live.as_bytes());
            }
            let (snapshot, pods) = ordinals(loader);
            assert_eq!(
                (snapshot.replaced.len(), pods),
                (replaced, expected),
                "{file:?} {is_live_first} {:?}",
                snapshot.pods.keys()
            );
        }
    }
}
