//! The sets of what was cut, and the rules that keep it so (S3.9).

use nftables::expr::{Expression, MetaKey};
use nftables::schema::Rule;
use nftables::stmt::Statement;
use policy_core::sets::Family;

use super::sets;
use crate::MARKER;
use crate::cut::{flows_name, pairs_name};
use crate::rule::{concat, counter, equal, jump, meta, payload, rule, text, update};
use crate::ruleset::{Chain, Contents, Description, Ruleset, Set, SetKind};

/// The chain that looks packets up that may open a connection of an isolated pod.
const CHAIN: &str = "was-cut";

/// Adds the chain, and the sets of the families of which pods are isolated: what nothing is denied to was not cut.
pub(super) fn add(out: &mut Ruleset) {
    for family in families(out) {
        let mut add = |name: String, kind: SetKind, about: &str| {
            out.about.insert(name.clone(), Description::text(about));
            out.sets.insert(name, Set { kind, contents: Contents::Dynamic });
        };
        let about = "packets that would bring back a connection that was cut, while either end still sends (S3.9)";
        add(flows_name(family), SetKind::CutFlows(family), about);
        add(pairs_name(family), SetKind::CutPairs(family), &format!("{about}; protocols without ports"));
    }
    let rules = rules(out);
    if !rules.is_empty() {
        out.about.insert(
            CHAIN.to_owned(),
            Description::text("packets that would bring back a connection that was cut are dropped (S3.9)"),
        );
        out.chains.insert(CHAIN.to_owned(), Chain { hook: None, rules });
    }
}

/// The rule that sends packets there.
pub(super) fn entry(out: &Ruleset) -> Option<Rule<'static>> {
    out.chains.contains_key(CHAIN).then(|| rule(MARKER, vec![jump(CHAIN)], "what was cut stays cut"))
}

fn families(out: &Ruleset) -> Vec<Family> {
    [Family::V4, Family::V6].into_iter().filter(|f| out.sets.contains_key(&sets::isolated_name(*f))).collect()
}

fn rules(out: &Ruleset) -> Vec<Rule<'static>> {
    let families = families(out);
    if families.is_empty() {
        return Vec::new();
    }
    // nft: meta l4proto tcp return
    let is_tcp = equal(meta(MetaKey::L4proto), text("tcp"));
    let mut rules = vec![rule(CHAIN, vec![is_tcp, Statement::Return(None)], "TCP that opens a connection is new")];
    for family in families {
        for (set, has_ports) in [(flows_name(family), true), (pairs_name(family), false)] {
            // nft: ip daddr . ip saddr . meta l4proto . th dport . th sport @was-cut4 update @was-cut4 { … }
            let forth = key(family, has_ports, ["daddr", "saddr"], ["dport", "sport"]);
            let is_held = equal(forth.clone(), text(format!("@{set}")));
            rules.push(rule(CHAIN, vec![is_held, update(&set, forth)], "the end whose connection was cut still sends"));
            // nft: ip saddr . ip daddr . meta l4proto . th sport . th dport @was-cut4 update @was-cut4 { … } counter drop
            let back = key(family, has_ports, ["saddr", "daddr"], ["sport", "dport"]);
            let is_held = equal(back.clone(), text(format!("@{set}")));
            let statements = vec![is_held, update(&set, back), counter(), Statement::Drop(None)];
            rules.push(rule(CHAIN, statements, "what was cut stays cut: this is no new connection"));
        }
    }
    rules
}

fn key(family: Family, has_ports: bool, addresses: [&'static str; 2], ports: [&'static str; 2]) -> Expression<'static> {
    let protocol = if family == Family::V4 { "ip" } else { "ip6" };
    let addresses = addresses.into_iter().map(|field| payload(protocol, field));
    let ports = ports.into_iter().filter(|_| has_ports).map(|field| payload("th", field));
    concat(addresses.chain([meta(MetaKey::L4proto)]).chain(ports))
}
