//! What `kustomize build` prints for a folder.
//!
//! The output is that of the folder as it is. Where it does not name the files of its objects, a second build does: of a temporary
//! kustomization that only adds the annotations. Nothing is written into the folder of the user.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::kustomization::file_of;
use super::program::{Failure, Limits, Program, first};
use super::references::References;
use super::rendered::{Object, Rendered, joined, kustomize_parts};

/// The manifests of a kustomization. Nothing is fetched, and no plugin runs.
///
/// # Errors
/// When the folder has no kustomization, refers to something remote, or cannot be built.
pub fn build(folder: &Path, limits: Limits) -> Result<Rendered, Failure> {
    if file_of(folder).is_none() {
        let text = "it has no `kustomization.yaml`, `kustomization.yml` or `Kustomization`";
        return Err(Failure::Refused(text.to_owned()));
    }
    let mut references = References::default();
    references.follow(folder);
    if let Some((file, resource)) = references.remote.first() {
        return Err(Failure::Remote(shown(file), resource.clone()));
    }
    let has_origins =
        folder.canonicalize().is_ok_and(|folder| references.kustomizations.get(&folder).is_some_and(|found| found.has_origins));
    std::thread::scope(|scope| {
        let origins = scope.spawn(|| if has_origins { HashMap::new() } else { origins(folder, limits).unwrap_or_default() });
        let text = run(folder, limits)?;
        let origins = origins.join().unwrap_or_default();
        let parts = kustomize_parts(&String::from_utf8_lossy(&text));
        let base = folder.to_owned();
        let resolve = |path: &str| Some(shown(&base.join(path).canonicalize().ok()?));
        Ok(Rendered { parts: joined(parts, &origins, resolve), text })
    })
}

fn run(folder: &Path, limits: Limits) -> Result<Vec<u8>, Failure> {
    // kustomize would take a relative path such as `github.com/org/repo` for a repository.
    let folder = folder.canonicalize().map_err(|error| Failure::Refused(error.to_string()))?;
    let with = |command: &str| -> Vec<OsString> { vec![command.into(), "--".into(), folder.clone().into()] };
    let programs =
        [Program { name: "kustomize", arguments: with("build") }, Program { name: "kubectl", arguments: with("kustomize") }];
    first(&programs, limits)
}

/// The files of the objects that a folder builds, absolute; `None` if a build that names them fails.
fn origins(folder: &Path, limits: Limits) -> Option<HashMap<Object, String>> {
    let above = tempfile::tempdir().ok()?;
    let above = (above.path().canonicalize().ok()?, above);
    let resource = relative(&above.0, &folder.canonicalize().ok()?);
    let resource = resource.to_str()?.replace('\\', "\\\\").replace('"', "\\\"");
    let text = format!("{{\"resources\": [\"{resource}\"], \"buildMetadata\": [\"originAnnotations\"]}}\n");
    std::fs::write(above.0.join("kustomization.yaml"), text).ok()?;
    let output = run(&above.0, limits).ok()?;
    let parts = kustomize_parts(&String::from_utf8_lossy(&output));
    let absolute = |path: String| Some(above.0.join(path).canonicalize().ok()?.to_str()?.to_owned());
    Some(parts.into_iter().filter_map(|(part, path)| Some((part.object, absolute(path?)?))).collect())
}

/// A path as seen from a folder; both are canonical.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

/// A canonical path as users write it: relative to the current directory if it is below it.
pub(super) fn shown(path: &Path) -> PathBuf {
    let current = std::env::current_dir().and_then(|current| current.canonicalize());
    let below = current.ok().and_then(|current| path.strip_prefix(current).ok().map(Path::to_owned));
    below.unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_seen_from_a_folder() {
        let seen = |from: &str, to: &str| relative(Path::new(from), Path::new(to)).display().to_string();
        assert_eq!(seen("/tmp/x", "/srv/a/b"), "../../srv/a/b");
        assert_eq!(seen("/tmp/x", "/tmp/y"), "../y");
        assert_eq!(seen("/tmp", "/tmp/y"), "y");
    }

    #[test]
    fn what_cannot_be_built_here_is_refused_before_a_program_runs() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { time: std::time::Duration::from_secs(20), size: 1 << 20 };
        let refused = |expected: &str| {
            let text = build(folder.path(), limits).unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        };
        refused("has no `kustomization.yaml`");
        std::fs::write(folder.path().join("kustomization.yaml"), "resources: [github.com/org/repo//base?ref=v1]\n").unwrap();
        refused("remote resources are not fetched");
    }
}
