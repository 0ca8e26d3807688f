//! Reads the objects of one document: which of them matter, and what is said about the others.
//!
//! Dispatch is by apiVersion and kind, over the table of `kinds`. Kinds that do not matter are counted; policies of other engines
//! are remembered, because answers must say that they were not evaluated.

use std::hash::Hash;

use super::super::claims::{Outcome, Rank};
use super::super::decode::{Faults, decode};
use super::super::fault::{Correction, Document, Fault};
use super::super::foreign::{self, Reach};
use super::super::hooks;
use super::super::kinds;
use super::super::names::nearest;
use super::super::scalar::Scalar;
use super::super::served::{Standing, standing};
use super::super::snapshot::{Assembly, Foreign};
use super::super::tree::{NodeId, Tree, Value};
use super::super::unread::Unread;
use super::super::wire;
use super::items::{DEEPEST_LIST, Within};
use super::{Loader, Source, placeholders, signs};
use crate::diagnostic::rules::{files, objects};
use crate::diagnostic::{Diagnostic, ObjectRef, Place, Related, Severity};
use crate::model::{ObjectKey, Origin};

/// How documents are counted that are something else.
pub(super) const NO_OBJECTS: &str = "documents that are no Kubernetes objects";

/// The apiVersion and kind of an object.
#[derive(Clone)]
pub(super) struct TypeMeta {
    pub api_version: String,
    pub kind: String,
}

impl TypeMeta {
    pub(super) fn group(&self) -> &str {
        kinds::group_of(&self.api_version)
    }
}

/// Reads the objects of one document.
pub(in super::super) struct Reader<'l, 't, 's> {
    pub(in super::super) loader: &'l mut Loader,
    pub(in super::super) tree: &'t Tree<'s>,
    file: &'l str,
    text: &'s str,
    /// Whether the object being read is in a Template.
    pub(super) is_in_template: bool,
    /// Whether the object being read is probably a patch.
    pub(super) is_patch: bool,
    /// Whether the object being read is the new state of one that may stand before it in the file.
    pub(super) is_update: bool,
}

impl<'l, 't, 's> Reader<'l, 't, 's> {
    pub(super) fn new(loader: &'l mut Loader, tree: &'t Tree<'s>, file: &'l str, text: &'s str) -> Self {
        Self { loader, tree, file, text, is_in_template: false, is_patch: false, is_update: false }
    }
}

impl<'t> Reader<'_, 't, '_> {
    /// Reads the document.
    pub(super) fn document(mut self) {
        let root = self.tree.root();
        if let Some((kind, fault)) = signs::of_document(self.tree, self.text) {
            self.fault(root, kind.as_deref().unwrap_or_default(), fault);
            self.set_aside(root, kind);
            return;
        }
        if let Some(fault) = signs::of_command(self.tree) {
            self.fault(root, "", fault);
            self.set_aside(root, None);
            if self.tree.text(root, "kind").is_none() {
                return;
            }
        }
        self.object(root, Within::default());
    }

    pub(super) fn object(&mut self, node: NodeId, within: Within<'_>) {
        let tree = self.tree;
        match tree.value(node) {
            _ if tree.is_null(node) => return,
            Value::Mapping(_) => {}
            Value::Sequence(items) if self.may_hold_object(node, 0) => {
                if within.depth < DEEPEST_LIST {
                    let inside = Within { inherited: None, depth: within.depth + 1, path: None };
                    items.iter().for_each(|item| self.object(*item, inside));
                } else {
                    self.too_deep(node, "", &ObjectRef::unnamed(""));
                }
                return;
            }
            _ => {
                self.no_mapping(node, within);
                return;
            }
        }
        let text = |name| tree.text(node, name).map(str::to_owned).filter(|t| !t.is_empty());
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let is_complete = api_version.is_some() && kind.is_some();
        let inherited = within.inherited;
        let meta = TypeMeta {
            api_version: api_version.or_else(|| inherited.map(|i| i.api_version.clone())).unwrap_or_default(),
            kind: kind.or_else(|| inherited.map(|i| i.kind.clone())).unwrap_or_default(),
        };
        if let Some(fault) = signs::of_answer(tree, node, &meta.api_version, &meta.kind) {
            self.fault(node, &meta.kind, fault);
            self.set_aside(node, None);
            return;
        }
        if self.holds_objects(node, &meta, within.depth) {
            return;
        }
        if !is_complete && inherited.is_none() && !self.says_what_it_is(node, &meta, within) {
            return;
        }
        self.loader.assembly.objects += 1;
        self.dispatch(node, &meta);
    }

    fn dispatch(&mut self, node: NodeId, meta: &TypeMeta) {
        let reading = kinds::reading(&meta.api_version, &meta.kind);
        let is_from_file = self.loader.source == Source::File;
        if self.loader.source == Source::Stored {
            if let Some(kind) = reading.filter(|kind| kind.is_policy()) {
                (kind.read)(self, node, kind);
            }
            return;
        }
        if is_from_file && !self.is_served(node, meta, reading) {
            return;
        }
        if is_from_file && self.is_patch_with_directives(node, meta, reading) {
            return;
        }
        let lacks_selector = is_from_file && self.lacks_selector(node, meta);
        self.is_patch = lacks_selector || (is_from_file && reading.is_some() && self.lacks_containers(node, meta));
        match reading {
            // Without a template there is nothing to read.
            Some(_) if lacks_selector && !self.tree.has_field(node, &["spec", "template"]) => {}
            Some(kind) => (kind.read)(self, node, kind),
            None => self.other(node, meta),
        }
        self.is_patch = false;
    }

    /// Whether an object that decides about traffic has directives of a patch. Reports it.
    fn is_patch_with_directives(&mut self, node: NodeId, meta: &TypeMeta, reading: Option<&'static kinds::Kind>) -> bool {
        let Some(fault) = signs::of_patch(self.tree, node) else { return false };
        if reading.is_none() && !self.tree.has_field(node, &["spec", "template"]) {
            return false;
        }
        let object = self.object_ref(node, meta);
        self.report(Severity::Error, node, &object, fault);
        self.set_aside(node, Some(meta.kind.clone()));
        true
    }

    /// Whether an API server may serve the kind under its apiVersion. Reports it if not.
    fn is_served(&mut self, node: NodeId, meta: &TypeMeta, reading: Option<&'static kinds::Kind>) -> bool {
        let (version, kind) = (&meta.api_version, &meta.kind);
        let (severity, current, message, help) = match standing(version, kind) {
            // A policy without apiVersion is read, to find its other faults.
            _ if version.is_empty() => return true,
            Some(Standing::Removed(current)) if reading.is_some() => {
                let message = format!("found `{version}`, which API servers no longer serve, expected `{current}`");
                (
                    Severity::Warning,
                    current,
                    message,
                    format!("write `apiVersion: {current}`, and check the fields of the object"),
                )
            }
            Some(Standing::Removed(current) | Standing::Never(current)) => {
                let message = format!("found `{version}`, expected `{current}`");
                let help = format!("no API server serves a {kind} under `{version}`; write `apiVersion: {current}`");
                (Severity::Error, current, message, help)
            }
            Some(Standing::Served | Standing::Custom) | None => return true,
        };
        let fault = Fault::new(&objects::UNSUPPORTED_API_VERSION, &"apiVersion", message)
            .help(help)
            .correction(Correction::Value(current.to_owned()));
        let fault = Fault { node: self.tree.field(node, "apiVersion"), ..fault };
        let object = if severity == Severity::Warning { self.object_ref(node, meta) } else { ObjectRef::unnamed(kind) };
        self.report(severity, node, &object, fault);
        if severity == Severity::Error {
            self.set_aside(node, Some(kind.clone()));
        }
        severity == Severity::Warning
    }

    /// Whether a workload has no selector, which API servers require. Reports it.
    fn lacks_selector(&mut self, node: NodeId, meta: &TypeMeta) -> bool {
        let Some(fault) = signs::of_workload(self.tree, node, &meta.api_version, &meta.kind) else { return false };
        let object = self.object_ref(node, meta);
        self.report(Severity::Error, node, &object, fault);
        true
    }

    /// Reports a document without apiVersion or kind, unless it is no Kubernetes object at all.
    fn says_what_it_is(&mut self, node: NodeId, meta: &TypeMeta, within: Within<'_>) -> bool {
        let has = |field: &str| self.tree.field(node, field).is_some();
        // Other files have a `kind` or an `apiVersion` too, such as the values and the Chart.yaml of Helm.
        let has_body = if meta.kind.is_empty() && meta.api_version.is_empty() {
            has("spec") && self.tree.has_field(node, &["metadata", "name"])
        } else {
            has("metadata") || has("spec")
        };
        let is_item = within.path.is_some();
        let missing = if meta.kind.is_empty() { "kind" } else { "apiVersion" };
        let known = kinds::named(&meta.kind);
        let written = self.tree.field(node, missing).filter(|value| !self.tree.is_null(*value));
        let is_of_kubernetes = missing == "kind" || known.is_some() || written.is_some() || foreign::is_policy_name(&meta.kind);
        if !(is_item || (has_body && is_of_kubernetes)) {
            self.count(if has_body { &meta.kind } else { NO_OBJECTS });
            self.leave_out(node);
            return false;
        }
        let help = known.and_then(|kind| kind.groups.first()).map(|group| match *group {
            "" => "add `apiVersion: v1`".to_owned(),
            group => format!("add `apiVersion: {group}/v1`"),
        });
        let message = match written.map(|value| self.tree.scalar(value)) {
            Some(Some(Scalar::Text(""))) => format!("`{missing}` is empty"),
            Some(_) => format!("`{missing}` is not a string"),
            None if is_item => format!("the object has no `{missing}`"),
            None => format!("the document has no `{missing}`"),
        };
        let fault = Fault::new(&objects::MISSING_API_VERSION_OR_KIND, &missing, message).at(written.unwrap_or(node));
        self.fault(node, &meta.kind, Fault { help, ..fault });
        // A policy without apiVersion is read all the same, to find its other faults.
        let is_read = known.is_some_and(kinds::Kind::is_policy);
        if !is_read {
            self.set_aside(node, Some(meta.kind.clone()).filter(|kind| !kind.is_empty()));
        }
        is_read
    }

    /// An object that is not read: another engine's policy, a mistyped kind, or something that does not matter.
    fn other(&mut self, node: NodeId, meta: &TypeMeta) {
        let (group, kind) = (meta.group(), meta.kind.as_str());
        let reach = foreign::reach(group, kind).filter(|_| foreign::filters(self.tree, node, group, kind));
        let is_policy = kinds::named(kind).is_some_and(kinds::Kind::is_policy);
        if reach.is_some() || (is_policy && !foreign::is_upstream(group)) {
            self.foreign(node, meta, reach.unwrap_or(Reach::Namespace));
            return;
        }
        if [kind, &meta.api_version].into_iter().any(|text| placeholders::first(text).is_some()) {
            let message = format!("found the kind `{kind}` of `{}`, expected a kind and an apiVersion", meta.api_version);
            self.fault(node, "", Fault::new(&objects::UNKNOWN_KIND, &"kind", message));
            self.set_aside(node, None);
            return;
        }
        let near = match self.tree.field(node, "items") {
            Some(items) if self.may_hold_object(items, 0) => Some("List"),
            _ => nearest(kind, kinds::all().map(|kind| kind.name)),
        };
        if let Some(near) = near
            && foreign::is_upstream(group)
            && near != kind
            && !foreign::NEIGHBOURS.contains(&kind)
        {
            let message = format!("`{}` has no kind `{kind}`", meta.api_version);
            let fault = Fault::new(&objects::UNKNOWN_KIND, &"kind", message).did_you_mean(Some(near));
            self.fault(node, kind, Fault { node: self.tree.field(node, "kind"), ..fault });
            self.set_aside(node, Some(near.to_owned()).filter(|near| near != "List"));
            return;
        }
        if kinds::workload::read_other(self, node, &meta.api_version, kind) {
            return;
        }
        let label = if meta.api_version.is_empty() { kind.to_owned() } else { format!("{kind}.{}", meta.api_version) };
        self.count(&label);
    }

    fn foreign(&mut self, node: NodeId, meta: &TypeMeta, reach: Reach) {
        self.repeated_keys(node, &meta.kind);
        let metadata = self.tree.field(node, "metadata");
        let text = |name| metadata.and_then(|m| self.tree.text(m, name)).map(str::to_owned);
        let own = text("namespace").unwrap_or_else(|| self.loader.namespace.clone());
        let own = Some(own).filter(|_| reach != Reach::Cluster);
        if !self.counts_by_text(node, &meta.api_version, &meta.kind, own.as_deref(), &text("name").unwrap_or_default()) {
            return;
        }
        let namespace = match reach {
            // Where nothing names the namespace, the policy may be meant for any.
            Reach::Namespace => text("namespace").or_else(|| self.loader.given_namespace()),
            Reach::Cluster => None,
            Reach::Unknown => text("namespace"),
            Reach::Named => text("name"),
        };
        // Istio's root namespace speaks for the whole mesh.
        let namespace = namespace.filter(|n| !(meta.group().ends_with("istio.io") && n == "istio-system"));
        let foreign = Foreign {
            api_version: meta.api_version.clone(),
            kind: meta.kind.clone(),
            namespace,
            name: text("name").unwrap_or_default(),
            is_hook: false,
            origin: self.origin(node),
        };
        self.loader.assembly.foreign.push(foreign);
    }

    /// Leaves a policy out that is a hook which a cluster does not keep. Returns whether it is.
    pub(in super::super) fn is_hook(&mut self, node: NodeId, key: &ObjectKey) -> bool {
        let may_be_hook = self.loader.source == Source::File && self.loader.assembly.expects_pods;
        if !may_be_hook || !hooks::is_passing(self.tree, node) {
            return false;
        }
        let text = |name| self.tree.text(node, name).unwrap_or_default().to_owned();
        let hook = Foreign {
            api_version: text("apiVersion"),
            kind: text("kind"),
            namespace: Some(key.namespace.clone()),
            name: key.name.clone(),
            is_hook: true,
            origin: self.origin(node),
        };
        self.loader.assembly.foreign.push(hook);
        true
    }

    pub(super) fn count(&mut self, what: &str) {
        *self.loader.assembly.skipped.entry(what.to_owned()).or_default() += 1;
    }

    /// Remembers a document that is not read and not known to be an object, unless it is clearly that of another tool.
    pub(super) fn leave_out(&mut self, node: NodeId) {
        if signs::is_of_other_tool(self.tree, node) {
            return;
        }
        let origin = self.origin(node);
        self.loader.assembly.no_objects.push(origin);
    }

    pub(super) fn set_aside(&mut self, node: NodeId, kind: Option<String>) {
        let line = self.tree.position(node).line;
        self.loader.set_aside(Unread { file: self.file.to_owned(), line, kind });
    }

    pub(in super::super) fn decode<T: serde::Deserialize<'t> + Default>(&mut self, node: NodeId) -> (T, Faults) {
        let (value, mut faults) = decode::<T>(self.tree, node);
        for (path, key, first) in self.tree.duplicate_keys(node) {
            let name = path.rsplit('.').next().unwrap_or(&path).to_owned();
            let fault = Fault::new(&files::DUPLICATE_KEY, &path, format!("duplicate key `{name}`"));
            let related = Some((first, "also here".to_owned()));
            faults.0.push(Fault { related, ..fault.at(key).help("remove one of the keys, or merge their values") });
        }
        (value, faults)
    }

    /// The key of an object with metadata. A generated name cannot be known; the line keeps it unique.
    pub(in super::super) fn key(&self, metadata: &wire::ObjectMeta, node: NodeId) -> ObjectKey {
        let namespace = if metadata.namespace.is_empty() { &self.loader.namespace } else { &metadata.namespace };
        if metadata.name.is_empty() {
            let line = self.tree.position(node).line;
            return ObjectKey::new(namespace, format!("{}({}:{line})", metadata.generate_name, self.file));
        }
        ObjectKey::new(namespace, &metadata.name)
    }

    /// The name of an object that has not been decoded.
    pub(super) fn object_ref(&self, node: NodeId, meta: &TypeMeta) -> ObjectRef {
        let metadata = self.tree.field(node, "metadata");
        let text = |name| metadata.and_then(|metadata| self.tree.text(metadata, name));
        match text("name") {
            Some(name) => ObjectRef::namespaced(&meta.kind, text("namespace").unwrap_or(&self.loader.namespace), name),
            None => ObjectRef::unnamed(&meta.kind),
        }
    }

    pub(in super::super) fn origin(&self, node: NodeId) -> Origin {
        Origin { file: self.file.to_owned(), line: self.tree.position(node).line }
    }

    /// The place of a part of an object.
    fn place(&self, node: NodeId, path: &str) -> Place {
        Place { file: self.file.to_owned(), position: Some(self.tree.position(self.tree.locate(node, path))) }
    }

    /// What the object is added to.
    pub(in super::super) fn assembly(&mut self) -> &mut Assembly {
        &mut self.loader.assembly
    }

    /// Whether the objects of a live cluster are being read.
    pub(in super::super) fn is_live(&self) -> bool {
        self.loader.source == Source::Live
    }

    /// Whether an object with this content counts, beside others of its name. Reports another one in a file.
    pub(in super::super) fn counts(&mut self, object: &ObjectRef, node: NodeId, content: &impl Hash) -> bool {
        self.counts_as_written(object, node, content, content)
    }

    /// As [`Self::counts`]; `written` is what a file and a live cluster are compared by, without what API servers fill in and change.
    pub(in super::super) fn counts_as_written(
        &mut self,
        object: &ObjectRef,
        node: NodeId,
        content: &impl Hash,
        written: &impl Hash,
    ) -> bool {
        let place = self.place(node, "metadata.name");
        let rank = if self.is_patch { Rank::Patch } else { self.loader.rank() };
        let (severity, first) = match self.loader.assembly.claims.take(object, rank, content, written, &place) {
            Outcome::Counts => return true,
            Outcome::Yields => return false,
            // The order of the events of a watch is that of the changes. Two files have no order.
            Outcome::Repeats(first) if self.is_update && first.file == self.file => return false,
            Outcome::Contradicts(first) if self.is_update && first.file == self.file => return true,
            Outcome::Repeats(first) => (Severity::Warning, first),
            Outcome::Contradicts(first) => (Severity::Error, first),
        };
        let is_policy = kinds::named(&object.kind).is_some_and(kinds::Kind::is_policy);
        let (rule, what) =
            if is_policy { (&objects::DUPLICATE_POLICY, "policy") } else { (&objects::DUPLICATE_OBJECT, "object") };
        let line = first.position.as_ref().map_or(0, |at| at.line);
        let other = Origin { file: first.file.clone(), line };
        let message = format!("this {what} is also defined in {other}; the one that is applied last replaces the other");
        let diagnostic = Diagnostic {
            severity,
            place: Some(place),
            related: vec![Related { message: "also defined here".to_owned(), object: None, place: Some(first) }],
            ..Diagnostic::new(rule, message).about(object.clone()).at("metadata.name").help("rename or remove one of them")
        };
        self.loader.say(diagnostic);
        severity == Severity::Error
    }

    /// As [`Self::counts`], for objects that are read for little more than their names: they are compared by their text. An object without
    /// a name is like no other.
    pub(in super::super) fn counts_by_text(
        &mut self,
        node: NodeId,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> bool {
        if name.is_empty() {
            return true;
        }
        // Groups have kinds of the same name.
        let kind = format!("{kind}.{}", kinds::group_of(api_version));
        let object = match namespace {
            Some(namespace) => ObjectRef::namespaced(&kind, namespace, name),
            None => ObjectRef::global(&kind, name),
        };
        let content = self.tree.digest_without(node, &["apiVersion", "kind", "metadata", "status"]);
        self.counts(&object, node, &content)
    }

    /// Reports the faults of an object: what could not be decoded, then what lowering found.
    pub(in super::super) fn tell(
        &mut self,
        node: NodeId,
        object: &ObjectRef,
        unread: Faults,
        errors: Vec<Fault>,
        warnings: Vec<Fault>,
    ) {
        if let Some(places) = &mut self.loader.places {
            places.keep(object, self.file, self.tree, node);
        }
        let mut errors: Vec<Fault> = unread.0.into_iter().chain(errors).collect();
        signs::join_template_faults(&mut errors);
        // An object whose namespace is not known may be in any.
        let is_anywhere = |fault: &Fault| fault.path == "metadata" || fault.path == "metadata.namespace";
        if self.loader.source == Source::File && errors.iter().any(is_anywhere) {
            self.set_aside(node, Some(object.kind.clone()));
        }
        let errors = errors.into_iter().map(|fault| (Severity::Error, fault));
        for (severity, fault) in errors.chain(warnings.into_iter().map(|fault| (Severity::Warning, fault))) {
            self.report(severity, node, object, fault);
        }
    }

    /// Reports an error in an object of which no more than the kind is known.
    pub(super) fn fault(&mut self, node: NodeId, kind: &str, fault: Fault) {
        self.report(Severity::Error, node, &ObjectRef::unnamed(kind), fault);
    }

    pub(super) fn report(&mut self, severity: Severity, node: NodeId, object: &ObjectRef, fault: Fault) {
        let fault = signs::with_template_named(placeholders::with_advice(fault, self.is_in_template));
        let document = Document { file: self.file, text: self.text, tree: self.tree };
        self.loader.say(document.diagnostic(severity, node, object, fault));
    }
}
