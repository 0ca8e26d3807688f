//! `policy-agent`: enforces NetworkPolicies for the pods of one node.

mod args;
mod client;
mod config;
mod run;

use std::process::ExitCode;

use clap::Parser;
#[cfg(feature = "kubernetes")]
use policy_input::cluster::{Access, full_text};

use args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.command {
        None => run::run(&args.settings),
        Some(Command::Cleanup { applier, socket }) => run::cleanup(*applier, socket),
        Some(Command::InstallCni { place, bin_dir, plugin, socket }) => run::install(place, bin_dir, plugin.as_deref(), socket),
        Some(Command::UninstallCni { place, stay }) => run::uninstall(place, *stay),
        #[cfg(feature = "kubernetes")]
        Some(Command::Report { kubeconfig, context, instance, logging }) => {
            let access = Access { kubeconfig: kubeconfig.clone(), context: context.clone() };
            run::report(access, instance.clone(), logging)
        }
        Some(Command::Status { socket, output }) => client::status(socket, *output),
        Some(Command::ExplainChain { name, socket }) => client::explain(socket, name),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            #[cfg(feature = "kubernetes")]
            let error = full_text(error.as_ref());
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
