//! A question between two ends, taken apart into connections that each have one answer.

use policy_core::graph::Endpoint;
use policy_core::model::Direction;
use policy_core::sets::{AddressSet, Family, PortSet};
use policy_core::verdict::ConnectivityMatrix;

use super::ends::End;
use super::evaluation::Evaluation;

/// Two endpoints that stand for all connections with the same answer.
pub(crate) struct Connection {
    pub source: Endpoint,
    pub destination: Endpoint,
    /// Whether both are one pod.
    pub is_same: bool,
    /// The external addresses that one of the endpoints represents.
    pub outside: Option<AddressSet>,
    pub egress: PortSet,
    pub ingress: PortSet,
}

impl Connection {
    fn new(evaluation: &Evaluation, source: Endpoint, destination: Endpoint, is_same: bool, outside: Option<AddressSet>) -> Self {
        let (egress, ingress) = evaluation.graph.ports_between(&source, &destination, is_same);
        Self { source, destination, is_same, outside, egress, ingress }
    }

    /// What both sides allow.
    pub(crate) fn ports(&self) -> PortSet {
        self.egress.intersection(&self.ingress)
    }
}

/// One end as endpoints, and as addresses outside.
struct Parts {
    endpoints: Vec<Endpoint>,
    outside: AddressSet,
}

fn parts(evaluation: &Evaluation, end: &End) -> Parts {
    let addresses = match end {
        End::Node(name) => {
            let known = evaluation.snapshot.nodes.get(name).map(|n| n.addresses.clone()).unwrap_or_default();
            let mut endpoints: Vec<Endpoint> = known.into_iter().map(|a| evaluation.graph.node_endpoint(name, Some(a))).collect();
            if endpoints.is_empty() {
                endpoints.push(evaluation.graph.node_endpoint(name, None));
            }
            return Parts { endpoints, outside: AddressSet::none() };
        }
        _ => end.addresses().unwrap_or_default(),
    };
    let known = evaluation.graph.known_addresses(&addresses);
    let outside = addresses.difference(&AddressSet::union_of(known.iter().map(|address| AddressSet::single(*address))));
    match end {
        End::External => Parts { endpoints: Vec::new(), outside: addresses },
        _ => Parts { endpoints: known.into_iter().map(|address| evaluation.graph.endpoint(address)).collect(), outside },
    }
}

/// Every connection that the question is about. Empty when the ends share no address family.
pub(crate) fn connections(evaluation: &Evaluation, from: &End, to: &End) -> Vec<Connection> {
    if let (Some(source), Some(destination)) = (from.unit(evaluation), to.unit(evaluation)) {
        let survey = ConnectivityMatrix::new(&evaluation.graph, vec![source, destination]);
        let mut ends = survey.ends(0, 1);
        // Between the pods of a workload, a pod and itself is not what is asked about, unless there is no other.
        if ends.iter().any(|(_, _, is_same)| !is_same) {
            ends.retain(|(_, _, is_same)| !is_same);
        }
        return ends.into_iter().map(|(a, b, is_same)| Connection::new(evaluation, a, b, is_same, None)).collect();
    }
    if let Some(own) = with_itself(evaluation, from, to) {
        return own;
    }
    let (sources, destinations) = (ends_of(evaluation, from), ends_of(evaluation, to));
    let mut out = Vec::new();
    for source in &sources.endpoints {
        for destination in &destinations.endpoints {
            let source = source.clone().in_family(destination.family());
            let destination = destination.clone().in_family(source.family());
            if source.family() == destination.family() {
                let is_same = source.is_same_endpoint(&destination);
                out.push(Connection::new(evaluation, source, destination, is_same, None));
            }
        }
        out.extend(with_outside(evaluation, source, &destinations.outside, Direction::Egress));
    }
    for destination in &destinations.endpoints {
        out.extend(with_outside(evaluation, destination, &sources.outside, Direction::Ingress));
    }
    // Two ends outside: no pod has a say.
    for family in [Family::V4, Family::V6] {
        let one = |set: &AddressSet| set.intersection(&AddressSet::family(family)).first();
        if let (Some(a), Some(b)) = (one(&sources.outside), one(&destinations.outside)) {
            out.push(Connection::new(evaluation, Endpoint::outside(a), Endpoint::outside(b), false, None));
        }
    }
    out
}

/// Pods and a loopback address, by which each of them reaches itself (S2.14); `None` if the ends are others.
fn with_itself(evaluation: &Evaluation, from: &End, to: &End) -> Option<Vec<Connection>> {
    let end = match (from.is_loopback(), to.is_loopback()) {
        (false, true) => from,
        (true, false) => to,
        _ => return None,
    };
    let pods = ends_of(evaluation, end).endpoints.into_iter().filter(|endpoint| !endpoint.pods().is_empty());
    let own = pods.map(|pod| Connection::new(evaluation, pod.clone(), pod, true, None));
    Some(own.collect()).filter(|own: &Vec<Connection>| !own.is_empty())
}

fn ends_of(evaluation: &Evaluation, end: &End) -> Parts {
    match end.unit(evaluation) {
        None => parts(evaluation, end),
        Some(unit) => {
            let endpoints = unit.pods.iter().flat_map(|pod| evaluation.graph.endpoints_of(*pod)).collect();
            Parts { endpoints: distinct(endpoints), outside: AddressSet::none() }
        }
    }
}

/// Replicas whose addresses are not known are one endpoint.
fn distinct(endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    let mut out: Vec<Endpoint> = Vec::new();
    for endpoint in endpoints {
        if !out.contains(&endpoint) {
            out.push(endpoint);
        }
    }
    out
}

/// One endpoint and part of the outside. `direction` is seen from the endpoint.
fn with_outside(evaluation: &Evaluation, endpoint: &Endpoint, outside: &AddressSet, direction: Direction) -> Vec<Connection> {
    let mut out = Vec::new();
    for family in [Family::V4, Family::V6] {
        let endpoint = endpoint.clone().in_family(family);
        if endpoint.family() != family {
            continue;
        }
        for (addresses, _) in evaluation.graph.outside(&endpoint, direction, family) {
            let Some(addresses) = evaluation.external(addresses.intersection(outside)) else { continue };
            let Some(first) = evaluation.external_one(&addresses) else { continue };
            let other = Endpoint::outside(first);
            let (source, destination) = match direction {
                Direction::Egress => (endpoint.clone(), other),
                Direction::Ingress => (other, endpoint.clone()),
            };
            out.push(Connection::new(evaluation, source, destination, false, Some(addresses)));
        }
    }
    out
}
