//! Port names in rules, and the pods whose containers say what they mean (S1.53, S1.54).

use std::collections::BTreeSet;

use policy_core::graph::GroupId;
use policy_core::model::{Direction, Peers, Policy, PortEntry, Ports};
use policy_core::proof::RuleAt;
use policy_core::sets::Transport;

use crate::context::Context;

/// An entry of `ports` with a name.
#[derive(Clone, Copy)]
pub struct NamedEntry<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The direction of the rule.
    pub direction: Direction,
    /// The place of the rule.
    pub rule: usize,
    /// The place of the entry in the list of ports.
    pub at: usize,
    /// The protocol.
    pub transport: Transport,
    /// The name.
    pub name: &'a str,
}

impl<'a> NamedEntry<'a> {
    /// Those of one direction of a policy.
    pub fn of(policy: &'a Policy, direction: Direction) -> impl Iterator<Item = Self> {
        let rules = policy.rules(direction).unwrap_or_default().iter().enumerate();
        rules.flat_map(move |(rule, of_rule)| {
            let entries = if let Ports::Listed(entries) = &of_rule.ports { entries.as_slice() } else { &[] };
            entries.iter().enumerate().filter_map(move |(at, entry)| match entry {
                PortEntry::Named { protocol, name } => Some(Self { policy, direction, rule, at, transport: *protocol, name }),
                PortEntry::Range { .. } | PortEntry::Unreadable => None,
            })
        })
    }

    /// Those of all policies.
    pub fn all(context: &Context<'a>) -> impl Iterator<Item = Self> {
        context.policies().flat_map(|policy| Direction::ALL.into_iter().flat_map(move |direction| Self::of(policy, direction)))
    }

    /// The path of its name.
    #[must_use]
    pub fn path(&self) -> String {
        format!("spec.{}[{}].ports[{}].port", self.direction, self.rule, self.at)
    }

    /// The peers of its rule.
    #[must_use]
    pub fn peers(&self) -> Option<&'a Peers> {
        self.policy.rules(self.direction)?.get(self.rule).map(|rule| &rule.peers)
    }

    /// The groups that say what the name means, as far as the rule or the policy selects them by label: the pods of the policy for ingress,
    /// and those of the peers for egress.
    #[must_use]
    pub fn destinations(&self, context: &Context<'_>) -> BTreeSet<GroupId> {
        let Some(policy) = context.id(self.policy) else { return BTreeSet::new() };
        if self.direction == Direction::Ingress {
            return context.graph.selected_by_policy(policy).into_iter().collect();
        }
        let Some(Peers::Listed(peers)) = self.peers() else { return BTreeSet::new() };
        let rule = RuleAt { policy, direction: self.direction, index: self.rule };
        (0..peers.len()).filter_map(|peer| context.graph.selected_by_peer(rule, peer)).flatten().collect()
    }
}
