//! `networking.k8s.io/v1 NetworkPolicy` (S1.1 to S1.20).

use std::collections::HashSet;

use ipnet::IpNet;

use super::super::decode::is_at_or_below;
use super::super::fault::{Correction, Fault};
use super::super::names;
use super::super::wire::{IPBlock, IntOrString, List, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use super::selector::lower_selector;
use super::{Path, Report, Syntax, check_metadata};
use crate::diagnostic::rules::policies;
use crate::manifest::cidr;
use crate::model::{
    Direction, IpBlock, NamespaceScope, ObjectKey, Origin, Peer, Peers, Policy, PortEntry, Ports, Rule, Selector,
};
use crate::sets::{AddressSet, Transport};

/// What an update may keep although it is no longer valid (S1.12, S1.19).
#[derive(Default)]
pub(crate) struct Stored {
    /// Every CIDR text anywhere in the stored object.
    cidrs: HashSet<String>,
    /// Whether its `podSelector` holds a value that is no label value.
    has_invalid_value: bool,
}

/// What an update of this object may keep.
pub(crate) fn stored(wire: &NetworkPolicy) -> Stored {
    let from = wire.spec.ingress.iter().flatten().flat_map(|r| &r.from);
    let to = wire.spec.egress.iter().flatten().flat_map(|r| &r.to);
    let blocks = from.chain(to).flatten().filter_map(|peer| peer.ip_block.as_ref());
    let cidrs = blocks.flat_map(|b| b.except.iter().flatten().chain([&b.cidr])).cloned().collect();
    let expressions = wire.spec.pod_selector.match_expressions.iter().flatten();
    let mut values = expressions.flat_map(|e| e.values.iter().flatten());
    Stored { cidrs, has_invalid_value: values.any(|value| names::not_label_value(value).is_some()) }
}

/// Lowers one policy. `before` is what is stored, when the policy updates it. `line_of` gives the line of a field path, 0 when unknown.
pub(crate) fn lower_policy(
    wire: &NetworkPolicy,
    key: ObjectKey,
    origin: Option<Origin>,
    syntax: Syntax,
    before: Option<&Stored>,
    line_of: &dyn Fn(&str) -> u32,
    report: &mut Report<'_>,
) -> Policy {
    check_metadata(&wire.metadata, report);
    report.allows_invalid_values = before.is_some_and(|b| b.has_invalid_value);
    let spec = Path::Root("spec");
    let target = lower_selector(&wire.spec.pod_selector, &spec.field("podSelector"), report);
    let context = Context { syntax, before, line_of };
    let ingress: Vec<_> = wire.spec.ingress.iter().map(|r| r.as_ref().map(|r| (&r.from, &r.ports))).collect();
    let ingress = context.rules(&ingress, &spec.field("ingress"), "from", report);
    let egress: Vec<_> = wire.spec.egress.iter().map(|r| r.as_ref().map(|r| (&r.to, &r.ports))).collect();
    let egress = context.rules(&egress, &spec.field("egress"), "to", report);
    let types = types(wire, report);
    for (direction, rules) in [(Direction::Ingress, &ingress), (Direction::Egress, &egress)] {
        if !rules.is_empty() && !types.contains(&direction) {
            let (name, word) = if direction == Direction::Ingress { ("ingress", "Ingress") } else { ("egress", "Egress") };
            let message = format!("these rules have no effect, because `spec.policyTypes` does not list `{word}`");
            let fault = Fault::new(&policies::RULES_WITHOUT_TYPE, &spec.field(name), message);
            report.warn(fault.help(format!("add `{word}` to `spec.policyTypes`, or remove the rules")));
        }
    }
    let is_readable = target.is_some() && !has_unknown_part(report);
    // Rules that were meant for pods that nobody knows must not open others (S0.6): such a policy isolates every pod, and
    // allows nothing.
    let rules = |rules: Vec<Rule>| if is_readable { rules } else { rules.into_iter().map(unreadable).collect() };
    Policy {
        key,
        origin,
        target: target.filter(|_| is_readable).unwrap_or_else(Selector::everything),
        ingress: types.contains(&Direction::Ingress).then(|| rules(ingress)),
        egress: types.contains(&Direction::Egress).then(|| rules(egress)),
    }
}

fn unreadable(rule: Rule) -> Rule {
    Rule { peers: Peers::Listed(vec![Peer::Unreadable]), ..rule }
}

/// Whether `spec` itself, or a field of it that is not known, could not be read: it may have been the target.
fn has_unknown_part(report: &Report<'_>) -> bool {
    let known = ["spec.podSelector", "spec.ingress", "spec.egress", "spec.policyTypes"];
    let in_spec = |fault: &&Fault| is_at_or_below(&fault.path, "spec");
    report.unread.0.iter().filter(in_spec).any(|fault| !known.iter().any(|field| is_at_or_below(&fault.path, field)))
}

/// `policyTypes` with its default (S1.4, S1.17, S1.20).
fn types(wire: &NetworkPolicy, report: &mut Report<'_>) -> Vec<Direction> {
    let spec = Path::Root("spec");
    let path = spec.field("policyTypes");
    let words = &wire.spec.policy_types;
    if words.is_empty() {
        if report.unread.touch(&path) {
            return Direction::ALL.to_vec();
        }
        // An egress list that could not be read was meant to be there.
        let has_egress = !wire.spec.egress.is_empty() || report.unread.touch(&spec.field("egress"));
        return if has_egress { Direction::ALL.to_vec() } else { vec![Direction::Ingress] };
    }
    let mut known = Vec::new();
    let is_too_long = words.len() > 2;
    if is_too_long {
        let message = format!("found {} entries, expected at most 2", words.len());
        report.error(Fault::new(&policies::TOO_MANY_POLICY_TYPES, &path, message));
    }
    for (i, word) in words.iter().enumerate() {
        match word.as_deref() {
            Some("Ingress") => known.push(Direction::Ingress),
            Some("Egress") => known.push(Direction::Egress),
            Some(other) if !is_too_long => {
                let message = format!("found `{other}`, expected `Ingress` or `Egress`");
                let near = names::nearest(other, ["Ingress", "Egress"]);
                report.error(Fault::new(&policies::UNKNOWN_POLICY_TYPE, &path.index(i), message).did_you_mean(near));
            }
            _ => {}
        }
    }
    if known.is_empty() { Direction::ALL.to_vec() } else { known }
}

struct Context<'a> {
    syntax: Syntax,
    before: Option<&'a Stored>,
    line_of: &'a dyn Fn(&str) -> u32,
}

type WireRule<'a> = (&'a List<NetworkPolicyPeer>, &'a List<NetworkPolicyPort>);

impl Context<'_> {
    fn rules(
        &self,
        wire: &[Option<WireRule<'_>>],
        path: &Path<'_>,
        peers_field: &'static str,
        report: &mut Report<'_>,
    ) -> Vec<Rule> {
        wire.iter()
            .enumerate()
            .map(|(i, rule)| {
                let path = path.index(i);
                let line = (self.line_of)(&path.to_string());
                match rule {
                    Some((peers, ports)) => self.rule(peers, ports, line, &path, peers_field, report),
                    None => unreadable(Rule { line, peers: Peers::Everyone, ports: Ports::All }),
                }
            })
            .collect()
    }

    fn rule(
        &self,
        peers: &List<NetworkPolicyPeer>,
        ports: &List<NetworkPolicyPort>,
        line: u32,
        path: &Path<'_>,
        peers_field: &'static str,
        report: &mut Report<'_>,
    ) -> Rule {
        let list = path.field("ports");
        let entries: Vec<PortEntry> = ports
            .iter()
            .enumerate()
            .map(|(i, p)| p.as_ref().map_or(PortEntry::Unreadable, |p| lower_port(p, &list.index(i), report)))
            .collect();
        let ports = if entries.is_empty() { Ports::All } else { Ports::Listed(entries) };
        let list = path.field(peers_field);
        let entries: Vec<Peer> = peers
            .iter()
            .enumerate()
            .map(|(i, p)| p.as_ref().map_or(Peer::Unreadable, |p| self.peer(p, &list.index(i), report)))
            .collect();
        let peers = if entries.is_empty() { Peers::Everyone } else { Peers::Listed(entries) };
        let rule = Rule { line, peers, ports };
        if is_unreadable_itself(path, peers_field, report) { unreadable(rule) } else { rule }
    }

    fn peer(&self, wire: &NetworkPolicyPeer, path: &Path<'_>, report: &mut Report<'_>) -> Peer {
        let pods = wire.pod_selector.as_ref().map(|s| lower_selector(s, &path.field("podSelector"), report));
        let namespaces = wire.namespace_selector.as_ref().map(|s| lower_selector(s, &path.field("namespaceSelector"), report));
        let block = wire.ip_block.as_ref().map(|b| self.block(b, &path.field("ipBlock"), report));
        if report.unread.touch(path) {
            return Peer::Unreadable;
        }
        match (pods, namespaces, block) {
            (None, None, None) => {
                let help = "add `podSelector`, `namespaceSelector` or `ipBlock`; to allow all peers, remove the whole list";
                report.error(Fault::new(&policies::EMPTY_PEER, path, "found an empty peer").help(help));
                Peer::Unreadable
            }
            (None, None, Some(block)) => block.map_or(Peer::Unreadable, Peer::Block),
            (_, _, Some(_)) => {
                let help = "write two peers: one with `ipBlock`, one with the selectors";
                report.error(Fault::new(&policies::MIXED_PEER, path, "found `ipBlock` together with a selector").help(help));
                Peer::Unreadable
            }
            (pods, namespaces, None) => lower_pods_peer(pods, namespaces),
        }
    }

    fn block(&self, wire: &IPBlock, path: &Path<'_>, report: &mut Report<'_>) -> Option<IpBlock> {
        let cidr_path = path.field("cidr");
        if wire.cidr.is_empty() {
            if !report.unread.touch(&cidr_path) {
                let fault = Fault::new(&policies::MISSING_CIDR, &cidr_path, "found no CIDR");
                report.error(fault.help("add `cidr`, for example `10.0.0.0/8`"));
            }
            return None;
        }
        let cidr = self.cidr(&wire.cidr, &cidr_path, report)?;
        let outer = AddressSet::block(cidr.net);
        let mut is_readable = cidr.is_accepted;
        let mut except = Vec::with_capacity(wire.except.len());
        let list = path.field("except");
        for (i, text) in wire.except.iter().enumerate() {
            let path = list.index(i);
            let Some(inner) = text.as_ref().and_then(|t| self.cidr(t, &path, report)) else {
                is_readable = false;
                continue;
            };
            is_readable &= inner.is_accepted;
            let is_inside = AddressSet::block(inner.net).difference(&outer).is_empty();
            if !is_inside || inner.net.prefix_len() <= cidr.net.prefix_len() {
                let message = format!(
                    "found `{}`, expected a block inside `{}` and smaller than it",
                    text.as_deref().unwrap_or_default(),
                    cidr.net
                );
                report.error(Fault::new(&policies::EXCEPT_OUTSIDE_CIDR, &path, message));
                is_readable = false;
            }
            except.push(inner.net);
        }
        is_readable.then_some(IpBlock { cidr: cidr.net, except })
    }

    fn cidr(&self, text: &str, path: &Path<'_>, report: &mut Report<'_>) -> Option<ReadCidr> {
        let Some(read) = cidr::parse(text) else {
            let message = format!("found `{text}`, expected a CIDR such as `10.0.0.0/8` or `fd00::/64`");
            let fault = Fault::new(&policies::INVALID_CIDR, path, message);
            report.error(match cidr::parse_address(text) {
                Some((address, _)) => {
                    let length = if address.is_ipv4() { 32 } else { 128 };
                    fault.help(format!("add a prefix length, for example `{address}/{length}`"))
                }
                None => fault,
            });
            return None;
        };
        let is_accepted =
            read.refused.is_none() || self.syntax == Syntax::Legacy || self.before.is_some_and(|b| b.cidrs.contains(text));
        let canonical = Correction::Value(read.net.to_string());
        if let Some(reason) = read.refused {
            let message = format!("found `{text}`, which has {reason}, expected `{}`", read.net);
            if is_accepted {
                let fault = Fault::new(&policies::LEGACY_CIDR, path, message).correction(canonical);
                report.warn(fault.help(format!("it is read as `{}`; write that", read.net)));
            } else {
                let fault = Fault::new(&policies::AMBIGUOUS_CIDR, path, message).correction(canonical);
                let help = format!("write `{}` if that is meant; `--legacy-cidrs` accepts the old form", read.net);
                report.error(fault.help(help));
            }
        } else if read.is_noncanonical {
            let message = format!("found `{text}`, expected the canonical `{}`", read.net);
            report.warn(Fault::new(&policies::NONCANONICAL_CIDR, path, message).correction(canonical));
        }
        Some(ReadCidr { net: read.net, is_accepted })
    }
}

struct ReadCidr {
    net: IpNet,
    is_accepted: bool,
}

/// Whether a fault lies in the rule itself, not in one of its entries: then the rule's meaning is unknown.
fn is_unreadable_itself(path: &Path<'_>, peers_field: &str, report: &Report<'_>) -> bool {
    if report.unread.0.is_empty() {
        return false;
    }
    let path = path.to_string();
    let entry = [format!(".{peers_field}["), ".ports[".to_owned()];
    report.unread.0.iter().any(|fault| {
        fault
            .path
            .strip_prefix(path.as_str())
            .is_some_and(|rest| (rest.is_empty() || rest.starts_with('.')) && !entry.iter().any(|e| rest.starts_with(e.as_str())))
    })
}

/// A peer by labels (S1.33).
fn lower_pods_peer(pods: Option<Option<Selector>>, namespaces: Option<Option<Selector>>) -> Peer {
    let scope = match namespaces {
        None => Some(NamespaceScope::Own),
        Some(selector) => selector.map(NamespaceScope::Matching),
    };
    match (scope, pods.unwrap_or_else(|| Some(Selector::everything()))) {
        (Some(namespaces), Some(pods)) => Peer::Pods { namespaces, pods },
        _ => Peer::Unreadable,
    }
}

/// A port entry (S1.14, S1.15, S1.50 to S1.54).
fn lower_port(wire: &NetworkPolicyPort, path: &Path<'_>, report: &mut Report<'_>) -> PortEntry {
    let before = report.error_count;
    // Absent means TCP (S1.4).
    let word = wire.protocol.as_deref().unwrap_or("TCP");
    let protocol = Transport::from_name(word);
    if protocol.is_none() {
        let message = format!("found `{word}`, expected `TCP`, `UDP` or `SCTP`");
        let fault = Fault::new(&policies::UNSUPPORTED_PROTOCOL, &path.field("protocol"), message);
        report.error(match Transport::from_name(&word.to_ascii_uppercase()) {
            Some(meant) => fault.did_you_mean(Some(&meant.to_string())),
            None => fault.help("no other protocol can be named; a rule without `ports` allows every protocol"),
        });
    }
    let ports = match &wire.port {
        None => {
            if wire.end_port.is_some() {
                let fault = Fault::new(&policies::INVALID_END_PORT, &path.field("endPort"), "found `endPort` without `port`");
                report.error(fault.help("write the first port of the range as `port`"));
            }
            Some(Number::Range(1, u16::MAX))
        }
        Some(IntOrString::Int(port)) => lower_range(*port, wire.end_port, path, report),
        Some(IntOrString::String(name)) => lower_name(name, wire.end_port.is_some(), path, report),
    };
    if report.unread.touch(path) || report.error_count > before {
        return PortEntry::Unreadable;
    }
    match (protocol, ports) {
        (Some(protocol), Some(Number::Range(low, high))) => PortEntry::Range { protocol, low, high },
        (Some(protocol), Some(Number::Name(name))) => PortEntry::Named { protocol, name },
        _ => PortEntry::Unreadable,
    }
}

enum Number {
    Range(u16, u16),
    Name(String),
}

fn lower_range(port: i64, end_port: Option<i64>, path: &Path<'_>, report: &mut Report<'_>) -> Option<Number> {
    let number = |value: i64| u16::try_from(value).ok().filter(|v| *v >= 1);
    let low = number(port);
    if low.is_none() {
        let message = format!("found `{port}`, expected 1 to 65535");
        report.error(Fault::new(&policies::INVALID_PORT, &path.field("port"), message));
    }
    let high = match end_port {
        None => low,
        Some(end) if end < port => {
            let message = format!("found `{end}`, expected at least `port`, which is `{port}`");
            let fault = Fault::new(&policies::INVALID_END_PORT, &path.field("endPort"), message);
            report.error(fault.help("swap the two, or correct one of them"));
            None
        }
        Some(end) => {
            if number(end).is_none() {
                let message = format!("found `{end}`, expected 1 to 65535");
                report.error(Fault::new(&policies::INVALID_END_PORT, &path.field("endPort"), message));
            }
            number(end)
        }
    };
    Some(Number::Range(low?, high?))
}

fn lower_name(name: &str, has_end_port: bool, path: &Path<'_>, report: &mut Report<'_>) -> Option<Number> {
    if has_end_port {
        let message = format!("found `endPort` together with the port name `{name}`, expected a number as `port`");
        report.error(Fault::new(&policies::INVALID_END_PORT, &path.field("endPort"), message));
    }
    let expected = names::not_port_name(name);
    if let Some(expected) = expected {
        let message = format!("found the string `{name}`, expected {expected}");
        let fault = Fault::new(&policies::INVALID_PORT, &path.field("port"), message);
        report.error(match name.parse::<u16>() {
            Ok(number) => {
                fault.help(format!("remove the quotes: `port: {number}`")).correction(Correction::Text(number.to_string()))
            }
            Err(_) => fault,
        });
    }
    expected.is_none().then(|| Number::Name(name.to_owned()))
}
