//! Input without a single object is an error: a failed dump or a wrong path must not look like a cluster without policies.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::left_out::{self, Kind, LeftOut};
use super::{Input, shown};
use crate::args::InputArgs;

/// Fails if the input has no Kubernetes object, says what was read, what was left out, and what was expected. Where the input has errors,
/// they are the better message.
pub(crate) fn require_objects(input: &Input, args: &InputArgs) -> Result<()> {
    let Input { snapshot, files, left_out, .. } = input;
    if snapshot.objects > 0 || args.allow_empty || snapshot.has_errors() {
        return Ok(());
    }
    let arguments: Vec<String> = args.paths.iter().map(|path| shown(path)).collect();
    let is_empty = |argument: &String| left_out.iter().any(|entry| entry.kind == Kind::Empty && entry.path == *argument);
    let are_empty = *files == arguments.len() && arguments.iter().all(is_empty);
    let is_argument = |entry: &LeftOut| entry.kind == Kind::Empty && arguments.contains(&entry.path);
    let documents: usize = snapshot.skipped.values().sum();
    let read = match (*files, documents) {
        (0, _) => "no file with the ending .yaml, .yml, .json, .jsonl or .ndjson was found".to_owned(),
        (1, 0) if are_empty => "it is empty".to_owned(),
        (_, 0) if are_empty => "they are empty".to_owned(),
        (_, 0) => "it holds no document".to_owned(),
        (_, 1) => "it holds one document, which is not a Kubernetes object".to_owned(),
        (_, n) => format!("it holds {n} documents, none of which is a Kubernetes object"),
    };
    let others: Vec<LeftOut> = left_out.iter().filter(|entry| !is_argument(entry)).cloned().collect();
    let left_out: String = left_out::sentences(&others)
        .into_iter()
        .chain(left_out::excluded(&others))
        .map(|sentence| format!("; {sentence}"))
        .collect();
    bail!(
        "no Kubernetes object in {}: {read}{left_out}; expected manifests, or the output of `kubectl get -o yaml`; use `--allow-empty` to accept this",
        sources(args)
    )
}

/// What was read, in words.
fn sources(args: &InputArgs) -> String {
    let name = |path: &PathBuf| match path.as_os_str() == "-" {
        true => "standard input".to_owned(),
        false => format!("`{}`", path.display()),
    };
    let live = args.cluster.live.then(|| "the cluster".to_owned());
    let paths = args.paths.iter().chain(&args.kustomizations).chain(&args.chart).map(name);
    let names: Vec<String> = live.into_iter().chain(paths).collect();
    if names.is_empty() { "the input".to_owned() } else { names.join(", ") }
}
