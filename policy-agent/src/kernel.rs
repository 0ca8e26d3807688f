//! The kernel's table: applying transactions, and detecting changes by other programs.
//!
//! - `netlink`: the socket.
//! - `applier`: the two ways to apply a transaction.
//! - `monitor`: what others do to the ruleset.
//! - `reader`: what is in our table: whose it is, and its counters.
//! - `fake`: a kernel for tests, with nf_tables' own rules about references.

pub mod applier;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
pub mod monitor;
pub(crate) mod netlink;
pub mod reader;

use std::io;
use std::time::Duration;

use monitor::{Between, Monitor};
use reader::Reader;

/// The second table that netpol may make (S6.2); it is there only for a moment.
pub const GUARD: &str = "netpol-guard";

/// How long the kernel's announcements may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a packet that is in the middle of the rules on another CPU may take to leave them: much less.
const PASSAGE: Duration = Duration::from_millis(50);

/// Queries about the state of the kernel. None of the answers decides what the table should be.
pub trait Kernel: Send {
    /// The generation of the ruleset: it moves with every transaction of anybody.
    ///
    /// # Errors
    /// If the kernel does not answer.
    fn generation(&mut self) -> io::Result<u32>;

    /// Whether our table is there.
    ///
    /// # Errors
    /// If the kernel does not answer.
    fn is_present(&mut self) -> io::Result<bool>;

    /// Whether the guard is there.
    ///
    /// # Errors
    /// If the kernel does not answer.
    fn is_guard_present(&mut self) -> io::Result<bool>;

    /// Whether there are rules of ours in our table.
    ///
    /// # Errors
    /// If the kernel does not answer.
    fn has_rules(&mut self) -> io::Result<bool>;

    /// Whether there is something in our table of a kind that netpol does not make.
    ///
    /// # Errors
    /// If the kernel does not answer.
    fn has_strangers(&mut self) -> io::Result<bool>;

    /// The names of the chains in our table.
    ///
    /// # Errors
    /// If the kernel does not answer.
    fn chains(&mut self) -> io::Result<Vec<String>>;

    /// The names of the sets in our table, but for those that rules hold within.
    ///
    /// # Errors
    /// If the kernel does not answer.
    fn sets(&mut self) -> io::Result<Vec<String>>;

    /// Which generations after `from`, up to and with `to`, touched our table.
    fn between(&mut self, from: u32, to: u32) -> Between;

    /// Waits until packets that met a table before the last transaction have left it.
    fn let_packets_leave(&mut self);
}

/// The kernel of this network namespace.
pub struct RealKernel {
    reader: Reader,
    monitor: Monitor,
}

impl RealKernel {
    /// A kernel that is read, and listened to.
    #[must_use]
    pub fn new(reader: Reader, monitor: Monitor) -> Self {
        Self { reader, monitor }
    }
}

impl Kernel for RealKernel {
    fn generation(&mut self) -> io::Result<u32> {
        self.reader.generation()
    }

    fn is_present(&mut self) -> io::Result<bool> {
        self.reader.is_present()
    }

    fn is_guard_present(&mut self) -> io::Result<bool> {
        self.reader.is_guard_present()
    }

    fn has_rules(&mut self) -> io::Result<bool> {
        self.reader.has_rules()
    }

    fn has_strangers(&mut self) -> io::Result<bool> {
        self.reader.has_strangers()
    }

    fn chains(&mut self) -> io::Result<Vec<String>> {
        self.reader.chains()
    }

    fn sets(&mut self) -> io::Result<Vec<String>> {
        self.reader.sets()
    }

    fn between(&mut self, from: u32, to: u32) -> Between {
        self.monitor.between(from, to, PATIENCE)
    }

    fn let_packets_leave(&mut self) {
        std::thread::sleep(PASSAGE);
    }
}
