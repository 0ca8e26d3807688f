//! `netpol who`: everything that can reach one end.

use anyhow::Result;

use crate::Outcome;
use crate::args::WhoArgs;
use crate::output::rows::show;
use crate::questions::ends;
use crate::questions::ports::ports;
use crate::questions::rows::{Question, narrowed, rows};
use crate::questions::scope::Scope;

/// Everything that can reach an end, on at least the asked ports.
pub(crate) fn run(args: &WhoArgs) -> Result<Outcome> {
    let Some(evaluation) = super::evaluation(&args.input)? else { return Ok(Outcome::BadInput) };
    let to = ends::parse(&args.to, &evaluation)?.for_list()?;
    let ports = ports(&args.ports.ports, Some(to.list()), &evaluation)?;
    let scope = Scope::new(&args.scope, &args.input, &evaluation)?;
    let question = Question { from: None, to: Some(&to), scope: &scope };
    let rows = narrowed(rows(&evaluation, &question), ports.as_ref());
    show(&evaluation, &question, ports.as_ref(), &rows, &args.output)?;
    Ok(evaluation.outcome())
}
