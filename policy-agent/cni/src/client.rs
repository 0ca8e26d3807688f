//! The way to the agent.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::protocol::{Answer, LONGEST, Request, Task, VERSION};

/// The agent must answer in this time. Runtimes give a chain of plugins minutes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the agent behind a socket.
///
/// # Errors
/// In words, when there is no agent, or none that answers in time and in the same version.
pub fn ask(socket: &Path, task: Task) -> Result<Answer, String> {
    let place = socket.display();
    let stream = UnixStream::connect(socket).map_err(|error| format!("no agent listens at {place}: {error}"))?;
    let failed = |error: std::io::Error| format!("the agent at {place} does not answer: {error}");
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    let request = serde_json::to_string(&Request { version: VERSION, task }).map_err(|error| error.to_string())?;
    (&stream).write_all(format!("{request}\n").as_bytes()).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream).take(LONGEST).read_line(&mut line).map_err(failed)?;
    let answer: Answer = serde_json::from_str(&line)
        .map_err(|_| format!("the agent at {place} does not answer, or in words of another version"))?;
    if answer.version != VERSION {
        return Err(format!("the agent at {place} speaks version {}, and this plugin version {VERSION}", answer.version));
    }
    Ok(answer)
}
