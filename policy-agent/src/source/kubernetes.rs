//! The Kubernetes API as source: one watch for each kind, and nothing else asked of the API server.
//!
//! Watches start one after the other, in the order of `Kind`, each when the one before has listed everything; so pods come when
//! their namespaces and the policies are there. A watch that breaks goes on where it was, after a pause with jitter; one that
//! cannot be resumed lists again, and the list is compared with the known objects, which stay meanwhile.
//!
//! - `object`: objects, cut down while they are read.
//! - `store`: what is known, and what an event changes about it.
//! - `health`: when each watch last received data.

mod health;
mod object;
mod store;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{self, AbortHandle, BoxStream, SelectAll, StreamExt};
use kube::client::ClientBuilder;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, InitialListStrategy};
use kube::{Api, Client, Resource};
use policy_input::cluster::{Access, full_text};
use serde_json::Value;
use tokio::time::Instant;

use self::health::WatchHealth;
use self::object::{Kind, Object, Watched, key_of};
use self::store::Store;
use super::{HealthCheck, Source, SourceUpdate, SyncState};

/// The API server ends watches after this time, so that connections spread over its replicas again.
const WATCH: Duration = Duration::from_secs(290);
/// Nothing read from a connection for this long means that it is dead: bookmarks come every 60 to 75 seconds.
const SILENCE: Duration = Duration::from_secs(100);
/// A streaming list without progress for this long, or that does not end for that long, is requested as a list: its objects come from
/// the API server's memory, and some API servers never send what ends it.
const STUCK: Duration = Duration::from_secs(20);
const ENDLESS: Duration = Duration::from_secs(120);
const CONNECT: Duration = Duration::from_secs(10);
/// The maximum number of changes in one update.
const BATCH: usize = 1024;
/// A connection that cannot even be described is tried again this often.
const AGAIN: Duration = Duration::from_secs(5);

/// The Kubernetes API.
pub struct Kubernetes {
    access: Access,
    node: String,
    heard: WatchHealth,
}

/// An event of a watch.
enum WatchEvent {
    Begin,
    There(String, Value),
    Gone(String),
    End,
    /// It cannot go on as it is, and is to be begun anew.
    Lost(String),
    /// The API server cannot list by watching.
    CannotStream,
    /// Something went wrong; the watch tries again by itself.
    Trouble(String),
}

type Watch = BoxStream<'static, (Kind, WatchEvent)>;

impl Kubernetes {
    /// The API as this node sees it.
    #[must_use]
    pub fn new(access: Access, node: String) -> Self {
        Self { access, node, heard: WatchHealth::new() }
    }

    async fn connect(&self) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
        let mut config = self.access.config().await?;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(SILENCE);
        config.reset_reader_on_write = true;
        Ok(ClientBuilder::try_from(config)?.with_layer(&self.heard).build())
    }

    async fn watch(&self, tell: &mut dyn FnMut(SourceUpdate) -> bool) {
        let client = loop {
            match self.connect().await {
                Ok(client) => break client,
                Err(error) => {
                    self.heard.trouble(Kind::Namespace, error.to_string());
                    tracing::error!(error, "cannot find the API server");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        let mut session = Session::new(client, self.heard.clone(), self.node.clone());
        loop {
            session.next().await;
            if let Some(news) = session.news()
                && !tell(news)
            {
                return;
            }
        }
    }
}

impl Source for Kubernetes {
    fn describe(&self) -> String {
        "the Kubernetes API".to_owned()
    }

    fn pulse(&self) -> HealthCheck {
        let heard = self.heard.clone();
        Box::new(move || heard.freshness())
    }

    fn run(self: Box<Self>, tell: &mut dyn FnMut(SourceUpdate) -> bool) {
        let _ending = self.heard.until_dropped();
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.watch(tell)),
            Err(error) => tracing::error!(%error, "cannot watch the API server"),
        }
    }
}

/// The running watches, and their events.
struct Session {
    client: Client,
    heard: WatchHealth,
    node: String,
    store: Store,
    watches: SelectAll<Watch>,
    /// Ends the watch of a kind.
    running: [Option<AbortHandle>; 4],
    has_ended: [bool; 4],
    /// Whether the API server can list by watching, as far as is known.
    can_stream: bool,
    /// Lists by watching that have begun and not ended.
    listing: [Option<Listing>; 4],
    /// Kinds whose last list by watching did not end, until a list has.
    is_stuck: [bool; 4],
    was_complete: bool,
}

/// When a list by watching is given up.
#[derive(Clone, Copy)]
struct Listing {
    /// Unless an event arrives before.
    quiet: Instant,
    /// Any event.
    endless: Instant,
}

impl Listing {
    fn deadline(self) -> Instant {
        self.quiet.min(self.endless)
    }
}

impl Session {
    fn new(client: Client, heard: WatchHealth, node: String) -> Self {
        let mut session = Self {
            client,
            heard,
            store: Store::new(node.clone()),
            node,
            watches: SelectAll::new(),
            running: [const { None }; 4],
            has_ended: [false; 4],
            can_stream: true,
            listing: [None; 4],
            is_stuck: [false; 4],
            was_complete: false,
        };
        session.begin(Kind::Namespace, Duration::ZERO);
        session
    }

    /// Begins the watch of a kind after a pause, in place of one that may be running.
    fn begin(&mut self, kind: Kind, pause: Duration) {
        let watch = match kind {
            Kind::Namespace => self.watch::<object::Namespace>(),
            Kind::Node => self.watch::<object::Node>(),
            Kind::NetworkPolicy => self.watch::<object::NetworkPolicy>(),
            Kind::Pod => self.watch::<object::Pod>(),
        };
        let paused = stream::once(tokio::time::sleep(pause)).filter_map(|()| std::future::ready(None)).chain(watch);
        let (watch, handle) = stream::abortable(paused);
        if let Some(before) = self.running.get_mut(kind as usize).and_then(|running| running.replace(handle)) {
            before.abort();
        }
        self.watches.push(watch.boxed());
        self.expect(kind, pause);
    }

    /// Whether a kind is listed by watching.
    fn streams(&self, kind: Kind) -> bool {
        self.can_stream && !self.is_stuck.get(kind as usize).copied().unwrap_or_default()
    }

    /// A list of this kind begins after a pause.
    fn expect(&mut self, kind: Kind, pause: Duration) {
        let start = Instant::now() + pause;
        let listing = self.streams(kind).then(|| Listing { quiet: start + STUCK, endless: start + ENDLESS });
        if let Some(slot) = self.listing.get_mut(kind as usize) {
            *slot = listing;
        }
    }

    /// The list of this kind, if there is one, makes progress within this time.
    fn expect_more(&mut self, kind: Kind, within: Duration) {
        if let Some(listing) = self.listing.get_mut(kind as usize).and_then(Option::as_mut) {
            listing.quiet = Instant::now() + within;
        }
    }

    fn watch<K: Watched>(&self) -> Watch {
        let config = watcher::Config {
            // All of it from the API server's memory in one answer; pages would be read from etcd, for every node.
            page_size: None,
            initial_list_strategy: if self.streams(K::KIND) {
                InitialListStrategy::StreamingList
            } else {
                InitialListStrategy::ListWatch
            },
            // Where other nodes are decides nothing here: their addresses are like any others (S2.12). Kubelets report every few
            // minutes, so a watch of all of them would be the most expensive of all.
            field_selector: (K::KIND == Kind::Node).then(|| format!("metadata.name={}", self.node)),
            timeout: Some(u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX)),
            ..watcher::Config::default()
        };
        let api: Api<Object<K>> = Api::all(self.client.clone());
        watcher::watcher(api, config).default_backoff().map(|event| (K::KIND, said(event))).boxed()
    }

    /// Waits for an event, and takes it with all that are queued. A list that is stuck is requested in the other way.
    async fn next(&mut self) {
        let deadline = self.listing.iter().flatten().map(|listing| listing.deadline()).min();
        let stuck = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let mut said = tokio::select! {
            biased;
            said = self.watches.next() => said,
            () = stuck => return self.give_up_stuck(),
        };
        while let Some((kind, what)) = said {
            self.take(kind, what);
            if self.store.waiting() >= BATCH {
                return;
            }
            said = self.watches.next().now_or_never().flatten();
        }
    }

    fn is_listing(&self, kind: Kind) -> bool {
        self.listing.get(kind as usize).is_some_and(Option::is_some)
    }

    fn give_up_stuck(&mut self) {
        let now = Instant::now();
        for kind in Kind::ALL {
            let listing = self.listing.get(kind as usize).copied().flatten();
            if listing.is_some_and(|listing| listing.deadline() <= now) {
                tracing::warn!(
                    kind = kind.plural(),
                    "the API server does not complete a streaming list; falling back to a list request"
                );
                if let Some(is_stuck) = self.is_stuck.get_mut(kind as usize) {
                    *is_stuck = true;
                }
                self.begin(kind, pause());
            }
        }
    }

    fn take(&mut self, kind: Kind, said: WatchEvent) {
        match &said {
            WatchEvent::Begin => self.expect(kind, Duration::ZERO),
            WatchEvent::There(..) | WatchEvent::Gone(_) => self.expect_more(kind, STUCK),
            // It is tried again after a pause, and a connection that is silent ends by itself.
            WatchEvent::Trouble(_) if self.is_listing(kind) => self.expect(kind, 2 * SILENCE),
            _ => {}
        }
        match said {
            WatchEvent::Begin => self.store.begin(kind),
            WatchEvent::There(key, value) => self.store.apply(kind, &key, &value),
            WatchEvent::Gone(key) => self.store.remove(kind, &key),
            WatchEvent::End => {
                self.store.end(kind);
                if let (Some(listing), Some(is_stuck)) =
                    (self.listing.get_mut(kind as usize), self.is_stuck.get_mut(kind as usize))
                {
                    (*listing, *is_stuck) = (None, false);
                }
                let is_first = self.has_ended.get_mut(kind as usize).is_some_and(|ended| !std::mem::replace(ended, true));
                if let Some(next) = kind.next().filter(|_| is_first) {
                    self.begin(next, Duration::ZERO);
                }
            }
            WatchEvent::Trouble(what) => {
                tracing::warn!(kind = kind.plural(), what, "watch failed; retrying");
                self.heard.trouble(kind, what);
            }
            WatchEvent::CannotStream => {
                tracing::info!(
                    kind = kind.plural(),
                    "the API server does not support streaming lists; falling back to a list request"
                );
                self.can_stream = false;
                self.begin(kind, Duration::ZERO);
            }
            WatchEvent::Lost(what) => {
                tracing::warn!(kind = kind.plural(), what, "watch cannot be resumed; listing again");
                self.heard.trouble(kind, what);
                self.begin(kind, pause());
            }
        }
        if self.store.must_list_pods() {
            self.begin(Kind::Pod, pause());
        }
    }

    fn is_complete(&self) -> bool {
        self.has_ended.iter().all(|ended| *ended)
    }

    /// The update to send.
    fn news(&mut self) -> Option<SourceUpdate> {
        let is_complete = self.is_complete();
        let is_first = is_complete && !std::mem::replace(&mut self.was_complete, is_complete);
        let mut news = self.store.news().or_else(|| is_first.then(SourceUpdate::default))?;
        news.extent = if is_complete { SyncState::Synced } else { SyncState::Listing };
        Some(news)
    }
}

/// One to two seconds: nodes that lost their watches together do not come back together.
fn pause() -> Duration {
    let random = RandomState::new().hash_one(0);
    Duration::from_millis(1000 + random % 1000)
}

fn said<K: Watched>(event: Result<Event<Object<K>>, watcher::Error>) -> WatchEvent {
    match event {
        Ok(Event::Init) => WatchEvent::Begin,
        Ok(Event::InitApply(object) | Event::Apply(object)) => WatchEvent::There(key_of(object.meta()), object.value),
        Ok(Event::Delete(object)) => WatchEvent::Gone(key_of(object.meta())),
        Ok(Event::InitDone) => WatchEvent::End,
        Err(error) => {
            let code = match &error {
                watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code,
                _ => 0,
            };
            let text = full_text(&error);
            match code {
                400 | 422 if text.contains("sendInitialEvents") => WatchEvent::CannotStream,
                410 => WatchEvent::Lost(text),
                // The API server was restored from a backup, and is behind what was seen before.
                _ if text.contains("Too large resource version") => WatchEvent::Lost(text),
                _ => WatchEvent::Trouble(text),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    type Frames = BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

    fn frames(values: impl futures::Stream<Item = Value> + Send + 'static) -> Frames {
        values.map(|value| Ok(Frame::data(Bytes::from(format!("{value}\n"))))).boxed()
    }

    /// An API server with one object of each kind, whose list of pods by watching never ends: it says nothing, or the same pod again
    /// and again after a pause.
    fn answer(uri: &http::Uri, repeats: Option<Duration>) -> Frames {
        let plural = uri.path().rsplit('/').next().unwrap_or_default();
        let kind = Kind::of_plural(plural).expect("a kind that is watched");
        let version = if kind == Kind::NetworkPolicy { "networking.k8s.io/v1" } else { "v1" };
        let metadata = json!({"name": "a", "namespace": (kind != Kind::Namespace && kind != Kind::Node).then_some("x"), "resourceVersion": "7"});
        let object =
            json!({"apiVersion": version, "kind": kind.name(), "metadata": metadata, "spec": {"podSelector": {}}, "status": {}});
        let query = uri.query().unwrap_or_default();
        if !query.contains("watch=true") {
            let kind = format!("{}List", kind.name());
            let list = json!({"apiVersion": version, "kind": kind, "metadata": {"resourceVersion": "7"}, "items": [object]});
            return frames(stream::iter([list]));
        }
        let added = json!({"type": "ADDED", "object": object});
        let end = json!({"type": "BOOKMARK", "object": {"apiVersion": version, "kind": kind.name(),
            "metadata": {"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}}}});
        match (query.contains("sendInitialEvents=true"), kind, repeats) {
            (false, ..) | (true, Kind::Pod, None) => frames(stream::pending()),
            (true, Kind::Pod, Some(pause)) => frames(stream::unfold(added, move |added| async move {
                tokio::time::sleep(pause).await;
                Some((added.clone(), added))
            })),
            (true, ..) => frames(stream::iter([added, end]).chain(stream::pending())),
        }
    }

    /// How long it takes until everything is there.
    async fn start(repeats: Option<Duration>) -> Duration {
        let service = tower::service_fn(move |request: Request<Body>| {
            let body = StreamBody::new(answer(request.uri(), repeats));
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        let start = Instant::now();
        let mut session = Session::new(Client::new(service, "default"), WatchHealth::new(), "n1".to_owned());
        while !session.is_complete() {
            assert!(start.elapsed() < Duration::from_secs(1000), "it never ends");
            session.next().await;
        }
        let took = start.elapsed();
        // What has ended is not taken for a list that does not end.
        let quiet = tokio::time::timeout(10 * ENDLESS, async {
            loop {
                session.next().await;
            }
        });
        assert!(quiet.await.is_err() && session.is_complete() && !session.is_listing(Kind::Pod));
        took
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_by_watching_that_never_ends_is_asked_for_as_a_list() {
        let silent = start(None).await;
        assert!(silent >= STUCK && silent < 2 * STUCK, "{silent:?}");
        let endless = start(Some(Duration::from_secs(5))).await;
        assert!(endless >= ENDLESS && endless < ENDLESS + STUCK, "{endless:?}");
    }
}
