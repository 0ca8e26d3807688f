//! Decodes a tree into wire structs through serde, and goes on after faults.
//!
//! serde stops at the first error. Here the node at fault is reported and set aside, and the object is decoded again without
//! it, so that every fault is found; lowering asks [`Faults`] what was set aside and fails closed there. `null` fields are
//! absent fields (S1.5); `null` list elements, and fields that a strict kind does not have, are faults (S1.7).

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::fault::{Correction, Fault};
use super::kinds;
use super::names::nearest;
use super::scalar::Scalar;
use super::tree::{NodeId, Tree, Value};
use crate::diagnostic::rules::files;

/// Wire structs of every kind whose unknown fields are faults, because the struct lists every field; and those of netpol's own files.
const STRICT: [&str; 4] = ["ObjectMeta", "OwnerReference", "TestFile", "Assertion"];

/// An object may make this many faults before the rest of it is given up.
const MOST_FAULTS: usize = 100;
/// Nodes visited for one object, aliases expanded.
const MOST_VISITS: usize = 4_000_000;
/// Nesting of collections, aliases expanded.
const DEEPEST: usize = 512;

/// The faults of one object, in the order found.
#[derive(Default, Debug)]
pub(crate) struct Faults(pub Vec<Fault>);

impl Faults {
    /// Whether something at `path`, below it, or above it could not be read.
    pub(crate) fn touch(&self, path: &dyn fmt::Display) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let path = path.to_string();
        self.0.iter().any(|f| is_at_or_below(&f.path, &path) || is_at_or_below(&path, &f.path))
    }
}

/// Whether a field path is another one or leads into it.
pub(crate) fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| above.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Decodes the object at `node` as far as it can be read.
pub(crate) fn decode<'t, T: Deserialize<'t> + Default>(tree: &'t Tree<'_>, node: NodeId) -> (T, Faults) {
    let context = Context::default();
    loop {
        context.begin();
        let decoder = Decoder { tree, node, context: &context };
        match T::deserialize(decoder) {
            Ok(value) => return (value, Faults(context.faults.take())),
            Err(Error(fault)) => {
                let gave_up = fault.node.is_none_or(|n| n == node) || context.faults.borrow().len() >= MOST_FAULTS;
                if let Some(at) = fault.node {
                    context.aside.borrow_mut().insert(at);
                }
                context.report(*fault);
                if gave_up {
                    return (T::default(), Faults(context.faults.take()));
                }
            }
        }
    }
}

#[derive(Default)]
struct Context {
    path: RefCell<Vec<Step>>,
    faults: RefCell<Vec<Fault>>,
    aside: RefCell<HashSet<NodeId>>,
    visits: RefCell<usize>,
}

enum Step {
    Field(String),
    Index(usize),
}

impl Context {
    fn begin(&self) {
        self.path.borrow_mut().clear();
        *self.visits.borrow_mut() = 0;
    }

    fn path(&self) -> String {
        let mut out = String::new();
        for step in self.path.borrow().iter() {
            match step {
                Step::Field(name) if out.is_empty() => out.push_str(name),
                Step::Field(name) => {
                    out.push('.');
                    out.push_str(name);
                }
                Step::Index(index) => out.push_str(&format!("[{index}]")),
            }
        }
        out
    }

    fn report(&self, fault: Fault) {
        let mut faults = self.faults.borrow_mut();
        if !faults.iter().any(|f| f.path == fault.path && f.rule == fault.rule && f.node == fault.node) {
            faults.push(fault);
        }
    }

    /// Runs `inner` one step deeper in the path.
    fn step<T>(&self, step: Step, node: NodeId, inner: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.path.borrow_mut().push(step);
        let result = inner().map_err(|Error(mut fault)| {
            if fault.node.is_none() {
                fault.node = Some(node);
                fault.path = self.path();
            }
            Error(fault)
        });
        self.path.borrow_mut().pop();
        result
    }
}

/// The fault that ended one pass.
#[derive(Debug)]
pub(crate) struct Error(Box<Fault>);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Box::new(Fault::new(&files::WRONG_TYPE, &"", message.to_string())))
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = match expected.to_string().as_str() {
            "a sequence" => "a list".to_owned(),
            text if text.starts_with("struct ") || text == "a map" => "a mapping".to_owned(),
            "i64" => "an integer".to_owned(),
            text => text.to_owned(),
        };
        let mut error = Self::custom(format_args!("found {}, expected {expected}", describe(found)));
        let wants_text = expected.contains("string");
        if wants_text && !matches!(found, de::Unexpected::Map | de::Unexpected::Seq) {
            error.0.help = Some("quote the value to make it a string".to_owned());
            error.0.correction = Some(Correction::Quotes);
        }
        error
    }
}

/// A value in the words of YAML.
fn describe(found: de::Unexpected<'_>) -> String {
    match found {
        de::Unexpected::Bool(value) => format!("the boolean `{value}`"),
        de::Unexpected::Signed(value) => format!("the number `{value}`"),
        de::Unexpected::Unsigned(value) => format!("the number `{value}`"),
        de::Unexpected::Float(value) => format!("the number `{value}`"),
        de::Unexpected::Str(value) => format!("the string `{value}`"),
        de::Unexpected::Seq => "a list".to_owned(),
        de::Unexpected::Map => "a mapping".to_owned(),
        de::Unexpected::Unit => "nothing".to_owned(),
        other => other.to_string(),
    }
}

#[derive(Clone, Copy)]
struct Decoder<'t, 's, 'c> {
    tree: &'t Tree<'s>,
    node: NodeId,
    context: &'c Context,
}

impl<'t, 's, 'c> Decoder<'t, 's, 'c> {
    fn at(self, node: NodeId) -> Self {
        Self { node, ..self }
    }

    fn visit(self) -> Result<(), Error> {
        let mut visits = self.context.visits.borrow_mut();
        *visits += 1;
        if *visits > MOST_VISITS || self.context.path.borrow().len() > DEEPEST {
            let fault = Fault::new(&files::EXCESSIVE_ALIASES, &"", "aliases expand to more than can be read");
            return Err(Error(Box::new(fault.help("write the values out instead of nesting aliases"))));
        }
        Ok(())
    }

    fn sequence(self) -> Option<&'t [NodeId]> {
        match self.tree.value(self.node) {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    fn is_mapping(self) -> bool {
        matches!(self.tree.value(self.node), Value::Mapping(_))
    }

    fn mapping<V: Visitor<'t>>(
        self,
        fields: Option<(&'static str, &'static [&'static str])>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.visit()?;
        if !self.is_mapping() {
            return self.scalar(visitor);
        }
        let mut entries = self.tree.entries(self.node);
        entries
            .retain(|(_, key, value)| !self.context.aside.borrow().contains(value) && !self.context.aside.borrow().contains(key));
        if let Some((name, fields)) = fields {
            let is_strict = STRICT.contains(&name) || kinds::is_strict(name);
            entries.retain(|(key, key_node, value)| {
                let is_known = fields.contains(&key.as_ref());
                if !is_known && is_strict {
                    self.unknown_field(key, *key_node, fields);
                }
                is_known && !self.tree.is_null(*value)
            });
        }
        let entries: Vec<_> = entries.into_iter().map(|(key, _, value)| (key.into_owned(), value)).collect();
        visitor.visit_map(Entries { decoder: self, entries: entries.into_iter(), value: None })
    }

    fn unknown_field(self, key: &str, node: NodeId, fields: &[&'static str]) {
        self.context.path.borrow_mut().push(Step::Field(key.to_owned()));
        let fault = Fault::new(&files::UNKNOWN_FIELD, &self.context.path(), format!("unknown field `{key}`")).at(node);
        let near = nearest(key, fields.iter().copied());
        let known = || fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
        self.context.report(match near {
            Some(_) => fault.did_you_mean(near),
            None => fault.help(format!("the fields here are {}", known())),
        });
        self.context.path.borrow_mut().pop();
    }

    fn scalar<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tree.scalar(self.node) {
            None if self.is_mapping() => Err(de::Error::invalid_type(de::Unexpected::Map, &visitor)),
            None => Err(de::Error::invalid_type(de::Unexpected::Seq, &visitor)),
            Some(Scalar::Null) => visitor.visit_unit(),
            Some(Scalar::Bool(value)) => visitor.visit_bool(value).map_err(|error: Error| self.as_written(error)),
            Some(Scalar::Int(value)) => visitor.visit_i64(value).map_err(|error: Error| self.as_written(error)),
            Some(Scalar::Float(value)) => visitor.visit_f64(value).map_err(|error: Error| self.as_written(error)),
            Some(Scalar::Text(text)) => visitor.visit_str(text),
        }
    }
}

impl Decoder<'_, '_, '_> {
    /// The error with the value as it is written: YAML has many forms of booleans and numbers, and the reader of the message knows the one in
    /// the file. A number that is too large for an integer is one all the same.
    fn as_written(self, mut error: Error) -> Error {
        let Value::Scalar { text, .. } = self.tree.value(self.node) else { return error };
        let Some((_, expected)) = error.0.message.split_once(", expected").filter(|_| error.0.rule == &files::WRONG_TYPE) else {
            return error;
        };
        let meaning = match self.tree.scalar(self.node) {
            Some(Scalar::Bool(value)) => format!("which YAML 1.1 reads as the boolean {value}"),
            Some(Scalar::Int(value)) => format!("which YAML reads as the number {value}"),
            Some(Scalar::Float(value)) if value.fract() == 0.0 && expected.contains("integer") => {
                "which is too large for an integer".to_owned()
            }
            Some(Scalar::Float(value)) => format!("which YAML reads as the number {value}"),
            _ => return error,
        };
        // A message that cites the value as it is written needs no more, unless it would contradict itself.
        if error.0.message.starts_with("found the")
            && error.0.message.contains(&format!("`{text}`"))
            && !meaning.contains("too large")
        {
            return error;
        }
        error.0.message = format!("found `{text}`, {meaning}, expected{expected}");
        error.0.help = error.0.help.map(|_| format!("quote it: `\"{text}\"`"));
        error
    }
}

impl<'t> de::Deserializer<'t> for Decoder<'t, '_, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.sequence().is_some() {
            self.deserialize_seq(visitor)
        } else if self.is_mapping() {
            self.mapping(None, visitor)
        } else {
            self.visit()?;
            self.scalar(visitor)
        }
    }

    fn deserialize_option<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.tree.is_null(self.node) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_string<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit()?;
        // As in Go, null leaves a string empty.
        if self.tree.is_null(self.node) { visitor.visit_str("") } else { self.scalar(visitor) }
    }

    fn deserialize_str<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_seq<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit()?;
        match self.sequence() {
            Some(items) => visitor.visit_seq(Items { decoder: self, items: items.iter().enumerate() }),
            None if self.is_mapping() => Err(de::Error::invalid_type(de::Unexpected::Map, &visitor)),
            None => self.scalar(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.mapping(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'t>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.mapping(Some((name, fields)), visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'t>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'t>> bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

struct Items<'t, 's, 'c> {
    decoder: Decoder<'t, 's, 'c>,
    items: std::iter::Enumerate<std::slice::Iter<'t, NodeId>>,
}

impl<'t> de::SeqAccess<'t> for Items<'t, '_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'t>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        let context = self.decoder.context;
        context.step(Step::Index(index), *node, || {
            if self.decoder.tree.is_null(*node) {
                let fault = Fault::new(&files::NULL_ELEMENT, &context.path(), "found nothing (`null`), expected a list element");
                context.report(fault.at(*node).help("write the element, or remove the dash"));
            }
            if context.aside.borrow().contains(node) {
                // Lists hold optional elements, so that the others keep their places.
                return seed.deserialize(de::value::UnitDeserializer::<Error>::new()).map(Some);
            }
            seed.deserialize(self.decoder.at(*node)).map(Some)
        })
    }
}

struct Entries<'t, 's, 'c> {
    decoder: Decoder<'t, 's, 'c>,
    entries: std::vec::IntoIter<(String, NodeId)>,
    value: Option<(String, NodeId)>,
}

impl<'t> de::MapAccess<'t> for Entries<'t, '_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'t>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.value = self.entries.next();
        match &self.value {
            Some((key, _)) => seed.deserialize(key.as_str().into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'t>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((key, node)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        self.decoder.context.step(Step::Field(key), node, || seed.deserialize(self.decoder.at(node)))
    }
}
