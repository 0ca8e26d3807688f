//! Sides of groups that have very many peers: as true as all others, and as cheap as they are long.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use conformance::engine;
use conformance::generate::{Cluster, crowded, mostly_as_before};
use conformance::lab::{self, Agents, Fabric, Namespace, Network, comparison};
use conformance::oracle::{Oracle, Protocol};
use policy_agent::enforcer::Enforcer;
use policy_agent::kernel::applier::{Applier, NetlinkApplier, NftApplier};
use policy_agent::kernel::fake::{FakeKernel, Table, Trouble};
use policy_core::compile::{Compiler, GraphDelta, Options};
use policy_core::graph::TooLarge;
use policy_core::manifest::{Snapshot, Syntax};
use policy_ruleset::{Contents, DenyLog, Op, Ruleset, Transaction, render};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

const OPTIONS: policy_ruleset::Options =
    policy_ruleset::Options { own_node_egress: policy_core::graph::OwnNodeEgress::Enforce, deny_log: Some(DenyLog::DEFAULT) };

fn on_n1() -> Compiler {
    Compiler::new(Options { node: Some("n1".to_owned()), ..Options::default() })
}

fn compiled(snapshot: &Snapshot) -> Compiler {
    let mut compiler = on_n1();
    snapshot.changes().for_each(|change| compiler.apply(change));
    compiler.flush();
    compiler
}

fn check<T: std::fmt::Debug>(cases: u32, strategy: impl Strategy<Value = T>, test: impl Fn(T) -> Result<(), TestCaseError>) {
    let factor: u32 = std::env::var("NETPOL_CLUSTERS").ok().and_then(|v| v.parse().ok()).unwrap_or(1);
    let config = Config { cases: cases * factor, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    TestRunner::new(config).run(&strategy, test).unwrap_or_else(|e| panic!("{e}"));
}

/// States of which each has most in common with the one before.
fn states() -> impl Strategy<Value = Vec<Cluster>> {
    (prop::collection::vec(crowded(), 2..6), prop::collection::vec(prop::bool::weighted(0.2), 23)).prop_map(
        |(mut states, is_new)| {
            for i in 1..states.len() {
                let rotated: Vec<bool> = is_new.iter().cycle().skip(i * 7).take(is_new.len()).copied().collect();
                states[i] = mostly_as_before(&states[i - 1], &states[i], &rotated);
            }
            states
        },
    )
}

/// What a table from scratch would hold.
fn scratch(snapshot: &Snapshot) -> Table {
    let compiler = compiled(snapshot);
    let Ruleset { sets, chains, .. } = render(&compiler.graph().node_plan(), &OPTIONS).filled(compiler.graph());
    let elements = |contents| match contents {
        Contents::Fixed(elements) => elements,
        other => panic!("{other:?} is not filled in"),
    };
    Table {
        sets: sets.into_iter().map(|(name, set)| (name, elements(set.contents))).collect(),
        chains: chains.into_iter().map(|(name, chain)| (name, (chain.hook, chain.rules))).collect(),
        ..Table::default()
    }
}

#[test]
fn every_sequence_ends_with_the_table_from_scratch() {
    let trouble = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Trouble::Refuse)),
        1 => Just(Some(Trouble::LoseAnswer)),
        1 => Just(Some(Trouble::OtherTable)),
        1 => Just(Some(Trouble::OurTable)),
    ];
    let troubles = prop::collection::vec(trouble, 6);
    check(400, (states(), troubles), |(states, troubles)| {
        let kernel = FakeKernel::new();
        let options = Options { node: Some("n1".to_owned()), ..Options::default() };
        let mut enforcer = Enforcer::new(options, OPTIONS, Box::new(kernel.clone()), Box::new(kernel.clone()));
        let mut before = Snapshot::default();
        for (state, trouble) in states.iter().zip(troubles) {
            let after = engine::load(&state.objects, Syntax::Legacy);
            enforcer.take(before.difference(&after));
            trouble.into_iter().for_each(|trouble| kernel.expect(trouble));
            let is_done = (0..20).any(|_| enforcer.flush().is_ok());
            prop_assert!(is_done, "it does not recover");
            prop_assert_eq!(kernel.table(), Some(scratch(&after)));
            before = after;
        }
        Ok(())
    });
}

/// The sets and chains of a listing, in any order.
fn blocks(listing: &str) -> BTreeSet<&str> {
    let inside = listing.trim_start_matches("table inet netpol {").trim_end().trim_end_matches('}');
    inside.split("\n\n").map(str::trim).collect()
}

struct Appliers {
    netlink: Namespace,
    nft: Namespace,
}

impl Appliers {
    fn apply(&self, transaction: &Transaction) {
        let (one, other) = (transaction.clone(), transaction.clone());
        let by_netlink = move || NetlinkApplier::open().expect("a socket").apply(&one, None).map_err(|e| e.to_string());
        self.netlink.run(by_netlink).unwrap_or_else(|e| panic!("netlink: {e}"));
        self.nft.run(move || NftApplier.apply(&other, None).map_err(|e| e.to_string())).unwrap_or_else(|e| panic!("nft: {e}"));
    }

    /// The elements of all sets and maps as the kernel lists them; sorted.
    fn elements(&self) -> [Vec<String>; 2] {
        [&self.netlink, &self.nft].map(|namespace| {
            let all = namespace.command("nft", &["--debug=netlink", "list", "table", "inet", "netpol"]);
            let mut elements: Vec<String> = all.lines().filter(|line| line.contains("element ")).map(str::to_owned).collect();
            elements.sort_unstable();
            elements
        })
    }

    fn listed(&self) -> [String; 2] {
        [&self.netlink, &self.nft].map(|namespace| namespace.command("nft", &["list", "table", "inet", "netpol"]))
    }
}

#[test]
fn both_doors_leave_the_same_table() {
    if !lab::is_available(&["nft", "ip"]) {
        return;
    }
    let appliers = Appliers { netlink: Namespace::new("netlink"), nft: Namespace::new("nft") };
    let fresh = Namespace::new("from scratch");
    check(25, states(), |states| {
        let mut compiler = on_n1();
        let mut before = Snapshot::default();
        let mut ruleset = render(&compiler.graph().node_plan(), &OPTIONS);
        appliers.apply(&Transaction::replace(&ruleset, compiler.graph()));
        for state in &states {
            let snapshot = engine::load(&state.objects, Syntax::Legacy);
            before.difference(&snapshot).into_iter().for_each(|change| compiler.apply(change));
            let delta = compiler.flush();
            let next = if delta.is_structural { render(&compiler.graph().node_plan(), &OPTIONS) } else { ruleset.clone() };
            // In parts, each of which the kernel must take.
            let update = Transaction::update(&ruleset, &next, &delta, compiler.graph());
            update.into_parts(40).iter().for_each(|part| appliers.apply(part));
            let [netlink, nft] = appliers.listed();
            prop_assert_eq!(&netlink, &nft);
            let [netlink_elements, nft_elements] = appliers.elements();
            prop_assert_eq!(netlink_elements, nft_elements, "elements as the kernel has them, end marks included");
            let text = next.filled(compiler.graph()).to_text();
            fresh.command_with("nft", &["-f", "-"], &text);
            let scratch = fresh.command("nft", &["list", "table", "inet", "netpol"]);
            prop_assert_eq!(blocks(&netlink), blocks(&scratch), "step by step is from scratch");
            let (chains, sets) = (next.chains.keys().cloned().collect(), next.sets.keys().cloned().collect());
            appliers.apply(&Transaction::rebuild(&next, compiler.graph(), &chains, &sets));
            let [netlink, nft] = appliers.listed();
            prop_assert_eq!(blocks(&netlink), blocks(&scratch), "rebuilt is from scratch");
            prop_assert_eq!(&netlink, &nft);
            (before, ruleset) = (snapshot, next);
        }
        Ok(())
    });
}

#[test]
fn a_set_of_another_kind_is_no_obstacle() {
    if !lab::is_available(&["nft", "ip"]) {
        return;
    }
    let appliers = Appliers { netlink: Namespace::new("netlink"), nft: Namespace::new("nft") };
    let compiler = compiled(&engine::load(&tenant("cidrrules", 3, 0), Syntax::Legacy));
    let ruleset = render(&compiler.graph().node_plan(), &OPTIONS);
    for namespace in [&appliers.netlink, &appliers.nft] {
        let foreign = "table inet netpol { set isolated4 { type mark; }\n chain forward { type filter hook forward priority filter; meta mark @isolated4 drop; }\n}\n";
        namespace.command_with("nft", &["-f", "-"], foreign);
    }
    let (chains, sets) = (BTreeSet::from(["forward".to_owned()]), BTreeSet::from(["isolated4".to_owned()]));
    appliers.apply(&Transaction::rebuild(&ruleset, compiler.graph(), &chains, &sets));
    let [netlink, nft] = appliers.listed();
    assert_eq!(netlink, nft);
    assert!(netlink.contains("type ipv4_addr") && !netlink.contains("type mark"), "{netlink}");
}

/// A pod on the node with one policy of `count` rules, and others. `edit` changes all peers or ports of the policy.
fn tenant(kind: &str, count: usize, edit: usize) -> Vec<Value> {
    let ip = |i: usize| format!("{}.{}.{}.{}", 11 + i / 16_384, i / 64 % 256, i % 64 * 4, edit % 4);
    let port = |i: usize| i % 60_000 + 1;
    let rule = |i: usize| match kind {
        "cidrrules" => json!({"from": [{"ipBlock": {"cidr": format!("{}/32", ip(i))}}], "ports": [{"port": port(i)}]}),
        "ranges" => {
            json!({"from": [{"ipBlock": {"cidr": format!("{}/32", ip(i))}}], "ports": [{"port": 3 * i + 1, "endPort": 3 * i + 2}]})
        }
        "selrules" => {
            json!({"from": [{"podSelector": {"matchLabels": {"k": format!("v{i}")}}}], "ports": [{"port": port(i + edit)}]})
        }
        // One block is a peer of every port.
        "shared" => {
            let blocks = [json!({"ipBlock": {"cidr": "10.0.0.0/8"}}), json!({"ipBlock": {"cidr": format!("{}/32", ip(i))}})];
            json!({"from": blocks, "ports": [{"port": port(i)}]})
        }
        // Each port has the peers of all longer ranges.
        "nested" => {
            json!({"from": [{"ipBlock": {"cidr": format!("{}/32", ip(i))}}], "ports": [{"port": 1, "endPort": i + 1}]})
        }
        "both" => {
            json!({"from": [{"podSelector": {"matchExpressions": [{"key": format!("k{i}"), "operator": "Exists"}]}}, {"ipBlock": {"cidr": format!("{}/32", ip(i))}}], "ports": [{"port": port(i)}]})
        }
        other => panic!("{other}"),
    };
    let rules: Vec<Value> = (0..count).map(rule).collect();
    let policy = |name: &str, app: &str, ingress: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "x"},
            "spec": {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Ingress"], "ingress": ingress}})
    };
    let pod = |name: &str, node: &str, labels: Value, address: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "x", "labels": labels},
            "spec": {"nodeName": node, "containers": []}, "status": {"phase": "Running", "podIP": address}})
    };
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.2"}]}}),
        pod("a", "n1", json!({"app": "a"}), "10.244.0.1"),
        pod("b", "n1", json!({"app": "b"}), "10.244.0.2"),
        pod("peer", "n2", json!({"app": "peer", "k": "v7"}), "10.244.0.3"),
        policy("big", "a", Value::Array(rules)),
        policy("small", "b", json!([{"from": [{"podSelector": {"matchLabels": {"app": "peer"}}}], "ports": [{"port": 80}]}])),
    ]
}

#[test]
fn named_sets_are_few_and_steps_are_as_many_as_pairs() {
    for kind in ["cidrrules", "shared", "ranges", "selrules", "both"] {
        for count in [500, 1_000, 2_000, 4_000] {
            let before = compiled(&engine::load(&tenant(kind, count, 0), Syntax::Legacy));
            let after = compiled(&engine::load(&tenant(kind, count, 1), Syntax::Legacy));
            let [first, second] = [&before, &after].map(|compiler| render(&compiler.graph().node_plan(), &OPTIONS));
            assert!(first.sets.len() < 32, "{kind}: {} sets for {count} pairs", first.sets.len());
            assert!(first.chains.len() < 32, "{kind}: {} chains for {count} pairs", first.chains.len());
            let transactions = [
                Transaction::update(&Ruleset::default(), &first, &GraphDelta::default(), before.graph()),
                Transaction::update(&first, &second, &GraphDelta::default(), after.graph()),
            ];
            for transaction in transactions {
                let weight = transaction.weight();
                assert!(weight < 1_000 + 40 * count, "{kind}: weight {weight} for {count} pairs");
                let parts = transaction.into_parts(5_000);
                assert!(parts.iter().all(|part| part.weight() < 6_000 + count), "a part is as long as everything");
                assert!(parts.iter().map(Transaction::weight).sum::<usize>() <= weight + parts.len(), "something is done twice");
            }
        }
    }
}

#[test]
fn policies_that_multiply_close_their_pods_and_no_others() {
    let compiler = compiled(&engine::load(&tenant("nested", 1_500, 0), Syntax::Legacy));
    let graph = compiler.graph();
    assert_eq!(graph.too_large().map(|(.., why)| why).collect::<Vec<_>>(), [TooLarge::Pod]);
    let is_allowed = |from: &str, to: &str, port| {
        let [from, to] = [from, to].map(|a| a.parse().expect("an address"));
        engine::is_allowed(graph, from, to, Protocol::Port("TCP", port))
    };
    assert!(!is_allowed("11.0.0.0", "10.244.0.1", 1), "a policy that is not compiled allows something");
    assert!(is_allowed("10.244.0.3", "10.244.0.2", 80), "another tenant's pod is closed");
    let ruleset = render(&graph.node_plan(), &OPTIONS);
    assert!(ruleset.chains.len() < 32 && ruleset.sets.len() < 32);

    // Less of the same is compiled, and a policy that is made smaller is in force again.
    let mut compiler = on_n1();
    let large = engine::load(&tenant("nested", 1_500, 0), Syntax::Legacy);
    let small = engine::load(&tenant("nested", 300, 0), Syntax::Legacy);
    large.changes().for_each(|change| compiler.apply(change));
    compiler.flush();
    large.difference(&small).into_iter().for_each(|change| compiler.apply(change));
    compiler.flush();
    assert_eq!(compiler.graph().too_large().count(), 0);
    let filled = |compiler: &Compiler| render(&compiler.graph().node_plan(), &OPTIONS).filled(compiler.graph());
    assert!(filled(&compiler) == filled(&compiled(&small)), "it is not what it is from scratch");
}

/// Objects of one namespace on the node: a pod for each of these numbers, with that many rules whose port ranges are nested.
fn nested(namespace: &str, counts: &[u32]) -> Vec<Value> {
    let mut out = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})];
    for (i, count) in counts.iter().enumerate() {
        let rule = |n: u32| {
            // Blocks that do not touch.
            let block = format!("{}/32", Ipv4Addr::from(0x0b00_0000 + 2 * n));
            json!({"from": [{"ipBlock": {"cidr": block}}], "ports": [{"port": 1, "endPort": n + 1}]})
        };
        let ingress: Vec<Value> = (0..*count).map(rule).collect();
        let third = namespace.bytes().next().unwrap_or_default();
        out.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{i}"), "namespace": namespace, "labels": {"app": format!("p{i}")}},
            "spec": {"nodeName": "n1", "containers": []}, "status": {"phase": "Running", "podIP": format!("10.244.{third}.{i}")}}));
        out.push(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": format!("p{i}"), "namespace": namespace},
            "spec": {"podSelector": {"matchLabels": {"app": format!("p{i}")}}, "policyTypes": ["Ingress"], "ingress": ingress}}));
    }
    out
}

#[test]
fn tenants_that_fill_a_node_close_their_own_pods() {
    // A pod with n rules makes n²/2 pairs, and as many peers in their sets.
    let objects = |larger: u32| [tenant("cidrrules", 500, 0), nested("y", &[430, larger]), nested("z", &[460])].concat();
    let [all, less] = [440, 10].map(|larger| engine::load(&objects(larger), Syntax::Legacy));
    let closed = |compiler: &Compiler| -> Vec<(String, TooLarge)> {
        let graph = compiler.graph();
        let name = |group| graph.pod_name(graph.pods_of(group).next().expect("a pod"));
        graph.too_large().map(|(group, _, why)| (name(group).0.to_owned() + "/" + name(group).1, why)).collect()
    };
    let mut compiler = compiled(&all);
    assert_eq!(closed(&compiler), [("y/p1".to_owned(), TooLarge::Node)]);
    // Less of the same opens the pod again.
    all.difference(&less).into_iter().for_each(|change| compiler.apply(change));
    compiler.flush();
    assert_eq!(closed(&compiler), []);
    let allowed = |compiler: &Compiler, to: &str| {
        let [from, to] = ["11.0.0.0", to].map(|a| a.parse().expect("an address"));
        engine::is_allowed(compiler.graph(), from, to, Protocol::Port("TCP", 1))
    };
    assert!(allowed(&compiler, "10.244.121.1") && allowed(&compiler, "10.244.121.0"), "what is compiled is enforced");
    less.difference(&all).into_iter().for_each(|change| compiler.apply(change));
    compiler.flush();
    assert_eq!(closed(&compiler), [("y/p1".to_owned(), TooLarge::Node)]);
    assert!(!allowed(&compiler, "10.244.121.1"), "what is not compiled allows something");
    assert!(allowed(&compiler, "10.244.121.0") && allowed(&compiler, "10.244.122.0"), "others are closed");
    let filled = |compiler: &Compiler| render(&compiler.graph().node_plan(), &OPTIONS).filled(compiler.graph());
    assert!(filled(&compiler) == filled(&compiled(&all)), "it is not what it is from scratch");
    // Answers about the whole cluster do not depend on nodes.
    let mut whole = Compiler::new(Options::default());
    all.changes().for_each(|change| whole.apply(change));
    whole.flush();
    assert_eq!(closed(&whole), []);
}

#[test]
fn ports_that_list_every_pod_close_the_pod_that_has_them() {
    // Each of 4,000 ports is for all pods of the cluster that lack a label, which nobody has.
    let rules: Vec<Value> = (0..4_000)
        .map(|i| {
            let nobody_has_it = json!({"matchExpressions": [{"key": format!("k{i}"), "operator": "DoesNotExist"}]});
            json!({"from": [{"namespaceSelector": {}, "podSelector": nobody_has_it}], "ports": [{"port": i + 1}]})
        })
        .collect();
    let objects = |pods: u32| {
        let mut objects = tenant("cidrrules", 100, 0);
        objects.retain(|object| object["metadata"]["name"] != "big");
        objects.push(
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "big", "namespace": "x"},
            "spec": {"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Ingress"], "ingress": rules}}),
        );
        objects.extend((0..pods).map(|i| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("c{i}"), "namespace": "x"},
                "spec": {"nodeName": "n2", "containers": []}, "status": {"phase": "Running", "podIP": Ipv4Addr::from(0x0ac8_0000 + i).to_string()}})
        }));
        engine::load(&objects, Syntax::Legacy)
    };
    let closed = |compiler: &Compiler| compiler.graph().too_large().map(|(.., why)| why).collect::<Vec<_>>();
    let is_allowed = |compiler: &Compiler, to: &str, port| {
        let [from, to] = ["10.200.0.1", to].map(|a| a.parse().expect("an address"));
        engine::is_allowed(compiler.graph(), from, to, Protocol::Port("TCP", port))
    };
    let [few, many] = [500, 1_000].map(objects);
    let mut compiler = compiled(&few);
    assert_eq!(closed(&compiler), []);
    assert!(is_allowed(&compiler, "10.244.0.1", 4_000) && !is_allowed(&compiler, "10.244.0.1", 4_001));
    few.difference(&many).into_iter().for_each(|change| compiler.apply(change));
    compiler.flush();
    assert_eq!(closed(&compiler), [TooLarge::Node]);
    assert!(!is_allowed(&compiler, "10.244.0.1", 4_000));
    many.difference(&few).into_iter().for_each(|change| compiler.apply(change));
    compiler.flush();
    assert_eq!(closed(&compiler), []);
    assert!(is_allowed(&compiler, "10.244.0.1", 4_000));
}

/// Objects of one namespace: that many pods on the node, each with a policy of its own that allows sixteen ports, each for a selector
/// of all pods that lack a label, which nobody has: one of `selectors` labels.
fn selecting(namespace: &str, pods: u32, selectors: u32) -> Vec<Value> {
    let mut out = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})];
    let third = namespace.bytes().next().unwrap_or_default();
    for i in 0..pods {
        let rule = |n: u32| {
            let label = format!("k{}", (16 * i + n) % selectors);
            let nobody_has_it = json!({"matchExpressions": [{"key": label, "operator": "DoesNotExist"}]});
            json!({"from": [{"namespaceSelector": {}, "podSelector": nobody_has_it}], "ports": [{"port": n + 1}]})
        };
        let ingress: Vec<Value> = (0..16).map(rule).collect();
        let app = json!({"app": format!("p{i}")});
        out.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{i}"), "namespace": namespace, "labels": app},
            "spec": {"nodeName": "n1", "containers": []}, "status": {"phase": "Running", "podIP": format!("10.244.{third}.{i}")}}));
        out.push(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": format!("p{i}"), "namespace": namespace},
            "spec": {"podSelector": {"matchLabels": app}, "policyTypes": ["Ingress"], "ingress": ingress}}));
    }
    out
}

#[test]
fn few_peers_of_many_pods_close_pods_of_the_tenant_that_has_them() {
    let objects = |pods: u32, selectors: u32| {
        // The others share their sixteen selectors, whoever they are and however many.
        let mut objects = [selecting("y", pods, selectors), selecting("z", 90, 16)].concat();
        objects.extend((0..4_000).map(|i| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("c{i}"), "namespace": "z"},
                "spec": {"nodeName": "n2", "containers": []}, "status": {"phase": "Running", "podIP": Ipv4Addr::from(0x0ac8_0000 + i).to_string()}})
        }));
        engine::load(&objects, Syntax::Legacy)
    };
    let closed = |compiler: &Compiler| -> Vec<String> {
        let graph = compiler.graph();
        graph.too_large().flat_map(|(group, ..)| graph.pods_of(group).map(|pod| graph.pod_name(pod).0.to_owned())).collect()
    };
    // Some 4,000 pods count as 8,192, and eight as one: 488 sets are as much as 500,000.
    let [few, many] = [28, 32].map(|pods| objects(pods, 10_000));
    let mut compiler = compiled(&few);
    assert_eq!(closed(&compiler), Vec::<String>::new());
    few.difference(&many).into_iter().for_each(|change| compiler.apply(change));
    compiler.flush();
    let names = closed(&compiler);
    assert!(!names.is_empty() && names.iter().all(|namespace| namespace == "y"), "{names:?}");
    many.difference(&few).into_iter().for_each(|change| compiler.apply(change));
    compiler.flush();
    assert_eq!(closed(&compiler), Vec::<String>::new());
    assert_eq!(closed(&compiled(&objects(90, 16))), Vec::<String>::new(), "sets that pods share cost once");
}

#[test]
fn tenants_with_many_groups_share_one_set_of_chains() {
    let mut objects = tenant("cidrrules", 1_000, 0);
    for i in 0..100 {
        objects.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("c{i}"), "namespace": "x", "labels": {"app": "a", "i": format!("{i}")}},
            "spec": {"nodeName": "n1", "containers": []}, "status": {"phase": "Running", "podIP": format!("10.244.1.{i}")}}));
    }
    let compiler = compiled(&engine::load(&objects, Syntax::Legacy));
    let ruleset = render(&compiler.graph().node_plan(), &OPTIONS);
    assert!(ruleset.chains.len() < 200 && ruleset.sets.len() < 20, "{} chains", ruleset.chains.len());
}

#[test]
fn a_change_between_parts_is_atomic_for_packets() {
    // What packets meet is reached from the chains with a hook and from chains that were there before: none of them changes but
    // in one part.
    let compiler = compiled(&engine::load(&tenant("both", 800, 0), Syntax::Legacy));
    let before = render(&compiler.graph().node_plan(), &OPTIONS);
    let compiler = compiled(&engine::load(&tenant("both", 800, 1), Syntax::Legacy));
    let after = render(&compiler.graph().node_plan(), &OPTIONS);
    let parts = Transaction::update(&before, &after, &GraphDelta::default(), compiler.graph()).into_parts(100);
    let touches = |op: &Op| match op {
        Op::FlushChain { name } => after.chains.contains_key(name),
        Op::AddRule { chain, .. } => before.chains.contains_key(chain),
        Op::AddElements { set, .. } | Op::DeleteElements { set, .. } => before.sets.contains_key(set),
        _ => false,
    };
    assert!(parts.len() > 10);
    assert_eq!(parts.iter().filter(|part| part.ops.iter().any(touches)).count(), 1);
}

#[test]
fn random_crowded_clusters_are_true_in_the_kernel() {
    if !lab::is_available(&["ip", "bridge", "conntrack"]) {
        return;
    }
    let nodes = [("n1", ["192.0.2.1".parse().expect("an address")]), ("n2", ["192.0.2.2".parse().expect("an address")])];
    let nodes: Vec<(&str, &[IpAddr])> = nodes.iter().map(|(name, list)| (*name, list.as_slice())).collect();
    let network = Network::new(&nodes, Fabric::Routed);
    let agents = Agents::start(&network);
    let state = std::cell::RefCell::new((network, agents, 0));
    check(15, crowded(), |cluster| {
        let (network, agents, round) = &mut *state.borrow_mut();
        let snapshot = engine::load(&cluster.objects, Syntax::Legacy);
        agents.tell(engine::load(&cluster.objects, Syntax::Legacy));
        let mut addresses: BTreeSet<IpAddr> = cluster.addresses().into_iter().collect();
        addresses.extend(["198.51.100.4", "198.51.100.9"].map(|a| a.parse::<IpAddr>().expect("an address")));
        let comparison = comparison::measure(network, &snapshot, &addresses, &cluster.protocols(), round);
        if let Err(difference) = comparison.check(&Oracle::new(cluster.objects)) {
            prop_assert!(false, "{}", difference);
        }
        Ok(())
    });
}

#[test]
fn three_thousand_pairs_are_true_in_the_kernel() {
    if !lab::is_available(&["ip", "bridge", "conntrack"]) {
        return;
    }
    let nodes = [("n1", ["192.0.2.1".parse().expect("an address")]), ("n2", ["192.0.2.2".parse().expect("an address")])];
    let nodes: Vec<(&str, &[IpAddr])> = nodes.iter().map(|(name, list)| (*name, list.as_slice())).collect();
    let mut network = Network::new(&nodes, Fabric::Routed);
    let mut agents = Agents::start(&network);
    let mut round = 0;
    for (kind, edit) in
        [("cidrrules", 0), ("cidrrules", 1), ("selrules", 0), ("selrules", 3), ("both", 0), ("ranges", 1), ("shared", 1)]
    {
        let objects = tenant(kind, 3_000, edit);
        let snapshot = engine::load(&objects, Syntax::Legacy);
        agents.tell(engine::load(&objects, Syntax::Legacy));
        // The sources of pairs 7, 8 and 2,999, by both edits.
        let outside = ["11.0.28.0", "11.0.28.1", "11.0.32.1", "11.46.220.0", "11.46.220.1", "203.0.113.9"];
        let outside: Vec<IpAddr> = outside.iter().map(|a| a.parse().expect("an address")).collect();
        let addresses = comparison::addresses(&snapshot, &outside);
        let ports = [7, 8, 9, 10, 11, 12, 22, 23, 24, 25, 26, 2_999, 3_000, 3_001, 8_998, 8_999, 9_000];
        let mut protocols: Vec<Protocol> = ports.into_iter().map(|port| Protocol::Port("TCP", port)).collect();
        protocols.push(Protocol::Port("UDP", 8));
        let comparison = comparison::measure(&mut network, &snapshot, &addresses, &protocols, &mut round);
        comparison.check(&Oracle::new(objects)).unwrap_or_else(|difference| panic!("{kind} {edit}: {difference}"));
        let to_tenant = comparison.verdicts.iter().filter(|(probe, _)| probe.destination.to_string() == "10.244.0.1");
        let allowed = to_tenant.filter(|(_, is_allowed)| **is_allowed).count();
        assert!(allowed > 0, "{kind} {edit}: nothing is allowed, so nothing is shown");
    }
}
