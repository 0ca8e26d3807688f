//! Files that cannot be read: which of them can hold nothing that decides.

use std::io::ErrorKind;

use policy_core::diagnostic::rules::files::{INVALID_ENCODING, INVALID_SYNTAX, UNREADABLE_FILE};
use policy_core::diagnostic::{Diagnostic, Severity};

/// The start of a file that git-crypt has encrypted.
const GIT_CRYPT: &[u8] = b"\0GITCRYPT\0";
/// How much of a file shows that it is binary, as in Git.
const HEAD: usize = 8000;
/// What a document needs to be an object, and what can become it when text is expanded.
const SIGNS: [&[u8]; 4] = [b"kind", b"{{", b"\\u", b"\\x"];

/// The finding about a file that cannot be opened.
pub(super) fn unopened(file: &str, error: &std::io::Error) -> Diagnostic {
    let diagnostic = Diagnostic::new(&UNREADABLE_FILE, format!("cannot read the file: {error}")).in_file(file, None);
    if error.kind() == ErrorKind::FileTooLarge { diagnostic.help("use `--max-size` to raise the limit") } else { diagnostic }
}

/// Why bytes are no manifest, whatever they are. Text in UTF-16 can be one.
pub(super) fn why_no_manifest(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(GIT_CRYPT) {
        return Some("the file is encrypted with git-crypt, and is not read");
    }
    let head = bytes.get(..HEAD).unwrap_or(bytes);
    let is_wide = head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) || is_wide_text(head);
    (head.contains(&0) && !is_wide).then_some("the file is binary, and is not read")
}

/// Whether every other byte is zero, as in UTF-16 text without a mark.
fn is_wide_text(head: &[u8]) -> bool {
    let of = |rest: usize| head.iter().skip(rest).step_by(2).take(32).all(|byte| *byte == 0);
    of(0) || of(1)
}

/// The finding about such a file.
pub(super) fn no_manifest(file: &str, why: &str) -> Diagnostic {
    Diagnostic::new(&UNREADABLE_FILE, why).in_file(file, None)
}

/// The finding about a document whose kind SOPS has encrypted.
pub(super) fn encrypted(file: &str, bytes: &[u8]) -> Option<Diagnostic> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.contains("ENC["))?;
    let is_encrypted = |line: &str| {
        let line = line.trim_start().trim_start_matches('"');
        line.strip_prefix("kind").is_some_and(|rest| rest.trim_start_matches(['"', ':', ' ']).starts_with("ENC["))
    };
    let help = "decrypt it, and pipe it: sops --decrypt FILE | netpol … -f -";
    let found = text
        .lines()
        .any(is_encrypted)
        .then(|| Diagnostic::new(&UNREADABLE_FILE, "SOPS has encrypted the kind of an object, so the object is not known"));
    found.map(|found| found.in_file(file, None).help(help))
}

/// Whether a text holds no object, though it cannot be read: no document of it can say what it is.
pub(super) fn holds_no_object(bytes: &[u8]) -> bool {
    !SIGNS.iter().any(|sign| bytes.windows(sign.len()).any(|part| part == *sign))
}

/// Gives the findings about files without an object their severity: a warning, unless there is nothing else in the input.
pub(super) fn judge(diagnostics: &mut [Diagnostic], severity: Severity, is_without_object: impl Fn(&str) -> bool) {
    for diagnostic in diagnostics {
        let is_about_text = [INVALID_SYNTAX.name, INVALID_ENCODING.name, UNREADABLE_FILE.name].contains(&diagnostic.rule.name);
        if is_about_text && is_without_object(diagnostic.file()) {
            diagnostic.severity = severity;
            diagnostic.help =
                (severity == Severity::Warning).then(|| "no answer depends on it: it holds no Kubernetes object".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encrypted_and_binary_files_are_no_manifests() {
        assert!(why_no_manifest(b"\0GITCRYPT\0\x01").is_some());
        assert!(why_no_manifest(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0").is_some());
        let wide: Vec<u8> = "kind: NetworkPolicy\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let marked = [&[0xff, 0xfe], wide.as_slice()].concat();
        for text in [b"kind: Pod\n".as_slice(), b"", &wide, &marked, b"\xe4\xf6"] {
            assert_eq!(why_no_manifest(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_text_without_a_kind_holds_no_object() {
        for text in ["a: [1\n", "<html>", "// {\"compilerOptions\": 1,}"] {
            assert!(holds_no_object(text.as_bytes()), "{text}");
        }
        for text in ["kind: [", "{\"kind\": ", "\"\\u006bind\": a", "{{ include \"policy\" . }}"] {
            assert!(!holds_no_object(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn an_encrypted_kind_is_not_known() {
        let text = "apiVersion: ENC[AES256_GCM,data:x]\nkind: ENC[AES256_GCM,data:y]\nsops: {}\n";
        assert!(encrypted("a.yaml", text.as_bytes()).is_some_and(|found| found.is_error()));
        assert!(encrypted("a.json", b"{\n\t\"kind\": \"ENC[AES256_GCM,data:y]\"\n}").is_some());
        let secret = "kind: Secret\nstringData:\n  a: ENC[AES256_GCM,data:x]\nsops: {}\n";
        assert!(encrypted("a.yaml", secret.as_bytes()).is_none());
    }
}
