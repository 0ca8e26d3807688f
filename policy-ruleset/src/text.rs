//! Rulesets in the language of nft, for readers and for `nft -f`.

use std::fmt::{Display, Write};

use policy_core::sets::{Family, Transport};

use crate::TABLE;
use crate::rule::{
    AddressField, AddressRange, Field, Header, Icmpv6Type, IpProtocol, Key, Rule, Side, Statement, VerdictMap, netmask,
};
use crate::ruleset::{Contents, Element, Hook, Ruleset, Set, SetKind};
use crate::terminated;

/// Between the elements of a list, one to a line: nft's errors show the whole line.
const NEXT_LINE: &str = ",\n\t\t\t     ";

impl Ruleset {
    /// The table in nft's language, with a line above each set and chain that describes it. Loading it with
    /// `nft -f` replaces the table.
    ///
    /// Sets whose elements were not [filled](Ruleset::filled) in are written without elements.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
        for (name, set) in &self.sets {
            self.describe(name, &mut out);
            write_set(name, set, &mut out);
        }
        for (name, chain) in &self.chains {
            self.describe(name, &mut out);
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

    fn describe(&self, name: &str, out: &mut String) {
        if let Some(description) = self.descriptions.get(name) {
            let _ = writeln!(out, "\t# {}", description.text.replace(char::is_control, " "));
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
            format!("\t\tsize {}\n\t\tflags dynamic,timeout\n\t\ttimeout {}s\n", terminated::SIZE, terminated::SECONDS)
        }
        _ => String::new(),
    };
    let _ = write!(out, "\tset {name} {{\n\t\ttype {kind}\n{flags}");
    if let Contents::Fixed(elements) = &set.contents
        && !elements.is_empty()
    {
        let list: Vec<String> = elements.iter().map(element_text).collect();
        let _ = writeln!(out, "\t\telements = {{ {} }}", list.join(NEXT_LINE));
    }
    out.push_str("\t}\n\n");
}

fn element_text(element: &Element) -> String {
    match element {
        Element::Address(address) => address.to_string(),
        Element::Range(first, last) => AddressRange::new(*first, *last).to_string(),
        Element::Pair(source, destination) => format!("{source} . {destination}"),
        Element::Port(address, transport, port) => format!("{address} . {} . {port}", protocol(*transport)),
        Element::CutFlow { source, destination, protocol, source_port, destination_port } => {
            format!("{source} . {destination} . {protocol} . {source_port} . {destination_port}")
        }
        Element::CutPair(source, destination, protocol) => format!("{source} . {destination} . {protocol}"),
        // nft reads some letters of names as something else, unless they are quoted.
        Element::Interface(name) => format!("\"{name}\""),
        Element::Source(name, address) => format!("\"{name}\" . {address}"),
    }
}

/// A rule as nft lists it.
fn rule_text(rule: &Rule) -> String {
    let mut parts: Vec<String> = rule.statements.iter().map(statement_text).collect();
    parts.extend(rule.comment.text().map(|comment| format!("comment \"{comment}\"")));
    parts.join(" ")
}

fn statement_text(statement: &Statement) -> String {
    match statement {
        Statement::InSet { key, set } => format!("{} @{set}", key_text(*key)),
        Statement::InRange { side, range } => {
            format!("{} {range}", address_text(AddressField { family: range.family(), side: *side }))
        }
        Statement::ToPort(transport, port) => format!("{} dport {port}", protocol(*transport)),
        Statement::OfFamily(Family::V4) => "meta nfproto ipv4".to_owned(),
        Statement::OfFamily(Family::V6) => "meta nfproto ipv6".to_owned(),
        Statement::OfProtocol(protocol) => format!("meta l4proto {}", protocol.name()),
        Statement::InState(state) => format!("ct state {}", state.name()),
        Statement::IsTranslated => "ct status dnat".to_owned(),
        Statement::OpensNoConnection => "tcp flags & (fin | syn | rst | ack) != syn".to_owned(),
        Statement::HasIpv4Options => "ip hdrlength != 5".to_owned(),
        Statement::HasHeader(header @ Header::Routing) => format!("exthdr {} exists", header.name()),
        Statement::HasHeader(option) => format!("ip option {} exists", option.name()),
        Statement::OfIcmpv6Types(types) => format!("icmpv6 type {}", braces(types.iter().copied().map(Icmpv6Type::name))),
        Statement::HopLimit(limit) => format!("ip6 hoplimit {limit}"),
        Statement::VerdictMap(map) => verdict_map_text(map),
        Statement::Counter => "counter".to_owned(),
        Statement::Limit { rate, burst } => format!("limit rate {rate}/second burst {burst} packets"),
        Statement::Log { prefix, group, snaplen } => format!("log prefix \"{prefix}\" group {group} snaplen {snaplen}"),
        Statement::Update { set, key } => format!("update @{set} {{ {} }}", key_text(*key)),
        Statement::Jump(chain) => format!("jump {chain}"),
        Statement::Goto(chain) => format!("goto {chain}"),
        Statement::Return => "return".to_owned(),
        Statement::Accept => "accept".to_owned(),
        Statement::Drop => "drop".to_owned(),
    }
}

fn verdict_map_text(map: &VerdictMap) -> String {
    match map {
        VerdictMap::Addresses { field, chains } => {
            let items = chains.iter().map(|(address, chain)| format!("{address} : goto {chain}"));
            format!("{} vmap {}", address_text(*field), braces(items))
        }
        VerdictMap::Ports(chains) => {
            let item = |transport, port, chain| format!("{} . {port} : goto {chain}", protocol(transport));
            let items = chains.iter().map(|(transport, port, chain)| item(*transport, port, chain));
            format!("meta l4proto . th dport vmap {}", braces(items))
        }
        VerdictMap::PortRanges { transport, chains } => {
            let items = chains.iter().map(|(range, chain)| format!("{range} : goto {chain}"));
            format!("{} dport vmap {}", protocol(*transport), braces(items))
        }
    }
}

fn braces(items: impl Iterator<Item: Display>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    format!("{{ {} }}", items.join(NEXT_LINE))
}

fn key_text(key: Key) -> String {
    key.fields().into_iter().map(field_text).collect::<Vec<_>>().join(" . ")
}

fn field_text(field: Field) -> String {
    match field {
        Field::Address(field) => address_text(field).to_owned(),
        Field::Network(field, length) => format!("{} & {}", address_text(field), netmask(field.family, length)),
        Field::Interface => "iifname".to_owned(),
        Field::Protocol => "meta l4proto".to_owned(),
        Field::Port(Side::Source) => "th sport".to_owned(),
        Field::Port(Side::Destination) => "th dport".to_owned(),
    }
}

fn address_text(AddressField { family, side }: AddressField) -> &'static str {
    match (family, side) {
        (Family::V4, Side::Source) => "ip saddr",
        (Family::V4, Side::Destination) => "ip daddr",
        (Family::V6, Side::Source) => "ip6 saddr",
        (Family::V6, Side::Destination) => "ip6 daddr",
    }
}

fn protocol(transport: Transport) -> &'static str {
    IpProtocol::from(transport).name()
}
