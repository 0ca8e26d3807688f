//! Cases as data: a Markdown file with a sentence of prose, manifests, and tables of what must come out.
//!
//! A file holds one or more *sections*, each a `yaml` block and a table; a heading of the second level names a section. The
//! header of a table says what it is: `from | to | port | verdict | why | policy` for verdicts, `severity | kind | path` for
//! faults, and `question | verdict | caveat` for questions by name, which only the command line answers. A line `Options: …` before the first section, or in one, sets `legacy` (CIDRs), `invalid` (the manifests have
//! faults, and verdicts show that these fail closed), `update` (the
//! first document is what is stored, the rest updates it) or `no-fixture`. The fixture is `fixture.yaml`, and an object of the
//! same name in a case replaces the fixture's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use granit_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// One file.
#[derive(Debug)]
pub struct Case {
    /// The file.
    pub path: PathBuf,
    /// The rows of the specification that it covers, such as `C64`.
    pub rows: Vec<String>,
    /// What stands between the title and the first section.
    pub prose: String,
    /// In the order of the file: states of one cluster, or unrelated inputs.
    pub sections: Vec<Section>,
}

/// One input and what must come out.
#[derive(Debug, Default, Clone)]
pub struct Section {
    /// The heading; empty for a file with one section.
    pub name: String,
    /// The manifests.
    pub yaml: String,
    /// `legacy`, `invalid`, `no-fixture`.
    pub options: BTreeSet<String>,
    /// The cells of the table, header included.
    pub table: Vec<Vec<String>>,
}

/// Reads every case of a folder, sorted by file name.
///
/// # Panics
/// When a file cannot be read or is no case.
#[must_use]
pub fn read_all(folder: &Path) -> Vec<Case> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> =
        entries.map(|e| e.expect("an entry").path()).filter(|p| p.extension().is_some_and(|e| e == "md")).collect();
    paths.sort();
    paths.into_iter().map(|path| read(&path)).collect()
}

/// Reads one case.
///
/// # Panics
/// When the file cannot be read or is no case.
#[must_use]
pub fn read(path: &Path) -> Case {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut lines = text.lines();
    let title = lines.next().and_then(|l| l.strip_prefix("# ")).unwrap_or_else(|| panic!("{}: no title", path.display()));
    let (ids, _) = title.split_once(':').unwrap_or_else(|| panic!("{}: the title names no row", path.display()));
    let rows = ids.split(',').map(|id| id.trim().to_owned()).collect();
    let mut prose = String::new();
    let mut options: BTreeSet<String> = BTreeSet::new();
    let mut sections: Vec<Section> = Vec::new();
    let mut current = Section::default();
    let mut in_yaml = false;
    for line in lines {
        if in_yaml {
            if line == "```" {
                in_yaml = false;
            } else {
                current.yaml.push_str(line);
                current.yaml.push('\n');
            }
        } else if let Some(name) = line.strip_prefix("## ") {
            finish(&mut sections, std::mem::take(&mut current));
            name.clone_into(&mut current.name);
        } else if line == "```yaml" {
            in_yaml = true;
        } else if let Some(list) = line.strip_prefix("Options: ") {
            let list = list.trim_end_matches('.').split(',').map(|o| o.trim().to_owned());
            if current.name.is_empty() { options.extend(list) } else { current.options.extend(list) }
        } else if line.starts_with('|') {
            let cells: Vec<String> = line.trim_matches('|').split('|').map(|c| c.trim().trim_matches('`').to_owned()).collect();
            if !cells.iter().all(|c| c.starts_with("---")) {
                current.table.push(cells);
            }
        } else if sections.is_empty() && current.name.is_empty() {
            prose.push_str(line);
        }
    }
    finish(&mut sections, current);
    for section in &mut sections {
        section.options.extend(options.iter().cloned());
        assert!(section.table.len() > 1, "{}: section `{}` expects nothing", path.display(), section.name);
    }
    assert!(!sections.is_empty() && prose.contains(' '), "{}: a case has prose and sections", path.display());
    Case { path: path.to_owned(), rows, prose, sections }
}

fn finish(sections: &mut Vec<Section>, section: Section) {
    if !section.table.is_empty() {
        sections.push(section);
    }
}

/// Parses manifests for the oracle: events to JSON, with only the plain scalars that the cases use. Not the loader.
///
/// # Panics
/// When the text is not YAML.
#[must_use]
pub fn to_json(yaml: &str) -> Vec<Value> {
    let mut documents = Vec::new();
    let mut open: Vec<(Value, Option<String>)> = Vec::new();
    for event in Parser::new_from_str(yaml) {
        let (event, span) = event.expect("valid YAML");
        let value = match event {
            Event::Scalar(text, style, ..) => {
                let text = if span.is_empty() && style == ScalarStyle::Plain { "null".into() } else { text };
                // A scalar in the place of a key is text.
                match open.last_mut() {
                    Some((Value::Object(_), key @ None)) => {
                        *key = Some(text.into_owned());
                        continue;
                    }
                    _ if style == ScalarStyle::Plain => plain(&text),
                    _ => Value::String(text.into_owned()),
                }
            }
            Event::MappingStart(..) => {
                open.push((Value::Object(Map::new()), None));
                continue;
            }
            Event::SequenceStart(..) => {
                open.push((Value::Array(Vec::new()), None));
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => open.pop().expect("an open collection").0,
            _ => continue,
        };
        match open.last_mut() {
            None => documents.push(value),
            Some((Value::Object(map), key)) => drop(map.insert(key.take().expect("a key"), value)),
            Some((Value::Array(items), _)) => items.push(value),
            Some(_) => unreachable!("only collections are open"),
        }
    }
    documents
}

fn plain(text: &str) -> Value {
    match text {
        "null" | "~" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => text.parse::<i64>().map_or_else(|_| Value::String(text.to_owned()), Value::from),
    }
}

/// Objects without those that a later object of the same kind and name replaces.
#[must_use]
pub fn latest(objects: Vec<Value>) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::new();
    for object in objects {
        out.retain(|o| name(o) != name(&object));
        out.push(object);
    }
    out
}

/// Kind, namespace and name.
fn name(object: &Value) -> [String; 3] {
    ["/kind", "/metadata/namespace", "/metadata/name"]
        .map(|pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned())
}

/// Where the cases are.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

/// Whether a section's table is one of verdicts, and not one of faults.
#[must_use]
pub fn is_verdicts(section: &Section) -> bool {
    section.table[0][0] == "from"
}

/// Whether a section's table is one of questions by name.
#[must_use]
pub fn is_questions(section: &Section) -> bool {
    section.table[0][0] == "question"
}

/// The manifests of a section with what they leave of the fixture before them.
///
/// # Panics
/// When the fixture cannot be read.
#[must_use]
pub fn manifests(section: &Section) -> String {
    if section.options.contains("no-fixture") {
        return section.yaml.clone();
    }
    let fixture = std::fs::read_to_string(folder().join("fixture.yaml")).expect("the fixture");
    let own: Vec<_> = to_json(&section.yaml).iter().map(name).filter(|[kind, ..]| !kind.is_empty()).collect();
    let is_left = |document: &&str| to_json(document).iter().all(|object| !own.contains(&name(object)));
    let left: Vec<&str> = fixture.split_inclusive("\n---\n").filter(is_left).collect();
    format!("{}\n---\n{}", left.concat().trim_end_matches("---\n"), section.yaml)
}
