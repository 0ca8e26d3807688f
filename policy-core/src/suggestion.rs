//! Suggestions: the smallest edit to the policies after which one side allows what was asked, and what else the edit changes.
//!
//! An edit is made on the model, compiled, and compared with the graph as it is. Of all edits, one that opens and closes nothing else
//! comes first, then the smallest. Labels of pods are never edited: they decide about Services and other policies too.
//!
//! - `candidates`: the edits that are tried.
//! - `effect`: what an edit changes.
//! - [`patch`]: an edit as a JSON patch or an object.

mod candidates;
mod effect;
pub mod patch;

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::Serialize;

use crate::compile::Compiler;
use crate::manifest::Snapshot;
use crate::model::{Change, Direction, ObjectKey, Pod, Policy};
use crate::sets::PortSet;
use crate::verdict::RuleRef;

use candidates::{Candidate, candidates};
use effect::Comparison;
use patch::Patch;

pub use effect::{Effect, Party};

/// Edits that are compiled and compared for one suggestion.
const MOST_TRIED: usize = 12;

/// The other end of a question.
#[derive(Clone, Debug)]
pub enum Other<'a> {
    /// A pod.
    Pod(&'a Pod),
    /// Addresses of no pod: an address, a block, or everything outside.
    Addresses(Vec<IpNet>),
}

/// What one side does not allow.
#[derive(Clone, Debug)]
pub struct Missing<'a> {
    /// The pod whose policies deny.
    pub subject: &'a Pod,
    /// The direction that they deny.
    pub direction: Direction,
    /// The other end.
    pub other: Other<'a>,
    /// What was asked, and is not allowed.
    pub ports: &'a PortSet,
    /// All pods that the question is about, by end: opening what was asked between them is no side effect.
    pub subjects: &'a BTreeSet<ObjectKey>,
    /// As `subjects`, of the other end.
    pub others: &'a BTreeSet<ObjectKey>,
}

/// An edit that would allow what one side denies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Suggestion {
    /// The policy to edit, or to add, as `namespace/name`.
    pub policy: String,
    /// The rule to edit; `None` when the edit is not about a rule that exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleRef>,
    /// The edit, as an instruction.
    pub edit: String,
    /// The edit, for a program.
    pub patch: Patch,
    /// The policy after the edit.
    #[serde(skip)]
    pub after: Policy,
    /// What it opens besides what was asked.
    #[serde(skip)]
    pub opens: Vec<Effect>,
    /// What it closes.
    #[serde(skip)]
    pub closes: Vec<Effect>,
}

/// The best edit; `None` when no edit to a policy allows what is missing. `compiler` must have the objects of `snapshot`, flushed, and
/// has them again afterwards.
///
/// Cost: a few changes of one policy, and the policies of the subject's namespace.
pub fn suggest(snapshot: &Snapshot, compiler: &mut Compiler, missing: &Missing<'_>) -> Option<Suggestion> {
    let mut tried = candidates(snapshot, missing);
    tried.sort_by_key(|candidate| candidate.cost);
    if tried.len() > MOST_TRIED {
        // The last is a policy of its own, which allows what is missing whatever the others are.
        let last = tried.pop();
        tried.truncate(MOST_TRIED - 1);
        tried.extend(last);
    }
    let comparison = Comparison::new(snapshot, compiler.graph(), missing);
    let mut best: Option<(usize, Suggestion)> = None;
    for candidate in tried {
        let before = snapshot.policies.get(&candidate.after.key);
        compiler.apply(Change::Policy(candidate.after.clone()));
        compiler.flush();
        let allows = comparison.allows(compiler.graph());
        let seen = comparison.measure(compiler.graph(), before, &candidate.after);
        compiler.apply(match before {
            Some(policy) => Change::Policy(policy.clone()),
            None => Change::PolicyRemoved(candidate.after.key.clone()),
        });
        compiler.flush();
        if !allows {
            continue;
        }
        let (opens, closes) = comparison.differences(compiler.graph(), seen);
        let extent: usize = opens.iter().chain(&closes).map(Effect::extent).sum();
        if best.as_ref().is_none_or(|(least, _)| extent < *least) {
            best = Some((extent, candidate.suggestion(before, opens, closes)));
        }
        if extent == 0 {
            break;
        }
    }
    best.map(|(_, suggestion)| suggestion)
}

impl Candidate {
    fn suggestion(self, before: Option<&Policy>, opens: Vec<Effect>, closes: Vec<Effect>) -> Suggestion {
        let policy = self.after.key.to_string();
        let rule = self.rule.and_then(|(direction, index)| {
            let line = before?.rules(direction)?.get(index)?.line;
            let file = before?.origin.as_ref().map(|origin| origin.file.clone());
            let line = (line > 0 && file.is_some()).then_some(line);
            Some(RuleRef { policy: policy.clone(), direction, index: u32::try_from(index).ok()?, file, line })
        });
        Suggestion { policy, rule, edit: self.edit, patch: self.patch, after: self.after, opens, closes }
    }
}
