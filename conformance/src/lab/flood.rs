//! First packets, many and all the time, while something is disturbed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::packets::{Payload, SYN, packet};
use super::{Ears, Network, send};

/// The mark of packets that may never arrive.
pub const FORBIDDEN: u32 = 1;
/// The mark of packets that may.
pub const ALLOWED: u32 = 2;

/// Sends first packets, as many as it can, until it is told to stop.
fn flood(
    network: &Network,
    source: IpAddr,
    destination: IpAddr,
    mark: u32,
    stop: &Arc<AtomicBool>,
) -> std::thread::JoinHandle<u32> {
    let stop = stop.clone();
    network.at(source).expect("placed").spawn(move || {
        let mut sent = 0;
        let mut port: u16 = 1024;
        while !stop.load(Ordering::Relaxed) {
            let burst = (0..64).map(|i| {
                port = if port == u16::MAX { 1024 } else { port + 1 };
                let payload = if i % 2 == 0 { Payload::Udp(80) } else { Payload::Tcp { port: 80, flags: SYN } };
                (destination, packet(source, port, destination, payload, mark))
            });
            send(burst.collect());
            sent += 64;
        }
        sent
    })
}

/// Hears the marks of what arrives at an address, until it is told to stop.
///
/// # Panics
/// When the address is nowhere in the network.
#[must_use]
pub fn listen(network: &Network, at: IpAddr, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<BTreeSet<u32>> {
    let mut ears = network.at(at).expect("placed").run(Ears::open);
    let listening = stop.clone();
    std::thread::spawn(move || {
        let mut heard = BTreeSet::new();
        while !listening.load(Ordering::Relaxed) {
            ears.wait();
            heard.extend(ears.hear());
        }
        std::thread::sleep(Duration::from_millis(50));
        heard.extend(ears.hear());
        heard
    })
}

/// Listens at the first address while `disturb` runs under a flood of forbidden packets from the second and of allowed ones from
/// the third. Returns the marks that were heard.
///
/// # Panics
/// When an address is nowhere in the network, or hardly anything could be sent.
pub fn under_flood(network: &Network, [victim, forbidden, allowed]: [&str; 3], mut disturb: impl FnMut()) -> BTreeSet<u32> {
    let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let (victim, forbidden, allowed) = (ip(victim), ip(forbidden), ip(allowed));
    let stop = Arc::new(AtomicBool::new(false));
    let listener = listen(network, victim, &stop);
    let floods = [flood(network, forbidden, victim, FORBIDDEN, &stop), flood(network, allowed, victim, ALLOWED, &stop)];
    disturb();
    stop.store(true, Ordering::Relaxed);
    for flood in floods {
        assert!(flood.join().expect("it ends") > 500, "hardly anything was sent");
    }
    listener.join().expect("it ends")
}
