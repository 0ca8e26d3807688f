//! `netpol can`: the verdict on one question, and why.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Result, bail};
use policy_core::model::Direction;
use policy_core::sets::{AddressSet, Family, PortSet, ProtocolPorts};
use policy_core::verdict::{Cause, NearMiss, PolicyRef, RuleExplanation, RuleRef, SideExplanation};
use serde::Serialize;

use crate::Outcome;
use crate::args::{AnswerFormat, CanArgs};
use crate::connection::{Connection, connections};
use crate::ends::{self, End};
use crate::output::{BOLD, DIM, GREEN, RED, YELLOW, cidr_texts, json, print};
use crate::world::{self, World};

/// The answer, as `-o json` prints it. Fields are only ever added.
#[derive(Serialize, Debug)]
struct Answer {
    from: String,
    to: String,
    /// What was asked; every protocol and port when no port was given.
    asked: Vec<ProtocolPorts>,
    verdict: Word,
    /// What is allowed of it, for all pods and addresses of both ends.
    allowed: Vec<ProtocolPorts>,
    /// What is allowed for some of them only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    partly: Vec<ProtocolPorts>,
    egress: Side,
    ingress: Side,
    /// The outside, split where policies distinguish it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outside: Vec<Outside>,
    caveats: Vec<String>,
}

#[derive(Serialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Word {
    Allowed,
    Denied,
    Partial,
}

impl Word {
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

    fn text(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Partial => "partly allowed",
        }
    }

    fn style(self) -> anstyle::Style {
        match self {
            Self::Allowed => GREEN,
            Self::Denied => RED,
            Self::Partial => YELLOW,
        }
    }
}

/// What one side says.
#[derive(Serialize, Debug)]
struct Side {
    verdict: Word,
    isolated: bool,
    /// The policies that isolate the end in this direction, as `namespace/name`.
    policies: Vec<String>,
    /// The same policies with the places where they are written.
    isolated_by: Vec<PolicyRef>,
    /// The first rule that allows something of what was asked.
    rule: Option<RuleRef>,
    reason: String,
    /// Every rule that was considered, and why it does not allow all of it.
    rules: Vec<RuleLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest_miss: Option<NearMiss>,
    #[serde(skip)]
    explained: SideExplanation,
    /// Policies of the namespace that have no say, and why.
    #[serde(skip)]
    others: Vec<(PolicyRef, String)>,
}

#[derive(Serialize, Debug)]
struct RuleLine {
    #[serde(flatten)]
    rule: RuleRef,
    allows: Vec<ProtocolPorts>,
    misses: Vec<String>,
}

#[derive(Serialize, Debug)]
struct Outside {
    cidrs: Vec<String>,
    allowed: Vec<ProtocolPorts>,
}

pub(crate) fn run(args: &CanArgs) -> Result<Outcome> {
    let Some(world) = world::load(&args.input)? else { return Ok(Outcome::BadInput) };
    let from = ends::parse(&args.from, &world.namespace, &world)?;
    let to = ends::parse(&args.to, &world.namespace, &world)?;
    let ports = ends::ports(&args.ports.ports, Some(&to), &world)?;
    let answer = answer(&world, &from, &to, ports.as_ref())?;
    match args.output {
        AnswerFormat::Json => json(&answer)?,
        AnswerFormat::Text => print(&text(&answer, args.verbose, ports.is_none()))?,
    }
    Ok(match answer.verdict {
        _ if world.has_errors => Outcome::BadInput,
        Word::Allowed => Outcome::Yes,
        Word::Denied | Word::Partial => Outcome::No,
    })
}

fn answer(world: &World, from: &End, to: &End, ports: Option<&PortSet>) -> Result<Answer> {
    let asked = ports.cloned().unwrap_or_else(PortSet::all);
    let found = connections(world, from, to);
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
    let names = [name_of(world, from, shown, true), name_of(world, to, shown, false)];
    let [egress, ingress] =
        world.graph.explain(&shown.source, &shown.destination, shown.is_same, &asked, names.each_ref().map(String::as_str));
    // Of a partial answer, also a case in which something is allowed.
    let something = |c: &&Connection| !c.ports().intersection(&asked).is_empty();
    let granted = found
        .iter()
        .find(something)
        .filter(|_| nothing(&shown))
        .map(|c| world.graph.explain(&c.source, &c.destination, c.is_same, &asked, names.each_ref().map(String::as_str)));
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
        let others = world.graph.not_isolating(subject, direction, end);
        let mut side = side(explained, others, Word::of(&all, &some, &asked), end);
        let granting = granted.iter().flatten().find(|s| s.direction == direction);
        if side.verdict != Word::Allowed && side.rule.is_none() {
            side.rule = granting.and_then(|s| s.rules.iter().find(|r| !r.allows.is_empty())).map(|r| r.rule.clone());
        }
        side
    };
    Ok(Answer {
        from: from.name(),
        to: to.name(),
        asked: asked.by_protocol(),
        verdict: Word::of(&all, &some, &asked),
        partly: some.difference(&all).by_protocol(),
        allowed: all.by_protocol(),
        egress: side(egress, |c| &c.egress, &names[0]),
        ingress: side(ingress, |c| &c.ingress, &names[1]),
        outside: outside(&found, &asked),
        caveats: caveats(world, [from, to], &found, shown, &asked),
    })
}

/// The end as the reasons call it: the pod or address that stands for it.
fn name_of(world: &World, end: &End, shown: &Connection, is_source: bool) -> String {
    let party = if is_source { &shown.source } else { &shown.destination };
    match (end, party.address(), party.pods()) {
        (End::Workload { .. } | End::Pod(_) | End::Node(_), ..) | (_, None, _) => end.name(),
        (_, Some(address), [pod, ..]) => {
            let (namespace, name) = world.graph.pod_name(*pod);
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

fn side(explained: SideExplanation, others: Vec<(PolicyRef, String)>, verdict: Word, end: &str) -> Side {
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
        Cause::Denied if verdict == Word::Partial => {
            format!(
                "{} and rules allow it for some pods or addresses only (S3.3)",
                isolated_by(end, direction, &explained.policies)
            )
        }
        Cause::Denied => format!("{} and no rule allows it (S3.3)", isolated_by(end, direction, &explained.policies)),
        Cause::Allowed if verdict == Word::Allowed => match explained.rules.iter().find(|r| !r.allows.is_empty()) {
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

/// What could make the answer differ from what the cluster does.
fn caveats(world: &World, ends: [&End; 2], found: &[Connection], shown: &Connection, asked: &PortSet) -> Vec<String> {
    let mut out = foreign_caveats(world, &ends.map(End::namespace));
    let sides = [(&shown.source, Direction::Egress, &shown.destination), (&shown.destination, Direction::Ingress, &shown.source)];
    for ((subject, direction, other), end) in sides.into_iter().zip([ends[1], ends[0]]) {
        let ports = if direction == Direction::Egress { &shown.egress } else { &shown.ingress };
        let is_denied = !asked.difference(ports).is_empty();
        if is_denied && world.graph.depends_on_unknown_address(subject, direction, other) {
            let name = end.name();
            out.push(format!(
                "the address of {name} is not known before it runs, so ipBlock rules for {direction} are taken not to match it"
            ));
        }
    }
    for (end, party) in ends.into_iter().zip([&shown.source, &shown.destination]) {
        if party.is_node() && end.namespace().is_some() {
            out.push(format!("{} uses the host network: policies see it as its node, never as a pod (S2.8, S2.9)", end.name()));
        }
    }
    let by_family = |family: Family| -> Option<PortSet> {
        let ports = found.iter().filter(|c| c.source.family() == family).map(|c| c.ports().intersection(asked));
        ports.reduce(|a, b| a.intersection(&b))
    };
    if let (Some(v4), Some(v6)) = (by_family(Family::V4), by_family(Family::V6))
        && v4 != v6
        && found.iter().all(|c| c.outside.is_none())
    {
        out.push(format!("the address families differ: over IPv4 {v4} is allowed, over IPv6 {v6} (S2.2)"));
    }
    if world.has_errors {
        out.push("the input has errors; what could not be read allows nothing here".to_owned());
    }
    out
}

/// Policies that were not evaluated and could concern these namespaces; `None` is an end outside of all of them.
pub(crate) fn foreign_caveats(world: &World, namespaces: &[Option<&str>]) -> Vec<String> {
    let mut by_kind: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for foreign in &world.snapshot.foreign {
        let concerns = match &foreign.namespace {
            None => true,
            Some(own) => namespaces.iter().flatten().any(|n| n == own),
        };
        if concerns {
            let name = match &foreign.namespace {
                Some(namespace) => format!("{namespace}/{} ({})", foreign.name, foreign.origin),
                None => format!("{} ({})", foreign.name, foreign.origin),
            };
            by_kind.entry((&foreign.kind, &foreign.api_version)).or_default().push(name);
        }
    }
    by_kind
        .into_iter()
        .map(|((kind, version), names)| {
            let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            let more = if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
            format!("not evaluated, and could change this answer: {kind} of {version}: {shown}{more}")
        })
        .collect()
}

fn text(answer: &Answer, is_verbose: bool, is_everything: bool) -> String {
    let mut out = String::new();
    let style = answer.verdict.style();
    let asked = if is_everything { String::new() } else { format!("  {}", port_text(&answer.asked)) };
    let _ = writeln!(out, "{style}{}{style:#}  {BOLD}{} → {}{BOLD:#}{asked}", answer.verdict.text(), answer.from, answer.to);
    let is_partial = answer.verdict == Word::Partial;
    if is_everything || is_partial {
        let ports = if answer.allowed.is_empty() { "nothing".to_owned() } else { port_text(&answer.allowed) };
        let _ = writeln!(out, "  {:<8} {ports}", "allowed");
    }
    if !answer.partly.is_empty() {
        let _ = writeln!(out, "  {:<8} {} (for some pods or addresses only)", "partly", port_text(&answer.partly));
    }
    for part in &answer.outside {
        if part.allowed.is_empty() {
            let _ = writeln!(out, "  {:<8} nothing for other addresses", "outside");
        } else {
            let _ = writeln!(out, "  {:<8} {} for {}", "outside", port_text(&part.allowed), shorten(&part.cidrs));
        }
    }
    out.push('\n');
    for side in [&answer.egress, &answer.ingress] {
        side_text(&mut out, side, is_verbose);
    }
    for side in [&answer.egress, &answer.ingress] {
        if let Some(miss) = &side.nearest_miss {
            let place = match &miss.rule {
                Some(rule) => rule.to_string(),
                None => miss.policy.clone(),
            };
            let _ = writeln!(out, "  {BOLD}nearest miss{BOLD:#} for {}: in {place}, {}", side.explained.direction, miss.edit);
        }
    }
    for caveat in &answer.caveats {
        let _ = writeln!(out, "  {YELLOW}caveat{YELLOW:#}: {caveat}");
    }
    out
}

fn side_text(out: &mut String, side: &Side, is_verbose: bool) {
    let style = side.verdict.style();
    let direction = side.explained.direction.to_string();
    let _ = writeln!(out, "  {direction:<8} {style}{}{style:#}: {}", side.verdict.text(), side.reason);
    // The rules that decide: those that allow something, or, when none does, those that could have.
    let is_allowing = side.explained.rules.iter().any(|r| !r.allows.is_empty());
    let decides = |r: &&RuleExplanation| is_verbose || r.allows.is_empty() != is_allowing;
    let rules: Vec<&RuleExplanation> = side.explained.rules.iter().filter(decides).collect();
    let most = if is_verbose { usize::MAX } else { 5 };
    if is_verbose || side.verdict != Word::Allowed {
        if let Some(rule) = side.rule.as_ref().filter(|_| !is_allowing) {
            let _ = writeln!(out, "           {DIM}{rule}{DIM:#}: allows it for a part");
        }
        for rule in rules.iter().take(most) {
            let allows = if rule.allows.is_empty() { String::new() } else { format!(": allows {}", rule.allows) };
            let _ = writeln!(out, "           {DIM}{}{DIM:#}{allows}", rule.rule);
            let misses = if is_verbose || rule.allows.is_empty() { rule.misses.as_slice() } else { &[] };
            for miss in misses.iter().take(most) {
                let _ = writeln!(out, "             {miss}");
            }
        }
        if rules.len() > most {
            let _ = writeln!(out, "           … and {} more rules (-v shows all)", rules.len() - most);
        }
        for policy in &side.explained.policies {
            let name = format!("{}/{}", policy.namespace, policy.name);
            let has_rules = side.explained.rules.iter().any(|r| r.rule.policy == name);
            if !has_rules && (is_verbose || !is_allowing) {
                let place = policy.origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default();
                let _ = writeln!(out, "           {DIM}{name}{place}{DIM:#}: isolates, and has no {direction} rule");
            }
        }
        for (policy, reason) in side.others.iter().filter(|_| is_verbose) {
            let _ = writeln!(out, "           {DIM}{}/{}{DIM:#}: {reason}", policy.namespace, policy.name);
        }
    }
}

fn port_text(ports: &[ProtocolPorts]) -> String {
    let all = PortSet::all().by_protocol();
    if ports == all {
        return "every protocol and port".to_owned();
    }
    let parts = ports.iter().map(|p| match p.protocol.as_str() {
        "other" => "other protocols".to_owned(),
        name => format!("{name} {}", p.ports.join(",")),
    });
    parts.collect::<Vec<_>>().join("; ")
}

fn shorten(cidrs: &[String]) -> String {
    let shown = cidrs.iter().take(6).cloned().collect::<Vec<_>>().join(", ");
    if cidrs.len() > 6 { format!("{shown}, … ({} blocks)", cidrs.len()) } else { shown }
}
