//! What rules allow by address: blocks of addresses, and everyone. Pods that are named by label are no openings.

use policy_core::graph::GroupId;
use policy_core::model::{Direction, IpBlock, Peer, Peers, Policy};
use policy_core::sets::{AddressSet, Family, PortSet, Transport};

use crate::context::{Context, list};

/// Policies that apply to the same pods.
pub struct PolicySet<'a> {
    /// The policies that isolate the pods for the direction, sorted by name. Never empty.
    pub policies: Vec<&'a Policy>,
    /// The groups of the pods; none if the input has no pods of their namespace.
    pub groups: Vec<GroupId>,
}

/// A block of a rule, or a rule for everyone.
#[derive(Debug)]
pub struct Opening<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The direction of the rule.
    pub direction: Direction,
    /// The place of the rule.
    pub rule: usize,
    /// The place of the block in the list of peers, and the block; `None` if the rule names no peers.
    pub block: Option<(usize, &'a IpBlock)>,
    /// The addresses, without exceptions.
    pub addresses: AddressSet,
    /// The ports that the rule gives by number.
    pub ports: PortSet,
    /// The ports that the rule gives by name.
    pub names: Vec<(Transport, &'a str)>,
}

impl<'a> Opening<'a> {
    /// Those of a policy, in the order of its rules.
    #[must_use]
    pub fn of(policy: &'a Policy) -> Vec<Self> {
        let mut out = Vec::new();
        for direction in Direction::ALL {
            for (rule, of_rule) in policy.rules(direction).unwrap_or_default().iter().enumerate() {
                let opening = |block: Option<(usize, &'a IpBlock)>| Self {
                    policy,
                    direction,
                    rule,
                    block,
                    addresses: block.map_or_else(AddressSet::all, |(_, block)| block.addresses()),
                    ports: of_rule.ports.numbers(),
                    names: of_rule.ports.names().collect(),
                };
                match &of_rule.peers {
                    Peers::Everyone => out.push(opening(None)),
                    Peers::Listed(peers) => out.extend(peers.iter().enumerate().filter_map(|(at, peer)| match peer {
                        Peer::Block(block) => Some(opening(Some((at, block)))),
                        Peer::Pods { .. } | Peer::Unreadable => None,
                    })),
                }
            }
        }
        out
    }

    /// Whether it is for everyone because its list of peers is written and empty.
    #[must_use]
    pub fn is_by_omission(&self, context: &Context<'_>) -> bool {
        let list = || format!("spec.{}[{}].{}", self.direction, self.rule, list(self.direction));
        self.block.is_none() && context.is_written(&self.policy.key, &list())
    }

    /// The path of the block, or of the rule.
    #[must_use]
    pub fn path(&self) -> String {
        let rule = format!("spec.{}[{}]", self.direction, self.rule);
        self.block.map_or_else(|| rule.clone(), |(at, _)| format!("{rule}.{}[{at}].ipBlock", list(self.direction)))
    }

    /// The rule and what it names, as a policy sees it that is the same or another one.
    #[must_use]
    pub fn text(&self, seen_from: &Policy) -> String {
        let rule = format!("{}[{}]", self.direction, self.rule);
        let rule = if self.policy.key == seen_from.key { rule } else { format!("{rule} of {}", self.policy.key) };
        match self.block {
            Some((_, block)) => format!("{rule} ({block})"),
            None => format!("{rule}, which names no peers"),
        }
    }
}

/// Ports in words: `every port`, or ``TCP 80,443; every UDP port; TCP `http` ``.
#[must_use]
pub fn ports_text(numbers: &PortSet, names: &[(Transport, &str)]) -> String {
    if numbers.is_all() {
        return "every port".to_owned();
    }
    let numbers = numbers.by_protocol().into_iter().map(|of_protocol| match of_protocol.ports.as_slice() {
        [] => "other protocols".to_owned(),
        [all] if all == "1-65535" => format!("every {} port", of_protocol.protocol),
        ports => format!("{} {}", of_protocol.protocol, ports.join(",")),
    });
    let names = names.iter().map(|(transport, name)| format!("{transport} `{name}`"));
    numbers.chain(names).collect::<Vec<_>>().join("; ")
}

/// The ports on which openings allow every address of a family, some of them alone or all of them together.
///
/// Cost: the square of the different sets of ports, if together they are the family; otherwise linear.
#[must_use]
pub fn ports_for_family(openings: &[&Opening<'_>], family: Family) -> PortSet {
    let alone = openings.iter().filter(|opening| opening.addresses.covers(family));
    let mut ports = alone.fold(PortSet::none(), |all, opening| all.union(&opening.ports));
    let parts: Vec<&&Opening<'_>> =
        openings.iter().filter(|opening| opening.addresses.touches(family) && !opening.addresses.covers(family)).collect();
    if !AddressSet::union_of(parts.iter().map(|opening| opening.addresses.clone())).covers(family) {
        return ports;
    }
    // Disjoint sets of ports, with what is allowed on them.
    let mut cells: Vec<(PortSet, AddressSet)> = Vec::new();
    for opening in parts {
        let mut rest = opening.ports.clone();
        let mut next = Vec::with_capacity(cells.len() + 2);
        for (cell, addresses) in cells {
            let shared = cell.intersection(&rest);
            if shared.is_empty() {
                next.push((cell, addresses));
                continue;
            }
            let alone = cell.difference(&shared);
            rest = rest.difference(&shared);
            next.push((shared, addresses.union(&opening.addresses)));
            next.extend((!alone.is_empty()).then_some((alone, addresses)));
        }
        next.extend((!rest.is_empty()).then(|| (rest, opening.addresses.clone())));
        cells = next;
    }
    for (cell, _) in cells.into_iter().filter(|(_, addresses)| addresses.covers(family)) {
        ports = ports.union(&cell);
    }
    ports
}

#[cfg(test)]
mod tests {
    use policy_core::manifest::{Loader, Syntax};

    use super::*;

    #[test]
    fn halves_are_a_whole_on_the_ports_that_they_share() {
        let text = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: x}, spec: {podSelector: {}, ingress: [
            {from: [{ipBlock: {cidr: 0.0.0.0/1}}], ports: [{port: 80, endPort: 90}]},
            {from: [{ipBlock: {cidr: 128.0.0.0/1}}], ports: [{port: 85, endPort: 95}, {port: 1}]},
            {from: [{ipBlock: {cidr: '::/0'}}], ports: [{port: 7}]}]}}";
        let mut loader = Loader::new(Syntax::Strict);
        loader.read("", text.as_bytes());
        let snapshot = loader.finish();
        let openings: Vec<Opening<'_>> = snapshot.policies.values().flat_map(Opening::of).collect();
        let all: Vec<&Opening<'_>> = openings.iter().collect();
        assert_eq!(ports_for_family(&all, Family::V4), PortSet::range(Transport::Tcp, 85, 90));
        assert_eq!(ports_for_family(&all, Family::V6), PortSet::range(Transport::Tcp, 7, 7));
        assert_eq!(ports_for_family(&all[..1], Family::V4), PortSet::none());
        assert_eq!(all[1].path(), "spec.ingress[1].from[0].ipBlock");
    }
}
