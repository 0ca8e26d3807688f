//! The chains that packets enter, and what every isolated pod has in common.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nftables::expr::MetaKey;
use nftables::schema::Rule;
use nftables::stmt::Statement;
use policy_core::graph::OwnNodeEgress;
use policy_core::model::Direction;
use policy_core::plan::GroupPlan;
use policy_core::sets::Family;

use super::{Node, cut, group, sets};
use crate::MARKER;
use crate::rule::{
    concat, counter, ct_state, equal, goto, goto_verdict, jump, meta, opens_no_connection, payload, rule, set, text, verdict_map,
};
use crate::ruleset::{About, Chain, Hook, Ruleset};

/// ICMPv6 without which addressing breaks (S1.63): listeners 130–132 and 143, routers and neighbours 133–137.
const NEVER_FILTERED: [&str; 9] = [
    "mld-listener-query",
    "mld-listener-report",
    "mld-listener-done",
    "nd-router-solicit",
    "nd-router-advert",
    "nd-neighbor-solicit",
    "nd-neighbor-advert",
    "nd-redirect",
    "mld2-listener-report",
];

/// Where packets of addresses in quarantine end.
const QUARANTINE: &str = "quarantine.deny";

pub(crate) fn add(node: &Node<'_>, out: &mut Ruleset) {
    let Node { plan, options, .. } = *node;
    insert(out, MARKER, None, first_packets(out), "what cannot be the first packet of a connection is dropped for isolated pods");
    for direction in Direction::ALL {
        add_side(direction, node, out);
    }
    let forward = dispatch("forward", &Direction::ALL, out);
    insert(out, "forward", Some(Hook::Forward), forward, "packets to and from local pods");
    if !plan.quarantined.is_empty() {
        let rules = group::deny_rules(QUARANTINE, options, "nobody knows yet whose address it is (S3.11)");
        insert(out, QUARANTINE, None, rules, "what is denied to addresses of which it is not known whose they are (S3.11)");
    }
    // What a pod sends to its own node never meets the forward hook. What the node sends is not filtered at all (S2.11).
    let is_enforced = options.own_node_egress == OwnNodeEgress::Enforce;
    if is_enforced || !plan.quarantined.is_empty() {
        let directions: &[Direction] = if is_enforced { &[Direction::Egress] } else { &[] };
        let input = dispatch("input", directions, out);
        insert(out, "input", Some(Hook::Input), input, "packets from local pods to this node");
    }
}

fn insert(out: &mut Ruleset, name: &str, hook: Option<Hook>, rules: Vec<Rule<'static>>, about: &str) {
    out.about.insert(name.to_owned(), About::text(about));
    out.chains.insert(name.to_owned(), Chain { hook, rules });
}

/// S3.9: a connection that was cut must not come back, in neither direction. S1.65: what cannot be read is denied.
fn first_packets(out: &Ruleset) -> Vec<Rule<'static>> {
    let mut rules = vec![
        // nft: ct state invalid counter drop
        rule(MARKER, vec![ct_state("invalid"), counter(), Statement::Drop(None)], "part of no connection, or not readable"),
        // nft: tcp flags & (fin | syn | rst | ack) != syn counter drop
        rule(
            MARKER,
            vec![opens_no_connection(), counter(), Statement::Drop(None)],
            "TCP that does not open a connection: what was cut stays cut",
        ),
    ];
    rules.extend(cut::entry(out));
    rules
}

fn accept(chain: &str, mut conditions: Vec<Statement<'static>>, comment: &str) -> Rule<'static> {
    conditions.push(Statement::Accept(None));
    rule(chain, conditions, comment)
}

fn address(family: Family, field: &'static str) -> nftables::expr::Expression<'static> {
    payload(if family == Family::V4 { "ip" } else { "ip6" }, field)
}

/// Families of which pods are isolated in a direction.
fn isolated_families(direction: Direction, out: &Ruleset) -> Vec<Family> {
    let is_isolated = |family: &Family| out.sets.contains_key(&sets::side_name(direction, *family));
    [Family::V4, Family::V6].into_iter().filter(is_isolated).collect()
}

fn local_field(direction: Direction) -> &'static str {
    if direction == Direction::Egress { "saddr" } else { "daddr" }
}

/// The chain that sends packets of isolated pods to the rules of their group. What is allowed returns from there to the base chain.
///
/// When a rule with a verdict map is replaced, the kernel may show a packet on another CPU the old rule and, already, none of its
/// elements. So only isolated addresses come here, by a plain set, whose elements stay; and what finds no element is dropped.
fn add_side(direction: Direction, node: &Node<'_>, out: &mut Ruleset) {
    let chain = direction.to_string();
    let mut rules = Vec::new();
    for family in isolated_families(direction, out) {
        let entries = entry_chains(node, direction, family, out);
        let entries = entries.into_iter().map(|(a, chain)| (text(a.to_string()), goto_verdict(&chain))).collect();
        let comment = format!("{direction} of local pods");
        rules.push(rule(&chain, vec![verdict_map(address(family, local_field(direction)), entries)], &comment));
    }
    if !rules.is_empty() {
        let comment = "its pod's rules were being replaced just now";
        rules.push(rule(&chain, vec![counter(), Statement::Drop(None)], comment));
        insert(out, &chain, None, rules, &format!("{direction} of isolated pods on this node"));
    }
}

/// The rules of a base chain: what always passes, then the look-ups of source and destination among the isolated local pods.
fn dispatch(chain: &str, directions: &[Direction], out: &Ruleset) -> Vec<Rule<'static>> {
    let l4proto = |word: &'static str| equal(meta(MetaKey::L4proto), text(word));
    let errors = "errors about connections that were allowed (S1.62)";
    let mut rules = vec![
        accept(chain, vec![ct_state("established")], "connections that were allowed, and their replies (S3.7)"),
        accept(chain, vec![l4proto("icmp"), ct_state("related")], errors),
        accept(chain, vec![l4proto("ipv6-icmp"), ct_state("related")], errors),
    ];
    let families: Vec<Family> =
        [Family::V4, Family::V6].into_iter().filter(|f| out.sets.contains_key(&sets::isolated_name(*f))).collect();
    let quarantines = [Family::V4, Family::V6].map(|f| (f, sets::quarantine_name(f)));
    let quarantines = quarantines.into_iter().filter(|(_, name)| out.sets.contains_key(name));
    let quarantines: Vec<(Family, String)> = quarantines.collect();
    if families.contains(&Family::V6) || quarantines.iter().any(|(family, _)| *family == Family::V6) {
        let types = equal(payload("icmpv6", "type"), set(NEVER_FILTERED.map(text)));
        rules.push(accept(chain, vec![types], "neighbours, routers and listeners (S1.63)"));
    }
    for (family, set) in quarantines {
        let fields: &[&'static str] = if chain == "forward" { &["saddr", "daddr"] } else { &["saddr"] };
        for field in fields {
            let is_held = equal(address(family, field), text(format!("@{set}")));
            rules.push(rule(chain, vec![is_held, goto(QUARANTINE)], "in quarantine (S3.11)"));
        }
    }
    for family in &families {
        if directions.len() == 2 {
            let pair = concat([address(*family, "saddr"), address(*family, "daddr")]);
            let is_self = equal(pair, text(format!("@{}", sets::self_name(*family))));
            rules.push(accept(chain, vec![is_self], "a pod and itself, through a Service (S2.15)"));
        }
        for direction in directions {
            let isolated = equal(address(*family, local_field(*direction)), text(format!("@{}", sets::isolated_name(*family))));
            rules.push(rule(chain, vec![isolated, jump(MARKER)], ""));
        }
    }
    for direction in directions {
        for family in isolated_families(*direction, out) {
            let set = text(format!("@{}", sets::side_name(*direction, family)));
            let isolated = equal(address(family, local_field(*direction)), set);
            rules.push(rule(chain, vec![isolated, jump(&direction.to_string())], &format!("{direction} of isolated pods")));
        }
    }
    rules
}

/// The chain for each address of an isolated pod. An address that several pods claim has a chain that asks all of them (S2.5).
fn entry_chains(node: &Node<'_>, direction: Direction, family: Family, out: &mut Ruleset) -> Vec<(IpAddr, String)> {
    let Node { plan, layout, names, .. } = *node;
    let mut entries = Vec::new();
    for (address, claimants) in plan.addresses.iter().filter(|(a, _)| Family::of(**a) == family) {
        let is_isolated = |place: &usize| plan.groups.get(*place).and_then(|g: &GroupPlan| g.side(direction)).is_some();
        let isolated = claimants.iter().copied().filter(is_isolated);
        let leaders: BTreeSet<usize> = isolated.map(|place| layout.leader(direction, place).unwrap_or(place)).collect();
        let chains: Vec<String> = leaders.into_iter().map(|place| group::chain_name(names, place, direction)).collect();
        match chains.as_slice() {
            [] => {}
            [one] => entries.push((*address, one.clone())),
            many => {
                let side = if direction == Direction::Egress { "eg" } else { "in" };
                let name = format!("{side}-{}", address.to_string().replace(':', "-"));
                let rules = many.iter().map(|chain| rule(&name, vec![jump(chain)], "")).collect();
                insert(out, &name, None, rules, &format!("{address} is claimed by several pods: each must allow (S2.5)"));
                entries.push((*address, name));
            }
        }
    }
    entries
}
