//! What is below a folder: plain manifests, kustomizations and Helm charts.
//!
//! The files of kustomizations and charts are no manifests. Patches are parts of objects, bases are objects before they get their names
//! and namespaces, and templates are no YAML. Together with plain manifests they would describe a cluster that nobody has.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Result;
use std::path::{Path, PathBuf};

use super::chart::{self, Chart, is_chart_file};
use super::ignores::Ignores;
use super::kustomization::is_kustomization_file;
use super::other::{Other, other};
use super::references::References;
use crate::files::{is_manifest, regular_content, scan_selected};

/// Larger files `Chart.yaml` are not read.
const LARGEST: u64 = 1 << 20;

/// What is below a folder.
#[derive(Debug, Default)]
pub struct Contents {
    /// What the folder itself is.
    pub top: Top,
    /// Plain manifests, sorted. Below a kustomization or a chart at the top, those that are no part of it.
    pub files: Vec<PathBuf>,
    /// The folders of kustomizations that are no part of one at the top, sorted.
    pub kustomizations: Vec<PathBuf>,
    /// Those of them that can be asked, because no other one refers to them.
    pub roots: Vec<PathBuf>,
    /// Charts below the folder that are no part of another one, sorted.
    pub charts: Vec<Chart>,
    /// Links that lead nowhere, and by their names can have led to manifests, archives or folders.
    pub broken_links: Vec<PathBuf>,
    /// Files that are no manifests, and may hold or make objects by their names, sorted. This and the following lists leave out what belongs to
    /// kustomizations and charts.
    pub others: Vec<PathBuf>,
    /// Hidden folders, and hidden files that may hold objects by their names, sorted.
    pub hidden: Vec<PathBuf>,
    /// Folders and files that `.gitignore` leaves out, sorted.
    pub ignored: Vec<PathBuf>,
    /// Folders and files that the user leaves out: by `.netpolignore`, and by globs; sorted.
    pub excluded: Vec<PathBuf>,
}

impl Contents {
    /// Whether there is nothing to read, and nothing that could be asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let has_others = !self.kustomizations.is_empty() || !self.charts.is_empty() || !self.broken_links.is_empty();
        self.top == Top::Plain && self.files.is_empty() && !has_others
    }
}

/// What a folder is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Top {
    /// A folder of files.
    #[default]
    Plain,
    /// A kustomization.
    Kustomization,
    /// A Helm chart.
    Chart,
    /// A kustomization and a Helm chart.
    Both,
}

/// What is below a folder. Every file is looked at by its name; kustomizations and `Chart.yaml` are read.
///
/// # Errors
/// When the folder, or one below it, cannot be opened or listed.
pub fn contents(folder: &Path, ignores: &mut Ignores) -> Result<Contents> {
    beside(folder, folder, ignores)
}

/// What is below a folder, as [`contents`], where the kustomization of another folder is built, and this one is a part of it.
///
/// # Errors
/// When the folder, or one below it, cannot be opened or listed.
pub fn beside(folder: &Path, built: &Path, ignores: &mut Ignores) -> Result<Contents> {
    let scan = scan_selected(folder, ignores);
    if let Some((_, error)) = scan.troubles.into_iter().next() {
        return Err(error);
    }
    // git-annex has a link in place of each file, and what is not fetched leads nowhere.
    let could_be_manifest = |path: &PathBuf| {
        let is_packed = || matches!(other(path), Some(Other::Archive | Other::Encrypted | Other::Template));
        path.extension().is_none() || is_manifest(path) || is_packed()
    };
    let sorter = Sorter::new(folder, built, &scan.files);
    let top = sorter.top();
    let mut found = Contents {
        top,
        broken_links: scan.broken_links.into_iter().filter(could_be_manifest).collect(),
        charts: sorter.charts(),
        ..Contents::default()
    };
    (found.kustomizations, found.roots) = sorter.left_out();
    let own = |paths: Vec<PathBuf>| {
        let mut own: Vec<PathBuf> = paths.into_iter().filter(|path| sorter.is_unused(path)).collect();
        own.sort();
        own
    };
    found.files = own(scan.files);
    found.files.retain(|file| is_manifest(file));
    found.others = own(std::mem::take(&mut ignores.others));
    found.hidden = own(std::mem::take(&mut ignores.hidden));
    found.ignored = own(std::mem::take(&mut ignores.ignored));
    found.excluded = own(std::mem::take(&mut ignores.excluded));
    Ok(found)
}

/// Sorts files by what they belong to.
struct Sorter {
    /// The folder, canonical.
    folder: PathBuf,
    /// The canonical path of each folder that has files.
    folders: HashMap<PathBuf, PathBuf>,
    /// All kustomizations.
    references: References,
    /// Those that the one at the top refers to, and itself.
    of_top: References,
    /// The folders of kustomizations as they were found, by canonical path.
    shown: BTreeMap<PathBuf, PathBuf>,
    /// The folders of charts as they were found, by canonical path.
    charts: BTreeMap<PathBuf, PathBuf>,
}

impl Sorter {
    fn new(folder: &Path, built: &Path, files: &[PathBuf]) -> Self {
        let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut found = Self {
            folder: canonical(folder),
            folders: HashMap::new(),
            references: References::default(),
            of_top: References::default(),
            shown: BTreeMap::new(),
            charts: BTreeMap::new(),
        };
        let special: Vec<&PathBuf> = files.iter().filter(|file| is_kustomization_file(file) || is_chart_file(file)).collect();
        if special.is_empty() {
            return found;
        }
        for above in files.iter().filter_map(|file| file.parent()) {
            if !found.folders.contains_key(above) {
                found.folders.insert(above.to_owned(), canonical(above));
            }
        }
        for file in special {
            let Some(above) = file.parent() else { continue };
            let at = canonical(above);
            if is_chart_file(file) {
                found.charts.insert(at, above.to_owned());
            } else if found.references.follow(above) {
                found.shown.insert(at, above.to_owned());
            }
        }
        found.references.follow(built);
        found.of_top.follow(built);
        found
    }

    fn top(&self) -> Top {
        match (self.shown.contains_key(&self.folder), self.charts.contains_key(&self.folder)) {
            (true, true) => Top::Both,
            (true, false) => Top::Kustomization,
            (false, true) => Top::Chart,
            (false, false) => Top::Plain,
        }
    }

    /// The kustomizations below the folder that are no part of one at its top, and the roots among them.
    fn left_out(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let is_left_out = |at: &Path| !self.of_top.kustomizations.contains_key(at) && !self.is_part_of_chart(at);
        let all: Vec<&PathBuf> = self.shown.keys().filter(|at| is_left_out(at)).collect();
        let roots: BTreeSet<&Path> = self.references.roots().into_iter().collect();
        let shown = |at: &&PathBuf| self.shown.get(*at).cloned();
        let mut asked: Vec<PathBuf> = all.iter().filter(|at| roots.contains(at.as_path())).filter_map(shown).collect();
        let mut all: Vec<PathBuf> = all.iter().filter_map(shown).collect();
        all.sort();
        asked.sort();
        if asked.is_empty() {
            // They refer to each other, or are components: any of them can be asked.
            asked.clone_from(&all);
        }
        (all, asked)
    }

    /// The charts that belong to no other chart and to no kustomization.
    fn charts(&self) -> Vec<Chart> {
        let is_in_other = |at: &Path| self.kustomization_of(at).is_some_and(|folder| folder != at);
        let is_own = |at: &Path| at != self.folder && !self.is_part_of_chart(at) && !is_in_other(at);
        let own = self.charts.iter().filter(|(at, _)| is_own(at)).map(|(_, shown)| {
            let text = regular_content(&shown.join("Chart.yaml"), LARGEST).unwrap_or_default();
            chart::read(shown.clone(), &String::from_utf8_lossy(&text))
        });
        let mut own: Vec<Chart> = own.collect();
        own.sort_by(|a, b| a.folder.cmp(&b.folder));
        own
    }

    /// Whether a path is a part of a chart.
    fn is_part_of_chart(&self, path: &Path) -> bool {
        let above = path.ancestors().skip(1).take_while(|above| above.starts_with(&self.folder));
        let is_part = |chart: &&Path| path.strip_prefix(chart).is_ok_and(chart::is_part);
        above.filter(|above| self.charts.contains_key(*above)).any(|above| is_part(&above))
    }

    /// The folder of the kustomization below the top that a path is in.
    fn kustomization_of(&self, path: &Path) -> Option<PathBuf> {
        let mut above = path.ancestors().take_while(|above| above.starts_with(&self.folder) && *above != self.folder);
        above.find(|above| self.references.kustomizations.contains_key(*above)).map(Path::to_owned)
    }

    /// Whether no kustomization and no chart uses a file or a folder.
    fn is_unused(&self, file: &Path) -> bool {
        if self.shown.is_empty() && self.charts.is_empty() {
            return true;
        }
        let (Some(above), Some(name)) = (file.parent(), file.file_name()) else { return false };
        let known = self.folders.get(above).cloned();
        let above = &known.unwrap_or_else(|| above.canonicalize().unwrap_or_else(|_| above.to_owned()));
        let path = above.join(name);
        let is_kustomization = is_kustomization_file(file) && self.references.kustomizations.contains_key(above);
        let is_used = is_kustomization || path.ancestors().any(|above| self.references.files.contains(above));
        let is_of_other = || self.kustomization_of(&path).is_some_and(|folder| !self.of_top.kustomizations.contains_key(&folder));
        !is_used && !self.is_part_of_chart(&path) && !is_of_other()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn look(tree: &Path, below: &str) -> (Contents, impl Fn(&[PathBuf]) -> Vec<String>) {
        let folder = tree.join(below);
        let found = contents(&folder, &mut Ignores::new(&folder, &[]).unwrap()).unwrap();
        let tree = tree.to_owned();
        let shown =
            move |paths: &[PathBuf]| paths.iter().map(|path| path.strip_prefix(&tree).unwrap().display().to_string()).collect();
        (found, shown)
    }

    #[test]
    fn files_of_kustomizations_are_no_manifests() {
        let tree = tree(&[
            ("plain/a.yaml", ""),
            ("snippets/patch.yaml", ""),
            ("snippets/deny.yaml", ""),
            ("files/app.json", ""),
            (
                "base/kustomization.yaml",
                "resources: [sub/web.yaml]\nconfigMapGenerator: [{name: a, files: [x=../files/app.json]}]\n",
            ),
            ("base/sub/web.yaml", ""),
            ("base/sub/other.yaml", ""),
            ("overlays/prod/kustomization.yaml", "resources: [../../base]\npatches: [{path: ../../snippets/patch.yaml}]\n"),
            ("overlays/dev/Kustomization", "bases: [../../base]\ncomponents: [../../parts/tls]\n"),
            ("parts/tls/kustomization.yml", "kind: Component\n"),
            ("flux/kustomization.yaml", "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n"),
        ]);
        let (found, shown) = look(tree.path(), "");
        assert_eq!(shown(&found.files), ["flux/kustomization.yaml", "plain/a.yaml", "snippets/deny.yaml"]);
        assert_eq!((found.top, found.kustomizations.len()), (Top::Plain, 4));
        assert_eq!(shown(&found.roots), ["overlays/dev", "overlays/prod"]);
    }

    #[test]
    fn below_a_kustomization_the_rest_is_named() {
        let tree = tree(&[
            ("kustomization.yaml", "resources: [a.yaml, base]\n"),
            ("a.yaml", ""),
            ("forgotten.yaml", ""),
            ("base/kustomization.yaml", "resources: [b.yaml]\n"),
            ("base/b.yaml", ""),
            ("base/forgotten.yaml", ""),
            ("other/kustomization.yaml", "resources: [c.yaml]\n"),
            ("other/c.yaml", ""),
        ]);
        let (found, shown) = look(tree.path(), "");
        assert_eq!((found.top, found.kustomizations.len()), (Top::Kustomization, 1));
        assert_eq!(shown(&found.files), ["base/forgotten.yaml", "forgotten.yaml"]);
        assert_eq!(shown(&found.roots), ["other"]);
        // A base that is named is built alone.
        assert_eq!(look(tree.path(), "base").0.top, Top::Kustomization);
    }

    #[test]
    fn a_base_has_what_an_overlay_does_not_use() {
        let tree = tree(&[
            ("top/kustomization.yaml", "resources: [../base, ../base/more.yaml]\n"),
            ("base/kustomization.yaml", "resources: [b.yaml]\n"),
            ("base/b.yaml", ""),
            ("base/more.yaml", ""),
            ("base/forgotten.yaml", ""),
            ("base/other.yaml.j2", ""),
            ("base/parts/kustomization.yaml", "resources: [c.yaml]\n"),
            ("base/parts/c.yaml", ""),
        ]);
        let folder = tree.path().join("base");
        let found = beside(&folder, &tree.path().join("top"), &mut Ignores::new(&folder, &[]).unwrap()).unwrap();
        assert_eq!((found.files, found.others), (vec![folder.join("forgotten.yaml")], vec![folder.join("other.yaml.j2")]));
    }

    #[test]
    fn what_is_passed_over_belongs_to_no_kustomization_and_no_chart() {
        let tree = tree(&[
            ("a.txt", ""),
            (".b.yaml", ""),
            ("k/kustomization.yaml", "resources: [.c.yaml, d.txt]\n"),
            ("k/.c.yaml", ""),
            ("k/d.txt", ""),
            ("k/.e.yaml", ""),
            ("chart/Chart.yaml", "name: a\n"),
            ("chart/templates/NOTES.txt", ""),
            ("chart/f.txt", ""),
            (".gitignore", "chart/charts\nout\n"),
            ("chart/charts/a.tgz", ""),
            ("out/g.yaml", ""),
        ]);
        let (found, shown) = look(tree.path(), "");
        assert_eq!(shown(&found.others), ["a.txt", "chart/f.txt"]);
        assert_eq!(shown(&found.hidden), [".b.yaml"]);
        assert_eq!(shown(&found.ignored), ["out"]);
    }

    #[test]
    fn charts_are_named_once() {
        let tree = tree(&[
            ("deny.yaml", ""),
            ("charts/shop/Chart.yaml", "name: shop\n"),
            ("charts/shop/values.yaml", ""),
            ("charts/shop/values-prod.yaml", ""),
            ("charts/shop/templates/a.yaml", "{{ if }}"),
            ("charts/shop/charts/sub/Chart.yaml", "name: sub\n"),
            ("charts/shop/charts/sub/templates/b.yaml", "{{ if }}"),
            ("charts/shop/example.yaml", ""),
            ("charts/lib/Chart.yaml", "name: lib\ntype: library\n"),
        ]);
        let (found, shown) = look(tree.path(), "");
        assert_eq!(shown(&found.files), ["charts/shop/example.yaml", "deny.yaml"]);
        let charts: Vec<_> = found
            .charts
            .iter()
            .map(|chart| (chart.folder.file_name().unwrap().to_str().unwrap(), chart.is_application))
            .collect();
        assert_eq!(charts, [("lib", false), ("shop", true)]);
        let (found, shown) = look(tree.path(), "charts/shop");
        assert_eq!((found.top, found.charts.len()), (Top::Chart, 0));
        assert_eq!(shown(&found.files), ["charts/shop/example.yaml"]);
    }

    #[test]
    fn kustomizations_in_a_circle_can_all_be_asked() {
        let tree = tree(&[("a/kustomization.yaml", "resources: [../b]\n"), ("b/kustomization.yaml", "resources: [../a]\n")]);
        let (found, shown) = look(tree.path(), "");
        assert_eq!(shown(&found.roots), ["a", "b"]);
        assert_eq!(found.files, Vec::<PathBuf>::new());
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named_if_it_can_have_led_to_manifests() {
        let tree = tree(&[("a.yaml", "")]);
        for name in ["team", "notes.txt", "logo.png", "app.tgz", "np.yaml.gpg", "np.yaml.j2"] {
            std::os::unix::fs::symlink(tree.path().join("none"), tree.path().join(name)).unwrap();
        }
        let (found, shown) = look(tree.path(), "");
        let mut links = shown(&found.broken_links);
        links.sort();
        assert_eq!(links, ["app.tgz", "np.yaml.gpg", "np.yaml.j2", "team"]);
    }
}
