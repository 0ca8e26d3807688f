//! Members of peer sets, verdicts and explanations agree about addresses with several claimants.

#![expect(clippy::unwrap_used, reason = "a failing check panics")]

use std::net::IpAddr;

use policy_core::compile::{Compiler, Options};
use policy_core::graph::{AllowGraph, Decision};
use policy_core::manifest::{Loader, Syntax};
use policy_core::model::Direction;
use policy_core::sets::{PortSet, Protocol, Transport};
use policy_core::verdict::Flow;

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: x, labels: {app: client}}
spec: {nodeName: n1}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x, labels: {app: a, tier: back}}
spec: {nodeName: n1, containers: [{name: c, ports: [{name: web, containerPort: 80}, {name: admin, containerPort: 81}]}]}
status: {podIP: 10.0.0.9}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: x, labels: {app: b, tier: back}}
spec: {nodeName: n1, containers: [{name: c, ports: [{name: web, containerPort: 80}, {name: admin, containerPort: 82}]}]}
status: {podIP: 10.0.0.9}
";

/// The pods above, with egress of the client to these peers and ports.
fn compile(to: &str, ports: &str) -> Compiler {
    let policy = format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: x}}\nspec:\n  \
         podSelector: {{matchLabels: {{app: client}}}}\n  policyTypes: [Egress]\n  egress: [{{to: {to}, ports: {ports}}}]\n"
    );
    let mut loader = Loader::new(Syntax::Strict);
    loader.read("test.yaml", format!("{PODS}{policy}").as_bytes());
    let snapshot = loader.finish();
    assert!(!snapshot.has_errors(), "{:?}", snapshot.diagnostics);
    let mut compiler = Compiler::new(Options::default());
    snapshot.changes().for_each(|change| compiler.apply(change));
    compiler.flush();
    compiler
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Whether the client reaches the shared address by this port, when verdict, ports and explanation agree.
fn is_allowed(graph: &AllowGraph, port: u16) -> bool {
    let protocol = Protocol::Port(Transport::Tcp, port);
    let flow = Flow { source: ip("10.0.0.1"), destination: ip("10.0.0.9"), protocol };
    let (from, to) = (graph.endpoint(flow.source), graph.endpoint(flow.destination));
    let is_allowed = graph.verdict(&flow).is_allowed();
    assert_eq!(graph.ports_between(&from, &to, false).0.contains(protocol), is_allowed);
    let [egress, _] = graph.explain(&from, &to, false, &PortSet::of(protocol), ["client", "shared"]);
    assert_eq!(!egress.allows.is_empty(), is_allowed);
    assert_eq!(egress.rules.iter().any(|rule| !rule.allows.is_empty()), is_allowed, "{:?}", egress.rules);
    is_allowed
}

fn decision(graph: &AllowGraph) -> Decision {
    let group = graph.pod("x", "client").and_then(|pod| graph.group_of(pod)).unwrap();
    graph.decision(group, Direction::Egress).unwrap().clone()
}

/// S2.5: a selector matches a shared address only if it matches every claimant.
#[test]
fn a_shared_address_is_a_member_only_through_a_selector_that_matches_every_claimant() {
    let selector = |labels: &str| format!("{{podSelector: {{matchLabels: {{{labels}}}}}}}");
    let (one, other, both) = (selector("app: a"), selector("app: b"), selector("tier: back"));
    for (to, is_member) in [
        (format!("[{one}]"), false),
        (format!("[{one}, {other}]"), false),
        (format!("[{both}]"), true),
        (format!("[{one}, {both}]"), true),
        ("[{ipBlock: {cidr: 10.0.0.9/32}}]".to_owned(), true),
        ("[{ipBlock: {cidr: 10.0.0.0/24, except: [10.0.0.8/31]}}]".to_owned(), false),
    ] {
        let compiler = compile(&to, "[{port: 80}]");
        let graph = compiler.graph();
        assert_eq!(is_allowed(graph, 80), is_member, "{to}");
        let Decision::Isolated { atoms, .. } = decision(graph) else { panic!("{to}") };
        let [atom] = &*atoms else { panic!("{to}: {atoms:?}") };
        let is_selected = graph.members(atom.peers).contains(&ip("10.0.0.9"));
        let is_in_block = graph.blocks(atom.peers).contains(ip("10.0.0.9"));
        assert_eq!(is_selected || is_in_block, is_member, "{to}");
        assert_eq!(graph.peer_sets_at(ip("10.0.0.9")).contains(&atom.peers), is_selected, "{to}");
    }
}

/// S1.54, S2.5: a name means only the numbers that every claimant gives it.
#[test]
fn a_port_name_at_a_shared_address_means_what_every_claimant_gives_it() {
    let to = "[{podSelector: {matchLabels: {tier: back}}}]";
    for (name, numbers) in [("web", vec![80]), ("admin", vec![]), ("nobody", vec![])] {
        let compiler = compile(to, &format!("[{{port: {name}}}]"));
        let graph = compiler.graph();
        let allowed: Vec<u16> = (79..=83).filter(|port| is_allowed(graph, *port)).collect();
        assert_eq!(allowed, numbers, "{name}");
        let Decision::Isolated { named, .. } = decision(graph) else { panic!("{name}") };
        let [atom] = &*named else { panic!("{name}: {named:?}") };
        let expected: Vec<(IpAddr, u16)> = numbers.iter().map(|number| (ip("10.0.0.9"), *number)).collect();
        assert_eq!(graph.named_members(atom), expected, "{name}");
        let at: Vec<u16> = graph.named_ports_at(ip("10.0.0.9")).into_iter().map(|(_, number)| number).collect();
        assert_eq!(at, numbers, "{name}");
    }
}
