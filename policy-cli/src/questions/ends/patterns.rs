//! Globs, namespaces and label selectors: ends that stand for several workloads.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow, bail};
use policy_core::manifest::nearest;
use policy_core::model::{Operator, Requirement, Selector};

use super::{End, kinds, names};
use crate::questions::evaluation::Evaluation;

/// What selects workloads.
#[derive(Debug)]
pub(crate) struct Pattern<'t> {
    text: &'t str,
    /// A glob.
    namespace: String,
    kind: Option<String>,
    /// A glob.
    name: String,
    labels: Selector,
}

impl<'t> Pattern<'t> {
    /// The pattern of `shop/*`, `ns/shop`, `shop/app=web` or `shop/deploy/*`; `None` for other text.
    pub(crate) fn read(text: &'t str, evaluation: &Evaluation) -> Result<Option<Self>> {
        let namespace = evaluation.namespace.clone();
        let every = |namespace: String, labels| Self { text, namespace, kind: None, name: "*".to_owned(), labels };
        if is_selector(text) {
            // The keys of labels contain slashes too.
            let (namespace, labels) = match text.split_once('/') {
                Some((first, rest)) if is_glob(first) || evaluation.snapshot.namespaces.contains_key(first) => {
                    (first.to_owned(), rest)
                }
                _ => (namespace, text),
            };
            return Ok(Some(every(namespace, selector(labels)?)));
        }
        let parts: Vec<&str> = text.split('/').collect();
        let everything = Selector::everything();
        Ok(match parts.as_slice() {
            [word, name] if kinds::is_namespace(word) => Some(every((*name).to_owned(), everything)),
            parts if !parts.iter().any(|part| is_glob(part)) => None,
            [name] => Some(Self { name: (*name).to_owned(), ..every(namespace, everything) }),
            [first, name] => Some(match kinds::kind_or_namespace(first, evaluation) {
                Some(kind) => Self { kind: Some(kind), name: (*name).to_owned(), ..every(namespace, everything) },
                None => Self { name: (*name).to_owned(), ..every((*first).to_owned(), everything) },
            }),
            [namespace, word, name] if *word == "*" => {
                Some(Self { name: (*name).to_owned(), ..every((*namespace).to_owned(), everything) })
            }
            [namespace, word, name] => {
                let kind = kinds::kind(word, evaluation).ok_or_else(|| {
                    anyhow!("`{word}` in `{text}` is not a workload kind; expected {}", kinds::expected(evaluation))
                })?;
                Some(Self { kind: Some(kind), name: (*name).to_owned(), ..every((*namespace).to_owned(), everything) })
            }
            _ => None,
        })
    }

    /// The workloads with traffic that the pattern selects.
    ///
    /// # Errors
    /// If there are none.
    pub(crate) fn workloads(&self, evaluation: &Evaluation) -> Result<Vec<End>> {
        let mut found: Vec<End> = evaluation
            .snapshot
            .workloads
            .keys()
            .filter(|(namespace, owner)| {
                is_match(&self.namespace, namespace)
                    && is_match(&self.name, &owner.name)
                    && self.kind.as_ref().is_none_or(|kind| *kind == owner.kind)
            })
            .map(|(namespace, owner)| End::Workload { namespace: namespace.clone(), owner: owner.clone() })
            .filter(|end| has_labels(evaluation, end, &self.labels))
            .collect();
        if found.is_empty() {
            bail!("`{}` selects no workload{}", self.text, self.hint(evaluation));
        }
        found.retain(|end| names::has_traffic(evaluation, end));
        if found.is_empty() {
            bail!("`{}` selects only workloads without traffic", self.text);
        }
        found.sort_by_cached_key(|end| match end {
            End::Workload { namespace, owner } => (namespace.clone(), owner.name.clone(), owner.kind.clone()),
            other => (String::new(), other.name(), String::new()),
        });
        Ok(found)
    }

    fn hint(&self, evaluation: &Evaluation) -> String {
        let known: BTreeSet<&str> = evaluation.snapshot.workloads.keys().map(|(namespace, _)| namespace.as_str()).collect();
        if known.iter().any(|namespace| is_match(&self.namespace, namespace)) {
            return format!(" in namespace `{}`", self.namespace);
        }
        let near = nearest(&self.namespace, known.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
        format!(": no namespace with workloads is named `{}`{}", self.namespace, near.unwrap_or_default())
    }
}

/// Whether a pod of the end has labels that the selector selects.
pub(crate) fn has_labels(evaluation: &Evaluation, end: &End, selector: &Selector) -> bool {
    let mut pods = end.pods(evaluation).iter().filter_map(|key| evaluation.snapshot.pods.get(key));
    selector.is_everything() || pods.any(|pod| selector.matches(&pod.labels))
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether a glob with `*` and `?` matches all of a text.
fn is_match(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    // The places that the glob can be at after what was read of the text.
    let mut places: BTreeSet<usize> = BTreeSet::new();
    let with_empty = |places: &mut BTreeSet<usize>, mut at: usize| {
        places.insert(at);
        while glob.get(at) == Some(&'*') {
            at += 1;
            places.insert(at);
        }
    };
    with_empty(&mut places, 0);
    for c in &text {
        let mut next = BTreeSet::new();
        for at in &places {
            match glob.get(*at) {
                Some('*') => with_empty(&mut next, *at),
                Some(wanted) if *wanted == '?' || wanted == c => with_empty(&mut next, at + 1),
                _ => {}
            }
        }
        places = next;
    }
    places.contains(&glob.len())
}

/// Whether text is a label selector as kubectl reads it, and not a name.
fn is_selector(text: &str) -> bool {
    // The query of a URL is not a selector.
    if text.contains("://") {
        return false;
    }
    text.contains(['=', '!']) || text.contains(" in ") || text.contains(" notin ")
}

/// Reads a label selector as `kubectl -l` does: `app=web,tier!=db,env in (a,b),!old,team`.
pub(crate) fn selector(text: &str) -> Result<Selector> {
    let mut requirements = Vec::new();
    for part in split(text) {
        requirements.push(requirement(part.trim()).ok_or_else(|| {
            anyhow!(
                "cannot read `{}` as a label selector; expected one such as `app=web,tier!=db,env in (a,b),!old`",
                part.trim()
            )
        })?);
    }
    Ok(Selector::new(requirements))
}

/// The parts between the commas that are not in parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

fn requirement(text: &str) -> Option<Requirement> {
    let is_name = |text: &str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        !text.is_empty() && text.chars().all(is_allowed)
    };
    let values = |list: &str| -> Option<BTreeSet<String>> {
        let list = list.trim().strip_prefix('(')?.strip_suffix(')')?;
        let values: BTreeSet<String> = list.split(',').map(|value| value.trim().to_owned()).collect();
        values.iter().all(|value| value.is_empty() || is_name(value)).then_some(values)
    };
    let one = |value: &str| BTreeSet::from([value.trim().to_owned()]);
    let (key, operator) = if let Some((key, list)) = text.split_once(" notin ") {
        (key, Operator::NotIn(values(list)?))
    } else if let Some((key, list)) = text.split_once(" in ") {
        (key, Operator::In(values(list)?))
    } else if let Some((key, value)) = text.split_once("!=") {
        (key, Operator::NotIn(one(value)))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, Operator::In(one(value)))
    } else if let Some(key) = text.strip_prefix('!') {
        (key, Operator::DoesNotExist)
    } else {
        (text, Operator::Exists)
    };
    let are_names = match &operator {
        Operator::In(values) | Operator::NotIn(values) => values.iter().all(|value| value.is_empty() || is_name(value)),
        Operator::Exists | Operator::DoesNotExist => true,
    };
    (is_name(key.trim()) && are_names).then(|| Requirement { key: key.trim().to_owned(), operator })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_the_whole_text() {
        for (glob, text, expected) in [
            ("*", "", true),
            ("*", "web", true),
            ("web", "web", true),
            ("web", "web2", false),
            ("w*b", "web", true),
            ("w*b", "wb", true),
            ("w*b", "webs", false),
            ("w?b", "wb", false),
            ("w??", "web", true),
            ("*-*-*", "a-b-c", true),
            ("*-*-*", "a-b", false),
            ("**b", "ab", true),
        ] {
            assert_eq!(is_match(glob, text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn selectors_are_read_as_kubectl_reads_them() {
        for (text, shown) in [
            ("app=web", "app=web"),
            ("app==web", "app=web"),
            ("app = web , tier!=db", "app=web,tier!=db"),
            ("env in (a, b)", "env in (a, b)"),
            ("env notin (a,b),!old,team", "env notin (a, b),!old,team"),
            ("app.kubernetes.io/name=web", "app.kubernetes.io/name=web"),
            ("app=", "app="),
        ] {
            let read = selector(text).map(|selector| selector.to_string()).unwrap_or_else(|error| error.to_string());
            assert_eq!(read, shown, "{text}");
        }
        for text in ["=web", "app=a b", "env in a", "env in (a", "a,,b", "app=web=x", "!"] {
            assert!(selector(text).is_err(), "{text}");
        }
    }
}
