//! The socket of the node: one line with a question or a request of the CNI plugin, and the answer until the end.

use std::fs::Permissions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use netpol_cni::protocol::{self, Answer, LONGEST, Task, code};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::agent::{Asker, Event, Mailbox, Question, Refused};
use crate::interfaces::Watch;

/// A client must ask, and read its answer, in this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// The loop must answer a request of the plugin in this time; it refuses what takes longer than eight seconds.
const LOOP_PATIENCE: Duration = Duration::from_secs(9);
/// Connections at a time; others wait until they are accepted.
const MOST: usize = 512;
/// After an error of the listener, such as no file descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves questions on a socket that only its owner may use, in a thread of its own.
///
/// # Errors
/// When the socket cannot be made, or the thread cannot be started.
pub fn serve(path: &Path, events: Mailbox, interfaces: Watch) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // One that is left over from an agent that crashed.
    if UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    std::thread::Builder::new().name("socket".to_owned()).spawn(move || accept(&listener, &events, &interfaces))?;
    Ok(())
}

fn accept(listener: &UnixListener, events: &Mailbox, interfaces: &Watch) {
    let open = Arc::new(AtomicUsize::new(0));
    let mut last_error = None;
    loop {
        if open.load(Ordering::Acquire) >= MOST {
            std::thread::sleep(PAUSE);
            continue;
        }
        let result = listener.accept().and_then(|(stream, _)| {
            let (events, interfaces, open) = (events.clone(), interfaces.clone(), open.clone());
            open.fetch_add(1, Ordering::AcqRel);
            let place = Place(open);
            // Pods start at the same time, and one that waits must not keep others waiting.
            std::thread::Builder::new().name("answer".to_owned()).spawn(move || {
                // A question that fails is its client's business.
                drop(answer(&Arc::new(stream), &events, &interfaces));
                drop(place);
            })
        });
        match result {
            Ok(_) => last_error = None,
            Err(error) => {
                let text = error.to_string();
                if last_error.as_ref() != Some(&text) {
                    tracing::error!(error = text, "cannot answer requests on the socket");
                    last_error = Some(text);
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// One of the connections; given back when it is dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn answer(stream: &Arc<UnixStream>, events: &Mailbox, interfaces: &Watch) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.as_ref()).take(LONGEST).read_line(&mut line)?;
    let mut out = stream.as_ref();
    if line.starts_with('{') {
        return out.write_all(answer_plugin(&line, stream, events, interfaces)?.as_bytes());
    }
    let text = match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
        ("status", format) => ask(events, Question::Status).and_then(|status| match format {
            "json" => Ok(serde_json::to_string_pretty(&status)?),
            _ => Ok(status.to_string()),
        }),
        ("explain", rest) => {
            let (is_json, name) = rest.strip_prefix("json ").map_or((false, rest), |name| (true, name));
            ask(events, |answer| Question::Explain(name.to_owned(), answer))
                .and_then(|found| Ok(if is_json { serde_json::to_string(&found)? } else { found.to_string() }))
        }
        _ => return Ok(()),
    };
    let text = text.unwrap_or_else(|why| format!("the agent does not answer: {why}\n"));
    out.write_all(text.as_bytes())
}

/// The answer to a line of the CNI plugin.
fn answer_plugin(line: &str, stream: &Arc<UnixStream>, events: &Mailbox, interfaces: &Watch) -> io::Result<String> {
    let answer = protocol::serve(line, |task| {
        // The pod's interface is new, and must be known in the transaction that isolates the pod.
        if matches!(task, Task::Add(_))
            && let Err(error) = interfaces.look()
        {
            return Answer::refused(code::TRY_AGAIN, format!("cannot read links and routes: {error}"));
        }
        let (answer, answered) = channel();
        if let Err(error) = events.send(Event::Sandbox(task, asker(stream, answer))) {
            return Answer::refused(code::TRY_AGAIN, error.to_string());
        }
        let late = |_| Answer::refused(code::TRY_AGAIN, "the agent does not answer in time");
        answered.recv_timeout(LOOP_PATIENCE).unwrap_or_else(late)
    });
    Ok(answer?)
}

/// Who waits at the other end of a stream, as long as it is served.
fn asker(stream: &Arc<UnixStream>, answer: Sender<Answer>) -> Asker {
    let stream = Arc::downgrade(stream);
    Asker::new(answer, move || stream.upgrade().is_some_and(|stream| is_open(&stream)))
}

/// Whether the other end is open. One that has only finished writing is.
fn is_open(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let result = poll(&mut polled, PollTimeout::ZERO);
    let is_closed = |polled: &PollFd<'_>| polled.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP));
    result.is_err() || !polled.iter().any(is_closed)
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The loop does not take it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The loop does not answer in time.
    #[error("the agent is busy")]
    Busy,
    /// The answer cannot be written.
    #[error("cannot write the answer as JSON: {0}")]
    Encode(#[from] serde_json::Error),
}

/// Asks the agent's loop.
///
/// # Errors
/// When it does not take the question, or does not answer in time.
pub fn ask<T>(events: &Mailbox, question: impl FnOnce(Sender<T>) -> Question) -> Result<T, AskError> {
    let (answer, answered) = channel();
    events.send(Event::Ask(question(answer)))?;
    answered.recv_timeout(PATIENCE).map_err(|_| AskError::Busy)
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use super::*;

    #[test]
    fn an_asker_is_there_until_it_hangs_up_or_is_served() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let ours = Arc::new(ours);
        let asker = asker(&ours, channel().0);
        (&theirs).write_all(b"question").unwrap();
        assert!(asker.is_there());
        // It has only finished writing.
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(asker.is_there());
        drop(theirs);
        assert!(!asker.is_there());

        let (ours, _theirs) = UnixStream::pair().unwrap();
        let ours = Arc::new(ours);
        let asker = super::asker(&ours, channel().0);
        assert!(asker.is_there());
        drop(ours);
        assert!(!asker.is_there());
    }
}
