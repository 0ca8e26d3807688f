//! The core's rows of the table of targets: time and peak heap on generated clusters.
//!
//! `cargo bench -p policy-core` prints one Markdown table. Objects are made one by one while the clock stands still, and only
//! what the compiler keeps counts as its memory. Times are medians; `--quick` divides the sizes by ten.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a failing check panics")]
#![expect(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a bench measures time and prints it"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use policy_core::compile::{Compiler, Options};
use policy_core::model::{
    Addresses, Change, IpBlock, Labels, NamedPort, Namespace, NamespaceScope, Node, ObjectKey, Operator, Peer, Peers, Phase,
    Placement, Pod, Policy, PortEntry, Ports, Requirement, Rule, Selector,
};
use policy_core::sets::{Protocol, Transport};
use policy_core::verdict::Flow;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The size of a cluster.
#[derive(Clone, Copy)]
struct Shape {
    namespaces: usize,
    pods_per_namespace: usize,
    /// Pods of a namespace differ in this many labels sets.
    apps: usize,
    policies_per_namespace: usize,
    /// Pods on node 0.
    local: usize,
}

fn equals(key: &str, value: &str) -> Selector {
    Selector::new([Requirement { key: key.to_owned(), operator: Operator::In([value.to_owned()].into()) }])
}

fn namespace(n: usize) -> Namespace {
    let name = format!("team-{n}");
    let labels = [("kubernetes.io/metadata.name", name.clone()), ("tenant", format!("t{}", n % 50))];
    Namespace { labels: labels.map(|(k, v)| (k.to_owned(), v)).into(), name }
}

fn address(i: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(i).expect("small")))
}

impl Shape {
    fn pods(self) -> usize {
        self.namespaces * self.pods_per_namespace
    }

    fn pod(self, i: usize) -> Pod {
        let (ns, n) = (i % self.namespaces, i / self.namespaces);
        let app = n % self.apps;
        let labels = [
            ("app", format!("app-{app}")),
            ("app.kubernetes.io/part-of", format!("product-{}", ns % 20)),
            ("pod-template-hash", format!("{:x}", (ns * 31 + app) * 2_654_435_761 % 0xffff_ffff)),
        ];
        Pod {
            uid: None,
            key: ObjectKey::new(format!("team-{ns}"), format!("app-{app}-7d9c5b6f4-{i:x}")),
            labels: labels.map(|(k, v)| (k.to_owned(), v)).into_iter().collect::<Labels>(),
            placement: Placement::Node(if i < self.local { "node-0".to_owned() } else { format!("node-{}", 1 + i % 1000) }),
            phase: Phase::Live,
            is_host_network: false,
            addresses: Addresses::Known(vec![address(i)]),
            ports: vec![NamedPort { name: "http".to_owned(), protocol: Transport::Tcp, number: 8080 }],
            sidecar_ports: Vec::new(),
            owner: None,
            is_unknown: false,
        }
    }

    fn policy(self, i: usize) -> Policy {
        let (ns, n) = (i % self.namespaces, i / self.namespaces);
        let app = n % self.apps;
        let tcp = |port: u16| PortEntry::Range { protocol: Transport::Tcp, low: port, high: port };
        let http = PortEntry::Named { protocol: Transport::Tcp, name: "http".to_owned() };
        let own = |app: usize| Peer::Pods { namespaces: NamespaceScope::Own, pods: equals("app", &format!("app-{app}")) };
        let tenant = Peer::Pods {
            namespaces: NamespaceScope::Matching(equals("tenant", &format!("t{}", ns % 50))),
            pods: Selector::everything(),
        };
        let dns = Peer::Pods {
            namespaces: NamespaceScope::Matching(equals("kubernetes.io/metadata.name", "team-0")),
            pods: equals("app", "app-0"),
        };
        let block = Peer::Block(IpBlock {
            cidr: format!("172.{}.0.0/16", 16 + ns % 16).parse().expect("a block"),
            except: vec![format!("172.{}.{}.0/24", 16 + ns % 16, n % 256).parse().expect("a block")],
        });
        let rule =
            |peers: Vec<Peer>, ports: Vec<PortEntry>| Rule { line: 1, peers: Peers::Listed(peers), ports: Ports::Listed(ports) };
        let (ingress, egress) = match n % 3 {
            0 => (Some(vec![rule(vec![own(app + 1)], vec![http])]), None),
            1 => (Some(vec![rule(vec![tenant, block.clone()], vec![tcp(443), tcp(80)])]), None),
            _ => (None, Some(vec![rule(vec![dns], vec![tcp(53)]), rule(vec![own(app), block], vec![tcp(443)])])),
        };
        Policy {
            key: ObjectKey::new(format!("team-{ns}"), format!("policy-{n}")),
            origin: None,
            target: equals("app", &format!("app-{app}")),
            ingress,
            egress,
        }
    }

    /// Applies the cluster in the order in which watches deliver it; the clock stands still while objects are made.
    fn compile(self, options: Options) -> (Compiler, Duration) {
        let mut compiler = Compiler::new(options);
        let mut time = Duration::ZERO;
        let mut apply = |change: Change| {
            let start = Instant::now();
            compiler.apply(change);
            time += start.elapsed();
        };
        (0..self.namespaces).for_each(|n| apply(Change::Namespace(namespace(n))));
        for n in 0..1001 {
            let addresses = vec![IpAddr::V4(Ipv4Addr::from_bits(0xc612_0000 + n))];
            apply(Change::Node(Node { name: format!("node-{n}"), addresses }));
        }
        (0..self.namespaces * self.policies_per_namespace).for_each(|i| apply(Change::Policy(self.policy(i))));
        (0..self.pods()).for_each(|i| apply(Change::Pod(self.pod(i))));
        let start = Instant::now();
        compiler.flush();
        (compiler, time + start.elapsed())
    }
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

fn megabytes(bytes: usize) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

fn row(what: &str, size: &str, time: &str, heap: &str, target: &str) {
    println!("| {what} | {size} | {time} | {heap} | {target} |");
}

fn cold(what: &str, shape: Shape, options: &Options, target: &str) {
    let mut times = Vec::new();
    let mut heap = 0;
    for _ in 0..5 {
        let before = HEAP.current_usage();
        HEAP.reset_peak_usage();
        let (compiler, time) = shape.compile(options.clone());
        heap = HEAP.peak_usage() - before;
        times.push(time);
        drop(compiler);
    }
    let size = format!(
        "{} namespaces, {} pods, {} policies",
        shape.namespaces,
        shape.pods(),
        shape.namespaces * shape.policies_per_namespace
    );
    row(what, &size, &format!("{:.2} s", median(times).as_secs_f64()), &megabytes(heap), target);
}

/// A small generator, so that runs are alike (xorshift).
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 16).expect("64 bits")
}

fn questions(shape: Shape) {
    let (compiler, _) = shape.compile(Options::default());
    let graph = compiler.graph();
    let mut state = 88_172_645_463_325_252;
    let pods = shape.pods();
    let flows: Vec<Flow> = (0..100_000)
        .map(|i| (i, random(&mut state) % pods, random(&mut state) % pods, random(&mut state)))
        // Every second flow stays in its namespace, where most rules allow.
        .map(|(i, from, to, port)| {
            (from, if i % 2 == 0 { to - to % shape.namespaces + from % shape.namespaces } else { to }, port)
        })
        .map(|(from, to, port)| Flow {
            source: address(from),
            destination: address(to % pods),
            protocol: Protocol::Port(Transport::Tcp, [80, 443, 8080, 53][port % 4]),
        })
        .collect();
    let mut allowed = 0;
    let mut times = Vec::new();
    for _ in 0..7 {
        let start = Instant::now();
        allowed = flows.iter().filter(|flow| graph.verdict(flow).is_allowed()).count();
        times.push(start.elapsed() / u32::try_from(flows.len()).expect("small"));
    }
    let size = format!("{pods} pods, {} % of 100000 random flows allowed", allowed * 100 / flows.len());
    row("`can` in memory", &size, &format!("{} ns", median(times).as_nanos()), "", "≤ 2 µs");
}

fn one_pod(shape: Shape) {
    let (mut compiler, _) = shape.compile(Options { node: Some("node-0".to_owned()), ..Options::default() });
    let mut times = Vec::new();
    let mut members = 0;
    for i in 0..10_000 {
        // A remote pod of an existing workload comes, and another one goes.
        let pod = shape.pod(shape.pods() + i);
        let key = shape.pod(shape.local + i).key;
        let start = Instant::now();
        compiler.apply(Change::Pod(pod));
        members += compiler.flush().members.len();
        times.push(start.elapsed());
        compiler.apply(Change::PodRemoved(key));
        compiler.flush();
    }
    times.sort();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    let size = format!("{} pods, {} set members added", shape.pods(), members);
    row(
        "one remote pod added, apply and flush",
        &size,
        &format!("p50 {:.1} µs, p99 {:.1} µs", p50.as_nanos() as f64 / 1e3, p99.as_nanos() as f64 / 1e3),
        "",
        "a part of ≤ 150 µs p50, ≤ 1 ms p99",
    );
}

/// A pod of a Job: no other pod has its labels, and every tenth has a namespace and a node of its own.
fn job(shape: Shape, i: usize) -> Pod {
    let own = i.is_multiple_of(10);
    let labels = [
        ("app", format!("app-{}", i % shape.apps)),
        ("job-name", format!("report-{i}")),
        ("batch.kubernetes.io/controller-uid", format!("6f1a2b3c-0000-4000-8000-{i:012x}")),
    ];
    Pod {
        key: ObjectKey::new(
            if own { format!("run-{i}") } else { format!("team-{}", i % shape.namespaces) },
            format!("report-{i}-x"),
        ),
        labels: labels.map(|(k, v)| (k.to_owned(), v)).into_iter().collect::<Labels>(),
        placement: Placement::Node(if own { format!("spot-{i}") } else { format!("node-{}", i % 50) }),
        addresses: Addresses::Known(vec![address(shape.pods() + i)]),
        ..shape.pod(i)
    }
}

/// Pods that came and went, one by one or all at once: what they cost, and what is left of them.
fn came_and_went(shape: Shape, count: usize, crowd: usize) {
    let (mut compiler, _) = shape.compile(Options { node: Some("node-0".to_owned()), ..Options::default() });
    let before = HEAP.current_usage();
    let mut time = Duration::ZERO;
    let mut timed = |change: Option<Change>| {
        let start = Instant::now();
        match change {
            Some(change) => compiler.apply(change),
            None => drop(compiler.flush()),
        }
        time += start.elapsed();
    };
    for first in (0..count).step_by(crowd) {
        let range = first..first + crowd;
        range.clone().for_each(|i| timed(Some(Change::Pod(job(shape, i)))));
        timed(None);
        range.for_each(|i| timed(Some(Change::PodRemoved(job(shape, i).key))));
        timed(None);
    }
    let left = HEAP.current_usage() as f64 - before as f64;
    let how = if crowd == 1 { "one by one".to_owned() } else { format!("{crowd} at once") };
    let heap = format!("{:.2} MB before, {:+.3} MB after", before as f64 / 1e6, left / 1e6);
    let size = format!("{} pods stay, {count} come and go", shape.pods());
    let time = format!("{:.1} µs for a pod", time.as_secs_f64() * 1e6 / count as f64);
    row(&format!("pods with labels of their own, {how}"), &size, &time, &heap, "as before, within 1 MB");
}

/// Jobs on one node whose labels no selector asks for.
fn jobs_on_a_node(shape: Shape, count: usize) {
    let (mut compiler, _) = shape.compile(Options { node: Some("node-0".to_owned()), ..Options::default() });
    let counts = |compiler: &Compiler| {
        let plan = compiler.graph().node_plan();
        (compiler.graph().counts().groups, plan.groups.iter().flat_map(|group| group.sides.iter().flatten()).count())
    };
    let before = counts(&compiler);
    let jobs: Vec<Pod> = (0..count)
        .map(|i| Pod { placement: Placement::Node("node-0".to_owned()), ..job(shape, i) })
        .map(|pod| Pod { key: ObjectKey::new("team-0", pod.key.name), labels: with_app(pod.labels, "app-1"), ..pod })
        .collect();
    let heap = HEAP.current_usage();
    let start = Instant::now();
    jobs.into_iter().for_each(|pod| compiler.apply(Change::Pod(pod)));
    compiler.flush();
    let time = start.elapsed();
    let used = HEAP.current_usage().saturating_sub(heap);
    let after = counts(&compiler);
    let size = format!("{count} Jobs: {} groups, {} chains more", after.0 - before.0, after.1 - before.1);
    let time = format!("{:.1} µs for a pod", time.as_secs_f64() * 1e6 / count as f64);
    row("Jobs with labels of their own on one node", &size, &time, &megabytes(used), "1 group");
}

fn with_app(mut labels: Labels, app: &str) -> Labels {
    labels.insert("app".to_owned(), app.to_owned());
    labels
}

fn main() {
    let divide = if std::env::args().any(|a| a == "--quick") { 10 } else { 1 };
    let node = Options { node: Some("node-0".to_owned()), ..Options::default() };
    println!("| what | size | time | peak heap | target |\n|---|---|---|---|---|");
    let large = Shape { namespaces: 1000 / divide, pods_per_namespace: 250, apps: 5, policies_per_namespace: 10, local: 200 };
    cold("cold compile for one node", large, &node, "≤ 0.5 s, ≤ 100 MB");
    let wide = Shape { namespaces: 100_000 / divide, pods_per_namespace: 1, apps: 1, policies_per_namespace: 1, local: 100 };
    cold("cold compile for one node, namespaces", wide, &node, "≤ 0.5 s, ≤ 120 MB");
    let central = Shape { namespaces: 25_000 / divide, pods_per_namespace: 4, apps: 4, policies_per_namespace: 3, local: 0 };
    cold("central compile of everything", central, &Options::default(), "≤ 1.5 s, ≤ 300 MB");
    questions(Shape { namespaces: 400 / divide, ..large });
    one_pod(Shape { namespaces: 400 / divide, ..large });
    let small = Shape { namespaces: 20, pods_per_namespace: 50, ..large };
    came_and_went(small, 1_000_000 / divide, 1);
    came_and_went(small, 500_000 / divide, 100_000 / divide);
    jobs_on_a_node(small, 1000);
}
