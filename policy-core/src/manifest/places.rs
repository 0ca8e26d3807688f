//! Where the parts of objects are written, kept after the documents are gone.
//!
//! Findings about whole clusters come after all files have been read, and point at a field path. Only what they can point at is kept: the
//! `spec` of policies, the addresses of pods, and the names of namespaces and workloads. An object takes 16 bytes, and about seven for each
//! field and list element.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::kinds::network_policy::IGNORE;
use super::tree::{NodeId, Tree, Value};
use crate::diagnostic::{ObjectRef, Place, Position};

/// The kinds of objects that are kept, and the fields of each that findings can point at.
const KEPT: [(&str, &[&[&str]]); 10] = [
    ("NetworkPolicy", &[NAME, &["metadata", "annotations", IGNORE], &["spec"]]),
    ("Pod", &[NAME, &["status", "podIP"], &["status", "podIPs"]]),
    ("Namespace", &[NAME]),
    ("CronJob", &[NAME]),
    ("DaemonSet", &[NAME]),
    ("Deployment", &[NAME]),
    ("Job", &[NAME]),
    ("ReplicaSet", &[NAME]),
    ("ReplicationController", &[NAME]),
    ("StatefulSet", &[NAME]),
];

const NAME: &[&str] = &["metadata", "name"];

/// Fields that are kept as a number.
const FIELDS: [&str; 27] = [
    "metadata",
    "name",
    "spec",
    "status",
    "podSelector",
    "policyTypes",
    "ingress",
    "egress",
    "from",
    "to",
    "ports",
    "protocol",
    "port",
    "endPort",
    "namespaceSelector",
    "matchLabels",
    "matchExpressions",
    "key",
    "operator",
    "values",
    "ipBlock",
    "cidr",
    "except",
    "podIP",
    "podIPs",
    "ip",
    "app",
];

/// Fields of fields are kept down to this depth; NetworkPolicies end before.
const DEEPEST: usize = 16;
/// Fields and list elements that are kept, aliases expanded, for each one that is written: so that a few aliases of aliases do not take the
/// memory of a large input.
const KEPT_FOR_EACH: usize = 2;

/// Nodes are kept in pieces of this size, so that none has to grow.
const PIECE: usize = 64 << 10;

/// The places of many objects, by field path.
#[derive(Debug, Default)]
pub struct Places {
    files: Vec<String>,
    /// One for each object, sorted by name once everything is read.
    records: Vec<Record>,
    /// For each object the number of its file and its root node.
    pieces: Vec<Vec<u8>>,
    /// Fields and list elements that may still be kept.
    rest: usize,
}

/// An object, and where its nodes begin.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// The hash of the object's kind and name: two names with one hash are too unlikely to matter for where a finding points.
    name: u64,
    piece: u32,
    start: u32,
}

impl Places {
    /// Makes room for the objects of a document.
    pub(crate) fn make_room(&mut self, tree: &Tree<'_>) {
        self.rest = self.rest.saturating_add(KEPT_FOR_EACH * tree.len());
    }

    /// Keeps what findings can point at in the object at `node`. Cost: linear in what is kept.
    pub(crate) fn keep(&mut self, object: &ObjectRef, file: &str, tree: &Tree<'_>, node: NodeId) {
        let Some((_, fields)) = KEPT.iter().find(|(kind, _)| *kind == object.kind) else { return };
        if self.files.last().is_none_or(|last| last != file) {
            self.files.push(file.to_owned());
        }
        let mut bytes = Vec::new();
        write_number(&mut bytes, self.files.len() - 1);
        let mut writer = Writer { tree, rest: self.rest };
        writer.node(&mut bytes, node, &Position::default(), &Wanted::Only(fields), 0);
        self.rest = writer.rest;
        if self.pieces.last().is_none_or(|last| last.capacity() - last.len() < bytes.len()) {
            self.pieces.push(Vec::with_capacity(PIECE.max(bytes.len())));
        }
        let number = self.pieces.len() - 1;
        let Some(piece) = self.pieces.last_mut() else { return };
        // Neither is ever that large: four billion pieces would be 256 TiB, and the first object of a piece begins at 0.
        let (Ok(number), Ok(start)) = (u32::try_from(number), u32::try_from(piece.len())) else { return };
        piece.append(&mut bytes);
        self.records.push(Record { name: hash(object), piece: number, start });
    }

    /// Makes objects ready to be found. Of several objects of one name, the last one counts.
    pub(crate) fn finish(&mut self) {
        self.records.sort_by_key(|record| record.name);
        self.records.dedup_by(|later, kept| {
            let is_same = later.name == kept.name;
            if is_same {
                *kept = *later;
            }
            is_same
        });
        self.records.shrink_to_fit();
    }

    /// The place of a field, or of the last field on the way to it that exists; `None` if nothing is kept of the object.
    #[must_use]
    pub fn nearest(&self, object: &ObjectRef, path: &str) -> Option<Place> {
        self.find(object, path).map(|(place, _)| place)
    }

    /// The place of a field; `None` if it is not written.
    #[must_use]
    pub fn exact(&self, object: &ObjectRef, path: &str) -> Option<Place> {
        self.find(object, path).and_then(|(place, is_exact)| is_exact.then_some(place))
    }

    fn find(&self, object: &ObjectRef, path: &str) -> Option<(Place, bool)> {
        let name = hash(object);
        let at = self.records.binary_search_by_key(&name, |record| record.name).ok()?;
        let record = self.records.get(at)?;
        let piece = self.pieces.get(record.piece as usize)?;
        let mut reader = Reader { bytes: piece.get(record.start as usize..)? };
        let file = self.files.get(reader.number())?.clone();
        let (position, is_exact) = reader.find(path);
        Some((Place { file, position: Some(position) }, is_exact))
    }
}

fn hash(object: &ObjectRef) -> u64 {
    let mut hasher = DefaultHasher::new();
    object.hash(&mut hasher);
    hasher.finish()
}

/// Which fields of a mapping are kept.
enum Wanted<'w> {
    Everything,
    /// The fields that these paths begin with, and below them what the rest of the paths says.
    Only(&'w [&'w [&'w str]]),
}

struct Writer<'t, 's> {
    tree: &'t Tree<'s>,
    rest: usize,
}

impl Writer<'_, '_> {
    /// Writes a node: its position relative to the node above, the length of what is below, and that.
    fn node(&mut self, out: &mut Vec<u8>, node: NodeId, above: &Position, wanted: &Wanted<'_>, depth: usize) {
        let at = self.tree.position(node);
        // An alias leads back to an earlier place.
        write_difference(out, above.line as usize, at.line as usize);
        write_number(out, at.column as usize);
        write_difference(out, above.bytes.0, at.bytes.0);
        let length = at.bytes.1.saturating_sub(at.bytes.0) << 1;
        let mut below = Vec::new();
        self.rest = self.rest.saturating_sub(1);
        if depth < DEEPEST && self.rest > 0 {
            self.below(&mut below, node, &at, wanted, depth + 1);
        }
        // The lowest bit says whether anything is below.
        if below.is_empty() {
            write_number(out, length);
        } else {
            write_number(out, length | 1);
            write_number(out, below.len());
            out.append(&mut below);
        }
    }

    fn below(&mut self, out: &mut Vec<u8>, node: NodeId, at: &Position, wanted: &Wanted<'_>, depth: usize) {
        match self.tree.value(node) {
            Value::Sequence(items) => {
                for item in items {
                    write_number(out, 0);
                    self.node(out, *item, at, &Wanted::Everything, depth);
                }
            }
            Value::Mapping(_) => {
                for (name, _, value) in self.tree.entries(node) {
                    let rests: Vec<&[&str]>;
                    let wanted = match wanted {
                        Wanted::Everything => Wanted::Everything,
                        Wanted::Only(paths) => {
                            let starts = paths.iter().filter_map(|path| path.split_first());
                            rests = starts.filter(|(first, _)| **first == name).map(|(_, rest)| rest).collect();
                            match rests.as_slice() {
                                [] => continue,
                                rests if rests.iter().any(|rest| rest.is_empty()) => Wanted::Everything,
                                rests => Wanted::Only(rests),
                            }
                        }
                    };
                    match FIELDS.iter().position(|field| *field == name) {
                        Some(number) => write_number(out, number + 1),
                        None => {
                            write_number(out, FIELDS.len() + 1);
                            write_number(out, name.len());
                            out.extend(name.as_bytes());
                        }
                    }
                    self.node(out, value, at, &wanted, depth);
                }
            }
            Value::Scalar { .. } | Value::Alias(_) => {}
        }
    }
}

/// Seven bits to a byte, the lowest first; the highest bit of a byte says that more follow.
fn write_number(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// The sign in the lowest bit.
fn write_difference(out: &mut Vec<u8>, from: usize, to: usize) {
    if to >= from { write_number(out, (to - from) << 1) } else { write_number(out, ((from - to) << 1) | 1) }
}

/// A node on the way of a path: its position, what is below it, and the rest of the path.
type Step<'b, 'p> = (Position, Reader<'b>, &'p [u8]);

/// Reads what [`Writer`] wrote. Past the end there are zeros.
struct Reader<'b> {
    bytes: &'b [u8],
}

impl<'b> Reader<'b> {
    fn number(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        while let Some((first, rest)) = self.bytes.split_first() {
            self.bytes = rest;
            value |= usize::from(first & 0x7f) << shift;
            shift += 7;
            if first & 0x80 == 0 || shift >= usize::BITS {
                break;
            }
        }
        value
    }

    fn difference(&mut self, from: usize) -> usize {
        let value = self.number();
        if value & 1 == 0 { from.saturating_add(value >> 1) } else { from.saturating_sub(value >> 1) }
    }

    fn take(&mut self, length: usize) -> &'b [u8] {
        let (taken, rest) = self.bytes.split_at(length.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    fn text(&mut self) -> &'b [u8] {
        let length = self.number();
        self.take(length)
    }

    /// The position of the next node, and what is below it.
    fn node(&mut self, above: &Position) -> (Position, Self) {
        let line = u32::try_from(self.difference(above.line as usize)).unwrap_or(u32::MAX);
        let column = u32::try_from(self.number()).unwrap_or(u32::MAX);
        let start = self.difference(above.bytes.0);
        let length = self.number();
        let end = start.saturating_add(length >> 1);
        let below = if length & 1 == 1 { self.text() } else { &[] };
        (Position { line, column, bytes: (start, end) }, Self { bytes: below })
    }

    /// The name of the next field; `None` before a list element.
    fn field(&mut self) -> Option<&'b [u8]> {
        match self.number() {
            0 => None,
            number if number > FIELDS.len() => Some(self.text()),
            number => FIELDS.get(number - 1).map(|field| field.as_bytes()),
        }
    }

    /// The position that a path leads to below the next node, or of the last node on the way; and whether the path ends there.
    fn find(mut self, path: &str) -> (Position, bool) {
        let (mut at, mut below) = self.node(&Position::default());
        let mut path = path.as_bytes();
        while !path.is_empty() {
            match below.step(&at, path) {
                Some((position, inner, rest)) => (at, below, path) = (position, inner, rest),
                None => return (at, false),
            }
        }
        (at, true)
    }

    /// The field or element of these nodes that a path begins with. Keys of labels hold dots, so the longest one that fits counts.
    fn step<'p>(&mut self, above: &Position, path: &'p [u8]) -> Option<Step<'b, 'p>> {
        let (mut found, mut number): (Option<Step<'b, 'p>>, usize) = (None, 0);
        while !self.bytes.is_empty() {
            let field = self.field();
            let (position, below) = self.node(above);
            let rest = match field {
                Some(name) => path.strip_prefix(name).filter(|rest| matches!(rest.first(), None | Some(b'.' | b'['))),
                None => path.strip_prefix(format!("[{number}]").as_bytes()),
            };
            number += 1;
            let rest = rest.map(|rest| rest.strip_prefix(b".").unwrap_or(rest));
            if let Some(rest) = rest
                && found.as_ref().is_none_or(|(_, _, before)| rest.len() < before.len())
            {
                found = Some((position, below, rest));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::documents::Documents;
    use super::*;

    fn kept(text: &str) -> Places {
        let mut places = Places::default();
        for tree in Documents::new(text) {
            let tree = tree.unwrap();
            places.make_room(&tree);
            places.keep(&object(), "a.yaml", &tree, tree.root());
        }
        places.finish();
        places
    }

    fn object() -> ObjectRef {
        ObjectRef::namespaced("NetworkPolicy", "x", "p")
    }

    /// The text of a field.
    fn shown<'t>(text: &'t str, places: &Places, path: &str) -> Option<&'t str> {
        let place = places.exact(&object(), path)?;
        let at = place.position.unwrap();
        let before = text.get(..at.bytes.0).unwrap();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        assert_eq!((at.line as usize, at.column as usize), (line, column), "{path}");
        text.get(at.bytes.0..at.bytes.1)
    }

    const POLICY: &str = "\
metadata: {name: p, labels: {a: b}}
spec:
  podSelector:
    matchLabels: {app.kubernetes.io/name: é, app: web, app.kubernetes.io: x}
  ingress:
  - from: [{podSelector: {}}]
  - ports: &ports
    - port: 80
    - {port: http, protocol: TCP}
  egress:
  - ports: *ports
";

    #[test]
    fn every_field_of_a_spec_is_found() {
        let places = kept(POLICY);
        for (path, text) in [
            ("metadata.name", "p"),
            ("spec.podSelector.matchLabels.app", "web"),
            ("spec.podSelector.matchLabels.app.kubernetes.io/name", "é"),
            ("spec.podSelector.matchLabels.app.kubernetes.io", "x"),
            ("spec.ingress[0].from[0].podSelector", "{}"),
            ("spec.ingress[1].ports[0].port", "80"),
            ("spec.ingress[1].ports[1]", "{port: http, protocol: TCP}"),
            ("spec.ingress[1].ports[1].port", "http"),
            ("spec.egress[0].ports", "*ports"),
            ("spec.egress[0].ports[1].port", "http"),
        ] {
            assert_eq!(shown(POLICY, &places, path), Some(text), "{path}");
        }
        assert_eq!(shown(POLICY, &places, "metadata.labels"), None, "nothing can point there");
        assert_eq!(shown(POLICY, &places, "spec.ingress[2]"), None);
        let near = places.nearest(&object(), "spec.ingress[1].ports[7].port").unwrap();
        assert_eq!(near.position.unwrap().line, 8, "the list");
        assert_eq!(places.nearest(&ObjectRef::namespaced("NetworkPolicy", "x", "q"), "spec"), None);
    }

    #[test]
    fn the_last_object_of_a_name_counts() {
        let text = format!("{POLICY}---\nspec: {{podSelector: {{}}}}\n---\nspec: {{podSelector:    {{ }}}}\n");
        let places = kept(&text);
        assert_eq!(shown(&text, &places, "spec.podSelector"), Some("{ }"));
        assert_eq!(shown(&text, &places, "spec.ingress"), None);
    }

    #[test]
    fn aliases_that_multiply_end() {
        let mut text = String::from("spec:\n- &a0 [x]\n");
        for i in 1..12 {
            text.push_str(&format!("- &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", ")));
        }
        // Ten times over: what is kept grows with what is written.
        let text = vec![text; 10].join("---\n");
        let places = kept(&text);
        assert!(places.pieces.iter().map(Vec::len).sum::<usize>() < 16 * text.len());
        let itself = kept("spec: &s {a: *s}\n");
        assert!(itself.exact(&object(), "spec.a.a.a").is_some());
    }
}
