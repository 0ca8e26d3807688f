//! The pods of a template, as far as selectors distinguish them (S2.24).
//!
//! A label whose value is not known has one value that no user can write, and each value that some selector names: one pod stands for
//! each. Where no selector names a value, which is the usual case, one pod stands for all.

use std::collections::{BTreeMap, BTreeSet};

use super::Extent;
use super::WorkloadObject;
use crate::manifest::lower::{COMPLETION_INDEX, JOB_NAMES, Numbers, POD_INDEX, POD_NAME, Sort, is_generated};
use crate::model::{Labels, ObjectKey, Operator, Pod, Policy, Selector, UNKNOWN_VALUE};

/// Pods that stand for one template at most.
const MOST: usize = 1000;

/// The values that selectors name, of labels that controllers add.
#[derive(Default)]
pub(in crate::manifest) struct AskedValues(BTreeMap<String, BTreeSet<String>>);

impl AskedValues {
    /// The values that policies name. Cost: linear in their selectors.
    pub(in crate::manifest) fn of<'p>(policies: impl Iterator<Item = &'p Policy>) -> Self {
        let mut asked = Self::default();
        policies.flat_map(Policy::pod_selectors).for_each(|selector| asked.add(selector));
        asked
    }

    fn add(&mut self, selector: &Selector) {
        for requirement in selector.requirements() {
            let (Operator::In(values) | Operator::NotIn(values)) = &requirement.operator else { continue };
            if is_generated(&requirement.key) {
                self.0.entry(requirement.key.clone()).or_default().extend(values.iter().cloned());
            }
        }
    }

    fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Whether pods of one workload can differ in a label so that a selector distinguishes them.
    pub(super) fn distinguishes(&self, key: &str) -> bool {
        !is_generated(key) || self.0.contains_key(key)
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
    let last = numbers.first.saturating_add(numbers.count - 1);
    let name = object.key.name.as_str();
    let is_short = usize::try_from(numbers.count).is_ok_and(|count| count <= MOST);
    if numbers.sort == Sort::Ordinal && is_short {
        return ((numbers.first..=last).map(|number| pod_at(object, numbers.sort, number)).collect(), Extent::Whole);
    }
    let number = |text: &str| text.parse::<i64>().ok().filter(|n| n.to_string() == text && (numbers.first..=last).contains(n));
    let mut named: BTreeSet<i64> = match numbers.sort {
        Sort::CompletionIndex => asked.values(COMPLETION_INDEX).filter_map(number).collect(),
        Sort::Ordinal => {
            let of_name = |pod: &str| number(pod.strip_prefix(name)?.strip_prefix('-')?);
            asked.values(POD_INDEX).filter_map(number).chain(asked.values(POD_NAME).filter_map(of_name)).collect()
        }
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
