//! What happens to the ruleset, as the kernel tells everybody who listens.
//!
//! Every transaction of anybody is announced: first what it changed, then the generation that it made. The monitor notes
//! which generations touched our table; the enforcer knows which of these were its own.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, NfTablesMessage, RuleAttribute, SetAttribute, SetElementList, TableAttribute,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use policy_ruleset::TABLE;

use super::netlink::{Netlink, generation_of};

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// Generations that are remembered.
const KEPT: usize = 4096;

/// What the monitor has seen.
#[derive(Default)]
struct Seen {
    /// The last generation that was announced.
    generation: Option<u32>,
    /// Recent generations that touched our table.
    touched: BTreeSet<u32>,
    /// Whether announcements were lost since somebody last asked.
    has_lost: bool,
}

/// Listens to the kernel in a thread of its own.
#[derive(Clone)]
pub struct Monitor {
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

/// What happened between two generations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Between {
    /// These generations touched our table.
    Touched(Vec<u32>),
    /// Announcements were lost, or did not come in time.
    Unknown,
}

impl Monitor {
    /// Starts to listen in the network namespace of the calling thread. `on_touch` is called for each generation that touched
    /// our table, whoever made it, and with `None` when announcements were lost.
    ///
    /// # Errors
    /// When there is no netfilter netlink, or no right to listen.
    pub fn start(on_touch: impl Fn(Option<u32>) + Send + 'static) -> io::Result<Self> {
        let mut netlink = Netlink::open()?;
        netlink.join(GROUP, Duration::from_secs(3600))?;
        let monitor = Self { seen: Arc::new((Mutex::new(Seen::default()), Condvar::new())) };
        let thread = monitor.clone();
        std::thread::Builder::new().name("monitor".to_owned()).spawn(move || thread.listen(&mut netlink, &on_touch))?;
        Ok(monitor)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self, netlink: &mut Netlink, on_touch: &impl Fn(Option<u32>)) {
        let mut is_ours = false;
        loop {
            let messages = match netlink.receive() {
                Ok(messages) => messages,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => {
                    self.lost(on_touch);
                    // ENOBUFS: more was announced than fits the buffer. Anything else would spin.
                    if error.raw_os_error() != Some(nix::errno::Errno::ENOBUFS as i32) {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    continue;
                }
            };
            for message in messages {
                let Ok(message) = message else {
                    self.lost(on_touch);
                    continue;
                };
                let NetlinkPayload::InnerMessage(inner) = message.payload else { continue };
                if let Some(generation) = generation_of(&inner) {
                    self.announce(generation, std::mem::take(&mut is_ours), on_touch);
                } else {
                    is_ours |= concerns_us(&inner);
                }
            }
        }
    }

    fn announce(&self, generation: u32, is_ours: bool, on_touch: &impl Fn(Option<u32>)) {
        let mut seen = self.lock();
        seen.generation = Some(generation);
        if is_ours {
            seen.touched.insert(generation);
            while seen.touched.len() > KEPT {
                seen.touched.pop_first();
            }
        }
        drop(seen);
        self.seen.1.notify_all();
        if is_ours {
            on_touch(Some(generation));
        }
    }

    fn lost(&self, on_touch: &impl Fn(Option<u32>)) {
        self.lock().has_lost = true;
        self.seen.1.notify_all();
        on_touch(None);
    }

    /// Which generations after `from`, up to and with `to`, touched our table. Waits for the announcement of `to`.
    #[must_use]
    pub fn between(&self, from: u32, to: u32, patience: Duration) -> Between {
        let deadline = Instant::now() + patience;
        let mut seen = self.lock();
        loop {
            if std::mem::take(&mut seen.has_lost) {
                return Between::Unknown;
            }
            // Generations are numbers that wrap around.
            let has_come = seen.generation.is_some_and(|last| last.wrapping_sub(to) < u32::MAX / 2);
            if from == to || has_come {
                let length = to.wrapping_sub(from);
                let is_between = |generation: &u32| (1..=length).contains(&generation.wrapping_sub(from));
                return Between::Touched(seen.touched.iter().copied().filter(is_between).collect());
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return Between::Unknown;
            };
            seen = self.seen.1.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Whether a message is about our table.
fn concerns_us(message: &NetfilterMessage) -> bool {
    let NetfilterMessageInner::NfTables(inner) = &message.inner else { return false };
    if message.header.family != NetfilterProtoFamily::Inet {
        return false;
    }
    let is_table = |name: &String| name == TABLE;
    match inner {
        NfTablesMessage::NewTable(m) | NfTablesMessage::DeleteTable(m) => {
            m.attributes.iter().any(|a| matches!(a, TableAttribute::Name(name) if is_table(name)))
        }
        NfTablesMessage::NewChain(m) | NfTablesMessage::DeleteChain(m) => {
            m.attributes.iter().any(|a| matches!(a, ChainAttribute::Table(name) if is_table(name)))
        }
        NfTablesMessage::NewRule(m) | NfTablesMessage::DeleteRule(m) => {
            m.attributes.iter().any(|a| matches!(a, RuleAttribute::Table(name) if is_table(name)))
        }
        NfTablesMessage::NewSet(m) | NfTablesMessage::DeleteSet(m) => {
            m.attributes.iter().any(|a| matches!(a, SetAttribute::Table(name) if is_table(name)))
        }
        NfTablesMessage::NewSetElement(m) | NfTablesMessage::DeleteSetElement(m) => {
            m.attributes.iter().any(|a| matches!(a, SetElementList::Table(name) if is_table(name)))
        }
        NfTablesMessage::NewGen(_) => false,
        // Objects and flow tables, which we have none of: somebody put one into some table, so look again.
        _ => true,
    }
}
