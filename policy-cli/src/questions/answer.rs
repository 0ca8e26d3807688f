//! The verdict on one question, and why.

use anyhow::{Result, bail};
use policy_core::model::Direction;
use policy_core::sets::{AddressSet, PortSet, ProtocolPorts};
use policy_core::verdict::{Cause, NearMiss, PolicyRef, RuleRef, SideExplanation};
use serde::Serialize;

use super::caveats::caveats;
use super::connections::{Connection, connections};
use super::ends::End;
use super::evaluation::Evaluation;
use crate::output::cidr_texts;

/// The answer, as `-o json` prints it. Fields are only ever added.
#[derive(Serialize, Debug)]
pub(crate) struct Answer {
    pub from: String,
    pub to: String,
    /// What was asked; every protocol and port when no port was given.
    pub asked: Vec<ProtocolPorts>,
    pub verdict: Verdict,
    /// What is allowed of it, for all pods and addresses of both ends.
    pub allowed: Vec<ProtocolPorts>,
    /// What is allowed for some of them only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partly: Vec<ProtocolPorts>,
    pub egress: Side,
    pub ingress: Side,
    /// The outside, split where policies distinguish it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<Outside>,
    pub caveats: Vec<String>,
}

#[derive(Serialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Allowed,
    Denied,
    Partial,
}

impl Verdict {
    /// `all` is allowed in every case that was asked about, `some` in at least one.
    fn of(all: &PortSet, some: &PortSet, asked: &PortSet) -> Self {
        if all == asked {
            Self::Allowed
        } else if some.is_empty() {
            Self::Denied
        } else {
            Self::Partial
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Partial => "partly allowed",
        }
    }
}

/// What one side says.
#[derive(Serialize, Debug)]
pub(crate) struct Side {
    pub verdict: Verdict,
    pub isolated: bool,
    /// The policies that isolate the end in this direction, as `namespace/name`.
    pub policies: Vec<String>,
    /// The same policies with the places where they are written.
    pub isolated_by: Vec<PolicyRef>,
    /// The first rule that allows something of what was asked.
    pub rule: Option<RuleRef>,
    pub reason: String,
    /// Every rule that was considered, and why it does not allow all of it.
    pub rules: Vec<RuleLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest_miss: Option<NearMiss>,
    #[serde(skip)]
    pub explained: SideExplanation,
    /// Policies of the namespace that have no say, and why.
    #[serde(skip)]
    pub others: Vec<(PolicyRef, String)>,
}

#[derive(Serialize, Debug)]
pub(crate) struct RuleLine {
    #[serde(flatten)]
    pub rule: RuleRef,
    pub allows: Vec<ProtocolPorts>,
    pub misses: Vec<String>,
}

#[derive(Serialize, Debug)]
pub(crate) struct Outside {
    pub cidrs: Vec<String>,
    pub allowed: Vec<ProtocolPorts>,
}

pub(crate) fn answer(evaluation: &Evaluation, from: &End, to: &End, ports: Option<&PortSet>) -> Result<Answer> {
    let asked = ports.cloned().unwrap_or_else(PortSet::all);
    let found = connections(evaluation, from, to);
    let Some(first) = found.first() else {
        bail!("{} and {} have no address family in common", from.name(), to.name());
    };
    let (mut all, mut some) = (asked.clone(), PortSet::none());
    for connection in &found {
        let ports = connection.ports().intersection(&asked);
        all = all.intersection(&ports);
        some = some.union(&ports);
    }
    // The case to explain: one that denies as much as any.
    let refused = |c: &&Connection| asked.difference(&c.ports()) != PortSet::none();
    let nothing = |c: &&Connection| c.ports().intersection(&asked).is_empty();
    let shown = found.iter().find(nothing).or_else(|| found.iter().find(refused)).unwrap_or(first);
    let names = [name_of(evaluation, from, shown, true), name_of(evaluation, to, shown, false)];
    let [egress, ingress] =
        evaluation.graph.explain(&shown.source, &shown.destination, shown.is_same, &asked, names.each_ref().map(String::as_str));
    // Of a partial answer, also a case in which something is allowed.
    let something = |c: &&Connection| !c.ports().intersection(&asked).is_empty();
    let granted =
        found.iter().find(something).filter(|_| nothing(&shown)).map(|c| {
            evaluation.graph.explain(&c.source, &c.destination, c.is_same, &asked, names.each_ref().map(String::as_str))
        });
    let side = |explained: SideExplanation, ports: fn(&Connection) -> &PortSet, end: &str| {
        let (mut all, mut some) = (asked.clone(), PortSet::none());
        for connection in &found {
            all = all.intersection(ports(connection));
            some = some.union(&ports(connection).intersection(&asked));
        }
        let (subject, direction) = match explained.direction {
            Direction::Egress => (&shown.source, Direction::Egress),
            Direction::Ingress => (&shown.destination, Direction::Ingress),
        };
        let others = evaluation.graph.not_isolating(subject, direction, end);
        let mut side = side(explained, others, Verdict::of(&all, &some, &asked), end);
        let granting = granted.iter().flatten().find(|s| s.direction == direction);
        if side.verdict != Verdict::Allowed && side.rule.is_none() {
            side.rule = granting.and_then(|s| s.rules.iter().find(|r| !r.allows.is_empty())).map(|r| r.rule.clone());
        }
        side
    };
    Ok(Answer {
        from: from.name(),
        to: to.name(),
        asked: asked.by_protocol(),
        verdict: Verdict::of(&all, &some, &asked),
        partly: some.difference(&all).by_protocol(),
        allowed: all.by_protocol(),
        egress: side(egress, |c| &c.egress, &names[0]),
        ingress: side(ingress, |c| &c.ingress, &names[1]),
        outside: outside(&found, &asked),
        caveats: caveats(evaluation, [from, to], &found, shown, &asked),
    })
}

/// The end as the reasons call it: the pod or address that stands for it.
fn name_of(evaluation: &Evaluation, end: &End, shown: &Connection, is_source: bool) -> String {
    let endpoint = if is_source { &shown.source } else { &shown.destination };
    match (end, endpoint.address(), endpoint.pods()) {
        (End::Workload { .. } | End::Pod(_) | End::Node(_), ..) | (_, None, _) => end.name(),
        (_, Some(address), [pod, ..]) => {
            let (namespace, name) = evaluation.graph.pod_name(*pod);
            format!("{address} ({namespace}/{name})")
        }
        (_, Some(address), []) => match &shown.outside {
            Some(_) if matches!(end, End::External) => "an external address".to_owned(),
            Some(addresses) if AddressSet::single(address) != *addresses => {
                let cidrs = cidr_texts(addresses);
                let more = if cidrs.len() > 1 { ", …" } else { "" };
                format!("{}{more}", cidrs.first().cloned().unwrap_or_default())
            }
            _ => address.to_string(),
        },
    }
}

fn side(explained: SideExplanation, others: Vec<(PolicyRef, String)>, verdict: Verdict, end: &str) -> Side {
    let policies: Vec<String> = explained.policies.iter().map(|p| format!("{}/{}", p.namespace, p.name)).collect();
    let direction = explained.direction;
    let reason = match explained.cause {
        Cause::NotAnEndpoint => format!("{end} is no pod of the cluster network, so no policy applies to it (S3.4)"),
        Cause::SamePod => "a pod always reaches itself (S2.14)".to_owned(),
        Cause::OwnNode if direction == Direction::Egress => {
            format!("{end} always reaches its own node, as `--own-node-egress allow` says (S2.13)")
        }
        Cause::OwnNode => format!("a node always reaches its own pods, and {end} runs there (S2.11)"),
        Cause::OtherNode => format!("{end} is on another node, which judges its {direction} (S2.7)"),
        Cause::Quarantined => format!("it is not known yet whose address {end} has (S3.11)"),
        Cause::NotIsolated => format!("no policy isolates {end} for {direction} (S3.1)"),
        Cause::Denied if verdict == Verdict::Partial => {
            format!(
                "{} and rules allow it for some pods or addresses only (S3.3)",
                isolated_by(end, direction, &explained.policies)
            )
        }
        Cause::Denied => format!("{} and no rule allows it (S3.3)", isolated_by(end, direction, &explained.policies)),
        Cause::Allowed if verdict == Verdict::Allowed => match explained.rules.iter().find(|r| !r.allows.is_empty()) {
            Some(rule) => format!("a rule allows it: {} (S3.3)", rule.rule),
            None => "rules allow it (S3.3)".to_owned(),
        },
        Cause::Allowed => format!("{} and rules allow only a part (S3.3)", isolated_by(end, direction, &explained.policies)),
    };
    let rules = explained.rules.iter().map(|r| RuleLine {
        rule: r.rule.clone(),
        allows: r.allows.by_protocol(),
        misses: r.misses.clone(),
    });
    Side {
        verdict,
        isolated: explained.is_isolated,
        policies,
        isolated_by: explained.policies.clone(),
        rule: explained.rules.iter().find(|r| !r.allows.is_empty()).map(|r| r.rule.clone()),
        reason,
        rules: rules.collect(),
        nearest_miss: explained.nearest_miss.clone(),
        explained,
        others,
    }
}

fn isolated_by(end: &str, direction: Direction, policies: &[PolicyRef]) -> String {
    let names: Vec<String> = policies.iter().map(|p| format!("{}/{}", p.namespace, p.name)).collect();
    let shown = names.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(4);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{end} is isolated for {direction} by {shown}{more},")
}

fn outside(found: &[Connection], asked: &PortSet) -> Vec<Outside> {
    let mut parts: Vec<(PortSet, AddressSet)> = Vec::new();
    for connection in found {
        let Some(addresses) = &connection.outside else { continue };
        let ports = connection.ports().intersection(asked);
        match parts.iter_mut().find(|(p, _)| *p == ports) {
            Some((_, set)) => *set = set.union(addresses),
            None => parts.push((ports, addresses.clone())),
        }
    }
    if parts.len() < 2 {
        return Vec::new();
    }
    parts.sort_by_key(|(ports, _)| ports.is_empty());
    parts.into_iter().map(|(ports, addresses)| Outside { cidrs: cidr_texts(&addresses), allowed: ports.by_protocol() }).collect()
}
