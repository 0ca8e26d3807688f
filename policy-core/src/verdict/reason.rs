//! A reason in words.

use std::fmt;

/// A reason, with the section of the semantics that it rests on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason {
    /// The reason, without the section.
    pub text: String,
    /// The section, such as `S1.41`; several are separated by commas.
    pub section: Option<&'static str>,
}

impl Reason {
    /// A reason that rests on a section of the semantics.
    #[must_use]
    pub fn with_section(text: impl Into<String>, section: &'static str) -> Self {
        Self { text: text.into(), section: Some(section) }
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self { text, section: None }
    }
}

impl fmt::Display for Reason {
    /// The text; with `{:#}`, the section follows in parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.section {
            Some(section) if f.alternate() => write!(f, " ({section})"),
            _ => Ok(()),
        }
    }
}
