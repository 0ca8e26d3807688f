//! What does not do what it seems to do.

use super::{BUT_PRIVATE, Shop, assert_found, assert_silent, mesh, shop};

#[test]
fn an_exception_is_undone_by_what_is_larger_than_it_for_the_same_pods_and_ports() {
    let egress = |rules: &str| shop().web(&format!("policyTypes: [Egress], egress: [{{to: [{BUT_PRIVATE}]}}, {rules}]"));
    let at = "spec.egress[0].to[0].ipBlock.except[0]";
    assert_found(
        "except-undone",
        [
            (at, "egress[1], which names no peers", egress("{ports: [{port: 80}]}")),
            (at, "egress[1] (10.0.0.0/7)", egress("{to: [{ipBlock: {cidr: 10.0.0.0/7}}]}")),
            (at, "TCP 80", egress("{to: [{ipBlock: {cidr: 0.0.0.0/1}}], ports: [{port: 80}]}")),
            (at, "10.128.0.0 is", egress("{to: [{ipBlock: {cidr: 8.0.0.0/6, except: [10.0.0.0/9]}}]}")),
            (
                at,
                "egress[0] of shop/all, which names no peers, for pods such as shop/web",
                shop()
                    .web(&format!("policyTypes: [Egress], egress: [{{to: [{BUT_PRIVATE}]}}]"))
                    .policy("all", "policyTypes: [Egress], egress: [{}]"),
            ),
            (
                "spec.ingress[0].from[0].ipBlock.except[0]",
                "TCP `http`",
                shop()
                    .web(&format!("ingress: [{{from: [{BUT_PRIVATE}], ports: [{{port: http}}]}}, {{ports: [{{port: http}}]}}]")),
            ),
            // Without any pods, policies with one selector apply to the same ones.
            (
                at,
                "egress[0] of shop/all",
                Shop { objects: Vec::new() }
                    .web(&format!("policyTypes: [Egress], egress: [{{to: [{BUT_PRIVATE}]}}]"))
                    .policy("all", "policyTypes: [Egress], egress: [{}]"),
            ),
        ],
    );
    assert_silent(
        "except-undone",
        [
            ("a part of the exception", egress("{to: [{ipBlock: {cidr: 10.1.0.0/16}}]}")),
            ("the exception itself", egress("{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}")),
            ("pods by label", egress("{to: [{podSelector: {}}]}")),
            ("excepted there too", egress(&format!("{{to: [{BUT_PRIVATE}]}}"))),
            ("another family", egress("{to: [{ipBlock: {cidr: '::/0'}}]}")),
            (
                "other ports",
                shop().web(&format!(
                    "policyTypes: [Egress], egress: [{{to: [{BUT_PRIVATE}], ports: [{{port: 443}}]}}, {{ports: [{{port: 53, protocol: UDP}}]}}]"
                )),
            ),
            ("another direction", shop().web(&format!("ingress: [{{}}], egress: [{{to: [{BUT_PRIVATE}]}}]"))),
            (
                "other pods",
                shop()
                    .web(&format!("policyTypes: [Egress], egress: [{{to: [{BUT_PRIVATE}]}}]"))
                    .policy("db", "podSelector: {matchLabels: {app: db}}, policyTypes: [Egress], egress: [{}]"),
            ),
        ],
    );
}

#[test]
fn two_entries_that_were_meant_as_one_are_one_finding() {
    const MESH: &str = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: mesh}}}";
    const GATEWAY: &str = "{podSelector: {matchLabels: {app: gateway}}}";
    let from = |peers: &str| mesh().web(&format!("ingress: [{{from: [{peers}]}}]"));
    for (peers, at) in [(format!("{MESH}, {GATEWAY}"), 1), (format!("{GATEWAY}, {MESH}"), 0)] {
        let input = from(&peers);
        assert_found("peers-joined-by-or", [(&format!("spec.ingress[0].from[{at}]"), "mesh/debug", input)]);
        let others = ["missing-namespace-selector", "peer-matches-nothing", "label-near-miss"];
        others.into_iter().for_each(|rule| assert_silent(rule, [("the same", from(&peers))]));
    }
    assert_silent(
        "peers-joined-by-or",
        [
            ("pods of the own namespace", from(&format!("{MESH}, {{podSelector: {{matchLabels: {{app: db}}}}}}"))),
            ("pods of neither", from(&format!("{MESH}, {{podSelector: {{matchLabels: {{app: other}}}}}}"))),
            ("not beside each other", from(&format!("{MESH}, {{ipBlock: {{cidr: 10.0.0.0/8}}}}, {GATEWAY}"))),
            (
                "all pods of the namespace, in so many words",
                from(&format!(
                    "{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: mesh}}}}, podSelector: {{}}}}, {GATEWAY}"
                )),
            ),
            ("both would mean the same", {
                let mesh = shop().namespace("mesh").pod("mesh", "gateway", "");
                mesh.web(&format!("ingress: [{{from: [{MESH}, {GATEWAY}]}}]"))
            }),
            ("in two rules", mesh().web(&format!("ingress: [{{from: [{MESH}]}}, {{from: [{GATEWAY}]}}]"))),
            ("the pods of the own namespace are not known", {
                let mesh = Shop { objects: Vec::new() }.namespace("shop").namespace("mesh");
                mesh.pod("mesh", "gateway", "").pod("mesh", "debug", "").web(&format!("ingress: [{{from: [{MESH}, {GATEWAY}]}}]"))
            }),
        ],
    );
}

#[test]
fn a_peer_of_host_pods_alone_allows_nothing() {
    const HOST: &str = "{hostNetwork: true, containers: [{name: c}]}";
    const RULE: &str = "ingress: [{from: [{podSelector: {matchLabels: {app: exporter}}}]}]";
    let at = "spec.ingress[0].from[0]";
    assert_found("host-network-peer", [(at, "such as shop/exporter", shop().pod_with("shop", "exporter", HOST).web(RULE))]);
    assert_silent("peer-matches-nothing", [("it matches host pods", shop().pod_with("shop", "exporter", HOST).web(RULE))]);
    assert_silent(
        "host-network-peer",
        [
            ("another pod", {
                let of_pod =
                    "ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [exporter, db]}]}}]}]";
                shop().pod_with("shop", "exporter", HOST).web(of_pod)
            }),
            ("nobody", shop().web(RULE)),
            ("pods that are not known", {
                let made = "{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: s, namespace: shop}, spec: {}}";
                shop().pod_with("shop", "exporter", HOST).with(made).web(RULE)
            }),
        ],
    );
}

/// Policies that allow egress to `db`, and more.
fn to_db(shop: Shop, more: &str) -> Shop {
    shop.web(&format!(
        "policyTypes: [Egress], egress: [{{to: [{{podSelector: {{matchLabels: {{app: db}}}}}}], ports: [{{port: 80}}]}}, {more}]"
    ))
}

fn with_dns(labels: &str, ports: &str) -> Shop {
    let metadata = format!("{{name: dns-1, namespace: kube-system, labels: {{{labels}}}}}");
    let spec = format!("{{containers: [{{name: c, ports: [{ports}]}}]}}");
    shop().namespace("kube-system").with(&format!("{{apiVersion: v1, kind: Pod, metadata: {metadata}, spec: {spec}}}"))
}

const KUBE_DNS: &str = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}";

#[test]
fn pods_that_may_connect_need_dns() {
    let core_dns = || with_dns("k8s-app: kube-dns", "{name: dns, containerPort: 53, protocol: UDP}");
    let openshift = || {
        with_dns(
            "dns.operator.openshift.io/daemonset-dns: default, k8s-app: kube-dns",
            "{name: dns, containerPort: 5353, protocol: UDP}",
        )
    };
    let on_53 = |peers: &str| format!("{{to: [{peers}], ports: [{{port: 53, protocol: UDP}}]}}");
    let at = "spec.egress";
    assert_found(
        "dns-blocked",
        [
            (at, "pods such as shop/web", to_db(shop(), "")),
            (at, "port 53", to_db(core_dns(), "")),
            (at, "port 5353", to_db(openshift(), &on_53(KUBE_DNS))),
            (at, "port 5353", to_db(openshift(), "{ports: [{port: 53, protocol: UDP}]}")),
            (at, "", to_db(shop(), "{to: [{podSelector: {}}], ports: [{port: 53}]}")),
            (at, "", shop().web("policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]")),
            (at, "", to_db(core_dns(), "{to: [{namespaceSelector: {}}], ports: [{port: 443}]}")),
            (
                at,
                "",
                shop().web("policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 443}]}]"),
            ),
            // One finding for all pods of the policy.
            (at, "pods such as shop/db", shop().policy("all", "policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]")),
        ],
    );
    assert_silent(
        "dns-blocked",
        [
            ("to the DNS pods", to_db(core_dns(), &on_53(KUBE_DNS))),
            (
                "to the DNS pods, by the name of the port",
                to_db(core_dns(), &format!("{{to: [{KUBE_DNS}], ports: [{{port: dns, protocol: UDP}}]}}")),
            ),
            (
                "to their port in OpenShift",
                to_db(openshift(), &format!("{{to: [{KUBE_DNS}], ports: [{{port: 5353, protocol: UDP}}]}}")),
            ),
            ("to all pods on every port", to_db(core_dns(), "{to: [{namespaceSelector: {}}]}")),
            ("to DNS pods that are not in the input", to_db(shop(), &on_53(KUBE_DNS))),
            ("to all pods, of which some are not in the input", to_db(shop(), "{to: [{namespaceSelector: {}}]}")),
            ("to another DNS server of the namespace", to_db(core_dns(), &on_53("{podSelector: {matchLabels: {app: db}}}"))),
            ("to the cache of the node", to_db(core_dns(), &on_53("{ipBlock: {cidr: 169.254.20.10/32}}"))),
            ("to anywhere", to_db(core_dns(), "{ports: [{port: 53, protocol: UDP}]}")),
            ("by another policy", {
                let all = format!("podSelector: {{}}, policyTypes: [Egress], egress: [{}]", on_53(KUBE_DNS));
                to_db(core_dns(), "").policy("dns", &all)
            }),
            ("nothing is allowed", shop().web("policyTypes: [Egress]")),
            (
                "a single address is allowed",
                shop().web("policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.96.0.1/32}}], ports: [{port: 443}]}]"),
            ),
            (
                "nobody is allowed",
                shop().web("policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: other}}}]}]"),
            ),
            ("egress is open", shop().web("ingress: [{from: [{podSelector: {}}]}]")),
            ("the pods are not known", {
                let policy = "policyTypes: [Egress], egress: [{to: [{podSelector: {}}], ports: [{port: 80}]}]";
                Shop { objects: Vec::new() }.namespace("shop").web(policy)
            }),
            ("other engines may allow it", {
                let foreign =
                    "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: dns, namespace: shop}, spec: {}}";
                to_db(shop(), "").with(foreign)
            }),
            ("the DNS server itself", {
                let policy = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: dns, namespace: kube-system}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 192.0.2.1/32}}], ports: [{port: 853}]}]}}";
                core_dns().with(policy)
            }),
        ],
    );
}

#[test]
fn an_empty_egress_isolates_only_with_its_type() {
    let text = "isolates nothing";
    assert_found(
        "empty-egress-without-types",
        [
            ("spec.egress", text, shop().web("egress: []")),
            ("spec.egress", text, shop().web("ingress: [{}], egress: ")),
            ("spec.egress", text, shop().web("policyTypes: [], egress: []")),
        ],
    );
    assert_silent(
        "empty-egress-without-types",
        [
            ("with its type", shop().web("policyTypes: [Egress], egress: []")),
            ("with another type", shop().web("policyTypes: [Ingress], egress: []")),
            ("with a rule", shop().web("egress: [{}]")),
            ("without it", shop().web("ingress: []")),
        ],
    );
}
