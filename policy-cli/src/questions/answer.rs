//! The verdict on one question, and why.

use anyhow::{Result, bail};
use policy_core::graph::Endpoint;
use policy_core::model::Direction;
use policy_core::sets::{AddressSet, PortSet, ProtocolPorts};
use policy_core::verdict::{Cause, PolicyRef, Reason, RuleRef, SideExplanation};
use serde::{Serialize, Serializer};

use super::caveats::{caveats, incomplete};
use super::connections::{Connection, connections};
use super::ends::End;
use super::evaluation::Evaluation;
use super::representation;
use super::suggestion::{SuggestedFix, Suggestions};
use crate::output::{blocks, cidr_texts, names};

/// Where the sections of the semantics are defined, as a path in the repository.
const SEMANTICS: &str = "conformance/SEMANTICS.md";

/// The answer, as `-o json` prints it. Fields are added, never renamed or removed.
#[derive(Serialize, Debug)]
pub(crate) struct Answer {
    pub from: String,
    pub to: String,
    /// The ports of the question; every protocol and port if none was given.
    pub asked: Vec<ProtocolPorts>,
    pub verdict: Verdict,
    /// The ports that are allowed for all pods and addresses of both ends.
    pub allowed: Vec<ProtocolPorts>,
    /// The ports that are allowed only for some of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partly: Vec<ProtocolPorts>,
    pub egress: Side,
    pub ingress: Side,
    /// The external addresses, split where policies distinguish them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<Outside>,
    #[serde(serialize_with = "cited")]
    pub caveats: Vec<Reason>,
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

/// The answer of one side.
#[derive(Serialize, Debug)]
pub(crate) struct Side {
    pub verdict: Verdict,
    pub isolated: bool,
    /// The policies that isolate the end in this direction, as `namespace/name`.
    pub policies: Vec<String>,
    /// The same policies with file and line.
    pub isolated_by: Vec<PolicyRef>,
    /// The first rule that allows a part of the question.
    pub rule: Option<RuleRef>,
    pub reason: String,
    /// The section of the semantics that the reason rests on.
    pub section: &'static str,
    /// Where the section is defined.
    pub section_link: String,
    /// Every rule that was considered, and why it does not allow the rest.
    pub rules: Vec<RuleLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest_miss: Option<SuggestedFix>,
    #[serde(skip)]
    pub explained: SideExplanation,
    /// Policies of the namespace that do not apply, and why.
    #[serde(skip)]
    pub others: Vec<(PolicyRef, String)>,
}

#[derive(Serialize, Debug)]
pub(crate) struct RuleLine {
    #[serde(flatten)]
    pub rule: RuleRef,
    pub allows: Vec<ProtocolPorts>,
    #[serde(serialize_with = "cited")]
    pub misses: Vec<Reason>,
}

/// Serialises reasons as texts that end with their section.
fn cited<S: Serializer>(reasons: &[Reason], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(reasons.iter().map(|reason| format!("{reason:#}")))
}

#[derive(Serialize, Debug)]
pub(crate) struct Outside {
    pub cidrs: Vec<String>,
    /// The same addresses as text, with exceptions where that is shorter.
    #[serde(skip)]
    pub shown: Vec<String>,
    pub allowed: Vec<ProtocolPorts>,
}

/// Whether fixes are suggested, which takes longer than the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fixes {
    Suggested,
    Omitted,
}

pub(crate) fn answer(evaluation: &Evaluation, from: &End, to: &End, ports: Option<&PortSet>, fixes: Fixes) -> Result<Answer> {
    let asked = ports.cloned().unwrap_or_else(PortSet::all);
    if let Some(end) = [from, to].into_iter().find(|end| end.is_loopback())
        && [from, to].into_iter().any(|end| end.addresses().is_some() && !end.is_loopback())
    {
        bail!("`{}` is a loopback address, which only the pod or node itself can use; name a pod as the other end", end.name());
    }
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
    // Explain the case that denies most.
    let refused = |c: &&Connection| asked.difference(&c.ports()) != PortSet::none();
    let nothing = |c: &&Connection| c.ports().intersection(&asked).is_empty();
    let shown = found.iter().find(nothing).or_else(|| found.iter().find(refused)).unwrap_or(first);
    let called = [name_of(evaluation, from, shown, true), name_of(evaluation, to, shown, false)];
    let [egress, ingress] =
        evaluation.graph.explain(&shown.source, &shown.destination, shown.is_same, &asked, called.each_ref().map(String::as_str));
    // For a partial answer, explain also a case in which something is allowed.
    let something = |c: &&Connection| !c.ports().intersection(&asked).is_empty();
    let granted =
        found.iter().find(something).filter(|_| nothing(&shown)).map(|c| {
            evaluation.graph.explain(&c.source, &c.destination, c.is_same, &asked, called.each_ref().map(String::as_str))
        });
    let sides: Vec<SideExplanation> = [&egress, &ingress].into_iter().chain(granted.iter().flatten()).cloned().collect();
    let incomplete = incomplete::of_answer(evaluation, [&shown.source, &shown.destination], &sides);
    let own = caveats(evaluation, [from, to], &found, shown, &asked, [&egress, &ingress]);
    let suggestions = Suggestions::new(evaluation, [from, to], &found, shown);
    let side = |explained: SideExplanation, ports: fn(&Connection) -> &PortSet, end: &str| {
        let (mut all, mut some) = (asked.clone(), PortSet::none());
        for connection in &found {
            all = all.intersection(ports(connection));
            some = some.union(&ports(connection).intersection(&asked));
        }
        let direction = explained.direction;
        let (subject, meant) = match direction {
            Direction::Egress => (&shown.source, from),
            Direction::Ingress => (&shown.destination, to),
        };
        let what = not_a_pod(meant, subject);
        let others = evaluation.graph.not_isolating(subject, direction, end);
        let fix = if fixes == Fixes::Suggested { suggestions.of(&explained, &asked) } else { None };
        let mut side = Side { nearest_miss: fix, ..side(explained, others, Verdict::of(&all, &some, &asked), end, what) };
        let granting = granted.iter().flatten().find(|s| s.direction == direction);
        if side.verdict != Verdict::Allowed && side.rule.is_none() {
            side.rule = granting.and_then(|s| s.rules.iter().find(|r| !r.allows.is_empty())).map(|r| r.rule.clone());
        }
        side
    };
    let (egress, ingress) = (side(egress, |c| &c.egress, &called[0]), side(ingress, |c| &c.ingress, &called[1]));
    let has_fix = [&egress, &ingress].into_iter().any(|side| side.nearest_miss.is_some());
    let of_fixes = if has_fix { representation::of_fixes(evaluation, [from, to]) } else { None };
    Ok(Answer {
        from: from.name(),
        to: to.name(),
        asked: asked.by_protocol(),
        verdict: Verdict::of(&all, &some, &asked),
        partly: some.difference(&all).by_protocol(),
        allowed: all.by_protocol(),
        egress,
        ingress,
        outside: outside(&found, &asked),
        caveats: own.into_iter().chain(incomplete).chain(of_fixes).collect(),
    })
}

/// The name of the end in reasons: the pod or address that represents it.
fn name_of(evaluation: &Evaluation, end: &End, shown: &Connection, is_source: bool) -> String {
    let endpoint = if is_source { &shown.source } else { &shown.destination };
    match (end, endpoint.address(), endpoint.pods()) {
        (End::Workload { .. } | End::Pod(_) | End::Node(_), ..) | (_, None, _) => end.name(),
        (_, Some(address), [pod, ..]) => {
            let (namespace, name) = evaluation.graph.pod_name(*pod);
            format!("{address} ({namespace}/{name})")
        }
        (_, Some(address), []) => match &shown.outside {
            Some(addresses) if AddressSet::single(address) != *addresses => {
                let cidrs = cidr_texts(addresses);
                let more = if cidrs.len() > 1 { ", …" } else { "" };
                let kind = if matches!(end, End::External) { "external " } else { "" };
                format!("{kind}{}{more}", cidrs.first().cloned().unwrap_or_default())
            }
            None if matches!(end, End::External) => end.name(),
            _ => address.to_string(),
        },
    }
}

/// What an end is that policies do not apply to.
fn not_a_pod(end: &End, endpoint: &Endpoint) -> &'static str {
    match (endpoint.is_node(), end.namespace()) {
        (true, Some(_)) => "it uses the host network",
        (true, None) => "it is a node",
        (false, _) => "it is not a pod",
    }
}

fn side(explained: SideExplanation, others: Vec<(PolicyRef, String)>, verdict: Verdict, end: &str, what: &'static str) -> Side {
    let policies: Vec<String> = explained.policies.iter().map(|p| format!("{}/{}", p.namespace, p.name)).collect();
    let direction = explained.direction;
    let reason = match explained.cause {
        Cause::NotAnEndpoint => format!("policies do not apply to {end}: {what}"),
        Cause::SamePod => "a pod can always reach itself".to_owned(),
        Cause::OwnNode if direction == Direction::Egress => {
            format!("{end} can always reach its own node with `--own-node-egress allow`")
        }
        Cause::OwnNode => format!("a node can always reach its own pods, and {end} runs on this node"),
        Cause::OtherNode => format!("{end} is on another node, which evaluates its {direction}"),
        Cause::Quarantined => format!("the pod at the address of {end} is not known yet"),
        Cause::NotIsolated => format!("no policy isolates {end} for {direction}"),
        Cause::Denied if verdict == Verdict::Partial => {
            format!("{} and rules allow it only for some pods or addresses", isolated_by(end, direction, &explained.policies))
        }
        Cause::Denied => format!("{} and no rule allows it", isolated_by(end, direction, &explained.policies)),
        Cause::Allowed if verdict == Verdict::Allowed => match explained.rules.iter().find(|r| !r.allows.is_empty()) {
            Some(rule) => format!("rule {} allows it", rule.rule),
            None => "rules allow it".to_owned(),
        },
        Cause::Allowed => format!("{} and rules allow only a part of it", isolated_by(end, direction, &explained.policies)),
    };
    let section = match explained.cause {
        Cause::OwnNode if direction == Direction::Egress => "S2.13",
        cause => cause.rule(),
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
        section,
        section_link: format!("{SEMANTICS}#{section}"),
        rules: rules.collect(),
        nearest_miss: None,
        explained,
        others,
    }
}

fn isolated_by(end: &str, direction: Direction, policies: &[PolicyRef]) -> String {
    let names: Vec<String> = policies.iter().map(|p| format!("{}/{}", p.namespace, p.name)).collect();
    format!("{end} is isolated for {direction} by {},", names::first(&names, 4))
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
    let outside = |(ports, addresses): (PortSet, AddressSet)| Outside {
        cidrs: cidr_texts(&addresses),
        shown: blocks::texts(&addresses),
        allowed: ports.by_protocol(),
    };
    parts.into_iter().map(outside).collect()
}
