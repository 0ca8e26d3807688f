//! What is known of the API's objects, and what a watch event changes about it.
//!
//! Objects themselves are not kept, only a hash of each: enough to pass over updates that change nothing here (most of them),
//! to find in a new list what is different, and what has gone unseen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};

use policy_core::manifest::{Loader, Snapshot, Syntax};
use policy_core::model::{Addresses, Change, ObjectKey, Phase, Placement, Pod, Policy, Quarantine, Selector};
use serde_json::Value;

use super::object::{Kind, MIRROR};
use crate::source::{ProblemsDelta, SourceUpdate, describe};

/// What is known of one kind.
#[derive(Default)]
struct Known {
    objects: HashMap<Box<str>, Mark>,
    /// Counts lists.
    round: u32,
}

struct Mark {
    hash: u64,
    /// The list in which the object was last seen.
    round: u32,
}

/// A pod of an unknown namespace (S1.36).
enum Held {
    /// Kept until the namespace is there.
    Pod(Box<Pod>),
    /// It was known while its namespace was, and its content was not kept.
    Forgotten,
}

/// What is known of all of them.
pub(crate) struct Store {
    node: String,
    known: [Known; 4],
    /// Pods by namespaces that are not known.
    held: BTreeMap<String, BTreeMap<ObjectKey, Held>>,
    /// Live pods of this node: few, and what was known of them is needed when their namespace goes.
    local: BTreeMap<ObjectKey, Pod>,
    problems: BTreeMap<(Kind, String), Vec<String>>,
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
            node,
            known: Default::default(),
            held: BTreeMap::new(),
            local: BTreeMap::new(),
            problems: BTreeMap::new(),
            changes: Vec::new(),
            delta: ProblemsDelta::default(),
            faulty: BTreeSet::new(),
            hasher: RandomState::new(),
            must_list_pods: false,
        }
    }

    fn known(&mut self, kind: Kind) -> &mut Known {
        let [namespaces, nodes, policies, pods] = &mut self.known;
        match kind {
            Kind::Namespace => namespaces,
            Kind::Node => nodes,
            Kind::NetworkPolicy => policies,
            Kind::Pod => pods,
        }
    }

    /// A list of a kind begins.
    pub(crate) fn begin(&mut self, kind: Kind) {
        let known = self.known(kind);
        known.round = known.round.wrapping_add(1);
    }

    /// The list is complete: what was not in it is gone.
    pub(crate) fn end(&mut self, kind: Kind) {
        let known = self.known(kind);
        let round = known.round;
        let gone: Vec<String> =
            known.objects.iter().filter(|(_, mark)| mark.round != round).map(|(key, _)| key.to_string()).collect();
        for key in gone {
            self.remove(kind, &key);
        }
        self.known(kind).objects.shrink_to_fit();
    }

    /// An object is there, as it is now.
    pub(crate) fn apply(&mut self, kind: Kind, key: &str, value: &Value) {
        let bytes = value.to_string().into_bytes();
        let hash = self.hasher.hash_one(&bytes);
        let known = self.known(kind);
        let round = known.round;
        if let Some(mark) = known.objects.get_mut(key) {
            mark.round = round;
            if std::mem::replace(&mut mark.hash, hash) == hash {
                return;
            }
        } else {
            known.objects.insert(key.into(), Mark { hash, round });
        }
        // The rules of API servers change: what an older one took is still there (S1.19).
        let mut loader = Loader::new(Syntax::Legacy);
        loader.read("", &bytes);
        let snapshot = loader.finish();
        let mut problems: Vec<String> = snapshot.diagnostics.iter().filter(|d| d.is_error()).map(describe).collect();
        problems.extend(self.take(kind, key, snapshot, uid_of(value)).map(|what| format!("{} {key} {what}", kind.name())));
        self.set_problems(kind, key, problems);
    }

    /// Takes what was read; what is wrong when nothing could be.
    fn take(&mut self, kind: Kind, key: &str, snapshot: Snapshot, uid: Option<String>) -> Option<&'static str> {
        match kind {
            Kind::Namespace => {
                let namespace = snapshot.namespaces.into_values().next();
                let name = namespace.as_ref().map(|namespace| namespace.name.clone());
                self.changes.extend(namespace.map(Change::Namespace));
                if let Some(name) = name {
                    self.release(&name);
                }
            }
            Kind::Node => self.changes.extend(snapshot.nodes.into_values().map(Change::Node)),
            Kind::NetworkPolicy => match snapshot.policies.into_values().next() {
                Some(mut policy) => {
                    // Its name says where it is.
                    policy.origin = None;
                    self.changes.push(Change::Policy(policy));
                }
                // What it says may be anything, so nothing is allowed (S1.20).
                None => {
                    self.changes.push(Change::Policy(unreadable_policy(object_key(key))));
                    return Some("is invalid; it isolates every pod of its namespace and allows nothing");
                }
            },
            Kind::Pod => match snapshot.pods.into_values().next() {
                Some(pod) => self.take_pod(Pod { uid, ..as_stored(pod) }),
                None => {
                    let key = object_key(key);
                    if let Some(known) = self.local.get(&key).cloned() {
                        self.take_pod(Pod { is_unknown: true, ..known });
                    } else {
                        self.changes.push(Change::PodRemoved(key));
                    }
                    return Some("is invalid; no selector matches it");
                }
            },
        }
        None
    }

    fn take_pod(&mut self, pod: Pod) {
        let is_known = self.is_known(&pod.key.namespace);
        let key = pod.key.clone();
        if self.is_local(&pod) {
            self.local.insert(key.clone(), pod.clone());
        } else {
            self.local.remove(&key);
        }
        if is_known {
            self.changes.push(Change::Pod(pod));
            return;
        }
        self.quarantine(&key);
        self.held.entry(key.namespace.clone()).or_default().insert(key, Held::Pod(Box::new(pod)));
    }

    /// An object is gone.
    pub(crate) fn remove(&mut self, kind: Kind, key: &str) {
        if self.known(kind).objects.remove(key).is_none() {
            return;
        }
        self.set_problems(kind, key, Vec::new());
        let object = object_key(key);
        match kind {
            Kind::Namespace => self.remove_namespace(key),
            Kind::Node => self.changes.push(Change::NodeRemoved(key.to_owned())),
            Kind::NetworkPolicy => self.changes.push(Change::PolicyRemoved(object)),
            Kind::Pod => {
                self.local.remove(&object);
                let Some(held) = self.held.get_mut(&object.namespace) else {
                    self.changes.push(Change::PodRemoved(object));
                    return;
                };
                held.remove(&object);
                if held.is_empty() {
                    self.held.remove(&object.namespace);
                }
                self.changes.push(Change::QuarantineRemoved(holder(&object)));
            }
        }
    }

    fn is_known(&self, namespace: &str) -> bool {
        let [namespaces, ..] = &self.known;
        namespaces.objects.contains_key(namespace)
    }

    fn is_local(&self, pod: &Pod) -> bool {
        let is_here = match &pod.placement {
            Placement::Node(node) => *node == self.node,
            // Of an unknown pod it may be the node that cannot be read (S2.25).
            Placement::Somewhere => pod.is_unknown,
            Placement::Unscheduled => false,
        };
        is_here && !pod.is_host_network && pod.phase == Phase::Live
    }

    /// The namespace of pods has come: they are pods like all others.
    fn release(&mut self, namespace: &str) {
        for (key, held) in self.held.remove(namespace).unwrap_or_default() {
            match held {
                Held::Pod(pod) => self.changes.push(Change::Pod(*pod)),
                Held::Forgotten => self.must_list_pods = true,
            }
            self.changes.push(Change::QuarantineRemoved(holder(&key)));
        }
    }

    /// The namespace of pods has gone before them: they are unknown (S1.36).
    fn remove_namespace(&mut self, namespace: &str) {
        let prefix = format!("{namespace}/");
        let [.., pods] = &mut self.known;
        let keys: Vec<ObjectKey> =
            pods.objects.keys().filter(|key| key.starts_with(&prefix)).map(|key| object_key(key)).collect();
        for key in keys {
            // What is the same in the next list must be taken all the same.
            if let Some(mark) = self.known(Kind::Pod).objects.get_mut(key.to_string().as_str()) {
                mark.hash = mark.hash.wrapping_add(1);
            }
            self.quarantine(&key);
            self.changes.push(Change::PodRemoved(key.clone()));
            let held = self.local.get(&key).map_or(Held::Forgotten, |pod| Held::Pod(Box::new(pod.clone())));
            self.held.entry(namespace.to_owned()).or_default().insert(key, held);
        }
        self.changes.push(Change::NamespaceRemoved(namespace.to_owned()));
    }

    /// Closes the addresses of a pod of this node that is not known for what it is.
    fn quarantine(&mut self, key: &ObjectKey) {
        let addresses = match self.local.get(key).map(|pod| &pod.addresses) {
            Some(Addresses::Known(addresses)) => addresses.clone(),
            _ => Vec::new(),
        };
        self.changes.push(Change::Quarantine(Quarantine { holder: holder(key), addresses }));
    }

    /// What is wrong with an object is this now.
    fn set_problems(&mut self, kind: Kind, key: &str, texts: Vec<String>) {
        let place = (kind, key.to_owned());
        let before = self.problems.remove(&place).unwrap_or_default();
        if before == texts {
            if !texts.is_empty() {
                self.problems.insert(place, texts);
            }
            return;
        }
        if kind == Kind::NetworkPolicy {
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
            let place = (Kind::NetworkPolicy, key.to_string());
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

/// A policy of which nothing is known but its name (S1.20).
fn unreadable_policy(key: ObjectKey) -> Policy {
    Policy { key, origin: None, target: Selector::everything(), ingress: Some(Vec::new()), egress: Some(Vec::new()) }
}

fn holder(pod: &ObjectKey) -> String {
    format!("pod {pod}")
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
        store.begin(Kind::Namespace);
        store.apply(Kind::Namespace, "x", &namespace("x", "a"));
        store.end(Kind::Namespace);
        assert!(matches!(changes(&mut store).as_slice(), [Change::Namespace(_)]));
        store
    }

    #[test]
    fn what_changes_nothing_is_no_news() {
        let mut store = store();
        store.apply(Kind::Pod, "x/a", &pod("a", "n1", "10.0.0.1"));
        assert!(
            matches!(changes(&mut store).as_slice(), [Change::Pod(pod)] if pod.addresses == Addresses::Known(vec!["10.0.0.1".parse().unwrap()]))
        );
        store.apply(Kind::Pod, "x/a", &pod("a", "n1", "10.0.0.1"));
        assert!(store.news().is_none());
        store.remove(Kind::Pod, "x/b");
        assert!(store.news().is_none(), "it was never there");
        store.remove(Kind::Pod, "x/a");
        assert!(matches!(changes(&mut store).as_slice(), [Change::PodRemoved(_)]));
    }

    #[test]
    fn a_list_finds_out_what_went_unseen() {
        let mut store = store();
        store.begin(Kind::Pod);
        for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")] {
            store.apply(Kind::Pod, &format!("x/{name}"), &pod(name, "n2", address));
        }
        store.end(Kind::Pod);
        assert_eq!(changes(&mut store).len(), 3);
        store.begin(Kind::Pod);
        store.apply(Kind::Pod, "x/a", &pod("a", "n2", "10.0.0.1"));
        store.apply(Kind::Pod, "x/c", &pod("c", "n2", "10.0.0.4"));
        assert_eq!(changes(&mut store).len(), 1, "nothing goes before the list has ended");
        store.end(Kind::Pod);
        let gone = changes(&mut store);
        assert!(matches!(gone.as_slice(), [Change::PodRemoved(key)] if key.name == "b"), "{gone:?}");
    }

    #[test]
    fn a_pod_waits_for_its_namespace_in_quarantine() {
        let mut store = Store::new("n1".to_owned());
        store.apply(Kind::Pod, "x/a", &pod("a", "n1", "10.0.0.1"));
        store.apply(Kind::Pod, "x/b", &pod("b", "n2", "10.0.0.2"));
        let held = changes(&mut store);
        let address: std::net::IpAddr = "10.0.0.1".parse().unwrap();
        assert!(matches!(held.first(), Some(Change::Quarantine(q)) if q.addresses == [address]), "{held:?}");
        assert!(!held.iter().any(|change| matches!(change, Change::Pod(_))), "as peers they are unknown: {held:?}");
        store.apply(Kind::Namespace, "x", &namespace("x", "a"));
        let free = changes(&mut store);
        assert!(matches!(free.first(), Some(Change::Namespace(_))), "{free:?}");
        assert_eq!(free.iter().filter(|change| matches!(change, Change::Pod(_))).count(), 2);
        assert!(free.iter().any(|change| matches!(change, Change::QuarantineRemoved(holder) if holder == "pod x/a")));
        assert!(!store.must_list_pods());
    }

    #[test]
    fn a_namespace_that_goes_before_its_pods_leaves_them_unknown() {
        let mut store = store();
        store.apply(Kind::Pod, "x/a", &pod("a", "n1", "10.0.0.1"));
        store.apply(Kind::Pod, "x/b", &pod("b", "n2", "10.0.0.2"));
        changes(&mut store);
        store.remove(Kind::Namespace, "x");
        let unknown = changes(&mut store);
        assert_eq!(unknown.iter().filter(|change| matches!(change, Change::PodRemoved(_))).count(), 2, "{unknown:?}");
        assert!(unknown.iter().any(|change| matches!(change, Change::Quarantine(q) if q.addresses.len() == 1)), "{unknown:?}");
        // It comes back: what is here is known, the others must be listed, and the list must not pass over them.
        store.apply(Kind::Namespace, "x", &namespace("x", "b"));
        let back = changes(&mut store);
        assert!(back.iter().any(|change| matches!(change, Change::Pod(pod) if pod.key.name == "a")), "{back:?}");
        assert!(store.must_list_pods() && !store.must_list_pods());
        store.begin(Kind::Pod);
        store.apply(Kind::Pod, "x/b", &pod("b", "n2", "10.0.0.2"));
        store.end(Kind::Pod);
        let listed = changes(&mut store);
        assert!(listed.iter().any(|change| matches!(change, Change::Pod(pod) if pod.key.name == "b")), "{listed:?}");
        assert!(listed.iter().any(|change| matches!(change, Change::PodRemoved(key) if key.name == "a")), "{listed:?}");
    }

    #[test]
    fn a_policy_that_cannot_be_read_isolates_and_is_reported() {
        let mut store = store();
        store.apply(Kind::NetworkPolicy, "x/p", &policy(json!({"podSelector": 7, "ingress": [{}]})));
        let SourceUpdate { changes, problems, .. } = store.news().unwrap();
        let [Change::Policy(policy_read)] = changes.as_slice() else { panic!("{changes:?}") };
        assert!(policy_read.target.is_everything(), "{policy_read:?}");
        assert!(problems.found.iter().any(|p| p.contains("NetworkPolicy x/p") && p.contains("podSelector")), "{problems:?}");
        store.apply(Kind::NetworkPolicy, "x/p", &policy(json!({"podSelector": {}})));
        let solved = store.news().unwrap();
        assert!(solved.problems.found.is_empty() && solved.problems.solved.len() == problems.found.len(), "{solved:?}");
        assert_eq!(solved.faulty, BTreeMap::from([(ObjectKey::new("x", "p"), Vec::new())]));
        store.remove(Kind::NetworkPolicy, "x/p");
        assert!(matches!(store.news().unwrap().changes.as_slice(), [Change::PolicyRemoved(_)]));
    }
    #[test]
    fn an_unknown_pod_reaches_the_compiler_as_it_is() {
        let mut store = store();
        let mut unknown = pod("a", "n1", "10.0.0.1");
        unknown["metadata"]["labels"] = json!({"app": 7});
        store.apply(Kind::Pod, "x/a", &unknown);
        let SourceUpdate { changes, problems, .. } = store.news().unwrap();
        assert!(
            matches!(changes.as_slice(), [Change::Pod(pod)] if pod.is_unknown && pod.held_addresses().len() == 1),
            "{changes:?}"
        );
        assert!(problems.found.iter().any(|p| p.contains("Pod x/a") && p.contains("labels")), "{problems:?}");
        // Where it runs cannot be read: then it may run here.
        unknown["spec"]["nodeName"] = json!(7);
        store.apply(Kind::Pod, "x/a", &unknown);
        let moved = store.news().unwrap().changes;
        assert!(matches!(moved.as_slice(), [Change::Pod(pod)] if pod.placement == Placement::Somewhere), "{moved:?}");
        // An old spelling is an address like any other.
        store.apply(Kind::Pod, "x/b", &pod("b", "n1", "::ffff:10.0.0.2"));
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
            store.apply(Kind::NetworkPolicy, &format!("x/p{n}"), &broken);
        }
        assert_eq!(store.news().unwrap().problems.found.len(), 1000);
        store.apply(Kind::NetworkPolicy, "x/p", &policy(json!({"podSelector": 7})));
        let news = store.news().unwrap();
        assert_eq!((news.problems.found.len(), news.problems.solved.len(), news.faulty.len()), (1, 0, 1));
    }
}
