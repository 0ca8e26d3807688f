//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use netpol_cni::protocol::SOCKET;
use policy_agent::kernel::applier::ApplierKind;
use serde::Deserialize;

/// The default log filter. Messages of the API client are left out, because the source logs the same errors with more context.
pub(crate) const LOG: &str = "info,kube_client=off,kube_runtime=off";

/// Enforce Kubernetes NetworkPolicies for the pods of one node with nftables
#[derive(Parser, Debug)]
#[command(
    name = "policy-agent", version, long_about = LONG_ABOUT, after_help = EXAMPLES,
    args_conflicts_with_subcommands = true, max_term_width = 100
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub settings: Settings,
}

const LONG_ABOUT: &str = "\
Enforce Kubernetes NetworkPolicies for the pods of one node with nftables

The agent owns the table `inet netpol`, and temporarily `inet netpol-guard` and `inet netpol-probe`. It changes the table in \
transactions. The table stays in force when the agent stops, crashes or is upgraded; `policy-agent cleanup` removes it.";

const EXAMPLES: &str = "\
Examples:
  policy-agent --node n1                             enforce the policies of the cluster of this pod
  policy-agent --node n1 --kubeconfig /etc/k8s.conf  the same, from outside the cluster
  policy-agent --node n1 --manifests /etc/netpol     enforce the manifests in a directory
  policy-agent status                                whether the agent is in sync, and why not
  policy-agent explain-chain in-shop/web-k3j2h1g4f5d6
  policy-agent cleanup                               remove the table: no pod is isolated any more
  policy-agent install-cni                           isolate pods before their containers start
  policy-agent uninstall-cni                         stop doing so
  policy-agent report                                write Events on policies that cannot be enforced as written

Precedence: flags, environment (NETPOL_NODE, NETPOL_MANIFESTS, …), the file of --config (TOML; the keys are the flags, with \
`_` for `-`), defaults.

Exit codes:
  0  stopped by a signal; the command succeeded
  1  not in sync (status); not found (explain-chain)
  2  cannot start, or usage error";

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Remove the table: no pod is isolated any more
    Cleanup {
        /// How to change the rules in the kernel
        #[arg(long, value_enum, default_value_t = ApplierKind::Netlink)]
        applier: ApplierKind,
        /// The socket of the agent; the saved ruleset in its directory is removed too
        #[arg(long, env = "NETPOL_SOCKET", value_name = "PATH", default_value = SOCKET)]
        socket: PathBuf,
    },
    /// Report whether the kernel holds the rules for the current objects, and if not, why
    Status {
        /// The socket of the agent
        #[arg(long, env = "NETPOL_SOCKET", value_name = "PATH", default_value = SOCKET)]
        socket: PathBuf,
        /// Output format
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Copy the CNI plugin to the node, and add it to the chain that the container runtime runs for each pod
    ///
    /// Edits the first configuration in the directory, atomically, and only the entry of the plugin. A configuration of a
    /// single plugin is not changed; a list with both plugins takes precedence over it. If there is no configuration yet, the
    /// running agent (`--cni-conf-dir`) adds the plugin when there is one.
    InstallCni {
        #[command(flatten)]
        place: CniArgs,
        /// The directory in which the runtime looks for plugins
        #[arg(long, env = "NETPOL_CNI_BIN_DIR", value_name = "DIR", default_value = "/opt/cni/bin")]
        bin_dir: PathBuf,
        /// The executable of the plugin [default: `netpol-cni` in the directory of this program]
        #[arg(long, env = "NETPOL_CNI_PLUGIN", value_name = "PATH")]
        plugin: Option<PathBuf>,
        /// The socket of the agent
        #[arg(long, env = "NETPOL_SOCKET", value_name = "PATH", default_value = SOCKET)]
        socket: PathBuf,
    },
    /// Remove the CNI plugin from every chain of the node, so that pods start without an agent
    ///
    /// The executable stays: runtimes call it once more for each pod that was started with it.
    UninstallCni {
        #[command(flatten)]
        place: CniArgs,
        /// Keep running afterwards, as a DaemonSet requires
        #[arg(long)]
        stay: bool,
    },
    #[cfg(feature = "kubernetes")]
    /// Write Events on NetworkPolicies that cannot be enforced as written; one is enough for a cluster
    ///
    /// Reports policies that are invalid, that select only hostNetwork pods, or that name a port which no pod has. Requires no
    /// privileges on a node.
    Report {
        /// The kubeconfig of the API server [default: the service account of the pod, or KUBECONFIG]
        #[arg(long, env = "NETPOL_KUBECONFIG", value_name = "PATH")]
        kubeconfig: Option<PathBuf>,
        /// The context in the kubeconfig [default: the current context]
        #[arg(long, env = "NETPOL_CONTEXT", value_name = "NAME")]
        context: Option<String>,
        /// The reporting instance of the Events
        #[arg(long, env = "POD_NAME", value_name = "NAME")]
        instance: Option<String>,
        #[command(flatten)]
        logging: LoggingArgs,
    },
    /// Show the pods and policies behind a chain or set of the table
    ExplainChain {
        /// The name, as in `nft list table inet netpol`
        name: String,
        /// The socket of the agent
        #[arg(long, env = "NETPOL_SOCKET", value_name = "PATH", default_value = SOCKET)]
        socket: PathBuf,
    },
}

/// Settings of the log.
#[cfg(feature = "kubernetes")]
#[derive(ClapArgs, Debug)]
pub(crate) struct LoggingArgs {
    /// Log filter, as `--log` of the agent
    #[arg(long, env = "NETPOL_LOG", value_name = "FILTER", default_value = LOG)]
    pub log: String,
    /// Log format
    #[arg(long, env = "NETPOL_LOG_FORMAT", value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// The configuration of the container runtime.
#[derive(ClapArgs, Debug)]
pub(crate) struct CniArgs {
    /// The directory of CNI configurations
    #[arg(long, env = "NETPOL_CNI_CONF_DIR", value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub conf_dir: PathBuf,
}

/// The settings of the agent. Every flag has an environment variable and a key in the file.
#[derive(ClapArgs, Deserialize, Debug, Clone, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// A file of settings (TOML)
    #[arg(long, env = "NETPOL_CONFIG", value_name = "PATH")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// The node whose pods are enforced, as in `spec.nodeName`
    #[arg(long, env = "NETPOL_NODE", value_name = "NAME")]
    pub node: Option<String>,
    /// A directory of manifests to enforce, instead of an API server
    #[arg(long, env = "NETPOL_MANIFESTS", value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// The kubeconfig of the API server [default: the service account of the pod, or KUBECONFIG]
    #[arg(long, env = "NETPOL_KUBECONFIG", value_name = "PATH", conflicts_with = "manifests")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig [default: the current context]
    #[arg(long, env = "NETPOL_CONTEXT", value_name = "NAME", conflicts_with = "manifests")]
    pub context: Option<String>,
    /// The directory of CNI configurations in which the agent maintains the plugin, as `install-cni` does [default: none]
    #[arg(long, env = "NETPOL_CNI_CONF_DIR", value_name = "DIR")]
    pub cni_conf_dir: Option<PathBuf>,
    /// The pod in which this agent runs; when its DaemonSet is deleted, the agent removes the CNI plugin [default: none]
    #[arg(long, env = "NETPOL_POD", value_name = "NAMESPACE/NAME")]
    pub pod: Option<String>,
    /// How to change the rules in the kernel [default: netlink]
    #[arg(long, env = "NETPOL_APPLIER", value_enum)]
    pub applier: Option<ApplierKind>,
    /// Whether other programs are prevented from changing the table while the agent runs; requires `--applier netlink` and Linux 6.9
    /// [default: on]
    #[arg(long, env = "NETPOL_PROTECT_TABLE", value_enum, value_name = "SWITCH")]
    pub protect_table: Option<Protection>,
    /// Whether egress rules apply to traffic from a pod to its own node [default: enforce]
    #[arg(long, env = "NETPOL_OWN_NODE_EGRESS", value_enum, value_name = "READING")]
    pub own_node_egress: Option<OwnNode>,
    /// Whether denied packets are sampled and explained in the log [default: sampled]
    #[arg(long, env = "NETPOL_DENY_LOG", value_enum, value_name = "MODE")]
    pub deny_log: Option<DenyLogging>,
    /// Sampled packets per second, for each direction of each group of pods [default: 5]
    #[arg(long, env = "NETPOL_DENY_LOG_RATE", value_name = "PACKETS")]
    pub deny_log_rate: Option<u32>,
    /// Explained packets in the log per second, in total [default: 20]
    #[arg(long, env = "NETPOL_DENY_LOG_LINES", value_name = "LINES")]
    pub deny_log_lines: Option<u32>,
    /// The NFLOG group for samples [default: 1717]
    #[arg(long, env = "NETPOL_DENY_LOG_GROUP", value_name = "GROUP")]
    pub deny_log_group: Option<u16>,
    /// The address for /metrics, /healthz and /readyz, or `off` [default: 127.0.0.1:9180]
    #[arg(long, env = "NETPOL_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// A file of tokens, one a line. Clients of /metrics must send one of them as `Authorization: Bearer TOKEN` [default: anybody can
    /// read the metrics]
    #[arg(long, env = "NETPOL_METRICS_TOKEN_FILE", value_name = "PATH")]
    pub metrics_token_file: Option<PathBuf>,
    /// The socket for the CNI plugin, `status` and `explain-chain`, or `off` [default: /run/netpol/agent.sock]
    #[arg(long, env = "NETPOL_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Log filter: error, warn, info, debug, or by module, as in `info,policy_agent::agent=debug` [default: info]
    #[arg(long, env = "NETPOL_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Log format [default: text]
    #[arg(long, env = "NETPOL_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

#[derive(ValueEnum, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protection {
    /// Other programs cannot change the table, not even with `nft flush ruleset`
    #[default]
    On,
    /// Other programs can change the table; their changes are repaired
    Off,
}

#[derive(ValueEnum, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OwnNode {
    /// Egress rules apply
    #[default]
    Enforce,
    /// A pod can always reach its own node
    Allow,
}

#[derive(ValueEnum, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DenyLogging {
    /// No samples
    Off,
    /// A few packets per second
    #[default]
    Sampled,
}

#[derive(ValueEnum, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// Text
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    /// Text
    Text,
    /// JSON
    Json,
}
