//! The enforcer on a fake kernel: whatever goes wrong, the table is what the objects say, or what it was before.

#![expect(clippy::expect_used, clippy::panic, reason = "a failing check panics")]

use conformance::engine;
use conformance::generate::{Cluster, cluster, mostly_as_before};
use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::NetfilterMessage;
use nftables::expr::{BinaryOperation, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, SetItem};
use nftables::stmt::{JumpTarget, Match, Operator, Statement, VerdictMap};
use policy_agent::enforcer::{Enforcer, Kind};
use policy_agent::kernel::encode::encode;
use policy_agent::kernel::fake::{FakeKernel, Table, Trouble};
use policy_core::compile;
use policy_core::manifest::{Snapshot, Syntax};
use policy_ruleset::{Contents, DenyLog, Op, Options, Ruleset, Transaction, render};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const OPTIONS: Options =
    Options { own_node_egress: policy_core::graph::OwnNodeEgress::Enforce, deny_log: Some(DenyLog::DEFAULT) };

fn scope() -> compile::Options {
    compile::Options { node: Some("n1".to_owned()), ..compile::Options::default() }
}

/// An enforcer and its kernel. `is_bound` says whether its door can ask for a generation.
fn enforcer(is_bound: bool) -> (Enforcer, FakeKernel) {
    let kernel = FakeKernel::new();
    let door = if is_bound { kernel.clone() } else { kernel.unbound() };
    (Enforcer::new(scope(), OPTIONS, Box::new(door), Box::new(kernel.clone())), kernel)
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
    ]
}

#[test]
fn any_sequence_of_troubles_ends_with_the_right_table() {
    let states = prop::collection::vec((cluster(), prop::collection::vec(trouble(), 0..4), any::<bool>()), 1..6);
    let is_new = prop::collection::vec(prop::bool::weighted(0.2), 23);
    check(2_000, (states, is_new, any::<bool>()), |(states, is_new, is_bound)| {
        let (mut enforcer, kernel) = enforcer(is_bound);
        let mut before = Snapshot::default();
        let mut last: Option<Cluster> = None;
        for (cluster, troubles, is_meddled) in states {
            let cluster = last.as_ref().map_or_else(|| cluster.clone(), |last| mostly_as_before(last, &cluster, &is_new));
            let after = snapshot(&cluster);
            enforcer.take(before.difference(&after));
            for trouble in troubles.into_iter().flatten() {
                kernel.expect(trouble);
            }
            if is_meddled && last.is_some() {
                kernel.meddle(|table| *table = None);
                enforcer.doubt();
            }
            // A refusal of everything is an error, and the table is as it was; the next flush tries again.
            for _ in 0..20 {
                let was = kernel.table();
                match enforcer.flush() {
                    Ok(_) => break,
                    // A door that cannot ask for a generation may add to what somebody else has just changed.
                    Err(_) if !is_bound => {}
                    Err(_) => {
                        // Nothing of ours took effect, or all of it; the rest is what somebody else did.
                        let flushed = |table: Option<Table>| {
                            let mut table = table;
                            table.iter_mut().flat_map(|t| t.chains.values_mut()).for_each(|(_, rules)| rules.clear());
                            table
                        };
                        let (now, right) = (kernel.table(), Some(scratch(&after)));
                        let possible = [was.clone(), flushed(was), right.clone(), flushed(right), None];
                        prop_assert!(possible.contains(&now), "{:?}", now);
                    }
                }
            }
            prop_assert!(enforcer.generation().is_some(), "it does not recover");
            prop_assert_eq!(kernel.table(), Some(scratch(&after)));
            prop_assert!(enforcer.flush().expect("nothing to do").is_none(), "there is always something to do");
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
        let mut peers = 1;
        let mut step = |enforcer: &mut Enforcer| {
            peers += 1;
            let next = with_peers(peers);
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
        enforcer.doubt();
        assert_eq!(step(&mut enforcer).kind, Kind::Repair);
        // Whatever else is in our table goes, and what cannot be kept is made anew.
        kernel.meddle(|table| {
            let table = table.as_mut().expect("a table");
            table.sets.insert("foreign".to_owned(), std::collections::BTreeSet::new());
            table.chains.insert("foreign".to_owned(), (Some(policy_ruleset::Hook::Input), Vec::new()));
        });
        enforcer.doubt();
        assert_eq!(step(&mut enforcer).kind, Kind::Repair);
        kernel.meddle(|table| {
            let forward = table.as_mut().and_then(|table| table.chains.get_mut("forward")).expect("a chain");
            forward.0 = Some(policy_ruleset::Hook::Input);
        });
        enforcer.doubt();
        assert_eq!(step(&mut enforcer).kind, Kind::Repair);
        assert_eq!(kernel.table(), Some(scratch(&with_peers(peers))));

        // Without an answer, a table that is there is not made anew: that would let packets through.
        enforcer.doubt();
        kernel.expect(Trouble::LoseRequest);
        assert!(enforcer.flush().is_err());
        assert_eq!(enforcer.flush().expect("it answers again").map(|done| done.kind), Some(Kind::Repair));

        // When nothing works, what was in force stays, and it is tried again.
        let was = kernel.table();
        // An update, a table that is kept, and one from scratch.
        for _ in 0..3 {
            kernel.expect(Trouble::Refuse);
        }
        enforcer.take(with_peers(peers).difference(&with_peers(0)));
        assert!(enforcer.flush().is_err());
        assert_eq!(kernel.table(), was);
        assert!(enforcer.generation().is_none());
        assert_eq!(enforcer.flush().expect("it works again").map(|done| done.kind), Some(Kind::Recovery));
        assert_eq!(kernel.table(), Some(scratch(&with_peers(0))));
    }
}

#[test]
fn big_fills_come_before_the_switch() {
    let many = with_peers(12_000);
    let (mut enforcer, kernel) = enforcer(true);
    enforcer.take(many.changes().collect());
    enforcer.flush().expect("applied");
    assert_eq!((kernel.applied(), kernel.table()), (2, Some(scratch(&many))));
    // A table that is there is replaced at once: nothing may be missing in between.
    enforcer.doubt();
    enforcer.flush().expect("applied");
    assert_eq!((kernel.applied(), kernel.table()), (3, Some(scratch(&many))));

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
    assert_eq!((kernel.applied(), kernel.table()), (3, Some(scratch(&many))));
}

#[test]
fn the_fake_refuses_what_nf_tables_refuses() {
    use policy_agent::kernel::doors::Door;
    let address = policy_ruleset::SetKind::Ranges(policy_core::sets::Family::V4);
    let ip = |text: &str| text.parse().expect("an address");
    let range = |low, high| policy_ruleset::Element::Range(ip(low), ip(high));
    let rule = |statement| nftables::schema::Rule {
        family: nftables::types::NfFamily::INet,
        table: "netpol".into(),
        chain: "a".into(),
        expr: vec![statement].into(),
        handle: None,
        index: None,
        comment: None,
    };
    let goto = |target: &'static str| Op::AddRule(rule(Statement::Goto(JumpTarget { target: target.into() })));
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
        let batch = encode(&transaction, Some(7), Default::default()).expect("the renderer makes nothing else");
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

/// Statements of all sorts, most of which the renderer never makes.
fn statement() -> impl Strategy<Value = Statement<'static>> {
    let word = || {
        prop::sample::select(&["tcp", "ip", "saddr", "state", "@p-x-4", "syn", "10.0.0.1", "fe80::1", "", "icmp", "65536"][..])
    };
    let text = move || word().prop_map(|w| Expression::String(w.into()));
    let field = (word(), word()).prop_map(|(protocol, field)| {
        let field = PayloadField { protocol: protocol.into(), field: field.into() };
        Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
    });
    let leaf = prop_oneof![
        text(),
        any::<u32>().prop_map(Expression::Number),
        any::<bool>().prop_map(Expression::Boolean),
        field,
        Just(Expression::Named(NamedExpression::Meta(Meta { key: MetaKey::L4proto }))),
        Just(Expression::Named(NamedExpression::Meta(Meta { key: MetaKey::Mark }))),
    ];
    let expression = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|parts| Expression::Named(NamedExpression::Concat(parts))),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Expression::List),
            prop::collection::vec(inner.clone(), 0..3)
                .prop_map(|parts| Expression::Named(NamedExpression::Set(parts.into_iter().map(SetItem::Element).collect()))),
            prop::collection::vec((inner.clone(), inner.clone()), 0..3).prop_map(|parts| {
                let items = parts.into_iter().map(|(a, b)| SetItem::Mapping(a, b)).collect();
                Expression::Named(NamedExpression::Set(items))
            }),
            (inner.clone(), inner).prop_map(|(a, b)| Expression::BinaryOperation(Box::new(BinaryOperation::AND(a, b)))),
        ]
    });
    let operator = prop::sample::select(&[Operator::EQ, Operator::NEQ, Operator::IN, Operator::LT][..]);
    prop_oneof![
        (expression.clone(), operator, expression.clone()).prop_map(|(left, op, right)| Statement::Match(Match {
            left,
            right,
            op
        })),
        (expression.clone(), expression).prop_map(|(key, data)| Statement::VerdictMap(VerdictMap { key, data })),
        word().prop_map(|w| Statement::Jump(JumpTarget { target: w.into() })),
        Just(Statement::Notrack),
        Just(Statement::Log(None)),
    ]
}

#[test]
fn the_encoder_refuses_what_it_does_not_know() {
    let rules = (prop::collection::vec(statement(), 0..4), prop::option::of(".{0,300}"));
    check(3_000, rules, |(statements, comment)| {
        let rule = nftables::schema::Rule {
            family: nftables::types::NfFamily::INet,
            table: "netpol".into(),
            chain: "a".into(),
            expr: statements.into(),
            handle: None,
            index: None,
            comment: comment.map(Into::into),
        };
        // Either way is fine; it must not panic, and what it writes must be understood.
        if let Ok(batch) = encode(&Transaction { ops: vec![Op::AddRule(rule)] }, None, Default::default()) {
            prop_assert_eq!(messages(&batch.bytes).len(), batch.steps.len() + 2);
        }
        Ok(())
    });
}
