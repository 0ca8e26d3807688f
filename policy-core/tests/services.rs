//! Services are data of the snapshot.

use policy_core::manifest::{Loader, Snapshot, Syntax};
use policy_core::model::{Labels, ObjectKey, Service, ServicePort, ServiceType, TargetPort};
use policy_core::sets::Transport;

fn read(text: &str) -> Snapshot {
    let mut loader = Loader::new(Syntax::Strict);
    loader.read("a.yaml", text.as_bytes());
    loader.finish()
}

/// As `kubectl get service -o json` prints it.
const SERVICE: &str = r#"{
  "apiVersion": "v1", "kind": "Service",
  "metadata": {"annotations": {"x": "y"}, "creationTimestamp": "2026-10-01T08:00:00Z", "labels": {"app": "web"}, "name": "web", "namespace": "shop", "resourceVersion": "1", "uid": "u"},
  "spec": {
    "allocateLoadBalancerNodePorts": true, "clusterIP": "10.96.3.4", "clusterIPs": ["10.96.3.4", "fd00:96::4"], "externalIPs": ["192.0.2.7"],
    "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
    "ports": [
      {"name": "http", "nodePort": 30080, "port": 80, "protocol": "TCP", "targetPort": "web"},
      {"name": "dns", "nodePort": 30053, "port": 53, "protocol": "UDP", "targetPort": 5353}
    ],
    "selector": {"app": "web"}, "sessionAffinity": "None", "type": "LoadBalancer"
  },
  "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9", "ipMode": "VIP"}, {"hostname": "lb.example"}]}}
}"#;

#[test]
fn every_field_of_a_service_is_kept() {
    let snapshot = read(SERVICE);
    assert!(!snapshot.has_errors() && snapshot.skipped.is_empty(), "{:?}", snapshot.diagnostics);
    let key = ObjectKey::new("shop", "web");
    let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let port = |name: &str, protocol, port, target, node_port| ServicePort {
        name: name.to_owned(),
        protocol,
        port,
        target,
        node_port: Some(node_port),
    };
    let expected = Service {
        key: key.clone(),
        kind: ServiceType::LoadBalancer,
        selector: Labels::from([("app".to_owned(), "web".to_owned())]),
        external_name: String::new(),
        cluster_ips: addresses(&["10.96.3.4", "fd00:96::4"]),
        is_headless: false,
        external_ips: addresses(&["192.0.2.7"]),
        load_balancer_ips: addresses(&["203.0.113.9"]),
        keeps_source: false,
        ports: vec![
            port("http", Transport::Tcp, 80, TargetPort::Name("web".to_owned()), 30080),
            port("dns", Transport::Udp, 53, TargetPort::Number(5353), 30053),
        ],
    };
    assert_eq!(snapshot.services.get(&key), Some(&expected));
    assert_eq!(expected.addresses().count(), 4);
    assert!(snapshot.changes().next().is_none() && snapshot.namespaces.is_empty(), "it decides nothing");
}

#[test]
fn defaults_of_services_are_those_of_the_api() {
    let service = |spec: &str| {
        let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{{spec}}}\n");
        let snapshot = read(&text);
        assert!(!snapshot.has_errors(), "{text}: {:?}", snapshot.diagnostics);
        snapshot.services.into_values().next().unwrap()
    };
    let plain = service("ports: [{port: 80}]");
    assert_eq!((plain.key, plain.kind, plain.cluster_ips.len()), (ObjectKey::new("default", "a"), ServiceType::ClusterIP, 0));
    let port =
        ServicePort { name: String::new(), protocol: Transport::Tcp, port: 80, target: TargetPort::Number(80), node_port: None };
    assert_eq!(plain.ports, [port]);
    let headless = service("clusterIP: None, clusterIPs: [None]");
    assert!(headless.is_headless && headless.addresses().next().is_none());
    let alias = service("type: ExternalName, externalName: db.example");
    assert_eq!((alias.kind, alias.external_name.as_str()), (ServiceType::ExternalName, "db.example"));
    assert_eq!(service("clusterIP: 10.96.0.1").cluster_ips.len(), 1, "without `clusterIPs`");
}

#[test]
fn services_of_other_groups_are_other_kinds() {
    let snapshot = read(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\nspec: {template: {spec: {containers: []}}}\n",
    );
    assert!(snapshot.services.is_empty() && !snapshot.has_errors());
}
