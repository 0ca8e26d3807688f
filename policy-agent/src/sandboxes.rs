//! Pods of this node between the moment they have addresses and the moment the API reports them.
//!
//! The CNI plugin reports sandboxes. The addresses of a sandbox of a known pod count as those of the pod, so that the pod's rules are in
//! force before its status is posted. A sandbox of a pod that is not known is in quarantine (S3.11).
//!
//! - `records`: the files that keep sandboxes for the next agent.

mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use netpol_cni::protocol::{Attachment, PodName, Sandbox, code};
use policy_core::model::{Addresses, Change, ObjectKey, Phase, Placement, Pod, Quarantine};
use policy_core::plan::InterfaceName;

use self::records::Records;

/// Why a sandbox is not taken. Then nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// A pod cannot have an address of its node.
    #[error(
        "`{0}` is an address of this node, so it cannot be the address of the pod; check the address ranges of the network plugin"
    )]
    NodeAddress(IpAddr),
    /// It is not known which addresses the node has.
    #[error("cannot list the addresses of this node: {0}")]
    NodeAddresses(#[source] io::Error),
    /// The record cannot be written.
    #[error("cannot write the record of the sandbox: {0}")]
    Record(#[source] io::Error),
}

impl AddError {
    /// The code of the CNI specification (S6.9): the runtime should try again, unless the same would come of it.
    #[must_use]
    pub fn code(&self) -> u32 {
        match self {
            Self::NodeAddress(_) => code::INVALID_CONFIGURATION,
            Self::NodeAddresses(_) | Self::Record(_) => code::TRY_AGAIN,
        }
    }
}

/// Sandboxes, and the pods of this node that are known.
pub struct Sandboxes {
    node: String,
    /// Where sandboxes are kept; without it, they are not.
    records: Option<Records>,
    /// The addresses of the node.
    node_addresses: fn() -> io::Result<BTreeSet<IpAddr>>,
    sandboxes: BTreeMap<Attachment, Sandbox>,
    /// Pods of this node as the source has them.
    pods: BTreeMap<ObjectKey, Pod>,
}

fn holder(attachment: &Attachment) -> String {
    format!("sandbox {} {}", attachment.container(), attachment.interface())
}

fn key_of(name: &PodName) -> ObjectKey {
    ObjectKey::new(name.namespace.as_str(), name.name.as_str())
}

impl Sandboxes {
    /// Knows nothing yet. Without a folder, nothing is kept.
    #[must_use]
    pub fn new(node: String, folder: Option<PathBuf>) -> Self {
        let records = folder.map(Records::new);
        Self { node, records, node_addresses, sandboxes: BTreeMap::new(), pods: BTreeMap::new() }
    }

    /// Reads what an earlier agent kept, and returns what follows from it.
    ///
    /// # Errors
    /// When the folder cannot be read. A single record that cannot be read is left out and logged.
    pub fn load(&mut self) -> io::Result<Vec<Change>> {
        let Some(records) = &self.records else { return Ok(Vec::new()) };
        self.sandboxes.extend(records.read()?.into_iter().map(|sandbox| (sandbox.attachment.clone(), sandbox)));
        let all: Vec<Attachment> = self.sandboxes.keys().cloned().collect();
        Ok(all.iter().map(|attachment| self.quarantine(attachment)).collect())
    }

    /// Takes changes of the source, and returns the changes for the compiler.
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

    /// The pod of a sandbox, when it is known. UIDs distinguish successive pods of one name.
    fn owner(&self, sandbox: &Sandbox) -> Option<&Pod> {
        let name = sandbox.pod.as_ref()?;
        // Of a pod that cannot be read it is not known which policies select it (S2.25).
        let known = self.pods.get(&key_of(name)).filter(|pod| !pod.is_unknown)?;
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
                Change::Quarantine(Quarantine { holder: holder(attachment), addresses: sandbox.addresses.to_vec() })
            }
            _ => Change::QuarantineRemoved(holder(attachment)),
        }
    }

    /// A sandbox is there. Whoever had one of its addresses before has it no more.
    ///
    /// # Errors
    /// When an address is one of the node, or the record cannot be written; then nothing has changed.
    pub fn add(&mut self, sandbox: Sandbox) -> Result<Vec<Change>, AddError> {
        let of_node = (self.node_addresses)().map_err(AddError::NodeAddresses)?;
        if let Some(address) = sandbox.addresses.iter().find(|address| of_node.contains(address)) {
            return Err(AddError::NodeAddress(*address));
        }
        if let Some(records) = &self.records {
            records.write(&sandbox).map_err(AddError::Record)?;
        }
        let is_before = |other: &&Sandbox| {
            other.attachment != sandbox.attachment && other.addresses.iter().any(|a| sandbox.addresses.contains(a))
        };
        // An interface has one name, and a name one interface: whoever had it before has it no more.
        if sandbox.host_interface.is_some() {
            let same =
                |other: &&mut Sandbox| other.attachment != sandbox.attachment && other.host_interface == sandbox.host_interface;
            for other in self.sandboxes.values_mut().filter(same) {
                other.host_interface = None;
                if let Some(records) = &self.records {
                    records.write(other).map_err(AddError::Record)?;
                }
            }
        }
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
        if let Some(records) = &self.records {
            records.remove(attachment);
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
        let keys: BTreeSet<ObjectKey> = before.into_iter().chain(now).collect();
        for key in keys {
            self.judge(&key, out);
        }
    }

    /// Only these are there.
    pub fn keep(&mut self, listed: &[Attachment]) -> Vec<Change> {
        let gone: Vec<Attachment> = self.sandboxes.keys().filter(|a| !listed.contains(a)).cloned().collect();
        gone.iter().flat_map(|attachment| self.remove(attachment)).collect()
    }

    /// The node's ends of the sandboxes' links, where they are known, with the addresses behind them.
    #[must_use]
    pub fn interfaces(&self) -> BTreeMap<InterfaceName, BTreeSet<IpAddr>> {
        let mut out: BTreeMap<InterfaceName, BTreeSet<IpAddr>> = BTreeMap::new();
        for sandbox in self.sandboxes.values() {
            if let Some(name) = sandbox.host_interface.as_deref().and_then(InterfaceName::new) {
                out.entry(name).or_default().extend(sandbox.addresses.iter());
            }
        }
        out
    }

    /// Whether a sandbox is known.
    #[must_use]
    pub fn contains(&self, attachment: &Attachment) -> bool {
        self.sandboxes.contains_key(attachment)
    }

    /// The sandboxes of known pods, by what they would be in quarantine as.
    #[must_use]
    pub fn known(&self) -> Vec<Quarantine> {
        let known = self.sandboxes.values().filter(|sandbox| self.owner(sandbox).is_some());
        known.map(|s| Quarantine { holder: holder(&s.attachment), addresses: s.addresses.to_vec() }).collect()
    }

    /// How many there are, and how many of them are in quarantine.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.sandboxes.len(), self.sandboxes.values().filter(|sandbox| self.owner(sandbox).is_none()).count())
    }
}

/// The addresses of this network namespace.
fn node_addresses() -> io::Result<BTreeSet<IpAddr>> {
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    };
    Ok(nix::ifaddrs::getifaddrs()?.filter_map(address).collect())
}

#[cfg(test)]
mod tests {
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
            sidecar_ports: Vec::new(),
            owner: None,
            is_unknown: false,
        })
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn attachment(container: &str) -> Attachment {
        Attachment::new(container, "eth0").unwrap()
    }

    fn sandbox(container: &str, pod: &str, uid: Option<&str>, addresses: &[&str]) -> Sandbox {
        let pod = PodName { namespace: "x".to_owned(), name: pod.to_owned(), uid: uid.map(str::to_owned) };
        Sandbox {
            attachment: attachment(container),
            pod: Some(pod),
            addresses: ips(addresses).try_into().unwrap(),
            host_interface: None,
        }
    }

    /// Sandboxes on a node that has the address 10.0.0.254.
    fn on_node(folder: Option<PathBuf>) -> Sandboxes {
        let mut sandboxes = Sandboxes::new("n1".to_owned(), folder);
        sandboxes.node_addresses = || Ok(ips(&["10.0.0.254"]).into_iter().collect());
        sandboxes
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
        let mut sandboxes = on_node(None);
        let mut log = sandboxes.take(vec![pod("a", "1", &[])]);
        log.extend(sandboxes.add(sandbox("c1", "a", Some("1"), &["10.0.0.1"])).unwrap());
        assert_eq!(state(&log), (vec![], Some(ips(&["10.0.0.1"]))));
        log.extend(sandboxes.take(vec![pod("a", "1", &["10.0.0.1"])]));
        assert_eq!(state(&log), (vec![], Some(ips(&["10.0.0.1"]))));
        log.extend(sandboxes.remove(&attachment("c1")));
        assert_eq!(state(&log), (vec![], Some(ips(&["10.0.0.1"]))), "as its status still says");
    }

    #[test]
    fn an_unknown_pod_is_closed_until_it_is_known() {
        let mut sandboxes = on_node(None);
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
        let mut sandboxes = on_node(None);
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
        let mut first = on_node(place());
        assert!(first.load().unwrap().is_empty());
        first.add(sandbox("c1", "a", None, &["10.0.0.1"])).unwrap();
        first.add(sandbox("c2", "b", None, &["10.0.0.2", "fd00::2"])).unwrap();
        first.remove(&attachment("c1"));
        let mut second = on_node(place());
        assert_eq!(state(&second.load().unwrap()).0, ["10.0.0.2", "fd00::2"]);
        assert_eq!(second.counts(), (1, 1));
    }

    #[test]
    fn an_address_of_the_node_is_no_pods() {
        let mut sandboxes = on_node(None);
        let error = sandboxes.add(sandbox("c1", "a", None, &["10.0.0.1", "10.0.0.254"])).unwrap_err();
        assert_eq!((error.code(), sandboxes.counts()), (7, (0, 0)), "{error}");
        // As long as nobody knows which addresses the node has, no pod starts.
        sandboxes.node_addresses = || Err(io::Error::other("too many open files"));
        let error = sandboxes.add(sandbox("c1", "a", None, &["10.0.0.1"])).unwrap_err();
        assert_eq!((error.code(), sandboxes.counts()), (11, (0, 0)), "{error}");
    }

    #[test]
    fn without_a_record_nothing_changes() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("sandboxes");
        std::fs::write(&place, "a file where the folder should be").unwrap();
        let mut sandboxes = on_node(Some(place));
        let error = sandboxes.add(sandbox("c1", "a", None, &["10.0.0.1"])).unwrap_err();
        assert_eq!((error.code(), sandboxes.counts()), (11, (0, 0)), "{error}");
    }
}
