//! The chains of one group and direction.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy_core::graph::{Atom, PeerSetId};
use policy_core::model::{Direction, ObjectKey};
use policy_core::plan::{GroupPlan, Isolation};
use policy_core::sets::{Family, Transport};

use super::base::local_side;
use super::{DenyLog, Names, Node, Options, errors, sets};
use crate::names;
use crate::rule::Statement::{Counter, Drop, Limit, Log, OfFamily, Return};
use crate::rule::{AddressField, Key, PortRange, Rule, Statement, VerdictMap};
use crate::ruleset::{Chain, Description, GroupDescription, Ruleset};

/// Policies that a text names.
const NAMED: usize = 5;

/// The chain that packets of a group jump to.
pub(crate) fn chain_name(names: &Names, place: usize, direction: Direction) -> String {
    let (slug, hash) = names.group(place);
    names::group_chain(direction, slug, hash)
}

/// Adds the chains of both directions.
pub(crate) fn add(node: &Node<'_>, (place, group): (usize, &GroupPlan), out: &mut Ruleset) {
    for direction in Direction::ALL {
        let Some(side) = group.side(direction) else { continue };
        let leader = node.layout.leader(direction, place);
        if leader.is_some_and(|leader| leader != place) {
            continue;
        }
        let slug = node.names.group(place).0;
        let groups: Vec<usize> = leader.map_or_else(|| vec![place], |leader| node.layout.led(direction, leader).collect());
        let name = match groups.len() {
            1 => slug.to_owned(),
            many => format!("{slug} and {} more", many - 1),
        };
        let pods = groups.iter().filter_map(|place| node.plan.groups.get(*place));
        let pods = pods.flat_map(|group| group.pods.iter().map(|pod| format!("{}/{pod}", group.namespace))).collect();
        let description = Arc::new(GroupDescription { direction, name, pods, policies: side.policies.clone() });
        let headline = headline(&description);
        let chain = chain_name(node.names, place, direction);
        Builder { node: *node, group, direction, place, side, description, headline, chain }.add(leader.is_some(), out);
    }
}

pub(super) struct Builder<'a> {
    pub(super) node: Node<'a>,
    pub(super) group: &'a GroupPlan,
    pub(super) direction: Direction,
    pub(super) place: usize,
    pub(super) side: &'a Isolation,
    description: Arc<GroupDescription>,
    pub(super) headline: String,
    pub(super) chain: String,
}

/// The rules of a chain that counts and drops.
pub(crate) fn deny_rules(chain: &str, options: &Options, comment: &str) -> Vec<Rule> {
    let mut rules = Vec::new();
    if let Some(DenyLog { group, rate }) = options.deny_log {
        // nft: limit rate 1/second burst 1 packets log prefix "in-shop/web-….deny" group 100 snaplen 128
        let log = Log { prefix: chain.to_owned(), group, snaplen: DenyLog::SNAPLEN };
        rules.push(Rule::new([Limit { rate, burst: rate }, log], "sample for the log of denied packets"));
    }
    // nft: counter drop
    rules.push(Rule::new([Counter, Drop], comment));
    rules
}

impl Builder<'_> {
    fn add(&self, is_crowded: bool, out: &mut Ruleset) {
        let deny = format!("{}.deny", self.chain);
        if is_crowded {
            self.add_crowded(&deny, out);
        } else {
            self.add_chains(&deny, out);
        }
        let errors = format!("{}{}", self.chain, errors::PART);
        self.insert(errors, errors::bounded().into(), format!("ICMP errors: {}", self.headline), out);
        let rules = deny_rules(&deny, self.node.options, &self.headline);
        self.insert(deny, rules, format!("denied: {}", self.headline), out);
    }

    /// The chains of a side that is not crowded.
    fn add_chains(&self, deny: &str, out: &mut Ruleset) {
        let subchains = self.subchains();
        let mut rules = self.named_rules();
        let atoms = self.side.atoms.iter();
        let entries: Vec<_> = atoms.filter_map(|atom| Some((atom, subchains.get(&atom.peers)?.as_str()))).collect();
        rules.extend(self.port_rules(&entries));
        rules.extend(self.peer_rules(self.side.any));
        rules.push(Rule::new([Statement::goto(deny)], ""));
        self.insert(self.chain.clone(), rules, self.headline.clone(), out);

        let mut ports: BTreeMap<PeerSetId, Vec<String>> = BTreeMap::new();
        for atom in &self.side.atoms {
            ports.entry(atom.peers).or_default().push(ports_text(atom));
        }
        for (peers, name) in &subchains {
            let mut rules = self.peer_rules(*peers);
            rules.push(Rule::new([Statement::goto(deny)], ""));
            let ports = ports.get(peers).map(|list| list.join(", ")).unwrap_or_default();
            self.insert(name.clone(), rules, format!("{ports} of {}", self.headline), out);
        }
    }

    /// Sends ports to chains.
    pub(super) fn port_rules(&self, entries: &[(&Atom, &str)]) -> Vec<Rule> {
        let rule = |map| Rule::new([Statement::VerdictMap(map)], "ports allowed for some peers only");
        let has_ranges = entries.iter().any(|(atom, _)| atom.low != atom.high);
        if entries.is_empty() {
            return Vec::new();
        }
        if !has_ranges {
            // nft: meta l4proto . th dport vmap { tcp . 80 : goto in-shop/web-….tcp-80 }
            let chains = entries.iter().map(|(atom, chain)| (atom.transport, atom.low, (*chain).to_owned()));
            return vec![rule(VerdictMap::Ports(chains.collect()))];
        }
        // Not one map of protocols and ranges of ports: kernels without a fix of 2024 look such maps up wrongly (CVE-2024-57947), and need time
        // proportional to the square of their length.
        let mut out = Vec::new();
        for transport in Transport::ALL {
            let own = entries.iter().filter(|(atom, _)| atom.transport == transport);
            let chains: Vec<_> = own.map(|(atom, chain)| (port_range(atom), (*chain).to_owned())).collect();
            if !chains.is_empty() {
                // nft: tcp dport vmap { 80-90 : goto in-shop/web-….tcp-80-90 }
                out.push(rule(VerdictMap::PortRanges { transport, chains }));
            }
        }
        out
    }

    /// One chain for each peer set that atoms refer to, named after the first port.
    fn subchains(&self) -> BTreeMap<PeerSetId, String> {
        let mut out = BTreeMap::new();
        for atom in &self.side.atoms {
            out.entry(atom.peers)
                .or_insert_with(|| format!("{}.{}", self.chain, ports_text(atom).to_lowercase().replace('/', "-")));
        }
        out
    }

    pub(super) fn insert(&self, name: String, rules: Vec<Rule>, text: String, out: &mut Ruleset) {
        let description = Description { text, group: Some(self.description.clone()) };
        out.add_chain(name, Chain { hook: None, rules }, description);
    }

    /// The other end's address.
    pub(super) fn peer_address(&self, family: Family) -> AddressField {
        AddressField { family, side: local_side(self.direction).other() }
    }

    fn named_rules(&self) -> Vec<Rule> {
        let mut out = Vec::new();
        for (atom, named) in self.side.named.iter().filter_map(|atom| Some((atom, self.node.plan.named.get(atom)?))) {
            for family in &self.group.families {
                // nft: ip daddr . meta l4proto . th dport @n-…-4 return
                let set = sets::named_name(self.node.names.named(atom), *family);
                let is_in = Statement::in_set(Key::Port(self.peer_address(*family)), set);
                let comment = format!("port name {} ({}) of {}", named.name, named.transport, named.peers);
                out.push(Rule::new([is_in, Return], &comment));
            }
        }
        out
    }

    /// Returns what comes from, or goes to, a peer set.
    pub(super) fn peer_rules(&self, id: PeerSetId) -> Vec<Rule> {
        let Some(peers) = self.node.plan.peers.get(&id) else { return Vec::new() };
        let hash = self.node.names.peers(id);
        if self.group.families.iter().all(|family| peers.blocks.covers(*family)) {
            return vec![Rule::new([Return], &peers.to_string())];
        }
        let mut out = Vec::new();
        for family in &self.group.families {
            if peers.blocks.covers(*family) {
                out.push(whole_family(*family));
                continue;
            }
            // nft: ip saddr @p-…-4 return
            let mut look_up = |set: String, comment: &str| {
                let is_in = Statement::in_set(Key::Address(self.peer_address(*family)), set);
                out.push(Rule::new([is_in, Return], comment));
            };
            if !peers.pods.is_empty() {
                look_up(sets::pods_name(hash, *family), &peers.pods_text());
            }
            if peers.blocks.touches(*family) {
                look_up(sets::blocks_name(hash, *family), &sets::blocks_text(&peers.blocks, *family));
            }
        }
        out
    }
}

/// Returns every packet of a family.
pub(super) fn whole_family(family: Family) -> Rule {
    // nft: meta nfproto ipv4 return
    Rule::new([OfFamily(family), Return], &format!("every {family} address"))
}

/// The ports of an atom.
pub(super) fn port_range(atom: &Atom) -> PortRange {
    PortRange { low: atom.low, high: atom.high }
}

/// `TCP/80`, `UDP/8000-9000`.
pub(super) fn ports_text(atom: &Atom) -> String {
    format!("{}/{}", atom.transport, port_range(atom))
}

/// `ingress of shop/web (2 pods), isolated by shop/default-deny, shop/web`.
fn headline(of: &GroupDescription) -> String {
    let pods = match of.pods.as_slice() {
        [one] => format!("pod {}", one.rsplit('/').next().unwrap_or(one)),
        many => format!("{} pods", many.len()),
    };
    let mut policies: Vec<String> = of.policies.iter().take(NAMED).map(ObjectKey::to_string).collect();
    if of.policies.len() > NAMED {
        policies.push(format!("and {} more", of.policies.len() - NAMED));
    }
    format!("{} of {} ({pods}), isolated by {}", of.direction, of.name, policies.join(", "))
}
