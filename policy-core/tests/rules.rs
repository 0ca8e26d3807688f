//! Every rule of the crate is documented by an example that breaks it, and points at the text at fault.

#![expect(clippy::string_slice, clippy::indexing_slicing, reason = "a failing check panics")]

use policy_core::diagnostic::rules::RULES;
use policy_core::diagnostic::{Diagnostic, Kind};
use policy_core::manifest::{Loader, Syntax};

fn read(syntax: Syntax, bytes: &[u8]) -> Vec<Diagnostic> {
    let mut loader = Loader::new(syntax);
    loader.read("example.yaml", bytes);
    loader.finish().diagnostics
}

/// The rules that a text breaks, but for namespaces that it does not declare.
fn broken(syntax: Syntax, text: &str) -> Vec<&'static str> {
    let found = read(syntax, text.as_bytes());
    found.iter().filter(|found| found.kind() != Kind::Assumed).map(|found| found.rule.name).collect()
}

#[test]
fn examples_of_rules_break_them() {
    for rule in RULES {
        let Some(example) = rule.documentation.example else { continue };
        let syntax = if rule.name == "legacy-cidr" { Syntax::Legacy } else { Syntax::Strict };
        let expected: &[&str] = if rule.kind == Kind::Assumed { &[] } else { &[rule.name] };
        assert_eq!(broken(syntax, example), expected, "{}", rule.name);
        let found = read(syntax, example.as_bytes());
        let own = found.iter().find(|found| found.rule == *rule).unwrap();
        assert_eq!((own.severity, own.section), (rule.severity, rule.section), "{}", rule.name);
        let is_somewhere = own.position().is_some_and(|at| example.get(at.bytes.0..at.bytes.1).is_some());
        assert!(is_somewhere || rule.kind == Kind::Assumed, "{}", rule.name);
    }
}

#[test]
fn rules_without_an_example_need_more_than_a_short_text() {
    assert_eq!(read(Syntax::Strict, b"kind: \xff")[0].rule.name, "invalid-encoding");
    // One value fewer, and the rest can be read.
    let list = |first: &str, rest: &str, number: usize| [vec![first], vec![rest; number - 1]].concat().join(", ");
    let values = list("x", "x", 100);
    let expressions = list(&format!("&e {{key: a, operator: In, values: [{values}]}}"), "*e", 100);
    let peers = list(&format!("&p {{podSelector: {{matchExpressions: [{expressions}]}}}}"), "*p", 385);
    assert_eq!(broken(Syntax::Strict, &policy(&format!("ingress: [{{from: [{peers}]}}]"))), ["excessive-aliases"]);
    let without: Vec<&str> = RULES.iter().filter(|rule| rule.documentation.example.is_none()).map(|rule| rule.name).collect();
    assert_eq!(without, ["unreadable-file", "invalid-encoding", "excessive-aliases"], "the first is for those who open files");
}

#[test]
fn findings_that_aliases_multiply_are_listed_up_to_a_limit() {
    let peers = ["&p {ipBlock: {cidr: none}}"].into_iter().chain(std::iter::repeat_n("*p", 199)).collect::<Vec<_>>().join(", ");
    let rules = format!("&r {{from: [{peers}]}}{}", ", *r".repeat(99));
    let found = read(Syntax::Strict, policy(&format!("ingress: [{rules}]")).as_bytes());
    let invalid: Vec<&Diagnostic> = found.iter().filter(|found| found.is_error()).collect();
    assert_eq!(invalid.len(), 1000, "of 20,000");
    assert!(invalid.last().unwrap().message.ends_with("more such findings of this object are not listed"));
}

/// The text after the only edit that its findings propose.
fn edited(text: &str) -> String {
    let found = read(Syntax::Strict, text.as_bytes());
    let edits: Vec<_> = found.iter().filter_map(|found| found.edit.as_ref()).collect();
    assert_eq!(edits.len(), 1, "{text}: {found:?}");
    let (start, end) = edits[0].bytes;
    format!("{}{}{}", &text[..start], edits[0].text, &text[end..])
}

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: x}}\nspec: {{podSelector: {{}}, {spec}}}\n"
    )
}

#[test]
fn edits_correct_what_they_are_for() {
    for (before, after) in [
        ("ingres: [{}]", "ingress: [{}]"),
        ("policyTypes: [ingress]", "policyTypes: [Ingress]"),
        ("ingress: [{ports: [{port: '80'}]}]", "ingress: [{ports: [{port: 80}]}]"),
        ("ingress: [{ports: [{protocol: \"tcp\"}]}]", "ingress: [{ports: [{protocol: \"TCP\"}]}]"),
        ("ingress: [{from: [{ipBlock: {cidr: 10.1.2.3/8}}]}]", "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]"),
        ("ingress: [{from: [{ipBlock: {cidr: \"FD00::/8\"}}]}]", "ingress: [{from: [{ipBlock: {cidr: \"fd00::/8\"}}]}]"),
        (
            "ingress: [{from: [{podSelector: {matchLabels: {version: 2}}}]}]",
            "ingress: [{from: [{podSelector: {matchLabels: {version: \"2\"}}}]}]",
        ),
        (
            "ingress: [{from: [{podSelector: {matchLabels: {on: yes}}}]}]",
            "ingress: [{from: [{podSelector: {matchLabels: {on: \"yes\"}}}]}]",
        ),
        (
            "ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: exists}]}}]}]",
            "ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: Exists}]}}]}]",
        ),
    ] {
        let (before, after) = (policy(before), policy(after));
        assert_eq!(edited(&before), after);
        assert_eq!(broken(Syntax::Strict, &after), [""; 0], "{after}");
    }
    let kind = policy("ingress: []").replace("NetworkPolicy", "NetworkPolcy");
    assert_eq!(edited(&kind), policy("ingress: []"));
    let version = policy("ingress: []").replace("networking.k8s.io/v1", "extensions/v1beta1");
    assert_eq!(edited(&version), policy("ingress: []"));
}

#[test]
fn duplicates_name_the_other_place() {
    let text = policy("ingress: [], egress: [], ingress: [{}]");
    let found = read(Syntax::Strict, text.as_bytes());
    let other = found[0].related[0].place.as_ref().unwrap().position.as_ref().unwrap();
    assert_eq!((found[0].position().unwrap().column, other.column), (50, 25));
    let two = format!("{}---\n{}", policy("ingress: []"), policy("ingress: [{}]"));
    let found = read(Syntax::Strict, two.as_bytes());
    let other = found[0].related[0].place.as_ref().unwrap();
    assert_eq!(
        (found[0].place.as_ref().unwrap().to_string(), other.to_string()),
        ("example.yaml:8:18".to_owned(), "example.yaml:3:18".to_owned())
    );
}
