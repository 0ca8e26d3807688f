//! Starting and stopping.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use anyhow::{Context, Result};
use netpol_cni::protocol::SOCKET;
use policy_agent::admin::metrics::Metrics;
use policy_agent::admin::tokens::Tokens;
use policy_agent::admin::{counters, http, socket};
use policy_agent::agent::{Agent, Event, Mailbox, Parts, Published, queue};
use policy_agent::chain::Unchained;
use policy_agent::chain::conflist::PLUGIN;
use policy_agent::chain::install::{Chain, InstallError, Kept, Outcome, copy_plugin};
#[cfg(feature = "kubernetes")]
use policy_agent::chain::removal::Removal;
use policy_agent::connections::{self, Conntrack};
use policy_agent::denials::nflog;
use policy_agent::enforcer::Enforcer;
use policy_agent::enforcer::ruleset_file::{Saver, Store};
use policy_agent::interfaces::Watch;
use policy_agent::kernel::RealKernel;
use policy_agent::kernel::applier::{Applier, ApplierKind, NetlinkApplier, NftApplier};
use policy_agent::kernel::monitor::Monitor;
use policy_agent::kernel::reader::Reader;
#[cfg(feature = "kubernetes")]
use policy_agent::report;
use policy_agent::sandboxes::Sandboxes;
use policy_agent::source::Source;
#[cfg(feature = "kubernetes")]
use policy_agent::source::kubernetes::Kubernetes;
use policy_agent::source::manifests::Manifests;
use policy_core::compile;
#[cfg(feature = "kubernetes")]
use policy_core::model::ObjectKey;
#[cfg(feature = "kubernetes")]
use policy_input::cluster::Access;
use policy_ruleset::Transaction;
use tokio::signal::unix::{SignalKind, signal};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[cfg(feature = "kubernetes")]
use crate::args::LoggingArgs;
use crate::args::{CniArgs, LogFormat, Protection, Settings};
use crate::config::{Config, Objects};

#[cfg(feature = "kubernetes")]
const NO_CLUSTER: &str = "cannot find an API server; run in a pod with a service account, use `--kubeconfig PATH`, or \
    enforce manifests with `--manifests DIR`";

/// Lines that wait for standard error at the most.
const LOG_LINES: usize = 8192;

/// Logging that never waits: a thread writes to standard error, and lines that find no room are dropped and counted. What is left
/// is written when the guard is dropped.
fn start_logging(log: &str, format: LogFormat) -> Result<(ErrorCounter, WorkerGuard)> {
    let filter: Targets = log.parse().with_context(|| format!("`{log}` is not a log filter"))?;
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(LOG_LINES).lossy(true).thread_name("log").finish(std::io::stderr());
    let dropped = writer.error_counter();
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    match format {
        LogFormat::Text => tracing_subscriber::registry().with(lines).with(filter).init(),
        LogFormat::Json => tracing_subscriber::registry().with(lines.json().flatten_event(true)).with(filter).init(),
    }
    Ok((dropped, guard))
}

fn open_applier(kind: ApplierKind, protection: Protection) -> Result<Box<dyn Applier>> {
    Ok(match kind {
        ApplierKind::Netlink => {
            let applier = NetlinkApplier::open().context("cannot open a netlink socket")?;
            Box::new(if protection == Protection::On { applier.protecting() } else { applier })
        }
        ApplierKind::Nft => {
            let version = std::process::Command::new("nft").arg("--version").output();
            version.context("cannot run `nft`; install nftables, or use `--applier netlink`, which needs no nft")?;
            Box::new(NftApplier)
        }
    })
}

/// Enforces until a signal comes.
pub(crate) fn run(settings: &Settings) -> Result<ExitCode> {
    let config = Config::new(settings)?;
    let (dropped, _guard) = start_logging(&config.log, config.log_format)?;
    let mut reader = Reader::open().context("cannot open a netlink socket")?;
    reader.check()?;
    let applier = open_applier(config.applier, config.protection)?;
    let (mailbox, inbox) = queue();
    let touched = mailbox.clone();
    let monitor = Monitor::start(move |generation| {
        let _ = touched.send(Event::Touched(generation));
    })
    .context("cannot subscribe to changes of the ruleset")?;
    if let Some(deny_log) = config.deny_log {
        let samples = mailbox.clone();
        let result = nflog::start(deny_log.group, config.deny_log_lines, move |sample| {
            let _ = samples.send(Event::Denied(sample));
        });
        // Enforcement does not depend on it.
        if let Err(error) = result {
            tracing::warn!(%error, group = deny_log.group, "cannot explain denied packets: NFLOG is not available");
        }
    }
    let options = policy_ruleset::Options { own_node_egress: config.own_node_egress, deny_log: config.deny_log };
    let scope = compile::Options { node: Some(config.node.clone()), own_node_egress: config.own_node_egress };
    let mut enforcer = Enforcer::new(scope, options, applier, Box::new(RealKernel::new(reader, monitor)));
    if let Some(socket) = &config.socket {
        enforcer = enforcer.with_saver(Saver::start(Store::beside(socket, &config.node))?);
    }
    let metrics = Metrics::new().context("cannot set up metrics")?;
    let published = Arc::new(Published::default());
    let (orders, ordered) = channel();
    let conntrack = Conntrack::open().context("cannot open a netlink socket")?;
    connections::start(conntrack, ordered, mailbox.clone(), metrics.clone())?;
    let records = config.socket.as_deref().map(netpol_cni::plugin::records);
    let parts = Parts {
        enforcer,
        orders,
        metrics: metrics.clone(),
        published: published.clone(),
        node: config.node.clone(),
        applier: config.applier,
        sandboxes: Sandboxes::new(config.node.clone(), records),
        clock: Box::new(Instant::now),
    };
    let mut agent = Agent::new(parts, inbox);
    // Before anything that may take its time.
    agent.adopt()?;
    let interfaces = watch_interfaces(mailbox.clone())?;
    if let Some(path) = &config.socket {
        socket::serve(path, mailbox.clone(), interfaces).with_context(|| format!("cannot listen at `{}`", path.display()))?;
    }
    counters::start(metrics.clone(), published.clone(), move || dropped.dropped_lines())?;
    serve_http(config.listen, config.metrics_tokens, &published, &metrics)?;

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let kept = config.chain.map(Kept::new);
    #[cfg(feature = "kubernetes")]
    runtime.spawn(watch_for_removal(removal(&config.objects, config.pod, kept.as_ref(), &mailbox), mailbox.clone()));
    #[cfg(not(feature = "kubernetes"))]
    runtime.spawn(watch_for_end(mailbox.clone()));

    tracing::info!(node = config.node, applier = %config.applier, version = env!("CARGO_PKG_VERSION"), "starting");
    for warning in policy_agent::admin::warnings::of_node() {
        tracing::warn!("{warning}");
    }
    if let Some(kept) = kept {
        keep_chained(kept, mailbox.clone())?;
    }
    let source: Box<dyn Source> = match config.objects {
        Objects::Manifests(folder) => Box::new(Manifests::new(folder)),
        #[cfg(feature = "kubernetes")]
        Objects::Cluster(access) => {
            let client = runtime.block_on(access.config()).context(NO_CLUSTER)?;
            let _entered = runtime.enter();
            runtime.spawn(report::run_on_node(published, kube::Client::try_from(client)?, config.node.clone()));
            Box::new(Kubernetes::new(access, config.node.clone()))
        }
    };
    agent.run(source, mailbox)?;
    if let Some(socket) = &config.socket {
        let _ = std::fs::remove_file(socket);
    }
    Ok(ExitCode::SUCCESS)
}

/// Serves metrics and probes, where that is wanted.
fn serve_http(address: Option<SocketAddr>, tokens: Option<PathBuf>, published: &Arc<Published>, metrics: &Metrics) -> Result<()> {
    let Some(address) = address else { return Ok(()) };
    http::start(address, published.clone(), metrics.clone(), tokens.map(Tokens::new))
        .with_context(|| format!("cannot listen on {address}"))?;
    Ok(())
}

/// Tells the loop which interfaces lead to pods.
fn watch_interfaces(mailbox: Mailbox) -> Result<Watch> {
    let see = move |list| {
        let _ = mailbox.send(Event::Interfaces(list));
    };
    Watch::start(see).context("cannot read the node's links and routes")
}

/// Waits for a signal to stop.
async fn stopped() {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Writes Events until a signal comes.
#[cfg(feature = "kubernetes")]
pub(crate) fn report(access: Access, instance: Option<String>, logging: &LoggingArgs) -> Result<ExitCode> {
    let _guard = start_logging(&logging.log, logging.log_format)?;
    // One of them waits for news.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let config = runtime.block_on(access.config()).context(NO_CLUSTER)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "reporting policies that cannot be enforced as written");
    // No pod is on a node without a name.
    let source = Box::new(Kubernetes::new(access, String::new()));
    let is_over = runtime.block_on(async {
        let client = kube::Client::try_from(config)?;
        let reporting = tokio::spawn(report::run(source, client, instance));
        tokio::select! {
            () = stopped() => anyhow::Ok(false),
            _ = reporting => Ok(true),
        }
    })?;
    runtime.shutdown_background();
    Ok(if is_over { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Ends the agent when a signal comes.
#[cfg(not(feature = "kubernetes"))]
async fn watch_for_end(events: Mailbox) {
    stopped().await;
    // The agent may have ended by itself.
    let _ = events.send(Event::Stop);
}

/// Ends the agent when a signal comes, and takes the CNI plugin out of the chain when the agent is removed for good.
#[cfg(feature = "kubernetes")]
async fn watch_for_removal(removal: Option<Arc<Removal>>, events: Mailbox) {
    if let Some(removal) = &removal {
        tokio::spawn(Arc::clone(removal).watch());
    }
    stopped().await;
    // Enforcement goes on meanwhile.
    if let Some(removal) = removal {
        removal.decide().await;
    }
    // The agent may have ended by itself.
    let _ = events.send(Event::Stop);
}

/// What watches whether the agent is removed for good, where it is known in which pod it runs.
#[cfg(feature = "kubernetes")]
fn removal(objects: &Objects, pod: Option<ObjectKey>, kept: Option<&Kept>, events: &Mailbox) -> Option<Arc<Removal>> {
    let (Objects::Cluster(access), Some(pod), Some(kept)) = (objects, pod, kept) else { return None };
    let events = events.clone();
    let tell = move || {
        // The agent may have ended by itself.
        let _ = events.send(Event::Chain(Err(Unchained::Removed)));
    };
    Some(Removal::new(access.clone(), pod, kept.clone(), tell))
}

/// Keeps the CNI plugin where it was installed, however often the network plugin writes its configuration again.
fn keep_chained(kept: Kept, events: Mailbox) -> Result<()> {
    let keep = move || {
        let mut last = None;
        kept.keep(|result| {
            if let Ok(Outcome::Written(path)) = &result {
                tracing::info!(path = %path.display(), "added the CNI plugin to the chain");
            }
            let trouble = result.as_ref().err().map(ToString::to_string);
            let is_new = last.as_ref() != Some(&trouble);
            last = Some(trouble);
            !is_new || events.send(Event::Chain(result.map(drop).map_err(Unchained::Install))).is_ok()
        });
    };
    std::thread::Builder::new().name("cni".to_owned()).spawn(keep).context("cannot watch the CNI configuration")?;
    Ok(())
}

/// Installs the CNI plugin.
pub(crate) fn install(place: &CniArgs, bin_dir: &Path, plugin: Option<&Path>, socket: &Path) -> Result<ExitCode> {
    let own = std::env::current_exe().context("cannot find the path of this program; use `--plugin PATH`")?;
    let plugin = plugin.map_or_else(|| own.with_file_name(PLUGIN), Path::to_owned);
    let is_new = copy_plugin(&plugin, bin_dir)?;
    println!(
        "{} `{}`",
        if is_new { "copied the plugin to" } else { "the plugin is up to date in" },
        bin_dir.join(PLUGIN).display()
    );
    let chain = Chain { configurations: place.conf_dir.clone(), socket: socket.to_owned() };
    match chain.install() {
        Ok(Outcome::Written(path)) => println!("added the plugin to `{}`", path.display()),
        Ok(Outcome::Unchanged) => println!("the plugin is already in the chain in `{}`", place.conf_dir.display()),
        // Agents and network plugins start at the same time on a new node.
        Err(error @ InstallError::NoConfiguration(_)) => println!("{error}"),
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes the CNI plugin out of the node's chains.
pub(crate) fn uninstall(place: &CniArgs, stay: bool) -> Result<ExitCode> {
    let chain = Chain { configurations: place.conf_dir.clone(), socket: SOCKET.into() };
    let changed = chain.uninstall()?;
    for path in &changed {
        println!("removed the plugin from `{}`", path.display());
    }
    if changed.is_empty() {
        println!("no chain in `{}` has the plugin", place.conf_dir.display());
    }
    if stay {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(stopped());
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes the table.
pub(crate) fn cleanup(applier: ApplierKind, socket: &Path) -> Result<ExitCode> {
    let mut reader = Reader::open().context("cannot open a netlink socket")?;
    reader.check()?;
    // Otherwise the next agent would take the table for lost.
    let store = Store::beside(socket, "");
    store.remove().with_context(|| format!("cannot remove `{}`", store.path().display()))?;
    if reader.is_guard_present()? {
        open_applier(applier, Protection::Off)?.apply_to_guard(&Transaction::remove(), None)?;
    }
    if !reader.is_present()? {
        println!("there is no table `inet {}`; nothing to remove", policy_ruleset::TABLE);
        return Ok(ExitCode::SUCCESS);
    }
    open_applier(applier, Protection::Off)?.apply(&Transaction::remove(), None)?;
    println!("removed the table `inet {}`: no pod is isolated any more", policy_ruleset::TABLE);
    Ok(ExitCode::SUCCESS)
}
