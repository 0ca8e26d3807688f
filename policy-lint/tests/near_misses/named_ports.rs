//! Port names.

use super::{Shop, assert_found, assert_silent, shop};

#[test]
fn sidecars_are_named_where_no_container_has_the_port() {
    let pod = |container: &str, policy: &str| {
        let spec = format!(
            "{{initContainers: [{{name: s, restartPolicy: {policy}, ports: [{{name: metrics, containerPort: 9090}}]}}], containers: [{{name: c{container}}}]}}"
        );
        Shop { objects: Vec::new() }.namespace("shop").pod_with("shop", "web", &spec).pod("shop", "db", "")
    };
    const RULE: &str = "ingress: [{from: [{podSelector: {}}], ports: [{port: metrics}]}]";
    let to = "podSelector: {matchLabels: {app: db}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}], ports: [{port: metrics}]}]";
    assert_found(
        "named-port-sidecar-only",
        [
            ("spec.ingress[0].ports[0].port", "in shop/web only a sidecar", pod("", "Always").web(RULE)),
            ("spec.egress[0].ports[0].port", "in shop/web only a sidecar", pod("", "Always").policy("db", to)),
        ],
    );
    assert_silent(
        "named-port-sidecar-only",
        [
            ("a container too", pod(", ports: [{name: metrics, containerPort: 9091}]", "Always").web(RULE)),
            ("not a sidecar", pod("", "Never").web(RULE)),
            ("by number", pod("", "Always").web("ingress: [{from: [{podSelector: {}}], ports: [{port: 9090}]}]")),
            (
                "another pod",
                pod("", "Always").policy("db", "podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: metrics}]}]"),
            ),
        ],
    );
}

#[test]
fn numbers_of_a_name_differ_within_a_workload() {
    const RULE: &str = "ingress: [{from: [{podSelector: {}}], ports: [{port: http}]}]";
    let two = |one: u16, other: u16| {
        let spec = format!(
            "{{containers: [{{name: a, ports: [{{name: http, containerPort: {one}}}]}}, {{name: b, ports: [{{name: http, containerPort: {other}}}]}}]}}"
        );
        Shop { objects: Vec::new() }.namespace("shop").pod_with("shop", "web", &spec)
    };
    assert_found("named-port-divergent", [("spec.ingress[0].ports[0].port", "shop/web: 8080, 9090", two(9090, 8080).web(RULE))]);
    let workloads = || {
        let shop = Shop { objects: Vec::new() }.namespace("shop");
        let shop = shop.pod("shop", "web", ", ports: [{name: http, containerPort: 8080}]");
        shop.pod("shop", "db", ", ports: [{name: http, containerPort: 9090}]")
    };
    assert_silent(
        "named-port-divergent",
        [
            ("two workloads", workloads().policy("all", &format!("podSelector: {{}}, {RULE}"))),
            ("one number", two(8080, 8080).web(RULE)),
            ("by number", two(9090, 8080).web("ingress: [{from: [{podSelector: {}}], ports: [{port: 8080}]}]")),
        ],
    );
}

#[test]
fn a_port_name_means_nothing_outside_of_the_cluster() {
    let to = |peers: &str| format!("policyTypes: [Egress], egress: [{{to: [{peers}], ports: [{{port: https}}]}}]");
    let block = "{ipBlock: {cidr: 192.0.2.0/24}}";
    let named = ", ports: [{name: https, containerPort: 8443}]";
    assert_found(
        "named-port-to-cidr",
        [
            ("spec.egress[0].ports[0].port", "`https` allows nothing", shop().web(&to(block))),
            ("spec.egress[0].ports[0].port", "", shop().running("shop", "api", named, &["10.0.0.9"]).web(&to(block))),
        ],
    );
    assert_silent(
        "named-port-to-cidr",
        [
            ("pods too", shop().web(&to(&format!("{block}, {{podSelector: {{}}}}")))),
            ("everyone", shop().web("policyTypes: [Egress], egress: [{ports: [{port: https}]}]")),
            ("a pod in the block", shop().running("shop", "api", named, &["192.0.2.9"]).web(&to(block))),
            ("a pod that may be in the block", shop().pod("shop", "api", named).web(&to(block))),
            ("ingress", shop().web(&format!("ingress: [{{from: [{block}], ports: [{{port: https}}]}}]"))),
        ],
    );
}
