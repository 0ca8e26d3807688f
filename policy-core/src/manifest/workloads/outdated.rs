//! Templates that the running pods of a workload differ from: the workload was changed and not rolled out, because it is paused, because
//! its pods are replaced only when they are deleted, or because a file has the new one and a dump the old pods.
//!
//! Only what policies ask for counts: webhooks add labels and containers to most pods.

use std::collections::BTreeSet;

use super::AskedValues;
use crate::model::{Labels, NamedPort, Pod};

/// What policies can tell a pod of a template from others of its namespace by.
type Visible<'p> = (Vec<(&'p String, &'p String)>, Vec<&'p NamedPort>, bool);

fn visible<'p>(pod: &'p Pod, asked: &AskedValues) -> Visible<'p> {
    let labels = pod.labels.iter().filter(|(key, _)| asked.has_lasting_key(key)).collect();
    let ports = pod.ports.iter().filter(|port| asked.has_port(&port.name)).collect();
    (labels, ports, pod.is_host_network)
}

/// What of a template none of the running pods has, in words; nothing if one has it all.
pub(super) fn outdated<'p, I: Iterator<Item = &'p Pod>>(
    template: &Pod,
    running: impl Fn() -> I,
    asked: &AskedValues,
) -> BTreeSet<String> {
    let wanted = visible(template, asked);
    let Some(first) = running().next() else { return BTreeSet::new() };
    if running().any(|pod| visible(pod, asked) == wanted) {
        return BTreeSet::new();
    }
    let (_, ports, is_host_network) = visible(first, asked);
    let keys =
        |labels: &Labels| -> BTreeSet<String> { labels.keys().filter(|key| asked.has_lasting_key(key)).cloned().collect() };
    let mut out: BTreeSet<String> = keys(&template.labels)
        .union(&keys(&first.labels))
        .filter(|key| template.labels.get(*key) != first.labels.get(*key))
        .map(|key| format!("the label `{key}`"))
        .collect();
    let differs = |port: &&&NamedPort| !(wanted.1.contains(*port) && ports.contains(*port));
    out.extend(wanted.1.iter().chain(&ports).filter(differs).map(|port| format!("the port `{}`", port.name)));
    if wanted.2 != is_host_network {
        out.insert("the host network".to_owned());
    }
    out
}
