//! The sections after the options of a command: examples, ends and exit codes.
//!
//! One source for `--help`, the manual pages and the reference. Lines are printed as they are, so they have at most 80 columns.

/// A section of verbatim lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    pub title: &'static str,
    pub lines: &'static str,
}

const fn examples(lines: &'static str) -> Section {
    Section { title: "Examples", lines }
}

const fn exit_codes(lines: &'static str) -> Section {
    Section { title: "Exit codes", lines }
}

const NETPOL: &[Section] = &[
    examples(
        "\
netpol can shop/web shop/db -p 5432      is this connection allowed, and why?
netpol list -f manifests/                every allowed connection
netpol init                              name the deployments of a repository
netpol validate manifests/               errors and warnings in manifests
netpol COMMAND --help                    the options of a command",
    ),
    exit_codes(
        "\
0  allowed; no findings; the output was printed
1  denied, or only partly allowed; findings
2  no answer: a usage error, or input that cannot be read or has errors",
    ),
    Section {
        title: "Environment",
        lines: "\
KUBECONFIG  the kubeconfig for live clusters
NO_COLOR    disables colours, which are used only on terminals
FORCE_COLOR enables colours everywhere",
    },
];

const CAN: &[Section] = &[
    examples(
        "\
netpol can shop/web shop/db -p 5432             TCP port 5432
netpol can shop/deploy/web external -p 443      HTTPS to external addresses
netpol can 203.0.113.9 shop/ingress -p 80,443   from one external address
netpol can shop/web kube-system/dns -p 53/UDP -p 53/TCP
netpol can shop/web shop/db                     all ports: what is allowed?
netpol can -k overlays/prod shop/web shop/db    in a kustomization
netpol can 'shop/*' shop/db -p 5432             from each workload of shop
netpol --context prod can shop/web shop/db -p 5432
                                                in a live cluster
kubectl get ns,no,po,netpol -A -o yaml | netpol can -f - shop/web shop/db",
    ),
    Section {
        title: "FROM and TO",
        lines: "\
ns/name, kind/name,    a pod or a workload; kinds are pod, deploy, sts, ds,
ns/kind/name, name     job, cronjob, rs and rc
shop/*, ns/shop        the workloads that a pattern selects, each by itself
shop/app=web,tier!=db  the workloads whose pods have these labels
node/name              processes and hostNetwork pods of a node
10.0.0.1, 10.0.0.0/8   an address, or every address of a block
external               every address that belongs to no pod and no node",
    },
    exit_codes(
        "\
0  allowed
1  denied, or only partly allowed
2  no answer: a usage error, or input that cannot be read or has errors",
    ),
];

const LIST: &[Section] = &[examples(
    "\
netpol list -f manifests/                every allowed connection
netpol list --from shop/web              connections from one workload
netpol list --to external -o csv         connections to external addresses
netpol list -n shop                      connections of one namespace
netpol list --by namespace               connections between namespaces
netpol list -o matrix                    one row and column for each group
netpol list -o dot | dot -Tsvg > connections.svg
netpol list -o mermaid                   a diagram for a pull request",
)];

const WHO: &[Section] = &[examples(
    "\
netpol who shop/db                       what can reach it, and on which ports
netpol who shop/db -p 5432               what can reach it on TCP port 5432",
)];

const REACH: &[Section] = &[examples(
    "\
netpol reach shop/web                    what it can reach, and on which ports
netpol reach shop/web -p 443             what it can reach on TCP port 443
netpol reach shop/web --hops             what it can reach through others",
)];

const VALIDATE: &[Section] = &[
    examples(
        "\
netpol validate manifests/
netpol validate -k overlays/prod
netpol validate                          every deployment of netpol.toml
netpol validate --fail-on warning a.yaml b.yaml
kubectl get netpol -A -o yaml | netpol validate -f -
netpol validate -o json
netpol validate -o github                annotations of a pull request",
    ),
    exit_codes(
        "\
0  no errors, and with `--fail-on warning` no warnings
1  errors, or with `--fail-on warning` warnings
2  a usage error, or input that cannot be read at all",
    ),
];

const LINT: &[Section] = &[
    examples(
        "\
netpol lint manifests/
netpol lint -k overlays/prod
netpol lint                              every deployment of netpol.toml
netpol lint --select security,NP301      some rules
netpol lint --ignore redundant-rule      all rules but some
netpol lint --fail-on warning            warnings fail too
netpol lint --fix --diff                 what could be corrected
netpol lint -o sarif > netpol.sarif      for GitHub code scanning
netpol lint -o gitlab > quality.json     a code quality report of GitLab
netpol lint -o junit > netpol.xml        test results
netpol rules                             what the rules are",
    ),
    exit_codes(
        "\
0  no findings of the severity of `--fail-on`
1  such findings
2  a usage error, or input that cannot be read at all",
    ),
];

const DIFF: &[Section] = &[
    examples(
        "\
netpol diff before/ after/               two directories
netpol diff --git main..HEAD manifests/  a directory in two revisions
netpol diff --git main -k overlays/prod  a revision and the working tree
netpol diff -d staging -d prod           two deployments of netpol.toml
netpol diff --live manifests/            what applying the files would change
netpol diff a.yaml b.yaml -o markdown    a comment for a pull request
netpol diff --fail-on added a/ b/        only new access fails",
    ),
    exit_codes(
        "\
0  no changes of those of `--fail-on`
1  such changes
2  no answer: a usage error, or input that cannot be read or has errors",
    ),
];

const TEST: &[Section] = &[
    examples(
        "\
netpol test -f manifests/                the assertions beside the manifests
netpol test -d prod                      those of a deployment
netpol test --tests prod.yaml -k overlays/prod
netpol test --init -f manifests/         write what is allowed today
netpol test --coverage -f manifests/     what has no assertion",
    ),
    Section {
        title: "Assertions",
        lines: "\
tests:
- {from: shop/web, to: shop/cart, ports: [http], expect: allowed}
- {from: 'shop/*', to: kube-system/dns, ports: [53/UDP], expect: allowed}
- {to: shop/db, only-from: [shop/api, shop/cart], ports: [5432]}
- {from: shop/payment, only-to: [shop/cart, 198.51.100.0/25], name: payment}",
    },
    exit_codes(
        "\
0  every assertion holds
1  one does not
2  a usage error, or input or assertions that cannot be read",
    ),
];

const RULES: &[Section] = &[examples(
    "\
netpol rules                             every rule, in one line
netpol rule NP107                        what one rule finds, and why
netpol rule half-open
netpol rules security                    the rules of a group",
)];

const INIT: &[Section] = &[
    examples(
        "\
netpol init                              write netpol.toml
netpol init --stdout                     print it
netpol validate                          check every deployment of it
netpol can -d prod shop/web shop/db      ask about one of them",
    ),
    exit_codes(
        "\
0  written, or the file names everything that was found
1  the file is there, and does not name everything that was found
2  nothing was found, or a usage error",
    ),
];

const RENDER: &[Section] = &[examples(
    "\
netpol render --node n1 -f cluster.yaml.gz
netpol render --node n1 -o json | nft -j -c -f -
                                         check it with this machine's kernel
diff <(netpol render --node n1 -f old/) <(netpol render --node n1 -f new/)",
)];

const SNAPSHOT: &[Section] = &[
    examples(
        "\
netpol snapshot > cluster.yaml.gz        the cluster of the current context
netpol --context prod snapshot > prod.yaml.gz
netpol can -f prod.yaml.gz shop/web shop/db",
    ),
    Section {
        title: "Contents",
        lines: "\
Namespaces, nodes, pods, workloads, policies, Services and Ingresses, each
reduced to the fields that affect policies. No Secrets, images, commands,
environment variables, volumes or annotations.",
    },
    exit_codes(
        "\
0  saved
2  the cluster cannot be read, or a usage error",
    ),
];

const COMPLETIONS: &[Section] = &[examples(
    "\
netpol completions bash > /etc/bash_completion.d/netpol
ln -s netpol /usr/local/bin/kubectl_complete-netpol
                                         completion of `kubectl netpol`",
)];

const SCHEMA: &[Section] = &[examples("netpol schema can > can.schema.json")];

const MAN: &[Section] = &[examples(
    "\
netpol man | man -l -                    the page of netpol(1)
netpol man --out /usr/local/share/man/man1",
)];

/// The sections of a command; `netpol` for the program itself.
pub(crate) fn sections(command: &str) -> &'static [Section] {
    match command {
        "netpol" => NETPOL,
        "can" => CAN,
        "list" => LIST,
        "who" => WHO,
        "reach" => REACH,
        "validate" => VALIDATE,
        "lint" => LINT,
        "diff" => DIFF,
        "test" => TEST,
        "rules" => RULES,
        "init" => INIT,
        "render" => RENDER,
        "snapshot" => SNAPSHOT,
        "completions" => COMPLETIONS,
        "schema" => SCHEMA,
        "man" => MAN,
        _ => &[],
    }
}

/// The sections of a command as `--help` shows them.
pub(crate) fn text(command: &str) -> String {
    let section = |section: &Section| {
        let lines: Vec<String> = section.lines.lines().map(|line| format!("  {line}")).collect();
        format!("{}:\n{}", section.title, lines.join("\n"))
    };
    sections(command).iter().map(section).collect::<Vec<_>>().join("\n\n")
}
