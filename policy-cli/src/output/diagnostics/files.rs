//! The paths of files in a repository, as services look for them, and regions of their text.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use policy_core::diagnostic::{Place, Position};

use crate::input::ReadFrom;
use crate::output::links::encoded;

/// Larger files are not read for the ends of regions.
const LARGEST: u64 = 16 << 20;

/// The files of a report, by the names that places have.
pub(super) struct Files {
    known: BTreeMap<String, File>,
}

/// A file.
pub(super) struct File {
    /// The path below the root of the repository, or of the current directory outside of one; absolute for a file that is elsewhere.
    pub path: String,
    pub is_below_root: bool,
    pub is_rendered: bool,
    full: PathBuf,
    text: OnceCell<Option<String>>,
}

/// A part of a file. Lines and columns are counted from 1, columns in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Region {
    pub line: u32,
    pub column: u32,
    /// The place after the last character, and the bytes; `None` where only the beginning is known.
    pub end: Option<End>,
}

/// Where a region ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct End {
    pub line: u32,
    pub column: u32,
    /// The first byte of the region, and the first byte after it.
    pub bytes: (usize, usize),
}

impl Files {
    /// The files that input was read from, and those that places name beside them.
    ///
    /// # Errors
    /// When there is no current directory.
    pub(super) fn new<'n>(read_from: impl Iterator<Item = &'n ReadFrom>, places: impl Iterator<Item = &'n str>) -> Result<Self> {
        let current = std::env::current_dir().and_then(|current| current.canonicalize());
        let current = current.context("cannot read the current directory")?;
        let root = current.ancestors().find(|folder| folder.join(".git").exists()).unwrap_or(&current);
        let mut known = BTreeMap::new();
        for ReadFrom { name, file, is_rendered } in read_from {
            let file = file.as_ref().and_then(|path| File::new(path, root, &current, *is_rendered));
            known.extend(file.map(|file| (name.clone(), file)));
        }
        for name in places {
            if !known.contains_key(name) {
                let file = File::new(Path::new(name), root, &current, false);
                known.extend(file.map(|file| (name.to_owned(), file)));
            }
        }
        Ok(Self { known })
    }

    /// The file of a name; `None` for standard input, and for what is no file.
    pub(super) fn get(&self, name: &str) -> Option<&File> {
        self.known.get(name)
    }

    /// The file of a place, and the position if it is one in this file.
    pub(super) fn at<'p>(&self, place: &'p Place) -> Option<(&File, Option<&'p Position>)> {
        let file = self.get(&place.file)?;
        Some((file, place.position.as_ref().filter(|_| !file.is_rendered)))
    }
}

impl File {
    fn new(path: &Path, root: &Path, current: &Path, is_rendered: bool) -> Option<Self> {
        let full = current.join(path);
        if !full.is_file() {
            return None;
        }
        let real = full.canonicalize().ok()?;
        // A link that leads out of the repository is shown as what it is called.
        let named = without_dots(&full);
        let below = [&real, &named].into_iter().find_map(|path| path.strip_prefix(root).ok());
        let path = below.unwrap_or(&real);
        let names: Vec<_> = path.components().filter(|part| *part != Component::RootDir).collect();
        let path: Vec<_> = names.iter().map(|name| name.as_os_str().to_string_lossy()).collect();
        let path = path.join("/");
        let is_below_root = below.is_some();
        Some(Self {
            path: if is_below_root { path } else { format!("/{path}") },
            is_below_root,
            is_rendered,
            full: real,
            text: OnceCell::new(),
        })
    }

    /// A reference for reports: relative to the root, or absolute.
    pub(super) fn uri(&self) -> String {
        if self.is_below_root { encoded(&self.path) } else { format!("file://{}", encoded(&self.path)) }
    }

    /// The region of a position.
    pub(super) fn region(&self, at: &Position) -> Region {
        let (start, end) = at.bytes;
        let text = self.text().filter(|_| start < end);
        let end = text.and_then(|text| end_of(text, (at.line, at.column), at.bytes));
        Region { line: at.line, column: at.column, end }
    }

    /// The region of these bytes; `None` unless the file has them.
    pub(super) fn region_of_bytes(&self, bytes: (usize, usize)) -> Option<Region> {
        let text = self.text()?;
        // A byte order mark has no width.
        let before = text.get(..bytes.0)?.trim_start_matches('\u{feff}');
        let (line, column) = after(before, (1, 1));
        Some(Region { line, column, end: Some(end_of(text, (line, column), bytes)?) })
    }

    /// The text, if positions count its bytes: neither compressed nor in UTF-16.
    fn text(&self) -> Option<&str> {
        let read = || {
            let is_small = std::fs::metadata(&self.full).ok()?.len() <= LARGEST;
            let bytes = is_small.then(|| std::fs::read(&self.full).ok()).flatten()?;
            String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
        };
        self.text.get_or_init(read).as_deref()
    }
}

fn end_of(text: &str, start: (u32, u32), bytes: (usize, usize)) -> Option<End> {
    let (line, column) = after(text.get(bytes.0..bytes.1)?, start);
    Some(End { line, column, bytes })
}

/// The place after a text that begins at this line and column.
fn after(text: &str, (line, column): (u32, u32)) -> (u32, u32) {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    match text.rsplit_once('\n') {
        Some((before, last)) => (line.saturating_add(number(before.matches('\n').count() + 1)), number(last.chars().count() + 1)),
        None => (line, column.saturating_add(number(text.chars().count()))),
    }
}

/// A path without `.` and `..`, by its names alone.
fn without_dots(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        let text = OnceCell::from(Some(text.to_owned()));
        File { path: "a".to_owned(), is_below_root: true, is_rendered: false, full: PathBuf::new(), text }
    }

    #[test]
    fn regions_count_characters_and_bytes() {
        let file = file("a: 1\nä: \"ö\"\nb:\n  c: 1\n");
        let region = |line, column, to: (u32, u32), bytes| {
            let end = End { line: to.0, column: to.1, bytes };
            Region { line, column, end: Some(end) }
        };
        let quoted = region(2, 4, (2, 7), (9, 13));
        assert_eq!(file.region_of_bytes((9, 13)), Some(quoted));
        assert_eq!(file.region(&Position { line: 2, column: 4, bytes: (9, 13) }), quoted);
        assert_eq!(file.region_of_bytes((9, 9)), Some(region(2, 4, (2, 4), (9, 9))), "an insertion");
        assert_eq!(file.region_of_bytes((14, 24)), Some(region(3, 1, (5, 1), (14, 24))), "lines");
        assert_eq!(file.region_of_bytes((6, 7)), None, "a part of a character");
        assert_eq!(file.region_of_bytes((9, 99)), None, "beyond the end");
        // Only the line is known.
        let known = Region { line: 3, column: 1, end: None };
        assert_eq!(file.region(&Position { line: 3, column: 1, bytes: (0, 0) }), known);
    }

    #[test]
    fn a_byte_order_mark_has_no_width() {
        let region = file("\u{feff}ab: 1\n").region_of_bytes((3, 5)).unwrap();
        assert_eq!((region.line, region.column, region.end.map(|end| end.column)), (1, 1, Some(3)));
    }

    #[test]
    fn dots_are_removed_from_paths() {
        assert_eq!(without_dots(Path::new("/a/./b/../c.yaml")), Path::new("/a/c.yaml"));
    }
}
