//! `netpol list`: every allowed connection between workloads, and with the outside.

use anyhow::Result;

use crate::Outcome;
use crate::args::ListArgs;
use crate::output::rows::show;
use crate::questions::ends::{self, Ends};
use crate::questions::ports::ports;
use crate::questions::rows::{Question, narrowed, rows};
use crate::questions::scope::Scope;

pub(crate) fn run(args: &ListArgs) -> Result<Outcome> {
    let Some(evaluation) = super::evaluation(&args.input)? else { return Ok(Outcome::BadInput) };
    let end = |text: &Option<String>| text.as_ref().map(|text| ends::parse(text, &evaluation)?.for_list()).transpose();
    let (from, to) = (end(&args.from)?, end(&args.to)?);
    let ports = ports(&args.ports.ports, to.as_ref().map(Ends::list), &evaluation)?;
    let scope = Scope::new(&args.scope, &args.input, &evaluation)?;
    let question = Question { from: from.as_ref(), to: to.as_ref(), scope: &scope };
    let rows = narrowed(rows(&evaluation, &question), ports.as_ref());
    show(&evaluation, &question, ports.as_ref(), &rows, &args.output)?;
    Ok(evaluation.outcome())
}
