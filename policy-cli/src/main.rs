//! `netpol`: answers questions about Kubernetes NetworkPolicies from manifests, or about a live cluster.
//!
//! Every answer comes from `policy-core`; this binary finds files, resolves names and prints. Exit codes: 0 yes or clean,
//! 1 no or findings, 2 no answer.

mod args;
mod commands;
mod input;
mod output;
mod questions;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::FromArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use args::{Args, Command};
use commands::{can, complete, diff, init, lint, list, reach, render, rules, snapshot, test, validate, who};

/// The outcome of a command, as an exit code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Outcome {
    /// Allowed, or nothing found.
    Yes,
    /// Denied or only partly allowed, or something found.
    No,
    /// The input does not permit an answer; the errors have been printed.
    BadInput,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Yes => Self::from(0),
            Outcome::No => Self::from(1),
            Outcome::BadInput => Self::from(2),
        }
    }
}

/// The commands without the hidden ones, which completions would offer too.
fn visible_commands() -> clap::Command {
    let all = args::command();
    let hidden = |command: &clap::Command| command.is_hide_set();
    if !all.get_subcommands().any(hidden) {
        return all;
    }
    let visible: Vec<clap::Command> = all.get_subcommands().filter(|command| !hidden(command)).cloned().collect();
    let arguments: Vec<clap::Arg> = all.get_arguments().cloned().collect();
    clap::Command::new("netpol").args(arguments).subcommands(visible)
}

fn run(args: &Args) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Can(can) => can::run(can),
        Command::List(list) => list::run(list),
        Command::Who(who) => who::run(who),
        Command::Reach(reach) => reach::run(reach),
        Command::Validate(validate) => validate::run(validate),
        Command::Lint(lint) => lint::run(lint),
        Command::Diff(diff) => diff::run(diff),
        Command::Test(test) => test::run(test),
        Command::Rules(args) => rules::run(args),
        Command::Init(init) => init::run(init),
        Command::Render(render) => render::run(render),
        Command::Snapshot => snapshot::run(&args.cluster),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut visible_commands(), "netpol", &mut script);
            output::raw(&script)?;
            Ok(Outcome::Yes)
        }
        Command::Schema { command } => {
            output::schemas::print(*command)?;
            Ok(Outcome::Yes)
        }
        Command::Man { out: None } => {
            output::raw(&output::man::main_page(args::command())?)?;
            Ok(Outcome::Yes)
        }
        Command::Man { out: Some(directory) } => {
            output::man::write_all(args::command(), directory)?;
            Ok(Outcome::Yes)
        }
        Command::Reference { rules } => {
            let page = if *rules { rules::reference() } else { output::reference::page(args::command()) };
            output::raw(page.as_bytes())?;
            Ok(Outcome::Yes)
        }
    }
}

/// Reads the command line; prints help and errors of usage, and ends.
fn parse(is_kubectl: bool) -> Args {
    let command = args::command();
    let command = if is_kubectl { command.bin_name("kubectl netpol") } else { command };
    let parsed = command.try_get_matches().and_then(|matches| Args::from_arg_matches(&matches));
    parsed.unwrap_or_else(|error| with_order(error).exit()).resolved(is_kubectl)
}

/// Explains the order of options and commands, where an option of a command is written before it.
fn with_order(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg).cloned() else { return error };
    let commands = args::command();
    let is_command = |word: &str| commands.get_subcommands().any(|command| command.get_name() == word);
    let words: Vec<String> = std::env::args().skip(1).collect();
    let before = words.iter().take_while(|word| !word.starts_with(option.as_str()));
    let command = words.iter().find(|word| is_command(word));
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(command) = command
        && !before.into_iter().any(|word| is_command(word))
    {
        let tip = format!("options of a command follow it: netpol {command} {option} …");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn main() -> ExitCode {
    let program = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let is_named = |prefix| program.file_stem().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    if is_named("kubectl_complete-") {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let is_printed = complete::run(&words).is_ok();
        return if is_printed { Outcome::Yes.into() } else { Outcome::BadInput.into() };
    }
    let is_kubectl = is_named("kubectl-");
    let args = parse(is_kubectl);
    output::configure(args.color, args.quiet);
    match run(&args) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            let red = output::RED;
            output::message(&format!("{red}error{red:#}: {error:#}"));
            Outcome::BadInput.into()
        }
    }
}
