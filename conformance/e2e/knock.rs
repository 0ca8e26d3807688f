//! A client that connects again and again.

use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Result;

/// A connection that is not there after this time is denied.
const PATIENCE: Duration = Duration::from_millis(500);
/// From one connection that was accepted to the next.
const PAUSE: Duration = Duration::from_millis(20);

/// How many connections were accepted, and how many were not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    pub accepted: u64,
    pub denied: u64,
}

impl Tally {
    /// What happened to all of them.
    pub(crate) fn verdict(self) -> &'static str {
        match (self.accepted, self.denied) {
            (1.., 0) => "allowed",
            (0, 1..) => "denied",
            (0, 0) => "not tried",
            _ => "neither all allowed nor all denied",
        }
    }
}

/// What a knocking process does: connects for some seconds to an address, and prints the tally.
pub(crate) fn knock([seconds, target, source]: [&str; 3]) -> Result<ExitCode> {
    let (target, source): (SocketAddr, Option<IpAddr>) = (target.parse()?, source.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let mut tally = Tally::default();
    while Instant::now() < end {
        if is_accepted(target, source)? {
            tally.accepted += 1;
            std::thread::sleep(PAUSE);
        } else {
            tally.denied += 1;
        }
    }
    println!("{}", json!({"accepted": tally.accepted, "denied": tally.denied}));
    Ok(ExitCode::SUCCESS)
}

fn is_accepted(target: SocketAddr, source: Option<IpAddr>) -> Result<bool> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    // The end of a test's port range is not reached by waiting for connections to be forgotten.
    socket.set_linger(Some(Duration::ZERO))?;
    let start = Instant::now();
    let is_accepted = socket.connect_timeout(&target.into(), PATIENCE).is_ok();
    if !is_accepted {
        std::thread::sleep(PAUSE.saturating_sub(start.elapsed()));
    }
    Ok(is_accepted)
}

/// The command of a process that knocks, from an address if one is given.
pub(crate) fn command(prefix: &[String], seconds: u64, target: SocketAddr, source: Option<IpAddr>) -> Result<Command> {
    let me = std::env::current_exe()?.display().to_string();
    let source = source.map_or_else(|| "-".to_owned(), |source| source.to_string());
    let mut words = prefix.to_vec();
    words.extend([me, "knock".to_owned(), seconds.to_string(), target.to_string(), source]);
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

/// Waits for a process that knocks.
pub(crate) fn tally(knocking: Child) -> Result<Tally> {
    let output = knocking.wait_with_output()?;
    let found: Value = serde_json::from_slice(&output.stdout).map_err(|_| "a client ended without a result")?;
    let count = |key: &str| found.get(key).and_then(Value::as_u64).unwrap_or_default();
    Ok(Tally { accepted: count("accepted"), denied: count("denied") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_about_all_connections() {
        let verdict = |accepted, denied| Tally { accepted, denied }.verdict();
        assert_eq!([verdict(3, 0), verdict(0, 3), verdict(0, 0)], ["allowed", "denied", "not tried"]);
        assert!(verdict(1, 1).starts_with("neither"));
    }
}
