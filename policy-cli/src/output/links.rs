//! Places in files as links (OSC 8), on terminals only.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;

use anstream::ColorChoice;

/// The text with links for each `(FILE:LINE)`, if standard output is a terminal that may show them.
pub(super) fn on_terminals(text: &str) -> String {
    if is_shown() { linked(text, absolute) } else { text.to_owned() }
}

/// Findings with links for each `--> FILE:LINE:COLUMN`, if standard output is a terminal that may show them.
pub(super) fn of_findings_on_terminals(text: &str) -> String {
    if is_shown() { text.split_inclusive('\n').map(|line| finding_linked(line, absolute)).collect() } else { text.to_owned() }
}

fn is_shown() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term == "linux");
    !is_dumb && std::io::stdout().is_terminal() && ColorChoice::global() != ColorChoice::Never
}

fn absolute(path: &Path) -> Option<String> {
    std::fs::canonicalize(path).ok().filter(|path| path.is_file())?.to_str().map(str::to_owned)
}

fn link(path: &str, text: &str) -> String {
    format!("\u{1b}]8;;file://{}\u{1b}\\{text}\u{1b}]8;;\u{1b}\\", encoded(path))
}

/// A line of a finding, in which the place may follow an escape sequence.
fn finding_linked(line: &str, absolute: impl Fn(&Path) -> Option<String>) -> String {
    let found = line.split_once("--> ").and_then(|(_, after)| {
        let place = match after.strip_prefix('\u{1b}') {
            Some(sequence) => sequence.split_once('m')?.1,
            None => after,
        };
        let (place, _) = place.split_once(['\n', '\u{1b}']).unwrap_or((place, ""));
        let (file, _) = place.rsplit_once(':').and_then(|(file, _)| file.rsplit_once(':'))?;
        Some((place, absolute(Path::new(file))?))
    });
    match found {
        Some((place, path)) => line.replacen(place, &link(&path, place), 1),
        None => line.to_owned(),
    }
}

/// Makes a link of each `(FILE:LINE)` of which `absolute` knows the file.
fn linked(text: &str, absolute: impl Fn(&Path) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('(') {
        out.push_str(before);
        out.push('(');
        rest = after;
        let Some((place, _)) = after.split_once(')') else { continue };
        let file = place.rsplit_once(':').filter(|(_, line)| line.parse::<u32>().is_ok()).map(|(file, _)| file);
        if let Some(path) = file.and_then(|file| absolute(Path::new(file)))
            && let Some(after) = rest.strip_prefix(place)
        {
            out.push_str(&link(&path, place));
            rest = after;
        }
    }
    out + rest
}

/// A path in a URL.
pub(super) fn encoded(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        let _ = match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => write!(out, "{}", char::from(byte)),
            _ => write!(out, "%{byte:02X}"),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_findings_are_links() {
        let absolute = |path: &Path| (path == Path::new("a.yaml")).then(|| "/x/a.yaml".to_owned());
        let linked = "\u{1b}]8;;file:///x/a.yaml\u{1b}\\a.yaml:6:3\u{1b}]8;;\u{1b}\\";
        assert_eq!(finding_linked(" --> a.yaml:6:3\n", absolute), format!(" --> {linked}\n"));
        assert_eq!(finding_linked(" \u{1b}[1m--> \u{1b}[0ma.yaml:6:3\n", absolute), format!(" \u{1b}[1m--> \u{1b}[0m{linked}\n"));
        for line in [" --> b.yaml:6:3\n", " --> a.yaml\n", "6 |   ingres: []\n"] {
            assert_eq!(finding_linked(line, absolute), line);
        }
    }

    #[test]
    fn places_in_known_files_are_links() {
        let absolute = |path: &Path| (path == Path::new("a b.yaml")).then(|| "/x/a b.yaml".to_owned());
        let text = "rule x/y egress[0] (a b.yaml:12) allows it (did you mean `z`?) (c.yaml:3) (";
        assert_eq!(
            linked(text, absolute),
            "rule x/y egress[0] (\u{1b}]8;;file:///x/a%20b.yaml\u{1b}\\a b.yaml:12\u{1b}]8;;\u{1b}\\) allows it (did you mean `z`?) (c.yaml:3) ("
        );
        assert_eq!(anstream::adapter::strip_str(&linked(text, absolute)).to_string(), text, "links have no width");
    }
}
