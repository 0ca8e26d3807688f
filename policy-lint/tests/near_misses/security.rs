//! What lets through more than is usually meant.

use policy_core::diagnostic::Severity;

use super::{BUT_PRIVATE, Shop, assert_found, assert_silent, of, shop};

#[test]
fn the_world_is_every_address_of_a_family() {
    let from = |rules: &str| shop().web(&format!("ingress: [{rules}]"));
    let at = "spec.ingress[0]";
    assert_found(
        "world-open",
        [
            (at, "every address on every port", from("{}")),
            (at, "every address on TCP 80,443", from("{ports: [{port: 80}]}, {ports: [{port: 443}]}")),
            (at, "every address on every TCP port", from("{ports: [{protocol: TCP}]}")),
            ("spec.ingress[0].from[0].ipBlock", "every IPv4 address on TCP 80; TCP `http`", {
                let shop = Shop { objects: Vec::new() }.pod("shop", "web", ", ports: [{name: http, containerPort: 8080}]");
                shop.web("ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: http}, {port: 80}]}]")
            }),
            (at, "every address on TCP `http`", {
                let shop = Shop { objects: Vec::new() }.pod("shop", "web", ", ports: [{name: http, containerPort: 8080}]");
                shop.web("ingress: [{ports: [{port: http}]}]")
            }),
            (
                "spec.ingress[0].from[1].ipBlock",
                "every IPv6 address on TCP 80",
                from("{from: [{podSelector: {}}, {ipBlock: {cidr: '::/0'}}], ports: [{port: 80}]}"),
            ),
            (
                "spec.ingress[0].from[0].ipBlock",
                "every IPv4 address on TCP 85",
                from(
                    "{from: [{ipBlock: {cidr: 0.0.0.0/1}}], ports: [{port: 80, endPort: 85}]}, {from: [{ipBlock: {cidr: 128.0.0.0/1}}], ports: [{port: 85}]}",
                ),
            ),
            (
                "spec.ingress[0].from[0].ipBlock",
                "every IPv4 address on every port",
                shop()
                    .web("ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/1}}]}]")
                    .policy("other", "ingress: [{from: [{ipBlock: {cidr: 128.0.0.0/1}}]}]"),
            ),
            (
                "spec.egress[0]",
                "every address on TCP 443",
                shop().web("policyTypes: [Egress], egress: [{ports: [{port: 443}, {port: 53, protocol: UDP}]}]"),
            ),
        ],
    );
    let severity = |input: Shop| of("world-open", &input).first().map(|found| found.severity);
    assert_eq!(severity(from("{}")), Some(Severity::Warning));
    assert_eq!(severity(from("{ports: [{protocol: TCP}]}")), Some(Severity::Warning));
    assert_eq!(severity(from("{ports: [{port: 80}]}")), Some(Severity::Info));
    assert_eq!(severity(shop().web("policyTypes: [Egress], egress: [{}]")), Some(Severity::Info));
    assert_silent(
        "world-open",
        [
            ("with an exception", from(&format!("{{from: [{BUT_PRIVATE}]}}"))),
            ("half of it", from("{from: [{ipBlock: {cidr: 0.0.0.0/1}}]}")),
            (
                "halves on other ports",
                from(
                    "{from: [{ipBlock: {cidr: 0.0.0.0/1}}], ports: [{port: 80}]}, {from: [{ipBlock: {cidr: 128.0.0.0/1}}], ports: [{port: 81}]}",
                ),
            ),
            ("all pods", from("{from: [{namespaceSelector: {}}]}")),
            ("an empty list, which has a rule of its own", from("{from: []}")),
            ("a port that nobody has", from("{ports: [{port: http}]}")),
            ("DNS", shop().web("policyTypes: [Egress], egress: [{ports: [{port: 53}, {port: 53, protocol: UDP}]}]")),
            ("what undoes an isolation", from("{}").policy("deny", "policyTypes: [Ingress]")),
            ("no pod is selected", shop().policy("p", "podSelector: {matchLabels: {app: other}}, ingress: [{}]")),
        ],
    );
}

#[test]
fn the_world_over_ipv4_is_named_where_pods_have_ipv6_addresses() {
    let dual = |rules: &str| {
        Shop { objects: Vec::new() }.namespace("shop").running("shop", "web", "", &["10.0.0.1", "fd00::1"]).web(rules)
    };
    let at = "spec.ingress[0].from[0].ipBlock.cidr";
    let world = "{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}";
    assert_found(
        "v4-only-world",
        [
            (at, "on any port", dual(&format!("ingress: [{world}]"))),
            (
                at,
                "on TCP 443",
                dual(
                    "ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: 80}, {port: 443}]}, {from: [{ipBlock: {cidr: '::/0'}}], ports: [{port: 80}]}]",
                ),
            ),
        ],
    );
    assert_silent(
        "v4-only-world",
        [
            ("both families", dual("ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}}]}]")),
            ("some IPv6 addresses", dual("ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: 'fd00::/8'}}]}]")),
            ("everyone", dual("ingress: [{}]")),
            ("not the world", dual("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]")),
            (
                "by another policy",
                dual(&format!("ingress: [{world}]")).policy("v6", "ingress: [{from: [{ipBlock: {cidr: '::/0'}}]}]"),
            ),
            (
                "IPv4 alone",
                Shop { objects: Vec::new() }.running("shop", "web", "", &["10.0.0.1"]).web(&format!("ingress: [{world}]")),
            ),
            ("the family of the pods is not known", shop().web(&format!("ingress: [{world}]"))),
        ],
    );
}

#[test]
fn the_metadata_service_is_reached_unless_it_is_excepted_or_named() {
    let to = |rules: &str| shop().web(&format!("policyTypes: [Egress], egress: [{rules}]"));
    let at = "spec.egress[0].to[0].ipBlock";
    assert_found(
        "metadata-reachable",
        [
            (
                at,
                "pods such as shop/web can reach the metadata service of clouds (169.254.169.254,",
                to(&format!("{{to: [{BUT_PRIVATE}]}}")),
            ),
            (at, "169.254.169.254", to("{to: [{ipBlock: {cidr: 169.254.0.0/16}}], ports: [{port: 80}]}")),
            (at, "fd00:ec2::254", to("{to: [{ipBlock: {cidr: 'fd00::/8'}}]}")),
            ("spec.egress[0]", "169.254.169.254, fd00:ec2::254", to("{}")),
        ],
    );
    assert_silent(
        "metadata-reachable",
        [
            ("excepted", to("{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [169.254.0.0/16]}}]}")),
            ("other ports", to(&format!("{{to: [{BUT_PRIVATE}], ports: [{{port: 443}}]}}"))),
            ("named", to(&format!("{{to: [{BUT_PRIVATE}]}}, {{to: [{{ipBlock: {{cidr: 169.254.169.254/32}}}}]}}"))),
            ("egress is open", shop().web(&format!("ingress: [{{from: [{BUT_PRIVATE}]}}]"))),
            ("what undoes an isolation", to("{}").policy("deny", "policyTypes: [Egress]")),
            ("an empty list, which has a rule of its own", to("{to: []}")),
            (
                "what undoes an exception",
                to(
                    "{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [169.254.169.254/32]}}]}, {to: [{ipBlock: {cidr: 169.254.0.0/16}}]}",
                ),
            ),
        ],
    );
}

#[test]
fn what_no_policy_isolates_is_one_finding_for_each_namespace_and_direction() {
    let messages = |input: &Shop| -> Vec<String> {
        of("not-isolated", input)
            .iter()
            .map(|found| format!("{}: {}", found.position().map_or(0, |at| at.line), found.message))
            .collect()
    };
    assert_eq!(messages(&shop()), ["1: no policy isolates any pod of the namespace for ingress or egress: Pod db, Pod web"]);
    assert_eq!(
        messages(&shop().web("ingress: []")),
        [
            "1: no policy isolates any pod of the namespace for egress: Pod db, Pod web",
            "1: no policy isolates the pods of some workloads for ingress: Pod db",
        ]
    );
    let undeclared = Shop { objects: Vec::new() }.pod("a", "x", "");
    assert_eq!(messages(&undeclared), ["1: no policy isolates any pod of the namespace for ingress or egress: Pod x"]);
    assert_silent(
        "not-isolated",
        [
            ("all of them are isolated", shop().policy("deny", "policyTypes: [Ingress, Egress]")),
            ("by several policies", shop().policy("in", "policyTypes: [Ingress]").policy("out", "policyTypes: [Egress]")),
            ("a namespace of Kubernetes", Shop { objects: Vec::new() }.pod("kube-system", "x", "")),
            ("host pods", Shop { objects: Vec::new() }.pod_with("shop", "x", "{hostNetwork: true, containers: [{name: c}]}")),
            ("no pods", Shop { objects: Vec::new() }.namespace("shop")),
            ("another engine may isolate them", {
                shop().with("{apiVersion: cilium.io/v2, kind: CiliumClusterwideNetworkPolicy, metadata: {name: all}, spec: {}}")
            }),
            ("what makes policies is in the input", {
                let app =
                    "{apiVersion: argoproj.io/v1alpha1, kind: Application, metadata: {name: all, namespace: argocd}, spec: {}}";
                shop().with(app)
            }),
        ],
    );
}

#[test]
fn an_isolation_is_undone_by_a_rule_for_everyone_on_every_port() {
    let deny = || shop().policy("deny", "policyTypes: [Ingress]");
    let at = "spec.ingress[0]";
    assert_found(
        "isolation-undone",
        [
            (
                at,
                "opens pods such as shop/web to every address on every port for ingress, and shop/deny closes them",
                deny().web("ingress: [{}]"),
            ),
            (
                &format!("{at}.from[0].ipBlock"),
                "every IPv4 address",
                deny().web("ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]"),
            ),
            (at, "the same pods", Shop { objects: Vec::new() }.policy("deny", "policyTypes: [Ingress]").web("ingress: [{}]")),
        ],
    );
    assert_silent(
        "isolation-undone",
        [
            ("some ports", deny().web("ingress: [{ports: [{protocol: TCP}]}]")),
            ("some addresses", deny().web(&format!("ingress: [{{from: [{BUT_PRIVATE}]}}]"))),
            ("another direction", deny().web("policyTypes: [Egress], egress: [{}]")),
            (
                "other pods",
                shop().policy("deny", "podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress]").web("ingress: [{}]"),
            ),
            ("nobody closes them", shop().policy("some", "ingress: [{from: [{podSelector: {}}]}]").web("ingress: [{}]")),
        ],
    );
}
