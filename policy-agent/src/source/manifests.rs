//! A folder of manifests as source: the agent without an API server.
//!
//! The folder is looked at again and again; only names, sizes and times are compared, so that a file that is only touched
//! costs one reading. A file that is broken keeps what it said when it was last good.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use policy_core::diagnostic::Diagnostic;
use policy_core::manifest::{Loader, Snapshot, Syntax};

use super::{News, Source};

/// How often the folder is looked at.
const EVERY: Duration = Duration::from_millis(200);
/// Files larger than this are refused.
const LARGEST: u64 = 1 << 30;

/// A folder of manifests.
pub struct Manifests {
    folder: PathBuf,
    files: BTreeMap<PathBuf, File>,
    snapshot: Snapshot,
}

/// What is known of one file.
struct File {
    stamp: Option<(SystemTime, u64)>,
    /// What it said when it was last good, or what it says if it never was.
    bytes: Vec<u8>,
    /// Why what it says now is not used.
    problems: Vec<String>,
}

impl Manifests {
    /// The manifests in a folder and below it.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, files: BTreeMap::new(), snapshot: Snapshot::default() }
    }

    /// Looks at the folder; `None` when nothing is different.
    fn look(&mut self) -> Option<News> {
        let paths = match manifest_files::manifests_below(&self.folder) {
            Ok(paths) => paths,
            // What was there is kept: a folder that cannot be read says nothing about its files.
            Err(error) => return self.complain(error.to_string()),
        };
        let mut is_changed = self.files.keys().any(|path| !paths.contains(path));
        self.files.retain(|path, _| paths.contains(path));
        for path in paths {
            is_changed |= self.read(path);
        }
        is_changed.then(|| self.news())
    }

    fn complain(&self, problem: String) -> Option<News> {
        let is_news = self.files.is_empty();
        is_news.then(|| News { changes: Vec::new(), problems: vec![problem] })
    }

    /// Reads a file if it is new or changed; whether it was.
    fn read(&mut self, path: PathBuf) -> bool {
        let stamp = std::fs::metadata(&path).ok().and_then(|m| Some((m.modified().ok()?, m.len())));
        let before = self.files.get(&path);
        if before.is_some_and(|file| file.stamp == stamp && stamp.is_some()) {
            return false;
        }
        let kept = before.map(|file| file.bytes.clone());
        let file = match manifest_files::content(&path, LARGEST) {
            Ok(bytes) => {
                let problems = problems_of(&path, &bytes);
                match kept {
                    Some(kept) if !problems.is_empty() => File { stamp, bytes: kept, problems },
                    // A file that never was good is used as far as it can be read, and what cannot fails closed (S1.20).
                    _ => File { stamp, bytes, problems },
                }
            }
            Err(error) => {
                let problems = vec![format!("{}: cannot read the file: {error}", path.display())];
                File { stamp, bytes: kept.unwrap_or_default(), problems }
            }
        };
        self.files.insert(path, file);
        true
    }

    /// The difference to what was told before.
    fn news(&mut self) -> News {
        // Objects that an old API server took are still there, so they are read as it did (S1.19).
        let mut loader = Loader::new(Syntax::Legacy);
        for (path, file) in &self.files {
            loader.read(&path.display().to_string(), &file.bytes);
        }
        let snapshot = loader.finish();
        let changes = self.snapshot.difference(&snapshot);
        let mut problems: Vec<String> = self.files.values().flat_map(|file| file.problems.iter().cloned()).collect();
        for problem in snapshot.diagnostics.iter().filter(|d| d.is_error()).map(describe) {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        self.snapshot = snapshot;
        News { changes, problems }
    }
}

/// What is wrong with one file alone.
fn problems_of(path: &Path, bytes: &[u8]) -> Vec<String> {
    let mut loader = Loader::new(Syntax::Legacy);
    loader.read(&path.display().to_string(), bytes);
    loader.finish().diagnostics.iter().filter(|d| d.is_error()).map(describe).collect()
}

/// `file:line:column: object: path: message (S1.20)`
fn describe(diagnostic: &Diagnostic) -> String {
    let mut text = diagnostic.file.clone();
    if let Some(at) = &diagnostic.position {
        text = format!("{text}:{}:{}", at.line, at.column);
    }
    for part in [&diagnostic.object, &diagnostic.path].into_iter().filter(|part| !part.is_empty()) {
        text = format!("{text}: {part}");
    }
    format!("{text}: {} ({})", diagnostic.message, diagnostic.rule)
}

impl Source for Manifests {
    fn describe(&self) -> String {
        format!("manifests in {}", self.folder.display())
    }

    fn run(mut self: Box<Self>, tell: &mut dyn FnMut(News) -> bool) {
        let first = self.look().unwrap_or_else(|| self.news());
        if !tell(first) {
            return;
        }
        loop {
            std::thread::sleep(EVERY);
            if let Some(news) = self.look()
                && !tell(news)
            {
                return;
            }
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

    #[test]
    fn a_broken_file_keeps_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.yaml", GOOD);
        let mut source = Manifests::new(folder.path().to_owned());
        let first = source.look().unwrap();
        assert!(first.changes.iter().any(|c| matches!(c, Change::Policy(_))), "{first:?}");
        assert!(source.look().is_none(), "nothing changed");

        write(folder.path(), "a.yaml", &GOOD.replace("podSelector: {}", "podSelector: {"));
        let broken = source.look().unwrap();
        assert!(broken.changes.is_empty(), "{broken:?}");
        assert!(broken.problems.iter().any(|p| p.contains("a.yaml:4")), "{broken:?}");

        // Another file may change meanwhile.
        write(folder.path(), "b.yaml", &GOOD.replace("name: a", "name: b"));
        let other = source.look().unwrap();
        assert_eq!(other.changes.len(), 1, "{other:?}");
        assert_eq!(other.problems, broken.problems);

        std::fs::remove_file(folder.path().join("a.yaml")).unwrap();
        let gone = source.look().unwrap();
        assert!(matches!(gone.changes.as_slice(), [Change::PolicyRemoved(_)]), "{gone:?}");
        assert!(gone.problems.is_empty());
    }

    #[test]
    fn a_folder_that_goes_away_takes_nothing_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("manifests");
        std::fs::create_dir(&below).unwrap();
        write(&below, "a.yaml", GOOD);
        let mut source = Manifests::new(below.clone());
        source.look().unwrap();
        std::fs::remove_dir_all(&below).unwrap();
        assert!(source.look().is_none());
    }
}
