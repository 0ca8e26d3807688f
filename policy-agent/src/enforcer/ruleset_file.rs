//! The last ruleset on disk, for an agent that finds the table gone.
//!
//! While it runs, an agent keeps what it has put in force in a file beside its socket. An agent that starts and finds no table puts
//! that in force before any source has answered ([`Enforcer::hold`](crate::enforcer::Enforcer::hold)). The file holds the
//! messages that make the table, as the kernel takes them, so that an agent of another version can use them.
//!
//! A thread of its own encodes and writes; the enforcement thread only hands over a transaction.
//!
//! Shape of the file: a line that identifies the format, a line of JSON, the messages. It is written beside and renamed, readable for its
//! owner only, and read only if no other user can have written it.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use policy_core::model::Quarantine;
use policy_ruleset::Transaction;
use policy_ruleset::netlink::Messages;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The first line of the file, with the version of its format.
const MAGIC: &str = "netpol ruleset 1\n";
/// The name of the file, beside the socket.
const NAME: &str = "last-ruleset";
/// A ruleset that is older than this is not restored.
const OLDEST: Duration = Duration::from_secs(24 * 3600);
/// More than any ruleset has.
const LARGEST: u64 = 1 << 30;
/// Changes with every start of the system.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A ruleset that was in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Saved {
    /// What was in the table.
    pub contents: Messages,
    /// The sandboxes of known pods at that time: those that the ruleset is right for.
    pub known: Vec<Quarantine>,
    /// How long ago it was written.
    pub age: Duration,
}

/// Why a saved ruleset is not used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Unusable {
    #[error("cannot read `{path}`: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("`{path}` is ignored: {why}")]
    Ignored { path: PathBuf, why: Why },
}

/// What is wrong with a saved ruleset.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Why {
    #[error("it is not a regular file that only its owner, the user of the agent, can write")]
    Writable,
    #[error("it is too large")]
    Large,
    #[error("this version does not support its format")]
    Format,
    #[error("it is damaged: its checksum does not match")]
    Torn,
    #[error("it was written for the node `{0}`")]
    Node(String),
    #[error("it was written before this node booted")]
    Boot,
    #[error("it was written {} hours ago", .0.as_secs() / 3600)]
    Old(Duration),
}

/// The header of the messages.
#[derive(Serialize, Deserialize)]
struct Header {
    node: String,
    /// Of the running system.
    boot: String,
    written_seconds: u64,
    known: Vec<Sandbox>,
    /// Of everything else in the header, and the messages.
    #[serde(default)]
    checksum: String,
}

#[derive(Serialize, Deserialize)]
struct Sandbox {
    holder: String,
    addresses: Vec<IpAddr>,
}

/// The place of the file, and for whom it is.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
    node: String,
    boot: String,
}

impl Store {
    /// The file beside this socket.
    #[must_use]
    pub fn beside(socket: &Path, node: &str) -> Self {
        // Without the file of the system, every agent is of the same boot.
        let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        Self { path: socket.parent().unwrap_or(Path::new("/")).join(NAME), node: node.to_owned(), boot }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what is there.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What is there; `None` when there is nothing.
    ///
    /// # Errors
    /// If it cannot be used, with the reason.
    pub fn read(&self, now: SystemTime) -> Result<Option<Saved>, Unusable> {
        let bytes = match self.bytes() {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(self.ignored(Why::Writable)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(self.ignored(Why::Large)),
            Err(source) => return Err(Unusable::Io { path: self.path.clone(), source }),
        };
        self.parse(&bytes, now).map(Some).map_err(|why| self.ignored(why))
    }

    fn ignored(&self, why: Why) -> Unusable {
        Unusable::Ignored { path: self.path.clone(), why }
    }

    /// `None` when others could have written it.
    fn bytes(&self) -> io::Result<Option<Vec<u8>>> {
        // A link is not followed, and a FIFO not waited for.
        let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
        let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(&self.path)?;
        let about = file.metadata()?;
        if !about.is_file() || about.mode() & 0o022 != 0 || about.uid() != nix::unistd::geteuid().as_raw() {
            return Ok(None);
        }
        if about.len() > LARGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn parse(&self, bytes: &[u8], now: SystemTime) -> Result<Saved, Why> {
        let rest = bytes.strip_prefix(MAGIC.as_bytes()).ok_or(Why::Format)?;
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or(Why::Torn)?;
        let (line, messages) = rest.split_at_checked(end).ok_or(Why::Torn)?;
        let messages = messages.get(1..).unwrap_or_default();
        let mut header: Header = serde_json::from_slice(line).map_err(|_| Why::Torn)?;
        let told = std::mem::take(&mut header.checksum);
        if told != checksum(&header, messages) {
            return Err(Why::Torn);
        }
        if header.node != self.node {
            return Err(Why::Node(header.node));
        }
        if header.boot != self.boot {
            return Err(Why::Boot);
        }
        // A clock that was set back makes it new.
        let age = now.duration_since(UNIX_EPOCH + Duration::from_secs(header.written_seconds)).unwrap_or_default();
        if age > OLDEST {
            return Err(Why::Old(age));
        }
        let contents = Messages::from_bytes(messages.to_vec()).map_err(|_| Why::Format)?;
        let known = header.known.into_iter().map(|s| Quarantine { holder: s.holder, addresses: s.addresses }).collect();
        Ok(Saved { contents, known, age })
    }

    /// Writes what is in force, all of it or nothing.
    ///
    /// # Errors
    /// When it cannot be written. What was there before still is.
    pub fn write(&self, contents: &Messages, known: &[Quarantine], now: SystemTime) -> io::Result<()> {
        let known = known.iter().map(|q| Sandbox { holder: q.holder.clone(), addresses: q.addresses.clone() }).collect();
        let written_seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (node, boot) = (self.node.clone(), self.boot.clone());
        let mut header = Header { node, boot, written_seconds, known, checksum: String::new() };
        header.checksum = checksum(&header, contents.as_bytes());
        let beside = self.path.with_extension("new");
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let result = (|| {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(MAGIC.as_bytes())?;
            file.write_all(&serde_json::to_vec(&header)?)?;
            file.write_all(b"\n")?;
            file.write_all(contents.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&beside, &self.path)
        })();
        if result.is_err() {
            // A full disk is no place to leave it.
            let _ = std::fs::remove_file(&beside);
        }
        result
    }
}

/// The header is without its checksum.
fn checksum(header: &Header, messages: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(header).unwrap_or_default());
    hash.update(messages);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is to be written.
struct Order {
    transaction: Transaction,
    known: Vec<Quarantine>,
}

/// Writes in a thread of its own.
pub struct Saver {
    store: Store,
    orders: SyncSender<Order>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Saver {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there is no thread left.
    pub fn start(store: Store) -> io::Result<Self> {
        let (orders, work) = sync_channel(1);
        let trouble = Arc::new(Mutex::new(None));
        let (thread, said) = (store.clone(), trouble.clone());
        std::thread::Builder::new().name("saver".to_owned()).spawn(move || write_all(&thread, &work, &said))?;
        Ok(Self { store, orders, trouble })
    }

    /// The file.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Why the last ruleset could not be written.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes what a transaction makes from nothing. False when an earlier one is still being written.
    pub(crate) fn save(&self, transaction: Transaction, known: Vec<Quarantine>) -> bool {
        // A thread that has ended does not come back, and is no reason to try for ever.
        !matches!(self.orders.try_send(Order { transaction, known }), Err(TrySendError::Full(_)))
    }
}

fn write_all(store: &Store, orders: &Receiver<Order>, trouble: &Mutex<Option<String>>) {
    for Order { transaction, known } in orders {
        let result = store.write(&Messages::new(&transaction), &known, SystemTime::now());
        let now = result.err().map(|error| format!("cannot save the ruleset in `{}`: {error}", store.path.display()));
        let mut last = trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = now.as_ref().filter(|_| *last != now) {
            tracing::warn!(error, "cannot save the ruleset; a lost table cannot be restored after a restart");
        }
        *last = now;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use policy_core::sets::Family;
    use policy_ruleset::{Element, Op, SetKind};

    use super::*;

    fn contents() -> Messages {
        let kind = SetKind::Addresses(Family::V4);
        let elements = vec![Element::Address("10.0.0.1".parse().unwrap())];
        let ops = vec![
            Op::AddTable,
            Op::AddSet { name: "s".to_owned(), kind },
            Op::AddElements { set: "s".to_owned(), kind, elements },
        ];
        Messages::new(&Transaction { ops })
    }

    fn known() -> Vec<Quarantine> {
        vec![Quarantine { holder: "sandbox c eth0".to_owned(), addresses: vec!["fd00::1".parse().unwrap()] }]
    }

    fn store(folder: &tempfile::TempDir) -> Store {
        Store::beside(&folder.path().join("agent.sock"), "n1")
    }

    /// Why what is there is ignored.
    fn why(store: &Store, now: SystemTime) -> Why {
        match store.read(now) {
            Err(Unusable::Ignored { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_read_by_its_node_in_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let now = SystemTime::now();
        assert_eq!(store.read(now).unwrap(), None);
        store.write(&contents(), &known(), now).unwrap();
        let later = now + Duration::from_secs(3600);
        let saved = store.read(later).unwrap().unwrap();
        assert_eq!((&saved.contents, &saved.known), (&contents(), &known()));
        assert!((3600..3602).contains(&saved.age.as_secs()));
        assert_eq!(store.path.metadata().unwrap().mode() & 0o777, 0o600);

        assert_eq!(why(&Store { node: "n2".to_owned(), ..store.clone() }, now), Why::Node("n1".to_owned()));
        assert_eq!(why(&Store { boot: "another".to_owned(), ..store.clone() }, now), Why::Boot);
        assert!(matches!(why(&store, now + OLDEST + Duration::from_secs(5)), Why::Old(_)));
        assert!(store.read(now - Duration::from_secs(3600)).unwrap().is_some(), "the clock was set back");
        // What is left of an agent that was killed while it wrote is in nobody's way.
        std::fs::write(store.path.with_extension("new"), "half").unwrap();
        store.write(&contents(), &[], later).unwrap();
        assert_eq!(store.read(later).unwrap().unwrap().known, []);
    }

    #[test]
    fn what_is_torn_or_altered_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let now = SystemTime::now();
        store.write(&contents(), &known(), now).unwrap();
        let whole = std::fs::read(&store.path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&store.path, &whole[..length]).unwrap();
            assert!([Why::Torn, Why::Format].contains(&why(&store, now)), "cut at {length}");
        }
        for place in MAGIC.len()..whole.len() {
            let mut altered = whole.clone();
            altered[place] ^= 1;
            std::fs::write(&store.path, &altered).unwrap();
            assert!([Why::Torn, Why::Format].contains(&why(&store, now)), "altered at {place}");
        }
        std::fs::write(
            &store.path,
            whole.strip_prefix(b"netpol ruleset 1").map(|rest| [b"netpol ruleset 2", rest].concat()).unwrap(),
        )
        .unwrap();
        assert_eq!(why(&store, now), Why::Format, "of a later version");
    }

    #[test]
    fn what_others_could_have_written_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let now = SystemTime::now();
        store.write(&contents(), &known(), now).unwrap();
        std::fs::set_permissions(&store.path, std::fs::Permissions::from_mode(0o620)).unwrap();
        assert_eq!(why(&store, now), Why::Writable);
        // Neither a link nor a FIFO nor a folder is waited for.
        let elsewhere = folder.path().join("elsewhere");
        std::fs::rename(&store.path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &store.path).unwrap();
        assert!(store.read(now).is_err());
        std::fs::remove_file(&store.path).unwrap();
        assert!(std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&store.path).status().unwrap().success());
        assert_eq!(why(&store, now), Why::Writable);
        std::fs::remove_file(&store.path).unwrap();
        std::fs::create_dir(&store.path).unwrap();
        assert_eq!(why(&store, now), Why::Writable);
    }

    #[test]
    fn only_what_makes_things_in_the_table_is_kept() {
        assert_eq!(Messages::from_bytes(contents().as_bytes().to_vec()), Ok(contents()));
        for ops in [vec![Op::AddTable], vec![Op::DeleteTable]] {
            assert!(Messages::new(&Transaction { ops }).as_bytes().is_empty());
        }
        let name = contents().as_bytes().windows(6).position(|bytes| bytes == b"netpol").unwrap();
        let mut other = contents().as_bytes().to_vec();
        other[name] = b'x';
        assert!(Messages::from_bytes(other).is_err(), "of another table");
        let mut other = contents().as_bytes().to_vec();
        other[4] = 2;
        assert!(Messages::from_bytes(other).is_err(), "it deletes");
    }
}
