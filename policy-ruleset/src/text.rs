//! Rulesets in the language of nft, for readers and for `nft -f`.
//!
//! It writes what [`crate::render()`] makes, and nothing else of the schema; whatever it does not know is written as a comment
//! that nft refuses, so that it cannot get lost.

use std::fmt::Write;

use nftables::expr::{BinaryOperation, Expression, MetaKey, NamedExpression, Payload, SetItem, Verdict};
use nftables::schema::Rule;
use nftables::stmt::{Operator, SetOp, Statement};
use policy_core::sets::Family;

use crate::TABLE;
use crate::cut;
use crate::json::element;
use crate::rule::IPV4_OPTIONS;
use crate::ruleset::{Contents, Element, Hook, Ruleset, Set, SetKind};

impl Ruleset {
    /// The table in nft's language, with a line above each set and chain that describes it. Loading it with
    /// `nft -f` replaces the table.
    ///
    /// Sets whose elements were not [filled](Ruleset::filled) in are written without elements.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
        for (name, set) in &self.sets {
            self.about(name, &mut out);
            write_set(name, set, &mut out);
        }
        for (name, chain) in &self.chains {
            self.about(name, &mut out);
            let _ = writeln!(out, "\tchain {name} {{");
            if let Some(hook) = chain.hook {
                let hook = match hook {
                    Hook::Input => "input",
                    Hook::Forward => "forward",
                };
                let _ = writeln!(out, "\t\ttype filter hook {hook} priority filter; policy accept;");
            }
            for rule in &chain.rules {
                let _ = writeln!(out, "\t\t{}", rule_text(rule));
            }
            out.push_str("\t}\n\n");
        }
        out.truncate(out.trim_end().len());
        out.push_str("\n}\n");
        out
    }

    fn about(&self, name: &str, out: &mut String) {
        if let Some(about) = self.about.get(name) {
            let _ = writeln!(out, "\t# {}", about.text.replace(char::is_control, " "));
        }
    }
}

fn write_set(name: &str, set: &Set, out: &mut String) {
    let address = match set.kind.family() {
        Some(Family::V6) => "ipv6_addr",
        _ => "ipv4_addr",
    };
    let kind = match set.kind {
        SetKind::Addresses(_) | SetKind::Ranges(_) => address.to_owned(),
        SetKind::Pairs(_) => format!("{address} . {address}"),
        SetKind::Ports(_) => format!("{address} . inet_proto . inet_service"),
        SetKind::CutFlows(_) => format!("{address} . {address} . inet_proto . inet_service . inet_service"),
        SetKind::CutPairs(_) => format!("{address} . {address} . inet_proto"),
        SetKind::Interfaces => "ifname".to_owned(),
        SetKind::Sources(_) => format!("ifname . {address}"),
    };
    let flags = match set.kind {
        SetKind::Ranges(_) => "\t\tflags interval\n".to_owned(),
        kind if kind.is_dynamic() => {
            format!("\t\tsize {}\n\t\tflags dynamic,timeout\n\t\ttimeout {}s\n", cut::SIZE, cut::SECONDS)
        }
        _ => String::new(),
    };
    let _ = write!(out, "\tset {name} {{\n\t\ttype {kind}\n{flags}");
    if let Contents::Fixed(elements) = &set.contents
        && !elements.is_empty()
    {
        let list: Vec<String> = elements.iter().map(element_text).collect();
        // One element a line: nft's errors show the whole line.
        let _ = writeln!(out, "\t\telements = {{ {} }}", list.join(",\n\t\t\t     "));
    }
    out.push_str("\t}\n\n");
}

fn element_text(of_set: &Element) -> String {
    match of_set {
        // nft reads some letters of names as something else, unless they are quoted.
        Element::Interface(name) => format!("\"{name}\""),
        Element::Source(name, address) => format!("\"{name}\" . {address}"),
        other => expression_text(&element(other)),
    }
}

/// A rule as nft lists it.
fn rule_text(rule: &Rule<'_>) -> String {
    let mut parts: Vec<String> = rule.expr.iter().map(statement_text).collect();
    parts.extend(rule.comment.as_ref().map(|comment| format!("comment \"{comment}\"")));
    parts.join(" ")
}

fn statement_text(statement: &Statement<'_>) -> String {
    match statement {
        Statement::Accept(_) => "accept".to_owned(),
        Statement::Drop(_) => "drop".to_owned(),
        Statement::Return(_) => "return".to_owned(),
        Statement::Jump(to) => format!("jump {}", to.target),
        Statement::Goto(to) => format!("goto {}", to.target),
        Statement::Counter(_) => "counter".to_owned(),
        Statement::Set(set) if set.op == SetOp::Update => format!("update {} {{ {} }}", set.set, expression_text(&set.elem)),
        Statement::Match(m) if m.right == Expression::Boolean(true) => format!("{} exists", expression_text(&m.left)),
        Statement::Match(m) => {
            let op = if m.op == Operator::NEQ { "!= " } else { "" };
            format!("{} {op}{}", expression_text(&m.left), expression_text(&m.right))
        }
        Statement::VerdictMap(map) => format!("{} vmap {}", expression_text(&map.key), expression_text(&map.data)),
        Statement::Limit(limit) => format!("limit rate {}/second burst {} packets", limit.rate, limit.burst.unwrap_or(5)),
        Statement::Log(Some(log)) => {
            let prefix = log.prefix.as_deref().unwrap_or_default();
            format!("log prefix \"{prefix}\" group {} snaplen {}", log.group.unwrap_or(0), log.snaplen.unwrap_or(0))
        }
        other => format!("<{other:?}>"),
    }
}

fn list(parts: &[Expression<'_>], separator: &str) -> String {
    parts.iter().map(expression_text).collect::<Vec<_>>().join(separator)
}

fn expression_text(expression: &Expression<'_>) -> String {
    match expression {
        Expression::String(word) => word.to_string(),
        Expression::Number(number) => number.to_string(),
        Expression::Range(range) => list(&range.range, "-"),
        Expression::Verdict(Verdict::Jump(to)) => format!("jump {}", to.target),
        Expression::Verdict(Verdict::Goto(to)) => format!("goto {}", to.target),
        Expression::BinaryOperation(operation) => match operation.as_ref() {
            BinaryOperation::AND(a, b @ Expression::String(_)) => format!("{} & {}", expression_text(a), expression_text(b)),
            BinaryOperation::AND(a, b) => format!("{} & ({})", expression_text(a), expression_text(b)),
            BinaryOperation::OR(parts) => list(parts, " | "),
            other => format!("<{other:?}>"),
        },
        Expression::Named(named) => named_text(named),
        other => format!("<{other:?}>"),
    }
}

fn named_text(named: &NamedExpression<'_>) -> String {
    match named {
        NamedExpression::Concat(parts) => list(parts, " . "),
        NamedExpression::Prefix(prefix) => format!("{}/{}", expression_text(&prefix.addr), prefix.len),
        NamedExpression::Payload(Payload::PayloadField(field)) => format!("{} {}", field.protocol, field.field),
        NamedExpression::Meta(meta) if meta.key == MetaKey::L4proto => "meta l4proto".to_owned(),
        NamedExpression::Meta(meta) if meta.key == MetaKey::Nfproto => "meta nfproto".to_owned(),
        NamedExpression::Meta(meta) if meta.key == MetaKey::Iifname => "iifname".to_owned(),
        NamedExpression::Exthdr(header) if IPV4_OPTIONS.contains(&header.name.as_ref()) => format!("ip option {}", header.name),
        NamedExpression::Exthdr(header) => format!("exthdr {}", header.name),
        NamedExpression::CT(ct) => format!("ct {}", ct.key),
        NamedExpression::Set(items) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| match item {
                    SetItem::Element(element) => expression_text(element),
                    SetItem::Mapping(element, verdict) => format!("{} : {}", expression_text(element), expression_text(verdict)),
                    SetItem::MappingStatement(..) => format!("<{item:?}>"),
                })
                .collect();
            format!("{{ {} }}", items.join(",\n\t\t\t     "))
        }
        other => format!("<{other:?}>"),
    }
}
