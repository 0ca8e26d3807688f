//! The session against an API server that answers from memory, on paused time.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use kube::client::Body;
use policy_input::cluster::FieldMask;
use policy_input::cluster::kinds::{NETWORK_POLICY, Watched};
use policy_input::cluster::watch::Typed;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::{BoxError, Layer};

use super::*;

/// A custom resource that may not be installed.
static EXTRA: Kind = Kind {
    group: "example.org",
    version: "v1alpha1",
    name: "Extra",
    plural: "extras",
    is_namespaced: false,
    read: Need::Optional,
    watch: Some(Watched::of::<Extra>(Need::Optional)),
    fields: FieldMask::Whole,
};

#[derive(Clone, Debug)]
struct Extra;

impl Typed for Extra {
    const KIND: &'static Kind = &EXTRA;
}

/// The table with one kind more, which comes first.
fn table() -> impl Iterator<Item = &'static Kind> {
    [&EXTRA].into_iter().chain(kinds::watched())
}

type Frames = BoxStream<'static, Result<Frame<Bytes>, BoxError>>;

fn frame(value: &Value) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from(format!("{value}\n"))))
}

/// How the API server answers for one kind; other kinds have one object each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    /// With this status.
    Status(u16),
    /// As for the others.
    Objects,
}

struct Server {
    kind: &'static Kind,
    answer: Answer,
    can_stream: bool,
    /// Requests for the kind.
    asked: usize,
}

type Shared = Arc<Mutex<Server>>;

fn with<T>(server: &Shared, change: impl FnOnce(&mut Server) -> T) -> T {
    change(&mut server.lock().expect("nobody panics with it"))
}

/// Ends when the kind is not served any more.
async fn until_removed(server: Shared, kind: &'static Kind) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if with(&server, |server| server.kind == kind && server.answer != Answer::Objects) {
            return;
        }
    }
}

fn respond(server: &Shared, uri: &http::Uri) -> (u16, Frames) {
    let kind = table().find(|kind| kind.path() == uri.path()).expect("a kind of the table");
    let (answer, can_stream) = with(server, |server| {
        let is_ours = server.kind == kind;
        server.asked += usize::from(is_ours);
        (if is_ours { server.answer } else { Answer::Objects }, server.can_stream)
    });
    let query = uri.query().unwrap_or_default();
    let refused = |code: u16, message: &str| {
        let status =
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "", "code": code, "message": message});
        (code, stream::iter([frame(&status)]).boxed())
    };
    if let Answer::Status(code) = answer {
        return refused(code, "no extras");
    }
    if query.contains("sendInitialEvents=true") && !can_stream {
        return refused(422, "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled");
    }
    let (version, name) = (kind.api_version(), kind.name);
    let metadata = json!({"name": "a", "namespace": kind.is_namespaced.then_some("x"), "resourceVersion": "7"});
    let object = json!({"apiVersion": version, "kind": name, "metadata": metadata, "spec": {"podSelector": {}}, "status": {}});
    if !query.contains("watch=true") {
        let list = json!({"apiVersion": version, "kind": format!("{name}List"), "metadata": {"resourceVersion": "7"}, "items": [object]});
        return (200, stream::iter([frame(&list)]).boxed());
    }
    let mut first = Vec::new();
    if query.contains("sendInitialEvents=true") {
        first.push(frame(&json!({"type": "ADDED", "object": object})));
        first.push(frame(&json!({"type": "BOOKMARK", "object": {"apiVersion": version, "kind": name,
            "metadata": {"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}}}})));
    }
    let rest = stream::once(until_removed(server.clone(), kind)).filter_map(|()| std::future::ready(None));
    (200, stream::iter(first).chain(rest).boxed())
}

/// A session of node `n1` with an API server that answers for one kind in this way.
struct Lab {
    server: Shared,
    health: WatchHealth,
    session: Session,
    extents: Vec<SyncState>,
}

impl Lab {
    fn start(kind: &'static Kind, answer: Answer, can_stream: bool) -> Self {
        let server: Shared = Arc::new(Mutex::new(Server { kind, answer, can_stream, asked: 0 }));
        let served = server.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (code, body) = respond(&served, request.uri());
            let mut response = Response::new(StreamBody::new(body));
            *response.status_mut() = StatusCode::from_u16(code).expect("a status");
            async move { Ok::<_, BoxError>(response) }
        });
        let health = WatchHealth::new(table());
        let client = Client::new(health.layer(service), "default");
        let session = Session::new(client, health.clone(), "n1", table());
        Self { server, health, session, extents: Vec::new() }
    }

    fn answer(&self, answer: Answer) {
        with(&self.server, |server| server.answer = answer);
    }

    /// Runs the session until something holds. How long it took; `None` when it does not hold after this time.
    async fn until(&mut self, limit: Duration, is_done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let start = Instant::now();
        while !is_done(self) {
            let left = limit.checked_sub(start.elapsed())?;
            tokio::time::timeout(left, self.session.next()).await.ok()?;
            if let Some(news) = self.session.news() {
                self.extents.push(news.extent);
            }
        }
        Some(start.elapsed())
    }

    async fn idle(&mut self, time: Duration) {
        assert_eq!(self.until(time, |_| false).await, None);
    }

    fn told(&self) -> SyncState {
        self.extents.last().copied().unwrap_or_default()
    }

    fn knows_extra(&self) -> bool {
        self.session.store.contains(&EXTRA, "a")
    }

    fn unavailable(&self) -> Option<String> {
        self.health.freshness().into_iter().find(|fresh| fresh.kind == EXTRA.plural)?.unavailable
    }
}

const SOON: Duration = Duration::from_secs(5);
const MINUTES: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn an_optional_kind_that_is_not_served_delays_nothing_and_is_noticed_later() {
    for can_stream in [true, false] {
        let mut lab = Lab::start(&EXTRA, Answer::Status(404), can_stream);
        let took = lab.until(SOON, |lab| lab.told() == SyncState::Synced).await;
        assert!(took.is_some(), "{:?}", lab.extents);
        assert!(lab.unavailable().is_some_and(|why| why.contains("no extras")), "{:?}", lab.health.freshness());
        assert!(lab.health.freshness().iter().all(|fresh| fresh.stale_for.is_none() && fresh.trouble.is_none()));
        // It is tried again, and less often as time goes on.
        let before = with(&lab.server, |server| server.asked);
        lab.idle(MINUTES).await;
        let asked = with(&lab.server, |server| server.asked) - before;
        assert!((8..=20).contains(&asked), "asked {asked} times in ten minutes");
        lab.answer(Answer::Objects);
        let noticed = lab.until(Duration::from_secs(70), Lab::knows_extra).await;
        assert!(noticed.is_some() && lab.unavailable().is_none(), "{noticed:?}, {:?}", lab.unavailable());
        assert!(lab.extents.iter().is_sorted() && lab.told() == SyncState::Synced, "{:?}", lab.extents);
    }
}

#[tokio::test(start_paused = true)]
async fn an_optional_kind_that_is_served_and_cannot_be_read_leaves_the_others_partial() {
    for (code, can_stream) in [(500, true), (500, false), (403, true), (403, false)] {
        let mut lab = Lab::start(&EXTRA, Answer::Status(code), can_stream);
        let partial = lab.until(SOON, |lab| lab.told() == SyncState::Partial).await;
        assert!(partial.is_some(), "{:?}", lab.extents);
        assert!(lab.health.freshness().iter().any(|fresh| fresh.kind == EXTRA.plural && fresh.trouble.is_some()));
        lab.idle(SOON).await;
        assert_eq!(lab.told(), SyncState::Partial, "its policies may deny");
        lab.answer(Answer::Objects);
        let whole = lab.until(Duration::from_secs(70), |lab| lab.told() == SyncState::Synced).await;
        assert!(whole.is_some() && lab.knows_extra(), "{:?}", lab.extents);
    }
}

#[tokio::test(start_paused = true)]
async fn a_required_kind_that_is_not_served_is_waited_for() {
    for kind in [&NETWORK_POLICY, &NODE] {
        let mut lab = Lab::start(kind, Answer::Status(404), true);
        lab.idle(MINUTES).await;
        assert_eq!(lab.told(), SyncState::Listing, "{kind:?}: {:?}", lab.extents);
        assert!(lab.knows_extra(), "the optional kind does not wait");
        let fresh = lab.health.freshness();
        assert!(fresh.iter().any(|fresh| fresh.kind == kind.plural && fresh.stale_for.is_some()), "{fresh:?}");
        lab.answer(Answer::Objects);
        assert!(lab.until(MINUTES, |lab| lab.told() == SyncState::Synced).await.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn objects_of_a_kind_that_is_removed_stay_for_a_minute() {
    for can_stream in [true, false] {
        let mut lab = Lab::start(&EXTRA, Answer::Objects, can_stream);
        assert!(lab.until(SOON, |lab| lab.told() == SyncState::Synced && lab.knows_extra()).await.is_some());
        // For a moment, as while an API server starts.
        lab.answer(Answer::Status(404));
        lab.idle(Duration::from_secs(30)).await;
        assert!(lab.knows_extra() && lab.unavailable().is_some());
        lab.answer(Answer::Objects);
        lab.idle(Duration::from_secs(70)).await;
        assert!(lab.knows_extra() && lab.unavailable().is_none());
        // Who may not read it learns nothing about its objects.
        lab.answer(Answer::Status(403));
        lab.idle(MINUTES).await;
        assert!(lab.knows_extra());
        lab.answer(Answer::Status(404));
        let gone = lab.until(Duration::from_secs(200), |lab| !lab.knows_extra()).await;
        assert!(gone.is_some_and(|took| took >= Duration::from_secs(60)), "{gone:?}");
    }
}
