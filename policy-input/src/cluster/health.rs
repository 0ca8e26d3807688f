//! When each watch last received data.
//!
//! A watch that is idle and a watch whose connection is dead look the same from above. The API server sends a bookmark every minute,
//! which the watcher does not pass on, so the bytes are noticed where they arrive.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use kube::client::Body;
use tower::{BoxError, Layer, Service};

use super::kinds::Kind;
use crate::health::KindHealth;

/// Bookmarks come every 60 to 75 seconds. Without any for this long, something is wrong.
const QUIET: Duration = Duration::from_secs(150);

struct LastContact {
    path: String,
    kind: &'static Kind,
    /// When data arrived, or when the watch was started.
    at: Instant,
    /// What failed since.
    trouble: Option<String>,
    unavailable: Option<String>,
}

/// When each kind last received data. Clones share their state.
#[derive(Clone)]
pub struct WatchHealth {
    contacts: Arc<Mutex<Vec<LastContact>>>,
}

impl WatchHealth {
    /// The health of watches that are about to start.
    pub fn new(kinds: impl IntoIterator<Item = &'static Kind>) -> Self {
        let at = Instant::now();
        let contact = |kind: &'static Kind| LastContact { path: kind.path(), kind, at, trouble: None, unavailable: None };
        Self { contacts: Arc::new(Mutex::new(kinds.into_iter().map(contact).collect())) }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Vec<LastContact>) -> T) -> T {
        change(&mut self.contacts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn of(&self, kind: &Kind, change: impl FnOnce(&mut LastContact)) {
        self.with(|contacts| contacts.iter_mut().find(|contact| contact.kind == kind).map(change));
    }

    fn received(&self, kind: &Kind) {
        self.of(kind, |contact| {
            contact.at = Instant::now();
            (contact.trouble, contact.unavailable) = (None, None);
        });
    }

    /// A watch failed.
    pub fn failed(&self, kind: &Kind, what: String) {
        self.of(kind, |contact| (contact.trouble, contact.unavailable) = (Some(what), None));
    }

    /// No watch can start, because there is no way to reach the API server.
    pub fn unreachable(&self, what: String) {
        self.with(|contacts| {
            if let Some(first) = contacts.first_mut() {
                first.trouble = Some(what);
            }
        });
    }

    /// The API server does not serve the kind, which is optional.
    pub fn unavailable(&self, kind: &Kind, what: String) {
        self.of(kind, |contact| {
            contact.at = Instant::now();
            (contact.trouble, contact.unavailable) = (None, Some(what));
        });
    }

    /// Marks every kind as failed when the result is dropped, however that comes about.
    #[must_use]
    pub fn until_dropped(&self, why: &'static str) -> Ending {
        Ending { health: self.clone(), why }
    }

    /// How current what is known of each kind is.
    #[must_use]
    pub fn freshness(&self) -> Vec<KindHealth> {
        self.freshness_at(Instant::now())
    }

    fn freshness_at(&self, now: Instant) -> Vec<KindHealth> {
        let fresh = |contact: &LastContact| {
            let silence = now.saturating_duration_since(contact.at);
            let is_stale = contact.trouble.is_some() || (silence > QUIET && contact.unavailable.is_none());
            KindHealth {
                kind: contact.kind.plural,
                stale_for: is_stale.then_some(silence),
                trouble: contact.trouble.clone(),
                unavailable: contact.unavailable.clone(),
            }
        };
        self.with(|contacts| contacts.iter().map(fresh).collect())
    }

    /// The kind that a request is for. The API server may be below a path of a proxy.
    fn kind_of(&self, path: &str) -> Option<&'static Kind> {
        self.with(|contacts| contacts.iter().find(|contact| path.ends_with(&contact.path)).map(|contact| contact.kind))
    }
}

/// Marks every kind as failed when it is dropped.
pub struct Ending {
    health: WatchHealth,
    why: &'static str,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.health.with(|contacts| {
            for contact in contacts {
                (contact.trouble, contact.unavailable) = (Some(self.why.to_owned()), None);
            }
        });
    }
}

impl<S> Layer<S> for WatchHealth {
    type Service = Listening<S>;

    fn layer(&self, inner: S) -> Listening<S> {
        Listening { inner, health: self.clone() }
    }
}

/// A client that records when data arrives.
pub struct Listening<S> {
    inner: S,
    health: WatchHealth,
}

impl<S, B> Service<Request<Body>> for Listening<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<UnsyncBoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let kind = self.health.kind_of(request.uri().path());
        let (health, answer) = (self.health.clone(), self.inner.call(request));
        Box::pin(async move {
            let response = answer.await?;
            let kind = kind.filter(|_| response.status().is_success());
            if let Some(kind) = kind {
                health.received(kind);
            }
            Ok(response.map(|body| {
                let body = body.map_err(Into::into).map_frame(move |frame| {
                    if let Some(kind) = kind {
                        health.received(kind);
                    }
                    frame
                });
                UnsyncBoxBody::new(body)
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::{self, POD};
    use super::*;

    fn stale_at(health: &WatchHealth, now: Instant) -> Vec<&'static str> {
        health.freshness_at(now).into_iter().filter(|fresh| fresh.stale_for.is_some()).map(|fresh| fresh.kind).collect()
    }

    fn stale(health: &WatchHealth) -> Vec<&'static str> {
        stale_at(health, Instant::now())
    }

    #[test]
    fn each_watch_is_stale_by_itself_until_it_receives_data() {
        let health = WatchHealth::new(kinds::watched());
        assert!(stale(&health).is_empty());
        for kind in kinds::watched() {
            health.failed(kind, "refused".to_owned());
            assert_eq!(stale(&health), [kind.plural]);
            health.received(kind);
            assert!(stale(&health).is_empty());
        }
        let later = Instant::now() + QUIET + Duration::from_secs(1);
        kinds::watched().filter(|kind| **kind != POD).for_each(|kind| health.of(kind, |contact| contact.at = later));
        assert_eq!(stale_at(&health, later), ["pods"], "silence is noticed too");
    }

    #[test]
    fn a_kind_that_is_not_served_is_reported_and_not_stale() {
        let health = WatchHealth::new(kinds::watched());
        health.unavailable(&POD, "not found".to_owned());
        assert!(stale_at(&health, Instant::now() + 2 * QUIET).iter().all(|kind| *kind != "pods"));
        let reported =
            |health: &WatchHealth| health.freshness().into_iter().filter_map(|fresh| fresh.unavailable).collect::<Vec<_>>();
        assert_eq!(reported(&health), ["not found"]);
        health.received(&POD);
        assert!(reported(&health).is_empty());
    }

    #[test]
    fn watches_that_end_are_stale_in_every_kind() {
        let health = WatchHealth::new(kinds::watched());
        drop(health.until_dropped("ended"));
        let ended = health.freshness();
        assert!(ended.iter().all(|fresh| fresh.stale_for.is_some() && fresh.trouble.as_deref() == Some("ended")), "{ended:?}");
    }

    #[test]
    fn a_request_is_for_the_kind_at_the_end_of_its_path() {
        let health = WatchHealth::new(kinds::watched());
        assert_eq!(health.kind_of("/k8s/clusters/c1/api/v1/pods"), Some(&POD));
        assert_eq!(health.kind_of("/apis/metrics.k8s.io/v1/pods"), None);
    }
}
