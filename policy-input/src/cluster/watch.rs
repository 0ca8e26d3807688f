//! Watches of every kind that is asked for: one connection for each, and nothing else asked of the API server.
//!
//! Required kinds are listed one after the other, in the order given, so that pods come when their namespaces and the policies are
//! there. Optional kinds start at once and delay no other. A watch that breaks goes on where it was, after a pause with jitter; one that
//! cannot be resumed lists again. A kind that is optional and not served is tried again with back-off.
//!
//! Nothing of the objects is kept here: what an event changes is for the caller to find out.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use futures::stream::{self, AbortHandle, BoxStream, SelectAll, StreamExt};
use kube::client::ClientBuilder;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, InitialListStrategy};
use kube::{Api, Client, Resource};
use serde_json::Value;
use tokio::time::Instant;

use super::health::WatchHealth;
use super::kinds::{Kind, Need, Watched};
use super::object::{Object, key_of};
use super::{Access, AccessError, full_text};

pub use super::object::Typed;

/// The API server ends watches after this time, so that connections spread over its replicas again.
const WATCH: Duration = Duration::from_secs(290);
/// Nothing read from a connection for this long means that it is dead: bookmarks come every 60 to 75 seconds.
const SILENCE: Duration = Duration::from_secs(100);
/// A streaming list without progress for this long, or that does not end for that long, is requested as a list: its objects come from
/// the API server's memory, and some API servers never send what ends it.
const STUCK: Duration = Duration::from_secs(20);
const ENDLESS: Duration = Duration::from_secs(120);
const CONNECT: Duration = Duration::from_secs(10);
/// Pauses before an optional kind is tried again: the first, and the longest.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);
/// Objects of a kind that the API server has not known for this long are gone. A starting API server may not know its custom resources
/// for a moment.
const MISSING: Duration = Duration::from_secs(60);
const NOT_FOUND: u16 = 404;

/// A client for watches, which records in `health` when data arrives.
///
/// # Errors
/// When the files of a kubeconfig or of a service account are missing or wrong.
pub async fn client(access: &Access, health: &WatchHealth) -> Result<Client, AccessError> {
    let mut config = access.config().await?;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    Ok(ClientBuilder::try_from(config)?.with_layer(health).build())
}

/// A kind to be watched.
#[derive(Clone)]
pub struct Wanted {
    /// The kind.
    pub kind: &'static Kind,
    /// Which of its objects; all without one.
    pub field_selector: Option<String>,
}

/// What a watch reports.
#[derive(Debug)]
pub enum WatchEvent {
    /// A list begins.
    ListBegan,
    /// An object is there, as it is now: `namespace/name`, or `name`, and what is kept of it.
    Present(String, Value),
    /// An object is gone.
    Removed(String),
    /// The list is complete: objects that were not in it are gone.
    ListEnded,
    /// The API server has not served the kind for a minute: its objects are gone.
    KindRemoved,
    /// The watch failed, and is retried.
    Failed(String),
    /// The watch cannot be resumed, and lists again.
    Lost(String),
    /// The API server does not support streaming lists; a list is requested.
    CannotStream,
    /// A streaming list does not end; a list is requested.
    Stuck,
    /// The API server does not serve the kind, which is optional. It is tried again.
    Unavailable(String),
}

/// How far the first list of a kind is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It has not ended.
    Listing,
    /// It has not ended, and the kind, which is optional and served, cannot be read at the moment, or not by this client.
    Failing,
    /// The API server does not serve the kind, which is optional.
    Unavailable,
    /// It has ended.
    Listed,
}

/// Events of one kind, as its stream reports them; the kind is known by its place.
type Events = BoxStream<'static, Raw>;
/// Starts the stream of a kind.
pub(super) type Start = fn(&Client, watcher::Config) -> Events;

/// What a stream reports.
pub(super) enum Raw {
    Begin,
    Present(String, Value),
    Removed(String),
    End,
    /// It cannot go on as it is, and is to be begun anew.
    Lost(String),
    /// The API server cannot list by watching.
    CannotStream,
    /// It failed, and tries again by itself.
    Failed {
        text: String,
        /// The code of the answer, when there was one.
        code: u16,
    },
}

impl Watched {
    /// The watch of a kind that has a type.
    #[must_use]
    pub const fn of<K: Typed>(need: Need) -> Self {
        Self { need, start: start::<K> }
    }
}

fn start<K: Typed>(client: &Client, config: watcher::Config) -> Events {
    let api: Api<Object<K>> = Api::all(client.clone());
    watcher::watcher(api, config).default_backoff().map(raw).boxed()
}

/// Less than a second.
fn jitter() -> Duration {
    Duration::from_millis(RandomState::new().hash_one(0) % 1000)
}

/// One to two seconds: nodes that lost their watches together do not come back together.
fn pause() -> Duration {
    Duration::from_secs(1) + jitter()
}

fn raw<K: Typed>(event: Result<Event<Object<K>>, watcher::Error>) -> Raw {
    match event {
        Ok(Event::Init) => Raw::Begin,
        Ok(Event::InitApply(object) | Event::Apply(object)) => Raw::Present(key_of(object.meta()), object.value),
        Ok(Event::Delete(object)) => Raw::Removed(key_of(object.meta())),
        Ok(Event::InitDone) => Raw::End,
        Err(error) => {
            let (code, is_start) = match &error {
                watcher::Error::WatchStartFailed(kube::Error::Api(status)) => (status.code, true),
                watcher::Error::InitialListFailed(kube::Error::Api(status)) => (status.code, false),
                _ => (0, false),
            };
            let text = full_text(&error);
            match code {
                400 | 422 if is_start && text.contains("sendInitialEvents") => Raw::CannotStream,
                410 if is_start => Raw::Lost(text),
                // The API server was restored from a backup, and is behind what was seen before.
                _ if text.contains("Too large resource version") => Raw::Lost(text),
                _ => Raw::Failed { text, code },
            }
        }
    }
}

/// When a list by watching is given up.
#[derive(Clone, Copy)]
struct Listing {
    /// Unless an event arrives before.
    quiet: Instant,
    /// However many events arrive.
    endless: Instant,
}

impl Listing {
    fn deadline(self) -> Instant {
        self.quiet.min(self.endless)
    }
}

/// The watch of one kind.
struct KindWatch {
    wanted: Wanted,
    how: Watched,
    /// Ends the stream that runs.
    running: Option<AbortHandle>,
    progress: Progress,
    /// A list by watching that has begun and not ended.
    listing: Option<Listing>,
    /// Whether the last list by watching did not end, until a list has.
    is_stuck: bool,
    /// Whether objects of it were reported, and not yet that the kind is gone.
    has_objects: bool,
    /// Since when the API server does not know the kind.
    missing: Option<Instant>,
    /// The pause before a kind that is not served is tried again.
    retry: Duration,
}

impl KindWatch {
    /// The list, if there is one, goes on within this time.
    fn expect_more(&mut self) {
        if let Some(listing) = &mut self.listing {
            listing.quiet = Instant::now() + STUCK;
        }
    }

    /// It failed, and not because it is not served.
    fn fail(&mut self) {
        self.missing = None;
        if self.how.need == Need::Optional && self.progress != Progress::Listed {
            self.progress = Progress::Failing;
        }
    }

    /// A list has ended.
    fn end(&mut self) {
        (self.listing, self.is_stuck, self.missing) = (None, false, None);
        (self.progress, self.retry) = (Progress::Listed, RETRY);
    }

    /// The kind is not served. Whether its objects are gone.
    fn is_removed(&mut self) -> bool {
        let since = *self.missing.get_or_insert_with(Instant::now);
        let is_removed = self.has_objects && since.elapsed() >= MISSING;
        self.has_objects &= !is_removed;
        is_removed
    }
}

/// The watches that run.
pub struct Watches {
    client: Client,
    health: WatchHealth,
    kinds: Vec<KindWatch>,
    streams: SelectAll<BoxStream<'static, (usize, Raw)>>,
    /// Whether the API server can list by watching, as far as is known.
    can_stream: bool,
}

impl Watches {
    /// Watches these kinds, of which those that are not watched are left out. Must be called within a runtime.
    #[must_use]
    pub fn new(client: Client, health: WatchHealth, wanted: impl IntoIterator<Item = Wanted>) -> Self {
        let kind = |wanted: Wanted| {
            Some(KindWatch {
                how: wanted.kind.watch?,
                wanted,
                running: None,
                progress: Progress::Listing,
                listing: None,
                is_stuck: false,
                has_objects: false,
                missing: None,
                retry: RETRY,
            })
        };
        let kinds: Vec<KindWatch> = wanted.into_iter().filter_map(kind).collect();
        let mut watches = Self { client, health, kinds, streams: SelectAll::new(), can_stream: true };
        let is_optional = |(index, kind): (usize, &KindWatch)| (kind.how.need == Need::Optional).then_some(index);
        let optional: Vec<usize> = watches.kinds.iter().enumerate().filter_map(is_optional).collect();
        for index in optional {
            watches.begin(index, Duration::ZERO);
        }
        watches.begin_next_required();
        watches
    }

    /// How far the first list of each kind is.
    pub fn progress(&self) -> impl Iterator<Item = (&'static Kind, Need, Progress)> + '_ {
        self.kinds.iter().map(|kind| (kind.wanted.kind, kind.how.need, kind.progress))
    }

    /// Lists a kind again after a pause.
    pub fn list_again(&mut self, kind: &Kind) {
        if let Some(index) = self.kinds.iter().position(|watch| watch.wanted.kind == kind) {
            self.begin(index, pause());
        }
    }

    /// Waits for the next event. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> (&'static Kind, WatchEvent) {
        loop {
            let deadline = self.kinds.iter().filter_map(|kind| kind.listing).map(Listing::deadline).min();
            let stuck = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                biased;
                Some((index, raw)) = self.streams.next() => self.take(index, raw),
                () = stuck => self.give_up_stuck(),
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    /// Begins the watch of a kind after a pause, in place of one that may be running.
    fn begin(&mut self, index: usize, pause: Duration) {
        let can_stream = self.can_stream;
        let Some(kind) = self.kinds.get_mut(index) else { return };
        let streams = can_stream && !kind.is_stuck;
        let config = watcher::Config {
            // All of it from the API server's memory in one answer; pages would be read from etcd, for every node.
            page_size: None,
            initial_list_strategy: if streams { InitialListStrategy::StreamingList } else { InitialListStrategy::ListWatch },
            field_selector: kind.wanted.field_selector.clone(),
            timeout: Some(u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX)),
            ..watcher::Config::default()
        };
        let events = (kind.how.start)(&self.client, config);
        let paused = stream::once(tokio::time::sleep(pause)).filter_map(|()| std::future::ready(None)).chain(events);
        let (events, handle) = stream::abortable(paused.map(move |raw| (index, raw)));
        if let Some(before) = kind.running.replace(handle) {
            before.abort();
        }
        self.streams.push(events.boxed());
        self.expect_list(index, pause);
    }

    /// Begins the first required kind that is not watched yet.
    fn begin_next_required(&mut self) {
        let is_next = |kind: &KindWatch| kind.how.need == Need::Required && kind.running.is_none();
        if let Some(index) = self.kinds.iter().position(is_next) {
            self.begin(index, Duration::ZERO);
        }
    }

    /// A list of this kind begins after a pause.
    fn expect_list(&mut self, index: usize, pause: Duration) {
        let start = Instant::now() + pause;
        let can_stream = self.can_stream;
        if let Some(kind) = self.kinds.get_mut(index) {
            let streams = can_stream && !kind.is_stuck;
            kind.listing = streams.then(|| Listing { quiet: start + STUCK, endless: start + ENDLESS });
        }
    }

    fn give_up_stuck(&mut self) -> Option<(&'static Kind, WatchEvent)> {
        let now = Instant::now();
        let is_over = |kind: &KindWatch| kind.listing.is_some_and(|listing| listing.deadline() <= now);
        let index = self.kinds.iter().position(is_over)?;
        let kind = self.kinds.get_mut(index)?;
        kind.is_stuck = true;
        kind.fail();
        let name = kind.wanted.kind;
        self.begin(index, pause());
        Some((name, WatchEvent::Stuck))
    }

    fn take(&mut self, index: usize, raw: Raw) -> Option<(&'static Kind, WatchEvent)> {
        let watch = self.kinds.get_mut(index)?;
        let kind = watch.wanted.kind;
        let event = match raw {
            Raw::Begin => {
                self.expect_list(index, Duration::ZERO);
                WatchEvent::ListBegan
            }
            Raw::Present(key, value) => {
                watch.expect_more();
                watch.has_objects = true;
                WatchEvent::Present(key, value)
            }
            Raw::Removed(key) => {
                watch.expect_more();
                WatchEvent::Removed(key)
            }
            Raw::End => {
                let is_first = watch.progress != Progress::Listed;
                watch.end();
                if is_first && watch.how.need == Need::Required {
                    self.begin_next_required();
                }
                WatchEvent::ListEnded
            }
            Raw::Failed { text, code: NOT_FOUND } if watch.how.need == Need::Optional => {
                return self.unavailable(index, text).map(|event| (kind, event));
            }
            Raw::Failed { text, .. } => {
                watch.fail();
                // It is tried again after a pause, and a connection that is silent ends by itself.
                if watch.listing.is_some() {
                    self.expect_list(index, 2 * SILENCE);
                }
                self.health.failed(kind, text.clone());
                WatchEvent::Failed(text)
            }
            Raw::CannotStream => {
                self.can_stream = false;
                self.begin(index, Duration::ZERO);
                WatchEvent::CannotStream
            }
            Raw::Lost(text) => {
                self.health.failed(kind, text.clone());
                self.begin(index, pause());
                WatchEvent::Lost(text)
            }
        };
        Some((kind, event))
    }

    /// The API server does not serve an optional kind. Reported once, until it does.
    ///
    /// The watch begins anew each time: one that was cut must not go on where it was, because what it would go on with may be gone.
    fn unavailable(&mut self, index: usize, text: String) -> Option<WatchEvent> {
        let watch = self.kinds.get_mut(index)?;
        let before = std::mem::replace(&mut watch.progress, Progress::Unavailable);
        let is_removed = watch.is_removed();
        let pause = watch.retry + jitter();
        watch.retry = (2 * watch.retry).min(RETRY_MOST);
        self.health.unavailable(watch.wanted.kind, text.clone());
        self.begin(index, pause);
        if let Some(watch) = self.kinds.get_mut(index) {
            // It is an answer that is waited for, and no list.
            watch.listing = None;
        }
        if is_removed {
            return Some(WatchEvent::KindRemoved);
        }
        (before != Progress::Unavailable).then_some(WatchEvent::Unavailable(text))
    }
}

#[cfg(test)]
mod tests;
