//! One YAML or JSON document as a tree that remembers where everything stands.
//!
//! The event reader resolves syntax; a [`Builder`] makes an arena of nodes with positions from its events. Aliases stay references, so a
//! document never takes more memory than its text is worth. `documents` finds the documents of a text.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, ScalarStyle, Span};
use rustc_hash::FxHashSet;

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
    signs: Signs,
}

/// What a document holds that no Kubernetes object does.
#[derive(Clone, Copy, Default)]
struct Signs {
    /// The first mapping that has a mapping or a list as a key, and the key.
    collection_key: Option<(NodeId, NodeId)>,
    /// Whether a key begins with `$`.
    has_dollar_key: bool,
}

/// Where in its text a reader began.
#[derive(Clone, Copy, Default)]
pub(super) struct Start {
    /// Bytes before it.
    pub bytes: usize,
    /// Lines before it.
    pub lines: usize,
    /// Characters before it in its first line.
    pub columns: usize,
}

impl Start {
    /// The position of a mark of the reader; `length` is in bytes.
    pub(super) fn position(self, mark: &granit_parser::Marker, length: usize) -> Position {
        let at = self.bytes + mark.byte_offset().unwrap_or(0);
        let column = mark.col() + if mark.line() == 1 { self.columns } else { 0 };
        Position { line: small(self.lines + mark.line()), column: small(column + 1), bytes: (at, at + length) }
    }
}

fn small(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Makes a tree from the events of one document.
#[derive(Default)]
pub(super) struct Builder<'s> {
    start: Start,
    nodes: Vec<Node<'s>>,
    root: Option<NodeId>,
    signs: Signs,
    /// Open collections; a mapping waits for a value when its key is here.
    open: Vec<(NodeId, Option<NodeId>)>,
    anchors: HashMap<usize, NodeId>,
    /// Where the last node with text has ended.
    end: usize,
}

impl<'s> Builder<'s> {
    /// For events whose spans count from `start`.
    pub(super) fn new(start: Start) -> Self {
        Self { start, ..Self::default() }
    }

    /// Whether no node has been taken.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The tree of all events; `None` without a node.
    pub(super) fn finish(self) -> Option<Tree<'s>> {
        Some(Tree { root: self.root?, nodes: self.nodes, signs: self.signs })
    }

    /// Takes the next event.
    pub(super) fn take(&mut self, event: Event<'s>, span: &Span) {
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
        let bracket = span.byte_range().filter(|range| !range.is_empty()).map(|range| self.start.bytes + range.end);
        self.end = bracket.unwrap_or(self.end);
        if let Some(node) = self.nodes.get_mut(id) {
            node.bytes.1 = self.end.max(node.bytes.1);
        }
    }

    fn add(&mut self, value: Value<'s>, span: &Span, anchor: usize) -> NodeId {
        let id = self.nodes.len();
        let length = span.byte_range().map_or(0, |range| range.len());
        let Position { line, column, bytes } = self.start.position(&span.start, length);
        if length > 0 {
            self.end = bytes.1;
        }
        self.nodes.push(Node { value, line, column, bytes });
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        match self.open.last_mut() {
            None => self.root = Some(id),
            Some((parent, key)) => match self.nodes.get_mut(*parent).map(|n| &mut n.value) {
                Some(Value::Sequence(items)) => items.push(id),
                Some(Value::Mapping(entries)) => match key.take() {
                    Some(key) => entries.push((key, id)),
                    None => {
                        *key = Some(id);
                        let parent = *parent;
                        self.note_key(parent, id);
                    }
                },
                _ => {}
            },
        }
        id
    }

    fn note_key(&mut self, mapping: NodeId, key: NodeId) {
        match self.nodes.get(key).map(|node| &node.value) {
            Some(Value::Mapping(_) | Value::Sequence(_)) => {
                self.signs.collection_key = self.signs.collection_key.or(Some((mapping, key)))
            }
            Some(Value::Scalar { text, .. }) => self.signs.has_dollar_key |= text.starts_with('$'),
            _ => {}
        }
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

    /// The first mapping that has a mapping or a list as a key, which no Kubernetes object has, and the key.
    pub(crate) fn collection_key(&self) -> Option<(NodeId, NodeId)> {
        self.signs.collection_key
    }

    /// Whether a key begins with `$`.
    pub(crate) fn has_dollar_key(&self) -> bool {
        self.signs.has_dollar_key
    }

    /// The entries of a mapping as they are written: duplicate keys and merge keys included. Empty for anything else.
    pub(crate) fn written_entries(&self, id: NodeId) -> impl Iterator<Item = (Cow<'_, str>, NodeId, NodeId)> {
        let entries = if let Value::Mapping(entries) = self.value(id) { entries.as_slice() } else { &[] };
        entries.iter().filter_map(|(key, value)| Some((self.key(*key)?, *key, *value)))
    }

    /// How many nodes there are; each alias is one.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the node is an alias.
    pub(crate) fn is_alias(&self, id: NodeId) -> bool {
        matches!(self.node(id).value, Value::Alias(_))
    }

    /// Nodes and those below them, each once, however many aliases lead to it. The order is not specified.
    ///
    /// Cost: linear in the document.
    pub(crate) fn descendants(&self, start: impl IntoIterator<Item = NodeId>) -> impl Iterator<Item = NodeId> {
        let (mut todo, mut seen) = (start.into_iter().collect::<Vec<_>>(), FxHashSet::default());
        std::iter::from_fn(move || {
            loop {
                let node = todo.pop()?;
                let target = if let Value::Alias(target) = &self.node(node).value { *target } else { node };
                if !seen.insert(target) {
                    continue;
                }
                match self.value(target) {
                    Value::Mapping(entries) => todo.extend(entries.iter().flat_map(|(key, value)| [*key, *value])),
                    Value::Sequence(items) => todo.extend(items),
                    Value::Scalar { .. } | Value::Alias(_) => {}
                }
                return Some(target);
            }
        })
    }

    /// Every text and number, keys included.
    pub(crate) fn scalars(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().enumerate().filter(|(_, node)| matches!(node.value, Value::Scalar { .. })).map(|(id, _)| id)
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

    /// The value of one key of a mapping, as [`Self::entries`] has it.
    pub(crate) fn field(&self, id: NodeId, name: &str) -> Option<NodeId> {
        let Value::Mapping(entries) = self.value(id) else { return None };
        let is_it = |key: NodeId| !self.is_merge(key) && self.key(key).is_some_and(|key| key == name);
        match entries.iter().rev().find(|(key, _)| is_it(*key)) {
            Some((_, value)) => Some(*value),
            None if entries.iter().any(|(key, _)| self.is_merge(*key)) => {
                self.entries(id).into_iter().find(|(n, ..)| n == name).map(|(_, _, value)| value)
            }
            None => None,
        }
    }

    /// Whether a field of fields has a value that is not null, an empty list or an empty mapping.
    pub(crate) fn has_field(&self, id: NodeId, path: &[&str]) -> bool {
        let found = path.iter().try_fold(id, |at, name| self.field(at, name));
        found.is_some_and(|node| match self.value(node) {
            Value::Sequence(items) => !items.is_empty(),
            Value::Mapping(entries) => !entries.is_empty(),
            _ => !self.is_null(node),
        })
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

    /// Keys that occur more than once in this mapping, as (name, key node, node of the first such key).
    pub(crate) fn repeated_keys(&self, id: NodeId) -> Vec<(String, NodeId, NodeId)> {
        let mut seen = HashMap::new();
        let mut out = Vec::new();
        for (name, key, _) in self.written_entries(id).filter(|(_, key, _)| !self.is_merge(*key)) {
            let first = *seen.entry(name.clone()).or_insert(key);
            if first != key {
                out.push((name.into_owned(), key, first));
            }
        }
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
    use super::super::documents::Documents;
    use super::*;

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
        let text = "a:\n  b: [1, {c: 2} ]  # no\n  d:\n  - e: 3\n  - f: \"4\"\n\n# end\ng: {}\nh:\n- i:\n  j: [{k: 5}]\nl: x\n";
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
        assert_eq!(shown("h[0]"), Some("i:\n  j: [{k: 5}]"));
        assert_eq!(shown(""), Some(text.trim_end()));
    }

    #[test]
    fn self_referring_anchors_end() {
        let tree = Documents::new("a: &x {b: *x}\n").next().unwrap().unwrap();
        assert!(tree.duplicate_keys(tree.root()).is_empty());
    }
}
