//! The agent's binary, run on a node.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Namespace;

/// A binary of this workspace, built if need be; or that of the folder `NETPOL_BINARIES`, for a demo that is built alone, and to run a
/// test with another version.
///
/// # Panics
/// When it does not build.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("NETPOL_BINARIES") {
        return Path::new(&folder).join(name);
    }
    let me = std::env::current_exe().expect("a path");
    let target = me.ancestors().find(|folder| folder.ends_with("debug") || folder.ends_with("release")).expect("a target folder");
    let profile = if target.ends_with("release") { "release" } else { "dev" };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // What cargo tells a test about its package would be news to build scripts that look at it, and half of the tree be built anew.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_")) {
        build.env_remove(name);
    }
    let status = build
        .env_remove("CARGO_MANIFEST_DIR")
        .env_remove("CARGO_MANIFEST_PATH")
        // All of them at once: alone, a package has fewer features of its dependencies, and these would be built once more.
        .args(["build", "--quiet", "--locked", "--workspace", "--bins", "--all-features", "--profile", profile])
        .status()
        .expect("cargo runs");
    assert!(status.success(), "{name} does not build");
    target.join(name)
}

/// A running agent. It is killed when this goes.
pub struct AgentProcess {
    child: Child,
    binary: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

impl AgentProcess {
    /// Starts an agent for a node that enforces manifests, in the node's namespace, with its files in `folder`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(binary: &Path, node: &Namespace, manifests: &Path, folder: &Path, arguments: &[&str]) -> Self {
        let manifests = manifests.to_str().expect("a path in UTF-8");
        let arguments: Vec<&str> = ["--manifests", manifests].iter().chain(arguments).copied().collect();
        Self::start_with(binary, node, folder, &arguments)
    }

    /// Starts an agent for a node; `arguments` say where objects come from. It is killed when the namespace goes.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_with(binary: &Path, node: &Namespace, folder: &Path, arguments: &[&str]) -> Self {
        let name = node.name().to_owned();
        let (socket, log) = (folder.join(format!("{name}.sock")), folder.join(format!("{name}.log")));
        // As it is deployed: root without the rights of root, but for one.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--bounding-set=-all,+net_admin", "--inh-caps=-all", "--no-new-privs"]);
        command.arg(binary).args(["--node", &name]).arg("--socket").arg(&socket);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "off"]);
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log file");
        command.stderr(Stdio::from(file));
        let child = node.run(move || command.spawn().expect("the agent starts"));
        Self { child, binary: binary.to_owned(), socket, log }
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it through its socket.
    ///
    /// # Panics
    /// When the binary cannot be run.
    #[must_use]
    pub fn ask(&self, arguments: &[&str]) -> Output {
        Command::new(&self.binary).args(arguments).arg("--socket").arg(&self.socket).output().expect("the binary runs")
    }

    /// Waits until what it says of itself is as wanted.
    ///
    /// # Panics
    /// When it does not get there in ten seconds.
    pub fn wait(&self, wanted: impl Fn(&serde_json::Value) -> bool) {
        self.wait_for(Duration::from_secs(10), wanted);
    }

    /// The same, with more or less patience.
    ///
    /// # Panics
    /// When it does not get there in time.
    pub fn wait_for(&self, patience: Duration, wanted: impl Fn(&serde_json::Value) -> bool) {
        let deadline = Instant::now() + patience;
        loop {
            let answer = self.ask(&["status", "--output", "json"]);
            let status: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
            if wanted(&status) {
                return;
            }
            assert!(Instant::now() < deadline, "the agent does not get there: {status}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until its first ruleset is in force.
    pub fn wait_in_sync(&self) {
        self.wait(|status| status["is_in_sync"] == true);
    }

    /// Sends it a signal, and waits for its end.
    pub fn stop(&mut self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        let _ = kill(Pid::from_raw(id), signal);
        let _ = self.child.wait();
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        self.stop(Signal::SIGKILL);
    }
}
