//! What is built for the cluster, and how programs are run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use conformance::lab::tool;

use crate::Result;

/// The version of Kubernetes, as in the name of the module that builds it.
pub(crate) const VERSION: &str = "1.37";

/// Folders of programs.
pub(crate) struct Programs {
    /// Kubernetes, etcd, and the suite.
    pub cluster: PathBuf,
    pub coredns: PathBuf,
    pub helm: PathBuf,
    pub cyclonus: PathBuf,
}

impl Programs {
    /// Builds what is not there yet, for which it may have to be downloaded.
    pub(crate) fn built() -> Self {
        Self {
            cluster: tool(&format!("e2e-{VERSION}")),
            coredns: tool("coredns"),
            helm: tool("helm"),
            cyclonus: tool("cyclonus"),
        }
    }
}

/// Runs a program, and returns what it prints.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run {name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    Err(format!("{name} {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// Repeats a check until it succeeds.
pub(crate) fn wait_for(what: &str, patience: Duration, logs: &Path, mut is_done: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !is_done() {
        if Instant::now() > deadline {
            return Err(format!("{what}: not within {} s; the logs are in {}", patience.as_secs(), logs.display()).into());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
