//! Putting the CNI plugin into the chain that the node's container runtime runs, and keeping it there.
//!
//! Runtimes use the first configuration of a folder by name. That file belongs to another program, which may write it again at any
//! time: so it is watched, and the plugin put back. A file is replaced in one step, and nothing but the plugin's entry changes.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Value, json};

use super::conflist::{self, ConflistError, PLUGIN};
use super::replace::{self, Replaced, Seen, write_new};

/// Lists of our own end in this. They come before the file that they are made from: `10-a-netpol.conflist`, `10-a.conf`.
const OWN: &str = "-netpol.conflist";
/// The folder is scanned this often even without notifications; a folder that was replaced sends none.
const LOOK_MILLIS: u16 = 5000;
/// A file that its owner writes at every one of so many attempts is left alone until the folder changes again.
const ATTEMPTS: u32 = 10;

/// Why the plugin is not in the chain.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The network plugin has not written its configuration yet.
    #[error("there is no CNI configuration in `{}` yet; the plugin is added when there is one", .0.display())]
    NoConfiguration(PathBuf),
    /// A configuration cannot be used.
    #[error("cannot add the plugin to `{}`: {source}", .path.display())]
    Conflist {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ConflistError,
    },
    /// Its owner writes a file all the time.
    #[error("`{}` changes all the time; it is edited when it no longer changes", .0.display())]
    Busy(PathBuf),
    /// A file cannot be read or written.
    #[error("cannot {what} `{}`: {source}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::Io { what, path, source }
}

/// A chain and our place in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    /// The folder of CNI configurations, `/etc/cni/net.d` on most nodes.
    pub configurations: PathBuf,
    /// The agent's socket, as the plugin will see it.
    pub socket: PathBuf,
}

/// What installing did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nothing: it is as it should be.
    Unchanged,
    /// This file was written.
    Written(PathBuf),
}

impl Chain {
    fn entry(&self) -> Value {
        json!({"type": PLUGIN, "socket": self.socket})
    }

    /// Configurations, in the order in which runtimes look at them.
    fn files(&self) -> Result<Vec<PathBuf>, InstallError> {
        let failed = || io_error("list the directory", &self.configurations);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.configurations).map_err(failed())? {
            files.push(entry.map_err(failed())?.path());
        }
        let endings = ["conf", "conflist", "json"].map(OsStr::new);
        files.retain(|path| path.extension().is_some_and(|ending| endings.contains(&ending)) && path.is_file());
        files.sort();
        Ok(files)
    }

    /// Puts the plugin into the chain that the runtime uses, unless it is there.
    ///
    /// A configuration of a single plugin has no chain. It stays as it is, and a list with the same plugin and ours comes before it.
    ///
    /// # Errors
    /// When there is no configuration, or it cannot be understood or written. Then nothing has changed.
    pub fn install(&self) -> Result<Outcome, InstallError> {
        replace::clean(&self.configurations);
        let (own, theirs): (Vec<PathBuf>, Vec<PathBuf>) = self.files()?.into_iter().partition(|path| is_own(path));
        let first = theirs.first();
        let list = first.and_then(|path| Some(path.with_file_name(format!("{}{OWN}", path.file_stem()?.to_string_lossy()))));
        let result = match first {
            Some(path) => self.install_beside(path, list.as_deref().unwrap_or(path))?,
            None => Outcome::Unchanged,
        };
        // What a list of ours was made from is gone, or has a chain by now.
        let is_used = |path: &PathBuf| Some(path) == list.as_ref() && first.is_some_and(|first| is_single(first));
        for stale in own.iter().filter(|path| !is_used(path)) {
            std::fs::remove_file(stale).map_err(io_error("remove", stale))?;
        }
        first.map(|_| result).ok_or_else(|| InstallError::NoConfiguration(self.configurations.clone()))
    }

    fn install_beside(&self, path: &Path, list: &Path) -> Result<Outcome, InstallError> {
        let wrong = |source| InstallError::Conflist { path: path.to_owned(), source };
        let seen = read(path)?;
        if !conflist::is_single(seen.text()) {
            let with_plugin = |text: &str| conflist::with_plugin(text, &self.entry()).map_err(wrong);
            let is_written = edit(path, seen, with_plugin, &mut || {})?;
            return Ok(if is_written { Outcome::Written(path.to_owned()) } else { Outcome::Unchanged });
        }
        // The list is ours alone. When what it is made from changes meanwhile, the folder has changed, and it is made again.
        let wanted = conflist::from_single(seen.text(), &self.entry()).map_err(wrong)?;
        if read(list).is_ok_and(|there| there.text() == wanted) {
            return Ok(Outcome::Unchanged);
        }
        write_new(list, wanted.as_bytes(), seen.mode()).map_err(io_error("write", list))?;
        Ok(Outcome::Written(list.to_owned()))
    }

    /// Takes the plugin out of every chain, and returns which files were written or removed.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn uninstall(&self) -> Result<Vec<PathBuf>, InstallError> {
        let mut changed = Vec::new();
        for path in self.files()? {
            if is_own(&path) {
                std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
                changed.push(path);
                continue;
            }
            // What cannot be understood does not have it.
            let without = |text: &str| Ok(conflist::without_plugin(text).unwrap_or(None));
            if edit(&path, read(&path)?, without, &mut || {})? {
                changed.push(path);
            }
        }
        Ok(changed)
    }
}

/// A chain in which the plugin is kept, until it leaves the chain for good.
#[derive(Clone, Debug)]
pub struct Kept {
    chain: Chain,
    /// Held while the chain is edited, so that the plugin is not put back by an edit that has begun before it left.
    has_left: Arc<Mutex<bool>>,
}

impl Kept {
    /// Keeps the plugin in a chain.
    #[must_use]
    pub fn new(chain: Chain) -> Self {
        Self { chain, has_left: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.has_left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the plugin has left the chain.
    #[must_use]
    pub fn has_left(&self) -> bool {
        *self.lock()
    }

    /// Takes the plugin out of every chain, and does not put it back. Returns which files were written or removed.
    ///
    /// # Errors
    /// When a file cannot be read or written. Then the plugin is still kept in the chain.
    pub fn leave(&self) -> Result<Vec<PathBuf>, InstallError> {
        let mut has_left = self.lock();
        let changed = self.chain.uninstall()?;
        *has_left = true;
        Ok(changed)
    }

    /// Installs, unless the plugin has left the chain.
    fn install(&self) -> Option<Result<Outcome, InstallError>> {
        let has_left = self.lock();
        (!*has_left).then(|| self.chain.install())
    }

    /// Installs, and again whenever the folder changes, until `tell` returns false or the plugin leaves the chain. `tell` gets every
    /// change and every trouble.
    pub fn keep(&self, mut tell: impl FnMut(Result<Outcome, InstallError>) -> bool) {
        let mut pace = Pace { last: Instant::now(), writes: 0 };
        loop {
            // The watch comes first: what changes after the look is heard.
            let watch = Watch::new(&self.chain.configurations).ok();
            loop {
                let Some(result) = self.install() else { return };
                let is_written = matches!(result, Ok(Outcome::Written(_)));
                if !tell(result) {
                    return;
                }
                if is_written {
                    std::thread::sleep(pace.after_write(Instant::now()));
                }
                match &watch {
                    Some(watch) if watch.wait() => {}
                    Some(_) => break,
                    None => {
                        std::thread::sleep(Duration::from_millis(LOOK_MILLIS.into()));
                        break;
                    }
                }
            }
        }
    }
}

/// Keeps two who disagree about a file from writing it as fast as they can.
struct Pace {
    last: Instant,
    writes: u32,
}

impl Pace {
    /// How long to wait after a write: not at all after the first of a while, and longer with each that follows.
    fn after_write(&mut self, now: Instant) -> Duration {
        let is_again = now.saturating_duration_since(self.last) < Duration::from_secs(30);
        self.writes = if is_again { self.writes.saturating_add(1) } else { 0 };
        self.last = now;
        Duration::from_millis(50).saturating_mul(self.writes).min(Duration::from_secs(5))
    }
}

/// Hears of changes in a folder.
struct Watch(Inotify);

impl Watch {
    fn new(folder: &Path) -> nix::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let what = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CREATE;
        inotify.add_watch(folder, what)?;
        Ok(Self(inotify))
    }

    /// Waits for a change; false if there was none within the time-out.
    fn wait(&self) -> bool {
        use std::os::fd::AsFd;
        let mut sources = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let is_ready = poll(&mut sources, PollTimeout::from(LOOK_MILLIS)).is_ok_and(|count| count > 0);
        is_ready && self.0.read_events().is_ok()
    }
}

fn is_own(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(OWN))
}

fn is_single(path: &Path) -> bool {
    read(path).is_ok_and(|seen| conflist::is_single(seen.text()))
}

fn read(path: &Path) -> Result<Seen, InstallError> {
    Seen::read(path).map_err(io_error("read", path))
}

/// Replaces the text of a file of another program, and never a text that was not read: when its owner writes the file
/// meanwhile, the edit is made again, of the new text. Returns whether there was anything to edit.
///
/// `meanwhile` runs between reading and replacing; tests write the file there.
fn edit(
    path: &Path,
    mut seen: Seen,
    change: impl Fn(&str) -> Result<Option<String>, InstallError>,
    meanwhile: &mut dyn FnMut(),
) -> Result<bool, InstallError> {
    for _ in 0..ATTEMPTS {
        let Some(wanted) = change(seen.text())? else { return Ok(false) };
        match replace::replace(&seen, wanted.as_bytes(), meanwhile).map_err(io_error("write", path))? {
            Replaced::Done => return Ok(true),
            Replaced::Changed => seen = read(path)?,
        }
    }
    Err(InstallError::Busy(path.to_owned()))
}

/// Copies the plugin's program to where the runtime looks for plugins, unless it is there already; whether it was copied.
///
/// # Errors
/// When it cannot be read or written.
pub fn copy_plugin(program: &Path, folder: &Path) -> Result<bool, InstallError> {
    let content = std::fs::read(program).map_err(io_error("read", program))?;
    let place = folder.join(PLUGIN);
    if std::fs::read(&place).is_ok_and(|there| there == content) {
        return Ok(false);
    }
    std::fs::create_dir_all(folder).map_err(io_error("make the directory", folder))?;
    write_new(&place, &content, 0o755).map_err(io_error("write", &place))?;
    Ok(true)
}

#[cfg(test)]
mod tests;
