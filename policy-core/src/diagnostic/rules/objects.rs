//! Rules about kinds, names and namespaces.

use super::super::{Documentation, Group, Kind, Rule, Severity};

/// A list whose items are not objects.
pub static INVALID_LIST: Rule = Rule {
    id: "NP013",
    name: "invalid-list",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::WrongType,
    section: "S1.1",
    event_reason: None,
    summary: "the items of a list are not objects",
    documentation: Documentation {
        what: "A `List` or an OpenShift `Template` that holds something else than objects, or lists that are nested too deep.",
        why: "The items may be policies, and their content is unknown.",
        example: Some("apiVersion: v1\nkind: List\nitems: none\n"),
        fix: "Write a list of objects as `items`.",
        corrected: None,
    },
};

/// The text of an object in place of the object.
pub static OBJECT_AS_TEXT: Rule = Rule {
    id: "NP014",
    name: "object-as-text",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::WrongType,
    section: "S1.1",
    event_reason: None,
    summary: "a text that describes an object stands in place of the object",
    documentation: Documentation {
        what: "A string with the YAML or JSON of an object, as a document or in a list of objects.",
        why: "The API server refuses it. The object, which may be a policy, is not read.",
        example: Some(
            "apiVersion: v1\nkind: List\nitems:\n- '{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"shop\"}}'\n",
        ),
        fix: "Write the object in place of its text, for example with `jq fromjson`.",
        corrected: None,
    },
};

/// One page of a list.
pub static PARTIAL_LIST: Rule = Rule {
    id: "NP015",
    name: "partial-list",
    severity: Severity::Warning,
    group: Group::Input,
    kind: Kind::NoEffect,
    section: "S1.1",
    event_reason: None,
    summary: "a list is one page of several",
    documentation: Documentation {
        what: "A list with `metadata.continue` or `metadata.remainingItemCount`, as API servers answer requests with a `limit`.",
        why: "The objects of the other pages are missing from the answers. Policies may be among them.",
        example: Some(
            "apiVersion: v1\nkind: List\nmetadata: {continue: eyJ2IjoibWV0YS5rOHMu, remainingItemCount: 300}\nitems: []\n",
        ),
        fix: "List all objects, for example with `kubectl get`, which reads every page.",
        corrected: None,
    },
};

/// An event of a watch that deletes an object.
pub static DELETED_OBJECT: Rule = Rule {
    id: "NP016",
    name: "deleted-object",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Forbidden,
    section: "S1.1",
    event_reason: None,
    summary: "an event of a watch deletes an object",
    documentation: Documentation {
        what: "An event of the type `DELETED`, as `kubectl get --watch --output-watch-events` prints it. Objects in events of the types `ADDED` and \
               `MODIFIED` are read, and one in an event of the type `MODIFIED` replaces an object of its name that stands before it in the file.",
        why: "An earlier event may have added the object, which is not there any more.",
        example: Some("type: DELETED\nobject:\n  apiVersion: v1\n  kind: Namespace\n  metadata: {name: shop}\n"),
        fix: "Read a list of the objects in place of a watch.",
        corrected: None,
    },
};

/// A document without `apiVersion` or `kind`.
pub static MISSING_API_VERSION_OR_KIND: Rule = Rule {
    id: "NP017",
    name: "missing-api-version-or-kind",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Required,
    section: "S1.1",
    event_reason: None,
    summary: "a document has no apiVersion or no kind",
    documentation: Documentation {
        what: "A document that looks like a Kubernetes object and has no `apiVersion` or no `kind`. It is a warning for a list whose items state theirs: \
               they are read.",
        why: "The API server refuses it, and it may be a policy.",
        example: Some("kind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec: {podSelector: {}}\n"),
        fix: "Add the missing field.",
        corrected: None,
    },
};

/// A kind that does not exist.
pub static UNKNOWN_KIND: Rule = Rule {
    id: "NP018",
    name: "unknown-kind",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::NotSupported,
    section: "S1.1",
    event_reason: None,
    summary: "a kind is probably misspelled",
    documentation: Documentation {
        what: "A kind that the API group does not have, and whose name is close to a kind that affects connections.",
        why: "An object of an unknown kind is ignored, so a misspelled policy would not count.",
        example: Some(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolcy\nmetadata: {name: web, namespace: shop}\nspec: {podSelector: {}}\n",
        ),
        fix: "Correct the kind.",
        corrected: None,
    },
};

/// An apiVersion that no server has for the kind.
pub static UNSUPPORTED_API_VERSION: Rule = Rule {
    id: "NP019",
    name: "unsupported-api-version",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::NotSupported,
    section: "S1.1",
    event_reason: None,
    summary: "no API server serves the kind under the apiVersion",
    documentation: Documentation {
        what: "A kind that is read, under an apiVersion that does not have it, such as an `apps/v1` Pod or a NetworkPolicy other than \
               `networking.k8s.io/v1`. It is a warning for workloads whose apiVersion was served by earlier versions of Kubernetes, such as an \
               `extensions/v1beta1` Deployment: they are read. Kinds of the same name in groups of custom resources are other kinds.",
        why: "The object cannot be applied: `kubectl` finds no match for the kind.",
        example: Some(
            "apiVersion: extensions/v1beta1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec: {podSelector: {}}\n",
        ),
        fix: "Write the apiVersion that serves the kind.",
        corrected: None,
    },
};

/// An answer of an API server in place of objects.
pub static ERROR_ANSWER: Rule = Rule {
    id: "NP020",
    name: "error-answer",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::NotSupported,
    section: "S1.1",
    event_reason: None,
    summary: "a document is an answer of an API server without the objects, or the error of a command",
    documentation: Documentation {
        what: "An object of the kind `Status`, or a line that `kubectl` prints when it fails, such as `Error from server (Forbidden): …`. Also a `Table`, \
               a `PartialObjectMetadata` or a list of them, which have columns or metadata of objects and not the objects.",
        why: "What was asked for is missing from the answers.",
        example: Some("apiVersion: v1\nkind: Status\nstatus: Failure\nmessage: Unauthorized\ncode: 401\n"),
        fix: "Correct the cause that the message names, or ask for the objects with `kubectl get -o yaml`, and make the dump again.",
        corrected: None,
    },
};

/// Part of an object, which a tool merges into a whole one.
pub static PATCH_AS_OBJECT: Rule = Rule {
    id: "NP021",
    name: "patch-as-object",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Forbidden,
    section: "S1.1",
    event_reason: None,
    summary: "a patch is read as an object",
    documentation: Documentation {
        what: "An object with directives of a strategic merge patch: `$patch`, `$retainKeys`, `$setElementOrder` or `$deleteFromPrimitiveList`.",
        why: "A patch changes an object and is none. It does not count as an object, and the object that it changes counts without the change.",
        example: Some(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\n$patch: delete\n",
        ),
        fix: "Build the patch together with its base, for example with `kubectl kustomize`, and read the result.",
        corrected: None,
    },
};

/// A workload without a selector.
pub static MISSING_SELECTOR: Rule = Rule {
    id: "NP022",
    name: "missing-selector",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Required,
    section: "S1.1",
    event_reason: None,
    summary: "a workload has no selector",
    documentation: Documentation {
        what: "A Deployment, ReplicaSet, StatefulSet or DaemonSet of `apps/v1` without `spec.selector` or with an empty one, or a \
               ReplicationController that has neither a selector nor labels in its template.",
        why: "The API server refuses it. It is probably a patch: then it does not replace the object that it changes.",
        example: Some("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec: {replicas: 3}\n"),
        fix: "Build a patch together with its base, for example with `kubectl kustomize`. Add `spec.selector` to a whole object.",
        corrected: None,
    },
};

/// A template whose pods the selector of the workload does not select.
pub static UNSELECTED_TEMPLATE: Rule = Rule {
    id: "NP023",
    name: "unselected-template",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Invalid,
    section: "S1.1",
    event_reason: None,
    summary: "the selector of a workload does not match the labels of its template",
    documentation: Documentation {
        what: "A workload whose `spec.selector` does not match `spec.template.metadata.labels`.",
        why: "The API server refuses it: the workload could not find its own pods. One of the two is wrong, and policies select pods by the labels of \
              the template.",
        example: Some(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  \
             template:\n    metadata: {labels: {app: wbe}}\n    spec: {containers: [{name: web, image: nginx}]}\n",
        ),
        fix: "Write the labels of the selector in the template.",
        corrected: None,
    },
};

/// An object without a name.
pub static MISSING_NAME: Rule = Rule {
    id: "NP024",
    name: "missing-name",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Required,
    section: "S1.2",
    event_reason: None,
    summary: "an object has no name",
    documentation: Documentation {
        what: "An object that has neither `metadata.name` nor `metadata.generateName`.",
        why: "The API server refuses it.",
        example: Some(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: shop}\nspec: {podSelector: {}}\n",
        ),
        fix: "Add `metadata.name`.",
        corrected: None,
    },
};

/// A name that the API server refuses.
pub static INVALID_NAME: Rule = Rule {
    id: "NP025",
    name: "invalid-name",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Invalid,
    section: "S1.2",
    event_reason: None,
    summary: "the name or namespace of an object is not a DNS subdomain",
    documentation: Documentation {
        what: "A `metadata.name` or `metadata.namespace` that is not a DNS-1123 subdomain.",
        why: "The API server refuses the object.",
        example: Some(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: Web, namespace: shop}\nspec: {podSelector: {}}\n",
        ),
        fix: "Use lower-case letters, digits, `-` and `.`; start and end each part with a letter or digit.",
        corrected: None,
    },
};

/// Two policies of one name.
pub static DUPLICATE_POLICY: Rule = Rule {
    id: "NP026",
    name: "duplicate-policy",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::DuplicateObject,
    section: "S1.2",
    event_reason: None,
    summary: "a policy is defined more than once",
    documentation: Documentation {
        what: "Two policies of the same namespace and name. It is a warning if both have the same meaning.",
        why: "The policy that is applied last replaces the other one.",
        example: Some(concat!(policy!("  podSelector: {}\n"), "---\n", policy!("  podSelector: {}\n  ingress: [{}]\n"))),
        fix: "Rename or remove one of them.",
        corrected: None,
    },
};

/// Two objects of one name.
pub static DUPLICATE_OBJECT: Rule = Rule {
    id: "NP027",
    name: "duplicate-object",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::DuplicateObject,
    section: "S1.2",
    event_reason: None,
    summary: "an object is defined more than once",
    documentation: Documentation {
        what: "Two objects of the same kind, namespace and name in files: Namespaces, Nodes, Pods, Services, workloads, autoscalers, and policies of other engines. \
               It is a warning if both have the same meaning. A file and a live cluster are no duplicates: the file counts, as if it were applied.",
        why: "The object that is applied last replaces the other one. Several variants of one application, such as overlays, must be read one by one.",
        example: Some(concat!(pod!("status: {podIP: 10.0.0.1}\n"), "---\n", pod!("status: {podIP: 10.0.0.2}\n"))),
        fix: "Rename or remove one of them. Build overlays one by one, for example with `kubectl kustomize`.",
        corrected: None,
    },
};

/// A namespace with a wrong name label.
pub static WRONG_NAME_LABEL: Rule = Rule {
    id: "NP028",
    name: "wrong-name-label",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Invalid,
    section: "S1.35",
    event_reason: None,
    summary: "the label kubernetes.io/metadata.name of a Namespace is not its name",
    documentation: Documentation {
        what: "A Namespace whose label `kubernetes.io/metadata.name` has another value than the name of the Namespace.",
        why: "The API server sets the label to the name, so policies that select by this value do not match.",
        example: Some("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {kubernetes.io/metadata.name: store}}\n"),
        fix: "Remove the label.",
        corrected: None,
    },
};

/// A namespace that no file declares.
pub static UNDECLARED_NAMESPACE: Rule = Rule {
    id: "NP029",
    name: "undeclared-namespace",
    severity: Severity::Warning,
    group: Group::Input,
    kind: Kind::Assumed,
    section: "S1.36",
    event_reason: None,
    summary: "no file declares a namespace",
    documentation: Documentation {
        what: "A namespace that has pods or policies in the input, and no Namespace object.",
        why: "It is assumed to have only the label `kubernetes.io/metadata.name`. Policies that select namespaces by other labels may match it in the cluster.",
        example: Some(policy!("  podSelector: {}\n")),
        fix: "Add the Namespace object if policies select it by its labels.",
        corrected: None,
    },
};
