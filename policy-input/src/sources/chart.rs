//! What a Helm chart is made of.
//!
//! Source: <https://helm.sh/docs/topics/charts/#the-chart-file-structure>.

use std::path::{Path, PathBuf};

use super::document::documents;

/// The file that makes a folder a chart.
const FILE: &str = "Chart.yaml";
/// The folders of a chart whose files are no plain manifests.
const FOLDERS: [&str; 3] = ["templates", "crds", "charts"];

/// A Helm chart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chart {
    /// Its folder, as it was found.
    pub folder: PathBuf,
    /// Whether it can be rendered; a library chart only serves other charts.
    pub is_application: bool,
}

/// Whether a folder is a chart.
#[must_use]
pub fn is_chart(folder: &Path) -> bool {
    folder.join(FILE).is_file()
}

/// Whether a file makes its folder a chart, by its name.
#[must_use]
pub fn is_chart_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == FILE)
}

/// What the text of a `Chart.yaml` says of the chart in a folder; one that cannot be read is left to helm.
pub(super) fn read(folder: PathBuf, text: &str) -> Chart {
    let documents = documents(text).unwrap_or_default();
    let is_library = documents.first().and_then(|root| root.text("type")) == Some("library");
    Chart { folder, is_application: !is_library }
}

/// Whether a file of a chart's folder is a part of the chart and no manifest; `path` is relative to the folder.
pub(super) fn is_part(path: &Path) -> bool {
    let mut parts = path.components().map(|part| part.as_os_str().to_string_lossy());
    let Some(first) = parts.next() else { return false };
    let is_below = parts.next().is_some();
    FOLDERS.contains(&first.as_ref())
        || (!is_below && (first == FILE || first == "requirements.yaml" || first.starts_with("values")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_and_values_are_parts_of_a_chart() {
        for part in [
            "Chart.yaml",
            "values.yaml",
            "values-prod.yml",
            "values.schema.json",
            "templates/a.yaml",
            "charts",
            "charts/sub/Chart.yaml",
            "crds/x/y.yaml",
        ] {
            assert!(is_part(Path::new(part)), "{part}");
        }
        for other in ["deny.yaml", "ci/deny.yaml", "examples/values.yaml"] {
            assert!(!is_part(Path::new(other)), "{other}");
        }
        assert!(!read(PathBuf::new(), "name: a\ntype: library\n").is_application);
        assert!(read(PathBuf::new(), "name: a\n").is_application);
    }
}
