//! Text of manifests in the encodings that kubectl reads: UTF-8, and UTF-16 that begins with a byte order mark.

use std::borrow::Cow;

const LITTLE_ENDIAN: [u8; 2] = [0xff, 0xfe];
const BIG_ENDIAN: [u8; 2] = [0xfe, 0xff];

/// The bytes of a file as UTF-8: UTF-16 with a byte order mark is converted, and everything else is as it is. UTF-16 that is not
/// valid is not converted either, so that reading it reports what is wrong. Converting twice changes nothing.
///
/// Source: `FileVisitor` of k8s.io/cli-runtime/pkg/resource.
///
/// Cost: linear in the file if it is UTF-16, else nothing.
///
/// ```
/// use policy_core::manifest::utf8;
///
/// assert_eq!(*utf8(&[0xff, 0xfe, b'a', 0]), *b"a");
/// assert_eq!(*utf8(b"a"), *b"a");
/// ```
#[must_use]
pub fn utf8(bytes: &[u8]) -> Cow<'_, [u8]> {
    let converted = match bytes.split_first_chunk() {
        Some((&LITTLE_ENDIAN, rest)) => utf16(rest, u16::from_le_bytes),
        Some((&BIG_ENDIAN, rest)) => utf16(rest, u16::from_be_bytes),
        _ => None,
    };
    converted.map_or(Cow::Borrowed(bytes), |text| Cow::Owned(text.into_bytes()))
}

/// Whether the bytes begin as UTF-16 does.
pub(super) fn is_utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(&LITTLE_ENDIAN) || bytes.starts_with(&BIG_ENDIAN)
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return None;
    }
    char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect::<Result<String, _>>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str, mark: [u8; 2], bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        mark.into_iter().chain(text.encode_utf16().flat_map(bytes)).collect()
    }

    #[test]
    fn utf16_with_a_mark_is_converted() {
        let text = "name: é 😀\r\n";
        for bytes in [encoded(text, LITTLE_ENDIAN, u16::to_le_bytes), encoded(text, BIG_ENDIAN, u16::to_be_bytes)] {
            let once = utf8(&bytes);
            assert_eq!(*once, *text.as_bytes());
            assert_eq!(*utf8(&once), *text.as_bytes());
        }
    }

    #[test]
    fn what_is_no_valid_utf16_stays_as_it_is() {
        // An odd number of bytes, half of a pair of surrogates, no mark, and less than a mark.
        for bytes in [&b"\xff\xfea"[..], b"\xff\xfe\x00\xd8", b"a\x00b\x00", b"\xff", b""] {
            assert_eq!(*utf8(bytes), *bytes);
        }
    }
}
