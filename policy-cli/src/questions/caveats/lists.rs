//! The caveats of a list: those of its answers, each kind once, with the first names and their number.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use policy_core::graph::GroupId;
use policy_core::model::{
    Addresses, Direction, IpBlock, ObjectKey, Peer, Peers, Placement, Pod, Policy, Ports, Rule, Service, TargetPort, WorkloadKey,
};
use policy_core::sets::{AddressSet, PortSet};

use super::blocks::is_only_by_block;
use super::services::{address_of_services, is_translated, selects};
use crate::output::names::listed;
use crate::questions::ends::End;
use crate::questions::evaluation::Evaluation;
use crate::questions::rows::{self, Question, Row};

/// What a list is about.
pub(crate) struct Listing<'a> {
    sources: Vec<End>,
    destinations: Vec<End>,
    /// Whether nodes would be ends too, if they were listed.
    is_open: bool,
    asked: PortSet,
    /// The workloads that are ends or have pods that are, by namespace.
    workloads: BTreeMap<String, BTreeSet<WorkloadKey>>,
    /// The ends of connections that only some pods have, as namespace, kind and name; `None` where they are not known.
    partial: Option<BTreeSet<(&'a str, &'a str, &'a str)>>,
}

impl<'a> Listing<'a> {
    /// The list that answers a question; `rows` are `None` where they are not known.
    pub(crate) fn new(
        evaluation: &Evaluation,
        question: &Question<'_>,
        asked: Option<&PortSet>,
        rows: Option<&'a [Row]>,
    ) -> Self {
        let ends = |ends: Vec<(End, bool)>| -> Vec<End> { ends.into_iter().map(|(end, _)| as_pod(evaluation, end)).collect() };
        let (sources, destinations) = (ends(question.sources(evaluation)), ends(question.destinations(evaluation)));
        let mut workloads: BTreeMap<String, BTreeSet<WorkloadKey>> = BTreeMap::new();
        for end in sources.iter().chain(&destinations) {
            let owner = match end {
                End::Workload { owner, .. } => Some(owner),
                End::Pod(key) => evaluation.snapshot.pods.get(key).and_then(|pod| pod.owner.as_ref()),
                _ => None,
            };
            if let (Some(namespace), Some(owner)) = (end.namespace(), owner) {
                workloads.entry(namespace.to_owned()).or_default().insert(owner.clone());
            }
        }
        let partial = rows.map(|rows| {
            let rows = rows.iter().filter(|row| !row.partly.is_empty());
            rows.flat_map(|row| [&row.src, &row.dst]).filter_map(names_of).collect()
        });
        Self {
            sources,
            destinations,
            is_open: question.from.is_none() || question.to.is_none(),
            asked: asked.cloned().unwrap_or_else(PortSet::all),
            workloads,
            partial,
        }
    }

    fn ends(&self) -> impl Iterator<Item = &End> {
        self.sources.iter().chain(&self.destinations)
    }

    /// Whether a workload is an end, or one of its pods.
    pub(crate) fn has_workload(&self, namespace: &str, owner: &WorkloadKey) -> bool {
        self.workloads.get(namespace).is_some_and(|own| own.contains(owner))
    }

    /// The namespaces of the ends.
    pub(super) fn namespaces(&self) -> Vec<Option<&str>> {
        let all: BTreeSet<&str> = self.ends().filter_map(End::namespace).collect();
        all.into_iter().map(Some).collect()
    }

    /// Whether only some pods of a workload have a connection; `true` where it is not known.
    pub(crate) fn is_partial(&self, namespace: &str, owner: &WorkloadKey) -> bool {
        self.partial.as_ref().is_none_or(|partial| partial.contains(&(namespace, owner.kind.as_str(), owner.name.as_str())))
    }
}

fn names_of(peer: &rows::Peer) -> Option<(&str, &str, &str)> {
    match peer {
        rows::Peer::Workload { kind, namespace, name } => Some((namespace.as_str(), kind.as_str(), name.as_str())),
        rows::Peer::External { .. } => None,
    }
}

/// The pod of an address, in place of the address.
fn as_pod(evaluation: &Evaluation, end: End) -> End {
    match &end {
        End::Address(address) => {
            let pod = evaluation.pod_of(&evaluation.graph.endpoint(*address)).map(|pod| End::Pod(pod.key.clone()));
            pod.unwrap_or(end)
        }
        _ => end,
    }
}

/// The caveats of a list that its ends lead to.
pub(super) fn of_ends(evaluation: &Evaluation, list: &Listing<'_>) -> Vec<String> {
    let mut out = Vec::new();
    out.extend(list.destinations.iter().find_map(|end| address_of_services(evaluation, end, &list.asked)).map(|r| r.to_string()));
    out.extend(of_blocks(evaluation, list));
    out.extend(mapped_ports(evaluation, list));
    out.extend(node_ports(evaluation, list));
    out.extend(host_network(evaluation, list));
    if list.is_open && !evaluation.snapshot.nodes.is_empty() {
        let names: Vec<&String> = evaluation.snapshot.nodes.keys().collect();
        out.push(format!("connections of nodes are not listed: {}; ask for `node/NAME`", listed(&names)));
    }
    out
}

/// The pods of ends, by namespace.
fn pods_of<'e>(evaluation: &'e Evaluation, ends: &'e [End]) -> BTreeMap<&'e str, Vec<&'e Pod>> {
    let mut out: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for pod in ends.iter().flat_map(|end| end.pods(evaluation)).filter_map(|key| evaluation.snapshot.pods.get(key)) {
        out.entry(&pod.key.namespace).or_default().push(pod);
    }
    out
}

/// What a block has to do with the other end of a rule.
struct Held {
    /// Whether it matches a pod by its address.
    has_pods: bool,
    /// The Services whose addresses it contains.
    services: Vec<String>,
}

/// The rules with address blocks that apply to the ends of a list, by what is uncertain about them.
#[derive(Default)]
struct BlockRules {
    of_pods: Vec<String>,
    of_services: Vec<String>,
    of_unknown: Vec<String>,
}

/// Address blocks that match pods, that contain addresses of Services, or that could match pods whose addresses are not known.
fn of_blocks(evaluation: &Evaluation, list: &Listing<'_>) -> Vec<String> {
    let (sources, destinations) = (pods_of(evaluation, &list.sources), pods_of(evaluation, &list.destinations));
    let mut found = BlockRules::default();
    for (direction, subjects, others) in
        [(Direction::Egress, &sources, &destinations), (Direction::Ingress, &destinations, &sources)]
    {
        let others: Vec<&Pod> = others.values().flatten().copied().filter(|pod| pod.is_endpoint()).collect();
        found.add(evaluation, direction, subjects, &others, &list.asked);
    }
    let BlockRules { of_pods, of_services, of_unknown } = found;
    let mut out = Vec::new();
    if !of_pods.is_empty() {
        let rules = listed(&of_pods);
        out.push(format!(
            "ipBlock rules match pods by address, and some network plugins, such as Cilium, do not apply ipBlock to pods: {rules}"
        ));
    }
    if !of_services.is_empty() {
        let rules = listed(&of_services);
        out.push(format!(
            "ipBlock rules contain virtual addresses of Services, and have no effect on connections to them, because policies are evaluated \
             for the pods behind a Service: {rules}"
        ));
    }
    if !of_unknown.is_empty() {
        let rules = listed(&of_unknown);
        out.push(format!(
            "the addresses of pods are not known until they run, so ipBlock rules are assumed not to match them: {rules}"
        ));
    }
    out
}

impl BlockRules {
    fn add<'e>(
        &mut self,
        evaluation: &'e Evaluation,
        direction: Direction,
        subjects: &BTreeMap<&str, Vec<&Pod>>,
        others: &[&Pod],
        asked: &PortSet,
    ) {
        let mut held: HashMap<&'e IpBlock, Held> = HashMap::new();
        let (unknown, mut denials) = (unlike(others), Denials::default());
        let targets = |policy: &Policy| -> Vec<&Pod> {
            let own = subjects.get(policy.key.namespace.as_str()).into_iter().flatten().copied();
            own.filter(|pod| pod.is_endpoint() && policy.target.matches(&pod.labels)).collect()
        };
        for policy in evaluation.snapshot.policies.values() {
            let rules = policy.rules(direction).unwrap_or_default();
            if !rules.iter().any(|rule| blocks(rule).next().is_some()) {
                continue;
            }
            let targets = targets(policy);
            let Some(subject) = targets.first() else { continue };
            let closed = denials.closed(evaluation, direction, &targets);
            for (index, rule) in rules.iter().enumerate() {
                let name = || format!("{} {direction}[{index}]", policy.key);
                let (mut has_pods, mut is_partial, mut services) = (false, false, BTreeSet::new());
                for block in blocks(rule) {
                    let held = held.entry(block).or_insert_with(|| Held::of(evaluation, block, others));
                    has_pods |= held.has_pods;
                    is_partial |= !is_whole(block);
                    if direction == Direction::Egress {
                        services.extend(held.services.iter().cloned());
                    }
                }
                let by_block_alone = |pod: &&Pod| is_only_by_block(evaluation, rule, subject, pod);
                if has_pods && others.iter().filter(|pod| matched(rule, pod)).any(by_block_alone) {
                    self.of_pods.push(name());
                }
                if !services.is_empty() {
                    let services: Vec<String> = services.into_iter().collect();
                    self.of_services.push(format!("{} (Service {})", name(), listed(&services)));
                }
                let mut is_uncertain = |(place, pod): (usize, &&Pod)| {
                    !matched(rule, pod)
                        && by_block_alone(pod)
                        && closed.iter().any(|target| denials.denies(evaluation, direction, target, (place, pod), asked))
                };
                if is_partial && unknown.iter().enumerate().any(&mut is_uncertain) {
                    self.of_unknown.push(name());
                }
            }
        }
    }
}

/// Of the pods whose addresses are not known, one of each that no policy can tell from the others.
fn unlike<'p>(pods: &[&'p Pod]) -> Vec<&'p Pod> {
    let mut seen = HashSet::new();
    let unknown = pods.iter().filter(|pod| pod.addresses == Addresses::Unknown);
    unknown.filter(|pod| seen.insert((&pod.key.namespace, &pod.labels, &pod.ports))).copied().collect()
}

/// What policies deny, each question once. Pods that policies treat alike are one.
#[derive(Default)]
struct Denials {
    /// By the group of the pod that policies apply to, and the place of the other one.
    known: HashMap<(GroupId, usize), bool>,
    /// Whether a group admits everyone on every port.
    open: HashMap<GroupId, bool>,
}

impl Denials {
    /// Of pods that policies apply to, one of each group that does not admit everyone on every port.
    fn closed<'p>(&mut self, evaluation: &Evaluation, direction: Direction, pods: &[&'p Pod]) -> Vec<(GroupId, &'p Pod)> {
        let graph = &evaluation.graph;
        let group = |pod: &Pod| graph.pod(&pod.key.namespace, &pod.key.name).and_then(|pod| graph.group_of(pod));
        let groups: BTreeMap<GroupId, &Pod> = pods.iter().filter_map(|pod| Some((group(pod)?, *pod))).collect();
        let is_closed =
            |(group, _): &(GroupId, &Pod)| !*self.open.entry(*group).or_insert_with(|| is_open(evaluation, *group, direction));
        groups.into_iter().filter(is_closed).collect()
    }

    fn denies(
        &mut self,
        evaluation: &Evaluation,
        direction: Direction,
        (group, subject): &(GroupId, &Pod),
        (place, other): (usize, &Pod),
        asked: &PortSet,
    ) -> bool {
        let ask = || is_denied(evaluation, direction, [subject, other], asked);
        *self.known.entry((*group, place)).or_insert_with(ask)
    }
}

/// Whether a rule of a group admits everyone on every port.
fn is_open(evaluation: &Evaluation, group: GroupId, direction: Direction) -> bool {
    evaluation.graph.isolating(group, direction).into_iter().any(|policy| {
        let (namespace, name) = evaluation.graph.policy_name(policy);
        let policy = evaluation.snapshot.policies.get(&ObjectKey::new(namespace, name));
        let mut rules = policy.and_then(|policy| policy.rules(direction)).unwrap_or_default().iter();
        rules.any(|rule| rule.peers == Peers::Everyone && rule.ports == Ports::All)
    })
}

/// Whether the policies of a pod deny a part of what is asked between it and another pod, or a replica of its own.
fn is_denied(evaluation: &Evaluation, direction: Direction, [subject, other]: [&Pod; 2], asked: &PortSet) -> bool {
    let graph = &evaluation.graph;
    let end = |pod: &Pod| graph.endpoints_of(graph.pod(&pod.key.namespace, &pod.key.name)?).into_iter().next();
    let (Some(subject), Some(other)) = (end(subject), end(other)) else { return false };
    let other = other.in_family(subject.family());
    let ports = match direction {
        Direction::Egress => graph.ports_between(&subject, &other, false).0,
        Direction::Ingress => graph.ports_between(&other, &subject, false).1,
    };
    !asked.difference(&ports).is_empty()
}

fn blocks(rule: &Rule) -> impl Iterator<Item = &IpBlock> {
    let peers = match &rule.peers {
        Peers::Listed(peers) => peers.as_slice(),
        Peers::Everyone => &[],
    };
    peers.iter().filter_map(|peer| if let Peer::Block(block) = peer { Some(block) } else { None })
}

/// Whether a block is the whole family, and so matches pods whose addresses are not known (S2.22).
fn is_whole(block: &IpBlock) -> bool {
    block.cidr.prefix_len() == 0 && block.except.is_empty()
}

fn known(pod: &Pod) -> &[IpAddr] {
    match &pod.addresses {
        Addresses::Known(addresses) => addresses,
        Addresses::Unknown => &[],
    }
}

/// Whether a block of a rule matches a pod. One of IPv4 alone matches a pod whose address is not known.
fn matched(rule: &Rule, pod: &Pod) -> bool {
    blocks(rule).any(|block| match &pod.addresses {
        Addresses::Known(addresses) => {
            let set = block.addresses();
            addresses.iter().any(|address| set.contains(*address))
        }
        Addresses::Unknown => is_whole(block) && block.cidr.addr().is_ipv4(),
    })
}

impl Held {
    fn of(evaluation: &Evaluation, block: &IpBlock, others: &[&Pod]) -> Self {
        let set: AddressSet = block.addresses();
        let is_held = |address: &IpAddr| set.contains(*address);
        let has_known = others.iter().any(|pod| known(pod).iter().any(is_held));
        let has_pods = has_known || (is_whole(block) && others.iter().any(|pod| pod.addresses == Addresses::Unknown));
        // A block with pods is there for them, and one of the whole family for everything.
        let services =
            evaluation.snapshot.services.values().filter(|service| service.addresses().any(|address| is_held(&address)));
        let is_for_services = block.cidr.prefix_len() > 0 && !has_known;
        let services = services.filter(|_| is_for_services).map(|service| service.key.to_string()).collect();
        Self { has_pods, services }
    }
}

/// Services that lead from an asked port to another port of a listed pod.
fn mapped_ports(evaluation: &Evaluation, list: &Listing<'_>) -> Option<String> {
    if list.asked.is_all() {
        return None;
    }
    let pods = pods_of(evaluation, &list.destinations);
    let mut found = BTreeSet::new();
    for service in evaluation.snapshot.services.values() {
        let own = pods.get(service.key.namespace.as_str()).map(Vec::as_slice).unwrap_or_default();
        for port in &service.ports {
            let asked = PortSet::range(port.protocol, port.port, port.port).intersection(&list.asked);
            if asked.is_empty() {
                continue;
            }
            let target = |pod: &Pod| match &port.target {
                TargetPort::Number(number) => Some(*number),
                TargetPort::Name(name) => {
                    pod.ports.iter().find(|own| own.name == *name && own.protocol == port.protocol).map(|own| own.number)
                }
            };
            let targets = own.iter().filter(|pod| selects(service, pod)).filter_map(|pod| target(pod));
            let others: BTreeSet<u16> = targets.filter(|target| *target != port.port).collect();
            found.extend(others.iter().map(|other| format!("{} {} {} → {other}", service.key, port.protocol, port.port)));
        }
    }
    let found: Vec<String> = found.into_iter().collect();
    (!found.is_empty()).then(|| {
        format!("Services map asked ports to other ports of the pods, and policies are evaluated for those: {}", listed(&found))
    })
}

/// Services by whose node ports listed pods are reached from outside.
fn node_ports(evaluation: &Evaluation, list: &Listing<'_>) -> Option<String> {
    list.sources.iter().find(|end| end.addresses().is_some())?;
    let pods = pods_of(evaluation, &list.destinations);
    let is_in_front = |service: &&Service| {
        let own = pods.get(service.key.namespace.as_str());
        is_translated(service) && own.is_some_and(|own| own.iter().any(|pod| selects(service, pod)))
    };
    let services = evaluation.snapshot.services.values().filter(is_in_front);
    let names: Vec<String> = services.map(|service| service.key.to_string()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "connections from outside through node ports have the address of a node as their source, unless they enter at the pod's node \
             (externalTrafficPolicy Cluster): Service {}",
            listed(&names)
        )
    })
}

/// Workloads on the host network, whose traffic is that of their nodes.
fn host_network(evaluation: &Evaluation, list: &Listing<'_>) -> Option<String> {
    let model =
        |end: &End| -> Vec<&Pod> { end.pods(evaluation).iter().filter_map(|key| evaluation.snapshot.pods.get(key)).collect() };
    let of = |ends: &[End]| -> BTreeSet<String> {
        ends.iter().filter(|end| model(end).iter().any(|pod| pod.is_host_network)).map(End::name).collect()
    };
    let sources = of(&list.sources);
    let all: Vec<String> = sources.union(&of(&list.destinations)).cloned().collect();
    if all.is_empty() {
        return None;
    }
    let is_somewhere = list.ends().any(|end| model(end).iter().any(|pod| pod.placement == Placement::Somewhere));
    let more = if is_somewhere && !sources.is_empty() { "; a node can always reach its own pods" } else { "" };
    Some(format!("pods on the host network, whose traffic policies treat as that of their nodes: {}{more}", listed(&all)))
}
