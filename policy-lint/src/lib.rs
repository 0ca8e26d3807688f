//! Findings about policies that are valid and may not mean what their authors think.
//!
//! The crate is pure, as `policy-core` is, and decides nothing: objects go in, findings come out. `netpol validate` shows them as
//! warnings at their places in the files, and the agent's reporter writes them as Events.
//!
//! - [`effect`]: policies that do not have the effect that they seem to have.

pub mod effect;

use policy_core::diagnostic::{Diagnostic, Kind};
use policy_core::manifest::Snapshot;

use effect::{Effects, Knowledge};

/// Adds what is found in a snapshot to its diagnostics, before what is assumed, which stays last.
///
/// There may be pods that the files do not describe, so only what holds all the same is found.
///
/// Cost: linear in the pods of each policy's namespace.
pub fn check(snapshot: &mut Snapshot) {
    let effects = Effects::new(snapshot.pods.values(), Knowledge::Part);
    let found: Vec<Diagnostic> = snapshot
        .policies
        .values()
        .flat_map(|policy| effects.findings(policy).into_iter().map(|finding| finding.diagnostic(policy.origin.as_ref())))
        .collect();
    let end = snapshot.diagnostics.len();
    let at = snapshot.diagnostics.iter().position(|diagnostic| diagnostic.kind == Kind::Assumed).unwrap_or(end);
    let assumed = snapshot.diagnostics.split_off(at);
    snapshot.diagnostics.extend(found);
    snapshot.diagnostics.extend(assumed);
}

#[cfg(test)]
mod tests {
    use policy_core::manifest::{Loader, Syntax};

    use super::*;

    #[test]
    fn findings_stand_at_their_policies_and_before_what_is_assumed() {
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: host, namespace: x}, spec: {nodeName: n1, hostNetwork: true}}";
        let policy =
            "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: x}, spec: {podSelector: {}}}";
        let mut loader = Loader::new(Syntax::Strict);
        loader.read("a.yaml", format!("{pod}\n---\n{policy}\n").as_bytes());
        let mut snapshot = loader.finish();
        assert!(snapshot.diagnostics.iter().all(|diagnostic| diagnostic.kind == Kind::Assumed), "{:?}", snapshot.diagnostics);
        check(&mut snapshot);
        let shown: Vec<String> = snapshot.diagnostics.iter().map(ToString::to_string).collect();
        assert!(shown[0].starts_with("a.yaml:3:1: warning: NetworkPolicy x/p: spec.podSelector: "), "{shown:?}");
        assert!(shown.len() == 2 && shown[1].contains("Namespace x"), "{shown:?}");
    }
}
