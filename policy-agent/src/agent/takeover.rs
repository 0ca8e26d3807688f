//! The rules of an earlier agent, until the source has listed everything.

use policy_core::model::Change;

use super::{Agent, RETRY};
use crate::enforcer::Held;

impl Agent {
    /// Reads what an earlier agent left, and keeps or restores its rules, before anything is asked of anybody (S3.12).
    ///
    /// # Errors
    /// When the records of sandboxes cannot be read.
    pub fn adopt(&mut self) -> std::io::Result<()> {
        let changes = self.sandboxes.load()?;
        let record = |change: &Change| match change {
            Change::Quarantine(quarantine) => Some(quarantine.clone()),
            _ => None,
        };
        self.records = Some(changes.iter().filter_map(record).collect());
        self.enforcer.take(changes);
        self.enforcer.hear_of_interfaces(self.sandboxes.interfaces());
        self.hold();
        Ok(())
    }

    /// Sees to it that what an earlier agent left is in force, while nothing better is.
    pub(super) fn hold(&mut self) {
        self.must_hold = false;
        let result = self.enforcer.hold(self.records.as_deref().unwrap_or_default());
        let outcome = if result.is_ok() { "applied" } else { "refused" };
        match result {
            Ok(held) => {
                let text = held.to_string();
                match &held {
                    Held::Restored { .. } | Held::Closed { .. } => {
                        self.metrics.transactions.with_label_values(&["restore", outcome]).inc();
                        tracing::error!("{text}");
                    }
                    _ if self.held.as_ref() != Some(&held) => tracing::info!(in_force = text, "in force until the first ruleset"),
                    _ => {}
                }
                self.held = Some(held);
            }
            Err(error) => {
                self.metrics.transactions.with_label_values(&["restore", outcome]).inc();
                self.complain(format!("cannot keep the rules of an earlier run in force: {error}"));
                self.must_hold = true;
                self.retry_at = Some((self.clock)() + RETRY);
            }
        }
    }
}
