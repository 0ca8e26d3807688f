//! Policies and their rules, with peers as terms and peer sets.

use super::Compiler;
use super::terms::TermScope;
use crate::graph::{NamespaceId, PeerRecord, PolicyId, PolicyRecord, RuleRecord, TermId, hash_name, shrink_table};
use crate::model::{Direction, NamespaceScope, ObjectKey, Peer, Peers, Policy, PortEntry, Ports, Rule};
use crate::sets::AddressSet;

impl Compiler {
    pub(super) fn apply_policy(&mut self, policy: &Policy) {
        let namespace = self.acquire_namespace(&policy.key.namespace);
        let target = self.acquire_term(&TermScope::Namespace(namespace), &policy.target);
        let mut rules = Vec::new();
        for direction in Direction::ALL {
            for (index, rule) in policy.rules(direction).unwrap_or_default().iter().enumerate() {
                rules.push(self.rule(rule, direction, index, namespace));
            }
        }
        // New uses first, so that what stays in use is not made again.
        self.remove_policy(&policy.key);
        let is_name = |entry: &PortEntry| matches!(entry, PortEntry::Named { .. });
        let names_ports = rules.iter().any(|rule| {
            rule.direction == Direction::Ingress && matches!(&rule.ports, Ports::Listed(entries) if entries.iter().any(is_name))
        });
        let record = PolicyRecord {
            namespace,
            name: policy.key.name.as_str().into(),
            origin: policy.origin.clone().map(Box::new),
            target,
            isolates_egress: policy.egress.is_some(),
            isolates_ingress: policy.ingress.is_some(),
            names_ports,
            rules: rules.into(),
        };
        let id = self.graph.policies.insert(record);
        let policies = &self.graph.policies;
        self.graph.policy_names.insert_unique(hash_name(namespace, &policy.key.name), id, |id| {
            let record = policies.get(*id);
            hash_name(record.namespace, &record.name)
        });
        self.add_target(target, id);
    }

    fn rule(&mut self, rule: &Rule, direction: Direction, index: usize, namespace: NamespaceId) -> RuleRecord {
        for name in port_names(&rule.ports) {
            self.graph.strings.intern(name);
        }
        let peers = match &rule.peers {
            Peers::Everyone => None,
            Peers::Listed(peers) => Some(peers.iter().map(|p| self.peer(p, namespace)).collect::<Box<[_]>>()),
        };
        let peer_set = match &peers {
            None => {
                self.graph.peer_sets.retain(self.everyone);
                self.everyone
            }
            Some(peers) => {
                let terms = term_ids(peers);
                let blocks = peers.iter().filter_map(|peer| match peer {
                    PeerRecord::Block(block) => Some(block.addresses()),
                    PeerRecord::Pods(_) | PeerRecord::Unreadable => None,
                });
                self.acquire_peer_set(terms, AddressSet::union_of(blocks))
            }
        };
        RuleRecord {
            direction,
            index: u32::try_from(index).unwrap_or(u32::MAX),
            line: rule.line,
            peer_set,
            peers,
            ports: rule.ports.clone(),
        }
    }

    fn peer(&mut self, peer: &Peer, namespace: NamespaceId) -> PeerRecord {
        match peer {
            Peer::Unreadable => PeerRecord::Unreadable,
            Peer::Block(block) => PeerRecord::Block(Box::new(block.clone())),
            Peer::Pods { namespaces: NamespaceScope::Own, pods } => {
                PeerRecord::Pods(self.acquire_term(&TermScope::Namespace(namespace), pods))
            }
            Peer::Pods { namespaces: NamespaceScope::Matching(selector), pods } => {
                PeerRecord::Pods(self.acquire_term(&TermScope::Matching(selector), pods))
            }
        }
    }

    pub(super) fn remove_policy(&mut self, key: &ObjectKey) {
        let Some(namespace) = self.graph.namespace(&key.namespace) else { return };
        let policies = &self.graph.policies;
        let is_it = |id: &PolicyId| policies.get(*id).namespace == namespace && *policies.get(*id).name == *key.name;
        let Ok(entry) = self.graph.policy_names.find_entry(hash_name(namespace, &key.name), is_it) else { return };
        let (id, _) = entry.remove();
        let Some(record) = self.graph.policies.remove(id) else { return };
        let policies = &self.graph.policies;
        shrink_table(&mut self.graph.policy_names, |id| {
            let record = policies.get(*id);
            hash_name(record.namespace, &record.name)
        });
        self.remove_target(record.target, id);
        self.release_term(record.target);
        self.graph.namespaces.release(record.namespace);
        for rule in record.rules {
            self.graph.peer_sets.release(rule.peer_set);
            for symbol in port_names(&rule.ports).filter_map(|name| self.graph.strings.find(name)).collect::<Vec<_>>() {
                self.graph.strings.release(symbol);
            }
            for term in rule.peers.iter().flat_map(|peers| term_ids(peers)) {
                self.release_term(term);
            }
        }
    }
}

/// The port names that a rule has uses of, one for each entry.
fn port_names(ports: &Ports) -> impl Iterator<Item = &str> {
    let entries = if let Ports::Listed(entries) = ports { entries.as_slice() } else { &[] };
    entries.iter().filter_map(|entry| match entry {
        PortEntry::Named { name, .. } => Some(name.as_str()),
        PortEntry::Range { .. } | PortEntry::Unreadable => None,
    })
}

fn term_ids(peers: &[PeerRecord]) -> Vec<TermId> {
    peers
        .iter()
        .filter_map(|peer| match peer {
            PeerRecord::Pods(term) => Some(*term),
            PeerRecord::Block(_) | PeerRecord::Unreadable => None,
        })
        .collect()
}
