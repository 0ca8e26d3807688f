//! netpol with an input on a pipe.

#![expect(clippy::expect_used, reason = "a failing check panics")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs netpol without the settings of the terminal and of the user.
pub(crate) fn piped(arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netpol"));
    for variable in ["NO_COLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "KUBECONFIG"] {
        command.env_remove(variable);
    }
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("netpol starts");
    // A child that refuses its arguments does not read.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_ref());
    child.wait_with_output().expect("netpol ends")
}
