//! The kernel's objects and decisions in the words of Kubernetes.

use std::fmt::{self, Write};
use std::net::IpAddr;

use policy_core::graph::{AllowGraph, Endpoint};
use policy_core::model::Direction;
use policy_core::sets::PortSet;
use policy_core::verdict::Cause;
use policy_ruleset::{GroupDescription, Ruleset, TABLE, workload_name};
use serde::{Deserialize, Serialize};

use crate::denials::nflog::Sample;

/// Policies that a brief report names.
const POLICIES_NAMED: usize = 5;

/// Why one packet was denied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    /// The side that denies; `None` when the packet's chain is gone and no side denies it any more.
    pub direction: Option<Direction>,
    /// The end that opens.
    pub source: End,
    /// The end that it opens to.
    pub destination: End,
    /// `TCP/80`, or `other protocols`.
    pub port: String,
    /// The policies that isolate.
    pub policies: String,
    /// The smallest edit that would allow it; empty when there is none, or when `note` says why it is not known.
    pub nearest_miss: String,
    /// What else there is to know about it.
    pub note: &'static str,
}

/// One end of a denied flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    /// Its address.
    pub address: String,
    /// `namespace/name` of the pods that have it; empty for an address that is no pod's.
    pub pod: String,
    /// `namespace/app`, from the app label.
    pub workload: String,
}

impl End {
    fn new(graph: &AllowGraph, address: IpAddr, endpoint: &Endpoint) -> Self {
        let first = endpoint.pods().first();
        let workload = first.map(|pod| workload_name(graph.pod_name(*pod).0, &graph.pod_labels(*pod)));
        Self { address: address.to_string(), pod: name(graph, endpoint), workload: workload.unwrap_or_default() }
    }

    /// What it is called in a sentence.
    fn name(&self) -> &str {
        if self.pod.is_empty() { &self.address } else { &self.pod }
    }
}

impl Denial {
    /// Writes the one line.
    pub fn log(&self) {
        tracing::info!(
            target: "netpol::denied",
            direction = self.direction.map_or_else(|| "unknown".to_owned(), |direction| direction.to_string()),
            source = self.source.address,
            source_pod = self.source.pod,
            source_workload = self.source.workload,
            destination = self.destination.address,
            destination_pod = self.destination.pod,
            destination_workload = self.destination.workload,
            port = self.port,
            policies = self.policies,
            nearest_miss = self.nearest_miss,
            note = self.note,
            "denied"
        );
    }
}

/// Explains a sample by the same verdict that `netpol can` gives.
#[must_use]
pub fn denied(graph: &AllowGraph, group: Option<&GroupDescription>, sample: &Sample) -> Denial {
    let (source, destination) = (graph.endpoint(sample.flow.source), graph.endpoint(sample.flow.destination));
    let from = End::new(graph, sample.flow.source, &source);
    let to = End::new(graph, sample.flow.destination, &destination);
    let asked = PortSet::of(sample.flow.protocol);
    let sides = graph.explain(&source, &destination, false, &asked, [from.name(), to.name()]);
    let side = match group {
        Some(group) => sides.iter().find(|side| side.direction == group.direction),
        None => sides.iter().find(|side| !side.cause.is_allowed()),
    };
    let policies = side.map(|s| s.policies.iter().map(|p| format!("{}/{}", p.namespace, p.name)).collect::<Vec<_>>());
    let nearest_miss = side.and_then(|s| s.nearest_miss.as_ref()).map(|miss| format!("{}: {}", miss.policy, miss.edit));
    let is_unknown = side.is_some_and(|side| side.cause == Cause::Quarantined);
    Denial {
        direction: side.map(|side| side.direction),
        source: from,
        destination: to,
        port: sample.flow.protocol.to_string(),
        policies: policies.unwrap_or_default().join(", "),
        nearest_miss: nearest_miss.filter(|_| !is_unknown).unwrap_or_default(),
        note: if is_unknown { "in quarantine until the pod at this address is known" } else { "" },
    }
}

/// Why a sample was reported without an explanation.
pub const UNAFFORDABLE: &str = "not explained: too many denied packets, or policies that are too large";
/// The same, for a sample of rules that are not in force any more.
pub const REPLACED: &str = "denied by rules that have been replaced since";

/// Reports a sample without asking which rules would have allowed it: what that costs does not depend on the policies.
#[must_use]
pub fn denied_briefly(graph: &AllowGraph, group: Option<&GroupDescription>, sample: &Sample, note: &'static str) -> Denial {
    let (source, destination) = (graph.endpoint(sample.flow.source), graph.endpoint(sample.flow.destination));
    let named = group.into_iter().flat_map(|group| group.policies.iter().take(POLICIES_NAMED)).map(ToString::to_string);
    let mut policies: Vec<String> = named.collect();
    let more = group.map_or(0, |group| group.policies.len().saturating_sub(POLICIES_NAMED));
    if more > 0 {
        policies.push(format!("and {more} more"));
    }
    Denial {
        direction: group.map(|group| group.direction),
        source: End::new(graph, sample.flow.source, &source),
        destination: End::new(graph, sample.flow.destination, &destination),
        port: sample.flow.protocol.to_string(),
        policies: policies.join(", "),
        nearest_miss: String::new(),
        note,
    }
}

/// The pods at an address; empty for an address that is no pod's.
fn name(graph: &AllowGraph, endpoint: &Endpoint) -> String {
    let names = endpoint.pods().iter().map(|pod| {
        let (namespace, name) = graph.pod_name(*pod);
        format!("{namespace}/{name}")
    });
    names.collect::<Vec<_>>().join(",")
}

/// The pods and policies behind a chain or a set of the table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChainExplanation {
    /// Its description, one line for each pod and policy.
    Found(String),
    /// There is no such chain or set.
    Unknown {
        /// The name that was asked for.
        name: String,
        /// Names that contain it.
        similar: Vec<String>,
    },
}

/// Names that are offered in place of an unknown one.
const MOST_SIMILAR: usize = 10;

impl fmt::Display for ChainExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(text) => f.write_str(text),
            Self::Unknown { name, similar } => {
                writeln!(f, "there is no chain or set `{name}` in the table `inet {TABLE}`")?;
                similar.iter().try_for_each(|name| writeln!(f, "did you mean `{name}`?"))
            }
        }
    }
}

/// The pods and policies behind a chain or a set of the table.
#[must_use]
pub fn chain(ruleset: &Ruleset, name: &str) -> ChainExplanation {
    let Some(description) = ruleset.descriptions.get(name) else {
        let similar = ruleset.descriptions.keys().filter(|known| known.contains(name)).take(MOST_SIMILAR).cloned().collect();
        return ChainExplanation::Unknown { name: name.to_owned(), similar };
    };
    let mut text = format!("{name}\n  {}\n", description.text);
    if let Some(group) = &description.group {
        for pod in &group.pods {
            let _ = writeln!(text, "  pod {pod}");
        }
        for policy in &group.policies {
            let _ = writeln!(text, "  policy {policy}");
        }
    }
    if let Some(chain) = ruleset.chains.get(name) {
        let _ = writeln!(text, "  {} rules: nft list chain inet {TABLE} {name}", chain.rules.len());
    } else {
        let _ = writeln!(text, "  nft list set inet {TABLE} {name}");
    }
    ChainExplanation::Found(text)
}
