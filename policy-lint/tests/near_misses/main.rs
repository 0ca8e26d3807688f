//! What checks find, and what looks like it and is not found.

#![expect(clippy::panic, reason = "a failing check panics")]

mod correctness;
mod named_ports;
mod others;
mod security;

use policy_core::compile::{Compiler, Options};
use policy_core::diagnostic::Diagnostic;
use policy_core::manifest::{Loader, Syntax};
use policy_lint::lint;

/// A namespace, and pods in it.
struct Shop {
    objects: Vec<String>,
}

/// The namespace `shop` with pods `web` and `db`.
fn shop() -> Shop {
    Shop { objects: Vec::new() }.namespace("shop").pod("shop", "web", "").pod("shop", "db", "")
}

impl Shop {
    fn with(mut self, object: &str) -> Self {
        self.objects.push(object.to_owned());
        self
    }

    fn namespace(self, name: &str) -> Self {
        self.with(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}"))
    }

    /// A pod with its name as its label `app`, and these other fields of its container.
    fn pod(self, namespace: &str, name: &str, container: &str) -> Self {
        self.pod_with(namespace, name, &format!("{{containers: [{{name: c{container}}}]}}"))
    }

    fn pod_with(self, namespace: &str, name: &str, spec: &str) -> Self {
        let metadata = format!("{{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}");
        self.with(&format!("{{apiVersion: v1, kind: Pod, metadata: {metadata}, spec: {spec}}}"))
    }

    /// A running pod with these addresses.
    fn running(self, namespace: &str, name: &str, container: &str, addresses: &[&str]) -> Self {
        let metadata = format!("{{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}");
        let spec = format!("{{nodeName: n1, containers: [{{name: c{container}}}]}}");
        let ips: Vec<String> = addresses.iter().map(|address| format!("{{ip: '{address}'}}")).collect();
        let status = format!("{{phase: Running, podIPs: [{}]}}", ips.join(", "));
        self.with(&format!("{{apiVersion: v1, kind: Pod, metadata: {metadata}, spec: {spec}, status: {status}}}"))
    }

    fn policy(self, name: &str, spec: &str) -> Self {
        let metadata = format!("{{name: {name}, namespace: shop}}");
        self.with(&format!("{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {metadata}, spec: {{{spec}}}}}"))
    }

    /// A policy for the pod `web`.
    fn web(self, spec: &str) -> Self {
        self.policy("web", &format!("podSelector: {{matchLabels: {{app: web}}}}, {spec}"))
    }

    fn findings(&self) -> Vec<Diagnostic> {
        let mut loader = Loader::new(Syntax::Strict).with_places().with_expected_pods();
        loader.read("in.yaml", self.objects.join("\n---\n").as_bytes());
        let snapshot = loader.finish();
        assert!(!snapshot.has_errors(), "{:?}", snapshot.diagnostics);
        let mut compiler = Compiler::new(Options::default());
        snapshot.changes().for_each(|change| compiler.apply(change));
        compiler.flush();
        lint(compiler.graph(), &snapshot, |_| true).findings
    }
}

/// The findings of a rule.
fn of(rule: &str, input: &Shop) -> Vec<Diagnostic> {
    let mut found = input.findings();
    found.retain(|found| found.rule.name == rule);
    found
}

fn assert_silent<const N: usize>(rule: &str, cases: [(&str, Shop); N]) {
    for (case, input) in cases {
        let found = of(rule, &input);
        assert!(found.is_empty(), "{case}: {found:?}");
    }
}

/// Each case has one finding, at this path and with this text in its message.
fn assert_found<const N: usize>(rule: &str, cases: [(&str, &str, Shop); N]) {
    for (path, text, input) in cases {
        let found = of(rule, &input);
        let [one] = found.as_slice() else { panic!("{rule} at {path}: {found:?}") };
        assert_eq!(one.path, path, "{one}");
        assert!(one.message.contains(text), "{one}");
    }
}

const BUT_PRIVATE: &str = "{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}";

/// Pods `gateway` and `debug` in another namespace.
fn mesh() -> Shop {
    shop().namespace("mesh").pod("mesh", "gateway", "").pod("mesh", "debug", "")
}
