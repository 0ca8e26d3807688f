//! The table of results.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::Result;
use crate::programs::VERSION;
use crate::settings::{Settings, Wanted};

/// How a spec ended.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Passed,
    /// The first line of the message.
    Failed(String),
    /// What is missing.
    Impossible(String),
}

/// A spec of a suite.
pub(crate) struct Spec {
    pub name: String,
    pub outcome: Outcome,
}

/// The specs that ran in one cluster.
pub(crate) struct Run {
    /// What the cluster is called.
    pub cluster: String,
    pub specs: Vec<Spec>,
    /// The file with everything.
    pub report: PathBuf,
}

impl Run {
    fn count(&self, is_counted: impl Fn(&Outcome) -> bool) -> usize {
        self.specs.iter().filter(|spec| is_counted(&spec.outcome)).count()
    }

    fn passed(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Passed)
    }

    fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed(_)))
    }
}

/// What ran in all clusters.
#[derive(Default)]
pub(crate) struct Report(Vec<Run>);

impl Report {
    pub(crate) fn add(&mut self, runs: impl IntoIterator<Item = Run>) {
        self.0.extend(runs);
    }

    /// Prints the table and what it does not show, and returns the exit code: 0 if everything is as it must be, 1 if not.
    pub(crate) fn show(&self, settings: &Settings) -> Result<ExitCode> {
        let suite = match settings.wanted {
            Wanted::Cyclonus => "cyclonus".to_owned(),
            Wanted::Field => "beside the suites".to_owned(),
            _ => format!("Kubernetes {VERSION}"),
        };
        println!("\n{suite:38}passed  failed  impossible here");
        for run in &self.0 {
            let impossible = run.count(|outcome| matches!(outcome, Outcome::Impossible(_)));
            println!("{:37} {:>7} {:>7} {impossible:>16}", run.cluster, run.passed(), run.failed());
        }
        for (cluster, spec) in self.0.iter().flat_map(|run| run.specs.iter().map(move |spec| (&run.cluster, spec))) {
            match &spec.outcome {
                Outcome::Passed => {}
                Outcome::Failed(why) => println!("failed ({cluster}): {}\n  {why}", spec.name),
                Outcome::Impossible(why) => println!("impossible here ({cluster}): {}\n  {why}", spec.name),
            }
        }
        for run in &self.0 {
            println!("report: {}", run.report.display());
        }
        if self.0.iter().any(|run| run.passed() + run.failed() == 0) {
            return Err("no spec has run".into());
        }
        let is_good = match settings.wanted {
            // Without enforcement every one of them must fail.
            Wanted::Control => self.0.iter().all(|run| run.passed() == 0),
            _ => self.0.iter().all(|run| run.failed() == 0),
        };
        if settings.wanted == Wanted::Control {
            println!(
                "{}",
                if is_good { "Without netpol they fail, as they must." } else { "Specs that pass without netpol prove nothing." }
            );
        }
        Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
