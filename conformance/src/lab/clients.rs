//! Many HTTP clients at once: those that ask as fast as they can, and those that only hold connections.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Socket, Type};

use super::Namespace;

/// What each client does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// Keeps so many questions under way, and comes back when its connection is closed.
    Busy(usize),
    /// Connects, and says nothing.
    Idle,
    /// Asks once, and keeps the connection.
    Kept,
    /// Sends a question that never ends, a byte now and then.
    Slow,
}

/// Between two bytes of a slow client.
const DRIP: Duration = Duration::from_millis(250);
/// A client that cannot connect waits this long.
const PAUSE: Duration = Duration::from_millis(50);

/// What has happened so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Connections that are open.
    pub open: usize,
    /// Connections that the server has ended.
    pub closed: usize,
    /// Answers with status 200.
    pub good: usize,
    /// Other answers.
    pub other: usize,
}

#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    closed: AtomicUsize,
    good: AtomicUsize,
    other: AtomicUsize,
}

/// Clients of one path, in one thread. They end when this goes.
pub struct Clients {
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// One client.
struct Client {
    /// `None` while it waits to connect again.
    socket: Option<Socket>,
    is_connected: bool,
    /// A connection of it has ended before.
    has_ended: bool,
    to_send: Vec<u8>,
    /// The end of what was read, in which an answer may begin.
    seen: Vec<u8>,
    next: Instant,
}

impl Clients {
    /// Starts `count` clients of `http://address/path` in a namespace.
    ///
    /// # Panics
    /// When there are no sockets left.
    #[must_use]
    pub fn start(namespace: &Namespace, address: SocketAddr, path: &str, count: usize, manner: Manner) -> Self {
        let me = std::process::id().to_string();
        let raised = Command::new("prlimit").args(["--pid", &me, "--nofile=16384:"]).status();
        assert!(raised.is_ok_and(|status| status.success()), "prlimit gives this process no more descriptors");
        let (counts, stop) = (Arc::new(Counts::default()), Arc::new(AtomicBool::new(false)));
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
        let (shared, over) = (counts.clone(), stop.clone());
        let thread = namespace.spawn(move || {
            let mut clients: Vec<Client> = (0..count).map(|_| Client::new()).collect();
            while !over.load(Ordering::Relaxed) {
                turn(&mut clients, address, &request, manner, &shared);
            }
        });
        Self { counts, stop, thread: Some(thread) }
    }

    /// What has happened so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let Counts { open, closed, good, other } = &*self.counts;
        Tally { open: read(open), closed: read(closed), good: read(good), other: read(other) }
    }

    /// Waits until what has happened is as wanted; whether it came to that.
    #[must_use]
    pub fn wait(&self, patience: Duration, wanted: impl Fn(Tally) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        while !wanted(self.tally()) {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Client {
    fn new() -> Self {
        Self { socket: None, is_connected: false, has_ended: false, to_send: Vec::new(), seen: Vec::new(), next: Instant::now() }
    }

    fn connect(&mut self, address: SocketAddr, request: &[u8], manner: Manner) {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.set_nonblocking(true).expect("any socket can");
        // What became of it is seen when it can be written to.
        let _ = socket.connect(&address.into());
        self.to_send = match manner {
            Manner::Busy(under_way) => request.repeat(under_way),
            Manner::Kept => request.to_vec(),
            Manner::Slow => request.get(..request.len() - 2).unwrap_or_default().to_vec(),
            Manner::Idle => Vec::new(),
        };
        (self.socket, self.is_connected, self.seen) = (Some(socket), false, Vec::new());
    }

    /// The connection is over.
    fn close(&mut self, counts: &Counts) {
        (self.socket, self.has_ended) = (None, true);
        let was_connected = std::mem::take(&mut self.is_connected);
        self.next = Instant::now() + if was_connected { Duration::ZERO } else { PAUSE };
        if was_connected {
            counts.open.fetch_sub(1, Ordering::Relaxed);
            counts.closed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write(&mut self, counts: &Counts) {
        let Some(socket) = &mut self.socket else { return };
        if !self.is_connected {
            match socket.take_error() {
                Ok(None) if socket.peer_addr().is_ok() => {
                    self.is_connected = true;
                    counts.open.fetch_add(1, Ordering::Relaxed);
                }
                _ => return self.close(counts),
            }
        }
        match socket.write(&self.to_send) {
            Ok(written) => drop(self.to_send.drain(..written)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.close(counts),
        }
    }

    /// Reads what has come, and asks again for each answer when it is busy.
    fn read(&mut self, request: &[u8], manner: Manner, counts: &Counts) {
        const START: &[u8] = b"HTTP/1.1 ";
        let mut buffer = [0; 1 << 16];
        let Some(socket) = &mut self.socket else { return };
        match socket.read(&mut buffer) {
            Ok(0) => self.close(counts),
            Ok(length) => {
                self.seen.extend(buffer.get(..length).unwrap_or_default());
                let all = std::mem::take(&mut self.seen);
                let whole = all.windows(START.len() + 3).filter(|window| window.starts_with(START));
                for status in whole.map(|window| &window[START.len()..]) {
                    let count = if status == b"200" { &counts.good } else { &counts.other };
                    count.fetch_add(1, Ordering::Relaxed);
                    if matches!(manner, Manner::Busy(_)) {
                        self.to_send.extend(request);
                    }
                }
                let kept = all.len().saturating_sub(START.len() + 2);
                self.seen = all.get(kept..).unwrap_or_default().to_vec();
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.close(counts),
        }
    }
}

/// Every client does what it can do at the moment.
fn turn(clients: &mut [Client], address: SocketAddr, request: &[u8], manner: Manner, counts: &Counts) {
    let now = Instant::now();
    for client in clients.iter_mut() {
        // Only the busy come back.
        let may_connect = !client.has_ended || matches!(manner, Manner::Busy(_));
        if client.socket.is_none() && may_connect && now >= client.next {
            client.connect(address, request, manner);
        }
        if manner == Manner::Slow && client.is_connected && now >= client.next {
            client.next = now + DRIP;
            client.to_send.push(b'x');
        }
    }
    let wanted = |client: &Client| {
        let write = if client.to_send.is_empty() && client.is_connected { PollFlags::empty() } else { PollFlags::POLLOUT };
        PollFlags::POLLIN | write
    };
    let ready: Vec<PollFlags> = {
        let mut open: Vec<PollFd<'_>> =
            clients.iter().filter_map(|client| Some(PollFd::new(client.socket.as_ref()?.as_fd(), wanted(client)))).collect();
        // Interrupted, or nothing came: the next turn will see.
        let _ = poll(&mut open, PollTimeout::from(10_u8));
        open.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect()
    };
    if ready.is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    for (client, events) in clients.iter_mut().filter(|client| client.socket.is_some()).zip(ready) {
        if events.contains(PollFlags::POLLOUT) || events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP) {
            client.write(counts);
        }
        if events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP) {
            client.read(request, manner, counts);
        }
    }
}
