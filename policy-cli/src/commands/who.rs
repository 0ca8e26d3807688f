//! `netpol who`: everything that can reach one end.

use anyhow::Result;

use crate::Outcome;
use crate::args::WhoArgs;
use crate::output::rows::show;
use crate::questions::ends;
use crate::questions::rows::{narrowed, rows};

/// Everything that can reach an end, on at least the asked ports.
pub(crate) fn run(args: &WhoArgs) -> Result<Outcome> {
    let Some(evaluation) = super::evaluation(&args.input)? else { return Ok(Outcome::BadInput) };
    let to = ends::parse(&args.to, &evaluation.namespace, &evaluation)?;
    let ports = ends::ports(&args.ports.ports, Some(&to), &evaluation)?;
    let rows = narrowed(rows(&evaluation, None, Some(&to)), ports.as_ref());
    show(&evaluation, &rows, args.output)?;
    Ok(evaluation.outcome())
}
