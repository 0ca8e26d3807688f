//! The crate is pure, and its modules import in one direction only.

#![expect(clippy::expect_used, reason = "a failing check panics")]

use std::path::{Path, PathBuf};

/// Each module and the modules that it may import.
const LAYERS: [(&str, &[&str]); 8] = [
    ("sets", &[]),
    ("diagnostic", &[]),
    ("model", &["sets", "diagnostic"]),
    ("manifest", &["model", "sets", "diagnostic"]),
    ("graph", &["model", "sets", "diagnostic"]),
    ("compile", &["graph", "model", "sets", "diagnostic"]),
    ("verdict", &["graph", "model", "sets", "diagnostic"]),
    ("plan", &["graph", "model", "sets", "diagnostic"]),
];

/// What a pure crate has no use for.
const IMPURE: [&str; 12] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::time",
    "std::thread",
    "std::io",
    "TcpStream",
    "UdpSocket",
    "println!",
    "async fn",
    "tokio",
    "SystemTime",
];

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// What stands before the name of a file that only tests need.
const TEST_FILE: &str = "#[cfg(test)]\nmod ";

/// The files that only tests need, as other files declare them.
fn test_files(files: &[PathBuf]) -> Vec<PathBuf> {
    let declared = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("readable");
        let names = text.split(TEST_FILE).skip(1).filter_map(|rest| rest.lines().next()?.strip_suffix(';').map(str::to_owned));
        names.map(|name| path.with_extension("").join(name).with_extension("rs")).collect::<Vec<_>>()
    };
    files.iter().flat_map(declared).collect()
}

/// The code of a file without comments, and without its unit tests.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("readable");
    // A file of tests may be declared anywhere; unit tests stand last.
    let is_inline = |(at, _): &(usize, &str)| {
        let rest = text.get(at + TEST_FILE.len()..).unwrap_or_default();
        !rest.lines().next().is_some_and(|line| line.ends_with(';'))
    };
    let end = text.match_indices(TEST_FILE).find(is_inline).map_or(text.len(), |(at, _)| at);
    let text = text.get(..end).unwrap_or_default();
    text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn checked() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let tests = test_files(&files);
    assert!(!tests.is_empty() && tests.iter().all(|path| files.contains(path)), "{tests:?}");
    files.retain(|path| !tests.contains(path));
    let module = |path: &Path| {
        let first = path.strip_prefix(&root).expect("below").components().next().expect("a name");
        first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
    };
    files.into_iter().map(|path| (module(&path), path.clone(), code(&path))).collect()
}

#[test]
fn imports_go_one_way() {
    for (module, path, code) in checked() {
        if module == "lib" {
            continue;
        }
        let (_, allowed) = LAYERS.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("{module} has no layer"));
        for import in code.split("crate::").skip(1) {
            let name: String = import.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            assert!(name == module || allowed.contains(&name.as_str()), "{}: {module} imports {name}", path.display());
        }
    }
}

#[test]
fn the_crate_is_pure() {
    for (_, path, code) in checked() {
        for word in IMPURE {
            assert!(!code.contains(word), "{} uses {word}", path.display());
        }
    }
}
