//! Putting the CNI plugin into the chain that the node's container runtime runs, and keeping it there.
//!
//! Runtimes use the first configuration of a folder by name. That file belongs to somebody else, who may write it again at any
//! time: so it is watched, and the plugin put back. A file is replaced in one step, and nothing but the plugin's entry changes.
//!
//! - `conflist`: the text of such a file, with the plugin and without.

pub mod conflist;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Value, json};

use self::conflist::{ConflistError, PLUGIN};

/// Lists of our own end in this. They come before the file that they are made from: `10-a-netpol.conflist`, `10-a.conf`.
const OWN: &str = "-netpol.conflist";
/// The folder is looked at this often, even when nothing was heard of it; a folder that was replaced is silent.
const LOOK_MILLIS: u16 = 5000;

/// Why the plugin is not in the chain.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The network plugin has not written its configuration yet.
    #[error("there is no CNI configuration in `{}` yet; the plugin is chained as soon as there is one", .0.display())]
    NoConfiguration(PathBuf),
    /// A configuration cannot be used.
    #[error("cannot chain the plugin in `{}`: {source}", .path.display())]
    Conflist {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ConflistError,
    },
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
        let failed = || io_error("list the folder", &self.configurations);
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
        let text = std::fs::read_to_string(path).map_err(io_error("read", path))?;
        let wrong = |source| InstallError::Conflist { path: path.to_owned(), source };
        let (place, wanted) = if conflist::is_single(&text) {
            let wanted = conflist::from_single(&text, &self.entry()).map_err(wrong)?;
            (list, Some(wanted).filter(|wanted| !std::fs::read_to_string(list).is_ok_and(|there| there == *wanted)))
        } else {
            (path, conflist::with_plugin(&text, &self.entry()).map_err(wrong)?)
        };
        let Some(wanted) = wanted else { return Ok(Outcome::Unchanged) };
        replace(place, wanted.as_bytes(), mode_of(path)?)?;
        Ok(Outcome::Written(place.to_owned()))
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
            let text = std::fs::read_to_string(&path).map_err(io_error("read", &path))?;
            // What cannot be read does not have it.
            if let Ok(Some(without)) = conflist::without_plugin(&text) {
                replace(&path, without.as_bytes(), mode_of(&path)?)?;
                changed.push(path);
            }
        }
        Ok(changed)
    }

    /// Installs, and again whenever the folder changes, until `tell` returns false. It is told what happened: every change, and
    /// every trouble.
    pub fn keep(&self, mut tell: impl FnMut(&Result<Outcome, InstallError>) -> bool) {
        let mut pace = Pace { last: Instant::now(), writes: 0 };
        loop {
            // The watch comes first: what changes after the look is heard.
            let watch = Watch::new(&self.configurations).ok();
            loop {
                let result = self.install();
                if !tell(&result) {
                    return;
                }
                if matches!(result, Ok(Outcome::Written(_))) {
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

    /// Waits for a change, and says whether there was one; false after a while without.
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
    std::fs::read_to_string(path).is_ok_and(|text| conflist::is_single(&text))
}

fn mode_of(path: &Path) -> Result<u32, InstallError> {
    Ok(std::fs::metadata(path).map_err(io_error("read", path))?.permissions().mode())
}

/// Replaces a file in one step. Where it is a link, what it leads to is replaced.
fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), InstallError> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Runtimes pass over such a name.
    let beside = folder.join(format!(".{name}.netpol-new"));
    let write = || -> io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&beside);
        io_error("write", &path)(error)
    })
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
    std::fs::create_dir_all(folder).map_err(io_error("make the folder", folder))?;
    replace(&place, &content, 0o755)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const LIST: &str = "{\"name\": \"n\", \"plugins\": [{\"type\": \"ptp\"}]}\n";
    const SINGLE: &str = "{\"cniVersion\": \"0.4.0\", \"name\": \"n\", \"type\": \"bridge\"}\n";

    fn chain(files: &[(&str, &str)]) -> (tempfile::TempDir, Chain) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let chain = Chain { configurations: folder.path().to_owned(), socket: "/run/netpol/agent.sock".into() };
        (folder, chain)
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_first_configuration_is_chained_once_and_unchained_without_a_trace() {
        let files = [("10-first.conflist", LIST), ("20-second.conflist", LIST), ("00-notes.txt", "no configuration")];
        let (folder, chain) = chain(&files);
        let first = folder.path().join("10-first.conflist");
        std::fs::set_permissions(&first, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(chain.install().unwrap(), Outcome::Written(first.clone()));
        assert_eq!(chain.install().unwrap(), Outcome::Unchanged);
        assert!(conflist::has_plugin(&std::fs::read_to_string(&first).unwrap()));
        assert_eq!(mode_of(&first).unwrap() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(folder.path().join("20-second.conflist")).unwrap(), LIST);
        assert_eq!(chain.uninstall().unwrap(), [first]);
        for (name, text) in files {
            assert_eq!(std::fs::read_to_string(folder.path().join(name)).unwrap(), text);
        }
        assert_eq!(names(&folder).len(), 3);
        assert!(chain.uninstall().unwrap().is_empty());
    }

    #[test]
    fn a_single_configuration_stays_and_a_list_comes_before_it() {
        let (folder, chain) = chain(&[("10-bridge.conf", SINGLE)]);
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let list = folder.path().join("10-bridge-netpol.conflist");
        assert_eq!(chain.install().unwrap(), Outcome::Written(list.clone()));
        assert_eq!(chain.files().unwrap().first(), Some(&list));
        assert_eq!(read("10-bridge.conf"), SINGLE);
        assert_eq!(chain.install().unwrap(), Outcome::Unchanged);
        // Its owner writes it again, in another way.
        std::fs::write(folder.path().join("10-bridge.conf"), SINGLE.replace("bridge", "ptp")).unwrap();
        assert_eq!(chain.install().unwrap(), Outcome::Written(list.clone()));
        assert!(read("10-bridge-netpol.conflist").contains("ptp"));
        // It becomes a list, or another file comes before it: ours has no more to say.
        std::fs::write(folder.path().join("05-x.conflist"), LIST).unwrap();
        assert_eq!(chain.install().unwrap(), Outcome::Written(folder.path().join("05-x.conflist")));
        assert_eq!(names(&folder), ["05-x.conflist", "10-bridge.conf"]);
        std::fs::remove_file(folder.path().join("05-x.conflist")).unwrap();
        chain.install().unwrap();
        assert_eq!(names(&folder), ["10-bridge-netpol.conflist", "10-bridge.conf"]);
        assert_eq!(chain.uninstall().unwrap(), [list]);
        assert_eq!(names(&folder), ["10-bridge.conf"]);
        // Without its owner's file, ours would give pods a network that is not there.
        chain.install().unwrap();
        std::fs::remove_file(folder.path().join("10-bridge.conf")).unwrap();
        assert!(matches!(chain.install(), Err(InstallError::NoConfiguration(_))));
        assert!(names(&folder).is_empty());
    }

    #[test]
    fn a_link_stays_a_link() {
        let (folder, chain) = chain(&[("real", LIST)]);
        let link = folder.path().join("10-x.conflist");
        std::os::unix::fs::symlink(folder.path().join("real"), &link).unwrap();
        chain.install().unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(conflist::has_plugin(&std::fs::read_to_string(folder.path().join("real")).unwrap()));
    }

    #[test]
    fn what_cannot_be_done_changes_nothing_and_says_why() {
        let (folder, mut chain) = chain(&[]);
        assert!(matches!(chain.install(), Err(InstallError::NoConfiguration(_))));
        std::fs::write(folder.path().join("10-x.conflist"), "{\"plugins\": [").unwrap();
        let error = chain.install().unwrap_err().to_string();
        assert!(error.contains("10-x.conflist") && error.contains("EOF"), "{error}");
        assert_eq!(std::fs::read_to_string(folder.path().join("10-x.conflist")).unwrap(), "{\"plugins\": [");
        chain.configurations = folder.path().join("missing");
        assert!(chain.install().unwrap_err().to_string().contains("missing"));
    }

    #[test]
    fn it_is_put_back_whenever_somebody_writes_the_file_again() {
        let (folder, chain) = chain(&[]);
        let path = folder.path().join("10-x.conflist");
        let (tell, told) = channel();
        std::thread::spawn(move || chain.keep(|result| tell.send(result.as_ref().ok().cloned()).is_ok()));
        let wait = |wanted: Option<Outcome>| {
            while told.recv_timeout(Duration::from_secs(60)).expect("it goes on") != wanted {}
        };
        wait(None);
        for _ in 0..3 {
            // In place, as some plugins do, and in one step, as others do.
            std::fs::write(&path, LIST).unwrap();
            wait(Some(Outcome::Written(path.canonicalize().unwrap())));
            std::fs::write(folder.path().join("new"), LIST).unwrap();
            std::fs::rename(folder.path().join("new"), &path).unwrap();
            wait(Some(Outcome::Written(path.clone())));
            assert!(conflist::has_plugin(&std::fs::read_to_string(&path).unwrap()));
        }
        std::fs::remove_file(&path).unwrap();
        wait(None);
    }

    #[test]
    fn whoever_disagrees_is_answered_more_and_more_slowly() {
        let start = Instant::now();
        let mut pace = Pace { last: start, writes: 0 };
        let hour = start + Duration::from_secs(3600);
        let waits: Vec<u128> = (0..200).map(|n| pace.after_write(hour + Duration::from_secs(n)).as_millis()).collect();
        assert_eq!((waits[0], waits[1], waits[2], waits[199]), (0, 50, 100, 5000));
        assert_eq!(pace.after_write(hour + Duration::from_secs(400)).as_millis(), 0);
    }

    #[test]
    fn the_program_is_copied_once() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        std::fs::write(&program, "1").unwrap();
        let bin = folder.path().join("opt/cni/bin");
        assert!(copy_plugin(&program, &bin).unwrap());
        assert!(!copy_plugin(&program, &bin).unwrap());
        std::fs::write(&program, "2").unwrap();
        assert!(copy_plugin(&program, &bin).unwrap());
        assert_eq!(std::fs::read_to_string(bin.join(PLUGIN)).unwrap(), "2");
        assert_eq!(mode_of(&bin.join(PLUGIN)).unwrap() & 0o777, 0o755);
    }
}
