//! The commands of `netpol`, one module each.

pub(crate) mod can;
mod check;
pub(crate) mod complete;
pub(crate) mod diff;
pub(crate) mod init;
pub(crate) mod lint;
pub(crate) mod list;
pub(crate) mod reach;
pub(crate) mod render;
pub(crate) mod rules;
pub(crate) mod snapshot;
pub(crate) mod test;
pub(crate) mod validate;
pub(crate) mod who;

use anyhow::Result;
use policy_core::manifest::Snapshot;

use policy_core::diagnostic::Diagnostic;

use crate::Outcome;
use crate::args::InputArgs;
use crate::output::diagnostics::text;
use crate::output::message;
use crate::questions::evaluation::{self, Evaluation, Loaded};

/// The input, compiled, after the findings have been printed; `None` if it has errors.
fn evaluation(args: &InputArgs) -> Result<Option<Evaluation>> {
    Ok(reported(evaluation::load(args)?))
}

/// The objects alone, with the outcome of a command that prints what they are good for; otherwise as [`evaluation()`].
fn objects(args: &InputArgs) -> Result<Option<(Snapshot, Outcome)>> {
    let loaded = evaluation::snapshot(args)?;
    let has_errors = loaded.report.objects.iter().any(Diagnostic::is_error);
    let outcome = if has_errors { Outcome::BadInput } else { Outcome::Yes };
    Ok(reported(loaded).map(|snapshot| (snapshot, outcome)))
}

/// Prints errors in full, and the number of warnings.
fn reported<T>(loaded: Loaded<T>) -> Option<T> {
    let Loaded { value, report } = loaded;
    text::print_notes(&report.notes);
    text::print(report.objects.iter().filter(|found| found.is_error()), &report.excerpts);
    let warnings = report.objects.iter().filter(|found| !found.is_error()).count();
    if warnings > 0 {
        let plural = if warnings == 1 { "" } else { "s" };
        text::print_notes(&[format!("the input has {warnings} warning{plural}; run `netpol validate` to show them")]);
    }
    if value.is_none() {
        message(
            "refusing to answer because the input has errors; use `--keep-going` to answer anyway, without the objects that cannot be read",
        );
    }
    text::print(&report.graph, &report.excerpts);
    value
}
