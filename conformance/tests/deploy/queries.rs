//! Queries of Prometheus: which metrics and labels they name, and the program that checks them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use policy_agent::admin::metrics::Metrics;
use serde_json::Value;

use super::root;

/// Labels that Prometheus adds to the metrics of an agent.
const ADDED: [&str; 4] = ["cluster", "job", "node", "instance"];
/// Metrics that agents do not have: of Prometheus, of kube-state-metrics and of the process.
const FOREIGN: [&str; 4] =
    ["up", "kube_daemonset_status_desired_number_scheduled", "process_resident_memory_bytes", "process_cpu_seconds_total"];

pub(super) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The metrics of an agent, with their labels. Those with labels appear when they are first used.
pub(super) fn known() -> BTreeMap<String, BTreeSet<String>> {
    let metrics = Metrics::new().expect("valid names");
    metrics.transactions.with_label_values(&["", ""]).inc();
    metrics.denied_packets.with_label_values(&["", ""]).inc();
    metrics.objects.with_label_values(&[""]).set(1);
    metrics.sandboxes.with_label_values(&[""]).set(1);
    metrics.source_stale.with_label_values(&[""]).set(1.0);
    let exposed = metrics.text().expect("it can be written");
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in exposed.lines().filter(|line| line.starts_with("netpol_")) {
        let (series, _) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let names =
            labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
        out.entry(name.to_owned()).or_default().extend(names);
    }
    assert!(out.len() > 25, "{out:?}");
    out
}

/// The names in the text: metrics, labels, functions.
pub(super) fn words(query: &str) -> impl Iterator<Item = &str> {
    query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// What is selected: metrics, and the labels by which they are.
pub(super) fn selectors(query: &str) -> Vec<(String, Vec<String>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let pieces: Vec<&str> = query.split('{').collect();
    let selector = |pair: &[&str]| {
        let metric = pair[0].rsplit(|c| !is_name(c)).next().unwrap_or_default().to_owned();
        let (matchers, _) = pair[1].split_once('}').expect("a closed selector");
        let labels = matchers.split(',').map(|matcher| matcher.trim().chars().take_while(|c| is_name(*c)).collect());
        (metric, labels.collect())
    };
    pieces.windows(2).map(selector).collect()
}

/// The labels of every `by (…)`, `on (…)` and `group_right (…)`.
pub(super) fn groupings(query: &str) -> Vec<Vec<String>> {
    let query = query.replace("by(", "by (").replace("on(", "on (").replace("group_right(", "group_right (");
    let mut out = Vec::new();
    for word in [" by (", " on (", "group_right ("] {
        let parts = query.split(word).skip(1).filter_map(|rest| rest.split_once(')'));
        out.extend(parts.map(|(labels, _)| labels.split(',').map(|label| label.trim().to_owned()).collect()));
    }
    out
}

/// Panics unless the query is about metrics and labels that there are.
pub(super) fn check(query: &str, known: &BTreeMap<String, BTreeSet<String>>) {
    let selected = selectors(query);
    assert!(!selected.is_empty(), "{query}");
    let mut labels: BTreeSet<&str> = ADDED.into_iter().collect();
    for (metric, matchers) in &selected {
        if FOREIGN.contains(&metric.as_str()) {
            continue;
        }
        let own = known.get(metric).unwrap_or_else(|| panic!("there is no metric {metric}: {query}"));
        labels.extend(own.iter().map(String::as_str));
        let unknown: Vec<&String> = matchers.iter().filter(|label| !labels.contains(label.as_str())).collect();
        assert!(unknown.is_empty(), "{metric} has no label {unknown:?}: {query}");
        assert!(matchers.iter().any(|label| label == "job"), "other programs may have a metric {metric}: {query}");
    }
    for word in words(query).filter(|word| word.starts_with("netpol_")) {
        assert!(selected.iter().any(|(metric, _)| metric == word), "{word} is not selected by its job: {query}");
    }
    for label in groupings(query).iter().flatten() {
        assert!(labels.contains(label.as_str()), "no metric has the label {label}: {query}");
    }
}

/// The program of Prometheus that checks and tests rules.
pub(super) fn promtool() -> Option<PathBuf> {
    let output = Command::new(root().join(".ci/tool")).arg("promtool").output().expect("bash runs");
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !path.is_empty() {
        return Some(path.into());
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs promtool: {}", String::from_utf8_lossy(&output.stderr));
    println!("skipped: promtool cannot be installed: {}", String::from_utf8_lossy(&output.stderr));
    None
}

pub(super) fn run(program: &Path, folder: &Path, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).current_dir(folder).output().expect("it runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}
