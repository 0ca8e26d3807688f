//! The command line.
//!
//! - `input`: the arguments that select the input.
//! - `sections`: the sections after the options in help, manual pages and the reference.

pub(crate) mod input;
pub(crate) mod sections;

use std::path::PathBuf;

use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand, ValueEnum};
use policy_core::diagnostic::Severity;
use serde::Deserialize;

pub(crate) use input::InputArgs;

/// Evaluate Kubernetes NetworkPolicies offline: what is allowed, what is denied, and why
#[derive(Parser, Debug)]
#[command(name = "netpol", version, long_about = LONG_ABOUT, after_help = sections::text("netpol"), max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// When to use colours and links [default: auto, on terminals]
    #[arg(long, global = true, value_enum, value_name = "WHEN", hide_default_value = true, default_value_t = Colours::Auto, help_heading = "Output")]
    pub color: Colours,
    /// Print only the answer: no notes, progress, explanations or summaries
    #[arg(short = 'q', long, global = true, help_heading = "Output")]
    pub quiet: bool,
}

/// When colours are used.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Colours {
    /// On terminals, unless NO_COLOR is set; everywhere if FORCE_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The cluster to read. Each argument also selects the live cluster as input.
#[derive(ClapArgs, Debug, Clone, Default)]
pub(crate) struct ClusterArgs {
    /// Read the live cluster of the current context; files apply to it as `kubectl apply` would
    #[arg(long, global = true, help_heading = "Live cluster")]
    pub live: bool,
    /// Read the live cluster of this context in the kubeconfig
    #[arg(long, global = true, value_name = "NAME", help_heading = "Live cluster")]
    pub context: Option<String>,
    /// Read the live cluster of this kubeconfig [default: KUBECONFIG, or ~/.kube/config]
    #[arg(long, global = true, value_name = "PATH", help_heading = "Live cluster")]
    pub kubeconfig: Option<PathBuf>,
}

/// The command line. What an option of the input means depends on the command.
pub(crate) fn command() -> clap::Command {
    Args::command().mut_subcommands(|command| {
        let help = match command.get_name() {
            "list" | "who" | "reach" => Some(
                "The namespace of names and of objects without one [default: `default`, or the namespace of the context]; only \
                 connections with an end in it are listed",
            ),
            "validate" | "lint" | "render" => {
                Some("The namespace of objects without one [default: `default`, or the namespace of the context]")
            }
            _ => None,
        };
        // Findings do not depend on them.
        let hidden: &[&str] = match command.get_name() {
            "validate" | "lint" => &["own_node_egress", "keep_going"],
            _ => &[],
        };
        command.mut_args(|option| match option.get_id().as_str() {
            "namespace" if help.is_some() => option.help(help.unwrap_or_default()),
            name if hidden.contains(&name) => option.hide(true),
            _ => option,
        })
    })
}

impl Args {
    /// The arguments, with the cluster copied into those of the input. `kubectl netpol` reads the live cluster by default, `netpol` the
    /// current directory.
    pub(crate) fn resolved(mut self, is_kubectl: bool) -> Self {
        match &mut self.command {
            Command::Validate(args) => args.input.paths.append(&mut args.files),
            Command::Lint(args) => args.input.paths.append(&mut args.files),
            _ => {}
        }
        let cluster = &mut self.cluster;
        cluster.live |= cluster.context.is_some() || cluster.kubeconfig.is_some();
        if let Some(input) = self.command.input_mut() {
            input.complete(cluster, is_kubectl);
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
            Self::Lint(args) => Some(&mut args.input),
            Self::Diff(args) => Some(&mut args.input),
            Self::Test(args) => Some(&mut args.input),
            Self::Render(args) => Some(&mut args.input),
            Self::Init(_)
            | Self::Snapshot
            | Self::Rules(_)
            | Self::Completions { .. }
            | Self::Schema { .. }
            | Self::Man { .. }
            | Self::Reference { .. } => None,
        }
    }
}

const LONG_ABOUT: &str = "\
Evaluate Kubernetes NetworkPolicies offline: what is allowed, what is denied, and why

Reads manifests or cluster dumps (YAML or JSON; files, directories, standard input), or a live cluster (`--live` or \
`--context`). Reports the verdict that the API defines, the policies that isolate, the rule that allows, and what to change.";

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Report whether FROM can open connections to TO, and why
    #[command(after_help = sections::text("can"))]
    Can(CanArgs),
    /// List the allowed connections between workloads, and with external addresses
    #[command(after_help = sections::text("list"))]
    List(ListArgs),
    /// List what can reach TO
    #[command(after_help = sections::text("who"))]
    Who(WhoArgs),
    /// List what FROM can reach
    #[command(after_help = sections::text("reach"))]
    Reach(ReachArgs),
    /// Check manifests, and report every error with file and line
    #[command(after_help = sections::text("validate"))]
    Validate(ValidateArgs),
    /// Find what is valid and may not mean what it seems to
    #[command(after_help = sections::text("lint"))]
    Lint(LintArgs),
    /// List the connections that two inputs allow differently, and what is the cause
    #[command(after_help = sections::text("diff"))]
    Diff(DiffArgs),
    /// Check what is asserted of the connections of an input
    #[command(after_help = sections::text("test"))]
    Test(TestArgs),
    /// List the rules of `netpol lint` and `netpol validate`, or describe some of them
    #[command(visible_alias = "rule", after_help = sections::text("rules"))]
    Rules(RulesArgs),
    /// Write netpol.toml, with the kustomizations, charts and manifests of this directory as deployments
    #[command(after_help = sections::text("init"))]
    Init(InitArgs),
    /// Print the nftables ruleset that the agent of a node applies
    #[command(after_help = sections::text("render"))]
    Render(RenderArgs),
    /// Save a live cluster's policy-relevant objects for offline use
    #[command(after_help = sections::text("snapshot"))]
    Snapshot,
    /// Print a completion script for a shell
    #[command(after_help = sections::text("completions"))]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the JSON Schema of the answers of a command
    #[command(after_help = sections::text("schema"))]
    Schema {
        /// The command
        command: SchemaOf,
    },
    /// Print or write the manual pages
    #[command(after_help = sections::text("man"))]
    Man {
        /// Write the pages of all commands to this directory, one file for each command
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Print the page of the manual that describes every command, in Markdown
    #[command(hide = true)]
    Reference {
        /// Print the page with every rule of `netpol lint`
        #[arg(long)]
        rules: bool,
    },
}

#[derive(ClapArgs, Debug)]
pub(crate) struct CanArgs {
    /// The source of the connection
    #[arg(value_name = "FROM")]
    pub from: String,
    /// The destination of the connection
    #[arg(value_name = "TO")]
    pub to: String,
    #[command(flatten)]
    pub ports: PortArgs,
    #[command(flatten)]
    pub input: InputArgs,
    /// Output format
    #[arg(short = 'o', long, value_enum, default_value_t = CanFormat::Text)]
    pub output: CanFormat,
    /// Show every policy and rule that was considered, and the sections of the semantics
    #[arg(short = 'v', long)]
    pub verbose: bool,
}

/// The ports of a question.
#[derive(ClapArgs, Debug)]
pub(crate) struct PortArgs {
    /// A port, a range or the name of a container port, with a protocol if it is not TCP: 80, 53/UDP, 8000-9000/SCTP, http, icmp.
    /// Repeatable
    #[arg(short = 'p', long = "port", value_name = "PORT[/PROTO]", value_delimiter = ',')]
    pub ports: Vec<String>,
}

/// Which connections a list shows.
#[derive(ClapArgs, Debug)]
pub(crate) struct ScopeArgs {
    /// List the connections of all namespaces, although `-n` is given for names
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// List only connections with an end whose pods have these labels: app=web,tier!=db,env in (a,b)
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
}

/// How a list is shown.
#[derive(ClapArgs, Debug)]
pub(crate) struct ListOutputArgs {
    /// Output format
    #[arg(short = 'o', long = "output", value_name = "OUTPUT", value_enum, default_value_t = ListFormat::Text)]
    pub format: ListFormat,
    /// Show the connections between groups of workloads instead of those between workloads
    #[arg(long, value_enum, value_name = "GROUP")]
    pub by: Option<By>,
    /// Show every workload by itself; otherwise text, tables and pictures merge workloads that behave alike
    #[arg(short = 'v', long)]
    pub verbose: bool,
}

/// Groups of workloads.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum By {
    /// The workloads of a namespace
    Namespace,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ListArgs {
    /// List only connections from this source
    #[arg(long, value_name = "FROM")]
    pub from: Option<String>,
    /// List only connections to this destination
    #[arg(long, value_name = "TO")]
    pub to: Option<String>,
    #[command(flatten)]
    pub ports: PortArgs,
    #[command(flatten)]
    pub scope: ScopeArgs,
    #[command(flatten)]
    pub input: InputArgs,
    #[command(flatten)]
    pub output: ListOutputArgs,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct WhoArgs {
    /// The destination
    #[arg(value_name = "TO")]
    pub to: String,
    #[command(flatten)]
    pub ports: PortArgs,
    #[command(flatten)]
    pub scope: ScopeArgs,
    #[command(flatten)]
    pub input: InputArgs,
    #[command(flatten)]
    pub output: ListOutputArgs,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ReachArgs {
    /// The source
    #[arg(value_name = "FROM")]
    pub from: String,
    #[command(flatten)]
    pub ports: PortArgs,
    /// List what can be reached through other workloads, with the path
    #[arg(long)]
    pub hops: bool,
    #[command(flatten)]
    pub scope: ScopeArgs,
    #[command(flatten)]
    pub input: InputArgs,
    #[command(flatten)]
    pub output: ListOutputArgs,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ValidateArgs {
    /// Files and directories to validate, as with `-f`
    #[arg(value_name = "PATH", conflicts_with = "deployments")]
    pub files: Vec<PathBuf>,
    /// The least severity of findings that makes the exit code 1 [default: `fail-on` of netpol.toml, or error]
    #[arg(long, value_enum, value_name = "SEVERITY")]
    pub fail_on: Option<FailOn>,
    /// Validate as updates of the policies in this file: invalid values that it already has are accepted, as by an API server
    #[arg(long, value_name = "PATH")]
    pub stored: Option<PathBuf>,
    #[command(flatten)]
    pub input: InputArgs,
    /// Output format
    #[arg(short = 'o', long, visible_alias = "format", value_enum, default_value_t = FindingsFormat::Text)]
    pub output: FindingsFormat,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct LintArgs {
    /// Files and directories to check, as with `-f`
    #[arg(value_name = "PATH", conflicts_with = "deployments")]
    pub files: Vec<PathBuf>,
    /// The least severity of findings that makes the exit code 1 [default: `fail-on` of netpol.toml, or error]
    #[arg(long, value_enum, value_name = "SEVERITY")]
    pub fail_on: Option<FailOn>,
    /// Check these rules only: ids, names, groups, or `all` [default: every group but portability]
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub select: Vec<String>,
    /// Leave out these rules: ids, names or groups
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub ignore: Vec<String>,
    /// Correct the files where the meaning is certain; comments and layout stay
    #[arg(long)]
    pub fix: bool,
    /// Print what `--fix` would change, and change nothing
    #[arg(long)]
    pub diff: bool,
    #[command(flatten)]
    pub input: InputArgs,
    /// Output format
    #[arg(short = 'o', long, visible_alias = "format", value_enum, default_value_t = FindingsFormat::Text)]
    pub output: FindingsFormat,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct DiffArgs {
    /// What was, and what is: files or directories, as with `-f`. With `--git`, the paths to read in both revisions; with `--live`, those
    /// that are compared with the cluster
    #[arg(value_name = "PATH", num_args = 0..)]
    pub inputs: Vec<PathBuf>,
    /// Compare the input in two Git revisions, or in one with the working tree
    #[arg(long, value_name = "A[..B]")]
    pub git: Option<String>,
    /// The changes that make the exit code 1
    #[arg(long, value_enum, value_name = "CHANGES", default_value_t = ChangeKind::Any)]
    pub fail_on: ChangeKind,
    #[command(flatten)]
    pub input: InputArgs,
    /// Output format
    #[arg(short = 'o', long, visible_alias = "format", value_enum, default_value_t = DiffFormat::Text)]
    pub output: DiffFormat,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ChangeKind {
    /// Connections that become allowed
    Added,
    /// Connections that become denied
    Removed,
    /// Both
    Any,
    /// Nothing
    None,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DiffFormat {
    /// Text for people
    Text,
    /// One JSON object
    Json,
    /// The same as YAML
    Yaml,
    /// A comment for a pull request
    Markdown,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct TestArgs {
    /// A file with assertions. Repeatable [default: `tests` of netpol.toml, and netpol-test.yaml and *.netpol-test.yaml in the directories
    /// of the input]
    #[arg(long, value_name = "FILE")]
    pub tests: Vec<PathBuf>,
    /// Write what is allowed today as a first file of assertions
    #[arg(long)]
    pub init: bool,
    /// List the policies, rules and workloads that no assertion rests on
    #[arg(long)]
    pub coverage: bool,
    #[command(flatten)]
    pub input: InputArgs,
    /// Output format
    #[arg(short = 'o', long, visible_alias = "format", value_enum, default_value_t = TestFormat::Text)]
    pub output: TestFormat,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TestFormat {
    /// Text for people
    Text,
    /// One JSON object
    Json,
    /// One JSON object for each assertion
    Jsonl,
    /// The same as JSON, as YAML
    Yaml,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct RulesArgs {
    /// Describe these rules: ids, names or groups
    #[arg(value_name = "RULE")]
    pub rules: Vec<String>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct InitArgs {
    /// Print the file instead of writing it
    #[arg(long)]
    pub stdout: bool,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct RenderArgs {
    /// The node
    #[arg(long, value_name = "NODE")]
    pub node: String,
    #[command(flatten)]
    pub input: InputArgs,
    /// Output format
    #[arg(short = 'o', long, value_enum, default_value_t = RenderFormat::Nft)]
    pub output: RenderFormat,
    /// Whether denied packets are sampled for the agent
    #[arg(long, value_enum, value_name = "MODE", default_value_t = DenyLogging::Sampled)]
    pub deny_log: DenyLogging,
    /// Sampled packets per second, for each direction of each group of pods
    #[arg(long, value_name = "PACKETS", default_value_t = policy_ruleset::DenyLog::DEFAULT.rate)]
    pub deny_log_rate: u32,
    /// The NFLOG group for samples
    #[arg(long, value_name = "GROUP", default_value_t = policy_ruleset::DenyLog::DEFAULT.group)]
    pub deny_log_group: u16,
}

#[derive(ValueEnum, Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FailOn {
    /// Errors
    #[default]
    Error,
    /// Errors and warnings
    Warning,
    /// Every finding
    Info,
    /// No finding; the exit code is 0 if the input can be read
    Never,
}

impl FailOn {
    /// Whether a finding of this severity makes a command fail.
    pub(crate) fn includes(self, severity: Severity) -> bool {
        match self {
            Self::Error => severity == Severity::Error,
            Self::Warning => severity <= Severity::Warning,
            Self::Info => true,
            Self::Never => false,
        }
    }
}

/// Commands with a schema.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SchemaOf {
    /// `netpol can`
    Can,
    /// `netpol list`
    List,
    /// `netpol who`
    Who,
    /// `netpol reach`
    Reach,
    /// `netpol validate`
    Validate,
    /// `netpol lint`
    Lint,
    /// `netpol render`, whose schema is that of nft
    #[value(hide = true)]
    Render,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RenderFormat {
    /// Language of nft, for `nft -f`
    Nft,
    /// JSON schema of libnftables, for `nft -j -f`
    Json,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DenyLogging {
    /// No samples
    Off,
    /// A few packets per second
    Sampled,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OwnNode {
    /// Egress rules apply
    Enforce,
    /// A pod can always reach its own node
    Allow,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CanFormat {
    /// Text
    Text,
    /// JSON; `netpol schema` prints its schema
    Json,
    /// One JSON object in each line
    Jsonl,
    /// YAML, with the fields of JSON
    Yaml,
    /// The suggested fixes as YAML: JSON patches for `kubectl patch`, and new policies for `kubectl apply`
    Patch,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FindingsFormat {
    /// Text
    Text,
    /// JSON; `netpol schema` prints its schema
    Json,
    /// One JSON object in each line
    Jsonl,
    /// YAML, with the fields of JSON
    Yaml,
    /// SARIF 2.1.0, for GitHub code scanning, GitLab and editors
    Sarif,
    /// Commands of GitHub Actions, which annotate pull requests
    Github,
    /// A code quality report of GitLab
    Gitlab,
    /// JUnit XML, with a test suite for each file
    Junit,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ListFormat {
    /// Text
    Text,
    /// JSON; `netpol schema` prints its schema
    Json,
    /// One JSON object in each line
    Jsonl,
    /// YAML, with the fields of JSON
    Yaml,
    /// CSV, with one row for each protocol of a connection
    Csv,
    /// A Markdown table
    Md,
    /// Sources as rows and destinations as columns
    Matrix,
    /// A Graphviz graph
    Dot,
    /// A Mermaid flowchart
    Mermaid,
}
