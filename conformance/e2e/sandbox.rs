//! The namespaces around everything, and the removal of what is left.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::Result;

/// The name of the folder that every hierarchy of cgroups has for the nodes.
pub(crate) const CGROUP: &str = "netpol-e2e";
/// Processes that were killed leave their cgroups within moments.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs this program again in namespaces of its own, and removes what they leave.
pub(crate) fn enter() -> Result<ExitCode> {
    let folder = PathBuf::from(std::env::var_os("E2E_FOLDER").ok_or("E2E_FOLDER is not set; run `make e2e`")?);
    clean(&folder);
    let me = std::env::current_exe()?;
    // It waits for the end of its input, which comes however this program ends. Ctrl-C is for the others.
    let mut cleaner = Command::new(&me).arg("clean").arg(&folder).stdin(Stdio::piped()).process_group(0).spawn()?;
    let temporary = folder.join("run/tmp");
    std::fs::create_dir_all(&temporary)?;
    let mut unshare = Command::new("setpriv");
    unshare.args(["--pdeathsig", "KILL", "unshare"]).env("TMPDIR", &temporary);
    unshare.args([
        "--net",
        "--mount",
        "--propagation=private",
        "--pid",
        "--ipc",
        "--uts",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    let status = unshare.arg(&me).arg("inside").status()?;
    drop(cleaner.stdin.take());
    cleaner.wait()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::from(2), ExitCode::from))
}

/// Waits until whoever started this has ended, and cleans.
pub(crate) fn clean_after(folder: &Path) -> Result<ExitCode> {
    std::io::stdin().read_to_end(&mut Vec::new())?;
    clean(folder);
    Ok(ExitCode::SUCCESS)
}

/// Removes cgroups, and what nodes had on the disk. Logs and reports stay.
fn clean(folder: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while hierarchies().iter().any(|hierarchy| hierarchy.join(CGROUP).exists()) && Instant::now() < deadline {
        hierarchies().iter().for_each(|hierarchy| remove_cgroup(&hierarchy.join(CGROUP)));
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = std::fs::remove_dir_all(folder.join("run"));
}

/// Removes a cgroup and those below it, as far as they are empty.
fn remove_cgroup(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(folder);
}

/// Where hierarchies of cgroups are mounted: several of version 1, or one of version 2.
pub(crate) fn hierarchies() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let of_cgroups = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let at = words.next()?;
        words.next().filter(|kind| *kind == "cgroup" || *kind == "cgroup2").map(|_| PathBuf::from(at))
    });
    of_cgroups.collect()
}
