//! Where the objects that a program printed come from.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::document::{Node, documents};

/// The annotation with which kustomize names the file of an object.
const ANNOTATION: &str = "config.kubernetes.io/origin:";
/// The comment with which helm names the template of an object.
const COMMENT: &str = "# Source: ";

/// What a program printed, and where its objects come from.
#[derive(Debug, Default)]
pub struct Rendered {
    /// The manifests, as YAML.
    pub text: Vec<u8>,
    /// The objects, by the line on which they begin.
    pub(super) parts: Vec<Part>,
}

/// The object that begins on a line of the output.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Part {
    /// Its first line, 1-based.
    pub line: usize,
    pub object: Object,
    pub origin: Option<Source>,
}

/// The file that an object comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// The line on which the object begins in it, 1-based; 0 if that is not known.
    pub line: u32,
}

/// The name of an object, as it is printed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Object {
    pub kind: String,
    pub namespace: String,
    pub name: String,
}

impl Rendered {
    /// Where the object at a line of the output comes from.
    #[must_use]
    pub fn source(&self, line: u32) -> Option<&Source> {
        let after = self.parts.partition_point(|part| part.line <= line as usize);
        self.parts.get(after.checked_sub(1)?)?.origin.as_ref()
    }

    /// The files that objects come from, each once.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        let mut files: Vec<&Path> = self.parts.iter().filter_map(|part| part.origin.as_ref()).map(|o| o.file.as_path()).collect();
        files.sort_unstable();
        files.dedup();
        files
    }
}

/// The objects in the output of kustomize, which has one form for all input: the fields of objects begin lines, and those of their
/// metadata are indented by two.
pub(super) fn kustomize_parts(text: &str) -> Vec<(Part, Option<String>)> {
    let mut out = vec![(Part { line: 1, ..Part::default() }, None)];
    let (mut is_metadata, mut is_origin) = (false, false);
    for (number, line) in text.lines().enumerate() {
        let Some((part, origin)) = out.last_mut() else { break };
        let value = |key: &str| line.strip_prefix(key).map(|value| unquoted(value.trim()));
        if line == "---" {
            out.push((Part { line: number + 2, ..Part::default() }, None));
            (is_metadata, is_origin) = (false, false);
            continue;
        }
        if is_origin && let Some(path) = value("      path: ") {
            *origin = Some(path);
        } else if !line.starts_with(' ') {
            is_metadata = line == "metadata:";
        }
        if let Some(kind) = value("kind: ") {
            part.object.kind = kind;
        }
        if is_metadata {
            if let Some(name) = value("  name: ") {
                part.object.name = name;
            }
            if let Some(namespace) = value("  namespace: ") {
                part.object.namespace = namespace;
            }
        }
        is_origin = is_metadata && (line.trim_start().starts_with(ANNOTATION) || (is_origin && line.starts_with("      ")));
    }
    out
}

/// The objects in the output of helm, each below a comment with its template; `folder` is that of the chart.
pub(super) fn helm_parts(text: &str, folder: &Path) -> Vec<Part> {
    let mut out = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some(path) = line.strip_prefix(COMMENT) else { continue };
        // The name of the chart stands in place of its folder.
        let path: PathBuf = Path::new(path.trim()).components().skip(1).collect();
        let origin = Some(Source { file: folder.join(path), line: 0 });
        out.push(Part { line: number + 1, object: Object::default(), origin });
    }
    out
}

fn unquoted(text: &str) -> String {
    let inner = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    inner.unwrap_or(text).to_owned()
}

/// The lines of the objects of one file.
pub(super) struct Lines {
    objects: Vec<(String, String, u32)>,
}

impl Lines {
    /// The objects of a text, and of the lists in it.
    pub(super) fn of(text: &str) -> Self {
        let mut objects = Vec::new();
        for document in documents(text).unwrap_or_default() {
            Self::add(&document, &mut objects);
        }
        Self { objects }
    }

    fn add(object: &Node, out: &mut Vec<(String, String, u32)>) {
        let items = object.field("items").map(Node::items).unwrap_or_default();
        items.iter().for_each(|item| Self::add(item, out));
        let name = object.field("metadata").and_then(|metadata| metadata.text("name"));
        if let (Some(kind), Some(name)) = (object.text("kind"), name) {
            out.push((kind.to_owned(), name.to_owned(), u32::try_from(object.line).unwrap_or(0)));
        }
    }

    /// The line of an object, whose name may have got a prefix and a suffix; 0 if several objects or none can be meant.
    pub(super) fn line(&self, object: &Object) -> u32 {
        let of_kind = || self.objects.iter().filter(|(kind, ..)| *kind == object.kind);
        let mut exact = of_kind().filter(|(_, name, _)| *name == object.name);
        let mut renamed = of_kind().filter(|(_, name, _)| object.name.contains(name.as_str()));
        match (exact.next(), exact.next(), renamed.next(), renamed.next()) {
            (Some((_, _, line)), None, ..) | (None, _, Some((_, _, line)), None) => *line,
            _ => 0,
        }
    }
}

/// Joins what a build printed with the origins that a second build of the same objects printed.
pub(super) fn joined(
    parts: Vec<(Part, Option<String>)>,
    origins: &HashMap<Object, String>,
    resolve: impl Fn(&str) -> Option<PathBuf>,
) -> Vec<Part> {
    let mut lines: HashMap<PathBuf, Lines> = HashMap::new();
    let with_origin = |(part, own): (Part, Option<String>)| {
        let Some(file) = own.or_else(|| origins.get(&part.object).cloned()).and_then(|path| resolve(&path)) else { return part };
        let known = lines.entry(file.clone()).or_insert_with(|| Lines::of(&std::fs::read_to_string(&file).unwrap_or_default()));
        let line = known.line(&part.object);
        Part { origin: Some(Source { file, line }), ..part }
    };
    parts.into_iter().map(with_origin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_kustomize_have_their_origins() {
        let text = "apiVersion: v1\nkind: ConfigMap\ndata:\n  name: other\nmetadata:\n  annotations:\n    config.kubernetes.io/origin: |\n      path: ../base/a.yaml\n  name: \"1\"\n  namespace: x\n---\nkind: Namespace\nmetadata:\n  name: y\n";
        let found = kustomize_parts(text);
        let object = Object { kind: "ConfigMap".into(), namespace: "x".into(), name: "1".into() };
        assert_eq!(found[0], (Part { line: 1, object, origin: None }, Some("../base/a.yaml".into())));
        let object = Object { kind: "Namespace".into(), namespace: String::new(), name: "y".into() };
        assert_eq!(found[1], (Part { line: 12, object, origin: None }, None));
    }

    #[test]
    fn a_line_belongs_to_the_object_above_it() {
        let text = "---\n# Source: shop/templates/a.yaml\nkind: A\n---\n# Source: shop/charts/sub/templates/b.yaml\nkind: B\n";
        let rendered = Rendered { text: Vec::new(), parts: helm_parts(text, Path::new("charts/shop")) };
        assert_eq!(rendered.source(1), None);
        let file = |line| rendered.source(line).map(|origin| origin.file.to_string_lossy().into_owned());
        assert_eq!(file(3).as_deref(), Some("charts/shop/templates/a.yaml"));
        assert_eq!(file(6).as_deref(), Some("charts/shop/charts/sub/templates/b.yaml"));
        assert_eq!(rendered.files().len(), 2);
    }

    #[test]
    fn a_renamed_object_is_found_unless_two_can_be_meant() {
        let text = "kind: A\nmetadata: {name: web}\n---\nkind: A\nmetadata: {name: db}\n---\nkind: A\nmetadata: {name: b}\n---\nkind: List\nitems:\n- kind: B\n  metadata: {name: web}\n";
        let lines = Lines::of(text);
        let line =
            |kind: &str, name: &str| lines.line(&Object { kind: kind.into(), namespace: String::new(), name: name.into() });
        assert_eq!((line("A", "web"), line("A", "db"), line("B", "prod-web")), (1, 4, 12));
        assert_eq!((line("A", "prod-db"), line("A", "none")), (0, 0));
    }
}
