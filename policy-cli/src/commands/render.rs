//! `netpol render`: the ruleset that the agent of a node would apply.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use policy_core::compile::{Compiler, Options};
use policy_core::manifest::Snapshot;
use policy_core::model::Placement;
use policy_ruleset::{DenyLog, Transaction};

use crate::Outcome;
use crate::args::{DenyLogging, RenderArgs, RenderFormat};
use crate::output::raw;
use crate::questions::evaluation;

pub(crate) fn run(args: &RenderArgs) -> Result<Outcome> {
    let own_node_egress = evaluation::own_node_egress(&args.input);
    let Some((snapshot, outcome)) = super::objects(&args.input)? else { return Ok(Outcome::BadInput) };
    let known = nodes(&snapshot);
    if !known.contains(args.node.as_str()) {
        let list = known.into_iter().collect::<Vec<_>>().join(", ");
        let nodes = if list.is_empty() {
            "the input has no nodes and no running pods".to_owned()
        } else {
            format!("the nodes are {list}")
        };
        bail!("there is no node `{}` in the input: {nodes}", args.node);
    }
    let mut compiler = Compiler::new(Options { node: Some(args.node.clone()), own_node_egress });
    snapshot.changes().for_each(|change| compiler.apply(change));
    compiler.flush();
    let graph = compiler.graph();
    let deny_log = match args.deny_log {
        DenyLogging::Off => None,
        DenyLogging::Sampled => Some(DenyLog { group: args.deny_log_group, rate: args.deny_log_rate }),
    };
    let options = policy_ruleset::Options { own_node_egress, deny_log };
    let ruleset = policy_ruleset::render(&graph.node_plan(), &options);
    let text = match args.output {
        RenderFormat::Nft => ruleset.filled(graph).to_text(),
        RenderFormat::Json => Transaction::replace(&ruleset, graph).to_json()? + "\n",
    };
    raw(text.as_bytes())?;
    Ok(outcome)
}

/// The nodes that are declared or that a pod runs on.
fn nodes(snapshot: &Snapshot) -> BTreeSet<&str> {
    let of_pods = snapshot.pods.values().filter_map(|pod| match &pod.placement {
        Placement::Node(name) => Some(name.as_str()),
        Placement::Unscheduled | Placement::Somewhere => None,
    });
    snapshot.nodes.keys().map(String::as_str).chain(of_pods).collect()
}
