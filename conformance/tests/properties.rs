//! Properties over generated clusters.
//!
//! `NETPOL_CLUSTERS` multiplies how many clusters each property sees; with 1, the comparison with the oracle sees 20,000.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use conformance::engine;
use conformance::generate::{Cluster, cluster, mostly_as_before};
use conformance::oracle::Oracle;
use policy_core::compile::{Compiler, GraphDelta, Options};
use policy_core::graph::{AllowGraph, Decision, GroupId, NamedAtom, PeerSetId};
use policy_core::manifest::{Snapshot, Syntax};
use policy_core::model::{Change, Direction};
use policy_core::sets::PortSet;
use policy_core::verdict::{ConnectivityMatrix, WorkloadPods};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn clusters(count: u32) -> Config {
    let factor: f64 = std::env::var("NETPOL_CLUSTERS").ok().and_then(|n| n.parse().ok()).unwrap_or(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
    let cases = (f64::from(count) * factor) as u32;
    Config { cases: cases.max(1), failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() }
}

fn check<T: std::fmt::Debug>(config: Config, strategy: impl Strategy<Value = T>, test: impl Fn(&T) -> Result<(), TestCaseError>) {
    let mut runner = TestRunner::new(config);
    if let Err(error) = runner.run(&strategy, |value| test(&value)) {
        panic!("{error}");
    }
}

fn load(cluster: &Cluster) -> Snapshot {
    engine::load(&cluster.objects, Syntax::Legacy)
}

fn engine_agrees_with_oracle(cluster: &Cluster) -> Result<(), TestCaseError> {
    let graph = engine::compile(load(cluster).changes());
    let oracle = Oracle::new(cluster.objects.clone());
    let addresses = cluster.addresses();
    let protocols = cluster.protocols();
    for source in &addresses {
        for destination in &addresses {
            let (from, to) = (graph.endpoint(*source), graph.endpoint(*destination));
            let (egress, ingress) = graph.ports_between(&from, &to, from.is_same_endpoint(&to));
            let ports = egress.intersection(&ingress);
            for protocol in &protocols {
                let expected = oracle.is_allowed(*source, *destination, *protocol);
                let found = engine::is_allowed(&graph, *source, *destination, *protocol);
                prop_assert_eq!(found, expected, "{} -> {} {:?}", source, destination, protocol);
                let in_set = ports.contains(engine::protocol(*protocol));
                prop_assert_eq!(in_set, expected, "ports of {} -> {} {:?}", source, destination, protocol);
            }
        }
    }
    Ok(())
}

// Two halves of the 20,000, so that two cores share the work.
#[test]
fn verdicts_are_those_of_the_oracle_first_half() {
    check(clusters(10_000), cluster(), engine_agrees_with_oracle);
}

#[test]
fn verdicts_are_those_of_the_oracle_second_half() {
    check(clusters(10_000), cluster(), engine_agrees_with_oracle);
}

/// An explanation allows exactly what the verdict allows, each part of it by a rule, and offers an edit where it denies.
#[test]
fn explanations_agree_with_verdicts() {
    check(clusters(1_000), cluster(), |cluster| {
        let graph = engine::compile(load(cluster).changes());
        let asked = PortSet::all();
        for source in &cluster.addresses() {
            for destination in &cluster.addresses() {
                let (from, to) = (graph.endpoint(*source), graph.endpoint(*destination));
                let is_same = from.is_same_endpoint(&to);
                let (egress, ingress) = graph.ports_between(&from, &to, is_same);
                let sides = graph.explain(&from, &to, is_same, &asked, ["a", "b"]);
                for (side, (subject, allowed)) in sides.iter().zip([(&from, egress), (&to, ingress)]) {
                    prop_assert_eq!(&side.allows, &allowed);
                    let by_rules = side.rules.iter().fold(PortSet::none(), |set, rule| set.union(&rule.allows));
                    let is_judged_by_rules = side.is_isolated && side.cause.rule() == "S3.3" && subject.pods().len() == 1;
                    if is_judged_by_rules {
                        prop_assert_eq!(&by_rules, &allowed, "{} -> {}", source, destination);
                        prop_assert_eq!(side.nearest_miss.is_some(), allowed.is_empty());
                    }
                    for rule in &side.rules {
                        prop_assert_eq!(rule.misses.is_empty(), rule.allows == asked, "{:?}", rule);
                    }
                }
            }
        }
        Ok(())
    });
}

/// The survey of all pairs says what the pairs say.
#[test]
fn survey_agrees_with_pairs() {
    check(clusters(2_000), cluster(), |cluster| {
        let snapshot = load(cluster);
        let graph = engine::compile(snapshot.changes());
        let pods: Vec<_> = snapshot.pods.keys().filter_map(|key| graph.pod(&key.namespace, &key.name)).collect();
        // Units of two pods, so that cells are merged and told apart.
        let units: Vec<WorkloadPods> =
            pods.chunks(2).map(|pods| WorkloadPods { pods: pods.to_vec(), has_replicas: false }).collect();
        let survey = ConnectivityMatrix::new(&graph, units.clone());
        for (i, from) in units.iter().enumerate() {
            for (j, to) in units.iter().enumerate() {
                let mut all = None::<PortSet>;
                let mut some = PortSet::none();
                for a in &from.pods {
                    for b in to.pods.iter().filter(|b| *b != a) {
                        for source in graph.endpoints_of(*a) {
                            for destination in &graph.endpoints_of(*b) {
                                // An end without a known address takes part in flows of either family.
                                let destination = &destination.clone().in_family(source.family());
                                let source = source.clone().in_family(destination.family());
                                if source.family() != destination.family() {
                                    continue;
                                }
                                let (egress, ingress) = graph.ports_between(&source, destination, false);
                                let ports = egress.intersection(&ingress);
                                all = Some(all.map_or_else(|| ports.clone(), |all| all.intersection(&ports)));
                                some = some.union(&ports);
                            }
                        }
                    }
                }
                let found = survey.pair(i, j);
                prop_assert_eq!(found.as_ref().map(|p| p.all.clone()), all);
                prop_assert_eq!(found.map(|p| p.some).unwrap_or_default(), some);
            }
            for direction in Direction::ALL {
                external_agrees(&graph, &survey, i, from, direction, &cluster.addresses())?;
            }
        }
        Ok(())
    });
}

fn external_agrees(
    graph: &AllowGraph,
    survey: &ConnectivityMatrix<'_>,
    index: usize,
    unit: &WorkloadPods,
    direction: Direction,
    addresses: &[IpAddr],
) -> Result<(), TestCaseError> {
    let parts = survey.external(index, direction);
    for address in addresses {
        let outside = graph.endpoint(*address);
        if !outside.is_external() {
            continue;
        }
        let mut all = None::<PortSet>;
        for pod in &unit.pods {
            let ends = graph.endpoints_of(*pod).into_iter().map(|p| p.in_family(outside.family()));
            for end in &ends.filter(|p| p.family() == outside.family()).collect::<Vec<_>>() {
                let (egress, ingress) = match direction {
                    Direction::Egress => graph.ports_between(end, &outside, false),
                    Direction::Ingress => graph.ports_between(&outside, end, false),
                };
                let ports = egress.intersection(&ingress);
                all = Some(all.map_or_else(|| ports.clone(), |all| all.intersection(&ports)));
            }
        }
        let holding: Vec<_> = parts.iter().filter(|p| p.addresses.contains(*address)).collect();
        prop_assert!(holding.len() <= 1, "parts of the outside overlap");
        prop_assert_eq!(holding.first().map(|p| p.all.clone()), all, "{} {}", direction, address);
    }
    Ok(())
}

/// A reader of deltas, as the agent is one: what it believes must be what the graph holds.
#[derive(Default)]
struct Mirror {
    decisions: BTreeMap<(GroupId, Direction), Decision>,
    members: BTreeMap<PeerSetId, BTreeSet<IpAddr>>,
    named: BTreeMap<NamedAtom, BTreeSet<(IpAddr, u16)>>,
}

impl Mirror {
    fn apply(&mut self, delta: &GraphDelta, graph: &AllowGraph) {
        self.decisions.retain(|(group, _), _| !delta.groups_removed.contains(group));
        for (group, direction) in &delta.decisions {
            match graph.decision(*group, *direction) {
                Some(decision) => drop(self.decisions.insert((*group, *direction), decision.clone())),
                None => drop(self.decisions.remove(&(*group, *direction))),
            }
        }
        for set in &delta.peer_sets_removed {
            self.members.remove(set);
        }
        for set in &delta.peer_sets_added {
            self.members.insert(*set, graph.members(*set).into_iter().collect());
        }
        for change in &delta.members {
            let members = self.members.get_mut(&change.peer_set).expect("changes are of sets that stay");
            let is_news = if change.is_member { members.insert(change.address) } else { members.remove(&change.address) };
            assert!(is_news, "{change:?} was known already");
        }
        for atom in &delta.named_removed {
            self.named.remove(atom);
        }
        for atom in &delta.named_added {
            self.named.insert(*atom, graph.named_members(atom).into_iter().collect());
        }
        for change in &delta.named_members {
            let members = self.named.get_mut(&change.atom).expect("changes are of named ports that stay");
            let entry = (change.address, change.number);
            let is_news = if change.is_member { members.insert(entry) } else { members.remove(&entry) };
            assert!(is_news, "{change:?} was known already");
        }
    }

    fn check(&self, graph: &AllowGraph) -> Result<(), TestCaseError> {
        let sets: BTreeMap<PeerSetId, BTreeSet<IpAddr>> =
            graph.peer_sets().into_iter().map(|set| (set, graph.members(set).into_iter().collect())).collect();
        prop_assert_eq!(&self.members, &sets);
        let named: BTreeMap<NamedAtom, BTreeSet<(IpAddr, u16)>> =
            graph.named_atoms().into_iter().map(|atom| (atom, graph.named_members(&atom).into_iter().collect())).collect();
        prop_assert_eq!(&self.named, &named);
        let decisions: BTreeMap<_, _> = graph
            .groups()
            .into_iter()
            .flat_map(|group| Direction::ALL.map(|direction| (group, direction)))
            .filter_map(|key| Some((key, graph.decision(key.0, key.1)?.clone())))
            .collect();
        prop_assert_eq!(&self.decisions, &decisions);
        decisions.values().try_for_each(is_canonical)
    }
}

/// Port ranges are sorted, disjoint and as long as they can be, and say more than the peers that get every port.
fn is_canonical(decision: &Decision) -> Result<(), TestCaseError> {
    let Decision::Isolated { any, atoms, .. } = decision else { return Ok(()) };
    for atom in atoms {
        prop_assert!(atom.low >= 1 && atom.low <= atom.high && atom.peers != *any, "{atom:?}");
    }
    for pair in atoms.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        prop_assert!((a.transport, a.high) < (b.transport, b.low), "{a:?} {b:?}");
        let is_adjacent = a.transport == b.transport && u32::from(a.high) + 1 == u32::from(b.low);
        prop_assert!(!is_adjacent || a.peers != b.peers, "{a:?} and {b:?} are one range");
    }
    Ok(())
}

/// Applies change lists, flushing after those at which `flushes` says so and at the end; checks every delta.
fn run(lists: &[Vec<Change>], flushes: &[bool], options: Options) -> Result<AllowGraph, TestCaseError> {
    let mut compiler = Compiler::new(options);
    let mut mirror = Mirror::default();
    let mut flush = flushes.iter().cycle();
    for list in lists {
        for change in list {
            compiler.apply(change.clone());
            if *flush.next().unwrap_or(&false) {
                let delta = compiler.flush();
                mirror.apply(&delta, compiler.graph());
                mirror.check(compiler.graph())?;
            }
        }
    }
    let delta = compiler.flush();
    mirror.apply(&delta, compiler.graph());
    mirror.check(compiler.graph())?;
    prop_assert!(compiler.flush().is_empty(), "a flush without changes says something");
    Ok(compiler.into_graph())
}

type Sequence = (Vec<Cluster>, Vec<bool>, Vec<usize>);

fn sequence() -> impl Strategy<Value = Sequence> {
    let is_new = prop::collection::vec(prop::bool::weighted(0.15), 23);
    let states = (prop::collection::vec(cluster(), 1..6), is_new, prop::bool::weighted(0.8)).prop_map(
        |(mut states, is_new, is_smooth)| {
            for i in 1..states.len() {
                if is_smooth {
                    let rotated = is_new.iter().cycle().skip(i * 7).take(is_new.len()).copied().collect::<Vec<bool>>();
                    states[i] = mostly_as_before(&states[i - 1], &states[i], &rotated);
                }
            }
            states
        },
    );
    let flushes = prop::collection::vec(prop::bool::weighted(0.3), 1..12);
    let order = prop::collection::vec(any::<prop::sample::Index>(), 64).prop_map(|v| v.iter().map(|i| i.index(1000)).collect());
    (states, flushes, order)
}

fn shuffled(mut changes: Vec<Change>, keys: &[usize]) -> Vec<Change> {
    let mut keyed: Vec<(usize, Change)> =
        changes.drain(..).enumerate().map(|(i, change)| (keys.get(i % keys.len()).copied().unwrap_or(0) ^ i, change)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, change)| change).collect()
}

fn incremental_is_from_scratch((states, flushes, keys): &Sequence, options: &Options) -> Result<(), TestCaseError> {
    let empty = Snapshot::default();
    let snapshots: Vec<Snapshot> = states.iter().map(load).collect();
    let last = snapshots.last().unwrap_or(&empty);
    let scratch = run(&[last.changes().collect()], &[false], options.clone())?.canonical();

    // State after state, each step's changes in a random order.
    let mut steps = Vec::new();
    let mut before = &empty;
    for after in &snapshots {
        steps.push(shuffled(before.difference(after), keys));
        before = after;
    }
    prop_assert_eq!(&run(&steps, flushes, options.clone())?.canonical(), &scratch, "step by step");
    prop_assert_eq!(&run(&steps, &[false], options.clone())?.canonical(), &scratch, "squashed into one flush");
    prop_assert_eq!(&run(&steps, &[true], options.clone())?.canonical(), &scratch, "split into a flush for each change");

    // Through the states backwards and forwards again, with the empty state between.
    let mut there_and_back = steps.clone();
    let mut path: Vec<&Snapshot> = snapshots.iter().rev().skip(1).collect();
    path.push(&empty);
    path.extend(&snapshots);
    let mut before = last;
    for after in path {
        there_and_back.push(shuffled(before.difference(after), keys));
        before = after;
    }
    prop_assert_eq!(&run(&there_and_back, flushes, options.clone())?.canonical(), &scratch, "reversed and repeated");

    // Everything deleted and added again within one flush.
    let mut again = vec![last.changes().collect(), last.difference(&empty), shuffled(last.changes().collect(), keys)];
    prop_assert_eq!(&run(&again, &[false], options.clone())?.canonical(), &scratch, "deleted and added again");

    // And nothing is left over when everything is gone.
    again.push(last.difference(&empty));
    let counts = run(&again, flushes, options.clone())?.counts();
    prop_assert_eq!((counts.pods, counts.groups, counts.policies, counts.terms, counts.decisions), (0, 0, 0, 0, 0));
    prop_assert_eq!(counts.peer_sets, 2, "nobody and everyone");
    Ok(())
}

#[test]
fn incremental_is_from_scratch_for_all_pods() {
    check(clusters(5_000), sequence(), |s| incremental_is_from_scratch(s, &Options::default()));
}

#[test]
fn incremental_is_from_scratch_for_one_node() {
    check(clusters(5_000), sequence(), |s| {
        incremental_is_from_scratch(s, &Options { node: Some("n1".to_owned()), ..Options::default() })
    });
}

/// A node's compiler decides for its own pods as the compiler of everything does, and knows nothing of the others.
#[test]
fn one_node_decides_as_all_nodes() {
    check(clusters(1_000), cluster(), |cluster| {
        let snapshot = load(cluster);
        let all = engine::compile(snapshot.changes());
        let everything = all.canonical();
        let mut compiler = Compiler::new(Options { node: Some("n1".to_owned()), ..Options::default() });
        snapshot.changes().for_each(|change| compiler.apply(change));
        compiler.flush();
        let graph = compiler.graph();
        // A group has a decision as soon as one of its pods is on the node.
        let mine: Vec<String> = graph.canonical().lines().filter(|l| !l.ends_with(": out of scope")).map(str::to_owned).collect();
        let everything: BTreeSet<&str> = everything.lines().collect();
        for line in &mine {
            prop_assert!(everything.contains(line.as_str()), "{line}");
        }
        let local =
            snapshot.pods.values().filter(|p| p.is_endpoint() && p.placement == policy_core::model::Placement::Node("n1".into()));
        for pod in local {
            let id = graph.pod(&pod.key.namespace, &pod.key.name).expect("applied");
            let group = graph.group_of(id).expect("an endpoint");
            prop_assert!(graph.decision(group, Direction::Ingress).is_some());
        }
        // S2.7: egress is judged at the source's node, ingress at the destination's; together they are the verdict.
        let nodes = ["n1", "n2"].map(|node| {
            let mut compiler = Compiler::new(Options { node: Some(node.to_owned()), ..Options::default() });
            snapshot.changes().for_each(|change| compiler.apply(change));
            compiler.flush();
            compiler.into_graph()
        });
        let addresses = cluster.addresses();
        for (source, destination) in addresses.iter().flat_map(|a| addresses.iter().map(move |b| (*a, *b))) {
            for protocol in cluster.protocols() {
                let by_node = nodes.iter().all(|graph| engine::is_allowed(graph, source, destination, protocol));
                prop_assert_eq!(engine::is_allowed(&all, source, destination, protocol), by_node, "{} {}", source, destination);
            }
        }
        Ok(())
    });
}

/// What comes first in a file decides nothing.
#[test]
fn order_of_objects_does_not_matter() {
    let shuffled = cluster().prop_flat_map(|c| (Just(c.clone()), Just(c.objects).prop_shuffle()));
    check(clusters(1_000), shuffled, |(cluster, objects)| {
        let (one, other) = (load(cluster), engine::load(objects, Syntax::Legacy));
        let (a, b) = (engine::compile(one.changes()), engine::compile(other.changes()));
        prop_assert_eq!(a.canonical(), b.canonical());
        let pairs = cluster.addresses();
        for (source, destination) in pairs.iter().zip(pairs.iter().rev()) {
            let explain = |graph: &AllowGraph| {
                let (from, to) = (graph.endpoint(*source), graph.endpoint(*destination));
                let sides = graph.explain(&from, &to, false, &PortSet::all(), ["a", "b"]);
                // Lines differ with the order, nothing else does.
                let text = format!(
                    "{:?}",
                    sides.map(|s| (
                        s.allows,
                        s.cause,
                        s.rules.into_iter().map(|r| (r.rule.policy, r.rule.index, r.allows, r.misses)).collect::<Vec<_>>(),
                        s.nearest_miss.map(|m| m.edit)
                    ))
                );
                text
            };
            prop_assert_eq!(explain(&a), explain(&b));
        }
        Ok(())
    });
}

/// Every place in a policy's spec that can be broken, as JSON pointers. `policyTypes` is left out: an unknown word next to a
/// known one is ignored (S1.20).
fn places(value: &serde_json::Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        serde_json::Value::Object(map) => {
            for (key, inner) in map.iter().filter(|(key, _)| *key != "policyTypes") {
                places(inner, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), out);
            }
        }
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, inner)| places(inner, &format!("{at}/{i}"), out))
        }
        _ => {}
    }
}

/// A policy with a part that cannot be read never allows what the whole policy forbids (S0.6, S1.20).
#[test]
fn broken_policies_fail_closed() {
    let strategy = (cluster(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>());
    check(clusters(3_000), strategy, |(cluster, which, place, is_unknown_field)| {
        let before = engine::compile(load(cluster).changes());
        let mut broken = cluster.clone();
        let policies: Vec<usize> =
            (0..broken.objects.len()).filter(|i| broken.objects.get(*i).is_some_and(|o| o["kind"] == "NetworkPolicy")).collect();
        if policies.is_empty() {
            return Ok(());
        }
        let policy = &mut broken.objects[*which.get(&policies)];
        let mut all = Vec::new();
        places(&policy["spec"], "/spec", &mut all);
        let pointer = place.get(&all);
        let part = policy.pointer_mut(pointer).expect("a place");
        match part {
            serde_json::Value::Object(map) if *is_unknown_field && !pointer.contains("matchLabels") => {
                map.insert("unknown".to_owned(), serde_json::json!({}));
            }
            // No field of a policy is a boolean.
            part => *part = serde_json::json!(true),
        }
        let snapshot = load(&broken);
        prop_assert!(snapshot.has_errors(), "{pointer} was broken and nobody noticed");
        let after = engine::compile(snapshot.changes());
        let addresses = cluster.addresses();
        for source in &addresses {
            for destination in &addresses {
                let ports = |graph: &AllowGraph| {
                    let (from, to) = (graph.endpoint(*source), graph.endpoint(*destination));
                    let (egress, ingress) = graph.ports_between(&from, &to, from.is_same_endpoint(&to));
                    egress.intersection(&ingress)
                };
                let more = ports(&after).difference(&ports(&before));
                prop_assert!(more.is_empty(), "{pointer}: {source} -> {destination} gains {more}");
            }
        }
        Ok(())
    });
}

/// No text makes the loader panic, or what it loaded the lint or the compiler.
#[test]
fn mutilated_manifests_do_no_harm() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let shop = std::fs::read(root.join("examples/shop/policies.yaml")).expect("the example");
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..12);
    let mut runner = TestRunner::new(clusters(2_000));
    let result = runner.run(&edits, |edits| {
        let mut bytes = shop.clone();
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.drain(at..(at + usize::from(byte)).min(bytes.len() - 1))),
                2 => bytes.insert(at, [b'{', b'[', b'&', b'*', b'-', b':', b'\n', b'"'][usize::from(byte) % 8]),
                _ => bytes.truncate(at + 1),
            }
        }
        let mut loader = policy_core::manifest::Loader::new(Syntax::Strict);
        loader.read("mutilated.yaml", &bytes);
        let mut snapshot = loader.finish();
        policy_lint::check(&mut snapshot);
        let graph = engine::compile(snapshot.changes());
        prop_assert_eq!(graph.counts().pods, 0);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
