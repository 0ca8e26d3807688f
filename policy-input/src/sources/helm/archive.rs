//! The files of the archive of a chart, as far as its templates are searched.
//!
//! Source: the format `ustar`, <https://www.gnu.org/software/tar/manual/html_node/Standard.html>.

use std::io::Read;

use flate2::read::MultiGzDecoder;

/// Headers and contents are padded to this.
const BLOCK: usize = 512;

/// The names and the contents of the files in a decompressed archive.
pub(super) fn files(bytes: &[u8]) -> Vec<(String, &[u8])> {
    let mut out = Vec::new();
    let mut rest = bytes;
    let mut long_name = None;
    while let Some((header, after)) = rest.split_at_checked(BLOCK) {
        let Some(size) = number(header.get(124..136).unwrap_or_default()) else { break };
        let Some(body) = after.get(..size) else { break };
        match header.get(156) {
            Some(b'L') => long_name = Some(text(body)),
            Some(b'x') => long_name = path_in(body),
            Some(b'0' | 0) => out.push((long_name.take().unwrap_or_else(|| name(header)), body)),
            _ => long_name = None,
        }
        rest = after.get(size.div_ceil(BLOCK) * BLOCK..).unwrap_or_default();
    }
    out
}

/// At most `size` bytes of what is compressed with gzip.
pub(super) fn decompressed(bytes: &[u8], size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    // What can be read of a broken archive is searched.
    let _ = MultiGzDecoder::new(bytes).take(size).read_to_end(&mut out);
    out
}

fn name(header: &[u8]) -> String {
    let own = text(header.get(..100).unwrap_or_default());
    let is_ustar = header.get(257..262) == Some(b"ustar");
    let prefix = if is_ustar { text(header.get(345..500).unwrap_or_default()) } else { String::new() };
    if prefix.is_empty() { own } else { format!("{prefix}/{own}") }
}

/// The path in a header of pax: lines such as `20 path=a/b`.
fn path_in(body: &[u8]) -> Option<String> {
    text(body).lines().find_map(|line| Some(line.split_once(" path=")?.1.to_owned()))
}

/// The text before the first NUL.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

fn number(octal: &[u8]) -> Option<usize> {
    usize::from_str_radix(text(octal).trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_of_tar_has_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("a/templates/{}/{}.yaml", "d".repeat(90), "f".repeat(90));
        for (path, body) in [("a/templates/x.yaml", "x".repeat(600)), ("a/empty", String::new()), (&*long, "y".to_owned())] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, body).unwrap();
        }
        for format in ["ustar", "gnu", "pax"] {
            let made = std::process::Command::new("tar")
                .args(["-cz", &format!("--format={format}"), "a"])
                .current_dir(folder.path())
                .output()
                .unwrap();
            let archive = decompressed(&made.stdout, 1 << 20);
            let mut found = files(&archive);
            found.sort_unstable();
            let found: Vec<(&str, usize)> = found.iter().map(|(name, body)| (name.as_str(), body.len())).collect();
            assert_eq!(found, [("a/empty", 0), (long.as_str(), 1), ("a/templates/x.yaml", 600)], "{format}");
        }
        assert!(files(b"short").is_empty() && files(&[b'7'; 2000]).is_empty());
    }
}
