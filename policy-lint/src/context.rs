//! What checks ask: the objects, the graph, and what is known of pods.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use policy_core::diagnostic::rules::objects::UNDECLARED_NAMESPACE;
use policy_core::diagnostic::{Diagnostic, Edit, ObjectRef, Place, Position, Related, Rule};
use policy_core::graph::{AllowGraph, GroupId, PodId, PolicyId};
use policy_core::manifest::{Makes, Snapshot};
use policy_core::model::{Direction, NAME_LABEL, NamespaceScope, ObjectKey, Peer, Peers, Pod, Policy, Selector};
use policy_core::proof::{HalfOpen, Redundancies, RuleAt, half_open, isolated, redundancies};

use crate::openings::{Opening, PolicySet};

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
    openings: OnceCell<BTreeMap<&'a ObjectKey, Vec<Opening<'a>>>>,
    /// By [`Direction`].
    policy_sets: [OnceCell<Vec<PolicySet<'a>>>; 2],
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
            openings: OnceCell::new(),
            policy_sets: [OnceCell::new(), OnceCell::new()],
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

    /// Whether all policies of a namespace are known: no other engine has policies that may concern it, and everything could be read. Says
    /// once what cannot be checked.
    #[must_use]
    pub fn knows_policies_of(&self, namespace: &str) -> bool {
        let mut foreign = self.snapshot.foreign.iter().filter(|foreign| !foreign.is_hook);
        let is_foreign = foreign.any(|foreign| foreign.namespace.as_deref().is_none_or(|own| own == namespace));
        let is_partial = self.is_unknown_anywhere || !self.snapshot.unread.is_empty() || !self.snapshot.partial_lists.is_empty();
        if is_foreign || is_partial {
            let why = if is_foreign { "other kinds of policies may concern it" } else { "not all policies are in the input" };
            self.gaps
                .borrow_mut()
                .insert(format!("what the pods of namespace `{namespace}` may do is not checked, because {why}"));
        }
        !is_foreign && !is_partial
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

    /// What the policies of a set allow by address, in the order of their names and rules.
    pub fn openings(&self, set: &PolicySet<'a>, direction: Direction) -> Vec<&Opening<'a>> {
        let all = self.openings.get_or_init(|| self.policies().map(|policy| (&policy.key, Opening::of(policy))).collect());
        let of_set = set.policies.iter().filter_map(|policy| all.get(&policy.key)).flatten();
        of_set.filter(|opening| opening.direction == direction).collect()
    }

    /// The policies that isolate the same pods for a direction, and those of namespaces without pods that would isolate the same ones.
    pub fn policy_sets(&self, direction: Direction) -> &[PolicySet<'a>] {
        let [egress, ingress] = &self.policy_sets;
        let cell = if direction == Direction::Egress { egress } else { ingress };
        cell.get_or_init(|| {
            let of_pods = isolated(self.graph, direction).into_iter().map(|found| {
                let policies = found.policies.iter().filter_map(|policy| self.policy(*policy)).collect();
                PolicySet { policies, groups: found.groups }
            });
            of_pods.filter(|set: &PolicySet<'_>| !set.policies.is_empty()).chain(self.sets_without_pods(direction)).collect()
        })
    }

    /// In a namespace without pods, the policies with one selector, with those that select every pod.
    fn sets_without_pods(&self, direction: Direction) -> Vec<PolicySet<'a>> {
        let mut by_namespace: BTreeMap<&str, BTreeMap<&Selector, Vec<&'a Policy>>> = BTreeMap::new();
        let isolating = self.policies().filter(|policy| policy.rules(direction).is_some());
        for policy in isolating.filter(|policy| self.pods_in(&policy.key.namespace).is_empty()) {
            by_namespace.entry(&policy.key.namespace).or_default().entry(&policy.target).or_default().push(policy);
        }
        let mut out = Vec::new();
        for by_target in by_namespace.values() {
            let of_all: Vec<&Policy> = by_target
                .iter()
                .filter(|(target, _)| target.is_everything())
                .flat_map(|(_, policies)| policies)
                .copied()
                .collect();
            for (target, own) in by_target {
                let wider: &[&Policy] = if target.is_everything() { &[] } else { &of_all };
                let mut policies: Vec<&Policy> = own.iter().chain(wider).copied().collect();
                policies.sort_by_key(|policy| &policy.key);
                out.push(PolicySet { policies, groups: Vec::new() });
            }
        }
        out
    }

    /// The policy of the input.
    #[must_use]
    pub fn policy(&self, id: PolicyId) -> Option<&'a Policy> {
        let (namespace, name) = self.graph.policy_name(id);
        self.snapshot.policies.get(&ObjectKey::new(namespace, name))
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

    /// The group of a pod; `None` if it is no endpoint.
    #[must_use]
    pub fn group_of(&self, pod: &Pod) -> Option<GroupId> {
        self.graph.pod(&pod.key.namespace, &pod.key.name).and_then(|pod| self.graph.group_of(pod))
    }

    /// A pod as users name it.
    #[must_use]
    pub fn pod_text(&self, pod: PodId) -> String {
        let (namespace, name) = self.graph.pod_name(pod);
        self.pod(pod).map_or_else(|| format!("{namespace}/{name}"), workload_text)
    }

    /// The pod of the input.
    #[must_use]
    pub fn pod(&self, id: PodId) -> Option<&'a Pod> {
        let (namespace, name) = self.graph.pod_name(id);
        self.snapshot.pods.get(&ObjectKey::new(namespace, name))
    }

    /// The first pod of some groups as users name it.
    #[must_use]
    pub fn example_of(&self, groups: &[GroupId]) -> Option<String> {
        let pods = self.graph.pods_of(*groups.first()?);
        pods.min_by_key(|pod| self.graph.pod_name(*pod)).map(|pod| self.pod_text(pod))
    }

    /// Another place that a finding is about.
    #[must_use]
    pub fn related(&self, policy: &ObjectKey, path: &str, message: &str) -> Related {
        let object = ObjectRef::namespaced("NetworkPolicy", &policy.namespace, &policy.name);
        Related { message: message.to_owned(), object: Some(object), place: self.place(policy, path) }
    }

    /// A policy as users name it.
    #[must_use]
    pub fn policy_text(&self, policy: PolicyId) -> String {
        let (namespace, name) = self.graph.policy_name(policy);
        format!("{namespace}/{name}")
    }
}

/// The workload of a pod, as users name it.
fn workload_text(pod: &Pod) -> String {
    let name = pod.owner.as_ref().map_or(pod.key.name.as_str(), |owner| owner.name.as_str());
    format!("{}/{name}", pod.key.namespace)
}

/// The workloads of some pods, as users name them: so many of them, and how many others there are.
#[must_use]
pub fn pods_text(pods: &[&Pod], most: usize) -> String {
    let workloads: BTreeSet<String> = pods.iter().map(|pod| workload_text(pod)).collect();
    named(&workloads.into_iter().collect::<Vec<_>>(), most)
}

/// Names in words: so many of them, and how many others there are.
#[must_use]
pub fn named(names: &[String], most: usize) -> String {
    match names.len().saturating_sub(most) {
        0 => names.join(", "),
        1 if most > 0 => names.join(", "),
        others => format!("{} and {others} others", names.iter().take(most).cloned().collect::<Vec<_>>().join(", ")),
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
