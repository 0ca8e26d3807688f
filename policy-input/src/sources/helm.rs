//! What `helm template` prints for a chart.
//!
//! - `archive`: the files of the archive of a chart.
//! - [`cluster`]: what templates ask a cluster.
//! - `served`: what every API server serves.

mod archive;
pub mod cluster;
mod served;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::program::{Failure, Limits, Program, first};
use super::rendered::{Rendered, helm_parts};

/// A chart, and what it is rendered with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Release {
    /// The folder of the chart, or its archive.
    pub chart: PathBuf,
    /// Files with values, the later ones first in effect.
    pub values: Vec<PathBuf>,
    /// Values, as `key=value`.
    pub set: Vec<String>,
    /// What the cluster serves besides the API of Kubernetes, as `group/version` or `group/version/Kind`.
    pub api_versions: Vec<String>,
    /// The name of the release; that of helm if there is none.
    pub name: Option<String>,
    /// The namespace of the release.
    pub namespace: Option<String>,
}

/// The manifests of a chart. Nothing is fetched; dependencies must be in its folder `charts`.
///
/// # Errors
/// When the chart or a file of values is not there, or when it cannot be rendered.
pub fn template(release: &Release, limits: Limits) -> Result<Rendered, Failure> {
    // helm would take another path for the name of a chart in a repository, and values for a URL.
    if !release.chart.is_file() && !super::is_chart(&release.chart) {
        return Err(Failure::Refused("it has no `Chart.yaml`".to_owned()));
    }
    if let Some(missing) = release.values.iter().find(|path| !path.is_file()) {
        return Err(Failure::Refused(format!("the values file `{}` does not exist", missing.display())));
    }
    let text = first(&[Program { name: "helm", arguments: arguments(release) }], limits)?;
    let parts = helm_parts(&String::from_utf8_lossy(&text), &release.chart);
    Ok(Rendered { text, parts })
}

fn arguments(release: &Release) -> Vec<OsString> {
    let mut arguments = vec![OsString::from("template")];
    arguments.extend(release.namespace.iter().map(|name| format!("--namespace={name}").into()));
    arguments.extend(release.values.iter().map(|path| values(path)));
    arguments.extend(release.set.iter().map(|set| format!("--set={set}").into()));
    let api_versions: Vec<String> = served::api_versions().chain(release.api_versions.iter().cloned()).collect();
    arguments.push(format!("--api-versions={}", api_versions.join(",")).into());
    arguments.push("--".into());
    arguments.extend(release.name.iter().map(Into::into));
    // A path that begins with a name could be one of a repository.
    arguments.push(if release.chart.is_absolute() { release.chart.clone() } else { Path::new(".").join(&release.chart) }.into());
    arguments
}

/// helm reads a list of paths in CSV.
fn values(path: &Path) -> OsString {
    let mut option = OsString::from("--values=");
    match path.to_str().filter(|text| text.contains([',', '"', '\n'])) {
        Some(text) => option.push(format!("\"{}\"", text.replace('"', "\"\""))),
        None => option.push(path),
    }
    option
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_values_are_no_options() {
        let release = Release {
            chart: "-chart".into(),
            values: vec!["-v.yaml".into(), "a,b.yaml".into()],
            set: vec!["a=b c".to_owned()],
            api_versions: vec!["cilium.io/v2".to_owned()],
            name: Some("-name".to_owned()),
            namespace: Some("shop".to_owned()),
        };
        let mut found = arguments(&release);
        let api_versions = found.remove(5).into_string().unwrap();
        assert!(api_versions.starts_with("--api-versions=v1,v1/Binding,") && api_versions.ends_with(",cilium.io/v2"));
        assert!(api_versions.contains(",networking.k8s.io/v1/NetworkPolicy,"));
        let expected = [
            "template",
            "--namespace=shop",
            "--values=-v.yaml",
            "--values=\"a,b.yaml\"",
            "--set=a=b c",
            "--",
            "-name",
            "./-chart",
        ];
        assert_eq!(found, expected.map(OsString::from));
    }

    #[test]
    fn what_is_not_there_is_refused_before_helm_runs() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { time: std::time::Duration::from_secs(20), size: 1 << 20 };
        let release = Release { chart: folder.path().to_owned(), ..Release::default() };
        assert!(matches!(template(&release, limits), Err(Failure::Refused(text)) if text.contains("Chart.yaml")));
        std::fs::write(folder.path().join("Chart.yaml"), "name: a\n").unwrap();
        let release = Release { values: vec!["https://example.com/values.yaml".into()], ..release };
        assert!(matches!(template(&release, limits), Err(Failure::Refused(text)) if text.contains("example.com")));
    }
}
