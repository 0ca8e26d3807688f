//! Reads files: finds their documents, and reports those that cannot be read.
//!
//! - `containers`: pods and templates without containers, and selectors that do not select the pods of their workload.
//! - `items`: objects that stand in others, such as lists.
//! - `reader`: one document, by apiVersion and kind.
//! - `placeholders`: what another program replaces in a manifest.
//! - `signs`: what shows that a document is no object: a template, a patch, several objects, a web page.
//! - `validity`: what an API server refuses in pods and their templates.

mod containers;
mod items;
mod placeholders;
mod reader;
mod signs;
mod validity;

pub use items::NOT_READ;

use std::borrow::Cow;
use std::collections::HashMap;

use super::claims::Rank;
use super::documents::{Documents, SyntaxError, without_tabs_in_brackets};
use super::encoding::{is_utf16, utf8};
use super::lower::{Stored, Syntax};
use super::places::Places;
use super::snapshot::{Assembly, Snapshot};
use super::tree::Tree;
use super::unread::{Unread, kind_in};
use crate::diagnostic::rules::files;
use crate::diagnostic::{Diagnostic, Position};
use crate::model::ObjectKey;

pub(super) use reader::Reader;

/// Where a text comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// A file. What an API server would refuse is an error.
    File,
    /// An API server, which has accepted the objects, possibly under older rules.
    Live,
    /// An API server. Only the policies are read, as what files update.
    Stored,
}

/// The namespace of objects without one where none is given, as for `kubectl`.
const DEFAULT_NAMESPACE: &str = "default";

/// Reads any number of files into one [`Snapshot`].
pub struct Loader {
    pub(super) syntax: Syntax,
    assembly: Assembly,
    /// Policies that the files update.
    pub(super) stored: HashMap<ObjectKey, Stored>,
    pub(super) source: Source,
    /// Where objects are written; `None` while that is not kept.
    places: Option<Places>,
    /// The namespace of objects without one.
    namespace: String,
    /// Whether the caller has named it.
    is_namespace_given: bool,
}

impl Loader {
    /// A loader that has read nothing.
    #[must_use]
    pub fn new(syntax: Syntax) -> Self {
        Self {
            syntax,
            assembly: Assembly::default(),
            stored: HashMap::new(),
            source: Source::File,
            places: None,
            namespace: DEFAULT_NAMESPACE.to_owned(),
            is_namespace_given: false,
        }
    }

    /// The loader, with the namespace that objects without one are in from here on, as `kubectl apply -n` puts them; `default` until
    /// then.
    #[must_use]
    pub fn with_namespace(self, name: impl Into<String>) -> Self {
        Self { namespace: name.into(), is_namespace_given: true, ..self }
    }

    /// Puts objects without a namespace in this one from here on; in `default` if none is given.
    pub fn set_namespace(&mut self, name: Option<&str>) {
        name.unwrap_or(DEFAULT_NAMESPACE).clone_into(&mut self.namespace);
        self.is_namespace_given = name.is_some();
    }

    /// The namespace of objects without one, if the caller has named it.
    fn given_namespace(&self) -> Option<String> {
        self.is_namespace_given.then(|| self.namespace.clone())
    }

    /// The loader, with the places of objects kept in [`Snapshot::places`], so that findings about the whole can point at them. Cost:
    /// 16 bytes for each policy, pod, workload and namespace, and about seven for each name, each field of a policy's `spec` and each address
    /// of a pod.
    #[must_use]
    pub fn with_places(self) -> Self {
        Self { places: Some(Places::default()), ..self }
    }

    /// The loader, with the pods counted that an input is certain to lead to: a pod that waits for its address, the template of a workload
    /// of which no pod runs, and the template in an object of any kind (S2.22, S2.23). Questions ask for these; what enforces policies
    /// counts real pods, and does not.
    #[must_use]
    pub fn with_expected_pods(self) -> Self {
        let mut loader = self;
        loader.assembly.expects_pods = true;
        loader
    }

    /// Reads policies as an API server has them stored: files read afterwards are validated as updates of these, which may
    /// keep what newer servers refuse in new objects (S1.12, S1.19). Nothing else is taken from the text, and nothing said.
    pub fn read_stored(&mut self, bytes: &[u8]) {
        self.source = Source::Stored;
        self.read("", bytes);
        self.source = Source::File;
    }

    /// Reads the objects of a live cluster: CIDRs are judged as `syntax` says, what else an API server has accepted is no error, and no
    /// places are kept.
    ///
    /// Files, read before or afterwards, are applied to the cluster: an object of a file replaces the cluster's of the same kind and name,
    /// and [`Snapshot::replaced`] names it.
    pub fn read_live(&mut self, syntax: Syntax, name: &str, bytes: &[u8]) {
        let before = (std::mem::replace(&mut self.syntax, syntax), self.places.take());
        self.source = Source::Live;
        self.read(name, bytes);
        self.source = Source::File;
        (self.syntax, self.places) = before;
    }

    /// Reads one file: YAML or JSON, any number of documents, in the encodings of [`utf8`]. Faults become diagnostics of the snapshot.
    pub fn read(&mut self, file: &str, bytes: &[u8]) {
        let bytes = utf8(bytes);
        match std::str::from_utf8(&bytes) {
            // INVARIANT: the reader of documents meets no NUL, which can end a text for it.
            Ok(text) => match text.find('\0') {
                None => self.read_text(file, text),
                Some(at) => self.invalid_encoding(file, &bytes, at),
            },
            Err(error) => self.invalid_encoding(file, &bytes, error.valid_up_to()),
        }
    }

    fn invalid_encoding(&mut self, file: &str, bytes: &[u8], valid: usize) {
        let at = position(bytes.get(..valid).unwrap_or_default());
        let found = match bytes.get(valid) {
            Some(0) => "NUL bytes, as UTF-16 text without a byte order mark has",
            _ if is_utf16(bytes) => "UTF-16 text that is not valid",
            _ => "bytes that are not UTF-8 text",
        };
        let diagnostic = Diagnostic::new(&files::INVALID_ENCODING, format!("found {found}"));
        self.say(diagnostic.in_file(file, Some(at)).help("save the file as UTF-8"));
        let text = String::from_utf8_lossy(bytes).replace('\0', "");
        self.set_aside(Unread { file: file.to_owned(), line: 0, kind: kind_in(&text).map(str::to_owned) });
    }

    fn read_text(&mut self, file: &str, text: &str) {
        for (number, document) in Documents::new(text).enumerate() {
            match document {
                Err(error) if error.is_tab => {
                    let spaced = without_tabs_in_brackets(text);
                    let text = spaced.map_or(Cow::Borrowed(text), Cow::Owned);
                    Documents::new(&text).skip(number).for_each(|document| self.document(file, &text, document));
                    return;
                }
                document => self.document(file, text, document),
            }
        }
    }

    fn document(&mut self, file: &str, text: &str, document: Result<Tree<'_>, SyntaxError>) {
        match document {
            Ok(tree) => {
                if let Some(places) = &mut self.places {
                    places.make_room(&tree);
                }
                Reader::new(self, &tree, file, text).document();
            }
            Err(error) => self.invalid_syntax(file, text, error),
        }
    }

    fn invalid_syntax(&mut self, file: &str, text: &str, error: SyntaxError) {
        let (start, end) = error.document;
        let document = text.get(start..end).unwrap_or_default();
        let kind = kind_in(document).map(str::to_owned);
        let line = error.position.line;
        let (rule, message, help) = signs::of_invalid(document, &error.message, kind.as_deref());
        self.say(Diagnostic { help, ..Diagnostic::new(rule, message).in_file(file, Some(error.position)) });
        self.set_aside(Unread { file: file.to_owned(), line, kind });
    }

    fn say(&mut self, diagnostic: Diagnostic) {
        if self.source != Source::Stored {
            self.assembly.diagnostics.push(diagnostic);
        }
    }

    fn set_aside(&mut self, unread: Unread) {
        if self.source != Source::Stored {
            self.assembly.unread.push(unread);
        }
    }

    /// Adds a fault that was met outside of any document, such as a file that could not be read. If it is an error, the file counts as not
    /// read.
    pub fn report(&mut self, diagnostic: Diagnostic) {
        if diagnostic.is_error() {
            let line = diagnostic.position().map_or(0, |at| at.line);
            self.set_aside(Unread { file: diagnostic.file().to_owned(), line, kind: None });
        }
        self.say(diagnostic);
    }

    /// How objects from where it reads stand beside others of their names.
    fn rank(&self) -> Rank {
        if self.source == Source::File { Rank::File } else { Rank::Live }
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

/// The position after a text.
fn position(before: &[u8]) -> Position {
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let last_line = before.iter().rev().take_while(|b| **b != b'\n').filter(|b| (**b & 0xC0) != 0x80).count();
    Position { line: small(line), column: small(last_line + 1), bytes: (before.len(), before.len() + 1) }
}
