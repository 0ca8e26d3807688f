//! Replacing a file of another program atomically, and only the text that was read.
//!
//! The new text is written beside the file and changes places with it. What comes out is compared with what was read: when it is
//! something else, its owner has written the file meanwhile, and it goes back. So nothing that an owner writes is lost, however
//! short the time between comparing and renaming.

use std::ffi::OsStr;
use std::fs::{File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use tempfile::{Builder, NamedTempFile, TempPath};

use crate::small_file;

/// CNI configurations have a few kilobytes.
const LARGEST: u64 = 1 << 20;
/// Files that are being written end in this, and start with a dot; runtimes pass over such names.
const UNFINISHED: &str = ".netpol-new";
/// Nobody takes longer to write one.
const ABANDONED: Duration = Duration::from_secs(60);
/// How often what came out is put back, while an owner writes yet another text each time.
const RETURNS: u32 = 100;

/// A file as it was read.
#[derive(Debug)]
pub(super) struct Seen {
    /// Where it is; what a link leads to.
    path: PathBuf,
    text: String,
    metadata: Metadata,
}

/// What came of replacing a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Replaced {
    /// It has the new text.
    Done,
    /// Its owner has written it since it was read. It is as its owner left it.
    Changed,
}

impl Seen {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let (file, content) = small_file::open(&path, LARGEST)?;
        let metadata = file.metadata()?;
        let text = String::from_utf8(content).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))?;
        Ok(Self { path, text, metadata })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn mode(&self) -> u32 {
        self.metadata.permissions().mode()
    }

    /// Whether this file is there at a path, with the text that was read. A rename changes the time of the last change of an
    /// inode, so that is compared only where the file has not moved.
    fn is_at(&self, path: &Path) -> bool {
        Self::read(path).is_ok_and(|there| {
            let id = |seen: &Self| (seen.metadata.dev(), seen.metadata.ino(), seen.metadata.mtime(), seen.metadata.mtime_nsec());
            let change = |seen: &Self| (seen.metadata.ctime(), seen.metadata.ctime_nsec());
            id(&there) == id(self) && there.text == self.text && (path != self.path || change(&there) == change(self))
        })
    }
}

/// Replaces a file that was read, unless it has changed since; its mode and its owner stay.
pub(super) fn replace(seen: &Seen, content: &[u8], meanwhile: &mut dyn FnMut()) -> io::Result<Replaced> {
    let beside = beside(&seen.path)?;
    fill(&beside, content, seen.mode())?;
    let new = beside.as_file().metadata()?;
    if (new.uid(), new.gid()) != (seen.metadata.uid(), seen.metadata.gid()) {
        fchown(beside.as_file(), Some(seen.metadata.uid()), Some(seen.metadata.gid()))
            .map_err(|error| io::Error::new(error.kind(), format!("cannot preserve its owner: {error}")))?;
    }
    meanwhile();
    if !seen.is_at(&seen.path) {
        return Ok(Replaced::Changed);
    }
    let beside = beside.into_temp_path();
    match exchange(&beside, &seen.path) {
        Ok(()) if seen.is_at(&beside) => {}
        Ok(()) => return put_back(beside, &seen.path, new.ino()).map(|()| Replaced::Changed),
        // Its owner has removed it.
        Err(Errno::ENOENT) => return Ok(Replaced::Changed),
        // The file system cannot exchange two files. What is left is the moment since the comparison.
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => beside.persist(&seen.path)?,
        Err(error) => return Err(error.into()),
    }
    sync_folder(&seen.path)?;
    Ok(Replaced::Done)
}

/// Brings what came out of a place back to it. When yet another text comes out then, that one is the newest, and goes back.
fn put_back(beside: TempPath, path: &Path, own: u64) -> io::Result<()> {
    let mut put = own;
    for _ in 0..RETURNS {
        let back = std::fs::symlink_metadata(&beside)?.ino();
        match exchange(&beside, path) {
            Ok(()) => {}
            // Its owner has removed it since, and with it what came out before.
            Err(Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if std::fs::symlink_metadata(&beside)?.ino() == put {
            return Ok(());
        }
        put = back;
    }
    // What is beside is the owner's newest text, so it must not go.
    Err(io::Error::other(format!("it changes all the time; the last version of its owner is in `{}`", beside.keep()?.display())))
}

fn exchange(one: &Path, other: &Path) -> nix::Result<()> {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
}

/// Writes a file of our own, in one step.
pub(super) fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let beside = beside(&path)?;
    fill(&beside, content, mode)?;
    beside.into_temp_path().persist(&path)?;
    sync_folder(&path)
}

/// An empty file in the folder of another one. It is removed when it goes, unless it was moved.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Builder::new().prefix(&format!(".{name}.")).suffix(UNFINISHED).tempfile_in(folder(path))
}

fn fill(file: &NamedTempFile, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = file.as_file();
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// Removes temporary files of a process that was killed while writing.
pub(super) fn clean(folder: &Path) {
    let is_unfinished = |name: &OsStr| name.to_string_lossy().starts_with('.') && name.to_string_lossy().ends_with(UNFINISHED);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| is_unfinished(&entry.file_name())) {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|time| SystemTime::now().duration_since(time));
        if age.is_ok_and(|age| age.is_ok_and(|age| age > ABANDONED)) {
            // What cannot be removed does no harm.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// What was put in while ours was there, and what was put in while the first of these went back.
    #[test]
    fn what_came_out_goes_back_and_the_newest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("ours");
        let own = std::fs::metadata(&path).unwrap().ino();
        let out = beside(&path).unwrap();
        fill(&out, b"second", 0o600).unwrap();
        put_back(out.into_temp_path(), &path, own).unwrap();
        assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), names(folder.path()).len()), ("second", 1));
        // The owner has replaced ours by a third text before the second came back.
        let out = beside(&path).unwrap();
        fill(&out, b"second", 0o600).unwrap();
        write("third");
        put_back(out.into_temp_path(), &path, own.wrapping_add(1 << 40)).unwrap();
        assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), names(folder.path()).len()), ("third", 1));
    }

    #[test]
    fn mode_and_owner_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "a").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let is_root = std::os::unix::fs::chown(&path, Some(12), Some(34)).is_ok();
        assert_eq!(replace(&Seen::read(&path).unwrap(), b"b", &mut || {}).unwrap(), Replaced::Done);
        let after = std::fs::metadata(&path).unwrap();
        assert_eq!((std::fs::read(&path).unwrap().as_slice(), after.mode() & 0o777), (b"b".as_slice(), 0o640));
        assert!(!is_root || (after.uid(), after.gid()) == (12, 34));
    }

    #[test]
    fn only_what_was_abandoned_is_cleaned() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".x.old.netpol-new", ".x.new.netpol-new", "x.old"] {
            let file = File::create(folder.path().join(name)).unwrap();
            if name.contains("old") {
                file.set_modified(SystemTime::now() - 2 * ABANDONED).unwrap();
            }
        }
        clean(folder.path());
        let mut left = names(folder.path());
        left.sort();
        assert_eq!(left, [".x.new.netpol-new", "x.old"]);
    }
}
