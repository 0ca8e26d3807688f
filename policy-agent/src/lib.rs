//! Keeps the kernel of one node true to the allow graph.
//!
//! - `kernel`: the table in the kernel, and the ways to change it.

pub mod kernel;
