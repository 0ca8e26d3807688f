//! `netpol rules`: the rules of `netpol lint` and `netpol validate`, and their manual.

use anyhow::Result;
use policy_core::diagnostic::{Group, Rule};

use super::lint::rules_of;
use crate::Outcome;
use crate::args::RulesArgs;
use crate::output::{BOLD, print_findings};

pub(crate) fn run(args: &RulesArgs) -> Result<Outcome> {
    let is_group = |name: &String| Group::ALL.iter().any(|group| group.name() == *name) || name == "all";
    let mut rules: Vec<&Rule> = Vec::new();
    for name in &args.rules {
        rules.extend(rules_of(name)?);
    }
    let text = if args.rules.is_empty() {
        list(policy_lint::all_rules())
    } else if args.rules.iter().all(is_group) {
        list(rules.into_iter())
    } else {
        rules.into_iter().map(page).collect::<Vec<_>>().join("\n")
    };
    print_findings(&text)?;
    Ok(Outcome::Yes)
}

/// One line for each rule, by groups.
fn list(rules: impl Iterator<Item = &'static Rule>) -> String {
    let rules: Vec<&Rule> = rules.collect();
    let mut out = String::new();
    for group in Group::ALL {
        let own: Vec<&&Rule> = rules.iter().filter(|rule| rule.group == group).collect();
        let width = own.iter().map(|rule| rule.name.len()).max().unwrap_or(0);
        if own.is_empty() {
            continue;
        }
        out.push_str(&format!("{}{BOLD}{group}{BOLD:#}\n", if out.is_empty() { "" } else { "\n" }));
        for rule in own {
            out.push_str(&format!("{}  {:<7}  {:width$}  {}\n", rule.id, rule.severity.to_string(), rule.name, rule.summary));
        }
    }
    out
}

/// The manual page of a rule.
fn page(rule: &'static Rule) -> String {
    let manual = &rule.documentation;
    let block = |title: &str, text: &str| {
        let lines: Vec<String> = text.trim_end().lines().map(|line| format!("    {line}").trim_end().to_owned()).collect();
        format!("\n{BOLD}{title}{BOLD:#}\n{}\n", lines.join("\n"))
    };
    let mut out = format!("{BOLD}{} {}{BOLD:#} ({}, {})\n{}\n", rule.id, rule.name, rule.severity, rule.group, rule.summary);
    out.push_str(&block("What", manual.what));
    out.push_str(&block("Why", manual.why));
    out.push_str(&block("What to do", manual.fix));
    out.push_str(&manual.example.map(|text| block("Example", text)).unwrap_or_default());
    out.push_str(&manual.corrected.map(|text| block("Corrected", text)).unwrap_or_default());
    out.push_str(&block("Allow it", &format!("netpol lint --ignore {}", rule.name)));
    out
}

/// The page of the manual with every rule, in Markdown.
pub(crate) fn reference() -> String {
    let mut out = String::from(
        "# Rules\n\nThe rules of `netpol lint`. Those of the group *input* are those of `netpol validate` too. `netpol rule ID` prints \
         the page of one rule.\n",
    );
    for group in Group::ALL {
        out.push_str(&format!("\n## {group}\n\n| id | name | severity | finds |\n| --- | --- | --- | --- |\n"));
        let own = || policy_lint::all_rules().filter(|rule| rule.group == group);
        for rule in own() {
            let anchor = format!("{}-{}", rule.id.to_lowercase(), rule.name);
            out.push_str(&format!("| [{}](#{anchor}) | `{}` | {} | {} |\n", rule.id, rule.name, rule.severity, rule.summary));
        }
        for rule in own() {
            let manual = &rule.documentation;
            out.push_str(&format!("\n### {} {}\n\n{}\n\n{}\n\n{}\n", rule.id, rule.name, manual.what, manual.why, manual.fix));
            for (title, text) in [("Example", manual.example), ("Corrected", manual.corrected)] {
                if let Some(text) = text {
                    out.push_str(&format!("\n{title}:\n\n```yaml\n{}\n```\n", text.trim_end()));
                }
            }
        }
    }
    out
}
