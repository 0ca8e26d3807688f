//! `netpol who` and `netpol reach`: one end, everything on the other.

use std::fmt::Write;

use anyhow::{Result, bail};
use policy_core::sets::PortSet;
use policy_core::verdict::{Connections, PairPorts, Survey, Unit};
use serde::Serialize;

use crate::Outcome;
use crate::args::{ListFormat, ReachArgs, WhoArgs};
use crate::ends::{self, End};
use crate::list::{Row, rows, show};
use crate::output::{BOLD, json, print};
use crate::world::{self, World};

/// Everything that can reach an end, on at least the asked ports.
pub(crate) fn who(args: &WhoArgs) -> Result<Outcome> {
    let Some(world) = world::load(&args.input)? else { return Ok(Outcome::BadInput) };
    let to = ends::parse(&args.to, &world.namespace, &world)?;
    let ports = ends::ports(&args.ports.ports, Some(&to), &world)?;
    let rows = narrowed(rows(&world, None, Some(&to)), ports.as_ref());
    show(&world, &rows, args.output)?;
    Ok(outcome(&world))
}

/// Everything that an end can reach, on at least the asked ports.
pub(crate) fn reach(args: &ReachArgs) -> Result<Outcome> {
    let Some(world) = world::load(&args.input)? else { return Ok(Outcome::BadInput) };
    let from = ends::parse(&args.from, &world.namespace, &world)?;
    let ports = ends::ports(&args.ports.ports, None, &world)?;
    if args.hops {
        hops(&world, &from, ports.as_ref(), args.output)?;
    } else {
        let rows = narrowed(rows(&world, Some(&from), None), ports.as_ref());
        show(&world, &rows, args.output)?;
    }
    Ok(outcome(&world))
}

fn outcome(world: &World) -> Outcome {
    if world.has_errors { Outcome::BadInput } else { Outcome::Yes }
}

/// The rows that allow all asked ports to at least some pods, cut down to those ports.
fn narrowed(rows: Vec<Row>, ports: Option<&PortSet>) -> Vec<Row> {
    let Some(asked) = ports else { return rows };
    rows.into_iter()
        .filter(|row| asked.difference(&row.some()).is_empty())
        .map(|row| Row { allowed: row.allowed.intersection(asked), partly: row.partly.intersection(asked), ..row })
        .collect()
}

/// A workload that can be reached through others.
#[derive(Serialize, Debug)]
struct Hop {
    /// The workload, as `namespace/kind/name`.
    to: String,
    /// The workloads on a shortest way there, the start first and the destination last.
    path: Vec<String>,
}

fn hops(world: &World, from: &End, ports: Option<&PortSet>, format: ListFormat) -> Result<()> {
    let End::Workload { namespace, owner } = from else {
        bail!("`--hops` starts at a workload, and {} is none", from.name());
    };
    let (keys, units): (Vec<_>, Vec<Unit>) = world.units().into_iter().unzip();
    let Some(start) = keys.iter().position(|(ns, o)| ns == namespace && o == owner) else {
        bail!("{} has no traffic", from.name());
    };
    let survey = Survey::new(&world.graph, units);
    let connections = Connections::new(&survey);
    let is_wanted = |pair: &PairPorts| ports.is_none_or(|asked| asked.difference(&pair.some).is_empty());
    let reached = connections.reachable(start, is_wanted);
    let name = |unit: usize| {
        keys.get(unit).map(|(ns, owner)| format!("{ns}/{}/{}", owner.kind.to_lowercase(), owner.name)).unwrap_or_default()
    };
    let found: Vec<Hop> = reached
        .iter()
        .map(|(unit, _)| {
            let mut path = vec![*unit];
            while let Some((_, before)) = path.last().and_then(|at| reached.iter().find(|(unit, _)| unit == at)) {
                path.push(*before);
            }
            path.reverse();
            Hop { to: name(*unit), path: path.into_iter().map(name).collect() }
        })
        .collect();
    match format {
        ListFormat::Json => json(&found),
        ListFormat::Text => {
            let mut out = String::new();
            for hop in &found {
                let way = hop.path.join(" → ");
                let _ = writeln!(
                    out,
                    "{BOLD}{}{BOLD:#}  {} hop{}  {way}",
                    hop.to,
                    hop.path.len() - 1,
                    if hop.path.len() == 2 { "" } else { "s" }
                );
            }
            print(&out)
        }
        _ => bail!("`--hops` prints text or json"),
    }
}
