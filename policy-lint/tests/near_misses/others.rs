//! What could be said with less, and what other engines do differently.

use super::{Shop, assert_found, assert_silent, mesh, shop};

#[test]
fn a_requirement_that_changes_nothing_is_named() {
    let namespaces = |expressions: &str| {
        mesh().web(&format!("ingress: [{{from: [{{namespaceSelector: {{matchExpressions: [{expressions}]}}}}]}}]"))
    };
    let pods = |expressions: &str| shop().policy("p", &format!("podSelector: {{matchExpressions: [{expressions}]}}"));
    let of_name = "{key: kubernetes.io/metadata.name, operator: Exists}";
    let at = "spec.podSelector.matchExpressions";
    assert_found(
        "selector-tautology",
        [
            ("spec.ingress[0].from[0].namespaceSelector.matchExpressions", "every namespace has the label", namespaces(of_name)),
            (
                at,
                "`app!=db` changes nothing: `app=web`",
                pods("{key: app, operator: In, values: [web]}, {key: app, operator: NotIn, values: [db]}"),
            ),
            (
                at,
                "`tier!=x` changes nothing: `!tier`",
                pods("{key: tier, operator: DoesNotExist}, {key: tier, operator: NotIn, values: [x]}"),
            ),
        ],
    );
    assert_silent(
        "selector-tautology",
        [
            ("a label that pods need not have", pods(of_name)),
            ("another label of namespaces", namespaces("{key: team, operator: Exists}")),
            ("one of the values", pods("{key: app, operator: In, values: [web, db]}, {key: app, operator: NotIn, values: [db]}")),
            ("NotIn alone", pods("{key: app, operator: NotIn, values: [other]}")),
            ("presence beside NotIn", pods("{key: app, operator: Exists}, {key: app, operator: NotIn, values: [other]}")),
        ],
    );
}

#[test]
fn what_other_engines_do_differently_is_named() {
    let rule = |ports: &str| shop().web(&format!("ingress: [{{from: [{{podSelector: {{}}}}], ports: [{ports}]}}]"));
    assert_found(
        "named-port-portability",
        [("spec.ingress[0].ports[1].port", "every UDP port", rule("{port: 80}, {port: dns, protocol: UDP}"))],
    );
    assert_silent("named-port-portability", [("a number", rule("{port: 80}")), ("no port", rule("{protocol: UDP}"))]);
    assert_found(
        "end-port-portability",
        [("spec.ingress[0].ports[0].endPort", "allow 80 alone", rule("{port: 80, endPort: 81}"))],
    );
    assert_silent("end-port-portability", [("one port", rule("{port: 80, endPort: 80}")), ("no port", rule("{protocol: TCP}"))]);
    assert_found("sctp-portability", [("spec.ingress[0].ports[0].protocol", "SCTP", rule("{protocol: SCTP}"))]);
    assert_silent(
        "sctp-portability",
        [("TCP", rule("{port: 80}")), ("every protocol", shop().web("ingress: [{from: [{podSelector: {}}]}]"))],
    );

    let running = |peers: &str| {
        let shop = Shop { objects: Vec::new() }.namespace("shop").running("shop", "web", "", &["10.0.0.1"]);
        shop.running("shop", "api", "", &["10.0.0.2"]).web(&format!("ingress: [{{from: [{peers}]}}]"))
    };
    let block = "{ipBlock: {cidr: 10.0.0.2/31}}";
    assert_found("pod-by-ip-block", [("spec.ingress[0].from[0].ipBlock", "shop/api (10.0.0.2)", running(block))]);
    assert_silent(
        "pod-by-ip-block",
        [
            ("by label too", running(&format!("{block}, {{podSelector: {{matchLabels: {{app: api}}}}}}"))),
            ("nobody", running("{ipBlock: {cidr: 192.0.2.0/24}}")),
            ("itself", running("{ipBlock: {cidr: 10.0.0.1/32}}")),
            ("everyone", shop().web("ingress: [{}]")),
        ],
    );

    let node =
        "{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}";
    let to = |rules: &str| shop().with(node).web(&format!("policyTypes: [Egress], egress: [{rules}]"));
    assert_found(
        "own-node-egress",
        [(
            "spec.policyTypes",
            "pods of namespace `shop`",
            to("{to: [{podSelector: {}}]}").policy("db", "podSelector: {matchLabels: {app: db}}, policyTypes: [Egress]"),
        )],
    );
    assert_silent(
        "own-node-egress",
        [
            ("nodes are allowed", to("{to: [{ipBlock: {cidr: 192.0.2.0/24}}]}")),
            ("everyone is allowed", to("{}")),
            ("egress is open", shop().with(node).web("ingress: []")),
        ],
    );
}
