//! The dashboard, compared with the metrics that the agent has.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::queries::{check, known, promtool, run, selectors, text};
use super::read;

const DASHBOARD: &str = "policy-agent/deploy/chart/dashboards/netpol.json";

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).expect("JSON")
}

/// The queries of the panels.
fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.map(|target| text(target, "expr").to_owned()).collect()
}

#[test]
fn the_dashboard_shows_metrics_that_there_are_for_the_clusters_that_are_chosen() {
    let (known, dashboard) = (known(), dashboard());
    let queries = queries(&dashboard);
    assert!(queries.len() > 20, "{queries:?}");
    for query in &queries {
        check(query, &known);
        for (metric, labels) in selectors(query) {
            assert!(labels.iter().any(|label| label == "cluster"), "{metric} of all clusters: {query}");
        }
    }
    // Every series that agents have is shown, but for those of how often a histogram has measured.
    for metric in known.keys().filter(|name| !["_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end))) {
        let is_left_out =
            ["netpol_set_elements_changed_total", "netpol_connections_cut_coarsely_total"].contains(&metric.as_str());
        assert!(is_left_out || queries.iter().any(|query| query.contains(metric)), "no panel shows {metric}");
    }
    let variables: Vec<&str> =
        dashboard["templating"]["list"].as_array().expect("variables").iter().map(|variable| text(variable, "name")).collect();
    assert_eq!(variables, ["datasource", "cluster", "job", "node"]);
    let denied = dashboard["panels"].as_array().expect("panels").iter().find(|panel| panel["title"] == "Denied workloads");
    let denied = denied.expect("a table of denied workloads");
    assert_eq!((&denied["type"], &denied["targets"][0]["format"]), (&"table".into(), &"table".into()));
}

#[test]
fn panels_have_a_place_of_their_own_in_a_row() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    assert_eq!(panels[0]["type"], "row", "every panel is in a row");
    assert!(panels.iter().filter(|panel| panel["type"] == "row").count() > 3);
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{} is there twice", panel["id"]);
        assert!(!text(panel, "title").is_empty());
        let number = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
        assert!(number("x") + number("w") <= 24, "{} is too wide", panel["title"]);
        for x in number("x")..number("x") + number("w") {
            for y in number("y")..number("y") + number("h") {
                assert!(cells.insert((x, y)), "{} covers another panel", panel["title"]);
            }
        }
    }
}

/// Once Grafana has filled in its variables, as it does with ranges.
#[test]
fn the_queries_of_the_dashboard_are_queries() {
    let Some(promtool) = promtool() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let fill = |query: &String| query.replace("$__rate_interval", "5m").replace("$__range", "6h");
    let records: Vec<Value> = queries(&dashboard()).iter().map(|query| json!({"record": "a", "expr": fill(query)})).collect();
    let file = json!({"groups": [{"name": "dashboard", "rules": records}]});
    std::fs::write(folder.path().join("dashboard.yaml"), file.to_string()).expect("writable");
    run(&promtool, folder.path(), &["check", "rules", "--lint=none", "dashboard.yaml"]);
}
