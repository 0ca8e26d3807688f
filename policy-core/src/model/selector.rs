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

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|r| r.holds(labels.get(&r.key).map(String::as_str)))
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
    }
}
