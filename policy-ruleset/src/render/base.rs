//! The chains that packets enter, and what every isolated pod has in common.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use policy_core::graph::OwnNodeEgress;
use policy_core::model::Direction;
use policy_core::plan::{GroupPlan, NodePlan};
use policy_core::sets::Family;

use super::{Node, errors, group, sets, sources, terminated};
use crate::MARKER;
use crate::rule::Statement::{Accept, Counter, Drop, HasHeader, HasIpv4Options, HopLimit, InState, OfIcmpv6Types};
use crate::rule::{AddressField, AddressRange, ConnectionState, Header, Icmpv6Type, Key, Rule, Side, Statement, VerdictMap};
use crate::ruleset::{Chain, Description, Hook, Ruleset};

/// ICMPv6 of routers and neighbours, 133–137 (S1.63): with hop limit 255, which no router can forge.
const NEIGHBOURS: [Icmpv6Type; 5] = [
    Icmpv6Type::NdRouterSolicit,
    Icmpv6Type::NdRouterAdvert,
    Icmpv6Type::NdNeighborSolicit,
    Icmpv6Type::NdNeighborAdvert,
    Icmpv6Type::NdRedirect,
];

/// ICMPv6 of multicast listeners, 130–132 and 143 (S1.63).
const LISTENERS: [Icmpv6Type; 4] =
    [Icmpv6Type::MldListenerQuery, Icmpv6Type::MldListenerReport, Icmpv6Type::MldListenerDone, Icmpv6Type::Mld2ListenerReport];

/// Multicast addresses of IPv6.
const MULTICAST: IpNet = IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8));

/// Where packets of addresses in quarantine end.
const QUARANTINE: &str = "quarantine.deny";

/// Where packets go that may say by themselves which way they take.
const SOURCE_ROUTES: &str = "source-routes";

pub(crate) fn add(node: &Node<'_>, out: &mut Ruleset) {
    let Node { plan, options, .. } = *node;
    insert(out, MARKER, None, first_packets(out), "isolated pods: packets that cannot open a connection");
    for direction in Direction::ALL {
        add_side(direction, node, out);
    }
    errors::add(node, out);
    add_source_routes(out);
    let forward = dispatch("forward", &Direction::ALL, plan, out);
    insert(out, "forward", Some(Hook::Forward), forward, "packets to and from local pods");
    if !plan.quarantined.is_empty() {
        let rules = group::deny_rules(QUARANTINE, options, "address in quarantine: its pod is not known yet");
        insert(out, QUARANTINE, None, rules, "denied: addresses in quarantine");
    }
    // What a pod sends to its own node never meets the forward hook. What the node sends is not filtered at all (S2.11).
    let is_enforced = options.own_node_egress == OwnNodeEgress::Enforce;
    if is_enforced || !plan.quarantined.is_empty() || !plan.interfaces.is_empty() {
        let directions: &[Direction] = if is_enforced { &[Direction::Egress] } else { &[] };
        let input = dispatch("input", directions, plan, out);
        insert(out, "input", Some(Hook::Input), input, "packets from local pods to this node");
    }
}

pub(crate) fn insert(out: &mut Ruleset, name: &str, hook: Option<Hook>, rules: Vec<Rule>, description: &str) {
    out.add_chain(name, Chain { hook, rules }, Description::text(description));
}

/// S3.9: a connection that was cut must not come back, in neither direction. S1.65: what cannot be read is denied.
fn first_packets(out: &Ruleset) -> Vec<Rule> {
    let mut rules = vec![
        // nft: ct state invalid counter drop
        Rule::new([InState(ConnectionState::Invalid), Counter, Drop], "invalid connection state"),
        // nft: tcp flags & (fin | syn | rst | ack) != syn counter drop
        Rule::new([Statement::OpensNoConnection, Counter, Drop], "TCP segment that opens no connection"),
    ];
    rules.extend(terminated::entry(out));
    rules
}

/// The families of which packets must not choose their own way: those with addresses that are isolated or in quarantine.
fn guarded_families(out: &Ruleset) -> Vec<Family> {
    let names = |family| [sets::isolated_name(family), sets::quarantine_name(family)];
    [Family::V4, Family::V6].into_iter().filter(|f| names(*f).iter().any(|name| out.sets.contains_key(name))).collect()
}

/// A packet with a source route is addressed to the next node of the route, so that neither where it goes nor where it was is to be
/// seen in it. IPv6 has no such routes any more (RFC 5095); what is left of routing headers shows the next address.
fn add_source_routes(out: &mut Ruleset) {
    let families = guarded_families(out);
    let mut rules = Vec::new();
    if families.contains(&Family::V4) {
        for option in Header::IPV4_OPTIONS {
            // nft: ip option lsrr exists counter drop
            rules.push(Rule::new([HasHeader(option), Counter, Drop], "source-routed: the final destination is not visible"));
        }
    }
    let isolated = sets::isolated_name(Family::V6);
    if out.sets.contains_key(&isolated) {
        for side in [Side::Source, Side::Destination] {
            // nft: ip6 daddr @isolated6 counter drop
            let is_isolated = Statement::in_set(address(Family::V6, side), &isolated);
            rules.push(Rule::new([is_isolated, Counter, Drop], "to or from an isolated pod"));
        }
    }
    if !rules.is_empty() {
        insert(out, SOURCE_ROUTES, None, rules, "source-routed packets are dropped for isolated pods");
    }
}

/// What must not pass even as part of a connection that was allowed.
fn guards(chain: &str, plan: &NodePlan, out: &Ruleset) -> Vec<Rule> {
    let mut rules = Vec::new();
    if !plan.interfaces.is_empty() {
        // nft: iifname @pod-interfaces jump sources
        let is_pod = Statement::in_set(Key::Interface, sources::INTERFACES);
        rules.push(Rule::new([is_pod, Statement::jump(sources::CHAIN)], "check the source address"));
    }
    if chain == "forward" && out.chains.contains_key(SOURCE_ROUTES) {
        let families = guarded_families(out);
        if families.contains(&Family::V4) {
            // nft: ip hdrlength != 5 jump source-routes
            rules.push(Rule::new([HasIpv4Options, Statement::jump(SOURCE_ROUTES)], "has IPv4 options"));
        }
        if out.sets.contains_key(&sets::isolated_name(Family::V6)) {
            // nft: exthdr rt exists jump source-routes
            let has_route = HasHeader(Header::Routing);
            rules.push(Rule::new([has_route, Statement::jump(SOURCE_ROUTES)], "has an IPv6 routing header"));
        }
    }
    rules
}

/// S1.63. A router counts the hop limit down before the packet comes by here, so what is forwarded has never 255. It may have 1, but
/// then its destination is no multicast address: routers do not pass on what listeners and their routers say to each other.
pub(crate) fn never_filtered() -> [Rule; 2] {
    let is_multicast = Statement::InRange { side: Side::Destination, range: AddressRange::Block(MULTICAST) };
    [
        // nft: icmpv6 type { nd-router-solicit, … } ip6 hoplimit 255 accept
        Rule::new([OfIcmpv6Types(&NEIGHBOURS), HopLimit(255), Accept], "neighbour and router discovery"),
        // nft: icmpv6 type { mld-listener-query, … } ip6 hoplimit 1 ip6 daddr ff00::/8 accept
        Rule::new([OfIcmpv6Types(&LISTENERS), HopLimit(1), is_multicast, Accept], "multicast listener discovery"),
    ]
}

pub(crate) fn address(family: Family, side: Side) -> Key {
    Key::Address(AddressField { family, side })
}

/// Families of which pods are isolated in a direction.
pub(crate) fn isolated_families(direction: Direction, out: &Ruleset) -> Vec<Family> {
    let is_isolated = |family: &Family| out.sets.contains_key(&sets::side_name(direction, *family));
    [Family::V4, Family::V6].into_iter().filter(is_isolated).collect()
}

/// The side of a packet that is the local pod.
pub(crate) fn local_side(direction: Direction) -> Side {
    match direction {
        Direction::Egress => Side::Source,
        Direction::Ingress => Side::Destination,
    }
}

/// The chain that sends packets of isolated pods to the rules of their group. What is allowed returns from there to the base chain.
///
/// When a rule with a verdict map is replaced, the kernel may show a packet on another CPU the old rule and, already, none of its
/// elements. So only isolated addresses come here, by a plain set, whose elements stay; and what finds no element is dropped.
fn add_side(direction: Direction, node: &Node<'_>, out: &mut Ruleset) {
    let chain = direction.to_string();
    let mut rules = Vec::new();
    for family in isolated_families(direction, out) {
        let mut entries: BTreeMap<IpAddr, String> = entry_chains(node, (direction, family), "", out).into_iter().collect();
        let held = node.plan.quarantined.iter().filter(|address| Family::of(**address) == family);
        entries.extend(held.map(|address| (*address, QUARANTINE.to_owned())));
        let field = AddressField { family, side: local_side(direction) };
        let map = VerdictMap::Addresses { field, chains: entries.into_iter().collect() };
        rules.push(Rule::new([Statement::VerdictMap(map)], &format!("{direction} of local pods")));
    }
    if !rules.is_empty() {
        rules.push(Rule::new([Counter, Drop], "no chain for this pod during an update"));
        insert(out, &chain, None, rules, &format!("{direction} of isolated pods on this node"));
    }
}

/// The rules of a base chain: what always passes, then the look-ups of source and destination among the isolated local pods.
fn dispatch(chain: &str, directions: &[Direction], plan: &NodePlan, out: &Ruleset) -> Vec<Rule> {
    let mut rules = guards(chain, plan, out);
    let is_established = InState(ConnectionState::Established);
    rules.push(Rule::new([is_established, Accept], "established connections"));
    let families: Vec<Family> =
        [Family::V4, Family::V6].into_iter().filter(|f| out.sets.contains_key(&sets::isolated_name(*f))).collect();
    let quarantines = [Family::V4, Family::V6].map(|f| (f, sets::quarantine_name(f)));
    let quarantines = quarantines.into_iter().filter(|(_, name)| out.sets.contains_key(name));
    let quarantines: Vec<(Family, String)> = quarantines.collect();
    if families.contains(&Family::V6) || quarantines.iter().any(|(family, _)| *family == Family::V6) {
        rules.extend(never_filtered());
    }
    for (family, set) in quarantines {
        let sides: &[Side] = if chain == "forward" { &[Side::Source, Side::Destination] } else { &[Side::Source] };
        for side in sides {
            let is_held = Statement::in_set(address(family, *side), &set);
            rules.push(Rule::new([is_held, Statement::goto(QUARANTINE)], "address in quarantine"));
        }
    }
    rules.extend(errors::entry(directions, out));
    for family in &families {
        if directions.len() == 2 {
            let is_self = Statement::in_set(Key::Pair(*family), sets::self_name(*family));
            // Without translation, no such packet leaves the pod: somebody else made it.
            let statements = [is_self, Statement::IsTranslated, Accept];
            rules.push(Rule::new(statements, "from a pod to itself through a Service"));
        }
        for direction in directions {
            let isolated = Statement::in_set(address(*family, local_side(*direction)), sets::isolated_name(*family));
            rules.push(Rule::new([isolated, Statement::jump(MARKER)], ""));
        }
    }
    for direction in directions {
        for family in isolated_families(*direction, out) {
            let isolated = Statement::in_set(address(family, local_side(*direction)), sets::side_name(*direction, family));
            let jump = Statement::jump(direction.to_string());
            rules.push(Rule::new([isolated, jump], &format!("{direction} of isolated pods")));
        }
    }
    rules
}

/// The chain for each address of an isolated pod. An address that several pods claim has a chain that asks all of them (S2.5).
///
/// `part` is the ending of the group's chains that are meant.
pub(crate) fn entry_chains(
    node: &Node<'_>,
    (direction, family): (Direction, Family),
    part: &str,
    out: &mut Ruleset,
) -> Vec<(IpAddr, String)> {
    let Node { plan, layout, names, .. } = *node;
    let mut entries = Vec::new();
    for (address, claimants) in plan.addresses.iter().filter(|(a, _)| Family::of(**a) == family) {
        let is_isolated = |place: &usize| plan.groups.get(*place).and_then(|g: &GroupPlan| g.side(direction)).is_some();
        let isolated = claimants.iter().copied().filter(is_isolated);
        let leaders: BTreeSet<usize> = isolated.map(|place| layout.leader(direction, place).unwrap_or(place)).collect();
        let chains: Vec<String> = leaders.into_iter().map(|place| group::chain_name(names, place, direction) + part).collect();
        match chains.as_slice() {
            [] => {}
            [one] => entries.push((*address, one.clone())),
            many => {
                let side = if direction == Direction::Egress { "eg" } else { "in" };
                let name = format!("{side}-{}{part}", address.to_string().replace(':', "-"));
                let rules = many.iter().map(|chain| Rule::new([Statement::jump(chain)], "")).collect();
                insert(
                    out,
                    &name,
                    None,
                    rules,
                    &format!("several pods have the address {address}: the policies of each must allow the traffic"),
                );
                entries.push((*address, name));
            }
        }
    }
    entries
}
