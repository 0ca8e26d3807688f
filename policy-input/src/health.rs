//! How current what a source has read is.

use std::time::Duration;

/// How current what is known of one kind of objects is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KindHealth {
    /// The kind, in the plural: `pods`.
    pub kind: &'static str,
    /// Time since a stale watch last received data; `None` if it is current.
    pub stale_for: Option<Duration>,
    /// The last failure, while it lasts.
    pub trouble: Option<String>,
    /// Why the API server does not serve an optional kind, while it does not.
    pub unavailable: Option<String>,
}
