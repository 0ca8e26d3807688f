//! The kernel's objects and decisions in the words of Kubernetes.

use std::fmt::Write;

use policy_core::graph::AllowGraph;
use policy_core::model::Direction;
use policy_core::sets::PortSet;
use policy_core::verdict::{Cause, Party};
use policy_ruleset::{About, Ruleset, TABLE};

use crate::denied::Sample;

/// Why one packet was denied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    /// The side that denies.
    pub direction: &'static str,
    /// The ends as addresses, and as `namespace/name` where they are pods.
    pub source: (String, String),
    /// See `source`.
    pub destination: (String, String),
    /// The group of pods that the chain stands for: `namespace/app`.
    pub workload: String,
    /// `TCP/80`, or `other protocols`.
    pub port: String,
    /// The policies that isolate.
    pub policies: String,
    /// The smallest edit that would allow it.
    pub nearest_miss: String,
}

impl Denial {
    /// Writes the one line.
    pub fn log(&self) {
        tracing::info!(
            target: "netpol::denied",
            direction = self.direction,
            source = self.source.0,
            source_pod = self.source.1,
            destination = self.destination.0,
            destination_pod = self.destination.1,
            workload = self.workload,
            port = self.port,
            policies = self.policies,
            nearest_miss = self.nearest_miss,
            "denied"
        );
    }
}

/// Explains a sample by the same verdict that `netpol can` gives.
#[must_use]
pub fn denied(graph: &AllowGraph, about: Option<&About>, sample: &Sample) -> Denial {
    let (source, destination) = (graph.party(sample.flow.source), graph.party(sample.flow.destination));
    let names = [name(graph, &source), name(graph, &destination)];
    let [from, to] = [&names[0], &names[1]].map(String::as_str);
    let called = |pod: &str, address: std::net::IpAddr| if pod.is_empty() { address.to_string() } else { pod.to_owned() };
    let (from_text, to_text) = (called(from, sample.flow.source), called(to, sample.flow.destination));
    let asked = PortSet::of(sample.flow.protocol);
    let sides = graph.explain(&source, &destination, false, &asked, [from_text.as_str(), to_text.as_str()]);
    let group = about.and_then(|about| about.group.as_ref());
    let side = match group {
        Some(group) => sides.iter().find(|side| side.direction == group.direction),
        None => sides.iter().find(|side| side.cause == Cause::Denied),
    };
    let policies = side.map(|s| s.policies.iter().map(|p| format!("{}/{}", p.namespace, p.name)).collect::<Vec<_>>());
    let nearest_miss = side.and_then(|s| s.nearest_miss.as_ref()).map(|miss| format!("{}: {}", miss.policy, miss.edit));
    Denial {
        direction: match side.map(|s| s.direction) {
            Some(Direction::Egress) => "egress",
            Some(Direction::Ingress) => "ingress",
            None => "unknown",
        },
        source: (sample.flow.source.to_string(), from.to_owned()),
        destination: (sample.flow.destination.to_string(), to.to_owned()),
        workload: group.map(|group| group.name.clone()).unwrap_or_default(),
        port: sample.flow.protocol.to_string(),
        policies: policies.unwrap_or_default().join(", "),
        nearest_miss: nearest_miss.unwrap_or_default(),
    }
}

/// The pods at an address; empty for an address that is no pod's.
fn name(graph: &AllowGraph, party: &Party) -> String {
    let names = party.pods().iter().map(|pod| {
        let (namespace, name) = graph.pod_name(*pod);
        format!("{namespace}/{name}")
    });
    names.collect::<Vec<_>>().join(",")
}

/// What a chain or set of the table stands for.
#[must_use]
pub fn chain(ruleset: &Ruleset, name: &str) -> String {
    let Some(about) = ruleset.about.get(name) else {
        let mut near: Vec<&String> = ruleset.about.keys().filter(|known| known.contains(name)).collect();
        near.truncate(10);
        let mut text = format!("there is no chain or set `{name}` in the table `inet {TABLE}`\n");
        for known in near {
            let _ = writeln!(text, "did you mean `{known}`?");
        }
        return text;
    };
    let mut text = format!("{name}\n  {}\n", about.text);
    if let Some(group) = &about.group {
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
    text
}
