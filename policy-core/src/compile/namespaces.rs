//! Namespaces, and which namespace selectors match them.

use smallvec::SmallVec;

use super::Compiler;
use crate::graph::{AskedKeys, LabelSet, NamespaceId, NamespaceRecord, ScopeId, Symbol, TemplateId, TermIndex};
use crate::model::{Labels, Namespace};

impl Compiler {
    pub(super) fn apply_namespace(&mut self, namespace: &Namespace) {
        let id = self.acquire_namespace(&namespace.name);
        self.relabel_namespace(id, &namespace.labels);
        if std::mem::replace(&mut self.graph.namespaces.data_mut(id).is_declared, true) {
            self.graph.namespaces.release(id);
        }
    }

    /// What is left, while something refers to the namespace, is what S1.36 assumes.
    pub(super) fn remove_namespace(&mut self, name: &str) {
        let Some(id) = self.graph.namespace(name) else { return };
        self.relabel_namespace(id, &Namespace::assumed(name.to_owned()).labels);
        if std::mem::replace(&mut self.graph.namespaces.data_mut(id).is_declared, false) {
            self.graph.namespaces.release(id);
        }
    }

    /// One more use of the namespace of this name, made with the labels of S1.36 when it is new.
    pub(super) fn acquire_namespace(&mut self, name: &str) -> NamespaceId {
        if let Some(id) = self.graph.namespace(name) {
            self.graph.namespaces.retain(id);
            return id;
        }
        let record = NamespaceRecord {
            is_declared: false,
            labels: self.acquire_labels(&Labels::new()),
            groups: SmallVec::new(),
            asked: AskedKeys::default(),
            terms: TermIndex::default(),
            scopes: SmallVec::new(),
        };
        let id = self.graph.namespaces.insert(name.into(), record);
        self.enter_namespace(id);
        self.relabel_namespace(id, &Namespace::assumed(name.to_owned()).labels);
        id
    }

    /// Frees namespaces without object, pods, policies and terms.
    pub(super) fn sweep_namespaces(&mut self) {
        for namespace in self.graph.namespaces.unused() {
            self.set_scopes(namespace, Vec::new());
            let Some((_, record)) = self.graph.namespaces.forget(namespace) else { continue };
            for pair in self.graph.labels.key(record.labels).pairs() {
                self.indexes.namespaces.remove(*pair, namespace);
            }
            self.graph.labels.release(record.labels);
        }
    }

    /// Puts a new namespace, whose labels are empty, among those that scopes are matched with.
    fn enter_namespace(&mut self, namespace: NamespaceId) {
        let none = LabelSet::default();
        let matching: Vec<ScopeId> = self.scopes_for(&none);
        self.set_scopes(namespace, matching);
    }

    fn scopes_for(&self, labels: &LabelSet) -> Vec<ScopeId> {
        let wanted = labels.pairs().iter().filter_map(|pair| self.indexes.scopes.get(pair)).flatten();
        let candidates = wanted.chain(&self.indexes.other_scopes).copied();
        let mut scopes: Vec<ScopeId> =
            candidates.filter(|s| self.graph.selectors.key(*self.graph.scopes.key(*s)).matches(labels)).collect();
        scopes.sort_unstable();
        scopes.dedup();
        scopes
    }

    fn relabel_namespace(&mut self, namespace: NamespaceId, labels: &Labels) {
        let new = self.acquire_labels(labels);
        let old = self.graph.namespaces.data(namespace).labels;
        if new == old {
            self.graph.labels.release(new);
            return;
        }
        for pair in self.graph.labels.key(old).pairs() {
            self.indexes.namespaces.remove(*pair, namespace);
        }
        for pair in self.graph.labels.key(new).pairs() {
            self.indexes.namespaces.insert(*pair, namespace);
        }
        self.graph.namespaces.data_mut(namespace).labels = new;
        self.graph.labels.release(old);
        let matching = self.scopes_for(self.graph.labels.key(new));
        self.set_scopes(namespace, matching);
    }

    /// Makes exactly these scopes match the namespace, and brings its groups' terms up to date.
    fn set_scopes(&mut self, namespace: NamespaceId, matching: Vec<ScopeId>) {
        let record = self.graph.namespaces.data_mut(namespace);
        let before = std::mem::replace(&mut record.scopes, matching.iter().copied().collect());
        let groups = record.groups.clone();
        let lost: Vec<ScopeId> = before.iter().filter(|s| !matching.contains(s)).copied().collect();
        let won: Vec<ScopeId> = matching.iter().filter(|s| !before.contains(s)).copied().collect();
        if lost.is_empty() && won.is_empty() {
            return;
        }
        for group in groups {
            self.touch_group(group);
        }
        for (scopes, is_match) in [(&lost, false), (&won, true)] {
            for scope in scopes {
                let matched = &mut self.graph.scopes.data_mut(*scope).namespaces;
                let index = crate::graph::index_of(namespace);
                if is_match {
                    matched.insert(index)
                } else {
                    matched.remove(index)
                };
            }
        }
        self.regroup_for(namespace, lost.iter().chain(&won));
        let groups = self.graph.namespaces.data(namespace).groups.clone();
        for (scopes, is_match) in [(lost, false), (won, true)] {
            for term in scopes.into_iter().flat_map(|scope| self.graph.scopes.data(scope).terms.clone()).collect::<Vec<_>>() {
                for group in &groups {
                    if !is_match {
                        self.part(term, *group);
                    } else if self.term_matches(term, *group) {
                        self.join(term, *group);
                    }
                }
            }
        }
    }

    /// Groups the pods of a namespace anew where these scopes ask for a key that they have.
    fn regroup_for<'a>(&mut self, namespace: NamespaceId, scopes: impl Iterator<Item = &'a ScopeId>) {
        let keys: Vec<Symbol> = scopes.flat_map(|scope| self.graph.scopes.data(*scope).asked.keys()).collect();
        if keys.is_empty() {
            return;
        }
        let groups = self.graph.namespaces.data(namespace).groups.iter();
        let templates = groups.flat_map(|group| &self.graph.groups.data(*group).templates).copied();
        let labels = |template: &TemplateId| self.graph.labels.key(self.graph.templates.key(*template).labels);
        let has_key = |template: &TemplateId| keys.iter().any(|key| labels(template).value(*key).is_some());
        for template in templates.filter(has_key).collect::<Vec<_>>() {
            self.regroup(template);
        }
    }
}
