//! Findings that their authors have accepted, with an annotation of the policy or a comment beside the place.
//!
//! Both name rules by id or name, separated by commas, and then say why: `netpol.io/ignore: NP109 until the other team has migrated`.

use std::collections::BTreeSet;

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, ObjectRef, Place, Position, Rule, Severity};
use policy_core::manifest::{IGNORE, Snapshot, nearest, scalar_spans};

/// What a comment begins with, after its `#`; white space may follow it before `ignore`.
const COMMENT: &str = "netpol:";

/// A finding that is accepted, and is not there.
pub static STALE_SUPPRESSION: Rule = Rule {
    id: "NP399",
    name: "stale-suppression",
    severity: Severity::Warning,
    group: Group::Hygiene,
    kind: Kind::NoEffect,
    section: "S1.1",
    event_reason: None,
    summary: "an annotation or a comment accepts a finding that is not there",
    documentation: Documentation {
        what: "An annotation `netpol.io/ignore` or a comment `# netpol:ignore` that names a rule which finds nothing there, or which does not \
               exist. Rules that are not checked are left out of this.",
        why: "It hides the next finding of that rule, which nobody has accepted.",
        example: Some(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: web\n  namespace: shop\n  annotations: \
             {netpol.io/ignore: NP108 it was wrong once}\nspec: {podSelector: {}, ingress: []}\n",
        ),
        fix: "Remove it.",
        corrected: Some(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: web\n  namespace: shop\nspec: {podSelector: {}, ingress: \
             []}\n",
        ),
    },
};

/// A comment that accepts findings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Comment {
    /// Its file.
    pub file: String,
    /// Where it is.
    pub position: Position,
    /// The line that it is about: its own, or, if nothing else is there, the next one that is no comment.
    pub line: u32,
    /// What follows `netpol:ignore`.
    pub text: String,
}

/// The comments of a file that accept findings. Cost: one search, if there is none.
#[must_use]
pub fn comments(file: &str, text: &str) -> Vec<Comment> {
    let mut out = Vec::new();
    let mut waiting: Vec<usize> = Vec::new();
    if !text.contains(COMMENT) {
        return out;
    }
    let scalars = scalar_spans(text);
    let is_in_scalar = |at: usize| {
        let before = scalars.partition_point(|(start, _)| *start <= at);
        scalars.get(..before).unwrap_or_default().iter().rev().take(8).any(|(_, end)| at < *end)
    };
    let mut start = 0;
    for (number, line) in (1_u32..).zip(text.split_inclusive('\n')) {
        let is_comment = line.trim_start().starts_with('#');
        if !is_comment {
            for at in waiting.drain(..) {
                if let Some(Comment { line, .. }) = out.get_mut(at) {
                    *line = number;
                }
            }
        }
        if let Some((at, text)) = accepted(line).filter(|(at, _)| !is_in_scalar(start + at)) {
            waiting.extend(is_comment.then_some(out.len()));
            let column = u32::try_from(line.get(..at).unwrap_or_default().chars().count() + 1).unwrap_or(u32::MAX);
            let end = start + line.trim_end().len();
            let position = Position { line: number, column, bytes: (start + at, end) };
            out.push(Comment { file: file.to_owned(), position, line: number, text: text.to_owned() });
        }
        start += line.len();
    }
    out
}

/// Where the comment of a line begins, and what it accepts. A `#` begins a comment at the start of a line, or after white space.
fn accepted(line: &str) -> Option<(usize, &str)> {
    let starts = line.match_indices('#').map(|(at, _)| at);
    let is_start = |at: &usize| line.get(..*at).is_some_and(|before| before.is_empty() || before.ends_with([' ', '\t']));
    starts.filter(is_start).find_map(|at| {
        let text = line.get(at + 1..)?.trim_start().strip_prefix("netpol:")?.trim_start().strip_prefix("ignore")?;
        text.starts_with(char::is_whitespace).then(|| (at, text.trim()))
    })
}

/// The rules that a text begins with: words with commas between them, or one word.
fn named(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        out.extend(word.trim_end_matches(':').split(',').filter(|name| !name.is_empty()));
        let goes_on = word.ends_with(',') || words.peek().is_some_and(|next| next.starts_with(','));
        if !goes_on {
            break;
        }
    }
    out
}

/// Who accepts findings, and which ones.
struct Suppression<'s> {
    text: &'s str,
    place: Option<Place>,
    object: Option<ObjectRef>,
    covers: Covers<'s>,
}

enum Covers<'s> {
    Policy(ObjectRef),
    Line(&'s str, u32),
}

impl Suppression<'_> {
    fn covers(&self, finding: &Diagnostic, snapshot: &Snapshot) -> bool {
        match &self.covers {
            Covers::Policy(policy) => finding.object.as_ref() == Some(policy),
            Covers::Line(file, line) => {
                let is_at = |place: &Place| place.file == *file && place.position.as_ref().is_some_and(|at| at.line == *line);
                // A comment above an object is about all of it.
                let start = finding.object.as_ref().and_then(|object| snapshot.places.nearest(object, ""));
                let is_above = || start.as_ref().is_some_and(is_at);
                finding.place.as_ref().is_some_and(is_at) || is_above()
            }
        }
    }
}

/// Takes out the findings that are accepted, and adds one for each acceptance that is stale. Errors of the input cannot be accepted.
pub fn suppress(findings: &mut Vec<Diagnostic>, snapshot: &Snapshot, comments: &[Comment], is_checked: impl Fn(&Rule) -> bool) {
    let of_policies = snapshot.ignores.iter().map(|(key, text)| {
        let policy = ObjectRef::namespaced("NetworkPolicy", &key.namespace, &key.name);
        let place = snapshot.places.nearest(&policy, &format!("metadata.annotations.{IGNORE}"));
        Suppression { text, place, object: Some(policy.clone()), covers: Covers::Policy(policy) }
    });
    let of_comments = comments.iter().map(|comment| Suppression {
        text: &comment.text,
        place: Some(Place { file: comment.file.clone(), position: Some(comment.position.clone()) }),
        object: None,
        covers: Covers::Line(&comment.file, comment.line),
    });
    let mut accepted: BTreeSet<usize> = BTreeSet::new();
    let mut stale = Vec::new();
    for suppression in of_policies.chain(of_comments) {
        for name in named(suppression.text) {
            let rule = crate::all_rules().find(|rule| rule.name == name || rule.id.eq_ignore_ascii_case(name));
            let hidden = |finding: &Diagnostic| {
                let can_be = finding.rule.group != Group::Input || !finding.is_error();
                Some(finding.rule) == rule && can_be && suppression.covers(finding, snapshot)
            };
            let found: Vec<usize> =
                findings.iter().enumerate().filter(|(_, finding)| hidden(finding)).map(|(at, _)| at).collect();
            let message = match rule {
                None => {
                    let near = nearest(name, crate::all_rules().flat_map(|rule| [rule.name, rule.id]));
                    let help = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                    format!("there is no rule `{name}`{help}")
                }
                Some(rule) if found.is_empty() && is_checked(rule) => format!("`{name}` finds nothing here"),
                Some(_) => String::new(),
            };
            if !message.is_empty() && is_checked(&STALE_SUPPRESSION) {
                let diagnostic = Diagnostic::new(&STALE_SUPPRESSION, message).help("remove it");
                let path = suppression.object.as_ref().map(|_| format!("metadata.annotations.{IGNORE}"));
                let place = suppression.place.clone();
                stale.push(Diagnostic {
                    place,
                    object: suppression.object.clone(),
                    path: path.unwrap_or_default(),
                    ..diagnostic
                });
            }
            accepted.extend(found);
        }
    }
    let mut at = 0..;
    findings.retain(|_| !at.next().is_some_and(|at| accepted.contains(&at)));
    findings.extend(stale);
}
