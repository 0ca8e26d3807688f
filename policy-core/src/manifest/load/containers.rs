//! What an API server refuses in pods and workloads: no containers, and a selector that does not select the pods of the template.

use std::collections::{BTreeMap, BTreeSet};

use super::super::decode::{Faults, decode};
use super::super::fault::Fault;
use super::super::lower::{Path, Report, lower_selector};
use super::super::tree::{NodeId, Value};
use super::super::wire::{LabelSelector, Workload};
use super::reader::TypeMeta;
use super::{Reader, Source, signs};
use crate::diagnostic::Severity;
use crate::diagnostic::rules::{objects, pods};
use crate::model::{Labels, Operator, Requirement, Selector};

const SELECTOR: &str = "spec.selector";
const LABELS: &str = "spec.template.metadata.labels";
/// Fields that API servers set: a pod with one of them has been accepted by one, and something may have removed the rest.
const REPORTED: [&str; 3] = ["phase", "podIP", "podIPs"];

/// Where the containers of a kind are; none for kinds without pods.
fn containers(kind: &str) -> &'static [&'static str] {
    match kind {
        "Pod" => &["spec", "containers"],
        "CronJob" => &["spec", "jobTemplate", "spec", "template", "spec", "containers"],
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicationController" => {
            &["spec", "template", "spec", "containers"]
        }
        _ => &[],
    }
}

impl Reader<'_, '_, '_> {
    /// Whether a pod, or the template of a workload, has no containers. Reports it.
    pub(super) fn lacks_containers(&mut self, node: NodeId, meta: &TypeMeta) -> bool {
        let tree = self.tree;
        let path = containers(&meta.kind);
        let is_reported = || meta.kind == "Pod" && REPORTED.iter().any(|field| tree.has_field(node, &["status", field]));
        if path.is_empty() || tree.has_field(node, path) || is_reported() {
            return false;
        }
        // A value of another type is reported as such.
        let mut at = node;
        for step in path {
            match tree.field(at, step) {
                Some(value) if tree.is_null(value) => break,
                Some(value) => at = value,
                None if matches!(tree.value(at), Value::Mapping(_)) => break,
                None => return false,
            }
        }
        let path = path.join(".");
        let fault = Fault::new(&pods::MISSING_CONTAINERS, &path, "found nothing, expected at least one container");
        let help = if meta.kind == "Pod" {
            format!("add `{path}`")
        } else {
            format!("if this is a patch, {}; otherwise add `{path}`", signs::BUILD)
        };
        let object = self.object_ref(node, meta);
        self.report(Severity::Error, node, &object, fault.help(help));
        true
    }

    /// Adds what is wrong with the selector of a workload.
    pub(in super::super) fn check_selector(&self, node: NodeId, kind: &str, workload: &Workload, faults: &mut Faults) {
        if self.loader.source != Source::File || self.is_patch || kind == "CronJob" {
            return;
        }
        let labels = &workload.spec.template.metadata.labels;
        let selector = self.tree.field(node, "spec").and_then(|spec| self.tree.field(spec, "selector"));
        let Some(selector) = selector.filter(|selector| !self.tree.is_null(*selector)) else {
            if kind == "ReplicationController" && labels.is_empty() && !faults.touch(&LABELS) {
                let message = "found no selector, and no labels in the template that it could be made of";
                faults.0.push(Fault::new(&objects::MISSING_SELECTOR, &SELECTOR, message));
            }
            return;
        };
        let read = if kind == "ReplicationController" { self.map_selector(selector) } else { self.label_selector(selector) };
        let selector = match read {
            Ok(selector) => selector,
            Err(wrong) => return faults.0.extend(wrong),
        };
        // API servers complete the selectors of Jobs and of ReplicationControllers.
        if selector.is_everything() && !["Job", "ReplicationController"].contains(&kind) {
            let message = "found an empty selector, expected a label selector";
            faults.0.push(Fault::new(&objects::MISSING_SELECTOR, &SELECTOR, message));
        } else if !selector.matches(labels) && !faults.touch(&LABELS) {
            let message = format!("found {}, which the selector `{selector}` does not select", shown(labels));
            let fault = Fault::new(&objects::UNSELECTED_TEMPLATE, &LABELS, message);
            faults.0.push(fault.help("write the labels of the selector in the template"));
        }
    }

    /// The selector of a ReplicationController.
    fn map_selector(&self, node: NodeId) -> Result<Selector, Vec<Fault>> {
        let (labels, unread) = decode::<BTreeMap<String, String>>(self.tree, node);
        if !unread.0.is_empty() {
            return Err(below(unread));
        }
        let requirement = |(key, value)| Requirement { key, operator: Operator::In(BTreeSet::from([value])) };
        Ok(Selector::new(labels.into_iter().map(requirement)))
    }

    fn label_selector(&self, node: NodeId) -> Result<Selector, Vec<Fault>> {
        let (wire, unread) = decode::<LabelSelector>(self.tree, node);
        let unread = Faults(below(unread));
        let mut report = Report::new(&unread);
        let read = lower_selector(&wire, &Path::Root(SELECTOR), &mut report);
        let errors = report.errors;
        read.ok_or_else(|| unread.0.into_iter().chain(errors).collect())
    }
}

/// The faults of a selector that was decoded by itself, with their paths in the object.
fn below(faults: Faults) -> Vec<Fault> {
    let path = |path: &str| if path.is_empty() { SELECTOR.to_owned() } else { format!("{SELECTOR}.{path}") };
    faults.0.into_iter().map(|fault| Fault { path: path(&fault.path), ..fault }).collect()
}

fn shown(labels: &Labels) -> String {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("`{key}={value}`")).collect();
    if labels.is_empty() { "no labels".to_owned() } else { labels.join(", ") }
}
