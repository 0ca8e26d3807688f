//! Everything that was read, put together: workloads stand for their pods, owners are resolved, namespaces are complete.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use super::claims::Claims;
use super::kinds;
use super::lower::OwnerName;
use super::places::Places;
use super::unread::Unread;
use crate::diagnostic::rules::objects;
use crate::diagnostic::{Diagnostic, ObjectRef};
use crate::model::{Change, NAME_LABEL, Namespace, Node, ObjectKey, Origin, Pod, Policy, Service, WorkloadKey};

/// What the files describe.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Namespaces by name; those that no file declares are assumed, with a warning (S1.36).
    pub namespaces: BTreeMap<String, Namespace>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// Pods, those that workloads stand for included.
    pub pods: BTreeMap<ObjectKey, Pod>,
    /// Policies, the faulty ones in their fail-closed form.
    pub policies: BTreeMap<ObjectKey, Policy>,
    /// Workloads by namespace, then kind and name. A pod without controller is a workload of kind `Pod`.
    pub workloads: BTreeMap<(String, WorkloadKey), Workload>,
    /// Everything that there is to say about the files, in the order read.
    pub diagnostics: Vec<Diagnostic>,
    /// Where objects are written; empty unless the loader was asked to keep it ([`super::Loader::with_places`]).
    pub places: Places,
    /// Objects that do not matter, counted by kind.
    pub skipped: BTreeMap<String, usize>,
    /// Policies that are not evaluated.
    pub foreign: Vec<Foreign>,
    /// Services, which decide nothing: connections to them are judged at the pods behind them (S5.1).
    pub services: BTreeMap<ObjectKey, Service>,
    /// Objects of a live cluster that objects of files replace, as applying the files would; sorted.
    pub replaced: Vec<ObjectRef>,
    /// What could not be read at all, in the order met. There is an error about each.
    pub unread: Vec<Unread>,
    /// How many Kubernetes objects stand in the files, of every kind; lists count beside their items, so that an empty list is
    /// something, and a file of comments is not.
    pub objects: usize,
}

/// A workload and its pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its pods, sorted.
    pub pods: Vec<ObjectKey>,
    /// How many pods each of them stands for.
    pub replicas: Replicas,
}

/// How many real pods one pod of a snapshot stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Replicas {
    /// Itself.
    One,
    /// Two or more, so that it also has itself as a peer.
    Several,
}

/// A policy that is not evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Foreign {
    /// Its apiVersion.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace; `None` when it can concern every namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Where it is written.
    pub origin: Origin,
}

impl Snapshot {
    /// Whether something in the files is wrong.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// Whether the files hold no document at all: they are empty, or hold comments and white space.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.objects == 0 && self.skipped.is_empty() && self.diagnostics.is_empty()
    }

    /// The changes that turn this snapshot into another, kind by kind as in [`Self::changes`].
    #[must_use]
    pub fn difference(&self, after: &Self) -> Vec<Change> {
        kinds::difference(self, after)
    }

    /// The snapshot as changes, for a compiler that has seen nothing: namespaces and nodes first, then policies and pods.
    pub fn changes(&self) -> impl Iterator<Item = Change> + '_ {
        kinds::changes(self)
    }

    /// The objects of one apiVersion and kind as changes; none when the compiler takes no objects of the kind.
    #[must_use]
    pub fn into_changes_of(self, api_version: &str, kind: &str) -> Vec<Change> {
        kinds::into_changes_of(self, api_version, kind)
    }
}

/// A workload as read.
pub(crate) struct WorkloadObject {
    pub kind: String,
    pub key: ObjectKey,
    pub controller: Option<OwnerName>,
    pub pods: Vec<Pod>,
    pub replicas: Replicas,
}

/// What the loader collects.
#[derive(Default)]
pub(crate) struct Assembly {
    pub namespaces: BTreeMap<String, Namespace>,
    pub nodes: BTreeMap<String, Node>,
    pub pods: Vec<(Pod, Option<OwnerName>, Origin)>,
    pub workloads: Vec<WorkloadObject>,
    pub diagnostics: Vec<Diagnostic>,
    pub skipped: BTreeMap<String, usize>,
    pub foreign: Vec<Foreign>,
    pub services: BTreeMap<ObjectKey, Service>,
    pub unread: Vec<Unread>,
    pub objects: usize,
    pub policies: BTreeMap<ObjectKey, Policy>,
    pub claims: Claims,
}

impl Assembly {
    pub(crate) fn finish(mut self) -> Snapshot {
        self.settle();
        let mut owners = Owners::new(&self.workloads, &self.pods);
        let mut pods = BTreeMap::new();
        let mut members: BTreeMap<(String, WorkloadKey), Workload> = BTreeMap::new();
        let add = |pod: Pod, owner: WorkloadKey, replicas, members: &mut BTreeMap<_, Workload>, pods: &mut BTreeMap<_, _>| {
            let workload =
                members.entry((pod.key.namespace.clone(), owner.clone())).or_insert(Workload { pods: Vec::new(), replicas });
            workload.pods.push(pod.key.clone());
            pods.insert(pod.key.clone(), Pod { owner: Some(owner), ..pod });
        };
        for (pod, controller, _) in std::mem::take(&mut self.pods) {
            let owner = owners.of_pod(&pod, controller.as_ref());
            add(pod, owner, Replicas::One, &mut members, &mut pods);
        }
        for object in std::mem::take(&mut self.workloads) {
            if owners.is_stood_for(&object) {
                continue;
            }
            let owner = WorkloadKey { kind: object.kind, name: object.key.name };
            for pod in object.pods {
                add(pod, owner.clone(), object.replicas, &mut members, &mut pods);
            }
        }
        for workload in members.values_mut() {
            workload.pods.sort();
            workload.pods.dedup();
        }
        let policies = std::mem::take(&mut self.policies);
        self.assume_namespaces(pods.keys().chain(policies.keys()).map(|key| key.namespace.clone()).collect());
        Snapshot {
            namespaces: self.namespaces,
            nodes: self.nodes,
            pods,
            policies,
            workloads: members,
            diagnostics: self.diagnostics,
            places: Places::default(),
            skipped: self.skipped,
            foreign: self.foreign,
            services: self.services,
            replaced: self.claims.into_replaced(),
            unread: self.unread,
            objects: self.objects,
        }
    }

    /// S1.36.
    fn assume_namespaces(&mut self, used: BTreeSet<String>) {
        for name in used {
            if self.namespaces.contains_key(&name) {
                continue;
            }
            let message = format!("no file declares it; it is assumed to have the label `{NAME_LABEL}={name}` and no other");
            self.diagnostics.push(
                Diagnostic::new(&objects::UNDECLARED_NAMESPACE, message)
                    .about(ObjectRef::global("Namespace", &name))
                    .help("add the Namespace object if policies select it by its labels"),
            );
            self.namespaces.insert(name.clone(), Namespace::assumed(name));
        }
    }
}

/// Finds the workload that users know a pod by.
pub(super) struct Owners {
    /// Controllers of workloads that were read: (namespace, kind, name) to the controller above.
    above: HashMap<(String, String, String), Option<OwnerName>>,
    /// Workloads that have real pods.
    with_pods: HashSet<(String, WorkloadKey)>,
}

impl Owners {
    pub(super) fn new(workloads: &[WorkloadObject], pods: &[(Pod, Option<OwnerName>, Origin)]) -> Self {
        let above = workloads
            .iter()
            .map(|w| ((w.key.namespace.clone(), w.kind.clone(), w.key.name.clone()), w.controller.clone()))
            .collect();
        let mut owners = Self { above, with_pods: HashSet::new() };
        for (pod, controller, _) in pods {
            let owner = owners.of_pod(pod, controller.as_ref());
            owners.with_pods.insert((pod.key.namespace.clone(), owner));
        }
        owners
    }

    pub(super) fn of_pod(&mut self, pod: &Pod, controller: Option<&OwnerName>) -> WorkloadKey {
        // Mirror pods of static pods are controlled by their node, which is no workload.
        let Some(controller) = controller.filter(|c| c.kind != "Node") else {
            return WorkloadKey { kind: "Pod".to_owned(), name: pod.key.name.clone() };
        };
        let mut owner = controller.clone();
        let key = (pod.key.namespace.clone(), owner.kind.clone(), owner.name.clone());
        match self.above.get(&key) {
            Some(Some(above)) => owner = above.clone(),
            Some(None) => {}
            // A dump without ReplicaSets: their names are the Deployment's name and the template hash.
            None if owner.kind == "ReplicaSet" => {
                let hash = pod.labels.get("pod-template-hash").map(|hash| format!("-{hash}"));
                if let Some(name) = hash.and_then(|hash| owner.name.strip_suffix(&hash).map(str::to_owned)) {
                    owner = OwnerName { kind: "Deployment".to_owned(), name };
                }
            }
            None => {}
        }
        WorkloadKey { kind: owner.kind, name: owner.name }
    }

    /// Whether real pods, or the workload above it, stand for this one.
    fn is_stood_for(&self, object: &WorkloadObject) -> bool {
        let namespace = &object.key.namespace;
        let own = WorkloadKey { kind: object.kind.clone(), name: object.key.name.clone() };
        if self.with_pods.contains(&(namespace.clone(), own)) {
            return true;
        }
        object.controller.as_ref().is_some_and(|above| {
            let above_key = WorkloadKey { kind: above.kind.clone(), name: above.name.clone() };
            self.above.contains_key(&(namespace.clone(), above.kind.clone(), above.name.clone()))
                || self.with_pods.contains(&(namespace.clone(), above_key))
        })
    }
}
