//! ICMP errors about connections that were allowed (S1.62).
//!
//! Anyone on the path may send them, and anyone who guesses the ends of a flow may forge them, with a payload of its own. For isolated pods
//! they are bounded in rate, for each group of pods and direction on its own: a flood against one workload costs no other one the
//! errors that it needs. Errors of connections of other pods pass as they are (S6.2).

use nftables::expr::MetaKey;
use nftables::schema::Rule;
use nftables::stmt::Statement;
use policy_core::model::Direction;

use super::base::{accept, address, entry_chains, insert, isolated_families, local_field};
use super::{Node, sets};
use crate::rule::{counter, ct_state, equal, goto_verdict, jump, limit, meta, rule, text, verdict_map};
use crate::ruleset::Ruleset;

/// Where errors go when some pod is isolated.
const CHAIN: &str = "errors";
/// The ending of the chain of a group that takes its errors.
pub(crate) const PART: &str = ".errors";
/// Errors per second and group. A sender needs one error to find the size of packets towards a destination, and keeps it for ten minutes
/// (RFC 8201); what is lost comes again with the next packet that is too big. Linux answers with 1,000 per second at most.
const RATE: u32 = 100;

/// The chain that takes the errors of one group and direction.
pub(crate) fn bounded(chain: &str) -> Vec<Rule<'static>> {
    vec![
        // nft: limit rate 100/second burst 100 packets return
        rule(chain, vec![limit(RATE, RATE), Statement::Return(None)], "errors about connections that were allowed (S1.62)"),
        rule(chain, vec![counter(), Statement::Drop(None)], "more errors than a pod needs"),
    ]
}

fn side(direction: Direction) -> String {
    format!("{CHAIN}-{direction}")
}

/// The chains that find the group of an error.
pub(crate) fn add(node: &Node<'_>, out: &mut Ruleset) {
    let mut rules = Vec::new();
    for direction in Direction::ALL {
        let chain = side(direction);
        let mut maps = Vec::new();
        for family in isolated_families(direction, out) {
            let entries = entry_chains(node, (direction, family), PART, out);
            let entries = entries.into_iter().map(|(a, chain)| (text(a.to_string()), goto_verdict(&chain))).collect();
            let field = address(family, local_field(direction));
            maps.push(rule(&chain, vec![verdict_map(field.clone(), entries)], "errors to and from local pods"));
            let isolated = equal(field, text(format!("@{}", sets::side_name(direction, family))));
            rules.push(rule(CHAIN, vec![isolated, jump(&chain)], ""));
        }
        if !maps.is_empty() {
            maps.push(rule(&chain, vec![counter(), Statement::Drop(None)], "its pod's rules were being replaced just now"));
            insert(out, &chain, None, maps, &format!("errors about connections of pods that are isolated for {direction}"));
        }
    }
    if !rules.is_empty() {
        rules.push(accept(CHAIN, Vec::new(), "errors about connections that were allowed (S1.62)"));
        insert(out, CHAIN, None, rules, "errors about connections that were allowed, bounded for isolated pods (S1.62)");
    }
}

/// The rules of a base chain that hand errors over. Nothing else counts as related: what a helper expects is a connection like others.
pub(crate) fn entry(chain: &str, directions: &[Direction], out: &Ruleset) -> [Rule<'static>; 2] {
    let is_bounded = !directions.is_empty() && out.chains.contains_key(CHAIN);
    ["icmp", "ipv6-icmp"].map(|word| {
        let mut expressions = vec![equal(meta(MetaKey::L4proto), text(word)), ct_state("related")];
        // nft: meta l4proto icmp ct state related jump errors
        expressions.push(if is_bounded { jump(CHAIN) } else { Statement::Accept(None) });
        rule(chain, expressions, "errors about connections that were allowed (S1.62)")
    })
}
