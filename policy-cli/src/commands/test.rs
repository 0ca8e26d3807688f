//! `netpol test`: whether what is asserted of an input holds.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use policy_core::manifest::own_file;
use policy_core::model::Direction;
use policy_input::files::is_test_file;
use serde::Serialize;

use crate::Outcome;
use crate::args::{InputArgs, TestArgs, TestFormat};
use crate::input::config::{self, Selected};
use crate::input::excerpts::Excerpts;
use crate::output::answer::{Detail, text as answer_text};
use crate::output::diagnostics::text;
use crate::output::{BOLD, DIM, GREEN, RED, YELLOW, is_quiet, json, json_lines, message, print_findings, print_wrapped, yaml};
use crate::questions::answer::Answer;
use crate::questions::assertions::{Asserted, Assertion, TestFile, of_today};
use crate::questions::evaluation::Evaluation;

/// The name of the file that is looked for in directories.
const NAME: &str = "netpol-test.yaml";

/// The results, as `-o json` prints them. Fields are added, never renamed or removed.
#[derive(Serialize, Default)]
struct Results {
    passed: usize,
    failed: usize,
    tests: Vec<Tested>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<Coverage>,
}

/// The result of one assertion.
#[derive(Serialize)]
struct Tested {
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment: Option<String>,
    name: String,
    file: String,
    line: u32,
    passed: bool,
    /// Why it could not be checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    counter_examples: Vec<CounterExample>,
}

/// An answer that contradicts an assertion.
#[derive(Serialize)]
struct CounterExample {
    expected: &'static str,
    #[serde(flatten)]
    answer: Answer,
}

/// What no assertion rests on.
#[derive(Serialize, Default)]
struct Coverage {
    policies: Vec<String>,
    rules: Vec<String>,
    workloads: Vec<String>,
}

pub(crate) fn run(args: &TestArgs) -> Result<Outcome> {
    let mut results = Results { coverage: args.coverage.then(Coverage::default), ..Results::default() };
    let mut worst = Outcome::Yes;
    if args.init {
        return init(args);
    }
    for Selected { deployment, args: input } in config::each(&args.input)? {
        let Some(evaluation) = super::evaluation(&input)? else { return Ok(Outcome::BadInput) };
        if evaluation.has_errors {
            worst = Outcome::BadInput;
        }
        let (asserted, has_errors) = assertions(args, &input)?;
        if has_errors {
            worst = Outcome::BadInput;
        }
        let mut used = Used::default();
        for one in asserted {
            let tested = check(&evaluation, &one, deployment.as_ref().map(|(name, _)| name.clone()), &mut used);
            worst = worst.max(match (&tested.error, tested.passed) {
                (Some(_), _) => Outcome::BadInput,
                (None, false) => Outcome::No,
                (None, true) => Outcome::Yes,
            });
            results.tests.push(tested);
        }
        if let Some(coverage) = &mut results.coverage {
            used.add_rest(&evaluation, coverage);
        }
    }
    if results.tests.is_empty() && worst == Outcome::Yes {
        bail!(
            "no assertion was found; write them to {NAME} beside the manifests, name a file with --tests, or begin with `netpol test --init`"
        );
    }
    results.passed = results.tests.iter().filter(|test| test.passed).count();
    results.failed = results.tests.len() - results.passed;
    match args.output {
        TestFormat::Text => {
            print_wrapped(&shown(&results))?;
            if !is_quiet() {
                print_findings(&summary(&results))?;
            }
        }
        TestFormat::Json => json(&results)?,
        TestFormat::Jsonl => json_lines(&results.tests)?,
        TestFormat::Yaml => yaml::print(&results)?,
    }
    Ok(worst)
}

/// The assertions of the files that are named, or of those beside the input; and whether something is wrong with them.
fn assertions(args: &TestArgs, input: &InputArgs) -> Result<(Vec<Asserted>, bool)> {
    let mut files = args.tests.clone();
    if files.is_empty() {
        files.extend(config::tests(input)?);
        for part in config::parts(input)?.0 {
            for folder in part.args.paths.iter().chain(&part.args.kustomizations).chain(&part.args.chart) {
                files.extend(beside(folder)?);
            }
        }
    }
    files.dedup();
    let (mut out, mut has_errors) = (Vec::new(), false);
    for file in files {
        let name = file.display().to_string();
        let content = std::fs::read_to_string(&file).with_context(|| format!("cannot read `{name}`"))?;
        let found = own_file::<TestFile>(&name, &content, "tests");
        let mut excerpts = Excerpts::default();
        excerpts.take(&name, content.into_bytes(), &found.diagnostics);
        text::print(&found.diagnostics, &excerpts);
        has_errors |= !found.diagnostics.is_empty();
        for (document, places) in found.documents {
            for (assertion, position) in document.tests.into_iter().zip(places) {
                let assertion = assertion.unwrap_or_default();
                out.push(Asserted { assertion, file: name.clone(), position });
            }
        }
    }
    Ok((out, has_errors))
}

/// The files with assertions in a directory, and below it.
fn beside(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .with_context(|| format!("cannot read `{}`", folder.display()))?;
    entries.sort();
    let mut out = Vec::new();
    for path in entries {
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.is_dir() && !path.is_symlink() && !is_hidden {
            out.extend(beside(&path)?);
        } else if is_test_file(&path) {
            out.push(path);
        }
    }
    Ok(out)
}

fn check(evaluation: &Evaluation, one: &Asserted, deployment: Option<String>, used: &mut Used) -> Tested {
    let Asserted { assertion, file, position } = one;
    let mut tested = Tested {
        deployment,
        name: assertion.text(),
        file: file.clone(),
        line: position.line,
        passed: false,
        error: None,
        counter_examples: Vec::new(),
    };
    match assertion.check(evaluation) {
        Err(error) => tested.error = Some(format!("{error:#}")),
        Ok(outcome) => {
            tested.passed = outcome.contradictions.is_empty();
            for answer in &outcome.answers {
                used.take(answer);
            }
            for contradiction in outcome.contradictions {
                used.take(&contradiction.answer);
                let (expected, answer) = (contradiction.expected, contradiction.answer);
                tested.counter_examples.push(CounterExample { expected, answer });
            }
        }
    }
    tested
}

/// What answers rest on.
#[derive(Default)]
struct Used {
    policies: BTreeSet<String>,
    rules: BTreeSet<(String, Direction, u32)>,
    ends: BTreeSet<String>,
}

impl Used {
    fn take(&mut self, answer: &Answer) {
        self.ends.extend([answer.from.clone(), answer.to.clone()]);
        for side in [&answer.egress, &answer.ingress] {
            self.policies.extend(side.policies.iter().cloned());
            let allowing = side.rules.iter().filter(|line| !line.allows.is_empty()).map(|line| &line.rule);
            for rule in side.rule.iter().chain(allowing) {
                self.rules.insert((rule.policy.clone(), rule.direction, rule.index));
            }
        }
    }

    /// Adds what nothing rests on.
    fn add_rest(&self, evaluation: &Evaluation, coverage: &mut Coverage) {
        for (key, policy) in &evaluation.snapshot.policies {
            let name = format!("{}/{}", key.namespace, key.name);
            let place = policy.origin.as_ref().map_or_else(String::new, |origin| format!(" ({origin})"));
            if !self.policies.contains(&name) {
                coverage.policies.push(format!("{name}{place}"));
                continue;
            }
            for direction in Direction::ALL {
                for (at, rule) in (0_u32..).zip(policy.rules(direction).unwrap_or_default()) {
                    if !self.rules.contains(&(name.clone(), direction, at)) {
                        let place =
                            policy.origin.as_ref().map_or_else(String::new, |origin| format!(" ({}:{})", origin.file, rule.line));
                        coverage.rules.push(format!("{name} {direction}[{at}]{place}"));
                    }
                }
            }
        }
        let names = evaluation.workloads().map(|end| end.name());
        coverage.workloads.extend(names.filter(|name| !self.ends.contains(name)));
    }
}

/// The assertions that do not hold, with their counter-examples.
fn shown(results: &Results) -> String {
    let mut out = String::new();
    for test in &results.tests {
        let deployment = test.deployment.as_ref().map_or_else(String::new, |name| format!("{name}: "));
        let place = format!("{DIM}{}:{}{DIM:#}", test.file, test.line);
        match (&test.error, test.passed) {
            (None, true) if is_quiet() => {}
            (None, true) => {
                let _ = writeln!(out, "{GREEN}passed{GREEN:#}  {deployment}{}  {place}", test.name);
            }
            (Some(error), _) => {
                let _ = writeln!(out, "{RED}error{RED:#}   {deployment}{}  {place}\n  {error}", test.name);
            }
            (None, false) => {
                let _ = writeln!(out, "{RED}failed{RED:#}  {deployment}{}  {place}", test.name);
                for CounterExample { expected, answer } in &test.counter_examples {
                    let _ = writeln!(out, "  expected {BOLD}{expected}{BOLD:#}, but:");
                    for line in answer_text(answer, Detail::Brief).lines() {
                        let _ = writeln!(out, "  {line}");
                    }
                }
            }
        }
    }
    out
}

fn summary(results: &Results) -> String {
    let style = if results.failed == 0 { GREEN } else { RED };
    let mut out = format!("\n{style}{} passed, {} failed{style:#}\n", results.passed, results.failed);
    if let Some(Coverage { policies, rules, workloads }) = &results.coverage {
        let lists = [("policies", policies), ("rules", rules), ("workloads", workloads)];
        for (what, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            let _ = writeln!(out, "{YELLOW}{what} that no assertion rests on{YELLOW:#}: {}", list.join(", "));
        }
        if lists_are_empty(&[policies, rules, workloads]) {
            let _ = writeln!(out, "every policy, rule and workload has an assertion that rests on it");
        }
    }
    out
}

fn lists_are_empty(lists: &[&Vec<String>]) -> bool {
    lists.iter().all(|list| list.is_empty())
}

/// Writes what is allowed today as a first file.
fn init(args: &TestArgs) -> Result<Outcome> {
    let Some(evaluation) = super::evaluation(&args.input)? else { return Ok(Outcome::BadInput) };
    let tests = of_today(&evaluation)?;
    if tests.is_empty() {
        bail!("no workload of the input is isolated, so there is nothing to assert yet");
    }
    let body: String = tests.iter().map(|test| format!("- {}\n", line(test))).collect();
    let written = format!(
        "# What is allowed today, by `netpol test --init`. `netpol test` checks it. Every line is meant to be edited.\ntests:\n{body}"
    );
    let (parts, _) = config::parts(&args.input)?;
    let mut folders =
        parts.iter().flat_map(|part| part.args.paths.iter().chain(&part.args.kustomizations).chain(&part.args.chart));
    let folder = folders.find(|path| path.is_dir()).cloned().unwrap_or_else(|| PathBuf::from("."));
    let file = args.tests.first().cloned().unwrap_or_else(|| folder.join(NAME));
    if file.exists() {
        bail!("`{}` is there already; name another file with --tests", file.display());
    }
    std::fs::write(&file, written).with_context(|| format!("cannot write `{}`", file.display()))?;
    let plural = if tests.len() == 1 { "" } else { "s" };
    message(&format!("wrote {} assertion{plural} to {}", tests.len(), file.display()));
    Ok(Outcome::Yes)
}

/// An assertion in one line of YAML.
fn line(test: &Assertion) -> String {
    let quoted = |text: &String| {
        let is_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "./-_".contains(c))
            && text.contains(|c: char| c.is_ascii_alphabetic());
        if is_plain { text.clone() } else { format!("\"{text}\"") }
    };
    let list = |texts: &[String]| match texts {
        [one] => quoted(one),
        many => format!("[{}]", many.iter().map(quoted).collect::<Vec<_>>().join(", ")),
    };
    let fields = [
        ("from", (!test.from.is_empty()).then(|| list(&test.from))),
        ("to", (!test.to.is_empty()).then(|| list(&test.to))),
        ("only-from", test.only_from.as_deref().map(list)),
        ("only-to", test.only_to.as_deref().map(list)),
        ("ports", (!test.ports.is_empty()).then(|| list(&test.ports))),
    ];
    let fields: Vec<String> = fields.into_iter().filter_map(|(name, value)| Some(format!("{name}: {}", value?))).collect();
    format!("{{{}}}", fields.join(", "))
}
