//! The commands of `netpol`, one module each.

pub(crate) mod can;
pub(crate) mod list;
pub(crate) mod reach;
pub(crate) mod render;
pub(crate) mod snapshot;
pub(crate) mod validate;
pub(crate) mod who;
