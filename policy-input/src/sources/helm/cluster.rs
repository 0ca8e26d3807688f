//! What the templates of a chart ask a cluster, which `helm template` has not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::archive;
use super::served::is_the_same_everywhere;
use crate::files::regular_content;

/// Folders in folders: charts in charts, and a link that leads back.
const DEEPEST: usize = 16;
/// Clusters have this minor version or a later one. Comparisons with it, or with an earlier one, have one result everywhere.
///
/// Source: <https://endoflife.date/kubernetes>, with a year of support by vendors.
const OLDEST: u32 = 30;
/// Kinds that decide nothing about traffic, and that charts often make only where a cluster serves them, or with what it has.
const HARMLESS: [&str; 16] = [
    "Certificate",
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "Issuer",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "PodMonitor",
    "Probe",
    "PrometheusRule",
    "Role",
    "RoleBinding",
    "Secret",
    "ServiceAccount",
    "ServiceMonitor",
    "VerticalPodAutoscaler",
];

/// What the files of a chart ask, by their paths in it.
pub type Asked = BTreeMap<String, BTreeSet<String>>;

/// What the templates of a chart, and of the charts in it, ask a cluster, except for what `api_versions` answers. At most `size` bytes of
/// a file are read.
#[must_use]
pub fn asked(chart: &Path, values: &[impl AsRef<Path>], api_versions: &[String], size: u64) -> Asked {
    let mut search = Search { answered: api_versions, size, out: Asked::new() };
    if chart.is_dir() {
        search.folder(chart, "", 0);
    } else {
        search.archive("", &content_of(chart, size), 0);
    }
    for path in values.iter().map(AsRef::as_ref) {
        search.text(&path.display().to_string(), &content_of(path, size));
    }
    search.out
}

struct Search<'a> {
    /// What is known to be served.
    answered: &'a [String],
    size: u64,
    out: Asked,
}

impl Search<'_> {
    /// A folder of a chart; `path` is its own in the outermost chart, with a slash after it.
    fn folder(&mut self, folder: &Path, path: &str, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        let mut entries: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let below = format!("{path}{}", entry.file_name().to_string_lossy());
            let at = entry.path();
            if at.is_dir() && is_searched(&below) {
                self.folder(&at, &format!("{below}/"), depth + 1);
            } else if is_chart_archive(&below) {
                self.archive(&format!("{below}/"), &content_of(&at, self.size), depth + 1);
            } else if is_template(&below) {
                self.text(&below, &content_of(&at, self.size));
            }
        }
    }

    /// An archive, decompressed; its first folder is the chart.
    fn archive(&mut self, path: &str, bytes: &[u8], depth: usize) {
        if depth > DEEPEST {
            return;
        }
        for (name, text) in archive::files(bytes) {
            let below = format!("{path}{}", name.split_once('/').map_or("", |(_, rest)| rest));
            if is_chart_archive(&below) {
                self.archive(&format!("{below}/"), &archive::decompressed(text, self.size), depth + 1);
            } else if is_template(&below) {
                self.text(&below, text);
            }
        }
    }

    fn text(&mut self, path: &str, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let mut found = questions(&text);
        found.retain(|asked| !is_the_same_everywhere(asked) && !self.answered.contains(asked));
        if !found.is_empty() && !is_harmless(&text) {
            self.out.insert(path.to_owned(), found);
        }
    }
}

fn content_of(path: &Path, size: u64) -> Vec<u8> {
    regular_content(path, size).unwrap_or_default()
}

fn is_chart_archive(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    parts.next().is_some_and(|name| name.ends_with(".tgz") || name.ends_with(".tar.gz")) && parts.next() == Some("charts")
}

/// Whether a folder is one of templates or charts, or a chart in the latter.
fn is_searched(path: &str) -> bool {
    path.split('/').rev().take(2).any(|part| part == "charts") || path.split('/').any(|part| part == "templates")
}

/// Whether a file is a template that makes objects, or has values that can be templates.
fn is_template(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_below = path.split('/').rev().skip(1).any(|part| part == "templates");
    let is_of_chart = || !path.contains('/') || path.rsplit('/').nth(2) == Some("charts");
    (is_below && name != "NOTES.txt") || (name == "values.yaml" && is_of_chart())
}

/// Whether a template can make nothing but objects that decide nothing.
fn is_harmless(text: &str) -> bool {
    let mut kinds = text.lines().filter_map(|line| line.strip_prefix("kind:")).map(str::trim).peekable();
    let is_library = actions(text).any(|action| action.contains("define"));
    !is_library && kinds.peek().is_some() && kinds.all(|kind| HARMLESS.contains(&kind))
}

/// What the actions of a template ask a cluster.
fn questions(text: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let mut versions = Versions::default();
    for action in actions(text) {
        out.extend(action.split("APIVersions").skip(1).map(api_version));
        if versions.is_open(action) {
            out.insert("`.Capabilities.KubeVersion`".to_owned());
        }
        let outside = without_strings(action);
        let words = outside.split(|c: char| !(c.is_alphanumeric() || "_.$".contains(c)));
        for word in words {
            match word.rsplit('.').next() {
                Some("lookup") if word == "lookup" => out.extend([format!("`{word}`")]),
                Some(field @ ("IsInstall" | "IsUpgrade")) => out.extend([format!("`.Release.{field}`")]),
                _ => {}
            }
        }
    }
    out
}

/// Variables that hold the version of the cluster.
#[derive(Default)]
struct Versions<'a>(Vec<&'a str>);

/// Functions whose result depends on the version in ways that are compared here.
const COMPARING: [&str; 14] = [
    "contains",
    "eq",
    "ge",
    "gt",
    "hasPrefix",
    "hasSuffix",
    "le",
    "lt",
    "mustRegexMatch",
    "ne",
    "regexMatch",
    "semver",
    "semverCompare",
    "with",
];

impl<'a> Versions<'a> {
    /// Whether what an action does with the version of the cluster is not the same in all clusters. What is only printed is.
    fn is_open(&mut self, action: &'a str) -> bool {
        let mentions = action.to_lowercase().contains("kubeversion") || words(action).any(|word| self.0.contains(&word));
        if !mentions {
            return false;
        }
        if let Some((variable, _)) = action.split_once(":=") {
            self.0.extend(words(variable).filter(|word| word.starts_with('$')));
        }
        let is_compared = words(action).any(|word| COMPARING.contains(&word));
        is_compared && !is_settled(action)
    }
}

fn words(action: &str) -> impl Iterator<Item = &str> {
    action.split(|c: char| !(c.is_alphanumeric() || "_.$".contains(c))).filter(|word| !word.is_empty())
}

/// Whether the versions that a comparison names are so old that it has one result in all clusters.
fn is_settled(action: &str) -> bool {
    let bytes = action.as_bytes();
    let mut minors = Vec::new();
    for (at, found) in action.match_indices(|c: char| c.is_ascii_digit()) {
        let before = at.checked_sub(1).and_then(|at| bytes.get(at)).copied().unwrap_or(b' ');
        // Digits in the middle of a number or of a name, and patch levels.
        if before.is_ascii_alphanumeric() && before != b'v' || "-_".contains(char::from(before)) {
            continue;
        }
        let rest = action.get(at..).unwrap_or(found);
        let number =
            |text: &str| text.get(..text.bytes().take_while(u8::is_ascii_digit).count()).and_then(|n| n.parse::<u32>().ok());
        let is_after_point = before == b'.';
        match (number(rest), rest.strip_prefix("1.").and_then(number)) {
            _ if is_after_point => {}
            (_, Some(minor)) => {
                let operator = action.get(..at).unwrap_or_default().trim_end_matches('v').trim_end();
                let after = rest.get(2..).unwrap_or_default().trim_start_matches(|c: char| c.is_ascii_digit());
                let patch = after.strip_prefix('.').and_then(number).unwrap_or_default();
                let is_simple = patch == 0 && (operator.ends_with(">=") || operator.ends_with('<'));
                minors.push((minor, is_simple));
            }
            (Some(minor), None) => minors.push((minor, false)),
            (None, None) => {}
        }
    }
    let is_old = |(minor, is_simple): &(u32, bool)| *minor < OLDEST || (*minor == OLDEST && *is_simple);
    !minors.is_empty() && minors.iter().all(is_old)
}

/// What a call asks for, from its text after `.Capabilities.APIVersions`.
fn api_version(call: &str) -> String {
    let argument = call.trim_start().strip_prefix(".Has").map(|rest| rest.trim_start_matches([' ', '\t', '\n', '(']));
    let quoted = argument.and_then(|text| ['"', '`'].into_iter().find_map(|quote| text.strip_prefix(quote)?.split_once(quote)));
    quoted.map_or_else(|| "`.Capabilities.APIVersions`".to_owned(), |(version, _)| version.to_owned())
}

/// The texts between double braces, without comments.
fn actions(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            rest = rest.split_once("{{")?.1;
            let inner = rest.trim_start_matches('-').trim_start();
            if let Some(comment) = inner.strip_prefix("/*") {
                rest = comment.split_once("*/").map_or("", |(_, after)| after);
                continue;
            }
            let (action, after) = rest.split_once("}}").unwrap_or((rest, ""));
            rest = after;
            return Some(action);
        }
    })
}

/// An action without its quoted texts.
fn without_strings(action: &str) -> String {
    let mut quote = None;
    let mut is_escaped = false;
    let is_outside = |c: &char| match quote {
        Some(_) if is_escaped => {
            is_escaped = false;
            false
        }
        Some(own) => {
            is_escaped = *c == '\\' && own == '"';
            quote = (own != *c).then_some(own);
            false
        }
        None => {
            quote = ['"', '`'].contains(c).then_some(*c);
            quote.is_none()
        }
    };
    action.chars().filter(is_outside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        questions(text).into_iter().collect()
    }

    #[test]
    fn questions_to_the_cluster_are_found_in_actions() {
        assert_eq!(found("{{- if .Capabilities.APIVersions.Has \"cilium.io/v2\" }}"), ["cilium.io/v2"]);
        assert_eq!(found("{{ if (.Capabilities.APIVersions.Has (`a.b/v1`)) }}"), ["a.b/v1"]);
        assert_eq!(found("{{ $.Capabilities.APIVersions.Has (printf \"%s\" .x) }}"), ["`.Capabilities.APIVersions`"]);
        assert_eq!(found("{{ has \"a\" $c.APIVersions }}"), ["`.Capabilities.APIVersions`"]);
        assert_eq!(found("a: {{ (lookup \"v1\" \"Secret\" .a .b).data | default (dict) }}"), ["`lookup`"]);
        assert_eq!(
            found("{{ if and .Release.IsUpgrade $.Release.IsInstall }}"),
            ["`.Release.IsInstall`", "`.Release.IsUpgrade`"]
        );
        let version = "`.Capabilities.KubeVersion`";
        assert_eq!(found("{{ if semverCompare \">=1.33-0\" .Capabilities.KubeVersion.Version }}"), [version]);
        assert_eq!(found("{{ if semverCompare \">=1.19-0 <1.34.0\" $kubeVersion.KubeVersion }}"), [version]);
        for open in [
            "{{ if lt (int .Capabilities.KubeVersion.Minor) 33 }}",
            "{{ if eq .Capabilities.KubeVersion.Minor \"32\" }}",
            "{{ $v := .Capabilities.KubeVersion.Version }}{{ if semverCompare \"<1.33-0\" $v }}",
            "{{ if semverCompare \"<1.33-0\" (include \"common.capabilities.kubeVersion\" .) }}",
            "{{ if contains \"-gke\" .Capabilities.KubeVersion.GitVersion }}",
            "{{ with .Capabilities.KubeVersion }}",
            "{{ if semverCompare (printf \">=%s\" .Values.min) .Capabilities.KubeVersion.Version }}",
            "{{ if semverCompare \"<=1.30\" .Capabilities.KubeVersion.Version }}",
            "{{ if semverCompare \"~1.30.0\" .Capabilities.KubeVersion.Version }}",
            "{{ if semverCompare \">=1.30.2\" .Capabilities.KubeVersion.Version }}",
        ] {
            assert_eq!(found(open), [version], "{open}");
        }
        for none in [
            "{{ if semverCompare \">=1.19-0\" .Capabilities.KubeVersion.GitVersion }}",
            "{{ .Capabilities.KubeVersion.Version }}",
            "{{ if semverCompare \">= v1.30.0-0\" .Capabilities.KubeVersion.Version }}",
            "{{ if ge (int .Capabilities.KubeVersion.Minor) 19 }}",
            "{{ $v := .Capabilities.KubeVersion.Version }}{{ if semverCompare \"<1.14-0\" $v }}",
            "{{ define \"common.capabilities.kubeVersion\" }}{{ default .Capabilities.KubeVersion.Version .Values.kubeVersion }}",
            "{{ semverCompare \">=1.33\" .Chart.Version }}",
            "lookup APIVersions",
            "{{/* lookup .Capabilities.APIVersions.Has \"a/v1\" */}}",
            "{{- /* lookup }} */ -}} lookup",
            "{{ fail \"lookup \\\" lookup\" }}",
            "{{ .Values.lookup }} {{ lookups }}",
        ] {
            assert_eq!(found(none), [""; 0], "{none}");
        }
    }

    #[test]
    fn a_template_of_a_harmless_kind_changes_no_answer() {
        assert!(is_harmless("{{ if lookup }}\napiVersion: v1\nkind: Secret\n{{ end }}"));
        assert!(!is_harmless("kind: Secret\n---\nkind: NetworkPolicy\n") && !is_harmless("kind: {{ .kind }}\n"));
        assert!(!is_harmless("{{ define \"a\" }}\nkind: Secret\n{{ end }}") && !is_harmless("{{ lookup }}"));
    }

    #[test]
    fn templates_of_all_charts_are_searched() {
        for yes in ["templates/a.yaml", "templates/x/_a.tpl", "charts/sub/templates/a.yaml", "charts/sub/values.yaml"] {
            assert!(is_template(yes), "{yes}");
        }
        for no in ["templates/NOTES.txt", "README.md", "ci/values.yaml", "crds/a.yaml"] {
            assert!(!is_template(no), "{no}");
        }
        assert!(["charts", "charts/a", "charts/a/templates/b"].iter().all(|path| is_searched(path)) && !is_searched("ci"));
        assert!(is_chart_archive("charts/a-1.0.tgz") && !is_chart_archive("files/a.tgz"));
    }
}
