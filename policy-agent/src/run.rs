//! Starting and stopping.

use std::process::ExitCode;

use anyhow::{Context, Result};
use policy_agent::agent::{Agent, Event};
use policy_agent::conntrack::Conntrack;
use policy_agent::denied;
use policy_agent::enforcer::Enforcer;
use policy_agent::kernel::RealKernel;
use policy_agent::kernel::doors::{Door, NetlinkDoor, NftDoor};
use policy_agent::kernel::monitor::Monitor;
use policy_agent::kernel::table::Reader;
use policy_agent::metrics::Metrics;
use policy_agent::sandboxes::Sandboxes;
use policy_agent::source::Source;
use policy_agent::source::kubernetes::Kubernetes;
use policy_agent::source::manifests::Manifests;
use policy_core::compile;
use policy_ruleset::Transaction;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::args::{Applier, LogFormat, Protection, Settings};
use crate::config::{Config, Objects};
use crate::{http, local};

const NO_CLUSTER: &str = "cannot tell how to reach an API server; run in a pod with a service account, give `--kubeconfig PATH`, or \
    enforce manifests with `--manifests DIR`";

fn start_logging(config: &Config) -> Result<()> {
    let filter = EnvFilter::try_new(&config.log).with_context(|| format!("`{}` is no log filter", config.log))?;
    let logger = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    match config.log_format {
        LogFormat::Text => logger.init(),
        LogFormat::Json => logger.json().flatten_event(true).init(),
    }
    Ok(())
}

fn door(applier: Applier, protection: Protection) -> Result<(Box<dyn Door>, &'static str)> {
    Ok(match applier {
        Applier::Netlink => {
            let door = NetlinkDoor::open().context("cannot open a netlink socket")?;
            (Box::new(if protection == Protection::On { door.protecting() } else { door }), "netlink")
        }
        Applier::Nft => {
            let version = std::process::Command::new("nft").arg("--version").output();
            version.context("cannot run `nft`; install nftables, or use `--applier netlink`, which needs no nft")?;
            (Box::new(NftDoor), "nft")
        }
    })
}

/// Enforces until a signal comes.
pub(crate) fn run(settings: &Settings) -> Result<ExitCode> {
    let config = Config::new(settings)?;
    start_logging(&config)?;
    let mut reader = Reader::open().context("cannot open a netlink socket")?;
    reader.check()?;
    let (door, applier) = door(config.applier, config.protection)?;
    let (sender, events) = Agent::queue();
    let touched = sender.clone();
    let monitor = Monitor::start(move |generation| drop(touched.send(Event::Touched(generation))))
        .context("cannot listen to changes of the ruleset")?;
    if let Some(deny_log) = config.deny_log {
        let samples = sender.clone();
        let result =
            denied::start(deny_log.group, config.deny_log_lines, move |sample| drop(samples.send(Event::Denied(sample))));
        // Enforcement does not depend on it.
        if let Err(error) = result {
            tracing::warn!(%error, group = deny_log.group, "denied packets cannot be explained: no NFLOG");
        }
    }
    let options = policy_ruleset::Options { own_node_egress: config.own_node_egress, deny_log: config.deny_log };
    let scope = compile::Options { node: Some(config.node.clone()), own_node_egress: config.own_node_egress };
    let enforcer = Enforcer::new(scope, options, door, Box::new(RealKernel::new(reader, monitor)));
    let conntrack = Conntrack::open().context("cannot open a netlink socket")?;
    let metrics = Metrics::new().context("cannot set up metrics")?;
    if let Some(socket) = &config.socket {
        local::serve(socket, sender.clone())?;
    }

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    if let Some(address) = config.listen {
        runtime.block_on(http::serve(address, sender.clone()))?;
    }
    let stop = sender.clone();
    runtime.spawn(async move {
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        if let (Ok(mut terminate), Ok(mut interrupt)) = signals {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            drop(stop.send(Event::Stop));
        }
    });

    tracing::info!(node = config.node, applier, version = env!("CARGO_PKG_VERSION"), "starting");
    for warning in policy_agent::status::warnings() {
        tracing::warn!("{warning}");
    }
    let records = config.socket.as_deref().map(netpol_cni::plugin::records);
    let agent = Agent::new(enforcer, conntrack, metrics, (config.node.clone(), applier), (sender, events))
        .with_sandboxes(Sandboxes::new(config.node.clone(), records));
    let source: Box<dyn Source> = match config.objects {
        Objects::Manifests(folder) => Box::new(Manifests::new(folder)),
        Objects::Cluster(access) => {
            runtime.block_on(access.config()).map_err(|error| anyhow::anyhow!(error)).context(NO_CLUSTER)?;
            Box::new(Kubernetes::new(access, config.node.clone()))
        }
    };
    agent.run(source)?;
    if let Some(socket) = &config.socket {
        let _ = std::fs::remove_file(socket);
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes the table.
pub(crate) fn cleanup(applier: Applier) -> Result<ExitCode> {
    let mut reader = Reader::open().context("cannot open a netlink socket")?;
    reader.check()?;
    if !reader.is_present()? {
        println!("there is no table `inet {}`; nothing to remove", policy_ruleset::TABLE);
        return Ok(ExitCode::SUCCESS);
    }
    door(applier, Protection::Off)?.0.apply(&Transaction::remove(), None)?;
    println!("removed the table `inet {}`: nothing is isolated any more", policy_ruleset::TABLE);
    Ok(ExitCode::SUCCESS)
}
