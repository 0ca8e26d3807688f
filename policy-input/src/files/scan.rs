//! What is below a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is read from folders. A file that is named is read whatever its name.
const EXTENSIONS: [&str; 5] = ["yaml", "yml", "json", "jsonl", "ndjson"];
/// Entries that are looked at below one folder; a link may lead to the root of the file system.
const MOST_ENTRIES: usize = 2_000_000;

/// What distinguishes a folder from another one that takes its place, such as the mount point below a mount.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FolderId {
    device: u64,
    inode: u64,
}

/// What is below a folder.
#[derive(Debug, Default)]
pub struct Scan {
    /// The manifests, sorted. They are chosen by name: what they are is seen when they are read.
    pub files: Vec<PathBuf>,
    /// The folders that were listed, the first one included.
    pub folders: BTreeMap<PathBuf, FolderId>,
    /// Links that lead nowhere, and may have led to folders.
    pub broken_links: BTreeSet<PathBuf>,
    /// Folders that could not be opened or listed whole, and why. What is in them is not known.
    pub troubles: Vec<(PathBuf, Error)>,
}

/// The manifests below a folder, sorted. Hidden entries are left out; a folder is visited once, whatever links lead to it.
///
/// # Errors
/// When the folder, or one below it, cannot be opened or listed.
pub fn manifests_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let scan = scan(folder);
    scan.troubles.into_iter().next().map_or(Ok(scan.files), |(_, error)| Err(error))
}

/// What is looked at below a folder.
pub trait Selection {
    /// A folder is about to be listed.
    fn enter(&mut self, _folder: &Path) {}

    /// Whether an entry is not looked at.
    fn leaves_out(&mut self, _path: &Path, _is_folder: bool) -> bool {
        false
    }

    /// Whether a file is taken, by its name.
    fn takes(&self, path: &Path) -> bool {
        is_manifest(path)
    }

    /// An entry is hidden, or a file that is not taken.
    fn passes_over(&mut self, _path: &Path) {}
}

/// Every manifest.
struct Everything;

impl Selection for Everything {}

/// Looks at a folder and all folders below it, and goes on where one cannot be listed.
#[must_use]
pub fn scan(folder: &Path) -> Scan {
    scan_selected(folder, &mut Everything)
}

/// Looks at what is selected of a folder and of all folders below it, and goes on where one cannot be listed.
#[must_use]
pub fn scan_selected(folder: &Path, selection: &mut dyn Selection) -> Scan {
    let mut walk = Walk { scan: Scan::default(), visited: BTreeSet::new(), entries: 0, selection };
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if let Err(error) = walk.list(&folder, &mut folders) {
            walk.scan.troubles.push((folder, error));
        }
    }
    walk.scan.files.sort();
    walk.scan
}

struct Walk<'s> {
    scan: Scan,
    visited: BTreeSet<FolderId>,
    entries: usize,
    selection: &'s mut dyn Selection,
}

impl Walk<'_> {
    /// Adds what is in one folder, and the folders in it to those that are yet to be listed.
    fn list(&mut self, folder: &Path, folders: &mut Vec<PathBuf>) -> Result<()> {
        let named = |verb: &str| {
            let text = format!("cannot {verb} the directory `{}`", folder.display());
            move |error: Error| Error::new(error.kind(), format!("{text}: {error}"))
        };
        let id = identity(folder).map_err(named("open"))?;
        if !self.visited.insert(id) {
            return Ok(());
        }
        self.selection.enter(folder);
        let mut below = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(named("list"))? {
            let entry = entry.map_err(named("list"))?;
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                let error = Error::new(ErrorKind::QuotaExceeded, format!("it has more than {MOST_ENTRIES} entries"));
                return Err(named("list")(error));
            }
            if entry.file_name().to_string_lossy().starts_with('.') {
                self.selection.passes_over(&entry.path());
            } else {
                self.entry(entry.path(), &mut below);
            }
        }
        // Another folder may have come in its place meanwhile, and then it is not known which one was listed.
        if identity(folder).map_err(named("open"))? != id {
            return Err(named("list")(Error::other("another directory has replaced it")));
        }
        self.scan.folders.insert(folder.to_owned(), id);
        // Of two links to one folder, the first by name counts.
        below.sort();
        folders.extend(below.into_iter().rev());
        Ok(())
    }

    fn entry(&mut self, path: PathBuf, below: &mut Vec<PathBuf>) {
        let metadata = std::fs::metadata(&path);
        if self.selection.leaves_out(&path, metadata.as_ref().is_ok_and(std::fs::Metadata::is_dir)) {
            return;
        }
        match metadata {
            Ok(metadata) if metadata.is_dir() => below.push(path),
            _ if self.selection.takes(&path) => self.scan.files.push(path),
            Ok(_) => self.selection.passes_over(&path),
            Err(error) if error.kind() == ErrorKind::NotFound => drop(self.scan.broken_links.insert(path)),
            Err(error) => {
                let text = format!("cannot open `{}`: {error}", path.display());
                self.scan.troubles.push((path, Error::new(error.kind(), text)));
            }
        }
    }
}

fn identity(folder: &Path) -> Result<FolderId> {
    let metadata = std::fs::metadata(folder)?;
    Ok(FolderId { device: metadata.dev(), inode: metadata.ino() })
}

/// Whether a file is a manifest, by its name.
#[must_use]
pub fn is_manifest(path: &Path) -> bool {
    let extension = |p: &Path| p.extension().map(|e| e.to_string_lossy().to_lowercase());
    match extension(path).as_deref() {
        Some("gz") => path.file_stem().is_some_and(|stem| is_manifest(Path::new(stem))),
        Some(other) => EXTENSIONS.contains(&other) && !is_test_file(path),
        None => false,
    }
}

/// Whether a file holds assertions about manifests, by its name: `netpol-test.yaml`, or one that ends with `.netpol-test.yaml`.
#[must_use]
pub fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    ["yaml", "yml"].iter().any(|ending| {
        let whole = format!("netpol-test.{ending}");
        name == whole || name.ends_with(&format!(".{whole}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_in_order_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("sub")).unwrap();
        for name in ["b.yaml", "a.json.gz", "d.jsonl", "e.ndjson", "sub/c.yml", ".hidden.yaml", "notes.txt"] {
            std::fs::write(at(name), "x").unwrap();
        }
        std::os::unix::fs::symlink(folder.path(), at("sub/up")).unwrap();
        let found = manifests_below(folder.path()).unwrap();
        assert_eq!(found, ["a.json.gz", "b.yaml", "d.jsonl", "e.ndjson", "sub/c.yml"].map(at));
    }

    #[test]
    fn a_scan_without_a_selection_reads_no_ignore_files() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [(".gitignore", "*\n"), (".netpolignore", "*\n"), ("a.yaml", "x"), ("kustomization.yaml", "")] {
            std::fs::write(at(name), text).unwrap();
        }
        assert_eq!(scan(folder.path()).files, ["a.yaml", "kustomization.yaml"].map(at));
    }

    #[test]
    fn what_editors_leave_is_no_manifest() {
        for name in ["deny.yaml~", "#deny.yaml#", "deny.yaml.bak", "deny.yaml.swp", "deny.yaml___jb_tmp___", "4913", "sedQx7"] {
            assert!(!is_manifest(Path::new(name)), "{name}");
        }
        assert!(is_manifest(Path::new("deny.YAML")));
    }

    #[test]
    fn one_folder_that_cannot_be_listed_does_not_hide_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a.yaml"), "x").unwrap();
        std::os::unix::fs::symlink(at("nowhere"), at("team")).unwrap();
        std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
        let found = scan(folder.path());
        assert_eq!((found.files, found.broken_links), (vec![at("a.yaml")], BTreeSet::from([at("team")])));
        assert!(matches!(found.troubles.as_slice(), [(path, _)] if *path == at("loop")), "{:?}", found.troubles);
        assert!(manifests_below(&at("none")).is_err());
    }
}
