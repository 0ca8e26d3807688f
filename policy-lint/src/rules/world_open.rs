//! Pods that everyone reaches, or that reach everyone.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::graph::GroupId;
use policy_core::model::{Direction, ObjectKey};
use policy_core::sets::{Family, PortSet, Transport};

use super::isolation_undone;
use crate::context::Context;
use crate::openings::{Opening, PolicySet, ports_for_family, ports_text};

/// The rules of a direction allow every address.
pub static WORLD_OPEN: Rule = Rule {
    id: "NP202",
    name: "world-open",
    severity: Severity::Info,
    group: Group::Security,
    kind: Kind::NoEffect,
    section: "S3.3",
    event_reason: None,
    summary: "rules allow every address",
    documentation: Documentation {
        what: "Rules of one direction that together allow every IPv4 or every IPv6 address: without peers, with `0.0.0.0/0` or `::/0`, or with blocks that make these up. A warning if every TCP port of a pod is open to everyone. An egress rule for port 53 alone is not reported.",
        why: "Everyone may connect who has a route to the pod, the pods of other namespaces included, or the pod may connect to everyone.",
        example: Some(shop!(
            deployment!("web"),
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{ipBlock: {cidr: 0.0.0.0/1}}, {ipBlock: {cidr: 128.0.0.0/1}}]\n    ports: [{port: 8080}]\n"
            )
        )),
        fix: "List the peers that are meant. If everyone is, ignore the finding.",
        corrected: None,
    },
};

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let undone: BTreeSet<(&ObjectKey, Direction)> = isolation_undone::found(context)
        .into_iter()
        .map(|undone| (&undone.opening.policy.key, undone.opening.direction))
        .collect();
    // Other rules are about these.
    let is_counted =
        |opening: &Opening<'_>| !undone.contains(&(&opening.policy.key, opening.direction)) && !opening.is_by_omission(context);
    let mut out = Vec::new();
    for direction in Direction::ALL {
        // What one policy opens by itself is a finding of that policy, whoever else applies to the pods.
        let mut by_policy: BTreeMap<&ObjectKey, World<'_>> = BTreeMap::new();
        let mut seen: BTreeSet<Vec<&ObjectKey>> = BTreeSet::new();
        for set in context.policy_sets(direction) {
            let mut openings = context.openings(set, direction);
            openings.retain(|opening| is_counted(opening));
            let mut alone = World::default();
            let mut keys = Vec::new();
            for own in openings.chunk_by(|one, other| one.policy.key == other.policy.key) {
                let Some(first) = own.first() else { continue };
                let world = by_policy.entry(&first.policy.key).or_insert_with(|| {
                    let world = World::of(context, set, own);
                    out.extend(finding(context, set, direction, own, &world));
                    world
                });
                alone = alone.union(world);
                keys.push(&first.policy.key);
            }
            if keys.len() > 1 && seen.insert(keys) {
                let together = World::of(context, set, &openings).difference(&alone);
                out.extend(finding(context, set, direction, &openings, &together));
            }
        }
    }
    out
}

/// The ports on which every address of a family is allowed.
#[derive(Clone, PartialEq, Eq, Default)]
struct World<'a> {
    v4: OpenPorts<'a>,
    v6: OpenPorts<'a>,
}

#[derive(Clone, PartialEq, Eq, Default)]
struct OpenPorts<'a> {
    numbers: PortSet,
    names: BTreeSet<(Transport, &'a str)>,
}

impl<'a> OpenPorts<'a> {
    fn of(context: &Context<'_>, set: &PolicySet<'_>, openings: &[&Opening<'a>], family: Family) -> Self {
        let mut ports = Self { numbers: ports_for_family(openings, family), names: BTreeSet::new() };
        if openings.first().is_some_and(|opening| opening.direction == Direction::Ingress) {
            let whole = openings.iter().filter(|opening| opening.addresses.covers(family));
            let names = whole.flat_map(|opening| opening.names.iter().copied());
            ports.names = names.filter(|(transport, name)| is_declared(context, set, *transport, name)).collect();
        } else if !ports.numbers.is_all() {
            // At addresses outside of the cluster, port names mean nothing.
            let dns = |transport| PortSet::range(transport, 53, 53);
            ports.numbers = ports.numbers.difference(&dns(Transport::Udp)).difference(&dns(Transport::Tcp));
        }
        ports
    }

    fn union(&self, other: &Self) -> Self {
        Self { numbers: self.numbers.union(&other.numbers), names: self.names.union(&other.names).copied().collect() }
    }

    fn difference(&self, other: &Self) -> Self {
        Self { numbers: self.numbers.difference(&other.numbers), names: self.names.difference(&other.names).copied().collect() }
    }

    fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.names.is_empty()
    }

    fn is_every_tcp_port(&self) -> bool {
        self.numbers.ports(Transport::Tcp) == PortSet::all().ports(Transport::Tcp)
    }

    /// Whether an opening has a part in it.
    fn is_by(&self, opening: &Opening<'_>, family: Family) -> bool {
        let is_named = || opening.names.iter().any(|name| self.names.contains(name));
        opening.addresses.touches(family) && (!opening.ports.intersection(&self.numbers).is_empty() || is_named())
    }

    fn text(&self, who: &str) -> String {
        let names: Vec<(Transport, &str)> = self.names.iter().copied().collect();
        format!("{who} on {}", ports_text(&self.numbers, &names))
    }
}

impl<'a> World<'a> {
    fn of(context: &Context<'_>, set: &PolicySet<'_>, openings: &[&Opening<'a>]) -> Self {
        let of_family = |family| OpenPorts::of(context, set, openings, family);
        Self { v4: of_family(Family::V4), v6: of_family(Family::V6) }
    }

    fn union(&self, other: &Self) -> Self {
        Self { v4: self.v4.union(&other.v4), v6: self.v6.union(&other.v6) }
    }

    fn difference(&self, other: &Self) -> Self {
        Self { v4: self.v4.difference(&other.v4), v6: self.v6.difference(&other.v6) }
    }

    fn is_by(&self, opening: &Opening<'_>) -> bool {
        self.v4.is_by(opening, Family::V4) || self.v6.is_by(opening, Family::V6)
    }

    /// Who is allowed on which ports.
    fn text(&self) -> String {
        if self.v4 == self.v6 {
            return self.v4.text("every address");
        }
        let of_families = [(&self.v4, "every IPv4 address"), (&self.v6, "every IPv6 address")];
        let texts = of_families.into_iter().filter(|(ports, _)| !ports.is_empty()).map(|(ports, who)| ports.text(who));
        texts.collect::<Vec<_>>().join(", and ")
    }
}

/// Whether a container of the pods declares a port name; true if no pods are known.
fn is_declared(context: &Context<'_>, set: &PolicySet<'_>, transport: Transport, name: &str) -> bool {
    let has_it = |group: &GroupId| {
        let pod = context.graph.pods_of(*group).next().and_then(|pod| context.pod(pod));
        pod.is_some_and(|pod| pod.ports.iter().any(|port| (port.protocol, port.name.as_str()) == (transport, name)))
    };
    set.groups.is_empty() || set.groups.iter().any(has_it)
}

fn finding(
    context: &Context<'_>,
    set: &PolicySet<'_>,
    direction: Direction,
    openings: &[&Opening<'_>],
    world: &World<'_>,
) -> Option<Diagnostic> {
    let mut parts: Vec<&&Opening<'_>> = openings.iter().filter(|opening| world.is_by(opening)).collect();
    // The one that is the most of it first.
    parts.sort_by_key(|opening| !(opening.addresses.covers(Family::V4) || opening.addresses.covers(Family::V6)));
    let first = parts.first()?;
    let pods =
        context.example_of(&set.groups).map_or_else(|| "the pods of the policy".to_owned(), |pod| format!("pods such as {pod}"));
    let who = world.text();
    let message = match direction {
        Direction::Ingress => format!("{pods} can be reached by {who}"),
        Direction::Egress => format!("{pods} can reach {who}"),
    };
    let is_whole = direction == Direction::Ingress && (world.v4.is_every_tcp_port() || world.v6.is_every_tcp_port());
    let severity = if is_whole { Severity::Warning } else { WORLD_OPEN.severity };
    let related = parts.iter().skip(1).take(4);
    let related = related.map(|other| context.related(&other.policy.key, &other.path(), "has a part in it")).collect();
    let finding = context.finding(&WORLD_OPEN, &first.policy.key, &first.path(), message);
    Some(Diagnostic { severity, related, ..finding.help("list the peers that are meant") })
}
