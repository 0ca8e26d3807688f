//! The arguments that select the input.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::{ClusterArgs, OwnNode};

const SOURCES: &str = "Input";

/// Where the objects come from.
#[derive(ClapArgs, Debug, Clone)]
pub(crate) struct InputArgs {
    /// A file, a directory (read recursively), or `-` for standard input; files can be compressed with gzip. Repeatable [default:
    /// the deployment of netpol.toml, or .]
    #[arg(short = 'f', long = "file", value_name = "PATH", help_heading = SOURCES)]
    pub paths: Vec<PathBuf>,
    /// A directory with a kustomization, which is built with `kustomize` or `kubectl`, without the network and without plugins.
    /// Repeatable
    #[arg(short = 'k', long = "kustomize", value_name = "DIR", help_heading = SOURCES)]
    pub kustomizations: Vec<PathBuf>,
    /// The directory or the archive of a Helm chart, which is rendered with `helm template`; `-n` is the namespace of the release
    #[arg(long, value_name = "CHART", help_heading = SOURCES)]
    pub chart: Option<PathBuf>,
    /// A file with values of the chart. Repeatable
    #[arg(long, value_name = "FILE", requires = "chart", help_heading = SOURCES)]
    pub values: Vec<PathBuf>,
    /// A value of the chart. Repeatable
    #[arg(long, value_name = "KEY=VALUE", requires = "chart", help_heading = SOURCES)]
    pub set: Vec<String>,
    /// What the cluster serves besides the API of Kubernetes, for a chart that asks for it. Repeatable
    #[arg(long, value_name = "GROUP/VERSION[/KIND]", requires = "chart", help_heading = SOURCES)]
    pub api_versions: Vec<String>,
    /// The name of the release [default: that of `helm template`]
    #[arg(long, value_name = "NAME", requires = "chart", help_heading = SOURCES)]
    pub release: Option<String>,
    /// A deployment of netpol.toml, which is searched in this directory and in those above it. Repeatable; several, and what `-f` and
    /// `-k` name beside them, are read as one cluster, except by `validate`, `lint` and `test`, which check each deployment by itself
    #[arg(short = 'd', long = "deployment", value_name = "NAME", conflicts_with = "chart", help_heading = SOURCES)]
    pub deployments: Vec<String>,
    /// Leave out what matches in directories, in the syntax of .gitignore. Repeatable. What .gitignore and .netpolignore name is
    /// left out too. Answers name what .gitignore leaves out if it may hold objects
    #[arg(long, value_name = "GLOB", help_heading = SOURCES)]
    pub exclude: Vec<String>,
    /// Whether nothing selects the input.
    #[arg(skip)]
    pub is_default: bool,
    #[arg(skip)]
    pub cluster: ClusterArgs,
    /// The namespace of names and of objects without one [default: `default`, or the namespace of the context]
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Accept CIDRs with leading zeros, IPv4-mapped addresses or host bits, as older API servers do
    #[arg(long)]
    pub legacy_cidrs: bool,
    /// Whether egress rules apply to traffic from a pod to its own node; the Kubernetes documentation is ambiguous
    #[arg(long, value_enum, value_name = "READING", default_value_t = OwnNode::Enforce)]
    pub own_node_egress: OwnNode,
    /// Answer even if the input has errors; objects that cannot be read allow nothing
    #[arg(long)]
    pub keep_going: bool,
    /// Accept input without a single Kubernetes object
    #[arg(long)]
    pub allow_empty: bool,
    /// The largest size of a file after decompression
    #[arg(long, value_name = "MEBIBYTES", default_value_t = 1024)]
    pub max_size: u64,
}

impl InputArgs {
    /// Takes the cluster, and what is read unless something selects the input: the live cluster by `kubectl netpol`, or the current
    /// directory.
    pub(super) fn complete(&mut self, cluster: &mut ClusterArgs, is_kubectl: bool) {
        let is_selected = !self.paths.is_empty() || !self.kustomizations.is_empty() || self.chart.is_some();
        if !is_selected && self.deployments.is_empty() && !cluster.live {
            if is_kubectl {
                cluster.live = true;
            } else {
                self.is_default = true;
                self.paths.push(".".into());
            }
        }
        self.cluster = cluster.clone();
    }
}
