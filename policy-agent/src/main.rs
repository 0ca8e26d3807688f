//! `policy-agent`: enforces NetworkPolicies for the pods of one node.

mod args;
mod config;
mod http;
mod local;
mod run;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.command {
        None => run::run(&args.settings),
        Some(Command::Cleanup { applier }) => run::cleanup(*applier),
        Some(Command::Status { socket, output }) => local::status(socket, *output),
        Some(Command::ExplainChain { name, socket }) => local::explain(socket, name),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
