//! Taking the CNI plugin out of the node's chain when the agent is removed for good.
//!
//! Without an agent the plugin lets no pod start, so it must not stay behind. That an agent ends proves nothing: it may be killed,
//! evicted or upgraded. What counts is the DaemonSet that made the agent's pod: the plugin leaves when the API server reports
//! that this DaemonSet is deleted, and no other has taken its place. In every other case the plugin stays.
//!
//! The agent's rights are often deleted a moment after the DaemonSet, and a question gets no answer then. So the agent watches
//! the DaemonSet: a watch goes on when the rights with which it began are deleted.
//!
//! - `evidence`: what is known of the DaemonSet, and what follows from it.

mod evidence;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use policy_core::model::ObjectKey;
use policy_input::cluster::{Access, AccessError, full_text};

use self::evidence::{Evidence, Observation, Owner, Verdict};
use crate::chain::install::Kept;

/// The API server ends the watch after this time; then the agent's pod is read again, because it may have another owner.
const WATCH_SECONDS: u32 = 290;
/// Nothing read from a connection for this long means that it is dead: bookmarks come every 60 to 75 seconds.
const SILENCE: Duration = Duration::from_secs(100);
const CONNECT: Duration = Duration::from_secs(10);
/// What did not work is tried again this often.
const AGAIN: Duration = Duration::from_secs(5);
/// A DaemonSet that is deleted and made again in one step of a deployment is back in this time.
const SUCCESSOR: Duration = Duration::from_secs(5);
/// The last look must end before the kubelet kills the agent.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// Why it is not known what has become of the DaemonSet.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("cannot make a client of the API: {0}")]
    Client(#[source] kube::Error),
    #[error("cannot watch the DaemonSet: {0}")]
    Watch(#[source] kube::Error),
    /// The API server ended the watch with a status.
    #[error("{0}")]
    Refused(String),
    #[error("no DaemonSet owns the pod `{0}`")]
    NoOwner(ObjectKey),
    #[error("cannot read the pod `{pod}`: {source}")]
    Pod { pod: ObjectKey, source: kube::Error },
    #[error("cannot read the DaemonSet `{name}`: {source}")]
    DaemonSet { name: String, source: kube::Error },
}

/// Watches the DaemonSet of the agent's own pod.
pub struct Removal {
    access: Access,
    pod: ObjectKey,
    kept: Kept,
    evidence: Mutex<Evidence>,
    /// Whether the log has the message that the DaemonSet is watched.
    is_watching: AtomicBool,
    tell: Box<dyn Fn() + Send + Sync>,
    /// How long a successor is waited for.
    successor: Duration,
}

impl Removal {
    /// Watches the DaemonSet of this pod, in which the agent runs. `tell` is called when the plugin has left the chain.
    #[must_use]
    pub fn new(access: Access, pod: ObjectKey, kept: Kept, tell: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let evidence = Mutex::new(Evidence::default());
        let is_watching = AtomicBool::new(false);
        Arc::new(Self { access, pod, kept, evidence, is_watching, tell: Box::new(tell), successor: SUCCESSOR })
    }

    /// Watches until the plugin has left the chain.
    pub async fn watch(self: Arc<Self>) {
        let mut last = None;
        while !self.kept.has_left() {
            let trouble = self.follow().await.err().map(|error| full_text(&error));
            if let Some(error) = trouble.as_ref().filter(|_| trouble != last) {
                tracing::warn!(
                    error,
                    "cannot watch the DaemonSet of the agent; if it is deleted, run `uninstall-cni` on the node"
                );
            }
            last = trouble;
            if self.evidence().verdict() == Verdict::Leave {
                tokio::time::sleep(self.successor).await;
                self.decide().await;
            } else {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Looks once more, and takes the plugin out of the chain if the DaemonSet is deleted for good. This ends in a few seconds, with
    /// or without an API server.
    pub async fn decide(&self) {
        match tokio::time::timeout(LAST_LOOK, self.look()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!(error = full_text(&error), "cannot check the DaemonSet of the agent"),
            Err(_) => tracing::info!("cannot check the DaemonSet of the agent: the API server does not answer in time"),
        }
        if self.evidence().verdict() == Verdict::Leave && !self.kept.has_left() {
            self.leave();
        }
    }

    fn leave(&self) {
        match self.kept.leave() {
            Ok(changed) => {
                tracing::warn!(?changed, "the DaemonSet of the agent was deleted; removed the CNI plugin from the chain");
                (self.tell)();
            }
            Err(error) => {
                tracing::error!(%error, "the DaemonSet of the agent was deleted, but the CNI plugin cannot be removed from the chain")
            }
        }
    }

    fn evidence(&self) -> MutexGuard<'_, Evidence> {
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn client(&self) -> Result<Client, FollowError> {
        let mut config = self.access.config().await?;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(SILENCE);
        Client::try_from(config).map_err(FollowError::Client)
    }

    /// Follows the DaemonSet until its watch ends, or until it is deleted.
    async fn follow(&self) -> Result<(), FollowError> {
        let client = self.client().await?;
        let owner = self.owner(&client).await?;
        let daemonsets: Api<DaemonSet> = Api::namespaced(client, &self.pod.namespace);
        let params = WatchParams::default().fields(&format!("metadata.name={}", owner.name)).timeout(WATCH_SECONDS);
        let watch = daemonsets.watch_metadata(&params, "").await.map_err(FollowError::Watch)?;
        let mut watch = std::pin::pin!(watch);
        // The watch has begun, so nothing that happens after this question goes unseen.
        let there = observe(&daemonsets, &owner).await?;
        self.evidence().take(&owner, there);
        if !self.is_watching.swap(true, Ordering::Relaxed) {
            tracing::info!(daemonset = owner.name, "watching the DaemonSet of the agent");
        }
        while self.evidence().verdict() == Verdict::Stay {
            match watch.next().await {
                None => return Ok(()),
                Some(Err(error)) => return Err(FollowError::Watch(error)),
                Some(Ok(WatchEvent::Error(status))) => return Err(FollowError::Refused(status.message)),
                Some(Ok(WatchEvent::Bookmark(_))) => {}
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    self.evidence().take(&owner, Observation::there(&object.metadata));
                }
                Some(Ok(WatchEvent::Deleted(object))) => {
                    self.evidence().take(&owner, Observation::deleted(&object.metadata));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Asks once what has become of the DaemonSet.
    async fn look(&self) -> Result<(), FollowError> {
        let client = self.client().await?;
        // The pod may have lost its owner: the DaemonSet is deleted, and its pods stay.
        let owner = self.owner(&client).await?;
        let there = observe(&Api::namespaced(client, &self.pod.namespace), &owner).await?;
        self.evidence().take(&owner, there);
        Ok(())
    }

    /// The DaemonSet that owns the agent's pod; the last one that was read if the pod cannot be read.
    async fn owner(&self, client: &Client) -> Result<Owner, FollowError> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.pod.namespace);
        match pods.get_metadata(&self.pod.name).await {
            Ok(pod) => {
                let owner = evidence::owner_of(&pod.metadata);
                self.evidence().belong_to(owner.clone());
                owner.ok_or_else(|| FollowError::NoOwner(self.pod.clone()))
            }
            Err(source) => self.evidence().owner().ok_or_else(|| FollowError::Pod { pod: self.pod.clone(), source }),
        }
    }
}

/// Reads what has become of a DaemonSet.
async fn observe(daemonsets: &Api<DaemonSet>, owner: &Owner) -> Result<Observation, FollowError> {
    let result: kube::Result<PartialObjectMeta<DaemonSet>> = daemonsets.get_metadata(&owner.name).await;
    match result {
        Ok(object) => Ok(Observation::there(&object.metadata)),
        // Proxies and API servers that are starting answer 404, too, but do not name the object.
        Err(kube::Error::Api(status))
            if status.code == 404
                && status.reason == "NotFound"
                && status.details.as_ref().is_some_and(|details| details.name == owner.name && details.kind == "daemonsets") =>
        {
            Ok(Observation::NotFound)
        }
        Err(source) => Err(FollowError::DaemonSet { name: owner.name.clone(), source }),
    }
}

#[cfg(test)]
mod tests;
