//! The sets of what was cut, and the rules that keep it so (S3.9).

use policy_core::sets::Family;

use super::sets;
use crate::rule::Statement::{Counter, Drop, OfProtocol, Return, Update};
use crate::rule::{IpProtocol, Key, Rule, Side, Statement};
use crate::ruleset::{Chain, Contents, Description, Ruleset, SetKind};
use crate::terminated::{flows_name, pairs_name};

/// The chain that looks packets up that may open a connection of an isolated pod.
const CHAIN: &str = "was-cut";

/// Adds the chain, and the sets of the families of which pods are isolated: what nothing is denied to was not cut.
pub(super) fn add(out: &mut Ruleset) {
    for family in families(out) {
        let description = "terminated connections that must not resume";
        out.add_set(flows_name(family), SetKind::CutFlows(family), Contents::Dynamic, description);
        let description = format!("{description}; protocols without ports");
        out.add_set(pairs_name(family), SetKind::CutPairs(family), Contents::Dynamic, description);
    }
    let rules = rules(out);
    if !rules.is_empty() {
        let description = "drop packets of a terminated connection";
        out.add_chain(CHAIN, Chain { hook: None, rules }, Description::text(description));
    }
}

/// The rule that sends packets there.
pub(super) fn entry(out: &Ruleset) -> Option<Rule> {
    out.chains.contains_key(CHAIN).then(|| Rule::new([Statement::jump(CHAIN)], "drop packets of a terminated connection"))
}

fn families(out: &Ruleset) -> Vec<Family> {
    [Family::V4, Family::V6].into_iter().filter(|f| out.sets.contains_key(&sets::isolated_name(*f))).collect()
}

fn rules(out: &Ruleset) -> Vec<Rule> {
    let families = families(out);
    if families.is_empty() {
        return Vec::new();
    }
    // nft: meta l4proto tcp return
    let mut rules = vec![Rule::new([OfProtocol(IpProtocol::Tcp), Return], "TCP segment that opens a connection")];
    for family in families {
        let flows = (flows_name(family), [Side::Destination, Side::Source].map(|first| Key::CutFlow { family, first }));
        let pairs = (pairs_name(family), [Side::Destination, Side::Source].map(|first| Key::CutPair { family, first }));
        for (set, [forth, back]) in [flows, pairs] {
            let update = |key| [Statement::in_set(key, &set), Update { set: set.clone(), key }];
            // nft: ip daddr . ip saddr . meta l4proto . th dport . th sport @was-cut4 update @was-cut4 { … }
            rules.push(Rule::new(update(forth), "renew the timeout: the sender is still active"));
            // nft: ip saddr . ip daddr . meta l4proto . th sport . th dport @was-cut4 update @was-cut4 { … } counter drop
            let [is_held, update] = update(back);
            rules.push(Rule::new([is_held, update, Counter, Drop], "drop packets of a terminated connection"));
        }
    }
    rules
}
