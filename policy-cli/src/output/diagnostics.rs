//! Shows diagnostics with the lines that they are about.

use std::collections::BTreeMap;
use std::fmt::Write;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use policy_core::diagnostic::{Diagnostic, Severity};

/// Longer lines are not shown.
const WIDEST: usize = 160;

/// The lines of files that diagnostics point at. Files are not kept, only these.
#[derive(Default)]
pub(crate) struct Excerpts(BTreeMap<(String, u32, u32), Excerpt>);

struct Excerpt {
    text: String,
    span: (usize, usize),
}

impl Excerpts {
    /// Keeps the lines of one file that its diagnostics point at.
    pub(crate) fn take(&mut self, file: &[u8], diagnostics: &[Diagnostic]) {
        for diagnostic in diagnostics {
            let Some(at) = &diagnostic.position else { continue };
            let (start, end) = at.bytes;
            if end == 0 {
                continue;
            }
            let before = file.get(..start.min(file.len())).unwrap_or_default();
            let from = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
            let rest = file.get(from..).unwrap_or_default();
            let line = rest.iter().position(|b| *b == b'\n').and_then(|i| rest.get(..i)).unwrap_or(rest);
            let column = start.saturating_sub(from);
            // A cut line would show wrong columns; such lines, mostly JSON in one line, are named only.
            if line.len() > WIDEST {
                continue;
            }
            let text = String::from_utf8_lossy(line).trim_end().to_owned();
            let first = column.min(text.len());
            let last = (first + (end - start)).clamp(first, text.len());
            let span = if text.is_char_boundary(first) && text.is_char_boundary(last) { (first, last) } else { (0, 0) };
            self.0.insert((diagnostic.file.clone(), at.line, at.column), Excerpt { text, span });
        }
    }
}

/// One diagnostic as compilers print them, coloured.
fn render(diagnostic: &Diagnostic, excerpts: &Excerpts) -> String {
    let level = if diagnostic.severity == Severity::Error { Level::ERROR } else { Level::WARNING };
    let mut title = String::new();
    if !diagnostic.object.is_empty() {
        let _ = write!(title, "{}: ", diagnostic.object);
    }
    if !diagnostic.path.is_empty() {
        let _ = write!(title, "{}: ", diagnostic.path);
    }
    title.push_str(&diagnostic.message);
    let mut group =
        level.primary_title(title).id(diagnostic.rule).elements(Vec::<Snippet<'_, annotate_snippets::Annotation<'_>>>::new());
    if let Some(at) = &diagnostic.position {
        match excerpts.0.get(&(diagnostic.file.clone(), at.line, at.column)) {
            Some(excerpt) => {
                let mark = AnnotationKind::Primary.span(excerpt.span.0..excerpt.span.1);
                let snippet = Snippet::source(excerpt.text.clone()).line_start(at.line as usize).annotation(mark);
                group = group.element(snippet.path(diagnostic.file.clone()));
            }
            None => group = group.element(Level::NOTE.message(format!("{}:{}:{}", diagnostic.file, at.line, at.column))),
        }
    } else if !diagnostic.file.is_empty() {
        group = group.element(Level::NOTE.message(diagnostic.file.clone()));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.clone()));
    }
    Renderer::styled().render(&[group])
}

/// Prints diagnostics to standard error.
pub(crate) fn print<'d>(diagnostics: impl Iterator<Item = &'d Diagnostic>, excerpts: &Excerpts) {
    for diagnostic in diagnostics {
        anstream::eprintln!("{}\n", render(diagnostic, excerpts));
    }
}
