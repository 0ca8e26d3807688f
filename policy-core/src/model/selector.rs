//! Label selectors in canonical form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Labels of one object, sorted by key.
pub type Labels = BTreeMap<String, String>;

/// The value of a label that is there and whose value is not known (S2.24). No label of an API server has it.
pub const UNKNOWN_VALUE: &str = "(unknown)";

/// A label selector: all requirements must hold.
///
/// Shape: canonical. Sorted by key, then operator; `matchLabels` pairs and `In` expressions on one key are one `In`
/// requirement over the intersection of their values. Two spellings of one selector are usually one value, and always
/// select the same.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// One requirement on the label `key`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Requirement {
    /// The label key.
    pub key: String,
    /// What is required of it.
    pub operator: Operator,
}

/// What a requirement asks of its label.
///
/// Source: S1.31, after `labels.Requirement.Matches` of k8s.io/apimachinery.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Operator {
    /// Present, with one of these values. No value at all can never hold.
    In(BTreeSet<String>),
    /// Absent, or with none of these values.
    NotIn(BTreeSet<String>),
    /// Present, whatever the value.
    Exists,
    /// Absent.
    DoesNotExist,
}

impl Requirement {
    /// Whether an object whose label has `value` (`None`: no such label) meets the requirement.
    #[must_use]
    pub fn holds(&self, value: Option<&str>) -> bool {
        match &self.operator {
            Operator::In(values) => value.is_some_and(|v| values.contains(v)),
            Operator::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }

    fn asked(&self) -> Asked<&str> {
        fn list(values: &BTreeSet<String>) -> Vec<&str> {
            values.iter().map(String::as_str).collect()
        }
        match &self.operator {
            Operator::In(values) => Asked::In(list(values)),
            Operator::NotIn(values) => Asked::NotIn(list(values)),
            Operator::Exists => Asked::Exists,
            Operator::DoesNotExist => Asked::DoesNotExist,
        }
    }
}

impl Selector {
    /// The selector without requirements, which selects everything of its kind (S1.32).
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// The canonical form of these requirements.
    #[must_use]
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut refused: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut rest: BTreeSet<Requirement> = BTreeSet::new();
        for requirement in requirements {
            let Requirement { key, operator } = requirement;
            match operator {
                Operator::In(values) => {
                    wanted.entry(key).and_modify(|have| have.retain(|v| values.contains(v))).or_insert(values);
                }
                Operator::NotIn(values) => refused.entry(key).or_default().extend(values),
                operator => {
                    rest.insert(Requirement { key, operator });
                }
            }
        }
        rest.retain(|r| !(r.operator == Operator::Exists && wanted.contains_key(&r.key)));
        let mut requirements: Vec<Requirement> = rest
            .into_iter()
            .chain(wanted.into_iter().map(|(key, values)| Requirement { key, operator: Operator::In(values) }))
            .chain(refused.into_iter().map(|(key, values)| Requirement { key, operator: Operator::NotIn(values) }))
            .collect();
        requirements.sort();
        Self { requirements }
    }

    /// The requirements, sorted.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether it selects everything of its kind.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The first label that no object can have as required, if there is one.
    #[must_use]
    pub fn contradiction(&self) -> Option<&str> {
        self.requirements.iter().map(|requirement| requirement.key.as_str()).find(|key| {
            let own = self.requirements.iter().filter(|requirement| requirement.key == **key);
            Left::by(own.map(Requirement::asked)).is_nothing()
        })
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|r| r.holds(labels.get(&r.key).map(String::as_str)))
    }
}

/// The values that requirements leave to one label.
///
/// Shape: every list is as long as those of the requirements that it comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Left<V> {
    /// Whether the label may be absent.
    is_absent: bool,
    /// Whether `values` are those that are left, and not those that are not.
    is_finite: bool,
    values: Vec<V>,
}

/// What a requirement asks, over any kind of value.
pub(crate) enum Asked<V> {
    In(Vec<V>),
    NotIn(Vec<V>),
    Exists,
    DoesNotExist,
}

impl<V: PartialEq> Left<V> {
    /// What requirements on one label leave to it.
    pub(crate) fn by(requirements: impl Iterator<Item = Asked<V>>) -> Self {
        let mut left = Self { is_absent: true, is_finite: false, values: Vec::new() };
        for asked in requirements {
            match asked {
                Asked::In(values) => {
                    let kept = values.into_iter().filter(|value| left.values.contains(value) == left.is_finite).collect();
                    left = Self { is_absent: false, is_finite: true, values: kept };
                }
                Asked::NotIn(values) if left.is_finite => left.values.retain(|value| !values.contains(value)),
                Asked::NotIn(values) => left.values.extend(values),
                Asked::Exists => left.is_absent = false,
                Asked::DoesNotExist => left = Self { is_finite: true, values: Vec::new(), ..left },
            }
        }
        left
    }

    /// Whether nothing is left.
    pub(crate) fn is_nothing(&self) -> bool {
        !self.is_absent && self.is_finite && self.values.is_empty()
    }

    /// Whether all of it is in another one. There are more values than any list has.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        let are_values = match (self.is_finite, other.is_finite) {
            (true, is_finite) => self.values.iter().all(|value| other.values.contains(value) == is_finite),
            (false, false) => other.values.iter().all(|value| self.values.contains(value)),
            (false, true) => false,
        };
        are_values && (other.is_absent || !self.is_absent)
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        match &self.operator {
            Operator::In(values) if values.len() == 1 => write!(f, "{}={}", self.key, list(values)),
            Operator::In(values) => write!(f, "{} in ({})", self.key, list(values)),
            Operator::NotIn(values) if values.len() == 1 => write!(f, "{}!={}", self.key, list(values)),
            Operator::NotIn(values) => write!(f, "{} notin ({})", self.key, list(values)),
            Operator::Exists => write!(f, "{}", self.key),
            Operator::DoesNotExist => write!(f, "!{}", self.key),
        }
    }
}

impl fmt::Display for Selector {
    /// The spelling of `kubectl -l`; `everything` when empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_everything() {
            return f.write_str("everything");
        }
        for (i, requirement) in self.requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(key: &str, operator: Operator) -> Requirement {
        Requirement { key: key.into(), operator }
    }

    fn values(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|v| (*v).to_owned()).collect()
    }

    #[test]
    fn spellings_of_one_selector_are_one_value() {
        let label = Selector::new([requirement("app", Operator::In(values(&["web"])))]);
        let expression = Selector::new([
            requirement("app", Operator::Exists),
            requirement("app", Operator::In(values(&["web", "api"]))),
            requirement("app", Operator::In(values(&["db", "web"]))),
        ]);
        assert_eq!(label, expression);
        assert_eq!(label.to_string(), "app=web");
    }

    #[test]
    fn contradiction_selects_nothing() {
        let never =
            Selector::new([requirement("app", Operator::In(values(&["a"]))), requirement("app", Operator::In(values(&["b"])))]);
        assert!(!never.matches(&Labels::from([("app".into(), "a".into())])));
        assert!(!never.matches(&Labels::new()));
        assert_eq!(never.contradiction(), Some("app"));
    }

    /// Every selector of up to two requirements on one label with few values, against every label.
    #[test]
    fn contradictions_are_what_matches_nothing() {
        let operators = |value: &str| {
            [
                Operator::In(values(&[value])),
                Operator::In(values(&["a", "b"])),
                Operator::NotIn(values(&[value])),
                Operator::Exists,
                Operator::DoesNotExist,
            ]
        };
        for one in operators("a") {
            for other in operators("b") {
                let selector = Selector::new([requirement("app", one.clone()), requirement("app", other)]);
                let labels = ["a", "b", "c"].map(|value| Labels::from([("app".to_owned(), value.to_owned())]));
                let is_met = labels.iter().chain([&Labels::new()]).any(|labels| selector.matches(labels));
                assert_eq!(selector.contradiction().is_none(), is_met, "{selector}");
            }
        }
    }
}
