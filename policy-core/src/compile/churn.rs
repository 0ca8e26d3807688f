//! Tests that what came and went leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::budget::Limits;
use super::{Compiler, GraphDelta, Indexes, Options};
use crate::graph::{
    AllowGraph, Group, IdSet, NamedState, NamespaceRecord, NodeRecord, PeerSetContent, PeerSetState, ScopeState, Template,
    TermState,
};
use crate::model::{
    Addresses, Change, Direction, IpBlock, NamedPort, Namespace, NamespaceScope, Node, ObjectKey, Operator, Peer, Peers, Phase,
    Placement, Pod, Policy, PortEntry, Ports, Quarantine, Requirement, Rule, Selector,
};
use crate::plan::GroupPlan;
use crate::sets::Transport;

/// The sizes of everything that a compiler holds. Taking each value apart by name makes a new collection an error here.
#[expect(clippy::disallowed_methods, reason = "a sum has no order")]
fn sizes(compiler: &Compiler) -> BTreeMap<&'static str, Vec<usize>> {
    let Compiler {
        graph,
        indexes,
        nobody: _,
        everyone: _,
        dirty,
        budget,
        touched,
        live_peer_sets,
        maybe_changed_sets,
        maybe_changed_named,
        unasked,
        unknown,
        delta,
    } = compiler;
    assert_eq!(*delta, GraphDelta::default(), "sizes are taken after a flush");
    let Indexes { terms, scopes, other_scopes, groups, namespaces, templates } = indexes;
    let mut out = BTreeMap::from([
        ("dirty groups", vec![dirty.len()]),
        ("large sides", budget.sizes().to_vec()),
        ("touched addresses", vec![touched.len()]),
        ("live peer sets", vec![*live_peer_sets]),
        ("peer sets that may have changed", vec![maybe_changed_sets.len()]),
        ("named ports that may have changed", vec![maybe_changed_named.len()]),
        ("keys that may be forgotten", vec![unasked.len()]),
        ("pods that could not be read", vec![unknown.len()]),
        ("index of templates", vec![templates.len(), templates.values().map(IdSet::len).sum()]),
        ("index of terms", vec![terms.len(), terms.values().map(|list| list.len()).sum()]),
        ("index of scopes", vec![scopes.len(), scopes.values().map(|list| list.len()).sum(), other_scopes.len()]),
        ("index of groups", groups.sizes().to_vec()),
        ("index of namespaces", namespaces.sizes().to_vec()),
    ]);
    out.extend(graph_sizes(graph));
    out
}

fn graph_sizes(graph: &AllowGraph) -> BTreeMap<&'static str, Vec<usize>> {
    let AllowGraph {
        strings,
        labels,
        ports,
        selectors,
        scopes,
        terms,
        peer_sets,
        decisions,
        named,
        namespaces,
        nodes,
        pods,
        pod_names,
        templates,
        groups,
        policies,
        policy_names,
        addresses,
        own_node_egress: _,
        only_node: _,
        quarantine,
        too_large,
    } = graph;
    let mut out = BTreeMap::from([
        ("strings", strings.sizes()[..2].to_vec()),
        ("labels", labels.sizes()[..2].to_vec()),
        ("ports", ports.sizes()[..2].to_vec()),
        ("selectors", selectors.sizes()[..2].to_vec()),
        ("scopes", scopes.sizes()[..2].to_vec()),
        ("terms", terms.sizes()[..2].to_vec()),
        ("peer sets", peer_sets.sizes()[..2].to_vec()),
        ("decisions", decisions.sizes()[..2].to_vec()),
        ("namespaces", namespaces.sizes()[..2].to_vec()),
        ("nodes", nodes.sizes()[..2].to_vec()),
        ("templates", templates.sizes()[..2].to_vec()),
        ("groups", groups.sizes()[..2].to_vec()),
        ("pods", vec![pods.len(), pod_names.len()]),
        ("policies", vec![policies.len(), policy_names.len()]),
        ("addresses", addresses.sizes().to_vec()),
        ("sides that are too large", vec![too_large.len()]),
        ("quarantine", vec![quarantine.len(), quarantine.values().map(Vec::len).sum()]),
    ]);
    let mut add = |what, values: Vec<usize>| {
        let sums = out.entry(what).or_insert_with(|| vec![0; values.len()]);
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    };
    for (_, _, record) in namespaces.iter() {
        let NamespaceRecord { is_declared, labels: _, groups, asked, terms, scopes } = record;
        let (keys, targets) = (asked.keys().count(), asked.targets().count());
        add("in namespaces", vec![usize::from(*is_declared), groups.len(), keys, targets, terms.len(), scopes.len()]);
    }
    for (_, _, record) in nodes.iter() {
        let NodeRecord { is_declared, addresses } = record;
        add("in nodes", vec![usize::from(*is_declared), addresses.len()]);
    }
    for (_, _, record) in scopes.iter() {
        let ScopeState { namespaces, asked, terms, rest } = record;
        let keys = asked.keys().count();
        add("in scopes", vec![usize::try_from(namespaces.len()).expect("small"), keys, terms.len(), rest.len()]);
    }
    for (id, _, record) in terms.iter() {
        add("uses of terms", vec![terms.uses(id) as usize]);
        let TermState { groups, pods, policies, peer_sets } = record;
        add("in terms", vec![groups.len(), *pods as usize, policies.len(), peer_sets.len()]);
    }
    for (_, content, state) in peer_sets.iter() {
        let (PeerSetContent { terms, blocks: _ }, PeerSetState { decisions, was_live }) = (content, state);
        add("in peer sets", vec![terms.len(), *decisions as usize, usize::from(*was_live)]);
    }
    for state in named.values() {
        let NamedState { decisions, was_live } = state;
        add("named ports", vec![1, *decisions as usize, usize::from(*was_live)]);
    }
    for (_, _, group) in groups.iter() {
        let Group { templates, position: _, in_scope, terms, decisions } = group;
        let decisions = decisions.iter().flatten().count();
        add("in groups", vec![templates.len(), *in_scope as usize, terms.len(), decisions]);
    }
    for (_, _, template) in templates.iter() {
        let Template { group: _, position: _, in_scope, pods } = template;
        add("in templates", vec![*in_scope as usize, pods.len()]);
    }
    out
}

/// How many values there is memory for, of each kind.
fn rooms(compiler: &Compiler) -> BTreeMap<&'static str, usize> {
    let graph = &compiler.graph;
    BTreeMap::from([
        ("strings", graph.strings.sizes()[2]),
        ("labels", graph.labels.sizes()[2]),
        ("ports", graph.ports.sizes()[2]),
        ("selectors", graph.selectors.sizes()[2]),
        ("scopes", graph.scopes.sizes()[2]),
        ("terms", graph.terms.sizes()[2]),
        ("peer sets", graph.peer_sets.sizes()[2]),
        ("decisions", graph.decisions.sizes()[2]),
        ("namespaces", graph.namespaces.sizes()[2]),
        ("nodes", graph.nodes.sizes()[2]),
        ("templates", graph.templates.sizes()[2]),
        ("groups", graph.groups.sizes()[2]),
        ("index of templates", compiler.indexes.templates.capacity()),
        ("pods", graph.pods.capacity().max(graph.pod_names.capacity())),
        ("policies", graph.policies.capacity().max(graph.policy_names.capacity())),
        ("addresses", graph.addresses.room()),
        ("members of groups", graph.groups.iter().map(|(.., group)| group.templates.capacity()).max().unwrap_or_default()),
        ("members of templates", graph.templates.iter().map(|(.., t)| t.pods.capacity()).max().unwrap_or_default()),
        ("dirty groups", compiler.dirty.capacity()),
        ("touched addresses", compiler.touched.capacity()),
        ("index of terms", compiler.indexes.terms.capacity()),
        ("index of scopes", compiler.indexes.scopes.capacity()),
    ])
}

const KEYS: [&str; 5] = ["app", "tier", "job-name", "pod-template-hash", "team"];

fn text(kind: &str, n: usize) -> String {
    format!("{kind}-{n}")
}

/// A selector, one of many shapes.
fn selector(variant: usize) -> Selector {
    let values = |n: usize| BTreeSet::from([text("v", n % 3), text("v", (n / 2) % 5)]);
    let operator = match variant % 5 {
        0 => return Selector::everything(),
        1 => Operator::In([text("v", variant % 4)].into()),
        2 => Operator::In(values(variant)),
        3 => Operator::NotIn(values(variant)),
        _ if variant.is_multiple_of(2) => Operator::Exists,
        _ => Operator::DoesNotExist,
    };
    let first = Requirement { key: KEYS[variant / 5 % KEYS.len()].to_owned(), operator };
    let never = Requirement { key: "app".to_owned(), operator: Operator::In(BTreeSet::new()) };
    Selector::new([first].into_iter().chain((variant % 17 == 16).then_some(never)))
}

fn namespaces(variant: usize) -> NamespaceScope {
    match variant % 4 {
        0 => NamespaceScope::Own,
        1 => NamespaceScope::Matching(Selector::everything()),
        2 => NamespaceScope::Matching(selector(variant / 4)),
        _ => NamespaceScope::Matching(Selector::new([Requirement {
            key: "kubernetes.io/metadata.name".to_owned(),
            operator: Operator::In([text("ns", variant / 4 % 7)].into()),
        }])),
    }
}

fn labels(variant: usize) -> crate::model::Labels {
    let own = KEYS.iter().enumerate().filter(|(i, _)| variant >> i & 1 == 1);
    own.map(|(i, key)| ((*key).to_owned(), text("v", (variant / (i + 2)) % 6))).collect()
}

fn pod(which: usize, variant: usize) -> Pod {
    let mut labels = labels(variant);
    labels.insert("unique".to_owned(), text("u", which * 1000 + variant));
    let name = |n: usize| ["http", "metrics", "dns"][n % 3].to_owned();
    let port =
        |n: usize| NamedPort { name: name(n), protocol: Transport::Tcp, number: 80 + u16::try_from(n % 2).expect("small") };
    Pod {
        uid: None,
        key: ObjectKey::new(text("ns", which % 5), text("pod", which)),
        labels,
        placement: if variant.is_multiple_of(11) { Placement::Unscheduled } else { Placement::Node(text("node", variant % 4)) },
        phase: if variant.is_multiple_of(13) { Phase::Finished } else { Phase::Live },
        is_host_network: variant.is_multiple_of(7),
        // Some addresses have several claimants.
        addresses: Addresses::Known((0..variant % 3).map(|i| address(which % 6 + i * 6)).collect()),
        ports: (0..variant % 3).map(|n| port(n + variant)).collect::<BTreeSet<_>>().into_iter().collect(),
        sidecar_ports: Vec::new(),
        owner: None,
        is_unknown: variant.is_multiple_of(17),
    }
}

fn address(n: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(n).expect("small")))
}

fn rule(variant: usize) -> Rule {
    let block =
        Peer::Block(IpBlock { cidr: format!("10.0.0.{}/30", variant % 8 * 4).parse().expect("a block"), except: Vec::new() });
    let pods = |n: usize| Peer::Pods { namespaces: namespaces(n), pods: selector(n / 3) };
    let peers = match variant % 4 {
        0 => Peers::Everyone,
        1 => Peers::Listed(vec![pods(variant / 4)]),
        2 => Peers::Listed(vec![pods(variant / 4), pods(variant / 2), block]),
        _ => Peers::Listed(vec![block, Peer::Unreadable]),
    };
    let range = |n: u16| PortEntry::Range { protocol: Transport::Tcp, low: n, high: n + 5 };
    let named = |name: &str| PortEntry::Named { protocol: Transport::Tcp, name: name.to_owned() };
    let ports = match variant % 5 {
        0 => Ports::All,
        1 => Ports::Listed(vec![range(80), range(83)]),
        2 => Ports::Listed(vec![named("http"), named("http"), named("only-a-policy-has-it")]),
        3 => Ports::Listed(vec![named("metrics"), range(400)]),
        _ => Ports::Listed(vec![range(u16::try_from(variant % 100).expect("small") + 1), PortEntry::Unreadable]),
    };
    Rule { line: 1, peers, ports }
}

fn policy(which: usize, variant: usize) -> Policy {
    let rules = |n: usize| (n % 3 != 2).then(|| (0..n % 4).map(|i| rule(variant / 2 + i * 7)).collect());
    Policy {
        key: ObjectKey::new(text("ns", which % 6), text("policy", which)),
        origin: None,
        target: selector(variant),
        ingress: rules(variant),
        egress: rules(variant / 3),
    }
}

/// An object of each kind comes, is replaced, or goes.
fn change((kind, which, variant, is_there): (usize, usize, usize, bool)) -> Change {
    match (kind % 8, is_there) {
        (0, true) => Change::Namespace(Namespace { name: text("ns", which % 7), labels: labels(variant) }),
        (0, false) => Change::NamespaceRemoved(text("ns", which % 7)),
        (1, true) => Change::Node(Node {
            name: text("node", which % 5),
            addresses: (0..variant % 3).map(|i| address(which + i)).collect(),
        }),
        (1, false) => Change::NodeRemoved(text("node", which % 5)),
        (2, true) => {
            Change::Quarantine(Quarantine { holder: text("holder", which), addresses: vec![address(which); variant % 3] })
        }
        (2, false) => Change::QuarantineRemoved(text("holder", which)),
        (3..=5, true) => Change::Pod(pod(which, variant)),
        (3..=5, false) => Change::PodRemoved(pod(which, variant).key),
        (_, true) => Change::Policy(policy(which, variant)),
        (_, false) => Change::PolicyRemoved(policy(which, variant).key),
    }
}

/// What a change is about, and the change that takes it back.
fn inverse(change: &Change) -> (String, Change) {
    match change {
        Change::Namespace(Namespace { name, .. }) | Change::NamespaceRemoved(name) => {
            (format!("namespace {name}"), Change::NamespaceRemoved(name.clone()))
        }
        Change::Node(Node { name, .. }) | Change::NodeRemoved(name) => {
            (format!("node {name}"), Change::NodeRemoved(name.clone()))
        }
        Change::Pod(Pod { key, .. }) | Change::PodRemoved(key) => (format!("pod {key}"), Change::PodRemoved(key.clone())),
        Change::Policy(Policy { key, .. }) | Change::PolicyRemoved(key) => {
            (format!("policy {key}"), Change::PolicyRemoved(key.clone()))
        }
        Change::Quarantine(Quarantine { holder, .. }) | Change::QuarantineRemoved(holder) => {
            (format!("quarantine {holder}"), Change::QuarantineRemoved(holder.clone()))
        }
    }
}

/// A compiler and what a reader of its deltas takes the node's plan to be.
struct Subject {
    compiler: Compiler,
    plan: String,
}

impl Subject {
    /// With limits that are `tight`, sides of a few rules are too much for a node.
    fn new(options: Options, is_tight: bool) -> Self {
        let mut compiler = Compiler::new(options);
        if is_tight {
            compiler.budget.limits = Limits { most: 30, small: 2, few_peers: 1, few_pods: 1 };
        }
        Self { plan: plan(compiler.graph()), compiler }
    }

    fn flush(&mut self) {
        if self.compiler.flush().is_structural {
            self.plan = plan(self.compiler.graph());
        }
    }

    fn apply(&mut self, changes: impl IntoIterator<Item = Change>, mut is_flushed: impl FnMut() -> bool) {
        for change in changes {
            self.compiler.apply(change);
            if is_flushed() {
                self.flush();
            }
        }
        self.flush();
    }

    /// All that must not depend on how it came to be.
    fn state(&self) -> (BTreeMap<&'static str, Vec<usize>>, String, &str) {
        (sizes(&self.compiler), self.compiler.graph().canonical(), &self.plan)
    }
}

/// A node plan as text without ids.
fn plan(graph: &AllowGraph) -> String {
    let plan = graph.node_plan();
    let mut out = format!("{:?}\n{:?}\n{:?}\n", plan.addresses, plan.self_pairs, plan.quarantined);
    for group in &plan.groups {
        let GroupPlan { namespace, labels, ports, pods, families, sides } = group;
        let _ = writeln!(out, "{namespace} {labels:?} {ports:?} {pods:?} {families:?}");
        for side in sides.iter().flatten() {
            let peers = |set| plan.peers[&set].to_string();
            let atoms = side.atoms.iter().map(|a| format!("{}/{}-{} {}", a.transport, a.low, a.high, peers(a.peers)));
            let named = side.named.iter().map(|n| format!("{} {}", plan.named[n].name, plan.named[n].peers));
            let (atoms, named): (Vec<String>, Vec<String>) = (atoms.collect(), named.collect());
            let _ = writeln!(out, "  {:?} {} {atoms:?} {named:?}", side.policies, peers(side.any));
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everything_that_came_and_went_is_forgotten(
        base in prop::collection::vec((0usize..8, 0usize..8, 0usize..1000), 0..20),
        guests in prop::collection::vec((0usize..8, 0usize..30, 0usize..1000, prop::bool::weighted(0.8)), 1..80),
        order in any::<prop::sample::Index>(),
        flushes in prop::collection::vec(prop::bool::weighted(0.3), 7),
        is_for_a_node in any::<bool>(),
        is_tight in any::<bool>(),
    ) {
        let options = || Options { node: is_for_a_node.then(|| text("node", 1)), ..Options::default() };
        let mut flush = flushes.iter().cycle();
        let mut is_flushed = || flush.next() == Some(&true);
        let base: Vec<Change> = base.into_iter().map(|(kind, which, variant)| change((kind, which, variant, true))).collect();
        let mut subject = Subject::new(options(), is_tight);
        subject.apply(base.clone(), &mut is_flushed);

        // Others come, are replaced and go: what is left is as from scratch.
        let mut there: BTreeMap<String, Change> = base.iter().map(|change| (inverse(change).0, change.clone())).collect();
        let home = there.clone();
        let guests: Vec<Change> = guests.into_iter().map(change).collect();
        for guest in &guests {
            let (key, removal) = inverse(guest);
            if *guest == removal { there.remove(&key) } else { there.insert(key, guest.clone()) };
        }
        subject.apply(guests, &mut is_flushed);
        let scratch = |objects: &BTreeMap<String, Change>| {
            let mut subject = Subject::new(options(), is_tight);
            subject.apply(objects.values().rev().cloned(), || false);
            subject
        };
        let expected = scratch(&there);
        prop_assert_eq!(subject.state(), expected.state());

        // All of them go, in any order: everything is as before.
        let guests = there.values().filter(|change| !home.values().any(|own| own == *change));
        let mut gone: Vec<Change> = guests.map(|change| inverse(change).1).collect();
        let middle = order.index(gone.len() + 1).min(gone.len());
        gone.rotate_left(middle);
        subject.apply(gone, &mut is_flushed);
        subject.apply(home.values().cloned(), &mut is_flushed);
        let expected = scratch(&home);
        prop_assert_eq!(subject.state(), expected.state());

        // And when everything is gone, nothing is left.
        subject.apply(home.values().map(|change| inverse(change).1), &mut is_flushed);
        prop_assert_eq!(sizes(&subject.compiler), sizes(&Compiler::new(options())));
    }
}

fn job(i: usize) -> Pod {
    Pod {
        labels: [("app", text("v", i % 3)), ("job-name", text("job", i)), ("controller-uid", text("uid", i))]
            .map(|(key, value)| (key.to_owned(), value))
            .into(),
        key: ObjectKey::new(text("ns", i % 50), text("job", i)),
        placement: Placement::Node(text("node", i % 500)),
        phase: Phase::Live,
        is_host_network: false,
        addresses: Addresses::Known(vec![address(i)]),
        ..pod(1, 1)
    }
}

/// A crowd of every kind comes at once and goes at once.
#[test]
fn what_was_large_becomes_small_again() {
    let crowd = 20_000;
    let all = |i: usize| {
        [
            Change::Namespace(Namespace { name: text("crowd", i), labels: [("team".to_owned(), text("team", i))].into() }),
            Change::Node(Node { name: text("crowd", i), addresses: vec![address(1 << 20 | i)] }),
            Change::Pod(job(i)),
            Change::Policy(Policy {
                key: ObjectKey::new(text("ns", i % 50), text("crowd", i)),
                origin: None,
                target: Selector::new([Requirement {
                    key: "job-name".to_owned(),
                    operator: Operator::In([text("job", i)].into()),
                }]),
                ingress: Some(vec![Rule {
                    line: 1,
                    peers: Peers::Listed(vec![Peer::Pods {
                        namespaces: NamespaceScope::Matching(Selector::new([Requirement {
                            key: "team".to_owned(),
                            operator: Operator::In([text("team", i)].into()),
                        }])),
                        pods: Selector::new([Requirement {
                            key: "app".to_owned(),
                            operator: Operator::In([text("app", i)].into()),
                        }]),
                    }]),
                    ports: Ports::All,
                }]),
                egress: None,
            }),
        ]
    };
    let mut subject = Subject::new(Options::default(), false);
    subject.apply((0..40).map(|i| Change::Pod(pod(i, i * 3))), || false);
    let before = (sizes(&subject.compiler), subject.compiler.graph().canonical());
    subject.apply((0..crowd).flat_map(all), || false);
    assert!(sizes(&subject.compiler)["decisions"][0] > crowd && rooms(&subject.compiler)["strings"] > crowd);
    subject.apply((0..crowd).flat_map(all).map(|change| inverse(&change).1), || false);
    assert_eq!((sizes(&subject.compiler), subject.compiler.graph().canonical()), before);
    for (what, room) in rooms(&subject.compiler) {
        assert!(room <= 1024, "room for {room} {what}");
    }
}

/// A namespace and a node are there as long as something refers to them.
#[test]
fn namespaces_and_nodes_are_counted_by_what_refers_to_them() {
    let mut compiler = Compiler::new(Options::default());
    let counts = |compiler: &mut Compiler, change: Change| {
        compiler.apply(change);
        compiler.flush();
        (compiler.graph().counts().namespaces, compiler.graph().nodes.len())
    };
    let guest = Pod { key: ObjectKey::new("crowd", "a"), placement: Placement::Node("n".to_owned()), ..job(1) };
    let named = Selector::new([Requirement {
        key: "kubernetes.io/metadata.name".to_owned(),
        operator: Operator::In(["other".to_owned()].into()),
    }]);
    let peer = Peer::Pods { namespaces: NamespaceScope::Matching(named), pods: Selector::everything() };
    let rule = Rule { line: 1, peers: Peers::Listed(vec![peer]), ports: Ports::All };
    let policy = Policy {
        key: ObjectKey::new("crowd", "p"),
        origin: None,
        target: Selector::everything(),
        ingress: Some(vec![rule]),
        egress: None,
    };
    let crowd = || Namespace { name: "crowd".to_owned(), labels: labels(3) };
    let node = || Node { name: "n".to_owned(), addresses: vec![address(9)] };
    assert_eq!(counts(&mut compiler, Change::NamespaceRemoved("never".to_owned())), (0, 0));
    assert_eq!(counts(&mut compiler, Change::NodeRemoved("never".to_owned())), (0, 0));
    assert_eq!(counts(&mut compiler, Change::Namespace(crowd())), (1, 0));
    assert_eq!(counts(&mut compiler, Change::Namespace(crowd())), (1, 0));
    assert_eq!(counts(&mut compiler, Change::Node(node())), (1, 1));
    assert_eq!(counts(&mut compiler, Change::Pod(guest.clone())), (1, 1));
    assert_eq!(counts(&mut compiler, Change::Policy(policy.clone())), (2, 1));
    assert_eq!(counts(&mut compiler, Change::NamespaceRemoved("crowd".to_owned())), (2, 1));
    assert_eq!(counts(&mut compiler, Change::NamespaceRemoved("crowd".to_owned())), (2, 1));
    assert_eq!(counts(&mut compiler, Change::NodeRemoved("n".to_owned())), (2, 1));
    assert_eq!(counts(&mut compiler, Change::NodeRemoved("n".to_owned())), (2, 1));
    assert_eq!(counts(&mut compiler, Change::PodRemoved(guest.key)), (2, 0));
    assert_eq!(counts(&mut compiler, Change::PolicyRemoved(policy.key)), (0, 0));
}

/// Jobs of one namespace on one node, each with labels of its own, and a policy for all pods of the namespace.
fn jobs(count: usize) -> Subject {
    let mut subject = Subject::new(Options { node: Some("n".to_owned()), ..Options::default() }, false);
    let mine =
        |i: usize| Pod { key: ObjectKey::new("batch", text("job", i)), placement: Placement::Node("n".to_owned()), ..job(i) };
    let changes = (0..count).map(|i| Change::Pod(mine(i)));
    subject.apply(changes.chain([Change::Policy(isolate("batch", "all", Selector::everything(), Vec::new()))]), || false);
    subject
}

fn isolate(namespace: &str, name: &str, target: Selector, peers: Vec<Peer>) -> Policy {
    let rules =
        if peers.is_empty() { Vec::new() } else { vec![Rule { line: 1, peers: Peers::Listed(peers), ports: Ports::All }] };
    Policy { key: ObjectKey::new(namespace, name), origin: None, target, ingress: Some(rules), egress: None }
}

fn equals(key: &str, value: &str) -> Selector {
    Selector::new([Requirement { key: key.to_owned(), operator: Operator::In([value.to_owned()].into()) }])
}

fn anywhere(pods: Selector) -> Peer {
    Peer::Pods { namespaces: NamespaceScope::Matching(Selector::everything()), pods }
}

fn group_counts(subject: &Subject) -> (usize, usize) {
    (subject.compiler.graph().groups.len(), subject.compiler.graph().node_plan().groups.len())
}

#[test]
fn jobs_with_labels_that_no_selector_asks_for_are_one_group() {
    let mut subject = jobs(1000);
    assert_eq!(group_counts(&subject), (1, 1));
    let before = (sizes(&subject.compiler), subject.compiler.graph().canonical());
    let pod = subject.compiler.graph().pod("batch", "job-7").expect("there");
    assert_eq!(subject.compiler.graph().pod_labels(pod), job(7).labels, "a pod keeps the labels that nobody asks for");

    // One policy asks for a label: the pods that have it are told apart, by this label alone.
    let web = isolate("batch", "app", equals("app", "v-1"), Vec::new());
    subject.apply([Change::Policy(web.clone())], || false);
    assert_eq!(group_counts(&subject), (3, 3));
    let graph = subject.compiler.graph();
    let isolating = |name: &str| {
        graph.isolating(graph.group_of(graph.pod("batch", name).expect("there")).expect("an endpoint"), Direction::Ingress).len()
    };
    assert_eq!(["job-0", "job-1", "job-2"].map(isolating), [1, 2, 1]);

    // And when it is gone, they are one group again.
    subject.apply([Change::PolicyRemoved(web.key)], || false);
    assert_eq!((sizes(&subject.compiler), subject.compiler.graph().canonical()), before);
}

/// What one tenant asks for decides how the pods of others are kept as peers, and nothing on their nodes.
#[test]
fn a_selector_of_another_namespace_changes_no_plan() {
    let mut subject = jobs(100);
    let (before, decisions) = (subject.plan.clone(), subject.compiler.graph().decisions_at(address(7)));
    assert_eq!(decisions.len(), 1);
    let all_jobs = anywhere(Selector::new([Requirement { key: "job-name".to_owned(), operator: Operator::Exists }]));
    subject.apply([Change::Policy(isolate("tenant", "p", Selector::everything(), vec![all_jobs]))], || false);
    assert_eq!(group_counts(&subject), (100, 1));
    assert_eq!(plan(subject.compiler.graph()), before);
    assert_eq!(subject.compiler.graph().decisions_at(address(7)), decisions);
    // A selector over other namespaces does not even do that.
    let mut subject = jobs(100);
    let other = Peer::Pods { namespaces: NamespaceScope::Own, pods: equals("job-name", "job-1") };
    subject.apply([Change::Policy(isolate("tenant", "p", equals("controller-uid", "u"), vec![other]))], || false);
    assert_eq!(group_counts(&subject), (1, 1));
}

/// The plan follows from the objects also where a policy tells pods apart and selects none of them.
#[test]
fn a_target_that_selects_nobody_is_structural_when_it_tells_pods_of_the_node_apart() {
    let mut subject = jobs(4);
    let names = anywhere(equals("job-name", "job-1"));
    subject.apply([Change::Policy(isolate("tenant", "p", Selector::everything(), vec![names]))], || false);
    assert_eq!(group_counts(&subject), (4, 1));
    let nobody = isolate("batch", "nobody", equals("job-name", "none"), Vec::new());
    subject.apply([Change::Policy(nobody.clone())], || false);
    assert_eq!(group_counts(&subject), (4, 4));
    assert_eq!(subject.plan, plan(subject.compiler.graph()));
    subject.apply([Change::PolicyRemoved(nobody.key)], || false);
    assert_eq!(group_counts(&subject), (4, 1));
    assert_eq!(subject.plan, plan(subject.compiler.graph()));
}

#[test]
fn what_is_closed_for_a_node_does_not_depend_on_who_came_first() {
    let pod = |name: &str| Pod {
        key: ObjectKey::new("ns-1", name),
        labels: [("app".to_owned(), name.to_owned())].into(),
        placement: Placement::Node("n".to_owned()),
        phase: Phase::Live,
        is_host_network: false,
        is_unknown: false,
        addresses: Addresses::Known(vec![address(name.len())]),
        ..pod(0, 0)
    };
    let policy = |name: &str, app: Option<&str>| Policy {
        key: ObjectKey::new("ns-1", name),
        target: app.map_or_else(Selector::everything, |app| {
            Selector::new([Requirement { key: "app".to_owned(), operator: Operator::In([app.to_owned()].into()) }])
        }),
        ingress: Some(vec![rule(1), rule(9)]),
        ..policy(0, 0)
    };
    let policies = [policy("base", None), policy("p1", Some("a")), policy("p2", Some("bb"))];
    let closed = |order: [usize; 3]| {
        let mut subject = Subject::new(Options { node: Some("n".to_owned()), ..Options::default() }, true);
        let pods = ["a", "bb"].map(|name| Change::Pod(pod(name)));
        subject.apply(pods.into_iter().chain(order.map(|i| Change::Policy(policies[i].clone()))), || false);
        let graph = subject.compiler.graph();
        let names =
            graph.too_large().map(|(group, ..)| graph.pods_of(group).map(|pod| graph.pod_name(pod).1.to_owned()).collect());
        names.collect::<Vec<Vec<String>>>()
    };
    let expected = closed([0, 1, 2]);
    assert_eq!(expected.len(), 1, "one of two is too much");
    for order in [[1, 0, 2], [2, 0, 1], [2, 1, 0]] {
        assert_eq!(closed(order), expected, "{order:?}");
    }
}
