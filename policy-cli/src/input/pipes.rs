//! What to install or to pipe where a source cannot be rendered here.

use std::collections::BTreeSet;
use std::fmt::{Display, Formatter};

use policy_input::sources::Failure;
use policy_input::sources::helm::Release;
use policy_input::sources::helm::cluster::asked;

use crate::output::names::first;

/// Files that are listed; the others are counted.
const MOST_FILES: usize = 10;

/// A kustomization or a chart that was not rendered.
#[derive(Debug)]
pub(crate) struct NotRendered {
    what: String,
    why: String,
    /// What to do.
    help: Option<String>,
}

impl Display for NotRendered {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {}: {}", self.what, self.why)?;
        self.help.iter().try_for_each(|help| write!(f, "; {help}"))
    }
}

impl NotRendered {
    /// Why, and what to do, of what is named elsewhere.
    pub(crate) fn in_one_line(&self) -> String {
        let why = self.why.lines().next().unwrap_or_default();
        self.help.as_ref().map_or_else(|| why.to_owned(), |help| format!("{why}; {help}"))
    }
}

impl std::error::Error for NotRendered {}

/// The error about a kustomization.
pub(super) fn of_kustomization(name: &str, namespace: Option<&str>, failure: &Failure) -> NotRendered {
    let piped = |command: &str| piped(&format!("{command} {}", path(name)), namespace);
    let help = match failure {
        Failure::Failed(_, text) if text.contains("enable-helm") => {
            Some(format!("netpol runs no plugins, so pipe it: {}", piped("kustomize build --enable-helm")))
        }
        Failure::Missing(_) => {
            Some(format!("install one of them, or build it elsewhere, and pipe it: {}", piped("kubectl kustomize")))
        }
        Failure::Remote(..) => Some(format!("build it where the network is, and pipe it: {}", piped("kubectl kustomize"))),
        _ => None,
    };
    NotRendered { what: format!("build the kustomization `{name}`"), why: failure.to_string(), help }
}

/// The error about a chart.
pub(super) fn of_chart(name: &str, release: &Release, failure: &Failure) -> NotRendered {
    let help = match failure {
        Failure::Failed(_, text) if text.contains("missing in charts/") => {
            Some(format!("run `helm dependency build {}` first", path(name)))
        }
        Failure::Missing(_) => {
            let line = piped(&helm(name, release), release.namespace.as_deref());
            Some(format!("install it, or render the chart elsewhere, and pipe it: {line}"))
        }
        _ => None,
    };
    NotRendered { what: format!("render the Helm chart `{name}`"), why: failure.to_string(), help }
}

/// What a chart asks a cluster, in a sentence.
pub(super) fn without_cluster(name: &str, release: &Release, size: u64) -> Option<String> {
    let asked = asked(&release.chart, &release.values, &release.api_versions, size);
    let is_version = |question: &String| !question.starts_with('`');
    let help = if asked.values().flatten().any(is_version) { "; --api-versions states what it serves" } else { "" };
    let question = |(file, questions): (&String, &BTreeSet<String>)| {
        format!("{file} ({})", questions.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
    };
    let files: Vec<String> = asked.iter().map(question).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    (!files.is_empty()).then(|| {
        let files = first(&files, MOST_FILES);
        format!("the chart `{name}` was rendered without a cluster, and what it makes depends on one{help}: {files}")
    })
}

/// The line that renders a chart as it is asked for.
fn helm(name: &str, release: &Release) -> String {
    let mut words = vec!["helm template".to_owned()];
    words.extend(release.name.iter().map(|name| word(name)));
    words.push(path(name));
    words.extend(release.namespace.iter().map(|namespace| format!("-n {}", word(namespace))));
    words.extend(release.values.iter().map(|values| format!("--values {}", path(&super::shown(values)))));
    words.extend(release.set.iter().map(|set| format!("--set {}", word(set))));
    words.extend(release.api_versions.iter().map(|version| format!("--api-versions {}", word(version))));
    words.join(" ")
}

/// The line that reads what a command prints; objects without a namespace get that of the question.
fn piped(command: &str, namespace: Option<&str>) -> String {
    let namespace = namespace.map_or_else(String::new, |namespace| format!(" -n {}", word(namespace)));
    format!("{command} | netpol …{namespace} -f -")
}

/// A path as a word of a shell, which is no option.
fn path(path: &str) -> String {
    if path.starts_with('-') { word(&format!("./{path}")) } else { word(path) }
}

/// A text as a word of a shell.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@%:,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_pipe_is_the_whole_question() {
        let release = Release {
            chart: "a chart".into(),
            values: vec!["v.yaml".into(), "-w.yaml".into()],
            set: vec!["a=it's".to_owned()],
            api_versions: vec!["cilium.io/v2".to_owned()],
            name: Some("mail".to_owned()),
            namespace: Some("shop".to_owned()),
        };
        let shown = of_chart("a chart", &release, &Failure::Missing(vec!["helm"])).to_string();
        let line = "helm template mail 'a chart' -n shop --values v.yaml --values ./-w.yaml --set 'a=it'\\''s' --api-versions cilium.io/v2 | netpol … -n shop -f -";
        assert!(
            shown.ends_with(&format!("`helm` is not installed; install it, or render the chart elsewhere, and pipe it: {line}")),
            "{shown}"
        );
        let shown = of_kustomization("-k", None, &Failure::Missing(vec!["kustomize", "kubectl"])).to_string();
        assert!(shown.ends_with("pipe it: kubectl kustomize ./-k | netpol … -f -"), "{shown}");
    }
}
