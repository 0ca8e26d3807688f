//! Requests of the CNI plugin, and the ADDs that wait.
//!
//! An ADD is answered when its pod is isolated: first the kernel has the rules, then no tracked connection is left that an earlier
//! owner of the addresses opened and the rules forbid (S3.9, S3.11). An ADD that waits too long is refused, and the runtime tries
//! again.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use netpol_cni::protocol::{Answer, Task, code};

use super::Agent;
use super::queue::Asker;
use crate::connections::{LookError, LookResult, Order, Scope};

/// The plugin waits for ten seconds; its refusal must reach it before.
const PATIENCE: Duration = Duration::from_secs(8);

/// What an ADD waits for.
enum Stage {
    /// The rules, for these addresses.
    Rules(BTreeSet<IpAddr>),
    /// The look at the connections of its addresses.
    Connections,
}

struct Waiting {
    token: u64,
    stage: Stage,
    asker: Asker,
    deadline: Instant,
}

impl Waiting {
    /// The runtime tries again.
    fn refuse(self, why: &Delayed) {
        self.asker.answer(Answer::refused(code::TRY_AGAIN, why.to_string()));
    }
}

/// Why a pod cannot start yet.
#[derive(Debug, thiserror::Error)]
enum Delayed {
    #[error("{0}")]
    Rules(String),
    #[error("connections cannot be checked")]
    NoLook,
    #[error("connections of an earlier pod at the address are left: {0}")]
    Connections(Arc<LookError>),
    #[error("the rules and the connections of the pod were not ready in time")]
    Late,
}

/// ADDs that wait, oldest first.
#[derive(Default)]
pub(super) struct Plugins {
    waiting: Vec<Waiting>,
    last_token: u64,
}

impl Plugins {
    /// An ADD whose changes have been taken, and are not in force yet.
    pub(super) fn wait(&mut self, addresses: BTreeSet<IpAddr>, asker: Asker, now: Instant) {
        self.last_token += 1;
        self.waiting.push(Waiting { token: self.last_token, stage: Stage::Rules(addresses), asker, deadline: now + PATIENCE });
    }

    /// The rules are in force: the connections are looked at next.
    pub(super) fn in_force(&mut self, orders: &Sender<Order>) {
        let refused = self.waiting.extract_if(.., |waiting| {
            let Stage::Rules(addresses) = &mut waiting.stage else { return false };
            let scope = Scope::Addresses(std::mem::take(addresses));
            waiting.stage = Stage::Connections;
            orders.send(Order { scope, token: Some(waiting.token), has_gains: false }).is_err()
        });
        refused.for_each(|waiting| waiting.refuse(&Delayed::NoLook));
    }

    /// The rules are not in force, and why.
    pub(super) fn not_in_force(&mut self, why: &str) {
        let delayed = Delayed::Rules(why.to_owned());
        let is_refused = |waiting: &mut Waiting| matches!(waiting.stage, Stage::Rules(_));
        self.waiting.extract_if(.., is_refused).for_each(|waiting| waiting.refuse(&delayed));
    }

    /// The connections of an ADD have been looked at.
    pub(super) fn looked(&mut self, token: u64, result: LookResult) {
        let Some(place) = self.waiting.iter().position(|waiting| waiting.token == token) else { return };
        let waiting = self.waiting.remove(place);
        match result {
            Ok(()) => waiting.asker.answer(Answer::done()),
            Err(error) => waiting.refuse(&Delayed::Connections(error)),
        }
    }

    /// Refuses those that have waited too long.
    pub(super) fn expire(&mut self, now: Instant) {
        for waiting in self.waiting.extract_if(.., |waiting| now >= waiting.deadline) {
            waiting.refuse(&Delayed::Late);
        }
    }

    /// When the next of them has waited too long.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.deadline).min()
    }
}

impl Agent {
    /// Does what the plugin asks; whether that makes a flush necessary.
    pub(super) fn handle_sandbox(&mut self, task: Task, asker: Asker) -> bool {
        let is_ready = self.is_in_force && self.enforcer.generation().is_some();
        let (reply, changes) = match task {
            Task::Add(sandbox) if !asker.is_there() => {
                tracing::info!(attachment = %sandbox.attachment, "the CNI plugin no longer waits for the answer to its ADD; dropping it");
                return false;
            }
            // Nothing is known yet, or nothing can be put in force: the runtime tries again.
            Task::Add(_) if !is_ready => (Answer::refused(code::TRY_AGAIN, self.not_ready().to_string()), Vec::new()),
            Task::Add(sandbox) => {
                let addresses: BTreeSet<_> = sandbox.addresses.iter().copied().collect();
                match self.sandboxes.add(sandbox) {
                    Ok(changes) => {
                        self.plugins.wait(addresses, asker, (self.clock)());
                        self.is_behind = true;
                        self.enforcer.take(changes);
                        self.enforcer.hear_of_interfaces(self.sandboxes.interfaces());
                        return true;
                    }
                    Err(error) => (Answer::refused(error.code(), error.to_string()), Vec::new()),
                }
            }
            Task::Del(attachment) => (Answer::done(), self.sandboxes.remove(&attachment)),
            Task::Gc(listed) => (Answer::done(), self.sandboxes.keep(&listed)),
            Task::Check(attachment) if is_ready && self.sandboxes.contains(&attachment) => (Answer::done(), Vec::new()),
            Task::Check(attachment) => (Answer::refused(code::RULES_MISSING, format!("{attachment} has no rules")), Vec::new()),
            Task::Status if is_ready => (Answer::done(), Vec::new()),
            Task::Status => (Answer::refused(code::NOT_AVAILABLE, self.not_ready().to_string()), Vec::new()),
        };
        asker.answer(reply);
        let must_flush = !changes.is_empty();
        self.is_behind |= must_flush;
        self.enforcer.take(changes);
        self.enforcer.hear_of_interfaces(self.sandboxes.interfaces());
        must_flush
    }

    /// Answers plugins whose pods are isolated: the kernel has their rules, and no old connection of their addresses is left.
    pub(super) fn answer_plugins(&mut self) {
        if !self.is_behind && self.enforcer.generation().is_some() {
            self.plugins.in_force(&self.orders);
        } else {
            let why = self.errors.back().map_or("the kernel does not have the rules", |(_, error)| error.as_str());
            self.plugins.not_in_force(why);
        }
        self.plugins.expire((self.clock)());
    }
}
