//! Reading a small regular file, and nothing else in its place.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

/// The content of a regular file of at most `largest` bytes. Links are followed.
///
/// # Errors
/// When it cannot be read, is larger, or is no regular file. A FIFO or a device never holds up the caller.
pub(crate) fn read(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    open(path, largest).map(|(_, content)| content)
}

/// The same, and the file that was read.
///
/// # Errors
/// As for [`read`].
pub(crate) fn open(path: &Path, largest: u64) -> io::Result<(File, Vec<u8>)> {
    // Without this flag, opening a FIFO waits for somebody who writes.
    let mut file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut content = Vec::new();
    (&mut file).take(largest.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > largest {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {largest} bytes")));
    }
    Ok((file, content))
}
