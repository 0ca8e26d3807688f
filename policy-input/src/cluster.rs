//! How to reach an API server, and which parts of its objects decide about network traffic.
//!
//! - [`Access`]: from a kubeconfig, or the service account of a pod.
//! - [`FieldMask`]: reading only the needed fields of JSON.
//! - [`read`]: everything that an answer needs, once.
//! - [`full_text`]: what went wrong, with what is behind it.

mod access;
pub mod read;
mod shape;

pub use access::Access;
pub use shape::FieldMask;

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
