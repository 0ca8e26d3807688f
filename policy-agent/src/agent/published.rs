//! What the loop shows to those who must not ask it: heartbeat, readiness, which chain counts for which group, and policies that are
//! too large for the node.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use policy_core::model::ObjectKey;
use policy_ruleset::Ruleset;

/// A loop without a round for this long counts as hung. A transaction may wait for half a minute before it is given up.
pub const SILENCE: Duration = Duration::from_secs(40);

/// Direction and group of pods that a chain counts for, by the chain's name.
pub type Groups = BTreeMap<String, (String, String)>;

/// A ruleset of this agent is in force.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ready {
    /// A line for everything that may have changed unseen.
    pub stale: Vec<String>,
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ready")?;
        self.stale.iter().try_for_each(|line| write!(f, "\n{line}"))
    }
}

/// Why no ruleset of this agent is in force, or not the whole of it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotReady {
    /// The loop has not made a round.
    #[error("the agent has not started yet")]
    NotStarted,
    /// An object or a file cannot be read.
    #[error("the rules of an earlier run stay in force until all objects can be read: {0}")]
    Unreadable(String),
    /// The source is not complete, and a watch has trouble.
    #[error("not all objects have been read yet: {0}")]
    SourceTrouble(String),
    /// The source is not complete.
    #[error("not all objects have been read yet")]
    Listing,
    /// The last transaction failed.
    #[error("the rules of this node are not in force: {0}")]
    Failed(String),
    /// There was no transaction yet.
    #[error("the rules of this node are not in force yet")]
    Pending,
}

/// What the loop shows.
pub struct Published {
    made: Instant,
    /// Milliseconds from `made` to the last beat.
    last_beat: AtomicU64,
    readiness: Mutex<Result<Ready, NotReady>>,
    groups: Mutex<Arc<Groups>>,
    oversized: Mutex<BTreeMap<ObjectKey, String>>,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            made: Instant::now(),
            last_beat: AtomicU64::new(0),
            readiness: Mutex::new(Err(NotReady::NotStarted)),
            groups: Mutex::default(),
            oversized: Mutex::default(),
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

    pub(crate) fn set_readiness(&self, readiness: Result<Ready, NotReady>) {
        *self.readiness.lock().unwrap_or_else(PoisonError::into_inner) = readiness;
    }

    /// Whether a ruleset of this agent is in force.
    ///
    /// # Errors
    /// When none is.
    pub fn readiness(&self) -> Result<Ready, NotReady> {
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

    pub(super) fn set_oversized(&self, policies: BTreeMap<ObjectKey, String>) {
        *self.oversized.lock().unwrap_or_else(PoisonError::into_inner) = policies;
    }

    /// Policies that are not compiled for what this node's policies cost together, each with a sentence about its pods.
    #[must_use]
    pub fn oversized(&self) -> BTreeMap<ObjectKey, String> {
        self.oversized.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
