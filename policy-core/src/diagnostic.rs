//! Findings about the input: one value for everything that the loader, the lint rules and the command line report.
//!
//! - [`Diagnostic`]: the rule, the message, the places and objects, and an edit where one is known.
//! - [`rule`]: what a rule is, with its documentation.
//! - [`rules`]: the rules of this crate.
//!
//! Renderers belong to whoever shows diagnostics. A diagnostic decides nothing: what depends on a bad object fails closed where it
//! is lowered.

pub mod rule;
pub mod rules;

use std::fmt;

pub use rule::{Documentation, Group, Kind, Rule};

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// The input is wrong: the API server would refuse it, or its meaning is not what it says.
    Error,
    /// The input is accepted, and may not mean what its author thinks.
    Warning,
    /// The input means what it says, and could be better.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        })
    }
}

/// A span of text in an input file.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Position {
    /// Line, 1-based.
    pub line: u32,
    /// Column in characters, 1-based.
    pub column: u32,
    /// The first byte of the text, and the first byte after it; of a compressed file, after decompression, and of one in UTF-16, after
    /// conversion to UTF-8. Equal if only the line is known.
    pub bytes: (usize, usize),
}

/// A file, and a position in it where one is known.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The file as the user named it, or `-` for standard input.
    pub file: String,
    /// Where in the file.
    pub position: Option<Position>,
}

/// The name of an object.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ObjectRef {
    /// The kind, such as `NetworkPolicy`.
    pub kind: String,
    /// The namespace; `None` if the kind has none, or if the object could not be read that far.
    pub namespace: Option<String>,
    /// The name; `None` if the object could not be read that far.
    pub name: Option<String>,
}

impl ObjectRef {
    /// An object of which only the kind is known.
    #[must_use]
    pub fn unnamed(kind: &str) -> Self {
        Self { kind: kind.to_owned(), namespace: None, name: None }
    }

    /// An object of a kind without namespaces.
    #[must_use]
    pub fn global(kind: &str, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..Self::unnamed(kind) }
    }

    /// An object in a namespace.
    #[must_use]
    pub fn namespaced(kind: &str, namespace: &str, name: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..Self::global(kind, name) }
    }
}

impl fmt::Display for ObjectRef {
    /// `Kind namespace/name`, without what is unknown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        let Some(name) = &self.name else { return Ok(()) };
        match &self.namespace {
            Some(namespace) => write!(f, " {namespace}/{name}"),
            None => write!(f, " {name}"),
        }
    }
}

/// Something else that a finding is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Related {
    /// What it has to do with the finding, in a few words.
    pub message: String,
    /// The object, if it is another one.
    pub object: Option<ObjectRef>,
    /// Where it is written.
    pub place: Option<Place>,
}

/// A replacement of text that would correct a finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edit {
    /// The file.
    pub file: String,
    /// The first byte that is replaced, and the first byte that is kept.
    pub bytes: (usize, usize),
    /// The text to write there. Without text, the edit removes the element of a list whose value is there.
    pub text: String,
}

/// One finding about the input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// The rule that the input breaks.
    pub rule: &'static Rule,
    /// How bad it is: as the rule says, except where the rule says otherwise.
    pub severity: Severity,
    /// The section of the semantics that the rule follows, such as `S1.15`.
    pub section: &'static str,
    /// Where it is written; `None` if the object did not come from a file.
    pub place: Option<Place>,
    /// The object; `None` if none could be read.
    pub object: Option<ObjectRef>,
    /// The field path, such as `spec.ingress[0].from[1].ipBlock.except[2]`; empty for the whole document.
    pub path: String,
    /// What was found and what was expected, in one line.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Other objects and places.
    pub related: Vec<Related>,
    /// An edit that corrects it, where one is known.
    pub edit: Option<Edit>,
}

impl Diagnostic {
    /// A finding of a rule, with the rule's severity and section.
    #[must_use]
    pub fn new(rule: &'static Rule, message: impl Into<String>) -> Self {
        Self {
            rule,
            severity: rule.severity,
            section: rule.section,
            place: None,
            object: None,
            path: String::new(),
            message: message.into(),
            help: None,
            related: Vec::new(),
            edit: None,
        }
    }

    /// The finding, about this object.
    #[must_use]
    pub fn about(self, object: ObjectRef) -> Self {
        Self { object: Some(object), ..self }
    }

    /// The finding, at this field path.
    #[must_use]
    pub fn at(self, path: impl Into<String>) -> Self {
        Self { path: path.into(), ..self }
    }

    /// The finding, written here.
    #[must_use]
    pub fn in_file(self, file: impl Into<String>, position: Option<Position>) -> Self {
        Self { place: Some(Place { file: file.into(), position }), ..self }
    }

    /// The finding, with advice.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Whether it is an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The kind of fault.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.rule.kind
    }

    /// The file; empty if the object did not come from one.
    #[must_use]
    pub fn file(&self) -> &str {
        self.place.as_ref().map_or("", |place| place.file.as_str())
    }

    /// Where in the file, if that is known.
    #[must_use]
    pub fn position(&self) -> Option<&Position> {
        self.place.as_ref().and_then(|place| place.position.as_ref())
    }

    /// The object and the field path, each followed by a colon, then the message.
    #[must_use]
    pub fn title(&self) -> String {
        let object = self.object.iter().map(ToString::to_string);
        let path = Some(self.path.clone()).filter(|path| !path.is_empty());
        object.chain(path).chain([self.message.clone()]).collect::<Vec<_>>().join(": ")
    }
}

impl fmt::Display for Place {
    /// `file:line:column`, without what is unknown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match &self.position {
            Some(at) => write!(f, ":{}:{}", at.line, at.column),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Diagnostic {
    /// `file:line:column: error[rule]: object: path: message`, without what is unknown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}[{}]: {}", self.severity, self.rule.name, self.title())
    }
}
