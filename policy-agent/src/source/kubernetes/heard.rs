//! When each watch last heard from the API server.
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
use crate::source::Freshness;

/// Bookmarks come every 60 to 75 seconds. Without any for this long, something is wrong.
const QUIET: Duration = Duration::from_secs(150);

struct Ear {
    /// When something came, or when listening began.
    heard: Instant,
    /// What went wrong since.
    trouble: Option<String>,
}

/// When each kind was last heard of.
#[derive(Clone)]
pub(crate) struct Heard {
    ears: Arc<Mutex<[Ear; 4]>>,
}

impl Heard {
    pub(crate) fn new() -> Self {
        let ears = Kind::ALL.map(|_| Ear { heard: Instant::now(), trouble: None });
        Self { ears: Arc::new(Mutex::new(ears)) }
    }

    fn with(&self, kind: Kind, change: impl FnOnce(&mut Ear)) {
        let mut ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ear) = ears.get_mut(kind as usize) {
            change(ear);
        }
    }

    fn note(&self, kind: Kind) {
        self.with(kind, |ear| *ear = Ear { heard: Instant::now(), trouble: None });
    }

    /// Something went wrong; nothing was heard.
    pub(crate) fn trouble(&self, kind: Kind, what: String) {
        self.with(kind, |ear| ear.trouble = Some(what));
    }

    /// How fresh the knowledge of each kind is.
    pub(crate) fn freshness(&self) -> Vec<Freshness> {
        let ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |(kind, ear): (Kind, &Ear)| {
            let silence = ear.heard.elapsed();
            let is_stale = ear.trouble.is_some() || silence > QUIET;
            Freshness { kind: kind.plural(), stale_for: is_stale.then_some(silence), trouble: ear.trouble.clone() }
        };
        Kind::ALL.into_iter().zip(ears.iter()).map(fresh).collect()
    }
}

impl<S> Layer<S> for Heard {
    type Service = Listening<S>;

    fn layer(&self, inner: S) -> Listening<S> {
        Listening { inner, heard: self.clone() }
    }
}

/// A client that notices what it hears.
pub(crate) struct Listening<S> {
    inner: S,
    heard: Heard,
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
