//! Hooks of Helm and Argo CD: objects of files that a cluster has only for a moment, or in a case that is not the usual one.

use super::tree::{NodeId, Tree};

/// A tool that runs hooks.
struct Tool {
    annotation: &'static str,
    /// Where it is written when the tool deletes a hook.
    deletion: &'static str,
    /// Deletion after a success.
    after_success: &'static str,
    /// Hooks of every installation or change, whose objects stay if nothing deletes them.
    usual: &'static [&'static str],
    /// Other hooks. A hook of another name is not created at all.
    others: &'static [&'static str],
}

static TOOLS: [Tool; 2] = [
    // https://helm.sh/docs/topics/charts_hooks/
    Tool {
        annotation: "helm.sh/hook",
        deletion: "helm.sh/hook-delete-policy",
        after_success: "hook-succeeded",
        usual: &["pre-install", "post-install", "pre-upgrade", "post-upgrade"],
        others: &["pre-delete", "post-delete", "pre-rollback", "post-rollback", "test", "test-success"],
    },
    // https://argo-cd.readthedocs.io/en/stable/user-guide/sync-waves/
    Tool {
        annotation: "argocd.argoproj.io/hook",
        deletion: "argocd.argoproj.io/hook-delete-policy",
        after_success: "hooksucceeded",
        usual: &["presync", "sync", "postsync"],
        others: &["syncfail", "predelete", "postdelete"],
    },
];

/// Whether an object is a hook that a cluster does not keep: tools delete it, or create it only for a test, a failure or a deletion.
/// What comes from a cluster is there.
pub(super) fn is_passing(tree: &Tree<'_>, object: NodeId) -> bool {
    let Some(metadata) = tree.field(object, "metadata") else { return false };
    let Some(annotations) = tree.field(metadata, "annotations") else { return false };
    let words = |name: &str| {
        let text = tree.text(annotations, name)?.to_lowercase();
        Some(text.split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>())
    };
    // Argo CD follows the annotations of Helm too.
    let is_deleted =
        || TOOLS.iter().any(|tool| words(tool.deletion).is_some_and(|when| when.iter().any(|when| when == tool.after_success)));
    let is_of = |tool: &Tool| {
        let Some(hooks) = words(tool.annotation) else { return false };
        let has = |known: &[&str]| hooks.iter().any(|hook| known.contains(&hook.as_str()));
        let is_unknown = hooks.iter().any(|hook| !tool.usual.contains(&hook.as_str()) && !tool.others.contains(&hook.as_str()));
        !has(tool.usual) || is_unknown || is_deleted()
    };
    tree.field(metadata, "uid").is_none() && TOOLS.iter().any(is_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::documents::Documents;

    #[test]
    fn hooks_that_stay_are_objects_like_others() {
        let passes = |annotations: &str, more: &str| {
            let text = format!("metadata: {{name: a{more}, annotations: {{{annotations}}}}}");
            let tree = Documents::new(&text).next().unwrap().unwrap();
            is_passing(&tree, tree.root())
        };
        for (annotations, expected) in [
            ("a: b", false),
            ("helm.sh/hook: 'pre-install,pre-upgrade'", false),
            ("helm.sh/hook: post-install, helm.sh/hook-delete-policy: before-hook-creation", false),
            ("helm.sh/hook: post-install, helm.sh/hook-delete-policy: hook-failed", false),
            ("helm.sh/hook: post-install, helm.sh/hook-delete-policy: 'before-hook-creation, hook-succeeded'", true),
            ("helm.sh/hook: post-install, helm.sh/hook-delete-policy: Hook-Succeeded", true),
            ("helm.sh/hook: post-install, argocd.argoproj.io/hook-delete-policy: HookSucceeded", true),
            ("helm.sh/hook: 'pre-install,foo'", true),
            ("helm.sh/hook: test", true),
            ("helm.sh/hook: 'test, post-install'", false),
            ("helm.sh/hook: pre-delete", true),
            ("argocd.argoproj.io/hook: Sync", false),
            ("argocd.argoproj.io/hook: Skip", true),
            ("argocd.argoproj.io/hook: SyncFail", true),
            ("argocd.argoproj.io/hook: PreSync, argocd.argoproj.io/hook-delete-policy: HookSucceeded", true),
        ] {
            assert_eq!(passes(annotations, ""), expected, "{annotations}");
            assert!(!passes(annotations, ", uid: 5e1f0b6e"), "it is in a cluster: {annotations}");
        }
    }
}
