//! The edits to policies that allow all of a question, each made on what those before it have left.
//!
//! Two suggested fixes that are found apart can contradict: both add the first rule of a policy, or a policy of one name.

use anyhow::Result;
use policy_core::sets::PortSet;
use policy_core::suggestion::patch::{Object, Operation, Patch};

use super::answer::{Fixes, answer};
use super::ends::End;
use super::evaluation::Evaluation;
use super::suggestion::SuggestedFix;

/// Edits that are made. A workload whose pods differ can need several, and each is evaluated anew.
const MOST: usize = 64;

/// The edits to one policy, in the order in which they are made.
pub(crate) struct Edited {
    /// `namespace/name`.
    pub policy: String,
    /// The policy, if it is a new one.
    pub object: Option<Object>,
    /// The JSON patch, if there is a policy to edit.
    pub operations: Vec<Operation>,
    pub fixes: Vec<SuggestedFix>,
}

/// Edits, and whether there are more that would be needed.
pub(crate) struct Edits {
    pub made: Vec<Edited>,
    pub is_cut: bool,
}

/// The edits after which every pair is allowed, as far as edits of policies can do it; by policy, in the order of the pairs.
pub(crate) fn edits<'e>(
    evaluation: &mut Evaluation,
    pairs: impl Iterator<Item = (&'e End, &'e End)>,
    ports: Option<&PortSet>,
) -> Result<Edits> {
    let (mut made, mut count) = (Vec::new(), 0);
    for (from, to) in pairs {
        loop {
            let answer = answer(evaluation, from, to, ports, Fixes::Suggested)?;
            let Some(fix) = [answer.egress, answer.ingress].into_iter().find_map(|side| side.nearest_miss) else { break };
            if count == MOST {
                return Ok(Edits { made, is_cut: true });
            }
            count += 1;
            evaluation.edit(fix.suggestion.after.clone());
            add(&mut made, fix);
        }
    }
    Ok(Edits { made, is_cut: false })
}

fn add(out: &mut Vec<Edited>, fix: SuggestedFix) {
    let (object, operations) = match fix.suggestion.patch.clone() {
        Patch::Add(object) => (Some(*object), Vec::new()),
        Patch::Edit(operations) => (None, operations),
    };
    // A new policy is applied before it is edited.
    match out.iter_mut().find(|edited| edited.policy == fix.suggestion.policy && edited.object.is_none()) {
        Some(edited) if object.is_none() => {
            // A field that is replaced twice in a row is replaced once.
            let is_idle = |last: &Operation| {
                operations.first().is_some_and(|next| (next.op, last.op) == ("replace", "replace") && next.path == last.path)
            };
            if edited.operations.last().is_some_and(is_idle) {
                edited.operations.pop();
            }
            edited.operations.extend(operations);
            edited.fixes.push(fix);
        }
        _ => out.push(Edited { policy: fix.suggestion.policy.clone(), object, operations, fixes: vec![fix] }),
    }
}
