//! Pods of this node between the moment they have addresses and the moment the API says so.
//!
//! The CNI plugin tells of sandboxes. A sandbox of a pod that is known lends the pod its addresses, so that the pod's rules are in
//! force before its status is posted. A sandbox of a pod that is not known is in quarantine (S3.11). What was told is kept in files,
//! so that an agent that was killed still knows it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use netpol_cni::protocol::{Attachment, PodName, Sandbox};
use policy_core::model::{Addresses, Change, ObjectKey, Phase, Placement, Pod, Quarantine};

/// Sandboxes, and the pods of this node that are known.
pub struct Sandboxes {
    node: String,
    folder: Option<PathBuf>,
    sandboxes: BTreeMap<Attachment, Sandbox>,
    /// Pods of this node as the source has them.
    pods: BTreeMap<ObjectKey, Pod>,
}

fn holder(attachment: &Attachment) -> String {
    format!("sandbox {} {}", attachment.container, attachment.interface)
}

fn key_of(name: &PodName) -> ObjectKey {
    ObjectKey::new(name.namespace.as_str(), name.name.as_str())
}

impl Sandboxes {
    /// Knows nothing yet. Without a folder, nothing is kept.
    #[must_use]
    pub fn new(node: String, folder: Option<PathBuf>) -> Self {
        Self { node, folder, sandboxes: BTreeMap::new(), pods: BTreeMap::new() }
    }

    /// Reads what an earlier agent kept, and returns what follows from it.
    ///
    /// # Errors
    /// When the folder cannot be read. A single record that cannot is left out, and told in the log: the agent that wrote it was
    /// killed before it answered.
    pub fn load(&mut self) -> io::Result<Vec<Change>> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        std::fs::create_dir_all(folder)?;
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match std::fs::read(&path)
                .map_err(|e| e.to_string())
                .and_then(|b| serde_json::from_slice::<Sandbox>(&b).map_err(|e| e.to_string()))
            {
                Ok(sandbox) => drop(self.sandboxes.insert(sandbox.attachment.clone(), sandbox)),
                Err(error) => {
                    tracing::error!(path = %path.display(), error, "a record of a sandbox cannot be read, and is left out")
                }
            }
        }
        let all: Vec<Attachment> = self.sandboxes.keys().cloned().collect();
        Ok(all.iter().map(|attachment| self.quarantine(attachment)).collect())
    }

    /// Takes changes of the source, and returns what the compiler should be told instead.
    pub fn take(&mut self, changes: Vec<Change>) -> Vec<Change> {
        let mut out = Vec::with_capacity(changes.len());
        for change in changes {
            match change {
                Change::Pod(pod) => self.take_pod(pod, &mut out),
                Change::PodRemoved(key) => {
                    let was_known = self.pods.remove(&key).is_some();
                    out.push(Change::PodRemoved(key.clone()));
                    if was_known {
                        self.judge(&key, &mut out);
                    }
                }
                other => out.push(other),
            }
        }
        out
    }

    fn take_pod(&mut self, pod: Pod, out: &mut Vec<Change>) {
        let key = pod.key.clone();
        let is_here = matches!(&pod.placement, Placement::Node(node) if *node == self.node);
        if !is_here {
            let was_known = self.pods.remove(&key).is_some();
            out.push(Change::Pod(pod));
            if was_known {
                self.judge(&key, out);
            }
            return;
        }
        self.pods.insert(key.clone(), pod);
        self.judge(&key, out);
    }

    /// What the compiler should know of a pod of this node and of its sandboxes.
    fn judge(&self, key: &ObjectKey, out: &mut Vec<Change>) {
        out.extend(self.pods.get(key).map(|known| Change::Pod(self.with_sandboxes(known))));
        let own = self.sandboxes.values().filter(|sandbox| sandbox.pod.as_ref().is_some_and(|name| key_of(name) == *key));
        out.extend(own.map(|sandbox| self.quarantine(&sandbox.attachment)));
    }

    /// The pod, with the addresses of its sandboxes.
    fn with_sandboxes(&self, known: &Pod) -> Pod {
        let mut pod = known.clone();
        if pod.phase == Phase::Finished || pod.is_host_network {
            return pod;
        }
        if let Addresses::Known(addresses) = &mut pod.addresses {
            for sandbox in
                self.sandboxes.values().filter(|sandbox| self.owner(sandbox).is_some_and(|owner| owner.key == known.key))
            {
                let lent: Vec<_> = sandbox.addresses.iter().filter(|a| !addresses.contains(a)).copied().collect();
                addresses.extend(lent);
            }
        }
        pod
    }

    /// The pod of a sandbox, when it is known. Successive pods of one name are told apart by their UIDs.
    fn owner(&self, sandbox: &Sandbox) -> Option<&Pod> {
        let name = sandbox.pod.as_ref()?;
        let known = self.pods.get(&key_of(name))?;
        let is_same = match (&name.uid, &known.uid) {
            (Some(told), Some(known)) => told == known,
            _ => true,
        };
        is_same.then_some(known)
    }

    /// A sandbox is closed while its pod is not known.
    fn quarantine(&self, attachment: &Attachment) -> Change {
        match self.sandboxes.get(attachment) {
            Some(sandbox) if self.owner(sandbox).is_none() => {
                Change::Quarantine(Quarantine { holder: holder(attachment), addresses: sandbox.addresses.clone() })
            }
            _ => Change::QuarantineRemoved(holder(attachment)),
        }
    }

    /// A sandbox is there. Whoever had one of its addresses before has it no more.
    ///
    /// # Errors
    /// When the record cannot be written; then nothing has changed.
    pub fn add(&mut self, sandbox: Sandbox) -> io::Result<Vec<Change>> {
        self.write(&sandbox)?;
        let is_before = |other: &&Sandbox| {
            other.attachment != sandbox.attachment && other.addresses.iter().any(|a| sandbox.addresses.contains(a))
        };
        let before: Vec<Attachment> = self.sandboxes.values().filter(is_before).map(|other| other.attachment.clone()).collect();
        let attachment = sandbox.attachment.clone();
        let replaced = self.sandboxes.insert(attachment.clone(), sandbox);
        let mut out = Vec::new();
        // First what closes, then what opens: they are one change, but the order costs nothing.
        self.refresh(&attachment, replaced.as_ref().and_then(|s| s.pod.as_ref()).map(key_of), &mut out);
        for other in before {
            out.extend(self.remove(&other));
        }
        Ok(out)
    }

    /// A sandbox is gone.
    pub fn remove(&mut self, attachment: &Attachment) -> Vec<Change> {
        if let Some(folder) = &self.folder {
            // It may be gone already.
            let _ = std::fs::remove_file(folder.join(file_name(attachment)));
        }
        let mut out = Vec::new();
        if let Some(sandbox) = self.sandboxes.remove(attachment) {
            self.refresh(attachment, sandbox.pod.as_ref().map(key_of), &mut out);
        }
        out
    }

    fn refresh(&self, attachment: &Attachment, before: Option<ObjectKey>, out: &mut Vec<Change>) {
        let now = self.sandboxes.get(attachment).and_then(|sandbox| sandbox.pod.as_ref()).map(key_of);
        out.push(self.quarantine(attachment));
        let keys: std::collections::BTreeSet<ObjectKey> = before.into_iter().chain(now).collect();
        for key in keys {
            self.judge(&key, out);
        }
    }

    /// Only these are there.
    pub fn keep(&mut self, listed: &[Attachment]) -> Vec<Change> {
        let gone: Vec<Attachment> = self.sandboxes.keys().filter(|a| !listed.contains(a)).cloned().collect();
        gone.iter().flat_map(|attachment| self.remove(attachment)).collect()
    }

    /// Whether a sandbox is known.
    #[must_use]
    pub fn contains(&self, attachment: &Attachment) -> bool {
        self.sandboxes.contains_key(attachment)
    }

    /// How many there are, and how many of them are in quarantine.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.sandboxes.len(), self.sandboxes.values().filter(|sandbox| self.owner(sandbox).is_none()).count())
    }

    fn write(&self, sandbox: &Sandbox) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        std::fs::create_dir_all(folder)?;
        let path = folder.join(file_name(&sandbox.attachment));
        let beside = path.with_extension("new");
        std::fs::write(&beside, serde_json::to_vec(sandbox)?)?;
        std::fs::rename(beside, path)
    }
}

fn file_name(attachment: &Attachment) -> String {
    format!("{}:{}.json", attachment.container, attachment.interface)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn pod(name: &str, uid: &str, addresses: &[&str]) -> Change {
        Change::Pod(Pod {
            uid: Some(uid.to_owned()),
            key: ObjectKey::new("x", name),
            labels: policy_core::model::Labels::new(),
            placement: Placement::Node("n1".to_owned()),
            phase: Phase::Live,
            is_host_network: false,
            addresses: Addresses::Known(ips(addresses)),
            ports: Vec::new(),
            owner: None,
        })
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn sandbox(container: &str, pod: &str, uid: Option<&str>, addresses: &[&str]) -> Sandbox {
        let attachment = Attachment { container: container.to_owned(), interface: "eth0".to_owned() };
        let pod = PodName { namespace: "x".to_owned(), name: pod.to_owned(), uid: uid.map(str::to_owned) };
        Sandbox { attachment, pod: Some(pod), addresses: ips(addresses) }
    }

    /// What is in quarantine, and which addresses the pod has, after these changes.
    fn state(changes: &[Change]) -> (Vec<String>, Option<Vec<IpAddr>>) {
        let (mut held, mut addresses) = (BTreeMap::new(), None);
        for change in changes {
            match change {
                Change::Quarantine(q) => drop(held.insert(q.holder.clone(), q.addresses.clone())),
                Change::QuarantineRemoved(holder) => drop(held.remove(holder)),
                Change::Pod(Pod { addresses: Addresses::Known(list), .. }) => addresses = Some(list.clone()),
                Change::PodRemoved(_) => addresses = None,
                _ => {}
            }
        }
        (held.into_values().flatten().map(|a| a.to_string()).collect(), addresses)
    }

    #[test]
    fn a_known_pod_gets_its_address_before_its_status_says_so() {
        let mut sandboxes = Sandboxes::new("n1".to_owned(), None);
        let mut log = sandboxes.take(vec![pod("a", "1", &[])]);
        log.extend(sandboxes.add(sandbox("c1", "a", Some("1"), &["10.0.0.1"])).unwrap());
        assert_eq!(state(&log), (vec![], Some(ips(&["10.0.0.1"]))));
        log.extend(sandboxes.take(vec![pod("a", "1", &["10.0.0.1"])]));
        assert_eq!(state(&log), (vec![], Some(ips(&["10.0.0.1"]))));
        log.extend(sandboxes.remove(&sandbox("c1", "a", None, &[]).attachment));
        assert_eq!(state(&log), (vec![], Some(ips(&["10.0.0.1"]))), "as its status still says");
    }

    #[test]
    fn an_unknown_pod_is_closed_until_it_is_known() {
        let mut sandboxes = Sandboxes::new("n1".to_owned(), None);
        let mut log = sandboxes.add(sandbox("c1", "a", Some("2"), &["10.0.0.1"])).unwrap();
        assert_eq!(state(&log), (vec!["10.0.0.1".to_owned()], None));
        // Its predecessor is not it.
        log.extend(sandboxes.take(vec![pod("a", "1", &[])]));
        assert_eq!(state(&log), (vec!["10.0.0.1".to_owned()], Some(vec![])));
        log.extend(sandboxes.take(vec![pod("a", "2", &[])]));
        assert_eq!(state(&log), (vec![], Some(ips(&["10.0.0.1"]))));
        // Gone from the API while the sandbox is still there: nobody knows it any more.
        log.extend(sandboxes.take(vec![Change::PodRemoved(ObjectKey::new("x", "a"))]));
        assert_eq!(state(&log), (vec!["10.0.0.1".to_owned()], None));
        log.extend(sandboxes.keep(&[]));
        assert_eq!(state(&log).0, Vec::<String>::new());
        assert_eq!(sandboxes.counts(), (0, 0));
    }

    #[test]
    fn an_address_has_one_sandbox() {
        let mut sandboxes = Sandboxes::new("n1".to_owned(), None);
        let mut log = sandboxes.add(sandbox("c1", "a", None, &["10.0.0.1"])).unwrap();
        log.extend(sandboxes.take(vec![pod("b", "1", &[])]));
        // The DEL of the first was lost, and the address was given out again.
        log.extend(sandboxes.add(sandbox("c2", "b", None, &["10.0.0.1"])).unwrap());
        assert_eq!(state(&log), (vec![], Some(ips(&["10.0.0.1"]))));
        assert_eq!(sandboxes.counts(), (1, 0));
    }

    #[test]
    fn what_was_told_survives() {
        let folder = tempfile::tempdir().unwrap();
        let place = || Some(folder.path().join("sandboxes"));
        let mut first = Sandboxes::new("n1".to_owned(), place());
        assert!(first.load().unwrap().is_empty());
        first.add(sandbox("c1", "a", None, &["10.0.0.1"])).unwrap();
        first.add(sandbox("c2", "b", None, &["10.0.0.2", "fd00::2"])).unwrap();
        first.remove(&sandbox("c1", "a", None, &[]).attachment);
        std::fs::write(folder.path().join("sandboxes/c3:eth0.json"), "{").unwrap();
        let mut second = Sandboxes::new("n1".to_owned(), place());
        assert_eq!(state(&second.load().unwrap()).0, ["10.0.0.2", "fd00::2"]);
        assert_eq!(second.counts(), (1, 1));
    }
}
