//! Suggested fixes, with everything else that they change.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use policy_core::graph::Endpoint;
use policy_core::model::{Direction, ObjectKey, Pod};
use policy_core::sets::{AddressSet, Family, PortSet, ProtocolPorts};
use policy_core::suggestion::{Effect, Missing, Other, Party, Suggestion, suggest};
use policy_core::verdict::SideExplanation;
use serde::Serialize;

use super::connections::Connection;
use super::ends::End;
use super::evaluation::Evaluation;
use crate::output::cidr_texts;

/// An edit that would allow what is denied, and what else it changes.
#[derive(Serialize, Debug)]
pub(crate) struct SuggestedFix {
    #[serde(flatten)]
    pub suggestion: Suggestion,
    /// What the edit opens besides what was asked.
    pub also_opens: Vec<Change>,
    /// What the edit closes.
    pub also_closes: Vec<Change>,
}

/// Connections that an edit opens or closes.
#[derive(Serialize, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Change {
    pub from: String,
    pub to: String,
    pub ports: Vec<ProtocolPorts>,
}

/// What is suggested for the two sides of a connection.
pub(crate) struct Suggestions<'a> {
    evaluation: &'a Evaluation,
    ends: [&'a End; 2],
    found: &'a [Connection],
    shown: &'a Connection,
}

impl<'a> Suggestions<'a> {
    pub(crate) fn new(evaluation: &'a Evaluation, ends: [&'a End; 2], found: &'a [Connection], shown: &'a Connection) -> Self {
        Self { evaluation, ends, found, shown }
    }

    /// The fix of one side; `None` when it allows what was asked, or no edit to a policy makes it.
    pub(crate) fn of(&self, side: &SideExplanation, asked: &PortSet) -> Option<SuggestedFix> {
        side.nearest_miss.as_ref()?;
        let evaluation = self.evaluation;
        let [from, to] = self.ends;
        let (subject, subject_end, other, other_end) = match side.direction {
            Direction::Egress => (&self.shown.source, from, &self.shown.destination, to),
            Direction::Ingress => (&self.shown.destination, to, &self.shown.source, from),
        };
        let ports = asked.difference(&side.allows);
        let subject = evaluation.pod_of(subject)?;
        let (subjects, others) = (pods_of(evaluation, subject_end, subject), self.pods_of_other(other_end, other));
        let missing = Missing {
            subject,
            direction: side.direction,
            other: self.other(side.direction, other, other_end)?,
            ports: &ports,
            subjects: &subjects,
            others: &others,
        };
        let suggestion = evaluation.with_compiler(|compiler| suggest(&evaluation.snapshot, compiler, &missing))?;
        let changes = |effects: &[Effect]| changes(evaluation, effects);
        let (also_opens, also_closes) = (changes(&suggestion.opens), changes(&suggestion.closes));
        Some(SuggestedFix { suggestion, also_opens, also_closes })
    }

    fn pods_of_other(&self, end: &End, endpoint: &Endpoint) -> BTreeSet<ObjectKey> {
        self.evaluation.pod_of(endpoint).map(|pod| pods_of(self.evaluation, end, pod)).unwrap_or_default()
    }

    fn other(&self, direction: Direction, endpoint: &Endpoint, end: &End) -> Option<Other<'a>> {
        if let Some(pod) = self.evaluation.pod_of(endpoint) {
            return Some(Other::Pod(pod));
        }
        let whole = |family: Family| AddressSet::family(family).to_cidrs();
        let nets: Vec<IpNet> = match (end, &self.shown.outside, endpoint.address()) {
            (End::Block(block), ..) => vec![*block],
            (End::External, ..) => whole(Family::V4).into_iter().chain(whole(Family::V6)).collect(),
            (_, Some(addresses), _) => addresses.to_cidrs(),
            (End::Node(_) | End::Workload { .. } | End::Pod(_), None, _) => self.node_addresses(direction),
            (_, None, Some(address)) => vec![address.into()],
            (_, None, None) => return None,
        };
        (!nets.is_empty()).then_some(Other::Addresses(nets))
    }

    /// Every address of the nodes at the other end, of the families that the subject has.
    fn node_addresses(&self, direction: Direction) -> Vec<IpNet> {
        let others = self.found.iter().map(|connection| match direction {
            Direction::Egress => &connection.destination,
            Direction::Ingress => &connection.source,
        });
        let addresses: BTreeSet<IpNet> =
            others.filter(|other| other.is_node()).filter_map(Endpoint::address).map(IpNet::from).collect();
        addresses.into_iter().collect()
    }
}

/// The pods that the question is about at one end.
fn pods_of(evaluation: &Evaluation, end: &End, shown: &Pod) -> BTreeSet<ObjectKey> {
    match end {
        End::Workload { namespace, owner } => {
            let workload = evaluation.snapshot.workloads.get(&(namespace.clone(), owner.clone()));
            workload.map(|workload| workload.pods.iter().cloned().collect()).unwrap_or_default()
        }
        _ => BTreeSet::from([shown.key.clone()]),
    }
}

/// Effects by workload, sorted.
fn changes(evaluation: &Evaluation, effects: &[Effect]) -> Vec<Change> {
    let mut ports: BTreeMap<(String, String), PortSet> = BTreeMap::new();
    for effect in effects {
        let others: BTreeSet<String> = match &effect.other {
            Party::Pods(pods) => pods.iter().map(|key| workload(evaluation, key)).collect(),
            Party::Node(name) => BTreeSet::from([format!("node/{name}")]),
            Party::Outside(addresses) => BTreeSet::from([outside(addresses)]),
        };
        let subjects: BTreeSet<String> = effect.subjects.iter().map(|key| workload(evaluation, key)).collect();
        for subject in &subjects {
            for other in &others {
                let pair = match effect.direction {
                    Direction::Egress => (subject.clone(), other.clone()),
                    Direction::Ingress => (other.clone(), subject.clone()),
                };
                let all = ports.entry(pair).or_insert_with(PortSet::none);
                *all = all.union(&effect.ports);
            }
        }
    }
    ports.into_iter().map(|((from, to), ports)| Change { from, to, ports: ports.by_protocol() }).collect()
}

fn workload(evaluation: &Evaluation, key: &ObjectKey) -> String {
    let owner = evaluation.snapshot.pods.get(key).and_then(|pod| pod.owner.as_ref());
    owner.map_or_else(|| key.to_string(), |owner| format!("{}/{}", key.namespace, owner.name))
}

fn outside(addresses: &AddressSet) -> String {
    let cidrs = cidr_texts(addresses);
    let more = if cidrs.len() > 1 { ", …" } else { "" };
    format!("external {}{more}", cidrs.first().cloned().unwrap_or_default())
}
