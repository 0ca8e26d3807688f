//! A folder of manifests as source: the agent without an API server.
//!
//! The folder is looked at again and again. A file that disappears by accident must open no pod, so:
//! - a file counts as changed, or as gone, when two looks in a row see it so: nothing half written is read;
//! - a file is gone only if the folder that it was in was listed whole both times, is the same folder, and holds other manifests:
//!   one that is not mounted, or was emptied, says nothing about its files;
//! - a file that is broken, blank or not a regular file keeps its last good contents.
//!
//! - `file`: the state and the contents of one file.
//! - `stamp`: how a file is recognised without being read.

mod file;
mod stamp;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use policy_core::manifest::{Loader, Snapshot, Syntax};
use policy_input::files::Scan;

use self::file::{Content, File};
use self::stamp::{Stamp, stamp};
use super::heartbeat::Heartbeat;
use super::{HealthCheck, ProblemsDelta, Source, SourceUpdate, SyncState, describe};

/// How often the folder is looked at.
const EVERY: Duration = Duration::from_millis(150);
/// A look, or the reading of one file, that takes longer than this hangs.
const QUIET: Duration = Duration::from_secs(10);
/// Files larger than this are refused, before and after decompression.
const LARGEST: u64 = 256 << 20;
/// Bytes that are read in one look, one file at least: small files do not wait for large ones.
const MOST_READ: u64 = 32 << 20;
/// A file that is different in this many looks in a row is read all the same.
const PATIENCE: u32 = 10;
/// After this many looks a file is read once more. What is written twice within the resolution of the file system's clock has equal
/// stamps; and what could not be read may be readable then.
const AGAIN: u32 = 16;

/// A folder of manifests.
pub struct Manifests {
    folder: PathBuf,
    files: BTreeMap<PathBuf, File>,
    /// Counts looks.
    looks: u32,
    /// What the last look saw.
    seen: Option<Look>,
    /// Files that were different in the last looks.
    moving: BTreeMap<PathBuf, Moving>,
    /// What could not be listed.
    troubles: BTreeSet<String>,
    /// Why files that are not there any more still count.
    kept: BTreeSet<String>,
    /// The problems of the last update.
    told: BTreeSet<String>,
    snapshot: Snapshot,
    has_told: bool,
    beat: Heartbeat,
}

/// What a look saw.
struct Look {
    stamps: BTreeMap<PathBuf, Stamp>,
    scan: Scan,
}

/// A file that is different in every look.
#[derive(Default)]
struct Moving {
    /// In how many looks in a row.
    looks: u32,
    /// Its contents when it was last read.
    hash: Option<u64>,
}

/// Why a file is to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Two looks saw the same new stamp.
    Settled,
    /// Its stamp is as it was when it was read.
    Again,
    /// It does not settle.
    Moves,
}

impl Look {
    fn new(mut scan: Scan) -> Self {
        let stamps = std::mem::take(&mut scan.files).into_iter().map(|path| (path.clone(), stamp(&path))).collect();
        Self { stamps, scan }
    }

    fn is_whole(&self) -> bool {
        self.scan.troubles.is_empty()
    }

    fn has_manifests(&self, folder: &Path) -> bool {
        self.stamps.range(folder.to_owned()..).next().is_some_and(|(path, _)| path.starts_with(folder))
    }

    /// The folder that decides whether a file is deleted: its own, or the nearest above it that is there.
    fn witness<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        path.ancestors().skip(1).find(|folder| self.scan.folders.contains_key(*folder))
    }
}

impl Manifests {
    /// The manifests in a folder and below it.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            files: BTreeMap::new(),
            looks: 0,
            seen: None,
            moving: BTreeMap::new(),
            troubles: BTreeSet::new(),
            kept: BTreeSet::new(),
            told: BTreeSet::new(),
            snapshot: Snapshot::default(),
            has_told: false,
            beat: Heartbeat::new("manifests", QUIET, Instant::now()),
        }
    }

    /// Scans the folder; `None` if nothing changed.
    fn look(&mut self) -> Option<SourceUpdate> {
        self.looks = self.looks.saturating_add(1);
        let now = Look::new(policy_input::files::scan(&self.folder));
        let troubles = now.scan.troubles.iter().map(|(_, error)| error.to_string()).collect();
        let mut is_news = troubles != self.troubles;
        self.troubles = troubles;
        match self.troubles.first() {
            Some(trouble) => self.beat.failed(trouble.clone()),
            None => self.beat.seen(Instant::now()),
        }
        if let Some(before) = self.seen.take() {
            is_news |= self.read_changed(&before, &now);
            is_news |= self.forget_gone(&before, &now);
            let is_first = !self.has_told && !self.must_wait(&before, &now);
            is_news = is_first || (is_news && self.has_told);
        } else {
            is_news = false;
        }
        self.seen = Some(now);
        is_news.then(|| self.news())
    }

    /// Whether files that were there twice are yet to be read.
    fn must_wait(&self, before: &Look, now: &Look) -> bool {
        // While files come and go, everything is there as soon as those that stay are.
        let is_patient = self.looks <= 2 * PATIENCE + 2;
        now.stamps.keys().any(|path| !self.files.contains_key(path) && (is_patient || before.stamps.contains_key(path)))
    }

    /// Reads what has changed, the smallest first, and no more than there is time for; whether anything is new.
    fn read_changed(&mut self, before: &Look, now: &Look) -> bool {
        self.moving.retain(|path, _| now.stamps.contains_key(path));
        let mut wanted: Vec<(u64, &PathBuf, Why)> = Vec::new();
        for (path, stamp) in &now.stamps {
            let why = self.why_read(path, *stamp, before.stamps.get(path) == Some(stamp));
            wanted.extend(why.map(|why| (stamp.map_or(0, |stamp| stamp.size()), path, why)));
        }
        wanted.sort_unstable_by_key(|(size, path, _)| (*size, *path));
        let (mut is_news, mut read) = (false, 0);
        for (size, path, why) in wanted {
            if read > 0 && read + size > MOST_READ {
                break;
            }
            read += size;
            is_news |= self.read(path, now.stamps.get(path).copied().flatten(), why);
            self.beat.goes_on(Instant::now());
        }
        is_news
    }

    fn why_read(&mut self, path: &PathBuf, stamp: Stamp, is_settled: bool) -> Option<Why> {
        if let Some(file) = self.files.get(path).filter(|file| file.stamp == stamp) {
            self.moving.remove(path);
            return file.is_due(self.looks).then_some(Why::Again);
        }
        if is_settled {
            self.moving.remove(path);
            return Some(Why::Settled);
        }
        let moving = self.moving.entry(path.clone()).or_default();
        moving.looks = moving.looks.saturating_add(1);
        (moving.looks >= PATIENCE && moving.looks % PATIENCE < 2).then_some(Why::Moves)
    }

    /// Reads a file; whether what is known of it becomes different.
    fn read(&mut self, path: &Path, before: Stamp, why: Why) -> bool {
        let content = Content::of(path, LARGEST);
        if why != Why::Moves {
            // It changed meanwhile, so a later look must read it.
            return stamp(path) == before && self.take(path, content, before);
        }
        let moving = self.moving.entry(path.to_owned()).or_default();
        let before_that = std::mem::replace(&mut moving.hash, content.hash());
        if content.hash().is_none() || content.hash() == before_that {
            return self.take(path, content, before);
        }
        let is_hopeless = moving.looks > 2 * PATIENCE && self.files.get(path).is_none_or(|file| !file.moves());
        is_hopeless && self.take(path, Content::moving(), before)
    }

    fn take(&mut self, path: &Path, content: Content, stamp: Stamp) -> bool {
        let again = self.looks.saturating_add(AGAIN);
        let known = self.files.remove(path);
        let (file, is_news) = File::take(known, path, content, stamp, again);
        self.files.insert(path.to_owned(), file);
        is_news
    }

    /// Forgets files that are gone; whether anything is new.
    fn forget_gone(&mut self, before: &Look, now: &Look) -> bool {
        // A folder that cannot be listed says nothing about its files, and a file that moved must be read first where it is now.
        let is_read = |path: &PathBuf| self.files.contains_key(path) || !before.stamps.contains_key(path);
        if !before.is_whole() || !now.is_whole() || !now.stamps.keys().all(is_read) {
            return false;
        }
        let is_gone = |path: &&PathBuf| !now.stamps.contains_key(*path) && !before.stamps.contains_key(*path);
        let (mut gone, mut kept) = (Vec::new(), BTreeSet::new());
        for path in self.files.keys().filter(is_gone) {
            match why_kept(path, before, now) {
                Some(why) => drop(kept.insert(why)),
                None => gone.push(path.clone()),
            }
        }
        for path in &gone {
            self.files.remove(path);
        }
        let is_news = !gone.is_empty() || kept != self.kept;
        self.kept = kept;
        is_news
    }

    /// The difference from the last update.
    fn news(&mut self) -> SourceUpdate {
        self.has_told = true;
        // Objects that an old API server took are still there, so they are read as it did (S1.19).
        let mut loader = Loader::new(Syntax::Legacy);
        for (path, file) in &self.files {
            loader.read(&path.display().to_string(), file.bytes());
        }
        let snapshot = loader.finish();
        let changes = self.snapshot.difference(&snapshot);
        let mut problems: BTreeSet<String> = self.troubles.union(&self.kept).cloned().collect();
        problems.extend(self.files.values().flat_map(|file| file.problems()).cloned());
        problems.extend(snapshot.diagnostics.iter().filter(|d| d.is_error()).map(describe));
        self.snapshot = Snapshot { diagnostics: Vec::new(), ..snapshot };
        // A folder without manifests may be one that is not mounted yet.
        if self.files.is_empty() && self.troubles.is_empty() {
            problems.insert(format!("there are no manifests in `{}`", self.folder.display()));
        }
        let is_complete = self.troubles.is_empty() && !self.files.is_empty() && !self.files.values().any(File::is_lost);
        let extent = if is_complete { SyncState::Synced } else { SyncState::Partial };
        let delta = ProblemsDelta::between(&self.told, &problems);
        self.told = problems;
        SourceUpdate { changes, problems: delta, extent, ..SourceUpdate::default() }
    }
}

/// Why a file that two looks did not see counts all the same; `None` when it is gone.
fn why_kept(path: &Path, before: &Look, now: &Look) -> Option<String> {
    let shown = path.display();
    if now.scan.folders.contains_key(path) {
        return Some(format!("{shown}: a directory has replaced the file; the last good contents stay in force"));
    }
    if let Some(link) = path.ancestors().skip(1).find(|above| now.scan.broken_links.contains(*above)) {
        return Some(format!("{}: the link is broken; the last good contents below it stay in force", link.display()));
    }
    let Some(folder) = now.witness(path) else {
        return Some(format!("{shown}: its directory is missing; the last good contents stay in force"));
    };
    if before.scan.folders.get(folder) != now.scan.folders.get(folder) {
        return Some(format!(
            "{}: another directory has replaced it; the earlier contents stay in force until two scans agree",
            folder.display()
        ));
    }
    (!now.has_manifests(folder)).then(|| {
        format!(
            "{}: it no longer has manifests, possibly because a mount is missing; the last good contents stay in force. To remove \
             them, create a file that holds {}",
            folder.display(),
            file::NOTHING
        )
    })
}

/// The objects of one file alone.
fn read_alone(path: &Path, bytes: &[u8]) -> Snapshot {
    let mut loader = Loader::new(Syntax::Legacy);
    loader.read(&path.display().to_string(), bytes);
    loader.finish()
}

impl Source for Manifests {
    fn describe(&self) -> String {
        format!("manifests in {}", self.folder.display())
    }

    fn pulse(&self) -> HealthCheck {
        let beat = self.beat.clone();
        Box::new(move || vec![beat.freshness(Instant::now())])
    }

    fn run(mut self: Box<Self>, tell: &mut dyn FnMut(SourceUpdate) -> bool) {
        let _ending = self.beat.until_dropped();
        loop {
            let start = Instant::now();
            if let Some(news) = self.look()
                && !tell(news)
            {
                return;
            }
            // Very large folders take half of a processor at most.
            std::thread::sleep(EVERY.max(start.elapsed()));
        }
    }
}
