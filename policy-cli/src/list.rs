//! `netpol list`: every allowed connection between workloads, and with the outside.

mod formats;
mod rows;

use anyhow::Result;

use crate::Outcome;
use crate::args::{ListArgs, ListFormat};
use crate::can::foreign_caveats;
use crate::output;
use crate::world::{self, World};
use crate::{ends, output::YELLOW};

pub(crate) use rows::{Peer, Row, rows};

pub(crate) fn run(args: &ListArgs) -> Result<Outcome> {
    let Some(world) = world::load(&args.input)? else { return Ok(Outcome::BadInput) };
    let end = |text: &Option<String>| text.as_ref().map(|t| ends::parse(t, &world.namespace, &world)).transpose();
    let (from, to) = (end(&args.from)?, end(&args.to)?);
    let rows = rows(&world, from.as_ref(), to.as_ref());
    show(&world, &rows, args.output)?;
    Ok(if world.has_errors { Outcome::BadInput } else { Outcome::Yes })
}

/// Prints rows in a format, and on standard error what they do not say.
pub(crate) fn show(world: &World, rows: &[Row], format: ListFormat) -> Result<()> {
    let namespaces: Vec<Option<&str>> = world.snapshot.namespaces.keys().map(|n| Some(n.as_str())).collect();
    for caveat in foreign_caveats(world, &namespaces) {
        anstream::eprintln!("{YELLOW}caveat{YELLOW:#}: {caveat}");
    }
    match format {
        ListFormat::Text => output::print(&formats::text(rows)),
        ListFormat::Json => output::json(rows),
        ListFormat::Csv => output::raw(&formats::csv(rows)?),
        ListFormat::Md => output::raw(formats::markdown(rows).as_bytes()),
        ListFormat::Dot => output::raw(formats::dot(rows).as_bytes()),
        ListFormat::Mermaid => output::raw(formats::mermaid(rows).as_bytes()),
    }
}
