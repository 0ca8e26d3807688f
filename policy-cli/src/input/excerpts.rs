//! The lines of files that diagnostics point at.

use std::collections::BTreeMap;

use policy_core::diagnostic::{Diagnostic, Place};

/// Longer lines are not shown.
const WIDEST: usize = 160;
/// Bytes of files that are kept until all findings are known. Findings about files beyond this have a place and no line.
const MOST_KEPT: usize = 4 << 20;

/// The lines of files that diagnostics point at.
#[derive(Default)]
pub(crate) struct Excerpts {
    lines: BTreeMap<(String, (usize, usize)), Excerpt>,
    /// Files that later findings may point at.
    kept: BTreeMap<String, Vec<u8>>,
    size: usize,
}

/// A line, and the bytes in it that are meant.
pub(crate) struct Excerpt {
    pub text: String,
    pub span: (usize, usize),
}

impl Excerpts {
    /// Takes the lines of one file that diagnostics point at, and keeps small files for [`Self::complete`].
    pub(crate) fn take(&mut self, name: &str, file: Vec<u8>, diagnostics: &[Diagnostic]) {
        let places = diagnostics.iter().flat_map(places).filter(|place| place.file == name);
        for place in places {
            self.add(place, &file);
        }
        if self.size + file.len() <= MOST_KEPT {
            self.size += file.len();
            self.kept.insert(name.to_owned(), file);
        }
    }

    /// Takes the lines that findings about the whole input point at.
    pub(crate) fn complete(&mut self, diagnostics: &[Diagnostic]) {
        let kept = std::mem::take(&mut self.kept);
        for place in diagnostics.iter().flat_map(places) {
            if let Some(file) = kept.get(&place.file) {
                self.add(place, file);
            }
        }
        self.kept = kept;
    }

    /// The text of a file, if it is kept.
    pub(crate) fn text(&self, file: &str) -> Option<&[u8]> {
        self.kept.get(file).map(Vec::as_slice)
    }

    /// The line of a place.
    pub(crate) fn of(&self, place: &Place) -> Option<&Excerpt> {
        self.lines.get(&(place.file.clone(), place.position.as_ref()?.bytes))
    }

    fn add(&mut self, place: &Place, file: &[u8]) {
        let Some(at) = &place.position else { return };
        let (start, end) = at.bytes;
        if end == 0 {
            return;
        }
        let before = file.get(..start.min(file.len())).unwrap_or_default();
        let from = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let rest = file.get(from..).unwrap_or_default();
        let line = rest.iter().position(|b| *b == b'\n').and_then(|i| rest.get(..i)).unwrap_or(rest);
        let column = start.saturating_sub(from);
        // A cut line would show wrong columns; such lines, mostly JSON in one line, are named only.
        if line.len() > WIDEST {
            return;
        }
        let text = String::from_utf8_lossy(line).trim_end().to_owned();
        let first = column.min(text.len());
        let last = (first + (end - start)).clamp(first, text.len());
        let span = if text.is_char_boundary(first) && text.is_char_boundary(last) { (first, last) } else { (0, 0) };
        self.lines.insert((place.file.clone(), at.bytes), Excerpt { text, span });
    }
}

/// Every place of a diagnostic.
fn places(diagnostic: &Diagnostic) -> impl Iterator<Item = &Place> {
    diagnostic.place.iter().chain(diagnostic.related.iter().filter_map(|related| related.place.as_ref()))
}
