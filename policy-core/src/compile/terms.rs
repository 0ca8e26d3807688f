//! Which terms match which groups, kept by indexes from label pairs.

use crate::graph::{
    CompiledSelector, GroupId, LabelSet, NamespaceId, PolicyId, Scope, ScopeId, SelectorId, Symbol, TermId, TermKey,
};
use crate::model::{NAME_LABEL, Selector};

use super::Compiler;

/// The label pairs to index a selector under; none when it asks for no certain value.
fn anchor_pairs(selector: &CompiledSelector) -> Vec<(Symbol, Symbol)> {
    selector.anchor().map(|(key, values)| values.iter().map(|v| (key, *v)).collect()).unwrap_or_default()
}

/// Whether a selector asks for one of no values, and so never matches anything.
fn is_contradiction(selector: &CompiledSelector) -> bool {
    selector.anchor().is_some_and(|(_, values)| values.is_empty())
}

impl Compiler {
    pub(super) fn acquire_selector(&mut self, selector: &Selector) -> SelectorId {
        let compiled = CompiledSelector::new(selector, &mut self.graph.strings);
        self.graph.selectors.acquire(compiled).0
    }

    /// One more use of the term over these namespaces and pods.
    pub(super) fn acquire_term(&mut self, namespaces: &TermScope<'_>, pods: &Selector) -> TermId {
        let scope = match namespaces {
            TermScope::Namespace(id) => Scope::Namespace(*id),
            TermScope::Matching(selector) => self.acquire_scope(selector),
        };
        let pods = self.acquire_selector(pods);
        let (term, is_new) = self.graph.terms.acquire(TermKey { scope, pods });
        if is_new {
            self.enter_term(term);
        } else {
            self.release_scope(scope);
            self.graph.selectors.release(pods);
        }
        term
    }

    /// A namespace selector that names one namespace is that namespace.
    fn acquire_scope(&mut self, selector: &Selector) -> Scope {
        if let [only] = selector.requirements()
            && only.key == NAME_LABEL
            && let crate::model::Operator::In(values) = &only.operator
            && values.len() == 1
            && let Some(name) = values.first()
        {
            return Scope::Namespace(self.namespace_id(name));
        }
        let selector = self.acquire_selector(selector);
        let (scope, is_new) = self.graph.scopes.acquire(selector);
        if is_new {
            self.enter_scope(scope, selector);
        } else {
            self.graph.selectors.release(selector);
        }
        Scope::Matching(scope)
    }

    fn release_scope(&mut self, scope: Scope) {
        if let Scope::Matching(scope) = scope {
            self.graph.scopes.release(scope);
        }
    }

    fn enter_scope(&mut self, scope: ScopeId, selector: SelectorId) {
        let pairs = anchor_pairs(self.graph.selectors.key(selector));
        let candidates: Vec<NamespaceId> = if is_contradiction(self.graph.selectors.key(selector)) {
            Vec::new()
        } else if pairs.is_empty() {
            self.indexes.other_scopes.push(scope);
            self.graph.namespaces.iter().map(|(id, _)| id).collect()
        } else {
            for pair in &pairs {
                self.indexes.scopes.entry(*pair).or_default().push(scope);
            }
            self.index_namespaces(&pairs);
            pairs.iter().filter_map(|pair| self.indexes.namespaces.get(pair)).flatten().copied().collect()
        };
        for namespace in candidates {
            let labels = self.graph.labels.key(self.graph.namespaces.get(namespace).labels);
            if self.graph.selectors.key(selector).matches(labels) {
                self.graph.scopes.data_mut(scope).namespaces.insert(crate::graph::index_of(namespace));
                self.graph.namespaces.get_mut(namespace).scopes.push(scope);
            }
        }
    }

    fn enter_term(&mut self, term: TermId) {
        let TermKey { scope, pods } = *self.graph.terms.key(term);
        let selector = self.graph.selectors.key(pods);
        let pairs = anchor_pairs(selector);
        let is_contradiction = is_contradiction(selector);
        let candidates: Vec<GroupId> = match scope {
            Scope::Namespace(namespace) => {
                let record = self.graph.namespaces.get_mut(namespace);
                if !is_contradiction {
                    record.terms.insert(&pairs, term);
                }
                record.groups.to_vec()
            }
            Scope::Matching(scope) => {
                self.graph.scopes.data_mut(scope).terms.push(term);
                if pairs.is_empty() && !is_contradiction {
                    self.graph.scopes.data_mut(scope).rest.push(term);
                    let namespaces = &self.graph.scopes.data(scope).namespaces;
                    namespaces
                        .iter()
                        .flat_map(|n| self.graph.namespaces.get(crate::graph::id_at(n)).groups.iter().copied())
                        .collect()
                } else {
                    for pair in &pairs {
                        self.indexes.terms.entry(*pair).or_default().push(term);
                    }
                    self.index_groups(&pairs);
                    pairs.iter().filter_map(|pair| self.indexes.groups.get(pair)).flatten().copied().collect()
                }
            }
        };
        for group in candidates {
            if self.term_matches(term, group) {
                self.join(term, group);
            }
        }
    }

    /// Makes sure that groups can be found by the key of these pairs. Linear in groups, once for each key that a selector
    /// ever asked for.
    fn index_groups(&mut self, pairs: &[(Symbol, Symbol)]) {
        let Some((key, _)) = pairs.first().copied().filter(|(key, _)| self.indexes.group_keys.insert(*key)) else { return };
        for (group, group_key, _) in self.graph.groups.iter() {
            if let Some(value) = self.graph.labels.key(group_key.labels).value(key) {
                self.indexes.groups.entry((key, value)).or_default().push(group);
            }
        }
    }

    /// The same for namespaces.
    fn index_namespaces(&mut self, pairs: &[(Symbol, Symbol)]) {
        let Some((key, _)) = pairs.first().copied().filter(|(key, _)| self.indexes.namespace_keys.insert(*key)) else { return };
        for (namespace, record) in self.graph.namespaces.iter() {
            if let Some(value) = self.graph.labels.key(record.labels).value(key) {
                self.indexes.namespaces.entry((key, value)).or_default().push(namespace);
            }
        }
    }

    fn term_matches(&self, term: TermId, group: GroupId) -> bool {
        let TermKey { scope, pods } = *self.graph.terms.key(term);
        let key = self.graph.groups.key(group);
        let is_in_scope = match scope {
            Scope::Namespace(namespace) => namespace == key.namespace,
            Scope::Matching(scope) => self.graph.scopes.data(scope).namespaces.contains(crate::graph::index_of(key.namespace)),
        };
        is_in_scope && self.graph.selectors.key(pods).matches(self.graph.labels.key(key.labels))
    }

    fn join(&mut self, term: TermId, group: GroupId) {
        self.graph.terms.data_mut(term).groups.insert(group);
        let terms = &mut self.graph.groups.data_mut(group).terms;
        if let Err(at) = terms.binary_search(&term) {
            terms.insert(at, term);
        }
        if !self.graph.terms.data(term).policies.is_empty() {
            self.dirty.insert(group);
        }
    }

    fn part(&mut self, term: TermId, group: GroupId) {
        self.graph.terms.data_mut(term).groups.remove(group);
        let terms = &mut self.graph.groups.data_mut(group).terms;
        if let Ok(at) = terms.binary_search(&term) {
            terms.remove(at);
        }
        if !self.graph.terms.data(term).policies.is_empty() {
            self.dirty.insert(group);
        }
    }

    /// Finds the terms of a new group.
    pub(super) fn enter_group(&mut self, group: GroupId) {
        let key = *self.graph.groups.key(group);
        let pairs = self.graph.labels.key(key.labels).pairs().to_vec();
        for pair in pairs.iter().filter(|(key, _)| self.indexes.group_keys.contains(key)) {
            self.indexes.groups.entry(*pair).or_default().push(group);
        }
        self.graph.namespaces.get_mut(key.namespace).groups.push(group);
        let namespace = self.graph.namespaces.get(key.namespace);
        let mut candidates: Vec<TermId> = namespace.terms.candidates(&pairs).collect();
        candidates.extend(pairs.iter().filter_map(|pair| self.indexes.terms.get(pair)).flatten());
        candidates.extend(namespace.scopes.iter().flat_map(|scope| &self.graph.scopes.data(*scope).rest));
        candidates.retain(|term| self.term_matches(*term, group));
        for term in candidates {
            self.join(term, group);
        }
        self.dirty.insert(group);
    }

    /// Takes a group that has no pods out of every term and index.
    pub(super) fn leave_group(&mut self, group: GroupId) {
        let key = *self.graph.groups.key(group);
        for term in std::mem::take(&mut self.graph.groups.data_mut(group).terms) {
            self.graph.terms.data_mut(term).groups.remove(group);
        }
        for pair in self.graph.labels.key(key.labels).pairs() {
            if let Some(groups) = self.indexes.groups.get_mut(pair) {
                groups.retain(|g| *g != group);
                if groups.is_empty() {
                    self.indexes.groups.remove(pair);
                }
            }
        }
        self.graph.namespaces.get_mut(key.namespace).groups.retain(|g| *g != group);
        self.dirty.remove(&group);
    }

    /// Puts a new namespace, whose labels are empty, among those that scopes are matched with.
    pub(super) fn enter_namespace(&mut self, namespace: NamespaceId) {
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

    pub(super) fn relabel_namespace(&mut self, namespace: NamespaceId, labels: LabelSet) {
        let (new, _) = self.graph.labels.acquire(labels);
        let old = self.graph.namespaces.get(namespace).labels;
        if new == old {
            self.graph.labels.release(new);
            return;
        }
        for pair in self.graph.labels.key(old).pairs() {
            if let Some(list) = self.indexes.namespaces.get_mut(pair) {
                list.retain(|n| *n != namespace);
                if list.is_empty() {
                    self.indexes.namespaces.remove(pair);
                }
            }
        }
        for pair in self.graph.labels.key(new).pairs() {
            if self.indexes.namespace_keys.contains(&pair.0) {
                self.indexes.namespaces.entry(*pair).or_default().push(namespace);
            }
        }
        self.graph.namespaces.get_mut(namespace).labels = new;
        self.graph.labels.release(old);
        let matching = self.scopes_for(self.graph.labels.key(new));
        self.set_scopes(namespace, matching);
    }

    /// Makes exactly these scopes match the namespace, and brings its groups' terms up to date.
    fn set_scopes(&mut self, namespace: NamespaceId, matching: Vec<ScopeId>) {
        let record = self.graph.namespaces.get_mut(namespace);
        let before = std::mem::replace(&mut record.scopes, matching.iter().copied().collect());
        let groups = record.groups.clone();
        let lost: Vec<ScopeId> = before.iter().filter(|s| !matching.contains(s)).copied().collect();
        let won: Vec<ScopeId> = matching.iter().filter(|s| !before.contains(s)).copied().collect();
        if lost.is_empty() && won.is_empty() {
            return;
        }
        for group in &groups {
            self.touch_group(*group);
        }
        for (scopes, is_member) in [(lost, false), (won, true)] {
            for scope in scopes {
                let state = self.graph.scopes.data_mut(scope);
                if is_member {
                    state.namespaces.insert(crate::graph::index_of(namespace));
                } else {
                    state.namespaces.remove(crate::graph::index_of(namespace));
                }
                let terms = state.terms.clone();
                for term in terms {
                    for group in &groups {
                        if !is_member {
                            self.part(term, *group);
                        } else if self.term_matches(term, *group) {
                            self.join(term, *group);
                        }
                    }
                }
            }
        }
    }

    /// The policy's target: its groups are decided again.
    pub(super) fn add_target(&mut self, term: TermId, policy: PolicyId) {
        self.graph.terms.data_mut(term).policies.push(policy);
        self.dirty.extend(self.graph.terms.data(term).groups.to_vec());
    }

    pub(super) fn remove_target(&mut self, term: TermId, policy: PolicyId) {
        self.graph.terms.data_mut(term).policies.retain(|p| *p != policy);
        self.dirty.extend(self.graph.terms.data(term).groups.to_vec());
    }

    /// Frees terms and scopes without users.
    pub(super) fn sweep_terms(&mut self) {
        for term in self.graph.terms.unused() {
            let TermKey { scope, pods } = *self.graph.terms.key(term);
            for group in self.graph.terms.data(term).groups.to_vec() {
                let terms = &mut self.graph.groups.data_mut(group).terms;
                if let Ok(at) = terms.binary_search(&term) {
                    terms.remove(at);
                }
            }
            let pairs = anchor_pairs(self.graph.selectors.key(pods));
            match scope {
                Scope::Namespace(namespace) => self.graph.namespaces.get_mut(namespace).terms.remove(&pairs, term),
                Scope::Matching(scope) => {
                    let state = self.graph.scopes.data_mut(scope);
                    state.terms.retain(|t| *t != term);
                    state.rest.retain(|t| *t != term);
                    for pair in &pairs {
                        if let Some(terms) = self.indexes.terms.get_mut(pair) {
                            terms.retain(|t| *t != term);
                            if terms.is_empty() {
                                self.indexes.terms.remove(pair);
                            }
                        }
                    }
                }
            }
            self.release_scope(scope);
            self.graph.selectors.release(pods);
            self.graph.terms.forget(term);
        }
        for scope in self.graph.scopes.unused() {
            let selector = *self.graph.scopes.key(scope);
            for pair in anchor_pairs(self.graph.selectors.key(selector)) {
                if let Some(scopes) = self.indexes.scopes.get_mut(&pair) {
                    scopes.retain(|s| *s != scope);
                    if scopes.is_empty() {
                        self.indexes.scopes.remove(&pair);
                    }
                }
            }
            self.indexes.other_scopes.retain(|s| *s != scope);
            for namespace in &self.graph.scopes.data(scope).namespaces {
                self.graph.namespaces.get_mut(crate::graph::id_at(namespace)).scopes.retain(|s| *s != scope);
            }
            self.graph.selectors.release(selector);
            self.graph.scopes.forget(scope);
        }
    }
}

/// The namespaces of a term to be.
pub(super) enum TermScope<'a> {
    Namespace(NamespaceId),
    Matching(&'a Selector),
}
