//! How a file is recognised without being read.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What changes when a file is written or replaced, and what it is; `None` when even that cannot be read, as for a link to nowhere.
/// Programs may set the time of the last write, but not the time of the last change.
pub(super) type Stamp = Option<Marks>;

/// The marks of one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Marks {
    device: u64,
    inode: u64,
    mode: u32,
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Marks {
    pub(super) fn size(self) -> u64 {
        self.size
    }
}

pub(super) fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Marks {
        device: metadata.dev(),
        inode: metadata.ino(),
        mode: metadata.mode(),
        size: metadata.size(),
        written: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}
