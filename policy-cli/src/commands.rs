//! The commands of `netpol`, one module each.

pub(crate) mod can;
pub(crate) mod list;
pub(crate) mod reach;
pub(crate) mod render;
pub(crate) mod snapshot;
pub(crate) mod validate;
pub(crate) mod who;

use anyhow::Result;
use policy_core::manifest::Snapshot;

use crate::args::InputArgs;
use crate::output::diagnostics::text;
use crate::questions::evaluation::{self, Evaluation, Loaded};

/// Everything read and compiled, after what was found has been printed; `None` if the input has errors.
fn evaluation(args: &InputArgs) -> Result<Option<Evaluation>> {
    Ok(reported(evaluation::load(args)?))
}

/// The objects alone; otherwise as [`evaluation`].
fn objects(args: &InputArgs) -> Result<Option<Snapshot>> {
    Ok(reported(evaluation::snapshot(args)?))
}

/// Prints what was found: errors in full, and of warnings only how many there are, because the question is another one.
fn reported<T>(loaded: Loaded<T>) -> Option<T> {
    let Loaded { value, report } = loaded;
    text::print_notes(&report.notes);
    text::print(report.objects.iter().filter(|found| found.is_error()), &report.excerpts);
    let warnings = report.objects.iter().filter(|found| !found.is_error()).count();
    if warnings > 0 {
        let plural = if warnings == 1 { "" } else { "s" };
        text::print_notes(&[format!("{warnings} warning{plural} about the input; `netpol validate` shows them")]);
    }
    if value.is_none() {
        anstream::eprintln!(
            "no answer is given from faulty input; `--keep-going` answers all the same, and what could not be read allows nothing"
        );
    }
    text::print(&report.graph, &report.excerpts);
    value
}
