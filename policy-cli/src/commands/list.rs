//! `netpol list`: every allowed connection between workloads, and with the outside.

use anyhow::Result;

use crate::Outcome;
use crate::args::ListArgs;
use crate::output::rows::show;
use crate::questions::ends;
use crate::questions::rows::rows;

pub(crate) fn run(args: &ListArgs) -> Result<Outcome> {
    let Some(evaluation) = super::evaluation(&args.input)? else { return Ok(Outcome::BadInput) };
    let end = |text: &Option<String>| text.as_ref().map(|t| ends::parse(t, &evaluation.namespace, &evaluation)).transpose();
    let (from, to) = (end(&args.from)?, end(&args.to)?);
    let rows = rows(&evaluation, from.as_ref(), to.as_ref());
    show(&evaluation, &rows, args.output)?;
    Ok(if evaluation.has_errors { Outcome::BadInput } else { Outcome::Yes })
}
