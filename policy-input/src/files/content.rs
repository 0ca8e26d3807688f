//! The bytes of a file.

use std::borrow::Cow;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{Cursor, Error, ErrorKind, Read, Result};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use nix::libc::{O_NOCTTY, O_NONBLOCK};
use policy_core::manifest::utf8;

/// The start of a gzip stream (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The bytes of what a user named (`-` for standard input), decompressed, and never more than `limit` of them; UTF-16 is then converted to
/// UTF-8. It may be a pipe.
///
/// # Errors
/// When it cannot be read or decompressed; of the kind `FileTooLarge` when it is larger than `limit` bytes.
pub fn content(path: &Path, limit: u64) -> Result<Vec<u8>> {
    if path == Path::new("-") { read(std::io::stdin().lock(), limit) } else { read(File::open(path)?, limit) }
}

/// The bytes of a regular file, or of one that a link leads to, decompressed, and never more than `limit` of them; UTF-16 is then converted to
/// UTF-8. Nothing else is opened: a pipe may be waited for without end, and a device may do something when it is opened.
///
/// # Errors
/// When it cannot be read or decompressed; of the kind `Unsupported` when it is no regular file, and `FileTooLarge` when it is larger than
/// `limit` bytes.
pub fn regular_content(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let (file, size) = regular(path)?;
    if size > limit {
        return Err(too_large(limit));
    }
    read(file, limit)
}

/// The first bytes of a regular file as they are, at most `limit` of them.
///
/// # Errors
/// When it cannot be read; of the kind `Unsupported` when it is no regular file.
pub fn beginning(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    regular(path)?.0.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A regular file and its size.
fn regular(path: &Path) -> Result<(File, u64)> {
    must_be_regular(&std::fs::metadata(path)?)?;
    // What is opened may be something else than what was looked at.
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    must_be_regular(&metadata)?;
    Ok((file, metadata.len()))
}

fn must_be_regular(metadata: &Metadata) -> Result<()> {
    let kind = metadata.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_dir() {
        "a directory"
    } else {
        "a device"
    };
    Err(Error::new(ErrorKind::Unsupported, format!("it is {what}, not a regular file")))
}

fn read(mut source: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    source.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut head)?;
    let is_compressed = head == GZIP_MAGIC;
    let whole = Cursor::new(head).chain(source);
    let bytes = if is_compressed { bounded(MultiGzDecoder::new(whole), limit) } else { bounded(whole, limit) }?;
    let converted = match utf8(&bytes) {
        Cow::Owned(converted) => Some(converted),
        Cow::Borrowed(_) => None,
    };
    Ok(converted.unwrap_or(bytes))
}

fn bounded(source: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = source.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if read as u64 > limit {
        return Err(too_large(limit));
    }
    bytes.shrink_to_fit();
    Ok(bytes)
}

fn too_large(limit: u64) -> Error {
    Error::new(ErrorKind::FileTooLarge, format!("it is larger than {} MiB", limit >> 20))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn content_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        std::fs::write(&path, "12345").unwrap();
        for read in [content, regular_content] {
            assert_eq!(read(&path, 5).unwrap(), b"12345");
            assert_eq!(read(&path, 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
        }
        assert_eq!((beginning(&path, 4).unwrap(), beginning(&path, 9).unwrap()), (b"1234".to_vec(), b"12345".to_vec()));
    }

    #[test]
    fn what_is_compressed_is_bounded_by_what_comes_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml.gz");
        let mut encoder = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        encoder.write_all(&vec![b'#'; 1 << 20]).unwrap();
        encoder.finish().unwrap();
        assert_eq!(regular_content(&path, 1 << 20).unwrap().len(), 1 << 20);
        assert_eq!(regular_content(&path, (1 << 20) - 1).unwrap_err().kind(), ErrorKind::FileTooLarge);
        let half = std::fs::metadata(&path).unwrap().len() / 2;
        OpenOptions::new().write(true).open(&path).unwrap().set_len(half).unwrap();
        assert_eq!(regular_content(&path, 1 << 20).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn utf16_is_converted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        let bytes: Vec<u8> = "\u{feff}kind: é".encode_utf16().flat_map(u16::to_le_bytes).collect();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(content(&path, 1 << 20).unwrap(), "kind: é".as_bytes());
        assert_eq!(regular_content(&path, 3).unwrap_err().kind(), ErrorKind::FileTooLarge, "the limit is for the file");
    }

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink(at("fifo"), at("link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        let rows =
            [("fifo", "named pipe"), ("link", "named pipe"), ("zero", "device"), ("socket", "socket"), ("folder", "directory")];
        for (name, what) in rows {
            let error = regular_content(&at(name), 1 << 20).unwrap_err().to_string();
            assert!(error.contains(what), "{name}: {error}");
        }
    }
}
