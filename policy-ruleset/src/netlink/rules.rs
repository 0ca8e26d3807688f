//! Statements as expressions over registers.
//!
//! Knows the statements that this crate renders, and refuses every other.
//!
//! - `headers`: whether a header is there, and fields compared with a value.

mod headers;

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    ExpressionAttribute, Expressions, ListAttribute, RuleAttribute, RuleMessage, SetAttribute, SetDescription, SetElementList,
    SetElementMessage, SetFlags, SetMessage,
};
use nftables::expr::{BinaryOperation, Expression, MetaKey, NamedExpression, Payload, SetItem, Verdict};
use nftables::schema::Rule;
use nftables::stmt::{Operator, SetOp, Statement, VerdictMap};

use super::EncodeError;
use super::attributes::{be32, be64, nested, raw, text};
use super::elements::{self, PORT_KEY};
use crate::TABLE;

// Verdicts: NF_DROP, NF_ACCEPT, NFT_JUMP, NFT_GOTO, NFT_RETURN.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const JUMP: u32 = -3i32 as u32;
const GOTO: u32 = -4i32 as u32;
const RETURN: u32 = -5i32 as u32;

// Keys of meta and ct, bases of payload, operators of cmp.
const META_IIFNAME: u32 = 6;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
/// `IPS_DST_NAT`.
const STATUS_DNAT: u32 = 1 << 5;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;
const CMP_LTE: u32 = 3;
const CMP_GTE: u32 = 5;

/// `NFT_DATA_VERDICT`: what verdict maps hold.
const TYPE_VERDICT: u32 = 0xffff_ff00;
/// nft's number for the type of an ICMPv6 type.
const TYPE_ICMPV6: u32 = 29;

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const IPPROTO_ICMP: u8 = 1;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const IPPROTO_SCTP: u8 = 132;
const IPPROTO_ICMPV6: u8 = 58;

/// The numbers behind nft's names for ICMPv6 types.
const ICMPV6_TYPES: [(&str, u8); 9] = [
    ("mld-listener-query", 130),
    ("mld-listener-report", 131),
    ("mld-listener-done", 132),
    ("nd-router-solicit", 133),
    ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135),
    ("nd-neighbor-advert", 136),
    ("nd-redirect", 137),
    ("mld2-listener-report", 143),
];

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

/// Encodes a rule; anonymous sets take their ids from `next_set`.
pub(super) fn encode(rule: &Rule<'_>, next_set: &mut u32) -> Result<EncodedRule, EncodeError> {
    let mut encoder = Encoder { expressions: Vec::new(), sets: Vec::new(), met: Vec::new(), next_set };
    for statement in rule.expr.iter() {
        encoder.statement(statement)?;
    }
    let mut attributes = vec![
        RuleAttribute::Table(TABLE.to_owned()),
        RuleAttribute::Chain(rule.chain.to_string()),
        RuleAttribute::Expressions(encoder.expressions),
    ];
    if let Some(comment) = &rule.comment {
        // NFTNL_UDATA_RULE_COMMENT: type, length, text with its NUL.
        let length = u8::try_from(comment.len() + 1).map_err(|_| EncodeError::new(comment))?;
        attributes.push(RuleAttribute::UserData([&[0, length], comment.as_bytes(), &[0]].concat()));
    }
    Ok(EncodedRule { sets: encoder.sets, rule: RuleMessage { attributes } })
}

struct Encoder<'a> {
    expressions: Vec<ListAttribute<ExpressionAttribute>>,
    sets: Vec<AnonymousSet>,
    /// What the rule has asked already: meta keys and their values.
    met: Vec<(u32, u8)>,
    next_set: &'a mut u32,
}

/// A field of a packet's header.
struct Field {
    /// What must hold for the field to be there: a meta key and its value.
    needs: &'static [(u32, u8)],
    base: u32,
    offset: u32,
    length: u32,
}

const IPV4: &[(u32, u8)] = &[(META_NFPROTO, NFPROTO_IPV4)];
const IPV6: &[(u32, u8)] = &[(META_NFPROTO, NFPROTO_IPV6)];
const ICMPV6: &[(u32, u8)] = &[(META_NFPROTO, NFPROTO_IPV6), (META_L4PROTO, IPPROTO_ICMPV6)];
const TCP: &[(u32, u8)] = &[(META_L4PROTO, IPPROTO_TCP)];
const UDP: &[(u32, u8)] = &[(META_L4PROTO, IPPROTO_UDP)];
const SCTP: &[(u32, u8)] = &[(META_L4PROTO, IPPROTO_SCTP)];

fn field(payload: &Payload<'_>) -> Result<Field, EncodeError> {
    let Payload::PayloadField(named) = payload else { return Err(EncodeError::new(payload)) };
    let (needs, base, offset, length) = match (named.protocol.as_ref(), named.field.as_ref()) {
        ("ip", "saddr") => (IPV4, NETWORK_HEADER, 12, 4),
        ("ip", "daddr") => (IPV4, NETWORK_HEADER, 16, 4),
        ("ip", "hdrlength") => (IPV4, NETWORK_HEADER, 0, 1),
        ("ip6", "hoplimit") => (IPV6, NETWORK_HEADER, 7, 1),
        ("udp", "dport") => (UDP, TRANSPORT_HEADER, 2, 2),
        ("ip6", "saddr") => (IPV6, NETWORK_HEADER, 8, 16),
        ("ip6", "daddr") => (IPV6, NETWORK_HEADER, 24, 16),
        ("icmpv6", "type") => (ICMPV6, TRANSPORT_HEADER, 0, 1),
        ("tcp", "flags") => (TCP, TRANSPORT_HEADER, 13, 1),
        ("th", "sport") => (&[][..], TRANSPORT_HEADER, 0, 2),
        ("th", "dport") => (&[][..], TRANSPORT_HEADER, 2, 2),
        ("tcp", "dport") => (TCP, TRANSPORT_HEADER, 2, 2),
        ("sctp", "dport") => (SCTP, TRANSPORT_HEADER, 2, 2),
        _ => return Err(EncodeError::new(payload)),
    };
    Ok(Field { needs, base, offset, length })
}

/// The register of the n-th group of four bytes: `NFT_REG_1` to `NFT_REG_4` where sixteen start, `NFT_REG32_nn` elsewhere.
fn register(word: u32) -> u32 {
    if word.is_multiple_of(4) { 1 + word / 4 } else { 8 + word }
}

impl Encoder<'_> {
    fn push(&mut self, name: &str, attributes: Vec<DefaultNla>) {
        self.expressions.push(Expressions::Other { expression_type: name.to_owned(), attributes }.into());
    }

    fn load_meta(&mut self, key: u32, register: u32) {
        self.push("meta", vec![be32(2, key), be32(1, register)]);
    }

    fn load_field(&mut self, field: &Field, register: u32) {
        let attributes = vec![be32(1, register), be32(2, field.base), be32(3, field.offset), be32(4, field.length)];
        self.push("payload", attributes);
    }

    fn compare(&mut self, operator: u32, value: &[u8]) {
        self.push("cmp", vec![be32(1, 1), be32(2, operator), nested(3, &[raw(1, value)])]);
    }

    /// `reg 1 = reg 1 & mask`. nft names the operation for payload fields and leaves it out for ct.
    fn mask(&mut self, mask: &[u8], names_operation: bool) {
        self.mask_register(1, mask, names_operation);
    }

    fn mask_register(&mut self, register: u32, mask: &[u8], names_operation: bool) {
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
    fn needs(&mut self, needs: &[(u32, u8)]) {
        for (key, value) in needs {
            if !self.met.contains(&(*key, *value)) {
                self.met.push((*key, *value));
                self.load_meta(*key, 1);
                self.compare(CMP_EQ, &[*value]);
            }
        }
    }

    fn statement(&mut self, statement: &Statement<'_>) -> Result<(), EncodeError> {
        match statement {
            Statement::Accept(_) => self.verdict(ACCEPT, None),
            Statement::Drop(_) => self.verdict(DROP, None),
            Statement::Return(_) => self.verdict(RETURN, None),
            Statement::Jump(to) => self.verdict(JUMP, Some(&to.target)),
            Statement::Goto(to) => self.verdict(GOTO, Some(&to.target)),
            Statement::Counter(_) => self.push("counter", Vec::new()),
            Statement::Limit(limit) if limit.per.as_deref() == Some("second") => {
                let attributes =
                    [be64(1, u64::from(limit.rate)), be64(2, 1), be32(3, limit.burst.unwrap_or(5)), be32(4, 0), be32(5, 0)];
                self.push("limit", attributes.to_vec());
            }
            Statement::Log(Some(log)) => {
                let group = log.group.and_then(|g| u16::try_from(g).ok()).ok_or_else(|| EncodeError::new(statement))?;
                let prefix = log.prefix.as_deref().unwrap_or_default();
                let attributes = vec![text(2, prefix), raw(1, group.to_be_bytes()), be32(3, log.snaplen.unwrap_or(0))];
                self.push("log", attributes);
            }
            Statement::Match(m) => self.matching(&m.left, m.op, &m.right)?,
            Statement::Set(set) if set.op == SetOp::Update => self.update(&set.set, &set.elem)?,
            Statement::VerdictMap(map) => self.verdict_map(map)?,
            other => return Err(EncodeError::new(other)),
        }
        Ok(())
    }

    fn matching(&mut self, left: &Expression<'_>, op: Operator, right: &Expression<'_>) -> Result<(), EncodeError> {
        let unknown = || EncodeError::new(&(left, op, right));
        match (left, op, right) {
            (Expression::Named(NamedExpression::CT(ct)), Operator::IN, Expression::String(word)) => {
                let (key, bit): (u32, u32) = match (ct.key.as_ref(), word.as_ref()) {
                    ("state", "invalid") => (CT_STATE, 1),
                    ("state", "established") => (CT_STATE, 2),
                    ("state", "related") => (CT_STATE, 4),
                    ("status", "dnat") => (CT_STATUS, STATUS_DNAT),
                    _ => return Err(unknown()),
                };
                self.push("ct", vec![be32(2, key), be32(1, 1)]);
                self.mask(&bit.to_ne_bytes(), false);
                self.compare(CMP_NEQ, &[0; 4]);
            }
            (Expression::Named(NamedExpression::Meta(meta)), Operator::EQ, Expression::String(word))
                if !word.starts_with('@') =>
            {
                let (key, value) = match (meta.key, word.as_ref()) {
                    (MetaKey::Nfproto, "ipv4") => (META_NFPROTO, NFPROTO_IPV4),
                    (MetaKey::Nfproto, "ipv6") => (META_NFPROTO, NFPROTO_IPV6),
                    (MetaKey::L4proto, "tcp") => (META_L4PROTO, IPPROTO_TCP),
                    (MetaKey::L4proto, "icmp") => (META_L4PROTO, IPPROTO_ICMP),
                    (MetaKey::L4proto, "ipv6-icmp") => (META_L4PROTO, IPPROTO_ICMPV6),
                    _ => return Err(unknown()),
                };
                self.load_meta(key, 1);
                self.compare(CMP_EQ, &[value]);
            }
            (Expression::Named(NamedExpression::Exthdr(header)), Operator::EQ, Expression::Boolean(true)) => {
                self.header_exists(&header.name)?;
            }
            (Expression::Named(NamedExpression::Payload(payload)), op, Expression::Number(number)) => {
                self.number(payload, op, *number)?;
            }
            (Expression::Named(key), Operator::EQ, Expression::String(word)) => match (word.strip_prefix('@'), key) {
                (Some(set), _) => {
                    self.key(key)?;
                    self.push("lookup", vec![be32(2, 1), text(1, set)]);
                }
                (None, NamedExpression::Payload(payload)) => self.address(payload, right)?,
                _ => return Err(unknown()),
            },
            (Expression::Named(key), Operator::EQ, Expression::Named(NamedExpression::Set(items))) => {
                self.key(key)?;
                self.icmpv6_types(items)?;
            }
            (
                Expression::Named(NamedExpression::Payload(payload)),
                Operator::EQ,
                Expression::Range(_) | Expression::Named(NamedExpression::Prefix(_)),
            ) => self.address(payload, right)?,
            (Expression::BinaryOperation(and), Operator::NEQ, Expression::String(flag)) => self.tcp_flags(and, flag)?,
            _ => return Err(unknown()),
        }
        Ok(())
    }

    /// `update @SET { KEY }`. The rule has matched fields of the key, so what these need holds.
    fn update(&mut self, set: &str, key: &Expression<'_>) -> Result<(), EncodeError> {
        let (Some(set), Expression::Named(NamedExpression::Concat(parts))) = (set.strip_prefix('@'), key) else {
            return Err(EncodeError::new(&(set, key)));
        };
        self.load_parts(parts)?;
        // NFT_DYNSET_OP_UPDATE
        self.push("dynset", vec![be32(4, 1), be32(3, 1), text(1, set)]);
        Ok(())
    }

    /// Compares an address with one, with a block or with a range.
    fn address(&mut self, payload: &Payload<'_>, value: &Expression<'_>) -> Result<(), EncodeError> {
        let mut field = field(payload)?;
        let address = |value: &Expression<'_>| match value {
            Expression::String(word) => word.parse().map(elements::address).ok(),
            _ => None,
        };
        let fits = |bytes: &Vec<u8>| u32::try_from(bytes.len()) == Ok(field.length);
        let address = |value| address(value).filter(fits).ok_or_else(|| EncodeError::new(value));
        match value {
            Expression::Range(range) => {
                let [low, high] = &range.range;
                let (low, high) = (address(low)?, address(high)?);
                self.needs(field.needs);
                self.load_field(&field, 1);
                self.compare(CMP_GTE, &low);
                self.compare(CMP_LTE, &high);
            }
            Expression::Named(NamedExpression::Prefix(prefix)) => {
                let mut bytes = address(&prefix.addr)?;
                let bits = prefix.len;
                if bits == 0 || bits >= field.length * 8 {
                    return Err(EncodeError::new(value));
                }
                // nft loads whole bytes only, and masks them if the block does not end with one.
                let is_whole = bits.is_multiple_of(8);
                if is_whole {
                    bytes.truncate((bits / 8) as usize);
                    field.length = bits / 8;
                }
                self.needs(field.needs);
                self.load_field(&field, 1);
                if !is_whole {
                    let bits_in = |at: u32| u8::MAX.checked_shl(8 - bits.saturating_sub(at * 8).min(8)).unwrap_or(0);
                    let mask: Vec<u8> = (0..field.length).map(bits_in).collect();
                    self.mask(&mask, true);
                }
                self.compare(CMP_EQ, &bytes);
            }
            one => {
                let bytes = address(one)?;
                self.needs(field.needs);
                self.load_field(&field, 1);
                self.compare(CMP_EQ, &bytes);
            }
        }
        Ok(())
    }

    /// Loads a field, or several side by side, into the registers from 1 on.
    fn key(&mut self, key: &NamedExpression<'_>) -> Result<(), EncodeError> {
        match key {
            NamedExpression::Payload(payload) => {
                let field = field(payload)?;
                self.needs(field.needs);
                self.load_field(&field, 1);
                Ok(())
            }
            NamedExpression::Concat(parts) => self.concatenation(parts),
            NamedExpression::Meta(meta) if meta.key == MetaKey::Iifname => {
                self.load_meta(META_IIFNAME, 1);
                Ok(())
            }
            other => Err(EncodeError::new(other)),
        }
    }

    fn concatenation(&mut self, parts: &[Expression<'_>]) -> Result<(), EncodeError> {
        if let Some((payload, _)) = parts.iter().find_map(masked_field) {
            self.needs(field(payload)?.needs);
        }
        self.load_parts(parts)
    }

    fn load_parts(&mut self, parts: &[Expression<'_>]) -> Result<(), EncodeError> {
        let mut word = 0;
        for part in parts {
            if let Some((payload, mask)) = masked_field(part) {
                let field = field(payload)?;
                self.load_field(&field, register(word));
                if let Some(mask) = mask {
                    let fits = |mask: &Vec<u8>| u32::try_from(mask.len()) == Ok(field.length);
                    let mask = mask.parse().ok().map(elements::address).filter(fits).ok_or_else(|| EncodeError::new(part))?;
                    self.mask_register(register(word), &mask, true);
                }
                word += field.length.div_ceil(4);
                continue;
            }
            match part {
                Expression::Named(NamedExpression::Meta(meta)) if meta.key == MetaKey::Iifname => {
                    self.load_meta(META_IIFNAME, register(word));
                    word += 4;
                }
                Expression::Named(NamedExpression::Meta(meta)) if meta.key == MetaKey::L4proto => {
                    self.load_meta(META_L4PROTO, register(word));
                    word += 1;
                }
                other => return Err(EncodeError::new(other)),
            }
        }
        Ok(())
    }

    /// `tcp flags & MASK != FLAG`.
    fn tcp_flags(&mut self, and: &BinaryOperation<'_>, wanted: &str) -> Result<(), EncodeError> {
        let BinaryOperation::AND(Expression::Named(NamedExpression::Payload(payload)), mask) = and else {
            return Err(EncodeError::new(and));
        };
        let field = field(payload)?;
        self.needs(field.needs);
        self.load_field(&field, 1);
        self.mask(&[flag_bits(mask)?], true);
        self.compare(CMP_NEQ, &[flag_bit(wanted)?]);
        Ok(())
    }

    fn icmpv6_types(&mut self, items: &[SetItem<'_>]) -> Result<(), EncodeError> {
        let mut elements = Vec::new();
        for item in items {
            let SetItem::Element(Expression::String(name)) = item else { return Err(EncodeError::new(item)) };
            let known = ICMPV6_TYPES.iter().find(|(known, _)| known == name).ok_or_else(|| EncodeError::new(name))?;
            elements.push(elements::element(&[elements::key(vec![known.1])]));
        }
        let set = self.anonymous("__set%d", (TYPE_ICMPV6, 1), SetFlags::empty(), elements);
        self.push("lookup", vec![be32(2, 1), text(1, "__set%d"), be32(4, set)]);
        Ok(())
    }

    fn verdict_map(&mut self, map: &VerdictMap<'_>) -> Result<(), EncodeError> {
        let (Expression::Named(key), Expression::Named(NamedExpression::Set(items))) = (&map.key, &map.data) else {
            return Err(EncodeError::new(map));
        };
        let mut flags = SetFlags::Map;
        let key_type = match key {
            NamedExpression::Concat(_) => PORT_KEY,
            NamedExpression::Payload(payload) => match field(payload)?.length {
                2 => elements::SERVICE_KEY,
                16 => elements::key_type(crate::SetKind::Addresses(policy_core::sets::Family::V6)),
                _ => elements::key_type(crate::SetKind::Addresses(policy_core::sets::Family::V4)),
            },
            other => return Err(EncodeError::new(other)),
        };
        let has_ranges = items.iter().any(|item| matches!(item, SetItem::Mapping(Expression::Range(_), _)));
        if has_ranges {
            flags |= SetFlags::Interval;
        }
        self.key(key)?;
        let (mut elements, mut ranges) = (Vec::new(), Vec::new());
        for item in items {
            let SetItem::Mapping(element, Expression::Verdict(to)) = item else { return Err(EncodeError::new(item)) };
            let data = match to {
                Verdict::Jump(to) => verdict(JUMP, Some(&to.target)),
                Verdict::Goto(to) => verdict(GOTO, Some(&to.target)),
                other => return Err(EncodeError::new(other)),
            };
            let data = nested(2, &[data]);
            if has_ranges {
                let (low, high) = port_range(element).ok_or_else(|| EncodeError::new(element))?;
                ranges.push((low, high, data));
            } else {
                elements.push(elements::element(&[map_key(element)?, data]));
            }
        }
        if has_ranges {
            elements = elements::port_ranges(ranges);
        }
        let set = self.anonymous("__map%d", key_type, flags, elements);
        self.push("lookup", vec![be32(2, 1), be32(3, 0), text(1, "__map%d"), be32(4, set)]);
        Ok(())
    }

    fn anonymous(&mut self, name: &str, (key_type, key_len): (u32, u32), flags: SetFlags, elements: Vec<DefaultNla>) -> u32 {
        let id = *self.next_set;
        *self.next_set += 1;
        let mut attributes = vec![
            SetAttribute::Table(TABLE.to_owned()),
            SetAttribute::Name(name.to_owned()),
            SetAttribute::Flags(SetFlags::Anonymous | SetFlags::Constant | flags),
            SetAttribute::KeyType(key_type),
            SetAttribute::KeyLen(key_len),
        ];
        if flags.contains(SetFlags::Map) {
            attributes.extend([SetAttribute::DataType(TYPE_VERDICT), SetAttribute::DataLen(0)]);
        }
        attributes.push(SetAttribute::Id(id));
        let size = SetDescription::Size(u32::try_from(elements.len()).unwrap_or(u32::MAX));
        attributes.push(SetAttribute::Description(vec![size]));
        attributes.push(SetAttribute::UserData(elements::set_userdata(key_type == PORT_KEY.0)));
        let place = [SetElementList::Table(TABLE.to_owned()), SetElementList::Set(name.to_owned()), SetElementList::SetId(id)];
        self.sets.push(AnonymousSet { set: SetMessage { attributes }, elements: elements::split(elements, &place) });
        id
    }
}

fn verdict(code: u32, chain: Option<&str>) -> DefaultNla {
    let mut attributes = vec![be32(1, code)];
    attributes.extend(chain.map(|name| text(2, name)));
    nested(2, &attributes)
}

/// A port as a range, or a range of ports.
fn port_range(ports: &Expression<'_>) -> Option<(u16, u16)> {
    let number = |port: &Expression<'_>| match port {
        Expression::Number(n) => u16::try_from(*n).ok(),
        _ => None,
    };
    match ports {
        Expression::Range(range) => {
            let [low, high] = &range.range;
            Some((number(low)?, number(high)?)).filter(|(low, high)| low <= high)
        }
        one => Some((number(one)?, number(one)?)),
    }
}

/// The key of a map's element: an address, a port, or a protocol with a port.
fn map_key(element: &Expression<'_>) -> Result<DefaultNla, EncodeError> {
    let unknown = || EncodeError::new(element);
    match element {
        Expression::String(address) => Ok(elements::key(elements::address(address.parse().map_err(|_| unknown())?))),
        Expression::Number(port) => {
            let port = u16::try_from(*port).map_err(|_| unknown())?;
            Ok(elements::key(port.to_be_bytes().to_vec()))
        }
        Expression::Named(NamedExpression::Concat(parts)) => {
            let [Expression::String(protocol), Expression::Number(port)] = parts.as_slice() else { return Err(unknown()) };
            let transport = policy_core::sets::Transport::from_name(&protocol.to_uppercase()).ok_or_else(unknown)?;
            let port = u16::try_from(*port).map_err(|_| unknown())?;
            Ok(elements::key(elements::port_key(elements::protocol_number(transport), port).to_vec()))
        }
        _ => Err(unknown()),
    }
}

/// A field of the packet, and the mask of the bits that are looked at, if not all of them are.
fn masked_field<'e>(part: &'e Expression<'_>) -> Option<(&'e Payload<'e>, Option<&'e str>)> {
    match part {
        Expression::Named(NamedExpression::Payload(payload)) => Some((payload, None)),
        Expression::BinaryOperation(operation) => match operation.as_ref() {
            BinaryOperation::AND(Expression::Named(NamedExpression::Payload(payload)), Expression::String(mask)) => {
                Some((payload, Some(mask)))
            }
            _ => None,
        },
        _ => None,
    }
}

fn flag_bits(mask: &Expression<'_>) -> Result<u8, EncodeError> {
    match mask {
        Expression::String(flag) => flag_bit(flag),
        Expression::BinaryOperation(operation) => match operation.as_ref() {
            BinaryOperation::OR(parts) => parts.iter().try_fold(0, |bits, part| Ok(bits | flag_bits(part)?)),
            other => Err(EncodeError::new(other)),
        },
        other => Err(EncodeError::new(other)),
    }
}

fn flag_bit(flag: &str) -> Result<u8, EncodeError> {
    match flag {
        "fin" => Ok(0x01),
        "syn" => Ok(0x02),
        "rst" => Ok(0x04),
        "ack" => Ok(0x10),
        other => Err(EncodeError::new(&other)),
    }
}
