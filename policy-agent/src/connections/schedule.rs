//! What to look at, and when.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Order, Scope};

/// Packets that were under way when the ruleset changed may enter connections a moment later; then they are looked at again.
pub(super) const SECOND_LOOK: Duration = Duration::from_millis(400);
/// Second looks that are closer together than this are one.
const CLOSE: Duration = Duration::from_millis(100);
/// What failed is tried again after this time, and each time after twice as long.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(500);
/// But never after more than this: connections must be cut within ten seconds (S3.9).
const LAST_RETRY: Duration = Duration::from_secs(4);
/// Elements that keep connections cut are judged again at most this often.
const RELEASE: Duration = Duration::from_secs(1);

/// Something to do now.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Work {
    /// Look at connections for CNI ADDs that wait.
    ForTokens(Vec<u64>, Scope),
    /// Look at connections; whether some of them are looked at for the first time.
    Look(Scope, bool),
    /// Judge what keeps connections cut.
    Release,
}

/// A second look.
struct Later {
    /// When the first of the looks that are one was due.
    first: Instant,
    at: Instant,
    scope: Scope,
}

/// Looks that failed.
#[derive(Default)]
struct Retry {
    scope: Option<Scope>,
    at: Option<Instant>,
    wait: Option<Duration>,
}

/// What is to be done. Its size is bounded: scopes are, and second looks that are close together are one.
#[derive(Default)]
pub(super) struct Schedule {
    tokens: Vec<(u64, Scope)>,
    first: Option<Scope>,
    later: VecDeque<Later>,
    retry: Retry,
    release: Option<Instant>,
    released: Option<Instant>,
    /// Whether the last thing done was for tokens.
    was_for_tokens: bool,
}

impl Schedule {
    pub(super) fn take(&mut self, order: Order, now: Instant) {
        match order.token {
            Some(token) => self.tokens.push((token, order.scope)),
            None if order.scope.is_empty() => {}
            None => self.first = Some(self.first.take().unwrap_or_else(Scope::none).union(order.scope)),
        }
        if order.has_gains {
            self.release_at(now);
        }
    }

    /// Judges what keeps connections cut at this time or as soon after as may be.
    pub(super) fn release_at(&mut self, at: Instant) {
        let at = self.released.map_or(at, |released| at.max(released + RELEASE));
        // The earlier time is kept: news that keep coming do not put it off.
        self.release = Some(self.release.map_or(at, |before| before.min(at)));
    }

    /// Looks at these connections once more. Each look comes at its time, however many follow.
    pub(super) fn look_again(&mut self, scope: Scope, now: Instant) {
        let at = now + SECOND_LOOK;
        match self.later.back_mut() {
            Some(last) if at.saturating_duration_since(last.first) < CLOSE => {
                last.at = at;
                let before = std::mem::replace(&mut last.scope, Scope::none());
                last.scope = before.union(scope);
            }
            _ => self.later.push_back(Later { first: at, at, scope }),
        }
    }

    /// Tries again what failed.
    pub(super) fn failed(&mut self, scope: Scope, now: Instant) {
        let wait = self.retry.wait.map_or(FIRST_RETRY, |wait| (2 * wait).min(LAST_RETRY));
        self.retry.wait = Some(wait);
        self.retry.scope = Some(self.retry.scope.take().unwrap_or_else(Scope::none).union(scope));
        self.retry.at = Some(self.retry.at.map_or(now + wait, |before| before.min(now + wait)));
    }

    pub(super) fn succeeded(&mut self) {
        if self.retry.scope.is_none() {
            self.retry.wait = None;
        }
    }

    /// The next thing to do now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Work> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        let is_look_due = self.first.is_some() || is_due(self.later.front().map(|later| later.at)) || is_due(self.retry.at);
        let is_release_due = is_due(self.release);
        // ADDs go first, but not for ever: between two looks for them, others have their turn.
        if !self.tokens.is_empty() && !(self.was_for_tokens && (is_look_due || is_release_due)) {
            self.was_for_tokens = true;
            let (tokens, scopes): (Vec<u64>, Vec<Scope>) = std::mem::take(&mut self.tokens).into_iter().unzip();
            return Some(Work::ForTokens(tokens, scopes.into_iter().fold(Scope::none(), Scope::union)));
        }
        self.was_for_tokens = false;
        // It comes once a second at most, so it can go before looks that keep coming.
        if is_release_due {
            (self.release, self.released) = (None, Some(now));
            return Some(Work::Release);
        }
        if is_look_due {
            let is_first = self.first.is_some();
            let mut scope = self.first.take().unwrap_or_else(Scope::none);
            while self.later.front().is_some_and(|later| now >= later.at) {
                if let Some(later) = self.later.pop_front() {
                    scope = scope.union(later.scope);
                }
            }
            if is_due(self.retry.at) {
                self.retry.at = None;
                scope = scope.union(self.retry.scope.take().unwrap_or_else(Scope::none));
            }
            return Some(Work::Look(scope, is_first));
        }
        None
    }

    /// When there is something to do; `None` for not before something happens.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let at_once = (!self.tokens.is_empty() || self.first.is_some()).then_some(now);
        [at_once, self.later.front().map(|later| later.at), self.retry.at, self.release].into_iter().flatten().min()
    }

    #[cfg(test)]
    pub(super) fn second_looks(&self) -> usize {
        self.later.len()
    }
}
