//! What an API server refuses in objects about pods, beside what decoding and lowering find: labels, container ports and the node name.
//! Nothing of that is checked in objects from an API server, which has accepted them.

use std::collections::BTreeMap;

use super::super::decode::Faults;
use super::super::fault::{Correction, Fault};
use super::super::lower::label_faults;
use super::super::names::{self, nearest};
use super::super::tree::NodeId;
use super::super::wire::{Container, ContainerPort, List, ObjectMeta, PodSpec, Workload};
use super::{Reader, Source};
use crate::diagnostic::rules::{objects, pods};
use crate::sets::Transport;

/// The fields of a container port.
const PORT_FIELDS: [&str; 5] = ["name", "containerPort", "protocol", "hostPort", "hostIP"];

impl Reader<'_, '_, '_> {
    /// Adds what is wrong with the labels of a Namespace.
    pub(in super::super) fn check_namespace(&self, metadata: &ObjectMeta, faults: &mut Faults) {
        if self.loader.source == Source::File {
            check_labels(&metadata.labels, "metadata", faults);
        }
    }

    /// Adds what is wrong with a pod.
    pub(in super::super) fn check_pod(&self, node: NodeId, metadata: &ObjectMeta, spec: &PodSpec, faults: &mut Faults) {
        self.check(node, "", metadata, spec, faults);
    }

    /// Adds what is wrong with the templates of a workload.
    pub(in super::super) fn check_workload(&self, node: NodeId, workload: &Workload, faults: &mut Faults) {
        let spec = &workload.spec;
        for (path, template) in
            [("spec.template.", &spec.template), ("spec.jobTemplate.spec.template.", &spec.job_template.spec.template)]
        {
            self.check(node, path, &template.metadata, &template.spec, faults);
        }
    }

    fn check(&self, node: NodeId, path: &str, metadata: &ObjectMeta, spec: &PodSpec, faults: &mut Faults) {
        if self.loader.source != Source::File {
            return;
        }
        check_labels(&metadata.labels, &format!("{path}metadata"), faults);
        if !spec.node_name.is_empty()
            && let Some(expected) = names::not_subdomain(&spec.node_name)
        {
            let message = format!("found `{}`, expected {expected}", spec.node_name);
            faults.0.push(Fault::new(&objects::INVALID_NAME, &format!("{path}spec.nodeName"), message));
        }
        for (field, containers) in [("containers", &spec.containers), ("initContainers", &spec.init_containers)] {
            self.check_ports(node, &format!("{path}spec.{field}"), containers, faults);
        }
    }

    fn check_ports(&self, node: NodeId, path: &str, containers: &List<Container>, faults: &mut Faults) {
        for (i, container) in containers.iter().enumerate() {
            for (j, port) in container.iter().flat_map(|container| container.ports.iter().enumerate()) {
                let Some(port) = port else { continue };
                let number = u16::try_from(port.container_port).unwrap_or(0);
                let is_right = number > 0
                    && (port.name.is_empty() || names::not_port_name(&port.name).is_none())
                    && (port.protocol.is_empty() || Transport::from_name(&port.protocol).is_some());
                if !is_right {
                    self.port_faults(node, &format!("{path}[{i}].ports[{j}]"), port, faults);
                }
            }
        }
    }

    fn port_faults(&self, node: NodeId, path: &str, port: &ContainerPort, faults: &mut Faults) {
        let at = |field: &str| format!("{path}.{field}");
        let fault = |field: &str, message: String| Fault::new(&pods::INVALID_CONTAINER_PORT, &at(field), message);
        if !(1..=i64::from(u16::MAX)).contains(&port.container_port) && !faults.touch(&at("containerPort")) {
            let mapping = self.tree.locate(node, path);
            faults.0.push(match self.tree.field(mapping, "containerPort") {
                Some(_) => fault("containerPort", format!("found `{}`, expected 1 to 65535", port.container_port)),
                None => self.missing_number(mapping, path),
            });
        }
        if !port.name.is_empty()
            && let Some(expected) = names::not_port_name(&port.name)
        {
            let expected = expected.trim_start_matches("a number, or ");
            faults.0.push(fault("name", format!("found `{}`, expected {expected}", port.name)));
        }
        if !port.protocol.is_empty() && Transport::from_name(&port.protocol).is_none() {
            let meant = Transport::from_name(&port.protocol.to_ascii_uppercase()).map(|protocol| protocol.to_string());
            let message = format!("found `{}`, expected `TCP`, `UDP` or `SCTP`", port.protocol);
            faults.0.push(fault("protocol", message).did_you_mean(meant.as_deref()));
        }
    }

    /// The fault of a port without a number. API servers drop the field of a mistyped name.
    fn missing_number(&self, mapping: NodeId, path: &str) -> Fault {
        let fault = Fault::new(&pods::INVALID_CONTAINER_PORT, &path, "the port has no `containerPort`").at(mapping);
        let entries = self.tree.entries(mapping);
        let unknown = entries.iter().filter(|(name, ..)| !PORT_FIELDS.contains(&name.as_ref()));
        let near = nearest("containerPort", unknown.map(|(name, ..)| name.as_ref()));
        match entries.iter().find(|(name, ..)| near == Some(name.as_ref())) {
            Some((name, key, _)) => fault
                .at(*key)
                .help(format!("did you mean `containerPort` in place of `{name}`?"))
                .correction(Correction::Value("containerPort".to_owned())),
            None => fault.help("add `containerPort` with the number of the port"),
        }
    }
}

fn check_labels(labels: &BTreeMap<String, String>, metadata: &str, faults: &mut Faults) {
    for (key, value) in labels {
        faults.0.extend(label_faults(key, value, &format_args!("{metadata}.labels")));
    }
}
