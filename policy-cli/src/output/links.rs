//! Places in files as links (OSC 8), on terminals only.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;

use anstream::ColorChoice;

/// The text with links, if standard output is a terminal that may show them.
pub(super) fn on_terminals(text: &str) -> String {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term == "linux");
    if is_dumb || !std::io::stdout().is_terminal() || ColorChoice::global() == ColorChoice::Never {
        return text.to_owned();
    }
    linked(text, |path| std::fs::canonicalize(path).ok().filter(|path| path.is_file())?.to_str().map(str::to_owned))
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
            let _ = write!(out, "\u{1b}]8;;file://{}\u{1b}\\{place}\u{1b}]8;;\u{1b}\\", encoded(&path));
            rest = after;
        }
    }
    out + rest
}

/// A path in a URL.
fn encoded(path: &str) -> String {
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
