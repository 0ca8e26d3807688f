//! The documents of a text, as kubectl finds them.
//!
//! Besides documents after `---`, these are JSON objects and lists that follow each other without a mark between them. A byte order mark
//! at the start of a document, and tabs before the lines of a list or mapping in brackets, are accepted.

use granit_parser::{ErrorKind, Event, Parser, ScanError, StrInput, StructureStyle};

use super::tree::{Builder, Start, Tree};
use crate::diagnostic::Position;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// A syntax error.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    /// What the reader met.
    pub message: String,
    /// Where.
    pub position: Position,
    /// The bytes of the document, from the mark before it to the mark after it.
    pub document: (usize, usize),
    /// Whether a tab is at fault.
    pub is_tab: bool,
}

/// Reads the documents of a text one after the other.
pub(crate) struct Documents<'s> {
    text: &'s str,
    parser: Parser<'s, StrInput<'s>>,
    /// Where the parser began.
    start: Start,
    is_done: bool,
}

impl<'s> Documents<'s> {
    /// The documents of `text`.
    pub(crate) fn new(text: &'s str) -> Self {
        Self { text, parser: Parser::new_from_str(text), start: Start::default(), is_done: false }
    }

    /// Begins again where the parser expects the end of the text and a document follows.
    fn begin_again(&mut self, error: &ScanError) -> bool {
        let Position { line, column, bytes: (at, _) } = self.start.position(error.marker(), 0);
        let (before, rest) = self.text.split_at_checked(at).unwrap_or_default();
        let lines = (line as usize).saturating_sub(1);
        let next = match error.kind() {
            ErrorKind::BomInsideDocument if rest.starts_with(BYTE_ORDER_MARK) => {
                // The mark has no width.
                Start { bytes: at + BYTE_ORDER_MARK.len_utf8(), lines, columns: (column as usize).saturating_sub(1) }
            }
            ErrorKind::ExpectedDocumentStart if is_glued(before, rest) && at > self.start.bytes => {
                Start { bytes: at, lines, columns: (column as usize).saturating_sub(1) }
            }
            _ => return false,
        };
        let Some(rest) = self.text.get(next.bytes..) else { return false };
        (self.start, self.parser) = (next, Parser::new_from_str(rest));
        true
    }

    fn fail(&mut self, error: &ScanError) -> SyntaxError {
        self.is_done = !matches!(self.parser.proceed_next_document(), Ok(true));
        let position = self.start.position(error.marker(), 1);
        let document = around(self.text, self.start.bytes, position.bytes.0);
        if let Some(position) = tab_before(self.text, error.kind(), &position) {
            let message = "found a tab in the indentation, expected spaces".to_owned();
            return SyntaxError { message, position, document, is_tab: true };
        }
        // The reader ends its message with the place, which the diagnostic says already.
        let text = error.to_string();
        let message = text.split(" at char ").next().unwrap_or(&text).to_owned();
        SyntaxError { message, position, document, is_tab: false }
    }
}

/// Whether a JSON object or list follows another one.
fn is_glued(before: &str, rest: &str) -> bool {
    let is_first_of_line = before.is_empty() || before.ends_with('\n');
    rest.starts_with(['{', '[']) && (is_first_of_line || before.trim_end().ends_with(['}', ']']))
}

/// The bytes between the marks around a place. A JSON object after another one begins at `from`.
fn around(text: &str, from: usize, at: usize) -> (usize, usize) {
    let at = at.min(text.len());
    let before = text.get(from..at).and_then(|before| before.rfind("\n---")).map_or(from, |mark| from + mark + 1);
    let end = text.get(at..).and_then(|rest| rest.find("\n---")).map_or(text.len(), |mark| at + mark + 1);
    (before, end)
}

/// The tab that is at fault, where the indentation of a line has one.
fn tab_before(text: &str, kind: &ErrorKind, error: &Position) -> Option<Position> {
    let lines_after = match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::MappingValueNotAllowed => 0,
        // The error is where the scalar begins, and the tab in a later line of it.
        ErrorKind::TabInPlainScalar => usize::MAX,
        _ => return None,
    };
    let (at, _) = error.bytes;
    let mut start = text.get(..at.min(text.len()))?.rfind('\n').map_or(0, |newline| newline + 1);
    for (number, line) in (error.line..).zip(text.get(start..)?.split_inclusive('\n').take(lines_after.saturating_add(1))) {
        let indentation = line.split(|c| ![' ', '\t'].contains(&c)).next()?;
        if let Some(column) = indentation.find('\t') {
            let bytes = (start + column, start + column + 1);
            return Some(Position { line: number, column: u32::try_from(column + 1).unwrap_or(u32::MAX), bytes });
        }
        start += line.len();
    }
    None
}

impl<'s> Iterator for Documents<'s> {
    /// A document, or why it has none; reading goes on with the next one.
    type Item = Result<Tree<'s>, SyntaxError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut builder = Builder::new(self.start);
        while !self.is_done {
            match self.parser.next_event() {
                None => self.is_done = true,
                Some(Err(error)) if builder.is_empty() && self.begin_again(&error) => builder = Builder::new(self.start),
                Some(Err(error)) => return Some(Err(self.fail(&error))),
                Some(Ok((Event::DocumentEnd, _))) => {
                    if let Some(tree) = std::mem::replace(&mut builder, Builder::new(self.start)).finish() {
                        return Some(Ok(tree));
                    }
                }
                Some(Ok((event, span))) => builder.take(event, &span),
            }
        }
        None
    }
}

/// The text with spaces in place of the tabs before the lines of lists and mappings in brackets, where the reader takes them for
/// indentation and kubectl does not; `None` without such tabs. Every character keeps its place.
///
/// Cost: linear in the text.
pub(crate) fn without_tabs_in_brackets(text: &str) -> Option<String> {
    let spaced = spaced(text, |_| true)?;
    let brackets = in_brackets(&spaced);
    spaced_in(text, &brackets)
}

fn spaced_in(text: &str, brackets: &[(usize, usize)]) -> Option<String> {
    let is_in_brackets = |line: usize| {
        let next = brackets.partition_point(|(start, _)| *start < line);
        next.checked_sub(1).and_then(|before| brackets.get(before)).is_some_and(|(_, end)| line < *end)
    };
    spaced(text, is_in_brackets)
}

/// The text with spaces in place of the tabs that begin the lines chosen by their first byte; `None` if that changes nothing.
fn spaced(text: &str, is_chosen: impl Fn(usize) -> bool) -> Option<String> {
    let mut out = String::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let rest = line.trim_start_matches([' ', '\t']);
        let width = line.len() - rest.len();
        if line.get(..width).is_some_and(|indentation| indentation.contains('\t')) && is_chosen(at) {
            out.push_str(text.get(out.len()..at).unwrap_or_default());
            out.extend(std::iter::repeat_n(' ', width));
        }
        at += line.len();
    }
    if out.is_empty() {
        return None;
    }
    out.push_str(text.get(out.len()..).unwrap_or_default());
    Some(out)
}

/// The bytes of the outermost lists and mappings in brackets, in order.
fn in_brackets(text: &str) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut parser = Parser::new_from_str(text);
    // How many collections are open, and where among them the outermost one in brackets began.
    let (mut open, mut outermost) = (0_usize, None);
    loop {
        match parser.next_event() {
            None => return out,
            Some(Ok((Event::MappingStart(style, ..) | Event::SequenceStart(style, ..), span))) => {
                let is_in_brackets = style == StructureStyle::Flow;
                if is_in_brackets && outermost.is_none() {
                    outermost = Some((open, span.start.byte_offset().unwrap_or(0)));
                }
                open += 1;
            }
            Some(Ok((Event::MappingEnd | Event::SequenceEnd, span))) => {
                open = open.saturating_sub(1);
                if let Some((_, start)) = outermost.take_if(|(depth, _)| *depth == open) {
                    out.push((start, span.end.byte_offset().unwrap_or(0)));
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                if let Some((_, start)) = outermost.take() {
                    out.push((start, error.marker().byte_offset().unwrap_or(0)));
                }
                open = 0;
                if !matches!(parser.proceed_next_document(), Ok(true)) {
                    return out;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scalar::Scalar;
    use super::*;

    #[test]
    fn reading_goes_on_after_a_broken_document() {
        let text = "a: [1\n---\nb: 2\n---\n c: 3\n d: 4\n";
        let documents: Vec<_> = Documents::new(text).collect();
        assert!(documents[0].is_err());
        let second = documents[1].as_ref().unwrap();
        assert_eq!(second.scalar(second.field(second.root(), "b").unwrap()), Some(Scalar::Int(2)));
        assert_eq!(documents.len(), 3);
    }

    #[test]
    fn json_objects_may_follow_each_other() {
        let text = "{\"a\": 1}\n\n{\n  \"b\": [2]\n}\n{\"c\": 3}\n";
        let documents: Vec<_> = Documents::new(text).collect();
        let second = documents[1].as_ref().unwrap();
        let at = second.position(second.locate(second.root(), "b[0]"));
        assert_eq!((at.line, at.column), (4, 9));
        assert_eq!(text.get(at.bytes.0..at.bytes.1), Some("2"));
        let third = documents[2].as_ref().unwrap();
        assert_eq!(third.scalar(third.field(third.root(), "c").unwrap()), Some(Scalar::Int(3)));
        assert_eq!(documents.len(), 3);
        let broken: Vec<_> = Documents::new("{\"a\": 1}\n{\"b\": [}\n").collect();
        assert!(broken.last().unwrap().as_ref().is_err_and(|e| e.position.line == 2));
    }

    fn shown(text: &str) -> Vec<Result<String, (u32, u32, String)>> {
        let read = |document: Result<Tree<'_>, SyntaxError>| match document {
            Ok(tree) => {
                let at = tree.position(tree.root());
                Ok(format!("{}:{} {}", at.line, at.column, text.get(at.bytes.0..at.bytes.1).unwrap_or_default()))
            }
            Err(error) => Err((error.position.line, error.position.column, error.message)),
        };
        Documents::new(text).map(read).collect()
    }

    #[test]
    fn json_values_may_follow_each_other_on_one_line() {
        for (text, expected) in [
            ("{\"a\":1}{\"b\":2}", vec!["1:1 {\"a\":1}", "1:8 {\"b\":2}"]),
            (
                "{\"a\":1} \t{\"b\":2}\r\n[3]{\"é\":[4]}[5]",
                vec!["1:1 {\"a\":1}", "1:10 {\"b\":2}", "2:1 [3]", "2:4 {\"é\":[4]}", "2:13 [5]"],
            ),
            ("[\n1\n]\n  {\n}{\n}\n", vec!["1:1 [\n1\n]", "4:3 {\n}", "5:2 {\n}"]),
        ] {
            let found: Vec<String> = shown(text).into_iter().map(Result::unwrap).collect();
            assert_eq!(found, expected, "{text}");
        }
        for text in ["{\"a\":1}x{\"b\":2}", "{\"a\":1},{\"b\":2}", "a: 1\n}{b: 2}"] {
            assert!(shown(text).iter().any(Result::is_err), "{text}");
        }
    }

    #[test]
    fn byte_order_marks_are_skipped_where_a_document_begins() {
        let text = "\u{feff}a: 1\n---\n\u{feff}b: 2\n--- \u{feff}{c: 3}\n---\n# why\n\u{feff}d: 4\n";
        let found: Vec<String> = shown(text).into_iter().map(Result::unwrap).collect();
        assert_eq!(found, ["1:1 a: 1", "3:1 b: 2", "4:5 {c: 3}", "7:1 d: 4"]);
        assert!(shown("a: 1\n\u{feff}b: 2\n").iter().any(Result::is_err), "within a document");
    }

    #[test]
    fn tabs_in_the_indentation_are_at_fault_where_they_are() {
        let fault = |line, column| Err((line, column, "found a tab in the indentation, expected spaces".to_owned()));
        for (text, expected) in [
            ("a:\n\tb: 1\n", fault(2, 1)),
            ("a:\n  b: 1\n \tc: 1\n", fault(3, 2)),
            ("kind: NetworkPolicy\n\tbad: [", fault(2, 1)),
        ] {
            assert_eq!(shown(text).first(), Some(&expected), "{text}");
            assert_eq!(without_tabs_in_brackets(text), None, "{text}");
        }
    }

    #[test]
    fn tabs_in_brackets_become_spaces_and_others_stay() {
        for (text, expected) in [
            ("a: [1,\n\t2,\n \t 3]\n", Some("a: [1,\n 2,\n   3]\n")),
            ("a:\n  b: {\n\tc: 1\n\t}\n", Some("a:\n  b: {\n c: 1\n }\n")),
            ("a: [1]\n---\nb: [\n\t1]\nc:\n\td: 1\n", Some("a: [1]\n---\nb: [\n 1]\nc:\n\td: 1\n")),
            ("a: |\n  [\n  \tx]\n", None),
            ("a: 'it [\n\tis'\n", None),
            ("a: [1, 2]\n", None),
        ] {
            assert_eq!(without_tabs_in_brackets(text).as_deref(), expected, "{text}");
        }
    }
}
