//! Both ways into the kernel leave the same table, byte for byte: over the corpus, and over sequences of transactions.

#![expect(clippy::expect_used, clippy::panic, reason = "a failing check panics")]

use std::collections::BTreeSet;

use conformance::case::{folder, is_verdicts, manifests, read_all};
use conformance::engine;
use conformance::generate::{cluster, mostly_as_before};
use conformance::lab::{self, Namespace};
use policy_agent::kernel::applier::{Applier, NetlinkApplier, NftApplier};
use policy_core::compile::{Compiler, Options};
use policy_core::manifest::{Snapshot, Syntax};
use policy_ruleset::{DenyLog, Transaction, render};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const OPTIONS: policy_ruleset::Options =
    policy_ruleset::Options { own_node_egress: policy_core::graph::OwnNodeEgress::Enforce, deny_log: Some(DenyLog::DEFAULT) };

/// Two kernels, each with its own way in.
struct Appliers {
    netlink: Namespace,
    nft: Namespace,
}

impl Appliers {
    fn new() -> Self {
        Self { netlink: Namespace::new("netlink"), nft: Namespace::new("nft") }
    }

    fn apply(&self, transaction: &Transaction) {
        let (one, other) = (transaction.clone(), transaction.clone());
        self.netlink
            .run(move || NetlinkApplier::open().expect("a socket").apply(&one, None).map_err(|e| e.to_string()))
            .unwrap_or_else(|e| panic!("netlink: {e}"));
        self.nft.run(move || NftApplier.apply(&other, None).map_err(|e| e.to_string())).unwrap_or_else(|e| panic!("nft: {e}"));
    }

    fn listed(&self) -> [String; 2] {
        [&self.netlink, &self.nft].map(list)
    }
}

fn list(namespace: &Namespace) -> String {
    namespace.command("nft", &["list", "table", "inet", "netpol"])
}

/// The sets and chains of a listing. The kernel lists them in the order in which they were made.
fn blocks(listing: &str) -> BTreeSet<&str> {
    let inside = listing.trim_start_matches("table inet netpol {").trim_end().trim_end_matches('}');
    inside.split("\n\n").map(str::trim).collect()
}

fn compiler(snapshot: &Snapshot, node: &str) -> Compiler {
    let mut compiler = Compiler::new(Options { node: Some(node.to_owned()), ..Options::default() });
    snapshot.changes().for_each(|change| compiler.apply(change));
    compiler.flush();
    compiler
}

#[test]
fn corpus_is_the_same_through_both() {
    if !lab::is_available(&["nft", "ip"]) {
        return;
    }
    let appliers = Appliers::new();
    let mut checked = 0;
    let cases = read_all(&folder());
    for section in cases.iter().flat_map(|case| &case.sections).filter(|section| is_verdicts(section)) {
        let snapshot = engine::load_text(&manifests(section), Syntax::Legacy);
        for node in ["n1", "n2", "n3"] {
            let compiler = compiler(&snapshot, node);
            let ruleset = render(&compiler.graph().node_plan(), &OPTIONS);
            appliers.apply(&Transaction::replace(&ruleset, compiler.graph()));
            let [netlink, nft] = appliers.listed();
            assert_eq!(netlink, nft);
            // What is printed for people loads as the same table.
            appliers.nft.command_with("nft", &["-f", "-"], &ruleset.filled(compiler.graph()).to_text());
            assert_eq!(blocks(&list(&appliers.nft)), blocks(&nft));
            checked += 1;
        }
    }
    assert!(checked > 300, "{checked} tables");
}

#[test]
fn sequences_are_the_same_through_both() {
    if !lab::is_available(&["nft", "ip"]) {
        return;
    }
    let appliers = Appliers::new();
    let fresh = Namespace::new("from scratch");
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    let states = (prop::collection::vec(cluster(), 2..6), prop::collection::vec(prop::bool::weighted(0.2), 23));
    let mut runner = TestRunner::new(config);
    let result = runner.run(&states, |(mut states, is_new)| {
        for i in 1..states.len() {
            let rotated: Vec<bool> = is_new.iter().cycle().skip(i * 7).take(is_new.len()).copied().collect();
            states[i] = mostly_as_before(&states[i - 1], &states[i], &rotated);
        }
        let mut compiler = Compiler::new(Options { node: Some("n1".to_owned()), ..Options::default() });
        let mut before = Snapshot::default();
        let mut ruleset = render(&compiler.graph().node_plan(), &OPTIONS);
        appliers.apply(&Transaction::replace(&ruleset, compiler.graph()));
        for state in &states {
            let snapshot = engine::load(&state.objects, Syntax::Legacy);
            before.difference(&snapshot).into_iter().for_each(|change| compiler.apply(change));
            let delta = compiler.flush();
            let next = if delta.is_structural { render(&compiler.graph().node_plan(), &OPTIONS) } else { ruleset.clone() };
            prop_assert_eq!(&next, &render(&compiler.graph().node_plan(), &OPTIONS), "something changed unannounced");
            appliers.apply(&Transaction::update(&ruleset, &next, &delta, compiler.graph()));
            let [netlink, nft] = appliers.listed();
            prop_assert_eq!(&netlink, &nft);
            let all = Transaction::replace(&next, compiler.graph());
            fresh.run(move || NftApplier.apply(&all, None).map_err(|e| e.to_string())).unwrap_or_else(|e| panic!("nft: {e}"));
            let scratch = list(&fresh);
            prop_assert_eq!(blocks(&netlink), blocks(&scratch), "step by step is from scratch");
            // The same once more over what is there, with something in it that is nobody's.
            for namespace in [&appliers.netlink, &appliers.nft] {
                let foreign = "add chain inet netpol foreign { type filter hook input priority 5; }\nadd set inet netpol alien { type mark; }\n";
                namespace.command_with("nft", &["-f", "-"], foreign);
            }
            let chains = next.chains.keys().cloned().chain(["foreign".to_owned()]).collect();
            let sets = next.sets.keys().cloned().chain(["alien".to_owned()]).collect();
            appliers.apply(&Transaction::rebuild(&next, compiler.graph(), &chains, &sets));
            let [netlink, nft] = appliers.listed();
            prop_assert_eq!(blocks(&netlink), blocks(&scratch), "rebuilt is from scratch");
            prop_assert_eq!(&netlink, &nft);
            (before, ruleset) = (snapshot, next);
        }
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}
