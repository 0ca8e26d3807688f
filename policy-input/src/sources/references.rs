//! Which files and folders kustomizations refer to, from one to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::kustomization::{Kustomization, file_of, is_kustomization_file, is_remote};

/// Larger kustomizations are not read.
const LARGEST: u64 = 4 << 20;

/// Kustomizations, and what they refer to. Paths are canonical, because kustomize follows links first.
#[derive(Debug, Default)]
pub(super) struct References {
    /// The kustomizations by their folders.
    pub kustomizations: BTreeMap<PathBuf, Found>,
    /// Files, and folders without a kustomization, that a kustomization refers to.
    pub files: BTreeSet<PathBuf>,
    /// Resources that are not local: the kustomization file, and the resource as written.
    pub remote: Vec<(PathBuf, String)>,
}

/// One kustomization.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub is_component: bool,
    pub has_origins: bool,
    /// The folders of the kustomizations that it refers to.
    pub refers: BTreeSet<PathBuf>,
}

/// Whether a file is a kustomization, and no object of another tool that has its name.
#[must_use]
pub fn is_kustomization(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    is_kustomization_file(path) && path.is_file() && References::default().follow(folder)
}

/// The canonical folders of the kustomizations that the kustomization of a folder builds, itself included; none if it has none.
#[must_use]
pub fn built_by(folder: &Path) -> BTreeSet<PathBuf> {
    let mut references = References::default();
    references.follow(folder);
    references.kustomizations.into_keys().collect()
}

impl References {
    /// Adds the kustomization of a folder, and those that it refers to. Returns whether the folder has one. A kustomization that cannot be
    /// read refers to nothing; kustomize reports why.
    pub(super) fn follow(&mut self, folder: &Path) -> bool {
        let Ok(folder) = folder.canonicalize() else { return false };
        let mut todo = vec![folder.clone()];
        while let Some(folder) = todo.pop() {
            if self.kustomizations.contains_key(&folder) {
                continue;
            }
            let Some(file) = file_of(&folder) else { continue };
            let text = crate::files::regular_content(&file, LARGEST).unwrap_or_default();
            let read = Kustomization::read(&String::from_utf8_lossy(&text));
            let Some(kustomization) = read.unwrap_or_else(|_| Some(Kustomization::default())) else { continue };
            let refers = self.resolve(&folder, &file, &kustomization);
            todo.extend(refers.iter().cloned());
            let Kustomization { is_component, has_origins, .. } = kustomization;
            self.kustomizations.insert(folder, Found { is_component, has_origins, refers });
        }
        self.kustomizations.contains_key(&folder)
    }

    /// Takes what one kustomization refers to, and returns the folders among it that have a kustomization.
    fn resolve(&mut self, folder: &Path, file: &Path, kustomization: &Kustomization) -> BTreeSet<PathBuf> {
        let mut folders = BTreeSet::new();
        for text in &kustomization.refers {
            // An inline patch is no path.
            let path = if text.contains('\n') { continue } else { folder.join(text).canonicalize() };
            match path {
                Ok(path) if path.is_dir() && file_of(&path).is_some() => drop(folders.insert(path)),
                Ok(path) => drop(self.files.insert(path)),
                Err(_) if kustomization.resources.contains(text) && is_remote(text) => {
                    self.remote.push((file.to_owned(), text.clone()));
                }
                Err(_) => {}
            }
        }
        folders
    }

    /// The folders of kustomizations that no other one refers to, and that are no components; of kustomizations that refer to each other, all.
    pub(super) fn roots(&self) -> Vec<&Path> {
        let referred: BTreeSet<&PathBuf> = self.kustomizations.values().flat_map(|found| &found.refers).collect();
        let is_root = |(folder, found): &(&PathBuf, &Found)| !found.is_component && !referred.contains(folder);
        self.kustomizations.iter().filter(is_root).map(|(folder, _)| folder.as_path()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_followed_and_roots_found() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let write = |path: &str, text: &str| {
            std::fs::create_dir_all(top.join(path).parent().unwrap()).unwrap();
            std::fs::write(top.join(path), text).unwrap();
        };
        write("base/kustomization.yaml", "resources: [a.yaml, https://example.com/x.yaml]\n");
        write("base/a.yaml", "");
        write("snippets/p.yaml", "");
        write("parts/c/kustomization.yml", "kind: Component\npatches: [{path: ../../snippets/p.yaml}]\n");
        write("overlays/prod/Kustomization", "resources: [../../base]\ncomponents: [../../parts/c]\n");
        write("overlays/broken/kustomization.yaml", "resources: [\n");
        std::os::unix::fs::symlink(top.join("overlays/prod"), top.join("link")).unwrap();
        let mut references = References::default();
        for name in ["link", "overlays/broken"] {
            assert!(references.follow(&top.join(name)));
        }
        assert!(!references.follow(&top.join("shared")));
        assert_eq!(references.roots(), [top.join("overlays/broken"), top.join("overlays/prod")]);
        assert_eq!(references.files, BTreeSet::from([top.join("base/a.yaml"), top.join("snippets/p.yaml")]));
        let remote = (top.join("base/kustomization.yaml"), "https://example.com/x.yaml".to_owned());
        assert_eq!(references.remote, [remote]);
        assert_eq!(built_by(&top.join("link")), ["base", "overlays/prod", "parts/c"].map(|name| top.join(name)).into());
        assert_eq!(built_by(&top.join("shared")), BTreeSet::new());
    }
}
