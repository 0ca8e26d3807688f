//! Which pods an input stands for (S2.22 to S2.24): the live pods of a workload, or else those that its template makes.
//!
//! - `outdated`: templates that running pods differ from.
//! - `owners`: the workload that users know a pod by.
//! - `stand_ins`: the pods of a template, as far as selectors distinguish them.

mod outdated;
mod owners;
mod stand_ins;

use std::collections::{BTreeMap, BTreeSet, HashSet};

pub(super) use stand_ins::AskedValues;

use super::lower::{OwnerName, as_next_job, as_rollout};
use super::makers::{self, PodMaker};
use super::snapshot::{Autoscaler, Basis, Borrower, Extent, Replicas, Workload, WorkloadObject};
use crate::model::{Addresses, Labels, NamedPort, ObjectKey, Phase, Placement, Pod, WorkloadKey};
use outdated::outdated;
pub(in crate::manifest) use owners::Owners;
use stand_ins::{StandIns, stand_ins};

/// The pods of an input, with their workloads.
pub(super) struct Represented {
    pub pods: BTreeMap<ObjectKey, Pod>,
    pub pending: BTreeSet<ObjectKey>,
    pub workloads: BTreeMap<(String, WorkloadKey), Workload>,
    pub makers: Vec<PodMaker>,
    pub has_reported_pods: bool,
}

/// A workload while its pods are collected.
struct Entry {
    workload: Workload,
    /// Those of its pods that have no address yet.
    pending: BTreeSet<ObjectKey>,
    /// Whether one of its pods runs.
    is_live: bool,
    has_pods: bool,
}

impl Entry {
    fn new(kind: &str) -> Self {
        let replicas = match kind {
            "Pod" | "Job" => Replicas::One,
            "StatefulSet" => Replicas::Numbered,
            _ => Replicas::Several,
        };
        Self {
            workload: Workload {
                pods: Vec::new(),
                replicas,
                basis: Basis::Pods,
                unknown_labels: BTreeSet::new(),
                extent: Extent::Whole,
                own_labels: Labels::new(),
                outdated: BTreeSet::new(),
                absent: Vec::new(),
            },
            pending: BTreeSet::new(),
            is_live: false,
            has_pods: false,
        }
    }
}

type Workloads = BTreeMap<(String, WorkloadKey), Entry>;

/// Puts together what an input stands for. With `expects_pods`, a workload without a live pod is its template, and pods without an
/// address are what they will be; otherwise only a workload without any pod is its template.
///
/// Cost: linear in pods, with one look-up for each.
pub(super) fn represent(
    read: Vec<(Pod, Option<OwnerName>)>,
    objects: Vec<WorkloadObject>,
    makers: Vec<(PodMaker, Option<OwnerName>)>,
    asked: &AskedValues,
    expects_pods: bool,
) -> Represented {
    let owners = Owners::new(&objects);
    let mut pods: BTreeMap<ObjectKey, Pod> = BTreeMap::new();
    let mut workloads: Workloads = BTreeMap::new();
    let mut made = Made::new(&makers);
    let mut has_reported_pods = false;
    for (pod, controller) in read {
        let owner = owners.of_pod(&pod, controller.as_ref());
        if pod.phase == Phase::Live {
            made.note(&pod.key.namespace, controller.as_ref(), &owner);
            made.note_labels(&pod, &owner);
        }
        has_reported_pods |= pod.addresses != Addresses::Unknown;
        let key = (pod.key.namespace.clone(), owner.clone());
        let entry = workloads.entry(key).or_insert_with(|| Entry::new(&owner.kind));
        entry.has_pods = true;
        entry.is_live |= is_live(&pod);
        entry.workload.pods.push(pod.key.clone());
        if expects_pods && is_pending(&pod) {
            entry.pending.insert(pod.key.clone());
        }
        pods.insert(pod.key.clone(), Pod { owner: Some(owner), ..pod });
    }
    let mut templates: BTreeMap<(String, WorkloadKey), Vec<WorkloadObject>> = BTreeMap::new();
    for object in objects {
        let owner = owners.of_object(&object);
        // Dumps keep the old ReplicaSets of a Deployment, which make no pods any more.
        if !object.template.is_active && owner.kind != object.kind {
            continue;
        }
        made.note(&object.key.namespace, object.controller.as_ref(), &owner);
        templates.entry((object.key.namespace.clone(), owner)).or_default().push(object);
    }
    for (key, objects) in templates {
        let entry = workloads.entry(key.clone()).or_insert_with(|| Entry::new(&key.1.kind));
        let is_stood_for = if expects_pods { entry.is_live } else { entry.has_pods };
        if is_stood_for {
            beside_template(entry, &key.1, &objects, asked, &pods, expects_pods);
        } else {
            represent_by_template(entry, &key.1, objects, &owners, asked, &mut pods);
        }
    }
    let mut pending = BTreeSet::new();
    for entry in workloads.values_mut() {
        expect_pending(entry, asked, &mut pods);
        entry.workload.pods.sort();
        entry.workload.pods.dedup();
        pending.append(&mut entry.pending);
    }
    Represented {
        pods,
        pending,
        workloads: workloads.into_iter().map(|(key, entry)| (key, entry.workload)).collect(),
        makers: made.resolve(makers),
        has_reported_pods,
    }
}

/// Whether a pod stands for its workload: it runs, or a manifest describes it and no cluster has reported on it.
fn is_live(pod: &Pod) -> bool {
    pod.phase == Phase::Live && pod.placement != Placement::Unscheduled && !is_pending(pod)
}

/// Whether a pod waits for its address.
fn is_pending(pod: &Pod) -> bool {
    pod.phase == Phase::Live && !pod.is_unknown && pod.addresses == Addresses::Known(Vec::new())
}

/// The object of a workload itself, and not one between it and its pods.
fn main_of<'o>(objects: &'o [WorkloadObject], owner: &WorkloadKey) -> Option<&'o WorkloadObject> {
    objects.iter().find(|object| object.kind == owner.kind && object.key.name == owner.name)
}

/// Gives StatefulSets the pods that their autoscalers can make.
pub(super) fn scale(objects: &mut [WorkloadObject], autoscalers: &[Autoscaler]) {
    for autoscaler in autoscalers {
        let is_scaled = |object: &&mut WorkloadObject| {
            object.kind == "StatefulSet" && object.key.namespace == autoscaler.namespace && object.key.name == autoscaler.target
        };
        for object in objects.iter_mut().filter(is_scaled) {
            if let Some(numbers) = &mut object.template.numbers {
                numbers.count = numbers.count.max(autoscaler.most);
            }
        }
    }
}

/// A workload whose pods have the template of another one of its namespace.
pub(super) struct Loan {
    pub namespace: String,
    pub lender: WorkloadKey,
    pub borrower: WorkloadKey,
}

/// Gives workloads the template of another one that they name. Where it is not in the input, their pods are not known.
pub(super) fn lend(
    objects: &mut Vec<WorkloadObject>,
    makers: &mut Vec<(PodMaker, Option<OwnerName>)>,
    borrowers: Vec<Borrower>,
) -> Vec<Loan> {
    let mut loans = Vec::new();
    for Borrower { maker, controller, target } in borrowers {
        let is_lender = |object: &&WorkloadObject| {
            object.key.namespace == maker.namespace && object.kind == target.kind && object.key.name == target.name
        };
        let Some(lender) = objects.iter().find(is_lender).cloned() else {
            makers.push((maker, controller));
            continue;
        };
        let borrower = WorkloadKey { kind: maker.kind.clone(), name: maker.name.clone() };
        loans.push(Loan { namespace: maker.namespace.clone(), lender: target, borrower });
        let key = ObjectKey::new(maker.namespace, maker.name);
        objects.push(WorkloadObject {
            template: as_rollout(lender.template, &maker.kind, &key),
            kind: maker.kind,
            key,
            controller,
            replicas: Replicas::Several,
            own_labels: lender.own_labels,
        });
    }
    loans
}

/// Adds what the object of a workload says of it beside its running pods.
fn beside_template(
    entry: &mut Entry,
    owner: &WorkloadKey,
    objects: &[WorkloadObject],
    asked: &AskedValues,
    pods: &BTreeMap<ObjectKey, Pod>,
    expects_pods: bool,
) {
    let Some(main) = main_of(objects, owner) else { return };
    entry.workload.replicas = main.replicas;
    entry.workload.own_labels.clone_from(&main.own_labels);
    if expects_pods {
        let running = || entry.workload.pods.iter().filter_map(|key| pods.get(key)).filter(|pod| is_live(pod));
        entry.workload.outdated = outdated(&main.template.pod, running, asked);
        let is_running = |name: &String| running().any(|pod| pod.key.name == *name);
        entry.workload.absent = asked.ordinals_of(main).filter(|name| !is_running(name)).collect();
    }
}

/// Adds what the objects of one workload say of it, and its stand-ins.
fn represent_by_template(
    entry: &mut Entry,
    owner: &WorkloadKey,
    objects: Vec<WorkloadObject>,
    owners: &Owners,
    asked: &AskedValues,
    pods: &mut BTreeMap<ObjectKey, Pod>,
) {
    let is_main = |object: &WorkloadObject| object.kind == owner.kind && object.key.name == owner.name;
    if let Some(main) = main_of(&objects, owner) {
        entry.workload.replicas = main.replicas;
        entry.workload.own_labels.clone_from(&main.own_labels);
    }
    entry.workload.basis = Basis::Template;
    for object in standing(objects, is_main, asked) {
        let object = if object.kind == "Job" && owner.kind != "Job" {
            WorkloadObject { template: as_next_job(object.template), ..object }
        } else {
            object
        };
        let is_taken = |name: &str| owners.is_name_of_job(&object.key.namespace, name, owner);
        let StandIns { pods: made, unknown_labels, extent } = stand_ins(&object, asked, is_taken);
        entry.workload.unknown_labels.extend(unknown_labels);
        if extent != Extent::Whole {
            entry.workload.extent = extent;
        }
        for pod in made {
            // A pod of a StatefulSet that is over will be made again under its name. Somebody else's pod keeps it.
            let is_own = |other: &Pod| other.owner.as_ref() == Some(owner) && !is_live(other);
            if pods.get(&pod.key).is_none_or(is_own) {
                entry.pending.remove(&pod.key);
                entry.workload.pods.push(pod.key.clone());
                pods.insert(pod.key.clone(), Pod { owner: Some(owner.clone()), ..pod });
            }
        }
    }
}

/// The objects whose templates stand for a workload: its own, and those between it and its pods that still make other pods, as in the
/// middle of a rollout.
fn standing(objects: Vec<WorkloadObject>, is_main: impl Fn(&WorkloadObject) -> bool, asked: &AskedValues) -> Vec<WorkloadObject> {
    let (mut main, others): (Vec<_>, Vec<_>) = objects.into_iter().partition(is_main);
    if main.is_empty() {
        return others;
    }
    let mut shapes: HashSet<Shape> = main.iter().map(|object| shape(&object.template.pod, asked)).collect();
    // The Jobs of a CronJob are those of its earlier runs.
    let is_rolling = |object: &WorkloadObject| object.kind != "Job";
    main.extend(others.into_iter().filter(|object| is_rolling(object) && shapes.insert(shape(&object.template.pod, asked))));
    main
}

/// What policies can tell pods of one namespace apart by.
type Shape = (Labels, Vec<NamedPort>, bool);

fn shape(pod: &Pod, asked: &AskedValues) -> Shape {
    let labels = pod.labels.iter().filter(|(key, _)| asked.distinguishes(key));
    (labels.map(|(k, v)| (k.clone(), v.clone())).collect(), pod.ports.clone(), pod.is_host_network)
}

/// Makes pods without an address what they will be (S2.22). Beside live pods, they count only where these do not stand for them.
fn expect_pending(entry: &mut Entry, asked: &AskedValues, pods: &mut BTreeMap<ObjectKey, Pod>) {
    if entry.pending.is_empty() {
        return;
    }
    if entry.is_live {
        let live = entry.workload.pods.iter().filter_map(|key| pods.get(key)).filter(|pod| is_live(pod));
        let mut shapes: HashSet<Shape> = live.map(|pod| shape(pod, asked)).collect();
        let is_alike = |key: &&ObjectKey| pods.get(*key).is_none_or(|pod| !shapes.insert(shape(pod, asked)));
        let alike: HashSet<&ObjectKey> = entry.pending.iter().filter(is_alike).collect();
        entry.workload.pods.retain(|key| !alike.contains(key));
    }
    for key in &entry.pending {
        pods.entry(key.clone()).and_modify(expect);
    }
}

fn expect(pod: &mut Pod) {
    pod.addresses = Addresses::Unknown;
    if pod.placement == Placement::Unscheduled {
        pod.placement = Placement::Somewhere;
    }
}

/// What the objects with unknown pods have made, by the owner references and labels of what was read.
struct Made {
    /// By namespace, kind and name of a controller.
    by_controller: BTreeMap<(String, String, String), BTreeSet<WorkloadKey>>,
    /// By namespace, label and value.
    by_label: BTreeMap<(String, &'static str, String), BTreeSet<WorkloadKey>>,
    labels: BTreeSet<&'static str>,
    is_wanted: bool,
}

impl Made {
    fn new(makers: &[(PodMaker, Option<OwnerName>)]) -> Self {
        let labels = makers.iter().filter_map(|(maker, _)| makers::pod_label(maker)).collect();
        Self { by_controller: BTreeMap::new(), by_label: BTreeMap::new(), labels, is_wanted: !makers.is_empty() }
    }

    fn note(&mut self, namespace: &str, controller: Option<&OwnerName>, owner: &WorkloadKey) {
        let Some(controller) = controller.filter(|_| self.is_wanted) else { return };
        let named = [(&controller.kind, &controller.name), (&owner.kind, &owner.name)];
        for (kind, name) in named {
            let key = (namespace.to_owned(), kind.clone(), name.clone());
            self.by_controller.entry(key).or_default().insert(owner.clone());
        }
    }

    fn note_labels(&mut self, pod: &Pod, owner: &WorkloadKey) {
        for label in &self.labels {
            if let Some(value) = pod.labels.get(*label) {
                let key = (pod.key.namespace.clone(), *label, value.clone());
                self.by_label.entry(key).or_default().insert(owner.clone());
            }
        }
    }

    /// The objects with the workloads that they have made, those that they made through other such objects included.
    fn resolve(mut self, makers: Vec<(PodMaker, Option<OwnerName>)>) -> Vec<PodMaker> {
        // A chain is at most as long as there are objects; three is what the longest of them needs (Service, Configuration, Revision).
        for _ in 0..3 {
            for (maker, controller) in &makers {
                let Some(controller) = controller else { continue };
                let own = self.of(maker);
                if !own.is_empty() {
                    let key = (maker.namespace.clone(), controller.kind.clone(), controller.name.clone());
                    self.by_controller.entry(key).or_default().extend(own);
                }
            }
        }
        let resolved = makers.into_iter().map(|(maker, _)| {
            let workloads = self.of(&maker).into_iter().collect();
            PodMaker { workloads, ..maker }
        });
        resolved.collect()
    }

    fn of(&self, maker: &PodMaker) -> BTreeSet<WorkloadKey> {
        let key = (maker.namespace.clone(), maker.kind.clone(), maker.name.clone());
        let mut own = self.by_controller.get(&key).cloned().unwrap_or_default();
        if let Some(label) = makers::pod_label(maker) {
            let key = (maker.namespace.clone(), label, maker.name.clone());
            own.extend(self.by_label.get(&key).into_iter().flatten().cloned());
        }
        own
    }
}
