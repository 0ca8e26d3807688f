//! ADDs of the CNI plugin that wait.
//!
//! An ADD is answered when its pod is isolated: first the kernel has the rules, then no tracked connection is left that an earlier
//! owner of the addresses opened and the rules forbid (S3.9, S3.11). An ADD that waits too long is refused, and the runtime tries
//! again.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use netpol_cni::protocol::{Answer, code};

use super::queue::Asker;
use crate::connections::{Order, Scope};

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

    /// The rules are in force, or why they are not.
    pub(super) fn flushed(&mut self, result: Result<(), &str>, orders: &Sender<Order>) {
        let refused = self.waiting.extract_if(.., |waiting| {
            let Stage::Rules(addresses) = &mut waiting.stage else { return false };
            if result.is_err() {
                return true;
            }
            let scope = Scope::Addresses(std::mem::take(addresses));
            waiting.stage = Stage::Connections;
            orders.send(Order { scope, token: Some(waiting.token), has_gains: false }).is_err()
        });
        let why = result.err().unwrap_or("connections cannot be checked");
        refused.for_each(|waiting| waiting.asker.answer(Answer::refused(code::TRY_AGAIN, why)));
    }

    /// The connections of an ADD have been looked at.
    pub(super) fn looked(&mut self, token: u64, result: Result<(), String>) {
        let Some(place) = self.waiting.iter().position(|waiting| waiting.token == token) else { return };
        self.waiting.remove(place).asker.answer(match result {
            Ok(()) => Answer::done(),
            Err(error) => {
                Answer::refused(code::TRY_AGAIN, format!("connections of an earlier pod at the address are left: {error}"))
            }
        });
    }

    /// Refuses those that have waited too long.
    pub(super) fn expire(&mut self, now: Instant) {
        for waiting in self.waiting.extract_if(.., |waiting| now >= waiting.deadline) {
            waiting.asker.answer(Answer::refused(code::TRY_AGAIN, "the rules or the connections of the pod took too long"));
        }
    }

    /// When the next of them has waited too long.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.deadline).min()
    }
}
