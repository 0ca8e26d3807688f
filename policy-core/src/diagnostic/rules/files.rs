//! Rules about text, syntax and types.

use super::super::{Documentation, Group, Kind, Rule, Severity};

/// A file that cannot be read.
pub static UNREADABLE_FILE: Rule = Rule {
    id: "NP001",
    name: "unreadable-file",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::TooLarge,
    section: "S1.7",
    event_reason: None,
    summary: "a file cannot be read",
    documentation: Documentation {
        what: "A file that does not open, does not decompress, or is larger than the limit.",
        why: "The file may hold policies. Without them, answers would allow connections that the cluster denies.",
        example: None,
        fix: "Correct the file or its permissions, leave it out, or raise the limit with `--max-size`.",
        corrected: None,
    },
};

/// A file without content.
pub static EMPTY_FILE: Rule = Rule {
    id: "NP002",
    name: "empty-file",
    severity: Severity::Warning,
    group: Group::Input,
    kind: Kind::NoEffect,
    section: "S1.7",
    event_reason: None,
    summary: "a file is empty, or says that there are no objects",
    documentation: Documentation {
        what: "A file without content, or with the message `No resources found` of `kubectl`.",
        why: "A command that fails, or that reads the wrong namespace, leaves such a file. Policies that should be in it are missing from the answers.",
        example: Some("No resources found in shop namespace.\n"),
        fix: "Make the file again, or remove it.",
        corrected: None,
    },
};

/// Bytes that are not UTF-8.
pub static INVALID_ENCODING: Rule = Rule {
    id: "NP003",
    name: "invalid-encoding",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Syntax,
    section: "S1.7",
    event_reason: None,
    summary: "a file is not text in an encoding that is read",
    documentation: Documentation {
        what: "Bytes that are neither UTF-8 text nor UTF-16 text with a byte order mark.",
        why: "`kubectl` reads manifests in these encodings. No document of the file is read.",
        example: None,
        fix: "Save the file as UTF-8.",
        corrected: None,
    },
};

/// Text that is neither YAML nor JSON.
pub static INVALID_SYNTAX: Rule = Rule {
    id: "NP004",
    name: "invalid-syntax",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Syntax,
    section: "S1.7",
    event_reason: None,
    summary: "a document is not valid YAML or JSON",
    documentation: Documentation {
        what: "A document that is not valid YAML or JSON. The other documents of the file are read.",
        why: "The document may be a policy, and its content is unknown.",
        example: Some("kind: NetworkPolicy\nmetadata: {name: [web}\n"),
        fix: "Correct the syntax. Render templates first, for example with `helm template`.",
        corrected: None,
    },
};

/// A template that is read in place of what it renders.
pub static UNRENDERED_TEMPLATE: Rule = Rule {
    id: "NP005",
    name: "unrendered-template",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Syntax,
    section: "S1.7",
    event_reason: None,
    summary: "a document is a template that must be rendered first",
    documentation: Documentation {
        what: "A document with values in double braces, such as `{{ .Values.name }}`, in a place that decides about traffic or that makes the \
               document invalid.",
        why: "The values are not known, so it is not known what the document would be.",
        example: Some(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector:\n    matchLabels:\n      app: {{ .Values.app }}\n",
        ),
        fix: "Render the template, for example with `helm template`, and read the result.",
        corrected: None,
    },
};

/// Two objects in one document.
pub static MISSING_SEPARATOR: Rule = Rule {
    id: "NP007",
    name: "missing-separator",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::DuplicateKey,
    section: "S1.7",
    event_reason: None,
    summary: "two objects are in one document because `---` is missing between them",
    documentation: Documentation {
        what: "A document whose top-level mapping has more than one `apiVersion` or `kind`.",
        why: "Only one of the objects counts, with fields of the other one, and tools differ in which one. Neither is read.",
        example: Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec: {podSelector: {}}\n",
        ),
        fix: "Write a line `---` before the second object.",
        corrected: None,
    },
};

/// A web page in place of manifests.
pub static HTML_PAGE: Rule = Rule {
    id: "NP006",
    name: "html-page",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::Syntax,
    section: "S1.7",
    event_reason: None,
    summary: "a file is an HTML page, not a manifest",
    documentation: Documentation {
        what: "Text that begins with `<`, such as a login page or an error page.",
        why: "A download has failed, and the manifests that were meant are missing from the answers.",
        example: Some("<html><body>login</body></html>\n"),
        fix: "Download the manifests again. Check the address and the credentials.",
        corrected: None,
    },
};

/// Aliases that expand to more than is read.
pub static EXCESSIVE_ALIASES: Rule = Rule {
    id: "NP008",
    name: "excessive-aliases",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::TooLarge,
    section: "S1.7",
    event_reason: None,
    summary: "aliases expand to more than can be read",
    documentation: Documentation {
        what: "YAML aliases that expand to millions of values, or to values nested hundreds of levels deep.",
        why: "A few lines of nested aliases can exhaust the memory of every program that expands them.",
        example: None,
        fix: "Write the values out.",
        corrected: None,
    },
};

/// A key that occurs twice in one mapping.
pub static DUPLICATE_KEY: Rule = Rule {
    id: "NP009",
    name: "duplicate-key",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::DuplicateKey,
    section: "S1.7",
    event_reason: None,
    summary: "a key occurs more than once in one mapping",
    documentation: Documentation {
        what: "A mapping that has the same key more than once.",
        why: "Only one of the values counts, and tools differ in which one. A second `ingress` can replace all rules of the first.",
        example: Some(policy!("  podSelector: {}\n  ingress: [{}]\n  ingress: []\n")),
        fix: "Remove one of the keys, or merge the values.",
        corrected: None,
    },
};

/// A list element that is null.
pub static NULL_ELEMENT: Rule = Rule {
    id: "NP010",
    name: "null-element",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::NullElement,
    section: "S1.7",
    event_reason: None,
    summary: "a list element is null",
    documentation: Documentation {
        what: "A list element without a value.",
        why: "The API server may read it as an empty element. An empty ingress rule allows all traffic.",
        example: Some(policy!("  podSelector: {}\n  ingress:\n  -\n")),
        fix: "Write the element, or remove the dash.",
        corrected: None,
    },
};

/// A field that the kind does not have.
pub static UNKNOWN_FIELD: Rule = Rule {
    id: "NP011",
    name: "unknown-field",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::UnknownField,
    section: "S1.7",
    event_reason: None,
    summary: "a field does not exist",
    documentation: Documentation {
        what: "A field that the kind does not have, in the fields that decide about traffic.",
        why: "API servers can drop unknown fields without an error. A mistyped `except` widens access.",
        example: Some(policy!("  podSelector: {}\n  ingres: []\n")),
        fix: "Correct the name of the field.",
        corrected: None,
    },
};

/// A value of another type than the field.
pub static WRONG_TYPE: Rule = Rule {
    id: "NP012",
    name: "wrong-type",
    severity: Severity::Error,
    group: Group::Input,
    kind: Kind::WrongType,
    section: "S1.3",
    event_reason: None,
    summary: "a value has the wrong type",
    documentation: Documentation {
        what: "A value of another type than the field, such as a number where a string is required. Unquoted values have the types of \
               YAML 1.1, as in `kubectl`: `yes` and `on` are booleans.",
        why: "The API server refuses the object.",
        example: Some(policy!("  podSelector: {}\n  policyTypes: Ingress\n")),
        fix: "Write a value of the expected type. Quote a value to make it a string.",
        corrected: None,
    },
};
