//! Which connections a list shows.

use anyhow::{Result, bail};
use policy_core::manifest::nearest;
use policy_core::model::Selector;

use super::ends::{End, patterns};
use super::evaluation::Evaluation;
use crate::args::{InputArgs, ScopeArgs};

/// Connections of which one end is in a namespace and has labels.
#[derive(Debug)]
pub(crate) struct Scope {
    /// `None` stands for all namespaces.
    pub namespace: Option<String>,
    labels: Selector,
}

impl Scope {
    /// Every connection.
    pub(crate) fn all() -> Self {
        Self { namespace: None, labels: Selector::everything() }
    }

    /// The scope that the arguments ask for.
    ///
    /// # Errors
    /// If the input has no workload in the namespace, because the list would be empty for a mistyped name.
    pub(crate) fn new(args: &ScopeArgs, input: &InputArgs, evaluation: &Evaluation) -> Result<Self> {
        let namespace = input.namespace.clone().filter(|_| !args.all_namespaces);
        if let Some(namespace) = &namespace
            && !evaluation.snapshot.namespaces.contains_key(namespace)
        {
            let near = nearest(namespace, evaluation.snapshot.namespaces.keys().map(String::as_str));
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            bail!("there is no namespace `{namespace}` in the input{hint}");
        }
        let labels = args.selector.as_deref().map(patterns::selector).transpose()?.unwrap_or_else(Selector::everything);
        Ok(Self { namespace, labels })
    }

    /// Whether connections of an end are shown, whatever the other end.
    pub(crate) fn contains(&self, evaluation: &Evaluation, end: &End) -> bool {
        let is_in_namespace = self.namespace.as_deref().is_none_or(|namespace| end.namespace() == Some(namespace));
        is_in_namespace && patterns::has_labels(evaluation, end, &self.labels)
    }
}
