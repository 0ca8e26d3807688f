//! What makes a finding the same one, wherever it moves to.
//!
//! Services compare the fingerprints of two reports to say what is new and what is corrected. The form below is a contract: with
//! another one, every finding is new.

use std::fmt::Write;

use policy_core::diagnostic::Diagnostic;
use sha2::{Digest, Sha256};

/// Bytes of the hash that are kept.
const LENGTH: usize = 16;

/// The fingerprint of a finding: its rule, object, field and message. Neither its file nor its line counts.
pub(super) fn of(diagnostic: &Diagnostic) -> String {
    let object = diagnostic.object.as_ref().map(ToString::to_string).unwrap_or_default();
    hash(&[diagnostic.rule.id, &object, &diagnostic.path, &without_lines(&diagnostic.message)])
}

/// A hash of texts, as hexadecimal digits.
pub(super) fn hash(texts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        // Without lengths, `a`, `bc` would be `ab`, `c`.
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    let mut out = String::new();
    for byte in hasher.finalize().iter().take(LENGTH) {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// A message without the numbers of lines.
fn without_lines(message: &str) -> String {
    let mut parts = message.split("line ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| out + "line " + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use policy_core::diagnostic::rules::files::{MISSING_SEPARATOR, UNKNOWN_FIELD};
    use policy_core::diagnostic::{ObjectRef, Position};

    use super::*;

    fn finding() -> Diagnostic {
        let found = Diagnostic::new(&UNKNOWN_FIELD, "unknown field `ingres`").at("spec.ingres");
        found.about(ObjectRef::namespaced("NetworkPolicy", "shop", "web"))
    }

    #[test]
    fn the_form_is_a_contract() {
        // printf '\0\0\0\0\0\0\0\1a\0\0\0\0\0\0\0\2bc' | sha256sum
        assert_eq!(hash(&["a", "bc"]), "3fafa1cf2f19a7c1129beb20cf0983f7");
        assert_ne!(hash(&["a", "bc"]), hash(&["ab", "c"]));
    }

    #[test]
    fn neither_file_nor_line_counts_and_all_else_does() {
        let moved = finding().in_file("b.yaml", Some(Position { line: 7, column: 3, bytes: (70, 76) }));
        assert_eq!(of(&finding()), of(&moved));
        let others = [
            Diagnostic { rule: &MISSING_SEPARATOR, ..finding() },
            finding().about(ObjectRef::namespaced("NetworkPolicy", "shop", "db")),
            finding().at("spec.egres"),
            Diagnostic { message: "unknown field `egres`".to_owned(), ..finding() },
        ];
        let mut prints: Vec<String> = others.iter().chain([&finding()]).map(of).collect();
        prints.sort();
        prints.dedup();
        assert_eq!(prints.len(), 5);
    }

    #[test]
    fn numbers_of_lines_in_messages_do_not_count() {
        let at = |line: u32| Diagnostic { message: format!("`---` is missing before line {line}"), ..finding() };
        assert_eq!(of(&at(7)), of(&at(12)));
        assert_eq!(without_lines("line 7 of 9, a line"), "line  of 9, a line");
    }
}
