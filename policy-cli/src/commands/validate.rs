//! `netpol validate`: every error in the input, with file and line.

use anyhow::Result;

use super::check::{self, Checks};
use crate::Outcome;
use crate::args::ValidateArgs;

pub(crate) fn run(args: &ValidateArgs) -> Result<Outcome> {
    let ValidateArgs { files: _, fail_on, stored, input, output } = args;
    check::run(&Checks { input, fail_on: *fail_on, stored: stored.as_deref(), lints: None, output: *output })
}
