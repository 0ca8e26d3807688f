//! Templates and groups: pods that were made alike, and pods that behave alike.
//!
//! A group is distinguished by the labels that a selector over pods of its namespace asks for, and by nothing else: a thousand Jobs
//! with names of their own are a thousand templates and one group. When a policy asks for a key that no other asks for, the
//! templates that have it go to groups of their own; when the last such policy is gone, they come together again in the next flush.
//! So the groups follow from the objects alone, and a change of keys costs what has the key.

use smallvec::SmallVec;

use super::Compiler;
use crate::graph::{
    AskedKeys, GroupId, GroupKey, LabelSet, LabelsId, NamespaceId, Scope, Symbol, Template, TemplateId, TemplateKey, TermId,
    id_at, shrink_list, shrink_map,
};
use crate::model::{Direction, Pod};

impl Compiler {
    /// One more use of the template of a pod.
    pub(super) fn acquire_template(&mut self, pod: &Pod, namespace: NamespaceId) -> TemplateId {
        let labels = self.acquire_labels(&pod.labels);
        let ports = self.acquire_ports(&pod.ports);
        let key = TemplateKey { namespace, labels, ports };
        if let Some(template) = self.graph.templates.find(&key) {
            self.graph.labels.release(labels);
            self.graph.ports.release(ports);
            self.graph.templates.retain(template);
            return template;
        }
        self.graph.namespaces.retain(namespace);
        let group = self.acquire_group(&key);
        let template = self.graph.templates.insert(key, Template { group, position: 0, in_scope: 0, pods: SmallVec::new() });
        self.attach(template, group);
        for (key, _) in self.graph.labels.key(labels).pairs() {
            self.indexes.templates.entry(*key).or_default().insert(template);
        }
        template
    }

    pub(super) fn release_template(&mut self, template: TemplateId) {
        self.graph.templates.release(template);
        if !self.graph.templates.unused().contains(&template) {
            return;
        }
        let TemplateKey { namespace, labels, ports } = *self.graph.templates.key(template);
        self.detach(template);
        for (key, _) in self.graph.labels.key(labels).pairs() {
            let Some(templates) = self.indexes.templates.get_mut(key) else { continue };
            templates.remove(template);
            if templates.is_empty() {
                self.indexes.templates.remove(key);
                shrink_map(&mut self.indexes.templates);
            }
        }
        self.graph.templates.forget(template);
        self.graph.labels.release(labels);
        self.graph.ports.release(ports);
        self.graph.namespaces.release(namespace);
    }

    /// Puts a template, which brings a use of the group, among those of the group.
    fn attach(&mut self, template: TemplateId, group: GroupId) {
        let templates = &mut self.graph.groups.data_mut(group).templates;
        let position = u32::try_from(templates.len()).unwrap_or(u32::MAX);
        templates.push(template);
        let state = self.graph.templates.data_mut(template);
        (state.group, state.position) = (group, position);
        let in_scope = i32::try_from(state.in_scope).unwrap_or(i32::MAX);
        let pods = i32::try_from(state.pods.len()).unwrap_or(i32::MAX);
        self.count_pods(group, pods);
        self.count_in_scope(group, in_scope);
    }

    /// Takes a template out of its group, which goes with its last template.
    fn detach(&mut self, template: TemplateId) {
        let state = self.graph.templates.data(template);
        let (group, position, in_scope) = (state.group, state.position, i32::try_from(state.in_scope).unwrap_or(i32::MAX));
        let pods = i32::try_from(state.pods.len()).unwrap_or(i32::MAX);
        self.count_pods(group, -pods);
        let templates = &mut self.graph.groups.data_mut(group).templates;
        templates.swap_remove(position as usize);
        shrink_list(templates);
        if let Some(moved) = templates.get(position as usize).copied() {
            self.graph.templates.data_mut(moved).position = position;
        }
        self.count_in_scope(group, -in_scope);
        self.release_group(group);
    }

    /// There are more pods of a group, or less.
    pub(super) fn count_pods(&mut self, group: GroupId, by: i32) {
        if by == 0 || self.graph.only_node.is_none() {
            return;
        }
        for term in &self.graph.groups.data(group).terms {
            self.budget.count(&mut self.graph.terms.data_mut(*term).pods, by);
        }
    }

    /// The pods of a group, in whole numbers that can be taken away; counted for one node.
    pub(super) fn pods_in(&self, group: GroupId) -> i32 {
        let templates = self.graph.only_node.map(|_| &self.graph.groups.data(group).templates).into_iter().flatten();
        let pods = templates.map(|template| self.graph.templates.data(*template).pods.len()).sum::<usize>();
        i32::try_from(pods).unwrap_or(i32::MAX)
    }

    /// More pods of a group are in the compiler's scope, or less.
    pub(super) fn count_in_scope(&mut self, group: GroupId, by: i32) {
        if by == 0 {
            return;
        }
        self.delta.is_structural = true;
        let state = self.graph.groups.data_mut(group);
        let before = state.in_scope;
        state.in_scope = before.saturating_add_signed(by);
        if before.min(state.in_scope) == 0 {
            self.dirty.insert(group);
        }
    }

    /// One more use of the group for pods of this template.
    fn acquire_group(&mut self, template: &TemplateKey) -> GroupId {
        let TemplateKey { namespace, labels, ports } = *template;
        let key = GroupKey { namespace, labels: self.acquire_asked(namespace, labels), ports };
        if let Some(group) = self.graph.groups.find(&key) {
            self.graph.labels.release(key.labels);
            self.graph.groups.retain(group);
            return group;
        }
        self.graph.namespaces.retain(namespace);
        self.graph.ports.retain(ports);
        let (group, _) = self.graph.groups.acquire(key);
        self.enter_group(group);
        group
    }

    fn release_group(&mut self, group: GroupId) {
        self.graph.groups.release(group);
        if !self.graph.groups.unused().contains(&group) {
            return;
        }
        let key = *self.graph.groups.key(group);
        for direction in Direction::ALL {
            self.set_decision(group, direction, None);
        }
        self.budget.remove(group);
        self.delta.decisions.retain(|(g, _)| *g != group);
        self.delta.groups_removed.push(group);
        self.leave_group(group);
        self.graph.groups.forget(group);
        self.graph.labels.release(key.labels);
        self.graph.ports.release(key.ports);
        self.graph.namespaces.release(key.namespace);
    }

    /// One more use of those of the labels that a selector over pods of the namespace asks for.
    fn acquire_asked(&mut self, namespace: NamespaceId, labels: LabelsId) -> LabelsId {
        let graph = &mut self.graph;
        let record = graph.namespaces.data(namespace);
        let is_asked = |key: Symbol| {
            record.asked.contains(key) || record.scopes.iter().any(|scope| graph.scopes.data(*scope).asked.contains(key))
        };
        let all = graph.labels.key(labels);
        let asked: SmallVec<[(Symbol, Symbol); 12]> = all.pairs().iter().copied().filter(|(key, _)| is_asked(*key)).collect();
        if asked.len() == all.pairs().len() {
            graph.labels.retain(labels);
            return labels;
        }
        let asked = LabelSet::of(asked);
        if let Some(id) = graph.labels.find(&asked) {
            graph.labels.retain(id);
            return id;
        }
        asked.symbols().for_each(|symbol| graph.strings.retain(symbol));
        graph.labels.insert(asked, ())
    }

    fn asked_mut(&mut self, scope: Scope) -> &mut AskedKeys {
        match scope {
            Scope::Namespace(namespace) => &mut self.graph.namespaces.data_mut(namespace).asked,
            Scope::Matching(scope) => &mut self.graph.scopes.data_mut(scope).asked,
        }
    }

    /// How many targets and peers of policies are this term. Its other uses are those of peer sets, one for each.
    fn policy_uses(&self, term: TermId) -> usize {
        (self.graph.terms.uses(term) as usize).saturating_sub(self.graph.terms.data(term).peer_sets.len())
    }

    /// Must be called when a policy has taken one more use of a term, before a new term meets its groups.
    pub(super) fn ask(&mut self, term: TermId) {
        if self.policy_uses(term) != 1 {
            return;
        }
        let key = *self.graph.terms.key(term);
        for asked in self.graph.selectors.key(key.pods).keys() {
            if self.asked_mut(key.scope).add(asked) {
                self.regroup_with(key.scope, asked);
            }
        }
    }

    /// Must be called when a policy has given up a use of a term. What the last one asked for is forgotten by the next flush.
    pub(super) fn unask(&mut self, term: TermId) {
        if self.policy_uses(term) > 0 {
            return;
        }
        let key = *self.graph.terms.key(term);
        for asked in self.graph.selectors.key(key.pods).keys() {
            if self.asked_mut(key.scope).subtract(asked) {
                self.unasked.push((key.scope, asked));
            }
        }
    }

    /// Groups that differ only in an unused key become one.
    pub(super) fn forget_unasked(&mut self) {
        for (scope, key) in std::mem::take(&mut self.unasked) {
            if self.asked_mut(scope).forget(key) {
                self.regroup_with(scope, key);
            }
        }
    }

    /// One more policy has this term as its target, or one less. Node plans distinguish pods by the keys of targets.
    pub(super) fn count_target(&mut self, term: TermId, by: i32) {
        let key = *self.graph.terms.key(term);
        let Scope::Namespace(namespace) = key.scope else { return };
        for asked in self.graph.selectors.key(key.pods).keys() {
            if !self.graph.namespaces.data_mut(namespace).asked.count_target(asked, by) {
                continue;
            }
            let groups = &self.graph.namespaces.data(namespace).groups;
            self.delta.is_structural |= groups.iter().any(|group| {
                let has_key = || self.graph.labels.key(self.graph.groups.key(*group).labels).value(asked).is_some();
                self.graph.groups.data(*group).in_scope > 0 && has_key()
            });
        }
    }

    fn regroup_with(&mut self, scope: Scope, key: Symbol) {
        for template in self.templates_with(scope, key) {
            self.regroup(template);
        }
    }

    /// The templates in these namespaces that have this label key.
    ///
    /// Cost: linear in the templates that have the key, or in those of the namespaces, whichever are less.
    fn templates_with(&self, scope: Scope, key: Symbol) -> Vec<TemplateId> {
        let graph = &self.graph;
        let Some(having) = self.indexes.templates.get(&key) else { return Vec::new() };
        let mut budget = having.len();
        let mut own: Vec<TemplateId> = Vec::new();
        let mut is_within = |namespace: NamespaceId| {
            let groups = graph.namespaces.data(namespace).groups.iter();
            let templates = groups.map(|group| &graph.groups.data(*group).templates);
            for templates in templates {
                let Some(rest) = budget.checked_sub(templates.len()) else { return false };
                budget = rest;
                own.extend(templates);
            }
            budget.checked_sub(1).map(|rest| budget = rest).is_some()
        };
        let is_complete = match scope {
            Scope::Namespace(namespace) => is_within(namespace),
            Scope::Matching(scope) => graph.scopes.data(scope).namespaces.iter().all(|n| is_within(id_at(n))),
        };
        if is_complete {
            own.retain(|template| graph.labels.key(graph.templates.key(*template).labels).value(key).is_some());
            return own;
        }
        let is_meant = |template: &TemplateId| {
            let namespace = graph.templates.key(*template).namespace;
            match scope {
                Scope::Namespace(own) => own == namespace,
                Scope::Matching(scope) => graph.scopes.data(scope).namespaces.contains(crate::graph::index_of(namespace)),
            }
        };
        having.to_vec().into_iter().filter(is_meant).collect()
    }

    /// Brings the group of a template up to date with the keys that are asked for. What the group's pods match, and so what they
    /// may do, is the same before and after.
    pub(super) fn regroup(&mut self, template: TemplateId) {
        let key = *self.graph.templates.key(template);
        let group = self.acquire_group(&key);
        if group == self.graph.templates.data(template).group {
            self.graph.groups.release(group);
            return;
        }
        self.detach(template);
        self.attach(template, group);
    }
}
