//! Which interfaces of the node lead to pods (S2.20).
//!
//! A packet from such an interface must have an address of its pod as its source. So an interface is only taken for a pod's when nothing
//! else can be behind it: it is one end of a pair, no bridge or other device has it as a part, and the node routes nothing through it
//! but single addresses. Its pod follows from those addresses, or from the report of the CNI plugin.
//!
//! - `reader`: links and routes of this network namespace, and when they change.

mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use policy_core::plan::{InterfaceName, NodePlan};

use reader::Reader;

/// Changes that come one after the other are looked at together.
const QUIET: Duration = Duration::from_millis(10);
/// But no later than this.
const LATEST: Duration = Duration::from_millis(100);
/// Links and routes are read at most this part of the time, however often they change: a node may have very many routes.
const DUTY: u32 = 10;

/// One end of a pair of interfaces, with what the node sends through it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its number, which no other interface gets as long as the node runs.
    pub index: u32,
    /// Its name.
    pub name: InterfaceName,
    /// The addresses that the node sends to directly through it.
    pub addresses: BTreeSet<IpAddr>,
    /// Whether the node sends anything else through it: a subnet, or what is behind a router.
    pub leads_elsewhere: bool,
}

/// Which interfaces lead to pods.
#[derive(Default)]
pub struct Interfaces {
    seen: Vec<Interface>,
    /// The addresses behind an interface, as the CNI plugin reported them.
    told: BTreeMap<InterfaceName, BTreeSet<IpAddr>>,
    /// The interfaces that were pods' when they were last looked at, by number. One stays a pod's when its pod is gone from the
    /// API: it may still be running.
    known: BTreeMap<u32, BTreeSet<IpAddr>>,
    /// Local pods whose sources cannot be checked.
    unchecked: usize,
}

impl Interfaces {
    /// Takes what was read; whether that is news.
    pub fn see(&mut self, seen: Vec<Interface>) -> bool {
        let is_new = self.seen != seen;
        self.seen = seen;
        is_new
    }

    /// Takes a report of the CNI plugin; whether it changes anything.
    pub fn hear(&mut self, told: BTreeMap<InterfaceName, BTreeSet<IpAddr>>) -> bool {
        let is_new = self.told != told;
        self.told = told;
        is_new
    }

    /// The number of local pods without an interface of their own in the last plan.
    #[must_use]
    pub fn unchecked(&self) -> usize {
        self.unchecked
    }

    /// The interfaces of the pods of a plan, with the addresses that may send through them.
    pub fn of_pods(&mut self, plan: &NodePlan) -> BTreeMap<InterfaceName, BTreeSet<IpAddr>> {
        let mut pods: BTreeMap<IpAddr, Vec<&BTreeSet<IpAddr>>> = BTreeMap::new();
        for pod in &plan.pods {
            for address in pod {
                pods.entry(*address).or_default().push(pod);
            }
        }
        let mut known = BTreeMap::new();
        let mut out = BTreeMap::new();
        for interface in self.seen.iter().filter(|interface| !interface.leads_elsewhere) {
            let told = self.told.get(&interface.name);
            let behind = interface.addresses.iter().chain(told.into_iter().flatten());
            let owners: BTreeSet<&BTreeSet<IpAddr>> = behind.filter_map(|a| pods.get(a)).flatten().copied().collect();
            let owners: Vec<&BTreeSet<IpAddr>> = owners.into_iter().collect();
            let sources = match (owners.as_slice(), told, self.known.get(&interface.index)) {
                ([one], told, _) => one.iter().chain(told.into_iter().flatten()).copied().collect(),
                // An address may still be in the status of a pod that is gone.
                (several, Some(told), _) => {
                    let own = several.iter().filter(|owner| owner.is_superset(told)).flat_map(|owner| owner.iter());
                    own.chain(told).copied().collect()
                }
                // Whose address one of these is by now, is not behind this interface.
                ([], None, Some(before)) => before.iter().filter(|a| !pods.contains_key(*a)).copied().collect(),
                _ => continue,
            };
            known.insert(interface.index, BTreeSet::clone(&sources));
            out.insert(interface.name, sources);
        }
        self.known = known;
        let checked: BTreeSet<&IpAddr> = out.values().flatten().collect();
        self.unchecked = plan.pods.iter().filter(|pod| !pod.iter().any(|a| checked.contains(a))).count();
        out
    }
}

/// Looks at links and routes whenever they change.
#[derive(Clone)]
pub struct Watch {
    last: Arc<Mutex<Last>>,
}

struct Last {
    reader: Reader,
    seen: Option<Vec<Interface>>,
    on_change: Box<dyn Fn(Vec<Interface>) + Send>,
}

impl Watch {
    /// Starts to look in the network namespace of the calling thread. `on_change` is called with what there is, before this returns,
    /// and again when it is different.
    ///
    /// # Errors
    /// When links and routes cannot be read.
    pub fn start(on_change: impl Fn(Vec<Interface>) + Send + 'static) -> io::Result<Self> {
        let mut changes = Reader::listening()?;
        let last = Last { reader: Reader::open()?, seen: None, on_change: Box::new(on_change) };
        let watch = Self { last: Arc::new(Mutex::new(last)) };
        watch.look()?;
        let thread = watch.clone();
        std::thread::Builder::new().name("interfaces".to_owned()).spawn(move || thread.follow(&mut changes))?;
        Ok(watch)
    }

    /// Looks now: what was different before this call has been given to `on_change` when it returns.
    ///
    /// # Errors
    /// When links and routes cannot be read.
    pub fn look(&self) -> io::Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = last.reader.interfaces()?;
        if last.seen.as_ref() != Some(&seen) {
            (last.on_change)(seen.clone());
            last.seen = Some(seen);
        }
        Ok(())
    }

    fn follow(&self, changes: &mut Reader) {
        loop {
            // Announcements that were lost are as good as some that came.
            changes.wait_for_change(QUIET, LATEST);
            let start = Instant::now();
            if let Err(error) = self.look() {
                tracing::warn!(%error, "cannot read links and routes; keeping the known interfaces of pods");
            }
            std::thread::sleep(start.elapsed() * DUTY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn name(text: &str) -> InterfaceName {
        InterfaceName::new(text).unwrap()
    }

    fn interface(index: u32, text: &str, addresses: &[&str]) -> Interface {
        Interface { index, name: name(text), addresses: ips(addresses), leads_elsewhere: false }
    }

    fn plan(pods: &[&[&str]]) -> NodePlan {
        NodePlan { pods: pods.iter().map(|pod| ips(pod)).collect(), ..NodePlan::default() }
    }

    #[test]
    fn an_interface_is_the_pod_s_to_which_it_leads() {
        let mut interfaces = Interfaces::default();
        let plan = plan(&[&["10.0.0.1", "fd00::1"], &["10.0.0.2"], &["10.0.0.3"]]);
        assert!(interfaces.of_pods(&plan).is_empty());
        // One family is routed here, the other elsewhere: both are the pod's.
        assert!(interfaces.see(vec![interface(2, "va", &["10.0.0.1"]), interface(3, "vb", &["10.0.0.2"])]));
        let expected = [(name("va"), ips(&["10.0.0.1", "fd00::1"])), (name("vb"), ips(&["10.0.0.2"]))];
        assert_eq!(interfaces.of_pods(&plan), BTreeMap::from(expected));
        assert_eq!(interfaces.unchecked(), 1);
        assert!(!interfaces.see(vec![interface(2, "va", &["10.0.0.1"]), interface(3, "vb", &["10.0.0.2"])]), "no news");
    }

    #[test]
    fn an_interface_of_several_or_of_nobody_is_not_checked() {
        let mut interfaces = Interfaces::default();
        let plan = plan(&[&["10.0.0.1"], &["10.0.0.2"]]);
        let elsewhere = Interface { leads_elsewhere: true, ..interface(4, "vc", &["10.0.0.1"]) };
        interfaces.see(vec![interface(2, "va", &["10.0.0.1", "10.0.0.2"]), interface(3, "vb", &["10.9.9.9"]), elsewhere]);
        assert!(interfaces.of_pods(&plan).is_empty());
        assert_eq!(interfaces.unchecked(), 2);
    }

    #[test]
    fn a_pod_that_is_gone_may_still_be_running() {
        let mut interfaces = Interfaces::default();
        interfaces.see(vec![interface(2, "va", &["10.0.0.1"])]);
        interfaces.of_pods(&plan(&[&["10.0.0.1"]]));
        assert_eq!(interfaces.of_pods(&plan(&[])), BTreeMap::from([(name("va"), ips(&["10.0.0.1"]))]));
        // Its address is another's now, which is elsewhere.
        interfaces.see(vec![interface(2, "renamed", &[]), interface(3, "vb", &["10.0.0.1"])]);
        let expected = [(name("renamed"), ips(&[])), (name("vb"), ips(&["10.0.0.1"]))];
        assert_eq!(interfaces.of_pods(&plan(&[&["10.0.0.1"]])), BTreeMap::from(expected));
        // An interface of the same name that is made anew is another.
        interfaces.see(vec![interface(9, "renamed", &[])]);
        assert!(interfaces.of_pods(&plan(&[])).is_empty());
    }

    #[test]
    fn what_the_plugin_was_told_counts_without_routes() {
        let mut interfaces = Interfaces::default();
        interfaces.see(vec![interface(2, "va", &[])]);
        assert!(interfaces.hear(BTreeMap::from([(name("va"), ips(&["10.0.0.1"])), (name("cni0"), ips(&["10.0.0.2"]))])));
        // In quarantine, and then known.
        assert_eq!(interfaces.of_pods(&plan(&[])), BTreeMap::from([(name("va"), ips(&["10.0.0.1"]))]));
        let expected = BTreeMap::from([(name("va"), ips(&["10.0.0.1", "10.0.0.7"]))]);
        assert_eq!(interfaces.of_pods(&plan(&[&["10.0.0.1", "10.0.0.7"]])), expected);
    }
}
