//! YAML and JSON as trees with lines, as far as kustomizations, charts and the places of objects need them.
//!
//! The core reads manifests; nothing that is read here decides about traffic.

use std::collections::HashMap;

use granit_parser::{Event, Parser};

/// Deeper documents are not read.
const DEEPEST: usize = 100;
/// Larger documents are not read.
const MOST_NODES: usize = 1_000_000;

/// One node of a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Node {
    /// Its line, 1-based.
    pub line: usize,
    pub value: Value,
}

/// The content of a node. An alias of anything but a scalar is an empty text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Scalar(String),
    Sequence(Vec<Node>),
    Mapping(Vec<(String, Node)>),
}

impl Node {
    /// The value of one key of a mapping.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of one key of a mapping.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.field(name)?.scalar()
    }

    /// The text of a scalar.
    pub(super) fn scalar(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a list; none if it is something else.
    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::Sequence(items) => items,
            _ => &[],
        }
    }
}

/// A node that is not complete, with the key that the next value belongs to.
struct Open {
    node: Node,
    key: Option<String>,
}

/// The documents of a text.
///
/// # Errors
/// The message of the reader, with line and column, when the text is not YAML.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, String> {
    let mut parser = Parser::new_from_str(text);
    let mut anchors: HashMap<usize, String> = HashMap::new();
    let (mut open, mut out, mut nodes): (Vec<Open>, Vec<Node>, usize) = (Vec::new(), Vec::new(), 0);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| error.to_string())?;
        let line = span.start.line();
        nodes += 1;
        if nodes > MOST_NODES || open.len() > DEEPEST {
            return Err(format!("it has more than {DEEPEST} levels or {MOST_NODES} values"));
        }
        let done = match event {
            Event::Scalar(text, _, anchor, _) => {
                anchors.insert(anchor, text.to_string());
                Node { line, value: Value::Scalar(text.into_owned()) }
            }
            Event::Alias(anchor) => Node { line, value: Value::Scalar(anchors.get(&anchor).cloned().unwrap_or_default()) },
            Event::SequenceStart(..) => {
                open.push(Open { node: Node { line, value: Value::Sequence(Vec::new()) }, key: None });
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open { node: Node { line, value: Value::Mapping(Vec::new()) }, key: None });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(done) => done.node,
                None => continue,
            },
            _ => continue,
        };
        match open.last_mut() {
            Some(parent) => parent.take(done),
            None => out.push(done),
        }
    }
    Ok(out)
}

impl Open {
    fn take(&mut self, child: Node) {
        match &mut self.node.value {
            Value::Sequence(items) => items.push(child),
            Value::Mapping(entries) => match self.key.take() {
                Some(key) => entries.push((key, child)),
                None => self.key = Some(child.scalar().unwrap_or_default().to_owned()),
            },
            Value::Scalar(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_fields_and_lines() {
        let text = "a: 1\nb:\n- x\n- {c: &d 'y z'}\n- *d\n---\n\n{\"e\": [\"f\"]}\n";
        let found = documents(text).unwrap();
        let list = found[0].field("b").unwrap().items();
        assert_eq!(list[0].scalar(), Some("x"));
        assert_eq!((list[1].text("c"), list[1].line), (Some("y z"), 4));
        assert_eq!(list[2].scalar(), Some("y z"));
        assert_eq!(found[1].line, 8);
        assert_eq!(found[1].field("e").unwrap().items()[0].scalar(), Some("f"));
        assert!(documents("a: [1\n").unwrap_err().contains("line"));
        assert!(documents(&"[".repeat(200)).is_err());
        assert_eq!(documents("# nothing\n").unwrap(), []);
    }
}
