//! What the loader and the compiler have to say about their input.
//!
//! One value, rendered by whoever shows it. A diagnostic never decides anything: what depends on a bad object fails closed
//! where it is lowered.

use std::fmt;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The input is wrong: the API server would refuse it, or its meaning is not what it says.
    Error,
    /// The input is accepted, and may not mean what its author thinks.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A place in an input file.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize)]
pub struct Position {
    /// Line, 1-based.
    pub line: u32,
    /// Column in characters, 1-based.
    pub column: u32,
    /// First byte of the text that is meant, and the first byte after it.
    #[serde(skip)]
    pub bytes: (usize, usize),
}

/// The kind of fault, in the words of the Kubernetes API where it has one.
///
/// Source: `field.ErrorType` of k8s.io/apimachinery for the first four.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
pub enum Kind {
    /// A value that must be given is missing.
    Required,
    /// A value is malformed.
    Invalid,
    /// A value is none of the values that exist.
    NotSupported,
    /// A value must not be given here.
    Forbidden,
    /// The text is not YAML or JSON.
    Syntax,
    /// A value has another type than the field.
    WrongType,
    /// A field that the kind does not have.
    UnknownField,
    /// A key that stands twice in one mapping.
    DuplicateKey,
    /// A `null` where a list element must stand.
    NullElement,
    /// Two different objects of one kind and name.
    DuplicateObject,
    /// A limit on the size of the input was met.
    TooLarge,
    /// Two endpoints claim one address (S2.5).
    AmbiguousPodIP,
    /// Something is assumed that the input does not say.
    Assumed,
    /// Accepted, and without effect or with another effect than it seems.
    NoEffect,
    /// Accepted, and spelled in a way that newer servers refuse.
    NonCanonical,
    /// A policy of another engine, or of a tier that is not evaluated.
    NotModelled,
}

/// One finding about the input.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The kind of fault.
    pub kind: Kind,
    /// The rule of the semantics that it breaks or follows, such as `S1.15`.
    pub rule: &'static str,
    /// The file, or `-` for standard input; empty when the object did not come from a file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Where in the file.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The object, as `Kind namespace/name`; empty when it could not be read that far.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// The field path, such as `spec.ingress[0].from[1].ipBlock.except[2]`; empty for the whole document.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// What was found and what was expected, in one line.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Diagnostic {
    /// Whether it is an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    /// `file:line:column: error: path: message`, without what is unknown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            f.write_str(&self.file)?;
            if let Some(at) = &self.position {
                write!(f, ":{}:{}", at.line, at.column)?;
            }
            f.write_str(": ")?;
        }
        write!(f, "{}: ", self.severity)?;
        if !self.object.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}
