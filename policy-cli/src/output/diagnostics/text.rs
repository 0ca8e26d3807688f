//! Findings as compilers print them, with the lines that they are about.

use annotate_snippets::{AnnotationKind, Element, Level, Origin, Renderer, Snippet};
use policy_core::diagnostic::{Diagnostic, Place, Severity};

use crate::input::excerpts::Excerpts;
use crate::output::{is_quiet, message};

/// Findings, coloured, each followed by an empty line.
pub(crate) fn text<'d>(diagnostics: impl IntoIterator<Item = &'d Diagnostic>, excerpts: &Excerpts) -> String {
    diagnostics.into_iter().map(|diagnostic| render(diagnostic, excerpts) + "\n\n").collect()
}

/// Prints findings to standard error.
pub(crate) fn print<'d>(diagnostics: impl IntoIterator<Item = &'d Diagnostic>, excerpts: &Excerpts) {
    for diagnostic in diagnostics {
        message(&(render(diagnostic, excerpts) + "\n"));
    }
}

/// Prints notes to standard error.
pub(crate) fn print_notes(notes: &[String]) {
    for note in notes.iter().filter(|_| !is_quiet()) {
        message(&format!("note: {note}"));
    }
}

/// One finding, coloured.
fn render(diagnostic: &Diagnostic, excerpts: &Excerpts) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Info => Level::INFO,
    };
    let mut elements: Vec<Element<'_>> = Vec::new();
    if let Some(place) = &diagnostic.place {
        elements.push(shown(place, AnnotationKind::Primary, None, excerpts));
    }
    for related in &diagnostic.related {
        let object = related.object.as_ref().map(|object| format!("{object} "));
        let message = format!("{}{}", object.unwrap_or_default(), related.message);
        elements.push(match &related.place {
            Some(place) => shown(place, AnnotationKind::Context, Some(message), excerpts),
            None => Level::NOTE.message(message).into(),
        });
    }
    elements.extend(diagnostic.help.iter().map(|help| Level::HELP.message(help.as_str()).into()));
    let title = level.primary_title(diagnostic.title()).id(diagnostic.rule.name);
    Renderer::styled().render(&[title.elements(elements)])
}

/// The line of a place; where its text is not known, the place alone, or a note about it.
fn shown<'e>(place: &'e Place, kind: AnnotationKind, label: Option<String>, excerpts: &'e Excerpts) -> Element<'e> {
    match (excerpts.of(place), &place.position) {
        (Some(excerpt), Some(at)) => {
            let mark = kind.span(excerpt.span.0..excerpt.span.1).label(label);
            let snippet = Snippet::source(excerpt.text.as_str()).line_start(at.line as usize).annotation(mark);
            snippet.path(place.file.as_str()).into()
        }
        (None, Some(at)) if label.is_none() => {
            Origin::path(place.file.as_str()).line(at.line as usize).char_column(at.column as usize).into()
        }
        _ => {
            let text = label.map_or_else(|| place.to_string(), |label| format!("{label}: {place}"));
            Level::NOTE.message(text).into()
        }
    }
}
