//! Objects in lists, Templates and events of a watch are read, or what is not read is an error; nothing in them is skipped.

use policy_core::diagnostic::{Diagnostic, Kind};
use policy_core::manifest::{Loader, Snapshot, Syntax};

const POLICY: &str = "{\"apiVersion\": \"networking.k8s.io/v1\", \"kind\": \"NetworkPolicy\", \"metadata\": {\"name\": \"p\", \"namespace\": \"x\"}, \
                      \"spec\": {\"podSelector\": {}}}";
const OTHER: &str = "{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"x\"}}";

fn read(text: &str) -> Snapshot {
    let mut loader = Loader::new(Syntax::Strict);
    loader.read("a.yaml", text.as_bytes());
    loader.finish()
}

/// What is found, but for namespaces that are assumed: whether it is an error, the rule, and the path.
fn found(snapshot: &Snapshot) -> Vec<(bool, &'static str, &str)> {
    let shown = |found: &'_ Diagnostic| (found.is_error(), found.rule.name);
    let findings = snapshot.diagnostics.iter().filter(|found| found.kind() != Kind::Assumed);
    findings.map(|found| (shown(found).0, shown(found).1, found.path.as_str())).collect()
}

fn as_text(object: &str) -> String {
    serde_json::Value::from(object).to_string()
}

/// Each text loses something that may be a policy, and has exactly this error.
fn assert_lost(cases: &[(String, &str, &str)]) {
    for (text, rule, path) in cases {
        let snapshot = read(text);
        assert_eq!(found(&snapshot), [(true, *rule, *path)], "{text}");
        assert!(snapshot.unread.iter().any(|unread| unread.may_be_policy()), "{text}: {:?}", snapshot.unread);
    }
}

#[test]
fn what_a_list_holds_beside_objects_is_an_error() {
    let list = |items: &str| format!("{{apiVersion: v1, kind: List, items: {items}}}");
    let template = |objects: &str| format!("{{apiVersion: template.openshift.io/v1, kind: Template, objects: {objects}}}");
    let policies = |items: &str| format!("{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicyList, items: {items}}}");
    let text = as_text(POLICY);
    assert_lost(&[
        (list(&format!("[{OTHER}, {text}]")), "object-as-text", "items[1]"),
        (template(&format!("[{text}, {OTHER}]")), "object-as-text", "objects[0]"),
        (policies(&format!("[{text}]")), "object-as-text", "items[0]"),
        (format!("[{OTHER}, {text}]"), "object-as-text", ""),
        (format!("[{text}]"), "object-as-text", ""),
        (text.clone(), "object-as-text", ""),
        (list(&format!("[{OTHER}, none]")), "invalid-list", "items[1]"),
        (list(&format!("[{OTHER}, 7]")), "invalid-list", "items[1]"),
        (list("[[1]]"), "invalid-list", "items[0]"),
        (list("[{name: p}]"), "missing-api-version-or-kind", "kind"),
        (list("[{kind: CiliumNetworkPolicy, metadata: {name: p}}]"), "missing-api-version-or-kind", "apiVersion"),
        (list("{}"), "invalid-list", "items"),
        (list(&format!("{{a: {POLICY}}}")), "invalid-list", "items"),
        (list("''"), "invalid-list", "items"),
        (policies("{}"), "invalid-list", "items"),
        (template("{}"), "invalid-list", "objects"),
        (list("{}").replace("List", "PodList"), "invalid-list", "items"),
    ]);
    let pod = read(&list(&format!("[{}]", as_text(&OTHER.replace("Namespace", "Pod")))));
    assert!(pod.has_errors() && !pod.unread[0].may_be_policy(), "the text names its kind: {:?}", pod.unread);
    for text in [list("[]"), list("null"), list(&format!("[[{OTHER}]]")), "{apiVersion: v1, kind: List, metadata: {}}".to_owned()]
    {
        assert_eq!(found(&read(&text)), [], "{text}");
    }
}

#[test]
fn items_in_another_field_are_an_error() {
    let list = |rest: &str| format!("{{apiVersion: v1, kind: List, {rest}}}");
    let policies =
        |rest: &str| format!("{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicyList, metadata: {{name: p}}, {rest}}}");
    assert_lost(&[
        (list(&format!("items: [{OTHER}], Items: [{POLICY}]")), "unknown-field", "Items"),
        (list(&format!("item: [{POLICY}]")), "unknown-field", "item"),
        (list(&format!("items: [{OTHER}], more: [{POLICY}]")), "unknown-field", "more"),
        (list(&format!("object: {POLICY}")), "unknown-field", "object"),
        (policies("spec: {podSelector: {}}"), "unknown-field", "spec"),
        (policies("items: [], spec: {podSelector: {}}"), "unknown-field", "spec"),
        (format!("{{apiVersion: template.openshift.io/v1, kind: Template, Objects: [{POLICY}]}}"), "unknown-field", "Objects"),
        (format!("{{apiVersion: v1, kind: list, items: [{POLICY}]}}"), "unknown-kind", "kind"),
        (list(&format!("items: [{POLICY}], items: [{OTHER}]")), "duplicate-key", "items"),
        (format!("{{apiVersion: v1, kind: Template, objects: [{POLICY}], objects: []}}"), "duplicate-key", "objects"),
    ]);
    let parameters = "parameters: [{name: A}], labels: {metadata: a}, message: done";
    let template = read(&format!("{{apiVersion: template.openshift.io/v1, kind: Template, objects: [{OTHER}], {parameters}}}"));
    assert_eq!(found(&template), []);
    // The list of a function of kustomize, and custom resources that are no lists.
    for (text, policies) in [
        (format!("{{apiVersion: config.kubernetes.io/v1, kind: ResourceList, items: [{POLICY}], functionConfig: {OTHER}}}"), 1),
        ("{apiVersion: example.com/v1, kind: AllowList, metadata: {name: a}, items: [10.0.0.1], spec: {a: b}}".to_owned(), 0),
        ("{apiVersion: example.com/v1, kind: AllowList, metadata: {name: a}, spec: {a: b}}".to_owned(), 0),
    ] {
        let snapshot = read(&text);
        assert_eq!((found(&snapshot).as_slice(), snapshot.policies.len()), (&[][..], policies), "{text}");
    }
}

#[test]
fn lists_without_their_kind_are_read_where_the_items_have_theirs() {
    let warning = |field| (false, "missing-api-version-or-kind", field);
    for (text, field) in [
        (format!("{{\"items\": [{POLICY}]}}"), "kind"),
        (format!("{{items: [{POLICY}, {OTHER}]}}"), "kind"),
        (format!("{{kind: List, items: [{POLICY}]}}"), "apiVersion"),
        (format!("{{apiVersion: '', kind: NetworkPolicyList, items: [{POLICY}]}}"), "apiVersion"),
    ] {
        let snapshot = read(&text);
        assert_eq!((found(&snapshot).as_slice(), snapshot.policies.len()), (&[warning(field)][..], 1), "{text}");
    }
    for text in [
        format!("{{items: [{POLICY}, {{metadata: {{name: q}}, spec: {{podSelector: {{}}}}}}]}}"),
        "{kind: NetworkPolicyList, items: [{metadata: {name: q}, spec: {podSelector: {}}}]}".to_owned(),
        "{kind: DeploymentList, items: [{metadata: {name: q}}]}".to_owned(),
    ] {
        let snapshot = read(&text);
        assert!(snapshot.has_errors() && snapshot.unread.iter().any(|unread| unread.may_be_policy()), "{text}");
    }
    // Values of charts have items too.
    for text in ["{items: [{name: a}]}", "{items: [{kind: a}], spec: {}}", "{kind: List, items: [1]}"] {
        let snapshot = read(text);
        assert_eq!((found(&snapshot).as_slice(), snapshot.no_objects.len()), (&[][..], 1), "{text}");
    }
}

#[test]
fn an_empty_api_version_is_a_missing_one() {
    for (text, message) in [
        (POLICY.replace("networking.k8s.io/v1", ""), "`apiVersion` is empty"),
        ("{apiVersion: '', kind: Pod, metadata: {name: a}}".to_owned(), "`apiVersion` is empty"),
        ("{apiVersion: '', kind: CiliumNetworkPolicy, metadata: {name: a}}".to_owned(), "`apiVersion` is empty"),
        ("{kind: CiliumNetworkPolicy, metadata: {name: a}}".to_owned(), "the document has no `apiVersion`"),
        ("{apiVersion: v1, kind: '', metadata: {name: a}}".to_owned(), "`kind` is empty"),
    ] {
        let snapshot = read(&text);
        assert_eq!(found(&snapshot).iter().map(|found| found.1).collect::<Vec<_>>(), ["missing-api-version-or-kind"], "{text}");
        assert_eq!(snapshot.diagnostics[0].message, message, "{text}");
        assert!(!snapshot.unread.is_empty() || snapshot.policies.len() == 1, "{text}");
    }
}

#[test]
fn one_page_of_a_list_is_named() {
    let list = |metadata: &str| format!("{{apiVersion: v1, kind: List, metadata: {{{metadata}}}, items: [{POLICY}]}}");
    for (metadata, path) in [
        ("continue: abc, remainingItemCount: 300", "metadata.continue"),
        ("continue: abc", "metadata.continue"),
        ("remainingItemCount: 1", "metadata.remainingItemCount"),
    ] {
        for text in [list(metadata), list(metadata).replace("v1, kind: ", "networking.k8s.io/v1, kind: NetworkPolicy")] {
            let snapshot = read(&text);
            assert_eq!(found(&snapshot), [(false, "partial-list", path)], "{text}");
            assert_eq!((snapshot.partial_lists.len(), snapshot.policies.len()), (1, 1), "{text}");
        }
    }
    for metadata in ["", "continue: ''", "continue: '', resourceVersion: '7', remainingItemCount: 0", "continue: null"] {
        let snapshot = read(&list(metadata));
        assert_eq!((found(&snapshot).as_slice(), snapshot.partial_lists.len()), (&[][..], 0), "{metadata}");
    }
}

#[test]
fn events_of_a_watch_hold_objects() {
    let event = |kind: &str, object: &str| format!("{{\"type\": \"{kind}\", \"object\": {object}}}\n");
    for text in [
        event("ADDED", POLICY),
        event("MODIFIED", POLICY),
        format!("{}{}", event("ADDED", OTHER), event("ADDED", POLICY)),
        format!(
            "object:\n  {POLICY}\ntype: ADDED\n---\n{}",
            event("BOOKMARK", "{\"kind\": \"NetworkPolicy\", \"apiVersion\": \"v1\"}")
        ),
    ] {
        let snapshot = read(&text);
        assert_eq!((found(&snapshot).as_slice(), snapshot.policies.len(), snapshot.no_objects.len()), (&[][..], 1, 0), "{text}");
    }
    assert_lost(&[
        (event("DELETED", POLICY), "deleted-object", "type"),
        (
            event("ERROR", "{\"kind\": \"Status\", \"apiVersion\": \"v1\", \"status\": \"Failure\", \"code\": 410}"),
            "error-answer",
            "",
        ),
        (event("ADDED", &as_text(POLICY)), "object-as-text", "object"),
        (event("ADDED", "{\"name\": \"p\"}"), "missing-api-version-or-kind", "kind"),
    ]);
    let other = read("{type: Opaque, object: {a: b}}");
    assert_eq!((found(&other).as_slice(), other.no_objects.len()), (&[][..], 1));
}

#[test]
fn a_later_event_of_a_watch_is_the_newer_state() {
    let event = |kind: &str, object: &str| format!("{{\"type\": \"{kind}\", \"object\": {object}}}\n");
    let namespace = |team: &str| {
        format!(
            "{{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {{\"name\": \"x\", \"labels\": {{\"team\": \"{team}\"}}}}}}"
        )
    };
    let (old, same, new) = (namespace("a"), namespace("a"), namespace("b"));
    for states in [vec![&old, &new], vec![&old, &same, &new], vec![&new, &old, &new]] {
        let text: String =
            states.iter().enumerate().map(|(i, state)| event(if i == 0 { "ADDED" } else { "MODIFIED" }, state)).collect();
        let snapshot = read(&text);
        assert_eq!(found(&snapshot), [], "{text}");
        assert_eq!(snapshot.namespaces["x"].labels.get("team").map(String::as_str), Some("b"), "{text}");
    }
    let open = POLICY.replace("{}}", "{}, \"ingress\": [{}]}");
    let policies = read(&format!("{}{}", event("ADDED", POLICY), event("MODIFIED", &open)));
    let alone = read(&open);
    assert_eq!(found(&policies), []);
    let rules =
        |snapshot: &Snapshot| snapshot.policies.values().map(|policy| policy.ingress.as_ref().map(Vec::len)).collect::<Vec<_>>();
    assert_eq!(rules(&policies), rules(&alone));
    // An object is added once, and two files have no order.
    let added = read(&format!("{}{}", event("ADDED", &old), event("ADDED", &new)));
    assert_eq!(found(&added), [(true, "duplicate-object", "metadata.name")]);
    let mut loader = Loader::new(Syntax::Strict);
    loader.read("1.json", event("ADDED", &old).as_bytes());
    loader.read("2.json", event("MODIFIED", &new).as_bytes());
    assert_eq!(found(&loader.finish()), [(true, "duplicate-object", "metadata.name")]);
}

#[test]
fn errors_of_commands_are_no_objects() {
    for line in [
        "Error from server (Forbidden): networkpolicies.networking.k8s.io is forbidden: User \"x\" cannot list resource",
        "Error from server (NotFound): namespaces \"x\" not found",
        "Error from server: etcdserver: request timed out",
        "Unable to connect to the server: dial tcp: lookup api.example.com: no such host",
        "Unable to connect to the server: EOF",
        "The connection to the server localhost:8080 was refused - did you specify the right host or port?",
        "error: You must be logged in to the server (Unauthorized)",
        "error: the server doesn't have a resource type \"netpol\"",
        "Error: Kubernetes cluster unreachable: Get \"https://10.0.0.1:6443/version\": dial tcp 10.0.0.1:6443: i/o timeout",
        "bash: line 1: kubectl: command not found",
        "zsh: command not found: kubectl",
        "sh: 1: kubectl: not found",
        "E1126 20:53:00.123456   12345 memcache.go:265] couldn't get current server API group list: Get \"https://x\": EOF",
    ] {
        for text in [format!("{line}\n"), format!("{OTHER}\n---\n{line}\n"), format!("{line}\n---\n{OTHER}\n")] {
            let snapshot = read(&text);
            assert_eq!(
                found(&snapshot).iter().map(|found| (found.0, found.1)).collect::<Vec<_>>(),
                [(true, "error-answer")],
                "{text}"
            );
            assert!(snapshot.diagnostics[0].message.contains(line), "{:?}", snapshot.diagnostics);
            assert!(snapshot.unread.iter().any(|unread| unread.may_be_policy()), "{text}");
            assert_eq!(snapshot.namespaces.len(), usize::from(text.contains("Namespace")), "{text}");
        }
    }
    // Both streams in one file: one of the kinds could not be listed.
    let both = read("Error from server (NotFound): a not found\napiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n");
    assert_eq!((found(&both).as_slice(), both.namespaces.len()), (&[(true, "error-answer", "")][..], 1));
    for text in ["No resources found\n", "No resources found in x namespace.\n"] {
        let snapshot = read(text);
        assert_eq!((found(&snapshot).as_slice(), snapshot.no_objects.len()), (&[(false, "empty-file", "")][..], 1), "{text}");
    }
    for text in [
        "error: {a: b}\n",
        "error: none\n",
        "errors: a b c\n",
        "just text\n",
        "- 'error: a b'\n",
        "a: 'x: not found'\n",
        "bash: yes\n",
        "a: 'x: command not found'\nb: c\n",
    ] {
        assert_eq!(found(&read(text)), [], "{text}");
    }
}
