//! Pods whose namespace is not known (S1.36): no selector matches them, and on this node their addresses are in quarantine until the
//! namespace is known.

use std::collections::BTreeMap;

use policy_core::model::{Addresses, Change, ObjectKey, Phase, Placement, Pod, Quarantine};

/// A pod of an unknown namespace.
enum HeldPod {
    /// It becomes a pod like others when the namespace is known.
    Kept(Box<Pod>),
    /// It was reported while the namespace was known, and its content was not kept. Pods must be listed again to get it.
    MustBeListed,
}

/// The pods of unknown namespaces, and what is needed of the pods of this node to hold them.
pub(crate) struct HeldPods {
    node: String,
    /// By the namespaces that are not known.
    held: BTreeMap<String, BTreeMap<ObjectKey, HeldPod>>,
    /// Live pods of this node: few, and their content is needed when their namespace goes.
    local: BTreeMap<ObjectKey, Pod>,
}

impl HeldPods {
    pub(crate) fn new(node: String) -> Self {
        Self { node, held: BTreeMap::new(), local: BTreeMap::new() }
    }

    /// A pod is there, as it is now.
    pub(crate) fn take(&mut self, pod: Pod, is_namespace_known: bool, out: &mut Vec<Change>) {
        let key = pod.key.clone();
        if self.is_local(&pod) {
            self.local.insert(key.clone(), pod.clone());
        } else {
            self.local.remove(&key);
        }
        if is_namespace_known {
            out.push(Change::Pod(pod));
            return;
        }
        out.push(self.quarantine(&key));
        self.held.entry(key.namespace.clone()).or_default().insert(key, HeldPod::Kept(Box::new(pod)));
    }

    /// A pod of this node, as it was last reported.
    pub(crate) fn local(&self, key: &ObjectKey) -> Option<Pod> {
        self.local.get(key).cloned()
    }

    /// A pod is gone.
    pub(crate) fn remove(&mut self, key: ObjectKey, out: &mut Vec<Change>) {
        self.local.remove(&key);
        let Some(held) = self.held.get_mut(&key.namespace) else {
            out.push(Change::PodRemoved(key));
            return;
        };
        held.remove(&key);
        if held.is_empty() {
            self.held.remove(&key.namespace);
        }
        out.push(Change::QuarantineRemoved(holder(&key)));
    }

    /// A namespace is known: its pods are like all others. Whether pods must be listed again.
    pub(crate) fn release(&mut self, namespace: &str, out: &mut Vec<Change>) -> bool {
        let mut must_list = false;
        for (key, held) in self.held.remove(namespace).unwrap_or_default() {
            match held {
                HeldPod::Kept(pod) => out.push(Change::Pod(*pod)),
                HeldPod::MustBeListed => must_list = true,
            }
            out.push(Change::QuarantineRemoved(holder(&key)));
        }
        must_list
    }

    /// The namespace of a pod is gone before the pod.
    pub(crate) fn hold(&mut self, key: ObjectKey, out: &mut Vec<Change>) {
        out.push(self.quarantine(&key));
        out.push(Change::PodRemoved(key.clone()));
        let held = self.local.get(&key).map_or(HeldPod::MustBeListed, |pod| HeldPod::Kept(Box::new(pod.clone())));
        self.held.entry(key.namespace.clone()).or_default().insert(key, held);
    }

    fn is_local(&self, pod: &Pod) -> bool {
        let is_here = match &pod.placement {
            Placement::Node(node) => *node == self.node,
            // Of an unknown pod it may be the node that cannot be read (S2.25).
            Placement::Somewhere => pod.is_unknown,
            Placement::Unscheduled => false,
        };
        is_here && !pod.is_host_network && pod.phase == Phase::Live
    }

    /// Denies all traffic of the addresses of a pod of this node; a pod of another node has none here.
    fn quarantine(&self, key: &ObjectKey) -> Change {
        let addresses = match self.local.get(key).map(|pod| &pod.addresses) {
            Some(Addresses::Known(addresses)) => addresses.clone(),
            _ => Vec::new(),
        };
        Change::Quarantine(Quarantine { holder: holder(key), addresses })
    }
}

fn holder(pod: &ObjectKey) -> String {
    format!("pod {pod}")
}
