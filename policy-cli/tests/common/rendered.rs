//! Manifests, and netpol with the programs that render them.

#![expect(clippy::expect_used, reason = "a failing check panics")]

use std::path::{Path, PathBuf};
use std::process::Output;

use super::folders::with;

pub(crate) const WEB: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, labels: {app: web}}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, image: i, ports: [{name: http, containerPort: 80}]}]}\n";
pub(crate) const DENY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny}\nspec: {podSelector: {}, policyTypes: [Ingress]}\n";

/// Runs netpol in a folder, with kubectl and helm.
pub(crate) fn real(folders: &[PathBuf], folder: &Path, arguments: &[&str]) -> Output {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(folders.iter().cloned().chain(std::env::split_paths(&path))).expect("a path");
    with(Path::new(&path), folder, arguments)
}
