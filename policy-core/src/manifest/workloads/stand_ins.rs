//! The pods of a template, as far as selectors distinguish them (S2.24).
//!
//! A label whose value is not known has one value that no user can write, and each value that some selector names: one pod stands for
//! each. Where no selector names a value, which is the usual case, one pod stands for all.

use std::collections::{BTreeMap, BTreeSet};

use super::Extent;
use super::WorkloadObject;
use crate::manifest::lower::{COMPLETION_INDEX, JOB_NAMES, Numbers, POD_INDEX, POD_NAME, Sort, is_generated};
use crate::model::{Labels, ObjectKey, Operator, Pod, Policy, PortEntry, Ports, Selector, UNKNOWN_VALUE};

/// Pods that stand for one template at most.
const MOST: usize = 1000;

/// What policies ask of pods.
#[derive(Default)]
pub(in crate::manifest) struct AskedValues {
    /// The values that selectors name, of labels that controllers add.
    generated: BTreeMap<String, BTreeSet<String>>,
    /// The other labels that selectors name.
    lasting: BTreeSet<String>,
    /// The names of ports that rules name.
    ports: BTreeSet<String>,
}

impl AskedValues {
    /// What policies name. Cost: linear in their rules.
    pub(in crate::manifest) fn of<'p>(policies: impl Iterator<Item = &'p Policy>) -> Self {
        let mut asked = Self::default();
        for policy in policies {
            policy.pod_selectors().for_each(|selector| asked.add(selector));
            for rule in policy.ingress.iter().chain(&policy.egress).flatten() {
                let Ports::Listed(entries) = &rule.ports else { continue };
                let names = entries.iter().filter_map(|entry| match entry {
                    PortEntry::Named { name, .. } => Some(name.clone()),
                    PortEntry::Range { .. } | PortEntry::Unreadable => None,
                });
                asked.ports.extend(names);
            }
        }
        asked
    }

    fn add(&mut self, selector: &Selector) {
        for requirement in selector.requirements() {
            if !is_generated(&requirement.key) {
                self.lasting.insert(requirement.key.clone());
                continue;
            }
            let (Operator::In(values) | Operator::NotIn(values)) = &requirement.operator else { continue };
            self.generated.entry(requirement.key.clone()).or_default().extend(values.iter().cloned());
        }
    }

    /// Whether selectors name a label that authors of templates choose.
    pub(super) fn has_lasting_key(&self, key: &str) -> bool {
        self.lasting.contains(key)
    }

    /// Whether rules name a port of this name.
    pub(super) fn has_port(&self, name: &str) -> bool {
        self.ports.contains(name)
    }

    /// The ordinals of a StatefulSet that selectors name.
    fn ordinals(&self, set: &str, numbers: &Numbers) -> BTreeSet<i64> {
        let number = |text: &str| numbers.read(text);
        let of_name = |pod: &str| number(pod.strip_prefix(set)?.strip_prefix('-')?);
        self.values(POD_INDEX).filter_map(number).chain(self.values(POD_NAME).filter_map(of_name)).collect()
    }

    /// The names of the pods of a StatefulSet that selectors name; none of another workload.
    pub(super) fn ordinals_of(&self, object: &WorkloadObject) -> impl Iterator<Item = String> {
        let numbers = object.template.numbers.filter(|numbers| numbers.sort == Sort::Ordinal);
        let named = numbers.map(|numbers| self.ordinals(&object.key.name, &numbers)).unwrap_or_default();
        named.into_iter().map(|number| format!("{}-{number}", object.key.name))
    }

    fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.generated.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Whether pods of one workload can differ in a label so that a selector distinguishes them.
    pub(super) fn distinguishes(&self, key: &str) -> bool {
        !is_generated(key) || self.generated.contains_key(key)
    }
}

/// The pods that stand for a template.
pub(super) struct StandIns {
    pub pods: Vec<Pod>,
    pub unknown_labels: BTreeSet<String>,
    pub extent: Extent,
}

/// The pods that stand for the template of an object. `is_taken` is whether a Job that it makes cannot have a name.
pub(super) fn stand_ins(object: &WorkloadObject, asked: &AskedValues, is_taken: impl Fn(&str) -> bool) -> StandIns {
    let template = &object.template;
    let (mut pods, mut extent) = match &template.numbers {
        None => (vec![template.pod.clone()], Extent::Whole),
        Some(numbers) => numbered(object, numbers, asked),
    };
    let mut unknown_labels = BTreeSet::new();
    for keys in &template.unknown {
        for pod in &mut pods {
            label(pod, keys, UNKNOWN_VALUE);
        }
        let is_possible = |value: &&str| !(keys == &JOB_NAMES && is_taken(value));
        let values: BTreeSet<&str> = keys.iter().flat_map(|key| asked.values(key)).filter(is_possible).collect();
        if values.is_empty() {
            continue;
        }
        unknown_labels.extend(keys.iter().filter(|key| asked.values(key).next().is_some()).map(|key| (*key).to_owned()));
        let mut named = Vec::new();
        'all: for value in values {
            for pod in &pods {
                if pods.len() + named.len() >= MOST {
                    extent = Extent::Cut;
                    break 'all;
                }
                let mut pod = Pod { key: variant(&pod.key, keys.first().unwrap_or(&""), value), ..pod.clone() };
                label(&mut pod, keys, value);
                named.push(pod);
            }
        }
        pods.extend(named);
    }
    StandIns { pods, unknown_labels, extent }
}

fn label(pod: &mut Pod, keys: &[&str], value: &str) {
    pod.labels.extend(keys.iter().map(|key| ((*key).to_owned(), value.to_owned())));
}

/// The key of the same pod with another value of a label.
fn variant(key: &ObjectKey, label: &str, value: &str) -> ObjectKey {
    ObjectKey::new(&key.namespace, format!("{}/{label}={value}", key.name))
}

/// One pod for each number, or for each that selectors name and one for all others.
fn numbered(object: &WorkloadObject, numbers: &Numbers, asked: &AskedValues) -> (Vec<Pod>, Extent) {
    let last = numbers.last();
    let is_short = usize::try_from(numbers.count).is_ok_and(|count| count <= MOST);
    if numbers.sort == Sort::Ordinal && is_short {
        return ((numbers.first..=last).map(|number| pod_at(object, numbers.sort, number)).collect(), Extent::Whole);
    }
    let mut named: BTreeSet<i64> = match numbers.sort {
        Sort::CompletionIndex => asked.values(COMPLETION_INDEX).filter_map(|text| numbers.read(text)).collect(),
        Sort::Ordinal => asked.ordinals(&object.key.name, numbers),
    };
    let is_cut = named.len() >= MOST;
    // INVARIANT: the search ends after as many steps as numbers are named.
    let other = (numbers.first..=last).find(|number| !named.contains(number));
    while named.len() >= MOST {
        named.pop_last();
    }
    let extent = match numbers.sort {
        _ if is_cut => Extent::Cut,
        Sort::Ordinal => Extent::Named { count: numbers.count },
        Sort::CompletionIndex => Extent::Whole,
    };
    // The one for all others comes first: what selectors ask of it is what they ask of most.
    let pods = other.into_iter().chain(named).map(|number| pod_at(object, numbers.sort, number));
    (pods.collect(), extent)
}

fn pod_at(object: &WorkloadObject, sort: Sort, number: i64) -> Pod {
    let pod = &object.template.pod;
    let text = number.to_string();
    let (key, labels) = match sort {
        Sort::Ordinal => {
            let name = format!("{}-{text}", object.key.name);
            let labels = Labels::from([(POD_NAME.to_owned(), name.clone()), (POD_INDEX.to_owned(), text)]);
            (ObjectKey::new(&pod.key.namespace, name), labels)
        }
        Sort::CompletionIndex => {
            (variant(&pod.key, COMPLETION_INDEX, &text), Labels::from([(COMPLETION_INDEX.to_owned(), text)]))
        }
    };
    let mut pod = Pod { key, ..pod.clone() };
    pod.labels.extend(labels);
    pod
}
