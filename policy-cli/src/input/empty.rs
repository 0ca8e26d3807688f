//! Input without a single object is an error: a failed dump or a wrong path must not look like a cluster without policies.

use anyhow::{Result, bail};

use super::{Input, left_out};
use crate::args::InputArgs;

/// Fails if the input has no Kubernetes object, says what was read, what was left out, and what was expected. Where the input has errors,
/// they are the better message.
pub(crate) fn require_objects(input: &Input, args: &InputArgs) -> Result<()> {
    let Input { snapshot, files, left_out, .. } = input;
    if snapshot.objects > 0 || args.allow_empty || snapshot.has_errors() {
        return Ok(());
    }
    let paths: Vec<String> = args.paths.iter().map(|path| format!("`{}`", path.display())).collect();
    let documents: usize = snapshot.skipped.values().sum();
    let read = match (*files, documents) {
        (0, _) => "no file with the ending .yaml, .yml, .json, .jsonl or .ndjson was found".to_owned(),
        (_, 0) => "it holds no document".to_owned(),
        (_, 1) => "it holds one document, which is not a Kubernetes object".to_owned(),
        (_, n) => format!("it holds {n} documents, none of which is a Kubernetes object"),
    };
    let left_out: String = left_out::sentences(left_out)
        .into_iter()
        .chain(left_out::excluded(left_out))
        .map(|sentence| format!("; {sentence}"))
        .collect();
    bail!(
        "no Kubernetes object in {}: {read}{left_out}; expected manifests, or the output of `kubectl get -o yaml`; use `--allow-empty` to accept this",
        paths.join(", ")
    )
}
