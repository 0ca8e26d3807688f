//! Small adversarial clusters: everything that could be confused with something else is near something else.
//!
//! Few label keys and values, so that selectors overlap; keys that are missing; nested and adjoining blocks around the
//! addresses that pods have; shared addresses; port names with several numbers; dual stack; host network; finished pods;
//! namespaces without object; and now and then an entry that no server would accept.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::oracle::Protocol;

/// Namespaces that generated objects are in. No object declares the last one.
const NAMESPACES: [&str; 4] = ["x", "y", "z", "undeclared"];
const NODES: [(&str, &str); 2] = [("n1", "192.0.2.1"), ("n2", "192.0.2.2")];
/// Blocks around the addresses that pods get, nested and adjoining.
const BLOCKS: [&str; 16] = [
    "0.0.0.0/0",
    "::/0",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "10.244.0.0/16",
    "10.244.0.0/29",
    "10.244.0.0/30",
    "10.244.0.4/30",
    "10.244.0.4/31",
    "10.244.0.5/32",
    "10.244.0.6/31",
    "fd00::/64",
    "fd00::4/126",
    "fd00::5/128",
    "192.0.2.0/30",
    "203.0.113.8/29",
];
/// Outside, inside the pods' block without owner, and IPv6.
const EXTERNAL: [&str; 4] = ["203.0.113.9", "10.244.0.6", "2001:db8::9", "169.254.20.10"];
const PORT_NAMES: [&str; 3] = ["http", "web", "dns"];
const PORTS: [u16; 6] = [1, 53, 80, 81, 8080, 65535];

/// A cluster as objects, in the order of an API server dump.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Kubernetes objects.
    pub objects: Vec<Value>,
}

fn pick<T: Copy + std::fmt::Debug + 'static>(items: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(items)
}

fn object(entries: Vec<(&str, Value)>) -> Value {
    Value::Object(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

fn labels() -> impl Strategy<Value = Value> {
    let value = || prop::option::weighted(0.7, pick(&["a", "b", ""]));
    (value(), value(), prop::option::weighted(0.2, pick(&["a"]))).prop_map(|(app, tier, extra)| {
        let mut map = Map::new();
        for (key, value) in [("app", app), ("tier", tier), ("app.kubernetes.io/name", extra)] {
            if let Some(value) = value {
                map.insert(key.to_owned(), json!(value));
            }
        }
        Value::Object(map)
    })
}

fn selector() -> impl Strategy<Value = Value> {
    let key = || pick(&["app", "tier", "app.kubernetes.io/name", "kubernetes.io/metadata.name"]);
    let value = || pick(&["a", "b", "", "x", "y"]);
    let values = move || prop::collection::vec(value(), 1..3);
    let expression = (key(), pick(&["In", "NotIn", "Exists", "DoesNotExist"]), values()).prop_map(|(key, operator, values)| {
        if operator.ends_with("In") {
            json!({"key": key, "operator": operator, "values": values})
        } else {
            json!({"key": key, "operator": operator})
        }
    });
    let broken = Just(json!({"matchExpressions": [{"key": "app", "operator": "Gt", "values": ["1"]}]}));
    prop_oneof![
        4 => Just(json!({})),
        6 => (key(), value()).prop_map(|(k, v)| object(vec![("matchLabels", object(vec![(k, json!(v))]))])),
        6 => prop::collection::vec(expression, 1..3).prop_map(|list| json!({"matchExpressions": list})),
        2 => (key(), value(), key(), value()).prop_map(|(k, v, l, w)| json!({
            "matchLabels": object(vec![(k, json!(v))]),
            "matchExpressions": [{"key": l, "operator": "In", "values": [w]}],
        })),
        1 => broken,
    ]
}

fn block() -> impl Strategy<Value = Value> {
    (pick(&BLOCKS), prop::collection::vec(pick(&BLOCKS), 0..3)).prop_map(|(cidr, except)| {
        // Only exceptions that a server accepts: inside the block, and smaller.
        let outer: ipnet::IpNet = cidr.parse().expect("a block of the list");
        let inside =
            |net: &&str| net.parse::<ipnet::IpNet>().is_ok_and(|n| outer.contains(&n) && n.prefix_len() > outer.prefix_len());
        let except: Vec<&str> = except.iter().copied().filter(|n| inside(n)).collect();
        if except.is_empty() { json!({"cidr": cidr}) } else { json!({"cidr": cidr, "except": except}) }
    })
}

fn peer() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => selector().prop_map(|pods| json!({"podSelector": pods})),
        3 => selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        3 => (selector(), selector()).prop_map(|(pods, namespaces)| json!({"podSelector": pods, "namespaceSelector": namespaces})),
        6 => block().prop_map(|block| json!({"ipBlock": block})),
        1 => Just(json!({})),
        1 => Just(json!({"ipBlock": {"cidr": "10.0.0.0"}})),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    let protocol = || prop::option::of(pick(&["TCP", "UDP", "SCTP"]));
    let with = |protocol: Option<&str>, rest: Vec<(&str, Value)>| {
        let protocol = protocol.map(|p| ("protocol", json!(p)));
        object(protocol.into_iter().chain(rest).collect())
    };
    prop_oneof![
        2 => protocol().prop_map(move |p| with(p, vec![])),
        5 => (protocol(), pick(&PORTS)).prop_map(move |(p, n)| with(p, vec![("port", json!(n))])),
        3 => (protocol(), pick(&PORTS), pick(&PORTS))
            .prop_map(move |(p, a, b)| with(p, vec![("port", json!(a.min(b))), ("endPort", json!(a.max(b)))])),
        4 => (protocol(), pick(&PORT_NAMES)).prop_map(move |(p, n)| with(p, vec![("port", json!(n))])),
        1 => Just(json!({"protocol": "ICMP"})),
        1 => Just(json!({"port": 0})),
    ]
}

fn rules(peers: &'static str) -> impl Strategy<Value = Value> {
    let lists = (prop::collection::vec(peer(), 0..3), prop::collection::vec(port(), 0..3));
    let rule = lists.prop_map(move |(peer_list, port_list)| object(vec![(peers, json!(peer_list)), ("ports", json!(port_list))]));
    prop::collection::vec(rule, 0..3).prop_map(Value::Array)
}

fn policy() -> impl Strategy<Value = Value> {
    let types = prop_oneof![
        3 => Just(None),
        2 => Just(Some(json!(["Ingress"]))),
        2 => Just(Some(json!(["Egress"]))),
        3 => Just(Some(json!(["Ingress", "Egress"]))),
    ];
    let parts = (pick(&NAMESPACES), selector(), types, prop::option::of(rules("from")), prop::option::of(rules("to")));
    parts.prop_map(|(namespace, selector, types, ingress, egress)| {
        let mut spec = vec![("podSelector", selector)];
        spec.extend(types.map(|t| ("policyTypes", t)));
        spec.extend(ingress.map(|r| ("ingress", r)));
        spec.extend(egress.map(|r| ("egress", r)));
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"namespace": namespace},
            "spec": object(spec),
        })
    })
}

fn containers() -> impl Strategy<Value = Value> {
    let port = (pick(&PORT_NAMES), pick(&PORTS), prop::option::of(pick(&["TCP", "UDP", "SCTP"]))).prop_map(
        |(name, number, protocol)| {
            let mut port = vec![("name", json!(name)), ("containerPort", json!(number))];
            port.extend(protocol.map(|p| ("protocol", json!(p))));
            object(port)
        },
    );
    prop::collection::vec(port, 0..3).prop_map(|ports| json!([{"name": "c", "ports": ports}]))
}

fn pod() -> impl Strategy<Value = Value> {
    // Eight addresses for a handful of pods: some pods will claim the same one.
    let address = 0u8..8;
    let shape = (pick(&NAMESPACES), labels(), containers(), containers(), pick(&["", "Always"]));
    let state = (
        prop_oneof![8 => Just("Running"), 1 => Just("Succeeded"), 1 => Just("Failed"), 1 => Just("Pending")],
        prop_oneof![5 => Just("n1"), 5 => Just("n2"), 1 => Just("")],
        prop::bool::weighted(0.1),
        address,
        pick(&["v4", "v6", "dual", "single field", "none"]),
    );
    (shape, state).prop_map(|((namespace, labels, main, init, restart), (phase, node, is_host, address, family))| {
        let host = NODES.iter().find(|(name, _)| *name == node).map_or("192.0.2.9", |(_, address)| address);
        let v4 = if is_host { host.to_owned() } else { format!("10.244.0.{address}") };
        let v6 = format!("fd00::{address}");
        let mut status = vec![("phase", json!(phase))];
        match family {
            "v4" => status.extend([("podIP", json!(v4)), ("podIPs", json!([{"ip": v4}]))]),
            "v6" if !is_host => status.extend([("podIP", json!(v6)), ("podIPs", json!([{"ip": v6}]))]),
            "dual" if !is_host => status.extend([("podIP", json!(v4)), ("podIPs", json!([{"ip": v4}, {"ip": v6}]))]),
            "none" => {}
            _ => status.push(("podIP", json!(v4))),
        }
        let mut init = init;
        if !restart.is_empty() {
            init[0]["restartPolicy"] = json!(restart);
        }
        let mut spec = vec![("containers", main), ("initContainers", init)];
        if !node.is_empty() {
            spec.push(("nodeName", json!(node)));
        }
        if is_host {
            spec.push(("hostNetwork", json!(true)));
        }
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": namespace, "labels": labels},
            "spec": object(spec),
            "status": object(status),
        })
    })
}

fn namespace(name: &'static str) -> impl Strategy<Value = Value> {
    labels()
        .prop_map(move |labels| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}))
}

fn named(mut object: Value, name: String) -> Value {
    object["metadata"]["name"] = json!(name);
    object
}

/// Makes some pods replicas of the pod before them: alike in everything but node, address and phase.
fn with_replicas(pods: Vec<(Value, bool)>) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::with_capacity(pods.len());
    for (mut pod, is_replica) in pods {
        if let Some(before) = out.last().filter(|_| is_replica) {
            pod["metadata"] = before["metadata"].clone();
            for field in ["containers", "initContainers"] {
                pod["spec"][field] = before["spec"][field].clone();
            }
        }
        out.push(pod);
    }
    out
}

/// A cluster of up to seven pods and five policies.
pub fn cluster() -> impl Strategy<Value = Cluster> {
    let namespaces = (namespace("x"), namespace("y"), namespace("z"));
    let pods = prop::collection::vec((pod(), prop::bool::weighted(0.35)), 1..8).prop_map(with_replicas);
    let policies = prop::collection::vec(policy(), 0..6);
    (namespaces, pods, policies).prop_map(|((x, y, z), pods, policies)| {
        let mut objects = vec![x, y, z];
        for (name, address) in NODES {
            let status =
                json!({"addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]});
            objects.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}));
        }
        objects.extend(pods.into_iter().enumerate().map(|(i, pod)| named(pod, format!("p{i}"))));
        objects.extend(policies.into_iter().enumerate().map(|(i, policy)| named(policy, format!("np{i}"))));
        Cluster { objects }
    })
}

/// A cluster in which a policy has more distinct peers than get a set each, beside peers that other policies have too.
pub fn crowded() -> impl Strategy<Value = Cluster> {
    let random = || (rules("from"), rules("from"), rules("to"), rules("to"));
    let fillers = (0usize..8, 0usize..8);
    (cluster(), selector(), random(), fillers, any::<(bool, u8)>()).prop_map(
        |(mut cluster, pods, rules, fillers, (is_everyone, wide))| {
            let pods = if is_everyone { json!({}) } else { pods };
            let list = |peers: &str, a: Value, b: Value, shift: usize| {
                let filler = |i: usize| {
                    let block = json!({"ipBlock": {"cidr": format!("198.51.100.{}/32", i * 2 + shift)}});
                    json!({peers: [block], "ports": [{"port": 10_000 + i}]})
                };
                let mut out: Vec<Value> = (0..18).map(filler).collect();
                // Peers with many blocks; equal blocks of several peers, for long ranges of ports; and ranges without a gap.
                let except: Vec<String> = (0..9).map(|i| format!("198.51.100.{}/32", i * 4 + shift)).collect();
                let many = json!({"ipBlock": {"cidr": "198.51.100.0/26", "except": except}});
                out.extend(
                    (wide & 1 > 0)
                        .then(|| json!({peers: [many], "ports": [{"port": 10_001}, {"port": 10_020, "endPort": 10_030}]})),
                );
                let block = json!({"ipBlock": {"cidr": "198.51.100.8/29"}});
                let with = |app: &str, low: u16| {
                    let pods = json!({"podSelector": {"matchLabels": {"app": app}}});
                    json!({peers: [block, pods], "ports": [{"port": low, "endPort": low + 300}]})
                };
                out.extend((wide & 2 > 0).then(|| [with("a", 20_000), with("b", 20_500)]).into_iter().flatten());
                let last = json!({peers: [block], "ports": [{"port": 30_000, "endPort": u16::MAX}]});
                let inner = json!({peers: [{"ipBlock": {"cidr": "198.51.100.9/32"}}], "ports": [{"port": 40_000}]});
                out.extend((wide & 4 > 0).then_some([last, inner]).into_iter().flatten());
                out.extend(a.as_array().into_iter().chain(b.as_array()).flatten().cloned());
                out
            };
            let (a, b, c, d) = rules;
            let spec = json!({
                "podSelector": pods,
                "policyTypes": ["Ingress", "Egress"],
                "ingress": list("from", a, b, fillers.0),
                "egress": list("to", c, d, fillers.1),
            });
            cluster.objects.push(json!({
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "crowded", "namespace": "x"},
                "spec": spec,
            }));
            cluster
        },
    )
}

/// The next state with most objects as they were: what one change does shows only when little else changes.
#[must_use]
pub fn mostly_as_before(before: &Cluster, after: &Cluster, is_new: &[bool]) -> Cluster {
    let name = |o: &Value| (o["kind"].to_string(), o["metadata"]["name"].to_string());
    let mut objects = before.objects.clone();
    for (object, _) in after.objects.iter().zip(is_new.iter().cycle()).filter(|(_, is_new)| **is_new) {
        match objects.iter_mut().find(|o| name(o) == name(object)) {
            Some(same) => *same = object.clone(),
            None => objects.push(object.clone()),
        }
    }
    Cluster { objects }
}

impl Cluster {
    /// Every address worth asking about: those of pods and nodes, some that nobody has, some outside.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut out: BTreeSet<IpAddr> = EXTERNAL.iter().filter_map(|a| a.parse().ok()).collect();
        out.extend(NODES.iter().filter_map(|(_, a)| a.parse::<IpAddr>().ok()));
        for pod in &self.objects {
            let many = pod.pointer("/status/podIPs").and_then(Value::as_array).into_iter().flatten();
            let single = pod.pointer("/status/podIP").into_iter();
            let texts = many.filter_map(|ip| ip.pointer("/ip")).chain(single).filter_map(Value::as_str);
            out.extend(texts.filter_map(|a| a.parse::<IpAddr>().ok()));
        }
        out.into_iter().collect()
    }

    /// The numbers that the cluster names, and their neighbours, over every transport; and another protocol.
    #[must_use]
    pub fn protocols(&self) -> Vec<Protocol> {
        let mut ports = BTreeSet::new();
        for object in &self.objects {
            numbers(object, &mut ports);
        }
        let around = ports.iter().flat_map(|n| [n.saturating_sub(1), *n, n.saturating_add(1)]).filter(|n| *n > 0);
        let around: BTreeSet<u16> = around.collect();
        let named = ["TCP", "UDP", "SCTP"].into_iter().flat_map(|t| around.iter().map(move |port| Protocol::Port(t, *port)));
        named.chain([Protocol::Other]).collect()
    }
}

fn numbers(value: &Value, out: &mut BTreeSet<u16>) {
    match value {
        Value::Number(number) => out.extend(number.as_u64().and_then(|n| u16::try_from(n).ok())),
        Value::Array(items) => items.iter().for_each(|item| numbers(item, out)),
        Value::Object(map) => map.values().for_each(|item| numbers(item, out)),
        _ => {}
    }
}
