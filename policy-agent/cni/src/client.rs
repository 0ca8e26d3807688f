//! The way to the agent.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Instant;

use crate::protocol::{Answer, LONGEST, Request, Task, VERSION};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The thread that asks cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// The agent takes longer than the deadline allows.
    #[error("the agent at {} does not answer in time", .0.display())]
    Timeout(PathBuf),
    /// The thread that asks ended without a result.
    #[error("cannot reach the agent at {}", .0.display())]
    Aborted(PathBuf),
    /// No agent has the socket.
    #[error("no agent listens on {}: {source}", .socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The question cannot be written as JSON.
    #[error("cannot write the question as JSON: {0}")]
    Encode(#[source] serde_json::Error),
    /// The question cannot be sent, or the answer cannot be read.
    #[error("the agent at {} does not answer: {source}", .socket.display())]
    Exchange {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection ended before the answer.
    #[error("the agent at {} closed the connection without an answer", .0.display())]
    Closed(PathBuf),
    /// The answer has another form than [`Answer`].
    #[error("the answer of the agent at {} is not of version {VERSION}: {source}", .socket.display())]
    Decode {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The answer is of another version.
    #[error("the agent at {} uses version {version}, but this plugin uses version {VERSION}", .socket.display())]
    Version {
        /// The socket.
        socket: PathBuf,
        /// The version of the answer.
        version: u32,
    },
}

/// Asks the agent behind a socket, and waits for the answer until `deadline`: connecting, writing and reading together.
///
/// # Errors
/// When there is no agent, or none that answers in time and in the same version.
pub fn ask(socket: &Path, task: Task, deadline: Instant) -> Result<Answer, AskError> {
    let (tell, told) = channel();
    let place = socket.to_owned();
    // A time-out of the socket would bound each byte, and nothing would bound connecting to an agent whose queue is full. The
    // thread ends with the process.
    let exchange = move || drop(tell.send(exchange(&place, task)));
    std::thread::Builder::new().name("ask".to_owned()).spawn(exchange).map_err(AskError::Thread)?;
    told.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap_or_else(|error| {
        Err(match error {
            RecvTimeoutError::Timeout => AskError::Timeout(socket.to_owned()),
            RecvTimeoutError::Disconnected => AskError::Aborted(socket.to_owned()),
        })
    })
}

fn exchange(socket: &Path, task: Task) -> Result<Answer, AskError> {
    let place = || socket.to_owned();
    let stream = UnixStream::connect(socket).map_err(|source| AskError::Connect { socket: place(), source })?;
    let failed = |source| AskError::Exchange { socket: place(), source };
    let request = serde_json::to_string(&Request { version: VERSION, task }).map_err(AskError::Encode)?;
    (&stream).write_all(format!("{request}\n").as_bytes()).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream).take(LONGEST).read_line(&mut line).map_err(failed)?;
    if line.is_empty() {
        return Err(AskError::Closed(place()));
    }
    let answer: Answer = serde_json::from_str(&line).map_err(|source| AskError::Decode { socket: place(), source })?;
    if answer.version != VERSION {
        return Err(AskError::Version { socket: place(), version: answer.version });
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use super::*;

    /// What a plugin gets from an agent that does this with each connection.
    fn answer_of(patience: Duration, act: impl Fn(UnixStream) + Send + 'static) -> Result<Answer, AskError> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || listener.incoming().flatten().for_each(act));
        ask(&socket, Task::Status, Instant::now() + patience)
    }

    /// What a plugin gets from an agent that reads the request and answers with this.
    fn answer_to(text: &'static str) -> Result<Answer, AskError> {
        answer_of(SOON, move |mut stream| {
            let _ = BufReader::new(&stream).read_line(&mut String::new());
            let _ = stream.write_all(text.as_bytes());
        })
    }

    /// A generous bound: a time-out for each byte would wait for as long as bytes come.
    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn time_is_bounded_as_a_whole_and_not_for_each_byte() {
        let start = Instant::now();
        let result = answer_of(Duration::from_millis(300), |mut stream| {
            let end = Instant::now() + 3 * SOON;
            while Instant::now() < end && stream.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        assert!(matches!(result, Err(AskError::Timeout(_))) && start.elapsed() < SOON);
    }

    #[test]
    fn time_is_bounded_while_connecting() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        // Nobody accepts: connecting waits once the queue is full.
        let mut waiting = Vec::new();
        let start = Instant::now();
        let result = loop {
            let (tell, told) = channel();
            let place = socket.clone();
            std::thread::spawn(move || drop(tell.send(UnixStream::connect(place))));
            match told.recv_timeout(Duration::from_millis(500)) {
                Ok(stream) => waiting.push(stream.unwrap()),
                Err(_) => break ask(&socket, Task::Status, Instant::now() + Duration::from_millis(300)),
            }
        };
        assert!(matches!(result, Err(AskError::Timeout(_))) && start.elapsed() < 3 * SOON);
    }

    #[test]
    fn what_is_no_answer_is_not_taken_for_one() {
        for text in [
            "",
            "\n",
            "{\"version\":2}\n",
            "{\"version\":1}\n",
            "{\"version\":1,\"refusal\":null}\n",
            "{\"version\":2,\"refusal\":null}\n",
        ] {
            let result = answer_to(text);
            assert!(result.is_err(), "{text}: {result:?}");
        }
        let newer = "{\"version\":3,\"result\":\"done\"}\n";
        assert!(answer_to(newer).unwrap_err().to_string().contains("version 3"));
        let good = "{\"version\":2,\"result\":\"done\"}\n";
        assert_eq!(answer_to(good).unwrap(), Answer::done());
    }
}
