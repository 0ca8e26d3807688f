//! What is known of the DaemonSet that owns the agent's pod, and what follows from it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// A DaemonSet, as an owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Owner {
    pub name: String,
    pub uid: String,
}

/// What the API server reports about the DaemonSet of this name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Observation {
    /// It is there.
    There {
        uid: String,
        /// It is about to go: something waits for its pods to go first, or to be released.
        is_deleting: bool,
        /// Its pods are to stay when it goes.
        leaves_pods: bool,
    },
    /// It is deleted.
    Deleted { uid: String },
    /// There is none of this name.
    NotFound,
}

impl Observation {
    pub(super) fn there(metadata: &ObjectMeta) -> Self {
        Self::There {
            uid: metadata.uid.clone().unwrap_or_default(),
            is_deleting: metadata.deletion_timestamp.is_some(),
            leaves_pods: metadata.finalizers.iter().flatten().any(|finalizer| finalizer == "orphan"),
        }
    }

    pub(super) fn deleted(metadata: &ObjectMeta) -> Self {
        Self::Deleted { uid: metadata.uid.clone().unwrap_or_default() }
    }
}

/// Whether the plugin stays in the chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It stays: nothing is known, or the agent is there to stay, or another comes.
    Stay,
    /// It leaves: the DaemonSet is deleted, and the agent goes with it.
    Leave,
}

/// The DaemonSet that controls a pod.
pub(super) fn owner_of(pod: &ObjectMeta) -> Option<Owner> {
    let owners = pod.owner_references.iter().flatten();
    let mut daemonsets = owners.filter(|owner| owner.kind == "DaemonSet" && owner.controller == Some(true));
    daemonsets.next().map(|owner| Owner { name: owner.name.clone(), uid: owner.uid.clone() })
}

/// All that was observed.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    owner: Option<Owner>,
    is_deleted: bool,
    leaves_pods: bool,
    /// Another DaemonSet of the same name has come.
    has_successor: bool,
}

impl Evidence {
    /// The owner of the pod, as far as it is known.
    pub(super) fn owner(&self) -> Option<Owner> {
        self.owner.clone()
    }

    /// The pod belongs to this DaemonSet, or to none: what was known of another one does not apply.
    pub(super) fn belong_to(&mut self, owner: Option<Owner>) {
        if self.owner != owner {
            *self = Self { owner, ..Self::default() };
        }
    }

    /// Takes what was observed about the DaemonSet of an owner's name.
    pub(super) fn take(&mut self, owner: &Owner, observation: Observation) {
        if self.owner.as_ref() != Some(owner) {
            return;
        }
        match observation {
            Observation::There { uid, is_deleting, leaves_pods } if uid == owner.uid => {
                self.is_deleted |= is_deleting;
                self.leaves_pods |= is_deleting && leaves_pods;
            }
            Observation::There { is_deleting, .. } => {
                self.is_deleted = true;
                self.has_successor = !is_deleting;
            }
            Observation::Deleted { uid } if uid == owner.uid => self.is_deleted = true,
            Observation::Deleted { .. } => self.has_successor = false,
            Observation::NotFound => {
                self.is_deleted = true;
                self.has_successor = false;
            }
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        if self.is_deleted && !self.leaves_pods && !self.has_successor { Verdict::Leave } else { Verdict::Stay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: &str) -> Owner {
        Owner { name: "netpol".to_owned(), uid: uid.to_owned() }
    }

    fn there(uid: &str) -> Observation {
        Observation::There { uid: uid.to_owned(), is_deleting: false, leaves_pods: false }
    }

    fn deleting(uid: &str, leaves_pods: bool) -> Observation {
        Observation::There { uid: uid.to_owned(), is_deleting: true, leaves_pods }
    }

    fn deleted(uid: &str) -> Observation {
        Observation::Deleted { uid: uid.to_owned() }
    }

    /// What follows from these observations, for a pod of the DaemonSet with UID 1.
    fn verdict(observations: impl IntoIterator<Item = Observation>) -> Verdict {
        let mut evidence = Evidence::default();
        evidence.belong_to(Some(owner("1")));
        observations.into_iter().for_each(|observation| evidence.take(&owner("1"), observation));
        evidence.verdict()
    }

    #[test]
    fn the_plugin_leaves_when_the_daemonset_is_deleted_for_good() {
        use Observation::NotFound;
        for observations in [
            // In the background: it is gone at once, and its pods follow.
            vec![there("1"), deleted("1")],
            vec![there("1"), NotFound],
            vec![NotFound],
            // In the foreground: it waits for its pods.
            vec![there("1"), deleting("1", false)],
            // What took its place is deleted as well.
            vec![deleted("1"), there("2"), deleted("2")],
            vec![there("2"), deleting("2", false)],
        ] {
            assert_eq!(verdict(observations.clone()), Verdict::Leave, "{observations:?}");
        }
    }

    #[test]
    fn the_plugin_stays_when_an_agent_stays() {
        for observations in [
            vec![],
            vec![there("1")],
            // An upgrade changes the DaemonSet and does not delete it.
            vec![there("1"), there("1"), there("1")],
            // Made again under the same name.
            vec![deleted("1"), there("2")],
            vec![there("2")],
            // Deleted without its pods.
            vec![there("1"), deleting("1", true)],
            vec![there("1"), deleting("1", true), deleted("1")],
            vec![there("1"), deleting("1", true), Observation::NotFound],
        ] {
            assert_eq!(verdict(observations.clone()), Verdict::Stay, "{observations:?}");
        }
    }

    #[test]
    fn a_pod_that_was_released_or_adopted_begins_anew() {
        let mut evidence = Evidence::default();
        evidence.belong_to(Some(owner("1")));
        evidence.take(&owner("1"), deleted("1"));
        evidence.belong_to(None);
        assert_eq!(evidence.verdict(), Verdict::Stay, "the pod stays");
        evidence.take(&owner("1"), Observation::NotFound);
        assert_eq!(evidence.verdict(), Verdict::Stay, "this is no longer its DaemonSet");
        evidence.belong_to(Some(owner("2")));
        assert_eq!(evidence.verdict(), Verdict::Stay);
        evidence.take(&owner("2"), deleted("2"));
        assert_eq!(evidence.verdict(), Verdict::Leave);
    }
}
