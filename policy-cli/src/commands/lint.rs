//! `netpol lint`: what is valid, and may not mean what its author thinks.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use policy_core::diagnostic::{Group, Rule};
use policy_core::manifest::nearest;

use super::check::{self, Checks};
use crate::Outcome;
use crate::args::LintArgs;

pub(crate) fn run(args: &LintArgs) -> Result<Outcome> {
    let LintArgs { files: _, fail_on, select, ignore, input, output } = args;
    let lints = Some(Rules::new(select, ignore)?);
    check::run(&Checks { input, fail_on: *fail_on, stored: None, lints, output: *output })
}

/// The rules that are checked. Errors of the input are always reported.
pub(crate) struct Rules {
    ids: BTreeSet<&'static str>,
}

impl Rules {
    /// The rules that `select` names, or all of the groups that are checked by default, without those that `ignore` names.
    fn new(select: &[String], ignore: &[String]) -> Result<Self> {
        let named = |names: &[String]| -> Result<BTreeSet<&'static str>> {
            let mut ids = BTreeSet::new();
            for name in names {
                ids.extend(rules_of(name)?.into_iter().map(|rule| rule.id));
            }
            Ok(ids)
        };
        let by_default =
            || policy_lint::all_rules().filter(|rule| rule.group != Group::Portability).map(|rule| rule.id).collect();
        let mut ids = if select.is_empty() { by_default() } else { named(select)? };
        for id in named(ignore)? {
            ids.remove(id);
        }
        Ok(Self { ids })
    }

    /// Whether a rule is checked.
    pub(super) fn contain(&self, rule: &Rule) -> bool {
        self.ids.contains(rule.id)
    }
}

/// The rules that an id, a name or the name of a group means; `all` means all.
pub(super) fn rules_of(name: &str) -> Result<Vec<&'static Rule>> {
    let is_meant =
        |rule: &&Rule| name == "all" || rule.group.name() == name || rule.name == name || rule.id.eq_ignore_ascii_case(name);
    let rules: Vec<&Rule> = policy_lint::all_rules().filter(is_meant).collect();
    if rules.is_empty() {
        let groups = Group::ALL.map(Group::name);
        let names = policy_lint::all_rules().flat_map(|rule| [rule.name, rule.id]);
        let near = nearest(name, names.chain(groups).chain(["all"]));
        let help = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        bail!("there is no rule or group `{name}`{help}; `netpol rules` lists them");
    }
    Ok(rules)
}
