//! Statements as expressions over registers, as nft 1.0.6 writes them.
//!
//! - `fields`: where the fields of a packet are.
//! - `maps`: anonymous sets and verdict maps.

mod fields;
mod maps;

use std::net::IpAddr;

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    ExpressionAttribute, Expressions, ListAttribute, RuleAttribute, RuleMessage, SetElementMessage, SetMessage,
};

use super::attributes::{be32, be64, nested, raw, text};
use super::elements;
use crate::TABLE;
use crate::rule::{AddressField, AddressRange, Field, Header, Key, Rule, Side, Statement, netmask};
use fields::{META_IIFNAME, META_L4PROTO, META_NFPROTO, Needs, Place};

// Verdicts: NF_DROP, NF_ACCEPT, NFT_JUMP, NFT_GOTO, NFT_RETURN.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const JUMP: u32 = -3i32 as u32;
const GOTO: u32 = -4i32 as u32;
const RETURN: u32 = -5i32 as u32;

// Keys of ct, operators of cmp.
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
/// `IPS_DST_NAT`.
const STATUS_DNAT: u32 = 1 << 5;
const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;
const CMP_LTE: u32 = 3;
const CMP_GTE: u32 = 5;
/// `NFT_DYNSET_OP_UPDATE`.
const UPDATE: u32 = 1;

// Operators of exthdr, and the flag that asks only whether a header is there.
const EXTHDR_IPV6: u32 = 0;
const EXTHDR_IPV4: u32 = 2;
const EXTHDR_PRESENT: u32 = 1;

// Flags of TCP: FIN, SYN, RST and ACK, and SYN alone.
const TCP_FLAGS: u8 = 0x01 | TCP_SYN | 0x04 | 0x10;
const TCP_SYN: u8 = 0x02;
/// The length of an IPv4 header without options, in words of four bytes: the lower half of its first byte.
const HEADER_LENGTH: u8 = 0x0f;
const PLAIN_HEADER: u8 = 5;

/// A rule, and the anonymous sets that come before it.
pub(super) struct EncodedRule {
    pub sets: Vec<AnonymousSet>,
    pub rule: RuleMessage,
}

/// A set without a name of its own, bound to one rule.
pub(super) struct AnonymousSet {
    pub set: SetMessage,
    pub elements: Vec<SetElementMessage>,
}

/// Encodes a rule of a chain; anonymous sets take their ids from `next_set`.
pub(super) fn encode(chain: &str, rule: &Rule, next_set: &mut u32) -> EncodedRule {
    let mut encoder = Encoder { expressions: Vec::new(), sets: Vec::new(), met: Vec::new(), next_set };
    rule.statements.iter().for_each(|statement| encoder.statement(statement));
    let mut attributes = vec![
        RuleAttribute::Table(TABLE.to_owned()),
        RuleAttribute::Chain(chain.to_owned()),
        RuleAttribute::Expressions(encoder.expressions),
    ];
    if let Some(comment) = rule.comment.text() {
        // NFTNL_UDATA_RULE_COMMENT: type, length, text with its NUL. INVARIANT: a comment has fewer than 255 bytes.
        let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
        attributes.push(RuleAttribute::UserData([&[0, length], comment.as_bytes(), &[0]].concat()));
    }
    EncodedRule { sets: encoder.sets, rule: RuleMessage { attributes } }
}

struct Encoder<'a> {
    expressions: Vec<ListAttribute<ExpressionAttribute>>,
    sets: Vec<AnonymousSet>,
    /// What the rule has asked already: meta keys and their values.
    met: Vec<(u32, u8)>,
    next_set: &'a mut u32,
}

/// The register of the n-th group of four bytes: `NFT_REG_1` to `NFT_REG_4` where sixteen start, `NFT_REG32_nn` elsewhere.
fn register(word: u32) -> u32 {
    if word.is_multiple_of(4) { 1 + word / 4 } else { 8 + word }
}

fn verdict(code: u32, chain: Option<&str>) -> DefaultNla {
    let mut attributes = vec![be32(1, code)];
    attributes.extend(chain.map(|name| text(2, name)));
    nested(2, &attributes)
}

impl Encoder<'_> {
    fn push(&mut self, name: &str, attributes: Vec<DefaultNla>) {
        self.expressions.push(Expressions::Other { expression_type: name.to_owned(), attributes }.into());
    }

    fn load_meta(&mut self, key: u32, register: u32) {
        self.push("meta", vec![be32(2, key), be32(1, register)]);
    }

    fn load_place(&mut self, place: &Place, register: u32) {
        let attributes = vec![be32(1, register), be32(2, place.base), be32(3, place.offset), be32(4, place.length)];
        self.push("payload", attributes);
    }

    /// Loads a field of a header, once it is sure that the packet has this header.
    fn load(&mut self, place: &Place) {
        self.needs(place.needs);
        self.load_place(place, 1);
    }

    fn compare(&mut self, operator: u32, value: &[u8]) {
        self.push("cmp", vec![be32(1, 1), be32(2, operator), nested(3, &[raw(1, value)])]);
    }

    /// `reg = reg & mask`. nft names the operation for payload fields and leaves it out for ct.
    fn mask(&mut self, register: u32, mask: &[u8], names_operation: bool) {
        let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
        let mut attributes = vec![be32(1, register), be32(2, register)];
        attributes.extend(names_operation.then(|| be32(6, 0)));
        attributes.extend([be32(3, length), nested(4, &[raw(1, mask)]), nested(5, &[raw(1, vec![0; mask.len()])])]);
        self.push("bitwise", attributes);
    }

    fn verdict(&mut self, code: u32, chain: Option<&str>) {
        self.push("immediate", vec![be32(1, 0), nested(2, &[verdict(code, chain)])]);
    }

    /// Asks what a field needs, once in a rule.
    fn needs(&mut self, needs: Needs) {
        for (key, value) in needs {
            if !self.met.contains(&(*key, *value)) {
                self.met.push((*key, *value));
                self.meta_is(*key, *value);
            }
        }
    }

    fn meta_is(&mut self, key: u32, value: u8) {
        self.load_meta(key, 1);
        self.compare(CMP_EQ, &[value]);
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::InSet { key, set } => {
                self.load_key(*key);
                self.push("lookup", vec![be32(2, 1), text(1, set)]);
            }
            Statement::InRange { side, range } => self.in_range(*side, *range),
            Statement::ToPort(transport, port) => {
                self.load(&fields::destination_port(*transport));
                self.compare(CMP_EQ, &port.to_be_bytes());
            }
            Statement::OfFamily(family) => self.meta_is(META_NFPROTO, fields::family_number(*family)),
            Statement::OfProtocol(protocol) => self.meta_is(META_L4PROTO, protocol.number()),
            Statement::InState(state) => self.tracked(CT_STATE, state.bit()),
            Statement::IsTranslated => self.tracked(CT_STATUS, STATUS_DNAT),
            Statement::OpensNoConnection => {
                self.load(&fields::TCP_FLAGS);
                self.mask(1, &[TCP_FLAGS], true);
                self.compare(CMP_NEQ, &[TCP_SYN]);
            }
            Statement::HasIpv4Options => {
                self.load(&fields::IPV4_HEADER_LENGTH);
                self.mask(1, &[HEADER_LENGTH], true);
                self.compare(CMP_NEQ, &[PLAIN_HEADER]);
            }
            Statement::HasHeader(header) => self.has_header(*header),
            Statement::OfIcmpv6Types(types) => self.of_icmpv6_types(types),
            Statement::HopLimit(limit) => {
                self.load(&fields::HOP_LIMIT);
                self.compare(CMP_EQ, &[*limit]);
            }
            Statement::VerdictMap(map) => self.verdict_map(map),
            Statement::Counter => self.push("counter", Vec::new()),
            Statement::Limit { rate, burst } => {
                let attributes = vec![be64(1, u64::from(*rate)), be64(2, 1), be32(3, *burst), be32(4, 0), be32(5, 0)];
                self.push("limit", attributes);
            }
            Statement::Log { prefix, group, snaplen } => {
                self.push("log", vec![text(2, prefix), raw(1, group.to_be_bytes()), be32(3, *snaplen)]);
            }
            Statement::Update { set, key } => {
                self.load_key(*key);
                self.push("dynset", vec![be32(4, 1), be32(3, UPDATE), text(1, set)]);
            }
            Statement::Jump(chain) => self.verdict(JUMP, Some(chain)),
            Statement::Goto(chain) => self.verdict(GOTO, Some(chain)),
            Statement::Return => self.verdict(RETURN, None),
            Statement::Accept => self.verdict(ACCEPT, None),
            Statement::Drop => self.verdict(DROP, None),
        }
    }

    /// Whether a bit of what connection tracking says is set.
    fn tracked(&mut self, key: u32, bit: u32) {
        self.push("ct", vec![be32(2, key), be32(1, 1)]);
        self.mask(1, &bit.to_ne_bytes(), false);
        self.compare(CMP_NEQ, &[0; 4]);
    }

    fn has_header(&mut self, header: Header) {
        let operator = match header {
            Header::Routing => EXTHDR_IPV6,
            Header::LooseSourceRoute | Header::StrictSourceRoute => EXTHDR_IPV4,
        };
        self.needs(fields::of_family(header.family()));
        // Register, type, offset, length, operator, flags.
        let number = raw(2, [header.number()]);
        let attributes = vec![be32(1, 1), number, be32(3, 0), be32(4, 1), be32(6, operator), be32(5, EXTHDR_PRESENT)];
        self.push("exthdr", attributes);
        self.compare(CMP_EQ, &[1]);
    }

    /// Compares an address with one, with a block or with a range.
    fn in_range(&mut self, side: Side, range: AddressRange) {
        let mut place = fields::address(AddressField { family: range.family(), side });
        match range {
            AddressRange::One(address) => {
                self.load(&place);
                self.compare(CMP_EQ, &elements::address(address));
            }
            AddressRange::Between(low, high) => {
                self.load(&place);
                self.compare(CMP_GTE, &elements::address(low));
                self.compare(CMP_LTE, &elements::address(high));
            }
            // Every address of the family.
            AddressRange::Block(block) if block.prefix_len() == 0 => self.needs(place.needs),
            AddressRange::Block(block) => {
                // nft loads whole bytes only, and masks them if the block does not end with one.
                let (mut bytes, length) = (elements::address(block.network()), block.prefix_len());
                let mask = (!length.is_multiple_of(8)).then(|| elements::address(block.netmask()));
                if mask.is_none() {
                    place.length = u32::from(length / 8);
                    bytes.truncate(usize::from(length / 8));
                }
                self.load(&place);
                if let Some(mask) = mask {
                    self.mask(1, &mask, true);
                }
                self.compare(CMP_EQ, &bytes);
            }
        }
    }

    /// Loads the fields of a key side by side into the registers from 1 on.
    fn load_key(&mut self, key: Key) {
        let fields = key.fields();
        fields.iter().for_each(|field| self.needs(fields::needs(*field)));
        let mut word = 0;
        for field in fields {
            word += self.load_field(field, register(word));
        }
    }

    /// Loads a field, and returns how many groups of four bytes it takes.
    fn load_field(&mut self, field: Field, register: u32) -> u32 {
        match field {
            Field::Address(address) => {
                let place = fields::address(address);
                self.load_place(&place, register);
                place.length.div_ceil(4)
            }
            Field::Network(address, length) => {
                let place = fields::address(address);
                self.load_place(&place, register);
                let mask: IpAddr = netmask(address.family, length);
                self.mask(register, &elements::address(mask), true);
                place.length.div_ceil(4)
            }
            Field::Interface => {
                self.load_meta(META_IIFNAME, register);
                4
            }
            Field::Protocol => {
                self.load_meta(META_L4PROTO, register);
                1
            }
            Field::Port(side) => {
                self.load_place(&fields::port(side), register);
                1
            }
        }
    }
}
