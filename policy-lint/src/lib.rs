//! Findings about policies that are valid and may not mean what their authors think.
//!
//! The crate is pure, as `policy-core` is, and decides nothing: objects go in, diagnostics come out. `netpol validate` shows them at
//! their places in the files, and the agent's reporter writes them as Events.
//!
//! - [`context`]: what checks ask.
//! - [`effect`]: the pods that policies are judged by, by `validate` and the agent.
//! - [`named_ports`]: port names in rules.
//! - [`openings`]: what rules allow by address.
//! - [`rules`]: one file for each rule, with its documentation.
//! - [`suppression`]: findings that their authors have accepted.

pub mod context;
pub mod effect;
pub mod named_ports;
pub mod openings;
pub mod rules;
pub mod suppression;

use policy_core::diagnostic::{Diagnostic, Kind, Place, Position, Rule};
use policy_core::graph::AllowGraph;
use policy_core::manifest::Snapshot;

use context::Context;
use effect::{Effects, Knowledge};
use rules::CHECKS;

/// Every rule that `netpol` and the agent know: those of `policy-core`, then those of this crate.
pub fn all_rules() -> impl Iterator<Item = &'static Rule> {
    let of_checks = CHECKS.iter().map(|check| check.rule);
    policy_core::diagnostic::rules::RULES
        .iter()
        .chain(rules::RULES)
        .copied()
        .chain(of_checks)
        .chain([&suppression::STALE_SUPPRESSION])
}

/// Adds what is found in a snapshot to its diagnostics, before what is assumed, which stays last.
///
/// There may be pods that the files do not describe, so only what holds all the same is found.
///
/// Cost: linear in the pods of each policy's namespace.
pub fn check(snapshot: &mut Snapshot) {
    let effects = Effects::new(snapshot.pods.values(), Knowledge::Part);
    let mut found: Vec<Diagnostic> = Vec::new();
    for policy in snapshot.policies.values() {
        for finding in effects.findings(policy) {
            let kept = finding.object.as_ref().and_then(|object| snapshot.places.nearest(object, &finding.path));
            let line = || {
                let origin = policy.origin.as_ref()?;
                let position = Position { line: origin.line, column: 1, bytes: (0, 0) };
                Some(Place { file: origin.file.clone(), position: Some(position) })
            };
            found.push(Diagnostic { place: kept.or_else(line), ..finding });
        }
    }
    let end = snapshot.diagnostics.len();
    let at = snapshot.diagnostics.iter().position(|diagnostic| diagnostic.kind() == Kind::Assumed).unwrap_or(end);
    let assumed = snapshot.diagnostics.split_off(at);
    snapshot.diagnostics.extend(found);
    snapshot.diagnostics.extend(assumed);
}

/// What is found in the graph of a snapshot.
#[must_use]
pub fn check_graph(graph: &AllowGraph, snapshot: &Snapshot) -> Vec<Diagnostic> {
    rules::ambiguous_address::findings(graph, snapshot)
}

/// What the checks of `netpol lint` find, beside what [`check`] and [`check_graph`] do.
#[derive(Debug, Default)]
pub struct Linted {
    /// The findings, in the order of the policies' names and of their fields.
    pub findings: Vec<Diagnostic>,
    /// What could not be checked, in sentences.
    pub gaps: Vec<String>,
}

/// Runs the checks of these rules.
#[must_use]
pub fn lint(graph: &AllowGraph, snapshot: &Snapshot, is_wanted: impl Fn(&Rule) -> bool) -> Linted {
    let context = Context::new(snapshot, graph);
    let wanted = CHECKS.iter().filter(|check| is_wanted(check.rule));
    let mut findings: Vec<Diagnostic> = wanted.flat_map(|check| (check.run)(&context)).collect();
    findings.sort_by(|a, b| (&a.place, &a.object, a.rule.id).cmp(&(&b.place, &b.object, b.rule.id)));
    Linted { findings, gaps: context.gaps().into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use policy_core::compile::{Compiler, Options};
    use policy_core::diagnostic::Group;
    use policy_core::manifest::{Loader, Syntax};

    use super::*;

    const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: host, namespace: x}, spec: {nodeName: n1, hostNetwork: true, containers: [{name: c}]}}";
    const POLICY: &str =
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: x}, spec: {podSelector: {}}}";

    fn checked(loader: Loader) -> Snapshot {
        let mut snapshot = loader.finish();
        assert!(snapshot.diagnostics.iter().all(|diagnostic| diagnostic.kind() == Kind::Assumed), "{:?}", snapshot.diagnostics);
        check(&mut snapshot);
        snapshot
    }

    fn shown(diagnostics: &[Diagnostic]) -> Vec<String> {
        diagnostics.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn findings_stand_at_their_policies_and_before_what_is_assumed() {
        let text = format!("{POD}\n---\n{POLICY}\n");
        for (loader, place) in
            [(Loader::new(Syntax::Strict), "a.yaml:3:1"), (Loader::new(Syntax::Strict).with_places(), "a.yaml:3:112")]
        {
            let mut loader = loader;
            loader.read("a.yaml", text.as_bytes());
            let shown = shown(&checked(loader).diagnostics);
            let start = format!("{place}: warning[only-host-network-pods]: NetworkPolicy x/p: spec.podSelector: ");
            assert!(shown[0].starts_with(&start), "{shown:?}");
            assert!(shown.len() == 2 && shown[1].contains("Namespace x"), "{shown:?}");
        }
    }

    #[test]
    fn findings_point_at_fields_in_lists_dumps_and_json() {
        let web =
            "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: x}, spec: {nodeName: n1}, status: {podIP: 10.0.0.1}}";
        let rules = "ingress:\n    - {}\n    - ports:\n      - port: 80\n      - protocol: TCP\n        port: http\n";
        let yaml = format!(
            "{web}\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: networking.k8s.io/v1\n  kind: NetworkPolicy\n  \
             metadata: {{name: p, namespace: x}}\n  spec:\n    podSelector: {{}}\n    {rules}"
        );
        let json = r#"
{"kind": "NetworkPolicyList", "apiVersion": "networking.k8s.io/v1", "items": [
  {"metadata": {"name": "p", "namespace": "x"}, "spec": {"podSelector": {},
   "ingress": [{}, {"ports": [{"port": 80}, {"port": "http"}]}]}}
]}"#;
        for (text, place) in [(yaml, "in.yaml:16:15"), (format!("{web}{json}"), "in.yaml:4:54")] {
            let mut loader = Loader::new(Syntax::Strict).with_places();
            loader.read("in.yaml", text.as_bytes());
            let snapshot = checked(loader);
            let found = &snapshot.diagnostics[0];
            assert_eq!(found.rule, &rules::named_port_not_found::NAMED_PORT_NOT_FOUND);
            assert_eq!(found.path, "spec.ingress[1].ports[1].port");
            assert!(found.to_string().starts_with(&format!("{place}: ")), "{found}");
            let (start, end) = found.position().unwrap().bytes;
            let shown = text.get(start..end).unwrap();
            assert!(["http", "\"http\""].contains(&shown), "{shown}");
        }
    }

    /// The example of each rule, checked as `validate` checks files.
    #[test]
    fn examples_of_rules_break_them() {
        for rule in rules::RULES {
            let Some(example) = rule.documentation.example else { continue };
            let mut loader = Loader::new(Syntax::Strict).with_places();
            loader.read("example.yaml", example.as_bytes());
            let snapshot = checked(loader);
            let mut compiler = Compiler::new(Options::default());
            snapshot.changes().for_each(|change| compiler.apply(change));
            compiler.flush();
            let found = [snapshot.diagnostics.clone(), check_graph(compiler.graph(), &snapshot)].concat();
            let names: Vec<&str> =
                found.iter().filter(|found| found.kind() != Kind::Assumed).map(|found| found.rule.name).collect();
            assert_eq!(names, [rule.name]);
            assert!(found.iter().any(|found| found.rule == *rule && found.position().is_some_and(|at| at.bytes.1 > at.bytes.0)));
        }
    }

    fn linted(text: &str, rule: &Rule) -> Vec<Diagnostic> {
        let mut loader = Loader::new(Syntax::Strict).with_places().with_expected_pods();
        loader.read("example.yaml", text.as_bytes());
        let snapshot = loader.finish();
        assert!(!snapshot.has_errors(), "{:?}", snapshot.diagnostics);
        let mut compiler = Compiler::new(Options::default());
        snapshot.changes().for_each(|change| compiler.apply(change));
        compiler.flush();
        let is_default = |other: &Rule| other.group != Group::Portability && other.name != "not-isolated";
        lint(compiler.graph(), &snapshot, |other| other == rule || is_default(other)).findings
    }

    /// The example of each check has a finding of it and of no other, and the corrected one has none. Most examples isolate for one direction
    /// and some of their pods only, and rules about portability are about what others are.
    #[test]
    fn examples_of_checks_break_them_and_corrected_ones_do_not() {
        for rule in CHECKS.iter().map(|check| check.rule) {
            let found = linted(rule.documentation.example.expect("an example"), rule);
            let names: Vec<&str> = found.iter().map(|found| found.rule.name).collect();
            assert_eq!(names, [rule.name], "{found:?}");
            assert!(found[0].position().is_some_and(|at| at.bytes.1 > at.bytes.0), "{found:?}");
            if let Some(corrected) = rule.documentation.corrected {
                assert_eq!(shown(&linted(corrected, rule)), Vec::<String>::new(), "{}", rule.name);
            }
        }
    }

    /// What is left of the findings of a text, and what is stale.
    fn suppressed(text: &str, is_checked: impl Fn(&Rule) -> bool) -> Vec<String> {
        let mut loader = Loader::new(Syntax::Strict).with_places().with_expected_pods();
        loader.read("a.yaml", text.as_bytes());
        let snapshot = loader.finish();
        let mut compiler = Compiler::new(Options::default());
        snapshot.changes().for_each(|change| compiler.apply(change));
        compiler.flush();
        let mut findings = lint(compiler.graph(), &snapshot, |_| true).findings;
        findings.extend(snapshot.diagnostics.clone());
        findings.retain(|finding| finding.kind() != Kind::Assumed);
        suppression::suppress(&mut findings, &snapshot, &suppression::comments("a.yaml", text), is_checked);
        findings.iter().map(|finding| format!("{}:{}", finding.position().map_or(0, |at| at.line), finding.rule.name)).collect()
    }

    #[test]
    fn accepted_findings_are_left_out_and_stale_acceptances_are_findings() {
        let stale = &suppression::STALE_SUPPRESSION.documentation;
        assert_eq!(suppressed(stale.example.unwrap(), |_| true), ["6:stale-suppression"]);
        assert_eq!(suppressed(stale.corrected.unwrap(), |_| true), Vec::<String>::new());
        let policy = |annotation: &str, above: &str, comment: &str| {
            format!(
                "{above}apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: web, namespace: shop, annotations: {{a: b{annotation}}}}}\nspec:\n  podSelector: {{}}\n  ingress:\n  - from:{comment}\n"
            )
        };
        let none = Vec::<String>::new();
        for (annotation, above, comment, expected) in [
            ("", "", "", vec!["7:everyone-by-omission"]),
            (", netpol.io/ignore: NP201", "", "", vec![]),
            (", netpol.io/ignore: \"np201,NP108 reason\"", "", "", vec!["3:stale-suppression"]),
            (", netpol.io/ignore: half-opne", "", "", vec!["7:everyone-by-omission", "3:stale-suppression"]),
            (", netpol.io/ignore: \"NP201: reason\"", "", "", vec![]),
            (", netpol.io/ignore: \"NP108, NP201 reason, NP107\"", "", "", vec!["3:stale-suppression"]),
            ("", "", " # netpol: ignore NP201", vec![]),
            ("", "", " # netpol:ignore everyone-by-omission on purpose", vec![]),
            ("", "", " # netpol:ignored NP201", vec!["7:everyone-by-omission"]),
            ("", "# netpol:ignore NP201\n# another line\n", "", vec![]),
            ("", "# netpol:ignore NP202x\n", "", vec!["8:everyone-by-omission", "1:stale-suppression"]),
            ("", "", " # a#netpol:ignore NP201", vec!["7:everyone-by-omission"]),
            (", c: \"x # netpol:ignore NP201 reason\"", "", "", vec!["7:everyone-by-omission"]),
        ] {
            let text = policy(annotation, above, comment);
            assert_eq!(suppressed(&text, |_| true), expected, "{text}");
        }
        // In a text in block style there are no comments.
        let doc = "metadata:\n  name: web\n  namespace: shop\n  annotations:\n    doc: |\n      text\n      # netpol:ignore NP201 reason\n";
        let text = policy("", "", "").replace("metadata: {name: web, namespace: shop, annotations: {a: b}}\n", doc);
        let text =
            text.replace("spec:\n  podSelector: {}\n  ingress:\n  - from:\n", "spec: {podSelector: {}, ingress: [{from: []}]}\n");
        assert_eq!(suppressed(&text, |_| true), ["10:everyone-by-omission"], "{text}");
        // What is not checked is not stale, and what an API server refuses cannot be accepted.
        let text = policy(", netpol.io/ignore: \"NP201,NP108\"", "", "");
        assert_eq!(suppressed(&text, |rule| rule.id != "NP108"), none);
        let wrong = policy(", netpol.io/ignore: NP011", "", "").replace("ingress", "ingres");
        assert_eq!(suppressed(&wrong, |_| true), ["6:unknown-field", "3:stale-suppression"]);
    }

    #[test]
    fn each_rule_has_a_name_of_its_own_and_a_manual() {
        let mut names: Vec<&str> = all_rules().map(|rule| rule.name).collect();
        let number = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), number, "a rule is listed twice");
        let ids: std::collections::BTreeSet<&str> = all_rules().map(|rule| rule.id).collect();
        assert_eq!(ids.len(), number, "an id is used twice");
        for rule in all_rules() {
            let manual = &rule.documentation;
            assert!(
                rule.name
                    .split('-')
                    .all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())),
                "{}",
                rule.name
            );
            assert!(rule.id.len() == 5 && rule.id.starts_with("NP"), "{}", rule.name);
            assert!(rule.section.starts_with('S') && !rule.summary.is_empty(), "{}", rule.name);
            assert!([manual.what, manual.why, manual.fix].iter().all(|text| text.ends_with('.')), "{}", rule.name);
            assert!(
                manual.example.is_some()
                    || ["unreadable-file", "invalid-encoding", "excessive-aliases", "too-many-peers"].contains(&rule.name)
            );
        }
    }
}
