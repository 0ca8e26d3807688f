//! What the loop shows to those who must not ask it: heartbeat, readiness, and which chain counts for which group.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use policy_ruleset::Ruleset;

/// A loop without a round for this long counts as hung. A transaction may wait for half a minute before it is given up.
pub const SILENCE: Duration = Duration::from_secs(40);

/// Direction and group of pods that a chain counts for, by the chain's name.
pub type Groups = BTreeMap<String, (String, String)>;

/// What the loop shows.
pub struct Published {
    made: Instant,
    /// Milliseconds from `made` to the last beat.
    last_beat: AtomicU64,
    readiness: Mutex<Result<String, String>>,
    groups: Mutex<Arc<Groups>>,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            made: Instant::now(),
            last_beat: AtomicU64::new(0),
            readiness: Mutex::new(Err("the agent has not started yet".to_owned())),
            groups: Mutex::default(),
        }
    }
}

impl Published {
    pub(crate) fn beat(&self, now: Instant) {
        let age = now.saturating_duration_since(self.made).as_millis();
        self.last_beat.store(u64::try_from(age).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long ago the loop was last seen at work.
    #[must_use]
    pub fn silence(&self, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.made);
        age.saturating_sub(Duration::from_millis(self.last_beat.load(Ordering::Relaxed)))
    }

    pub(crate) fn set_readiness(&self, readiness: Result<String, String>) {
        *self.readiness.lock().unwrap_or_else(PoisonError::into_inner) = readiness;
    }

    /// `ready`, with a line for everything that may have changed unseen; or why it is not.
    ///
    /// # Errors
    /// When no ruleset of this agent is in force.
    pub fn readiness(&self) -> Result<String, String> {
        self.readiness.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn show_groups(&self, ruleset: &Ruleset) {
        let of = |name: &String| {
            let group = ruleset.descriptions.get(name)?.group.as_ref()?;
            Some((name.clone(), (group.direction.to_string(), group.name.clone())))
        };
        let groups: Groups = ruleset.chains.keys().filter_map(of).collect();
        *self.groups.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(groups);
    }

    /// Which group each chain counts for.
    #[must_use]
    pub fn groups(&self) -> Arc<Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
