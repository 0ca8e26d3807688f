//! The edits of findings, applied to the text of files.

use std::collections::BTreeMap;

use policy_core::diagnostic::{Diagnostic, Edit, Group};

/// Turns edits that remove an element of a list, which have no text, into those of its whole text: with its dash and its line, or with its
/// comma. Edits whose files are not kept, and those of elements that are written in another way, go; and those of rules, where a text may
/// stand for several places: in a file with anchors.
pub(crate) fn complete<'t>(findings: &mut [Diagnostic], text_of: impl Fn(&str) -> Option<&'t [u8]>) {
    let mut shared: BTreeMap<String, bool> = BTreeMap::new();
    for finding in findings.iter_mut().filter(|finding| finding.rule.group != Group::Input) {
        let Some(edit) = finding.edit.take() else { continue };
        let text = text_of(&edit.file).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let Some(text) = text else { continue };
        if *shared.entry(edit.file.clone()).or_insert_with(|| has_anchors(text)) {
            continue;
        }
        finding.edit = match edit.text.is_empty() {
            true => element(text, edit.bytes).map(|bytes| Edit { bytes, ..edit }),
            false => Some(edit),
        };
    }
}

/// Whether a text may have anchors or aliases. Patterns such as `*.yaml` look like them.
fn has_anchors(text: &str) -> bool {
    let starts = text.match_indices(['&', '*']).map(|(at, _)| at);
    let is_start =
        |at: usize| text.get(..at).is_some_and(|before| before.is_empty() || before.ends_with([' ', '\t', '\n', '[', '{', ',']));
    let is_name = |at: usize| text.get(at + 1..).is_some_and(|rest| rest.starts_with(|c: char| !c.is_whitespace()));
    starts.into_iter().any(|at| is_start(at) && is_name(at))
}

/// Where the text of a list element begins and ends, from the place of its value.
fn element(text: &str, (start, end): (usize, usize)) -> Option<(usize, usize)> {
    let (before, value, after) = (text.get(..start)?, text.get(start..end)?, text.get(end..)?);
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    if before.get(line..)?.trim() == "-" {
        // A comment above would be about the next element then.
        let above = before.get(..line)?.lines().rev().take_while(|above| above.trim_start().starts_with('#'));
        if above.into_iter().any(|above| above.contains("netpol:")) {
            return None;
        }
        // The value of a mapping may end with its last line.
        let end = start + value.trim_end().len();
        let rest = text.get(end..)?;
        let of_line = rest.split_inclusive('\n').next().unwrap_or_default();
        let is_rest_empty = of_line.trim().is_empty() || of_line.trim_start().starts_with('#');
        return is_rest_empty.then_some((line, end + of_line.len()));
    }
    let next = after.trim_start();
    if let Some(behind) = next.strip_prefix(',') {
        let blank = behind.len() - behind.trim_start_matches(' ').len();
        return Some((start, text.len() - behind.len() + blank));
    }
    let previous = before.trim_end();
    (next.starts_with(']') && previous.ends_with(',')).then(|| (previous.len() - 1, start + value.trim_end().len()))
}

/// The edits of findings by file, sorted, without those that overlap others. What corrects a part of a text comes before what removes
/// the whole.
pub(crate) fn by_file(findings: &[Diagnostic]) -> BTreeMap<String, Vec<Edit>> {
    let mut files: BTreeMap<String, Vec<Edit>> = BTreeMap::new();
    for edit in findings.iter().filter_map(|finding| finding.edit.as_ref()) {
        files.entry(edit.file.clone()).or_default().push(edit.clone());
    }
    for edits in files.values_mut() {
        edits.sort_by(|a, b| (a.text.is_empty(), a.bytes, &a.text).cmp(&(b.text.is_empty(), b.bytes, &b.text)));
        let mut taken: BTreeMap<usize, Edit> = BTreeMap::new();
        for edit in edits.drain(..) {
            // Two at one place have no order.
            let (start, end) = (edit.bytes.0, edit.bytes.1.max(edit.bytes.0 + 1));
            let before = taken.range(..end).next_back().map(|(_, other)| other.bytes.1.max(other.bytes.0 + 1));
            if before.is_none_or(|before| before <= start) {
                taken.insert(start, edit);
            }
        }
        edits.extend(taken.into_values());
    }
    files
}

/// A text with edits, which are sorted and do not overlap; `None` if the text is not the one that they are for.
pub(crate) fn applied(text: &str, edits: &[Edit]) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for edit in edits {
        out.push_str(text.get(at..edit.bytes.0)?);
        out.push_str(&edit.text);
        at = edit.bytes.1;
        text.get(at..)?;
    }
    out.push_str(text.get(at..)?);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(text: &str, value: &str) -> Option<String> {
        let start = text.find(value).unwrap();
        let bytes = element(text, (start, start + value.len()))?;
        applied(text, &[Edit { file: String::new(), bytes, text: String::new() }])
    }

    #[test]
    fn elements_go_with_their_lines_and_commas() {
        let block = "ingress:\n- from: []\n# why\n- ports:\n  - port: 1 # http\n- {}\n";
        assert_eq!(without(block, "ports:\n  - port: 1").as_deref(), Some("ingress:\n- from: []\n# why\n- {}\n"));
        assert_eq!(without(block, "from: []\n").as_deref(), Some("ingress:\n# why\n- ports:\n  - port: 1 # http\n- {}\n"));
        assert_eq!(without("a: [1, 2, 3]", "1").as_deref(), Some("a: [2, 3]"));
        assert_eq!(without("a: [1, 2, 3]", "3").as_deref(), Some("a: [1, 2]"));
        assert_eq!(without("a: [1, 2,\n  3 ]", "2").as_deref(), Some("a: [1, \n  3 ]"));
        // The only one, and one in a list of lists, stay.
        assert_eq!(without("a: [1]", "1"), None);
        assert_eq!(without("- - a\n  - b\n", "a"), None);
        assert_eq!(without("- a: 1 }\n", "a: 1"), None);
        assert_eq!(without("a:\n# netpol:ignore NP201 agreed\n- b: []\n- c: []\n", "b: []"), None);
    }

    #[test]
    fn anchors_are_found() {
        for (text, expected) in
            [("a: &b 1", true), ("a: *b", true), ("[*b]", true), ("a: b&c d * e", false), ("a: '*'", false), ("&a b: c", true)]
        {
            assert_eq!(has_anchors(text), expected, "{text}");
        }
    }

    #[test]
    fn overlapping_edits_are_left_for_the_next_time() {
        let finding = |bytes, text: &str| {
            let edit = Edit { file: "a".to_owned(), bytes, text: text.to_owned() };
            let rule = policy_lint::all_rules().next().unwrap();
            Diagnostic { edit: Some(edit), ..Diagnostic::new(rule, "") }
        };
        let edits = by_file(&[finding((4, 6), "x"), finding((0, 2), "yyy"), finding((5, 7), "z"), finding((0, 2), "yyy")]);
        assert_eq!(applied("0123456789", &edits["a"]).as_deref(), Some("yyy23x6789"));
        assert_eq!(applied("01", &edits["a"]), None);
    }
}
