//! Netlink attributes as bytes: a length, a type, a value, padding to four bytes.

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED};

pub(super) fn raw(kind: u16, value: impl Into<Vec<u8>>) -> DefaultNla {
    DefaultNla::new(kind, value.into())
}

pub(super) fn be32(kind: u16, value: u32) -> DefaultNla {
    raw(kind, value.to_be_bytes())
}

pub(super) fn be64(kind: u16, value: u64) -> DefaultNla {
    raw(kind, value.to_be_bytes())
}

/// Text with its final NUL.
pub(super) fn text(kind: u16, value: &str) -> DefaultNla {
    raw(kind, [value.as_bytes(), &[0]].concat())
}

pub(super) fn nested(kind: u16, inner: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; inner.buffer_len()];
    inner.emit(&mut bytes);
    raw(kind | NLA_F_NESTED, bytes)
}
