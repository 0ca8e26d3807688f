//! Whether a header or an option is there, and fields of headers compared with a value.

use nftables::expr::Payload;
use nftables::stmt::Operator;

use super::super::EncodeError;
use super::super::attributes::{be32, raw};
use super::{CMP_EQ, CMP_NEQ, Encoder, IPV4, IPV6, field};

/// The routing header of IPv6.
const IPPROTO_ROUTING: u8 = 43;
/// Operators of exthdr, and the flag that asks only whether a header is there.
const EXTHDR_IPV6: u32 = 0;
const EXTHDR_IPV4: u32 = 2;
const EXTHDR_PRESENT: u32 = 1;
/// Numbers of IPv4 options.
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

impl Encoder<'_> {
    /// Whether a header or an option is there.
    pub(super) fn header_exists(&mut self, name: &str) -> Result<(), EncodeError> {
        let (needs, op, number) = match name {
            "rt" => (IPV6, EXTHDR_IPV6, IPPROTO_ROUTING),
            "lsrr" => (IPV4, EXTHDR_IPV4, LOOSE_SOURCE_ROUTE),
            "ssrr" => (IPV4, EXTHDR_IPV4, STRICT_SOURCE_ROUTE),
            other => return Err(EncodeError::new(&other)),
        };
        self.needs(needs);
        // Register, type, offset, length, operator, flags.
        let attributes = vec![be32(1, 1), raw(2, [number]), be32(3, 0), be32(4, 1), be32(6, op), be32(5, EXTHDR_PRESENT)];
        self.push("exthdr", attributes);
        self.compare(CMP_EQ, &[1]);
        Ok(())
    }

    /// A field compared with a number.
    pub(super) fn number(&mut self, payload: &Payload<'_>, op: Operator, number: u32) -> Result<(), EncodeError> {
        let operator = match op {
            Operator::EQ => CMP_EQ,
            Operator::NEQ => CMP_NEQ,
            other => return Err(EncodeError::new(&other)),
        };
        let named = field(payload)?;
        self.needs(named.needs);
        self.load_field(&named, 1);
        if matches!(payload, Payload::PayloadField(field) if field.field == "hdrlength") {
            // The lower half of the byte.
            self.mask(&[0x0f], true);
        }
        let bytes = number.to_be_bytes();
        let start = bytes.len().saturating_sub(named.length as usize);
        self.compare(operator, bytes.get(start..).unwrap_or_default());
        Ok(())
    }
}
