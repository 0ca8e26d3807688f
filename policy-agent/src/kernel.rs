//! The kernel's table: putting transactions in force, and noticing when somebody else changes it.
//!
//! - `encode`: transactions as netlink batches; pure.
//! - `netlink`: the socket.
//! - `doors`: the two ways to apply a transaction.
//! - `monitor`: what others do to the ruleset.
//! - `table`: what is in our table: whose it is, and its counters.
//! - `fake`: a kernel for tests, with nf_tables' own rules about references.

pub mod doors;
pub mod encode;
pub mod fake;
pub mod monitor;
pub(crate) mod netlink;
pub mod table;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use monitor::{Between, Monitor};
use table::Reader;

/// How long the kernel's announcements may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the kernel tells about itself. Nothing of it decides what the table should be.
pub trait Kernel: Send {
    /// The generation of the ruleset: it moves with every transaction of anybody.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn generation(&mut self) -> io::Result<u32>;

    /// Whether our table is there.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn is_present(&mut self) -> io::Result<bool>;

    /// The names of the chains in our table.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn chains(&mut self) -> io::Result<Vec<String>>;

    /// The names of the sets in our table, but for those that rules hold within.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn sets(&mut self) -> io::Result<Vec<String>>;

    /// Packets counted in each chain of our table, since the chain was last replaced.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn packets(&mut self) -> io::Result<BTreeMap<String, u64>>;

    /// Elements in the named sets of our table; `None` when the kernel does not count them.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn elements(&mut self) -> io::Result<Option<u64>>;

    /// Which generations after `from`, up to and with `to`, touched our table.
    fn between(&mut self, from: u32, to: u32) -> Between;
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

    fn chains(&mut self) -> io::Result<Vec<String>> {
        self.reader.chains()
    }

    fn sets(&mut self) -> io::Result<Vec<String>> {
        self.reader.sets()
    }

    fn packets(&mut self) -> io::Result<BTreeMap<String, u64>> {
        self.reader.packets()
    }

    fn elements(&mut self) -> io::Result<Option<u64>> {
        self.reader.elements()
    }

    fn between(&mut self, from: u32, to: u32) -> Between {
        self.monitor.between(from, to, PATIENCE)
    }
}
