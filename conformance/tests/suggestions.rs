//! Suggested fixes over generated clusters: each, applied to the manifest, allows what was asked and changes exactly what it says.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use conformance::engine;
use conformance::generate::cluster;
use policy_core::compile::{Compiler, Options};
use policy_core::graph::AllowGraph;
use policy_core::manifest::{Snapshot, Syntax};
use policy_core::model::{Direction, ObjectKey};
use policy_core::sets::{PortSet, Protocol, Transport};
use policy_core::suggestion::patch::Patch;
use policy_core::suggestion::{Effect, Missing, Other, Party, Suggestion, suggest};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

/// What the policies of each pod allow with each other pod, by direction.
type Sides = BTreeMap<(ObjectKey, Direction, ObjectKey), PortSet>;

fn sides(graph: &AllowGraph, snapshot: &Snapshot) -> Sides {
    let mut out = Sides::new();
    let ends = |key: &ObjectKey| graph.pod(&key.namespace, &key.name).map(|pod| graph.endpoints_of(pod)).unwrap_or_default();
    for subject in snapshot.pods.keys() {
        for other in snapshot.pods.keys().filter(|other| *other != subject) {
            let mut of_direction = [PortSet::none(), PortSet::none()];
            for (end, far) in ends(subject).iter().flat_map(|end| ends(other).into_iter().map(move |far| (end, far))) {
                let (end, far) = (end.clone().in_family(far.family()), far.in_family(end.family()));
                if end.family() == far.family() {
                    of_direction[0] = of_direction[0].union(&graph.ports_between(&end, &far, false).0);
                    of_direction[1] = of_direction[1].union(&graph.ports_between(&far, &end, false).1);
                }
            }
            for (direction, ports) in Direction::ALL.into_iter().zip(of_direction) {
                out.insert((subject.clone(), direction, other.clone()), ports);
            }
        }
    }
    out
}

/// The objects after a suggestion.
fn applied(objects: &[Value], suggestion: &Suggestion) -> Vec<Value> {
    let mut objects = objects.to_vec();
    let operations = match &suggestion.patch {
        Patch::Add(object) => {
            objects.push(serde_json::to_value(object).expect("JSON"));
            return objects;
        }
        Patch::Edit(operations) => operations,
    };
    let (namespace, name) = suggestion.policy.split_once('/').expect("a namespace and a name");
    let is_it =
        |o: &&mut Value| o["kind"] == "NetworkPolicy" && o["metadata"]["namespace"] == namespace && o["metadata"]["name"] == name;
    let policy = objects.iter_mut().find(is_it).expect("the policy that is edited");
    for operation in operations {
        let value = serde_json::to_value(&operation.value).expect("JSON");
        let (parent, last) = operation.path.rsplit_once('/').expect("a pointer");
        let parent = policy.pointer_mut(parent).unwrap_or_else(|| panic!("{} leads nowhere", operation.path));
        match (operation.op, parent, last) {
            ("add", Value::Array(list), "-") => list.push(value),
            ("add", Value::Object(fields), last) => drop(fields.insert(last.to_owned(), value)),
            ("replace", parent, last) => {
                let place = match parent {
                    Value::Array(list) => list.get_mut(last.parse::<usize>().expect("an index")),
                    parent => parent.get_mut(last),
                };
                *place.unwrap_or_else(|| panic!("nothing to replace at {}", operation.path)) = value;
            }
            _ => panic!("{} {} leads nowhere", operation.op, operation.path),
        }
    }
    objects
}

fn add(out: &mut Sides, effects: &[Effect]) {
    for effect in effects {
        let Party::Pods(others) = &effect.other else { continue };
        for subject in &effect.subjects {
            for other in others.iter().filter(|other| *other != subject) {
                let ports = out.entry((subject.clone(), effect.direction, other.clone())).or_default();
                *ports = ports.union(&effect.ports);
            }
        }
    }
}

#[test]
fn suggested_fixes_do_what_they_say() {
    let config = Config { cases: 20_000, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    let (made, edits, others) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let result = TestRunner::new(config).run(&(cluster(), any::<prop::sample::Index>()), |(cluster, pick)| {
        // An edit names a list that the manifest has.
        let snapshot = engine::load(&cluster.objects, Syntax::Legacy);
        if snapshot.has_errors() {
            return Ok(());
        }
        let mut compiler = Compiler::new(Options::default());
        snapshot.changes().for_each(|change| compiler.apply(change));
        compiler.flush();
        let before = sides(compiler.graph(), &snapshot);
        let asked = PortSet::of(Protocol::Port(Transport::Tcp, 8080));
        // Pods that have addresses of their own: what is denied there is denied by policies.
        let graph = compiler.graph();
        let is_end = |key: &ObjectKey| {
            let addresses = graph.pod(&key.namespace, &key.name).map(|pod| graph.pod_addresses(pod)).unwrap_or_default();
            !addresses.is_empty() && addresses.iter().all(|address| graph.claimants(*address).len() == 1)
        };
        let denied: Vec<_> = before
            .iter()
            .filter(|((subject, _, other), ports)| is_end(subject) && is_end(other) && !asked.difference(ports).is_empty())
            .map(|(key, _)| key.clone())
            .collect();
        if denied.is_empty() {
            return Ok(());
        }
        let (subject, direction, other) = denied[pick.index(denied.len())].clone();
        let missing = Missing {
            subject: &snapshot.pods[&subject],
            direction,
            other: Other::Pod(&snapshot.pods[&other]),
            ports: &asked,
            subjects: &BTreeSet::from([subject.clone()]),
            others: &BTreeSet::from([other.clone()]),
        };
        let Some(suggestion) = suggest(&snapshot, &mut compiler, &missing) else { return Ok(()) };
        prop_assert_eq!(&sides(compiler.graph(), &snapshot), &before, "the objects are as before");
        made.set(made.get() + 1);
        edits.set(edits.get() + usize::from(suggestion.rule.is_some()));
        others.set(others.get() + usize::from(!suggestion.opens.is_empty()));
        let edited = engine::load(&applied(&cluster.objects, &suggestion), Syntax::Legacy);
        prop_assert!(!edited.has_errors(), "{:?}\n{}", edited.diagnostics, json!(suggestion));
        let after = sides(&engine::compile(edited.changes()), &edited);
        let mut expected = before.clone();
        add(&mut expected, &suggestion.opens);
        let mut closed = Sides::new();
        add(&mut closed, &suggestion.closes);
        for (key, ports) in closed {
            let have = expected.entry(key).or_default();
            *have = have.difference(&ports);
        }
        let own = expected.entry((subject, direction, other)).or_default();
        *own = own.union(&asked);
        for (key, ports) in &after {
            prop_assert_eq!(ports, &expected[key], "{:?}\n{}\n{:?}", key, json!(suggestion), suggestion);
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    println!("{} suggestions, {} of them of a rule, {} that open more", made.get(), edits.get(), others.get());
    assert!(made.get() > 300 && edits.get() > 0 && others.get() > 50);
}
