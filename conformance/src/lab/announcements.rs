//! When the kernel announces that an address comes into its ruleset, or goes: the end of what an agent is measured by.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::Namespace;

const NFNLGRP_NFTABLES: u32 = 7;
/// Announcements that wait to be read.
const BUFFER: usize = 64 << 20;

#[derive(Default)]
struct State {
    /// Addresses whose change is under way, and since when.
    waiting: HashMap<[u8; 4], Instant>,
    times: Vec<Duration>,
}

/// A listener in a namespace.
pub struct Announcements(Arc<Mutex<State>>);

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nobody panics with it")
}

impl Announcements {
    /// Starts to listen.
    ///
    /// # Panics
    /// Without root.
    #[must_use]
    pub fn start(node: &Namespace) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let socket = node.run(|| {
            let mut socket = Socket::new(NETLINK_NETFILTER).expect("a socket");
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &BUFFER).expect("root may set buffers");
            socket.bind(&SocketAddr::new(0, 0)).expect("bound");
            socket.add_membership(NFNLGRP_NFTABLES).expect("root may listen");
            socket
        });
        std::thread::spawn(move || {
            let mut buffer = Vec::with_capacity(1 << 16);
            loop {
                buffer.clear();
                // What was lost is not counted as having come.
                if socket.recv_from(&mut buffer, 0).is_err() {
                    continue;
                }
                let now = Instant::now();
                let mut state = lock(&shared);
                for window in buffer.windows(4) {
                    let key: [u8; 4] = window.try_into().expect("four");
                    if let Some(since) = state.waiting.remove(&key) {
                        state.times.push(now.saturating_duration_since(since));
                    }
                }
            }
        });
        Self(state)
    }

    /// From now on an address is waited for.
    pub fn expect(&self, address: Ipv4Addr) {
        lock(&self.0).waiting.insert(address.octets(), Instant::now());
    }

    /// How long each took that has come since this was last asked, in milliseconds; what has not come is waited for no more.
    #[must_use]
    pub fn times(&self) -> Vec<f64> {
        let mut state = lock(&self.0);
        state.waiting.clear();
        std::mem::take(&mut state.times).iter().map(|time| time.as_secs_f64() * 1e3).collect()
    }
}
