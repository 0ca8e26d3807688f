//! First packets, one every few milliseconds, by which is seen since when a pod is closed.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::packets::{Payload, packet};
use super::{Ears, Network, send};

/// Between two packets.
const PACE: Duration = Duration::from_millis(4);

/// Datagrams from one address to another, each the first of a flow of its own. Marks are the milliseconds since its start at
/// which a packet was sent, so it does not matter how late one is heard.
pub struct Trickle {
    zero: Instant,
    /// When the last packet that arrived was sent.
    last: Arc<AtomicU32>,
    /// When the last packet was sent.
    sent: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

fn millis(zero: Instant) -> u32 {
    u32::try_from(zero.elapsed().as_millis()).unwrap_or(u32::MAX)
}

impl Trickle {
    /// Starts to send to a port, and to listen.
    ///
    /// # Panics
    /// When an address is nowhere in the network.
    #[must_use]
    pub fn start(network: &Network, from: IpAddr, to: IpAddr, port: u16) -> Self {
        Self::paced(network, (from, None), to, port, PACE)
    }

    /// The same, as one flow: every packet has this source port.
    ///
    /// # Panics
    /// When an address is nowhere in the network.
    #[must_use]
    pub fn of_one_flow(network: &Network, (from, source_port): (IpAddr, u16), to: IpAddr, port: u16) -> Self {
        Self::paced(network, (from, Some(source_port)), to, port, Duration::from_millis(1))
    }

    fn paced(network: &Network, (from, fixed): (IpAddr, Option<u16>), to: IpAddr, port: u16, pace: Duration) -> Self {
        let (zero, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let (last, sent) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let mut ears = network.at(to).expect("placed").run(Ears::open);
        let (heard, over) = (last.clone(), stop.clone());
        let listener = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                ears.wait();
                if let Some(newest) = ears.hear().last() {
                    heard.fetch_max(*newest, Ordering::Relaxed);
                }
            }
        });
        let (over, done) = (stop.clone(), sent.clone());
        let sender = network.at(from).expect("placed").spawn(move || {
            let mut next: u16 = 1024;
            while !over.load(Ordering::Relaxed) {
                next = if next == u16::MAX { 1024 } else { next + 1 };
                let now = millis(zero);
                send(vec![(to, packet(from, fixed.unwrap_or(next), to, Payload::Udp(port), now))]);
                done.store(now, Ordering::Relaxed);
                std::thread::sleep(pace);
            }
        });
        Self { zero, last, sent, stop, threads: vec![listener, sender] }
    }

    /// The time by which its packets are marked.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.zero.elapsed()
    }

    /// When the last packet that arrived was sent.
    #[must_use]
    pub fn last(&self) -> Duration {
        Duration::from_millis(self.last.load(Ordering::Relaxed).into())
    }

    /// Waits until packets arrive that were sent from now on; whether they do.
    #[must_use]
    pub fn arrives(&self, patience: Duration) -> bool {
        let start = self.now();
        while self.last() <= start {
            if self.now() > start + patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Waits until packets were sent for `quiet` of which none arrived, and returns when the last one was sent that did; `None`
    /// when packets still arrive after all patience.
    #[must_use]
    pub fn ends(&self, quiet: Duration, patience: Duration) -> Option<Duration> {
        let sent = || Duration::from_millis(self.sent.load(Ordering::Relaxed).into());
        let start = self.now();
        while sent() < self.last().max(start) + quiet {
            if self.now() > start + patience + quiet {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(self.last())
    }
}

impl Drop for Trickle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
