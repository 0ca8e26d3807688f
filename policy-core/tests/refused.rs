//! Pods and workloads that an API server refuses: no containers, and selectors that do not select the pods of their template.

use policy_core::diagnostic::Kind;
use policy_core::manifest::{Loader, Syntax};

/// The rules and paths of what is found; all of it is errors.
fn found(text: &str) -> Vec<(&'static str, String)> {
    let mut loader = Loader::new(Syntax::Strict);
    loader.read("a.yaml", text.as_bytes());
    let snapshot = loader.finish();
    let found = snapshot.diagnostics.iter().filter(|found| found.kind() != Kind::Assumed);
    found
        .inspect(|found| assert!(found.is_error(), "{text}: {found:?}"))
        .map(|found| (found.rule.name, found.path.clone()))
        .collect()
}

fn object(version: &str, kind: &str, spec: &str) -> String {
    format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: a, namespace: x}}, spec: {spec}}}")
}

const KINDS: [(&str, &str); 4] =
    [("apps/v1", "Deployment"), ("apps/v1", "ReplicaSet"), ("apps/v1", "StatefulSet"), ("apps/v1", "DaemonSet")];

#[test]
fn pods_and_templates_have_containers() {
    let template = |selector: &str, template: &str| format!("{{selector: {selector}, template: {template}}}");
    let labels = "metadata: {labels: {a: b}}";
    let selector = "{matchLabels: {a: b}}";
    let mut cases = Vec::new();
    for spec in ["{}", "", "{nodeName: n1}", "{containers: []}", "{containers: }", "{initContainers: [{name: c}]}"] {
        cases.push((object("v1", "Pod", spec), "spec.containers"));
        for (version, kind) in KINDS {
            cases.push((
                object(version, kind, &template(selector, &format!("{{{labels}, spec: {spec}}}"))),
                "spec.template.spec.containers",
            ));
        }
        let own = format!("{{template: {{{labels}, spec: {spec}}}}}");
        cases.push((object("v1", "ReplicationController", &own), "spec.template.spec.containers"));
        cases.push((object("batch/v1", "Job", &own), "spec.template.spec.containers"));
        let nested = format!("{{schedule: '* * * * *', jobTemplate: {{spec: {own}}}}}");
        cases.push((object("batch/v1", "CronJob", &nested), "spec.jobTemplate.spec.template.spec.containers"));
    }
    for (version, kind) in KINDS {
        cases.push((object(version, kind, "{selector: {matchLabels: {a: b}}}"), "spec.template.spec.containers"));
    }
    cases.push((object("v1", "ReplicationController", "{selector: {a: b}}"), "spec.template.spec.containers"));
    cases.push((object("batch/v1", "Job", "{}"), "spec.template.spec.containers"));
    cases.push((object("batch/v1", "CronJob", "{suspend: true}"), "spec.jobTemplate.spec.template.spec.containers"));
    cases.push(("{apiVersion: v1, kind: Pod, metadata: {name: a}}".to_owned(), "spec.containers"));
    for (text, path) in cases {
        assert_eq!(found(&text), [("missing-containers", path.to_owned())], "{text}");
    }
    // What an API server reports, with the fields that somebody kept.
    for status in ["{phase: Running}", "{podIP: 10.0.0.1}", "{podIPs: [{ip: 10.0.0.1}]}"] {
        let pod = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a, namespace: x}}, spec: {{nodeName: n1}}, status: {status}}}"
        );
        assert_eq!(found(&pod), [], "{pod}");
    }
    // A value of another type is one finding.
    for (text, path) in [
        (object("v1", "Pod", "[a]"), "spec"),
        (object("v1", "Pod", "{containers: a}"), "spec.containers"),
        (object("batch/v1", "Job", "{template: [a]}"), "spec.template"),
    ] {
        assert_eq!(found(&text), [("wrong-type", path.to_owned())], "{text}");
    }
    // Other kinds have other templates.
    for text in [object("argoproj.io/v1alpha1", "Rollout", "{workloadRef: {name: a}}"), object("v1", "ConfigMap", "{}")] {
        assert_eq!(found(&text), [], "{text}");
    }
}

#[test]
fn selectors_select_the_pods_of_the_template() {
    let spec = |selector: &str, labels: &str| {
        format!("{{selector: {selector}, template: {{metadata: {{labels: {labels}}}, spec: {{containers: [{{name: c}}]}}}}}}")
    };
    let unselected = ("unselected-template", "spec.template.metadata.labels".to_owned());
    let missing = ("missing-selector", "spec.selector".to_owned());
    for (selector, labels, expected) in [
        ("{matchLabels: {a: b}}", "{a: b, c: d}", None),
        ("{matchLabels: {a: b}}", "{a: c}", Some(&unselected)),
        ("{matchLabels: {a: b}}", "{}", Some(&unselected)),
        ("{matchLabels: {a: b, c: d}}", "{a: b}", Some(&unselected)),
        ("{matchExpressions: [{key: a, operator: In, values: [b, c]}]}", "{a: c}", None),
        ("{matchExpressions: [{key: a, operator: NotIn, values: [b, c]}]}", "{a: c}", Some(&unselected)),
        ("{matchExpressions: [{key: a, operator: Exists}]}", "{a: c}", None),
        ("{matchExpressions: [{key: a, operator: DoesNotExist}]}", "{a: c}", Some(&unselected)),
        ("{matchLabels: {}}", "{a: c}", Some(&missing)),
    ] {
        for (version, kind) in KINDS {
            let text = object(version, kind, &spec(selector, labels));
            assert_eq!(found(&text).first(), expected, "{text}");
            assert_eq!(found(&text).len(), usize::from(expected.is_some()), "{text}");
        }
    }
    for (version, kind, selector, labels, expected) in [
        // The server generates the selector of a Job, and a dump has what it generated.
        ("batch/v1", "Job", "{}", "{a: b}", None),
        ("batch/v1", "Job", "{matchLabels: {controller-uid: u}}", "{a: b, controller-uid: u}", None),
        ("batch/v1", "Job", "{matchLabels: {controller-uid: u}}", "{a: b, controller-uid: v}", Some(&unselected)),
        // A ReplicationController has a mapping of labels, and gets the labels of the template without one.
        ("v1", "ReplicationController", "{a: b}", "{a: b, c: d}", None),
        ("v1", "ReplicationController", "", "{a: b}", None),
        ("v1", "ReplicationController", "{}", "{a: b}", None),
        ("v1", "ReplicationController", "{a: c}", "{a: b}", Some(&unselected)),
        ("v1", "ReplicationController", "", "{}", Some(&missing)),
    ] {
        let text = object(version, kind, &spec(selector, labels));
        assert_eq!(found(&text).first(), expected, "{text}");
    }
    for (selector, rule, path) in [
        ("{a: b}", "unknown-field", "spec.selector.a"),
        ("[a]", "wrong-type", "spec.selector"),
        ("{matchLabels: {a: 1}}", "wrong-type", "spec.selector.matchLabels.a"),
        (
            "{matchExpressions: [{key: a, operator: in, values: [b]}]}",
            "unknown-operator",
            "spec.selector.matchExpressions[0].operator",
        ),
        ("{matchLabels: {a: b c}}", "invalid-label", "spec.selector.matchLabels"),
    ] {
        let text = object("apps/v1", "Deployment", &spec(selector, "{a: b}"));
        assert_eq!(found(&text), [(rule, path.to_owned())], "{text}");
    }
    let text = object("apps/v1", "Deployment", &spec("{matchLabels: {a: b}}", "{a: c}"));
    let mut loader = Loader::new(Syntax::Strict);
    loader.read("a.yaml", text.as_bytes());
    let message = &loader.finish().diagnostics[0].message;
    assert_eq!(message, "found `a=c`, which the selector `a=b` does not select");
}
