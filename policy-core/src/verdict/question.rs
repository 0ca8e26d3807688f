//! One side of a question, while it is explained: what a rule means for it.

use std::net::IpAddr;

use crate::graph::{AllowGraph, Endpoint, GroupId, RuleRecord};
use crate::model::{Direction, PortEntry, Ports};
use crate::sets::{PortSet, Transport};

/// One side of a question.
pub(crate) struct Question<'a> {
    pub graph: &'a AllowGraph,
    pub group: GroupId,
    pub direction: Direction,
    pub other: &'a Endpoint,
    pub asked: &'a PortSet,
    /// What the other end is called.
    pub name: &'a str,
}

impl Question<'_> {
    /// The protocols and ports of a rule, names resolved (S1.53, S1.54).
    pub(crate) fn rule_ports(&self, rule: &RuleRecord) -> PortSet {
        let Ports::Listed(entries) = &rule.ports else { return PortSet::all() };
        let mut ranges = Vec::new();
        for entry in entries {
            match entry {
                PortEntry::Range { protocol, low, high } => ranges.push((*protocol, *low, *high)),
                PortEntry::Named { protocol, name } => {
                    let numbers = self.numbers(name).into_iter().filter(|(transport, _)| transport == protocol);
                    ranges.extend(numbers.map(|(transport, number)| (transport, number, number)));
                }
                PortEntry::Unreadable => {}
            }
        }
        PortSet::from_ranges(&ranges)
    }

    /// The numbers behind a port name at the destination.
    pub(crate) fn numbers(&self, name: &str) -> Vec<(Transport, u16)> {
        let Some(symbol) = self.graph.strings.find(name) else { return Vec::new() };
        let of = |transport| -> Vec<u16> {
            match self.direction {
                Direction::Ingress => {
                    self.graph.own_numbers(self.graph.groups.key(self.group).ports, symbol, transport).collect()
                }
                Direction::Egress => self.graph.numbers(self.other.pods(), symbol, transport).collect(),
            }
        };
        Transport::ALL
            .into_iter()
            .flat_map(|transport| of(transport).into_iter().map(move |number| (transport, number)))
            .collect()
    }

    /// Whether the other end is one of the rule's peers.
    pub(crate) fn has_peer(&self, rule: &RuleRecord) -> bool {
        self.graph.holds(rule.peer_set, self.other)
    }

    /// The name of the external block that the address represents, or else the address.
    pub(crate) fn address_name(&self, address: IpAddr) -> String {
        if self.other.is_external() && self.name != address.to_string() { self.name.to_owned() } else { address.to_string() }
    }
}
