//! `netpol can`: the verdict on one question, and why.

use std::fmt::Write;

use anyhow::{Result, bail};
use policy_core::sets::PortSet;

use crate::Outcome;
use crate::args::{CanArgs, CanFormat};
use crate::output::answer::{Detail, change_texts, headline, text};
use crate::output::{is_quiet, json, json_lines, print_wrapped, raw, yaml};
use crate::questions::answer::{Answer, Fixes, Verdict, answer};
use crate::questions::edits::{Edits, edits};
use crate::questions::ends::{self, End, Ends};
use crate::questions::evaluation::Evaluation;
use crate::questions::ports::ports;
use crate::questions::representation;

/// Pairs of ends that one question may have. `netpol list` has no such limit, because it does not explain.
const MOST_PAIRS: usize = 10_000;

pub(crate) fn run(args: &CanArgs) -> Result<Outcome> {
    let Some(mut evaluation) = super::evaluation(&args.input)? else { return Ok(Outcome::BadInput) };
    let from = ends::parse(&args.from, &evaluation)?;
    let to = ends::parse(&args.to, &evaluation)?;
    let detail = match args.verbose {
        true => Detail::Full,
        false if is_quiet() => Detail::Verdict,
        false => Detail::Brief,
    };
    let is_pattern = is_pattern(&from, &to);
    let is_headline = is_pattern && args.output == CanFormat::Text && detail != Detail::Full;
    let is_omitted = is_headline || args.output == CanFormat::Patch;
    let fixes = if is_omitted { Fixes::Omitted } else { Fixes::Suggested };
    let ports = ports(&args.ports.ports, Some(to.list()), &evaluation)?;
    let answers = answers(&evaluation, &from, &to, args, ports.as_ref(), fixes)?;
    match (args.output, answers.as_slice()) {
        (CanFormat::Json, [answer]) if !is_pattern => json(answer)?,
        (CanFormat::Json, answers) => json(answers)?,
        (CanFormat::Jsonl, answers) => json_lines(answers)?,
        (CanFormat::Yaml, [answer]) if !is_pattern => yaml::print(answer)?,
        (CanFormat::Yaml, answers) => yaml::print(answers)?,
        (CanFormat::Text, [answer]) if !is_pattern => print_wrapped(&text(answer, detail))?,
        (CanFormat::Text, answers) => print_wrapped(&several(answers, detail))?,
        (CanFormat::Patch, answers) => {
            let edits = edits(&mut evaluation, pairs(&from, &to), ports.as_ref())?;
            raw(patches(answers, &edits)?.as_bytes())?;
        }
    }
    let is_allowed = answers.iter().all(|answer| answer.verdict == Verdict::Allowed);
    Ok(match is_allowed {
        _ if evaluation.has_errors => Outcome::BadInput,
        true => Outcome::Yes,
        false => Outcome::No,
    })
}

/// Each pair of ends.
fn pairs<'e>(from: &'e Ends, to: &'e Ends) -> impl Iterator<Item = (&'e End, &'e End)> {
    from.list().iter().flat_map(move |from| to.list().iter().map(move |to| (from, to)))
}

/// The answer for each pair of ends, at least one.
fn answers(
    evaluation: &Evaluation,
    from: &Ends,
    to: &Ends,
    args: &CanArgs,
    ports: Option<&PortSet>,
    fixes: Fixes,
) -> Result<Vec<Answer>> {
    let count = from.list().len() * to.list().len();
    if count > MOST_PAIRS {
        let (from, to) = (&args.from, &args.to);
        bail!(
            "`{from}` and `{to}` are {count} pairs, and `can` explains at most {MOST_PAIRS}; use `netpol list --from '{from}' --to '{to}'`"
        );
    }
    let mut answers: Vec<Answer> =
        pairs(from, to).map(|(from, to)| answer(evaluation, from, to, ports, fixes)).collect::<Result<_>>()?;
    if is_pattern(from, to) {
        let missing = representation::of_patterns(evaluation);
        for answer in &mut answers {
            answer.caveats.retain(|caveat| missing.iter().all(|missing| missing.text != caveat.text));
            answer.caveats.extend(missing.iter().cloned());
        }
    }
    Ok(answers)
}

fn is_pattern(from: &Ends, to: &Ends) -> bool {
    [from, to].into_iter().any(|ends| matches!(ends, Ends::Several(_)))
}

/// The suggested fixes, for each policy a YAML document with the command that applies it.
fn patches(answers: &[Answer], edits: &Edits) -> Result<String> {
    let mut documents: Vec<String> = Vec::new();
    for edited in &edits.made {
        let (namespace, name) = edited.policy.split_once('/').unwrap_or_default();
        let (command, patch) = match &edited.object {
            Some(object) => ("kubectl apply -f FILE".to_owned(), yaml::text(object)?),
            None => {
                let command = format!("kubectl patch networkpolicy {name} -n {namespace} --type=json --patch-file FILE");
                (command, yaml::text(&edited.operations)?)
            }
        };
        let mut document = format!("# {command}\n");
        for fix in &edited.fixes {
            let opens = change_texts(&fix.also_opens, usize::MAX);
            let _ = write!(document, "# {}\n# also opens: {opens}\n", fix.suggestion.edit);
            if !fix.also_closes.is_empty() {
                let _ = writeln!(document, "# also closes: {}", change_texts(&fix.also_closes, usize::MAX));
            }
        }
        documents.push(document + &patch);
    }
    let mut caveats: Vec<String> =
        answers.iter().flat_map(|answer| &answer.caveats).map(|caveat| format!("# caveat: {caveat}\n")).collect();
    caveats.sort();
    caveats.dedup();
    if edits.is_cut {
        caveats.push(
            "# caveat: these edits do not allow all of it; apply them, and run the command again for the rest\n".to_owned(),
        );
    }
    if documents.is_empty() {
        documents.push("# nothing to edit: what was asked is allowed, or no edit to a policy allows it\n".to_owned());
    }
    Ok(caveats.concat() + &documents.join("---\n"))
}

/// One line for each pair, or the whole answers, and a summary.
fn several(answers: &[Answer], detail: Detail) -> String {
    let mut out = String::new();
    for answer in answers {
        let _ = match detail {
            Detail::Full => writeln!(out, "{}", text(answer, detail)),
            Detail::Brief | Detail::Verdict => write!(out, "{}", headline(answer)),
        };
    }
    let mut caveats: Vec<String> =
        answers.iter().filter(|_| detail != Detail::Full).flat_map(|a| &a.caveats).map(ToString::to_string).collect();
    caveats.sort();
    caveats.dedup();
    for caveat in caveats {
        let _ = writeln!(out, "{}", crate::output::answer::caveat(&caveat));
    }
    if detail == Detail::Verdict {
        return out;
    }
    let allowed = answers.iter().filter(|answer| answer.verdict == Verdict::Allowed).count();
    let count = match answers.len() {
        1 => "1 pair".to_owned(),
        n => format!("{n} pairs"),
    };
    let _ = writeln!(out, "\nallowed for {allowed} of {count}");
    out
}
