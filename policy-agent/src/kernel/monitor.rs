//! Changes of the ruleset, from the notifications of the kernel.
//!
//! Every transaction of anybody is announced: first what it changed, then the generation that it made. The monitor notes
//! which generations touched our table; the enforcer knows which of these were its own.

pub(crate) mod announcements;

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use announcements::Announcements;

use super::netlink::{Netlink, Wait};

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;

/// Listens to the kernel in a thread of its own.
#[derive(Clone)]
pub struct Monitor {
    seen: Arc<(Mutex<Announcements>, Condvar)>,
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
        let monitor = Self { seen: Arc::new((Mutex::new(Announcements::default()), Condvar::new())) };
        let thread = monitor.clone();
        std::thread::Builder::new().name("monitor".to_owned()).spawn(move || thread.listen(&mut netlink, &on_touch))?;
        Ok(monitor)
    }

    fn lock(&self) -> MutexGuard<'_, Announcements> {
        self.seen.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self, netlink: &mut Netlink, on_touch: &impl Fn(Option<u32>)) {
        let mut wait = Wait::Patiently;
        loop {
            let received = netlink.receive_bytes(wait);
            // What is reported is handed over without the lock.
            let mut reports = Vec::new();
            let mut seen = self.lock();
            let mut report = |generation| reports.push(generation);
            let mut must_pause = false;
            match received {
                Ok(datagram) => seen.take(datagram, &mut report),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => seen.emptied(&mut report),
                Err(error) => {
                    seen.overflow(&mut report);
                    // ENOBUFS: more was announced than fits the buffer. Anything else would spin.
                    must_pause = error.raw_os_error() != Some(nix::errno::Errno::ENOBUFS as i32);
                }
            }
            wait = if seen.is_overflown() { Wait::Not } else { Wait::Patiently };
            drop(seen);
            self.seen.1.notify_all();
            reports.into_iter().for_each(on_touch);
            if must_pause {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// Which generations after `from`, up to and with `to`, touched our table. Waits for the announcement of `to`.
    #[must_use]
    pub fn between(&self, from: u32, to: u32, patience: Duration) -> Between {
        let deadline = Instant::now() + patience;
        let mut seen = self.lock();
        loop {
            if let Some(between) = seen.between(from, to) {
                return between;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return Between::Unknown;
            };
            seen = self.seen.1.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
