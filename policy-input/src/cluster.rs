//! How to reach an API server, which of its objects are read, once or by watching, and which of their fields decide about traffic.
//!
//! - [`Access`]: from a kubeconfig, or the service account of a pod.
//! - [`kinds`]: one table of the kinds that are read, with the fields that decide.
//! - [`FieldMask`]: reading only the needed fields of JSON.
//! - [`read`]: everything that an answer needs, once.
//! - [`watch`]: what decides, and what changes about it.
//! - [`health`]: how current what was watched is.
//! - [`full_text`]: an error with its causes.

mod access;
mod field_mask;
pub mod health;
pub mod kinds;
mod object;
pub mod read;
pub mod watch;

pub use access::{Access, AccessError};
pub use field_mask::{FieldMask, Parser, Purpose};

/// An error with its causes, each once: errors of kube repeat some of their causes, and leave out others.
#[must_use]
pub fn full_text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::full_text;

    #[derive(Debug, thiserror::Error)]
    enum Layer {
        #[error("cannot list pods")]
        Silent(#[source] Box<Layer>),
        #[error("service error: {0}")]
        Repeats(#[source] std::io::Error),
    }

    #[test]
    fn each_cause_is_said_once() {
        let refused = std::io::Error::other("connection refused");
        let error = Layer::Silent(Box::new(Layer::Repeats(refused)));
        assert_eq!(full_text(&error), "cannot list pods: service error: connection refused");
    }
}
