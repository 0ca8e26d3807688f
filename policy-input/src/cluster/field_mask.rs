//! Which parts of an object are kept while its JSON is parsed. The rest is skipped without being stored.
//!
//! A Pod is 5 to 20 KiB on the wire, and a few hundred bytes of it matter. What is kept is unchanged, so an object with values of the
//! wrong type can still be judged field by field (S1.20): parsing fails only where the text is not JSON.

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
    /// Of the value of a field, this part, but only for [`Purpose::Answer`].
    Described(&'s FieldMask<'s>),
}

/// What objects are read for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To enforce: only fields that decide about traffic, so that an update of other fields changes nothing.
    Enforce,
    /// To answer: also fields that answers show, such as the owner of a pod.
    Answer,
}

impl<'s> FieldMask<'s> {
    /// What parses a value with this mask.
    #[must_use]
    pub fn parser(self, purpose: Purpose) -> Parser<'s> {
        Parser { mask: self, purpose }
    }
}

/// Parses JSON and keeps a part of it.
#[derive(Clone, Copy, Debug)]
pub struct Parser<'s> {
    mask: FieldMask<'s>,
    purpose: Purpose,
}

impl<'s> Parser<'s> {
    /// What parses the value of a field; `None` when the field is skipped.
    fn of_field(self, name: &str) -> Option<Self> {
        let mask = match self.mask {
            FieldMask::Fields(fields) => fields.iter().find(|(field, _)| *field == name).map(|(_, mask)| *mask)?,
            FieldMask::Whole | FieldMask::Elements(_) | FieldMask::Described(_) => FieldMask::Whole,
        };
        match mask {
            FieldMask::Described(_) if self.purpose == Purpose::Enforce => None,
            FieldMask::Described(mask) => Some(Self { mask: *mask, ..self }),
            mask => Some(Self { mask, ..self }),
        }
    }

    /// What parses each element of a list.
    fn of_element(self) -> Self {
        let mask = if let FieldMask::Elements(element) = self.mask { *element } else { FieldMask::Whole };
        Self { mask, ..self }
    }
}

impl<'de> DeserializeSeed<'de> for Parser<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Parser<'_> {
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
        let element = self.of_element();
        let mut out = Vec::new();
        while let Some(value) = list.next_element_seed(element)? {
            out.push(value);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            match self.of_field(&key) {
                Some(field) => drop(out.insert(key, map.next_value_seed(field)?)),
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
        const MASK: FieldMask<'_> = FieldMask::Fields(&[("a", FieldMask::Whole), ("ports", FieldMask::Elements(&PORT))]);
        let read = |text: &str| {
            let mut deserializer = serde_json::Deserializer::from_str(text);
            MASK.parser(Purpose::Answer).deserialize(&mut deserializer).unwrap().to_string()
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
    #[test]
    fn fields_that_only_answers_show_are_skipped_to_enforce() {
        const NAME: FieldMask<'_> = FieldMask::Fields(&[("name", FieldMask::Whole)]);
        const MASK: FieldMask<'_> = FieldMask::Fields(&[("labels", FieldMask::Whole), ("owner", FieldMask::Described(&NAME))]);
        let read = |purpose| {
            let text = r#"{"labels":{"a":"b"},"owner":{"name":"web","uid":"u"},"other":1}"#;
            MASK.parser(purpose).deserialize(&mut serde_json::Deserializer::from_str(text)).unwrap().to_string()
        };
        assert_eq!(read(Purpose::Enforce), r#"{"labels":{"a":"b"}}"#);
        assert_eq!(read(Purpose::Answer), r#"{"labels":{"a":"b"},"owner":{"name":"web"}}"#);
    }
}
