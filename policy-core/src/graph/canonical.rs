//! What only tests ask a graph: everything in it as text that does not depend on ids or on the order of changes.

use std::fmt::Write;

use super::{AllowGraph, Decision, GroupId, NamedAtom, PeerSetId, Scope, TermId};
use crate::model::Direction;

impl AllowGraph {
    /// The peer sets that decisions refer to, sorted by id.
    #[must_use]
    pub fn peer_sets(&self) -> Vec<PeerSetId> {
        self.peer_sets.iter().filter(|(_, _, state)| state.decisions > 0).map(|(id, ..)| id).collect()
    }

    /// The named ports of destinations that decisions refer to, sorted.
    #[must_use]
    pub fn named_atoms(&self) -> Vec<NamedAtom> {
        self.named.iter().filter(|(_, state)| state.decisions > 0).map(|(atom, _)| *atom).collect()
    }

    /// One line per pod, per ambiguous address and per decision, sorted. Equal snapshots give equal text.
    ///
    /// Cost: linear in pods, times the size of their decisions.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut lines = Vec::new();
        for (id, pod) in self.pods.iter() {
            let (namespace, name) = self.pod_name(id);
            let node = pod.node.map_or("-", |n| self.nodes.key(n));
            let mut addresses = pod.addresses.to_vec();
            addresses.sort_unstable();
            lines.push(format!("pod {namespace}/{name} on {node} at {addresses:?}"));
            let Some(group) = self.group_of(id) else { continue };
            for direction in Direction::ALL {
                lines.push(format!("pod {namespace}/{name} {direction}: {}", self.decision_text(group, direction)));
            }
        }
        for (address, pods) in self.ambiguous_addresses() {
            let mut names: Vec<_> = pods.iter().map(|p| self.pod_name(*p)).collect();
            names.sort_unstable();
            lines.push(format!("ambiguous {address} {names:?}"));
        }
        lines.sort();
        lines.join("\n")
    }

    fn decision_text(&self, group: GroupId, direction: Direction) -> String {
        let mut out = String::new();
        match self.decision(group, direction) {
            None => out.push_str("out of scope"),
            Some(Decision::Open) => out.push_str("open"),
            Some(Decision::Isolated { any, atoms, named }) => {
                let _ = write!(out, "any={}", self.peer_set_text(*any));
                for atom in atoms {
                    let _ = write!(out, " {}/{}-{}={}", atom.transport, atom.low, atom.high, self.peer_set_text(atom.peers));
                }
                let mut named: Vec<String> = named
                    .iter()
                    .map(|n| format!(" {}/{}={}", n.transport, self.strings.text(n.name), self.peer_set_text(n.peers)))
                    .collect();
                named.sort();
                out.push_str(&named.concat());
            }
        }
        out
    }

    /// The members of a peer set: terms with the pods that they match, and blocks.
    fn peer_set_text(&self, set: PeerSetId) -> String {
        let content = self.peer_sets.key(set);
        let mut parts: Vec<String> = content.terms.iter().map(|t| self.term_text(*t)).collect();
        parts.sort();
        parts.extend(content.blocks.to_cidrs().iter().map(ToString::to_string));
        format!("{{{}}}", parts.join(" | "))
    }

    fn term_text(&self, term: TermId) -> String {
        let key = self.terms.key(term);
        let scope = match key.scope {
            Scope::Namespace(namespace) => self.namespaces.key(namespace).to_string(),
            Scope::Matching(scope) => format!("({})", self.selectors.key(*self.scopes.key(scope)).to_selector(&self.strings)),
        };
        let mut pods: Vec<_> =
            self.terms.data(term).groups.to_vec().into_iter().flat_map(|g| self.pods_of(g)).map(|p| self.pod_name(p)).collect();
        pods.sort_unstable();
        format!("{scope}:{} {pods:?}", self.selectors.key(key.pods).to_selector(&self.strings))
    }
}
