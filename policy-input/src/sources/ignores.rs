//! What is left out of folders: `.gitignore`, `.netpolignore`, and globs that the user names.
//!
//! All have the syntax of `.gitignore`. `.netpolignore` is asked first, so that it can take back in what Git ignores.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::kustomization::is_kustomization_file;
use crate::files::{Selection, is_manifest};

/// The files, the one that is asked first first.
const NAMES: [&str; 2] = [".netpolignore", ".gitignore"];

/// Globs, and the folder that they are relative to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Globs {
    /// The folder.
    pub folder: PathBuf,
    /// The globs, in the syntax of `.gitignore`.
    pub globs: Vec<String>,
}

/// What is left out below one folder.
#[derive(Debug)]
pub struct Ignores {
    /// The folder as it was named, and its canonical path.
    folder: (PathBuf, PathBuf),
    /// The ignore files of each folder that has one, by its canonical path, in the order of [`NAMES`].
    files: HashMap<PathBuf, [Option<Gitignore>; 2]>,
    globs: Vec<Gitignore>,
    /// Manifests and folders that `.gitignore` leaves out.
    pub ignored: Vec<PathBuf>,
    /// Lines of ignore files that cannot be read.
    pub troubles: Vec<String>,
}

impl Ignores {
    /// What is left out below a folder: by its ignore files, by those above it in the same Git repository, and by globs.
    ///
    /// # Errors
    /// When a glob is invalid, with the glob and the reason.
    pub fn new(folder: &Path, globs: &[Globs]) -> Result<Self, String> {
        let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let top = canonical(folder);
        let mut found = Self {
            folder: (folder.to_owned(), top.clone()),
            files: HashMap::new(),
            globs: Vec::new(),
            ignored: Vec::new(),
            troubles: Vec::new(),
        };
        for globs in globs {
            found.globs.push(matcher(&canonical(&globs.folder), &globs.globs)?);
        }
        let repository = top.ancestors().find(|above| above.join(".git").exists());
        let above = top.ancestors().skip(1).take_while(|above| repository.is_some_and(|top| above.starts_with(top)));
        above.for_each(|above| found.read(above));
        // A folder that is named is read, though Git may ignore it as a whole.
        let is_ignored = found.files.values().flatten().flatten();
        if is_ignored.into_iter().any(|rules| rules.matched_path_or_any_parents(&top, true).is_ignore()) {
            found.files.clear();
        }
        Ok(found)
    }

    /// Reads the ignore files of a folder.
    fn read(&mut self, folder: &Path) {
        let rules = NAMES.map(|name| {
            let path = folder.join(name);
            if !path.is_file() {
                return None;
            }
            let (rules, trouble) = Gitignore::new(path);
            self.troubles.extend(trouble.map(|error| error.to_string()));
            Some(rules)
        });
        if rules.iter().any(Option::is_some) {
            self.files.insert(folder.to_owned(), rules);
        }
    }

    /// The canonical path of something below the folder, links below it not followed.
    fn canonical(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.folder.0).map_or_else(|_| path.to_owned(), |below| self.folder.1.join(below))
    }

    /// Whether the ignore files of one name leave a path out; `None` if they say nothing about it.
    fn verdict(&self, number: usize, path: &Path, is_folder: bool) -> Option<bool> {
        let rules = path.ancestors().skip(1).filter_map(|above| self.files.get(above)?.get(number)?.as_ref());
        let mut verdicts = rules.map(|rules| rules.matched(path, is_folder)).filter(|verdict| !verdict.is_none());
        verdicts.next().map(|verdict| verdict.is_ignore())
    }
}

fn matcher(folder: &Path, globs: &[String]) -> Result<Gitignore, String> {
    let mut builder = GitignoreBuilder::new(folder);
    for glob in globs {
        builder.add_line(None, glob).map_err(|error| format!("`{glob}` is not a glob: {error}"))?;
    }
    builder.build().map_err(|error| error.to_string())
}

impl Selection for Ignores {
    fn enter(&mut self, folder: &Path) {
        let folder = self.canonical(folder);
        self.read(&folder);
    }

    fn leaves_out(&mut self, path: &Path, is_folder: bool) -> bool {
        let canonical = self.canonical(path);
        if self.globs.iter().any(|globs| globs.matched(&canonical, is_folder).is_ignore()) {
            return true;
        }
        if let Some(is_out) = self.verdict(0, &canonical, is_folder) {
            return is_out;
        }
        let is_ignored = self.verdict(1, &canonical, is_folder) == Some(true);
        if is_ignored && (is_folder || is_manifest(path)) {
            self.ignored.push(path.to_owned());
        }
        is_ignored
    }

    fn takes(&self, path: &Path) -> bool {
        is_manifest(path) || is_kustomization_file(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::scan_selected;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    /// What is taken below a folder of the tree, as paths in the tree.
    fn taken(tree: &Path, below: &str, globs: &[Globs]) -> (Vec<String>, Vec<PathBuf>) {
        let folder = tree.join(below);
        let mut ignores = Ignores::new(&folder, globs).unwrap();
        let files = scan_selected(&folder, &mut ignores).files;
        let shown = |path: PathBuf| path.strip_prefix(tree).unwrap().display().to_string();
        (files.into_iter().map(shown).collect(), ignores.ignored)
    }

    #[test]
    fn ignore_files_of_every_folder_are_read() {
        let tree = tree(&[
            (".gitignore", "node_modules/\n*.gen.yaml\n/only-here.yaml\n"),
            (".netpolignore", "tests/\n!keep.gen.yaml\n"),
            ("a.yaml", ""),
            ("a.gen.yaml", ""),
            ("keep.gen.yaml", ""),
            ("only-here.yaml", ""),
            ("sub/only-here.yaml", ""),
            ("sub/.gitignore", "x.yaml\n!b.gen.yaml\n"),
            ("sub/x.yaml", ""),
            ("sub/b.gen.yaml", ""),
            ("x.yaml", ""),
            ("node_modules/p/c.yaml", ""),
            ("tests/d.yaml", ""),
            ("sub/Kustomization", ""),
        ]);
        let (files, ignored) = taken(tree.path(), "", &[]);
        let expected = ["a.yaml", "keep.gen.yaml", "sub/Kustomization", "sub/b.gen.yaml", "sub/only-here.yaml", "x.yaml"];
        assert_eq!(files, expected);
        assert_eq!(ignored.len(), 4, "{ignored:?}");
    }

    #[test]
    fn ignore_files_above_count_within_one_repository() {
        let tree = tree(&[
            (".gitignore", "a.yaml\n/out/\n"),
            ("repo/sub/a.yaml", ""),
            ("repo/sub/b.yaml", ""),
            ("repo/.gitignore", "b.yaml\nbuild/\n"),
            ("repo/build/b.yaml", ""),
        ]);
        assert_eq!(taken(tree.path(), "repo/sub", &[]).0, ["repo/sub/a.yaml", "repo/sub/b.yaml"]);
        std::fs::create_dir(tree.path().join("repo/.git")).unwrap();
        assert_eq!(taken(tree.path(), "repo/sub", &[]).0, ["repo/sub/a.yaml"]);
        // It was named.
        assert_eq!(taken(tree.path(), "repo/build", &[]).0, ["repo/build/b.yaml"]);
    }

    #[test]
    fn globs_leave_out() {
        let tree = tree(&[("a.yaml", ""), ("tests/x/b.yaml", ""), ("sub/tests/c.yaml", ""), ("sub/d.yaml", "")]);
        let globs = |glob: &str| vec![Globs { folder: tree.path().to_owned(), globs: vec![glob.to_owned()] }];
        assert_eq!(taken(tree.path(), "", &globs("tests/**")).0, ["a.yaml", "sub/d.yaml", "sub/tests/c.yaml"]);
        assert_eq!(taken(tree.path(), "", &globs("tests")).0, ["a.yaml", "sub/d.yaml"]);
        assert_eq!(taken(tree.path(), "", &globs("[a-d].yaml")).0, Vec::<String>::new());
        assert_eq!(taken(tree.path(), "sub", &globs("sub/tests/*.yaml")).0, ["sub/d.yaml"]);
        assert!(Ignores::new(tree.path(), &globs("[z-a].yaml")).is_err());
    }
}
