//! The kinds that are read, in one table: what each is called, how it is read, and how its objects become changes.
//!
//! A new kind is one file below `kinds`, with its wire structs, its lowering and its row, and one line in [`TABLE`]. The loader and
//! [`Snapshot::difference`] go by the table, and so does the agent, through [`removal`] and [`unreadable`].

mod autoscaler;
pub(super) mod namespace;
pub(super) mod network_policy;
pub(super) mod node;
pub(super) mod pod;
pub(super) mod service;
pub(super) mod workload;

use std::collections::BTreeMap;

use super::load::Reader;
use super::snapshot::Snapshot;
use super::tree::NodeId;
use crate::model::{Change, ObjectKey};

/// The kinds by family, in the order of their changes: what a pod needs comes before it.
static TABLE: [&[Kind]; 6] =
    [&namespace::KINDS, &node::KINDS, &network_policy::KINDS, &pod::KINDS, &workload::KINDS, &service::KINDS];

/// A kind of objects that is read.
pub(super) struct Kind {
    /// As in `kind`.
    pub name: &'static str,
    /// The API groups that serve it; the current one first. The core group has the empty name.
    pub groups: &'static [&'static str],
    /// Whether its objects are policies, or what policies are about.
    pub role: Role,
    /// The wire structs that list every field of the kind, so that an unknown field is a fault.
    pub strict: &'static [&'static str],
    /// Decodes and lowers an object, reports its faults, and adds it to what was read.
    pub read: fn(&mut Reader<'_, '_, '_>, NodeId, &'static Self),
    /// How its objects become changes; `None` when the compiler takes none of them.
    pub changes: Option<Changes>,
}

/// What objects of a kind are in a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// They allow or deny. An apiVersion other than this one is an error, and a document without any is read all the same, to find
    /// its other faults.
    Policy {
        /// The only apiVersion that is read.
        api_version: &'static str,
    },
    /// They are what policies are about. Every version of their groups is read, because what is read of them is the same in all.
    Subject,
}

impl Kind {
    /// Whether objects of this apiVersion are read.
    pub(super) fn is_served_as(&self, api_version: &str) -> bool {
        match self.role {
            Role::Policy { api_version: only } => api_version == only,
            Role::Subject => self.groups.contains(&group_of(api_version)),
        }
    }

    /// The only apiVersion that is read, of kinds whose objects are policies.
    pub(super) fn policy_version(&self) -> Option<&'static str> {
        match self.role {
            Role::Policy { api_version } => Some(api_version),
            Role::Subject => None,
        }
    }

    /// Whether its objects are policies.
    pub(super) fn is_policy(&self) -> bool {
        self.policy_version().is_some()
    }
}

/// The API group of an apiVersion; the core group has the empty name.
pub(super) fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// All kinds, in the order of the table.
pub(super) fn all() -> impl Iterator<Item = &'static Kind> {
    TABLE.iter().flat_map(|family| family.iter())
}

/// The kind of this name.
pub(super) fn named(name: &str) -> Option<&'static Kind> {
    all().find(|kind| kind.name == name)
}

/// The kind that reads objects of this apiVersion and kind. A policy without apiVersion is read too.
pub(super) fn reading(api_version: &str, name: &str) -> Option<&'static Kind> {
    named(name).filter(|kind| kind.is_served_as(api_version) || (kind.is_policy() && api_version.is_empty()))
}

/// Whether an unknown field is a fault in the wire struct of this name.
pub(super) fn is_strict(wire: &str) -> bool {
    all().any(|kind| kind.strict.contains(&wire))
}

/// A kind whose objects the compiler takes.
pub(super) trait Compiled: 'static {
    /// What identifies an object.
    type Key: Ord + Clone + 'static;
    /// The model value.
    type Object: PartialEq + Clone + 'static;

    /// Its place in snapshots.
    fn objects(snapshot: &Snapshot) -> &BTreeMap<Self::Key, Self::Object>;
    /// Its place in a snapshot that is used up.
    fn into_objects(snapshot: Snapshot) -> BTreeMap<Self::Key, Self::Object>;
    /// The key of an object by its namespace and name.
    fn key(key: ObjectKey) -> Self::Key;
    /// The change that adds or replaces an object.
    fn present(object: Self::Object) -> Change;
    /// The change that removes an object.
    fn removed(key: Self::Key) -> Change;
    /// The fail-closed form of an object of which nothing but the key can be read (S1.20), and its effect in words.
    fn unreadable(_key: ObjectKey) -> Option<(Change, &'static str)> {
        None
    }
}

/// The functions of [`Compiled`] that the rest of the crate calls, as values.
pub(super) struct Changes {
    all: fn(&Snapshot) -> Box<dyn Iterator<Item = Change> + '_>,
    into_all: fn(Snapshot) -> Vec<Change>,
    difference: fn(&Snapshot, &Snapshot, &mut Vec<Change>),
    removal: fn(ObjectKey) -> Change,
    unreadable: fn(ObjectKey) -> Option<(Change, &'static str)>,
}

impl Changes {
    pub(super) const fn of<K: Compiled>() -> Self {
        Self {
            all: |snapshot| Box::new(K::objects(snapshot).values().cloned().map(K::present)),
            into_all: |snapshot| K::into_objects(snapshot).into_values().map(K::present).collect(),
            difference: differ::<K>,
            removal: |key| K::removed(K::key(key)),
            unreadable: K::unreadable,
        }
    }
}

fn differ<K: Compiled>(before: &Snapshot, after: &Snapshot, out: &mut Vec<Change>) {
    let (before, after) = (K::objects(before), K::objects(after));
    let is_different = |(key, object): &(&K::Key, &K::Object)| before.get(*key) != Some(*object);
    out.extend(after.iter().filter(is_different).map(|(_, object)| K::present(object.clone())));
    out.extend(before.keys().filter(|key| !after.contains_key(*key)).cloned().map(K::removed));
}

/// The changes that turn one snapshot into another.
pub(super) fn difference(before: &Snapshot, after: &Snapshot) -> Vec<Change> {
    let mut out = Vec::new();
    for changes in all().filter_map(|kind| kind.changes.as_ref()) {
        (changes.difference)(before, after, &mut out);
    }
    out
}

/// Everything in a snapshot as changes.
pub(super) fn changes(snapshot: &Snapshot) -> impl Iterator<Item = Change> + '_ {
    all().filter_map(|kind| kind.changes.as_ref()).flat_map(|changes| (changes.all)(snapshot))
}

/// The objects of one kind as changes.
pub(super) fn into_changes_of(snapshot: Snapshot, api_version: &str, kind: &str) -> Vec<Change> {
    changes_of(api_version, kind).map(|changes| (changes.into_all)(snapshot)).unwrap_or_default()
}

fn changes_of(api_version: &str, kind: &str) -> Option<&'static Changes> {
    reading(api_version, kind)?.changes.as_ref()
}

/// The change that removes an object of this apiVersion and kind; `None` when the compiler takes no objects of the kind.
#[must_use]
pub fn removal(api_version: &str, kind: &str, key: ObjectKey) -> Option<Change> {
    changes_of(api_version, kind).map(|changes| (changes.removal)(key))
}

/// The fail-closed form of an object of which nothing but the key can be read (S1.20), and its effect in words; `None` for kinds that
/// need none.
#[must_use]
pub fn unreadable(api_version: &str, kind: &str, key: ObjectKey) -> Option<(Change, &'static str)> {
    changes_of(api_version, kind).and_then(|changes| (changes.unreadable)(key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::manifest::{Loader, Syntax};

    const OBJECTS: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: x}}
---
{apiVersion: v1, kind: Node, metadata: {name: n1}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: x}, spec: {podSelector: {}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x}, spec: {containers: [{name: c}]}}
";

    fn snapshot(text: &str) -> Snapshot {
        let mut loader = Loader::new(Syntax::Strict);
        loader.read("", text.as_bytes());
        loader.finish()
    }

    #[test]
    fn each_kind_is_in_the_table_once() {
        let names: BTreeSet<&str> = all().map(|kind| kind.name).collect();
        assert_eq!(names.len(), all().count());
        assert!(reading("extensions/v1beta1", "Deployment").is_some() && reading("batch/v1", "Deployment").is_none());
        assert!(reading("", "NetworkPolicy").is_some() && reading("networking.k8s.io/v1beta1", "NetworkPolicy").is_none());
    }

    #[test]
    fn changes_come_in_the_order_of_the_table_and_lead_there_and_back() {
        let (empty, full) = (Snapshot::default(), snapshot(OBJECTS));
        let there: Vec<Change> = full.changes().collect();
        assert!(
            matches!(there.as_slice(), [Change::Namespace(_), Change::Node(_), Change::Policy(_), Change::Pod(_)]),
            "{there:?}"
        );
        assert_eq!(empty.difference(&full), there);
        let key = |name: &str| ObjectKey::new("x", name);
        let back = [
            Change::NamespaceRemoved("x".to_owned()),
            Change::NodeRemoved("n1".to_owned()),
            Change::PolicyRemoved(key("p")),
            Change::PodRemoved(key("a")),
        ];
        assert_eq!(full.difference(&empty), back);
        assert!(full.difference(&snapshot(OBJECTS)).is_empty());
    }

    #[test]
    fn changes_of_one_kind_are_found_by_its_apiversion_and_name() {
        let pods = snapshot(OBJECTS).into_changes_of("v1", "Pod");
        assert!(matches!(pods.as_slice(), [Change::Pod(_)]), "{pods:?}");
        assert!(snapshot(OBJECTS).into_changes_of("projectcalico.org/v3", "NetworkPolicy").is_empty());
        assert_eq!(removal("v1", "Node", ObjectKey::new("", "n")), Some(Change::NodeRemoved("n".to_owned())));
        assert_eq!(removal("apps/v1", "Deployment", ObjectKey::new("x", "d")), None);
        let closed = unreadable("networking.k8s.io/v1", "NetworkPolicy", ObjectKey::new("x", "p"));
        assert!(
            matches!(closed, Some((Change::Policy(policy), _)) if policy.target.is_everything() && policy.ingress == Some(vec![]))
        );
    }
}
