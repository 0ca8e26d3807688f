//! A port name with several numbers in one workload (S1.53).

use std::collections::{BTreeMap, BTreeSet};

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, Rule, Severity};
use policy_core::graph::GroupId;
use policy_core::model::{Phase, Pod, WorkloadKey};
use policy_core::sets::Transport;

use crate::context::{Context, pods_text};
use crate::named_ports::NamedEntry;

/// The pods of one workload give a port name several numbers.
pub static NAMED_PORT_DIVERGENT: Rule = Rule {
    id: "NP118",
    name: "named-port-divergent",
    severity: Severity::Info,
    group: Group::Correctness,
    kind: Kind::NoEffect,
    section: "S1.53",
    event_reason: None,
    summary: "a rule names a port that has several numbers in one workload",
    documentation: Documentation {
        what: "A port name that the containers of one pod, or the pods of one workload, give several numbers. Different numbers in different workloads are what port names are for.",
        why: "Names are unique in one container only. The entry allows every one of the numbers, and other engines may take one of them. A Service with this name as `targetPort` leads to one number in each pod.",
        example: Some(shop!(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: web}}\nspec:\n  containers:\n  - {name: web, ports: [{name: http, containerPort: 8080}]}\n  - {name: proxy, ports: [{name: http, containerPort: 8443}]}\n---\n",
            policy!(
                "web",
                "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{podSelector: {}}]\n    ports: [{port: http}]\n"
            )
        )),
        fix: "Give the ports different names, or use the number that is meant.",
        corrected: None,
    },
};

type Name<'a> = (Transport, &'a str);
type Workload<'a> = (&'a str, Option<&'a WorkloadKey>);

/// What the pods of a workload give a name.
#[derive(Default)]
struct Numbers<'a> {
    numbers: BTreeSet<u16>,
    pods: Vec<&'a Pod>,
}

pub(crate) fn check(context: &Context<'_>) -> Vec<Diagnostic> {
    let divergent = divergent(context);
    if divergent.is_empty() {
        return Vec::new();
    }
    let finding = |entry: NamedEntry<'_>| {
        let groups = entry.destinations(context);
        let mut of_entry = groups.iter().filter_map(|group| divergent.get(&(*group, (entry.transport, entry.name))));
        let (numbers, pod) = of_entry.next()?;
        let numbers: Vec<String> = numbers.iter().map(u16::to_string).collect();
        let message = format!("`{}` has several numbers in {}: {}", entry.name, pods_text(&[pod], 1), numbers.join(", "));
        let help = "give the ports different names, or use the number that is meant";
        Some(context.finding(&NAMED_PORT_DIVERGENT, &entry.policy.key, &entry.path(), message).help(help))
    };
    NamedEntry::all(context).filter_map(finding).collect()
}

/// The names with several numbers in one workload, by the groups of its pods. Cost: linear in the named ports of pods.
fn divergent<'a>(context: &Context<'a>) -> BTreeMap<(GroupId, Name<'a>), (BTreeSet<u16>, &'a Pod)> {
    let mut by_workload: BTreeMap<(Workload<'a>, Name<'a>), Numbers<'a>> = BTreeMap::new();
    for pod in context.snapshot.pods.values().filter(|pod| pod.phase == Phase::Live) {
        let workload = (pod.key.namespace.as_str(), pod.owner.as_ref());
        for port in &pod.ports {
            let of_name = by_workload.entry((workload, (port.protocol, port.name.as_str()))).or_default();
            of_name.numbers.insert(port.number);
            of_name.pods.push(pod);
        }
    }
    let mut out = BTreeMap::new();
    for ((_, name), Numbers { numbers, pods }) in by_workload.into_iter().filter(|(_, of_name)| of_name.numbers.len() > 1) {
        for pod in pods {
            if let Some(group) = context.group_of(pod) {
                out.entry((group, name)).or_insert_with(|| (numbers.clone(), pod));
            }
        }
    }
    out
}
