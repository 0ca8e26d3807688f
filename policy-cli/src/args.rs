//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// In place of a path: the live cluster.
pub(crate) const LIVE: &str = "cluster";

/// Can A talk to B under Kubernetes NetworkPolicies, and why.
#[derive(Parser, Debug)]
#[command(name = "netpol", version, about, long_about = LONG_ABOUT, after_long_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Which cluster is meant. Either of them says that a live one is.
#[derive(ClapArgs, Debug, Clone, Default)]
pub(crate) struct ClusterArgs {
    /// Ask the live cluster of this context of the kubeconfig
    #[arg(long, global = true, value_name = "NAME", help_heading = "Live cluster")]
    pub context: Option<String>,
    /// Ask the live cluster of this kubeconfig [default: what KUBECONFIG says, or ~/.kube/config]
    #[arg(long, global = true, value_name = "PATH", help_heading = "Live cluster")]
    pub kubeconfig: Option<PathBuf>,
}

impl Args {
    /// The arguments, with which cluster is meant where the input is named. As `kubectl netpol`, a live one is, unless files are.
    pub(crate) fn resolved(mut self, is_kubectl: bool) -> Self {
        let is_live = is_kubectl || self.cluster.context.is_some() || self.cluster.kubeconfig.is_some();
        if let Some(input) = self.command.input_mut() {
            if input.paths.is_empty() {
                input.paths.push(if is_live { LIVE } else { "." }.into());
            }
            input.cluster = self.cluster.clone();
        }
        self
    }
}

impl Command {
    fn input_mut(&mut self) -> Option<&mut InputArgs> {
        match self {
            Self::Can(args) => Some(&mut args.input),
            Self::List(args) => Some(&mut args.input),
            Self::Who(args) => Some(&mut args.input),
            Self::Reach(args) => Some(&mut args.input),
            Self::Validate(args) => Some(&mut args.input),
            Self::Render(args) => Some(&mut args.input),
            Self::Snapshot | Self::Completions { .. } | Self::Man => None,
        }
    }
}

const LONG_ABOUT: &str = "\
Can A talk to B under Kubernetes NetworkPolicies, and why.

Reads manifests or cluster dumps (YAML or JSON, files, folders, standard input), or a live cluster (`-f cluster`, or \
`--context`), and gives the verdict that the API defines: which policies isolate, which rule allows, and what to change.";

const EXIT_CODES: &str = "\
Exit codes:
  0  allowed, or the input is valid
  1  denied, or only partly allowed
  2  bad usage or bad input

Colours are used on a terminal only, and never when NO_COLOR is set.";

const CAN_EXAMPLES: &str = "\
Examples:
  netpol can shop/web shop/db -p 5432              may pods of shop/web open TCP 5432 to shop/db?
  netpol can shop/deploy/web external -p 443       … and HTTPS to anywhere outside?
  netpol can 203.0.113.9 shop/ingress -p 80,443    may this address reach the ingress?
  netpol can shop/web kube-system/dns -p 53/UDP -p 53/TCP
  netpol can shop/web shop/db                      everything that is allowed
  netpol --context prod can shop/web shop/db -p 5432
                                                   the same of a live cluster; also `kubectl netpol can …`
  kubectl get ns,no,po,netpol -A -o yaml | netpol can -f - shop/web shop/db

FROM and TO:
  ns/name, kind/name, ns/kind/name, name   a pod or workload (pod, deploy, sts, ds, job, cronjob, rs, rc)
  node/name                                processes and hostNetwork pods of a node
  10.0.0.1, 10.0.0.0/8                     an address, or every address of a block
  external                                 every address that is no pod's and no node's

Exit codes: 0 allowed, 1 denied or only partly allowed, 2 bad usage or bad input.";

const LIST_EXAMPLES: &str = "\
Examples:
  netpol list -f manifests/                        every allowed connection
  netpol list --from shop/web                      only those of one workload
  netpol list --to external -o csv                 what leaves the cluster, as a table
  netpol list -o dot | dot -Tsvg > connections.svg
  netpol list -o mermaid                           a picture for a pull request";

const WHO_EXAMPLES: &str = "\
Examples:
  netpol who shop/db                               everything that can reach it, and on which ports
  netpol who shop/db -p 5432                       everything that can reach it there";

const REACH_EXAMPLES: &str = "\
Examples:
  netpol reach shop/web                            everything it can reach, and on which ports
  netpol reach shop/web -p 443                     everything it can reach there
  netpol reach shop/web --hops                     everything that can be reached through others";

const VALIDATE_EXAMPLES: &str = "\
Examples:
  netpol validate -f manifests/
  kubectl get netpol -A -o yaml | netpol validate -f -
  netpol validate -o json                          findings for a machine

Exit codes: 0 valid (warnings are possible), 2 at least one error.";

const RENDER_EXAMPLES: &str = "\
Examples:
  netpol render --node n1 -f manifests/            the table in nft's language, with what each set and chain is for
  netpol render --node n1 -o json | nft -j -c -f - check it against this machine's kernel
  diff <(netpol render --node n1 -f old/) <(netpol render --node n1 -f new/)

Equal input gives equal bytes, so that CI can compare rulesets.";

const SNAPSHOT_EXAMPLES: &str = "\
Examples:
  netpol snapshot > cluster.yaml.gz                what decides in the current context's cluster
  netpol --context prod snapshot > prod.yaml.gz
  netpol can -f prod.yaml.gz shop/web shop/db      … and questions about it, offline

It holds namespaces, nodes, pods, workloads, policies, Services and Ingresses, each without what does not matter: no Secrets, \
no images, commands, environment, volumes or annotations.

Exit codes: 0 saved, 2 the cluster cannot be read.";

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Say whether FROM can open connections to TO, and why
    #[command(after_help = CAN_EXAMPLES)]
    Can(CanArgs),
    /// List every allowed connection between workloads, and with the outside
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// List everything that can reach TO
    #[command(after_help = WHO_EXAMPLES)]
    Who(WhoArgs),
    /// List everything that FROM can reach
    #[command(after_help = REACH_EXAMPLES)]
    Reach(ReachArgs),
    /// Check manifests and report every fault with its place
    #[command(after_help = VALIDATE_EXAMPLES)]
    Validate(ValidateArgs),
    /// Print the nftables ruleset that the agent of a node would put in force
    #[command(after_help = RENDER_EXAMPLES)]
    Render(RenderArgs),
    /// Save what decides in a live cluster, for questions without it
    #[command(after_help = SNAPSHOT_EXAMPLES)]
    Snapshot,
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  netpol completions bash > /etc/bash_completion.d/netpol")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_help = "Example:\n  netpol man > /usr/local/share/man/man1/netpol.1")]
    Man,
}

/// Where the objects come from.
#[derive(ClapArgs, Debug, Clone)]
pub(crate) struct InputArgs {
    /// A file, a folder (with everything below it), `-` for standard input, or `cluster` for the live cluster; may be gzip.
    /// Repeatable [default: .]
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    #[arg(skip)]
    pub cluster: ClusterArgs,
    /// The namespace of names without one [default: `default`, or that of the live cluster's context]
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Accept CIDRs with leading zeros, IPv4-mapped addresses or host bits, as old API servers do
    #[arg(long)]
    pub legacy_cidrs: bool,
    /// Whether egress rules apply to traffic from a pod to its own node; the Kubernetes documentation says both
    #[arg(long, value_enum, value_name = "READING", default_value_t = OwnNode::Enforce)]
    pub own_node_egress: OwnNode,
    /// Answer even if the input has errors: what could not be read allows nothing
    #[arg(long)]
    pub keep_going: bool,
    /// Refuse files that are larger than this after decompression
    #[arg(long, value_name = "MEBIBYTES", default_value_t = 1024)]
    pub max_size: u64,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct CanArgs {
    /// The end that opens the connection
    #[arg(value_name = "FROM")]
    pub from: String,
    /// The end that it connects to
    #[arg(value_name = "TO")]
    pub to: String,
    #[command(flatten)]
    pub ports: PortArgs,
    #[command(flatten)]
    pub input: InputArgs,
    /// How to print the answer
    #[arg(short = 'o', long, value_enum, default_value_t = AnswerFormat::Text)]
    pub output: AnswerFormat,
    /// Show every policy and rule that was considered
    #[arg(short = 'v', long)]
    pub verbose: bool,
}

/// The ports of a question.
#[derive(ClapArgs, Debug)]
pub(crate) struct PortArgs {
    /// A port, a range or a port name, with a protocol if it is not TCP: 80, 53/UDP, 8000-9000/SCTP, http, icmp. Repeatable
    #[arg(short = 'p', long = "port", value_name = "PORT[/PROTO]", value_delimiter = ',')]
    pub ports: Vec<String>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ListArgs {
    /// Only connections from this end
    #[arg(long, value_name = "FROM")]
    pub from: Option<String>,
    /// Only connections to this end
    #[arg(long, value_name = "TO")]
    pub to: Option<String>,
    #[command(flatten)]
    pub input: InputArgs,
    /// How to print the list
    #[arg(short = 'o', long, value_enum, default_value_t = ListFormat::Text)]
    pub output: ListFormat,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct WhoArgs {
    /// The end that is reached
    #[arg(value_name = "TO")]
    pub to: String,
    #[command(flatten)]
    pub ports: PortArgs,
    #[command(flatten)]
    pub input: InputArgs,
    /// How to print the list
    #[arg(short = 'o', long, value_enum, default_value_t = ListFormat::Text)]
    pub output: ListFormat,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ReachArgs {
    /// The end that reaches out
    #[arg(value_name = "FROM")]
    pub from: String,
    #[command(flatten)]
    pub ports: PortArgs,
    /// Also what can be reached through other workloads, with the way there
    #[arg(long)]
    pub hops: bool,
    #[command(flatten)]
    pub input: InputArgs,
    /// How to print the list
    #[arg(short = 'o', long, value_enum, default_value_t = ListFormat::Text)]
    pub output: ListFormat,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ValidateArgs {
    /// Validate as updates of the policies in this file: what is stored already may stay, as for an API server
    #[arg(long, value_name = "PATH")]
    pub stored: Option<PathBuf>,
    #[command(flatten)]
    pub input: InputArgs,
    /// How to print the findings
    #[arg(short = 'o', long, value_enum, default_value_t = AnswerFormat::Text)]
    pub output: AnswerFormat,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct RenderArgs {
    /// The node
    #[arg(long, value_name = "NODE")]
    pub node: String,
    #[command(flatten)]
    pub input: InputArgs,
    /// How to print the ruleset
    #[arg(short = 'o', long, value_enum, default_value_t = RenderFormat::Nft)]
    pub output: RenderFormat,
    /// Whether a sample of what is denied is copied to the agent
    #[arg(long, value_enum, value_name = "MODE", default_value_t = DenyLogging::Sampled)]
    pub deny_log: DenyLogging,
    /// Packets per second that are sampled for each direction of each group of pods
    #[arg(long, value_name = "PACKETS", default_value_t = policy_ruleset::DenyLog::DEFAULT.rate)]
    pub deny_log_rate: u32,
    /// The NFLOG group that samples go to
    #[arg(long, value_name = "GROUP", default_value_t = policy_ruleset::DenyLog::DEFAULT.group)]
    pub deny_log_group: u16,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RenderFormat {
    /// nft's own language, for `nft -f`
    Nft,
    /// The schema of libnftables, for `nft -j -f`
    Json,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DenyLogging {
    /// Nothing is copied
    Off,
    /// A few packets per second
    Sampled,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OwnNode {
    /// Egress rules apply
    Enforce,
    /// A pod always reaches its own node
    Allow,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AnswerFormat {
    /// For people
    Text,
    /// For programs; the manual describes the fields under "JSON output"
    Json,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ListFormat {
    /// For people
    Text,
    /// For programs; the manual describes the fields under "JSON output"
    Json,
    /// One row for each protocol of a connection
    Csv,
    /// A Markdown table
    Md,
    /// A Graphviz graph
    Dot,
    /// A Mermaid flowchart
    Mermaid,
}
