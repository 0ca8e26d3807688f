//! A folder of manifests as source: the agent without an API server.
//!
//! The folder is looked at again and again; only names, sizes and times are compared. A file counts as changed, or as gone, when
//! two looks in a row see it so: what is being written is not read by halves. A file that is broken keeps what it said when it
//! was last good.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use policy_core::diagnostic::Diagnostic;
use policy_core::manifest::{Loader, Snapshot, Syntax};

use super::{Extent, News, Source, describe};

/// How often the folder is looked at.
const EVERY: Duration = Duration::from_millis(150);
/// Files larger than this are refused.
const LARGEST: u64 = 1 << 30;

/// When a file was last written, and its size; `None` when even that cannot be read, as for a link to nowhere.
type Stamp = Option<(SystemTime, u64)>;

/// A folder of manifests.
pub struct Manifests {
    folder: PathBuf,
    files: BTreeMap<PathBuf, File>,
    /// What the last look saw.
    seen: Option<BTreeMap<PathBuf, Stamp>>,
    /// Why the folder cannot be read.
    trouble: Option<String>,
    snapshot: Snapshot,
    has_told: bool,
}

/// What is known of one file.
struct File {
    stamp: Stamp,
    /// What it said when it was last good, or what it says if it never was.
    bytes: Vec<u8>,
    /// Why what it says now is not used.
    problems: Vec<String>,
    /// Whether it never was good, and says something that could not be read as any object.
    is_lost: bool,
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

impl Manifests {
    /// The manifests in a folder and below it.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, files: BTreeMap::new(), seen: None, trouble: None, snapshot: Snapshot::default(), has_told: false }
    }

    /// Looks at the folder; `None` when there is nothing to tell.
    fn look(&mut self) -> Option<News> {
        let paths = match manifest_files::manifests_below(&self.folder) {
            Ok(paths) => paths,
            // What was there is kept: a folder that cannot be read says nothing about its files.
            Err(error) => {
                let trouble = Some(error.to_string());
                let is_news = self.trouble != trouble;
                self.trouble = trouble;
                return is_news.then(|| self.news());
            }
        };
        let mut is_news = self.trouble.take().is_some();
        let now: BTreeMap<PathBuf, Stamp> = paths.into_iter().map(|path| (path.clone(), stamp(&path))).collect();
        let before = self.seen.replace(now.clone())?;
        let gone: Vec<PathBuf> =
            self.files.keys().filter(|path| !now.contains_key(*path) && !before.contains_key(*path)).cloned().collect();
        for path in &gone {
            self.files.remove(path);
            is_news = true;
        }
        for (path, stamp) in &now {
            let is_known = self.files.get(path).is_some_and(|file| file.stamp == *stamp);
            if !is_known && before.get(path) == Some(stamp) {
                is_news |= self.read(path, *stamp);
            }
        }
        // The first news is everything.
        let must_tell = if self.has_told { is_news } else { now == before };
        must_tell.then(|| self.news())
    }

    /// Reads a file; false when it changed meanwhile, so that a later look must read it.
    fn read(&mut self, path: &Path, before: Stamp) -> bool {
        let content = manifest_files::content(path, LARGEST);
        if stamp(path) != before {
            return false;
        }
        let kept = self.files.remove(path).filter(|file| !file.is_lost);
        let mut file = File { stamp: before, bytes: Vec::new(), problems: Vec::new(), is_lost: false };
        match content {
            Ok(bytes) => {
                let diagnostics = errors_of(path, &bytes);
                file.problems = diagnostics.iter().map(describe).collect();
                // A file that never was good is used as far as it can be read, and what cannot fails closed (S1.20).
                file.is_lost = kept.is_none() && diagnostics.iter().any(|d| d.object.is_empty());
                file.bytes = bytes;
            }
            Err(error) => {
                file.problems = vec![format!("{}: cannot read the file: {error}", path.display())];
                file.is_lost = kept.is_none();
            }
        }
        if let Some(kept) = kept.filter(|_| !file.problems.is_empty()) {
            file.bytes = kept.bytes;
        }
        self.files.insert(path.to_owned(), file);
        true
    }

    /// The difference to what was told before.
    fn news(&mut self) -> News {
        self.has_told = true;
        // Objects that an old API server took are still there, so they are read as it did (S1.19).
        let mut loader = Loader::new(Syntax::Legacy);
        for (path, file) in &self.files {
            loader.read(&path.display().to_string(), &file.bytes);
        }
        let snapshot = loader.finish();
        let changes = self.snapshot.difference(&snapshot);
        let mut problems: Vec<String> = self.trouble.iter().cloned().collect();
        problems.extend(self.files.values().flat_map(|file| file.problems.iter().cloned()));
        for problem in snapshot.diagnostics.iter().filter(|d| d.is_error()).map(describe) {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        self.snapshot = snapshot;
        // A folder without manifests may be one that is not mounted yet.
        if self.files.is_empty() && self.trouble.is_none() {
            problems.push(format!("there are no manifests in `{}`", self.folder.display()));
        }
        let is_complete = self.trouble.is_none() && !self.files.is_empty() && !self.files.values().any(|file| file.is_lost);
        let extent = if is_complete { Extent::All } else { Extent::Readable };
        News { changes, problems: Some(problems), extent, ..News::default() }
    }
}

/// What is wrong with one file alone.
fn errors_of(path: &Path, bytes: &[u8]) -> Vec<Diagnostic> {
    let mut loader = Loader::new(Syntax::Legacy);
    loader.read(&path.display().to_string(), bytes);
    loader.finish().diagnostics.into_iter().filter(Diagnostic::is_error).collect()
}

impl Source for Manifests {
    fn describe(&self) -> String {
        format!("manifests in {}", self.folder.display())
    }

    fn run(mut self: Box<Self>, tell: &mut dyn FnMut(News) -> bool) {
        loop {
            if let Some(news) = self.look()
                && !tell(news)
            {
                return;
            }
            std::thread::sleep(EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_core::model::Change;

    const GOOD: &str =
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a, namespace: x}\nspec: {podSelector: {}}\n";

    fn write(folder: &Path, name: &str, text: &str) {
        std::fs::write(folder.join(name), text).unwrap();
    }

    fn problems(news: &News) -> &[String] {
        news.problems.as_deref().unwrap()
    }

    /// The last thing to tell when nothing changes any more.
    fn settled(source: &mut Manifests) -> Option<News> {
        (0..3).filter_map(|_| source.look()).last()
    }

    #[test]
    fn a_broken_file_keeps_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.yaml", GOOD);
        let mut source = Manifests::new(folder.path().to_owned());
        assert!(source.look().is_none(), "one look is not enough");
        let first = source.look().unwrap();
        assert!(first.extent == Extent::All && first.changes.iter().any(|c| matches!(c, Change::Policy(_))), "{first:?}");
        assert!(settled(&mut source).is_none(), "nothing changed");

        write(folder.path(), "a.yaml", &GOOD.replace("podSelector: {}", "podSelector: {"));
        let broken = settled(&mut source).unwrap();
        assert!(broken.changes.is_empty() && broken.extent == Extent::All, "{broken:?}");
        assert!(problems(&broken).iter().any(|p| p.contains("a.yaml:4")), "{broken:?}");

        // Another file may change meanwhile.
        write(folder.path(), "b.yaml", &GOOD.replace("name: a", "name: b"));
        let other = settled(&mut source).unwrap();
        assert_eq!(other.changes.len(), 1, "{other:?}");
        assert_eq!(problems(&other), problems(&broken));

        std::fs::remove_file(folder.path().join("a.yaml")).unwrap();
        let gone = settled(&mut source).unwrap();
        assert!(matches!(gone.changes.as_slice(), [Change::PolicyRemoved(_)]), "{gone:?}");
        assert!(problems(&gone).is_empty(), "b.yaml is still there");
    }

    #[test]
    fn a_file_is_not_read_by_halves() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.yaml", &format!("{GOOD}---\n{}", GOOD.replace("name: a", "name: b")));
        let mut source = Manifests::new(folder.path().to_owned());
        assert_eq!(settled(&mut source).unwrap().changes.iter().filter(|c| matches!(c, Change::Policy(_))).count(), 2);
        // An editor empties the file, deletes it, and writes it again, with a look between every two steps.
        write(folder.path(), "a.yaml", GOOD);
        assert!(source.look().is_none());
        std::fs::remove_file(folder.path().join("a.yaml")).unwrap();
        assert!(source.look().is_none());
        write(folder.path(), "a.yaml", &format!("{GOOD}---\n{}---\n", GOOD.replace("name: a", "name: b")));
        assert!(settled(&mut source).unwrap().changes.is_empty());
    }

    #[test]
    fn what_never_was_good_is_not_everything() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.yaml", "apiVersion: [\n");
        let mut source = Manifests::new(folder.path().to_owned());
        assert!(settled(&mut source).unwrap().extent == Extent::Readable);
        // A policy with a fault is known for what it is: it isolates, and allows nothing (S1.20).
        write(folder.path(), "a.yaml", &GOOD.replace("podSelector: {}", "podSelectors: {}"));
        let news = settled(&mut source).unwrap();
        assert!(news.extent == Extent::All && !problems(&news).is_empty(), "{news:?}");
        std::fs::remove_file(folder.path().join("a.yaml")).unwrap();
        let mut empty = Manifests::new(folder.path().to_owned());
        let news = settled(&mut empty).unwrap();
        assert!(news.extent == Extent::Readable && problems(&news).len() == 1, "{news:?}");
        let mut nowhere = Manifests::new(folder.path().join("nowhere"));
        let news = settled(&mut nowhere).unwrap();
        assert!(news.extent == Extent::Readable && problems(&news).len() == 1, "{news:?}");
    }

    #[test]
    fn a_link_to_nowhere_is_no_deletion() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "target", GOOD);
        std::os::unix::fs::symlink(folder.path().join("target"), folder.path().join("a.yaml")).unwrap();
        let mut source = Manifests::new(folder.path().to_owned());
        assert!(settled(&mut source).unwrap().extent == Extent::All);
        std::fs::remove_file(folder.path().join("target")).unwrap();
        let news = settled(&mut source).unwrap();
        assert!(news.changes.is_empty() && problems(&news).len() == 1, "{news:?}");
        // A new agent does not know what it said.
        let mut other = Manifests::new(folder.path().to_owned());
        assert!(settled(&mut other).unwrap().extent == Extent::Readable);
    }

    #[test]
    fn a_folder_that_goes_away_takes_nothing_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("manifests");
        std::fs::create_dir(&below).unwrap();
        write(&below, "a.yaml", GOOD);
        let mut source = Manifests::new(below.clone());
        settled(&mut source).unwrap();
        std::fs::remove_dir_all(&below).unwrap();
        let news = settled(&mut source).unwrap();
        assert!(news.changes.is_empty() && problems(&news).len() == 1, "{news:?}");
        std::fs::create_dir(&below).unwrap();
        write(&below, "a.yaml", GOOD);
        assert!(problems(&settled(&mut source).unwrap()).is_empty());
    }
}
