//! Findings as test results in the format of JUnit: a suite for each file, and a test for each finding that makes the command fail.
//!
//! A file without such findings is one test that passes, because services leave out suites without tests. The other findings are the output
//! of the suite.
//!
//! Source: there is no standard. The elements and attributes are those of `junit-10.xsd` of the xUnit plugin of Jenkins, which others read
//! too.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::report::{Found, Part, Report};

/// The report.
pub(crate) fn xml(report: &Report<'_>) -> String {
    let suites: Vec<Suite<'_>> = report.parts.iter().flat_map(|part| suites(report, part)).collect();
    let mut counts = Counts::default();
    for suite in &suites {
        let Counts { tests, failures, errors } = suite.counts();
        counts = Counts { tests: counts.tests + tests, failures: counts.failures + failures, errors: counts.errors + errors };
    }
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites{}{counts}>", attribute("name", report.command));
    suites.iter().for_each(|suite| suite.write(report, &mut out));
    out + "</testsuites>\n"
}

/// The findings about a file.
struct Suite<'r> {
    name: String,
    failures: Vec<Found<'r>>,
    others: Vec<Found<'r>>,
    /// Why the input could not be read.
    error: Option<&'r str>,
}

#[derive(Default)]
struct Counts {
    tests: usize,
    failures: usize,
    errors: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tests, failures, errors } = self;
        write!(f, " tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\"")
    }
}

/// The suites of an input, sorted by the names of the files. What is about no file in particular is in one of the whole input.
fn suites<'r>(report: &Report<'_>, part: &'r Part<'r>) -> Vec<Suite<'r>> {
    let shown = |name: &str| report.files.get(name).filter(|file| !file.is_rendered).map_or(name, |file| &file.path).to_owned();
    let mut by_file: BTreeMap<String, Vec<Found<'r>>> = BTreeMap::new();
    for read_from in part.read_from {
        by_file.entry(shown(&read_from.name)).or_default();
    }
    for found in part.findings() {
        by_file.entry(shown(found.diagnostic.file())).or_default().push(found);
    }
    let name = |file: &str| match (part.deployment, file) {
        (Some(deployment), "") => deployment.to_owned(),
        (None, "") => report.command.to_owned(),
        (Some(deployment), file) => format!("{deployment}: {file}"),
        (None, file) => file.to_owned(),
    };
    let of_files = by_file.into_iter().map(|(file, findings)| {
        let (failures, others) = findings.into_iter().partition(|found| report.is_failure(*found));
        Suite { name: name(&file), failures, others, error: None }
    });
    let unread = part.error.as_deref();
    let unread = unread.map(|error| Suite { name: name(""), failures: Vec::new(), others: Vec::new(), error: Some(error) });
    of_files.chain(unread).collect()
}

impl Suite<'_> {
    fn counts(&self) -> Counts {
        let failures = self.failures.len();
        Counts { tests: failures.max(1), failures, errors: usize::from(self.error.is_some()) }
    }

    fn write(&self, report: &Report<'_>, out: &mut String) {
        let _ = writeln!(out, "  <testsuite{}{}>", attribute("name", &self.name), self.counts());
        let class = attribute("classname", &self.name);
        match self.error {
            Some(error) => {
                let message = attribute("message", error);
                let _ = writeln!(out, "    <testcase{class}{}><error{message}/></testcase>", attribute("name", report.command));
            }
            None if self.failures.is_empty() => {
                let _ = writeln!(out, "    <testcase{class}{}/>", attribute("name", report.command));
            }
            None => self.failures.iter().for_each(|found| test(report, *found, &class, out)),
        }
        if !self.others.is_empty() {
            let _ = writeln!(out, "    <system-out>{}</system-out>", escaped(&output(report, &self.others)));
        }
        out.push_str("  </testsuite>\n");
    }
}

/// The test that a finding fails.
fn test(report: &Report<'_>, found: Found<'_>, class: &str, out: &mut String) {
    let title = found.diagnostic.title();
    let mut attributes = class.to_owned() + &attribute("name", &format!("{}: {title}", found.rule()));
    if let Some((file, position)) = report.place(found) {
        attributes += &attribute("file", &file.path);
        attributes += &position.map_or_else(String::new, |at| attribute("line", &at.line.to_string()));
    }
    let kind = attribute("type", found.diagnostic.rule.name) + &attribute("message", &title);
    let text = escaped(&report.all_lines(found).join("\n"));
    let _ = writeln!(out, "    <testcase{attributes}><failure{kind}>{text}</failure></testcase>");
}

/// Findings as text.
fn output(report: &Report<'_>, findings: &[Found<'_>]) -> String {
    let text = |found: &Found<'_>| {
        let line = report.place(*found).and_then(|(_, at)| Some(format!("line {}: ", at?.line))).unwrap_or_default();
        format!("{line}{}: {}: {}\n", found.diagnostic.severity, found.rule(), report.all_lines(*found).join("\n"))
    };
    findings.iter().map(text).collect()
}

fn attribute(name: &str, value: &str) -> String {
    // A parser makes spaces of these.
    let value = escaped(value).replace('\n', "&#10;").replace('\t', "&#9;");
    format!(" {name}=\"{value}\"")
}

/// Text as XML. Characters that XML 1.0 does not have, whatever way they are written, become the mark for those that cannot be shown.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\n' | '\t' => out.push(c),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(escaped("a < b & \"c\" > 'd'\r\n]]>"), "a &lt; b &amp; &quot;c&quot; &gt; 'd'&#13;\n]]&gt;");
        assert_eq!(escaped("\u{1b}[1m\0\u{fffe}ä\u{1f600}"), "\u{fffd}[1m\u{fffd}\u{fffd}ä\u{1f600}");
        assert_eq!(attribute("name", "a\tb\nc\""), " name=\"a&#9;b&#10;c&quot;\"");
    }
}
