//! Status report.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// What `policy-agent status` prints. Fields are only ever added.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The node whose pods are enforced.
    pub node: String,
    /// The agent's version.
    pub version: String,
    /// `netlink` or `nft`.
    pub applier: String,
    /// Where objects come from.
    pub source: String,
    /// Whether the kernel holds the rules for the current objects, as far as the agent has observed.
    pub is_in_sync: bool,
    /// Why it does not.
    pub why_not: Option<String>,
    /// Whether a ruleset of this agent is in force.
    pub is_in_force: bool,
    /// What is in force while no ruleset of this agent is.
    pub held: Option<String>,
    /// The kernel's generation after the last transaction.
    pub generation: Option<u32>,
    /// Updates received from the source.
    pub news_taken: u64,
    /// How many of these updates are in force.
    pub news_in_force: u64,
    /// Seconds since the agent started.
    pub uptime_seconds: u64,
    /// Objects held, by kind.
    pub objects: BTreeMap<String, usize>,
    /// Addresses of pods on this node.
    pub local_addresses: usize,
    /// Sets in the table.
    pub sets: usize,
    /// Chains in the table.
    pub chains: usize,
    /// Rules in the table.
    pub rules: usize,
    /// Replacements of the table after another program changed it.
    pub drift_repairs: u64,
    /// Established connections that were terminated.
    pub connections_cut: u64,
    /// What prevents policies from being enforced on this node.
    pub warnings: Vec<String>,
    /// The first problems with objects or files, and the number of further ones.
    pub problems: Vec<String>,
    /// How many problems there are.
    pub problems_total: usize,
    /// The last errors, oldest first.
    pub errors: Vec<StampedError>,
}

/// An error and when it happened.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StampedError {
    /// Seconds since 1970.
    pub timestamp_seconds: u64,
    /// The error.
    pub error: String,
}

impl StampedError {
    /// An error at a time.
    #[must_use]
    pub fn new(at: SystemTime, error: &str) -> Self {
        let timestamp_seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { timestamp_seconds, error: error.to_owned() }
    }
}

/// The text with control characters written out: names and contents of files must not be able to add a line, or to move the cursor.
#[must_use]
pub fn visible(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why_not {
            None => writeln!(f, "in sync: yes, generation {}", self.generation.unwrap_or_default())?,
            Some(why) => writeln!(f, "in sync: no: {}", visible(why))?,
        }
        if !self.is_in_force {
            let held = self.held.as_deref().unwrap_or("the rules from before the start of this agent");
            writeln!(f, "in force: {}", visible(held))?;
        }
        writeln!(f, "node:    {}", visible(&self.node))?;
        writeln!(f, "source:  {}", visible(&self.source))?;
        writeln!(f, "applier: {}, version {}, up {} s", self.applier, self.version, self.uptime_seconds)?;
        let objects: Vec<String> = self.objects.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        writeln!(f, "objects: {}", objects.join(", "))?;
        writeln!(f, "local:   {} pod addresses", self.local_addresses)?;
        writeln!(f, "table:   {} sets, {} chains, {} rules", self.sets, self.chains, self.rules)?;
        writeln!(f, "total:   {} repairs, {} connections terminated", self.drift_repairs, self.connections_cut)?;
        if self.problems_total > 0 {
            writeln!(f, "problems: {}", self.problems_total)?;
        }
        let lists = [("warning", self.warnings.clone()), ("problem", self.problems.clone())];
        for (word, list) in lists {
            for line in list {
                writeln!(f, "{word}: {}", visible(&line))?;
            }
        }
        for error in &self.errors {
            writeln!(f, "error at {}: {}", error.timestamp_seconds, visible(&error.error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_objects_are_called_cannot_add_a_line() {
        let status = Status {
            is_in_sync: false,
            why_not: Some("a\nin sync: yes".to_owned()),
            problems: vec!["b.yaml\r\nin sync: yes\u{1b}[2J".to_owned()],
            problems_total: 1,
            ..Status::default()
        };
        let text = status.to_string();
        assert!(text.starts_with("in sync: no: a\\nin sync: yes\n"), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("in sync: yes")), "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
}
