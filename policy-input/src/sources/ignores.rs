//! What is left out of folders: `.gitignore`, `.netpolignore`, and globs that the user names.
//!
//! All have the syntax of `.gitignore`. `.netpolignore` is asked first, so that it can take back in what Git ignores.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::kustomization::is_kustomization_file;
use super::other::{is_helmfile, other};
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
    /// Folders that `.gitignore` leaves out, and files that may hold objects by their names.
    pub ignored: Vec<PathBuf>,
    /// The same for what the user leaves out: by `.netpolignore`, and by globs.
    pub excluded: Vec<PathBuf>,
    /// Hidden folders, and hidden files that may hold objects by their names.
    pub hidden: Vec<PathBuf>,
    /// Files that are no manifests, and may hold objects by their names.
    pub others: Vec<PathBuf>,
    /// Lines of ignore files that cannot be read.
    pub troubles: Vec<String>,
}

impl Globs {
    /// Whether they match a file. The file need not exist.
    ///
    /// # Errors
    /// When a glob is invalid, with the glob and the reason.
    pub fn matching(&self) -> Result<impl Fn(&Path) -> bool + use<>, String> {
        let folder = self.folder.canonicalize().unwrap_or_else(|_| self.folder.clone());
        let matcher = matcher(&folder, &self.globs)?;
        Ok(move |file: &Path| {
            let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
            file.starts_with(&folder) && matcher.matched_path_or_any_parents(&file, false).is_ignore()
        })
    }
}

impl Ignores {
    /// What is left out below a folder: by its ignore files, by globs, and by the ignore files above it in the same Git repository or below
    /// the folder of globs.
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
            excluded: Vec::new(),
            hidden: Vec::new(),
            others: Vec::new(),
            troubles: Vec::new(),
        };
        let mut outermost: Vec<PathBuf> = Vec::new();
        for globs in globs {
            let folder = canonical(&globs.folder);
            found.globs.push(matcher(&folder, &globs.globs)?);
            outermost.push(folder);
        }
        outermost.extend(top.ancestors().find(|above| above.join(".git").exists()).map(Path::to_owned));
        let is_inside = |above: &&Path| outermost.iter().any(|folder| above.starts_with(folder));
        top.ancestors().skip(1).take_while(is_inside).for_each(|above| found.read(above));
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
        let is_excluded = self.globs.iter().any(|globs| globs.matched(&canonical, is_folder).is_ignore());
        let by_user = if is_excluded { Some(true) } else { self.verdict(0, &canonical, is_folder) };
        let is_out = by_user.unwrap_or_else(|| self.verdict(1, &canonical, is_folder) == Some(true));
        if is_out && (is_folder || is_manifest(path) || other(path).is_some()) {
            let list = if by_user.is_some() { &mut self.excluded } else { &mut self.ignored };
            list.push(path.to_owned());
        }
        is_out
    }

    fn takes(&self, path: &Path) -> bool {
        (is_manifest(path) && !is_helmfile(path)) || is_kustomization_file(path)
    }

    fn passes_over(&mut self, path: &Path) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !name.starts_with('.') {
            self.others.extend(other(path).map(|_| path.to_owned()));
            return;
        }
        // The kubelet keeps what a volume of a ConfigMap links to in entries that begin with two dots.
        if name == ".git" || name.starts_with("..") || NAMES.contains(&name.as_str()) {
            return;
        }
        let is_folder = path.is_dir();
        if !self.leaves_out(path, is_folder) && (is_folder || is_manifest(path) || other(path).is_some()) {
            self.hidden.push(path.to_owned());
        }
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

    /// Paths in the tree, sorted.
    fn shown(tree: &Path, paths: Vec<PathBuf>) -> Vec<String> {
        let mut shown: Vec<String> =
            paths.into_iter().map(|path| path.strip_prefix(tree).unwrap().display().to_string()).collect();
        shown.sort();
        shown
    }

    /// What is taken below a folder of the tree, what Git ignores and what the user excludes.
    fn taken(tree: &Path, below: &str, globs: &[Globs]) -> (Vec<String>, Vec<String>, Vec<String>) {
        let folder = tree.join(below);
        let mut ignores = Ignores::new(&folder, globs).unwrap();
        let files = scan_selected(&folder, &mut ignores).files;
        (shown(tree, files), shown(tree, ignores.ignored), shown(tree, ignores.excluded))
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
        let (files, ignored, excluded) = taken(tree.path(), "", &[]);
        let expected = ["a.yaml", "keep.gen.yaml", "sub/Kustomization", "sub/b.gen.yaml", "sub/only-here.yaml", "x.yaml"];
        assert_eq!(files, expected);
        assert_eq!(ignored, ["a.gen.yaml", "node_modules", "only-here.yaml", "sub/x.yaml"]);
        assert_eq!(excluded, ["tests"]);
    }

    #[test]
    fn what_is_passed_over_is_kept_if_it_may_hold_objects() {
        let tree = tree(&[
            ("a.yaml", ""),
            ("b.yaml.tpl", ""),
            ("helmfile.yaml", ""),
            ("README.md", ""),
            (".c.yaml", ""),
            (".d/e.yaml", ""),
            (".git/f.yaml", ""),
            ("..data/g.yaml", ""),
            (".h/i.yaml", ""),
            (".j.md", ""),
            (".gitignore", ".h\nk.*\n"),
            ("k.txt", ""),
            ("k.md", ""),
        ]);
        let mut ignores = Ignores::new(tree.path(), &[]).unwrap();
        assert_eq!(shown(tree.path(), scan_selected(tree.path(), &mut ignores).files), ["a.yaml"]);
        assert_eq!(shown(tree.path(), ignores.others), ["b.yaml.tpl", "helmfile.yaml"]);
        assert_eq!(shown(tree.path(), ignores.hidden), [".c.yaml", ".d"]);
        assert_eq!(shown(tree.path(), ignores.ignored), [".h", "k.txt"]);
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
    fn ignore_files_above_count_below_the_folder_of_globs() {
        let tree = tree(&[(".netpolignore", "out/a.yaml\n"), ("top/.netpolignore", "b.yaml\n"), ("top/sub/b.yaml", "")]);
        let globs = [Globs { folder: tree.path().join("top"), globs: Vec::new() }];
        assert_eq!(taken(tree.path(), "top/sub", &[]).0, ["top/sub/b.yaml"]);
        let (files, _, excluded) = taken(tree.path(), "top/sub", &globs);
        assert_eq!((files, excluded), (Vec::new(), vec!["top/sub/b.yaml".to_owned()]));
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
