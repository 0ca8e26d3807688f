//! When each watch last received data from the API server.
//!
//! A watch that is quiet and a watch whose connection is dead look the same from above. The API server sends a bookmark every
//! minute, which the watcher keeps to itself, so the bytes are noticed where they arrive.

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

use super::object::Kind;
use crate::source::KindHealth;
use crate::source::heartbeat::ENDED;

/// Bookmarks come every 60 to 75 seconds. Without any for this long, something is wrong.
const QUIET: Duration = Duration::from_secs(150);

struct LastContact {
    /// When something came, or when listening began.
    heard: Instant,
    /// What went wrong since.
    trouble: Option<String>,
}

/// When each kind last received data.
#[derive(Clone)]
pub(crate) struct WatchHealth {
    ears: Arc<Mutex<[LastContact; 4]>>,
}

impl WatchHealth {
    pub(crate) fn new() -> Self {
        let ears = Kind::ALL.map(|_| LastContact { heard: Instant::now(), trouble: None });
        Self { ears: Arc::new(Mutex::new(ears)) }
    }

    fn with(&self, kind: Kind, change: impl FnOnce(&mut LastContact)) {
        let mut ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ear) = ears.get_mut(kind as usize) {
            change(ear);
        }
    }

    fn note(&self, kind: Kind) {
        self.with(kind, |ear| *ear = LastContact { heard: Instant::now(), trouble: None });
    }

    /// An error; no data was received.
    pub(crate) fn trouble(&self, kind: Kind, what: String) {
        self.with(kind, |ear| ear.trouble = Some(what));
    }

    /// Says that the source ended when it is dropped, however that comes about.
    pub(crate) fn until_dropped(&self) -> Ending {
        Ending(self.clone())
    }

    /// How fresh the knowledge of each kind is.
    pub(crate) fn freshness(&self) -> Vec<KindHealth> {
        self.freshness_at(Instant::now())
    }

    fn freshness_at(&self, now: Instant) -> Vec<KindHealth> {
        let ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |(kind, ear): (Kind, &LastContact)| {
            let silence = now.saturating_duration_since(ear.heard);
            let is_stale = ear.trouble.is_some() || silence > QUIET;
            KindHealth { kind: kind.plural(), stale_for: is_stale.then_some(silence), trouble: ear.trouble.clone() }
        };
        Kind::ALL.into_iter().zip(ears.iter()).map(fresh).collect()
    }
}

pub(crate) struct Ending(WatchHealth);

impl Drop for Ending {
    fn drop(&mut self) {
        for kind in Kind::ALL {
            self.0.trouble(kind, ENDED.to_owned());
        }
    }
}

impl<S> Layer<S> for WatchHealth {
    type Service = Listening<S>;

    fn layer(&self, inner: S) -> Listening<S> {
        Listening { inner, heard: self.clone() }
    }
}

/// A client that notices what it hears.
pub(crate) struct Listening<S> {
    inner: S,
    heard: WatchHealth,
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
        let kind = request.uri().path().rsplit('/').next().and_then(Kind::of_plural);
        let (heard, answer) = (self.heard.clone(), self.inner.call(request));
        Box::pin(async move {
            let response = answer.await?;
            let is_good = response.status().is_success();
            if let Some(kind) = kind.filter(|_| is_good) {
                heard.note(kind);
            }
            Ok(response.map(|body| {
                let body = body.map_err(Into::into).map_frame(move |frame| {
                    if let Some(kind) = kind.filter(|_| is_good) {
                        heard.note(kind);
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
    use super::*;

    fn stale_at(heard: &WatchHealth, now: Instant) -> Vec<&'static str> {
        heard.freshness_at(now).into_iter().filter(|fresh| fresh.stale_for.is_some()).map(|fresh| fresh.kind).collect()
    }

    fn stale(heard: &WatchHealth) -> Vec<&'static str> {
        stale_at(heard, Instant::now())
    }

    #[test]
    fn each_watch_is_stale_by_itself_until_it_hears_something() {
        let heard = WatchHealth::new();
        assert!(stale(&heard).is_empty());
        for kind in Kind::ALL {
            heard.trouble(kind, "refused".to_owned());
            assert_eq!(stale(&heard), [kind.plural()]);
            heard.note(kind);
            assert!(stale(&heard).is_empty());
        }
        let later = Instant::now() + QUIET + Duration::from_secs(1);
        Kind::ALL.into_iter().filter(|kind| *kind != Kind::Pod).for_each(|kind| heard.with(kind, |ear| ear.heard = later));
        assert_eq!(stale_at(&heard, later), ["pods"], "silence is noticed too");
    }

    #[test]
    fn a_source_that_ends_is_stale_in_every_kind() {
        let heard = WatchHealth::new();
        drop(heard.until_dropped());
        let ended = heard.freshness();
        assert!(ended.iter().all(|fresh| fresh.stale_for.is_some() && fresh.trouble.as_deref() == Some(ENDED)), "{ended:?}");
    }
}
