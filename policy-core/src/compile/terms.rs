//! Which terms match which groups, kept by indexes from label pairs.

use crate::graph::{
    CompiledSelector, GroupId, IdSet, NamespaceId, PolicyId, Scope, ScopeId, SelectorId, Symbol, TermId, TermKey, shrink_list,
    shrink_map,
};
use crate::model::{NAME_LABEL, Selector};

use super::{Compiler, PairIndex};

/// The label pairs to index a selector under; none when it asks for no certain value.
fn anchor_pairs(selector: &CompiledSelector) -> Vec<(Symbol, Symbol)> {
    selector.anchor().map(|(key, values)| values.iter().map(|v| (key, *v)).collect()).unwrap_or_default()
}

/// Whether a selector asks for one of no values, and so never matches anything.
fn is_contradiction(selector: &CompiledSelector) -> bool {
    selector.anchor().is_some_and(|(_, values)| values.is_empty())
}

impl Compiler {
    /// One more use of the term over these namespaces and pods, by a policy.
    pub(super) fn acquire_term(&mut self, namespaces: &TermScope<'_>, pods: &Selector) -> TermId {
        let scope = match namespaces {
            TermScope::Namespace(id) => {
                self.graph.namespaces.retain(*id);
                Scope::Namespace(*id)
            }
            TermScope::Matching(selector) => self.acquire_scope(selector),
        };
        let pods = self.acquire_selector(pods);
        let (term, is_new) = self.graph.terms.acquire(TermKey { scope, pods });
        self.ask(term);
        if is_new {
            self.enter_term(term);
        } else {
            self.release_scope(scope);
            self.graph.selectors.release(pods);
        }
        term
    }

    /// One policy less uses the term.
    pub(super) fn release_term(&mut self, term: TermId) {
        self.graph.terms.release(term);
        self.unask(term);
    }

    /// A namespace selector that names one namespace is that namespace.
    fn acquire_scope(&mut self, selector: &Selector) -> Scope {
        if let [only] = selector.requirements()
            && only.key == NAME_LABEL
            && let crate::model::Operator::In(values) = &only.operator
            && values.len() == 1
            && let Some(name) = values.first()
        {
            return Scope::Namespace(self.acquire_namespace(name));
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
        match scope {
            Scope::Namespace(namespace) => self.graph.namespaces.release(namespace),
            Scope::Matching(scope) => self.graph.scopes.release(scope),
        }
    }

    fn enter_scope(&mut self, scope: ScopeId, selector: SelectorId) {
        let pairs = anchor_pairs(self.graph.selectors.key(selector));
        let candidates: Vec<NamespaceId> = if is_contradiction(self.graph.selectors.key(selector)) {
            Vec::new()
        } else if pairs.is_empty() {
            self.indexes.other_scopes.push(scope);
            self.graph.namespaces.iter().map(|(id, ..)| id).collect()
        } else {
            for pair in &pairs {
                self.indexes.scopes.entry(*pair).or_default().push(scope);
            }
            self.index_namespaces(&pairs);
            pairs.iter().flat_map(|pair| self.indexes.namespaces.with(*pair)).collect()
        };
        for namespace in candidates {
            let labels = self.graph.labels.key(self.graph.namespaces.data(namespace).labels);
            if self.graph.selectors.key(selector).matches(labels) {
                self.graph.scopes.data_mut(scope).namespaces.insert(crate::graph::index_of(namespace));
                self.graph.namespaces.data_mut(namespace).scopes.push(scope);
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
                let record = self.graph.namespaces.data_mut(namespace);
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
                        .flat_map(|n| self.graph.namespaces.data(crate::graph::id_at(n)).groups.iter().copied())
                        .collect()
                } else {
                    for pair in &pairs {
                        self.indexes.terms.entry(*pair).or_default().push(term);
                    }
                    self.index_groups(&pairs);
                    pairs.iter().flat_map(|pair| self.indexes.groups.with(*pair)).collect()
                }
            }
        };
        for group in candidates {
            if self.term_matches(term, group) {
                self.join(term, group);
            }
        }
    }

    /// Makes sure that groups can be found by the key of these pairs. Linear in what has the key, when nothing else asks for it.
    fn index_groups(&mut self, pairs: &[(Symbol, Symbol)]) {
        let Some((key, _)) = pairs.first().copied().filter(|(key, _)| self.indexes.groups.want(*key)) else { return };
        for template in self.indexes.templates.get(&key).map(IdSet::to_vec).unwrap_or_default() {
            let group = self.graph.templates.data(template).group;
            if let Some(value) = self.graph.labels.key(self.graph.groups.key(group).labels).value(key) {
                self.indexes.groups.insert((key, value), group);
            }
        }
    }

    /// Makes sure that namespaces can be found by the key of these pairs. Linear in namespaces when nothing else asks for the key.
    fn index_namespaces(&mut self, pairs: &[(Symbol, Symbol)]) {
        let Some((key, _)) = pairs.first().copied().filter(|(key, _)| self.indexes.namespaces.want(*key)) else { return };
        for (namespace, _, record) in self.graph.namespaces.iter() {
            if let Some(value) = self.graph.labels.key(record.labels).value(key) {
                self.indexes.namespaces.insert((key, value), namespace);
            }
        }
    }

    pub(super) fn term_matches(&self, term: TermId, group: GroupId) -> bool {
        let TermKey { scope, pods } = *self.graph.terms.key(term);
        let key = self.graph.groups.key(group);
        let is_in_scope = match scope {
            Scope::Namespace(namespace) => namespace == key.namespace,
            Scope::Matching(scope) => self.graph.scopes.data(scope).namespaces.contains(crate::graph::index_of(key.namespace)),
        };
        is_in_scope && self.graph.selectors.key(pods).matches(self.graph.labels.key(key.labels))
    }

    pub(super) fn join(&mut self, term: TermId, group: GroupId) {
        let pods = self.pods_in(group);
        self.graph.terms.data_mut(term).groups.insert(group);
        let terms = &mut self.graph.groups.data_mut(group).terms;
        if let Err(at) = terms.binary_search(&term) {
            terms.insert(at, term);
            self.budget.count(&mut self.graph.terms.data_mut(term).pods, pods);
        }
        if !self.graph.terms.data(term).policies.is_empty() {
            self.dirty.insert(group);
        }
    }

    pub(super) fn part(&mut self, term: TermId, group: GroupId) {
        let pods = self.pods_in(group);
        self.graph.terms.data_mut(term).groups.remove(group);
        let terms = &mut self.graph.groups.data_mut(group).terms;
        if let Ok(at) = terms.binary_search(&term) {
            terms.remove(at);
            self.budget.count(&mut self.graph.terms.data_mut(term).pods, -pods);
        }
        if !self.graph.terms.data(term).policies.is_empty() {
            self.dirty.insert(group);
        }
    }

    /// Finds the terms of a new group.
    pub(super) fn enter_group(&mut self, group: GroupId) {
        let key = *self.graph.groups.key(group);
        let pairs = self.graph.labels.key(key.labels).pairs().to_vec();
        for pair in &pairs {
            self.indexes.groups.insert(*pair, group);
        }
        let groups = &mut self.graph.namespaces.data_mut(key.namespace).groups;
        let position = u32::try_from(groups.len()).unwrap_or(u32::MAX);
        groups.push(group);
        self.graph.groups.data_mut(group).position = position;
        let namespace = self.graph.namespaces.data(key.namespace);
        let mut candidates: Vec<TermId> = namespace.terms.candidates(&pairs).collect();
        candidates.extend(pairs.iter().filter_map(|pair| self.indexes.terms.get(pair)).flatten());
        candidates.extend(namespace.scopes.iter().flat_map(|scope| &self.graph.scopes.data(*scope).rest));
        candidates.retain(|term| self.term_matches(*term, group));
        for term in candidates {
            self.join(term, group);
        }
        self.dirty.insert(group);
    }

    /// Takes a group that has no templates out of every term and index.
    pub(super) fn leave_group(&mut self, group: GroupId) {
        let key = *self.graph.groups.key(group);
        for term in std::mem::take(&mut self.graph.groups.data_mut(group).terms) {
            self.graph.terms.data_mut(term).groups.remove(group);
        }
        for pair in self.graph.labels.key(key.labels).pairs() {
            self.indexes.groups.remove(*pair, group);
        }
        let position = self.graph.groups.data(group).position;
        let groups = &mut self.graph.namespaces.data_mut(key.namespace).groups;
        groups.swap_remove(position as usize);
        shrink_list(groups);
        if let Some(moved) = groups.get(position as usize).copied() {
            self.graph.groups.data_mut(moved).position = position;
        }
        self.dirty.remove(&group);
    }

    /// The policy's target: its groups are decided again.
    pub(super) fn add_target(&mut self, term: TermId, policy: PolicyId) {
        self.graph.terms.data_mut(term).policies.push(policy);
        self.count_target(term, 1);
        self.dirty.extend(self.graph.terms.data(term).groups.to_vec());
    }

    pub(super) fn remove_target(&mut self, term: TermId, policy: PolicyId) {
        let policies = &mut self.graph.terms.data_mut(term).policies;
        policies.retain(|p| *p != policy);
        shrink_list(policies);
        self.count_target(term, -1);
        self.dirty.extend(self.graph.terms.data(term).groups.to_vec());
    }

    /// Frees terms and scopes without users.
    pub(super) fn sweep_terms(&mut self) {
        for term in self.graph.terms.unused() {
            self.leave_term(term);
            self.graph.terms.forget(term);
        }
        for scope in self.graph.scopes.unused() {
            self.leave_scope(scope);
            self.graph.scopes.forget(scope);
        }
    }

    fn leave_term(&mut self, term: TermId) {
        let TermKey { scope, pods } = *self.graph.terms.key(term);
        for group in self.graph.terms.data(term).groups.to_vec() {
            let terms = &mut self.graph.groups.data_mut(group).terms;
            if let Ok(at) = terms.binary_search(&term) {
                terms.remove(at);
                shrink_list(terms);
            }
        }
        let selector = self.graph.selectors.key(pods);
        let pairs = anchor_pairs(selector);
        match scope {
            Scope::Namespace(namespace) if !is_contradiction(selector) => {
                self.graph.namespaces.data_mut(namespace).terms.remove(&pairs, term);
            }
            Scope::Namespace(_) => {}
            Scope::Matching(scope) => {
                let state = self.graph.scopes.data_mut(scope);
                state.terms.retain(|t| *t != term);
                shrink_list(&mut state.terms);
                state.rest.retain(|t| *t != term);
                shrink_list(&mut state.rest);
                forget_under(&mut self.indexes.terms, &pairs, term);
                if let Some((key, _)) = pairs.first() {
                    self.indexes.groups.unwant(*key);
                }
            }
        }
        self.release_scope(scope);
        self.graph.selectors.release(pods);
    }

    fn leave_scope(&mut self, scope: ScopeId) {
        let selector = *self.graph.scopes.key(scope);
        let pairs = anchor_pairs(self.graph.selectors.key(selector));
        forget_under(&mut self.indexes.scopes, &pairs, scope);
        if let Some((key, _)) = pairs.first() {
            self.indexes.namespaces.unwant(*key);
        }
        self.indexes.other_scopes.retain(|s| *s != scope);
        shrink_list(&mut self.indexes.other_scopes);
        for namespace in &self.graph.scopes.data(scope).namespaces {
            let scopes = &mut self.graph.namespaces.data_mut(crate::graph::id_at(namespace)).scopes;
            scopes.retain(|s| *s != scope);
            shrink_list(scopes);
        }
        self.graph.selectors.release(selector);
    }
}

/// Takes a value out of the lists of these label pairs.
fn forget_under<T: PartialEq>(index: &mut PairIndex<T>, pairs: &[(Symbol, Symbol)], value: T) {
    for pair in pairs {
        if let Some(values) = index.get_mut(pair) {
            values.retain(|v| *v != value);
            shrink_list(values);
            if values.is_empty() {
                index.remove(pair);
            }
        }
    }
    shrink_map(index);
}

/// The namespaces of a term to be.
pub(super) enum TermScope<'a> {
    Namespace(NamespaceId),
    Matching(&'a Selector),
}
