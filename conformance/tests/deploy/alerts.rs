//! Alerts: their metrics, runbooks and values, and when they fire.

use std::collections::BTreeSet;

use conformance::lab;
use serde_json::{Value, json};

use super::queries::{check, groupings, known, promtool, run, text, words};
use super::{TOOLS, object, read, template};

const RUNBOOKS: &str = "docs/src/how-to/runbooks.md";

fn rules(settings: &[&str]) -> Vec<Value> {
    let settings: Vec<&str> = ["monitoring.prometheusRule=true"].iter().chain(settings).copied().collect();
    let rule = object(&template(&settings), "PrometheusRule", "netpol");
    rule["spec"]["groups"][0]["rules"].as_array().expect("rules").clone()
}

#[test]
fn alerts_are_about_metrics_that_there_are_and_keep_the_cluster() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let known = known();
    let rules = rules(&[]);
    assert!(rules.len() > 8, "{rules:?}");
    for rule in &rules {
        let query = text(rule, "expr");
        check(query, &known);
        for labels in groupings(query) {
            assert!(labels.iter().any(|label| label == "cluster"), "clusters are mixed: {query}");
        }
        let aggregations = words(query).filter(|word| ["sum", "max", "min", "avg", "count"].contains(word)).count();
        assert!(groupings(query).len() >= aggregations, "an aggregation without `by`: {query}");
        assert!(["critical", "warning", "info"].contains(&text(&rule["labels"], "severity")), "{rule}");
        for annotation in ["summary", "description"] {
            assert!(!text(&rule["annotations"], annotation).is_empty());
        }
    }
}

#[test]
fn every_alert_has_a_runbook_and_a_value() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let rules = rules(&["monitoring.runbookUrl=https://wiki/netpol"]);
    let names: BTreeSet<&str> = rules.iter().map(|rule| text(rule, "alert")).collect();
    let page = read(RUNBOOKS);
    let headings: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(headings, names, "headings in {RUNBOOKS}, and alerts");
    for rule in &rules {
        // The anchor that mdBook and Git hosts give a heading of one word.
        let wanted = format!("https://wiki/netpol#{}", text(rule, "alert").to_lowercase());
        assert_eq!(text(&rule["annotations"], "runbook_url"), wanted);
    }
    let home = &super::to_json(&read("policy-agent/deploy/chart/Chart.yaml"))[0]["home"];
    let home = home.as_str().expect("a home");
    for rule in self::rules(&[]) {
        assert!(text(&rule["annotations"], "runbook_url").starts_with(&format!("{home}/how-to/runbooks.html#")), "{rule}");
    }
}

#[test]
fn alerts_can_be_changed_and_left_out() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let find = |settings: &[&str], name: &str| rules(settings).into_iter().find(|rule| rule["alert"] == name);
    let changed = find(&["monitoring.alerts.NetpolSlow.threshold=0.25"], "NetpolSlow").expect("it is there");
    assert!(text(&changed, "expr").ends_with("> 0.25"), "{changed}");
    let settings = "monitoring.alerts.NetpolSourceStale.threshold=900,monitoring.alerts.NetpolSourceStale.for=1h,\
        monitoring.alerts.NetpolSourceStale.severity=page";
    let changed = find(&[settings], "NetpolSourceStale").expect("it is there");
    assert!(text(&changed, "expr").ends_with("> 900"), "{changed}");
    assert_eq!((&changed["for"], &changed["labels"]["severity"]), (&"1h".into(), &"page".into()));
    assert!(find(&["monitoring.alerts.NetpolSlow.enabled=false"], "NetpolSlow").is_none());
    assert!(rules(&[]).iter().all(|rule| !text(rule, "expr").contains('$')), "every threshold has a value");
}

/// `alerts.test.yaml` says when each alert fires, and that none does in a cluster that is well.
#[test]
fn alerts_fire_when_they_should() {
    if !lab::is_available(&TOOLS) {
        return;
    }
    let Some(promtool) = promtool() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    // JSON is YAML.
    let file = json!({"groups": [{"name": "netpol", "rules": rules(&[])}]});
    std::fs::write(folder.path().join("rules.yaml"), file.to_string()).expect("writable");
    run(&promtool, folder.path(), &["check", "rules", "rules.yaml"]);
    let tests = include_str!("alerts.test.yaml");
    std::fs::write(folder.path().join("test.yaml"), tests).expect("writable");
    run(&promtool, folder.path(), &["test", "rules", "test.yaml"]);
    for rule in rules(&[]) {
        assert!(tests.contains(&format!("alertname=\"{}\"", text(&rule, "alert"))), "no test fires {}", rule["alert"]);
    }
}
