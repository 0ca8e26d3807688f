//! The objects of the input, compiled.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use anyhow::Result;
use policy_core::compile::{Compiler, Options};
use policy_core::diagnostic::rules::objects::{DUPLICATE_OBJECT, DUPLICATE_POLICY, UNDECLARED_NAMESPACE};
use policy_core::diagnostic::{Diagnostic, Place};
use policy_core::graph::{AllowGraph, Endpoint, OwnNodeEgress};
use policy_core::manifest::{Extent, Replicas, Snapshot, Workload};
use policy_core::model::{Change, ObjectKey, Origin, Pod, Policy, WorkloadKey};
use policy_core::sets::{AddressSet, Family};
use policy_core::verdict::WorkloadPods;

use super::ends::End;
use crate::Outcome;
use crate::args::{InputArgs, OwnNode};
use crate::input::excerpts::Excerpts;
use crate::input::left_out::{self, LeftOut};
use crate::input::{self, Counted, Input, empty};

/// A snapshot and its graph.
pub(crate) struct Evaluation {
    pub snapshot: Snapshot,
    pub graph: AllowGraph,
    /// The namespace of names without one.
    pub namespace: String,
    /// The reading of S2.13.
    pub own_node_egress: OwnNodeEgress,
    /// A compiler for edits that are tried.
    compiler: RefCell<Option<Compiler>>,
    /// The addresses of pods and nodes.
    known: AddressSet,
    /// Whether answers are given although the input has errors.
    pub has_errors: bool,
    /// How many errors the input has.
    pub errors: usize,
    /// The errors among them that are about objects of which another one of their name counts.
    pub contradictions: Vec<Contradiction>,
    /// What was not read, and could change answers.
    pub left_out: Vec<LeftOut>,
    /// What could not be read of a live cluster, in sentences.
    pub missing: Vec<String>,
    /// Namespaces that the input uses and has no object of.
    pub undeclared: BTreeSet<String>,
    /// Whether the live cluster is part of the input.
    pub is_live: bool,
}

/// An object that files define twice, each time with another content.
#[derive(PartialEq, Eq)]
pub(crate) struct Contradiction {
    object: String,
    /// Where the one that counts is.
    counts: String,
    /// Where the other one is.
    other: String,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, counts, other } = self;
        write!(f, "{object} of {counts}, not of {other}")
    }
}

/// The reading of S2.13 that the arguments ask for.
pub(crate) fn own_node_egress(args: &InputArgs) -> OwnNodeEgress {
    match args.own_node_egress {
        OwnNode::Enforce => OwnNodeEgress::Enforce,
        OwnNode::Allow => OwnNodeEgress::Allow,
    }
}

/// The input, and the findings about it.
pub(crate) struct Loaded<T> {
    /// `None` if the input has errors and `--keep-going` is not set.
    pub value: Option<T>,
    pub report: Report,
}

/// Findings about the input, which have not been printed.
pub(crate) struct Report {
    /// What could not be read of a live cluster.
    pub notes: Vec<String>,
    /// Findings about objects, in the order found.
    pub objects: Vec<Diagnostic>,
    /// Findings about the graph.
    pub graph: Vec<Diagnostic>,
    pub excerpts: Excerpts,
}

/// The input.
fn read(args: &InputArgs, counted: Counted) -> Result<Loaded<Input>> {
    let mut input = input::read(args, None, counted)?;
    empty::require_objects(&input, args)?;
    let has_errors = input.snapshot.has_errors();
    let report = Report {
        notes: std::mem::take(&mut input.notes),
        objects: std::mem::take(&mut input.snapshot.diagnostics),
        graph: Vec::new(),
        excerpts: std::mem::take(&mut input.excerpts),
    };
    Ok(Loaded { value: (!has_errors || args.keep_going).then_some(input), report })
}

/// The objects alone, as an agent sees them.
pub(crate) fn snapshot(args: &InputArgs) -> Result<Loaded<Snapshot>> {
    let Loaded { value, mut report } = read(args, Counted::Real)?;
    report.notes.extend(value.iter().flat_map(|input| left_out::sentences(&input.left_out)));
    report.notes.extend(value.iter().filter_map(|input| left_out::excluded(&input.left_out)));
    report.notes.extend(value.iter().flat_map(|input| input.missing.clone()));
    Ok(Loaded { value: value.map(|input| input.snapshot), report })
}

/// The input, compiled.
pub(crate) fn load(args: &InputArgs) -> Result<Loaded<Evaluation>> {
    let Loaded { value, mut report } = read(args, Counted::Expected)?;
    let Some(Input { snapshot, namespace, places, left_out, missing, .. }) = value else {
        return Ok(Loaded { value: None, report });
    };
    report.notes.extend(left_out::excluded(&left_out));
    let errors = report.objects.iter().filter(|found| found.is_error()).count();
    let namespace = args.namespace.clone().or(namespace).unwrap_or_else(|| "default".to_owned());
    let own_node_egress = own_node_egress(args);
    let graph = compiled(&snapshot, own_node_egress).into_graph();
    report.graph = policy_lint::check_graph(&graph, &snapshot);
    places.apply_to(&mut report.graph);
    report.excerpts.complete(&report.graph);
    let (undeclared, contradictions) = (undeclared(&report.objects), contradictions(&report.objects));
    let known = graph.known_addresses(&AddressSet::all());
    let evaluation = Evaluation {
        snapshot,
        graph,
        known: AddressSet::union_of(known.into_iter().map(AddressSet::single)),
        namespace,
        own_node_egress,
        compiler: RefCell::default(),
        has_errors: errors > 0,
        errors,
        contradictions,
        left_out,
        missing,
        undeclared,
        is_live: args.cluster.live,
    };
    Ok(Loaded { value: Some(evaluation), report })
}

fn compiled(snapshot: &Snapshot, own_node_egress: OwnNodeEgress) -> Compiler {
    let mut compiler = Compiler::new(Options { own_node_egress, ..Options::default() });
    snapshot.changes().for_each(|change| compiler.apply(change));
    compiler.flush();
    compiler
}

fn undeclared(findings: &[Diagnostic]) -> BTreeSet<String> {
    let found = findings.iter().filter(|found| found.rule.name == UNDECLARED_NAMESPACE.name);
    found.filter_map(|found| found.object.as_ref()?.name.clone()).collect()
}

fn contradictions(findings: &[Diagnostic]) -> Vec<Contradiction> {
    let is_one =
        |found: &&Diagnostic| [DUPLICATE_OBJECT.name, DUPLICATE_POLICY.name].contains(&found.rule.name) && found.is_error();
    let shown = |place: &Place| {
        let line = place.position.as_ref().map_or(0, |at| at.line);
        Origin { file: place.file.clone(), line }.to_string()
    };
    let contradiction = |found: &Diagnostic| {
        Some(Contradiction {
            object: found.object.as_ref()?.to_string(),
            counts: shown(found.place.as_ref()?),
            other: shown(found.related.first()?.place.as_ref()?),
        })
    };
    findings.iter().filter(is_one).filter_map(contradiction).collect()
}

impl Evaluation {
    /// Works with a compiler that has the objects, and must have them again afterwards. They are compiled once, when it is needed first.
    pub(crate) fn with_compiler<T>(&self, work: impl FnOnce(&mut Compiler) -> T) -> T {
        let mut compiler = self.compiler.borrow_mut();
        work(compiler.get_or_insert_with(|| compiled(&self.snapshot, self.own_node_egress)))
    }

    /// Adds a policy, or puts it in the place of the one of its name. Cost: everything is compiled again.
    pub(crate) fn edit(&mut self, policy: Policy) {
        if let Some(compiler) = self.compiler.get_mut() {
            compiler.apply(Change::Policy(policy.clone()));
            compiler.flush();
        }
        self.snapshot.policies.insert(policy.key.clone(), policy);
        self.graph = compiled(&self.snapshot, self.own_node_egress).into_graph();
    }

    /// The part of some addresses that belongs to no pod and no node, as far as it has a place in an answer: none if there is no such address,
    /// and otherwise the addresses as they are, because pods would take them apart into too many blocks.
    pub(crate) fn external(&self, addresses: AddressSet) -> Option<AddressSet> {
        let is_whole = [Family::V4, Family::V6].into_iter().any(|family| addresses.covers(family));
        let has_external = is_whole || !addresses.difference(&self.known).is_empty();
        has_external.then_some(addresses)
    }

    /// An address among these that belongs to no pod and no node.
    pub(crate) fn outside_one(&self, addresses: &AddressSet) -> Option<IpAddr> {
        addresses.difference(&self.known).first()
    }

    /// An address among these that belongs to no pod and no node, or the first one.
    pub(crate) fn external_one(&self, addresses: &AddressSet) -> Option<IpAddr> {
        addresses.difference(&self.known).first().or_else(|| addresses.first())
    }

    /// The outcome of a command that lists: bad input if the input has errors.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.has_errors { Outcome::BadInput } else { Outcome::Yes }
    }

    /// Every workload that has at least one end for traffic, sorted by namespace, name and kind.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = End> {
        let mut keys: Vec<(String, WorkloadKey)> = self.units().into_keys().collect();
        keys.sort_by(|(a, x), (b, y)| (a, &x.name, &x.kind).cmp(&(b, &y.name, &y.kind)));
        keys.into_iter().map(|(namespace, owner)| End::Workload { namespace, owner })
    }

    /// Every workload that has at least one end for traffic, in the order of its name.
    pub(crate) fn units(&self) -> BTreeMap<(String, WorkloadKey), WorkloadPods> {
        self.snapshot
            .workloads
            .iter()
            .map(|(key, workload)| (key.clone(), self.unit(workload)))
            .filter(|(_, unit)| unit.pods.iter().any(|pod| !self.graph.endpoints_of(*pod).is_empty()))
            .collect()
    }

    /// The pod of an endpoint, if it is one's.
    pub(crate) fn pod_of(&self, endpoint: &Endpoint) -> Option<&Pod> {
        let (namespace, name) = self.graph.pod_name(*endpoint.pods().first()?);
        self.snapshot.pods.get(&ObjectKey::new(namespace, name))
    }

    /// The pods of a workload as one unit.
    pub(crate) fn unit(&self, workload: &Workload) -> WorkloadPods {
        let has_replicas = match workload.replicas {
            Replicas::One => false,
            Replicas::Several => true,
            // Each of several pods is itself. One alone has peers that are not known.
            Replicas::Numbered => workload.pods.len() == 1 || workload.extent != Extent::Whole,
        };
        WorkloadPods { has_replicas, ..self.pods(&workload.pods) }
    }

    /// One pod as a unit: itself, and what stands for it where a label of it is not known.
    pub(crate) fn unit_of_pod(&self, key: &ObjectKey) -> WorkloadPods {
        let start = ObjectKey::new(&key.namespace, format!("{}/", key.name));
        let variants = self.snapshot.pods.range(&start..).map(|(variant, _)| variant);
        let variants = variants.take_while(|v| v.namespace == start.namespace && v.name.starts_with(&start.name));
        let keys: Vec<ObjectKey> = std::iter::once(key).chain(variants).cloned().collect();
        self.pods(&keys)
    }

    fn pods(&self, keys: &[ObjectKey]) -> WorkloadPods {
        let pods = keys.iter().filter_map(|key| self.graph.pod(&key.namespace, &key.name));
        WorkloadPods { pods: pods.collect(), has_replicas: false }
    }
}
