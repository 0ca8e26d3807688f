//! Questions to the agent of this node, over its socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use policy_agent::admin::status::{Status, visible};
use policy_agent::denials::explain::ChainExplanation;
use serde::de::DeserializeOwned;

use crate::args::Output;

/// The agent must answer in this time.
const PATIENCE: Duration = Duration::from_secs(10);

fn question(socket: &Path, line: &str) -> Result<String> {
    let hint = || format!("no agent answers on `{}`; check that it runs and that `--socket` is correct", socket.display());
    let mut stream = UnixStream::connect(socket).with_context(hint)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).with_context(hint)?;
    Ok(text)
}

/// An answer in JSON, and its text.
fn json<T: DeserializeOwned>(socket: &Path, line: &str) -> Result<(T, String)> {
    let text = question(socket, line)?;
    let answer = serde_json::from_str(&text)
        .with_context(|| format!("unexpected answer from the agent on `{}`: `{}`", socket.display(), visible(text.trim_end())))?;
    Ok((answer, text))
}

/// Prints, and ignores a closed pipe.
fn print(text: &str) -> Result<()> {
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// `policy-agent status`.
pub(crate) fn status(socket: &Path, output: Output) -> Result<ExitCode> {
    let (status, text): (Status, String) = json(socket, "status json")?;
    match output {
        Output::Json => print(&text)?,
        Output::Text => print(&status.to_string())?,
    }
    Ok(ExitCode::from(u8::from(!status.is_in_sync)))
}

/// `policy-agent explain-chain NAME`.
pub(crate) fn explain(socket: &Path, name: &str) -> Result<ExitCode> {
    let explanation: ChainExplanation = json(socket, &format!("explain json {name}"))?.0;
    print(&explanation.to_string())?;
    Ok(match explanation {
        ChainExplanation::Found(_) => ExitCode::SUCCESS,
        ChainExplanation::Unknown { .. } => ExitCode::FAILURE,
    })
}
