//! Pods and nodes.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::Compiler;
use crate::graph::{NodeId, NodeRecord, PodId, PodRecord, hash_name, shrink_list, shrink_table};
use crate::model::{Addresses, Node, ObjectKey, Phase, Placement, Pod};

impl Compiler {
    pub(super) fn apply_pod(&mut self, pod: &Pod) {
        let is_here = match &pod.placement {
            Placement::Node(name) => self.graph.only_node.is_none_or(|only| **self.graph.nodes.key(only) == **name),
            Placement::Unscheduled | Placement::Somewhere => true,
        };
        self.hold_unknown(&pod.key, if is_here { pod.held_addresses() } else { &[] });
        // New uses first, so that what stays in use is not made again.
        let namespace = self.acquire_namespace(&pod.key.namespace);
        let template = pod.is_endpoint().then(|| self.acquire_template(pod, namespace));
        let node = match &pod.placement {
            Placement::Node(name) => Some(self.acquire_node(name)),
            Placement::Unscheduled | Placement::Somewhere => None,
        };
        self.remove_pod(&pod.key);
        let is_live = pod.phase == Phase::Live;
        let addresses: SmallVec<[_; 1]> = match &pod.addresses {
            // S2.3: a finished pod never claims an address.
            Addresses::Known(list) if is_live && (template.is_some() || pod.is_host_network) => list.iter().copied().collect(),
            _ => SmallVec::new(),
        };
        let record = PodRecord {
            namespace,
            name: pod.key.name.as_str().into(),
            template,
            position: 0,
            node,
            is_host_network: pod.is_host_network,
            is_in_scope: false,
            addresses,
        };
        let id = self.graph.pods.insert(record);
        let pods = &self.graph.pods;
        self.graph.pod_names.insert_unique(hash_name(namespace, &pod.key.name), id, |id| {
            let record = pods.get(*id);
            hash_name(record.namespace, &record.name)
        });
        self.enter_pod(id);
    }

    /// Brings the quarantine of a pod that may be unreadable up to date (S2.25).
    pub(super) fn hold_unknown(&mut self, key: &ObjectKey, addresses: &[IpAddr]) {
        let was_held = if addresses.is_empty() { self.unknown.remove(key) } else { !self.unknown.insert(key.clone()) };
        if was_held || !addresses.is_empty() {
            self.set_quarantine(format!("unknown pod {key}"), addresses.to_vec());
        }
    }

    fn enter_pod(&mut self, id: PodId) {
        let record = self.graph.pods.get(id);
        let (template, node, addresses) = (record.template, record.node, record.addresses.clone());
        match (template, node) {
            (Some(template), _) => {
                let state = self.graph.templates.data_mut(template);
                let position = u32::try_from(state.pods.len()).unwrap_or(u32::MAX);
                state.pods.push(id);
                let group = state.group;
                self.count_pods(group, 1);
                self.graph.pods.get_mut(id).position = position;
                for address in &addresses {
                    self.touch(*address);
                    self.graph.addresses.claim(*address, id);
                }
                self.rescope(id);
                self.rescope_claimants(&addresses);
            }
            (None, Some(node)) => {
                for address in addresses {
                    self.graph.addresses.claim_node(address, node);
                }
            }
            (None, None) => {}
        }
    }

    /// Brings the scope of a pod up to date: pods of the compiler's node, and those that claim the address of one, because
    /// the policies of every claimant apply (S2.5).
    fn rescope(&mut self, id: PodId) {
        let only = self.graph.only_node;
        let is_on_node = |pod: PodId| only.is_none() || self.graph.pods.get(pod).node == only;
        let record = self.graph.pods.get(id);
        let shares = || record.addresses.iter().any(|a| self.graph.claimants(*a).iter().any(|pod| is_on_node(*pod)));
        let is_in_scope = is_on_node(id) || (only.is_some() && shares());
        self.set_scope(id, is_in_scope);
    }

    fn set_scope(&mut self, id: PodId, is_in_scope: bool) {
        let record = self.graph.pods.get_mut(id);
        if record.is_in_scope == is_in_scope {
            return;
        }
        record.is_in_scope = is_in_scope;
        self.delta.is_structural = true;
        let Some(template) = record.template else { return };
        let state = self.graph.templates.data_mut(template);
        let by = if is_in_scope { 1 } else { -1 };
        state.in_scope = state.in_scope.saturating_add_signed(by);
        let group = state.group;
        self.count_in_scope(group, by);
    }

    fn rescope_claimants(&mut self, addresses: &[IpAddr]) {
        if self.graph.only_node.is_none() {
            return;
        }
        for address in addresses {
            for pod in self.graph.claimants(*address) {
                self.rescope(pod);
            }
        }
    }

    pub(super) fn remove_pod(&mut self, key: &ObjectKey) {
        let Some(id) = self.graph.pod(&key.namespace, &key.name) else { return };
        let record = self.graph.pods.get(id);
        let (namespace, template, node, position) = (record.namespace, record.template, record.node, record.position);
        let addresses = record.addresses.clone();
        for address in &addresses {
            if template.is_some() {
                self.touch(*address);
                self.graph.addresses.release(*address, id);
            } else if let Some(node) = node {
                self.graph.addresses.release_node(*address, node);
            }
        }
        if let Some(template) = template {
            self.set_scope(id, false);
            self.rescope_claimants(&addresses);
            let state = self.graph.templates.data_mut(template);
            state.pods.swap_remove(position as usize);
            shrink_list(&mut state.pods);
            let moved = state.pods.get(position as usize).copied();
            if let Some(moved) = moved {
                self.graph.pods.get_mut(moved).position = position;
            }
            self.count_pods(self.graph.templates.data(template).group, -1);
        }
        if let Ok(entry) = self.graph.pod_names.find_entry(hash_name(namespace, &key.name), |other| *other == id) {
            entry.remove();
        }
        self.graph.pods.remove(id);
        let pods = &self.graph.pods;
        shrink_table(&mut self.graph.pod_names, |id| {
            let record = pods.get(*id);
            hash_name(record.namespace, &record.name)
        });
        if let Some(template) = template {
            self.release_template(template);
        }
        if let Some(node) = node {
            self.graph.nodes.release(node);
        }
        self.graph.namespaces.release(namespace);
    }

    /// One more use of the node of this name, made without addresses when it is new.
    pub(super) fn acquire_node(&mut self, name: &str) -> NodeId {
        match self.graph.nodes.find(name) {
            Some(id) => {
                self.graph.nodes.retain(id);
                id
            }
            None => self.graph.nodes.insert(name.into(), NodeRecord::default()),
        }
    }

    pub(super) fn apply_node(&mut self, node: &Node) {
        let id = self.acquire_node(&node.name);
        self.set_node(id, true, &node.addresses);
    }

    /// The record stays while pods name the node.
    pub(super) fn remove_node(&mut self, name: &str) {
        if let Some(id) = self.graph.nodes.find(name) {
            self.graph.nodes.retain(id);
            self.set_node(id, false, &[]);
        }
    }

    /// Brings a node up to date with its object; a use of the node goes over to the object.
    fn set_node(&mut self, id: NodeId, is_declared: bool, addresses: &[IpAddr]) {
        let record = self.graph.nodes.data_mut(id);
        let was_declared = std::mem::replace(&mut record.is_declared, is_declared);
        let before = std::mem::replace(&mut record.addresses, addresses.to_vec());
        for address in before {
            self.graph.addresses.release_node(address, id);
        }
        for address in addresses {
            self.graph.addresses.claim_node(*address, id);
        }
        for _ in 0..usize::from(was_declared) + usize::from(!is_declared) {
            self.graph.nodes.release(id);
        }
    }
}
