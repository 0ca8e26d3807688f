//! Documents are read as kubectl reads them, and refused as an API server refuses them.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a failing check panics")]

use policy_core::diagnostic::{Diagnostic, Kind};
use policy_core::manifest::{Loader, Snapshot, Syntax};

fn read(bytes: &[u8]) -> Snapshot {
    let mut loader = Loader::new(Syntax::Strict);
    loader.read("a.yaml", bytes);
    loader.finish()
}

/// What is found, but for namespaces that are assumed.
fn found(snapshot: &Snapshot) -> Vec<&Diagnostic> {
    snapshot.diagnostics.iter().filter(|found| found.kind() != Kind::Assumed).collect()
}

/// The rules, lines and columns of what is found.
fn places(text: &str) -> Vec<(&'static str, u32, u32)> {
    let snapshot = read(text.as_bytes());
    let place = |found: &&Diagnostic| (found.rule.name, found.position().unwrap().line, found.position().unwrap().column);
    found(&snapshot).iter().map(place).collect()
}

fn pods(snapshot: &Snapshot) -> Vec<String> {
    snapshot.pods.keys().map(ToString::to_string).collect()
}

const POD: &str = "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\",\"namespace\":\"x\"},\"spec\":{\"containers\":[{\"name\":\"c\"}]}}";
const POLICY: &str =
    "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: x}, spec: {podSelector: {}}}\n";

#[test]
fn utf16_with_a_byte_order_mark_is_read() {
    let text = format!("\u{feff}# é\n{POD}\n---\n{POD}x\n").replace("\"a\"", "\"é\"");
    let utf16: Vec<u16> = text.encode_utf16().collect();
    let expected = read(text.as_bytes());
    for bytes in [
        utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect::<Vec<u8>>(),
        utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
    ] {
        let snapshot = read(&bytes);
        assert_eq!(pods(&snapshot), ["x/é"]);
        let position = |snapshot: &Snapshot| found(snapshot).last().unwrap().position().unwrap().line;
        assert_eq!((position(&snapshot), position(&expected)), (4, 4), "{:?}", snapshot.diagnostics);
    }
    // kubectl reads text without a mark as UTF-8.
    for bytes in [&utf16[1..], &utf16[2..]].map(|units| units.iter().flat_map(|unit| unit.to_le_bytes()).collect::<Vec<u8>>()) {
        let snapshot = read(&bytes);
        assert_eq!(found(&snapshot).iter().map(|found| found.rule.name).collect::<Vec<_>>(), ["invalid-encoding"]);
        assert_eq!((snapshot.pods.len(), snapshot.unread[0].kind.as_deref()), (0, Some("Pod")));
    }
    let nul = read(format!("{POD}\n---\n{}\0", POD.replace("\"a\"", "\"b\"")).as_bytes());
    assert_eq!((found(&nul)[0].rule.name, nul.unread.len(), nul.pods.len()), ("invalid-encoding", 1, 0));
    let broken = read(b"\xff\xfek");
    assert_eq!((found(&broken)[0].rule.name, broken.unread.len()), ("invalid-encoding", 1));
}

#[test]
fn objects_are_found_wherever_they_follow_each_other() {
    let other = POD.replace("\"a\"", "\"b\"");
    let list = "{\"apiVersion\":\"v1\",\"kind\":\"PodList\",\"items\":[{\"metadata\":{\"name\":\"b\",\"namespace\":\"x\"},\"spec\":{\"containers\":[{\"name\":\"c\"}]}}]}";
    let pretty = POD.replace(',', ",\n  ").replace('{', "{\n");
    for text in [
        format!("{POD}{other}"),
        format!("{POD}\n{other}\n"),
        format!("{POD}  \t{other}"),
        format!("{pretty}{pretty}").replacen("\"a\"", "\"b\"", 1),
        format!("{POD}{list}"),
        format!("{POD}[{other}]"),
        format!("[{POD},{other}]"),
        format!("- {POD}\n- {other}\n"),
        format!("[[{POD}],{list}]"),
        format!("---\n[{POD}]\n---\n\u{feff}[{other}]\n"),
        format!("{{apiVersion: template.openshift.io/v1, kind: Template, objects: [{POD}, {other}]}}"),
        format!("{{apiVersion: v1, kind: Template, objects: [{POD}, {list}]}}"),
        format!(
            "{{apiVersion: template.openshift.io/v1, kind: TemplateList, items: [{{objects: [{POD}]}}, {{objects: [{other}]}}]}}"
        ),
    ] {
        let snapshot = read(text.as_bytes());
        assert_eq!(pods(&snapshot), ["x/a", "x/b"], "{text}: {:?}", snapshot.diagnostics);
        assert_eq!(found(&snapshot), [] as [&Diagnostic; 0], "{text}");
    }
}

#[test]
fn lists_of_something_else_are_no_objects() {
    for text in ["[1, 2]", "- op: replace\n  path: /spec\n", "- {name: a, value: b}\n", "[]", "[[], [x]]"] {
        let snapshot = read(text.as_bytes());
        assert_eq!((snapshot.objects, snapshot.skipped.values().sum::<usize>(), snapshot.has_errors()), (0, 1, false), "{text}");
    }
    for text in [format!("[[[[[[{POD}]]]]]]"), "&a [*a]".to_owned()] {
        let snapshot = read(text.as_bytes());
        assert_eq!(found(&snapshot).iter().map(|found| found.rule.name).collect::<Vec<_>>(), ["invalid-list"], "{text}");
        assert!(snapshot.unread.iter().any(|unread| unread.may_be_policy()), "{text}");
    }
    for text in ["apiVersion: 1\nkind: Pod\nmetadata: {name: a}\n", "apiVersion: v1\nkind: yes\nmetadata: {name: a}\n"] {
        let snapshot = read(text.as_bytes());
        assert!(found(&snapshot)[0].message.ends_with("is not a string"), "{text}: {:?}", snapshot.diagnostics);
    }
    // An item of a list from an API server, whose kind the list stated.
    assert_eq!(places("[{metadata: {name: p}, spec: {podSelector: {}}}]"), [("missing-api-version-or-kind", 1, 2)]);
}

#[test]
fn tabs_in_brackets_are_white_space_and_in_indentation_errors() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: x,\n\tlabels: {app: [\n";
    let flow = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  namespace: x\n  labels: {\n\tapp: web,\n \t tier: \"front\n\tend\"}\nspec: {containers: [{name: c}]}\n";
    let snapshot = read(flow.replace("front\n\tend", "front").as_bytes());
    assert_eq!(found(&snapshot), [] as [&Diagnostic; 0]);
    let labels = &snapshot.pods.values().next().unwrap().labels;
    assert_eq!(labels.values().map(String::as_str).collect::<Vec<_>>(), ["web", "front"]);
    for (text, line, column) in [
        (pod, 5, 1),
        ("apiVersion: v1\nkind: Pod\n\tmetadata: {name: a}\n", 3, 1),
        ("kind: NetworkPolicy\n\tbad: [", 2, 1),
        ("kind: Pod\nmetadata:\n  name: a\n \tnamespace: x\n", 4, 2),
    ] {
        let places = places(text);
        assert_eq!(places.len(), 1, "{text}");
        assert!(
            places[0].0 == "invalid-syntax" && (text == pod || (places[0].1, places[0].2) == (line, column)),
            "{text}: {places:?}"
        );
    }
    let both = format!("{flow}---\nkind: Pod\na: [\n\tb]\n---\nc:\n\td: 1\n---\n{POLICY}");
    assert_eq!(places(&both).iter().filter(|place| place.0 == "invalid-syntax").count(), 1, "{:?}", places(&both));
    assert_eq!(read(both.as_bytes()).policies.len(), 1);
}

#[test]
fn parameters_and_placeholders_are_named() {
    let template = |object: &str| format!("{{apiVersion: template.openshift.io/v1, kind: Template, objects: [{object}]}}");
    let policy = |from: &str, to: &str| POLICY.trim_end().replace(from, to);
    for (text, placeholder, help) in [
        (template(&policy("name: p", "name: '${NAME}'")), "${NAME}", "oc process"),
        (template(&policy("namespace: x", "namespace: 'a-${NS}'")), "${NS}", "oc process"),
        (template(&policy("podSelector: {}", "podSelector: {matchLabels: {app: '${APP}'}}")), "${APP}", "oc process"),
        (template(&policy("{}}", "{}, ingress: [{ports: [{port: '${{PORT}}'}]}]}")), "${{PORT}}", "oc process"),
        (template(&POD.replace("\"containers\"", "\"nodeName\":\"${NODE}\",\"containers\"")), "${NODE}", "oc process"),
        (policy("namespace: x", "namespace: $NS"), "$NS", "envsubst"),
        (template(&policy("kind: NetworkPolicy", "kind: '${KIND}'")), "${KIND}", "oc process"),
        (policy("v1,", "$VERSION,"), "$VERSION", "envsubst"),
        (policy("podSelector: {}", "podSelector: {matchLabels: {app: $(APP)}}"), "$(APP)", "envsubst"),
        (POD.replace("\"name\"", "\"labels\":{\"app\":\"${APP}\"},\"name\""), "${APP}", "envsubst"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: [{name: c}]\n  hostNetwork: ${HOST}\n"
                .to_owned(),
            "${HOST}",
            "envsubst",
        ),
    ] {
        let snapshot = read(text.as_bytes());
        let found = found(&snapshot);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        let advice = found[0].help.as_deref().unwrap_or_default();
        assert!(found[0].is_error() && advice.contains(placeholder) && advice.contains(help), "{text}: {found:?}");
        assert_eq!(found[0].edit, None, "{text}");
    }
}

#[test]
fn templates_are_one_finding_for_each_document() {
    let text = "# one\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: {{ .Values.name }}\n  namespace: {{ .Release.Namespace }}\nspec:\n  podSelector: {}\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: \"{{ .Values.ns }}\"\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: {{ .Values.replicas }}\n---\n{{- if .Values.on }}\nkind: NetworkPolicy\n{{- end }}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: '{{ .a }}', labels: {'{{ .b }}': '{{ .c }}'}}\n";
    let found = places(text);
    assert_eq!(found.iter().map(|place| place.0).collect::<Vec<_>>(), ["unrendered-template"; 5], "{found:?}");
    assert_eq!(found.iter().map(|place| place.1).collect::<Vec<_>>()[..3], [5, 13, 19]);
    let kinds: Vec<_> = read(text.as_bytes()).unread.into_iter().map(|unread| unread.kind.unwrap()).collect();
    assert_eq!(kinds, ["NetworkPolicy", "Deployment", "NetworkPolicy"]);
    assert_eq!(places("apiVersion: v1\nkind: '{{ .Values.kind }}'\nmetadata: {name: a}\n"), [("unrendered-template", 2, 7)]);
    for key in ["apiVersion: v1\nkind: Namespace\nmetadata:\n  {{ .Values.key }}: a\n", "kind: Pod\n{% if a %}\nspec: {}\n"] {
        assert_eq!(places(key).iter().map(|place| place.0).collect::<Vec<_>>(), ["unrendered-template"], "{key}");
    }
    assert_eq!(places("apiVersion: v1\nkind: Namespace\n? [a]\n: b\n"), [("wrong-type", 3, 3)]);
    // Other tools render these values later, and they decide nothing.
    let rules =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: {x: '{{ $labels.pod }}'}}\ndata: {a: '{{ .b }}'}\n";
    assert_eq!(places(rules), []);
    assert_eq!(places(&rules.replace("ConfigMap", "Pod").replace("\ndata: ", "\nspec: {containers: [{name: c}]}\ndata: ")), []);
}

#[test]
fn what_stands_in_place_of_objects_is_named() {
    for (text, rule, message) in [
        ("{kind: Status, apiVersion: v1, status: Failure, message: Unauthorized}", "error-answer", "Unauthorized"),
        ("{kind: Status, apiVersion: v1, status: Failure, reason: Forbidden, code: 403}", "error-answer", "Forbidden"),
        ("{kind: Status, apiVersion: v1, metadata: {}}", "error-answer", "error response of the API server"),
        ("{kind: Table, apiVersion: meta.k8s.io/v1, rows: [{cells: [deny]}]}", "error-answer", "this is a Table"),
        ("{kind: Table, apiVersion: meta.k8s.io/v1beta1}", "error-answer", "this is a Table"),
        (
            "{kind: PartialObjectMetadata, apiVersion: meta.k8s.io/v1, metadata: {name: deny, namespace: shop}}",
            "error-answer",
            "this is a PartialObjectMetadata",
        ),
        (
            "{kind: PartialObjectMetadataList, apiVersion: meta.k8s.io/v1, items: [{metadata: {name: deny}}, {metadata: {name: b}}]}",
            "error-answer",
            "this is a PartialObjectMetadataList",
        ),
        ("<html>login</html>", "html-page", "HTML page"),
        ("<!DOCTYPE html>\n<html>\n<title>Sign in: please</title>\n", "html-page", "HTML page"),
        ("\u{feff}\n<html>a: b</html>", "html-page", "HTML page"),
    ] {
        let snapshot = read(text.as_bytes());
        let found = found(&snapshot);
        assert!(found.len() == 1 && found[0].is_error() && found[0].rule.name == rule, "{text}: {found:?}");
        assert!(found[0].message.contains(message), "{text}: {found:?}");
        assert_eq!((snapshot.objects, snapshot.unread.len()), (0, 1), "{text}");
        assert!(snapshot.unread[0].may_be_policy(), "{text}");
    }
    for text in ["", "# nothing\n---\n", "just text", "<<: {a: 1}\n", "a <b>\n"] {
        assert!(!read(text.as_bytes()).has_errors(), "{text}");
    }
}

#[test]
fn a_missing_separator_is_one_finding_at_the_second_object() {
    let first = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: x}\nspec: {containers: [{name: c}]}\n";
    let second =
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec: {podSelector: {}}\n";
    let text = format!("{first}# end---\n{second}");
    let snapshot = read(text.as_bytes());
    let [found] = found(&snapshot)[..] else { panic!("{:?}", snapshot.diagnostics) };
    assert!(found.message.ends_with("`---` is missing before line 6"), "{}", found.message);
    let edit = found.edit.as_ref().unwrap();
    let (start, end) = edit.bytes;
    let edited = format!("{}{}{}", &text[..start], edit.text, &text[end..]);
    let repaired = read(edited.as_bytes());
    assert_eq!((repaired.has_errors(), repaired.pods.len(), repaired.policies.len()), (false, 1, 1));
    assert_eq!(snapshot.unread[0].kind.as_deref(), Some("NetworkPolicy"));
    assert_eq!(places(&format!("{first}kind: Service\nmetadata: {{name: b}}\n")), [("missing-separator", 5, 1)]);
    assert_eq!(places(&format!("{first}metadata: {{}}\n")), [("duplicate-key", 5, 1)]);
    let item =
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: a}\n  kind: Namespace\n";
    assert_eq!(places(item), [("duplicate-key", 7, 3)]);
}

#[test]
fn kinds_are_read_under_the_api_version_that_serves_them() {
    for (version, kind, expected) in [
        ("apps/v1", "Pod", "`v1`"),
        ("v1", "Deployment", "`apps/v1`"),
        ("apps", "Deployment", "`apps/v1`"),
        ("apps/v7", "StatefulSet", "`apps/v1`"),
        ("batch/v1", "Deployment", "`apps/v1`"),
        ("v1", "CronJob", "`batch/v1`"),
        ("networking.k8s.io/v1", "Namespace", "`v1`"),
        ("v1", "NetworkPolicy", "`networking.k8s.io/v1`"),
        ("networking.k8s.io/v1", "Service", "`v1`"),
        ("v1beta1", "Node", "`v1`"),
    ] {
        let text = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a, namespace: x}}\nspec: {{template: {{spec: {{}}}}}}\n"
        );
        let snapshot = read(text.as_bytes());
        let found = found(&snapshot);
        assert!(found.len() == 1 && found[0].is_error(), "{version} {kind}: {found:?}");
        assert!(
            found[0].rule.name == "unsupported-api-version" && found[0].message.contains(expected),
            "{version} {kind}: {found:?}"
        );
        assert_eq!(found[0].edit.as_ref().map(|edit| format!("`{}`", edit.text)).as_deref(), Some(expected));
        assert!(snapshot.pods.is_empty() && snapshot.policies.is_empty() && snapshot.unread.len() == 1, "{version} {kind}");
    }
    // They were served by earlier versions, and mean the same.
    let template = "template: {spec: {containers: [{name: c}]}}";
    let job = format!("jobTemplate: {{spec: {{{template}}}}}");
    for (version, kind, spec) in [
        ("extensions/v1beta1", "Deployment", template),
        ("apps/v1beta1", "StatefulSet", template),
        ("batch/v1beta1", "CronJob", &job),
    ] {
        let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a, namespace: x}}\nspec: {{{spec}}}\n");
        let snapshot = read(text.as_bytes());
        assert_eq!(places(&text), [("unsupported-api-version", 1, 13)], "{version} {kind}");
        assert!(!snapshot.has_errors() && snapshot.workloads.len() == 1, "{version} {kind}");
    }
    // Custom resources may have any name.
    for (version, kind) in [
        ("serving.knative.dev/v1", "Service"),
        ("vendor.example/v1", "Deployment"),
        ("batch.volcano.sh/v1alpha1", "Job"),
        ("cluster.x-k8s.io/v1", "Node"),
    ] {
        assert_eq!(places(&format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n")), [], "{version} {kind}");
    }
    for (version, kind, meant) in
        [("v1", "networkpolicy", "NetworkPolicy"), ("apps/v1", "Pods", "Pod"), ("v1", "Deploymnt", "Deployment")]
    {
        let snapshot = read(format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n").as_bytes());
        let found = found(&snapshot);
        assert!(found.len() == 1 && found[0].rule.name == "unknown-kind", "{version} {kind}: {found:?}");
        assert!(found[0].help.as_deref().unwrap().contains(meant), "{version} {kind}: {found:?}");
    }
}

#[test]
fn what_an_api_server_refuses_is_an_error() {
    let with_spec =
        |metadata: &str, spec: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a, {metadata}}}\nspec: {{{spec}}}\n");
    let pod = |metadata: &str, spec: &str| with_spec(metadata, &format!("containers: [{{name: c}}], {spec}"));
    let port = |port: &str| with_spec("", &format!("containers: [{{ports: [{port}]}}]"));
    let workload = |metadata: &str, spec: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec: {{selector: {{matchLabels: {{a: b}}}}, template: {{metadata: \
             {{labels: {{a: b, {metadata}}}}}, spec: {{containers: [{{name: c}}], {spec}}}}}}}\n"
        )
    };
    let long = "a".repeat(64);
    for (text, rule, path) in [
        (pod("annotations: {x: 1}", ""), "wrong-type", "metadata.annotations.x"),
        (pod("annotations: {x: {y: z}}", ""), "wrong-type", "metadata.annotations.x"),
        (pod("annotations: [x]", ""), "wrong-type", "metadata.annotations"),
        (workload("}, annotations: {x: true", ""), "wrong-type", "spec.template.metadata.annotations.x"),
        (POLICY.replace("name: p", "name: p, annotations: {x: 1.5}"), "wrong-type", "metadata.annotations.x"),
        (pod("labels: {x: 1}", ""), "wrong-type", "metadata.labels.x"),
        (pod("labels: {'': x}", ""), "invalid-label", "metadata.labels"),
        (pod(&format!("labels: {{x: {long}}}"), ""), "invalid-label", "metadata.labels"),
        (pod("labels: {x: a b}", ""), "invalid-label", "metadata.labels"),
        (workload("x/y/z: a", ""), "invalid-label", "spec.template.metadata.labels"),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {x: a-}}\n".to_owned(),
            "invalid-label",
            "metadata.labels",
        ),
        (port("{name: http}"), "invalid-container-port", "spec.containers[0].ports[0]"),
        (port("{name: http, containerport: 80}"), "invalid-container-port", "spec.containers[0].ports[0]"),
        (port("{containerPort: 0}"), "invalid-container-port", "spec.containers[0].ports[0].containerPort"),
        (port("{containerPort: 65536}"), "invalid-container-port", "spec.containers[0].ports[0].containerPort"),
        (port("{containerPort: 80, name: HTTP}"), "invalid-container-port", "spec.containers[0].ports[0].name"),
        (port("{containerPort: 80, protocol: tcp}"), "invalid-container-port", "spec.containers[0].ports[0].protocol"),
        (port("{containerPort: '80'}"), "wrong-type", "spec.containers[0].ports[0].containerPort"),
        (
            workload("", "initContainers: [{ports: [{name: a}]}]"),
            "invalid-container-port",
            "spec.template.spec.initContainers[0].ports[0]",
        ),
        (pod("", "nodeName: a_b"), "invalid-name", "spec.nodeName"),
    ] {
        let snapshot = read(text.as_bytes());
        let rules: Vec<_> =
            found(&snapshot).iter().map(|found| (found.is_error(), found.rule.name, found.path.as_str())).collect();
        assert_eq!(rules, [(true, rule, path)], "{text}");
    }
    let mistyped = read(port("{name: http, containerport: 80}").as_bytes());
    let found = found(&mistyped);
    assert!(found[0].help.as_deref().unwrap().starts_with("did you mean `containerPort`"), "{found:?}");
    assert_eq!(found[0].edit.as_ref().unwrap().text, "containerPort");
    // An empty value is a label value, and `null` an empty annotation.
    for text in [
        pod("labels: {x: ''}, annotations: {x: null, y: ''}", ""),
        pod("annotations:", ""),
        port("{containerPort: 80, hostPort: 80, new: 1}"),
    ] {
        assert_eq!(places(&text), [], "{text}");
    }
}

#[test]
fn what_an_api_server_has_accepted_is_no_error() {
    for text in [
        "{apiVersion: v1, kind: Pod, metadata: {name: a, labels: {x: a b}}, spec: {nodeName: A_b, containers: [{ports: [{name: HTTP}]}]}}",
        "{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {'': x}}}",
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {template: {}}}",
        "{apiVersion: v1, kind: Pod, metadata: {name: a}}",
        "{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {selector: {matchLabels: {a: b}}, template: {spec: {containers: [{name: c}]}}}}",
        "{apiVersion: apps/v7, kind: Deployment, metadata: {name: a}}",
    ] {
        let errors = |is_live: bool| {
            let mut loader = Loader::new(Syntax::Strict);
            if is_live {
                loader.read_live(Syntax::Legacy, "live", text.as_bytes())
            } else {
                loader.read("a.yaml", text.as_bytes())
            }
            loader.finish().has_errors()
        };
        assert!(errors(false) && !errors(true), "{text}");
    }
}

#[test]
fn messages_do_not_contradict_themselves() {
    let pod = |spec: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{{spec}}}}}");
    let port = |number: &str| pod(&format!("containers: [{{ports: [{{containerPort: {number}}}]}}]"));
    let policy = |number: &str| POLICY.replace("{}}", &format!("{{}}, ingress: [{{ports: [{{port: {number}}}]}}]}}"));
    let label = |value: &str| POD.replace("\"name\"", &format!("\"labels\": {{\"v\": {value}}}, \"name\""));
    for text in [port("8e1"), port("80.0"), port("0x50"), policy("8e1"), policy("8.0e1")] {
        assert_eq!(places(&text), [], "kubectl converts YAML to JSON, where it is the integer 80: {text}");
    }
    for (text, expected) in [
        (port("1.5"), "found the number `1.5`, expected an integer"),
        (port("99999999999999999999"), "found `99999999999999999999`, which is too large for an integer, expected an integer"),
        (port("1e30"), "found `1e30`, which is too large for an integer, expected an integer"),
        (policy("1e30"), "found `1e30`, which is too large for an integer, expected an integer or a name"),
        (policy("80.5"), "found the number `80.5`, expected an integer or a name"),
        (policy("true"), "found the boolean `true`, expected an integer or a name"),
        (port("yes"), "found `yes`, which YAML 1.1 reads as the boolean true, expected an integer"),
        (port("'80'"), "found the string `80`, expected an integer"),
        (label("1e3"), "found `1e3`, which YAML reads as the number 1000, expected a string"),
        (label("017"), "found `017`, which YAML reads as the number 15, expected a string"),
        (label("1_0"), "found `1_0`, which YAML reads as the number 10, expected a string"),
        (label("1.10"), "found `1.10`, which YAML reads as the number 1.1, expected a string"),
        (label("12"), "found the number `12`, expected a string"),
        (label("off"), "found `off`, which YAML 1.1 reads as the boolean false, expected a string"),
        (label("[a]"), "found a list, expected a string"),
    ] {
        let snapshot = read(text.as_bytes());
        let found = found(&snapshot);
        assert_eq!(found.iter().map(|found| found.message.as_str()).collect::<Vec<_>>(), [expected], "{text}");
    }
}

#[test]
fn policies_that_are_not_evaluated_are_found_wherever_they_are() {
    let policy = |version: &str, kind: &str, namespace: &str| {
        format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: f, {namespace}}}, spec: {{}}}}")
    };
    for (version, kind, namespace, expected) in [
        ("network.openshift.io/v1", "EgressNetworkPolicy", "namespace: x", Some("x")),
        ("vpcresources.k8s.aws/v1beta1", "SecurityGroupPolicy", "namespace: x", Some("x")),
        // Whoever applies it names the namespace.
        ("vpcresources.k8s.aws/v1beta1", "SecurityGroupPolicy", "", None),
        ("cilium.io/v2", "CiliumClusterwideNetworkPolicy", "", None),
        ("vendor.example/v1", "TenantFirewall", "namespace: x", Some("x")),
        ("vendor.example/v1", "TenantFirewall", "", None),
        ("vendor.example/v1", "NetworkPolicy", "namespace: x", Some("x")),
        ("security.istio.io/v1", "AuthorizationPolicy", "namespace: istio-system", None),
    ] {
        let object = policy(version, kind, namespace);
        for text in [
            object.clone(),
            format!("[{object}]"),
            format!("{{apiVersion: v1, kind: List, items: [{object}]}}"),
            format!("{{apiVersion: {version}, kind: {kind}List, items: [{{metadata: {{name: f, {namespace}}}}}]}}"),
            format!("{{apiVersion: template.openshift.io/v1, kind: Template, objects: [{object}]}}"),
        ] {
            let snapshot = read(text.as_bytes());
            assert!(!snapshot.has_errors() && snapshot.skipped.is_empty() && snapshot.policies.is_empty(), "{text}");
            let [foreign] = &snapshot.foreign[..] else { panic!("{text}: {:?}", snapshot.foreign) };
            assert_eq!(
                (foreign.kind.as_str(), foreign.name.as_str(), foreign.namespace.as_deref()),
                (kind, "f", expected),
                "{text}"
            );
        }
    }
    let staged = read(policy("projectcalico.org/v3", "StagedNetworkPolicy", "namespace: x").as_bytes());
    assert!(staged.foreign.is_empty() && staged.skipped.len() == 1);
}

#[test]
fn subnets_of_kube_ovn_are_policies_if_they_filter() {
    let found = |spec: &str| {
        let text = format!(
            "{{apiVersion: kubeovn.io/v1, kind: Subnet, metadata: {{name: a}}, spec: {{cidrBlock: 10.0.0.0/16, {spec}}}}}"
        );
        let snapshot = read(text.as_bytes());
        assert!(!snapshot.has_errors(), "{text}");
        snapshot.foreign.iter().map(|foreign| foreign.namespace.clone()).collect::<Vec<_>>()
    };
    for spec in ["private: true", "allowSubnets: [10.1.0.0/16]", "acls: [{action: drop, direction: to-lport, match: ip}]"] {
        assert_eq!(found(spec), [None], "{spec}");
    }
    for spec in ["", "private: false", "private: null, acls: []", "allowSubnets: []"] {
        assert_eq!(found(spec), [], "{spec}");
    }
}

#[test]
fn what_may_be_a_policy_is_named_where_it_cannot_be_read() {
    let pod = format!("---\n{POD}\n");
    for (text, kind, line) in [
        ("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nnote: a: b\n", Some("NetworkPolicy"), 4),
        ("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nspec: [\n", Some("CiliumNetworkPolicy"), 3),
        ("kind: ConfigMap\ndata: [\n", Some("ConfigMap"), 2),
        ("foo: [\n", None, 1),
        ("apiVersion: extensions/v1beta1\nkind: NetworkPolicy\nmetadata: {name: p}\n", Some("NetworkPolicy"), 1),
        ("apiVersion: networking.k8s.io/v1\nkind: NetworkPolcy\nmetadata: {name: p}\n", Some("NetworkPolicy"), 1),
        ("apiVersion: networking.k8s.io/v1\nmetadata: {name: p}\nspec: {}\n", None, 1),
        ("apiVersion: v1\nkind: List\nitems: none\n", None, 3),
        (
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: '${NS}'}\n",
            Some("NetworkPolicy"),
            1,
        ),
        ("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: [p]\n", Some("NetworkPolicy"), 1),
        ("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: 7}\n", Some("NetworkPolicy"), 1),
    ] {
        let snapshot = read(format!("{text}{pod}").as_bytes());
        assert_eq!(snapshot.pods.len(), 1, "{text}");
        let unread: Vec<_> = snapshot.unread.iter().map(|unread| (unread.kind.as_deref(), unread.line)).collect();
        assert_eq!(unread, [(kind, line)], "{text}");
        assert_eq!(snapshot.unread[0].may_be_policy(), kind != Some("ConfigMap"), "{text}");
        assert!(snapshot.has_errors(), "{text}");
    }
    let closing = read(b"kind: NetworkPolicy\nnote: a: b\n");
    assert!(found(&closing)[0].help.as_deref().unwrap().contains("`NetworkPolicy`"), "{:?}", closing.diagnostics);
}
