//! Label selectors (S1.12, S1.13, S1.30 to S1.32).

use std::collections::BTreeSet;
use std::fmt;

use super::super::fault::Fault;
use super::super::names;
use super::super::wire::{LabelSelector, LabelSelectorRequirement};
use super::{Path, Report};
use crate::diagnostic::rules::policies;
use crate::model::{Operator, Requirement, Selector};

/// The selector, or `None` when part of it cannot be read.
pub(crate) fn lower_selector(wire: &LabelSelector, path: &Path<'_>, report: &mut Report<'_>) -> Option<Selector> {
    let mut requirements = Vec::with_capacity(wire.match_labels.len() + wire.match_expressions.len());
    let mut is_readable = !report.unread.touch(path);
    for (key, value) in &wire.match_labels {
        for fault in label_faults(key, value, &path.field("matchLabels")) {
            report.error(fault);
            is_readable = false;
        }
        requirements.push(Requirement { key: key.clone(), operator: Operator::In(BTreeSet::from([value.clone()])) });
    }
    let list = path.field("matchExpressions");
    for (i, expression) in wire.match_expressions.iter().enumerate() {
        match expression.as_ref().and_then(|e| lower_requirement(e, &list.index(i), report)) {
            Some(requirement) => requirements.push(requirement),
            None => is_readable = false,
        }
    }
    is_readable.then(|| Selector::new(requirements))
}

/// What is wrong with a label of the mapping at `path`: its key, its value, or both.
pub(crate) fn label_faults(key: &str, value: &str, path: &dyn fmt::Display) -> impl Iterator<Item = Fault> {
    let fault = |message| Fault::new(&policies::INVALID_LABEL, path, message);
    let of_key = names::not_label_key(key).map(|expected| fault(format!("found the key `{key}`, expected {expected}")));
    let of_value =
        names::not_label_value(value).map(|expected| fault(format!("found the value `{value}` of `{key}`, expected {expected}")));
    of_key.into_iter().chain(of_value)
}

fn lower_requirement(wire: &LabelSelectorRequirement, path: &Path<'_>, report: &mut Report<'_>) -> Option<Requirement> {
    let before = report.error_count;
    let values: BTreeSet<String> = wire.values.iter().flatten().cloned().collect();
    let operator = match wire.operator.as_str() {
        "In" => Some(Operator::In(values)),
        "NotIn" => Some(Operator::NotIn(values)),
        "Exists" => Some(Operator::Exists),
        "DoesNotExist" => Some(Operator::DoesNotExist),
        _ => None,
    };
    match &operator {
        None => {
            let near = names::nearest(&wire.operator, ["In", "NotIn", "Exists", "DoesNotExist"]);
            let message = format!("found `{}`, expected `In`, `NotIn`, `Exists` or `DoesNotExist`", wire.operator);
            report.error(Fault::new(&policies::UNKNOWN_OPERATOR, &path.field("operator"), message).did_you_mean(near));
        }
        Some(Operator::In(_) | Operator::NotIn(_)) if wire.values.is_empty() => {
            let message = format!("found no value, expected at least one for `{}`", wire.operator);
            report.error(Fault::new(&policies::MISSING_VALUES, &path.field("values"), message));
        }
        Some(Operator::Exists | Operator::DoesNotExist) if !wire.values.is_empty() => {
            let message = format!("found values, expected none for `{}`", wire.operator);
            report.error(Fault::new(&policies::UNEXPECTED_VALUES, &path.field("values"), message));
        }
        Some(_) => {}
    }
    if let Some(expected) = names::not_label_key(&wire.key) {
        let message = format!("found `{}`, expected {expected}", wire.key);
        report.error(Fault::new(&policies::INVALID_LABEL, &path.field("key"), message));
    }
    let list = path.field("values");
    for (i, value) in wire.values.iter().enumerate() {
        if let Some(expected) = value.as_deref().and_then(names::not_label_value).filter(|_| !report.allows_invalid_values) {
            let found = value.as_deref().unwrap_or_default();
            let message = format!("found `{found}`, expected {expected}");
            report.error(Fault::new(&policies::INVALID_LABEL, &list.index(i), message));
        }
    }
    let is_complete = wire.values.iter().all(Option::is_some);
    operator
        .filter(|_| is_complete && report.error_count == before)
        .map(|operator| Requirement { key: wire.key.clone(), operator })
}
