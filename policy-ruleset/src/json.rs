//! Transactions as JSON for `nft -j -f -`, through the schema objects of the `nftables` crate.
//!
//! This is the only place that knows the crate.
//!
//! - `rules`: rules as schema objects.

mod rules;

use std::collections::HashSet;

use nftables::batch::Batch;
use nftables::expr::{Expression, NamedExpression, Prefix, Range};
use nftables::schema::{self, FlushObject, NfCmd, NfListObject, Nftables, SetFlag, SetType, SetTypeValue};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use policy_core::sets::Family;

use crate::TABLE;
use crate::rule::{AddressRange, Header, IpProtocol};
use crate::ruleset::{Element, Hook, SetKind};
use crate::terminated;
use crate::transaction::{Op, Transaction};

impl Transaction {
    /// The transaction in the schema of the crate.
    fn to_nftables(&self) -> Nftables<'_> {
        let mut batch = Batch::new();
        for op in &self.ops {
            add(op, &mut batch);
        }
        batch.to_nftables()
    }

    /// One JSON document: one transaction of `nft -j -f -`.
    ///
    /// # Errors
    /// When an object cannot be written as JSON, which those of this crate can.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let mut json = serde_json::to_string(&self.to_nftables())?;
        // The crate has no expression for options of IPv4, so an extension header stands for one until here.
        for name in Header::IPV4_OPTIONS.map(Header::name) {
            let written = format!(r#"{{"exthdr":{{"name":"{name}","field":null,"offset":null}}}}"#);
            json = json.replace(&written, &format!(r#"{{"ip option":{{"name":"{name}"}}}}"#));
        }
        Ok(json)
    }
}

fn text<'a>(text: impl Into<std::borrow::Cow<'a, str>>) -> Expression<'a> {
    Expression::String(text.into())
}

fn concat<'a>(parts: impl IntoIterator<Item = Expression<'a>>) -> Expression<'a> {
    Expression::Named(NamedExpression::Concat(parts.into_iter().collect()))
}

fn table() -> schema::Table<'static> {
    schema::Table { family: NfFamily::INet, name: TABLE.into(), handle: None }
}

fn chain(name: &str, hook: Option<Hook>) -> schema::Chain<'_> {
    let mut chain = schema::Chain { family: NfFamily::INet, table: TABLE.into(), name: name.into(), ..Default::default() };
    if let Some(hook) = hook {
        chain._type = Some(NfChainType::Filter);
        chain.hook = Some(match hook {
            Hook::Input => NfHook::Input,
            Hook::Forward => NfHook::Forward,
        });
        chain.prio = Some(0);
        chain.policy = Some(NfChainPolicy::Accept);
    }
    chain
}

fn set(name: &str, kind: SetKind) -> schema::Set<'_> {
    let address = match kind.family() {
        Some(Family::V6) => SetType::Ipv6Addr,
        _ => SetType::Ipv4Addr,
    };
    let set_type = match kind {
        SetKind::Addresses(_) | SetKind::Ranges(_) => SetTypeValue::Single(address),
        SetKind::Pairs(_) => SetTypeValue::Concatenated(vec![address, address].into()),
        SetKind::Ports(_) => SetTypeValue::Concatenated(vec![address, SetType::InetProto, SetType::InetService].into()),
        SetKind::CutFlows(_) => {
            let service = SetType::InetService;
            SetTypeValue::Concatenated(vec![address, address, SetType::InetProto, service, service].into())
        }
        SetKind::CutPairs(_) => SetTypeValue::Concatenated(vec![address, address, SetType::InetProto].into()),
        SetKind::Interfaces => SetTypeValue::Single(SetType::Ifname),
        SetKind::Sources(_) => SetTypeValue::Concatenated(vec![SetType::Ifname, address].into()),
    };
    let flags = match kind {
        SetKind::Ranges(_) => Some(HashSet::from([SetFlag::Interval])),
        // `dynamic` has no name in the JSON of nft 1.0.6: a rule of the same transaction that updates the set makes it so.
        kind if kind.is_dynamic() => Some(HashSet::from([SetFlag::Timeout])),
        _ => None,
    };
    let dynamic = |value: u32| kind.is_dynamic().then_some(value);
    schema::Set {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        set_type,
        flags,
        timeout: dynamic(terminated::SECONDS),
        size: dynamic(terminated::SIZE),
        ..Default::default()
    }
}

fn elements<'a>(set: &'a str, elements: &[Element]) -> schema::Element<'a> {
    let elem: Vec<Expression<'static>> = elements.iter().map(element).collect();
    schema::Element { family: NfFamily::INet, table: TABLE.into(), name: set.into(), elem: elem.into() }
}

/// An element as nft spells it.
fn element(element: &Element) -> Expression<'static> {
    match element {
        Element::Address(address) => text(address.to_string()),
        Element::Pair(a, b) => concat([text(a.to_string()), text(b.to_string())]),
        Element::Port(address, transport, port) => {
            concat([text(address.to_string()), text(IpProtocol::from(*transport).name()), Expression::Number(u32::from(*port))])
        }
        Element::CutFlow { source, destination, protocol, source_port, destination_port } => {
            let numbers = [u32::from(*protocol), u32::from(*source_port), u32::from(*destination_port)];
            let addresses = [source, destination].map(|a| text(a.to_string()));
            concat(addresses.into_iter().chain(numbers.map(Expression::Number)))
        }
        Element::CutPair(a, b, protocol) => {
            concat([text(a.to_string()), text(b.to_string()), Expression::Number(u32::from(*protocol))])
        }
        Element::Interface(name) => text(name.to_string()),
        Element::Source(name, address) => concat([text(name.to_string()), text(address.to_string())]),
        Element::Range(low, high) => range(AddressRange::new(*low, *high)),
    }
}

fn range(range: AddressRange) -> Expression<'static> {
    match range {
        AddressRange::One(address) => text(address.to_string()),
        AddressRange::Block(block) => {
            let prefix = Prefix { addr: Box::new(text(block.addr().to_string())), len: u32::from(block.prefix_len()) };
            Expression::Named(NamedExpression::Prefix(prefix))
        }
        AddressRange::Between(first, last) => {
            Expression::Range(Box::new(Range { range: [text(first.to_string()), text(last.to_string())] }))
        }
    }
}

fn add<'a>(op: &'a Op, batch: &mut Batch<'a>) {
    match op {
        Op::AddTable => batch.add(NfListObject::Table(table())),
        // nft would change its flags.
        Op::KeepTable => {}
        Op::DeleteTable => batch.delete(NfListObject::Table(table())),
        Op::AddSet { name, kind } => batch.add(NfListObject::Set(Box::new(set(name, *kind)))),
        Op::FlushSet { name } => {
            batch.add_cmd(NfCmd::Flush(FlushObject::Set(Box::new(set(name, SetKind::Addresses(Family::V4))))));
        }
        Op::DeleteSet { name } => batch.delete(NfListObject::Set(Box::new(set(name, SetKind::Addresses(Family::V4))))),
        Op::AddElements { set, elements: list, .. } => batch.add(NfListObject::Element(elements(set, list))),
        Op::DeleteElements { set, elements: list, .. } => batch.delete(NfListObject::Element(elements(set, list))),
        Op::AddChain { name, hook } => batch.add(NfListObject::Chain(chain(name, *hook))),
        Op::FlushChain { name } => batch.add_cmd(NfCmd::Flush(FlushObject::Chain(chain(name, None)))),
        Op::DeleteChain { name } => batch.delete(NfListObject::Chain(chain(name, None))),
        Op::AddRule { chain, rule } => batch.add(NfListObject::Rule(rules::rule(chain, rule))),
    }
}
