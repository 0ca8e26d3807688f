//! What users write for the ends of a connection.
//!
//! - `hints`: what was probably meant by an end that does not exist.
//! - `kinds`: the kinds of workloads in names.
//! - `names`: the workload or pod of a name.
//! - `patterns`: globs, namespaces and label selectors.

mod hints;
mod kinds;
mod names;
pub(crate) mod patterns;

use std::net::IpAddr;

use anyhow::{Result, bail};
use ipnet::IpNet;
use policy_core::manifest::nearest;
use policy_core::model::{ObjectKey, Placement, WorkloadKey};
use policy_core::sets::AddressSet;
use policy_core::verdict::WorkloadPods;

use super::evaluation::Evaluation;

/// One end of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The pods of a workload.
    Workload { namespace: String, owner: WorkloadKey },
    /// One pod of a workload.
    Pod(ObjectKey),
    /// Processes of a node.
    Node(String),
    /// One address, whatever uses it.
    Address(IpAddr),
    /// All addresses of a block, whatever uses them.
    Block(IpNet),
    /// Every address that belongs to no pod and no node.
    External,
}

/// What was written for an end.
#[derive(Clone, Debug)]
pub(crate) enum Ends {
    /// One end, by its name.
    One(End),
    /// The workloads that a pattern selects, by namespace, name and kind; at least one.
    Several(Vec<End>),
}

impl Ends {
    /// The ends, at least one.
    pub(crate) fn list(&self) -> &[End] {
        match self {
            Self::One(end) => std::slice::from_ref(end),
            Self::Several(ends) => ends,
        }
    }

    /// The ends, as those of a list.
    ///
    /// # Errors
    /// If they are loopback addresses, by which every pod reaches itself and nothing else.
    pub(crate) fn for_list(self) -> Result<Self> {
        match self.list().iter().find(|end| end.is_loopback()) {
            Some(end) => bail!("`{}` is a loopback address, by which every pod can reach itself and nothing else", end.name()),
            None => Ok(self),
        }
    }
}

impl End {
    /// The name of the end in text.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Workload { namespace, owner } => format!("{namespace}/{}", owner.name),
            Self::Pod(key) => key.to_string(),
            Self::Node(name) => format!("node/{name}"),
            Self::Address(address) => address.to_string(),
            Self::Block(block) => block.to_string(),
            Self::External => "external".to_owned(),
        }
    }

    /// The namespace, when the end is in one.
    pub(crate) fn namespace(&self) -> Option<&str> {
        match self {
            Self::Workload { namespace, .. } => Some(namespace),
            Self::Pod(key) => Some(&key.namespace),
            Self::Node(_) | Self::Address(_) | Self::Block(_) | Self::External => None,
        }
    }

    /// The names of the pods that are meant, when the end is pods.
    pub(crate) fn pods<'e>(&'e self, evaluation: &'e Evaluation) -> &'e [ObjectKey] {
        match self {
            Self::Workload { namespace, owner } => {
                let workload = evaluation.snapshot.workloads.get(&(namespace.clone(), owner.clone()));
                workload.map(|workload| workload.pods.as_slice()).unwrap_or_default()
            }
            Self::Pod(key) => std::slice::from_ref(key),
            Self::Node(_) | Self::Address(_) | Self::Block(_) | Self::External => &[],
        }
    }

    /// The pods that are meant, when the end is pods.
    pub(crate) fn unit(&self, evaluation: &Evaluation) -> Option<WorkloadPods> {
        match self {
            Self::Workload { namespace, owner } => {
                let workload = evaluation.snapshot.workloads.get(&(namespace.clone(), owner.clone()))?;
                Some(evaluation.unit(workload))
            }
            Self::Pod(key) => Some(evaluation.unit_of_pod(key)),
            Self::Node(_) | Self::Address(_) | Self::Block(_) | Self::External => None,
        }
    }

    /// Whether only loopback addresses are meant.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            // The block of IPv4 is 127.0.0.0/8.
            Self::Block(block) => block.network().is_loopback() && block.broadcast().is_loopback(),
            Self::Workload { .. } | Self::Pod(_) | Self::Node(_) | Self::External => false,
        }
    }

    /// The addresses that are meant, when the end is addresses.
    pub(crate) fn addresses(&self) -> Option<AddressSet> {
        match self {
            Self::Address(address) => Some(AddressSet::single(*address)),
            Self::Block(block) => Some(AddressSet::block(*block)),
            Self::External => Some(AddressSet::all()),
            Self::Workload { .. } | Self::Pod(_) | Self::Node(_) => None,
        }
    }
}

/// Reads what was written for an end: a name, an address, or a pattern.
///
/// # Errors
/// If the input has no object with this name, or more than one, or if the pattern selects nothing. The message suggests what was
/// probably meant.
pub(crate) fn parse(text: &str, evaluation: &Evaluation) -> Result<Ends> {
    if let Some(pattern) = patterns::Pattern::read(text, evaluation)? {
        return Ok(Ends::Several(pattern.workloads(evaluation)?));
    }
    Ok(Ends::One(one(text, evaluation)?))
}

/// Reads one end.
fn one(text: &str, evaluation: &Evaluation) -> Result<End> {
    if text == "external" {
        return Ok(End::External);
    }
    if let Ok(address) = text.parse() {
        return Ok(End::Address(address));
    }
    if let Ok(block) = text.parse::<IpNet>() {
        return Ok(End::Block(block.trunc()));
    }
    // A generated name is listed with its place, and the path of that is no part of the end: `shop/migrate-(sub/jobs.yaml:3)`.
    let (before, place) = text.split_once('(').unwrap_or((text, ""));
    if !place.ends_with(')')
        && let Some(hint) = hints::never_a_name(text, evaluation)
    {
        return Err(hint);
    }
    let parts: Vec<&str> = text.splitn(before.matches('/').count() + 1, '/').collect();
    match parts.as_slice() {
        [name] => names::find(evaluation, text, &evaluation.namespace, None, name),
        ["node" | "no" | "nodes", name] => node(evaluation, name),
        [first, name] => match kinds::kind_or_namespace(first, evaluation) {
            Some(kind) => names::find(evaluation, text, &evaluation.namespace, Some(&kind), name),
            None => names::find(evaluation, text, first, None, name),
        },
        [namespace, word, name] => match kinds::kind(word, evaluation) {
            Some(kind) if kind == "Node" => bail!("nodes have no namespace: write `node/{name}` instead of `{text}`"),
            Some(kind) => names::find(evaluation, text, namespace, Some(&kind), name),
            None => bail!("`{word}` in `{text}` is not a workload kind; expected {}", kinds::expected(evaluation)),
        },
        _ => bail!("cannot read `{text}`; expected ns/name, kind/name, ns/kind/name, an address, a CIDR or `external`"),
    }
}

fn node(evaluation: &Evaluation, name: &str) -> Result<End> {
    let is_there = evaluation.snapshot.nodes.contains_key(name)
        || evaluation.snapshot.pods.values().any(|pod| pod.placement == Placement::Node(name.to_owned()));
    if is_there {
        return Ok(End::Node(name.to_owned()));
    }
    let hint = nearest(name, evaluation.snapshot.nodes.keys().map(String::as_str)).map(|n| format!("; did you mean `node/{n}`?"));
    bail!("there is no node `{name}` in the input{}", hint.unwrap_or_default())
}
