//! The workload that users know a pod by: its controller, or what stands above a ReplicaSet, a Job or a ReplicationController.

use std::collections::{HashMap, HashSet};

use super::OwnerName;
use super::WorkloadObject;
use crate::model::{Pod, WorkloadKey};

/// Whether objects of this kind stand between a workload and its pods.
fn is_between(kind: &str) -> bool {
    ["ReplicaSet", "Job", "ReplicationController"].contains(&kind)
}

/// What is known of the controllers of pods.
pub(in crate::manifest) struct Owners {
    /// The controller of each workload that was read and stands between another one and its pods, by namespace, kind and name.
    above: HashMap<(String, String, String), Option<OwnerName>>,
    /// CronJobs that were read, by namespace and name.
    cron_jobs: HashSet<(String, String)>,
}

impl Owners {
    pub(in crate::manifest) fn new(objects: &[WorkloadObject]) -> Self {
        let name = |object: &WorkloadObject| (object.key.namespace.clone(), object.kind.clone(), object.key.name.clone());
        let between = objects.iter().filter(|object| is_between(&object.kind));
        let cron_jobs = objects.iter().filter(|object| object.kind == "CronJob");
        Self {
            above: between.map(|object| (name(object), object.controller.clone())).collect(),
            cron_jobs: cron_jobs.map(|object| (object.key.namespace.clone(), object.key.name.clone())).collect(),
        }
    }

    /// The workload of a pod, which is the pod itself when it has no controller.
    pub(in crate::manifest) fn of_pod(&self, pod: &Pod, controller: Option<&OwnerName>) -> WorkloadKey {
        // Mirror pods of static pods are controlled by their node, which is no workload.
        let Some(controller) = controller.filter(|controller| controller.kind != "Node") else {
            return WorkloadKey { kind: "Pod".to_owned(), name: pod.key.name.clone() };
        };
        let own = || WorkloadKey { kind: controller.kind.clone(), name: controller.name.clone() };
        if !is_between(&controller.kind) {
            return own();
        }
        let key = (pod.key.namespace.clone(), controller.kind.clone(), controller.name.clone());
        match self.above.get(&key) {
            Some(Some(above)) => WorkloadKey { kind: above.kind.clone(), name: above.name.clone() },
            Some(None) => own(),
            None => self.above_unread(pod, controller).unwrap_or_else(own),
        }
    }

    /// What stands above a controller that the input does not have, by the name of the controller.
    fn above_unread(&self, pod: &Pod, controller: &OwnerName) -> Option<WorkloadKey> {
        let name = controller.name.as_str();
        let before = |label: &str| name.strip_suffix(pod.labels.get(label)?.as_str())?.strip_suffix('-');
        let owner = |kind: &str, name: &str| Some(WorkloadKey { kind: kind.to_owned(), name: name.to_owned() });
        match controller.kind.as_str() {
            "ReplicaSet" => match (before("rollouts-pod-template-hash"), before("pod-template-hash")) {
                (Some(rollout), _) => owner("Rollout", rollout),
                (None, Some(deployment)) => owner("Deployment", deployment),
                (None, None) => None,
            },
            "Job" => {
                let (cron_job, run) = name.rsplit_once('-')?;
                let is_run = run.len() >= 8 && run.bytes().all(|byte| byte.is_ascii_digit());
                let is_known = || self.cron_jobs.contains(&(pod.key.namespace.clone(), cron_job.to_owned()));
                if is_run && is_known() { owner("CronJob", cron_job) } else { None }
            }
            "ReplicationController" => {
                let config = pod.labels.get("deploymentconfig")?;
                let (before, version) = name.rsplit_once('-')?;
                let is_version = before == config && version.bytes().all(|byte| byte.is_ascii_digit());
                if is_version { owner("DeploymentConfig", config) } else { None }
            }
            _ => None,
        }
    }

    /// The workload that an object belongs to: itself, or its controller.
    pub(super) fn of_object(&self, object: &WorkloadObject) -> WorkloadKey {
        match object.controller.as_ref().filter(|_| is_between(&object.kind)) {
            Some(above) => WorkloadKey { kind: above.kind.clone(), name: above.name.clone() },
            None => WorkloadKey { kind: object.kind.clone(), name: object.key.name.clone() },
        }
    }

    /// Whether a Job of this name was read that is none of `owner`'s, so that `owner` will not make one of the name.
    pub(super) fn is_name_of_job(&self, namespace: &str, name: &str, owner: &WorkloadKey) -> bool {
        let found = self.above.get(&(namespace.to_owned(), "Job".to_owned(), name.to_owned()));
        let is_own = |above: &OwnerName| above.kind == owner.kind && above.name == owner.name;
        found.is_some_and(|above| !above.as_ref().is_some_and(is_own))
    }
}
