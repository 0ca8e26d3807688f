//! Status, readiness and gauges.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use policy_core::graph::{GroupId, TooLarge};
use policy_core::model::{Direction, ObjectKey};

use super::{Agent, NotReady, Ready};
use crate::admin::metrics::seconds;
use crate::admin::status::{self, Status};
use crate::admin::warnings;
use crate::source::KindHealth;

/// Groups that are too large, and policies of each, that warnings name.
const OVERSIZED_SHOWN: usize = 5;
/// Policies that get an Event because they are too large for the node.
const OVERSIZED_POLICIES: usize = 100;

fn size(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Agent {
    pub(super) fn gauge(&mut self) {
        let ruleset = self.enforcer.ruleset();
        self.metrics.sets.set(size(ruleset.sets.len()));
        self.metrics.chains.set(size(ruleset.chains.len()));
        self.metrics.rules.set(size(ruleset.chains.values().map(|chain| chain.rules.len()).sum()));
        self.metrics.oversized_groups.set(size(self.enforcer.graph().too_large().count()));
        self.published.set_oversized(self.oversized_policies());
        for (kind, count) in self.objects() {
            self.metrics.objects.with_label_values(&[kind]).set(size(count));
        }
        for KindHealth { kind, stale_for, .. } in (self.pulse)() {
            self.metrics.source_stale.with_label_values(&[kind]).set(seconds(stale_for.unwrap_or_default()));
        }
        let (all, quarantined) = self.sandboxes.counts();
        for (state, count) in [("known", all - quarantined), ("quarantine", quarantined)] {
            self.metrics.sandboxes.with_label_values(&[state]).set(size(count));
        }
        let is_in_sync = self.enforcer.generation().is_some();
        self.metrics.in_sync.set(i64::from(is_in_sync));
        if is_in_sync {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.metrics.last_success.set(seconds(now));
        }
        self.published.set_readiness(self.readiness());
    }

    fn objects(&self) -> [(&'static str, usize); 4] {
        let counts = self.enforcer.graph().counts();
        [("namespaces", counts.namespaces), ("pods", counts.pods), ("policies", counts.policies), ("groups", counts.groups)]
    }

    /// Enforcement goes on with what is known, so that it is not fresh is no reason not to be ready.
    fn readiness(&self) -> Result<Ready, NotReady> {
        if self.is_in_force { Ok(Ready { stale: self.stale() }) } else { Err(self.not_ready()) }
    }

    /// Why no ruleset of this agent is in force, or not the whole of it.
    pub(super) fn not_ready(&self) -> NotReady {
        match self.errors.back() {
            _ if !self.has_all => self.untold(),
            Some((_, error)) => NotReady::Failed(error.clone()),
            None => NotReady::Pending,
        }
    }

    fn warnings(&self) -> Vec<String> {
        let mut out = warnings::of_node();
        out.extend(warnings::unchecked_sources(self.enforcer.unchecked_pods()));
        out.extend(self.stale());
        out.extend(self.unavailable());
        out.extend(self.oversized());
        out.extend(self.unchained.as_ref().map(|trouble| format!("pods start without isolation: {trouble}")));
        out.extend(self.enforcer.save_trouble());
        out.extend(self.unknown_node().filter(|_| self.is_in_force));
        out
    }

    /// That no object has named the node.
    pub(super) fn unknown_node(&self) -> Option<String> {
        let node = &self.node;
        (!self.enforcer.is_node_known()).then(|| {
            format!("no Node and no pod is named `{node}`, so nothing is enforced; check that the name of the node is the `spec.nodeName` of its pods")
        })
    }

    /// Pods that get no traffic because of the size of their policies.
    fn oversized(&self) -> Vec<String> {
        let graph = self.enforcer.graph();
        let line = |(group, direction, why): (GroupId, Direction, TooLarge)| {
            let name = |policy| {
                let (namespace, name) = graph.policy_name(policy);
                format!("{namespace}/{name}")
            };
            let policies: Vec<String> = graph.isolating(group, direction).into_iter().take(OVERSIZED_SHOWN).map(name).collect();
            let pods = graph.pods_of(group).filter(|pod| graph.is_in_scope(*pod)).count();
            format!("{direction} traffic of {pods} pods, selected by {}, is blocked: {why}", policies.join(", "))
        };
        graph.too_large().take(OVERSIZED_SHOWN).map(line).collect()
    }

    /// The policies of pods that get no traffic for what all policies of the node cost together, or several policies of the pod. That
    /// one is too large by itself is not a matter of the node.
    fn oversized_policies(&self) -> BTreeMap<ObjectKey, String> {
        let mut out = BTreeMap::new();
        let graph = self.enforcer.graph();
        for (group, direction, why) in graph.too_large() {
            let policies = graph.isolating(group, direction);
            if out.len() >= OVERSIZED_POLICIES {
                break;
            }
            if why == TooLarge::Pod && policies.len() < 2 {
                continue;
            }
            let pods: Vec<&str> =
                graph.pods_of(group).filter(|pod| graph.is_in_scope(*pod)).map(|pod| graph.pod_name(pod).1).collect();
            let more = pods.len().saturating_sub(OVERSIZED_SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let pods = pods.iter().take(OVERSIZED_SHOWN).copied().collect::<Vec<_>>().join(", ");
            let note = format!("on node {}, {direction} traffic of the pods {pods}{more} is blocked: {why}", self.node);
            for policy in policies {
                let (namespace, name) = graph.policy_name(policy);
                out.entry(ObjectKey::new(namespace, name)).or_insert_with(|| note.clone());
            }
        }
        out
    }

    /// What may have changed unseen.
    fn stale(&self) -> Vec<String> {
        let line = |fresh: KindHealth| {
            let age = fresh.stale_for?.as_secs();
            let why = fresh.trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
            Some(format!("stale: no data about {} for {age} s; the last known objects stay in force{why}", fresh.kind))
        };
        (self.pulse)().into_iter().filter_map(line).collect()
    }

    /// Optional kinds that the API server does not serve.
    fn unavailable(&self) -> Vec<String> {
        let line = |fresh: KindHealth| {
            let why = fresh.unavailable?;
            Some(format!("not served by the API server; retrying: {}: {why}", fresh.kind))
        };
        (self.pulse)().into_iter().filter_map(line).collect()
    }

    /// Why nothing is put in force yet.
    fn untold(&self) -> NotReady {
        match self.problems.first() {
            Some(problem) => NotReady::Unreadable(problem.to_string()),
            None => match (self.pulse)().into_iter().find_map(|fresh| fresh.trouble) {
                Some(trouble) => NotReady::SourceTrouble(trouble),
                None => NotReady::Listing,
            },
        }
    }

    pub(super) fn status(&self) -> Status {
        let ruleset = self.enforcer.ruleset();
        let why_not = if !self.has_all {
            Some(self.untold().to_string())
        } else if self.enforcer.generation().is_none() {
            Some(self.errors.back().map_or("the table is about to be replaced".to_owned(), |(_, error)| error.clone()))
        } else {
            None
        };
        Status {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            applier: self.applier.to_string(),
            source: self.source.clone(),
            is_in_sync: why_not.is_none(),
            why_not,
            is_in_force: self.is_in_force,
            held: self.held.as_ref().filter(|_| !self.is_in_force).map(ToString::to_string),
            generation: self.enforcer.generation(),
            news_taken: self.news_taken,
            news_in_force: self.news_in_force,
            uptime_seconds: self.started.elapsed().unwrap_or_default().as_secs(),
            objects: self.objects().into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
            sets: ruleset.sets.len(),
            chains: ruleset.chains.len(),
            rules: ruleset.chains.values().map(|chain| chain.rules.len()).sum(),
            drift_repairs: self.metrics.drift_repairs.get(),
            connections_cut: self.metrics.connections_cut.get(),
            local_addresses: self.enforcer.local_addresses(),
            warnings: self.warnings(),
            problems: self.problems.shown(),
            problems_total: self.problems.len(),
            errors: self.errors.iter().map(|(at, error)| status::StampedError::new(*at, error)).collect(),
        }
    }
}
