//! The Kubernetes API as source: one watch for each kind that decides about traffic, and nothing else asked of the API server.
//!
//! `policy_input::cluster` has the table of kinds, and watches them. What is about this node is here: which pods are in quarantine, what
//! changes for the compiler, and when everything is known. The last known objects stay in force while a watch cannot be resumed.
//!
//! - `store`: what is known, and what an event changes about it.

mod kind_state;
mod store;
mod unknown_namespaces;

use std::time::Duration;

use futures::FutureExt;
use kube::Client;
use policy_input::cluster::Access;
use policy_input::cluster::health::WatchHealth;
use policy_input::cluster::kinds::{self, Kind, NODE, Need, POD};
use policy_input::cluster::watch::{self, Progress, Wanted, WatchEvent, Watches};

use self::store::Store;
use super::heartbeat::ENDED;
use super::{HealthCheck, Source, SourceUpdate, SyncState};

/// The maximum number of changes in one update.
const BATCH: usize = 1024;
/// A connection that cannot even be described is tried again this often.
const AGAIN: Duration = Duration::from_secs(5);

/// The Kubernetes API.
pub struct Kubernetes {
    access: Access,
    node: String,
    health: WatchHealth,
}

impl Kubernetes {
    /// The API as this node sees it.
    #[must_use]
    pub fn new(access: Access, node: String) -> Self {
        Self { access, node, health: WatchHealth::new(kinds::watched()) }
    }

    async fn watch(&self, tell: &mut dyn FnMut(SourceUpdate) -> bool) {
        let client = loop {
            match watch::client(&self.access, &self.health).await {
                Ok(client) => break client,
                Err(error) => {
                    self.health.unreachable(error.to_string());
                    tracing::error!(%error, "cannot find the API server");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        let mut session = Session::new(client, self.health.clone(), &self.node, kinds::watched());
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
        let health = self.health.clone();
        Box::new(move || health.freshness())
    }

    fn run(self: Box<Self>, tell: &mut dyn FnMut(SourceUpdate) -> bool) {
        let _ending = self.health.until_dropped(ENDED);
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.watch(tell)),
            Err(error) => tracing::error!(%error, "cannot watch the API server"),
        }
    }
}

/// Which objects of a kind matter to a node.
fn wanted(kind: &'static Kind, node: &str) -> Wanted {
    // Where other nodes are decides nothing here: their addresses are like any others (S2.12). Kubelets report every few minutes, so a
    // watch of all of them would be the most expensive of all.
    let field_selector = (*kind == NODE).then(|| format!("metadata.name={node}"));
    Wanted { kind, field_selector }
}

/// The running watches, and their events.
struct Session {
    watches: Watches,
    store: Store,
    /// How much has been told; it never becomes less.
    extent: SyncState,
}

impl Session {
    fn new(client: Client, health: WatchHealth, node: &str, kinds: impl Iterator<Item = &'static Kind>) -> Self {
        let watches = Watches::new(client, health, kinds.map(|kind| wanted(kind, node)));
        Self { watches, store: Store::new(node.to_owned()), extent: SyncState::Listing }
    }

    /// Waits for an event, and takes it with all that are queued.
    async fn next(&mut self) {
        let (kind, event) = self.watches.next().await;
        self.take(kind, event);
        while self.store.waiting() < BATCH
            && let Some((kind, event)) = self.watches.next().now_or_never()
        {
            self.take(kind, event);
        }
    }

    fn take(&mut self, kind: &'static Kind, event: WatchEvent) {
        let plural = kind.plural;
        match event {
            WatchEvent::ListBegan => self.store.begin(kind),
            WatchEvent::Present(key, value) => self.store.apply(kind, &key, &value),
            WatchEvent::Removed(key) => self.store.remove(kind, &key),
            WatchEvent::ListEnded => self.store.end(kind),
            WatchEvent::KindRemoved => {
                tracing::warn!(kind = plural, "the API server has not served this kind for a minute; removed its objects");
                self.store.remove_all(kind);
            }
            WatchEvent::Failed(what) => {
                tracing::warn!(kind = plural, error = what, "watch failed; retrying");
            }
            WatchEvent::Lost(what) => {
                tracing::warn!(kind = plural, error = what, "watch cannot be resumed; listing again");
            }
            WatchEvent::CannotStream => {
                tracing::info!(kind = plural, "the API server does not support streaming lists; falling back to a list request");
            }
            WatchEvent::Stuck => {
                tracing::warn!(
                    kind = plural,
                    "the API server does not complete a streaming list; falling back to a list request"
                );
            }
            WatchEvent::Unavailable(what) => {
                tracing::info!(kind = plural, error = what, "the API server does not serve this optional kind; retrying");
            }
        }
        if self.store.must_list_pods() {
            self.watches.list_again(&POD);
        }
    }

    /// How much of what there is has been listed.
    fn listed(&self) -> SyncState {
        let of = |(_, need, progress): (_, Need, Progress)| match (need, progress) {
            (_, Progress::Listed) | (Need::Optional, Progress::Unavailable) => SyncState::Synced,
            (Need::Optional, Progress::Failing) => SyncState::Partial,
            _ => SyncState::Listing,
        };
        self.watches.progress().map(of).min().unwrap_or_default()
    }

    /// The update to send.
    fn news(&mut self) -> Option<SourceUpdate> {
        let extent = self.extent.max(self.listed());
        let is_more = extent > std::mem::replace(&mut self.extent, extent);
        let news = self.store.news().or_else(|| is_more.then(SourceUpdate::default))?;
        Some(SourceUpdate { extent, ..news })
    }
}

#[cfg(test)]
mod tests;
