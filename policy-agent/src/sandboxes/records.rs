//! The files that keep sandboxes, so that an agent that starts knows the sandboxes of the one before.
//!
//! One file for each attachment, replaced in one step. The plugin removes a file when a sandbox is gone and no agent answers.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use netpol_cni::protocol::{Attachment, Sandbox};
use tempfile::Builder;

use crate::small_file;

/// A record has a few hundred bytes.
const LARGEST: u64 = 64 << 10;
/// Files that are being written end in this.
const UNFINISHED: &str = ".new";

/// A folder of records.
pub(super) struct Records(PathBuf);

impl Records {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// All records. What is no record is left out and logged; what a write left behind is removed.
    pub(super) fn read(&self) -> io::Result<Vec<Sandbox>> {
        std::fs::create_dir_all(&self.0)?;
        let mut sandboxes = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(UNFINISHED) {
                // What cannot be removed does no harm.
                let _ = std::fs::remove_file(&path);
            } else if name.ends_with(".json") {
                match read_record(&path) {
                    Ok(sandbox) if sandbox.attachment.record_name() == name => sandboxes.push(sandbox),
                    Ok(_) => {
                        tracing::error!(path = %path.display(), "ignoring the record of a sandbox: its name belongs to another sandbox")
                    }
                    Err(error) => {
                        tracing::error!(path = %path.display(), %error, "ignoring the record of a sandbox: it cannot be read")
                    }
                }
            }
        }
        Ok(sandboxes)
    }

    /// Keeps a sandbox.
    pub(super) fn write(&self, sandbox: &Sandbox) -> io::Result<()> {
        std::fs::create_dir_all(&self.0)?;
        // It is removed when it goes, unless it has become the record.
        let mut file = Builder::new().prefix(".").suffix(UNFINISHED).tempfile_in(&self.0)?;
        file.write_all(&serde_json::to_vec(sandbox)?)?;
        file.persist(self.0.join(sandbox.attachment.record_name()))?;
        Ok(())
    }

    /// Removes the record of a sandbox, if there is one.
    pub(super) fn remove(&self, attachment: &Attachment) {
        let path = self.0.join(attachment.record_name());
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(path = %path.display(), %error, "cannot remove the record of a deleted sandbox");
            }
            _ => {}
        }
    }
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error(transparent)]
    Decode(#[from] serde_json::Error),
}

fn read_record(path: &Path) -> Result<Sandbox, RecordError> {
    let bytes = small_file::read(path, LARGEST)?;
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn sandbox(container: &str) -> Sandbox {
        let attachment = Attachment::new(container, "eth0").unwrap();
        Sandbox { attachment, pod: None, addresses: vec!["10.0.0.1".parse().unwrap()].try_into().unwrap(), host_interface: None }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_no_record_is_left_out_and_holds_up_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let records = Records::new(folder.path().to_owned());
        records.write(&sandbox("good")).unwrap();
        let text = std::fs::read_to_string(path("good:eth0.json")).unwrap();
        mkfifo(&path("fifo:eth0.json"), Mode::S_IRWXU).unwrap();
        std::fs::create_dir(path("folder:eth0.json")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("zero:eth0.json")).unwrap();
        std::os::unix::fs::symlink("nowhere", path("nowhere:eth0.json")).unwrap();
        std::fs::write(path("torn:eth0.json"), text.split_at(20).0).unwrap();
        std::fs::write(path("empty:eth0.json"), "").unwrap();
        std::fs::write(path("other:eth0.json"), &text).unwrap();
        std::fs::write(path("huge:eth0.json"), format!("{text}{}", " ".repeat(1 << 20))).unwrap();
        std::fs::write(path("escape:eth0.json"), text.replace("good", "../../escape")).unwrap();
        std::fs::write(path("nobody:eth0.json"), text.replace("good", "nobody").replace("\"10.0.0.1\"", "")).unwrap();
        std::fs::write(path(".abc.new"), "{").unwrap();
        std::fs::write(path("c1:eth0.new"), "{").unwrap();
        let (tell, told) = channel();
        std::thread::spawn(move || drop(tell.send(records.read().unwrap())));
        let read = told.recv_timeout(Duration::from_secs(60)).expect("nothing holds it up");
        assert_eq!(read, [sandbox("good")]);
        assert!(!names(folder.path()).iter().any(|name| name.ends_with(".new")), "{:?}", names(folder.path()));
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path().to_owned());
        // A folder stands in the way of the last step.
        std::fs::create_dir_all(folder.path().join("c1:eth0.json/in")).unwrap();
        assert!(records.write(&sandbox("c1")).is_err());
        assert_eq!(names(folder.path()), ["c1:eth0.json"]);
    }
}
