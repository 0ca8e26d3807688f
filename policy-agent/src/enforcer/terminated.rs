//! What the enforcer does for connections: judges them, keeps cut what was cut, and finds out whose may have lost access.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use nix::errno::Errno;
use policy_core::compile::GraphDelta;
use policy_core::graph::{AllowGraph, DecisionId};
use policy_core::plan::{GroupPlan, NodePlan};
use policy_ruleset::{Element, Transaction, terminated};

use super::apply::Failure;
use super::{Enforcer, Kind};
use crate::connections::{Judgement, Tuple};
use crate::kernel::applier::ApplyError;

/// Which connections a judgement terminates.
#[derive(Debug)]
pub struct Judged {
    /// For each connection, whether it is still allowed.
    pub judgements: Vec<Judgement>,
    /// How many of these are kept cut for all conversations between their ends, because there is no room for each.
    pub coarse: usize,
    /// How many could come back, because there is no room at all.
    pub unheld: usize,
}

/// What is decided for the addresses on this node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Claims {
    /// The decisions of all pods that claim an address of an isolated pod.
    isolated: BTreeMap<IpAddr, Vec<[Option<DecisionId>; 2]>>,
    quarantined: BTreeSet<IpAddr>,
}

impl Claims {
    pub(super) fn of(plan: &NodePlan, graph: &AllowGraph) -> Self {
        let is_isolated =
            |places: &&Vec<usize>| places.iter().any(|place| plan.groups.get(*place).is_some_and(GroupPlan::is_isolated));
        let isolated = plan.addresses.iter().filter(|(_, places)| is_isolated(places));
        let isolated = isolated.map(|(address, _)| (*address, graph.decisions_at(*address))).collect();
        Self { isolated, quarantined: plan.quarantined.clone() }
    }

    /// Whose connections may have lost access since `before`: addresses that are isolated in another way than before or are in
    /// quarantine, and those that left sets of peers.
    ///
    /// INVARIANT: decisions keep their ids while they are in use, and every change of them makes new claims.
    pub(super) fn lost(&self, before: &Self, delta: &GraphDelta) -> BTreeSet<IpAddr> {
        let is_changed =
            |(address, decisions): &(&IpAddr, &Vec<[Option<DecisionId>; 2]>)| before.isolated.get(*address) != Some(*decisions);
        let own = self.isolated.iter().filter(is_changed).map(|(address, _)| *address);
        let held = self.quarantined.difference(&before.quarantined).copied();
        own.chain(held).chain(left(delta)).collect()
    }
}

/// Addresses that left sets of peers.
pub(super) fn left(delta: &GraphDelta) -> impl Iterator<Item = IpAddr> {
    let members = delta.members.iter().filter(|change| !change.is_member).map(|change| change.address);
    members.chain(delta.named_members.iter().filter(|change| !change.is_member).map(|change| change.address))
}

/// Whether something may be allowed that was not before.
pub(super) fn has_gains(delta: &GraphDelta) -> bool {
    delta.is_structural
        || delta.members.iter().any(|change| change.is_member)
        || delta.named_members.iter().any(|change| change.is_member)
}

impl Enforcer {
    /// Judges tracked connections. What keeps the doomed ones cut is in the kernel when this returns.
    ///
    /// # Errors
    /// When the table is not known to be in force: then nothing may be deleted yet.
    pub fn judge_and_hold(&mut self, tuples: &[Tuple]) -> Result<Judged, ApplyError> {
        let graph = self.compiler.graph();
        let is_unclaimed = |address| graph.claimants(address).is_empty() && graph.nodes_at(address).is_empty();
        let judge = |tuple: &Tuple| match tuple.verdict(graph).is_allowed() {
            true => Judgement::Allowed,
            false => Judgement::Denied { is_unclaimed: [tuple.source, tuple.destination].map(is_unclaimed) },
        };
        let judgements: Vec<Judgement> = tuples.iter().map(judge).collect();
        let is_guarded = |tuple: &Tuple| {
            // Packets of others meet no rule that looks.
            terminated::is_guarded(&self.ruleset, tuple.source) || terminated::is_guarded(&self.ruleset, tuple.destination)
        };
        let doomed = tuples.iter().zip(&judgements).filter(|(tuple, judgement)| judgement.is_denied() && is_guarded(tuple));
        let elements: BTreeSet<Element> = doomed.filter_map(|(tuple, _)| tuple.reverse()).collect();
        let elements: Vec<Element> = elements.into_iter().collect();
        let mut judged = Judged { judgements, coarse: 0, unheld: 0 };
        if !elements.is_empty() && !self.apply_aside(&Transaction::hold(&elements))? {
            // No room. Whatever is between these ends is less; it closes more than was cut, and opens nothing.
            let pairs: BTreeSet<Element> = elements.iter().filter_map(terminated::pair).collect();
            let pairs: Vec<Element> = pairs.into_iter().collect();
            match self.apply_aside(&Transaction::hold(&pairs))? {
                true => judged.coarse = elements.len(),
                false => judged.unheld = elements.len(),
            }
        }
        if self.generation.is_none() {
            return Err(not_in_force());
        }
        Ok(judged)
    }

    /// Removes those of these elements whose connection is allowed again, and those that no rule looks at. Returns how many are
    /// left that should not be.
    ///
    /// # Errors
    /// When the table is not known to be in force.
    pub fn release(&mut self, held: &[Element]) -> Result<usize, ApplyError> {
        let graph = self.compiler.graph();
        let must_stay = |element: &Element| {
            let Some((source, destination, _)) = terminated::ends(element) else { return false };
            let is_guarded = terminated::is_guarded(&self.ruleset, source) || terminated::is_guarded(&self.ruleset, destination);
            // What stands for several connections goes when its time is over.
            let is_denied = |tuple: Tuple| !tuple.verdict(graph).is_allowed();
            is_guarded && Tuple::kept_cut_by(element).is_none_or(is_denied)
        };
        let free: Vec<Element> = held.iter().filter(|element| !must_stay(element)).copied().collect();
        self.forget(&free)
    }

    /// Removes these elements. Returns how many are left.
    ///
    /// # Errors
    /// When the table is not known to be in force.
    pub fn forget(&mut self, elements: &[Element]) -> Result<usize, ApplyError> {
        if elements.is_empty() || self.apply_aside(&Transaction::release(elements))? {
            return Ok(0);
        }
        // One has timed out in a set that is full, so that it cannot be put there to be deleted.
        Ok(elements.len())
    }

    /// Applies a transaction that does not change the ruleset; whether there was space for it.
    fn apply_aside(&mut self, transaction: &Transaction) -> Result<bool, ApplyError> {
        let generation = self.generation.ok_or_else(not_in_force)?;
        match self.apply(transaction, generation) {
            Ok(()) => Ok(true),
            Err(Failure::Refused(error)) if is_full(&error) => {
                // It changed nothing.
                self.generation = Some(generation);
                Ok(false)
            }
            Err(Failure::Refused(error)) => {
                self.next_kind = Kind::Recovery;
                Err(error)
            }
            Err(Failure::Touched) => {
                self.invalidate();
                Err(ApplyError::Contended)
            }
        }
    }
}

fn not_in_force() -> ApplyError {
    ApplyError::Unknown(io::Error::new(io::ErrorKind::NotConnected, "the rules are not in force"))
}

fn is_full(error: &ApplyError) -> bool {
    match error {
        ApplyError::Refused { source, .. } => source.raw_os_error() == Some(Errno::ENFILE as i32),
        ApplyError::Nft(text) => text.contains(Errno::ENFILE.desc()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use policy_core::compile;
    use policy_core::manifest::{Loader, Snapshot, Syntax};
    use policy_ruleset::Options;

    use super::*;
    use crate::connections::{BATCH, Scope};
    use crate::enforcer::Done;
    use crate::kernel::fake::{FakeKernel, Trouble};

    struct Test {
        enforcer: Enforcer,
        kernel: FakeKernel,
        before: Snapshot,
    }

    impl Test {
        /// Pods a, b and c, none isolated, and the first ruleset in force.
        fn new() -> Self {
            let kernel = FakeKernel::new();
            let scope = compile::Options { node: Some("n1".to_owned()), ..compile::Options::default() };
            let enforcer = Enforcer::new(scope, Options::default(), Box::new(kernel.clone()), Box::new(kernel.clone()));
            let mut test = Self { enforcer, kernel, before: Snapshot::default() };
            test.tell("");
            test
        }

        fn tell(&mut self, policies: &str) -> Option<Done> {
            let mut text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n".to_owned();
            for (name, last, app) in [("a", 1, "a"), ("b", 2, "b"), ("c", 3, "c")] {
                text += &format!(
                    "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: x, labels: {{app: {app}}}}}\nspec: {{nodeName: n1, \
                     containers: [{{name: c, image: i}}]}}\nstatus: {{phase: Running, podIP: 10.0.0.{last}, podIPs: [{{ip: 10.0.0.{last}}}]}}\n"
                );
            }
            let mut loader = Loader::new(Syntax::Legacy);
            loader.read("test.yaml", (text + policies).as_bytes());
            assert!(loader.diagnostics().is_empty(), "{:?}", loader.diagnostics());
            let after = loader.finish();
            self.enforcer.take(self.before.difference(&after));
            self.before = after;
            self.enforcer.flush().unwrap()
        }

        fn held(&self, set: &str) -> BTreeSet<Element> {
            self.kernel.table().unwrap().sets.get(set).cloned().unwrap_or_default()
        }
    }

    fn policy(app: &str, ingress: &str) -> String {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {app}, namespace: x}}\nspec: {{podSelector: \
             {{matchLabels: {{app: {app}}}}}, policyTypes: [Ingress], ingress: {ingress}}}\n"
        )
    }

    fn udp(number: usize) -> Tuple {
        let [_, a, b, c] = u32::try_from(number).unwrap().to_be_bytes();
        let destination = "10.0.0.1".parse().unwrap();
        // 256 ports of each source.
        Tuple {
            source: IpAddr::from([192, 0, a, b]),
            destination,
            protocol: 17,
            ports: Some((u16::from(c), 53)),
            is_translated: false,
        }
    }

    fn scope(last: u8) -> Scope {
        Scope::Addresses([IpAddr::from([10, 0, 0, last])].into())
    }

    #[test]
    fn only_what_may_have_lost_access_is_looked_at() {
        let mut test = Test::new();
        let done = test.tell(&policy("a", "[]")).unwrap();
        assert_eq!((done.lost.clone(), done.order().unwrap().has_gains), (scope(1), true));
        let both = policy("a", "[]") + &policy("b", "[{from: [{podSelector: {matchLabels: {app: c}}}]}]");
        assert_eq!(test.tell(&both).unwrap().lost, scope(2), "the other isolated pod is as before");
        // Lifting isolation takes nothing away.
        assert_eq!(test.tell(&policy("a", "[]")).unwrap().lost, Scope::none());
        // What is doubtful is looked at as a whole.
        test.enforcer.invalidate();
        assert_eq!(test.tell(&both).unwrap().lost, Scope::All);
        test.kernel.expect(Trouble::Refuse);
        assert_eq!(test.tell(&policy("a", "[]")).unwrap().lost, Scope::All);
    }

    #[test]
    fn what_was_cut_outlives_a_repair_and_goes_when_it_is_allowed() {
        let mut test = Test::new();
        test.tell(&policy("a", "[]"));
        let judged = test.enforcer.judge_and_hold(&[udp(1), Tuple { destination: IpAddr::from([10, 0, 0, 2]), ..udp(2) }]);
        assert_eq!(judged.unwrap().judgements, [Judgement::Denied { is_unclaimed: [true, false] }, Judgement::Allowed]);
        let element = udp(1).reverse().unwrap();
        assert_eq!(test.held("was-cut4"), [element].into());
        test.enforcer.invalidate();
        test.tell(&policy("a", "[]"));
        assert_eq!(test.held("was-cut4"), [element].into());
        assert_eq!(test.enforcer.release(&[element]).unwrap(), 0);
        assert_eq!(test.held("was-cut4"), [element].into(), "it is still denied");
        test.tell(&policy("a", "[{ports: [{protocol: UDP, port: 53}]}]"));
        assert_eq!(test.enforcer.release(&[element]).unwrap(), 0);
        assert!(test.held("was-cut4").is_empty());
        // Nobody looks at it any more: it has timed out meanwhile, or not.
        assert_eq!(test.enforcer.release(&[element]).unwrap(), 0);
    }

    #[test]
    fn a_full_set_falls_back_to_pairs_and_breaks_nothing() {
        let mut test = Test::new();
        test.tell(&policy("a", "[]"));
        let tuples: Vec<Tuple> = (0..terminated::SIZE as usize + 1).map(udp).collect();
        let mut coarse = Vec::new();
        for batch in tuples.chunks(BATCH) {
            let judged = test.enforcer.judge_and_hold(batch).unwrap();
            assert!(judged.judgements.iter().all(|judgement| judgement.is_denied()) && judged.unheld == 0);
            coarse.push(judged.coarse);
        }
        assert_eq!(coarse.pop(), Some(1));
        assert!(coarse.iter().all(|n| *n == 0));
        assert_eq!(test.held("was-cut-pairs4").len(), 1);
        // An update is an update all the same.
        let done = test.tell(&(policy("a", "[]") + &policy("b", "[]"))).unwrap();
        assert_eq!(done.kind, Kind::Update);
    }

    #[test]
    fn nothing_is_judged_while_the_table_is_not_in_force() {
        let mut test = Test::new();
        test.tell(&policy("a", "[]"));
        test.enforcer.invalidate();
        assert!(test.enforcer.judge_and_hold(&[udp(1)]).is_err());
    }
}
