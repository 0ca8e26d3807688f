//! Short spellings for the objects that rules are made of, kept to what the `nftables` crate and nft 1.0.6 both take.

use std::borrow::Cow;
use std::net::IpAddr;

use nftables::expr::{
    BinaryOperation, CT, Expression, Exthdr, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, SetItem,
};
use nftables::schema::Rule;
use nftables::stmt::{self, AnonymousCounter, Counter, JumpTarget, Limit, Log, Match, Operator, SetOp, Statement, VerdictMap};
use nftables::types::NfFamily;

use crate::TABLE;

/// Bytes of a comment: nft refuses more than 127.
const LONGEST_COMMENT: usize = 120;

pub(crate) fn text(text: impl Into<Cow<'static, str>>) -> Expression<'static> {
    Expression::String(text.into())
}

/// `ip saddr & 255.255.255.0`.
pub(crate) fn masked(address: Expression<'static>, mask: IpAddr) -> Expression<'static> {
    Expression::BinaryOperation(Box::new(BinaryOperation::AND(address, text(mask.to_string()))))
}

pub(crate) fn payload(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

pub(crate) fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

pub(crate) fn concat(parts: impl IntoIterator<Item = Expression<'static>>) -> Expression<'static> {
    Expression::Named(NamedExpression::Concat(parts.into_iter().collect()))
}

pub(crate) fn set(elements: impl IntoIterator<Item = Expression<'static>>) -> Expression<'static> {
    Expression::Named(NamedExpression::Set(elements.into_iter().map(SetItem::Element).collect()))
}

fn matches(left: Expression<'static>, op: Operator, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

pub(crate) fn equal(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    matches(left, Operator::EQ, right)
}

pub(crate) fn not_equal(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    matches(left, Operator::NEQ, right)
}

pub(crate) fn number(number: u32) -> Expression<'static> {
    Expression::Number(number)
}

/// `ADDRESS/LENGTH`; the encoder takes whole bytes only.
pub(crate) fn prefix(address: &'static str, length: u32) -> Expression<'static> {
    Expression::Named(NamedExpression::Prefix(Prefix { addr: Box::new(text(address)), len: length }))
}

fn ct(key: &'static str, word: &'static str) -> Statement<'static> {
    let key = Expression::Named(NamedExpression::CT(CT { key: key.into(), family: None, dir: None }));
    matches(key, Operator::IN, text(word))
}

/// `ct state WORD`.
pub(crate) fn ct_state(word: &'static str) -> Statement<'static> {
    ct("state", word)
}

/// `ct status WORD`.
pub(crate) fn ct_status(word: &'static str) -> Statement<'static> {
    ct("status", word)
}

/// Names of IPv4 options that the schema spells as extension headers; see [`option_exists`].
pub(crate) const IPV4_OPTIONS: [&str; 2] = ["lsrr", "ssrr"];

/// `exthdr NAME exists`, or `ip option NAME exists` for [`IPV4_OPTIONS`]: the crate has no such expression, so an extension
/// header of that name stands for it until it is written.
pub(crate) fn option_exists(name: &'static str) -> Statement<'static> {
    let header = Exthdr { name: name.into(), field: None, offset: None };
    equal(Expression::Named(NamedExpression::Exthdr(header)), Expression::Boolean(true))
}

/// `tcp flags & (fin | syn | rst | ack) != syn`.
pub(crate) fn opens_no_connection() -> Statement<'static> {
    // nft 1.0.6 takes two operands of `|`, no more.
    let or = |a, b| Expression::BinaryOperation(Box::new(BinaryOperation::OR(vec![a, b])));
    let mask = ["syn", "rst", "ack"].into_iter().fold(text("fin"), |mask, flag| or(mask, text(flag)));
    let flags = BinaryOperation::AND(payload("tcp", "flags"), mask);
    matches(Expression::BinaryOperation(Box::new(flags)), Operator::NEQ, text("syn"))
}

/// `KEY vmap { ELEMENT : jump CHAIN, … }`.
pub(crate) fn verdict_map(
    key: Expression<'static>,
    entries: Vec<(Expression<'static>, Expression<'static>)>,
) -> Statement<'static> {
    let items = entries.into_iter().map(|(element, verdict)| SetItem::Mapping(element, verdict)).collect();
    Statement::VerdictMap(VerdictMap { key, data: Expression::Named(NamedExpression::Set(items)) })
}

fn target(chain: &str) -> JumpTarget<'static> {
    JumpTarget { target: chain.to_owned().into() }
}

pub(crate) fn goto_verdict(chain: &str) -> Expression<'static> {
    Expression::Verdict(nftables::expr::Verdict::Goto(target(chain)))
}

pub(crate) fn jump(chain: &str) -> Statement<'static> {
    Statement::Jump(target(chain))
}

pub(crate) fn goto(chain: &str) -> Statement<'static> {
    Statement::Goto(target(chain))
}

pub(crate) fn counter() -> Statement<'static> {
    Statement::Counter(Counter::Anonymous(Some(AnonymousCounter::default())))
}

/// `update @SET { KEY }`.
pub(crate) fn update(set: &str, key: Expression<'static>) -> Statement<'static> {
    Statement::Set(stmt::Set { op: SetOp::Update, elem: key, set: format!("@{set}").into() })
}

/// `limit rate RATE/second burst BURST packets`.
pub(crate) fn limit(rate: u32, burst: u32) -> Statement<'static> {
    Statement::Limit(Limit { rate, rate_unit: None, per: Some("second".into()), burst: Some(burst), burst_unit: None, inv: None })
}

/// `log prefix PREFIX group GROUP snaplen BYTES`.
pub(crate) fn log(prefix: String, group: u32, snaplen: u32) -> Statement<'static> {
    Statement::Log(Some(Log {
        prefix: Some(prefix.into()),
        group: Some(group),
        snaplen: Some(snaplen),
        queue_threshold: None,
        level: None,
        flags: None,
    }))
}

/// A rule; an empty comment is none.
pub(crate) fn rule(chain: &str, expr: Vec<Statement<'static>>, comment: &str) -> Rule<'static> {
    Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.to_owned().into(),
        expr: expr.into(),
        handle: None,
        index: None,
        comment: (!comment.is_empty()).then(|| fit(comment).into()),
    }
}

/// Printable ASCII without quotes, cut to what nft takes.
pub(crate) fn fit(comment: &str) -> String {
    let plain: String = comment.chars().map(|c| if matches!(c, ' '..='~') && c != '"' && c != '\\' { c } else { '?' }).collect();
    if plain.len() <= LONGEST_COMMENT {
        return plain;
    }
    let kept: String = plain.chars().take(LONGEST_COMMENT - 3).collect();
    format!("{kept}...")
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
        let verdict = Expression::Verdict(nftables::expr::Verdict::Drop);
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
        assert_eq!(serde_json::to_value(Statement::Notrack).unwrap(), json!("notrack"));
    }
}
