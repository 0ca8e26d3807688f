//! The kernel's table: putting transactions in force, and noticing when somebody else changes it.
//!
//! - `encode`: transactions as netlink batches; pure.
//! - `netlink`: the socket.
//! - `doors`: the two ways to apply a transaction.
//! - `monitor`: what others do to the ruleset.
//! - `table`: what is in our table: whose it is, and its counters.
//! - `fake`: a kernel for unit tests, with nf_tables' own rules about references.

pub mod doors;
pub mod encode;
#[cfg(test)]
mod fake;
pub mod monitor;
pub(crate) mod netlink;
pub mod table;
