//! Serde over [`Node`]: types are read strictly, and every error carries the place of its cause.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected,
    IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::FileError;
use super::document::{Key, Node, Scalar, Value};
use crate::config::suggestion::unknown;

/// Reads a tree as a value.
pub(super) fn decode<T: DeserializeOwned>(node: &Node) -> Result<T, FileError> {
    T::deserialize(node).map_err(|error| FileError { position: Some(error.place(node)), ..error })
}

impl FileError {
    /// Where it happened, if nothing more precise is known: at this node.
    fn place(&self, node: &Node) -> super::Position {
        self.position.unwrap_or(node.position)
    }
}

impl serde::de::Error for FileError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self { position: None, message: message.to_string() }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(unknown("key", field, expected.iter().copied()))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(unknown("value", variant, expected.iter().copied()))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format_args!("`{field}` is missing"))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("this is {unexpected}; expected {expected}"))
    }
}

fn wrong(node: &Node, expected: &dyn Expected) -> FileError {
    let quote = match &node.value {
        Value::Scalar(_, Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_)) => {
            "; put quotes around what is meant as text"
        }
        _ => "",
    };
    FileError::at(node.position, format!("this is {}; expected {expected}{quote}", node.kind()))
}

/// Attaches the node's place to an error that has none yet.
fn located<T>(node: &Node, result: Result<T, FileError>) -> Result<T, FileError> {
    result.map_err(|error| FileError { position: Some(error.place(node)), ..error })
}

impl<'de> Deserializer<'de> for &Node {
    type Error = FileError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FileError> {
        let result = match &self.value {
            Value::Scalar(_, Scalar::Null) => visitor.visit_unit(),
            Value::Scalar(_, Scalar::Bool(value)) => visitor.visit_bool(*value),
            Value::Scalar(_, Scalar::Int(value)) => visitor.visit_i64(*value),
            Value::Scalar(_, Scalar::Float(value)) => visitor.visit_f64(*value),
            Value::Scalar(text, Scalar::Text) => visitor.visit_str(text),
            Value::List(items) => visitor.visit_seq(Items(items.iter())),
            Value::Map(entries) => visitor.visit_map(Entries { rest: entries.iter(), value: None }),
        };
        located(self, result)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FileError> {
        match &self.value {
            Value::Scalar(_, Scalar::Null) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FileError> {
        match &self.value {
            Value::Scalar(text, Scalar::Text) => located(self, visitor.visit_str(text)),
            _ => Err(wrong(self, &"text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FileError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FileError> {
        match &self.value {
            Value::Map(_) => self.deserialize_any(visitor),
            _ => Err(wrong(self, &"a mapping")),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FileError> {
        match &self.value {
            Value::List(_) => self.deserialize_any(visitor),
            _ => Err(wrong(self, &"a list")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, FileError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FileError> {
        match &self.value {
            Value::Scalar(text, Scalar::Text) => located(self, visitor.visit_enum(Choice(text))),
            _ => Err(wrong(self, &"a word")),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = FileError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, FileError> {
        self.0.next().map(|node| located(node, seed.deserialize(node))).transpose()
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, (Key, Node)>,
    value: Option<&'a Node>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = FileError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, FileError> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        let name: StrDeserializer<'_, FileError> = key.text.as_str().into_deserializer();
        let at = |error: FileError| FileError { position: Some(key.position), ..error };
        seed.deserialize(name).map(Some).map_err(at)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, FileError> {
        let Some(node) = self.value.take() else {
            return Err(FileError::custom("a value was asked for before its key"));
        };
        located(node, seed.deserialize(node))
    }
}

/// A word that stands for one of several.
struct Choice<'a>(&'a str);

impl<'de> EnumAccess<'de> for Choice<'_> {
    type Error = FileError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), FileError> {
        let name: StrDeserializer<'_, FileError> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = FileError;

    fn unit_variant(self) -> Result<(), FileError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, FileError> {
        Err(FileError::custom("a word has no content"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, FileError> {
        Err(FileError::custom("a word has no content"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, FileError> {
        Err(FileError::custom("a word has no content"))
    }
}
