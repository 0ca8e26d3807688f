//! What shows that a document or an object is not what it is read as: a template, several objects without a mark between them, a web page,
//! an answer of an API server, or a patch.

use super::super::fault::{Correction, Fault};
use super::super::scalar::Scalar;
use super::super::tree::{NodeId, Tree, Value};
use super::super::unread::{Unread, kind_in};
use super::placeholders::{self, IN_TEMPLATES};
use crate::diagnostic::rules::{files, objects};
use crate::diagnostic::{Rule, Severity};

/// Keys of strategic merge patches, the second two with the name of a list after them.
///
/// Source: k8s.io/apimachinery/pkg/util/strategicpatch.
const DIRECTIVES: [&str; 2] = ["$patch", "$retainKeys"];
const DIRECTIVES_FOR_LISTS: [&str; 2] = ["$setElementOrder/", "$deleteFromPrimitiveList/"];

const RENDER: &str = "render it first, for example with `helm template`";
pub(super) const BUILD: &str = "build it together with its base, for example with `kubectl kustomize`";

/// The rule, the message and the help of a document that is not valid YAML. `kind` is the kind that its text names.
pub(super) fn of_invalid(document: &str, error: &str, kind: Option<&str>) -> (&'static Rule, String, Option<String>) {
    if is_html(document) {
        return (&files::HTML_PAGE, HTML.to_owned(), Some(DOWNLOAD.to_owned()));
    }
    if let Some(error) = error_in(document) {
        return (&objects::ERROR_ANSWER, of_error(error), Some(REPEAT.to_owned()));
    }
    if ["{{", "{%"].iter().any(|braces| document.contains(braces)) {
        return (
            &files::UNRENDERED_TEMPLATE,
            format!("this document is a template, which is not valid YAML: {error}"),
            Some(RENDER.to_owned()),
        );
    }
    let unread = Unread { file: String::new(), line: 0, kind: kind.map(str::to_owned) };
    let help = match kind {
        _ if document.contains("${") => Some(placeholders::RENDER.to_owned()),
        Some(kind) if unread.may_be_policy() => {
            Some(format!("its text names the kind `{kind}`; until it can be read, answers may allow what it denies"))
        }
        _ => None,
    };
    (&files::INVALID_SYNTAX, format!("this document is not valid YAML: {error}"), help)
}

const HTML: &str = "this is an HTML page, not a manifest";
const DOWNLOAD: &str = "download the manifests again; the server may require a login";

const REPEAT: &str = "correct the cause, and make the dump again";

/// Kinds with columns or metadata of objects.
///
/// Source: <https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>.
const IN_PART: [&str; 3] = ["Table", "PartialObjectMetadata", "PartialObjectMetadataList"];
const WHOLE: &str = "ask for the objects themselves, for example with `kubectl get -o yaml`";

/// How lines begin with which kubectl and other commands fail.
const COMMAND_ERRORS: [&str; 4] =
    ["Error from server", "Unable to connect to the server", "The connection to the server", "error: the server doesn't have"];

/// Whether a line is what kubectl prints when it fails, wherever the line is.
fn is_command_error(line: &str) -> bool {
    // `E0102 03:04:05.678901` begins a line of its log.
    let is_logged = || {
        let mut words = line.split(' ');
        let day = words.next().and_then(|word| word.strip_prefix('E'));
        let is_day = day.is_some_and(|day| day.len() == 4 && day.parse::<u16>().is_ok());
        is_day && words.next().is_some_and(|time| time.matches(':').count() == 2)
    };
    COMMAND_ERRORS.iter().any(|start| line.starts_with(start)) || is_logged()
}

/// Whether a line is what a shell prints that does not find a program.
fn is_shell_error(line: &str) -> bool {
    let is_of_shell = || line.split(' ').next().is_some_and(|word| word.ends_with("sh:"));
    line.ends_with(": command not found") || (is_of_shell() && line.contains("not found"))
}

/// Whether a line, with nothing else, is what a command prints when it fails.
fn is_error_alone(line: &str) -> bool {
    let message = ["error: ", "Error: "].iter().find_map(|start| line.strip_prefix(start));
    message.is_some_and(|message| message.trim().contains(' ')) || is_command_error(line) || is_shell_error(line)
}

/// The line of a text that a command has printed when it failed.
fn error_in(text: &str) -> Option<&str> {
    let first = text.lines().find(|line| !line.trim().is_empty() && *line != "---").filter(|line| is_error_alone(line));
    text.lines().find(|line| is_command_error(line)).or(first)
}

fn of_error(line: &str) -> String {
    format!("this is the error of a command, not an object: {}", line.trim())
}

/// The fault of a mapping that YAML makes of the error of a command, alone, or before or after the fields of an object.
pub(super) fn of_command(tree: &Tree<'_>) -> Option<Fault> {
    let is_alone = tree.written_entries(tree.root()).nth(1).is_none();
    tree.written_entries(tree.root()).find_map(|(name, key, value)| {
        let text = if let Some(Scalar::Text(text)) = tree.scalar(value) { text } else { "" };
        let line = format!("{name}: {text}");
        let is_error = is_command_error(&line) || (is_alone && is_error_alone(&line));
        is_error.then(|| Fault::new(&objects::ERROR_ANSWER, &"", of_error(&line)).at(key).help(REPEAT))
    })
}

/// The fault of text in place of an object; `path` is where it stands in a list. `None` for text that could be anything.
pub(super) fn of_text(text: &str, path: Option<&str>) -> Option<(Severity, Fault)> {
    if is_text_of_object(text) {
        let kind = kind_in(text).unwrap_or_default();
        let message = format!("found text that describes a {kind}, expected an object");
        let fault = Fault::new(&objects::OBJECT_AS_TEXT, &path.unwrap_or_default(), message);
        return Some((Severity::Error, fault.help("write the object itself in place of its text")));
    }
    if path.is_some() {
        return None;
    }
    if let Some(line) = error_in(text) {
        return Some((Severity::Error, Fault::new(&objects::ERROR_ANSWER, &"", of_error(line)).help(REPEAT)));
    }
    text.starts_with("No resources found").then(|| {
        let fault = Fault::new(&files::EMPTY_FILE, &"", format!("a command found no objects: {text}"));
        (Severity::Warning, fault.help("check that this is what was to be read"))
    })
}

/// Whether a text describes an object, so that one was meant in its place.
pub(super) fn is_text_of_object(text: &str) -> bool {
    text.contains("apiVersion") && kind_in(text).is_some()
}

fn is_html(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    text.strip_prefix('<').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic() || ['!', '?'].contains(&c)))
}

/// The fault of a document that is read for nothing, and the kind that it names.
pub(super) fn of_document(tree: &Tree<'_>, text: &str) -> Option<(Option<String>, Fault)> {
    let root = tree.root();
    let document = text_of(tree, text, root);
    if is_html(document) {
        return Some((None, Fault::new(&files::HTML_PAGE, &"", HTML).at(root).help(DOWNLOAD)));
    }
    let kind = || kind_in(document).map(str::to_owned);
    let is_object = || ["kind", "apiVersion"].iter().any(|field| tree.field(root, field).is_some());
    if let Some((mapping, key)) = tree.collection_key()
        && is_object()
    {
        let braces = [mapping, key].into_iter().find(|node| text_of(tree, text, *node).starts_with("{{"));
        let fault = match braces {
            Some(braces) => Fault::new(&files::UNRENDERED_TEMPLATE, &"", "this document is a template").at(braces).help(RENDER),
            None => Fault::new(&files::WRONG_TYPE, &"", "found a mapping or a list as a key, expected a string").at(key),
        };
        return Some((kind(), fault));
    }
    second_object(tree, root).map(|(key, first)| {
        let at = tree.position(key);
        let message = format!("two objects run together here: `---` is missing before line {}", at.line);
        let fault = Fault::new(&files::MISSING_SEPARATOR, &"", message).at(key).help("add a line `---` before the second object");
        let related = Some((first, "the first object begins here".to_owned()));
        let correction = (at.column == 1).then(|| Correction::Before("---\n".to_owned()));
        (kind(), Fault { related, correction, ..fault })
    })
}

fn text_of<'s>(tree: &Tree<'_>, text: &'s str, node: NodeId) -> &'s str {
    let (start, end) = tree.position(node).bytes;
    text.get(start..end).unwrap_or_default()
}

/// The first key of a second object in a mapping, and the first key of the mapping.
fn second_object(tree: &Tree<'_>, root: NodeId) -> Option<(NodeId, NodeId)> {
    let count = |wanted: &str| tree.written_entries(root).filter(|(name, ..)| name == wanted).count();
    if count("apiVersion") < 2 && count("kind") < 2 {
        return None;
    }
    let keys: Vec<_> = tree.written_entries(root).map(|(name, key, _)| (name, key)).collect();
    let is_repeated = |at: usize, name: &str| keys.iter().take(at).any(|(before, _)| before == name);
    let (_, (_, second)) = keys.iter().enumerate().find(|(at, (name, _))| is_repeated(*at, name))?;
    keys.first().map(|(_, first)| (*second, *first))
}

/// The fault of what API servers answer without the objects.
pub(super) fn of_answer(tree: &Tree<'_>, node: NodeId, api_version: &str, kind: &str) -> Option<Fault> {
    if (api_version, kind) == ("v1", "Status") {
        return Some(of_status(tree, node));
    }
    let is_in_part = super::super::kinds::group_of(api_version) == "meta.k8s.io" && IN_PART.contains(&kind);
    let message = format!("this is a {kind}, which API servers answer in place of the whole objects");
    is_in_part.then(|| Fault::new(&objects::ERROR_ANSWER, &"", message).at(node).help(WHOLE))
}

/// The fault of a `Status`.
fn of_status(tree: &Tree<'_>, node: NodeId) -> Fault {
    let said =
        ["message", "reason", "status"].into_iter().find_map(|field| tree.text(node, field).filter(|text| !text.is_empty()));
    let message = match (tree.text(node, "status"), said) {
        (Some("Success"), said) => format!("this is a response of the API server, not an object: {}", said.unwrap_or_default()),
        (_, Some(said)) => format!("this is an error response of the API server: {said}"),
        (_, None) => "this is an error response of the API server".to_owned(),
    };
    Fault::new(&objects::ERROR_ANSWER, &"", message).at(node).help(REPEAT)
}

/// Keys of objects, of policies, and of tools that deliver objects, in lower case. Where one of them is, a document may be an object in
/// another wrapping, or make some.
const OF_OBJECTS: [&str; 15] = [
    "apiversion",
    "chart",
    "charts",
    "containers",
    "egress",
    "helm",
    "ingress",
    "ipblock",
    "items",
    "kind",
    "kustomize",
    "metadata",
    "object",
    "podselector",
    "spec",
];
/// Parts of texts with the same meaning: objects are also written as text in others.
const IN_TEXTS: [&str; 2] = ["apiversion", "networkpolic"];
/// Keys of messages about errors, at the top.
const OF_ERRORS: [&str; 6] = ["code", "error", "errors", "message", "reason", "status"];

/// Whether a document that is no object is clearly the file of another tool: a mapping or a list in which nothing says that it has
/// anything of an object, and that is no message about an error.
pub(super) fn is_of_other_tool(tree: &Tree<'_>, node: NodeId) -> bool {
    let is_collection = match tree.value(node) {
        Value::Mapping(entries) => !entries.is_empty(),
        Value::Sequence(items) => !items.is_empty(),
        Value::Scalar { .. } | Value::Alias(_) => false,
    };
    let is_error = || tree.entries(node).iter().any(|(key, ..)| OF_ERRORS.contains(&&*key.to_lowercase()));
    let is_of_object = |node: NodeId| {
        let Some(text) = tree.key(node).map(|text| text.to_lowercase()) else { return false };
        OF_OBJECTS.contains(&text.as_str()) || IN_TEXTS.iter().any(|part| text.contains(part))
    };
    is_collection && !is_error() && !tree.descendants([node]).any(is_of_object)
}

/// The fault of an object with directives of a patch anywhere.
pub(super) fn of_patch(tree: &Tree<'_>, node: NodeId) -> Option<Fault> {
    if !tree.has_dollar_key() {
        return None;
    }
    let mut todo = vec![node];
    while let Some(node) = todo.pop() {
        if tree.is_alias(node) {
            continue;
        }
        if let Value::Sequence(items) = tree.value(node) {
            todo.extend(items);
        }
        for (name, key, value) in tree.written_entries(node) {
            if DIRECTIVES.contains(&name.as_ref()) || DIRECTIVES_FOR_LISTS.iter().any(|prefix| name.starts_with(prefix)) {
                let message = format!("this is a patch, not an object: it has `{name}`");
                return Some(Fault::new(&objects::PATCH_AS_OBJECT, &"", message).at(key).help(BUILD));
            }
            todo.push(value);
        }
    }
    None
}

/// The fault of a workload that an API server refuses because it has no selector.
pub(super) fn of_workload(tree: &Tree<'_>, node: NodeId, api_version: &str, kind: &str) -> Option<Fault> {
    let is_required = ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"].contains(&kind)
        && ["apps/v1", "apps/v1beta2"].contains(&api_version);
    if !is_required || tree.has_field(node, &["spec", "selector"]) {
        return None;
    }
    let fault = Fault::new(&objects::MISSING_SELECTOR, &"spec.selector", "found nothing, expected a label selector");
    Some(fault.help(format!("this looks like a patch: {BUILD}; or add `spec.selector`")))
}

/// Leaves one of the faults that values of a template cause: there is no other to correct until it is rendered.
pub(super) fn join_template_faults(faults: &mut Vec<Fault>) {
    let mut is_first = true;
    faults.retain(|fault| !is_caused_by_template(fault) || std::mem::take(&mut is_first));
}

/// The fault, as one of a template if a value of a template causes it.
pub(super) fn with_template_named(fault: Fault) -> Fault {
    if !is_caused_by_template(&fault) {
        return fault;
    }
    let message = format!("this document is a template: {}", fault.message);
    Fault { rule: &files::UNRENDERED_TEMPLATE, message, help: Some(RENDER.to_owned()), correction: None, ..fault }
}

fn is_caused_by_template(fault: &Fault) -> bool {
    placeholders::in_message(&fault.message).is_some_and(|found| found.starts_with(IN_TEMPLATES))
}
