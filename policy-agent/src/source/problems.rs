//! What is wrong with objects and files, as it becomes known and is solved.
//!
//! Sources send differences, so that one more problem costs the same whether there are none or 40,000. What is printed is bounded;
//! what is counted is not.

use std::collections::{BTreeMap, BTreeSet};

/// Lines that one difference writes to the log at most, for what was found and for what was solved.
const MOST_LOGGED: usize = 20;
/// Problems that are listed at most.
const MOST_SHOWN: usize = 100;

/// How what is wrong became different. What is found twice is there until it is solved twice.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProblemsDelta {
    /// What is wrong now, and was not before.
    pub found: Vec<String>,
    /// What was wrong before, and is not any more.
    pub solved: Vec<String>,
}

impl ProblemsDelta {
    /// What leads from one set of problems to another. Cost: linear in both.
    #[must_use]
    pub fn between(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Self {
        Self { found: after.difference(before).cloned().collect(), solved: before.difference(after).cloned().collect() }
    }

    /// Whether nothing became different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty() && self.solved.is_empty()
    }
}

/// What is wrong at the moment.
#[derive(Debug, Default)]
pub struct Problems {
    /// How often each was found.
    counts: BTreeMap<String, usize>,
}

impl Problems {
    /// Takes a difference, and logs it. Cost: proportional to the difference.
    pub fn take(&mut self, delta: ProblemsDelta) {
        let (found, solved) = self.apply(delta);
        for problem in found.iter().take(MOST_LOGGED) {
            tracing::error!(problem, "invalid object");
        }
        for problem in solved.iter().take(MOST_LOGGED) {
            tracing::info!(problem, "resolved");
        }
        let more = |all: &[String]| all.len().saturating_sub(MOST_LOGGED);
        if more(&found) > 0 {
            tracing::error!(more = more(&found), all = self.len(), "more invalid objects");
        }
        if more(&solved) > 0 {
            tracing::info!(more = more(&solved), all = self.len(), "more invalid objects resolved");
        }
    }

    /// Takes a difference, and returns what of it was found and solved for the first and the last time.
    fn apply(&mut self, delta: ProblemsDelta) -> (Vec<String>, Vec<String>) {
        let mut net: BTreeMap<String, isize> = BTreeMap::new();
        for text in delta.found {
            *net.entry(text).or_default() += 1;
        }
        for text in delta.solved {
            *net.entry(text).or_default() -= 1;
        }
        let (mut found, mut solved) = (Vec::new(), Vec::new());
        for (text, more) in net {
            let before = self.counts.get(&text).copied().unwrap_or_default();
            let after = before.saturating_add_signed(more);
            match (before, after) {
                (0, 0) => {}
                (_, 0) => {
                    self.counts.remove(&text);
                    solved.push(text);
                }
                (_, _) => {
                    self.counts.insert(text.clone(), after);
                    found.extend((before == 0).then_some(text));
                }
            }
        }
        (found, solved)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The first of them, in the order of their texts.
    #[must_use]
    pub fn first(&self) -> Option<&str> {
        self.counts.keys().next().map(String::as_str)
    }

    /// The first of them, and the number of further ones.
    #[must_use]
    pub fn shown(&self) -> Vec<String> {
        let mut out: Vec<String> = self.counts.keys().take(MOST_SHOWN).cloned().collect();
        let more = self.len().saturating_sub(MOST_SHOWN);
        out.extend((more > 0).then(|| format!("and {more} more")));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(found: &[&str], solved: &[&str]) -> ProblemsDelta {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        ProblemsDelta { found: texts(found), solved: texts(solved) }
    }

    #[test]
    fn what_was_found_twice_is_solved_twice() {
        let mut problems = Problems::default();
        assert_eq!(problems.apply(delta(&["a", "b", "a"], &[])).0, ["a", "b"]);
        assert_eq!(problems.apply(delta(&[], &["a"])), (vec![], vec![]));
        assert_eq!(problems.apply(delta(&["c"], &["a", "c"])).1, ["a"]);
        assert_eq!((problems.len(), problems.first()), (1, Some("b")));
    }

    #[test]
    fn what_is_shown_is_bounded_and_counted() {
        let mut problems = Problems::default();
        let many: BTreeSet<String> = (0..40_000).map(|n| format!("problem {n:05}")).collect();
        problems.take(ProblemsDelta::between(&BTreeSet::new(), &many));
        let shown = problems.shown();
        assert_eq!((problems.len(), shown.len()), (40_000, MOST_SHOWN + 1));
        assert_eq!(shown.last().map(String::as_str), Some("and 39900 more"));
        let fewer: BTreeSet<String> = many.iter().skip(1).cloned().collect();
        assert_eq!(ProblemsDelta::between(&many, &fewer), delta(&[], &["problem 00000"]));
    }
}
