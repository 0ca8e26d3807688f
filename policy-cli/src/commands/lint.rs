//! `netpol lint`: what is valid, and may not mean what its author thinks.
//!
//! - `fix`: what `--fix` and `--diff` do.

mod fix;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use policy_core::diagnostic::{Diagnostic, Group, Rule, Severity};
use policy_core::manifest::nearest;

use super::check::{self, Checks};
use crate::Outcome;
use crate::args::LintArgs;
use crate::input::config::{Config, Lint, LintSeverity};

pub(crate) fn run(args: &LintArgs) -> Result<Outcome> {
    let LintArgs { files: _, fail_on, select, ignore, fix, diff, input, output } = args;
    let lints = Some(Rules::new(Config::find()?.as_ref(), select, ignore)?);
    let checks = Checks { input, fail_on: *fail_on, stored: None, lints, output: *output };
    if *diff {
        return fix::diff(&checks);
    }
    if *fix {
        fix::apply(&checks)?;
    }
    check::run(&checks)
}

/// Whether globs match a file.
type Matcher = Box<dyn Fn(&Path) -> bool>;

/// The rules that are checked. Errors of the input are always reported.
pub(crate) struct Rules {
    ids: BTreeSet<&'static str>,
    severities: BTreeMap<&'static str, Severity>,
    /// Rules that do not apply to some files.
    overrides: Vec<(BTreeSet<&'static str>, Matcher)>,
}

impl Rules {
    /// The rules that `select` names, or else the file, or else those of every group but portability; without those that `ignore` or the
    /// file names.
    fn new(config: Option<&Config>, select: &[String], ignore: &[String]) -> Result<Self> {
        let default = Lint::default();
        let lint = config.map_or(&default, |config| &config.lint);
        let of_file = |error: anyhow::Error| match config {
            Some(config) => anyhow!("{}: {error}", config.path.display()),
            None => error,
        };
        let by_default =
            || policy_lint::all_rules().filter(|rule| rule.group != Group::Portability).map(|rule| rule.id).collect();
        let mut ids: BTreeSet<&str> = match (select, lint.select.as_slice()) {
            ([], []) => by_default(),
            ([], of_config) => ids_of(of_config).map_err(of_file)?,
            (select, _) => ids_of(select)?,
        };
        let without: BTreeSet<&str> = ids_of(&lint.ignore).map_err(of_file)?.into_iter().chain(ids_of(ignore)?).collect();
        ids.retain(|id| !without.contains(id));
        let mut severities = BTreeMap::new();
        for (name, severity) in &lint.severity {
            let severity = match severity {
                LintSeverity::Error => Severity::Error,
                LintSeverity::Warning => Severity::Warning,
                LintSeverity::Info => Severity::Info,
            };
            severities.extend(ids_of(std::slice::from_ref(name)).map_err(of_file)?.into_iter().map(|id| (id, severity)));
        }
        let mut overrides: Vec<(BTreeSet<&str>, Matcher)> = Vec::new();
        for (config, of_paths) in config.iter().flat_map(|config| config.lint.overrides.iter().map(move |own| (config, own))) {
            let matches = config.globs_of(&of_paths.paths).matching().map_err(|text| of_file(anyhow!(text)))?;
            overrides.push((ids_of(&of_paths.ignore).map_err(of_file)?, Box::new(matches)));
        }
        Ok(Self { ids, severities, overrides })
    }

    /// Whether a rule is checked.
    pub(super) fn contain(&self, rule: &Rule) -> bool {
        self.ids.contains(rule.id)
    }

    /// Leaves the findings of these rules, with their severities. What an API server refuses stays as it is.
    pub(super) fn apply(&self, findings: &mut Vec<Diagnostic>) {
        findings.retain_mut(|found| {
            if found.rule.group == Group::Input && found.is_error() {
                return true;
            }
            if let Some(severity) = self.severities.get(found.rule.id) {
                found.severity = *severity;
            }
            let is_left_out = |place: &policy_core::diagnostic::Place| {
                self.overrides.iter().any(|(ids, matches)| ids.contains(found.rule.id) && matches(Path::new(&place.file)))
            };
            self.contain(found.rule) && !found.place.as_ref().is_some_and(is_left_out)
        });
    }
}

fn ids_of(names: &[String]) -> Result<BTreeSet<&'static str>> {
    let mut ids = BTreeSet::new();
    for name in names {
        ids.extend(rules_of(name)?.into_iter().map(|rule| rule.id));
    }
    Ok(ids)
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
