//! Services: policies see the pods behind them, and not their addresses and ports (S5.1).

use policy_core::model::{Addresses, Direction, Peer, Peers, Pod, Service, ServiceType, TargetPort};
use policy_core::sets::{AddressSet, PortSet};
use policy_core::verdict::Reason;

use crate::output::names::listed;
use crate::questions::connections::Connection;
use crate::questions::ends::End;
use crate::questions::evaluation::Evaluation;

/// What Services of the input could change about an answer.
pub(super) fn caveats(evaluation: &Evaluation, ends: [&End; 2], shown: &Connection, asked: &PortSet) -> Vec<Reason> {
    let mut out = Vec::new();
    out.extend(address_of_services(evaluation, ends[1], asked).or_else(|| maybe_a_node(evaluation, ends[1], shown, asked)));
    out.extend(blocks_of_services(evaluation, shown, ends[1]));
    if let Some(pod) = evaluation.pod_of(&shown.destination) {
        out.extend(mapped_ports(evaluation, pod, asked));
        if shown.source.is_external() {
            out.extend(node_ports(evaluation, pod));
        }
    }
    out
}

/// A destination that is, or holds, an address of a Service.
pub(super) fn address_of_services(evaluation: &Evaluation, to: &End, asked: &PortSet) -> Option<Reason> {
    let services = || evaluation.snapshot.services.values();
    let found: Vec<String> = match to {
        End::Address(_) | End::Block(_) => {
            let addresses = to.addresses()?;
            let held = |service: &&Service| service.addresses().any(|address| addresses.contains(address));
            let node_ports = services().filter(|service| has_node_port(service, asked));
            let of_nodes = evaluation.snapshot.nodes.values().flat_map(|node| &node.addresses);
            // Dumps of pods say where nodes are, too.
            let is_at_node = |end: &End| matches!(end, End::Address(address) if !evaluation.graph.nodes_at(*address).is_empty());
            let is_node = is_at_node(to) || of_nodes.into_iter().any(|address| addresses.contains(*address));
            let by_node_port = node_ports.filter(|_| is_node).map(|service| format!("a NodePort of Service {}", service.key));
            let by_address = services().filter(held).map(|service| described(service, &addresses));
            by_address.chain(by_node_port).collect()
        }
        End::Node(_) => {
            let node_ports = services().filter(|service| has_node_port(service, asked) && !asked.is_all());
            node_ports.map(|service| format!("a NodePort of Service {}", service.key)).collect()
        }
        End::Workload { .. } | End::Pod(_) | End::External => return None,
    };
    if found.is_empty() {
        return None;
    }
    let verb = if matches!(to, End::Block(_)) { "contains" } else { "is" };
    let text = format!(
        "{} {verb} {}: policies are evaluated for the pods behind the Service and their ports, so ask for those pods",
        to.name(),
        listed(&found)
    );
    Some(Reason::with_section(text, "S5.1"))
}

/// A destination that the input does not know, and whose port is that of Services on every node.
fn maybe_a_node(evaluation: &Evaluation, to: &End, shown: &Connection, asked: &PortSet) -> Option<Reason> {
    let End::Address(address) = to else { return None };
    if !shown.destination.is_external() || asked.is_all() {
        return None;
    }
    let services = evaluation.snapshot.services.values().filter(|service| has_node_port(service, asked));
    let names: Vec<String> = services.map(|service| service.key.to_string()).collect();
    let text = format!(
        "if {address} is a node, the port is a NodePort of Service {}: policies are evaluated for the pods behind the Service and their \
         ports, so ask for those pods",
        listed(&names)
    );
    (!names.is_empty()).then(|| Reason::with_section(text, "S5.1"))
}

fn has_node_port(service: &Service, asked: &PortSet) -> bool {
    let is_asked = |port: u16, transport| !PortSet::range(transport, port, port).intersection(asked).is_empty();
    service.ports.iter().any(|port| port.node_port.is_some_and(|number| is_asked(number, port.protocol)))
}

fn described(service: &Service, addresses: &AddressSet) -> String {
    let is_held = |list: &[std::net::IpAddr]| list.iter().find(|address| addresses.contains(**address)).copied();
    let of = |what: &str, address: std::net::IpAddr| {
        // The address is in the sentence already, unless a block was asked about.
        let shown = if AddressSet::single(address) == *addresses { String::new() } else { format!(" {address}") };
        format!("the {what}{shown} of Service {}", service.key)
    };
    if let Some(address) = is_held(&service.cluster_ips) {
        return of("cluster IP", address);
    }
    match is_held(&service.external_ips) {
        Some(address) => of("external IP", address),
        None => is_held(&service.load_balancer_ips)
            .map_or_else(|| format!("an address of Service {}", service.key), |address| of("load balancer IP", address)),
    }
}

/// Blocks in the rules of both sides that name addresses of Services, and no pod: they have no effect on connections to the Service.
fn blocks_of_services(evaluation: &Evaluation, shown: &Connection, to: &End) -> Vec<Reason> {
    let mut out = Vec::new();
    let destination = evaluation.pod_of(&shown.destination);
    let asked = to.addresses();
    let is_relevant = |service: &&Service| match (destination, &asked) {
        (Some(pod), _) => selects(service, pod),
        // A pod that is asked for an address of its node or of the world outside may mean a Service whose endpoints are there.
        (None, Some(asked)) => service.selector.is_empty() || service.addresses().any(|address| asked.contains(address)),
        (None, None) => true,
    };
    let snapshot = &evaluation.snapshot;
    let pods = || {
        snapshot.pods.values().flat_map(|pod| match &pod.addresses {
            Addresses::Known(addresses) => addresses.as_slice(),
            Addresses::Unknown => &[],
        })
    };
    let Some(subject) = evaluation.pod_of(&shown.source) else { return out };
    let own = snapshot.policies.values().filter(|policy| policy.key.namespace == subject.key.namespace);
    for policy in own.filter(|policy| policy.target.matches(&subject.labels)) {
        for (index, rule) in policy.rules(Direction::Egress).unwrap_or_default().iter().enumerate() {
            let Peers::Listed(peers) = &rule.peers else { continue };
            for block in peers.iter().filter_map(|peer| if let Peer::Block(block) = peer { Some(block) } else { None }) {
                let addresses = block.addresses();
                let held: Vec<String> = snapshot
                    .services
                    .values()
                    .filter(|service| is_relevant(service) && service.addresses().any(|address| addresses.contains(address)))
                    .map(|service| service.key.to_string())
                    .collect();
                if block.cidr.prefix_len() == 0 || held.is_empty() || pods().any(|address| addresses.contains(*address)) {
                    continue;
                }
                let text = format!(
                    "the ipBlock {block} of {} egress[{index}] contains virtual addresses (Service {}): it has no effect on connections to the \
                     Service, because policies are evaluated for the pods behind it",
                    policy.key,
                    listed(&held)
                );
                out.push(Reason::with_section(text, "S5.1"));
            }
        }
    }
    out
}

/// Ports of Services in front of the destination that lead to other ports of the pod.
fn mapped_ports(evaluation: &Evaluation, pod: &Pod, asked: &PortSet) -> Vec<Reason> {
    if asked.is_all() {
        return Vec::new();
    }
    let mut out = Vec::new();
    for service in in_front_of(evaluation, pod) {
        for port in &service.ports {
            let is_asked = !PortSet::range(port.protocol, port.port, port.port).intersection(asked).is_empty();
            let target = match &port.target {
                TargetPort::Number(number) => Some(*number),
                TargetPort::Name(name) => {
                    pod.ports.iter().find(|own| own.name == *name && own.protocol == port.protocol).map(|own| own.number)
                }
            };
            let Some(target) = target.filter(|target| is_asked && *target != port.port) else { continue };
            let text = format!(
                "Service {} maps its port {} {} to port {target} of the pod: for connections through the Service, ask for port {target}",
                service.key, port.protocol, port.port
            );
            out.push(Reason::with_section(text, "S5.1"));
        }
    }
    out
}

/// Services by whose node ports the destination is reached from outside: the source may be a node's address then.
fn node_ports(evaluation: &Evaluation, pod: &Pod) -> Option<Reason> {
    let found: Vec<String> =
        in_front_of(evaluation, pod).filter(|service| is_translated(service)).map(|service| service.key.to_string()).collect();
    if found.is_empty() {
        return None;
    }
    let text = format!(
        "connections from outside through the node ports of Service {} (externalTrafficPolicy Cluster) have the address of a node as \
         their source, unless they enter at the pod's node",
        listed(&found)
    );
    Some(Reason::with_section(text, "S5.12"))
}

/// Whether connections through the node ports of a Service have another source than the client.
pub(super) fn is_translated(service: &Service) -> bool {
    matches!(service.kind, ServiceType::NodePort | ServiceType::LoadBalancer) && !service.keeps_source
}

/// The Services that select a pod.
fn in_front_of<'e>(evaluation: &'e Evaluation, pod: &'e Pod) -> impl Iterator<Item = &'e Service> {
    evaluation.snapshot.services.values().filter(|service| selects(service, pod))
}

/// Whether a pod is behind a Service.
pub(super) fn selects(service: &Service, pod: &Pod) -> bool {
    let has = |(key, value): (&String, &String)| pod.labels.get(key) == Some(value);
    service.key.namespace == pod.key.namespace && !service.selector.is_empty() && service.selector.iter().all(has)
}
