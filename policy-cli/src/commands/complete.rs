//! Completion of `kubectl netpol`: kubectl runs `kubectl_complete-netpol` with the words so far, of which the last is incomplete, and
//! reads candidates in the form that cobra defines: one in each line, then a line with a directive.
//!
//! Source: `kubectl plugin --help`; `ShellCompDirective` of github.com/spf13/cobra.

use std::ffi::OsString;

use anyhow::Result;
use clap::{Arg, Command, FromArgMatches};

use crate::args::{self, Args};
use crate::output::raw;
use crate::questions::evaluation;

/// The shell completes names of files.
const FILES: u8 = 0;
/// The shell completes nothing else.
const NOTHING_ELSE: u8 = 4;

/// Prints the candidates for the last word.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let (directive, candidates) = candidates(words);
    let last = words.last().map(String::as_str).unwrap_or_default();
    let mut out = String::new();
    for candidate in candidates.iter().filter(|candidate| candidate.starts_with(last)) {
        out.push_str(candidate);
        out.push('\n');
    }
    raw(format!("{out}:{directive}\n").as_bytes())
}

fn candidates(words: &[String]) -> (u8, Vec<String>) {
    let mut program = args::command().disable_help_subcommand(true);
    program.build();
    let (last, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let commands = || program.get_subcommands().filter(|command| !command.is_hide_set());
    let Some(command) = before.iter().find_map(|word| commands().find(|command| command.get_name() == word)) else {
        return (NOTHING_ELSE, commands().map(|command| command.get_name().to_owned()).chain(options(&program)).collect());
    };
    if let Some(option) = before.last().and_then(|word| option(command, word)) {
        let values: Vec<String> = option.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        let is_end = ["from", "to"].contains(&option.get_id().as_str());
        return match values.is_empty() {
            false => (NOTHING_ELSE, values),
            true if is_end => (NOTHING_ELSE, ends(before)),
            true => (FILES, Vec::new()),
        };
    }
    if last.starts_with('-') {
        return (NOTHING_ELSE, options(command).collect());
    }
    match command.get_name() {
        "can" | "who" | "reach" => (NOTHING_ELSE, ends(before)),
        "validate" | "lint" | "diff" => (FILES, Vec::new()),
        "rules" | "rule" => (NOTHING_ELSE, policy_lint::all_rules().map(|rule| rule.name.to_owned()).collect()),
        _ => {
            let values = command.get_positionals().flat_map(Arg::get_possible_values).filter(|value| !value.is_hide_set());
            (NOTHING_ELSE, values.map(|value| value.get_name().to_owned()).collect())
        }
    }
}

fn options(command: &Command) -> impl Iterator<Item = String> {
    let visible = command.get_arguments().filter(|argument| !argument.is_hide_set());
    visible.filter_map(Arg::get_long).map(|name| format!("--{name}"))
}

/// The option that takes a value and is spelt so.
fn option<'c>(command: &'c Command, word: &str) -> Option<&'c Arg> {
    command.get_arguments().filter(|argument| argument.get_action().takes_values()).find(|argument| {
        let is_long = argument.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long));
        let is_short = argument.get_short().is_some_and(|short| word.strip_prefix('-') == Some(short.to_string().as_str()));
        is_long || is_short
    })
}

/// The names of ends in the files that `-f` names. A live cluster is not read for each key that is pressed.
fn ends(before: &[String]) -> Vec<String> {
    let mut arguments = vec![OsString::from("netpol"), OsString::from("list"), OsString::from("--keep-going")];
    for pair in before.windows(2) {
        if let [option, value] = pair
            && ["-f", "--file", "-n", "--namespace"].contains(&option.as_str())
        {
            arguments.extend([option.into(), value.into()]);
        }
    }
    let mut out = vec!["external".to_owned()];
    let parsed = args::command().try_get_matches_from(arguments).and_then(|matches| Args::from_arg_matches(&matches));
    let Ok(Args { command: args::Command::List(list), .. }) = parsed else { return out };
    if list.input.paths.is_empty() {
        return out;
    }
    let loaded = evaluation::load(&list.input).ok().and_then(|loaded| loaded.value);
    out.extend(loaded.iter().flat_map(|evaluation| evaluation.workloads().map(|end| end.name())));
    out
}
