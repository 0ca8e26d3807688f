//! The thread that terminates connections.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use policy_ruleset::terminated;

use super::records::Records;
use super::schedule::{FIRST_RETRY, SECOND_LOOK, Schedule, Work};
use super::{
    BATCH, Clock, Connections, Enforcement, Entry, Judgement, KnownAddresses, LookError, LookResult, Order, Scope, Tuple,
};
use crate::admin::metrics::{Metrics, seconds};

/// Entries that could not be deleted and are tried again one by one; more of them are looked for again.
const MOST_STUBBORN: usize = 4096;
/// The longest time after which an entry is tried again that could not be deleted.
const LAST_RETRY: Duration = Duration::from_secs(4);
/// Without anything to do, the thread sleeps for at most this long.
const IDLE: Duration = Duration::from_secs(3600);

/// Terminates connections that are not allowed any more.
pub struct Terminator<C, E, T> {
    connections: C,
    enforcement: E,
    clock: T,
    node: KnownAddresses,
    metrics: Metrics,
    schedule: Schedule,
    records: Records,
    stubborn: Stubborn,
}

/// Entries that could not be deleted.
#[derive(Default)]
struct Stubborn {
    entries: Vec<Entry>,
    at: Option<Instant>,
    wait: Option<Duration>,
}

/// What a look came to.
#[derive(Default)]
struct Looked {
    /// Why connections may not have been seen or judged: all of them are looked at again.
    unseen: Option<Arc<LookError>>,
    /// Why a connection could not be deleted: only those are tried again.
    undeleted: Option<Arc<LookError>>,
}

impl Looked {
    fn unseen(error: LookError) -> Self {
        Self { unseen: Some(Arc::new(error)), undeleted: None }
    }

    fn result(&self) -> LookResult {
        self.unseen.clone().or_else(|| self.undeleted.clone()).map_or(Ok(()), Err)
    }
}

/// Connections that were judged.
#[derive(Default)]
struct Outcome {
    doomed: Vec<(Entry, Judgement)>,
    /// Whether a batch was not judged.
    is_unanswered: bool,
}

impl<C: Connections, E: Enforcement, T: Clock> Terminator<C, E, T> {
    /// A terminator with nothing to do.
    pub fn new(connections: C, enforcement: E, clock: T, node: KnownAddresses, metrics: Metrics) -> Self {
        let (schedule, records, stubborn) = Default::default();
        Self { connections, enforcement, clock, node, metrics, schedule, records, stubborn }
    }

    /// Works until the queue is closed.
    pub fn run(mut self, orders: &Receiver<Order>) {
        loop {
            match orders.recv_timeout(self.until_next()) {
                Ok(order) => self.take(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(order) = orders.try_recv() {
                self.take(order);
            }
            self.work();
        }
    }

    /// Takes an order.
    pub fn take(&mut self, order: Order) {
        self.schedule.take(order, self.clock.now());
    }

    /// How long there is nothing to do, unless an order comes.
    #[must_use]
    pub fn until_next(&self) -> Duration {
        let now = self.clock.now();
        let due = [self.schedule.due(now), self.stubborn.at, self.records.due()].into_iter().flatten().min();
        due.map_or(IDLE, |at| at.saturating_duration_since(now))
    }

    /// Does the most urgent thing that is to be done now; whether there was one.
    pub fn work(&mut self) -> bool {
        let now = self.clock.now();
        self.records.settle(now);
        if self.stubborn.at.is_some_and(|at| now >= at) {
            self.retry_stubborn(now);
            return true;
        }
        match self.schedule.next(now) {
            None => return false,
            Some(Work::ForTokens(tokens, scope)) => {
                let mut looked = self.look(&scope);
                if looked.unseen.is_none() {
                    looked.unseen = self.forget(&scope).err().map(Arc::new);
                }
                for token in tokens {
                    self.enforcement.looked(token, looked.result());
                }
                self.looked(scope, true, looked.unseen);
            }
            Some(Work::Look(scope, is_first)) => {
                let looked = self.look(&scope);
                self.looked(scope, is_first, looked.unseen);
            }
            Some(Work::Release) => self.release(),
        }
        true
    }

    fn looked(&mut self, scope: Scope, is_first: bool, unseen: Option<Arc<LookError>>) {
        let now = self.clock.now();
        match unseen {
            None => self.schedule.succeeded(),
            Some(error) => {
                tracing::error!(%error, "cannot check established connections; retrying");
                self.schedule.failed(scope.clone(), now);
            }
        }
        if is_first {
            self.schedule.look_again(scope, now);
        }
    }

    /// Terminates the connections in a scope that are not allowed any more.
    fn look(&mut self, scope: &Scope) -> Looked {
        let start = self.clock.now();
        // What the node itself opened is left alone, whatever its source address (S2.11).
        let node = match self.node.current() {
            Ok(node) => node,
            Err(error) => return Looked::unseen(LookError::NodeAddresses(error)),
        };
        let mut batch: Vec<Entry> = Vec::new();
        let mut outcome = Outcome::default();
        let enforcement = &mut self.enforcement;
        let listed = self.connections.list(scope, &mut |entry| {
            if !node.contains(&entry.tuple.source) {
                batch.push(entry);
            }
            if batch.len() >= BATCH {
                outcome.judge(enforcement, &mut batch);
            }
        });
        outcome.judge(enforcement, &mut batch);
        let mut looked = self.delete(outcome.doomed, scope);
        self.metrics.cut_seconds.observe(seconds(self.clock.now().saturating_duration_since(start)));
        if outcome.is_unanswered {
            looked.unseen = Some(Arc::new(LookError::Judge));
        }
        if let Err(error) = listed {
            looked.unseen = Some(Arc::new(LookError::List(error)));
        }
        looked
    }

    /// Deletes all that can be deleted. The rest is tried again.
    fn delete(&mut self, entries: Vec<(Entry, Judgement)>, scope: &Scope) -> Looked {
        let mut looked = Looked::default();
        let was_stubborn = self.stubborn.wait.is_some();
        for (entry, judgement) in entries {
            let now = self.clock.now();
            match self.connections.delete(&entry) {
                // What has ended, and what an end is gone of, loses nothing that anyone looks for.
                Ok(true) if entry.is_closed || is_abandoned(&entry.tuple, judgement, scope) => {}
                Ok(true) => {
                    self.metrics.connections_cut.inc();
                    self.records.write(&entry.tuple, now);
                }
                Ok(false) => {}
                Err(error) => {
                    let error = Arc::new(LookError::Delete(error));
                    if !self.stubborn.push(entry, now) {
                        looked.unseen = Some(Arc::clone(&error));
                    }
                    looked.undeleted = Some(error);
                }
            }
        }
        if let (Some(error), false) = (&looked.undeleted, was_stubborn) {
            tracing::error!(%error, "cannot terminate a connection; retrying");
        }
        looked
    }

    /// Tries again what could not be deleted.
    fn retry_stubborn(&mut self, now: Instant) {
        let mut batch = std::mem::take(&mut self.stubborn.entries);
        let wait = self.stubborn.wait.map_or(FIRST_RETRY, |wait| (2 * wait).min(LAST_RETRY));
        (self.stubborn.wait, self.stubborn.at) = (Some(wait), None);
        let mut outcome = Outcome::default();
        // It may be allowed again.
        let again = batch.clone();
        outcome.judge(&mut self.enforcement, &mut batch);
        if outcome.is_unanswered {
            for entry in again {
                self.stubborn.push(entry, now);
            }
        } else {
            // What fails again is in the queue again.
            self.delete(outcome.doomed, &Scope::All);
        }
        if self.stubborn.entries.is_empty() {
            self.stubborn = Stubborn::default();
        }
    }

    /// Lets those go that are allowed again (S3.13).
    fn release(&mut self) {
        let again = self.clock.now() + SECOND_LOOK;
        let held = match self.connections.held() {
            Ok(held) => held,
            Err(error) => {
                tracing::error!(%error, "cannot list terminated connections; retrying");
                return self.schedule.release_at(again);
            }
        };
        for batch in held.chunks(BATCH) {
            match self.enforcement.release(batch) {
                Some(true) => {}
                // Some may be there still.
                Some(false) | None => self.schedule.release_at(again),
            }
        }
    }

    /// Forgets what was cut at these addresses: they have a new owner.
    fn forget(&mut self, scope: &Scope) -> Result<(), LookError> {
        let held = self.connections.held().map_err(LookError::Held)?;
        let is_in = |address: IpAddr| scope.has(&address);
        let ends = |element: &_| terminated::ends(element).is_some_and(|(a, b, _)| is_in(a) || is_in(b));
        let old: Vec<_> = held.into_iter().filter(ends).collect();
        for batch in old.chunks(BATCH) {
            self.enforcement.forget(batch).ok_or(LookError::Forget)?;
        }
        Ok(())
    }
}

/// Whether an end of a connection is an address of the scope that nobody has any more: that of a pod which is gone.
fn is_abandoned(tuple: &Tuple, judgement: Judgement, scope: &Scope) -> bool {
    let Judgement::Denied { is_unclaimed } = judgement else { return false };
    let is_gone = |(address, is_unclaimed): (&IpAddr, bool)| is_unclaimed && *scope != Scope::All && scope.has(address);
    [&tuple.source, &tuple.destination].into_iter().zip(is_unclaimed).any(is_gone)
}

impl Outcome {
    fn judge(&mut self, enforcement: &mut impl Enforcement, batch: &mut Vec<Entry>) {
        let entries = std::mem::take(batch);
        if entries.is_empty() {
            return;
        }
        let tuples: Vec<_> = entries.iter().map(|entry| entry.tuple).collect();
        match enforcement.judge(&tuples) {
            Some(verdicts) if verdicts.len() == entries.len() => {
                self.doomed.extend(entries.into_iter().zip(verdicts).filter(|(_, judgement)| judgement.is_denied()));
            }
            _ => self.is_unanswered = true,
        }
    }
}

impl Stubborn {
    /// Notes an entry; whether there was room for it.
    fn push(&mut self, entry: Entry, now: Instant) -> bool {
        if self.entries.len() >= MOST_STUBBORN {
            return false;
        }
        if !self.entries.iter().any(|other| other.identity == entry.identity) {
            self.entries.push(entry);
        }
        let at = now + self.wait.unwrap_or(FIRST_RETRY);
        self.at = Some(self.at.map_or(at, |before| before.min(at)));
        true
    }
}

#[cfg(test)]
mod tests;
