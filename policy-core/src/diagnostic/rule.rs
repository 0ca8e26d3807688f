//! What a rule is: static data, so that every rule can be listed with its documentation.

use std::fmt;

use super::Severity;

/// The kind of fault, in the words of the Kubernetes API where it has one.
///
/// Source: `field.ErrorType` of k8s.io/apimachinery for the first four.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
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
    /// A key that occurs more than once in one mapping.
    DuplicateKey,
    /// A `null` where a list element is required.
    NullElement,
    /// Two different objects of one kind and name.
    DuplicateObject,
    /// The input exceeds a limit, or cannot be read at all.
    TooLarge,
    /// Two endpoints have the same address (S2.5).
    AmbiguousPodIP,
    /// Something is assumed that the input does not say.
    Assumed,
    /// Accepted, and without effect or with another effect than it seems.
    NoEffect,
    /// Accepted, and spelled in a way that newer servers refuse.
    NonCanonical,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a rule is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Group {
    /// What cannot be read, or is not what an API server accepts.
    Input,
    /// What does not do what it seems to do.
    Correctness,
    /// What lets through more than is usually meant.
    Security,
    /// What could be said with less.
    Hygiene,
    /// What other engines do differently.
    Portability,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Input, Self::Correctness, Self::Security, Self::Hygiene, Self::Portability];

    /// Its name, as users write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Correctness => "correctness",
            Self::Security => "security",
            Self::Hygiene => "hygiene",
            Self::Portability => "portability",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A rule that input can break. Rules are constants: two rules are equal if their names are.
#[derive(Debug)]
pub struct Rule {
    /// The stable id, such as `NP101`. It is never used again for another rule.
    pub id: &'static str,
    /// The stable code: a name in kebab case for what the rule complains about, so that "allow `unknown-field`" reads well.
    pub name: &'static str,
    /// How bad a finding usually is.
    pub severity: Severity,
    /// What the rule is for.
    pub group: Group,
    /// The kind of fault.
    pub kind: Kind,
    /// The section of the semantics that the rule follows, such as `S1.15`.
    pub section: &'static str,
    /// The reason of Events about findings, in upper camel case; `None` for rules whose findings do not become Events of their own.
    pub event_reason: Option<&'static str>,
    /// What is wrong, in one line.
    pub summary: &'static str,
    /// The manual.
    pub documentation: Documentation,
}

/// The manual of a rule.
#[derive(Debug)]
pub struct Documentation {
    /// What the rule reports.
    pub what: &'static str,
    /// Why that matters.
    pub why: &'static str,
    /// Manifests for which the rule reports a finding; `None` if manifests cannot show it.
    pub example: Option<&'static str>,
    /// How to correct it.
    pub fix: &'static str,
    /// The example after that; `None` if it depends on what is meant.
    pub corrected: Option<&'static str>,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Rule {}
