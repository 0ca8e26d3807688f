//! The socket for operators on the node: one line with a question, and the answer until the end.

use std::fs::Permissions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use netpol_cni::protocol::{Answer, LONGEST, Request, VERSION, code};
use policy_agent::agent::{Event, Question};

use crate::args::Output;

/// Whoever connects must ask, and the agent must answer, in this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves questions on a socket that only its owner may use.
pub(crate) fn serve(path: &Path, events: Sender<Event>) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    }
    // One that is left over from an agent that crashed.
    if UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen at `{}`", path.display()))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    std::thread::Builder::new().name("local".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let events = events.clone();
            // Pods start at the same time, and one that waits must not keep others waiting. A question that fails is its asker's
            // business.
            let answering = std::thread::Builder::new().name("answer".to_owned()).spawn(move || drop(answer(&stream, &events)));
            if let Err(error) = answering {
                tracing::error!(%error, "a question at the socket cannot be answered");
            }
        }
    })?;
    Ok(())
}

fn answer(stream: &UnixStream, events: &Sender<Event>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream).take(LONGEST).read_line(&mut line)?;
    if line.starts_with('{') {
        return answer_plugin(stream, &line, events);
    }
    let question = match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
        ("status", "json") => Question::StatusJson,
        ("status", _) => Question::Status,
        ("explain", name) => Question::Explain(name.to_owned()),
        _ => return Ok(()),
    };
    let mut out = stream;
    out.write_all(ask(events, question).unwrap_or_else(|| "the agent does not answer\n".to_owned()).as_bytes())
}

/// A line of the CNI plugin.
fn answer_plugin(mut stream: &UnixStream, line: &str, events: &Sender<Event>) -> io::Result<()> {
    let answer = match serde_json::from_str::<Request>(line) {
        Ok(request) if request.version == VERSION => {
            let (tell, told) = channel();
            let answer = events.send(Event::Sandbox(request.task, tell)).ok().and_then(|()| told.recv_timeout(2 * PATIENCE).ok());
            answer.unwrap_or_else(|| Answer::refused(code::TRY_AGAIN, "the agent's loop does not answer"))
        }
        // A plugin of another version is about to be replaced, or this agent is.
        _ => Answer::refused(code::TRY_AGAIN, format!("this agent speaks version {VERSION}")),
    };
    stream.write_all(format!("{}\n", serde_json::to_string(&answer)?).as_bytes())
}

/// Asks the agent's loop.
pub(crate) fn ask(events: &Sender<Event>, question: Question) -> Option<String> {
    let (tell, told) = channel();
    events.send(Event::Ask(question, tell)).ok()?;
    told.recv_timeout(PATIENCE).ok()
}

fn question(socket: &Path, line: &str) -> Result<String> {
    let hint = || format!("no agent answers at `{}`; is it running, and is this its socket (`--socket`)?", socket.display());
    let mut stream = UnixStream::connect(socket).with_context(hint)?;
    stream.set_read_timeout(Some(2 * PATIENCE))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).with_context(hint)?;
    Ok(text)
}

/// `policy-agent status`.
pub(crate) fn status(socket: &Path, output: Output) -> Result<ExitCode> {
    let is_json = output == Output::Json;
    let text = question(socket, if is_json { "status json" } else { "status" })?;
    println!("{}", text.trim_end());
    let is_in_sync = text.starts_with("in sync: yes") || text.contains("\"is_in_sync\": true");
    Ok(ExitCode::from(u8::from(!is_in_sync)))
}

/// `policy-agent explain-chain NAME`.
pub(crate) fn explain(socket: &Path, name: &str) -> Result<ExitCode> {
    let text = question(socket, &format!("explain {name}"))?;
    println!("{}", text.trim_end());
    Ok(ExitCode::from(u8::from(text.starts_with("there is no"))))
}
