//! Lines that fit the terminal: they continue below the text that they began with.

use std::io::IsTerminal;

use terminal_size::{Width, terminal_size};

/// Narrower terminals are not considered.
const NARROWEST: usize = 40;

/// The columns of standard output; `None` if it is not a terminal.
pub(super) fn width() -> Option<usize> {
    let (Width(columns), _) = terminal_size().filter(|_| std::io::stdout().is_terminal())?;
    Some(usize::from(columns).max(NARROWEST))
}

/// Wraps every line at spaces. Escape sequences have no width.
pub(super) fn wrapped(text: &str, width: usize) -> String {
    text.split_inclusive('\n').map(|line| line_wrapped(line, width)).collect()
}

fn line_wrapped(line: &str, width: usize) -> String {
    let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
    if columns(line) <= width {
        return format!("{line}{end}");
    }
    let indent = hanging(line).min(width / 2);
    let mut out = String::new();
    let mut at = 0;
    for (number, word) in line.split(' ').enumerate() {
        let wide = columns(word);
        if number > 0 && at + 1 + wide > width && at > indent {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            at = indent;
        } else if number > 0 {
            out.push(' ');
            at += 1;
        }
        out.push_str(word);
        at += wide;
    }
    out + end
}

/// Where the text of a line continues: below what follows its first word if that is a column of its own, or two columns further in.
fn hanging(line: &str) -> usize {
    let plain = plain(line);
    let start = plain.chars().take_while(|c| *c == ' ').count();
    let word = plain.chars().skip(start).take_while(|c| *c != ' ').count();
    let gap = plain.chars().skip(start + word).take_while(|c| *c == ' ').count();
    if gap > 1 { start + word + gap } else { start + 2 }
}

fn columns(text: &str) -> usize {
    plain(text).chars().count()
}

/// The text without escape sequences.
fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_continue_below_their_text() {
        let text = "  ingress  denied: shop/db is isolated for ingress by shop/db\nshort\n";
        assert_eq!(wrapped(text, 40), "  ingress  denied: shop/db is isolated\n           for ingress by shop/db\nshort\n");
        assert_eq!(wrapped("  caveat: one two three four five six\n", 24), "  caveat: one two three\n    four five six\n");
    }

    #[test]
    fn colours_have_no_width_and_long_words_stay_whole() {
        let bold = ["\u{1b}[1m", "one two", "\u{1b}[0m"].concat();
        assert_eq!(wrapped(&bold, 7), bold);
        assert_eq!(wrapped("a examples/shop/policies.yaml:102 b", 12), "a examples/shop/policies.yaml:102\n  b");
    }
}
