//! What one tenant's policy costs a node: `cargo bench -p conformance --bench tenant`.
//!
//! A pod has one policy of very many pairs of ports and peers. Each row is a first load and edits that change every pair: how long
//! the agent computes, how long the kernel works, and how long the transaction of another program waits meanwhile at most.
//! `NETPOL_PAIRS` is a list of sizes, `NETPOL_KINDS` of kinds.

#![expect(clippy::expect_used, clippy::panic, reason = "a benchmark that fails panics")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use conformance::engine;
use conformance::lab::{self, Namespace};
use policy_agent::enforcer::Enforcer;
use policy_agent::kernel::RealKernel;
use policy_agent::kernel::applier::NetlinkApplier;
use policy_agent::kernel::monitor::Monitor;
use policy_agent::kernel::reader::Reader;
use policy_core::compile;
use policy_core::manifest::{Snapshot, Syntax};
use policy_ruleset::{DenyLog, Options};
use serde_json::{Value, json};

/// Edits of which the median is shown.
const EDITS: usize = 5;

fn main() {
    if !lab::is_available(&["ip", "nft"]) {
        return;
    }
    let list = |name: &str, default: &str| -> Vec<String> {
        std::env::var(name).unwrap_or_else(|_| default.to_owned()).split_whitespace().map(str::to_owned).collect()
    };
    println!(
        "| kind | pairs | policy | sets | chains | first load: compute | kernel | edit: compute | kernel | others wait at most |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for kind in list("NETPOL_KINDS", "cidrrules shared deep selrules ports ranges cidrs excepts") {
        for pairs in list("NETPOL_PAIRS", "250 1000 2000 4000 8000 12000") {
            row(&kind, pairs.parse().expect("a number"));
        }
    }
}

fn row(kind: &str, pairs: usize) {
    let node = Namespace::new("n1");
    let is_done = Arc::new(AtomicBool::new(false));
    let longest = Arc::new(AtomicU64::new(0));
    let other = node.spawn({
        let (is_done, longest) = (is_done.clone(), longest.clone());
        move || foreign(&is_done, &longest)
    });
    let kind_of_row = kind.to_owned();
    let measured = node.run(move || measure(&kind_of_row, pairs, &longest));
    is_done.store(true, Ordering::Relaxed);
    other.join().expect("the other program ends");
    let Measured { bytes, sets, chains, load, mut edits } = measured;
    edits.sort();
    let middle = |pick: fn(&Times) -> Duration| spread(edits.iter().map(pick).collect());
    println!(
        "| {kind} | {pairs} | {} kB | {sets} | {chains} | {} | {} | {} | {} | {} |",
        bytes / 1000,
        millis(load.compute),
        millis(load.kernel),
        middle(|t| t.compute),
        middle(|t| t.kernel),
        middle(|t| t.wait),
    );
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Times {
    compute: Duration,
    kernel: Duration,
    wait: Duration,
}

struct Measured {
    bytes: usize,
    sets: usize,
    chains: usize,
    load: Times,
    edits: Vec<Times>,
}

fn measure(kind: &str, pairs: usize, longest: &AtomicU64) -> Measured {
    let monitor = Monitor::start(|_| {}).expect("root may listen");
    let kernel = RealKernel::new(Reader::open().expect("netlink"), monitor);
    let applier = NetlinkApplier::open().expect("netlink");
    let scope = compile::Options { node: Some("n1".to_owned()), ..compile::Options::default() };
    let options = Options { deny_log: Some(DenyLog::DEFAULT), ..Options::default() };
    let mut enforcer = Enforcer::new(scope, options, Box::new(applier), Box::new(kernel));
    // The other pods of the node come first, so that the first load is that of the policy.
    enforcer.take(cluster(None).changes().collect());
    enforcer.flush().expect("applied");
    let mut before = cluster(None);
    let mut step = |edit: usize| {
        let policy = policy(kind, pairs, edit);
        let bytes = policy.to_string().len();
        let next = cluster(Some(policy));
        enforcer.take(before.difference(&next));
        before = next;
        longest.store(0, Ordering::Relaxed);
        let done = enforcer.flush().expect("applied").expect("there is something to do");
        let wait = Duration::from_nanos(longest.load(Ordering::Relaxed));
        (bytes, Times { compute: done.compile, kernel: done.apply, wait })
    };
    let (bytes, load) = step(0);
    let edits = (1..=EDITS).map(|edit| step(edit).1).collect();
    let ruleset = enforcer.ruleset();
    Measured { bytes, sets: ruleset.sets.len(), chains: ruleset.chains.len(), load, edits }
}

/// Another program: transactions in a table of its own, one after the other.
fn foreign(is_done: &AtomicBool, longest: &AtomicU64) {
    use policy_agent::kernel::applier::Applier;
    use policy_ruleset::{Op, Transaction};
    // A request that changes nothing takes the same lock.
    let mut applier = NetlinkApplier::open().expect("netlink");
    let transaction = Transaction { ops: vec![Op::DeleteChain { name: "of-another-program".to_owned() }] };
    while !is_done.load(Ordering::Relaxed) {
        let start = Instant::now();
        let _ = applier.apply(&transaction, None);
        let took = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        longest.fetch_max(took, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn cluster(policy: Option<Value>) -> Snapshot {
    let mut objects = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}})];
    for i in 0..110 {
        let app = if i == 0 { "tenant".to_owned() } else { format!("app{i}") };
        objects.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{i}"), "namespace": "x", "labels": {"app": app}},
            "spec": {"nodeName": "n1", "containers": []}, "status": {"phase": "Running", "podIP": format!("10.244.1.{i}")}}));
        objects.push(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": format!("n{i}"), "namespace": "x"},
            "spec": {"podSelector": {"matchLabels": {"app": format!("app{i}")}}, "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": format!("app{}", i / 2)}}}], "ports": [{"port": 80}]}]}}));
    }
    objects.extend(policy);
    engine::load(&objects, Syntax::Legacy)
}

fn policy(kind: &str, pairs: usize, edit: usize) -> Value {
    let ip = |i: usize| format!("{}.{}.{}.{}", 11 + i / 16_384, i / 64 % 256, i % 64 * 4, edit % 200);
    let block = |i: usize| json!({"ipBlock": {"cidr": format!("{}/32", ip(i))}});
    let each = |rule: &dyn Fn(usize) -> Value| (0..pairs).map(rule).collect::<Vec<Value>>();
    let ingress = match kind {
        "cidrs" => json!([{"from": each(&block)}]),
        "cidrrules" => Value::Array(each(&|i| json!({"from": [block(i)], "ports": [{"port": i % 60_000 + 1}]}))),
        "shared" => Value::Array(each(
            &|i| json!({"from": [block(i), {"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": i % 60_000 + 1}]}),
        )),
        // Every block is different, and all of them overlap.
        "deep" => Value::Array(each(&|i| {
            let block = json!({"ipBlock": {"cidr": "10.0.0.0/6", "except": [format!("{}/32", ip(i))]}});
            json!({"from": [block], "ports": [{"port": i % 60_000 + 1}]})
        })),
        "ports" => {
            json!([{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": each(&|i| json!({"port": 2 * i + 1 + edit % 2}))}])
        }
        "ranges" => json!([{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
            "ports": each(&|i| json!({"port": 4 * i + 1 + edit % 2, "endPort": 4 * i + 2 + edit % 2}))}]),
        "excepts" => {
            let except = each(&|i| json!(format!("{}.{}.{}.0/25", i % 200 + 1, i / 200, edit % 200)));
            json!([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": except}}]}])
        }
        "selrules" => Value::Array(each(
            &|i| json!({"from": [{"podSelector": {"matchLabels": {"k": format!("v{i}")}}}], "ports": [{"port": (i + edit) % 60_000 + 1}]}),
        )),
        other => panic!("there is no kind {other}"),
    };
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "big", "namespace": "x"},
        "spec": {"podSelector": {"matchLabels": {"app": "tenant"}}, "policyTypes": ["Ingress"], "ingress": ingress}})
}

fn millis(duration: Duration) -> String {
    format!("{:.0} ms", duration.as_secs_f64() * 1e3)
}

/// The median, with the least and the most.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |place: usize| times.get(place).copied().unwrap_or_default().as_secs_f64() * 1e3;
    format!("{:.0} ms ({:.0}–{:.0})", at(times.len() / 2), at(0), at(times.len() - 1))
}
