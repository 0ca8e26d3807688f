//! One thing wrong with an object, found while it is decoded or lowered, and the diagnostic that it becomes.

use std::fmt;

use super::tree::{NodeId, Tree};
use crate::diagnostic::{Diagnostic, Edit, ObjectRef, Place, Position, Related, Rule, Severity};

/// What would correct the text of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Correction {
    /// Another value, with the quotes that the old one has.
    Value(String),
    /// This text.
    Text(String),
    /// The same text in quotes.
    Quotes,
    /// This text before it.
    Before(String),
}

/// One thing wrong with a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    /// The rule that the field breaks.
    pub rule: &'static Rule,
    /// The field path below the object.
    pub path: String,
    /// The node to point at; `None` to find it by its path.
    pub node: Option<NodeId>,
    /// What was found and what was expected.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// What would correct the node.
    pub correction: Option<Correction>,
    /// Another node that the fault is about, and why.
    pub related: Option<(NodeId, String)>,
}

impl Fault {
    /// A fault without advice.
    pub(crate) fn new(rule: &'static Rule, path: &dyn fmt::Display, message: impl Into<String>) -> Self {
        let (path, message) = (path.to_string(), message.into());
        Self { rule, path, node: None, message, help: None, correction: None, related: None }
    }

    /// The fault, at this node.
    pub(crate) fn at(self, node: NodeId) -> Self {
        Self { node: Some(node), ..self }
    }

    /// The fault, with advice.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The fault, with what would correct it.
    pub(crate) fn correction(self, correction: Correction) -> Self {
        Self { correction: Some(correction), ..self }
    }

    /// The fault of a value that was probably meant to be another one.
    pub(crate) fn did_you_mean(self, near: Option<&str>) -> Self {
        match near {
            Some(near) => self.help(format!("did you mean `{near}`?")).correction(Correction::Value(near.to_owned())),
            None => self,
        }
    }
}

/// A document and the file that it is in.
#[derive(Clone, Copy)]
pub(crate) struct Document<'d, 's> {
    /// The file as the user named it.
    pub file: &'d str,
    /// The text of the file.
    pub text: &'s str,
    /// The document.
    pub tree: &'d Tree<'s>,
}

impl Document<'_, '_> {
    /// The diagnostic of a fault in the object at `node`.
    pub(crate) fn diagnostic(&self, severity: Severity, node: NodeId, object: &ObjectRef, fault: Fault) -> Diagnostic {
        let at = fault.node.unwrap_or_else(|| self.tree.locate(node, &fault.path));
        let position = self.tree.position(at);
        let edit = fault.correction.and_then(|correction| self.edit(&position, correction));
        let related = fault.related.map(|(node, message)| {
            let place = Place { file: self.file.to_owned(), position: Some(self.tree.position(node)) };
            Related { message, object: None, place: Some(place) }
        });
        Diagnostic {
            severity,
            object: Some(object.clone()).filter(|object| !object.kind.is_empty()),
            help: fault.help,
            related: related.into_iter().collect(),
            edit,
            ..Diagnostic::new(fault.rule, fault.message).at(fault.path).in_file(self.file, Some(position))
        }
    }

    /// The edit that makes a correction; `None` where it would take more than replacing a word.
    fn edit(&self, position: &Position, correction: Correction) -> Option<Edit> {
        let (start, end) = position.bytes;
        if let Correction::Before(text) = correction {
            return Some(Edit { file: self.file.to_owned(), bytes: (start, start), text });
        }
        let old = self.text.get(start..end).filter(|old| !old.is_empty() && !old.contains('\n'))?;
        let quote = old.chars().next().filter(|first| ['"', '\''].contains(first));
        let text = match (correction, quote) {
            (Correction::Value(value), Some(quote)) => format!("{quote}{value}{quote}"),
            (Correction::Value(text) | Correction::Text(text) | Correction::Before(text), _) => text,
            (Correction::Quotes, None) if !old.contains('\\') => format!("\"{old}\""),
            (Correction::Quotes, _) => return None,
        };
        Some(Edit { file: self.file.to_owned(), bytes: position.bytes, text })
    }
}
