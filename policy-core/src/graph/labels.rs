//! Labels and selectors over symbols.

use smallvec::SmallVec;

use super::{Strings, Symbol};
use crate::model::{Asked, Labels, Left, Operator, Selector};

/// Labels of one object.
///
/// Shape: (key, value) pairs sorted by key symbol.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct LabelSet(Box<[(Symbol, Symbol)]>);

impl LabelSet {
    /// The labels over symbols, with a use of each symbol.
    pub(crate) fn new(labels: &Labels, strings: &mut Strings) -> Self {
        Self::of(labels.iter().map(|(k, v)| (strings.intern(k), strings.intern(v))))
    }

    /// The same without uses; `None` when there is a text without a symbol.
    pub(crate) fn find(labels: &Labels, strings: &Strings) -> Option<Self> {
        let mut pairs: SmallVec<[(Symbol, Symbol); 12]> = SmallVec::new();
        for (key, value) in labels {
            pairs.push((strings.find(key.as_str())?, strings.find(value.as_str())?));
        }
        Some(Self::of(pairs))
    }

    pub(crate) fn of(pairs: impl IntoIterator<Item = (Symbol, Symbol)>) -> Self {
        let mut pairs: SmallVec<[(Symbol, Symbol); 12]> = pairs.into_iter().collect();
        pairs.sort_unstable();
        Self(pairs.as_slice().into())
    }

    /// Every symbol, once for each use.
    pub(crate) fn symbols(&self) -> impl Iterator<Item = Symbol> {
        self.0.iter().flat_map(|(key, value)| [*key, *value])
    }

    pub(crate) fn value(&self, key: Symbol) -> Option<Symbol> {
        let at = self.0.binary_search_by_key(&key, |(k, _)| *k).ok()?;
        self.0.get(at).map(|(_, value)| *value)
    }

    pub(crate) fn pairs(&self) -> &[(Symbol, Symbol)] {
        &self.0
    }

    pub(crate) fn to_labels(&self, strings: &Strings) -> Labels {
        self.0.iter().map(|(k, v)| (strings.text(*k).to_owned(), strings.text(*v).to_owned())).collect()
    }
}

/// A canonical selector over symbols. Requirements keep the order of [`Selector`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct CompiledSelector(Box<[(Symbol, CompiledOperator)]>);

/// [`Operator`] over symbols; values keep the order of the strings, so equal selectors are equal.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum CompiledOperator {
    In(SmallVec<[Symbol; 2]>),
    NotIn(SmallVec<[Symbol; 2]>),
    Exists,
    DoesNotExist,
}

impl CompiledSelector {
    /// The selector over symbols, with a use of each symbol.
    pub(crate) fn new(selector: &Selector, strings: &mut Strings) -> Self {
        let mut requirements = Vec::with_capacity(selector.requirements().len());
        for requirement in selector.requirements() {
            let key = strings.intern(&requirement.key);
            let operator = match &requirement.operator {
                Operator::In(values) => CompiledOperator::In(values.iter().map(|v| strings.intern(v)).collect()),
                Operator::NotIn(values) => CompiledOperator::NotIn(values.iter().map(|v| strings.intern(v)).collect()),
                Operator::Exists => CompiledOperator::Exists,
                Operator::DoesNotExist => CompiledOperator::DoesNotExist,
            };
            requirements.push((key, operator));
        }
        Self(requirements.into())
    }

    /// The keys that it asks for, each once.
    pub(crate) fn keys(&self) -> SmallVec<[Symbol; 4]> {
        let mut keys: SmallVec<[Symbol; 4]> = self.0.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Every symbol, once for each use.
    pub(crate) fn symbols(&self) -> impl Iterator<Item = Symbol> {
        self.0.iter().flat_map(|(key, operator)| {
            let values: &[Symbol] = match operator {
                CompiledOperator::In(values) | CompiledOperator::NotIn(values) => values,
                CompiledOperator::Exists | CompiledOperator::DoesNotExist => &[],
            };
            values.iter().copied().chain([*key])
        })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, labels: &LabelSet) -> bool {
        self.0.iter().all(|(key, operator)| operator.holds(labels.value(*key)))
    }

    /// The (key, value) pairs of which every selected object has exactly one, when the selector says so. The requirement
    /// with the fewest values, for the shortest lists in an index.
    pub(crate) fn anchor(&self) -> Option<(Symbol, &[Symbol])> {
        let wanted = self.0.iter().filter_map(|(key, operator)| match operator {
            CompiledOperator::In(values) => Some((*key, values.as_slice())),
            _ => None,
        });
        wanted.min_by_key(|(_, values)| values.len())
    }

    /// Of each label that must have one of some values, the first of them.
    pub(crate) fn first_pairs(&self) -> SmallVec<[(Symbol, Symbol); 4]> {
        let pairs = self.0.iter().filter_map(|(key, operator)| match operator {
            CompiledOperator::In(values) => values.first().map(|value| (*key, *value)),
            _ => None,
        });
        pairs.collect()
    }

    /// Whether every object that could exist and that this selects is one that `wide` selects. False for some selectors that no object
    /// can meet.
    pub(crate) fn implies(&self, wide: &Self) -> bool {
        let asks = |key: Symbol| self.0.iter().any(|(own, _)| *own == key);
        if self == wide || wide.is_everything() {
            return true;
        }
        // Without a requirement of its own, a label can have any value.
        wide.0.iter().all(|(key, _)| asks(*key)) && wide.keys().into_iter().all(|key| self.left(key).is_within(&wide.left(key)))
    }

    /// What is left to a label.
    fn left(&self, key: Symbol) -> Left<Symbol> {
        let own = self.0.iter().filter(|(other, _)| *other == key);
        Left::by(own.map(|(_, operator)| match operator {
            CompiledOperator::In(values) => Asked::In(values.to_vec()),
            CompiledOperator::NotIn(values) => Asked::NotIn(values.to_vec()),
            CompiledOperator::Exists => Asked::Exists,
            CompiledOperator::DoesNotExist => Asked::DoesNotExist,
        }))
    }

    pub(crate) fn to_selector(&self, strings: &Strings) -> Selector {
        let texts = |values: &[Symbol]| values.iter().map(|v| strings.text(*v).to_owned()).collect();
        Selector::new(self.0.iter().map(|(key, operator)| crate::model::Requirement {
            key: strings.text(*key).to_owned(),
            operator: match operator {
                CompiledOperator::In(values) => Operator::In(texts(values)),
                CompiledOperator::NotIn(values) => Operator::NotIn(texts(values)),
                CompiledOperator::Exists => Operator::Exists,
                CompiledOperator::DoesNotExist => Operator::DoesNotExist,
            },
        }))
    }
}

impl CompiledOperator {
    fn holds(&self, value: Option<Symbol>) -> bool {
        match self {
            Self::In(values) => value.is_some_and(|v| values.contains(&v)),
            Self::NotIn(values) => value.is_none_or(|v| !values.contains(&v)),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
        }
    }
}
