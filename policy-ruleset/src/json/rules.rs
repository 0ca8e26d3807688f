//! Rules as schema objects, kept to what the `nftables` crate and nft 1.0.6 both accept.

use nftables::expr::{
    BinaryOperation, CT, Expression, Exthdr, Meta, MetaKey, NamedExpression, Payload, PayloadField, Range, SetItem, Verdict,
};
use nftables::schema;
use nftables::stmt::{self, AnonymousCounter, Counter, JumpTarget, Limit, Log, Match, Operator, SetOp};
use nftables::types::NfFamily;
use policy_core::sets::{Family, Transport};

use super::{concat, range, text};
use crate::TABLE;
use crate::rule::{AddressField, Field, IpProtocol, Key, PortRange, Rule, Side, Statement, VerdictMap, netmask};

/// A rule of a chain.
pub(super) fn rule<'a>(chain: &'a str, rule: &'a Rule) -> schema::Rule<'a> {
    schema::Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: rule.statements.iter().map(statement).collect::<Vec<_>>().into(),
        handle: None,
        index: None,
        comment: rule.comment.text().map(Into::into),
    }
}

fn statement(statement: &Statement) -> stmt::Statement<'_> {
    match statement {
        Statement::InSet { key, set } => equal(self::key(*key), set_name(set)),
        Statement::InRange { side, range } => {
            equal(address(AddressField { family: range.family(), side: *side }), self::range(*range))
        }
        Statement::ToPort(transport, port) => equal(destination_port(*transport), Expression::Number(u32::from(*port))),
        Statement::OfFamily(family) => equal(meta(MetaKey::Nfproto), text(family_word(*family))),
        Statement::OfProtocol(protocol) => equal(meta(MetaKey::L4proto), text(protocol.name())),
        Statement::InState(state) => tracked("state", state.name()),
        Statement::IsTranslated => tracked("status", "dnat"),
        Statement::OpensNoConnection => opens_no_connection(),
        Statement::HasIpv4Options => matches(payload("ip", "hdrlength"), Operator::NEQ, Expression::Number(5)),
        Statement::HasHeader(header) => {
            let header = Exthdr { name: header.name().into(), field: None, offset: None };
            equal(Expression::Named(NamedExpression::Exthdr(header)), Expression::Boolean(true))
        }
        Statement::OfIcmpv6Types(types) => {
            let types = types.iter().map(|kind| SetItem::Element(text(kind.name()))).collect();
            equal(payload("icmpv6", "type"), Expression::Named(NamedExpression::Set(types)))
        }
        Statement::HopLimit(limit) => equal(payload("ip6", "hoplimit"), Expression::Number(u32::from(*limit))),
        Statement::VerdictMap(map) => stmt::Statement::VerdictMap(verdict_map(map)),
        Statement::Counter => stmt::Statement::Counter(Counter::Anonymous(Some(AnonymousCounter::default()))),
        Statement::Limit { rate, burst } => {
            let (per, burst) = (Some("second".into()), Some(*burst));
            stmt::Statement::Limit(Limit { rate: *rate, rate_unit: None, per, burst, burst_unit: None, inv: None })
        }
        Statement::Log { prefix, group, snaplen } => stmt::Statement::Log(Some(Log {
            prefix: Some(prefix.into()),
            group: Some(u32::from(*group)),
            snaplen: Some(*snaplen),
            queue_threshold: None,
            level: None,
            flags: None,
        })),
        Statement::Update { set, key } => {
            stmt::Statement::Set(stmt::Set { op: SetOp::Update, elem: self::key(*key), set: format!("@{set}").into() })
        }
        Statement::Jump(chain) => stmt::Statement::Jump(target(chain)),
        Statement::Goto(chain) => stmt::Statement::Goto(target(chain)),
        Statement::Return => stmt::Statement::Return(None),
        Statement::Accept => stmt::Statement::Accept(None),
        Statement::Drop => stmt::Statement::Drop(None),
    }
}

fn matches<'a>(left: Expression<'a>, op: Operator, right: Expression<'a>) -> stmt::Statement<'a> {
    stmt::Statement::Match(Match { left, right, op })
}

fn equal<'a>(left: Expression<'a>, right: Expression<'a>) -> stmt::Statement<'a> {
    matches(left, Operator::EQ, right)
}

fn tracked(key: &'static str, word: &'static str) -> stmt::Statement<'static> {
    let key = Expression::Named(NamedExpression::CT(CT { key: key.into(), family: None, dir: None }));
    matches(key, Operator::IN, text(word))
}

fn opens_no_connection() -> stmt::Statement<'static> {
    // nft 1.0.6 takes two operands of `|`, no more.
    let or = |a, b| Expression::BinaryOperation(Box::new(BinaryOperation::OR(vec![a, b])));
    let mask = ["syn", "rst", "ack"].into_iter().fold(text("fin"), |mask, flag| or(mask, text(flag)));
    let flags = BinaryOperation::AND(payload("tcp", "flags"), mask);
    matches(Expression::BinaryOperation(Box::new(flags)), Operator::NEQ, text("syn"))
}

fn verdict_map(map: &VerdictMap) -> stmt::VerdictMap<'_> {
    let goto = |chain| Expression::Verdict(Verdict::Goto(target(chain)));
    let (key, items) = match map {
        VerdictMap::Addresses { field, chains } => {
            let items = chains.iter().map(|(ip, chain)| SetItem::Mapping(text(ip.to_string()), goto(chain)));
            (address(*field), items.collect())
        }
        VerdictMap::Ports(chains) => {
            let port = |transport: Transport, port: u16| {
                concat([text(IpProtocol::from(transport).name()), Expression::Number(u32::from(port))])
            };
            let items = chains.iter().map(|(transport, number, chain)| SetItem::Mapping(port(*transport, *number), goto(chain)));
            (concat([meta(MetaKey::L4proto), payload("th", "dport")]), items.collect())
        }
        VerdictMap::PortRanges { transport, chains } => {
            let items = chains.iter().map(|(range, chain)| SetItem::Mapping(ports(*range), goto(chain)));
            (destination_port(*transport), items.collect())
        }
    };
    stmt::VerdictMap { key, data: Expression::Named(NamedExpression::Set(items)) }
}

fn ports(PortRange { low, high }: PortRange) -> Expression<'static> {
    let [low, high] = [low, high].map(|port| Expression::Number(u32::from(port)));
    if low == high { low } else { Expression::Range(Box::new(Range { range: [low, high] })) }
}

fn target(chain: &str) -> JumpTarget<'_> {
    JumpTarget { target: chain.into() }
}

fn set_name(set: &str) -> Expression<'static> {
    text(format!("@{set}"))
}

fn key(key: Key) -> Expression<'static> {
    let mut fields = key.fields().into_iter().map(field);
    match (fields.len(), fields.next()) {
        (1, Some(only)) => only,
        (_, first) => concat(first.into_iter().chain(fields)),
    }
}

fn field(field: Field) -> Expression<'static> {
    match field {
        Field::Address(field) => address(field),
        Field::Network(field, length) => {
            let mask = text(netmask(field.family, length).to_string());
            Expression::BinaryOperation(Box::new(BinaryOperation::AND(address(field), mask)))
        }
        Field::Interface => meta(MetaKey::Iifname),
        Field::Protocol => meta(MetaKey::L4proto),
        Field::Port(Side::Source) => payload("th", "sport"),
        Field::Port(Side::Destination) => payload("th", "dport"),
    }
}

fn address(AddressField { family, side }: AddressField) -> Expression<'static> {
    let protocol = match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    match side {
        Side::Source => payload(protocol, "saddr"),
        Side::Destination => payload(protocol, "daddr"),
    }
}

fn destination_port(transport: Transport) -> Expression<'static> {
    payload(IpProtocol::from(transport).name(), "dport")
}

fn family_word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn payload(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

/// What the `nftables` crate and nft 1.0.6 get wrong, and this crate therefore never uses. When one of these fails after an
/// upgrade, a gap has closed.
#[cfg(test)]
mod gaps {
    use super::*;
    use nftables::schema::{Counter as NamedCounter, SetType};
    use serde_json::json;

    #[test]
    fn less_and_greater_are_swapped() {
        assert_eq!(serde_json::to_value(Operator::LT).unwrap(), json!(">"));
        assert_eq!(serde_json::to_value(Operator::GT).unwrap(), json!("<"));
    }

    #[test]
    fn sets_of_verdicts_cannot_be_declared() {
        assert!(serde_json::from_value::<SetType>(json!("verdict")).is_err());
    }

    #[test]
    fn plain_verdicts_in_maps_are_bare_words() {
        let verdict = Expression::Verdict(Verdict::Drop);
        assert_eq!(serde_json::to_value(verdict).unwrap(), json!("drop"), "nft wants {{\"drop\": null}}");
    }

    #[test]
    fn named_counters_end_at_four_gibibytes() {
        let counter = json!({"family": "inet", "table": "t", "name": "c", "packets": 1, "bytes": 1u64 << 32});
        assert!(serde_json::from_value::<NamedCounter<'_>>(counter).is_err());
    }

    #[test]
    fn ipv4_options_have_no_expression() {
        assert!(serde_json::from_value::<NamedExpression<'_>>(json!({"ip option": {"name": "lsrr"}})).is_err());
    }

    #[test]
    fn notrack_is_a_bare_word() {
        assert_eq!(serde_json::to_value(stmt::Statement::Notrack).unwrap(), json!("notrack"));
    }
}
