//! Findings as JSON objects. Fields are only ever added.

use policy_core::diagnostic::{Diagnostic, Edit, Related};
use serde::Serialize;

/// A finding.
#[derive(Serialize)]
pub(crate) struct Finding<'d> {
    severity: String,
    kind: String,
    /// The name of the rule.
    code: &'static str,
    /// The section of the semantics.
    section: &'static str,
    #[serde(flatten)]
    place: Place<'d>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    path: &'d str,
    message: &'d str,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'d str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related: Vec<Other<'d>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edit: Option<Replacement<'d>>,
}

#[derive(Serialize)]
struct Place<'d> {
    #[serde(skip_serializing_if = "str::is_empty")]
    file: &'d str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
}

#[derive(Serialize)]
struct Other<'d> {
    #[serde(flatten)]
    place: Place<'d>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    message: &'d str,
}

#[derive(Serialize)]
struct Replacement<'d> {
    file: &'d str,
    /// The first byte that is replaced, and the first byte that is kept.
    start: usize,
    end: usize,
    text: &'d str,
}

impl<'d> From<&'d Diagnostic> for Finding<'d> {
    fn from(diagnostic: &'d Diagnostic) -> Self {
        Self {
            severity: diagnostic.severity.to_string(),
            kind: diagnostic.kind().to_string(),
            code: diagnostic.rule.name,
            section: diagnostic.section,
            place: Place::of(diagnostic.place.as_ref()),
            object: diagnostic.object.as_ref().map(ToString::to_string),
            path: &diagnostic.path,
            message: &diagnostic.message,
            help: diagnostic.help.as_deref(),
            related: diagnostic.related.iter().map(Other::of).collect(),
            edit: diagnostic.edit.as_ref().map(Replacement::of),
        }
    }
}

impl<'d> Place<'d> {
    fn of(place: Option<&'d policy_core::diagnostic::Place>) -> Self {
        let position = place.and_then(|place| place.position.as_ref());
        Self {
            file: place.map_or("", |place| &place.file),
            line: position.map(|at| at.line),
            column: position.map(|at| at.column),
        }
    }
}

impl<'d> Other<'d> {
    fn of(related: &'d Related) -> Self {
        let object = related.object.as_ref().map(ToString::to_string);
        Self { place: Place::of(related.place.as_ref()), object, message: &related.message }
    }
}

impl<'d> Replacement<'d> {
    fn of(edit: &'d Edit) -> Self {
        Self { file: &edit.file, start: edit.bytes.0, end: edit.bytes.1, text: &edit.text }
    }
}
