//! YAML and JSON documents as trees that remember where everything stands.
//!
//! The event reader resolves syntax; this module keeps one document at a time as an arena of nodes with positions. Aliases
//! stay references, so a document never takes more memory than its text is worth.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::scalar::{self, Scalar};
use crate::diagnostic::Position;

/// The index of a node in its tree.
pub(crate) type NodeId = usize;

/// One node of a document.
pub(crate) struct Node<'s> {
    /// What it is.
    pub value: Value<'s>,
    line: u32,
    column: u32,
    bytes: (usize, usize),
}

/// The content of a node.
pub(crate) enum Value<'s> {
    /// A scalar; plain ones are resolved by YAML 1.1, quoted ones are text.
    Scalar {
        /// The text after escapes.
        text: Cow<'s, str>,
        /// Whether it is neither quoted, nor a block, nor tagged `!!str`.
        is_plain: bool,
    },
    /// A list.
    Sequence(Vec<NodeId>),
    /// A mapping in document order, duplicate keys included.
    Mapping(Vec<(NodeId, NodeId)>),
    /// Another node of the same document.
    Alias(NodeId),
}

/// One document.
pub(crate) struct Tree<'s> {
    nodes: Vec<Node<'s>>,
    root: NodeId,
}

/// A syntax error.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    /// What the reader met.
    pub message: String,
    /// Where.
    pub position: Position,
}

/// Reads the documents of a text one after the other.
pub(crate) struct Documents<'s> {
    text: &'s str,
    parser: Parser<'s, granit_parser::StrInput<'s>>,
    /// What the parser began with: bytes and lines before it.
    start: (usize, usize),
    is_done: bool,
}

impl<'s> Documents<'s> {
    /// The documents of `text`.
    pub(crate) fn new(text: &'s str) -> Self {
        Self { text, parser: Parser::new_from_str(text), start: (0, 0), is_done: false }
    }

    /// JSON objects may follow each other without a mark between them, as kubectl takes them: begins again at such an object.
    fn begin_again(&mut self, error: &granit_parser::ScanError) -> bool {
        let mark = error.marker();
        let at = self.start.0 + mark.byte_offset().unwrap_or(0);
        let rest = self.text.get(at..).unwrap_or_default();
        if at <= self.start.0 || mark.col() != 0 || !rest.starts_with('{') {
            return false;
        }
        self.start = (at, self.start.1 + mark.line() - 1);
        self.parser = Parser::new_from_str(rest);
        true
    }

    fn fail(&mut self, error: &granit_parser::ScanError) -> SyntaxError {
        let mark = *error.marker();
        self.is_done = !matches!(self.parser.proceed_next_document(), Ok(true));
        let at = self.start.0 + mark.byte_offset().unwrap_or(0);
        // The reader ends its message with the place, which the diagnostic says already.
        let text = error.to_string();
        let message = text.split(" at char ").next().unwrap_or(&text).to_owned();
        SyntaxError {
            message,
            position: Position { line: small(self.start.1 + mark.line()), column: small(mark.col() + 1), bytes: (at, at + 1) },
        }
    }
}

impl<'s> Iterator for Documents<'s> {
    /// A document, or why it has none; reading goes on with the next one.
    type Item = Result<Tree<'s>, SyntaxError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut builder = Builder { start: self.start, ..Builder::default() };
        while !self.is_done {
            match self.parser.next_event() {
                None => self.is_done = true,
                Some(Err(error)) if builder.nodes.is_empty() && self.begin_again(&error) => builder.start = self.start,
                Some(Err(error)) => return Some(Err(self.fail(&error))),
                Some(Ok((Event::DocumentEnd, _))) => {
                    if let Some(root) = builder.root {
                        return Some(Ok(Tree { nodes: builder.nodes, root }));
                    }
                }
                Some(Ok((event, span))) => builder.take(event, &span),
            }
        }
        None
    }
}

fn small(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[derive(Default)]
struct Builder<'s> {
    /// Bytes and lines before the text that spans count from.
    start: (usize, usize),
    nodes: Vec<Node<'s>>,
    root: Option<NodeId>,
    /// Open collections; a mapping waits for a value when its key is here.
    open: Vec<(NodeId, Option<NodeId>)>,
    anchors: HashMap<usize, NodeId>,
}

impl<'s> Builder<'s> {
    fn take(&mut self, event: Event<'s>, span: &Span) {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.is_some_and(|t| t.core_suffix() == Some("str"));
                let is_plain = style == ScalarStyle::Plain && !is_text;
                // The reader writes an absent node as a plain `~` of no width.
                let text = if span.is_empty() && style == ScalarStyle::Plain { Cow::Borrowed("") } else { text };
                self.add(Value::Scalar { text, is_plain }, span, anchor);
            }
            Event::SequenceStart(_, anchor, _) => {
                let id = self.add(Value::Sequence(Vec::new()), span, anchor);
                self.open.push((id, None));
            }
            Event::MappingStart(_, anchor, _) => {
                let id = self.add(Value::Mapping(Vec::new()), span, anchor);
                self.open.push((id, None));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some((id, _)) = self.open.pop() {
                    self.close(id, span);
                }
            }
            Event::Alias(anchor) => {
                if let Some(target) = self.anchors.get(&anchor).copied() {
                    self.add(Value::Alias(target), span, 0);
                }
            }
            _ => {}
        }
    }

    /// A collection ends with its bracket, or in block style with the last node in it.
    fn close(&mut self, id: NodeId, span: &Span) {
        let bracket = span.byte_range().filter(|range| !range.is_empty()).map(|range| self.start.0 + range.end);
        let inside = self.nodes.get(id + 1..).unwrap_or_default();
        let last = || inside.iter().rev().map(|node| node.bytes.1).find(|end| *end > 0);
        let end = bracket.or_else(last);
        if let Some(node) = self.nodes.get_mut(id) {
            node.bytes.1 = end.unwrap_or_default().max(node.bytes.1);
        }
    }

    fn add(&mut self, value: Value<'s>, span: &Span, anchor: usize) -> NodeId {
        let id = self.nodes.len();
        let (first, last) = span.byte_range().map_or((0, 0), |r| (r.start, r.end));
        let bytes = (self.start.0 + first, self.start.0 + last);
        let line = small(self.start.1 + span.start.line());
        self.nodes.push(Node { value, line, column: small(span.start.col() + 1), bytes });
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        match self.open.last_mut() {
            None => self.root = Some(id),
            Some((parent, key)) => match self.nodes.get_mut(*parent).map(|n| &mut n.value) {
                Some(Value::Sequence(items)) => items.push(id),
                Some(Value::Mapping(entries)) => match key.take() {
                    Some(key) => entries.push((key, id)),
                    None => *key = Some(id),
                },
                _ => {}
            },
        }
        id
    }
}

impl<'s> Tree<'s> {
    /// The top node.
    pub(crate) fn root(&self) -> NodeId {
        self.root
    }

    #[expect(clippy::indexing_slicing, reason = "ids are made by the builder of this tree and never leave it")]
    fn node(&self, id: NodeId) -> &Node<'s> {
        &self.nodes[id]
    }

    /// The value of a node, through at most one alias (an alias never refers to an alias).
    pub(crate) fn value(&self, id: NodeId) -> &Value<'s> {
        match &self.node(id).value {
            Value::Alias(target) => &self.node(*target).value,
            value => value,
        }
    }

    /// How many nodes there are; each alias is one.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the node is an alias.
    pub(crate) fn is_alias(&self, id: NodeId) -> bool {
        matches!(self.node(id).value, Value::Alias(_))
    }

    /// Where the node stands.
    pub(crate) fn position(&self, id: NodeId) -> Position {
        let node = self.node(id);
        Position { line: node.line, column: node.column, bytes: node.bytes }
    }

    /// The node as a resolved scalar, or `None` for a collection.
    pub(crate) fn scalar(&self, id: NodeId) -> Option<Scalar<'_>> {
        match self.value(id) {
            Value::Scalar { text, is_plain: true } => Some(scalar::resolve(text)),
            Value::Scalar { text, .. } => Some(Scalar::Text(text)),
            _ => None,
        }
    }

    /// Whether the node is null.
    pub(crate) fn is_null(&self, id: NodeId) -> bool {
        self.scalar(id) == Some(Scalar::Null)
    }

    /// A mapping key as the JSON that kubectl makes of it: plain booleans and numbers become text.
    pub(crate) fn key(&self, id: NodeId) -> Option<Cow<'_, str>> {
        Some(match (self.scalar(id)?, self.value(id)) {
            (Scalar::Bool(value), _) => Cow::Borrowed(if value { "true" } else { "false" }),
            (Scalar::Int(value), _) => Cow::Owned(value.to_string()),
            (Scalar::Text(text), _) => Cow::Borrowed(text),
            (_, Value::Scalar { text, .. }) => Cow::Borrowed(text.as_ref()),
            _ => return None,
        })
    }

    /// The entries of a mapping in document order with merge keys (`<<`) expanded; of duplicate keys the last one counts.
    /// Empty for anything else.
    pub(crate) fn entries(&self, id: NodeId) -> Vec<(Cow<'_, str>, NodeId, NodeId)> {
        let Value::Mapping(entries) = self.value(id) else { return Vec::new() };
        let mut out: Vec<(Cow<'_, str>, NodeId, NodeId)> = Vec::with_capacity(entries.len());
        let mut merged = Vec::new();
        for (key, value) in entries {
            let Some(name) = self.key(*key) else { continue };
            if self.is_merge(*key) {
                merged.push(*value);
            } else {
                out.push((name, *key, *value));
            }
        }
        for source in merged {
            let sources = match self.value(source) {
                Value::Sequence(items) => items.as_slice(),
                _ => std::slice::from_ref(&source),
            };
            // A merged key yields to whatever stands before it in the result, so it goes to the front.
            for source in sources {
                if let Value::Mapping(entries) = self.value(*source) {
                    let inherited = entries.iter().filter(|(key, _)| !self.is_merge(*key));
                    let inherited = inherited.filter_map(|(key, value)| Some((self.key(*key)?, *key, *value)));
                    out.splice(0..0, inherited);
                }
            }
        }
        let mut last = HashMap::with_capacity(out.len());
        for (i, (name, ..)) in out.iter().enumerate() {
            last.insert(name.clone(), i);
        }
        let mut index = 0;
        out.retain(|(name, ..)| {
            let is_last = last.get(name) == Some(&index);
            index += 1;
            is_last
        });
        out
    }

    fn is_merge(&self, key: NodeId) -> bool {
        matches!(self.value(key), Value::Scalar { text, is_plain: true } if text == "<<")
    }

    /// The value of one key of a mapping.
    pub(crate) fn field(&self, id: NodeId, name: &str) -> Option<NodeId> {
        self.entries(id).into_iter().find(|(n, ..)| n == name).map(|(_, _, value)| value)
    }

    /// The text of one key of a mapping, when it is a scalar that is text.
    pub(crate) fn text(&self, id: NodeId, name: &str) -> Option<&str> {
        match self.scalar(self.field(id, name)?)? {
            Scalar::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Keys that occur more than once in one mapping, anywhere below `id`, as (path, key node, node of the first such key).
    pub(crate) fn duplicate_keys(&self, id: NodeId) -> Vec<(String, NodeId, NodeId)> {
        let mut out = Vec::new();
        let mut todo = vec![(None, id)];
        let mut trail: Vec<(Option<usize>, Cow<'_, str>)> = Vec::new();
        while let Some((parent, id)) = todo.pop() {
            if self.is_alias(id) {
                continue;
            }
            match self.value(id) {
                Value::Sequence(items) => {
                    for (i, item) in items.iter().enumerate().filter(|(_, item)| self.scalar(**item).is_none()) {
                        trail.push((parent, Cow::Owned(format!("[{i}]"))));
                        todo.push((Some(trail.len() - 1), *item));
                    }
                }
                Value::Mapping(entries) => {
                    let mut seen = HashMap::with_capacity(entries.len());
                    for (key, value) in entries {
                        let Some(name) = self.key(*key) else { continue };
                        if !self.is_merge(*key) {
                            let first = *seen.entry(name.clone()).or_insert(*key);
                            if first != *key {
                                out.push((trail_text(&trail, parent, &name), *key, first));
                            }
                        }
                        if self.scalar(*value).is_none() {
                            trail.push((parent, name));
                            todo.push((Some(trail.len() - 1), *value));
                        }
                    }
                }
                Value::Scalar { .. } | Value::Alias(_) => {}
            }
        }
        out.sort_by_key(|(_, key, _)| *key);
        out
    }

    /// The node that a field path leads to, or the last one on the way that exists.
    pub(crate) fn locate(&self, from: NodeId, path: &str) -> NodeId {
        let mut at = from;
        for step in path.split(['.', '[']) {
            let next = match step.strip_suffix(']').and_then(|i| i.parse::<usize>().ok()) {
                Some(index) => match self.value(at) {
                    Value::Sequence(items) => items.get(index).copied(),
                    _ => None,
                },
                None => self.field(at, step),
            };
            match next {
                Some(node) => at = node,
                None => break,
            }
        }
        at
    }
}

fn trail_text(trail: &[(Option<usize>, Cow<'_, str>)], parent: Option<usize>, last: &str) -> String {
    let mut steps = vec![last];
    let mut at = parent.and_then(|i| trail.get(i));
    while let Some((parent, step)) = at {
        steps.push(step);
        at = parent.and_then(|i| trail.get(i));
    }
    let mut out = String::new();
    for step in steps.into_iter().rev() {
        if !out.is_empty() && !step.starts_with('[') {
            out.push('.');
        }
        out.push_str(step);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_goes_on_after_a_broken_document() {
        let text = "a: [1\n---\nb: 2\n---\n c: 3\n d: 4\n";
        let documents: Vec<_> = Documents::new(text).collect();
        assert!(documents[0].is_err());
        let second = documents[1].as_ref().unwrap();
        assert_eq!(second.scalar(second.field(second.root(), "b").unwrap()), Some(Scalar::Int(2)));
        assert_eq!(documents.len(), 3);
    }

    #[test]
    fn json_objects_may_follow_each_other() {
        let text = "{\"a\": 1}\n\n{\n  \"b\": [2]\n}\n{\"c\": 3}\n";
        let documents: Vec<_> = Documents::new(text).collect();
        let second = documents[1].as_ref().unwrap();
        let at = second.position(second.locate(second.root(), "b[0]"));
        assert_eq!((at.line, at.column), (4, 9));
        assert_eq!(text.get(at.bytes.0..at.bytes.1), Some("2"));
        let third = documents[2].as_ref().unwrap();
        assert_eq!(third.scalar(third.field(third.root(), "c").unwrap()), Some(Scalar::Int(3)));
        assert_eq!(documents.len(), 3);
        let broken: Vec<_> = Documents::new("{\"a\": 1}\n{\"b\": [}\n").collect();
        assert!(broken.last().unwrap().as_ref().is_err_and(|e| e.position.line == 2));
    }

    #[test]
    fn merge_keys_yield_to_explicit_ones() {
        let tree = Documents::new("base: &b {x: 1, z: 2}\nuse: {<<: *b, z: 3}\n").next().unwrap().unwrap();
        let used = tree.field(tree.root(), "use").unwrap();
        assert_eq!(tree.scalar(tree.field(used, "x").unwrap()), Some(Scalar::Int(1)));
        assert_eq!(tree.scalar(tree.field(used, "z").unwrap()), Some(Scalar::Int(3)));
    }

    #[test]
    fn positions_are_one_based_and_count_characters() {
        let tree = Documents::new("é: [a, {b: 1}]").next().unwrap().unwrap();
        let at = tree.position(tree.locate(tree.root(), "é[1].b"));
        assert_eq!((at.line, at.column), (1, 12));
    }

    #[test]
    fn collections_end_with_their_bracket_or_their_last_node() {
        let text = "a:\n  b: [1, {c: 2} ]  # no\n  d:\n  - e: 3\n  - f: \"4\"\n\n# end\ng: {}\n";
        let tree = Documents::new(text).next().unwrap().unwrap();
        let shown = |path: &str| {
            let at = tree.position(tree.locate(tree.root(), path)).bytes;
            text.get(at.0..at.1)
        };
        assert_eq!(shown("a.b"), Some("[1, {c: 2} ]"));
        assert_eq!(shown("a.b[1]"), Some("{c: 2}"));
        // A list in block style begins with its first element.
        assert_eq!(shown("a.d"), Some("e: 3\n  - f: \"4\""));
        assert_eq!(shown("a.d[1]"), Some("f: \"4\""));
        assert_eq!(shown("g"), Some("{}"));
        assert_eq!(shown(""), Some(text.trim_end()));
    }

    #[test]
    fn self_referring_anchors_end() {
        let tree = Documents::new("a: &x {b: *x}\n").next().unwrap().unwrap();
        assert!(tree.duplicate_keys(tree.root()).is_empty());
    }
}
