//! The tokens of which clients of `/metrics` must send one, in a file that may change.
//!
//! A token opens `/metrics` and nothing else, so it is worth no more than the metrics are, also to somebody who reads it on its way. It is
//! checked without the API server, because the metrics are needed most when that does not answer.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::small_file;

/// Bytes of the file at the most.
const LARGEST: u64 = 64 << 10;
/// The file is read at the most this often.
const FRESH: Duration = Duration::from_secs(10);
const SCHEME: &str = "bearer";

/// What is compared: the time that it takes to find two digests different says nothing about a token.
type Sum = [u8; 32];

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It has one of the tokens.
    Granted,
    /// It has none of them.
    Refused,
    /// There is nothing to compare with.
    Unreadable,
}

/// The tokens of a file.
pub struct Tokens {
    path: PathBuf,
    read: Mutex<Read>,
}

/// What was last read.
#[derive(Default)]
struct Read {
    at: Option<Instant>,
    sums: Vec<Sum>,
    /// Why there are none.
    trouble: Option<String>,
}

impl Tokens {
    /// The tokens in this file, one a line. It need not exist yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::default() }
    }

    /// Whether the value of a header `Authorization` has one of the tokens.
    #[must_use]
    pub fn admit(&self, authorization: Option<&[u8]>, now: Instant) -> Admission {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.at.is_none_or(|at| now.saturating_duration_since(at) >= FRESH) {
            read.renew(&self.path, now);
        }
        if read.sums.is_empty() {
            return Admission::Unreadable;
        }
        match authorization.and_then(token) {
            Some(token) if read.sums.contains(&sum(token)) => Admission::Granted,
            _ => Admission::Refused,
        }
    }
}

impl Read {
    fn renew(&mut self, path: &Path, now: Instant) {
        let (sums, trouble) = match small_file::read(path, LARGEST) {
            Ok(content) => (sums(&content), None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let trouble = trouble.or_else(|| sums.is_empty().then(|| "it has no token".to_owned()));
        if let Some(error) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            tracing::warn!(path = %path.display(), error, "nobody can read the metrics: cannot read the tokens");
        }
        *self = Self { at: Some(now), sums, trouble };
    }
}

fn sum(token: &[u8]) -> Sum {
    Sha256::digest(token).into()
}

/// One for each line that has something.
fn sums(content: &[u8]) -> Vec<Sum> {
    content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).map(sum).collect()
}

/// The token in `Bearer TOKEN`.
fn token(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = authorization.split_at_checked(SCHEME.len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) && rest.starts_with(b" ");
    is_bearer.then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_token_of_the_file_is_admitted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, "first-token\n\n  second-token\r\n").unwrap();
        let (tokens, now) = (Tokens::new(path), Instant::now());
        for good in ["Bearer first-token", "bearer second-token", "BEARER   first-token "] {
            assert_eq!(tokens.admit(Some(good.as_bytes()), now), Admission::Granted, "{good}");
        }
        let bad = [
            "",
            "Bearer",
            "Bearer ",
            "Bearerfirst-token",
            "Basic first-token",
            "first-token",
            "Bearer first-toke",
            "Bearer first-token2",
            "Bearer first-token second-token",
            "Bearer First-token",
            "Bearer first-token\n\nsecond-token",
        ];
        for bad in bad {
            assert_eq!(tokens.admit(Some(bad.as_bytes()), now), Admission::Refused, "{bad}");
        }
        assert_eq!(tokens.admit(None, now), Admission::Refused);
    }

    #[test]
    fn a_file_without_tokens_admits_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let now = Instant::now();
        let none = || Tokens::new(path.clone());
        for header in [None, Some(&b"Bearer "[..]), Some(b"Bearer x")] {
            assert_eq!(none().admit(header, now), Admission::Unreadable, "there is no file");
        }
        for content in ["", "\n \n"] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(none().admit(Some(b"Bearer "), now), Admission::Unreadable, "{content:?}");
        }
        std::fs::write(&path, "x".repeat(LARGEST as usize + 1)).unwrap();
        assert_eq!(none().admit(Some(b"Bearer x"), now), Admission::Unreadable, "it is too large");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(none().admit(Some(b"Bearer x"), now), Admission::Unreadable, "it is no file");
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_not_for_each_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let (tokens, now) = (Tokens::new(path.clone()), Instant::now());
        let admit = |token: &str, after: Duration| tokens.admit(Some(format!("Bearer {token}").as_bytes()), now + after);
        assert_eq!(admit("old", Duration::ZERO), Admission::Unreadable);
        std::fs::write(&path, "old\n").unwrap();
        let moment = Duration::from_millis(1);
        assert_eq!(admit("old", FRESH - moment), Admission::Unreadable);
        assert_eq!(admit("old", FRESH), Admission::Granted);
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(admit("new", 2 * FRESH - moment), Admission::Refused);
        assert_eq!(admit("new", 2 * FRESH), Admission::Granted);
        assert_eq!(admit("old", 2 * FRESH), Admission::Refused);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(admit("new", 3 * FRESH), Admission::Unreadable, "a token that is withdrawn opens nothing");
    }
}
