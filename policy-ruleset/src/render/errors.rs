//! ICMP ICMP errors about allowed connections.
//!
//! Anyone on the path may send them, and anyone who guesses the ends of a flow may forge them, with a payload of its own. For isolated pods
//! they are bounded in rate, for each group of pods and direction on its own: a flood against one workload costs no other one the
//! errors that it needs. Errors of connections of other pods pass as they are (S6.2).

use policy_core::model::Direction;

use super::base::{address, entry_chains, insert, isolated_families, local_side};
use super::{Node, sets};
use crate::rule::Statement::{Accept, Counter, Drop, InState, Limit, OfProtocol, Return};
use crate::rule::{AddressField, ConnectionState, IpProtocol, Rule, Statement, VerdictMap};
use crate::ruleset::Ruleset;

/// Where errors go when some pod is isolated.
const CHAIN: &str = "errors";
/// The ending of the chain of a group that takes its errors.
pub(crate) const PART: &str = ".errors";
/// Errors per second and group. A sender needs one error to find the size of packets towards a destination, and keeps it for ten minutes
/// (RFC 8201); what is lost comes again with the next packet that is too big. Linux answers with 1,000 per second at most.
const RATE: u32 = 100;

/// The chain that takes the errors of one group and direction.
pub(crate) fn bounded() -> [Rule; 2] {
    let limit = Limit { rate: RATE, burst: RATE };
    [
        // nft: limit rate 100/second burst 100 packets return
        Rule::new([limit, Return], "ICMP errors about allowed connections"),
        Rule::new([Counter, Drop], "ICMP errors above the rate limit"),
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
            let side = local_side(direction);
            let map = VerdictMap::Addresses { field: AddressField { family, side }, chains: entries };
            maps.push(Rule::new([Statement::VerdictMap(map)], "ICMP errors to and from local pods"));
            let isolated = Statement::in_set(address(family, side), sets::side_name(direction, family));
            rules.push(Rule::new([isolated, Statement::jump(&chain)], ""));
        }
        if !maps.is_empty() {
            maps.push(Rule::new([Counter, Drop], "no chain for this pod during an update"));
            insert(out, &chain, None, maps, &format!("ICMP errors about connections of pods that are isolated for {direction}"));
        }
    }
    if !rules.is_empty() {
        rules.push(Rule::new([Accept], "ICMP errors about allowed connections"));
        insert(out, CHAIN, None, rules, "ICMP errors about allowed connections, rate-limited for isolated pods");
    }
}

/// The rules of a base chain that hand errors over. Nothing else counts as related: what a helper expects is a connection like others.
pub(crate) fn entry(directions: &[Direction], out: &Ruleset) -> [Rule; 2] {
    let is_bounded = !directions.is_empty() && out.chains.contains_key(CHAIN);
    [IpProtocol::Icmp, IpProtocol::Icmpv6].map(|protocol| {
        // nft: meta l4proto icmp ct state related jump errors
        let verdict = if is_bounded { Statement::jump(CHAIN) } else { Accept };
        let statements = [OfProtocol(protocol), InState(ConnectionState::Related), verdict];
        Rule::new(statements, "ICMP errors about allowed connections")
    })
}
