//! Rules whose other side denies everything that they allow.

use rustc_hash::FxHashMap;

use super::RuleAt;
use super::coverage::Allowed;
use crate::graph::{AllowGraph, BlockBorders, GroupId, PodId, PolicyId, TermId};
use crate::model::Direction;
use crate::sets::PortSet;

/// A peer of a rule that never gets what the rule allows, because the policies of the other side deny it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HalfOpen {
    /// The rule.
    pub rule: RuleAt,
    /// The place of the peer in the rule's list.
    pub peer: usize,
    /// A pod that the policy selects, and one that the peer selects: a connection that is denied.
    pub witness: (PodId, PodId),
    /// The ports that the rule allows for these two.
    pub ports: PortSet,
    /// The policies that deny it: those that isolate the pod of the peer.
    pub denied_by: Vec<PolicyId>,
}

/// Every peer of every rule that allows connections between pods of the graph, all of which the other side denies. Sorted by namespace,
/// name and place.
///
/// Cost: for each peer, pairs of groups until one can connect.
#[must_use]
pub fn half_open(graph: &AllowGraph) -> Vec<HalfOpen> {
    let mut search = Search { graph, borders: BlockBorders::of(graph), pods: FxHashMap::default() };
    let mut out = Vec::new();
    let mut policies: Vec<PolicyId> = graph.policies.iter().map(|(id, _)| id).collect();
    policies.sort_by_key(|policy| graph.policy_name(*policy));
    for policy in policies {
        let record = graph.policies.get(policy);
        let selected = search.pods_of(record.target);
        for rule in &record.rules {
            let index = usize::try_from(rule.index).unwrap_or(usize::MAX);
            let allowed = Allowed::of(graph, RuleAt { policy, direction: rule.direction, index }, rule);
            for (peer, term) in Allowed::selectors(rule) {
                let peers = search.pods_of(term);
                out.extend(of_peer(graph, &allowed, peer, &selected, &peers));
            }
        }
    }
    out
}

/// The pods of groups, as far as policies can tell them apart.
struct Search<'g> {
    graph: &'g AllowGraph,
    borders: BlockBorders,
    pods: FxHashMap<GroupId, Vec<PodId>>,
}

impl Search<'_> {
    /// The groups that a term matches, with two pods for each place among address blocks: one for others, and one for itself.
    fn pods_of(&mut self, term: TermId) -> Vec<(GroupId, Vec<PodId>)> {
        let groups = self.graph.terms.data(term).groups.to_vec();
        let with_pods = groups
            .into_iter()
            .map(|group| (group, self.pods.entry(group).or_insert_with(|| pods(self.graph, group, &self.borders)).clone()));
        with_pods.filter(|(_, pods)| !pods.is_empty()).collect()
    }
}

fn pods(graph: &AllowGraph, group: GroupId, borders: &BlockBorders) -> Vec<PodId> {
    let mut seen: FxHashMap<Vec<usize>, usize> = FxHashMap::default();
    let mut pods: Vec<PodId> = graph.pods_of(group).collect();
    pods.sort_by_key(|pod| graph.pod_name(*pod));
    pods.retain(|pod| {
        let places = graph.pod_addresses(*pod).iter().map(|address| borders.stretch(*address)).collect();
        let count = seen.entry(places).or_default();
        *count += 1;
        *count <= 2
    });
    pods
}

fn of_peer(
    graph: &AllowGraph,
    rule: &Allowed<'_>,
    peer: usize,
    selected: &[(GroupId, Vec<PodId>)],
    peers: &[(GroupId, Vec<PodId>)],
) -> Option<HalfOpen> {
    let other = match rule.at.direction {
        Direction::Egress => Direction::Ingress,
        Direction::Ingress => Direction::Egress,
    };
    let mut found = None;
    for (theirs, ends) in peers {
        let denied_by = graph.isolating(*theirs, other);
        // What is not isolated denies nothing.
        if denied_by.is_empty() {
            return None;
        }
        for (own, subjects) in selected {
            let destination = if rule.at.direction == Direction::Ingress { *own } else { *theirs };
            let ports = rule.ports.resolved(graph, destination);
            if ports.is_empty() {
                continue;
            }
            for (subject, end) in subjects.iter().flat_map(|subject| ends.iter().map(move |end| (*subject, *end))) {
                if subject == end {
                    continue;
                }
                if lets_pass(graph, subject, other, end, &ports) {
                    return None;
                }
                found = found.or_else(|| {
                    Some(HalfOpen {
                        rule: rule.at,
                        peer,
                        witness: (subject, end),
                        ports: ports.clone(),
                        denied_by: denied_by.clone(),
                    })
                });
            }
        }
    }
    found
}

/// Whether the other side lets some of these ports pass, over some family.
fn lets_pass(graph: &AllowGraph, subject: PodId, other: Direction, end: PodId, ports: &PortSet) -> bool {
    let ends = graph.endpoints_of(end);
    graph.endpoints_of(subject).into_iter().any(|subject| {
        ends.iter().any(|end| {
            let end = end.clone().in_family(subject.family());
            let subject = subject.clone().in_family(end.family());
            subject.family() == end.family() && !graph.side_ports(&end, other, &subject).intersection(ports).is_empty()
        })
    })
}
