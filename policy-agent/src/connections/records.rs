//! A bounded number of lines about what was terminated.

use std::time::{Duration, Instant};

use super::Tuple;

/// Lines in a second, before the rest is one line with a number.
const LINES: usize = 20;
const SECOND: Duration = Duration::from_secs(1);

/// Which lines are written.
#[derive(Default)]
pub(super) struct Records {
    since: Option<Instant>,
    lines: usize,
    rest: u64,
}

impl Records {
    /// Writes a line about a connection, or counts it.
    pub(super) fn write(&mut self, tuple: &Tuple, now: Instant) {
        if self.admits(now) {
            let flow = tuple.flow();
            let (source, destination, protocol) = (flow.source, flow.destination, flow.protocol);
            tracing::info!(%source, %destination, %protocol, "connection terminated: no longer allowed by policy");
        }
    }

    /// Writes how many connections had no line, when a second is over.
    pub(super) fn settle(&mut self, now: Instant) {
        if let Some(connections) = self.rest(now) {
            tracing::info!(connections, "more connections terminated: no longer allowed by policy");
        }
    }

    /// When there is something to write.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.filter(|_| self.rest > 0).map(|since| since + SECOND)
    }

    fn admits(&mut self, now: Instant) -> bool {
        self.settle(now);
        if self.since.is_none_or(|since| now >= since + SECOND) {
            (self.since, self.lines) = (Some(now), 0);
        }
        self.lines += 1;
        let is_admitted = self.lines <= LINES;
        self.rest += u64::from(!is_admitted);
        is_admitted
    }

    fn rest(&mut self, now: Instant) -> Option<u64> {
        self.due().filter(|at| now >= *at)?;
        Some(std::mem::take(&mut self.rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_terminations_are_few_lines() {
        let (mut records, start) = (Records::default(), Instant::now());
        let lines = (0..100_000).filter(|_| records.admits(start)).count();
        assert_eq!(lines, LINES);
        assert_eq!(records.rest(start), None);
        assert_eq!(records.due(), Some(start + SECOND));
        assert_eq!(records.rest(start + SECOND), Some(100_000 - LINES as u64));
        assert_eq!(records.due(), None);
        assert!(records.admits(start + SECOND));
    }
}
