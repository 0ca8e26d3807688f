//! The tables of the chart's README, which are made from `values.yaml`.

use super::{read, root};

const README: &str = "policy-agent/deploy/chart/README.md";
/// What stands before it is written by hand.
const GENERATED: &str = "<!-- Generated from values.yaml and Chart.yaml by `make reference`. Do not edit below. -->";

/// A value, or what holds values.
struct Entry {
    path: String,
    /// `None` for what holds values.
    default: Option<String>,
    meaning: String,
}

/// What `values.yaml` holds: a line for each value, and its comment above it.
fn entries(values: &str) -> Vec<Entry> {
    let (mut path, mut comment, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for line in values.lines() {
        let trimmed = line.trim_start();
        match trimmed.strip_prefix("# ") {
            Some(text) => comment.push(text),
            // A comment belongs to the line below it.
            None if trimmed.is_empty() => comment.clear(),
            None => {
                let (key, default) = trimmed.split_once(':').unwrap_or_else(|| panic!("`{line}` is no value"));
                path.truncate((line.len() - trimmed.len()) / 2);
                path.push(key);
                let default = Some(default.trim().to_owned()).filter(|default| !default.is_empty());
                let meaning = std::mem::take(&mut comment).join(" ");
                assert!(!meaning.is_empty() || default.is_none(), "{} has no comment", path.join("."));
                out.push(Entry { path: path.join("."), default, meaning });
            }
        }
    }
    out
}

fn tables(values: &str) -> String {
    const HEAD: &str = "| value | default | meaning |\n| --- | --- | --- |\n";
    let mut out = format!("## Values\n\n{HEAD}");
    let entries = entries(values);
    let escaped = |text: &str| text.replace('|', "\\|");
    let row = |entry: &Entry| {
        let default = entry.default.as_deref().unwrap_or_default();
        format!("| `{}` | `{}` | {} |\n", entry.path, escaped(default), escaped(&entry.meaning))
    };
    let is_of_all = |entry: &&Entry| entry.default.is_some() && !entry.path.contains('.');
    out.extend(entries.iter().filter(is_of_all).map(row));
    for part in entries.iter().filter(|entry| entry.default.is_none() && !entry.path.contains('.')) {
        out += &format!("\n### {}\n\n{HEAD}", part.path);
        let below: Vec<&Entry> = entries.iter().filter(|entry| entry.path.starts_with(&format!("{}.", part.path))).collect();
        out.extend(below.iter().filter(|entry| entry.default.is_some()).map(|entry| row(entry)));
        let notes = below.iter().filter(|entry| entry.default.is_none() && !entry.meaning.is_empty());
        out.extend(notes.map(|entry| format!("\n`{}`: {}\n", entry.path, entry.meaning)));
    }
    out
}

/// `WRITE_REFERENCE=1` writes the tables (`make reference`).
#[test]
fn the_readme_of_the_chart_has_every_value() {
    let chart = read("policy-agent/deploy/chart/Chart.yaml");
    let field = |name: &str| {
        let value = chart.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).expect("a field");
        value.trim_matches('"').to_owned()
    };
    let versions = format!(
        "Version {} of the chart installs version {} of the agent. It requires Kubernetes {}.",
        field("version"),
        field("appVersion"),
        field("kubeVersion").trim_start_matches(">=").trim_end_matches("-0").to_owned() + " or later"
    );
    let values = tables(&read("policy-agent/deploy/chart/values.yaml"));
    let stored = read(README);
    let (by_hand, _) = stored.split_once(GENERATED).unwrap_or_else(|| panic!("{README} has no line `{GENERATED}`"));
    let made = format!("{by_hand}{GENERATED}\n\n{versions}\n\n{values}");
    if std::env::var_os("WRITE_REFERENCE").is_some() {
        std::fs::write(root().join(README), &made).expect("writable");
        return;
    }
    assert!(stored == made, "{README} is out of date; run `make reference`");
}

#[test]
fn values_are_read_with_their_comments() {
    let text = "# The file.\n\n# One,\n# two.\na: 1\nb:\n  # Three | four.\n  c: {d: 2}\n  # All of e.\n  e:\n    # Five.\n    f: \"\"\n";
    let made = tables(text);
    for line in [
        "| `a` | `1` | One, two. |",
        "### b",
        "| `b.c` | `{d: 2}` | Three \\| four. |",
        "| `b.e.f` | `\"\"` | Five. |",
        "`b.e`: All of e.",
    ] {
        assert!(made.lines().any(|found| found == line), "{line}: {made}");
    }
    assert!(!made.contains("The file."), "{made}");
}
