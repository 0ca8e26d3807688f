//! The forms of names that the API server accepts.
//!
//! Source: k8s.io/apimachinery/pkg/util/validation. Each function returns what is expected when the text does not fit.

/// What a DNS-1123 subdomain is, when `text` is none (S1.2).
pub(crate) fn not_subdomain(text: &str) -> Option<&'static str> {
    let fits = !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        });
    (!fits).then_some(
        "lower-case letters, digits, `-` and `.`, each part starting and ending with a letter or digit, at most 253 characters",
    )
}

fn is_qualified_word(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.bytes().next())
        && edge(text.bytes().last())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// What a label key is, when `text` is none (S1.13).
pub(crate) fn not_label_key(text: &str) -> Option<&'static str> {
    let fits = match text.split_once('/') {
        Some((prefix, name)) => not_subdomain(prefix).is_none() && is_qualified_word(name),
        None => is_qualified_word(text),
    };
    (!fits).then_some("an optional DNS subdomain and `/`, then 1 to 63 letters, digits, `-`, `_`, `.`, starting and ending with a letter or digit")
}

/// What a label value is, when `text` is none (S1.13).
pub(crate) fn not_label_value(text: &str) -> Option<&'static str> {
    let fits = text.is_empty() || is_qualified_word(text);
    (!fits).then_some("nothing, or 1 to 63 letters, digits, `-`, `_`, `.`, starting and ending with a letter or digit")
}

/// What a port name is, when `text` is none (S1.15).
pub(crate) fn not_port_name(text: &str) -> Option<&'static str> {
    let fits = (1..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--");
    (!fits).then_some("a number, or a name of 1 to 15 lower-case letters, digits and single `-` with at least one letter")
}

/// The candidate that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 5 && *distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_names_need_a_letter_and_single_dashes() {
        for bad in ["80", "HTTP", "a--b", "-web", "web-", "abcdefghijklmnop", "!@#$", ""] {
            assert!(not_port_name(bad).is_some(), "{bad}");
        }
        for good in ["http", "a", "serve-80-tcp", "abcdefghijklmno"] {
            assert!(not_port_name(good).is_none(), "{good}");
        }
    }

    #[test]
    fn label_keys_may_have_a_prefix() {
        for good in ["app", "app.kubernetes.io/name", "A_b.c", "x/y"] {
            assert!(not_label_key(good).is_none(), "{good}");
        }
        for bad in ["", "No=Eq", "/x", "x/", "a/b/c", "-x", "Upper.Prefix/x"] {
            assert!(not_label_key(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn nearest_is_close_or_nothing() {
        assert_eq!(nearest("ingres", ["ingress", "egress", "podSelector"]), Some("ingress"));
        assert_eq!(nearest("exept", ["cidr", "except"]), Some("except"));
        assert_eq!(nearest("form", ["from", "ports"]), Some("from"));
        assert_eq!(nearest("xyz", ["from", "ports"]), None);
    }
}
