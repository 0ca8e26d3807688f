//! The rows of a list.

use std::collections::BTreeMap;
use std::fmt;

use policy_core::model::{Direction, ObjectKey, WorkloadKey};
use policy_core::sets::{AddressSet, PortSet, ProtocolPorts};
use policy_core::verdict::{ConnectivityMatrix, WorkloadPods};
use serde::{Serialize, Serializer};

use super::connections::connections;
use super::ends::{End, Ends};
use super::evaluation::Evaluation;
use super::scope::Scope;
use crate::output::{blocks, cidr_texts};

/// Blocks that text lists of an end.
const MOST_BLOCKS: usize = 4;

/// One end of a row.
#[derive(Serialize, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[serde(untagged)]
pub(crate) enum Peer {
    /// A workload, or `kind: Pod` and `kind: Node`.
    Workload {
        kind: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        namespace: String,
        name: String,
    },
    /// Addresses that are no pod's and no node's.
    External {
        kind: &'static str,
        cidrs: Vec<String>,
        /// The same addresses as text, with exceptions where that is shorter.
        #[serde(skip)]
        shown: Vec<String>,
    },
}

impl Peer {
    pub(super) fn outside(addresses: &AddressSet) -> Self {
        Self::External { kind: "External", cidrs: cidr_texts(addresses), shown: blocks::texts(addresses) }
    }

    pub(super) fn workload(namespace: &str, owner: &WorkloadKey) -> Self {
        Self::Workload { kind: owner.kind.clone(), namespace: namespace.to_owned(), name: owner.name.clone() }
    }

    /// What ends are sorted by: the namespace, the name, then the kind; the outside is last.
    pub(crate) fn order(&self) -> (bool, &str, &str, &str, &[String]) {
        match self {
            Self::Workload { kind, namespace, name } => (false, namespace, name, kind, &[]),
            Self::External { kind, cidrs, .. } => (true, "", "", kind, cidrs),
        }
    }

    fn pod(key: &ObjectKey) -> Self {
        Self::Workload { kind: "Pod".to_owned(), namespace: key.namespace.clone(), name: key.name.clone() }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload { kind, namespace, name } if namespace.is_empty() => write!(f, "{name} ({kind})"),
            Self::Workload { kind, namespace, name } => write!(f, "{namespace}/{name} ({kind})"),
            Self::External { shown, cidrs, .. } if shown.len() > MOST_BLOCKS => {
                let first = shown.iter().take(MOST_BLOCKS).cloned().collect::<Vec<_>>().join(", ");
                write!(f, "external {first}, … ({} blocks)", cidrs.len())
            }
            Self::External { shown, .. } => write!(f, "external {}", shown.join(", ")),
        }
    }
}

/// One allowed connection.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    pub src: Peer,
    pub dst: Peer,
    /// What every pod of the source may use towards every pod of the destination.
    #[serde(serialize_with = "by_protocol")]
    pub allowed: PortSet,
    /// What only some of them may.
    #[serde(serialize_with = "by_protocol", skip_serializing_if = "PortSet::is_empty")]
    pub partly: PortSet,
}

impl Row {
    pub(super) fn new(src: Peer, dst: Peer, all: PortSet, some: &PortSet) -> Option<Self> {
        let partly = some.difference(&all);
        (!some.is_empty()).then_some(Self { src, dst, allowed: all, partly })
    }

    /// What at least some pods may use.
    pub(crate) fn some(&self) -> PortSet {
        self.allowed.union(&self.partly)
    }
}

pub(crate) fn by_protocol<S: Serializer>(ports: &PortSet, serializer: S) -> Result<S::Ok, S::Error> {
    let list: Vec<ProtocolPorts> = ports.by_protocol();
    list.serialize(serializer)
}

/// A row's end before it is known what is allowed.
enum Candidate {
    /// The place of a unit.
    WorkloadPods(usize),
    Outside(AddressSet),
    Node(String),
}

/// The pods that rows are about, each unit once.
#[derive(Default)]
struct Units {
    peers: Vec<Peer>,
    pods: Vec<WorkloadPods>,
    places: BTreeMap<Peer, usize>,
}

impl Units {
    fn add(&mut self, peer: Peer, pods: WorkloadPods) -> Candidate {
        let next = self.pods.len();
        let place = *self.places.entry(peer.clone()).or_insert(next);
        if place == next {
            self.peers.push(peer);
            self.pods.push(pods);
        }
        Candidate::WorkloadPods(place)
    }
}

/// What a list is about.
pub(crate) struct Question<'q> {
    /// The sources; `None` stands for all workloads and the outside.
    pub from: Option<&'q Ends>,
    /// The destinations; `None` stands for all workloads and the outside.
    pub to: Option<&'q Ends>,
    pub scope: &'q Scope,
}

impl Question<'_> {
    /// The sources, with whether all of their connections are shown.
    pub(super) fn sources(&self, evaluation: &Evaluation) -> Vec<(End, bool)> {
        self.ends(evaluation, self.from)
    }

    /// The destinations, with whether all of their connections are shown.
    pub(super) fn destinations(&self, evaluation: &Evaluation) -> Vec<(End, bool)> {
        self.ends(evaluation, self.to)
    }

    fn ends(&self, evaluation: &Evaluation, ends: Option<&Ends>) -> Vec<(End, bool)> {
        let ends: Vec<End> = match ends {
            Some(ends) => ends.list().to_vec(),
            None => evaluation.workloads().chain([End::External]).collect(),
        };
        let is_shown = |end: &End| self.scope.contains(evaluation, end);
        ends.into_iter().map(|end| (end.clone(), is_shown(&end))).collect()
    }
}

/// Every allowed connection from one end to another. Sorted by source, then destination, workloads by namespace, name and kind, the
/// outside last.
pub(crate) fn rows(evaluation: &Evaluation, question: &Question<'_>) -> Vec<Row> {
    let mut units = Units::default();
    let mut candidates = |ends: Vec<(End, bool)>| -> Vec<(Candidate, bool)> {
        ends.iter().map(|(end, is_shown)| (candidate(evaluation, end, &mut units), *is_shown)).collect()
    };
    let (sources, destinations) = (candidates(question.sources(evaluation)), candidates(question.destinations(evaluation)));
    let survey = ConnectivityMatrix::new(&evaluation.graph, units.pods);
    let mut out = Vec::new();
    for (source, is_shown) in &sources {
        for (destination, _) in destinations.iter().filter(|(_, is_other_shown)| *is_shown || *is_other_shown) {
            pair(evaluation, &survey, &units.peers, source, destination, &mut out);
        }
    }
    out
}

fn candidate(evaluation: &Evaluation, end: &End, units: &mut Units) -> Candidate {
    let mut add = |peer: Peer, end: &End| {
        let nothing = || WorkloadPods { pods: Vec::new(), has_replicas: false };
        units.add(peer, end.unit(evaluation).unwrap_or_else(nothing))
    };
    match end {
        End::Workload { namespace, owner } => add(Peer::workload(namespace, owner), end),
        End::Pod(key) => add(Peer::pod(key), end),
        End::Node(name) => Candidate::Node(name.clone()),
        End::Address(address) => {
            let endpoint = evaluation.graph.endpoint(*address);
            match endpoint.pods() {
                [pod, ..] => {
                    let (namespace, name) = evaluation.graph.pod_name(*pod);
                    let key = ObjectKey::new(namespace, name);
                    add(Peer::pod(&key), &End::Pod(key.clone()))
                }
                [] => Candidate::Outside(AddressSet::single(*address)),
            }
        }
        End::Block(block) => Candidate::Outside(AddressSet::block(*block)),
        End::External => Candidate::Outside(AddressSet::all()),
    }
}

fn pair(
    evaluation: &Evaluation,
    survey: &ConnectivityMatrix<'_>,
    peers: &[Peer],
    source: &Candidate,
    destination: &Candidate,
    out: &mut Vec<Row>,
) {
    let peer = |unit: usize| peers.get(unit).cloned().unwrap_or_else(|| Peer::outside(&AddressSet::none()));
    match (source, destination) {
        (Candidate::WorkloadPods(a), Candidate::WorkloadPods(b)) => {
            if let Some(ports) = survey.shared_pair(*a, *b).filter(|ports| !ports.some.is_empty()) {
                out.extend(Row::new(peer(*a), peer(*b), ports.all.clone(), &ports.some));
            }
        }
        (Candidate::WorkloadPods(unit), Candidate::Outside(set)) => {
            for part in survey.external(*unit, Direction::Egress) {
                if let Some(addresses) = outside_part(evaluation, &part.addresses, set) {
                    out.extend(Row::new(peer(*unit), Peer::outside(&addresses), part.all, &part.some));
                }
            }
        }
        (Candidate::Outside(set), Candidate::WorkloadPods(unit)) => {
            for part in survey.external(*unit, Direction::Ingress) {
                if let Some(addresses) = outside_part(evaluation, &part.addresses, set) {
                    out.extend(Row::new(Peer::outside(&addresses), peer(*unit), part.all, &part.some));
                }
            }
        }
        (Candidate::Node(name), Candidate::WorkloadPods(unit)) => {
            let node = Peer::Workload { kind: "Node".to_owned(), namespace: String::new(), name: name.clone() };
            out.extend(with_node(evaluation, survey, name, *unit, true, node, peer(*unit)));
        }
        (Candidate::WorkloadPods(unit), Candidate::Node(name)) => {
            let node = Peer::Workload { kind: "Node".to_owned(), namespace: String::new(), name: name.clone() };
            out.extend(with_node(evaluation, survey, name, *unit, false, peer(*unit), node));
        }
        // No pod has a say between nodes and the outside (S3.4).
        (Candidate::Outside(_) | Candidate::Node(_), Candidate::Outside(_) | Candidate::Node(_)) => {}
    }
}

/// The addresses of a part that are asked about. Of the whole outside, what pods and nodes have is no part.
fn outside_part(evaluation: &Evaluation, part: &AddressSet, asked: &AddressSet) -> Option<AddressSet> {
    if *asked == AddressSet::all() {
        return evaluation.external(part.clone());
    }
    Some(part.intersection(asked)).filter(|addresses| !addresses.is_empty())
}

fn with_node(
    evaluation: &Evaluation,
    survey: &ConnectivityMatrix<'_>,
    node: &str,
    unit: usize,
    is_source: bool,
    src: Peer,
    dst: Peer,
) -> Option<Row> {
    let node = End::Node(node.to_owned());
    let pods = survey.units().get(unit)?.pods.iter().map(|pod| {
        let (namespace, name) = evaluation.graph.pod_name(*pod);
        End::Pod(ObjectKey::new(namespace, name))
    });
    let mut all: Option<PortSet> = None;
    let mut some = PortSet::none();
    for pod in pods {
        let found = if is_source { connections(evaluation, &node, &pod) } else { connections(evaluation, &pod, &node) };
        for connection in found {
            let ports = connection.ports();
            all = Some(all.map_or_else(|| ports.clone(), |all| all.intersection(&ports)));
            some = some.union(&ports);
        }
    }
    Row::new(src, dst, all?, &some)
}

/// The rows that allow all asked ports to at least some pods, cut down to those ports.
pub(crate) fn narrowed(rows: Vec<Row>, ports: Option<&PortSet>) -> Vec<Row> {
    let Some(asked) = ports else { return rows };
    rows.into_iter()
        .filter(|row| asked.difference(&row.some()).is_empty())
        .map(|row| Row { allowed: row.allowed.intersection(asked), partly: row.partly.intersection(asked), ..row })
        .collect()
}
