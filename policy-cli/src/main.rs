//! `netpol`: answers questions about Kubernetes NetworkPolicies from manifests, or about a live cluster.
//!
//! Every answer comes from `policy-core`; this binary finds files, resolves names and prints. Exit codes: 0 allowed or valid,
//! 1 denied or only partly allowed, 2 usage error or invalid input.

mod args;
mod commands;
mod input;
mod output;
mod questions;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Args, Command};
use commands::{can, init, list, reach, render, snapshot, validate, who};

/// The outcome of a command, as an exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// Allowed, or no error.
    Yes,
    /// Denied, or only partly allowed.
    No,
    /// The input is invalid; the errors have been printed.
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
    let all = Args::command();
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
        Command::Init(init) => init::run(init),
        Command::Render(render) => render::run(render),
        Command::Snapshot => snapshot::run(&args.cluster),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut visible_commands(), "netpol", &mut script);
            output::raw(&script)?;
            Ok(Outcome::Yes)
        }
        Command::Man { out: None } => {
            output::raw(&output::man::main_page(Args::command())?)?;
            Ok(Outcome::Yes)
        }
        Command::Man { out: Some(directory) } => {
            output::man::write_all(Args::command(), directory)?;
            Ok(Outcome::Yes)
        }
        Command::Reference => {
            output::raw(output::reference::page(Args::command()).as_bytes())?;
            Ok(Outcome::Yes)
        }
    }
}

fn main() -> ExitCode {
    let program = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let is_kubectl = program.file_stem().is_some_and(|name| name.to_string_lossy().starts_with("kubectl-"));
    let args = Args::parse().resolved(is_kubectl);
    match run(&args) {
        Ok(outcome) => outcome.into(),
        // The reader closed the pipe (`netpol list | head`).
        Err(error) if output::is_broken_pipe(&error) => ExitCode::from(0),
        Err(error) => {
            let red = output::RED;
            anstream::eprintln!("{red}error{red:#}: {error:#}");
            Outcome::BadInput.into()
        }
    }
}
