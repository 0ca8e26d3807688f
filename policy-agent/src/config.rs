//! Settings put together: flags, environment, file, defaults, in this order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use netpol_cni::protocol::SOCKET;
use policy_agent::chain::install::Chain;
use policy_agent::kernel::applier::ApplierKind;
use policy_core::graph::OwnNodeEgress;
use policy_core::model::ObjectKey;
#[cfg(feature = "kubernetes")]
use policy_input::cluster::Access;
use policy_ruleset::DenyLog;

use crate::args::{DenyLogging, LOG, LogFormat, OwnNode, Protection, Settings};

const LISTEN: &str = "127.0.0.1:9180";
const LINES: u32 = 20;
const OFF: &str = "off";

/// Where objects come from.
#[derive(Debug)]
pub(crate) enum Objects {
    /// A folder of manifests.
    Manifests(PathBuf),
    /// An API server.
    #[cfg(feature = "kubernetes")]
    Cluster(Access),
}

/// Everything that the agent needs to know.
#[derive(Debug)]
pub(crate) struct Config {
    pub node: String,
    pub objects: Objects,
    pub applier: ApplierKind,
    pub protection: Protection,
    pub own_node_egress: OwnNodeEgress,
    pub deny_log: Option<DenyLog>,
    pub deny_log_lines: u32,
    pub listen: Option<SocketAddr>,
    /// The file of tokens for the metrics.
    pub metrics_tokens: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    /// The chain in which the CNI plugin is kept.
    pub chain: Option<Chain>,
    /// The pod in which the agent runs.
    #[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "only the API knows the DaemonSet of a pod"))]
    pub pod: Option<ObjectKey>,
    pub log: String,
    pub log_format: LogFormat,
}

fn read(path: &Path) -> Result<Settings> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the settings in `{}`", path.display()))?;
    toml::from_str(&text).with_context(|| format!("cannot parse the settings in `{}`", path.display()))
}

/// `[10.0.0.1]:9180` without the brackets, so that deployments need not know of which family a node's address is.
fn bare(address: &str) -> String {
    let inner = address.strip_prefix('[').and_then(|rest| rest.split_once("]:"));
    match inner {
        Some((host, port)) if host.parse::<std::net::Ipv4Addr>().is_ok() => format!("{host}:{port}"),
        _ => address.to_owned(),
    }
}

impl Config {
    /// Settings of flags and environment, with those of the file and the defaults behind them.
    pub(crate) fn new(flags: &Settings) -> Result<Self> {
        let file = flags.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let flags = flags.clone();
        let Some(node) = flags.node.or(file.node) else {
            bail!("missing `--node NAME`: the node name, as in `spec.nodeName` of its pods");
        };
        let is_cluster = flags.kubeconfig.is_some() || flags.context.is_some();
        let objects = match flags.manifests.or(file.manifests).filter(|_| !is_cluster) {
            Some(folder) if !folder.is_dir() => {
                bail!("`{}` is not a directory; `--manifests` requires a directory of manifests", folder.display());
            }
            Some(folder) => Objects::Manifests(folder),
            #[cfg(not(feature = "kubernetes"))]
            None => bail!("this build has no API client; enforce manifests with `--manifests DIR`"),
            #[cfg(feature = "kubernetes")]
            None => Objects::Cluster(Access {
                kubeconfig: flags.kubeconfig.or(file.kubeconfig),
                context: flags.context.or(file.context),
            }),
        };
        let listen = flags.listen.or(file.listen).unwrap_or_else(|| LISTEN.to_owned());
        let listen = match listen.as_str() {
            OFF => None,
            text => {
                Some(bare(text).parse().with_context(|| format!("`{text}` is not an address with a port, such as {LISTEN}"))?)
            }
        };
        let socket = flags.socket.or(file.socket).unwrap_or_else(|| SOCKET.into());
        let chain = match flags.cni_conf_dir.or(file.cni_conf_dir) {
            Some(_) if socket == Path::new(OFF) => {
                bail!("`--cni-conf-dir` cannot be used with `--socket off`: the CNI plugin connects to the socket");
            }
            configurations => configurations.map(|configurations| Chain { configurations, socket: socket.clone() }),
        };
        let pod = flags.pod.or(file.pod).map(|text| match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(ObjectKey::new(namespace, name)),
            _ => bail!("`{text}` is not a pod; `--pod` requires NAMESPACE/NAME"),
        });
        let deny_log = DenyLog {
            group: flags.deny_log_group.or(file.deny_log_group).unwrap_or(DenyLog::DEFAULT.group),
            rate: flags.deny_log_rate.or(file.deny_log_rate).unwrap_or(DenyLog::DEFAULT.rate),
        };
        let is_sampled = flags.deny_log.or(file.deny_log).unwrap_or_default() == DenyLogging::Sampled && deny_log.rate > 0;
        Ok(Self {
            node,
            objects,
            applier: flags.applier.or(file.applier).unwrap_or_default(),
            protection: flags.protect_table.or(file.protect_table).unwrap_or_default(),
            own_node_egress: match flags.own_node_egress.or(file.own_node_egress).unwrap_or_default() {
                OwnNode::Enforce => OwnNodeEgress::Enforce,
                OwnNode::Allow => OwnNodeEgress::Allow,
            },
            deny_log: is_sampled.then_some(deny_log),
            deny_log_lines: flags.deny_log_lines.or(file.deny_log_lines).unwrap_or(LINES),
            listen,
            metrics_tokens: flags.metrics_token_file.or(file.metrics_token_file),
            socket: (socket != Path::new(OFF)).then_some(socket),
            chain,
            pod: pod.transpose()?,
            log: flags.log.or(file.log).unwrap_or_else(|| LOG.to_owned()),
            log_format: flags.log_format.or(file.log_format).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_before_the_file_and_the_file_before_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(
            &path,
            "node = \"file\"\nlisten = \"off\"\nmetrics_token_file = \"/t\"\ndeny_log = \"off\"\napplier = \"nft\"\n",
        )
        .unwrap();
        let flags = Settings {
            config: Some(path.clone()),
            node: Some("flag".to_owned()),
            manifests: Some(folder.path().to_owned()),
            ..Settings::default()
        };
        let config = Config::new(&flags).unwrap();
        assert_eq!((config.node.as_str(), config.listen, config.applier), ("flag", None, ApplierKind::Nft));
        assert_eq!((config.deny_log, config.socket.as_deref()), (None, Some(Path::new(SOCKET))));
        assert_eq!(config.metrics_tokens.as_deref(), Some(Path::new("/t")));

        for (text, address) in
            [("[10.0.0.1]:9180", "10.0.0.1:9180"), ("[fd00::1]:9180", "[fd00::1]:9180"), ("10.0.0.1:1", "10.0.0.1:1")]
        {
            let flags = Settings { listen: Some(text.to_owned()), ..flags.clone() };
            assert_eq!(Config::new(&flags).unwrap().listen, address.parse().ok());
        }
        std::fs::write(&path, "nod = \"file\"\n").unwrap();
        let error = format!("{:#}", Config::new(&flags).unwrap_err());
        assert!(error.contains("agent.toml") && error.contains("nod"), "{error}");
    }
}
