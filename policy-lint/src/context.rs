//! What checks ask: the objects, the graph, and what is known of pods.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use policy_core::diagnostic::rules::objects::UNDECLARED_NAMESPACE;
use policy_core::diagnostic::{Diagnostic, Edit, ObjectRef, Place, Position, Rule};
use policy_core::graph::{AllowGraph, PodId, PolicyId};
use policy_core::manifest::{Makes, Snapshot};
use policy_core::model::{Direction, NAME_LABEL, NamespaceScope, ObjectKey, Peer, Peers, Pod, Policy, Selector};
use policy_core::proof::{HalfOpen, Redundancies, RuleAt, half_open, redundancies};

/// The input of every check.
pub struct Context<'a> {
    /// The objects.
    pub snapshot: &'a Snapshot,
    /// What they compile to.
    pub graph: &'a AllowGraph,
    /// Pods of every kind and phase.
    pods: BTreeMap<&'a str, Vec<&'a Pod>>,
    /// Namespaces that no object declares.
    undeclared: BTreeSet<&'a str>,
    /// Whether something makes pods or labels that are not known, in every namespace.
    is_unknown_anywhere: bool,
    /// The same, in these namespaces.
    unknown: BTreeSet<&'a str>,
    /// What could not be checked, and why.
    gaps: RefCell<BTreeSet<String>>,
    redundancies: OnceCell<Redundancies>,
    half_open: OnceCell<Vec<HalfOpen>>,
}

/// One entry of `from` or `to`.
#[derive(Clone, Copy)]
pub struct PeerAt<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The direction of the rule.
    pub direction: Direction,
    /// The place of the rule.
    pub rule: usize,
    /// The place of the peer.
    pub at: usize,
    /// The peer.
    pub peer: &'a Peer,
}

impl PeerAt<'_> {
    /// Its path in the policy.
    #[must_use]
    pub fn path(&self) -> String {
        format!("spec.{}[{}].{}[{}]", self.direction, self.rule, list(self.direction), self.at)
    }
}

/// The field with the peers of a rule.
#[must_use]
pub fn list(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "to",
        Direction::Ingress => "from",
    }
}

impl<'a> Context<'a> {
    /// Prepares the checks of an input. Cost: linear in the pods.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot, graph: &'a AllowGraph) -> Self {
        let mut pods: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
        for pod in snapshot.pods.values() {
            pods.entry(&pod.key.namespace).or_default().push(pod);
        }
        let assumed = snapshot.diagnostics.iter().filter(|found| found.rule == &UNDECLARED_NAMESPACE);
        let undeclared = assumed.filter_map(|found| found.object.as_ref()?.name.as_deref()).collect();
        let makers = || snapshot.unknown_pods().filter(|maker| maker.makes != Makes::Replicas);
        Self {
            snapshot,
            graph,
            pods,
            undeclared,
            is_unknown_anywhere: makers().any(|maker| maker.makes == Makes::Objects || maker.namespace.is_empty()),
            unknown: makers().map(|maker| maker.namespace.as_str()).collect(),
            gaps: RefCell::default(),
            redundancies: OnceCell::new(),
            half_open: OnceCell::new(),
        }
    }

    /// What could not be checked, in sentences.
    #[must_use]
    pub fn gaps(self) -> BTreeSet<String> {
        self.gaps.into_inner()
    }

    /// The policies, sorted by namespace and name.
    pub fn policies(&self) -> impl Iterator<Item = &'a Policy> + use<'a> {
        self.snapshot.policies.values()
    }

    /// Every peer of every policy.
    pub fn peers(&self) -> impl Iterator<Item = PeerAt<'a>> + use<'a> {
        self.policies().flat_map(|policy| {
            Direction::ALL.into_iter().flat_map(move |direction| {
                let rules = policy.rules(direction).unwrap_or_default().iter().enumerate();
                rules.flat_map(move |(rule, of_rule)| {
                    let peers: &[Peer] = if let Peers::Listed(peers) = &of_rule.peers { peers } else { &[] };
                    peers.iter().enumerate().map(move |(at, peer)| PeerAt { policy, direction, rule, at, peer })
                })
            })
        })
    }

    /// The pods of a namespace, of every kind and phase.
    #[must_use]
    pub fn pods_in(&self, namespace: &str) -> &[&'a Pod] {
        self.pods.get(namespace).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether the pods of a namespace are known: it has some, and nothing makes others that are not. Says once what cannot be checked.
    #[must_use]
    pub fn knows_pods_of(&self, namespace: &str) -> bool {
        let gap = if self.pods_in(namespace).is_empty() {
            Some(format!("the input has no workloads in namespace `{namespace}`, so selectors of its pods are not checked"))
        } else if self.is_unknown_anywhere || self.unknown.contains(namespace) {
            Some(format!(
                "the input has objects that make pods which are not known in namespace `{namespace}`, so selectors of its pods are not checked"
            ))
        } else {
            None
        };
        let is_known = gap.is_none();
        self.gaps.borrow_mut().extend(gap);
        is_known
    }

    /// The namespaces that a peer means; `None` if they are not known.
    #[must_use]
    pub fn namespaces(&self, policy: &'a Policy, scope: &'a NamespaceScope) -> Option<Vec<&'a str>> {
        let selector = match scope {
            NamespaceScope::Own => return Some(vec![&policy.key.namespace]),
            NamespaceScope::Matching(selector) => selector,
        };
        let asks_for_labels = selector.requirements().iter().any(|requirement| requirement.key != NAME_LABEL);
        if asks_for_labels && !self.undeclared.is_empty() {
            let names: Vec<&str> = self.undeclared.iter().copied().collect();
            self.gaps.borrow_mut().insert(format!(
                "the input has no Namespace object of {}, so selectors of namespaces by other labels than their names are not checked",
                names.join(", ")
            ));
            return None;
        }
        let all = self.snapshot.namespaces.values().filter(|namespace| selector.matches(&namespace.labels));
        Some(all.map(|namespace| namespace.name.as_str()).collect())
    }

    /// Whether the input has the Namespace objects of all its namespaces.
    #[must_use]
    pub fn knows_namespaces(&self) -> bool {
        self.undeclared.is_empty()
    }

    /// Whether everything is known that the selectors of a policy's peers ask for.
    #[must_use]
    pub fn knows_peers_of(&self, policy: &ObjectKey) -> bool {
        self.peers().filter(|at| at.policy.key == *policy).all(|at| {
            let Peer::Pods { namespaces, .. } = at.peer else { return true };
            let namespaces = self.namespaces(at.policy, namespaces);
            namespaces.is_some_and(|all| !all.is_empty() && all.iter().all(|namespace| self.knows_pods_of(namespace)))
        })
    }

    /// The policy in the graph.
    #[must_use]
    pub fn id(&self, policy: &Policy) -> Option<PolicyId> {
        self.graph.policy(&policy.key)
    }

    /// Whether a peer selects a pod of the graph by label; `None` if it is no selector.
    #[must_use]
    pub fn selects(&self, peer: &PeerAt<'_>) -> Option<bool> {
        let rule = RuleAt { policy: self.id(peer.policy)?, direction: peer.direction, index: peer.rule };
        self.graph.selected_by_peer(rule, peer.at).map(|groups| !groups.is_empty())
    }

    /// What could be removed.
    pub fn redundancies(&self) -> &Redundancies {
        self.redundancies.get_or_init(|| redundancies(self.graph))
    }

    /// Peers whose other side denies everything.
    pub fn half_open(&self) -> &[HalfOpen] {
        self.half_open.get_or_init(|| half_open(self.graph))
    }

    /// A finding about a policy, at the place of the field.
    #[must_use]
    pub fn finding(&self, rule: &'static Rule, policy: &ObjectKey, path: &str, message: String) -> Diagnostic {
        let object = ObjectRef::namespaced("NetworkPolicy", &policy.namespace, &policy.name);
        let place = self.place(policy, path);
        Diagnostic { place, ..Diagnostic::new(rule, message).about(object).at(path) }
    }

    /// The place of a field of a policy, or else of the policy.
    #[must_use]
    pub fn place(&self, policy: &ObjectKey, path: &str) -> Option<Place> {
        let object = ObjectRef::namespaced("NetworkPolicy", &policy.namespace, &policy.name);
        self.snapshot.places.nearest(&object, path).or_else(|| {
            let origin = self.snapshot.policies.get(policy)?.origin.as_ref()?;
            let position = Position { line: origin.line, column: 1, bytes: (0, 0) };
            Some(Place { file: origin.file.clone(), position: Some(position) })
        })
    }

    /// Whether a field of a policy is written.
    #[must_use]
    pub fn is_written(&self, policy: &ObjectKey, path: &str) -> bool {
        let object = ObjectRef::namespaced("NetworkPolicy", &policy.namespace, &policy.name);
        self.snapshot.places.exact(&object, path).is_some()
    }

    /// An edit that replaces the value of a field, or, with an empty text, removes an element of a list; `None` if it is not written.
    #[must_use]
    pub fn replacement(&self, policy: &ObjectKey, path: &str, text: &str) -> Option<Edit> {
        let object = ObjectRef::namespaced("NetworkPolicy", &policy.namespace, &policy.name);
        let place = self.snapshot.places.exact(&object, path)?;
        let bytes = place.position?.bytes;
        (bytes.1 > bytes.0).then(|| Edit { file: place.file, bytes, text: text.to_owned() })
    }

    /// A pod as users name it.
    #[must_use]
    pub fn pod_text(&self, pod: PodId) -> String {
        let (namespace, name) = self.graph.pod_name(pod);
        let key = ObjectKey::new(namespace, name);
        let owner = self.snapshot.pods.get(&key).and_then(|pod| pod.owner.as_ref());
        format!("{namespace}/{}", owner.map_or(name, |owner| owner.name.as_str()))
    }

    /// A policy as users name it.
    #[must_use]
    pub fn policy_text(&self, policy: PolicyId) -> String {
        let (namespace, name) = self.graph.policy_name(policy);
        format!("{namespace}/{name}")
    }
}

/// The path of a label of a selector, and of the only value that it asks for; `None` if it asks for several.
#[must_use]
pub fn path_of_label(context: &Context<'_>, policy: &ObjectKey, selector_path: &str, key: &str) -> Option<String> {
    let path = format!("{selector_path}.matchLabels.{key}");
    context.is_written(policy, &path).then_some(path)
}

/// The selector of a policy's pods or of a peer's pods, with its path.
pub struct SelectorAt<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The selector.
    pub selector: &'a Selector,
    /// Its path.
    pub path: String,
    /// Whether it selects namespaces, and not pods.
    pub is_of_namespaces: bool,
}

/// Every selector of every policy.
pub fn selectors<'a>(context: &Context<'a>) -> Vec<SelectorAt<'a>> {
    let mut out = Vec::new();
    for policy in context.policies() {
        let path = "spec.podSelector".to_owned();
        out.push(SelectorAt { policy, selector: &policy.target, path, is_of_namespaces: false });
    }
    for at in context.peers() {
        let Peer::Pods { namespaces, pods } = at.peer else { continue };
        if let NamespaceScope::Matching(selector) = namespaces {
            let path = format!("{}.namespaceSelector", at.path());
            out.push(SelectorAt { policy: at.policy, selector, path, is_of_namespaces: true });
        }
        let path = format!("{}.podSelector", at.path());
        out.push(SelectorAt { policy: at.policy, selector: pods, path, is_of_namespaces: false });
    }
    out
}
