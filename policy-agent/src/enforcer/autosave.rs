//! When what is in force is kept on disk.

use std::time::{Duration, Instant};

use policy_core::model::Quarantine;
use policy_ruleset::Transaction;

use super::Enforcer;
use crate::enforcer::ruleset_file::Saver;

/// A change of rules is saved after this time, together with what has changed meanwhile.
pub(super) const SAVE_SOON: Duration = Duration::from_secs(1);
/// A change of elements only.
pub(super) const SAVE_LATER: Duration = Duration::from_secs(10);
/// What does not change is saved again, so that it does not grow old.
const SAVE_AGAIN: Duration = Duration::from_secs(3600);
/// Of the time of the enforcement thread, saving takes one part in so many.
const SAVE_SHARE: u32 = 100;

impl Enforcer {
    /// Why what is in force could not be saved.
    #[must_use]
    pub fn save_trouble(&self) -> Option<String> {
        self.saver.as_ref().and_then(Saver::trouble)
    }

    /// Saves what is in force, if that is due at `now`, with the sandboxes of known pods. Returns when it is due next.
    ///
    /// Cost: that of listing all elements; at most a hundredth of the time.
    pub fn save_due(&mut self, now: Instant, known: impl FnOnce() -> Vec<Quarantine>) -> Option<Instant> {
        let at = self.save_at?;
        let at = self.save_after.map_or(at, |after| at.max(after));
        if at > now {
            return Some(at);
        }
        let Some(saver) = self.saver.as_ref().filter(|_| self.generation.is_some()) else { return Some(now + SAVE_SOON) };
        let start = Instant::now();
        let transaction = Transaction::restart(&self.ruleset, self.compiler.graph(), false);
        let again = if saver.save(transaction, known()) { SAVE_AGAIN } else { SAVE_SOON };
        self.save_at = Some(now + again);
        self.save_after = Some(now + start.elapsed() * SAVE_SHARE);
        self.save_at
    }

    pub(super) fn must_save(&mut self, within: Duration) {
        if self.saver.is_some() {
            let at = Instant::now() + within;
            self.save_at = Some(self.save_at.map_or(at, |before| before.min(at)));
        }
    }
}
