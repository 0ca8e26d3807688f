//! What a kustomization refers to.
//!
//! Source: the fields of <https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/>.

use std::path::{Path, PathBuf};

use super::document::{Node, Value, documents};

/// The names that kustomize looks for in a folder.
const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// The fields that name files and folders, themselves or in the fields [`PATHS`] of their elements.
const FIELDS: [&str; 16] = [
    "resources",
    "bases",
    "components",
    "patches",
    "patchesStrategicMerge",
    "patchesJson6902",
    "configMapGenerator",
    "secretGenerator",
    "crds",
    "openapi",
    "configurations",
    "generators",
    "transformers",
    "validators",
    "replacements",
    "helmCharts",
];
/// The fields that name a file or a folder in an element of one of [`FIELDS`].
const PATHS: [&str; 6] = ["path", "files", "env", "envs", "valuesFile", "additionalValuesFiles"];
/// The fields whose elements can be fetched from elsewhere.
const REMOTE: [&str; 3] = ["resources", "bases", "components"];

/// What is read of a kustomization.
#[derive(Debug, Default)]
pub(super) struct Kustomization {
    /// Whether it only changes what other kustomizations read: `kind: Component`.
    pub is_component: bool,
    /// The files and folders that it refers to, as written.
    pub refers: Vec<String>,
    /// The resources, bases and components of them, which can be remote.
    pub resources: Vec<String>,
    /// Whether its output names the file of each object.
    pub has_origins: bool,
}

/// Whether kustomize reads a file of this name as the kustomization of its folder.
pub(super) fn is_kustomization_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| NAMES.iter().any(|known| name == *known))
}

/// The kustomization file of a folder.
pub(super) fn file_of(folder: &Path) -> Option<PathBuf> {
    NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

impl Kustomization {
    /// What a text says; `None` when it is an object of another tool that has the same kind, such as a Kustomization of Flux.
    ///
    /// # Errors
    /// When it is not YAML.
    pub(super) fn read(text: &str) -> Result<Option<Self>, String> {
        let documents = documents(text)?;
        let Some(root) = documents.first() else { return Ok(Some(Self::default())) };
        let is_other = |version: &str| !version.is_empty() && !version.starts_with("kustomize.config.k8s.io/");
        if root.text("apiVersion").is_some_and(is_other) {
            return Ok(None);
        }
        let mut found = Self {
            is_component: root.text("kind") == Some("Component"),
            has_origins: texts(root, "buildMetadata").any(|option| option == "originAnnotations"),
            ..Self::default()
        };
        for name in FIELDS {
            let Some(field) = root.field(name) else { continue };
            collect(field, &mut found.refers);
        }
        found.refers.extend(root.field("helmGlobals").and_then(|globals| globals.text("chartHome")).map(str::to_owned));
        found.resources = REMOTE.iter().flat_map(|name| texts(root, name)).map(str::to_owned).collect();
        Ok(Some(found))
    }
}

/// The texts in the list of a field.
fn texts<'n>(root: &'n Node, name: &str) -> impl Iterator<Item = &'n str> {
    root.field(name).map(Node::items).unwrap_or_default().iter().filter_map(Node::scalar)
}

/// The paths in a field: a scalar, the elements of a list, and those of [`PATHS`] in mappings.
fn collect(node: &Node, out: &mut Vec<String>) {
    match &node.value {
        Value::Scalar(text) => out.push(text.clone()),
        Value::Sequence(items) => items.iter().for_each(|item| collect(item, out)),
        Value::Mapping(entries) => {
            for (_, value) in entries.iter().filter(|(key, _)| PATHS.contains(&key.as_str())) {
                let from = out.len();
                collect(value, out);
                // `files: [key=path]`
                for text in out.iter_mut().skip(from) {
                    if let Some((_, path)) = text.split_once('=') {
                        *text = path.to_owned();
                    }
                }
            }
        }
    }
}

/// Whether a resource that is no local file is fetched from a server or from a repository, as kustomize takes it.
pub(super) fn is_remote(resource: &str) -> bool {
    let host = resource.split('/').next().unwrap_or_default();
    resource.contains("://")
        || resource.contains("?ref=")
        || resource.contains("?version=")
        || resource.starts_with("git::")
        || resource.contains("_git/")
        || (host.contains('@') && host.contains(':'))
        || ["github.com", "gitlab.com", "bitbucket.org"]
            .iter()
            .any(|known| host == *known || host.starts_with(&format!("{known}:")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Kustomization {
        Kustomization::read(text).unwrap().unwrap()
    }

    #[test]
    fn every_field_that_names_a_file_is_read() {
        let text = "kind: Kustomization
namespace: not-a-file
resources: [../base, a.yaml]
bases: [b]
components: [c]
patches:
- {path: p1.yaml, target: {kind: Deployment, name: not-a-file}}
- patch: |-
    - {op: replace, path: /not-a-file, value: 1}
- p2.yaml
patchesStrategicMerge: [p3.yaml]
patchesJson6902: [{path: p4.yaml, target: {kind: X, name: not-a-file}}]
configMapGenerator: [{name: not-a-file, files: [f1, key=f2], envs: [f3], literals: [a=not-a-file]}]
secretGenerator: [{name: s, env: f4}]
crds: [crd.yaml]
openapi: {path: schema.json}
configurations: [conf.yaml]
generators: [g.yaml]
transformers: [t.yaml]
validators: [v.yaml]
replacements: [{path: r.yaml}, {source: {kind: A, name: not-a-file}}]
helmCharts: [{name: not-a-file, valuesFile: values.yaml, additionalValuesFiles: [more.yaml]}]
helmGlobals: {chartHome: charts}
buildMetadata: [originAnnotations]
";
        let mut found = read(text).refers;
        found.sort();
        let mut expected = vec![
            "../base",
            "a.yaml",
            "b",
            "c",
            "p1.yaml",
            "p2.yaml",
            "p3.yaml",
            "p4.yaml",
            "f1",
            "f2",
            "f3",
            "f4",
            "crd.yaml",
            "schema.json",
            "conf.yaml",
            "g.yaml",
            "t.yaml",
            "v.yaml",
            "r.yaml",
            "values.yaml",
            "more.yaml",
            "charts",
        ];
        expected.sort_unstable();
        assert_eq!(found, expected);
        assert!(read(text).has_origins && !read(text).is_component);
        assert!(read("kind: Component\n").is_component);
        assert_eq!(read(text).resources, ["../base", "a.yaml", "b", "c"]);
    }

    #[test]
    fn a_kustomization_of_another_tool_is_an_object() {
        let flux =
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: apps}\nspec: {path: ./apps}\n";
        assert!(Kustomization::read(flux).unwrap().is_none());
        assert!(Kustomization::read("apiVersion: kustomize.config.k8s.io/v1beta1\n").unwrap().is_some());
        assert!(Kustomization::read("").unwrap().is_some());
        assert!(Kustomization::read("resources: [a\n").is_err());
    }

    #[test]
    fn remote_resources_are_recognised() {
        for remote in [
            "https://example.com/a.yaml",
            "ssh://git@example.com/a/b",
            "git@github.com:org/repo//base?ref=v1",
            "github.com/org/repo//base",
            "github.com/org/repo?ref=main",
            "example.com/org/repo//base?ref=v1",
            "git::https://example.com/a",
            "github.com:org/repo",
            "file:///srv/repo",
        ] {
            assert!(is_remote(remote), "{remote}");
        }
        for local in ["../base", "a.yaml", "team@home/a.yaml", "github.com.yaml", "./x"] {
            assert!(!is_remote(local), "{local}");
        }
    }
}
