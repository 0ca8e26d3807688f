//! Which files below a folder are manifests, and their bytes. The command line and the agent read the same ones.

use std::collections::BTreeSet;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// What is read from folders. A file that is named is read whatever its name.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The start of a gzip stream (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The manifests below a folder, sorted. Hidden entries are left out; a folder is visited once, whatever links lead to it.
///
/// # Errors
/// When the folder, or one below it, cannot be opened or listed.
pub fn manifests_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    walk(folder, &mut BTreeSet::new(), &mut files)?;
    Ok(files)
}

fn walk(folder: &Path, visited: &mut BTreeSet<PathBuf>, files: &mut Vec<PathBuf>) -> Result<()> {
    let named = |verb: &str| {
        let text = format!("cannot {verb} the folder `{}`", folder.display());
        move |error: Error| Error::new(error.kind(), format!("{text}: {error}"))
    };
    if !visited.insert(folder.canonicalize().map_err(named("open"))?) {
        return Ok(());
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(named("list"))? {
        let entry = entry.map_err(named("list"))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            walk(&path, visited, files)?;
        } else if is_manifest(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    let extension = |p: &Path| p.extension().map(|e| e.to_string_lossy().to_lowercase());
    match extension(path).as_deref() {
        Some("gz") => path.file_stem().is_some_and(|stem| is_manifest(Path::new(stem))),
        Some(other) => EXTENSIONS.contains(&other),
        None => false,
    }
}

/// The bytes of a file (`-` for standard input), decompressed, and never more than `limit` of them.
///
/// # Errors
/// When the file cannot be read or decompressed, or is larger than `limit` bytes.
pub fn content(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let raw = if path == Path::new("-") {
        bounded(std::io::stdin().lock(), limit)?
    } else {
        bounded(std::fs::File::open(path)?, limit)?
    };
    if raw.starts_with(&GZIP_MAGIC) { bounded(MultiGzDecoder::new(raw.as_slice()), limit) } else { Ok(raw) }
}

fn bounded(source: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = source.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if read as u64 > limit {
        let message = format!("it is larger than {} MiB; `--max-size` raises the limit", limit >> 20);
        return Err(Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_in_order_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("sub")).unwrap();
        for name in ["b.yaml", "a.json.gz", "sub/c.yml", ".hidden.yaml", "notes.txt"] {
            std::fs::write(at(name), "x").unwrap();
        }
        std::os::unix::fs::symlink(folder.path(), at("sub/up")).unwrap();
        let found = manifests_below(folder.path()).unwrap();
        assert_eq!(found, ["a.json.gz", "b.yaml", "sub/c.yml"].map(at));
    }

    #[test]
    fn content_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(content(&path, 5).unwrap(), b"12345");
        assert_eq!(content(&path, 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }
}
