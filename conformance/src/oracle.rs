//! A naive evaluator, written from S1 to S3 of the semantics and from nothing else.
//!
//! It works on Kubernetes objects as plain JSON, rule by rule, with no index, no set and no cache, and shares no code with
//! the engine. Slow and obvious on purpose. Objects are taken as stored by an API server in legacy mode: what cannot be
//! read fails closed (S1.20).

use std::net::IpAddr;

use serde_json::Value;

/// A cluster as a list of objects.
pub struct Oracle {
    objects: Vec<Value>,
    /// Endpoints by their place among the objects, with their addresses.
    endpoints: Vec<(usize, Vec<IpAddr>)>,
    /// Addresses of pods that cannot be read.
    quarantined: Vec<IpAddr>,
    /// Addresses of nodes, and the nodes' names.
    nodes: Vec<(IpAddr, String)>,
}

/// What a flow carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// `TCP`, `UDP` or `SCTP` with a destination port.
    Port(&'static str, u16),
    /// Any protocol that a policy cannot name.
    Other,
}

/// The empty list, for fields that are absent or null (S1.5).
const NONE: &[Value] = &[];

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(NONE, Vec::as_slice)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn given<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    value.get(field).filter(|v| !v.is_null())
}

fn has_only(value: &Value, fields: &[&str]) -> bool {
    value.as_object().is_none_or(|map| map.keys().all(|key| fields.contains(&key.as_str())))
}

fn namespace_of(object: &Value) -> &str {
    match text(object, "/metadata/namespace") {
        "" => "default",
        name => name,
    }
}

impl Oracle {
    /// The cluster of these objects.
    #[must_use]
    pub fn new(objects: Vec<Value>) -> Self {
        let of_kind = |kind: &'static str| objects.iter().enumerate().filter(move |(_, o)| text(o, "/kind") == kind);
        let is_live = |pod: &Value| !["Succeeded", "Failed"].contains(&text(pod, "/status/phase"));
        let is_host = |pod: &Value| pod.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true);
        let (mut endpoints, mut quarantined, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
        for (place, pod) in of_kind("Pod").filter(|(_, pod)| is_live(pod)) {
            let node = text(pod, "/spec/nodeName");
            if is_host(pod) {
                // The nodes of an address: those that list it, and those whose live hostNetwork pods have it.
                nodes.extend(addresses(pod).into_iter().map(|address| (address, node.to_owned())));
            } else if is_unknown(pod) {
                // S2.25.
                let may_be_scheduled = pod.pointer("/spec/nodeName").is_some_and(|node| node.as_str() != Some(""));
                quarantined.extend(addresses(pod).into_iter().filter(|_| may_be_scheduled));
            } else if !node.is_empty() && !addresses(pod).is_empty() {
                // S2.1.
                endpoints.push((place, addresses(pod)));
            }
        }
        for (_, node) in of_kind("Node") {
            let listed = node.pointer("/status/addresses").and_then(Value::as_array).map_or(NONE, Vec::as_slice);
            let listed = listed.iter().filter_map(|address| text(address, "/address").parse().ok());
            nodes.extend(listed.map(|address| (address, text(node, "/metadata/name").to_owned())));
        }
        Self { objects, endpoints, quarantined, nodes }
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |o| text(o, "/kind") == kind)
    }

    /// Whether a pod that cannot be read may have this address (S2.25).
    fn is_quarantined(&self, address: IpAddr) -> bool {
        self.quarantined.contains(&address)
    }

    /// The endpoints that claim an address (S2.5).
    fn claimants(&self, address: IpAddr) -> Vec<&Value> {
        let claims = self.endpoints.iter().filter(|(_, addresses)| addresses.contains(&address));
        claims.filter_map(|(place, _)| self.objects.get(*place)).collect()
    }

    /// The nodes of an address.
    fn nodes(&self, address: IpAddr) -> Vec<&str> {
        let named = self.nodes.iter().filter(|(other, name)| *other == address && !name.is_empty());
        named.map(|(_, name)| name.as_str()).collect()
    }

    /// The verdict on a flow: S3.15 without the tiers of S4.
    #[must_use]
    pub fn is_allowed(&self, source: IpAddr, destination: IpAddr, protocol: Protocol) -> bool {
        if self.is_quarantined(source) || self.is_quarantined(destination) {
            return false; // S2.25
        }
        let (sources, destinations) = (self.claimants(source), self.claimants(destination));
        if !sources.is_empty() && source == destination {
            return true; // S2.14
        }
        if sources.len() == 1 && destinations.len() == 1 && std::ptr::eq(sources[0], destinations[0]) {
            return true; // S2.14, by another of its addresses
        }
        for pod in &sources {
            if !self.side(pod, "Egress", destination, &destinations, protocol) {
                return false;
            }
        }
        for pod in &destinations {
            let own_node = text(pod, "/spec/nodeName");
            if sources.is_empty() && self.nodes(source).contains(&own_node) {
                continue; // S2.11
            }
            if !self.side(pod, "Ingress", source, &sources, protocol) {
                return false;
            }
        }
        true
    }

    /// S3.1 to S3.3 for one endpoint and one direction.
    fn side(&self, pod: &Value, direction: &str, address: IpAddr, others: &[&Value], protocol: Protocol) -> bool {
        let mut is_isolated = false;
        for policy in self.of_kind("NetworkPolicy") {
            let target = selects(policy.pointer("/spec/podSelector").unwrap_or(&Value::Null), &labels(pod));
            let is_target = namespace_of(policy) == namespace_of(pod) && target.unwrap_or(true);
            if !is_target || !types(policy).contains(&direction) {
                continue;
            }
            is_isolated = true;
            if target.is_none() {
                continue; // S0.6: rules for pods that nobody knows open nothing
            }
            let (rules, peers) = if direction == "Ingress" { ("ingress", "from") } else { ("egress", "to") };
            for rule in list(policy.pointer("/spec").unwrap_or(&Value::Null), rules) {
                // S1.20: a null rule, or one with a field that is not known, matches nothing.
                if rule.is_null() || !has_only(rule, &[peers, "ports"]) {
                    continue;
                }
                let peer_list = list(rule, peers);
                let port_list = list(rule, "ports");
                let peer = peer_list.is_empty() || peer_list.iter().any(|p| self.peer(policy, p, address, others));
                let named_by = if direction == "Ingress" { vec![pod] } else { others.to_vec() };
                let port = port_list.is_empty() || port_list.iter().any(|p| port(p, protocol, &named_by));
                if peer && port {
                    return true;
                }
            }
        }
        !is_isolated
    }

    /// S1.33 and S1.40.
    fn peer(&self, policy: &Value, peer: &Value, address: IpAddr, others: &[&Value]) -> bool {
        if !has_only(peer, &["podSelector", "namespaceSelector", "ipBlock"]) {
            return false; // S1.20
        }
        let (pods, namespaces, block) = (given(peer, "podSelector"), given(peer, "namespaceSelector"), given(peer, "ipBlock"));
        match (pods, namespaces, block) {
            (None, None, Some(block)) => in_block(block, address),
            (None, None, None) | (_, _, Some(_)) => false, // S1.16, fails closed
            (pods, namespaces, None) => {
                // S2.5: every claimant must match, and external addresses have none (S1.41).
                !others.is_empty()
                    && others.iter().all(|other| {
                        let in_namespace = match namespaces {
                            None => namespace_of(other) == namespace_of(policy),
                            Some(selector) => selects(selector, &self.namespace_labels(namespace_of(other))) == Some(true),
                        };
                        // An unreadable half makes the whole peer unreadable.
                        let is_readable = [pods, namespaces].into_iter().flatten().all(|s| selects(s, &[]).is_some());
                        is_readable && in_namespace && pods.is_none_or(|s| selects(s, &labels(other)) == Some(true))
                    })
            }
        }
    }

    /// S1.34 to S1.36.
    fn namespace_labels(&self, name: &str) -> Vec<(String, String)> {
        let object = self.of_kind("Namespace").find(|n| text(n, "/metadata/name") == name);
        let mut out: Vec<(String, String)> = object.map(labels).unwrap_or_default();
        out.retain(|(key, _)| key != "kubernetes.io/metadata.name");
        out.push(("kubernetes.io/metadata.name".to_owned(), name.to_owned()));
        out
    }
}

/// S2.25: whether something that decides who a pod is cannot be read.
fn is_unknown(pod: &Value) -> bool {
    let at = |pointer: &str| pod.pointer(pointer).filter(|value| !value.is_null());
    let words = ["/metadata/namespace", "/spec/nodeName", "/status/phase", "/status/podIP"];
    let labels = at("/metadata/labels").is_some_and(|labels| {
        labels.as_object().is_none_or(|map| map.values().any(|value| !value.is_string() && !value.is_null()))
    });
    let single = || at("/status/podIP").is_some_and(|ip| ip.as_str().is_some_and(|ip| !ip.is_empty() && spelled(ip).is_none()));
    let addresses = match at("/status/podIPs") {
        Some(Value::Array(list)) if !list.is_empty() => list.iter().any(|ip| spelled(text(ip, "/ip")).is_none()),
        Some(Value::Array(_)) | None => single(),
        Some(_) => true,
    };
    let network = at("/spec/hostNetwork").is_some_and(|value| !value.is_boolean());
    labels || addresses || network || words.iter().any(|word| at(word).is_some_and(|value| !value.is_string()))
}

/// S2.2.
fn addresses(pod: &Value) -> Vec<IpAddr> {
    let many = pod.pointer("/status/podIPs").and_then(Value::as_array).map_or(NONE, Vec::as_slice);
    if many.is_empty() {
        return spelled(text(pod, "/status/podIP")).into_iter().collect();
    }
    many.iter().filter_map(|ip| spelled(text(ip, "/ip"))).collect()
}

/// S2.2 and S1.19: the address that an old spelling means.
fn spelled(text: &str) -> Option<IpAddr> {
    match legacy_address(text)? {
        IpAddr::V6(v6) => Some(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)),
        v4 => Some(v4),
    }
}

fn labels(object: &Value) -> Vec<(String, String)> {
    let map = object.pointer("/metadata/labels").and_then(Value::as_object);
    map.into_iter().flatten().map(|(k, v)| (k.clone(), v.as_str().unwrap_or("").to_owned())).collect()
}

/// S1.4.
fn types(policy: &Value) -> Vec<&str> {
    let spec = policy.pointer("/spec").unwrap_or(&Value::Null);
    let named = list(spec, "policyTypes");
    if named.is_empty() {
        return if list(spec, "egress").is_empty() { vec!["Ingress"] } else { vec!["Ingress", "Egress"] };
    }
    let known: Vec<&str> = named.iter().filter_map(Value::as_str).filter(|w| ["Ingress", "Egress"].contains(w)).collect();
    // S1.20: an unknown type alone counts as both.
    if known.is_empty() { vec!["Ingress", "Egress"] } else { known }
}

/// S1.30 to S1.32; `None` for a selector that the API server would refuse.
fn selects(selector: &Value, labels: &[(String, String)]) -> Option<bool> {
    if !has_only(selector, &["matchLabels", "matchExpressions"]) {
        return None;
    }
    let value = |key: &str| labels.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    let mut result = true;
    for (key, wanted) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        result &= value(key) == wanted.as_str();
    }
    for expression in list(selector, "matchExpressions") {
        let values: Vec<&str> = list(expression, "values").iter().filter_map(Value::as_str).collect();
        let found = value(text(expression, "/key"));
        result &= match text(expression, "/operator") {
            "In" if !values.is_empty() => found.is_some_and(|v| values.contains(&v)),
            "NotIn" if !values.is_empty() => found.is_none_or(|v| !values.contains(&v)),
            "Exists" if values.is_empty() => found.is_some(),
            "DoesNotExist" if values.is_empty() => found.is_none(),
            _ => return None,
        };
    }
    Some(result)
}

/// S1.40 to S1.43, bit by bit.
fn in_block(block: &Value, address: IpAddr) -> bool {
    let Some(inside) = in_cidr(text(block, "/cidr"), address) else { return false };
    let mut excepted = false;
    for except in list(block, "except") {
        match except.as_str().and_then(|e| in_cidr(e, address)) {
            Some(hit) => excepted |= hit,
            None => return false, // S1.20: an unreadable except
        }
    }
    inside && !excepted
}

fn in_cidr(cidr: &str, address: IpAddr) -> Option<bool> {
    let (net, length) = cidr.split_once('/')?;
    let (mut net, mut length): (IpAddr, u32) = (legacy_address(net)?, length.parse().ok()?);
    // S1.19: an IPv4-mapped block is the IPv4 block, unless it is too large for that.
    if let IpAddr::V6(v6) = net
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        net = IpAddr::V4(v4);
        length = length.checked_sub(96)?;
    }
    let bits = |a: IpAddr| -> Vec<bool> {
        let bytes = match a {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1 == 1)).collect()
    };
    let (net_bits, address_bits) = (bits(net), bits(address));
    if length as usize > net_bits.len() {
        return None;
    }
    let is_same_family = net_bits.len() == address_bits.len();
    Some(is_same_family && net_bits.iter().zip(&address_bits).take(length as usize).all(|(a, b)| a == b))
}

/// S1.19: leading zeros in dotted numbers mean nothing.
fn legacy_address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse().ok();
    }
    let parts: Vec<&str> = text.split('.').collect();
    let trimmed = parts.iter().map(|p| if p.len() > 1 { p.trim_start_matches('0') } else { p });
    trimmed.map(|p| if p.is_empty() { "0" } else { p }).collect::<Vec<_>>().join(".").parse().ok()
}

/// S1.50 to S1.55. `named_by` are the pods on which a name is looked up; all of them must agree (S2.5).
fn port(entry: &Value, protocol: Protocol, named_by: &[&Value]) -> bool {
    let Protocol::Port(transport, number) = protocol else { return false };
    if entry.is_null() || !has_only(entry, &["protocol", "port", "endPort"]) {
        return false; // S1.20
    }
    let wanted = given(entry, "protocol").map_or(Some("TCP"), Value::as_str);
    if wanted != Some(transport) {
        return false;
    }
    let end = given(entry, "endPort").map(|e| e.as_i64().unwrap_or(-1));
    match given(entry, "port") {
        None => end.is_none(),
        Some(Value::Number(low)) => {
            let low = low.as_i64().unwrap_or(-1);
            let high = end.unwrap_or(low);
            (1..=65535).contains(&low) && (low..=65535).contains(&high) && (low..=high).contains(&i64::from(number))
        }
        Some(Value::String(name)) => {
            end.is_none() && !named_by.is_empty() && named_by.iter().all(|pod| declares(pod, name, transport, number))
        }
        Some(_) => false,
    }
}

/// S1.55.
fn declares(pod: &Value, name: &str, transport: &str, number: u16) -> bool {
    let spec = pod.pointer("/spec").unwrap_or(&Value::Null);
    let sidecars = list(spec, "initContainers").iter().filter(|c| text(c, "/restartPolicy") == "Always");
    list(spec, "containers").iter().chain(sidecars).flat_map(|c| list(c, "ports")).any(|p| {
        let protocol = match text(p, "/protocol") {
            "" => "TCP",
            given => given,
        };
        text(p, "/name") == name
            && protocol == transport
            && p.get("containerPort").and_then(Value::as_u64) == Some(u64::from(number))
    })
}
