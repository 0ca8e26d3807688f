//! A question between two ends, taken apart into connections that each have one answer.

use policy_core::model::Direction;
use policy_core::sets::{AddressSet, Family, PortSet};
use policy_core::verdict::{Party, Survey};

use crate::ends::End;
use crate::world::World;

/// Two parties that stand for all connections with the same answer.
pub(crate) struct Connection {
    pub source: Party,
    pub destination: Party,
    /// Whether both are one pod.
    pub is_same: bool,
    /// The addresses outside that one of the parties stands for.
    pub outside: Option<AddressSet>,
    pub egress: PortSet,
    pub ingress: PortSet,
}

impl Connection {
    fn new(world: &World, source: Party, destination: Party, is_same: bool, outside: Option<AddressSet>) -> Self {
        let (egress, ingress) = world.graph.ports_between(&source, &destination, is_same);
        Self { source, destination, is_same, outside, egress, ingress }
    }

    /// What both sides allow.
    pub(crate) fn ports(&self) -> PortSet {
        self.egress.intersection(&self.ingress)
    }
}

/// One end as parties, and as addresses outside.
struct Parts {
    parties: Vec<Party>,
    outside: AddressSet,
}

fn parts(world: &World, end: &End) -> Parts {
    let addresses = match end {
        End::Node(name) => {
            let known = world.snapshot.nodes.get(name).map(|n| n.addresses.clone()).unwrap_or_default();
            let mut parties: Vec<Party> = known.into_iter().map(|a| world.graph.node_party(name, Some(a))).collect();
            if parties.is_empty() {
                parties.push(world.graph.node_party(name, None));
            }
            return Parts { parties, outside: AddressSet::none() };
        }
        _ => end.addresses().unwrap_or_default(),
    };
    let known = world.graph.known_addresses(&addresses);
    let outside = addresses.difference(&AddressSet::union_of(known.iter().map(|address| AddressSet::single(*address))));
    match end {
        End::External => Parts { parties: Vec::new(), outside: addresses },
        _ => Parts { parties: known.into_iter().map(|address| world.graph.party(address)).collect(), outside },
    }
}

/// Every connection that the question is about. Empty when the ends share no address family.
pub(crate) fn connections(world: &World, from: &End, to: &End) -> Vec<Connection> {
    if let (Some(source), Some(destination)) = (from.unit(world), to.unit(world)) {
        let survey = Survey::new(&world.graph, vec![source, destination]);
        let mut ends = survey.ends(0, 1);
        // Between the pods of a workload, a pod and itself is not what is asked about, unless there is no other.
        if ends.iter().any(|(_, _, is_same)| !is_same) {
            ends.retain(|(_, _, is_same)| !is_same);
        }
        return ends.into_iter().map(|(a, b, is_same)| Connection::new(world, a, b, is_same, None)).collect();
    }
    let (sources, destinations) = (ends_of(world, from), ends_of(world, to));
    let mut out = Vec::new();
    for source in &sources.parties {
        for destination in &destinations.parties {
            let source = source.clone().in_family(destination.family());
            let destination = destination.clone().in_family(source.family());
            if source.family() == destination.family() {
                let is_same = source.is_same_endpoint(&destination);
                out.push(Connection::new(world, source, destination, is_same, None));
            }
        }
        out.extend(with_outside(world, source, &destinations.outside, Direction::Egress));
    }
    for destination in &destinations.parties {
        out.extend(with_outside(world, destination, &sources.outside, Direction::Ingress));
    }
    // Two ends outside: no pod has a say.
    for family in [Family::V4, Family::V6] {
        let one = |set: &AddressSet| set.intersection(&AddressSet::family(family)).first();
        if let (Some(a), Some(b)) = (one(&sources.outside), one(&destinations.outside)) {
            out.push(Connection::new(world, Party::outside(a), Party::outside(b), false, None));
        }
    }
    out
}

fn ends_of(world: &World, end: &End) -> Parts {
    match end.unit(world) {
        None => parts(world, end),
        Some(unit) => {
            let parties = unit.pods.iter().flat_map(|pod| world.graph.parties_of(*pod)).collect();
            Parts { parties: distinct(parties), outside: AddressSet::none() }
        }
    }
}

/// Replicas whose addresses are not known are one party.
fn distinct(parties: Vec<Party>) -> Vec<Party> {
    let mut out: Vec<Party> = Vec::new();
    for party in parties {
        if !out.contains(&party) {
            out.push(party);
        }
    }
    out
}

/// One party and part of the outside. `direction` is seen from the party.
fn with_outside(world: &World, party: &Party, outside: &AddressSet, direction: Direction) -> Vec<Connection> {
    let mut out = Vec::new();
    for family in [Family::V4, Family::V6] {
        let party = party.clone().in_family(family);
        if party.family() != family {
            continue;
        }
        for (addresses, _) in world.graph.outside(&party, direction, family) {
            let addresses = addresses.intersection(outside);
            let Some(first) = addresses.first() else { continue };
            let other = Party::outside(first);
            let (source, destination) = match direction {
                Direction::Egress => (party.clone(), other),
                Direction::Ingress => (other, party.clone()),
            };
            out.push(Connection::new(world, source, destination, false, Some(addresses)));
        }
    }
    out
}
