//! Files of netpol's own in YAML, read as objects are: with places, and with a suggestion for a mistyped field.

use serde::de::DeserializeOwned;

use super::decode::decode;
use super::documents::Documents;
use super::fault::{Document, Fault};
use super::tree::Value;
use crate::diagnostic::rules::files;
use crate::diagnostic::{Diagnostic, ObjectRef, Position, Severity};

/// What a file holds.
#[derive(Debug)]
pub struct OwnFile<T> {
    /// Its documents, each with the places of the elements of one list.
    pub documents: Vec<(T, Vec<Position>)>,
    /// What is wrong with it.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a file; `list` is the field whose elements have places.
pub fn own_file<T: DeserializeOwned + Default>(file: &str, text: &str, list: &str) -> OwnFile<T> {
    let mut out = OwnFile { documents: Vec::new(), diagnostics: Vec::new() };
    for tree in Documents::new(text) {
        let tree = match tree {
            Ok(tree) => tree,
            Err(error) => {
                let message = format!("this document is not valid YAML: {}", error.message);
                out.diagnostics.push(Diagnostic::new(&files::INVALID_SYNTAX, message).in_file(file, Some(error.position)));
                continue;
            }
        };
        let (value, faults) = decode::<T>(&tree, tree.root());
        let document = Document { file, text, tree: &tree };
        let object = ObjectRef::unnamed("");
        for (path, key, first) in tree.duplicate_keys(tree.root()) {
            let name = path.rsplit('.').next().unwrap_or(&path).to_owned();
            let fault = Fault::new(&files::DUPLICATE_KEY, &path, format!("duplicate key `{name}`")).at(key);
            let fault = Fault { related: Some((first, "also here".to_owned())), ..fault.help("remove one of the keys") };
            out.diagnostics.push(document.diagnostic(Severity::Error, tree.root(), &object, fault));
        }
        out.diagnostics
            .extend(faults.0.into_iter().map(|fault| document.diagnostic(Severity::Error, tree.root(), &object, fault)));
        let items = tree.field(tree.root(), list).map(|node| tree.value(node));
        let count = if let Some(Value::Sequence(items)) = items { items.len() } else { 0 };
        let places = (0..count).map(|at| tree.position(tree.locate(tree.root(), &format!("{list}[{at}]"))));
        out.documents.push((value, places.collect()));
    }
    out
}

/// Where the texts and numbers of a YAML file stand, in bytes: what looks like a comment in them is none. Sorted.
#[must_use]
pub fn scalar_spans(text: &str) -> Vec<(usize, usize)> {
    let trees = Documents::new(text).filter_map(Result::ok);
    let mut out: Vec<(usize, usize)> =
        trees.flat_map(|tree| tree.scalars().map(|node| tree.position(node).bytes).collect::<Vec<_>>()).collect();
    out.sort_unstable();
    out
}
