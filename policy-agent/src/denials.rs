//! Denied packets: samples from the kernel, and why they were denied.
//!
//! - `explain`: the kernel's objects and decisions in the words of Kubernetes.
//! - `nflog`: the reader of samples.

pub mod explain;
pub mod nflog;
