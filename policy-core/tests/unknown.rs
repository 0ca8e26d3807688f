//! Pods that cannot be read, and pods with more addresses than any pod has.

#![expect(clippy::unwrap_used, reason = "a failing check panics")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy_core::compile::{Compiler, Options};
use policy_core::manifest::{Loader, Snapshot, Syntax};
use policy_core::model::{Change, ObjectKey, Pod};
use policy_core::plan::NodePlan;

fn read(text: &str) -> Snapshot {
    let mut loader = Loader::new(Syntax::Legacy);
    loader.read("pod.yaml", text.as_bytes());
    loader.finish()
}

fn pod(metadata: &str, spec: &str, status: &str) -> Pod {
    let text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: a, namespace: x, {metadata}}}, spec: {{{spec}}}, status: {{{status}}}}}"
    );
    read(&text).pods.into_values().next().unwrap()
}

fn plan(changes: &[Change]) -> NodePlan {
    let mut compiler = Compiler::new(Options { node: Some("n1".to_owned()), ..Options::default() });
    changes.iter().for_each(|change| compiler.apply(change.clone()));
    compiler.flush();
    compiler.graph().node_plan()
}

const LABELS: &str = "labels: {app: a}";
const HERE: &str = "nodeName: n1";
const RUNNING: &str = "phase: Running, podIPs: [{ip: 10.0.0.1}]";

#[test]
fn what_cannot_be_read_of_a_pod_closes_it() {
    let held: BTreeSet<IpAddr> = BTreeSet::from(["10.0.0.1".parse().unwrap()]);
    let closed = [
        ("labels: {app: 7}", HERE, RUNNING),
        ("labels: {app: a, app: b}", HERE, RUNNING),
        ("labels: [app]", HERE, RUNNING),
        ("lables: {app: a}", HERE, RUNNING),
        (LABELS, "nodeName: 7", RUNNING),
        (LABELS, "nodeName: n1, hostNetwork: maybe", RUNNING),
        (LABELS, HERE, "phase: 7, podIPs: [{ip: 10.0.0.1}]"),
        (LABELS, HERE, "phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0}]"),
        (LABELS, HERE, "phase: Running, podIPs: [{ip: 10.0.0.1}, null]"),
        (LABELS, HERE, "phase: Running, podIP: 10.0.0.1, podIPs: 7"),
    ];
    for (metadata, spec, status) in closed {
        let pod = pod(metadata, spec, status);
        assert!(pod.is_unknown && !pod.is_endpoint(), "{metadata} {spec} {status}: {pod:?}");
        let plan = plan(&[Change::Pod(pod)]);
        assert!(plan.quarantined == held && plan.addresses.is_empty(), "{metadata} {spec} {status}");
    }
}

#[test]
fn what_is_known_is_not_closed() {
    let open = [
        (LABELS, HERE, RUNNING),
        (LABELS, "nodeName: n1, containers: [{ports: [{name: 7}]}]", RUNNING),
        ("labels: {app: null}, futureField: 1", HERE, RUNNING),
        // No endpoint, whatever its labels.
        ("labels: {app: 7}", "nodeName: n2", RUNNING),
        ("labels: {app: 7}", "nodeName: n1, hostNetwork: true", RUNNING),
        ("labels: {app: 7}", HERE, "phase: Failed, podIPs: [{ip: 10.0.0.1}]"),
        ("labels: {app: 7}", "", RUNNING),
        ("labels: {app: 7}", HERE, "phase: Pending"),
    ];
    for (metadata, spec, status) in open {
        let plan = plan(&[Change::Pod(pod(metadata, spec, status))]);
        assert!(plan.quarantined.is_empty(), "{metadata} {spec} {status}");
    }
}

#[test]
fn a_pod_that_can_be_read_again_or_goes_is_not_held() {
    let unknown = || Change::Pod(pod("labels: {app: 7}", HERE, RUNNING));
    let known = plan(&[unknown(), Change::Pod(pod(LABELS, HERE, RUNNING))]);
    assert!(known.quarantined.is_empty() && known.addresses.len() == 1);
    let gone = plan(&[unknown(), Change::PodRemoved(ObjectKey::new("x", "a"))]);
    assert!(gone.quarantined.is_empty() && gone.addresses.is_empty());
    let back = plan(&[Change::Pod(pod(LABELS, HERE, RUNNING)), unknown()]);
    assert!(back.quarantined.len() == 1 && back.addresses.is_empty());
}

#[test]
fn pairs_of_a_pod_with_itself_do_not_grow_with_the_square() {
    const MANY: usize = 5000;
    let addresses: String = (0..MANY).map(|n| format!("{{ip: 10.0.{}.{}}},", n / 250, n % 250)).collect();
    let pod = pod(LABELS, HERE, &format!("phase: Running, podIPs: [{addresses}]"));
    let policy = read(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: x}, spec: {podSelector: {}}}",
    );
    let plan = plan(&[Change::Pod(pod), Change::Policy(policy.policies.into_values().next().unwrap())]);
    assert_eq!(plan.addresses.len(), MANY, "all are isolated");
    let with_themselves = plan.self_pairs.iter().filter(|(a, b)| a == b).count();
    assert_eq!(with_themselves, MANY);
    assert!(plan.self_pairs.len() < MANY + 100, "{}", plan.self_pairs.len());
}
