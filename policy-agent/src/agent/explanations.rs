//! Explanations of denied packets, within a budget.
//!
//! An explanation costs what the policies of the pod cost, and those are a tenant's. So explanations get a hundredth of the loop's
//! time, whatever the size of the policies. A packet that would have to wait longer than a moment is reported with its pods and
//! policies, and without the nearest miss. What was explained once is not explained again while nothing changes. A packet of a chain
//! that has been replaced since is reported with the policies of that chain.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy_core::graph::AllowGraph;
use policy_ruleset::{GroupDescription, Ruleset};

use super::Clock;
use crate::denials::explain::{self, Denial};
use crate::denials::nflog::Sample;

/// The loop's time over the time for explanations.
const SHARE: f64 = 100.0;
/// Seconds that explanations may take in a row, when there were none for a while.
const CREDIT: f64 = 0.02;
/// Explanations that are kept.
const KEPT: usize = 64;
/// Samples that may wait for an explanation.
const MOST_WAITING: usize = 64;
/// How long chains are remembered that were removed, and how many of them: samples of them wait in queues.
const REMEMBERED: Duration = Duration::from_secs(30);
const MOST_REMEMBERED: usize = 4096;
/// How long a sample waits for an explanation that is affordable.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Explanations {
    /// What was explained since the last flush, oldest first.
    kept: VecDeque<(Sample, Denial)>,
    waiting: VecDeque<(Instant, Sample)>,
    /// What the chains of groups stand for, and since when those are gone that are.
    chains: BTreeMap<String, (Arc<GroupDescription>, Option<Instant>)>,
    /// Seconds that may be spent; below zero after an expensive explanation.
    credit: f64,
    since: Instant,
}

impl Explanations {
    pub(super) fn new(now: Instant) -> Self {
        let (kept, waiting, chains) = Default::default();
        Self { kept, waiting, chains, credit: CREDIT, since: now }
    }

    /// What was explained may be different now.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
    }

    /// This ruleset is in force.
    pub(super) fn see(&mut self, ruleset: &Ruleset, now: Instant) {
        let is_kept = |(_, gone): &(_, Option<Instant>)| gone.is_none_or(|at| now.saturating_duration_since(at) < REMEMBERED);
        self.chains.retain(|name, chain| {
            if !ruleset.chains.contains_key(name) {
                chain.1.get_or_insert(now);
            }
            is_kept(chain)
        });
        if self.chains.len() > ruleset.chains.len() + MOST_REMEMBERED {
            self.chains.retain(|_, (_, gone)| gone.is_none());
        }
        for name in ruleset.chains.keys() {
            let group = ruleset.descriptions.get(name).and_then(|description| description.group.clone());
            if let Some(group) = group {
                self.chains.insert(name.clone(), (group, None));
            }
        }
    }

    /// A sample that is to be explained. False when too many wait already.
    pub(super) fn add(&mut self, sample: Sample, now: Instant) -> bool {
        let has_room = self.waiting.len() < MOST_WAITING;
        if has_room {
            self.waiting.push_back((now, sample));
        }
        has_room
    }

    /// When the next sample can be reported; `None` while none waits.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let (since, _) = self.waiting.front()?;
        let until_credit = Duration::try_from_secs_f64(-self.credit * SHARE).unwrap_or_default();
        Some((self.since + until_credit).min(*since + PATIENCE))
    }

    /// The next explanation that can be made now; the graph must be consistent.
    pub(super) fn next(&mut self, graph: &AllowGraph, ruleset: &Ruleset, clock: &Clock) -> Option<Denial> {
        let start = clock();
        self.credit = (self.credit + start.saturating_duration_since(self.since).as_secs_f64() / SHARE).min(CREDIT);
        self.since = start;
        let is_affordable = self.credit >= 0.0;
        self.waiting.front().filter(|(since, _)| is_affordable || start >= *since + PATIENCE)?;
        let (_, sample) = self.waiting.pop_front()?;
        if let Some((_, denial)) = self.kept.iter().find(|(kept, _)| *kept == sample) {
            return Some(denial.clone());
        }
        let group = ruleset.descriptions.get(&sample.chain).and_then(|description| description.group.as_deref());
        if let (None, Some((replaced, _))) = (group, self.chains.get(&sample.chain)) {
            return Some(explain::denied_briefly(graph, Some(replaced), &sample, explain::REPLACED));
        }
        if !is_affordable {
            return Some(explain::denied_briefly(graph, group, &sample, explain::UNAFFORDABLE));
        }
        let denial = explain::denied(graph, group, &sample);
        self.credit -= clock().saturating_duration_since(start).as_secs_f64();
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((sample, denial.clone()));
        Some(denial)
    }
}
