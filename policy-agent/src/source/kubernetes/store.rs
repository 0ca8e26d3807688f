//! What is known of the objects of all kinds, and what an event of a watch changes about it.
//!
//! - `kind_state`: whether an update changes anything.
//! - `unknown_namespaces`: pods whose namespace is not known.
//!
//! A kind needs no code here: the loader of `policy-core` reads its objects, and returns them as changes.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};

use policy_core::manifest::{self, Loader, Syntax};
use policy_core::model::{Addresses, Change, ObjectKey, Placement, Pod, Policy};
use policy_input::cluster::kinds::{Kind, MIRROR, NAMESPACE, NETWORK_POLICY, POD};
use serde_json::Value;

use super::kind_state::KindState;
use super::unknown_namespaces::HeldPods;
use crate::source::{ProblemsDelta, SourceUpdate, describe};

/// What is known of all of them.
pub(crate) struct Store {
    kinds: BTreeMap<&'static Kind, KindState>,
    held: HeldPods,
    problems: BTreeMap<(&'static Kind, String), Vec<String>>,
    changes: Vec<Change>,
    /// How problems became different since the last news, and whose.
    delta: ProblemsDelta,
    faulty: BTreeSet<ObjectKey>,
    /// With random keys: nobody can search for two contents with one hash.
    hasher: RandomState,
    must_list_pods: bool,
}

fn object_key(key: &str) -> ObjectKey {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    ObjectKey::new(namespace, name)
}

impl Store {
    pub(crate) fn new(node: String) -> Self {
        Self {
            kinds: BTreeMap::new(),
            held: HeldPods::new(node),
            problems: BTreeMap::new(),
            changes: Vec::new(),
            delta: ProblemsDelta::default(),
            faulty: BTreeSet::new(),
            hasher: RandomState::new(),
            must_list_pods: false,
        }
    }

    fn state(&mut self, kind: &'static Kind) -> &mut KindState {
        self.kinds.entry(kind).or_default()
    }

    /// Whether an object is there, by `namespace/name` or `name`.
    pub(crate) fn contains(&self, kind: &'static Kind, key: &str) -> bool {
        self.kinds.get(kind).is_some_and(|state| state.contains(key))
    }

    /// A list of a kind begins.
    pub(crate) fn begin(&mut self, kind: &'static Kind) {
        self.state(kind).begin_list();
    }

    /// The list is complete: what was not in it is gone.
    pub(crate) fn end(&mut self, kind: &'static Kind) {
        for key in self.state(kind).end_list() {
            self.remove(kind, &key);
        }
        self.state(kind).shrink();
    }

    /// The kind is not served any more: none of its objects is there.
    pub(crate) fn remove_all(&mut self, kind: &'static Kind) {
        self.begin(kind);
        self.end(kind);
    }

    /// An object is there, as it is now.
    pub(crate) fn apply(&mut self, kind: &'static Kind, key: &str, value: &Value) {
        let bytes = value.to_string().into_bytes();
        let hash = self.hasher.hash_one(&bytes);
        if !self.state(kind).update(key, hash) {
            return;
        }
        // The rules of API servers change: what an older one took is still there (S1.19).
        let mut loader = Loader::new(Syntax::Legacy);
        loader.read_live(Syntax::Legacy, "", &bytes);
        let snapshot = loader.finish();
        let mut problems: Vec<String> = snapshot.diagnostics.iter().filter(|d| d.is_error()).map(describe).collect();
        let changes = snapshot.into_changes_of(&kind.api_version(), kind.name);
        if changes.is_empty() {
            let effect = self.take_unreadable(kind, object_key(key));
            problems.extend(effect.map(|effect| format!("{} {key} is invalid; {effect}", kind.name)));
        }
        for change in changes {
            self.take(change, value);
        }
        self.set_problems(kind, key, problems);
    }

    /// Takes what was read of an object.
    fn take(&mut self, change: Change, value: &Value) {
        match change {
            Change::Namespace(namespace) => {
                let name = namespace.name.clone();
                self.changes.push(Change::Namespace(namespace));
                self.must_list_pods |= self.held.release(&name, &mut self.changes);
            }
            // Its name says where it is.
            Change::Policy(policy) => self.changes.push(Change::Policy(Policy { origin: None, ..policy })),
            Change::Pod(pod) => self.take_pod(Pod { uid: uid_of(value), ..as_stored(pod) }),
            change => self.changes.push(change),
        }
    }

    fn take_pod(&mut self, pod: Pod) {
        let is_known = self.contains(&NAMESPACE, &pod.key.namespace);
        self.held.take(pod, is_known, &mut self.changes);
    }

    /// Takes an object of which nothing can be read, in its fail-closed form. Returns the effect in words, if there is one.
    fn take_unreadable(&mut self, kind: &'static Kind, key: ObjectKey) -> Option<&'static str> {
        if *kind != POD {
            // What it says may be anything, so nothing is allowed (S1.20).
            let (change, effect) = manifest::unreadable(&kind.api_version(), kind.name, key)?;
            self.changes.push(change);
            return Some(effect);
        }
        match self.held.local(&key) {
            Some(known) => self.take_pod(Pod { is_unknown: true, ..known }),
            None => self.changes.push(Change::PodRemoved(key)),
        }
        Some("no selector matches it")
    }

    /// An object is gone.
    pub(crate) fn remove(&mut self, kind: &'static Kind, key: &str) {
        if !self.state(kind).remove(key) {
            return;
        }
        self.set_problems(kind, key, Vec::new());
        let object = object_key(key);
        if *kind == POD {
            self.held.remove(object, &mut self.changes);
            return;
        }
        if *kind == NAMESPACE {
            self.hold_pods(key);
        }
        self.changes.extend(manifest::removal(&kind.api_version(), kind.name, object));
    }

    /// A namespace is gone before its pods: they are unknown (S1.36).
    fn hold_pods(&mut self, namespace: &str) {
        for key in self.state(&POD).keys_in(namespace) {
            // What is the same in the next list must be taken all the same.
            self.state(&POD).expect_update(&key);
            self.held.hold(object_key(&key), &mut self.changes);
        }
    }

    /// What is wrong with an object is this now.
    fn set_problems(&mut self, kind: &'static Kind, key: &str, texts: Vec<String>) {
        let place = (kind, key.to_owned());
        let before = self.problems.remove(&place).unwrap_or_default();
        if before == texts {
            if !texts.is_empty() {
                self.problems.insert(place, texts);
            }
            return;
        }
        if *kind == NETWORK_POLICY {
            self.faulty.insert(object_key(key));
        }
        self.delta.found.extend(texts.iter().cloned());
        self.delta.solved.extend(before);
        if !texts.is_empty() {
            self.problems.insert(place, texts);
        }
    }

    /// The number of changes that have not been sent yet.
    pub(crate) fn waiting(&self) -> usize {
        self.changes.len()
    }

    /// Whether all pods must be listed again, because some were not kept.
    pub(crate) fn must_list_pods(&mut self) -> bool {
        std::mem::take(&mut self.must_list_pods)
    }

    /// The update to send; `None` for nothing.
    pub(crate) fn news(&mut self) -> Option<SourceUpdate> {
        let faulty = std::mem::take(&mut self.faulty).into_iter().map(|key| {
            let place = (&NETWORK_POLICY, key.to_string());
            let texts = self.problems.get(&place).cloned().unwrap_or_default();
            (key, texts)
        });
        let faulty: BTreeMap<ObjectKey, Vec<String>> = faulty.collect();
        let changes = std::mem::take(&mut self.changes);
        let problems = std::mem::take(&mut self.delta);
        let has_news = !changes.is_empty() || !problems.is_empty();
        has_news.then(|| SourceUpdate { changes, problems, faulty, ..SourceUpdate::default() })
    }
}

/// The UID of a pod as the container runtime knows it; for a static pod that is the kubelet's own (S6.5).
fn uid_of(value: &Value) -> Option<String> {
    let metadata = value.get("metadata")?;
    let mirrored = metadata.get("annotations").and_then(|annotations| annotations.get(MIRROR));
    mirrored.or(metadata.get("uid"))?.as_str().map(str::to_owned)
}

/// A pod of the API is never a manifest of one that is yet to be made.
fn as_stored(mut pod: Pod) -> Pod {
    if pod.addresses == Addresses::Unknown {
        pod.addresses = Addresses::Known(Vec::new());
    }
    if pod.placement == Placement::Somewhere && !pod.is_unknown {
        pod.placement = Placement::Unscheduled;
    }
    pod.owner = None;
    pod.sidecar_ports = Vec::new();
    pod
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::source::SourceUpdate;

    fn namespace(name: &str, team: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": team}}})
    }

    fn pod(name: &str, node: &str, address: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "x", "uid": "u"},
            "spec": {"nodeName": node}, "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}})
    }

    fn policy(spec: Value) -> Value {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "x"}, "spec": spec})
    }

    fn changes(store: &mut Store) -> Vec<Change> {
        store.news().map(|news| news.changes).unwrap_or_default()
    }

    /// A store that knows namespace x, of the node n1.
    fn store() -> Store {
        let mut store = Store::new("n1".to_owned());
        store.begin(&NAMESPACE);
        store.apply(&NAMESPACE, "x", &namespace("x", "a"));
        store.end(&NAMESPACE);
        assert!(matches!(changes(&mut store).as_slice(), [Change::Namespace(_)]));
        store
    }

    #[test]
    fn what_changes_nothing_is_no_news() {
        let mut store = store();
        store.apply(&POD, "x/a", &pod("a", "n1", "10.0.0.1"));
        assert!(
            matches!(changes(&mut store).as_slice(), [Change::Pod(pod)] if pod.addresses == Addresses::Known(vec!["10.0.0.1".parse().unwrap()]))
        );
        store.apply(&POD, "x/a", &pod("a", "n1", "10.0.0.1"));
        assert!(store.news().is_none());
        store.remove(&POD, "x/b");
        assert!(store.news().is_none(), "it was never there");
        store.remove(&POD, "x/a");
        assert!(matches!(changes(&mut store).as_slice(), [Change::PodRemoved(_)]));
    }

    #[test]
    fn a_list_finds_out_what_went_unseen() {
        let mut store = store();
        store.begin(&POD);
        for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")] {
            store.apply(&POD, &format!("x/{name}"), &pod(name, "n2", address));
        }
        store.end(&POD);
        assert_eq!(changes(&mut store).len(), 3);
        store.begin(&POD);
        store.apply(&POD, "x/a", &pod("a", "n2", "10.0.0.1"));
        store.apply(&POD, "x/c", &pod("c", "n2", "10.0.0.4"));
        assert_eq!(changes(&mut store).len(), 1, "nothing goes before the list has ended");
        store.end(&POD);
        let gone = changes(&mut store);
        assert!(matches!(gone.as_slice(), [Change::PodRemoved(key)] if key.name == "b"), "{gone:?}");
    }

    #[test]
    fn a_pod_waits_for_its_namespace_in_quarantine() {
        let mut store = Store::new("n1".to_owned());
        store.apply(&POD, "x/a", &pod("a", "n1", "10.0.0.1"));
        store.apply(&POD, "x/b", &pod("b", "n2", "10.0.0.2"));
        let held = changes(&mut store);
        let address: std::net::IpAddr = "10.0.0.1".parse().unwrap();
        assert!(matches!(held.first(), Some(Change::Quarantine(q)) if q.addresses == [address]), "{held:?}");
        assert!(!held.iter().any(|change| matches!(change, Change::Pod(_))), "as peers they are unknown: {held:?}");
        store.apply(&NAMESPACE, "x", &namespace("x", "a"));
        let free = changes(&mut store);
        assert!(matches!(free.first(), Some(Change::Namespace(_))), "{free:?}");
        assert_eq!(free.iter().filter(|change| matches!(change, Change::Pod(_))).count(), 2);
        assert!(free.iter().any(|change| matches!(change, Change::QuarantineRemoved(holder) if holder == "pod x/a")));
        assert!(!store.must_list_pods());
    }

    #[test]
    fn a_namespace_that_goes_before_its_pods_leaves_them_unknown() {
        let mut store = store();
        store.apply(&POD, "x/a", &pod("a", "n1", "10.0.0.1"));
        store.apply(&POD, "x/b", &pod("b", "n2", "10.0.0.2"));
        changes(&mut store);
        store.remove(&NAMESPACE, "x");
        let unknown = changes(&mut store);
        assert_eq!(unknown.iter().filter(|change| matches!(change, Change::PodRemoved(_))).count(), 2, "{unknown:?}");
        assert!(unknown.iter().any(|change| matches!(change, Change::Quarantine(q) if q.addresses.len() == 1)), "{unknown:?}");
        // It comes back: what is here is known, the others must be listed, and the list must not pass over them.
        store.apply(&NAMESPACE, "x", &namespace("x", "b"));
        let back = changes(&mut store);
        assert!(back.iter().any(|change| matches!(change, Change::Pod(pod) if pod.key.name == "a")), "{back:?}");
        assert!(store.must_list_pods() && !store.must_list_pods());
        store.begin(&POD);
        store.apply(&POD, "x/b", &pod("b", "n2", "10.0.0.2"));
        store.end(&POD);
        let listed = changes(&mut store);
        assert!(listed.iter().any(|change| matches!(change, Change::Pod(pod) if pod.key.name == "b")), "{listed:?}");
        assert!(listed.iter().any(|change| matches!(change, Change::PodRemoved(key) if key.name == "a")), "{listed:?}");
    }

    #[test]
    fn a_policy_that_cannot_be_read_isolates_and_is_reported() {
        let mut store = store();
        store.apply(&NETWORK_POLICY, "x/p", &policy(json!({"podSelector": 7, "ingress": [{}]})));
        let SourceUpdate { changes, problems, .. } = store.news().unwrap();
        let [Change::Policy(policy_read)] = changes.as_slice() else { panic!("{changes:?}") };
        assert!(policy_read.target.is_everything(), "{policy_read:?}");
        assert!(problems.found.iter().any(|p| p.contains("NetworkPolicy x/p") && p.contains("podSelector")), "{problems:?}");
        store.apply(&NETWORK_POLICY, "x/p", &policy(json!({"podSelector": {}})));
        let solved = store.news().unwrap();
        assert!(solved.problems.found.is_empty() && solved.problems.solved.len() == problems.found.len(), "{solved:?}");
        assert_eq!(solved.faulty, BTreeMap::from([(ObjectKey::new("x", "p"), Vec::new())]));
        store.remove(&NETWORK_POLICY, "x/p");
        assert!(matches!(store.news().unwrap().changes.as_slice(), [Change::PolicyRemoved(_)]));
    }
    #[test]
    fn an_unknown_pod_reaches_the_compiler_as_it_is() {
        let mut store = store();
        let mut unknown = pod("a", "n1", "10.0.0.1");
        unknown["metadata"]["labels"] = json!({"app": 7});
        store.apply(&POD, "x/a", &unknown);
        let SourceUpdate { changes, problems, .. } = store.news().unwrap();
        assert!(
            matches!(changes.as_slice(), [Change::Pod(pod)] if pod.is_unknown && pod.held_addresses().len() == 1),
            "{changes:?}"
        );
        assert!(problems.found.iter().any(|p| p.contains("Pod x/a") && p.contains("labels")), "{problems:?}");
        // Where it runs cannot be read: then it may run here.
        unknown["spec"]["nodeName"] = json!(7);
        store.apply(&POD, "x/a", &unknown);
        let moved = store.news().unwrap().changes;
        assert!(matches!(moved.as_slice(), [Change::Pod(pod)] if pod.placement == Placement::Somewhere), "{moved:?}");
        // An old spelling is an address like any other.
        store.apply(&POD, "x/b", &pod("b", "n1", "::ffff:10.0.0.2"));
        let spelled = store.news().unwrap().changes;
        let address = Addresses::Known(vec!["10.0.0.2".parse().unwrap()]);
        assert!(matches!(spelled.as_slice(), [Change::Pod(pod)] if !pod.is_unknown && pod.addresses == address), "{spelled:?}");
    }

    #[test]
    fn one_more_problem_is_the_only_one_that_is_told() {
        let mut store = store();
        for n in 0..1000 {
            let mut broken = policy(json!({"podSelector": 7}));
            broken["metadata"]["name"] = json!(format!("p{n}"));
            store.apply(&NETWORK_POLICY, &format!("x/p{n}"), &broken);
        }
        assert_eq!(store.news().unwrap().problems.found.len(), 1000);
        store.apply(&NETWORK_POLICY, "x/p", &policy(json!({"podSelector": 7})));
        let news = store.news().unwrap();
        assert_eq!((news.problems.found.len(), news.problems.solved.len(), news.faulty.len()), (1, 0, 1));
    }
}
