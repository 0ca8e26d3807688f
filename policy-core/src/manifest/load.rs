//! Reads files: which documents matter, and what is said about the others.
//!
//! Dispatch is by apiVersion and kind, over the table of `kinds`. Kinds that do not matter are counted; policies of other engines
//! are remembered, because answers must say that they were not evaluated.

use std::collections::HashMap;

use super::decode::{Faults, decode};
use super::fault::{Correction, Document, Fault};
use super::foreign::{self, Reach};
use super::kinds;
use super::lower::{Stored, Syntax};
use super::names::nearest;
use super::places::Places;
use super::snapshot::{Assembly, Foreign, Snapshot};
use super::tree::{Documents, NodeId, Tree, Value};
use super::wire;
use crate::diagnostic::rules::{files, objects};
use crate::diagnostic::{Diagnostic, ObjectRef, Place, Position, Severity};
use crate::model::{ObjectKey, Origin};

/// Lists inside lists end here.
const DEEPEST_LIST: usize = 4;

/// Reads any number of files into one [`Snapshot`].
pub struct Loader {
    pub(super) syntax: Syntax,
    assembly: Assembly,
    /// Policies that the files update.
    pub(super) stored: HashMap<ObjectKey, Stored>,
    pub(super) is_reading_stored: bool,
    /// Where objects are written; `None` while that is not kept.
    places: Option<Places>,
    /// The namespace of objects without one.
    namespace: String,
}

impl Loader {
    /// A loader that has read nothing.
    #[must_use]
    pub fn new(syntax: Syntax) -> Self {
        Self {
            syntax,
            assembly: Assembly::default(),
            stored: HashMap::new(),
            is_reading_stored: false,
            places: None,
            namespace: "default".to_owned(),
        }
    }

    /// The loader, with the namespace that objects without one are in from here on, as `kubectl apply -n` puts them; `default` until
    /// then.
    #[must_use]
    pub fn with_namespace(self, name: impl Into<String>) -> Self {
        Self { namespace: name.into(), ..self }
    }

    /// The loader, with the places of objects kept in [`Snapshot::places`], so that findings about the whole can point at them. Cost:
    /// 16 bytes for each policy and pod, and about seven for each field of a policy's `spec` and for each address of a pod.
    #[must_use]
    pub fn with_places(self) -> Self {
        Self { places: Some(Places::default()), ..self }
    }

    /// Reads policies as an API server has them stored: files read afterwards are validated as updates of these, which may
    /// keep what newer servers refuse in new objects (S1.12, S1.19). Nothing else is taken from the text, and nothing said.
    pub fn read_stored(&mut self, bytes: &[u8]) {
        self.is_reading_stored = true;
        self.read("", bytes);
        self.is_reading_stored = false;
    }

    /// Reads the objects of a live cluster: CIDRs are judged as `syntax` says, and no places are kept.
    pub fn read_live(&mut self, syntax: Syntax, name: &str, bytes: &[u8]) {
        let before = (std::mem::replace(&mut self.syntax, syntax), self.places.take());
        self.read(name, bytes);
        (self.syntax, self.places) = before;
    }

    /// Reads one file: YAML or JSON, any number of documents. Faults become diagnostics of the snapshot.
    pub fn read(&mut self, file: &str, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.read_text(file, text),
            Err(error) => {
                let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = valid.iter().filter(|b| **b == b'\n').count() + 1;
                let last_line = valid.iter().rev().take_while(|b| **b != b'\n').filter(|b| (**b & 0xC0) != 0x80).count();
                let at = position(line, last_line + 1, valid.len());
                let diagnostic = Diagnostic::new(&files::INVALID_ENCODING, "found bytes that are not UTF-8 text");
                self.say(diagnostic.in_file(file, Some(at)).help("save the file as UTF-8"));
            }
        }
    }

    fn read_text(&mut self, file: &str, text: &str) {
        for document in Documents::new(text) {
            match document {
                Ok(tree) => {
                    let root = tree.root();
                    if let Some(places) = &mut self.places {
                        places.make_room(&tree);
                    }
                    Reader { loader: self, tree: &tree, file, text }.object(root, None, 0);
                }
                Err(error) => {
                    let is_template =
                        text.get(..error.position.bytes.0.min(text.len())).is_some_and(|before| before.contains("{{"))
                            || text.get(error.position.bytes.0.min(text.len())..).is_some_and(|after| after.starts_with("{{"));
                    let message = format!("this document is not valid YAML: {}", error.message);
                    let diagnostic = Diagnostic::new(&files::INVALID_SYNTAX, message).in_file(file, Some(error.position));
                    let help = "this looks like a template; render it first, for example with `helm template`";
                    self.say(if is_template { diagnostic.help(help) } else { diagnostic });
                }
            }
        }
    }

    fn say(&mut self, diagnostic: Diagnostic) {
        if !self.is_reading_stored {
            self.assembly.diagnostics.push(diagnostic);
        }
    }

    /// Adds a fault that was met outside of any document, such as a file that could not be read.
    pub fn report(&mut self, diagnostic: Diagnostic) {
        self.say(diagnostic);
    }

    /// What there is to say so far, in the order read.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.assembly.diagnostics
    }

    /// Everything that was read, put together.
    #[must_use]
    pub fn finish(self) -> Snapshot {
        let mut places = self.places.unwrap_or_default();
        places.finish();
        Snapshot { places, ..self.assembly.finish() }
    }
}

fn position(line: usize, column: usize, byte: usize) -> Position {
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position { line: small(line), column: small(column), bytes: (byte, byte + 1) }
}

/// The apiVersion and kind of an object.
#[derive(Clone)]
struct TypeMeta {
    api_version: String,
    kind: String,
}

impl TypeMeta {
    fn group(&self) -> &str {
        kinds::group_of(&self.api_version)
    }
}

/// Reads the objects of one document.
pub(super) struct Reader<'l, 't, 's> {
    pub(super) loader: &'l mut Loader,
    pub(super) tree: &'t Tree<'s>,
    file: &'l str,
    text: &'s str,
}

impl<'t> Reader<'_, 't, '_> {
    fn object(&mut self, node: NodeId, inherited: Option<&TypeMeta>, depth: usize) {
        let tree = self.tree;
        if tree.is_null(node) {
            return;
        }
        let text = |name| tree.text(node, name).map(str::to_owned).filter(|t| !t.is_empty());
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let is_complete = api_version.is_some() && kind.is_some();
        let meta = TypeMeta {
            api_version: api_version.or_else(|| inherited.map(|i| i.api_version.clone())).unwrap_or_default(),
            kind: kind.or_else(|| inherited.map(|i| i.kind.clone())).unwrap_or_default(),
        };
        if !is_complete && inherited.is_none() && !self.says_what_it_is(node, &meta) {
            return;
        }
        self.loader.assembly.objects += 1;
        if meta.kind.ends_with("List") && tree.field(node, "items").is_some() {
            self.list(node, &meta, depth);
            return;
        }
        let is_reading_stored = self.loader.is_reading_stored;
        match kinds::reading(&meta.api_version, &meta.kind) {
            Some(kind) if is_reading_stored && !kind.is_policy() => {}
            Some(kind) => (kind.read)(self, node, kind),
            None if is_reading_stored => {}
            None => self.other(node, &meta),
        }
    }

    /// Reports a document without apiVersion or kind, unless it is no Kubernetes object at all.
    fn says_what_it_is(&mut self, node: NodeId, meta: &TypeMeta) -> bool {
        // Other files have a `kind` or an `apiVersion` too, such as the values and the Chart.yaml of Helm.
        let has_body = ["metadata", "spec"].iter().any(|field| self.tree.field(node, field).is_some());
        if !has_body || (meta.kind.is_empty() && meta.api_version.is_empty()) {
            self.count("documents that are no Kubernetes objects");
            return false;
        }
        let missing = if meta.kind.is_empty() { "kind" } else { "apiVersion" };
        let known = kinds::named(&meta.kind);
        if missing == "apiVersion" && known.is_none() {
            self.count(&meta.kind);
            return false;
        }
        let help = known.and_then(|kind| kind.groups.first()).map(|group| match *group {
            "" => "add `apiVersion: v1`".to_owned(),
            group => format!("add `apiVersion: {group}/v1`"),
        });
        let fault =
            Fault::new(&objects::MISSING_API_VERSION_OR_KIND, &missing, format!("the document has no `{missing}`")).at(node);
        self.fault(node, &meta.kind, Fault { help, ..fault });
        // A policy without apiVersion is read all the same, to find its other faults.
        known.is_some_and(kinds::Kind::is_policy)
    }

    fn list(&mut self, node: NodeId, meta: &TypeMeta, depth: usize) {
        let tree = self.tree;
        let inherited = meta.kind.strip_suffix("List").filter(|kind| !kind.is_empty());
        let inherited = inherited.map(|kind| TypeMeta { api_version: meta.api_version.clone(), kind: kind.to_owned() });
        let Some(items) = tree.field(node, "items") else { return };
        match tree.value(items) {
            Value::Sequence(items) if depth < DEEPEST_LIST => {
                for (i, item) in items.iter().enumerate() {
                    if tree.is_null(*item) {
                        let message = "found nothing (`null`), expected an object";
                        let fault = Fault::new(&files::NULL_ELEMENT, &format!("items[{i}]"), message);
                        self.fault(*item, &meta.kind, fault.at(*item));
                    }
                    self.object(*item, inherited.as_ref(), depth + 1);
                }
            }
            _ if tree.is_null(items) => {}
            _ => {
                let message = "expected a list of objects, and no lists nested deeper than 4";
                self.fault(items, &meta.kind, Fault::new(&objects::INVALID_LIST, &"items", message).at(items));
            }
        }
    }

    /// An object that is not read: another engine's policy, a mistyped kind, or something that does not matter.
    fn other(&mut self, node: NodeId, meta: &TypeMeta) {
        let (group, kind) = (meta.group(), meta.kind.as_str());
        let reach = foreign::reach(group, kind);
        let is_upstream = !group.contains('.') || group.ends_with(".k8s.io");
        let policy = kinds::named(kind).and_then(|kind| kind.policy_version());
        if reach.is_some() || (policy.is_some() && !is_upstream) {
            self.foreign(node, meta, reach.unwrap_or(Reach::Namespace));
            return;
        }
        if let Some(expected) = policy {
            let message = format!("found `{}`, expected `{expected}`", meta.api_version);
            let fault = Fault::new(&objects::UNSUPPORTED_API_VERSION, &"apiVersion", message)
                .help(format!("no Kubernetes version serves a {kind} under another apiVersion any more"))
                .correction(Correction::Value(expected.to_owned()));
            self.fault(node, kind, Fault { node: self.tree.field(node, "apiVersion"), ..fault });
            return;
        }
        let near = nearest(kind, kinds::all().map(|kind| kind.name));
        if let Some(near) = near
            && is_upstream
            && near != kind
            && !foreign::NEIGHBOURS.contains(&kind)
            && kinds::named(near).is_some_and(|kind| kind.groups.contains(&group))
        {
            let message = format!("`{}` has no kind `{kind}`", meta.api_version);
            let fault = Fault::new(&objects::UNKNOWN_KIND, &"kind", message).did_you_mean(Some(near));
            self.fault(node, kind, Fault { node: self.tree.field(node, "kind"), ..fault });
            return;
        }
        let label = if meta.api_version.is_empty() { kind.to_owned() } else { format!("{kind}.{}", meta.api_version) };
        self.count(&label);
    }

    fn foreign(&mut self, node: NodeId, meta: &TypeMeta, reach: Reach) {
        let metadata = self.tree.field(node, "metadata");
        let text = |name| metadata.and_then(|m| self.tree.text(m, name)).map(str::to_owned);
        let namespace = (reach == Reach::Namespace).then(|| text("namespace").unwrap_or_else(|| self.loader.namespace.clone()));
        // Istio's root namespace speaks for the whole mesh.
        let namespace = namespace.filter(|n| !(meta.group().ends_with("istio.io") && n == "istio-system"));
        let foreign = Foreign {
            api_version: meta.api_version.clone(),
            kind: meta.kind.clone(),
            namespace,
            name: text("name").unwrap_or_default(),
            origin: Origin { file: self.file.to_owned(), line: self.tree.position(node).line },
        };
        self.loader.assembly.foreign.push(foreign);
    }

    fn count(&mut self, what: &str) {
        *self.loader.assembly.skipped.entry(what.to_owned()).or_default() += 1;
    }

    pub(super) fn decode<T: serde::Deserialize<'t> + Default>(&mut self, node: NodeId) -> (T, Faults) {
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
    pub(super) fn key(&self, metadata: &wire::ObjectMeta, node: NodeId) -> ObjectKey {
        let namespace = if metadata.namespace.is_empty() { &self.loader.namespace } else { &metadata.namespace };
        if metadata.name.is_empty() {
            let line = self.tree.position(node).line;
            return ObjectKey::new(namespace, format!("{}({}:{line})", metadata.generate_name, self.file));
        }
        ObjectKey::new(namespace, &metadata.name)
    }

    pub(super) fn origin(&self, node: NodeId) -> Origin {
        Origin { file: self.file.to_owned(), line: self.tree.position(node).line }
    }

    /// The place of a part of an object.
    pub(super) fn place(&self, node: NodeId, path: &str) -> Place {
        Place { file: self.file.to_owned(), position: Some(self.tree.position(self.tree.locate(node, path))) }
    }

    /// What the object is added to.
    pub(super) fn assembly(&mut self) -> &mut Assembly {
        &mut self.loader.assembly
    }

    /// Reports the faults of an object: what could not be decoded, then what lowering found.
    pub(super) fn tell(&mut self, node: NodeId, object: &ObjectRef, unread: Faults, errors: Vec<Fault>, warnings: Vec<Fault>) {
        if let Some(places) = &mut self.loader.places {
            places.keep(object, self.file, self.tree, node);
        }
        let errors = unread.0.into_iter().chain(errors).map(|fault| (Severity::Error, fault));
        for (severity, fault) in errors.chain(warnings.into_iter().map(|fault| (Severity::Warning, fault))) {
            self.report(severity, node, object, fault);
        }
    }

    /// Reports an error in an object of which no more than the kind is known.
    fn fault(&mut self, node: NodeId, kind: &str, fault: Fault) {
        self.report(Severity::Error, node, &ObjectRef::unnamed(kind), fault);
    }

    fn report(&mut self, severity: Severity, node: NodeId, object: &ObjectRef, fault: Fault) {
        let document = Document { file: self.file, text: self.text, tree: self.tree };
        self.loader.say(document.diagnostic(severity, node, object, fault));
    }
}
