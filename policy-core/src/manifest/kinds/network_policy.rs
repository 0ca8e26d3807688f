//! `networking.k8s.io/v1 NetworkPolicy` (S1.1 to S1.20). Its lowering is in `lower::policy`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Changes, Compiled, Kind, Role};
use crate::diagnostic::ObjectRef;
use crate::manifest::load::{Reader, Source};
use crate::manifest::lower::{self, Report};
use crate::manifest::snapshot::Snapshot;
use crate::manifest::tree::NodeId;
use crate::manifest::wire::{IntOrString, LabelSelector, List, ObjectMeta};
use crate::model::{Change, Direction, ObjectKey, Peers, Policy, Ports, Rule, Selector};

pub(super) static KINDS: [Kind; 1] = [Kind {
    name: "NetworkPolicy",
    groups: &["networking.k8s.io"],
    role: Role::Policy { api_version: "networking.k8s.io/v1" },
    strict: &[
        "NetworkPolicy",
        "NetworkPolicySpec",
        "IngressRule",
        "EgressRule",
        "NetworkPolicyPort",
        "NetworkPolicyPeer",
        "IPBlock",
        "LabelSelector",
        "LabelSelectorRequirement",
    ],
    read,
    changes: Some(Changes::of::<Policies>()),
}];

/// The annotation with the lint rules that do not apply to a policy.
pub const IGNORE: &str = "netpol.io/ignore";

/// `networking.k8s.io/v1 NetworkPolicy`.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NetworkPolicy {
    pub api_version: IgnoredAny,
    pub kind: IgnoredAny,
    pub metadata: ObjectMeta,
    pub spec: NetworkPolicySpec,
    /// Removed from the API; old dumps still hold it.
    pub status: IgnoredAny,
}

/// `NetworkPolicySpec`.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NetworkPolicySpec {
    pub pod_selector: LabelSelector,
    pub policy_types: List<String>,
    pub ingress: List<IngressRule>,
    pub egress: List<EgressRule>,
}

/// `NetworkPolicyIngressRule`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct IngressRule {
    pub from: List<NetworkPolicyPeer>,
    pub ports: List<NetworkPolicyPort>,
}

/// `NetworkPolicyEgressRule`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct EgressRule {
    pub to: List<NetworkPolicyPeer>,
    pub ports: List<NetworkPolicyPort>,
}

/// `NetworkPolicyPort`.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NetworkPolicyPort {
    pub protocol: Option<String>,
    pub port: Option<IntOrString>,
    pub end_port: Option<i64>,
}

/// `NetworkPolicyPeer`.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NetworkPolicyPeer {
    pub pod_selector: Option<LabelSelector>,
    pub namespace_selector: Option<LabelSelector>,
    pub ip_block: Option<IPBlock>,
}

/// `IPBlock`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct IPBlock {
    pub cidr: String,
    pub except: List<String>,
}

fn read(reader: &mut Reader<'_, '_, '_>, node: NodeId, _: &'static Kind) {
    let (wire, unread) = reader.decode::<NetworkPolicy>(node);
    let key = reader.key(&wire.metadata, node);
    if reader.loader.source == Source::Stored {
        reader.loader.stored.insert(key, lower::stored(&wire));
        return;
    }
    let mut report = Report::new(&unread);
    let tree = reader.tree;
    let line_of = |path: &str| tree.position(tree.locate(node, path)).line;
    let policy = lower::lower_policy(
        &wire,
        key.clone(),
        Some(reader.origin(node)),
        reader.loader.syntax,
        reader.loader.stored.get(&key),
        &line_of,
        &mut report,
    );
    let (errors, warnings) = (report.errors, report.warnings);
    let object = ObjectRef::namespaced("NetworkPolicy", &key.namespace, &key.name);
    reader.tell(node, &object, unread, errors, warnings);
    if reader.is_hook(node, &policy.key) {
        return;
    }
    let content = (&policy.target, Direction::ALL.map(|direction| content(policy.rules(direction))));
    if reader.counts(&object, node, &content) {
        let annotations = tree.field(node, "metadata").and_then(|metadata| tree.field(metadata, "annotations"));
        match annotations.and_then(|annotations| tree.text(annotations, IGNORE)).map(str::to_owned) {
            Some(text) => reader.assembly().ignores.insert(key.clone(), text),
            None => reader.assembly().ignores.remove(&key),
        };
        reader.assembly().policies.insert(key, policy);
    }
}

/// Rules without their lines.
fn content(rules: Option<&[Rule]>) -> Option<Vec<(&Peers, &Ports)>> {
    rules.map(|rules| rules.iter().map(|rule| (&rule.peers, &rule.ports)).collect())
}

struct Policies;

impl Compiled for Policies {
    type Key = ObjectKey;
    type Object = Policy;

    fn objects(snapshot: &Snapshot) -> &BTreeMap<ObjectKey, Policy> {
        &snapshot.policies
    }

    fn into_objects(snapshot: Snapshot) -> BTreeMap<ObjectKey, Policy> {
        snapshot.policies
    }

    fn key(key: ObjectKey) -> ObjectKey {
        key
    }

    fn present(object: Policy) -> Change {
        Change::Policy(object)
    }

    fn removed(key: ObjectKey) -> Change {
        Change::PolicyRemoved(key)
    }

    fn unreadable(key: ObjectKey) -> Option<(Change, &'static str)> {
        let policy =
            Policy { key, origin: None, target: Selector::everything(), ingress: Some(Vec::new()), egress: Some(Vec::new()) };
        Some((Change::Policy(policy), "it isolates every pod of its namespace and allows nothing"))
    }
}
