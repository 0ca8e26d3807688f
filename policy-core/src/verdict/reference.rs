//! Policies, rules and requirements as explanations name them.

use serde::Serialize;

use crate::graph::{AllowGraph, LabelsId, PodId, PolicyId, RuleRecord, Scope, SelectorId, TermId};
use crate::model::{Direction, Operator, Origin, Requirement, UNKNOWN_VALUE};

/// A policy, named for a report.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PolicyRef {
    /// Namespace of the policy.
    pub namespace: String,
    /// Name of the policy.
    pub name: String,
    /// Where it is defined, if it was read from a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// A rule of a policy, named for a report.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RuleRef {
    /// `namespace/name` of the policy.
    pub policy: String,
    /// The list that contains it.
    pub direction: Direction,
    /// Its index in the list, 0-based as in field paths.
    pub index: u32,
    /// The file, if the policy was read from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line, 1-based.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

impl std::fmt::Display for RuleRef {
    /// `shop/db ingress[0] (shop.yaml:12)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}[{}]", self.policy, self.direction, self.index)?;
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, " ({file}:{line})"),
            (Some(file), None) => write!(f, " ({file})"),
            (None, _) => Ok(()),
        }
    }
}

/// The requirements of a term that a pod does not meet.
pub(crate) struct TermFailure {
    pub namespace: NamespaceFailure,
    /// Requirements on pod labels, with the pod's value.
    pub pods: Vec<(Requirement, Option<String>)>,
}

/// The requirements of a term that the namespace of a pod does not meet.
pub(crate) enum NamespaceFailure {
    None,
    /// The term is over this namespace, and the pod's is another one.
    Other(String),
    /// Requirements on namespace labels, with the namespace's value.
    Labels(Vec<(Requirement, Option<String>)>),
}

/// The value of a requirement that is probably mistyped, because the value of the object differs by one or two letters.
pub(crate) fn mistyped(requirement: &Requirement, value: Option<&str>) -> Option<String> {
    let Operator::In(wanted) = &requirement.operator else { return None };
    let value = value.filter(|v| v.len() >= 4 && *v != UNKNOWN_VALUE)?;
    wanted.iter().find(|w| w.len() >= 4 && strsim::damerau_levenshtein(w, value) <= 1 + value.len() / 8).cloned()
}

impl AllowGraph {
    pub(crate) fn policy_ref(&self, policy: PolicyId) -> PolicyRef {
        let (namespace, name) = self.policy_name(policy);
        let origin = self.policies.get(policy).origin.as_ref();
        PolicyRef { namespace: namespace.to_owned(), name: name.to_owned(), origin: origin.map(|origin| (**origin).clone()) }
    }

    pub(crate) fn rule_ref(&self, policy: PolicyId, rule: &RuleRecord) -> RuleRef {
        let (namespace, name) = self.policy_name(policy);
        let file = self.policies.get(policy).origin.as_ref().map(|origin| origin.file.clone());
        RuleRef {
            policy: format!("{namespace}/{name}"),
            direction: rule.direction,
            index: rule.index,
            line: (rule.line > 0 && file.is_some()).then_some(rule.line),
            file,
        }
    }

    /// The requirements of a term that a pod does not meet.
    pub(crate) fn term_failure(&self, term: TermId, pod: PodId) -> TermFailure {
        let key = self.terms.key(term);
        let Some(template) = self.pods.get(pod).template.map(|template| self.templates.key(template)) else {
            return TermFailure { namespace: NamespaceFailure::None, pods: Vec::new() };
        };
        let failed = |selector: SelectorId, labels: LabelsId| -> Vec<(Requirement, Option<String>)> {
            let labels = self.labels.key(labels).to_labels(&self.strings);
            let selector = self.selectors.key(selector).to_selector(&self.strings);
            let requirements = selector.requirements().iter();
            requirements
                .map(|r| (r.clone(), labels.get(&r.key).cloned()))
                .filter(|(r, value)| !r.holds(value.as_deref()))
                .collect()
        };
        let namespace = match key.scope {
            Scope::Namespace(id) if id == template.namespace => NamespaceFailure::None,
            Scope::Namespace(id) => NamespaceFailure::Other(self.namespaces.key(id).to_string()),
            Scope::Matching(scope) => {
                let labels = self.namespaces.data(template.namespace).labels;
                match failed(*self.scopes.key(scope), labels) {
                    none if none.is_empty() => NamespaceFailure::None,
                    some => NamespaceFailure::Labels(some),
                }
            }
        };
        TermFailure { namespace, pods: failed(key.pods, template.labels) }
    }
}
