//! Objects that stand in others: in lists, in OpenShift Templates and in events of a watch; and what stands there in place of objects.

use super::super::fault::Fault;
use super::super::foreign;
use super::super::kinds;
use super::super::names::nearest;
use super::super::scalar::Scalar;
use super::super::tree::{NodeId, Value};
use super::super::unread::kind_in;
use super::reader::{NO_OBJECTS, TypeMeta};
use super::{Reader, signs};
use crate::diagnostic::rules::{files, objects};
use crate::diagnostic::{ObjectRef, Severity};

/// The annotation of a list in a saved cluster that says what is missing from it, a sentence on each line.
pub const NOT_READ: &str = "netpol.io/not-read";
/// Lists inside lists end here.
pub(super) const DEEPEST_LIST: usize = 4;

/// Where an object stands.
#[derive(Clone, Copy, Default)]
pub(super) struct Within<'m> {
    /// What it is if it does not say so, as the list that it is in states it.
    pub inherited: Option<&'m TypeMeta>,
    /// How many lists it is in.
    pub depth: usize,
    /// Its path in the object that it is in; `None` where something else than an object can stand too.
    pub path: Option<&'m str>,
}

/// The types of events of a watch.
const EVENTS: [&str; 5] = ["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"];

impl Reader<'_, '_, '_> {
    /// Reads what is in a list, a Template or an event of a watch. Returns whether the node is one.
    pub(super) fn holds_objects(&mut self, node: NodeId, meta: &TypeMeta, depth: usize) -> bool {
        if let Some(event) = self.event(node, meta) {
            self.of_event(node, event, depth);
            return true;
        }
        let is_template = meta.kind == "Template" && ["v1", "template.openshift.io/v1"].contains(&meta.api_version.as_str());
        if !is_template && !self.is_list(node, meta) {
            return false;
        }
        self.loader.assembly.objects += 1;
        if is_template {
            let is_in_template = std::mem::replace(&mut self.is_in_template, true);
            self.items(node, "objects", meta, None, depth);
            self.is_in_template = is_in_template;
        } else {
            self.list(node, meta, depth);
        }
        true
    }

    /// Whether something is a list of objects. Custom resources can have kinds that end as those of lists do, and items of their own.
    fn is_list(&self, node: NodeId, meta: &TypeMeta) -> bool {
        let items = self.tree.field(node, "items");
        let Some(element) = meta.kind.strip_suffix("List") else {
            return meta.kind.is_empty() && items.is_some_and(|items| self.are_complete(items, true));
        };
        let is_known = ["", "Template"].contains(&element) || kinds::named(element).is_some() || foreign::is_policy_name(element);
        // Other files have a `kind` too.
        let is_typed = !meta.api_version.is_empty();
        match items {
            None => is_typed && is_known,
            Some(items) if is_known || foreign::is_upstream(meta.group()) => is_typed || self.may_hold_object(items, 0),
            Some(items) => self.may_hold_object(items, 0) || (is_typed && !self.tree.has_field(node, &["items"])),
        }
    }

    /// Whether objects of a list state what they are: all of them, or one at least.
    fn are_complete(&self, items: NodeId, is_one_enough: bool) -> bool {
        let Value::Sequence(items) = self.tree.value(items) else { return false };
        let states = |item: &NodeId| ["apiVersion", "kind"].iter().all(|field| self.tree.has_field(*item, &[field]));
        if is_one_enough { items.iter().any(states) } else { items.iter().all(states) }
    }

    fn list(&mut self, node: NodeId, meta: &TypeMeta, depth: usize) {
        self.page(node, meta);
        self.not_read(node);
        let missing = [("kind", meta.kind.is_empty()), ("apiVersion", meta.api_version.is_empty())];
        let Some((missing, _)) = missing.into_iter().find(|(_, is_missing)| *is_missing) else {
            let inherited = meta.kind.strip_suffix("List").filter(|kind| !kind.is_empty());
            let inherited = inherited.map(|kind| TypeMeta { api_version: meta.api_version.clone(), kind: kind.to_owned() });
            return self.items(node, "items", meta, inherited.as_ref(), depth);
        };
        let is_known = self.tree.field(node, "items").is_none_or(|items| self.are_complete(items, false));
        let (severity, help) = if is_known {
            (Severity::Warning, "its items state what they are, and are read")
        } else {
            (Severity::Error, "add `apiVersion` and `kind`")
        };
        let fault = Fault::new(&objects::MISSING_API_VERSION_OR_KIND, &missing, format!("the list has no `{missing}`"));
        self.report(severity, node, &ObjectRef::unnamed(&meta.kind), fault.at(node).help(help));
        self.items(node, "items", meta, None, depth);
    }

    /// Reads the objects in a field of an object.
    fn items(&mut self, node: NodeId, field: &'static str, meta: &TypeMeta, inherited: Option<&TypeMeta>, depth: usize) {
        let tree = self.tree;
        self.repeated_keys(node, &meta.kind);
        self.other_fields(node, field, meta);
        let Some(items) = tree.field(node, field) else { return };
        match tree.value(items) {
            Value::Sequence(items) if depth < DEEPEST_LIST => {
                for (i, item) in items.iter().enumerate() {
                    let path = format!("{field}[{i}]");
                    if tree.is_null(*item) {
                        let message = "found nothing (`null`), expected an object";
                        self.fault(*item, &meta.kind, Fault::new(&files::NULL_ELEMENT, &path, message).at(*item));
                    }
                    self.object(*item, Within { inherited, depth: depth + 1, path: Some(&path) });
                }
            }
            _ if tree.is_null(items) => {}
            _ => self.too_deep(items, field, &ObjectRef::unnamed(&meta.kind)),
        }
    }

    /// Reports keys that occur more than once: what one of them holds is not read.
    pub(super) fn repeated_keys(&mut self, node: NodeId, kind: &str) {
        for (name, key, first) in self.tree.repeated_keys(node) {
            let fault = Fault::new(&files::DUPLICATE_KEY, &name, format!("duplicate key `{name}`")).at(key);
            let related = Some((first, "also here".to_owned()));
            self.fault(node, kind, Fault { related, ..fault.help("remove one of the keys, or merge their values") });
            self.set_aside(key, None);
        }
    }

    /// Reports fields beside the items that hold what the items should, such as `Items`.
    fn other_fields(&mut self, node: NodeId, field: &str, meta: &TypeMeta) {
        let tree = self.tree;
        let is_own = |name: &str| ["apiVersion", "kind", "metadata", field].contains(&name);
        let is_of_template = |name: &str| field == "objects" && ["parameters", "labels", "message"].contains(&name);
        // What the group of a custom resource adds to its lists is its own.
        let is_strict = foreign::is_upstream(meta.group()) || meta.kind == "Template";
        for (name, key, value) in tree.entries(node) {
            if is_own(&name) || is_of_template(&name) || tree.is_null(value) {
                continue;
            }
            let near = nearest(&name, [field]);
            let is_lost = near.is_some() || (is_strict && (name == "spec" || self.may_hold_object(value, 0)));
            if is_lost {
                let fault = Fault::new(&files::UNKNOWN_FIELD, &name, format!("unknown field `{name}`")).at(key);
                let help = format!("the objects are in `{field}`");
                let fault = if near.is_some() { fault.did_you_mean(near) } else { fault.help(help) };
                self.fault(node, &meta.kind, fault);
                self.set_aside(key, None);
            }
        }
    }

    /// Reports a list that is one page of several.
    fn page(&mut self, node: NodeId, meta: &TypeMeta) {
        let tree = self.tree;
        let Some(metadata) = tree.field(node, "metadata") else { return };
        let is_set = |name: &str| match tree.field(metadata, name).map(|value| tree.scalar(value)) {
            None | Some(Some(Scalar::Null | Scalar::Int(0) | Scalar::Text("" | "0"))) => false,
            Some(_) => true,
        };
        let Some(field) = ["continue", "remainingItemCount"].into_iter().find(|name| is_set(name)) else { return };
        let count = tree.field(metadata, "remainingItemCount").and_then(|count| tree.scalar(count));
        let rest = match count {
            Some(Scalar::Int(count)) if count > 0 => format!("{count} more objects are not in it"),
            _ => "more objects are not in it".to_owned(),
        };
        let fault =
            Fault::new(&objects::PARTIAL_LIST, &format!("metadata.{field}"), format!("the list is one page of several: {rest}"));
        let help = "list all objects, for example with `kubectl get --chunk-size=0`, or without `limit`";
        self.report(Severity::Warning, node, &ObjectRef::unnamed(&meta.kind), fault.help(help));
        let origin = self.origin(node);
        self.loader.assembly.partial_lists.push(origin);
    }

    /// Remembers what whoever saved a cluster could not read.
    fn not_read(&mut self, node: NodeId) {
        let tree = self.tree;
        let annotations = tree.field(node, "metadata").and_then(|metadata| tree.field(metadata, "annotations"));
        let text = annotations.and_then(|annotations| tree.text(annotations, NOT_READ)).unwrap_or_default();
        self.loader.assembly.not_read.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned));
    }

    /// The type of an event of a watch, as `kubectl get --watch --output-watch-events` prints it.
    fn event(&self, node: NodeId, meta: &TypeMeta) -> Option<&'static str> {
        let is_one = ["", "WatchEvent"].contains(&meta.kind.as_str()) && self.tree.field(node, "object").is_some();
        let written = self.tree.text(node, "type").filter(|_| is_one)?;
        EVENTS.into_iter().find(|event| *event == written)
    }

    fn of_event(&mut self, node: NodeId, event: &str, depth: usize) {
        let Some(object) = self.tree.field(node, "object") else { return };
        self.repeated_keys(node, "");
        match event {
            // It holds a version for the next watch, and no object.
            "BOOKMARK" => self.count("BOOKMARK events of a watch"),
            "DELETED" => {
                let message = "this event of a watch deletes an object, which may stand before it";
                let fault = Fault::new(&objects::DELETED_OBJECT, &"type", message);
                self.fault(
                    node,
                    "",
                    fault.help("read a list of the objects that exist, as `kubectl get` prints without `--watch`"),
                );
                self.set_aside(object, self.tree.text(object, "kind").map(str::to_owned));
            }
            _ if depth < DEEPEST_LIST => {
                let is_update = std::mem::replace(&mut self.is_update, event == "MODIFIED");
                self.object(object, Within { inherited: None, depth: depth + 1, path: Some("object") });
                self.is_update = is_update;
            }
            _ => self.too_deep(object, "object", &ObjectRef::unnamed("")),
        }
    }

    /// What is no mapping, and so no object: text in place of one is an error, and anything else where only objects can stand.
    pub(super) fn no_mapping(&mut self, node: NodeId, within: Within<'_>) {
        let tree = self.tree;
        let (text, found) = match (tree.value(node), tree.scalar(node)) {
            (Value::Scalar { text, .. }, Some(Scalar::Text(_))) => (text.as_ref(), "text"),
            (Value::Sequence(_), _) => ("", "a list"),
            _ => ("", "a number or a boolean"),
        };
        let path = within.path.unwrap_or_default();
        if let Some((severity, fault)) = signs::of_text(text, within.path) {
            self.report(severity, node, &ObjectRef::unnamed(""), fault.at(node));
            if severity == Severity::Error {
                self.set_aside(node, kind_in(text).map(str::to_owned));
                return;
            }
        } else if within.path.is_some() {
            let fault = Fault::new(&objects::INVALID_LIST, &path, format!("found {found}, expected an object"));
            self.fault(node, "", fault.at(node));
            self.set_aside(node, None);
            return;
        }
        self.count(NO_OBJECTS);
        self.leave_out(node);
    }

    /// Whether something is an object or a list of them, or should be.
    pub(super) fn may_hold_object(&self, node: NodeId, depth: usize) -> bool {
        match self.tree.value(node) {
            Value::Mapping(_) => ["kind", "apiVersion", "metadata"].iter().any(|field| self.tree.field(node, field).is_some()),
            Value::Sequence(items) if depth <= DEEPEST_LIST => items.iter().any(|item| self.may_hold_object(*item, depth + 1)),
            // An alias may lead back to the list. What is nested deeper counts as something, so that it is reported.
            Value::Sequence(_) => true,
            Value::Scalar { text, .. } => signs::is_text_of_object(text),
            Value::Alias(_) => false,
        }
    }

    /// Reports what is no list of objects.
    pub(super) fn too_deep(&mut self, node: NodeId, field: &'static str, object: &ObjectRef) {
        let message = "expected a list of objects, and no lists nested deeper than 4";
        let fault = Fault::new(&objects::INVALID_LIST, &field, message).at(node);
        self.report(Severity::Error, node, object, fault);
        self.set_aside(node, None);
    }
}
