//! Inputs from the field, each with the question that was asked and the answer that is right.

#![expect(clippy::expect_used, reason = "a failing check panics")]

use std::path::Path;
use std::process::Command;

/// What `netpol` prints about files of `field`, and its exit code.
fn netpol(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netpol"));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/field")).args(arguments);
    let output = command.env_remove("FORCE_COLOR").env_remove("CLICOLOR_FORCE").output().expect("netpol runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

/// The code of an answer: allowed or clean, denied or findings, none.
const YES: i32 = 0;
const NO: i32 = 1;
const NONE: i32 = 2;

fn check(rows: &[(&str, i32, &[&str])]) {
    for (line, code, parts) in rows {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let (found, text) = netpol(&arguments);
        assert_eq!(found, Some(*code), "netpol {line}:\n{text}");
        for part in *parts {
            assert!(text.contains(part), "netpol {line}: {part}:\n{text}");
        }
    }
}

#[test]
fn files_are_read_as_kubectl_reads_them() {
    check(&[
        ("can -f utf16.yaml shop/client shop/api -p 80", NO, &["denied"]),
        ("can -f json-glued.json a/x a/srv -p 80", NO, &["denied", "isolated for ingress by a/deny"]),
        ("can -f items-array.json a/x a/srv -p 80", NO, &["denied", "isolated for ingress by a/deny"]),
        ("can -f get-all-dump.yaml -f policies-as-array.json a/x b/srv -p 80", NO, &["denied", "b/deny"]),
        ("can -f openshift-template.yaml zone/a zone/b -p 80", NO, &["denied", "zone/closed"]),
        ("validate tab-in-flow-list.yaml", YES, &["1 workload"]),
    ]);
}

#[test]
fn what_no_api_server_takes_is_an_error() {
    check(&[
        ("validate separator-missing.yaml", NO, &["two objects run together here: `---` is missing before line 17"]),
        ("can -f separator-missing.yaml shop/client shop/api -p 80", NONE, &["`---` is missing before line 17"]),
        (
            "can -f kind-of-another-group.yaml zone/b zone/a",
            NONE,
            &["found `apps/v1`, expected `v1`", "found `apps`, expected `apps/v1`"],
        ),
        ("validate container-port-slip.yaml", NO, &["did you mean `containerPort`", ":13:"]),
        ("validate tab-place.yaml", NO, &["tab-place.yaml:2:1", "tab"]),
        ("validate templated-values.yaml", NO, &["this document is a template", "helm template"]),
    ]);
}

#[test]
fn a_patch_never_stands_for_its_base() {
    check(&[
        ("can -f kustomize-patch-replaces-workload.yaml team/other team/db -p 5432", NONE, &["looks like a patch"]),
        (
            "can -f kustomize-patch-replaces-workload.yaml team/other team/db -p 5432 --keep-going",
            NONE,
            &["denied", "isolated for ingress by team/db"],
        ),
        (
            "list -f kustomize-namespace",
            NONE,
            &[
                "left out 2 kustomizations, of which 1 is not part of another; build it with -k: kustomize-namespace/overlays/prod",
            ],
        ),
    ]);
}

#[test]
fn what_could_not_be_read_is_in_the_answer() {
    check(&[
        ("can -f keep-going-drops-a-policy.yaml zone/a zone/b", NONE, &["`NetworkPolicy`"]),
        (
            "can -f keep-going-drops-a-policy.yaml zone/a zone/b --keep-going",
            NONE,
            &["caveat", "keep-going-drops-a-policy.yaml:21 may be a policy that denies what is allowed here"],
        ),
        ("can -f not-an-object.yaml zone/a zone/b -p 80", NONE, &["error of a command", "--> not-an-object.yaml:13:1"]),
        ("list -f not-an-object.yaml --keep-going", NONE, &["caveat", "not-an-object.yaml:13 may be a policy"]),
        ("can -f get-all-dump.yaml a/x b/srv -p 80", YES, &["caveat", "no NetworkPolicy"]),
        ("list -f get-all-dump.yaml", YES, &["caveat", "no NetworkPolicy"]),
        ("can -f dump-without-namespaces.yaml a/x b/srv -p 80", NO, &["denied", "the Namespace `a` is not in the input"]),
        (
            "can -f policy-without-namespace.yaml foo/client bar/web -p 80",
            YES,
            &["caveat", "default/default-deny", "without pods"],
        ),
        ("can -f policy-without-pods.yaml tenant/web external", NONE, &["no pods and no workloads"]),
    ]);
}

#[test]
fn services_are_not_addresses_of_pods() {
    check(&[
        (
            "can -f egress-to-clusterip-apiserver.yaml ops/bot 10.96.0.1 -p 443",
            YES,
            &["10.96.0.1 is the cluster IP of Service default/kubernetes"],
        ),
        (
            "can -f egress-to-clusterip-apiserver.yaml ops/bot 192.0.2.10 -p 6443",
            NO,
            &["it has no effect on connections to the Service"],
        ),
        (
            "can -f dns-by-clusterip.yaml a/app kube-system/coredns -p 53/UDP",
            NO,
            &["10.96.0.10/32", "Service kube-system/kube-dns"],
        ),
        ("can -f dns-by-clusterip.yaml a/app 10.96.0.10 -p 53/UDP", YES, &["cluster IP of Service kube-system/kube-dns"]),
        ("can -f dns-by-clusterip.yaml a/app 198.51.100.1 -p 443", YES, &["allowed"]),
        (
            "can -f service-port-versus-target-port.yaml app/backend app/db1 -p 80",
            YES,
            &["Service app/db1 maps its port TCP 80 to port 8080"],
        ),
        ("can -f service-port-versus-target-port.yaml app/backend app/db1 -p 8080", NO, &["denied"]),
        (
            "can -f service-port-versus-target-port.yaml app/backend app/svc/db1 -p 80",
            NONE,
            &["is the Service app/db1", "behind it, `app/db1`"],
        ),
        (
            "can -f nodeport-snat.yaml 172.27.48.111 flux-system/helm-controller -p 8080",
            YES,
            &["node ports of Service flux-system/helm-controller", "the address of a node"],
        ),
    ]);
}

#[test]
fn answers_where_rules_surprise() {
    check(&[
        ("can -f ports-in-own-rule.yaml external tenant/app -p 22", YES, &["allowed"]),
        ("can -f ports-in-own-rule.yaml other/x tenant/app -p 22", YES, &["allowed"]),
        ("can -f helm-empty-from.yaml external chat/ui -p 3000", YES, &["allowed"]),
        ("can -f helm-empty-from.yaml chat/ui external -p 25", YES, &["allowed"]),
        ("can -f ipv4-any-is-not-ipv6.yaml x/a 2001:db8::5 -p 443", NO, &["denied", "ipBlock"]),
        ("can -f ipv4-any-is-not-ipv6.yaml x/a 198.51.100.7 -p 443", YES, &["allowed"]),
        ("can -f ipv4-any-is-not-ipv6.yaml x/a external -p 443", NO, &["partly allowed"]),
        ("can -f ipv4-any-is-not-ipv6.yaml x/a yy/b -p 443", YES, &["allowed"]),
        (
            "can -f policy-that-selects-nobody.yaml keycloak/app keycloak/mysql -p 3306",
            NO,
            &["in keycloak/mysql, remove `app=mysql` from the `podSelector`", "also opens: nothing"],
        ),
        ("can -f ipblock-and-pods.yaml a/app b/secret -p 80", YES, &["caveat", "by an ipBlock"]),
        ("can -f helm-template-without-namespace.yaml -n prod web db -p 5432", NO, &["denied  prod/web → prod/db"]),
        ("can -f and-or-dash.yaml istio-system/evil app/web -p 80", YES, &["allowed"]),
        ("can -f named-port-ipblock-egress.yaml e/db 40.200.123.123 -p 6001", NO, &["denied"]),
        ("can -f named-port-ipblock-egress.yaml e/db 40.200.123.123 -p 6000", YES, &["allowed"]),
        ("can -f named-port-ipblock-egress.yaml e/db e/peer -p 6001", NO, &["denied"]),
        // Two files that disagree are an error, and what a cluster has is replaced by what is applied.
        ("can -f change-of-a-policy/live.yaml -f change-of-a-policy/change.yaml z/a z/b", NONE, &["duplicate-policy"]),
    ]);
}

/// `-o patch` prints what `kubectl` applies.
#[test]
fn suggested_fixes_are_printed_as_patches() {
    let line = "can -f policy-that-selects-nobody.yaml keycloak/app keycloak/mysql -p 3306 -o patch";
    let (code, text) = netpol(&line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(code, Some(NO));
    let patch = "- op: replace\n  path: \"/spec/podSelector\"\n  value:\n    matchLabels:\n      tier: mysql\n";
    assert!(text.starts_with("# kubectl patch networkpolicy mysql -n keycloak --type=json --patch-file FILE\n"), "{text}");
    assert!(text.ends_with(patch), "{text}");
}
