//! The heartbeat of a source that looks by itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::KindHealth;

/// The trouble of a source whose thread has ended.
pub(super) const ENDED: &str = "the source ended; restart the agent";

struct State {
    /// When the last look at everything ended.
    seen: Instant,
    trouble: Option<String>,
}

/// When a source last saw everything, and what keeps it from that.
#[derive(Clone)]
pub(super) struct Heartbeat {
    kind: &'static str,
    /// Without a look for this long, something hangs.
    quiet: Duration,
    state: Arc<Mutex<State>>,
}

impl Heartbeat {
    pub(super) fn new(kind: &'static str, quiet: Duration, now: Instant) -> Self {
        Self { kind, quiet, state: Arc::new(Mutex::new(State { seen: now, trouble: None })) }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything was seen.
    pub(super) fn seen(&self, now: Instant) {
        self.with(|state| *state = State { seen: now, trouble: None });
    }

    /// A look ended without seeing everything.
    pub(super) fn failed(&self, trouble: String) {
        self.with(|state| state.trouble = Some(trouble));
    }

    /// A long look goes on: nothing hangs.
    pub(super) fn goes_on(&self, now: Instant) {
        self.with(|state| {
            if state.trouble.is_none() {
                state.seen = now;
            }
        });
    }

    pub(super) fn freshness(&self, now: Instant) -> KindHealth {
        self.with(|state| {
            let silence = now.saturating_duration_since(state.seen);
            let is_stale = state.trouble.is_some() || silence > self.quiet;
            KindHealth {
                kind: self.kind,
                stale_for: is_stale.then_some(silence),
                trouble: state.trouble.clone(),
                unavailable: None,
            }
        })
    }

    /// Says that the source ended when it is dropped, however that comes about.
    pub(super) fn until_dropped(&self) -> Ending {
        Ending(self.clone())
    }
}

pub(super) struct Ending(Heartbeat);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.failed(ENDED.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_or_ends_is_stale() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let beat = Heartbeat::new("manifests", Duration::from_secs(10), start);
        assert_eq!(beat.freshness(after(10)).stale_for, None);
        assert_eq!(beat.freshness(after(11)).stale_for, Some(Duration::from_secs(11)));
        beat.failed("cannot list".to_owned());
        assert_eq!(beat.freshness(after(1)).stale_for, Some(Duration::from_secs(1)));
        beat.seen(after(20));
        assert_eq!(beat.freshness(after(21)).stale_for, None);
        drop(beat.until_dropped());
        let ended = beat.freshness(after(25));
        assert_eq!((ended.stale_for, ended.trouble.as_deref()), (Some(Duration::from_secs(5)), Some(ENDED)));
    }
}
