//! Proofs about rules and policies: what would change if one of them were not there.
//!
//! Every proof is about the compiled graph, by the terms, address blocks and ports that decisions are made of. It holds for one of two
//! worlds ([`Scope`]): the pods of the graph, or all pods that could exist.
//!
//! - `coverage`: whether other rules allow what a rule allows.
//! - `isolated`: the pods that the same policies isolate.
//! - `half_open`: rules whose other side denies everything that they allow.
//! - `redundancy`: rules and policies without which the graph is the same.

mod coverage;
mod half_open;
mod isolated;
mod redundancy;

pub use half_open::{HalfOpen, half_open};
pub use isolated::{Isolated, isolated};
pub use redundancy::{Redundancies, Redundant, redundancies};

use crate::graph::{AllowGraph, GroupId, PeerRecord, PolicyId, hash_name};
use crate::model::{Direction, ObjectKey};

/// A rule of a policy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RuleAt {
    /// The policy.
    pub policy: PolicyId,
    /// The direction.
    pub direction: Direction,
    /// Its place in the policy's list, from 0.
    pub index: usize,
}

/// What a proof holds for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// All pods, namespaces and addresses that could exist.
    Always,
    /// The pods and namespaces of the graph, and all addresses.
    Now,
}

impl AllowGraph {
    /// The policy of this name.
    #[must_use]
    pub fn policy(&self, key: &ObjectKey) -> Option<PolicyId> {
        let namespace = self.namespace(&key.namespace)?;
        let is_it = |id: &PolicyId| {
            let record = self.policies.get(*id);
            record.namespace == namespace && *record.name == *key.name
        };
        self.policy_names.find(hash_name(namespace, &key.name), is_it).copied()
    }

    /// The groups that a policy selects.
    #[must_use]
    pub fn selected_by_policy(&self, policy: PolicyId) -> Vec<GroupId> {
        self.terms.data(self.policies.get(policy).target).groups.to_vec()
    }

    /// The groups that one peer of a rule selects by label; `None` for a peer that is no selector.
    #[must_use]
    pub fn selected_by_peer(&self, rule: RuleAt, peer: usize) -> Option<Vec<GroupId>> {
        let mut rules = self.policies.get(rule.policy).rules(rule.direction);
        let rule = rules.find(|record| record.index as usize == rule.index)?;
        match rule.peers.as_ref()?.get(peer)? {
            PeerRecord::Pods(term) => Some(self.terms.data(*term).groups.to_vec()),
            PeerRecord::Block(_) | PeerRecord::Unreadable => None,
        }
    }
}
