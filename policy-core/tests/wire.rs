//! Real API output is read field by field: nothing that matters is left at its default.

use policy_core::manifest::wire::{IntOrString, NetworkPolicy};
use policy_core::manifest::{Loader, Snapshot, Syntax};
use policy_core::model::{Addresses, Direction, NamedPort, ObjectKey, Peers, Phase, Placement, WorkloadKey};
use policy_core::sets::Transport;

/// As `kubectl get pod -o json` prints it, shortened where nothing is read.
const POD: &str = r#"{
  "apiVersion": "v1", "kind": "Pod",
  "metadata": {
    "annotations": {"cni.projectcalico.org/podIP": "10.244.1.7/32"},
    "creationTimestamp": "2026-10-01T08:00:00Z", "generateName": "web-7d9c5b6f4-",
    "labels": {"app": "web", "pod-template-hash": "7d9c5b6f4"},
    "managedFields": [{"apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {}}, "manager": "kube-controller-manager", "operation": "Update"}],
    "name": "web-7d9c5b6f4-x2x2x", "namespace": "shop",
    "ownerReferences": [{"apiVersion": "apps/v1", "blockOwnerDeletion": true, "controller": true, "kind": "ReplicaSet", "name": "web-7d9c5b6f4", "uid": "0b0"}],
    "resourceVersion": "4711", "uid": "a1b2"
  },
  "spec": {
    "containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}, {"containerPort": 9999}], "resources": {}}],
    "initContainers": [
      {"name": "mesh", "image": "mesh:1", "restartPolicy": "Always", "ports": [{"containerPort": 15090, "name": "mesh-prom", "protocol": "UDP"}]},
      {"name": "setup", "image": "setup:1", "ports": [{"containerPort": 1, "name": "never", "protocol": "TCP"}]}
    ],
    "nodeName": "node-3", "restartPolicy": "Always", "serviceAccountName": "default"
  },
  "status": {
    "conditions": [{"status": "True", "type": "Ready"}], "hostIP": "192.0.2.3", "hostIPs": [{"ip": "192.0.2.3"}],
    "phase": "Running", "podIP": "10.244.1.7", "podIPs": [{"ip": "10.244.1.7"}, {"ip": "fd00:10:244:1::7"}], "qosClass": "BestEffort"
  }
}"#;

const POLICY: &str = r#"{
  "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
  "metadata": {"creationTimestamp": "2026-10-01T08:00:00Z", "generation": 2, "name": "web", "namespace": "shop", "resourceVersion": "1", "uid": "x"},
  "spec": {
    "podSelector": {"matchLabels": {"app": "web"}},
    "ingress": [{
      "from": [
        {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["api"]}]}, "namespaceSelector": {}},
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}
      ],
      "ports": [{"port": 8000, "endPort": 9000, "protocol": "TCP"}, {"port": "http"}]
    }],
    "egress": [{"to": [{"podSelector": {}}]}],
    "policyTypes": ["Ingress", "Egress"]
  }
}"#;

fn read(text: &str) -> Snapshot {
    let mut loader = Loader::new(Syntax::Strict);
    loader.read("api.json", text.as_bytes());
    let snapshot = loader.finish();
    assert!(!snapshot.has_errors(), "{:?}", snapshot.diagnostics);
    snapshot
}

#[test]
fn pods_keep_what_is_read() {
    let snapshot = read(POD);
    let pod = snapshot.pods.get(&ObjectKey::new("shop", "web-7d9c5b6f4-x2x2x")).expect("the pod");
    assert_eq!(pod.labels.get("app").map(String::as_str), Some("web"));
    assert_eq!(pod.placement, Placement::Node("node-3".to_owned()));
    assert_eq!(pod.phase, Phase::Live);
    assert_eq!(
        pod.addresses,
        Addresses::Known(vec!["10.244.1.7".parse().expect("an address"), "fd00:10:244:1::7".parse().expect("an address")])
    );
    let port = |name: &str, protocol, number| NamedPort { name: name.to_owned(), protocol, number };
    assert_eq!(pod.ports, [port("http", Transport::Tcp, 8080), port("mesh-prom", Transport::Udp, 15090)]);
    assert_eq!(pod.owner, Some(WorkloadKey { kind: "Deployment".to_owned(), name: "web".to_owned() }));
}

#[test]
fn policies_keep_what_is_read() {
    let snapshot = read(POLICY);
    let policy = snapshot.policies.get(&ObjectKey::new("shop", "web")).expect("the policy");
    let [rule] = policy.rules(Direction::Ingress).expect("isolates") else { panic!("one rule") };
    let Peers::Listed(peers) = &rule.peers else { panic!("peers") };
    assert_eq!(format!("{peers:?} {:?}", rule.ports).matches("Unreadable").count(), 0);
    assert_eq!(policy.rules(Direction::Egress).map(<[_]>::len), Some(1));
    assert_eq!(policy.target.to_string(), "app=web");
}

/// The wire structs also read plain JSON, as an API client gives it.
#[test]
fn wire_structs_are_serde_structs() {
    let policy: NetworkPolicy = serde_json::from_str(POLICY).expect("decodes");
    let rule = policy.spec.ingress.first().and_then(Option::as_ref).expect("a rule");
    let port = rule.ports.first().and_then(Option::as_ref).expect("a port");
    assert_eq!((port.port.as_ref(), port.end_port), (Some(&IntOrString::Int(8000)), Some(9000)));
    let block = rule.from.get(1).and_then(Option::as_ref).and_then(|p| p.ip_block.as_ref()).expect("a block");
    assert_eq!((block.cidr.as_str(), block.except.len()), ("10.0.0.0/8", 1));
    assert_eq!(policy.spec.policy_types.len(), 2);
}
