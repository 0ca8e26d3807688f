//! Files that cannot be read, and which of them can hold nothing that decides.

use std::io::ErrorKind;

use policy_core::diagnostic::rules::files::{EMPTY_FILE, INVALID_ENCODING, INVALID_SYNTAX, UNREADABLE_FILE};
use policy_core::diagnostic::{Diagnostic, Severity};

/// How encrypted files begin, and what encrypts them.
const ENCRYPTED: [(&[u8], &str); 9] = [
    (b"\0GITCRYPT\0", "git-crypt"),
    (b"$ANSIBLE_VAULT;", "Ansible Vault"),
    (b"-----BEGIN PGP MESSAGE", "PGP"),
    (b"-----BEGIN AGE ENCRYPTED FILE", "age"),
    (b"age-encryption.org/", "age"),
    (b"-----BEGIN PKCS7", "PKCS #7"),
    (b"-----BEGIN CMS", "CMS"),
    (b"Salted__", "OpenSSL"),
    (b"U2FsdGVkX1", "OpenSSL"),
];
/// How files begin that stand for one that is elsewhere.
const POINTERS: [&[u8]; 2] = [b"version https://git-lfs.github.com/spec/", b"/annex/objects/"];
/// How much of a file shows that it is binary, as in Git.
const HEAD: usize = 8000;
/// What a document needs to be an object, and what can become it when text is expanded.
const SIGNS: [&[u8]; 4] = [b"kind", b"{{", b"\\u", b"\\x"];

/// What findings about files without an object add.
const NO_OBJECT: &str = "no answer depends on it: it holds no Kubernetes object";

/// The finding about a file that cannot be opened.
pub(super) fn unopened(file: &str, error: &std::io::Error) -> Diagnostic {
    let diagnostic = Diagnostic::new(&UNREADABLE_FILE, format!("cannot read the file: {error}")).in_file(file, None);
    if error.kind() == ErrorKind::FileTooLarge { diagnostic.help("use `--max-size` to raise the limit") } else { diagnostic }
}

/// What the bytes of a file are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// Text, in UTF-16 too.
    Text,
    /// Encrypted with this program, whatever is in it.
    Encrypted(&'static str),
    /// A pointer to the content, which is elsewhere.
    Pointer,
    /// Neither text nor anything known.
    Binary,
    /// Nothing but spaces.
    Empty,
}

/// What the bytes of a file are.
pub(super) fn content(bytes: &[u8]) -> Content {
    let text = bytes.trim_ascii_start();
    if let Some((_, program)) = ENCRYPTED.iter().find(|(start, _)| text.starts_with(start)) {
        return Content::Encrypted(program);
    }
    if POINTERS.iter().any(|start| text.starts_with(start)) {
        return Content::Pointer;
    }
    if is_encrypted_whole(text) {
        return Content::Encrypted("SOPS");
    }
    let head = bytes.get(..HEAD).unwrap_or(bytes);
    let is_wide = head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) || is_wide_text(head);
    if text.is_empty() {
        Content::Empty
    } else if head.contains(&0) && !is_wide {
        Content::Binary
    } else {
        Content::Text
    }
}

/// Whether SOPS has encrypted a file as a whole: its text is one value, `data`.
fn is_encrypted_whole(text: &[u8]) -> bool {
    let is_data = |line: &[u8]| {
        let line: Vec<u8> = line.iter().copied().filter(|byte| !b"{\" \t".contains(byte)).collect();
        line.starts_with(b"data:ENC[")
    };
    let contains = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
    text.split(|byte| *byte == b'\n').take(5).any(is_data) && contains(b"sops") && !contains(b"kind")
}

/// Whether every other byte is zero, as in UTF-16 text without a mark.
fn is_wide_text(head: &[u8]) -> bool {
    let of = |rest: usize| head.iter().skip(rest).step_by(2).take(32).all(|byte| *byte == 0);
    of(0) || of(1)
}

/// The finding about a file that is no text.
pub(super) fn no_manifest(file: &str, content: Content) -> Option<Diagnostic> {
    let (message, help) = match content {
        Content::Text => return None,
        Content::Empty => {
            let found = Diagnostic::new(&EMPTY_FILE, "the file is empty").in_file(file, None);
            return Some(found.help("check the command that should have written it"));
        }
        Content::Encrypted(program) => (
            format!("the file is encrypted with {program}, and is not read"),
            "it may hold a policy: decrypt it, and pipe the output: … | netpol … -f -",
        ),
        Content::Pointer => (
            "the file is a pointer to its content, which is not here, and is not read".to_owned(),
            "it may hold a policy: fetch it with `git lfs pull` or `git annex get`",
        ),
        Content::Binary => ("the file is binary, and is not read".to_owned(), NO_OBJECT),
    };
    Some(Diagnostic::new(&UNREADABLE_FILE, message).in_file(file, None).help(help))
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

/// Whether a finding is about text that cannot be read, and not about what it says.
pub(super) fn is_about_text(found: &Diagnostic) -> bool {
    [INVALID_SYNTAX.name, INVALID_ENCODING.name, UNREADABLE_FILE.name].contains(&found.rule.name)
}

/// Whether a text holds no object, though it cannot be read: no document of it can say what it is.
pub(super) fn holds_no_object(bytes: &[u8]) -> bool {
    // Text in UTF-16 has a NUL in each letter.
    let bytes: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
    !SIGNS.iter().any(|sign| bytes.windows(sign.len()).any(|part| part == *sign))
}

/// Gives the findings about files without an object their severity: a warning, unless there is nothing else in the input.
pub(super) fn judge(diagnostics: &mut [Diagnostic], severity: Severity, is_without_object: impl Fn(&str) -> bool) {
    for diagnostic in diagnostics {
        if is_about_text(diagnostic) && is_without_object(diagnostic.file()) {
            diagnostic.severity = severity;
            if diagnostic.rule.name != UNREADABLE_FILE.name {
                diagnostic.help = Some(NO_OBJECT.to_owned());
            }
            // Of nothing else, no answer is given.
            diagnostic.help.take_if(|help| severity == Severity::Error && *help == NO_OBJECT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encrypted_files_and_pointers_are_told_from_text() {
        let rows: [(&[u8], &str); 8] = [
            (b"\0GITCRYPT\0\x01", "git-crypt"),
            (b"$ANSIBLE_VAULT;1.1;AES256\n6638", "Ansible Vault"),
            (b"\n-----BEGIN PGP MESSAGE-----\n", "PGP"),
            (b"-----BEGIN AGE ENCRYPTED FILE-----\n", "age"),
            (b"age-encryption.org/v1\n-> X25519", "age"),
            (b"Salted__\0\x01", "OpenSSL"),
            (b"{\n\t\"data\": \"ENC[AES256_GCM,data:a]\",\n\t\"sops\": {}\n}", "SOPS"),
            (b"data: ENC[AES256_GCM,data:a]\nsops: {}\n", "SOPS"),
        ];
        for (bytes, program) in rows {
            assert_eq!(content(bytes), Content::Encrypted(program));
        }
        assert_eq!(content(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), Content::Pointer);
        assert_eq!(content(b"/annex/objects/SHA256E-s1--0.yaml\n"), Content::Pointer);
        assert_eq!(content(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0"), Content::Binary);
        assert_eq!((content(b""), content(b" \n")), (Content::Empty, Content::Empty));
        let wide: Vec<u8> = "kind: NetworkPolicy\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let marked = [&[0xff, 0xfe], wide.as_slice()].concat();
        let secret = b"kind: Secret\ndata: ENC[AES256_GCM,data:a]\nsops: {}\n";
        for text in [b"kind: Pod\n".as_slice(), b"# nothing\n", secret, &wide, &marked, b"\xe4\xf6"] {
            assert_eq!(content(text), Content::Text, "{text:?}");
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
