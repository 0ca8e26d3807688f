//! A packet sees the rules of before or those of after, never half of each: under a flood, while rules are replaced all the time.
//!
//! nf_tables swaps all rules at once, but a packet on another CPU looks at one rule after the other, and sees elements of sets and
//! maps as they are at that moment. Rules that are made for this stay closed; others let a packet through at one of twenty changes.

#![expect(clippy::expect_used, reason = "a failing check panics")]

use conformance::engine;
use conformance::lab::flood::{self, under_flood};
use conformance::lab::{self, Fabric, Network, fixture};
use policy_agent::enforcer::{Enforcer, Kind};
use policy_agent::kernel::RealKernel;
use policy_agent::kernel::applier::NetlinkApplier;
use policy_agent::kernel::monitor::Monitor;
use policy_agent::kernel::reader::Reader;
use policy_core::compile;
use policy_core::manifest::{Snapshot, Syntax};
use policy_ruleset::{DenyLog, Options};

/// The flooded pod, who may not reach it, and who may.
const WHO: [&str; 3] = ["10.244.1.1", "10.244.2.1", "10.244.2.2"];
const CHANGES: usize = 3000;
/// How often the known bad change is tried.
const ATTEMPTS: usize = 10;

/// x/a is isolated, and only y/b may reach it; `more` are other policies.
fn cluster(more: &str) -> Snapshot {
    let guard = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: guard, namespace: x}\nspec:\n  \
                 podSelector: {matchLabels: {pod: a}}\n  ingress:\n  - from: [{namespaceSelector: {matchLabels: {ns: 'y'}}, \
                 podSelector: {matchLabels: {pod: b}}}]\n";
    engine::load_text(&format!("{}---\n{guard}{more}", fixture::manifests()), Syntax::Strict)
}

/// A policy that isolates another pod of the node for both directions.
const ANOTHER: &str = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: other, namespace: x}\nspec:\n  \
                       podSelector: {matchLabels: {pod: b}}\n  policyTypes: [Ingress, Egress]\n";

/// Whether this machine can show that a packet passes: it has more than one CPU, and a change that is known to let packets through
/// is seen to do so.
///
/// The change is of a rule with an anonymous verdict map, whose elements are gone while the rule is still being read.
fn is_seen(network: &Network) -> bool {
    if !lab::is_parallel() {
        return false;
    }
    let node = network.node("n1");
    let [victim, _, allowed] = WHO;
    let rule = format!("add rule inet bad forward ip daddr vmap {{ {victim} : goto closed }}");
    let table = format!(
        "add table inet bad\nadd chain inet bad closed\nadd rule inet bad closed ip saddr {allowed} return\n\
         add rule inet bad closed drop\nadd chain inet bad forward {{ type filter hook forward priority 0; }}\n{rule}\n"
    );
    node.command_with("nft", &["-f", "-"], &table);
    // A line is a transaction.
    let changes = format!("flush chain inet bad forward; {rule}\n").repeat(CHANGES);
    let mut is_heard = false;
    for _ in 0..ATTEMPTS {
        let heard = under_flood(network, WHO, || drop(node.command_with("nft", &["-i"], &changes)));
        is_heard = heard.contains(&flood::FORBIDDEN);
        if is_heard {
            break;
        }
    }
    node.command("nft", &["delete", "table", "inet", "bad"]);
    assert!(is_heard, "packets that are known to pass are not seen in {ATTEMPTS} times {CHANGES} changes");
    true
}

/// Floods the pod while an enforcer on its node does `work`, and returns what was heard.
fn flooded(network: &Network, work: impl Fn(&mut Enforcer) + Send + Clone + 'static) -> std::collections::BTreeSet<u32> {
    let mut enforcer = network.node("n1").run(|| {
        let monitor = Monitor::start(|_| {}).expect("root may listen");
        let kernel = Box::new(RealKernel::new(Reader::open().expect("netlink"), monitor));
        let applier = Box::new(NetlinkApplier::open().expect("netlink").protecting());
        let scope = compile::Options { node: Some("n1".to_owned()), ..compile::Options::default() };
        let options = Options { deny_log: Some(DenyLog::DEFAULT), ..Options::default() };
        let mut enforcer = Enforcer::new(scope, options, applier, kernel);
        enforcer.take(cluster("").changes().collect());
        enforcer.flush().expect("in force");
        enforcer
    });
    under_flood(network, WHO, || work(&mut enforcer))
}

#[test]
fn no_packet_passes_while_another_pod_is_isolated_and_let_go() {
    if !lab::is_available(&["ip", "nft"]) {
        return;
    }
    let network = fixture::network(Fabric::Routed);
    if !is_seen(&network) {
        return;
    }
    let (without, with) = (cluster(""), cluster(ANOTHER));
    let there: Vec<_> = without.difference(&with).into_iter().collect();
    let back: Vec<_> = with.difference(&without).into_iter().collect();
    let heard = flooded(&network, move |enforcer| {
        for i in 0..CHANGES {
            enforcer.take(if i % 2 == 0 { there.clone() } else { back.clone() });
            let done = enforcer.flush().expect("in force").expect("something changed");
            assert_eq!(done.kind, Kind::Update);
        }
    });
    assert!(heard.contains(&flood::ALLOWED), "nothing passed at all");
    assert!(!heard.contains(&flood::FORBIDDEN), "a forbidden packet passed while rules were changed");
}

#[test]
fn no_packet_passes_while_the_table_is_replaced() {
    if !lab::is_available(&["ip", "nft"]) {
        return;
    }
    let network = fixture::network(Fabric::Routed);
    if !is_seen(&network) {
        return;
    }
    let heard = flooded(&network, |enforcer| {
        for _ in 0..CHANGES {
            enforcer.invalidate();
            let done = enforcer.flush().expect("in force").expect("it is replaced");
            assert_eq!(done.kind, Kind::Repair);
        }
    });
    assert!(heard.contains(&flood::ALLOWED), "nothing passed at all");
    assert!(!heard.contains(&flood::FORBIDDEN), "a forbidden packet passed while the table was replaced");
}
