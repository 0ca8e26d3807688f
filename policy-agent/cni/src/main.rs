//! `netpol-cni`: what a container runtime runs for each pod.

use std::io::Read;
use std::process::ExitCode;

use netpol_cni::{client, plugin};

/// The longest configuration that is read, in bytes; a longer one is cut off, and not JSON then.
const LONGEST: u64 = 16 << 20;

fn main() -> ExitCode {
    let environment: plugin::Environment =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    if !environment.contains_key("CNI_COMMAND") {
        eprintln!("netpol-cni {} is a CNI plugin; container runtimes start it as configured", env!("CARGO_PKG_VERSION"));
    }
    let mut input = String::new();
    if let Err(error) = std::io::stdin().take(LONGEST).read_to_string(&mut input) {
        eprintln!("netpol-cni: cannot read the configuration from standard input: {error}");
    }
    let outcome = plugin::run(&environment, &input, &client::ask);
    if !outcome.is_good {
        eprintln!("netpol-cni: {}", outcome.output);
    }
    if !outcome.output.is_empty() {
        println!("{}", outcome.output);
    }
    if outcome.is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
