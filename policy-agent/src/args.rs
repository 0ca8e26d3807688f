//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use netpol_cni::protocol::SOCKET;
use policy_agent::kernel::applier::ApplierKind;
use serde::Deserialize;

/// What is logged unless it is set. What the API client has to say, the source says with more sense.
pub(crate) const LOG: &str = "info,kube_client=off,kube_runtime=off";

/// Enforces Kubernetes NetworkPolicies for the pods of one node.
#[derive(Parser, Debug)]
#[command(
    name = "policy-agent", version, about, long_about = LONG_ABOUT, after_long_help = EXAMPLES,
    args_conflicts_with_subcommands = true, max_term_width = 100
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub settings: Settings,
}

const LONG_ABOUT: &str = "\
Enforces Kubernetes NetworkPolicies for the pods of one node, with nftables.

It owns the table `inet netpol`, and for a moment `inet netpol-guard` and `inet netpol-probe`. The table is changed in transactions; it stays in force when the agent \
stops, crashes or is upgraded, and `policy-agent cleanup` removes it.";

const EXAMPLES: &str = "\
Examples:
  policy-agent --node n1                             enforce what the API server of this pod says
  policy-agent --node n1 --kubeconfig /etc/k8s.conf  the same, from outside of the cluster
  policy-agent --node n1 --manifests /etc/netpol     enforce what these files say, and follow their changes
  policy-agent status                                in sync or not, and why
  policy-agent explain-chain in-shop/web-k3j2h1g4f5d6
  policy-agent cleanup                               remove the table: nothing is isolated any more
  policy-agent install-cni                           isolate pods before their containers start, from now on
  policy-agent uninstall-cni                         and no more
  policy-agent report                                write Events on policies that cannot be fully honoured

Settings come from flags, else from the environment (NETPOL_NODE, NETPOL_MANIFESTS, …), else from the file of --config \
(TOML, keys as the flags, with `_` for `-`), else from the defaults above.

Exit codes: 0 stopped as asked, 1 not in sync (status) or not found (explain-chain), 2 cannot start or bad usage.";

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Remove the table: nothing is isolated any more
    Cleanup {
        /// How to talk to the kernel
        #[arg(long, value_enum, default_value_t = ApplierKind::Netlink)]
        applier: ApplierKind,
        /// The socket of the agent; the last ruleset beside it is removed too
        #[arg(long, env = "NETPOL_SOCKET", value_name = "PATH", default_value = SOCKET)]
        socket: PathBuf,
    },
    /// Say whether the kernel holds what the objects say, and if not, why
    Status {
        /// The socket of the agent
        #[arg(long, env = "NETPOL_SOCKET", value_name = "PATH", default_value = SOCKET)]
        socket: PathBuf,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Copy the CNI plugin to the node, and put it into the chain that the container runtime runs for each pod
    ///
    /// The first configuration of the folder is changed, in one step, and nothing in it but the plugin's entry. A
    /// configuration of a single plugin stays as it is, and a list with both comes before it. Where there is none yet, the
    /// running agent (`--cni-conf-dir`) chains the plugin as soon as there is one.
    InstallCni {
        #[command(flatten)]
        place: CniArgs,
        /// The folder in which the runtime looks for plugins
        #[arg(long, env = "NETPOL_CNI_BIN_DIR", value_name = "DIR", default_value = "/opt/cni/bin")]
        bin_dir: PathBuf,
        /// The plugin's program [default: `netpol-cni` beside this program]
        #[arg(long, env = "NETPOL_CNI_PLUGIN", value_name = "PATH")]
        plugin: Option<PathBuf>,
        /// The socket of the agent
        #[arg(long, env = "NETPOL_SOCKET", value_name = "PATH", default_value = SOCKET)]
        socket: PathBuf,
    },
    /// Take the CNI plugin out of every chain of the node, so that pods start without an agent
    ///
    /// The program stays where it is: runtimes call it once more for each pod that was made with it.
    UninstallCni {
        #[command(flatten)]
        place: CniArgs,
        /// Keep running afterwards, as a DaemonSet wants it
        #[arg(long)]
        stay: bool,
    },
    #[cfg(feature = "kubernetes")]
    /// Write Events on NetworkPolicies that cannot be fully honoured; one is enough for a cluster
    ///
    /// Events say that a policy cannot be read as it is, selects hostNetwork pods only, or names a port that nobody has. It needs
    /// no rights on a node.
    Report {
        /// How to reach the API server [default: the service account of the pod, or what KUBECONFIG says]
        #[arg(long, env = "NETPOL_KUBECONFIG", value_name = "PATH")]
        kubeconfig: Option<PathBuf>,
        /// The context in the kubeconfig [default: its current one]
        #[arg(long, env = "NETPOL_CONTEXT", value_name = "NAME")]
        context: Option<String>,
        /// Who the Events say has written them
        #[arg(long, env = "POD_NAME", value_name = "NAME")]
        instance: Option<String>,
        #[command(flatten)]
        logging: LoggingArgs,
    },
    /// Say which pods and policies a chain or set of the table stands for
    ExplainChain {
        /// The name, as `nft list table inet netpol` shows it
        name: String,
        /// The socket of the agent
        #[arg(long, env = "NETPOL_SOCKET", value_name = "PATH", default_value = SOCKET)]
        socket: PathBuf,
    },
}

/// What is logged, and how.
#[cfg(feature = "kubernetes")]
#[derive(ClapArgs, Debug)]
pub(crate) struct LoggingArgs {
    /// Which messages are logged, as of the agent
    #[arg(long, env = "NETPOL_LOG", value_name = "FILTER", default_value = LOG)]
    pub log: String,
    /// How messages are logged
    #[arg(long, env = "NETPOL_LOG_FORMAT", value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Where the container runtime keeps its configuration.
#[derive(ClapArgs, Debug)]
pub(crate) struct CniArgs {
    /// The folder of CNI configurations
    #[arg(long, env = "NETPOL_CNI_CONF_DIR", value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub conf_dir: PathBuf,
}

/// What the agent may be told. Every flag has a variable and a key in the file.
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
    /// A folder of manifests to enforce, in place of an API server
    #[arg(long, env = "NETPOL_MANIFESTS", value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// How to reach the API server [default: the service account of the pod, or what KUBECONFIG says]
    #[arg(long, env = "NETPOL_KUBECONFIG", value_name = "PATH", conflicts_with = "manifests")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig [default: its current one]
    #[arg(long, env = "NETPOL_CONTEXT", value_name = "NAME", conflicts_with = "manifests")]
    pub context: Option<String>,
    /// The folder of CNI configurations in which the plugin is kept chained, as `install-cni` does it [default: none]
    #[arg(long, env = "NETPOL_CNI_CONF_DIR", value_name = "DIR")]
    pub cni_conf_dir: Option<PathBuf>,
    /// The pod in which this agent runs; when its DaemonSet is deleted, the CNI plugin is taken out of the chain [default: none]
    #[arg(long, env = "NETPOL_POD", value_name = "NAMESPACE/NAME")]
    pub pod: Option<String>,
    /// How to talk to the kernel [default: netlink]
    #[arg(long, env = "NETPOL_APPLIER", value_enum)]
    pub applier: Option<ApplierKind>,
    /// Whether others are kept from changing the table while the agent runs; needs the applier netlink and Linux 6.9
    /// [default: on]
    #[arg(long, env = "NETPOL_PROTECT_TABLE", value_enum, value_name = "SWITCH")]
    pub protect_table: Option<Protection>,
    /// Whether egress rules apply to traffic from a pod to its own node [default: enforce]
    #[arg(long, env = "NETPOL_OWN_NODE_EGRESS", value_enum, value_name = "READING")]
    pub own_node_egress: Option<OwnNode>,
    /// Whether denied packets are sampled and explained in the log [default: sampled]
    #[arg(long, env = "NETPOL_DENY_LOG", value_enum, value_name = "MODE")]
    pub deny_log: Option<DenyLogging>,
    /// Packets a second that are sampled for each direction of each group of pods [default: 5]
    #[arg(long, env = "NETPOL_DENY_LOG_RATE", value_name = "PACKETS")]
    pub deny_log_rate: Option<u32>,
    /// Lines a second that are logged for all of them together [default: 20]
    #[arg(long, env = "NETPOL_DENY_LOG_LINES", value_name = "LINES")]
    pub deny_log_lines: Option<u32>,
    /// The NFLOG group for samples [default: 1717]
    #[arg(long, env = "NETPOL_DENY_LOG_GROUP", value_name = "GROUP")]
    pub deny_log_group: Option<u16>,
    /// Where /metrics, /healthz and /readyz are served; `off` for nowhere [default: 127.0.0.1:9180]
    #[arg(long, env = "NETPOL_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The socket for `status` and `explain-chain`; `off` for none [default: /run/netpol/agent.sock]
    #[arg(long, env = "NETPOL_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Which messages are logged: error, warn, info, debug, or per module as in `info,policy_agent::agent=debug` [default: info]
    #[arg(long, env = "NETPOL_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How messages are logged [default: text]
    #[arg(long, env = "NETPOL_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

#[derive(ValueEnum, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protection {
    /// Others cannot change the table, not even with `nft flush ruleset`
    #[default]
    On,
    /// Others can, and what they change is repaired
    Off,
}

#[derive(ValueEnum, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OwnNode {
    /// Egress rules apply
    #[default]
    Enforce,
    /// A pod always reaches its own node
    Allow,
}

#[derive(ValueEnum, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DenyLogging {
    /// Nothing is sampled
    Off,
    /// A few packets a second
    #[default]
    Sampled,
}

#[derive(ValueEnum, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// A line for people
    #[default]
    Text,
    /// A JSON object in each line
    Json,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    /// For people
    Text,
    /// For machines
    Json,
}
