//! Where kubectl and helm are, for tests that compare with them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folders of kubectl and of helm, to be put before `PATH`; `None`, with a line about it, where one is missing. They are those of the machine,
/// or what `conformance/tools/build` has built. In CI it builds what is missing.
pub(crate) fn folders() -> Option<Vec<PathBuf>> {
    [("kubectl", "kubernetes-1.37"), ("helm", "helm")].into_iter().map(|(name, module)| folder(name, module)).collect()
}

fn folder(name: &str, module: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).find(|folder| folder.join(name).is_file());
    installed.or_else(|| built(name, module))
}

fn built(name: &str, module: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home)?.join("netpol");
    let is_built = |path: &PathBuf| {
        let is_module = path.file_name().is_some_and(|folder| folder.to_string_lossy().starts_with(&format!("{module}-v")));
        is_module && path.join(name).is_file()
    };
    let mut folders = std::fs::read_dir(cache).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    if let Some(folder) = folders.find(is_built) {
        return Some(folder);
    }
    if std::env::var_os("CI").is_none_or(|value| value != "true") {
        eprintln!("skipped: {name} is not installed, and `conformance/tools/build {module}` has not built it");
        return None;
    }
    let output = Command::new(root.join("conformance/tools/build")).arg(module).stderr(Stdio::inherit()).output();
    let output = output.expect("conformance/tools/build runs");
    assert!(output.status.success(), "{module} does not build");
    Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}
