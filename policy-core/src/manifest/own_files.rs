//! Files of netpol's own in YAML, read as objects are: with places, and with a suggestion for a mistyped field.

use serde::de::DeserializeOwned;

use super::decode::decode;
use super::documents::Documents;
use super::fault::Document;
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
        out.diagnostics
            .extend(faults.0.into_iter().map(|fault| document.diagnostic(Severity::Error, tree.root(), &object, fault)));
        let items = tree.field(tree.root(), list).map(|node| tree.value(node));
        let count = if let Some(Value::Sequence(items)) = items { items.len() } else { 0 };
        let places = (0..count).map(|at| tree.position(tree.locate(tree.root(), &format!("{list}[{at}]"))));
        out.documents.push((value, places.collect()));
    }
    out
}
