//! Source addresses of local pods (S2.20).
//!
//! Selectors and egress isolation rest on source addresses, and runtimes let containers write any source into a packet. So what comes
//! from an interface that leads to a pod, and to nothing else, must have an address of that pod as its source. It is asked before
//! anything else is, also about packets of connections that were allowed: those of others are not the pod's to go on with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use policy_core::graph::OwnNodeEgress;
use policy_core::model::Direction;
use policy_core::plan::{InterfaceName, NodePlan};
use policy_core::sets::{Family, Transport};

use super::base::{insert, never_filtered};
use super::{Options, group, sets};
use crate::rule::Statement::{Accept, InRange, Return, ToPort};
use crate::rule::{AddressRange, Key, Rule, Side, Statement};
use crate::ruleset::{Contents, Element, Ruleset, SetKind};

/// The chain that what comes from pods jumps to.
pub(crate) const CHAIN: &str = "sources";
/// The set of interfaces that lead to pods.
pub(crate) const INTERFACES: &str = "pod-interfaces";
/// Those of pods that may send to their own node whatever they want, also from addresses of the link.
const OPEN: &str = "open-interfaces";
/// Addresses of the link.
const LINK: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 64));

fn pairs(family: Family) -> String {
    format!("pod-sources{}", sets::digit(family))
}

/// Whether no policy says anything about what goes from these addresses to their own node.
fn is_open(plan: &NodePlan, options: &Options, addresses: &BTreeSet<IpAddr>) -> bool {
    let is_enforced = options.own_node_egress == OwnNodeEgress::Enforce;
    let is_isolated = |place: &usize| plan.groups.get(*place).is_none_or(|group| group.side(Direction::Egress).is_some());
    let is_free = |groups: &Vec<usize>| !is_enforced || !groups.iter().any(is_isolated);
    let is_open = |address: &IpAddr| plan.addresses.get(address).is_some_and(is_free) && !plan.quarantined.contains(address);
    !addresses.is_empty() && addresses.iter().all(is_open)
}

pub(crate) fn add(plan: &NodePlan, options: &Options, out: &mut Ruleset) {
    let interfaces: &BTreeMap<InterfaceName, BTreeSet<IpAddr>> = &plan.interfaces;
    if interfaces.is_empty() {
        return;
    }
    let names = interfaces.keys().copied().map(Element::Interface).collect();
    let mut add_set = |name: &str, kind, elements, description: &str| {
        out.add_set(name.to_owned(), kind, Contents::Fixed(elements), description);
    };
    add_set(INTERFACES, SetKind::Interfaces, names, "interfaces of exactly one pod");
    let open = interfaces.iter().filter(|(_, addresses)| is_open(plan, options, addresses));
    let open = open.map(|(name, _)| Element::Interface(*name)).collect();
    add_set(OPEN, SetKind::Interfaces, open, "interfaces of pods that are not isolated for egress");
    let mut rules = Vec::new();
    for family in [Family::V4, Family::V6] {
        let all = interfaces.iter().flat_map(|(name, addresses)| addresses.iter().map(move |a| (*name, *a)));
        let own = all.filter(|(_, a)| Family::of(*a) == family).map(|(name, a)| Element::Source(name, a)).collect();
        add_set(&pairs(family), SetKind::Sources(family), own, "allowed source addresses of each interface");
        // nft: iifname . ip saddr @pod-sources4 return
        rules.push(Rule::new([Statement::in_set(Key::Source(family), pairs(family)), Return], "source address of the pod"));
    }
    rules.extend(never_filtered());
    let from = |range| InRange { side: Side::Source, range };
    let (nobody, link) = (AddressRange::One(Ipv4Addr::UNSPECIFIED.into()), AddressRange::Block(LINK));
    let to_port = |port| ToPort(Transport::Udp, port);
    // nft: ip saddr 0.0.0.0 udp dport 67 accept
    rules.push(Rule::new([from(nobody), to_port(67), Accept], "DHCP request"));
    // nft: ip6 saddr fe80::/64 udp dport 547 accept
    rules.push(Rule::new([from(link), to_port(547), Accept], "DHCPv6 request"));
    // nft: ip6 saddr fe80::/64 iifname @open-interfaces accept
    let is_open = Statement::in_set(Key::Interface, OPEN);
    rules.push(Rule::new([from(link), is_open, Accept], "link-local, to its own node"));
    rules.extend(group::deny_rules(CHAIN, options, "source address does not belong to the pod"));
    insert(out, CHAIN, None, rules, "source addresses of packets from local pods");
}
