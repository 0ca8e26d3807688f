//! What users write for the ends of a connection, and for ports.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Result, anyhow, bail};
use ipnet::IpNet;
use policy_core::manifest::{Extent, PodMaker, nearest};
use policy_core::model::{ObjectKey, WorkloadKey};
use policy_core::sets::{AddressSet, PortSet, Protocol, Transport};
use policy_core::verdict::WorkloadPods;

use super::evaluation::Evaluation;

/// One end of a question.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// The pods of a workload.
    Workload { namespace: String, owner: WorkloadKey },
    /// One pod of a workload.
    Pod(ObjectKey),
    /// Processes of a node.
    Node(String),
    /// One address, whatever uses it.
    Address(IpAddr),
    /// All addresses of a block, whatever uses them.
    Block(IpNet),
    /// Every address that belongs to no pod and no node.
    External,
}

impl End {
    /// The name of the end in text.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Workload { namespace, owner } => format!("{namespace}/{}", owner.name),
            Self::Pod(key) => key.to_string(),
            Self::Node(name) => format!("node/{name}"),
            Self::Address(address) => address.to_string(),
            Self::Block(block) => block.to_string(),
            Self::External => "external".to_owned(),
        }
    }

    /// The namespace, when the end is in one.
    pub(crate) fn namespace(&self) -> Option<&str> {
        match self {
            Self::Workload { namespace, .. } => Some(namespace),
            Self::Pod(key) => Some(&key.namespace),
            Self::Node(_) | Self::Address(_) | Self::Block(_) | Self::External => None,
        }
    }

    /// The pods that are meant, when the end is pods.
    pub(crate) fn unit(&self, evaluation: &Evaluation) -> Option<WorkloadPods> {
        match self {
            Self::Workload { namespace, owner } => {
                let workload = evaluation.snapshot.workloads.get(&(namespace.clone(), owner.clone()))?;
                Some(evaluation.unit(workload))
            }
            Self::Pod(key) => Some(evaluation.unit_of_pod(key)),
            Self::Node(_) | Self::Address(_) | Self::Block(_) | Self::External => None,
        }
    }

    /// The addresses that are meant, when the end is addresses.
    pub(crate) fn addresses(&self) -> Option<AddressSet> {
        match self {
            Self::Address(address) => Some(AddressSet::single(*address)),
            Self::Block(block) => Some(AddressSet::block(*block)),
            Self::External => Some(AddressSet::all()),
            Self::Workload { .. } | Self::Pod(_) | Self::Node(_) => None,
        }
    }
}

/// The Kubernetes kind of a word before a slash.
fn kind(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_lowercase().as_str() {
        "po" | "pod" | "pods" => "Pod",
        "deploy" | "deployment" | "deployments" => "Deployment",
        "sts" | "statefulset" | "statefulsets" => "StatefulSet",
        "ds" | "daemonset" | "daemonsets" => "DaemonSet",
        "job" | "jobs" => "Job",
        "cj" | "cronjob" | "cronjobs" => "CronJob",
        "rs" | "replicaset" | "replicasets" => "ReplicaSet",
        "rc" | "replicationcontroller" | "replicationcontrollers" => "ReplicationController",
        "no" | "node" | "nodes" => "Node",
        _ => return None,
    })
}

/// Names of other kinds than Kubernetes', beside the kind itself and its plural.
const SHORT_NAMES: [(&str, &str); 6] = [
    ("dc", "DeploymentConfig"),
    ("ksvc", "Service"),
    ("prom", "Prometheus"),
    ("ro", "Rollout"),
    ("svc", "Service"),
    ("vm", "VirtualMachine"),
];

/// The kind of a word before a slash, among those of Kubernetes and those of the input.
fn kind_in(evaluation: &Evaluation, word: &str) -> Option<String> {
    if let Some(kind) = kind(word) {
        return Some(kind.to_owned());
    }
    // `rollouts.argoproj.io`
    let word = word.split('.').next().unwrap_or(word).to_ascii_lowercase();
    let snapshot = &evaluation.snapshot;
    let workloads = snapshot.workloads.keys().map(|(_, owner)| owner.kind.as_str());
    let kinds: BTreeSet<&str> = workloads.chain(snapshot.makers.iter().map(|maker| maker.kind.as_str())).collect();
    let is_meant = |kind: &&str| {
        let singular = kind.to_ascii_lowercase();
        let stem = singular.strip_suffix('y').map(|stem| format!("{stem}ies"));
        [Some(format!("{singular}s")), Some(format!("{singular}es")), stem, Some(singular)].contains(&Some(word.clone()))
            || SHORT_NAMES.contains(&(word.as_str(), kind))
    };
    kinds.into_iter().find(is_meant).map(str::to_owned)
}

/// Whether a namespace is in the input.
fn is_namespace(evaluation: &Evaluation, name: &str) -> bool {
    let snapshot = &evaluation.snapshot;
    snapshot.namespaces.contains_key(name) || snapshot.makers.iter().any(|maker| maker.namespace == name)
}

/// Reads one end.
///
/// # Errors
/// If the input has no object with this name, or more than one. The message suggests similar names.
pub(crate) fn parse(text: &str, default_namespace: &str, evaluation: &Evaluation) -> Result<End> {
    if text == "external" {
        return Ok(End::External);
    }
    if let Ok(address) = text.parse() {
        return Ok(End::Address(address));
    }
    if let Ok(block) = text.parse::<IpNet>() {
        return Ok(End::Block(block.trunc()));
    }
    let parts: Vec<&str> = text.split('/').collect();
    match parts.as_slice() {
        [name] => find(evaluation, default_namespace, None, name),
        ["node" | "no" | "nodes", name] => node(evaluation, name),
        [first, name] => match kind_in(evaluation, first) {
            Some(found) if kind(first).is_some() || !is_namespace(evaluation, first) => {
                find(evaluation, default_namespace, Some(&found), name)
            }
            _ => find(evaluation, first, None, name),
        },
        [namespace, word, name] => match kind_in(evaluation, word).as_deref() {
            Some("Node") | None => {
                bail!("`{word}` in `{text}` is not a workload kind; expected pod, deploy, sts, ds, job, cronjob, rs or rc")
            }
            Some(kind) => find(evaluation, namespace, Some(kind), name),
        },
        _ => bail!("cannot read `{text}`; expected ns/name, kind/name, ns/kind/name, an address, a CIDR or `external`"),
    }
}

fn node(evaluation: &Evaluation, name: &str) -> Result<End> {
    let is_there = evaluation.snapshot.nodes.contains_key(name)
        || evaluation.snapshot.pods.values().any(|p| p.placement == policy_core::model::Placement::Node(name.to_owned()));
    if is_there {
        return Ok(End::Node(name.to_owned()));
    }
    let hint = nearest(name, evaluation.snapshot.nodes.keys().map(String::as_str)).map(|n| format!("; did you mean `node/{n}`?"));
    bail!("there is no node `{name}` in the input{}", hint.unwrap_or_default())
}

fn find(evaluation: &Evaluation, namespace: &str, kind: Option<&str>, name: &str) -> Result<End> {
    let is_wanted = |k: &str| kind.is_none_or(|kind| kind == k);
    let mut found: Vec<End> = evaluation
        .snapshot
        .workloads
        .keys()
        .filter(|(ns, owner)| ns == namespace && owner.name == name && is_wanted(&owner.kind))
        .map(|(ns, owner)| End::Workload { namespace: ns.clone(), owner: owner.clone() })
        .collect();
    let key = ObjectKey::new(namespace, name);
    let is_own_workload = found.iter().any(|end| matches!(end, End::Workload { owner, .. } if owner.kind == "Pod"));
    if is_wanted("Pod") && !is_own_workload && evaluation.snapshot.pods.contains_key(&key) {
        found.push(End::Pod(key));
    }
    if found.is_empty() {
        found = made_by(evaluation, namespace, kind, name)?;
    }
    match found.as_slice() {
        [] => Err(unknown(evaluation, namespace, kind, name)),
        [end] => ends_somewhere(evaluation, end).map(|()| end.clone()),
        several => {
            let kinds: Vec<String> = several
                .iter()
                .map(|end| match end {
                    End::Workload { owner, .. } => format!("{namespace}/{}/{}", owner.kind.to_lowercase(), owner.name),
                    _ => format!("{namespace}/pod/{name}"),
                })
                .collect();
            bail!("`{namespace}/{name}` is ambiguous; specify one of {}", kinds.join(", "))
        }
    }
}

/// The workloads that the controller of an object has made; none when there is no such object.
///
/// # Errors
/// If there is one, and the input has no pods of it.
fn made_by(evaluation: &Evaluation, namespace: &str, kind: Option<&str>, name: &str) -> Result<Vec<End>> {
    let is_meant =
        |maker: &&PodMaker| maker.namespace == namespace && maker.name == name && kind.is_none_or(|kind| kind == maker.kind);
    let makers: Vec<&PodMaker> = evaluation.snapshot.makers.iter().filter(is_meant).collect();
    let owners: BTreeSet<&WorkloadKey> = makers.iter().flat_map(|maker| &maker.workloads).collect();
    let Some(maker) = makers.first().filter(|_| owners.is_empty()) else {
        let end = |owner: &WorkloadKey| End::Workload { namespace: namespace.to_owned(), owner: owner.clone() };
        return Ok(owners.into_iter().map(end).collect());
    };
    let title = maker.title();
    let article = if title.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    bail!(
        "{namespace}/{name} is {article} {title} ({}): its pods are made by a controller that netpol does not know; give it a dump with \
         the pods",
        maker.api_version
    )
}

/// A workload without a single endpoint cannot be an end of a connection.
fn ends_somewhere(evaluation: &Evaluation, end: &End) -> Result<()> {
    let Some(unit) = end.unit(evaluation) else { return Ok(()) };
    if unit.pods.iter().any(|pod| !evaluation.graph.endpoints_of(*pod).is_empty()) {
        return Ok(());
    }
    let pods: Vec<&ObjectKey> = match end {
        End::Workload { namespace, owner } => evaluation
            .snapshot
            .workloads
            .get(&(namespace.clone(), owner.clone()))
            .map(|w| w.pods.iter().collect())
            .unwrap_or_default(),
        End::Pod(key) => vec![key],
        _ => Vec::new(),
    };
    let reason = pods.first().and_then(|key| evaluation.snapshot.pods.get(key)).and_then(|pod| pod.not_endpoint_because());
    Err(anyhow!("`{}` has no traffic: its pod {}", end.name(), reason.unwrap_or("does not exist")))
}

fn unknown(evaluation: &Evaluation, namespace: &str, kind: Option<&str>, name: &str) -> anyhow::Error {
    let what = match kind {
        Some(kind) => format!("{kind} `{name}` in namespace `{namespace}`"),
        None => format!("pod or workload `{name}` in namespace `{namespace}`"),
    };
    let mut names: BTreeSet<(&str, &str)> =
        evaluation.snapshot.workloads.keys().map(|(ns, o)| (ns.as_str(), o.name.as_str())).collect();
    names.extend(
        evaluation.snapshot.pods.keys().filter(|k| !k.name.contains('/')).map(|k| (k.namespace.as_str(), k.name.as_str())),
    );
    names.extend(evaluation.snapshot.makers.iter().map(|maker| (maker.namespace.as_str(), maker.name.as_str())));
    if let Some((set, count)) = numbered(evaluation, namespace, name) {
        return anyhow!(
            "`{namespace}/{name}` is none of the pods of StatefulSet `{set}` that policies name, and {count} pods are too many to list; \
             ask for `{namespace}/statefulset/{set}`"
        );
    }
    let elsewhere: Vec<String> = names.iter().filter(|(_, n)| *n == name).map(|(ns, n)| format!("`{ns}/{n}`")).collect();
    if !elsewhere.is_empty() {
        return anyhow!("there is no {what}; did you mean {}?", elsewhere.join(" or "));
    }
    if !names.iter().any(|(ns, _)| *ns == namespace) {
        let known: BTreeSet<&str> = names.iter().map(|(ns, _)| *ns).collect();
        let near = nearest(namespace, known.iter().copied()).map(|n| format!("did you mean `{n}/{name}`?"));
        let list = || format!("the namespaces with pods are {}", known.iter().copied().collect::<Vec<_>>().join(", "));
        let hint = if known.is_empty() { "the input has no pods and no workloads".to_owned() } else { near.unwrap_or_else(list) };
        return anyhow!("there is no {what}; {hint}");
    }
    let own: Vec<&str> = names.iter().filter(|(ns, _)| *ns == namespace).map(|(_, n)| *n).collect();
    match nearest(name, own.iter().copied()) {
        Some(near) => anyhow!("there is no {what}; did you mean `{namespace}/{near}`?"),
        None => {
            let shown: Vec<&str> = own.iter().take(12).copied().collect();
            let more = if own.len() > shown.len() { ", …" } else { "" };
            anyhow!("there is no {what}; the namespace has {}{more}", shown.join(", "))
        }
    }
}

/// The StatefulSet with too many pods to list them that a pod of this name would belong to, and their number.
fn numbered<'n>(evaluation: &Evaluation, namespace: &str, name: &'n str) -> Option<(&'n str, i64)> {
    let (set, number) = name.rsplit_once('-')?;
    number.parse::<u32>().ok()?;
    let owner = WorkloadKey { kind: "StatefulSet".to_owned(), name: set.to_owned() };
    match evaluation.snapshot.workloads.get(&(namespace.to_owned(), owner))?.extent {
        Extent::Named { count } => Some((set, count)),
        Extent::Whole | Extent::Cut => None,
    }
}

/// Reads the ports of a question; `None` when no port was given. Names are looked up at the destination.
pub(crate) fn ports(texts: &[String], destination: Option<&End>, evaluation: &Evaluation) -> Result<Option<PortSet>> {
    if texts.is_empty() {
        return Ok(None);
    }
    let mut out = PortSet::none();
    for text in texts {
        out = out.union(&port(text, destination, evaluation)?);
    }
    Ok(Some(out))
}

fn port(text: &str, destination: Option<&End>, evaluation: &Evaluation) -> Result<PortSet> {
    let expected = "expected a port such as 80, 53/UDP, 8000-9000/TCP, a port name, `icmp` or `other`";
    let (port, protocol) = match text.split_once('/') {
        Some((port, protocol)) => {
            let upper = protocol.to_ascii_uppercase();
            let transport = Transport::from_name(&upper);
            (
                port,
                transport.ok_or_else(|| match Transport::from_name(&port.to_ascii_uppercase()) {
                    Some(first) => anyhow!("write the port before the protocol: `{protocol}/{first}` instead of `{text}`"),
                    None => anyhow!("`{protocol}` in `{text}` is not a protocol with ports; expected TCP, UDP or SCTP"),
                })?,
            )
        }
        None => (text, Transport::Tcp),
    };
    if ["icmp", "icmpv6", "other"].contains(&port.to_ascii_lowercase().as_str()) && !text.contains('/') {
        return Ok(PortSet::of(Protocol::Other));
    }
    let number = |text: &str| text.parse::<u16>().ok().filter(|n| *n >= 1);
    let (low, high) = port.split_once('-').unwrap_or((port, port));
    if let (Some(low), Some(high)) = (number(low), number(high)) {
        if low > high {
            bail!("the range `{text}` ends before it starts");
        }
        return Ok(PortSet::range(protocol, low, high));
    }
    if port.is_empty() || port.chars().all(|c| c.is_ascii_digit() || c == '-') {
        bail!("`{text}` is not a port; {expected}, from 1 to 65535");
    }
    named_port(port, protocol, destination, evaluation).ok_or_else(|| {
        let end = destination.map_or_else(|| "the destination".to_owned(), End::name);
        anyhow!("no container port of {end} is named `{port}` with protocol {protocol}; {expected}")
    })
}

fn named_port(name: &str, protocol: Transport, destination: Option<&End>, evaluation: &Evaluation) -> Option<PortSet> {
    let pods: Vec<ObjectKey> = match destination? {
        End::Workload { namespace, owner } => {
            evaluation.snapshot.workloads.get(&(namespace.clone(), owner.clone()))?.pods.clone()
        }
        End::Pod(key) => vec![key.clone()],
        _ => return None,
    };
    let ports = pods.iter().filter_map(|key| evaluation.snapshot.pods.get(key)).flat_map(|pod| &pod.ports);
    let set = ports
        .filter(|p| p.name == name && p.protocol == protocol)
        .fold(PortSet::none(), |set, p| set.union(&PortSet::range(protocol, p.number, p.number)));
    (!set.is_empty()).then_some(set)
}
