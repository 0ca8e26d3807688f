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
    let mut text = String::new();
    for cause in std::iter::successors(Some(error), |cause| cause.source()) {
        let whole = cause.to_string();
        let response = response(cause);
        let said = match &response {
            Some(said) => {
                text = text.replace(&whole, said);
                said
            }
            None => &whole,
        };
        if text.is_empty() {
            text.clone_from(said);
        } else if !text.contains(said) {
            text = format!("{text}: {said}");
        }
        if response.is_some() {
            break;
        }
    }
    text
}

/// What an API server responded; `None` for other errors. The text of kube has all fields of the response in the form for debugging.
fn response(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let boxed = || error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
    let Some(kube::Error::Api(status)) = error.downcast_ref::<kube::Error>().or_else(boxed) else { return None };
    let said = [&status.message, &status.reason].into_iter().find(|said| !said.is_empty());
    Some(said.cloned().unwrap_or_else(|| format!("HTTP status {}", status.code)))
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

    #[derive(Debug, thiserror::Error)]
    enum Request {
        #[error("cannot list {0}")]
        Failed(&'static str, #[source] Box<kube::Error>),
        #[error("watch stream failed: {0}")]
        Stream(#[source] kube::Error),
    }

    #[test]
    fn a_response_is_its_message() {
        let forbidden = || {
            let text = r#"{"status": "Failure", "message": "pods is forbidden", "reason": "Forbidden", "code": 403}"#;
            kube::Error::Api(serde_json::from_str(text).unwrap())
        };
        assert_eq!(full_text(&forbidden()), "pods is forbidden");
        assert_eq!(full_text(&Request::Failed("pods", Box::new(forbidden()))), "cannot list pods: pods is forbidden");
        assert_eq!(full_text(&Request::Stream(forbidden())), "watch stream failed: pods is forbidden");
    }

    #[test]
    fn each_cause_is_said_once() {
        let refused = std::io::Error::other("connection refused");
        let error = Layer::Silent(Box::new(Layer::Repeats(refused)));
        assert_eq!(full_text(&error), "cannot list pods: service error: connection refused");
    }
}
