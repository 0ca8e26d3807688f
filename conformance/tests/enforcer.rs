//! The enforcer on a fake kernel: whatever goes wrong, the table is what the objects say, or what it was before.

#![expect(clippy::expect_used, clippy::panic, reason = "a failing check panics")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use conformance::engine;
use conformance::generate::{Cluster, cluster, mostly_as_before};
use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::NetfilterMessage;
use policy_agent::enforcer::ruleset_file::{Saver, Store};
use policy_agent::enforcer::{Enforcer, Held, Kind};
use policy_agent::kernel::fake::{FakeKernel, Table, Trouble};
use policy_core::compile;
use policy_core::manifest::{Snapshot, Syntax};
use policy_core::model::Quarantine;
use policy_core::sets::{Family, Transport};
use policy_ruleset::netlink::{Messages, encode};
use policy_ruleset::rule::{
    AddressField, AddressRange, ConnectionState, Header, Icmpv6Type, IpProtocol, Key, PortRange, Side, Statement, VerdictMap,
};
use policy_ruleset::{Contents, DenyLog, Op, Options, Rule, Ruleset, Transaction, render};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const OPTIONS: Options =
    Options { own_node_egress: policy_core::graph::OwnNodeEgress::Enforce, deny_log: Some(DenyLog::DEFAULT) };

fn scope() -> compile::Options {
    compile::Options { node: Some("n1".to_owned()), ..compile::Options::default() }
}

/// An enforcer and its kernel. `is_bound` says whether its applier can ask for a generation.
fn enforcer(is_bound: bool) -> (Enforcer, FakeKernel) {
    let kernel = FakeKernel::new();
    let applier = if is_bound { kernel.clone() } else { kernel.unbound() };
    (through(applier, &kernel), kernel)
}

fn through(applier: FakeKernel, kernel: &FakeKernel) -> Enforcer {
    Enforcer::new(scope(), OPTIONS, Box::new(applier), Box::new(kernel.clone()))
}

/// What the agent does with what the monitor reports.
fn listen(enforcer: &mut Enforcer, kernel: &FakeKernel) -> bool {
    // Each of them is handed over, whatever the ones before it call for.
    let calls: Vec<bool> = kernel.reports().into_iter().map(|report| enforcer.touched(report)).collect();
    calls.contains(&true)
}

/// What a table from scratch would hold.
fn scratch(snapshot: &Snapshot) -> Table {
    let mut compiler = compile::Compiler::new(scope());
    snapshot.changes().for_each(|change| compiler.apply(change));
    compiler.flush();
    let Ruleset { sets, chains, .. } = render(&compiler.graph().node_plan(), &OPTIONS).filled(compiler.graph());
    let elements = |contents| match contents {
        Contents::Fixed(elements) => elements,
        other => panic!("{other:?} is not filled in"),
    };
    Table {
        sets: sets.into_iter().map(|(name, set)| (name, elements(set.contents))).collect(),
        chains: chains.into_iter().map(|(name, chain)| (name, (chain.hook, chain.rules))).collect(),
        strangers: 0,
    }
}

fn snapshot(cluster: &Cluster) -> Snapshot {
    engine::load(&cluster.objects, Syntax::Legacy)
}

fn check<T: std::fmt::Debug>(cases: u32, strategy: impl Strategy<Value = T>, test: impl Fn(T) -> Result<(), TestCaseError>) {
    let factor: u32 = std::env::var("NETPOL_CLUSTERS").ok().and_then(|v| v.parse().ok()).unwrap_or(1);
    let config = Config { cases: cases * factor, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&strategy, test).unwrap_or_else(|e| panic!("{e}"));
}

fn trouble() -> impl Strategy<Value = Option<Trouble>> {
    prop_oneof![
        4 => Just(None),
        1 => Just(Some(Trouble::Refuse)),
        1 => Just(Some(Trouble::LoseAnswer)),
        1 => Just(Some(Trouble::LoseRequest)),
        1 => Just(Some(Trouble::OtherTable)),
        1 => Just(Some(Trouble::OurTable)),
        1 => Just(Some(Trouble::OurChains)),
        1 => Just(Some(Trouble::Overflow)),
        1 => Just(Some(Trouble::Gap)),
    ]
}

#[test]
fn any_sequence_of_troubles_ends_with_the_right_table() {
    let states = prop::collection::vec((cluster(), prop::collection::vec(trouble(), 0..4), any::<bool>(), 0..4_usize), 1..6);
    let is_new = prop::collection::vec(prop::bool::weighted(0.2), 23);
    check(2_000, (states, is_new, 0..3_u8), |(states, is_new, applier)| {
        let kernel = FakeKernel::new();
        let is_bound = applier != 1;
        let applier =
            [kernel.clone(), kernel.unbound(), kernel.protecting()].into_iter().nth(applier.into()).expect("an applier");
        let mut enforcer = through(applier, &kernel);
        let mut before = Snapshot::default();
        let mut last: Option<Cluster> = None;
        for (cluster, troubles, is_meddled, interruptions) in states {
            let cluster = last.as_ref().map_or_else(|| cluster.clone(), |last| mostly_as_before(last, &cluster, &is_new));
            let after = snapshot(&cluster);
            enforcer.take(before.difference(&after));
            for trouble in troubles.into_iter().flatten() {
                kernel.expect(trouble);
            }
            kernel.interrupt(interruptions);
            if is_meddled && last.is_some() && !kernel.is_owned() {
                kernel.meddle(|table| *table = None);
            }
            listen(&mut enforcer, &kernel);
            // A refusal of everything is an error, and the table is as it was; the next flush tries again.
            for _ in 0..30 {
                let was = kernel.table();
                let result = enforcer.flush();
                if result.is_err() && is_bound {
                    // Nothing of ours took effect, or all of it; the rest is what somebody else did. An applier that cannot ask for a
                    // generation may add to what somebody else has just changed.
                    let flushed = |table: Option<Table>| {
                        let mut table = table;
                        table.iter_mut().flat_map(|t| t.chains.values_mut()).for_each(|(_, rules)| rules.clear());
                        table
                    };
                    let (now, right) = (kernel.table(), Some(scratch(&after)));
                    let possible = [was.clone(), flushed(was), right.clone(), flushed(right), None];
                    prop_assert!(possible.contains(&now), "{:?}", now);
                }
                let must_flush = listen(&mut enforcer, &kernel);
                if result.is_ok() && !must_flush {
                    break;
                }
            }
            prop_assert!(enforcer.generation().is_some(), "it does not recover");
            prop_assert_eq!(kernel.table(), Some(scratch(&after)));
            prop_assert!(enforcer.flush().expect("nothing to do").is_none(), "there is always something to do");
            prop_assert_eq!(kernel.guard(), None);
            (before, last) = (after, Some(cluster));
        }
        Ok(())
    });
}

const ONE: &str = r#"[
{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"x"}},
{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"x","labels":{"app":"a"}},"spec":{"nodeName":"n1","containers":[]},"status":{"phase":"Running","podIP":"10.0.0.1"}},
{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"p","namespace":"x"},"spec":{"podSelector":{"matchLabels":{"app":"a"}},"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"b"}}}]}]}}
]"#;

/// The cluster above, with this many peers on another node.
fn with_peers(count: usize) -> Snapshot {
    let mut objects: Vec<serde_json::Value> = serde_json::from_str(ONE).expect("JSON");
    for i in 0..count {
        objects.push(serde_json::json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("b{i}"), "namespace": "x", "labels": {"app": "b"}},
            "spec": {"nodeName": "n2", "containers": []},
            "status": {"phase": "Running", "podIP": format!("10.1.{}.{}", i / 256, i % 256)}}));
    }
    engine::load(&objects, Syntax::Legacy)
}

#[test]
fn what_goes_wrong_decides_how_the_table_is_written() {
    for is_bound in [true, false] {
        let (mut enforcer, kernel) = enforcer(is_bound);
        let mut now = Snapshot::default();
        let peers = std::cell::Cell::new(1);
        let mut step = |enforcer: &mut Enforcer| {
            peers.set(peers.get() + 1);
            let next = with_peers(peers.get());
            enforcer.take(now.difference(&next));
            now = next;
            enforcer.flush().expect("it ends well").expect("there is something to do")
        };
        assert_eq!(step(&mut enforcer).kind, Kind::Start);
        let done = step(&mut enforcer);
        assert_eq!((done.kind, done.steps, done.elements), (Kind::Update, 1, 1), "one peer is one element");
        // Others change other tables: nothing is replaced for that.
        kernel.expect(Trouble::OtherTable);
        assert_eq!(step(&mut enforcer).kind, Kind::Update);
        kernel.expect(Trouble::Refuse);
        assert_eq!(step(&mut enforcer).kind, Kind::Recovery);
        kernel.expect(Trouble::LoseAnswer);
        assert_eq!(step(&mut enforcer).kind, Kind::Recovery);
        kernel.expect(Trouble::OurTable);
        assert_ne!(step(&mut enforcer).kind, Kind::Update, "the table was gone, and an element is not enough");
        kernel.expect(Trouble::OurChains);
        assert_eq!(step(&mut enforcer).kind, Kind::Repair, "an element fits, but the rules are gone");
        enforcer.invalidate();
        assert_eq!(step(&mut enforcer).kind, Kind::Repair);
        // Whatever else is in our table goes, and what cannot be kept is made anew.
        kernel.meddle(|table| {
            let table = table.as_mut().expect("a table");
            table.sets.insert("foreign".to_owned(), std::collections::BTreeSet::new());
            table.chains.insert("foreign".to_owned(), (Some(policy_ruleset::Hook::Input), Vec::new()));
        });
        enforcer.invalidate();
        assert_eq!(step(&mut enforcer).kind, Kind::Repair);
        kernel.meddle(|table| {
            let forward = table.as_mut().and_then(|table| table.chains.get_mut("forward")).expect("a chain");
            forward.0 = Some(policy_ruleset::Hook::Input);
        });
        enforcer.invalidate();
        assert_eq!(step(&mut enforcer).kind, Kind::Repair);
        assert_eq!(kernel.table(), Some(scratch(&with_peers(peers.get()))));
        kernel.meddle(|table| table.as_mut().expect("a table").strangers = 3);
        enforcer.invalidate();
        assert_eq!(step(&mut enforcer).kind, Kind::Repair);
        assert_eq!(kernel.table(), Some(scratch(&with_peers(peers.get()))));
        assert!(!kernel.was_open() && kernel.guard().is_none(), "a guard filtered while the table was made anew");

        // Listings that others interrupt are repeated.
        enforcer.invalidate();
        kernel.interrupt(7);
        assert_eq!(step(&mut enforcer).kind, Kind::Repair);

        // Without an answer, a table that is there is not made anew: that would let packets through.
        enforcer.invalidate();
        kernel.expect(Trouble::LoseRequest);
        assert!(enforcer.flush().is_err());
        assert_eq!(enforcer.flush().expect("it answers again").map(|done| done.kind), Some(Kind::Repair));

        // When nothing works, what was in force stays, and it is tried again.
        let was = kernel.table();
        // An update, a table that is changed in place, and the guard of one that is made anew.
        for _ in 0..3 {
            kernel.expect(Trouble::Refuse);
        }
        enforcer.take(with_peers(peers.get()).difference(&with_peers(0)));
        assert!(enforcer.flush().is_err());
        assert_eq!(kernel.table(), was);
        assert!(enforcer.generation().is_none());
        assert_eq!(enforcer.flush().expect("it works again").map(|done| done.kind), Some(Kind::Recovery));
        assert_eq!(kernel.table(), Some(scratch(&with_peers(0))));
    }
}

#[test]
fn what_others_do_elsewhere_is_not_ours() {
    for applier in [FakeKernel::new(), FakeKernel::new().unbound(), FakeKernel::new().protecting()] {
        let kernel = applier.clone();
        let mut enforcer = through(applier, &kernel);
        enforcer.take(with_peers(1).changes().collect());
        enforcer.flush().expect("in force");
        assert!(!listen(&mut enforcer, &kernel), "what we did is not a change of somebody else");
        for peers in 2..40 {
            kernel.change_elsewhere();
            assert!(!listen(&mut enforcer, &kernel));
            enforcer.take(with_peers(peers - 1).difference(&with_peers(peers)));
            assert_eq!(enforcer.flush().expect("in force").map(|done| done.kind), Some(Kind::Update));
        }
        assert_eq!(kernel.table(), Some(scratch(&with_peers(39))));
    }
}

#[test]
fn lost_announcements_matter_where_others_can_change_the_table() {
    for trouble in [Trouble::Overflow, Trouble::Gap] {
        for is_protected in [false, true] {
            let kernel = FakeKernel::new();
            let applier = if is_protected { kernel.protecting() } else { kernel.clone() };
            let mut enforcer = through(applier, &kernel);
            enforcer.take(with_peers(1).changes().collect());
            enforcer.flush().expect("in force");
            listen(&mut enforcer, &kernel);
            // Somebody flushes our chains, if that is possible, and it is not announced.
            kernel.expect(trouble.clone());
            enforcer.take(with_peers(1).difference(&with_peers(2)));
            let kind = enforcer.flush().expect("in force").map(|done| done.kind);
            assert_eq!(kind, Some(if is_protected { Kind::Update } else { Kind::Repair }), "{trouble:?}");
            if listen(&mut enforcer, &kernel) {
                assert!(!is_protected);
                enforcer.flush().expect("in force");
            }
            assert_eq!(kernel.table(), Some(scratch(&with_peers(2))), "{trouble:?}");
        }
    }
}

/// A table that an agent made through this applier and left.
fn left_behind(applier: FakeKernel, kernel: &FakeKernel, snapshot: &Snapshot) {
    let mut enforcer = through(applier, kernel);
    enforcer.take(snapshot.changes().collect());
    enforcer.flush().expect("in force");
    kernel.close();
    let _ = kernel.reports();
}

#[test]
fn a_table_becomes_protected_without_a_packet_passing() {
    // What is tried: the table in place, the guard, the table behind it, the removal of the guard. Any of these may be refused.
    for (is_bound, refused) in [true, false].into_iter().flat_map(|is_bound| (0..5).map(move |refused| (is_bound, refused))) {
        let kernel = FakeKernel::new();
        left_behind(if is_bound { kernel.clone() } else { kernel.unbound() }, &kernel, &with_peers(1));
        let mut enforcer = through(kernel.protecting(), &kernel);
        assert_eq!(enforcer.hold(&[]).expect("it is there"), Held::Kept { is_protected: false });
        assert!(!kernel.is_owned());
        enforcer.take(with_peers(2).changes().collect());
        if let Some(before) = usize::checked_sub(refused, 1) {
            (0..before).for_each(|_| kernel.expect(Trouble::Nothing));
            kernel.expect(Trouble::Refuse);
        }
        let result = enforcer.flush();
        let possible = [scratch(&with_peers(1)), scratch(&with_peers(2))];
        assert!(kernel.table().is_some_and(|table| possible.contains(&table)), "{refused}");
        if result.is_err() {
            enforcer.flush().expect("in force");
        }
        assert_eq!(kernel.table(), Some(scratch(&with_peers(2))));
        assert!(kernel.is_owned() && !kernel.was_open() && kernel.guard().is_none(), "{refused}");
    }
}

/// Sandboxes with one address each.
fn sandboxes(addresses: &[&str]) -> Vec<Quarantine> {
    let sandbox = |address: &&str| Quarantine {
        holder: format!("sandbox {address}"),
        addresses: vec![address.parse().expect("an address")],
    };
    addresses.iter().map(sandbox).collect()
}

/// What was saved of a cluster, in a folder.
fn saved(kernel: &FakeKernel, snapshot: &Snapshot, known: &[Quarantine]) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::beside(&folder.path().join("agent.sock"), "n1");
    let mut compiler = compile::Compiler::new(scope());
    snapshot.changes().for_each(|change| compiler.apply(change));
    compiler.flush();
    let ruleset = render(&compiler.graph().node_plan(), &OPTIONS);
    let transaction = Transaction::restart(&ruleset, compiler.graph(), false);
    let contents = Messages::new(&transaction);
    kernel.learn(contents.clone(), transaction);
    store.write(&contents, known, std::time::SystemTime::now()).expect("written");
    (folder, store)
}

#[test]
fn what_an_earlier_agent_left_is_protected_at_once() {
    let kernel = FakeKernel::new();
    left_behind(kernel.protecting(), &kernel, &with_peers(1));
    let mut enforcer = through(kernel.protecting(), &kernel);
    // Nothing is known yet, and there is a moment in which others can change it: they do, elsewhere.
    kernel.expect(Trouble::OtherTable);
    kernel.interrupt(2);
    let held = enforcer.hold(&sandboxes(&["10.0.0.7"])).expect("it is there");
    assert_eq!(held, Held::Kept { is_protected: true });
    assert!(enforcer.holds_earlier() && kernel.is_owned());
    assert_eq!(kernel.table(), Some(scratch(&with_peers(1))), "nothing else is changed");
    assert!(!listen(&mut enforcer, &kernel), "that was us");
    assert_eq!(enforcer.hold(&[]).expect("it is there"), Held::Kept { is_protected: true });
    // Another agent is refused.
    assert!(through(kernel.protecting(), &kernel).hold(&[]).is_err());
    enforcer.take(with_peers(2).changes().collect());
    assert_eq!(enforcer.flush().expect("in force").map(|done| done.kind), Some(Kind::Start));
    assert_eq!((kernel.table(), kernel.was_open()), (Some(scratch(&with_peers(2))), false));
    assert!(!enforcer.holds_earlier());
}

#[test]
fn a_table_that_is_gone_is_restored_from_disk_and_from_records() {
    let old = with_peers(3);
    let all = sandboxes(&["10.0.0.1", "10.0.0.7"]);
    for damage in ["gone", "empty", "flushed"] {
        let kernel = FakeKernel::new();
        left_behind(kernel.protecting(), &kernel, &old);
        // The ruleset was saved when there was one sandbox.
        let (_folder, store) = saved(&kernel, &old, &all[..1]);
        kernel.meddle(|table| match damage {
            "gone" => *table = None,
            "empty" => *table = Some(Table::default()),
            _ => table.iter_mut().flat_map(|table| table.chains.values_mut()).for_each(|(_, rules)| rules.clear()),
        });
        // Nobody listened then.
        let _ = kernel.reports();
        let saver = || Saver::start(store.clone()).expect("a thread");
        let mut enforcer = through(kernel.clone(), &kernel).with_saver(saver());
        let held = enforcer.hold(&all).expect("restored");
        assert!(matches!(held, Held::Restored { closed: 1, .. }), "{damage}: {held}");
        assert!(enforcer.holds_earlier() && !matches!(held, Held::Kept { .. }));
        let check = |kernel: &FakeKernel| {
            let table = kernel.table().expect("a table");
            let mut expected = scratch(&old);
            // What joins it is the closing of the sandbox that came later, with a chain of its own where packets enter.
            assert_eq!(table.sets["quarantine4"].len(), 1);
            assert!(table.chains.contains_key("unknown-forward") && table.chains.contains_key("quarantine.deny"));
            expected.sets.retain(|name, elements| table.sets[name] != *elements);
            let joined = ["first-packets", "source-routes"];
            expected.chains.retain(|name, chain| !joined.contains(&name.as_str()) && table.chains[name] != *chain);
            assert_eq!(expected, Table::default());
            assert_eq!(kernel.guard(), None);
        };
        check(&kernel);
        // It is lost again while the sources are silent: through this applier, anybody can do that.
        assert!(!listen(&mut enforcer, &kernel));
        kernel.meddle(|table| *table = None);
        assert!(listen(&mut enforcer, &kernel));
        enforcer.hold(&all).expect("restored");
        check(&kernel);
        // And it is changed in a way that leaves it there: then a guard filters meanwhile.
        kernel.meddle(|table| table.iter_mut().flat_map(|table| table.chains.values_mut()).for_each(|(_, rules)| rules.clear()));
        assert!(listen(&mut enforcer, &kernel));
        enforcer.hold(&all).expect("restored");
        check(&kernel);
        assert!(!kernel.was_open(), "{damage}");
        // What the sources say takes its place.
        enforcer.take(with_peers(1).changes().collect());
        assert_eq!(enforcer.flush().expect("in force").map(|done| done.kind), Some(Kind::Start));
        assert_eq!(kernel.table(), Some(scratch(&with_peers(1))));
    }
}

#[test]
fn without_a_usable_ruleset_every_sandbox_is_closed() {
    let kernel = FakeKernel::new();
    let (folder, store) = saved(&kernel, &with_peers(3), &[]);
    std::fs::write(folder.path().join("last-ruleset"), "torn").expect("written");
    let mut enforcer = through(kernel.protecting(), &kernel).with_saver(Saver::start(store).expect("a thread"));
    let held = enforcer.hold(&[]).expect("nothing to do");
    assert!(matches!(&held, Held::Nothing { why } if why.contains("last-ruleset")), "{held}");
    assert_eq!(kernel.table(), None);
    let held = enforcer.hold(&sandboxes(&["10.0.0.1", "10.0.0.7"])).expect("closed");
    assert!(matches!(&held, Held::Closed { closed: 2, why } if why.contains("last-ruleset")), "{held}");
    assert!(!enforcer.holds_earlier(), "a part of what there is would be worth more");
    assert_eq!(kernel.table().map(|table| table.sets["quarantine4"].len()), Some(2));
    assert!(kernel.is_owned());
}

#[test]
fn what_is_in_force_is_saved_after_a_while() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::beside(&folder.path().join("agent.sock"), "n1");
    let (enforcer, kernel) = enforcer(true);
    let mut enforcer = enforcer.with_saver(Saver::start(store.clone()).expect("a thread"));
    let now = std::time::Instant::now();
    let later = |seconds| now + std::time::Duration::from_secs(seconds);
    let known = sandboxes(&["10.0.0.1"]);
    assert_eq!(enforcer.save_due(now, || unreachable!()), None, "nothing is in force");
    enforcer.take(with_peers(3).changes().collect());
    enforcer.flush().expect("in force");
    assert!(enforcer.save_due(now, || unreachable!()) > Some(now), "what changes next goes into the same");
    let next = enforcer.save_due(later(3), || known.clone());
    assert!(next > Some(later(60)), "nothing has changed since");
    let read = || loop {
        if let Some(saved) = store.read(std::time::SystemTime::now()).expect("readable") {
            break saved;
        }
        std::thread::yield_now();
    };
    assert_eq!(read().known, known);
    let transaction = Transaction::restart(enforcer.ruleset(), enforcer.graph(), false);
    assert_eq!(read().contents, Messages::new(&transaction));
    // An element is worth less haste than a rule.
    enforcer.take(with_peers(3).difference(&with_peers(4)));
    enforcer.flush().expect("in force");
    assert!(enforcer.save_due(later(5), || unreachable!()) > Some(later(5)));
    assert!(enforcer.save_due(later(30), Vec::new) > Some(later(60)));
    // What is not known to be in force is not saved.
    enforcer.take(with_peers(4).difference(&with_peers(0)));
    enforcer.flush().expect("in force");
    kernel.meddle(|table| *table = None);
    assert!(listen(&mut enforcer, &kernel));
    assert!(enforcer.save_due(later(60), || unreachable!()) > Some(later(60)));
}

#[test]
fn big_fills_come_before_the_switch() {
    let many = with_peers(12_000);
    let (mut enforcer, kernel) = enforcer(true);
    enforcer.take(many.changes().collect());
    enforcer.flush().expect("applied");
    assert_eq!(kernel.table(), Some(scratch(&many)));
    let applied = kernel.applied();
    assert!(applied > 3, "the fill of 12,000 elements was one transaction");
    // The sets and rules of a table that is there are replaced at once: nothing may be missing in between.
    enforcer.invalidate();
    enforcer.flush().expect("applied");
    assert_eq!(kernel.table(), Some(scratch(&many)));
    assert!(kernel.applied() <= applied + 2, "what was there was replaced in parts");

    // A peer set that comes later is filled before anything refers to it, and a switch that fails leaves the old rules.
    let (mut enforcer, kernel) = self::enforcer(true);
    let mut few = with_peers(12_000);
    let policy = few.policies.keys().next().expect("a policy").clone();
    few.policies.remove(&policy);
    enforcer.take(few.changes().collect());
    enforcer.flush().expect("applied");
    kernel.expect(Trouble::OtherTable);
    enforcer.take(few.difference(&many));
    assert_eq!(enforcer.flush().expect("applied").map(|done| done.kind), Some(Kind::Update));
    assert_eq!(kernel.table(), Some(scratch(&many)));
    assert!(kernel.applied() > 4, "the fill of 12,000 elements was one transaction");
}

#[test]
fn the_fake_refuses_what_nf_tables_refuses() {
    use policy_agent::kernel::applier::Applier;
    let address = policy_ruleset::SetKind::Ranges(policy_core::sets::Family::V4);
    let ip = |text: &str| text.parse().expect("an address");
    let range = |low, high| policy_ruleset::Element::Range(ip(low), ip(high));
    let goto = |target: &str| {
        let rule = Rule::new([Statement::Goto(target.to_owned())], "");
        Op::AddRule { chain: "a".to_owned(), rule }
    };
    let chain = |name: &str| Op::AddChain { name: name.to_owned(), hook: None };
    let set = || Op::AddSet { name: "s".to_owned(), kind: address };
    let add = |elements| Op::AddElements { set: "s".to_owned(), kind: address, elements };
    let refused: [(&str, Vec<Op>); 7] = [
        ("no table", vec![chain("a")]),
        ("no chain", vec![Op::AddTable, goto("b")]),
        ("no target", vec![Op::AddTable, chain("a"), goto("b")]),
        ("a loop", vec![Op::AddTable, chain("a"), goto("a")]),
        ("in use", vec![Op::AddTable, chain("a"), chain("b"), goto("b"), Op::DeleteChain { name: "b".to_owned() }]),
        ("overlap", vec![Op::AddTable, set(), add(vec![range("10.0.0.0", "10.0.0.9"), range("10.0.0.9", "10.0.0.10")])]),
        (
            "not there",
            vec![
                Op::AddTable,
                set(),
                Op::DeleteElements { set: "s".to_owned(), kind: address, elements: vec![range("10.0.0.0", "10.0.0.9")] },
            ],
        ),
    ];
    for (why, ops) in refused {
        let mut kernel = FakeKernel::new();
        assert!(kernel.apply(&Transaction { ops }, None).is_err(), "{why}");
        assert_eq!(kernel.table(), None, "{why}: a part of it took effect");
    }
}

/// The messages of a batch, each understood.
fn messages(bytes: &[u8]) -> Vec<NetlinkMessage<NetfilterMessage>> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = NetlinkBuffer::new_checked(rest).expect("a header").length() as usize;
        out.push(NetlinkMessage::deserialize(rest).expect("a message"));
        rest = rest.get(length.next_multiple_of(4)..).expect("aligned");
    }
    out
}

#[test]
fn batches_are_messages_one_after_the_other() {
    check(300, cluster(), |cluster| {
        let mut compiler = compile::Compiler::new(scope());
        snapshot(&cluster).changes().for_each(|change| compiler.apply(change));
        compiler.flush();
        let ruleset = render(&compiler.graph().node_plan(), &OPTIONS);
        let transaction = Transaction::replace(&ruleset, compiler.graph());
        let batch = encode(&transaction, Some(7), Default::default());
        let messages = messages(&batch.bytes);
        prop_assert_eq!(messages.len(), batch.steps.len() + 2, "begin and end");
        for (number, message) in messages.iter().enumerate() {
            prop_assert_eq!(message.header.sequence_number as usize, number);
            prop_assert!(matches!(message.payload, NetlinkPayload::InnerMessage(_)));
        }
        prop_assert!(batch.steps.is_sorted() && batch.steps.last() == Some(&(transaction.ops.len() - 1)));
        Ok(())
    });
}

fn key() -> impl Strategy<Value = Key> {
    let family = || prop::sample::select(&[Family::V4, Family::V6][..]);
    let side = || prop::sample::select(&[Side::Source, Side::Destination][..]);
    let field = || (family(), side()).prop_map(|(family, side)| AddressField { family, side });
    prop_oneof![
        Just(Key::Interface),
        field().prop_map(Key::Address),
        family().prop_map(Key::Pair),
        family().prop_map(Key::Source),
        field().prop_map(Key::Port),
        (field(), 1..32u8).prop_map(|(field, length)| Key::NetworkPort(field, length)),
        (family(), side()).prop_map(|(family, first)| Key::CutFlow { family, first }),
        (family(), side()).prop_map(|(family, first)| Key::CutPair { family, first }),
    ]
}

/// Statements of all sorts, whether or not the renderer makes them.
fn statement() -> impl Strategy<Value = Statement> {
    const TYPES: &[Icmpv6Type] = &[Icmpv6Type::NdRedirect, Icmpv6Type::Mld2ListenerReport];
    let name = || "[a-z]{0,40}";
    let side = prop::sample::select(&[Side::Source, Side::Destination][..]);
    let transport = || prop::sample::select(&Transport::ALL[..]);
    let addresses = |most| {
        let v4 = prop::collection::vec(any::<Ipv4Addr>().prop_map(IpAddr::V4), 1..most);
        prop_oneof![v4, prop::collection::vec(any::<Ipv6Addr>().prop_map(IpAddr::V6), 1..most)]
    };
    let range = addresses(3).prop_map(|ends| {
        let (first, last) = (ends.iter().min().expect("an end"), ends.iter().max().expect("an end"));
        AddressRange::new(*first, *last)
    });
    let family = || prop::sample::select(&[Family::V4, Family::V6][..]);
    let ports = any::<(u16, u16)>().prop_map(|(a, b)| PortRange { low: a.min(b), high: a.max(b) });
    let entries = 0..4usize;
    let map = prop_oneof![
        (side.clone(), addresses(4), name()).prop_map(|(side, addresses, chain)| {
            let field = AddressField { family: Family::of(*addresses.first().expect("an address")), side };
            VerdictMap::Addresses { field, chains: addresses.into_iter().map(|address| (address, chain.clone())).collect() }
        }),
        prop::collection::vec((transport(), any::<u16>(), name()), entries.clone()).prop_map(VerdictMap::Ports),
        (transport(), prop::collection::vec((ports, name()), entries))
            .prop_map(|(transport, chains)| VerdictMap::PortRanges { transport, chains }),
    ];
    let plain = prop::sample::select(vec![
        Statement::OfProtocol(IpProtocol::Icmp),
        Statement::InState(ConnectionState::Related),
        Statement::IsTranslated,
        Statement::OpensNoConnection,
        Statement::HasIpv4Options,
        Statement::HasHeader(Header::Routing),
        Statement::HasHeader(Header::StrictSourceRoute),
        Statement::OfIcmpv6Types(TYPES),
        Statement::OfIcmpv6Types(&[]),
        Statement::Counter,
        Statement::Return,
        Statement::Accept,
        Statement::Drop,
    ]);
    prop_oneof![
        plain,
        (key(), name()).prop_map(|(key, set)| Statement::InSet { key, set }),
        (key(), name()).prop_map(|(key, set)| Statement::Update { set, key }),
        (side, range).prop_map(|(side, range)| Statement::InRange { side, range }),
        (transport(), any::<u16>()).prop_map(|(transport, port)| Statement::ToPort(transport, port)),
        family().prop_map(Statement::OfFamily),
        any::<u8>().prop_map(Statement::HopLimit),
        map.prop_map(Statement::VerdictMap),
        any::<(u32, u32)>().prop_map(|(rate, burst)| Statement::Limit { rate, burst }),
        (name(), any::<u16>(), any::<u32>()).prop_map(|(prefix, group, snaplen)| Statement::Log { prefix, group, snaplen }),
        name().prop_map(Statement::Jump),
        name().prop_map(Statement::Goto),
    ]
}

#[test]
fn every_rule_has_a_form_in_netlink_and_in_json() {
    check(3_000, (prop::collection::vec(statement(), 0..4), ".{0,300}"), |(statements, comment)| {
        let ops = vec![Op::AddRule { chain: "a".to_owned(), rule: Rule::new(statements, &comment) }];
        let transaction = Transaction { ops };
        let batch = encode(&transaction, None, Default::default());
        prop_assert_eq!(messages(&batch.bytes).len(), batch.steps.len() + 2);
        prop_assert!(transaction.to_json().is_ok());
        Ok(())
    });
}
