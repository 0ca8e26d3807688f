//! `netpol can`: the verdict on one question, and why.

use anyhow::Result;

use crate::Outcome;
use crate::args::{AnswerFormat, CanArgs};
use crate::output::answer::{Detail, text};
use crate::output::{json, print};
use crate::questions::answer::{Verdict, answer};
use crate::questions::ends;

pub(crate) fn run(args: &CanArgs) -> Result<Outcome> {
    let Some(evaluation) = super::evaluation(&args.input)? else { return Ok(Outcome::BadInput) };
    let from = ends::parse(&args.from, &evaluation.namespace, &evaluation)?;
    let to = ends::parse(&args.to, &evaluation.namespace, &evaluation)?;
    let ports = ends::ports(&args.ports.ports, Some(&to), &evaluation)?;
    let answer = answer(&evaluation, &from, &to, ports.as_ref())?;
    match args.output {
        AnswerFormat::Json => json(&answer)?,
        AnswerFormat::Text => print(&text(&answer, if args.verbose { Detail::Full } else { Detail::Brief }))?,
    }
    Ok(match answer.verdict {
        _ if evaluation.has_errors => Outcome::BadInput,
        Verdict::Allowed => Outcome::Yes,
        Verdict::Denied | Verdict::Partial => Outcome::No,
    })
}
