//! Objects that others of their name replace, removed before workloads and pods are put together.

use std::collections::HashSet;
use std::hash::Hash;

use super::kinds::group_of;
use super::makers::PodMaker;
use super::snapshot::{Assembly, WorkloadObject};
use super::workloads::{Loan, Owners, lend};
use crate::diagnostic::ObjectRef;
use crate::model::{ObjectKey, WorkloadKey};

impl Assembly {
    /// Leaves one object of each name, and applies files to a live cluster: the pods that run of a workload that a file changes will be
    /// replaced by others of its new template, so they no longer stand for it.
    pub(super) fn settle(&mut self) {
        if self.claims.has_superseded() {
            keep_last(&mut self.pods, |(pod, ..)| pod.key.clone());
            keep_last(&mut self.workloads, |workload| (workload.kind.clone(), workload.key.clone()));
            keep_last(&mut self.autoscalers, |autoscaler| autoscaler.object.clone());
            let name = |maker: &PodMaker| {
                (group_of(&maker.api_version).to_owned(), maker.kind.clone(), maker.namespace.clone(), maker.name.clone())
            };
            keep_last(&mut self.makers, |(maker, _)| name(maker));
            keep_last(&mut self.borrowers, |borrower| name(&borrower.maker));
            keep_last(&mut self.foreign, |foreign| {
                let place = foreign.name.is_empty().then(|| foreign.origin.to_string());
                let group = group_of(&foreign.api_version).to_owned();
                (group, foreign.kind.clone(), foreign.namespace.clone(), foreign.name.clone(), place)
            });
        }
        let loans = lend(&mut self.workloads, &mut self.makers, std::mem::take(&mut self.borrowers));
        if self.claims.has_live() {
            self.replace_pods(loans);
        }
    }

    fn replace_pods(&mut self, loans: Vec<Loan>) {
        let is_changed = |workload: &&WorkloadObject| !self.claims.is_live(&name(&workload.kind, &workload.key));
        let mut changed: HashSet<(String, WorkloadKey)> = self.workloads.iter().filter(is_changed).map(member).collect();
        for Loan { namespace, lender, borrower } in loans {
            if changed.contains(&(namespace.clone(), lender)) {
                changed.insert((namespace, borrower));
            }
        }
        if changed.is_empty() {
            return;
        }
        let owners = Owners::new(&self.workloads);
        let claims = &mut self.claims;
        self.pods.retain(|(pod, controller, _)| {
            let owner = (pod.key.namespace.clone(), owners.of_pod(pod, controller.as_ref()));
            let is_replaced = changed.contains(&owner) && claims.is_live(&name("Pod", &pod.key));
            if is_replaced {
                let (namespace, owner) = owner;
                claims.replace(ObjectRef::namespaced(&owner.kind, &namespace, &owner.name));
            }
            !is_replaced
        });
        self.workloads.retain(|workload| {
            let owner = workload.controller.as_ref();
            let owner = owner.map(|owner| WorkloadKey { kind: owner.kind.clone(), name: owner.name.clone() });
            let is_replaced = owner.is_some_and(|owner| changed.contains(&(workload.key.namespace.clone(), owner)));
            !(is_replaced && claims.is_live(&name(&workload.kind, &workload.key)))
        });
    }
}

fn name(kind: &str, key: &ObjectKey) -> ObjectRef {
    ObjectRef::namespaced(kind, &key.namespace, &key.name)
}

fn member(workload: &WorkloadObject) -> (String, WorkloadKey) {
    (workload.key.namespace.clone(), WorkloadKey { kind: workload.kind.clone(), name: workload.key.name.clone() })
}

/// Leaves the last one of each key, in the order read.
fn keep_last<T, K: Hash + Eq>(objects: &mut Vec<T>, key: impl Fn(&T) -> K) {
    let mut seen = HashSet::new();
    let mut is_last: Vec<bool> = objects.iter().rev().map(|object| seen.insert(key(object))).collect();
    objects.retain(|_| is_last.pop().unwrap_or(true));
}
