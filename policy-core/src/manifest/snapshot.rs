//! Everything that was read, put together. Which pods it stands for is up to `workloads`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::claims::Claims;
use super::kinds;
use super::lower::{OwnerName, Template};
use super::makers::PodMaker;
use super::places::Places;
use super::unread::Unread;
use super::workloads::{self, AskedValues, Represented};
use crate::diagnostic::rules::objects;
use crate::diagnostic::{Diagnostic, ObjectRef};
use crate::model::{Change, Labels, NAME_LABEL, Namespace, Node, ObjectKey, Origin, Pod, Policy, Service, WorkloadKey};

/// What the files describe.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Namespaces by name; those that no file declares are assumed, with a warning (S1.36).
    pub namespaces: BTreeMap<String, Namespace>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// Pods, those that workloads stand for included.
    pub pods: BTreeMap<ObjectKey, Pod>,
    /// Pods of the input that have no address yet, and are evaluated as what they will be (S2.22).
    pub pending: BTreeSet<ObjectKey>,
    /// Policies, the faulty ones in their fail-closed form.
    pub policies: BTreeMap<ObjectKey, Policy>,
    /// The annotations `netpol.io/ignore` of policies: the lint rules that do not apply to them.
    pub ignores: BTreeMap<ObjectKey, String>,
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
    /// Documents that are no Kubernetes objects, and that something that was lost may be in.
    pub no_objects: Vec<Origin>,
    /// Lists that are one page of several, so that objects of their kind are missing.
    pub partial_lists: Vec<Origin>,
    /// What a saved cluster has, and whoever saved it could not read, in sentences.
    pub not_read: Vec<String>,
    /// Objects whose pods a controller makes in a way that is not known, in the order read.
    pub makers: Vec<PodMaker>,
    /// Whether the input holds pods as a cluster reports them, with their status.
    pub has_reported_pods: bool,
    /// How many Kubernetes objects stand in the files, of every kind; lists count beside their items, so that an empty list is
    /// something, and a file of comments is not.
    pub objects: usize,
}

/// A workload and the pods that it is evaluated as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its pods, sorted.
    pub pods: Vec<ObjectKey>,
    /// How many pods it can have.
    pub replicas: Replicas,
    /// Where its pods come from.
    pub basis: Basis,
    /// Labels of its pods that selectors ask for and whose values are not known before the pods run. There is a pod for each value that
    /// is asked for, and one for all others.
    pub unknown_labels: BTreeSet<String>,
    /// How many of its pods are listed.
    pub extent: Extent,
    /// Labels of the workload itself that its pods do not have.
    pub own_labels: Labels,
    /// What of its template none of its running pods has, though policies ask for it, in words such as "the label `app`".
    pub outdated: BTreeSet<String>,
    /// Pods that selectors name, that it can have, and that do not run beside those that do; sorted by number.
    pub absent: Vec<String>,
}

/// How many pods a workload can have at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Replicas {
    /// One at most, which has no peer of its own kind.
    One,
    /// Any number. A pod of a template stands for all of them, and a pod of the input for itself.
    Several,
    /// Any number, each with an identity of its own, so that each pod stands for itself.
    Numbered,
}

/// Where the pods of a workload come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// From the input.
    Pods,
    /// From its template, because none of its pods runs (S2.23).
    Template,
}

/// How many of the pods of a workload are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// One for all pods that no selector distinguishes, at least.
    Whole,
    /// There are so many that only those are listed that selectors name, and one for all others.
    Named {
        /// How many pods it will have.
        count: i64,
    },
    /// Selectors name so many that some are missing.
    Cut,
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
    /// Whether it is a hook of Helm or Argo CD that a cluster has only for a moment.
    pub is_hook: bool,
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

    /// The objects whose pods are not in the input, and are not known.
    pub fn unknown_pods(&self) -> impl Iterator<Item = &PodMaker> {
        self.makers.iter().filter(|maker| maker.workloads.is_empty())
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
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct WorkloadObject {
    pub kind: String,
    pub key: ObjectKey,
    pub controller: Option<OwnerName>,
    pub template: Template,
    pub replicas: Replicas,
    /// Its labels that the template lacks.
    pub own_labels: Labels,
}

/// How many pods an autoscaler can give to a StatefulSet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Autoscaler {
    /// The autoscaler itself.
    pub object: ObjectRef,
    pub namespace: String,
    /// The name of the StatefulSet.
    pub target: String,
    pub most: i64,
}

/// A workload whose pods have the template of another one.
pub(crate) struct Borrower {
    /// What it is if that one is not in the input.
    pub maker: PodMaker,
    pub controller: Option<OwnerName>,
    pub target: WorkloadKey,
}

/// What the loader collects.
#[derive(Default)]
pub(crate) struct Assembly {
    pub namespaces: BTreeMap<String, Namespace>,
    pub nodes: BTreeMap<String, Node>,
    pub pods: Vec<(Pod, Option<OwnerName>, Origin)>,
    pub workloads: Vec<WorkloadObject>,
    pub makers: Vec<(PodMaker, Option<OwnerName>)>,
    pub autoscalers: Vec<Autoscaler>,
    pub borrowers: Vec<Borrower>,
    /// Whether pods count that are yet to be made or to run, beyond the workloads of which no pod is there.
    pub expects_pods: bool,
    pub diagnostics: Vec<Diagnostic>,
    pub skipped: BTreeMap<String, usize>,
    pub foreign: Vec<Foreign>,
    pub services: BTreeMap<ObjectKey, Service>,
    pub unread: Vec<Unread>,
    pub no_objects: Vec<Origin>,
    pub partial_lists: Vec<Origin>,
    pub not_read: Vec<String>,
    pub objects: usize,
    pub policies: BTreeMap<ObjectKey, Policy>,
    pub ignores: BTreeMap<ObjectKey, String>,
    pub claims: Claims,
}

impl Assembly {
    pub(crate) fn finish(mut self) -> Snapshot {
        self.settle();
        let policies = std::mem::take(&mut self.policies);
        let pods = std::mem::take(&mut self.pods).into_iter().map(|(pod, controller, _)| (pod, controller)).collect();
        let mut workloads = std::mem::take(&mut self.workloads);
        workloads::scale(&mut workloads, &self.autoscalers);
        let makers = std::mem::take(&mut self.makers);
        let asked = AskedValues::of(policies.values());
        let Represented { pods, pending, workloads, makers, has_reported_pods } =
            workloads::represent(pods, workloads, makers, &asked, self.expects_pods);
        self.assume_namespaces(pods.keys().chain(policies.keys()).map(|key| key.namespace.clone()).collect());
        Snapshot {
            namespaces: self.namespaces,
            nodes: self.nodes,
            pods,
            pending,
            policies,
            ignores: self.ignores,
            workloads,
            diagnostics: self.diagnostics,
            places: Places::default(),
            skipped: self.skipped,
            foreign: self.foreign,
            services: self.services,
            replaced: self.claims.into_replaced(),
            unread: self.unread,
            no_objects: self.no_objects,
            partial_lists: self.partial_lists,
            not_read: self.not_read,
            makers,
            has_reported_pods,
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
