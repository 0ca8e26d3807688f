//! The objects of the input, compiled.

use std::collections::BTreeMap;

use anyhow::Result;
use policy_core::compile::{Compiler, Options};
use policy_core::diagnostic::{Diagnostic, Kind, Severity};
use policy_core::graph::{AllowGraph, OwnNodeEgress};
use policy_core::manifest::{Replicas, Snapshot};
use policy_core::model::{ObjectKey, WorkloadKey};
use policy_core::verdict::WorkloadPods;

use crate::Outcome;
use crate::args::{InputArgs, OwnNode};
use crate::input::{self, Input};
use crate::output::diagnostics::{self, Excerpts};

/// A snapshot and its graph.
pub(crate) struct Evaluation {
    pub snapshot: Snapshot,
    pub graph: AllowGraph,
    /// The namespace of names without one.
    pub namespace: String,
    /// Whether answers are given although the input has errors.
    pub has_errors: bool,
}

/// The reading of S2.13 that the arguments ask for.
pub(crate) fn own_node_egress(args: &InputArgs) -> OwnNodeEgress {
    match args.own_node_egress {
        OwnNode::Enforce => OwnNodeEgress::Enforce,
        OwnNode::Allow => OwnNodeEgress::Allow,
    }
}

/// The input, or `None` if it has errors, which are printed.
fn read(args: &InputArgs) -> Result<Option<Input>> {
    let input = input::read(args, None)?;
    print_findings(&input.snapshot.diagnostics, &input.excerpts);
    if input.snapshot.has_errors() && !args.keep_going {
        anstream::eprintln!(
            "refusing to answer because the input has errors; use `--keep-going` to answer anyway, without the objects that cannot be read"
        );
        return Ok(None);
    }
    Ok(Some(input))
}

/// The objects alone; `None` as for [`load`].
pub(crate) fn snapshot(args: &InputArgs) -> Result<Option<Snapshot>> {
    Ok(read(args)?.map(|input| input.snapshot))
}

/// The input, compiled, or `None` if it has errors, which are printed.
pub(crate) fn load(args: &InputArgs) -> Result<Option<Evaluation>> {
    let Some(input) = read(args)? else { return Ok(None) };
    let has_errors = input.snapshot.has_errors();
    let namespace = args.namespace.clone().or(input.namespace).unwrap_or_else(|| "default".to_owned());
    let own_node_egress = own_node_egress(args);
    let mut compiler = Compiler::new(Options { own_node_egress, ..Options::default() });
    for change in input.snapshot.changes() {
        compiler.apply(change);
    }
    compiler.flush();
    let mut snapshot = input.snapshot;
    let graph = compiler.into_graph();
    let ambiguous = ambiguous_addresses(&graph);
    diagnostics::print(ambiguous.iter(), &input.excerpts);
    snapshot.diagnostics.extend(ambiguous);
    Ok(Some(Evaluation { snapshot, graph, namespace, has_errors }))
}

/// Prints errors in full, and the number of warnings.
fn print_findings(diagnostics: &[Diagnostic], excerpts: &Excerpts) {
    diagnostics::print(diagnostics.iter().filter(|d| d.is_error()), excerpts);
    let warnings = diagnostics.len() - diagnostics.iter().filter(|d| d.is_error()).count();
    if warnings > 0 {
        let plural = if warnings == 1 { "" } else { "s" };
        anstream::eprintln!("note: the input has {warnings} warning{plural}; run `netpol validate` to show them");
    }
}

/// S2.5.
pub(crate) fn ambiguous_addresses(graph: &AllowGraph) -> Vec<Diagnostic> {
    let name = |pod| {
        let (namespace, name) = graph.pod_name(pod);
        format!("{namespace}/{name}")
    };
    graph
        .ambiguous_addresses()
        .into_iter()
        .map(|(address, pods)| {
            let mut names: Vec<String> = pods.into_iter().map(name).collect();
            names.sort();
            Diagnostic {
                severity: Severity::Warning,
                kind: Kind::AmbiguousPodIP,
                rule: "S2.5",
                file: String::new(),
                position: None,
                object: format!("Pod {}", names.first().cloned().unwrap_or_default()),
                path: "status.podIPs".to_owned(),
                message: format!(
                    "{} have the same address {address}; selectors match it only if they match all of them",
                    names.join(" and ")
                ),
                help: Some("save the input again: one of the pods has probably been deleted".to_owned()),
            }
        })
        .collect()
}

impl Evaluation {
    /// The outcome of a command that lists: bad input if the input has errors.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.has_errors { Outcome::BadInput } else { Outcome::Yes }
    }

    /// Every workload that has at least one end for traffic, in the order of its name.
    pub(crate) fn units(&self) -> BTreeMap<(String, WorkloadKey), WorkloadPods> {
        self.snapshot
            .workloads
            .iter()
            .map(|(key, workload)| (key.clone(), self.unit(&workload.pods, workload.replicas)))
            .filter(|(_, unit)| unit.pods.iter().any(|pod| !self.graph.endpoints_of(*pod).is_empty()))
            .collect()
    }

    /// The unit of some pods.
    pub(crate) fn unit(&self, pods: &[ObjectKey], replicas: Replicas) -> WorkloadPods {
        WorkloadPods {
            pods: pods.iter().filter_map(|key| self.graph.pod(&key.namespace, &key.name)).collect(),
            has_replicas: replicas == Replicas::Several,
        }
    }
}
