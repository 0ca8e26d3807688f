//! Names of network interfaces.

use std::fmt;

/// Bytes of a name, its final NUL included: `IFNAMSIZ`.
const SIZE: usize = 16;

/// The name of a network interface of the node, in letters that need no quoting anywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName([u8; SIZE]);

impl InterfaceName {
    /// A name of 1 to 15 ASCII letters, digits, `-`, `_`, `.`, `@` and `+`; `None` for every other text. The kernel accepts more,
    /// but nft reads some of it, such as `*`, as something else than a name.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@+".contains(&byte));
        let mut bytes = [0; SIZE];
        let place = bytes.get_mut(..text.len())?;
        place.copy_from_slice(text.as_bytes());
        (is_plain && !text.is_empty() && text.len() < SIZE).then_some(Self(bytes))
    }

    /// The name as the kernel compares it: padded with NULs.
    #[must_use]
    pub fn bytes(&self) -> [u8; SIZE] {
        self.0
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(SIZE);
        self.0.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_short() {
        for good in ["eth0", "cali12345-_.@+", "v", "fifteen-letters"] {
            let name = InterfaceName::new(good).unwrap();
            assert_eq!((name.as_str(), name.to_string()), (good, good.to_owned()));
        }
        for bad in ["", "sixteen--letters", "va*", "a b", "a\"b", "a\nb", "vé", "a/b", "a\0b"] {
            assert_eq!(InterfaceName::new(bad), None, "{bad:?}");
        }
    }
}
