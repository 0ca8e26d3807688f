//! Runs a program that prints manifests: bounded in time and in what it prints, and without the network.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Bytes of standard error that are kept.
const MOST_MESSAGES: u64 = 64 << 10;
/// How often a program is looked at while it runs.
const PAUSE: Duration = Duration::from_millis(2);

/// What a program may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long it may run.
    pub time: Duration,
    /// How many bytes it may print.
    pub size: u64,
}

/// Why a program printed no manifests.
#[derive(Debug)]
pub enum Failure {
    /// None of these programs is there.
    Missing(Vec<&'static str>),
    /// It cannot be started.
    Start(&'static str, std::io::Error),
    /// It failed, with this on standard error.
    Failed(&'static str, String),
    /// It ran longer than this.
    TooSlow(&'static str, Duration),
    /// It printed more than this many bytes.
    TooLarge(&'static str, u64),
    /// This file refers to this resource, which only the network has.
    Remote(PathBuf, String),
    /// The source is not one, or is not complete; why.
    Refused(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(names) => {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                write!(f, "{} {} not installed", names.join(" and "), if names.len() == 1 { "is" } else { "are" })
            }
            Self::Start(name, error) => write!(f, "cannot run `{name}`: {error}"),
            Self::Failed(name, text) if text.trim().is_empty() => write!(f, "`{name}` failed without a message"),
            Self::Failed(name, text) => write!(f, "`{name}` failed: {}", text.trim()),
            Self::TooSlow(name, time) => write!(f, "`{name}` did not end within {} seconds", time.as_secs()),
            Self::TooLarge(name, size) => write!(f, "`{name}` printed more than {} MiB", size >> 20),
            Self::Remote(file, resource) => {
                write!(f, "`{}` refers to `{resource}`, and remote resources are not fetched", file.display())
            }
            Self::Refused(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

/// A program and its arguments. Paths are arguments of their own; there is no shell.
pub(super) struct Program {
    pub name: &'static str,
    pub arguments: Vec<OsString>,
}

/// What the first of these programs that is installed prints.
pub(super) fn first(programs: &[Program], limits: Limits) -> Result<Vec<u8>, Failure> {
    for program in programs {
        let mut command = Command::new(program.name);
        command.args(&program.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        without_network(&mut command);
        match command.process_group(0).spawn() {
            Ok(child) => return finish(program.name, child, limits),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::Start(program.name, error)),
        }
    }
    Err(Failure::Missing(programs.iter().map(|program| program.name).collect()))
}

/// Whatever a program would fetch fails at once: its proxy refuses connections, and git may use no protocol and ask no question.
fn without_network(command: &mut Command) {
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env(name, "http://127.0.0.1:9").env(name.to_uppercase(), "http://127.0.0.1:9");
    }
    command.env_remove("no_proxy").env_remove("NO_PROXY");
    command.env("GIT_ALLOW_PROTOCOL", "none").env("GIT_TERMINAL_PROMPT", "0");
}

fn finish(name: &'static str, mut child: Child, limits: Limits) -> Result<Vec<u8>, Failure> {
    let deadline = Instant::now() + limits.time;
    let output = child.stdout.take().map(|stream| read(stream, limits.size.saturating_add(1)));
    let messages = child.stderr.take().map(|stream| read(stream, MOST_MESSAGES));
    let Some(status) = wait(&mut child, deadline).map_err(|error| Failure::Start(name, error))? else {
        end(&mut child);
        return Err(Failure::TooSlow(name, limits.time));
    };
    // What it started may still hold the pipes.
    let rest = |stream: Option<Receiver<Vec<u8>>>| {
        let left = deadline.saturating_duration_since(Instant::now());
        stream.map_or_else(|| Some(Vec::new()), |stream| stream.recv_timeout(left).ok())
    };
    let (Some(output), Some(messages)) = (rest(output), rest(messages)) else {
        end(&mut child);
        return Err(Failure::TooSlow(name, limits.time));
    };
    if output.len() as u64 > limits.size {
        return Err(Failure::TooLarge(name, limits.size));
    }
    if !status.success() {
        return Err(Failure::Failed(name, String::from_utf8_lossy(&messages).into_owned()));
    }
    Ok(output)
}

/// Reads a stream to its end, in a thread of its own. What is longer than `limit` bytes ends there, and so does its writer.
fn read(stream: impl Read + Send + 'static, limit: u64) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What can be read of a broken pipe is all that there is.
        let _ = stream.take(limit).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// Waits until the program ends; `None` if it runs on.
fn wait(child: &mut Child, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Ends the program and what it started. Both may have ended by themselves.
fn end(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> [Program; 2] {
        let missing = Program { name: "a-program-that-nobody-has", arguments: Vec::new() };
        [missing, Program { name: "sh", arguments: vec!["-c".into(), line.into()] }]
    }

    const LIMITS: Limits = Limits { time: Duration::from_secs(20), size: 10 };

    #[test]
    fn a_program_prints_or_says_why_not() {
        assert_eq!(first(&shell("echo yes"), LIMITS).unwrap(), b"yes\n");
        let failed = first(&shell("echo no >&2; exit 3"), LIMITS).unwrap_err();
        assert_eq!(failed.to_string(), "`sh` failed: no");
        let missing = first(&shell("")[..1], LIMITS).unwrap_err();
        assert_eq!(missing.to_string(), "`a-program-that-nobody-has` is not installed");
    }

    #[test]
    fn time_and_output_are_bounded() {
        let quick = Limits { time: Duration::from_millis(50), ..LIMITS };
        let started = Instant::now();
        assert!(matches!(first(&shell("sleep 60 & wait"), quick), Err(Failure::TooSlow(..))));
        assert!(matches!(first(&shell("sleep 60 & echo done"), quick), Err(Failure::TooSlow(..))));
        assert!(matches!(first(&shell("yes"), LIMITS), Err(Failure::TooLarge("sh", 10))));
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_program_has_no_network() {
        let text = first(&shell("echo $https_proxy$GIT_ALLOW_PROTOCOL"), Limits { size: 100, ..LIMITS }).unwrap();
        assert_eq!(text, b"http://127.0.0.1:9none\n");
    }
}
