//! Reading only the needed fields of JSON: the rest is skipped while it is parsed.
//!
//! A Pod is 5 to 20 KiB on the wire, and a few hundred bytes of it matter. What is kept is kept as it is, so an object with
//! values of the wrong type can still be judged field by field (S1.20): reading a shape fails only where the text is no JSON.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Which part of a value is kept.
#[derive(Clone, Copy, Debug)]
pub enum FieldMask<'s> {
    /// All of it.
    Whole,
    /// Of an object, these fields; whatever else it is, all of it.
    Fields(&'s [(&'s str, FieldMask<'s>)]),
    /// Of each element of a list, this part; whatever else it is, all of it.
    Elements(&'s FieldMask<'s>),
}

impl<'de> DeserializeSeed<'de> for FieldMask<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldMask<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let element = if let Self::Elements(element) = self { *element } else { Self::Whole };
        let mut out = Vec::new();
        while let Some(value) = list.next_element_seed(element)? {
            out.push(value);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let shape = match self {
                Self::Fields(fields) => fields.iter().find(|(name, _)| *name == key).map(|(_, shape)| *shape),
                Self::Whole | Self::Elements(_) => Some(Self::Whole),
            };
            match shape {
                Some(shape) => drop(out.insert(key, map.next_value_seed(shape)?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_kept_as_it_is() {
        const PORT: FieldMask<'_> = FieldMask::Fields(&[("name", FieldMask::Whole)]);
        const SHAPE: FieldMask<'_> = FieldMask::Fields(&[("a", FieldMask::Whole), ("ports", FieldMask::Elements(&PORT))]);
        let read = |text: &str| {
            let mut deserializer = serde_json::Deserializer::from_str(text);
            SHAPE.deserialize(&mut deserializer).unwrap().to_string()
        };
        assert_eq!(read(r#"{"b":{"c":[1]},"a":{"d":[1,null,-1,1.5,true]}}"#), r#"{"a":{"d":[1,null,-1,1.5,true]}}"#);
        assert_eq!(
            read(r#"{"ports":[{"name":"web","hostIP":"x"},{"name":3},null,7]}"#),
            r#"{"ports":[{"name":"web"},{"name":3},null,7]}"#
        );
        // Of the wrong type: for others to judge.
        assert_eq!(read(r#"{"ports":{"name":"web"}}"#), r#"{"ports":{"name":"web"}}"#);
        assert_eq!(read("[1]"), "[1]");
    }
}
