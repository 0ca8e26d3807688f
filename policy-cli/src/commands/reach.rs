//! `netpol reach`: everything that one end can reach, directly or through others.

use std::fmt::Write;

use anyhow::{Result, bail};
use policy_core::sets::PortSet;
use policy_core::verdict::{Connections, ConnectivityMatrix, PairPorts, WorkloadPods};
use serde::Serialize;

use crate::Outcome;
use crate::args::{ListFormat, ReachArgs};
use crate::output::rows::{print_caveats, show};
use crate::output::{BOLD, json, json_lines, print, yaml};
use crate::questions::caveats::{self, lists::Listing};
use crate::questions::ends::{self, End, Ends};
use crate::questions::evaluation::Evaluation;
use crate::questions::ports::ports;
use crate::questions::rows::{Question, narrowed, rows};
use crate::questions::scope::Scope;

/// Everything that an end can reach, on at least the asked ports.
pub(crate) fn run(args: &ReachArgs) -> Result<Outcome> {
    let Some(evaluation) = super::evaluation(&args.input)? else { return Ok(Outcome::BadInput) };
    let from = ends::parse(&args.from, &evaluation)?.for_list()?;
    let ports = ports(&args.ports.ports, None, &evaluation)?;
    let scope = Scope::new(&args.scope, &args.input, &evaluation)?;
    let question = Question { from: Some(&from), to: None, scope: &scope };
    if args.hops {
        let list = Listing::new(&evaluation, &question, ports.as_ref(), None);
        let caveats = caveats::of_lists(&evaluation, &list);
        print_caveats(&caveats, args.output.format);
        hops(&evaluation, &from, ports.as_ref(), &caveats, args.output.format)?;
    } else {
        let rows = narrowed(rows(&evaluation, &question), ports.as_ref());
        show(&evaluation, &question, ports.as_ref(), &rows, &args.output)?;
    }
    Ok(evaluation.outcome())
}

/// A workload that can be reached through others.
#[derive(Serialize, Debug)]
struct Hop {
    /// The workload, as `namespace/kind/name`.
    to: String,
    /// The workloads on a shortest way there, the start first and the destination last.
    path: Vec<String>,
}

/// The workloads that can be reached, as `-o json` and `-o yaml` print them. Fields are added, never renamed or removed.
#[derive(Serialize, Debug)]
struct Hops<'a> {
    /// What could make the cluster behave differently.
    caveats: &'a [String],
    hops: &'a [Hop],
}

fn hops(evaluation: &Evaluation, from: &Ends, ports: Option<&PortSet>, caveats: &[String], format: ListFormat) -> Result<()> {
    let [from] = from.list() else { bail!("`--hops` requires one workload as FROM, and there are several") };
    let End::Workload { namespace, owner } = from else {
        bail!("`--hops` requires a workload as FROM, and {} is not a workload", from.name());
    };
    let (keys, units): (Vec<_>, Vec<WorkloadPods>) = evaluation.units().into_iter().unzip();
    let Some(start) = keys.iter().position(|(ns, o)| ns == namespace && o == owner) else {
        bail!("{} has no pod with traffic of its own", from.name());
    };
    let matrix = ConnectivityMatrix::new(&evaluation.graph, units);
    let connections = Connections::new(&matrix);
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
        ListFormat::Json => json(&Hops { caveats, hops: &found }),
        ListFormat::Jsonl => json_lines(&found),
        ListFormat::Yaml => yaml::print(&Hops { caveats, hops: &found }),
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
        _ => bail!("`--hops` supports only `-o text`, `json`, `jsonl` and `yaml`"),
    }
}
