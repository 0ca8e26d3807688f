//! Pods, nodes, and the groups that pods form.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::Compiler;
use crate::graph::{GroupId, GroupKey, LabelSet, NodeId, NodeRecord, PodId, PodRecord, PortRecord, hash_name};
use crate::model::{Addresses, Direction, NamedPort, Node, ObjectKey, Phase, Placement, Pod};

impl Compiler {
    pub(super) fn apply_pod(&mut self, pod: &Pod) {
        // The new group is taken up before the old one is let go, so that a pod that stays in its group leaves it alone.
        let group = pod.is_endpoint().then(|| self.acquire_group(pod));
        self.remove_pod(&pod.key);
        let namespace = self.namespace_id(&pod.key.namespace);
        let node = match &pod.placement {
            Placement::Node(name) => Some(self.node_id(name)),
            Placement::Unscheduled | Placement::Somewhere => None,
        };
        let is_live = pod.phase == Phase::Live;
        let addresses: SmallVec<[_; 1]> = match &pod.addresses {
            // S2.3: a finished pod never claims an address.
            Addresses::Known(list) if is_live && (group.is_some() || pod.is_host_network) => list.iter().copied().collect(),
            _ => SmallVec::new(),
        };
        let record = PodRecord {
            namespace,
            name: pod.key.name.as_str().into(),
            group,
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

    fn enter_pod(&mut self, id: PodId) {
        let record = self.graph.pods.get(id);
        let (group, node, addresses) = (record.group, record.node, record.addresses.clone());
        match (group, node) {
            (Some(group), _) => {
                let state = self.graph.groups.data_mut(group);
                let position = u32::try_from(state.pods.len()).unwrap_or(u32::MAX);
                state.pods.push(id);
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
        let Some(group) = record.group else { return };
        let state = self.graph.groups.data_mut(group);
        let before = state.in_scope;
        state.in_scope = if is_in_scope { before.saturating_add(1) } else { before.saturating_sub(1) };
        if before.min(state.in_scope) == 0 {
            self.dirty.insert(group);
        }
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
        let (namespace, group, node, position) = (record.namespace, record.group, record.node, record.position);
        let addresses = record.addresses.clone();
        for address in &addresses {
            if group.is_some() {
                self.touch(*address);
                self.graph.addresses.release(*address, id);
            } else if let Some(node) = node {
                self.graph.addresses.release_node(*address, node);
            }
        }
        if let Some(group) = group {
            self.set_scope(id, false);
            self.rescope_claimants(&addresses);
            let state = self.graph.groups.data_mut(group);
            state.pods.swap_remove(position as usize);
            let moved = state.pods.get(position as usize).copied();
            if let Some(moved) = moved {
                self.graph.pods.get_mut(moved).position = position;
            }
        }
        if let Ok(entry) = self.graph.pod_names.find_entry(hash_name(namespace, &key.name), |other| *other == id) {
            entry.remove();
        }
        self.graph.pods.remove(id);
        if let Some(group) = group {
            self.release_group(group);
        }
    }

    fn acquire_group(&mut self, pod: &Pod) -> GroupId {
        let namespace = self.namespace_id(&pod.key.namespace);
        let labels = LabelSet::new(&pod.labels, &mut self.graph.strings);
        let (labels, _) = self.graph.labels.acquire(labels);
        let ports = self.port_records(&pod.ports);
        let (ports, _) = self.graph.ports.acquire(ports);
        let (group, is_new) = self.graph.groups.acquire(GroupKey { namespace, labels, ports });
        if is_new {
            self.enter_group(group);
        } else {
            self.graph.labels.release(labels);
            self.graph.ports.release(ports);
        }
        group
    }

    fn port_records(&mut self, ports: &[NamedPort]) -> Box<[PortRecord]> {
        let mut records: Vec<PortRecord> =
            ports.iter().map(|p| (self.graph.strings.intern(&p.name), p.protocol, p.number)).collect();
        records.sort_unstable();
        records.into()
    }

    fn release_group(&mut self, group: GroupId) {
        self.graph.groups.release(group);
        if !self.graph.groups.unused().contains(&group) {
            return;
        }
        let key = *self.graph.groups.key(group);
        for direction in Direction::ALL {
            self.set_decision(group, direction, None);
        }
        self.delta.decisions.retain(|(g, _)| *g != group);
        self.delta.groups_removed.push(group);
        self.leave_group(group);
        self.graph.groups.forget(group);
        self.graph.labels.release(key.labels);
        self.graph.ports.release(key.ports);
    }

    /// The node of this name, made without addresses when it is new.
    pub(super) fn node_id(&mut self, name: &str) -> NodeId {
        if let Some(id) = self.graph.node_names.get(name) {
            return *id;
        }
        let id = self.graph.nodes.insert(NodeRecord { name: name.into(), addresses: Vec::new() });
        self.graph.node_names.insert(name.into(), id);
        id
    }

    pub(super) fn apply_node(&mut self, node: &Node) {
        let id = self.node_id(&node.name);
        for address in std::mem::take(&mut self.graph.nodes.get_mut(id).addresses) {
            self.graph.addresses.release_node(address, id);
        }
        for address in &node.addresses {
            self.graph.addresses.claim_node(*address, id);
        }
        self.graph.nodes.get_mut(id).addresses.clone_from(&node.addresses);
    }

    pub(super) fn remove_node(&mut self, name: &str) {
        // The record stays: pods may still name the node.
        if self.graph.node_names.contains_key(name) {
            self.apply_node(&Node { name: name.to_owned(), addresses: Vec::new() });
        }
    }
}
